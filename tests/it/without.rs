//! Promise: on a machine without memfd, leases, TCP_DEFER_ACCEPT or file system events, or without all of them, every
//! main task works, only slower; the same is true next to a read-only root and on a USB stick.

use crate::common;

use std::io::Write;
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use common::datagrams::Device;
use common::mount::{Mount, skipped};
use common::packages::noise;
use common::{
    IMEI, PATIENCE, Place, Server, SlowDownload, files_under, flags_in_help, get, get_with, luat,
    luat_ota, run, serve_arguments,
};

const ALL: [&str; 4] = ["memfd", "leases", "defer-accept", "inotify"];

/// Performs the main tasks: a file dropped while the server runs, HTTP, a resume, UDP, a file replaced in place during
/// a download, kill -9 and a restart, SIGTERM. `flags` state the features to do without.
fn check_main_tasks(flags: &[&str]) {
    // Without events the rescan finds new files.
    let flags: Vec<&str> = flags.iter().copied().chain(["--rescan", "1"]).collect();
    let server = Server::start(&flags);
    for feature in ALL.iter().filter(|feature| flags.contains(feature)) {
        server.wait_for_log(&format!("says that {feature} is gone"), |line| {
            line.contains(&format!("{feature} is disabled"))
        });
    }
    let target = luat("P", IMEI, "1.0.0");
    let first = noise(301, 400_000);
    server.drop_firmware("P/1.0.1/update.bin", &first);
    let took = server.wait_until_offered(&target, &first);
    println!("{flags:?}: offered after {took:.1?}");

    let reply = server.get(&target);
    let tag = reply.header("ETag").unwrap().to_owned();
    let part = get_with(
        &target,
        &format!("Range: bytes=1000-\r\nIf-Range: {tag}\r\n"),
    );
    server
        .http(&part)
        .must_be_part(&first, 1000, first.len())
        .unwrap();

    let device = Device::new(server.udp);
    let check = format!("{IMEI},P_Luat_V0035_8955,1.0.0");
    let offer = device.check(&check).unwrap();
    assert_eq!(device.download(offer).unwrap(), first);
    device
        .must_reply(format!("Get1,{}", offer.id ^ 1), "ERR")
        .unwrap();

    // Overwrite and truncate the file in place during a download.
    let large = noise(302, 4 << 20);
    let second = noise(303, 3 << 20);
    server.drop_firmware("L/1.0.1/update.bin", &large);
    let other = luat("L", IMEI, "1.0.0");
    server.wait_until_offered(&other, &large);
    let slow = SlowDownload::begin(server.http, &get(&other), 5000);
    let path = server.place().path("L/1.0.1/update.bin");
    let mut file = std::fs::OpenOptions::new().write(true).open(path).unwrap();
    file.write_all(&second).unwrap();
    file.set_len(second.len() as u64).unwrap();
    drop(file);
    let reply = slow.finish().unwrap();
    assert!(
        reply.body == large,
        "not the bytes that the download began with"
    );
    server.wait_until_offered(&other, &second);

    // The upgrade id and the ETag are the same after a power cut.
    let server = Server::start_in(server.kill(), &flags);
    server.wait_until_offered(&target, &first);
    server
        .http(&part)
        .must_be_part(&first, 1000, first.len())
        .unwrap();
    let device = Device::new(server.udp);
    assert_eq!(device.download(offer).unwrap(), first);

    let mut server = server;
    server.wait_until_offered(&other, &second);
    let slow = SlowDownload::begin(server.http, &get(&other), 5000);
    server.signal(rustix::process::Signal::TERM);
    assert_eq!(slow.finish().unwrap().body, second);
    let status = server.wait_for_exit(PATIENCE);
    assert!(
        status.is_some_and(|status| status.success()),
        "after SIGTERM: {status:?}"
    );
}

#[test]
fn without_memfd_snapshots_are_unnamed_files() {
    check_main_tasks(&["--without", "memfd"]);
    // The snapshots are unnamed files.
    let server = Server::start(&["--without", "memfd"]);
    let bytes = noise(310, 200_000);
    server.drop_firmware("P/1.0.1/update.bin", &bytes);
    server.wait_until_offered(&luat("P", IMEI, "1.0.0"), &bytes);
    let open = open_files(server.pid());
    let state = server.place().state().display().to_string();
    assert!(!open.iter().any(|name| name.contains("memfd")), "{open:?}");
    assert!(
        open.iter()
            .any(|name| name.starts_with(&state) && name.ends_with("(deleted)")),
        "{open:?}"
    );
    assert!(
        files_under(&server.place().state())
            .iter()
            .all(|name| !name.ends_with(".tmp")),
        "a snapshot has a name"
    );
}

