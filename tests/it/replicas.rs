//! Promise: servers with a common secret and separate state folders answer for each other, so that UDP and libfota3 survive
//! the loss of one of them.

use crate::common;

use common::datagrams::Device;
use common::packages::noise;
use common::{IMEI, Place, Server, luat};
use serde_json::Value;

/// Two servers with the same firmware and the secret in `secret`, which does not exist.
fn pair(bytes: &[u8], secret: &Place) -> [Server; 2] {
    let file = secret.root.join("secret");
    let start = || {
        let place = Place::new();
        place.drop_firmware("P/1.0.3/update.bin", bytes);
        let server = Server::start_in(place, &["--secret-file", file.to_str().unwrap()]);
        server.wait_until_offered(&luat("P", "862991443750001", "1.0.0"), bytes);
        server
    };
    // Both start, and create the file, at the same time.
    std::thread::scope(|scope| {
        let one = scope.spawn(start);
        let other = scope.spawn(start);
        [one.join().unwrap(), other.join().unwrap()]
    })
}

#[test]
fn a_udp_download_goes_on_at_the_other_server() {
    let (bytes, secret) = (noise(90, 20_000), Place::new());
    let [one, other] = pair(&bytes, &secret);
    let mut device = Device::new(one.udp);
    let offer = device
        .check(format!("{IMEI},P_Luat_V0035_8955,1.0.0"))
        .unwrap();
    let mut got = Vec::new();
    for number in 1..=offer.count {
        if number == offer.count / 2 {
            device.server = other.udp;
        }
        let reply = device.ask(format!("Get{number},{}", offer.id)).unwrap();
        got.extend_from_slice(offer.data(number, &reply).unwrap());
    }
    assert_eq!(got, bytes);
    // The check has the same answer there.
    let again = device
        .check(format!("{IMEI},P_Luat_V0035_8955,1.0.0"))
        .unwrap();
    assert_eq!(again, offer);
}

#[test]
fn the_url_of_libfota3_is_valid_at_the_other_server() {
    let (bytes, secret) = (noise(91, 20_000), Place::new());
    let [one, other] = pair(&bytes, &secret);
    let offered = one.get(&format!(
        "/api/site/turnkey_fota?imei={IMEI}&project_key=k&model=Air780EPM&core_id=1&core_version=2012\
         &script_name=P&script_version=001.000.000"
    ));
    let offered: Value = serde_json::from_slice(&offered.body).unwrap();
    let url = offered["url"]
        .as_str()
        .unwrap_or_else(|| panic!("{offered}"));
    let path = url.find("/api/").map(|at| &url[at..]).unwrap();
    drop(one);
    other.get(path).must_be_file(&bytes).unwrap();
}
