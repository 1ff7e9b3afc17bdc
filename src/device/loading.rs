//! Loading of files for downloads. If there is no room for a snapshot, stalled downloads are evicted (docs/hazards.md
//! 34).
//!
//! A snapshot is freed only when no download uses it. So the downloads of one content are evicted together, once each
//! of them has stalled for longer than its limit. If one of them makes progress, all stay.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::time::{Duration, Instant};

use smol::Timer;
use smol::future::yield_now;

use super::{Service, within};
use crate::decision::Refusal;
use crate::firmware::ContentId;
use crate::firmware::catalog::Catalog;
use crate::firmware::snapshot::{LoadError, Snapshot};

/// Longest wait for a file to be loaded. A waiting request holds a connection, or becomes stale. The copy is finished
/// in any case, for the next request.
const LOAD_TIMEOUT: Duration = Duration::from_secs(30);

/// Longest wait until a download has stalled for long enough (30 s, and up to 5 s until that is detected).
const ROOM_TIMEOUT: Duration = Duration::from_secs(40);

/// The shortest time between two attempts to find room.
const FIRST_RETRY: Duration = Duration::from_millis(100);

/// Time without progress after which a download counts as stalled here.
const STALLED_AFTER: Duration = Duration::from_secs(30);

impl Service {
    /// Size in bytes of a content that can still be served.
    pub(super) fn size_of(&self, content: ContentId, catalog: &Catalog) -> Option<u64> {
        let loaded = self.snapshots.get(content).map(|snapshot| snapshot.size());
        loaded.or_else(|| catalog.sources(content).first().map(|source| source.size))
    }

    /// Returns the snapshot of a content. Fails if loading takes longer than [`LOAD_TIMEOUT`]. If there is no room,
    /// stalled downloads are evicted.
    pub(super) async fn load(&self, content: ContentId) -> Result<Arc<Snapshot>, LoadError> {
        loop {
            match self.load_once(content).await {
                Err(LoadError::Full(_)) if self.evict_stalled().await => {}
                loaded => {
                    if let Err(error) = &loaded {
                        if let LoadError::Full(why) = error {
                            log::warn!(target: "device", "no room for a snapshot: {why}");
                        }
                        self.fleet.borrow_mut().tally.load_failure(error.word());
                    }
                    return loaded;
                }
            }
        }
    }

    /// The same for a caller that can wait: waits within [`ROOM_TIMEOUT`] until a download has stalled for long enough.
    pub(super) async fn load_with_retry(
        &self,
        content: ContentId,
    ) -> Result<Arc<Snapshot>, LoadError> {
        let began = Instant::now();
        loop {
            let loaded = self.load(content).await;
            let wait = match &loaded {
                Err(LoadError::Full(_)) => self.holders.borrow().time_until_stalled(Instant::now()),
                _ => None,
            };
            match wait {
                Some(wait) if began.elapsed() + wait < ROOM_TIMEOUT => {
                    Timer::after(wait.max(FIRST_RETRY)).await;
                }
                _ => return loaded,
            }
        }
    }

    /// Evicts the downloads of the content that has been stalled for longest. Returns false if none is stalled.
    async fn evict_stalled(&self) -> bool {
        let found = self.holders.borrow().longest_stalled(Instant::now());
        let Some((silent, downloads)) = found else {
            return false;
        };
        log::warn!(
            target: "device",
            downloads = downloads.len(), silent = silent.as_secs();
            "stalled downloads were ended to make room for another file (--snapshot-memory)"
        );
        for seat in downloads {
            self.seats.evict(seat);
            while self.holders.borrow().contains(seat) {
                yield_now().await;
            }
        }
        true
    }

    async fn load_once(&self, content: ContentId) -> Result<Arc<Snapshot>, LoadError> {
        if let Some(snapshot) = self.snapshots.get(content) {
            return Ok(snapshot);
        }
        // Before the load, since the task that waits for it may be dropped.
        self.sweep_due.notify();
        let catalog = self.catalog();
        let sources = catalog.sources(content);
        // Boxed: nearly every download finds its file loaded, and need not take up the space of this future.
        let loading = Box::pin(self.snapshots.load(content, sources));
        let loaded = within(LOAD_TIMEOUT, loading).await.unwrap_or_else(|| {
            let why = format!("loading took longer than {} s", LOAD_TIMEOUT.as_secs());
            Err(LoadError::Full(why))
        });
        match &loaded {
            Ok(_) | Err(LoadError::Full(_)) => {}
            Err(LoadError::Unread(why)) => {
                log::warn!(target: "device", "the firmware folder cannot be read: {why}");
            }
            Err(LoadError::Gone(why)) => {
                log::warn!(target: "device", "a file of the catalogue cannot be read: {why}");
                // The files are read again, not only looked at: their stamps may be unchanged.
                for source in sources {
                    (self.reread)(&source.path);
                }
            }
        }
        match loaded {
            // The medium may have been removed since the last scan of the folder.
            Err(LoadError::Gone(why))
                if !sources.is_empty() || self.temporary_refusal(&self.catalog()).is_some() =>
            {
                Err(LoadError::Unread(why))
            }
            loaded => loaded,
        }
    }

    /// The refusal of a content that is not in the catalogue, if it may only be out of reach for now. After any other
    /// reply, a module discards the part that it has.
    pub(super) fn temporary_refusal(&self, catalog: &Catalog) -> Option<Refusal> {
        if !catalog.unread.is_empty() {
            return Some(Refusal::Unread);
        }
        self.has_unread_files().then_some(Refusal::Full)
    }
}

