//! Packs the page of the operator's side (www/), which is sent as it is packed here.

fn main() -> std::io::Result<()> {
    println!("cargo::rerun-if-changed=build.rs");
    #[cfg(feature = "operator")]
    pack()?;
    // packaging/build.sh gives it to the linker, and cargo does not look at it.
    if std::path::Path::new("packaging/mips.ld").exists() {
        println!("cargo::rerun-if-changed=packaging/mips.ld");
    }
    Ok(())
}

/// Every file of www/ as OUT_DIR/NAME.gz. The same file gives the same bytes: no time is written.
#[cfg(feature = "operator")]
fn pack() -> std::io::Result<()> {
    use std::io::Write as _;

    println!("cargo::rerun-if-changed=www");
    let out = std::path::PathBuf::from(std::env::var("OUT_DIR").unwrap_or_default());
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
