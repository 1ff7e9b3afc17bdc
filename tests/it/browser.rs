//! Tests of the operator page in a real browser: headless Chromium against a real server (apt-get install chromium
//! chromium-driver). Without a browser each test reports that it was skipped; with CI=true that is a failure,
//! unless LUAT_OTA_NO_BROWSER=1.
#![cfg(feature = "operator")]

use crate::common;

use std::time::{Duration, Instant};

use common::browser_session::{BrowserSession, card};
use common::packages::{EC7XX, noise, script_package};
use common::{SlowDownload, get, luat, luatos};
use serde_json::{Value, json};

#[test]
fn a_dropped_file_shows_within_two_seconds_without_a_reload() {
    let Some(session) = BrowserSession::open("a dropped file shows", |_| {}) else {
        return;
    };
    session.browser.wait_text("main .empty", "No release yet");
    session.browser.js("window.same = true", json!([]));
    // Time from the drop to the page. A busy machine may be late once.
    let quick = (1..=3).any(|n| {
        let version = format!("2.0.{n}");
        let dropped = Instant::now();
        session
            .server
            .drop_firmware(&format!("ALIYUN/{version}/update.bin"), &noise(n, 50_000));
        session.browser.wait_text(&card("ALIYUN", &version), "Live");
        println!("{version} is on the page after {:?}", dropped.elapsed());
        dropped.elapsed() < Duration::from_secs(2)
    });
    assert!(quick);
    session.browser.wait_text("#toast", "ALIYUN 2.0.");
    // A file that cannot be served is shown with the reason, too.
    session
        .server
        .drop_firmware("ALIYUN/3.0.0/core.soc", &noise(2, 1000));
    session
        .browser
        .wait_text(".quarantined", "ALIYUN/3.0.0/core.soc");
    session.browser.wait_text(".quarantined span", "factory");
    assert_eq!(session.browser.js("return window.same", json!([])), true);
    session.assert_console_empty();
}

#[test]
fn the_bar_of_a_running_download_moves() {
    let bytes = noise(3, 2_000_000);
    let Some(session) = BrowserSession::open("a download's bar moves", |place| {
        place.drop_firmware("P/2.0.0/update.bin", &noise(3, 2_000_000));
    }) else {
        return;
    };
    let target = luat("P", common::IMEI, "1.0.0");
    session.server.wait_until_offered(&target, &bytes);
    session.go("#/live");
    session.browser.wait_text("h1", "Live");
    let mut download = SlowDownload::begin(session.server.http, &get(&target), 100_000);
    let at = || {
        let value = session.browser.js(
            "const bars = document.querySelectorAll('.downloads li:not(.complete):not(.broken) [role=progressbar]');
             return bars.length ? bars[0].getAttribute('aria-valuenow') : null",
            json!([]),
        );
        value.as_str().map(|text| text.parse::<f64>().unwrap())
    };
    // Progress appears when the module begins to download, and increases with the bytes that it receives.
    let end = Instant::now() + Duration::from_secs(30);
    let mut first: Option<f64> = None;
    let last = loop {
        assert!(Instant::now() < end, "it stays at {first:?}");
        // Slower than the server's progress events, which it sends once a second.
        assert!(download.read(16 * 1024).unwrap() > 0, "it ended");
        std::thread::sleep(Duration::from_millis(100));
        match (first, at()) {
            (Some(first), Some(now)) if now > first => break now,
            (None, Some(now)) => first = Some(now),
            _ => {}
        }
    };
    assert!(last <= 100.0, "{last}");
    assert_eq!(download.finish().unwrap().body, bytes);
    session
        .browser
        .wait_text(".downloads li.complete", "complete");
    session.browser.wait_text(".feed li", "offer");
    session.assert_console_empty();
}

#[test]
fn pause_stops_offers_and_resume_brings_them_back() {
    let bytes = noise(4, 20_000);
    let Some(session) = BrowserSession::open("pause stops offers", |place| {
        place.drop_firmware("P/2.0.0/update.bin", &noise(4, 20_000));
    }) else {
        return;
    };
    let target = luat("P", common::IMEI, "1.0.0");
    session.server.wait_until_offered(&target, &bytes);
    let release = card("P", "2.0.0");
    session
        .browser
        .click(&format!("{release} [data-key=pause]"));
    session
        .browser
        .wait_text("dialog", "No module is offered it");
    session
        .browser
        .fill("#reason", "the field test is not over");
    session.browser.click("dialog [type=submit]");
    session.server.wait_until_refused(&target, 404, 27);
    session
        .browser
        .wait_text(&release, "the field test is not over");
    let rules = session.server.place().path("P/2.0.0/release.json");
    let written: Value = serde_json::from_slice(&std::fs::read(rules).unwrap()).unwrap();
    assert_eq!(written["paused"], "the field test is not over");
    session
        .browser
        .click(&format!("{release} [data-key=resume]"));
    session.browser.click("dialog [type=submit]");
    session.server.wait_until_offered(&target, &bytes);
    session
        .browser
        .click(&format!("{release} [data-key=percent]"));
    session.browser.fill("dialog [type=number]", "0");
    session.browser.wait_text("#means", "names singly");
    session.browser.click("dialog [type=submit]");
    session.server.wait_until_refused(&target, 404, 27);
    session.browser.wait_text(&release, "Rolling out 0 %");
    session.assert_console_empty();
}

