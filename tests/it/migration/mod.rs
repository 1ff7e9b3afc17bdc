//! Promise: an operator who follows the guides to moving from another server loses nothing. The blocks of the guides are run as they
//! stand; the old servers run beside the new one, and emulated modules of every generation get the same bytes and
//! codes from both. A fleet moves in stages, and back.
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

/// The blocks of shell of a guide that have this text.
fn block(guide: &str, has: &str) -> String {
    let mut found = documents::blocks(&documents::read(guide), "sh");
    found.retain(|block| block.contains(has));
    assert_eq!(found.len(), 1, "{guide}: blocks with {has:?}: {found:?}");
    found.remove(0)
}

/// Runs a block in the folder of a place, with `luat-ota` and what is in its `bin` on the path; what it wrote.
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

/// Plays attempts side by side, in the order given. The patience is for a loaded machine: it costs time
/// only where a server stays silent.
fn play_all(attempts: Vec<Box<dyn Attempt + Send>>) -> Vec<Played> {
    play_all_with(attempts, &Settings::probing(Duration::from_secs(20)))
}

/// The same with these settings, for a server that stays silent.
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
struct Emulated {
    client: Client,
    module: Module,
}

impl Emulated {
    /// Number `number` of a fleet.
    fn new(number: usize, client: Client, project: &str, version: &str) -> Emulated {
        Emulated {
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

    /// What it does when it asks there.
    fn attempt(&self, address: std::net::SocketAddr, path: &str) -> Box<dyn Attempt + Send> {
        let endpoint = Endpoint {
            host: address.ip().to_string(),
            port: address.port(),
            path: path.into(),
        };
        self.client.attempt(&self.module, &endpoint)
    }
}

/// Every client that asks over HTTP with a check, one device each. libfota3 has another check, which only the
/// vendor's cloud and this server know.
fn http_fleet(project: &str, version: &str) -> Vec<Emulated> {
    let http = |client: &Client| {
        client.transport() == Transport::Http && !matches!(client, Client::Libfota3(_))
    };
    let clients = Client::all().into_iter().filter(http).enumerate();
    clients
        .map(|(number, client)| Emulated::new(number, client, project, version))
        .collect()
}

/// Whether the module took exactly these bytes.
fn took(played: &Played, bytes: &[u8]) -> Result<(), String> {
    match &played.outcome {
        Outcome::Updated(got) if got == bytes => Ok(()),
        Outcome::Updated(got) => Err(format!("{} other bytes", got.len())),
        other => Err(format!("{other:?}")),
    }
}

/// Waits until a new server offers or refuses instead of "come back later": its files have settled.
fn settled(server: &Server, targets: &[String]) {
    for target in targets {
        server
            .wait_for_reply(&common::get(target), common::PATIENCE, |reply| {
                reply.status != 503
            })
            .unwrap();
    }
}

/// Whether a program can be started; if not, one line says that the test was skipped.
fn has(program: &str) -> bool {
    let mut command = Command::new(program);
    let quiet = command.arg("--version").output();
    let found = quiet.is_ok_and(|output| output.status.success());
    if !found {
        common::mount::skipped(&format!("{program} is not installed"));
    }
    found
}

/// Writes a file that can be run.
fn executable(path: &Path, text: &str) {
    use std::os::unix::fs::PermissionsExt;
    std::fs::create_dir_all(path.parent().unwrap()).unwrap();
    std::fs::write(path, text).unwrap();
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o755)).unwrap();
}
