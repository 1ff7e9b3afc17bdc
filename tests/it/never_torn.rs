//! Promise: whatever happens to a firmware file while a hundred slow modules download it, every download that
//! completes is byte for byte one of the files that were dropped, and the server does not crash (no SIGBUS).

use crate::common;

use std::io::Write;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use common::datagrams::Device;
use common::packages::noise;
use common::{Place, Rows, Server, SlowDownload, get, get_with, luat};

const MODULES: usize = 100;
const SIZE: usize = 4 << 20;

fn request(number: usize) -> Vec<u8> {
    get(&luat("P", &format!("8629914437{number:05}"), "1.0.0"))
}

/// Starts a hundred downloads, calls `change`, which changes the file, and starts others meanwhile. Each download that
/// completes must be one of `files`. The first hundred must all complete with the file that they began with.
fn check_downloads(files: &[&[u8]], flags: &[&str], change: impl FnOnce(&Server) + Send) {
    let place = Place::new();
    place.drop_firmware("P/1.0.1/update.bin", files[0]);
    let mut server = Server::start_in(place, flags);
    server.wait_until_offered(&luat("P", "862991443700000", "1.0.0"), files[0]);
    // Each client has read its first bytes, and its socket buffer is small: the rest still has to be sent.
    let under_way: Vec<SlowDownload> = (0..MODULES)
        .map(|number| SlowDownload::begin(server.http, &request(number), 4096))
        .collect();
    let stop = AtomicBool::new(false);
    let (first, late) = std::thread::scope(|scope| {
        let late = scope.spawn(|| {
            // The downloads that begin meanwhile.
            let mut results = Vec::new();
            let mut number = 1000;
            while !stop.load(Ordering::Relaxed) {
                number += 1;
                let mut download = SlowDownload::begin(server.http, &request(number), 1000);
                while download.received() < SIZE / 8
                    && download.read(32 * 1024).is_ok_and(|n| n > 0)
                {
                    std::thread::sleep(Duration::from_millis(2));
                }
                let result = download.finish();
                if !matches!(&result, Ok(reply) if reply.status == 200) {
                    std::thread::sleep(Duration::from_millis(20));
                }
                results.push(result);
            }
            results
        });
        // Eight threads read for the hundred downloads, one piece of each in turn.
        let mut batches: Vec<Vec<SlowDownload>> = (0..8).map(|_| Vec::new()).collect();
        for (number, download) in under_way.into_iter().enumerate() {
            batches[number % 8].push(download);
        }
        let readers: Vec<_> = batches
            .into_iter()
            .map(|mut batch| {
                scope.spawn(move || {
                    // Read slowly while the file changes.
                    for _ in 0..12 {
                        for download in &mut batch {
                            let _ = download.read(16 * 1024);
                        }
                        std::thread::sleep(Duration::from_millis(60));
                    }
                    // Then read to the end.
                    batch
                        .into_iter()
                        .map(SlowDownload::finish)
                        .collect::<Vec<_>>()
                })
            })
            .collect();
        change(&server);
        let first: Vec<_> = readers
            .into_iter()
            .flat_map(|reader| reader.join().unwrap())
            .collect();
        stop.store(true, Ordering::Relaxed);
        (first, late.join().unwrap())
    });
    assert!(server.is_running(), "the server died");
    for (number, result) in first.iter().enumerate() {
        let reply = result
            .as_ref()
            .unwrap_or_else(|error| panic!("download {number} was cut: {error}"));
        assert!(
            reply.status == 200 && reply.body == files[0],
            "download {number} is not the file that it began with: {}",
            reply.head
        );
    }
    let (mut complete, mut refused) = (0, 0);
    for reply in late.iter().flatten() {
        if reply.status != 200 {
            refused += 1;
            continue;
        }
        complete += 1;
        assert!(
            files.iter().any(|file| reply.body == *file),
            "a late download of {} bytes is none of the files",
            reply.body.len()
        );
    }
    println!(
        "{} downloads under way whole; of {} late ones {complete} whole, {refused} refused",
        first.len(),
        late.len()
    );
    // The server still sends the current file or a refusal.
    server.get("/healthz");
}

