//! Whom a release is for: device ids, sets of them with ranges, and the cohorts of a rollout. Rules
//! are made of these, checks are held against them, and `fleet` keys its memory by [`DeviceId`].
//!
//! The surprise: the text of an id is never kept here. An id is sixteen bytes whatever arrived, so
//! that a hundred thousand entries of `allow` are small and an id cannot carry anything into a log
//! (docs/hazards.md 21).

use std::borrow::Cow;
use std::hash::Hasher;
use std::sync::Arc;

use siphasher::sip::SipHasher24;

/// What a module calls itself. The text is bounded and its characters are known, whatever arrived
/// (docs/hazards.md 21).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum DeviceId {
    /// 14 to 17 decimal digits; 15 by the book.
    Imei(u64),
    /// 12 hexadecimal digits, without separators.
    Mac(u64),
    /// Any other id of 1 to 64 characters of `[0-9A-Za-z_-]`, as a 64-bit SipHash of the text.
    Other(u64),
}

/// Keys the hash of ids that are neither IMEI nor MAC. It need not be secret: a module is believed
/// whatever id it claims, so there is nothing to gain by making two of them collide; and a fixed key
/// gives the same id after a restart and on every machine.
const OTHER_KEY: [u8; 16] = *b"luat-ota other 1";

/// Keys the cohorts; fixed, so that the devices in a rollout stay in it after a restart.
const COHORT_KEY: [u8; 16] = *b"luat-ota cohort1";

/// The most characters an id may have.
const LONGEST_ID: usize = 64;

/// The longest text in which an id is looked for, in bytes.
const LONGEST_TEXT: usize = 256;

/// The longest unique id of a chip that is sent as raw bytes.
const LONGEST_RAW: usize = 32;

/// What modules send that could not find out who they are.
const NOBODY: [&str; 6] = ["nil", "null", "none", "undefined", "unknown", "false"];

impl DeviceId {
    /// Reads an id, wherever it comes from: [`DeviceId::read`] without the text.
    pub fn parse(text: &str) -> Option<DeviceId> {
        DeviceId::read(text).map(|(id, _)| id)
    }

    /// Reads an id from the net, a rules file, a list or a command line, and the text by which it is shown: as it
    /// is written, but without what only surrounds or separates it (quotes, white space, a `+` in front, the
    /// separators of a MAC).
    ///
    /// 14..=17 digits are an IMEI, 12 hexadecimal digits (not all of which need be letters) a MAC. What is
    /// empty, too long or has other characters is no id; nor is what stands for "none": `nil`, zeros alone,
    /// a MAC or uid of `f` alone.
    pub fn read(text: &str) -> Option<(DeviceId, Cow<'_, str>)> {
        if let Some(imei) = imei(text) {
            return (imei != 0).then_some((DeviceId::Imei(imei), Cow::Borrowed(text)));
        }
        if text.len() > LONGEST_TEXT {
            return None;
        }
        let text = bare(text);
        if DeviceId::is_nobody(text) {
            return None;
        }
        if let Some(imei) = imei(text) {
            return Some((DeviceId::Imei(imei), Cow::Borrowed(text)));
        }
        let within = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'_' || byte == b'-';
        let is_plain = text.len() <= LONGEST_ID && text.bytes().all(within);
        let compact: String = text.chars().filter(|c| !is_separator(*c)).collect();
        // Not `862991443753386.0`, which would get a digit more.
        if !text.contains('.')
            && let Some(imei) = imei(&compact)
        {
            return Some((DeviceId::Imei(imei), Cow::Owned(compact)));
        }
        let is_hex = compact.bytes().all(|byte| byte.is_ascii_hexdigit());
        if compact.len() == 12 && is_hex && is_grouped(text) {
            let mac = u64::from_str_radix(&compact, 16).ok().map(DeviceId::Mac)?;
            return Some(match compact.len() == text.len() {
                true => (mac, Cow::Borrowed(text)),
                false => (mac, Cow::Owned(compact.to_ascii_lowercase())),
            });
        }
        // libfota2 sends a chip's unique id in capitals.
        let is_unique = is_hex && compact.len() >= 16 && compact.len().is_multiple_of(2);
        let has_capitals = !compact.bytes().any(|byte| byte.is_ascii_lowercase());
        let text = match is_unique && compact.len() <= LONGEST_ID && !text.contains(['-', '.']) {
            true if has_capitals && is_plain => Cow::Borrowed(text),
            true => Cow::Owned(compact.to_ascii_uppercase()),
            false if is_plain => Cow::Borrowed(text),
            false => return None,
        };
        let mut hasher = SipHasher24::new_with_key(&OTHER_KEY);
        hasher.write(text.as_bytes());
        Some((DeviceId::Other(hasher.finish()), text))
    }

