//! Promise: the server counts hourly and daily how far each release has come and which versions devices run, keeps the
//! counts over restarts and SIGKILL, and shows them in the API and on the page.
#![cfg(feature = "operator")]

use crate::common;

use std::collections::BTreeMap;
use std::path::Path;

use common::browser_session::{BrowserSession, card};
use common::csv::rows;
use common::operator::Operator;
use common::packages::noise;
use common::{IMEI, Place, Rows, Server, luat, schema};
use luat_ota::firmware::ContentId;
use luat_ota::firmware::audience::DeviceId;
use luat_ota::fleet::clock::{Stamp, unix_now};
use luat_ota::fleet::entry::{
    DeviceEntry, JournalEntry, Priority, ProgressEntry, SampleChange, SampleEntry,
};
use luat_ota::fleet::journal::{Journal, Loaded};
use luat_ota::fleet::progress::State;
use serde_json::{Value, json};

const HISTORY: &str = "/api/v1/releases/P/2.0.0/history";

fn hours(history: &Value) -> Vec<(String, u64)> {
    let hours = history["hours"].as_array().unwrap().iter();
    let rows = hours.map(|row| {
        let time = row["time"].as_str().unwrap();
        (time.to_owned(), row["confirmed"].as_u64().unwrap())
    });
    rows.collect()
}

#[test]
fn counts_survive_a_restart_and_a_kill() {
    let bytes = noise(90, 5000);
    let server = Server::start(&[]);
    server.drop_firmware("P/2.0.0/u.bin", &bytes);
    server.wait_until_offered(&luat("P", IMEI, "1.0.0"), &bytes);
    let operator = Operator::of(&server);
    operator.wait_for(HISTORY, "it is delivered", |history| {
        history["now"]["delivered"] == 1
    });
    server.get(&luat("P", IMEI, "2.0.0"));
    let first = operator.wait_for(HISTORY, "it is confirmed", |history| {
        history["now"]["confirmed"] == 1
    });
    // The fleet was empty when the server started, so there was nothing to count.
    assert_eq!(hours(&first).len(), usize::from(!hours(&first).is_empty()));
    // A start records the sample of its hour unless that exists.
    let place = server.terminate();
    let server = Server::start_in(place, &[]);
    let taken = Operator::of(&server).wait_for(HISTORY, "the sample is taken", |history| {
        !hours(history).is_empty()
    });
    let taken = hours(&taken);
    for (time, confirmed) in &taken {
        assert!(time.ends_with(":00:00Z"), "{time}");
        assert_eq!(*confirmed, 1);
    }
    let path = server.place().state().join("journal.jsonl");
    common::wait_until("it is written", common::PATIENCE, || {
        let text = std::fs::read_to_string(&path).unwrap();
        text.lines()
            .any(|line| line.starts_with("{\"sample\":") && line.contains("\"2.0.0\""))
    });
    let place = server.kill();
    let server = Server::start_in(place, &[]);
    let operator = Operator::of(&server);
    let again = operator.get(HISTORY).json();
    let again = hours(&again);
    assert!(again.starts_with(&taken), "{again:?} after {taken:?}");
    assert!(again.is_sorted() && again.len() <= taken.len() + 1);
    let days = operator.get(HISTORY).json()["days"].clone();
    assert_eq!(days.as_array().unwrap().last().unwrap()["confirmed"], 1);
    let versions = operator.get("/api/v1/versions").json();
    assert_eq!(versions["versions"][0]["version"], "2.0.0");
    assert_eq!(versions["versions"][0]["devices"], 1);
    assert_eq!(versions["versions"][0]["hours"][0], 1);
    assert_eq!(versions["hours"][0], again[0].0);
    let root = operator.get("/api/v1/openapi.json").json();
    for (path, reply) in [
        (
            "/api/v1/releases/{project}/{version}/history",
            operator.get(HISTORY).json(),
        ),
        ("/api/v1/versions", versions),
    ] {
        let described = schema::of_reply(&root, "GET", path, 200);
        schema::check(&root, described, &reply, path).unwrap();
    }
}

