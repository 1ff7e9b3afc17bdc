//! Sets of devices, with ranges of IMEIs.

use std::sync::Arc;

use super::id::{DeviceId, LONGEST_ID, imei, is_separator, trim_quotes};

/// A set of devices: single ids, IMEI ranges and groups. A lookup is a binary search. A clone shares the entries,
/// because each release of a project has those of the project.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct DeviceSet {
    /// Single ids, sorted, without duplicates. Includes those inside a range, because `lists_singly` needs them.
    pub(super) single: Arc<[DeviceId]>,
    /// Ranges with both ends inclusive; sorted, and no two overlap or touch.
    pub(super) ranges: Arc<[(u64, u64)]>,
    /// Entries of digits with a number of digits that no IMEI has, as written, and that number; at most
    /// [`MAX_SUSPICIOUS`].
    suspicious: Arc<[(Box<str>, usize)]>,
    /// Groups referred to as `@NAME`, without duplicates.
    groups: Arc<[NamedGroup]>,
    /// A further set whose devices belong to this set, too.
    pub(super) parent: Option<Arc<DeviceSet>>,
}

/// A group that a list refers to.
#[derive(Clone, Debug, PartialEq, Eq)]
struct NamedGroup {
    name: Box<str>,
    /// Devices of the group; `None` if the group cannot be used, so that it matches no device.
    devices: Option<DeviceSet>,
}

/// Number of entries that are kept for a warning.
const MAX_SUSPICIOUS: usize = 5;

/// Maximum length of a group name in characters.
const LONGEST_GROUP: usize = 64;

/// Maximum number of groups in one list, because each is searched separately.
const MAX_GROUPS: usize = 100;

