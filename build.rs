//! Packs the page of the operator's side (www/), which is sent as it is packed here.
//!
//! And leaves the unwind tables out of the release binary: with `panic = "abort"` nothing ever unwinds, and
//! they are an eighth of the file. (rustc's own switch for it, `force-unwind-tables=no`, has no effect
//! on what comes out of fat LTO.) What is lost is the list of frames under RUST_BACKTRACE=1; the panic's
//! message and place are printed as before.

use std::env::var;

/// Both GNU ld and LLD add this to their own script because of INSERT.
const SCRIPT: &str =
    "SECTIONS { /DISCARD/ : { *(.eh_frame) *(.eh_frame_hdr) } } INSERT AFTER .text;\n";

fn main() -> std::io::Result<()> {
    println!("cargo::rerun-if-changed=build.rs");
    #[cfg(feature = "operator")]
    pack()?;
    // packaging/build.sh gives it to the linker, and cargo does not look at it.
    if std::path::Path::new("packaging/mips.ld").exists() {
        println!("cargo::rerun-if-changed=packaging/mips.ld");
    }
    let is = |name: &str, wanted: &str| var(name).as_deref() == Ok(wanted);
    let is_static = var("CARGO_CFG_TARGET_FEATURE").is_ok_and(|f| f.contains("crt-static"));
    // A static C library's start-up code refers to the tables.
    let dynamic_gnu =
        is("CARGO_CFG_TARGET_OS", "linux") && is("CARGO_CFG_TARGET_ENV", "gnu") && !is_static;
    if !is("PROFILE", "release") || !dynamic_gnu {
        return Ok(());
    }
    let script = format!("{}/no-unwind-tables.ld", var("OUT_DIR").unwrap_or_default());
    match std::fs::write(&script, SCRIPT) {
        Ok(()) => {
            println!("cargo::rustc-link-arg-bins=-Wl,--no-eh-frame-hdr");
            println!("cargo::rustc-link-arg-bins=-Wl,-T,{script}");
        }
        Err(error) => {
            println!("cargo::warning={script}: {error}; the binary keeps its unwind tables")
        }
    }
    Ok(())
}

/// Every file of www/ as OUT_DIR/NAME.gz. The same file gives the same bytes: no time is written.
#[cfg(feature = "operator")]
fn pack() -> std::io::Result<()> {
    use std::io::Write as _;

    println!("cargo::rerun-if-changed=www");
    let out = std::path::PathBuf::from(var("OUT_DIR").unwrap_or_default());
    for file in std::fs::read_dir("www")? {
        let file = file?;
        let mut name = file.file_name();
        name.push(".gz");
        let packed = std::fs::File::create(out.join(name))?;
        let mut packed = flate2::write::GzEncoder::new(packed, flate2::Compression::best());
        packed.write_all(&std::fs::read(file.path())?)?;
        packed.finish()?;
    }
    Ok(())
}
