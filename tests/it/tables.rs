//! Promise: a table of measurements states its units, and whether lower or higher values are better.
#![cfg(all(feature = "lab", feature = "operator"))]

use crate::common;
use crate::languages::{ENGLISH_ONLY, pages, pairs, unit};

use common::Rows;
use common::parts::{Kind, cells, parts};

/// Columns of numbers that are names or that the reader chooses.
const NAMES: [&str; 15] = [
    "#",
    "HTTP",
    "code",
    "column",
    "correct result",
    "default",
    "exit status",
    "from commit date",
    "length",
    "lib date",
    "mode",
    "offset",
    "result",
    "short",
    "status, code",
];

/// A table, and the text before it.
struct Table {
    line: usize,
    before: String,
    rows: Vec<Vec<String>>,
}

fn tables(text: &str) -> Vec<Table> {
    let mut found: Vec<Table> = Vec::new();
    let mut before = String::new();
    let mut inside = false;
    for part in parts(text) {
        let row = matches!(part.kind, Kind::Row(_));
        match found.last_mut() {
            Some(table) if row && inside => table.rows.push(cells(&part.text)),
            _ if row => found.push(Table {
                line: part.line,
                before: before.clone(),
                rows: vec![cells(&part.text)],
            }),
            // A mark of the table may be between the text and the table.
            _ if part.kind == Kind::Comment => {}
            _ => before = part.text,
        }
        inside = row;
    }
    found
}

/// Whether a cell is a measured value: a number with a unit, a bound or a range.
fn measured(cell: &str) -> bool {
    let bare = cell.trim_start_matches(['≤', '≥', '<', '>', ' ']);
    let after = bare.trim_start_matches(|c: char| c.is_ascii_digit() || ".,".contains(c));
    let rest = after.trim_start();
    let more = ["(", "CPU-s", "of ", "/ "];
    bare.len() > after.len()
        && (rest.is_empty() || !unit(rest).is_empty() || more.iter().any(|m| rest.starts_with(m)))
}

/// Checks that a table of measurements states its units and which values are better.
fn must_state_units(table: &Table, english: &Table) -> Result<(), String> {
    let (head, body) = (&table.rows[0], &table.rows[2..]);
    let numbers = (0..head.len()).filter(|&column| {
        let full = body.iter().map(|row| row[column].as_str());
        let full: Vec<&str> = full.filter(|cell| !cell.is_empty()).collect();
        let count = full.iter().filter(|cell| measured(cell)).count();
        count * 2 >= full.len().max(1) && !NAMES.contains(&english.rows[0][column].as_str())
    });
    let numbers: Vec<usize> = numbers.collect();
    if numbers.is_empty() {
        return Ok(());
    }
    let around = format!("{} {}", table.before, head.join(" "));
    let row_heads: String = body.iter().map(|row| row[0].as_str()).collect();
    let better = ["is better", "are better", "越好"];
    if !better
        .iter()
        .any(|words| around.contains(words) || row_heads.contains(words))
    {
        return Err("state whether lower or higher is better".to_owned());
    }
    let has_unit = |text: &str| {
        let words = text.split(|c: char| !c.is_ascii_alphabetic() && c != '%');
        let mut symbols = words.filter(|word| !word.is_empty());
        symbols.any(|word| !unit(word).is_empty() || ["CPU", "number", "ratio"].contains(&word))
            || ["字节", "秒", "数量", "个数", "次数"]
                .iter()
                .any(|word| text.contains(word))
    };
    for &column in &numbers {
        for row in body.iter().filter(|row| measured(&row[column])) {
            let near = [&row[column], &head[column], &row[0], &around];
            if !near.iter().any(|text| has_unit(text)) {
                return Err(format!("{}: {} has no unit", row[0], row[column]));
            }
        }
    }
    Ok(())
}

#[test]
fn every_table_of_measurements_states_units_and_what_is_better() {
    let pages = pages();
    let mut rows = Rows::default();
    let mut names: Vec<(String, String)> = pairs(&pages);
    let alone = pages
        .keys()
        .filter(|name| ENGLISH_ONLY.contains(&name.as_str()));
    names.extend(alone.map(|name| (name.clone(), name.clone())));
    for (english, other) in &names {
        let (ours, theirs) = (tables(&pages[english]), tables(&pages[other]));
        for (ours, theirs) in ours.iter().zip(&theirs) {
            rows.row(
                &format!("{english}:{}", ours.line),
                must_state_units(ours, ours),
            );
            rows.row(
                &format!("{other}:{}", theirs.line),
                must_state_units(theirs, ours),
            );
        }
    }
    rows.finish();
    let judged = |text: &str| {
        tables(text)
            .iter()
            .all(|table| must_state_units(table, table).is_ok())
    };
    for (text, good) in [
        ("a\n\n| x | y |\n|---|---|\n| b | 3 |\n", false),
        ("a\n\n| x | bytes |\n|---|---|\n| b | 3 |\n", false),
        (
            "Lower is better.\n\n| x | y |\n|---|---|\n| b | 3 |\n",
            false,
        ),
        (
            "Lower is better.\n\n| x | bytes |\n|---|---|\n| b | 3 |\n",
            true,
        ),
        (
            "a\n\n| x | y (lower is better) |\n|---|---|\n| b | 3 s |\n",
            true,
        ),
        ("a\n\n| code | y |\n|---|---|\n| 3 | b |\n", true),
    ] {
        assert_eq!(judged(text), good, "{text}");
    }
}
