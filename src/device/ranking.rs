//! Which network has the most of something: connections, or unfinished heads. Pure.
//!
//! Counts change by one at a time, so a network only ever moves to the list next to its own: whatever many strangers
//! do, a change costs the same.

use crate::fleet::network::Network;
use crate::hash::Table;

/// Lists that nobody needs are kept, so many: counts go up and down.
const SPARE: usize = 64;

/// Networks by how many they have.
#[derive(Debug, Default)]
pub struct Ranking {
    standings: Table<Network, Standing>,
    /// Those that have one, those that have two, and so on.
    levels: Vec<Vec<Network>>,
    /// The most that one has: as many of the lists are in use.
    most: usize,
}

#[derive(Clone, Copy, Debug)]
struct Standing {
    /// At least one.
    count: usize,
    /// Where it is in its list.
    place: usize,
}

impl Ranking {
    /// How many it has.
    pub fn count(&self, network: Network) -> usize {
        self.standings.get(&network).map_or(0, |one| one.count)
    }

    /// The most that one has, and one that has as many.
    pub fn heaviest(&self) -> Option<(usize, Network)> {
        let top = self.levels.get(self.most.checked_sub(1)?)?;
        Some((self.most, *top.last()?))
    }

    /// It has one more.
    pub fn add(&mut self, network: Network) {
        let before = self.count(network);
        self.leave(network);
        self.enter(network, before.saturating_add(1));
        self.most = self.most.max(before.saturating_add(1));
    }

    /// It has one less.
    pub fn take(&mut self, network: Network) {
        let before = self.count(network);
        self.leave(network);
        match before.saturating_sub(1) {
            0 => _ = self.standings.remove(&network),
            left => self.enter(network, left),
        }
        let top = self.levels.get(self.most.saturating_sub(1));
        if top.is_some_and(Vec::is_empty) {
            // It was the only one there, and is in the list below now.
            self.most = self.most.saturating_sub(1);
        }
        let needed = self.most.saturating_mul(2).saturating_add(SPARE);
        self.levels.truncate(needed);
    }

    /// Puts it at the end of a list.
    fn enter(&mut self, network: Network, count: usize) {
        if self.levels.len() < count {
            self.levels.resize_with(count, Vec::new);
        }
        let Some(level) = self.levels.get_mut(count.saturating_sub(1)) else {
            return;
        };
        let place = level.len();
        level.push(network);
        self.standings.insert(network, Standing { count, place });
    }

    /// Takes it out of its list; the last one there gets its place.
    fn leave(&mut self, network: Network) {
        let Some(&Standing { count, place }) = self.standings.get(&network) else {
            return;
        };
        let Some(level) = self.levels.get_mut(count.saturating_sub(1)) else {
            return;
        };
        if place < level.len() {
            level.swap_remove(place);
        }
        let moved = level.get(place).copied();
        if let Some(moved) = moved.and_then(|moved| self.standings.get_mut(&moved)) {
            moved.place = place;
        }
    }
}

#[cfg(test)]
impl Ranking {
    /// Of all networks together.
    pub fn sum(&self) -> usize {
        self.standings.values().map(|one| one.count).sum()
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn it_counts_as_one_counts_by_hand(steps in proptest::collection::vec((0..6_u8, 0..9_u8), 0..400)) {
            let mut ranking = Ranking::default();
            let mut counts = BTreeMap::new();
            for (step, number) in steps {
                let network = Network::V4([192, 0, number]);
                let count = counts.entry(network).or_insert(0_usize);
                // More come than go, so that lists of many levels arise.
                if step < 4 {
                    ranking.add(network);
                    *count += 1;
                } else {
                    ranking.take(network);
                    *count = count.saturating_sub(1);
                }
                for (network, count) in &counts {
                    prop_assert_eq!(ranking.count(*network), *count);
                }
                let most = counts.values().copied().max().filter(|most| *most > 0);
                prop_assert_eq!(ranking.heaviest().map(|(count, _)| count), most);
                if let Some((count, network)) = ranking.heaviest() {
                    prop_assert_eq!(counts[&network], count);
                }
                prop_assert_eq!(ranking.sum(), counts.values().sum::<usize>());
                let listed: usize = ranking.levels.iter().map(Vec::len).sum();
                prop_assert_eq!(listed, ranking.standings.len());
            }
        }
    }

    #[test]
    fn a_flood_that_is_over_leaves_no_lists() {
        let mut ranking = Ranking::default();
        let network = Network::V4([192, 0, 2]);
        for _ in 0..10_000 {
            ranking.add(network);
        }
        assert_eq!(ranking.heaviest(), Some((10_000, network)));
        for _ in 0..10_000 {
            ranking.take(network);
        }
        assert_eq!(ranking.heaviest(), None);
        assert!(ranking.levels.len() <= SPARE && ranking.standings.is_empty());
    }
}
