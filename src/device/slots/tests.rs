use super::*;

const HOME: Network = Network::V4([192, 0, 2]);
const AWAY: Network = Network::V4([198, 51, 100]);

const MAX_WAIT: Duration = Duration::from_secs(10);

impl<H> Slots<H> {
    fn waiting(&self) -> usize {
        self.queue.len()
    }

    fn holds(&self, ticket: Ticket) -> bool {
        self.held.contains_key(&ticket)
    }
}

fn at(start: Instant, seconds: u64) -> Instant {
    start + Duration::from_secs(seconds)
}

#[test]
fn downloads_get_slots_in_queue_order() {
    let now = Instant::now();
    let mut slots = Slots::new(2, MAX_WAIT);
    let first = slots.take(HOME, now).unwrap();
    let second = slots.take(HOME, now).unwrap();
    assert!(!slots.has_room(HOME));
    assert_eq!(slots.take(HOME, now), None);
    let third = slots.enqueue(HOME, now, "third");
    let fourth = slots.enqueue(HOME, now, "fourth");
    assert_eq!(slots.assign(now), [""; 0]);
    slots.leave(second);
    assert_eq!(slots.assign(now), ["third"]);
    assert!(slots.holds(third) && !slots.holds(fourth));
    slots.leave(first);
    slots.leave(third);
    assert_eq!(slots.assign(now), ["fourth"]);
    assert_eq!((slots.held(), slots.waiting()), (1, 0));
    assert!(slots.take(HOME, now).is_some());
}

#[test]
fn a_new_download_does_not_overtake_the_queue() {
    let now = Instant::now();
    let mut slots = Slots::new(1, MAX_WAIT);
    let first = slots.take(HOME, now).unwrap();
    slots.enqueue(HOME, now, "waits");
    slots.leave(first);
    assert_eq!(slots.take(HOME, now), None);
    assert!(!slots.has_room(AWAY));
    assert_eq!(slots.assign(now), ["waits"]);
}

#[test]
fn a_download_that_left_the_queue_gets_no_slot() {
    let now = Instant::now();
    let mut slots = Slots::new(1, MAX_WAIT);
    let first = slots.take(HOME, now).unwrap();
    let second = slots.enqueue(HOME, now, "second");
    slots.enqueue(HOME, now, "third");
    slots.leave(second);
    slots.leave(first);
    assert_eq!(slots.assign(now), ["third"]);
}

#[test]
fn no_download_waits_longer_than_the_limit() {
    let start = Instant::now();
    let mut slots = Slots::new(1, MAX_WAIT);
    let first = slots.take(HOME, start).unwrap();
    let second = slots.enqueue(HOME, start, "second");
    let third = slots.enqueue(HOME, at(start, 3), "third");
    let left = |seconds| SlotState::Queued(Duration::from_secs(seconds));
    assert_eq!(slots.state(second, at(start, 9)), left(1));
    assert_eq!(slots.state(second, at(start, 10)), SlotState::NoSlot);
    assert_eq!(slots.state(third, at(start, 10)), left(3));
    slots.leave(first);
    assert_eq!(slots.assign(at(start, 11)), ["third"]);
    assert_eq!(slots.state(third, at(start, 11)), SlotState::Held);
    assert_eq!(slots.waiting(), 0);
}

#[test]
fn a_network_above_its_half_yields_a_slot_to_a_waiting_one() {
    let now = Instant::now();
    let mut slots = Slots::new(2, MAX_WAIT);
    slots.take(HOME, now).unwrap();
    let away = slots.take(AWAY, now).unwrap();
    slots.enqueue(HOME, now, "home");
    let other = Network::V4([203, 0, 113]);
    slots.enqueue(other, now, "other");
    assert_eq!(slots.assign(now), [""; 0]);
    let home = slots.take_uncapped(HOME, now);
    assert_eq!(slots.assign(now), ["other"]);
    assert!(!slots.holds(home) && slots.holds(away));
}

#[test]
fn a_resumed_download_never_waits_and_counts() {
    let now = Instant::now();
    let mut slots = Slots::new(1, MAX_WAIT);
    let first = slots.take(HOME, now).unwrap();
    slots.enqueue(HOME, now, "new");
    let resumed = slots.take_uncapped(HOME, now);
    assert!(slots.holds(resumed));
    slots.leave(first);
    assert_eq!(
        slots.assign(now),
        [""; 0],
        "the one that goes on has the slot"
    );
    slots.leave(resumed);
    assert_eq!(slots.assign(now), ["new"]);
}

#[test]
fn a_slow_download_yields_its_slot_only_to_a_waiting_one() {
    let start = Instant::now();
    let mut slots = Slots::new(2, MAX_WAIT);
    let slow = slots.take(HOME, start).unwrap();
    let good = slots.take(HOME, start).unwrap();
    for seconds in (5..=60).step_by(5) {
        slots.acknowledged(slow, seconds * 1000, at(start, seconds));
        slots.acknowledged(good, seconds * 1100, at(start, seconds));
    }
    assert!(slots.holds(slow), "nobody waits");
    slots.enqueue(HOME, at(start, 60), "new");
    assert_eq!(slots.assign(at(start, 61)), ["new"]);
    assert!(!slots.holds(slow) && slots.holds(good));
    // The slow download continues without a slot, so its end frees none.
    slots.acknowledged(slow, 1 << 20, at(start, 62));
    slots.enqueue(HOME, at(start, 62), "next");
    slots.leave(slow);
    assert_eq!(slots.assign(at(start, 63)), [""; 0]);
}

