//! Tests of paths in the firmware folder.

use super::*;

fn at<'a>(project: &'a str, version_text: &'a str) -> FirmwarePath<'a> {
    FirmwarePath {
        project,
        version: v(version_text),
        version_text,
        platform: None,
        marker: None,
        base_core: None,
    }
}

#[test]
fn every_layout_of_the_folder_is_read() {
    let epm = |place: FirmwarePath<'static>| FirmwarePath {
        platform: Some("Air780EPM"),
        marker: Some(Marker::SoC),
        ..place
    };
    let csdk = |platform, place: FirmwarePath<'static>| FirmwarePath {
        platform: Some(platform),
        marker: Some(Marker::Csdk),
        ..place
    };
    let from = |core, place: FirmwarePath<'static>| FirmwarePath {
        base_core: Some(core),
        ..place
    };
    for (path, expected) in [
        ("ALIYUN/2.0.1/update.bin", at("ALIYUN", "2.0.1")),
        ("ALIYUN/v2.0.1/a b.ota", at("ALIYUN", "v2.0.1")),
        ("ALIYUN/7/update.bin", at("ALIYUN", "7")),
        ("ALIYUN_2.0.2/update.bin", at("ALIYUN", "2.0.2")),
        ("A_B_v3/update.bin", at("A_B", "v3")),
        ("水表 一号/1.0.0/升级.bin", at("水表 一号", "1.0.0")),
        ("AIR_720/1.0.0/update.bin", at("AIR_720", "1.0.0")),
        ("from-china/1.0.0/update.bin", at("from-china", "1.0.0")),
        (
            "FOTA2_DEMO_2012.001.001_LuatOS-SoC_Air780EPM.bin",
            epm(at("FOTA2_DEMO", "2012.001.001")),
        ),
        (
            "A/A_2012.001.004_LuatOS-SoC_Air780EPM.bin",
            epm(at("A", "2012.001.004")),
        ),
        (
            "A/2012.001.004/A_2012.1.4_LuatOS-SoC_Air780EPM.bin",
            epm(at("A", "2012.001.004")),
        ),
        (
            "A_2012.001.004/A_2012.1.4_LuatOS-SoC_Air780EPM.DFOTA.BIN",
            epm(at("A", "2012.001.004")),
        ),
        (
            "A/2012.001.004/from-2008/A_2012.001.004_LuatOS-SoC_Air780EPM.bin",
            from(2008, epm(at("A", "2012.001.004"))),
        ),
        (
            "A/2012.001.004/from-V2008/delta.bin",
            from(2008, at("A", "2012.001.004")),
        ),
        (
            "A_2012.001.004/from-2008/delta.bin",
            from(2008, at("A", "2012.001.004")),
        ),
        (
            "A/from-2008/A_2012.001.004_LuatOS-SoC_Air780EPM.bin",
            from(2008, epm(at("A", "2012.001.004"))),
        ),
        (
            "fotademo_1103.1.2_LuatOS-SoC_V1103_EC618-x.bin",
            FirmwarePath {
                platform: Some("EC618"),
                marker: Some(Marker::SoC),
                ..at("fotademo", "1103.1.2")
            },
        ),
        (
            "AIRKIT_1.0.2_LuatOS-Air_V4035_RDA8910_TTS_NOLVGL_FLOAT.dfota.bin",
            FirmwarePath {
                platform: Some("RDA8910_TTS_NOLVGL_FLOAT"),
                marker: Some(Marker::Air),
                ..at("AIRKIT", "1.0.2")
            },
        ),
        (
            "CSK_1.0.1_CSDK_EC618.bin",
            csdk("EC618", at("CSK", "1.0.1")),
        ),
        (
            "1.0.1_CSK_CSDK_EC618.bin",
            csdk("EC618", at("CSK", "1.0.1")),
        ),
        (
            "CSK/1.0.1/CSK_CSDK_RDA8910.bin",
            csdk("RDA8910", at("CSK", "1.0.1")),
        ),
        ("CSK/1.0.1/MY_CSDK_TOOL.bin", at("CSK", "1.0.1")),
        ("MY_CSDK_TOOL/1.0.1/u.bin", at("MY_CSDK_TOOL", "1.0.1")),
        (
            "MY_CSDK_TOOL_1.0.1_LuatOS-SoC_Air780EPM.bin",
            epm(at("MY_CSDK_TOOL", "1.0.1")),
        ),
        // Case 13.
        (
            "SUF_2012.001.002_LuatOS-SoC_Air780EPM_202509011200.bin",
            epm(at("SUF", "2012.001.002")),
        ),
        (
            "MY_APP_1.2.0_Luat_V0022_RDA8910.dfota.bin",
            FirmwarePath {
                platform: Some("RDA8910"),
                marker: Some(Marker::Luat),
                ..at("MY_APP", "1.2.0")
            },
        ),
    ] {
        assert_eq!(firmware_path(path), Ok(expected), "{path}");
    }
}

