//! Firmware files of every kind, made from the layouts of docs/protocol.md 5.

use md5::{Digest, Md5};

use super::random::Random;

/// EC7xx: the four bytes 18 72 C3 EA.
pub const EC7XX: u32 = 0xEAC3_7218;
/// EC618: the four bytes 16 8C F1 EA.
pub const EC618: u32 = 0xEAF1_8C16;

/// Pseudo-random bytes that are neither text nor begin with a known magic number. The same seed gives the same bytes.
pub fn noise(seed: u64, length: usize) -> Vec<u8> {
    let mut random = Random(seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) ^ 0x5DEE_CE66_D1CE_5EED);
    let mut bytes = Vec::with_capacity(length + 8);
    while bytes.len() < length {
        bytes.extend_from_slice(&random.next_u64().to_le_bytes());
    }
    bytes.truncate(length);
    // A byte A7 at the start is invalid UTF-8, and no kind of package begins with this byte.
    if let Some(first) = bytes.first_mut() {
        *first = 0xA7;
    }
    bytes
}

/// An EC7xx or EC618 package with script data, and with data of a core delta if `core` is not empty.
pub fn ec_package(magic: u32, script: &[u8], core: &[u8]) -> Vec<u8> {
    let mut common = Vec::new();
    if !script.is_empty() {
        // One sector: magic, TotalLen, DataLen (unpacked), MD5, BlockLen, StartAddress.
        common.extend_from_slice(&magic.to_le_bytes());
        common.extend_from_slice(&(script.len() as u32).to_le_bytes());
        common.extend_from_slice(&(script.len() as u32 * 2).to_le_bytes());
        common.extend_from_slice(&Md5::digest(script));
        common.extend_from_slice(&0x40000_u32.to_le_bytes());
        common.extend_from_slice(&0x0028_0000_u32.to_le_bytes());
        common.extend_from_slice(script);
    }
    let mut sdk = Vec::new();
    if !core.is_empty() {
        sdk.extend_from_slice(&[0xEC, 0xDF]);
        sdk.extend_from_slice(core);
    }
    package_of(magic, &common, &sdk)
}

/// An EC7xx or EC618 container with these common data and these SDK data.
pub fn package_of(magic: u32, common: &[u8], sdk: &[u8]) -> Vec<u8> {
    let mut checked = vec![0; 44];
    checked.extend_from_slice(&(common.len() as u32).to_le_bytes());
    checked.extend_from_slice(&(sdk.len() as u32).to_le_bytes());
    checked.extend_from_slice(&Md5::digest(common));
    checked.extend_from_slice(&Md5::digest(sdk));
    let mut package = magic.to_le_bytes().to_vec();
    // The vendor's CRC omits the final XOR.
    package.extend_from_slice(&(crc32fast::hash(&checked) ^ 0xFFFF_FFFF).to_le_bytes());
    package.extend_from_slice(&checked);
    assert_eq!(package.len(), 92);
    package.extend_from_slice(common);
    package.extend_from_slice(sdk);
    package
}

/// A package with a script only, which fits any core with the same script region.
pub fn script_package(magic: u32, seed: u64) -> Vec<u8> {
    ec_package(magic, &noise(seed, 3000), &[])
}

/// A package with a core delta, which fits exactly one base core.
pub fn delta_package(magic: u32, seed: u64) -> Vec<u8> {
    ec_package(magic, &noise(seed, 2000), &noise(seed + 1, 1500))
}

/// A script package of Air8101 with this many blocks of 32 bytes (docs/protocol.md 9f).
pub fn air8101_script(seed: u64, blocks: usize) -> Vec<u8> {
    let mut image = luadb(seed)[..24].to_vec();
    image.extend(noise(seed, blocks * 32));
    let mut coded = Vec::new();
    for block in image.chunks(32).take(blocks) {
        let crc = block.iter().fold(0xffff_u16, |crc, byte| {
            (0..8).fold(crc ^ u16::from(*byte) << 8, |crc: u16, _| {
                crc << 1 ^ if crc >> 15 == 1 { 0x8005 } else { 0 }
            })
        });
        coded.extend_from_slice(block);
        coded.extend_from_slice(&crc.to_be_bytes());
    }
    let length = (coded.len() as u32).to_le_bytes();
    [&[0xFF; 1024][..], b"TAUL", &length, &coded].concat()
}