#[test]
fn without_a_token_there_is_a_field_for_one_in_both_languages() {
    let Some(session) = BrowserSession::open("the page has a field for the token", |place| {
        place.drop_firmware("P/2.0.0/update.bin", &noise(4, 2000));
    }) else {
        return;
    };
    let browser = &session.browser;
    let release = card("P", "2.0.0");
    let read = session.server.place().state().join("read-token");
    let read = std::fs::read_to_string(read).unwrap();
    for (language, title, wrong) in [
        ("zh-CN,zh", "登录", "令牌不对"),
        ("en-GB,en", "Sign in", "not the right token"),
    ] {
        browser.js("sessionStorage.clear()", json!([]));
        browser.language(language);
        browser.open(&session.url("#/releases"));
        browser.wait_text(".login h1", title);
        let views = "return document.querySelectorAll('article').length";
        assert_eq!(
            browser.js(views, json!([])),
            0,
            "nothing is shown without a token"
        );
        // Another view requires the token, too.
        session.go("#/devices");
        browser.wait_text(".login h1", title);
        session.go("#/releases");
        session.assert_console_empty();
        browser.fill("#token", "a-wrong-token");
        browser.click(".login [type=submit]");
        browser.wait_text(".login [role=alert]", wrong);
        browser.console();
        browser.fill("#token", &session.token);
        browser.click(".login [type=submit]");
        browser.wait_text(&release, "1");
        let up = "return document.querySelector('#link.streaming') !== null";
        browser.wait("the event stream is up", up, json!([]));
    }
    // A link with a wrong token shows the field again, with the reason.
    browser.open(&session.url("#token=not-this-one"));
    browser.wait_text(".login [role=alert]", "not the right token");
    // The read token shows everything; a change requires the operator token.
    browser.fill("#token", read.trim());
    browser.click(".login [type=submit]");
    browser.wait_text(&release, "Live");
    browser.click(&format!("{release} [data-key=pause]"));
    browser.click("dialog [type=submit]");
    browser.wait_text("dialog", "only reads");
    browser.fill("dialog #token", &session.token);
    browser.click("dialog [type=submit]");
    browser.wait_text(&release, "Paused");
}

#[test]
fn the_page_asks_for_the_token_again_if_a_change_is_refused() {
    let Some(session) = BrowserSession::open("the token is asked for", |place| {
        place.drop_firmware("P/2.0.0/update.bin", &noise(4, 2000));
    }) else {
        return;
    };
    let browser = &session.browser;
    let release = card("P", "2.0.0");
    // The token of the link is kept for this tab and removed from the address.
    browser.wait_text(&release, "Live");
    let address = browser.js("return location.href", json!([]));
    assert_eq!(address, session.url("#/releases"));
    let pause = format!("{release} [data-key=pause]");
    browser.click(&pause);
    browser.js(
        "sessionStorage.setItem('luat-ota.token', 'no-longer-good')",
        json!([]),
    );
    // At the same time the page reads its summary with this token. Whichever answer comes first, a token that is given
    // in the dialog is enough.
    browser.js(
        "document.dispatchEvent(new Event('visibilitychange')); \
         document.querySelector('dialog [type=submit]').click()",
        json!([]),
    );
    browser.wait_text("dialog", "Token needed");
    browser.fill("dialog #token", "wrong-token");
    browser.click("dialog [type=submit]");
    browser.wait_text("dialog", "not the right token");
    browser.fill("dialog #token", &session.token);
    browser.click("dialog [type=submit]");
    browser.wait_text(&release, "Paused");
}

