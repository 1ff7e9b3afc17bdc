//! Parsers of the path and the `key=value` fields of a request target, as all HTTP dialects write
//! them.

use std::iter;

use memchr::{memchr, memchr2};
use nom::bytes::complete::{tag_no_case, take_till};
use nom::sequence::preceded;
use nom::{IResult, Parser};

/// Removes leading slashes: the vendor's demos send two (docs/protocol.md 9b).
pub(in crate::wire) fn without_slashes(target: &[u8]) -> &[u8] {
    let begin = target.iter().position(|byte| *byte != b'/');
    target
        .get(begin.unwrap_or(target.len())..)
        .unwrap_or_default()
}

/// Removes scheme and authority of an absolute-form target (RFC 9112 3.2.2).
pub(in crate::wire) fn without_authority(target: &[u8]) -> &[u8] {
    authority(target).map_or(target, |(rest, _)| rest)
}

fn authority(input: &[u8]) -> IResult<&[u8], &[u8]> {
    preceded(
        tag_no_case("http://").or(tag_no_case("https://")),
        take_till(|b| b == b'/' || b == b'?'),
    )
    .parse(input)
}

/// Returns the fields of a query, separated by `&` or `?`.
pub(super) fn fields(query: &[u8]) -> impl Iterator<Item = &[u8]> {
    let mut rest = Some(query);
    iter::from_fn(move || {
        let all = rest?;
        let Some((field, after)) = memchr2(b'&', b'?', all).and_then(|at| all.split_at_checked(at))
        else {
            return rest.take();
        };
        rest = after.get(1..);
        Some(field)
    })
}

/// Parses `1*key "=" value`.
pub(super) fn pair(field: &[u8]) -> Option<(&[u8], &[u8])> {
    let equals = memchr(b'=', field).filter(|at| *at > 0)?;
    let (key, value) = field.split_at_checked(equals)?;
    Some((key, value.strip_prefix(b"=")?))
}

/// Returns the value if it is present and not empty.
pub(super) fn non_empty(value: Option<&[u8]>) -> Option<&[u8]> {
    value.filter(|value| !value.is_empty())
}
