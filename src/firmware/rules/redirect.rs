//! Template of a redirect in release.json, which leads to the file on a CDN.

use std::borrow::Cow;

/// A URL template with `{project}`, `{version}`, `{file}`, `{sha256}`, `{imei}` and `{from}`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Redirect(pub(in crate::firmware) String);

/// Names that a template may contain.
const NAMES: [&str; 6] = ["project", "version", "file", "sha256", "imei", "from"];

/// Length in bytes of the longest template. All headers of a reply must fit 1.4 kB (docs/protocol.md 0, rule 3).
const LONGEST: usize = 800;

impl Redirect {
    /// Parses a template: an absolute http or https URL with a host and a path, in printable ASCII, with only the known
    /// names in braces, and none of them in the host.
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
        let Some(parts) = parts(template) else {
            return bad("has an unpaired brace, or an empty pair");
        };
        for part in parts {
            if let TemplatePart::Name(name) = part
                && !NAMES.contains(&name)
            {
                return Err(format!(
                    "`{shown}` asks for {{{name}}}, but only {{project}}, {{version}}, {{file}}, {{sha256}}, \
                     {{imei}} and {{from}} are known"
                ));
            }
        }
        let (host, behind) = rest.split_at(rest.find(['/', '?', '#']).unwrap_or(rest.len()));
        if host.is_empty() {
            return bad("names no host");
        }
        if host.contains('{') {
            return bad("has a name in braces in its host: use them only after the host");
        }
        if !behind.starts_with('/') {
            return bad("has no path: after the host comes a `/`");
        }
        Ok(Redirect(template.to_owned()))
    }

    /// Fills the template. Each value is percent-encoded (except unreserved characters). `value` returns the value of a
    /// name. The result is ASCII, without spaces or control characters.
    pub fn fill<'a>(&self, value: impl Fn(&str) -> Cow<'a, str>) -> String {
        let mut url = String::with_capacity(self.0.len());
        for part in parts(&self.0).unwrap_or_default() {
            match part {
                TemplatePart::Text(text) => url.push_str(text),
                TemplatePart::Name(name) => value(name).bytes().for_each(|b| encode(b, &mut url)),
            }
        }
        url
    }
}

/// A part of a template.
enum TemplatePart<'a> {
    Text(&'a str),
    Name(&'a str),
}

/// Splits a template: `http://x/{file}` → `http://x/`, then the name `file`. Returns `None` if the braces do not match.
fn parts(mut rest: &str) -> Option<Vec<TemplatePart<'_>>> {
    let mut parts = Vec::new();
    while !rest.is_empty() {
        let (text, behind) = rest.split_at(rest.find(['{', '}']).unwrap_or(rest.len()));
        if !text.is_empty() {
            parts.push(TemplatePart::Text(text));
        }
        rest = behind;
        if !behind.is_empty() {
            let (name, after) = behind.strip_prefix('{')?.split_once('}')?;
            if name.is_empty() || name.contains('{') {
                return None;
            }
            parts.push(TemplatePart::Name(name));
            rest = after;
        }
    }
    Some(parts)
}

/// Appends a byte as in RFC 3986 section 2.3: letters, digits and `-._~` unchanged, others as %XX.
fn encode(byte: u8, url: &mut String) {
    if byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) {
        url.push(char::from(byte));
    } else {
        url.push_str(&format!("%{byte:02X}"));
    }
}
