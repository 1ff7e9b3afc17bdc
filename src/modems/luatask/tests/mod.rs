use super::super::lua::playback::{
    Played, Request, ServerAction, endpoint, identity, image, play, play_with, verdict,
};
use super::*;
use std::time::Duration;

mod bad_servers;

const ALL: [Generation; 3] = [Generation::Gen2g, Generation::Asr1802, Generation::Rda8910];
const ON_4G: [Generation; 2] = [Generation::Asr1802, Generation::Rda8910];

fn client(generation: Generation) -> LuaTask {
    LuaTask::new(
        &identity("2.0.0"),
        &endpoint("/upgrade"),
        generation,
        Options::default(),
    )
}

fn seconds(count: u64) -> Duration {
    Duration::from_secs(count)
}

fn recv(bytes: impl Into<Vec<u8>>) -> ServerAction {
    ServerAction::Recv(bytes.into())
}

/// Plays a client against a server that causes the same events on every connection.
fn played(generation: Generation, happens: &[ServerAction]) -> Played {
    play(&mut client(generation), |_| happens.to_vec())
}

/// Returns the correct reply to `request` for `file`, in recvs of `step` bytes.
fn correct_reply(file: &[u8], request: &Request, step: usize) -> Vec<ServerAction> {
    let (head, body) = match request.range() {
        Some(from) => (
            format!(
                "HTTP/1.1 206 Partial Content\r\nContent-Range: bytes {from}-{}/{}\r\n\
                 Content-Length: {}\r\nConnection: close\r\n\r\n",
                file.len() - 1,
                file.len(),
                file.len() - from
            ),
            &file[from..],
        ),
        None => (
            format!(
                "HTTP/1.1 200 OK\r\nContent-Length: {}\r\nConnection: close\r\n\r\n",
                file.len()
            ),
            file,
        ),
    };
    std::iter::once(recv(head))
        .chain(body.chunks(step).map(recv))
        .chain([ServerAction::Close])
        .collect()
}

#[test]
fn the_requests_have_the_form_of_the_vendor() {
    let asked = |generation, options| {
        let mut client = LuaTask::new(&identity("2.0.0"), &endpoint("/up"), generation, options);
        let played = play(&mut client, |_| {
            vec![recv("HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n")]
        });
        assert_eq!(played.outcome, Outcome::NoUpdate("status 404".into()));
        played.requests[0].text()
    };
    let redir = Options {
        need_oss_url: true,
        header_seed: 0,
    };
    assert_eq!(
        asked(Generation::Gen2g, Options::default()),
        "GET /up?project_key=KEY&imei=862991443753386&device_key=SN\
         &firmware_name=DEMO_Luat_V0035_8955&version=2.0.0 HTTP/1.1\r\n\
         Host: ota.test\r\nConnection: short\r\n\r\n"
    );
    assert_eq!(
        asked(Generation::Asr1802, redir),
        "GET /up?project_key=KEY&imei=862991443753386&device_key=SN\
         &firmware_name=DEMO_Luat_V0035_ASR1802&version=2.0.0&need_oss_url=1 HTTP/1.1\r\n\
         Range: bytes=0-\r\nHost: ota.test\r\nConnection: short\r\n\r\n"
    );
    assert_eq!(
        asked(Generation::Rda8910, redir),
        "GET /up?project_key=KEY&imei=862991443753386&firmware_name=DEMO_Luat_RDA8910\
         &core_version=35&dfota=1&version=2.0.0&need_oss_url=1 HTTP/1.1\r\n\
         Range: bytes=0-\r\nHost: ota.test\r\nConnection: short\r\n\r\n"
    );
    let shuffled = asked(
        Generation::Rda8910,
        Options {
            need_oss_url: false,
            header_seed: 3,
        },
    );
    for header in ["Range: bytes=0-", "Host: ota.test", "Connection: short"] {
        assert!(
            shuffled.contains(&format!("\r\n{header}\r\n")),
            "{shuffled}"
        );
    }
}

