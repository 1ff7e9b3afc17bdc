//! Tests that the Chinese page contains no English except names, ids and code (see browser.rs).
#![cfg(feature = "operator")]

use crate::common;

use common::browser_session::{BrowserSession, a_busy_fleet, a_full_folder, card, each_view};
use common::documents;
use common::literals::literals;
use luat_ota::firmware::rules::Rules;
use serde_json::{Value, json};

/// Words that are names, units or keys, in addition to the keys of release.json. A word that contains a capital letter
/// after the first letter, a digit, a dot, a slash or an underscore is a name, too.
const NAMES: &[&str] = &[
    "kB",
    "luat-ota",
    "Luatools",
    "release.json",
    "code",
    "null",
    "true",
    "false",
    "bin",
    "soc",
    "Prometheus",
    "events",
    "server",
    "mv",
    "any",
    "json",
    "devices",
    "main.lua",
    "main",
    "lua",
    "operator-token",
    "read-token",
    "min",
    "Lua",
    "Unicode",
    "Windows",
    "version",
    "chmod",
    "a+r",
    "http",
    "https",
    "ota",
    "fota",
    "sota",
    "img",
    "pack",
];

/// Script that finds English in texts: words that consist of letters and are not names.
const ENGLISH: &str = "
    const english = (text) => (text.replace(/`[^`]*`|\"[^\"]*\"|\\{[^}]*\\}|X\\d/g, ' ').match(/(?<![0-9A-Za-z])[A-Za-z@][A-Za-z0-9@._+\\/-]*/g) || [])
        .filter((word) => !names.includes(word) && !names.includes(word.replace(/[.-]+$/, '')) && !/[0-9._\\/@]|^[A-Z-]+$|.[A-Z]/.test(word));";

fn names() -> Value {
    json!(NAMES.iter().chain(Rules::KEYS).collect::<Vec<_>>())
}

#[test]
fn the_chinese_page_has_no_english_words() {
    let Some(session) = BrowserSession::open("only Chinese", a_full_folder) else {
        return;
    };
    let _running = a_busy_fleet(&session.server);
    let browser = &session.browser;
    let script = format!(
        "const names = arguments[0]; {ENGLISH}
        document.querySelectorAll('details').forEach((e) => {{ e.open = true; }});
        const skip = 'code, pre, textarea, script, style, .id, .brand, #lang, #foot, h1, h2, h3, option, .who, .what, .whose, noscript, time, .file .head, .reason';
        const found = [];
        const walk = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
        while (walk.nextNode()) {{
            const e = walk.currentNode.parentElement;
            if (!e.closest(skip) || e.matches('h1, h2, h3')) found.push(...english(walk.currentNode.data).map((word) => word + ' in ' + e.tagName + ': ' + walk.currentNode.data.slice(0, 60)));
        }}
        for (const e of document.querySelectorAll('[aria-label], [title], [placeholder]')) {{
            if (e.closest(skip)) continue;
            for (const name of ['aria-label', 'title', 'placeholder']) found.push(...english(e.getAttribute(name) || '').map((word) => word + ' in ' + name));
        }}
        return found;"
    );
    let check = |what: &str| {
        let found = browser.js(&script, json!([names()]));
        assert_eq!(found, json!([]), "{what}");
    };
    browser.language("zh-CN,zh");
    for width in [390, 1440] {
        browser.size(width, 900);
        browser.open(&session.url(""));
        each_view(&session, |view| check(view));
        session.go("#/releases/ALIYUN%2F2.0.1");
        browser.wait_text(".rules .effect p", "2.0.1");
        browser.fill("#r-window", "1-5");
        browser.wait_text("#e-window", "不是时段");
        check("a release");
        for action in ["pause", "percent", "rollback", "retire"] {
            // Not a click at coordinates, because an unfolding element may still move.
            let button = format!("{} [data-key={action}]", card("ALIYUN", "2.0.1"));
            browser.js(
                "document.querySelector(arguments[0]).click()",
                json!([button]),
            );
            browser.wait_text("dialog .effect p", "2.0");
            check(action);
            browser.key('\u{E00C}');
        }
    }
}

/// Parts of sentences, and texts that the page does not show.
const PARTS: &[&str] = &[
    "newer than",
    "the same as",
    "not newer than",
    "newer, but for a core",
    "{} is {word} {running}",
    "refused: {",
    "; older ones are not",
    "another file",
    "the last valid rules stay",
    "its releases are not offered until it can be read",
    "{error} ({consequence})",
    "{path}: {error}",
    "{}: {why}",
    "`{key}`: {why}",
    "`{key}`: {}",
    "`{shown}` {why}",
    "is too long: at most",
    "has a space or a letter",
    "has an unpaired brace",
    "names no host",
    "has a name in braces",
    "has no path",
    "begins neither",
    "it was cut off, copy",
    "something was added to it",
    " package",
    "luat-ota pack {}",
    "System Volume",
    "hexadecimal digits",
    "luat-ota other",
    "luat-ota cohort",
    ", version {text}",
    "must begin with",
    "offset from UTC",
    "{why}: its releases",
    "with http:// or",
    "names `@{name}`",
    "and @{name}.txt",
    "and there is no file @{name}",
    "`{entry}` in",
    // Texts that the page does not show: output of the command line, and replies to requests of other clients.
    "{text} ({refused})",
    "the file is too large for it",
    "{} is now {}",
    "rules: ",
    ", sha256 {content}",
    "an upload was",
    "a package was made",
    "attachment; ",
    "this path takes",
    "has no rules of its own",
    "send If-Match with",
    "Bearer error",
    "HTTP/1.1 100 Continue",
    "GET, HEAD",
    "send the file's length",
    "is it variadic",
    "only {window}",
    "{new}",
    "conflicted copy",
    "no request: give",
    // Parts of sentences on .soc files.
    "no package of the vendor",
    "a closed method",
    "air101_flash",
    "is always the whole core",
    "old ESP32 cores",
    "its layout is not",
    "this chip is not",
    "has no name",
    "has a folder in its name",
    "the name of the checksum",
    "appears twice",
    "the header of",
    "the MD5 of",
    "a hexadecimal",
    "a number of KiB",
    "a file in the archive",
    "the type of a chip",
    "points outside",
    "a control character in its name",
    "its first bytes",
    "its table of contents",
    "the table of contents",
    "its packed data",
    "properties of",
    "LZMA data",
    "its directory",
];

/// Files of these folders whose texts the page does not show: metrics, the form of the event stream, packages for the
/// command line, and errors that only a client other than a browser can get.
const NOT_SHOWN: &[&str] = &[
    "metrics.rs",
    "events.rs",
    "pages.rs",
    "pack/show.rs",
    "operator/connection.rs",
];

/// Every sentence about a check, a file, rules or a request of the page has a Chinese text. The page shows the string
/// literals of these modules.
#[test]
fn every_reason_has_a_chinese_text() {
    let Some(session) = BrowserSession::open("Chinese reasons", |_| {}) else {
        return;
    };
    let folders = [
        "src/decision/",
        "src/firmware/name/",
        "src/firmware/package/",
        "src/firmware/scan/",
        "src/firmware/catalog/",
        "src/firmware/receive/",
        "src/firmware/rules/edit/",
        "src/firmware/rules/read.rs",
        "src/firmware/rules/redirect.rs",
        "src/firmware/rules/time.rs",
        "src/firmware/audience/set.rs",
        "src/firmware/json.rs",
        "src/firmware/plain.rs",
        "src/explain.rs",
        "src/operator/access/mod.rs",
        "src/operator/api/",
        "src/operator/blocking.rs",
        "src/operator/body.rs",
        "src/operator/connection.rs",
        "src/operator/route.rs",
        "src/pack/",
    ];
    let root = std::path::Path::new(documents::ROOT);
    let mut texts = Vec::new();
    for file in common::files_under(&root.join("src")) {
        let name = format!("src/{file}");
        let is_shown = folders.iter().any(|folder| name.starts_with(folder));
        if !is_shown
            || !name.ends_with(".rs")
            || name.contains("tests")
            || name.ends_with("refusal.rs")
            || NOT_SHOWN.iter().any(|file| name.ends_with(file))
        {
            continue;
        }
        let source = documents::read(&name);
        let source = source.split("#[cfg(test)]\nmod tests {").next().unwrap();
        for (line, text) in literals(source, &['"']) {
            let is_part = PARTS.iter().any(|part| text.contains(part));
            if text.contains(' ') && text.len() > 8 && !is_part {
                texts.push(json!([format!("{name}:{line}"), text]));
            }
        }
    }
    assert!(texts.len() > 100, "{}", texts.len());
    let script = format!(
        "const [names, texts] = arguments; {ENGLISH}
        return import('/base.js').then((page) => {{
            page.setLang('zh');
            const sample = (text) => text.replace(/\\{{\\{{|\\}}\\}}/g, '`').replace(/\\{{[^}}]*\\}}/g, '7').replace(/\\\\\"/g, '\"');
            const shown = (text) => page.said(text).textContent;
            return texts.map(([at, text]) => [at, sample(text)]).filter(([, text]) => !/[\\u4e00-\\u9fff]/.test(shown(text)) || english(shown(text)).length)
                .map(([at, text]) => at + ': ' + text + ' -> ' + shown(text));
        }});"
    );
    let missing = session.browser.js(&script, json!([names(), texts]));
    let missing: Vec<&str> = missing
        .as_array()
        .unwrap()
        .iter()
        .filter_map(Value::as_str)
        .collect();
    assert!(
        missing.is_empty(),
        "{}:\n{}",
        missing.len(),
        missing.join("\n")
    );
}
