//! A CSV parser, independent of the server.

use std::collections::BTreeMap;

/// The rows of a CSV (RFC 4180). Each row maps column names to values.
pub fn rows(csv: &str) -> Vec<BTreeMap<String, String>> {
    let mut lines: Vec<Vec<String>> = Vec::new();
    let mut line = vec![String::new()];
    let mut is_quoted = false;
    let mut letters = csv.chars().peekable();
    while let Some(letter) = letters.next() {
        match letter {
            '"' if is_quoted && letters.peek() == Some(&'"') => {
                letters.next();
                line.last_mut().unwrap().push('"');
            }
            '"' => is_quoted = !is_quoted,
            ',' if !is_quoted => line.push(String::new()),
            '\r' if !is_quoted => {
                assert_eq!(letters.next(), Some('\n'), "a line ends with CR LF");
                lines.push(std::mem::replace(&mut line, vec![String::new()]));
            }
            letter => line.last_mut().unwrap().push(letter),
        }
    }
    assert_eq!(line, [""], "the last line has an end");
    let head = lines.remove(0);
    let row = |cells: Vec<String>| {
        assert_eq!(cells.len(), head.len(), "{cells:?}");
        head.iter().cloned().zip(cells).collect()
    };
    lines.into_iter().map(row).collect()
}
