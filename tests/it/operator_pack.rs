//! Promise: the server makes the same package from a `.soc` file as `luat-ota pack`, stores no part of the file, and
//! reports the fault of a file that cannot be packed.
#![cfg(all(feature = "operator", feature = "pack"))]

use crate::common;

use common::operator::{ApiReply, Operator};
use common::packages::{SOC, noise, soc, zip_of};
use common::{IMEI, Server, files_under, luatos};
use luat_ota::pack::ec;
use serde_json::json;

fn start() -> (Server, Operator) {
    let server = Server::start(&[]);
    let operator = Operator::of(&server);
    (server, operator)
}

fn make(operator: &Operator, name: &str, bytes: &[u8]) -> ApiReply {
    operator.send("POST", &format!("/api/v1/pack/{name}"), "", bytes)
}

#[test]
fn a_package_is_made_as_the_command_line_makes_it_and_nothing_is_kept() {
    let (server, operator) = start();
    let bytes = soc("METER", "1.0.1");
    let reply = make(&operator, SOC, &bytes);
    assert_eq!(reply.status, 200, "{}", reply.text());
    let name = "METER_2020.1.1_LuatOS-SoC_Air780EPM.bin";
    assert_eq!(
        reply.header("content-disposition"),
        Some(format!("attachment; filename=\"{name}\"").as_str())
    );
    assert_eq!(make(&operator, SOC, &bytes).body, reply.body);
    let place = server.place();
    assert_eq!(files_under(&place.firmware()), [""; 0]);
    let kept = files_under(&place.state());
    assert!(!kept.iter().any(|name| name.contains("tmp")), "{kept:?}");
    // The package contains the script image of the .soc file and no other part of the file.
    let sectors = ec::unpack(&reply.body).unwrap();
    assert_eq!(sectors.len(), 1);

    // Publish the package paused, as the page does.
    let rules = json!({"percent": 0, "paused": "built here: verify on one module first"});
    let headers = format!("Release-Rules: {rules}\r\n");
    assert_eq!(operator.put_file(name, &headers, &reply.body), 201);
    let check = luatos("METER", "Air780EPM", IMEI, "2020.1.0");
    server.wait_until_refused(&check, 404, 27);
    operator.wait_for("/api/v1/releases", "it is paused", |list| {
        let release = &list["releases"][0];
        release["state"] == "paused" && release["percent"] == 0.0
    });
    let logged = server.log.all();
    assert!(
        logged
            .iter()
            .any(|line| line.contains("a package was made")),
        "{logged:?}"
    );
}

#[test]
fn values_that_the_script_and_the_name_lack_may_be_given() {
    let (_server, operator) = start();
    let bytes = soc("", "1.0");
    let target = format!("{SOC}?project=%E6%B0%B4&version=3.4.5&bsp=Air780EHM");
    let reply = make(&operator, &target, &bytes);
    assert_eq!(reply.status, 200, "{}", reply.text());
    assert_eq!(
        reply.header("content-disposition"),
        Some("attachment; filename*=UTF-8''%E6%B0%B4_2020.3.5_LuatOS-SoC_Air780EHM.bin")
    );
}

#[test]
fn a_file_other_than_a_factory_file_is_refused_with_the_reason() {
    let (server, operator) = start();
    let whole = soc("METER", "1.0.1");
    let mut rows = common::Rows::default();
    let no_script = zip_of(&[("info.json", br#"{"chip": {"type": "ec7xx"}}"#)]);
    let other_chip = zip_of(&[
        ("info.json", br#"{"chip": {"type": "air105"}}"#),
        ("script.bin", b"x"),
    ]);
    for (name, bytes, part) in [
        (SOC, noise(1, 5000), ""),
        (SOC, whole[..whole.len() / 2].to_vec(), ""),
        (SOC, no_script, "script"),
        (SOC, other_chip, ""),
        (SOC, soc("METER", "1.0"), "VERSION"),
        (SOC, soc("", "1.0.1"), "project"),
        ("core.soc", whole.clone(), "platform"),
    ] {
        let reply = make(&operator, name, &bytes);
        let detail = match reply.status {
            422 => reply.json()["detail"]
                .as_str()
                .unwrap_or_default()
                .to_owned(),
            _ => String::new(),
        };
        let fits = detail.len() > 20 && detail.contains(part);
        let result = fits.then_some(());
        rows.row(
            &format!("{name} ({part})"),
            result.ok_or(format!("{} {}", reply.status, reply.text())),
        );
    }
    let line = format!("POST /api/v1/pack/{SOC}");
    for (headers, status) in [("", 411), ("Content-Length: 67108865\r\n", 413)] {
        let reply = operator.ask(&operator.request(&line, true, headers, b""));
        let result = (reply.status == status).then_some(());
        rows.row(headers, result.ok_or(reply.text()));
    }
    let request = operator.request(&line, false, "", &whole);
    let reply = operator.ask(&request);
    rows.row(
        "no token",
        (reply.status == 401).then_some(()).ok_or(reply.text()),
    );
    rows.finish();
    assert_eq!(files_under(&server.place().firmware()), [""; 0]);
    assert_eq!(make(&operator, SOC, &whole).status, 200);
}

#[test]
fn several_packages_are_made_one_after_the_other() {
    let (_server, operator) = start();
    std::thread::scope(|scope| {
        let jobs: Vec<_> = (1..=3)
            .map(|n| {
                let operator = &operator;
                scope.spawn(move || make(operator, SOC, &soc("METER", &format!("1.0.{n}"))))
            })
            .collect();
        for job in jobs {
            let reply = job.join().unwrap();
            assert_eq!(reply.status, 200, "{}", reply.text());
        }
    });
}
