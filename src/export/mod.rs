//! Lists for other programs, as JSON and as CSV (RFC 4180), written row by row: the exports of the operator's API, and
//! `--json` and `--csv` of the command line.
//!
//! A row is a JSON value. A line of CSV is made of the same value, so both formats always contain the same.

mod device;
mod explanation;

pub use self::device::{DEVICE, device};
#[cfg(feature = "operator")]
pub use self::device::{STEP, steps};
pub use self::explanation::{EXPLANATION, explanation};

use std::fmt::Write as _;

use serde_json::{Value, json};

use crate::fleet::releases::StageView;
use crate::logging::{Civil, Printable};

/// Format of an export.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ExportFormat {
    /// One object with the list.
    Json,
    /// A line for each row, below a line with the names of the columns.
    Csv,
}

/// Name of a column of CSV, and the place of its value in a row: a JSON pointer (RFC 6901), in which `*` stands for
/// each item of a list.
pub type Column = (&'static str, &'static str);

/// The columns of a release, as the API shows it.
pub const RELEASE: &[Column] = &[
    ("project", "/project"),
    ("version", "/version"),
    ("state", "/state"),
    ("reason", "/reason"),
    ("published_by", "/published_by"),
    ("paused_by", "/paused_by"),
    ("stage", "/stage/text"),
    ("percent", "/percent"),
    ("for", "/for/*"),
    ("files", "/packages/*/path"),
    ("sha256", "/packages/*/sha256"),
    ("devices", "/devices"),
    ("offered", "/counts/offered"),
    ("downloading", "/counts/downloading"),
    ("delivered", "/counts/delivered"),
    ("sent", "/counts/sent"),
    ("waiting", "/counts/waiting"),
    ("confirmed", "/counts/confirmed"),
    ("reverted", "/counts/reverted"),
    ("silent", "/counts/silent"),
];

/// The columns of the counts of a release over time.
pub const HISTORY: &[Column] = &[
    ("project", "/project"),
    ("version", "/version"),
    ("span", "/span"),
    ("time", "/time"),
    ("offered", "/offered"),
    ("downloading", "/downloading"),
    ("delivered", "/delivered"),
    ("sent", "/sent"),
    ("waiting", "/waiting"),
    ("confirmed", "/confirmed"),
    ("reverted", "/reverted"),
    ("silent", "/silent"),
    ("held", "/held"),
];

/// The columns of the devices that ran a version, over time.
pub const VERSION: &[Column] = &[
    ("project", "/project"),
    ("version", "/version"),
    ("span", "/span"),
    ("time", "/time"),
    ("devices", "/devices"),
];

/// Writes an export step by step.
#[derive(Clone, Debug)]
pub struct Export {
    /// Format of the export.
    pub format: ExportFormat,
    /// Name of the list: the key in JSON, and the name of the file.
    pub name: &'static str,
    columns: &'static [Column],
    /// Number of rows so far.
    pub count: usize,
}

impl Export {
    /// Creates the export of a list.
    pub fn new(format: ExportFormat, name: &'static str, columns: &'static [Column]) -> Export {
        Export {
            format,
            name,
            columns,
            count: 0,
        }
    }

    /// Writes the part before the rows.
    pub fn begin(&self, out: &mut String) {
        match self.format {
            ExportFormat::Json => out.extend(["{\"", self.name, "\":["]),
            ExportFormat::Csv => line(out, self.columns, |out, (name, _)| out.push_str(name)),
        }
    }

    /// Writes one row.
    pub fn row(&mut self, out: &mut String, row: &Value) {
        match self.format {
            ExportFormat::Json => {
                let before = if self.count > 0 { ",\n" } else { "\n" };
                // Writing to a String cannot fail, here and below.
                let _ = write!(out, "{before}{row}");
            }
            ExportFormat::Csv => line(out, self.columns, |out, (_, place)| cell(out, row, place)),
        }
        self.count += 1;
    }

    /// Writes the part after the rows. `rest`: further keys of the JSON object.
    pub fn end(&self, out: &mut String, rest: &[(&str, Value)]) {
        if self.format == ExportFormat::Json {
            out.push_str("\n]");
            for (key, value) in rest {
                out.extend([",\"", key, "\":", &value.to_string()]);
            }
            out.push_str("}\n");
        }
    }
}

/// Writes a line of CSV. `cell` appends the text of a column.
fn line(out: &mut String, columns: &[Column], mut cell: impl FnMut(&mut String, &Column)) {
    for (at, column) in columns.iter().enumerate() {
        if at > 0 {
            out.push(',');
        }
        let start = out.len();
        cell(out, column);
        let text = out.get(start..).unwrap_or_default();
        if text.contains([',', '"']) {
            let text = text.replace('"', "\"\"");
            out.truncate(start);
            out.extend(["\"", &text, "\""]);
        }
    }
    out.push_str("\r\n");
}

/// Appends the text of a value of a row; nothing if the row has no such value.
fn cell(out: &mut String, row: &Value, place: &str) {
    if let Some((list, place)) = place.split_once("/*") {
        let items = at(row, list).and_then(Value::as_array);
        for (number, item) in items.into_iter().flatten().enumerate() {
            if number > 0 {
                out.push_str("; ");
            }
            cell(out, item, place);
        }
        return;
    }
    match at(row, place) {
        None | Some(Value::Null) => {}
        Some(Value::String(text)) => escape_formula(out, text),
        Some(value) => {
            let _ = write!(out, "{value}");
        }
    }
}

