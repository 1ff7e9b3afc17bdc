//! Tests with a scripted server: every core against deliberately bad servers.

use super::package::sample;
use super::*;
use std::collections::VecDeque;

mod package_check;
mod table;

/// Action of the scripted server.
#[derive(Clone, Debug)]
pub(in crate::modems) enum ServerAction {
    Segment(Vec<u8>),
    Close,
    Reset,
}

/// Result of an attempt.
#[derive(Debug)]
pub(in crate::modems) struct Played {
    pub outcome: Outcome,
    /// Sends of each connection.
    pub requests: Vec<Vec<String>>,
    pub ended: Duration,
}

/// Plays an attempt against a server that answers the n-th request (from 0). When the server has
/// nothing more to do, the clock advances to the module's next wake-up.
pub(in crate::modems) fn play(
    attempt: &mut dyn Attempt,
    server: impl Fn(usize, &str) -> Vec<ServerAction>,
) -> Played {
    // Not zero, so that an emulation fails if it takes `now` for the time since its start.
    let start = Duration::from_secs(1000);
    let mut now = start;
    let mut requests: Vec<Vec<String>> = Vec::new();
    let (mut connecting, mut asked, mut wake) = (false, true, None);
    let mut script = VecDeque::new();
    let mut actions = attempt.step(now, Event::Start);
    loop {
        for action in actions {
            match action {
                Action::Connect { datagrams, .. } => {
                    assert!(!datagrams);
                    connecting = true;
                    script.clear();
                    requests.push(Vec::new());
                }
                Action::Send(bytes) => {
                    asked = false;
                    let sent = String::from_utf8(bytes).unwrap();
                    requests.last_mut().unwrap().push(sent);
                }
                Action::Close => {
                    script.clear();
                    connecting = false;
                }
                Action::WakeAt(at) => wake = at,
                Action::Finish(outcome) => {
                    assert_eq!(attempt.step(now, Event::Wake), []);
                    return Played {
                        outcome,
                        requests,
                        ended: now - start,
                    };
                }
            }
        }
        now += Duration::from_millis(1);
        actions = if std::mem::take(&mut connecting) {
            attempt.step(now, Event::Connected)
        } else if !std::mem::replace(&mut asked, true) {
            let request = requests.last().unwrap().concat();
            script = server(requests.len() - 1, &request).into();
            Vec::new()
        } else {
            match script.pop_front() {
                Some(ServerAction::Segment(bytes)) => attempt.step(now, Event::Received(&bytes)),
                Some(ServerAction::Close) => attempt.step(now, Event::Closed),
                Some(ServerAction::Reset) => attempt.step(now, Event::Reset),
                None => {
                    now = now.max(wake.take().expect("the module waits for nothing"));
                    attempt.step(now, Event::Wake)
                }
            }
        };
    }
}

/// Returns a head and a body, sent in one write, as segments of the network.
pub(in crate::modems) fn segments(head: &str, body: &[u8]) -> Vec<ServerAction> {
    let mut all = head.as_bytes().to_vec();
    all.extend_from_slice(body);
    all.chunks(1460)
        .map(|piece| ServerAction::Segment(piece.to_vec()))
        .collect()
}

pub(in crate::modems) fn closing(mut script: Vec<ServerAction>) -> Vec<ServerAction> {
    script.push(ServerAction::Close);
    script
}

pub(in crate::modems) fn ok_head(length: usize) -> String {
    format!("HTTP/1.1 200 OK\r\nContent-Length: {length}\r\nConnection: close\r\n\r\n")
}

/// Returns the byte position at which the requested range begins.
fn range(request: &str) -> Option<usize> {
    let from = request.split("Range: bytes=").nth(1)?;
    from.split('-').next()?.parse().ok()
}

fn server() -> Endpoint {
    Endpoint {
        host: "ota.example".to_owned(),
        port: 8080,
        path: "/upgrade?imei=862991443753386".to_owned(),
    }
}

fn file() -> Vec<u8> {
    sample(100_000)
}

