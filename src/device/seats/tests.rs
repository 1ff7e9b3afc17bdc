use std::collections::BTreeSet;

use super::*;

fn ip(text: &str) -> IpAddr {
    text.parse().unwrap()
}

/// Takes a seat; also returns the connection that was evicted for it.
fn take(
    all: &mut SeatTable<&'static str>,
    address: &str,
    name: &'static str,
    now: Instant,
) -> Option<(SeatId, Option<&'static str>)> {
    all.take(ip(address), false, now, name)
}

#[test]
fn below_the_cap_nothing_is_evicted() {
    let now = Instant::now();
    let mut all = SeatTable::new(2, 10);
    for name in ["a", "b"] {
        assert_eq!(take(&mut all, "192.0.2.1", name, now).unwrap().1, None);
    }
    assert_eq!(all.len(), 2);
}

#[test]
fn at_the_cap_an_unfinished_head_of_the_heaviest_network_is_evicted() {
    let now = Instant::now();
    for _ in 0..50 {
        let mut all = SeatTable::new(5, 10);
        take(&mut all, "192.0.2.1", "honest", now).unwrap();
        take(&mut all, "2001:db8::1", "honest", now).unwrap();
        take(&mut all, "203.0.113.1", "heavy", now).unwrap();
        take(&mut all, "203.0.113.2", "heavy", now).unwrap();
        take(&mut all, "203.0.113.3", "heavy", now).unwrap();
        let admitted = take(&mut all, "192.0.2.9", "new", now).unwrap();
        assert_eq!(admitted.1, Some("heavy"));
        assert!(all.contains(admitted.0));
        assert_eq!(all.len(), 5);
    }
}

#[test]
fn the_evicted_head_is_random() {
    let now = Instant::now();
    let evicted: BTreeSet<_> = (0..64)
        .map(|_| {
            let mut all = SeatTable::new(2, 10);
            take(&mut all, "192.0.2.1", "first", now).unwrap();
            take(&mut all, "192.0.2.2", "second", now).unwrap();
            take(&mut all, "192.0.2.3", "new", now).unwrap().1
        })
        .collect();
    assert_eq!(evicted, BTreeSet::from([Some("first"), Some("second")]));
}

#[test]
fn a_download_stays_while_there_are_unfinished_heads() {
    let now = Instant::now();
    let later = now + Duration::from_secs(60);
    let mut all = SeatTable::new(3, 10);
    for (name, address) in [("one", "203.0.113.1"), ("two", "198.51.100.1")] {
        let seat = take(&mut all, address, name, now).unwrap().0;
        all.begin_download(seat, now);
    }
    take(&mut all, "192.0.2.1", "head", now).unwrap();
    let admitted = take(&mut all, "192.0.2.2", "new", later).unwrap();
    assert_eq!(admitted.1, Some("head"));
}

#[test]
fn without_unfinished_heads_the_slowest_download_is_evicted() {
    let now = Instant::now();
    let later = now + Duration::from_secs(20);
    let mut all = SeatTable::new(3, 10);
    let mut download = |name, address, acknowledged| {
        let seat = take(&mut all, address, name, now).unwrap().0;
        all.begin_download(seat, now);
        all.acknowledged(seat, acknowledged);
        seat
    };
    download("fast", "192.0.2.1", 1_000_000);
    let slow = download("slow", "192.0.2.2", 100);
    download("middling", "192.0.2.3", 10_000);
    let admitted = take(&mut all, "192.0.2.4", "new", later).unwrap();
    assert_eq!(admitted.1, Some("slow"));
    assert!(!all.contains(slow));
    // The evicted task frees its seat later. That must not free the seat of the new connection.
    all.remove(slow);
    assert!(all.contains(admitted.0));
    assert_eq!(all.len(), 3);
}

#[test]
fn a_download_that_has_just_begun_is_not_evicted() {
    let now = Instant::now();
    let mut all = SeatTable::new(1, 10);
    let seat = take(&mut all, "192.0.2.1", "young", now).unwrap().0;
    all.begin_download(seat, now);
    let soon = now + Duration::from_secs(9);
    assert_eq!(take(&mut all, "192.0.2.2", "new", soon), None);
    let later = now + Duration::from_secs(10);
    assert!(take(&mut all, "192.0.2.2", "new", later).is_some());
}

/// A table whose seats are all taken by downloads that began at `now`: `heavy` of one network, one of another.
fn crowded(heavy: usize, now: Instant) -> (SeatTable<&'static str>, SeatId) {
    let mut all = SeatTable::new(heavy + 1, 100);
    for _ in 0..heavy {
        let seat = take(&mut all, "203.0.113.1", "heavy", now).unwrap().0;
        all.begin_download(seat, now);
        all.acknowledged(seat, 1_000_000);
    }
    let honest = take(&mut all, "192.0.2.1", "honest", now).unwrap().0;
    all.begin_download(honest, now);
    (all, honest)
}

#[test]
fn a_network_with_more_than_half_of_the_seats_makes_room_first() {
    let now = Instant::now();
    let later = now + Duration::from_secs(60);
    for (age, new_address) in [
        (later, "198.51.100.1"),
        (now, "198.51.100.1"),
        (later, "203.0.113.9"),
        (later, "192.0.2.7"),
    ] {
        let (mut all, honest) = crowded(19, now);
        let admitted = take(&mut all, new_address, "new", age).unwrap();
        assert_eq!(admitted.1, Some("heavy"), "{new_address}");
        assert!(all.contains(honest));
    }
}

