//! Tells the log what became of files, each thing once: available, gone, not served and why.

use std::collections::{BTreeSet, HashMap, HashSet};

use log::Level;

use crate::firmware::ContentId;
use crate::firmware::catalog::Catalog;

/// So many lines of one kind at a time; of the others only the number.
const LINES: usize = 40;

/// What the log was told.
#[derive(Debug, Default)]
pub(super) struct News {
    available: HashMap<Box<str>, ContentId>,
    remarks: BTreeSet<(String, String)>,
    told: bool,
}

impl News {
    /// Tells what the new catalogue says and the log does not know yet. What the first one offers is
    /// told at level debug alone: the server says how much it is.
    pub(super) fn tell(&mut self, catalog: &Catalog) {
        let mut lines = Vec::new();
        let mut offered = HashSet::new();
        for project in catalog.projects() {
            for package in project.releases.iter().flat_map(|r| &r.packages) {
                offered.insert(&*package.path);
                if self.available.get(&package.path) != Some(&package.content) {
                    self.available.insert(package.path.clone(), package.content);
                    lines.push(format!(
                        "{} is available: {} bytes, {}, sha256 {:.12}…",
                        shown(&package.path),
                        package.size,
                        package.kind.label(),
                        package.content.to_string()
                    ));
                }
            }
        }
        let level = if self.told { Level::Info } else { Level::Debug };
        write(level, lines, "more are available");
        self.told = true;

        // One that waits will be told when it is complete, one that is refused is told below.
        let elsewhere: HashSet<&str> = catalog
            .waiting
            .iter()
            .chain(catalog.quarantined.iter().map(|remark| &remark.path))
            .map(String::as_str)
            .collect();
        let mut lines = Vec::new();
        let waiting: HashSet<&str> = catalog.waiting.iter().map(String::as_str).collect();
        self.available.retain(|path, _| {
            if offered.contains(&**path) || waiting.contains(&**path) {
                return true;
            }
            if !elsewhere.contains(&**path) {
                lines.push(format!("{} is gone", shown(path)));
            }
            false
        });
        lines.sort();
        write(Level::Info, lines, "more are gone");

        let remarks: BTreeSet<(String, String)> = catalog
            .quarantined
            .iter()
            .map(|remark| {
                (
                    remark.path.clone(),
                    format!("is not served: {}", remark.text),
                )
            })
            .chain(
                catalog
                    .warnings
                    .iter()
                    .map(|remark| (remark.path.clone(), remark.text.clone())),
            )
            .collect();
        let lines = remarks
            .difference(&self.remarks)
            .map(|(path, text)| format!("{}: {}", shown(path), shown(text)))
            .collect();
        write(
            Level::Warn,
            lines,
            "more remarks (luat-ota check lists them)",
        );
        self.remarks = remarks;
    }
}

fn write(level: Level, lines: Vec<String>, more: &str) {
    for line in lines.iter().take(LINES) {
        log::log!(target: "firmware", level, "{line}");
    }
    let rest = lines.len().saturating_sub(LINES);
    if rest > 0 {
        log::log!(target: "firmware", level, "{rest} {more}");
    }
}

/// A name without characters that would make two lines of one.
fn shown(name: &str) -> String {
    name.chars()
        .map(|c| if c.is_control() { '\u{fffd}' } else { c })
        .collect()
}
