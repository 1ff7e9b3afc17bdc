//! Promise: many concurrent or hostile clients of the operator port do not harm others: a write succeeds or fails
//! as a whole, and devices are served throughout.
#![cfg(feature = "operator")]

use crate::common;

use std::io::{Read, Write};
use std::net::TcpStream;
use std::os::unix::fs::symlink;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use common::operator::Operator;
use common::packages::noise;
use common::{IMEI, PATIENCE, Place, Server, files_under, luat, remember_fleet, wait_until};
use serde_json::json;

fn start() -> (Server, Operator) {
    let place = Place::new();
    place.drop_firmware("P/2.0.0/u.bin", &noise(1, 5000));
    let server = Server::start_in(place, &[]);
    server.wait_until_offered(&luat("P", IMEI, "1.0.0"), &noise(1, 5000));
    let operator = Operator::of(&server);
    (server, operator)
}

#[test]
fn one_of_many_concurrent_edits_of_the_same_rules_wins() {
    let (server, operator) = start();
    let target = "/api/v1/rules/P/2.0.0";
    let put = |headers: &str, percent: u32| {
        let rules = json!({ "percent": percent }).to_string();
        operator
            .send("PUT", target, headers, rules.as_bytes())
            .status
    };
    let mut headers = "If-None-Match: *\r\n".to_owned();
    for round in 0..6 {
        let results: Vec<u16> = std::thread::scope(|scope| {
            let writers: Vec<_> = (0..8)
                .map(|n| {
                    scope.spawn({
                        let (put, headers) = (&put, &headers);
                        move || put(headers, round * 8 + n)
                    })
                })
                .collect();
            writers.into_iter().map(|w| w.join().unwrap()).collect()
        });
        let won: Vec<u32> = (0..8)
            .filter(|n| results[usize::try_from(*n).unwrap()] < 300)
            .collect();
        assert_eq!(won.len(), 1, "{results:?}");
        assert!(
            results
                .iter()
                .all(|status| [200, 201, 412].contains(status))
        );
        let there = operator.get(target);
        assert_eq!(there.json(), json!({ "percent": round * 8 + won[0] }));
        headers = format!("If-Match: {}\r\n", there.header("etag").unwrap());
    }
    // Concurrent changes of two keys are both kept.
    for percent in 1..6 {
        std::thread::scope(|scope| {
            let post = |word: &str, body| {
                let reply = operator.post(&format!("/api/v1/releases/P/2.0.0/{word}"), &body);
                assert_eq!(reply.status, 200, "{}", reply.text());
            };
            scope.spawn(move || post("percent", json!({ "percent": percent })));
            scope.spawn(move || {
                post(
                    "pause",
                    json!({ "reason": format!("because of {percent}") }),
                )
            });
        });
        assert_eq!(
            operator.get(target).json(),
            json!({ "percent": percent, "paused": format!("because of {percent}") })
        );
    }
    // No other file is left in the folder.
    assert_eq!(
        files_under(&server.place().firmware()),
        ["P/2.0.0/release.json", "P/2.0.0/u.bin"]
    );
}

// Case 53.
#[test]
fn none_of_sixty_edits_through_two_servers_is_lost() {
    let (first, one) = start();
    let state = first.place().root.join("second-state");
    let place = Place::new();
    // The second server has its own state and uses the first one's folder.
    let shared = first.place().firmware();
    std::fs::remove_dir_all(place.firmware()).ok();
    symlink(&shared, place.firmware()).unwrap();
    std::fs::create_dir_all(&state).unwrap();
    let second = Server::start_in(place, &["--state", state.to_str().unwrap()]);
    let mut other = Operator::of(&second);
    other.token = std::fs::read_to_string(state.join("operator-token"))
        .unwrap()
        .trim()
        .to_owned();
    let target = "/api/v1/rules/P/2.0.0";
    other.wait_for(
        "/api/v1/summary",
        "the second has read the folder",
        |summary| summary["releases"] == 1,
    );
    assert_eq!(
        one.send("PUT", target, "If-None-Match: *\r\n", b"{\"allow\": []}")
            .status,
        201
    );
    let imei = |n: usize| (862_991_443_700_000 + n).to_string();
    // Each client adds its devices to the rules that it has just read, and retries when another client was faster.
    let add = |operator: &Operator, n: usize| {
        loop {
            let there = operator.get(target);
            let mut rules = there.json();
            rules["allow"].as_array_mut().unwrap().push(json!(imei(n)));
            let headers = format!("If-Match: {}\r\n", there.header("etag").unwrap());
            match operator
                .send("PUT", target, &headers, rules.to_string().as_bytes())
                .status
            {
                200 => return,
                412 => {}
                status => panic!("{status}"),
            }
        }
    };
    // At the same time, other clients change keys without reading the rules.
    let post = |operator: &Operator, word: &str, body| {
        let reply = operator.post(&format!("/api/v1/releases/P/2.0.0/{word}"), &body);
        assert_eq!(reply.status, 200, "{}", reply.text());
    };
    std::thread::scope(|scope| {
        for (server, operator) in [&one, &other].into_iter().enumerate() {
            for writer in 0..3 {
                let add = &add;
                scope.spawn(move || {
                    for n in 0..10 {
                        add(operator, server * 30 + writer * 10 + n);
                    }
                });
            }
        }
        scope.spawn(|| (1..=20).for_each(|n| post(&one, "percent", json!({ "percent": n }))));
        scope.spawn(|| {
            (1..=20).for_each(|n| post(&other, "pause", json!({ "reason": format!("{n}") })));
        });
    });
    let rules = one.get(target).json();
    let mut listed: Vec<String> = serde_json::from_value(rules["allow"].clone()).unwrap();
    listed.sort();
    assert_eq!(listed, (0..60).map(imei).collect::<Vec<_>>());
    assert_eq!(
        (&rules["percent"], &rules["paused"]),
        (&json!(20), &json!("20"))
    );
    assert_eq!(
        files_under(&shared),
        ["P/2.0.0/release.json", "P/2.0.0/u.bin"]
    );
}

