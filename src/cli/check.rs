//! `luat-ota check`: prints the catalogue as a table, and the files that are not in it with the reasons.

use std::fmt::Write;
use std::path::Path;
use std::time::Instant;

use serde_json::{Value, json};

use super::CommandResult;
use crate::export::{self, Column, Export, ExportFormat};
use crate::firmware::catalog::{Catalog, Package, Release, Remark};
use crate::firmware::known::{self, KnownFiles};
use crate::firmware::scan;
use crate::firmware::words;
use crate::fleet::clock::unix_now;
use crate::fleet::releases::StageView;
use crate::fleet::{Fleet, FleetSettings};
use crate::logging::Printable;

/// Shows the firmware folder. `state`: state folder of its server, which need not exist. `format`: for other programs.
pub(super) fn run(folder: &Path, state: &Path, format: Option<ExportFormat>) -> CommandResult {
    let catalog = read_catalog(folder, state)?;
    let code = u8::from(!catalog.quarantined.is_empty());
    let fleet = read_fleet(&catalog, state);
    let text = match format {
        None => as_text(folder, &catalog) + &stages(&catalog, fleet.as_ref()),
        Some(format) => as_export(&catalog, fleet.as_ref(), format),
    };
    Ok((text, code))
}

/// Reads the fleet state in the state folder `state`, if a release has stages. The error is a sentence.
fn read_fleet(catalog: &Catalog, state: &Path) -> Option<Result<Fleet, String>> {
    let projects = catalog.projects().iter();
    let mut releases = projects.flat_map(|project| &project.releases);
    releases.find(|release| release.rules.stages.is_some())?;
    let now = Instant::now();
    let read = Fleet::read(FleetSettings::default(), state, now, unix_now());
    let fleet = read.map(|(mut fleet, _)| {
        fleet.catalog(catalog, now);
        fleet
    });
    let error = |_| format!("The journal in {} cannot be read.", state.display());
    Some(fleet.map_err(error))
}

/// Describes the stages that the releases have reached.
fn stages(catalog: &Catalog, fleet: Option<&Result<Fleet, String>>) -> String {
    let mut out = String::new();
    let Some(fleet) = fleet else {
        return out;
    };
    let _ = writeln!(out, "\nStages:");
    match fleet {
        Err(error) => {
            let _ = writeln!(out, "  {}", Printable(error));
        }
        Ok(fleet) => {
            for project in catalog.projects() {
                for stage in fleet.stage_texts(project, Instant::now(), unix_now()) {
                    let _ = writeln!(out, "  {}/{}", Printable(&project.name), Printable(&stage));
                }
            }
        }
    }
    out
}

/// Reads the current content of the firmware folder. `state`: state folder of its server, which need not exist.
pub(super) fn read_catalog(folder: &Path, state: &Path) -> Result<Catalog, String> {
    match std::fs::metadata(folder) {
        Ok(metadata) if metadata.is_dir() => {}
        Ok(_) => return Err(format!("{folder:?} is not a folder; give another")),
        Err(error) => {
            return Err(format!(
                "the firmware folder {folder:?} cannot be read: {error}; give another, or create it"
            ));
        }
    }
    // The server has already hashed most files. The table of their hashes is only read.
    let table = state.join(known::FILE);
    scan::catalog(folder, &mut KnownFiles::open(Some(table)))
}

const TITLES: [&str; 8] = [
    "PROJECT", "VERSION", "FILE", "KIND", "SIZE", "PLATFORM", "BASE", "RULES",
];

/// Index of the column of sizes, which is flush right.
const SIZE: usize = 4;

fn as_text(folder: &Path, catalog: &Catalog) -> String {
    let mut rows: Vec<[String; 8]> = vec![TITLES.map(str::to_owned)];
    for project in catalog.projects() {
        for release in &project.releases {
            for package in &release.packages {
                rows.push(row(&project.name, release, package));
            }
        }
    }
    let mut out = String::new();
    match rows.len() {
        1 => {
            let folder = folder.display().to_string();
            let _ = writeln!(out, "No release is served from {}.", Printable(&folder));
        }
        _ => table(&mut out, &rows, Some(SIZE)),
    }
    let unlisted = catalog.unlisted;
    remarks(
        &mut out,
        "Quarantined: not served",
        &catalog.quarantined,
        unlisted.quarantined,
    );
    remarks(
        &mut out,
        "Served, but looks like a mistake",
        &catalog.warnings,
        0,
    );
    remarks(
        &mut out,
        "Ignored: not firmware",
        &catalog.ignored,
        unlisted.ignored,
    );
    remarks(&mut out, "Good to know", &core_only_remarks(catalog), 0);
    if !catalog.waiting.is_empty() {
        let _ = writeln!(out, "\nWaiting until they are complete:");
        for path in &catalog.waiting {
            let _ = writeln!(out, "  {}", Printable(path));
        }
    }
    out
}

