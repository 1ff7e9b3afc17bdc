//! Bounds that no behaviour of devices can exceed.

use proptest::prelude::*;

use super::super::evidence::HOLDS;
use super::*;

proptest! {
    #![proptest_config(ProptestConfig::with_cases(16))]

    #[test]
    fn a_client_that_fetches_kilobyte_by_kilobyte_is_never_punished(
        megabyte in 0..3u64, gap in 0..90u32, broken in prop::collection::vec(0..1024u64, 0..3),
    ) {
        let size = 1024 * 1024 + megabyte;
        let (mut guard, mut now) = (guard(), START);
        // The client begins again whenever its download is cut, and requests each kilobyte separately.
        for end in broken.into_iter().chain([u64::MAX]) {
            let mut at = 0;
            let mut pieces = 0;
            while at < size && pieces < end {
                prop_assert!(guard.held(&old(), FACTS, now).is_empty());
                if at == 0 {
                    guard.count_check(&old(), FACTS, None, now);
                }
                let to = (at + 1024).min(size);
                let range = FileRange { content: A, to: self::to(), size, start: at, end: to };
                spend(&mut guard, &old(), range, now);
                now = now.plus(gap);
                at = to;
                pieces += 1;
            }
        }
        let new = who("862991443753386", "2.0.0", "100.64.1.2");
        prop_assert!(ask(&mut guard, &new, B, now.plus(600)));
    }
}

proptest! {
    #[test]
    fn the_bytes_for_a_looping_device_are_bounded(
        steps in prop::collection::vec((1..20_000u32, 1..=10u64, any::<bool>()), 1..400),
        attempts in 1..6u32,
    ) {
        let mut guard = LoopGuard::new(attempts, CAPACITY);
        let (mut now, mut bytes) = (START, 0);
        let mut holds = 0;
        let entry = |guard: &LoopGuard| Some(guard.table.of(old().device).first()?.record.entry.clone());
        let until = |guard: &LoopGuard| entry(guard)?.held_until;
        let level = |guard: &LoopGuard| entry(guard).map_or(0, |entry| entry.level);
        for (gap, tenths, restart) in steps {
            let before = until(&guard);
            if ask(&mut guard, &old(), A, now) {
                let end = SIZE * tenths / 10;
                spend(&mut guard, &old(), part(A, 0, end), now);
                bytes += end;
                let allowed = u64::from(attempts + 2 + 2 * level(&guard)) * SIZE;
                prop_assert!(bytes < allowed + SIZE, "{} bytes at level {}", bytes, level(&guard));
            }
            let after = until(&guard);
            if after != before {
                // Each hold has at least its required duration, and none begins within another.
                let hold = after.unwrap().since(now);
                let least = HOLDS[holds.min(2)];
                prop_assert!(hold >= least && HOLDS.contains(&hold), "{} {}", hold, holds);
                prop_assert!(before.is_none_or(|before| before <= now));
                holds += 1;
            }
            if restart {
                let mut loaded = LoopGuard::new(attempts, CAPACITY);
                for entry in guard.records(0, 9).0 {
                    let JournalEntry::Guard(entry) = entry else { unreachable!() };
                    loaded.load(entry);
                }
                if !loaded.is_empty() {
                    loaded.set_sizes(|_| Some(SIZE));
                    guard = loaded;
                }
            }
            now = now.plus(gap);
        }
    }

    #[test]
    fn whole_deliveries_are_at_most_the_attempts_and_one_per_hold(
        gaps in prop::collection::vec(61..50_000u32, 1..300), attempts in 1..6u32,
    ) {
        let mut guard = LoopGuard::new(attempts, CAPACITY);
        let (mut now, mut given) = (START, Vec::new());
        for gap in gaps {
            if ask(&mut guard, &old(), A, now) {
                spend(&mut guard, &old(), part(A, 0, SIZE), now);
                given.push(now);
            }
            now = now.plus(gap);
        }
        let later = given.iter().skip(attempts as usize).enumerate();
        for (at, given_at) in later {
            let previous = given[attempts as usize + at - 1];
            prop_assert!(given_at.since(previous) >= HOLDS[at.min(2)]);
        }
    }

    #[test]
    fn a_forger_in_other_networks_cannot_get_an_honest_device_held(
        forged in prop::collection::vec((0..40u8, 0..4u8, 1..1000u32), 0..400),
        honest_at in 0..400usize, fails_once in any::<bool>(),
    ) {
        let (mut guard, mut now) = (guard(), START);
        let mut got = false;
        for (step, (network, what, gap)) in forged.into_iter().enumerate() {
            let address = format!("203.{network}.113.5");
            let forger = who("862991443753386", "1.0.0", &address);
            match what {
                0 | 1 => { take(&mut guard, &forger, A, now); }
                2 => spend(&mut guard, &forger, part(A, 0, SIZE - 1), now),
                _ => guard.record_redirect(&forger, A, to(), now),
            }
            if step == honest_at {
                // The first attempt of the honest device may be cut.
                if fails_once {
                    prop_assert!(ask(&mut guard, &old(), A, now));
                    spend(&mut guard, &old(), part(A, 0, SIZE / 2), now);
                }
                prop_assert!(take(&mut guard, &old(), A, now.plus(1)));
                got = true;
            }
            now = now.plus(gap);
        }
        if !got {
            prop_assert!(take(&mut guard, &old(), A, now));
        }
        let new = who("862991443753386", "2.0.0", "100.64.1.2");
        prop_assert!(ask(&mut guard, &new, A, now.plus(600)));
    }
}
