//! Accessibility checks of the page with axe-core (npm, tools/axe) in a real browser (see browser.rs). If npm or the
//! package is not available, the test reports that it was skipped.
#![cfg(feature = "operator")]

use crate::common;

use std::io::Write;
use std::path::Path;
use std::process::{Command, Stdio};

use common::browser_session::{BrowserSession, a_busy_fleet, a_full_folder, card, each_view};
use serde_json::json;

/// The source code of axe-core.
fn axe() -> Option<String> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("tools/axe");
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join("axe");
    let file = folder.join("node_modules/axe-core/axe.min.js");
    if !file.exists() {
        std::fs::create_dir_all(&folder).unwrap();
        for name in ["package.json", "package-lock.json"] {
            std::fs::copy(root.join(name), folder.join(name)).unwrap();
        }
        let npm = Command::new("npm")
            .args(["ci", "--silent", "--ignore-scripts", "--prefix"])
            .arg(&folder)
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .status();
        if !npm.is_ok_and(|status| status.success()) {
            let line = b"skipped: axe: npm cannot install axe-core here\n";
            let _ = std::io::stderr().write_all(line);
            return None;
        }
    }
    Some(std::fs::read_to_string(file).unwrap())
}

/// Script that returns the violated rules, each with its elements.
const VIOLATIONS: &str = "
    const heard = await axe.run(document, { resultTypes: ['violations'] });
    return heard.violations.map((rule) => rule.id + ': ' + rule.help + ': ' + rule.nodes.map((node) => node.target.join(' ') + ' ' + node.html.slice(0, 80) + ' ' + node.failureSummary.slice(0, 200)).join(' | '));";

#[test]
fn axe_reports_no_violation_on_any_view() {
    let Some(axe) = axe() else {
        return;
    };
    let Some(session) = BrowserSession::open("axe", a_full_folder) else {
        return;
    };
    let _running = a_busy_fleet(&session.server);
    let browser = &session.browser;
    let check = |what: &str| {
        let load = format!("if (!window.axe) {{ {axe} }}");
        browser.js(&load, json!([]));
        let found = browser.js(
            &format!("return (async () => {{ {VIOLATIONS} }})()"),
            json!([]),
        );
        assert_eq!(found, json!([]), "{what}");
    };
    for (width, scheme, language) in [
        (390, "light", "en-GB,en"),
        (390, "dark", "zh-CN,zh"),
        (1440, "dark", "en-GB,en"),
        (1440, "light", "zh-CN,zh"),
    ] {
        browser.size(width, 900);
        browser.scheme(scheme);
        browser.language(language);
        browser.open(&session.url(""));
        each_view(&session, |view| {
            check(&format!("{view}, {width}, {scheme}"))
        });
        session.go("#/releases/ALIYUN%2F2.0.1");
        browser.wait_text(".rules .effect p", "2.0.1");
        check(&format!("a release, {width}, {scheme}"));
        for action in ["pause", "percent", "rollback", "retire"] {
            let button = format!("{} [data-key={action}]", card("ALIYUN", "2.0.1"));
            browser.click(&button);
            browser.wait_text("dialog .effect p", "2.0");
            check(&format!("{action}, {width}, {scheme}"));
            browser.key('\u{E00C}');
        }
    }
    session.assert_console_empty();
}

#[test]
fn a_wide_screen_shows_releases_as_a_table() {
    let Some(session) = BrowserSession::open("a table", a_full_folder) else {
        return;
    };
    let _running = a_busy_fleet(&session.server);
    let browser = &session.browser;
    browser.size(1440, 900);
    browser.wait_text("table th[scope=row]", "2.0.2");
    let cards = "return document.querySelectorAll('.cards > article').length";
    assert_eq!(browser.js(cards, json!([])), 0);
    // The page shows the same numbers as the API.
    let numbers = "
        const reply = await fetch('/api/v1/releases?limit=500', { headers: { Authorization: 'Bearer ' + sessionStorage.getItem('luat-ota.token') } });
        const { releases } = await reply.json();
        const states = ['confirmed', 'waiting', 'delivered', 'sent', 'downloading', 'offered', 'silent', 'reverted'];
        const rows = [...document.querySelectorAll('.wide-table tbody tr')].map((row) => [...row.querySelectorAll('.n')].map((cell) => cell.textContent).join(' ')).sort();
        const wanted = releases.map((release) => [...states.map((state) => release.counts[state]), release.devices].join(' ')).sort();
        return JSON.stringify(rows) === JSON.stringify(wanted);";
    let same = format!("return (async () => {{ {numbers} }})()");
    browser.wait("the table shows the numbers of the API", &same, json!([]));
    let wide = "return document.documentElement.scrollWidth <= 1440";
    assert_eq!(browser.js(wide, json!([])), true);
    browser.click("tr[data-drop*='\"2.0.1\"'] [data-key=pause]");
    browser.wait_text("dialog", "Pause ALIYUN 2.0.1?");
    browser.click("dialog [type=submit]");
    browser.wait_text("tr[data-drop*='\"2.0.1\"']", "Paused");
    browser.click("tr[data-drop*='\"2.0.1\"'] [data-key=page]");
    browser.wait_text("h1", "ALIYUN 2.0.1");
    session.go("#/releases");
    browser.wait_text("table th[scope=row]", "2.0.2");
    browser.size(1000, 900);
    browser.wait_text(&card("ALIYUN", "2.0.2"), "2.0.2");
    session.assert_console_empty();
}
