use super::*;
use crate::firmware::catalog::{Catalog, ScanResult, ScannedFile};
use crate::firmware::package::{Inspected, PackageKind};
use crate::os::fs::FileStamp;
use crate::wire::http_target::{HttpTarget, http_target};

const ASK: &str = "/api/site/turnkey_fota?imei=862991443753386&project_key=K%261&model=Air780EPM\
                   &core_id=1&core_version=2012&script_name=A%20B%26C&script_version=001.000.003";
const A: ContentId = ContentId([0xab; 32]);

fn check(target: &str) -> Libfota3Check<'_> {
    match read(target.as_bytes()) {
        Some(Libfota3Request::Check(asked)) => asked,
        other => panic!("{target}: {other:?}"),
    }
}

#[test]
fn the_check_equals_that_of_libfota2() {
    let asked = check(ASK);
    let twin = "/luat/update?imei=862991443753386&project_key=K%261&firmware_name=A%20B%26C_LuatOS-SoC_\
                Air780EPM&version=2012.001.000.003";
    let HttpTarget::Check(twin) = http_target(twin.as_bytes()) else {
        panic!("no check");
    };
    assert_eq!(asked.check, twin);
    assert_eq!(asked.check.project(), "A B&C");
    assert_eq!(asked.check.core(), Some(2012));
}

#[test]
fn a_version_is_made_of_core_and_script_where_both_are_numbers() {
    let joined = |core: &str, script: &str| version(core, script);
    assert_eq!(joined("2012", "1.2.3"), ("2012.1.2.3".to_owned(), None));
    assert_eq!(joined("2012", "1.2.3.4"), ("2012.1.2.3.4".to_owned(), None));
    assert_eq!(joined("V1103", "1.0.2"), ("1103.1.0.2".to_owned(), None));
    assert_eq!(joined("", "1.2.3"), ("1.2.3".to_owned(), None));
    assert_eq!(joined("2012", "1.2"), ("1.2".to_owned(), Some(2012)));
    assert_eq!(joined("2012", "beta"), ("beta".to_owned(), Some(2012)));
    assert_eq!(joined("2012", "1.2.x"), ("1.2.x".to_owned(), Some(2012)));
    assert_eq!(joined("x", ""), (String::new(), None));
}

// Case 20.
#[test]
fn a_check_without_a_script_name_still_says_platform_and_core() {
    let asked = check(
        "/api/site/turnkey_fota?imei=862991443753386&project_key=k&model=Air780EPM&core_id=1\
         &core_version=2046&script_version=001.999.000",
    );
    assert_eq!(asked.check.project(), "");
    assert_eq!(asked.check.name().platform, Some("Air780EPM"));
    assert_eq!(asked.check.core(), Some(2046));
}

#[test]
fn only_the_three_paths_are_parsed() {
    assert_eq!(
        read(b"/api/site/turnkey_fota_result"),
        Some(Libfota3Request::Report)
    );
    assert!(matches!(
        read(b"/api/site/turnkey_fota"),
        Some(Libfota3Request::Check(_))
    ));
    let absolute = format!("http://iot.openluat.com{ASK}");
    assert_eq!(check(&absolute), check(ASK));
    for other in [
        "/api/site/turnkey_fota_results",
        "/api/site/turnkey_fot",
        "/api/site/firmware_upgrade?imei=1",
        "/x/api/site/turnkey_fota",
        "/api/site/turnkey_fota_file",
        "/api/site/turnkey_fota_file?content=ab&mark=1",
        "",
    ] {
        assert_eq!(read(other.as_bytes()), None, "{other}");
    }
}

#[test]
fn a_file_url_contains_the_check_that_it_answers() {
    for (ask, id) in [
        (ASK, "imei"),
        (
            &ASK.replace("imei=862991443753386", "mac=0CA1B2C3D4E5"),
            "mac",
        ),
    ] {
        let asked = check(ask);
        let url = asked.url("http://h:1", A, 0xfe).unwrap();
        assert!(
            url.starts_with(&format!("http://h:1/api/site/turnkey_fota_file?{id}=")),
            "{url}"
        );
        let target = url.strip_prefix("http://h:1").unwrap();
        let Some(Libfota3Request::File(wanted)) = read(target.as_bytes()) else {
            panic!("{url}");
        };
        assert_eq!((wanted.content, wanted.mark), (A, 0xfe));
        // Everything but the key, which the URL of the file must not disclose.
        let without_key = Check {
            project_key: None,
            ..asked.check.clone()
        };
        assert_eq!(wanted.origin.check, without_key);
    }
    let long = format!("/api/site/turnkey_fota?script_name={}", "x".repeat(1200));
    assert_eq!(check(&long).url("http://h", A, 1), None);
}

/// Returns the reply to `ask` with an offer of the newest file of a folder that contains the file
/// at `path`.
fn answer(ask: &str, path: &str, kind: PackageKind) -> Value {
    let found = ScanResult {
        files: vec![ScannedFile {
            path: path.to_owned(),
            stamp: FileStamp {
                dev: 1,
                ino: 1,
                size: 9000,
                mtime: 0,
                ctime: 0,
            },
            inspected: Inspected {
                content: A,
                md5: [0; 16],
                size: 9000,
                kind,
            },
        }],
        ..ScanResult::default()
    };
    let catalog = Catalog::build(found);
    let project = &catalog.projects()[0];
    let offer = Offer {
        project,
        release: &project.releases[0],
        package: &project.releases[0].packages[0],
    };
    serde_json::from_str(&check(ask).offer(&offer, "http://h/x", 7)).unwrap()
}

