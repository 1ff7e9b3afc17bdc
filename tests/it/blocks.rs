//! Promise: every command and every configuration in a document is run by a test, or the document states why not.
//!
//! CONTRIBUTING.md has the convention. readme.rs runs `console` blocks, docs.rs reads `json` blocks as
//! `release.json`, and the syntax of `lua` blocks is checked here.
#![cfg(all(feature = "lab", feature = "operator"))]

use crate::common;

use std::io::Write;
use std::path::Path;
use std::process::{Command, Stdio};

use common::Rows;
use common::documents::{self, Block, Mark, ROOT};

/// Programs that a document tells its reader to run. A block without a language shows a command if a
/// line begins with one of these programs.
const PROGRAMS: &[&str] = &[
    "$",
    "adb",
    "apk",
    "apt",
    "apt-get",
    "caddy",
    "cargo",
    "cat",
    "certbot",
    "chmod",
    "chown",
    "cp",
    "curl",
    "cmake",
    "docker",
    "docker-compose",
    "dpkg",
    "echo",
    "export",
    "firewall-cmd",
    "git",
    "install",
    "iptables",
    "journalctl",
    "ln",
    "luat-ota",
    "make",
    "mkdir",
    "mount",
    "mv",
    "net",
    "netsh",
    "nft",
    "nginx",
    "npm",
    "opkg",
    "pip",
    "pip3",
    "podman",
    "powershell",
    "python3",
    "rm",
    "rsync",
    "scp",
    "sed",
    "service",
    "sha256sum",
    "ssh",
    "sudo",
    "systemctl",
    "tail",
    "tar",
    "tee",
    "ufw",
    "uci",
    "wget",
    "winget",
    "wsl",
    "wsl.exe",
];

/// Programs that start the scripts that documents name. `cargo test` starts the tests in `tests/`.
const STARTERS: &[&str] = &[
    ".ci/run",
    "packaging/test.sh",
    "packaging/release.sh",
    "tools/quality.sh",
    ".github/workflows/ci.yml",
];

/// The line that makes a block a command.
fn command(block: &Block) -> Option<&str> {
    block.text.lines().find(|line| {
        let line = line.trim_start();
        // An assignment before the program: `NAME=value program`.
        let setting = |word: &&str| {
            word.split_once('=').is_some_and(|(name, _)| {
                !name.is_empty() && name.chars().all(|c| c.is_ascii_uppercase() || c == '_')
            })
        };
        let word = line
            .split(' ')
            .find(|word| !setting(word))
            .unwrap_or_default();
        let folders = ["./", ".ci/", "benches/", "packaging/", "tools/"];
        let script = word.contains(|c: char| c.is_ascii_alphanumeric())
            && folders.iter().any(|folder| word.starts_with(folder));
        PROGRAMS.contains(&word) || script
    })
}

/// Checks that a script or test reads the block out of the document, or contains all of its lines.
fn runs(file: &str, document: &str, block: &Block) -> Result<(), String> {
    let code = std::fs::read_to_string(Path::new(ROOT).join(file))
        .map_err(|error| format!("{file}: {error}"))?;
    let comment = |line: &str| {
        ["#", "//"]
            .iter()
            .any(|start| line.trim_start().starts_with(start))
    };
    let code: Vec<&str> = code.lines().filter(|line| !comment(line)).collect();
    let name = Path::new(document).file_name().unwrap().to_str().unwrap();
    let has = |text: &str| code.iter().any(|line| line.contains(text));
    if !has(name) && !block.text.lines().all(|line| has(line.trim())) {
        return Err(format!("{file} does not read {name}"));
    }
    let script = Path::new(file).file_name().unwrap().to_str().unwrap();
    let started = file.starts_with("tests/")
        || STARTERS
            .iter()
            .any(|starter| *starter == file || documents::read(starter).contains(script));
    started
        .then_some(())
        .ok_or(format!("nothing starts {file}: one of {STARTERS:?} must"))
}

/// Checks that the block is run, or that the document states why not.
fn judge(document: &str, block: &Block) -> Result<(), String> {
    match (&block.mark, block.language.as_deref()) {
        (Some(Mark::NotRun(reason)), _) if reason.split_whitespace().count() < 2 => {
            Err("states no reason".to_owned())
        }
        (Some(Mark::NotRun(_)), _) => Ok(()),
        (Some(Mark::RunBy(file)), _) => runs(file, document, block),
        (None, Some("console" | "json" | "lua")) => Ok(()),
        (None, None | Some("text")) => match command(block) {
            Some(line) => Err(format!(
                "`{line}` is a command: make it a console block that runs, or mark it"
            )),
            None => Ok(()),
        },
        (None, Some("")) => Err("has no language; `text` is for what nobody types".to_owned()),
        (None, Some(language)) => Err(format!(
            "no test runs {language}: mark it with `not run: REASON` or `run by FILE`"
        )),
    }
}