#[test]
fn a_cut_is_resumed_at_its_byte_on_4g_and_restarted_on_2g() {
    let file = image(100_000);
    for generation in ALL {
        for cut in [ServerAction::Close, ServerAction::Reset] {
            let played = play(&mut client(generation), |request| {
                let mut happens = correct_reply(&file, request, 1400);
                if request.connection == 0 {
                    // The head and 50 recvs of the body, then the cut within a recv.
                    happens.truncate(51);
                    happens.push(recv(&file[70_000..70_123]));
                    happens.push(cut.clone());
                }
                happens
            });
            assert_eq!(
                played.outcome,
                Outcome::Updated(file.clone()),
                "{generation:?}"
            );
            assert_eq!(played.at, Duration::ZERO, "{generation:?}: immediately");
            let ranges: Vec<_> = played.requests.iter().map(Request::range).collect();
            let wanted = match generation {
                Generation::Gen2g => [None, None],
                _ => [Some(0), Some(70_123)],
            };
            assert_eq!(ranges, wanted, "{generation:?}");
        }
    }
}

#[test]
fn a_silence_of_60_s_counts_as_a_cut_and_one_of_59_does_not() {
    let file = image(5000);
    for generation in ALL {
        let played = play(&mut client(generation), |request| {
            let mut happens = correct_reply(&file, request, 1000);
            happens.insert(3, ServerAction::Wait(seconds(59)));
            if request.connection == 0 {
                happens.insert(5, ServerAction::Wait(seconds(61)));
            }
            happens
        });
        assert_eq!(
            played.outcome,
            Outcome::Updated(file.clone()),
            "{generation:?}"
        );
        assert_eq!(played.requests.len(), 2, "{generation:?}");
        assert!(
            matches!(played.requests[1].range(), None | Some(3000)),
            "{:?}",
            played.requests[1].range()
        );
    }
}

#[test]
fn a_4g_module_makes_at_most_31_tries() {
    let file = image(40);
    let one_byte_each = |generation, tries: usize| {
        play(&mut client(generation), |request| {
            let happens = correct_reply(&file, request, 1);
            if request.connection + 1 == tries {
                return happens;
            }
            happens
                .into_iter()
                .take(2)
                .chain([ServerAction::Close])
                .collect()
        })
    };
    for generation in ON_4G {
        let played = one_byte_each(generation, 31);
        assert_eq!(played.outcome, Outcome::Updated(file.clone()));
        assert_eq!(played.requests[30].range(), Some(30));
        let played = one_byte_each(generation, 32);
        assert_eq!(verdict(&played.outcome), "gave up");
        assert_eq!(played.requests.len(), 31);
    }
    let played = one_byte_each(Generation::Gen2g, 3);
    assert_eq!(played.outcome, Outcome::Updated(file.clone()));
    let played = one_byte_each(Generation::Gen2g, 4);
    assert_eq!(verdict(&played.outcome), "gave up");
}

#[test]
fn a_redirect_is_followed_after_2_s_and_remembered() {
    let file = image(9000);
    for generation in ALL {
        let played = play(&mut client(generation), |request| {
            match request.connection {
                0 => vec![
                    recv(
                        "HTTP/1.1 302 Found\r\nLocation: http://files.test:81/f?x=1&x=2\r\n\
                     Content-Length: 0\r\nConnection: close\r\n\r\n",
                    ),
                    ServerAction::Close,
                ],
                1 => correct_reply(&file, request, 1000)
                    .into_iter()
                    .take(4)
                    .chain([ServerAction::Close])
                    .collect(),
                _ => correct_reply(&file, request, 1000),
            }
        });
        assert_eq!(played.outcome, Outcome::Updated(file.clone()));
        assert_eq!(played.at, seconds(2));
        for request in &played.requests[1..] {
            assert_eq!((request.host.as_str(), request.port), ("files.test", 81));
            let text = request.text();
            assert!(text.starts_with("GET /f?x=1&x=2 HTTP/1.1\r\n"), "{text}");
            assert!(text.contains("\r\nHost: files.test\r\n"), "{text}");
        }
        assert_eq!(played.requests.len(), 3);
    }
}

