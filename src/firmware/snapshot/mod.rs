//! Bytes that can never change: each content that is asked for is copied once into a sealed memfd
//! (or, over the memory budget, into an unlinked temporary file), and its hash must be the recorded
//! one (docs/decisions.md "Only snapshots are served", docs/hazards.md 9, 10, 12). Every byte that a module gets
//! comes from here.
//!
//! A file whose stamp has changed is still tried. Only the hash says whether the bytes are the recorded
//! ones; a `chmod`, or a file system that invents its inode numbers, changes the stamp and not the bytes.

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

use self::copy::Order;
use super::ContentId;
use super::catalog::{Catalog, ContentSource};
use crate::os::memory::{Memfd, Sealed, whole_pages};
use crate::os::process::{file_limit, start_thread};

/// How long a content that is not offered any more is kept for downloads that pause.
const KEEP: Duration = Duration::from_secs(3600);

/// As long as all snapshots take no more than this part of the budget, they may take more memory than they have bytes,
/// for the sake of huge pages.
const GENEROUS: u64 = 4;

/// The bytes of one content. They are the same for as long as anyone holds it.
#[derive(Debug)]
pub struct Snapshot {
    id: ContentId,
    storage: Storage,
}

#[derive(Debug)]
enum Storage {
    Memory(Sealed),
    /// A file without a name, and its size in bytes. Never mapped.
    File(File, u64),
}

impl Snapshot {
    /// The hash of these bytes.
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

    /// All bytes, where they are in memory; `None` for one in a temporary file, which is never mapped
    /// (its medium may go).
    pub fn bytes(&self) -> Option<&[u8]> {
        match &self.storage {
            Storage::Memory(sealed) => Some(sealed.bytes()),
            Storage::File(..) => None,
        }
    }

    /// For sendfile.
    pub fn file(&self) -> BorrowedFd<'_> {
        match &self.storage {
            Storage::Memory(sealed) => sealed.file(),
            Storage::File(file, _) => file.as_fd(),
        }
    }

    /// Copies bytes from `offset` on into `buffer`; how many there were (less than asked only at the
    /// end). An error means that the medium of a temporary file has gone.
    pub fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
        match &self.storage {
            Storage::Memory(sealed) => {
                let rest = usize::try_from(offset)
                    .ok()
                    .and_then(|offset| sealed.bytes().get(offset..))
                    .unwrap_or_default();
                let count = buffer.len().min(rest.len());
                // Both are there; a loop over the bytes is ten times as slow where the build is for size.
                if let (Some(to), Some(from)) = (buffer.get_mut(..count), rest.get(..count)) {
                    to.copy_from_slice(from);
                }
                Ok(count)
            }
            // pread refuses offsets beyond what a file can have.
            Storage::File(_, size) if offset >= *size => Ok(0),
            Storage::File(file, _) => read_file_at(file, buffer, offset),
        }
    }

    /// Bytes of memory that it holds.
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

/// Why a content could not be loaded.
#[derive(Debug)]
pub enum LoadError {
    /// No file with these bytes is there any more, or it changed while it was read. The folder
    /// should be scanned again.
    Gone(String),
    /// The firmware folder, or its medium, cannot be read now.
    Unread(String),
    /// Neither the memory budget nor a temporary file has room for it now.
    Full(String),
}

impl LoadError {
    /// The reason in the metrics.
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

/// All snapshots there are, on the serving thread. Not `Sync`; the copying happens beside it.
pub struct Snapshots {
    root: PathBuf,
    budget: u64,
    spill: Option<PathBuf>,
    /// Each snapshot keeps a file open, so those that nobody uses are limited in number as well.
    most: usize,
    /// [`Memfd::new`].
    memfd: fn() -> io::Result<Memfd>,
    /// In the order of their hashes, so that those with the same first 12 bits are neighbours.
    loaded: RefCell<BTreeMap<ContentId, CachedSnapshot>>,
    /// Counts uses: what was used last has the highest number.
    uses: Cell<u64>,
    /// The holder may load. The thread that copies holds it until it is done, so a load whose client has
    /// gone away still counts as one; what it copied is left here for the next load to find.
    loader: Arc<Mutex<Option<Snapshot>>>,
}

/// A loaded snapshot with its place in the order of use.
struct CachedSnapshot {
    snapshot: Arc<Snapshot>,
    /// [`Snapshots::uses`] at its last use.
    used: u64,
    /// `used` at the last sweep that found it in use or used since the sweep before, and when that
    /// was.
    swept: (u64, Instant),
}

impl CachedSnapshot {
    fn idle(&self) -> bool {
        Arc::strong_count(&self.snapshot) == 1
    }
}

impl Snapshots {
    /// `root`: the firmware folder. `budget`: bytes of memory for all memfds together, those in use
    /// counted. `spill`: where temporary files may be made (the state folder), if anywhere.
    ///
    /// The limit of open files should be raised before: snapshots that nobody uses take up to an
    /// eighth of it, at most 256.
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