#[test]
fn an_unknown_release_has_no_history_and_one_without_devices_an_empty_one() {
    let (server, operator) = Operator::with_releases();
    let empty = operator.get("/api/v1/releases/P/1.5.0/history").json();
    assert_eq!((&empty["hours"], &empty["days"]), (&json!([]), &json!([])));
    assert_eq!(empty["now"]["offered"], 0);
    for target in [
        "/api/v1/releases/P/9.9.9/history",
        "/api/v1/releases/Z/1.0.0/history",
    ] {
        assert_eq!(operator.get(target).status, 404, "{target}");
    }
    let posted = operator.post(HISTORY, &json!({}));
    assert_eq!(posted.status, 405);
    assert_eq!(operator.get_without_token(HISTORY).status, 401);
    // The API returns versions in pages.
    for (n, version) in ["1.0.0", "1.1.0", "1.2.0/x"].into_iter().enumerate() {
        let imei = (862_991_443_000_000 + n as u64).to_string();
        server.get(&luat("P", &imei, version));
    }
    let (mut seen, mut after) = (Vec::new(), String::new());
    loop {
        let target = format!("/api/v1/versions?project=P&limit=2{after}");
        let page = operator.get(&target).json();
        let rows = page["versions"].as_array().unwrap();
        assert!(rows.len() <= 2);
        seen.extend(rows.iter().map(|row| row["version"].clone()));
        match page["next"].as_str() {
            Some(next) => after = format!("&after={next}"),
            None => break,
        }
    }
    assert_eq!(seen, ["1.0.0", "1.1.0", "1.2.0/x"]);
    let other = operator.get("/api/v1/versions?project=Q").json();
    assert_eq!(other["versions"], json!([]));
    assert_eq!(operator.get("/api/v1/versions?after=x").status, 400);
}

fn imei(n: u64) -> String {
    (862_991_443_000_000 + n * 7919).to_string()
}

/// Writes a state folder with 300 devices, and with counts of two weeks and a year.
fn remember(state: &Path) {
    let now = Stamp(1 << 31);
    let unix = unix_now();
    let mut journal = Journal::start(state, now, unix, &Loaded::default(), 0).unwrap();
    let hour = u32::try_from(unix / 3600).unwrap();
    let mut write = |number: u32, is_day: bool, version: &str, counts: Vec<u32>| {
        let change = SampleChange {
            project: "ALIYUN".into(),
            version: version.into(),
            counts,
        };
        for change in [None, Some(change)] {
            let sample = SampleEntry {
                number,
                is_day,
                change,
            };
            journal.write_later(&JournalEntry::Sample(sample), Priority::Major);
        }
    };
    // The order of the counts: offered, downloading, delivered, confirmed, reverted, silent, sent, waiting, held,
    // running.
    for day in (0..300_u32).rev() {
        let at = hour / 24 - day;
        let old = 300_u32.min(20 + day);
        write(at, true, "2.0.0", vec![0, 0, 0, old, 0, 0, 0, 0, 0, old]);
        write(
            at,
            true,
            "1.9.8",
            vec![0, 0, 0, 0, 0, 0, 0, 0, 0, 320 - old],
        );
    }
    for ago in (0..335_u32).rev() {
        // The server was off for half a day.
        if (100..112).contains(&ago) {
            continue;
        }
        let done = (335 - ago) * 260 / 335;
        let (offered, loading) = (40 - done * 40 / 300, (ago % 24) / 3);
        let counts = vec![offered, loading, 3, done, 4, 2, 0, 0, 1, done];
        write(hour - ago, false, "2.0.1", counts);
        write(
            hour - ago,
            false,
            "2.0.0",
            vec![0, 0, 0, 0, 0, 0, 0, 0, 0, 300 - done],
        );
    }
    for n in 0..300_u64 {
        let text = imei(n);
        let device = DeviceId::parse(&text).unwrap();
        let (state, version) = match n {
            0..260 => (State::Confirmed, "2.0.1"),
            260..290 => (State::Offered, "2.0.0"),
            _ => (State::Reverted, "2.0.0"),
        };
        let progress =
            ProgressEntry::new("ALIYUN", "2.0.1", ContentId([7; 32]), 5000, "2.0.0", now);
        journal.write_later(
            &JournalEntry::Device(DeviceEntry {
                progress: Some(ProgressEntry { state, ..progress }),
                ..DeviceEntry::new(device, &text, "ALIYUN", version, now)
            }),
            Priority::Major,
        );
    }
    journal.stop();
}

