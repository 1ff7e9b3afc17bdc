//! The template of a redirect in release.json (nom): where a CDN has the file.

use std::borrow::Cow;

use nom::branch::alt;
use nom::bytes::complete::take_while1;
use nom::character::complete::char;
use nom::combinator::{all_consuming, map};
use nom::multi::many0;
use nom::sequence::delimited;
use nom::{IResult, Parser};

/// Where a CDN has the file: a URL template with `{project}`, `{version}`, `{file}`, `{sha256}`,
/// `{imei}` and `{from}`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Redirect(pub(in crate::firmware) String);

/// What a template may ask for.
const NAMES: [&str; 6] = ["project", "version", "file", "sha256", "imei", "from"];

/// The longest template, in bytes. All headers of a reply must fit 1.4 kB (docs/protocol.md 0, rule 3).
const LONGEST: usize = 800;

impl Redirect {
    /// Reads a template: an absolute http or https URL with a host and a path, printable ASCII, and
    /// no names in braces but the known ones, none of them in the host.
    pub(super) fn parse(template: &str) -> Result<Redirect, String> {
        let shown: String = template.chars().take(100).collect();
        let shown = shown.escape_debug();
        let bad = |why: &str| Err(format!("`{shown}` {why}"));
        if template.len() > LONGEST {
            return bad("is too long: at most 800 characters fit the header that modules read");
        }
        if !template.bytes().all(|byte| byte.is_ascii_graphic()) {
            return bad("has a space or a letter outside ASCII: percent-encode it, such as %20");
        }
        let rest = ["http://", "https://"]
            .iter()
            .find_map(|scheme| template.strip_prefix(scheme));
        let Some(rest) = rest else {
            return bad(
                "must begin with http:// or https://, because modules only follow a whole URL",
            );
        };
        let Ok((_, pieces)) = pieces(template) else {
            return bad("has a brace without its twin, or nothing between the two");
        };
        for piece in pieces {
            if let Piece::Name(name) = piece
                && !NAMES.contains(&name)
            {
                return Err(format!(
                    "`{shown}` asks for {{{name}}}, but only {{project}}, {{version}}, {{file}}, {{sha256}}, \
                     {{imei}} and {{from}} are known"
                ));
            }
        }
        let host = rest.split(['/', '?', '#']).next().unwrap_or_default();
        if host.is_empty() {
            return bad("names no host");
        }
        if host.contains('{') {
            return bad("has a name in braces in its host: they may only stand after it");
        }
        if !rest
            .get(host.len()..)
            .is_some_and(|path| path.starts_with('/'))
        {
            return bad("has no path: after the host comes a `/`");
        }
        Ok(Redirect(template.to_owned()))
    }

    /// Fills the template; each value is percent-encoded (all but unreserved characters). `value` is
    /// asked for each name. The result is ASCII, without spaces or control characters.
    pub fn fill<'a>(&self, value: impl Fn(&str) -> Cow<'a, str>) -> String {
        let Ok((_, pieces)) = pieces(&self.0) else {
            // A template that was read has its braces in order.
            return self.0.clone();
        };
        let mut url = String::with_capacity(self.0.len());
        for piece in pieces {
            match piece {
                Piece::Text(text) => url.push_str(text),
                Piece::Name(name) => value(name).bytes().for_each(|byte| encode(byte, &mut url)),
            }
        }
        url
    }
}

/// A part of a template.
enum Piece<'a> {
    Text(&'a str),
    Name(&'a str),
}

/// The whole template: `http://x/{file}` → `http://x/`, then the name `file`.
fn pieces(input: &str) -> IResult<&str, Vec<Piece<'_>>> {
    all_consuming(many0(alt((name, text)))).parse(input)
}

/// `{file}`
fn name(input: &str) -> IResult<&str, Piece<'_>> {
    map(
        delimited(char('{'), take_while1(no_brace), char('}')),
        Piece::Name,
    )
    .parse(input)
}

/// `http://x/`
fn text(input: &str) -> IResult<&str, Piece<'_>> {
    map(take_while1(no_brace), Piece::Text).parse(input)
}

fn no_brace(c: char) -> bool {
    c != '{' && c != '}'
}

/// RFC 3986 section 2.3: letters, digits and `-._~` stay, all else becomes %XX.
fn encode(byte: u8, url: &mut String) {
    if byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) {
        url.push(char::from(byte));
        return;
    }
    url.push('%');
    for half in [byte >> 4, byte & 0xf] {
        let digit = char::from_digit(half.into(), 16).unwrap_or('0');
        url.push(digit.to_ascii_uppercase());
    }
}
