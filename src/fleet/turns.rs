//! Whose turn it is to make room: records by their turns, for [`super::pins`] and [`super::guard`]. Strangers fill
//! these, and each download changes them, so one long sorted list would be too slow.
//!
//! A sorted list that is cut into blocks: to insert or to remove moves a part of one block. Blocks that became
//! small are put together, so that nobody can make us hold many with little in them. There are no types to choose:
//! the standard library's ordered map is compiled anew for each, and so would this be.

use super::clock::Stamp;

/// A block has fewer entries than this; 3 KiB.
const MOST: usize = 128;

/// Neighbours that have no more than so many between them become one.
const FEW: usize = MOST / 4 * 3;

/// A record's place in the order.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Turn {
    /// What goes first, whenever it was used.
    pub class: u8,
    /// Of one class, those of the earliest moment go first.
    pub used: Stamp,
    /// Of one moment, the lowest. No two records have the same.
    pub number: u64,
}

/// Whose a record is: a kind of id, and the id.
pub type Whose = (u8, u64);

/// All of them, in order.
#[derive(Debug, Default)]
pub struct Turns {
    /// None of them is empty.
    blocks: Vec<Vec<Entry>>,
    len: usize,
}

/// A turn and whose it is, without a gap between them.
#[derive(Clone, Copy, Debug)]
struct Entry {
    class: u8,
    kind: u8,
    used: Stamp,
    number: u64,
    id: u64,
}

impl Entry {
    fn turn(&self) -> Turn {
        Turn {
            class: self.class,
            used: self.used,
            number: self.number,
        }
    }
}

impl Turns {
    /// How many there are.
    pub fn len(&self) -> usize {
        self.len
    }

    /// None at all.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// The first, at this turn or after it.
    #[cfg(test)]
    pub fn from(&self, turn: Turn) -> Option<(Turn, Whose)> {
        let (at, place) = self.place(turn);
        // If that is behind its block, it is behind all.
        let entry = self.blocks.get(at)?.get(place)?;
        Some((entry.turn(), (entry.kind, entry.id)))
    }

    /// The first of all.
    pub fn first(&self) -> Option<(Turn, Whose)> {
        let entry = self.blocks.first()?.first()?;
        Some((entry.turn(), (entry.kind, entry.id)))
    }

    /// One more; its turn is nobody else's.
    pub fn insert(&mut self, turn: Turn, whose: Whose) {
        let entry = Entry {
            class: turn.class,
            kind: whose.0,
            used: turn.used,
            number: turn.number,
            id: whose.1,
        };
        let (at, place) = self.place(turn);
        if self.blocks.is_empty() {
            self.blocks.push(Vec::new());
        }
        let Some(block) = self.blocks.get_mut(at) else {
            return;
        };
        block.insert(place, entry);
        self.len = self.len.saturating_add(1);
        if block.len() >= MOST {
            // What comes in order leaves full blocks behind; anything else cuts one in two.
            let is_last = place.saturating_add(1) == MOST;
            let rest = block.split_off(if is_last { place } else { MOST / 2 });
            self.blocks.insert(at.saturating_add(1), rest);
        }
    }

    /// A record has another turn now.
    pub fn change(&mut self, before: Turn, after: Turn, whose: Whose) {
        self.remove(before);
        self.insert(after, whose);
    }

    /// Takes one out, if it is there.
    pub fn remove(&mut self, turn: Turn) {
        let (at, place) = self.place(turn);
        let Some(block) = self.blocks.get_mut(at) else {
            return;
        };
        if block.get(place).is_none_or(|entry| entry.turn() != turn) {
            return;
        }
        block.remove(place);
        self.len = self.len.saturating_sub(1);
        if block.is_empty() {
            self.blocks.remove(at);
            return;
        }
        for at in [at, at.saturating_sub(1)] {
            self.join(at);
        }
    }

    /// Puts a block and the next together, if there is little in both.
    fn join(&mut self, at: usize) {
        let next = at.saturating_add(1);
        if let Some([block, after]) = self.blocks.get_mut(at..=next)
            && block.len().saturating_add(after.len()) <= FEW
        {
            block.append(after);
            self.blocks.remove(next);
        }
    }

