//! `luat-ota devices`: lists the devices in the journal, as text or for other programs. The journal is only read, so a
//! server may be running.

use std::collections::HashMap;
use std::fmt::Write;
use std::io;
use std::path::Path;
use std::sync::Arc;
use std::time::Instant;

use super::CommandResult;
use super::args::ModuleQuery;
use super::check::table;
use super::requests::check_state_folder;
use crate::export::{DEVICE, Export, ExportFormat, device};
use crate::firmware::ContentId;
use crate::firmware::audience::DeviceId;
use crate::firmware::catalog::Groups;
use crate::fleet::clock::{self, Clock, Stamp, Wall};
use crate::fleet::entry::{DeviceEntry, GuardEntry, JournalEntry, ProgressEntry};
use crate::fleet::journal;
use crate::fleet::network::CoarseNetwork;
use crate::fleet::progress::State;
use crate::fleet::requester::IdentityHash;
use crate::fleet::view::Filter;
use crate::fleet::{Fleet, FleetSettings};
use crate::logging::{Civil, Printable};

/// Number of devices that are printed at a time.
const PAGE_SIZE: usize = 256;

const TITLES: [&str; 7] = [
    "DEVICE",
    "PROJECT",
    "VERSION",
    "LAST SEEN",
    "JOURNEY",
    "SINCE",
    "HELD",
];

/// Shows the devices in the journal of this state folder. `groups`: groups of the server's firmware folder.
pub(super) fn run(folder: &Path, groups: &Groups, query: &ModuleQuery) -> CommandResult {
    let clock = Clock::new(Instant::now());
    let wall = Wall {
        stamp: clock.stamp(Instant::now()),
        unix: clock::unix_now(),
    };
    check_state_folder(folder)?;
    let path = folder.join(journal::FILE);
    let mut list = DeviceList::default();
    let prefix = query.device.as_deref().unwrap_or_default();
    let loaded = journal::load(&path, wall.stamp, wall.unix, &mut |entry| {
        list.take(entry, prefix);
    })
    .map_err(|error| unreadable(&path, &error))?;
    check_format(&path, &loaded)?;
    let mut out = list.describe(wall, groups, prefix);
    if loaded.damaged > 0 {
        let _ = writeln!(out, "{} damaged lines were skipped.", loaded.damaged);
    }
    Ok((out, 0))
}

/// Prints the devices for other programs, as the API shows them, [`PAGE_SIZE`] at a time.
pub(super) fn export(
    folder: &Path,
    groups: Groups,
    query: &ModuleQuery,
    format: ExportFormat,
) -> CommandResult {
    check_state_folder(folder)?;
    let path = folder.join(journal::FILE);
    let (now, unix) = (Instant::now(), clock::unix_now());
    // The limit of the server may be larger than the default one.
    let settings = FleetSettings {
        max_devices: usize::MAX,
        ..FleetSettings::default()
    };
    let (mut fleet, loaded) =
        Fleet::read(settings, folder, now, unix).map_err(|error| unreadable(&path, &error))?;
    fleet.set_groups(Arc::new(groups));
    check_format(&path, &loaded)?;
    let filter = Filter {
        prefix: query.device.clone().unwrap_or_default(),
        ..Filter::default()
    };
    let mut rows = Export::new(format, "devices", DEVICE);
    let mut out = String::new();
    rows.begin(&mut out);
    let mut next = Some(0);
    while let Some(from) = next {
        let page = fleet.page(&filter, Some(from), PAGE_SIZE, now, unix);
        for view in &page.devices {
            rows.row(&mut out, &device(view));
        }
        super::print(&out);
        out.clear();
        next = page.next;
    }
    let damaged = ("damaged_lines", loaded.damaged.into());
    let matching = ("matching", rows.count.into());
    let total = ("total", fleet.devices().into());
    rows.end(&mut out, &[matching, total, damaged]);
    Ok((out, 0))
}

fn unreadable(path: &Path, error: &io::Error) -> String {
    let path = path.display();
    format!("the journal {path} cannot be read: {error}; run this as the server's user")
}

fn check_format(path: &Path, loaded: &journal::Loaded) -> Result<(), String> {
    match loaded.newer {
        None => Ok(()),
        Some(version) => Err(format!(
            "the journal {} has format {version} of a later luat-ota: show it with that version",
            path.display()
        )),
    }
}

/// Entries of the journal for the selected devices.
#[derive(Default)]
struct DeviceList {
    devices: HashMap<DeviceId, DeviceEntry>,
    guards: HashMap<(IdentityHash, CoarseNetwork, ContentId), GuardEntry>,
}

impl DeviceList {
    fn take(&mut self, entry: JournalEntry, prefix: &str) {
        match entry {
            JournalEntry::Device(device) => {
                if device.text.starts_with(prefix) {
                    self.devices.insert(device.device, device);
                }
            }
            JournalEntry::Forgotten(device) => {
                self.devices.remove(&device);
            }
            JournalEntry::Guard(guard) => {
                let key = (
                    guard.identity_without_version,
                    guard.coarse_network,
                    guard.content,
                );
                self.guards.insert(key, guard);
            }
            JournalEntry::Unguarded(identity_without_version, coarse_network) => {
                self.guards.retain(|(other, place, _), _| {
                    (*other, *place) != (identity_without_version, coarse_network)
                });
            }
            JournalEntry::Pin(_)
            | JournalEntry::Unpinned(..)
            | JournalEntry::Release(_)
            | JournalEntry::Stage(_)
            | JournalEntry::Sample(_)
            | JournalEntry::Change(_) => {}
        }
    }

