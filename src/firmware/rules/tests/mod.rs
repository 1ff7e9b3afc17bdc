use super::*;
use crate::firmware::audience::DeviceId;
use proptest::prelude::*;
use std::borrow::Cow;

mod stages;

fn read(json: &str) -> Rules {
    Rules::parse(json.as_bytes()).unwrap_or_else(|error| panic!("{json}: {error}"))
}

fn v(text: &str) -> Version {
    Version::parse(text).unwrap()
}

fn id(text: &str) -> DeviceId {
    DeviceId::parse(text).unwrap()
}

/// Asserts that the error for this file contains each of these parts.
fn refused(json: &str, parts: &[&str]) {
    let sentence = Rules::parse(json.as_bytes()).expect_err(json);
    for part in parts {
        assert!(sentence.contains(part), "{json}: {sentence}");
    }
}

#[test]
fn every_key_of_the_documentation_is_read() {
    let rules = read(
        r#"{ "paused": false, "percent": 10,
             "allow": ["862991443753386", "862991440000000-862991449999999"], "deny": [],
             "from": "1.9.0-2.0.0", "firmware_name": ["ALIYUN_Luat_V0017_ASR1802"], "base_core": 2008,
             "not_before": "2026-12-01T02:00:00+08:00", "window": "01:00-05:00+08:00",
             "project_key": "k", "redirect": "https://cdn.example.com/{project}/{version}/{file}",
             "direct": false, "allow_downgrade": false, "any_version": true, "any_core": false,
             "fuse": { "devices": 3, "percent": 20 }, "reboot_within": "12h" }"#,
    );
    let allow = rules.allow.clone().unwrap();
    assert!(allow.lists_singly(id("862991443753386")));
    assert!(allow.contains(id("862991440000001")));
    assert!(rules.deny.clone().unwrap().is_empty());
    let expected = Rules {
        digest: FileDigest::default(),
        paused: Some(Paused::No),
        percent: Some(10.0),
        stages: None,
        allow: rules.allow.clone(),
        deny: rules.deny.clone(),
        from: Some(FromVersions::Range(v("1.9.0"), v("2.0.0"))),
        firmware_name: Some(vec!["ALIYUN_Luat_V0017_ASR1802".to_owned()]),
        base_core: Some(2008),
        not_before: Some(1_796_061_600),
        window: Some(Window {
            start: 60,
            end: 300,
            offset: 480,
        }),
        project_key: Some("k".to_owned()),
        redirect: Some(Redirect(
            "https://cdn.example.com/{project}/{version}/{file}".to_owned(),
        )),
        direct: Some(false),
        allow_downgrade: Some(false),
        any_version: Some(true),
        any_core: Some(false),
        fuse: Some(FuseLimits {
            devices: 3,
            percent: 20.0,
        }),
        reboot_within: Some(12 * 3600),
    };
    assert_eq!(rules, expected);
}

#[test]
fn no_key_is_no_rule() {
    assert_eq!(read("{}"), Rules::default());
    assert_eq!(read("\u{feff} { } \n"), Rules::default());
}

