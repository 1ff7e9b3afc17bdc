//! Promise: documents, help, page and log use the terms of docs/glossary.md, and none of the words, names and
//! sentences that it forbids. Its tables are the only source.
#![cfg(all(feature = "lab", feature = "operator"))]

use crate::common;

use std::collections::HashMap;
use std::path::Path;

use common::documents::{self, ROOT};
use common::literals::literals;
use common::parts::{Kind, cells, parts, spans};
use common::{Rows, both, run};

pub const GLOSSARY: &str = "docs/glossary.md";

/// A word that texts do not use. An English one is found as a whole word in any case, a Chinese one
/// anywhere except inside of the words in `except`.
#[derive(Debug)]
struct Forbidden {
    word: String,
    instead: String,
    except: Vec<String>,
}

/// The rows of the tables below a heading of the glossary, without their heads.
pub fn table(heading: &str) -> Vec<Vec<String>> {
    let text = documents::read(GLOSSARY);
    let mut inside = false;
    let mut rows = Vec::new();
    let mut head = 0;
    for part in parts(&text) {
        match part.kind {
            Kind::Heading(_) => (inside, head) = (part.text.starts_with(heading), 2),
            // The names of the columns, and the line below.
            Kind::Row(_) if inside && head > 0 => head -= 1,
            Kind::Row(_) if inside => rows.push(cells(&part.text)),
            _ => {}
        }
    }
    assert!(!rows.is_empty(), "the glossary has no table: {heading}");
    rows
}

/// The terms in both languages.
fn terms() -> Vec<(String, String)> {
    let headings = ["Modules", "Rules", "Requests", "Server"].map(table);
    let rows = headings.into_iter().flatten();
    rows.map(|row| (row[0].clone(), row[1].clone())).collect()
}

fn forbidden() -> Vec<Forbidden> {
    let tables = ["Words not to use in English", "中文里不用的词"].map(table);
    let rows = tables.into_iter().flatten();
    rows.map(|row| Forbidden {
        word: row[0].to_lowercase(),
        instead: row[1].clone(),
        except: match row.get(2) {
            Some(except) => except.split_whitespace().map(str::to_owned).collect(),
            None => Vec::new(),
        },
    })
    .collect()
}

/// The forbidden words of a text, with what to use instead.
fn violations(forbidden: &[Forbidden], text: &str) -> Vec<String> {
    let text = text.replace('\u{2019}', "'");
    let words: Vec<String> = text.split_whitespace().map(str::to_lowercase).collect();
    // A line of Chinese may end in the middle of a word.
    let (spaced, closed) = (words.join(" "), words.concat());
    let found = forbidden
        .iter()
        .filter(|entry| match entry.word.is_ascii() {
            true => has_word(&spaced, &entry.word),
            false => {
                let without = |text: String, part: &String| text.replace(part, "\u{fffc}");
                let rest = entry.except.iter().fold(closed.clone(), without);
                rest.contains(&entry.word)
            }
        });
    found
        .map(|entry| format!("`{}`: use {}", entry.word, entry.instead))
        .collect()
}

/// Whether an English word stands alone in a text.
fn has_word(text: &str, word: &str) -> bool {
    let part = |c: char| c.is_ascii_alphanumeric() || c == '-' || c == '_';
    text.match_indices(word).any(|(at, _)| {
        let before = text[..at].chars().next_back();
        let after = text[at + word.len()..].chars().next();
        !before.is_some_and(part) && !after.is_some_and(part)
    })
}

/// The files of a folder of the repository, with what they contain.
pub fn sources(folder: &str, ending: &str) -> Vec<(String, String)> {
    let mut files: Vec<String> = common::files_under(&Path::new(ROOT).join(folder))
        .into_iter()
        .filter(|name| name.ends_with(ending))
        .map(|name| format!("{folder}/{name}"))
        .collect();
    files.sort();
    let read = |name: String| (name.clone(), documents::read(&name));
    files.into_iter().map(read).collect()
}

/// The texts of the program: string literals of its code, without that of tests. A literal without a space
/// is a name or a key.
fn program_texts() -> Vec<(String, String)> {
    let mut texts = Vec::new();
    for (name, source) in sources("src", ".rs") {
        if name.ends_with("tests.rs") || name.contains("/tests/") {
            continue;
        }
        let source = source.split("#[cfg(test)]\nmod tests {").next().unwrap();
        for (line, text) in literals(source, &['"']) {
            if text.contains(' ') || !text.is_ascii() {
                texts.push((format!("{name}:{line}"), text));
            }
        }
    }
    assert!(texts.len() > 1000, "{}", texts.len());
    texts
}

