//! Promise: while rsync, rclone, Syncthing or another machine over NFS changes the firmware folder as
//! docs/folder-sync.md says, and whatever is killed meanwhile, a module is only offered whole files, with their rules,
//! and the folder is equal to its origin after the next run.
//!
//! rsync, rclone and the S3 server are real programs. If one is not installed, the test reports that it was skipped;
//! with CI=true it fails (apt-get install rsync rclone swift-proxy swift-account swift-container swift-object).

use crate::common;

use std::io::{BufRead, BufReader, Seek, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, SystemTime};

use common::packages::noise;
use common::recipes::{Script, StopOnDrop, can_run, recipes};
use common::{
    IMEI, PATIENCE, Place, Server, both, clean, documents, files_under, get, luat, run, wait_until,
};
use rustix::process::Signal;
use serde_json::json;

/// The only device that the rules of 1.0.3 name.
const CHOSEN: &str = "862991443750001";

/// Size of each file in bytes.
const SIZE: usize = 600_000;

/// The commands of the document that copy from an origin: number 0 with rsync, number 1 with rclone.
fn recipe(number: usize) -> String {
    recipes("docs/folder-sync.md", "tests/it/folder_sync.rs")[number].clone()
}

/// Writes a file, and creates its folders.
fn write(folder: &Path, path: &str, bytes: &[u8]) {
    let path = folder.join(path);
    std::fs::create_dir_all(path.parent().unwrap()).unwrap();
    std::fs::write(path, bytes).unwrap();
}

/// Paths and contents of all files in a mirror, except those with hidden names.
fn visible_files(folder: &Path) -> Vec<(String, Vec<u8>)> {
    let names = files_under(folder).into_iter();
    let names = names.filter(|name| !name.starts_with('.'));
    names
        .map(|name| (name.clone(), std::fs::read(folder.join(&name)).unwrap()))
        .collect()
}

/// A mirror with a server that serves it, and its origin.
struct Mirror {
    origin: Place,
    server: Server,
    /// The files of versions 1.0.1 to 1.0.3.
    files: [Vec<u8>; 3],
}

impl Mirror {
    /// Creates the origin, copies its first release with `fill`, and starts the server.
    fn new(fill: impl FnOnce(&Path, &Path)) -> Mirror {
        let origin = Place::new();
        let files = [1, 2, 3].map(|number| noise(600 + number, SIZE));
        write(&origin.firmware(), "P/1.0.1/UPDATE.bin", &files[0]);
        let server = Server::start(&[]);
        fill(&origin.firmware(), &server.place().firmware());
        server.wait_until_offered(&luat("P", IMEI, "1.0.0"), &files[0]);
        Mirror {
            origin,
            server,
            files,
        }
    }

    fn folder(&self) -> PathBuf {
        self.server.place().firmware()
    }

    /// Adds a release for all devices, and one of another project, to the origin.
    fn add_second(&self) {
        let origin = self.origin.firmware();
        write(&origin, "P/1.0.2/UPDATE.bin", &self.files[1]);
        write(&origin, "Q/1.0.1/UPDATE.bin", &noise(604, SIZE));
    }

    /// Adds a release for one device to the origin, whose file name sorts before that of its rules, and removes the
    /// first release.
    fn add_third(&self) {
        let origin = self.origin.firmware();
        write(&origin, "P/1.0.3/UPDATE.bin", &self.files[2]);
        let rules = json!({"allow": [CHOSEN]}).to_string();
        write(&origin, "P/1.0.3/release.json", rules.as_bytes());
        std::fs::remove_dir_all(origin.join("P/1.0.1")).unwrap();
    }

    /// Waits until the current content of the folder has been scanned: a file that is added now is offered.
    fn wait_for_scan(&self, number: usize) {
        let (bytes, project) = (noise(number as u64, 900), format!("MARK{number}"));
        self.server
            .drop_firmware(&format!("{project}/1.0.1/update.bin"), &bytes);
        self.server
            .wait_until_offered(&luat(&project, IMEI, "1.0.0"), &bytes);
        std::fs::remove_dir_all(self.folder().join(project)).unwrap();
    }

    fn must_offer(&self, version: usize) {
        let reply = self.server.get(&luat("P", IMEI, "1.0.0"));
        let is_it = reply.status == 200 && reply.body == self.files[version - 1];
        assert!(is_it, "not 1.0.{version}: {}", reply.show());
    }

