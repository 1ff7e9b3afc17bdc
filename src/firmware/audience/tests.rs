use std::sync::Arc;

use super::*;
use proptest::prelude::*;

fn set(entries: &[&str]) -> DeviceSet {
    DeviceSet::parse(entries.iter().copied()).unwrap()
}

fn id(text: &str) -> DeviceId {
    DeviceId::parse(text).unwrap()
}

#[test]
fn ids_are_classified_by_their_shape() {
    for (text, expected) in [
        ("862991443753386", DeviceId::Imei(862_991_443_753_386)),
        ("86299144375338", DeviceId::Imei(86_299_144_375_338)),
        ("86299144375338612", DeviceId::Imei(86_299_144_375_338_612)),
        ("a1B2c3D4e5F6", DeviceId::Mac(0xa1b2_c3d4_e5f6)),
        ("123456789012", DeviceId::Mac(0x1234_5678_9012)),
    ] {
        assert_eq!(DeviceId::parse(text), Some(expected), "{text}");
    }
    for text in ["1", "865", "sn_42-B", "0123456789ABCDEF", &"x".repeat(64)] {
        assert!(
            matches!(DeviceId::parse(text), Some(DeviceId::Other(_))),
            "{text}"
        );
    }
    // The hash is stored on disk and must never change.
    assert_eq!(id("sn_42-B"), DeviceId::Other(0xc65b_0ae1_cba3_da73));
}

// Cases 15, 16.
#[test]
fn surrounding_and_separating_characters_are_no_part_of_an_id() {
    for (text, expected, shown) in [
        ("a1:b2:c3:d4:e5:f6", "a1b2c3d4e5f6", "a1b2c3d4e5f6"),
        ("A1-B2-C3-D4-E5-F6", "a1b2c3d4e5f6", "a1b2c3d4e5f6"),
        ("A1B2.C3D4.E5F6", "a1b2c3d4e5f6", "a1b2c3d4e5f6"),
        ("\"A1 B2 C3 D4 E5 F6\"", "a1b2c3d4e5f6", "a1b2c3d4e5f6"),
        ("A1B2C3D4E5F6", "a1b2c3d4e5f6", "A1B2C3D4E5F6"),
        ("11-22-33-44-55-66", "112233445566", "112233445566"),
        ("\"862991443753386\"", "862991443753386", "862991443753386"),
        ("'862991443753386'", "862991443753386", "862991443753386"),
        ("“862991443753386”", "862991443753386", "862991443753386"),
        ("=\"862991443753386\"", "862991443753386", "862991443753386"),
        ("+862991443753386", "862991443753386", "862991443753386"),
        (
            "\"+862991443753386 \"",
            "862991443753386",
            "862991443753386",
        ),
        (" 862991443753386\r\n", "862991443753386", "862991443753386"),
        ("86 299144 375338 6", "862991443753386", "862991443753386"),
        ("86-299144-375338-6", "862991443753386", "862991443753386"),
        ("\" sn_42-B\"", "sn_42-B", "sn_42-B"),
        ("3042455331313a30", "3042455331313A30", "3042455331313A30"),
        (
            "30:42:45:53:31:31:3a:30",
            "3042455331313A30",
            "3042455331313A30",
        ),
    ] {
        let (read, text_read) = DeviceId::read(text).unwrap();
        assert_eq!((read, &*text_read), (id(expected), shown), "{text}");
    }
    // Not hexadecimal, so the case of its letters matters.
    assert_ne!(id("sensor-a"), id("SENSOR-A"));
}

#[test]
fn the_beginning_of_an_id_may_be_written_in_any_form() {
    for (text, prefix) in [
        ("a1:b2:c", "a1b2c"),
        ("A1-B2-", "A1B2"),
        (" \"8629914 4", "86299144"),
        ("+86", "86"),
        ("sn-4", "sn-4"),
        ("42-7", "427"),
        ("421-7", "421-7"),
        ("", ""),
    ] {
        assert_eq!(DeviceId::prefix(text), prefix, "{text}");
    }
}

// Case 17.
#[test]
fn a_text_that_means_none_is_no_id() {
    for text in [
        "nil",
        "NIL",
        "\"nil\"",
        " null ",
        "none",
        "undefined",
        "0",
        "000000000000",
        "000000000000000",
        "00:00:00:00:00:00",
        "00000000000000000000000000000000",
        "ffffffffffff",
        "FF-FF-FF-FF-FF-FF",
        "FFFFFFFFFFFFFFFF",
        "\"\"",
        "+",
        "--",
        "",
    ] {
        assert_eq!(DeviceId::read(text), None, "{text}");
        assert!(DeviceId::means_no_id(text), "{text}");
    }
    for text in ["862991443753386", "f", "nil-1", "../x"] {
        assert!(!DeviceId::means_no_id(text), "{text}");
    }
}

