use super::super::lua::playback::{
    Played, ServerAction, endpoint, identity, image, play, play_with, verdict,
};
use super::*;
use std::time::Duration;

mod bad_servers;

const USER_CHECK: &str = "862991443753386,DEMO_Luat_V0035_8955,1.0.0";
const OFFICIAL_CHECK: &str = "0,KEY,862991443753386,SN,DEMO_Luat_V0035_8955,1.0.0";

fn client(dialect: Dialect, datagrams: bool) -> FirstEdition {
    FirstEdition::new(&identity("1.0.0"), &endpoint(""), dialect, datagrams)
}

fn seconds(count: u64) -> Duration {
    Duration::from_secs(count)
}

/// Returns the packet that a Get names, n of `Get<n>,<id>`; `None` for a check.
fn requested_packet(text: &str) -> Option<usize> {
    let (_, get) = text.rsplit_once("Get")?;
    get.rsplit_once(',')?.0.parse().ok()
}

fn packet(file: &[u8], number: usize) -> Vec<u8> {
    let mut data = u16::try_from(number).unwrap().to_be_bytes().to_vec();
    data.extend(file.chunks(DATA).nth(number - 1).unwrap_or_default());
    data
}

fn offer(file: &[u8], id: u32) -> Vec<u8> {
    let count = file.len().div_ceil(DATA);
    let last = file.len() - (count - 1) * DATA;
    format!("LUAUPDATE,{id},{count},{last}").into_bytes()
}

/// Plays a client against a correct server whose replies `modify` changes. Its arguments are the
/// requested packet (0: the check), the number of earlier requests for it, and the correct reply.
fn played(
    dialect: Dialect,
    datagrams: bool,
    file: &[u8],
    mut modify: impl FnMut(usize, usize, Vec<u8>) -> Vec<ServerAction>,
) -> Played {
    let mut request_counts = std::collections::BTreeMap::new();
    play(&mut client(dialect, datagrams), |request| {
        let number = requested_packet(&request.text()).unwrap_or(0);
        let answer = match number {
            0 => offer(file, 5),
            number => packet(file, number),
        };
        let before = request_counts.entry(number).or_insert(0);
        *before += 1;
        modify(number, *before - 1, answer)
    })
}

#[test]
fn every_dialect_sends_the_vendors_requests_and_gets_the_whole_file() {
    let file = image(2 * DATA + 47);
    for (dialect, check, prefix) in [
        (Dialect::UserServer, USER_CHECK, ""),
        (
            Dialect::Official,
            OFFICIAL_CHECK,
            "0,KEY,862991443753386,SN,DEMO_Luat_V0035_8955,1.0.0,",
        ),
        (
            Dialect::OfficialC,
            OFFICIAL_CHECK,
            "0,KEY,862991443753386,SN,DEMO_Luat_V0035_8955,1.0.0,",
        ),
    ] {
        for datagrams in [true, false] {
            let played = played(dialect, datagrams, &file, |_, _, right| {
                vec![ServerAction::Recv(right)]
            });
            assert_eq!(played.outcome, Outcome::Updated(file.clone()));
            let texts: Vec<String> = played.requests.iter().map(|sent| sent.text()).collect();
            let gets = (1..=3).map(|number| format!("{prefix}Get{number},5"));
            let expected: Vec<String> = std::iter::once(check.to_owned()).chain(gets).collect();
            assert_eq!(texts, expected);
            assert_eq!(played.connects, 1, "one source port for the session");
        }
    }
}

#[test]
fn a_connect_says_whether_it_is_udp() {
    for datagrams in [true, false] {
        let actions = client(Dialect::UserServer, datagrams).step(Duration::ZERO, Event::Start);
        assert_eq!(
            actions.first(),
            Some(&Action::Connect {
                datagrams,
                host: "ota.test".into(),
                port: 2234
            })
        );
    }
}

