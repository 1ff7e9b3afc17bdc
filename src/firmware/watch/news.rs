//! Tells the log what became of files, each thing once: available, gone, not served and why.

use log::Level;

use crate::firmware::ContentId;
use crate::firmware::catalog::{Catalog, Remark};
use crate::order;

/// So many lines of one kind at a time; of the others only the number.
const LINES: usize = 40;

/// What the log was told.
#[derive(Debug, Default)]
pub(super) struct News {
    /// Sorted by path.
    available: Vec<(Box<str>, ContentId)>,
    /// Sorted.
    remarks: Vec<Remark>,
    told: bool,
}

impl News {
    /// Tells what the new catalogue says and the log does not know yet. What the first one offers is
    /// told at level debug alone: the server says how much it is.
    pub(super) fn tell(&mut self, catalog: &Catalog) {
        let mut lines = Vec::new();
        let mut available = Vec::new();
        for project in catalog.projects() {
            for package in project.releases.iter().flat_map(|r| &r.packages) {
                available.push((package.path.clone(), package.content));
                if self.told_of(&package.path) != Some(package.content) {
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
        order::sort(&mut available);
        let before = std::mem::replace(&mut self.available, available);
        let level = if self.told { Level::Info } else { Level::Debug };
        write(level, &lines, "more are available");
        self.told = true;

        // One that waits will be told when it is complete, one that is refused is told below.
        let mut lines = Vec::new();
        let mut kept = Vec::new();
        for (path, content) in before {
            let by_path = |other: &str| other.cmp(&path);
            let (waiting, refused) = (&catalog.waiting, &catalog.quarantined);
            if self.told_of(&path).is_some() {
                continue;
            }
            if waiting.binary_search_by(|other| by_path(other)).is_ok() {
                kept.push((path, content));
            } else if refused
                .binary_search_by(|other| by_path(&other.path))
                .is_err()
            {
                lines.push(format!("{} is gone", shown(&path)));
            }
        }
        self.available.append(&mut kept);
        order::sort(&mut self.available);
        write(Level::Info, &lines, "more are gone");

        let refused = catalog.quarantined.iter().map(|remark| Remark {
            path: remark.path.clone(),
            text: format!("is not served: {}", remark.text),
        });
        let mut remarks: Vec<Remark> = refused.chain(catalog.warnings.iter().cloned()).collect();
        order::sort(&mut remarks);
        remarks.dedup();
        let lines: Vec<String> = remarks
            .iter()
            .filter(|remark| self.remarks.binary_search(remark).is_err())
            .map(|remark| format!("{}: {}", shown(&remark.path), shown(&remark.text)))
            .collect();
        write(
            Level::Warn,
            &lines,
            "more remarks (luat-ota check lists them)",
        );
        self.remarks = remarks;
    }

    /// The content that the log was told to be available at this path.
    fn told_of(&self, path: &str) -> Option<ContentId> {
        let by_path = |(other, _): &(Box<str>, ContentId)| (**other).cmp(path);
        let at = self.available.binary_search_by(by_path).ok()?;
        self.available.get(at).map(|(_, content)| *content)
    }
}

fn write(level: Level, lines: &[String], more: &str) {
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
