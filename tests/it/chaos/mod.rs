//! Promise: whatever happens to the folder, the links and the server, no module ever gets an image that is not, byte
//! for byte, one of the files that were dropped, and no module gets the same failed content more often than the loop
//! guard allows.
//!
//! Modules of every generation download with cuts at random bytes, while releases are added, replaced in place,
//! renamed, paused and deleted. The server is killed with SIGKILL and started again, sometimes without its state.
//! Some modules have a clone: the same id, project and core from the same /24. The test takes half a minute in
//! `cargo test`. To run it for hours:
//!
//! ```text
//! LUAT_OTA_CHAOS_SECONDS=14400 cargo test --release --test it chaos:: -- --nocapture
//! ```
//!
//! `LUAT_OTA_CHAOS_SEED` repeats the random choices of a run (not its timing). `LUAT_OTA_CHAOS_BINARY` names a
//! binary to test instead of the one built with the test.
#![cfg(feature = "lab")]

mod disturber;
mod judge;
mod pairs;

use crate::common;

use disturber::FolderDisturber;
use judge::{check_that_all_update, judge};

use std::collections::{BTreeMap, HashMap};
use std::io::Write;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::process::Command;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use common::packages::noise;
use common::random::Random;
use common::recipes::StopOnDrop;
use common::{Log, Place, Server, both, clean, luat, run_command, serve_arguments};
use luat_ota::modems::driver::{Played, Settings, play};
use luat_ota::modems::generations::{Client, Module, Transport};
use luat_ota::modems::luatos::Core;
use luat_ota::modems::{Endpoint, Failure, Outcome, diagnose};
use serde_json::json;

const PROJECTS: [&str; 4] = ["ALIYUN", "BIKE", "METER", "PUMP"];

/// Number of threads that play modules.
const PLAYERS: usize = 6;

/// The player whose modules are clones: they have the ids of the previous player's modules.
const CLONES: usize = PLAYERS - 1;

/// Seconds after which all modules get other ids: the server distinguishes only a few contents for one id.
const ID_LIFE: u64 = 60;

/// One in this many kills also deletes the state.
const LOSES_STATE: u64 = 5;

/// Reasons in the log for refusing a resume with 416.
const NOT_RESUMED: [&str; 4] = [
    "several downloads of this id",
    "the content of its download no longer exists",
    "it requests bytes after the end",
    "the download that it resumes is unknown",
];

/// One in this many devices falls back after each update.
const FALLS_BACK: u64 = 5;

/// Limit of the complete deliveries of one content to a device that always falls back: those that the loop guard's
/// bound by bytes permits (attempts + 2), and one that may be in progress when the bound is reached.
const ALLOWED: u32 = 3 + 2 + 1;

/// A file that was dropped at some time.
#[derive(Clone)]
struct Image {
    project: usize,
    /// The last number of the file's version, 1.0.N.
    number: u32,
    bytes: Arc<Vec<u8>>,
}

/// The addresses of the running server, and all files that were ever dropped.
#[derive(Default)]
struct World {
    addresses: Option<(SocketAddr, SocketAddr, SocketAddr)>,
    images: Vec<Image>,
    /// Violations of the promise.
    violations: Vec<String>,
    counts: Counts,
}

#[derive(Debug, Default)]
struct Counts {
    attempts: u32,
    updates: u32,
    cut: u32,
    resumed: u32,
    refused: u32,
    failed: u32,
    kills: u32,
    /// Kills after which the state was deleted.
    states_lost: u32,
    /// Number of changes to the folder.
    changes: u32,
    /// Attempts of clones and of modules that have a clone.
    of_clones: u32,
    /// Downloads that the pairs began, and files that they received completely.
    downloads: u32,
    pairs_whole: u32,
    /// Resumes by the pairs: those that were served, those of them after a restart of the server, and those that
    /// were refused.
    resumes: u32,
    resumes_after_a_kill: u32,
    resumes_refused: u32,
    /// Refused resumes of all modules, by the reason in the server's log.
    not_resumed: BTreeMap<&'static str, usize>,
}

impl Counts {
    /// Adds the counts of a server's log.
    fn add_log(&mut self, log: &Log) {
        for line in log.all() {
            if let Some(why) = NOT_RESUMED.iter().find(|why| line.contains(**why)) {
                *self.not_resumed.entry(why).or_default() += 1;
            }
        }
    }
}

