//! Parses paths in the firmware folder into project, version, platform and base core.
//!
//! A folder called `X_1.0` always means version 1.0 of project X, never a project `X_1.0`, while `X_2` is always a
//! project. A folder must not have two meanings; otherwise a `release.json` in it could apply to one of them and
//! firmware be served for the other.

use nom::bytes::complete::take_while1;
use nom::character::complete::{one_of, u32 as number};
use nom::combinator::{eof, opt};
use nom::sequence::{preceded, terminated};
use nom::{IResult, Parser};

use super::{Marker, core_and_platform, firmware_stem, marker};
use crate::firmware::version::Version;

/// Parts of the path of a firmware file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FirmwarePath<'a> {
    /// Project as written.
    pub project: &'a str,
    /// Version of the release.
    pub version: Version,
    /// Version as written, for people and for `{version}`.
    pub version_text: &'a str,
    /// Platform that the file is for (from a name in Luatools form); `None` if it is for every module of the project.
    pub platform: Option<&'a str>,
    /// Marker in the file name.
    pub marker: Option<Marker>,
    /// The only core that the package can be applied to, from a `from-CORE` folder.
    pub base_core: Option<u32>,
}

/// Owner of a `release.json`, judging by its path.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct RulesOwner<'a> {
    /// Project as written.
    pub project: &'a str,
    /// Version of the release; `None` if the rules are for the whole project.
    pub version: Option<Version>,
}

/// Parses the path of a firmware file, relative to the firmware folder, with `/` as separator.
///
/// The error is a sentence for the person who put the file there. It names the wrong part and the correct form.
///
/// `ALIYUN/2.0.1/update.bin` → version 2.0.1 of ALIYUN, for every platform.
pub fn firmware_path(path: &str) -> Result<FirmwarePath<'_>, String> {
    let parts = parts(path)?;
    let Some((&file, folders)) = parts.split_last() else {
        return Err("the path is empty".to_owned());
    };
    let folders = read_folders(folders);
    let in_folder = folders.as_ref().ok().and_then(|folders| folders.release);
    let luatools = luatools_name(file, in_folder)?;
    let Folders {
        project, base_core, ..
    } = folders?;
    let release = match (in_folder, luatools) {
        (None, None) => return Err(missing_version(project, base_core, file)),
        (Some(release), None) => release,
        (in_folder, Some(luatools)) => {
            if let Some(project) = project {
                check_same_project(project, luatools)?;
            }
            let release = in_folder.unwrap_or(luatools.release);
            if release.version != luatools.release.version {
                return Err(format!(
                    "the folder says version {}, but the file's name says {}: move it into the folder \
                     of its own version, or rename one of them",
                    release.text, luatools.release.text
                ));
            }
            release
        }
    };
    Ok(FirmwarePath {
        project: release.project,
        version: release.version,
        version_text: release.text,
        platform: luatools.map(|name| name.platform),
        marker: luatools.map(|name| name.marker),
        base_core,
    })
}

/// Returns the sentence about a file if neither its folders nor its name contain the version.
fn missing_version(project: Option<&str>, base_core: Option<u32>, file: &str) -> String {
    match (project, base_core) {
        (None, _) => {
            "at the top of the firmware folder a file must have the name that Luatools gave it, such \
             as `PROJECT_2012.001.004_LuatOS-SoC_Air780EPM.bin`; put it into a folder for its project \
             and version instead, such as `PROJECT/2.0.1/update.bin`"
                .to_owned()
        }
        (Some(project), Some(core)) => format!(
            "the folders name project `{project}` and base core {core}, but no version: put the \
             file into `{project}/VERSION/from-{core}/`, such as `{project}/2.0.1/from-{core}/`"
        ),
        (Some(project), None) => format!(
            "the folder `{project}` names no version: put the file into a version's folder, such \
             as `{project}/2.0.1/{file}`, or call the folder `{project}_2.0.1`"
        ),
    }
}

/// Parses the path of a `release.json`. The error is a sentence.
///
/// `ALIYUN/release.json` → the rules of project ALIYUN.
pub fn rules_owner(path: &str) -> Result<RulesOwner<'_>, String> {
    let parts = parts(path)?;
    let folders = parts.split_last().map(|(_, folders)| folders);
    let folders = read_folders(folders.unwrap_or_default())?;
    if let Some(core) = folders.base_core {
        return Err(format!(
            "rules are not read from a `from-{core}` folder: put the release.json one folder higher, \
             where it applies to the whole release"
        ));
    }
    let Some(project) = folders.project else {
        return Err(
            "rules at the top of the firmware folder have no project: put the file into a \
             project's folder, such as `PROJECT/release.json`, or into a version's, such as \
             `PROJECT/2.0.1/release.json`"
                .to_owned(),
        );
    };
    Ok(RulesOwner {
        project,
        version: folders.release.map(|release| release.version),
    })
}

