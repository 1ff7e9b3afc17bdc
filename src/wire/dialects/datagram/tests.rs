use std::borrow::Cow;

use proptest::prelude::*;

use super::*;

const IMEI: Option<DeviceId> = Some(DeviceId::Imei(862_991_443_753_386));

fn checked(bytes: &[u8]) -> Check<'_> {
    match parse(bytes) {
        Datagram::Check(check) => check,
        other => panic!("{}: {other:?}", bytes.escape_ascii()),
    }
}

fn got(number: Option<u16>, id: Option<u32>) -> Datagram<'static> {
    Datagram::Get(Get { number, id })
}

#[test]
fn a_check_of_a_user_server_is_read() {
    let check = checked(b"862991443753386,USER_SERVER_UPDATE_Luat_V0035_8955,1.0.0");
    assert_eq!(
        check,
        Check {
            device: IMEI,
            device_text: "862991443753386".into(),
            firmware_name: Some("USER_SERVER_UPDATE_Luat_V0035_8955".into()),
            version: "1.0.0".into(),
            largest: Some(65535 * 1022),
            ..Check::default()
        }
    );
    assert!(matches!(check.version, Cow::Borrowed(_)));
    assert_eq!(
        checked(b"862991443753386,A9335_V1723_B3633_WD1,1.1.8").version,
        "1.1.8"
    );
}

#[test]
fn project_and_version_are_free_text() {
    for (bytes, name, version) in [
        (
            &b"862991443753386,MY-PROJECT.x y_Luat_V0035_8955,beta 2"[..],
            "MY-PROJECT.x y_Luat_V0035_8955",
            "beta 2",
        ),
        (
            "862991443753386,水表_Luat_V0035_8955,1.0.0".as_bytes(),
            "水表_Luat_V0035_8955",
            "1.0.0",
        ),
        (
            b"862991443753386,\xcb\xae\xb1\xed_Luat_V0035_8955,1.0.0",
            "水表_Luat_V0035_8955",
            "1.0.0",
        ),
        (b"862991443753386,100%25,1.0.0", "100%25", "1.0.0"),
        (b"862991443753386,A,B,1.0.0", "A,B", "1.0.0"),
        (b"862991443753386,A,", "A", ""),
        (b"862991443753386,A,1.0.0\r\n\0", "A", "1.0.0"),
        (b" 862991443753386,A,1.0.0", "A", "1.0.0"),
    ] {
        let check = checked(bytes);
        assert_eq!(check.firmware_name.as_deref(), Some(name));
        assert_eq!((check.device, &*check.version), (IMEI, version));
        assert_eq!(check.device_text, "862991443753386");
    }
    assert_eq!(checked(b"862991443753386,,1.0.0").firmware_name, None);
}

#[test]
fn a_check_in_the_official_format_is_read() {
    for (bytes, device) in [
        (
            &b"0,KEY,862991443753386,SN1,P_Luat_V0035_8955,1.0.0"[..],
            IMEI,
        ),
        (b"0,KEY,862991443753386,,P_Luat_V0035_8955,1.0.0", IMEI),
        (
            b"0,KEY,862991443753386,S,N,1,P_Luat_V0035_8955,1.0.0\n",
            IMEI,
        ),
        (
            b"0,KEY,862991443753386,\xce\xd2,P_Luat_V0035_8955,1.0.0",
            IMEI,
        ),
        (b"0,KEY,no id,SN1,P_Luat_V0035_8955,1.0.0", None),
    ] {
        let check = checked(bytes);
        assert_eq!(check.device, device);
        assert_eq!(check.device_text.is_empty(), device.is_none());
        assert_eq!(check.project_key.as_deref(), Some("KEY"));
        assert_eq!(check.firmware_name.as_deref(), Some("P_Luat_V0035_8955"));
        assert_eq!(check.version, "1.0.0");
        assert_eq!(check.largest, Some(LARGEST));
    }
    assert_eq!(checked(b"0,,862991443753386,,P,1.0.0").project_key, None);
    // One field in UTF-8, one in GBK.
    let mixed = [
        "0,K,862991443753386,".as_bytes(),
        b"\xce\xd2,",
        "水表,1".as_bytes(),
    ]
    .concat();
    assert_eq!(checked(&mixed).firmware_name.as_deref(), Some("水表"));
}

#[test]
fn a_packet_is_requested_in_both_dialects() {
    assert_eq!(parse(b"Get5,7"), got(Some(5), Some(7)));
    assert_eq!(
        parse(b"Get65535,2147483647\r\n"),
        got(Some(65535), Some(2_147_483_647))
    );
    for sn in ["SN1", "", "S,N", ",,,"] {
        let message = format!("0,KEY,862991443753386,{sn},P_Luat_V0035_8955,1.0.0,Get5,7");
        assert_eq!(parse(message.as_bytes()), got(Some(5), Some(7)));
    }
    assert_eq!(
        parse(b"0,KEY,862991443753386,SN,P,1.0.0,Get70000,x"),
        got(None, None)
    );
}