#[test]
fn each_reply_to_a_check_has_its_outcome() {
    let long = format!("LUAUPDATE,5,1,47,{}", "x".repeat(239));
    // Columns: rule, reply to the check, verdict of the Lua client, verdict of the C client.
    let rows: &[(&str, &str, &str, &str)] = &[
        (
            "6: anything else is no update",
            "no upgrade",
            "no update",
            "no update",
        ),
        (
            "6: anything else is no update",
            "version error",
            "no update",
            "no update",
        ),
        (
            "6: ERR to a check is like anything else",
            "ERR",
            "no update",
            "no update",
        ),
        (
            "6: must START with LUAUPDATE",
            " LUAUPDATE,5,1,47",
            "no update",
            "no update",
        ),
        (
            "6: find is case-sensitive",
            "LuaUpdate,5,1,47",
            "no update",
            "no update",
        ),
        (
            "6: %d+ three times",
            "LUAUPDATE,5,1",
            "no update",
            "no update",
        ),
        (
            "6: (%d+) takes no space",
            "LUAUPDATE, 5,1,47",
            "no update",
            "updated",
        ),
        (
            "6: the match has no anchor; C compares the field",
            "LUAUPDATE!LUAUPDATE,5,1,47",
            "updated",
            "no update",
        ),
        (
            "6: the clock behind it",
            "LUAUPDATE,5,1,47,2026-11-22 10:20:30",
            "updated",
            "updated",
        ),
        (
            "6: a line end behind it",
            "LUAUPDATE,5,1,47\r\n",
            "updated",
            "updated",
        ),
        ("6: tonumber", "LUAUPDATE,005,01,0047", "updated", "updated"),
        ("6: C: less than 256 bytes", &long, "updated", "no update"),
    ];
    let file = image(47);
    for (clause, answer, lua, c) in rows {
        for (dialect, expected) in [
            (Dialect::UserServer, lua),
            (Dialect::Official, lua),
            (Dialect::OfficialC, c),
        ] {
            for datagrams in [true, false] {
                let played = played(dialect, datagrams, &file, |number, _, right| {
                    let answer = match number {
                        0 => answer.as_bytes().to_vec(),
                        _ => right,
                    };
                    vec![ServerAction::Recv(answer)]
                });
                assert_eq!(
                    verdict(&played.outcome),
                    *expected,
                    "{clause}: {answer} {dialect:?}"
                );
                if *expected == "no update" {
                    assert_eq!(played.requests.len(), 1, "{clause}: it ends at once");
                    assert_eq!(played.at, Duration::ZERO, "{clause}");
                }
            }
        }
    }
}

#[test]
fn a_hung_client_reports_how_long_it_waited_and_for_what() {
    let file = image(2 * DATA);
    let played = played(
        Dialect::UserServer,
        true,
        &file,
        |number, _, right| match number {
            2 => vec![],
            _ => vec![ServerAction::Wait(seconds(1)), ServerAction::Recv(right)],
        },
    );
    assert_eq!(
        played.outcome,
        Outcome::Failed(Failure::Hung {
            after: seconds(52),
            waiting_for: "packet 2 of 2".into()
        })
    );
}

#[test]
fn over_tcp_the_client_judges_each_recv_separately() {
    // docs/protocol.md 6: identical byte strings without framing.
    let file = image(2 * DATA);
    let split = played(
        Dialect::UserServer,
        false,
        &file,
        |number, before, right| match (number, before) {
            (1, 0) => vec![
                ServerAction::Recv(right[..500].to_vec()),
                ServerAction::Recv(right[500..].to_vec()),
            ],
            _ => vec![ServerAction::Recv(right)],
        },
    );
    assert_eq!(split.outcome, Outcome::Updated(file.clone()));
    assert_eq!(
        split.at,
        seconds(10),
        "neither half is a packet: it asks again"
    );

    let glued = played(Dialect::UserServer, false, &file, |number, _, mut right| {
        if number == 1 {
            right.extend(packet(&image(2 * DATA), 2));
        }
        vec![ServerAction::Recv(right)]
    });
    assert_eq!(verdict(&glued.outcome), "gave up");

    let half_a_check = played(Dialect::UserServer, false, &file, |_, _, _| {
        vec![
            ServerAction::Recv(b"LUAUP".to_vec()),
            ServerAction::Recv(b"DATE,5,2,1022".to_vec()),
        ]
    });
    assert_eq!(verdict(&half_a_check.outcome), "no update");
}

