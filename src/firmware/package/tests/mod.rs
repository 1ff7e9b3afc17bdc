use super::*;
use proptest::prelude::*;

mod kinds;

fn inspect_as(name: &str, bytes: &[u8]) -> Result<Inspected, String> {
    let mut inspector = Inspector::new(name);
    inspector.update(bytes);
    inspector.finish()
}

fn inspect(bytes: &[u8]) -> Result<Inspected, String> {
    inspect_as("update.bin", bytes)
}

fn kind(bytes: &[u8]) -> PackageKind {
    inspect(bytes).unwrap().kind
}

fn refused(bytes: &[u8], part: &str) {
    let sentence = inspect(bytes).unwrap_err();
    assert!(sentence.contains(part), "{sentence}");
}

const EC7XX: [u8; 4] = [0x18, 0x72, 0xc3, 0xea];
const EC618: [u8; 4] = [0x16, 0x8c, 0xf1, 0xea];

/// Writes the CRC of `bytes[8..end]` to its position in these headers.
fn sign(bytes: &mut [u8], end: usize) {
    let crc = !crc32fast::hash(&bytes[8..end]);
    bytes[4..8].copy_from_slice(&crc.to_le_bytes());
}

fn eigen(magic: [u8; 4], common: &[u8], sdk: &[u8]) -> Vec<u8> {
    let mut bytes = magic.to_vec();
    bytes.resize(52, 0);
    bytes.extend((common.len() as u32).to_le_bytes());
    bytes.extend((sdk.len() as u32).to_le_bytes());
    for part in [common, sdk] {
        let md5 = Md5::digest(part);
        bytes.extend(if part.is_empty() { [0; 16] } else { md5.into() });
    }
    sign(&mut bytes, 92);
    [&bytes, common, sdk].concat()
}

fn air105(data: &[u8]) -> Vec<u8> {
    let mut bytes = vec![0xb5, 0xf0, 0xe1, 0x5a];
    bytes.resize(20, 0);
    bytes.extend((data.len() as u32).to_le_bytes());
    bytes.extend((!crc32fast::hash(data)).to_le_bytes());
    sign(&mut bytes, 28);
    [&bytes, data].concat()
}

fn w800(kind: u8, image: &[u8]) -> Vec<u8> {
    let mut bytes = vec![0x9f, 0xff, 0xff, 0xa0, kind, 0, 1, 0, 0, 0, 1, 8];
    bytes.extend((image.len() as u32).to_le_bytes());
    bytes.resize(60, 7);
    let crc = !crc32fast::hash(&bytes);
    bytes.extend(crc.to_le_bytes());
    [&bytes, image].concat()
}

/// CRC-16 of the blocks of Air8101, computed bit by bit.
fn crc16(bytes: &[u8]) -> u16 {
    let mut crc = 0xffff_u32;
    for byte in bytes {
        for bit in (0..8).rev() {
            let carry = (crc >> 15 ^ u32::from(byte >> bit)) & 1;
            crc = ((crc << 1) ^ (carry * 0x8005)) & 0xffff;
        }
    }
    crc as u16
}

/// Script package of Air8101 with `blocks` blocks of 32 bytes.
fn air8101_script(blocks: usize) -> Vec<u8> {
    let mut script = vec![1, 4, 0x5a, 0xa5, 0x5a, 0xa5, 2, 2, 2, 0];
    script.extend(noise(blocks * 32));
    let mut coded = Vec::new();
    for block in script.chunks(32).take(blocks) {
        coded.extend(block);
        coded.extend(crc16(block).to_be_bytes());
    }
    let length = (coded.len() as u32).to_le_bytes();
    [&[0xff; 1024][..], b"TAUL", &length, &coded].concat()
}

/// Full package of Air8101. `ends` is the last step of its CRCs.
fn air8101_full(body: &[u8], ends: fn(u32) -> u32) -> Vec<u8> {
    let mut bytes = b"RBL\0".to_vec();
    bytes.resize(76, 5);
    bytes.extend(ends(crc32fast::hash(body)).to_le_bytes());
    bytes.resize(88, 5);
    bytes.extend((body.len() as u32).to_le_bytes());
    bytes.extend(ends(crc32fast::hash(&bytes)).to_le_bytes());
    [&bytes, body].concat()
}

