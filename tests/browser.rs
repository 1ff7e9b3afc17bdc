//! The page in a real browser: Chromium, headless, against a real server (apt-get install chromium
//! chromium-driver). On a machine without one every test here says that it was skipped; with CI=true
//! that is a failure, unless LUAT_OTA_NO_BROWSER=1. LUAT_OTA_SCREENSHOTS=1 makes the pictures of the
//! README anew.
#![cfg(feature = "operator")]
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing)]

mod common;
#[path = "common/webdriver.rs"]
mod webdriver;

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use common::packages::{EC7XX, noise, script_package};
use common::{Place, Server, SlowDownload, get, listens, luat};
use serde_json::{Value, json};
use webdriver::Browser;

const VIEWS: [&str; 5] = ["releases", "devices", "live", "explain", "drop"];

/// A server with a browser that shows its page.
struct Desk {
    browser: Browser,
    server: Server,
    operator: SocketAddr,
    token: String,
}

impl Desk {
    /// `None`: no browser here. The folder may be filled by `prepare`; the page is open, in English.
    fn open(test: &str, prepare: impl Fn(&Place)) -> Option<Desk> {
        let browser = Browser::start(test)?;
        let place = Place::new();
        prepare(&place);
        let server = Server::start_in(place, &[]);
        let operator = server.log.all();
        let operator = operator.iter().find_map(|line| listens(line, "operator"));
        let token = server.place().state().join("operator-token");
        let desk = Desk {
            token: std::fs::read_to_string(token).unwrap().trim().to_owned(),
            operator: operator.expect("the operator's side listens"),
            browser,
            server,
        };
        desk.browser.size(1180, 800);
        desk.browser.scheme("light");
        desk.browser.language("en-GB,en");
        desk.browser
            .open(&format!("{}#token={}", desk.url(""), desk.token));
        desk.browser.wait(
            "the event stream is up",
            "return document.querySelector('#link.streaming') !== null",
            json!([]),
        );
        Some(desk)
    }

    fn url(&self, hash: &str) -> String {
        format!("http://{}/{hash}", self.operator)
    }

    /// A view, as a link leads to it; the page is not loaded again.
    fn go(&self, hash: &str) {
        self.browser
            .js("location.hash = arguments[0]", json!([hash]));
    }

    /// Nothing may have been written to the console, nor any request have failed.
    fn quiet_console(&self) {
        let said = self.browser.console();
        assert!(said.is_empty(), "the console says:\n{}", said.join("\n"));
    }

    /// Drops a file with these bytes (each a letter of `text`) onto an element, as the browser would.
    fn drop_file(&self, css: &str, name: &str, bytes: &[u8]) {
        let script = "
            const [css, name, bytes] = arguments;
            const data = new DataTransfer();
            data.items.add(new File([new Uint8Array(bytes)], name));
            const target = document.querySelector(css);
            for (const kind of ['dragenter', 'dragover', 'drop']) {
                target.dispatchEvent(new DragEvent(kind, { bubbles: true, cancelable: true, dataTransfer: data }));
            }";
        self.browser.js(script, json!([css, name, bytes]));
    }
}

/// What the releases view says of one release.
fn card(project: &str, version: &str) -> String {
    format!("article[aria-label=\"{project} {version}\"]")
}

#[test]
fn a_dropped_file_shows_within_two_seconds_without_a_reload() {
    let Some(desk) = Desk::open("a dropped file shows", |_| {}) else {
        return;
    };
    desk.browser.wait_text("main .empty", "No release yet");
    desk.browser.js("window.same = true", json!([]));
    desk.server
        .drop_firmware("ALIYUN/2.0.1/update.bin", &noise(1, 50_000));
    desk.server.wait_for_log("says the file is available", |line| {
        line.contains("ALIYUN/2.0.1/update.bin is available")
    });
    let start = Instant::now();
    desk.browser.wait_text(&card("ALIYUN", "2.0.1"), "Live");
    let took = start.elapsed();
    assert!(took < Duration::from_secs(2), "it took {took:?}");
    desk.browser.wait_text("#toast", "ALIYUN 2.0.1");
    // What cannot be served is there with its reason, too.
    desk.server
        .drop_firmware("ALIYUN/2.0.2/core.soc", &noise(2, 1000));
    desk.browser.wait_text(".quarantined", "ALIYUN/2.0.2/core.soc");
    desk.browser.wait_text(".quarantined span", "factory");
    assert_eq!(desk.browser.js("return window.same", json!([])), true);
    desk.quiet_console();
}

