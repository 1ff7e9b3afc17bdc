//! Search for devices: those that pass a filter, their number, and the first ones in an order. The search runs in
//! slices, so that a check never waits for a search through a large fleet.

use std::collections::BTreeSet;

use super::Devices;
use super::record::DeviceRecord;
use super::views::MAX_EXAMINED;
use crate::firmware::audience::DeviceId;
use crate::firmware::version::Version;
use crate::fleet::progress::{State, TargetId};
use crate::fleet::releases::ProjectId;
use crate::fleet::short_version::ShortVersion;
use crate::fleet::view::Filter;

/// Number of bytes by which devices are ordered. Only the beginning of a longer text counts.
const KEY_SIZE: usize = 24;

/// Columns by which devices can be ordered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DeviceColumn {
    /// The id, as the device writes it.
    Id,
    /// The project.
    Project,
    /// The version that the device runs, in numeric order.
    Version,
    /// The platform.
    Platform,
    /// State of the update, in the order of [`State::ALL`], followed by devices that were offered nothing.
    State,
    /// Time at which the device was first seen.
    FirstSeen,
    /// Time at which the device was last seen.
    LastSeen,
}

impl DeviceColumn {
    /// Returns the column of this name in the API.
    pub fn of_word(word: &str) -> Option<DeviceColumn> {
        Some(match word {
            "id" => DeviceColumn::Id,
            "project" => DeviceColumn::Project,
            "version" => DeviceColumn::Version,
            "platform" => DeviceColumn::Platform,
            "state" => DeviceColumn::State,
            "first_seen" => DeviceColumn::FirstSeen,
            "last_seen" => DeviceColumn::LastSeen,
            _ => return None,
        })
    }
}

/// Order of devices; `None`: the order of their slots.
pub type DeviceOrder = Option<(DeviceColumn, IsDescending)>;

/// Whether the order is descending.
pub type IsDescending = bool;

/// Place of a device in an order: its key and its slot.
pub type DevicePlace = ([u8; KEY_SIZE], u32);

/// A search in progress.
#[derive(Debug)]
pub struct DeviceSearch {
    filter: Filter,
    order: DeviceOrder,
    after: Option<DevicePlace>,
    most: usize,
    /// Slot at which the next slice begins.
    from: u32,
    /// Number of devices that have passed the filter so far.
    pub matching: usize,
    /// The first of these devices after `after`, at most `most` + 1.
    found: BTreeSet<DevicePlace>,
}

impl DeviceSearch {
    /// Creates a search for the first `most` devices after a place.
    pub fn new(
        filter: Filter,
        order: DeviceOrder,
        after: Option<DevicePlace>,
        most: usize,
    ) -> DeviceSearch {
        DeviceSearch {
            filter,
            order,
            after,
            most,
            from: 0,
            matching: 0,
            found: BTreeSet::new(),
        }
    }

    /// Returns the slots of the devices that were found, in order, and the place of the last one if others follow.
    pub fn found(&self) -> (Vec<u32>, Option<DevicePlace>) {
        let has_more = self.found.len() > self.most;
        let shown = self.found.iter().take(self.most);
        let next = shown.clone().next_back().copied().filter(|_| has_more);
        (shown.map(|(_, slot)| *slot).collect(), next)
    }

    fn add(&mut self, place: DevicePlace) {
        self.matching += 1;
        let is_late = self.found.len() > self.most && self.found.last() < Some(&place);
        if is_late || self.after.is_some_and(|after| place <= after) {
            return;
        }
        self.found.insert(place);
        if self.found.len() > self.most.saturating_add(1) {
            self.found.pop_last();
        }
    }
}

/// A filter resolved to the ids of the tables, for one slice.
pub(super) struct ResolvedFilter<'f> {
    filter: &'f Filter,
    project: Option<ProjectId>,
    version: Option<ShortVersion>,
    targets: Option<Vec<TargetId>>,
    /// The search text in lower case.
    search: String,
}

impl Devices {
    /// Examines the next slice. Returns whether slices are left. `held` returns whether the loop guard holds a device.
    pub fn search(&self, search: &mut DeviceSearch, held: impl Fn(DeviceId) -> bool) -> bool {
        let filter = std::mem::take(&mut search.filter);
        if let Some(resolved) = self.resolve(&filter) {
            let until = search.from.saturating_add(MAX_EXAMINED);
            let slice = self.table.from(search.from);
            for (slot, record) in slice.take_while(|(slot, _)| *slot < until) {
                if self.passes(slot, record, &resolved, &held) {
                    search.add((self.key(slot, record, search.order), slot));
                }
            }
            search.from = until;
        } else {
            search.from = u32::MAX;
        }
        search.filter = filter;
        search.from < self.table.end()
    }