fn noise(length: usize) -> Vec<u8> {
    (0..length)
        .map(|at| (at as u32).wrapping_mul(2_654_435_761).to_be_bytes()[0])
        .collect()
}

#[test]
fn the_crc_is_that_of_the_headers_that_modules_accept() {
    // CRC-32/JAMCRC of the standard check string: the CRC of zip without the final inversion.
    assert_eq!(crc32(b"123456789"), 0x340b_c6d9);
}

#[test]
fn whole_eigen_packages_are_recognised() {
    let script = noise(5745);
    let delta = noise(40_000);
    assert_eq!(
        kind(&eigen(EC7XX, &script, &[])),
        PackageKind::Ec7xx { delta: false }
    );
    assert_eq!(
        kind(&eigen(EC7XX, &script, &delta)),
        PackageKind::Ec7xx { delta: true }
    );
    assert_eq!(
        kind(&eigen(EC7XX, &[], &delta)),
        PackageKind::Ec7xx { delta: true }
    );
    assert_eq!(
        kind(&eigen(EC618, &script, &[])),
        PackageKind::Ec618 { delta: false }
    );
    assert_eq!(
        kind(&eigen(EC618, &script, &delta)),
        PackageKind::Ec618 { delta: true }
    );
    assert_eq!(
        kind(&eigen(EC7XX, &[7], &[])),
        PackageKind::Ec7xx { delta: false }
    );
}

#[test]
fn an_eigen_package_that_is_cut_off_or_too_long_is_refused_with_both_lengths() {
    let whole = eigen(EC7XX, &noise(1000), &noise(2000));
    for (length, have) in [(3091, "3091"), (500, "500"), (92, "92")] {
        refused(&whole[..length], "3092");
        refused(&whole[..length], have);
    }
    let longer = [&whole[..], &[0]].concat();
    refused(&longer, "3093");
    refused(&longer, "3092");
    for length in [4, 50, 91] {
        refused(&whole[..length], &format!("has {length} bytes"));
        refused(&whole[..length], "92");
    }
    refused(&eigen(EC618, &[], &[]), "a header but no data");
}

#[test]
fn any_flipped_bit_in_an_eigen_package_is_found() {
    let whole = eigen(EC618, &noise(600), &noise(300));
    for at in 4..whole.len() {
        let mut torn = whole.clone();
        torn[at] ^= 0x10;
        assert!(inspect(&torn).is_err(), "byte {at}");
    }
    let mut torn = whole.clone();
    torn[92 + 599] ^= 1;
    refused(&torn, "script data");
    torn = whole.clone();
    torn[92 + 600] ^= 1;
    refused(&torn, "core data");
    torn = whole;
    torn[40] ^= 1;
    refused(&torn, "CRC");
}

#[test]
fn an_air105_image_is_checked() {
    let whole = air105(&noise(3000));
    assert_eq!(kind(&whole), PackageKind::Air105);
    refused(&whole[..20], "28");
    refused(&whole[..3000], "3028");
    let mut torn = whole.clone();
    torn[1000] ^= 1;
    refused(&torn, "data");
    torn = whole.clone();
    torn[10] ^= 1;
    refused(&torn, "header");
    let padded = [&whole[..], &[0xff; 100]].concat();
    assert_eq!(kind(&padded), PackageKind::Air105);
}

#[test]
fn the_ec_container_is_recognised_with_the_magic_of_rda8910_and_by_its_crc_with_any_other() {
    let rda8910 = [0xda, 0x18, 0x88, 0x00];
    let script = eigen(rda8910, &noise(1000), &[]);
    assert_eq!(kind(&script), PackageKind::Rda8910 { core: false });
    let core = eigen(rda8910, &noise(1000), &noise(500));
    assert_eq!(kind(&core), PackageKind::Rda8910 { core: true });
    refused(&script[..800], "1092");
    refused(&script[..50], "RDA8910");
    let mut torn = script;
    torn[30] ^= 1;
    refused(&torn, "CRC");
    for magic in [[0x01, 0x16, 0x72, 0xea], [0; 4], [0x18, 0x72, 0xc3, 0xeb]] {
        let script = eigen(magic, &noise(1000), &[]);
        assert_eq!(kind(&script), PackageKind::Air1601 { core: false });
        let core = eigen(magic, &noise(1000), &noise(500));
        assert_eq!(kind(&core), PackageKind::Air1601 { core: true });
        refused(&script[..1000], "1092");
        refused(&[&script[..], &[0]].concat(), "1093");
        let mut torn = script.clone();
        torn[1000] ^= 1;
        refused(&torn, "script data");
        // With a wrong header CRC the file is not recognised as a container.
        torn[30] ^= 1;
        assert_eq!(kind(&torn), PackageKind::Generic);
    }
}

