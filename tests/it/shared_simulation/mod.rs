//! A simulation of the release fuse of several replicas with the real fleet, the real decision, the real file of
//! shared outcomes, and a simulated clock. It prints the tables of docs/evidence.md.

mod handover;
mod replicas;

use std::cmp::Reverse;
use std::collections::{BTreeSet, BinaryHeap};

use crate::common::random::Random;
use crate::common::simulation::{DOWNLOAD, REBOOT, folder};
use replicas::{EXCHANGE, HOUR, MINUTE, RELEASE, Replicas, Setup, WATCHED, devices};

/// The events of the simulation. At the same time, files are written and read before devices send checks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Event {
    /// A replica reads the files of the others.
    Read(usize),
    /// A replica writes its file.
    Write(usize),
    /// A device sends a check.
    Check(usize),
}

/// Whether the fuse of a replica pauses the release.
fn run(setup: Setup, seed: u64) -> bool {
    let size = (setup.devices << 20 ^ setup.failing << 40) as u64;
    let mut random = Random(seed ^ size);
    let (before, after) = (folder(&["1.0.0"]), folder(&["1.0.0", "2.0.0"]));
    let mut replicas = Replicas::new(setup.replicas, &before);
    let mut catalog = &before;
    let mut devices = devices(setup, &mut random);
    let mut queue: BinaryHeap<Reverse<(u64, Event)>> = BinaryHeap::new();
    for (at, device) in devices.iter().enumerate() {
        queue.push(Reverse((device.from, Event::Check(at))));
    }
    // Each replica reads the folder at its own times.
    let looks: Vec<u64> = (0..8).map(|_| random.below(EXCHANGE)).collect();
    let next_look = |replica: usize, from: u64| {
        let look = looks[replica];
        (from - look).next_multiple_of(EXCHANGE) + look
    };
    let mut planned = BTreeSet::new();
    let mut ticked = 0;
    let is_lost = |replica: usize, time: u64| {
        replica == 0 && setup.lost.is_some_and(|lost| time >= RELEASE + lost)
    };
    while let Some(Reverse((time, event))) = queue.pop() {
        if time > RELEASE + WATCHED {
            break;
        }
        if time >= RELEASE && std::ptr::eq(catalog, &before) {
            catalog = &after;
            replicas.catalog(catalog, RELEASE);
        }
        if time > ticked {
            ticked = time;
            for replica in 0..setup.replicas {
                if !is_lost(replica, time) && replicas.is_paused(replica, time) {
                    return true;
                }
            }
        }
        planned.remove(&(time, event));
        let at = match event {
            Event::Check(at) => at,
            Event::Read(replica) | Event::Write(replica) if is_lost(replica, time) => continue,
            Event::Read(replica) => {
                replicas.read(replica, time);
                continue;
            }
            Event::Write(writer) => {
                let lag = setup.lag.unwrap_or_default();
                if replicas.write(writer, time, lag) {
                    for replica in (0..setup.replicas).filter(|replica| *replica != writer) {
                        let look = (next_look(replica, time + lag), Event::Read(replica));
                        if planned.insert(look) {
                            queue.push(Reverse(look));
                        }
                    }
                }
                continue;
            }
        };
        let device = &mut devices[at];
        let [first, other] = device.replicas;
        let replica = if is_lost(first, time) { other } else { first };
        let mut next = time + device.interval;
        if next < RELEASE - device.interval {
            // A few checks before the release make the device an established one.
            next = (time + 2 * HOUR).max(RELEASE - 2 * device.interval);
        }
        if replicas.visit(replica, catalog, device, time) {
            next = match setup.lost {
                None => time + DOWNLOAD + REBOOT,
                // The device returns at its next regular check.
                Some(_) => time + DOWNLOAD + device.interval,
            };
        }
        queue.push(Reverse((next, Event::Check(at))));
        if setup.lag.is_some() && time >= RELEASE {
            let look = (next_look(replica, time + 1), Event::Write(replica));
            if planned.insert(look) {
                queue.push(Reverse(look));
            }
        }
    }
    false
}

/// Number of runs in which the release was paused.
fn paused(setup: Setup, runs: u64) -> usize {
    let ran = (1..=runs).map(|seed| run(setup, seed));
    ran.filter(|ran| *ran).count()
}

/// Prints the table rows for these sizes of the rollout.
fn table(sizes: &[usize], failing: &[usize], lost: Option<u64>) {
    println!(
        "| devices | failing | servers | one server | not shared | shared, 0 s | 10 s | 60 s |"
    );
    println!("|---|---|---|---|---|---|---|---|");
    for (devices, failing) in sizes
        .iter()
        .flat_map(|size| failing.iter().map(move |it| (*size, *it)))
    {
        // The fuse needs three devices.
        if devices < 30 && (devices * failing).div_ceil(100) < 3 {
            continue;
        }
        // These would be by far the longest runs; 100 devices show the same.
        if devices > 100 && failing < 20 {
            continue;
        }
        let runs = if devices < 100 { 20 } else { 5 };
        let single = Setup {
            devices,
            replicas: 1,
            failing,
            lag: None,
            lost: None,
        };
        let cell = |setup: Setup| format!("{} of {runs}", paused(setup, runs));
        let one = cell(single);
        for replicas in [2, 4, 8] {
            print!("| {devices} | {failing} % | {replicas} | {one} |");
            for lag in [None, Some(0), Some(10), Some(60)] {
                let setup = Setup {
                    replicas,
                    lag,
                    lost,
                    ..single
                };
                print!(" {} |", cell(setup));
            }
            println!();
        }
    }
}

#[test]
#[ignore = "prints the tables of docs/evidence.md"]
fn shared_simulation_table() {
    table(&[3, 4, 6, 10, 30, 100, 300], &[5, 20, 40, 100], None);
    table(&[4, 10, 30, 100], &[40, 100], Some(10 * MINUTE));
}

#[test]
fn a_rollout_that_is_split_is_paused_as_by_one_server_if_outcomes_are_shared() {
    for (devices, replicas, lost) in [(3, 2, None), (4, 4, None), (4, 2, Some(10 * MINUTE))] {
        for lag in [0, 60] {
            let setup = Setup {
                devices,
                replicas,
                failing: 100,
                lag: Some(lag),
                lost,
            };
            for seed in 1..=3 {
                assert!(run(setup, seed), "{setup:?} {seed}");
            }
        }
    }
    let setup = Setup {
        devices: 30,
        replicas: 4,
        failing: 5,
        lag: Some(10),
        lost: None,
    };
    assert!(!run(setup, 1));
}
