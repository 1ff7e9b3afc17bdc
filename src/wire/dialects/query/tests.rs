use proptest::prelude::*;

use super::*;
use crate::wire::http_target::{HttpTarget, http_target};

const IMEI: Option<DeviceId> = Some(DeviceId::Imei(862_991_443_753_386));

fn checked(target: &[u8]) -> Check<'_> {
    match http_target(target) {
        HttpTarget::Check(check) => check,
        other => panic!("{}: {other:?}", target.escape_ascii()),
    }
}

/// Returns the device as written, the firmware name, the version and the key.
fn fields_of(target: &[u8]) -> [String; 4] {
    let check = checked(target);
    [
        check.device_text.into_owned(),
        check.firmware_name.unwrap_or_default().to_string(),
        check.version.into_owned(),
        check.project_key.unwrap_or_default().into_owned(),
    ]
}

#[test]
fn every_generation_of_module_is_understood() {
    // docs/protocol.md 1b to 1g, in this order.
    for (target, expected) in [
        (
            &b"/api/site/firmware_upgrade?project_key=KEY&imei=862991443753386&device_key=SN&firmware_name=PROJECT_Luat_V0035_8955&version=1.0.0"[..],
            ["862991443753386", "PROJECT_Luat_V0035_8955", "1.0.0", "KEY"],
        ),
        (
            b"/luat/update?project_key=KEY&imei=862991443753386&device_key=&firmware_name=PROJECT_Luat_V0035_8955&version=2.0.0&need_oss_url=1",
            ["862991443753386", "PROJECT_Luat_V0035_8955", "2.0.0", "KEY"],
        ),
        (
            b"/path?project_key=KEY&imei=862991443753386&device_key=SN&firmware_name=ALIYUN_Luat_V0017_ASR1802&version=2.0.0",
            ["862991443753386", "ALIYUN_Luat_V0017_ASR1802", "2.0.0", "KEY"],
        ),
        (
            b"/path?project_key=KEY&imei=862991443753386&firmware_name=PROJECT_Luat_RDA8910_FLOAT&core_version=3033&dfota=1&version=2.0.0&need_oss_url=1",
            ["862991443753386", "PROJECT_Luat_RDA8910_FLOAT", "2.0.0", "KEY"],
        ),
        (
            b"/api/site/firmware_upgrade?project_key=KEY&firmware_name=PROJECT_LuatOS-SoC_EC618&version=1103.1.2&imei=862991443753386",
            ["862991443753386", "PROJECT_LuatOS-SoC_EC618", "1103.1.2", "KEY"],
        ),
        (
            b"/api/site/firmware_upgrade?project_key=KEY&imei=862991443753386&device_key=&firmware_name=PROJECT_LuatOS-SoC_EC618&version=1103.1.2&model=Air780E",
            ["862991443753386", "PROJECT_LuatOS-SoC_EC618", "1103.1.2", "KEY"],
        ),
        (
            b"/update?imei=862991443753386&project_key=KEY&firmware_name=PROJECT_LuatOS-SoC_Air780EPM&version=2012.001.001",
            ["862991443753386", "PROJECT_LuatOS-SoC_Air780EPM", "2012.001.001", "KEY"],
        ),
        (
            b"/update?mac=C81F66A0B1C2&project_key=KEY&firmware_name=P_LuatOS-SoC_Air8101&version=1006.0.1",
            ["C81F66A0B1C2", "P_LuatOS-SoC_Air8101", "1006.0.1", "KEY"],
        ),
        (
            b"/update?uid=3042455331313330&project_key=KEY&firmware_name=X_LuatOS-SoC_V1004_ESP32C3&version=1.0.0",
            ["3042455331313330", "X_LuatOS-SoC_V1004_ESP32C3", "1.0.0", "KEY"],
        ),
    ] {
        assert_eq!(fields_of(target), expected, "{}", target.escape_ascii());
    }
}

#[test]
fn a_mistake_in_the_url_gets_a_hint() {
    let rest = "imei=862991443753386&firmware_name=P_LuatOS-SoC_EC618&version=2012.1.0";
    for (begin, words) in [
        ("/upgrade?", ""),
        ("/upgrade", "should end with `?`"),
        ("/upgrade??", "should end without `?`"),
        ("/upgrade?nil&", "`?nil`"),
        ("/upgrade?version=2012.1.0?", "at every check"),
    ] {
        let target = format!("{begin}{rest}");
        let hint = checked(target.as_bytes()).hint;
        assert!(hint.contains(words), "{target}: {hint}");
        assert_eq!(hint.is_empty(), words.is_empty(), "{target}: {hint}");
    }
}