// Case 35.
#[test]
fn an_air8101_script_package_is_checked() {
    let whole = air8101_script(100);
    assert_eq!(kind(&whole), PackageKind::Air8101 { script: true });
    let expected = 1032 + 100 * 34;
    assert_eq!(whole.len(), expected);
    for length in [1032, 1033, 2000, expected - 1] {
        refused(&whole[..length], &format!("says {expected} bytes"));
        refused(&whole[..length], &format!("has {length}"));
    }
    for length in [1028, 1031] {
        refused(&whole[..length], "begins with a header of 1032");
    }
    refused(&[&whole[..], &[0]].concat(), "something was added");
    refused(&air8101_script(0), "a header but no data");
    for at in 1032..whole.len() {
        let mut torn = whole.clone();
        torn[at] ^= 4;
        refused(&torn, &format!("damaged at byte {}", at - (at - 1032) % 34));
    }
    let mut empty = whole;
    for block in empty[1032..].chunks_mut(34) {
        block.fill(0);
        let crc = crc16(&[0; 32]).to_be_bytes();
        block[32..].copy_from_slice(&crc);
    }
    refused(&empty, "no LuaDB");
    // Erased flash followed by something else, or too little of it.
    refused(&[0xff; 600], "begins with a header of 1032");
    assert_eq!(
        kind(&[&[0xff; 1024][..], b"TAUX"].concat()),
        PackageKind::Generic
    );
    assert_eq!(
        kind(&[&[0xff; 1023][..], b"TAUL\0\0\0\0"].concat()),
        PackageKind::Generic
    );
}

#[test]
fn an_air8101_full_package_is_checked() {
    let ends: [fn(u32) -> u32; 2] = [|crc| crc, |crc| !crc];
    for ends in ends {
        let whole = air8101_full(&noise(3000), ends);
        assert_eq!(kind(&whole), PackageKind::Air8101 { script: false });
        refused(&whole[..95], "96");
        refused(&whole[..3000], "3096");
        let padded = [&whole[..], &[0xff; 100]].concat();
        assert_eq!(kind(&padded), PackageKind::Air8101 { script: false });
        for (at, part) in [(50, "header"), (88, "header"), (97, "data"), (3095, "data")] {
            let mut torn = whole.clone();
            torn[at] ^= 1;
            refused(&torn, part);
        }
        refused(&air8101_full(&[], ends), "a header but no data");
    }
}

#[test]
fn a_container_for_a_co_processor_is_refused() {
    refused(&[&b"LFTA"[..], &noise(2000)].concat(), "LFTA");
}

#[test]
fn a_w800_image_is_checked() {
    assert_eq!(
        kind(&w800(1, &noise(1000))),
        PackageKind::W800 { script: false }
    );
    assert_eq!(
        kind(&w800(2, &noise(1000))),
        PackageKind::W800 { script: true }
    );
    let signed = [w800(1, &noise(1000)), noise(128)].concat();
    assert_eq!(kind(&signed), PackageKind::W800 { script: false });
    refused(&w800(0, &noise(1000)), "boot loader");
    refused(&w800(1, &noise(1000))[..1000], "1064");
    refused(&w800(1, &noise(1000))[..63], "64");
    let mut torn = w800(1, &noise(1000));
    torn[40] ^= 1;
    refused(&torn, "CRC");
}

#[test]
fn other_kinds_are_recognised_by_their_magic() {
    let with = |head: &[u8]| kind(&[head, &noise(2000)].concat());
    assert_eq!(
        with(&[1, 4, 0x5a, 0xa5, 0x5a, 0xa5, 2, 2, 1, 0]),
        PackageKind::LuaDb
    );
    assert_eq!(with(&[0xe9, 5, 2, 0x2f]), PackageKind::Esp32);
    for head in [
        &[0xe9, 0, 2][..],
        &[0xe9, 17, 2],
        &[0xe9, 5, 6],
        &[0x18, 0x72, 0xc3, 0xeb],
        &[0x18, 0x72],
        &[0],
        &[0x1f, 0x8b, 8],
    ] {
        assert_eq!(with(head), PackageKind::Generic, "{head:x?}");
    }
    assert_eq!(kind(&[0]), PackageKind::Generic);
    assert_eq!(kind(&EC7XX[..3]), PackageKind::Generic);
}

