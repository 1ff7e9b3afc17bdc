//! The state folder: its lock, the secret behind the UDP ids, and files that are written atomically.
//!
//! Only the lock of another server prevents the start. Files that cannot be read or written are named in the log,
//! replaced for this run, and written later if that becomes possible ([`ServerState::retry`]). Without a folder the
//! secret is derived from machine-id and boot_id, so that UDP downloads survive a restart of the server within one
//! boot.

pub mod drain;
mod files;
mod secret;

pub use files::{PRIVATE, set_aside, set_aside_damaged, write_atomically, write_with_mode};

use std::fs::{DirBuilder, File, OpenOptions};
use std::io::{self, ErrorKind};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use rustix::fs::{Access, FlockOperation};
use rustix::io::Errno;

use crate::os::fs::{FileLock, is_not_regular, not_regular, open_to_read};
use crate::os::process;

/// Name of the state folder inside the firmware folder.
const DEFAULT_NAME: &str = ".luat-ota";

/// Name of the lock file.
const LOCK: &str = "lock";

/// Name of the file with the secret.
const SECRET: &str = "secret";

/// Returns the path of the state folder of a server on this firmware folder: `wanted`, otherwise `$STATE_DIRECTORY`,
/// otherwise `.luat-ota/` inside `firmware`. The folder need not exist.
pub fn locate(wanted: Option<&Path>, firmware: &Path) -> PathBuf {
    wanted
        .map(Path::to_owned)
        .or_else(|| from_systemd(std::env::var_os("STATE_DIRECTORY")))
        .unwrap_or_else(|| firmware.join(DEFAULT_NAME))
}

/// Whether a server uses this state folder now. Always `false` on a file system without locks.
pub fn is_in_use(folder: &Path) -> bool {
    let lock = open_to_read(&folder.join(LOCK));
    let shared = FlockOperation::NonBlockingLockShared;
    let locked = lock.map(|file| FileLock::take(file, shared, Duration::ZERO));
    matches!(locked, Ok(Err(Errno::WOULDBLOCK)))
}

/// Path of the state folder and its lock. Clones share the lock.
#[derive(Clone, Debug)]
pub struct StateFolder {
    path: Arc<Path>,
    /// The lock, held as long as a clone lives to keep a second server out.
    lock: Arc<Mutex<Option<FileLock>>>,
}

/// Reason why a folder cannot be used.
enum ClaimError {
    /// The lock is held by another server.
    InUse,
    /// The folder cannot be created or written.
    Unusable(io::Error),
}

impl From<io::Error> for ClaimError {
    fn from(error: io::Error) -> ClaimError {
        ClaimError::Unusable(error)
    }
}

impl StateFolder {
    /// Describes a folder that need not exist yet, without its lock.
    pub fn new(path: &Path) -> StateFolder {
        StateFolder {
            path: Arc::from(path),
            lock: Arc::default(),
        }
    }

    /// Path of the folder.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Creates the folder and takes its lock, unless this process has it already. Must succeed before
    /// anything is written into the folder. Fails if the folder cannot be created or another server uses it.
    pub fn claim(&self) -> io::Result<()> {
        self.try_claim().map_err(|error| match error {
            ClaimError::InUse => io::Error::other("another luat-ota is using the state folder"),
            ClaimError::Unusable(error) => error,
        })
    }

    fn try_claim(&self) -> Result<(), ClaimError> {
        let mut lock = unpoisoned(&self.lock);
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
        unpoisoned(&self.lock).is_some()
    }
}

/// The state of a running server.
pub struct ServerState {
    folder: StateFolder,
    problem: Option<String>,
    secret: [u8; 32],
    /// Files that could not be written yet: name, content and permissions.
    unsaved: Mutex<Vec<(&'static str, String, u32)>>,
}

impl ServerState {
    /// Opens (and creates) the state folder at [`locate`]. If the folder cannot be used, [`ServerState::problem`]
    /// states the reason. `shared`: the file of a secret that other servers use too. Fails with a sentence if another
    /// server has the lock, if the shared secret cannot be used, or if no secret can be created at all.
    pub fn open(
        wanted: Option<&Path>,
        firmware: &Path,
        shared: Option<&Path>,
    ) -> Result<ServerState, String> {
        let folder = StateFolder::new(&locate(wanted, firmware));
        let claimed = match folder.try_claim() {
            Ok(()) => check_writable(folder.path()),
            Err(ClaimError::Unusable(error)) => Err(error),
            Err(ClaimError::InUse) => {
                return Err(format!(
                    "Another luat-ota is using the state folder {}: stop it, or give this one its own \
                     with --state.",
                    folder.path().display()
                ));
            }
        };
        let mut state = ServerState {
            problem: claimed.err().map(|error| unusable(folder.path(), &error)),
            folder,
            secret: [0; 32],
            unsaved: Mutex::default(),
        };
        state.secret = match shared {
            Some(path) => secret::shared(path)?,
            None => state.open_secret()?,
        };
        Ok(state)
    }

    /// The folder and its lock.
    pub fn folder(&self) -> &StateFolder {
        &self.folder
    }

    /// Sentence on what is lost because the folder cannot be used; `None` if it can be used.
    pub fn problem(&self) -> Option<&str> {
        self.problem.as_deref()
    }

