//! Promise: every name and version form that modules in the field send finds its release, and the log reports a check
//! whose name matches no release (docs/protocol.md 9a, 9b; docs/cases.md "Names and versions").

mod device_ids;

use crate::common;

use common::datagrams::{Device, Offer, Stream};
use common::packages::{EC7XX, EC618, delta_package, noise, script_package};
use common::{PATIENCE, Place, Rows, Server, both, get, run};
use serde_json::json;

/// An IMEI that no other request uses.
fn imei(number: usize) -> String {
    format!("86299144{:07}", 1_000_000 + number)
}

/// Repeats each check until it gets these bytes. A separate IMEI replaces the word `IMEI` in each target.
fn all_get(server: &Server, requests: &[(&str, &[u8])]) {
    let mut rows = Rows::default();
    for (number, (target, bytes)) in requests.iter().enumerate() {
        let target = target.replace("IMEI", &imei(number));
        let got = server.wait_for_reply(&get(&target), PATIENCE, |reply| {
            reply.status == 200 && reply.body == *bytes
        });
        rows.row(&target, got.map(|_| ()));
    }
    rows.finish();
}

/// Repeats each check until it gets this refusal. Call this function after all files have been read.
fn all_refused(server: &Server, requests: &[(&str, u16, u32)]) {
    let mut rows = Rows::default();
    for (number, (target, status, code)) in requests.iter().enumerate() {
        let target = target.replace("IMEI", &imei(5000 + number));
        rows.row(&target, server.get(&target).must_refuse(*status, *code));
    }
    rows.finish();
}

// Cases 1, 2, 3.
#[test]
fn every_marker_between_project_and_core_is_known_over_http_udp_and_tcp() {
    let place = Place::new();
    let files: Vec<Vec<u8>> = (0..8).map(|seed| noise(300 + seed, 5000)).collect();
    for (path, bytes) in [
        "AIRKIT/1.0.1/u.bin",
        "AIRTOP_1.0.2_LuatOS-Air_V4035_RDA8910_TTS_NOLVGL_FLOAT.dfota.bin",
        "HMIKIT/1.0.1/u.bin",
        "CSK/1.0.1/u.bin",
        "1.0.2_CTOP_CSDK_EC618.bin",
        "CNAME/1.0.1/CNAME_CSDK_RDA8910.bin",
        "MY_CSDK_TOOL/1.0.1/u.bin",
        "A_LuatOS-Air_B/1.0.1/u.bin",
    ]
    .iter()
    .zip(&files)
    {
        place.drop_firmware(path, bytes);
    }
    let server = Server::start_in(place, &[]);
    let begin = "/api/site/firmware_upgrade?project_key=k&imei=IMEI&device_key=&firmware_name=";
    let air = "LuatOS-Air_RDA8910_TTS_NOLVGL_FLOAT&core_version=4035&dfota=1&version=1.0.0";
    let hmi = "LuatOS-HMI_RDA8910&core_version=3201&dfota=1&version=1.0.0";
    let targets = [
        (format!("{begin}AIRKIT_{air}"), 0),
        (format!("{begin}AIRTOP_{air}"), 1),
        (format!("{begin}HMIKIT_{hmi}"), 2),
        (
            format!("{begin}HMIKIT_LuatOS-HMI_V3201_RDA8910&version=1.0.0"),
            2,
        ),
        (format!("{begin}CSK_CSDK_EC618&version=1.0.0"), 3),
        (format!("{begin}1.0.0_CSK_CSDK_EC618&version=1.0.0"), 3),
        // The version is in the name only.
        (format!("{begin}1.0.0_CSK_CSDK_EC618&version="), 3),
        (format!("{begin}CTOP_CSDK_EC618&version=1.0.1"), 4),
        (format!("{begin}CNAME_CSDK_RDA8910&version=1.0.0"), 5),
        // A project's name may contain a marker: the rightmost marker counts.
        (
            format!("{begin}MY_CSDK_TOOL_LuatOS-SoC_EC618&version=2012.1.0"),
            6,
        ),
        (format!("{begin}MY_CSDK_TOOL_CSDK_EC618&version=1.0.0"), 6),
        (format!("{begin}MY_CSDK_TOOL&version=1.0.0"), 6),
        (
            format!("{begin}A_LuatOS-Air_B_Luat_V0035_8955&version=1.0.0"),
            7,
        ),
        (format!("{begin}AIRKIT_luatos-air_rda8910&version=1.0.0"), 0),
    ];
    let requests: Vec<(&str, &[u8])> = targets
        .iter()
        .map(|(target, file)| (target.as_str(), files[*file].as_slice()))
        .collect();
    all_get(&server, &requests);
    // After any marker except LuatOS-SoC the first field is part of the version.
    let refused = format!("{begin}AIRKIT_LuatOS-Air_RDA8910&version=4035.1.0");
    all_refused(&server, &[(&refused, 404, 27)]);
    let device = Device::new(server.udp);
    for (name, file) in [
        ("AIRKIT_LuatOS-Air_V4035_RDA8910_TTS_NOLVGL_FLOAT", 0),
        ("AIRTOP_LuatOS-Air_V4035_RDA8910_TTS_NOLVGL_FLOAT", 1),
        ("HMIKIT_LuatOS-HMI_V3201_RDA8910", 2),
        ("CSK_CSDK_EC618", 3),
    ] {
        for message in [
            format!("{},{name},1.0.0", imei(9000)),
            format!("0,k,{},SN,{name},1.0.0", imei(9001)),
        ] {
            let offer = device.check(&message).unwrap();
            assert_eq!(device.download(offer).unwrap(), files[file], "{message}");
            let answer = Stream::connect(server.tcp).ask(&message).unwrap();
            Offer::parse(&answer).unwrap().must_be_for(5000).unwrap();
        }
    }
}

