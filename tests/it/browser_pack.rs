//! Tests of a factory file on the page, in a real browser: the package made from the file, the download,
//! and the paused release.
#![cfg(all(feature = "operator", feature = "pack"))]

use crate::common;

use common::browser_session::{BrowserSession, card};
use common::luatos;
use common::packages::{SOC, noise, soc};
use serde_json::{Value, json};

const PACKAGE: &str = "METER_2020.1.1_LuatOS-SoC_Air780EPM.bin";

#[test]
fn a_dropped_factory_file_becomes_a_package_to_download_or_to_publish_paused() {
    let Some(session) = BrowserSession::open("a factory file is dropped", |place| {
        place.drop_firmware("METER/1.0.0/update.bin", &noise(5, 1000));
    }) else {
        return;
    };
    let browser = &session.browser;
    browser.wait_text(&card("METER", "1.0.0"), "Live");
    for n in 0..3 {
        let imei = (862_991_443_700_000_u64 + n * 7919).to_string();
        session
            .server
            .get(&luatos("METER", "Air780EPM", &imei, "2020.1.0"));
    }
    for (language, made, core, bill, paused, there) in [
        (
            "zh-CN,zh",
            "不含底层固件",
            "2020，不在升级包内",
            "3 台设备中有 3 台会升级",
            "上传并暂停",
            "处于暂停状态",
        ),
        (
            "en-GB,en",
            "The core is not included",
            "2020, not included",
            "3 of 3 devices will take it",
            "Upload, paused",
            "It is in the folder, paused",
        ),
    ] {
        browser.language(language);
        browser.open(&session.url(&format!("#token={}", session.token)));
        browser.wait_text(&card("METER", "1.0.0"), "1.0.0");
        // The file is dropped onto a release whose version differs from that of the script in the file.
        session.drop_file(&card("METER", "1.0.0"), SOC, &soc("METER", "1.0.1"));
        browser.wait_text(".file .note", PACKAGE);
        browser.wait_text(".file .note", made);
        browser.wait_text(".file .facts", core);
        browser.wait_text(".file .facts", "Air780EPM");
        browser.wait_text(".file .bill", bill);
        browser.wait_text(".file .upload", paused);
        if language.starts_with("zh") {
            continue;
        }
        let link = browser.js(
            "const link = document.querySelector('.file a[download]');
             return [link.download, link.href.startsWith('blob:')]",
            json!([]),
        );
        assert_eq!(link, json!([PACKAGE, true]));
        assert!(!session.server.place().firmware().join(PACKAGE).exists());
        browser.click(".file .upload");
        browser.wait_text(".file .good", there);
    }
    let rules = session.server.place().path("METER/2020.1.1/release.json");
    let rules: Value = serde_json::from_slice(&std::fs::read(rules).unwrap()).unwrap();
    assert_eq!(
        rules,
        json!({"percent": 0, "paused": "built here: verify on one module first"})
    );
    let landed = std::fs::read(session.server.place().firmware().join(PACKAGE)).unwrap();
    let sectors = luat_ota::pack::ec::unpack(&landed).unwrap();
    assert_eq!(sectors.len(), 1);
    session.go("#/releases");
    browser.wait_text(&card("METER", "2020.1.1"), "built here");
    let check = luatos("METER", "Air780EPM", common::IMEI, "2020.1.0");
    session.server.wait_until_refused(&check, 404, 27);
    session.assert_console_empty();
}

#[test]
fn a_factory_file_without_a_package_shows_the_reason_and_takes_missing_values() {
    let Some(session) = BrowserSession::open("a factory file without a version", |_| {}) else {
        return;
    };
    let browser = &session.browser;
    browser.wait_text("main .empty", "No release yet");
    session.drop_file("h1", "core.soc", &soc("METER", "1.0"));
    browser.wait_text(".file .bad", "No package can be made");
    let none = "return document.querySelector('.file .upload, .file a[download]') === null";
    assert_eq!(browser.js(none, json!([])), true);
    browser.fill(".file .field + .field input", "1.0.2");
    browser.fill(".file .field + .field + .field input", "Air780EPM");
    browser.wait_text(".file .note", "METER_2020.1.2_LuatOS-SoC_Air780EPM.bin");
    // A refusal is not mixed with the package that was made before.
    browser.fill(".file .field + .field input", "1.0");
    browser.wait_text(".file .bad", "No package can be made");
    // The browser reports the refusals as failed requests.
    browser.console();
}
