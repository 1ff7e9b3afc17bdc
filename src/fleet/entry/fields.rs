//! Fields of one line of the journal: reader and writer that the entries use.

use std::borrow::Cow;
use std::fmt::{self, Display, Write};

use serde_core::de::{Deserialize, Deserializer, IgnoredAny, MapAccess, SeqAccess, Visitor};
use serde_json::Value;

use crate::firmware::ContentId;
use crate::fleet::clock::{Stamp, Wall};

/// Longest time that a device can be held, whatever a line states, in seconds.
const MAX_HOLD: i64 = 30 * 86_400;

/// Number of fields of a typical line.
const TYPICAL_FIELDS: usize = 16;

/// Writes the fields of one line. Writing to a `String` does not fail.
pub struct LineWriter<'b> {
    out: &'b mut String,
    start: usize,
    wall: Wall,
}

impl<'b> LineWriter<'b> {
    /// Begins a line at the end of `out`. `wall` turns stamps into Unix times.
    pub fn new(out: &'b mut String, wall: Wall) -> LineWriter<'b> {
        let start = out.len();
        LineWriter { out, start, wall }
    }

    /// Writes a value that needs no quotes.
    pub fn plain(&mut self, key: &str, value: impl Display) {
        let before = if self.out.len() == self.start {
            '{'
        } else {
            ','
        };
        let _ = write!(self.out, "{before}\"{key}\":{value}");
    }

    /// Writes a text that needs no escaping.
    pub fn word(&mut self, key: &str, value: impl Display) {
        self.plain(key, format_args!("\"{value}\""));
    }

    /// Writes any text. It never contains `{"`, which marks the beginning of a line.
    pub fn text(&mut self, key: &str, text: &str) {
        let is_plain = |byte: u8| byte >= b' ' && !matches!(byte, b'"' | b'\\' | b'{');
        if text.bytes().all(is_plain) {
            return self.word(key, text);
        }
        let quoted = Value::from(text).to_string();
        self.plain(key, quoted.replace("{\"", "\\u007b\""));
    }

    /// Writes any text, but omits an empty one.
    pub fn optional_text(&mut self, key: &str, text: &str) {
        if !text.is_empty() {
            self.text(key, text);
        }
    }

    /// Writes a hash as 16 hexadecimal digits.
    pub fn hash(&mut self, key: &str, hash: u64) {
        self.word(key, format_args!("{hash:016x}"));
    }

    /// Writes a time in Unix seconds.
    pub fn time(&mut self, key: &str, stamp: Stamp) {
        self.plain(key, self.wall.unix_of(stamp));
    }

    /// Writes a time, but omits `None`.
    pub fn optional_time(&mut self, key: &str, stamp: Option<Stamp>) {
        if let Some(stamp) = stamp {
            self.time(key, stamp);
        }
    }

    /// Writes a number, but omits 0.
    pub fn count(&mut self, key: &str, number: impl Into<u64>) {
        let number = number.into();
        if number != 0 {
            self.plain(key, number);
        }
    }

    /// Writes a flag, but omits `false`.
    pub fn flag(&mut self, key: &str, is_set: bool) {
        if is_set {
            self.plain(key, true);
        }
    }

    /// Returns the Unix time of a stamp.
    pub fn unix(&self, stamp: Stamp) -> i64 {
        self.wall.unix_of(stamp)
    }

    /// Returns the part of the line that was written so far.
    pub fn written(&self) -> &str {
        self.out.get(self.start..).unwrap_or_default()
    }

    /// Ends the fields and returns the output for the text that follows.
    pub fn finish(self) -> &'b mut String {
        self.out
    }
}

/// Time at which a line was written, by both clocks.
#[derive(Clone, Copy, Debug, Default)]
pub struct LineTime {
    /// Time by the fleet's clock.
    pub stamp: Stamp,
    /// Time by the machine's clock at that moment, in Unix seconds.
    pub unix: i64,
}

