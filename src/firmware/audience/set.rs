//! Sets of devices, with ranges of IMEIs.

use std::sync::Arc;

use super::id::{DeviceId, LONGEST_ID, bare, imei, is_separator};

/// A set of devices: single ids, IMEI ranges and groups. A look-up is a binary search. A clone shares the
/// entries: each release of a project has its project's.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct DeviceSet {
    /// Ids named singly, sorted, each once; those inside a range too, because `names` asks for them.
    pub(super) single: Arc<[DeviceId]>,
    /// Both ends inclusive; sorted, and no two touch.
    pub(super) ranges: Arc<[(u64, u64)]>,
    /// Entries that no IMEI looks like, as they are written, and how many digits they have; the first
    /// [`ODD`] of them.
    odd: Arc<[(Box<str>, usize)]>,
    /// Groups named as `@NAME`, each once.
    groups: Arc<[NamedGroup]>,
    /// Those of another set too.
    pub(super) more: Option<Arc<DeviceSet>>,
}

/// A group that a list names.
#[derive(Clone, Debug, PartialEq, Eq)]
struct NamedGroup {
    name: Box<str>,
    /// Its devices; `None`: it cannot be used, and matches none.
    devices: Option<DeviceSet>,
}

/// Entries that are remembered for a warning.
const ODD: usize = 5;

/// The longest name of a group, in characters.
const LONGEST_GROUP: usize = 64;

/// Most groups that one list names: each is looked up on its own.
const MOST_GROUPS: usize = 100;

