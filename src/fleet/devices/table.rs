//! Where the records lie: in slabs, so that growing never copies them; found through the [`Index`]; in
//! two lists by when they were last seen, so that the one to go is known at once.

use std::hash::{BuildHasher, RandomState};

use super::index::Index;
use super::record::{NONE, Rank, Record};
use crate::firmware::audience::DeviceId;
use crate::fleet::clock::Stamp;

/// Records in a slab; 26 KiB.
const SLAB: usize = 256;

/// The records.
#[derive(Debug)]
pub struct Table {
    slabs: Vec<Box<[Record]>>,
    /// Slots that were ever used: those after them have never held a record.
    used: u32,
    /// The first free slot.
    free: u32,
    index: Index,
    /// By [`Rank`]: probation, established.
    lists: [List; 2],
    keys: RandomState,
}

/// A list through the records, the least recently seen first.
#[derive(Clone, Copy, Debug)]
struct List {
    oldest: u32,
    newest: u32,
    len: usize,
}

impl Default for Table {
    fn default() -> Table {
        let list = List {
            oldest: NONE,
            newest: NONE,
            len: 0,
        };
        Table {
            slabs: Vec::new(),
            used: 0,
            free: NONE,
            index: Index::default(),
            lists: [list; 2],
            keys: RandomState::new(),
        }
    }
}

impl Table {
    /// How many there are in a list.
    pub fn len(&self, rank: Rank) -> usize {
        self.list(rank).map_or(0, |list| list.len)
    }

    /// Slots below this one may hold a device.
    pub fn end(&self) -> u32 {
        self.used
    }

    /// The slot of a device.
    pub fn find(&self, device: DeviceId) -> Option<u32> {
        let hash = self.keys.hash_one(device);
        let is_it = |slot| {
            self.raw(slot)
                .is_some_and(|record| record.device() == device)
        };
        self.index.find(hash, is_it)
    }

    /// The device at a slot.
    pub fn get(&self, slot: u32) -> Option<&Record> {
        self.raw(slot).filter(|record| record.rank != Rank::Free)
    }

    /// The same, to be changed; not its id, rank or neighbours.
    pub fn get_mut(&mut self, slot: u32) -> Option<&mut Record> {
        let record = self.raw_mut(slot)?;
        (record.rank != Rank::Free).then_some(record)
    }

    /// All devices from a slot on, with their slots.
    pub fn from(&self, slot: u32) -> impl Iterator<Item = (u32, &Record)> {
        let slots = slot..self.used;
        slots.filter_map(|slot| Some((slot, self.get(slot)?)))
    }

    /// Adds a device that is not there yet, as the one that was seen last.
    pub fn insert(&mut self, record: Record, rank: Rank) -> Option<u32> {
        let slot = match self.free {
            NONE => self.fresh(record)?,
            slot => {
                self.free = self.raw(slot).map_or(NONE, |free| free.after);
                slot
            }
        };
        let device = record.device();
        if let Some(place) = self.raw_mut(slot) {
            *place = record;
        }
        self.link(slot, rank);
        let hash = self.keys.hash_one(device);
        let Table {
            index, slabs, keys, ..
        } = self;
        index.insert(hash, slot, |slot| hash_of(slabs, keys, slot));
        Some(slot)
    }

    /// A slot that was never used.
    fn fresh(&mut self, record: Record) -> Option<u32> {
        let slot = self.used;
        if slot == NONE {
            return None;
        }
        let (slab, _) = place(slot);
        if slab >= self.slabs.len() {
            let mut blank = record;
            blank.rank = Rank::Free;
            self.slabs.push(vec![blank; SLAB].into_boxed_slice());
        }
        self.used = slot.saturating_add(1);
        Some(slot)
    }

    /// Forgets a device.
    pub fn remove(&mut self, slot: u32) -> Option<Record> {
        let record = *self.get(slot)?;
        self.unlink(slot);
        let hash = self.keys.hash_one(record.device());
        let Table {
            index, slabs, keys, ..
        } = self;
        index.remove(hash, slot, |slot| hash_of(slabs, keys, slot));
        let free = self.free;
        if let Some(place) = self.raw_mut(slot) {
            place.rank = Rank::Free;
            place.after = free;
        }
        self.free = slot;
        Some(record)
    }

