//! Migration from the vendor's cloud: a fleet of all generations moves in stages while both servers run, and
//! back, and the codes have the meanings that the guide states.

use std::collections::HashSet;
use std::sync::{Arc, Mutex};

use super::common::packages::noise;
use super::common::{PATIENCE, Place, Server, wait_until};
use super::old_http::{Answer, OldServer};
use super::*;
use luat_ota::decision::Refusal;
use luat_ota::modems::diagnose;

/// The devices to which the vendor's cloud offers the script with the new address.
#[derive(Default)]
struct Audience {
    all: bool,
    listed: HashSet<String>,
}

/// A substitute for the vendor's cloud: one firmware, 1.0.6, for an audience; code 27 for all others.
fn cloud(audience: Arc<Mutex<Audience>>, moved: Vec<u8>) -> OldServer {
    OldServer::start(Box::new(move |check| {
        let last: u32 = check.version.rsplit('.').next().unwrap().parse().unwrap();
        let audience = audience.lock().unwrap();
        if last < 6 && (audience.all || audience.listed.contains(&check.imei)) {
            return Answer(200, "OK", moved.clone());
        }
        let body = r#"{"code": 27, "msg": "\u5df2\u662f\u6700\u65b0\u7248\u672c"}"#;
        Answer(404, "Not Found", body.into())
    }))
}

/// A device of the fleet, and the server to which its script sends checks.
struct MigratingDevice {
    emulated: EmulatedModule,
    /// The device's id in checks.
    id: String,
    is_migrated: bool,
}

/// The fleet, the two servers, and all scripts.
struct Migration {
    fleet: Vec<MigratingDevice>,
    cloud: OldServer,
    audience: Arc<Mutex<Audience>>,
    server: Server,
    /// Bytes of each script, its version, and whether it sends checks to this server.
    scripts: Vec<(Vec<u8>, &'static str, bool)>,
}

impl Migration {
    /// Lets every device check once with the server of its script, and run the script that it downloaded.
    fn round(&mut self) {
        let attempts = self.fleet.iter().map(|device| {
            let address = if device.is_migrated {
                self.server.http
            } else {
                self.cloud.address
            };
            device
                .emulated
                .attempt(address, "/api/site/firmware_upgrade")
        });
        let played = play_all(attempts.collect());
        for (device, played) in self.fleet.iter_mut().zip(played) {
            match &played.outcome {
                Outcome::Updated(got) => {
                    let script = self.scripts.iter().find(|script| script.0 == *got);
                    let (_, version, here) = script.expect("bytes of a script");
                    device.emulated.module.version = (*version).to_owned();
                    device.is_migrated = *here;
                }
                Outcome::NoUpdate(_) => {}
                _ if diagnose::is_known_bug(device.emulated.client, &played) => {}
                other => panic!("{}: {other:?}", device.emulated.client.name()),
            }
        }
    }

    /// The sorted ids of the devices that send checks to this server.
    fn migrated_ids(&self) -> Vec<String> {
        let here = self.fleet.iter().filter(|device| device.is_migrated);
        let mut ids: Vec<String> = here.map(|device| device.id.clone()).collect();
        ids.sort();
        ids
    }

    fn count_running(&self, version: &str) -> usize {
        let runs = |device: &&MigratingDevice| device.emulated.module.version == version;
        self.fleet.iter().filter(runs).count()
    }

    /// The devices that the guide's commands list as arrived. Waits until there are at least `wanted`.
    fn listed_as_arrived(&self, wanted: usize) -> Vec<String> {
        let list = block(VENDOR, "arrived.txt");
        let file = self.server.place().root.join("arrived.txt");
        let mut listed_as_arrived = Vec::new();
        wait_until("the devices are in the journal", PATIENCE, || {
            shell(self.server.place(), &list).unwrap();
            let text = std::fs::read_to_string(&file).unwrap();
            listed_as_arrived = text.lines().map(str::to_owned).collect();
            listed_as_arrived.len() >= wanted
        });
        listed_as_arrived
    }