    /// Resolves a filter; `None` if no device can pass.
    pub(super) fn resolve<'f>(&self, filter: &'f Filter) -> Option<ResolvedFilter<'f>> {
        let project = match filter.project.as_deref() {
            // A project that no device has asked for has no devices.
            Some(name) => Some(self.releases.project_id(name)?),
            None => None,
        };
        let targets = filter.to.as_deref().map(|to| {
            let of_release = self.releases.iter().filter(|(_, target)| {
                &*target.version == to && project.is_none_or(|project| target.project == project)
            });
            of_release.map(|(id, _)| id).collect()
        });
        Some(ResolvedFilter {
            filter,
            project,
            version: filter.version.as_deref().map(ShortVersion::of),
            targets,
            search: filter.search.to_lowercase(),
        })
    }

    /// Whether a device passes a filter.
    pub(super) fn passes(
        &self,
        slot: u32,
        record: &DeviceRecord,
        resolved: &ResolvedFilter<'_>,
        held: impl Fn(DeviceId) -> bool,
    ) -> bool {
        let filter = resolved.filter;
        resolved
            .project
            .is_none_or(|project| record.project == project)
            && resolved
                .version
                .is_none_or(|version| record.version == version)
            && is_in_state(record, resolved)
            && self.matches_text(slot, record, resolved)
            && filter.platform.as_ref().is_none_or(|platform| {
                self.profiles
                    .platform(record.profile)
                    .eq_ignore_ascii_case(platform)
            })
            && (!filter.held || held(record.device))
    }

    /// Whether the device's id or name matches the filter.
    fn matches_text(
        &self,
        slot: u32,
        record: &DeviceRecord,
        resolved: &ResolvedFilter<'_>,
    ) -> bool {
        let filter = resolved.filter;
        let (prefix, search) = (filter.prefix.as_bytes(), filter.search.as_bytes());
        if prefix.is_empty() && search.is_empty() {
            return true;
        }
        let text = self.table.text(slot, record);
        let text = text.as_bytes();
        // A MAC may be written in lower case, and is shown in upper case.
        let begins = text.get(..prefix.len()).is_some_and(|beginning| {
            beginning == prefix
                || matches!(record.device, DeviceId::Mac(_))
                    && beginning.eq_ignore_ascii_case(prefix)
        });
        let has_part = || {
            let end = text.len().saturating_sub(search.len());
            let parts = [text.get(..search.len()), text.get(end..)];
            let mut parts = parts.into_iter().flatten();
            parts.any(|part| part.eq_ignore_ascii_case(search))
        };
        let is_named = || {
            let names = filter.names.as_deref();
            let name = names.and_then(|names| names.device_name(record.device));
            name.is_some_and(|name| name.to_lowercase().contains(&resolved.search))
        };
        begins && (search.is_empty() || has_part() || is_named())
    }

    fn key(&self, slot: u32, record: &DeviceRecord, order: DeviceOrder) -> [u8; KEY_SIZE] {
        let mut key = [0; KEY_SIZE];
        let Some((column, is_descending)) = order else {
            return key;
        };
        match column {
            DeviceColumn::Id => copy(&mut key, self.table.text(slot, record).as_bytes()),
            DeviceColumn::Project => {
                let project = self.releases.project(record.project);
                copy(
                    &mut key,
                    project.map_or("", |project| &project.name).as_bytes(),
                );
            }
            DeviceColumn::Version => version_key(&mut key, record.version.as_str()),
            DeviceColumn::Platform => {
                copy(&mut key, self.profiles.platform(record.profile).as_bytes())
            }
            DeviceColumn::State => {
                let state = record.progress.map(|progress| progress.state as u8);
                copy(&mut key, &[state.unwrap_or(u8::MAX)]);
            }
            DeviceColumn::FirstSeen => copy(&mut key, &record.first.0.to_be_bytes()),
            DeviceColumn::LastSeen => copy(&mut key, &record.last.0.to_be_bytes()),
        }
        if is_descending {
            key = key.map(|byte| !byte);
        }
        key
    }
}

/// Whether the device's state is the wanted one. A device that was confirmed with a release and is now on its way to
/// another one also counts as confirmed with the first one.
fn is_in_state(record: &DeviceRecord, resolved: &ResolvedFilter<'_>) -> bool {
    let state = resolved.filter.state;
    let is_wanted = |found: State| state.is_none_or(|state| state == found);
    let Some(targets) = &resolved.targets else {
        return state.is_none()
            || record
                .progress
                .is_some_and(|progress| is_wanted(progress.state));
    };
    let is_on = record
        .progress
        .is_some_and(|progress| targets.contains(&progress.target) && is_wanted(progress.state));
    let was_confirmed = || record.confirmed.iter().any(|id| targets.contains(id));
    is_on || is_wanted(State::Confirmed) && was_confirmed()
}

fn copy(key: &mut [u8], bytes: &[u8]) {
    for (to, from) in key.iter_mut().zip(bytes) {
        *to = *from;
    }
}

/// Writes a key that sorts numeric versions by their numbers, before all other versions.
fn version_key(key: &mut [u8; KEY_SIZE], text: &str) {
    let [kind, rest @ ..] = key;
    match Version::parse(text) {
        Some(version) => {
            let fields = version.fields().map(u32::to_be_bytes);
            copy(rest, fields.as_flattened());
        }
        None => {
            *kind = 1;
            copy(rest, text.as_bytes());
        }
    }
}