#[test]
fn a_file_that_is_dropped_onto_the_page_is_uploaded() {
    let Some(session) = BrowserSession::open("drag and drop uploads", |place| {
        place.drop_firmware("ALIYUN/2.0.0/update.bin", &noise(5, 1000));
    }) else {
        return;
    };
    let browser = &session.browser;
    browser.wait_text(&card("ALIYUN", "2.0.0"), "Live");
    // A file that Luatools made can be dropped anywhere: its name contains project, version and platform.
    let bytes = script_package(EC7XX, 6);
    let name = "FOTA2_DEMO_2012.001.004_LuatOS-SoC_Air780EPM.bin";
    session.drop_file("h1", name, &bytes);
    browser.wait_text(".file", "FOTA2_DEMO");
    browser.wait_text(".file", "2012.001.004");
    browser.wait_text(".file", "Air780EPM");
    assert!(!session.server.place().firmware().join(name).exists());
    browser.click(".file .upload");
    browser.wait_text(".file .good", "It is in the folder");
    let there = common::files_under(&session.server.place().firmware());
    let path = there.iter().find(|path| path.ends_with(name));
    let path = path.unwrap_or_else(|| panic!("{there:?}"));
    let landed = std::fs::read(session.server.place().firmware().join(path)).unwrap();
    assert_eq!(landed, bytes);
    session.go("#/releases");
    browser.wait_text(&card("FOTA2_DEMO", "2012.001.004"), "Live");

    // A file that is dropped onto a project lacks only the version.
    session.drop_file(".project h2", "update.bin", &noise(7, 5000));
    browser.wait_text("li:first-child", "both project and version");
    browser.fill("li:first-child .field + .field input", "2.0.1");
    browser.wait_text("li:first-child .head", "update.bin");
    browser.wait_text("li:first-child .bill", "No device");
    // A user who types and immediately clicks must not upload according to the reply for the earlier text.
    let reachable = "
        const [file, text] = [document.querySelector('li:first-child'), arguments[0]];
        if (text) {
            const field = file.querySelector('input[id^=allow]');
            field.value = text;
            field.dispatchEvent(new Event('input'));
        }
        const upload = file.querySelector('.upload');
        return Boolean(upload) && !upload.closest('[inert]');";
    assert_eq!(browser.js(reachable, json!([""])), true);
    assert_eq!(browser.js(reachable, json!(["8629914"])), false);
    browser.wait("it can be uploaded", reachable, json!([""]));
    // The rules are written before the file (case 52).
    browser.click("li:first-child summary");
    browser.fill("li:first-child input[id^=allow]", "862991443753386");
    browser.click("li:first-child .upload");
    browser.wait_text("li:first-child .good", "It is in the folder");
    let rules = session.server.place().path("ALIYUN/2.0.1/release.json");
    let rules = std::fs::read_to_string(rules).unwrap();
    assert_eq!(rules, "{\"allow\":[\"862991443753386\"]}\n");
    let path = session.server.place().path("ALIYUN/2.0.1/update.bin");
    assert_eq!(std::fs::read(path).unwrap(), noise(7, 5000));

    // A file that would be quarantined is refused with the reason before any byte is sent.
    session.go("#/releases");
    browser.wait_text(&card("ALIYUN", "2.0.1"), "Live");
    session.drop_file(&card("ALIYUN", "2.0.1"), "core.binpkg", &noise(8, 5000));
    browser.wait_text("li:first-child .bad", "Would not be served");
    browser.wait_text("li:first-child .bad", "factory file");
    let none = "return document.querySelector('li:first-child .upload') === null";
    assert_eq!(browser.js(none, json!([])), true);

    session.assert_console_empty();
}

#[test]
fn explain_shows_the_decision_and_its_reasons() {
    let Some(session) = BrowserSession::open("explain explains", |place| {
        place.drop_firmware("P/2.0.0/update.bin", &noise(9, 1000));
    }) else {
        return;
    };
    let target = luat("P", common::IMEI, "1.0.0");
    session.server.wait_until_offered(&target, &noise(9, 1000));
    session.go("#/explain");
    session.browser.fill("#request", &target);
    session.browser.click("form:first-child [type=submit]");
    session.browser.wait_text(".verdict h2", "It gets 2.0.0");
    session.browser.wait_text(".verdict", "P/2.0.0/update.bin");
    session.browser.fill("#e-imei", common::IMEI);
    session
        .browser
        .fill("#e-firmware_name", "P_Luat_V0017_ASR1802");
    session.browser.fill("#e-version", "2.0.0");
    session.browser.click("form + form [type=submit]");
    session
        .browser
        .wait_text(".verdict h2", "It gets nothing now");
    session.browser.wait_text(".verdict", "404");
    session.browser.wait_text(".verdict .notes", "2.0.0");
    session.assert_console_empty();
}

#[test]
fn the_page_continues_without_the_event_stream() {
    let Some(mut session) = BrowserSession::open("no event stream", |_| {}) else {
        return;
    };
    // Sixteen slow readers use all connections that the server permits.
    let mut readers = Vec::new();
    session.browser.open("about:blank");
    for _ in 0..16 {
        readers.push(SlowDownload::begin(
            session.operator,
            format!(
                "GET /api/v1/events HTTP/1.1\r\nHost: {}\r\n\r\n",
                session.operator
            )
            .as_bytes(),
            20,
        ));
    }
    session.browser.open(&session.url("#/live"));
    session
        .browser
        .wait_text("main .note", "Live events are not available");
    session.go("#/releases");
    session.browser.wait_text("main .empty", "No release yet");
    session
        .server
        .drop_firmware("P/1.0.0/update.bin", &noise(40, 3000));
    session.browser.wait_text(&card("P", "1.0.0"), "Live");
    drop(readers);
    session.browser.wait(
        "the event stream is back",
        "return document.querySelector('#link.streaming') !== null",
        json!([]),
    );
    assert!(session.server.is_running());
}