#[test]
fn without_leases_a_file_must_be_unchanged_for_longer() {
    check_main_tasks(&["--without", "leases"]);
    // A writer that pauses for two seconds is not treated as finished.
    let server = Server::start(&["--without", "leases"]);
    let bytes = noise(311, 60_000);
    let path = server.place().path("P/1.0.1/update.bin");
    let mut file = std::fs::File::create(path).unwrap();
    let target = luat("P", IMEI, "1.0.0");
    for part in bytes.chunks(20_000) {
        file.write_all(part).unwrap();
        let pause = Instant::now();
        while pause.elapsed() < Duration::from_secs(2) {
            assert_ne!(server.get(&target).status, 200, "half a file is offered");
            std::thread::sleep(Duration::from_millis(100));
        }
    }
    drop(file);
    server.wait_until_offered(&target, &bytes);
}

#[test]
fn without_deferred_accepting_everything_is_the_same() {
    check_main_tasks(&["--without", "defer-accept"]);
    // Without the feature a silent connection is established immediately; with it, the connection stays half open.
    let cookies = std::fs::read_to_string("/proc/sys/net/ipv4/tcp_syncookies");
    let deferring = cookies.is_ok_and(|text| text.trim() != "0");
    for (flags, deferred) in [
        (&["--without", "defer-accept"][..], false),
        (&[], deferring),
    ] {
        let server = Server::start(flags);
        let client = std::net::TcpStream::connect(server.http).unwrap();
        let states = tcp_states(server.http.port(), client.local_addr().unwrap().port());
        let expected = if deferred { SYN_RECV } else { ESTABLISHED };
        assert_eq!(states, [expected], "{flags:?}");
    }
}

const ESTABLISHED: &str = "01";
const SYN_RECV: &str = "03";

/// The states of the connections between two ports of this machine, as the kernel lists them.
fn tcp_states(local: u16, remote: u16) -> Vec<String> {
    let list = std::fs::read_to_string("/proc/net/tcp").unwrap();
    let fits = |address: &str, port: u16| address.ends_with(&format!(":{port:04X}"));
    list.lines()
        .map(|line| line.split_whitespace().collect::<Vec<_>>())
        .filter(|fields| fits(fields[1], local) && fits(fields[2], remote))
        .map(|fields| fields[3].to_owned())
        .collect()
}

#[test]
fn without_events_the_rescan_or_a_signal_finds_new_files() {
    check_main_tasks(&["--without", "inotify"]);
    let server = Server::start(&["--without", "inotify", "--rescan", "3600"]);
    server.wait_for_log("says that there are no events", |line| {
        line.contains("events are not available")
    });
    let bytes = noise(312, 5000);
    server.drop_firmware("P/1.0.1/update.bin", &bytes);
    let target = luat("P", IMEI, "1.0.0");
    let end = Instant::now() + Duration::from_secs(2);
    while Instant::now() < end {
        assert_ne!(server.get(&target).status, 200, "seen without an event");
        std::thread::sleep(Duration::from_millis(100));
    }
    server.signal(rustix::process::Signal::HUP);
    server.wait_until_offered(&target, &bytes);
    assert!(
        !open_files(server.pid())
            .iter()
            .any(|name| name.contains("inotify")),
        "inotify is used all the same"
    );
}

#[test]
fn without_all_optional_features_modules_are_updated() {
    let flags: Vec<&str> = ALL.iter().flat_map(|name| ["--without", *name]).collect();
    check_main_tasks(&flags);
}

#[test]
fn features_can_be_disabled_in_the_environment_and_the_help_omits_it() {
    let place = Place::new();
    let mut command = luat_ota();
    command.args(serve_arguments(&place, &[]));
    command.env("LUAT_OTA_WITHOUT", "memfd,inotify");
    let server = Server::from_command(place, &mut command);
    for feature in ["memfd", "inotify"] {
        server.wait_for_log("says what is gone", |line| {
            line.contains(&format!("{feature} is disabled"))
        });
    }
    assert!(flags_in_help().iter().all(|(flag, _)| flag != "--without"));
    let wrong = run(&["serve", "--without", "electricity"]);
    assert_eq!(wrong.status.code(), Some(2));
    assert!(common::both(&wrong).contains("memfd, leases, defer-accept or inotify"));
}