/// Returns the result of a run in the words of the table in docs/protocol.md 2c.
fn word(played: &Played) -> String {
    let result = match &played.outcome {
        Outcome::Updated(bytes) if *bytes == file() => "ok".to_owned(),
        Outcome::Updated(_) => "other bytes".to_owned(),
        Outcome::NoUpdate(text) if text.starts_with("code -9: status 404") => {
            if text.contains("given to Lua") {
                "-9, given".to_owned()
            } else {
                "-9, dropped".to_owned()
            }
        }
        Outcome::NoUpdate(text) => {
            let (code, why) = text.split_once(':').unwrap();
            let code = code.strip_prefix("code ").unwrap();
            match code.split_once(" after ") {
                Some((code, _)) => {
                    assert!(played.ended >= Duration::from_secs(600), "{why}");
                    format!("no update, {code} at the timeout")
                }
                None => format!("no update, {code}"),
            }
        }
        Outcome::Failed(Failure::FlashedGarbage(bytes, why)) => {
            if why.contains("reports 200") && file().starts_with(bytes) {
                "claims 200".to_owned()
            } else if why.contains("first segment") && bytes.len() < 1460 {
                "first segment".to_owned()
            } else {
                "garbage".to_owned()
            }
        }
        Outcome::Failed(Failure::Hung { after, waiting_for }) => {
            assert_eq!(*after, played.ended);
            match waiting_for.rsplit_once("code ") {
                Some((_, code)) => format!("hangs, {code}"),
                None => "never".to_owned(),
            }
        }
        Outcome::Failed(Failure::GaveUp(why)) => why
            .strip_prefix("code ")
            .and_then(|why| why.split(':').next())
            .unwrap()
            .to_owned(),
        other => format!("{other:?}"),
    };
    match played.requests.len() {
        1 => result,
        requests => format!("{result}, {requests} requests"),
    }
}

fn run(core: Core, package: Package, answer: impl Fn(usize, &str) -> Vec<ServerAction>) -> Played {
    play(&mut Client::new(core, server()).checking(package), answer)
}

fn unchecked(core: Core, answer: impl Fn(usize, &str) -> Vec<ServerAction>) -> String {
    word(&run(core, Package::Unchecked, answer))
}

/// Sends the file; cuts the first connection after 70 kB.
fn cut_once(n: usize, request: &str) -> Vec<ServerAction> {
    let file = file();
    match range(request) {
        Some(from) => {
            let head = format!(
                "HTTP/1.1 206 Partial Content\r\nContent-Range: bytes {from}-{}/{}\r\n\
                 Content-Length: {}\r\n\r\n",
                file.len() - 1,
                file.len(),
                file.len() - from
            );
            closing(segments(&head, &file[from..]))
        }
        None => {
            assert_eq!(n, 0);
            closing(segments(&ok_head(file.len()), &file[..70_000]))
        }
    }
}

#[test]
fn every_core_accepts_a_good_reply_and_what_http_parser_tolerates() {
    let file = file();
    let n = file.len();
    for head in [
        ok_head(n),
        format!("HTTP/1.1 200 OK\r\ncontent-length: {n}\r\nconnection: close\r\n\r\n"),
        format!("HTTP/1.1 200\r\nContent-Length: {n}\r\n\r\n"),
        format!("HTTP/1.0 200 OK\r\nContent-Length: {n}\r\n\r\n"),
        format!("HTTP/1.1 200 OK\r\nX-Empty:\r\nContent-Length: {n}\r\n\r\n"),
        format!("HTTP/1.1 206 Partial Content\r\nContent-Length: {n}\r\n\r\n"),
    ] {
        for core in Core::ALL {
            for package in [Package::Unchecked, Package::Ec7xx] {
                let played = run(core, package, |_, _| closing(segments(&head, &file)));
                assert_eq!(word(&played), "ok", "{core:?} {package:?} {head}");
            }
        }
    }
}

#[test]
fn headers_above_the_limit_are_refused() {
    let long = format!("HTTP/1.1 200 OK\r\nX-Long: {}", "x".repeat(9000));
    for core in Core::ALL {
        let got = unchecked(core, |_, _| segments(&long, b""));
        assert_eq!(got, "-6", "{core:?}");
    }
    let head = |n: usize| {
        let head = "HTTP/1.1 200 OK\r\nContent-Length: 5\r\nX: \r\n\r\n";
        let padding = "x".repeat(n - head.len());
        head.replace("X: ", &format!("X: {padding}"))
    };
    for (bsp, limit) in [("AIR101", 2047), ("Air103", 2047), ("EC718P", 8191)] {
        for (n, passes) in [(limit, true), (limit + 1, false)] {
            let mut client = Client::new(Core::D2025_12_04, server()).on_platform(bsp);
            let played = play(&mut client, |_, _| closing(segments(&head(n), b"bytes")));
            let updated = played.outcome == Outcome::Updated(b"bytes".to_vec());
            assert_eq!(updated, passes, "{bsp} {n}: {:?}", played.outcome);
        }
    }
}

