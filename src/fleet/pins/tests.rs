use super::*;

const A: ContentId = ContentId([1; 32]);
const B: ContentId = ContentId([2; 32]);
const DEVICE: Downloader = Downloader(862_991_443_753_386);
const HOME: Network = Network::V4([192, 0, 2]);
const AWAY: Network = Network::V4([198, 51, 100]);

/// A download from byte 0 that was cut after `sent` bytes.
fn cut(pins: &mut Pins, network: Network, content: ContentId, sent: u64, now: Instant) {
    let hold = pins.start(DEVICE, network, content, now);
    pins.advance(&hold, sent, now);
    pins.end(hold, false, now);
}

#[test]
fn a_download_goes_on_with_the_content_that_it_began_with() {
    let (mut pins, now) = (Pins::new(8), Instant::now());
    cut(&mut pins, HOME, A, 1000, now);
    assert_eq!(pins.began(DEVICE, 600, now), Began::With(A));
    assert_eq!(pins.began(DEVICE, 1000, now), Began::With(A));
}

#[test]
fn a_pin_does_not_speak_for_bytes_that_were_never_sent() {
    let (mut pins, now) = (Pins::new(8), Instant::now());
    cut(&mut pins, HOME, A, 1000, now);
    assert_eq!(pins.began(DEVICE, 1001, now), Began::Unknown);
    assert_eq!(pins.began(Downloader(1), 1, now), Began::Unknown);
}

#[test]
fn a_device_that_roams_keeps_its_content() {
    let (mut pins, now) = (Pins::new(8), Instant::now());
    cut(&mut pins, HOME, A, 1000, now);
    let hold = pins.resume(DEVICE, AWAY, A, 900, now);
    pins.advance(&hold, 2000, now);
    pins.end(hold, false, now);
    assert_eq!(pins.began(DEVICE, 1500, now), Began::With(A));
    // Another device with the same id takes the old network: the roamer is still known.
    cut(&mut pins, HOME, B, 10, now);
    assert_eq!(pins.began(DEVICE, 1500, now), Began::With(A));
}

#[test]
fn byte_0_replaces_only_the_pin_of_its_own_network() {
    let (mut pins, now) = (Pins::new(8), Instant::now());
    cut(&mut pins, HOME, A, 1000, now);
    cut(&mut pins, AWAY, B, 100, now);
    assert_eq!(pins.len(), 2);
    assert_eq!(pins.began(DEVICE, 500, now), Began::With(A));
    let later = now + RIVAL;
    cut(&mut pins, HOME, B, 1000, later);
    assert_eq!(pins.began(DEVICE, 500, later), Began::With(B));
}

#[test]
fn a_pin_that_was_just_used_is_not_replaced_by_another_device_under_its_id() {
    let (mut pins, now) = (Pins::new(8), Instant::now());
    cut(&mut pins, HOME, A, 1000, now);
    let soon = now + RIVAL - Duration::from_secs(1);
    cut(&mut pins, HOME, B, 2000, soon);
    assert_eq!(pins.began(DEVICE, 1000, soon), Began::Unclear);
    assert_eq!(pins.began(DEVICE, 1500, soon), Began::With(B));
}

#[test]
fn who_has_the_whole_file_may_begin_another_at_once() {
    let (mut pins, now) = (Pins::new(8), Instant::now());
    let hold = pins.start(DEVICE, HOME, A, now);
    pins.advance(&hold, 1000, now);
    pins.end(hold, true, now);
    cut(&mut pins, HOME, B, 500, now);
    assert_eq!(pins.began(DEVICE, 400, now), Began::With(B));
}

#[test]
fn two_contents_that_reach_as_far_are_unclear() {
    let (mut pins, now) = (Pins::new(8), Instant::now());
    cut(&mut pins, HOME, A, 1000, now);
    cut(&mut pins, AWAY, B, 1000, now);
    assert_eq!(pins.began(DEVICE, 500, now), Began::Unclear);
}

#[test]
fn byte_0_does_not_replace_a_pin_while_its_download_runs() {
    let (mut pins, now) = (Pins::new(8), Instant::now());
    let running = pins.start(DEVICE, HOME, A, now);
    pins.advance(&running, 1000, now);
    cut(&mut pins, HOME, B, 100, now);
    assert_eq!(pins.began(DEVICE, 1000, now), Began::With(A));
    pins.end(running, false, now);
    assert_eq!(pins.began(DEVICE, 1000, now), Began::With(A));
}