#[test]
fn each_version_form_in_use_gets_the_newer_release() {
    let place = Place::new();
    let core = delta_package(EC618, 310);
    let script = script_package(EC618, 311);
    let noise = noise(312, 5000);
    place.rules(
        "CSK/1.0.1/release.json",
        json!({ "from": ["1.0.0"], "base_core": 1 }),
    );
    place.drop_firmware("CSK/1.0.1/u.bin", &core);
    place.drop_firmware("DATEP/2025.01.01/u.bin", &script);
    place.drop_firmware("DATEQ/20240101/u.bin", &script);
    place.drop_firmware("FOURP/1.0.2/u.bin", &noise);
    place.drop_firmware("FOURQ_1103.1.2_LuatOS-SoC_EC618.bin", &script);
    let server = Server::start_in(place, &[]);
    let four = "/luat/update?imei=IMEI&project_key=k";
    let soc = |name: &str, version: &str| {
        format!("{four}&firmware_name={name}_LuatOS-SoC_EC618&version={version}")
    };
    let requests: [(String, &[u8]); 14] = [
        // Case 4.
        (
            "/luat/update?imei=IMEI&firmware_name=CSK&version=1.0.0".into(),
            &core,
        ),
        ("/luat/update/CSK?imei=IMEI&version=1.0.0".into(), &core),
        // Case 5.
        (
            "/luat/update/DATEP?imei=IMEI&version=2024.12.31".into(),
            &script,
        ),
        (
            "/luat/update/DATEP?imei=IMEI&version=2024-12-31".into(),
            &script,
        ),
        (
            "/luat/update/DATEQ?imei=IMEI&version=202312312359".into(),
            &script,
        ),
        // Case 6.
        (
            "/luat/update/DATEP?imei=IMEI&version=2024.01.01".into(),
            &script,
        ),
        (
            "/luat/update/DATEP?imei=IMEI&version=v2024.9.30".into(),
            &script,
        ),
        // Case 7.
        (
            "/luat/update/DATEQ?imei=IMEI&version=20231231".into(),
            &script,
        ),
        ("/luat/update/DATEQ?imei=IMEI&version=1.0.0".into(), &script),
        // Case 8.
        (soc("FOURP", "1103.1.0.1"), &noise),
        (
            "/luat/update/FOURP?imei=IMEI&version=1103.1.0.1".into(),
            &noise,
        ),
        // Case 9.
        (soc("FOURQ", "1103.1.0.1"), &script),
        (soc("FOURQ", "1103.1.9.1"), &script),
        (soc("FOURP", "1103.0.9.9"), &noise),
    ];
    let requests: Vec<(&str, &[u8])> = requests
        .iter()
        .map(|(target, bytes)| (target.as_str(), *bytes))
        .collect();
    all_get(&server, &requests);
    all_refused(
        &server,
        &[
            ("/luat/update/CSK?imei=IMEI&version=1.0.2", 404, 27),
            ("/luat/update/CSK?imei=IMEI&version=0.9.9", 403, 21),
            ("/luat/update/DATEP?imei=IMEI&version=2025.01.01", 404, 27),
            ("/luat/update/DATEP?imei=IMEI&version=2025.1.2", 404, 27),
            ("/luat/update/DATEQ?imei=IMEI&version=20240101", 404, 27),
            (&soc("FOURP", "1103.1.0.2"), 404, 27),
            (&soc("FOURP", "1103.1.1.0"), 404, 27),
            (&soc("FOURQ", "1103.1.0.2"), 404, 27),
            // A script package fits only the same core.
            (&soc("FOURQ", "1102.1.0.1"), 404, 26),
        ],
    );
}

