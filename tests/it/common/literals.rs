//! String literals of Rust and JavaScript source code.

/// The string literals of source code, each with the number of its line. `quotes` are the
/// characters that delimit a literal.
pub fn literals(source: &str, quotes: &[char]) -> Vec<(usize, String)> {
    let mut found = Vec::new();
    let mut rest = source;
    while let Some(c) = rest.chars().next() {
        let line = source[..source.len() - rest.len()].matches('\n').count() + 1;
        let skip = if rest.starts_with("//") {
            rest.find('\n').unwrap_or(rest.len())
        } else if rest.starts_with("/*") {
            rest.find("*/").map_or(rest.len(), |end| end + 2)
        } else if let Some((text, length)) = raw_string(rest) {
            found.push((line, text.to_owned()));
            length
        } else if let Some(length) = char_literal(rest).filter(|_| !quotes.contains(&'\'')) {
            length
        } else if quotes.contains(&c) {
            let (text, length) = quoted(rest, c);
            found.push((line, text));
            length
        } else {
            // Skip a whole word, so that its last letter is not taken for the `r` of a raw string.
            let word = |c: char| c.is_alphanumeric() || c == '_';
            let end = rest.find(|c| !word(c)).unwrap_or(rest.len());
            end.max(c.len_utf8())
        };
        rest = &rest[skip..];
    }
    found
}

/// A Rust raw string at the start of a text, and its length with the quotes.
fn raw_string(text: &str) -> Option<(&str, usize)> {
    let rest = text.strip_prefix('b').unwrap_or(text).strip_prefix('r')?;
    let hashes = rest.bytes().take_while(|byte| *byte == b'#').count();
    let content = rest[hashes..].strip_prefix('"')?;
    let end = format!("\"{}", "#".repeat(hashes));
    let length = content.find(&end)?;
    let after = text.len() - content.len() + length + end.len();
    Some((&content[..length], after))
}

/// The length of a Rust character literal; `None` for a lifetime.
fn char_literal(text: &str) -> Option<usize> {
    let mut chars = text.strip_prefix('\'')?.chars();
    match chars.next()? {
        '\\' => text[3..].find('\'').map(|end| end + 4),
        c => chars.as_str().starts_with('\'').then(|| c.len_utf8() + 2),
    }
}

/// A quoted string without its escaped line ends, and its length with the quotes.
fn quoted(text: &str, quote: char) -> (String, usize) {
    let mut content = String::new();
    let mut chars = text.char_indices().skip(1).peekable();
    while let Some((at, c)) = chars.next() {
        match c {
            c if c == quote => return (content, at + 1),
            '\\' => match chars.next() {
                Some((_, '\n')) => while chars.next_if(|(_, c)| c.is_whitespace()).is_some() {},
                Some((_, c)) => content.push(c),
                None => break,
            },
            c => content.push(c),
        }
    }
    panic!("a string does not end: {content}");
}
