//! Tests of device ids in all the forms in which they are written and sent.

use super::*;

// Cases 15, 16.
#[test]
fn all_written_forms_of_an_id_are_one_device() {
    let place = Place::new();
    let bytes = noise(360, 3000);
    let other = noise(361, 3000);
    place.rules(
        "P/1.0.1/release.json",
        json!({ "allow": ["A1:B2:C3:D4:E5:F6", "\"862991443753386\"", "3042005331313AFF"] }),
    );
    place.drop_firmware("P/1.0.1/u.bin", &bytes);
    place.drop_firmware("P/1.0.2/u.bin", &other);
    place.rules("P/1.0.2/release.json", json!({ "paused": true }));
    let server = Server::start_in(place, &[]);
    let mut requests = Vec::new();
    for id in [
        "mac=a1:b2:c3:d4:e5:f6",
        "mac=A1-B2-C3-D4-E5-F6",
        "mac=a1b2.c3d4.e5f6",
        "mac=A1B2C3D4E5F6",
        "mac=%22a1%3Ab2%3Ac3%3Ad4%3Ae5%3Af6%22",
        "imei=\"862991443753386\"",
        "imei=%22862991443753386%22",
        "imei='862991443753386'",
        "imei=+862991443753386",
        "imei=%2B862991443753386",
        "imei= 862991443753386",
        "imei=862991443753386 ",
        "imei=nil&mac=a1:b2:c3:d4:e5:f6",
        "uid=3042005331313aff",
        "muid=3042005331313AFF",
        "uid=0B%00S11:%FF",
    ] {
        requests.push(format!("/luat/update/P?{id}&version=1.0.0"));
    }
    let wanted: Vec<(&str, &[u8])> = requests.iter().map(|one| (one.as_str(), &*bytes)).collect();
    all_get(&server, &wanted);
    let libfota3 = |id: &str| {
        let target = format!(
            "/api/site/turnkey_fota?{id}&project_key=k&model=Air780EPM&core_id=1&core_version=2012&script_name=P&script_version=001.000.000"
        );
        let body: serde_json::Value = serde_json::from_slice(&server.get(&target).body).unwrap();
        body["code"].clone()
    };
    for id in [
        "uid=0B%00S11:%FF",
        "mac=A1:B2:C3:D4:E5:F6",
        "imei=\"862991443753386\"",
    ] {
        assert_eq!(libfota3(id), 0, "{id}");
    }
    for id in [
        "imei=nil",
        "imei=000000000000000",
        "uid=",
        "mac=00:00:00:00:00:00",
    ] {
        assert_ne!(libfota3(id), 0, "{id}");
    }
    let device = Device::new(server.udp);
    for message in [
        "\"862991443753386\",P_Luat_V0035_8955,1.0.0",
        "+862991443753386,P_Luat_V0035_8955,1.0.0",
        "a1:b2:c3:d4:e5:f6,P_Luat_V0035_8955,1.0.0",
        "0,k,+862991443753386,SN,P_Luat_V0035_8955,1.0.0",
    ] {
        device.check(message).unwrap();
        let answer = Stream::connect(server.tcp).ask(message).unwrap();
        Offer::parse(&answer)
            .unwrap()
            .must_be_for(bytes.len())
            .unwrap();
    }
    // As Air1601 sends the id: raw bytes, including control bytes, except those that libfota3 encodes.
    let raw = b"GET /api/site/turnkey_fota?uid=0B\x00S11:\xff&project_key=k&model=Air1601&core_id=1&core_version=1004&script_name=P&script_version=001.000.000 HTTP/1.1\r\nHost: h:80\r\n\r\n";
    let body: serde_json::Value = serde_json::from_slice(&server.http(raw).body).unwrap();
    assert_eq!(body["code"], 0, "{body}");
    // The log uses one name for the device.
    server.wait_for_log("the MAC", |line| {
        line.contains("\"device\":\"a1b2c3d4e5f6\"")
    });
    assert_eq!(
        run(&[
            "lift",
            "--imei",
            "\"+862991443753386\"",
            "--state",
            server.place().state().to_str().unwrap()
        ])
        .status
        .code(),
        Some(0)
    );
}

// Case 17.
#[test]
fn placeholders_are_not_ids() {
    let place = Place::new();
    let bytes = noise(362, 3000);
    place.drop_firmware("P/1.0.1/u.bin", &bytes);
    place.drop_firmware("Q/1.0.1/u.bin", &bytes);
    place.rules(
        "Q/release.json",
        json!({ "allow": ["862991440000000-862991449999999"] }),
    );
    let server = Server::start_in(place, &[]);
    let ids = [
        "imei=nil",
        "imei=000000000000000",
        "imei=",
        "mac=000000000000",
        "mac=FFFFFFFFFFFF",
    ];
    let requests: Vec<String> = ids
        .iter()
        .map(|id| format!("/luat/update/P?{id}&version=1.0.0"))
        .collect();
    for _ in 0..12 {
        // The loop guard would hold a single device.
        let wanted: Vec<(&str, &[u8])> =
            requests.iter().map(|one| (one.as_str(), &*bytes)).collect();
        all_get(&server, &wanted);
    }
    server.wait_for_log("no device", |line| {
        line.contains("\"verdict\":\"offer\"") && line.contains("\"device\":\"\"")
    });
    all_refused(
        &server,
        &[("/luat/update/Q?imei=nil&version=1.0.0", 403, 21)],
    );
    let device = Device::new(server.udp);
    for message in [
        "nil,P_Luat_V0035_8955,1.0.0",
        "000000000000000,P_Luat_V0035_8955,1.0.0",
    ] {
        device.check(message).unwrap();
    }
}