const SCRIPT: PackageKind = PackageKind::Ec7xx { delta: false };
const DELTA: PackageKind = PackageKind::Ec7xx { delta: true };

#[test]
fn an_offer_has_the_fields_that_libfota3_parses() {
    let reply = answer(ASK, "A B&C/2.0.1/u.bin", SCRIPT);
    let device = DeviceId::parse("862991443753386").unwrap();
    let serial = format!("i{:x}-{A}-0000000000000007", device.parts().1);
    let expected = json!({
        "code": 0, "msg": "ok", "script_version": "002.000.001", "core_version": "2012",
        "core_id": 1, "size": 9000, "sha256": A.to_string(), "url": "http://h/x",
        "fota_sn": serial,
    });
    assert_eq!(reply, expected);
    let body = json!({ "fota_sn": reply["fota_sn"], "result_code": 2 }).to_string();
    let reported = ResultReport {
        device,
        content: A,
        mark: 7,
        result: 2,
    };
    assert_eq!(report(body.as_bytes()), Some(reported));
}

// Case 20.
#[test]
fn the_answer_names_the_core_id_as_a_number_the_core_as_text_and_the_middle_number_of_the_request()
{
    let ask = "/api/site/turnkey_fota?imei=862991443753386&project_key=k&model=Air780EPM&core_id=1\
               &core_version=2046&script_name=TURNKEY&script_version=001.999.000";
    let path = "TURNKEY_2046.001.001_LuatOS-SoC_Air780EPM.bin";
    for kind in [SCRIPT, PackageKind::Generic] {
        let reply = answer(ask, path, kind);
        assert_eq!(reply["core_id"], json!(1));
        assert_eq!(reply["core_version"], json!("2046"));
        assert_eq!(reply["script_version"], json!("001.999.001"));
    }
}

// Case 21.
#[test]
fn the_script_version_has_as_many_digits_as_the_request() {
    let ask = ASK.replace("001.000.003", "001.000.000");
    let reply = answer(&ask, "A B&C/1.0.1/u.bin", SCRIPT);
    assert_eq!(reply["script_version"], "001.000.001");
}

#[test]
fn a_core_id_that_is_no_integer_is_left_out() {
    for (sent, id) in [
        ("&core_id=7", Some(7)),
        ("&core_id=007", Some(7)),
        ("&core_id=-1", Some(-1)),
        ("&core_id=2147483648", Some(2_147_483_648_i64)),
        ("", None),
        ("&core_id=", None),
        ("&core_id=1.0", None),
        ("&core_id=x1", None),
        ("&core_id=nil", None),
        ("&core_id=99999999999999999999", None),
    ] {
        let ask = ASK.replace("&core_id=1", sent);
        let reply = answer(&ask, "A B&C/2.0.1/u.bin", SCRIPT);
        assert_eq!(reply.get("core_id"), id.map(Value::from).as_ref(), "{sent}");
    }
}

#[test]
fn the_core_version_is_that_of_the_core_after_this_package() {
    let named = "A B&C/2050.001.004/u.bin";
    let from = "A B&C/2050.001.004/from-2012/u.bin";
    for (sent, path, kind, core) in [
        // Only the script, by any_core.
        ("&core_version=2012", named, SCRIPT, Some("2012")),
        ("&core_version=V2012", named, SCRIPT, Some("V2012")),
        ("&core_version=2012", from, DELTA, Some("2050")),
        ("&core_version=V2012", from, DELTA, Some("V2050")),
        (
            "&core_version=2012",
            "A B&C/2.0.1/u.bin",
            SCRIPT,
            Some("2012"),
        ),
        // The release's name does not state the new core.
        (
            "&core_version=2012",
            "A B&C/2.0.1/from-2012/u.bin",
            DELTA,
            Some("2012"),
        ),
        ("", named, SCRIPT, Some("2050")),
        ("", "A B&C/2.0.1/u.bin", SCRIPT, None),
    ] {
        let ask = ASK.replace("&core_version=2012", sent);
        let reply = answer(&ask, path, kind);
        let core = core.map(Value::from);
        assert_eq!(reply.get("core_version"), core.as_ref(), "{sent} {path}");
    }
    // A full package contains a core.
    let ask = ASK.replace("Air780EPM", "Air101");
    let whole = PackageKind::W800 { script: false };
    assert_eq!(answer(&ask, named, whole)["core_version"], "2050");
}

#[test]
fn an_invalid_report_is_none() {
    let serial = format!("i1-{A}-1");
    let body = |serial: &str| format!("{{\"fota_sn\":\"{serial}\",\"result_code\":1}}");
    assert!(report(body(&serial).as_bytes()).is_some());
    for wrong in [
        String::new(),
        "[]".to_owned(),
        "{".to_owned(),
        body(""),
        body("SN-7"),
        body(&format!("{serial}-1")),
        body(&serial.replace('i', "x")),
        body(&serial.replace("i1", "i+1")),
        body(&serial.replace("ab", "zz")),
        body(&serial).replace(":1}", ":\"1\"}"),
        body(&serial).replace("result_code", "result"),
        "{\"fota_sn\":7,\"result_code\":1}".to_owned(),
    ] {
        assert_eq!(report(wrong.as_bytes()), None, "{wrong}");
    }
}