/// Connections that download from a snapshot. There is no clock: the time is an argument of each call.
#[derive(Debug)]
pub(super) struct SnapshotHolders<K> {
    table: BTreeMap<K, SnapshotHolder>,
}

#[derive(Debug)]
struct SnapshotHolder {
    content: ContentId,
    /// Time of the last acknowledgement.
    last_ack: Instant,
    /// Time without an acknowledgement after which the download counts as stalled.
    limit: Duration,
}

impl<K> Default for SnapshotHolders<K> {
    fn default() -> SnapshotHolders<K> {
        SnapshotHolders {
            table: BTreeMap::new(),
        }
    }
}

impl<K: Copy + Ord> SnapshotHolders<K> {
    /// Adds a connection that downloads this content.
    pub fn add(&mut self, connection: K, content: ContentId, now: Instant) {
        let holder = SnapshotHolder {
            content,
            last_ack: now,
            limit: STALLED_AFTER,
        };
        self.table.insert(connection, holder);
    }

    /// Records that a byte was last acknowledged at `last_ack`. `window`: the time to allow for one window, if known.
    pub fn record_progress(&mut self, connection: K, last_ack: Instant, window: Option<Duration>) {
        if let Some(holder) = self.table.get_mut(&connection) {
            holder.last_ack = last_ack;
            holder.limit = window.unwrap_or_default().max(STALLED_AFTER);
        }
    }

    /// Removes a connection whose download has ended.
    pub fn remove(&mut self, connection: K) {
        self.table.remove(&connection);
    }

    /// Whether a connection still holds its snapshot.
    pub fn contains(&self, connection: K) -> bool {
        self.table.contains_key(&connection)
    }

    /// The downloads of the content that has been stalled for longest, and the time for which none of them made
    /// progress.
    pub fn longest_stalled(&self, now: Instant) -> Option<(Duration, Vec<K>)> {
        let contents = self.contents(now);
        let stalled = contents.into_iter().filter(|(_, of)| of.left.is_zero());
        let (content, of) = stalled.max_by_key(|(_, of)| of.silent)?;
        let of_it = self.table.iter().filter(|(_, one)| one.content == content);
        Some((
            of.silent,
            of_it.map(|(connection, _)| *connection).collect(),
        ))
    }

    /// Time until the first content is stalled, if none of its downloads makes progress until then.
    pub fn time_until_stalled(&self, now: Instant) -> Option<Duration> {
        self.contents(now).into_values().map(|of| of.left).min()
    }

    fn contents(&self, now: Instant) -> HashMap<ContentId, ContentInactivity> {
        let mut contents = HashMap::new();
        for holder in self.table.values() {
            let silent = now.saturating_duration_since(holder.last_ack);
            let left = holder.limit.saturating_sub(silent);
            let of = contents
                .entry(holder.content)
                .or_insert(ContentInactivity { silent, left });
            of.silent = of.silent.min(silent);
            of.left = of.left.max(left);
        }
        contents
    }
}

/// Inactivity of the downloads of a content.
struct ContentInactivity {
    /// Time for which none of them made progress.
    silent: Duration,
    /// Time until all of them count as stalled.
    left: Duration,
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    fn content(number: u8) -> ContentId {
        ContentId([number; 32])
    }

    // Case 58.
    #[test]
    fn the_content_stalled_for_longest_is_evicted_and_no_live_one_is() {
        let start = Instant::now();
        let at = |seconds| start + SECOND * seconds;
        let mut holders = SnapshotHolders::default();
        holders.add('a', content(1), start);
        holders.add('b', content(2), at(1));
        holders.add('c', content(3), start);
        assert!(holders.longest_stalled(at(29)).is_none());
        assert_eq!(holders.time_until_stalled(at(10)), Some(20 * SECOND));
        holders.record_progress('a', at(25), None);
        let (silent, evicted) = holders.longest_stalled(at(40)).unwrap();
        assert_eq!((silent, evicted), (40 * SECOND, vec!['c']));
        holders.remove('c');
        assert!(!holders.contains('c') && holders.contains('a'));
        let (_, evicted) = holders.longest_stalled(at(40)).unwrap();
        assert_eq!(evicted, ['b']);
        holders.remove('b');
        assert!(holders.longest_stalled(at(54)).is_none());
        assert!(holders.longest_stalled(at(55)).is_some());
    }

    #[test]
    fn a_content_with_a_live_download_stays_with_all_of_its_downloads() {
        let start = Instant::now();
        let mut holders = SnapshotHolders::default();
        holders.add('a', content(1), start);
        holders.add('b', content(1), start);
        let now = start + 60 * SECOND;
        holders.record_progress('b', now, None);
        assert!(holders.longest_stalled(now).is_none());
        assert_eq!(holders.time_until_stalled(now), Some(30 * SECOND));
        let (_, evicted) = holders.longest_stalled(now + 30 * SECOND).unwrap();
        assert_eq!(evicted, ['a', 'b']);
    }

    #[test]
    fn a_slow_reader_is_alive_for_as_long_as_a_window_takes() {
        let start = Instant::now();
        let mut holders = SnapshotHolders::default();
        holders.add('a', content(1), start);
        holders.record_progress('a', start, Some(50 * SECOND));
        assert!(holders.longest_stalled(start + 49 * SECOND).is_none());
        assert!(holders.longest_stalled(start + 50 * SECOND).is_some());
    }
}
