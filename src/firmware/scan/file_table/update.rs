//! Updates the file table with the result of a walk.

use std::time::Instant;

use super::group::GroupFile;
use super::item::{ChecksumFile, FirmwareFile, Item, Listing, ReadState, RemarkKind, RulesFile};
use super::{CONFIRM, FileTable, MAX_REMARKS, Patience, is_in_bounds, proves};
use crate::firmware::known::KnownFiles;
use crate::firmware::name;
use crate::firmware::scan::{Seen, Walk, checksum};
use crate::firmware::settle::Settling;
use crate::os::fs::{FileStamp, Folder};

impl FileTable {
    /// Applies a walk. `scope` holds the paths that were examined, including everything below them; `None` means the
    /// whole folder. Files with times before `old_before` (nanoseconds since 1970) need no settling.
    pub fn add_walk(
        &mut self,
        root: &Folder,
        scope: Option<&[String]>,
        walk: Walk,
        old_before: Option<i128>,
        now: Instant,
        known: &mut KnownFiles,
    ) {
        for path in self.in_scope(scope) {
            if walk.seen.contains_key(&path) {
                continue;
            }
            match walk.why_unknown(&path) {
                // The last valid rules stay in force.
                Some(why) if matches!(self.items.get(&path), Some(Item::Rules(_))) => {
                    self.update_rules(root, path, Err(why.clone()), None);
                }
                _ => self.mark_gone(&path, now),
            }
        }
        for (folder, why) in &walk.unread {
            self.add_unreadable_folder(root, folder, why);
        }
        let before = self.unlisted;
        let mut remarks_left = usize::MAX;
        if scope.is_none() {
            self.unlisted = walk.unlisted;
        } else {
            // Counts of single changes are not exact; the next full walk counts again.
            self.unlisted.quarantined += walk.unlisted.quarantined;
            self.unlisted.ignored += walk.unlisted.ignored;
            remarks_left = MAX_REMARKS.saturating_sub(self.remark_count());
        }
        for (path, seen) in walk.seen {
            let is_remark = matches!(seen, Seen::Quarantined(_) | Seen::Ignored(_));
            if is_remark && !self.items.contains_key(&path) {
                if remarks_left == 0 {
                    match seen {
                        Seen::Ignored(_) => self.unlisted.ignored += 1,
                        _ => self.unlisted.quarantined += 1,
                    }
                    continue;
                }
                remarks_left -= 1;
            }
            match seen {
                Seen::Firmware(stamp) => self.update_firmware(path, stamp, old_before, now, known),
                Seen::Checksum(stamp) => {
                    let reread_at = self.confirm_at(&stamp, old_before, now);
                    self.update_checksum(root, path, stamp, reread_at, known);
                }
                Seen::Rules(stamp) => {
                    let reread_at = self.confirm_at(&stamp, old_before, now);
                    self.update_rules(root, path, stamp, reread_at);
                }
                Seen::Group(stamp) => {
                    let old = stamp.as_ref().is_ok_and(|stamp| is_old(stamp, old_before));
                    self.update_group(root, path, stamp, old, now);
                }
                Seen::Quarantined(text) => self.set_remark(path, RemarkKind::Quarantined, text),
                Seen::Unread(text) => self.set_remark(path, RemarkKind::Unread, text),
                Seen::Ignored(text) => self.set_remark(path, RemarkKind::Ignored, text),
            }
        }
        self.changed |= self.unlisted != before;
    }

    /// Returns the paths of all items at or below those in `scope`.
    fn in_scope(&self, scope: Option<&[String]>) -> Vec<String> {
        let Some(scope) = scope else {
            return self.items.keys().cloned().collect();
        };
        let mut paths = Vec::new();
        for path in scope {
            let beneath = format!("{path}/");
            let inside = self.items.range(beneath.clone()..);
            let inside = inside.take_while(|(path, _)| path.starts_with(&beneath));
            paths.extend(self.items.contains_key(path).then(|| path.clone()));
            paths.extend(inside.map(|(path, _)| path.clone()));
        }
        paths
    }

    /// Number of remarks that are limited by [`MAX_REMARKS`].
    fn remark_count(&self) -> usize {
        let is_limited = |item: &&Item| {
            matches!(
                item,
                Item::Remark(RemarkKind::Quarantined | RemarkKind::Ignored, _)
            )
        };
        self.items.values().filter(is_limited).count()
    }

    /// Time at which a small file that was seen with this stamp is read once more.
    fn confirm_at(
        &self,
        stamp: &Result<FileStamp, String>,
        old_before: Option<i128>,
        now: Instant,
    ) -> Option<Instant> {
        let stamp = stamp.as_ref().ok()?;
        let is_sure = self.patience == Patience::None || is_old(stamp, old_before);
        (!is_sure).then(|| now + CONFIRM)
    }

    /// Removes an item that no longer exists; rules and groups stay in force for [`CONFIRM`].
    pub(super) fn mark_gone(&mut self, path: &str, now: Instant) {
        if let Some(Item::Rules(rules)) = self.items.get_mut(path) {
            if !rules.gone {
                rules.gone = true;
                rules.stamp = None;
                rules.reread_at = Some(now + CONFIRM);
                self.pending.insert(path.to_owned());
            }
            return;
        }
        if let Some(Item::Group(group)) = self.items.get_mut(path) {
            group.mark_gone(now);
            self.pending.insert(path.to_owned());
            return;
        }
        self.pending.remove(path);
        match self.items.remove(path) {
            Some(Item::Checksum(_)) => self.update_listing(checksum::subject(path)),
            Some(_) => self.changed = true,
            None => {}
        }
    }