/// A CSV export and the JSON of the same moment: the JSON is equal before and after the export, so no sample was
/// recorded between.
fn csv_and_json(operator: &Operator, target: &str) -> (Vec<BTreeMap<String, String>>, Value) {
    let json = || {
        let mut json = operator.get(target).json();
        if json["now"].is_object() {
            json["now"]["time"] = Value::Null;
        }
        json
    };
    let mut before = json();
    for _ in 0..5 {
        let reply = operator.send("GET", target, "Accept: text/csv\r\n", b"");
        let kind = reply.header("content-type").unwrap_or_default();
        assert!(kind.starts_with("text/csv"), "{kind}: {}", reply.text());
        let after = json();
        if before == after {
            return (rows(&reply.text()), after);
        }
        before = after;
    }
    panic!("{target} does not rest");
}

#[test]
fn counts_over_time_are_exported_as_csv_with_a_line_for_each() {
    let place = Place::new();
    place.drop_firmware("ALIYUN/2.0.1/update.bin", &noise(91, 5000));
    remember(&place.state());
    let server = Server::start_in(place, &[]);
    let operator = Operator::of(&server);
    let target = "/api/v1/releases/ALIYUN/2.0.1/history";
    operator.wait_for(target, "the fleet is read", |history| {
        history["now"]["confirmed"] == 260
    });
    let (csv, json) = csv_and_json(&operator, target);
    let (hours, days) = (
        json["hours"].as_array().unwrap(),
        json["days"].as_array().unwrap(),
    );
    let spans = hours.iter().map(|row| ("hour", row));
    let spans = spans
        .chain(days.iter().map(|row| ("day", row)))
        .chain([("now", &json["now"])]);
    let mut compared = Rows::default();
    let expected: Vec<_> = spans.collect();
    assert!(
        csv.len() == expected.len() && csv.len() > 300,
        "{}",
        csv.len()
    );
    for (line, (span, row)) in csv.iter().zip(expected) {
        let is_right = row.as_object().unwrap().iter().all(|(key, value)| {
            let text = match value {
                Value::Null => return true,
                Value::String(text) => text.clone(),
                number => number.to_string(),
            };
            line[key] == text
        });
        let is_named =
            (&*line["project"], &*line["version"], &*line["span"]) == ("ALIYUN", "2.0.1", span);
        let result = (is_right && is_named).then_some(());
        compared.row(
            &line["time"],
            result.ok_or(format!("{line:?} is not {row}")),
        );
    }
    compared.finish();

    // The versions have one line for each existing count.
    let (csv, json) = csv_and_json(&operator, "/api/v1/versions?project=ALIYUN");
    let mut expected = Vec::new();
    for version in json["versions"].as_array().unwrap() {
        let name = version["version"].as_str().unwrap();
        for (span, key) in [("hour", "hours"), ("day", "days")] {
            let counts = version[key].as_array().unwrap().iter();
            for (time, count) in json[key].as_array().unwrap().iter().zip(counts) {
                if let Some(count) = count.as_u64() {
                    expected.push((name, span, time.as_str().unwrap(), count));
                }
            }
        }
        expected.push((name, "now", "", version["devices"].as_u64().unwrap()));
    }
    let found = csv.iter().map(|line| {
        let time = if line["span"] == "now" {
            ""
        } else {
            &line["time"]
        };
        (
            &*line["version"],
            &*line["span"],
            time,
            line["devices"].parse().unwrap(),
        )
    });
    let found: Vec<(&str, &str, &str, u64)> = found.collect();
    assert!(found.len() > 600, "{}", found.len());
    assert_eq!(found, expected);
    assert!(csv.iter().all(|line| line["project"] == "ALIYUN"));
    // The JSON export is the list of the API.
    let whole = operator
        .get("/api/v1/versions?project=ALIYUN&format=json")
        .json();
    assert_eq!(
        whole["versions"].as_array().unwrap().len(),
        json["versions"].as_array().unwrap().len()
    );
    assert_eq!(
        operator.get("/api/v1/versions?format=csv&limit=5").status,
        400
    );
    let reply = operator.get("/api/v1/releases/ALIYUN/9.9.9/history?format=csv");
    assert_eq!(reply.status, 404);
}

