//! Tests of the table of evidence: eviction, and the journal.

use super::*;

#[test]
fn evidence_survives_a_restart() {
    let (mut guard, mut now) = (guard(), START);
    let mut journal = Vec::new();
    for _ in 0..8 {
        take(&mut guard, &old(), A, now);
        journal.append(&mut guard.changes());
        now = now.plus(1000);
    }
    let wandering = who("862991443753387", "1.0.0", "100.64.1.2");
    spend(&mut guard, &wandering, part(A, 0, 1000), now);
    assert!(
        guard.changes().is_empty(),
        "a thousand bytes are not worth a line"
    );
    let mut written = LoopGuard::new(3, CAPACITY);
    for entry in &journal {
        let JournalEntry::Guard(entry) = entry else {
            panic!()
        };
        written.load(entry.clone());
    }
    let (entries, next) = guard.records(0, 100);
    assert_eq!(next, None);
    assert_eq!(written.records(0, 100).0, entries);
    assert_eq!(entries.len(), 1);
    written.set_sizes(|content| (content == A).then_some(SIZE));
    for minutes in 0..1000 {
        let later = now.plus(minutes * 60);
        assert_eq!(
            written.held(&old(), FACTS, later),
            guard.held(&old(), FACTS, later)
        );
    }
    written.unload(old().identity_without_version, old().coarse_network);
    assert!(written.is_empty());
}

#[test]
fn records_are_returned_in_pages() {
    let mut guard = guard();
    for n in 0..10 {
        let device = who(&format!("86299144375330{n}"), "1.0.0", "100.64.1.2");
        spend(&mut guard, &device, part(A, 0, SIZE), START);
    }
    let (mut from, mut seen) = (Some(0), 0);
    while let Some(number) = from {
        let (entries, next) = guard.records(number, 3);
        assert!(entries.len() <= 3);
        (seen, from) = (seen + entries.len(), next);
    }
    assert_eq!(seen, 10);
}

#[test]
fn a_flood_evicts_records_without_evidence_first() {
    let mut guard = LoopGuard::new(3, 100);
    let mut now = START;
    while take(&mut guard, &old(), A, now) {
        now = now.plus(600);
    }
    for n in 0..10_000u64 {
        let id = format!("{:015}", 861_000_000_000_000 + n);
        let forged = who(&id, "1.0.0", "203.0.113.5");
        spend(&mut guard, &forged, part(A, 0, SIZE), now);
    }
    assert_eq!(guard.len(), 100);
    assert!(!ask(&mut guard, &old(), A, now));
    // Under the device's own id, only a few records are kept.
    for n in 0..1000u32 {
        let address = format!("{}.{}.0.1", 1 + n / 250, n % 250);
        let forged = who("862991443753386", "1.0.0", &address);
        spend(&mut guard, &forged, part(C, 0, SIZE), now);
    }
    assert!(guard.table.of(old().device).len() <= MAX_PER_ID);
    assert!(!ask(&mut guard, &old(), A, now));
}

#[test]
fn loaded_evidence_keeps_its_place_in_the_eviction_order() {
    let mut before = guard();
    spend(&mut before, &old(), part(A, 0, SIZE), START);
    spend(&mut before, &old(), part(A, 0, SIZE), START);
    let mut after = LoopGuard::new(3, CAPACITY);
    for entry in before.changes() {
        if let JournalEntry::Guard(entry) = entry {
            after.load(entry);
        }
    }
    let rank = |guard: &LoopGuard| guard.table.of(old().device)[0].place().class;
    assert!(rank(&after) < rank(&before));
    after.set_sizes(|_| Some(SIZE));
    assert_eq!(rank(&after), rank(&before));
    assert_eq!(after.len(), 1);
    let slot = &after.table.of(old().device)[0];
    let first = after.table.longest_unused(slot.place().class);
    assert_eq!(
        first,
        Some((old().device, slot.serial(), slot.place().used))
    );
}
