//! Promise: a module whose new script crashes, so that the module falls back and checks again (the
//! vendor's own warning), does not download the same file endlessly.

use crate::common;

use std::net::{IpAddr, UdpSocket};
use std::time::{Duration, Instant};

use common::decisions::decide_and_record;
use common::packages::noise;
use common::{IMEI, Place, Server, window};
use luat_ota::decision::{Check, Refusal, RefusedCheck, Verdict};
use luat_ota::firmware::audience::DeviceId;
use luat_ota::firmware::catalog::Catalog;
use luat_ota::firmware::known::KnownFiles;
use luat_ota::firmware::scan;
use luat_ota::fleet::requester::{PinOwner, Requester};
use luat_ota::fleet::short_version::ShortVersion;
use luat_ota::fleet::{FileRange, Fleet, FleetSettings, TransferOutcome};
use serde_json::json;

/// Number of devices in an update loop.
const DEVICES: u64 = 200;

/// Time between two checks: download, start, crash, fall-back, start with the old script.
const ROUND: Duration = Duration::from_secs(10 * 60);

const DAY: Duration = Duration::from_secs(24 * 60 * 60);

/// Number of bytes that 200 devices download in a day, and number of their checks that are refused as loops.
fn bytes_in_a_day(catalog: &Catalog, attempts: u32) -> (u64, u64) {
    let began = Instant::now();
    let settings = FleetSettings {
        attempts,
        ..FleetSettings::default()
    };
    let mut fleet = Fleet::new(settings, began);
    fleet.catalog(catalog, began);
    let (mut bytes, mut refused) = (0, 0);
    let mut now = began;
    while now < began + DAY {
        for number in 0..DEVICES {
            let id = format!("{:015}", 862_991_440_000_000 + number);
            let check = Check {
                device: DeviceId::parse(&id),
                device_text: id.as_str().into(),
                firmware_name: Some("P_LuatOS-SoC_Air780EPM".into()),
                version: "2012.001.000".into(),
                ..Check::default()
            };
            // All devices are behind the addresses of one carrier.
            let address = IpAddr::from([100, 64, number as u8, 1]);
            let who = Requester::of(&check, address).unwrap();
            let owner = PinOwner::of_check(&check, Some(&who), address);
            let verdict = decide_and_record(&mut fleet, catalog, &check, &who, now);
            match verdict {
                Verdict::Offer(offer) => {
                    let part = FileRange {
                        content: offer.package.content,
                        to: ShortVersion::of(&offer.release.version_text),
                        size: offer.package.size,
                        start: 0,
                        end: offer.package.size,
                    };
                    let (mut transfer, _written) = fleet.begin(Some(&who), Some(&owner), part, now);
                    let end = now + Duration::from_secs(30);
                    fleet.sent(&transfer, part.size);
                    fleet.acknowledged(&mut transfer, part.size, end);
                    fleet.end(transfer, TransferOutcome::Whole, end);
                    bytes += part.size;
                }
                Verdict::Refuse(RefusedCheck {
                    refusal: Refusal::Looping,
                    ..
                }) => refused += 1,
                Verdict::Refuse(other) => panic!("{other}"),
            }
        }
        now += ROUND;
    }
    (bytes, refused)
}

#[test]
fn two_hundred_devices_that_crash_and_fall_back_cost_a_few_attempts_each() {
    let place = Place::new();
    let size = 300_000;
    place.drop_firmware("P/2012.001.001/update.bin", &noise(7, size));
    let catalog = scan::catalog(&place.firmware(), &mut KnownFiles::open(None)).unwrap();
    let (guarded, refused) = bytes_in_a_day(&catalog, 3);
    let (free, never) = bytes_in_a_day(&catalog, u32::MAX);
    println!(
        "{DEVICES} devices, {size} bytes, a day: {guarded} bytes with the guard ({} each), {free} without \
         ({} each)",
        guarded / DEVICES,
        free / DEVICES,
    );
    // Three downloads immediately, one after an hour, one after six more hours.
    assert_eq!(guarded, 5 * size as u64 * DEVICES);
    assert_eq!(free, 144 * size as u64 * DEVICES);
    assert_eq!((refused, never), (139 * DEVICES, 0));
}

#[test]
fn a_module_that_fetches_the_same_file_repeatedly_gets_code_40() {
    let bytes = noise(7, 20_000);
    let place = Place::new();
    place.drop_firmware("P/2.0.0/update.bin", &bytes);
    let mut server = Server::start_in(place, &["--attempts", "3"]);
    let name = "P_Luat_V0035_8955";
    let ask = |imei: &str, version: &str| {
        format!("/luat/update?imei={imei}&firmware_name={name}&version={version}")
    };
    server.wait_until_offered(&ask("862991443753300", "1.0.0"), &bytes);
    let packet = |server: &Server, message: &str| {
        let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
        socket.set_read_timeout(Some(common::PATIENCE)).unwrap();
        socket.send_to(message.as_bytes(), server.udp).unwrap();
        let mut answer = [0; 100];
        let got = socket.recv(&mut answer).unwrap();
        String::from_utf8_lossy(&answer[..got]).into_owned()
    };
    let others = ["862991443753387", "862991443753388"];
    for round in 0..5 {
        for imei in [IMEI].iter().chain(&others[..usize::from(round < 4)]) {
            let got = server.get(&ask(imei, "1.0.0"));
            assert_eq!((got.status, &got.body), (200, &bytes), "round {round}");
        }
    }
    // The bytes that were sent are counted when the download has ended.
    server.wait_until_refused(&ask(IMEI, "1.0.0"), 403, 40);
    assert_eq!(
        packet(&server, &format!("{IMEI},{name},1.0.0")),
        "no upgrade"
    );
    // The hold does not apply to another device, nor to this device with another version.
    let other = packet(&server, &format!("{},{name},1.0.0", others[0]));
    assert!(other.starts_with("LUAUPDATE,"), "{other}");
    // A restart changes nothing.
    server = Server::start_in(server.terminate(), &["--attempts", "3"]);
    server.wait_until_offered(&ask("862991443753300", "1.0.0"), &bytes);
    server.wait_until_refused(&ask(IMEI, "1.0.0"), 403, 40);
    assert_eq!(server.get(&ask(IMEI, "1.0.1")).status, 200);
    // The check with another version has ended the hold.
    assert_eq!(server.get(&ask(IMEI, "1.0.0")).status, 200);
}