#[test]
fn a_file_that_is_replaced_by_rename() {
    let (old, new) = (noise(70, SIZE), noise(71, SIZE));
    check_downloads(&[&old, &new], &[], |server| {
        server.drop_firmware("P/1.0.1/update.bin", &new);
        server.wait_until_offered(&luat("P", "862991443799999", "1.0.0"), &new);
    });
}

#[test]
fn a_file_that_is_overwritten_in_place() {
    let (old, new) = (noise(72, SIZE), noise(73, SIZE));
    check_downloads(&[&old, &new], &[], |server| {
        let path = server.place().path("P/1.0.1/update.bin");
        let mut file = std::fs::OpenOptions::new().write(true).open(path).unwrap();
        // A slow copy keeps the file open until it is complete.
        for piece in new.chunks(SIZE / 20) {
            file.write_all(piece).unwrap();
            std::thread::sleep(Duration::from_millis(40));
        }
        drop(file);
        server.wait_until_offered(&luat("P", "862991443799999", "1.0.0"), &new);
    });
}

#[test]
fn a_file_that_is_overwritten_while_there_is_no_memory_for_a_snapshot() {
    let (old, new) = (noise(78, SIZE), noise(79, SIZE));
    check_downloads(&[&old, &new], &["--snapshot-memory", "0"], |server| {
        let path = server.place().path("P/1.0.1/update.bin");
        let mut file = std::fs::OpenOptions::new().write(true).open(path).unwrap();
        for piece in new.chunks(SIZE / 10) {
            file.write_all(piece).unwrap();
            std::thread::sleep(Duration::from_millis(40));
        }
        drop(file);
        server.wait_until_offered(&luat("P", "862991443799999", "1.0.0"), &new);
    });
}

#[test]
fn a_file_that_is_truncated() {
    let old = noise(74, SIZE);
    let half = old[..SIZE / 2].to_vec();
    check_downloads(&[&old, &half], &[], |server| {
        let path = server.place().path("P/1.0.1/update.bin");
        let file = std::fs::OpenOptions::new().write(true).open(path).unwrap();
        std::thread::sleep(Duration::from_millis(100));
        file.set_len(SIZE as u64 / 2).unwrap();
        std::thread::sleep(Duration::from_millis(100));
        file.set_len(0).unwrap();
    });
}

#[test]
fn a_file_that_is_deleted() {
    let old = noise(75, SIZE);
    check_downloads(&[&old], &[], |server| {
        std::fs::remove_dir_all(server.place().firmware().join("P")).unwrap();
    });
}

#[test]
fn a_udp_download_never_mixes_two_files() {
    let place = Place::new();
    let (old, new) = (noise(76, 300_000), noise(77, 300_000));
    place.drop_firmware("P/1.0.1/update.bin", &old);
    let mut server = Server::start_in(place, &[]);
    server.wait_until_offered(&luat("P", "862991443799999", "1.0.0"), &old);
    let device = Device::new(server.udp);
    let offer = device
        .check("862991443753386,P_Luat_V0035_8955,1.0.0")
        .unwrap();
    let mut file = std::fs::OpenOptions::new()
        .write(true)
        .open(server.place().path("P/1.0.1/update.bin"))
        .unwrap();
    for number in 1..=offer.count {
        if number % 15 == 0 {
            let at = number * 1000;
            std::os::unix::fs::FileExt::write_all_at(&file, &new[..at], 0).unwrap();
        }
        let reply = device.ask(format!("Get{number},{}", offer.id)).unwrap();
        if reply == b"ERR" {
            continue;
        }
        let start = (number - 1) * 1022;
        let data = offer.data(number, &reply).unwrap();
        assert!(
            data == &old[start..start + data.len()],
            "packet {number} is not of the file that was offered"
        );
    }
    file.write_all(&new).unwrap();
    drop(file);
    server.wait_until_offered(&luat("P", "862991443799999", "1.0.0"), &new);
    assert!(server.is_running());
}

