//! Tests of a release's rules on the page in a real browser (see browser.rs): counted, checked and written.
#![cfg(feature = "operator")]

use crate::common;

use common::Place;
use common::browser_session::{BrowserSession, card};
use common::luat;
use common::packages::noise;
use serde_json::{Value, json};

fn imei(n: u64) -> String {
    (862_991_443_700_000 + n * 7919).to_string()
}

/// Opens the page of P 2.0.0, about which eight devices that run 1.5.0 and two that run 2.0.0 have checked.
fn open(test: &str, rules: &[u8]) -> Option<BrowserSession> {
    let prepare = |place: &Place| {
        place.drop_firmware("P/2.0.0/update.bin", &noise(4, 2000));
        place.drop_firmware("P/1.5.0/update.bin", &noise(5, 2000));
        place.drop_firmware("P/2.0.0/release.json", rules);
    };
    let session = BrowserSession::open(test, prepare)?;
    session.browser.wait_text(&card("P", "2.0.0"), "2.0.0");
    for n in 0..10 {
        let version = if n < 8 { "1.5.0" } else { "2.0.0" };
        session.server.get(&luat("P", &imei(n), version));
    }
    session
        .browser
        .click(&format!("{} [data-key=rules]", card("P", "2.0.0")));
    session.browser.wait_text("h1", "P 2.0.0");
    Some(session)
}

fn value(session: &BrowserSession, css: &str) -> String {
    let script = "return document.querySelector(arguments[0]).value";
    let value = session.browser.js(script, json!([css]));
    value.as_str().unwrap_or_default().to_owned()
}

#[test]
fn rules_are_counted_checked_and_saved() {
    let text = "{\n  \"percent\" : 0.0,\n  \"project_key\": \"k\"\n}\n";
    let Some(session) = open("rules are edited", text.as_bytes()) else {
        return;
    };
    let browser = &session.browser;
    let file = session.server.place().path("P/2.0.0/release.json");
    let read = || std::fs::read_to_string(&file).unwrap();
    browser.wait_text(".rules .effect", "0 of 10 devices may have 2.0.0; now 0.");
    browser.fill("#r-percent", "100");
    browser.wait_text(".rules .effect", "8 of 10 devices may have 2.0.0; now 0.");
    browser.wait_text(".rules .effect", "another result than now: 8");
    browser.fill("#r-allow", &format!("{}\n{}", imei(0), imei(1)));
    browser.wait_text(".rules .effect", "2 of 10 devices may have 2.0.0");
    // A mistake is shown next to its field, and prevents saving.
    browser.fill("#r-window", "1-5");
    browser.wait_text("#e-window", "is not a time of day");
    let disabled = "return document.querySelector('.rules [type=submit]').disabled";
    assert_eq!(browser.js(disabled, json!([])), true);
    browser.fill("#r-window", "00:00-24:00Z");
    browser.wait_text(".rules .effect", "2 of 10 devices may have 2.0.0");
    assert_eq!(read(), text, "nothing is written before Save");
    browser.click(".rules [type=submit]");
    browser.wait_text("#toast", "The rules of P 2.0.0 are saved.");
    // Keys without a field remain, and so does the formatting of the other keys.
    let rules: Value = serde_json::from_str(&read()).unwrap();
    let expected = json!({"percent": 100, "project_key": "k", "allow": [imei(0), imei(1)], "window": "00:00-24:00Z"});
    assert_eq!(rules, expected);
    assert!(read().starts_with("{\n  \"percent\" : 100,\n  \"project_key\""));
    browser.wait_text(".rules .effect", "2 of 10 devices may have 2.0.0; now 2.");
    session.assert_console_empty();
}

