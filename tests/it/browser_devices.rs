//! Tests of the fleet on the page, in a real browser (see `browser`).
#![cfg(feature = "operator")]

use crate::common;

use common::browser_session::{BrowserSession, card};
use common::packages::{EC618, noise, script_package};
use common::{PATIENCE, luat, luatos, wait_until};
use serde_json::json;

#[test]
fn a_device_is_found_and_its_update_progress_shown() {
    let bytes = noise(10, 30_000);
    let Some(session) = BrowserSession::open("a device is found", |place| {
        place.drop_firmware("P/2.0.0/update.bin", &noise(10, 30_000));
    }) else {
        return;
    };
    session
        .server
        .wait_until_offered(&luat("P", common::IMEI, "1.0.0"), &bytes);
    session.go("#/devices");
    session.browser.fill("#d-search", &common::IMEI[..6]);
    session.browser.wait_text(".devices .device", common::IMEI);
    session.browser.fill("#d-search", "999");
    session
        .browser
        .wait_text("main [role=status]", "No device fits");
    session.browser.fill("#d-search", &common::IMEI[11..]);
    session.browser.click(".devices .device");
    session.browser.wait_text("h1", common::IMEI);
    session.browser.wait_text(".steps", "offered");
    session
        .browser
        .wait_text("main", "30\u{a0}kB of 30\u{a0}kB");
    session.assert_console_empty();
}

// Case 42.
#[test]
fn the_explanation_of_a_device_uses_its_own_check() {
    let good = script_package(EC618, 62);
    let Some(session) = BrowserSession::open("a device's why", |place| {
        place.drop_firmware(
            "GOOD_2012.001.004_LuatOS-SoC_Air780E.bin",
            &script_package(EC618, 62),
        );
        place.drop_firmware("Q/1.0.1/u.bin", &noise(63, 3000));
    }) else {
        return;
    };
    let browser = &session.browser;
    let target = luatos("GOOD", "Air780E", common::IMEI, "2012.1.3");
    session.server.wait_until_offered(&target, &good);
    // A check of libfota, which has no marker and has the project in the path.
    let plain = "862991443750000";
    let without = format!("/luat/update/Q?imei={plain}&version=1.0.0");
    session
        .server
        .wait_until_offered(&without, &noise(63, 3000));
    for (language, gets) in [("en-GB,en", "It gets"), ("zh-CN,zh", "它会得到")] {
        browser.language(language);
        browser.open(&session.url(&format!("#token={}", session.token)));
        browser.wait_text("h1", "");
        session.go(&format!("#/devices/{}", common::IMEI));
        browser.wait_text(".facts", "Air780E");
        browser.wait_text(".facts", "2012");
        browser.click("a[href^='#/explain?']");
        browser.wait_text(".verdict h2", &format!("{gets} 2012.001.004"));
        browser.wait_text(".verdict", "GOOD_2012.001.004_LuatOS-SoC_Air780E.bin");
        session.go(&format!("#/devices/{plain}"));
        browser.wait_text("h1", plain);
        browser.click("a[href^='#/explain?']");
        browser.wait_text(".verdict h2", &format!("{gets} 1.0.1"));
    }
    session.assert_console_empty();
}

// Case 43 and case 44.
#[test]
fn the_bar_of_a_release_shows_how_many_of_the_fleet_are_updated_and_keeps_that_number() {
    let Some(session) = BrowserSession::open("a release's bar", |place| {
        place.drop_firmware("P/1.0.2/u.bin", &noise(64, 3000));
        place.rules("P/1.0.2/release.json", json!({ "percent": 10 }));
    }) else {
        return;
    };
    let browser = &session.browser;
    let imei = |n: u64| (862_991_443_700_000 + n * 7919).to_string();
    browser.wait_text(&card("P", "1.0.2"), "Rolling out 10 %");
    let mut updated = 0;
    for n in 0..120 {
        let target = |version| luat("P", &imei(n), version);
        if session.server.get(&target("1.0.1")).status == 200 {
            session.server.get(&target("1.0.2"));
            updated += 1;
        }
    }
    assert!((3..40).contains(&updated), "{updated} of 120");
    let bar = |release: &str| {
        let bar = format!("{} [role=progressbar]", card("P", release));
        let script = "
            const bar = document.querySelector(arguments[0]);
            const part = bar.querySelector('.confirmed');
            return [bar.getAttribute('aria-valuenow'), bar.getAttribute('aria-valuemax'),
                Math.round(100 * (part ? part.getBoundingClientRect().width : 0) / bar.getBoundingClientRect().width)];";
        browser.js(script, json!([bar]))
    };
    for (language, words) in [
        ("zh-CN,zh", format!("120 台设备中 {updated} 台已升级")),
        ("en-GB,en", format!("{updated} of 120 devices updated")),
    ] {
        browser.language(language);
        browser.open(&session.url(&format!("#token={}", session.token)));
        browser.wait_text(&format!("{} .updated", card("P", "1.0.2")), &words);
        let shown = bar("1.0.2");
        assert_eq!(shown[0], updated.to_string());
        assert_eq!(shown[1], "120");
        let width = shown[2].as_u64().unwrap();
        assert!(
            width.abs_diff(100 * updated / 120) <= 3,
            "{width} % for {updated} of 120"
        );
    }
    // The updated devices are offered a newer release.
    session
        .server
        .drop_firmware("P/1.0.3/u.bin", &noise(65, 3000));
    browser.wait_text(&format!("{} .updated", card("P", "1.0.3")), "0 of 120");
    for n in 0..120 {
        session.server.get(&luat("P", &imei(n), "1.0.2"));
    }
    browser.wait_text(&card("P", "1.0.3"), "120 delivered");
    let words = format!("{updated} of 120 devices updated");
    browser.wait_text(&format!("{} .updated", card("P", "1.0.2")), &words);
    session.assert_console_empty();
}

