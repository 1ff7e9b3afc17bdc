//! `POST /api/v1/recognise`: what a file would be, by its path, its size and its beginning, before all of
//! it is sent; and what that would cost.

use std::collections::HashMap;
use std::time::Instant;

use http_types::StatusCode;
use serde_json::{Map, Value};

use super::{object, or_null};
use crate::firmware::catalog::newcomer::Newcomer;
use crate::firmware::package::{Inspector, Kind};
use crate::firmware::receive::{self, rules_of};
use crate::firmware::version::Version;
use crate::fleet::view::Filter;
use crate::operator::aside::aside;
use crate::operator::body::Incoming;
use crate::operator::reply::Reply;
use crate::operator::{Desk, base64, unix_now};

/// Devices that are looked at between two other things that the server does.
const AT_ONCE: usize = 500;

/// Pages of devices that are looked through at most.
const PAGES: usize = 10_000;

pub(super) async fn answer(desk: &Desk, body: &mut Incoming<'_>) -> Reply {
    let said = match super::json(body).await {
        Ok(said) => said,
        Err(reply) => return reply,
    };
    let Some((path, size, head)) = described(&said) else {
        return Reply::problem(
            StatusCode::UnprocessableEntity,
            "give path (a text), size (bytes) and head (the first 4096 bytes in base64)",
        );
    };
    match recognised(desk, path, size, &head).await {
        Ok(reply) | Err(reply) => reply,
    }
}

fn described(said: &Map<String, Value>) -> Option<(&str, u64, Vec<u8>)> {
    let path = said.get("path")?.as_str()?;
    let size = said.get("size")?.as_u64()?;
    let head = base64::decode(said.get("head")?.as_str()?)?;
    Some((path, size, head))
}

async fn recognised(desk: &Desk, path: &str, size: u64, head: &[u8]) -> Result<Reply, Reply> {
    let place = receive::place(path);
    let mut inspector = Inspector::new(path.rsplit('/').next().unwrap_or(path));
    inspector.update(head);
    let kind = inspector.preview(size);
    let catalog = (desk.catalog)();
    let mut problem = match (&place, &kind) {
        (Err(why), _) | (_, Err(why)) => Some(why.clone()),
        _ => None,
    };
    let newcomer = Newcomer {
        path,
        kind: *kind.as_ref().unwrap_or(&Kind::Generic),
        content: None,
    };
    let mut warnings = Vec::new();
    let mut bill = Bill::default();
    let mut newest = None;
    if let Ok(place) = &place {
        let project = catalog.project(place.project);
        newest = project
            .and_then(|project| project.releases.first())
            .map(|release| release.version_text.to_string());
        if problem.is_none() {
            let rules = aside({
                let (root, path) = (desk.folder.clone(), path.to_owned());
                move || rules_of(&root, &path)
            })
            .await?;
            problem = catalog.may_come(newcomer, &rules).err();
            warnings = catalog.doubts(newcomer);
        }
        let lies = catalog.release_at(place);
        let same = lies.and_then(|r| r.packages.iter().find(|package| &*package.path == path));
        match same {
            Some(package) if package.size != size => {
                problem.get_or_insert_with(|| {
                    format!("{path} is there with other bytes, and no file is ever replaced")
                });
            }
            Some(_) => warnings.push(format!("{path} is there already")),
            None => {}
        }
        bill = Bill::of(desk, place.project, place.version).await;
        if let Some(doubt) = bill.doubt(place.version_text) {
            warnings.push(doubt);
        }
    }
    let place = place.ok();
    let bytes = u64::try_from(bill.devices)
        .unwrap_or(u64::MAX)
        .saturating_mul(size);
    Ok(Reply::json(&object([
        ("path", path.into()),
        ("project", or_null(place.map(|place| place.project))),
        ("version", or_null(place.map(|place| place.version_text))),
        ("platform", or_null(place.and_then(|place| place.platform))),
        (
            "base_core",
            or_null(place.and_then(|place| place.base_core)),
        ),
        ("kind", or_null(kind.ok().map(Kind::label))),
        ("problem", or_null(problem)),
        ("warnings", warnings.into()),
        (
            "bill",
            object([("devices", bill.devices.into()), ("bytes", bytes.into())]),
        ),
        ("newest", or_null(newest)),
    ])))
}

/// Whom a release would be for.
#[derive(Default)]
struct Bill {
    /// Devices of the project that run something older.
    devices: usize,
    /// Devices of the project that run something newer.
    newer: usize,
    /// Devices of the project.
    all: usize,
}

impl Bill {
    /// Looks through the devices of a project, letting the server do other things in between.
    async fn of(desk: &Desk, project: &str, version: Version) -> Bill {
        let mut bill = Bill::default();
        let mut known: HashMap<String, Option<std::cmp::Ordering>> = HashMap::new();
        let filter = Filter {
            project: Some(project.to_owned()),
            ..Filter::default()
        };
        let mut after = None;
        for _ in 0..PAGES {
            let page = {
                let fleet = desk.fleet.borrow();
                fleet.page(&filter, after, AT_ONCE, Instant::now(), unix_now())
            };
            for device in page.devices {
                bill.all = bill.all.saturating_add(1);
                let order = *known
                    .entry(device.version)
                    .or_insert_with_key(|text| Some(Version::parse(text)?.cmp(&version)));
                match order {
                    Some(std::cmp::Ordering::Greater) => bill.newer = bill.newer.saturating_add(1),
                    Some(std::cmp::Ordering::Less) => bill.devices = bill.devices.saturating_add(1),
                    Some(std::cmp::Ordering::Equal) | None => {}
                }
            }
            after = page.next;
            if after.is_none() {
                break;
            }
            crate::os::reactor::yield_now().await;
        }
        bill
    }

    /// A sentence, if most of the fleet runs something newer.
    fn doubt(&self, version: &str) -> Option<String> {
        let most = self.newer.saturating_mul(2) > self.all;
        most.then(|| {
            format!(
                "{} of {} devices run a version above {version}: they will not take it",
                self.newer, self.all
            )
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_version_below_what_most_run_is_doubted() {
        let bill = |newer, all| Bill {
            devices: all - newer,
            newer,
            all,
        };
        assert!(bill(6, 10).doubt("1.0.0").is_some());
        assert!(bill(5, 10).doubt("1.0.0").is_none());
        assert!(bill(0, 0).doubt("1.0.0").is_none());
    }

    #[test]
    fn a_description_must_be_whole() {
        let described = |text: &str| {
            let value: Value = serde_json::from_str(text).unwrap();
            described(value.as_object().unwrap()).is_some()
        };
        assert!(described(r#"{"path": "u.bin", "size": 3, "head": "AAAA"}"#));
        for text in [
            "{}",
            r#"{"path": "u.bin", "size": -3, "head": "AAAA"}"#,
            r#"{"path": 5, "size": 3, "head": "AAAA"}"#,
            r#"{"path": "u.bin", "size": 3, "head": "!"}"#,
        ] {
            assert!(!described(text), "{text}");
        }
    }
}