/// Takes the pictures of docs/operator.md, too, into the folder LUAT_OTA_PICTURES if this variable is set.
#[test]
fn the_page_draws_the_history_of_a_release_and_of_the_versions_with_a_table_of_the_same() {
    let prepare = |place: &Place| {
        place.drop_firmware("ALIYUN/2.0.1/update.bin", &noise(91, 50_000));
        place.drop_firmware("ALIYUN/2.0.0/update.bin", &noise(92, 50_000));
        let stages = [
            json!({"percent": 10}),
            json!({"percent": 100, "after": "30d"}),
        ];
        place.rules("ALIYUN/2.0.1/release.json", json!({ "stages": stages }));
        let names = (0..8).map(|n| format!("{} # pump {n}\n", imei(n)));
        std::fs::write(place.path("@pilot.txt"), names.collect::<String>()).unwrap();
        remember(&place.state());
    };
    let Some(session) = BrowserSession::open("history", prepare) else {
        return;
    };
    let browser = &session.browser;
    let operator = Operator::of(&session.server);
    let history = operator.get("/api/v1/releases/ALIYUN/2.0.1/history").json();
    let rows = history["hours"].as_array().unwrap();
    let card = card("ALIYUN", "2.0.1");
    browser.wait_text(&card, "260 of 300");
    browser.click(&format!("{card} [data-key=history] > summary"));
    let shown = "
        const box = document.querySelector(arguments[0]);
        const svg = box.querySelector('svg[role=img]');
        if (!svg) return false;
        const name = svg.querySelector('title'), text = svg.querySelector('desc');
        const named = svg.getAttribute('aria-labelledby').split(' ').map((id) => document.getElementById(id));
        return named[0] === name && named[1] === text && name.textContent && text.textContent && [...svg.querySelectorAll('path.line')].map((path) => [path.dataset.series, path.getAttribute('d').split('M').length - 1]);";
    let of_release = format!("{card} [data-key=history]");
    let lines = browser.wait("a chart", shown, json!([of_release]));
    let lines: Vec<_> = lines.as_array().unwrap().clone();
    let line = |series: &str| lines.iter().find(|line| line[0] == series).cloned();
    // The line has a gap where the server was off.
    assert_eq!(
        line("confirmed"),
        Some(json!(["confirmed", 2])),
        "{lines:?}"
    );
    for series in ["offered", "reverted", "held"] {
        assert!(line(series).is_some(), "{series}: {lines:?}");
    }
    assert_eq!(line("waiting"), None, "a line of nothing but zeros");
    // The table agrees with the API.
    let table = "
        const box = document.querySelector(arguments[0]);
        box.querySelector('[data-key=table]').open = true;
        const rows = [...box.querySelectorAll('tbody tr')];
        const head = [...box.querySelectorAll('thead th')].map((th) => th.textContent);
        return [rows.length, head, [...rows[0].cells].map((cell) => cell.textContent)];";
    let table = browser.js(table, json!([of_release]));
    assert_eq!(table[0].as_u64().unwrap(), rows.len() as u64 + 1);
    let heads = table[1].as_array().unwrap();
    let at = heads.iter().position(|head| head == "confirmed").unwrap();
    // The newest sample is first, preceded by the current counts.
    assert_eq!(table[2][at], "260");
    // The same rows are saved as a file.
    let keep = "
        window.saved = [];
        HTMLAnchorElement.prototype.click = function () { window.saved.push(this.download); };";
    browser.js(keep, json!([]));
    browser.click(&format!("{of_release} [data-key=save-csv]"));
    let name = "return window.saved.pop() ?? null";
    let name = browser.wait("it is saved", name, json!([]));
    assert_eq!(name, "releases-ALIYUN-2.0.1-history.csv");
    browser.click("[data-key=versions] > summary");
    let lines = browser.wait("a chart", shown, json!(["[data-key=versions]"]));
    let names: Vec<_> = lines
        .as_array()
        .unwrap()
        .iter()
        .map(|line| &line[0])
        .collect();
    assert!(
        names.contains(&&json!("2.0.1")) && names.contains(&&json!("2.0.0")),
        "{names:?}"
    );
    // The chart of a year.
    browser.click(&format!("{of_release} [data-key=days]"));
    browser.wait(
        "the year is chosen",
        "return document.querySelector(arguments[0] + ' [data-key=days]').getAttribute('aria-pressed') === 'true'",
        json!([of_release]),
    );
    session.assert_console_empty();
    for (width, language) in [(1440, "en-GB,en"), (390, "zh-CN,zh")] {
        browser.size(width, 1000);
        browser.language(language);
        browser.open(&session.url(""));
        let wide = "
            const root = document.documentElement;
            document.querySelectorAll('[data-key=table]').forEach((e) => { e.open = true; });
            return root.scrollWidth > innerWidth ? root.scrollWidth : 0;";
        browser.click("[data-key=versions] > summary");
        browser.wait("a chart", shown, json!(["[data-key=versions]"]));
        assert_eq!(browser.js(wide, json!([])), 0, "{width}");
        // On a wide screen, only the page of a release shows its chart.
        session.go("#/releases/ALIYUN%2F2.0.1");
        browser.wait_text(&card, "260");
        browser.click(&format!("{of_release} > summary"));
        browser.wait("a chart", shown, json!([of_release]));
        assert_eq!(browser.js(wide, json!([])), 0, "{width}");
    }
    if let Some(folder) = std::env::var_os("LUAT_OTA_PICTURES") {
        let picture = |name: &str| {
            let path = Path::new(&folder).join(name);
            std::fs::write(path, browser.screenshot()).unwrap();
        };
        browser.size(1280, 1000);
        browser.scheme("light");
        for (language, tag) in [("en-GB,en", "en"), ("zh-CN,zh", "zh")] {
            browser.language(language);
            browser.open(&session.url(""));
            session.go("#/releases/ALIYUN%2F2.0.1");
            browser.wait_text(&card, "260");
            browser.click(&format!("{of_release} > summary"));
            browser.wait("a chart", shown, json!([of_release]));
            browser.wait_text(".rules .effect p", "2.0.1");
            picture(&format!("release-{tag}.png"));
            browser.js(
                "document.querySelector('.rules').scrollIntoView()",
                json!([]),
            );
            picture(&format!("rules-{tag}.png"));
            session.go("#/devices?project=ALIYUN&sort=id");
            browser.wait_text("main > [role=status]", "300");
            browser.wait_text("main", "pump 0");
            picture(&format!("devices-{tag}.png"));
        }
    }
    session.assert_console_empty();
}