#[test]
fn every_known_mistake_of_users_is_tolerated() {
    // docs/protocol.md 3, in this order.
    let expected = ["862991443753386", "P_LuatOS-SoC_EC618", "2012.1.0", "K"];
    for target in [
        &b"/upgradeimei=862991443753386&project_key=K&firmware_name=P_LuatOS-SoC_EC618&version=2012.1.0"[..],
        b"/luat/updateimei=862991443753386&project_key=K&firmware_name=P_LuatOS-SoC_EC618&version=2012.1.0",
        b"/api/site/firmware_upgradeimei=862991443753386&project_key=K&firmware_name=P_LuatOS-SoC_EC618&version=2012.1.0",
        b"/luat/updateproject_key=K&imei=862991443753386&firmware_name=P_LuatOS-SoC_EC618&version=2012.1.0",
        b"/luat/updatefirmware_name=P_LuatOS-SoC_EC618&version=2012.1.0&imei=862991443753386&project_key=K",
        b"/upgrade??imei=862991443753386&project_key=K&firmware_name=P_LuatOS-SoC_EC618&version=2012.1.0",
        b"/luat/update?imei=862991443753386&project_key=K&firmware_name=P_LuatOS-SoC_EC618&version=2012.1.0?imei=862991443753387&project_key=L&firmware_name=Q&version=3",
        b"/luat/updateimei=862991443753386&project_key=K&firmware_name=P_LuatOS-SoC_EC618&version=2012.1.0?imei=1",
        b"/luat/update?a=1imei=862991443753386&project_key=K&firmware_name=P_LuatOS-SoC_EC618&version=2012.1.0",
        b"/luat/update??project_key=K&imei=862991443753386&firmware_name=P_LuatOS-SoC_EC618&version=2012.1.0",
        b"/luat/update?imei=&imei=862991443753386&project_key=&project_key=K&firmware_name=&firmware_name=P_LuatOS-SoC_EC618&version=2012.1.0",
        b"/luat/update?IMEI=862991443753386&Project_Key=K&FIRMWARE_NAME=P_LuatOS-SoC_EC618&Version=2012.1.0",
        b"/luat/update/?imei=862991443753386&project_key=K&firmware_name=P_LuatOS-SoC_EC618&version=2012.1.0",
        b"/luat/update&imei=862991443753386&project_key=K&firmware_name=P_LuatOS-SoC_EC618&version=2012.1.0",
        b"luat/update?imei=862991443753386&project_key=K&firmware_name=P_LuatOS-SoC_EC618&version=2012.1.0",
        b" /luat/update?imei= 862991443753386&project_key=K&firmware_name=P_LuatOS-SoC_EC618&version=2012.1.0 ",
        b"http://ota.example.com:8080/luat/update?imei=862991443753386&project_key=K&firmware_name=P_LuatOS-SoC_EC618&version=2012.1.0",
    ] {
        assert_eq!(fields_of(target), expected, "{}", target.escape_ascii());
    }
}

#[test]
fn a_module_of_an_unknown_model_asks_without_an_id() {
    for target in [
        &b"/luat/update?nil&project_key=K&firmware_name=P_LuatOS-SoC_Air201&version=2012.1.0"[..],
        b"/luat/updatenil&project_key=K&firmware_name=P_LuatOS-SoC_Air201&version=2012.1.0",
        b"/xnil&project_key=K&firmware_name=P_LuatOS-SoC_Air201&version=2012.1.0",
    ] {
        assert_eq!(
            fields_of(target),
            ["", "P_LuatOS-SoC_Air201", "2012.1.0", "K"]
        );
        assert_eq!(checked(target).device, None);
    }
}

#[test]
fn raw_spaces_utf_8_and_gbk_are_decoded() {
    let [_, name, _, key] = fields_of(
        "/u?project_key=a b+c&device_key=我 的&firmware_name=水表_Luat_V0035_8955&version=1"
            .as_bytes(),
    );
    assert_eq!([name.as_str(), &key], ["水表_Luat_V0035_8955", "a b+c"]);
    // The same project in GBK, raw and encoded.
    for target in [
        &b"/u?firmware_name=\xcb\xae\xb1\xed_Luat_V0035_8955&version=1"[..],
        b"/u?firmware_name=%cb%AE\xb1%eD_Luat_V0035_8955&version=1",
        b"/u?firmware_name=%e6%b0%B4%E8%A1%A8_Luat_V0035_8955&version=1",
    ] {
        assert_eq!(fields_of(target)[1], "水表_Luat_V0035_8955");
    }
}

#[test]
fn the_device_is_the_first_of_imei_mac_and_uid_that_is_an_id() {
    let device = |query: &str| {
        let target = format!("/luat/update?{query}");
        let check = checked(target.as_bytes());
        assert_eq!(check.device.is_some(), !check.device_text.is_empty());
        check.device
    };
    assert_eq!(device("uid=AB&mac=C81F66A0B1C2&imei=862991443753386"), IMEI);
    assert_eq!(
        device("uid=AB&mac=C81F66A0B1C2&imei=no%20id"),
        Some(DeviceId::Mac(0xc81f_66a0_b1c2))
    );
    assert!(matches!(device("imei=&uid=AB"), Some(DeviceId::Other(_))));
    assert_eq!(
        device("imei=8629914437533861234567890123456789012345678901234567890123456789012"),
        None
    );
    assert_eq!(device("imei=../etc"), None);
    assert_eq!(device("imei=nil!&a=bimei=862991443753386"), None);
    assert_eq!(device("a=1imei=86299144375338"), None);
    assert_eq!(device(""), None);
}