struct Device {
    client: Client,
    imei: String,
    project: usize,
    number: u32,
    falls_back: bool,
    /// Whether another module has the same id.
    has_clone: bool,
    source: IpAddr,
    /// Deliveries since the version last changed, by a short hash of the image: the number of complete ones, and the
    /// value of `forgotten` (see `judge`) before the first one.
    deliveries: HashMap<u64, (u32, u32)>,
}

fn short_hash(bytes: &[u8]) -> u64 {
    use std::hash::{DefaultHasher, Hash, Hasher};
    let mut hasher = DefaultHasher::new();
    bytes.hash(&mut hasher);
    hasher.finish()
}

fn variable(name: &str) -> Option<u64> {
    std::env::var(name).ok()?.parse().ok()
}

fn start(place: Place) -> Server {
    let binary = std::env::var_os("LUAT_OTA_CHAOS_BINARY")
        .unwrap_or_else(|| env!("CARGO_BIN_EXE_luat-ota").into());
    let mut command = Command::new(binary);
    clean(&mut command);
    command.args(serve_arguments(
        &place,
        &["--grace", "0", "--attempts", "3"],
    ));
    Server::from_command(place, &mut command)
}

#[test]
fn no_image_is_torn_and_no_failed_content_is_repeated_without_end() {
    let seconds = variable("LUAT_OTA_CHAOS_SECONDS").unwrap_or(25);
    let seed = variable("LUAT_OTA_CHAOS_SEED").unwrap_or_else(|| {
        let since = std::time::SystemTime::UNIX_EPOCH.elapsed().unwrap();
        since.as_secs()
    });
    println!("LUAT_OTA_CHAOS_SECONDS={seconds} LUAT_OTA_CHAOS_SEED={seed}");
    let world = Mutex::new(World::default());
    let place = Place::new();
    let mut random = Random(seed);
    let mut disturber = FolderDisturber {
        world: &world,
        root: place.firmware(),
        newest: [0; PROJECTS.len()],
        made: 0,
        settling: false,
    };
    for project in 0..PROJECTS.len() {
        disturber.add(&mut random, project);
    }
    let server = start(place);
    world.lock().unwrap().addresses = Some((server.http, server.udp, server.tcp));
    let stop = AtomicBool::new(false);
    let end = Instant::now() + Duration::from_secs(seconds);
    let server = std::thread::scope(|scope| {
        // The players must stop if anything here fails.
        let _stop = StopOnDrop(&stop);
        for player in 0..PLAYERS {
            let (world, stop) = (&world, &stop);
            scope.spawn(move || play_devices(world, stop, seed, player));
        }
        let (pairs_world, pairs_stop) = (&world, &stop);
        scope.spawn(move || pairs::play(pairs_world, pairs_stop, seed));
        let mut server = server;
        let mut next_kill = Instant::now() + Duration::from_secs(4);
        while Instant::now() < end {
            if Instant::now() >= next_kill {
                // Delete the state at least once.
                let kills = world.lock().unwrap().counts.kills;
                let loses_state = kills == 1 || random.one_in(LOSES_STATE);
                server = kill_and_start(&world, server, loses_state);
                next_kill = Instant::now() + Duration::from_millis(2500 + random.below(5000));
            }
            disturber.disturb(&mut random);
            world.lock().unwrap().counts.changes += 1;
            // This does not wait for an event. It is the pace of a person and a build server.
            std::thread::sleep(Duration::from_millis(100 + random.below(700)));
            assert!(server.is_running(), "the server died");
        }
        server
    });
    let newest = disturber.settle(&mut random);
    check_that_all_update(&server, &newest);
    let mut world = world.into_inner().unwrap();
    world.counts.add_log(&server.log);
    println!("{:#?}, {} files", world.counts, world.images.len());
    assert!(
        world.violations.is_empty(),
        "{}",
        world.violations.join("\n")
    );
    let enough = u32::try_from(seconds).unwrap_or(u32::MAX);
    assert!(world.counts.updates > enough, "hardly anything happened");
    let counts = &world.counts;
    assert!(counts.cut > 5 && counts.kills >= 2 && counts.states_lost > 0);
    assert!(counts.of_clones > 0 && counts.pairs_whole > 0);
    assert!(counts.resumes > 0 && counts.resumes_refused > 0);
    assert!(seconds < 100 || counts.resumes_after_a_kill > 0);
}

