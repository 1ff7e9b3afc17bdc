//! Promise: the documents are true where a program can check them: they omit no flag, no rule and no code, the program
//! accepts their examples and contains the log lines that they explain, and no link is dead.
#![cfg(all(feature = "lab", feature = "operator"))]

use crate::common;

use std::collections::HashMap;
use std::path::Path;

use common::documents::{self, ROOT};
use common::{Place, Rows, both, run};
use luat_ota::decision::Refusal;
use luat_ota::firmware::rules::Rules;

/// A flag as the help of its command shows it.
#[derive(Debug)]
struct Flag {
    name: String,
    default: Option<String>,
    twin: String,
}

/// The flags in the help of a command.
fn flags(command: &str) -> Vec<Flag> {
    let help = both(&run(&[command, "--help"]));
    let mut flags: Vec<Flag> = Vec::new();
    for line in help.lines() {
        let long = line.strip_prefix("  --");
        // Short forms such as `-o, --output PATH`. The lines of help and version have their text on the same line.
        let after_short = || {
            line.strip_prefix("  -")?
                .get(1..)?
                .strip_prefix(", --")
                .filter(|rest| !rest.contains("  "))
        };
        if let Some(rest) = long.or_else(after_short) {
            let name = rest.split_whitespace().next().unwrap();
            flags.push(Flag {
                name: format!("--{name}"),
                default: None,
                twin: String::new(),
            });
        }
        let (Some(flag), true) = (flags.last_mut(), line.starts_with("     ")) else {
            continue;
        };
        if let Some((_, rest)) = line.split_once("[default: ") {
            // A default may contain brackets: [::]:8080.
            let end = rest
                .find("] [env")
                .unwrap_or(rest.rfind(']').unwrap_or(rest.len()));
            flag.default = Some(rest[..end].to_owned());
        }
        if let Some((_, rest)) = line.split_once("[env: ") {
            flag.twin = rest.trim_end_matches(']').to_owned();
        }
    }
    flags
}

/// The table row whose first cell contains this flag or key.
fn row<'t>(text: &'t str, of: &str) -> Option<&'t str> {
    text.lines().find(|line| {
        let cell = line
            .strip_prefix("| ")
            .and_then(|rest| rest.split(" | ").next());
        cell.is_some_and(|cell| {
            let words = |c: char| c == '`' || c == ' ' || c == '、' || c == ',';
            cell.split(words).any(|word| word == of)
        })
    })
}

#[test]
fn every_flag_is_in_the_reference_with_its_default_and_its_twin_follows() {
    let mut rows = Rows::default();
    for command in [
        "serve", "check", "explain", "devices", "lift", "resume", "drain", "pack", "health",
        "probe", "simulate",
    ] {
        let lab = matches!(command, "probe" | "simulate");
        let page = if lab { "probe.md" } else { "reference.md" };
        let flags = flags(command);
        assert!(
            command == "check" || !flags.is_empty(),
            "{command}: {flags:?}"
        );
        for flag in flags {
            let of = match command {
                "pack" => "PACK_",
                "probe" => "PROBE_",
                "simulate" => "SIMULATE_",
                _ => "",
            };
            let bare = flag
                .name
                .trim_start_matches('-')
                .replace('-', "_")
                .to_uppercase();
            let twin = format!("LUAT_OTA_{of}{bare}");
            let result = (flag.twin == twin).then_some(());
            rows.row(
                &format!("{command} {}", flag.name),
                result.ok_or(format!("its twin is {}, not {twin}", flag.twin)),
            );
            for folder in ["docs", "docs/zh-CN"] {
                let name = format!("{folder}/{page}");
                let text = documents::read(&name);
                let result = match (row(&text, &flag.name), &flag.default) {
                    (None, _) => Err("has no row".to_owned()),
                    // A default that is a value is the same in the help. A description may use other words.
                    (Some(row), Some(default))
                        if !default.contains(' ')
                            && default != "none"
                            && !row.contains(default) =>
                    {
                        Err(format!("the default is {default}, not as in {row}"))
                    }
                    _ => Ok(()),
                };
                rows.row(&format!("{name}: {command} {}", flag.name), result);
            }
        }
    }
    rows.finish();
}

