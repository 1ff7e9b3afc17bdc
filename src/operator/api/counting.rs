//! Counts of devices that depend on the decision about each device of a project.

use std::cmp::Reverse;
use std::collections::{BTreeMap, HashMap};
use std::time::Instant;

use serde_json::{Value, json};

use crate::decision::{
    Check, FactLog, FactTree, Fused, Known, Question, Reached, Refusal, Verdict, decide_with_facts,
};
use crate::firmware::catalog::Catalog;
use crate::fleet::Fleet;
use crate::fleet::devices::{CheckWithoutId, ProjectDevice};
use crate::operator::context::OperatorContext;
use crate::operator::slice::Slice;

/// Number of device slots that are visited between two reads of the clock.
const BATCH: u32 = 128;

/// Number of devices that are decided about between two reads of the clock.
const DECISIONS: usize = 16;

/// Maximum number of nodes of all trees, of about 200 bytes each with their results. At the maximum, each further
/// device is decided about individually.
const NODES: usize = 65_536;

/// Maximum number of reasons that are counted separately.
const REASONS: usize = 20;

/// Decides about each recorded device of a project, and calls `count` with each result and the number of devices that
/// have it, perhaps several times with the same result. Other tasks run in between, so that no check of a module waits.
///
/// `decide` decides on the check of a device with this record, and logs the facts that it uses. It must be pure: its
/// result may depend only on the check without the id and on the logged facts. Devices whose checks differ only in the
/// id, and for which the same facts are true, then get the same result, and `decide` is called only for the first of
/// them.
pub(super) async fn each_result<'c, T>(
    context: &OperatorContext,
    catalog: &Catalog,
    project: &str,
    decide: impl FnMut(&Check<'_>, Known<'_>, &FactLog<'c>) -> T,
    count: impl FnMut(&T, usize),
) {
    let known = KnownResults::new(NODES);
    each_result_in(known, context, (catalog, project), decide, count).await;
}

/// The input of a decision besides the check and the record of the device. A copy, so that it is the same for all
/// devices of a walk.
#[derive(Clone)]
pub(super) struct DecisionInput<'c> {
    /// The catalogue.
    pub catalog: &'c Catalog,
    /// The releases that the fuse has paused.
    pub fused: Vec<Fused>,
    /// The stages that contents have reached.
    pub reached: Vec<Reached>,
    /// The time, in Unix seconds.
    pub unix: i64,
}

impl<'c> DecisionInput<'c> {
    /// Copies what is known now, with the given catalogue and time.
    pub fn new(context: &OperatorContext, catalog: &'c Catalog, unix: i64) -> DecisionInput<'c> {
        let fleet = context.fleet.borrow();
        DecisionInput {
            catalog,
            fused: fleet.fused().to_vec(),
            reached: fleet.reached().to_vec(),
            unix,
        }
    }

    /// Decides on a check of a device with this record.
    pub fn decide(&self, check: &Check<'_>, known: Known<'_>, log: &FactLog<'c>) -> Verdict<'c> {
        let question = Question {
            catalog: self.catalog,
            known: Known {
                fused: &self.fused,
                reached: &self.reached,
                ..known
            },
            check,
            unix: self.unix,
        };
        decide_with_facts(&question, log)
    }
}

async fn each_result_in<'c, T>(
    mut known: KnownResults<'c, T>,
    context: &OperatorContext,
    (catalog, project): (&Catalog, &str),
    mut decide: impl FnMut(&Check<'_>, Known<'_>, &FactLog<'c>) -> T,
    mut count: impl FnMut(&T, usize),
) {
    let mut slice = Slice::begin();
    let mut next = Some(0);
    while let Some(from) = next {
        {
            let (fleet, now) = (context.fleet.borrow(), Instant::now());
            let mut left = DECISIONS;
            next = fleet.of_project(project, from, BATCH, |device| {
                if known.add(&fleet, &device, now) {
                    return true;
                }
                device.check(|mut check| {
                    check.complete(catalog);
                    let log = FactLog::default();
                    let facts = fleet.known_for_operator(&check, now);
                    let result = decide(&check, facts, &log);
                    if let Some(result) = known.store(&device, &check, log, result) {
                        count(&result, 1);
                    }
                });
                left -= 1;
                left > 0
            });
        }
        slice.pause_if_over().await;
    }
    for (result, devices) in known.results {
        count(&result, devices);
        slice.pause_if_over().await;
    }
}

/// Results of decisions, each with the number of devices that have it.
struct KnownResults<'c, T> {
    trees: HashMap<CheckWithoutId, ResultTree<'c>>,
    /// Number of nodes for which there is room.
    left: usize,
    results: Vec<(T, usize)>,
}

/// Results for devices whose checks differ only in the id.
struct ResultTree<'c> {
    /// The project that the check asks for.
    project: Box<str>,
    tree: FactTree<'c>,
}

