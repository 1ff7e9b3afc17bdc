//! Tests of late and outdated answers in lists and on Upload (see `browser_races`).
#![cfg(feature = "operator")]

use crate::browser_races::{TYPE, hold, js, open, wait_held};
use crate::common::browser_session::card;
use crate::common::luat;
use crate::common::packages::noise;
use serde_json::json;

#[test]
fn a_page_of_a_server_that_may_not_write_offers_no_change_even_if_the_summary_is_late() {
    let Some(session) = open("a late summary", |place| {
        place.drop_firmware("P/2.0.0/update.bin", &noise(70, 2000));
    }) else {
        return;
    };
    let browser = &session.browser;
    browser.wait_text(&card("P", "2.0.0"), "Live");
    let late = "
        const real = window.fetch;
        window.fetch = async (url, options) => {
            const reply = await real(url, options);
            if (!url.endsWith('/summary')) return reply;
            const summary = await reply.json();
            while (!window.may) await new Promise((resolve) => setTimeout(resolve, 20));
            return new Response(JSON.stringify({ ...summary, writable: false }));
        };";
    browser.devtools(
        "Page.addScriptToEvaluateOnNewDocument",
        json!({ "source": late }),
    );
    browser.open(&session.url(&format!("#token={}", session.token)));
    browser.js(
        "sessionStorage.setItem('luat-ota.token', arguments[0])",
        json!([session.token]),
    );
    browser.open(&session.url("#/drop"));
    browser.wait_text("h1", "Upload");
    js(browser, "window.may = true");
    browser.wait_text("main .note", "may not write");
    browser.open(&session.url("#/releases/P%2F2.0.0"));
    browser.wait_text("article", "2.0.0");
    js(browser, "window.may = true");
    let none = "return document.querySelector('article') !== null && document.querySelector('article [data-key=pause], .rules') === null";
    browser.wait("nothing can be changed", none, json!([]));
}

#[test]
fn more_releases_and_the_result_of_the_filter_stay_when_the_list_is_read_again() {
    let Some(session) = open("more releases", |place| {
        for project in ["A", "B", "C", "D", "E", "F"] {
            place.drop_firmware(&format!("{project}/1.0.0/update.bin"), &noise(70, 2000));
        }
    }) else {
        return;
    };
    let browser = &session.browser;
    // Pages of one release instead of 200.
    js(
        browser,
        "window.replace = (url) => url.replace('releases?limit=200', 'releases?limit=1')",
    );
    session.go("#/live");
    session.go("#/releases");
    let count = "return document.querySelectorAll('.project').length === arguments[0]";
    browser.wait("the first page", count, json!([1]));
    // Pressed while the list is being read.
    hold(browser, "GET /api/v1/releases?limit=200");
    session
        .server
        .drop_firmware("A/1.0.0/release.json", b"{\"paused\": true}");
    wait_held(browser, 1);
    browser.click("[data-key=more]");
    js(
        browser,
        "window.gate = null; for (const entry of window.held) entry.go()",
    );
    browser.wait("one more page", count, json!([2]));
    js(browser, "document.querySelector('#filter').hidden = false");
    browser.js(TYPE, json!(["#filter", "F"]));
    browser.wait_text(&card("F", "1.0.0"), "Live");
    session
        .server
        .drop_firmware("A/1.0.0/release.json", b"{\"paused\": \"again\"}");
    session
        .server
        .drop_firmware("F/1.0.0/release.json", b"{\"paused\": true}");
    browser.wait_text(&card("F", "1.0.0"), "Paused");
}

#[test]
fn a_warning_is_confirmed_again_after_an_edit() {
    let Some(session) = open("a warning after an edit", |place| {
        place.drop_firmware("P/2.0.0/update.bin", &noise(50, 1000));
    }) else {
        return;
    };
    let browser = &session.browser;
    browser.wait_text(&card("P", "2.0.0"), "Live");
    for n in 0..5 {
        let imei = (862_991_443_700_000_u64 + n * 7919).to_string();
        session.server.get(&luat("P", &imei, "3.0.0"));
    }
    session.drop_file(".project h2", "update.bin", &noise(51, 20_000));
    browser.fill("li:first-child .field + .field input", "2.5.0");
    browser.click("li:first-child .reason + .check input");
    let enabled = "return document.querySelector('.upload:not(:disabled)') !== null";
    assert_eq!(js(browser, enabled), true);
    browser.fill("li:first-child .field + .field input", "1.0.0");
    browser.wait_text("li:first-child .facts", "1.0.0");
    assert_eq!(js(browser, enabled), false);
}
