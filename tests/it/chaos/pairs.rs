//! Pairs of modules with the same id that send the same check from the same /24, on raw connections. Each module
//! reads some bytes, loses its connection, requests the rest, also after a restart of the server, and compares the
//! whole with the files that were dropped.
//!
//! After the server has lost its state, no module of a pair begins a download until each one that has a part of a
//! file has requested its rest and was refused. The server cannot tell such a rest from that of the other module's
//! new download.

use std::io::{Read, Write};
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpStream};
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use super::judge::similar_files;
use super::{PROJECTS, World};
use crate::common::random::Random;
use crate::common::{get_with, luat, try_connect_from};

/// Number of pairs that are played at the same time.
const PAIRS: usize = 8;

/// Time between two steps.
const PACE: Duration = Duration::from_millis(2);

/// Requests of a pair before its id is replaced: the server distinguishes only a few contents for one id.
const REQUESTS: u32 = 60;

#[derive(Default)]
struct PairModule {
    has: Vec<u8>,
    open: Option<Open>,
    /// Number of kills of the server when this module received its last byte.
    kills: u32,
    /// Whether this module has received a whole file.
    done: bool,
}

/// A connection on which a reply is still being read.
struct Open {
    stream: TcpStream,
    /// Size of the file in bytes.
    size: usize,
}

struct Pair {
    number: usize,
    /// Number of ids that the pair has used so far.
    ids: usize,
    requests: u32,
    /// Number of state losses after which both modules have asked.
    losses: u32,
    modules: [PairModule; 2],
}

/// The current state of the server.
#[derive(Clone, Copy)]
struct ServerState {
    http: SocketAddr,
    losses: u32,
    kills: u32,
}

/// Plays all pairs until the test is over.
pub fn play(world: &Mutex<World>, stop: &AtomicBool, seed: u64) {
    let mut random = Random(seed ^ 0x6A09_E667_F3BC_C909);
    let mut pairs: Vec<_> = (0..PAIRS).map(Pair::new).collect();
    while !stop.load(Ordering::Relaxed) {
        let at = random.index(PAIRS);
        pairs[at].step(world, &mut random);
        // This does not wait for an event.
        std::thread::sleep(PACE);
    }
}

impl Pair {
    fn new(number: usize) -> Pair {
        Pair {
            number,
            ids: 0,
            requests: 0,
            losses: 0,
            modules: Default::default(),
        }
    }

    fn imei(&self) -> String {
        format!("86299146{:02}{:05}", self.number, self.ids % 100_000)
    }

    fn step(&mut self, world: &Mutex<World>, random: &mut Random) {
        let now = {
            let world = world.lock().unwrap();
            let (http, ..) = world.addresses.unwrap();
            let (losses, kills) = (world.counts.states_lost, world.counts.kills);
            ServerState {
                http,
                losses,
                kills,
            }
        };
        if self.losses != now.losses {
            // The connections ended with the server.
            self.modules
                .iter_mut()
                .for_each(|module| module.open = None);
            if self.modules.iter().all(|module| module.has.is_empty()) {
                self.losses = now.losses;
            }
        }
        let has_whole = self.modules.iter().any(|module| module.done);
        let is_used_up = has_whole || self.requests > REQUESTS;
        if is_used_up && self.modules.iter().all(|module| module.has.is_empty()) {
            (self.ids, self.requests) = (self.ids + 1, 0);
            self.modules = Default::default();
            return;
        }
        let at = random.index(2);
        if self.modules[at].open.is_some() {
            self.continue_read(world, at, now, random);
            return;
        }
        let has = self.modules[at].has.len();
        // No download after a complete one: downloading again with the old version is a case for the loop guard.
        let may_begin = self.losses == now.losses && !is_used_up;
        match (has, may_begin) {
            (0, true) => self.ask(world, at, 0, now),
            (0, false) => {}
            (_, true) if random.one_in(10) => self.ask(world, at, 0, now),
            (_, _) => self.ask(world, at, has, now),
        }
    }

    /// Reads some bytes, or closes the connection.
    fn continue_read(
        &mut self,
        world: &Mutex<World>,
        at: usize,
        now: ServerState,
        random: &mut Random,
    ) {
        if random.one_in(30) {
            self.modules[at].open = None;
            return;
        }
        let most = 1 + random.index(2048);
        let mut buffer = vec![0; most];
        let module = &mut self.modules[at];
        let Some(open) = &mut module.open else { return };
        match open.stream.read(&mut buffer) {
            Ok(0) | Err(_) => module.open = None,
            Ok(count) => self.received(world, at, &buffer[..count], now),
        }
    }

