//! The state folder: its lock, the secret behind the UDP ids, files written atomically. Opened once by
//! `server`.
//!
//! Nothing about the folder stops the server but the lock of another server. What cannot be read or
//! written is named in the log, replaced for this run, and written later if that becomes possible
//! ([`State::retry`]). Without a folder the secret is derived from machine-id and boot_id, so that UDP
//! downloads survive a restart of the server within one boot.

use std::fmt::Display;
use std::fs::{DirBuilder, File, OpenOptions, Permissions};
use std::io::{self, ErrorKind, Read, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use rustix::fs::{Access, FlockOperation};
use rustix::io::Errno;
use sha2::{Digest, Sha256};

use crate::os::fs::{is_not_regular, open_to_read};
use crate::os::process;

/// The folder's name inside the firmware folder.
const INSIDE: &str = ".luat-ota";

/// The name of the file with the secret.
const SECRET: &str = "secret";

/// Permissions of a file that its owner alone can read.
pub const PRIVATE: u32 = 0o600;

/// The path of the state folder and its lock. Clones share the lock.
#[derive(Clone, Debug)]
pub struct Folder {
    path: Arc<Path>,
    /// Held as long as a clone lives: keeps a second server out.
    lock: Arc<Mutex<Option<File>>>,
}

/// Why a folder cannot be used.
enum Trouble {
    /// Another server has the lock.
    Taken,
    /// It cannot be created, or not be written.
    Unusable(io::Error),
}

impl From<io::Error> for Trouble {
    fn from(error: io::Error) -> Trouble {
        Trouble::Unusable(error)
    }
}

impl Folder {
    /// A folder that may not exist yet, without its lock.
    pub fn new(path: &Path) -> Folder {
        Folder {
            path: Arc::from(path),
            lock: Arc::default(),
        }
    }

    /// Its path.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Creates the folder and takes its lock, unless this process has it already. Must succeed before
    /// anything is written into the folder. The error: it cannot be created, or another server uses it.
    pub fn claim(&self) -> io::Result<()> {
        self.try_claim().map_err(|trouble| match trouble {
            Trouble::Taken => io::Error::other("another luat-ota is using the state folder"),
            Trouble::Unusable(error) => error,
        })
    }

    fn try_claim(&self) -> Result<(), Trouble> {
        // A panic cannot leave it half written.
        let mut lock = self.lock.lock().unwrap_or_else(PoisonError::into_inner);
        if lock.is_none() {
            DirBuilder::new()
                .recursive(true)
                .mode(0o710)
                .create(&self.path)?;
            *lock = Some(lock_file(&self.path)?);
        }
        Ok(())
    }

    /// Whether this process has the lock.
    pub fn is_claimed(&self) -> bool {
        let lock = self.lock.lock().unwrap_or_else(PoisonError::into_inner);
        lock.is_some()
    }
}

/// The state of a server.
pub struct State {
    folder: Folder,
    lost: Option<String>,
    secret: [u8; 32],
    /// Files that could not be written yet: name, content and permissions.
    unsaved: Mutex<Vec<(&'static str, String, u32)>>,
}

impl State {
    /// Opens (and creates) the state folder: `wanted`, else `$STATE_DIRECTORY`, else `.luat-ota/` inside
    /// `firmware`. Where it cannot be used, [`State::lost`] says what is lost. The error is one sentence:
    /// another server has the lock (or there is nothing at all to make a secret of).
    pub fn open(wanted: Option<&Path>, firmware: &Path) -> Result<State, String> {
        let folder = Folder::new(&State::locate(wanted, firmware));
        let claimed = match folder.try_claim() {
            Ok(()) => writable(folder.path()).map_err(io::Error::from),
            Err(Trouble::Unusable(error)) => Err(error),
            Err(Trouble::Taken) => {
                return Err(format!(
                    "Another luat-ota is using the state folder {}: stop it, or give this one its own \
                     with --state.",
                    folder.path().display()
                ));
            }
        };
        let mut state = State {
            lost: claimed.err().map(|error| lost(folder.path(), &error)),
            folder,
            secret: [0; 32],
            unsaved: Mutex::default(),
        };
        state.secret = state.open_secret()?;
        Ok(state)
    }

    /// The path of the state folder of a server on this firmware folder, whether it exists or not, for a
    /// command that only reads what is in it.
    pub fn locate(wanted: Option<&Path>, firmware: &Path) -> PathBuf {
        wanted
            .map(Path::to_owned)
            .or_else(|| from_systemd(std::env::var_os("STATE_DIRECTORY")))
            .unwrap_or_else(|| firmware.join(INSIDE))
    }

    /// Whether a server uses this state folder now. `false` where there are no locks.
    pub fn is_in_use(folder: &Path) -> bool {
        let lock = open_to_read(&folder.join("lock"));
        let taken =
            lock.map(|file| rustix::fs::flock(&file, FlockOperation::NonBlockingLockShared));
        matches!(taken, Ok(Err(Errno::WOULDBLOCK)))
    }

    /// The folder and its lock.
    pub fn folder(&self) -> &Folder {
        &self.folder
    }

    /// What is lost because the folder cannot be used; `None` if it can.
    pub fn lost(&self) -> Option<&str> {
        self.lost.as_deref()
    }

    /// 32 secret bytes: the state's (made at first start, 0600), or where it cannot be kept derived from
    /// machine-id and boot_id (docs/hazards.md 8).
    pub fn secret(&self) -> [u8; 32] {
        self.secret
    }

    /// The path of a file in the state folder.
    pub fn file(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// Writes a file that could not be written, as soon as [`State::retry`] can.
    pub fn keep_later(&self, name: &'static str, content: String, mode: u32) {
        let mut unsaved = self.unsaved.lock().unwrap_or_else(PoisonError::into_inner);
        unsaved.push((name, content, mode));
    }

    /// Whether there are files that could not be written yet.
    pub fn has_unsaved(&self) -> bool {
        let unsaved = self.unsaved.lock().unwrap_or_else(PoisonError::into_inner);
        !unsaved.is_empty()
    }

    /// Tries again to use the folder and to write what could not be written. A file that exists by now is
    /// left as it is. Blocks. `true`: everything is written.
    pub fn retry(&self) -> bool {
        if self.folder.claim().is_err() || writable(self.folder.path()).is_err() {
            return false;
        }
        let mut unsaved = self.unsaved.lock().unwrap_or_else(PoisonError::into_inner);
        unsaved.retain(|(name, content, mode)| {
            let path = self.file(name);
            let is_free = std::fs::symlink_metadata(&path).is_err();
            is_free && write_with_mode(&path, content.as_bytes(), *mode).is_err()
        });
        unsaved.is_empty()
    }

    /// Reads the secret, or makes it at the first start.
    fn open_secret(&self) -> Result<[u8; 32], String> {
        let path = self.file(SECRET);
        match read_secret(&path) {
            Ok(secret) => return Ok(secret),
            Err(error) if error.kind() == ErrorKind::NotFound => {}
            Err(error) if error.kind() == ErrorKind::InvalidData => {
                const COST: &str = "UDP downloads that were running begin again";
                if !replaces(&path, &error, COST) {
                    return secret_of_this_boot();
                }
            }
            Err(_) if !self.folder.is_claimed() => {}
            // A permission may come back: its file is not replaced.
            Err(error) => {
                log::warn!(
                    target: "state",
                    "the secret in {} cannot be read: {error}; another one is used for this boot, and UDP \
                     downloads that were running begin again. Let the server's user read it.",
                    path.display()
                );
                return secret_of_this_boot();
            }
        }
        let mut secret = [0; 32];
        if process::random(&mut secret).is_err() {
            // Early in a boot the kernel has no random numbers yet. The next start makes one.
            return secret_of_this_boot();
        }
        let text = |secret| format!("{}\n", crate::firmware::ContentId(secret));
        let written = self
            .folder
            .claim()
            .and_then(|()| write_atomically(&path, text(secret).as_bytes()));
        if let Err(error) = written {
            // A restart before it can be written must find the same one.
            secret = secret_of_this_boot()?;
            self.keep_later(SECRET, text(secret), PRIVATE);
            if self.lost.is_none() {
                log::warn!(target: "state", "{}", lost(self.folder.path(), &error));
            }
        }
        Ok(secret)
    }
}

/// What it means that the folder cannot be used: a sentence for the log.
fn lost(folder: &Path, error: &io::Error) -> String {
    format!(
        "The state folder {} cannot be used: {error}. The server goes on without it and tries it again; \
         until then a restart forgets the devices, what is held back from them, and the downloads that \
         they began, and reads all firmware files again. Let the server's user write there, make room, or \
         name another folder with --state.",
        folder.display()
    )
}

/// Sets a damaged file aside, with a warning; whether its name is free now. `cost`: what it means for
/// devices or people.
pub fn replaces(path: &Path, error: &dyn Display, cost: &str) -> bool {
    match set_aside(path) {
        Ok(aside) => {
            log::warn!(
                target: "state",
                "{} {error}: it is replaced by a new one, and is now called {}; {cost}",
                path.display(),
                aside.display()
            );
            true
        }
        Err(why) => {
            log::warn!(
                target: "state",
                "{} {error}, and cannot be renamed ({why}): it is not used in this run; {cost}",
                path.display()
            );
            false
        }
    }
}

/// Renames a file that is of no use to `NAME.damaged` (or `NAME.damaged-2` and so on); its new path.
pub fn set_aside(path: &Path) -> io::Result<PathBuf> {
    const MOST: u32 = 100;
    let named = |number: u32| {
        let mut aside = path.as_os_str().to_owned();
        aside.push(match number {
            1 => ".damaged".to_owned(),
            number => format!(".damaged-{number}"),
        });
        PathBuf::from(aside)
    };
    let is_free = |aside: &PathBuf| std::fs::symlink_metadata(aside).is_err();
    let aside = (1..=MOST).map(named).find(is_free);
    let aside = aside.ok_or(ErrorKind::AlreadyExists)?;
    std::fs::rename(path, &aside)?;
    Ok(aside)
}

/// Whether this process may write into the folder.
fn writable(folder: &Path) -> Result<(), Errno> {
    rustix::fs::access(folder, Access::WRITE_OK | Access::EXEC_OK)
}

/// systemd names several folders with colons between them; the first is ours.
fn from_systemd(given: Option<std::ffi::OsString>) -> Option<PathBuf> {
    let given = given?.into_string().ok()?;
    let first = given.split(':').next().filter(|path| !path.is_empty())?;
    Some(PathBuf::from(first))
}

/// Opens the file `lock` and locks it. In a read-only folder an existing one is locked all the same.
fn lock_file(folder: &Path) -> Result<File, Trouble> {
    let path = folder.join("lock");
    let mut opened = open_lock(&path);
    if opened.as_ref().is_err_and(is_not_regular) {
        set_aside(&path)?;
        opened = open_lock(&path);
    }
    let file = opened?;
    match rustix::fs::flock(&file, FlockOperation::NonBlockingLockExclusive) {
        Ok(()) => {}
        Err(Errno::WOULDBLOCK) => return Err(Trouble::Taken),
        // Some network file systems have no locks.
        Err(error) => log::warn!(
            target: "state",
            "the state folder {} cannot be locked ({error}): see to it that only one server uses it",
            folder.display()
        ),
    }
    Ok(file)
}

fn open_lock(path: &Path) -> io::Result<File> {
    // Looked at first: opening some devices has an effect.
    if std::fs::symlink_metadata(path).is_ok_and(|about| !about.is_file()) {
        return Err(crate::os::fs::not_regular());
    }
    OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(false)
        .mode(0o600)
        .custom_flags(libc::O_NOFOLLOW | libc::O_NONBLOCK)
        .open(path)
        .or_else(|error| match open_to_read(path) {
            Ok(file) => Ok(file),
            Err(_) => Err(error),
        })
}

/// `InvalidData`: the file is damaged.
fn read_secret(path: &Path) -> io::Result<[u8; 32]> {
    let damaged = || {
        io::Error::new(
            ErrorKind::InvalidData,
            "does not hold 64 hexadecimal digits",
        )
    };
    let mut text = String::new();
    let read = open_to_read(path).and_then(|file| file.take(1024).read_to_string(&mut text));
    match read {
        Err(error) if is_not_regular(&error) => return Err(damaged()),
        Err(error) if error.kind() == ErrorKind::InvalidData => return Err(damaged()),
        read => read?,
    };
    let id = crate::firmware::ContentId::parse(text.trim()).ok_or_else(damaged)?;
    Ok(id.0)
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
    write_with_mode(path, bytes, PRIVATE)
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
        // A folder, say.
        Err(error) if error.kind() != ErrorKind::NotFound => {
            set_aside(&beside)?;
        }
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
        assert_eq!(first.folder().path(), folder);
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

    // Case 50.
    #[test]
    fn a_damaged_secret_is_set_aside_and_made_anew() {
        let digits = "0".repeat(63);
        for text in ["", "abc", "\n", &"g".repeat(64), &digits, "\u{0}\u{0}"] {
            let scratch = Scratch::new();
            std::fs::write(scratch.0.join("secret"), text).unwrap();
            let state = State::open(Some(&scratch.0), &scratch.0).unwrap();
            assert_eq!(state.lost(), None);
            let left = std::fs::read_to_string(scratch.0.join("secret.damaged")).unwrap();
            assert_eq!(left, *text);
            let secret = state.secret();
            drop(state);
            // The new one lasts.
            let again = State::open(Some(&scratch.0), &scratch.0).unwrap();
            assert_eq!(again.secret(), secret);
        }
    }

    #[test]
    fn a_secret_or_a_lock_that_is_no_file_is_set_aside() {
        for name in ["secret", "lock", ".secret.tmp"] {
            for make in [folder_at, fifo_at, link_at] {
                let scratch = Scratch::new();
                let path = scratch.0.join(name);
                make(&path);
                let state = State::open(Some(&scratch.0), &scratch.0).unwrap();
                assert_eq!(state.lost(), None, "{name}");
                let secret = state.secret();
                drop(state);
                let again = State::open(Some(&scratch.0), &scratch.0).unwrap();
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
    fn what_is_set_aside_replaces_nothing() {
        let scratch = Scratch::new();
        let path = scratch.0.join("secret");
        for text in ["one", "two", "three"] {
            std::fs::write(&path, text).unwrap();
            let aside = set_aside(&path).unwrap();
            assert_eq!(std::fs::read_to_string(aside).unwrap(), text);
        }
        assert_eq!(std::fs::read_dir(&scratch.0).unwrap().count(), 3);
        assert!(set_aside(&path).is_err());
    }

    #[test]
    fn a_folder_that_cannot_be_used_stops_nothing_and_is_used_when_it_can_be() {
        for named in [true, false] {
            if !named && std::env::var_os("STATE_DIRECTORY").is_some() {
                continue;
            }
            let scratch = Scratch::new();
            let folder = scratch.0.join(INSIDE);
            std::fs::write(&folder, "in the way").unwrap();
            let wanted = named.then_some(folder.as_path());
            let state = State::open(wanted, &scratch.0).unwrap();
            let lost = state.lost().unwrap();
            assert!(lost.contains("--state"), "{lost}");
            assert!(!state.folder().is_claimed() && !state.retry());
            let secret = state.secret();
            assert_ne!(secret, [0; 32]);
            // A restart in this boot has the same one.
            drop(state);
            let state = State::open(wanted, &scratch.0).unwrap();
            assert_eq!(state.secret(), secret);
            state.keep_later("token", "12345678\n".to_owned(), 0o640);
            std::fs::remove_file(&folder).unwrap();
            assert!(state.retry());
            let token = std::fs::read_to_string(folder.join("token")).unwrap();
            assert_eq!(token, "12345678\n");
            let second = State::open(wanted, &scratch.0).map(drop).unwrap_err();
            assert!(second.starts_with("Another"), "{second}");
            drop(state);
            assert_eq!(State::open(wanted, &scratch.0).unwrap().secret(), secret);
        }
    }

    #[test]
    fn a_retry_does_not_replace_what_somebody_has_put_there() {
        let scratch = Scratch::new();
        let state = State::open(Some(&scratch.0), &scratch.0).unwrap();
        std::fs::write(scratch.0.join("token"), "theirs").unwrap();
        state.keep_later("token", "ours".to_owned(), PRIVATE);
        assert!(state.retry());
        let token = std::fs::read_to_string(scratch.0.join("token")).unwrap();
        assert_eq!(token, "theirs");
    }

    #[test]
    fn the_state_lies_in_the_firmware_folder_where_nothing_else_is_said() {
        if std::env::var_os("STATE_DIRECTORY").is_some() {
            return;
        }
        let scratch = Scratch::new();
        let state = State::open(None, &scratch.0).unwrap();
        assert_eq!(state.folder().path(), scratch.0.join(INSIDE));
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