    /// Checks that the folder is equal to the origin, and that the chosen device gets the third release and every other
    /// the second.
    fn must_be_equal(&self) {
        let [_, second, third] = &self.files;
        self.server
            .wait_until_offered(&luat("P", CHOSEN, "1.0.0"), third);
        self.server
            .wait_until_offered(&luat("P", IMEI, "1.0.0"), second);
        let (ours, theirs) = (
            visible_files(&self.folder()),
            visible_files(&self.origin.firmware()),
        );
        assert!(
            ours == theirs,
            "{:?} and {:?}",
            files_under(&self.folder()),
            files_under(&self.origin.firmware())
        );
        let checked = run(&["check", self.folder().to_str().unwrap()]);
        assert!(checked.status.success(), "{}", both(&checked));
    }

    /// Sends checks repeatedly while `action` runs. Every offer must be a whole file that the device may have.
    fn check_offers_during(&self, action: impl FnOnce()) {
        let stop = AtomicBool::new(false);
        std::thread::scope(|scope| {
            let watching = scope.spawn(|| {
                let mut asked = 0;
                while !stop.load(Ordering::Relaxed) {
                    let Ok(reply) = self.server.try_http(&get(&luat("P", IMEI, "1.0.0"))) else {
                        panic!("the server does not answer");
                    };
                    let may_have = self.files[..2].contains(&reply.body);
                    assert!(
                        reply.status != 200 || may_have,
                        "{} bytes that are no file for it",
                        reply.body.len()
                    );
                    asked += 1;
                    // This does not wait for an event. It is the pace of modules.
                    std::thread::sleep(Duration::from_millis(20));
                }
                asked
            });
            let stopper = StopOnDrop(&stop);
            action();
            drop(stopper);
            println!("asked {} times meanwhile", watching.join().unwrap());
        });
        let lines = self.server.log.all();
        let errors = lines.iter().filter(|line| line.contains("quarantined"));
        let errors: Vec<&String> = errors.filter(|line| line.contains("P/")).collect();
        assert!(errors.is_empty(), "{errors:?}");
    }
}

/// Starts a script, and waits until a file with a hidden name, or in a hidden folder, is partly written.
fn start_writing(folder: &Path, text: &str, variables: &[(&str, &str)]) -> Script {
    // Ignore files that an earlier script has left.
    let began = SystemTime::now() - Duration::from_millis(100);
    let script = Script::start(text, variables);
    let is_part = |name: &String| {
        let is_hidden = name.split('/').any(|part| part.starts_with('.'));
        let about = std::fs::metadata(folder.join(name));
        is_hidden
            && about.is_ok_and(|about| {
                (1..SIZE as u64).contains(&about.len()) && about.modified().unwrap() > began
            })
    };
    wait_until("it is in the middle of a file", PATIENCE, || {
        files_under(folder).iter().any(is_part)
    });
    script
}

#[test]
fn while_rsync_copies_and_is_killed_only_whole_files_are_offered() {
    if !can_run(&["rsync"]) {
        return;
    }
    let recipe_for = |from: &Path, to: &Path, flags: &str| {
        recipe(0)
            .replace("origin:/srv/luat-ota/", &format!("{}/", from.display()))
            .replace(" /srv/luat-ota/", &format!(" {}/", to.display()))
            .replace("rsync -a", &format!("rsync -a {flags}"))
    };
    let mirror =
        Mirror::new(|from, to| assert!(Script::run(&recipe_for(from, to, ""), &[]).success()));
    let (from, to) = (mirror.origin.firmware(), mirror.folder());
    mirror.check_offers_during(|| {
        mirror.add_second();
        for (number, signal) in [Signal::KILL, Signal::TERM].into_iter().enumerate() {
            let script = start_writing(&to, &recipe_for(&from, &to, "--bwlimit=60"), &[]);
            script.signal(signal);
            assert!(!script.finish().success());
            mirror.wait_for_scan(number);
            mirror.must_offer(1);
        }
        assert!(Script::run(&recipe_for(&from, &to, ""), &[]).success());
        mirror
            .server
            .wait_until_offered(&luat("P", IMEI, "1.0.0"), &mirror.files[1]);
        mirror.add_third();
        assert!(Script::run(&recipe_for(&from, &to, ""), &[]).success());
        mirror.must_be_equal();
    });
}

/// A real S3 server, Swift; killed when this value is dropped.
struct Store {
    child: Child,
    url: String,
}

impl Store {
    /// Starts the server. `root` is the folder of its data.
    fn start(root: &Path) -> Store {
        let mut command = Command::new("/usr/bin/python3");
        clean(&mut command);
        let script = Path::new(documents::ROOT).join("tests/s3.py");
        command.arg(script).arg(root).stdout(Stdio::piped());
        let mut child = command.spawn().unwrap();
        let mut url = String::new();
        BufReader::new(child.stdout.take().unwrap())
            .read_line(&mut url)
            .unwrap();
        assert!(url.starts_with("http://"), "the S3 server did not start");
        let url = url.trim().to_owned();
        Store { child, url }
    }

