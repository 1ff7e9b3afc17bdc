//! `POST /api/v1/recognise`: what a file would be, by its path, its size and its beginning, before all of
//! it is sent; and what that would cost.

use std::cmp::Reverse;
use std::collections::BTreeMap;
use std::time::Instant;

use http_types::StatusCode;
use serde_json::{Map, Value};

use super::{object, or_null};
use crate::decision::{Notes, Question, Refusal, Verdict, decide};
use crate::firmware::catalog::Catalog;
use crate::firmware::catalog::newcomer::Newcomer;
use crate::firmware::name::Place;
use crate::firmware::package::{Inspector, Kind};
use crate::firmware::receive::{self, rules_of, rules_with};
use crate::fleet::view::Filter;
use crate::operator::aside::aside;
use crate::operator::body::Incoming;
use crate::operator::reply::Reply;
use crate::operator::{Desk, base64, unix_now};

/// Devices that are decided on between two other things that the server does.
const AT_ONCE: usize = 50;

/// Reasons that are told apart.
const REASONS: usize = 20;

/// Pages of devices that are looked through at most.
const PAGES: usize = 100_000;

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
    // Those that would come with the file.
    let rules = said.get("rules").filter(|rules| !rules.is_null());
    let rules = rules.map(Value::to_string);
    match recognised(desk, (path, size, &head), rules).await {
        Ok(reply) | Err(reply) => reply,
    }
}

fn described(said: &Map<String, Value>) -> Option<(&str, u64, Vec<u8>)> {
    let path = said.get("path")?.as_str()?;
    let size = said.get("size")?.as_u64()?;
    let head = base64::decode(said.get("head")?.as_str()?)?;
    Some((path, size, head))
}

async fn recognised(
    desk: &Desk,
    (path, size, head): (&str, u64, &[u8]),
    rules: Option<String>,
) -> Result<Reply, Reply> {
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
                move || match rules {
                    Some(own) => rules_with(&root, &path, own.as_bytes()),
                    None => Ok(rules_of(&root, &path)),
                }
            })
            .await?;
            let rules = rules
                .map_err(|sentence| Reply::problem(StatusCode::UnprocessableEntity, sentence))?;
            problem = catalog.may_come(newcomer, &rules).err();
            warnings = catalog.doubts(newcomer);
            if let Ok(with_it) = catalog.with(newcomer, size, rules) {
                bill = Bill::of(desk, &with_it, place, path).await;
                warnings.extend(bill.doubt());
            }
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
            object([
                ("devices", bill.devices.into()),
                ("bytes", bytes.into()),
                ("of", bill.all.into()),
                ("others", bill.others().into()),
            ]),
        ),
        ("newest", or_null(newest)),
    ])))
}

/// The devices that would be offered a file, by the decision on the check of each.
#[derive(Default)]
struct Bill {
    /// Devices of the project that would be offered it.
    devices: usize,
    /// Devices of the project.
    all: usize,
    /// Devices that would not, by the reason.
    others: BTreeMap<String, Others>,
}

/// The devices that would not be offered a file for one reason.
#[derive(Default)]
struct Others {
    devices: usize,
    /// A person did not mean it: it is no rule of theirs that leaves the devices out.
    is_doubtful: bool,
}

impl Bill {
    /// Decides for each remembered device of the project, and lets the server do other things in between.
    /// `catalog`: with the file.
    async fn of(desk: &Desk, catalog: &Catalog, place: &Place<'_>, path: &str) -> Bill {
        let mut bill = Bill::default();
        let filter = Filter {
            project: Some(place.project.to_owned()),
            ..Filter::default()
        };
        let mut after = None;
        for _ in 0..PAGES {
            {
                let (now, unix) = (Instant::now(), unix_now());
                let fleet = desk.fleet.borrow();
                let page = fleet.page(&filter, after, AT_ONCE, now, unix);
                for device in page.devices {
                    let mut check = device.check;
                    check.complete(catalog);
                    let question = Question {
                        catalog,
                        known: fleet.known_of(&check, now),
                        check: &check,
                        unix,
                    };
                    bill.add(&decide(&question, &mut Notes::off()), path);
                }
                after = page.next;
            }
            if after.is_none() {
                break;
            }
            smol::future::yield_now().await;
        }
        bill
    }

    fn add(&mut self, verdict: &Verdict<'_>, path: &str) {
        self.all = self.all.saturating_add(1);
        let (reason, is_doubtful) = match verdict {
            Verdict::Offer(offer) if *offer.package.path == *path => {
                self.devices = self.devices.saturating_add(1);
                return;
            }
            Verdict::Offer(offer) => (format!("{} is offered", offer.release.version_text), false),
            Verdict::Refuse(refused) => {
                let is_doubtful = matches!(
                    refused.refusal,
                    Refusal::NothingNewer | Refusal::NoPackage | Refusal::VersionUnreadable
                );
                (refused.rule.to_owned(), is_doubtful)
            }
        };
        let is_room = self.others.len() < REASONS || self.others.contains_key(&reason);
        let reason = if is_room {
            reason
        } else {
            "other reasons".to_owned()
        };
        let others = self.others.entry(reason).or_default();
        others.devices = others.devices.saturating_add(1);
        others.is_doubtful |= is_doubtful;
    }

    /// The reasons, that of most devices first.
    fn by_devices(&self) -> Vec<(&str, &Others)> {
        let others = self.others.iter();
        let mut others: Vec<_> = others
            .map(|(reason, others)| (reason.as_str(), others))
            .collect();
        others.sort_by_key(|(_, others)| Reverse(others.devices));
        others
    }

    fn others(&self) -> Vec<Value> {
        let value = |(reason, others): (&str, &Others)| {
            object([
                ("reason", reason.into()),
                ("devices", others.devices.into()),
            ])
        };
        self.by_devices().into_iter().map(value).collect()
    }

    /// A sentence, if most of the devices would not be offered it for a reason that nobody may have meant.
    fn doubt(&self) -> Option<String> {
        let (reason, others) = self.by_devices().into_iter().next()?;
        let most = others.devices.saturating_mul(2) > self.all;
        (most && others.is_doubtful).then(|| {
            format!(
                "{} of {} devices will not take it: {reason}",
                others.devices, self.all
            )
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::decision::Refused;

    #[test]
    fn a_file_that_most_devices_cannot_take_is_doubted() {
        let bill = |refusal, refused, all| {
            let mut bill = Bill::default();
            let release = None;
            let rule = "a rule";
            for _ in 0..refused {
                bill.add(
                    &Verdict::Refuse(Refused {
                        refusal,
                        release,
                        rule,
                    }),
                    "P/1/u.bin",
                );
            }
            bill.devices = all - refused;
            bill.all = all;
            bill.doubt()
        };
        let doubt = bill(Refusal::NothingNewer, 6, 10);
        assert_eq!(doubt.unwrap(), "6 of 10 devices will not take it: a rule");
        assert_eq!(bill(Refusal::NoPackage, 5, 10), None);
        assert_eq!(bill(Refusal::NothingNewer, 0, 0), None);
        // That is what somebody wrote.
        assert_eq!(bill(Refusal::NotNow, 10, 10), None);
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
