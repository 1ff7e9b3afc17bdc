//! The parts of a document: headings, paragraphs, list items, table rows and blocks.

/// Kind of a document's part.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Kind {
    Heading(usize),
    Paragraph,
    /// An item of a list: its indentation, and whether it is numbered (`1.`) or not (`-`).
    Item(usize, bool),
    /// A row of a table, and the number of its cells.
    Row(usize),
    /// A fenced block with this language.
    Block(String),
    /// A block that is indented by four spaces more than the text around it.
    Indented,
    Comment,
}

/// A heading, paragraph, list item, table row, block or comment.
pub struct Part {
    /// Number of the part's first line.
    pub line: usize,
    pub kind: Kind,
    /// The lines, without the mark of a heading or an item, and without the fences and the indentation of a block.
    pub text: String,
}

/// The parts of a document, in order.
pub fn parts(text: &str) -> Vec<Part> {
    let mut parts: Vec<Part> = Vec::new();
    // Whether the next line can continue the last part, and the column from which a line is a code block.
    let (mut open, mut column) = (false, 4);
    let mut lines = text.lines().enumerate().peekable();
    while let Some((index, whole)) = lines.next() {
        let indent = spaces(whole);
        let line = &whole[indent..];
        let mut block = String::new();
        let mut push = |line: &str, indent: usize| {
            block.push_str(&line[spaces(line).min(indent)..]);
            block.push('\n');
        };
        let (kind, text) = if line.is_empty() {
            open = false;
            continue;
        } else if let Some(language) = line.strip_prefix("```") {
            let mut closed = false;
            for (_, line) in lines.by_ref() {
                closed = line.trim() == "```";
                if closed {
                    break;
                }
                push(line, indent);
            }
            assert!(closed, "the block of line {} is not closed", index + 1);
            (Kind::Block(language.trim().to_owned()), block)
        } else if !open && indent >= column {
            push(whole, column);
            let code = |line: &str| line.trim().is_empty() || spaces(line) >= column;
            while let Some((_, line)) = lines.next_if(|(_, line)| code(line)) {
                push(line, column);
            }
            block.truncate(block.trim_end().len());
            (Kind::Indented, block + "\n")
        } else {
            column = code_column(whole, column);
            let (kind, text) = kind_of(line, indent, open);
            open = !matches!(kind, Some(Kind::Heading(_))) && !line.ends_with("-->");
            match (kind, parts.last_mut()) {
                (None, Some(part)) => {
                    part.text.push('\n');
                    part.text.push_str(text);
                    continue;
                }
                (kind, _) => (kind.unwrap_or(Kind::Paragraph), text.to_owned()),
            }
        };
        open &= !matches!(kind, Kind::Block(_) | Kind::Indented);
        parts.push(Part {
            line: index + 1,
            kind,
            text,
        });
    }
    parts
}

/// Number of spaces at the start of a line.
fn spaces(line: &str) -> usize {
    line.len() - line.trim_start_matches(' ').len()
}

/// Column from which the line after this one is a code block, which depends on whether this line is a list item.
fn code_column(line: &str, before: usize) -> usize {
    let indent = spaces(line);
    let text = &line[indent..];
    let digits = text.trim_start_matches(|c: char| c.is_ascii_digit());
    let numbered = digits.len() < text.len() && digits.starts_with(". ");
    let marker = if numbered {
        text.len() - digits.len() + 2
    } else if text.starts_with("- ") || text.starts_with("* ") {
        2
    } else {
        return if indent == 0 { 4 } else { before };
    };
    indent + marker + 4
}

/// The kind of a line of prose, with its text. No kind if the line continues the part before.
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

/// The cells of a table row. A bar inside code or after a backslash does not separate cells.
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

/// The targets of the links and images in a text, and the text with only their words.
pub fn links(text: &str) -> (Vec<String>, String) {
    let mut links = Vec::new();
    let mut pieces = text.split("](");
    let mut rest = pieces.next().unwrap_or_default().to_owned();
    for piece in pieces {
        let (link, after) = piece.split_once(')').unwrap_or((piece, ""));
        links.push(link.to_owned());
        rest.push(']');
        rest.push_str(after);
    }
    (links, rest)
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
