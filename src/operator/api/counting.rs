//! Numbers that depend on the decision about each device of a project.

use std::cmp::Reverse;
use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use smol::Timer;

use crate::decision::{Check, Refusal, Verdict};
use crate::firmware::catalog::Catalog;
use crate::fleet::Fleet;
use crate::fleet::clock::unix_now;
use crate::fleet::view::Filter;
use crate::operator::context::OperatorContext;

/// Devices that are looked at between two looks at the clock.
const BATCH: usize = 8;

/// The time for which devices are looked at before other tasks run.
const SLICE: Duration = Duration::from_millis(1);

/// The pause after it, in which the reactor looks at all sockets.
const REST: Duration = Duration::from_micros(100);

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
    let filter = Filter {
        project: Some(project.to_owned()),
        ..Filter::default()
    };
    let mut after = None;
    loop {
        let began = Instant::now();
        while began.elapsed() < SLICE {
            let fleet = context.fleet.borrow();
            let page = fleet.page(&filter, after, BATCH, began, unix_now());
            for device in page.devices {
                let mut check = device.entry.check();
                check.complete(catalog);
                count(&fleet, &check);
            }
            after = page.next;
            if after.is_none() {
                return;
            }
        }
        Timer::after(REST).await;
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