#[test]
fn stages_are_counted_checked_and_saved_in_a_field_of_their_own() {
    let text = json!({"stages": [{"percent": 0}, {"percent": 100, "after": "48h"}]}).to_string();
    let Some(session) = open("stages are edited", text.as_bytes()) else {
        return;
    };
    let browser = &session.browser;
    browser.wait_text(".rules .effect", "0 of 10 devices may have 2.0.0; now 0.");
    assert_eq!(value(&session, "#r-stages"), "0, 100 48h");
    let disabled = "return document.querySelector('.rules [type=submit]').disabled";
    for (typed, mistake) in [
        ("50, 20 1h", "must be more than that of the stage before"),
        ("1, many 1h", "a number from 0 to 100"),
        ("1, 100 soon", "a time such as"),
    ] {
        browser.fill("#r-stages", typed);
        browser.wait_text("#e-stages", mistake);
        assert_eq!(browser.js(disabled, json!([])), true, "{typed}");
    }
    browser.fill("#r-stages", "100");
    browser.wait_text(".rules .effect", "8 of 10 devices may have 2.0.0; now 0.");
    // The two keys exclude each other.
    browser.fill("#r-percent", "5");
    browser.wait_text("#e-stages", "`percent` is set as well");
    browser.click(".rules [data-key=undo]");
    browser.wait_text(".rules .effect", "0 of 10 devices may have 2.0.0; now 0.");
    browser.fill("#r-stages", "100");
    browser.wait_text(".rules .effect", "8 of 10 devices may have 2.0.0; now 0.");
    browser.click(".rules [type=submit]:not(:disabled)");
    browser.wait_text("#toast", "The rules of P 2.0.0 are saved.");
    let file = session.server.place().path("P/2.0.0/release.json");
    let rules: Value = serde_json::from_str(&std::fs::read_to_string(&file).unwrap()).unwrap();
    assert_eq!(rules, json!({"stages": [{"percent": 100}]}));
    session.assert_console_empty();
}

#[test]
fn the_text_of_the_rules_is_checked_and_no_other_change_is_overwritten() {
    let Some(session) = open("rules as a text", b"{\"percent\": 0}") else {
        return;
    };
    let browser = &session.browser;
    let file = session.server.place().path("P/2.0.0/release.json");
    browser.wait_text(".rules .effect", "0 of 10 devices");
    browser.click(".rules details[data-key=raw] summary");
    assert_eq!(value(&session, "#raw"), "{\"percent\": 0}");
    browser.fill("#raw", "{\n\"percent\": 10,\n\"alow\": []\n}");
    browser.wait_text("#problems", "Line 3");
    browser.wait_text("#problems", "the nearest is `allow`");
    browser.click("#problems button");
    let chosen =
        "const e = document.activeElement; return e.value.slice(e.selectionStart, e.selectionEnd)";
    assert_eq!(browser.js(chosen, json!([])), "\"alow\"");
    browser.fill("#raw", "{\n\"percent\": 100\n}");
    browser.wait_text(".rules .effect", "8 of 10 devices may have 2.0.0; now 0.");
    assert_eq!(value(&session, "#r-percent"), "100", "the form follows");
    // If another editor has written the file, the page reports this and does not overwrite the file.
    std::fs::write(&file, "{\"percent\": 7}").unwrap();
    browser.click(".rules [type=submit]");
    browser.wait_text(".rules .note", "changed meanwhile");
    assert_eq!(std::fs::read_to_string(&file).unwrap(), "{\"percent\": 7}");
    browser.click(".rules [data-key=undo]");
    browser.wait(
        "the file is shown as it is now",
        "return document.querySelector('#r-percent').value === '7'",
        json!([]),
    );
    browser.fill("#raw", "{ }");
    browser.wait_text(".rules .effect", "8 of 10 devices may have 2.0.0");
    browser.click(".rules [type=submit]");
    browser.wait_text("#toast", "The rules of P 2.0.0 are saved.");
    assert_eq!(std::fs::read_to_string(&file).unwrap(), "{ }");
    // At most the refused request may be on the console, if it was sent before the page noticed the change.
    let said = browser.console();
    assert!(said.iter().all(|line| line.contains("412")), "{said:?}");
}

