//! The folder that the servers of one fleet share (`--fleet`): writes this server's file of outcomes into it, and reads
//! the files of the others. All access to the folder runs on a separate thread, because a network drive may hang.

use std::collections::BTreeMap;
use std::fs::{self, Metadata};
use std::io::{self, Read};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::sync::mpsc::sync_channel;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use smol::Timer;

use super::Settings;
use crate::device::Service;
use crate::fleet::Fleet;
use crate::fleet::clock::unix_now;
use crate::fleet::shared::file::{ENDING, HEARTBEAT, MAX_SIZE, OutcomeFile, SILENT_AFTER};
use crate::fleet::shared::{Exchanged, Outcomes, PeerOutcomes, PeerStates};
use crate::os::fs::open_to_read;
use crate::os::process::{self, start_thread, unblock};
use crate::state::{ServerState, StateFolder, write_atomically, write_with_mode};

/// Time between two exchanges.
const INTERVAL: Duration = Duration::from_secs(5);

/// Time for the last exchange when the server stops.
const STOP_TIMEOUT: Duration = Duration::from_secs(2);

/// Maximum number of files of other servers.
const MAX_PEERS: usize = 64;

/// Name of the file in the state folder with the name of this server's file.
const NAME: &str = "fleet-name";

/// Checks the flags. The error is a sentence.
pub(super) fn check(settings: &Settings) -> Result<(), String> {
    let Some(path) = &settings.fleet_folder else {
        return Ok(());
    };
    if settings.secret_file.is_none() {
        return Err(
            "--fleet needs --secret-file FILE with the same secret for all servers that share outcomes"
                .to_owned(),
        );
    }
    let real = |path: &Path| path.canonicalize().unwrap_or_else(|_| path.to_owned());
    match real(path).starts_with(real(&settings.folder)) {
        true => Err(format!(
            "--fleet: {} is inside the firmware folder; give a folder outside",
            path.display()
        )),
        false => Ok(()),
    }
}

/// State of the exchange with the shared folder.
pub(super) struct SharedFolder {
    path: PathBuf,
    /// Name of this server's file.
    name: String,
    /// Number that distinguishes files of this fleet from those with another secret.
    check: u64,
    /// Number that differs in each written file.
    sequence: u64,
    own: OutcomeFile,
    /// Time at which this server's file was last written, and its first line.
    written: Option<(Instant, String)>,
    /// Whether another server writes the same file. This was then reported.
    is_disputed: bool,
    peers: BTreeMap<String, PeerFile>,
    /// Reason why the folder cannot be used now, as the end of a sentence. It was reported.
    problem: Option<String>,
}

/// Modification time, inode and size of a file.
type FileIdentity = (i64, i64, u64, u64);

/// The file of another server.
struct PeerFile {
    identity: FileIdentity,
    /// Time at which this server last saw the file change.
    changed: Instant,
    /// Content of the file when it could last be used.
    content: OutcomeFile,
    /// Reason why the file cannot be used now, as the end of a sentence. It was reported.
    problem: Option<String>,
}

impl SharedFolder {
    /// Starts to share the outcomes of a fleet. Returns `None` if the flags do not ask for that.
    pub fn open(
        settings: &Settings,
        state: &ServerState,
        fleet: &mut Fleet,
    ) -> Option<Arc<Mutex<SharedFolder>>> {
        Some(Arc::new(Mutex::new(SharedFolder {
            path: settings.fleet_folder.clone()?,
            name: name(state.folder()),
            check: fleet.share(&state.secret(), Instant::now(), unix_now()),
            sequence: random(),
            own: OutcomeFile::default(),
            written: None,
            is_disputed: false,
            peers: BTreeMap::new(),
            problem: None,
        })))
    }