#[test]
fn the_page_warns_of_a_version_below_that_of_most_devices_and_shows_the_traffic() {
    let Some(session) = BrowserSession::open("doubt and bill", |place| {
        place.drop_firmware("P/2.0.0/update.bin", &noise(50, 1000));
    }) else {
        return;
    };
    let browser = &session.browser;
    browser.wait_text(&card("P", "2.0.0"), "Live");
    let imei = |n: u64| (862_991_443_700_000 + n * 7919).to_string();
    for n in 0..5 {
        session.server.get(&luat("P", &imei(n), "3.0.0"));
    }
    session.server.get(&luat("P", &imei(5), "1.0.0"));
    session.drop_file(".project h2", "update.bin", &noise(51, 20_000));
    browser.fill("li:first-child .field + .field input", "2.5.0");
    browser.wait_text(
        ".file .bill",
        "1 of 6 devices will take it: 1 × 20\u{a0}kB = 20\u{a0}kB",
    );
    browser.wait_text(
        ".file .reason",
        "5 of 6 devices will not take it: nothing newer",
    );
    // Nothing is sent before the operator has confirmed the warning.
    let waits = "return document.querySelector('.file .upload').disabled";
    assert_eq!(browser.js(waits, json!([])), true);
    browser.click(".file [role=status] .check input");
    browser.click(".file .upload");
    browser.wait_text(".file .good", "It is in the folder");
    let landed = session.server.place().path("P/2.5.0/update.bin");
    assert_eq!(std::fs::read(landed).unwrap(), noise(51, 20_000));
    session.assert_console_empty();
}

// Case 41.
#[test]
fn the_upload_page_says_how_many_of_a_fleet_that_reports_its_core_will_take_a_plain_version() {
    let Some(session) = BrowserSession::open("numbers of an upload", |place| {
        place.drop_firmware("P/1.0.3/u.bin", &noise(60, 3000));
    }) else {
        return;
    };
    let browser = &session.browser;
    let imei = |n: u64| (862_991_443_700_000 + n * 7919).to_string();
    browser.wait_text(&card("P", "1.0.3"), "Live");
    for n in 0..7 {
        session
            .server
            .get(&luatos("P", "Air780E", &imei(n), "2012.1.2"));
    }
    for n in 7..9 {
        session
            .server
            .get(&luatos("P", "Air780E", &imei(n), "2012.2.0"));
    }
    for (language, bill, others) in [
        (
            "en-GB,en",
            "7 of 9 devices will take it: 7 × 20\u{a0}kB",
            "2: nothing newer",
        ),
        ("zh-CN,zh", "9 台设备中有 7 台会升级", "2: 没有更新的版本"),
    ] {
        browser.language(language);
        browser.open(&session.url(&format!("#token={}", session.token)));
        browser.wait_text(&card("P", "1.0.3"), "1.0.3");
        session.drop_file(".project h2", "new.bin", &noise(61, 20_000));
        browser.fill("li:first-child .field + .field input", "1.0.9");
        browser.wait_text(".file .bill", bill);
        browser.wait_text(".file .others", others);
        let none = "return document.querySelector('.file .reason') === null";
        assert_eq!(browser.js(none, json!([])), true, "nothing is doubtful");
        // Rules that are uploaded before the file reduce the number.
        browser.click(".file details summary");
        browser.fill("input[id^=allow-]", &format!("{} {}", imei(0), imei(1)));
        let fewer = bill.replace("7 of 9", "2 of 9").replace("7 × 20", "2 × 20");
        browser.wait_text(".file .bill", &fewer.replace("有 7 台", "有 2 台"));
    }
    session.assert_console_empty();
}

#[test]
fn an_empty_server_shows_a_picture_and_the_first_step() {
    let Some(session) = BrowserSession::open("the empty state", |_| {}) else {
        return;
    };
    let browser = &session.browser;
    browser.wait_text(".empty h2", "No release yet");
    let picture = "
        const box = document.querySelector('.empty svg.picture').getBoundingClientRect();
        return box.width > 200 && box.height > 80;";
    browser.wait("there is a picture", picture, json!([]));
    browser.wait_text(".empty pre", "firmware/ALIYUN/2.0.1/update.bin");
    browser.click(".empty a.primary");
    browser.wait_text("h1", "Upload");
    session.assert_console_empty();
}
