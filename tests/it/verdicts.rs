//! Promise: one decision, shown alike over HTTP, UDP and TCP. docs/decision.md "Version order" and
//! "Verdict on the wire", row by row, as a module sees them.

use crate::common;

use common::datagrams::{Device, Offer, Stream};
use common::packages::{EC7XX, EC618, delta_package, noise, script_package};
use common::{IMEI, Place, Rows, Server, get, luat, luatos};
use serde_json::json;

const OTHER: &str = "862991443759999";

/// What a module asks, to be asked in every way there is.
#[derive(Clone)]
struct Ask {
    name: String,
    imei: String,
    version: String,
    key: String,
}

impl Ask {
    /// A LuaTask module.
    fn luat(project: &str, imei: &str, version: &str) -> Ask {
        Ask {
            name: format!("{project}_Luat_V0017_ASR1802"),
            imei: imei.to_owned(),
            version: version.to_owned(),
            key: "k".to_owned(),
        }
    }

    /// A LuatOS module.
    fn luatos(project: &str, platform: &str, version: &str) -> Ask {
        Ask {
            name: format!("{project}_LuatOS-SoC_{platform}"),
            imei: IMEI.to_owned(),
            version: version.to_owned(),
            key: "k".to_owned(),
        }
    }

    fn key(mut self, key: &str) -> Ask {
        self.key = key.to_owned();
        self
    }

    fn target(&self) -> String {
        format!(
            "/luat/update?project_key={}&imei={}&firmware_name={}&version={}",
            self.key, self.imei, self.name, self.version
        )
    }

    /// The official dialect, which carries the key as well.
    fn datagram(&self) -> String {
        format!(
            "0,{},{},SN,{},{}",
            self.key, self.imei, self.name, self.version
        )
    }

