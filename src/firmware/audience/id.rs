//! Identifiers of devices.

use std::borrow::Cow;
use std::hash::Hasher;

use siphasher::sip::SipHasher24;

/// Identity that a module claims. Its text is bounded and has only known characters, whatever was received
/// (docs/hazards.md 21).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum DeviceId {
    /// 14 to 17 decimal digits; 15 in the standard.
    Imei(u64),
    /// 12 hexadecimal digits, without separators.
    Mac(u64),
    /// Any other id of 1 to 64 characters of `[0-9A-Za-z_-]`, as a 64-bit SipHash of the text.
    Other(u64),
}

/// Key of the hash of ids that are neither IMEI nor MAC. It need not be secret: a server believes any id that a module
/// claims, so a collision of two ids gains nothing. A fixed key gives the same id after a restart and on every machine.
const OTHER_KEY: [u8; 16] = *b"luat-ota other 1";

/// Maximum length of an id in characters.
pub(super) const LONGEST_ID: usize = 64;

/// Length in bytes of the longest text that may contain an id.
const LONGEST_TEXT: usize = 256;

/// Length in bytes of the longest unique id of a chip that is sent as raw bytes.
const LONGEST_RAW: usize = 32;

/// Texts that modules send if they could not determine their id.
const NO_IDS: [&str; 6] = ["nil", "null", "none", "undefined", "unknown", "false"];

impl DeviceId {
    /// Parses an id from any source, like [`DeviceId::read`] but without the text.
    pub fn parse(text: &str) -> Option<DeviceId> {
        DeviceId::read(text).map(|(id, _)| id)
    }

    /// Parses an id from the network, a rules file, a list or a command line. Returns also the text by which the id is
    /// shown: as written, but without characters that only surround or separate it (quotes, white space, a leading `+`,
    /// the separators of a MAC).
    ///
    /// 14..=17 digits are an IMEI, 12 hexadecimal digits (which need not include letters) a MAC. A text that is empty,
    /// too long or has other characters is no id; nor is a text that means "none": `nil`, only zeros, a MAC or uid of
    /// only `f`.
    pub fn read(text: &str) -> Option<(DeviceId, Cow<'_, str>)> {
        if let Some(imei) = imei(text) {
            return (imei != 0).then_some((DeviceId::Imei(imei), Cow::Borrowed(text)));
        }
        if text.len() > LONGEST_TEXT {
            return None;
        }
        let text = trim_quotes(text);
        if DeviceId::means_no_id(text) {
            return None;
        }
        if let Some(imei) = imei(text) {
            return Some((DeviceId::Imei(imei), Cow::Borrowed(text)));
        }
        let within = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'_' || byte == b'-';
        let is_plain = text.len() <= LONGEST_ID && text.bytes().all(within);
        let compact: String = text.chars().filter(|c| !is_separator(*c)).collect();
        // Without a dot, because `862991443753386.0` would get another digit.
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
        // libfota2 sends the unique id of a chip in capitals.
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

    /// Parses the unique id of a chip that was sent as raw bytes (docs/protocol.md 9c), as if it had been sent in
    /// hexadecimal, as libfota2 does.
    pub fn of_raw_bytes(bytes: &[u8]) -> Option<(DeviceId, String)> {
        if bytes.len() > LONGEST_RAW {
            return None;
        }
        let text: String = bytes.iter().map(|byte| format!("{byte:02X}")).collect();
        DeviceId::read(&text).map(|(id, text)| (id, text.into_owned()))
    }

    /// Returns the beginning of an id, as a person writes it, without the characters that [`DeviceId::read`] removes.
    pub fn prefix(text: &str) -> String {
        let text = trim_quotes(text);
        let is_part = |c: char| c.is_ascii_hexdigit() || is_separator(c);
        // A `-` may be part of an id, but not between pairs of digits.
        let mut groups = text.split('-').rev().skip(1);
        let is_mac = groups.all(|group| group.len() == 2);
        match text.chars().all(is_part) && is_mac {
            true => text.chars().filter(|c| !is_separator(*c)).collect(),
            false => text.to_owned(),
        }
    }

    /// Whether the text means "no id". Otherwise all modules without an id would be one device.
    pub fn means_no_id(text: &str) -> bool {
        let text = trim_quotes(text);
        let mut rest = text.chars().filter(|c| !is_separator(*c)).peekable();
        let first = rest.peek().copied();
        let mut is_same = |letter: char| rest.all(|c| c.eq_ignore_ascii_case(&letter));
        match first {
            None => true,
            Some('0') => is_same('0'),
            Some('f' | 'F') if text.len() >= 12 => is_same('f'),
            Some(_) => NO_IDS.iter().any(|word| word.eq_ignore_ascii_case(text)),
        }
    }

    /// The kind of the id and its number, which are the hashed bytes.
    pub fn parts(self) -> (u8, u64) {
        match self {
            DeviceId::Imei(number) => (0, number),
            DeviceId::Mac(number) => (1, number),
            DeviceId::Other(hash) => (2, hash),
        }
    }

    /// Creates the id with these parts.
    pub fn of_parts((kind, number): (u8, u64)) -> DeviceId {
        match kind {
            0 => DeviceId::Imei(number),
            1 => DeviceId::Mac(number),
            _ => DeviceId::Other(number),
        }
    }
}

/// Returns the text without surrounding white space and quotes, and without a leading `+`.
pub(super) fn trim_quotes(text: &str) -> &str {
    let around = |c: char| {
        c.is_whitespace() || matches!(c, '"' | '\'' | '`' | '“' | '”' | '‘' | '’' | '＂' | '＇')
    };
    let text = text.trim_matches(around);
    // In a spreadsheet, `="862991443753386"` prevents an id from becoming a number.
    let text = text.trim_start_matches(['+', '=', '＋']);
    text.trim_matches(around)
}

/// Whether a character may separate the digits of an id.
pub(super) fn is_separator(c: char) -> bool {
    c.is_whitespace() || matches!(c, ':' | '-' | '.')
}

/// Whether all groups have the same length: `a1:b2:c3:d4:e5:f6`, `A1B2-C3D4-E5F6`, `a1b2c3d4e5f6`.
fn is_grouped(text: &str) -> bool {
    let mut groups = text.split(is_separator).map(str::len);
    let first = groups.next().unwrap_or_default();
    matches!(first, 2 | 4 | 6 | 12) && groups.all(|length| length == first)
}

/// Parses an IMEI such as `862991443753386`. Seventeen digits are far below 2^64.
pub(super) fn imei(text: &str) -> Option<u64> {
    let add = |number: u64, byte: u8| {
        let digit = byte.wrapping_sub(b'0');
        (digit < 10).then(|| number.wrapping_mul(10).wrapping_add(digit.into()))
    };
    let may_be = (14..=17).contains(&text.len());
    may_be.then(|| text.bytes().try_fold(0, add)).flatten()
}