#[test]
fn a_folder_that_becomes_a_link_while_it_is_uploaded_to_leads_nowhere() {
    let place = Place::new();
    let (elsewhere, folder) = (place.root.join("elsewhere"), place.firmware());
    std::fs::create_dir_all(&elsewhere).unwrap();
    let server = Server::start_in(place, &[]);
    let operator = Operator::of(&server);
    let over = AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            let (real, aside) = (folder.join("P/2.0.1"), folder.join("P/.2.0.1"));
            while !over.load(Ordering::Relaxed) {
                let _ = std::fs::create_dir_all(&real);
                let _ = std::fs::rename(&real, &aside);
                let _ = symlink(&elsewhere, &real);
                std::thread::yield_now();
                let _ = std::fs::remove_file(&real);
                let _ = std::fs::rename(&aside, &real);
                // The upload has created a new folder meanwhile.
                let _ = std::fs::remove_dir_all(&aside);
            }
        });
        let end = Instant::now() + Duration::from_secs(4);
        let mut landed = 0;
        let mut n = 0;
        while Instant::now() < end || (landed == 0 && n < 2000) {
            n += 1;
            let target = format!("/api/v1/firmware/P/2.0.1/u{n}.bin");
            // The same bytes, so that the only reason to refuse the second file of the release is its place.
            let reply = operator.send("PUT", &target, "", &noise(1, 3000));
            assert!(
                [201, 409, 422, 500].contains(&reply.status),
                "{}",
                reply.text()
            );
            landed += u32::from(reply.status == 201);
        }
        over.store(true, Ordering::Relaxed);
        assert!(landed > 0, "the race was never won by an upload");
    });
    assert_eq!(files_under(&elsewhere), [""; 0]);
    let unfinished = |name: &String| name.contains(".upload-");
    wait_until("nothing is left half-written", PATIENCE, || {
        !files_under(&folder).iter().any(unfinished)
    });
}

/// Fails if an action takes more than a second three times. A machine that is busy with other work may delay it once.
fn within_a_second(what: &str, action: impl Fn()) {
    let times = [(); 3].map(|()| {
        let start = Instant::now();
        action();
        start.elapsed()
    });
    let is_soon = times.iter().any(|time| *time < Duration::from_secs(1));
    assert!(is_soon, "{what}: {times:?}");
}