    /// Writes this server's outcomes if they have changed (`own` is not `None`) or if a heartbeat is due, and reads the
    /// files that have changed. Blocks.
    fn exchange(&mut self, own: Option<Outcomes>) -> Exchanged {
        let is_new = own.is_some();
        if let Some(own) = own {
            self.own = OutcomeFile::newest(own);
        }
        let written = self.written.as_ref();
        let is_due = is_new || written.is_none_or(|(at, _)| at.elapsed() >= HEARTBEAT);
        let wrote = if is_due { self.write() } else { Ok(()) };
        let read = self.read();
        let problem = match (&wrote, &read) {
            (_, Err(error)) => Some(format!("cannot be read: {error}")),
            (Err(error), _) => Some(format!("cannot be written: {error}")),
            _ => None,
        };
        if let Some(problem) = problem
            .as_ref()
            .filter(|new| self.problem.as_ref() != Some(new))
        {
            let path = self.path.display();
            log::warn!(
                target: "fleet",
                "{path} {problem}: outcomes are not shared with the other servers until that is possible"
            );
        } else if problem.is_none() && self.problem.is_some() {
            log::info!(target: "fleet", "outcomes are shared with the other servers again");
        }
        self.problem = problem;
        let has_changed = matches!(read, Ok(true));
        let peers = || self.peers.values().map(|peer| &peer.content);
        let mut states = PeerStates::default();
        for peer in self.peers.values() {
            match &peer.problem {
                Some(_) => states.unusable += 1,
                None if peer.changed.elapsed() > SILENT_AFTER => states.silent += 1,
                None => states.live += 1,
            }
        }
        states.unusable += u32::from(self.problem.is_some());
        let all = || PeerOutcomes::merge(peers().chain([&self.own]));
        Exchanged {
            peers: has_changed.then(|| PeerOutcomes::merge(peers())),
            counts: (has_changed || is_new).then(|| all().counts()),
            states,
        }
    }

    fn write(&mut self) -> io::Result<()> {
        let path = self.path.join(&self.name);
        // Otherwise the folder would be created where a drive is not mounted.
        fs::metadata(&self.path)?;
        if let Some((_, head)) = &self.written {
            let mut found = Vec::new();
            let length = head.len() as u64;
            let read =
                open_to_read(&path).and_then(|file| file.take(length).read_to_end(&mut found));
            let is_ours = read.is_err() || found == head.as_bytes();
            if !is_ours && !std::mem::replace(&mut self.is_disputed, true) {
                let name = &self.name;
                log::warn!(
                    target: "fleet",
                    "another server writes {name} too: no two servers may share a state folder or a copy of it. Remove \
                     {NAME} from the state folder of one of them, and restart that one"
                );
            }
        }
        self.sequence = self.sequence.wrapping_add(1);
        let text = self.own.write(self.check, self.sequence);
        write_with_mode(&path, text.as_bytes(), 0o644)?;
        let head = text.lines().next().unwrap_or_default().to_owned();
        self.written = Some((Instant::now(), head));
        Ok(())
    }

    /// Reads the files of the others that have changed. Returns whether any outcomes have changed.
    fn read(&mut self) -> io::Result<bool> {
        let mut names = Vec::new();
        for entry in fs::read_dir(&self.path)? {
            let name = entry?.file_name();
            let name = name.to_str().filter(|name| {
                name.ends_with(ENDING) && !name.starts_with('.') && *name != self.name
            });
            names.extend(name.map(str::to_owned));
        }
        names.sort_unstable();
        names.truncate(MAX_PEERS);
        let count = self.peers.len();
        self.peers.retain(|name, _| names.contains(name));
        let mut has_changed = count != self.peers.len();
        for name in names {
            let known = self.peers.remove(&name);
            let identity = known.as_ref().map(|peer| peer.identity);
            let mut peer = known.unwrap_or_else(|| PeerFile {
                identity: FileIdentity::default(),
                changed: Instant::now(),
                content: OutcomeFile::default(),
                problem: None,
            });
            let read = read_one(&self.path.join(&name), identity);
            let problem = match read {
                Ok(None) => peer.problem.clone(),
                Ok(Some((identity, bytes))) => {
                    (peer.identity, peer.changed) = (identity, Instant::now());
                    match OutcomeFile::read(&bytes, self.check) {
                        Ok(content) => {
                            has_changed |= content != peer.content;
                            peer.content = content;
                            None
                        }
                        Err(problem) => Some(problem.to_owned()),
                    }
                }
                // The file is just being replaced, or is gone.
                Err(error) => Some(format!("cannot be read: {error}")),
            };
            if let Some(problem) = problem
                .as_ref()
                .filter(|new| peer.problem.as_ref() != Some(new))
            {
                log::warn!(target: "fleet", "{name} {problem}: it is ignored until it changes");
            }
            peer.problem = problem;
            self.peers.insert(name, peer);
        }
        Ok(has_changed)
    }
}