#[test]
fn every_rule_is_in_the_rules() {
    let keys = Rules::KEYS;
    assert!(keys.len() >= 16, "{keys:?}");
    let mut rows = Rows::default();
    for name in ["docs/rules.md", "docs/zh-CN/rules.md"] {
        let text = documents::read(name);
        for key in keys {
            let result = row(&text, key).map(|_| ());
            rows.row(
                &format!("{name}: {key}"),
                result.ok_or("has no row".to_owned()),
            );
        }
    }
    rows.finish();
}

#[test]
fn every_route_is_in_the_document_of_the_page() {
    let described = documents::read("src/operator/openapi.json");
    let described: serde_json::Value = serde_json::from_str(&described).unwrap();
    let paths = described["paths"].as_object().unwrap();
    assert!(paths.len() > 15);
    let mut rows = Rows::default();
    for name in ["docs/operator.md", "docs/zh-CN/operator.md"] {
        let text = documents::read(name);
        for (path, methods) in paths {
            for method in methods.as_object().unwrap().keys() {
                let route = format!("`{} {path}`", method.to_uppercase());
                let result = text.contains(&route).then_some(());
                rows.row(
                    &format!("{name}: {route}"),
                    result.ok_or("missing".to_owned()),
                );
            }
        }
    }
    rows.finish();
}

#[test]
fn every_json_example_is_a_valid_release_json() {
    let mut rows = Rows::default();
    let mut count = 0;
    for (name, text) in documents::documents() {
        for block in documents::unmarked(&text, "json") {
            let place = Place::new();
            place.drop_firmware("P/1.0.0/update.bin", &common::packages::noise(1, 3000));
            place.drop_firmware("P/1.0.0/release.json", block.as_bytes());
            let output = run(&["check", place.firmware().to_str().unwrap()]);
            let result = match output.status.success() {
                true => Ok(()),
                false => Err(both(&output)),
            };
            rows.row(&format!("{name}: {block}"), result);
            count += 1;
        }
    }
    assert!(count >= 10, "{count}");
    rows.finish();
}

#[test]
fn every_code_is_in_the_troubleshooting() {
    let said: Vec<(String, String)> = Refusal::ALL
        .into_iter()
        .filter_map(|refusal| {
            let wording = refusal.wording();
            let (code, message) = wording.body?;
            Some((format!("{}_{code}", wording.status), message.to_owned()))
        })
        .collect();
    assert!(said.len() >= 8, "{said:?}");
    let mut rows = Rows::default();
    for name in ["docs/troubleshooting.md", "docs/zh-CN/troubleshooting.md"] {
        let text = documents::read(name).replace(", ", "_").replace('，', "_");
        for (codes, words) in &said {
            let cell = format!("| {codes} {words} |");
            let result = text.contains(&cell).then_some(());
            rows.row(
                &format!("{name}: {cell}"),
                result.ok_or("missing".to_owned()),
            );
        }
    }
    rows.finish();
}

#[test]
fn every_explained_log_line_is_one_of_the_program() {
    let source = Path::new(ROOT).join("src");
    let program: String = common::files_under(&source)
        .iter()
        .filter(|file| file.ends_with(".rs"))
        .map(|file| std::fs::read_to_string(source.join(file)).unwrap())
        .collect();
    // A text that spans several lines of source code is one line of the log.
    let mut joined = String::new();
    for part in program.split("\\\n") {
        match joined.is_empty() {
            true => joined.push_str(part),
            false => joined.push_str(part.trim_start()),
        }
    }
    let mut rows = Rows::default();
    for (name, title) in [
        ("docs/troubleshooting.md", "## The server's log says"),
        ("docs/zh-CN/troubleshooting.md", "## 服务器日志里的提示"),
    ] {
        let text = documents::read(name);
        let table = text
            .split(title)
            .nth(1)
            .unwrap()
            .split("\n## ")
            .next()
            .unwrap();
        let mut count = 0;
        for line in table.lines().filter(|line| line.starts_with("| `")) {
            let words = line.split('`').nth(1).unwrap();
            for part in words
                .split('…')
                .map(str::trim)
                .filter(|part| !part.is_empty())
            {
                let result = joined.contains(part).then_some(());
                rows.row(
                    &format!("{name}: {words}"),
                    result.ok_or(format!("nowhere: {part}")),
                );
            }
            count += 1;
        }
        assert!(count >= 10, "{name}: {count}");
    }
    rows.finish();
}

