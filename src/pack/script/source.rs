//! Parser of assignments of string literals in Lua source.

use nom::branch::alt;
use nom::bytes::complete::{tag, take, take_until, take_while, take_while1};
use nom::character::complete::char as byte;
use nom::combinator::{opt, recognize};
use nom::sequence::{delimited, preceded};
use nom::{IResult, Parser};

use super::Identity;

/// A token of a program.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Token<'a> {
    Word(&'a [u8]),
    Text(Vec<u8>),
    /// One or two other bytes.
    Sign(&'a [u8]),
}

/// Returns `PROJECT` and `VERSION`, if the program assigns one literal to them: `PROJECT = "demo"`.
pub(super) fn identity(source: &[u8]) -> Identity {
    let mut identity = Identity::default();
    let mut assigned = Vec::new();
    // The three tokens before the current one, oldest first, and the name and text of the last assignment.
    let mut before: [Option<Token<'_>>; 3] = [None, None, None];
    let mut pending: Option<(&[u8], Vec<u8>)> = None;
    let mut rest = source;
    loop {
        let (after, token) = match token(rest) {
            Ok((after, token)) => (after, Some(token)),
            Err(_) => (rest, None),
        };
        if let Some((name, value)) = pending.take() {
            // `"a" .. "b"` or `("a"):upper()` is not a literal.
            let ends = match &token {
                Some(Token::Sign(sign)) => matches!(sign, [b';'] | [b'}'] | [b')']),
                Some(Token::Text(_)) => false,
                Some(Token::Word(word)) => !matches!(*word, b"and" | b"or"),
                None => true,
            };
            identity.note(&mut assigned, name, ends.then_some(value.as_slice()));
        }
        let Some(token) = token else { break };
        if let [first, Some(Token::Word(name)), Some(Token::Sign(b"="))] = &before {
            // A field, a local, or one of several targets: not an assignment to the global alone.
            let is_field = match first {
                Some(Token::Sign(sign)) => matches!(sign, [b'.' | b':' | b',' | b'{']),
                Some(Token::Word(word)) => *word == b"local",
                _ => false,
            };
            match &token {
                Token::Text(value) if !is_field => pending = Some((name, value.clone())),
                _ if !is_field => identity.note(&mut assigned, name, None),
                _ => {}
            }
        }
        let [_, second, third] = before;
        before = [second, third, Some(token)];
        rest = after;
    }
    identity
}

/// Parses the next token, after white space and comments.
fn token(input: &[u8]) -> IResult<&[u8], Token<'_>> {
    let (input, ()) = blanks(input)?;
    let is_word = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'_' || byte >= 0x80;
    alt((
        take_while1(is_word).map(Token::Word),
        text.map(Token::Text),
        long_text.map(|text| Token::Text(text.to_vec())),
        alt((
            tag("=="),
            tag(".."),
            tag("~="),
            tag("<="),
            tag(">="),
            tag("::"),
            take(1_usize),
        ))
        .map(Token::Sign),
    ))
    .parse(input)
}

/// Skips white space, comments, a byte order mark and a first line that begins with `#`.
fn blanks(mut input: &[u8]) -> IResult<&[u8], ()> {
    loop {
        let space = |byte: u8| byte.is_ascii_whitespace() || byte == 0x0b;
        let (after, _) = (opt(tag(&b"\xef\xbb\xbf"[..])), take_while(space)).parse(input)?;
        let comment = preceded(
            tag("--"),
            alt((recognize(long_text), take_while(|byte| byte != b'\n'))),
        );
        let (after, _) = opt(comment).parse(after)?;
        if after.len() == input.len() {
            return Ok((input, ()));
        }
        input = after;
    }
}

/// Parses `[[text]]` or `[==[text]==]`.
fn long_text(input: &[u8]) -> IResult<&[u8], &[u8]> {
    let (input, level) =
        delimited(byte('['), take_while(|byte| byte == b'='), byte('[')).parse(input)?;
    let end = [b"]", level, b"]"].concat();
    let (rest, text) = take_until(end.as_slice()).parse(input)?;
    let (rest, _) = take(end.len())(rest)?;
    // A line break directly after the brackets does not count.
    let text = text.strip_prefix(b"\r").unwrap_or(text);
    Ok((rest, text.strip_prefix(b"\n").unwrap_or(text)))
}

/// Parses a text between single or double quotes. Escapes other than a backslash and a sign are not decoded: no name or
/// version needs them.
fn text(input: &[u8]) -> IResult<&[u8], Vec<u8>> {
    let (mut rest, quote) = alt((tag("\""), tag("'"))).parse(input)?;
    let mut text = Vec::new();
    loop {
        let (after, next) = take(1_usize)(rest)?;
        rest = match next {
            b"\\" => {
                let (after, escaped) = take(1_usize)(after)?;
                text.extend(
                    if escaped == b"\n" || escaped.first().is_some_and(u8::is_ascii_alphanumeric) {
                        // A byte that no name may contain.
                        b"\x00"
                    } else {
                        escaped
                    },
                );
                after
            }
            _ if next == quote => return Ok((after, text)),
            // The line ends before the text: this is not valid Lua.
            b"\n" => return Ok((after, text)),
            _ => {
                text.extend(next);
                after
            }
        };
    }
}
