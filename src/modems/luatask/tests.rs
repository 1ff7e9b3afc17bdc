use super::super::lua::playback::{
    Played, Request, Then, endpoint, identity, image, play, play_with, verdict,
};
use super::*;
use std::time::Duration;

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

fn recv(bytes: impl Into<Vec<u8>>) -> Then {
    Then::Recv(bytes.into())
}

/// The same happenings on every connection.
fn played(generation: Generation, happens: &[Then]) -> Played {
    play(&mut client(generation), |_| happens.to_vec())
}

/// A right answer to `request` for `file`, in recvs of `step` bytes.
fn right(file: &[u8], request: &Request, step: usize) -> Vec<Then> {
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
        .chain([Then::Close])
        .collect()
}

#[test]
fn the_requests_are_those_of_the_vendor() {
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
fn what_bad_servers_do_to_it() {
    // Bytes that are no text, and a whole number of them for the chunks.
    let file = image(300);
    let with = |head: &str, body: &[u8]| {
        let mut bytes = format!("{head}\r\n\r\n").into_bytes();
        bytes.extend_from_slice(body);
        bytes
    };
    let open = |head: &str| vec![recv(with(head, &file[..100])), recv(&file[100..])];
    let closed = |head: &str| {
        let mut happens = open(head);
        happens.push(Then::Close);
        happens
    };
    let small = |head: &str, body: &str| vec![recv(with(head, body.as_bytes())), Then::Close];
    let mut chunked = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: Chunked\r\n\r\n64\r\n".to_vec();
    chunked.extend_from_slice(&file[..100]);
    chunked.extend_from_slice(b"\r\nc8\r\n");
    let mut rest = file[100..].to_vec();
    rest.extend_from_slice(b"\r\n0\r\n\r\n");
    // Why; what happens on each connection; verdict and connections of 2G, 1802, 8910.
    type Row = (&'static str, Vec<Then>, [(&'static str, usize); 3]);
    let same = |verdict, connects| [(verdict, connects); 3];
    let on_4g = |on_2g, verdict, connects| [on_2g, (verdict, connects), (verdict, connects)];
    let rows: Vec<Row> = vec![
        (
            "0.1, 0.2: as it should be",
            closed("HTTP/1.1 200 OK\r\nContent-Length: 300"),
            same("updated", 1),
        ),
        (
            "2b: HTTP/1.0 ok",
            closed("HTTP/1.0 200 OK\r\nContent-Length: 300"),
            same("updated", 1),
        ),
        (
            "2b: no reason phrase swallows the first header, here another one",
            closed("HTTP/1.1 200\r\nServer: x\r\nContent-Length: 300"),
            same("updated", 1),
        ),
        (
            "2b: no reason phrase swallows Content-Length: 2G reads to the close, 4G total=2147483647",
            closed("HTTP/1.1 200\r\nContent-Length: 300"),
            on_4g(("updated", 1), "gave up", 1),
        ),
        (
            "2b: \"200 \\r\\n\" ok",
            closed("HTTP/1.1 200 \r\nContent-Length: 300"),
            same("updated", 1),
        ),
        (
            "2b: lower-case name = no Content-Length",
            closed("HTTP/1.1 200 OK\r\ncontent-length: 300"),
            on_4g(("updated", 1), "gave up", 1),
        ),
        (
            "2b: no space after the colon matches `:%s*`",
            closed("HTTP/1.1 200 OK\r\nContent-Length:300"),
            same("updated", 1),
        ),
        (
            "2b: an empty value swallows the next header line",
            closed("HTTP/1.1 200 OK\r\nX-Empty: \r\nContent-Length: 300"),
            on_4g(("updated", 1), "gave up", 1),
        ),
        (
            "2b: an empty value swallows a header that nobody needs",
            closed("HTTP/1.1 200 OK\r\nX-Empty:\r\nServer: x\r\nContent-Length: 300"),
            same("updated", 1),
        ),
        (
            "2b: no Content-Length, closed",
            closed("HTTP/1.1 200 OK\r\nServer: x"),
            on_4g(("updated", 1), "gave up", 1),
        ),
        (
            "2b: no Content-Length, kept open: the timeout is the end",
            open("HTTP/1.1 200 OK\r\nServer: x"),
            on_4g(("updated", 1), "gave up", 1),
        ),
        (
            "2b: chunked: 2G decodes, 4G flashes the raw recv",
            vec![recv(chunked), recv(rest), Then::Close],
            on_4g(("updated", 1), "garbage", 1),
        ),
        (
            "2b: the head may come in two recvs",
            vec![
                recv("HTTP/1.1 200 OK\r\nServer: x\r"),
                recv(with("\nContent-Length: 300", &file)),
            ],
            same("updated", 1),
        ),
        (
            "2b: head and body in one recv",
            vec![recv(with("HTTP/1.1 200 OK\r\nContent-Length: 300", &file))],
            same("updated", 1),
        ),
        (
            "0.4: keep-alive that never closes is nothing to it",
            open("HTTP/1.1 200 OK\r\nContent-Length: 300"),
            same("updated", 1),
        ),
        (
            "0.3: 9 kB of headers (the limits are LuatOS's)",
            closed(&format!(
                "HTTP/1.1 200 OK\r\nX-Long: {}\r\nContent-Length: 300",
                "x".repeat(9000)
            )),
            same("updated", 1),
        ),
        (
            "2b: extra bytes cut",
            vec![
                recv(with("HTTP/1.1 200 OK\r\nContent-Length: 300", &file)),
                recv("and more"),
            ],
            same("updated", 1),
        ),
        (
            "2b: 206 is no success on 2G",
            closed(
                "HTTP/1.1 206 Partial Content\r\nContent-Range: bytes 0-299/300\r\n\
                 Content-Length: 300",
            ),
            on_4g(("no update", 1), "updated", 1),
        ),
        (
            "2b: total from Content-Range when Content-Length is lower-case",
            closed(
                "HTTP/1.1 206 Partial Content\r\nContent-Range: bytes 0-299/300\r\n\
                 content-length: 300",
            ),
            on_4g(("no update", 1), "updated", 1),
        ),
        (
            "2b: 416 -> fota_end, cb(false)",
            small(
                "HTTP/1.1 416 Range Not Satisfiable\r\nContent-Length: 0",
                "",
            ),
            same("no update", 1),
        ),
        (
            "2b: 2G: 200 with an empty body -> endless reboot loop (4G: 3, 0.5)",
            small("HTTP/1.1 200 OK\r\nContent-Length: 0", ""),
            same("reboot loop", 1),
        ),
        (
            "3: 200 + JSON is flashed",
            small("HTTP/1.1 200 OK\r\nContent-Length: 12", r#"{"code": 27}"#),
            same("garbage", 1),
        ),
        (
            "3: 200 + HTML is flashed",
            small("HTTP/1.1 200 OK\r\nContent-Length: 13", "<html></html>"),
            same("garbage", 1),
        ),
        (
            "2b: 4: code 27: cb(false), no retry",
            small(
                "HTTP/1.1 404 Not Found\r\nContent-Length: 29",
                r#"{"code": 27, "msg": "\u5df2"}"#,
            ),
            same("no update", 1),
        ),
        (
            "2b: plain text in msg does not hurt LuaTask",
            small(
                "HTTP/1.1 404 Not Found\r\nContent-Length: 19",
                r#"{"msg": "no update"}"#,
            ),
            same("no update", 1),
        ),
        (
            "2b: code 43 in one recv: 8910/724U ask again for ever",
            small(
                "HTTP/1.1 404 Not Found\r\nContent-Length: 24",
                r#"{"code": 43, "msg": ""} "#,
            ),
            [("no update", 1), ("no update", 1), ("asks for ever", 10)],
        ),
        (
            "2b: code 43 in two recvs is not seen",
            vec![
                recv("HTTP/1.1 404 Not Found\r\nContent-Length: 12\r\n\r\n{\"co"),
                recv("de\": 43}"),
            ],
            same("no update", 1),
        ),
        (
            "2b: 404 without a length ends with the close",
            small("HTTP/1.1 404 Not Found\r\nServer: x", "<html>"),
            same("no update", 1),
        ),
        (
            "2b: 3xx without Location = plain failure",
            small("HTTP/1.1 302 Found\r\nContent-Length: 0", ""),
            same("gave up", 1),
        ),
        (
            "2b: Location is case-sensitive",
            small(
                "HTTP/1.1 302 Found\r\nlocation: http://h/p\r\nContent-Length: 0",
                "",
            ),
            same("gave up", 1),
        ),
        (
            "2b: relative Location = empty host, useless tries",
            small(
                "HTTP/1.1 302 Found\r\nLocation: /file.bin\r\nContent-Length: 0",
                "",
            ),
            same("gave up", 1),
        ),
        (
            "2b: no hop limit",
            small(
                "HTTP/1.1 302 Found\r\nLocation: http://h/p\r\nContent-Length: 0",
                "",
            ),
            same("asks for ever", 10),
        ),
        (
            "2b: transport error: 3 tries on 2G, 30 retries on 4G",
            vec![Then::Close],
            on_4g(("gave up", 3), "gave up", 31),
        ),
        (
            "2b: no status in the answer ([I]: a transport error)",
            small("hello", ""),
            on_4g(("gave up", 3), "gave up", 31),
        ),
        (
            "2b: timeout 60 s per recv",
            vec![],
            on_4g(("hung", 3), "hung", 31),
        ),
    ];
    for (clause, happens, expected) in rows {
        for (generation, (wanted, connects)) in ALL.into_iter().zip(expected) {
            let played = played(generation, &happens);
            assert_eq!(
                verdict(&played.outcome),
                wanted,
                "{clause} {generation:?}: {:?}",
                played.outcome
            );
            assert_eq!(played.connects, connects, "{clause} {generation:?}");
            if let Outcome::Updated(bytes) = played.outcome {
                assert_eq!(bytes, file, "{clause} {generation:?}");
            }
        }
    }
}

