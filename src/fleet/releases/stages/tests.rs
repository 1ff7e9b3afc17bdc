use proptest::prelude::*;

use super::*;
use crate::decision::reached_by;
use crate::firmware::catalog::sample::release as folder;
use crate::fleet::entry::JournalEntry;
use crate::fleet::entry::fields::{Fields, LineTime, LineWriter};
use crate::fleet::progress::{Outcome, Progress};
use crate::fleet::short_version::ShortVersion;

const NOW: Stamp = Stamp(1 << 31);
const UNIX: i64 = 1_796_083_200;
const HOUR: u32 = 3600;
const STAGES: &str = r#"{"stages": [{"percent": 1}, {"percent": 10, "after": "24h"},
    {"percent": 100, "after": "48h"}], "fuse": {"devices": 2, "percent": 20}}"#;

/// A server with one release, and the stages that its journal remembers.
struct TestRollout {
    releases: Releases,
    catalog: Catalog,
    content: u8,
    now: Stamp,
    journal: Vec<StageEntry>,
}

impl TestRollout {
    fn new(rules: &str) -> TestRollout {
        let mut test = TestRollout {
            releases: Releases::default(),
            catalog: Catalog::default(),
            content: 1,
            now: NOW,
            journal: Vec::new(),
        };
        test.edit(rules);
        test
    }

    fn edit(&mut self, rules: &str) {
        self.catalog = folder(self.content, rules);
        let changes = self.releases.catalog(&self.catalog, self.now);
        self.journal.extend(changes.stages);
    }

    /// Adds a device that is offered the content and then reaches this state.
    fn device(&mut self, state: State) {
        let project = self.releases.project_id("P").unwrap();
        let content = ContentId([self.content; 32]);
        let id = self
            .releases
            .intern(project, "2.0.0", content, 1000, self.now);
        let outcome = match state {
            State::Confirmed => Some(Outcome::Confirmed),
            State::Reverted => Some(Outcome::Reverted),
            _ => None,
        };
        let progress = Progress {
            state,
            outcome,
            ..Progress::offered(id.unwrap(), ShortVersion::of("1.0.0"), self.now)
        };
        self.releases.count_progress(None, Some(progress));
    }

    fn tick(&mut self) -> StageChanges {
        let changes = self.releases.advance_stages(self.now);
        self.journal.extend(changes.reached.iter().cloned());
        changes
    }

    fn later(&mut self, seconds: u32) -> &mut TestRollout {
        self.now = self.now.plus(seconds);
        self
    }

    /// Percentage that decisions use.
    fn percent(&self) -> Option<f64> {
        let release = &self.catalog.project("P").unwrap().releases[0];
        let content = ContentId([self.content; 32]);
        let reached = reached_by(self.releases.reached(), "P", release, content);
        percent_in_force(&release.rules, reached)
    }

    fn waits(&self) -> Option<String> {
        let wall = Wall {
            stamp: self.now,
            unix: UNIX,
        };
        self.releases.stage("P", "2.0.0", wall)?.waits
    }

    /// Restarts the server with the first `remembered` entries of its journal.
    fn restart(&mut self, remembered: usize) {
        self.journal.truncate(remembered);
        self.releases = Releases::default();
        for entry in &self.journal {
            self.releases.load_stage(entry.clone());
        }
        let changes = self.releases.catalog(&self.catalog, self.now);
        self.journal.extend(changes.stages);
    }
}

#[test]
fn a_stage_is_reached_when_its_time_is_over_and_enough_devices_were_confirmed() {
    let mut test = TestRollout::new(STAGES);
    assert_eq!(test.percent(), Some(1.0));
    test.device(State::Confirmed);
    test.device(State::Confirmed);
    assert!(test.later(24 * HOUR - 1).tick().reached.is_empty());
    assert_eq!(test.releases.due(), Some(NOW.plus(24 * HOUR)));
    let reached = test.later(1).tick().reached;
    assert_eq!(
        (reached.len(), reached[0].reached, reached[0].confirmed),
        (1, 1000, 2)
    );
    // Decisions use the stage when it is in the journal.
    assert_eq!(test.percent(), Some(1.0));
    test.tick();
    assert_eq!(test.percent(), Some(10.0));
    assert_eq!(test.releases.due(), Some(NOW.plus(72 * HOUR)));
    // The next stage needs further confirmed devices while others are still downloading.
    test.device(State::Downloading);
    let changes = test.later(48 * HOUR).tick();
    assert!(changes.reached.is_empty());
    assert_eq!(changes.waits[0].2, StageWait::Few(0, 2));
    assert_eq!(test.releases.due(), None);
    assert!(test.later(HOUR).tick().waits.is_empty(), "it is told twice");
    test.device(State::Confirmed);
    test.device(State::Confirmed);
    assert_eq!(test.tick().reached[0].reached, 10_000);
    test.tick();
    assert_eq!(test.percent(), Some(100.0));
    assert!(test.later(1000 * HOUR).tick().reached.is_empty());
}

