//! Promise: `luat-ota pack` builds the same package every time, from an archive of either kind, and rejects a damaged
//! or hostile `.soc` file with one sentence, in less than 64 MiB of address space, without leaving a file.
#![cfg(all(feature = "lab", feature = "operator", feature = "pack"))]

use crate::common;

use std::io::Write;
use std::path::Path;
use std::process::{Command, Output, Stdio};

use common::packages::{SOC, noise, soc, zip_of};
use common::{Place, both};
use proptest::prelude::*;

/// Archives made by py7zr with an `info.json` and a core: LZMA with a plain table of contents; LZMA2 with a packed one.
const SEVEN_ZIP: [&[u8]; 2] = [include_bytes!("lzma.soc"), include_bytes!("lzma2.soc")];

/// Runs `luat-ota pack` in a folder, with an address space of 64 MiB.
fn pack(folder: &Path, arguments: &[&str]) -> Output {
    let script = r#"ulimit -v 65536 && exec "$@""#;
    Command::new("bash")
        .args(["-c", script, "bash", env!("CARGO_BIN_EXE_luat-ota"), "pack"])
        .args(arguments)
        .current_dir(folder)
        .output()
        .unwrap()
}

/// A separate folder with a script in `src`.
fn folder() -> Place {
    let folder = Place::new();
    std::fs::create_dir_all(folder.firmware().join("src")).unwrap();
    let main = "PROJECT = \"METER\"\nVERSION = \"1.0.1\"\n";
    std::fs::write(folder.firmware().join("src/main.lua"), main).unwrap();
    folder
}

/// The names of the packages in a folder.
fn package_names(folder: &Path) -> Vec<String> {
    let mut names: Vec<String> = std::fs::read_dir(folder)
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .filter(|name| name.ends_with(".bin") || name.contains("part"))
        .collect();
    names.sort();
    names
}

#[test]
fn the_same_scripts_give_the_same_package_for_the_core_of_any_archive() {
    let mut packages = Vec::new();
    for archive in SEVEN_ZIP.into_iter().chain([&soc("OTHER", "1.0.0")[..]]) {
        let folder = folder();
        std::fs::write(folder.firmware().join(SOC), archive).unwrap();
        let output = pack(&folder.firmware(), &["--core", SOC, "src"]);
        assert!(output.status.success(), "{}", both(&output));
        let name = "METER_2020.1.1_LuatOS-SoC_Air780EPM.bin";
        assert_eq!(package_names(&folder.firmware()), [name]);
        packages.push(std::fs::read(folder.firmware().join(name)).unwrap());
        for file in [SOC, name] {
            let output = pack(&folder.firmware(), &["--show", file]);
            assert!(output.status.success(), "{}", both(&output));
        }
    }
    assert!(packages.windows(2).all(|pair| pair[0] == pair[1]));
}

#[test]
fn the_script_in_a_factory_file_is_packed() {
    let folder = folder();
    std::fs::write(folder.firmware().join(SOC), soc("METER", "1.0.2")).unwrap();
    let output = pack(&folder.firmware(), &[SOC]);
    assert!(output.status.success(), "{}", both(&output));
    assert_eq!(
        package_names(&folder.firmware()),
        ["METER_2020.1.2_LuatOS-SoC_Air780EPM.bin"]
    );
}

/// The archive with another dictionary size for LZMA, and with correct checksums.
fn with_dictionary(size: u32) -> Vec<u8> {
    let mut archive = SEVEN_ZIP[0].to_vec();
    let property = archive
        .windows(6)
        .rposition(|bytes| bytes == [5, 0x5d, 0, 0, 1, 0])
        .unwrap();
    archive[property + 2..property + 6].copy_from_slice(&size.to_le_bytes());
    let length = u64::from_le_bytes(archive[20..28].try_into().unwrap()) as usize;
    let table = archive.len() - length;
    let crc = crc32fast::hash(&archive[table..]);
    archive[28..32].copy_from_slice(&crc.to_le_bytes());
    let crc = crc32fast::hash(&archive[12..32]);
    archive[8..12].copy_from_slice(&crc.to_le_bytes());
    archive
}

