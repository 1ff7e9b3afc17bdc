//! Promise: every citation of a document, in code and documents, names an existing section.
#![cfg(all(feature = "lab", feature = "operator"))]

use crate::common;

use std::path::Path;

use common::Rows;
use common::documents::{self, ROOT};

/// The documents that code and documents cite by number or by section.
const CITED: [&str; 5] = ["protocol", "hazards", "decision", "cases", "decisions"];

/// The parts of a document that can be cited: its headings, their numbers (`4b` of `## 4b. Version
/// forms`), and the numbers of its table rows.
fn citable(text: &str) -> Vec<String> {
    let mut found = Vec::new();
    for line in documents::prose(text).lines() {
        if line.starts_with('#') {
            let title = line.trim_start_matches('#').trim();
            found.push(title.to_owned());
            found.extend(title.split_once(". ").map(|(number, _)| number.to_owned()));
            found.extend(title.split_once(' ').map(|(number, _)| number.to_owned()));
        }
        if let Some((number, _)) = line.strip_prefix("| ").and_then(|row| row.split_once(" |")) {
            found.push(number.to_owned());
        }
    }
    found
}

/// The text of a Rust file in which each comment of several lines is joined into one line.
fn joined_comments(text: &str) -> String {
    let mut out = String::new();
    for line in text.lines() {
        let line = line.trim_start();
        match line.strip_prefix("//") {
            Some(comment) => {
                out.push(' ');
                out.push_str(comment.trim_start_matches(['/', '!']).trim_start());
            }
            None => {
                out.push('\n');
                out.push_str(line);
            }
        }
    }
    out
}

/// The parts that the text after a document's name cites: `17, 18 and 19`, `13–15`, `1, "Encoding and
/// formats"`, `section 5`. Empty if it cites the document as a whole.
fn cited(behind: &str) -> Vec<String> {
    let mut found = Vec::new();
    // The number of `[…](…) 23` is after the link.
    let mut rest = behind.strip_prefix(')').unwrap_or(behind);
    loop {
        let separators = [", and ", ", ", " and ", " to ", " section ", "–", " "];
        let Some(next) = separators.iter().find_map(|part| rest.strip_prefix(part)) else {
            return found;
        };
        let quoted = next.strip_prefix('"').and_then(|text| text.split_once('"'));
        if let Some((title, after)) = quoted {
            found.push(title.to_owned());
            rest = after;
            continue;
        }
        let end = next.find(|c: char| !c.is_ascii_alphanumeric() && c != '-');
        let (token, after) = next.split_at(end.unwrap_or(next.len()));
        let digits = token.trim_end_matches(|c: char| c.is_ascii_lowercase());
        let number = !digits.is_empty()
            && digits.len() <= 2
            && digits.bytes().all(|b| b.is_ascii_digit())
            && token.len() - digits.len() <= 1;
        if !number {
            return found;
        }
        found.push(token.to_owned());
        rest = after;
    }
}

#[test]
fn a_citation_is_read_with_all_its_parts() {
    let parts = |text: &str| cited(text).join("|");
    assert_eq!(parts(" 17). Used by"), "17");
    assert_eq!(parts(" 9, 10, 12). Every byte"), "9|10|12");
    assert_eq!(parts(" 13–15), and the"), "13|15");
    assert_eq!(parts(" 18 and 19). Pure"), "18|19");
    assert_eq!(parts(" 1g, 2024-04-09) says"), "1g");
    assert_eq!(
        parts(" 1, \"Encoding and formats\")"),
        "1|Encoding and formats"
    );
    assert_eq!(parts(" section 5 passes"), "5");
    assert_eq!(parts(") 23 to 43, and"), "23|43");
    assert_eq!(parts(" says nothing"), "");
}

#[test]
fn every_citation_of_a_document_names_a_section_that_it_has() {
    let mut texts: Vec<(String, String)> = documents::documents();
    for folder in ["src", "tests", "benches"] {
        let root = Path::new(ROOT).join(folder);
        for file in common::files_under(&root) {
            if file.ends_with(".rs") {
                let text = std::fs::read_to_string(root.join(&file)).unwrap();
                texts.push((format!("{folder}/{file}"), joined_comments(&text)));
            }
        }
    }
    let mut rows = Rows::default();
    let mut count = 0;
    for document in CITED {
        let known = citable(&documents::read(&format!("docs/{document}.md")));
        let name = format!("{document}.md");
        for (file, text) in &texts {
            // A sentence of a document may span several lines.
            let text = match file.ends_with(".md") {
                true => text.replace('\n', " "),
                false => text.clone(),
            };
            for (at, _) in text.match_indices(&name) {
                let (before, behind) = (&text[..at], &text[at + name.len()..]);
                if file.ends_with(".rs") && !before.ends_with("docs/") {
                    rows.row(file, Err(format!("{name} without docs/")));
                }
                for part in cited(behind) {
                    count += 1;
                    let result = known.contains(&part).then_some(());
                    rows.row(
                        &format!("{file}: {name} {part}"),
                        result.ok_or("there is no such section".to_owned()),
                    );
                }
            }
        }
    }
    assert!(count > 100, "{count}");
    rows.finish();
}