    /// The snapshot, if it is loaded. Counts as a use.
    pub fn get(&self, id: ContentId) -> Option<Arc<Snapshot>> {
        let mut loaded = self.loaded.borrow_mut();
        let cached = loaded.get_mut(&id)?;
        cached.used = self.next_use();
        Some(Arc::clone(&cached.snapshot))
    }

    /// The snapshot, loaded from one of these files if it is not there yet. One load at a time; those
    /// who wait for the same content get the same snapshot. Drops those not in use, least recently
    /// used first, to stay under the budget.
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
        // Perhaps it was loaded while we waited.
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
            let order = Order {
                id,
                size,
                root: self.root.clone(),
                sources: sources.to_vec(),
                memfd: in_memory.then_some(self.memfd),
                room: (self.budget / GENEROUS).saturating_sub(self.held()),
                spill: self.spill.clone(),
            };
            let (tell, told) = smol::channel::bounded(1);
            // If nobody is there to be told, the guard goes with the message, and the snapshot stays
            // behind it. If there can be no thread, `tell` goes at once.
            let copying = move || {
                let done = order.carry_out().map(|snapshot| *loader = Some(snapshot));
                tell.try_send((loader, done)).ok();
            };
            start_thread("copying", Box::new(copying)).ok();
            let Ok((guard, done)) = told.recv().await else {
                let text = "no thread can be had that copies firmware";
                return Err(LoadError::Full(text.to_owned()));
            };
            loader = guard;
            match done {
                Ok(()) => {
                    if let Some(snapshot) = loader.take() {
                        return Ok(self.insert(snapshot));
                    }
                }
                // Temporary files that nobody uses make room for one that is wanted.
                Err(LoadError::Full(_)) if self.drop_idle_files() => {}
                Err(error) => return Err(error),
            }
        }
    }

    /// Calls `look` with the loaded contents whose [`ContentId::short`] is this: also those whose file is
    /// gone. (Every packet asks this: a list would be an allocation for each.)
    pub fn with_short<R>(
        &self,
        short: u16,
        look: impl FnOnce(&mut dyn Iterator<Item = ContentId>) -> R,
    ) -> R {
        let loaded = self.loaded.borrow();
        let from_here = loaded.range(ContentId::least_with_short(short)..);
        let mut found = from_here.map(|(id, _)| *id);
        look(&mut found.by_ref().take_while(|id| id.short() == short))
    }

    /// Drops those that are not in the catalogue any more, not in use, and not used for an hour; and
    /// temporary files that were not used for as long. To be called now and then: it is also
    /// what notices the time.
    pub fn sweep(&self, catalog: &Catalog) {
        self.sweep_at(Instant::now(), |id| !catalog.sources(id).is_empty());
    }

    /// May a later sweep give something back, though nothing is loaded and the folder stays as it is?
    pub fn may_give_back(&self, catalog: &Catalog) -> bool {
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
            let (used, since) = cached.swept;
            if !cached.idle() || cached.used != used {
                cached.swept = (cached.used, now);
                return true;
            }
            let recent = now.saturating_duration_since(since) < KEEP;
            recent || (offered(*id) && cached.snapshot.bytes().is_some())
        });
    }

    /// Bytes of memory held by snapshots now (whole pages).
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
        let used = self.next_use();
        let snapshot = Arc::new(snapshot);
        let cached = CachedSnapshot {
            snapshot: Arc::clone(&snapshot),
            used,
            swept: (used, Instant::now()),
        };
        self.loaded.borrow_mut().insert(snapshot.id, cached);
        snapshot
    }

    /// Makes room for a content in memory by dropping what is not in use, least recently used first.
    /// False if that is not enough.
    fn make_room(&self, size: u64) -> bool {
        let mut loaded = self.loaded.borrow_mut();
        let mut idle: Vec<(u64, ContentId)> = loaded
            .iter()
            .filter(|(_, cached)| cached.idle())
            .map(|(id, cached)| (cached.used, *id))
            .collect();
        idle.sort_unstable();
        let mut idle = idle.into_iter().map(|(_, id)| id);
        // First the number of open files: that has nothing to do with where the new one goes.
        let excess = (loaded.len() + 1).saturating_sub(self.most);
        for id in idle.by_ref().take(excess) {
            loaded.remove(&id);
        }
        let memory = |cached: &CachedSnapshot| cached.snapshot.memory();
        let in_use = loaded.values().filter(|cached| !cached.idle()).map(memory);
        let wanted = whole_pages(size);
        if in_use.sum::<u64>().saturating_add(wanted) > self.budget {
            return false;
        }
        let mut held: u64 = loaded.values().map(memory).sum();
        while held.saturating_add(wanted) > self.budget {
            let Some(id) = idle.next() else { return false };
            let freed = loaded.get(&id).map_or(0, memory);
            // Dropping a temporary file would not help here.
            if freed > 0 {
                loaded.remove(&id);
                held -= freed;
            }
        }
        true
    }

    /// Drops temporary files that are not in use. False: there were none.
    fn drop_idle_files(&self) -> bool {
        let mut loaded = self.loaded.borrow_mut();
        let before = loaded.len();
        loaded.retain(|_, cached| !cached.idle() || cached.snapshot.bytes().is_some());
        loaded.len() < before
    }
}

#[cfg(test)]
mod tests;
