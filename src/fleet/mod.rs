//! MEMORY: what the server remembers of each device, so that no image is ever stitched from two files
//! and no module downloads the same thing for ever.
//!
//! [`Fleet`] is the face: the device room asks it before and tells it after each check and each download;
//! the operator's room reads it. Behind it: [`pins`] (which content a download began with), the devices
//! and their [`journey`], the loop guard and the release fuse, all kept over a restart by the
//! [`journal`]. Beside it, what is only counted: [`tally`], [`events`].
//!
//! An address is not an identity: carriers, proxies and Docker put five hundred modules behind one. A
//! [`network`] only tells apart two devices that claim the same id, and shares out limits.

pub mod bounded;
pub mod clock;
pub mod devices;
pub mod entry;
pub mod events;
#[cfg(test)]
mod fuse_simulation;
pub mod journal;
pub mod journey;
pub mod known_list;
pub mod lift;
pub mod loop_guard;
pub mod network;
pub mod pins;
pub mod profiles;
pub mod releases;
pub mod report;
pub mod requester;
mod restore;
pub mod resume;
mod sessions;
pub mod short_version;
mod show;
pub mod tally;
pub mod transfer;
pub mod view;

use std::time::{Duration, Instant};

use self::clock::{Clock, Stamp};
use self::devices::{Above, DeviceTransfer, Devices, Fallen, Sighting};
use self::entry::{JournalEntry, Priority};
use self::events::Events;
use self::journal::{Journal, Written};
use self::known_list::KnownList;
use self::lift::Lifts;
use self::loop_guard::{CheckFacts, LoopGuard};
use self::pins::{Began, Hold, PinWorth, Pins};
use self::releases::Releases;
use self::releases::fuse::FuseVerdict;
use self::report::Report;
use self::requester::{PinOwner, Requester};
use self::sessions::Sessions;
use self::short_version::ShortVersion;
use self::tally::Tally;
pub use self::transfer::{FileRange, TransferOutcome};
use crate::decision::{Check, Fetched, Fused, Known, Refusal, RefusedCheck, Verdict};
use crate::firmware::ContentId;
use crate::firmware::audience::DeviceId;
use crate::firmware::catalog::Catalog;
use crate::os::notify::Notify;

/// What the flags say of the fleet.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Devices that are remembered at most.
    pub max_devices: usize,
    /// Attempts at one content that are free.
    pub attempts: u32,
    /// Only devices that are known already are served.
    pub known_only: bool,
}

impl Default for Settings {
    fn default() -> Settings {
        Settings {
            max_devices: 200_000,
            attempts: 3,
            known_only: false,
        }
    }
}

/// All that is remembered. Pure but for the journal's handle: the time comes with each call.
#[derive(Debug)]
pub struct Fleet {
    settings: Settings,
    clock: Clock,
    pins: Pins,
    devices: Devices,
    loop_guard: LoopGuard,
    sessions: Sessions,
    journal: Journal,
    known_list: KnownList,
    lifts: Lifts,
    /// Versions above all that is left; `None`: not looked at yet.
    above: Option<Vec<Above>>,
    /// When it last ticked.
    ticked: Option<Instant>,
    /// When it was first told something since then.
    stirred: Option<Instant>,
    /// Notified when [`Fleet::due`] may be sooner than it was.
    due_changed: Notify,
    /// Counts and rates.
    pub tally: Tally,
    /// Who looks on.
    pub events: Events,
}

/// Bytes of a content that are on their way to a device; to be given back with [`Fleet::end`].
#[derive(Debug)]
pub struct Transfer {
    /// `None`: the client has no id.
    who: Option<Requester>,
    /// Bytes that arrived so far.
    arrived: FileRange,
    hold: Option<Hold>,
}

/// No two ticks are closer together, and one follows within this time when something happened.
const TICK: Duration = Duration::from_secs(1);

/// Records that the journal is given at a time: about two milliseconds' worth.
const RECORDS: usize = 2000;

impl Fleet {
    /// Nothing remembered yet, and no journal.
    pub fn new(settings: Settings, began: Instant) -> Fleet {
        let clock = Clock::new(began);
        Fleet {
            devices: Devices::new(settings.max_devices, clock.stamp(began)),
            loop_guard: LoopGuard::new(settings.attempts, loop_guard::CAPACITY),
            sessions: Sessions::default(),
            pins: Pins::new(pins::CAPACITY),
            journal: Journal::none(),
            known_list: KnownList::default(),
            lifts: Lifts::default(),
            above: None,
            ticked: None,
            stirred: None,
            due_changed: Notify::default(),
            clock,
            tally: Tally::default(),
            events: Events::default(),
            settings,
        }
    }