    /// Where a turn is, or would be: the block, and the place in it. It is behind the end of a block only if it is
    /// behind all others.
    fn place(&self, turn: Turn) -> (usize, usize) {
        let is_before = |entry: &Entry| entry.turn() < turn;
        let before = self
            .blocks
            .partition_point(|block| block.last().is_some_and(is_before));
        let at = before.min(self.blocks.len().saturating_sub(1));
        let block = self.blocks.get(at);
        let place = block.map_or(0, |block| block.partition_point(is_before));
        (at, place)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::prelude::*;

    use super::*;

    fn turn(class: u8, used: u32, number: u64) -> Turn {
        let used = Stamp(used);
        Turn {
            class,
            used,
            number,
        }
    }

    impl Turns {
        /// The blocks hold what is said of them.
        fn check(&self) {
            assert!(self.blocks.iter().all(|block| !block.is_empty()));
            assert!(self.blocks.iter().all(|block| block.len() < MOST));
            let all: usize = self.blocks.iter().map(Vec::len).sum();
            assert_eq!(all, self.len());
            // A block that is cut in two may have a small one before it.
            let pairs = self.blocks.windows(2);
            assert!(
                pairs
                    .map(|two| two[0].len() + two[1].len())
                    .all(|few| few > MOST / 2)
            );
        }
    }

    proptest! {
        #[test]
        fn it_does_what_the_standard_map_does(
            steps in proptest::collection::vec((0..16_u8, 0..4_u8, 0..3_u32, any::<u64>()), 0..3000),
            growing in 0..12_u8,
        ) {
            let mut ours = Turns::default();
            let mut theirs = BTreeMap::new();
            let mut number = 0;
            for (step, class, used, random) in steps {
                let some = turn(class, used, random % (number + 1));
                // Whatever is at that place or behind it, if there is anything.
                let there = theirs.range(some..).next().map(|(turn, whose)| (*turn, *whose));
                prop_assert_eq!(ours.from(some), there);
                let first = theirs.first_key_value().map(|(turn, whose)| (*turn, *whose));
                prop_assert_eq!(ours.first(), first);
                if step < growing {
                    // Some come in order, others anywhere.
                    number += 1;
                    let new = match step % 2 {
                        0 => turn(4, 0, number),
                        _ => turn(class, used, number),
                    };
                    ours.insert(new, (class, random));
                    theirs.insert(new, (class, random));
                } else {
                    // The first is the one that goes most often.
                    let gone = match step % 4 {
                        0 => some,
                        1 | 2 => there.map_or(some, |(turn, _)| turn),
                        _ => first.map_or(some, |(turn, _)| turn),
                    };
                    ours.remove(gone);
                    theirs.remove(&gone);
                }
                prop_assert_eq!((ours.len(), ours.is_empty()), (theirs.len(), theirs.is_empty()));
                ours.check();
            }
            // All of it, from either end.
            while let Some((last, _)) = theirs.pop_last() {
                prop_assert!(ours.from(last).is_some_and(|(turn, _)| turn == last));
                ours.remove(last);
                ours.check();
                if let Some((first, whose)) = theirs.pop_first() {
                    prop_assert_eq!(ours.first(), Some((first, whose)));
                    ours.remove(first);
                    ours.check();
                }
            }
            prop_assert!(ours.is_empty());
        }
    }

    #[test]
    fn nobody_makes_it_hold_many_blocks_with_little_in_them() {
        let mut turns = Turns::default();
        for number in 0..200_000 {
            turns.insert(turn(0, 0, number), (0, number));
            if number % 127 != 0 {
                turns.remove(turn(0, 0, number));
            }
        }
        turns.check();
        let room: usize = turns.blocks.iter().map(Vec::capacity).sum();
        assert!(room < 3 * turns.len(), "{room} for {}", turns.len());
    }

    #[test]
    fn what_comes_in_order_fills_its_blocks() {
        let mut turns = Turns::default();
        for number in 0..65_536 {
            turns.insert(turn(0, 0, number), (0, number));
        }
        let room: usize = turns.blocks.iter().map(Vec::capacity).sum();
        assert!(room < 66_300, "{room}");
    }
}
