//! Promise: with 200,000 devices, every request of an operator is quick, uses little memory, and makes no check wait.
//!
//! `LUAT_OTA_FLEET_BINARY=target/release/luat-ota cargo test --test it operator_fleet -- --nocapture` measures a
//! release build with 200,000 devices against the bounds of docs/performance.md; with `LUAT_OTA_FLEET_ONLY=export` only
//! the requests whose names contain that word. Otherwise this build, which may be many times slower, serves 2,000
//! devices with wide bounds.
#![cfg(feature = "operator")]

use crate::common;

use std::fmt::Write as _;
use std::io::{Read, Write as _};
use std::path::PathBuf;
use std::process::Command;
use std::time::{Duration, Instant, UNIX_EPOCH};

use common::operator::{Operator, parse};
use common::packages::noise;
use common::waits::beside_checks;
use common::{IMEI, PATIENCE, Place, Rows, Server, clean, get, luat, serve_arguments};
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};

/// Number of projects besides P that devices name in checks. Some have only a few devices.
const PROJECTS: u64 = 25;

/// Number of releases of each of these projects.
const RELEASES: u64 = 20;

/// Sizes of a fleet, and time limits for its requests.
struct Bounds {
    devices: u64,
    /// Number of projects besides P that have releases.
    projects: u64,
    /// Number of versions whose counts change with each sample of the history; 44 fill the history.
    versions: u64,
    /// Number of times that each request is made. The best one counts: load on the machine only adds time.
    runs: usize,
    /// Limit of a request, or of the first byte of an export.
    request: Duration,
    /// Limit of a check during a request.
    check: Duration,
    /// Limit of a preview, which decides twice about each device.
    preview: Duration,
}

const STRICT: Bounds = Bounds {
    devices: 200_000,
    projects: PROJECTS,
    versions: 44,
    runs: 5,
    request: Duration::from_millis(100),
    check: Duration::from_millis(5),
    preview: Duration::from_millis(100),
};

const WIDE: Bounds = Bounds {
    devices: 2_000,
    projects: 2,
    versions: 4,
    runs: 1,
    request: Duration::from_secs(120),
    check: Duration::from_secs(20),
    preview: Duration::from_secs(120),
};

/// Memory that all requests together may add, in KiB.
const MEMORY: u64 = 16 * 1024;

/// Appends a line with its checksum to a journal.
fn line(journal: &mut String, text: &str) {
    let crc = crc32fast::hash(text.as_bytes());
    writeln!(journal, "{text},\"crc\":\"{crc:08x}\"}}").unwrap();
}

