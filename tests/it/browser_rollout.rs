//! Promise: an operator brings a release from the upload to its last module with the page alone, on a phone and on a
//! wide screen, in both languages and both themes; a failing release pauses itself and can be resumed; an unwanted
//! release is rolled back; and an export agrees with the API.
#![cfg(all(feature = "operator", feature = "lab"))]

use crate::common;

use std::process::{Child, Stdio};
use std::time::Duration;

use common::browser_session::{BrowserSession, card};
use common::operator::Operator;
use common::packages::noise;
use common::{Rows, Server, luat_ota, wait_for_exit};
use serde_json::{Value, json};

const MODULES: u64 = 300;

/// Time limit of a simulation on a busy machine.
const SIMULATION_LIMIT: Duration = Duration::from_secs(120);

/// Width, language and theme, in all eight combinations.
const DISPLAYS: [(u32, &str, &str); 8] = [
    (390, "en", "light"),
    (390, "en", "dark"),
    (390, "zh", "dark"),
    (390, "zh", "light"),
    (1440, "zh", "light"),
    (1440, "zh", "dark"),
    (1440, "en", "dark"),
    (1440, "en", "light"),
];

/// Simulated modules of all generations that send requests to this server, in a separate process.
struct Modules(Child);

impl Modules {
    fn start(server: &Server, flags: &[&str]) -> Modules {
        let (http, udp) = (format!("http://{}/u", server.http), server.udp.to_string());
        let mut command = luat_ota();
        command
            .args(["simulate", "--json", "--project", "P", "--http", &http])
            .args(["--udp", &udp, "--imei", "862991440000000"])
            .args(["--devices", &MODULES.to_string()])
            .args(flags)
            .stdout(Stdio::piped())
            .stderr(Stdio::null());
        Modules(command.spawn().unwrap())
    }

    /// The report of the simulation.
    fn report(mut self) -> Value {
        let status = wait_for_exit(&mut self.0, SIMULATION_LIMIT);
        assert!(status.is_some(), "the simulation does not end");
        let report: Value = serde_json::from_reader(self.0.stdout.take().unwrap()).unwrap();
        assert_eq!(
            (&report["corrupt_images"], &report["server_errors"]),
            (&json!(0), &json!(0)),
            "{report:#}"
        );
        report
    }
}

