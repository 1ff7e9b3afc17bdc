//! Sixty emulated modules of all generations that send checks repeatedly over HTTP, UDP and TCP.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering::Relaxed};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use luat_ota::modems::driver::{self, Played, RecordLimits, Settings};
use luat_ota::modems::first_edition::Dialect;
use luat_ota::modems::generations::{Client, Module, Transport};
use luat_ota::modems::libfota::Libfota2;
use luat_ota::modems::libfota3::Libfota3;
use luat_ota::modems::luatask::Generation;
use luat_ota::modems::{Endpoint, Outcome, diagnose};
use sha2::{Digest, Sha256};
use smol::{LocalExecutor, Timer};

use super::SIZE;
use crate::common::random::Random;

/// Number of modules of a fleet.
pub const MODULES: u32 = 60;

/// Factor by which the modules' clocks run faster than real time: their time limits are 10 s and more.
pub const SPEED: u32 = 3;

/// Bytes per second that a module receives, in real time: a download takes five seconds.
const BANDWIDTH: u64 = 40_000;

/// Longest time between two checks of a module, in real time.
pub const INTERVAL: Duration = Duration::from_millis(1500);

/// Percentage of updates in which a module loses its link once.
const CUT_PERCENT: u64 = 33;

/// The image that a module runs after its restart.
pub type Image = Vec<u8>;

/// Result of an attempt.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum End {
    /// The module runs the image of this release.
    Updated(u32),
    /// The server had nothing newer.
    Nothing,
    /// The attempt failed for this reason.
    Failed(String),
    /// The module received bytes that are not an image.
    Torn,
}

/// One attempt of a module that did not run the newest release.
#[derive(Clone, Debug)]
pub struct Attempt {
    pub module: u32,
    pub ended: Instant,
    /// Number of bytes of the file that the module received.
    pub body: u64,
    /// Number of connections.
    pub connects: u32,
    pub end: End,
}

/// The last attempt of a module that has ended, and the time since which its next one is running.
#[derive(Clone, Debug, Default)]
pub struct Progress {
    pub ended: Option<End>,
    pub running: Option<Instant>,
}

struct Shared {
    http: SocketAddr,
    udp: SocketAddr,
    tcp: SocketAddr,
    /// SHA-256 of the images of each release, indexed by the release's number.
    digests: Mutex<Vec<Vec<[u8; 32]>>>,
    newest: AtomicU32,
    attempts: Mutex<Vec<Attempt>>,
    /// The release that each module runs.
    runs: Vec<AtomicU32>,
    /// The release that each module has reported in a check.
    reported: Vec<AtomicU32>,
    /// State of the attempts of each module.
    last: Mutex<Vec<Progress>>,
    over: AtomicBool,
}

/// A running fleet; stopped when this value is dropped.
pub struct Fleet {
    shared: Arc<Shared>,
    thread: Option<JoinHandle<()>>,
}

/// Generation of a module.
pub fn client(number: u32) -> Client {
    let clients = [
        Client::First(Dialect::UserServer, true),
        Client::LuaTask(Generation::Gen2g),
        Client::Libfota2(Libfota2::GENERATIONS[0].0, Libfota2::GENERATIONS[0].1),
        Client::First(Dialect::UserServer, false),
        Client::LuaTask(Generation::Rda8910),
        Client::Libfota2(Libfota2::GENERATIONS[5].0, Libfota2::GENERATIONS[5].1),
        Client::First(Dialect::Official, true),
        Client::LuaTask(Generation::Asr1802),
        Client::Libfota2(Libfota2::GENERATIONS[15].0, Libfota2::GENERATIONS[15].1),
        Client::UpdateHttp,
        Client::First(Dialect::UserServer, true),
        Client::Libfota3(Libfota3::ALL[Libfota3::ALL.len() - 1]),
    ];
    clients[number as usize % clients.len()]
}

