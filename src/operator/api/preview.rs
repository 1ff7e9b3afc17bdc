//! `POST /api/v1/preview`: the effects of edits of rules, before they are written: the errors in each edit, and the
//! number of devices that would be offered each release. Every number comes from the decision on the check of each
//! device. For devices that the decision cannot distinguish, it is made once.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use serde_json::{Map, Value, json};

use super::counting::{DecisionInput, Reasons, each_result};
use crate::decision::{Check, FactLog, Fused, Known, Verdict};
use crate::firmware::catalog::{Catalog, Project, Release};
use crate::firmware::json as strict;
use crate::firmware::rules::edit::{self, RulesScope};
use crate::firmware::rules::{Paused, Rules};
use crate::firmware::version::{Standing, Version, standing};
use crate::fleet::clock::unix_now;
use crate::operator::blocking::unblock;
use crate::operator::body::RequestBody;
use crate::operator::context::OperatorContext;
use crate::operator::response::{ApiResult, Response, etag, rfc3339};

/// Length of the longest body, in bytes: the longest rules that the API accepts, as a text of JSON.
const LONGEST: usize = 8 << 20;

/// Maximum number of edits in one request.
const EDITS: usize = 8;

pub(super) async fn post(context: &OperatorContext, body: &mut RequestBody<'_>) -> ApiResult {
    let bytes = body.all(LONGEST).await?;
    let now = (context.catalog)();
    let (root, catalog) = (context.folder.clone(), Arc::clone(&now));
    // Large rules take milliseconds to parse.
    let proposal = unblock(move || Proposal::read(&root, &catalog, &bytes));
    let proposal = proposal.await?.map_err(Response::unprocessable)?;
    let counts = match &proposal.catalog {
        Some(then) => {
            let counts = count(context, &proposal, (&now, then)).await;
            let project = now.project(&proposal.project);
            counts.json(project.map_or(&[], |project| &project.releases))
        }
        None => Value::Null,
    };
    let edits = proposal.edits.iter().map(ProposedEdit::json);
    Ok(Response::json(&json!({
        "project": proposal.project,
        "edits": edits.collect::<Value>(),
        "counts": counts,
    })))
}

/// Edits of one project's releases that were not written yet.
struct Proposal {
    project: String,
    edits: Vec<ProposedEdit>,
    /// The catalogue of the project with the edits; `None` if an edit is not valid.
    catalog: Option<Catalog>,
}

/// One edit.
struct ProposedEdit {
    version: Version,
    version_text: Box<str>,
    /// The entity tag of the current file; empty without a file.
    etag: String,
    /// The content of the file after the edit; `None`: the release would be retired.
    text: Option<String>,
    errors: Vec<(Option<String>, String)>,
    before: Arc<Rules>,
    /// The rules in force after the edit, if they are valid.
    after: Option<Arc<Rules>>,
}

impl Proposal {
    /// Parses a request. The error is a sentence.
    fn read(root: &Path, catalog: &Catalog, bytes: &[u8]) -> Result<Proposal, String> {
        let text = std::str::from_utf8(bytes).map_err(|_| "the body is not UTF-8")?;
        let body = strict::parse(text)?;
        let project = body.get("project").and_then(Value::as_str);
        let edits = body.get("edits").and_then(Value::as_array);
        let (Some(project), Some(edits)) = (project, edits) else {
            return Err("give project (a text) and edits (a list)".to_owned());
        };
        if edits.is_empty() || edits.len() > EDITS {
            return Err(format!("edits must be a list of 1 to {EDITS}"));
        }
        let unknown = || format!("there is no release of {project:?}");
        let of = catalog.project(project).ok_or_else(unknown)?;
        let scope = RulesScope {
            project,
            version: None,
        };
        let above = edit::read(root, scope).ok().flatten();
        let above = above.and_then(|present| Rules::parse(&present.bytes).ok());
        let edits = edits
            .iter()
            .map(|edit| ProposedEdit::read(root, of, above.as_ref(), edit))
            .collect::<Result<Vec<_>, _>>()?;
        let is_valid = edits.iter().all(|edit| edit.errors.is_empty());
        let rules: Vec<_> = edits
            .iter()
            .map(|edit| (edit.version, edit.after.clone()))
            .collect();
        Ok(Proposal {
            project: project.to_owned(),
            catalog: is_valid.then(|| Catalog::with_rules(&catalog.groups, of, &rules)),
            edits,
        })
    }