/// Reads a file, unless its identity is the known one.
fn read_one(
    path: &Path,
    known: Option<FileIdentity>,
) -> io::Result<Option<(FileIdentity, Vec<u8>)>> {
    // Opening the file makes NFS ask the server whether it has changed.
    let file = open_to_read(path)?;
    let found = identity(&file.metadata()?);
    if known == Some(found) {
        return Ok(None);
    }
    let mut bytes = Vec::new();
    file.take(MAX_SIZE.saturating_add(1))
        .read_to_end(&mut bytes)?;
    if bytes.len() as u64 > MAX_SIZE {
        return Err(io::Error::other("it is longer than 32 MiB"));
    }
    Ok(Some((found, bytes)))
}

fn identity(about: &Metadata) -> FileIdentity {
    (about.mtime(), about.mtime_nsec(), about.ino(), about.size())
}

/// Returns the name of this server's file: 16 random hexadecimal digits, stored in the state folder.
fn name(state: &StateFolder) -> String {
    let path = state.path().join(NAME);
    let stored = fs::read_to_string(&path).unwrap_or_default();
    let stored = stored.trim_end();
    let is_name = stored.len() == 16 && stored.bytes().all(|byte| byte.is_ascii_hexdigit());
    if is_name {
        return format!("{stored}{ENDING}");
    }
    let new = format!("{:016x}", random());
    if state.is_claimed()
        && let Err(error) = write_atomically(&path, format!("{new}\n").as_bytes())
    {
        log::warn!(target: "fleet", "{} cannot be written: {error}", path.display());
    }
    format!("{new}{ENDING}")
}

fn random() -> u64 {
    let mut bytes = [0; 8];
    // Without random numbers, process id and start time still differ.
    if process::random(&mut bytes).is_err() {
        return u64::from(std::process::id()) << 32 ^ unix_now().unsigned_abs();
    }
    u64::from_ne_bytes(bytes)
}

/// Exchanges outcomes as long as the server runs.
pub(super) async fn share(folder: Arc<Mutex<SharedFolder>>, service: Rc<Service>) {
    let fleet = &service.fleet;
    loop {
        let own = fleet.borrow_mut().own_outcomes(Instant::now(), unix_now());
        let folder = Arc::clone(&folder);
        let exchanged = match unblock("fleet", move || lock(&folder).exchange(own)).await {
            Ok(exchanged) => exchanged,
            Err(error) => {
                log::error!(target: "fleet", "outcomes are not shared any more: no thread can be started: {error}");
                return;
            }
        };
        fleet.borrow_mut().exchanged(exchanged, Instant::now());
        Timer::after(INTERVAL).await;
    }
}

/// Writes the last outcomes, when nothing is served any more and a running exchange has ended. Waits at most
/// [`STOP_TIMEOUT`].
pub(super) fn share_last(folder: &Arc<Mutex<SharedFolder>>, fleet: &mut Fleet) {
    let Some(own) = fleet.own_outcomes(Instant::now(), unix_now()) else {
        return;
    };
    let (sender, written) = sync_channel(1);
    let folder = Arc::clone(folder);
    let write = move || {
        let mut folder = lock(&folder);
        folder.own = OutcomeFile::newest(own);
        if let Err(error) = folder.write() {
            let path = folder.path.display();
            log::warn!(target: "fleet", "{path} cannot be written: the last outcomes are not shared: {error}");
        }
        let _ignored = sender.try_send(());
    };
    if start_thread("fleet", Box::new(write)).is_ok() {
        let _is_written = written.recv_timeout(STOP_TIMEOUT);
    }
}

/// Locks the folder, also after a panic: each file is written and read anew.
fn lock(folder: &Mutex<SharedFolder>) -> MutexGuard<'_, SharedFolder> {
    folder.lock().unwrap_or_else(PoisonError::into_inner)
}