/// A journal with devices of several projects, versions and platforms in every state, some of them held, and with the
/// maximum number of counts over time.
fn journal(
    &Bounds {
        devices, versions, ..
    }: &Bounds,
    content: &str,
) -> String {
    let now = UNIX_EPOCH.elapsed().unwrap().as_secs();
    let mut journal = String::new();
    line(&mut journal, "{\"luat-ota-journal\":1");
    for n in 0..devices {
        let (imei, seen) = (862_991_400_000_000 + n, now - 3600 - n % 3000);
        let project = match n % 10 {
            0..8 => "P".to_owned(),
            _ => format!("R{}", (n / 10) % (PROJECTS / 2)),
        };
        let platform = ["8955", "ASR1802", "RDA8910"][n as usize % 3];
        let state = [
            "offered",
            "downloading",
            "delivered",
            "confirmed",
            "reverted",
            "silent",
        ];
        let version = match n % 6 {
            3 => "2.0.0".to_owned(),
            _ => format!("1.{}.0", n % 40),
        };
        let mut text = format!(
            "{{\"device\":\"imei:{imei}\",\"project\":\"{project}\",\"version\":\"{version}\",\"first\":{},\
             \"last\":{seen},\"interval\":3600,\"network\":\"10.{}.{}.0/24\",\
             \"name\":\"{project}_Luat_V00{}_{platform}\",\"key\":\"k\"",
            seen - 86_400 * 3,
            n % 200,
            n % 251,
            10 + n % 20,
        );
        if n % 10 < 8 && n % 2 == 1 {
            let state = state[n as usize % 6];
            write!(
                text,
                ",\"to\":\"2.0.0\",\"content\":\"{content}\",\"size\":5000,\"state\":\"{state}\",\"since\":{seen},\
                 \"reached\":{},\"weak\":0,\"from\":\"1.{}.0\"",
                n % 5000,
                n % 40,
            )
            .unwrap();
        }
        write!(text, ",\"at\":{seen}").unwrap();
        line(&mut journal, &text);
        if n % 200 == 0 {
            let text = format!(
                "{{\"guard\":\"{n:016x}\",\"device\":\"imei:{imei}\",\"wide\":{n},\"content\":\"{content}\",\
                 \"version\":\"{n:016x}\",\"reverts\":2,\"redirects\":0,\"sent\":10000,\"level\":1,\
                 \"held_until\":{},\"from\":\"1.0.0\",\"to\":\"2.0.0\",\"used\":{seen},\"at\":{seen}",
                now + 40_000,
            );
            line(&mut journal, &text);
        }
    }
    for (unit, count, flag) in [(3600, 14 * 24, ""), (86_400, 365, ",\"day\":true")] {
        let last = now / unit - u64::from(!flag.is_empty());
        for number in last - count + 1..=last {
            let time = number * unit;
            line(
                &mut journal,
                &format!("{{\"sample\":{time}{flag},\"at\":{now}"),
            );
            for version in 0..versions {
                let (project, version) = match version {
                    0 => ("P".to_owned(), "2.0.0".to_owned()),
                    version => (format!("R{}", version % PROJECTS), format!("1.{version}.0")),
                };
                let text = format!(
                    "{{\"sample\":{time}{flag},\"project\":\"{project}\",\"version\":\"{version}\",\
                     \"counts\":\"1 2 3 {number} 5 6 7 8 9 10\",\"at\":{now}"
                );
                line(&mut journal, &text);
            }
        }
    }
    journal
}

/// Fills a folder with a release and a group, which contains a tenth of the devices, with their names.
fn folder(place: &Place, bounds: &Bounds) {
    let file = noise(1, 5000);
    place.drop_firmware("P/2.0.0/u.bin", &file);
    let mut group = String::new();
    for n in (0..bounds.devices).step_by(10) {
        writeln!(group, "{} # Pump {n}", 862_991_400_000_000 + n).unwrap();
    }
    place.drop_firmware("@pilot.txt", group.as_bytes());
    place.rules(
        "P/2.0.0/release.json",
        json!({"percent": 5, "deny": ["@pilot"]}),
    );
    let content = Sha256::digest(&file);
    let content: String = content.iter().map(|byte| format!("{byte:02x}")).collect();
    std::fs::write(
        place.state().join("journal.jsonl"),
        journal(bounds, &content),
    )
    .unwrap();
}

/// A request of an operator.
struct Request {
    what: &'static str,
    method: &'static str,
    target: String,
    body: String,
}

