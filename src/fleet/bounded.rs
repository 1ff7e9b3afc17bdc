//! A bounded table of records that requests from the network create, for [`super::pins`] and [`super::loop_guard`].
//!
//! Each key has a few records. All records share one eviction order: lowest class first, then least recently used, then
//! oldest. When the table is full, a new record evicts the first record in that order, but never one of a higher class
//! than its own: a flood of requests cannot displace more valuable records. So memory stays bounded, and insertion, use
//! and eviction take logarithmic time.

use std::collections::{BTreeMap, HashMap};
use std::hash::Hash;

use super::clock::Stamp;

/// Place in the eviction order; the lowest is evicted first. No two records have the same place.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct EvictionKey {
    /// Worth of the record: classes are evicted in ascending order.
    pub class: u8,
    /// Time of the last use.
    pub used: Stamp,
    /// Number of the record: unique, ascending in the order of insertion, constant for its lifetime.
    pub serial: u64,
}

/// A record with its place in the eviction order.
#[derive(Clone, Debug)]
pub struct Ranked<R> {
    place: EvictionKey,
    /// The record.
    pub record: R,
}

impl<R> Ranked<R> {
    /// Place in the eviction order.
    pub fn place(&self) -> EvictionKey {
        self.place
    }

    /// Number of the record, constant for its lifetime.
    pub fn serial(&self) -> u64 {
        self.place.serial
    }
}

/// A bounded table of records by key.
#[derive(Debug)]
pub struct Bounded<K, R> {
    slots: HashMap<K, Vec<Ranked<R>>>,
    order: BTreeMap<EvictionKey, K>,
    capacity: usize,
    per_key: usize,
    /// Serial of the last record that was inserted.
    last: u64,
}

/// Outcome of [`Bounded::insert`].
#[derive(Debug, PartialEq, Eq)]
pub struct Inserted<K, R> {
    /// Serial of the new record; `None` if every record in the table is of a higher class.
    pub serial: Option<u64>,
    /// Records that were evicted to make room for the new one.
    pub evicted: Vec<(K, R)>,
}

impl<K: Copy + Eq + Hash, R> Bounded<K, R> {
    /// Creates an empty table for at most `capacity` records, at most `per_key` under one key (at least one each).
    pub fn new(capacity: usize, per_key: usize) -> Bounded<K, R> {
        Bounded {
            slots: HashMap::new(),
            order: BTreeMap::new(),
            capacity: capacity.max(1),
            per_key: per_key.max(1),
            last: 0,
        }
    }

    /// Number of records.
    pub fn len(&self) -> usize {
        self.order.len()
    }

    /// Whether there are no records.
    pub fn is_empty(&self) -> bool {
        self.order.is_empty()
    }

    /// Records of a key, in no particular order.
    pub fn of(&self, key: K) -> &[Ranked<R>] {
        self.slots.get(&key).map_or(&[], Vec::as_slice)
    }

    /// Whether a key has its maximum number of records.
    pub fn is_full(&self, key: K) -> bool {
        self.of(key).len() >= self.per_key
    }

    /// Mutable records of a key. Their places in the eviction order do not change.
    pub fn of_mut(&mut self, key: K) -> impl Iterator<Item = &mut Ranked<R>> {
        self.slots.get_mut(&key).into_iter().flatten()
    }

    /// The record with this serial.
    pub fn get_mut(&mut self, key: K, serial: u64) -> Option<&mut R> {
        let slot = self.of_mut(key).find(|slot| slot.serial() == serial)?;
        Some(&mut slot.record)
    }

    /// All records, in no particular order.
    pub fn iter(&self) -> impl Iterator<Item = (K, &Ranked<R>)> {
        let all = self.slots.iter();
        all.flat_map(|(key, slots)| slots.iter().map(|slot| (*key, slot)))
    }

