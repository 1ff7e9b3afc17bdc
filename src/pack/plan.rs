//! Plan of the package that is built from a `.soc` file and its scripts: chip, name and address.

use std::path::Path;

use super::luadb::{self, LuaDb};
use super::script::Identity;
use super::soc::{Soc, SocInfo};
use super::{PackError, air8101, ec};
use crate::firmware::name::{Marker, SentName, firmware_path};
use crate::firmware::package::{ChipFamily, Inspector, PackageKind};

/// Images of EC7xx and Air8101 modules are padded with zeros to a multiple of this number of bytes.
const PADDING: usize = 1024;

/// A chip for which script packages can be built.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ScriptTarget {
    /// EC716, EC718.
    Ec7xx,
    /// EC618.
    Ec618,
    /// BK72xx.
    Air8101,
}

impl ScriptTarget {
    /// Kind that the server's inspector must find.
    pub fn kind(self) -> PackageKind {
        match self {
            ScriptTarget::Ec7xx => PackageKind::Ec7xx { delta: false },
            ScriptTarget::Ec618 => PackageKind::Ec618 { delta: false },
            ScriptTarget::Air8101 => PackageKind::Air8101 { script: true },
        }
    }

    fn family(self) -> ChipFamily {
        match self {
            ScriptTarget::Ec7xx => ChipFamily::Ec7xx,
            ScriptTarget::Ec618 => ChipFamily::Ec618,
            ScriptTarget::Air8101 => ChipFamily::Air8101,
        }
    }

    /// Returns the target for a chip's type in info.json. For another chip, the error states what to do.
    pub fn of_chip(chip: &str) -> Result<ScriptTarget, PackError> {
        let lower = chip.to_ascii_lowercase();
        let family = match lower.as_str() {
            "ec7xx" => Some(ChipFamily::Ec7xx),
            "uis8910" => Some(ChipFamily::Rda8910),
            "ccm4211" => Some(ChipFamily::Air1601),
            _ => ChipFamily::of_platform(chip),
        };
        match family {
            Some(ChipFamily::Ec7xx) => Ok(ScriptTarget::Ec7xx),
            Some(ChipFamily::Ec618) => Ok(ScriptTarget::Ec618),
            Some(ChipFamily::Air8101) => Ok(ScriptTarget::Air8101),
            other => Err(PackError::new(format!(
                "packages for the chip `{}` are not built here: {}. In Luatools choose 生成差分/升级文件 (make a delta \
                 or upgrade file) and put the .bin that it makes into the firmware folder",
                chip.escape_debug(),
                known_about(other)
            ))),
        }
    }
}

/// Returns what is known of the packages of other chips (docs/protocol.md 5b, 9f).
fn known_about(family: Option<ChipFamily>) -> &'static str {
    match family {
        Some(ChipFamily::Air1601) => {
            "Air1601 and Air1602 use the container of EC7xx with another magic number, and there is no package of the \
             vendor to compare with"
        }
        Some(ChipFamily::Rda8910) => {
            "RDA8910 uses the container of EC7xx, but compresses its blocks with a closed method"
        }
        Some(ChipFamily::W800) => {
            "Air101, Air103, Air601 and Air6208 take the script partition as an image with a 64-byte header, which the \
             vendor's air101_flash.exe makes"
        }
        Some(ChipFamily::Air105) => "an update of Air105 is always the whole core with the script",
        Some(ChipFamily::Esp32) => {
            "old ESP32 cores took a LuaDB image with an MD5, newer ones the whole application"
        }
        Some(ChipFamily::Rda8955 | ChipFamily::Asr1802) => "its layout is not public",
        _ => "this chip is not known",
    }
}

/// Values that replace those of the scripts and of `info.json`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PlanOptions {
    /// `PROJECT`.
    pub project: Option<String>,
    /// `VERSION`.
    pub version: Option<String>,
    /// The platform, as a module reports it.
    pub bsp: Option<String>,
}

/// Description of the package that will be built.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Plan {
    /// The chip.
    pub target: ScriptTarget,
    /// `PROJECT` of the script.
    pub project: String,
    /// `VERSION` of the script.
    pub version: String,
    /// The core that the script was made for, in digits.
    pub core: String,
    /// The platform (BSP), as a module reports it.
    pub platform: String,
    /// Address of the image in the module's flash. Air8101 packages have no address.
    pub address: u32,
    /// Maximum length of the image in bytes; `None` if `info.json` does not state it.
    pub region: Option<usize>,
    /// Name of the package, in the form of Luatools.
    pub file_name: String,
}