#[test]
fn beside_a_read_only_folder_the_state_is_elsewhere_or_nowhere() {
    let Some(mount) = Mount::new("tmpfs", &["-t", "tmpfs", "tmpfs"]) else {
        return;
    };
    let bytes = noise(313, 30_000);
    let target = luat("P", IMEI, "1.0.0");
    std::fs::create_dir_all(mount.path.join("P/1.0.1")).unwrap();
    std::fs::write(mount.path.join("P/1.0.1/update.bin"), &bytes).unwrap();
    mount.run("mount", &["-o", "remount,ro"]);
    let folder = mount.path.to_str().unwrap();
    let serve = |state: Option<&Path>, more: &[&str]| {
        let mut command = luat_ota();
        command.args(["serve", folder, "--http", "127.0.0.1:0"]);
        command.args(["--udp", "127.0.0.1:0", "--log-format", "json"]);
        command.args(more);
        if let Some(state) = state {
            command.arg("--state").arg(state);
        }
        Server::from_command(Place::new(), &mut command)
    };
    let elsewhere = Place::new();
    for more in [&[][..], &["--without", "memfd"]] {
        let server = serve(Some(&elsewhere.state()), more);
        server.wait_until_offered(&target, &bytes);
        server.terminate();
    }
    assert!(files_under(&elsewhere.state()).contains(&"secret".to_owned()));
    // No state folder: the server reports what is lost, and serves.
    let server = serve(None, &[]);
    server.wait_for_log("says what is lost", |line| {
        line.contains("cannot be used") && line.contains("restart forgets")
    });
    server.wait_until_offered(&target, &bytes);
    let device = Device::new(server.udp);
    let check = format!("{IMEI},P_Luat_V0035_8955,1.0.0");
    let offer = device.check(&check).unwrap();
    assert_eq!(device.download(offer).unwrap(), bytes);
    // After a restart in the same boot even the UDP download continues.
    drop(server.kill());
    let server = serve(None, &[]);
    server.wait_until_offered(&target, &bytes);
    assert_eq!(Device::new(server.udp).download(offer).unwrap(), bytes);
    drop(server.terminate());
    // Neither memfd nor a place for a file: a message, and no wrong byte.
    let server = serve(None, &["--without", "memfd"]);
    let reply = server
        .wait_for_reply(&get(&target), PATIENCE, |reply| reply.status == 503)
        .unwrap();
    assert!(reply.body.len() < 300);
    server.wait_for_log("says what to do", |line| line.contains("--state"));
}

#[test]
fn a_vfat_stick_is_served_and_may_be_written_in_place() {
    let place = Place::new();
    let image = place.root.join("stick.img");
    std::fs::File::create(&image)
        .unwrap()
        .set_len(16 << 20)
        .unwrap();
    let made = Command::new("mkfs.vfat").arg(&image).output();
    if !made.as_ref().is_ok_and(|output| output.status.success()) {
        skipped("no mkfs.vfat here (package dosfstools)");
        return;
    }
    let Some(mount) = Mount::new(
        "vfat",
        &["-t", "vfat", "-o", "loop", image.to_str().unwrap()],
    ) else {
        return;
    };
    let bytes = noise(314, 300_000);
    let target = luat("P", IMEI, "1.0.0");
    let mut command = luat_ota();
    command.args(["serve", mount.path.to_str().unwrap(), "--rescan", "1"]);
    command.args(["--http", "127.0.0.1:0", "--udp", "127.0.0.1:0"]);
    command.args(["--log-format", "json"]);
    let server = Server::from_command(place, &mut command);
    std::fs::create_dir_all(mount.path.join("P/1.0.1")).unwrap();
    let path = mount.path.join("P/1.0.1/UPDATE.BIN");
    std::fs::write(&path, &bytes).unwrap();
    let took = server.wait_until_offered(&target, &bytes);
    println!("offered from the stick after {took:.1?}");
    // vfat stores modification times in steps of two seconds, so only the size shows the change.
    let slow = SlowDownload::begin(server.http, &get(&target), 5000);
    let new = noise(315, 310_000);
    std::fs::write(&path, &new).unwrap();
    assert_eq!(slow.finish().unwrap().body, bytes);
    server.wait_until_offered(&target, &new);
    // The state is on the stick, too.
    assert!(mount.path.join(".luat-ota/secret").exists());
    drop(server.terminate());
}

/// The targets of a process's open descriptors.
fn open_files(pid: u32) -> Vec<String> {
    std::fs::read_dir(format!("/proc/{pid}/fd"))
        .unwrap()
        .flatten()
        .filter_map(|entry| std::fs::read_link(entry.path()).ok())
        .map(|path| path.display().to_string())
        .collect()
}
