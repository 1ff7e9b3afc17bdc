//! Test of a staged rollout whose failing devices the load balancer splits between the servers.

use std::io::Write;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::time::Duration;

use serde_json::json;

use super::pair::{Balancer, Pair, Replica};
use crate::common;
use common::packages::noise;
use common::{PATIENCE, Reply, connect_from, get, luat, reply, wait_until};

/// Time between a delivery and the next check. The old version within three seconds after a delivery is not counted as
/// a result (docs/evidence.md).
const REBOOT: Duration = Duration::from_millis(4200);

/// Range of the failing devices' IMEIs. Devices that `allow` names individually are not counted.
const FIRST: u64 = 862_991_430_000_000;
const RANGE: &str = "862991430000000-862991430000999";

fn imei(number: u64) -> String {
    (FIRST + number).to_string()
}

/// Sends a check through the load balancer. Each device has its own network.
fn ask(balancer: SocketAddr, number: u64, target: &str) -> Reply {
    let source: IpAddr = Ipv4Addr::new(127, 9, number as u8, 1).into();
    let mut stream = connect_from(Some(source), balancer, 0);
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    stream.write_all(&get(target)).unwrap();
    reply::read(&mut stream, false).unwrap()
}

/// Finds four devices, two of each server.
fn failing_devices(pair: &Pair) -> Vec<u64> {
    let mut found = [const { Vec::new() }; 2];
    for number in 1..200 {
        // A check of another project, which does not affect the release.
        let target = luat("OTHER", &imei(number), "1.0.0");
        let marks = pair
            .replicas
            .each_ref()
            .map(|replica| replica.server().log_mark());
        ask(pair.balancer.http, number, &target);
        let known = format!("\"{}\"", imei(number));
        let mut server = None;
        wait_until("a server has the check", PATIENCE, || {
            server = (0..2).find(|&n| {
                let lines = pair.replicas[n].server().log.all();
                lines
                    .iter()
                    .skip(marks[n])
                    .any(|line| line.contains(&known))
            });
            server.is_some()
        });
        let devices: &mut Vec<u64> = &mut found[server.unwrap()];
        if devices.len() < 2 {
            devices.push(number);
        }
        if found.iter().all(|devices| devices.len() == 2) {
            break;
        }
    }
    found.concat()
}

/// Lets four devices, two of each server, fall back to their old version. Returns whether the release pauses itself on
/// all servers. `devices` is the value in the fuse.
fn is_paused(hosts: u8, devices: u32, fleet: bool) -> Option<bool> {
    let pair = Pair::start(Balancer::Nginx, hosts, Duration::from_secs(600), fleet)?;
    let bytes = noise(71, 20_000);
    pair.shared
        .drop_firmware("OTHER/1.0.0/update.bin", &noise(70, 3000));
    for replica in &pair.replicas {
        let other = luat("OTHER", &imei(900), "1.0.0");
        replica.server().wait_until_refused(&other, 404, 27);
    }
    let failing = failing_devices(&pair);
    let rules = json!({"allow": [RANGE], "fuse": {"devices": devices, "percent": 20}});
    pair.shared.rules("P/release.json", rules);
    pair.shared.drop_firmware("P/2.0.0/update.bin", &bytes);
    for replica in &pair.replicas {
        wait_until("the server has the release", PATIENCE, || {
            replica.release("P", "2.0.0")["state"] == "live"
        });
    }
    // Repeat until one server pauses the release, or each has had its two results for two rounds. Through a proxy, the
    // second consecutive fall-back is counted as a result.
    let state = |replica: &Replica| replica.release("P", "2.0.0")["state"].clone();
    let reverted = "luat_ota_updates_total{result=\"reverted\"}";
    // Number of rounds in which both servers had their results.
    let mut judged = 0;
    for round in 0.. {
        assert!(
            round < 20,
            "no results: {}",
            pair.replicas[0].release("P", "2.0.0")
        );
        for &number in &failing {
            let check = luat("P", &imei(number), "1.0.0");
            ask(pair.balancer.http, number, &check);
        }
        let all = |result: &dyn Fn(&Replica) -> bool| pair.replicas.iter().all(result);
        if !all(&|replica| state(replica) == "live") {
            break;
        }
        judged += u32::from(all(&|replica| replica.metric(reverted) >= 2));
        // Shared outcomes arrive within ten seconds.
        if judged == 3 && !fleet {
            return Some(false);
        }
        std::thread::sleep(REBOOT);
    }
    // The pause on one server reaches the other.
    for replica in &pair.replicas {
        wait_until("the release is paused", PATIENCE, || {
            state(replica) != "live"
        });
        let check = luat("P", &imei(999), "1.0.0");
        replica.server().wait_until_refused(&check, 404, 27);
    }
    Some(true)
}

#[test]
fn four_failing_devices_split_two_and_two_pause_a_release_if_its_fuse_is_two_or_outcomes_are_shared()
 {
    // `devices` of the fuse, whether the servers share outcomes, and whether the release pauses itself.
    let cases = [(2, false, true), (3, false, false), (3, true, true)];
    std::thread::scope(|scope| {
        for ((devices, fleet, expected), hosts) in cases.into_iter().zip([21, 31, 41]) {
            scope.spawn(move || {
                let paused = is_paused(hosts, devices, fleet);
                println!("fuse of {devices} devices, shared outcomes {fleet}: paused {paused:?}");
                assert!(paused.is_none_or(|paused| paused == expected));
            });
        }
    });
}