impl Plan {
    /// Plans a package of the script in `database`. `soc_name`: the name of the `.soc` file, without folders.
    pub fn new(
        soc: &SocInfo,
        soc_name: &str,
        database: &LuaDb<'_>,
        options: &PlanOptions,
    ) -> Result<Plan, PackError> {
        let target = ScriptTarget::of_chip(&soc.chip)?;
        let identity = Identity::read(&database.files)?;
        let project = first(&options.project, &identity.project, &soc.project);
        let project = project.ok_or_else(|| missing("project", "PROJECT"))?;
        let version = first(&options.version, &identity.version, &soc.version);
        let version = version.ok_or_else(|| missing("version", "VERSION"))?;
        let named = CoreName::read(soc_name);
        let core = soc.core.clone().or(named.core).ok_or_else(|| {
            PackError::new(
                "neither info.json (`rom.version-bsp`) nor the name of the .soc file says the core's version: give \
                 the file the name that it was released under, like LuatOS-SoC_V2020_Air780EPM.soc",
            )
        })?;
        let platform = options.bsp.clone().or(named.platform).ok_or_else(|| {
            PackError::new(
                "the name of the .soc file does not say the platform, as LuatOS-SoC_V2020_Air780EPM.soc does: give it \
                 with --bsp, as the module reports it (rtos.bsp())",
            )
        })?;
        if ChipFamily::of_platform(&platform).is_some_and(|family| family != target.family()) {
            return Err(PackError::new(format!(
                "the platform is {platform}, but info.json says that the chip is {}: give the right --bsp, or the .soc \
                 file of that platform",
                soc.chip
            )));
        }
        let address = match (soc.address, target) {
            (Some(address), _) => address,
            (None, ScriptTarget::Air8101) => 0,
            (None, _) => {
                return Err(PackError::new(
                    "info.json does not say where the script goes (`download.script_addr`): give the .soc file of a \
                     released core",
                ));
            }
        };
        let file_name = file_name(&project, &version, &core, &platform)?;
        Ok(Plan {
            target,
            project,
            version,
            core,
            platform,
            address,
            region: soc.region,
            file_name,
        })
    }
}

impl Soc {
    /// Returns the script image in this file, in the form that a package contains.
    pub fn script_image(&self) -> Result<Vec<u8>, PackError> {
        let image = self.image.as_deref().ok_or_else(|| {
            PackError::new(format!(
                "this .soc file has no script image (`{}`): name the scripts too, as in luat-ota pack --core FILE.soc \
                 src/",
                self.info.script_file
            ))
        })?;
        match air8101::decode(image) {
            Some(plain) if luadb::read(image).is_err() => Ok(plain),
            _ => Ok(image.to_owned()),
        }
    }
}

/// Returns the first value that is given.
fn first(option: &Option<String>, script: &Option<String>, soc: &Option<String>) -> Option<String> {
    option
        .as_ref()
        .or(script.as_ref())
        .or(soc.as_ref())
        .cloned()
}

fn missing(flag: &str, name: &str) -> PackError {
    PackError::new(format!(
        "the main script does not assign a text to {name} (as in {name} = \"…\"), and info.json does not say it: give \
         it with --{flag}, exactly as the script has it when it runs"
    ))
}

/// Core version and platform in the name of a core's file, such as `LuatOS-SoC_V2020_Air780EPM.soc`.
struct CoreName {
    core: Option<String>,
    platform: Option<String>,
}

impl CoreName {
    fn read(soc_name: &str) -> CoreName {
        let stem = Path::new(soc_name).file_stem().unwrap_or_default();
        // The marker includes the `_` that separates it from a project.
        let name = format!("_{}", stem.to_string_lossy());
        let name = SentName::from(name.as_str());
        let parts = name.parts();
        let is_core = parts.marker == Some(Marker::SoC);
        CoreName {
            core: parts.core.filter(|_| is_core).map(|core| core.to_string()),
            platform: parts.platform.filter(|_| is_core).map(str::to_owned),
        }
    }
}

