//! The little of JSON that the journal's lines are made of: one object of texts, whole numbers, `true`
//! and `false`. A reader of its own, because two hundred thousand lines are read at a start.
//!
//! What would surprise you: the reader is given the object without its closing brace, since the check of
//! a line covers just that. Whatever else JSON knows (lists, objects, fractions) is stepped over: a later
//! version may write it.

use std::borrow::Cow;

/// One value.
#[derive(Debug, PartialEq)]
pub(super) enum Value<'a> {
    /// A text.
    Text(Cow<'a, str>),
    /// A whole number.
    Number(i128),
    /// `true` or `false`.
    Bool(bool),
    /// Something that no version known here writes.
    Other,
}

/// The keys and values of one object, in order.
#[derive(Debug)]
pub(super) struct Fields<'a>(Vec<(Cow<'a, str>, Value<'a>)>);

impl<'a> Fields<'a> {
    /// Reads `{"key":value,…` (no closing brace, no space between); `None`: it is something else.
    pub(super) fn read(body: &'a str) -> Option<Fields<'a>> {
        let mut fields = Vec::with_capacity(16);
        let mut rest = body.strip_prefix('{')?;
        loop {
            let (key, after) = text(rest)?;
            let (value, after) = value(after.strip_prefix(':')?)?;
            fields.push((key, value));
            match after.strip_prefix(',') {
                Some(after) => rest = after,
                None => return after.is_empty().then_some(Fields(fields)),
            }
        }
    }

    /// The first key: the kind of the line.
    pub(super) fn kind(&self) -> &str {
        self.0.first().map_or("", |(key, _)| key)
    }

    fn get(&self, key: &str) -> Option<&Value<'a>> {
        let found = self.0.iter().find(|(name, _)| name == key);
        found.map(|(_, value)| value)
    }

    /// The text of this key.
    pub(super) fn text(&self, key: &str) -> Option<&str> {
        match self.get(key)? {
            Value::Text(text) => Some(text),
            _ => None,
        }
    }

    /// The number of this key, if it fits.
    pub(super) fn number<N: TryFrom<i128>>(&self, key: &str) -> Option<N> {
        match self.get(key)? {
            Value::Number(number) => N::try_from(*number).ok(),
            _ => None,
        }
    }

    /// Is this key there, and true?
    pub(super) fn is_true(&self, key: &str) -> bool {
        matches!(self.get(key), Some(Value::Bool(true)))
    }

    /// Is this key there?
    pub(super) fn has(&self, key: &str) -> bool {
        self.get(key).is_some()
    }
}

/// A text at the beginning, and what follows it.
fn text(rest: &str) -> Option<(Cow<'_, str>, &str)> {
    let inner = rest.strip_prefix('"')?;
    // By bytes: neither can be a part of another character.
    let end = inner
        .bytes()
        .position(|byte| matches!(byte, b'"' | b'\\'))?;
    let (plain, after) = inner.split_at_checked(end)?;
    if let Some(after) = after.strip_prefix('"') {
        return Some((Cow::Borrowed(plain), after));
    }
    let (quoted, after) = rest.split_at_checked(quoted_length(rest)?)?;
    let text = serde_json::from_str::<String>(quoted).ok()?;
    Some((Cow::Owned(text), after))
}

/// Bytes of a text with its quotes.
fn quoted_length(rest: &str) -> Option<usize> {
    let mut escaped = false;
    let mut bytes = rest.bytes().enumerate().skip(1);
    let (end, _) = bytes.find(|&(_, byte)| {
        let is_end = byte == b'"' && !escaped;
        escaped = byte == b'\\' && !escaped;
        is_end
    })?;
    Some(end.saturating_add(1))
}