/// A package made by the vendor. Returns `None`, and reports the skip, if the folder of samples is missing.
pub fn sample(name: &str) -> Option<Vec<u8>> {
    let folder = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../shared/packages");
    let bytes = std::fs::read(folder.join(name));
    if bytes.is_err() {
        println!("skipped: there is no sample {name}");
    }
    bytes.ok()
}

/// A LuaDB script image.
pub fn luadb(seed: u64) -> Vec<u8> {
    let mut image = vec![
        0x01, 0x04, 0x5A, 0xA5, 0x5A, 0xA5, 0x02, 0x02, 0x00, 0x02, 0x03, 0x04, 0x12, 0x00, 0x00,
        0x00, 0x04, 0x02, 0x01, 0x00, 0xFE, 0x02, 0x00, 0x00,
    ];
    image.extend(noise(seed, 1500));
    image
}

/// Files that people drop by mistake, as pairs of name and bytes.
pub fn mistakes() -> Vec<(&'static str, Vec<u8>)> {
    let with = |magic: &[u8], seed| [magic, &noise(seed, 1200)].concat();
    let mut binpkg = noise(91, 1200);
    binpkg[0x38..0x38 + 7].copy_from_slice(b"pkgmode");
    let mut truncated = script_package(EC7XX, 92);
    truncated.truncate(truncated.len() - 100);
    let mut bad_crc = script_package(EC7XX, 93);
    bad_crc[20] ^= 1;
    let mut bad_md5 = script_package(EC7XX, 94);
    let last = bad_md5.len() - 1;
    bad_md5[last] ^= 1;
    vec![
        (
            "factory.soc",
            with(&[0x37, 0x7A, 0xBC, 0xAF, 0x27, 0x1C], 80),
        ),
        (
            "renamed-soc.bin",
            with(&[0x37, 0x7A, 0xBC, 0xAF, 0x27, 0x1C], 81),
        ),
        ("renamed-zip.bin", with(b"PK\x03\x04", 82)),
        ("archive.zip", with(b"PK\x03\x04", 83)),
        ("factory.binpkg", binpkg.clone()),
        ("renamed-binpkg.bin", binpkg),
        ("core.lod", noise(84, 1200)),
        ("core.pac", noise(85, 1200)),
        ("core.blf", noise(86, 1200)),
        (
            "page.bin",
            b"<!DOCTYPE html>\n<html><body>404 Not Found</body></html>\n".to_vec(),
        ),
        ("error.bin", b"{\"code\": 27, \"msg\": \"no\"}\n".to_vec()),
        (
            "note.bin",
            b"The file will follow on Monday, sorry.\r\n".to_vec(),
        ),
        ("empty.bin", Vec::new()),
        ("cut-off.bin", truncated),
        ("header.bin", script_package(EC7XX, 95)[..60].to_vec()),
        ("bad-crc.bin", bad_crc),
        ("bad-md5.bin", bad_md5),
    ]
}

