//! Logs each change of the catalogue once: files and groups that become available, files that are gone, and warnings.
//! The server logs the quarantined files.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use log::Level;

use crate::firmware::ContentId;
use crate::firmware::audience::Group;
use crate::firmware::catalog::{Catalog, Remark};

/// Maximum number of lines of one kind that are logged at a time; further lines are counted.
const MAX_LINES: usize = 40;

/// Contents of the catalogue that were logged.
#[derive(Debug, Default)]
pub(super) struct CatalogLog {
    /// Content of the available files, by path.
    available: BTreeMap<Box<str>, ContentId>,
    remarks: BTreeSet<Remark>,
    groups: BTreeMap<String, Arc<Group>>,
    logged: bool,
}

impl CatalogLog {
    /// Logs the contents of a catalogue that were not logged yet. The files of the first catalogue are logged at level
    /// debug, because the server logs a summary of them.
    pub(super) fn log_changes(&mut self, catalog: &Catalog) {
        let mut lines = Vec::new();
        let mut available = BTreeMap::new();
        let releases = catalog.projects().iter().flat_map(|p| &p.releases);
        for package in releases.flat_map(|release| &release.packages) {
            available.insert(package.path.clone(), package.content);
            if self.available.get(&package.path) != Some(&package.content) {
                lines.push(format!(
                    "{} is available: {} bytes, {}, sha256 {:.12}…",
                    shown(&package.path),
                    package.size,
                    package.kind.label(),
                    package.content.to_string()
                ));
            }
        }
        let groups = catalog.groups.iter();
        let groups: BTreeMap<_, _> = groups
            .map(|(name, group)| (name.to_owned(), Arc::clone(group)))
            .collect();
        for (name, group) in &groups {
            if self.groups.get(name) != Some(group) {
                let count = group.devices.len();
                lines.push(format!("@{name}.txt is in force: {count} ids and ranges"));
            }
        }
        self.groups = groups;
        let level = match self.logged {
            true => Level::Info,
            false => Level::Debug,
        };
        write(level, &lines, "more are available");
        self.logged = true;

        // A waiting file is logged once it is complete. A quarantined file is logged by the server.
        let mut lines = Vec::new();
        for (path, content) in std::mem::take(&mut self.available) {
            let (waiting, refused) = (&catalog.waiting, &catalog.quarantined);
            if available.contains_key(&path) {
                continue;
            }
            if waiting
                .binary_search_by(|other| (**other).cmp(&path))
                .is_ok()
            {
                available.insert(path, content);
            } else if refused
                .binary_search_by(|other| (*other.path).cmp(&path))
                .is_err()
            {
                lines.push(format!("{} is gone", shown(&path)));
            }
        }
        self.available = available;
        write(Level::Info, &lines, "more are gone");

        let remarks: BTreeSet<Remark> = catalog.warnings.iter().cloned().collect();
        let lines: Vec<String> = remarks
            .difference(&self.remarks)
            .map(|remark| format!("{}: {}", shown(&remark.path), shown(&remark.text)))
            .collect();
        write(
            Level::Warn,
            &lines,
            "more remarks (luat-ota check lists them)",
        );
        self.remarks = remarks;
    }
}

fn write(level: Level, lines: &[String], more: &str) {
    for line in lines.iter().take(MAX_LINES) {
        log::log!(target: "firmware", level, "{line}");
    }
    let rest = lines.len().saturating_sub(MAX_LINES);
    if rest > 0 {
        log::log!(target: "firmware", level, "{rest} {more}");
    }
}

/// Replaces control characters, so that a name never takes two lines.
fn shown(name: &str) -> String {
    name.chars()
        .map(|c| if c.is_control() { '\u{fffd}' } else { c })
        .collect()
}
