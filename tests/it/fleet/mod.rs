//! Promise: every generation of modules updates from this server, accepts a refusal, resumes after a cut,
//! follows a redirect if it can, and tolerates mistakes of its user. The modules are the strict emulations
//! of `luat_ota::modems`, over real sockets, against the real binary.
#![cfg(feature = "lab")]

mod mistakes;
mod redirects;

use crate::common;

use std::time::Duration;

use common::packages::{EC7XX, noise, script_package};
use common::{IMEI, Place, Rows, Server, luat, luatos};
use luat_ota::modems::driver::{Played, Settings, play};
use luat_ota::modems::generations::{Client, Module, Transport};
use luat_ota::modems::libfota::Libfota2;
use luat_ota::modems::luatask::{Generation, LuaTask, Options};
use luat_ota::modems::luatos::Core;
use luat_ota::modems::{Attempt, Endpoint, Failure, Outcome, diagnose};
use serde_json::json;

/// The module that these tests play.
fn module(version: &str) -> Module {
    Module {
        imei: IMEI.into(),
        project: "P".into(),
        version: version.into(),
        core: None,
        bsp: None,
        key: "k".into(),
        to: None,
    }
}

/// The address and path at which a client sends checks to this server.
fn endpoint(server: &Server, client: Client) -> Endpoint {
    let (address, path) = match client.transport() {
        Transport::Http => (server.http, "/luat/update"),
        Transport::Udp => (server.udp, ""),
        Transport::Tcp => (server.tcp, ""),
    };
    Endpoint {
        host: address.ip().to_string(),
        port: address.port(),
        path: path.into(),
    }
}

fn clients() -> Vec<Client> {
    Client::all()
}

/// The time-out permits hundreds of simultaneous attempts on a loaded machine. It costs time only if the
/// server does not reply.
fn settings() -> Settings {
    Settings::probing(Duration::from_secs(20))
}

/// Plays attempts at the same time. Returns their results in the given order.
fn play_all(attempts: Vec<Box<dyn Attempt + Send>>, settings: &Settings) -> Vec<Played> {
    let executor = smol::LocalExecutor::new();
    smol::block_on(executor.run(async {
        let tasks: Vec<_> = attempts
            .into_iter()
            .map(|mut attempt| {
                executor.spawn(async move { play(attempt.as_mut(), settings).await })
            })
            .collect();
        let mut played = Vec::new();
        for task in tasks {
            played.push(task.await);
        }
        played
    }))
}

/// Plays this module with every generation, and adds a row for each.
fn fleet(
    server: &Server,
    module: &Module,
    settings: &Settings,
    rows: &mut Rows,
    judge: impl Fn(Client, &Played) -> Result<(), String>,
) {
    let clients = clients();
    let attempts = clients
        .iter()
        .map(|client| client.attempt(module, &endpoint(server, *client)))
        .collect();
    for (client, played) in clients.iter().zip(play_all(attempts, settings)) {
        rows.row(&client.name(), judge(*client, &played));
    }
}

/// Fails unless the module has this firmware.
fn must_update(played: &Played, bytes: &[u8]) -> Result<(), String> {
    match &played.outcome {
        Outcome::Updated(got) if got == bytes => Ok(()),
        Outcome::Updated(got) => Err(format!("{} other bytes", got.len())),
        other => Err(format!("{other:?}")),
    }
}

/// Every client updates from version 1.0.0 to `bytes`.
fn all_must_update(server: &Server, bytes: &[u8], rows: &mut Rows) {
    fleet(server, &module("1.0.0"), &settings(), rows, |_, played| {
        must_update(played, bytes)
    });
}

/// Fails unless the module treats the reply as "no update". The one core that cannot do so is excused.
fn must_not_update(client: Client, played: &Played) -> Result<(), String> {
    match &played.outcome {
        Outcome::NoUpdate(_) => Ok(()),
        _ if diagnose::is_known_bug(client, played) => Ok(()),
        other => Err(format!("{other:?}")),
    }
}

fn server(rules: Option<serde_json::Value>, bytes: &[u8]) -> Server {
    let place = Place::new();
    if let Some(rules) = rules {
        place.rules("P/release.json", rules);
    }
    place.drop_firmware("P/1.0.3/update.bin", bytes);
    Server::start_in(place, &[])
}

#[test]
fn every_generation_updates_and_then_accepts_a_refusal() {
    // Sizes at and around the limits of packets and segments.
    let mut rows = Rows::default();
    for size in [1401, 2044, 30_000] {
        let bytes = noise(size as u64, size);
        let server = server(None, &bytes);
        server.wait_until_offered(&luat("P", IMEI, "1.0.0"), &bytes);
        fleet(
            &server,
            &module("1.0.0"),
            &settings(),
            &mut rows,
            |_, played| must_update(played, &bytes),
        );
        fleet(
            &server,
            &module("1.0.3"),
            &settings(),
            &mut rows,
            must_not_update,
        );
        fleet(
            &server,
            &module("1.0.4"),
            &settings(),
            &mut rows,
            must_not_update,
        );
    }
    rows.finish();
}