#[test]
fn each_core_reports_a_refusal_without_a_length_in_its_way() {
    for core in Core::ALL {
        let got = unchecked(core, |_, _| {
            closing(segments("HTTP/1.1 404 Not Found\r\n\r\n", b"no update"))
        });
        let expected = match core {
            Core::D2023_02 | Core::D2023_12_01 | Core::D2024_06_27 => "no update, -5, 4 requests",
            Core::D2025_01_27 | Core::D2025_11_12 => "no update, -5",
            _ => "-9, dropped",
        };
        assert_eq!(got, expected, "{core:?}");
        let bare = unchecked(core, |_, _| {
            let head = "HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n";
            closing(segments(head, b""))
        });
        let expected = match core {
            Core::D2025_11_12 => "never",
            core if core < Core::D2025_11_12 => "-9, given",
            _ => "-9, dropped",
        };
        assert_eq!(bare, expected, "{core:?}");
    }
}

#[test]
fn a_reply_without_firmware_is_no_update() {
    for (head, word) in [
        (
            "HTTP/1.1 500 Internal Server Error\r\nContent-Length: 0",
            "status 500",
        ),
        ("HTTP/1.1 304 Not Modified", "status 304"),
        ("HTTP/1.1 204 No Content", "status 204"),
        ("HTTP/1.1 201 Created\r\nContent-Length: 2", "status 201"),
        ("HTTP/1.1 503 Service Unavailable", ""),
        ("HTTP/1.1 200 OK\r\nContent-Length: 0", "0 bytes"),
    ] {
        for core in Core::ALL {
            let head = format!("{head}\r\n\r\n");
            let played = run(core, Package::Unchecked, |_, _| {
                closing(segments(&head, b"{}"))
            });
            // This core never calls back if a refusal has a length.
            let measured = head.contains("Length") && !head.contains(" 200 ");
            if core == Core::D2025_11_12 && measured {
                assert_eq!(super::tests::word(&played), "never", "{head}");
                continue;
            }
            let Outcome::NoUpdate(why) = &played.outcome else {
                panic!("{core:?} {head}: {played:?}");
            };
            assert!(why.contains(word), "{core:?} {head}: {why}");
        }
    }
}

#[test]
fn a_platform_without_fota_keeps_any_2xx_and_the_bytes_before_a_cut() {
    for core in Core::ALL {
        let run = |head: &str, body: &[u8]| {
            let mut client = Client::new(core, server()).into_file();
            play(&mut client, |_, _| closing(segments(head, body))).outcome
        };
        let taken = run(
            "HTTP/1.1 201 Created\r\nContent-Length: 5\r\n\r\n",
            b"\x01\x04ZZZ",
        );
        assert_eq!(taken, Outcome::Updated(b"\x01\x04ZZZ".to_vec()), "{core:?}");
        let cut = run(&ok_head(9), b"\x01\x04ZZZ");
        let Outcome::Failed(Failure::FlashedGarbage(bytes, why)) = &cut else {
            panic!("{core:?}: {cut:?}");
        };
        assert_eq!(bytes, b"\x01\x04ZZZ");
        assert!(why.contains("reports 200 with 5 bytes"), "{why}");
        let refused = run("HTTP/1.1 404 Not Found\r\nContent-Length: 2\r\n\r\n", b"no");
        assert_eq!(
            matches!(refused, Outcome::NoUpdate(_)),
            core != Core::D2025_11_12,
            "{core:?}: {refused:?}"
        );
    }
}

#[test]
fn a_server_that_ignores_range_corrupts_the_cores_that_resume() {
    let file = file();
    for core in Core::ALL {
        let played = run(core, Package::Unchecked, |n, _| {
            let sent = if n == 0 { 70_000 } else { file.len() };
            closing(segments(&ok_head(file.len()), &file[..sent]))
        });
        if core < Core::D2025_01_27 {
            let Outcome::Failed(Failure::FlashedGarbage(bytes, _)) = &played.outcome else {
                panic!("{core:?}: {played:?}");
            };
            assert_eq!(*bytes, [&file[..70_000], &file[..]].concat());
        } else {
            assert_eq!(played.requests.len(), 1, "{core:?}");
        }
    }
}

