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

/// Every file of www/ as OUT_DIR/NAME.gz, without indentation and lines that are comments. The same file gives the same bytes: no time is written.
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
        packed.write_all(bare(&std::fs::read_to_string(file.path())?).as_bytes())?;
        packed.finish()?;
    }
    Ok(())
}

/// A text without indentation, empty lines, and lines that are comments. No text or template of www/ has more than one
/// line, and no comment follows code.
#[cfg(feature = "operator")]
fn bare(text: &str) -> String {
    let mut bare = String::new();
    let mut in_comment = false;
    for line in text.lines().map(str::trim) {
        in_comment |= line.starts_with("/*");
        if !in_comment && !line.is_empty() && !line.starts_with("//") {
            bare.push_str(line);
            bare.push('\n');
        }
        in_comment &= !line.contains("*/");
    }
    bare
}