impl DeviceSet {
    /// Parses the entries of `allow` or `deny`: an id, `FIRST-LAST` of two IMEIs (inclusive, 14..=17 digits each), or
    /// `@NAME` of a group, which has no devices before [`DeviceSet::with_groups`]. The error is a sentence that names
    /// the entry.
    pub fn parse<'a>(entries: impl IntoIterator<Item = &'a str>) -> Result<DeviceSet, String> {
        let mut list = DeviceList::default();
        let mut groups: Vec<NamedGroup> = Vec::new();
        for entry in entries {
            let Some(name) = entry.trim().strip_prefix('@') else {
                list.add(entry)?;
                continue;
            };
            if !is_group_name(name) {
                return Err(group_reference(name));
            }
            if groups.iter().all(|group| &*group.name != name) {
                groups.push(NamedGroup {
                    name: name.into(),
                    devices: None,
                });
            }
        }
        if groups.len() > MAX_GROUPS {
            return Err(format!("it names more than {MAX_GROUPS} groups: join some"));
        }
        Ok(DeviceSet {
            groups: groups.into(),
            ..list.into_set()
        })
    }

    /// Returns the set with the devices of its groups. `find` returns those of a group, or `None` if it cannot be used.
    pub fn with_groups(&self, find: &dyn Fn(&str) -> Option<DeviceSet>) -> DeviceSet {
        let groups = self.groups.iter().map(|group| NamedGroup {
            name: group.name.clone(),
            devices: find(&group.name),
        });
        let parent = self.parent.as_ref();
        DeviceSet {
            groups: groups.collect(),
            parent: parent.map(|parent| Arc::new(parent.with_groups(find))),
            ..self.clone()
        }
    }

    /// The groups of the set, each with its number of entries.
    pub fn groups(&self) -> impl Iterator<Item = (&str, usize)> {
        self.each_group().map(|group| {
            let count = group.devices.as_ref().map_or(0, DeviceSet::len);
            (&*group.name, count)
        })
    }

    /// The first group of the set that contains the device.
    pub fn group_of(&self, device: DeviceId) -> Option<&str> {
        let mut groups = self.each_group();
        let found = groups.find(|group| group.contains(device))?;
        Some(&found.name)
    }

    fn each_group(&self) -> impl Iterator<Item = &NamedGroup> {
        let mut set = Some(self);
        let sets = std::iter::from_fn(move || {
            let here = set?;
            set = here.parent.as_deref();
            Some(here)
        });
        sets.flat_map(|set| set.groups.iter())
    }

    /// The first few entries of digits that are no IMEI because of their number of digits, each with that number.
    pub fn suspicious(&self) -> impl Iterator<Item = (&str, usize)> {
        self.suspicious.iter().map(|(text, n)| (&**text, *n))
    }

    /// Sorts the entries and merges ranges that overlap or touch.
    fn of(mut single: Vec<DeviceId>, mut ranges: Vec<(u64, u64)>) -> DeviceSet {
        single.sort();
        single.dedup();
        ranges.sort();
        ranges.dedup_by(|next, kept| {
            let joined = next.0 <= kept.1.saturating_add(1);
            if joined {
                kept.1 = kept.1.max(next.1);
            }
            joined
        });
        DeviceSet {
            single: single.into(),
            ranges: ranges.into(),
            ..DeviceSet::default()
        }
    }

    /// Whether the set contains the device, as a single id, in a range or in a group.
    pub fn contains(&self, device: DeviceId) -> bool {
        let in_a_range = |imei: u64| {
            // The only range that can contain the IMEI is the last one that does not begin after it.
            let at = self.ranges.partition_point(|range| range.0 <= imei);
            at.checked_sub(1)
                .and_then(|last| self.ranges.get(last))
                .is_some_and(|range| imei <= range.1)
        };
        let is_here = match device {
            DeviceId::Imei(imei) if in_a_range(imei) => true,
            _ => self.single.binary_search(&device).is_ok(),
        };
        is_here
            || self.groups.iter().any(|group| group.contains(device))
            || self.parent.iter().any(|set| set.contains(device))
    }

    /// Whether the device is listed as a single id, not only in a group. Such a device may have the release regardless
    /// of `percent`.
    pub fn lists_singly(&self, device: DeviceId) -> bool {
        self.single.binary_search(&device).is_ok()
            || self.parent.iter().any(|set| set.lists_singly(device))
    }

    /// Whether both sets have the same entries because they share them.
    pub fn shares_all(&self, other: &DeviceSet) -> bool {
        fn shares<T>(one: &Arc<[T]>, other: &Arc<[T]>) -> bool {
            Arc::ptr_eq(one, other) || one.is_empty() && other.is_empty()
        }
        let shares_group = |(one, other): (&NamedGroup, &NamedGroup)| {
            let both = one.devices.as_ref().zip(other.devices.as_ref());
            both.is_some_and(|(one, other)| one.shares_all(other))
        };
        let has_same_parent = match (&self.parent, &other.parent) {
            (Some(one), Some(other)) => one.shares_all(other),
            (one, other) => one.is_none() && other.is_none(),
        };
        shares(&self.single, &other.single)
            && shares(&self.ranges, &other.ranges)
            && self.groups.len() == other.groups.len()
            && self
                .groups
                .iter()
                .zip(other.groups.iter())
                .all(shares_group)
            && has_same_parent
    }

    /// Returns the union of both sets. The entries of both are shared, not copied: the `deny` of a project may have a
    /// hundred thousand entries, and each of its releases a few more.
    pub fn union(&self, other: &DeviceSet) -> DeviceSet {
        if other.is_empty() {
            return self.clone();
        }
        if self.is_empty() {
            return other.clone();
        }
        let parent = match &self.parent {
            Some(parent) => parent.union(other),
            None => other.clone(),
        };
        DeviceSet {
            parent: Some(Arc::new(parent)),
            ..self.clone()
        }
    }

    /// Number of entries (single ids, and ranges after merging), including those of groups. After a
    /// [`DeviceSet::union`] an entry that is in both sets counts twice.
    pub fn len(&self) -> usize {
        let parent = self.parent.as_ref().map_or(0, |parent| parent.len());
        let groups = self.groups.iter();
        let groups = groups.filter_map(|group| Some(group.devices.as_ref()?.len()));
        let own = self.single.len().saturating_add(self.ranges.len());
        own.saturating_add(parent).saturating_add(groups.sum())
    }

    /// Whether there is no entry, not even a group.
    pub fn is_empty(&self) -> bool {
        self.len() == 0 && self.each_group().next().is_none()
    }
}

impl NamedGroup {
    fn contains(&self, device: DeviceId) -> bool {
        let devices = self.devices.as_ref();
        devices.is_some_and(|devices| devices.contains(device))
    }
}

/// Entries from which a [`DeviceSet`] is built.
#[derive(Default)]
pub(super) struct DeviceList {
    single: Vec<DeviceId>,
    ranges: Vec<(u64, u64)>,
    suspicious: Vec<(Box<str>, usize)>,
}

