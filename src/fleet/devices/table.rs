//! The records of devices by slot, by id, and in eviction order.

use std::collections::BTreeMap;
use std::hash::{BuildHasher, RandomState};

use hashbrown::HashTable;

use super::record::{DeviceRecord, Rank};
use crate::firmware::audience::DeviceId;
use crate::fleet::clock::Stamp;

/// The records. A device keeps its slot until it is removed.
#[derive(Debug, Default)]
pub struct DeviceTable {
    records: Vec<Option<DeviceRecord>>,
    free: Vec<u32>,
    /// Slots by id. Only the records contain the ids.
    index: HashTable<u32>,
    keys: RandomState,
    /// Slots by the number of the last touch, for each [`Rank`]. The first slot is evicted first.
    order: [BTreeMap<u64, u32>; 2],
    touches: u64,
    /// Texts of the ids that are neither IMEIs nor MACs, by slot.
    texts: BTreeMap<u32, Box<str>>,
}

impl DeviceTable {
    /// Reserves capacity for this many devices, so that loading them moves none. Does nothing without enough memory.
    pub fn reserve(&mut self, devices: usize) {
        if self.records.try_reserve_exact(devices).is_err() {
            return;
        }
        let DeviceTable {
            records,
            index,
            keys,
            ..
        } = self;
        // If this fails, the index grows as it is filled.
        let _grows_later = index.try_reserve(devices, |slot| hash_of(records, keys, *slot));
    }

    /// Number of devices of a rank.
    pub fn len(&self, rank: Rank) -> usize {
        self.order(rank).len()
    }

    /// Upper bound of the slots (exclusive).
    pub fn end(&self) -> u32 {
        u32::try_from(self.records.len()).unwrap_or(u32::MAX)
    }

    /// The slot of a device.
    pub fn find(&self, device: DeviceId) -> Option<u32> {
        let hash = self.keys.hash_one(device);
        let is_device = |slot: &u32| {
            self.get(*slot)
                .is_some_and(|record| record.device == device)
        };
        self.index.find(hash, is_device).copied()
    }

    /// The record of a device.
    pub fn device(&self, device: DeviceId) -> Option<&DeviceRecord> {
        self.get(self.find(device)?)
    }

    /// The record at a slot.
    pub fn get(&self, slot: u32) -> Option<&DeviceRecord> {
        self.records.get(slot as usize)?.as_ref()
    }

    /// The record at a slot, for changes. The id and the place in the eviction order must not be changed.
    pub fn get_mut(&mut self, slot: u32) -> Option<&mut DeviceRecord> {
        self.records.get_mut(slot as usize)?.as_mut()
    }

    /// All records from a slot on, with their slots.
    pub fn from(&self, slot: u32) -> impl Iterator<Item = (u32, &DeviceRecord)> {
        let records = self.records.get(slot as usize..).unwrap_or_default();
        let slots = (slot..).zip(records);
        slots.filter_map(|(slot, record)| Some((slot, record.as_ref()?)))
    }

    /// The id of a device as the device writes it.
    pub fn text(&self, slot: u32, record: &DeviceRecord) -> Box<str> {
        match record.device {
            DeviceId::Imei(number) => {
                let digits = usize::from(record.digits);
                format!("{number:0digits$}").into()
            }
            DeviceId::Mac(number) => format!("{number:012X}").into(),
            DeviceId::Other(_) => self.texts.get(&slot).cloned().unwrap_or_default(),
        }
    }

    /// Adds a device that is not in the table, as the last in eviction order. `text` is its id as the device writes it.
    pub fn insert(&mut self, record: DeviceRecord, rank: Rank, text: &str) -> u32 {
        let slot = match self.free.pop() {
            Some(slot) => slot,
            None => {
                let length = self.records.len();
                if length == self.records.capacity() {
                    // Grow by an eighth: doubling would cost more than 200 bytes per device.
                    self.records.reserve_exact(length / 8 + 64);
                }
                self.records.push(None);
                length as u32
            }
        };
        let device = record.device;
        if let Some(place) = self.records.get_mut(slot as usize) {
            *place = Some(record);
        }
        if matches!(device, DeviceId::Other(_)) {
            self.texts.insert(slot, text.into());
        }
        let DeviceTable {
            records,
            index,
            keys,
            ..
        } = self;
        let hash = keys.hash_one(device);
        index.insert_unique(hash, slot, |slot| hash_of(records, keys, *slot));
        self.append(slot, rank);
        slot
    }

    /// Removes a device.
    pub fn remove(&mut self, slot: u32) -> Option<DeviceRecord> {
        let record = self.records.get_mut(slot as usize)?.take()?;
        let hash = self.keys.hash_one(record.device);
        if let Ok(found) = self.index.find_entry(hash, |other| *other == slot) {
            found.remove();
        }
        self.order_mut(record.rank).remove(&record.touched);
        self.texts.remove(&slot);
        self.free.push(slot);
        Some(record)
    }

    /// Makes a device the last in the eviction order of a rank.
    pub fn touch(&mut self, slot: u32, rank: Rank) {
        if let Some(&DeviceRecord {
            rank: before,
            touched,
            ..
        }) = self.get(slot)
        {
            self.order_mut(before).remove(&touched);
        }
        self.append(slot, rank);
    }