#[test]
fn core_version_is_a_number_and_need_oss_url_is_1() {
    let check = |query: &str| {
        let target = format!("/luat/update?{query}");
        let check = checked(target.as_bytes());
        (check.core_version, check.need_oss_url)
    };
    assert_eq!(
        check("core_version=3033&need_oss_url=1"),
        (Some(3033), true)
    );
    assert_eq!(check("core_version=0022&need_oss_url=0"), (Some(22), false));
    assert_eq!(check("core_version=+5&need_oss_url=1x"), (None, false));
    assert_eq!(
        check("core_version=4294967296&need_oss_url=true"),
        (None, false)
    );
    assert_eq!(
        check("core_version=&need_oss_url=0&need_oss_url=1"),
        (None, false)
    );
}

#[test]
fn a_path_may_name_the_project() {
    for (target, project) in [
        (
            &b"/luat/update/PROJECT?version=2.0.0&imei=862991443753386"[..],
            Some("PROJECT"),
        ),
        (
            b"/luat/update/PROJECT/?version=2.0.0&imei=862991443753386",
            Some("PROJECT"),
        ),
        (
            b"/luat/update/PROJECTimei=862991443753386&version=2.0.0",
            Some("PROJECT"),
        ),
        (
            b"/luat/update/%E6%B0%B4%E8%A1%A8?imei=862991443753386&version=2.0.0",
            Some("水表"),
        ),
        (
            b"/luat/update/\xcb\xae\xb1\xed?imei=862991443753386&version=2.0.0",
            Some("水表"),
        ),
        (
            b"/luat/update/A%26B%2FC?imei=862991443753386&version=2.0.0",
            Some("A&B/C"),
        ),
        (b"/luat/update/?imei=862991443753386&version=2.0.0", None),
        (b"/luat/update?imei=862991443753386&version=2.0.0", None),
    ] {
        let check = checked(target);
        assert_eq!(check.path_project.as_deref(), project);
        assert_eq!((check.device, &*check.version), (IMEI, "2.0.0"));
        assert_eq!(check.firmware_name, None);
    }
}

#[test]
fn known_paths_are_checks_whatever_is_missing_and_others_need_name_and_version() {
    for target in [
        &b"/luat/update"[..],
        b"/luat/update?",
        b"/api/site/firmware_upgrade/",
        b"/luat/update/P",
    ] {
        assert_eq!(checked(target).version, "");
    }
    for target in [
        &b""[..],
        b"/",
        b"*",
        b"/upgrade?version=2.0.0",
        b"/upgrade?firmware_name=P",
        b"/upgrade?firmware_name=&version=2.0.0",
        b"/luat/update/A/B?version=2.0.0",
        b"/luat/updater",
        b"/api/site/turnkey_fotas?imei=862991443753386&project_key=K&script_version=1",
        b"/favicon.ico",
        b"/firmware",
    ] {
        assert_eq!(
            http_target(target),
            HttpTarget::Unknown,
            "{}",
            target.escape_ascii()
        );
    }
    assert_eq!(
        checked(b"/luat/updater?firmware_name=P&version=").version,
        ""
    );
    assert_eq!(checked(b"/firmware?firmware_name=P&version=1").version, "1");
}

#[test]
fn a_normal_check_borrows_everything() {
    let target = "/luat/update/水表?project_key=KEY&imei=862991443753386&firmware_name=水表_Luat_V0035_8955&version=2.0.0";
    let check = checked(target.as_bytes());
    for text in [
        &*check.device_text,
        &check.version,
        check.firmware_name.as_deref().unwrap(),
        check.path_project.as_deref().unwrap(),
        check.project_key.as_deref().unwrap(),
    ] {
        assert!(target.as_bytes().as_ptr_range().contains(&text.as_ptr()));
    }
}

proptest! {
    #[test]
    fn values_are_parsed_as_they_were_sent(
        name in "[^%&?=]{1,20}",
        version in "[0-9a-z. \u{4e00}-\u{9fa5}]{0,12}",
        key in "[0-9A-Za-z=+]{1,16}",
    ) {
        let target = format!("/x?project_key={key}&firmware_name={name}&version={version}&end=");
        prop_assert_eq!(fields_of(target.as_bytes()), ["".to_owned(), name, version, key]);
    }
}

#[test]
fn a_check_below_firmware_is_parsed_as_at_any_other_path() {
    for target in [
        "/firmware/upgrade?imei=862991443753386&firmware_name=P&version=1",
        "/firmware/?firmware_name=P&version=1",
        "/firmware/x?firmware_name=P&version=1",
        "/firmware/../x?firmware_name=P&version=1",
    ] {
        assert_eq!(checked(target.as_bytes()).project(), "P", "{target}");
    }
    // A target without a version is not a check.
    assert_eq!(
        http_target(b"/firmware/x?firmware_name=P"),
        HttpTarget::File("x".into(), None)
    );
}
