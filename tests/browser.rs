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
    desk.server
        .wait_for_log("says the file is available", |line| {
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
    desk.browser
        .wait_text(".quarantined", "ALIYUN/2.0.2/core.soc");
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
        value
            .as_str()
            .unwrap()
            .trim_end_matches('%')
            .parse::<f64>()
            .unwrap()
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
    desk.browser
        .wait_text(&release, "the field test is not over");
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
fn who_has_no_token_is_asked_for_it_when_something_is_to_be_changed() {
    let Some(desk) = Desk::open("the token is asked for", |place| {
        place.drop_firmware("P/2.0.0/update.bin", &noise(4, 2000));
    }) else {
        return;
    };
    let browser = &desk.browser;
    let release = card("P", "2.0.0");
    // The link's token is kept for this tab, and is gone from the address.
    browser.wait_text(&release, "Live");
    let address = browser.js("return location.href", json!([]));
    assert_eq!(address, desk.url("#/releases"));
    browser.js("sessionStorage.clear()", json!([]));
    browser.open(&desk.url("#/releases"));
    let pause = format!("{release} [data-key=pause]");
    browser.click(&pause);
    browser.click("dialog [type=submit]");
    browser.wait_text("dialog", "Token needed");
    browser.fill("#token", "wrong");
    browser.click("dialog [type=submit]");
    browser.wait_text("dialog", "not the right token");
    browser.fill("#token", &desk.token);
    browser.click("dialog [type=submit]");
    browser.wait_text(&release, "Paused");
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
    desk.go("#/releases");
    browser.wait_text(&card("ALIYUN", "2.0.1"), "Live");
    desk.drop_file(&card("ALIYUN", "2.0.1"), "core.soc", &noise(8, 5000));
    browser.wait_text("li:first-child .bad", "Would not be served");
    browser.wait_text("li:first-child .bad", "factory file");
    let none = "return document.querySelector('li:first-child .upload') === null";
    assert_eq!(browser.js(none, json!([])), true);

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
    desk.browser
        .wait_text("main [role=status]", "No device fits");
    desk.browser.fill("#d-imei", common::IMEI);
    desk.browser.click(".devices .device");
    desk.browser.wait_text("h1", common::IMEI);
    desk.browser.wait_text(".steps", "offered");
    desk.browser.wait_text("main", "30\u{a0}kB of 30\u{a0}kB");
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

const LONG: &str = "A-PROJECT-WITH-A-NAME-AS-LONG-AS-NAMES-CAN-GET-IN-THE-FIELD";

/// A folder with releases in every state, long names and things that cannot be served.
fn a_full_folder(place: &Place) {
    for (path, seed) in [
        ("ALIYUN/2.0.2/update.bin", 20),
        ("ALIYUN/2.0.1/update.bin", 21),
        ("ALIYUN/2.0.0/update.bin", 22),
        ("WATER-METER/1.4.0/update.bin", 23),
        ("WATER-METER/1.3.9/update.bin", 24),
        (&format!("{LONG}/10.20.30/update.bin"), 25),
    ] {
        place.drop_firmware(path, &noise(seed, 486_120));
    }
    let luatools = "FOTA2_DEMO_2012.001.004_LuatOS-SoC_Air780EPM.bin";
    place.drop_firmware(luatools, &script_package(EC7XX, 26));
    place.rules(
        "ALIYUN/2.0.2/release.json",
        json!({ "percent": 60, "from": "1.9.0-2.0.1" }),
    );
    place.rules(
        "WATER-METER/1.4.0/release.json",
        json!({ "paused": "the field test in Hangzhou is not over", "allow": [common::IMEI] }),
    );
    place.rules(
        "FOTA2_DEMO/release.json",
        json!({ "not_before": "2099-01-01T00:00:00+08:00" }),
    );
    place.drop_firmware(
        "ALIYUN/2.0.3/LuatOS-SoC_V2012_Air780EPM.soc",
        &noise(27, 900),
    );
    place.drop_firmware(
        "WATER-METER/1.4.1/update.bin",
        b"<!DOCTYPE html><html>404</html>",
    );
}

/// Modules that ask, load, come back, and some that are still at it.
fn a_busy_fleet(server: &Server) -> Vec<SlowDownload> {
    let imei = |n: u64| (862_991_443_700_000 + n * 7919).to_string();
    let bytes = noise(21, 486_120);
    server.wait_until_offered(&luat("ALIYUN", &imei(0), "1.0.0"), &bytes);
    for n in 0..24 {
        let from = ["2.0.0", "2.0.1", "1.9.8"][n as usize % 3];
        server.get(&luat("ALIYUN", &imei(n), from));
        if n % 4 != 0 {
            server.get(&luat("ALIYUN", &imei(n), "2.0.2"));
        }
        server.get(&luat("WATER-METER", &imei(100 + n), "1.3.9"));
    }
    server.get(&luat("NOTHING", &imei(200), "1.0.0"));
    (300..340)
        .map(|n| luat("ALIYUN", &imei(n), "2.0.0"))
        .filter(|target| server.get(target).status == 200)
        .take(4)
        .map(|target| SlowDownload::begin(server.http, &get(&target), 60_000))
        .collect()
}

/// Opens each view in turn, with what it shows at its fullest.
fn each_view(desk: &Desk, mut look: impl FnMut(&str)) {
    for view in VIEWS {
        desk.go(&format!("#/{view}"));
        desk.browser.wait(
            "the view is there",
            "return document.querySelector('main').dataset.view === arguments[0] && document.querySelector('h1') !== null",
            json!([view]),
        );
        match view {
            "releases" => desk.browser.wait_text(".quarantined", ".soc"),
            "live" => desk.browser.wait_text(".rates", "60 "),
            "explain" => {
                desk.browser
                    .fill("#request", &luat("ALIYUN", common::IMEI, "1.0.0"));
                desk.browser.click("form:first-child [type=submit]");
                desk.browser.wait_text(".verdict .notes", "ALIYUN");
            }
            "drop" => {
                for name in [
                    "core.soc",
                    "FOTA2_DEMO_2012.001.005_LuatOS-SoC_Air780EPM.bin",
                ] {
                    desk.drop_file("main", name, &script_package(EC7XX, 30));
                }
                desk.browser.wait_text(".file .upload", "");
            }
            _ => {}
        }
        look(view);
        if view == "devices" {
            let first =
                "const a = document.querySelector('.device'); if (a) a.click(); return a !== null";
            if desk.browser.js(first, json!([])) == true {
                desk.browser.wait_text(".facts", "ALIYUN");
                look("device");
            }
        }
    }
}

#[test]
fn no_view_is_wider_than_a_phone_of_360_pixels() {
    let Some(desk) = Desk::open("360 pixels", a_full_folder) else {
        return;
    };
    let _running = a_busy_fleet(&desk.server);
    let wide = "
        const root = document.documentElement;
        const out = [...document.querySelectorAll('body *')].filter((e) => e.checkVisibility() && !e.closest('pre, .skip, .symbols') && e.getBoundingClientRect().right > innerWidth + 0.5);
        return (root.scrollWidth > innerWidth ? [root.scrollWidth + ' pixels'] : []).concat(out.map((e) => e.tagName + '.' + e.className + ' ' + e.textContent.slice(0, 40)));";
    let small = "
        const out = [...document.querySelectorAll('button, select, input:not([type=checkbox]):not([type=range]):not([type=file]), nav a, summary, label.check')].filter((e) => e.checkVisibility() && e.getBoundingClientRect().height < 43.5);
        return out.map((e) => e.tagName + ' ' + e.textContent);";
    for language in ["en-GB,en", "zh-CN,zh"] {
        desk.browser.size(360, 740);
        desk.browser.language(language);
        desk.browser.open(&desk.url(""));
        each_view(&desk, |view| {
            let found = desk.browser.js(wide, json!([]));
            assert_eq!(
                found,
                json!([]),
                "{view} in {language} is wider than the window"
            );
            let found = desk.browser.js(small, json!([]));
            assert_eq!(
                found,
                json!([]),
                "{view} in {language}: too small for a finger"
            );
        });
    }
    desk.quiet_console();
}

/// Text on its ground by WCAG 2.2 (1.4.3): 4.5 to 1, large text 3 to 1. Gives what is less.
const CONTRAST: &str = "
    const channel = (v) => { v /= 255; return v <= 0.04045 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4; };
    const light = ([r, g, b]) => 0.2126 * channel(r) + 0.7152 * channel(g) + 0.0722 * channel(b);
    const colour = (text) => { const n = text.match(/[\\d.]+/g).map(Number); return n.length < 4 ? [...n, 1] : n; };
    const over = (top, under) => [0, 1, 2].map((at) => top[at] * top[3] + under[at] * (1 - top[3]));
    const ground = (e) => {
        const layers = [];
        for (; e; e = e.parentElement) layers.push(colour(getComputedStyle(e).backgroundColor));
        return layers.reverse().reduce((under, top) => over(top, under), [255, 255, 255]);
    };
    const bad = [];
    let seen = 0;
    const walk = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
    while (walk.nextNode()) {
        const e = walk.currentNode.parentElement;
        if (!walk.currentNode.data.trim() || !e.checkVisibility({ visibilityProperty: true }) || e.closest('.skip, :disabled, .visually-hidden')) continue;
        const style = getComputedStyle(e);
        const under = ground(e);
        const text = over(colour(style.color), under);
        const [a, b] = [light(text), light(under)].sort((x, y) => y - x);
        const size = parseFloat(style.fontSize);
        const least = size >= 24 || (size >= 18.66 && style.fontWeight >= 700) ? 3 : 4.5;
        const ratio = (a + 0.05) / (b + 0.05);
        seen += 1;
        if (ratio < least) bad.push(`${ratio.toFixed(2)} ${e.tagName}.${e.className}: ${walk.currentNode.data.slice(0, 30)}`);
    }
    return seen > 8 ? bad : ['only ' + seen + ' texts were seen'];";

#[test]
fn text_can_be_read_in_both_themes() {
    let Some(desk) = Desk::open("contrast", a_full_folder) else {
        return;
    };
    let _running = a_busy_fleet(&desk.server);
    for theme in ["light", "dark"] {
        desk.browser.scheme(theme);
        let now = "return document.documentElement.dataset.theme === arguments[0]";
        desk.browser
            .wait("the theme follows the system", now, json!([theme]));
        each_view(&desk, |view| {
            let found = desk.browser.js(CONTRAST, json!([]));
            assert_eq!(found, json!([]), "{view}, {theme}");
        });
    }
    // The switch wins over the system, and is remembered.
    desk.browser.click("#theme");
    desk.browser.open(&desk.url(""));
    let light = "return document.documentElement.dataset.theme === 'light'";
    desk.browser.wait("the theme was chosen", light, json!([]));
    desk.quiet_console();
}

#[test]
fn everything_can_be_reached_with_the_keyboard() {
    const TAB: char = '\u{E004}';
    let Some(desk) = Desk::open("keyboard", a_full_folder) else {
        return;
    };
    desk.browser.wait_text(&card("ALIYUN", "2.0.1"), "Live");
    let all = "
        const all = [...document.querySelectorAll('a[href], button:not(:disabled), input:not(:disabled), select, textarea, summary')].filter((e) => e.checkVisibility());
        const unnamed = all.filter((e) => !(e.textContent.trim() || e.getAttribute('aria-label') || (e.labels && e.labels.length)));
        return unnamed.length ? unnamed.map((e) => e.outerHTML) : all.length;";
    let step = "
        const e = document.activeElement;
        if (e === document.body) return null;
        e.dataset.reached = '1';
        const ring = e.id === 'choose' ? document.querySelector('.zone') : e;
        const style = getComputedStyle(ring);
        return style.outlineStyle !== 'none' && parseFloat(style.outlineWidth) >= 2 ? 'ring' : 'no ring: ' + e.outerHTML.slice(0, 100);";
    let missed = "
        return [...document.querySelectorAll('a[href], button:not(:disabled), input:not(:disabled), select, textarea, summary')]
            .filter((e) => e.checkVisibility() && !e.dataset.reached).map((e) => e.outerHTML.slice(0, 120));";
    each_view(&desk, |view| {
        let count = desk.browser.js(all, json!([]));
        let count = count
            .as_u64()
            .unwrap_or_else(|| panic!("{view}: without a name: {count}"));
        desk.browser
            .js("document.activeElement.blur(); scrollTo(0, 0)", json!([]));
        for _ in 0..count + 8 {
            desk.browser.key(TAB);
            let ring = desk.browser.js(step, json!([]));
            assert!(ring.is_null() || ring == "ring", "{view}: {ring}");
        }
        let missed = desk.browser.js(missed, json!([]));
        assert_eq!(missed, json!([]), "{view}: not reached with Tab");
    });
    // A dialog holds the focus, and Escape closes it without doing anything.
    desk.go("#/releases");
    desk.browser
        .click(&format!("{} [data-key=pause]", card("ALIYUN", "2.0.1")));
    desk.browser.wait_text("dialog", "Pause ALIYUN 2.0.1?");
    desk.browser.key('\u{E00C}');
    let closed = "return !document.querySelector('dialog').open && document.activeElement.dataset.key === 'pause'";
    desk.browser.wait(
        "the dialog is closed and the focus is back",
        closed,
        json!([]),
    );
    let landmarks = "return ['header', 'nav[aria-label]', 'main', 'footer', 'h1', '[role=status][aria-live=polite]'].filter((css) => !document.querySelector(css))";
    assert_eq!(desk.browser.js(landmarks, json!([])), json!([]));
    desk.quiet_console();
}

#[test]
fn the_page_goes_on_when_the_event_stream_is_gone() {
    let Some(mut desk) = Desk::open("no event stream", |_| {}) else {
        return;
    };
    // Sixteen readers are all that the server has room for.
    let mut readers = Vec::new();
    desk.browser.open("about:blank");
    for _ in 0..16 {
        readers.push(SlowDownload::begin(
            desk.operator,
            format!(
                "GET /api/v1/events HTTP/1.1\r\nHost: {}\r\n\r\n",
                desk.operator
            )
            .as_bytes(),
            20,
        ));
    }
    desk.browser.open(&desk.url("#/live"));
    desk.browser
        .wait_text("main .note", "live stream is not available");
    desk.go("#/releases");
    desk.browser.wait_text("main .empty", "No release yet");
    desk.server
        .drop_firmware("P/1.0.0/update.bin", &noise(40, 3000));
    desk.browser.wait_text(&card("P", "1.0.0"), "Live");
    drop(readers);
    desk.browser.wait(
        "the event stream is back",
        "return document.querySelector('#link.streaming') !== null",
        json!([]),
    );
    assert!(desk.server.lives());
}

#[test]
fn the_pictures_of_the_readme_are_taken() {
    if std::env::var("LUAT_OTA_SCREENSHOTS").as_deref() != Ok("1") {
        return;
    }
    let prepare = |place: &Place| {
        a_full_folder(place);
        std::fs::remove_dir_all(place.path("").join(LONG)).unwrap();
    };
    let Some(desk) = Desk::open("pictures", prepare) else {
        return;
    };
    let browser = &desk.browser;
    let mut running = a_busy_fleet(&desk.server);
    let folder = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/images");
    std::fs::create_dir_all(&folder).unwrap();
    let mut take = |name: &str, scheme: &str| {
        browser.scheme(scheme);
        // What was said is gone, and what still moved has come to rest.
        let rest = "return document.querySelector('#toast').textContent === ''";
        browser.wait("nothing is said", rest, json!([]));
        for download in &mut running {
            download.read(16 * 1024).unwrap();
        }
        std::thread::sleep(Duration::from_millis(1500));
        let png = browser.screenshot();
        assert!(png.len() < 150_000, "{name} has {} bytes", png.len());
        std::fs::write(folder.join(name), png).unwrap();
    };
    for code in ["en", "zh"] {
        if code == "zh" {
            browser.js("document.querySelector('#lang').click()", json!([]));
        }
        browser.size(1180, 780);
        desk.go("#/releases");
        browser.wait_text("main", "FOTA2_DEMO");
        take(&format!("releases-{code}.png"), "light");
        browser.size(360, 720);
        each_view(&desk, |view| match view {
            "live" => {
                browser.js(
                    "document.querySelector('.downloads').scrollIntoView({ block: 'center' })",
                    json!([]),
                );
                take(&format!("live-{code}.png"), "dark");
            }
            "device" => take(&format!("device-{code}.png"), "light"),
            "explain" => {
                browser.js(
                    "document.querySelector('.verdict').scrollIntoView()",
                    json!([]),
                );
                take(&format!("explain-{code}.png"), "light");
            }
            _ => {}
        });
    }
}
