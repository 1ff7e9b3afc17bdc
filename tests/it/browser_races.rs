//! Tests of late and outdated answers on the page, in a real browser (see `browser`). The page's requests are held and
//! released in the order that a slow network could cause.
#![cfg(feature = "operator")]

use crate::common;

use common::browser_session::{BrowserSession, card};
use common::operator::Operator;
use common::packages::noise;
use common::webdriver::Browser;
use common::{Place, SlowDownload, get, luat};
use serde_json::json;

/// Wraps `fetch` in the page: an answer to a request whose method and address contain `window.gate` is held until
/// `window.go(n)`, which then waits long enough for the page to process it. A request that contains `window.broken`
/// fails, and `window.cut` loses the rest of the answer. `window.stop(ms)` stops new timers of this length.
const GATE: &str = "
    const [real, timer] = [window.fetch, window.setTimeout];
    Object.assign(window, { held: [], stopped: [], gate: null, broken: null, cut: null, replace: (url) => url });
    window.fetch = async (url, options = {}) => {
        const name = (options.method || 'GET') + ' ' + url;
        const has = (part) => part !== null && name.includes(part);
        if (has(window.broken)) throw new TypeError('no network');
        if (has(window.cut)) return new Response(new ReadableStream({ start: (body) => body.error(new TypeError('cut')) }));
        const hold = has(window.gate);
        const sent = real(window.replace(url), options);
        if (!hold) return sent;
        const entry = { name, ready: false };
        const released = new Promise((resolve) => { entry.go = resolve; });
        window.held.push(entry);
        const reply = await sent;
        const copy = new Response(await reply.blob(), { status: reply.status, headers: reply.headers });
        entry.ready = true;
        await released;
        return copy;
    };
    window.go = async (n) => {
        window.held.at(n).go();
        for (let n = 0; n < 3; n += 1) await (await real('index.html', { cache: 'no-store' })).text();
        return true;
    };
    window.stop = (ms) => { window.setTimeout = (work, time) => (time === ms ? (window.stopped.push(work), 0) : timer(work, time)); };
    window.resume = () => { window.setTimeout = timer; for (const work of window.stopped.splice(0)) work(); };
    window.seen = (visible) => {
        Object.defineProperty(document, 'hidden', { value: !visible, configurable: true });
        document.dispatchEvent(new Event('visibilitychange'));
    };";

/// Starts a server and a browser, with [`GATE`] in the page.
pub fn open(test: &str, prepare: impl Fn(&Place)) -> Option<BrowserSession> {
    let session = BrowserSession::open(test, prepare)?;
    session.browser.js(GATE, json!([]));
    Some(session)
}

pub fn js(browser: &Browser, script: &str) -> serde_json::Value {
    browser.js(script, json!([]))
}

/// Holds the answers to all further requests whose method and address contain `part`.
pub fn hold(browser: &Browser, part: &str) {
    browser.js(
        "window.gate = arguments[0]; window.held = []",
        json!([part]),
    );
}

/// Waits until `count` answers are held.
pub fn wait_held(browser: &Browser, count: usize) {
    let script = "return window.held.filter((entry) => entry.ready).length >= arguments[0]";
    browser.wait("answers are held", script, json!([count]));
}

/// Releases a held answer; -1 is the latest one.
fn release(browser: &Browser, n: i64) {
    browser.js("return window.go(arguments[0])", json!([n]));
}

fn set_token(browser: &Browser, token: &str) {
    let script = "sessionStorage.setItem('luat-ota.token', arguments[0])";
    browser.js(script, json!([token]));
}

/// Opens the page of P 2.0.0.
fn open_release(test: &str, others: &[&str]) -> Option<BrowserSession> {
    let session = open(test, |place| {
        place.drop_firmware("P/2.0.0/update.bin", &noise(70, 2000));
        for version in others {
            place.drop_firmware(&format!("P/{version}/update.bin"), &noise(71, 2000));
        }
    })?;
    let browser = &session.browser;
    browser.wait_text(&card("P", "2.0.0"), "2.0.0");
    session.go("#/releases/P%2F2.0.0");
    browser.wait_text("h1", "P 2.0.0");
    let shown = "return document.querySelector('#r-percent:enabled') !== null";
    browser.wait("the rules are shown", shown, json!([]));
    Some(session)
}

pub const TYPE: &str = "
    const field = document.querySelector(arguments[0]);
    field.value = arguments[1];
    for (const kind of ['input', 'change']) field.dispatchEvent(new Event(kind, { bubbles: true }));";

