//! Promise: `/metrics` has the format of Prometheus, counts events correctly and names no device.
#![cfg(feature = "operator")]

use crate::common;

use std::collections::HashMap;
use std::io::Write;
use std::process::{Command, Stdio};

use common::operator::Operator;
use common::packages::noise;
use common::{IMEI, PATIENCE, Place, Server, luat};
use serde_json::Value;

fn start() -> (Server, Operator) {
    let place = Place::new();
    place.drop_firmware("P/2.0.0/u.bin", &noise(1, 5000));
    place.drop_firmware("P/1.5.0/u.bin", &noise(2, 5000));
    // A name with letters that a label must keep unchanged.
    place.drop_firmware("\u{6c34}\u{8868}/1.0.0/u.bin", &noise(3, 5000));
    let server = Server::start_in(place, &[]);
    let operator = Operator::of(&server);
    operator.wait_for("/api/v1/summary", "all is read", |summary| {
        summary["releases"] == 3 && summary["waiting"] == 0
    });
    (server, operator)
}

/// Parses the text format strictly (Prometheus exposition format 0.0.4). Returns the value of each name with labels.
fn parse_metrics(text: &str) -> Result<HashMap<String, f64>, String> {
    let name = |text: &str| {
        !text.is_empty()
            && !text.starts_with(|c: char| c.is_ascii_digit())
            && text
                .bytes()
                .all(|b| b.is_ascii_alphanumeric() || b == b'_' || b == b':')
    };
    let mut kinds: HashMap<String, String> = HashMap::new();
    let mut last = String::new();
    let mut samples = HashMap::new();
    ensure!(text.ends_with('\n'), "no line feed at the end");
    for line in text.lines() {
        if let Some(rest) = line.strip_prefix("# HELP ") {
            let (of, help) = rest.split_once(' ').ok_or(format!("help: {line}"))?;
            ensure!(name(of) && !help.is_empty(), "help: {line}");
            ensure!(!kinds.contains_key(of), "{of} comes twice");
            continue;
        }
        if let Some(rest) = line.strip_prefix("# TYPE ") {
            let (of, kind) = rest.split_once(' ').ok_or(format!("type: {line}"))?;
            ensure!(matches!(kind, "counter" | "gauge"), "type: {line}");
            ensure!(
                kinds.insert(of.into(), kind.into()).is_none(),
                "{of} comes twice"
            );
            last = of.to_owned();
            continue;
        }
        let (key, value) = line.rsplit_once(' ').ok_or(format!("sample: {line}"))?;
        let (of, labels) = match key.split_once('{') {
            Some((of, rest)) => (of, rest.strip_suffix('}').ok_or(format!("labels: {line}"))?),
            None => (key, ""),
        };
        ensure!(of == last, "{of} is not in its family: {line}");
        ensure!(
            (kinds[of] == "counter") == of.ends_with("_total"),
            "name of a counter: {of}"
        );
        let mut rest = labels;
        while !rest.is_empty() {
            let (label, after) = rest.split_once("=\"").ok_or(format!("label: {line}"))?;
            ensure!(name(label), "label: {line}");
            let mut end = None;
            let mut escaped = false;
            for (at, letter) in after.char_indices() {
                match letter {
                    _ if escaped => escaped = false,
                    '\\' => escaped = true,
                    '"' => {
                        end = Some(at);
                        break;
                    }
                    _ => {}
                }
            }
            let end = end.ok_or(format!("label: {line}"))?;
            rest = after[end + 1..]
                .strip_prefix(',')
                .unwrap_or(&after[end + 1..]);
        }
        let value: f64 = value.parse().map_err(|_| format!("value: {line}"))?;
        ensure!(
            samples.insert(key.to_owned(), value).is_none(),
            "{key} comes twice"
        );
    }
    Ok(samples)
}

#[test]
fn metrics_count_what_happened_and_name_no_device() {
    let (server, operator) = start();
    let read = || {
        let reply = operator.get("/metrics");
        assert_eq!(
            reply.header("content-type"),
            Some("text/plain; version=0.0.4; charset=utf-8")
        );
        let text = reply.text();
        assert!(!text.contains(IMEI), "{text}");
        parse_metrics(&text).unwrap()
    };
    let before = read();
    server.get(&luat("P", IMEI, "1.0.0"));
    server.get(&luat("Z", IMEI, "1.0.0"));
    let offers = "luat_ota_checks_total{proto=\"http\",verdict=\"offer\"}";
    let complete = "luat_ota_downloads_total{result=\"complete\"}";
    common::wait_until("the download is counted", PATIENCE, || {
        read()[complete] > before[complete]
    });
    let after = read();
    assert_eq!(after[offers] - before[offers], 1.0);
    let unknown = "luat_ota_checks_total{proto=\"http\",verdict=\"unknown_project\"}";
    assert_eq!(after[unknown] - before[unknown], 1.0);
    let bytes = "luat_ota_download_bytes_total{proto=\"http\"}";
    assert_eq!(after[bytes] - before[bytes], 5000.0);
    assert_eq!(after["luat_ota_releases"], 3.0);
    assert_eq!(after["luat_ota_build_info{version=\"0.1.0\"}"], 1.0);
    assert!(after["process_resident_memory_bytes"] > 1e6);
    assert!(after["process_start_time_seconds"] > 1.7e9);
}

/// Parses the text format with Prometheus's own Python client, and prints all samples as JSON.
const READER: &str = "
import json, sys
from prometheus_client.parser import text_string_to_metric_families as read
families = list(read(sys.stdin.buffer.read().decode()))
print(json.dumps([{'name': f.name, 'type': f.type, 'help': f.documentation,
                   'samples': [[s.name, s.labels, s.value] for s in f.samples]} for f in families]))
";

#[test]
fn the_parser_of_prometheus_reads_the_same_metrics() {
    let has = Command::new("python3")
        .args(["-c", "import prometheus_client.parser"])
        .output()
        .is_ok_and(|output| output.status.success());
    if !has {
        let missing = "no python3 with prometheus-client here (pip install prometheus-client)";
        assert!(std::env::var("CI").as_deref() != Ok("true"), "{missing}");
        common::mount::skipped(missing);
        return;
    }
    let (server, operator) = start();
    server.get(&luat("%E6%B0%B4%E8%A1%A8", IMEI, "0.9.0"));
    let text = operator.get("/metrics").text();
    let mut reader = Command::new("python3")
        .args(["-c", READER])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut input = reader.stdin.take().unwrap();
    input.write_all(text.as_bytes()).unwrap();
    drop(input);
    let output = reader.wait_with_output().unwrap();
    assert!(output.status.success(), "it does not read\n{text}");
    let families: Vec<Value> = serde_json::from_slice(&output.stdout).unwrap();
    let mut samples = 0;
    let mut projects = Vec::new();
    for family in &families {
        let kind = family["type"].as_str().unwrap();
        assert!(["counter", "gauge"].contains(&kind), "{family}");
        assert!(!family["help"].as_str().unwrap().is_empty(), "{family}");
        for sample in family["samples"].as_array().unwrap() {
            samples += 1;
            let labels = sample[1].as_object().unwrap();
            projects.extend(labels.get("project").and_then(Value::as_str));
            for value in labels.values() {
                assert!(!value.as_str().unwrap().contains(IMEI), "{family}");
            }
        }
    }
    assert_eq!(samples, parse_metrics(&text).unwrap().len());
    assert!(families.len() > 8, "{families:?}");
    assert!(projects.contains(&"\u{6c34}\u{8868}"), "{projects:?}");
}