    /// It is now the one that was seen last, in this list.
    pub fn touch(&mut self, slot: u32, rank: Rank) {
        if self.get(slot).is_some() {
            self.unlink(slot);
            self.link(slot, rank);
        }
    }

    /// The one of a list that was not seen for longest.
    pub fn oldest(&self, rank: Rank) -> Option<u32> {
        let oldest = self.list(rank)?.oldest;
        (oldest != NONE).then_some(oldest)
    }

    /// The one that was seen next after it.
    pub fn next(&self, slot: u32) -> Option<u32> {
        let after = self.get(slot)?.after;
        (after != NONE).then_some(after)
    }

    /// Puts the established in order of when they were last seen, after they were loaded in any.
    pub fn sort(&mut self) {
        let mut order: Vec<(Stamp, u32)> = self
            .from(0)
            .filter(|(_, record)| record.rank == Rank::Established)
            .map(|(slot, record)| (record.last, slot))
            .collect();
        crate::order::sort(&mut order);
        for (_, slot) in order {
            self.touch(slot, Rank::Established);
        }
    }

    fn link(&mut self, slot: u32, rank: Rank) {
        let Some(list) = self.list_mut(rank) else {
            return;
        };
        let before = std::mem::replace(&mut list.newest, slot);
        if before == NONE {
            list.oldest = slot;
        }
        list.len = list.len.saturating_add(1);
        if let Some(neighbour) = self.raw_mut(before) {
            neighbour.after = slot;
        }
        if let Some(record) = self.raw_mut(slot) {
            record.rank = rank;
            record.before = before;
            record.after = NONE;
        }
    }

    fn unlink(&mut self, slot: u32) {
        let Some(&Record {
            before,
            after,
            rank,
            ..
        }) = self.raw(slot)
        else {
            return;
        };
        if let Some(neighbour) = self.raw_mut(before) {
            neighbour.after = after;
        }
        if let Some(neighbour) = self.raw_mut(after) {
            neighbour.before = before;
        }
        let Some(list) = self.list_mut(rank) else {
            return;
        };
        if before == NONE {
            list.oldest = after;
        }
        if after == NONE {
            list.newest = before;
        }
        list.len = list.len.saturating_sub(1);
    }

    fn list(&self, rank: Rank) -> Option<&List> {
        self.lists.get(usize::from(rank as u8))
    }

    fn list_mut(&mut self, rank: Rank) -> Option<&mut List> {
        self.lists.get_mut(usize::from(rank as u8))
    }

    fn raw(&self, slot: u32) -> Option<&Record> {
        raw(&self.slabs, slot)
    }

    fn raw_mut(&mut self, slot: u32) -> Option<&mut Record> {
        let (slab, at) = place(slot);
        self.slabs.get_mut(slab)?.get_mut(at)
    }
}

fn raw(slabs: &[Box<[Record]>], slot: u32) -> Option<&Record> {
    let (slab, at) = place(slot);
    slabs.get(slab)?.get(at)
}

fn hash_of(slabs: &[Box<[Record]>], keys: &RandomState, slot: u32) -> u64 {
    raw(slabs, slot).map_or(0, |record| keys.hash_one(record.device()))
}

/// The slab of a slot, and the place in it.
fn place(slot: u32) -> (usize, usize) {
    let slot = slot as usize;
    (slot / SLAB, slot % SLAB)
}

#[cfg(test)]
mod tests {
    use std::collections::VecDeque;

    use proptest::prelude::*;

    use super::super::record::Kind;
    use super::*;
    use crate::fleet::releases::ProjectId;

    fn in_order(table: &Table, rank: Rank) -> Vec<DeviceId> {
        let first = table.oldest(rank);
        std::iter::successors(first, |slot| table.next(*slot))
            .map(|slot| table.get(slot).unwrap().device())
            .collect()
    }

    proptest! {
        #[test]
        fn its_lists_are_in_the_order_of_touch(
            steps in proptest::collection::vec((0u64..40, 0u8..4), 0..600)
        ) {
            let mut table = Table::default();
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
                        let kind = Kind::of(device, "");
                        let record = Record::new(device, kind, ProjectId::default(), Stamp(0));
                        table.insert(record, Rank::Probation);
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
