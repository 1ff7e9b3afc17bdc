//! Bytes that can never change: each content that is asked for is copied once into a sealed memfd
//! (or, over the memory budget, into an unlinked temporary file), and its hash must be the recorded
//! one (docs/design.md "Only snapshots are served", docs/hazards.md 9, 10, 12). Every byte that a module gets
//! comes from here.
//!
//! What would surprise you: a file whose stamp has changed is still tried. Only the hash says whether
//! the bytes are the recorded ones; a `chmod`, or a file system that invents its inode numbers,
//! changes the stamp and not the bytes.

mod copy;

use std::cell::{Cell, RefCell};
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
use super::catalog::{Catalog, Source};
use crate::order;
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
    place: Place,
}

#[derive(Debug)]
enum Place {
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
        match &self.place {
            Place::Memory(sealed) => sealed.bytes().len() as u64,
            Place::File(_, size) => *size,
        }
    }

    /// All bytes, where they are in memory; `None` for one in a temporary file, which is never mapped
    /// (its medium may go).
    pub fn bytes(&self) -> Option<&[u8]> {
        match &self.place {
            Place::Memory(sealed) => Some(sealed.bytes()),
            Place::File(..) => None,
        }
    }

    /// For sendfile.
    pub fn file(&self) -> BorrowedFd<'_> {
        match &self.place {
            Place::Memory(sealed) => sealed.file(),
            Place::File(file, _) => file.as_fd(),
        }
    }

    /// Copies bytes from `offset` on into `buffer`; how many there were (less than asked only at the
    /// end). An error means that the medium of a temporary file has gone.
    pub fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
        match &self.place {
            Place::Memory(sealed) => {
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
            Place::File(_, size) if offset >= *size => Ok(0),
            Place::File(file, _) => read_file_at(file, buffer, offset),
        }
    }

    /// Bytes of memory that it holds.
    fn memory(&self) -> u64 {
        match &self.place {
            Place::Memory(sealed) => sealed.held(),
            Place::File(..) => 0,
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
    /// Sorted by hash, so that those with the same first 12 bits lie together.
    shelf: RefCell<Vec<Shelved>>,
    /// Counts uses: what was used last has the highest number.
    uses: Cell<u64>,
    /// Whoever holds it may load. The thread that copies holds it until it is done, so a load whose
    /// client has gone away still counts as one; what it copied is left here for the next to find.
    loader: Arc<Mutex<Option<Snapshot>>>,
}

/// A snapshot with its place in the order of use.
struct Shelved {
    snapshot: Arc<Snapshot>,
    /// [`Snapshots::uses`] at its last use.
    used: u64,
    /// `used` at the last sweep that found it in use or used since the sweep before, and when that
    /// was.
    swept: (u64, Instant),
}

impl Shelved {
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
            shelf: RefCell::default(),
            uses: Cell::new(0),
            loader: Arc::default(),
        }
    }

    /// The snapshot, if it is loaded. Counts as a use.
    pub fn get(&self, id: ContentId) -> Option<Arc<Snapshot>> {
        let mut shelf = self.shelf.borrow_mut();
        let place = place(&shelf, id).ok()?;
        let shelved = shelf.get_mut(place)?;
        shelved.used = self.next_use();
        Some(Arc::clone(&shelved.snapshot))
    }

    /// The snapshot, loaded from one of these files if it is not there yet. One load at a time; those
    /// who wait for the same content get the same snapshot. Drops those not in use, least recently
    /// used first, to stay under the budget.
    ///
    /// May be given up at any time: the copy is finished all the same, for whoever asks next.
    pub async fn load(
        &self,
        id: ContentId,
        sources: &[Source],
    ) -> Result<Arc<Snapshot>, LoadError> {
        if let Some(snapshot) = self.get(id) {
            return Ok(snapshot);
        }
        let mut loader = self.loader.lock_arc().await;
        if let Some(left) = loader.take() {
            self.shelve(left);
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
                        return Ok(self.shelve(snapshot));
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
        let shelf = self.shelf.borrow();
        let start = shelf.partition_point(|shelved| shelved.snapshot.id.short() < short);
        let mut found = shelf
            .iter()
            .skip(start)
            .map(|shelved| shelved.snapshot.id)
            .take_while(|id| id.short() == short);
        look(&mut found)
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
        let may_go = |shelved: &Shelved| {
            let snapshot = &shelved.snapshot;
            catalog.sources(snapshot.id).is_empty() || snapshot.bytes().is_none()
        };
        is_left || self.shelf.borrow().iter().any(may_go)
    }

    fn sweep_at(&self, now: Instant, offered: impl Fn(ContentId) -> bool) {
        if let Some(left) = self.loader.try_lock_arc().and_then(|mut l| l.take()) {
            self.shelve(left);
        }
        self.shelf.borrow_mut().retain_mut(|shelved| {
            let (used, since) = shelved.swept;
            if !shelved.idle() || shelved.used != used {
                shelved.swept = (shelved.used, now);
                return true;
            }
            let recent = now.saturating_duration_since(since) < KEEP;
            recent || (offered(shelved.snapshot.id) && shelved.snapshot.bytes().is_some())
        });
    }

    /// Bytes of memory held by snapshots now (whole pages).
    pub fn held(&self) -> u64 {
        let shelf = self.shelf.borrow();
        shelf.iter().map(|s| s.snapshot.memory()).sum()
    }

    fn next_use(&self) -> u64 {
        let next = self.uses.get().wrapping_add(1);
        self.uses.set(next);
        next
    }

    /// Puts a snapshot where the next who asks finds it.
    fn shelve(&self, snapshot: Snapshot) -> Arc<Snapshot> {
        let used = self.next_use();
        let snapshot = Arc::new(snapshot);
        let shelved = Shelved {
            snapshot: Arc::clone(&snapshot),
            used,
            swept: (used, Instant::now()),
        };
        let mut shelf = self.shelf.borrow_mut();
        match place(&shelf, snapshot.id) {
            Ok(place) => shelf.splice(place..=place, [shelved]).for_each(drop),
            Err(place) => shelf.insert(place, shelved),
        }
        snapshot
    }

    /// Makes room for a content in memory by dropping what is not in use. False if that would not be
    /// enough: then nothing is dropped.
    fn make_room(&self, size: u64) -> bool {
        let mut shelf = self.shelf.borrow_mut();
        let mut idle: Vec<(u64, ContentId)> = shelf
            .iter()
            .filter(|shelved| shelved.idle())
            .map(|shelved| (shelved.used, shelved.snapshot.id))
            .collect();
        order::sort(&mut idle);
        let mut idle = idle.into_iter().map(|(_, id)| id).peekable();
        // First the number of open files: that has nothing to do with where the new one goes.
        while shelf.len() >= self.most {
            let Some(id) = idle.next() else { break };
            shelf.retain(|shelved| shelved.snapshot.id != id);
        }
        let memory = |shelved: &Shelved| shelved.snapshot.memory();
        let in_use = shelf.iter().filter(|s| !s.idle()).map(memory);
        let wanted = whole_pages(size);
        if in_use.sum::<u64>().saturating_add(wanted) > self.budget {
            return false;
        }
        let mut held: u64 = shelf.iter().map(memory).sum();
        while held.saturating_add(wanted) > self.budget {
            let Some(id) = idle.next() else { return false };
            // Dropping a temporary file would not help here.
            shelf.retain(|shelved| shelved.snapshot.id != id || memory(shelved) == 0);
            held = shelf.iter().map(memory).sum();
        }
        true
    }

    /// Drops temporary files that nobody uses; whether there were any.
    fn drop_idle_files(&self) -> bool {
        let mut shelf = self.shelf.borrow_mut();
        let before = shelf.len();
        shelf.retain(|shelved| !shelved.idle() || shelved.snapshot.bytes().is_some());
        shelf.len() < before
    }
}

/// Where a content is on the shelf, or where it would be.
fn place(shelf: &[Shelved], id: ContentId) -> Result<usize, usize> {
    shelf.binary_search_by(|shelved| shelved.snapshot.id.cmp(&id))
}

#[cfg(test)]
mod tests;
