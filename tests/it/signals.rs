//! Promise: signals have their documented effects, running downloads may finish, and a server serves immediately
//! after SIGKILL and a restart.

use crate::command_line::place;
use crate::common;

use std::time::{Duration, Instant};

use common::packages::noise;
use common::{IMEI, PATIENCE, Place, Server, SlowDownload, get, luat};
use rustix::process::Signal;

#[test]
fn sighup_rescans_the_folder() {
    let (place, bytes) = place();
    // A second name of the file outside the folder: writing through this name causes no event in the folder.
    let outside = place.root.join("second-name");
    std::fs::hard_link(place.path("P/2.0.1/update.bin"), &outside).unwrap();
    let mut server = Server::start_in(place, &[]);
    server.wait_until_offered(&luat("P", IMEI, "2.0.0"), &bytes);
    let new = noise(175, 2000);
    std::fs::write(&outside, &new).unwrap();
    server.signal(Signal::HUP);
    let start = Instant::now();
    server.wait_until_offered(&luat("P", "862991443750002", "2.0.0"), &new);
    println!("after SIGHUP: {:.2?}", start.elapsed());
    assert!(start.elapsed() < Duration::from_secs(10));
    assert!(server.is_running());
}

#[test]
fn sigterm_lets_a_running_download_finish() {
    for signal in [Signal::TERM, Signal::INT] {
        let place = Place::new();
        let bytes = noise(176, 3 << 20);
        place.drop_firmware("P/2.0.1/update.bin", &bytes);
        let mut server = Server::start_in(place, &["--grace", "30"]);
        server.wait_until_offered(&luat("P", IMEI, "2.0.0"), &bytes);
        let mut download =
            SlowDownload::begin(server.http, &get(&luat("P", IMEI, "2.0.0")), 10_000);
        server.signal(signal);
        for _ in 0..20 {
            download.read(8 * 1024).unwrap();
            std::thread::sleep(Duration::from_millis(40));
        }
        assert!(server.is_running(), "it did not wait for the download");
        download.finish().unwrap().must_be_file(&bytes).unwrap();
        let status = server.wait_for_exit(Duration::from_secs(10));
        assert!(
            status.is_some_and(|status| status.success()),
            "after {signal:?}: {status:?}"
        );
    }
}

#[test]
fn sigterm_does_not_wait_longer_than_the_grace() {
    let place = Place::new();
    let bytes = noise(177, 3 << 20);
    place.drop_firmware("P/2.0.1/update.bin", &bytes);
    let mut server = Server::start_in(place, &["--grace", "1"]);
    server.wait_until_offered(&luat("P", IMEI, "2.0.0"), &bytes);
    let _stalled = SlowDownload::begin(server.http, &get(&luat("P", IMEI, "2.0.0")), 10_000);
    server.signal(Signal::TERM);
    let start = Instant::now();
    let status = server.wait_for_exit(PATIENCE);
    assert!(status.is_some_and(|status| status.success()), "{status:?}");
    println!("ended after {:.1?}", start.elapsed());
    assert!(start.elapsed() < Duration::from_secs(10));
}

#[test]
fn an_idle_server_ends_at_once() {
    let (place, bytes) = place();
    let server = Server::start_in(place, &["--grace", "60"]);
    server.wait_until_offered(&luat("P", IMEI, "2.0.0"), &bytes);
    let start = Instant::now();
    let _place = server.terminate();
    assert!(
        start.elapsed() < Duration::from_secs(5),
        "{:?}",
        start.elapsed()
    );
}

#[test]
fn after_a_kill_known_files_are_served_at_once() {
    let (place, bytes) = place();
    let server = Server::start_in(place, &[]);
    server.wait_until_offered(&luat("P", IMEI, "2.0.0"), &bytes);
    let hash: String = <sha2::Sha256 as sha2::Digest>::digest(&bytes)
        .iter()
        .map(|byte| format!("{byte:02x}"))
        .collect();
    let state = server.place().state();
    common::wait_until("the hash is in the state", PATIENCE, || {
        common::files_under(&state).iter().any(|file| {
            // Neither the temporary file, nor the journal, which contains the hash, too.
            file == "hashes.jsonl"
                && std::fs::read(state.join(file))
                    .is_ok_and(|text| String::from_utf8_lossy(&text).contains(&hash))
        })
    });
    let server = Server::start_in(server.kill(), &[]);
    // The very first reply.
    server
        .get(&luat("P", IMEI, "2.0.0"))
        .must_be_file(&bytes)
        .unwrap();
}
