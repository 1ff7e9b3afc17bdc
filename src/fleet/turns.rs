//! Whose turn it is to make room: records by their turns, for [`super::pins`] and [`super::guard`]. Strangers fill
//! these, and each download changes them, so one long sorted list would be too slow.
//!
//! A sorted list that is cut into blocks: to insert or to remove moves a part of one block. Blocks that became
//! small are put together, so that nobody can make us hold many with little in them. There are no types to choose:
//! the standard library's ordered map is compiled anew for each, and so would this be.

use super::clock::Stamp;

/// Entries of one block at most; 3 KiB.
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
        let (mut at, mut place) = self.place(turn);
        if self
            .blocks
            .get(at)
            .is_none_or(|block| block.len() >= MOST)
        {
            // What comes in order fills whole blocks; anything else cuts one in two.
            let half = if place == MOST { MOST } else { MOST / 2 };
            let rest = self.blocks.get_mut(at).map(|block| block.split_off(half));
            let next = at.saturating_add(1).min(self.blocks.len());
            self.blocks.insert(next, rest.unwrap_or_default());
            if place > half || place == MOST {
                (at, place) = (next, place.saturating_sub(half));
            }
        }
        if let Some(block) = self.blocks.get_mut(at) {
            block.insert(place.min(block.len()), entry);
            self.len = self.len.saturating_add(1);
        }
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
        self.join(at);
        self.join(at.wrapping_sub(1));
    }

    /// Puts a block and the next together, if they are small.
    fn join(&mut self, at: usize) {
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
