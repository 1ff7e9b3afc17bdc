//! Promise: a decision is shown in the same way over HTTP, UDP and TCP, as docs/decision.md
//! "Version order" and "Verdict on the wire" state row by row, from the view of a module.

mod package_choice;
mod rollout;

use crate::common;

use common::datagrams::{Device, Offer, Stream};
use common::packages::{EC7XX, EC618, delta_package, noise, script_package};
use common::{IMEI, Place, Rows, Server, get, luat, luatos, window};
use serde_json::json;

const OTHER: &str = "862991443759999";

/// A check that can be sent over every protocol.
#[derive(Clone)]
struct CheckForm {
    name: String,
    imei: String,
    version: String,
    key: String,
}

impl CheckForm {
    /// The check of a LuaTask module.
    fn luat(project: &str, imei: &str, version: &str) -> CheckForm {
        CheckForm {
            name: format!("{project}_Luat_V0017_ASR1802"),
            imei: imei.to_owned(),
            version: version.to_owned(),
            key: "k".to_owned(),
        }
    }

    /// The check of a LuatOS module.
    fn luatos(project: &str, platform: &str, version: &str) -> CheckForm {
        CheckForm {
            name: format!("{project}_LuatOS-SoC_{platform}"),
            imei: IMEI.to_owned(),
            version: version.to_owned(),
            key: "k".to_owned(),
        }
    }

    fn key(mut self, key: &str) -> CheckForm {
        self.key = key.to_owned();
        self
    }

    fn target(&self) -> String {
        format!(
            "/luat/update?project_key={}&imei={}&firmware_name={}&version={}",
            self.key, self.imei, self.name, self.version
        )
    }

    /// The message of the official dialect, which also contains the key.
    fn datagram(&self) -> String {
        format!(
            "0,{},{},SN,{},{}",
            self.key, self.imei, self.name, self.version
        )
    }

    /// The message of the user's dialect.
    fn short_datagram(&self) -> String {
        format!("{},{},{}", self.imei, self.name, self.version)
    }

    fn datagrams(&self) -> Vec<String> {
        if self.key == "k" {
            vec![self.datagram(), self.short_datagram()]
        } else {
            vec![self.datagram()]
        }
    }
}

/// Checks that the reply is this file over every protocol.
fn must_get(server: &Server, form: &CheckForm, bytes: &[u8]) -> Result<(), String> {
    server.wait_for_reply(&get(&form.target()), common::PATIENCE, |reply| {
        reply.status == 200 && reply.body == bytes
    })?;
    let device = Device::new(server.udp);
    for message in form.datagrams() {
        let offer = device.check(&message)?;
        offer.must_be_for(bytes.len())?;
        let got = device.download(offer)?;
        ensure!(got == bytes, "other bytes over UDP");
        let answer = Stream::connect(server.tcp).ask(&message)?;
        Offer::parse(&answer)?.must_be_for(bytes.len())?;
    }
    Ok(())
}

/// Checks that the reply is this refusal over every protocol.
fn must_be_refused(
    server: &Server,
    form: &CheckForm,
    status: u16,
    code: u32,
    text: &str,
) -> Result<(), String> {
    server
        .wait_for_reply(&get(&form.target()), common::PATIENCE, |reply| {
            reply.status == status && reply.code() == Some(code)
        })?
        .must_refuse(status, code)?;
    let device = Device::new(server.udp);
    for message in form.datagrams() {
        device.must_reply(&message, text)?;
        let answer = Stream::connect(server.tcp).ask(&message)?;
        ensure!(
            answer == text.as_bytes(),
            "over TCP: {} instead of {text:?}",
            answer.escape_ascii()
        );
    }
    Ok(())
}