    fn set_remark(&mut self, path: String, kind: RemarkKind, text: String) {
        if let Some(Item::Remark(old_kind, old)) = self.items.get(&path)
            && (*old_kind, old) == (kind, &text)
        {
            return;
        }
        self.pending.remove(&path);
        self.items.insert(path, Item::Remark(kind, text));
        self.changed = true;
    }

    fn update_firmware(
        &mut self,
        path: String,
        stamp: FileStamp,
        old_before: Option<i128>,
        now: Instant,
        known: &KnownFiles,
    ) {
        let before = match self.items.get_mut(&path) {
            Some(Item::Firmware(file)) => {
                if let ReadState::Pending(pending) = &mut file.state {
                    pending.seen(stamp, now);
                }
                if file.stamp == stamp {
                    return;
                }
                Some(file)
            }
            _ => None,
        };
        let is_old = is_old(&stamp, old_before);
        let is_worth_it = name::firmware_path(&path).and_then(|_| is_in_bounds(&stamp));
        let state = if let Err(text) = is_worth_it {
            ReadState::Refused(text)
        } else if let Some(found) = known.get(&stamp) {
            ReadState::Read(found.clone())
        } else {
            ReadState::pending(Settling::new(stamp, now, is_old))
        };
        let is_pending = matches!(state, ReadState::Pending(_));
        match before {
            Some(file) => {
                file.stamp = stamp;
                // Keep the observations of the writer.
                if !(is_pending && matches!(file.state, ReadState::Pending(_))) {
                    file.state = state;
                }
            }
            None => {
                let file = Item::Firmware(Box::new(FirmwareFile {
                    stamp,
                    state,
                    listing: Listing::Waiting,
                }));
                self.items.insert(path.clone(), file);
            }
        }
        // Another file with the same bytes is another source of them, too.
        self.changed = true;
        if is_pending {
            self.pending.insert(path.clone());
        } else {
            self.pending.remove(&path);
        }
        self.update_listing(&path);
    }

    fn update_checksum(
        &mut self,
        root: &Folder,
        path: String,
        stamp: Result<FileStamp, String>,
        reread_at: Option<Instant>,
        known: &mut KnownFiles,
    ) {
        if let Some(Item::Checksum(sum)) = self.items.get(&path)
            && sum.stamp.is_some()
            && sum.stamp.as_ref() == stamp.as_ref().ok()
        {
            return;
        }
        let mut sum = ChecksumFile::new(stamp, reread_at);
        sum.read(root, &path);
        if reread_at.is_some() {
            self.pending.insert(path.clone());
        }
        self.items.insert(path.clone(), Item::Checksum(sum));
        self.recheck(&path, known);
    }

    /// Compares a file with its checksum file, which has changed.
    pub(super) fn recheck(&mut self, path: &str, known: &mut KnownFiles) {
        let subject = checksum::subject(path);
        let checksums = self.checksum_files(subject);
        if let Some(Item::Firmware(file)) = self.items.get_mut(subject)
            && let ReadState::Pending(pending) = &file.state
            && let Some(early) = pending.early
            && proves(&checksums, &early)
        {
            known.insert(&file.stamp, Ok(early));
            file.state = ReadState::Read(Ok(early));
            self.pending.remove(subject);
        }
        self.update_listing(subject);
    }

    /// Handles an unreadable folder. It may contain rules, which may apply to files outside the folder.
    fn add_unreadable_folder(&mut self, root: &Folder, folder: &str, why: &str) {
        let path = format!("{folder}/release.json");
        let scope = [folder.to_owned()];
        let is_known = self.in_scope(Some(&scope)).iter().any(|other| {
            let is_beside = other.rsplit_once('/').is_some_and(|(of, _)| of == folder);
            is_beside && matches!(self.items.get(other), Some(Item::Rules(_)))
        });
        if !is_known && name::rules_owner(&path).is_ok() {
            self.update_rules(root, path, Err(why.to_owned()), None);
        }
    }

    fn update_rules(
        &mut self,
        root: &Folder,
        path: String,
        stamp: Result<FileStamp, String>,
        reread_at: Option<Instant>,
    ) {
        let mut rules = match self.items.remove(&path) {
            Some(Item::Rules(rules)) => rules,
            _ => {
                self.changed = true;
                RulesFile::default()
            }
        };
        match stamp {
            Ok(stamp) if rules.stamp == Some(stamp) && !rules.gone => {}
            Ok(stamp) => {
                rules.stamp = Some(stamp);
                rules.gone = false;
                rules.reread_at = reread_at;
                if reread_at.is_some() {
                    self.pending.insert(path.clone());
                }
                self.changed |= rules.read(root, &path);
            }
            Err(text) => {
                rules.stamp = None;
                rules.gone = false;
                rules.reread_at = None;
                self.pending.remove(&path);
                self.changed |= rules.set_error(text);
            }
        }
        self.items.insert(path, Item::Rules(rules));
    }

    fn update_group(
        &mut self,
        root: &Folder,
        path: String,
        stamp: Result<FileStamp, String>,
        old: bool,
        now: Instant,
    ) {
        let mut group = match self.items.remove(&path) {
            Some(Item::Group(group)) => group,
            _ => {
                self.changed = true;
                GroupFile::new()
            }
        };
        self.changed |= group.seen((root, &path), stamp, (self.patience, old), now);
        match group.reread_at {
            Some(_) => self.pending.insert(path.clone()),
            None => self.pending.remove(&path),
        };
        self.items.insert(path, Item::Group(group));
    }
}

/// Whether the file is unchanged since `old_before`, by its own times.
fn is_old(stamp: &FileStamp, old_before: Option<i128>) -> bool {
    old_before.is_some_and(|old| stamp.mtime < old && stamp.ctime < old)
}