#[test]
fn a_file_that_is_no_firmware_is_refused_with_the_right_one_named() {
    refused(b"", "empty");
    let with = |head: &[u8]| [head, &noise(2000)].concat();
    refused(&with(&[0x37, 0x7a, 0xbc, 0xaf, 0x27, 0x1c]), "升级文件");
    refused(&with(b"PK\x03\x04\x14\0"), "升级文件");
    refused(&with(b"Rar!\x1a\x07\x01\0"), "unpack");
    let mut binpkg = noise(2000);
    binpkg[0x38..0x3f].copy_from_slice(b"pkgmode");
    refused(&binpkg, ".binpkg");
    refused(b"\xef\xbb\xbf \r\n<!DOCTYPE html><html>", "web page");
    refused(b"<HTML><title>\xc4\xfa\0", "web page");
    refused(b"{\"code\": 27, \"msg\": \"\xe5\xb7\xb2\"}", "JSON");
    refused(b" [1]", "JSON");
    refused(b"404 Not Found", "text");
    refused("不存在".repeat(1000).as_bytes(), "text");
    refused(b":10010000214601360121470136007EFE09D2190140\r\n", "text");
}

#[test]
fn a_binary_that_begins_with_text_is_firmware() {
    let mut bytes = b"Firmware of the year 2026. ".repeat(40);
    assert!(bytes.len() > HEAD);
    bytes.push(0);
    assert_eq!(kind(&bytes), PackageKind::Generic);
    // The first bytes are not UTF-8.
    assert_eq!(kind(b"\xc4\xfa\xba\xc3"), PackageKind::Generic);
}

#[test]
fn a_mistaken_ending_is_refused_whatever_the_bytes_are() {
    let sentence = inspect_as("x.soc", &noise(100)).unwrap_err();
    assert!(sentence.contains("升级文件"), "{sentence}");
    assert!(inspect_as("x.dfota.bin", &noise(100)).is_ok());
}

#[test]
fn the_hashes_are_those_of_the_whole_file() {
    let inspected = inspect(b"\0abc").unwrap();
    assert_eq!(inspected.size, 4);
    assert_eq!(
        inspected.content,
        ContentId(Sha256::digest(b"\0abc").into())
    );
    assert_eq!(inspected.md5, <[u8; 16]>::from(Md5::digest(b"\0abc")));
}

proptest! {
    #[test]
    fn no_bytes_panic(
        magic in prop::sample::select(vec![
            vec![], EC7XX.to_vec(), EC618.to_vec(), vec![0xb5, 0xf0, 0xe1, 0x5a],
            vec![0x9f, 0xff, 0xff, 0xa0], vec![1, 4, 0x5a, 0xa5, 0x5a, 0xa5], vec![0xe9, 1, 1],
            b"RBL\0".to_vec(), vec![0xff; 1024], [&[0xff; 1024][..], b"TAUL"].concat(),
            vec![0xda, 0x18, 0x88, 0x00],
        ]),
        rest in prop::collection::vec(any::<u8>(), 0..700),
    ) {
        let _ = inspect(&[magic, rest].concat());
    }

    #[test]
    fn the_result_does_not_depend_on_how_the_bytes_arrive(
        common in 0usize..1500,
        sdk in 1usize..1500,
        step in 1usize..700,
    ) {
        for whole in [
            eigen(EC7XX, &noise(common), &noise(sdk)),
            air105(&noise(sdk)),
            air8101_script(sdk / 30 + 1),
            air8101_full(&noise(sdk), |crc| crc),
            noise(sdk),
        ] {
            let mut inspector = Inspector::new("update.bin");
            whole.chunks(step).for_each(|chunk| inspector.update(chunk));
            prop_assert_eq!(inspector.finish(), inspect(&whole));
            prop_assert!(inspect(&whole).is_ok());
        }
    }
}
