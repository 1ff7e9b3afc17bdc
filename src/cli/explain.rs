//! `luat-ota explain`: prints an [`Explanation`] as text or for other programs.

use std::fmt::Write;
use std::path::Path;
use std::time::Instant;

use super::CommandResult;
use super::args::ModuleQuery;
use super::check::read_catalog;
use crate::decision::{Check, Known, Offer, Verdict};
use crate::explain::{CheckFields, Explanation, explain, from_request};
use crate::export::{EXPLANATION, Export, ExportFormat, explanation};
use crate::firmware::catalog::Catalog;
use crate::fleet::clock::unix_now;
use crate::fleet::view::DeviceView;
use crate::fleet::{Fleet, FleetSettings};
use crate::logging::{Civil, Printable};

/// Explains what a module would get. `state`: state folder of the server, which is only read. `format`: for other
/// programs.
pub(super) fn run(
    folder: &Path,
    state: &Path,
    query: &ModuleQuery,
    format: Option<ExportFormat>,
) -> CommandResult {
    let mut check = match &query.request {
        Some(request) => from_request(request)?,
        None => from_flags(query),
    };
    let catalog = read_catalog(folder, state)?;
    let (now, unix) = (Instant::now(), unix_now());
    let (mut fleet, note) = read_fleet(state, now, unix);
    fleet.catalog(&catalog, now);
    check.complete(&catalog);
    let recorded = RecordedState {
        known: fleet.known_for_operator(&check, now),
        device: check
            .device
            .and_then(|device| fleet.device(device, now, unix)),
        unknown: catalog
            .project(check.project())
            .filter(|_| note.is_none())
            .and_then(|project| fleet.few_established(&project.name)),
        stages: catalog
            .project(check.project())
            .map(|project| fleet.stage_texts(project, now, unix))
            .unwrap_or_default(),
        note,
    };
    Ok(match format {
        None => as_text(&catalog, &check, recorded, unix),
        Some(format) => as_export(&catalog, &check, recorded, unix, format),
    })
}

/// Recorded state of the device and of its project.
#[derive(Default)]
struct RecordedState<'f> {
    known: Known<'f>,
    device: Option<DeviceView>,
    /// Sentence about what is still unknown of the project's devices.
    unknown: Option<String>,
    /// Stages that the releases of the device's project have reached.
    stages: Vec<String>,
    /// Sentence with the reason why the recorded state is unknown, if it is.
    note: Option<String>,
}

/// Reads the fleet state, or returns an empty one and a note with the reason. The state folder is not modified.
fn read_fleet(state: &Path, now: Instant, unix: i64) -> (Fleet, Option<String>) {
    let unknown = |why: String| {
        let note = format!(
            "the state of the server is unknown, so a hold of the loop guard is not shown: {why}"
        );
        (Fleet::new(FleetSettings::default(), now), Some(note))
    };
    if !state.is_dir() {
        return unknown(format!("there is no state folder {}", state.display()));
    }
    match Fleet::read(FleetSettings::default(), state, now, unix) {
        Ok((_, loaded)) if loaded.newer.is_some() => {
            unknown("its journal was written by a later luat-ota".to_owned())
        }
        Ok((fleet, _)) => (fleet, None),
        Err(error) => unknown(format!(
            "the journal in {} cannot be read: {error}; run this as the server's user",
            state.display()
        )),
    }
}

/// Returns the check that the flags describe.
fn from_flags(query: &ModuleQuery) -> Check<'_> {
    CheckFields {
        device: query.device.as_deref().unwrap_or_default(),
        firmware_name: query.firmware_name.as_deref(),
        version: query.version.as_deref().unwrap_or_default(),
        core_version: query.core_version,
        project_key: query.project_key.as_deref(),
        need_oss_url: query.need_oss_url,
    }
    .check()
}

