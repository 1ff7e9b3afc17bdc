//! Promise: the Grafana dashboard and the alert rules query metrics that the server has, and Prometheus's own tool
//! accepts them.
#![cfg(feature = "operator")]

use crate::common;

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::process::Command;

use common::documents::{self, ROOT};
use common::operator::Operator;
use common::packages::noise;
use common::{IMEI, PATIENCE, Place, Rows, Server, both, get_with, luat, run_command, wait_until};
use serde_json::Value;

const FOLDER: &str = "packaging/grafana";

/// The queries of the Grafana dashboard.
fn queries() -> Vec<String> {
    fn find(value: &Value, found: &mut Vec<String>) {
        match value {
            Value::Object(fields) => {
                for (key, value) in fields {
                    match value {
                        Value::String(text) if key == "expr" => found.push(text.clone()),
                        value => find(value, found),
                    }
                }
            }
            Value::Array(items) => items.iter().for_each(|item| find(item, found)),
            _ => {}
        }
    }
    let text = documents::read(&format!("{FOLDER}/luat-ota.json"));
    let mut found = Vec::new();
    find(&serde_json::from_str(&text).unwrap(), &mut found);
    assert!(found.len() > 15, "{found:?}");
    found
}

/// The metrics that a text names, each with the labels that it compares with a value.
fn named_metrics(text: &str) -> Vec<(String, Vec<(String, String)>)> {
    let is_word = |c: char| c.is_ascii_lowercase() || c == '_';
    let mut named = Vec::new();
    for prefix in ["luat_ota_", "process_"] {
        for (at, _) in text.match_indices(prefix) {
            if text[..at].ends_with(is_word) {
                continue;
            }
            let end = text[at..].find(|c| !is_word(c)).unwrap_or(text.len() - at);
            let (name, rest) = text[at..].split_at(end);
            let labels = rest.strip_prefix('{').and_then(|rest| rest.split_once('}'));
            let labels = labels.map_or("", |(labels, _)| labels).split(',');
            let pair = |label: &str| {
                let (label, value) = label.split_once("=\"")?;
                Some((
                    label.trim().to_owned(),
                    value.trim_end_matches('"').to_owned(),
                ))
            };
            named.push((name.to_owned(), labels.filter_map(pair).collect()));
        }
    }
    named
}

/// The metrics in `/metrics`, each with the values of its labels.
type Metrics = BTreeMap<String, BTreeSet<(String, String)>>;

fn metrics(text: &str) -> Metrics {
    let types = text.lines().filter_map(|line| line.strip_prefix("# TYPE "));
    let mut metrics: Metrics = types
        .map(|line| (line.split(' ').next().unwrap().to_owned(), BTreeSet::new()))
        .collect();
    for line in text.lines().filter(|line| !line.starts_with('#')) {
        for (name, labels) in named_metrics(line) {
            metrics.get_mut(&name).unwrap().extend(labels);
        }
    }
    metrics
}

#[test]
fn every_metric_of_the_dashboard_the_rules_and_the_documents_exists() {
    let place = Place::new();
    let shared = place.root.join("shared");
    std::fs::create_dir(&shared).unwrap();
    let (secret, shared) = (place.root.join("secret"), shared.display().to_string());
    let secret = secret.display().to_string();
    let server = Server::start_in(place, &["--secret-file", &secret, "--fleet", &shared]);
    let metrics = metrics(&Operator::of(&server).get("/metrics").text());
    let mut rows = Rows::default();
    let texts =
        ["alerts.yml", "alerts-test.yml"].map(|file| documents::read(&format!("{FOLDER}/{file}")));
    let pages = ["docs/monitoring.md", "docs/zh-CN/monitoring.md"].map(documents::read);
    for text in queries().iter().chain(&texts).chain(&pages) {
        for (name, labels) in named_metrics(text) {
            let Some(known) = metrics.get(&name) else {
                rows.row(&name, Err("there is no such metric".to_owned()));
                continue;
            };
            for label in labels {
                // Releases have samples only while they exist.
                let is_known = known.contains(&label) || name.contains("_release_");
                let is_added = ["job", "instance"].contains(&&*label.0);
                let right = is_known || is_added;
                rows.row(&name, right.then_some(()).ok_or(format!("{label:?}")));
            }
        }
    }
    rows.finish();
}