#[test]
fn the_same_device_behind_a_dead_connection_never_gets_the_rest_of_the_other_file() {
    let (mut pins, now) = (Pins::new(8), Instant::now());
    let dead = pins.start(DEVICE, HOME, A, now);
    pins.advance(&dead, 1000, now);
    cut(&mut pins, HOME, B, 600, now);
    assert_eq!(pins.began(DEVICE, 600, now), Began::Unclear);
    pins.end(dead, false, now);
    // It starts again after a while, and from then on it is clear.
    let later = now + RIVAL;
    cut(&mut pins, HOME, B, 300, later);
    assert_eq!(pins.began(DEVICE, 300, later), Began::With(B));
}

#[test]
fn a_second_download_that_seems_complete_keeps_its_say() {
    let (mut pins, now) = (Pins::new(8), Instant::now());
    let first = pins.start(DEVICE, HOME, A, now);
    pins.advance(&first, 500, now);
    let second = pins.start(DEVICE, HOME, B, now);
    pins.advance(&second, 1000, now);
    pins.end(second, true, now);
    pins.end(first, false, now);
    assert_eq!(pins.began(DEVICE, 400, now), Began::Unclear);
}

#[test]
fn a_pin_holds_until_its_last_download_ends() {
    let (mut pins, now) = (Pins::new(8), Instant::now());
    let first = pins.start(DEVICE, HOME, A, now);
    let second = pins.start(DEVICE, HOME, A, now);
    assert_eq!(pins.len(), 1);
    pins.advance(&first, 500, now);
    pins.end(first, false, now);
    cut(&mut pins, HOME, B, 10, now);
    assert_eq!(pins.began(DEVICE, 500, now), Began::With(A));
    pins.end(second, false, now);
    let later = now + RIVAL;
    cut(&mut pins, HOME, B, 10, later);
    assert_eq!(pins.began(DEVICE, 500, later), Began::Unknown);
}

#[test]
fn starting_again_with_the_same_content_keeps_the_mark() {
    let (mut pins, now) = (Pins::new(8), Instant::now());
    cut(&mut pins, HOME, A, 1000, now);
    cut(&mut pins, HOME, A, 10, now);
    assert_eq!(pins.began(DEVICE, 1000, now), Began::With(A));
}

#[test]
fn a_pin_ends_a_day_after_its_last_use() {
    let (mut pins, now) = (Pins::new(8), Instant::now());
    cut(&mut pins, HOME, A, 1000, now);
    let almost = now + LIFETIME - Duration::from_secs(1);
    assert_eq!(pins.began(DEVICE, 1, almost), Began::With(A));
    let over = now + LIFETIME;
    assert_eq!(pins.began(DEVICE, 1, over), Began::Unknown);
    let hold = pins.start(Downloader(1), HOME, A, over);
    assert_eq!(pins.len(), 1);
    pins.end(hold, false, over);
}

#[test]
fn the_longest_unused_pin_makes_room_and_never_one_that_a_download_holds() {
    let (mut pins, now) = (Pins::new(3), Instant::now());
    let device = |n| Downloader(n);
    let running = pins.start(device(1), HOME, A, now);
    for n in 2..=3 {
        let hold = pins.start(device(n), HOME, A, now);
        pins.end(hold, false, now);
    }
    let again = pins.start(device(2), HOME, A, now);
    pins.end(again, false, now);
    let hold = pins.start(device(4), HOME, A, now);
    assert_eq!(pins.len(), 3);
    assert_eq!(pins.began(device(1), 0, now), Began::With(A));
    assert_eq!(pins.began(device(2), 0, now), Began::With(A));
    assert_eq!(pins.began(device(3), 0, now), Began::Forgotten);
    // All are held: then the oldest goes all the same, and its end does no harm.
    let third = pins.start(device(5), HOME, A, now);
    let fourth = pins.start(device(6), HOME, A, now);
    assert_eq!(pins.len(), 3);
    assert_eq!(pins.began(device(1), 0, now), Began::Forgotten);
    for hold in [running, hold, third, fourth] {
        pins.end(hold, true, now);
    }
    assert_eq!(pins.len(), 3);
}

#[test]
fn what_had_to_make_room_is_not_what_was_never_known() {
    let (mut pins, now) = (Pins::new(2), Instant::now());
    cut(&mut pins, HOME, A, 1000, now);
    assert_eq!(pins.began(Downloader(7), 1, now), Began::Unknown);
    for n in 1..=2 {
        let hold = pins.start(Downloader(n), HOME, B, now);
        pins.end(hold, false, now);
    }
    // Its pin went; it must not be taken for one that may have begun with what is offered now.
    assert_eq!(pins.began(DEVICE, 500, now), Began::Forgotten);
    assert_eq!(pins.began(Downloader(1), 0, now), Began::With(B));
    let later = now + LIFETIME;
    assert_eq!(pins.began(DEVICE, 500, later), Began::Unknown);
}

