//! Promise: a release with `stages` advances to the next stage when the time of the current one is over and devices
//! were confirmed; the stage is kept over SIGKILL; and the page, `check` and `explain` state what the next stage waits
//! for.

use crate::common;

use common::operator::Operator;
use common::packages::noise;
use common::{IMEI, PATIENCE, Place, Server, both, luat, run, wait_until};
use serde_json::{Value, json};

/// The id of a device that no list names, so that the release is offered to this device in the last stage only.
const OTHER: &str = "862991443753387";

fn release(operator: &Operator) -> Value {
    operator.get("/api/v1/releases?project=P").json()["releases"][0].clone()
}

#[test]
fn a_stage_is_reached_by_confirmed_devices_and_outlives_a_kill() {
    let place = Place::new();
    let bytes = noise(191, 700);
    let rules = json!({
        "stages": [{"percent": 0}, {"percent": 100, "after": "2s"}],
        "allow": [IMEI, "862991443750000-862991443759999"],
    });
    place.rules("P/2.0.1/release.json", rules);
    place.drop_firmware("P/2.0.1/update.bin", &bytes);
    let folder = place.firmware().display().to_string();
    let state = place.state().display().to_string();
    let check = || both(&run(&["check", &folder, "--state", &state]));
    assert!(check().contains("stages 0, 100 percent"), "{}", check());

    let server = Server::start_in(place, &[]);
    let operator = Operator::of(&server);
    server.wait_until_refused(&luat("P", OTHER, "2.0.0"), 404, 27);
    // The time of the stage is over, and no device runs the release.
    let reason = "no device has been confirmed with it yet";
    let waiting = server.wait_for_log("it waits", |line| line.contains("the next stage waits"));
    assert!(
        waiting.contains(reason) && waiting.contains("2.0.1"),
        "{waiting}"
    );
    let shown = release(&operator);
    assert_eq!(shown["stage"]["waits"], reason, "{shown}");
    assert_eq!(
        (&shown["percent"], &shown["state"]),
        (&json!(0.0), &json!("rolling_out"))
    );
    server.wait_until_refused(&luat("P", OTHER, "2.0.0"), 404, 27);
    let said = check();
    assert!(
        said.contains(&format!(
            "P/2.0.1: 0 percent of the devices; next stage: 100 percent; it waits: {reason}"
        )),
        "{said}"
    );
    // For other programs: the object of the API, and the sentence.
    let output = run(&["check", &folder, "--state", &state, "--json"]);
    let files: Value = serde_json::from_slice(&output.stdout).unwrap();
    let stage = |release: Value| {
        let mut stage = release["stage"].clone();
        // Each output rounds this time to seconds again.
        stage["since"] = Value::Null;
        stage
    };
    assert_eq!(stage(files["files"][0].clone()), stage(shown));
    let output = run(&["check", &folder, "--state", &state, "--csv"]);
    let rows = common::csv::rows(&String::from_utf8(output.stdout).unwrap());
    let text = format!("0 percent of the devices; next stage: 100 percent; it waits: {reason}");
    assert_eq!(rows[0]["stage"], text);
    let explained = run(&[
        "explain",
        &folder,
        "--state",
        &state,
        &luat("P", OTHER, "2.0.0"),
    ]);
    let said = both(&explained);
    assert!(
        said.contains("stage    2.0.1: 0 percent") && said.contains(reason),
        "{said}"
    );
    assert!(
        said.contains("2.0.1: it is in the stage of 0 percent"),
        "{said}"
    );

    // The device that `allow` names installs the release and checks with the new version.
    server.wait_until_offered(&luat("P", IMEI, "2.0.0"), &bytes);
    operator.wait_for("/api/v1/releases?project=P", "it is delivered", |reply| {
        reply["releases"][0]["counts"]["delivered"] == 1
    });
    server.get(&luat("P", IMEI, "2.0.1"));
    let reached = server.wait_for_log("the stage", |line| line.contains("stage_reached"));
    assert!(reached.contains("100 percent of the devices"), "{reached}");
    server.wait_until_offered(&luat("P", OTHER, "2.0.0"), &bytes);

    // After SIGKILL the release continues in the same stage.
    let place = server.kill();
    let server = Server::start_in(place, &[]);
    server.wait_until_offered(&luat("P", OTHER, "2.0.0"), &bytes);
    let operator = Operator::of(&server);
    let shown = release(&operator);
    assert_eq!(
        (&shown["percent"], &shown["stage"]["next"]),
        (&json!(100.0), &Value::Null),
        "{shown}"
    );
    assert_eq!(shown["state"], "live");

    // A percentage that an operator sets replaces the stages.
    let reply = operator.post("/api/v1/releases/P/2.0.1/percent", &json!({"percent": 0}));
    assert_eq!(
        (reply.status, reply.json()["stage"].clone()),
        (200, Value::Null),
        "{}",
        reply.text()
    );
    server.wait_until_refused(&luat("P", OTHER, "2.0.0"), 404, 27);
    let path = server.place().path("P/2.0.1/release.json");
    wait_until("the file", PATIENCE, || {
        !std::fs::read_to_string(&path).unwrap().contains("stages")
    });
}
