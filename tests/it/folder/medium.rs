//! Tests of a medium that is removed and returns while modules check and download.

use super::*;

// Case 61.
#[test]
fn modules_are_told_to_retry_while_the_medium_is_gone() {
    let Some(mount) = Mount::new("tmpfs", &["-t", "tmpfs", "none"]) else {
        return;
    };
    let place = Place::new();
    let bytes = noise(160, 50_000);
    std::fs::create_dir_all(mount.path.join("P/1.0.1")).unwrap();
    std::fs::write(mount.path.join("P/1.0.1/update.bin"), &bytes).unwrap();
    let rules = json!({"direct": true}).to_string();
    std::fs::write(mount.path.join("P/release.json"), rules).unwrap();
    let mut command = common::luat_ota();
    let flags = [
        mount.path.to_str().unwrap(),
        "--http=127.0.0.1:0",
        "--udp=127.0.0.1:0",
        "--operator=off",
        "--rescan=1",
        "--log-format=json",
        "--state",
        place.state().to_str().unwrap(),
    ]
    .map(str::to_owned);
    command.args(flags);
    let server = Server::from_command(place, &mut command);
    let target = luat("P", IMEI, "1.0.0");
    server.wait_until_offered(&target, &bytes);
    let path = mount.path.clone();
    mount.run("umount", &["-l"]);
    let asks = [
        target.clone(),
        luat("Q", IMEI, "1.0.0"),
        "/firmware/P/1.0.1/update.bin".to_owned(),
    ];
    for ask in &asks {
        let gone = server
            .wait_for_reply(&get(ask), PATIENCE, |reply| reply.status == 503)
            .unwrap();
        assert!(gone.body.is_empty(), "{ask}: {gone:?}");
    }
    // A folder that is created in place of the medium is served, with its content.
    let (other, third) = (noise(161, 900), noise(162, 901));
    std::fs::create_dir_all(path.join("Q/1.0.1")).unwrap();
    std::fs::write(path.join("Q/1.0.1/update.bin"), &other).unwrap();
    server.wait_until_offered(&luat("Q", IMEI, "1.0.0"), &other);
    let refused = server
        .wait_for_reply(&get(&target), PATIENCE, |reply| reply.status == 403)
        .unwrap();
    assert!(String::from_utf8_lossy(&refused.body).contains("25"));
    // A file that is removed from the folder is gone, because the device of the file system is the same.
    std::fs::remove_dir_all(path.join("Q")).unwrap();
    server
        .wait_for_reply(&get(&asks[1]), PATIENCE, |reply| reply.status == 403)
        .unwrap();
    // The folder itself disappears.
    std::fs::remove_dir(&path).unwrap();
    server
        .wait_for_reply(&get(&target), PATIENCE, |reply| {
            reply.status == 503 && reply.body.is_empty()
        })
        .unwrap();
    std::fs::create_dir_all(path.join("P/1.0.1")).unwrap();
    std::fs::write(path.join("P/1.0.1/update.bin"), &third).unwrap();
    server.wait_until_offered(&target, &third);
}

/// Path of the URL in libfota3's offer.
fn libfota3_path(server: &Server) -> String {
    let request = format!(
        "/api/site/turnkey_fota?imei={IMEI}&project_key=k&model=Air780EPM&core_id=1&core_version=2046\
         &script_name=P&script_version=001.000.000"
    );
    let offer: serde_json::Value = serde_json::from_slice(&server.get(&request).body).unwrap();
    let url = offer["url"].as_str().unwrap();
    let rest = url.strip_prefix("http://").unwrap();
    rest[rest.find('/').unwrap()..].to_owned()
}

