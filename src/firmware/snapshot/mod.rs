//! Immutable copies of contents: each requested content is copied once into a sealed memfd (or, above the memory
//! budget, into an unlinked temporary file), and its hash must be the recorded one (docs/decisions.md "Only snapshots
//! are served", docs/hazards.md 9, 10, 12). Every byte that a module gets comes from a snapshot.
//!
//! A file whose stamp has changed is still tried. Only the hash shows whether the bytes are those recorded: a `chmod`,
//! or a file system that invents inode numbers, changes the stamp and not the bytes.

mod copy;

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::fmt;
use std::fs::File;
use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::fs::FileExt;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use smol::lock::Mutex;

use self::copy::CopyJob;
use super::ContentId;
use super::catalog::{Catalog, ContentSource};
use crate::os::memory::{Memfd, Sealed, whole_pages};
use crate::os::process::{file_limit, start_thread};

/// Time for which a content that is no longer offered is kept for paused downloads.
const KEEP_TIME: Duration = Duration::from_secs(3600);

/// Divisor of the budget. While all snapshots take at most this part of the budget, they may take more memory than they
/// have bytes, in order to use huge pages.
const HUGE_PAGE_DIVISOR: u64 = 4;

/// The bytes of one content, which never change.
#[derive(Debug)]
pub struct Snapshot {
    id: ContentId,
    storage: Storage,
}

#[derive(Debug)]
enum Storage {
    Memory(Sealed),
    /// An unlinked file and its size in bytes. Never mapped.
    File(File, u64),
}

impl Snapshot {
    /// Hash of the bytes.
    pub fn id(&self) -> ContentId {
        self.id
    }

    /// Size in bytes.
    pub fn size(&self) -> u64 {
        match &self.storage {
            Storage::Memory(sealed) => sealed.bytes().len() as u64,
            Storage::File(_, size) => *size,
        }
    }

    /// All bytes, if they are in memory; `None` for a temporary file, which is not mapped as its medium may be removed.
    pub fn bytes(&self) -> Option<&[u8]> {
        match &self.storage {
            Storage::Memory(sealed) => Some(sealed.bytes()),
            Storage::File(..) => None,
        }
    }

    /// Descriptor for sendfile.
    pub fn file(&self) -> BorrowedFd<'_> {
        match &self.storage {
            Storage::Memory(sealed) => sealed.file(),
            Storage::File(file, _) => file.as_fd(),
        }
    }

    /// Copies bytes from `offset` into `buffer`. Returns their number, which is less than the buffer's length only at
    /// the end. Fails only if the medium of a temporary file is gone.
    pub fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
        match &self.storage {
            Storage::Memory(sealed) => {
                let rest = usize::try_from(offset)
                    .ok()
                    .and_then(|offset| sealed.bytes().get(offset..))
                    .unwrap_or_default();
                let count = buffer.len().min(rest.len());
                // Both slices exist. A loop over the bytes would be ten times slower in a build optimised for size.
                if let (Some(to), Some(from)) = (buffer.get_mut(..count), rest.get(..count)) {
                    to.copy_from_slice(from);
                }
                Ok(count)
            }
            // pread rejects offsets above the largest possible file size.
            Storage::File(_, size) if offset >= *size => Ok(0),
            Storage::File(file, _) => read_file_at(file, buffer, offset),
        }
    }

    /// Bytes of memory that the snapshot occupies.
    fn memory(&self) -> u64 {
        match &self.storage {
            Storage::Memory(sealed) => sealed.held(),
            Storage::File(..) => 0,
        }
    }
}

fn read_file_at(file: &File, mut buffer: &mut [u8], mut offset: u64) -> io::Result<usize> {
    let mut total = 0;
    while !buffer.is_empty() {
        let count = match file.read_at(buffer, offset) {
            Ok(0) => break,
            Ok(count) => count,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            Err(error) => return Err(error),
        };
        let (_, rest) = buffer.split_at_mut_checked(count).unwrap_or_default();
        buffer = rest;
        total += count;
        offset = offset.saturating_add(count as u64);
    }
    Ok(total)
}

/// Reason why a content could not be loaded.
#[derive(Debug)]
pub enum LoadError {
    /// No file has these bytes any longer, or the file changed while it was read. The folder should be scanned again.
    Gone(String),
    /// The firmware folder or its medium cannot be read at present.
    Unread(String),
    /// Neither the memory budget nor a temporary file has room for the content at present.
    Full(String),
}

impl LoadError {
    /// Label of the reason in the metrics.
    pub fn word(&self) -> &'static str {
        match self {
            LoadError::Gone(_) => "gone",
            LoadError::Unread(_) => "unread",
            LoadError::Full(_) => "full",
        }
    }
}

impl fmt::Display for LoadError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            LoadError::Gone(text) | LoadError::Unread(text) | LoadError::Full(text) => {
                f.write_str(text)
            }
        }
    }
}