#[test]
fn the_other_forms_of_values_are_read() {
    assert_eq!(read(r#"{"paused":true}"#).paused, Some(Paused::Yes));
    assert_eq!(
        read(r#"{"paused":" 等待测试 "}"#).paused,
        Some(Paused::Because("等待测试".to_owned()))
    );
    assert_eq!(read(r#"{"percent":0.5}"#).percent, Some(0.5));
    assert_eq!(read(r#"{"percent":100}"#).percent, Some(100.0));
    assert_eq!(
        read(r#"{"from":"v1.9"}"#).from,
        Some(FromVersions::One(v("1.9.0")))
    );
    assert_eq!(
        read(r#"{"from":"1.9 - 2.0"}"#).from,
        Some(FromVersions::Range(v("1.9"), v("2")))
    );
    assert_eq!(
        read(r#"{"from":["factory","1.0-beta"]}"#).from,
        Some(FromVersions::Texts(vec![
            "factory".to_owned(),
            "1.0-beta".to_owned()
        ]))
    );
}

#[test]
fn the_error_for_an_unknown_key_names_the_nearest_known_key() {
    for (key, nearest) in [
        ("percnt", "percent"),
        ("Percent", "percent"),
        ("pasued", "paused"),
        ("alow", "allow"),
        ("denny", "deny"),
        ("imei", "deny"),
        ("notbefore", "not_before"),
        ("any-version", "any_version"),
        ("anycore", "any_core"),
        ("downgrade", "allow_downgrade"),
        ("firmware", "firmware_name"),
        ("", "from"),
    ] {
        let json = format!("{{\"{key}\": 1}}");
        let sentence = Rules::parse(json.as_bytes()).unwrap_err();
        assert!(sentence.contains(&format!("no key `{key}`")), "{sentence}");
        // If no key is similar to the word, the error may name any known key.
        if !["imei", ""].contains(&key) {
            assert!(sentence.ends_with(&format!("`{nearest}`")), "{sentence}");
        }
    }
    refused(
        r#"{"fuse":{"device":1,"percent":1}}"#,
        &["`fuse`", "`device`", "`devices`"],
    );
}

#[test]
fn the_error_for_a_wrong_value_states_what_it_must_be() {
    for (json, parts) in [
        (r#"{"paused":1}"#, &["`paused` is 1", "true, false"][..]),
        (r#"{"paused":""}"#, &["`paused`", "sentence"]),
        (r#"{"paused":"a\nb"}"#, &["`paused`", "one line"]),
        (r#"{"paused":null}"#, &["`paused` is null"]),
        (
            r#"{"percent":"10%"}"#,
            &["`percent` is \"10%\"", "without quotes"],
        ),
        (r#"{"percent":101}"#, &["0 to 100"]),
        (r#"{"percent":-0.1}"#, &["0 to 100"]),
        (r#"{"allow":"862991443753386"}"#, &["`allow`", "brackets"]),
        (
            r#"{"allow":["862991443753386",862991443753387]}"#,
            &["`allow[1]` is 862991443753387", "quotes"],
        ),
        (
            r#"{"deny":["862991449999999-862991440000000"]}"#,
            &["`deny`", "swap"],
        ),
        (r#"{"deny":["a b"]}"#, &["`deny`", "`a b`"]),
        (r#"{"from":1.9}"#, &["`from` is 1.9", "factory"]),
        (r#"{"from":"factory"}"#, &["`from`", "[\"factory\"]"]),
        (r#"{"from":"1.0-beta"}"#, &["`from`", "list of exact"]),
        (r#"{"from":"2.0-1.9"}"#, &["`from`", "swap"]),
        (r#"{"from":[1]}"#, &["`from[0]` is 1"]),
        (r#"{"firmware_name":"X"}"#, &["`firmware_name`", "brackets"]),
        (
            r#"{"base_core":"2008"}"#,
            &["`base_core`", "without quotes"],
        ),
        (r#"{"base_core":2008.5}"#, &["`base_core`"]),
        (r#"{"base_core":0}"#, &["`base_core`"]),
        (
            r#"{"not_before":"2026-12-01"}"#,
            &["`not_before`", "+08:00"],
        ),
        (
            r#"{"not_before":"2026-12-01T02:00:00"}"#,
            &["`not_before`", "offset"],
        ),
        (r#"{"not_before":1764525600}"#, &["`not_before`", "text"]),
        (r#"{"window":"01:00-05:00"}"#, &["`window`", "offset"]),
        (
            r#"{"window":"01:00-01:00Z"}"#,
            &["`window`", "leave the key out"],
        ),
        (r#"{"project_key":""}"#, &["`project_key`"]),
        (r#"{"redirect":"/x"}"#, &["`redirect`", "http://"]),
        (r#"{"direct":"yes"}"#, &["`direct`", "true or false"]),
        (r#"{"any_core":1}"#, &["`any_core`"]),
        (r#"{"fuse":true}"#, &["`fuse`", "devices"]),
        (r#"{"fuse":{"devices":3}}"#, &["`fuse`", "both"]),
        (
            r#"{"fuse":{"devices":-1,"percent":20}}"#,
            &["`fuse.devices` is -1"],
        ),
        (
            r#"{"fuse":{"devices":1,"percent":200}}"#,
            &["`fuse.percent` is 200"],
        ),
    ] {
        refused(json, parts);
    }
}

#[test]
fn a_text_that_is_no_json_object_is_refused_with_its_line() {
    refused("", &["empty"]);
    refused(" \n", &["empty"]);
    refused("[]", &["object"]);
    refused("{\n\"percent\": 10,\n}", &["not valid JSON", "line 3"]);
    refused("{\"percent\": 10} x", &["not valid JSON"]);
    refused(&"[".repeat(100_000), &["not valid JSON"]);
    let gbk = Rules::parse(b"{\"paused\": \"\xc4\xfa\"}").unwrap_err();
    assert!(gbk.contains("UTF-8"), "{gbk}");
    let long = Rules::parse(&vec![b' '; (16 << 20) + 1]).unwrap_err();
    assert!(long.contains("16 MiB"), "{long}");
    // Only the beginning of a long value is shown.
    let sentence =
        Rules::parse(format!("{{\"direct\": \"{}\"}}", "水".repeat(1000)).as_bytes()).unwrap_err();
    assert!(sentence.chars().count() < 200, "{sentence}");
}

#[test]
fn a_releases_rules_win_key_by_key_but_deny_of_both_counts() {
    let project = read(r#"{"percent":5,"paused":true,"allow":["1"],"deny":["a"],"base_core":7}"#);
    let release = read(r#"{"paused":false,"allow":["2"],"deny":["b"],"direct":true}"#);
    let merged = release.over(&project);
    assert_eq!(merged.percent, Some(5.0));
    assert_eq!(merged.paused, Some(Paused::No));
    assert_eq!(merged.base_core, Some(7));
    assert_eq!(merged.direct, Some(true));
    let allow = merged.allow.unwrap();
    assert!(allow.contains(id("2")) && !allow.contains(id("1")));
    let deny = merged.deny.unwrap();
    assert!(deny.contains(id("a")) && deny.contains(id("b")));
    // Only one side has rules.
    let none = Rules::default();
    assert_eq!(none.over(&project), project);
    assert_eq!(project.over(&none), project);
}

#[test]
fn a_moment_is_read_in_any_offset() {
    let read = |text: &str| time::moment(text).unwrap();
    for (text, unix) in [
        ("1970-01-01T00:00:00Z", 0),
        ("1970-01-01t08:00:00+08:00", 0),
        ("1969-12-31 23:59:59z", -1),
        ("2026-11-30T18:00:00Z", 1_796_061_600),
        ("2026-12-01T02:00:00.999+08:00", 1_796_061_600),
        ("2026-11-30T14:30:00-03:30", 1_796_061_600),
        ("2000-02-29T00:00:00Z", 951_782_400),
        ("2000-03-01T00:00:00Z", 951_868_800),
        ("2100-03-01T00:00:00Z", 4_107_542_400),
        ("2016-12-31T23:59:60Z", 1_483_228_800),
        ("0000-01-01T00:00:00Z", -62_167_219_200),
        ("9999-12-31T23:59:59Z", 253_402_300_799),
    ] {
        assert_eq!(read(text), unix, "{text}");
    }
    for text in [
        "2026-12-01T02:00:00",
        "2026-12-01T02:00+08:00",
        "2026-13-01T02:00:00Z",
        "2026-00-01T02:00:00Z",
        "2026-11-31T02:00:00Z",
        "2026-11-00T02:00:00Z",
        "2100-02-29T02:00:00Z",
        "2026-12-01T24:00:00Z",
        "2026-12-01T02:60:00Z",
        "2026-12-01T02:00:61Z",
        "2026-12-01T02:00:00+24:00",
        "2026-12-01T02:00:00Z ",
        "26-12-01T02:00:00Z",
        "2026-12-01T02:00:00.Z",
        "",
    ] {
        assert!(time::moment(text).is_err(), "{text}");
    }
}

#[test]
fn a_window_is_a_time_of_day_in_its_own_offset() {
    let window = |text: &str| Window::parse(text).unwrap();
    let at = |hour: i64, minute: i64| 1_796_083_200 + hour * 3600 + minute * 60;
    assert_eq!(at(0, 0) % 86_400, 0);
    let night = window("01:00-05:00+08:00");
    assert!(night.contains(at(17, 0)) && night.contains(at(20, 59)));
    assert!(!night.contains(at(16, 59)) && !night.contains(at(21, 0)));
    let over_midnight = window("22:00-02:00Z");
    for (hour, inside) in [(21, false), (22, true), (23, true), (1, true), (2, false)] {
        assert_eq!(over_midnight.contains(at(hour, 0)), inside, "{hour}");
    }
    let to_midnight = window("22:00-24:00Z");
    assert!(to_midnight.contains(at(23, 59)) && !to_midnight.contains(at(0, 0)));
    assert!(window("22:00-00:00Z").contains(at(23, 59)));
    let day = window("00:00-24:00Z");
    assert!(day.contains(at(0, 0)) && day.contains(at(23, 59)) && day.contains(-1));
    assert!(window("00:00-01:00-03:30").contains(at(3, 30)));
    // Before 1970, and at the limits of the type.
    assert!(window("23:00-24:00Z").contains(-1));
    night.contains(i64::MAX);
    night.contains(i64::MIN);
    for text in [
        "1:00-5:00Z",
        "01:00-05:00",
        "24:00-05:00Z",
        "01:00-24:01Z",
        "01:60-05:00Z",
        "01:00 - 05:00Z",
        "01:00-05:00+8",
        "01:00-05:00+24:00",
        "01:00-05:00Zx",
        "",
    ] {
        assert!(Window::parse(text).is_err(), "{text}");
    }
}

#[test]
fn a_redirect_is_filled_and_encoded() {
    let redirect =
        Redirect::parse("https://cdn.example.com:8443/{project}/{file}?v={version}").unwrap();
    let url = redirect.fill(|name| match name {
        "project" => Cow::Borrowed("水 A"),
        "file" => Cow::Borrowed("a/b~c.bin"),
        "version" => Cow::Owned("2.0.1\r\n".to_owned()),
        _ => Cow::Borrowed("?"),
    });
    assert_eq!(
        url,
        "https://cdn.example.com:8443/%E6%B0%B4%20A/a%2Fb~c.bin?v=2.0.1%0D%0A"
    );
}

#[test]
fn a_redirect_that_no_module_could_follow_is_refused() {
    for (template, part) in [
        ("/firmware/{file}", "http://"),
        ("//cdn/x", "http://"),
        ("ftp://cdn/x", "http://"),
        ("http:///x", "host"),
        ("http://{project}.cdn/x", "host"),
        ("http://cdn", "path"),
        ("http://cdn?x", "path"),
        ("http://cdn/{name}", "{name}"),
        ("http://cdn/{file", "brace"),
        ("http://cdn/file}", "brace"),
        ("http://cdn/{}", "brace"),
        ("http://cdn/{{file}}", "brace"),
        ("http://cdn/a b", "%20"),
        ("http://cdn/水", "percent-encode"),
        ("http://cdn/\r\nX: y", "percent-encode"),
    ] {
        let sentence = Redirect::parse(template).unwrap_err();
        assert!(sentence.contains(part), "{template}: {sentence}");
    }
    assert!(Redirect::parse(&format!("http://cdn/{}", "x".repeat(800))).is_err());
}

proptest! {
    #[test]
    fn no_file_panics(bytes in prop::collection::vec(any::<u8>(), 0..200), text in "\\PC*") {
        let _ = Rules::parse(&bytes);
        let _ = Rules::parse(text.as_bytes());
    }

    #[test]
    fn no_value_panics(
        key in prop::sample::select(vec![
            "paused", "percent", "allow", "deny", "from", "firmware_name", "base_core", "not_before",
            "window", "project_key", "redirect", "direct", "fuse", "x",
        ]),
        text in "\\PC*|[0-9:+TZ. {}/htp-]{0,40}",
        number: f64,
    ) {
        for value in [
            serde_json::json!(text),
            serde_json::json!([text]),
            serde_json::json!(number),
            serde_json::json!({ "devices": number, "percent": number }),
        ] {
            let json = serde_json::json!({ key: value }).to_string();
            let _ = Rules::parse(json.as_bytes());
        }
    }

    #[test]
    fn a_filled_redirect_is_always_a_clean_url(value in "\\PC*|[\\x00-\\x20]*") {
        let redirect = Redirect::parse("http://cdn/{project}/{from}?i={imei}").unwrap();
        let url = redirect.fill(|_| Cow::Borrowed(&value));
        prop_assert!(url.bytes().all(|byte| byte.is_ascii_graphic()));
        prop_assert_eq!(url.matches('/').count(), 4);
    }

    #[test]
    fn a_window_and_its_complement_share_the_day(
        start in 0u16..1440, end in 0u16..1440, offset in -720i16..840, unix: i32,
    ) {
        prop_assume!(start != end);
        let inside = Window { start, end, offset }.contains(unix.into());
        let outside = Window { start: end, end: start, offset }.contains(unix.into());
        prop_assert_ne!(inside, outside);
    }

    #[test]
    fn each_day_follows_the_one_before(days in 0i64..2_900_000) {
        // Day `days` after 0000-01-01, by counting from March (Howard Hinnant's civil_from_days).
        let z = days - 60;
        let era = z.div_euclid(146_097);
        let doe = z.rem_euclid(146_097);
        let yoe = (doe - doe / 1460 + doe / 36_524 - doe / 146_096) / 365;
        let doy = doe - (365 * yoe + yoe / 4 - yoe / 100);
        let mp = (5 * doy + 2) / 153;
        let day = doy - (153 * mp + 2) / 5 + 1;
        let month = if mp < 10 { mp + 3 } else { mp - 9 };
        let year = yoe + era * 400 + i64::from(month <= 2);
        prop_assume!((0..=9999).contains(&year));
        let text = format!("{year:04}-{month:02}-{day:02}T00:00:00Z");
        let shift = time::moment("0000-01-01T00:00:00Z").unwrap();
        let unix = time::moment(&text).unwrap();
        prop_assert_eq!(unix, shift + days * 86_400);
    }
}

#[test]
fn a_time_until_the_reboot_has_a_unit_and_a_bound() {
    for (text, seconds) in [("90m", 5400), ("2d", 172_800), ("1s", 1), ("7d", 604_800)] {
        let rules = read(&format!(r#"{{ "reboot_within": "{text}" }}"#));
        assert_eq!(rules.reboot_within, Some(seconds), "{text}");
    }
    for wrong in [
        r#""12""#,
        "12",
        r#""8d""#,
        r#""0h""#,
        r#""-1h""#,
        r#""h""#,
        r#""1.5h""#,
        r#""12 h""#,
        "true",
        r#""99999999999d""#,
        r#""12时""#,
    ] {
        refused(
            &format!(r#"{{ "reboot_within": {wrong} }}"#),
            &["reboot_within", "12h"],
        );
    }
}
