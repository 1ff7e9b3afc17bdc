use super::*;
use std::os::unix::fs::PermissionsExt;

use crate::os::scratch::Scratch;

fn mode(path: &Path) -> u32 {
    std::fs::metadata(path).unwrap().permissions().mode() & 0o777
}

#[test]
fn the_secret_is_made_once_and_only_its_owner_can_read_it() {
    let scratch = Scratch::new();
    let folder = scratch.path().join("state");
    let first = ServerState::open(Some(&folder), scratch.path(), None).unwrap();
    assert_eq!(first.folder().path(), folder);
    assert_eq!(first.problem(), None);
    assert_eq!(mode(&folder), 0o710);
    assert_eq!(mode(&folder.join("secret")), 0o600);
    let secret = first.secret();
    assert_ne!(secret, [0; 32]);
    drop(first);
    assert_eq!(
        ServerState::open(Some(&folder), scratch.path(), None)
            .unwrap()
            .secret(),
        secret
    );
}

#[test]
fn the_error_of_a_second_server_names_the_remedy() {
    let scratch = Scratch::new();
    let first = ServerState::open(Some(scratch.path()), scratch.path(), None).unwrap();
    let Err(sentence) = ServerState::open(Some(scratch.path()), scratch.path(), None) else {
        panic!("two servers share one state folder");
    };
    assert!(
        sentence.starts_with("Another luat-ota is using"),
        "{sentence}"
    );
    assert!(sentence.contains("--state"), "{sentence}");
    drop(first);
    assert!(ServerState::open(Some(scratch.path()), scratch.path(), None).is_ok());
}

// Case 50.
#[test]
fn a_damaged_secret_is_set_aside_and_replaced() {
    let digits = "0".repeat(63);
    for text in ["", "abc", "\n", &"g".repeat(64), &digits, "\u{0}\u{0}"] {
        let scratch = Scratch::new();
        std::fs::write(scratch.path().join("secret"), text).unwrap();
        let state = ServerState::open(Some(scratch.path()), scratch.path(), None).unwrap();
        assert_eq!(state.problem(), None);
        let left = std::fs::read_to_string(scratch.path().join("secret.damaged")).unwrap();
        assert_eq!(left, *text);
        let secret = state.secret();
        drop(state);
        // The new secret is kept.
        let again = ServerState::open(Some(scratch.path()), scratch.path(), None).unwrap();
        assert_eq!(again.secret(), secret);
    }
}

#[test]
fn a_secret_or_a_lock_that_is_no_file_is_set_aside() {
    for name in ["secret", "lock", ".secret.tmp"] {
        for make in [folder_at, fifo_at, link_at] {
            let scratch = Scratch::new();
            let path = scratch.path().join(name);
            make(&path);
            let state = ServerState::open(Some(scratch.path()), scratch.path(), None).unwrap();
            assert_eq!(state.problem(), None, "{name}");
            let secret = state.secret();
            drop(state);
            let again = ServerState::open(Some(scratch.path()), scratch.path(), None).unwrap();
            assert_eq!(again.secret(), secret, "{name}");
        }
    }
}

fn folder_at(path: &Path) {
    std::fs::create_dir(path).unwrap();
    std::fs::write(path.join("not-empty"), "").unwrap();
}

fn fifo_at(path: &Path) {
    let (kind, mode) = (rustix::fs::FileType::Fifo, rustix::fs::Mode::RWXU);
    rustix::fs::mknodat(rustix::fs::CWD, path, kind, mode, 0).unwrap();
}

fn link_at(path: &Path) {
    std::os::unix::fs::symlink("/dev/zero", path).unwrap();
}

#[test]
fn a_file_that_is_set_aside_replaces_no_other() {
    let scratch = Scratch::new();
    let path = scratch.path().join("secret");
    for text in ["one", "two", "three"] {
        std::fs::write(&path, text).unwrap();
        let aside = set_aside(&path).unwrap();
        assert_eq!(std::fs::read_to_string(aside).unwrap(), text);
    }
    assert_eq!(std::fs::read_dir(scratch.path()).unwrap().count(), 3);
    assert!(set_aside(&path).is_err());
}

#[test]
fn a_server_runs_without_its_folder_and_uses_it_later() {
    for named in [true, false] {
        if !named && std::env::var_os("STATE_DIRECTORY").is_some() {
            continue;
        }
        let scratch = Scratch::new();
        let folder = scratch.path().join(DEFAULT_NAME);
        std::fs::write(&folder, "in the way").unwrap();
        let wanted = named.then_some(folder.as_path());
        let state = ServerState::open(wanted, scratch.path(), None).unwrap();
        let lost = state.problem().unwrap();
        assert!(lost.contains("--state"), "{lost}");
        assert!(!state.folder().is_claimed() && !state.retry());
        let secret = state.secret();
        assert_ne!(secret, [0; 32]);
        // A restart in this boot derives the same secret.
        drop(state);
        let state = ServerState::open(wanted, scratch.path(), None).unwrap();
        assert_eq!(state.secret(), secret);
        state.write_later("token", "12345678\n".to_owned(), 0o640);
        std::fs::remove_file(&folder).unwrap();
        assert!(state.retry());
        let token = std::fs::read_to_string(folder.join("token")).unwrap();
        assert_eq!(token, "12345678\n");
        let second = ServerState::open(wanted, scratch.path(), None)
            .map(drop)
            .unwrap_err();
        assert!(second.starts_with("Another"), "{second}");
        drop(state);
        assert_eq!(
            ServerState::open(wanted, scratch.path(), None)
                .unwrap()
                .secret(),
            secret
        );
    }
}