#[test]
fn a_fast_download_that_stalls_is_slow_after_one_window() {
    let start = Instant::now();
    let mut slots = Slots::new(1, MAX_WAIT);
    let stalled = slots.take(HOME, start).unwrap();
    slots.acknowledged(stalled, 1 << 20, at(start, 30));
    slots.enqueue(HOME, at(start, 58), "new");
    assert_eq!(slots.assign(at(start, 59)), [""; 0]);
    assert_eq!(slots.assign(at(start, 61)), ["new"]);
}

#[test]
fn a_download_that_became_fast_is_not_slow_any_more() {
    let start = Instant::now();
    let mut slots = Slots::new(1, MAX_WAIT);
    let one = slots.take(HOME, start).unwrap();
    slots.acknowledged(one, 1000, at(start, 30));
    slots.acknowledged(one, 1_000_000, at(start, 60));
    slots.enqueue(HOME, at(start, 60), "new");
    assert_eq!(slots.assign(at(start, 61)), [""; 0]);
}

#[test]
fn slow_downloads_are_searched_at_most_once_a_second() {
    let start = Instant::now();
    let mut slots = Slots::new(1, MAX_WAIT);
    slots.take(HOME, start).unwrap();
    slots.enqueue(HOME, at(start, 25), "new");
    assert_eq!(slots.assign(at(start, 29)), [""; 0]);
    let later = at(start, 29) + Duration::from_millis(999);
    assert_eq!(slots.assign_if_due(later), [""; 0]);
    assert_eq!(slots.assign(later), [""; 0]);
    assert_eq!(slots.assign_if_due(at(start, 30)), ["new"]);
}

#[test]
fn a_network_gets_no_more_than_half_while_others_wait() {
    let now = Instant::now();
    let mut slots = Slots::new(4, MAX_WAIT);
    let held: Vec<_> = [HOME, HOME, AWAY, AWAY]
        .map(|network| slots.take(network, now).unwrap())
        .into();
    for name in ["home 1", "home 2"] {
        slots.enqueue(HOME, now, name);
    }
    slots.enqueue(AWAY, now, "away");
    slots.leave(held[2]);
    // The first download in the queue would be the third of HOME.
    assert_eq!(slots.assign(now), ["away"]);
    slots.leave(held[3]);
    assert_eq!(slots.assign(now), ["home 1"], "nobody else waits");
}

#[test]
fn the_youngest_download_of_a_network_above_half_yields_to_another() {
    let now = Instant::now();
    let mut slots: Slots<&str> = Slots::new(4, MAX_WAIT);
    let home: Vec<_> = (0..4).map(|_| slots.take(HOME, now).unwrap()).collect();
    assert_eq!(slots.take(HOME, now), None);
    assert!(slots.has_room(AWAY) && !slots.has_room(HOME));
    for _ in 0..2 {
        assert!(slots.take(AWAY, now).is_some());
    }
    let holds = home.iter().map(|ticket| slots.holds(*ticket));
    assert_eq!(holds.collect::<Vec<_>>(), [true, true, false, false]);
    assert_eq!(slots.held(), 4);
    // Now each network has its half.
    assert!(slots.take(AWAY, now).is_none() && slots.take(HOME, now).is_none());
    assert!(!slots.has_room(Network::V4([203, 0, 113])));
}

#[test]
fn the_only_slot_is_never_taken_from_its_holder() {
    let now = Instant::now();
    let mut slots: Slots<&str> = Slots::new(1, MAX_WAIT);
    slots.take(HOME, now).unwrap();
    assert_eq!(slots.take(AWAY, now), None);
}

proptest::proptest! {
    #[test]
    fn counters_stay_consistent(steps in proptest::collection::vec((0..6u8, 0..4u8), 1..200)) {
        let start = Instant::now();
        let mut slots: Slots<u64> = Slots::new(5, MAX_WAIT);
        let mut tickets = Vec::new();
        for (time, (what, which)) in (0..).zip(steps) {
            let now = at(start, time * 7);
            let network = Network::V4([10, 0, which]);
            match what {
                0 | 1 => match slots.take(network, now) {
                    Some(ticket) => tickets.push(ticket),
                    None => tickets.push(slots.enqueue(network, now, time)),
                },
                2 => tickets.push(slots.take_uncapped(network, now)),
                3 if !tickets.is_empty() => {
                    let place = usize::from(which) % tickets.len();
                    slots.leave(tickets.swap_remove(place));
                }
                4 => for ticket in &tickets {
                    slots.acknowledged(*ticket, time * u64::from(which) * 3000, now);
                },
                _ => drop(slots.assign(now)),
            }
            proptest::prop_assert_eq!(slots.held_per_network.sum(), slots.held());
            let placed = tickets.iter().filter(|ticket| slots.holds(**ticket)).count();
            proptest::prop_assert_eq!(placed, slots.held());
        }
        for ticket in tickets {
            slots.leave(ticket);
        }
        proptest::prop_assert_eq!((slots.held(), slots.waiting(), slots.heaviest()), (0, 0, None));
    }
}
