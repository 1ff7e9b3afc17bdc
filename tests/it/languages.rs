//! Promise: both languages of a document agree part by part: headings, paragraphs, items, rows and blocks are in the
//! same order, each with the same code, links, images, numbers and units.
#![cfg(all(feature = "lab", feature = "operator"))]

use crate::common;

use std::collections::HashMap;

use common::Rows;
use common::documents;
use common::parts::{Kind, Part, cells, links, parts, spans};

/// Documents for developers of the program, and the glossary, which has both languages on one page.
pub const ENGLISH_ONLY: [&str; 8] = [
    "docs/architecture.md",
    "docs/cases.md",
    "docs/decision.md",
    "docs/decisions.md",
    "docs/glossary.md",
    "docs/hazards.md",
    "docs/performance.md",
    "docs/protocol.md",
];

/// The symbol of each unit that a text may write as a word. A longer word is before its own beginning.
const UNITS: [(&str, &str); 22] = [
    ("milliseconds", "ms"),
    ("毫秒", "ms"),
    ("seconds", "s"),
    ("second", "s"),
    ("秒", "s"),
    ("minutes", "min"),
    ("minute", "min"),
    ("分钟", "min"),
    ("hours", "h"),
    ("hour", "h"),
    ("小时", "h"),
    ("days", "d"),
    ("day", "d"),
    ("天", "d"),
    ("bytes", "B"),
    ("byte", "B"),
    ("字节", "B"),
    ("bits", "bit"),
    ("bit", "bit"),
    ("位", "bit"),
    ("months", "month"),
    ("个月", "month"),
];

/// Units that both languages write as symbols.
const SYMBOLS: [&str; 14] = [
    "%", "MiB", "KiB", "GiB", "MB", "KB", "kB", "GB", "B", "ms", "µs", "s", "min", "h",
];

const MONTHS: [&str; 12] = [
    "January",
    "February",
    "March",
    "April",
    "May",
    "June",
    "July",
    "August",
    "September",
    "October",
    "November",
    "December",
];

/// The numbers that a text may write as words. One is omitted, because English has "an hour" and "daily" for it.
const WORDS: [(&str, &str, u8); 10] = [
    ("two", "二", 2),
    ("two", "两", 2),
    ("three", "三", 3),
    ("four", "四", 4),
    ("five", "五", 5),
    ("six", "六", 6),
    ("seven", "七", 7),
    ("eight", "八", 8),
    ("nine", "九", 9),
    ("ten", "十", 10),
];

/// All documents by name.
pub type Pages = HashMap<String, String>;

pub fn pages() -> Pages {
    documents::documents().into_iter().collect()
}

/// The name that the Chinese edition of a document has or would have.
fn chinese_of(name: &str) -> Option<String> {
    if let Some(folder) = name.strip_suffix("README.md") {
        return Some(format!("{folder}README.zh-CN.md"));
    }
    let page = name.strip_prefix("docs/")?;
    (!page.starts_with("zh-CN/")).then(|| format!("docs/zh-CN/{page}"))
}

/// Names of the documents that exist in both languages.
pub fn pairs(pages: &Pages) -> Vec<(String, String)> {
    let both = |name: &String| Some((name.clone(), chinese_of(name)?));
    let mut pairs: Vec<(String, String)> = pages.keys().filter_map(both).collect();
    pairs.retain(|(_, chinese)| pages.contains_key(chinese));
    pairs.sort();
    pairs
}

/// The target of a link in a form that both languages share: the English edition, and the number of its heading.
fn target(pages: &Pages, document: &str, link: &str) -> String {
    if link.contains("://") {
        return link.to_owned();
    }
    let path = documents::resolve(document, link);
    let heading = match (link.split_once('#'), pages.get(&path)) {
        (Some((_, fragment)), Some(text)) => {
            let headings = parts(text).into_iter();
            let mut headings = headings.filter(|part| matches!(part.kind, Kind::Heading(_)));
            let at = headings.position(|part| documents::anchor(&part.text) == fragment);
            format!("#{at:?}")
        }
        _ => String::new(),
    };
    let mut names = pages.keys();
    let english = names.find(|name| chinese_of(name).as_ref() == Some(&path));
    english.unwrap_or(&path).replace("-zh.", "-en.") + &heading
}