impl DeviceSet {
    /// Reads the entries of `allow` or `deny`: an id, `FIRST-LAST` of two IMEIs (inclusive, 14..=17
    /// digits each), or `@NAME` of a group, which has no devices before [`DeviceSet::with_groups`]. The error is a
    /// sentence that names the entry.
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
        if groups.len() > MOST_GROUPS {
            return Err(format!(
                "it names more than {MOST_GROUPS} groups: join some"
            ));
        }
        Ok(DeviceSet {
            groups: groups.into(),
            ..list.into_set()
        })
    }

    /// The same with the devices of its groups. `find`: those of a group; `None`: it cannot be used.
    pub fn with_groups(&self, find: &dyn Fn(&str) -> Option<DeviceSet>) -> DeviceSet {
        let groups = self.groups.iter().map(|group| NamedGroup {
            name: group.name.clone(),
            devices: find(&group.name),
        });
        let more = self.more.as_ref();
        DeviceSet {
            groups: groups.collect(),
            more: more.map(|more| Arc::new(more.with_groups(find))),
            ..self.clone()
        }
    }

    /// Its groups, each with the number of its entries.
    pub fn groups(&self) -> impl Iterator<Item = (&str, usize)> {
        self.each_group().map(|group| {
            let count = group.devices.as_ref().map_or(0, DeviceSet::len);
            (&*group.name, count)
        })
    }

    /// The first of its groups that has the device.
    pub fn group_of(&self, device: DeviceId) -> Option<&str> {
        let mut groups = self.each_group();
        let found = groups.find(|group| group.contains(device))?;
        Some(&found.name)
    }

    fn each_group(&self) -> impl Iterator<Item = &NamedGroup> {
        let mut set = Some(self);
        let sets = std::iter::from_fn(move || {
            let here = set?;
            set = here.more.as_deref();
            Some(here)
        });
        sets.flat_map(|set| set.groups.iter())
    }

    /// The first few entries of digits that are no IMEI by their number, and that number.
    pub fn odd(&self) -> impl Iterator<Item = (&str, usize)> {
        self.odd.iter().map(|(entry, digits)| (&**entry, *digits))
    }

    /// Sorts, and merges what overlaps or touches.
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

    /// Is the device in the set, singly, by a range or by a group?
    pub fn contains(&self, device: DeviceId) -> bool {
        let in_a_range = |imei: u64| {
            // The only range that can hold it is the last that begins at or before it.
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
            || self.more.as_ref().is_some_and(|more| more.contains(device))
    }

    /// Is the device named singly, and not only by a group? (Such a one is in whatever `percent` says.)
    pub fn names(&self, device: DeviceId) -> bool {
        self.single.binary_search(&device).is_ok()
            || self.more.as_ref().is_some_and(|more| more.names(device))
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
        let is_same_rest = match (&self.more, &other.more) {
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
            && is_same_rest
    }

    /// Both sets in one. The entries of both are shared, not copied: a project's `deny` may have a
    /// hundred thousand, and each of its releases a few of its own.
    pub fn union(&self, other: &DeviceSet) -> DeviceSet {
        if other.is_empty() {
            return self.clone();
        }
        if self.is_empty() {
            return other.clone();
        }
        let more = match &self.more {
            Some(more) => more.union(other),
            None => other.clone(),
        };
        DeviceSet {
            more: Some(Arc::new(more)),
            ..self.clone()
        }
    }

    /// How many entries (single ids and ranges, after merging) there are, those of groups included. After a
    /// [`DeviceSet::union`] those of both sets; what is in both counts twice.
    pub fn len(&self) -> usize {
        let more = self.more.as_ref().map_or(0, |more| more.len());
        let groups = self.groups.iter();
        let groups = groups.filter_map(|group| Some(group.devices.as_ref()?.len()));
        let own = self.single.len().saturating_add(self.ranges.len());
        own.saturating_add(more).saturating_add(groups.sum())
    }

    /// No entry at all, not even a group.
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

/// Entries that become a [`DeviceSet`].
#[derive(Default)]
pub(super) struct DeviceList {
    single: Vec<DeviceId>,
    ranges: Vec<(u64, u64)>,
    odd: Vec<(Box<str>, usize)>,
}

impl DeviceList {
    /// Adds an id or a range. Returns the id.
    pub(super) fn add(&mut self, entry: &str) -> Result<Option<DeviceId>, String> {
        let entry = entry.trim();
        let read = one_entry(entry)?;
        if let Some(digits) = odd_digits(entry, &read)
            && self.odd.len() < ODD
        {
            self.odd.push((entry.into(), digits));
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
            odd: self.odd.into(),
            ..DeviceSet::of(self.single, self.ranges)
        }
    }
}

/// One entry of `allow` or `deny`.
enum IdEntry {
    Single(DeviceId),
    Range(u64, u64),
}

/// `862991443753386`, `862991440000000-862991449999999`, `A1B2C3D4E5F6`, any other id.
fn one_entry(entry: &str) -> Result<IdEntry, String> {
    let digits = |text: &str| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    if let Some((first, last)) = entry.split_once('-') {
        let (first, last) = (first.trim(), last.trim());
        if digits(first) && digits(last) {
            return range(entry, first, last);
        }
    }
    DeviceId::parse(entry).map(IdEntry::Single).ok_or_else(|| {
        // A long entry is shown by its beginning.
        let shown: String = entry.chars().take(LONGEST_ID).collect();
        format!(
            "`{}` is no device: write an IMEI (15 digits), a range of two (`862991440000000-862991449999999`), \
             a MAC (12 hexadecimal digits) or another id of letters, digits, `_` and `-`",
            shown.escape_debug()
        )
    })
}

/// How many digits an entry of digits has, if no IMEI has so many: 15, or 16 with the version of the software.
/// (Twelve are a MAC.)
fn odd_digits(text: &str, entry: &IdEntry) -> Option<usize> {
    let text = match entry {
        IdEntry::Single(_) => text,
        IdEntry::Range(..) => text.split('-').next()?,
    };
    let mut rest = bare(text).chars().filter(|c| !is_separator(*c));
    let digits = rest.try_fold(0_usize, |digits, c| {
        c.is_ascii_digit().then(|| digits.saturating_add(1))
    })?;
    matches!(digits, 13 | 14 | 17 | 18).then_some(digits)
}

/// Two IMEIs, of the same length: a digit lost on one side would let in nine tenths of the world.
fn range(entry: &str, first: &str, last: &str) -> Result<IdEntry, String> {
    let shown: String = entry.chars().take(LONGEST_ID).collect();
    match (imei(first), imei(last)) {
        (Some(_), Some(_)) if first.len() != last.len() => Err(format!(
            "the range `{shown}` begins with {} digits and ends with {}: one of the two has lost or won a \
             digit",
            first.len(),
            last.len()
        )),
        (Some(from), Some(to)) if from > to => Err(format!(
            "the range `{shown}` ends before it begins: exchange its two ends"
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

/// The sentence for `@` and a text that is no name of a group.
pub(super) fn group_reference(name: &str) -> String {
    let shown: String = name.chars().take(LONGEST_ID).collect();
    format!(
        "`@{}` is no group: write `@NAME` for the file @NAME.txt at the top of the firmware folder, with a \
         name of letters, digits, `_` and `-`",
        shown.escape_debug()
    )
}
