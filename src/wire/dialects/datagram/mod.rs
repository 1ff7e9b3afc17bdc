//! Parser and encoder of the packet protocol of the first edition over UDP, and the same bytes over TCP, in both forms
//! (docs/protocol.md 6).
//!
//! PROJECT and VERSION are free text, and so is SN in the official form, which may contain commas. A message is
//! therefore parsed from both ends. Nothing is percent-encoded.

use std::borrow::Cow;
use std::io::Write;

use nom::bytes::complete::{tag, take_till};
use nom::character::complete::{char, digit1, u16 as packet_number, u32 as upgrade_id};
use nom::combinator::{all_consuming, rest};
use nom::sequence::{preceded, separated_pair};
use nom::{IResult, Parser};

use crate::decision::Check;
use crate::firmware::audience::DeviceId;
use crate::wire::text;

/// Number of data bytes in a packet: 1022, except for the last packet of a file, which has 1 to 1022.
pub const PACKET: usize = 1022;

/// Size of the largest file that 65535 packets carry, in bytes.
pub const LARGEST: u64 = 65535 * PACKET as u64;

/// Prefixes of this server's replies and those of other servers. A message that begins so gets no reply. Otherwise the
/// server could exchange replies with another server, or with itself, endlessly (docs/hazards.md 5).
const REPLY_PREFIXES: [&[u8]; 8] = [
    b"LUAUPDATE",
    b"ERR",
    b"no upgrade",
    b"unknown function",
    b"version error",
    b"imei range error",
    b"error all",
    b"OK",
];

/// The bytes before and after a comma.
type Split<'a> = (&'a [u8], &'a [u8]);

/// A message from a module.
#[derive(Clone, Debug, PartialEq)]
pub enum Datagram<'a> {
    /// `IMEI,PROJECT_COREVER,VERSION` or `0,KEY,IMEI,SN,PROJECT_COREVER,VERSION`.
    Check(Check<'a>),
    /// `Get5,7` or `0,KEY,IMEI,SN,PROJECT_COREVER,VERSION,Get5,7`.
    Get(Get),
    /// Any other text; the reply is `unknown function`.
    Unknown,
    /// A message that gets no reply: empty, not text, or with the prefix of a reply (docs/hazards.md 5).
    NoReply,
}

/// A request for packet `number` of upgrade `id`. A field is `None` if it is not a number that this server could have
/// assigned; the reply is then `ERR`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Get {
    /// Number of the packet, counted from 1: 1..=65535.
    pub number: Option<u16>,
    /// Number of the upgrade: 0..=2147483647.
    pub id: Option<u32>,
}

/// Parses one message. Trailing CR, LF, NUL, spaces and tabs are ignored.
pub fn parse(bytes: &[u8]) -> Datagram<'_> {
    let message = trim_end(bytes);
    if gets_no_reply(message) {
        return Datagram::NoReply;
    }
    if let Ok((_, get)) = get(message) {
        return Datagram::Get(get);
    }
    let parsed = if message.starts_with(b"0,") {
        official(message)
    } else {
        user_check(message)
    };
    parsed.unwrap_or(Datagram::Unknown)
}

/// Returns the number of packets of a file of this size and the number of data bytes in the last one (1..=1022); `None`
/// for an empty file or one over [`LARGEST`].
pub fn packets(size: u64) -> Option<(u16, u16)> {
    let behind_first = size.checked_sub(1)?;
    let count = behind_first / PACKET as u64 + 1;
    let last = behind_first % PACKET as u64 + 1;
    Some((u16::try_from(count).ok()?, u16::try_from(last).ok()?))
}

/// Writes `LUAUPDATE,<id>,<count>,<last>` into the buffer. Returns the length, at most 31 bytes, or 0 if the buffer is
/// too short.
pub fn write_offer(buffer: &mut [u8], id: u32, count: u16, last: u16) -> usize {
    let room = buffer.len();
    let mut rest = buffer;
    match write!(rest, "LUAUPDATE,{id},{count},{last}") {
        Ok(()) => room.saturating_sub(rest.len()),
        Err(_) => 0,
    }
}

fn trim_end(bytes: &[u8]) -> &[u8] {
    let end = bytes
        .iter()
        .rposition(|b| !matches!(b, b'\r' | b'\n' | b'\0' | b' ' | b'\t'));
    end.and_then(|end| bytes.get(..=end)).unwrap_or_default()
}

fn gets_no_reply(message: &[u8]) -> bool {
    message.is_empty()
        || REPLY_PREFIXES.iter().any(|reply| message.starts_with(reply))
        || message.iter().any(u8::is_ascii_control)
        // Each field is checked alone: a message may contain a project in UTF-8 and an SN in GBK.
        || !message.split(|&b| b == b',').all(text::is_readable)
}

