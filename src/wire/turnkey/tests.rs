use std::time::Instant;

use super::*;
use crate::firmware::catalog::{Catalog, Found, FoundFile};
use crate::firmware::package::{Inspected, Kind};
use crate::os::fs::Stamp;

const ASK: &str = "/api/site/turnkey_fota?imei=862991443753386&project_key=K%261&model=Air780EPM\
                   &core_id=1&core_version=2012&script_name=A%20B%26C&script_version=001.000.003";
const A: ContentId = ContentId([0xab; 32]);

fn check(target: &str) -> Asked<'_> {
    match read(target.as_bytes()) {
        Some(Request::Check(asked)) => asked,
        other => panic!("{target}: {other:?}"),
    }
}

#[test]
fn its_check_is_that_of_libfota2() {
    let asked = check(ASK);
    let twin = "/luat/update?imei=862991443753386&project_key=K%261&firmware_name=A%20B%26C_LuatOS-SoC_\
                Air780EPM&version=2012.001.003";
    let query::Route::Check(twin) = query::route(twin.as_bytes()) else {
        panic!("no check");
    };
    assert_eq!(asked.check, twin);
    assert_eq!(asked.check.project(), "A B&C");
    assert_eq!(asked.check.core(), Some(2012));
}

#[test]
fn a_version_is_made_of_core_and_script_where_both_are_numbers() {
    let said = |core: &str, script: &str| version(core, script);
    assert_eq!(said("2012", "1.2.3"), ("2012.1.3".to_owned(), None));
    assert_eq!(said("V1103", "1.0.2"), ("1103.1.2".to_owned(), None));
    assert_eq!(said("", "1.2.3"), ("1.2.3".to_owned(), None));
    assert_eq!(said("2012", "1.2"), ("1.2".to_owned(), Some(2012)));
    assert_eq!(said("2012", "beta"), ("beta".to_owned(), Some(2012)));
    assert_eq!(said("2012", "1.2.x"), ("1.2.x".to_owned(), Some(2012)));
    assert_eq!(said("x", ""), (String::new(), None));
}

#[test]
fn the_three_paths_are_told_apart_from_others() {
    assert_eq!(
        read(b"/api/site/turnkey_fota_result"),
        Some(Request::Report)
    );
    assert!(matches!(
        read(b"/api/site/turnkey_fota"),
        Some(Request::Check(_))
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
fn a_url_brings_back_the_check_whose_answer_it_was_in() {
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
        let Some(Request::File(wanted)) = read(target.as_bytes()) else {
            panic!("{url}");
        };
        assert_eq!((wanted.content, wanted.mark), (A, 0xfe));
        // All but the key, which is no one's business on the way to the file.
        let without_key = Check {
            project_key: None,
            ..asked.check.clone()
        };
        assert_eq!(wanted.asked.check, without_key);
    }
    let long = format!("/api/site/turnkey_fota?script_name={}", "x".repeat(1200));
    assert_eq!(check(&long).url("http://h", A, 1), None);
}

#[test]
fn an_offer_says_what_libfota3_reads() {
    for (path, script, core) in [
        ("A B&C/2.0.1/u.bin", "2.0.1", 2012),
        ("A B&C/2013.001.004/u.bin", "001.000.004", 2013),
    ] {
        let found = Found {
            files: vec![FoundFile {
                path: path.to_owned(),
                stamp: Stamp {
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
                    kind: Kind::Generic,
                },
            }],
            ..Found::default()
        };
        let catalog = Catalog::build(found, None, Instant::now());
        let project = &catalog.projects()[0];
        let offer = Offer {
            project,
            release: &project.releases[0],
            package: &project.releases[0].packages[0],
        };
        let asked = check(ASK);
        let said: Value = serde_json::from_str(&asked.offer(&offer, "http://h/x", 7)).unwrap();
        let serial = format!("i310e3d5eb6baa-{A}-0000000000000007");
        let device = DeviceId::parse("862991443753386").unwrap();
        let serial = serial.replacen("310e3d5eb6baa", &format!("{:x}", device.parts().1), 1);
        let expected = json!({
            "code": 0, "msg": "ok", "script_version": script, "core_version": core, "size": 9000,
            "sha256": A.to_string(), "url": "http://h/x", "fota_sn": serial,
        });
        assert_eq!(said, expected);
        let body = json!({ "fota_sn": said["fota_sn"], "result_code": 2 }).to_string();
        let reported = Reported {
            device,
            content: A,
            mark: 7,
            result: 2,
        };
        assert_eq!(report(body.as_bytes()), Some(reported));
    }
}

#[test]
fn what_is_no_report_of_ours_is_none() {
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
