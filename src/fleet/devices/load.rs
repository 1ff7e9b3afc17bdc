//! Devices as the journal remembers them: to entries and back.

use super::Devices;
use super::record::{Kind, NONE, Rank, Record};
use crate::firmware::audience::DeviceId;
use crate::fleet::entry::{DeviceEntry, JournalEntry, JourneyEntry, ReleaseEntry};
use crate::fleet::journey::{Journey, State, TargetId, capped};
use crate::fleet::short_version::ShortVersion;

impl Devices {
    /// The record of a device, as the journal keeps it.
    pub(super) fn entry(&self, slot: u32) -> Option<DeviceEntry> {
        let record = self.table.get(slot)?;
        let project = self.targets.project(record.project)?;
        Some(DeviceEntry {
            device: record.device(),
            text: self.text(slot, record),
            project: project.name.clone(),
            version: record.version.as_str().into(),
            first: record.first,
            last: record.last,
            interval: record.interval,
            network: record.network(),
            profile: self.profiles.get(record.profile).cloned(),
            confirmed: self.confirmed_before(record),
            journey: record.journey().and_then(|way| self.journey_entry(way)),
        })
    }

    /// The releases that a device was confirmed with before that of its journey.
    fn confirmed_before(&self, record: &Record) -> Vec<(Box<str>, Box<str>)> {
        let targets = record.confirmed.into_iter();
        let targets = targets.filter_map(|id| self.targets.get(id));
        targets
            .filter_map(|target| {
                let project = self.targets.project(target.project)?;
                Some((project.name.clone(), target.version.clone()))
            })
            .collect()
    }

    pub(super) fn journey_entry(&self, journey: Journey) -> Option<JourneyEntry> {
        let target = self.targets.get(journey.target)?;
        Some(JourneyEntry {
            project: self.targets.project(target.project)?.name.clone(),
            version: target.version.clone(),
            content: target.content,
            size: target.size,
            state: journey.state,
            since: journey.since,
            reached: match journey.state {
                // All of it, also where that is more than a journey can count.
                State::Delivered | State::Sent | State::Waiting | State::Confirmed
                    if journey.reached == capped(target.size) =>
                {
                    target.size
                }
                _ => u64::from(journey.reached),
            },
            outcome: journey.outcome,
            weak: journey.weak,
            by_proxy: journey.by_proxy,
            from: journey.from.as_str().into(),
        })
    }

    pub(super) fn text(&self, slot: u32, record: &Record) -> Box<str> {
        match record.text() {
            Some(digits) => digits.as_str().into(),
            None => self.texts.get(slot).unwrap_or_default().into(),
        }
    }

    /// Established devices from a slot on, for the journal: at most so many slots are looked at. Where
    /// to go on; `None`: that was all.
    pub fn records(&self, from: u64, most: usize) -> (Vec<JournalEntry>, Option<u64>) {
        let from = u32::try_from(from).unwrap_or(NONE);
        let most = u32::try_from(most).unwrap_or(NONE);
        let until = from.saturating_add(most).min(self.table.end());
        let slots = from..until;
        let established = |slot: &u32| {
            let record = self.table.get(*slot);
            record.is_some_and(|record| record.rank == Rank::Established)
        };
        let entries = slots
            .filter(established)
            .filter_map(|slot| self.entry(slot).map(JournalEntry::Device))
            .collect();
        (
            entries,
            (until < self.table.end()).then_some(u64::from(until)),
        )
    }

    /// A device of an earlier run. The last entry of a device is the one that counts.
    pub fn load(&mut self, entry: DeviceEntry) {
        let Some(project) = self.targets.intern_project(&entry.project) else {
            return;
        };
        let slot = match self.table.find(entry.device) {
            Some(slot) => slot,
            None => {
                let most = self.most_established();
                while self.table.len(Rank::Established) >= most {
                    // --max-devices is lower than it was.
                    let Some(oldest) = self.table.oldest(Rank::Established) else {
                        return;
                    };
                    self.forget(oldest);
                }
                let kind = Kind::of(entry.device, &entry.text);
                let record = Record::new(entry.device, kind, project, entry.first);
                let Some(slot) = self.table.insert(record, Rank::Established) else {
                    return;
                };
                self.targets.asks_for(None, Some(project));
                if kind == Kind::Other {
                    self.texts.insert(slot, entry.text);
                }
                slot
            }
        };
        let mut confirmed = [TargetId::NONE; 3];
        for (place, (project, version)) in confirmed.iter_mut().zip(&entry.confirmed) {
            let target = self.targets.confirmed_before(project, version, self.began);
            *place = target.unwrap_or(TargetId::NONE);
        }
        self.set_confirmed(slot, confirmed);
        self.ask_for(slot, project);
        if let Some(record) = self.table.get_mut(slot) {
            record.profile = self.profiles.replace(record.profile, entry.profile, false);
            record.version = ShortVersion::of(&entry.version);
            record.first = entry.first;
            record.last = entry.last;
            record.interval = entry.interval;
            if let Some(network) = entry.network {
                record.set_network(network);
            }
        }
        self.table.touch(slot, Rank::Established);
        let journey = entry.journey.and_then(|way| self.journey_of(way));
        self.put_journey(slot, journey);
    }

    fn journey_of(&mut self, entry: JourneyEntry) -> Option<Journey> {
        let project = self.targets.intern_project(&entry.project)?;
        let (content, size) = (entry.content, entry.size);
        let target = self
            .targets
            .intern(project, &entry.version, content, size, self.began)?;
        Some(Journey {
            target,
            state: entry.state,
            since: entry.since,
            reached: capped(entry.reached),
            outcome: entry.outcome,
            weak: entry.weak,
            by_proxy: entry.by_proxy,
            from: ShortVersion::of(&entry.from),
        })
    }

    /// It was forgotten in an earlier run.
    pub fn load_forgotten(&mut self, device: DeviceId) {
        if let Some(slot) = self.table.find(device) {
            self.forget(slot);
        }
    }

    /// A release of an earlier run.
    pub fn load_release(&mut self, entry: ReleaseEntry) {
        self.targets.load(entry, self.began);
    }

    /// The journal was read to its end; for so many seconds before this run nobody listened.
    pub fn loaded(&mut self, downtime: u32) {
        self.downtime = downtime;
        self.table.sort();
        for slot in 0..self.table.end() {
            let Some(journey) = self.table.get(slot).and_then(Record::journey) else {
                continue;
            };
            // What was said before a person resumed the release counts no more.
            let release = self
                .targets
                .get(journey.target)
                .and_then(|target| self.targets.release(target.project, &target.version));
            let resumed = release.and_then(|release| release.resumed);
            if resumed.is_some_and(|resumed| journey.since < resumed) && journey.outcome.is_some() {
                let after = Journey {
                    outcome: None,
                    ..journey
                };
                self.set_journey(slot, Some(after));
            }
        }
    }
}
