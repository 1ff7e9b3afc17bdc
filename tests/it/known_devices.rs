//! Promise: with `--known-devices-only` the server serves only devices that an operator has listed or
//! that the server has seen before; the list is a file that may be edited while the server runs.

use crate::common;

use common::datagrams::{Device, Stream};
use common::packages::noise;
use common::{IMEI, PATIENCE, Place, Server, luat, wait_until};

const OTHER: &str = "862991443753387";
const SEEN: &str = "862991443753388";

fn check(imei: &str) -> String {
    luat("P", imei, "1.0.0")
}

fn message(imei: &str) -> String {
    format!("{imei},P_Luat_V0035_8955,1.0.0")
}

#[test]
fn only_known_devices_are_served_and_the_list_may_grow_meanwhile() {
    let place = Place::new();
    let bytes = noise(71, 10_000);
    place.drop_firmware("P/2.0.0/update.bin", &bytes);
    // A device that was seen before: it was updated while every device was served.
    let server = Server::start_in(place, &[]);
    server.wait_until_offered(&check(SEEN), &bytes);
    let journal = server.place().state().join("journal.jsonl");
    wait_until("it is remembered", PATIENCE, || {
        let text = std::fs::read_to_string(&journal).unwrap();
        text.contains(&format!("{{\"device\":\"imei:{SEEN}\""))
    });
    let place = server.kill();
    let list = place.state().join("known-devices.txt");
    std::fs::write(&list, format!("# ours\n{IMEI}\n")).unwrap();
    let server = Server::start_in(place, &["--known-devices-only"]);
    server.wait_until_offered(&check(IMEI), &bytes);
    server.get(&check(SEEN)).must_be_file(&bytes).unwrap();
    let device = Device::new(server.udp);
    for _ in 0..3 {
        server.get(&check(OTHER)).must_refuse(403, 3).unwrap();
        device.must_reply(message(OTHER), "no upgrade").unwrap();
        let reply = Stream::connect(server.tcp).ask(message(OTHER)).unwrap();
        assert_eq!(reply, b"no upgrade");
    }
    // A check without an id is refused, too, because the device cannot be known.
    let nobody = check(OTHER).replace("imei=", "x=");
    server.get(&nobody).must_refuse(403, 3).unwrap();
    device.check(message(IMEI)).unwrap();
    std::fs::write(&list, format!("{IMEI}\n{OTHER}\n")).unwrap();
    server.wait_until_offered(&check(OTHER), &bytes);
    let offer = device.check(message(OTHER)).unwrap();
    assert_eq!(device.download(offer).unwrap(), bytes);
}