/// The texts of the page in both languages. In words.js each literal is one; elsewhere those with a space.
fn page_texts() -> Vec<(String, String)> {
    let mut texts = Vec::new();
    for (name, source) in sources("www", ".js") {
        let all = name == "www/words.js";
        if all {
            // What the server says is matched by regular expressions: words of the server.
            let lines = source.lines().enumerate();
            let said = lines.filter(|(_, line)| line.trim_start().starts_with("[/"));
            texts
                .extend(said.map(|(line, text)| (format!("{name}:{}", line + 1), text.to_owned())));
        }
        for (line, text) in literals(&source, &['\'', '"', '`']) {
            // `${…}` is code.
            let outside = |part: &str| part.split_once('}').map_or("", |(_, rest)| rest).to_owned();
            let mut parts = text.split("${");
            let first = parts.next().unwrap().to_owned();
            let text = parts.fold(first, |text, part| text + "{}" + &outside(part));
            if all || text.contains(' ') || !text.is_ascii() {
                texts.push((format!("{name}:{line}"), text));
            }
        }
    }
    texts.extend(sources("www", ".html"));
    assert!(texts.len() > 400, "{}", texts.len());
    texts
}

/// The parts of all documents. What is in code is a name or a text of the program.
fn document_texts() -> Vec<(String, String)> {
    let mut texts = Vec::new();
    for (name, text) in documents::documents() {
        if name == GLOSSARY {
            continue;
        }
        for part in parts(&text) {
            let text = match part.kind {
                Kind::Block(_) | Kind::Indented => part.text,
                _ => spans(&part.text).1,
            };
            texts.push((format!("{name}:{}", part.line), text));
        }
    }
    assert!(texts.len() > 1000, "{}", texts.len());
    texts
}

fn help_texts() -> Vec<(String, String)> {
    let mut texts = Vec::new();
    let commands = [
        "serve",
        "check",
        "explain",
        "devices",
        "lift",
        "resume",
        "probe",
        "simulate",
        "health",
        "completions",
        "man",
    ];
    for command in commands {
        texts.push((
            format!("{command} --help"),
            both(&run(&[command, "--help"])),
        ));
    }
    texts.push(("--help".to_owned(), both(&run(&["--help"]))));
    texts.push(("man".to_owned(), both(&run(&["man"]))));
    texts
}

fn no_violation(texts: Vec<(String, String)>) {
    let forbidden = forbidden();
    let mut rows = Rows::default();
    for (name, text) in texts {
        let found = violations(&forbidden, &text);
        let result = found.is_empty().then_some(());
        rows.row(&name, result.ok_or(found.join("; ")));
    }
    rows.finish();
}

#[test]
fn no_document_has_a_forbidden_word() {
    no_violation(document_texts());
}

#[test]
fn no_help_text_has_a_forbidden_word() {
    no_violation(help_texts());
}

#[test]
fn no_text_of_the_page_has_a_forbidden_word() {
    no_violation(page_texts());
}

#[test]
fn no_message_of_the_program_has_a_forbidden_word() {
    no_violation(program_texts());
}

#[test]
fn every_forbidden_word_is_found() {
    let forbidden = forbidden();
    assert!(forbidden.len() > 80, "{}", forbidden.len());
    for entry in &forbidden {
        let word = &entry.word;
        let found = |text: String| {
            let found = violations(&forbidden, &text);
            found.iter().any(|text| text.contains(&format!("`{word}`")))
        };
        assert!(found(format!("The {word} stands here.")), "{word}");
        assert!(found(word.to_uppercase().replace(' ', "\n    ")), "{word}");
        match word.is_ascii() {
            true => assert!(!found(format!("x{word} {word}s un-{word}")), "{word}"),
            false => {
                let half = word.chars().next().unwrap().len_utf8();
                let (start, end) = word.split_at(half);
                assert!(found(format!("这里有{start}\n{end}。")), "{word}");
            }
        }
        for except in &entry.except {
            assert!(!found(except.clone()), "{except}");
            assert!(found(format!("{except}，{word}")), "{except}");
        }
    }
}

