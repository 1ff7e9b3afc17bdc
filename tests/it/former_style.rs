//! Promise: no sentence of the former style is left, doc comments start as the glossary requires, and the glossary has
//! every example of the rules of style.
#![cfg(all(feature = "lab", feature = "operator"))]

use crate::common;
use crate::words::{GLOSSARY, sources, table};

use std::path::Path;

use common::Rows;
use common::documents::{self, ROOT};
use common::parts::cells;

/// The text of a file in one line, in lower case, without the marks of comments.
fn flat(text: &str) -> String {
    let mut flat = String::new();
    for line in text.lines() {
        let line = line.trim();
        let line = match line.strip_prefix("//") {
            Some(comment) => comment.trim_start_matches(['/', '!']),
            None => line,
        };
        for word in line.split_whitespace() {
            flat.push_str(word);
            flat.push(' ');
        }
    }
    flat.to_lowercase()
}

/// A sentence of the former style as [`flat`] shows it, without its end.
fn sentence(text: &str) -> String {
    let start = text.split('…').next().unwrap().trim();
    start.trim_end_matches('.').to_lowercase()
}

/// The sentences of the glossary's former style, as [`flat`] shows them.
fn former_sentences() -> Vec<String> {
    let rows = table("Sentences of the former style");
    rows.iter().map(|row| sentence(&row[0])).collect()
}

/// The first sentence of the former style in a text, with or without the marks of comments.
fn former_sentence(sentences: &[String], text: &str) -> Option<String> {
    let text = flat(text);
    let found = sentences.iter().find(|words| text.contains(*words));
    found.cloned()
}

#[test]
fn no_sentence_of_the_former_style_is_left() {
    let sentences = former_sentences();
    let mut texts = documents::documents();
    for folder in ["src", "tests", "benches"] {
        texts.extend(sources(folder, ".rs"));
    }
    texts.extend(sources("www", ".js"));
    texts.retain(|(name, _)| name != GLOSSARY && name != "tests/it/former_style.rs");
    let mut rows = Rows::default();
    for (name, text) in &texts {
        let found = former_sentence(&sentences, text);
        rows.row(name, found.map_or(Ok(()), Err));
    }
    rows.finish();
}

/// The words that no doc comment starts with, in lower case.
fn forbidden_starts() -> Vec<String> {
    let rows = table("How a doc comment starts");
    let words = rows.iter().flat_map(|row| row[0].split(", "));
    words.map(str::to_lowercase).collect()
}

/// The first lines of the doc comments of a Rust file with their line numbers, those that start with one of these words.
fn bad_starts(words: &[String], source: &str) -> Vec<String> {
    let doc = |line: &str| line.trim_start().strip_prefix("///").map(str::to_owned);
    let mut found = Vec::new();
    let mut is_inside = false;
    for (at, line) in source.lines().enumerate() {
        let text = doc(line);
        if let Some(text) = text.as_deref().filter(|_| !is_inside) {
            let is_letter = |c: char| c.is_ascii_alphabetic();
            let first = text.trim_start().split(|c| !is_letter(c)).next().unwrap();
            if words.contains(&first.to_lowercase()) {
                found.push(format!("{}:{text}", at + 1));
            }
        }
        is_inside = text.is_some();
    }
    found
}

#[test]
fn every_doc_comment_starts_with_a_noun_phrase_or_a_verb() {
    let words = forbidden_starts();
    assert!(words.len() > 50, "{words:?}");
    let mut rows = Rows::default();
    for folder in ["src", "tests", "benches"] {
        for (name, source) in sources(folder, ".rs") {
            let found = bad_starts(&words, &source);
            let none = found.is_empty().then_some(());
            rows.row(&name, none.ok_or_else(|| found.join("\n")));
        }
    }
    rows.finish();
}

#[test]
fn a_doc_comment_that_starts_with_a_forbidden_word_is_found() {
    let source = [
        "/// Time.",
        "/// When it was.",
        "fn a() {}",
        "    /// When.",
        "    b: u8,",
        "/// `None`: it.",
        "//// Of.",
    ];
    let source = source.join("\n");
    assert_eq!(bad_starts(&forbidden_starts(), &source), ["4: When."]);
}

/// The examples of the former style, whatever the glossary has.
const FORMER: [&str; 16] = [
    "Nothing in it beats.",
    "A downgrade must be able to stay.",
    "What is not read yet is not unknown.",
    "Something happened, once or more often, since somebody last waited for it",
    "Whose turn it is to make room",
    "How long a module may take to close its side when it has everything",
    "No one sits.",
    "Whoever can be reached from elsewhere must be told a token on purpose.",
    "Whose it is, behind all proxies",
    "In another terminal be a module.",
    "A second after the copy the release exists.",
    "Better none.",
    "What a machine lacks costs something, and the log says so where it matters",
    "There is no going back to a lower version; modules would go to and fro.",
    "or let a checksum speak for the file",
    "when the release pauses itself: so many `devices` came back from it",
];

#[test]
fn every_example_of_the_former_style_is_rejected_and_its_replacement_is_not() {
    let sentences = former_sentences();
    let mut rows = Rows::default();
    for words in FORMER {
        let comment = words.replacen(' ', "\n    /// ", 1);
        for text in [
            words.to_owned(),
            format!("It says: {words}\nMore text."),
            format!("    /// It says: {}\n    ", comment.to_uppercase()),
        ] {
            let found = former_sentence(&sentences, &text).map(drop);
            rows.row(words, found.ok_or(format!("accepted: {text}")));
        }
    }
    for row in table("Sentences of the former style") {
        let found = former_sentence(&sentences, &row[1]);
        rows.row(&row[1], found.map_or(Ok(()), Err));
    }
    rows.finish();
}

/// The glossary has all examples of the rules of style, on a machine that has these rules.
#[test]
fn the_glossary_has_every_example_of_the_rules_of_style() {
    let folders = Path::new(ROOT).ancestors();
    let file = folders.map(|folder| folder.join("shared/style.md"));
    let Some(text) = file
        .into_iter()
        .find_map(|file| std::fs::read_to_string(file).ok())
    else {
        eprintln!("skipped: the repository has no ../shared/style.md");
        return;
    };
    let ours = table("Sentences of the former style");
    let examples = text.split("| before | after |").nth(1).unwrap();
    let mut rows = Rows::default();
    for line in examples.trim_start().lines().skip(1) {
        if !line.starts_with('|') {
            break;
        }
        let before = &cells(line)[0];
        let found = ours.iter().any(|row| &row[0] == before).then_some(());
        rows.row(before, found.ok_or("is not in the glossary".to_owned()));
    }
    let names = text.split("Renames: ").nth(1).unwrap();
    let names = names.split(" On the page").next().unwrap();
    let forms = table("Names not to use in the code");
    for pair in names.split(';') {
        let old = pair.split('→').next().unwrap().split(" (").next().unwrap();
        for old in old.trim().trim_end_matches(".rs").split('/') {
            let found = forms.iter().any(|row| row[0] == format!("`{old}`"));
            rows.row(
                old,
                found
                    .then_some(())
                    .ok_or("is not in the glossary".to_owned()),
            );
        }
    }
    rows.finish();
}