#[test]
fn a_held_device_is_found_and_its_hold_lifted() {
    let bytes = noise(52, 3000);
    let flags = ["--attempts", "2"];
    let Some(session) = BrowserSession::open_with("release from the guard", &flags, |place| {
        place.drop_firmware("P/2.0.0/update.bin", &noise(52, 3000));
    }) else {
        return;
    };
    let target = luat("P", common::IMEI, "1.0.0");
    session.server.wait_until_offered(&target, &bytes);
    // The device downloads the file repeatedly and keeps its version.
    wait_until("it is held back", PATIENCE, || {
        session.server.get(&target).status == 403
    });
    session.go("#/devices?held=1");
    session.browser.wait_text(".devices .state.held", "");
    session.browser.click(".devices .device");
    session.browser.click("[data-key=lift]");
    session.browser.click("dialog [type=submit]");
    session.server.wait_until_offered(&target, &bytes);
    let free = "return document.querySelector('[data-key=lift]') === null";
    session.browser.wait("nothing holds it", free, json!([]));
    session.assert_console_empty();
}

#[test]
fn a_device_shows_its_steps_its_last_refusal_and_what_it_would_get_now() {
    let Some(session) = BrowserSession::open("a device's steps", |place| {
        place.drop_firmware("P/2.0.0/update.bin", &noise(10, 3000));
    }) else {
        return;
    };
    let browser = &session.browser;
    session
        .server
        .wait_until_offered(&luat("P", common::IMEI, "1.0.0"), &noise(10, 3000));
    session.server.get(&luat("P", common::IMEI, "2.0.0"));
    let long = "862991443700001";
    let target = luat("P", long, "1.0.0-a-version-that-is-not-kept-whole");
    session.server.get(&target);
    for (language, words) in [
        (
            "zh-CN,zh",
            [
                "已确认",
                "没有更新的版本",
                "现在没有可给它的升级",
                "没有全部记录",
            ],
        ),
        (
            "en-GB,en",
            [
                "confirmed",
                "nothing newer",
                "It gets nothing now",
                "Not all of its last request",
            ],
        ),
    ] {
        let [confirmed, reason, nothing, unknown] = words;
        browser.language(language);
        for width in [390, 1440] {
            browser.size(width, 900);
            browser.open(&session.url(&format!("#token={}", session.token)));
            browser.wait_text("h1", "");
            session.go(&format!("#/devices/{}", common::IMEI));
            browser.wait_text(".log .state.confirmed", confirmed);
            browser.wait_text(".log li:first-child", reason);
            browser.wait_text(".facts", reason);
            browser.wait_text(".facts", "ASR1802");
            browser.wait_text(".verdict h2", nothing);
            browser.wait_text(".verdict code", "version=2.0.0");
            let times = "
                const of = (e) => e.getBoundingClientRect();
                return [...document.querySelectorAll('.log time')].every((e) => e.dateTime && of(e).right <= innerWidth);";
            assert_eq!(browser.js(times, json!([])), true);
            session.go(&format!("#/devices/{long}"));
            browser.wait_text("main", unknown);
        }
    }
    session.assert_console_empty();
}