impl<'c, T> KnownResults<'c, T> {
    /// Creates an empty set with room for this many nodes of trees.
    fn new(left: usize) -> KnownResults<'c, T> {
        KnownResults {
            trees: HashMap::new(),
            left,
            results: Vec::new(),
        }
    }

    /// Counts a device with the others that have the same result. Returns `false` if its result is not known.
    fn add(&mut self, fleet: &Fleet, device: &ProjectDevice<'_>, now: Instant) -> bool {
        let Some(ResultTree { project, tree }) = self.trees.get(&device.check_without_id()) else {
            return false;
        };
        let is_true = |fact: &_| {
            fleet
                .is_true(fact, device, project, now)
                .unwrap_or_else(|| {
                    let known = |check: Check<'_>| {
                        let known = fleet.known_for_operator(&check, now);
                        fact.of_known(&known)
                    };
                    device.check(known)
                })
        };
        let found = tree.find(is_true).map(|number| number as usize);
        let found = found.and_then(|number| self.results.get_mut(number));
        let Some((_, devices)) = found else {
            return false;
        };
        *devices += 1;
        true
    }

    /// Stores the result for a device. Returns the result if there is no room.
    fn store(
        &mut self,
        device: &ProjectDevice<'_>,
        check: &Check<'_>,
        log: FactLog<'c>,
        result: T,
    ) -> Option<T> {
        let (Ok(number), true) = (u32::try_from(self.results.len()), self.left > 0) else {
            return Some(result);
        };
        let known = self.trees.entry(device.check_without_id());
        let known = known.or_insert_with(|| ResultTree {
            project: check.project().into(),
            tree: FactTree::default(),
        });
        let before = known.tree.len();
        known.tree.add(log, number);
        let more = known.tree.len().saturating_sub(before);
        // A result counts as a node too, because the result of a check without facts adds no node.
        self.left = self.left.saturating_sub(more.saturating_add(1));
        self.results.push((result, 1));
        None
    }
}

/// The devices that are not offered a release or file, by reason.
#[derive(Default)]
pub(super) struct Reasons(BTreeMap<String, Refused>);

/// The devices that are not offered a release or file for one reason.
#[derive(Clone, Copy, Default)]
pub(super) struct Refused {
    pub devices: usize,
    /// Whether no rule that a person wrote excludes the devices, so that the cause may be a mistake.
    pub is_doubtful: bool,
}

impl Reasons {
    /// Counts devices that get this verdict instead.
    pub fn add(&mut self, verdict: &Verdict<'_>, devices: usize) {
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
        let refused = self.0.entry(reason).or_default();
        refused.devices += devices;
        refused.is_doubtful |= is_doubtful;
    }

    /// Returns the reasons, the one with most devices first: at most [`REASONS`], and then all others as one.
    pub fn by_devices(&self) -> Vec<(&str, Refused)> {
        let reasons = self.0.iter();
        let mut reasons: Vec<_> = reasons
            .map(|(reason, refused)| (&**reason, *refused))
            .collect();
        reasons.sort_by_key(|(_, refused)| Reverse(refused.devices));
        let rest = reasons.split_off(reasons.len().min(REASONS));
        let rest = rest.into_iter().reduce(|(_, sum), (_, refused)| {
            let sum = Refused {
                devices: sum.devices + refused.devices,
                is_doubtful: sum.is_doubtful || refused.is_doubtful,
            };
            ("", sum)
        });
        reasons.extend(rest.map(|(_, sum)| ("other reasons", sum)));
        reasons
    }