impl Drop for Modules {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn play(server: &Server, flags: &[&str]) -> Value {
    Modules::start(server, flags).report()
}

/// Lets modules that run one version check until all of them run another.
fn update(server: &Server, from: &str, to: &str) -> Value {
    let versions = ["--version", from, "--to", to];
    let pace = ["--interval", "1", "--rounds", "20"];
    play(server, &[versions, pace].concat())
}

/// Shows the page in this width, language and theme.
fn set_display(session: &BrowserSession, (width, language, theme): (u32, &str, &str)) {
    let browser = &session.browser;
    browser.size(width, 900);
    browser.scheme(theme);
    let switch = "
        if (!document.documentElement.lang.startsWith(arguments[0])) document.querySelector('#lang').click();
        return document.documentElement.lang.startsWith(arguments[0]) && document.documentElement.dataset.theme === arguments[1];";
    browser.wait("language and theme", switch, json!([language, theme]));
}

/// Checks in all eight looks that the element shows these texts, in English and in Chinese, that nothing is wider than
/// the window, and that every text has enough contrast.
fn check_texts(session: &BrowserSession, css: &str, texts: &[(&str, &str)]) {
    for display in DISPLAYS {
        set_display(session, display);
        for (english, chinese) in texts {
            let text = if display.1 == "zh" { chinese } else { english };
            session.browser.wait_text(css, text);
        }
        let wide = "
            if (document.documentElement.scrollWidth <= arguments[0]) return [];
            return [...document.querySelectorAll('body *')].filter((e) => e.checkVisibility() && e.getBoundingClientRect().right > arguments[0] + 0.5)
                .map((e) => e.tagName + '.' + e.className + ' ' + e.textContent.slice(0, 40));";
        let wide = session.browser.js(wide, json!([display.0]));
        assert_eq!(wide, json!([]), "{display:?} is too wide");
        let pale = session
            .browser
            .js(crate::browser_looks::CONTRAST, json!([]));
        assert_eq!(pale, json!([]), "{display:?}");
    }
}

/// Uploads a file to project P as a person does, and opens the page of the release. `rules` fills in the rules of the
/// upload.
fn upload(session: &BrowserSession, version: &str, bytes: &[u8], done: &str, rules: impl Fn()) {
    let browser = &session.browser;
    session.go("#/releases");
    browser.wait_text(".project", "1.0.0");
    session.drop_file(".project h2", "update.bin", bytes);
    browser.fill("li:first-child .field + .field input", version);
    browser.wait_text("li:first-child .bill", &MODULES.to_string());
    browser.click("li:first-child summary");
    rules();
    browser.click("li:first-child .upload");
    browser.wait_text("li:first-child .good", done);
    browser.click("li:first-child a[href='#/releases']");
    browser.wait_text(".project", version);
    session.go(&format!("#/releases/P%2F{version}"));
    browser.wait_text(&card("P", version), version);
}

/// The state of a release in the API.
fn release(operator: &Operator, version: &str) -> Value {
    let all = operator.get("/api/v1/releases?project=P").json();
    let all = all["releases"].as_array().unwrap().iter();
    let mut found = all.filter(|release| release["version"] == version);
    found.next().unwrap().clone()
}

/// The number between two texts in an element of the page.
fn number_in(session: &BrowserSession, css: &str, before: &str, after: &str) -> u64 {
    let script = "
        const found = document.querySelector(arguments[0])?.innerText.match(new RegExp(arguments[1] + '(\\\\d+)' + arguments[2]));
        return found ? Number(found[1]) : null";
    let what = format!("a number between {before:?} and {after:?} in {css}");
    let number = session
        .browser
        .wait(&what, script, json!([css, before, after]));
    number.as_u64().unwrap_or_default()
}

#[test]
fn three_hundred_modules_are_updated_from_the_page_through_stages_a_fuse_and_a_roll_back() {
    let Some(session) = BrowserSession::open("a whole rollout", |place| {
        place.drop_firmware("P/1.0.0/update.bin", &noise(200, 3000));
    }) else {
        return;
    };
    let (browser, server) = (&session.browser, &session.server);
    let operator = Operator::of(server);
    browser.wait_text(&card("P", "1.0.0"), "Live");
    play(server, &["--interval", "1", "--rounds", "1"]);
    operator.wait_for("/api/v1/summary", "all have asked", |summary| {
        summary["devices"] == MODULES
    });

    // Upload on a phone, paused; add stages to the rules on a wide screen; resume.
    set_display(&session, (390, "zh", "dark"));
    upload(
        &session,
        "1.0.1",
        &noise(201, 5000),
        "文件已在目录中",
        || {
            browser.click("li:first-child input[id^=paused]");
        },
    );
    let first = card("P", "1.0.1");
    browser.wait_text(&first, "已暂停");
    set_display(&session, (1440, "en", "light"));
    browser.wait_text(".rules .effect", "0 of 300 devices may have 1.0.1");
    browser.fill("#r-stages", "10, 50 1h, 100 1s");
    browser.click(".rules [type=submit]:not(:disabled)");
    browser.wait_text("#toast", "The rules of P 1.0.1 are saved.");
    set_display(&session, (1440, "zh", "dark"));
    browser.click(&format!("{first} [data-key=resume]"));
    let chosen = number_in(
        &session,
        "dialog .effect",
        "300 台设备中有 ",
        " 台可以得到 1.0.1",
    );
    assert!((10..60).contains(&chosen), "{chosen} of 300");
    browser.click("dialog [type=submit]");

    // The modules of the first stage are updated, as many as the dialog stated. No other module is updated before the
    // operator says so.
    let flags = ["--to", "1.0.1", "--interval", "1", "--rounds", "1000"];
    let modules = Modules::start(server, &flags);
    let all = |count: u64| {
        (
            format!("{count} of 300 devices updated"),
            format!("300 台设备中 {count} 台已升级"),
        )
    };
    let (english, chinese) = all(chosen);
    let stage = ("next stage: 50 %, not before", "下一阶段 50%");
    check_texts(&session, &first, &[(&english, &chinese), stage]);
    assert_eq!(release(&operator, "1.0.1")["counts"]["confirmed"], chosen);
    session.go("#/releases");
    check_texts(&session, ".project", &[("Rolling out 10 %", "灰度 10%")]);
    set_display(&session, (390, "en", "dark"));
    session.go("#/releases/P%2F1.0.1");
    browser.wait_text(".rules .effect", "devices may have 1.0.1");
    browser.fill("#r-stages", "10, 50 1s, 100 1s");
    browser.click(".rules [type=submit]:not(:disabled)");
    browser.wait_text("#toast", "The rules of P 1.0.1 are saved.");
    let report = modules.report();
    assert_eq!(report["updated"], MODULES, "{report:#}");
    for percent in ["50", "100"] {
        server.wait_for_log("reaches the stage", |line| {
            line.contains("stage_reached") && line.contains(&format!("{percent} percent"))
        });
    }
    let (english, chinese) = all(MODULES);
    let stage = ("this is the last stage", "已是最后阶段");
    check_texts(&session, &first, &[(&english, &chinese), stage]);

    // A failing release pauses itself, and continues after it is resumed.
    set_display(&session, (1440, "en", "light"));
    upload(
        &session,
        "1.0.2",
        &noise(202, 5000),
        "It is in the folder",
        || {
            browser.fill("li:first-child input[id^=percent]", "20");
        },
    );
    let second = card("P", "1.0.2");
    browser.wait_text(&second, "Rolling out 20 %");
    let flags = ["--version", "1.0.1", "--to", "1.0.2", "--interval", "4"];
    let failing = [&flags[..], &["--fail", "100", "--rounds", "3"]].concat();
    let report = play(server, &failing);
    let fell_back = report["fell_back"].as_u64().unwrap();
    assert!((30..100).contains(&fell_back), "{report:#}");
    check_texts(&session, &second, &[("Fuse tripped", "已熔断")]);
    session.go("#/releases");
    check_texts(&session, ".project", &[("Fuse tripped", "已熔断")]);
    session.go("#/releases/P%2F1.0.2");
    let counts = release(&operator, "1.0.2")["counts"].clone();
    let reverted = counts["reverted"].as_u64().unwrap();
    // Up to one module may be testing the release meanwhile.
    assert!(reverted + 1 >= fell_back, "{counts}");
    set_display(&session, (390, "zh", "light"));
    browser.click(&format!("{second} [data-key=resume]"));
    browser.wait_text("dialog", "查明原因后再恢复");
    browser.click("dialog [type=submit]");
    browser.wait_text(&second, "灰度 20%");
    set_display(&session, (1440, "zh", "light"));
    browser.click(&format!("{second} [data-key=percent]"));
    browser.fill("dialog [type=number]", "100");
    browser.wait_text("dialog .effect", "300 台设备中有 300 台可以得到 1.0.2");
    browser.click("dialog [type=submit]");
    browser.wait_text(&second, "发布中");
    let report = update(server, "1.0.1", "1.0.2");
    assert_eq!(report["updated"], MODULES, "{report:#}");
    check_texts(&session, &second, &[(&english, &chinese)]);

    // The release is unwanted after all.
    set_display(&session, (390, "en", "light"));
    browser.click("[data-key=rollback]");
    browser.wait_text("dialog .effect", "300 devices run 1.0.2 now.");
    browser.wait_text("dialog .effect", "300 are offered 1.0.1");
    browser.click("dialog [type=submit]");
    browser.wait_text("#toast", "P 1.0.2 is paused, and 1.0.1 may replace it.");
    browser.wait_text(&second, "back to 1.0.1");
    session.go("#/releases/P%2F1.0.1");
    let report = update(server, "1.0.2", "1.0.1");
    assert_eq!(report["updated"], MODULES, "{report:#}");
    check_texts(&session, &first, &[(&english, &chinese)]);

    the_export_is_the_api(&session, &operator);
    session.assert_console_empty();
}

/// Compares the CSV that the page saves with the JSON of the API.
fn the_export_is_the_api(session: &BrowserSession, operator: &Operator) {
    let browser = &session.browser;
    let keep = "
        window.saved = [];
        const create = URL.createObjectURL;
        URL.createObjectURL = (blob) => { blob.text().then((text) => window.saved.push(text)); return create.call(URL, blob); };";
    browser.js(keep, json!([]));
    let saved = || {
        browser.click("[data-key=save-csv]");
        let last = "return window.saved.pop() ?? null";
        let text = browser.wait("it is saved", last, json!([]));
        common::csv::rows(text.as_str().unwrap().trim_start_matches('\u{feff}'))
    };
    let text = |value: &Value| match value {
        Value::Null => String::new(),
        Value::String(text) => text.clone(),
        other => other.to_string(),
    };
    let mut compared = Rows::default();
    for display in [(390, "en", "dark"), (1440, "zh", "light")] {
        set_display(session, display);
        session.go("#/devices?project=P");
        browser.wait_text("main > [role=status]", "300");
        let rows = saved();
        let list = operator.get("/api/v1/devices?project=P&format=json").json();
        let devices = list["devices"].as_array().unwrap();
        assert_eq!((rows.len(), devices.len()), (300, 300));
        for (row, device) in rows.iter().zip(devices) {
            let progress = &device["journey"];
            let mut cells = vec![
                ("state", text(&progress["state"])),
                ("offered_version", text(&progress["version"])),
                ("from_version", text(&progress["from"])),
                ("reached", text(&progress["reached"])),
                ("size", text(&progress["size"])),
            ];
            for name in [
                "id",
                "project",
                "version",
                "platform",
                "core",
                "network",
                "firmware_name",
                "request",
            ] {
                cells.push((name, text(&device[name])));
            }
            let wrong = cells.iter().find(|(name, cell)| row[*name] != *cell);
            // LuatOS reports its core version before the version of the script.
            let is_back = ["1.0.1", "2012.1.1"].contains(&&*row["version"]);
            let is_right = wrong.is_none() && is_back && row["state"] == "confirmed";
            compared.row(
                &row["id"],
                is_right
                    .then_some(())
                    .ok_or(format!("{row:?} and {device}")),
            );
        }
        session.go("#/releases");
        browser.wait_text(".project", "1.0.1");
        let rows = saved();
        let list = operator.get("/api/v1/releases?format=json").json();
        let releases = list["releases"].as_array().unwrap();
        assert_eq!((rows.len(), releases.len()), (3, 3));
        for (row, release) in rows.iter().zip(releases) {
            let mut cells = vec![("files", text(&release["packages"][0]["path"]))];
            for name in ["project", "version", "state", "reason", "devices"] {
                cells.push((name, text(&release[name])));
            }
            for name in ["offered", "delivered", "confirmed", "reverted", "silent"] {
                cells.push((name, text(&release["counts"][name])));
            }
            let wrong = cells.iter().find(|(name, cell)| row[*name] != *cell);
            compared.row(
                &row["version"],
                wrong
                    .is_none()
                    .then_some(())
                    .ok_or(format!("{row:?} and {release}")),
            );
        }
    }
    compared.finish();
}
