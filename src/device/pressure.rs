//! Which downloads make room when no snapshot can be had for another file (docs/hazards.md 34). Pure bookkeeping:
//! the time comes with each call, and `S` names a download's connection.
//!
//! A snapshot is given back when nobody downloads from it any more, so the downloads of one content go together:
//! if each of them stands still for longer than its limit. Where one of them moves, none goes.

use std::collections::{BTreeMap, HashMap};
use std::time::{Duration, Instant};

use crate::firmware::ContentId;

/// A download that moved within this time is alive.
const STILL: Duration = Duration::from_secs(30);

/// The downloads that hold a snapshot.
#[derive(Debug)]
pub(super) struct Holders<S> {
    table: BTreeMap<u64, Holder<S>>,
    next: u64,
}

#[derive(Debug)]
struct Holder<S> {
    content: ContentId,
    connection: S,
    moved: Instant,
    /// It stands still only after this.
    limit: Duration,
}

impl<S: Copy> Holders<S> {
    /// An empty table.
    pub fn new() -> Holders<S> {
        Holders {
            table: BTreeMap::new(),
            next: 0,
        }
    }

    /// A download of this content begins; its number.
    pub fn add(&mut self, content: ContentId, connection: S, now: Instant) -> u64 {
        self.next = self.next.wrapping_add(1);
        let holder = Holder {
            content,
            connection,
            moved: now,
            limit: STILL,
        };
        self.table.insert(self.next, holder);
        self.next
    }

    /// A byte of it was last acknowledged at `moved`. `window`: the time that one window takes, if it is known.
    pub fn moved(&mut self, number: u64, moved: Instant, window: Option<Duration>) {
        if let Some(holder) = self.table.get_mut(&number) {
            holder.moved = moved;
            holder.limit = window.unwrap_or_default().max(STILL);
        }
    }

    /// It has ended.
    pub fn remove(&mut self, number: u64) {
        self.table.remove(&number);
    }

    /// Does this download still hold its snapshot?
    pub fn holds(&self, number: u64) -> bool {
        self.table.contains_key(&number)
    }

    /// The downloads of the content that stands still for longest, with the time for which none of them moved.
    pub fn longest_still(&self, now: Instant) -> Option<(Duration, Vec<(u64, S)>)> {
        let contents = self.contents(now);
        let still = contents.into_iter().filter(|(_, rest)| rest.left.is_zero());
        let (content, rest) = still.max_by_key(|(_, rest)| rest.silent)?;
        let of_it = self.table.iter().filter(|(_, one)| one.content == content);
        let downloads = of_it.map(|(number, one)| (*number, one.connection));
        Some((rest.silent, downloads.collect()))
    }

    /// In what time one content at the soonest stands still, if none of its downloads moves until then.
    pub fn soonest(&self, now: Instant) -> Option<Duration> {
        self.contents(now).into_values().map(|rest| rest.left).min()
    }

    fn contents(&self, now: Instant) -> HashMap<ContentId, Rest> {
        let mut contents: HashMap<ContentId, Rest> = HashMap::new();
        for holder in self.table.values() {
            let silent = now.saturating_duration_since(holder.moved);
            let left = holder.limit.saturating_sub(silent);
            let rest = contents
                .entry(holder.content)
                .or_insert(Rest { silent, left });
            rest.silent = rest.silent.min(silent);
            rest.left = rest.left.max(left);
        }
        contents
    }
}

/// How a content's downloads stand.
struct Rest {
    /// None of them moved for this time.
    silent: Duration,
    /// After this time all of them stand still.
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
    fn the_content_that_stands_still_for_longest_goes_and_no_live_one_does() {
        let start = Instant::now();
        let at = |seconds| start + SECOND * seconds;
        let mut holders = Holders::new();
        let live = holders.add(content(1), 'a', start);
        holders.add(content(2), 'b', at(1));
        holders.add(content(3), 'c', start);
        assert!(holders.longest_still(at(29)).is_none());
        assert_eq!(holders.soonest(at(10)), Some(20 * SECOND));
        holders.moved(live, at(25), None);
        let (silent, gone) = holders.longest_still(at(40)).unwrap();
        assert_eq!((silent, gone), (40 * SECOND, vec![(3, 'c')]));
        holders.remove(3);
        assert!(!holders.holds(3) && holders.holds(live));
        let (_, gone) = holders.longest_still(at(40)).unwrap();
        assert_eq!(gone, [(2, 'b')]);
        holders.remove(2);
        assert!(holders.longest_still(at(54)).is_none());
        assert!(holders.longest_still(at(55)).is_some());
    }

    #[test]
    fn a_content_with_a_live_download_stays_with_all_of_its_downloads() {
        let start = Instant::now();
        let mut holders = Holders::new();
        holders.add(content(1), 'a', start);
        let live = holders.add(content(1), 'b', start);
        let now = start + 60 * SECOND;
        holders.moved(live, now, None);
        assert!(holders.longest_still(now).is_none());
        assert_eq!(holders.soonest(now), Some(30 * SECOND));
        let (_, gone) = holders.longest_still(now + 30 * SECOND).unwrap();
        assert_eq!(gone, [(1, 'a'), (2, 'b')]);
    }

    #[test]
    fn a_slow_reader_is_alive_for_as_long_as_a_window_takes() {
        let start = Instant::now();
        let mut holders = Holders::new();
        let slow = holders.add(content(1), 'a', start);
        holders.moved(slow, start, Some(50 * SECOND));
        assert!(holders.longest_still(start + 49 * SECOND).is_none());
        assert!(holders.longest_still(start + 50 * SECOND).is_some());
    }
}