#[test]
fn a_download_through_a_trusted_proxy_counts_as_sent_and_causes_no_hold() {
    let bytes = noise(8, 20_000);
    let place = Place::new();
    place.drop_firmware("P/2.0.0/update.bin", &bytes);
    let server = Server::start_in(place, &["--trusted-proxy", "127.0.0.0/8"]);
    let ask = common::luat("P", IMEI, "1.0.0");
    server.wait_until_offered(&common::luat("P", "862991443753300", "1.0.0"), &bytes);
    // Case 28, as the server sees it.
    for round in 0..8 {
        let got = server.get(&ask);
        assert_eq!((got.status, &got.body), (200, &bytes), "round {round}");
    }
    assert_eq!(server.get(&ask).status, 200);
    server.wait_for_log("says that it was sent", |line| {
        line.contains("\"download\"") && line.contains(IMEI) && line.contains("\"sent\"")
    });
    let complete = |line: &str| line.contains("\"download\"") && line.contains("\"complete\"");
    assert!(server.log.wait(0, Duration::ZERO, complete).is_none());
}

// Case 29c.
#[test]
fn the_device_on_the_desk_is_updated_again_after_each_flash_by_cable() {
    let bytes = noise(9, 20_000);
    let place = Place::new();
    place.rules("P/release.json", json!({"percent": 0, "allow": [IMEI]}));
    place.drop_firmware("P/2.0.0/update.bin", &bytes);
    let server = Server::start_in(place, &[]);
    server.wait_until_refused(&common::luat("P", IMEI, "3.0.0"), 404, 27);
    server.wait_until_offered(&common::luat("P", IMEI, "1.0.0"), &bytes);
    for round in 0..5 {
        assert_eq!(server.get(&common::luat("P", IMEI, "2.0.0")).status, 404);
        let got = server.get(&common::luat("P", IMEI, "1.0.0"));
        assert_eq!((got.status, &got.body), (200, &bytes), "round {round}");
    }
}

// Case 29b.
#[test]
fn a_rollback_by_the_rules_is_no_loop() {
    let (old, new) = (noise(10, 20_000), noise(11, 20_000));
    // A device that took the old version within the window may send its next check after the window.
    for window in [None, Some(window(700, 705, 0))] {
        let place = Place::new();
        place.drop_firmware("P/2.0.0/update.bin", &old);
        place.drop_firmware("P/2.0.1/update.bin", &new);
        let server = Server::start_in(place, &["--attempts", "1"]);
        server.wait_until_offered(&common::luat("P", IMEI, "2.0.0"), &new);
        assert_eq!(server.get(&common::luat("P", IMEI, "2.0.1")).status, 404);
        server.rules("P/2.0.1/release.json", json!({"paused": true}));
        let rules = json!({"allow_downgrade": true});
        server.rules("P/2.0.0/release.json", rules);
        let other = common::luat("P", "862991443753300", "2.0.1");
        server.wait_until_offered(&other, &old);
        if let Some(window) = window {
            let rules = json!({"allow_downgrade": true, "window": window});
            server.rules("P/2.0.0/release.json", rules);
            let other = common::luat("P", "862991443753301", "2.0.1");
            server.wait_until_refused(&other, 404, 27);
        }
        // As after a redirect: this server did not deliver the file.
        assert_eq!(server.get(&common::luat("P", IMEI, "2.0.0")).status, 404);
        server.rules("P/2.0.1/release.json", json!({"paused": false}));
        server.wait_until_offered(&common::luat("P", IMEI, "2.0.0"), &new);
    }
}

// Case 30b.
#[test]
fn a_module_that_postpones_its_reboot_is_not_offered_the_release_again() {
    let bytes = noise(12, 20_000);
    let place = Place::new();
    place.rules("P/2.0.0/release.json", json!({"reboot_within": "12h"}));
    place.drop_firmware("P/2.0.0/update.bin", &bytes);
    let server = Server::start_in(place, &[]);
    server.wait_until_offered(&common::luat("P", IMEI, "1.0.0"), &bytes);
    server.wait_until_refused(&common::luat("P", IMEI, "1.0.0"), 404, 27);
    server.wait_for_log("says why", |line| line.contains("waiting to reboot"));
    assert_eq!(server.get(&common::luat("P", IMEI, "2.0.0")).status, 404);
}

// Case 33.
#[test]
fn redirects_hold_no_device() {
    let place = Place::new();
    place.rules(
        "P/2.0.0/release.json",
        json!({"redirect": "https://cdn.example.com/{file}"}),
    );
    let bytes = noise(13, 20_000);
    place.drop_firmware("P/2.0.0/update.bin", &bytes);
    let server = Server::start_in(place, &[]);
    let ask = common::luat("P", IMEI, "1.0.0");
    server.wait_until_offered(&common::luat("P", "862991443753300", "1.0.0"), &bytes);
    for _ in 0..8 {
        assert!(server.get(&format!("{ask}&need_oss_url=1")).status >= 300);
    }
    assert_eq!(server.get(&ask).status, 200);
}
