//! Migration from the Spring server: its tables become a firmware folder, from which every generation gets the
//! same as from the old server.

use std::sync::{Arc, Mutex};

use super::common::packages::noise;
use super::common::{Place, Rows, Server};
use super::old_http::{Answer, OldCheck, OldServer};
use super::*;
use luat_ota::modems::diagnose;

/// A row of `firmware_packages`, with the IMEIs of its rows in `firmware_device_assignments`.
#[derive(Clone)]
struct Package {
    firmware_name: String,
    version: String,
    file_name: String,
    bytes: Vec<u8>,
    upgrade_all: bool,
    imeis: Vec<String>,
}

/// Number of the device, a LuatOS module, to which no package is assigned.
const UNASSIGNED: usize = 10;

/// The version with its last number increased by one.
fn next_version(version: &str) -> String {
    let (before, last) = version.rsplit_once('.').unwrap();
    format!("{before}.{}", last.parse::<u32>().unwrap() + 1)
}

/// The old server's reply to a check.
fn decide(table: &[Package], check: &OldCheck) -> Answer {
    let numbers = |version: &str| -> Vec<u32> {
        version
            .split('.')
            .map(|part| part.parse().unwrap())
            .collect()
    };
    let newer = |package: &&Package| {
        package.firmware_name == check.firmware_name
            && numbers(&package.version) > numbers(&check.version)
    };
    match table.iter().find(newer) {
        Some(package) if package.upgrade_all || package.imeis.contains(&check.imei) => {
            Answer(200, "", package.bytes.clone())
        }
        Some(_) => Answer(403, "", Vec::new()),
        None => Answer(404, "", Vec::new()),
    }
}

/// Creates the tables of the old server, its files in `old/`, and `releases.tsv` as the guide does.
fn old_server(place: &Place, packages: &[Package]) {
    let mut sql = "CREATE TABLE firmware_packages (id INTEGER, firmware_name TEXT, version TEXT, source_version TEXT,
        file_name TEXT, allow_upgrade INTEGER, upgrade_all INTEGER, enabled INTEGER);
        CREATE TABLE firmware_device_assignments (firmware_id INTEGER, imei TEXT);"
        .to_owned();
    std::fs::create_dir(place.root.join("old")).unwrap();
    for (id, package) in packages.iter().enumerate() {
        std::fs::write(
            place.root.join("old").join(&package.file_name),
            &package.bytes,
        )
        .unwrap();
        sql += &format!(
            "INSERT INTO firmware_packages VALUES ({id}, '{}', '{}', NULL, '{}', 1, {}, 1);",
            package.firmware_name, package.version, package.file_name, package.upgrade_all
        );
        for imei in &package.imeis {
            sql += &format!("INSERT INTO firmware_device_assignments VALUES ({id}, '{imei}');");
        }
    }
    sql += "INSERT INTO firmware_packages VALUES (900, 'OFF_Luat_V0035_8955', '9.0.0', '', 'off', 0, 1, 1);
        INSERT INTO firmware_packages VALUES (901, 'NOBODY', '9.0.0', '', 'off', 1, 0, 1);
        INSERT INTO firmware_packages VALUES (902, 'GONE', '9.0.0', '', 'off', 1, 1, 0);";
    std::fs::write(place.root.join("old/off"), noise(99, 3000)).unwrap();
    python::database(place, &sql);
    let list = block(SERVERS, "firmware_packages").replace("/opt/ota/firmware", "old");
    shell(place, &list).unwrap();
}

