//! The one target that is both routed and authorised: path and query of a request, taken apart by us
//! and by nobody else (docs/hazards.md 3).
//!
//! The surprise: what a URL library would tidy up (`..`, `%2e`, `\`, `//`, absolute form) is refused
//! instead, because the tidied path is another one than the path that was looked at.

/// A path and a query, decoded.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Target {
    /// What stands between the slashes; none of `/`.
    pub parts: Vec<String>,
    query: Vec<(String, String)>,
}

impl Target {
    /// Takes a target in origin form apart. The error is a sentence.
    pub fn parse(target: &str) -> Result<Target, &'static str> {
        let Some(rest) = target.strip_prefix('/') else {
            return Err("the target must be a path that begins with a slash");
        };
        if !target.bytes().all(may_stand) {
            return Err("the target has a character that must be percent-encoded");
        }
        let (path, query) = rest.split_once('?').unwrap_or((rest, ""));
        let parts = match path {
            "" => Vec::new(),
            path => path.split('/').map(part).collect::<Result<_, _>>()?,
        };
        let query = query
            .split('&')
            .filter(|pair| !pair.is_empty())
            .map(|pair| {
                let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
                Ok((decoded(name, true)?, decoded(value, true)?))
            })
            .collect::<Result<_, &'static str>>()?;
        Ok(Target { parts, query })
    }

    /// The value of this name in the query; the first, if there are several. An empty one is none.
    pub fn asked(&self, name: &str) -> Option<&str> {
        let found = self.query.iter().find(|(other, _)| other == name);
        found
            .map(|(_, value)| value.as_str())
            .filter(|value| !value.is_empty())
    }
}

/// RFC 3986 section 3.3 and 3.4: unreserved, sub-delims, `:` `@` `/` `?` and the percent sign.
fn may_stand(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"-._~!$&'()*+,;=:@/?%".contains(&byte)
}

/// One part of a path: a name that leads nowhere else.
fn part(part: &str) -> Result<String, &'static str> {
    let decoded = decoded(part, false)?;
    // `%2e` is refused where it makes no difference, too: nobody has a reason to write it.
    let hidden = part.to_ascii_lowercase().contains("%2e");
    if hidden || matches!(decoded.as_str(), "" | "." | "..") || decoded.contains(['/', '\\']) {
        return Err("the path has an empty part, dots or an encoded slash in it");
    }
    Ok(decoded)
}

/// Percent-decoded; UTF-8 without control characters. `plus`: a `+` is a space.
fn decoded(text: &str, plus: bool) -> Result<String, &'static str> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.bytes();
    while let Some(byte) = rest.next() {
        bytes.push(match byte {
            b'%' => {
                let digit = |byte: Option<u8>| char::from(byte?).to_digit(16);
                match (digit(rest.next()), digit(rest.next())) {
                    (Some(high), Some(low)) => u8::try_from(high << 4 | low).unwrap_or_default(),
                    _ => return Err("the target has a % that no two hexadecimal digits follow"),
                }
            }
            b'+' if plus => b' ',
            byte => byte,
        });
    }
    let text = String::from_utf8(bytes).map_err(|_| "the target does not decode to UTF-8")?;
    match text.chars().any(char::is_control) {
        true => Err("the target has a control character in it"),
        false => Ok(text),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_path_and_a_query_are_taken_apart() {
        let target =
            Target::parse("/api/v1/rules/%E6%B0%B4%E8%A1%A8/2.0.1?a=1+2&b=%26&c&a=9").unwrap();
        assert_eq!(target.parts, ["api", "v1", "rules", "水表", "2.0.1"]);
        assert_eq!(target.asked("a"), Some("1 2"));
        assert_eq!(target.asked("b"), Some("&"));
        assert_eq!(target.asked("c"), None);
        assert_eq!(target.asked("d"), None);
        assert_eq!(Target::parse("/").unwrap(), Target::default());
        assert_eq!(Target::parse("/a+b%20c").unwrap().parts, ["a+b c"]);
    }

    #[test]
    fn what_could_be_another_path_is_refused() {
        for target in [
            "",
            "api",
            "http://localhost/api/v1/rules",
            "*",
            "//evil",
            "/api//v1",
            "/api/",
            "/..",
            "/healthz/../api/v1/rules",
            "/healthz/%2e%2e/api/v1/rules",
            "/healthz/%2E./api",
            "/a%2ebin",
            "/.",
            "/a\\b",
            "/a%5cb",
            "/a%2fb",
            "/a%2Fb",
            "/a%00b",
            "/a%0ab",
            "/a%7fb",
            "/a%",
            "/a%2",
            "/a%zz",
            "/a%ff",
            "/a%c0%af",
            "/a%C2%85",
            "/a b",
            "/a\tb",
            "/a#b",
            "/a\"b",
            "/a<b",
            "/a|b",
            "/a[b",
            "/a{b",
            "/a^b",
            "/a`b",
            "/é",
            "/a?b=%",
            "/a?b=%00",
            "/a?\\",
        ] {
            assert!(Target::parse(target).is_err(), "{target:?}");
        }
    }

    proptest! {
        #[test]
        fn no_part_is_ever_more_than_a_name(target in "/[a-z./%\\\\?2eEfF5cC0+]{0,30}|\\PC*") {
            if let Ok(target) = Target::parse(&target) {
                for part in target.parts {
                    prop_assert!(!part.is_empty() && part != "." && part != "..");
                    prop_assert!(!part.contains(['/', '\\', '\0']));
                }
            }
        }
    }
}