// Case 48.
#[test]
fn sixty_four_connections_without_a_token_shut_out_no_client_with_a_token() {
    let (server, operator) = start();
    let of = |line: &str, headers: &str| operator.request(line, false, headers, b"");
    let file = "PUT /api/v1/firmware/P/2.0.1/u.bin";
    let large = "Content-Length: 200000000\r\n";
    let wrong = format!("Authorization: Bearer wrong-token\r\n{large}");
    let reading = format!("Authorization: Bearer {}\r\n{large}", operator.read_token);
    for (what, bytes) in [
        ("uploads without a token", of(file, large)),
        ("uploads with a wrong token", of(file, &wrong)),
        ("uploads with the read token", of(file, &reading)),
        (
            "uploads that wait for 100",
            of(file, &format!("Expect: 100-continue\r\n{large}")),
        ),
        (
            "POSTs without a body",
            of("POST /api/v1/explain", "Content-Length: 50\r\n"),
        ),
        (
            "refused heads",
            b"GET / HTTP/1.1\r\nHost: a/b\r\nContent-Length: 200000000\r\n\r\n".to_vec(),
        ),
        ("malformed heads", b"nonsense\r\n\r\nmore of it".to_vec()),
        ("unknown paths", of("GET /nothing", large)),
        ("unknown paths beneath", of("GET /api/v1/nothing", large)),
        ("the page with a body", of("GET /", large)),
        (
            "another host",
            b"GET / HTTP/1.1\r\nHost: evil.example\r\nContent-Length: 9\r\n\r\n".to_vec(),
        ),
        ("half heads", b"GET / HTTP/1.1\r\nX: ".to_vec()),
        ("nothing", Vec::new()),
    ] {
        // Two connections for each seat: none of them may keep one.
        let held: Vec<TcpStream> = (0..128)
            .map(|n| {
                let mut stream = operator.connect();
                let _evicted_already = stream.write_all(&bytes);
                if n % 2 == 0 {
                    // A body that continues.
                    let _evicted_already = stream.write_all(&[b'x'; 1000]);
                }
                stream
            })
            .collect();
        within_a_second(what, || {
            let reply = operator.get("/api/v1/summary");
            assert_eq!(reply.status, 200, "{what}: {}", reply.text());
            let upload = operator.send("PUT", "/api/v1/rules/P", "", b"{}");
            assert_eq!(upload.status, 428, "{what}");
        });
        drop(held);
    }
    // With a valid token, connections whose replies are not read are evicted, too.
    let answered = operator.request("GET /api/v1/summary", true, large, b"");
    let held: Vec<TcpStream> = (0..128)
        .map(|_| {
            let mut stream = operator.connect();
            stream.write_all(&answered).unwrap();
            stream
        })
        .collect();
    within_a_second("replies that are not read", || {
        assert_eq!(operator.get("/api/v1/summary").status, 200);
    });
    drop(held);
    drop(server);
}

#[test]
fn a_slow_upload_with_the_token_outlives_a_crowd_without_one() {
    let (server, operator) = start();
    let bytes = noise(5, 300_000);
    let request = operator.request("PUT /api/v1/firmware/P/2.0.1/u.bin", true, "", &bytes);
    let (first, rest) = request.split_at(100_000);
    let mut upload = operator.connect();
    upload.write_all(first).unwrap();
    wait_until("it is being written", PATIENCE, || {
        let files = files_under(&server.place().firmware());
        files.iter().any(|name| name.contains(".upload-"))
    });
    let crowd: Vec<TcpStream> = (0..300)
        .map(|_| {
            let mut stream = operator.connect();
            let _evicted_already =
                stream.write_all(b"GET /nothing HTTP/1.1\r\nHost: localhost\r\n\r\n");
            stream
        })
        .collect();
    upload.write_all(rest).unwrap();
    let mut raw = Vec::new();
    upload.read_to_end(&mut raw).unwrap();
    assert_eq!(common::operator::parse(&raw, false).unwrap().status, 201);
    drop(crowd);
}

#[test]
fn ten_thousand_connections_shut_out_neither_an_operator_nor_a_module() {
    let (mut server, operator) = start();
    let silent = operator.request("GET /api/v1/summary", true, "", b"");
    let before = server.resident();
    let mut held = std::collections::VecDeque::new();
    for n in 0..10_000 {
        let mut stream = TcpStream::connect(operator.address).unwrap();
        // No bytes, a part of a head, or a request whose reply is not read.
        let part = match n % 3 {
            0 => &[][..],
            1 => &silent[..silent.len() / 2],
            _ => &silent[..],
        };
        let _closed_already = stream.write_all(part);
        held.push_back(stream);
        if held.len() > 400 {
            held.pop_front();
        }
        if n % 1000 == 999 {
            let start = Instant::now();
            wait_until("a person is answered", PATIENCE, || {
                operator
                    .try_ask(&operator.request("GET /healthz", false, "", b""))
                    .is_ok_and(|reply| reply.status == 200)
            });
            assert_eq!(server.get(&luat("P", IMEI, "2.0.0")).status, 404);
            assert!(
                start.elapsed() < Duration::from_secs(5),
                "{:?}",
                start.elapsed()
            );
        }
    }
    drop(held);
    let grown = server.resident().saturating_sub(before);
    assert!(grown < 8 * 1024, "{grown} KiB more");
    assert!(server.is_running());
}