#[test]
fn a_release_is_rolled_back_only_to_the_version_that_was_counted() {
    let Some(session) = open_release("a counted roll back", &["1.5.0", "1.0.0"]) else {
        return;
    };
    let browser = &session.browser;
    hold(browser, "POST /api/v1/preview");
    browser.click("[data-key=rollback]");
    wait_held(browser, 1);
    js(browser, "window.stop(300)");
    browser.js(TYPE, json!(["#to", "1.0.0"]));
    release(browser, 0);
    js(
        browser,
        "document.querySelector('dialog [type=submit]').click()",
    );
    let is_open = "return document.querySelector('dialog[open] #to') !== null";
    assert_eq!(
        js(browser, is_open),
        true,
        "1.5.0 was counted, and 1.0.0 is chosen"
    );
    js(browser, "window.gate = null; window.resume()");
    browser.wait_text("dialog .effect", "No device");
    browser.click("dialog [type=submit]");
    browser.wait_text("#toast", "1.0.0 may replace it");
}

#[test]
fn rules_are_saved_only_as_they_were_checked_and_nothing_typed_is_lost() {
    let Some(session) = open_release("rules are saved as checked", &[]) else {
        return;
    };
    let browser = &session.browser;
    hold(browser, "POST /api/v1/preview");
    browser.js(TYPE, json!(["#r-percent", "50"]));
    wait_held(browser, 1);
    js(browser, "window.stop(300)");
    browser.js(TYPE, json!(["#r-percent", "60"]));
    release(browser, 0);
    let disabled = "return document.querySelector('.rules [type=submit]').disabled";
    assert_eq!(
        js(browser, disabled),
        true,
        "50 was checked, and 60 is typed"
    );
    js(browser, "window.gate = null; window.resume()");
    // While the rules are being saved, nothing can be typed and nothing sent twice.
    hold(browser, "PUT /api/v1/rules");
    browser.click(".rules [type=submit]:not(:disabled)");
    wait_held(browser, 1);
    let focus = "const field = document.querySelector('#r-window'); field.focus(); return document.activeElement === field";
    assert_eq!(js(browser, focus), false, "it would be lost");
    release(browser, 0);
    browser.wait_text("#toast", "The rules of P 2.0.0 are saved.");
    browser.wait("one can type again", focus, json!([]));
    let rules = session.server.place().path("P/2.0.0/release.json");
    let rules = std::fs::read_to_string(rules).unwrap();
    assert!(rules.contains("60"), "{rules}");
}

#[test]
fn rules_can_be_saved_once_the_server_is_back() {
    let Some(session) = open_release("rules after a restart", &[]) else {
        return;
    };
    let browser = &session.browser;
    js(browser, "window.broken = 'POST /api/v1/preview'");
    browser.fill("#r-percent", "50");
    browser.wait_text(".rules .effect", "cannot be reached");
    js(
        browser,
        "window.broken = null; window.cut = 'POST /api/v1/preview'; document.querySelector('.rules .effect').textContent = ''",
    );
    browser.wait_text(".rules .effect", "cannot be reached");
    js(browser, "window.cut = null");
    browser.click(".rules [type=submit]:not(:disabled)");
    browser.wait_text("#toast", "The rules of P 2.0.0 are saved.");
}

