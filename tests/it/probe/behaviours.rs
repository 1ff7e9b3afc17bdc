//! Promise: every behaviour of a server leads to the results that docs/probe.md lists.

use super::*;

/// A behaviour of a server, with the function that creates its replies.
struct Behaviour {
    name: &'static str,
    behave: Behave,
}

/// The head and the body of a correct reply with the file.
fn good_reply(request: &Request, file: &[u8]) -> (Vec<u8>, Vec<u8>) {
    let from = request.from.unwrap_or(0);
    let head = match request.from {
        None => format!(
            "HTTP/1.1 200 OK\r\nContent-Length: {}\r\nConnection: close\r\n\r\n",
            file.len()
        ),
        Some(_) => format!(
            "HTTP/1.1 206 Partial Content\r\nContent-Range: bytes {from}-{}/{}\r\n\
             Content-Length: {}\r\nConnection: close\r\n\r\n",
            file.len() - 1,
            file.len(),
            file.len() - from
        ),
    };
    (head.into_bytes(), file[from..].to_vec())
}

/// The reply of a correct server, with `change` applied to its head.
fn with_head(request: &Request, file: &[u8], change: fn(String) -> String) -> (Vec<Vec<u8>>, bool) {
    let (head, body) = good_reply(request, file);
    let head = change(String::from_utf8(head).unwrap()).into_bytes();
    let (one, two) = body.split_at(body.len() / 2);
    (vec![[&head, one].concat(), two.to_vec()], true)
}

/// The behaviours in docs/protocol.md 2.
fn behaviours() -> Vec<Behaviour> {
    macro_rules! all {
        ($($name:literal: $behave:expr,)*) => {
            vec![$(Behaviour { name: $name, behave: $behave }),*]
        };
    }
    fn words(text: &str, closes: bool) -> (Vec<Vec<u8>>, bool) {
        (vec![text.replace('\n', "\r\n").into_bytes()], closes)
    }
    all! {
        "all as it should be": |r, f| with_head(r, f, |head| head),
        "head and file in one segment": |r, f| {
            let (head, body) = good_reply(r, f);
            (vec![[head, body].concat()], true)
        },
        "head in two segments": |r, f| {
            let (head, body) = good_reply(r, f);
            let (one, two) = head.split_at(20);
            (vec![one.to_vec(), two.to_vec(), body], true)
        },
        "head byte by byte": |r, f| {
            let (head, body) = good_reply(r, f);
            let bytes = head.iter().map(|byte| vec![*byte]);
            (bytes.chain([body]).collect(), true)
        },
        "head of 9 kB": |r, f| with_head(r, f, |head| {
            head.replacen("\r\n", &format!("\r\nX-Long: {}\r\n", "x".repeat(9000)), 1)
        }),
        "HTTP/1.0": |r, f| with_head(r, f, |head| head.replace("HTTP/1.1", "HTTP/1.0")),
        "no reason phrase": |r, f| with_head(r, f, |head| {
            head.replace(" OK", "").replace(" Partial Content", "")
        }),
        "lower-case header names": |r, f| with_head(r, f, |head| {
            head.replace("Content", "content").replace("Length", "length").replace("Range:", "range:")
        }),
        "no space after the colon": |r, f| with_head(r, f, |head| head.replace(": ", ":")),
        "a header without a value": |r, f| with_head(r, f, |head| {
            head.replacen("\r\n", "\r\nX-Empty: \r\n", 1)
        }),
        "no Content-Length": |r, f| with_head(r, f, |head| {
            let lines = head.split_inclusive("\r\n");
            lines.filter(|line| !line.starts_with("Content-Length")).collect()
        }),
        "chunked": |r, f| {
            let (head, body) = good_reply(r, f);
            let head = String::from_utf8(head).unwrap();
            let lines = head.split_inclusive("\r\n");
            let head: String = lines
                .map(|line| match line.starts_with("Content-Length") {
                    true => "Transfer-Encoding: chunked\r\n",
                    false => line,
                })
                .collect();
            let size = format!("{:x}\r\n", body.len());
            (vec![head.into(), [size.as_bytes(), &body, b"\r\n0\r\n\r\n"].concat()], true)
        },
        "connection kept open": |r, f| (with_head(r, f, |head| head).0, false),
        "cut after 70 kB": |r, f| {
            let (head, body) = good_reply(r, f);
            let part = &body[..body.len().min(70_000)];
            (vec![head, part.to_vec()], true)
        },
        "Range ignored": |_, f| {
            let whole = Request { line: String::new(), from: None };
            with_head(&whole, f, |head| head)
        },
        "302 with a Location": |_, _| {
            words("HTTP/1.1 302 Found\nLocation: http://127.0.0.1:9/f\nContent-Length: 0\n\n", true)
        },
        "404": |_, _| words("HTTP/1.1 404 Not Found\nContent-Length: 0\n\n", true),
        "404 without Content-Length": |_, _| words("HTTP/1.1 404 Not Found\n\nno update", true),
        "404 kept open": |_, _| words("HTTP/1.1 404 Not Found\nContent-Length: 0\n\n", false),
        "404 with an ASCII msg": |_, _| {
            words("HTTP/1.1 404 Not Found\nContent-Length: 16\n\n{\"msg\":\"newest\"}", true)
        },
        "500": |_, _| words("HTTP/1.1 500 Internal Server Error\nContent-Length: 0\n\n", true),
        "304": |_, _| words("HTTP/1.1 304 Not Modified\n\n", true),
        "204": |_, _| words("HTTP/1.1 204 No Content\n\n", true),
        "200 with an empty body": |_, _| words("HTTP/1.1 200 OK\nContent-Length: 0\n\n", true),
        "200 with words": |_, _| {
            words("HTTP/1.1 200 OK\nContent-Length: 9\nConnection: close\n\nno update", true)
        },
        "nothing, closed": |_, _| (Vec::new(), true),
        "nothing, kept open": |_, _| (Vec::new(), false),
    }
}