/// IMEI of a module.
pub fn imei(number: u32) -> String {
    format!("{}", 862_991_440_000_000 + u64::from(number) * 7)
}

/// Project of the LuatOS modules, whose package verification the emulation performs, and project of the others.
pub const PROJECTS: [&str; 2] = ["NEW", "OLD"];

impl Fleet {
    /// Starts the modules, which run release 0.
    pub fn start(http: SocketAddr, udp: SocketAddr, tcp: SocketAddr) -> Fleet {
        let numbers = || (0..MODULES).map(|_| AtomicU32::new(0)).collect();
        let shared = Arc::new(Shared {
            http,
            udp,
            tcp,
            digests: Mutex::new(vec![Vec::new()]),
            newest: AtomicU32::new(0),
            attempts: Mutex::default(),
            runs: numbers(),
            reported: numbers(),
            last: Mutex::new(vec![Progress::default(); MODULES as usize]),
            over: AtomicBool::new(false),
        });
        let alive = Arc::clone(&shared);
        let thread = std::thread::spawn(move || {
            let executor = LocalExecutor::new();
            let modules = (0..MODULES).map(|number| executor.spawn(play(&alive, number)));
            let modules: Vec<_> = modules.collect();
            smol::block_on(executor.run(async {
                let end = async {
                    while !alive.over.load(Relaxed) {
                        Timer::after(Duration::from_millis(50)).await;
                    }
                };
                let all = async {
                    for module in modules {
                        module.await;
                    }
                };
                smol::future::or(all, end).await;
            }));
        });
        Fleet {
            shared,
            thread: Some(thread),
        }
    }

    /// Registers a new release with one of these images for each module, and returns its number. Call this
    /// function before the files are dropped.
    pub fn expect(&self, images: &[Image]) -> u32 {
        let mut digests = self.shared.digests.lock().unwrap();
        digests.push(
            images
                .iter()
                .map(|image| Sha256::digest(image).into())
                .collect(),
        );
        let number = digests.len() as u32 - 1;
        self.shared.newest.store(number, Relaxed);
        number
    }

    /// Number of modules that run the newest release and have reported it to a server.
    pub fn updated(&self) -> usize {
        MODULES as usize - self.not_reported().len()
    }

    /// Numbers of the modules that have not reported the newest release, with the one that they run.
    pub fn not_reported(&self) -> Vec<(u32, u32)> {
        let Shared {
            newest,
            reported,
            runs,
            ..
        } = &*self.shared;
        let newest = newest.load(Relaxed);
        let modules =
            (0..MODULES).filter(|&number| reported[number as usize].load(Relaxed) != newest);
        modules
            .map(|number| (number, runs[number as usize].load(Relaxed)))
            .collect()
    }

    /// Describes what the modules do that have not reported the newest release, one line for each.
    pub fn describe_not_reported(&self) -> String {
        let last = self.shared.last.lock().unwrap();
        let lines = self.not_reported().into_iter().map(|(number, runs)| {
            let Progress { ended, running } = &last[number as usize];
            let running = running.map(|since| since.elapsed());
            format!(
                "\nmodule {number}, {:?}, runs release {runs}; its last attempt: {ended:?}; the running one since {running:?}",
                client(number)
            )
        });
        lines.collect()
    }

    /// Returns and removes the attempts since the last call.
    pub fn take_attempts(&self) -> Vec<Attempt> {
        std::mem::take(&mut self.shared.attempts.lock().unwrap())
    }

    /// Whether the fleet's thread is running.
    pub fn is_running(&self) -> bool {
        self.thread
            .as_ref()
            .is_some_and(|thread| !thread.is_finished())
    }
}