    /// Returns the time for which devices are counted: when the edited releases that are not paused are open.
    fn moment(&self, rules: impl Fn(&ProposedEdit) -> Option<&Arc<Rules>>) -> i64 {
        let rules = self.edits.iter().filter_map(rules);
        let open = rules.filter(|rules| !rules.is_paused());
        open.fold(unix_now(), |moment, rules| rules.opening_time(moment))
    }
}

impl ProposedEdit {
    fn read(
        root: &Path,
        project: &Project,
        above: Option<&Rules>,
        edit: &Value,
    ) -> Result<ProposedEdit, String> {
        let version = edit.get("version").and_then(Value::as_str);
        let version = version.ok_or("each of edits needs version (a text)")?;
        let parsed = Version::parse(version);
        let mut releases = project.releases.iter();
        let release = releases.find(|release| Some(release.version) == parsed);
        let release =
            release.ok_or_else(|| format!("there is no release {version} of {}", project.name))?;
        let scope = RulesScope {
            project: &project.name,
            version: Some(&release.version_text),
        };
        let present = edit::read(root, scope).map_err(|error| error.to_string())?;
        let mut proposed = ProposedEdit {
            version: release.version,
            version_text: release.version_text.clone(),
            etag: present
                .as_ref()
                .map_or(String::new(), |file| etag(file.tag)),
            text: None,
            errors: Vec::new(),
            before: Arc::clone(&release.rules),
            after: None,
        };
        if edit.get("retire").and_then(Value::as_bool) == Some(true) {
            return Ok(proposed);
        }
        let bytes = present.map_or(b"{}".to_vec(), |file| file.bytes);
        let bytes = bytes.strip_prefix(b"\xef\xbb\xbf").unwrap_or(&bytes);
        let mut text = match edit.get("text") {
            Some(Value::String(text)) => text.clone(),
            None | Some(Value::Null) => String::from_utf8_lossy(bytes).into_owned(),
            Some(_) => return Err("text must be a text".to_owned()),
        };
        let none = Map::new();
        let keys = match edit.get("keys") {
            Some(Value::Object(keys)) => keys,
            None | Some(Value::Null) => &none,
            Some(_) => return Err("keys must be an object".to_owned()),
        };
        let changes: Vec<(&str, Option<Value>)> = keys
            .iter()
            .map(|(key, value)| {
                let value = Some(value).filter(|value| !value.is_null());
                (key.as_str(), value.cloned())
            })
            .collect();
        if !changes.is_empty() {
            match edit::with_keys(&text, &changes) {
                Ok(changed) => text = changed,
                Err(why) => proposed.errors.push((None, why)),
            }
        }
        if proposed.errors.is_empty() {
            proposed.errors = Rules::problems(text.as_bytes());
        }
        let own = Rules::parse(text.as_bytes()).ok();
        proposed.after =
            own.map(|own| Arc::new(above.map_or(own.clone(), |above| own.over(above))));
        proposed.text = Some(text);
        Ok(proposed)
    }

    fn json(&self) -> Value {
        let errors = self.errors.iter();
        json!({
            "version": &*self.version_text,
            "etag": self.etag,
            "text": self.text,
            "errors": errors.map(|(key, text)| json!({"key": key, "text": text})).collect::<Value>(),
        })
    }

    /// Whether writing the edit ends a pause that only the state folder contains.
    fn resumes(&self) -> bool {
        let paused = |rules: &Arc<Rules>| rules.paused == Some(Paused::No);
        self.after.as_ref().is_some_and(paused)
    }
}

/// Numbers of devices by the release that they are offered.
#[derive(Default)]
struct Counts {
    devices: usize,
    /// Number of devices that would be offered another release than now, or none, or one instead of none.
    changed: usize,
    /// Number of devices that are offered each release now, and that would be.
    releases: BTreeMap<Box<str>, [usize; 2]>,
    /// The devices that would not be offered the first edited release, by reason.
    others: Reasons,
    /// The devices that run the release, for each edit.
    running: Vec<Running>,
    moments: [i64; 2],
}

/// The devices that run a release, and the releases that they would be offered.
#[derive(Default)]
struct Running {
    version: Box<str>,
    devices: usize,
    offered: BTreeMap<Box<str>, usize>,
    others: Reasons,
}

