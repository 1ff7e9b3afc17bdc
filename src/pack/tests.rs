//! Tests of all steps together, on the vendor's packages if available, and on images built here.

use super::luadb::ImageFile;
use super::*;

/// Reads a package of the vendor; `None` if the folder of samples does not exist.
fn sample(name: &str) -> Option<Vec<u8>> {
    let folder = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../shared/packages");
    std::fs::read(folder.join(name)).ok()
}

const EC_SAMPLES: [(&str, u32); 3] = [
    ("ec7xx-script-air780epm.bin", 0x002b_1000),
    ("ec7xx-script-air8000.bin", 0x0054_e000),
    ("ec618-script-air780e.bin", 0x002c_c000),
];

fn file<'a>(name: &'a str, data: &'a [u8]) -> ImageFile<'a> {
    ImageFile {
        name: name.into(),
        data,
    }
}

fn info(chip: &str) -> soc::SocInfo {
    let text = format!(
        r#"{{"chip": {{"type": "{chip}"}}, "rom": {{"version-bsp": "V2012", "fs": {{"script": {{"size": 512}}}}}},
            "script": {{"file": "script.bin"}}, "download": {{"script_addr": "2B1000"}}}}"#
    );
    soc::SocInfo::read(text.as_bytes()).unwrap()
}

#[test]
fn a_script_is_packed_for_each_chip_under_the_name_that_luatools_gives() {
    for (chip, platform, target) in [
        ("ec7xx", "Air780EPM", ScriptTarget::Ec7xx),
        ("air8000", "Air8000", ScriptTarget::Ec7xx),
        ("ec618", "EC618", ScriptTarget::Ec618),
        ("bk72xx", "Air8101", ScriptTarget::Air8101),
    ] {
        let main = b"PROJECT = \"demo\"\nVERSION = \"001.999.002\"\n";
        let image = luadb::build(&[file("main.lua", main)]).unwrap();
        let soc_name = format!("LuatOS-SoC_V2012_{platform}.soc");
        let database = luadb::read(&image).unwrap();
        let plan = Plan::new(&info(chip), &soc_name, &database, &PlanOptions::default()).unwrap();
        assert_eq!(plan.target, target);
        assert_eq!(
            plan.file_name,
            format!("demo_2012.001.002_LuatOS-SoC_{platform}.bin")
        );
        let made = package(&plan, &image).unwrap();
        assert_eq!(package(&plan, &image).unwrap(), made);
        let shown = show::show_bytes(&plan.file_name, &made).unwrap();
        assert!(shown.contains("001.999.002"), "{shown}");
    }
}

#[test]
fn the_vendors_packages_unpack_and_pack_again_to_the_same_image_and_headers() {
    for (name, start) in EC_SAMPLES {
        let Some(vendor) = sample(name) else { continue };
        let sectors = ec::unpack(&vendor).unwrap();
        let [sector] = sectors.as_slice() else {
            panic!("{name}: {} sectors", sectors.len())
        };
        assert_eq!(sector.start, start, "{name}");
        let own = ec::package(vendor[..4].try_into().unwrap(), start, &sector.image).unwrap();
        assert_eq!(ec::unpack(&own).unwrap()[0].image, sector.image, "{name}");
        // All but the CRC, CommonDataLen, its MD5, TotalLen and the length of the block.
        for range in [0..4, 8..52, 56..60, 76..96, 100..134] {
            assert_eq!(own[range.clone()], vendor[range], "{name}");
        }
        println!("{name}: {} bytes, the vendor's {}", own.len(), vendor.len());
        assert!(own.len() <= vendor.len() + vendor.len() / 50, "{name}");
    }
    if let Some(vendor) = sample("air8101-script.bin") {
        let image = air8101::unpack(&vendor).unwrap();
        assert_eq!(air8101::package(&image).unwrap(), vendor);
    }
}

#[test]
fn an_image_built_of_the_files_of_a_vendors_package_is_the_same_byte_by_byte() {
    let mut images: Vec<Vec<u8>> = EC_SAMPLES
        .into_iter()
        .filter_map(|(name, _)| Some(ec::unpack(&sample(name)?).unwrap().remove(0).image))
        .collect();
    images.extend(sample("air8101-script.bin").map(|bytes| air8101::unpack(&bytes).unwrap()));
    for image in images {
        let read = luadb::read(&image).unwrap();
        assert!(read.has_checksum);
        let mut files = read.files.clone();
        files.reverse();
        let built = luadb::build(&files).unwrap();
        assert_eq!(built, image[..read.length]);
        assert!(image[read.length..].iter().all(|byte| *byte == 0));
    }
}