impl std::error::Error for LoadError {}

/// All snapshots, owned by the serving thread. Not `Sync`; other threads do the copying.
pub struct Snapshots {
    root: PathBuf,
    budget: u64,
    spill: Option<PathBuf>,
    /// Maximum number of snapshots before unused ones are dropped. Each snapshot keeps a file open.
    most: usize,
    /// [`Memfd::new`]; a field so that tests can replace it.
    memfd: fn() -> io::Result<Memfd>,
    /// Sorted by hash, so that contents with the same first 12 bits are neighbours.
    loaded: RefCell<BTreeMap<ContentId, CachedSnapshot>>,
    /// Counter of uses. The most recently used snapshot has the highest number.
    uses: Cell<u64>,
    /// Lock that a load must hold. The copying thread holds it until the copy is complete, so a load counts even after
    /// its client is gone. The copy is then left in the mutex for the next load.
    loader: Arc<Mutex<Option<Snapshot>>>,
}

/// A loaded snapshot with its position in the order of use.
struct CachedSnapshot {
    snapshot: Arc<Snapshot>,
    /// Value of [`Snapshots::uses`] at the last use.
    last_use: u64,
    /// Value of `last_use`, and the time, at the last sweep that found the snapshot in use or used since the previous
    /// sweep.
    last_active: (u64, Instant),
}

impl CachedSnapshot {
    fn is_idle(&self) -> bool {
        Arc::strong_count(&self.snapshot) == 1
    }
}

impl Snapshots {
    /// Creates an empty set of snapshots. `root` is the firmware folder. `budget` is the number of bytes of memory for
    /// all memfds together, including those in use. `spill` is the folder for temporary files (the state folder), if
    /// there is one.
    ///
    /// The limit of open files should be raised first: unused snapshots take up to an eighth of the limit, at most 256.
    pub fn new(root: PathBuf, budget: u64, spill: Option<PathBuf>) -> Snapshots {
        let most = usize::try_from(file_limit() / 8).unwrap_or(usize::MAX);
        Snapshots {
            root,
            budget,
            spill,
            most: most.clamp(16, 256),
            memfd: Memfd::new,
            loaded: RefCell::default(),
            uses: Cell::new(0),
            loader: Arc::default(),
        }
    }

    /// Returns the snapshot if it is loaded. Counts as a use.
    pub fn get(&self, id: ContentId) -> Option<Arc<Snapshot>> {
        let mut loaded = self.loaded.borrow_mut();
        let cached = loaded.get_mut(&id)?;
        cached.last_use = self.next_use();
        Some(Arc::clone(&cached.snapshot))
    }

    /// Returns the snapshot, and loads it from one of these files if necessary. One load runs at a time; requests that
    /// wait for the same content get the same snapshot. Drops unused snapshots, least recently used first, to stay
    /// within the budget.
    ///
    /// Cancel-safe: a copy that has begun is completed for the next request.
    pub async fn load(
        &self,
        id: ContentId,
        sources: &[ContentSource],
    ) -> Result<Arc<Snapshot>, LoadError> {
        if let Some(snapshot) = self.get(id) {
            return Ok(snapshot);
        }
        let mut loader = self.loader.lock_arc().await;
        if let Some(left) = loader.take() {
            self.insert(left);
        }
        // It may have been loaded during the wait.
        if let Some(snapshot) = self.get(id) {
            return Ok(snapshot);
        }
        let Some(size) = sources.first().map(|source| source.size) else {
            return Err(LoadError::Gone(format!(
                "no file with the content {id:?} is in the firmware folder any more"
            )));
        };
        let in_memory = self.make_room(size);
        loop {
            let job = CopyJob {
                id,
                size,
                root: self.root.clone(),
                sources: sources.to_vec(),
                memfd: in_memory.then_some(self.memfd),
                room: (self.budget / HUGE_PAGE_DIVISOR).saturating_sub(self.held()),
                spill: self.spill.clone(),
            };
            let (sender, receiver) = smol::channel::bounded(1);
            // If the receiver is gone, the guard is dropped with the message and the snapshot stays in the mutex. If no
            // thread can be started, `sender` is dropped at once and `recv` fails.
            let copying = move || {
                let done = job.run().map(|snapshot| *loader = Some(snapshot));
                sender.try_send((loader, done)).ok();
            };
            start_thread("copying", Box::new(copying)).ok();
            let Ok((guard, done)) = receiver.recv().await else {
                let text = "no thread can be started to copy firmware";
                return Err(LoadError::Full(text.to_owned()));
            };
            loader = guard;
            match done {
                Ok(()) => {
                    if let Some(snapshot) = loader.take() {
                        return Ok(self.insert(snapshot));
                    }
                }
                // Drop unused temporary files to make room for the requested content.
                Err(LoadError::Full(_)) if self.drop_idle_files() => {}
                Err(error) => return Err(error),
            }
        }
    }