/// Returns the value at a place without `*`. Unlike [`Value::pointer`] this allocates nothing. No key contains a `/` or
/// `~`.
fn at<'v>(row: &'v Value, place: &str) -> Option<&'v Value> {
    let mut keys = place.split('/').skip(1);
    keys.try_fold(row, |value, key| value.get(key))
}

/// Appends a text so that a spreadsheet shows and does not execute it: a text that begins like a formula gets a `'` in
/// front. Control characters are escaped as in the log, so that a line of CSV is always one line.
fn escape_formula(out: &mut String, text: &str) {
    if text.starts_with(['=', '+', '-', '@', '＝', '＋', '－', '＠']) {
        out.push('\'');
    }
    let _ = write!(out, "{}", Printable(text));
}

/// Returns the stage that a release has reached, as JSON.
pub fn stage(view: &StageView) -> Value {
    json!({
        "percent": view.percent,
        "since": rfc3339(view.since),
        "next": view.next,
        "due": view.due.map(rfc3339),
        "waits": view.waits,
        "text": view.to_string(),
    })
}

/// Formats a time in Unix seconds as RFC 3339; `null` if it is unknown (0 or negative).
pub fn rfc3339(unix: i64) -> Value {
    match u64::try_from(unix) {
        Ok(unix @ 1..) => Value::from(format!("{}Z", Civil::of(unix))),
        _ => Value::Null,
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const COLUMNS: &[Column] = &[("id", "/id"), ("count", "/n"), ("until", "/held/*/until")];

    fn whole(format: ExportFormat, rows: &[Value]) -> String {
        let mut export = Export::new(format, "devices", COLUMNS);
        let mut out = String::new();
        export.begin(&mut out);
        rows.iter().for_each(|row| export.row(&mut out, row));
        export.end(&mut out, &[("total", json!(rows.len()))]);
        out
    }

    /// Splits a line of CSV into its cells, by the grammar of RFC 4180.
    fn cells(line: &str) -> Vec<String> {
        let mut cells = vec![String::new()];
        let mut letters = line.chars().peekable();
        let mut is_quoted = false;
        while let Some(letter) = letters.next() {
            match letter {
                '"' if is_quoted && letters.peek() == Some(&'"') => {
                    letters.next();
                    cells.last_mut().unwrap().push('"');
                }
                '"' => is_quoted = !is_quoted,
                ',' if !is_quoted => cells.push(String::new()),
                letter => cells.last_mut().unwrap().push(letter),
            }
        }
        assert!(!is_quoted, "{line}");
        cells
    }

    fn the_cell(row: &Value) -> String {
        let mut out = String::new();
        cell(&mut out, row, "/a");
        out
    }

    #[test]
    fn rows_are_lines_of_csv_and_items_of_json() {
        let rows = [
            json!({"id": "a,\"b\"", "n": 5, "held": [{"until": "x"}, {"until": null}, {"until": "y"}]}),
            json!({"id": null, "n": true}),
        ];
        assert_eq!(
            whole(ExportFormat::Csv, &rows),
            "id,count,until\r\n\"a,\"\"b\"\"\",5,x; ; y\r\n,true,\r\n"
        );
        let read: Value = serde_json::from_str(&whole(ExportFormat::Json, &rows)).unwrap();
        assert_eq!(read, json!({"devices": rows, "total": 2}));
        assert_eq!(whole(ExportFormat::Csv, &[]), "id,count,until\r\n");
        let empty: Value = serde_json::from_str(&whole(ExportFormat::Json, &[])).unwrap();
        assert_eq!(empty, json!({"devices": [], "total": 0}));
    }

    #[test]
    fn a_cell_that_begins_like_a_formula_is_text() {
        for (text, shown) in [
            ("=1+1", "'=1+1"),
            ("+1", "'+1"),
            ("-1", "'-1"),
            ("@SUM(A1)", "'@SUM(A1)"),
            ("＝1", "'＝1"),
            ("\t=1", "\\u{9}=1"),
            ("a=1", "a=1"),
            ("a\r\nb", "a\\u{d}\\u{a}b"),
            ("", ""),
        ] {
            assert_eq!(the_cell(&json!({ "a": text })), shown, "{text:?}");
        }
        assert_eq!(the_cell(&json!({"a": -1})), "-1");
    }

    proptest! {
        #[test]
        fn a_line_has_a_cell_for_each_column_whatever_a_module_says(one in any::<String>(), two in any::<String>()) {
            let csv = whole(ExportFormat::Csv, &[json!({"id": one, "n": two})]);
            let lines: Vec<&str> = csv.split_terminator("\r\n").collect();
            prop_assert_eq!(lines.len(), 2);
            let cells = cells(lines[1]);
            prop_assert_eq!(cells.len(), COLUMNS.len());
            prop_assert_eq!(&cells[0], &the_cell(&json!({ "a": one })));
            prop_assert!(!cells.iter().any(|cell| cell.starts_with(['=', '+', '-', '@', '\t'])));
        }
    }

    #[test]
    fn a_time_is_rfc_3339_or_not_known() {
        assert_eq!(rfc3339(1_795_420_800), "2026-11-23T08:00:00Z");
        assert_eq!(rfc3339(0), Value::Null);
        assert_eq!(rfc3339(-5), Value::Null);
    }
}