    /// A moment in the fleet's time, in which the [`tally`] counts as well.
    pub fn stamp(&self, now: Instant) -> Stamp {
        self.clock.stamp(now)
    }

    /// What the decision on a check needs to know of the device. To be asked before [`crate::decision::decide`].
    pub fn known(&self, check: &Check<'_>, who: Option<&Requester>, now: Instant) -> Known<'_> {
        let Some(who) = who else {
            return Known {
                stranger: self.settings.known_only,
                fused: self.releases().unstated_pauses(),
                ..Known::default()
            };
        };
        let instant = now;
        let now = self.clock.stamp(now);
        let (device, listed) = (who.device, self.is_listed(who.device));
        let waits = self.devices.waits(device, who.network, check, now);
        let fetched = waits.map(|(content, seconds, _)| Fetched { content, seconds });
        let facts = self.check_facts(check, who, false, instant);
        let is_known = || listed || self.devices.knows(device);
        Known {
            stranger: self.settings.known_only && !is_known(),
            looping: self.loop_guard.held(who, facts, now),
            fetched,
            fused: self.releases().unstated_pauses(),
            trial: self.releases().may_try(check.project(), device, now)
                && self.devices.may_try(device, listed),
        }
    }

    /// Does the device stand in the list of known devices?
    fn is_listed(&self, device: DeviceId) -> bool {
        self.known_list.contains(device)
    }

    /// A check was decided: the device was seen, and perhaps offered something, or came back from
    /// something. Whoever has no id is not remembered, nor is anybody of an unknown project. Not to be
    /// told of a request for the rest of a download: that device has not come back yet.
    pub fn checked(
        &mut self,
        check: &Check<'_>,
        who: Option<&Requester>,
        verdict: &Verdict<'_>,
        is_given: bool,
        now: Instant,
    ) {
        let is_nobody = matches!(
            verdict,
            Verdict::Refuse(RefusedCheck {
                refusal: Refusal::NoProject | Refusal::UnknownProject | Refusal::UnknownDevice,
                ..
            })
        );
        let Some(who) = who.filter(|_| !is_nobody && !check.project().is_empty()) else {
            return;
        };
        self.stir(now);
        let facts = self.check_facts(check, who, is_given, now);
        let sighting = Sighting {
            device: who.device,
            network: who.network,
            check,
            verdict,
            listed: self.is_listed(who.device),
            same_session: facts.same_session,
            is_given,
        };
        let now = self.clock.stamp(now);
        let fallen = self.devices.seen(sighting, now);
        self.journal_devices();
        let offered = match verdict {
            Verdict::Offer(offer) => Some(offer.package.content),
            Verdict::Refuse(_) => None,
        };
        for against in self.loop_guard.came_back(who, facts, offered, now) {
            log::warn!(
                target: "loop",
                device = &*check.device_text,
                content = against.content.to_string().get(..16).unwrap_or_default(),
                reverts = against.reverts;
                "it came back with its old version again; it is offered the file all the same, because \
                 `allow` names it: after ten rounds in a day it is held, and `luat-ota lift` ends that"
            );
        }
        if let Some(Fallen { content, to }) = fallen {
            self.loop_guard.fell_back(who, content, to, now);
        }
        self.journal_loop_guard();
        if let Verdict::Offer(offer) = verdict {
            let (project, version) = (&offer.project.name, &offer.release.version_text);
            let releases = self.devices.targets_mut();
            releases.offered(project, version, who.device, now);
        }
    }

    /// The version that this device was confirmed with less than a day ago, if it says the one before now.
    /// If the rules give that to devices which run the former, it has not fallen back.
    pub fn ran(&self, check: &Check<'_>, who: Option<&Requester>) -> Option<ShortVersion> {
        self.devices.ran(who?.device, check)
    }

    fn check_facts(
        &self,
        check: &Check<'_>,
        who: &Requester,
        is_given: bool,
        now: Instant,
    ) -> CheckFacts {
        let now = self.clock.stamp(now);
        let waits = self.devices.waits(who.device, who.network, check, now);
        CheckFacts {
            same_session: self.sessions.holds(who, now),
            is_given,
            waits: waits.map(|(content, _, within)| (content, within)),
        }
    }

    /// What speaks against devices now, or no more, goes into the journal: at once, or a server that is
    /// killed again and again would forget it again and again. Nothing waits for it.
    fn journal_loop_guard(&mut self) {
        for entry in self.loop_guard.changes() {
            let priority = match &entry {
                JournalEntry::Guard(guard) => self.priority(guard.device),
                _ => Priority::Major,
            };
            let _nobody_waits = self.journal.now(&entry, priority);
        }
    }

    /// Priority of a line about a device that is written at once: invented devices leave room for established ones.
    fn priority(&self, device: DeviceId) -> Priority {
        match self.devices.is_established(device) {
            true => Priority::Major,
            false => Priority::Minor,
        }
    }

    /// What changed among the devices goes into the journal.
    fn journal_devices(&mut self) {
        for (entry, priority) in self.devices.take() {
            self.journal.later(&entry, priority);
        }
    }

    /// The content that a download began with of which the client has the first `from` bytes.
    pub fn began(&self, owner: &PinOwner, from: u64, now: Instant) -> Began {
        self.pins.began(owner, from, self.clock.stamp(now))
    }

    /// Whether a download of this content was begun within the last day.
    pub fn has_begun(&self, owner: &PinOwner, content: ContentId, now: Instant) -> bool {
        self.pins.has(owner, content, self.clock.stamp(now))
    }

    /// Bytes are about to be sent, to a device (`who`) or to a client without an id. None may leave before what is
    /// returned has come true (or a short while has passed).
    pub fn begin(
        &mut self,
        who: Option<&Requester>,
        owner: Option<&PinOwner>,
        range: FileRange,
        now: Instant,
    ) -> (Transfer, Written) {
        self.stir(now);
        let stamp = self.clock.stamp(now);
        let mut written = Written::already();
        let priority = who.map_or(Priority::Minor, |who| self.priority(who.device));
        let hold = owner.and_then(|owner| {
            let worth = match priority {
                _ if owner.is_anonymous() => PinWorth::Anonymous,
                Priority::Major => PinWorth::Established,
                _ => PinWorth::Stranger,
            };
            self.pins.begin(owner, worth, range, stamp)
        });
        if let Some(hold) = &hold
            && let Some(pin) = self.pins.to_write(hold)
        {
            match self.journal.now(&JournalEntry::Pin(pin), priority) {
                Some(promise) => written = promise,
                None => self.pins.not_written(hold),
            }
        }
        self.journal_pins();
        let transfer = Transfer {
            who: who.copied(),
            arrived: FileRange {
                end: range.start,
                ..range
            },
            hold,
        };
        if let Some(piece) = transfer.device_transfer() {
            self.devices.begun(piece);
            if owner.is_none() {
                // Whoever asks by packets has read the id that its check was answered with.
                self.devices.answered(piece.device, stamp);
            }
        }
        self.journal_devices();
        (transfer, written)
    }

    /// What changed among the pins goes into the journal.
    fn journal_pins(&mut self) {
        for entry in self.pins.changes() {
            self.journal.later(&entry, entry.priority());
        }
    }

    /// The file's bytes before `high` were sent.
    pub fn sent(&mut self, transfer: &Transfer, high: u64) {
        if let Some(hold) = &transfer.hold {
            self.pins.sent(hold, high);
        }
    }

    /// The file's bytes before `high` were acknowledged by the device.
    pub fn acknowledged(&mut self, transfer: &mut Transfer, high: u64, now: Instant) {
        self.stir(now);
        transfer.arrived.end = transfer.arrived.end.max(high);
        let now = self.clock.stamp(now);
        if let Some(piece) = transfer.device_transfer() {
            self.devices.acknowledged(piece, high, now);
            self.journal_devices();
        }
    }

    /// The transfer is over.
    pub fn end(&mut self, mut transfer: Transfer, outcome: TransferOutcome, now: Instant) {
        self.stir(now);
        let whole = matches!(outcome, TransferOutcome::Whole | TransferOutcome::Sent);
        let now = self.clock.stamp(now);
        if let Some(hold) = transfer.hold.take() {
            self.pins.end(hold, now);
            self.journal_pins();
        }
        let (Some(who), Some(piece)) = (transfer.who, transfer.device_transfer()) else {
            return;
        };
        if whole {
            // Nobody asks for anything after the last packet, so it was acknowledged by none.
            let size = transfer.arrived.size;
            transfer.arrived.end = size;
            self.devices.acknowledged(piece, size, now);
            let what = (size, outcome == TransferOutcome::Sent);
            self.devices.delivered(piece, what, who.network, now);
            self.journal_devices();
            self.sessions.ended(&who, now);
        }
        self.loop_guard.spent(&who, transfer.arrived, outcome, now);
        self.journal_loop_guard();
    }

    /// The device was sent elsewhere for this content.
    pub fn redirected(&mut self, who: &Requester, content: ContentId, to: &str, now: Instant) {
        self.stir(now);
        let now = self.clock.stamp(now);
        self.loop_guard
            .redirected(who, content, ShortVersion::of(to), now);
        self.journal_loop_guard();
    }

    /// Records the result that a device reports for an update (libfota3), for display only: the version
    /// in the next check is the evidence (docs/protocol.md 9d).
    pub fn reported(&mut self, device: DeviceId, content: ContentId, report: Report) {
        self.devices.reported(device, content, report);
    }

    /// The folder is another now.
    pub fn catalog(&mut self, catalog: &Catalog, now: Instant) {
        self.stir(now);
        let now = self.clock.stamp(now);
        self.devices.catalog(catalog, now);
        self.journal_devices();
        self.warn_of_devices_above(catalog);
        let size = |content| catalog.sources(content).first().map(|source| source.size);
        self.loop_guard.sizes(size);
    }

    /// Warns of devices that run a version above every release that is left. A file that waits to settle may be the
    /// one that is missing.
    fn warn_of_devices_above(&mut self, catalog: &Catalog) {
        let may_have_changed = match &self.above {
            None => true,
            Some(above) => !above.is_empty() || self.releases().has_lost(),
        };
        if !may_have_changed {
            return;
        }
        if !catalog.waiting.is_empty() {
            self.above = None;
            return;
        }
        let above = self.devices.above(catalog);
        let known = self.above.take().unwrap_or_default();
        let is_known = |new: &&Above| {
            let mut known = known.iter();
            known.any(|old| (&old.project, &old.version) == (&new.project, &new.version))
        };
        for new in above.iter().filter(|new| !is_known(new)) {
            log::warn!(
                target: "above",
                project = &*new.project,
                version = &*new.version,
                devices = new.devices;
                "devices run a version above every release that is left: they are offered nothing until there is \
                 a higher one"
            );
        }
        self.above = Some(above);
    }

    /// Versions that devices run above every release that is left, as of the last change of the folder.
    pub fn above(&self) -> &[Above] {
        self.above.as_deref().unwrap_or_default()
    }

    /// Judges the releases from which devices came back. Returns the pauses that are to be written into the folder.
    fn judge(&mut self, now: Stamp) -> Vec<Fused> {
        let mut to_write = self.devices.targets_mut().pauses_to_retry(now);
        for suspect in self.devices.targets_mut().suspects(now) {
            let (project, version) = (&*suspect.project, &*suspect.version);
            let listed = |device| self.known_list.contains(device);
            let census = self
                .devices
                .census((project, version), &suspect.rules, listed, now);
            let Some(census) = census else { continue };
            let releases = self.devices.targets_mut();
            match releases.judge(project, version, &census, now) {
                FuseVerdict::Fine => {}
                FuseVerdict::Suspect(sentence) => log::warn!(target: "fuse", "{sentence}"),
                FuseVerdict::Tripped(fused) => {
                    if let Some(entry) = releases.entry(project, version) {
                        // At once: a server that is killed now must remember it.
                        let entry = JournalEntry::Release(entry);
                        let _nobody_waits = self.journal.now(&entry, entry.priority());
                    }
                    to_write.push(fused);
                }
            }
        }
        to_write
    }

    /// Something happened from which something may follow: there is a tick soon.
    fn stir(&mut self, now: Instant) {
        if self.stirred.is_none() {
            self.stirred = Some(now);
            self.journal.passed(self.clock.stamp(now));
            self.due_changed.notify();
        }
    }

    /// There may be something new in the state folder: the next tick looks.
    pub fn look(&mut self) {
        self.known_list.look();
        self.lifts.look();
        self.due_changed.notify();
    }

    /// When [`Fleet::tick`] has something to do; `None`: not before something happens. Costs next to
    /// nothing. While the server is asked it is a second after the last tick; one that nobody asks and
    /// that has nothing before it lets be.
    pub fn due(&self) -> Option<Instant> {
        let looks = self.known_list.is_due() || self.lifts.is_due();
        let stamps = [
            looks.then_some(Stamp::default()),
            self.devices.due(),
            self.releases().due(),
            self.journal.due(),
        ];
        let first = stamps.into_iter().flatten().min();
        let first = first.map(|stamp| self.clock.instant(stamp));
        let stirred = self.stirred.map(|at| at + TICK);
        let due = [first, stirred].into_iter().flatten().min()?;
        Some(self.ticked.map_or(due, |ticked| due.max(ticked + TICK)))
    }

    /// Notified when [`Fleet::due`] is to be asked again.
    pub fn due_changed(&self) -> Notify {
        self.due_changed.clone()
    }

    /// To be called when it is due: who has gone silent, what the journal must do, what a person
    /// has put into the state folder. Returns releases that must be paused.
    pub fn tick(&mut self, now: Instant) -> Vec<Fused> {
        let stamp = self.clock.stamp(now);
        self.ticked = Some(now);
        self.stirred = None;
        self.devices.sweep_silent(stamp);
        self.journal_devices();
        let tripped = self.judge(stamp);
        self.journal.tick(stamp, clock::unix_now());
        if let Some(from) = self.journal.wants_records() {
            let (entries, next) = self.records(from, RECORDS);
            self.journal.give(&entries, next);
        }
        self.known_list.tick();
        let (devices, guard, list) = (&self.devices, &self.loop_guard, &self.known_list);
        let is_known = |device| is_remembered(devices, guard, list, device);
        for (device, id) in self.lifts.tick(&is_known) {
            let holds = self.lift(device, now);
            log::info!(target: "lift", device = &*id, holds = holds; "");
        }
        tripped
    }

    /// A person resumes a release; `false`: the fuse has not paused it.
    pub fn resume_release(&mut self, project: &str, version: &str, now: Instant) -> bool {
        self.stir(now);
        let now = self.clock.stamp(now);
        let was_paused = self.devices.resume(project, version, now);
        self.journal_devices();
        was_paused
    }

    /// Records whether the folder could take a pause that [`Fleet::tick`] returned.
    pub fn pause_written(&mut self, fused: &Fused, in_the_folder: bool, now: Instant) {
        self.stir(now);
        let now = self.clock.stamp(now);
        let releases = self.devices.targets_mut();
        releases.pause_written(fused, in_the_folder, now);
    }

    fn releases(&self) -> &Releases {
        self.devices.targets()
    }

    /// Releases that the fuse has paused and whose release.json does not say so (any more, or yet).
    pub fn fused(&self) -> &[Fused] {
        self.releases().unstated_pauses()
    }

    /// How many downloads are remembered with what they began with.
    pub fn pinned(&self) -> usize {
        self.pins.len()
    }

    /// Whether anything is remembered of a device, or it stands in the list of known devices.
    pub fn remembers(&self, device: DeviceId) -> bool {
        is_remembered(&self.devices, &self.loop_guard, &self.known_list, device)
    }

    /// Takes back all that the loop guard holds against a device; how many holds that were.
    pub fn lift(&mut self, device: DeviceId, now: Instant) -> usize {
        self.stir(now);
        let holds = self.loop_guard.clear(device, self.clock.stamp(now));
        self.journal_loop_guard();
        holds
    }
}

fn is_remembered(devices: &Devices, guard: &LoopGuard, list: &KnownList, device: DeviceId) -> bool {
    devices.knows(device) || list.contains(device) || guard.against(device).next().is_some()
}

impl Transfer {
    /// Whether it is to a device with an id.
    pub fn is_to_a_device(&self) -> bool {
        self.who.is_some()
    }

    /// `None`: the client has no id.
    fn device_transfer(&self) -> Option<DeviceTransfer> {
        Some(DeviceTransfer {
            device: self.who?.device,
            content: self.arrived.content,
            start: self.arrived.start,
        })
    }
}

#[cfg(test)]
mod tests;
