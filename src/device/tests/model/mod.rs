//! A bounded model of resumed downloads. Every short sequence of events, and random long ones, run against the real
//! answers and the real records of the fleet, with a fake clock and without sockets.
//!
//! The only state of the model is what each module has received. Two properties are judged by what happened:
//!
//! 1. No sequence splices two contents. One case is exempt, since the server cannot detect it: the module's own
//!    beginning was lost with the state (or is over a week old, or over a day and by a module that now reports
//!    something else), and since then another module with the same identity began another content. The requests of both
//!    are the same, byte for byte.
//! 2. A resume is refused only if two contents that were begun under the id reach its offset, if the module's own
//!    beginning is older than a day or lost, or if the module reports something else than at its beginning.
//!
//! ```text
//! LUAT_OTA_MODEL_DEPTH=7 cargo test --release --lib device::tests::model -- --nocapture
//! ```

mod world;

use std::net::Ipv4Addr;

use self::world::{Counts, Event, RECEIVED, World};
use crate::firmware::ContentId;

/// Maximum length of the sequences of which all are tried, unless `LUAT_OTA_MODEL_DEPTH` is set.
const DEPTH: usize = 5;

/// Number of random sequences, and their length.
const RANDOM: usize = 2000;
const RANDOM_LENGTH: usize = 40;

fn depth() -> usize {
    let depth = std::env::var("LUAT_OTA_MODEL_DEPTH");
    depth.map_or(DEPTH, |depth| depth.parse().expect("a number"))
}

/// Addresses of the clone: in the same /24 as the first module, and in another network.
const CLONES: [Ipv4Addr; 2] = [Ipv4Addr::new(10, 0, 0, 2), Ipv4Addr::new(172, 16, 9, 9)];

// Cases 23 to 27.
#[test]
fn no_sequence_of_events_splices_two_contents_or_refuses_without_need() {
    // The address of the clone matters only to the loop guard, so the second run has one event less.
    for (clone_at, depth) in CLONES.into_iter().zip([depth(), depth() - 1]) {
        let first = World::new(clone_at.into()).events();
        let (mut resumed, mut refused) = (0, 0);
        // One thread for each first event.
        std::thread::scope(|scope| {
            let spawn = |event: Event| {
                let all = move || {
                    let mut world = World::new(clone_at.into());
                    (world.run_all(&mut vec![event], depth), world.counts)
                };
                (event, scope.spawn(all))
            };
            for (event, thread) in first.into_iter().map(spawn).collect::<Vec<_>>() {
                let (outcome, counts) = thread.join().unwrap();
                println!("clone at {clone_at}, {event:?} first, length up to {depth}: {counts:?}");
                outcome.unwrap();
                resumed += counts.resumed;
                refused += counts.refused;
            }
        });
        assert!(resumed > 0 && refused > 0);
    }
}

#[test]
fn no_random_sequence_splices_two_contents_or_refuses_without_need() {
    for (seed, clone_at) in CLONES.into_iter().enumerate() {
        let mut world = World::new(clone_at.into());
        let mut state = seed as u64 + 1;
        let mut random = move |below: usize| {
            state = state
                .wrapping_mul(6_364_136_223_846_793_005)
                .wrapping_add(1_442_695_040_888_963_407);
            (state >> 33) as usize % below
        };
        for _ in 0..RANDOM {
            world.reset();
            let mut events = Vec::new();
            while events.len() < RANDOM_LENGTH {
                let possible = world.events();
                let event = possible[random(possible.len())];
                // Otherwise hardly any download would live long enough to be resumed.
                if matches!(event, Event::Day | Event::Loss) && random(4) > 0 {
                    continue;
                }
                events.push(event);
                let result = world.perform(event);
                result
                    .map_err(|wrong| format!("{wrong} after {events:?}"))
                    .unwrap();
            }
            world.counts.sequences += 1;
        }
        println!(
            "clone at {clone_at}, {RANDOM_LENGTH} random events: {:?}",
            world.counts
        );
    }
}

/// Runs a sequence. Returns the contents and the length that the module has then, the counts, and all contents.
fn after(events: &[Event], module: usize) -> (Vec<ContentId>, u64, Counts, Vec<ContentId>) {
    let mut world = World::new(CLONES[0].into());
    world.run(events).unwrap();
    let has = world.modules.swap_remove(module);
    (has.contents, has.length, world.counts, world.contents)
}

// Case 24.
#[test]
fn a_resume_a_day_after_the_cut_is_refused_however_long_the_new_release_has_stood() {
    use Event::*;
    let events = [Begin(0), Cut(0), Day, Release, Hour, Hour, Resume(0)];
    let (contents, length, counts, all) = after(&events, 0);
    assert_eq!((contents, length), (vec![all[0]], RECEIVED));
    assert_eq!((counts.resumed, counts.refused), (0, 1));
    // Within a day, the download continues with the content that it began with.
    let events = [Begin(0), Cut(0), Hour, Release, Hour, Hour, Resume(0)];
    let (contents, length, counts, all) = after(&events, 0);
    assert_eq!((contents, length), (vec![all[0]], 2 * RECEIVED));
    assert_eq!((counts.resumed, counts.refused), (1, 0));
}

// Case 25.
#[test]
fn a_resume_after_the_state_was_lost_is_refused_however_long_the_server_has_run() {
    use Event::*;
    for module in [0, 3] {
        let events = [Begin(module), Release, Loss, Hour, Hour, Resume(module)];
        let (_, length, counts, _) = after(&events, module);
        assert_eq!(length, RECEIVED);
        assert_eq!((counts.resumed, counts.refused), (0, 1));
    }
}

// Case 26.
#[test]
fn a_module_without_an_id_continues_until_its_address_begins_another_file() {
    use Event::*;
    let events = [
        Begin(3),
        Cut(3),
        Restart,
        Release,
        Resume(3),
        Begin(4),
        Resume(3),
    ];
    let (contents, length, counts, all) = after(&events, 3);
    // The first resume is served. At the second, the neighbour was sent as much of the other file as the module has.
    assert_eq!((contents, length), (vec![all[0]], 2 * RECEIVED));
    assert_eq!((counts.resumed, counts.refused), (1, 1));
}