fn requests(devices: u64) -> Vec<Request> {
    let get = |what: &'static str, target: &str| Request {
        what,
        method: "GET",
        target: format!("/api/v1/{target}"),
        body: String::new(),
    };
    let last = (862_991_400_000_000 + devices - 1).to_string();
    let mut all = vec![
        get("devices", "devices"),
        get("devices, 500", "devices?limit=500"),
        get(
            "search: the end of an id",
            &format!("devices?search={}", &last[8..]),
        ),
        get("search: a beginning", "devices?search=8629914000&limit=500"),
        get("search: a name", "devices?search=pump%201&limit=500"),
        get("search: nothing found", "devices?search=nobody"),
        get("filter: project", "devices?project=P&limit=500"),
        get("filter: version", "devices?version=1.38.0&limit=500"),
        get("filter: platform", "devices?platform=asr1802&limit=500"),
        get(
            "filter: state",
            "devices?project=P&to=2.0.0&state=silent&limit=500",
        ),
        get("filter: held", "devices?held=1&limit=500"),
        get("one device", &format!("devices/{last}")),
        get("summary", "summary"),
        get("releases, 500", "releases?limit=500"),
        get("quarantine", "quarantine?limit=500"),
        get("rates", "rates"),
        get("changes", "changes"),
        get("chart of a release", "releases/P/2.0.0/history"),
        get("chart of versions", "versions"),
        get("chart of versions, 500", "versions?limit=500"),
        get("export: devices, CSV", "devices?format=csv"),
        get("export: devices, JSON", "devices?format=json"),
        get("export: held devices, CSV", "devices?format=csv&held=1"),
        get("export: releases, CSV", "releases?format=csv"),
        get("export: releases, JSON", "releases?format=json"),
        get(
            "export: history of a release, CSV",
            "releases/P/2.0.0/history?format=csv",
        ),
        get("export: versions, CSV", "versions?format=csv"),
        get("export: versions, JSON", "versions?format=json"),
        Request {
            target: "/metrics".to_owned(),
            ..get("metrics", "")
        },
    ];
    for sort in [
        "id",
        "project",
        "-version",
        "platform",
        "state",
        "first_seen",
        "-last_seen",
    ] {
        let target = format!("devices?sort={sort}&limit=500");
        all.push(get(["sort: ", sort].concat().leak(), &target));
    }
    let preview = |what, edit: Value| Request {
        what,
        method: "POST",
        target: "/api/v1/preview".to_owned(),
        body: json!({"project": "P", "edits": [edit]}).to_string(),
    };
    all.push(preview(
        "preview: percent",
        json!({"version": "2.0.0", "keys": {"percent": 50}}),
    ));
    all.push(preview(
        "preview: retire",
        json!({"version": "2.0.0", "retire": true}),
    ));
    let check = luat("P", &last, "1.0.0");
    all.push(Request {
        what: "explain",
        method: "POST",
        target: "/api/v1/explain".to_owned(),
        body: json!({ "request": check }).to_string(),
    });
    all
}

/// The best of several runs of a request.
struct Best {
    first: Duration,
    whole: Duration,
    /// The longest wait of a check during the request, and the 99th percentile.
    waits: [Duration; 2],
    /// The same waits in an equally long time without the request, which other work of the machine causes.
    idle: [Duration; 2],
    bytes: usize,
}

/// CPU time of the serving thread so far.
fn cpu(server: &Server) -> Duration {
    let path = format!("/proc/{0}/task/{0}/schedstat", server.pid());
    let text = std::fs::read_to_string(path).unwrap_or_default();
    let nanoseconds = text.split(' ').next().and_then(|first| first.parse().ok());
    Duration::from_nanos(nanoseconds.unwrap_or_default())
}

/// Sends a request. Returns the time until the first byte, the time until the last byte, and the reply.
fn ask(operator: &Operator, request: &Request) -> (Duration, Duration, Vec<u8>) {
    let line = format!("{} {}", request.method, request.target);
    let bytes = operator.request(&line, true, "", request.body.as_bytes());
    let start = Instant::now();
    let mut stream = operator.connect();
    stream.write_all(&bytes).unwrap();
    let mut reply = vec![0; 1];
    stream.read_exact(&mut reply).unwrap();
    let first = start.elapsed();
    stream.read_to_end(&mut reply).unwrap();
    (first, start.elapsed(), reply)
}

fn server(bounds: &Bounds, binary: Option<PathBuf>) -> Server {
    let place = Place::new();
    folder(&place, bounds);
    let binary = binary.unwrap_or_else(|| env!("CARGO_BIN_EXE_luat-ota").into());
    let mut command = Command::new(binary);
    clean(&mut command);
    // The default limit for one network would delay the checks of this test.
    let flags = ["--max-devices", "400000"];
    command.args(serve_arguments(&place, &flags));
    let server = Server::from_command(place, &mut command);
    for project in 0..bounds.projects {
        for release in 0..RELEASES {
            let path = format!("R{project}/1.{release}.0/u.bin");
            server.drop_firmware(&path, &noise(2 + project * 100 + release, 600));
        }
    }
    server
}