/// Parses `IMEI "," PROJECT_COREVER "," VERSION`, if the first field is an id.
fn user_check(message: &[u8]) -> Option<Datagram<'_>> {
    let (_, (imei, rest)) = first_field(message).ok()?;
    let (name, version) = last_field(rest)?;
    let check = check(b"", imei, name, version);
    let is_module = check.device.is_some() || is_placeholder_id(imei);
    is_module.then_some(Datagram::Check(check))
}

/// Whether the field contains `nil` or zeros in place of a module's id.
fn is_placeholder_id(imei: &[u8]) -> bool {
    let imei = imei.trim_ascii();
    !imei.is_empty() && DeviceId::means_no_id(&text::read(imei))
}

/// Parses `0,KEY,IMEI,SN,PROJECT_COREVER,VERSION`, followed by `,GetN,ID` if the message asks for a packet.
fn official(message: &[u8]) -> Option<Datagram<'_>> {
    let (_, (key, (imei, rest))) = official_beginning(message).ok()?;
    let (rest, last) = last_field(rest)?;
    let (rest, middle) = last_field(rest)?;
    // The rest is `SN` or `SN,PROJECT_COREVER,VERSION`. Only after the latter is `Get5` not a firmware name.
    let room = rest.iter().filter(|&&b| b == b',').count() >= 2;
    if room && let Ok((_, number)) = get_number(middle) {
        let id = get_id(last);
        return Some(Datagram::Get(Get { number, id }));
    }
    Some(Datagram::Check(check(key, imei, middle, last)))
}

/// Parses `"0," KEY "," IMEI "," rest`.
fn official_beginning(input: &[u8]) -> IResult<&[u8], (&[u8], Split<'_>)> {
    let key_and_rest = separated_pair(field, char(','), first_field);
    preceded(tag("0,"), key_and_rest).parse(input)
}

/// Parses a field. Returns the field and the bytes after its comma.
fn first_field(input: &[u8]) -> IResult<&[u8], Split<'_>> {
    separated_pair(field, char(','), rest).parse(input)
}

/// Splits off the last field. Returns the bytes before the last comma and the field after it.
fn last_field(input: &[u8]) -> Option<Split<'_>> {
    let at = input.iter().rposition(|&b| b == b',')?;
    let (before, field) = input.split_at_checked(at)?;
    Some((before, field.strip_prefix(b",")?))
}

fn field(input: &[u8]) -> IResult<&[u8], &[u8]> {
    take_till(|b| b == b',').parse(input)
}

/// Parses `"Get" number "," id`. Every message that begins with `Get` counts as such a request.
fn get(input: &[u8]) -> IResult<&[u8], Get> {
    let (rest, number) = preceded(tag("Get"), field).parse(input)?;
    let id = rest.strip_prefix(b",").and_then(get_id);
    let number = packet(number);
    Ok((b"", Get { number, id }))
}

/// Parses `"Get" 1*DIGIT`. Returns the number, if it is a valid packet number.
fn get_number(input: &[u8]) -> IResult<&[u8], Option<u16>> {
    all_consuming(preceded(tag("Get"), digit1))
        .map(packet)
        .parse(input)
}

fn packet(digits: &[u8]) -> Option<u16> {
    let parsed: IResult<&[u8], u16> = all_consuming(packet_number).parse(digits);
    parsed
        .ok()
        .map(|(_, number)| number)
        .filter(|&number| number > 0)
}

fn get_id(digits: &[u8]) -> Option<u32> {
    let parsed: IResult<&[u8], u32> = all_consuming(upgrade_id).parse(digits);
    // The server assigns no id that exceeds the 32-bit signed number of a module.
    parsed
        .ok()
        .map(|(_, id)| id)
        .filter(|&id| i32::try_from(id).is_ok())
}

fn check<'a>(key: &'a [u8], imei: &'a [u8], name: &'a [u8], version: &'a [u8]) -> Check<'a> {
    let given = |raw: &'a [u8]| (!raw.is_empty()).then(|| text::read(raw));
    let (device, device_text) = match text::read(imei.trim_ascii()) {
        Cow::Borrowed(id) => DeviceId::read(id).unzip(),
        Cow::Owned(id) => {
            let read = DeviceId::read(&id);
            read.map(|(id, text)| (id, Cow::Owned(text.into_owned())))
                .unzip()
        }
    };
    Check {
        device,
        device_text: device_text.unwrap_or_default(),
        firmware_name: given(name).map(Into::into),
        version: text::read(version),
        project_key: given(key),
        largest: Some(LARGEST),
        ..Check::default()
    }
}

#[cfg(test)]
mod tests;
