//! Promise: `check` shows the folder as it would be served, `explain` states what the server would reply, and neither
//! disturbs the server.

use crate::command_line::place;
use crate::common;

use common::packages::{EC7XX, noise, script_package};
use common::{IMEI, Place, Rows, Server, both, luat, luatos, run};
use serde_json::json;

#[test]
fn check_shows_the_catalogue_and_its_exit_status_is_0_without_faults() {
    let (place, _) = place();
    place.drop_firmware(
        "demo/2012.001.004/demo_2012.001.004_LuatOS-SoC_Air780EPM.bin",
        &script_package(EC7XX, 172),
    );
    let folder = place.firmware().display().to_string();
    let output = run(&["check", &folder]);
    let said = both(&output);
    assert!(output.status.success(), "{said}");
    for word in ["P", "2.0.1", "demo", "2012.001.004", "Air780EPM"] {
        assert!(said.contains(word), "no {word}: {said}");
    }
    place.drop_firmware(
        "demo/2012.001.005/factory.soc",
        b"7z\xbc\xaf'\x1c\0\x04 and more",
    );
    let output = run(&["check", &folder]);
    let said = both(&output);
    assert!(!output.status.success(), "{said}");
    assert!(output.status.code().is_some(), "{}", output.status);
    assert!(said.contains("factory.soc"), "{said}");
    let line = said
        .lines()
        .find(|line| line.contains("factory.soc"))
        .unwrap();
    let command = "`luat-ota pack demo/2012.001.005/factory.soc`";
    assert!(line.contains(command), "{line}");
    // A missing folder is an error, not an empty catalogue.
    let output = run(&["check", &format!("{folder}/nowhere")]);
    assert!(!output.status.success(), "{}", both(&output));
}

#[test]
fn check_and_explain_do_not_disturb_a_running_server() {
    let (place, bytes) = place();
    let server = Server::start_in(place, &[]);
    server.wait_until_offered(&luat("P", IMEI, "2.0.0"), &bytes);
    let folder = server.place().firmware().display().to_string();
    let before = common::files_under(&server.place().firmware());
    assert!(run(&["check", &folder]).status.success());
    let output = run(&["explain", &folder, &luat("P", IMEI, "2.0.0")]);
    assert!(output.status.success(), "{}", both(&output));
    assert_eq!(common::files_under(&server.place().firmware()), before);
    server
        .get(&luat("P", IMEI, "2.0.0"))
        .must_be_file(&bytes)
        .unwrap();
}

#[test]
fn explain_states_what_the_server_does() {
    let place = Place::new();
    let bytes = noise(173, 900);
    for (project, rules) in [
        ("open", json!({})),
        (
            "paused",
            json!({ "paused": "the antenna test comes first" }),
        ),
        (
            "allow",
            json!({ "allow": ["862991440000000-862991449999999"] }),
        ),
        ("deny", json!({ "deny": [IMEI] })),
        ("none", json!({ "percent": 0 })),
        ("key", json!({ "project_key": "secret" })),
    ] {
        place.rules(&format!("{project}/1.0.9/release.json"), rules);
        place.drop_firmware(&format!("{project}/1.0.9/update.bin"), &bytes);
    }
    place.drop_firmware("ec/1.0.9/update.bin", &script_package(EC7XX, 174));
    let server = Server::start_in(place, &[]);
    server.wait_until_offered(&luat("open", IMEI, "1.0.0"), &bytes);
    server.wait_until_refused(&luat("ec", IMEI, "1.0.0"), 404, 26);
    let folder = server.place().firmware().display().to_string();
    let mut rows = Rows::default();
    for (project, version, wanted, needle) in [
        ("open", "1.0.0", 200, "offer"),
        ("open", "1.0.9", 404, "newer"),
        ("open", "factory", 404, "factory"),
        ("paused", "1.0.0", 404, "the antenna test comes first"),
        ("allow", "1.0.0", 200, "offer"),
        ("deny", "1.0.0", 403, "deny"),
        ("none", "1.0.0", 404, "percent"),
        ("key", "1.0.0", 403, "project_key"),
        ("ec", "1.0.0", 404, "package"),
        ("nowhere", "1.0.0", 403, "project"),
    ] {
        let name = format!("{project}_Luat_V0017_ASR1802");
        let target = luat(project, IMEI, version);
        let line = format!("GET {target} HTTP/1.1");
        let url = format!("http://ota.example.com:8080{target}");
        for arguments in [
            vec![
                "explain",
                folder.as_str(),
                "--imei",
                IMEI,
                "--firmware-name",
                &name,
                "--version",
                version,
            ],
            vec!["explain", folder.as_str(), &target],
            vec!["explain", folder.as_str(), &line],
            vec!["explain", folder.as_str(), &url],
        ] {
            let output = run(&arguments);
            let said = both(&output).to_lowercase();
            rows.row(
                &format!("{project} {version} {}", arguments[2]),
                (|| {
                    let reply = server.try_get(&target)?;
                    ensure!(
                        reply.status == wanted,
                        "the server says {}: {}",
                        reply.status,
                        reply.show()
                    );
                    ensure!(
                        output.status.code().is_some() && !said.contains("panicked"),
                        "{}: {said}",
                        output.status
                    );
                    ensure!(said.contains(needle), "does not say {needle:?}: {said}");
                    // The output shows the reply as the module gets it, or at least does not contradict it.
                    let path = format!("{project}/1.0.9/update.bin");
                    if wanted == 200 {
                        ensure!(said.contains(&path), "does not name {path}: {said}");
                    }
                    Ok(())
                })(),
            );
        }
    }
    rows.finish();
    let soc = luatos("ec", "Air780EPM", IMEI, "2012.1.0");
    assert_eq!(server.get(&soc).status, 200);
    let said = both(&run(&["explain", &folder, &soc])).to_lowercase();
    assert!(
        said.contains("offer") && said.contains("ec/1.0.9/update.bin"),
        "{said}"
    );
}