    /// All records, mutable, in no particular order. Their places in the eviction order do not change.
    pub fn iter_mut(&mut self) -> impl Iterator<Item = (K, &mut Ranked<R>)> {
        let all = self.slots.iter_mut();
        all.flat_map(|(key, slots)| slots.iter_mut().map(|slot| (*key, slot)))
    }

    /// Inserts a record. If its key is full, evicts the first record of that key in the eviction order. If the table is
    /// full, evicts the first of all records, unless that one has a higher class than the new record.
    pub fn insert(&mut self, key: K, class: u8, used: Stamp, record: R) -> Inserted<K, R> {
        let mut evicted = Vec::new();
        if self.is_full(key) {
            let first = self.of(key).iter().map(Ranked::place).min();
            evicted.extend(first.and_then(|place| self.take(place)));
        }
        while self.len() >= self.capacity
            && let Some((&place, _)) = self.order.first_key_value()
        {
            if place.class > class {
                return Inserted {
                    serial: None,
                    evicted,
                };
            }
            evicted.extend(self.take(place));
        }
        self.last += 1;
        let place = EvictionKey {
            class,
            used,
            serial: self.last,
        };
        self.slots
            .entry(key)
            .or_default()
            .push(Ranked { place, record });
        self.order.insert(place, key);
        Inserted {
            serial: Some(place.serial),
            evicted,
        }
    }

    /// Moves a record to another place in the eviction order.
    pub fn touch(&mut self, key: K, serial: u64, class: u8, used: Stamp) {
        let slot = self.of_mut(key).find(|slot| slot.serial() == serial);
        let Some(slot) = slot else { return };
        let before = slot.place;
        slot.place = EvictionKey {
            class,
            used,
            serial,
        };
        let after = slot.place;
        self.order.remove(&before);
        self.order.insert(after, key);
    }

    /// Removes the record with this serial.
    pub fn remove(&mut self, key: K, serial: u64) -> Option<R> {
        self.retain(key, |slot| slot.serial() != serial).pop()
    }

    /// Removes the records of a key for which `keep` returns false, and returns them.
    pub fn retain(&mut self, key: K, mut keep: impl FnMut(&Ranked<R>) -> bool) -> Vec<R> {
        let Some(slots) = self.slots.get_mut(&key) else {
            return Vec::new();
        };
        let removed: Vec<_> = slots.extract_if(.., |slot| !keep(slot)).collect();
        if slots.is_empty() {
            self.slots.remove(&key);
        }
        for slot in &removed {
            self.order.remove(&slot.place);
        }
        removed.into_iter().map(|slot| slot.record).collect()
    }

    /// Least recently used record of a class: its key, serial and time of last use.
    pub fn longest_unused(&self, class: u8) -> Option<(K, u64, Stamp)> {
        let first = EvictionKey {
            class,
            used: Stamp::default(),
            serial: 0,
        };
        let (place, key) = self.order.range(first..).next()?;
        (place.class == class).then_some((*key, place.serial, place.used))
    }

    /// Returns at most `most` records for which `wanted` is true, in the order of their serials from `from` on, and the
    /// serial of the next one. A walk over all pages misses no record that exists throughout the walk.
    pub fn page(
        &self,
        from: u64,
        most: usize,
        wanted: impl Fn(&R) -> bool,
    ) -> (Vec<(K, &Ranked<R>)>, Option<u64>) {
        let all = self.iter();
        let mut page: Vec<_> = all
            .filter(|(_, slot)| slot.serial() >= from && wanted(&slot.record))
            .collect();
        page.sort_unstable_by_key(|(_, slot)| slot.serial());
        let next = page.get(most).map(|(_, slot)| slot.serial());
        page.truncate(most);
        (page, next)
    }