#[test]
fn the_bar_of_a_running_download_moves() {
    let bytes = noise(3, 2_000_000);
    let Some(desk) = Desk::open("a download's bar moves", |place| {
        place.drop_firmware("P/2.0.0/update.bin", &noise(3, 2_000_000));
    }) else {
        return;
    };
    let target = luat("P", common::IMEI, "1.0.0");
    desk.server.wait_until_offered(&target, &bytes);
    desk.go("#/live");
    desk.browser.wait_text("h1", "Live");
    let mut download = SlowDownload::begin(desk.server.http, &get(&target), 100_000);
    let at = |desk: &Desk| {
        let value = desk.browser.wait(
            "a running download",
            "const bars = document.querySelectorAll('.downloads li:not(.complete):not(.broken) [role=progressbar]');
             return bars.length ? bars[0].getAttribute('aria-valuenow') + '%' : null",
            json!([]),
        );
        value.as_str().unwrap().trim_end_matches('%').parse::<f64>().unwrap()
    };
    let first = at(&desk);
    let end = Instant::now() + Duration::from_secs(30);
    let mut last = first;
    while last <= first {
        assert!(Instant::now() < end, "it stays at {first}");
        // Slower than the server tells of it, which is once a second.
        assert!(download.read(16 * 1024).unwrap() > 0, "it ended at {last}");
        std::thread::sleep(Duration::from_millis(100));
        last = at(&desk);
    }
    assert!(last <= 100.0, "{last}");
    assert_eq!(download.finish().unwrap().body, bytes);
    desk.browser.wait_text(".downloads li.complete", "complete");
    desk.browser.wait_text(".feed li", "offer");
    desk.quiet_console();
}

#[test]
fn pause_stops_offers_and_resume_brings_them_back() {
    let bytes = noise(4, 20_000);
    let Some(desk) = Desk::open("pause stops offers", |place| {
        place.drop_firmware("P/2.0.0/update.bin", &noise(4, 20_000));
    }) else {
        return;
    };
    let target = luat("P", common::IMEI, "1.0.0");
    desk.server.wait_until_offered(&target, &bytes);
    let release = card("P", "2.0.0");
    desk.browser.click(&format!("{release} [data-key=pause]"));
    desk.browser.wait_text("dialog", "No module is offered it");
    desk.browser.fill("#reason", "the field test is not over");
    desk.browser.click("dialog [type=submit]");
    desk.server.wait_until_refused(&target, 404, 27);
    desk.browser.wait_text(&release, "the field test is not over");
    let rules = desk.server.place().path("P/2.0.0/release.json");
    let written: Value = serde_json::from_slice(&std::fs::read(rules).unwrap()).unwrap();
    assert_eq!(written["paused"], "the field test is not over");
    desk.browser.click(&format!("{release} [data-key=resume]"));
    desk.browser.click("dialog [type=submit]");
    desk.server.wait_until_offered(&target, &bytes);
    desk.browser.click(&format!("{release} [data-key=percent]"));
    desk.browser.fill("dialog [type=number]", "0");
    desk.browser.wait_text("#means", "named singly");
    desk.browser.click("dialog [type=submit]");
    desk.server.wait_until_refused(&target, 404, 27);
    desk.browser.wait_text(&release, "Rolling out 0 %");
    desk.quiet_console();
}