/// A value at the beginning, and what follows it.
fn value(rest: &str) -> Option<(Value<'_>, &str)> {
    if rest.starts_with('"') {
        let (text, after) = text(rest)?;
        return Some((Value::Text(text), after));
    }
    let (word, after) = rest.split_at_checked(other_length(rest)?)?;
    let value = match word {
        "true" => Value::Bool(true),
        "false" => Value::Bool(false),
        _ => word.parse().map_or(Value::Other, Value::Number),
    };
    Some((value, after))
}

/// Bytes up to the next comma that is in no text, list or object.
fn other_length(rest: &str) -> Option<usize> {
    // The usual case, without more ado: a number.
    let digits = rest.bytes().take_while(u8::is_ascii_digit).count();
    if digits > 0 && matches!(rest.as_bytes().get(digits), None | Some(b',')) {
        return Some(digits);
    }
    let mut depth = 0_u32;
    let mut bytes = rest.bytes().enumerate();
    while let Some((at, byte)) = bytes.next() {
        match byte {
            b',' if depth == 0 => return (at > 0).then_some(at),
            b'[' | b'{' => depth = depth.checked_add(1)?,
            b']' | b'}' => depth = depth.checked_sub(1)?,
            b'"' => {
                let length = quoted_length(rest.get(at..)?)?;
                bytes.nth(length.checked_sub(2)?)?;
            }
            _ => {}
        }
    }
    (depth == 0 && !rest.is_empty()).then_some(rest.len())
}

/// Writes a text with its quotes, and never `{"`, by which the beginning of a line is known.
pub(super) fn quote(out: &mut String, text: &str) {
    if let Some(rest) = text.strip_suffix('{') {
        quote(out, rest);
        if out.pop().is_some() {
            out.push_str("\\u007b\"");
        }
        return;
    }
    let plain = |byte: u8| byte >= 0x20 && byte != b'"' && byte != b'\\';
    if text.bytes().all(plain) {
        out.push('"');
        out.push_str(text);
        out.push('"');
    } else {
        out.push_str(&serde_json::to_string(text).unwrap_or_else(|_| "\"\"".to_owned()));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn an_object_is_read_and_what_is_not_known_is_stepped_over() {
        let body =
            r#"{"a":"x","b":-7,"c":true,"d":[1,{"e":"}]\",","f":2}],"g":1.5,"h":null,"i":"\n\"水""#;
        let fields = Fields::read(body).unwrap();
        assert_eq!(fields.kind(), "a");
        assert_eq!(fields.text("a"), Some("x"));
        assert_eq!(fields.number::<i64>("b"), Some(-7));
        assert_eq!(fields.number::<u64>("b"), None);
        assert!(fields.is_true("c") && !fields.is_true("a"));
        assert!(fields.has("d") && fields.has("g") && !fields.has("f"));
        assert_eq!(fields.text("i"), Some("\n\"水"));
    }

    #[test]
    fn what_is_no_object_is_none() {
        for wrong in [
            "",
            "{",
            "{\"",
            "{\"a\"",
            "{\"a\":",
            "{\"a\":,",
            "{\"a\":1,",
            "{\"a\":1}",
            "{\"a\":]",
            "{\"a\":\"\\",
            "{\"a\":[\"",
            "{a:1",
            "[1",
            "{\"a\":\"\\ud800\"",
        ] {
            assert!(Fields::read(wrong).is_none(), "{wrong}");
        }
    }

    proptest! {
        #[test]
        fn every_text_comes_back(text in "\\PC*|[\\x00-\\x7f]*") {
            let mut out = "{\"k\":".to_owned();
            quote(&mut out, &text);
            let fields = Fields::read(&out).unwrap();
            prop_assert_eq!(fields.text("k"), Some(&*text));
        }

        #[test]
        fn nothing_makes_the_reader_panic(text in "\\PC*", cut in "[{}\\[\\]\",:\\\\a0]*") {
            let _no_matter = Fields::read(&text);
            let _no_matter = Fields::read(&format!("{{\"{cut}"));
            let _no_matter = Fields::read(&format!("{{\"a\":{cut}"));
        }
    }
}