/// The unit at the start of a text, as a symbol.
pub fn unit(text: &str) -> &'static str {
    let text = text.trim_start_matches([' ', '-']);
    let ends = |rest: &str| !rest.starts_with(|c: char| c.is_ascii_alphanumeric());
    let is = |word: &str| text.strip_prefix(word).is_some_and(ends);
    let written = UNITS.iter().find(|(word, _)| match word.is_ascii() {
        true => is(word),
        false => text.starts_with(word),
    });
    let symbol = SYMBOLS.iter().find(|symbol| is(symbol));
    written
        .map(|(_, symbol)| *symbol)
        .or(symbol.copied())
        .unwrap_or_default()
}

/// The numbers of a text: those in digits, with their units, those in words that have a unit, and months. A name that
/// contains digits, such as `Air780E`, counts as a number.
fn amounts(text: &str) -> Vec<String> {
    let mut found = Vec::new();
    let chinese = |c: char| "第一二两三四五六七八九十百千万".contains(c);
    let mut rest = text;
    while let Some(first) = rest.chars().next() {
        let length = |part: &dyn Fn(char) -> bool| rest.find(|c| !part(c)).unwrap_or(rest.len());
        let length = if first.is_ascii_alphanumeric() {
            let length = length(&|c| c.is_ascii_alphanumeric() || ".,_".contains(c));
            rest[..length].trim_end_matches(['.', ',']).len()
        } else if chinese(first) {
            length(&chinese)
        } else {
            first.len_utf8()
        };
        let (word, after) = rest.split_at(length);
        rest = after;
        if word.contains(|c: char| c.is_ascii_digit()) {
            let (zeros, after) = match after.trim_start().strip_prefix('万') {
                Some(after) => ("0000", after),
                None => ("", after),
            };
            let unit = match after.trim_start().starts_with('月') {
                true => "month",
                false => unit(after),
            };
            found.push(format!("{}{zeros} {unit}", word.replace(',', "")));
        } else if let Some(month) = MONTHS.iter().position(|month| *month == word) {
            found.push(format!("{} month", month + 1));
        } else {
            let is = |(english, chinese, _): &&(&str, &str, u8)| {
                word.eq_ignore_ascii_case(english) || word == *chinese
            };
            let value = WORDS.iter().find(is).map(|(_, _, value)| value);
            let unit = unit(after);
            found.extend(
                value
                    .filter(|_| !unit.is_empty())
                    .map(|v| format!("{v} {unit}")),
            );
        }
    }
    found
}

/// The entries that are in one list only. A Chinese entry may have Chinese words instead of a part of the English one.
fn unmatched(english: &[String], chinese: &[String]) -> Option<String> {
    let mut more = chinese.to_vec();
    let mut fewer = Vec::new();
    for ours in english {
        let same = more.iter().position(|theirs| ours == theirs);
        match same.or_else(|| more.iter().position(|theirs| translates(ours, theirs))) {
            Some(at) => drop(more.remove(at)),
            None => fewer.push(ours),
        }
    }
    let same = fewer.is_empty() && more.is_empty();
    (!same).then(|| format!("only in English {fewer:?}, only in Chinese {more:?}"))
}

/// Whether a Chinese text translates an English one: its ASCII parts are all in the English text, in the same order.
fn translates(english: &str, chinese: &str) -> bool {
    if english == chinese || chinese.is_ascii() {
        return english == chinese;
    }
    let mut rest = english;
    for piece in chinese.split(|c: char| !c.is_ascii()) {
        match rest.split_once(piece.trim()) {
            Some((_, after)) => rest = after,
            None => return false,
        }
    }
    true
}

/// A line of a block without its comment or explanation.
fn without_comment(line: &str) -> &str {
    let indent = line.len() - line.trim_start().len();
    let marks = ["  ", "# ", "-- ", "// "];
    let ends = marks.iter().filter_map(|mark| line[indent..].find(mark));
    let end = ends.min().map_or(line.len(), |end| indent + end);
    line[..end].trim_end()
}