impl DeviceList {
    /// Adds an id or a range. Returns the id, if the entry is one.
    pub(super) fn add(&mut self, entry: &str) -> Result<Option<DeviceId>, String> {
        let entry = entry.trim();
        let read = one_entry(entry)?;
        if let Some(digits) = suspicious_digits(entry, &read)
            && self.suspicious.len() < MAX_SUSPICIOUS
        {
            self.suspicious.push((entry.into(), digits));
        }
        Ok(match read {
            IdEntry::Single(id) => {
                self.single.push(id);
                Some(id)
            }
            IdEntry::Range(first, last) => {
                self.ranges.push((first, last));
                None
            }
        })
    }

    pub(super) fn into_set(self) -> DeviceSet {
        DeviceSet {
            suspicious: self.suspicious.into(),
            ..DeviceSet::of(self.single, self.ranges)
        }
    }
}

/// One entry of `allow` or `deny`.
enum IdEntry {
    Single(DeviceId),
    Range(u64, u64),
}

/// Parses `862991443753386`, `862991440000000-862991449999999`, `A1B2C3D4E5F6` or any other id.
fn one_entry(entry: &str) -> Result<IdEntry, String> {
    let digits = |text: &str| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    if let Some((first, last)) = entry.split_once('-') {
        let (first, last) = (first.trim(), last.trim());
        if digits(first) && digits(last) {
            return range(entry, first, last);
        }
    }
    DeviceId::parse(entry).map(IdEntry::Single).ok_or_else(|| {
        // Only the beginning of a long entry is shown.
        let shown: String = entry.chars().take(LONGEST_ID).collect();
        format!(
            "`{}` is not a device: write an IMEI (15 digits), a range of two (`862991440000000-862991449999999`), \
             a MAC (12 hexadecimal digits) or another id of letters, digits, `_` and `-`",
            shown.escape_debug()
        )
    })
}

/// The number of digits of an entry of digits, if that number shows a mistake. An IMEI has 15 digits, or 16 with the
/// software version; 12 digits are a MAC.
fn suspicious_digits(text: &str, entry: &IdEntry) -> Option<usize> {
    let text = match entry {
        IdEntry::Single(_) => text,
        IdEntry::Range(..) => text.split('-').next()?,
    };
    let mut rest = trim_quotes(text).chars().filter(|c| !is_separator(*c));
    let digits = rest.try_fold(0_usize, |digits, c| {
        c.is_ascii_digit().then(|| digits.saturating_add(1))
    })?;
    matches!(digits, 13 | 14 | 17 | 18).then_some(digits)
}

/// Parses a range of two IMEIs of the same length. With a digit missing on one side, it would contain most IMEIs.
fn range(entry: &str, first: &str, last: &str) -> Result<IdEntry, String> {
    let shown: String = entry.chars().take(LONGEST_ID).collect();
    match (imei(first), imei(last)) {
        (Some(_), Some(_)) if first.len() != last.len() => Err(format!(
            "the range `{shown}` begins with {} digits and ends with {}: one of them has a digit too many \
             or too few",
            first.len(),
            last.len()
        )),
        (Some(from), Some(to)) if from > to => Err(format!(
            "the range `{shown}` ends before it begins: swap its two ends"
        )),
        (Some(from), Some(to)) => Ok(IdEntry::Range(from, to)),
        _ => Err(format!(
            "the range `{shown}` needs an IMEI of 14 to 17 digits on each side of the `-`, such as \
             `862991440000000-862991449999999`"
        )),
    }
}

/// Whether a group may have this name.
pub(super) fn is_group_name(name: &str) -> bool {
    let is_part = |c: char| c.is_alphanumeric() || matches!(c, '_' | '-');
    (1..=LONGEST_GROUP).contains(&name.chars().count()) && name.chars().all(is_part)
}

/// Returns the sentence about an `@` followed by a text that is no group name.
pub(super) fn group_reference(name: &str) -> String {
    let shown: String = name.chars().take(LONGEST_ID).collect();
    format!(
        "`@{}` is not a group: write `@NAME` for the file @NAME.txt at the top of the firmware folder, with a \
         name of letters, digits, `_` and `-`",
        shown.escape_debug()
    )
}