    /// The unique id of a chip that was sent as raw bytes (docs/protocol.md 9c), read as if it had been sent in
    /// hexadecimal, as libfota2 does.
    pub fn of_raw_bytes(bytes: &[u8]) -> Option<(DeviceId, String)> {
        if bytes.len() > LONGEST_RAW {
            return None;
        }
        let digits = |byte: &u8| {
            [byte >> 4, byte & 15]
                .into_iter()
                .filter_map(|digit| char::from_digit(digit.into(), 16))
                .map(|digit| digit.to_ascii_uppercase())
                .collect::<Vec<char>>()
        };
        let text: String = bytes.iter().flat_map(digits).collect();
        DeviceId::read(&text).map(|(id, text)| (id, text.into_owned()))
    }

    /// The beginning of an id as a person writes it, without what [`DeviceId::read`] takes away from an id.
    pub fn prefix(text: &str) -> String {
        let text = bare(text);
        let is_part = |c: char| c.is_ascii_hexdigit() || is_separator(c);
        // A `-` may be part of an id, but not between pairs of digits.
        let mut groups = text.split('-').rev().skip(1);
        let is_mac = groups.all(|group| group.len() == 2);
        match text.chars().all(is_part) && is_mac {
            true => text.chars().filter(|c| !is_separator(*c)).collect(),
            false => text.to_owned(),
        }
    }

    /// Does the text stand for "no id"? Modules without one would else all be one device.
    pub fn is_nobody(text: &str) -> bool {
        let text = bare(text);
        let mut rest = text.chars().filter(|c| !is_separator(*c)).peekable();
        let first = rest.peek().copied();
        let mut is_same = |letter: char| rest.all(|c| c.eq_ignore_ascii_case(&letter));
        match first {
            None => true,
            Some('0') => is_same('0'),
            Some('f' | 'F') if text.len() >= 12 => is_same('f'),
            Some(_) => NOBODY.iter().any(|word| word.eq_ignore_ascii_case(text)),
        }
    }

    /// Which kind it is, and its number: the bytes that are hashed.
    pub fn parts(self) -> (u8, u64) {
        match self {
            DeviceId::Imei(number) => (0, number),
            DeviceId::Mac(number) => (1, number),
            DeviceId::Other(hash) => (2, hash),
        }
    }

    /// The id of these parts.
    pub fn of_parts((kind, number): (u8, u64)) -> DeviceId {
        match kind {
            0 => DeviceId::Imei(number),
            1 => DeviceId::Mac(number),
            _ => DeviceId::Other(number),
        }
    }
}

/// The text without white space and quotes around it and a `+` in front.
fn bare(text: &str) -> &str {
    let around = |c: char| {
        c.is_whitespace() || matches!(c, '"' | '\'' | '`' | '“' | '”' | '‘' | '’' | '＂' | '＇')
    };
    let text = text.trim_matches(around);
    // `="862991443753386"` is how a number is kept from becoming one in a spreadsheet.
    let text = text.trim_start_matches(['+', '=', '＋']);
    text.trim_matches(around)
}

/// What may stand between the digits of an id.
fn is_separator(c: char) -> bool {
    c.is_whitespace() || matches!(c, ':' | '-' | '.')
}

/// `a1:b2:c3:d4:e5:f6`, `A1B2-C3D4-E5F6`, `a1b2c3d4e5f6`: groups of one length.
fn is_grouped(text: &str) -> bool {
    let mut groups = text.split(is_separator).map(str::len);
    let first = groups.next().unwrap_or_default();
    matches!(first, 2 | 4 | 6 | 12) && groups.all(|length| length == first)
}

/// `862991443753386` → the number. Seventeen digits are far below 2^64.
fn imei(text: &str) -> Option<u64> {
    let add = |number: u64, byte: u8| {
        let digit = byte.wrapping_sub(b'0');
        (digit < 10).then(|| number.wrapping_mul(10).wrapping_add(digit.into()))
    };
    let may_be = (14..=17).contains(&text.len());
    may_be.then(|| text.bytes().try_fold(0, add)).flatten()
}