/// Columns of a row of the export.
const FILE: &[Column] = &[
    ("status", "/status"),
    ("path", "/path"),
    ("project", "/project"),
    ("version", "/version"),
    ("kind", "/kind"),
    ("size", "/size"),
    ("platform", "/platform"),
    ("base_core", "/base_core"),
    ("sha256", "/sha256"),
    ("rules", "/rules/*"),
    ("stage", "/stage/text"),
    ("text", "/text"),
];

/// Returns the catalogue for other programs, with a row for each served or waiting file and for each remark.
fn as_export(
    catalog: &Catalog,
    fleet: Option<&Result<Fleet, String>>,
    format: ExportFormat,
) -> String {
    let known = fleet.and_then(|fleet| fleet.as_ref().ok());
    let stage = |name| known?.stage(name, Instant::now(), unix_now());
    let mut out = String::new();
    let mut rows = Export::new(format, "files", FILE);
    rows.begin(&mut out);
    for project in catalog.projects() {
        for release in &project.releases {
            let stage = stage((&*project.name, &*release.version_text));
            for package in &release.packages {
                rows.row(
                    &mut out,
                    &file(&project.name, release, stage.as_ref(), package),
                );
            }
        }
    }
    let mut notes = core_only_remarks(catalog);
    if let Some(Err(error)) = fleet {
        notes.push(Remark {
            path: String::new(),
            text: error.clone(),
        });
    }
    for (status, remarks) in [
        ("quarantined", &catalog.quarantined),
        ("warning", &catalog.warnings),
        ("ignored", &catalog.ignored),
        ("note", &notes),
    ] {
        for Remark { path, text } in remarks {
            let row = json!({"status": status, "path": path, "text": text});
            rows.row(&mut out, &row);
        }
    }
    for path in &catalog.waiting {
        rows.row(&mut out, &json!({"status": "waiting", "path": path}));
    }
    let unlisted = catalog.unlisted;
    let unlisted = json!({"quarantined": unlisted.quarantined, "ignored": unlisted.ignored});
    rows.end(&mut out, &[("unlisted", unlisted)]);
    out
}

fn file(project: &str, release: &Release, stage: Option<&StageView>, package: &Package) -> Value {
    json!({
        "status": "served",
        "path": &*package.path,
        "project": project,
        "version": &*release.version_text,
        "kind": package.kind.label(),
        "size": package.size,
        "platform": package.platform.as_deref(),
        "base_core": package.base_core,
        "sha256": package.content.to_string(),
        "rules": words::rules(release),
        "stage": stage.map(export::stage),
    })
}

/// Returns remarks on projects whose releases are all for one core each, which a module must report to get them.
fn core_only_remarks(catalog: &Catalog) -> Vec<Remark> {
    let is_for_one = |release: &Release| {
        release.version.core_form().is_some() && release.rules.any_core != Some(true)
    };
    let projects = catalog.projects().iter();
    projects
        .filter(|project| project.releases.iter().all(is_for_one) && !project.releases.is_empty())
        .map(|project| Remark {
            path: project.name.to_string(),
            text: "each of its releases is for one core only. A module that does not send its core version \
                   (such as libfota with a custom URL) gets none of them: let it send firmware_name and \
                   version as libfota2 does, or set any_core in release.json"
                .to_owned(),
        })
        .collect()
}