// Case 51.
#[test]
fn three_hundred_thousand_junk_files_are_counted_and_take_little_memory() {
    const JUNK: usize = 300_000;
    let place = Place::new();
    let folder = place.firmware();
    place.drop_firmware("P/2.0.0/u.bin", &noise(1, 5000));
    // A file whose name is not that of firmware, firmware without a release, and many files for one release.
    std::fs::create_dir_all(folder.join("Q/1.0.0")).unwrap();
    for n in 0..JUNK {
        let name = match n % 3 {
            0 => format!("note-{n}.txt"),
            1 => format!("junk-{n}.bin"),
            _ => format!("Q/1.0.0/copy-{n}.bin"),
        };
        std::fs::write(folder.join(name), b"").unwrap();
    }
    let server = Server::start_in(place, &[]);
    let operator = Operator::of(&server);
    server.wait_until_offered(&luat("P", IMEI, "1.0.0"), &noise(1, 5000));
    let page = operator.wait_for("/api/v1/quarantine", "all is counted", |page| {
        let count = |list: &str| page["counts"][list].as_u64().unwrap_or(0);
        count("quarantined") + count("ignored") + count("waiting") >= JUNK as u64
            && count("waiting") == 0
    });
    assert!(page["next"].is_string());
    assert_eq!(page["quarantined"].as_array().unwrap().len(), 100);
    assert_eq!(page["counts"]["ignored"], 100_000);
    assert_eq!(page["counts"]["quarantined"], 200_000);
    // Read all pages to the end.
    let (mut after, mut listed) = (String::new(), 0);
    loop {
        let page = operator
            .get(&format!("/api/v1/quarantine?limit=500{after}"))
            .json();
        for list in ["quarantined", "ignored", "warnings", "waiting"] {
            listed += page[list].as_array().unwrap().len();
        }
        match page["next"].as_str() {
            Some(next) => after = format!("&after={next}"),
            None => break,
        }
    }
    assert_eq!(listed, 3000);
    assert_eq!(
        operator.get("/api/v1/summary").json()["quarantined"],
        200_000
    );
    server.signal(rustix::process::Signal::HUP);
    let resident = server.resident();
    println!("{resident} KiB");
    assert!(resident < 64 * 1024, "{resident} KiB");
}

#[test]
fn a_page_of_a_large_fleet_is_quick() {
    // A debug build needs half a minute to read 200,000 on a busy machine; 5,000 are ten slices of a search.
    const FLEET: u64 = if cfg!(debug_assertions) {
        5_000
    } else {
        200_000
    };
    let place = Place::new();
    place.drop_firmware("P/2.0.0/u.bin", &noise(1, 5000));
    remember_fleet(&place, FLEET);
    let server = Server::start_in(place, &["--max-devices", "400000"]);
    let operator = Operator::of(&server);
    let check = luat("P", IMEI, "2.0.0");
    // The reply is 503 until the release is known.
    server
        .wait_for_reply(&common::get(&check), common::PATIENCE, |reply| {
            reply.status == 404
        })
        .unwrap();
    let before = server.resident();
    let last = (862_991_400_000_000 + FLEET - 1).to_string();
    let of_version = (0..FLEET).filter(|n| n % 7 == 6).count() as u64;
    for (what, query, shown, matching) in [
        ("the first page", "".to_owned(), 100, FLEET + 1),
        (
            "a long page",
            "limit=500&sort=-last_seen".to_owned(),
            500,
            FLEET + 1,
        ),
        ("by version", "sort=-version".to_owned(), 100, FLEET + 1),
        ("by id", "sort=id&limit=1".to_owned(), 1, FLEET + 1),
        ("by platform", "sort=platform".to_owned(), 100, FLEET + 1),
        ("one device, the last of all", format!("imei={last}"), 1, 1),
        ("the end of its id", format!("search={}", &last[6..]), 1, 1),
        (
            "a beginning",
            "imei=86299140000".to_owned(),
            100,
            FLEET.min(10_000),
        ),
        ("a version", "version=1.6.0".to_owned(), 100, of_version),
        ("a platform", "platform=asr1802".to_owned(), 1, 1),
        ("a state that none has", "state=reverted".to_owned(), 0, 0),
        ("what is held", "held=1".to_owned(), 0, 0),
        ("a release", "to=2.0.0".to_owned(), 0, 0),
        ("a project that there is not", "project=Q".to_owned(), 0, 0),
    ] {
        let start = Instant::now();
        let page = operator.get(&format!("/api/v1/devices?{query}")).json();
        let took = start.elapsed();
        println!("{what}: {took:?}");
        let found = page["devices"].as_array().unwrap().len();
        assert_eq!(
            (found, &page["matching"], &page["total"]),
            (shown, &json!(matching), &json!(FLEET + 1)),
            "{what}"
        );
        // A machine with other work is slow, and a debug build is many times slower.
        let bound = if cfg!(debug_assertions) { 5000 } else { 100 };
        assert!(took < Duration::from_millis(bound), "{what}: {took:?}");
    }
    let grown = server.resident().saturating_sub(before);
    println!("{grown} KiB more");
    assert!(grown < 16 * 1024, "{grown} KiB more");
}