/// The differences between two parts of the same kind.
fn differences(pages: &Pages, names: (&str, &str), ours: &Part, theirs: &Part) -> Vec<String> {
    let mut found = Vec::new();
    match &ours.kind {
        Kind::Block(_) | Kind::Indented => {
            let lines = |part: &Part| part.text.lines().map(str::to_owned).collect::<Vec<_>>();
            let (ours, theirs) = (lines(ours), lines(theirs));
            if ours.len() != theirs.len() {
                found.push(format!("{} lines, {} in Chinese", ours.len(), theirs.len()));
            }
            for (a, b) in ours.iter().zip(&theirs) {
                let same = match b.is_ascii() {
                    true => a == b,
                    false => translates(without_comment(a), without_comment(b)),
                };
                found.extend((!same).then(|| format!("{a:?} is {b:?} in Chinese")));
            }
        }
        Kind::Comment => {
            let same = ours.text == theirs.text;
            found.extend((!same).then(|| format!("{} is {}", ours.text, theirs.text)));
        }
        kind => {
            let texts = |part: &Part| match kind {
                Kind::Row(_) => cells(&part.text),
                _ => vec![part.text.clone()],
            };
            for (ours, theirs) in texts(ours).iter().zip(&texts(theirs)) {
                if ours.is_empty() != theirs.is_empty() {
                    found.push(format!("{ours:?} is {theirs:?} in Chinese"));
                }
                let (ours, theirs) = (facts(pages, names.0, ours), facts(pages, names.1, theirs));
                for ((what, ours), (_, theirs)) in ours.iter().zip(&theirs) {
                    found.extend(unmatched(ours, theirs).map(|text| format!("{what}: {text}")));
                }
            }
        }
    }
    found
}