#[test]
fn a_close_ends_the_update_over_tcp_and_is_ignored_over_udp() {
    // docs/protocol.md 6: if the server closes early, the update fails.
    let file = image(2 * DATA);
    for then in [ServerAction::Close, ServerAction::Reset] {
        for datagrams in [true, false] {
            let played = played(
                Dialect::UserServer,
                datagrams,
                &file,
                |number, before, right| match (number, before) {
                    (2, 0) => vec![then.clone()],
                    _ => vec![ServerAction::Recv(right)],
                },
            );
            if datagrams {
                assert_eq!(played.outcome, Outcome::Updated(file.clone()));
                assert_eq!(played.at, seconds(10));
            } else {
                assert_eq!(verdict(&played.outcome), "gave up");
                assert_eq!(played.at, Duration::ZERO);
            }
        }
    }
}

#[test]
fn a_connection_that_cannot_be_made_is_tried_five_times() {
    let mut refused = client(Dialect::UserServer, false);
    let played = play_with(&mut refused, |_| false, |_| vec![]);
    assert_eq!(verdict(&played.outcome), "gave up");
    assert_eq!((played.connects, played.at), (5, seconds(40)));
    let mut late = client(Dialect::UserServer, false);
    let played = play_with(
        &mut late,
        |before| before == 4,
        |_| vec![ServerAction::Recv(b"no upgrade".to_vec())],
    );
    assert_eq!(verdict(&played.outcome), "no update");
}

#[test]
fn only_the_official_lua_dialect_requires_a_form_of_the_version() {
    // Section 1, VERSION: "first edition asserts X.X.X single digits (len 5) only when the official
    // server is used".
    let sent = |version: &str, dialect| {
        let mut client = FirstEdition::new(&identity(version), &endpoint(""), dialect, true);
        let played = play(&mut client, |_| vec![ServerAction::Recv(b"no".to_vec())]);
        match played.requests.first() {
            Some(request) => request.text().rsplit_once(',').unwrap().1.to_owned(),
            None => verdict(&played.outcome).to_owned(),
        }
    };
    assert_eq!(sent("001.000.003", Dialect::Official), "1.0.3");
    assert_eq!(sent("1.0.10", Dialect::Official), "script error");
    assert_eq!(sent("1.0", Dialect::Official), "script error");
    assert_eq!(sent("a.b.c", Dialect::Official), "script error");
    assert_eq!(sent("001.000.003", Dialect::UserServer), "001.000.003");
    assert_eq!(sent("spring", Dialect::UserServer), "spring");
    assert_eq!(sent("1.0.10", Dialect::OfficialC), "1.0.10");
}

#[test]
fn a_number_above_the_integer_range_is_clamped() {
    let played = play(
        &mut client(Dialect::UserServer, true),
        |request| match request.text().starts_with("Get") {
            false => vec![ServerAction::Recv(b"LUAUPDATE,4294967296,1,5".to_vec())],
            true => vec![ServerAction::Recv(b"ERR".to_vec())],
        },
    );
    assert_eq!(played.requests[1].text(), "Get1,2147483647");
}

proptest::proptest! {
    #[test]
    fn no_reply_makes_the_client_panic(
        check in "(LUAUPDATE)?[,0-9A-Z]{0,20}",
        datagrams: Vec<Vec<u8>>,
        tcp: bool,
    ) {
        let mut datagrams = datagrams.into_iter().filter(|data| !data.is_empty());
        play(&mut client(Dialect::UserServer, !tcp), |request| {
            if requested_packet(&request.text()).is_none() && !check.is_empty() {
                return vec![ServerAction::Recv(check.clone().into_bytes())];
            }
            datagrams.next().map(ServerAction::Recv).into_iter().collect()
        });
    }
}
