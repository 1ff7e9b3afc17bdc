//! Promise: what the README tells a new user works as it stands, in both languages, and it leaves out
//! no flag and no rule.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing)]
#![allow(missing_docs)]

mod common;

use std::path::Path;

use common::{IMEI, Place, Rows, Server, both, flags_in_help, luat, run};

const ROOT: &str = env!("CARGO_MANIFEST_DIR");

fn readmes() -> [(&'static str, String); 2] {
    ["README.md", "README.zh-CN.md"].map(|name| {
        let text = std::fs::read_to_string(Path::new(ROOT).join(name)).unwrap();
        (name, text)
    })
}

/// The repository's sample in a folder of our own.
fn sample() -> Place {
    let place = Place::new();
    let from = Path::new(ROOT).join("firmware");
    for file in common::files_under(&from) {
        if !file.starts_with('.') {
            std::fs::copy(from.join(&file), place.path(&file)).unwrap();
        }
    }
    place
}

#[test]
fn the_curl_line_works_on_the_sample_as_it_stands() {
    let place = sample();
    let output = run(&["check", place.firmware().to_str().unwrap()]);
    assert!(output.status.success(), "{}", both(&output));
    let files = common::files_under(&place.firmware());
    let bytes: Vec<Vec<u8>> = files
        .iter()
        .filter(|file| file.ends_with(".bin"))
        .map(|file| std::fs::read(place.firmware().join(file)).unwrap())
        .collect();
    let server = Server::start_in(place, &[]);
    for (name, text) in readmes() {
        let target = text
            .lines()
            .find_map(|line| line.trim().strip_prefix("curl 'http://127.0.0.1:8080"))
            .and_then(|rest| rest.split('\'').next())
            .unwrap_or_else(|| panic!("{name} has no curl line"));
        let reply = server
            .wait_for_reply(&common::get(target), common::PATIENCE, |reply| {
                reply.status == 200
            })
            .unwrap_or_else(|error| panic!("{name}: {error}"));
        assert!(bytes.contains(&reply.body), "{name}: {}", reply.head);
    }
}

#[test]
fn the_sample_is_for_no_real_module() {
    let server = Server::start_in(sample(), &[]);
    let (_, text) = &readmes()[0];
    let line = text
        .lines()
        .find(|line| line.contains("curl 'http"))
        .unwrap();
    let after = line.split("firmware_name=").nth(1).unwrap();
    let project = after.split("_Luat_").next().unwrap();
    server.wait_until_refused(&luat(project, IMEI, "0.0.1"), 403, 21);
    server.wait_until_refused(&luat(project, "", "0.0.1"), 403, 21);
}

#[test]
fn every_flag_and_every_rule_is_in_both_readmes() {
    let mut rows = Rows::default();
    let mut flags: Vec<String> = flags_in_help().into_iter().map(|(flag, _)| flag).collect();
    flags.sort();
    flags.dedup();
    assert!(flags.len() > 10, "{flags:?}");
    let rules = [
        "paused",
        "percent",
        "allow",
        "deny",
        "from",
        "firmware_name",
        "base_core",
        "not_before",
        "window",
        "project_key",
        "redirect",
        "direct",
        "allow_downgrade",
        "any_version",
        "any_core",
        "fuse",
    ];
    for (name, text) in readmes() {
        for flag in &flags {
            let known = text.contains(flag.as_str()) || matches!(flag.as_str(), "--help");
            rows.row(
                &format!("{name}: {flag}"),
                known.then_some(()).ok_or_else(|| "missing".to_owned()),
            );
        }
        for rule in rules {
            rows.row(
                &format!("{name}: {rule}"),
                text.contains(rule)
                    .then_some(())
                    .ok_or_else(|| "missing".to_owned()),
            );
        }
    }
    rows.finish();
}
