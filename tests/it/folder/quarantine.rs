//! Tests that files that are not firmware are quarantined with a reason and block nothing.

use super::*;

#[test]
fn files_dropped_by_mistake_are_quarantined_and_block_nothing() {
    let place = Place::new();
    let mistakes = mistakes();
    for (number, (name, bytes)) in mistakes.iter().enumerate() {
        place.drop_firmware(&format!("M{number}/1.0.1/{name}"), bytes);
    }
    let bytes = noise(121, 2000);
    place.drop_firmware("mark/1.0.1/update.bin", &bytes);
    let (good, said) = check(&place);
    assert!(!good, "check must fail: {said}");
    let mut rows = Rows::default();
    for (number, (name, _)) in mistakes.iter().enumerate() {
        let listed = said.contains(&format!("M{number}/1.0.1/{name}"))
            || said.lines().any(|line| line.contains(name));
        rows.row(
            name,
            if listed {
                Ok(())
            } else {
                Err("not listed by `check`".to_owned())
            },
        );
    }
    let server = Server::start_in(place, &[]);
    server.wait_until_offered(&luat("mark", IMEI, "1.0.0"), &bytes);
    for (number, (name, _)) in mistakes.iter().enumerate() {
        for target in [
            luat(&format!("M{number}"), IMEI, "1.0.0"),
            luatos(&format!("M{number}"), "Air780EPM", IMEI, "2012.1.0"),
        ] {
            rows.row(
                name,
                server.try_get(&target).and_then(|reply| {
                    ensure!(
                        matches!(reply.status, 403 | 404),
                        "served: {}",
                        reply.show()
                    );
                    Ok(())
                }),
            );
        }
    }
    rows.finish();
}

#[test]
fn files_that_are_no_plain_files_are_kept_out_and_block_nothing() {
    let place = Place::new();
    let bytes = noise(122, 2000);
    let secret = place.root.join("secret.bin");
    std::fs::write(&secret, noise(123, 1000)).unwrap();
    std::fs::create_dir_all(place.root.join("elsewhere/1.0.1")).unwrap();
    std::fs::write(place.root.join("elsewhere/1.0.1/update.bin"), &bytes).unwrap();
    rustix::fs::mknodat(
        rustix::fs::CWD,
        place.path("fifo/1.0.1/update.bin"),
        rustix::fs::FileType::Fifo,
        rustix::fs::Mode::from_raw_mode(0o644),
        0,
    )
    .unwrap();
    std::os::unix::fs::symlink(&secret, place.path("link/1.0.1/update.bin")).unwrap();
    std::os::unix::fs::symlink(place.root.join("elsewhere"), place.path("linked-folder")).unwrap();
    std::os::unix::fs::symlink(".", place.path("loop/1.0.1")).unwrap();
    std::os::unix::fs::symlink("/dev/zero", place.path("zero/1.0.1/update.bin")).unwrap();
    std::os::unix::fs::symlink("nowhere", place.path("dangling/1.0.1/update.bin")).unwrap();
    let _socket =
        std::os::unix::net::UnixListener::bind(place.path("socket/1.0.1/update.bin")).unwrap();
    std::fs::create_dir_all(place.path("folder/1.0.1/update.bin")).unwrap();
    let odd = place.path("odd/1.0.1/x");
    std::fs::write(
        odd.with_file_name(OsStr::from_bytes(b"\xff\xfe.bin")),
        &bytes,
    )
    .unwrap();
    place.drop_firmware("mark/1.0.1/update.bin", &bytes);
    let (good, said) = check(&place);
    assert!(!good, "check must fail: {said}");
    for name in ["fifo", "link/", "linked-folder", "zero", "socket", "odd"] {
        assert!(said.contains(name), "{name} is not listed: {said}");
    }
    let server = Server::start_in(place, &[]);
    server.wait_until_offered(&luat("mark", IMEI, "1.0.0"), &bytes);
    for project in [
        "fifo",
        "link",
        "linked-folder",
        "loop",
        "zero",
        "dangling",
        "socket",
        "folder",
        "odd",
    ] {
        let reply = server.get(&luat(project, IMEI, "1.0.0"));
        assert!(
            matches!(reply.status, 403 | 404),
            "{project}: {}",
            reply.show()
        );
    }
    // The folder is still watched.
    server.drop_firmware("mark/1.0.2/update.bin", &noise(124, 300));
    server.wait_until_offered(&luat("mark", IMEI, "1.0.0"), &noise(124, 300));
}