#[test]
fn a_cut_is_resumed_at_the_very_byte_on_4g_and_begun_again_on_2g() {
    let file = image(100_000);
    for generation in ALL {
        for cut in [Then::Close, Then::Reset] {
            let played = play(&mut client(generation), |request| {
                let mut happens = right(&file, request, 1400);
                if request.connection == 0 {
                    // The head and 50 recvs of the body, then the cut in the middle of a recv.
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
            let mut happens = right(&file, request, 1000);
            happens.insert(3, Then::Wait(seconds(59)));
            if request.connection == 0 {
                happens.insert(5, Then::Wait(seconds(61)));
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
fn a_4g_module_takes_31_tries_in_all_and_no_more() {
    let file = image(40);
    let one_byte_each = |generation, tries: usize| {
        play(&mut client(generation), |request| {
            let happens = right(&file, request, 1);
            if request.connection + 1 == tries {
                return happens;
            }
            happens.into_iter().take(2).chain([Then::Close]).collect()
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
fn what_a_server_does_wrong_at_a_resume() {
    let file = image(10_000);
    let part = |bytes: &[u8]| {
        let mut happens = vec![recv(
            "HTTP/1.1 206 Partial Content\r\nContent-Range: bytes 0-9999/10000\r\n\
             Content-Length: 10000\r\n\r\n",
        )];
        happens.push(recv(bytes));
        happens.push(Then::Close);
        happens
    };
    let resumed = |generation, head: &str, body: &[u8]| {
        play(&mut client(generation), |request| {
            match request.connection {
                0 => part(&file[..6000]),
                _ => vec![recv(format!("{head}\r\n\r\n")), recv(body), Then::Close],
            }
        })
    };
    for generation in ON_4G {
        // 0.6: ignoring Range silently corrupts.
        let played = resumed(
            generation,
            "HTTP/1.1 200 OK\r\nContent-Length: 10000",
            &file,
        );
        let Outcome::Failed(Failure::FlashedGarbage(bytes, why)) = played.outcome else {
            panic!("{played:?}");
        };
        let wrong = [&file[..6000], &file[..4000]].concat();
        assert!(bytes == wrong, "the beginning once more, cut at the total");
        assert!(why.contains("bytes=6000-"), "{why}");

        // 206, but another place.
        let played = resumed(
            generation,
            "HTTP/1.1 206 Partial Content\r\nContent-Range: bytes 5999-9999/10000\r\n\
             Content-Length: 4001",
            &file[5999..],
        );
        assert_eq!(verdict(&played.outcome), "garbage");

        // 2b: total is Content-Length where there is no Content-Range: 4000 are already there.
        let played = resumed(
            generation,
            "HTTP/1.1 206 Partial Content\r\nContent-Length: 4000",
            &file[6000..],
        );
        let Outcome::Failed(Failure::FlashedGarbage(bytes, _)) = played.outcome else {
            panic!("{played:?}");
        };
        assert!(bytes == file[..6000]);

        // A name in lower case does the same to Content-Range.
        let played = resumed(
            generation,
            "HTTP/1.1 206 Partial Content\r\ncontent-range: bytes 6000-9999/10000\r\n\
             Content-Length: 4000",
            &file[6000..],
        );
        assert_eq!(verdict(&played.outcome), "garbage");

        // 2b: 416 or other status -> fota_end, cb(false).
        for status in ["416 Range Not Satisfiable", "404 Not Found"] {
            let played = resumed(
                generation,
                &format!("HTTP/1.1 {status}\r\nContent-Length: 0"),
                b"",
            );
            assert_eq!(verdict(&played.outcome), "gave up", "{status}");
            assert_eq!(played.connects, 2, "no retry");
        }

        // Less than it promised.
        let played = resumed(
            generation,
            "HTTP/1.1 206 Partial Content\r\nContent-Range: bytes 6000-6999/10000\r\n\
             Content-Length: 1000",
            &file[6000..7000],
        );
        assert_eq!(verdict(&played.outcome), "gave up");
    }
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
                    Then::Close,
                ],
                1 => right(&file, request, 1000)
                    .into_iter()
                    .take(4)
                    .chain([Then::Close])
                    .collect(),
                _ => right(&file, request, 1000),
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
fn a_relative_location_says_what_it_costs() {
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
        assert!(why.contains(&format!("{tries} useless tries")), "{why}");
        assert_eq!(played.at, seconds(2));
    }
}

#[test]
fn code_43_is_asked_again_every_30_s_until_something_else_comes() {
    let file = image(700);
    let played = play(&mut client(Generation::Rda8910), |request| {
        match request.connection {
            0..=2 => vec![recv(
                "HTTP/1.1 403 Forbidden\r\nContent-Length: 11\r\n\r\n{\"code\":43}",
            )],
            _ => right(&file, request, 300),
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
    // 2b: connect 120 s; nobody says that it failed.
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
    fn wherever_the_link_breaks_a_4g_module_gets_its_file(
        cuts in proptest::collection::vec(0_usize..3000, 0..30),
        step in 1_usize..700,
        size in 1_usize..20_000,
    ) {
        let file = image(size);
        let played = play(&mut client(Generation::Asr1802), |request| {
            let mut happens = right(&file, request, step);
            if let Some(cut) = cuts.get(request.connection) {
                happens.truncate(1 + cut / step);
                happens.push(Then::Reset);
            }
            happens
        });
        proptest::prop_assert_eq!(played.outcome, Outcome::Updated(file));
    }

    #[test]
    fn nothing_that_a_server_sends_makes_it_panic(
        head in "(HTTP/1.[01] )?[ 0-9]{0,4}[a :\r\n]{0,6}(Content-Length: ?[0-9]{0,20}\r\n)?\
                 (Transfer-Encoding: chunked\r\n)?(Content-Range: bytes [0-9]{0,3}-/[0-9]{0,3}\r\n)?\
                 (Location: [a-z/:@]{0,9}\r\n)?(\r\n)?",
        body in "[0-9a-f\r\n]{0,30}",
        which in 0_usize..3,
    ) {
        played(ALL[which], &[recv(head + "x"), recv(body + "x"), Then::Close]);
    }
}
