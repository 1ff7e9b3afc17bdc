//! Descriptions of packages, `.soc` files and LuaDB images as text.

use std::fmt::Write;
use std::io::{Cursor, Read, Seek};

use super::luadb::{self, LuaDb};
use super::script::Identity;
use super::soc::Soc;
use super::{MAX_IMAGE, PackError, air8101, ec};
use crate::firmware::package::Inspector;
use crate::logging::Printable;

/// Maximum length of a package that is shown, in bytes.
const MAX_PACKAGE: u64 = 2 * MAX_IMAGE as u64;

/// Describes a file. `name`: name of the file, whose ending the inspector considers too.
pub fn show<R: Read + Seek>(name: &str, mut source: R) -> Result<String, PackError> {
    let mut start = Vec::new();
    let failed =
        |error: std::io::Error| PackError::new(format!("the file cannot be read: {error}"));
    source
        .by_ref()
        .take(8)
        .read_to_end(&mut start)
        .map_err(failed)?;
    source.rewind().map_err(failed)?;
    let mut out = String::new();
    if Soc::is_archive(&start) {
        show_soc(&mut out, &Soc::read(source)?)?;
        return Ok(out);
    }
    let mut bytes = Vec::new();
    source
        .take(MAX_PACKAGE + 1)
        .read_to_end(&mut bytes)
        .map_err(failed)?;
    if bytes.len() as u64 > MAX_PACKAGE {
        return Err(PackError::new(format!(
            "the file has more than {MAX_PACKAGE} bytes, and no script package has"
        )));
    }
    show_package(&mut out, name, &bytes)?;
    Ok(out)
}

fn show_soc(out: &mut String, soc: &Soc) -> Result<(), PackError> {
    let info = &soc.info;
    let or_missing = |text: &Option<String>| text.clone().unwrap_or_else(|| "not given".to_owned());
    let number = |number: Option<usize>, unit: &str| {
        number.map_or("not given".to_owned(), |number| format!("{number} {unit}"))
    };
    let address = info
        .address
        .map_or("not given".to_owned(), |address| format!("{address:#x}"));
    line(out, "kind", "factory file (.soc)");
    line(out, "chip", &info.chip);
    line(out, "core", &or_missing(&info.core));
    line(out, "script region", &number(info.region, "bytes"));
    line(out, "script address", &address);
    let bits = info.integers.map(|size| usize::from(size.bits()));
    line(out, "Lua integers", &number(bits, "bits"));
    line(out, "project", &or_missing(&info.project));
    line(out, "version", &or_missing(&info.version));
    line(out, "files", &soc.names.join(", "));
    match &soc.image {
        None => line(out, &info.script_file, "not in this file"),
        Some(_) => {
            let image = soc.script_image()?;
            show_image(out, &luadb::read(&image)?);
        }
    }
    Ok(())
}

fn show_package(out: &mut String, name: &str, bytes: &[u8]) -> Result<(), PackError> {
    if bytes.starts_with(&luadb::MAGIC) {
        line(out, "kind", "LuaDB image");
        show_image(out, &luadb::read(bytes)?);
        return Ok(());
    }
    let mut inspector = Inspector::new(name);
    inspector.update(bytes);
    let inspected = inspector.finish().map_err(PackError::new)?;
    line(out, "kind", inspected.kind.label());
    line(out, "bytes", &bytes.len().to_string());
    if air8101::is_package(bytes) {
        show_image(out, &luadb::read(&air8101::unpack(bytes)?)?);
    } else if ec::is_package(bytes) {
        for sector in ec::unpack(bytes)? {
            line(out, "address", &format!("{:#x}", sector.start));
            line(out, "packed", &format!("{} bytes", sector.packed));
            match sector.image.as_slice() {
                [] => line(out, "contents", "a delta, which is a closed format"),
                image => show_image(out, &luadb::read(image)?),
            }
        }
    } else {
        line(out, "contents", "not known");
    }
    Ok(())
}

fn show_image(out: &mut String, image: &LuaDb<'_>) {
    let identity = Identity::read(&image.files).unwrap_or_default();
    let unsaid = || "not a literal in the main script".to_owned();
    line(out, "image", &format!("{} bytes", image.length));
    let md5 = if image.has_checksum {
        "matches"
    } else {
        "not there"
    };
    line(out, "MD5", md5);
    line(out, "PROJECT", &identity.project.unwrap_or_else(unsaid));
    line(out, "VERSION", &identity.version.unwrap_or_else(unsaid));
    for file in &image.files {
        let _ = writeln!(out, "{:>10}  {}", file.data.len(), Printable(&file.name));
    }
}

fn line(out: &mut String, name: &str, value: &str) {
    let _ = writeln!(out, "{name:<15} {}", Printable(value));
}

/// Describes a file that is in memory.
pub fn show_bytes(name: &str, bytes: &[u8]) -> Result<String, PackError> {
    show(name, Cursor::new(bytes))
}
