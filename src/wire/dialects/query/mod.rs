//! Parser of the HTTP check with parameters in the query: libfota, libfota2, LuaTask and the first edition, with every
//! mistake that users make in the URL (docs/protocol.md 1, 3).

use std::borrow::Cow;

use memchr::{memchr, memchr_iter, memchr2};
use nom::branch::alt;
use nom::bytes::complete::{tag, take_till1, take_while, take_while1};
use nom::character::complete::{digit1, u32 as number};
use nom::combinator::{all_consuming, opt, success};
use nom::sequence::{preceded, terminated};
use nom::{IResult, Parser};

use super::device_id;
use super::parameters::{fields, non_empty, pair};
use crate::decision::Check;
use crate::firmware::audience::DeviceId;
use crate::wire::text::decode;

/// Parses a target without leading slashes: a check at a known path, or at any other path if the query is that of a
/// check.
pub(in crate::wire) fn check(target: &[u8]) -> Option<Check<'_>> {
    let (path, query, hint) = split_target(target);
    let values = Values::read(query);
    let project = match well_known(path) {
        Ok((_, project)) => project,
        Err(_) if values.version.is_some() && values.names_a_project() => None,
        Err(_) => return None,
    };
    let (device, device_text) = values.device(query).unzip();
    Some(Check {
        device,
        device_text: device_text.unwrap_or_default(),
        firmware_name: non_empty(values.firmware_name).map(decode).map(Into::into),
        path_project: project.map(decode),
        version: values.version.map(decode).unwrap_or_default(),
        core_version: values.core_version.and_then(core_version),
        project_key: non_empty(values.project_key).map(decode),
        need_oss_url: values.need_oss_url == Some(b"1"),
        largest: None,
        hint,
    })
}

/// Parses `luat/update`, `luat/update/PROJECT` or `api/site/firmware_upgrade`, and the characters that users leave at
/// the end; a slash may be doubled. Returns the project, as sent, if the path names one.
fn well_known(path: &[u8]) -> IResult<&[u8], Option<&[u8]>> {
    let project = preceded(slashes, take_till1(is_left_over));
    let update = (tag("luat"), slashes, tag("update"));
    let upgrade = (
        tag("api"),
        slashes,
        tag("site"),
        slashes,
        tag("firmware_upgrade"),
    );
    all_consuming(terminated(
        alt((
            preceded(update, opt(project)),
            preceded(upgrade, success(None)),
        )),
        take_while(is_left_over),
    ))
    .parse(path)
}

/// Parses `1*"/"`.
fn slashes(input: &[u8]) -> IResult<&[u8], &[u8]> {
    take_while1(|byte| byte == b'/').parse(input)
}

fn is_left_over(byte: u8) -> bool {
    byte == b'/' || byte == b'&'
}

/// Splits path and query: at the first `?`, or where a query begins without one, because libfota2 of 2024-11 and later
/// only appends to the URL that the user wrote (docs/protocol.md 1g). Also returns a hint about a mistake in the URL
/// (docs/protocol.md 3).
fn split_target(target: &[u8]) -> (&[u8], &[u8], &'static str) {
    const BEGINNINGS: [&[u8]; 11] = [
        b"imei=",
        b"mac=",
        b"muid=",
        b"uid=",
        b"nil&",
        b"project_key=",
        b"device_key=",
        b"firmware_name=",
        b"core_version=",
        b"need_oss_url=",
        b"version=",
    ];
    let end = memchr(b'?', target).unwrap_or(target.len());
    let (path, rest) = target.split_at_checked(end).unwrap_or((target, b""));
    let begins = |at: &usize| {
        let rest = target.get(*at..).unwrap_or_default();
        BEGINNINGS.iter().any(|key| rest.starts_with(key))
    };
    // A query that begins without a `?` begins before the first `?`. All beginnings end in `=` or `&`.
    if memchr2(b'=', b'&', path).is_some()
        && let Some(at) = (0..end).find(begins)
        && let Some((path, query)) = target.split_at_checked(at)
    {
        let hint = "the url in the module's script should end with `?`";
        return (path, query, hint);
    }
    match rest.strip_prefix(b"?") {
        Some(query) => (path, query, query_hint(query)),
        None => (target, b"", ""),
    }
}