fn as_text(
    catalog: &Catalog,
    check: &Check<'_>,
    recorded: RecordedState<'_>,
    unix: i64,
) -> (String, u8) {
    let explanation = explain(catalog, recorded.known, check, unix);
    let mut out = String::new();
    // Writing to a String cannot fail, here and below.
    let _ = match &explanation.verdict {
        Verdict::Offer(offer) => write_offer(&mut out, offer),
        Verdict::Refuse(refused) => {
            writeln!(out, "refused: {}", Printable(&refused.to_string()))
        }
    };
    let Explanation { status, udp, .. } = &explanation;
    let _ = match (status, explanation.code) {
        (302, _) => writeln!(out, "  HTTP     302, to the redirect of the release"),
        (_, Some(code)) => writeln!(out, "  HTTP     {status}, code {code}"),
        (_, None) => writeln!(out, "  HTTP     {status}"),
    };
    let _ = writeln!(out, "  UDP      {udp}");
    if let Some(device) = &recorded.device {
        write_device(&mut out, device, unix);
    }
    for stage in &recorded.stages {
        let _ = writeln!(out, "  stage    {}", Printable(stage));
    }
    for note in recorded.note.iter().chain(&recorded.unknown) {
        let _ = writeln!(out, "  note     {}", Printable(note));
    }
    if check.device.is_none() {
        let _ = writeln!(
            out,
            "  note     the check has no valid module id, so `allow`, `deny` and `percent` see no id"
        );
    }
    let _ = writeln!(out, "\nRules that were evaluated, in order:");
    for (i, note) in explanation.notes.list().iter().enumerate() {
        let (number, text) = (i.saturating_add(1), Printable(&note.text));
        let _ = match note.release.as_str() {
            "" => writeln!(out, "{number:4}. {text}"),
            release => writeln!(out, "{number:4}. {}: {text}", Printable(release)),
        };
    }
    (out, exit_code(&explanation.verdict))
}

/// Returns the explanation for other programs, as the API shows it, and the exit status.
fn as_export(
    catalog: &Catalog,
    check: &Check<'_>,
    recorded: RecordedState<'_>,
    unix: i64,
    format: ExportFormat,
) -> (String, u8) {
    let explained = explain(catalog, recorded.known, check, unix);
    let stages = recorded.stages.into_iter();
    let remarks = stages.chain(recorded.note).chain(recorded.unknown);
    let row = explanation(&explained, remarks);
    let mut out = String::new();
    match format {
        ExportFormat::Json => out.extend([row.to_string().as_str(), "\n"]),
        ExportFormat::Csv => {
            let mut rows = Export::new(format, "explanations", EXPLANATION);
            rows.begin(&mut out);
            rows.row(&mut out, &row);
        }
    }
    (out, exit_code(&explained.verdict))
}

fn exit_code(verdict: &Verdict<'_>) -> u8 {
    match verdict {
        Verdict::Offer(_) => 0,
        Verdict::Refuse(_) => 3,
    }
}

/// Writes when the device was last seen, its version, and its holds.
fn write_device(out: &mut String, device: &DeviceView, unix: i64) {
    let time = |unix: i64| format!("{}Z", Civil::of(u64::try_from(unix).unwrap_or(0)));
    let last = time(device.wall.unix_of(device.entry.last));
    let version = Printable(&device.entry.version);
    let name = device
        .name
        .as_deref()
        .map(|name| format!("{}, ", Printable(name)));
    let name = name.unwrap_or_default();
    let _ = writeln!(
        out,
        "  device   {name}last seen {last} with version {version}"
    );
    for hold in &device.held {
        if let Some(until) = hold.until.filter(|until| *until > unix) {
            let _ = writeln!(
                out,
                "  held     until {}, after {} reverts and {} bytes sent (luat-ota lift ends it)",
                time(until),
                hold.reverts,
                hold.sent
            );
        }
    }
}

