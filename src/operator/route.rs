//! Which route a request takes, and what must be allowed for it. Pure.

use http_types::Method;

use super::access::Matter;
use super::target::Target;

/// What is asked for. Texts are decoded and not yet looked up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Route<'t> {
    /// A file of the page; empty: the page itself.
    Page(&'t str),
    /// Does the server live?
    Healthz,
    /// Has it read the folder?
    Readyz,
    /// Counters.
    Metrics,
    /// The description of all this.
    OpenApi,
    /// Some numbers.
    Summary,
    /// Releases.
    Releases,
    /// What is not served.
    Quarantine,
    /// A release.json, read.
    Rules(Of<'t>),
    /// A release.json, written.
    PutRules(Of<'t>),
    /// A release paused, resumed or limited.
    Change(Of<'t>, Change),
    /// Devices.
    Devices,
    /// One device.
    Device(&'t str),
    /// The loop guard's hold on a device, lifted.
    Lift(&'t str),
    /// What happens now.
    Events,
    /// The last hour.
    Rates,
    /// Why a module gets what it gets.
    Explain,
    /// What a file would be.
    Recognise,
    /// A file for the folder.
    Upload(&'t [String]),
}

/// A project, or one version of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Of<'t> {
    /// The project.
    pub project: &'t str,
    /// The version, as written.
    pub version: Option<&'t str>,
}

/// What is changed about a release.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Change {
    /// Nobody gets it for now.
    Pause,
    /// They do again.
    Resume,
    /// So many of a hundred.
    Percent,
}

/// Why there is no route.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NoRoute {
    /// 404.
    NotFound,
    /// 405, and what `Allow` says.
    Method(&'static str),
}

/// The route of a method (GET for HEAD) and a target.
pub fn route(method: Method, target: &Target) -> Result<Route<'_>, NoRoute> {
    let parts: Vec<&str> = target.parts.iter().map(String::as_str).collect();
    let (get, put, post, delete) = (
        method == Method::Get,
        method == Method::Put,
        method == Method::Post,
        method == Method::Delete,
    );
    let only = |allowed: bool, route, methods| match allowed {
        true => Ok(route),
        false => Err(NoRoute::Method(methods)),
    };
    let ["api", "v1", rest @ ..] = parts.as_slice() else {
        let route = match parts.as_slice() {
            [] => Route::Page(""),
            ["healthz"] => Route::Healthz,
            ["readyz"] => Route::Readyz,
            ["metrics"] => Route::Metrics,
            [file] => Route::Page(file),
            _ => return Err(NoRoute::NotFound),
        };
        return only(get, route, "GET, HEAD");
    };
    let rules = |project, version| {
        let of = Of { project, version };
        match put {
            true => Ok(Route::PutRules(of)),
            false => only(get, Route::Rules(of), "GET, HEAD, PUT"),
        }
    };
    let of = |project, version| Of {
        project,
        version: Some(version),
    };
    match *rest {
        ["openapi.json"] => only(get, Route::OpenApi, "GET, HEAD"),
        ["summary"] => only(get, Route::Summary, "GET, HEAD"),
        ["releases"] => only(get, Route::Releases, "GET, HEAD"),
        ["quarantine"] => only(get, Route::Quarantine, "GET, HEAD"),
        ["rules", project] => rules(project, None),
        ["rules", project, version] => rules(project, Some(version)),
        ["releases", project, version, word] => {
            let change = match word {
                "pause" => Change::Pause,
                "resume" => Change::Resume,
                "percent" => Change::Percent,
                _ => return Err(NoRoute::NotFound),
            };
            only(post, Route::Change(of(project, version), change), "POST")
        }
        ["devices"] => only(get, Route::Devices, "GET, HEAD"),
        ["devices", id] => only(get, Route::Device(id), "GET, HEAD"),
        ["devices", id, "hold"] => only(delete, Route::Lift(id), "DELETE"),
        ["events"] => only(get, Route::Events, "GET"),
        ["rates"] => only(get, Route::Rates, "GET, HEAD"),
        ["explain"] => only(post, Route::Explain, "POST"),
        ["recognise"] => only(post, Route::Recognise, "POST"),
        ["firmware", _] | ["firmware", _, _, _] | ["firmware", _, _, _, _] => {
            let path = target.parts.get(3..).unwrap_or_default();
            only(put, Route::Upload(path), "PUT")
        }
        _ => Err(NoRoute::NotFound),
    }
}

/// What must be allowed, also where there is no route: whoever may not look does not learn what there is.
pub fn matter(method: Method, route: &Result<Route<'_>, NoRoute>) -> Matter {
    match route {
        Ok(Route::Page(_) | Route::Healthz | Route::Readyz) => Matter::Open,
        // They answer a question, and change nothing.
        Ok(Route::Explain | Route::Recognise) => Matter::Read,
        _ if method == Method::Get => Matter::Read,
        _ => Matter::Write,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn way(method: Method, target: &str) -> String {
        let target = Target::parse(target).unwrap();
        let route = route(method, &target);
        format!("{:?} {route:?}", matter(method, &route))
    }

    #[test]
    fn every_route_needs_what_it_should() {
        use Method::{Delete, Get, Post, Put};
        for (method, target, expected) in [
            (Get, "/", "Open Ok(Page(\"\"))"),
            (Get, "/app.js", "Open Ok(Page(\"app.js\"))"),
            (Get, "/healthz", "Open Ok(Healthz)"),
            (Get, "/readyz", "Open Ok(Readyz)"),
            (Get, "/metrics", "Read Ok(Metrics)"),
            (Get, "/api/v1/summary?x=y", "Read Ok(Summary)"),
            (Get, "/api/v1/devices/862", "Read Ok(Device(\"862\"))"),
            (
                Delete,
                "/api/v1/devices/862/hold",
                "Write Ok(Lift(\"862\"))",
            ),
            (
                Put,
                "/api/v1/rules/P",
                "Write Ok(PutRules(Of { project: \"P\", version: None }))",
            ),
            (
                Post,
                "/api/v1/releases/P/1/pause",
                "Write Ok(Change(Of { project: \"P\", version: Some(\"1\") }, Pause))",
            ),
            (
                Put,
                "/api/v1/firmware/P/1/u.bin",
                "Write Ok(Upload([\"P\", \"1\", \"u.bin\"]))",
            ),
            (Post, "/api/v1/explain", "Read Ok(Explain)"),
            (Post, "/", "Write Err(Method(\"GET, HEAD\"))"),
            (Get, "/api/v1/explain", "Read Err(Method(\"POST\"))"),
            (Get, "/api/v1/nothing", "Read Err(NotFound)"),
            (Put, "/api/v1/nothing", "Write Err(NotFound)"),
            (Get, "/a/b", "Read Err(NotFound)"),
            (Get, "/api", "Open Ok(Page(\"api\"))"),
            (Post, "/api/v1/releases/P/1/burn", "Write Err(NotFound)"),
        ] {
            assert_eq!(way(method, target), expected, "{method} {target}");
        }
    }
}