#[test]
fn the_old_cores_resume_at_most_three_times() {
    let file = file();
    for core in [Core::D2023_02, Core::D2024_06_27] {
        let played = run(core, Package::Unchecked, |_, request| {
            let from = range(request).unwrap_or(0);
            closing(segments(
                &ok_head(file.len() - from),
                &file[from..from + 10_000],
            ))
        });
        assert_eq!(word(&played), "-5, 4 requests");
        let ranges: Vec<_> = played
            .requests
            .iter()
            .map(|sent| range(&sent.concat()))
            .collect();
        assert_eq!(ranges, [None, Some(10_000), Some(20_000), Some(30_000)]);
        // A time-out after the headers is also a cut.
        let stalled = run(core, Package::Unchecked, |n, request| {
            if n == 0 {
                segments(&ok_head(file.len()), &file[..70_000])
            } else {
                cut_once(n, request)
            }
        });
        assert_eq!(word(&stalled), "ok, 2 requests");
        assert!(stalled.ended >= core.timeout());
    }
}

#[test]
fn the_request_is_sent_line_by_line_in_the_form_of_its_date() {
    for core in Core::ALL {
        let played = run(core, Package::Unchecked, cut_once);
        let mut lines = vec!["GET /upgrade?imei=862991443753386 HTTP/1.1\r\n"];
        if core >= Core::D2025_12_14 {
            lines.push("Connection: Close\r\n");
        }
        lines.push(if core >= Core::D2023_12_01 {
            "Host: ota.example:8080\r\n"
        } else {
            "Host: ota.example\r\n"
        });
        let mut again = lines.clone();
        lines.push("\r\n");
        assert_eq!(played.requests[0], lines, "{core:?}");
        if core < Core::D2025_01_27 {
            again.extend(["Range: bytes=70000-\r\n", "\r\n"]);
            assert_eq!(played.requests[1], again, "{core:?}");
        }
    }
}

#[test]
fn a_failed_connection_is_code_minus_4_and_a_reset_is_a_cut() {
    for core in Core::ALL {
        let mut client = Client::new(core, server());
        client.step(Duration::ZERO, Event::Start);
        let actions = client.step(Duration::ZERO, Event::ConnectFailed);
        let Some(Action::Finish(Outcome::Failed(Failure::GaveUp(why)))) = actions.last() else {
            panic!("{actions:?}");
        };
        assert!(why.starts_with("code -4"));
        let reset = unchecked(core, |_, request| {
            let mut script = cut_once(0, request);
            if range(request).is_none() {
                script.pop();
                script.push(ServerAction::Reset);
            }
            script
        });
        assert_eq!(reset, unchecked(core, cut_once), "{core:?}");
    }
}

#[test]
fn the_timeout_counts_from_the_start_even_if_bytes_arrive_slowly() {
    for core in Core::ALL {
        let mut client = Client::new(core, server()).within(Duration::from_secs(30));
        let at = Duration::from_secs;
        client.step(at(100), Event::Start);
        client.step(at(101), Event::Connected);
        client.step(at(102), Event::Received(ok_head(1000).as_bytes()));
        for second in 103..130 {
            assert_eq!(client.step(at(second), Event::Received(b"x")), []);
        }
        // A wake-up before the time-out is postponed.
        assert_eq!(
            client.step(at(129), Event::Wake),
            [Action::WakeAt(Some(at(130)))]
        );
        let actions = client.step(at(130), Event::Wake);
        if core < Core::D2025_01_27 {
            assert!(matches!(actions[0], Action::Connect { .. }), "{core:?}");
            assert_eq!(actions[1], Action::WakeAt(Some(at(160))));
        } else {
            let Some(Action::Finish(Outcome::Failed(Failure::Hung { after, .. }))) = actions.last()
            else {
                panic!("{core:?} {actions:?}");
            };
            assert_eq!(*after, at(30));
        }
    }
}

proptest::proptest! {
    /// The client ends without a panic, whatever bytes arrive in whatever pieces.
    #[test]
    fn no_bytes_confuse_the_client_endlessly(
        bytes in proptest::collection::vec(proptest::prelude::any::<u8>(), 0..400),
        piece in 1_usize..50,
        which in 0..Core::ALL.len(),
        head in proptest::prelude::any::<bool>(),
    ) {
        let core = Core::ALL[which];
        let head = if head {
            "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
        } else {
            "HTTP/1.1 200"
        };
        let played = run(core, Package::Ec7xx, |_, _| {
            let mut script = vec![ServerAction::Segment(head.into())];
            script.extend(bytes.chunks(piece).map(|piece| ServerAction::Segment(piece.to_vec())));
            closing(script)
        });
        proptest::prop_assert!(!matches!(played.outcome, Outcome::Updated(_)));
    }
}