#[test]
fn every_generation_gets_from_the_imported_folder_what_the_spring_server_sent() {
    if !has("python3") {
        return;
    }
    // Record the name that each module sends.
    let fleet = http_fleet("P", "1.0.0");
    let curious = OldServer::start(Box::new(|_| Answer(404, "", Vec::new())));
    let ask = |address, path| -> Vec<Played> {
        play_all(
            fleet
                .iter()
                .map(|module| module.attempt(address, path))
                .collect(),
        )
    };
    ask(curious.address, "/luat/update");
    let mut packages: Vec<Package> = Vec::new();
    for check in curious.checks.lock().unwrap().iter() {
        let version = next_version(&check.version);
        let same =
            |p: &&mut Package| (&p.firmware_name, &p.version) == (&check.firmware_name, &version);
        let number = packages.len();
        let package = match packages.iter_mut().find(same) {
            Some(package) => package,
            None => {
                packages.push(Package {
                    firmware_name: check.firmware_name.clone(),
                    version,
                    file_name: format!("dfota_{number}.bin"),
                    bytes: noise(200 + number as u64, 3000 + number * 1000),
                    upgrade_all: true,
                    imeis: Vec::new(),
                });
                packages.last_mut().unwrap()
            }
        };
        package.imeis.push(check.imei.clone());
    }
    assert!(packages.len() >= 4, "{}", packages.len());
    // Every package of this version is assigned to a list that omits one device.
    let missing = fleet[UNASSIGNED].module.imei.clone();
    let listed = packages
        .iter()
        .find(|p| p.imeis.contains(&missing))
        .unwrap()
        .version
        .clone();
    let checks = curious.checks.lock().unwrap().clone();
    let ids = checks.iter().map(|check| check.imei.clone());
    let all: Vec<String> = ids.filter(|id| *id != missing).collect();
    for package in packages.iter_mut().filter(|p| p.version == listed) {
        (package.upgrade_all, package.imeis) = (false, all.clone());
    }

    let place = Place::new();
    old_server(&place, &packages);
    let import = block(SERVERS, "while IFS");
    let checked = shell(&place, &import).unwrap();
    assert!(!checked.contains("Quarantined"), "{checked}");
    let paused = |project: &str| {
        let path = place.firmware().join(project).join("9.0.0/release.json");
        std::fs::read_to_string(path).is_ok_and(|text| text.contains("\"paused\": true"))
    };
    assert!(paused("OFF") && paused("NOBODY") && !place.firmware().join("GONE").exists());

    let table = Arc::new(Mutex::new(packages));
    let shared = table.clone();
    let old = OldServer::start(Box::new(move |check| {
        decide(&shared.lock().unwrap(), check)
    }));
    let new = Server::start_in(place, &[]);
    let targets: Vec<String> = checks
        .iter()
        .map(|c| {
            format!(
                "/luat/update?imei=862991449999999&firmware_name={}&version={}",
                c.firmware_name, c.version
            )
        })
        .collect();
    wait_until_ready(&new, &targets);
    let mut rows = Rows::default();
    let before = ask(old.address, "/luat/update");
    let after = ask(new.http, "/luat/update");
    for (module, (before, after)) in fleet.iter().zip(before.iter().zip(&after)) {
        let result = match (&before.outcome, &after.outcome) {
            (a, b) if a == b => Ok(()),
            (Outcome::NoUpdate(_), Outcome::NoUpdate(_)) => Ok(()),
            _ if diagnose::is_known_bug(module.client, after) => Ok(()),
            (a, b) => Err(format!("before {a:?}, now {b:?}")),
        };
        let updated = matches!(after.outcome, Outcome::Updated(_));
        let wanted = module.module.imei != missing;
        rows.row(&module.client.name(), result);
        rows.row(
            &format!("{}: whether it is offered", module.client.name()),
            (updated == wanted)
                .then_some(())
                .ok_or(format!("{:?}", after.outcome)),
        );
    }
    rows.finish();
    let refused = checks.iter().find(|check| check.imei == missing).unwrap();
    let target = format!(
        "/luat/update?imei={missing}&firmware_name={}&version={}",
        refused.firmware_name, refused.version
    );
    new.get(&target).must_refuse(403, 21).unwrap();
}

#[test]
fn the_older_manifest_of_the_spring_server_is_listed_too() {
    if !has("jq") {
        return;
    }
    let place = Place::new();
    std::fs::create_dir(place.root.join("old")).unwrap();
    std::fs::write(
        place.root.join("old/manifest.json"),
        r#"{"releases": [
            {"id": "a", "firmwareName": "P_LuatOS-SoC_Air780EHM", "sourceVersion": "2034.001.002",
             "targetVersion": "2034.001.003", "file": "a.bin", "enabled": true},
            {"id": "b", "firmwareName": "P_LuatOS-SoC_Air780EHM", "sourceVersion": "2034.001.003",
             "targetVersion": "2046.001.004", "file": "b.bin", "enabled": true},
            {"id": "c", "firmwareName": "Q", "targetVersion": "1.0.1", "file": "c.bin", "enabled": false}]}"#,
    )
    .unwrap();
    for (name, seed) in [("a.bin", 1), ("b.bin", 2)] {
        std::fs::write(place.root.join("old").join(name), noise(seed, 3000)).unwrap();
    }
    let list = block(SERVERS, "manifest.json").replace("/opt/ota/firmware", "old");
    shell(&place, &list).unwrap();
    shell(&place, &block(SERVERS, "while IFS")).unwrap();
    let script = place
        .firmware()
        .join("P/2034.001.003/P_2034.001.003_LuatOS-SoC_Air780EHM.bin");
    // The core changes, so the file is a core delta for its base core.
    let delta = place
        .firmware()
        .join("P/2046.001.004/from-2034/P_2046.001.004_LuatOS-SoC_Air780EHM.bin");
    assert_eq!(std::fs::read(script).unwrap(), noise(1, 3000));
    assert_eq!(std::fs::read(delta).unwrap(), noise(2, 3000));
    assert!(!place.firmware().join("Q").exists());
}

#[test]
fn the_import_stops_where_two_packages_of_a_version_have_other_rules() {
    let place = Place::new();
    std::fs::write(place.root.join("f"), noise(1, 3000)).unwrap();
    std::fs::write(
        place.root.join("releases.tsv"),
        "P_LuatOS-SoC_A\t2012.1.1\t-\tf\t1\t*\nP_LuatOS-SoC_B\t2012.1.1\t-\tf\t1\t862991443753386\n",
    )
    .unwrap();
    let error = shell(&place, &block(SERVERS, "while IFS")).unwrap_err();
    assert!(
        error.contains("firmware/P/2012.1.1: two packages with different rules"),
        "{error}"
    );
}