/// Changes of the folder between two halves of a download.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum FolderChange {
    Nothing,
    Newer,
    Renamed,
    Paused,
    Overwritten,
    Removed,
}

#[test]
fn after_a_kill_a_download_continues_with_its_own_bytes_or_not_at_all() {
    use FolderChange::*;
    const IMEI: &str = "862991443753386";
    const SEEN_BY: &str = "862991443799999";
    let (old, new) = (noise(78, 60_000), noise(79, 60_000));
    let mut rows = Rows::default();
    for change in [Nothing, Newer, Renamed, Paused, Overwritten, Removed] {
        let place = Place::new();
        place.drop_firmware("P/1.0.1/update.bin", &old);
        let server = Server::start_in(place, &[]);
        server.wait_until_offered(&luat("P", SEEN_BY, "1.0.0"), &old);
        let device = Device::new(server.udp);
        let offer = device
            .check(format!("{IMEI},P_Luat_V0035_8955,1.0.0"))
            .unwrap();
        let packet = |device: &Device, number: usize| {
            device.ask(format!("Get{number},{}", offer.id)).unwrap()
        };
        for number in 1..=offer.count / 2 {
            let reply = packet(&device, number);
            offer.data(number, &reply).unwrap();
        }
        let ask = |range: &str| get_with(&luat("P", IMEI, "1.0.0"), range);
        let first = server.http(&ask("Range: bytes=0-29999\r\n"));
        assert_eq!(first.body, old[..30_000]);
        // The server notices the change at once, or when it is restarted.
        let firmware = server.place().firmware();
        match change {
            Nothing => {}
            Newer => server.drop_firmware("P/1.0.2/update.bin", &new),
            Renamed => {
                std::fs::rename(firmware.join("P/1.0.1"), firmware.join("P/1.0.7")).unwrap();
            }
            Paused => server.rules("P/1.0.1/release.json", serde_json::json!({"paused": true})),
            Overwritten => server.drop_firmware("P/1.0.1/update.bin", &new),
            Removed => {
                std::fs::remove_dir_all(firmware.join("P/1.0.1")).unwrap();
                server.drop_firmware("P/1.0.0/update.bin", &new);
            }
        }
        let server = Server::start_in(server.kill(), &[]);
        let seen_by = |version| luat("P", SEEN_BY, version);
        match change {
            Nothing | Renamed => {
                server.wait_until_offered(&seen_by("1.0.0"), &old);
            }
            Newer | Overwritten => {
                server.wait_until_offered(&seen_by("1.0.0"), &new);
            }
            Paused => server.wait_until_refused(&seen_by("1.0.0"), 404, 27),
            Removed => {
                server.wait_until_offered(&seen_by("0.9.0"), &new);
            }
        }
        let is_gone = matches!(change, Overwritten | Removed);
        let rest = server.http(&ask("Range: bytes=30000-\r\n"));
        let http = match is_gone {
            true if rest.status == 416 => Ok(()),
            true => Err(rest.show()),
            false => rest.must_be_part(&old, 30_000, old.len()),
        };
        rows.row(&format!("{change:?} over HTTP"), http);
        let device = Device::new(server.udp);
        let udp = (offer.count / 2 + 1..=offer.count).try_for_each(|number| {
            let reply = packet(&device, number);
            let start = (number - 1) * 1022;
            match is_gone {
                true => (reply == b"ERR")
                    .then_some(())
                    .ok_or("bytes of what is gone"),
                false => match offer.data(number, &reply) {
                    Ok(data) if data == &old[start..start + data.len()] => Ok(()),
                    _ => Err("other bytes"),
                },
            }
        });
        rows.row(&format!("{change:?} over UDP"), udp.map_err(str::to_owned));
    }
    rows.finish();
}