fn row(project: &str, release: &Release, package: &Package) -> [String; 8] {
    let shown = |text: &str| Printable(text).to_string();
    let or_dash = |text: Option<String>| text.unwrap_or_else(|| "-".to_owned());
    [
        shown(project),
        shown(&release.version_text),
        shown(&package.path),
        package.kind.label().to_owned(),
        package.size.to_string(),
        or_dash(package.platform.as_deref().map(shown)),
        or_dash(package.base_core.map(|core| core.to_string())),
        match words::rules(release).join(", ") {
            none if none.is_empty() => "-".to_owned(),
            rules => shown(&rules),
        },
    ]
}

/// Writes rows in aligned columns, with two spaces between them. Column number `right` is flush right.
pub(super) fn table<const N: usize>(out: &mut String, rows: &[[String; N]], right: Option<usize>) {
    let mut widths = [0_usize; N];
    for row in rows {
        for (width, cell) in widths.iter_mut().zip(row) {
            *width = columns(cell).max(*width);
        }
    }
    for row in rows {
        let mut line = String::new();
        for (i, (width, cell)) in widths.iter().zip(row).enumerate() {
            let padding = std::iter::repeat_n(' ', width.saturating_sub(columns(cell)));
            match i {
                i if Some(i) == right => line.extend(padding.chain(cell.chars())),
                _ => line.extend(cell.chars().chain(padding)),
            }
            line.push_str("  ");
        }
        let _ = writeln!(out, "{}", line.trim_end());
    }
}

/// Writes a list of remarks. `unlisted`: number of further remarks, which are not in the list.
fn remarks(out: &mut String, title: &str, remarks: &[Remark], unlisted: usize) {
    if remarks.is_empty() {
        return;
    }
    let all = remarks.len().saturating_add(unlisted);
    let _ = writeln!(out, "\n{title} ({all}):");
    for remark in remarks {
        let _ = writeln!(
            out,
            "  {}: {}",
            Printable(&remark.path),
            Printable(&remark.text)
        );
    }
    if unlisted > 0 {
        let _ = writeln!(out, "  and {unlisted} more like these");
    }
}

/// Number of terminal columns that a text takes. Chinese characters take two.
fn columns(text: &str) -> usize {
    text.chars()
        .map(|c| match u32::from(c) {
            0x1100..=0x115f
            | 0x2e80..=0xa4cf
            | 0xac00..=0xd7a3
            | 0xf900..=0xfaff
            | 0xfe30..=0xfe6f
            | 0xff00..=0xff60
            | 0xffe0..=0xffe6
            | 0x1f300..=0x1faff
            | 0x20000..=0x3fffd => 2,
            _ => 1,
        })
        .sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_missing_folder_is_reported_in_a_sentence() {
        let error = run(Path::new("/nowhere/at/all"), Path::new("/nowhere"), None).unwrap_err();
        assert!(
            error.contains("/nowhere/at/all") && error.contains("give another"),
            "{error}"
        );
        let error = run(Path::new("/dev/null"), Path::new("/nowhere"), None).unwrap_err();
        assert!(error.contains("is not a folder"), "{error}");
    }

    #[test]
    fn columns_are_aligned_in_chinese_too() {
        let cells = |project: &str, size: &str| {
            let mut row = ["-"; 8].map(str::to_owned);
            row[0] = project.to_owned();
            row[SIZE] = size.to_owned();
            row
        };
        let mut out = String::new();
        table(
            &mut out,
            &[cells("水表", "5"), cells("ab", "1234")],
            Some(SIZE),
        );
        let lines: Vec<&str> = out.lines().collect();
        assert_eq!(columns(lines[0]), columns(lines[1]));
        assert!(lines[0].contains("   5"), "{out}");
    }

    #[test]
    fn quarantine_is_listed_with_its_reasons() {
        let mut catalog = Catalog::default();
        catalog.quarantined.push(Remark {
            path: "A/1.0.0/x\u{1b}.soc".to_owned(),
            text: "drop the .bin instead".to_owned(),
        });
        catalog.waiting.push("A/2.0.0/update.bin".to_owned());
        let text = as_text(Path::new("fir\u{1b}ware"), &catalog);
        let first = "No release is served from fir\\u{1b}ware.\n";
        assert!(text.starts_with(first), "{text}");
        assert!(
            text.contains("(1):\n  A/1.0.0/x\\u{1b}.soc: drop the .bin instead\n"),
            "{text}"
        );
        assert!(text.contains("complete:\n  A/2.0.0/update.bin\n"), "{text}");
    }
}