/// Returns `PROJECT_CORE.A.C_LuatOS-SoC_BSP.bin`, where A and C are the first and the third field of the version.
fn file_name(
    project: &str,
    version: &str,
    core: &str,
    platform: &str,
) -> Result<String, PackError> {
    let fields: Vec<&str> = version.split('.').collect();
    let is_number = |field: &&str| {
        (1..=9).contains(&field.len()) && field.bytes().all(|byte| byte.is_ascii_digit())
    };
    let [a, _, c] = fields.as_slice() else {
        return Err(wrong_version(version));
    };
    if !fields.iter().all(is_number) {
        return Err(wrong_version(version));
    }
    let is_unfit = |c: char| c == '/' || c == ',' || c.is_control();
    if project.is_empty() || project.len() > 100 || project.contains(is_unfit) {
        return Err(PackError::new(format!(
            "the project `{}` cannot be part of a file's name: it must have at most 100 bytes and no `/`, comma or \
             control character",
            project.escape_debug()
        )));
    }
    let is_platform = |c: char| c.is_ascii_alphanumeric() || c == '_';
    if platform.is_empty() || platform.len() > 40 || !platform.chars().all(is_platform) {
        return Err(PackError::new(format!(
            "`{}` is not a platform: it has letters, digits and `_`, as in Air780EPM",
            platform.escape_debug()
        )));
    }
    let name = format!("{project}_{core}.{a}.{c}_LuatOS-SoC_{platform}.bin");
    // The server must parse the same project and platform from the name.
    match firmware_path(&name) {
        Ok(read) if read.project == project && read.platform == Some(platform) => Ok(name),
        _ => Err(PackError::new(format!(
            "in the name `{}` the server would not find the project {project} and the platform {platform}: give \
             another --project or --bsp",
            name.escape_debug()
        ))),
    }
}

fn wrong_version(version: &str) -> PackError {
    PackError::new(format!(
        "VERSION is `{}`, not three numbers with dots, like 1.0.2: libfota2 reads no other. Correct it in the script, \
         or give the right one with --version",
        version.escape_debug()
    ))
}

/// Builds the package. `image`: a LuaDB image; it may be followed only by zeros or erased flash.
///
/// Fails unless the result can be unpacked again, and the server's inspector finds what was planned.
pub fn package(plan: &Plan, image: &[u8]) -> Result<Vec<u8>, PackError> {
    let length = luadb::read(image)?.length;
    let (image, behind) = image.split_at_checked(length).unwrap_or((image, &[]));
    if !(is_all(behind, 0) || is_all(behind, 0xff)) {
        return Err(PackError::new(format!(
            "{} unknown bytes follow the LuaDB image: only zeros or erased flash may",
            behind.len()
        )));
    }
    let mut image = image.to_vec();
    if plan.target != ScriptTarget::Ec618 {
        image.resize(image.len().next_multiple_of(PADDING), 0);
    }
    let flashed = match plan.target {
        ScriptTarget::Air8101 => air8101::coded_length(image.len()),
        _ => image.len(),
    };
    if let Some(region) = plan.region
        && flashed > region
    {
        return Err(PackError::new(format!(
            "the script needs {flashed} bytes, and the script region of this core has {region}: leave files out, \
             compile the scripts with Luatools, or take a core with a larger region"
        )));
    }
    if image.len() > super::MAX_IMAGE {
        return Err(luadb::too_long(image.len()));
    }
    let package = match plan.target {
        ScriptTarget::Ec7xx => ec::package(ec::EC7XX, plan.address, &image)?,
        ScriptTarget::Ec618 => ec::package(ec::EC618, plan.address, &image)?,
        ScriptTarget::Air8101 => air8101::package(&image)?,
    };
    check(plan, &image, &package)?;
    Ok(package)
}

fn is_all(bytes: &[u8], value: u8) -> bool {
    bytes.iter().all(|byte| *byte == value)
}

/// Unpacks the package again, and checks it with the server's inspector.
fn check(plan: &Plan, image: &[u8], package: &[u8]) -> Result<(), PackError> {
    let unpacked = match plan.target {
        ScriptTarget::Air8101 => air8101::unpack(package)?,
        _ => ec::unpack(package)?
            .into_iter()
            .flat_map(|sector| sector.image)
            .collect(),
    };
    let mut inspector = Inspector::new(&plan.file_name);
    inspector.update(package);
    let inspected = inspector.finish().map_err(PackError::new)?;
    let is_same =
        unpacked.starts_with(image) && is_all(unpacked.get(image.len()..).unwrap_or_default(), 0);
    match is_same && inspected.kind == plan.target.kind() {
        true => Ok(()),
        false => Err(PackError::new(
            "the package that was made does not unpack to the script. This is a fault of luat-ota: report it, and let \
             Luatools make the package",
        )),
    }
}
