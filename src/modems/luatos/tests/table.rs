//! The table of docs/protocol.md 2c: every core against every answer.

use super::*;

#[test]
fn every_core_behaves_as_its_row_of_the_table() {
    let (given, dropped) = ("-9, given", "-9, dropped");
    let early4 = "-5, 4 requests";
    let (first, resumed) = ("first segment", "ok, 2 requests");
    let claims = "claims 200";
    let hangs = "hangs, -8";
    let late = "no update, -9 at the timeout";
    // Columns: split head, no length, chunked, no space, kept open, 404, 404 kept open, cut.
    let table = [
        [
            "2023-02", "-6", early4, "ok", "ok", "ok", given, given, resumed,
        ],
        [
            "2023-12-01",
            "-6",
            early4,
            "ok",
            "ok",
            "ok",
            given,
            given,
            resumed,
        ],
        [
            "2024-06-27",
            "ok",
            early4,
            "ok",
            "ok",
            "ok",
            given,
            given,
            resumed,
        ],
        [
            "2025-01-27",
            "ok",
            "-5",
            "ok",
            "ok",
            "ok",
            given,
            given,
            "-5",
        ],
        [
            "2025-11-12",
            "ok",
            "-5",
            "ok",
            "ok",
            "ok",
            "never",
            "never",
            "-5",
        ],
        [
            "2025-12-02",
            "ok",
            "-5",
            "-5",
            "-5",
            "ok",
            dropped,
            dropped,
            "-5",
        ],
        [
            "2025-12-04",
            "ok",
            "ok",
            "ok",
            "ok",
            "ok",
            dropped,
            dropped,
            "-5",
        ],
        [
            "2025-12-14",
            "ok",
            "ok",
            "ok",
            "ok",
            "ok",
            dropped,
            dropped,
            "-5",
        ],
        [
            "2025-12-19",
            "ok",
            first,
            first,
            first,
            "ok",
            dropped,
            dropped,
            claims,
        ],
        [
            "2026-01-14",
            "ok",
            first,
            "ok",
            first,
            "ok",
            dropped,
            dropped,
            claims,
        ],
        [
            "2026-02-02",
            "ok",
            "ok",
            "ok",
            "ok",
            hangs,
            dropped,
            late,
            claims,
        ],
        [
            "2026-02-11",
            "ok",
            "ok",
            "ok",
            "ok",
            hangs,
            dropped,
            "never",
            claims,
        ],
        [
            "2026-03-10",
            "ok",
            first,
            "ok",
            "ok",
            "ok",
            dropped,
            late,
            claims,
        ],
        [
            "2026-05-08",
            "ok",
            first,
            "ok",
            "ok",
            "ok",
            dropped,
            late,
            "hangs, -9",
        ],
    ];
    for (core, row) in Core::ALL.into_iter().zip(table) {
        let file = file();
        let good = ok_head(file.len());
        let refusal = "HTTP/1.1 404 Not Found\r\nContent-Length: 11\r\n\r\n";
        let got = [
            core.since().to_owned(),
            unchecked(core, |_, _| {
                let (one, two) = good.split_at(20);
                let mut script = vec![ServerAction::Segment(one.into())];
                script.extend(closing(segments(two, &file)));
                script
            }),
            unchecked(core, |_, _| {
                closing(segments("HTTP/1.1 200 OK\r\n\r\n", &file))
            }),
            unchecked(core, |_, _| {
                let mut body = Vec::new();
                for piece in file.chunks(5000) {
                    body.extend(format!("{:x}\r\n", piece.len()).into_bytes());
                    body.extend_from_slice(piece);
                    body.extend_from_slice(b"\r\n");
                }
                body.extend_from_slice(b"0\r\n\r\n");
                let head = "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n";
                closing(segments(head, &body))
            }),
            unchecked(core, |_, _| {
                let head = format!("HTTP/1.1 200 OK\r\nContent-Length:{}\r\n\r\n", file.len());
                closing(segments(&head, &file))
            }),
            unchecked(core, |_, _| segments(&good, &file)),
            unchecked(core, |_, _| closing(segments(refusal, b"{\"code\":27}"))),
            unchecked(core, |_, _| segments(refusal, b"{\"code\":27}")),
            unchecked(core, cut_once),
        ];
        assert_eq!(got, row);
    }
}

#[test]
fn every_core_reports_a_bad_reply_with_its_code() {
    let nine = format!(
        "HTTP/1.1 200 OK\r\nX-Long: {}\r\nContent-Length: 5\r\n\r\n",
        "x".repeat(9000)
    );
    let moved = "HTTP/1.1 302 Found\r\nLocation: http://ota.example/file\r\n\r\n";
    let empty = "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n";
    for core in Core::ALL {
        let long = unchecked(core, |_, _| {
            vec![
                ServerAction::Segment(nine.clone().into_bytes()),
                ServerAction::Close,
            ]
        });
        assert_eq!(long, "-6", "{core:?}");
        let empty = unchecked(core, |_, _| closing(segments(empty, b"")));
        let expected = match core {
            core if core < Core::D2025_12_02 => "no update, -9",
            core if core < Core::D2026_02_02 => "no update, -5",
            _ => "no update, -9 at the timeout",
        };
        assert_eq!(empty, expected, "{core:?}");
        let nothing = unchecked(core, |_, _| vec![ServerAction::Close]);
        assert_eq!(nothing, "-5", "{core:?}");
        let silence = unchecked(core, |_, _| Vec::new());
        assert_eq!(silence, "hangs, -8", "{core:?}");
        let nonsense = unchecked(core, |_, _| closing(segments("<html>\r\n\r\n", b"")));
        assert_eq!(nonsense, "-6", "{core:?}");

        let head = moved.replace("\r\n\r\n", "\r\nContent-Length: 0\r\n\r\n");
        let redirected = unchecked(core, |_, _| closing(segments(&head, b"")));
        let expected = match core {
            Core::D2025_11_12 => "never",
            _ => "-9",
        };
        assert_eq!(redirected, expected, "{core:?}");
    }
}