fn write_offer(out: &mut String, offer: &Offer<'_>) -> std::fmt::Result {
    let Offer {
        project,
        release,
        package,
    } = offer;
    writeln!(
        out,
        "offered: {} {}",
        Printable(&project.name),
        Printable(&release.version_text)
    )?;
    writeln!(out, "  file     {}", Printable(&package.path))?;
    writeln!(out, "  size     {} bytes", package.size)?;
    writeln!(out, "  sha256   {}", package.content)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Arc;

    use crate::firmware::ContentId;
    use crate::firmware::catalog::{ScanResult, ScannedFile, ScannedRules};
    use crate::firmware::package::{Inspected, PackageKind};
    use crate::firmware::rules::Rules;
    use crate::os::fs::FileStamp;

    /// Returns a catalogue with these rules and one release: ALIYUN 2.0.1, of 2044 bytes.
    fn catalogue_with(rules: &str) -> Catalog {
        let found = ScanResult {
            files: vec![ScannedFile {
                path: "ALIYUN/2.0.1/update.bin".to_owned(),
                stamp: FileStamp {
                    dev: 1,
                    ino: 1,
                    size: 2044,
                    mtime: 0,
                    ctime: 0,
                },
                inspected: Inspected {
                    content: ContentId([0xab; 32]),
                    md5: [0; 16],
                    size: 2044,
                    kind: PackageKind::Generic,
                },
            }],
            rules: vec![ScannedRules {
                path: "ALIYUN/2.0.1/release.json".to_owned(),
                rules: Some(Arc::new(Rules::parse(rules.as_bytes()).unwrap())),
                error: None,
            }],
            ..ScanResult::default()
        };
        Catalog::build(found)
    }

    const REQUEST: &[u8] = b"GET /luat/update?project_key=k&imei=862991443753386&firmware_name=\
        ALIYUN_Luat_V0007_ASR1802&version=2.0.0&need_oss_url=1 HTTP/1.1";

    #[test]
    fn an_offer_names_the_file_and_both_replies() {
        let check = from_request(REQUEST).unwrap();
        let (text, code) = as_text(&catalogue_with("{}"), &check, RecordedState::default(), 0);
        assert_eq!(code, 0);
        for line in [
            "offered: ALIYUN 2.0.1\n",
            "  file     ALIYUN/2.0.1/update.bin\n",
            "  size     2044 bytes\n",
            "  sha256   abababab",
            "  HTTP     200\n",
            "  UDP      LUAUPDATE,<id>,2,1022\n",
            "   1. ",
        ] {
            assert!(text.contains(line), "{line:?} is not in\n{text}");
        }
        let rules = catalogue_with(r#"{"redirect": "http://cdn.example.com/{file}"}"#);
        let (text, _) = as_text(&rules, &check, RecordedState::default(), 0);
        assert!(text.contains("  HTTP     302"), "{text}");
    }

    #[test]
    fn a_refusal_shows_its_code_and_its_reasons_in_order() {
        let check = from_request(REQUEST).unwrap();
        let rules = catalogue_with(r#"{"deny": ["862991443753386"]}"#);
        let (text, code) = as_text(&rules, &check, RecordedState::default(), 0);
        assert_eq!(code, 3);
        for line in [
            "refused: 2.0.1: it is in deny\n",
            "  HTTP     403, code 21\n",
            "  UDP      imei range error\n",
            "\nRules that were evaluated, in order:\n   1. ",
        ] {
            assert!(text.contains(line), "{line:?} is not in\n{text}");
        }
    }

    #[test]
    fn the_flags_ask_the_same_as_the_request() {
        let query = ModuleQuery {
            device: Some("862991443753386".to_owned()),
            firmware_name: Some("ALIYUN_Luat_V0007_ASR1802".to_owned()),
            version: Some("2.0.0".to_owned()),
            project_key: Some("k".to_owned()),
            need_oss_url: true,
            ..ModuleQuery::default()
        };
        assert_eq!(from_flags(&query), from_request(REQUEST).unwrap());
    }

    #[test]
    fn a_module_without_a_good_id_is_noted() {
        let query = ModuleQuery {
            device: Some("no id!".to_owned()),
            firmware_name: Some("ALIYUN".to_owned()),
            version: Some("2.0.0".to_owned()),
            ..ModuleQuery::default()
        };
        let (text, _) = as_text(
            &catalogue_with("{}"),
            &from_flags(&query),
            RecordedState::default(),
            0,
        );
        assert!(text.contains("  note     the check has no valid"), "{text}");
    }
}
