//! Numbers that depend on the decision about each device of a project.

use std::cmp::Reverse;
use std::collections::BTreeMap;

use serde_json::{Value, json};

use crate::decision::{Check, Refusal, Verdict};
use crate::firmware::catalog::Catalog;
use crate::fleet::Fleet;
use crate::operator::context::OperatorContext;
use crate::operator::slice::Slice;

/// Slots of devices that are looked at between two looks at the clock.
const BATCH: u32 = 16;

/// Reasons that are told apart.
const REASONS: usize = 20;

/// Calls `count` with the check of each remembered device of a project. Other tasks run in between, so that no check
/// of a module waits for it.
pub(super) async fn each_device(
    context: &OperatorContext,
    catalog: &Catalog,
    project: &str,
    mut count: impl FnMut(&Fleet, &Check<'_>),
) {
    let mut slice = Slice::begin();
    let mut next = Some(0);
    while let Some(from) = next {
        {
            let fleet = context.fleet.borrow();
            next = fleet.checks(project, from, BATCH, |mut check| {
                check.complete(catalog);
                count(&fleet, &check);
            });
        }
        slice.pause_if_over().await;
    }
}

/// Devices that are not offered something, by the reason.
#[derive(Default)]
pub(super) struct Reasons(BTreeMap<String, Refused>);

/// The devices that are not offered something for one reason.
#[derive(Default)]
pub(super) struct Refused {
    pub devices: usize,
    /// No rule of a person excludes the devices: that may be a mistake.
    pub is_doubtful: bool,
}

impl Reasons {
    /// Counts a device that gets this verdict instead.
    pub fn add(&mut self, verdict: &Verdict<'_>) {
        let (reason, is_doubtful) = match verdict {
            Verdict::Offer(offer) => (format!("{} is offered", offer.release.version_text), false),
            Verdict::Refuse(refused) => {
                let is_doubtful = matches!(
                    refused.refusal,
                    Refusal::NothingNewer | Refusal::NoPackage | Refusal::VersionUnreadable
                );
                (refused.rule.to_owned(), is_doubtful)
            }
        };
        let is_counted = self.0.len() < REASONS || self.0.contains_key(&reason);
        let refused = match is_counted {
            true => self.0.entry(reason),
            false => self.0.entry("other reasons".to_owned()),
        };
        let refused = refused.or_default();
        refused.devices += 1;
        refused.is_doubtful |= is_doubtful;
    }

    /// The reasons, that of most devices first.
    pub fn by_devices(&self) -> Vec<(&String, &Refused)> {
        let mut reasons: Vec<_> = self.0.iter().collect();
        reasons.sort_by_key(|(_, refused)| Reverse(refused.devices));
        reasons
    }

    /// The same for the API.
    pub fn shown(&self) -> Value {
        let reasons = self.by_devices().into_iter();
        reasons
            .map(|(reason, refused)| json!({"reason": reason, "devices": refused.devices}))
            .collect()
    }
}