/// A set of devices: single ids and IMEI ranges. A look-up is a binary search. A clone shares the
/// entries: each release of a project has its project's.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct DeviceSet {
    /// Ids named singly, sorted, each once; those inside a range too, because `names` asks for them.
    single: Arc<[DeviceId]>,
    /// Both ends inclusive; sorted, and no two touch.
    ranges: Arc<[(u64, u64)]>,
    /// Entries that no IMEI looks like, as they are written, and how many digits they have; the first
    /// [`ODD`] of them.
    odd: Arc<[(Box<str>, usize)]>,
    /// Those of another set too.
    more: Option<Arc<DeviceSet>>,
}

/// Entries that are remembered for a warning.
const ODD: usize = 5;

impl DeviceSet {
    /// Reads the entries of `allow` or `deny`: an id, or `FIRST-LAST` of two IMEIs (inclusive, 14..=17
    /// digits each). The error is a sentence that names the entry.
    pub fn parse<'a>(entries: impl IntoIterator<Item = &'a str>) -> Result<DeviceSet, String> {
        let (mut single, mut ranges, mut odd) = (Vec::new(), Vec::new(), Vec::new());
        for entry in entries {
            let read = one_entry(entry.trim())?;
            if let Some(digits) = odd_digits(entry, &read)
                && odd.len() < ODD
            {
                odd.push((entry.trim().into(), digits));
            }
            match read {
                Entry::Single(id) => single.push(id),
                Entry::Range(first, last) => ranges.push((first, last)),
            }
        }
        let mut set = DeviceSet::of(single, ranges);
        set.odd = odd.into();
        Ok(set)
    }

    /// The first few entries of digits that are no IMEI by their number, and that number.
    pub fn odd(&self) -> impl Iterator<Item = (&str, usize)> {
        self.odd.iter().map(|(entry, digits)| (&**entry, *digits))
    }

    /// Sorts, and merges what overlaps or touches.
    fn of(mut single: Vec<DeviceId>, mut ranges: Vec<(u64, u64)>) -> DeviceSet {
        single.sort();
        single.dedup();
        ranges.sort();
        ranges.dedup_by(|next, kept| {
            let joined = next.0 <= kept.1.saturating_add(1);
            if joined {
                kept.1 = kept.1.max(next.1);
            }
            joined
        });
        DeviceSet {
            single: single.into(),
            ranges: ranges.into(),
            odd: Arc::default(),
            more: None,
        }
    }

    /// Is the device in the set, singly or by a range?
    pub fn contains(&self, device: DeviceId) -> bool {
        let in_a_range = |imei: u64| {
            // The only range that can hold it is the last that begins at or before it.
            let at = self.ranges.partition_point(|range| range.0 <= imei);
            at.checked_sub(1)
                .and_then(|last| self.ranges.get(last))
                .is_some_and(|range| imei <= range.1)
        };
        let is_here = match device {
            DeviceId::Imei(imei) if in_a_range(imei) => true,
            _ => self.single.binary_search(&device).is_ok(),
        };
        is_here || self.more.as_ref().is_some_and(|more| more.contains(device))
    }

    /// Is the device named singly? (Such a one is in whatever `percent` says.)
    pub fn names(&self, device: DeviceId) -> bool {
        self.single.binary_search(&device).is_ok()
            || self.more.as_ref().is_some_and(|more| more.names(device))
    }

    /// Both sets in one. The entries of both are shared, not copied: a project's `deny` may have a
    /// hundred thousand, and each of its releases a few of its own.
    pub fn union(&self, other: &DeviceSet) -> DeviceSet {
        if other.is_empty() {
            return self.clone();
        }
        if self.is_empty() {
            return other.clone();
        }
        let more = match &self.more {
            Some(more) => more.union(other),
            None => other.clone(),
        };
        DeviceSet {
            more: Some(Arc::new(more)),
            ..self.clone()
        }
    }

    /// How many entries (single ids and ranges, after merging) there are. After a [`DeviceSet::union`]
    /// those of both sets; what is in both counts twice.
    pub fn len(&self) -> usize {
        let more = self.more.as_ref().map_or(0, |more| more.len());
        let own = self.single.len().saturating_add(self.ranges.len());
        own.saturating_add(more)
    }

    /// No entry at all.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