/// Returns the error for an image of these files.
fn refused(files: &[(&str, &[u8])]) -> String {
    let files: Vec<ImageFile<'_>> = files.iter().map(|(name, data)| file(name, data)).collect();
    luadb::build(&files).unwrap_err().0
}

#[test]
fn files_that_luatos_cannot_mount_are_refused() {
    let longest = "a".repeat(27) + ".lua";
    assert!(luadb::build(&[file(&longest, b"")]).is_ok());
    for (files, part) in [
        (&[("b".repeat(28) + ".lua", &b""[..])][..], "at most 31"),
        (&[("a/main.lua".to_owned(), b"")], "no folders"),
        (&[(luadb::CHECKSUM.to_owned(), b"")], "checksum"),
        (&[("x".to_owned(), b""), ("x".to_owned(), b"")], "twice"),
        (
            &[("x.lua".to_owned(), b""), ("x.luac".to_owned(), b"")],
            "compiled one",
        ),
    ] {
        let files: Vec<_> = files
            .iter()
            .map(|(name, data)| (name.as_str(), *data))
            .collect();
        let error = refused(&files);
        assert!(error.contains(part), "{error}");
    }
    let names: Vec<String> = (0..luadb::MAX_FILES).map(|n| format!("{n}.txt")).collect();
    let files: Vec<_> = names.iter().map(|name| file(name, b"")).collect();
    assert!(luadb::build(&files).is_err());
    let most = luadb::build(&files[1..]).unwrap();
    assert_eq!(
        luadb::read(&most).unwrap().files.len(),
        luadb::MAX_FILES - 1
    );
}

#[test]
fn a_damaged_image_is_refused_at_every_byte() {
    let image = luadb::build(&[file("main.lua", b"PROJECT = 'x'"), file("a.txt", b"y")]).unwrap();
    for at in 0..image.len() {
        let mut torn = image.clone();
        torn[at] ^= 0x40;
        assert!(luadb::read(&torn).is_err(), "byte {at}");
        assert!(luadb::read(&image[..at]).is_err(), "cut at {at}");
    }
}

#[test]
fn an_image_larger_than_the_script_region_is_refused_before_anything_is_made() {
    for (chip, platform, most) in [("ec7xx", "Air780EPM", 1024), ("bk72xx", "Air8101", 1088)] {
        let image = luadb::build(&[
            file("main.lua", b"PROJECT = 'x' VERSION = '1.0.2'"),
            file("a.txt", &[b'a'; 700]),
        ])
        .unwrap();
        let name = format!("LuatOS-SoC_V2012_{platform}.soc");
        let database = luadb::read(&image).unwrap();
        let options = PlanOptions::default();
        let mut plan = Plan::new(&info(chip), &name, &database, &options).unwrap();
        plan.region = Some(most);
        assert!(package(&plan, &image).is_ok(), "{chip}");
        plan.region = Some(most - 1);
        let error = package(&plan, &image).unwrap_err();
        assert!(error.0.contains("script region"), "{error}");
    }
}

/// Returns bytes that cannot be compressed.
fn noise(length: usize) -> Vec<u8> {
    let mut state = 1_u64;
    let bytes = std::iter::repeat_with(|| {
        state = state
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1);
        (state >> 56) as u8
    });
    bytes.take(length).collect()
}

#[test]
fn a_sector_is_never_as_long_packed_as_unpacked() {
    let mut image = noise(400);
    let mut shortest = usize::MAX;
    for _ in 0..120 {
        image.push(0);
        let package = ec::package(ec::EC618, 0x002c_c000, &image).unwrap();
        let sector = ec::unpack(&package).unwrap().remove(0);
        assert_ne!(sector.packed, sector.image.len());
        assert!(sector.image.starts_with(&image));
        shortest = shortest.min(sector.image.len().abs_diff(sector.packed));
    }
    // There were lengths on both sides of equality: without the zeros the lengths would have been equal in between.
    assert!(shortest <= 2, "{shortest}");
}

#[test]
fn a_block_that_cannot_be_compressed_is_refused() {
    let error = ec::package(ec::EC7XX, 0, &noise(0x40000)).unwrap_err();
    assert!(error.0.contains("cannot be compressed"), "{error}");
}

#[test]
fn other_chips_get_a_sentence_on_what_is_known() {
    for (chip, part) in [
        ("air1601", "magic number"),
        ("uis8910", "closed"),
        ("air6208", "air101_flash.exe"),
        ("air105", "whole core"),
        ("esp32c3", "LuaDB"),
        ("toaster", "not known"),
    ] {
        let error = ScriptTarget::of_chip(chip).unwrap_err();
        for part in [part, "生成差分/升级文件"] {
            assert!(error.0.contains(part), "{error}");
        }
    }
}