#[test]
fn an_upload_and_an_export_use_a_token_that_was_given_meanwhile() {
    let Some(session) = open("a token given meanwhile", |place| {
        place.drop_firmware("P/2.0.0/update.bin", &noise(70, 2000));
    }) else {
        return;
    };
    let browser = &session.browser;
    browser.wait_text(&card("P", "2.0.0"), "Live");
    js(
        browser,
        "
        window.saved = 0;
        const create = URL.createObjectURL;
        URL.createObjectURL = (blob) => { window.saved += 1; return create.call(URL, blob); };",
    );
    hold(browser, "format=csv");
    set_token(browser, "no-longer-good");
    // A double click saves one file.
    js(
        browser,
        "const save = document.querySelector('[data-key=save-csv]'); save.click(); save.click()",
    );
    wait_held(browser, 1);
    set_token(browser, &session.token);
    assert_eq!(js(browser, "return window.held.length"), 1);
    js(browser, "window.gate = null");
    release(browser, 0);
    browser.wait("it is saved", "return window.saved === 1", json!([]));

    js(browser, "
        window.uploads = [];
        const send = XMLHttpRequest.prototype.send;
        XMLHttpRequest.prototype.send = function (body) { window.uploads.push(() => send.call(this, body)); };");
    session.drop_file(".project h2", "update.bin", &noise(72, 5000));
    browser.fill("li:first-child .field + .field input", "2.0.1");
    browser.wait_text("li:first-child .bill", "No device");
    set_token(browser, "no-longer-good");
    browser.click("li:first-child .upload");
    let sent = "return window.uploads.length > 0";
    browser.wait("the file is being sent", sent, json!([]));
    set_token(browser, &session.token);
    let go = "for (const go of window.uploads.splice(0)) go(); return document.querySelector('li:first-child .good, dialog[open]') !== null";
    browser.wait("an answer", go, json!([]));
    browser.wait_text("li:first-child .good", "It is in the folder");
}

#[test]
fn a_dialog_for_the_token_keeps_the_dialog_below_it_and_starts_the_event_stream() {
    let Some(session) = open("a dialog over another one", |place| {
        place.drop_firmware("P/2.0.0/update.bin", &noise(70, 2000));
    }) else {
        return;
    };
    let browser = &session.browser;
    let release = card("P", "2.0.0");
    browser.wait_text(&release, "Live");
    hold(browser, "POST /api/v1/preview");
    set_token(browser, "no-longer-good");
    browser.click(&format!("{release} [data-key=pause]"));
    browser.fill("#reason", "the field test");
    wait_held(browser, 1);
    js(browser, "window.gate = null");
    js(browser, "return window.go(0)");
    browser.wait_text("dialog", "Token needed");
    // The stream ends, and the outdated token is refused: the page waits before the next attempt.
    for ms in [1000, 2000] {
        browser.js("window.stop(arguments[0])", json!([ms]));
        js(browser, "window.seen(false); window.seen(true)");
    }
    let stopped = "return window.stopped.length > 0 && !document.querySelector('#link.streaming')";
    browser.wait("the stream waits", stopped, json!([]));
    browser.fill("dialog #token", &session.token);
    js(
        browser,
        "document.querySelector('#token').form.requestSubmit()",
    );
    let up = "return document.querySelector('#link.streaming') !== null";
    browser.wait("the event stream is up", up, json!([]));
    browser.wait_text("dialog .effect", "No device");
    browser.click("dialog [type=submit]");
    browser.wait_text(&release, "the field test");
}

#[test]
fn a_late_explanation_does_not_replace_a_newer_one() {
    let Some(session) = open("a late explanation", |place| {
        place.drop_firmware("P/2.0.0/update.bin", &noise(70, 2000));
    }) else {
        return;
    };
    let browser = &session.browser;
    let target = luat("P", common::IMEI, "1.0.0");
    session.server.wait_until_offered(&target, &noise(70, 2000));
    session.go("#/explain");
    hold(browser, "POST /api/v1/explain");
    for (n, version) in [(1, "1.0.0"), (2, "2.0.0")] {
        browser.fill("#request", &luat("P", common::IMEI, version));
        browser.click("form:first-child [type=submit]");
        wait_held(browser, n);
    }
    release(browser, 1);
    browser.wait_text(".verdict h2", "It gets nothing now");
    release(browser, 0);
    browser.wait_text(".verdict h2", "It gets nothing now");
    // Nor does a device's request replace what is typed.
    hold(browser, "GET /api/v1/devices/");
    session.go(&format!("#/explain?device={}", common::IMEI));
    wait_held(browser, 1);
    browser.fill("#request", "/typed");
    browser.click("form:first-child [type=submit]");
    release(browser, 0);
    let typed = "return document.querySelector('#request').value";
    assert_eq!(js(browser, typed), "/typed");
}

#[test]
fn a_chart_that_was_requested_before_its_card_changed_is_shown() {
    let Some(session) = open("a chart of a changed card", |place| {
        place.drop_firmware("P/2.0.0/update.bin", &noise(70, 2000));
    }) else {
        return;
    };
    let browser = &session.browser;
    let release_card = card("P", "2.0.0");
    browser.wait_text(&release_card, "Live");
    hold(browser, "/history");
    browser.click(&format!("{release_card} details[data-key=history] summary"));
    wait_held(browser, 1);
    let rules = json!({"paused": true});
    session
        .server
        .drop_firmware("P/2.0.0/release.json", rules.to_string().as_bytes());
    browser.wait_text(&release_card, "Paused");
    release(browser, 0);
    browser.wait_text(&format!("{release_card} .history"), "14 days");
}

#[test]
fn a_download_that_ended_while_the_event_stream_was_down_is_not_shown_any_more() {
    let bytes = noise(73, 2_000_000);
    let Some(session) = open("a download's end is missed", |place| {
        place.drop_firmware("P/2.0.0/update.bin", &noise(73, 2_000_000));
    }) else {
        return;
    };
    let browser = &session.browser;
    let target = luat("P", common::IMEI, "1.0.0");
    session.server.wait_until_offered(&target, &bytes);
    session.go("#/live");
    let mut download = SlowDownload::begin(session.server.http, &get(&target), 100_000);
    let row = "return document.querySelector('.downloads li:not(.complete):not(.broken)') !== null";
    while js(browser, row) == false {
        assert!(download.read(4 * 1024).unwrap() > 0, "it ended");
    }
    // A hidden page does not read events.
    js(browser, "window.seen(false)");
    let down = "return document.querySelector('#link.streaming') === null";
    browser.wait("the event stream is down", down, json!([]));
    drop(download);
    Operator::of(&session.server).wait_for(
        "/api/v1/summary",
        "the download has ended",
        |summary| summary["running"] == 0,
    );
    js(browser, "window.seen(true)");
    let none = "return document.querySelector('#link.streaming') !== null && document.querySelector('.downloads li') === null";
    browser.wait("no download is shown", none, json!([]));
}

#[test]
fn a_release_that_is_retired_does_not_change_a_view_opened_meanwhile() {
    let Some(session) = open_release("retired late", &["1.5.0"]) else {
        return;
    };
    let browser = &session.browser;
    hold(browser, "/retire");
    browser.click("[data-key=retire]");
    browser.click("dialog [type=submit]");
    wait_held(browser, 1);
    session.go("#/devices");
    browser.wait_text("h1", "Devices");
    release(browser, 0);
    browser.wait_text("#toast", "2.0.0");
    let hash = js(browser, "return location.hash");
    assert!(hash.as_str().unwrap().starts_with("#/devices"), "{hash}");
}

#[test]
fn a_late_answer_does_not_bring_back_an_earlier_state() {
    let Some(session) = open_release("a late state", &[]) else {
        return;
    };
    let (browser, server) = (&session.browser, &session.server);
    let tick = "document.dispatchEvent(new Event('visibilitychange'))";
    // A release that is paused while its earlier state is on the way.
    hold(browser, "GET /api/v1/releases?limit=500");
    js(browser, tick);
    wait_held(browser, 1);
    server.drop_firmware("P/2.0.0/release.json", b"{\"paused\": true}");
    server.wait_until_refused(&luat("P", common::IMEI, "1.0.0"), 404, 27);
    let count = js(browser, "window.gate = null; return window.held.length");
    js(browser, tick);
    browser.wait_text("article", "Paused");
    for n in 0..count.as_i64().unwrap() {
        js(browser, "window.gate = 'releases?limit=500'");
        release(browser, n);
        assert!(browser.text("article").contains("Paused"), "{n}");
    }
    // A device that reports another version meanwhile.
    js(browser, "window.gate = null");
    session.go(&format!("#/devices/{}", common::IMEI));
    browser.wait_text(".facts", "1.0.0");
    hold(browser, "GET /api/v1/devices/");
    js(browser, tick);
    wait_held(browser, 1);
    let first = js(browser, "window.gate = null; return window.held.length");
    server.get(&luat("P", common::IMEI, "1.2.0"));
    js(browser, tick);
    browser.wait_text(".facts", "1.2.0");
    js(browser, "window.gate = '/devices/'");
    for n in 0..first.as_i64().unwrap() {
        release(browser, n);
        assert!(browser.text(".facts").contains("1.2.0"), "{n}");
    }
    // The numbers above the releases, and a request that fails late.
    session.go("#/releases");
    browser.wait_text(".tiles", "Devices");
    hold(browser, "GET /api/v1/summary");
    js(browser, tick);
    wait_held(browser, 1);
    let first = js(browser, "window.gate = null; return window.held.length");
    server.get(&luat("P", "862991443700000", "1.2.0"));
    js(browser, tick);
    let two = "return document.querySelector('.tiles dd')?.textContent === '2'";
    browser.wait("two devices", two, json!([]));
    js(browser, "window.gate = '/summary'");
    for n in 0..first.as_i64().unwrap() {
        release(browser, n);
        assert_eq!(js(browser, two), true, "{n}");
    }
}

#[test]
fn a_release_can_be_rolled_back_to_one_that_arrived_while_its_page_was_open() {
    let Some(session) = open_release("a later release", &[]) else {
        return;
    };
    let browser = &session.browser;
    session
        .server
        .drop_firmware("P/1.5.0/update.bin", &noise(71, 2000));
    browser.click("[data-key=rollback]");
    browser.wait_text("dialog", "1.5.0");
    browser.key('\u{E00C}');
    session
        .server
        .drop_firmware("P/1.4.0/update.bin", &noise(74, 2000));
    let there = "
        if (!document.querySelector('dialog[open]')) document.querySelector('[data-key=rollback]').click();
        if (document.querySelector('#to option[value=\"1.4.0\"]')) return true;
        const cancel = document.querySelector('dialog [type=button]');
        if (cancel) cancel.click();
        return false;";
    browser.wait("1.4.0 can be chosen", there, json!([]));
}