    /// Calls `visit` with the loaded contents that have this [`ContentId::short`], including those whose file is gone.
    /// Every packet needs this lookup, so it does not allocate a list.
    pub fn with_short<R>(
        &self,
        short: u16,
        visit: impl FnOnce(&mut dyn Iterator<Item = ContentId>) -> R,
    ) -> R {
        let loaded = self.loaded.borrow();
        let from_here = loaded.range(ContentId::least_with_short(short)..);
        let mut found = from_here.map(|(id, _)| *id);
        visit(&mut found.by_ref().take_while(|id| id.short() == short))
    }

    /// Drops snapshots that are unused for an hour and no longer in the catalogue, and temporary files that are unused
    /// for an hour. Must be called regularly, because the time of non-use is measured from sweep to sweep.
    pub fn sweep(&self, catalog: &Catalog) {
        self.sweep_at(Instant::now(), |id| !catalog.sources(id).is_empty());
    }

    /// Whether a later sweep may free something, even if nothing is loaded and the folder does not change.
    pub fn may_free_memory(&self, catalog: &Catalog) -> bool {
        let is_left = self.loader.try_lock_arc().is_none_or(|left| left.is_some());
        let may_go = |(id, cached): (&ContentId, &CachedSnapshot)| {
            catalog.sources(*id).is_empty() || cached.snapshot.bytes().is_none()
        };
        is_left || self.loaded.borrow().iter().any(may_go)
    }

    fn sweep_at(&self, now: Instant, offered: impl Fn(ContentId) -> bool) {
        if let Some(left) = self.loader.try_lock_arc().and_then(|mut l| l.take()) {
            self.insert(left);
        }
        self.loaded.borrow_mut().retain(|id, cached| {
            let (last_use, since) = cached.last_active;
            if !cached.is_idle() || cached.last_use != last_use {
                cached.last_active = (cached.last_use, now);
                return true;
            }
            let recent = now.saturating_duration_since(since) < KEEP_TIME;
            recent || (offered(*id) && cached.snapshot.bytes().is_some())
        });
    }

    /// Bytes of memory that snapshots occupy at present (whole pages).
    pub fn held(&self) -> u64 {
        let loaded = self.loaded.borrow();
        loaded.values().map(|cached| cached.snapshot.memory()).sum()
    }

    fn next_use(&self) -> u64 {
        let next = self.uses.get().wrapping_add(1);
        self.uses.set(next);
        next
    }

    fn insert(&self, snapshot: Snapshot) -> Arc<Snapshot> {
        let last_use = self.next_use();
        let snapshot = Arc::new(snapshot);
        let cached = CachedSnapshot {
            snapshot: Arc::clone(&snapshot),
            last_use,
            last_active: (last_use, Instant::now()),
        };
        self.loaded.borrow_mut().insert(snapshot.id, cached);
        snapshot
    }

    /// Makes room for a content in memory by dropping unused snapshots, least recently used first. Returns `false` if
    /// that is not enough.
    fn make_room(&self, size: u64) -> bool {
        let mut loaded = self.loaded.borrow_mut();
        let mut idle: Vec<(u64, ContentId)> = loaded
            .iter()
            .filter(|(_, cached)| cached.is_idle())
            .map(|(id, cached)| (cached.last_use, *id))
            .collect();
        idle.sort_unstable();
        let mut idle = idle.into_iter().map(|(_, id)| id);
        // Limit the number of open files first. This does not depend on where the new snapshot is stored.
        let excess = (loaded.len() + 1).saturating_sub(self.most);
        for id in idle.by_ref().take(excess) {
            loaded.remove(&id);
        }
        let memory = |cached: &CachedSnapshot| cached.snapshot.memory();
        let in_use = loaded.values().filter(|one| !one.is_idle()).map(memory);
        let wanted = whole_pages(size);
        if in_use.sum::<u64>().saturating_add(wanted) > self.budget {
            return false;
        }
        let mut held: u64 = loaded.values().map(memory).sum();
        while held.saturating_add(wanted) > self.budget {
            let Some(id) = idle.next() else { return false };
            let freed = loaded.get(&id).map_or(0, memory);
            // Dropping a temporary file would free no memory.
            if freed > 0 {
                loaded.remove(&id);
                held -= freed;
            }
        }
        true
    }

    /// Drops unused temporary files. Returns `false` if there were none.
    fn drop_idle_files(&self) -> bool {
        let mut loaded = self.loaded.borrow_mut();
        let before = loaded.len();
        loaded.retain(|_, cached| !cached.is_idle() || cached.snapshot.bytes().is_some());
        loaded.len() < before
    }
}

#[cfg(test)]
mod tests;