#[test]
fn a_relative_location_reports_the_useless_tries() {
    for (generation, tries) in ALL.into_iter().zip([3, 31, 31]) {
        let played = played(
            generation,
            &[recv(
                "HTTP/1.1 302 Found\r\nLocation: /f\r\nContent-Length: 0\r\n\r\n",
            )],
        );
        let Outcome::Failed(Failure::GaveUp(why)) = &played.outcome else {
            panic!("{played:?}");
        };
        assert!(why.contains(&format!("{tries} failed attempts")), "{why}");
        assert_eq!(played.at, seconds(2));
    }
}

#[test]
fn code_43_is_retried_every_30_s_until_another_reply_comes() {
    let file = image(700);
    let played = play(&mut client(Generation::Rda8910), |request| {
        match request.connection {
            0..=2 => vec![recv(
                "HTTP/1.1 403 Forbidden\r\nContent-Length: 11\r\n\r\n{\"code\":43}",
            )],
            _ => correct_reply(&file, request, 300),
        }
    });
    assert_eq!(played.outcome, Outcome::Updated(file));
    assert_eq!(played.at, seconds(90));
}

#[test]
fn a_connection_that_cannot_be_made_is_a_transport_error() {
    for (generation, tries) in ALL.into_iter().zip([3, 31, 31]) {
        let played = play_with(&mut client(generation), |_| false, |_| vec![]);
        assert_eq!(verdict(&played.outcome), "gave up");
        assert_eq!(played.connects, tries);
    }
    // docs/protocol.md 2b: connect 120 s, without an event that reports the failure.
    let mut client = client(Generation::Gen2g);
    client.step(seconds(5), Event::Start);
    assert!(client.step(seconds(124), Event::Wake).is_empty());
    let actions = client.step(seconds(125), Event::Wake);
    assert!(matches!(
        actions[..],
        [Action::Close, Action::Connect { .. }, _]
    ));
}

#[test]
fn chunks_on_4g_become_the_raw_recv() {
    let played = played(
        Generation::Asr1802,
        &[
            recv("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"),
            recv("3\r\nabc\r\n"),
            recv("0\r\n\r\n"),
        ],
    );
    let Outcome::Failed(Failure::FlashedGarbage(bytes, _)) = played.outcome else {
        panic!("{played:?}");
    };
    assert_eq!(bytes, b"3\r\nabc\r\n");
}

proptest::proptest! {
    #[test]
    fn a_4g_module_gets_its_file_wherever_the_link_breaks(
        cuts in proptest::collection::vec(0_usize..3000, 0..30),
        step in 1_usize..700,
        size in 1_usize..20_000,
    ) {
        let file = image(size);
        let played = play(&mut client(Generation::Asr1802), |request| {
            let mut happens = correct_reply(&file, request, step);
            if let Some(cut) = cuts.get(request.connection) {
                happens.truncate(1 + cut / step);
                happens.push(ServerAction::Reset);
            }
            happens
        });
        proptest::prop_assert_eq!(played.outcome, Outcome::Updated(file));
    }

    #[test]
    fn no_reply_makes_the_client_panic(
        head in "(HTTP/1.[01] )?[ 0-9]{0,4}[a :\r\n]{0,6}(Content-Length: ?[0-9]{0,20}\r\n)?\
                 (Transfer-Encoding: chunked\r\n)?(Content-Range: bytes [0-9]{0,3}-/[0-9]{0,3}\r\n)?\
                 (Location: [a-z/:@]{0,9}\r\n)?(\r\n)?",
        body in "[0-9a-f\r\n]{0,30}",
        which in 0_usize..3,
    ) {
        played(ALL[which], &[recv(head + "x"), recv(body + "x"), ServerAction::Close]);
    }
}