    /// The user's dialect.
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

/// This file, in all ways.
fn gets(server: &Server, ask: &Ask, bytes: &[u8]) -> Result<(), String> {
    server.wait_for_reply(&get(&ask.target()), common::PATIENCE, |reply| {
        reply.status == 200 && reply.body == bytes
    })?;
    let device = Device::new(server.udp);
    for message in ask.datagrams() {
        let offer = device.check(&message)?;
        offer.must_be_for(bytes.len())?;
        let got = device.download(offer)?;
        ensure!(got == bytes, "other bytes over UDP");
        let answer = Stream::connect(server.tcp).ask(&message)?;
        Offer::parse(&answer)?.must_be_for(bytes.len())?;
    }
    Ok(())
}

/// This no, in all ways.
fn is_refused(
    server: &Server,
    ask: &Ask,
    status: u16,
    code: u32,
    text: &str,
) -> Result<(), String> {
    server
        .wait_for_reply(&get(&ask.target()), common::PATIENCE, |reply| {
            reply.status == status && reply.code() == Some(code)
        })?
        .must_refuse(status, code)?;
    let device = Device::new(server.udp);
    for message in ask.datagrams() {
        device.must_say(&message, text)?;
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
    let minutes = std::time::SystemTime::now()
        .duration_since(std::time::UNIX_EPOCH)
        .unwrap()
        .as_secs()
        / 60
        % 1440;
    let clock = |minutes: u64| format!("{:02}:{:02}", minutes / 60 % 24, minutes % 60);
    let closed = format!("{}-{}+00:00", clock(minutes + 700), clock(minutes + 705));
    let open = format!(
        "{}-{}+00:00",
        clock(minutes + 1440 - 60),
        clock(minutes + 60)
    );
    // The same moment in Beijing.
    let open_in_beijing = format!(
        "{}-{}+08:00",
        clock(minutes + 480 + 1440 - 60),
        clock(minutes + 480 + 60)
    );
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
    // What the module gets: the file, or a no with its status, code and words.
    type No = (u16, u32, &'static str);
    let table: Vec<(&str, Ask, Option<No>)> = vec![
        ("offer", Ask::luat("plain", IMEI, "2.0.0"), None),
        (
            "nothing newer: same",
            Ask::luat("plain", IMEI, "2.0.1"),
            Some(nothing),
        ),
        (
            "nothing newer: 0s",
            Ask::luat("plain", IMEI, "002.000.001"),
            Some(nothing),
        ),
        (
            "nothing newer: newer",
            Ask::luat("plain", IMEI, "2.0.10"),
            Some(nothing),
        ),
        ("paused", Ask::luat("paused", IMEI, "2.0.0"), Some(not_now)),
        (
            "paused with a reason",
            Ask::luat("because", IMEI, "2.0.0"),
            Some(not_now),
        ),
        ("paused: false", Ask::luat("unpaused", IMEI, "2.0.0"), None),
        (
            "not_before to come",
            Ask::luat("later", IMEI, "2.0.0"),
            Some(not_now),
        ),
        ("not_before past", Ask::luat("earlier", IMEI, "2.0.0"), None),
        (
            "window closed",
            Ask::luat("closed", IMEI, "2.0.0"),
            Some(not_now),
        ),
        ("window open", Ask::luat("open", IMEI, "2.0.0"), None),
        (
            "window open in Beijing",
            Ask::luat("beijing", IMEI, "2.0.0"),
            None,
        ),
        ("percent 0", Ask::luat("none", IMEI, "2.0.0"), Some(not_now)),
        ("percent 100", Ask::luat("all", IMEI, "2.0.0"), None),
        (
            "percent 0, but named",
            Ask::luat("named", IMEI, "2.0.0"),
            None,
        ),
        (
            "percent 0, not named",
            Ask::luat("named", OTHER, "2.0.0"),
            Some(not_you),
        ),
        ("allowed", Ask::luat("allow", IMEI, "2.0.0"), None),
        (
            "not allowed",
            Ask::luat("allow", OTHER, "2.0.0"),
            Some(not_you),
        ),
        ("in the range", Ask::luat("range", IMEI, "2.0.0"), None),
        (
            "not in the range",
            Ask::luat("range", OTHER, "2.0.0"),
            Some(not_you),
        ),
        (
            "nobody allowed",
            Ask::luat("nobody", IMEI, "2.0.0"),
            Some(not_you),
        ),
        ("denied", Ask::luat("deny", IMEI, "2.0.0"), Some(not_you)),
        ("not denied", Ask::luat("deny", OTHER, "2.0.0"), None),
        ("from: low end", Ask::luat("from", IMEI, "1.9.0"), None),
        ("from: high end", Ask::luat("from", IMEI, "2.0.0"), None),
        (
            "from: below",
            Ask::luat("from", IMEI, "1.8.9"),
            Some(not_you),
        ),
        ("from one", Ask::luat("one", IMEI, "001.009.000"), None),
        (
            "from one: another",
            Ask::luat("one", IMEI, "1.9.1"),
            Some(not_you),
        ),
        ("from a text", Ask::luat("texts", IMEI, "factory"), None),
        (
            "from another text",
            Ask::luat("texts", IMEI, "1.0-beta2"),
            None,
        ),
        ("firmware_name", Ask::luat("name", IMEI, "2.0.0"), None),
        (
            "another firmware_name",
            Ask::luat("othername", IMEI, "2.0.0"),
            Some(not_you),
        ),
        (
            "unknown project",
            Ask::luat("nowhere", IMEI, "2.0.0"),
            Some(unknown),
        ),
        (
            "a project in another case",
            Ask::luat("PLAIN", IMEI, "2.0.0"),
            Some(unknown),
        ),
        (
            "right key",
            Ask::luat("key", IMEI, "2.0.0").key("secret"),
            None,
        ),
        ("wrong key", Ask::luat("key", IMEI, "2.0.0"), Some(unknown)),
        (
            "version unreadable",
            Ask::luat("plain", IMEI, "factory"),
            Some(nothing),
        ),
        (
            "version missing",
            Ask::luat("plain", IMEI, ""),
            Some(nothing),
        ),
        ("any version", Ask::luat("any", IMEI, "factory"), None),
        (
            "downgrade not allowed",
            Ask::luat("plain", IMEI, "3.0.0"),
            Some(nothing),
        ),
        ("downgrade allowed", Ask::luat("down", IMEI, "3.0.0"), None),
        (
            "downgrade to the same",
            Ask::luat("down", IMEI, "2.0.1"),
            Some(nothing),
        ),
    ];
    for (row, ask, wanted) in table {
        let result = match wanted {
            // Not a row of the table: a text that is no entry of the list and has no order.
            None if row == "from another text" => server
                .wait_for_reply(&get(&ask.target()), common::PATIENCE, |reply| {
                    matches!(reply.status, 403 | 404)
                })
                .map(|_| ()),
            None => gets(&server, &ask, &bytes),
            Some((status, code, text)) => is_refused(&server, &ask, status, code, text),
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
    let device = |project: &str, version: &str| Ask::luatos(project, "Air780EPM", version);
    for (row, ask, bytes) in [
        // device plain, release plain
        ("plain up", device("plain", "1.9.9"), Some(&plain)),
        ("plain same", device("plain", "2.0.1"), None),
        // core form, core form
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
        // core form against plain: only the first and the third number count.
        ("third up", device("plain", "2012.2.0"), Some(&plain)),
        ("first up", device("plain", "2012.1.999"), Some(&plain)),
        ("third same", device("plain", "2012.2.1"), None),
        ("third down", device("plain", "2012.2.2"), None),
        // plain against core form: the module did not say its core.
        ("no core", device("cored", "1.0.3"), None),
        (
            "no core, any_core",
            device("anycore", "1.0.3"),
            Some(&cored),
        ),
    ] {
        let result = match bytes {
            Some(bytes) => gets(&server, &ask, bytes),
            None => server
                .wait_for_reply(&get(&ask.target()), common::PATIENCE, |reply| {
                    reply.status == 404 && matches!(reply.code(), Some(26 | 27))
                })
                .map(|_| ()),
        };
        rows.row(row, result);
    }
    rows.finish();
}

#[test]
fn a_package_that_does_not_fit_the_module_is_no_package() {
    let place = Place::new();
    let air780epm = script_package(EC7XX, 23);
    let ec618 = script_package(EC618, 24);
    let delta = delta_package(EC7XX, 25);
    // For one platform, for another family, and a generic name with a package that has a family.
    place.drop_firmware(
        "one/2012.001.004/one_2012.001.004_LuatOS-SoC_Air780EPM.bin",
        &air780epm,
    );
    place.drop_firmware("ec7xx/1.0.4/update.bin", &air780epm);
    place.drop_firmware("ec618/1.0.4/update.bin", &ec618);
    // From core 2008 alone.
    place.drop_firmware(
        "delta/2012.001.004/from-2008/delta_2012.001.004_LuatOS-SoC_Air780EPM.bin",
        &delta,
    );
    place.drop_firmware(
        "based/2012.001.004/based_2012.001.004_LuatOS-SoC_Air780EPM.bin",
        &delta,
    );
    place.rules(
        "based/2012.001.004/release.json",
        json!({ "base_core": 2008 }),
    );
    // Nobody said from which.
    place.drop_firmware(
        "guess/2012.001.004/guess_2012.001.004_LuatOS-SoC_Air780EPM.bin",
        &delta,
    );
    // A delta for one core and a script for the others.
    place.drop_firmware(
        "both/2012.001.004/from-2008/both_2012.001.004_LuatOS-SoC_Air780EPM.bin",
        &delta,
    );
    place.drop_firmware(
        "both/2012.001.004/both_2012.001.004_LuatOS-SoC_Air780EPM.bin",
        &air780epm,
    );
    let server = Server::start_in(place, &[]);
    let mut rows = Rows::default();
    let none = (404, 26, "no upgrade");
    let soc = Ask::luatos;
    for (row, ask, bytes) in [
        (
            "its platform",
            soc("one", "Air780EPM", "2012.1.3"),
            Some(&air780epm),
        ),
        ("another platform", soc("one", "Air8000", "2012.1.3"), None),
        ("another family", soc("one", "EC618", "2012.1.3"), None),
        ("EC7xx for an 8955", Ask::luat("ec7xx", IMEI, "1.0.3"), None),
        (
            "EC7xx for an EC618",
            soc("ec7xx", "EC618", "1103.1.3"),
            None,
        ),
        (
            "EC7xx for an EC718P",
            soc("ec7xx", "EC718P", "2012.1.3"),
            Some(&air780epm),
        ),
        (
            "EC7xx for an Air8000",
            soc("ec7xx", "Air8000", "2012.1.3"),
            Some(&air780epm),
        ),
        (
            "EC7xx for an ESP32",
            soc("ec7xx", "ESP32C3", "1004.1.3"),
            None,
        ),
        (
            "EC618 for an EC618",
            soc("ec618", "EC618", "1103.1.3"),
            Some(&ec618),
        ),
        (
            "EC618 for an Air780EPM",
            soc("ec618", "Air780EPM", "2012.1.3"),
            None,
        ),
        (
            "a delta from its base",
            soc("delta", "Air780EPM", "2008.1.3"),
            Some(&delta),
        ),
        (
            "a delta from its base, core alone",
            soc("delta", "Air780EPM", "2008.1.4"),
            Some(&delta),
        ),
        (
            "a delta from another core",
            soc("delta", "Air780EPM", "2007.1.3"),
            None,
        ),
        (
            "a delta from its own core",
            soc("delta", "Air780EPM", "2012.1.3"),
            None,
        ),
        (
            "base_core",
            soc("based", "Air780EPM", "2008.1.3"),
            Some(&delta),
        ),
        ("not base_core", soc("based", "Air780EPM", "2009.1.3"), None),
        (
            "both: the delta",
            soc("both", "Air780EPM", "2008.1.3"),
            Some(&delta),
        ),
        (
            "both: the script",
            soc("both", "Air780EPM", "2012.1.3"),
            Some(&air780epm),
        ),
        ("both: neither", soc("both", "Air780EPM", "2010.1.3"), None),
    ] {
        rows.row(
            row,
            match bytes {
                Some(bytes) => gets(&server, &ask, bytes),
                None => is_refused(&server, &ask, none.0, none.1, none.2),
            },
        );
    }
    // A file whose base nobody named is no release at all, or one without a package.
    for version in ["2008.1.3", "2012.1.3"] {
        let ask = Ask::luatos("guess", "Air780EPM", version);
        rows.row(
            "a delta without a base",
            server.try_get(&ask.target()).and_then(|reply| {
                reply
                    .must_refuse(404, 26)
                    .or_else(|_| reply.must_refuse(403, 25))?;
                Device::new(server.udp).must_say(ask.datagram(), "no upgrade")
            }),
        );
    }
    rows.finish();
}

#[test]
fn the_2g_module_itself_never_gets_an_ec7xx_package() {
    let place = Place::new();
    place.drop_firmware("mixed/1.0.4/update.bin", &script_package(EC7XX, 26));
    let server = Server::start_in(place, &[]);
    for name in ["mixed_Luat_V0035_8955", "mixed_Luat_V0040_8955_SSL_TTS"] {
        let ask = Ask {
            name: name.to_owned(),
            ..Ask::luat("mixed", IMEI, "1.0.3")
        };
        is_refused(&server, &ask, 404, 26, "no upgrade").unwrap();
    }
}

#[test]
fn an_exact_platform_goes_before_the_generic_file_and_the_newest_release_before_both() {
    let place = Place::new();
    let generic = noise(27, 900);
    let exact = script_package(EC7XX, 28);
    let old = noise(29, 800);
    place.drop_firmware("P/2012.001.004/update.bin", &generic);
    place.drop_firmware(
        "P/2012.001.004/P_2012.001.004_LuatOS-SoC_Air780EPM.bin",
        &exact,
    );
    place.drop_firmware("P/2012.001.003/P_2012.001.003_LuatOS-SoC_Air8000.bin", &old);
    let server = Server::start_in(place, &[]);
    let mut rows = Rows::default();
    rows.row(
        "exact",
        gets(&server, &Ask::luatos("P", "Air780EPM", "2012.1.2"), &exact),
    );
    rows.row(
        "generic",
        gets(
            &server,
            &Ask::luatos("P", "Air780EHM", "2012.1.2"),
            &generic,
        ),
    );
    rows.row(
        "newest, though generic",
        gets(&server, &Ask::luatos("P", "Air8000", "2012.1.2"), &generic),
    );
    rows.finish();
}

#[test]
fn a_refused_release_does_not_hide_an_older_one_but_a_running_rollout_does() {
    let place = Place::new();
    let old = noise(30, 1100);
    let new = noise(31, 1200);
    for (project, rules) in [
        ("paused", json!({ "paused": true })),
        ("later", json!({ "not_before": "2099-01-01T00:00:00Z" })),
        ("deny", json!({ "deny": [IMEI] })),
        ("allow", json!({ "allow": [OTHER] })),
        ("from", json!({ "from": "7.0.0" })),
        ("key", json!({ "project_key": "other" })),
        ("percent", json!({ "percent": 0 })),
    ] {
        place.drop_firmware(&format!("{project}/2.0.1/update.bin"), &old);
        place.rules(&format!("{project}/2.0.2/release.json"), rules);
        place.drop_firmware(&format!("{project}/2.0.2/update.bin"), &new);
    }
    let server = Server::start_in(place, &[]);
    let mut rows = Rows::default();
    for project in ["paused", "later", "deny", "allow", "from", "key"] {
        rows.row(
            project,
            gets(&server, &Ask::luat(project, IMEI, "2.0.0"), &old),
        );
    }
    rows.row(
        "percent",
        is_refused(
            &server,
            &Ask::luat("percent", IMEI, "2.0.0"),
            404,
            27,
            "no upgrade",
        ),
    );
    rows.finish();
}

#[test]
fn the_rules_of_a_release_win_over_those_of_its_project_except_that_deny_adds_up() {
    let place = Place::new();
    let bytes = noise(32, 700);
    place.rules(
        "P/release.json",
        json!({ "paused": true, "deny": [OTHER], "allow": ["862991443750000-862991443759999"] }),
    );
    place.rules(
        "P/2.0.1/release.json",
        json!({ "paused": false, "deny": ["862991443751111"] }),
    );
    place.drop_firmware("P/2.0.1/update.bin", &bytes);
    place.drop_firmware("P/2.0.2/update.bin", &noise(33, 701));
    let server = Server::start_in(place, &[]);
    let mut rows = Rows::default();
    rows.row(
        "unpaused by the release",
        gets(&server, &Ask::luat("P", IMEI, "2.0.0"), &bytes),
    );
    for denied in [OTHER, "862991443751111"] {
        rows.row(
            denied,
            server
                .wait_for_reply(
                    &get(&luat("P", denied, "2.0.0")),
                    common::PATIENCE,
                    |reply| reply.status == 403 || reply.status == 404,
                )
                .map(|_| ()),
        );
    }
    rows.row(
        "not in the project's allow",
        server
            .try_get(&luat("P", "862991440000000", "2.0.0"))
            .and_then(|reply| {
                // Not for this one, or not now, for the other release: both are true.
                reply
                    .must_refuse(403, 21)
                    .or_else(|_| reply.must_refuse(404, 27))
            }),
    );
    rows.finish();
}

#[test]
fn ten_percent_are_about_a_tenth_and_always_the_same_ones() {
    let place = Place::new();
    let bytes = noise(34, 300);
    place.drop_firmware("P/2.0.1/update.bin", &bytes);
    let server = Server::start_in(place, &[]);
    server.wait_until_offered(&luat("P", IMEI, "2.0.0"), &bytes);
    let members = |percent: u32, server: &Server| -> Vec<bool> {
        // The device that is denied shows that these rules are in force.
        let marker = format!("86299144400{percent:04}");
        server.rules(
            "P/2.0.1/release.json",
            json!({ "percent": percent, "deny": [marker] }),
        );
        server.wait_until_refused(&luat("P", &marker, "2.0.0"), 403, 21);
        (0..300)
            .map(|n| {
                let imei = format!("8629914437{n:05}");
                server.get(&luat("P", &imei, "2.0.0")).status == 200
            })
            .collect()
    };
    let ten = members(10, &server);
    let sixty = members(60, &server);
    let count = |list: &[bool]| list.iter().filter(|member| **member).count();
    assert!((9..=66).contains(&count(&ten)), "{} of 300", count(&ten));
    assert!(
        (130..=230).contains(&count(&sixty)),
        "{} of 300",
        count(&sixty)
    );
    for (number, (first, second)) in ten.iter().zip(&sixty).enumerate() {
        assert!(
            !first || *second,
            "device {number} fell out of a growing rollout"
        );
    }
}

#[test]
fn a_redirect_is_for_those_who_can_follow_it() {
    let place = Place::new();
    let bytes = noise(35, 1300);
    place.drop_firmware("中文 项目/2.0.1/固件 一.bin", &bytes);
    place.rules(
        "中文 项目/2.0.1/release.json",
        json!({ "redirect": "https://cdn.example.com/{project}/{version}/{file}?s={sha256}&i={imei}&f={from}" }),
    );
    let server = Server::start_in(place, &[]);
    let target = |rest: &str| format!("{}{rest}", luat("中文%20项目", IMEI, "2.0.0"));
    server.wait_until_offered(&target(""), &bytes);
    let mut rows = Rows::default();
    for rest in ["", "&need_oss_url=0", "&need_oss_url="] {
        rows.row(
            &format!("{rest:?}"),
            server
                .try_get(&target(rest))
                .and_then(|reply| reply.must_be_file(&bytes)),
        );
    }
    let reply = server.get(&target("&need_oss_url=1"));
    assert_eq!(reply.status, 302, "{}", reply.show());
    let hash: String = <sha2::Sha256 as sha2::Digest>::digest(&bytes)
        .iter()
        .map(|byte| format!("{byte:02x}"))
        .collect();
    let chinese = "%E4%B8%AD%E6%96%87%20%E9%A1%B9%E7%9B%AE";
    let file = "%E5%9B%BA%E4%BB%B6%20%E4%B8%80.bin";
    assert_eq!(
        reply.header("Location"),
        Some(
            format!("https://cdn.example.com/{chinese}/2.0.1/{file}?s={hash}&i={IMEI}&f=2.0.0")
                .as_str()
        )
    );
    // Nobody is sent anywhere for a no.
    rows.row(
        "nothing newer",
        server
            .try_get(&format!(
                "{}&need_oss_url=1",
                luat("中文%20项目", IMEI, "2.0.1")
            ))
            .and_then(|reply| reply.must_refuse(404, 27)),
    );
    // Over UDP there is no redirect: the bytes themselves.
    let device = Device::new(server.udp);
    let offer = device
        .check(format!("{IMEI},中文 项目_Luat_V0017_ASR1802,2.0.0"))
        .unwrap();
    assert_eq!(device.download(offer).unwrap(), bytes);
    rows.finish();
}

#[test]
fn luatos_modules_are_never_redirected() {
    let place = Place::new();
    let bytes = noise(36, 1300);
    place.drop_firmware("P/1.0.9/update.bin", &bytes);
    place.rules(
        "P/1.0.9/release.json",
        json!({ "redirect": "https://cdn.example.com/{file}" }),
    );
    let server = Server::start_in(place, &[]);
    server.wait_until_offered(&luatos("P", "EC618", IMEI, "1103.1.2"), &bytes);
}