#[test]
fn an_id_of_raw_bytes_is_the_one_that_libfota2_sends() {
    let bytes = b"\x30\x42\x00\x53\x31\x31\x3a\xff";
    let (read, text) = DeviceId::of_raw_bytes(bytes).unwrap();
    assert_eq!(text, "3042005331313AFF");
    assert_eq!(read, id("3042005331313AFF"));
    assert_eq!(DeviceId::of_raw_bytes(&[0; 16]), None);
    assert_eq!(DeviceId::of_raw_bytes(&[0xff; 16]), None);
    assert_eq!(DeviceId::of_raw_bytes(b""), None);
    assert_eq!(DeviceId::of_raw_bytes(&[1; 33]), None);
}

// Case 18.
#[test]
fn an_entry_of_digits_that_is_no_imei_is_suspicious() {
    let suspicious = |entries: &[&str]| -> Vec<(String, usize)> {
        let set = set(entries);
        set.suspicious()
            .map(|(entry, digits)| (entry.to_owned(), digits))
            .collect()
    };
    assert_eq!(
        suspicious(&["86299144375338"]),
        [("86299144375338".to_owned(), 14)]
    );
    assert_eq!(suspicious(&["86299144000000-86299144999999"])[0].1, 14);
    assert_eq!(suspicious(&["8629914437533"])[0].1, 13);
    let good = [
        "862991443753386",
        "8629914437533861",
        "112233445566",
        "sn-42",
        "A1B2C3D4E5F6AB",
    ];
    assert_eq!(suspicious(&good), []);
}

#[test]
fn a_text_that_is_no_id_is_refused() {
    for text in [
        "",
        " ",
        "a b",
        "862991443753386.0",
        "8.62991443753386e+14",
        "a,b",
        "水表",
        "a\nb",
        "x=1",
        "a1:b2:c3:d4:e5",
        "a1:b2c3:d4e5:f6",
        &"x".repeat(65),
    ] {
        assert_eq!(DeviceId::parse(text), None, "{text}");
    }
}

#[test]
fn a_set_holds_its_single_ids_and_its_ranges() {
    let set = set(&[
        "862991440000000-862991449999999",
        "862991450000000 - 862991450000009",
        " 100000000000000 ",
        "A1B2C3D4E5F6",
        "sn-42",
    ]);
    for text in [
        "862991440000000",
        "862991449999999",
        "862991450000009",
        "100000000000000",
        "a1b2c3d4e5f6",
        "sn-42",
    ] {
        assert!(set.contains(id(text)), "{text}");
    }
    for text in [
        "862991439999999",
        "862991450000010",
        "100000000000001",
        "SN-42",
    ] {
        assert!(!set.contains(id(text)), "{text}");
    }
    // The two ranges touch and are merged.
    assert_eq!(set.len(), 4);
    assert!(!set.is_empty());
    assert!(DeviceSet::default().is_empty());
}

#[test]
fn only_a_single_entry_lists_a_device_singly() {
    let set = set(&["862991440000000-862991449999999", "862991440000007"]);
    assert!(set.lists_singly(id("862991440000007")));
    assert!(!set.lists_singly(id("862991440000008")));
    assert!(set.contains(id("862991440000008")));
}

#[test]
fn an_entry_that_cannot_be_read_is_named() {
    for (entry, part) in [
        ("8.62991E+14", "is not a device"),
        ("nil", "is not a device"),
        ("000000000000000", "is not a device"),
        ("", "is not a device"),
        ("862991449999999-862991440000000", "swap"),
        (
            "86299144000000-862991449999999",
            "14 digits and ends with 15",
        ),
        ("8629914-8629915", "14 to 17 digits"),
        ("水", "`水`"),
    ] {
        let sentence = DeviceSet::parse([entry]).unwrap_err();
        assert!(sentence.contains(part), "{entry}: {sentence}");
    }
}

#[test]
fn a_hundred_thousand_ranges_do_not_slow_a_look_up() {
    let entries: Vec<String> = (0..100_000u64)
        .map(|n| {
            let first = 862_000_000_000_000 + n * 100;
            format!("{first}-{}", first + 49)
        })
        .collect();
    let set = DeviceSet::parse(entries.iter().map(String::as_str)).unwrap();
    assert_eq!(set.len(), 100_000);
    let start = std::time::Instant::now();
    let mut inside = 0;
    for n in 0..100_000u64 {
        inside += u32::from(set.contains(DeviceId::Imei(862_000_000_000_000 + n * 25)));
    }
    // A linear search would take 10^10 steps.
    assert!(start.elapsed().as_secs() < 5);
    assert_eq!(inside, 50_000);
}

