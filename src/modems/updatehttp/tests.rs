use super::super::lua::playback::{
    Played, ServerAction, endpoint, identity, image, play, play_with, verdict,
};
use super::*;
use std::time::Duration;

fn client() -> UpdateHttp {
    UpdateHttp::new(&identity("1.0.0"), &endpoint("/api/site/firmware_upgrade"))
}

fn seconds(count: u64) -> Duration {
    Duration::from_secs(count)
}

fn recv(bytes: impl Into<Vec<u8>>) -> ServerAction {
    ServerAction::Recv(bytes.into())
}

/// Plays a client against a server that causes the same events on every connection.
fn played(happens: &[ServerAction]) -> Played {
    play(&mut client(), |_| happens.to_vec())
}

#[test]
fn the_request_has_the_form_of_the_vendor() {
    let played = played(&[recv("HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n")]);
    assert_eq!(
        played.requests[0].text(),
        "GET /api/site/firmware_upgrade?project_key=KEY&imei=862991443753386&device_key=SN\
         &firmware_name=DEMO_Luat_V0035_8955&version=1.0.0 HTTP/1.1\r\n\
         Connection: keep-alive\r\nHost: ota.test\r\n\r\n"
    );
    assert_eq!(played.outcome, Outcome::NoUpdate("status 404".into()));
    assert_eq!(played.at, Duration::ZERO);
}

#[test]
fn a_file_in_several_recvs_is_accepted_and_the_client_closes() {
    let file = image(5000);
    let mut first = b"HTTP/1.1 200 OK\r\nContent-Length: 5000\r\n\r\n".to_vec();
    first.extend(&file[..1000]);
    let played = played(&[
        recv(first),
        ServerAction::Wait(seconds(3)),
        recv(&file[1000..4999]),
        recv(&file[4999..]),
    ]);
    assert_eq!(played.outcome, Outcome::Updated(file));
    assert_eq!(played.at, seconds(3));
}

