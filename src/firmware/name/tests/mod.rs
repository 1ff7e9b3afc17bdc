use super::super::version::Version;
use super::*;
use proptest::prelude::*;

mod paths;

fn v(text: &str) -> Version {
    Version::parse(text).unwrap()
}

fn named(
    project: &str,
    marker: Marker,
    core: impl Into<Option<u32>>,
    platform: Option<&'static str>,
) -> (String, Option<Marker>, Option<u32>, Option<&'static str>) {
    (project.to_owned(), Some(marker), core.into(), platform)
}

#[test]
fn names_from_modules_are_split_into_parts() {
    for (text, expected) in [
        (
            "ALIYUN_Luat_V0017_ASR1802",
            named("ALIYUN", Marker::Luat, 17, Some("ASR1802")),
        ),
        (
            "USER_SERVER_UPDATE_Luat_V0035_8955_SSL_TTS",
            named("USER_SERVER_UPDATE", Marker::Luat, 35, Some("8955_SSL_TTS")),
        ),
        (
            "X_Luat_RDA8910_FLOAT",
            named("X", Marker::Luat, None, Some("RDA8910_FLOAT")),
        ),
        (
            "X_Luat_V3033_RDA8910_TTS_NOLVGL_FLOAT",
            named("X", Marker::Luat, 3033, Some("RDA8910_TTS_NOLVGL_FLOAT")),
        ),
        (
            "FOTA2_DEMO_LuatOS-SoC_Air780EPM",
            named("FOTA2_DEMO", Marker::SoC, None, Some("Air780EPM")),
        ),
        (
            "X_LuatOS-SoC_V1004_ESP32C3",
            named("X", Marker::SoC, 1004, Some("ESP32C3")),
        ),
        ("X_LuatOS-SoC_V1004", named("X", Marker::SoC, 1004, None)),
        (
            "X_LuatOS-SoC_EC718P-mini",
            named("X", Marker::SoC, None, Some("EC718P")),
        ),
        (
            "水表_v2_LuatOS-SoC_EC618",
            named("水表_v2", Marker::SoC, None, Some("EC618")),
        ),
        (
            "A_Luat_B_LuatOS-SoC_EC618",
            named("A_Luat_B", Marker::SoC, None, Some("EC618")),
        ),
        (
            "A_LuatOS-SoC_B_Luat_V0001_8955",
            named("A_LuatOS-SoC_B", Marker::Luat, 1, Some("8955")),
        ),
        ("A_Luat_", named("A", Marker::Luat, None, None)),
        ("_Luat_8955", named("", Marker::Luat, None, Some("8955"))),
        (
            "A_Luat_V99999999999_8955",
            named("A", Marker::Luat, None, Some("8955")),
        ),
        (
            "AIRKIT_LuatOS-Air_RDA8910_TTS_NOLVGL_FLOAT",
            named(
                "AIRKIT",
                Marker::Air,
                None,
                Some("RDA8910_TTS_NOLVGL_FLOAT"),
            ),
        ),
        (
            "A_LuatOS-Air_V4035_RDA8910_TTS",
            named("A", Marker::Air, 4035, Some("RDA8910_TTS")),
        ),
        (
            "A_LuatOS-HMI_V3201_RDA8910",
            named("A", Marker::Hmi, 3201, Some("RDA8910")),
        ),
        (
            "A_LuatOS-HMI_RDA8910-x",
            named("A", Marker::Hmi, None, Some("RDA8910-x")),
        ),
        (
            "CSK_CSDK_EC618",
            named("CSK", Marker::Csdk, None, Some("EC618")),
        ),
        (
            "1.0.1_CSK_CSDK_EC618",
            named("CSK", Marker::Csdk, None, Some("EC618")),
        ),
        (
            "720_CSK_CSDK_EC618",
            named("720_CSK", Marker::Csdk, None, Some("EC618")),
        ),
        (
            "A_CSDK_B_LuatOS-Air_RDA8910",
            named("A_CSDK_B", Marker::Air, None, Some("RDA8910")),
        ),
        (
            "A_LuatOS-SoC_B_CSDK_EC618",
            named("A_LuatOS-SoC_B", Marker::Csdk, None, Some("EC618")),
        ),
        (
            "a_luatos-soc_ec618",
            named("a", Marker::SoC, None, Some("ec618")),
        ),
        (
            "A_LuatOS-SoC_Air780EPM_202509011200",
            named("A", Marker::SoC, None, Some("Air780EPM")),
        ),
        (
            "A_Luat_Volt_1",
            named("A", Marker::Luat, None, Some("Volt_1")),
        ),
    ] {
        let name = SentName::from(text);
        let name = name.parts();
        let got = (
            name.project.to_owned(),
            name.marker,
            name.core,
            name.platform,
        );
        assert_eq!(got, expected, "{text}");
    }
}

