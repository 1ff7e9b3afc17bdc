//! Facts about the device alone that a decision depends on. Everything other than these facts (the catalogue, the time,
//! the stages and the fuse) is the same for devices whose checks differ only in the id.

use std::cell::RefCell;

use super::question::Known;
use crate::firmware::ContentId;
use crate::firmware::audience::{DeviceId, DeviceSet, cohort};
use crate::firmware::version::Version;

/// A list of devices. Two lists are equal if they share their entries, so a comparison takes constant time.
#[derive(Clone, Copy, Debug)]
pub struct SharedList<'c>(pub &'c DeviceSet);

impl PartialEq for SharedList<'_> {
    fn eq(&self, other: &Self) -> bool {
        self.0.shares_all(other.0)
    }
}

/// A fact about a device, which is true or false.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum DeviceFact<'c> {
    /// The device is in a list.
    Listed(SharedList<'c>),
    /// A list names the device individually.
    Named(SharedList<'c>),
    /// The device is in the cohort: among the percent of the devices that may have a release.
    Cohort {
        /// The project.
        project: &'c str,
        /// The version of the release.
        version: Version,
        /// The share.
        percent: f64,
    },
    /// The loop guard holds a content back from the device.
    Held {
        /// The content.
        content: ContentId,
        /// Whether `allow` names the device individually.
        named: bool,
    },
    /// The device received a content within a time before the check.
    Fetched {
        /// The content.
        content: ContentId,
        /// The time, in seconds.
        within: u32,
    },
    /// The device may try releases that the fuse has paused.
    MayTryFused,
}

impl DeviceFact<'_> {
    /// Whether the fact is true of a device with this id; `None` if that does not follow from the id.
    pub fn of_id(&self, device: Option<DeviceId>) -> Option<bool> {
        match *self {
            DeviceFact::Listed(SharedList(list)) => {
                Some(device.is_some_and(|device| list.contains(device)))
            }
            DeviceFact::Named(SharedList(list)) => {
                Some(device.is_some_and(|device| list.lists_singly(device)))
            }
            DeviceFact::Cohort {
                project,
                version,
                percent,
            } => Some(match device {
                Some(device) => f64::from(cohort(project, version, device)) < percent * 100.0,
                None => percent >= 100.0,
            }),
            _ => None,
        }
    }

    /// Whether the fact is true of a device with this recorded state; `false` for a fact that follows from the id.
    pub fn of_known(&self, known: &Known<'_>) -> bool {
        match *self {
            DeviceFact::Held { content, named } => known.held.contains(content, named),
            DeviceFact::Fetched { content, within } => known
                .fetched
                .is_some_and(|fetched| fetched.content == content && fetched.seconds < within),
            DeviceFact::MayTryFused => known.may_try_fused,
            _ => false,
        }
    }
}

/// The facts that a decision asked for, in order, and whether each is true.
#[derive(Debug, Default)]
pub struct FactLog<'c>(RefCell<Vec<(DeviceFact<'c>, bool)>>);

impl<'c> FactLog<'c> {
    /// Adds a fact.
    pub(super) fn add(&self, fact: DeviceFact<'c>, is_true: bool) {
        self.0.borrow_mut().push((fact, is_true));
    }
}

#[cfg(feature = "operator")]
pub use tree::FactTree;

#[cfg(feature = "operator")]
mod tree {
    use super::{DeviceFact, FactLog};

    /// Number of facts at the start of a log that are searched for a repeated fact.
    const COMPARED: usize = 32;

    /// A binary decision tree with the results of decisions that differ only in facts about the device. It grows with
    /// each decision that asks for facts which no decision asked for before.
    ///
    /// A decision is a pure function, so the first fact that it asks for is always the same, and each next fact depends
    /// only on the facts before. A device for which all facts on a path have the values of the path gets the result at
    /// its last node.
    #[derive(Debug)]
    pub struct FactTree<'c>(Vec<Node<'c>>);

    #[derive(Debug)]
    enum Node<'c> {
        /// No decision has reached this node.
        Unknown,
        /// The next fact, and the nodes that follow if it is false and if it is true.
        Fact(DeviceFact<'c>, [u32; 2]),
        /// The number of the result.
        Result(u32),
    }

    impl Default for FactTree<'_> {
        fn default() -> Self {
            FactTree(vec![Node::Unknown])
        }
    }

    impl<'c> FactTree<'c> {
        /// Number of nodes.
        #[allow(clippy::len_without_is_empty)] // It is never empty.
        pub fn len(&self) -> usize {
            self.0.len()
        }

        /// Returns the number of the result for a device; `None` if no decision with the same facts was added.
        /// `is_true`: whether a fact is true of the device.
        pub fn find(&self, mut is_true: impl FnMut(&DeviceFact<'c>) -> bool) -> Option<u32> {
            let mut at = 0;
            loop {
                match self.0.get(at as usize)? {
                    Node::Unknown => return None,
                    Node::Result(number) => return Some(*number),
                    Node::Fact(fact, [no, yes]) => at = if is_true(fact) { *yes } else { *no },
                }
            }
        }

        /// Adds the result of a decision that asked for these facts.
        pub fn add(&mut self, log: FactLog<'c>, number: u32) {
            let log = log.0.into_inner();
            let mut at = 0;
            for (place, (fact, is_true)) in log.iter().enumerate() {
                let mut before = log.iter().take(place.min(COMPARED));
                if before.any(|(other, _)| other == fact) {
                    continue;
                }
                let end = u32::try_from(self.0.len()).unwrap_or(u32::MAX);
                let Some(node) = self.0.get_mut(at as usize) else {
                    return;
                };
                if let Node::Unknown = node {
                    *node = Node::Fact(*fact, [end, end.saturating_add(1)]);
                    self.0.extend([Node::Unknown, Node::Unknown]);
                }
                match self.0.get(at as usize) {
                    Some(Node::Fact(_, [no, yes])) => at = if *is_true { *yes } else { *no },
                    _ => return,
                }
            }
            if let Some(node @ Node::Unknown) = self.0.get_mut(at as usize) {
                *node = Node::Result(number);
            }
        }
    }
}