#[test]
fn unfinished_heads_of_the_heaviest_network_are_evicted_first() {
    let now = Instant::now();
    let (mut all, _) = crowded(9, now);
    all.max = 12;
    take(&mut all, "203.0.113.2", "its head", now).unwrap();
    take(&mut all, "198.51.100.1", "other head", now).unwrap();
    let admitted = take(&mut all, "198.51.100.2", "new", now).unwrap();
    assert_eq!(admitted.1, Some("its head"));
}

#[test]
fn the_heaviest_network_gains_no_seat_by_the_download_of_another() {
    let now = Instant::now();
    let later = now + Duration::from_secs(60);
    let (mut all, honest) = crowded(19, now);
    // The network's own downloads are too young to be judged, and the honest one is by far the slowest.
    let soon = now + Duration::from_secs(5);
    assert_eq!(take(&mut all, "203.0.113.3", "new", soon), None);
    assert!(all.contains(honest));
    // The same without a majority: three of six.
    let (mut all, honest) = crowded(3, later);
    all.max = 6;
    for address in ["198.51.100.1", "198.18.1.1"] {
        let seat = take(&mut all, address, "honest", now).unwrap().0;
        all.begin_download(seat, now);
    }
    assert_eq!(take(&mut all, "203.0.113.3", "new", later), None);
    assert!(all.contains(honest));
    let admitted = take(&mut all, "192.0.3.1", "new", later).unwrap();
    assert_eq!(admitted.1, Some("honest"));
}

#[test]
fn when_files_run_out_a_head_or_a_download_of_the_heaviest_is_evicted() {
    let now = Instant::now();
    let later = now + Duration::from_secs(60);
    let (mut all, _) = crowded(5, now);
    assert_eq!(all.evict_any(now), None);
    assert_eq!(all.evict_any(later), Some("heavy"));
    let mut all = SeatTable::new(10, 10);
    for address in ["192.0.2.1", "198.51.100.1"] {
        let seat = take(&mut all, address, "honest", now).unwrap().0;
        all.begin_download(seat, now);
    }
    assert_eq!(all.evict_any(later), None);
    take(&mut all, "192.0.2.1", "head", now).unwrap();
    assert_eq!(all.evict_any(now), Some("head"));
}

#[test]
fn a_connection_that_waits_again_counts_as_an_unfinished_head() {
    let now = Instant::now();
    let mut all = SeatTable::new(2, 10);
    let idle = take(&mut all, "192.0.2.1", "idle", now).unwrap().0;
    all.begin_download(idle, now);
    let busy = take(&mut all, "192.0.2.2", "busy", now).unwrap().0;
    all.begin_download(busy, now);
    all.end_download(idle);
    all.end_download(idle);
    let admitted = take(&mut all, "198.51.100.3", "new", now).unwrap();
    assert_eq!(admitted.1, Some("idle"));
}

#[test]
fn an_address_at_its_limit_evicts_only_its_own_connections() {
    let now = Instant::now();
    let mut all = SeatTable::new(10, 2);
    take(&mut all, "192.0.2.2", "neighbour", now).unwrap();
    let seat = take(&mut all, "192.0.2.1", "download", now).unwrap().0;
    all.begin_download(seat, now);
    take(&mut all, "192.0.2.1", "own", now).unwrap();
    let admitted = take(&mut all, "::ffff:192.0.2.1", "new", now).unwrap();
    assert_eq!(admitted.1, Some("own"));
    all.begin_download(admitted.0, now);
    assert_eq!(take(&mut all, "192.0.2.1", "next", now), None);
    let proxied = all.take(ip("192.0.2.1"), true, now, "proxied");
    assert_eq!(proxied.unwrap().1, None);
    assert_eq!(all.len(), 4);
}

#[test]
fn counters_stay_consistent() {
    let now = Instant::now();
    let mut all = SeatTable::new(40, 7);
    let mut seats = Vec::new();
    let mut random: u32 = 1;
    for _ in 0..20_000 {
        random = random.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        let pick = (random >> 8) as usize;
        let address = IpAddr::from([192, 0, (pick % 5) as u8, (pick / 5 % 3) as u8]);
        match random >> 29 {
            0..=3 => {
                if let Some(admitted) = all.take(address, false, now, ()) {
                    seats.push(admitted.0);
                }
            }
            4 | 5 if !seats.is_empty() => {
                all.remove(seats.swap_remove(pick % seats.len()));
            }
            6 if !seats.is_empty() => all.begin_download(seats[pick % seats.len()], now),
            _ if !seats.is_empty() => all.end_download(seats[pick % seats.len()]),
            _ => {}
        }
        seats.retain(|seat| all.contains(*seat));
        assert_eq!(all.len(), seats.len());
        assert_eq!(all.per_address.values().sum::<usize>(), all.len());
        assert_eq!(all.per_network.sum(), all.len());
        assert_eq!(all.waiting_per_network.sum(), all.waiting.len());
        assert!(all.len() <= 40 && all.per_address.values().all(|n| *n <= 7));
        for (id, seat) in &all.seats {
            let is_listed = all.waiting.contains(&(Network::of(seat.address), *id));
            assert_eq!(is_listed, seat.download.is_none());
        }
    }
    for seat in seats {
        all.remove(seat);
    }
    assert!(all.is_empty() && all.per_address.is_empty());
    assert_eq!(
        (all.waiting_per_network.most(), all.per_network.most()),
        (None, None)
    );
}