impl Drop for Fleet {
    fn drop(&mut self) {
        self.shared.over.store(true, Relaxed);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

/// Plays one module until the fleet stops.
async fn play(shared: &Shared, number: u32) {
    let client = client(number);
    let mut random = Random(0x5EED_0001 + u64::from(number) * 7919);
    let at = match client.transport() {
        Transport::Http => shared.http,
        Transport::Udp => shared.udp,
        Transport::Tcp => shared.tcp,
    };
    let server = Endpoint {
        host: at.ip().to_string(),
        port: at.port(),
        path: match client.transport() {
            Transport::Http => "/update".to_owned(),
            _ => String::new(),
        },
    };
    let names = Arc::from([(server.host.clone(), at.ip())]);
    let mut settings = Settings {
        quiet: None,
        idle: Duration::from_secs(3),
        speed: SPEED,
        cap: Duration::from_secs(600),
        bandwidth: Some(BANDWIDTH / u64::from(SPEED)),
        latency: Duration::ZERO,
        loss: 0,
        cut_after: None,
        seed: random.next_u64(),
        record: RecordLimits {
            exchanges: 1,
            bytes: 1024,
        },
        source: Some(source(number)),
        names,
        only_names: true,
    };
    let pause = |random: &mut Random| INTERVAL.mul_f64(0.5 + random.below(500) as f64 / 1000.0);
    let mut cut_in = 0;
    Timer::after(pause(&mut random)).await;
    loop {
        let runs = shared.runs[number as usize].load(Relaxed);
        let newest = shared.newest.load(Relaxed);
        if cut_in < newest {
            cut_in = newest;
            let cut_after = 2_000 + random.below(SIZE as u64);
            settings.cut_after = random.percent(CUT_PERCENT).then_some(cut_after);
        }
        let luatos = client.luatos_core().is_some();
        let module = Module {
            imei: imei(number),
            project: PROJECTS[usize::from(!luatos)].to_owned(),
            version: version(runs),
            core: None,
            bsp: luatos.then(|| "Air780EPM".to_owned()),
            key: "KEY".to_owned(),
            to: Some(version(newest)),
        };
        shared.last.lock().unwrap()[number as usize].running = Some(Instant::now());
        let mut attempt = client.attempt(&module, &server);
        let played = driver::play(attempt.as_mut(), &settings).await;
        if played.was_cut {
            settings.cut_after = None;
        }
        let end = end(shared, client, runs, &played);
        shared.last.lock().unwrap()[number as usize] = Progress {
            ended: Some(end.clone()),
            running: None,
        };
        match end {
            End::Updated(release) => shared.runs[number as usize].store(release, Relaxed),
            End::Nothing => shared.reported[number as usize].store(runs, Relaxed),
            End::Failed(_) | End::Torn => {}
        }
        if runs != newest || matches!(end, End::Updated(_) | End::Torn) {
            shared.attempts.lock().unwrap().push(Attempt {
                module: number,
                ended: Instant::now(),
                body: played.body,
                connects: played.connects,
                end,
            });
        }
        Timer::after(pause(&mut random)).await;
    }
}

/// The version of a release.
pub fn version(release: u32) -> String {
    format!("1.0.{release}")
}

fn end(shared: &Shared, client: Client, runs: u32, played: &Played) -> End {
    let words = match &played.outcome {
        Outcome::Updated(image) => {
            let digest: [u8; 32] = Sha256::digest(image).into();
            let digests = shared.digests.lock().unwrap();
            let newer = digests.iter().enumerate().skip(runs as usize + 1);
            let release = newer
                .filter(|(_, images)| images.contains(&digest))
                .map(|(release, _)| release as u32)
                .next();
            return release.map_or(End::Torn, End::Updated);
        }
        Outcome::NoUpdate(_) => return End::Nothing,
        Outcome::Failed(_) if diagnose::is_known_bug(client, played) => return End::Nothing,
        Outcome::Failed(luat_ota::modems::Failure::FlashedGarbage(..)) => return End::Torn,
        Outcome::Failed(failure) => diagnose::describe(failure),
    };
    End::Failed(words)
}

/// A separate source address for each module.
fn source(number: u32) -> IpAddr {
    Ipv4Addr::new(127, 1, (number % 7) as u8, number as u8 + 1).into()
}