#[test]
fn no_link_between_documents_is_dead() {
    let documents: HashMap<String, String> = documents::documents().into_iter().collect();
    let mut rows = Rows::default();
    let mut count = 0;
    for (name, text) in &documents {
        let prose = documents::prose(text);
        for link in prose
            .split("](")
            .skip(1)
            .filter_map(|rest| rest.split(')').next())
        {
            if link.contains("://") {
                continue;
            }
            count += 1;
            let fragment = link.split_once('#').map_or("", |(_, fragment)| fragment);
            let target = documents::resolve(name, link);
            let result = if !Path::new(ROOT).join(&target).exists() {
                Err(format!("no such file: {target}"))
            } else if fragment.is_empty() {
                Ok(())
            } else {
                let text = documents.get(&target).map(|text| documents::prose(text));
                let found = text.unwrap_or_default().lines().any(|line| {
                    line.starts_with('#')
                        && documents::anchor(line.trim_start_matches('#')) == fragment
                });
                found
                    .then_some(())
                    .ok_or(format!("no such heading: {fragment}"))
            };
            rows.row(&format!("{name}: {link}"), result);
        }
    }
    assert!(count > 50, "{count}");
    rows.finish();
}

#[test]
fn every_page_is_in_the_sites_table_of_contents_in_the_same_order() {
    let listed = |name: &str| -> Vec<String> {
        let text = documents::read(&format!("packaging/site/{name}"));
        let links = text.split("](").skip(1);
        let pages = links.filter_map(|rest| rest.split(')').next());
        let pages: Vec<String> = pages.map(str::to_owned).collect();
        let twice = (1..pages.len()).find(|&at| pages[..at].contains(&pages[at]));
        assert!(
            twice.is_none(),
            "{name} has a page twice: {twice:?} of {pages:?}"
        );
        pages
    };
    let (english, chinese) = (listed("SUMMARY.md"), listed("SUMMARY.zh-CN.md"));
    let mut rows = Rows::default();
    for (name, _) in documents::documents() {
        let Some(page) = name.strip_prefix("docs/") else {
            continue;
        };
        let found = match page.strip_prefix("zh-CN/") {
            Some(page) => chinese.iter().any(|listed| listed == page),
            None => english.iter().any(|listed| listed == page),
        };
        let result = found.then_some(());
        rows.row(
            &name,
            result.ok_or("add it to packaging/site/SUMMARY*.md".to_owned()),
        );
    }
    rows.finish();
    let both: Vec<&String> = english.iter().filter(|p| chinese.contains(p)).collect();
    assert_eq!(both, chinese.iter().collect::<Vec<_>>());
}

#[test]
fn the_readmes_name_the_least_rust_of_the_manifest() {
    let manifest = documents::read("Cargo.toml");
    let version = manifest.split("rust-version = \"").nth(1).unwrap();
    let version = version.split('"').next().unwrap();
    for name in ["README.md", "README.zh-CN.md"] {
        let text = documents::read(name);
        assert!(
            text.contains(&format!("Rust {version} ")),
            "{name}: {version}"
        );
    }
}

#[test]
fn the_readmes_have_the_command_that_runs_all_tests() {
    let script = documents::read(".ci/run");
    let after = script
        .split("== tests (the command of the README)'\n")
        .nth(1);
    let command = after.unwrap().lines().next().unwrap();
    for name in ["README.md", "README.zh-CN.md", "CONTRIBUTING.md"] {
        let text = documents::read(name);
        assert!(text.contains(&format!("`{command}`")), "{name}: {command}");
    }
}
