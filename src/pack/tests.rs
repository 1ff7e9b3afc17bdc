//! The steps together, on the vendor's packages where they are there, and on images built here.

use super::luadb::ImageFile;
use super::*;

/// A package of the vendor; `None` where the folder of samples is not there.
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