#[test]
fn a_stage_waits_for_devices_that_confirm_it_and_says_what_is_missing() {
    for (devices, reason) in [
        (&[][..], Some("no device has been confirmed")),
        (
            &[State::Delivered, State::Waiting],
            Some("no device has been confirmed"),
        ),
        // In a small fleet, it is enough that all devices that got the content are confirmed.
        (&[State::Confirmed], None),
        (
            &[State::Confirmed, State::Offered],
            Some("1 of the 2 devices that this stage needs"),
        ),
        (
            &[State::Confirmed, State::Delivered],
            Some("1 of the 2 devices that this stage needs"),
        ),
        (&[State::Confirmed, State::Confirmed, State::Offered], None),
        (
            &[
                State::Confirmed,
                State::Confirmed,
                State::Silent,
                State::Reverted,
            ],
            None,
        ),
        (
            &[
                State::Confirmed,
                State::Confirmed,
                State::Silent,
                State::Sent,
                State::Delivered,
            ],
            Some("2 of the 5 devices that were given it"),
        ),
    ] {
        let mut test = TestRollout::new(STAGES);
        devices.iter().for_each(|state| test.device(*state));
        let changes = test.later(24 * HOUR).tick();
        assert_eq!(changes.reached.is_empty(), reason.is_some(), "{devices:?}");
        if let Some(reason) = reason {
            let sentence = test.waits().unwrap();
            assert!(sentence.contains(reason), "{devices:?}: {sentence}");
        }
    }
}

#[test]
fn a_paused_or_fused_release_stays_in_its_stage() {
    let mut test = TestRollout::new(STAGES);
    (0..5).for_each(|_| test.device(State::Confirmed));
    let paused = |why: &str| STAGES.replacen('{', &format!("{{\"paused\": {why}, "), 1);
    test.later(24 * HOUR).edit(&paused("true"));
    assert!(test.tick().reached.is_empty());
    assert_eq!(test.waits().as_deref(), Some("the release is paused"));
    test.edit(&paused("\"fuse: 3 of 9 devices came back\""));
    assert!(test.tick().reached.is_empty());
    assert_eq!(
        test.waits().as_deref(),
        Some("the fuse has paused the release")
    );
    // The time before the resumption does not count: the time of the stage starts anew.
    test.later(HOUR).edit(&paused("false"));
    assert!(test.tick().reached.is_empty());
    assert_eq!(test.later(24 * HOUR).tick().reached.len(), 1);
}

#[test]
fn another_content_begins_with_the_first_stage_and_the_old_one_keeps_its_stage() {
    let mut test = TestRollout::new(STAGES);
    test.device(State::Confirmed);
    test.later(24 * HOUR).tick();
    test.tick();
    assert_eq!(test.percent(), Some(10.0));
    test.content = 2;
    test.edit(STAGES);
    assert_eq!(test.percent(), Some(1.0));
    assert!(test.later(48 * HOUR).tick().reached.is_empty());
    test.content = 1;
    test.edit(STAGES);
    assert_eq!(test.percent(), Some(10.0));
}