#[test]
fn a_union_has_the_devices_of_both() {
    let one = set(&["862991440000000-862991440000009", "sn1"]);
    let two = set(&["862991440000005-862991440000019", "sn2", "sn1"]);
    let both = one.union(&two);
    assert_eq!(both.len(), 5);
    for text in ["862991440000000", "862991440000019", "sn1", "sn2"] {
        assert!(both.contains(id(text)), "{text}");
    }
    assert!(both.lists_singly(id("sn2")) && !both.lists_singly(id("862991440000019")));
    assert!(!both.contains(id("862991440000020")) && !both.contains(id("sn3")));
    let three = both.union(&set(&["sn3"]));
    assert!(
        three.lists_singly(id("sn1"))
            && three.lists_singly(id("sn2"))
            && three.lists_singly(id("sn3"))
    );
    assert_eq!(one.union(&DeviceSet::default()), one);
    assert_eq!(DeviceSet::default().union(&one), one);
}

#[test]
fn a_union_shares_the_entries_of_both() {
    let (one, two) = (
        set(&["sn1"]),
        set(&["sn2", "862991440000000-862991440000009"]),
    );
    let both = one.union(&two);
    assert!(Arc::ptr_eq(&both.single, &one.single));
    let parent = both.parent.as_ref().unwrap();
    assert!(Arc::ptr_eq(&parent.single, &two.single) && Arc::ptr_eq(&parent.ranges, &two.ranges));
}

#[test]
fn a_cohort_never_changes() {
    let version = Version::parse("2.0.1").unwrap();
    // If a device left a rollout after an update of the server, that would be a bug. These numbers
    // must stay.
    for (project, device, expected) in [
        ("ALIYUN", "862991443753386", 2393),
        ("ALIYUN", "A1B2C3D4E5F6", 3496),
        ("水表", "862991443753386", 2564),
    ] {
        assert_eq!(cohort(project, version, id(device)), expected, "{device}");
    }
}

#[test]
fn ten_percent_are_about_ten_percent_and_not_the_same_for_each_release() {
    let [one, two] = ["2.0.1", "2.0.2"].map(|text| Version::parse(text).unwrap());
    let devices = || (0..20_000u64).map(|n| DeviceId::Imei(862_991_440_000_000 + n));
    let first = devices().filter(|&d| cohort("A", one, d) < 1000).count();
    assert!((1800..2200).contains(&first), "{first}");
    let both = devices()
        .filter(|&d| cohort("A", one, d) < 1000 && cohort("A", two, d) < 1000)
        .count();
    assert!((120..280).contains(&both), "{both}");
}

proptest! {
    #[test]
    fn no_text_panics(text in "\\PC*", more in "[0-9-]{0,40}") {
        let _ = DeviceId::parse(&text);
        let _ = DeviceSet::parse([text.as_str(), more.as_str()]);
    }

    #[test]
    fn an_imei_of_fifteen_digits_reads_back(number in 1u64..1_000_000_000_000_000) {
        let text = format!("{number:015}");
        prop_assert_eq!(DeviceId::parse(&text), Some(DeviceId::Imei(number)));
    }

    #[test]
    fn a_set_contains_what_a_list_would_contain(
        ranges in prop::collection::vec((0u64..200, 0u64..20), 0..20),
        probe in 0u64..240,
    ) {
        let base = 862_991_440_000_000u64;
        let entries: Vec<String> = ranges
            .iter()
            .map(|(from, more)| format!("{}-{}", base + from, base + from + more))
            .collect();
        let set = DeviceSet::parse(entries.iter().map(String::as_str)).unwrap();
        let expected = ranges.iter().any(|(from, more)| (*from..=from + more).contains(&probe));
        prop_assert_eq!(set.contains(DeviceId::Imei(base + probe)), expected);
        // The ranges are merged, sorted, and do not touch.
        prop_assert!(set.ranges.windows(2).all(|pair| pair[0].1 + 1 < pair[1].0));
    }

    #[test]
    fn a_smaller_cohort_is_part_of_a_larger_one(imei in 0u64..1_000_000_000_000_000) {
        let version = Version::parse("1.0").unwrap();
        prop_assert!(cohort("P", version, DeviceId::Imei(imei)) < 10_000);
    }
}
