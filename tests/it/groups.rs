//! Promise: `@NAME.txt` at the top of the firmware folder is a group of devices for `allow` and `deny`; an edit of the
//! file takes effect without a restart, and a group that cannot be used admits no device.

use crate::common;

use common::operator::Operator;
use common::packages::noise;
use common::{IMEI, PATIENCE, Place, Server, both, get, is_event, luat, run};
use serde_json::json;

const OTHER: &str = "862991443753387";

#[test]
fn a_group_decides_who_gets_a_release_and_its_edit_needs_no_restart() {
    let place = Place::new();
    let (old, new) = (noise(181, 700), noise(182, 800));
    std::fs::write(
        place.path("@pilot.txt"),
        format!("# first\n{IMEI} # pump 7\n"),
    )
    .unwrap();
    place.rules("P/2.0.2/release.json", json!({"allow": ["@pilot"]}));
    place.drop_firmware("P/2.0.1/update.bin", &old);
    place.drop_firmware("P/2.0.2/update.bin", &new);
    let folder = place.firmware().display().to_string();
    let output = run(&["check", &folder]);
    assert!(output.status.success(), "{}", both(&output));
    assert!(
        both(&output).contains("allow 1 (@pilot 1)"),
        "{}",
        both(&output)
    );

    let server = Server::start_in(place, &[]);
    server.wait_until_offered(&luat("P", IMEI, "2.0.0"), &new);
    server
        .get(&luat("P", OTHER, "2.0.0"))
        .must_be_file(&old)
        .unwrap();
    let output = run(&["explain", &folder, &luat("P", IMEI, "2.0.0")]);
    assert!(
        both(&output).contains("2.0.2: it is in the group @pilot"),
        "{}",
        both(&output)
    );

    let named = |line: &str| line.contains(IMEI) && line.contains("pump 7");
    server.wait_for_log("the name", named);
    let shown = Operator::of(&server)
        .get(&format!("/api/v1/devices/{IMEI}"))
        .json();
    assert_eq!(shown["name"], "pump 7", "{shown}");
    let state = server.place().state().display().to_string();
    let output = run(&["lift", "--state", &state, "--imei", IMEI]);
    assert!(output.status.success(), "{}", both(&output));
    let lifted = |line: &str| is_event(line, "lift") && named(line);
    server.wait_for_log("the name beside the id that was lifted", lifted);

    let group = server.place().path("@pilot.txt");
    std::fs::write(&group, format!("{IMEI}\n862991443753380-{OTHER}\n")).unwrap();
    server.wait_until_offered(&luat("P", OTHER, "2.0.0"), &new);
    server.wait_for_log("the group", |line| {
        line.contains("@pilot.txt is in force: 2 ids and ranges")
    });

    // A release that denies a missing group is held back from all devices until the group exists.
    server.rules("P/2.0.2/release.json", json!({"deny": ["@field-7"]}));
    server.wait_until_offered(&luat("P", IMEI, "2.0.0"), &old);
    let operator = Operator::of(&server);
    let reply = operator.wait_for("/api/v1/releases?project=P", "it is held back", |reply| {
        reply["releases"][0]["state"] == "held_back"
    });
    let reason = reply["releases"][0]["reason"].as_str().unwrap().to_owned();
    assert!(reason.contains("there is no file @field-7.txt"), "{reason}");
    let output = run(&["check", &folder]);
    assert!(!output.status.success(), "{}", both(&output));
    assert!(
        both(&output).contains("deny names `@field-7`"),
        "{}",
        both(&output)
    );
    server.wait_for_log("the group is missed", |line| {
        line.contains("deny names `@field-7`")
    });
    std::fs::write(server.place().path("@field-7.txt"), format!("{IMEI}\n")).unwrap();
    server.wait_until_offered(&luat("P", OTHER, "2.0.0"), &new);
    server
        .get(&luat("P", IMEI, "2.0.0"))
        .must_be_file(&old)
        .unwrap();

    // One bad line holds the release back again.
    std::fs::write(
        server.place().path("@field-7.txt"),
        format!("{IMEI}\n{OTHER},\n"),
    )
    .unwrap();
    server
        .wait_for_reply(&get(&luat("P", OTHER, "2.0.0")), PATIENCE, |reply| {
            reply.body == old
        })
        .unwrap();
    let bad = |line: &str| line.contains("@field-7.txt") && line.contains("line 2: ");
    server.wait_for_log("the bad line", bad);
}

#[test]
fn percent_applies_to_a_group_and_not_to_a_device_that_allow_names() {
    let place = Place::new();
    let bytes = noise(183, 700);
    std::fs::write(place.path("@pilot.txt"), format!("{OTHER}\n")).unwrap();
    place.rules(
        "P/2.0.2/release.json",
        json!({"allow": ["@pilot", IMEI], "percent": 0}),
    );
    place.drop_firmware("P/2.0.2/update.bin", &bytes);
    let server = Server::start_in(place, &[]);
    server.wait_until_offered(&luat("P", IMEI, "2.0.0"), &bytes);
    server.wait_until_refused(&luat("P", OTHER, "2.0.0"), 404, 27);
}