/// A version of a project, with the version as written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct NamedRelease<'a> {
    project: &'a str,
    version: Version,
    text: &'a str,
}

/// Parts of a name in the form that Luatools uses.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct LuatoolsName<'a> {
    release: NamedRelease<'a>,
    marker: Marker,
    platform: &'a str,
}

/// Parts of the folders above a file.
#[derive(Default)]
struct Folders<'a> {
    project: Option<&'a str>,
    release: Option<NamedRelease<'a>>,
    /// Core of a `from-CORE` folder.
    base_core: Option<u32>,
}

/// Parses folders: `["ALIYUN", "2.0.1", "from-2008"]` → version 2.0.1 of ALIYUN, from core 2008.
fn read_folders<'a>(folders: &[&'a str]) -> Result<Folders<'a>, String> {
    let Some((&first, inner)) = folders.split_first() else {
        return Ok(Folders::default());
    };
    let in_name = project_and_version(first);
    let project = in_name.map_or(first, |release| release.project);
    check_project_name(project)?;
    let (release, inner) = match (in_name, inner) {
        (None, &[text, ref rest @ ..])
            if rest.len() == 1 || (rest.is_empty() && !looks_like_from(text)) =>
        {
            (Some(version_folder(first, text)?), rest)
        }
        _ => (in_name, inner),
    };
    let base_core = match (inner, in_name) {
        ([], _) => None,
        ([base], _) if looks_like_from(base) => Some(from_core(base)?),
        ([base, ..], Some(_)) if looks_like_from(base) => return Err(too_deep()),
        ([other, ..], Some(release)) => {
            return Err(format!(
                "the folder `{first}` already means version {} of project `{project}`, so there can be \
                 no folder `{other}` in it: use `{project}/{other}/`, or if `{first}` is the project's own \
                 name, `{first}_{other}/`",
                release.text
            ));
        }
        ([base], None) => {
            return Err(format!(
                "there can be no folder `{base}` inside a version's folder, except `from-CORE/` \
                 (such as `from-2008/`) for files that fit only that core"
            ));
        }
        _ => return Err(too_deep()),
    };
    Ok(Folders {
        project: Some(project),
        release,
        base_core,
    })
}

fn too_deep() -> String {
    "there are too many folders above it: the deepest is `PROJECT/VERSION/from-CORE/`, such as \
     `ALIYUN/2012.001.004/from-2008/`"
        .to_owned()
}

/// Parses `ALIYUN_2.0.1` → version 2.0.1 of ALIYUN. A single number (`AIR_720`) is part of a project name; `AIR_v720`
/// or `AIR_720.0` contain versions.
fn project_and_version(folder: &str) -> Option<NamedRelease<'_>> {
    let (project, text) = folder.rsplit_once('_')?;
    let version = Version::parse(text)?;
    let single = text.bytes().all(|byte| byte.is_ascii_digit());
    (!single && !project.is_empty()).then_some(NamedRelease {
        project,
        version,
        text,
    })
}

/// Parses `("ALIYUN", "v2.0.1")` → version 2.0.1 of ALIYUN.
fn version_folder<'a>(project: &'a str, text: &'a str) -> Result<NamedRelease<'a>, String> {
    match Version::parse(text) {
        Some(version) => Ok(NamedRelease {
            project,
            version,
            text,
        }),
        None => Err(format!(
            "`{text}` is not a version: a version's folder is named by one to five numbers with dots \
             between them, such as `{project}/2.0.1/`"
        )),
    }
}

/// Whether the name looks like that of a `from-CORE` folder.
fn looks_like_from(folder: &str) -> bool {
    folder
        .get(..5)
        .is_some_and(|start| start.eq_ignore_ascii_case("from-"))
}

/// Parses `from-2008` or `from-V2008` → 2008.
fn from_core(folder: &str) -> Result<u32, String> {
    let core = folder.get(5..).and_then(|text| core(text).ok());
    match core {
        Some(("", core)) if core > 0 => Ok(core),
        _ => Err(format!(
            "`{folder}` does not name a core: a folder for files that fit only one core is named like \
             `from-2008`"
        )),
    }
}

/// Parses `V2008` → 2008.
fn core(input: &str) -> IResult<&str, u32> {
    terminated(preceded(opt(one_of("Vv")), number), eof).parse(input)
}