    /// Returns the 32 secret bytes: those of the shared file, otherwise of the folder (both created at the first start,
    /// 0600). If they cannot be stored, they are derived from machine-id and boot_id (docs/hazards.md 8).
    pub fn secret(&self) -> [u8; 32] {
        self.secret
    }

    /// Path of a file in the state folder.
    pub fn file(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// Queues a file that could not be written for [`ServerState::retry`].
    pub fn write_later(&self, name: &'static str, content: String, mode: u32) {
        unpoisoned(&self.unsaved).push((name, content, mode));
    }

    /// Whether there are files that could not be written yet.
    pub fn has_unsaved(&self) -> bool {
        !unpoisoned(&self.unsaved).is_empty()
    }

    /// Tries again to use the folder and to write the queued files, and returns whether everything is written. A file
    /// that exists by now is not changed. Blocks.
    pub fn retry(&self) -> bool {
        if self.folder.claim().is_err() || check_writable(self.folder.path()).is_err() {
            return false;
        }
        let mut unsaved = unpoisoned(&self.unsaved);
        unsaved.retain(|(name, content, mode)| {
            let path = self.file(name);
            let is_free = std::fs::symlink_metadata(&path).is_err();
            is_free && write_with_mode(&path, content.as_bytes(), *mode).is_err()
        });
        unsaved.is_empty()
    }

    /// Reads the secret, or creates it at the first start.
    fn open_secret(&self) -> Result<[u8; 32], String> {
        let path = self.file(SECRET);
        match secret::read(&path) {
            Ok(secret) => return Ok(secret),
            Err(error) if error.kind() == ErrorKind::NotFound => {}
            Err(error) if error.kind() == ErrorKind::InvalidData => {
                const COST: &str = "UDP downloads that were running begin again";
                if !set_aside_damaged(&path, &error, COST) {
                    return secret::of_this_boot();
                }
            }
            Err(_) if !self.folder.is_claimed() => {}
            // The file is not replaced, because its permissions may be corrected later.
            Err(error) => {
                log::warn!(
                    target: "state",
                    "the secret in {} cannot be read: {error}; another one is used for this boot, and UDP \
                     downloads that were running begin again. Let the server's user read it.",
                    path.display()
                );
                return secret::of_this_boot();
            }
        }
        let mut secret = [0; 32];
        if process::random(&mut secret).is_err() {
            // Early in a boot the kernel has no random numbers yet. The next start creates a secret.
            return secret::of_this_boot();
        }
        let written = self
            .folder
            .claim()
            .and_then(|()| write_atomically(&path, secret::line(secret).as_bytes()));
        if let Err(error) = written {
            // A restart before the secret can be written must derive the same one.
            secret = secret::of_this_boot()?;
            self.write_later(SECRET, secret::line(secret), PRIVATE);
            if self.problem.is_none() {
                log::warn!(target: "state", "{}", unusable(self.folder.path(), &error));
            }
        }
        Ok(secret)
    }
}

/// Locks a mutex. No panic leaves one of these values half written.
fn unpoisoned<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Returns the sentence for the log on the consequences of a folder that cannot be used.
fn unusable(folder: &Path, error: &io::Error) -> String {
    format!(
        "The state folder {} cannot be used: {error}. The server continues without it and tries again; \
         until then a restart forgets the devices, their holds, and the downloads that they began, and \
         reads all firmware files again. Let the server's user write there, free some space, or use \
         another folder with --state.",
        folder.display()
    )
}

/// Fails if this process may not write into the folder.
fn check_writable(folder: &Path) -> io::Result<()> {
    Ok(rustix::fs::access(
        folder,
        Access::WRITE_OK | Access::EXEC_OK,
    )?)
}

/// Returns the first of the folders in `$STATE_DIRECTORY`, which are separated by colons.
fn from_systemd(given: Option<std::ffi::OsString>) -> Option<PathBuf> {
    let given = given?.into_string().ok()?;
    let first = given.split(':').next().filter(|path| !path.is_empty())?;
    Some(PathBuf::from(first))
}

/// Opens the lock file and locks it. In a read-only folder an existing lock file is locked.
fn lock_file(folder: &Path) -> Result<FileLock, ClaimError> {
    let path = folder.join(LOCK);
    let mut opened = open_lock(&path);
    if opened.as_ref().is_err_and(is_not_regular) {
        set_aside(&path)?;
        opened = open_lock(&path);
    }
    let file = opened?;
    match FileLock::take(
        file,
        FlockOperation::NonBlockingLockExclusive,
        Duration::ZERO,
    ) {
        Ok(lock) => Ok(lock),
        Err(Errno::WOULDBLOCK) => Err(ClaimError::InUse),
        Err(error) => {
            // Some network file systems have no locks.
            log::warn!(
                target: "state",
                "the state folder {} cannot be locked ({error}): make sure that only one server uses it",
                folder.display()
            );
            Ok(FileLock::unsupported())
        }
    }
}

fn open_lock(path: &Path) -> io::Result<File> {
    // Checked before opening, because opening some devices has an effect.
    if std::fs::symlink_metadata(path).is_ok_and(|about| !about.is_file()) {
        return Err(not_regular());
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

#[cfg(test)]
mod tests;