    fn describe(self, wall: Wall, groups: &Groups, prefix: &str) -> String {
        if self.devices.is_empty() {
            return match prefix {
                "" => "No device is remembered.\n".to_owned(),
                _ => format!("No device is remembered whose id begins with {prefix}.\n"),
            };
        }
        // Time at which the last hold of each held device ends.
        let mut held: HashMap<DeviceId, Stamp> = HashMap::new();
        for guard in self.guards.values() {
            if let Some(until) = guard.held_until.filter(|until| *until > wall.stamp) {
                let longest = held.entry(guard.device).or_insert(until);
                *longest = until.max(*longest);
            }
        }
        let mut devices: Vec<DeviceEntry> = self.devices.into_values().collect();
        devices.sort_by(|a, b| a.text.cmp(&b.text));
        let titles = TITLES.map(str::to_owned);
        let rows = devices
            .iter()
            .map(|device| row(device, held.get(&device.device).copied(), wall, groups));
        let rows: Vec<_> = std::iter::once(titles).chain(rows).collect();
        let mut out = String::new();
        table(&mut out, &rows, None);
        let _ = match devices.len() {
            1 => writeln!(out, "1 device."),
            count => writeln!(out, "{count} devices."),
        };
        out
    }
}

fn row(device: &DeviceEntry, held: Option<Stamp>, wall: Wall, groups: &Groups) -> [String; 7] {
    let shown = |text: &str| match text {
        "" => "-".to_owned(),
        text => Printable(text).to_string(),
    };
    let time = |stamp: Stamp| {
        let unix = u64::try_from(wall.unix_of(stamp)).unwrap_or(0);
        format!("{}Z", Civil::of(unix))
    };
    let progress = device.progress.as_ref();
    let id = match groups.device_name(device.device) {
        Some(name) => format!("{} ({})", Printable(&device.text), Printable(name)),
        None => shown(&device.text),
    };
    [
        id,
        shown(&device.project),
        shown(&device.version),
        time(device.last),
        progress.map_or_else(|| "-".to_owned(), progress_text),
        progress.map_or_else(|| "-".to_owned(), |progress| time(progress.since)),
        held.map_or_else(|| "-".to_owned(), |until| format!("until {}", time(until))),
    ]
}

/// Formats the update progress of a device, such as `2.0.0 downloading 43 %`.
fn progress_text(progress: &ProgressEntry) -> String {
    let mut text = format!("{} {}", Printable(&progress.version), progress.state.word());
    if progress.state == State::Downloading {
        let hundred = u128::from(progress.reached).saturating_mul(100);
        let percent = hundred / u128::from(progress.size.max(1));
        let _ = write!(text, " {percent} %");
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::firmware::audience::Group;

    const WALL: Wall = Wall {
        stamp: Stamp(1 << 31),
        unix: 1_795_420_800,
    };

    fn device(text: &str) -> DeviceEntry {
        DeviceEntry {
            first: WALL.stamp.minus(100),
            ..DeviceEntry::new(
                DeviceId::parse(text).unwrap(),
                text,
                "P",
                "1.0.0",
                WALL.stamp,
            )
        }
    }

    #[test]
    fn a_device_is_a_line_with_its_progress_and_its_hold() {
        let mut list = DeviceList::default();
        let mut on_its_way = device("862991443753386");
        on_its_way.progress = Some(ProgressEntry {
            state: State::Downloading,
            reached: 439,
            ..ProgressEntry::new(
                "P",
                "2.0.0",
                ContentId([1; 32]),
                1000,
                "1.0.0",
                WALL.stamp.minus(60),
            )
        });
        list.take(JournalEntry::Device(device("862991443753386")), "");
        list.take(JournalEntry::Device(on_its_way), "");
        list.take(JournalEntry::Device(device("862991443750000")), "");
        list.take(JournalEntry::Device(device("sensor-7")), "");
        list.take(JournalEntry::Forgotten(device("sensor-7").device), "");
        let device = device("862991443750000").device;
        let key = (IdentityHash::of(device, &[]), CoarseNetwork(1));
        list.take(
            JournalEntry::Guard(GuardEntry {
                reverts: 3,
                level: 1,
                held_until: Some(WALL.stamp.plus(3600)),
                ..GuardEntry::new(device, key, ContentId([1; 32]), 1, WALL.stamp)
            }),
            "",
        );
        let group = Group::parse(b"sensor-7 # roof\n862991443753386 # pump 7\n").unwrap();
        let groups = Groups::new([("@pilot.txt".to_owned(), group)]);
        let text = list.describe(WALL, &groups, "");
        let lines: Vec<&str> = text.lines().collect();
        assert_eq!(lines.len(), 4, "{text}");
        let columns: Vec<&str> = lines[1].split_whitespace().collect();
        assert_eq!(columns[..2], ["862991443750000", "P"], "{text}");
        assert!(lines[1].ends_with("until 2026-11-23T09:00:00Z"), "{text}");
        assert!(
            lines[2].starts_with("862991443753386 (pump 7)  P"),
            "{text}"
        );
        assert!(lines[2].contains("2.0.0 downloading 43 %  2026-11-23T07:59:00Z"));
        assert_eq!(lines[3], "2 devices.");
    }

    #[test]
    fn only_devices_with_the_given_prefix_are_shown() {
        let mut list = DeviceList::default();
        list.take(JournalEntry::Device(device("862991443753386")), "8629");
        list.take(JournalEntry::Device(device("sensor-7")), "8629");
        assert_eq!(list.devices.len(), 1);
        let none = DeviceList::default().describe(WALL, &Groups::default(), "77");
        assert!(none.contains("begins with 77"), "{none}");
    }
}