#[test]
fn only_one_generation_has_a_bug_of_its_own_and_only_at_a_refusal() {
    let bytes = noise(4, 3000);
    let server = server(None, &bytes);
    server.wait_until_offered(&luat("P", IMEI, "1.0.0"), &bytes);
    let clients = clients();
    let attempts = clients
        .iter()
        .map(|client| client.attempt(&module("1.0.3"), &endpoint(&server, *client)))
        .collect();
    let excused: Vec<Client> = clients
        .iter()
        .zip(play_all(attempts, &settings()))
        .filter(|(_, played)| !matches!(played.outcome, Outcome::NoUpdate(_)))
        .map(|(client, _)| *client)
        .collect();
    assert!(
        excused
            .iter()
            .all(|client| client.luatos_core() == Some(Core::D2025_11_12)),
        "{excused:?}"
    );
}

#[test]
fn every_luatos_core_passes_its_package_check() {
    let bytes = script_package(EC7XX, 7);
    let place = Place::new();
    place.drop_firmware("P/1.0.3/P_1.0.3_LuatOS-SoC_Air780EPM.bin", &bytes);
    let server = Server::start_in(place, &[]);
    server.wait_until_offered(&luatos("P", "Air780EPM", IMEI, "2012.1.0"), &bytes);
    let mut rows = Rows::default();
    let module = Module {
        bsp: Some("Air780EPM".into()),
        ..module("001.000.000")
    };
    fleet(
        &server,
        &module,
        &settings(),
        &mut rows,
        |client, played| {
            match client.luatos_core() {
                Some(_) if client != Client::Libfota2File => must_update(played, &bytes),
                // The other clients belong to another chip family and must get nothing.
                _ => must_not_update(client, played),
            }
        },
    );
    rows.finish();
}

#[test]
fn a_refused_device_is_refused_by_every_generation() {
    let all = [
        // A module without mobile.imei() sends the same digits as its MAC.
        json!({ "deny": [IMEI, &IMEI[3..]] }),
        json!({ "allow": ["862991443759999"] }),
        json!({ "paused": "on Monday" }),
        json!({ "percent": 0 }),
        json!({ "not_before": "2099-01-01T00:00:00+08:00" }),
    ];
    let place = Place::new();
    let project = |at: usize| format!("P{at}");
    for (at, rules) in all.iter().enumerate() {
        place.rules(&format!("{}/release.json", project(at)), rules.clone());
        place.drop_firmware(
            &format!("{}/1.0.3/update.bin", project(at)),
            &noise(8, 3000),
        );
    }
    let other = noise(9, 3000);
    place.drop_firmware("Q/1.0.3/update.bin", &other);
    let server = Server::start_in(place, &[]);
    server.wait_until_offered(&luat("Q", IMEI, "1.0.0"), &other);
    for at in 0..all.len() {
        let module = Module {
            project: project(at),
            ..module("1.0.0")
        };
        let mut rows = Rows::default();
        fleet(&server, &module, &settings(), &mut rows, must_not_update);
        rows.finish();
    }
}

#[test]
fn after_a_cut_no_module_accepts_wrong_bytes_and_the_next_attempt_updates() {
    let bytes = noise(12, 200_000);
    let server = server(None, &bytes);
    server.wait_until_offered(&luat("P", IMEI, "1.0.0"), &bytes);
    let mut rows = Rows::default();
    let cut = Settings {
        cut_after: Some(70_000),
        ..settings()
    };
    fleet(
        &server,
        &module("1.0.0"),
        &cut,
        &mut rows,
        |client, played| {
            if !played.was_cut {
                return Err("was not cut".into());
            }
            let resumes = match client {
                Client::First(_, over_udp) => over_udp,
                Client::LuaTask(_) => true,
                Client::UpdateHttp => false,
                _ => client.luatos_core() < Some(Core::D2025_01_27),
            };
            match (&played.outcome, resumes) {
                (_, true) => must_update(played, &bytes),
                (Outcome::Updated(_), false) => Err("updated with half a file".into()),
                (_, false) => Ok(()),
            }
        },
    );
    all_must_update(&server, &bytes, &mut rows);
    rows.finish();
}

#[test]
fn a_4g_module_gets_its_file_in_spite_of_repeated_cuts() {
    let bytes = noise(13, 400_000);
    let server = server(None, &bytes);
    server.wait_until_offered(&luat("P", IMEI, "1.0.0"), &bytes);
    let client = Client::LuaTask(Generation::Rda8910);
    for cut_after in [1, 300, 1500, 390_000] {
        let mut attempt = client.attempt(&module("1.0.0"), &endpoint(&server, client));
        let settings = Settings {
            cut_after: Some(cut_after),
            ..settings()
        };
        let played = smol::block_on(play(attempt.as_mut(), &settings));
        must_update(&played, &bytes).unwrap();
        assert!(played.was_cut && played.connects == 2);
    }
}

#[test]
fn packet_loss_over_udp_costs_time_and_no_byte() {
    let bytes = noise(14, 61_320);
    let server = server(None, &bytes);
    server.wait_until_offered(&luat("P", IMEI, "1.0.0"), &bytes);
    let mut rows = Rows::default();
    for seed in 0..8 {
        let settings = Settings {
            loss: 3,
            seed,
            ..settings()
        };
        fleet(
            &server,
            &module("1.0.0"),
            &settings,
            &mut rows,
            |_, played| must_update(played, &bytes),
        );
    }
    rows.finish();
}