impl LineTime {
    /// Returns the stamp of a Unix time that lay in the past when the line was written.
    pub fn past(&self, unix: i64) -> Stamp {
        let ago = self.unix.saturating_sub(unix).max(0);
        self.stamp.minus(u32::try_from(ago).unwrap_or(u32::MAX))
    }

    /// Returns the stamp of a Unix time that may have lain in the future.
    fn any(&self, unix: i64) -> Stamp {
        match unix.saturating_sub(self.unix) {
            ..=0 => self.past(unix),
            ahead => {
                let ahead = u32::try_from(ahead.min(MAX_HOLD)).unwrap_or(0);
                self.stamp.plus(ahead)
            }
        }
    }
}

/// Fields of one line. A getter returns `None` if the field is missing or of another type, unless it states otherwise.
#[derive(Debug)]
pub struct Fields<'l> {
    fields: Vec<(Field<'l>, Field<'l>)>,
    time: LineTime,
}

/// A key or a value.
#[derive(Debug)]
enum Field<'l> {
    Text(Cow<'l, str>),
    Number(u64),
    Negative(i64),
    Flag(bool),
    /// A value that no getter returns.
    Other,
}

/// Reads one field.
struct FieldVisitor;

/// Reads all fields of a line.
struct FieldsVisitor;

impl<'l> Visitor<'l> for FieldVisitor {
    type Value = Field<'l>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a value")
    }

    fn visit_borrowed_str<E>(self, text: &'l str) -> Result<Field<'l>, E> {
        Ok(Field::Text(Cow::Borrowed(text)))
    }

    fn visit_str<E>(self, text: &str) -> Result<Field<'l>, E> {
        Ok(Field::Text(Cow::Owned(text.to_owned())))
    }

    fn visit_u64<E>(self, number: u64) -> Result<Field<'l>, E> {
        Ok(Field::Number(number))
    }

    fn visit_i64<E>(self, number: i64) -> Result<Field<'l>, E> {
        Ok(Field::Negative(number))
    }

    fn visit_f64<E>(self, _: f64) -> Result<Field<'l>, E> {
        Ok(Field::Other)
    }

    fn visit_bool<E>(self, is_set: bool) -> Result<Field<'l>, E> {
        Ok(Field::Flag(is_set))
    }

    fn visit_unit<E>(self) -> Result<Field<'l>, E> {
        Ok(Field::Other)
    }

    fn visit_seq<A: SeqAccess<'l>>(self, values: A) -> Result<Field<'l>, A::Error> {
        IgnoredAny.visit_seq(values).map(|_| Field::Other)
    }

    fn visit_map<A: MapAccess<'l>>(self, values: A) -> Result<Field<'l>, A::Error> {
        IgnoredAny.visit_map(values).map(|_| Field::Other)
    }
}

impl<'l> Deserialize<'l> for Field<'l> {
    fn deserialize<D: Deserializer<'l>>(value: D) -> Result<Field<'l>, D::Error> {
        value.deserialize_any(FieldVisitor)
    }
}

impl<'l> Visitor<'l> for FieldsVisitor {
    type Value = Vec<(Field<'l>, Field<'l>)>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<A: MapAccess<'l>>(self, mut fields: A) -> Result<Self::Value, A::Error> {
        let mut all = Vec::with_capacity(TYPICAL_FIELDS);
        while let Some(field) = fields.next_entry()? {
            all.push(field);
        }
        Ok(all)
    }
}

impl<'l> Fields<'l> {
    /// Reads a line; `None` if it is not a JSON object.
    pub fn read(line: &'l str, time: LineTime) -> Option<Fields<'l>> {
        let mut line = serde_json::Deserializer::from_str(line);
        let fields = line.deserialize_map(FieldsVisitor).ok()?;
        line.end().ok()?;
        Some(Fields { fields, time })
    }

    /// Returns the last field with this key.
    fn get(&self, key: &str) -> Option<&Field<'l>> {
        let has_key = |field: &Field<'_>| matches!(field, Field::Text(text) if text == key);
        let fields = self.fields.iter().rev();
        let mut found = fields.filter(|(field, _)| has_key(field));
        found.next().map(|(_, value)| value)
    }