#[test]
fn a_file_that_is_dropped_onto_the_page_is_uploaded() {
    let Some(desk) = Desk::open("drag and drop uploads", |place| {
        place.drop_firmware("ALIYUN/2.0.0/update.bin", &noise(5, 1000));
    }) else {
        return;
    };
    let browser = &desk.browser;
    browser.wait_text(&card("ALIYUN", "2.0.0"), "Live");
    // Luatools output anywhere: its name says all.
    let bytes = script_package(EC7XX, 6);
    let name = "FOTA2_DEMO_2012.001.004_LuatOS-SoC_Air780EPM.bin";
    desk.drop_file("h1", name, &bytes);
    browser.wait_text(".file", "FOTA2_DEMO");
    browser.wait_text(".file", "2012.001.004");
    browser.wait_text(".file", "Air780EPM");
    assert!(!desk.server.place().firmware().join(name).exists());
    browser.click(".file .upload");
    browser.wait_text(".file .good", "It is in the folder");
    let there = common::files_under(&desk.server.place().firmware());
    let path = there.iter().find(|path| path.ends_with(name));
    let path = path.unwrap_or_else(|| panic!("{there:?}"));
    let landed = std::fs::read(desk.server.place().firmware().join(path)).unwrap();
    assert_eq!(landed, bytes);
    desk.go("#/releases");
    browser.wait_text(&card("FOTA2_DEMO", "2012.001.004"), "Live");

    // Onto a project: only the version is missing.
    desk.drop_file(".project h2", "update.bin", &noise(7, 5000));
    browser.wait_text("li:first-child", "both project and version");
    browser.fill("li:first-child .field + .field input", "2.0.1");
    browser.wait_text("li:first-child .head", "update.bin");
    browser.click("li:first-child .upload");
    browser.wait_text("li:first-child .good", "It is in the folder");
    let path = desk.server.place().path("ALIYUN/2.0.1/update.bin");
    assert_eq!(std::fs::read(path).unwrap(), noise(7, 5000));

    // What the folder would quarantine is refused with the reason, before a byte of it is sent.
    desk.drop_file(".zone", "core.soc", &noise(8, 5000));
    browser.wait_text("li:first-child .bad", "Would not be served");
    browser.wait_text("li:first-child .bad", ".soc");
    let uploads = "return document.querySelectorAll('.file')[0].querySelector('.upload') === null";
    assert_eq!(browser.js(uploads, json!([])), true);
    desk.quiet_console();
}

#[test]
fn explain_explains() {
    let Some(desk) = Desk::open("explain explains", |place| {
        place.drop_firmware("P/2.0.0/update.bin", &noise(9, 1000));
    }) else {
        return;
    };
    let target = luat("P", common::IMEI, "1.0.0");
    desk.server.wait_until_offered(&target, &noise(9, 1000));
    desk.go("#/explain");
    desk.browser.fill("#request", &target);
    desk.browser.click("form:first-child [type=submit]");
    desk.browser.wait_text(".verdict h2", "It gets 2.0.0");
    desk.browser.wait_text(".verdict", "P/2.0.0/update.bin");
    desk.browser.fill("#e-imei", common::IMEI);
    desk.browser
        .fill("#e-firmware_name", "P_Luat_V0017_ASR1802");
    desk.browser.fill("#e-version", "2.0.0");
    desk.browser.click("form + form [type=submit]");
    desk.browser.wait_text(".verdict h2", "It gets nothing now");
    desk.browser.wait_text(".verdict", "404");
    desk.browser.wait_text(".verdict .notes", "2.0.0");
    desk.quiet_console();
}

#[test]
fn a_device_is_found_and_its_journey_shown() {
    let bytes = noise(10, 30_000);
    let Some(desk) = Desk::open("a device is found", |place| {
        place.drop_firmware("P/2.0.0/update.bin", &noise(10, 30_000));
    }) else {
        return;
    };
    desk.server
        .wait_until_offered(&luat("P", common::IMEI, "1.0.0"), &bytes);
    desk.go("#/devices");
    desk.browser.fill("#d-imei", &common::IMEI[..6]);
    desk.browser.wait_text(".devices .device", common::IMEI);
    desk.browser.fill("#d-imei", "999");
    desk.browser.wait_text("main [role=status]", "No device fits");
    desk.browser.fill("#d-imei", common::IMEI);
    desk.browser.click(".devices .device");
    desk.browser.wait_text("h1", common::IMEI);
    desk.browser.wait_text(".steps", "offered");
    desk.browser.wait_text("main", "30 kB of 30 kB");
    desk.quiet_console();
}

#[test]
fn the_page_speaks_the_browser_s_language_and_remembers_another() {
    let Some(desk) = Desk::open("both languages", |_| {}) else {
        return;
    };
    let browser = &desk.browser;
    browser.wait_text("h1", "Releases");
    browser.language("zh-CN,zh");
    browser.open(&desk.url(""));
    browser.wait_text("h1", "版本");
    let lang = "return document.documentElement.lang";
    assert_eq!(browser.js(lang, json!([])), "zh-CN");
    for view in VIEWS {
        desk.go(&format!("#/{view}"));
        browser.wait("the view is there", "return document.querySelector('main').dataset.view === arguments[0] && document.querySelector('h1')", json!([view]));
        let heading = browser.text("h1");
        assert!(!heading.is_ascii(), "{view} is headed {heading:?}");
    }
    browser.click("#lang");
    browser.wait_text("h1", "Drop");
    browser.open(&desk.url(""));
    browser.wait_text("h1", "Releases");
    assert_eq!(browser.js(lang, json!([])), "en");
    desk.quiet_console();
}