#[test]
fn a_number_links_to_the_devices_that_it_counts_and_back() {
    let Some(session) = BrowserSession::open("numbers lead to devices", |place| {
        place.drop_firmware("P/2.0.0/update.bin", &noise(10, 3000));
    }) else {
        return;
    };
    let browser = &session.browser;
    let imei = |n: u64| (862_991_443_700_000 + n).to_string();
    session
        .server
        .wait_until_offered(&luat("P", &imei(0), "1.0.0"), &noise(10, 3000));
    for n in 1..12 {
        session.server.get(&luat("P", &imei(n), "1.0.0"));
        if n % 3 == 0 {
            session.server.get(&luat("P", &imei(n), "2.0.0"));
        }
    }
    for (language, words) in [
        ("zh-CN,zh", "12 台设备中的 3 台"),
        ("en-GB,en", "3 of 12 devices"),
    ] {
        browser.language(language);
        browser.open(&session.url(&format!("#token={}", session.token)));
        let number = format!("{} [data-key=of-confirmed]", card("P", "2.0.0"));
        browser.wait_text(&number, "3");
        browser.click(&number);
        browser.wait_text("main > [role=status]", words);
        let hash = browser.js("return location.hash", json!([]));
        assert_eq!(hash, "#/devices?project=P&to=2.0.0&state=confirmed");
        browser.js("history.back()", json!([]));
        browser.wait_text(&card("P", "2.0.0"), "2.0.0");
    }
    // The address contains the whole filter, and restores it when the page is loaded.
    session.go("#/devices?search=700003&sort=version");
    browser.wait_text("main > [role=status]", "1 of 12 devices");
    browser.click(".devices .device");
    browser.wait_text("h1", &imei(3));
    browser.js("history.back()", json!([]));
    browser.wait_text("main > [role=status]", "1 of 12 devices");
    let fields = "return [...document.querySelectorAll('#d-search, #d-sort')].map((field) => field.value).join()";
    assert_eq!(browser.js(fields, json!([])), "700003,version");
    session.assert_console_empty();
}

#[test]
fn a_list_is_downloaded_with_its_filter() {
    let Some(session) = BrowserSession::open("a list is downloaded", |place| {
        place.drop_firmware("P/2.0.0/update.bin", &noise(10, 3000));
    }) else {
        return;
    };
    session
        .server
        .wait_until_offered(&luat("P", common::IMEI, "1.0.0"), &noise(10, 3000));
    session.server.get(&luat("P", "862991443750000", "1.0.1"));
    let keep = "
        window.saved = [];
        const create = URL.createObjectURL;
        URL.createObjectURL = (blob) => { blob.arrayBuffer().then((bytes) => window.saved.push(new TextDecoder('utf-8', { ignoreBOM: true }).decode(bytes))); return create.call(URL, blob); };";
    session.browser.js(keep, json!([]));
    let saved = |css: &str| {
        session.browser.click(css);
        let text = session.browser.wait(
            "it is saved",
            "return window.saved.pop() ?? null",
            json!([]),
        );
        text.as_str().unwrap().to_owned()
    };
    session.go("#/devices?version=1.0.1");
    let csv = saved("[data-key=save-csv]");
    let csv = csv.strip_prefix('\u{feff}').expect("a mark of UTF-8");
    let rows = crate::operator_export::rows(csv);
    assert_eq!((rows.len(), rows[0]["id"].as_str()), (1, "862991443750000"));
    let json: serde_json::Value = serde_json::from_str(&saved("[data-key=save-json]")).unwrap();
    assert_eq!(json["devices"][0]["version"], "1.0.1");
    session.go("#/releases");
    session.browser.wait_text("article", "2.0.0");
    let csv = saved("[data-key=save-csv]");
    assert!(csv.contains("\r\nP,2.0.0,live,"), "{csv}");
    session.assert_console_empty();
}

#[test]
fn the_last_hour_is_drawn() {
    let Some(session) = BrowserSession::open("the last hour", |_| {}) else {
        return;
    };
    for n in 0..7 {
        session
            .server
            .get(&luat("P", common::IMEI, &format!("1.0.{n}")));
    }
    session.go("#/live");
    session
        .browser
        .wait_text("figcaption", "7 checks in the last hour");
    // The busiest minute has the full height, and a text states the number for users who cannot see the chart.
    let drawn = "
        const [chart] = document.querySelectorAll('.rates svg[role=img]');
        const bars = [...chart.querySelectorAll('rect.whole')];
        return bars.length > 0 && chart.getAttribute('aria-label').startsWith('7 checks')
            && Math.max(...bars.map((bar) => Number(bar.getAttribute('height')))) === 100
            && bars.every((bar) => bar.getBoundingClientRect().width > 1);";
    session.browser.wait("bars are drawn", drawn, json!([]));
    let pointed = "
        const chart = document.querySelector('.rates svg');
        const box = chart.getBoundingClientRect();
        chart.dispatchEvent(new PointerEvent('pointermove', { clientX: box.left + 1, clientY: box.top + 5 }));
        return document.querySelector('figcaption').textContent;";
    let said = session.browser.js(pointed, json!([]));
    assert_eq!(said, "59 min ago: 0 checks, 0 offers, 0\u{a0}B");
    session.assert_console_empty();
}