#[test]
fn a_retry_does_not_replace_a_file_of_another_program() {
    let scratch = Scratch::new();
    let state = ServerState::open(Some(scratch.path()), scratch.path(), None).unwrap();
    std::fs::write(scratch.path().join("token"), "theirs").unwrap();
    state.write_later("token", "ours".to_owned(), PRIVATE);
    assert!(state.retry());
    let token = std::fs::read_to_string(scratch.path().join("token")).unwrap();
    assert_eq!(token, "theirs");
}

#[test]
fn the_default_state_folder_is_in_the_firmware_folder() {
    if std::env::var_os("STATE_DIRECTORY").is_some() {
        return;
    }
    let scratch = Scratch::new();
    let state = ServerState::open(None, scratch.path(), None).unwrap();
    assert_eq!(state.folder().path(), scratch.path().join(DEFAULT_NAME));
    assert_eq!(
        locate(None, scratch.path()),
        scratch.path().join(DEFAULT_NAME)
    );
}

#[test]
fn the_first_of_systemds_folders_is_used() {
    let from = |text: &str| from_systemd(Some(text.into()));
    assert_eq!(from("/var/lib/a:/var/lib/b"), Some("/var/lib/a".into()));
    assert_eq!(from(""), None);
    assert_eq!(from_systemd(None), None);
}

#[test]
fn secrets_of_two_boots_or_two_machines_differ() {
    let secrets = [("a", "b"), ("a", "c"), ("c", "b"), ("", "b"), ("a", "")];
    for (i, (machine, boot)) in secrets.iter().enumerate() {
        for (other_machine, other_boot) in &secrets[..i] {
            assert_ne!(
                secret::derived(machine, boot),
                secret::derived(other_machine, other_boot)
            );
        }
    }
}

#[test]
fn a_file_is_replaced_whole_also_after_a_kill() {
    let scratch = Scratch::new();
    let path = scratch.path().join("hashes.jsonl");
    std::fs::write(&path, "old").unwrap();
    std::fs::write(scratch.path().join(".hashes.jsonl.tmp"), "half").unwrap();
    write_atomically(&path, b"new").unwrap();
    assert_eq!(std::fs::read_to_string(&path).unwrap(), "new");
    assert_eq!(std::fs::read_dir(scratch.path()).unwrap().count(), 1);
}

#[test]
fn a_failed_write_keeps_the_old_file() {
    let scratch = Scratch::new();
    let path = scratch.path().join("taken");
    std::fs::create_dir(&path).unwrap();
    assert!(write_atomically(&path, b"new").is_err());
    assert_eq!(std::fs::read_dir(scratch.path()).unwrap().count(), 1);
    assert!(write_atomically(Path::new("/"), b"").is_err());
}

#[test]
fn a_shared_secret_is_created_once_for_all_servers() {
    let scratch = Scratch::new();
    let file = scratch.path().join("shared-secret");
    let open = |name: usize| {
        let state = scratch.path().join(name.to_string());
        let state = ServerState::open(Some(&state), scratch.path(), Some(&file)).unwrap();
        state.secret()
    };
    let open = &open;
    // All servers start at the same time.
    let secrets: Vec<[u8; 32]> = std::thread::scope(|scope| {
        let threads: Vec<_> = (0..16)
            .map(|name| scope.spawn(move || open(name)))
            .collect();
        threads
            .into_iter()
            .map(|thread| thread.join().unwrap())
            .collect()
    });
    assert!(secrets.iter().all(|secret| *secret == secrets[0]));
    assert_ne!(secrets[0], [0; 32]);
    assert_eq!(mode(&file), 0o600);
    assert_eq!(open(0), secrets[0]);
    // No temporary file is left, and no server has a secret of its own.
    let left = std::fs::read_dir(scratch.path()).unwrap().count();
    assert_eq!(left, 16 + 1);
    assert!(!scratch.path().join("0/secret").exists());
}

#[test]
fn an_unusable_shared_secret_is_kept_and_stops_the_start() {
    let scratch = Scratch::new();
    let open = |file: &Path| {
        let state = scratch.path().join("state");
        ServerState::open(Some(&state), scratch.path(), Some(file)).map(|_| ())
    };
    for text in ["", "abc", &"0".repeat(63)] {
        let file = scratch.write("short", text.as_bytes());
        let sentence = open(&file).unwrap_err();
        assert!(sentence.contains("--secret-file"), "{sentence}");
        assert!(sentence.contains("64 hexadecimal digits"), "{sentence}");
        assert_eq!(std::fs::read_to_string(&file).unwrap(), text);
    }
    // A folder that does not exist may be a share that is not mounted.
    let sentence = open(&scratch.path().join("gone/secret")).unwrap_err();
    assert!(sentence.contains("cannot be created"), "{sentence}");
    let good = scratch.write("good", format!("{}\n", "ab".repeat(32)).as_bytes());
    open(&good).unwrap();
}