#[test]
fn each_row_of_the_verdict_table_looks_the_same_over_http_udp_and_tcp() {
    let place = Place::new();
    let bytes = noise(20, 2300);
    let release = |project: &str, rules: serde_json::Value| {
        if !rules.is_null() {
            place.rules(&format!("{project}/2.0.1/release.json"), rules);
        }
        place.drop_firmware(&format!("{project}/2.0.1/update.bin"), &bytes);
    };
    let closed = window(700, 705, 0);
    let open = window(-60, 60, 0);
    let open_in_beijing = window(-60, 60, 8);
    release("plain", json!(null));
    release("paused", json!({ "paused": true }));
    release(
        "because",
        json!({ "paused": "the antenna test comes first" }),
    );
    release("unpaused", json!({ "paused": false }));
    release(
        "later",
        json!({ "not_before": "2099-12-01T02:00:00+08:00" }),
    );
    release(
        "earlier",
        json!({ "not_before": "2020-12-01T02:00:00+08:00" }),
    );
    release("closed", json!({ "window": closed }));
    release("open", json!({ "window": open }));
    release("beijing", json!({ "window": open_in_beijing }));
    release("none", json!({ "percent": 0 }));
    release("all", json!({ "percent": 100 }));
    release("named", json!({ "percent": 0, "allow": [IMEI] }));
    release("allow", json!({ "allow": [IMEI] }));
    release(
        "range",
        json!({ "allow": ["862991443750000-862991443753999"] }),
    );
    release("nobody", json!({ "allow": [] }));
    release("deny", json!({ "deny": [IMEI] }));
    release("from", json!({ "from": "1.9.0-2.0.0" }));
    release("one", json!({ "from": "1.9.0" }));
    release("texts", json!({ "from": ["factory", "1.0-beta"] }));
    release(
        "name",
        json!({ "firmware_name": ["name_Luat_V0017_ASR1802"] }),
    );
    release(
        "othername",
        json!({ "firmware_name": ["othername_Luat_V0099_ASR1802"] }),
    );
    release("key", json!({ "project_key": "secret" }));
    release("down", json!({ "allow_downgrade": true }));
    release("any", json!({ "any_version": true }));
    let server = Server::start_in(place, &[]);
    let mut rows = Rows::default();
    let nothing = (404, 27, "version error");
    let not_now = (404, 27, "no upgrade");
    let not_you = (403, 21, "imei range error");
    let unknown = (403, 25, "no upgrade");
    // The reply to the module: the file, or a refusal with its status, code and text.
    type Refusal = (u16, u32, &'static str);
    let table: Vec<(&str, CheckForm, Option<Refusal>)> = vec![
        ("offer", CheckForm::luat("plain", IMEI, "2.0.0"), None),
        (
            "nothing newer: same",
            CheckForm::luat("plain", IMEI, "2.0.1"),
            Some(nothing),
        ),
        (
            "nothing newer: 0s",
            CheckForm::luat("plain", IMEI, "002.000.001"),
            Some(nothing),
        ),
        (
            "nothing newer: newer",
            CheckForm::luat("plain", IMEI, "2.0.10"),
            Some(nothing),
        ),
        (
            "paused",
            CheckForm::luat("paused", IMEI, "2.0.0"),
            Some(not_now),
        ),
        (
            "paused with a reason",
            CheckForm::luat("because", IMEI, "2.0.0"),
            Some(not_now),
        ),
        (
            "paused: false",
            CheckForm::luat("unpaused", IMEI, "2.0.0"),
            None,
        ),
        (
            "not_before to come",
            CheckForm::luat("later", IMEI, "2.0.0"),
            Some(not_now),
        ),
        (
            "not_before past",
            CheckForm::luat("earlier", IMEI, "2.0.0"),
            None,
        ),
        (
            "window closed",
            CheckForm::luat("closed", IMEI, "2.0.0"),
            Some(not_now),
        ),
        ("window open", CheckForm::luat("open", IMEI, "2.0.0"), None),
        (
            "window open in Beijing",
            CheckForm::luat("beijing", IMEI, "2.0.0"),
            None,
        ),
        (
            "percent 0",
            CheckForm::luat("none", IMEI, "2.0.0"),
            Some(not_now),
        ),
        ("percent 100", CheckForm::luat("all", IMEI, "2.0.0"), None),
        (
            "percent 0, but named",
            CheckForm::luat("named", IMEI, "2.0.0"),
            None,
        ),
        (
            "percent 0, not named",
            CheckForm::luat("named", OTHER, "2.0.0"),
            Some(not_you),
        ),
        ("allowed", CheckForm::luat("allow", IMEI, "2.0.0"), None),
        (
            "not allowed",
            CheckForm::luat("allow", OTHER, "2.0.0"),
            Some(not_you),
        ),
        (
            "in the range",
            CheckForm::luat("range", IMEI, "2.0.0"),
            None,
        ),
        (
            "not in the range",
            CheckForm::luat("range", OTHER, "2.0.0"),
            Some(not_you),
        ),
        (
            "nobody allowed",
            CheckForm::luat("nobody", IMEI, "2.0.0"),
            Some(not_you),
        ),
        (
            "denied",
            CheckForm::luat("deny", IMEI, "2.0.0"),
            Some(not_you),
        ),
        ("not denied", CheckForm::luat("deny", OTHER, "2.0.0"), None),
        (
            "from: low end",
            CheckForm::luat("from", IMEI, "1.9.0"),
            None,
        ),
        (
            "from: high end",
            CheckForm::luat("from", IMEI, "2.0.0"),
            None,
        ),
        (
            "from: below",
            CheckForm::luat("from", IMEI, "1.8.9"),
            Some(not_you),
        ),
        (
            "from one",
            CheckForm::luat("one", IMEI, "001.009.000"),
            None,
        ),
        (
            "from one: another",
            CheckForm::luat("one", IMEI, "1.9.1"),
            Some(not_you),
        ),
        (
            "from a text",
            CheckForm::luat("texts", IMEI, "factory"),
            None,
        ),
        (
            "from another text",
            CheckForm::luat("texts", IMEI, "1.0-beta2"),
            None,
        ),
        (
            "firmware_name",
            CheckForm::luat("name", IMEI, "2.0.0"),
            None,
        ),
        (
            "another firmware_name",
            CheckForm::luat("othername", IMEI, "2.0.0"),
            Some(not_you),
        ),
        (
            "unknown project",
            CheckForm::luat("nowhere", IMEI, "2.0.0"),
            Some(unknown),
        ),
        (
            "a project in another case",
            CheckForm::luat("PLAIN", IMEI, "2.0.0"),
            Some(unknown),
        ),
        (
            "right key",
            CheckForm::luat("key", IMEI, "2.0.0").key("secret"),
            None,
        ),
        (
            "wrong key",
            CheckForm::luat("key", IMEI, "2.0.0"),
            Some(unknown),
        ),
        (
            "version unreadable",
            CheckForm::luat("plain", IMEI, "factory"),
            Some(nothing),
        ),
        (
            "version missing",
            CheckForm::luat("plain", IMEI, ""),
            Some(nothing),
        ),
        ("any version", CheckForm::luat("any", IMEI, "factory"), None),
        (
            "downgrade not allowed",
            CheckForm::luat("plain", IMEI, "3.0.0"),
            Some(nothing),
        ),
        (
            "downgrade allowed",
            CheckForm::luat("down", IMEI, "3.0.0"),
            None,
        ),
        (
            "downgrade to the same",
            CheckForm::luat("down", IMEI, "2.0.1"),
            Some(nothing),
        ),
    ];
    for (row, form, wanted) in table {
        let result = match wanted {
            // Not a row of the table: a text that is not in the list and has no order.
            None if row == "from another text" => server
                .wait_for_reply(&get(&form.target()), common::PATIENCE, |reply| {
                    matches!(reply.status, 403 | 404)
                })
                .map(|_| ()),
            None => must_get(&server, &form, &bytes),
            Some((status, code, text)) => must_be_refused(&server, &form, status, code, text),
        };
        rows.row(row, result);
    }
    rows.finish();
}

#[test]
fn each_row_of_the_version_table_holds() {
    let place = Place::new();
    let plain = noise(21, 1800);
    place.drop_firmware("plain/2.0.1/update.bin", &plain);
    let cored = script_package(EC7XX, 22);
    place.drop_firmware(
        "cored/2012.001.004/cored_2012.001.004_LuatOS-SoC_Air780EPM.bin",
        &cored,
    );
    place.drop_firmware(
        "anycore/2012.001.004/anycore_2012.001.004_LuatOS-SoC_Air780EPM.bin",
        &cored,
    );
    place.rules(
        "anycore/2012.001.004/release.json",
        json!({ "any_core": true }),
    );
    let server = Server::start_in(place, &[]);
    let mut rows = Rows::default();
    let device = |project: &str, version: &str| CheckForm::luatos(project, "Air780EPM", version);
    for (row, form, bytes) in [
        // plain version, plain release
        ("plain up", device("plain", "1.9.9"), Some(&plain)),
        ("plain same", device("plain", "2.0.1"), None),
        // core form, release with core form
        ("script up", device("cored", "2012.001.003"), Some(&cored)),
        (
            "script up, without zeros",
            device("cored", "2012.1.3"),
            Some(&cored),
        ),
        ("major up", device("cored", "2012.000.999"), Some(&cored)),
        ("the same, other zeros", device("cored", "2012.1.4"), None),
        ("script down", device("cored", "2012.001.005"), None),
        (
            "script up, core down",
            device("cored", "2016.001.003"),
            None,
        ),
        // Core form, plain release: only the first and the third number count.
        ("third up", device("plain", "2012.2.0"), Some(&plain)),
        ("first up", device("plain", "2012.1.999"), Some(&plain)),
        ("third same", device("plain", "2012.2.1"), None),
        ("third down", device("plain", "2012.2.2"), None),
        // Plain version, release with core form: the module did not state its core.
        ("no core", device("cored", "1.0.3"), None),
        (
            "no core, any_core",
            device("anycore", "1.0.3"),
            Some(&cored),
        ),
    ] {
        let result = match bytes {
            Some(bytes) => must_get(&server, &form, bytes),
            None => server
                .wait_for_reply(&get(&form.target()), common::PATIENCE, |reply| {
                    reply.status == 404 && matches!(reply.code(), Some(26 | 27))
                })
                .map(|_| ()),
        };
        rows.row(row, result);
    }
    rows.finish();
}