#[test]
fn a_name_without_a_marker_is_all_project() {
    for text in [
        "ALIYUN",
        "",
        "my_luat_thing",
        "X_Luat",
        "LuatOS-SoC_EC618",
        "my_csdk_thing",
        "X_CSDK",
        "X_LuatOS_EC618",
    ] {
        let name = SentName::from(text);
        let name = name.parts();
        assert_eq!((name.project, name.marker), (text, None), "{text}");
        assert_eq!((name.core, name.platform), (None, None), "{text}");
    }
}

#[test]
fn files_are_classified_by_their_endings() {
    for name in [
        "update.bin",
        "UPDATE.BIN",
        "x.dfota.bin",
        "x.ota",
        "x.fota",
        "x.sota",
        "x.img",
        "固件.bin",
    ] {
        assert_eq!(file_kind(name), FileKind::Firmware, "{name}");
    }
    for name in ["release.json", "Release.JSON"] {
        assert_eq!(file_kind(name), FileKind::Rules, "{name}");
    }
    for name in ["update.bin.sha256", "update.ota.MD5"] {
        assert_eq!(file_kind(name), FileKind::Checksum, "{name}");
    }
    for name in [
        ".hidden.bin",
        ".bin",
        "x.bin.part",
        // rclone since 1.63.
        "x.bin.a1b2c3d4.partial",
        "release.json.0f3a9c5e.partial",
        // rsync.
        ".x.bin.Xy12Zw",
        ".~tmp~",
        // Syncthing.
        ".syncthing.x.bin.tmp",
        "~syncthing~x.bin.tmp",
        ".stfolder",
        // A file that was removed while another machine had it open over NFS.
        ".nfs000000000123abcd00000001",
        "x.tmp",
        "x.bin.filepart",
        "x.bin.crdownload",
        "x.bin~",
        ".part",
    ] {
        assert_eq!(file_kind(name), FileKind::Ignored, "{name}");
    }
    for name in [
        "update.sync-conflict-20261129-120000-ABCDEFG.bin",
        "P_1.0.1_LuatOS-SoC_Air780EPM.sync-conflict-20261129-120000-ABCDEFG.bin",
        "release.sync-conflict-20261129-120000-ABCDEFG.json",
        "update.bin.sync-conflict-20261129-120000-ABCDEFG.sha256",
        "@pilot.sync-conflict-20261129-120000-ABCDEFG.txt",
        "update (conflicted copy 2026-11-29).bin",
        "update (Li's conflicted copy 2026-11-29).bin",
        "release (Conflicted copy 2026-11-29 120000).json",
    ] {
        assert_eq!(file_kind(name), FileKind::Conflict, "{name}");
    }
    for name in [
        "README.md",
        "x.sha256",
        "x.txt",
        "bin",
        "",
        "x.bin.txt",
        "固",
        "release.jso",
    ] {
        assert_eq!(file_kind(name), FileKind::Other, "{name}");
    }
}

#[test]
fn a_file_dropped_by_mistake_gets_a_sentence_that_names_the_right_file() {
    for (name, part) in [
        ("x.binpkg", "升级文件"),
        ("x.LOD", "升级文件"),
        ("x.pac", "升级文件"),
        ("x.blf", "升级文件"),
        ("x.zip", "unpack"),
        ("x.7z", "unpack"),
        ("x.rar", "unpack"),
        ("x.bin.gz", "unpack"),
        ("x.hex", ".bin"),
        ("x.exe", ".bin"),
        ("release.json.txt", "release.json"),
        // Case 14.
        ("X_1.0.1.bin_20250623184110381812", "rename it"),
        ("X_1.0.1.bin_0f3a9c5e", "rename it"),
        ("X_1.0.1.dfota.bin_20250623_0f3a9c5e", "rename it"),
        ("X_1.0.1.sota%3Fsign=abc", "rename it"),
        ("x.dfota.bin.1", "rename it"),
        ("x.bin (1)", "rename it"),
        ("x.bin?sign=abc&t=1", "rename it"),
        ("x.sota-2", "rename it"),
    ] {
        match file_kind(name) {
            FileKind::Mistake(sentence) => assert!(sentence.contains(part), "{name}: {sentence}"),
            other => panic!("{name}: {other:?}"),
        }
    }
}