async fn count<'c>(
    context: &OperatorContext,
    proposal: &Proposal,
    (now, then): (&'c Catalog, &'c Catalog),
) -> Counts {
    let resumed = |fused: &Fused| {
        let mut edits = proposal.edits.iter();
        fused.project.as_ref() == proposal.project
            && edits.any(|edit| edit.resumes() && edit.version_text == fused.version)
    };
    let running = proposal.edits.iter().map(|edit| Running {
        version: edit.version_text.clone(),
        ..Running::default()
    });
    let mut counts = Counts {
        running: running.collect(),
        moments: [
            proposal.moment(|edit| Some(&edit.before)),
            proposal.moment(|edit| edit.after.as_ref()),
        ],
        ..Counts::default()
    };
    let [unix_now, unix_then] = counts.moments;
    let before = DecisionInput::new(context, now, unix_now);
    let mut after = DecisionInput {
        catalog: then,
        unix: unix_then,
        ..before.clone()
    };
    after.fused.retain(|fused| !resumed(fused));
    let project = &proposal.project;
    let decide_twice = |check: &Check<'_>, known: Known<'_>, log: &FactLog<'c>| {
        let running = check.running();
        let runs = |edit: &ProposedEdit| match running {
            Some(running) => standing(running, edit.version, check.first_field()) == Standing::Same,
            None => *check.version == *edit.version_text,
        };
        VerdictPair {
            before: before.decide(check, known, log),
            after: after.decide(check, known, log),
            runs: proposal.edits.iter().map(runs).collect(),
        }
    };
    let count = |decided: &VerdictPair<'_>, devices| counts.add(decided, devices);
    each_result(context, now, project, decide_twice, count).await;
    counts
}

/// The decisions on a device, before and after the edits.
struct VerdictPair<'c> {
    before: Verdict<'c>,
    after: Verdict<'c>,
    /// Whether the device runs the release, for each edit.
    runs: Vec<bool>,
}

impl Counts {
    /// Counts devices with this result.
    fn add(&mut self, decided: &VerdictPair<'_>, devices: usize) {
        let VerdictPair {
            before,
            after,
            runs,
        } = decided;
        self.devices += devices;
        let versions = [before, after].map(offered);
        for (at, version) in versions.iter().enumerate() {
            let Some(version) = version else { continue };
            let counts = self.releases.entry((*version).into()).or_default();
            if let Some(count) = counts.get_mut(at) {
                *count += devices;
            }
        }
        let [before, offered] = versions;
        self.changed += if before == offered { 0 } else { devices };
        let first = self.running.first().map(|first| &*first.version);
        if offered.is_none() || offered != first {
            self.others.add(after, devices);
        }
        let edits = self.running.iter_mut().zip(runs);
        for (running, _) in edits.filter(|(_, runs)| **runs) {
            running.devices += devices;
            match offered {
                Some(version) => *running.offered.entry(version.into()).or_default() += devices,
                None => running.others.add(after, devices),
            }
        }
    }

    /// Returns the counts for the API. `releases`: all releases of the project, in their order.
    fn json(&self, releases: &[Release]) -> Value {
        let edited = |version: &str| self.running.iter().any(|edit| *edit.version == *version);
        let shown = releases.iter().filter_map(|release| {
            let version = &*release.version_text;
            let counts = self.releases.get(version);
            let [before, after] = counts.copied().unwrap_or_default();
            let is_shown = counts.is_some() || edited(version);
            is_shown.then(|| json!({"version": version, "before": before, "after": after}))
        });
        let [at_before, at_after] = self.moments.map(rfc3339);
        json!({
            "devices": self.devices,
            "changed": self.changed,
            "releases": shown.collect::<Value>(),
            "others": self.others.json(),
            "running": self.running.iter().map(Running::json).collect::<Value>(),
            "at": {"before": at_before, "after": at_after},
        })
    }
}

impl Running {
    fn json(&self) -> Value {
        let offered = self.offered.iter();
        json!({
            "version": &*self.version,
            "devices": self.devices,
            "offered": offered
                .map(|(version, devices)| json!({"version": version, "devices": devices}))
                .collect::<Value>(),
            "others": self.others.json(),
        })
    }
}

/// Returns the version that is offered.
fn offered<'v>(verdict: &'v Verdict<'_>) -> Option<&'v str> {
    match verdict {
        Verdict::Offer(offer) => Some(&offer.release.version_text),
        Verdict::Refuse(_) => None,
    }
}