#[test]
fn an_invalid_path_is_explained() {
    for (path, parts) in [
        ("update.bin", &["Luatools", "PROJECT/2.0.1/update.bin"][..]),
        (
            "ALIYUN/update.bin",
            &["`ALIYUN`", "ALIYUN/2.0.1/update.bin"],
        ),
        ("AIR_720/update.bin", &["names no version"]),
        ("ALIYUN/beta/update.bin", &["`beta`", "ALIYUN/2.0.1/"]),
        ("ALIYUN/1.0-beta/update.bin", &["`1.0-beta`"]),
        (
            "ALIYUN_1.0/2.0/update.bin",
            &["`ALIYUN_1.0`", "version 1.0 of project `ALIYUN`", "`2.0`"],
        ),
        ("A/1.0/x/update.bin", &["`x`", "from-2008"]),
        ("A/1.0/from-x/update.bin", &["`from-x`", "from-2008"]),
        ("A/1.0/from-/update.bin", &["from-2008"]),
        ("A/1.0/from-0/update.bin", &["from-2008"]),
        ("A/1.0/from-20x/update.bin", &["from-2008"]),
        ("A/1.0/from-2008/x/update.bin", &["too many folders"]),
        ("A_1.0/from-2008/x/update.bin", &["too many folders"]),
        ("A/from-2008/update.bin", &["no version"]),
        ("A,B/1.0/update.bin", &["comma"]),
        ("A,B_1.0/update.bin", &["comma"]),
        ("A,B_1.0_Luat_V0001_8955.bin", &["comma"]),
        ("A /1.0/update.bin", &["space"]),
        ("_1.0/update.bin", &["version"]),
        ("A\u{7}/1.0/update.bin", &["control"]),
        ("A/1.0/up\ndate.bin", &["control", "up\\ndate"]),
        ("A//update.bin", &["not a path"]),
        ("A/../update.bin", &["not a path"]),
        (
            "A/B_2012.1.4_LuatOS-SoC_EC618.bin",
            &["project `A`", "says `B`"],
        ),
        (
            "A/1.0/B_1.0_Luat_V0001_8955.bin",
            &["project `A`", "says `B`"],
        ),
        (
            "A/1.0/A_1.1_Luat_V0001_8955.bin",
            &["version 1.0", "says 1.1"],
        ),
        (
            "A_1.0/A_1.1_Luat_V0001_8955.bin",
            &["version 1.0", "says 1.1"],
        ),
        ("A/1.0/A_Luat_V0001_8955.bin", &["version before it"]),
        ("A_beta_LuatOS-SoC_EC618.bin", &["version before it"]),
        (
            "A_2012.1.4_LuatOS-SoC_EC618 (1).bin",
            &["`EC618 (1)`", "platform"],
        ),
        ("A/1.0/a_1.0_luatos-soc_ec618.bin", &["_LuatOS-SoC_"]),
        ("A_1.0_luatos-air_rda8910.bin", &["_LuatOS-Air_"]),
        ("A_CSDK_EC618.bin", &["version before it"]),
        ("A_2012.1.4_LuatOS-SoC_-x.bin", &["platform"]),
        ("A_2012.1.4_Luat_.bin", &["platform"]),
        ("", &["not a path"]),
    ] {
        let sentence = firmware_path(path).unwrap_err();
        for part in parts {
            assert!(sentence.contains(part), "{path}: {sentence}");
        }
    }
}

fn owner(project: &str, version: Option<Version>) -> RulesOwner<'_> {
    RulesOwner { project, version }
}

#[test]
fn rules_belong_to_a_project_or_a_release() {
    for (path, expected) in [
        ("ALIYUN/release.json", owner("ALIYUN", None)),
        ("AIR_720/release.json", owner("AIR_720", None)),
        (
            "ALIYUN/2.0.1/release.json",
            owner("ALIYUN", Some(v("2.0.1"))),
        ),
        (
            "ALIYUN_v2.0.1/release.json",
            owner("ALIYUN", Some(v("2.0.1"))),
        ),
    ] {
        assert_eq!(rules_owner(path), Ok(expected), "{path}");
    }
    for path in [
        "release.json",
        "A/beta/release.json",
        "A/1.0/from-2008/release.json",
        "A/from-2008/release.json",
        "A_1.0/2.0/release.json",
        "A/1.0/x/release.json",
        "A,/release.json",
    ] {
        assert!(rules_owner(path).is_err(), "{path}");
    }
}
