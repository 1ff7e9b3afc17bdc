//! Migration from the samples of the article of 2018: the Python server over UDP runs beside this one, and modules
//! get the same from both, except for the differences that the guide states.

use super::common::datagrams::Device;
use super::common::packages::noise;
use super::common::{IMEI, Place, Rows, Server};
use super::python::{ArticleServer, database};
use super::*;
use luat_ota::modems::first_edition::Dialect;

/// Name that modules send, version, and size in bytes.
const UPGRADES: [(&str, &str, usize); 3] = [
    ("USER_SERVER_UPDATE_Luat_V0035_8955", "1.1.9", 5000),
    ("A9335_V1723_B3633_WD1", "1.1.9", 3000),
    // Two full packets.
    ("EVEN_Luat_V0035_8955", "1.1.9", 2044),
];

fn sample_folder() -> Place {
    let place = Place::new();
    let mut sql = "CREATE TABLE single_upgrade (id INTEGER, project_name TEXT, version TEXT, file_path TEXT, status INTEGER);
        CREATE TABLE single_upgrade_imei_range (upgrade_id INTEGER, starting_imei TEXT, ending_imei TEXT);"
        .to_owned();
    for (id, (name, version, size)) in UPGRADES.iter().enumerate() {
        let file = place.root.join(format!("upgrade-{id}.bin"));
        std::fs::write(&file, noise(300 + id as u64, *size)).unwrap();
        sql += &format!(
            "INSERT INTO single_upgrade VALUES ({id}, '{name}', '{version}', '{}', 1);
             INSERT INTO single_upgrade_imei_range VALUES ({id}, '862991440000000', '862991440000999');
             INSERT INTO single_upgrade_imei_range VALUES ({id}, '{IMEI}', '{IMEI}');",
            file.display()
        );
    }
    sql += "INSERT INTO single_upgrade VALUES (90, 'OLD_Luat_V0035_8955', '9.0.0', '/none', 0);";
    database(&place, &sql);
    shell(&place, &block(SERVERS, "single_upgrade u")).unwrap();
    let checked = shell(&place, &block(SERVERS, "while IFS")).unwrap();
    assert!(!checked.contains("Quarantined"), "{checked}");
    place
}

/// Starts the old server with the same upgrades.
fn article(place: &Place) -> ArticleServer {
    let upgrades = UPGRADES.iter().enumerate();
    let upgrades = upgrades.map(|(id, (name, version, size))| {
        let bytes = noise(300 + id as u64, *size);
        (id, (*name).to_owned(), (*version).to_owned(), bytes)
    });
    ArticleServer::start(place, upgrades.collect())
}

#[test]
fn first_edition_modules_get_from_the_imported_folder_what_the_articles_server_sent() {
    if !has("python3") {
        return;
    }
    let place = sample_folder();
    let article = article(&place);
    let new = Server::start_in(place, &[]);
    let mut rows = Rows::default();
    for (id, (name, _, size)) in UPGRADES.iter().enumerate() {
        let bytes = noise(300 + id as u64, *size);
        let check = format!("{IMEI},{name},1.1.8");
        let here = Device::new(new.udp);
        common::wait_until("it has settled", common::PATIENCE, || {
            here.check(&check).is_ok()
        });
        let offer = here.check(&check).unwrap();
        assert_eq!(here.download(offer).unwrap(), bytes, "{name}");
        // Both servers send the same reply to a device that is up to date.
        for version in ["1.1.9", "1.2.0"] {
            let check = format!("{IMEI},{name},{version}");
            rows.row(
                &format!("here: {check}"),
                here.must_reply(&check, "version error"),
            );
            let there = Device::new(article.address);
            rows.row(
                &format!("article: {check}"),
                there.must_reply(&check, "version error"),
            );
        }
        let foreign = format!("862991449999999,{name},1.1.8");
        rows.row(&foreign, here.must_reply(&foreign, "imei range error"));
        let there = Device::new(article.address);
        match there.check(&check) {
            Ok(offer) => {
                assert_eq!(there.download(offer).unwrap(), bytes, "{name}");
                // A difference that the guide lists: the ranges of the article's server exclude no device.
                there.check(&foreign).unwrap();
            }
            // The other difference: the last packet of a file of full packets has no bytes.
            Err(error) => assert_eq!(*size % 1022, 0, "{name}: {error}"),
        }
    }
    rows.finish();
}

#[test]
fn a_file_of_whole_packets_installs_only_from_here() {
    if !has("python3") {
        return;
    }
    let place = sample_folder();
    let article = article(&place);
    let new = Server::start_in(place, &[]);
    let client = Client::First(Dialect::UserServer, true);
    for (project, number, fails) in [("USER_SERVER_UPDATE", 0, false), ("EVEN", 2, true)] {
        let bytes = noise(300 + number, UPGRADES[number as usize].2);
        let module = EmulatedModule::new(7, client, project, "1.1.8");
        let check = format!("{},{project}_Luat_V0035_8955,1.1.8", module.module.imei);
        common::wait_until("it has settled", common::PATIENCE, || {
            Device::new(new.udp).check(&check).is_ok()
        });
        let here = play_all(vec![module.attempt(new.udp, "")]);
        must_install(&here[0], &bytes).unwrap();
        // The article's server sends no reply.
        let settings = Settings::probing(Duration::from_secs(2));
        let there = play_all_with(vec![module.attempt(article.address, "")], &settings);
        assert_eq!(
            must_install(&there[0], &bytes).is_err(),
            fails,
            "{:?}",
            there[0].outcome
        );
    }
}

#[test]
fn the_folder_of_the_java_sample_is_listed_and_imported() {
    let place = Place::new();
    let bytes = noise(310, 3000);
    let folder = place.root.join("data/luat/update/2.0.1");
    std::fs::create_dir_all(&folder).unwrap();
    std::fs::write(folder.join("update.bin"), &bytes).unwrap();
    let list = block(SERVERS, "/data/luat/update").replace("/data/", "data/");
    shell(&place, &list).unwrap();
    shell(&place, &block(SERVERS, "while IFS")).unwrap();
    let new = Server::start_in(place, &[]);
    new.wait_until_offered(&common::luat("ALIYUN", IMEI, "2.0.0"), &bytes);
    // The sample sent its version to every device that runs another one.
    for version in ["2.0.1", "2.0.2"] {
        let check = common::luat("ALIYUN", IMEI, version);
        new.get(&check).must_refuse(404, 27).unwrap();
    }
}
