//! Promise: an operator who follows the guides to moving from another server loses nothing: the blocks of the guides
//! are run unchanged, the old servers run beside the new one, emulated modules of every generation get the same bytes
//! and codes from both, and a fleet moves in stages, and back.
#![cfg(feature = "lab")]

mod answers;
mod from_scripts;
mod from_spring;
mod from_vendor;
mod old_http;
mod python;

use crate::common;

use std::path::Path;
use std::process::Command;
use std::time::Duration;

use common::documents;
use common::{Place, Server, both, run_command};
use luat_ota::modems::driver::{Played, Settings, play};
use luat_ota::modems::generations::{Client, Module, Transport};
use luat_ota::modems::{Attempt, Endpoint, Outcome};

/// The guide to moving from another server.
const SERVERS: &str = "docs/guide-migrate-server.md";
/// The guide to moving from the vendor's cloud.
const VENDOR: &str = "docs/guide-migrate-vendor.md";

/// The only block of shell in a guide that contains this text.
fn block(guide: &str, has: &str) -> String {
    let mut found = documents::blocks(&documents::read(guide), "sh");
    found.retain(|block| block.contains(has));
    assert_eq!(found.len(), 1, "{guide}: blocks with {has:?}: {found:?}");
    found.remove(0)
}

/// Runs a block in a place's folder, with `luat-ota` and the programs of its `bin` on the path. Returns the output.
fn shell(place: &Place, block: &str) -> Result<String, String> {
    let bin = place.root.join("bin");
    let _ = std::fs::create_dir(&bin);
    let _ = std::os::unix::fs::symlink(env!("CARGO_BIN_EXE_luat-ota"), bin.join("luat-ota"));
    let path = std::env::var("PATH").unwrap();
    let mut command = Command::new("bash");
    common::clean(&mut command);
    command
        .args(["-e", "-c", block])
        .current_dir(&place.root)
        .env("LUAT_OTA_STATE", place.state())
        .env("PATH", format!("{}:{path}", bin.display()));
    let output = run_command(&mut command);
    match output.status.success() {
        true => Ok(both(&output)),
        false => Err(both(&output)),
    }
}

/// Plays attempts at the same time. Returns their results in the given order. The time-out is long because of loaded
/// machines, and costs time only if a server does not reply.
fn play_all(attempts: Vec<Box<dyn Attempt + Send>>) -> Vec<Played> {
    play_all_with(attempts, &Settings::probing(Duration::from_secs(20)))
}

/// Like [`play_all`] with these settings, for a server that does not reply.
fn play_all_with(attempts: Vec<Box<dyn Attempt + Send>>, settings: &Settings) -> Vec<Played> {
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

/// One emulated module.
#[derive(Clone)]
struct EmulatedModule {
    client: Client,
    module: Module,
}

impl EmulatedModule {
    /// The module with this number in a fleet.
    fn new(number: usize, client: Client, project: &str, version: &str) -> EmulatedModule {
        EmulatedModule {
            client,
            module: Module {
                imei: format!("{}", 862_991_440_000_000_u64 + number as u64),
                project: project.into(),
                version: version.into(),
                core: None,
                bsp: None,
                key: "k".into(),
                to: None,
            },
        }
    }

    /// The client's attempt to update from this address and path.
    fn attempt(&self, address: std::net::SocketAddr, path: &str) -> Box<dyn Attempt + Send> {
        let endpoint = Endpoint {
            host: address.ip().to_string(),
            port: address.port(),
            path: path.into(),
        };
        self.client.attempt(&self.module, &endpoint)
    }
}

/// One device for each client that sends a check over HTTP. libfota3 is omitted: only the vendor's cloud and this
/// server know its check.
fn http_fleet(project: &str, version: &str) -> Vec<EmulatedModule> {
    let http = |client: &Client| {
        client.transport() == Transport::Http && !matches!(client, Client::Libfota3(_))
    };
    let clients = Client::all().into_iter().filter(http).enumerate();
    clients
        .map(|(number, client)| EmulatedModule::new(number, client, project, version))
        .collect()
}

/// Fails unless the module has installed exactly these bytes.
fn must_install(played: &Played, bytes: &[u8]) -> Result<(), String> {
    match &played.outcome {
        Outcome::Updated(got) if got == bytes => Ok(()),
        Outcome::Updated(got) => Err(format!("{} other bytes", got.len())),
        other => Err(format!("{other:?}")),
    }
}

/// Waits until the files of a new server have settled, so that it offers or refuses instead of replying "come back
/// later".
fn wait_until_ready(server: &Server, targets: &[String]) {
    for target in targets {
        server
            .wait_for_reply(&common::get(target), common::PATIENCE, |reply| {
                reply.status != 503
            })
            .unwrap();
    }
}

/// Whether a program can be started. If not, reports that the test was skipped.
fn has(program: &str) -> bool {
    let mut command = Command::new(program);
    let quiet = command.arg("--version").output();
    let found = quiet.is_ok_and(|output| output.status.success());
    if !found {
        common::mount::skipped(&format!("{program} is not installed"));
    }
    found
}

/// Writes an executable file, and its folder.
fn executable(path: &Path, text: &str) {
    std::fs::create_dir_all(path.parent().unwrap()).unwrap();
    common::write_executable(path, text);
}