    /// Sends SIGKILL. The data remain.
    fn kill(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }

    /// Environment variables with which rclone in a script uses this store.
    fn variables(&self) -> Vec<(&str, &str)> {
        let mut variables = vec![
            ("RCLONE_CONFIG", "/dev/null"),
            ("RCLONE_CONFIG_ORIGIN_TYPE", "s3"),
            ("RCLONE_CONFIG_ORIGIN_PROVIDER", "Other"),
            ("RCLONE_CONFIG_ORIGIN_ACCESS_KEY_ID", "ota:mirror"),
            ("RCLONE_CONFIG_ORIGIN_SECRET_ACCESS_KEY", "secret"),
            ("RCLONE_CONFIG_ORIGIN_REGION", "us-east-1"),
            ("RCLONE_RETRIES", "1"),
            ("RCLONE_LOW_LEVEL_RETRIES", "2"),
            ("RCLONE_LOG_LEVEL", "ERROR"),
        ];
        variables.push(("RCLONE_CONFIG_ORIGIN_ENDPOINT", &self.url));
        variables
    }
}

impl Drop for Store {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[test]
fn while_rclone_copies_from_an_s3_store_and_either_is_killed_only_whole_files_are_offered() {
    if !can_run(&["rsync", "rclone", "swift-proxy-server"]) {
        return;
    }
    let disk = Place::new();
    let mut store = Store::start(&disk.root);
    let upload = |store: &Store, from: &Path| {
        let script = format!(
            "rclone sync --order-by size,ascending {} origin:firmware",
            from.display()
        );
        assert!(Script::run(&script, &store.variables()).success());
    };
    let recipe_for = |to: &Path| recipe(1).replace("/srv/luat-ota", &to.display().to_string());
    let mirror = Mirror::new(|from, to| {
        upload(&store, from);
        assert!(Script::run(&recipe_for(to), &store.variables()).success());
    });
    let (from, to) = (mirror.origin.firmware(), mirror.folder());
    let slowly = |store: &Store| {
        let mut variables = store.variables();
        // One file at a time: bytes of the first file that the store has sent may arrive after the store is killed.
        variables.extend([("RCLONE_BWLIMIT", "100k"), ("RCLONE_TRANSFERS", "1")]);
        start_writing(&to, &recipe_for(&to), &variables)
    };
    mirror.check_offers_during(|| {
        mirror.add_second();
        upload(&store, &from);
        // Kill rclone and the shell.
        let script = slowly(&store);
        script.signal(Signal::KILL);
        assert!(!script.finish().success());
        mirror.wait_for_scan(0);
        mirror.must_offer(1);
        // Kill the store.
        let script = slowly(&store);
        store.kill();
        assert!(!script.finish().success());
        mirror.wait_for_scan(1);
        mirror.must_offer(1);
        // The store returns, and all files are copied.
        store = Store::start(&disk.root);
        assert!(Script::run(&recipe_for(&to), &store.variables()).success());
        mirror
            .server
            .wait_until_offered(&luat("P", IMEI, "1.0.0"), &mirror.files[1]);
        mirror.add_third();
        upload(&store, &from);
        assert!(Script::run(&recipe_for(&to), &store.variables()).success());
        mirror.must_be_equal();
    });
}

#[test]
fn a_copy_that_begins_while_another_one_runs_publishes_nothing() {
    if !can_run(&["rsync", "rclone", "flock"]) {
        return;
    }
    for number in [0, 1] {
        let origin = Place::new();
        let text = |to: &Path| {
            let text = recipe(number).replace(
                "origin:/srv/luat-ota",
                &origin.firmware().display().to_string(),
            );
            text.replace("/srv/luat-ota", &to.display().to_string())
        };
        let from = origin.firmware().display().to_string();
        let variables = [
            ("RCLONE_CONFIG", "/dev/null"),
            ("RCLONE_CONFIG_ORIGIN_TYPE", "alias"),
            ("RCLONE_CONFIG_ORIGIN_REMOTE", &from),
            ("RCLONE_LOG_LEVEL", "ERROR"),
        ];
        let slowly = [&variables[..], &[("RCLONE_BWLIMIT", "100k")]].concat();
        write(
            &origin.firmware(),
            "firmware/P/1.0.1/UPDATE.bin",
            &noise(610, SIZE),
        );
        let to = Place::new();
        std::fs::create_dir_all(to.firmware()).unwrap();
        let text = text(&to.firmware());
        let published = || {
            let names = files_under(&to.firmware()).into_iter();
            names
                .filter(|name| !format!("/{name}").contains("/."))
                .count()
        };
        let mut first = start_writing(
            &to.firmware(),
            &text.replace("rsync -a --timeout", "rsync -a --bwlimit=100 --timeout"),
            &slowly,
        );
        let second = Script::run(&text, &variables);
        assert!(!first.is_over(), "too fast");
        assert_eq!(second.code(), Some(1), "{text}");
        assert_eq!(published(), 0);
        assert!(first.finish().success());
        assert_eq!(published(), 1);
    }
}

// Syncthing 1.19: lib/fs/tempname.go, lib/model/folder_sendrecv.go.
#[test]
fn only_whole_files_are_offered_while_syncthing_changes_the_folder() {
    let copy = |from: &Path, to: &Path| {
        for (name, bytes) in visible_files(from) {
            write(to, &name, &bytes);
        }
    };
    let mirror = Mirror::new(copy);
    let folder = mirror.folder();
    let pull = |name: &str, bytes: &[u8]| {
        let path = folder.join(name);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        let file = path.file_name().unwrap().to_str().unwrap();
        let temporary = path.with_file_name(format!(".syncthing.{file}.tmp"));
        let mut writer = std::fs::File::create(&temporary).unwrap();
        writer.set_len(bytes.len() as u64).unwrap();
        // Syncthing writes blocks in any order.
        for (number, block) in bytes.chunks(128 << 10).enumerate().rev() {
            let at = number as u64 * (128 << 10);
            writer.seek(std::io::SeekFrom::Start(at)).unwrap();
            writer.write_all(block).unwrap();
        }
        drop(writer);
        // The temporary name that Syncthing uses on Windows, as seen in a folder shared with it.
        let windows = path.with_file_name(format!("~syncthing~{file}.tmp"));
        write(
            &folder,
            windows.to_str().unwrap(),
            &bytes[..bytes.len() / 2],
        );
        std::fs::rename(temporary, path).unwrap();
    };
    write(&folder, ".stfolder/syncthing-folder.txt", b"");
    write(&folder, ".stversions/P/1.0.1/UPDATE.bin", &mirror.files[2]);
    mirror.check_offers_during(|| {
        // A conflict: the existing file is the older one.
        pull("P/1.0.2/UPDATE.bin", &mirror.files[0]);
        mirror
            .server
            .wait_until_offered(&luat("P", CHOSEN, "1.0.0"), &mirror.files[0]);
        let path = folder.join("P/1.0.2/UPDATE.bin");
        let conflict = path.with_file_name("UPDATE.sync-conflict-20261129-120000-ABCDEFG.bin");
        std::fs::rename(&path, &conflict).unwrap();
        pull("P/1.0.2/UPDATE.bin", &mirror.files[1]);
        mirror
            .server
            .wait_until_offered(&luat("P", IMEI, "1.0.0"), &mirror.files[1]);
        mirror.wait_for_scan(0);
        mirror.must_offer(2);
        let checked = run(&["check", folder.to_str().unwrap()]);
        assert!(checked.status.success(), "{}", both(&checked));
        let said = both(&checked);
        assert!(said.contains("two machines changed the file"), "{said}");
        assert!(!said.contains("syncthing"), "{said}");
        std::fs::remove_file(conflict).unwrap();
    });
}

#[test]
fn changes_by_another_machine_over_nfs_are_found_without_events() {
    let flags = [
        "--without",
        "inotify",
        "--without",
        "leases",
        "--rescan",
        "1",
    ];
    let server = Server::start(&flags);
    let folder = server.place().firmware();
    let (old, new) = (noise(610, 60_000), noise(611, 60_000));
    let target = luat("P", IMEI, "1.0.0");
    // The other machine writes the file with another name, then renames it.
    server.drop_firmware("P/1.0.1/update.bin", &old);
    server.wait_until_offered(&target, &old);
    server.drop_firmware("P/1.0.1/update.bin", &new);
    // The name under which an NFS client keeps a file that was deleted while a process still read it.
    write(&folder, "P/1.0.1/.nfs000000000123abcd00000001", &old);
    server.wait_until_offered(&target, &new);
    server.rules("P/1.0.1/release.json", json!({"paused": true}));
    server.wait_until_refused(&target, 404, 27);
    server.rules("P/1.0.1/release.json", json!({"paused": false}));
    server.wait_until_offered(&target, &new);
    let checked = run(&["check", folder.to_str().unwrap()]);
    assert!(checked.status.success(), "{}", both(&checked));
    std::fs::remove_dir_all(folder.join("P")).unwrap();
    server.wait_until_refused(&target, 403, 25);
}
