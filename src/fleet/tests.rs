use std::time::Duration;

use super::*;
use crate::firmware::catalog::{Catalog, sample};

#[test]
fn a_tick_is_due_a_second_after_a_change_and_never_without_one() {
    let began = Instant::now();
    let at = |seconds: u64| began + Duration::from_secs(seconds);
    let mut fleet = Fleet::new(FleetSettings::default(), began);
    let notify = fleet.due_changed();
    assert!(fleet.due().is_some_and(|due| due <= began));
    fleet.tick(began);
    assert_eq!(fleet.due(), None);
    fleet.catalog(&Catalog::default(), at(10));
    assert!(smol::block_on(smol::future::poll_once(notify.notified())).is_some());
    assert_eq!(fleet.due(), Some(at(11)));
    fleet.catalog(&Catalog::default(), at(11));
    assert_eq!(fleet.due(), Some(at(11)));
    fleet.tick(at(11));
    assert_eq!(fleet.due(), None);
    // A change of the state folder is handled at once, but at most once per second.
    fleet.state_folder_changed();
    assert_eq!(fleet.due(), Some(at(12)));
    fleet.tick(at(12));
    assert_eq!(fleet.due(), None);
}

#[test]
fn a_walk_over_many_devices_continues_in_the_next_tick() {
    let began = Instant::now();
    let at = |seconds: u64| began + Duration::from_secs(seconds);
    let mut fleet = Fleet::new(FleetSettings::default(), began);
    fleet.catalog(&sample::release(1, "{}"), began);
    let devices = record::ABOVE_SLOTS + 1;
    fleet.refuse_devices(devices.into(), "3.0.0", began);
    fleet.catalog(&sample::release(2, "{}"), at(1));
    fleet.tick(at(2));
    assert!(fleet.versions_above().is_empty());
    assert!(fleet.due().is_some_and(|due| due <= at(3)));
    fleet.tick(at(3));
    let [above] = fleet.versions_above() else {
        panic!("{:?}", fleet.versions_above());
    };
    assert_eq!((&*above.version, above.devices), ("3.0.0", devices));
}