#[test]
fn string_literals_are_found_in_code() {
    let code = r##"let a = "one \"two\" \
        three"; // "comment"
        let b = ('"', '\'', '\u{22}', b'"'); let c: &'static str = r#"four "five""#;
        /* "six" */ let writer = "seven";"##;
    let found: Vec<(usize, String)> = literals(code, &['"']);
    let texts: Vec<&str> = found.iter().map(|(_, text)| text.as_str()).collect();
    assert_eq!(texts, ["one \"two\" three", "four \"five\"", "seven"]);
    assert_eq!(found[2].0, 4);
    let page = literals("f('a b', `c`); // it's\ng(\"d\")", &['\'', '"', '`']);
    assert_eq!(page.len(), 3, "{page:?}");
}

/// The glossary uses no word that it forbids, and gives each term once.
#[test]
fn the_terms_are_unique_and_allowed() {
    let forbidden = forbidden();
    let terms = terms();
    assert!(terms.len() > 60, "{}", terms.len());
    let mut rows = Rows::default();
    for (index, (english, chinese)) in terms.iter().enumerate() {
        for text in [english, chinese] {
            let found = violations(&forbidden, text);
            let result = found.is_empty().then_some(());
            rows.row(text, result.ok_or(found.join("; ")));
        }
        let again = |(e, c): &(String, String)| e == english || c == chinese;
        let unique = (!terms[..index].iter().any(again)).then_some(());
        rows.row(english, unique.ok_or("is there twice".to_owned()));
    }
    for row in table("Sentences of the former style") {
        let found = violations(&forbidden, &row[1]);
        let result = found.is_empty().then_some(());
        rows.row(&row[1], result.ok_or(found.join("; ")));
    }
    rows.finish();
}

/// The Chinese of each term that the page shows alone is that of the glossary.
#[test]
fn the_page_translates_terms_as_the_glossary() {
    // `hold, held` is 暂缓、已暂缓; a short form is allowed, too.
    let mut forms: HashMap<String, Vec<String>> = HashMap::new();
    for (english, chinese) in terms() {
        let english: Vec<&str> = english.split(", ").collect();
        let chinese = chinese.replace("（简称", "、").replace('）', "");
        let chinese: Vec<&str> = chinese.split('、').collect();
        for (index, term) in english.iter().enumerate() {
            let own = match english.len() {
                1 => &chinese[..],
                _ => &chinese[index..=index],
            };
            // `resume (download)` is the same word as `resume` on the page.
            let word = term.split(" (").next().unwrap().to_owned();
            let all = forms.entry(word).or_default();
            all.extend(own.iter().map(|form| (*form).to_owned()));
        }
    }
    let words = documents::read("www/words.js");
    let mut rows = Rows::default();
    let mut count = 0;
    for pair in words.split(": ['").skip(1) {
        let Some((english, rest)) = pair.split_once("', '") else {
            continue;
        };
        let chinese = rest.split('\'').next().unwrap();
        let Some(forms) = forms.get(&english.to_lowercase()) else {
            continue;
        };
        count += 1;
        let result = forms.iter().any(|form| form == chinese).then_some(());
        rows.row(english, result.ok_or(format!("{chinese}, not {forms:?}")));
    }
    assert!(count > 15, "{count}");
    rows.finish();
}

#[test]
fn no_code_has_a_former_name() {
    let sources = sources("src", ".rs");
    let mut rows = Rows::default();
    for row in table("Names not to use in the code") {
        let (name, kind) = (row[0].trim_matches('`'), row[1].as_str());
        let keywords: &[&str] = match kind {
            "type" => &["struct", "enum", "trait", "type", "union"],
            "function" => &["fn"],
            "module" => &["mod"],
            kind => panic!("{name}: {kind} is no kind of name"),
        };
        for (file, text) in &sources {
            let found = keywords.iter().any(|word| defines(text, word, name));
            let result = (!found).then_some(());
            rows.row(
                &format!("{file}: {name}"),
                result.ok_or(format!("use {}", row[2])),
            );
        }
        assert!(defines(
            &format!("{} {name} {{", keywords[0]),
            keywords[0],
            name
        ));
    }
    rows.finish();
}

/// Whether a file defines this name with this keyword.
fn defines(text: &str, keyword: &str, name: &str) -> bool {
    has_word(text, &format!("{keyword} {name}"))
}
