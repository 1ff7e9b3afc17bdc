//! From an id to its slot: a table of slot numbers alone, four bytes each. The ids stand in the records,
//! so a look-up asks them; std's map would hold them a second time.
//!
//! Open addressing, linear probing; a removal moves what follows back, so there are no gravestones. The
//! hashes come from outside and must be keyed: ids are chosen by whoever sends them.

/// Slots by hash.
#[derive(Debug, Default)]
pub struct Index {
    /// A slot plus one, or 0: nothing. A power of two of them, or none.
    places: Vec<u32>,
    len: usize,
}

/// Places at first.
const FIRST: usize = 64;

impl Index {
    /// The slot for which `is_it` says yes, among those of this hash.
    pub fn find(&self, hash: u64, is_it: impl Fn(u32) -> bool) -> Option<u32> {
        let mut place = self.home(hash)?;
        // One round at most; there is always an empty place.
        for _ in 0..self.places.len() {
            let slot = self.at(place)?;
            if is_it(slot) {
                return Some(slot);
            }
            place = self.after(place);
        }
        None
    }

    /// Adds a slot that is not in it. `hash_of` gives the hash of any that is.
    pub fn insert(&mut self, hash: u64, slot: u32, hash_of: impl Fn(u32) -> u64) {
        // Three quarters full at most.
        if self.len.saturating_mul(4) >= self.places.len().saturating_mul(3) {
            let more = self.places.len().saturating_mul(2).max(FIRST);
            let before = std::mem::replace(&mut self.places, vec![0; more]);
            for old in before.into_iter().filter_map(|kept| kept.checked_sub(1)) {
                self.put(hash_of(old), old);
            }
        }
        self.put(hash, slot);
        self.len = self.len.saturating_add(1);
    }

    /// Takes a slot out.
    pub fn remove(&mut self, hash: u64, slot: u32, hash_of: impl Fn(u32) -> u64) {
        let Some(mut gap) = self.home(hash) else {
            return;
        };
        loop {
            match self.at(gap) {
                Some(found) if found == slot => break,
                Some(_) => gap = self.after(gap),
                None => return,
            }
        }
        self.set(gap, 0);
        self.len = self.len.saturating_sub(1);
        let mut place = self.after(gap);
        while let Some(next) = self.at(place) {
            let home = self.home(hash_of(next)).unwrap_or_default();
            // It may move into the gap if that is not before its home.
            if self.steps(home, place) >= self.steps(gap, place) {
                self.set(gap, next.saturating_add(1));
                self.set(place, 0);
                gap = place;
            }
            place = self.after(place);
        }
    }

    fn put(&mut self, hash: u64, slot: u32) {
        let Some(mut place) = self.home(hash) else {
            return;
        };
        while self.at(place).is_some() {
            place = self.after(place);
        }
        self.set(place, slot.saturating_add(1));
    }

    fn mask(&self) -> usize {
        self.places.len().wrapping_sub(1)
    }

    fn home(&self, hash: u64) -> Option<usize> {
        let is_empty = self.places.is_empty();
        // The low 32 bits are enough for as many slots as there can be.
        (!is_empty).then_some(hash as u32 as usize & self.mask())
    }

    fn after(&self, place: usize) -> usize {
        place.wrapping_add(1) & self.mask()
    }

    /// How far it is from one place on to another.
    fn steps(&self, from: usize, to: usize) -> usize {
        to.wrapping_sub(from) & self.mask()
    }

    fn at(&self, place: usize) -> Option<u32> {
        self.places.get(place)?.checked_sub(1)
    }

    fn set(&mut self, place: usize, kept: u32) {
        if let Some(at) = self.places.get_mut(place) {
            *at = kept;
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use proptest::prelude::*;

    use super::*;

    proptest! {
        // Few hashes, so that they run into each other.
        #[test]
        fn it_holds_what_was_put_in_and_not_taken_out(
            steps in proptest::collection::vec((0u32..300, any::<bool>()), 0..2000)
        ) {
            let hash_of = |slot: u32| u64::from(slot).wrapping_mul(0x9e37) >> 3 & 0xff;
            let (mut index, mut model) = (Index::default(), HashSet::new());
            for (slot, put) in steps {
                if put && model.insert(slot) {
                    index.insert(hash_of(slot), slot, hash_of);
                } else if !put {
                    model.remove(&slot);
                    index.remove(hash_of(slot), slot, hash_of);
                }
            }
            prop_assert_eq!(index.len, model.len());
            for slot in 0..300 {
                let found = index.find(hash_of(slot), |other| other == slot);
                prop_assert_eq!(found.is_some(), model.contains(&slot), "{}", slot);
            }
        }
    }
}