    /// Whether the field exists.
    pub fn has(&self, key: &str) -> bool {
        self.get(key).is_some()
    }

    /// Returns a text.
    pub fn text(&self, key: &str) -> Option<&str> {
        match self.get(key)? {
            Field::Text(text) => Some(text),
            _ => None,
        }
    }

    fn unsigned(&self, key: &str) -> Option<u64> {
        match self.get(key)? {
            Field::Number(number) => Some(*number),
            _ => None,
        }
    }

    /// Returns a whole number in the range of its type.
    pub fn number<N: TryFrom<u64>>(&self, key: &str) -> Option<N> {
        N::try_from(self.unsigned(key)?).ok()
    }

    /// Returns a whole number that may be negative.
    pub fn signed(&self, key: &str) -> Option<i64> {
        match self.get(key)? {
            Field::Number(number) => i64::try_from(*number).ok(),
            Field::Negative(number) => Some(*number),
            _ => None,
        }
    }

    /// Returns a number; 0 if it is missing.
    pub fn count<N: TryFrom<u64> + Default>(&self, key: &str) -> Option<N> {
        match self.has(key) {
            true => self.number(key),
            false => Some(N::default()),
        }
    }

    /// Whether a flag exists and is set.
    pub fn flag(&self, key: &str) -> bool {
        matches!(self.get(key), Some(Field::Flag(true)))
    }

    /// Returns a hash.
    pub fn hash(&self, key: &str) -> Option<u64> {
        u64::from_str_radix(self.text(key)?, 16).ok()
    }

    /// Returns the hash of a file.
    pub fn content(&self, key: &str) -> Option<ContentId> {
        ContentId::parse(self.text(key)?)
    }

    /// Returns a time that lay in the past when the line was written.
    pub fn time(&self, key: &str) -> Option<Stamp> {
        self.signed(key).map(|unix| self.time.past(unix))
    }

    /// Returns a time that lay in the past when the line was written; `Some(None)` if it is missing.
    pub fn optional_time(&self, key: &str) -> Option<Option<Stamp>> {
        match self.has(key) {
            true => self.time(key).map(Some),
            false => Some(None),
        }
    }

    /// Returns a time that may have lain in the future; `Some(None)` if it is missing.
    pub fn optional_end(&self, key: &str) -> Option<Option<Stamp>> {
        match self.has(key) {
            true => self.signed(key).map(|unix| Some(self.time.any(unix))),
            false => Some(None),
        }
    }

    /// Time at which the line was written.
    pub fn line_time(&self) -> LineTime {
        self.time
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const TIME: LineTime = LineTime {
        stamp: Stamp(1 << 31),
        unix: 0,
    };

    #[test]
    fn an_object_is_read_and_values_of_other_types_are_skipped() {
        let line = r#"{"a":"x","b":-7,"c":true,"d":[1,{"e":"}]\",","f":2}],"g":1.5,"h":null,"i":"\n\"水"}"#;
        let fields = Fields::read(line, TIME).unwrap();
        assert_eq!(fields.text("a"), Some("x"));
        assert_eq!(fields.signed("b"), Some(-7));
        assert_eq!(fields.number::<u64>("b"), None);
        assert!(fields.flag("c") && !fields.flag("a"));
        assert!(fields.has("d") && fields.has("g") && !fields.has("f"));
        assert_eq!(fields.text("i"), Some("\n\"水"));
    }

    proptest! {
        #[test]
        fn every_text_is_read_as_it_was_written(text in "\\PC*|[\\x00-\\x7f]*") {
            let mut out = String::new();
            LineWriter::new(&mut out, Wall::default()).text("k", &text);
            prop_assert_eq!(out.matches("{\"").count(), 1);
            out.push('}');
            let fields = Fields::read(&out, TIME).unwrap();
            prop_assert_eq!(fields.text("k"), Some(&*text));
        }
    }
}