// Case 61.
#[test]
fn a_download_resumes_after_its_medium_was_gone() {
    let Some(medium) = Mount::new("tmpfs", &["-t", "tmpfs", "none"]) else {
        return;
    };
    let bytes = noise(163, 400_000);
    std::fs::create_dir_all(medium.path.join("P/1.0.1")).unwrap();
    std::fs::write(medium.path.join("P/1.0.1/update.bin"), &bytes).unwrap();
    let rules = json!({"direct": true}).to_string();
    std::fs::write(medium.path.join("P/release.json"), rules).unwrap();
    let from = medium.path.to_str().unwrap();
    let Some(mount) = Mount::new("bind", &["--bind", from]) else {
        return;
    };
    let start = |place: Place| {
        let mut arguments = serve_arguments(&place, &["--rescan", "1"]);
        arguments[1] = mount.path.display().to_string();
        let mut command = common::luat_ota();
        command.args(arguments);
        Server::from_command(place, &mut command)
    };
    let server = start(Place::new());
    let check = luat("P", IMEI, "1.0.0");
    let direct = "/firmware/P/1.0.1/update.bin".to_owned();
    server.wait_until_offered(&luat("P", "862991443750002", "1.0.0"), &bytes);
    let libfota3 = libfota3_path(&server);
    let named = format!("{direct}?sha256={}", sha256(&bytes));
    let all = [&check, &direct, &libfota3, &named];
    for target in all {
        // Cut the download in the middle.
        SlowDownload::begin(server.http, &get(target), 50_000);
    }
    let device = Device::new(server.udp);
    let offer = device
        .check(format!("{IMEI},P_Luat_V0035_8955,1.0.0"))
        .unwrap();
    let packet = |number: usize| format!("Get{number},{}", offer.id);
    assert!(device.ask(packet(1)).is_some());
    // After a restart no file is loaded.
    let server = start(server.kill());
    server.wait_until_refused(&luat("P", IMEI, "1.0.1"), 404, 27);
    let device = Device::new(server.udp);
    let ask = |target: &str| server.http(&get_with(target, "Range: bytes=40000-\r\n"));
    mount.run("umount", &["-l"]);
    let is_told_to_come_back = || {
        for target in all {
            let reply = ask(target);
            assert!(
                reply.status == 503 && reply.header("Content-Length") == Some("0"),
                "{target}: {}",
                reply.show()
            );
        }
        device.must_be_silent(packet(2)).unwrap();
        let whole = server.get(&check);
        assert!(whole.status == 503 && whole.body.is_empty());
    };
    // Immediately, and after the next scan of the folder.
    is_told_to_come_back();
    server.wait_for_log("the medium is missed", |line| {
        line.contains("cannot be read (")
    });
    is_told_to_come_back();
    mount.run("mount", &["--bind", from]);
    for target in all {
        let goes_on = get_with(target, "Range: bytes=40000-\r\n");
        let reply = server
            .wait_for_reply(&goes_on, PATIENCE, |reply| reply.status != 503)
            .unwrap();
        reply.must_be_part(&bytes, 40_000, bytes.len()).unwrap();
    }
    assert_eq!(device.ask(packet(2)).unwrap()[2..], bytes[1022..2044]);
}

#[test]
fn clients_are_told_to_retry_while_a_direct_file_is_rewritten() {
    let place = Place::new();
    let (old, new) = (noise(164, 40_000), noise(165, 40_000));
    place.drop_firmware("P/1.0.1/update.bin", &old);
    place.rules("P/release.json", json!({"direct": true}));
    let server = Server::start_in(place, &[]);
    server.wait_until_refused(&luat("P", IMEI, "1.0.1"), 404, 27);
    let path = server.place().path("P/1.0.1/update.bin");
    // A person writes the file slowly.
    let mut file = std::fs::OpenOptions::new().write(true).open(path).unwrap();
    file.write_all(&new[..1000]).unwrap();
    let direct = get("/firmware/P/1.0.1/update.bin");
    let reply = server
        .wait_for_reply(&direct, PATIENCE, |reply| reply.status != 200)
        .unwrap();
    assert_eq!(reply.status, 503, "{}", reply.show());
    file.write_all(&new[1000..]).unwrap();
    drop(file);
    let reply = server
        .wait_for_reply(&direct, PATIENCE, |reply| reply.status != 503)
        .unwrap();
    reply.must_be_file(&new).unwrap();
}