    fn received(&mut self, world: &Mutex<World>, at: usize, bytes: &[u8], now: ServerState) {
        let (imei, project) = (self.imei(), self.number % PROJECTS.len());
        let module = &mut self.modules[at];
        module.has.extend_from_slice(bytes);
        module.kills = now.kills;
        let size = module.open.as_ref().map_or(usize::MAX, |open| open.size);
        if module.has.len() < size {
            return;
        }
        let got = std::mem::take(&mut module.has);
        (module.open, module.done) = (None, true);
        let world = &mut *world.lock().unwrap();
        world.counts.pairs_whole += 1;
        let is_a_file = world
            .images
            .iter()
            .any(|image| image.project == project && *image.bytes == got);
        if !is_a_file {
            let violation = format!(
                "one of two {imei} got {} bytes that are none of the files{}",
                got.len(),
                similar_files(&world.images, &got)
            );
            world.violations.push(violation);
        }
    }

    /// Requests the bytes from `from` on.
    fn ask(&mut self, world: &Mutex<World>, at: usize, from: usize, now: ServerState) {
        let target = luat(
            PROJECTS[self.number % PROJECTS.len()],
            &self.imei(),
            "1.0.0",
        );
        let request = get_with(&target, &format!("Range: bytes={from}-\r\n"));
        let (net, host) = (
            u8::try_from(self.number).unwrap(),
            u8::try_from(at).unwrap(),
        );
        let source = IpAddr::V4(Ipv4Addr::new(127, 77, net, 7 + host));
        let Some((head, rest, stream)) = exchange(source, now.http, &request) else {
            // The server may be down.
            std::thread::sleep(10 * PACE);
            return;
        };
        self.requests += u32::from(head.status < 500);
        let is_known = self.losses == now.losses;
        let module = &mut self.modules[at];
        let mut world_now = world.lock().unwrap();
        let counts = &mut world_now.counts;
        match head.status {
            200 | 206 if head.start == 0 => {
                counts.downloads += 1;
                module.has.clear();
            }
            206 => {
                counts.resumes += 1;
                counts.resumes_after_a_kill += u32::from(module.kills < now.kills);
                if head.start != from || !is_known {
                    let violation = format!(
                        "{target} asked for bytes from {from} on and got {head:?}; its state is known: {is_known}"
                    );
                    world_now.violations.push(violation);
                    module.has.clear();
                    return;
                }
            }
            416 => {
                counts.resumes_refused += 1;
                module.has.clear();
                return;
            }
            500.. => {
                drop(world_now);
                // The server is still reading the folder.
                std::thread::sleep(5 * PACE);
                return;
            }
            _ => {
                module.has.clear();
                return;
            }
        }
        drop(world_now);
        module.open = Some(Open {
            stream,
            size: head.size,
        });
        self.received(world, at, &rest, now);
    }
}

/// The relevant parts of a reply's head.
#[derive(Debug)]
struct Head {
    status: u16,
    /// Position of the body's first byte within the file.
    start: usize,
    /// Size of the file in bytes.
    size: usize,
}

/// Sends a request. Returns the head of the reply and the first bytes of the body.
fn exchange(source: IpAddr, to: SocketAddr, request: &[u8]) -> Option<(Head, Vec<u8>, TcpStream)> {
    let mut stream = try_connect_from(Some(source), to, 8 * 1024).ok()?;
    stream
        .set_read_timeout(Some(Duration::from_secs(20)))
        .unwrap();
    stream.write_all(request).ok()?;
    let mut raw = Vec::new();
    let mut buffer = [0; 512];
    let end = loop {
        if let Some(at) = raw.windows(4).position(|four| four == b"\r\n\r\n") {
            break at + 4;
        }
        match stream.read(&mut buffer) {
            Ok(0) | Err(_) => return None,
            Ok(count) => raw.extend_from_slice(&buffer[..count]),
        }
    };
    let rest = raw.split_off(end);
    let text = String::from_utf8(raw).unwrap();
    let header = |name: &str| {
        let line = text.lines().find(|line| line.starts_with(name))?;
        line.split_once(": ").map(|(_, value)| value)
    };
    let status = text.split(' ').nth(1)?.parse().ok()?;
    let range = header("Content-Range").and_then(|range| range.strip_prefix("bytes "));
    let (start, size) = match range.and_then(|range| range.split_once('/')) {
        Some((part, size)) => (part.split('-').next()?.parse().unwrap_or(0), size),
        None => (0, header("Content-Length")?),
    };
    let size = size.parse().ok()?;
    Some((
        Head {
            status,
            start,
            size,
        },
        rest,
        stream,
    ))
}