    /// Returns the reasons for the API.
    pub fn json(&self) -> Value {
        let reasons = self.by_devices().into_iter();
        reasons
            .map(|(reason, refused)| json!({"reason": reason, "devices": refused.devices}))
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::time::Duration;

    use proptest::prelude::*;

    use super::*;
    use crate::decision::{Notes, decide};
    use crate::firmware::audience::{DeviceId, Group};
    use crate::firmware::catalog::{ScanResult, ScannedGroup, sample};
    use crate::firmware::package::PackageKind;
    use crate::fleet::entry::known_check;
    use crate::fleet::profiles::Profile;
    use crate::fleet::requester::Requester;
    use crate::fleet::short_version::ShortVersion;
    use crate::fleet::{FileRange, FleetSettings, TransferOutcome};

    const SIZE: u64 = 1000;

    const NOON: i64 = 1_795_435_200; // 2026-11-23T12:00:00Z

    const NAMES: [&str; 4] = ["P_Luat_V1_8955", "P_LuatOS-SoC_EC718P", "P", "Q"];

    const VERSIONS: [&str; 6] = ["1.0.0", "1.5.0", "2.0.0", "2012.1.1", "factory", "3.0.0"];

    const RULES: [&str; 17] = [
        "{}",
        r#"{"percent": 30}"#,
        r#"{"percent": 0, "allow": ["862991400000003", "862991400000007", "862991400000012", "@pilot"]}"#,
        r#"{"paused": true}"#,
        r#"{"paused": "fuse: it came back"}"#,
        r#"{"allow": ["862991400000000-862991400000009"]}"#,
        r#"{"deny": ["@pilot", "862991400000002"]}"#,
        r#"{"deny": ["862991400000001"], "percent": 60}"#,
        r#"{"reboot_within": "12h"}"#,
        r#"{"reboot_within": "1h", "percent": 70}"#,
        r#"{"stages": [{"percent": 20}, {"percent": 100, "after": "24h"}]}"#,
        r#"{"allow_downgrade": true, "percent": 50}"#,
        r#"{"allow_downgrade": true, "deny": ["@pilot"]}"#,
        r#"{"window": "01:00-05:00+08:00"}"#,
        r#"{"from": "1.0.0-1.9.0"}"#,
        r#"{"any_version": true, "any_core": true}"#,
        r#"{"project_key": "k"}"#,
    ];

    /// Builds the catalogue of three releases with these rules, and a group of ten devices.
    fn catalogue(rules: [usize; 3]) -> Catalog {
        let path = |at: usize, name: &str| format!("P/{}/{name}", ["1.5.0", "2.0.0", "3.0.0"][at]);
        let file = |at| sample::file(&path(at, "u.bin"), at as u8 + 1, PackageKind::Generic, SIZE);
        let group: String = (5..15).map(|n| format!("{}\n", id(n))).collect();
        let group = ScannedGroup {
            path: "@pilot.txt".to_owned(),
            group: Group::parse(group.as_bytes()).map(Arc::new),
        };
        let rules = rules.iter().enumerate();
        let rules = rules.map(|(at, rule)| sample::rules(&path(at, "release.json"), RULES[*rule]));
        Catalog::build(ScanResult {
            files: (0..3).map(file).collect(),
            rules: rules.collect(),
            groups: vec![group],
            ..ScanResult::default()
        })
    }

    fn id(number: u64) -> String {
        (862_991_400_000_000 + number).to_string()
    }

    /// A device: number, indexes of its version and name, and number of further visits.
    type Asks = (u64, usize, usize, u32);

    /// Creates a fleet of devices that sent checks for days. Some have a file that they may not run yet, some received
    /// one repeatedly.
    fn fleet(catalog: &Catalog, devices: &[Asks], now: Instant) -> Fleet {
        // No time limit expires during the seconds that the test takes.
        let ago = |seconds| now - Duration::from_secs(137 + seconds);
        let mut fleet = Fleet::new(FleetSettings::default(), ago(4 * 86_400));
        fleet.catalog(catalog, ago(4 * 86_400));
        for &(number, version, name, visits) in devices {
            let text = id(number);
            let profile = Profile {
                firmware_name: Some(NAMES[name].into()),
                largest: (number % 7 == 0).then_some(SIZE / 2),
                project_key: (number % 3 == 0).then_some("k".into()),
                ..Profile::default()
            };
            let device = DeviceId::parse(&text).unwrap();
            let check = known_check(device, &text, VERSIONS[version], "P", Some(profile));
            let who = Requester::of(&check, [10, 0, number as u8, 1].into()).unwrap();
            for left in (0..=visits).rev() {
                let at = ago(u64::from(left + 1) * 1800 * (1 + number % 20));
                let question = Question {
                    catalog,
                    known: fleet.known(&check, Some(&who), at),
                    check: &check,
                    unix: NOON,
                };
                let verdict = decide(&question, &mut Notes::off());
                fleet.record_check(&check, Some(&who), &verdict, false, at);
                let Verdict::Offer(offer) = verdict else {
                    continue;
                };
                let range = FileRange {
                    content: offer.package.content,
                    to: ShortVersion::of(&offer.release.version_text),
                    size: SIZE,
                    start: 0,
                    end: SIZE,
                };
                let (transfer, _) = fleet.begin(Some(&who), None, range, at);
                fleet.end(transfer, TransferOutcome::Whole, at);
            }
        }
        fleet.tick(ago(1000));
        fleet
    }

    fn shown(verdict: &Verdict<'_>) -> String {
        match verdict {
            Verdict::Offer(offer) => offer.package.path.to_string(),
            Verdict::Refuse(refused) => format!("{:?} {refused}", refused.refusal),
        }
    }

    proptest! {
        #[test]
        fn devices_decided_together_get_the_same_as_one_by_one(
            rules in [0..RULES.len(), 0..RULES.len(), 0..RULES.len()],
            later in [0..RULES.len(), 0..RULES.len(), 0..RULES.len()],
            devices in proptest::collection::vec((0u64..24, 0..VERSIONS.len(), 0..NAMES.len(), 0u32..7), 1..60),
            is_fused in any::<bool>(),
            room in prop_oneof![Just(0), 1usize..40, Just(NODES)],
        ) {
            let (before, after) = (&catalogue(rules), &catalogue(later));
            let context = OperatorContext::of_fleet(fleet(before, &devices, Instant::now()));
            let reached = context.fleet.borrow().reached().to_vec();
            let fused = Fused { project: "P".into(), version: "2.0.0".into(), sentence: "fuse: x".into() };
            let fused = if is_fused { vec![fused] } else { Vec::new() };
            let (fused, reached) = (&*fused, &*reached);
            fn question<'c, 'q>(catalog: &'c Catalog, check: &'q Check<'q>, known: Known<'q>) -> Question<'c, 'q> {
                Question { catalog, known, check, unix: NOON }
            }
            let mut alone: BTreeMap<[String; 2], usize> = BTreeMap::new();
            let ended = context.fleet.borrow().of_project("P", 0, u32::MAX, |device| {
                device.check(|mut check| {
                    check.complete(before);
                    let fleet = context.fleet.borrow();
                    let known = Known { fused, reached, ..fleet.known_for_operator(&check, Instant::now()) };
                    let verdicts = [before, after].map(|catalog| shown(&decide(&question(catalog, &check, known), &mut Notes::off())));
                    *alone.entry(verdicts).or_default() += 1;
                });
                true
            });
            prop_assert_eq!(ended, None);
            let mut together: BTreeMap<[String; 2], usize> = BTreeMap::new();
            let results = each_result_in(
                KnownResults::new(room),
                &context,
                (before, "P"),
                |check, known, log| {
                    let known = Known { fused, reached, ..known };
                    [before, after].map(|catalog| shown(&decide_with_facts(&question(catalog, check, known), log)))
                },
                |verdicts, devices| *together.entry(verdicts.clone()).or_default() += devices,
            );
            smol::block_on(results);
            prop_assert_eq!(together, alone);
        }
    }

    #[test]
    fn reasons_above_the_limit_are_counted_together() {
        let mut reasons = Reasons::default();
        let rules: Vec<String> = (0..REASONS + 5).map(|n| format!("rule {n:02}")).collect();
        for (devices, rule) in rules.iter().enumerate() {
            let refused = crate::decision::RefusedCheck {
                refusal: Refusal::NotNow,
                release: None,
                rule,
            };
            reasons.add(&Verdict::Refuse(refused), devices + 1);
        }
        let shown = reasons.by_devices();
        assert_eq!(shown.len(), REASONS + 1);
        assert_eq!(shown[0].0, "rule 24");
        assert_eq!(
            (shown[REASONS].0, shown[REASONS].1.devices),
            ("other reasons", 15)
        );
    }
}