#[test]
fn each_fault_of_a_server_has_its_outcome() {
    let body = String::from_utf8(vec![b'\x01'; 300]).unwrap();
    let ok = |head: &str| {
        vec![
            recv(format!("{head}\r\n\r\n{}", &body[..100])),
            recv(&body[100..]),
            ServerAction::Close,
        ]
    };
    let refusal =
        |head: &str, json: &str| vec![recv(format!("{head}\r\n\r\n{json}")), ServerAction::Close];
    let long = format!("{{\"msg\":\"{}\"}}", "x".repeat(201));
    // Columns: rule; events on each connection; verdict; number of connections; seconds.
    let rows: Vec<(&str, Vec<ServerAction>, &str, usize, u64)> = vec![
        (
            "2a: as it should be",
            ok("HTTP/1.1 200 OK\r\nContent-Length: 300"),
            "updated",
            1,
            0,
        ),
        (
            "2a: no reason phrase is nothing to it",
            ok("HTTP/1.1 200\r\nContent-Length: 300"),
            "updated",
            1,
            0,
        ),
        (
            "2a: HTTP/1.0 -> treated as error",
            ok("HTTP/1.0 200 OK\r\nContent-Length: 300"),
            "gave up",
            1,
            0,
        ),
        (
            "2a, 9g: exact case; missing, and closed -> it ends",
            ok("HTTP/1.1 200 OK\r\ncontent-length: 300"),
            "gave up",
            1,
            0,
        ),
        (
            "2a: exactly one space",
            ok("HTTP/1.1 200 OK\r\nContent-Length:300"),
            "gave up",
            1,
            0,
        ),
        (
            "2a: exactly one space",
            ok("HTTP/1.1 200 OK\r\nContent-Length:  300"),
            "gave up",
            1,
            0,
        ),
        (
            "2a: no Content-Length",
            ok("HTTP/1.1 200 OK\r\nServer: x"),
            "gave up",
            1,
            0,
        ),
        (
            "2a: no chunked (no Content-Length comes with it)",
            ok("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked"),
            "gave up",
            1,
            0,
        ),
        (
            "9g: Content-Length 0, and closed -> it ends",
            refusal("HTTP/1.1 200 OK\r\nContent-Length: 0", ""),
            "no update",
            1,
            0,
        ),
        (
            "2a: an empty header value does no harm here",
            ok("HTTP/1.1 200 OK\r\nX-Empty: \r\nContent-Length: 300"),
            "updated",
            1,
            0,
        ),
        (
            "0.3: 9 kB of headers in one recv",
            ok(&format!(
                "HTTP/1.1 200 OK\r\nX-Long: {}\r\nContent-Length: 300",
                "x".repeat(9000)
            )),
            "updated",
            1,
            0,
        ),
        (
            "2a: missing, and kept open -> 10 s, reconnect, 5 tries",
            vec![recv("HTTP/1.1 200 OK\r\nServer: x\r\n\r\n")],
            "gave up",
            5,
            50,
        ),
        (
            "2a: Content-Length 0, and kept open -> 10 s, reconnect, 5 tries",
            vec![recv("HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")],
            "no update",
            5,
            50,
        ),
        (
            "9g: a head in two segments is fine",
            vec![
                recv("HTTP/1.1 200 OK\r\nServer: x\r\n"),
                recv("Content-Length: 300\r\n\r\n"),
                recv(body.clone()),
                ServerAction::Close,
            ],
            "updated",
            1,
            0,
        ),
        (
            "9g: the end of the head and the whole file together",
            vec![
                recv("HTTP/1.1 200 OK\r\nServer: x\r\n"),
                recv(format!("Content-Length: 300\r\n\r\n{body}")),
                ServerAction::Close,
            ],
            "gave up",
            1,
            0,
        ),
        (
            "9g: closed before the blank line",
            vec![recv("HTTP/1.1 200 OK\r\nContent-Le"), ServerAction::Close],
            "gave up",
            1,
            0,
        ),
        (
            "2a: header and body in ONE recv: hangs until close and FAILS",
            vec![
                recv(format!(
                    "HTTP/1.1 200 OK\r\nContent-Length: 300\r\n\r\n{body}"
                )),
                ServerAction::Wait(seconds(20)),
                ServerAction::Close,
            ],
            "gave up",
            1,
            20,
        ),
        (
            "2a: the same, and the server never closes",
            vec![recv(format!(
                "HTTP/1.1 200 OK\r\nContent-Length: 300\r\n\r\n{body}"
            ))],
            "hung",
            1,
            60,
        ),
        (
            "2a: head alone, then the body in one recv",
            vec![
                recv("HTTP/1.1 200 OK\r\nContent-Length: 300\r\n\r\n"),
                recv(body.clone()),
            ],
            "updated",
            1,
            0,
        ),
        (
            "2a: received == Content-Length; one byte more is never equal",
            vec![
                recv("HTTP/1.1 200 OK\r\nContent-Length: 299\r\n\r\n"),
                recv(body.clone()),
                recv("x"),
                ServerAction::Close,
            ],
            "gave up",
            1,
            0,
        ),
        (
            "2a: close before complete = fail",
            vec![
                recv("HTTP/1.1 200 OK\r\nContent-Length: 300\r\n\r\n"),
                recv(&body[..299]),
                ServerAction::Close,
            ],
            "gave up",
            1,
            0,
        ),
        (
            "2a: reset before complete",
            vec![
                recv("HTTP/1.1 200 OK\r\nContent-Length: 300\r\n\r\n"),
                ServerAction::Reset,
            ],
            "gave up",
            1,
            0,
        ),
        (
            "2a: close without an answer",
            vec![ServerAction::Close],
            "gave up",
            1,
            0,
        ),
        ("2a: silence ([I])", vec![], "hung", 5, 50),
        (
            "2a: any other status ends the session: no redirects",
            refusal(
                "HTTP/1.1 302 Found\r\nLocation: http://h/p\r\nContent-Length: 0",
                "",
            ),
            "no update",
            1,
            0,
        ),
        (
            "2a: no 206",
            ok("HTTP/1.1 206 Partial Content\r\nContent-Length: 300"),
            "no update",
            1,
            0,
        ),
        (
            "4: code 27 with an escaped msg",
            refusal(
                "HTTP/1.1 404 Not Found\r\nContent-Length: 30",
                r#"{"code": 27, "msg": "\u5df2\u662f"}"#,
            ),
            "no update",
            1,
            0,
        ),
        (
            "2a: msg with anything but \\uXXXX -> script error",
            refusal(
                "HTTP/1.1 404 Not Found\r\nContent-Length: 30",
                r#"{"msg":"no update"}"#,
            ),
            "script error",
            1,
            0,
        ),
        (
            "0.5: escape ASCII letters too",
            refusal(
                "HTTP/1.1 404 Not Found\r\nContent-Length: 30",
                r#"{"msg":"\u5df2V\u662f"}"#,
            ),
            "script error",
            1,
            0,
        ),
        (
            "2a: a msg of more than 200 characters is not taken",
            refusal("HTTP/1.1 404 Not Found", &long),
            "no update",
            1,
            0,
        ),
        (
            "2a: HTML without a msg",
            refusal("HTTP/1.1 404 Not Found", "<html>not found</html>"),
            "no update",
            1,
            0,
        ),
        (
            "2a: HTTP/1.0 is an error, and its msg is taken all the same",
            refusal("HTTP/1.0 404 Not Found", r#"{"msg":"no update"}"#),
            "script error",
            1,
            0,
        ),
        (
            "3: server answers 200 + text, in two recvs: flashed",
            vec![
                recv("HTTP/1.1 200 OK\r\nContent-Length: 11\r\n\r\n"),
                recv(r#"{"code":27}"#),
            ],
            "garbage",
            1,
            0,
        ),
        (
            "0.4: keep-alive that never closes: 404 ends it at once",
            vec![recv("HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n")],
            "no update",
            1,
            0,
        ),
    ];
    for (clause, happens, expected, connects, time) in rows {
        let played = played(&happens);
        assert_eq!(verdict(&played.outcome), expected, "{clause}: {played:?}");
        assert_eq!(played.connects, connects, "{clause}");
        assert_eq!(played.at, seconds(time), "{clause}");
    }
}

#[test]
fn a_head_that_arrives_byte_by_byte_is_collected() {
    let file = image(300);
    let head = b"HTTP/1.1 200 OK\r\nContent-Length: 300\r\n\r\n";
    let mut happens: Vec<ServerAction> = head.iter().map(|byte| recv([*byte])).collect();
    happens.push(recv(file.clone()));
    assert_eq!(played(&happens).outcome, Outcome::Updated(file));
}

#[test]
fn a_server_that_recovers_is_accepted_at_a_later_try() {
    let file = image(300);
    let played = play(&mut client(), |request| match request.connection {
        0..=3 => vec![recv("HTTP/1.1 200 OK\r\n\r\n")],
        _ => vec![
            recv("HTTP/1.1 200 OK\r\nContent-Length: 300\r\n\r\n"),
            recv(image(300)),
        ],
    });
    assert_eq!(played.outcome, Outcome::Updated(file));
    assert_eq!(played.at, seconds(40));
}

#[test]
fn a_connection_that_cannot_be_made_is_tried_five_times() {
    // docs/protocol.md 2a: connect is retried every 10 s, 5 times.
    let played = play_with(&mut client(), |_| false, |_| vec![]);
    assert_eq!(verdict(&played.outcome), "gave up");
    assert_eq!((played.connects, played.at), (5, seconds(40)));
}

#[test]
fn the_hint_of_a_file_in_one_recv_names_the_second_recv() {
    let played = played(&[
        recv("HTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\nx"),
        ServerAction::Close,
    ]);
    let Outcome::Failed(Failure::GaveUp(why)) = played.outcome else {
        panic!("{played:?}");
    };
    assert!(why.contains("second recv"), "{why}");
}

proptest::proptest! {
    #[test]
    fn no_reply_makes_the_client_panic(
        head in "(HTTP/1.[01] )?[0-9]{0,3}[ \r\n]{0,3}(Content-Length: [0-9]{0,20}\r\n)?(\r\n)?",
        body in "(\"msg\":)?[ \"\\\\u0-9a-f]{0,30}",
    ) {
        let first = format!("{head}{body}x");
        played(&[recv(first), recv(body + "x"), ServerAction::Close]);
    }
}
