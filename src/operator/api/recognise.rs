//! `POST /api/v1/recognise`: the properties of a file, from its path, size and first bytes, before it is uploaded, and
//! the number of devices that would be offered it.

use serde_json::{Map, Value, json};

use super::base64;
use super::counting::{DecisionInput, Reasons, each_result};
use crate::decision::{Check, FactLog, Known, Verdict};
use crate::firmware::catalog::Catalog;
use crate::firmware::catalog::candidate::Candidate;
use crate::firmware::name::FirmwarePath;
use crate::firmware::package::{Inspector, PackageKind};
use crate::firmware::receive::{self, rules_of, rules_with};
use crate::fleet::clock::unix_now;
use crate::operator::blocking::unblock;
use crate::operator::body::RequestBody;
use crate::operator::context::OperatorContext;
use crate::operator::response::{ApiResult, Response};

pub(super) async fn post(context: &OperatorContext, body: &mut RequestBody<'_>) -> ApiResult {
    let body = super::json_object(body).await?;
    let Some((path, size, head)) = parse(&body) else {
        return Err(Response::unprocessable(
            "give path (a text), size (bytes) and head (the first 4096 bytes in base64)",
        ));
    };
    // The rules to be uploaded with the file.
    let rules = body.get("rules").filter(|rules| !rules.is_null());
    let rules = rules.map(Value::to_string);
    let place = receive::upload_path(path);
    let mut inspector = Inspector::new(path.rsplit('/').next().unwrap_or(path));
    inspector.update(&head);
    let kind = inspector.preview(size);
    let mut problem = place.as_ref().err().or(kind.as_ref().err()).cloned();
    let catalog = (context.catalog)();
    let candidate = Candidate {
        path,
        kind: *kind.as_ref().unwrap_or(&PackageKind::Generic),
        content: None,
    };
    let mut warnings = Vec::new();
    let mut counts = OfferCounts::default();
    let mut newest = None;
    if let Ok(place) = &place {
        let project = catalog.project(place.project);
        let releases = project.map(|project| &project.releases);
        newest = releases.and_then(|releases| Some(&releases.first()?.version_text));
        if problem.is_none() {
            let (root, owned) = (context.folder.clone(), path.to_owned());
            let rules = unblock(move || match rules {
                Some(own) => rules_with(&root, &owned, own.as_bytes()),
                None => Ok(rules_of(&root, &owned)),
            });
            let rules = rules.await?.map_err(Response::unprocessable)?;
            problem = catalog.check_candidate(candidate, &rules).err();
            warnings = catalog.warnings_about(candidate);
            if let Ok(with_file) = catalog.with_candidate(candidate, size, rules) {
                counts = OfferCounts::of(context, &with_file, place, path).await;
                warnings.extend(counts.warning());
            }
        }
        let release = catalog.release_at(place);
        match release.and_then(|r| r.packages.iter().find(|package| &*package.path == path)) {
            Some(package) if package.size != size => {
                problem.get_or_insert_with(|| {
                    format!("{path} exists with other content, and files are never replaced")
                });
            }
            Some(_) => warnings.push(format!("{path} exists already")),
            None => {}
        }
    }
    let place = place.ok();
    Ok(Response::json(&json!({
        "path": path,
        "project": place.map(|place| place.project),
        "version": place.map(|place| place.version_text),
        "platform": place.and_then(|place| place.platform),
        "base_core": place.and_then(|place| place.base_core),
        "kind": kind.ok().map(PackageKind::label),
        "problem": problem,
        "warnings": warnings,
        "bill": {
            "devices": counts.offered,
            "bytes": size.saturating_mul(counts.offered as u64),
            "of": counts.all,
            "others": counts.others.json(),
        },
        "newest": newest,
    })))
}

/// Returns the path, size and first bytes of the file.
fn parse(body: &Map<String, Value>) -> Option<(&str, u64, Vec<u8>)> {
    let path = body.get("path")?.as_str()?;
    let size = body.get("size")?.as_u64()?;
    let head = base64::decode(body.get("head")?.as_str()?)?;
    Some((path, size, head))
}

/// The number of devices that would be offered a file, by the decision on the check of each.
#[derive(Default)]
struct OfferCounts {
    /// Number of devices of the project that would be offered the file.
    offered: usize,
    /// Number of devices of the project.
    all: usize,
    /// The devices that would not be offered the file, by reason.
    others: Reasons,
}

impl OfferCounts {
    /// Decides for each recorded device of the project. `catalog`: the catalogue with the file.
    async fn of<'c>(
        context: &OperatorContext,
        catalog: &'c Catalog,
        place: &FirmwarePath<'_>,
        path: &str,
    ) -> OfferCounts {
        let mut counts = OfferCounts::default();
        let now = DecisionInput::new(context, catalog, unix_now());
        let decide =
            |check: &Check<'_>, known: Known<'_>, log: &FactLog<'c>| now.decide(check, known, log);
        let count = |verdict: &Verdict<'_>, devices| counts.add(verdict, path, devices);
        each_result(context, catalog, place.project, decide, count).await;
        counts
    }

    fn add(&mut self, verdict: &Verdict<'_>, path: &str, devices: usize) {
        self.all += devices;
        match verdict {
            Verdict::Offer(offer) if *offer.package.path == *path => self.offered += devices,
            other => self.others.add(other, devices),
        }
    }

    /// Returns a warning if more than half of the devices would not be offered the file for the same doubtful reason.
    fn warning(&self) -> Option<String> {
        let (reason, others) = self.others.by_devices().into_iter().next()?;
        (others.devices * 2 > self.all && others.is_doubtful).then(|| {
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
    use crate::decision::{Refusal, RefusedCheck};

    #[test]
    fn a_file_that_most_devices_cannot_take_gets_a_warning() {
        let counts = |refusal, refused, all| {
            let mut counts = OfferCounts::default();
            let release = None;
            let rule = "a rule";
            let verdict = Verdict::Refuse(RefusedCheck {
                refusal,
                release,
                rule,
            });
            counts.add(&verdict, "P/1/u.bin", refused);
            counts.offered = all - refused;
            counts.all = all;
            counts.warning()
        };
        let warning = counts(Refusal::NothingNewer, 6, 10);
        assert_eq!(warning.unwrap(), "6 of 10 devices will not take it: a rule");
        assert_eq!(counts(Refusal::NoPackage, 5, 10), None);
        assert_eq!(counts(Refusal::NothingNewer, 0, 0), None);
        // Rules that a person wrote are no reason for doubt.
        assert_eq!(counts(Refusal::NotNow, 10, 10), None);
    }

    #[test]
    fn a_description_must_be_whole() {
        let parsed = |text: &str| {
            let value: Value = serde_json::from_str(text).unwrap();
            parse(value.as_object().unwrap()).is_some()
        };
        assert!(parsed(r#"{"path": "u.bin", "size": 3, "head": "AAAA"}"#));
        for text in [
            "{}",
            r#"{"path": "u.bin", "size": -3, "head": "AAAA"}"#,
            r#"{"path": 5, "size": 3, "head": "AAAA"}"#,
            r#"{"path": "u.bin", "size": 3, "head": "!"}"#,
        ] {
            assert!(!parsed(text), "{text}");
        }
    }
}