#[test]
fn every_command_block_is_run_by_a_test_or_states_the_reason_why_not() {
    let mut rows = Rows::default();
    for (name, text) in documents::documents() {
        let (blocks, stray) = documents::code_blocks(&text);
        for line in stray {
            let result = Err("a mark stands on one line, before its block".to_owned());
            rows.row(&format!("{name}:{line}"), result);
        }
        for block in &blocks {
            rows.row(&format!("{name}:{}", block.line), judge(&name, block));
        }
    }
    rows.finish();
}

#[test]
fn the_rule_for_blocks_detects_violations() {
    let judged = |text: &str| {
        let (blocks, stray) = documents::code_blocks(text);
        let mut found: Vec<String> = stray.iter().map(|line| format!("{line}: stray")).collect();
        let bad = blocks
            .iter()
            .filter(|block| judge("docs/proxies.md", block).is_err());
        found.extend(bad.map(|block| block.line.to_string()));
        found.join(" ")
    };
    let proxy = documents::blocks(&documents::read("docs/proxies.md"), "caddyfile").remove(0);
    for (text, bad) in [
        ("text\n\n    firmware/P/1.0.0\n", ""),
        ("text\n\n    sudo reboot\n", "3"),
        ("text\n\n    A=1 cargo test\n", "3"),
        ("text\n    continued: sudo reboot\n", ""),
        ("- item\n\n  ```sh\n  ls\n  ```\n", "3"),
        ("- item\n\n    cp is a paragraph of the item\n", ""),
        ("1. item\n\n       cp a b\n", "3"),
        (
            "<!-- not run: needs root -->\n    sudo reboot\n\n    sudo halt\n",
            "",
        ),
        (
            "<!-- not run: needs root -->\n    sudo reboot\n\ntext\n\n    sudo halt\n",
            "6",
        ),
        (
            "<!-- not run: needs root -->\n\n```sh\nsudo reboot\n```\n",
            "",
        ),
        ("<!-- not run: -->\n```sh\nsudo reboot\n```\n", "2"),
        ("<!-- not run: needs root -->\ntext\n", "1: stray"),
        (
            "<!-- not run: needs\nroot -->\n```sh\nls\n```\n",
            "1: stray 3",
        ),
        ("```\nls\n```\n", "1"),
        ("```text\n$ ls\n```\n", "1"),
        ("```yaml\na: 1\n```\n", "1"),
        (
            "<!-- run by tests/it/none.rs -->\n```yaml\na: 1\n```\n",
            "2",
        ),
        (
            "<!-- run by tests/it/udp.rs -->\n```yaml\nno such line\n```\n",
            "2",
        ),
        (
            "<!-- run by tools/msrv.py -->\n```yaml\nimport sys\n```\n",
            "",
        ),
        (
            "<!-- run by tests/footprint.sh -->\n```sh\nset -euo pipefail\n```\n",
            "",
        ),
        (
            &format!("<!-- run by tests/it/proxies.rs -->\n```caddyfile\n{proxy}```\n"),
            "",
        ),
    ] {
        assert_eq!(judged(text), bad, "{text}");
    }
}

/// Parses Lua, either statements or an expression. `None` if no parser is installed.
fn parses(code: &str) -> Option<Result<(), String>> {
    let check = |code: &str| {
        let mut child = Command::new("luac5.3")
            .args(["-p", "-"])
            .stdin(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .ok()?;
        child.stdin.take()?.write_all(code.as_bytes()).ok()?;
        let output = child.wait_with_output().ok()?;
        let message = String::from_utf8_lossy(&output.stderr).into_owned();
        Some(output.status.success().then_some(()).ok_or(message))
    };
    let statements = check(code)?;
    Some(statements.or_else(|message| {
        let expression = check(&format!("return {code}"));
        expression.unwrap_or(Ok(())).map_err(|_| message)
    }))
}

#[test]
fn every_lua_example_parses() {
    if parses("").is_none() {
        assert!(std::env::var("CI").is_err(), "apt-get install lua5.3");
        eprintln!("skipped: no luac5.3 (apt-get install lua5.3)");
        return;
    }
    assert!(parses("if then").unwrap().is_err());
    let mut rows = Rows::default();
    for (name, text) in documents::documents() {
        for code in documents::unmarked(&text, "lua") {
            rows.row(&format!("{name}: {code}"), parses(&code).unwrap());
        }
    }
    rows.finish();
}
