//! Number of connections or downloads of each network, and the network with the most of them. Performs no I/O.

use std::collections::{BTreeSet, HashMap};

use crate::fleet::network::Network;

/// Networks with a count of at least one, also in the order of their counts.
#[derive(Debug, Default)]
pub(super) struct NetworkCounts {
    counts: HashMap<Network, usize>,
    order: BTreeSet<(usize, Network)>,
}

impl NetworkCounts {
    /// Count of a network.
    pub fn count(&self, network: Network) -> usize {
        self.counts.get(&network).copied().unwrap_or(0)
    }

    /// The highest count, and a network that has it.
    pub fn most(&self) -> Option<(usize, Network)> {
        self.order.last().copied()
    }

    /// Increments the count of a network.
    pub fn add(&mut self, network: Network) {
        let count = self.counts.entry(network).or_default();
        self.order.remove(&(*count, network));
        *count += 1;
        self.order.insert((*count, network));
    }

    /// Decrements the count of a network, which must be at least one.
    pub fn remove(&mut self, network: Network) {
        let before = self.count(network);
        debug_assert!(before > 0);
        self.order.remove(&(before, network));
        if before > 1 {
            self.counts.insert(network, before - 1);
            self.order.insert((before - 1, network));
        } else {
            self.counts.remove(&network);
        }
    }

    /// Sum of the counts of all networks.
    #[cfg(test)]
    pub fn sum(&self) -> usize {
        assert_eq!(self.counts.len(), self.order.len());
        self.counts.values().sum()
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn counts_match_a_simple_model(steps in proptest::collection::vec((0..6_u8, 0..9_u8), 0..400)) {
            let mut networks = NetworkCounts::default();
            let mut counts = BTreeMap::new();
            for (step, number) in steps {
                let network = Network::V4([192, 0, number]);
                let count = counts.entry(network).or_insert(0_usize);
                if step < 4 {
                    networks.add(network);
                    *count += 1;
                } else if *count > 0 {
                    networks.remove(network);
                    *count -= 1;
                }
                for (network, count) in &counts {
                    prop_assert_eq!(networks.count(*network), *count);
                }
                let most = counts.values().copied().max().filter(|most| *most > 0);
                prop_assert_eq!(networks.most().map(|(count, _)| count), most);
                if let Some((count, network)) = networks.most() {
                    prop_assert_eq!(counts[&network], count);
                }
                prop_assert_eq!(networks.sum(), counts.values().sum::<usize>());
            }
        }
    }
}
