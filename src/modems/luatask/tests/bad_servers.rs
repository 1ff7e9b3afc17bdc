//! Deliberately bad servers against every generation.

use super::*;

#[test]
fn each_fault_of_a_server_has_its_outcome() {
    // Binary data; its size is the sum of the two chunks below.
    let file = image(300);
    let with = |head: &str, body: &[u8]| {
        let mut bytes = format!("{head}\r\n\r\n").into_bytes();
        bytes.extend_from_slice(body);
        bytes
    };
    let open = |head: &str| vec![recv(with(head, &file[..100])), recv(&file[100..])];
    let closed = |head: &str| {
        let mut happens = open(head);
        happens.push(ServerAction::Close);
        happens
    };
    let small =
        |head: &str, body: &str| vec![recv(with(head, body.as_bytes())), ServerAction::Close];
    let mut chunked = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: Chunked\r\n\r\n64\r\n".to_vec();
    chunked.extend_from_slice(&file[..100]);
    chunked.extend_from_slice(b"\r\nc8\r\n");
    let mut rest = file[100..].to_vec();
    rest.extend_from_slice(b"\r\n0\r\n\r\n");
    // Columns: rule; events on each connection; verdict and connections for 2G, 1802 and 8910.
    type Row = (&'static str, Vec<ServerAction>, [(&'static str, usize); 3]);
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
            vec![recv(chunked), recv(rest), ServerAction::Close],
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
            [("no update", 1), ("no update", 1), ("asks endlessly", 10)],
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
            same("asks endlessly", 10),
        ),
        (
            "2b: transport error: 3 tries on 2G, 30 retries on 4G",
            vec![ServerAction::Close],
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
        for (generation, (outcome, connects)) in ALL.into_iter().zip(expected) {
            let played = played(generation, &happens);
            assert_eq!(
                verdict(&played.outcome),
                outcome,
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
fn each_fault_of_a_server_at_a_resume_has_its_outcome() {
    let file = image(10_000);
    let part = |bytes: &[u8]| {
        let mut happens = vec![recv(
            "HTTP/1.1 206 Partial Content\r\nContent-Range: bytes 0-9999/10000\r\n\
             Content-Length: 10000\r\n\r\n",
        )];
        happens.push(recv(bytes));
        happens.push(ServerAction::Close);
        happens
    };
    let resumed = |generation, head: &str, body: &[u8]| {
        play(&mut client(generation), |request| {
            match request.connection {
                0 => part(&file[..6000]),
                _ => vec![
                    recv(format!("{head}\r\n\r\n")),
                    recv(body),
                    ServerAction::Close,
                ],
            }
        })
    };
    for generation in ON_4G {
        // docs/protocol.md 0.6: a server that ignores Range silently corrupts the file.
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

        // A 206 with another position.
        let played = resumed(
            generation,
            "HTTP/1.1 206 Partial Content\r\nContent-Range: bytes 5999-9999/10000\r\n\
             Content-Length: 4001",
            &file[5999..],
        );
        assert_eq!(verdict(&played.outcome), "garbage");

        // 2b: without Content-Range the total is Content-Length (4000), and more was received.
        let played = resumed(
            generation,
            "HTTP/1.1 206 Partial Content\r\nContent-Length: 4000",
            &file[6000..],
        );
        let Outcome::Failed(Failure::FlashedGarbage(bytes, _)) = played.outcome else {
            panic!("{played:?}");
        };
        assert!(bytes == file[..6000]);

        // A lower-case Content-Range has the same effect.
        let played = resumed(
            generation,
            "HTTP/1.1 206 Partial Content\r\ncontent-range: bytes 6000-9999/10000\r\n\
             Content-Length: 4000",
            &file[6000..],
        );
        assert_eq!(verdict(&played.outcome), "garbage");

        // docs/protocol.md 2b: 416 or another status gives fota_end and cb(false).
        for status in ["416 Range Not Satisfiable", "404 Not Found"] {
            let played = resumed(
                generation,
                &format!("HTTP/1.1 {status}\r\nContent-Length: 0"),
                b"",
            );
            assert_eq!(verdict(&played.outcome), "gave up", "{status}");
            assert_eq!(played.connects, 2, "no retry");
        }

        // A body that ends before the total.
        let played = resumed(
            generation,
            "HTTP/1.1 206 Partial Content\r\nContent-Range: bytes 6000-6999/10000\r\n\
             Content-Length: 1000",
            &file[6000..7000],
        );
        assert_eq!(verdict(&played.outcome), "gave up");
    }
}