    /// Runs a block of the guide, and waits until the release that it creates is offered or refused by its rules.
    fn release(&self, has: &str) {
        shell(self.server.place(), &block(VENDOR, has)).unwrap();
        let version = has.rsplit('/').next().unwrap().to_owned();
        self.server
            .wait_for_log("says that the release is there", |line| {
                common::is_event(line, "release") && line.contains(&format!("\"{version}\""))
            });
    }
}

fn missing(place: &Place) -> usize {
    let text = std::fs::read_to_string(place.root.join("missing.txt")).unwrap();
    text.lines().count()
}

#[test]
fn a_fleet_moves_from_the_vendors_cloud_in_stages_and_one_device_goes_back() {
    let [moved, next, back] = [51, 52, 53].map(|seed| noise(seed, 20_000));
    let place = Place::new();
    place.drop_firmware("MYPROJECT/1.0.6/update.bin", &moved);
    std::fs::write(place.root.join("update.bin"), &next).unwrap();
    std::fs::write(place.root.join("back.bin"), &back).unwrap();
    let fleet: Vec<MigratingDevice> = http_fleet("MYPROJECT", "1.0.5")
        .into_iter()
        .map(|emulated| {
            let imei = emulated.module.imei.clone();
            // The client without an IMEI sends a MAC made of its digits.
            let has_mac = emulated.client == Client::Libfota2File;
            let id = if has_mac { imei[3..].to_owned() } else { imei };
            MigratingDevice {
                emulated,
                id,
                is_migrated: false,
            }
        })
        .collect();
    let count = fleet.len();
    let devices: String = fleet
        .iter()
        .map(|device| format!("{}\n", device.id))
        .collect();
    std::fs::write(place.root.join("devices.txt"), devices).unwrap();
    shell(&place, &block(VENDOR, "NR % 100")).unwrap();
    let known = block(VENDOR, "known-devices.txt").replace("firmware/.luat-ota", "state");
    shell(&place, &known).unwrap();
    let stage = |number: u32| -> HashSet<String> {
        let file = place.root.join(format!("stage-{number}.txt"));
        let text = std::fs::read_to_string(file).unwrap();
        text.lines().map(str::to_owned).collect()
    };
    let stages = [stage(1), stage(2), stage(3)];
    assert_eq!(
        stages.each_ref().map(HashSet::len),
        [1, count.div_ceil(10), count]
    );
    assert!(stages[0].is_subset(&stages[1]));
    let audience = Arc::new(Mutex::new(Audience::default()));
    let mut migration = Migration {
        cloud: cloud(audience.clone(), moved.clone()),
        server: Server::start_in(place, &[]),
        audience,
        scripts: vec![
            (moved, "1.0.6", true),
            (next, "1.0.7", true),
            (back, "1.0.8", false),
        ],
        fleet,
    };
    let first = migration.fleet[0].id.clone();
    let settled = common::luat("MYPROJECT", "862991449999999", "1.0.6");
    super::wait_until_ready(&migration.server, &[settled]);

    // Before any device is moved, and then with one device.
    migration.round();
    assert_eq!(migration.migrated_ids(), Vec::<String>::new());
    migration.audience.lock().unwrap().listed = stages[0].clone();
    migration.round();
    migration.round();
    assert_eq!(migration.migrated_ids(), std::slice::from_ref(&first));
    assert_eq!(migration.listed_as_arrived(1), std::slice::from_ref(&first));
    let shown = shell(
        migration.server.place(),
        &block(VENDOR, "luat-ota devices --imei"),
    )
    .unwrap();
    assert!(shown.contains(&first) && shown.contains("1.0.6"), "{shown}");

    // Only this server can now update the device.
    migration.release("firmware/MYPROJECT/1.0.7");
    migration.round();
    assert_eq!(
        (
            migration.count_running("1.0.7"),
            migration.count_running("1.0.5")
        ),
        (1, count - 1)
    );
    migration.round();

    // Ten percent: the second stage has arrived when each of its devices has sent a check here.
    migration.audience.lock().unwrap().listed = stages[1].clone();
    migration.round();
    migration.listed_as_arrived(1);
    assert_eq!(missing(migration.server.place()), 0);
    migration.round();
    let listed_as_arrived: HashSet<String> = migration
        .listed_as_arrived(stages[1].len())
        .into_iter()
        .collect();
    assert_eq!(listed_as_arrived, stages[1]);
    // Devices that are not permitted to get 1.0.7 keep 1.0.6.
    assert_eq!(
        (
            migration.count_running("1.0.7"),
            migration.count_running("1.0.6")
        ),
        (1, stages[1].len() - 1)
    );

    // Move all devices; then this server updates the fleet.
    migration.audience.lock().unwrap().all = true;
    migration.round();
    migration.round();
    assert_eq!(migration.listed_as_arrived(count).len(), count);
    let rules = migration
        .server
        .place()
        .path("MYPROJECT/1.0.7/release.json");
    std::fs::remove_file(rules).unwrap();
    let other = migration.fleet[1].id.clone();
    let check = common::luat("MYPROJECT", &other, "1.0.6");
    migration
        .server
        .wait_until_offered(&check, &migration.scripts[1].0.clone());
    migration.round();
    assert_eq!(migration.count_running("1.0.7"), count);

    // One device moves back, and the cloud replies that it is up to date.
    migration.release("firmware/MYPROJECT/1.0.8");
    migration.round();
    assert_eq!(
        (
            migration.count_running("1.0.8"),
            migration.migrated_ids().len()
        ),
        (1, count - 1)
    );
    let before = migration.cloud.checks.lock().unwrap().len();
    migration.round();
    assert_eq!(
        (
            migration.count_running("1.0.8"),
            migration.count_running("1.0.7")
        ),
        (1, count - 1)
    );
    let checks = migration.cloud.checks.lock().unwrap()[before..].to_vec();
    assert!(checks.iter().all(|check| check.imei == first) && !checks.is_empty());
}

#[test]
fn the_codes_of_the_guide_are_those_that_are_sent() {
    let sent: HashSet<(String, String)> = Refusal::ALL
        .into_iter()
        .filter_map(|refusal| refusal.wording().body)
        .map(|(code, message)| (code.to_string(), message.to_owned()))
        .collect();
    let guide = documents::read(VENDOR);
    let mut seen = HashSet::new();
    for line in guide.lines() {
        let cells: Vec<&str> = line.split('|').map(str::trim).collect();
        let [_, code, message, _, ours, _] = cells[..] else {
            continue;
        };
        if code.parse::<u8>().is_err() {
            continue;
        }
        let is_sent = sent.contains(&(code.to_owned(), message.to_owned()));
        assert_eq!(is_sent, ours != "never sent", "{line}");
        seen.insert(code.to_owned());
    }
    for (code, message) in &sent {
        assert!(seen.contains(code), "{code} {message}");
    }
    assert_eq!(seen.len(), 9);
}