/// One entry of `allow` or `deny`.
enum Entry {
    Single(DeviceId),
    Range(u64, u64),
}

/// `862991443753386`, `862991440000000-862991449999999`, `A1B2C3D4E5F6`, any other id.
fn one_entry(entry: &str) -> Result<Entry, String> {
    let digits = |text: &str| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    if let Some((first, last)) = entry.split_once('-') {
        let (first, last) = (first.trim(), last.trim());
        if digits(first) && digits(last) {
            return range(entry, first, last);
        }
    }
    DeviceId::parse(entry).map(Entry::Single).ok_or_else(|| {
        // A long entry is shown by its beginning.
        let shown: String = entry.chars().take(LONGEST_ID).collect();
        format!(
            "`{}` is no device: write an IMEI (15 digits), a range of two (`862991440000000-862991449999999`), \
             a MAC (12 hexadecimal digits) or another id of letters, digits, `_` and `-`",
            shown.escape_debug()
        )
    })
}

/// How many digits an entry of digits has, if no IMEI has so many: 15, or 16 with the version of the software.
/// (Twelve are a MAC.)
fn odd_digits(text: &str, entry: &Entry) -> Option<usize> {
    let text = match entry {
        Entry::Single(_) => text,
        Entry::Range(..) => text.split('-').next()?,
    };
    let mut rest = bare(text).chars().filter(|c| !is_separator(*c));
    let digits = rest.try_fold(0_usize, |digits, c| {
        c.is_ascii_digit().then(|| digits.saturating_add(1))
    })?;
    matches!(digits, 13 | 14 | 17 | 18).then_some(digits)
}

/// Two IMEIs, of the same length: a digit lost on one side would let in nine tenths of the world.
fn range(entry: &str, first: &str, last: &str) -> Result<Entry, String> {
    let shown: String = entry.chars().take(LONGEST_ID).collect();
    match (imei(first), imei(last)) {
        (Some(_), Some(_)) if first.len() != last.len() => Err(format!(
            "the range `{shown}` begins with {} digits and ends with {}: one of the two has lost or won a \
             digit",
            first.len(),
            last.len()
        )),
        (Some(from), Some(to)) if from > to => Err(format!(
            "the range `{shown}` ends before it begins: exchange its two ends"
        )),
        (Some(from), Some(to)) => Ok(Entry::Range(from, to)),
        _ => Err(format!(
            "the range `{shown}` needs an IMEI of 14 to 17 digits on each side of the `-`, such as \
             `862991440000000-862991449999999`"
        )),
    }
}