#[test]
fn a_hostile_factory_file_is_refused_in_little_memory_and_nothing_is_written() {
    let info =
        br#"{"chip":{"type":"ec7xx"},"rom":{"version-bsp":"V2020","fs":{"script":{"size":512}}},
        "script":{"file":"script.bin"},"download":{"script_addr":"2B1000"}}"#;
    let mut bomb = zip_of(&[("info.json", info), ("script.bin", &noise(1, 100))]);
    // The directory states 4 GB as the size of the script.
    let directory = bomb.windows(4).rposition(|b| b == b"PK\x01\x02").unwrap();
    bomb[directory + 24..directory + 28].copy_from_slice(&0xf000_0000_u32.to_le_bytes());
    let large = vec![0; 12 << 20];
    let files = [
        ("no archive", noise(3, 5000)),
        ("empty", Vec::new()),
        ("a dictionary of 4 GiB", with_dictionary(u32::MAX)),
        ("a script of 4 GB", bomb),
        (
            "a script larger than any region",
            zip_of(&[("info.json", info), ("script.bin", &large)]),
        ),
        (
            "a path that leads out",
            zip_of(&[("info.json", info), ("../../script.bin", b"x")]),
        ),
        ("no info.json", zip_of(&[("script.bin", b"x")])),
        ("info.json is no JSON", zip_of(&[("info.json", b"{{{")])),
        (
            "a table of contents that is cut off",
            SEVEN_ZIP[0][..300].to_vec(),
        ),
    ];
    for (what, bytes) in files {
        let folder = folder();
        std::fs::write(folder.firmware().join(SOC), bytes).unwrap();
        let output = pack(&folder.firmware(), &[SOC]);
        assert_eq!(output.status.code(), Some(1), "{what}: {}", both(&output));
        let said = String::from_utf8(output.stderr).unwrap();
        assert!(
            said.starts_with("luat-ota: ") && said.len() > 40,
            "{what}: {said}"
        );
        assert_eq!(package_names(&folder.firmware()), [""; 0], "{what}");
    }
    // The archive is readable with the smaller dictionary, so the limit was the only reason to refuse it.
    let folder = folder();
    std::fs::write(folder.firmware().join(SOC), with_dictionary(1 << 16)).unwrap();
    let output = pack(&folder.firmware(), &["--core", SOC, "src"]);
    assert!(output.status.success(), "{}", both(&output));
}

/// Parses arbitrary bytes, which must end; the release build aborts on a panic.
fn read_all(bytes: &[u8]) {
    use luat_ota::pack;
    let _any = pack::soc::Soc::read(std::io::Cursor::new(bytes));
    let _any = pack::luadb::read(bytes);
    let _any = pack::ec::unpack(bytes);
    let _any = pack::air8101::unpack(bytes);
    let _any = pack::show::show_bytes("x.bin", bytes);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]

    #[test]
    fn damaged_archives_and_packages_are_read_without_a_panic(
        which in 0_usize..4,
        changes in proptest::collection::vec((any::<proptest::sample::Index>(), any::<u8>()), 0..4),
        length in any::<proptest::sample::Index>(),
        is_cut in any::<bool>(),
    ) {
        let image = luat_ota::pack::luadb::build(&[luat_ota::pack::luadb::ImageFile {
            name: "main.lua".into(),
            data: b"PROJECT = 'x'",
        }]).unwrap();
        let mut bytes = match which {
            0 | 1 => SEVEN_ZIP[which].to_vec(),
            2 => soc("METER", "1.0.1"),
            _ => luat_ota::pack::ec::package([0x18, 0x72, 0xc3, 0xea], 0x002b_1000, &image).unwrap(),
        };
        for (at, byte) in changes {
            let at = at.index(bytes.len());
            bytes[at] = byte;
        }
        if is_cut {
            let length = length.index(bytes.len());
            bytes.truncate(length);
        }
        read_all(&bytes);
    }

}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    // A block contains 0x40000 bytes.
    #[test]
    fn packages_around_the_size_of_a_block_unpack_to_their_image(
        blocks in 0_usize..3,
        difference in -40_i64..40,
        seed in any::<u64>(),
        is_noise in any::<bool>(),
    ) {
        use luat_ota::pack::{air8101, ec};
        let length = (blocks as i64 * 0x40000 + difference).max(1) as usize;
        // A block that cannot be compressed is refused, so the noise has six bits per byte.
        let image = match is_noise {
            true => noise(seed, length).iter().map(|byte| byte & 0x3f).collect(),
            false => vec![seed as u8; length],
        };
        for magic in [[0x18, 0x72, 0xc3, 0xea], [0x16, 0x8c, 0xf1, 0xea]] {
            let package = ec::package(magic, 0x002b_1000, &image).unwrap();
            let sectors = ec::unpack(&package).unwrap();
            let [sector] = sectors.as_slice() else {
                panic!("{} sectors", sectors.len());
            };
            prop_assert!(sector.image.starts_with(&image));
            prop_assert!(sector.image[image.len()..].iter().all(|byte| *byte == 0));
        }
        let package = air8101::package(&image).unwrap();
        let unpacked = air8101::unpack(&package).unwrap();
        prop_assert!(unpacked.starts_with(&image));
    }
}

#[test]
fn the_lzma_of_python_unpacks_what_was_packed_here_and_by_the_vendor() {
    use luat_ota::pack::ec;
    let image: Vec<u8> = noise(9, 700_000).iter().map(|byte| byte & 0x3f).collect();
    let mut packages = vec![ec::package(ec::EC7XX, 0x002b_1000, &image).unwrap()];
    packages.push(ec::package(ec::EC618, 0x002c_c000, &image[..3000]).unwrap());
    let samples = Path::new(env!("CARGO_MANIFEST_DIR")).join("../shared/packages");
    for name in [
        "ec7xx-script-air780epm",
        "ec7xx-script-air8000",
        "ec618-script-air780e",
    ] {
        packages.extend(std::fs::read(samples.join(format!("{name}.bin"))));
    }
    for package in packages {
        let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/it/pack/decode.py");
        let mut python = Command::new("python3")
            .arg(script)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let mut stdin = python.stdin.take().unwrap();
        stdin.write_all(&package).unwrap();
        drop(stdin);
        let output = python.wait_with_output().unwrap();
        assert!(output.status.success(), "{}", both(&output));
        assert_eq!(output.stdout, ec::unpack(&package).unwrap()[0].image);
    }
}