#[test]
fn numbers_that_the_server_cannot_have_assigned_are_none() {
    for (bytes, number, id) in [
        (&b"Get0,7"[..], None, Some(7)),
        (b"Get65536,7", None, Some(7)),
        (b"Get5,2147483648", Some(5), None),
        (b"Get5,99999999999999999999", Some(5), None),
        (b"Get5,-1", Some(5), None),
        (b"Get5,+1", Some(5), None),
        (b"Get5,7,8", Some(5), None),
        (b"Get5,", Some(5), None),
        (b"Get5", Some(5), None),
        (b"Get,7", None, Some(7)),
        (b"Get 5,7", None, Some(7)),
        (b"Get", None, None),
    ] {
        assert_eq!(parse(bytes), got(number, id), "{}", bytes.escape_ascii());
    }
}

#[test]
fn a_project_called_get5_may_check() {
    let check = checked(b"0,KEY,862991443753386,SN,Get5,7");
    assert_eq!(check.firmware_name.as_deref(), Some("Get5"));
    let check = checked(b"862991443753386,Get5,7");
    assert_eq!(check.firmware_name.as_deref(), Some("Get5"));
}

#[test]
fn other_text_is_unknown() {
    for bytes in [
        &b"hello"[..],
        b"hello,world",
        b"../x,PROJECT,1.0.0",
        b",PROJECT,1.0.0",
        b"0,",
        b"0,KEY",
        b"0,KEY,862991443753386",
        b"0,KEY,862991443753386,SN",
        b"0,KEY,862991443753386,SN,NAME",
        b"get5,7",
        b"no update",
        "你好".as_bytes(),
    ] {
        assert_eq!(parse(bytes), Datagram::Unknown, "{}", bytes.escape_ascii());
    }
}

#[test]
fn replies_and_bytes_that_are_no_text_get_no_reply() {
    for bytes in [
        &b""[..],
        b"\r\n\0",
        b"LUAUPDATE,7,151,47",
        b"LUAUPDATE",
        b"ERR",
        b"ERR\r\n",
        b"no upgrade",
        b"unknown function",
        b"version error",
        b"imei range error",
        b"error all",
        b"OK",
        b"OK,PROJECT,1.0.0",
        b"\x00\x05data",
        b"862991443753386,A\0B,1.0.0",
        b"862991443753386,A\r\nB,1.0.0",
        b"862991443753386,A\x7f,1.0.0",
        b"862991443753386,\xff\xff,1.0.0",
        b"\x16\x03\x01",
    ] {
        assert_eq!(parse(bytes), Datagram::NoReply, "{}", bytes.escape_ascii());
    }
    for refusal in [b"no upgrade".as_slice(), b"imei range error", b"ERR"] {
        assert_eq!(parse(refusal), Datagram::NoReply);
    }
}

#[test]
fn the_last_packet_is_never_empty() {
    for (size, expected) in [
        (0, None),
        (1, Some((1, 1))),
        (1021, Some((1, 1021))),
        (1022, Some((1, 1022))),
        (1023, Some((2, 1))),
        (2044, Some((2, 1022))),
        (1 << 20, Some((1027, 4))),
        (LARGEST - 1, Some((65535, 1021))),
        (LARGEST, Some((65535, 1022))),
        (LARGEST + 1, None),
        (u64::MAX, None),
    ] {
        assert_eq!(packets(size), expected, "{size}");
    }
}

#[test]
fn an_offer_is_written_whole_or_not_at_all() {
    let mut buffer = [0; 64];
    let length = write_offer(&mut buffer, 7, 151, 47);
    assert_eq!(&buffer[..length], b"LUAUPDATE,7,151,47");
    let length = write_offer(&mut buffer, i32::MAX as u32, u16::MAX, 1022);
    assert_eq!(&buffer[..length], b"LUAUPDATE,2147483647,65535,1022");
    assert_eq!(write_offer(&mut buffer[..10], 7, 151, 47), 0);
}

proptest! {
    #[test]
    fn no_bytes_panic(bytes in proptest::collection::vec(any::<u8>(), 0..100), official: bool) {
        let start = if official { "0,KEY," } else { "" };
        parse(&[start.as_bytes(), &bytes].concat());
        parse(&bytes);
    }

    #[test]
    fn packets_cover_the_file_exactly(size in 1..=LARGEST) {
        let (count, last) = packets(size).unwrap();
        prop_assert!((1..=1022).contains(&last));
        prop_assert_eq!(u64::from(count - 1) * 1022 + u64::from(last), size);
    }

    #[test]
    fn replies_of_the_server_get_no_reply(id in 0..=i32::MAX as u32, size in 1..=LARGEST) {
        let (count, last) = packets(size).unwrap();
        let mut buffer = [0; 31];
        let length = write_offer(&mut buffer, id, count, last);
        prop_assert!(length > 0);
        prop_assert_eq!(parse(&buffer[..length]), Datagram::NoReply);
    }
}