/// Where in 0..10_000 a device falls for a release: it is in a rollout of `p` percent if this is
/// below `p × 100`. Stable across restarts and machines, so 10 % are always among the 20 %; different
/// for each release, so that not the same devices are always first.
pub fn cohort(project: &str, version: super::version::Version, device: DeviceId) -> u32 {
    let mut hasher = SipHasher24::new_with_key(&COHORT_KEY);
    hasher.write(project.as_bytes());
    // No UTF-8 text holds this byte, so no project's end can be taken for a version's beginning.
    hasher.write(&[0xff]);
    // Numbers go in as little-endian bytes, so that every machine finds the same cohort.
    for field in version.fields() {
        hasher.write(&field.to_le_bytes());
    }
    let (kind, number) = device.parts();
    hasher.write(&[kind]);
    hasher.write(&number.to_le_bytes());
    u32::try_from(hasher.finish() % 10_000).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::super::version::Version;
    use super::*;
    use proptest::prelude::*;

    fn set(entries: &[&str]) -> DeviceSet {
        DeviceSet::parse(entries.iter().copied()).unwrap()
    }

    fn id(text: &str) -> DeviceId {
        DeviceId::parse(text).unwrap()
    }

    #[test]
    fn ids_are_told_apart_by_their_shape() {
        for (text, expected) in [
            ("862991443753386", DeviceId::Imei(862_991_443_753_386)),
            ("86299144375338", DeviceId::Imei(86_299_144_375_338)),
            ("86299144375338612", DeviceId::Imei(86_299_144_375_338_612)),
            ("a1B2c3D4e5F6", DeviceId::Mac(0xa1b2_c3d4_e5f6)),
            ("123456789012", DeviceId::Mac(0x1234_5678_9012)),
        ] {
            assert_eq!(DeviceId::parse(text), Some(expected), "{text}");
        }
        for text in ["1", "865", "sn_42-B", "0123456789ABCDEF", &"x".repeat(64)] {
            assert!(
                matches!(DeviceId::parse(text), Some(DeviceId::Other(_))),
                "{text}"
            );
        }
        // The hash is part of what is kept on disk: it must never change.
        assert_eq!(id("sn_42-B"), DeviceId::Other(0xc65b_0ae1_cba3_da73));
    }

    // Cases 15, 16.
    #[test]
    fn what_surrounds_and_separates_an_id_is_no_part_of_it() {
        for (text, expected, shown) in [
            ("a1:b2:c3:d4:e5:f6", "a1b2c3d4e5f6", "a1b2c3d4e5f6"),
            ("A1-B2-C3-D4-E5-F6", "a1b2c3d4e5f6", "a1b2c3d4e5f6"),
            ("A1B2.C3D4.E5F6", "a1b2c3d4e5f6", "a1b2c3d4e5f6"),
            ("\"A1 B2 C3 D4 E5 F6\"", "a1b2c3d4e5f6", "a1b2c3d4e5f6"),
            ("A1B2C3D4E5F6", "a1b2c3d4e5f6", "A1B2C3D4E5F6"),
            ("11-22-33-44-55-66", "112233445566", "112233445566"),
            ("\"862991443753386\"", "862991443753386", "862991443753386"),
            ("'862991443753386'", "862991443753386", "862991443753386"),
            ("“862991443753386”", "862991443753386", "862991443753386"),
            ("=\"862991443753386\"", "862991443753386", "862991443753386"),
            ("+862991443753386", "862991443753386", "862991443753386"),
            (
                "\"+862991443753386 \"",
                "862991443753386",
                "862991443753386",
            ),
            (" 862991443753386\r\n", "862991443753386", "862991443753386"),
            ("86 299144 375338 6", "862991443753386", "862991443753386"),
            ("86-299144-375338-6", "862991443753386", "862991443753386"),
            ("\" sn_42-B\"", "sn_42-B", "sn_42-B"),
            ("3042455331313a30", "3042455331313A30", "3042455331313A30"),
            (
                "30:42:45:53:31:31:3a:30",
                "3042455331313A30",
                "3042455331313A30",
            ),
        ] {
            let (read, text_read) = DeviceId::read(text).unwrap();
            assert_eq!((read, &*text_read), (id(expected), shown), "{text}");
        }
        // Not hexadecimal, so its letters are its own.
        assert_ne!(id("sensor-a"), id("SENSOR-A"));
    }

    #[test]
    fn the_beginning_of_an_id_is_written_in_any_way_too() {
        for (text, prefix) in [
            ("a1:b2:c", "a1b2c"),
            ("A1-B2-", "A1B2"),
            (" \"8629914 4", "86299144"),
            ("+86", "86"),
            ("sn-4", "sn-4"),
            ("42-7", "427"),
            ("421-7", "421-7"),
            ("", ""),
        ] {
            assert_eq!(DeviceId::prefix(text), prefix, "{text}");
        }
    }

    // Case 17.
    #[test]
    fn what_stands_for_none_is_no_id() {
        for text in [
            "nil",
            "NIL",
            "\"nil\"",
            " null ",
            "none",
            "undefined",
            "0",
            "000000000000",
            "000000000000000",
            "00:00:00:00:00:00",
            "00000000000000000000000000000000",
            "ffffffffffff",
            "FF-FF-FF-FF-FF-FF",
            "FFFFFFFFFFFFFFFF",
            "\"\"",
            "+",
            "--",
            "",
        ] {
            assert_eq!(DeviceId::read(text), None, "{text}");
            assert!(DeviceId::is_nobody(text), "{text}");
        }
        for text in ["862991443753386", "f", "nil-1", "../x"] {
            assert!(!DeviceId::is_nobody(text), "{text}");
        }
    }

    #[test]
    fn an_id_of_raw_bytes_is_the_one_that_libfota2_sends() {
        let bytes = b"\x30\x42\x00\x53\x31\x31\x3a\xff";
        let (read, text) = DeviceId::of_raw_bytes(bytes).unwrap();
        assert_eq!(text, "3042005331313AFF");
        assert_eq!(read, id("3042005331313AFF"));
        assert_eq!(DeviceId::of_raw_bytes(&[0; 16]), None);
        assert_eq!(DeviceId::of_raw_bytes(&[0xff; 16]), None);
        assert_eq!(DeviceId::of_raw_bytes(b""), None);
        assert_eq!(DeviceId::of_raw_bytes(&[1; 33]), None);
    }

    // Case 18.
    #[test]
    fn an_entry_of_digits_that_is_no_imei_is_remembered() {
        let odd = |entries: &[&str]| -> Vec<(String, usize)> {
            let set = set(entries);
            set.odd()
                .map(|(entry, digits)| (entry.to_owned(), digits))
                .collect()
        };
        assert_eq!(
            odd(&["86299144375338"]),
            [("86299144375338".to_owned(), 14)]
        );
        assert_eq!(odd(&["86299144000000-86299144999999"])[0].1, 14);
        assert_eq!(odd(&["8629914437533"])[0].1, 13);
        let good = [
            "862991443753386",
            "8629914437533861",
            "112233445566",
            "sn-42",
            "A1B2C3D4E5F6AB",
        ];
        assert_eq!(odd(&good), []);
    }

    #[test]
    fn what_is_no_id_is_refused() {
        for text in [
            "",
            " ",
            "a b",
            "862991443753386.0",
            "8.62991443753386e+14",
            "a,b",
            "水表",
            "a\nb",
            "x=1",
            "a1:b2:c3:d4:e5",
            "a1:b2c3:d4e5:f6",
            &"x".repeat(65),
        ] {
            assert_eq!(DeviceId::parse(text), None, "{text}");
        }
    }

    #[test]
    fn a_set_holds_its_single_ids_and_its_ranges() {
        let set = set(&[
            "862991440000000-862991449999999",
            "862991450000000 - 862991450000009",
            " 100000000000000 ",
            "A1B2C3D4E5F6",
            "sn-42",
        ]);
        for text in [
            "862991440000000",
            "862991449999999",
            "862991450000009",
            "100000000000000",
            "a1b2c3d4e5f6",
            "sn-42",
        ] {
            assert!(set.contains(id(text)), "{text}");
        }
        for text in [
            "862991439999999",
            "862991450000010",
            "100000000000001",
            "SN-42",
        ] {
            assert!(!set.contains(id(text)), "{text}");
        }
        // The two ranges touch: they are one.
        assert_eq!(set.len(), 4);
        assert!(!set.is_empty());
        assert!(DeviceSet::default().is_empty());
    }

    #[test]
    fn only_a_single_entry_names_a_device() {
        let set = set(&["862991440000000-862991449999999", "862991440000007"]);
        assert!(set.names(id("862991440000007")));
        assert!(!set.names(id("862991440000008")));
        assert!(set.contains(id("862991440000008")));
    }

    #[test]
    fn an_entry_that_cannot_be_read_is_named() {
        for (entry, part) in [
            ("8.62991E+14", "is no device"),
            ("nil", "is no device"),
            ("000000000000000", "is no device"),
            ("", "is no device"),
            ("862991449999999-862991440000000", "exchange"),
            (
                "86299144000000-862991449999999",
                "14 digits and ends with 15",
            ),
            ("8629914-8629915", "14 to 17 digits"),
            ("水", "`水`"),
        ] {
            let sentence = DeviceSet::parse([entry]).unwrap_err();
            assert!(sentence.contains(part), "{entry}: {sentence}");
        }
    }

    #[test]
    fn a_hundred_thousand_ranges_do_not_slow_a_look_up() {
        let entries: Vec<String> = (0..100_000u64)
            .map(|n| {
                let first = 862_000_000_000_000 + n * 100;
                format!("{first}-{}", first + 49)
            })
            .collect();
        let set = DeviceSet::parse(entries.iter().map(String::as_str)).unwrap();
        assert_eq!(set.len(), 100_000);
        let start = std::time::Instant::now();
        let mut inside = 0;
        for n in 0..100_000u64 {
            inside += u32::from(set.contains(DeviceId::Imei(862_000_000_000_000 + n * 25)));
        }
        // A linear look-up would take 10^10 steps.
        assert!(start.elapsed().as_secs() < 5);
        assert_eq!(inside, 50_000);
    }

    #[test]
    fn a_union_has_the_devices_of_both() {
        let one = set(&["862991440000000-862991440000009", "sn1"]);
        let two = set(&["862991440000005-862991440000019", "sn2", "sn1"]);
        let both = one.union(&two);
        assert_eq!(both.len(), 5);
        for text in ["862991440000000", "862991440000019", "sn1", "sn2"] {
            assert!(both.contains(id(text)), "{text}");
        }
        assert!(both.names(id("sn2")) && !both.names(id("862991440000019")));
        assert!(!both.contains(id("862991440000020")) && !both.contains(id("sn3")));
        let three = both.union(&set(&["sn3"]));
        assert!(three.names(id("sn1")) && three.names(id("sn2")) && three.names(id("sn3")));
        assert_eq!(one.union(&DeviceSet::default()), one);
        assert_eq!(DeviceSet::default().union(&one), one);
    }

    #[test]
    fn a_union_shares_the_entries_of_both() {
        let (one, two) = (
            set(&["sn1"]),
            set(&["sn2", "862991440000000-862991440000009"]),
        );
        let both = one.union(&two);
        assert!(Arc::ptr_eq(&both.single, &one.single));
        let more = both.more.as_ref().unwrap();
        assert!(Arc::ptr_eq(&more.single, &two.single) && Arc::ptr_eq(&more.ranges, &two.ranges));
    }

    #[test]
    fn a_cohort_never_changes() {
        let version = Version::parse("2.0.1").unwrap();
        // A device that falls out of a rollout after an update of the server would be a bug: these
        // numbers must stay.
        for (project, device, expected) in [
            ("ALIYUN", "862991443753386", 2393),
            ("ALIYUN", "A1B2C3D4E5F6", 3496),
            ("水表", "862991443753386", 2564),
        ] {
            assert_eq!(cohort(project, version, id(device)), expected, "{device}");
        }
    }

    #[test]
    fn ten_percent_are_about_ten_percent_and_not_the_same_for_each_release() {
        let [one, two] = ["2.0.1", "2.0.2"].map(|text| Version::parse(text).unwrap());
        let devices = || (0..20_000u64).map(|n| DeviceId::Imei(862_991_440_000_000 + n));
        let first = devices().filter(|&d| cohort("A", one, d) < 1000).count();
        assert!((1800..2200).contains(&first), "{first}");
        let both = devices()
            .filter(|&d| cohort("A", one, d) < 1000 && cohort("A", two, d) < 1000)
            .count();
        assert!((120..280).contains(&both), "{both}");
    }

    proptest! {
        #[test]
        fn no_text_panics(text in "\\PC*", more in "[0-9-]{0,40}") {
            let _ = DeviceId::parse(&text);
            let _ = DeviceSet::parse([text.as_str(), more.as_str()]);
        }

        #[test]
        fn an_imei_of_fifteen_digits_reads_back(number in 1u64..1_000_000_000_000_000) {
            let text = format!("{number:015}");
            prop_assert_eq!(DeviceId::parse(&text), Some(DeviceId::Imei(number)));
        }

        #[test]
        fn a_set_holds_what_a_list_would(
            ranges in prop::collection::vec((0u64..200, 0u64..20), 0..20),
            probe in 0u64..240,
        ) {
            let base = 862_991_440_000_000u64;
            let entries: Vec<String> = ranges
                .iter()
                .map(|(from, more)| format!("{}-{}", base + from, base + from + more))
                .collect();
            let set = DeviceSet::parse(entries.iter().map(String::as_str)).unwrap();
            let expected = ranges.iter().any(|(from, more)| (*from..=from + more).contains(&probe));
            prop_assert_eq!(set.contains(DeviceId::Imei(base + probe)), expected);
            // Merged, sorted, apart.
            prop_assert!(set.ranges.windows(2).all(|pair| pair[0].1 + 1 < pair[1].0));
        }

        #[test]
        fn whoever_is_in_ten_percent_is_in_twenty(imei in 0u64..1_000_000_000_000_000) {
            let version = Version::parse("1.0").unwrap();
            prop_assert!(cohort("P", version, DeviceId::Imei(imei)) < 10_000);
        }
    }
}