/// Returns a hint for the module's owner about a mistake in the query; empty if there is none.
fn query_hint(query: &[u8]) -> &'static str {
    if query.starts_with(b"?") {
        "the url in the module's script should end without `?`"
    } else if query.starts_with(b"nil&") {
        "this libfota2 knows no id for its module: it sends `?nil`"
    } else if memchr(b'?', query).is_some() {
        "this libfota2 appends its parameters again at every check (a second `?`)"
    } else {
        ""
    }
}

/// The values that a check can have, as sent.
#[derive(Default)]
struct Values<'a> {
    imei: Option<&'a [u8]>,
    mac: Option<&'a [u8]>,
    uid: Option<&'a [u8]>,
    muid: Option<&'a [u8]>,
    firmware_name: Option<&'a [u8]>,
    version: Option<&'a [u8]>,
    core_version: Option<&'a [u8]>,
    project_key: Option<&'a [u8]>,
    need_oss_url: Option<&'a [u8]>,
}

impl<'a> Values<'a> {
    /// Parses `pair *( ( "&" / "?" ) pair )`. The first value of a key that is not empty wins: a client that appends
    /// its query again at every check (docs/protocol.md 1g, 2024-04-09) repeats the same values.
    fn read(query: &'a [u8]) -> Values<'a> {
        let mut values = Values::default();
        for (key, value) in fields(query).filter_map(pair) {
            if let Some(slot) = values.slot(key.trim_ascii())
                && non_empty(*slot).is_none()
            {
                *slot = Some(value);
            }
        }
        values
    }

    /// Returns the field for a key, whose case does not matter.
    fn slot(&mut self, key: &[u8]) -> Option<&mut Option<&'a [u8]>> {
        let is = |name: &str| name.as_bytes().eq_ignore_ascii_case(key);
        Some(match key {
            _ if is("imei") => &mut self.imei,
            _ if is("mac") => &mut self.mac,
            _ if is("uid") => &mut self.uid,
            _ if is("muid") => &mut self.muid,
            _ if is("firmware_name") => &mut self.firmware_name,
            _ if is("version") => &mut self.version,
            _ if is("core_version") => &mut self.core_version,
            _ if is("project_key") => &mut self.project_key,
            _ if is("need_oss_url") => &mut self.need_oss_url,
            _ => return None,
        })
    }

    /// Whether the values identify the project.
    fn names_a_project(&self) -> bool {
        non_empty(self.firmware_name).is_some() || non_empty(self.project_key).is_some()
    }

    /// Returns the first of imei, mac, uid and muid that is a valid id, and the text by which the id is shown.
    fn device(&self, query: &'a [u8]) -> Option<(DeviceId, Cow<'a, str>)> {
        let imei = non_empty(self.imei).or_else(|| imei_in_other_value(query));
        [
            (imei, false),
            (self.mac, false),
            (self.uid, true),
            (self.muid, true),
        ]
        .into_iter()
        .find_map(|(raw, is_unique)| device_id::read(raw?, is_unique))
    }
}

fn core_version(value: &[u8]) -> Option<u32> {
    let parsed: IResult<&[u8], u32> = all_consuming(number).parse(value.trim_ascii());
    parsed.ok().map(|(_, core)| core)
}

/// Returns the IMEI in `?a=1imei=862991443753386&…`, which results from a user's URL that ends in `?a=1`.
fn imei_in_other_value(query: &[u8]) -> Option<&[u8]> {
    let digits = |input| -> IResult<&[u8], &[u8]> { digit1.parse(input) };
    memchr_iter(b'=', query)
        .filter_map(|at| query.split_at_checked(at))
        .filter(|(before, _)| before.ends_with(b"imei"))
        .filter_map(|(_, value)| digits(value.strip_prefix(b"=")?).ok())
        .map(|(_, digits)| digits)
        .find(|digits| digits.len() >= 15)
}

#[cfg(test)]
mod tests;