#[test]
fn promtool_accepts_the_rules_the_queries_and_the_configuration() {
    if Command::new("promtool").arg("--version").output().is_err() {
        let missing = "promtool is not installed (apt-get install prometheus)";
        assert!(std::env::var("CI").as_deref() != Ok("true"), "{missing}");
        common::mount::skipped(missing);
        return;
    }
    let promtool = |words: &[&str]| {
        let output = run_command(Command::new("promtool").args(words).current_dir(ROOT));
        assert!(output.status.success(), "{words:?}: {}", both(&output));
    };
    promtool(&["check", "rules", &format!("{FOLDER}/alerts.yml")]);
    let text = documents::read("docs/monitoring.md");
    let command = documents::blocks(&text, "sh").remove(0);
    promtool(&command.split_whitespace().skip(1).collect::<Vec<_>>());
    // The queries of the Grafana dashboard, as rules.
    let place = Place::new();
    let rules = queries().iter().enumerate().fold(
        "groups:\n- name: dashboard\n  rules:\n".to_owned(),
        |rules, (number, query)| {
            let query = query
                .replace("$__rate_interval", "5m")
                .replace("$instance", ".*");
            let query = serde_json::to_string(&query).unwrap();
            format!(
                "{rules}  - record: query:{}\n    expr: {query}\n",
                "a".repeat(number + 1)
            )
        },
    );
    let file = place.root.join("queries.yml");
    std::fs::write(&file, rules).unwrap();
    promtool(&["check", "rules", file.to_str().unwrap()]);
    let alerts = Path::new(ROOT).join(FOLDER).join("alerts.yml");
    let token = place.root.join("token");
    std::fs::write(&token, "token").unwrap();
    let configuration = documents::blocks(&text, "yaml").remove(0);
    let configuration = configuration
        .replace(
            "/etc/prometheus/luat-ota-alerts.yml",
            alerts.to_str().unwrap(),
        )
        .replace("/etc/prometheus/luat-ota.token", token.to_str().unwrap());
    let file = place.root.join("prometheus.yml");
    std::fs::write(&file, configuration).unwrap();
    promtool(&["check", "config", file.to_str().unwrap()]);
}

#[test]
fn refusals_and_results_of_updates_are_counted() {
    let (bytes, place) = (noise(95, 5000), Place::new());
    place.drop_firmware("P/1.0.3/update.bin", &bytes);
    let server = Server::start_in(place, &[]);
    server.wait_until_offered(&luat("P", IMEI, "1.0.0"), &bytes);
    let operator = Operator::of(&server);
    let value = |sample: &str| {
        let text = operator.get("/metrics").text();
        let line = text.lines().find_map(|line| line.strip_prefix(sample));
        let value = line.unwrap_or_else(|| panic!("{sample} is not in\n{text}"));
        value.trim().parse::<f64>().unwrap()
    };
    assert_eq!(value("luat_ota_ready"), 1.0);
    let refused = "luat_ota_http_refusals_total{status=\"416\"}";
    let before = value(refused);
    let rest = get_with(
        &luat("P", "862991443750001", "1.0.0"),
        "Range: bytes=100-\r\n",
    );
    assert_eq!(server.http(&rest).status, 416);
    assert_eq!(value(refused), before + 1.0);
    assert_eq!(value("luat_ota_updates_total{result=\"reverted\"}"), 0.0);
    // The device installs the update and returns.
    wait_until("the device is confirmed", PATIENCE, || {
        server.get(&luat("P", IMEI, "1.0.3"));
        value("luat_ota_updates_total{result=\"confirmed\"}") == 1.0
    });
    let unavailable = "luat_ota_http_refusals_total{status=\"503\"}";
    let before = value(unavailable);
    let state = server.place().state();
    let firmware = server.place().firmware();
    let output = common::run(&[
        "drain",
        firmware.to_str().unwrap(),
        "--state",
        state.to_str().unwrap(),
    ]);
    assert!(output.status.success(), "{}", both(&output));
    assert_eq!(server.get("/readyz").status, 503);
    assert_eq!(value("luat_ota_ready"), 0.0);
    assert_eq!(value(unavailable), before);
}