/// The table row of one behaviour: the number of clients with each verdict.
fn row(Behaviour { name, behave }: Behaviour) -> String {
    // The newest version does not matter here: only the last row of a report uses it in a check.
    let (report, _) = probe_http(behave, 100_000, &[]);
    let count = |verdict: &str| {
        let clients = report["clients"].as_array().unwrap().iter();
        let rows = clients.filter(|row| {
            let name = row["client"].as_str().unwrap();
            row["verdict"] == verdict && !name.starts_with("any client")
        });
        rows.count()
    };
    let [updated, no_update, bug, failed, not_offered] = [
        "updated",
        "no_update",
        "client_bug",
        "failed",
        "not_offered",
    ]
    .map(count);
    format!("| {name} | {updated} | {no_update} | {bug} | {failed} | {not_offered} |")
}

/// Plays every behaviour of docs/protocol.md 2 with every client over HTTP, and compares the results with the
/// table of docs/probe.md. `cargo test --test it every_behaviour -- --nocapture` prints the table.
#[test]
fn every_behaviour_of_a_server_has_the_results_that_the_document_says() {
    let threads: Vec<_> = behaviours()
        .into_iter()
        .map(|behaviour| std::thread::spawn(|| row(behaviour)))
        .collect();
    let mut rows: Vec<String> = threads
        .into_iter()
        .map(|thread| thread.join().unwrap())
        .collect();
    // Running all at once overloads a busy machine, so rows that differ are played again alone.
    let text = common::documents::read("docs/probe.md");
    for (again, behaviour) in rows.iter_mut().zip(behaviours()) {
        if !text.contains(again.as_str()) {
            *again = row(behaviour);
        }
    }
    for row in &rows {
        println!("{row}");
    }
    for document in ["docs/probe.md", "docs/zh-CN/probe.md"] {
        let text = common::documents::read(document);
        let (_, table) = text.split_once("<!-- behaviours -->").unwrap();
        let (table, _) = table.split_once("<!-- /behaviours -->").unwrap();
        let in_document: Vec<Vec<&str>> = table
            .lines()
            .filter(|line| line.starts_with("| "))
            .skip(1)
            .map(|line| line.split('|').map(str::trim).skip(1).take(6).collect())
            .collect();
        assert_eq!(in_document.len(), rows.len(), "{document}");
        for (in_document, row) in in_document.iter().zip(&rows) {
            let row: Vec<&str> = row.split('|').map(str::trim).skip(1).take(6).collect();
            // The Chinese text translates the names.
            assert_eq!(in_document[1..], row[1..], "{document}: {in_document:?}");
            assert!(
                document != "docs/probe.md" || in_document[0] == row[0],
                "{in_document:?}"
            );
        }
    }
}