    /// Removes the record at a place in the eviction order.
    fn take(&mut self, place: EvictionKey) -> Option<(K, R)> {
        let key = self.order.get(&place).copied()?;
        let record = self.retain(key, |slot| slot.place != place).pop()?;
        Some((key, record))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    type Numbers = Bounded<u64, u64>;

    fn insert(table: &mut Numbers, key: u64, class: u8, used: u32) -> Option<u64> {
        table.insert(key, class, Stamp(used), key).serial
    }

    fn keys(table: &Numbers) -> Vec<u64> {
        let mut keys: Vec<_> = table.iter().map(|(key, _)| key).collect();
        keys.sort_unstable();
        keys
    }

    #[test]
    fn the_lowest_class_goes_first_and_within_it_the_longest_unused() {
        let mut table = Numbers::new(3, 1);
        insert(&mut table, 1, 1, 10);
        insert(&mut table, 2, 0, 30);
        insert(&mut table, 3, 0, 20);
        let inserted = table.insert(4, 1, Stamp(40), 4);
        assert_eq!(inserted.evicted, [(3, 3)]);
        insert(&mut table, 5, 1, 50);
        assert_eq!(keys(&table), [1, 4, 5]);
        table.touch(1, 1, 1, Stamp(60));
        insert(&mut table, 6, 1, 60);
        assert_eq!(keys(&table), [1, 5, 6]);
    }

    #[test]
    fn a_new_record_never_displaces_one_of_a_higher_class() {
        let mut table = Numbers::new(2, 1);
        insert(&mut table, 1, 2, 10);
        insert(&mut table, 2, 1, 10);
        for key in 3..100 {
            assert_eq!(insert(&mut table, key, 0, 20), None);
        }
        assert_eq!(keys(&table), [1, 2]);
        assert!(insert(&mut table, 3, 1, 20).is_some());
        assert_eq!(keys(&table), [1, 3]);
    }

    #[test]
    fn a_key_that_is_full_evicts_a_record_of_its_own() {
        let mut table = Numbers::new(8, 2);
        insert(&mut table, 2, 0, 1);
        let first = insert(&mut table, 1, 1, 10);
        insert(&mut table, 1, 0, 20);
        insert(&mut table, 1, 0, 30);
        assert!(table.is_full(1));
        assert_eq!(table.len(), 3);
        let mut kept: Vec<_> = table.of(1).iter().map(|slot| slot.place().used.0).collect();
        kept.sort_unstable();
        assert_eq!(kept, [10, 30]);
        assert_eq!(
            table.longest_unused(1),
            Some((1, first.unwrap(), Stamp(10)))
        );
        assert_eq!(table.longest_unused(2), None);
    }

    proptest! {
        #[test]
        fn the_order_and_the_records_never_disagree(
            steps in proptest::collection::vec((0..8_u8, 0..20_u64, 0..3_u8, 0..50_u32), 0..300),
        ) {
            let mut table = Numbers::new(24, 3);
            for (step, key, class, used) in steps {
                let serial = table.of(key).first().map(Ranked::serial);
                match (step, serial) {
                    (0..4, _) | (_, None) => {
                        insert(&mut table, key, class, used);
                    }
                    (4..6, Some(serial)) => table.touch(key, serial, class, Stamp(used)),
                    (6, Some(serial)) => {
                        table.retain(key, |slot| slot.serial() != serial);
                    }
                    _ => {
                        table.retain(key, |_| false);
                    }
                }
                prop_assert!(table.len() <= 24);
                let mut places: Vec<_> = table.iter().map(|(key, slot)| (slot.place(), key)).collect();
                places.sort_unstable();
                let order: Vec<_> = table.order.iter().map(|(place, key)| (*place, *key)).collect();
                prop_assert_eq!(places, order);
                prop_assert!(table.slots.values().all(|slots| (1..=3).contains(&slots.len())));
            }
            // The pages contain every record once, in the order of serials.
            let (mut all, mut from) = (Vec::new(), Some(0));
            while let Some(at) = from {
                let (page, next) = table.page(at, 5, |_| true);
                prop_assert!(page.len() <= 5);
                all.extend(page.iter().map(|(_, slot)| slot.serial()));
                from = next;
            }
            prop_assert!(all.is_sorted());
            prop_assert_eq!(all.len(), table.len());
        }
    }
}