/// Kills the server at any moment, verifies that the journal can be loaded, and starts the server again.
fn kill_and_start(world: &Mutex<World>, server: Server, loses_state: bool) -> Server {
    let log = Arc::clone(&server.log);
    let place = server.kill();
    let state = place.state();
    let devices = run_command(
        common::luat_ota()
            .arg("devices")
            .arg(place.firmware())
            .arg("--state")
            .arg(&state),
    );
    let mut violations = Vec::new();
    if !devices.status.success() {
        violations.push(format!("after a kill: {}", both(&devices)));
    }
    if loses_state {
        std::fs::remove_dir_all(&state).unwrap();
    }
    let server = start(place);
    let mut world = world.lock().unwrap();
    world.violations.extend(violations);
    world.counts.add_log(&log);
    world.counts.kills += 1;
    world.counts.states_lost += u32::from(loses_state);
    // The counts above state what the server at this address has forgotten, so both change together.
    world.addresses = Some((server.http, server.udp, server.tcp));
    server
}

/// Plays devices of all generations, one after the other, until the test is over.
fn play_devices(world: &Mutex<World>, stop: &AtomicBool, seed: u64, player: usize) {
    let mut random = Random(seed ^ (player as u64 + 1).wrapping_mul(0xD134_2543_DE82_EF95));
    let clients = Client::all();
    let began = Instant::now();
    let mut life = 0;
    let mut devices = devices(&clients, player, life, &mut random);
    while !stop.load(Ordering::Relaxed) {
        if began.elapsed().as_secs() / ID_LIFE > life {
            life += 1;
            devices = self::devices(&clients, player, life, &mut random);
        }
        let at = random.index(devices.len());
        attempt(world, &mut devices[at], &mut random);
    }
}

fn devices(clients: &[Client], player: usize, life: u64, random: &mut Random) -> Vec<Device> {
    let is_clone = player == CLONES;
    let has_clone = is_clone || player + 1 == CLONES;
    let identity = player - usize::from(is_clone);
    let all = clients.iter().enumerate();
    all.map(|(at, client)| {
        let number = identity * 100 + at;
        let (net, host) = (u8::try_from(identity).unwrap(), u8::try_from(at).unwrap());
        let last = 7 + u8::from(is_clone);
        Device {
            client: *client,
            imei: format!("86299144{:03}{number:04}", life % 1000),
            project: number % PROJECTS.len(),
            number: 0,
            falls_back: random.one_in(FALLS_BACK),
            has_clone,
            source: IpAddr::V4(Ipv4Addr::new(127, 1 + net, host, last)),
            deliveries: HashMap::new(),
        }
    })
    .collect()
}

/// The address that a client uses, out of the server's addresses for HTTP, UDP and TCP.
fn endpoint(client: Client, (http, udp, tcp): (SocketAddr, SocketAddr, SocketAddr)) -> Endpoint {
    let (address, path) = match client.transport() {
        Transport::Http => (http, "/luat/update"),
        Transport::Udp => (udp, ""),
        Transport::Tcp => (tcp, ""),
    };
    Endpoint {
        host: address.ip().to_string(),
        port: address.port(),
        path: path.into(),
    }
}

/// A module of a project that runs version 1.0.`number`.
fn module(imei: &str, project: usize, number: u32) -> Module {
    Module {
        imei: imei.into(),
        project: PROJECTS[project].into(),
        version: format!("1.0.{number}"),
        core: None,
        bsp: None,
        key: "k".into(),
        to: None,
    }
}

fn attempt(world: &Mutex<World>, device: &mut Device, random: &mut Random) {
    let addresses = world.lock().unwrap().addresses.unwrap();
    let endpoint = endpoint(device.client, addresses);
    let module = module(&device.imei, device.project, device.number);
    let settings = Settings {
        cap: Duration::from_secs(20),
        bandwidth: random.one_in(2).then(|| 50_000 + random.below(1_000_000)),
        loss: if random.one_in(3) { 2 } else { 0 },
        cut_after: random.one_in(2).then(|| random.below(200_000)),
        seed: random.below(u64::MAX),
        source: Some(device.source),
        ..Settings::probing(Duration::from_millis(300))
    };
    let mut attempt = device.client.attempt(&module, &endpoint);
    let played = smol::block_on(play(attempt.as_mut(), &settings));
    judge(&mut world.lock().unwrap(), device, &played);
}
