//! The state folder: its lock, the secret behind the UDP ids, files written atomically. Opened once by
//! `server`.
//!
//! The surprise: without a folder there is a secret all the same, made of what this machine and this
//! boot are called, so that at least a restart of the server alone keeps running downloads going.

use std::fs::{DirBuilder, File, OpenOptions, Permissions};
use std::io::{self, ErrorKind, Read, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

use rustix::fs::FlockOperation;
use rustix::io::Errno;
use sha2::{Digest, Sha256};

use crate::os::process;

/// The folder's name inside the firmware folder.
const INSIDE: &str = ".luat-ota";

/// An open state folder, or none.
pub struct State {
    folder: Option<PathBuf>,
    lost: Option<String>,
    secret: [u8; 32],
    /// Held as long as this lives: keeps a second server out.
    _lock: Option<File>,
}

/// Why a folder cannot be the state folder.
enum Trouble {
    /// It cannot be made or written: another place may do.
    Unusable(io::Error),
    /// Nothing will do before a person did something: a sentence.
    Stop(String),
}

impl From<io::Error> for Trouble {
    fn from(error: io::Error) -> Trouble {
        Trouble::Unusable(error)
    }
}

impl State {
    /// Opens (and creates) the state folder: `wanted`, else `$STATE_DIRECTORY`, else `.luat-ota/` inside
    /// `firmware` if that is writable, else none (then `lost` says what is lost). The error is one
    /// sentence: the folder named by the person cannot be used, or another server has the lock.
    pub fn open(wanted: Option<&Path>, firmware: &Path) -> Result<State, String> {
        let given = std::env::var_os("STATE_DIRECTORY");
        let named = wanted.map(Path::to_owned).or_else(|| from_systemd(given));
        let is_named = named.is_some();
        let folder = named.unwrap_or_else(|| firmware.join(INSIDE));
        match State::open_folder(&folder) {
            Ok(state) => Ok(state),
            Err(Trouble::Stop(sentence)) => Err(sentence),
            Err(Trouble::Unusable(error)) if is_named => Err(format!(
                "The state folder {} cannot be used: {error}. Let the user that the server runs as \
                 write there, or name another one with --state.",
                folder.display()
            )),
            Err(Trouble::Unusable(error)) => Ok(State {
                secret: secret_of_this_boot()?,
                lost: Some(format!(
                    "There is no state folder ({} cannot be used: {error}): after a restart all \
                     firmware files are read again, HTTP downloads that were running begin anew, and \
                     after a reboot UDP ones do, too. Name a folder with --state to keep them.",
                    folder.display()
                )),
                folder: None,
                _lock: None,
            }),
        }
    }

    /// Where the state folder of a server on this firmware folder is, whether it is there or not, for a
    /// command that only reads what lies in it.
    pub fn locate(wanted: Option<&Path>, firmware: &Path) -> PathBuf {
        wanted
            .map(Path::to_owned)
            .or_else(|| from_systemd(std::env::var_os("STATE_DIRECTORY")))
            .unwrap_or_else(|| firmware.join(INSIDE))
    }

    /// Does a server use this state folder now? Where there are no locks nobody knows: `false`.
    pub fn is_in_use(folder: &Path) -> bool {
        let lock = File::open(folder.join("lock"));
        let taken =
            lock.map(|file| rustix::fs::flock(&file, FlockOperation::NonBlockingLockShared));
        matches!(taken, Ok(Err(Errno::WOULDBLOCK)))
    }

    /// The folder, if there is one.
    pub fn folder(&self) -> Option<&Path> {
        self.folder.as_deref()
    }

    /// What is lost without a state folder; `None` where there is one.
    pub fn lost(&self) -> Option<&str> {
        self.lost.as_deref()
    }

    /// 32 secret bytes: the state's (made at first start, 0600), or without a state folder derived from
    /// machine-id and boot_id (docs/hazards.md 8).
    pub fn secret(&self) -> [u8; 32] {
        self.secret
    }

    /// The path of a file in the state folder.
    pub fn file(&self, name: &str) -> Option<PathBuf> {
        self.folder().map(|folder| folder.join(name))
    }

    fn open_folder(folder: &Path) -> Result<State, Trouble> {
        DirBuilder::new()
            .recursive(true)
            .mode(0o710)
            .create(folder)?;
        let lock = lock(folder)?;
        let secret = secret(&folder.join("secret"))?;
        Ok(State {
            folder: Some(folder.to_owned()),
            lost: None,
            secret,
            _lock: Some(lock),
        })
    }
}

/// systemd names several folders with colons between them; the first is ours.
fn from_systemd(given: Option<std::ffi::OsString>) -> Option<PathBuf> {
    let given = given?.into_string().ok()?;
    let first = given.split(':').next().filter(|path| !path.is_empty())?;
    Some(PathBuf::from(first))
}

fn lock(folder: &Path) -> Result<File, Trouble> {
    let file = OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(false)
        .mode(0o600)
        .custom_flags(libc::O_NOFOLLOW)
        .open(folder.join("lock"))?;
    match rustix::fs::flock(&file, FlockOperation::NonBlockingLockExclusive) {
        Ok(()) => {}
        Err(Errno::WOULDBLOCK) => {
            return Err(Trouble::Stop(format!(
                "Another luat-ota is using the state folder {}: stop it, or give this one its own with \
                 --state.",
                folder.display()
            )));
        }
        // Some network file systems have no locks: better without one than not at all.
        Err(error) => log::warn!(
            target: "state",
            "the state folder {} cannot be locked ({error}): see to it that only one server uses it",
            folder.display()
        ),
    }
    Ok(file)
}

/// Reads the secret, or makes it at the first start.
fn secret(path: &Path) -> Result<[u8; 32], Trouble> {
    let mut text = String::new();
    match File::open(path) {
        Ok(file) => {
            let read = file.take(1024).read_to_string(&mut text);
            let damaged = || {
                Trouble::Stop(format!(
                    "The secret in {} is damaged (it should be 64 hexadecimal digits): delete the file \
                     to have a new one made. UDP downloads that are running then begin anew.",
                    path.display()
                ))
            };
            match read {
                Ok(_) => {}
                Err(error) if error.kind() == ErrorKind::InvalidData => return Err(damaged()),
                Err(error) => return Err(unreadable(path, &error)),
            }
            let id = crate::firmware::ContentId::parse(text.trim()).ok_or_else(damaged)?;
            Ok(id.0)
        }
        Err(error) if error.kind() == ErrorKind::NotFound => {
            let mut secret = [0; 32];
            if process::random(&mut secret).is_err() {
                // Early in a boot the kernel has no random numbers yet. The next start makes one.
                return secret_of_this_boot().map_err(Trouble::Stop);
            }
            let digits = crate::firmware::ContentId(secret);
            write_atomically(path, format!("{digits}\n").as_bytes())?;
            Ok(secret)
        }
        Err(error) => Err(unreadable(path, &error)),
    }
}

/// A secret that is there but cannot be read is not to be replaced by another one silently.
fn unreadable(path: &Path, error: &io::Error) -> Trouble {
    Trouble::Stop(format!(
        "The secret in {} cannot be read: {error}. Let the user that the server runs as read it, or name \
         another folder with --state.",
        path.display()
    ))
}

/// A secret that nobody outside this machine can guess and that lasts until the next boot.
fn secret_of_this_boot() -> Result<[u8; 32], String> {
    let read = |path: &str| std::fs::read_to_string(path).unwrap_or_default();
    let machine = read("/etc/machine-id");
    let boot = read("/proc/sys/kernel/random/boot_id");
    if machine.trim().is_empty() && boot.trim().is_empty() {
        let mut secret = [0; 32];
        return match process::random(&mut secret) {
            Ok(()) => Ok(secret),
            Err(error) => Err(format!(
                "There is nothing to make a secret of: no /etc/machine-id, no \
                 /proc/sys/kernel/random/boot_id, and no random numbers ({error}). Mount /proc, or put \
                 64 random hexadecimal digits into a file named secret in the folder of --state."
            )),
        };
    }
    Ok(derived(machine.trim(), boot.trim()))
}

fn derived(machine: &str, boot: &str) -> [u8; 32] {
    Sha256::new()
        .chain_update("luat-ota")
        .chain_update(machine)
        .chain_update(boot)
        .finalize()
        .into()
}

/// Replaces a file by writing a new one beside it, fsync, rename (and fsync of the folder). The new
/// file can be read by its owner alone. What a kill leaves behind (`.NAME.tmp`) the next call removes.
pub fn write_atomically(path: &Path, bytes: &[u8]) -> io::Result<()> {
    write_with_mode(path, bytes, 0o600)
}

/// The same for a file with these permissions, whatever the umask is.
pub fn write_with_mode(path: &Path, bytes: &[u8], mode: u32) -> io::Result<()> {
    let (Some(folder), Some(name)) = (path.parent(), path.file_name()) else {
        return Err(ErrorKind::InvalidInput.into());
    };
    let mut beside = std::ffi::OsString::from(".");
    beside.push(name);
    beside.push(".tmp");
    let beside = folder.join(beside);
    match std::fs::remove_file(&beside) {
        Err(error) if error.kind() != ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let written = (|| {
        let mut file = OpenOptions::new()
            .write(true)
            .create_new(true)
            .mode(0o600)
            .open(&beside)?;
        if mode != 0o600 {
            // Not every file system has permissions.
            file.set_permissions(Permissions::from_mode(mode)).ok();
        }
        file.write_all(bytes)?;
        file.sync_all()?;
        std::fs::rename(&beside, path)
    })();
    if written.is_err() {
        std::fs::remove_file(&beside).ok();
        return written;
    }
    // Not every file system lets a folder be synced; the rename itself is done.
    let folder = if folder.as_os_str().is_empty() {
        Path::new(".")
    } else {
        folder
    };
    if let Ok(folder) = File::open(folder) {
        folder.sync_all().ok();
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::{AtomicU32, Ordering};

    struct Scratch(PathBuf);

    impl Scratch {
        fn new() -> Scratch {
            static NEXT: AtomicU32 = AtomicU32::new(0);
            let number = NEXT.fetch_add(1, Ordering::Relaxed);
            let name = format!("luat-ota-state-{}-{number}", std::process::id());
            let path = std::env::temp_dir().join(name);
            std::fs::create_dir(&path).unwrap();
            Scratch(path)
        }
    }

    impl Drop for Scratch {
        fn drop(&mut self) {
            std::fs::remove_dir_all(&self.0).ok();
        }
    }

    fn mode(path: &Path) -> u32 {
        std::fs::metadata(path).unwrap().permissions().mode() & 0o777
    }

    #[test]
    fn the_secret_is_made_once_and_only_its_owner_can_read_it() {
        let scratch = Scratch::new();
        let folder = scratch.0.join("state");
        let first = State::open(Some(&folder), &scratch.0).unwrap();
        assert_eq!(first.folder(), Some(folder.as_path()));
        assert_eq!(first.lost(), None);
        assert_eq!(mode(&folder), 0o710);
        assert_eq!(mode(&folder.join("secret")), 0o600);
        let secret = first.secret();
        assert_ne!(secret, [0; 32]);
        drop(first);
        assert_eq!(
            State::open(Some(&folder), &scratch.0).unwrap().secret(),
            secret
        );
    }

    #[test]
    fn a_second_server_is_told_what_to_do() {
        let scratch = Scratch::new();
        let first = State::open(Some(&scratch.0), &scratch.0).unwrap();
        let Err(sentence) = State::open(Some(&scratch.0), &scratch.0) else {
            panic!("two servers share one state folder");
        };
        assert!(
            sentence.starts_with("Another luat-ota is using"),
            "{sentence}"
        );
        assert!(sentence.contains("--state"), "{sentence}");
        drop(first);
        assert!(State::open(Some(&scratch.0), &scratch.0).is_ok());
    }

    #[test]
    fn a_damaged_secret_is_not_replaced_silently() {
        for text in ["", "abc", &"g".repeat(64), &"0".repeat(63)] {
            let scratch = Scratch::new();
            std::fs::write(scratch.0.join("secret"), text).unwrap();
            let Err(sentence) = State::open(Some(&scratch.0), &scratch.0) else {
                panic!("{text:?} was taken");
            };
            assert!(sentence.contains("delete the file"), "{sentence}");
            let left = std::fs::read_to_string(scratch.0.join("secret")).unwrap();
            assert_eq!(left, *text);
        }
        let scratch = Scratch::new();
        std::fs::write(scratch.0.join("secret"), [0xff; 64]).unwrap();
        assert!(State::open(Some(&scratch.0), &scratch.0).is_err());
    }

    #[test]
    fn a_folder_that_a_person_named_must_be_usable() {
        let scratch = Scratch::new();
        let file = scratch.0.join("file");
        std::fs::write(&file, "").unwrap();
        let Err(sentence) = State::open(Some(&file), &scratch.0) else {
            panic!("a file was taken for a folder");
        };
        assert!(sentence.contains("cannot be used"), "{sentence}");
    }

    #[test]
    fn without_a_usable_folder_there_is_a_secret_all_the_same() {
        if std::env::var_os("STATE_DIRECTORY").is_some() {
            return;
        }
        let scratch = Scratch::new();
        std::fs::write(scratch.0.join(INSIDE), "in the way").unwrap();
        let state = State::open(None, &scratch.0).unwrap();
        assert_eq!((state.folder(), state.file("x")), (None, None));
        let lost = state.lost().unwrap();
        assert!(lost.contains("--state"), "{lost}");
        assert_ne!(state.secret(), [0; 32]);
        assert_eq!(
            state.secret(),
            State::open(None, &scratch.0).unwrap().secret()
        );
    }

    #[test]
    fn the_state_lies_in_the_firmware_folder_where_nothing_else_is_said() {
        if std::env::var_os("STATE_DIRECTORY").is_some() {
            return;
        }
        let scratch = Scratch::new();
        let state = State::open(None, &scratch.0).unwrap();
        assert_eq!(state.folder(), Some(scratch.0.join(INSIDE).as_path()));
        assert_eq!(State::locate(None, &scratch.0), scratch.0.join(INSIDE));
    }

    #[test]
    fn the_first_of_systemds_folders_is_taken() {
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
                assert_ne!(derived(machine, boot), derived(other_machine, other_boot));
            }
        }
    }

    #[test]
    fn a_file_is_replaced_whole_and_leavings_of_a_kill_do_not_matter() {
        let scratch = Scratch::new();
        let path = scratch.0.join("hashes.jsonl");
        std::fs::write(&path, "old").unwrap();
        std::fs::write(scratch.0.join(".hashes.jsonl.tmp"), "half").unwrap();
        write_atomically(&path, b"new").unwrap();
        assert_eq!(std::fs::read_to_string(&path).unwrap(), "new");
        assert_eq!(std::fs::read_dir(&scratch.0).unwrap().count(), 1);
    }

    #[test]
    fn where_writing_fails_the_old_file_stays() {
        let scratch = Scratch::new();
        let path = scratch.0.join("taken");
        std::fs::create_dir(&path).unwrap();
        assert!(write_atomically(&path, b"new").is_err());
        assert_eq!(std::fs::read_dir(&scratch.0).unwrap().count(), 1);
        assert!(write_atomically(Path::new("/"), b"").is_err());
    }
}
