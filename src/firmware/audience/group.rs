//! Groups of devices: files `@NAME.txt` at the top of the firmware folder. `allow` and `deny` refer to them as `@NAME`.

use super::id::DeviceId;
use super::set::{DeviceList, DeviceSet, is_group_name};
use crate::firmware::plain;

/// Maximum length of a device name in characters. A longer name is cut.
const LONGEST_NAME: usize = 64;

/// A group: its devices, and the names of devices in its file.
#[derive(Debug, PartialEq, Eq)]
pub struct Group {
    /// Devices of the group: not empty, and without groups.
    pub devices: DeviceSet,
    /// Sorted by device, one entry per device, with the range of its name in `text`.
    names: Box<[(DeviceId, [u32; 2])]>,
    text: Box<str>,
}

impl Group {
    /// Maximum size of the file in bytes.
    pub const MAX_BYTES: u64 = 16 << 20;

    /// Parses the file (UTF-8; a BOM is ignored). Each line is empty or has an id or a range as in `allow`, and after a
    /// `#` the device's name. One bad line makes the whole file an error (a sentence): if the line were skipped, `deny`
    /// with this group would admit its device.
    pub fn parse(bytes: &[u8]) -> Result<Group, String> {
        let bytes = bytes.strip_prefix(b"\xef\xbb\xbf").unwrap_or(bytes);
        let lines = std::str::from_utf8(bytes)
            .map_err(|_| "the file is not UTF-8: save it again in that encoding".to_owned())?;
        let mut list = DeviceList::default();
        let (mut names, mut text) = (Vec::new(), String::new());
        for (index, line) in lines.lines().enumerate() {
            let (entry, name) = line.split_once('#').unwrap_or((line, ""));
            if entry.trim().is_empty() {
                continue;
            }
            let device = list
                .add(entry)
                .map_err(|why| format!("line {}: {why}", index.saturating_add(1)))?;
            let start = text.len();
            let visible = name.trim().chars().map(plain::visible);
            text.extend(visible.take(LONGEST_NAME));
            if let Some(device) = device
                && text.len() > start
            {
                let place = [start, text.len()].map(|at| u32::try_from(at).unwrap_or(u32::MAX));
                names.push((device, place));
            }
        }
        let devices = list.into_set();
        if devices.is_empty() {
            return Err("it names no device".to_owned());
        }
        // The sort is stable: of two names for a device the first is kept.
        names.sort_by_key(|(device, _)| *device);
        names.dedup_by_key(|(device, _)| *device);
        Ok(Group {
            devices,
            names: names.into(),
            text: text.into(),
        })
    }

    /// The name that the file gives a device.
    pub fn device_name(&self, device: DeviceId) -> Option<&str> {
        let at = self.names.binary_search_by_key(&device, |(id, _)| *id);
        let (_, [start, end]) = self.names.get(at.ok()?)?;
        self.text.get(*start as usize..*end as usize)
    }
}

/// Returns the group whose file has this name: `@pilot.txt` → `pilot`.
pub fn group_of_file(name: &str) -> Option<&str> {
    let name = name.strip_prefix('@')?.strip_suffix(".txt")?;
    is_group_name(name).then_some(name)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn id(text: &str) -> DeviceId {
        DeviceId::parse(text).unwrap()
    }

    #[test]
    fn a_line_is_an_id_or_a_range_with_a_name_or_nothing() {
        let text = "\u{feff}# pilot devices\r\n862991443753386 # pump 7, hall\u{3000}2\r\n\r\n  \n\
                    862991440000000-862991440000009 # a box\nA1B2C3D4E5F6\n862991443753386 # again\n\
                    sensor-7#\u{202e}x\n";
        let group = Group::parse(text.as_bytes()).unwrap();
        assert_eq!(group.devices.len(), 4);
        for device in [
            "862991443753386",
            "862991440000005",
            "a1b2c3d4e5f6",
            "sensor-7",
        ] {
            assert!(group.devices.contains(id(device)), "{device}");
        }
        assert_eq!(
            group.device_name(id("862991443753386")),
            Some("pump 7, hall 2")
        );
        assert_eq!(group.device_name(id("sensor-7")), Some("\u{fffd}x"));
        for device in ["862991440000005", "a1b2c3d4e5f6", "other"] {
            assert_eq!(group.device_name(id(device)), None, "{device}");
        }
    }

    #[test]
    fn a_group_with_one_bad_line_is_refused() {
        for (text, why) in [
            (&b""[..], "names no device"),
            (b"# nobody yet\n\n", "names no device"),
            (
                b"862991443753386\n@other\n",
                "line 2: `@other` is not a device",
            ),
            (
                b"\n862991443753386, pump\n",
                "line 2: `862991443753386, pump`",
            ),
            (b"862991440000009-862991440000000\n", "line 1: the range"),
            (b"\xff\xfe8\x006\x00", "not UTF-8"),
            (b"nil\n", "line 1"),
        ] {
            let error = Group::parse(text).unwrap_err();
            assert!(error.contains(why), "{error}");
        }
    }

    #[test]
    fn a_group_is_the_file_of_its_name() {
        let long = format!("@{}.txt", "x".repeat(65));
        for (file, group) in [
            ("@pilot.txt", Some("pilot")),
            ("@试点_1-a.txt", Some("试点_1-a")),
            ("@.txt", None),
            ("@a b.txt", None),
            ("@a.b.txt", None),
            ("@pilot.TXT", None),
            ("pilot.txt", None),
            (&long, None),
        ] {
            assert_eq!(group_of_file(file), group, "{file}");
        }
    }

    #[test]
    fn a_list_has_the_devices_of_its_groups_but_does_not_list_them_singly() {
        let file = Group::parse(b"862991443753386\n862991440000000-862991440000009\n").unwrap();
        let list = DeviceSet::parse(["sensor-7", "@pilot", "@lost", "@pilot"]).unwrap();
        assert!(!list.is_empty() && !list.contains(id("862991443753386")));
        let more = DeviceSet::parse(["@lost"]).unwrap();
        let find = |name: &str| (name == "pilot").then(|| file.devices.clone());
        let list = more.union(&list).with_groups(&find);
        for device in ["862991443753386", "862991440000003"] {
            assert!(
                list.contains(id(device)) && !list.lists_singly(id(device)),
                "{device}"
            );
            assert_eq!(list.group_of(id(device)), Some("pilot"));
        }
        assert!(list.lists_singly(id("sensor-7")) && list.group_of(id("sensor-7")).is_none());
        assert!(!list.contains(id("862991443753387")));
        let groups: Vec<_> = list.groups().collect();
        assert_eq!(groups, [("lost", 0), ("pilot", 2), ("lost", 0)]);
        assert_eq!(list.len(), 3);
    }

    #[test]
    fn a_wrong_group_reference_is_refused() {
        for (entry, why) in [
            ("@", "is not a group"),
            ("@a b", "`@a b` is not a group"),
            ("@a.txt", "@NAME"),
        ] {
            let error = DeviceSet::parse([entry]).unwrap_err();
            assert!(error.contains(why), "{error}");
        }
        let many: Vec<String> = (0..101).map(|n| format!("@g{n}")).collect();
        let error = DeviceSet::parse(many.iter().map(String::as_str)).unwrap_err();
        assert!(error.contains("100 groups"), "{error}");
    }
}