// Case 40b.
#[test]
fn a_module_that_states_no_core_is_refused_with_two_remedies_that_both_work() {
    let place = Place::new();
    let bytes = script_package(EC7XX, 320);
    place.drop_firmware("P_2012.001.001_LuatOS-SoC_Air780EPM.bin", &bytes);
    let server = Server::start_in(place, &[]);
    let asked = format!("/luat/update/P?imei={}&version=1.0.0", imei(1));
    server.wait_until_refused(&asked, 404, 26);
    let cures = |text: &str| text.contains("as libfota2 does") && text.contains("any_core");
    server.wait_for_log("both cures", |line| {
        line.contains("\"verdict\":\"refuse\"") && cures(line)
    });
    let folder = server.place().firmware();
    let folder = folder.to_str().unwrap();
    for arguments in [&["check", folder][..], &["explain", folder, &asked]] {
        let said = both(&run(arguments));
        assert!(cures(&said), "{arguments:?}: {said}");
    }
    all_get(
        &server,
        &[(
            "/luat/update?imei=IMEI&firmware_name=P_LuatOS-SoC_Air780EPM&version=2012.1.0",
            &bytes,
        )],
    );
    server.rules("P/release.json", json!({ "any_core": true }));
    server.wait_until_offered(&asked, &bytes);
    let said = both(&run(&["check", folder]));
    assert!(!cures(&said), "{said}");
}

// Case 10.
#[test]
fn a_project_key_names_the_project_if_exactly_one_has_it() {
    let place = Place::new();
    let bytes: Vec<Vec<u8>> = (0..4).map(|seed| noise(330 + seed, 3000)).collect();
    place.rules("SOLO/1.0.1/release.json", json!({ "project_key": "k1" }));
    place.rules("WHOLE/release.json", json!({ "project_key": "k2" }));
    for project in ["TWIN1", "TWIN2"] {
        place.rules(
            &format!("{project}/release.json"),
            json!({ "project_key": "k3" }),
        );
    }
    for (project, bytes) in ["SOLO", "WHOLE", "TWIN1", "TWIN2"].iter().zip(&bytes) {
        place.drop_firmware(&format!("{project}/1.0.1/u.bin"), bytes);
    }
    let server = Server::start_in(place, &[]);
    let asks = "/api/site/firmware_upgrade?imei=IMEI&version=1.0.0";
    let key = |key: &str| format!("{asks}&project_key={key}");
    all_get(
        &server,
        &[
            (&key("k1"), &bytes[0]),
            (&key("k2"), &bytes[1]),
            (&format!("{}&firmware_name=", key("k1")), &bytes[0]),
            (&format!("{}&firmware_name=TWIN2", key("k3")), &bytes[3]),
            ("/api/version=1.0.0&imei=IMEI&project_key=k1", &bytes[0]),
            (
                "//luat/update?imei=IMEI&project_key=k1&version=1.0.0",
                &bytes[0],
            ),
        ],
    );
    let device = Device::new(server.udp);
    let offer = device
        .check(format!("0,k1,{},SN,,1.0.0", imei(9002)))
        .unwrap();
    assert_eq!(device.download(offer).unwrap(), bytes[0]);
    all_refused(
        &server,
        &[
            (&key("k3"), 404, 25),
            (&key("k4"), 404, 25),
            (&key(""), 404, 25),
            (asks, 404, 25),
            (
                &format!("{}&version=1.0.1", key("k1")).replace("version=1.0.0&", ""),
                404,
                27,
            ),
        ],
    );
    for said in [
        "several projects have this project_key",
        "no project has this project_key",
        "neither firmware_name nor project_key",
    ] {
        server.wait_for_log(said, |line| {
            line.contains("\"verdict\":\"refuse\"") && line.contains(said)
        });
    }
}

// Case 11.
#[test]
fn a_url_may_lack_its_question_mark_and_double_its_slashes() {
    let place = Place::new();
    let bytes = noise(340, 3000);
    place.drop_firmware("P/1.0.1/u.bin", &bytes);
    let server = Server::start_in(place, &[]);
    let targets = [
        "//luat/update/P?imei=IMEI&version=1.0.0",
        "///luat//update//P?imei=IMEI&version=1.0.0",
        "/luat/update/P/version=1.0.0&imei=IMEI",
        "/luat/update/Pversion=1.0.0&imei=IMEI",
        "//luat/update/P/version=1.0.0&imei=IMEI",
        "/luat/update/P&version=1.0.0&imei=IMEI",
        "/luat/update/P/imei=IMEI&version=1.0.0",
        "//api/site/firmware_upgrade?imei=IMEI&firmware_name=P&version=1.0.0",
        "/api//site/firmware_upgrade?imei=IMEI&firmware_name=P&version=1.0.0",
        "/api/site/firmware_upgrade/version=1.0.0&firmware_name=P&imei=IMEI",
        "/api/version=1.0.0&imei=IMEI&firmware_name=P",
        "//core_version=4035&version=1.0.0&imei=IMEI&firmware_name=P_LuatOS-Air_RDA8910",
    ];
    let requests: Vec<(&str, &[u8])> = targets.iter().map(|target| (*target, &*bytes)).collect();
    all_get(&server, &requests);
}

