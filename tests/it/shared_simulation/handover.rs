//! Tests of devices that move between two replicas.

use super::replicas::{Device, HOUR, Replicas, Setup, devices};
use crate::common::random::Random;
use crate::common::simulation::folder;
use luat_ota::firmware::catalog::Catalog;
use luat_ota::fleet::progress::State;

/// Two replicas with a release, and two devices of each that have downloaded the release and do not run it.
fn two_replicas(catalog: &Catalog) -> (Replicas, Vec<Device>) {
    let mut replicas = Replicas::new(2, catalog);
    let setup = Setup {
        devices: 4,
        replicas: 2,
        failing: 100,
        lag: None,
        lost: None,
    };
    let mut devices = devices(setup, &mut Random(1));
    for (at, device) in devices.iter_mut().enumerate() {
        assert!(replicas.visit(at % 2, catalog, device, 0));
    }
    (replicas, devices)
}

#[test]
fn a_release_that_a_person_has_resumed_is_not_paused_by_what_peers_saw_before() {
    let catalog = folder(&["1.0.0", "2.0.0"]);
    let (mut replicas, mut devices) = two_replicas(&catalog);
    for (at, device) in devices.iter_mut().enumerate() {
        replicas.visit(at % 2, &catalog, device, 100);
    }
    assert!(!replicas.is_paused(0, 101));
    replicas.exchange(102);
    for replica in [0, 1] {
        assert!(replicas.is_paused(replica, 104), "{replica}");
        let now = replicas.moment(106);
        assert!(replicas.fleets[replica].resume_release("P", "2.0.0", now));
    }
    // The files still contain the outcomes, and devices that a peer has judged before move to the other replica.
    replicas.read(0, 108);
    replicas.read(1, 108);
    for replica in [0, 1] {
        assert!(!replicas.is_paused(replica, 110), "{replica}");
    }
    replicas.visit(1, &catalog, &mut devices[0], 112);
    replicas.exchange(114);
    for replica in [0, 1] {
        assert!(!replicas.is_paused(replica, 116), "{replica}");
    }
}

#[test]
fn a_device_that_falls_back_at_both_servers_is_counted_once() {
    let catalog = folder(&["1.0.0", "2.0.0"]);
    let (mut replicas, mut devices) = two_replicas(&catalog);
    for (at, device) in devices.iter_mut().enumerate() {
        device.updated = at >= 2;
        replicas.visit(at % 2, &catalog, device, 100);
    }
    // The first device alternates between the two replicas, and neither knows of the other's visits.
    replicas.visit(1, &catalog, &mut devices[0], 110);
    replicas.visit(1, &catalog, &mut devices[0], 150);
    replicas.write(0, 155, 0);
    replicas.write(1, 160, 0);
    replicas.visit(0, &catalog, &mut devices[0], 170);
    for replica in [0, 1] {
        replicas.read(replica, 180);
        // Two of four have fallen back.
        assert!(!replicas.is_paused(replica, 182), "{replica}");
    }
    devices[3].updated = false;
    replicas.visit(1, &catalog, &mut devices[3], 190);
    replicas.exchange(200);
    for replica in [0, 1] {
        assert!(replicas.is_paused(replica, 202), "{replica}");
    }
}

#[test]
fn a_device_that_checks_at_another_server_is_not_silent() {
    let catalog = folder(&["1.0.0", "2.0.0"]);
    let (mut replicas, mut devices) = two_replicas(&catalog);
    replicas.exchange(10);
    for device in &mut devices[..3] {
        device.updated = true;
        assert!(!replicas.visit(1, &catalog, device, 100));
    }
    let counts = |replicas: &Replicas, replica: usize| {
        let counts = replicas.fleets[replica].counts("P", "2.0.0");
        [State::Confirmed, State::Silent].map(|state| counts.of(state))
    };
    assert_eq!(
        counts(&replicas, 1),
        [3, 0],
        "what was delivered by the other one"
    );
    replicas.exchange(110);
    for minute in 0..12 {
        // Eight days later, when the servers no longer wait for any device.
        replicas.is_paused(0, 8 * 24 * HOUR + minute);
        replicas.is_paused(1, 8 * 24 * HOUR + minute);
    }
    assert_eq!(counts(&replicas, 0), [0, 0]);
    assert_eq!(counts(&replicas, 1), [3, 1], "the last one is silent");
}