#[test]
fn a_soc_file_gets_a_sentence_with_the_command_that_builds_its_package() {
    for (path, command) in [
        (
            "fotademo_1.0.2_LuatOS-SoC_V1103_EC618.soc",
            "`luat-ota pack fotademo_1.0.2_LuatOS-SoC_V1103_EC618.soc`",
        ),
        ("水表/1.0/core.SOC", "`luat-ota pack 水表/1.0/core.SOC`"),
        ("P/my core (1).soc", "`luat-ota pack 'P/my core (1).soc'`"),
        ("it's.soc", "`luat-ota pack 'it'\\''s.soc'`"),
    ] {
        let kind = file_kind(path.rsplit('/').next().unwrap());
        assert_eq!(kind, FileKind::Soc, "{path}");
        let sentence = kind.mistake(path).unwrap();
        for part in ["factory file", "生成差分/升级文件", command] {
            assert!(sentence.contains(part), "{sentence}");
        }
    }
}

// Case 13.
#[test]
fn a_build_stamp_is_no_part_of_the_platform() {
    for (text, platform) in [
        ("Air780EPM_20250901", "Air780EPM"),
        ("Air780EPM_2025090112", "Air780EPM"),
        ("Air780EPM_202509011200", "Air780EPM"),
        ("Air780EPM_20250901120000", "Air780EPM"),
        ("Air780EPM_20250901_1200", "Air780EPM"),
        ("Air780EPM_20250901_120059", "Air780EPM"),
        ("RDA8910_TTS_20250901", "RDA8910_TTS"),
        ("Air780EHM_8", "Air780EHM_8"),
        ("Air780EPM_FOTA", "Air780EPM_FOTA"),
        ("Air780EPM_1200", "Air780EPM_1200"),
        ("Air780EPM_20251301", "Air780EPM_20251301"),
        ("Air780EPM_20250900", "Air780EPM_20250900"),
        ("Air780EPM_202509012400", "Air780EPM_202509012400"),
        ("Air780EPM_202509011260", "Air780EPM_202509011260"),
        ("Air780EPM_2025090112000", "Air780EPM_2025090112000"),
        ("Air780EPM_19990901", "Air780EPM_19990901"),
        ("Air780EPM_2025", "Air780EPM_2025"),
        ("20250901", "20250901"),
    ] {
        assert_eq!(without_stamp(text), platform, "{text}");
    }
}

proptest! {
    #[test]
    fn no_name_panics(text in "\\PC*|[A_Luat0-9V.LuatOS-SoC/ from]{0,40}") {
        let name = SentName::from(&*text);
        let name = name.parts();
        prop_assert!(text.contains(name.project));
        file_kind(&text);
        let _ = firmware_path(&text);
        let _ = rules_owner(&text);
    }

    #[test]
    fn a_firmware_name_has_the_parts_that_it_was_made_of(
        project in "[A-Za-z_. 水表-]{0,12}",
        core in 0u32..10_000,
        platform in "[A-UW-Z0-9][A-Z0-9_]{0,8}",
    ) {
        prop_assume!(!platform.contains("_LUAT"));
        let text = format!("{project}_Luat_V{core:04}_{platform}");
        let name = SentName::from(&*text);
        let name = name.parts();
        prop_assert_eq!(name.project, project.as_str());
        prop_assert_eq!(name.core, Some(core));
        prop_assert_eq!(name.platform, Some(platform.as_str()));
        prop_assert_eq!(name.marker, Some(Marker::Luat));
    }

    #[test]
    fn all_layouts_of_one_release_have_the_same_meaning(
        project in "[A-Za-z水_.-]{0,10}[A-Za-z表]",
        version in "[0-9]{1,4}\\.[0-9]{1,3}\\.[0-9]{1,3}",
        core in 1u32..10_000,
    ) {
        let file = format!("{project}_{version}_LuatOS-SoC_Air780EPM.bin");
        let expected = FirmwarePath {
            project: &project,
            version: v(&version),
            version_text: &version,
            platform: Some("Air780EPM"),
            marker: Some(Marker::SoC),
            base_core: None,
        };
        for path in [
            file.clone(),
            format!("{project}/{file}"),
            format!("{project}/{version}/{file}"),
            format!("{project}_{version}/{file}"),
        ] {
            prop_assert_eq!(firmware_path(&path), Ok(expected));
        }
        for path in [
            format!("{project}/from-{core}/{file}"),
            format!("{project}/{version}/from-{core}/{file}"),
            format!("{project}_{version}/from-{core}/{file}"),
        ] {
            prop_assert_eq!(firmware_path(&path), Ok(FirmwarePath { base_core: Some(core), ..expected }));
        }
    }
}