#[test]
fn every_request_of_an_operator_is_quick_and_makes_no_check_wait() {
    let binary = std::env::var_os("LUAT_OTA_FLEET_BINARY").map(PathBuf::from);
    let bounds = if binary.is_some() { STRICT } else { WIDE };
    let server = server(&bounds, binary);
    let operator = Operator::of(&server);
    let end = Instant::now() + PATIENCE * 6;
    let releases = 1 + bounds.projects * RELEASES;
    loop {
        let summary = operator.get("/api/v1/summary").json();
        if summary["releases"] == releases && summary["waiting"] == 0 {
            assert_eq!(summary["devices"], bounds.devices);
            break;
        }
        assert!(Instant::now() < end, "never read: {summary}");
        std::thread::sleep(Duration::from_millis(100));
    }
    let check = get(&luat("P", IMEI, "9.0.0"));
    let refused = server.wait_for_reply(&check, PATIENCE, |reply| reply.status == 404);
    refused.unwrap();
    let before = server.resident();
    println!(
        "{:32} {:>8} {:>8} {:>8} {:>8} {:>8} {:>8} {:>8} {:>9} {:>9}",
        "request", "first", "whole", "CPU", "longest", "p99", "idle", "idle p99", "KiB", "memory"
    );
    let mut rows = Rows::default();
    let only = std::env::var("LUAT_OTA_FLEET_ONLY").unwrap_or_default();
    let requests = requests(bounds.devices).into_iter();
    let requests = requests.filter(|request| request.what.contains(&only));
    for request in requests {
        let mut best: Option<Best> = None;
        let mut least_cpu = Duration::MAX;
        let mut most_memory = server.resident();
        for _ in 0..bounds.runs {
            let start = cpu(&server);
            let ((first, whole, reply), waits) =
                beside_checks(&server, "P", || ask(&operator, &request));
            least_cpu = least_cpu.min(cpu(&server) - start);
            most_memory = most_memory.max(server.resident());
            let parsed = parse(&reply, false).unwrap();
            assert_eq!(parsed.status, 200, "{}: {}", request.what, parsed.text());
            assert!(!parsed.body.is_empty());
            let ((), idle) = beside_checks(&server, "P", || std::thread::sleep(whole));
            let [waits, idle] =
                [waits, idle].map(|waits| [100, 99].map(|percent| waits.percentile(percent)));
            let so_far = best.get_or_insert(Best {
                first,
                whole,
                waits,
                idle,
                bytes: reply.len(),
            });
            so_far.first = so_far.first.min(first);
            so_far.whole = so_far.whole.min(whole);
            for at in 0..2 {
                so_far.waits[at] = so_far.waits[at].min(waits[at]);
                so_far.idle[at] = so_far.idle[at].min(idle[at]);
            }
        }
        let best = best.unwrap();
        let grown = most_memory.saturating_sub(before);
        let times = [
            best.first,
            best.whole,
            least_cpu,
            best.waits[0],
            best.waits[1],
            best.idle[0],
            best.idle[1],
        ];
        let times = times.map(|time| format!("{:>8.1}", time.as_secs_f64() * 1e3));
        println!(
            "{:32} {} {:>9} {:>9}",
            request.what,
            times.join(" "),
            best.bytes / 1024,
            format!("+{grown}"),
        );
        let (took, most) = match request.what {
            what if what.starts_with("export") => (best.first, bounds.request),
            what if what.starts_with("preview") => (best.whole, bounds.preview),
            _ => (best.whole, bounds.request),
        };
        let judge = |what: &str, took: Duration, most: Duration| match took <= most {
            true => Ok(()),
            false => Err(format!("{what} took {took:?}")),
        };
        rows.row(request.what, judge("it", took, most));
        // A check that waits equally long without a request says nothing about the request. A single wait may be twice
        // as long by chance.
        let [longest, p99] = best.idle;
        let most = bounds.check.max(longest * 2);
        rows.row(request.what, judge("a check", best.waits[0], most));
        let most = bounds.check.max(p99);
        rows.row(
            request.what,
            judge("one of 100 checks", best.waits[1], most),
        );
        let is_small = grown < MEMORY;
        rows.row(
            request.what,
            is_small.then_some(()).ok_or(format!("{grown} KiB more")),
        );
    }
    rows.finish();
}