#[test]
fn an_action_says_how_many_devices_it_affects() {
    let Some(session) = open("actions are counted", b"{}") else {
        return;
    };
    let browser = &session.browser;
    browser.wait_text(".rules .effect", "8 of 10 devices may have 2.0.0; now 8.");
    browser.click("[data-key=percent]");
    browser.fill("dialog [type=number]", "0");
    browser.wait_text("dialog .effect", "0 of 10 devices may have 2.0.0; now 8.");
    browser.key('\u{E00C}');
    browser.click("[data-key=pause]");
    browser.wait_text("dialog .effect", "0 of 10 devices may have 2.0.0; now 8.");
    browser.click("dialog [type=submit]");
    browser.wait_text("article", "Paused");
    browser.click("[data-key=resume]");
    browser.wait_text("dialog .effect", "8 of 10 devices may have 2.0.0; now 0.");
    browser.click("dialog [type=submit]");
    browser.wait_text("article", "Live");
    session.assert_console_empty();
}

#[test]
fn a_release_is_rolled_back_for_chosen_devices() {
    let Some(session) = open("a roll back", b"{}") else {
        return;
    };
    let browser = &session.browser;
    browser.click("[data-key=rollback]");
    browser.wait_text("dialog", "Roll back P 2.0.0?");
    browser.wait_text("dialog .effect", "2 devices run 2.0.0 now.");
    browser.wait_text("dialog .effect", "2 are offered 1.5.0");
    browser.wait_text("dialog .effect", "2.0.0: 8 devices now, 0 afterwards.");
    browser.fill("#only", &imei(8));
    browser.wait_text("dialog .effect", "1 are offered 1.5.0");
    browser.wait_text("dialog .effect", "1 keep it:");
    browser.wait_text("dialog code", "allow_downgrade");
    browser.click("dialog [type=submit]");
    browser.wait_text("#toast", "P 2.0.0 is paused, and 1.5.0 may replace it.");
    let rules = |version: &str| -> Value {
        let path = format!("P/{version}/release.json");
        serde_json::from_slice(&std::fs::read(session.server.place().path(&path)).unwrap()).unwrap()
    };
    assert_eq!(rules("2.0.0"), json!({"paused": "back to 1.5.0"}));
    let expected = json!({"allow_downgrade": true, "allow": [imei(8)]});
    assert_eq!(rules("1.5.0"), expected);
    let old = noise(5, 2000);
    session
        .server
        .wait_until_offered(&luat("P", &imei(8), "2.0.0"), &old);
    for (n, version) in [(9, "2.0.0"), (0, "1.5.0")] {
        assert_ne!(
            session.server.get(&luat("P", &imei(n), version)).status,
            200
        );
    }
    browser.wait_text("article", "back to 1.5.0");
    session.assert_console_empty();
}

#[test]
fn a_release_is_retired_and_its_folder_can_be_moved_back() {
    let Some(session) = open("a retired release", b"{}") else {
        return;
    };
    let browser = &session.browser;
    browser.click("[data-key=retire]");
    browser.wait_text("dialog .effect", "0 of 10 devices may have 2.0.0; now 8.");
    browser.wait_text(
        "dialog code",
        "mv firmware/.retired/P/2.0.0 firmware/P/2.0.0",
    );
    browser.click("dialog [type=submit]");
    browser.wait_text(
        "#toast",
        "P 2.0.0 is retired. It is now in .retired/P/2.0.0.",
    );
    browser.wait_text("h1", "Releases");
    let gone = "return document.querySelector(arguments[0]) === null";
    let release = card("P", "2.0.0");
    browser.wait("it is gone", gone, json!([release]));
    let place = session.server.place();
    let aside = place.path(".retired/P/2.0.0");
    assert_eq!(
        std::fs::read(aside.join("update.bin")).unwrap(),
        noise(4, 2000)
    );
    assert!(aside.join("release.json").exists());
    std::fs::rename(&aside, place.path("P/2.0.0")).unwrap();
    browser.wait_text(&release, "Live");
    session.assert_console_empty();
}
