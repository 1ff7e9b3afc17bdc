//! The parts of a document: headings, paragraphs, list items, table rows and blocks.

/// What a part of a document is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Kind {
    Heading(usize),
    Paragraph,
    /// An item of a list, and how far it is indented; `1.` or `-`.
    Item(usize, bool),
    /// A row of a table, and its number of cells.
    Row(usize),
    /// A fenced block of this language.
    Block(String),
    /// A block that is indented by four spaces.
    Indented,
    Comment,
}

/// A heading, paragraph, list item, table row, block or comment.
pub struct Part {
    /// The line that it begins in.
    pub line: usize,
    pub kind: Kind,
    /// The lines, without the mark of a heading or an item.
    pub text: String,
}

/// The parts of a document, in order.
pub fn parts(text: &str) -> Vec<Part> {
    let mut parts: Vec<Part> = Vec::new();
    // Whether the next line can continue the last part, and whether it is inside of a fenced block.
    let (mut open, mut fenced) = (false, false);
    for (index, whole) in text.lines().enumerate() {
        let line = whole.trim_start();
        let fence = line.strip_prefix("```");
        let before = parts.last().map(|part| part.kind.clone());
        let indented = open && before == Some(Kind::Indented);
        let (kind, text) = match fence {
            Some(_) if fenced => {
                (fenced, open) = (false, false);
                continue;
            }
            None if fenced => (None, whole),
            Some(language) => {
                (fenced, open) = (true, true);
                (Some(Kind::Block(language.trim().to_owned())), "")
            }
            None if line.is_empty() => {
                open = false;
                continue;
            }
            None if indented => (None, whole),
            None if whole.starts_with("    ") && !open => (Some(Kind::Indented), whole),
            None => kind_of(line, whole.len() - line.len(), open),
        };
        match (kind, parts.last_mut()) {
            (None, Some(part)) => {
                part.text.push('\n');
                part.text.push_str(text);
            }
            (kind, _) => {
                let kind = kind.unwrap_or(Kind::Paragraph);
                open = !matches!(kind, Kind::Heading(_));
                parts.push(Part {
                    line: index + 1,
                    kind,
                    text: text.to_owned(),
                });
            }
        }
        open &= fenced || !line.ends_with("-->");
    }
    parts
}

/// The kind of a line of prose, with its text; no kind if it continues the part before.
fn kind_of(line: &str, indent: usize, open: bool) -> (Option<Kind>, &str) {
    let hashes = line.bytes().take_while(|byte| *byte == b'#').count();
    if hashes > 0 && line[hashes..].starts_with(' ') {
        return (Some(Kind::Heading(hashes)), &line[hashes + 1..]);
    }
    if line.starts_with('|') {
        return (Some(Kind::Row(cells(line).len())), line);
    }
    if line.starts_with("<!--") {
        return (Some(Kind::Comment), line);
    }
    if let Some(text) = line.strip_prefix("- ") {
        return (Some(Kind::Item(indent, false)), text);
    }
    let digits = line.bytes().take_while(u8::is_ascii_digit).count();
    if let (true, Some(text)) = (digits > 0, line[digits..].strip_prefix(". ")) {
        return (Some(Kind::Item(indent, true)), text);
    }
    (if open { None } else { Some(Kind::Paragraph) }, line)
}

/// The cells of a table's row. A bar in code or behind a backslash does not separate.
pub fn cells(row: &str) -> Vec<String> {
    let row = row.trim();
    let row = row.strip_prefix('|').unwrap_or(row);
    let row = row.strip_suffix('|').unwrap_or(row);
    let mut cells = vec![String::new()];
    let (mut code, mut escaped) = (false, false);
    for c in row.chars() {
        code ^= c == '`';
        if c == '|' && !code && !escaped {
            cells.push(String::new());
        } else if let Some(cell) = cells.last_mut() {
            cell.push(c);
        }
        escaped = c == '\\';
    }
    cells.iter().map(|cell| cell.trim().to_owned()).collect()
}

/// The code spans of a text, and the text without them.
pub fn spans(text: &str) -> (Vec<String>, String) {
    let mut spans = Vec::new();
    let mut rest = String::new();
    for (index, piece) in text.split('`').enumerate() {
        if index % 2 == 1 {
            spans.push(piece.to_owned());
            rest.push('`');
        } else {
            rest.push_str(piece);
        }
    }
    (spans, rest)
}