#[test]
fn an_edited_list_of_stages_never_takes_back_a_reached_stage() {
    let mut test = TestRollout::new(STAGES);
    test.device(State::Confirmed);
    test.later(24 * HOUR).tick();
    test.tick();
    for (rules, percent) in [
        (
            r#"{"stages": [{"percent": 2}, {"percent": 5, "after": "1s"}]}"#,
            10.0,
        ),
        (r#"{"percent": 3}"#, 3.0),
        (
            r#"{"stages": [{"percent": 0.5}, {"percent": 100, "after": "1h"}]}"#,
            10.0,
        ),
        (
            r#"{"stages": [{"percent": 20}, {"percent": 100, "after": "1h"}]}"#,
            20.0,
        ),
        (STAGES, 20.0),
    ] {
        test.edit(rules);
        test.tick();
        assert_eq!(test.percent(), Some(percent), "{rules}");
    }
}

#[test]
fn a_first_stage_between_the_reached_one_and_the_one_in_force_stays_in_force() {
    let mut test = TestRollout::new(STAGES);
    test.device(State::Confirmed);
    assert_eq!(test.later(24 * HOUR).tick().reached[0].reached, 1000);
    // The tick that puts 10 percent into force has not run yet.
    test.edit(r#"{"stages": [{"percent": 5}, {"percent": 50, "after": "1h"}]}"#);
    assert_eq!(test.percent(), Some(5.0));
    test.edit(STAGES);
    assert_eq!(test.percent(), Some(5.0));
}

#[test]
fn the_entry_of_a_stage_is_a_line_that_is_read_back() {
    let entry = StageEntry {
        project: "P".into(),
        version: "2.0.0".into(),
        content: ContentId([7; 32]),
        reached: 1000,
        since: NOW,
        confirmed: 3,
    };
    let wall = Wall {
        stamp: NOW,
        unix: UNIX,
    };
    let mut out = String::new();
    JournalEntry::Stage(entry.clone()).write(&mut LineWriter::new(&mut out, wall));
    out.push('}');
    assert!(
        out.starts_with(r#"{"stage":"2.0.0","project":"P","content":"0707"#),
        "{out}"
    );
    let time = LineTime {
        stamp: NOW,
        unix: UNIX,
    };
    let fields = Fields::read(&out, time).unwrap();
    assert_eq!(
        JournalEntry::read("stage", &fields),
        Some(JournalEntry::Stage(entry))
    );
}

#[test]
fn percents_are_as_fine_as_cohorts() {
    for (percent, expected) in [
        (0.0, 0),
        (0.07, 7),
        (0.001, 1),
        (1.0, 100),
        (33.33, 3333),
        (100.0, 10_000),
    ] {
        assert_eq!(hundredths(percent), expected, "{percent}");
    }
}

/// Event in a test.
#[derive(Clone, Debug)]
enum Step {
    Later(u32),
    Tick,
    Device(usize),
    Edit(usize),
    /// A restart. `lost`: whether the stages that the last tick reached were not written. `by`: step of the clock in
    /// seconds.
    Restart {
        lost: bool,
        by: i32,
    },
}

fn steps() -> impl Strategy<Value = Step> {
    prop_oneof![
        (1..60 * HOUR).prop_map(Step::Later),
        Just(Step::Tick),
        Just(Step::Tick),
        (0..State::ALL.len()).prop_map(Step::Device),
        Just(Step::Device(State::Confirmed as usize)),
        (0..4usize).prop_map(Step::Edit),
        (any::<bool>(), -1_000_000..1_000_000i32).prop_map(|(lost, by)| Step::Restart { lost, by }),
    ]
}

proptest! {
    #[test]
    fn the_share_of_the_devices_only_grows(steps in prop::collection::vec(steps(), 1..80)) {
        let lists = [
            STAGES.to_owned(),
            r#"{"stages": [{"percent": 0.5}, {"percent": 2, "after": "1h"}]}"#.to_owned(),
            r#"{"stages": [{"percent": 5}, {"percent": 50, "after": "1h"}, {"percent": 60, "after": "1h"}]}"#.to_owned(),
            STAGES.replacen('{', r#"{"paused": true, "#, 1),
        ];
        let mut test = TestRollout::new(&lists[0]);
        let (mut before, mut written) = (0.0, test.journal.len());
        for step in steps {
            match step {
                Step::Later(seconds) => drop(test.later(seconds)),
                Step::Tick => {
                    written = test.journal.len();
                    let changes = test.tick();
                    // A tick advances one stage at most.
                    prop_assert!(changes.reached.len() <= 1);
                }
                Step::Device(at) => test.device(State::ALL[at]),
                Step::Edit(at) => {
                    test.edit(&lists[at]);
                    written = test.journal.len();
                }
                Step::Restart { lost, by } => {
                    let remembered = if lost { written } else { test.journal.len() };
                    test.restart(remembered.min(test.journal.len()));
                    let stepped = test.now.0.saturating_add_signed(by);
                    test.now = Stamp(stepped);
                    written = test.journal.len();
                }
            }
            let percent = test.percent().unwrap();
            prop_assert!(percent >= before, "{} after {}", percent, before);
            before = percent;
        }
    }
}