    fn append(&mut self, slot: u32, rank: Rank) {
        self.touches += 1;
        let touched = self.touches;
        if let Some(record) = self.get_mut(slot) {
            (record.rank, record.touched) = (rank, touched);
            self.order_mut(rank).insert(touched, slot);
        }
    }

    /// The devices of a rank, in eviction order.
    pub fn in_order(&self, rank: Rank) -> impl Iterator<Item = u32> {
        self.order(rank).values().copied()
    }

    /// Restores the eviction order of the established devices after they were loaded in any order.
    pub fn sort(&mut self) {
        let established = self.from(0).filter(|(_, record)| record.is_established());
        let mut order: Vec<(Stamp, u32)> = established
            .map(|(slot, record)| (record.last, slot))
            .collect();
        order.sort_unstable();
        let first = self.touches + 1;
        for (touched, (_, slot)) in (first..).zip(&order) {
            if let Some(record) = self.get_mut(*slot) {
                record.touched = touched;
            }
            self.touches = touched;
        }
        // Build the order at once: a million changes to the old one would take half a second.
        let slots = order.into_iter().map(|(_, slot)| slot);
        *self.order_mut(Rank::Established) = (first..).zip(slots).collect();
    }

    /// Number of stored texts of ids.
    #[cfg(test)]
    pub fn texts(&self) -> usize {
        self.texts.len()
    }

    fn order(&self, rank: Rank) -> &BTreeMap<u64, u32> {
        let [probation, established] = &self.order;
        match rank {
            Rank::Probation => probation,
            Rank::Established => established,
        }
    }

    fn order_mut(&mut self, rank: Rank) -> &mut BTreeMap<u64, u32> {
        let [probation, established] = &mut self.order;
        match rank {
            Rank::Probation => probation,
            Rank::Established => established,
        }
    }
}

/// The hash of the id at a slot.
fn hash_of(records: &[Option<DeviceRecord>], keys: &RandomState, slot: u32) -> u64 {
    let record = records.get(slot as usize).and_then(Option::as_ref);
    record.map_or(0, |record| keys.hash_one(record.device))
}

#[cfg(test)]
mod tests {
    use std::collections::VecDeque;

    use proptest::prelude::*;

    use super::*;
    use crate::fleet::releases::ProjectId;

    fn in_order(table: &DeviceTable, rank: Rank) -> Vec<DeviceId> {
        let slots = table.in_order(rank);
        slots.map(|slot| table.get(slot).unwrap().device).collect()
    }

    fn insert(table: &mut DeviceTable, device: DeviceId, text: &str) -> u32 {
        let record = DeviceRecord::new(device, text, ProjectId::default(), Stamp(0));
        table.insert(record, Rank::Probation, text)
    }

    #[test]
    fn an_id_is_shown_as_it_was_written() {
        let mut table = DeviceTable::default();
        for text in [
            "86299144375338",
            "862991443753386",
            "012991443753386",
            "8629914437533861",
            "86299144375338612",
            "A1B2C3D4E5F6",
            "00B2C3D4E5F6",
            "pump-700",
        ] {
            let device = DeviceId::parse(text).unwrap();
            let slot = insert(&mut table, device, text);
            let record = table.get(slot).unwrap();
            assert_eq!(&*table.text(slot, record), text);
        }
        assert_eq!(table.texts.len(), 1);
        table.remove(table.find(DeviceId::parse("pump-700").unwrap()).unwrap());
        assert_eq!(table.texts.len(), 0);
    }

    proptest! {
        #[test]
        fn devices_are_listed_in_the_order_of_their_last_touch(
            steps in proptest::collection::vec((0u64..40, 0u8..4), 0..600)
        ) {
            let mut table = DeviceTable::default();
            let mut lists = [VecDeque::new(), VecDeque::new()];
            for (id, what) in steps {
                let device = DeviceId::Mac(id);
                let found = table.find(device);
                prop_assert_eq!(found.is_some(), lists.iter().flatten().any(|d| *d == device));
                let was = lists.iter().position(|list| list.contains(&device));
                for list in &mut lists {
                    list.retain(|other| *other != device);
                }
                let rank = if what == 1 { Rank::Established } else { Rank::Probation };
                match (what, found) {
                    (0, None) => {
                        let slot = insert(&mut table, device, "");
                        prop_assert_eq!(table.get(slot).unwrap().device, device);
                        lists[0].push_back(device);
                    }
                    (0 | 1, Some(slot)) => {
                        table.touch(slot, rank);
                        lists[rank as usize].push_back(device);
                    }
                    (_, Some(slot)) => {
                        let gone = table.remove(slot).unwrap();
                        prop_assert_eq!(gone.rank as usize, was.unwrap());
                    }
                    (_, None) => {}
                }
                prop_assert_eq!(in_order(&table, Rank::Probation), Vec::from(lists[0].clone()));
                prop_assert_eq!(in_order(&table, Rank::Established), Vec::from(lists[1].clone()));
                prop_assert_eq!(table.len(Rank::Probation), lists[0].len());
                prop_assert_eq!(table.from(0).count(), lists[0].len() + lists[1].len());
            }
        }
    }
}