#[test]
fn a_flood_of_strangers_pushes_out_no_pin_of_an_established_device() {
    let (mut pins, now) = (Pins::new(100), Instant::now());
    let hold = pins.start(DEVICE, HOME, A, now);
    pins.keep_longer(&hold);
    pins.advance(&hold, 1000, now);
    pins.end(hold, false, now);
    // It goes on, and is cut once more.
    let hold = pins.resume(DEVICE, HOME, A, 500, now);
    pins.end(hold, false, now);
    for n in 0..1000 {
        let hold = pins.start(Downloader(n), AWAY, B, now);
        pins.end(hold, n % 2 == 0, now);
    }
    assert_eq!(pins.len(), 100);
    assert_eq!(pins.began(DEVICE, 1000, now), Began::With(A));
    // And it ends in its time, though strangers came after it.
    let later = now + LIFETIME - Duration::from_secs(1);
    let hold = pins.start(Downloader(1001), AWAY, B, later);
    pins.end(hold, false, later);
    let over = now + LIFETIME;
    let hold = pins.start(Downloader(1002), AWAY, B, over);
    assert_eq!((pins.len(), pins.order.len()), (2, 2));
    pins.end(hold, false, over);
}

fn entries(pins: &Pins, clock: &Clock) -> Vec<Entry> {
    let (mut all, mut from) = (Vec::new(), Some(0));
    while let Some(at) = from {
        let (some, next) = pins.records(at, 2, clock);
        assert!(some.len() <= 2);
        all.extend(some);
        from = next;
    }
    all
}

#[test]
fn a_pin_out_of_the_journal_speaks_for_any_byte() {
    let now = Instant::now();
    let clock = Clock::new(now);
    let mut pins = Pins::new(8);
    cut(&mut pins, HOME, A, 1000, now);
    for n in 1..=4 {
        let hold = pins.start(Downloader(n), AWAY, B, now);
        pins.end(hold, true, now);
    }
    let written = entries(&pins, &clock);
    assert_eq!(written.len(), 5);
    let mut loaded = Pins::new(8);
    // Each twice: the last one wins.
    for entry in written.iter().chain(&written) {
        let Entry::Pin(pin) = entry else { panic!() };
        loaded.load(pin, &clock, now);
    }
    assert_eq!(entries(&loaded, &clock), written);
    assert_eq!(loaded.began(DEVICE, 1001, now), Began::With(A));
    assert_eq!(loaded.began(Downloader(2), u64::MAX, now), Began::With(B));
    loaded.unload(DEVICE, HOME, A);
    assert_eq!(loaded.began(DEVICE, 1, now), Began::Unknown);
    assert!(loaded.news(&clock).is_empty());
}

#[test]
fn a_pin_out_of_the_journal_ends_a_day_after_its_last_use() {
    let now = Instant::now();
    let clock = Clock::new(now);
    let entry = |ago: u64| PinEntry {
        who: DEVICE,
        network: HOME,
        content: A,
        used: clock.stamp(now).minus(ago as u32),
        complete: false,
    };
    let day = LIFETIME.as_secs();
    let mut pins = Pins::new(8);
    pins.load(&entry(day), &clock, now);
    assert!(pins.is_empty());
    pins.load(&entry(day - 10), &clock, now);
    assert_eq!(pins.began(DEVICE, 1, now), Began::With(A));
    let later = now + Duration::from_secs(10);
    assert_eq!(pins.began(DEVICE, 1, later), Began::Unknown);
}

#[test]
fn the_journal_hears_of_a_download_once_and_of_its_end_if_that_is_news() {
    let now = Instant::now();
    let clock = Clock::new(now);
    let mut pins = Pins::new(8);
    let hold = pins.start(DEVICE, HOME, A, now);
    assert!(pins.to_write(&hold, &clock).is_some());
    assert!(pins.to_write(&hold, &clock).is_none());
    pins.not_written(&hold);
    assert!(pins.to_write(&hold, &clock).is_some());
    pins.end(hold, false, now);
    assert!(pins.news(&clock).is_empty());
    // The ranges of one download.
    for from in [100, 200, 300] {
        let hold = pins.resume(DEVICE, HOME, A, from, now);
        assert!(pins.to_write(&hold, &clock).is_none());
        pins.end(hold, false, now);
    }
    let later = now + STALE;
    let hold = pins.resume(DEVICE, HOME, A, 400, later);
    assert!(pins.to_write(&hold, &clock).is_some());
    pins.end(hold, true, later);
    let news = pins.news(&clock);
    assert!(
        matches!(&*news, [Entry::Pin(pin)] if pin.complete),
        "{news:?}"
    );
    // Another content takes its place.
    let later = later + RIVAL;
    let hold = pins.start(DEVICE, HOME, B, later);
    assert_eq!(pins.news(&clock), [Entry::Unpinned(DEVICE, HOME, A)]);
    assert!(pins.to_write(&hold, &clock).is_some());
    pins.end(hold, false, later);
}
