//! Promise: mistakes of users and scripts in the URL do not keep a module from updating.

use super::*;

/// Plays the mistakes of docs/protocol.md 3 as the requests that modules then send.
#[test]
fn a_module_updates_in_spite_of_every_mistake_of_the_user() {
    let bytes = noise(16, 3000);
    let server = server(None, &bytes);
    server.wait_until_offered(&luat("P", IMEI, "1.0.0"), &bytes);
    let mut names = Vec::new();
    let mut attempts: Vec<Box<dyn Attempt + Send>> = Vec::new();
    let at = |path: &str| Endpoint {
        path: path.into(),
        ..endpoint(&server, Client::UpdateHttp)
    };
    for (library, core) in Libfota2::GENERATIONS {
        let client = Client::Libfota2(library, core);
        for path in [
            "/upgrade",
            "/upgrade?",
            "/upgrade?a=1",
            "/upgrade?a=1&",
            "/",
            "/?",
        ] {
            // In later calls the older libraries append their query again.
            for call in [1, 2, 3] {
                names.push(format!("{}, {path}, call {call}", client.name()));
                let identity = client.identity(&module("1.0.0"));
                attempts.push(Box::new(library.at_url(core, &identity, at(path), call)));
            }
        }
        for model in ["Air201", "Air8101", "Air1601", "ESP32C3", "Air780E-ALL"] {
            names.push(format!("{}, model {model}", client.name()));
            let mut module = module("1.0.0");
            module.bsp = Some(model.into());
            let identity = client.identity(&module);
            attempts.push(Box::new(library.update(core, &identity, at("/upgrade"))));
        }
    }
    for generation in [Generation::Gen2g, Generation::Asr1802, Generation::Rda8910] {
        let client = Client::LuaTask(generation);
        for (path, serial) in [
            ("/update?", ""),
            ("/update??", ""),
            ("", "SN 0042 B"),
            ("/update", "仓库 一号"),
            ("/update", "a HTTP/1.1 b"),
            ("/update", "100%"),
        ] {
            names.push(format!("{}, {path}, SN {serial:?}", client.name()));
            let mut identity = client.identity(&module("1.0.0"));
            identity.serial = serial.into();
            let options = Options::default();
            attempts.push(Box::new(LuaTask::new(
                &identity,
                &at(path),
                generation,
                options,
            )));
        }
    }
    let mut rows = Rows::default();
    for (name, played) in names.iter().zip(play_all(attempts, &settings())) {
        rows.row(name, must_update(&played, &bytes));
    }
    rows.finish();
}

#[test]
fn mistakes_of_a_script_affect_no_other_module() {
    let bytes = noise(17, 3000);
    let server = server(None, &bytes);
    server.wait_until_offered(&luat("P", IMEI, "1.0.0"), &bytes);
    // A VERSION of two parts crashes libfota and libfota2 before their check. The others compare it.
    let mut rows = Rows::default();
    fleet(
        &server,
        &module("1.0"),
        &settings(),
        &mut rows,
        |client, played| {
            let crashes = match client {
                Client::First(dialect, _) => {
                    dialect == luat_ota::modems::first_edition::Dialect::Official
                }
                // These clients send their version unchanged.
                Client::Libfota3(_) | Client::Libfota2File => false,
                _ => client.luatos_core().is_some(),
            };
            match (&played.outcome, crashes) {
                (Outcome::Failed(Failure::ScriptError(_)), true) => {
                    ensure!(played.connects == 0, "it asked");
                    Ok(())
                }
                (Outcome::Failed(failure), _) => Err(format!("{failure:?}")),
                (_, true) => Err("did not crash".into()),
                (_, false) => Ok(()),
            }
        },
    );
    rows.finish();
}