/// Parses `FOTA2_DEMO_2012.001.001_LuatOS-SoC_Air780EPM.bin` → version 2012.001.001 of FOTA2_DEMO for Air780EPM.
/// Returns `Ok(None)` if there is no marker, and an error if there is a marker but the rest is invalid. `folder` is the
/// release that the folders name.
fn luatools_name<'a>(
    file: &'a str,
    folder: Option<NamedRelease<'a>>,
) -> Result<Option<LuatoolsName<'a>>, String> {
    let stem = firmware_stem(file).unwrap_or(file);
    let Some(found) = marker(stem) else {
        return Ok(None);
    };
    let text = found.marker.text();
    let (left, right) = found.cut(stem);
    if !stem
        .get(left.len()..)
        .is_some_and(|rest| rest.starts_with(text))
    {
        return Err(format!(
            "write `{text}` in the file's name as Luatools does"
        ));
    }
    let release = match found.marker {
        Marker::Csdk => csdk_release(left, folder),
        _ => version_last(left),
    };
    let release = match release {
        Some(release) => release,
        // Other names may contain `_CSDK_` too, and in a version's folder they need no further parts.
        None if found.marker == Marker::Csdk && folder.is_some() => return Ok(None),
        None => {
            return Err(format!(
                "the name has `{text}`, but no project and version before it: it should look like \
                 `PROJECT_2.0.1{text}PLATFORM.bin`"
            ));
        }
    };
    check_project_name(release.project)?;
    // The core in the name is that of the new firmware; the name does not say which cores the package fits.
    match (platform(right), core_and_platform(right, found.marker).1) {
        (Ok(_), Some(platform)) => Ok(Some(LuatoolsName {
            release,
            marker: found.marker,
            platform,
        })),
        _ => Err(format!(
            "`{right}` is not a platform: after `{text}`, only letters, digits, `_`, `-` and `.` are \
             allowed, such as `Air780EPM` (remove the ` (1)` of a copy)"
        )),
    }
}

/// Parses `P_2.0.1` → version 2.0.1 of P.
fn version_last(left: &str) -> Option<NamedRelease<'_>> {
    let (project, text) = left.rsplit_once('_')?;
    let version = Version::parse(text)?;
    Some(NamedRelease {
        project,
        version,
        text,
    })
}

/// Parses `P_2.0.1` or `2.0.1_P`; in the folder of a version of P also `P`.
fn csdk_release<'a>(left: &'a str, folder: Option<NamedRelease<'a>>) -> Option<NamedRelease<'a>> {
    let version_first = || {
        let (text, project) = left.split_once('_')?;
        let version = Version::parse(text).filter(|_| text.contains('.'))?;
        Some(NamedRelease {
            project,
            version,
            text,
        })
    };
    version_last(left)
        .or_else(version_first)
        .or(folder.filter(|folder| folder.project == left))
}

/// Parses a platform such as `RDA8910_TTS`, possibly with its core (`V0022_RDA8910_TTS`).
fn platform(input: &str) -> IResult<&str, &str> {
    let letter = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '-' | '.' | '+');
    terminated(take_while1(letter), eof).parse(input)
}

fn check_same_project(project: &str, luatools: LuatoolsName<'_>) -> Result<(), String> {
    if project == luatools.release.project {
        return Ok(());
    }
    Err(format!(
        "the folder says project `{project}`, but the file's name says `{}`: move it into the folder of \
         its own project, or rename one of them",
        luatools.release.project
    ))
}

/// Splits `A/B/c.bin` into its parts. Fails for parts with control characters and for paths that leave the folder.
fn parts(path: &str) -> Result<Vec<&str>, String> {
    let parts: Vec<&str> = path.split('/').collect();
    for part in &parts {
        if part.chars().any(char::is_control) {
            return Err(format!(
                "`{}` contains a control character: rename it",
                part.escape_debug()
            ));
        }
        if matches!(*part, "" | "." | "..") {
            return Err(format!("`{path}` is not a path inside the firmware folder"));
        }
    }
    Ok(parts)
}

/// Fails with a sentence if no module can ask for a project of this name.
fn check_project_name(project: &str) -> Result<(), String> {
    if project.trim().is_empty() {
        Err("the project's name is missing: it should look like `PROJECT_2.0.1`".to_owned())
    } else if project.contains(',') {
        Err(format!(
            "project `{project}`: a project's name cannot have a comma, because modules send it between \
             commas"
        ))
    } else if project.trim() != project {
        Err(format!(
            "project `{project}`: remove the space at the beginning or end of the name"
        ))
    } else {
        Ok(())
    }
}