// Case 12.
#[test]
fn a_request_that_matches_nothing_gets_404_and_a_line_in_the_log() {
    let place = Place::new();
    place.drop_firmware("P/1.0.1/u.bin", &noise(341, 3000));
    let server = Server::start_in(place, &[]);
    server.wait_until_offered("/luat/update/P?version=1.0.0", &noise(341, 3000));
    for (target, said) in [
        (
            "/api/version=1.0.0&imei=862991443753386",
            "/api/version=1.0.0&imei=862991443753386",
        ),
        ("/upgrade?version=1.0.0", "/upgrade?version=1.0.0"),
        ("/luat/updater/P", "/luat/updater/P"),
        ("/firmware/P/1.0.1/u.bin", "P/1.0.1/u.bin"),
    ] {
        assert_eq!(server.get(target).status, 404, "{target}");
        let line = server.wait_for_log(target, |line| {
            line.contains(said) && line.contains("\"answer\":\"404\"")
        });
        assert!(line.contains("127.0.0.1"), "{line}");
    }
    let device = Device::new(server.udp);
    device
        .must_reply("no id,P_Luat_V0035_8955,1.0.0", "unknown function")
        .unwrap();
    let reply = Stream::connect(server.tcp)
        .ask("no id,Q_Luat_V0035_8955,1.0.0")
        .unwrap();
    assert_eq!(reply, b"unknown function");
    for said in ["no id,P_Luat", "no id,Q_Luat"] {
        server.wait_for_log(said, |line| {
            line.contains(said) && line.contains("unknown function")
        });
    }
    // The log line is bounded, and no byte of the request ends or colours it.
    let long = format!("/x%1b[31m{}", "y".repeat(4000));
    assert_eq!(server.get(&long).status, 404);
    let line = server.wait_for_log("the long one", |line| line.contains("yyyy"));
    assert!(line.len() < 600 && !line.contains('\u{1b}'), "{line}");
}

// Cases 13, 14, 39, 40.
#[test]
fn check_reports_what_is_unusual_in_a_name() {
    let place = Place::new();
    let script = script_package(EC7XX, 350);
    for (path, seed) in [
        (
            "SUF_2012.001.002_LuatOS-SoC_Air780EPM_202509011200.bin",
            350,
        ),
        ("SUG_2012.001.002_LuatOS-SoC_Air780EHM_8.bin", 351),
        ("SUX_2012.001.002_LuatOS-SoC_Air780EPM_FOTA.bin", 352),
        ("X_1.0.1.bin_20250623184110381812", 353),
        ("NO/1.0.1/u.bin_20250623", 354),
        ("core.soc", 355),
        ("cafe\u{301}/1.0.1/u.bin", 356),
    ] {
        place.drop_firmware(path, &script_package(EC7XX, seed));
    }
    let server = Server::start_in(place, &[]);
    let name = "SUF_LuatOS-SoC_Air780EPM";
    all_get(
        &server,
        &[(
            &format!("/luat/update?imei=IMEI&firmware_name={name}&version=2012.1.1"),
            &script,
        )],
    );
    let text = both(&run(&[
        "check",
        server.place().firmware().to_str().unwrap(),
    ]));
    let line = |name: &str| {
        let of = |line: &&str| line.contains(name) && line.contains(": ");
        text.lines()
            .find(of)
            .unwrap_or_else(|| panic!("{name}: {text}"))
    };
    assert!(line("SUG_").contains("`Air780EHM_8`"), "{text}");
    assert!(line("SUX_").contains("`Air780EPM_FOTA`"), "{text}");
    assert!(line("X_1.0.1.bin_").contains("rename it"), "{text}");
    assert!(line("u.bin_").contains("rename it"), "{text}");
    assert!(line("core.soc").contains("factory file"), "{text}");
    assert!(line("cafe").contains("macOS"), "{text}");
    assert!(
        !text
            .lines()
            .any(|line| line.contains("SUF_") && line.contains(": "))
    );
    for (name, said) in [("X_1.0.1.bin_", "rename it"), ("core.soc", "factory file")] {
        server.wait_for_log(name, |line| line.contains(name) && line.contains(said));
    }
}
