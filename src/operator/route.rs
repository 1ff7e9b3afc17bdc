//! Routes of requests and the permissions that they need.

use super::access::Permission;
use super::codec::Method;
use crate::firmware::rules::edit::RulesScope;

/// A route. Texts are decoded and not yet looked up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OperatorRoute<'t> {
    /// A file of the page; empty: the page itself.
    Page(&'t str),
    /// Health of the server.
    Healthz,
    /// Readiness: the firmware folder can be read.
    Readyz,
    /// Metrics.
    Metrics,
    /// The description of the API.
    OpenApi,
    /// The numbers that the page shows first.
    Summary,
    /// Releases.
    Releases,
    /// The counts of a release over time, by project and version.
    History(&'t str, &'t str),
    /// The versions that devices run, over time.
    Versions,
    /// Files that are not served.
    Quarantine,
    /// Reads a release.json.
    Rules(RulesScope<'t>),
    /// Writes a release.json.
    PutRules(RulesScope<'t>),
    /// Pauses, resumes or limits a release.
    Change(RulesScope<'t>, Change),
    /// Moves a release aside.
    Retire(RulesScope<'t>),
    /// Devices.
    Devices,
    /// One device.
    Device(&'t str),
    /// Clears the hold on a device.
    Lift(&'t str),
    /// The stream of events.
    Events,
    /// The rates of the last hour.
    Rates,
    /// The last changes.
    Changes,
    /// Explains a check.
    Explain,
    /// Counts the effects of edits of rules.
    Preview,
    /// Recognises a file.
    Recognise,
    /// Uploads a file to a path, which is given in parts.
    Upload(&'t [String]),
    /// Makes a package of a `.soc` file of the given name.
    Pack(&'t str),
}

/// A change of a release.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Change {
    /// Pauses the release.
    Pause,
    /// Resumes the release.
    Resume,
    /// Sets the percentage of the release.
    Percent,
}

/// Reason why a request has no route.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NoRoute {
    /// An unknown path: 404.
    NotFound,
    /// A known path with another method: 405, and the value of `Allow`.
    Method(&'static str),
}

/// Returns the route of a method (GET for HEAD) and a target.
pub fn route(method: Method, target: &RequestTarget) -> Result<OperatorRoute<'_>, NoRoute> {
    let parts: Vec<&str> = target.parts.iter().map(String::as_str).collect();
    let only = |allowed: Method, route, methods| match method == allowed {
        true => Ok(route),
        false => Err(NoRoute::Method(methods)),
    };
    let get = |route| only(Method::Get, route, "GET, HEAD");
    let post = |route| only(Method::Post, route, "POST");
    let ["api", "v1", rest @ ..] = parts.as_slice() else {
        let route = match parts.as_slice() {
            [] => OperatorRoute::Page(""),
            ["healthz"] => OperatorRoute::Healthz,
            ["readyz"] => OperatorRoute::Readyz,
            ["metrics"] => OperatorRoute::Metrics,
            [file] => OperatorRoute::Page(file),
            _ => return Err(NoRoute::NotFound),
        };
        return get(route);
    };
    let rules = |project, version| {
        let scope = RulesScope { project, version };
        match method {
            Method::Put => Ok(OperatorRoute::PutRules(scope)),
            _ => only(Method::Get, OperatorRoute::Rules(scope), "GET, HEAD, PUT"),
        }
    };
    match *rest {
        ["openapi.json"] => get(OperatorRoute::OpenApi),
        ["summary"] => get(OperatorRoute::Summary),
        ["releases"] => get(OperatorRoute::Releases),
        ["versions"] => get(OperatorRoute::Versions),
        ["quarantine"] => get(OperatorRoute::Quarantine),
        ["rules", project] => rules(project, None),
        ["rules", project, version] => rules(project, Some(version)),
        ["releases", project, version, "history"] => get(OperatorRoute::History(project, version)),
        ["releases", project, version, word] => {
            let scope = RulesScope {
                project,
                version: Some(version),
            };
            post(match word {
                "pause" => OperatorRoute::Change(scope, Change::Pause),
                "resume" => OperatorRoute::Change(scope, Change::Resume),
                "percent" => OperatorRoute::Change(scope, Change::Percent),
                "retire" => OperatorRoute::Retire(scope),
                _ => return Err(NoRoute::NotFound),
            })
        }
        ["devices"] => get(OperatorRoute::Devices),
        ["devices", id] => get(OperatorRoute::Device(id)),
        ["devices", id, "hold"] => only(Method::Delete, OperatorRoute::Lift(id), "DELETE"),
        ["events"] => only(Method::Get, OperatorRoute::Events, "GET"),
        ["rates"] => get(OperatorRoute::Rates),
        ["changes"] => get(OperatorRoute::Changes),
        ["explain"] => post(OperatorRoute::Explain),
        ["preview"] => post(OperatorRoute::Preview),
        ["recognise"] => post(OperatorRoute::Recognise),
        ["pack", name] => post(OperatorRoute::Pack(name)),
        ["firmware", _] | ["firmware", _, _, _] | ["firmware", _, _, _, _] => {
            let path = target.parts.get(3..).unwrap_or_default();
            only(Method::Put, OperatorRoute::Upload(path), "PUT")
        }
        _ => Err(NoRoute::NotFound),
    }
}

/// Returns the permission that a request needs. Without a route it is needed too, so that a client without a token
/// cannot find out which paths exist.
pub fn permission(method: Method, route: &Result<OperatorRoute<'_>, NoRoute>) -> Permission {
    match route {
        Ok(OperatorRoute::Page(_) | OperatorRoute::Healthz | OperatorRoute::Readyz) => {
            Permission::Public
        }
        // These POST requests change nothing.
        Ok(OperatorRoute::Explain | OperatorRoute::Preview | OperatorRoute::Recognise) => {
            Permission::Read
        }
        _ if method == Method::Get => Permission::Read,
        _ => Permission::Write,
    }
}

/// The decoded path and query of a request, both routed and authorised (docs/hazards.md 3). A target that a URL library
/// would normalise (`..`, `%2e`, `\`, `//`, absolute form) is refused, because the result would be another path than
/// the one that was checked.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RequestTarget {
    /// The parts between slashes; none for `/`.
    pub parts: Vec<String>,
    query: Vec<(String, String)>,
}

impl RequestTarget {
    /// Parses a target in origin form. The error is a sentence.
    pub fn parse(target: &str) -> Result<RequestTarget, &'static str> {
        let Some(rest) = target.strip_prefix('/') else {
            return Err("the target must be a path that begins with a slash");
        };
        if !target.bytes().all(is_allowed) {
            return Err("the target has a character that must be percent-encoded");
        }
        let (path, query) = rest.split_once('?').unwrap_or((rest, ""));
        let parts = match path {
            "" => Vec::new(),
            path => path
                .split('/')
                .map(decoded_part)
                .collect::<Result<_, _>>()?,
        };
        let query = query
            .split('&')
            .filter(|pair| !pair.is_empty())
            .map(|pair| {
                let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
                Ok((decoded(name, true)?, decoded(value, true)?))
            })
            .collect::<Result<_, &'static str>>()?;
        Ok(RequestTarget { parts, query })
    }

    /// Returns the first value of this name in the query, unless it is empty.
    pub fn query(&self, name: &str) -> Option<&str> {
        let found = self.query.iter().find(|(other, _)| other == name);
        found
            .map(|(_, value)| value.as_str())
            .filter(|value| !value.is_empty())
    }
}

/// Whether a target may contain the byte (RFC 3986 section 3.3 and 3.4): unreserved, sub-delims, `:` `@` `/` `?` and
/// the percent sign.
fn is_allowed(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"-._~!$&'()*+,;=:@/?%".contains(&byte)
}

/// Decodes one part of a path. Fails unless the part is a name, which cannot lead to another folder.
fn decoded_part(part: &str) -> Result<String, &'static str> {
    let decoded = decoded(part, false)?;
    // `%2e` is refused even if it makes no difference, because no client needs to write it.
    let has_encoded_dot = part.to_ascii_lowercase().contains("%2e");
    if has_encoded_dot
        || matches!(decoded.as_str(), "" | "." | "..")
        || decoded.contains(['/', '\\'])
    {
        return Err("the path has an empty part, dots or an encoded slash in it");
    }
    Ok(decoded)
}

/// Percent-decodes a text. Fails unless the result is UTF-8 without control characters. `plus`: a `+` is a space.
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

    fn routed(method: Method, target: &str) -> String {
        let target = RequestTarget::parse(target).unwrap();
        let route = route(method, &target);
        format!("{:?} {route:?}", permission(method, &route))
    }

    #[test]
    fn every_route_needs_the_right_permission() {
        use Method::{Delete, Get, Post, Put};
        for (method, target, expected) in [
            (Get, "/", "Public Ok(Page(\"\"))"),
            (Get, "/app.js", "Public Ok(Page(\"app.js\"))"),
            (Get, "/healthz", "Public Ok(Healthz)"),
            (Get, "/readyz", "Public Ok(Readyz)"),
            (Get, "/metrics", "Read Ok(Metrics)"),
            (Get, "/api/v1/summary?x=y", "Read Ok(Summary)"),
            (Get, "/api/v1/versions", "Read Ok(Versions)"),
            (
                Get,
                "/api/v1/releases/P/1/history",
                "Read Ok(History(\"P\", \"1\"))",
            ),
            (
                Post,
                "/api/v1/releases/P/1/history",
                "Write Err(Method(\"GET, HEAD\"))",
            ),
            (Get, "/api/v1/changes", "Read Ok(Changes)"),
            (Get, "/api/v1/devices/862", "Read Ok(Device(\"862\"))"),
            (
                Delete,
                "/api/v1/devices/862/hold",
                "Write Ok(Lift(\"862\"))",
            ),
            (
                Put,
                "/api/v1/rules/P",
                "Write Ok(PutRules(RulesScope { project: \"P\", version: None }))",
            ),
            (
                Post,
                "/api/v1/releases/P/1/pause",
                "Write Ok(Change(RulesScope { project: \"P\", version: Some(\"1\") }, Pause))",
            ),
            (
                Put,
                "/api/v1/firmware/P/1/u.bin",
                "Write Ok(Upload([\"P\", \"1\", \"u.bin\"]))",
            ),
            (Post, "/api/v1/explain", "Read Ok(Explain)"),
            (Post, "/api/v1/preview", "Read Ok(Preview)"),
            (
                Post,
                "/api/v1/releases/P/1/retire",
                "Write Ok(Retire(RulesScope { project: \"P\", version: Some(\"1\") }))",
            ),
            (Post, "/", "Write Err(Method(\"GET, HEAD\"))"),
            (Post, "/api/v1/pack/a.soc", "Write Ok(Pack(\"a.soc\"))"),
            (Get, "/api/v1/explain", "Read Err(Method(\"POST\"))"),
            (Get, "/api/v1/nothing", "Read Err(NotFound)"),
            (Put, "/api/v1/nothing", "Write Err(NotFound)"),
            (Get, "/a/b", "Read Err(NotFound)"),
            (Get, "/api", "Public Ok(Page(\"api\"))"),
            (Post, "/api/v1/releases/P/1/burn", "Write Err(NotFound)"),
        ] {
            assert_eq!(routed(method, target), expected, "{method} {target}");
        }
    }

    #[test]
    fn a_path_and_a_query_are_parsed() {
        let target =
            RequestTarget::parse("/api/v1/rules/%E6%B0%B4%E8%A1%A8/2.0.1?a=1+2&b=%26&c&a=9")
                .unwrap();
        assert_eq!(target.parts, ["api", "v1", "rules", "水表", "2.0.1"]);
        assert_eq!(target.query("a"), Some("1 2"));
        assert_eq!(target.query("b"), Some("&"));
        assert_eq!(target.query("c"), None);
        assert_eq!(target.query("d"), None);
        assert_eq!(RequestTarget::parse("/").unwrap(), RequestTarget::default());
        assert_eq!(RequestTarget::parse("/a+b%20c").unwrap().parts, ["a+b c"]);
    }

    #[test]
    fn an_ambiguous_path_is_refused() {
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
            assert!(RequestTarget::parse(target).is_err(), "{target:?}");
        }
    }

    proptest! {
        #[test]
        fn no_part_is_ever_more_than_a_name(target in "/[a-z./%\\\\?2eEfF5cC0+]{0,30}|\\PC*") {
            if let Ok(target) = RequestTarget::parse(&target) {
                for part in target.parts {
                    prop_assert!(!part.is_empty() && part != "." && part != "..");
                    prop_assert!(!part.contains(['/', '\\', '\0']));
                }
            }
        }
    }
}