/// The facts of a text that do not depend on the language: code, links, images and numbers.
fn facts(pages: &Pages, document: &str, text: &str) -> [(&'static str, Vec<String>); 4] {
    let flat: Vec<&str> = text.split_whitespace().collect();
    let (code, prose) = spans(&flat.join(" "));
    let (links, words) = links(&prose);
    let links = links.iter().map(|link| target(pages, document, link));
    [
        ("code", code),
        ("links", links.collect()),
        ("numbers", amounts(&words)),
        (
            "emphasis",
            vec!["**".to_owned(); words.matches("**").count()],
        ),
    ]
}

/// Pairs of parts of both languages up to the first pair of different kinds, and an error that describes that pair.
fn side_by_side(ours: &str, theirs: &str) -> (Vec<(Part, Part)>, Result<(), String>) {
    let (ours, theirs) = (parts(ours), parts(theirs));
    let counts = (ours.len(), theirs.len());
    let mut both = Vec::new();
    for (a, b) in ours.into_iter().zip(theirs) {
        if a.kind != b.kind {
            let message = format!(
                "{:?} (line {}) is {:?} (line {})",
                a.kind, a.line, b.kind, b.line
            );
            return (both, Err(message));
        }
        both.push((a, b));
    }
    let same = (counts.0 == counts.1).then_some(());
    (both, same.ok_or(format!("numbers of parts: {counts:?}")))
}

#[test]
fn both_languages_have_the_same_parts_with_the_same_facts() {
    let pages = pages();
    let pairs = pairs(&pages);
    assert!(pairs.len() >= 25, "{pairs:?}");
    let mut rows = Rows::default();
    for (english, chinese) in &pairs {
        let (both, result) = side_by_side(&pages[english], &pages[chinese]);
        rows.row(chinese, result);
        for (ours, theirs) in both {
            let place = format!("{english}:{}, {chinese}:{}", ours.line, theirs.line);
            for found in differences(&pages, (english, chinese), &ours, &theirs) {
                rows.row(&place, Err(found));
            }
        }
    }
    rows.finish();
}

#[test]
fn the_comparison_finds_differences() {
    let pages = pages();
    let names = ("docs/rules.md", "docs/zh-CN/rules.md");
    let differ = |ours: &str, theirs: &str| {
        let (both, result) = side_by_side(ours, theirs);
        let mut found: Vec<String> = result.err().into_iter().collect();
        for (ours, theirs) in &both {
            found.extend(differences(&pages, names, ours, theirs));
        }
        found
    };
    for (ours, theirs) in [
        ("Use `--state`, four seconds.", "用 `--state`，四秒。"),
        ("4 MiB within 10\nseconds", "10 秒之内 4 MiB"),
        ("200,000 in June, once an hour", "6 月 20 万，每小时一次"),
        (
            "[x](reference.md#what-the-server-keeps)",
            "[状态](reference.md#服务器保存的内容)",
        ),
        ("![x](../images/a-en.png)", "![图](../../images/a-zh.png)"),
        ("`from-CORE`", "`from-底层`"),
        ("```sh\nls x  # list\n```", "```sh\nls x  # 列出\n```"),
        (
            "```json\n{\"a\": \"why\"}\n```",
            "```json\n{\"a\": \"原因\"}\n```",
        ),
    ] {
        let found = differ(ours, theirs);
        assert!(found.is_empty(), "{ours}: {found:?}");
    }
    for (ours, theirs) in [
        ("# a", "## 甲"),
        ("a\n\nb", "甲"),
        ("a\n\n- b", "甲\n\n乙"),
        ("- a\n- b", "- 甲\n- 乙\n- 丙"),
        ("| a | b |\n|---|---|\n| c | d |", "| 甲 | 乙 |\n|---|---|"),
        ("| a | b |", "| 甲 | 乙 | 丙 |"),
        ("| `a` | `b` |", "| `b` | `a` |"),
        ("`--state` and `--http`", "`--state`"),
        ("`a`", "`a` 和 `a`"),
        ("`from-CORE`", "`to-底层`"),
        ("four seconds", "五秒"),
        ("4 seconds", "4 分钟"),
        ("4 KB", "4 KiB"),
        ("**a**: b", "甲：乙"),
        ("| a | b |", "| 甲 | |"),
        ("in June", "7 月"),
        ("Air780E", "Air780EP"),
        ("[x](rules.md)", "[规则](state.md)"),
        ("[x](rules.md)", "[规则](../rules.md#nowhere)"),
        ("https://a.example", "https://b.example2"),
        ("![x](../images/a-en.png)", "![图](../../images/b-zh.png)"),
        ("```sh\nls x\n```", "```sh\nls y\n```"),
        ("```sh\nls x\n```", "```sh\nls y  # 列出\n```"),
        ("```sh\nls x\n```", "```text\nls x\n```"),
        ("```sh\nls x\n```", "```sh\nls x\nls\n```"),
        (
            "<!-- not run: a b -->\n```sh\n```",
            "<!-- not run: a c -->\n```sh\n```",
        ),
    ] {
        assert!(!differ(ours, theirs).is_empty(), "{ours}, {theirs}");
    }
}

#[test]
fn both_languages_of_a_page_link_to_each_other() {
    let pages = pages();
    let mut rows = Rows::default();
    for name in pages.keys().filter(|name| name.starts_with("docs/")) {
        let Some(chinese) = chinese_of(name) else {
            continue;
        };
        let Some(chinese) = pages.get(&chinese) else {
            let result = ENGLISH_ONLY.contains(&name.as_str()).then_some(());
            rows.row(name, result.ok_or("has no Chinese page".to_owned()));
            continue;
        };
        let file = name.trim_start_matches("docs/");
        let third = |text: &str| text.lines().nth(2).unwrap_or_default().to_owned();
        let heads = (third(&pages[name]), third(chinese));
        let wanted = (
            format!("[中文](zh-CN/{file})"),
            format!("[English](../{file})"),
        );
        let result = (heads == wanted).then_some(());
        rows.row(name, result.ok_or(format!("{heads:?}")));
    }
    // A Chinese page links to the English edition of another document only if that has no Chinese edition.
    for (name, text) in &pages {
        let chinese = name.starts_with("docs/zh-CN/") || name == "README.zh-CN.md";
        for link in links(text)
            .0
            .iter()
            .filter(|link| chinese && !link.contains("://"))
        {
            let page = documents::resolve(name, link);
            let own = chinese_of(&page);
            let file = page.rsplit('/').next().unwrap_or_default();
            let result = match own {
                Some(own) if own != *name && pages.contains_key(&own) => Err(format!("use {own}")),
                None if text.contains(&format!("[{file}]({link})")) && page.contains("zh-CN") => {
                    Err("name it by its title".to_owned())
                }
                _ => Ok(()),
            };
            rows.row(&format!("{name}: {link}"), result);
        }
    }
    rows.finish();
}