/// A LuaDB image with these files, as docs/protocol.md 9f describes it.
pub fn luadb_of(files: &[(&str, &[u8])]) -> Vec<u8> {
    let sealed = |mut head: Vec<u8>| {
        head.extend_from_slice(&[0xFE, 0x02]);
        let sum = head.iter().map(|byte| u16::from(*byte)).sum::<u16>();
        head.extend_from_slice(&sum.to_le_bytes());
        head
    };
    const MAGIC: [u8; 6] = [0x01, 0x04, 0x5A, 0xA5, 0x5A, 0xA5];
    let entry = |name: &str, data: &[u8]| {
        let mut head = MAGIC.to_vec();
        head.extend_from_slice(&[0x02, name.len() as u8]);
        head.extend_from_slice(name.as_bytes());
        head.extend_from_slice(&[0x03, 0x04]);
        head.extend_from_slice(&(data.len() as u32).to_le_bytes());
        [sealed(head), data.to_vec()].concat()
    };
    let mut head = MAGIC.to_vec();
    head.extend_from_slice(&[0x02, 0x02, 2, 0, 0x03, 0x04, 24, 0, 0, 0, 0x04, 0x02]);
    head.extend_from_slice(&(files.len() as u16 + 1).to_le_bytes());
    let mut image = sealed(head);
    for (name, data) in files {
        image.extend(entry(name, data));
    }
    let mut last = entry(".airm2m_all_crc#.bin", &[0; 16]);
    last.truncate(last.len() - 16);
    image.extend(last);
    let digest = Md5::digest(&image);
    image.extend_from_slice(&digest);
    image
}

/// A zip archive of these files, stored without compression.
pub fn zip_of(files: &[(&str, &[u8])]) -> Vec<u8> {
    let (mut archive, mut directory) = (Vec::new(), Vec::new());
    for (name, data) in files {
        // Version, flags, method, time, date; CRC, both sizes; lengths of the name and of the extra field.
        let mut facts = vec![20, 0, 0, 0, 0, 0, 0, 0, 0x21, 0];
        facts.extend_from_slice(&crc32fast::hash(data).to_le_bytes());
        facts.extend_from_slice(&(data.len() as u32).to_le_bytes());
        facts.extend_from_slice(&(data.len() as u32).to_le_bytes());
        facts.extend_from_slice(&(name.len() as u16).to_le_bytes());
        facts.extend_from_slice(&[0, 0]);
        let offset = archive.len() as u32;
        archive.extend_from_slice(b"PK\x03\x04");
        archive.extend_from_slice(&facts);
        archive.extend_from_slice(name.as_bytes());
        archive.extend_from_slice(data);
        directory.extend_from_slice(b"PK\x01\x02\x14\0");
        directory.extend_from_slice(&facts);
        directory.extend_from_slice(&[0; 10]);
        directory.extend_from_slice(&offset.to_le_bytes());
        directory.extend_from_slice(name.as_bytes());
    }
    let count = (files.len() as u16).to_le_bytes();
    let (at, length) = (archive.len() as u32, directory.len() as u32);
    archive.extend(directory);
    archive.extend_from_slice(b"PK\x05\x06\0\0\0\0");
    archive.extend_from_slice(&[count, count].concat());
    archive.extend_from_slice(&[length.to_le_bytes(), at.to_le_bytes()].concat());
    archive.extend_from_slice(&[0, 0]);
    archive
}

/// The file name of [`soc`].
pub const SOC: &str = "LuatOS-SoC_V2020_Air780EPM.soc";

/// A factory file of an Air780EPM with a script.
pub fn soc(project: &str, version: &str) -> Vec<u8> {
    let main =
        format!("PROJECT = \"{project}\"\nVERSION = \"{version}\"\nlog.info(\"main\", PROJECT)\n");
    let noise = noise(7, 20_000);
    let image = luadb_of(&[("main.lua", main.as_bytes()), ("logo.jpg", &noise)]);
    let info = serde_json::json!({
        "chip": {"type": "ec7xx"},
        "rom": {"version-bsp": "V2020", "fs": {"script": {"size": 512}}},
        "script": {"file": "script.bin"},
        "download": {"script_addr": "2B1000"},
        "user": {"project": "", "version": ""},
    });
    zip_of(&[
        ("info.json", info.to_string().as_bytes()),
        ("script.bin", &image),
        ("core.binpkg", &noise),
    ])
}
