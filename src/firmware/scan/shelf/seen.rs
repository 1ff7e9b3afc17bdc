//! What a walk saw goes onto the shelf, and what it did not see goes off.

use std::time::Instant;

use super::item::{self, Firmware, Item, Open, Rulebook, State, Sum, View};
use super::{Patience, Shelf, is_in_bounds, proves};
use crate::firmware::known::KnownFiles;
use crate::firmware::name;
use crate::firmware::scan::checksum;
use crate::firmware::settle::Settling;
use crate::os::fs::{Folder, Stamp};

impl Shelf {
    /// The paths of all items at or beneath those of `scope`.
    pub(super) fn in_scope(&self, scope: Option<&[String]>) -> Vec<String> {
        let Some(scope) = scope else {
            return self.items.iter().map(|(path, _)| path.clone()).collect();
        };
        let mut paths = Vec::new();
        for path in scope {
            let beneath = format!("{path}/");
            let items = self.items.from(beneath.as_str()).iter();
            let inside = items.take_while(|(path, _)| path.starts_with(&beneath));
            let itself = self.items.contains(path).then(|| path.clone());
            paths.extend(itself);
            paths.extend(inside.map(|(path, _)| path.clone()));
        }
        paths
    }

    /// When a small file that was seen with this stamp is to be read once more.
    pub(super) fn confirm(
        &self,
        stamp: &Result<Stamp, String>,
        old_before: Option<i128>,
        now: Instant,
    ) -> Option<Instant> {
        let stamp = stamp.as_ref().ok()?;
        let is_sure = self.patience == Patience::None || is_old(stamp, old_before);
        (!is_sure).then(|| now + item::CONFIRM)
    }

    pub(super) fn gone(&mut self, path: &str, now: Instant) {
        match self.items.get_mut(path) {
            Some(Item::Rules(rules)) => {
                if rules.gone {
                    return;
                }
                rules.gone = true;
                rules.stamp = None;
                rules.again = Some(now + item::CONFIRM);
                self.open.insert(path.to_owned(), ());
            }
            Some(Item::Checksum(_)) => {
                self.items.remove(path);
                self.open.remove(path);
                self.judge(checksum::subject(path));
            }
            Some(_) => {
                self.items.remove(path);
                self.open.remove(path);
                self.changed = true;
            }
            None => {}
        }
    }

    pub(super) fn remark(&mut self, path: String, remark: Item) {
        if self.items.get(&path) != Some(&remark) {
            self.open.remove(&path);
            self.items.insert(path, remark);
            self.changed = true;
        }
    }

    pub(super) fn firmware(
        &mut self,
        path: String,
        stamp: Stamp,
        old_before: Option<i128>,
        now: Instant,
        known: &KnownFiles,
    ) {
        let before = match self.items.get_mut(&path) {
            Some(Item::Firmware(file)) => {
                match &mut file.state {
                    State::Open(open) => open.changed(stamp, now),
                    _ if file.stamp == stamp => return,
                    _ => {}
                }
                if file.stamp == stamp {
                    return;
                }
                Some(file)
            }
            _ => None,
        };
        let is_old = is_old(&stamp, old_before);
        let is_worth_it = name::place(&path).and_then(|_| is_in_bounds(&stamp));
        let state = if let Err(text) = is_worth_it {
            State::Refused(text)
        } else if let Some(found) = known.get(&stamp) {
            State::Read(found.clone())
        } else {
            State::Open(Box::new(Open::new(Settling::new(stamp, now, is_old))))
        };
        let still_open = matches!(state, State::Open(_));
        match before {
            Some(file) => {
                file.stamp = stamp;
                // What was seen of its writer so far still counts.
                if !(still_open && matches!(file.state, State::Open(_))) {
                    file.state = state;
                }
                // Another file of the same bytes is another source of them.
                self.changed = true;
            }
            None => {
                let file = Item::Firmware(Box::new(Firmware {
                    stamp,
                    state,
                    view: View::Waiting,
                }));
                self.items.insert(path.clone(), file);
                self.changed = true;
            }
        }
        if still_open {
            self.open.insert(path.clone(), ());
        } else {
            self.open.remove(&path);
        }
        self.judge(&path);
    }

    pub(super) fn checksum(
        &mut self,
        root: &Folder,
        path: String,
        stamp: Result<Stamp, String>,
        again: Option<Instant>,
        known: &mut KnownFiles,
    ) {
        if let Some(Item::Checksum(sum)) = self.items.get(&path)
            && sum.stamp.as_ref() == stamp.as_ref().ok()
            && sum.stamp.is_some()
        {
            return;
        }
        let mut sum = Sum::new(stamp);
        sum.read(root, &path);
        sum.again = again;
        if again.is_some() {
            self.open.insert(path.clone(), ());
        }
        self.items.insert(path.clone(), Item::Checksum(sum));
        self.check_again(&path, known);
    }

    /// A checksum file says something else: so may the file that it is about.
    pub(super) fn check_again(&mut self, path: &str, known: &mut KnownFiles) {
        let subject = checksum::subject(path);
        let sums = self.sums(subject);
        if let Some(Item::Firmware(file)) = self.items.get_mut(subject)
            && let State::Open(open) = &file.state
            && let Some(early) = open.early
            && proves(&sums, Some(&early))
        {
            known.insert(&file.stamp, Ok(early));
            file.state = State::Read(Ok(early));
            self.open.remove(subject);
        }
        self.judge(subject);
    }

    /// A folder cannot be read. Perhaps it holds rules, and those may be about files that lie
    /// elsewhere.
    pub(super) fn perhaps_rules(&mut self, root: &Folder, folder: &str, why: &str) {
        let path = format!("{folder}/release.json");
        let scope = [folder.to_owned()];
        let is_known = self.in_scope(Some(&scope)).iter().any(|other| {
            let is_beside = other.rsplit_once('/').is_some_and(|(of, _)| of == folder);
            is_beside && matches!(self.items.get(other), Some(Item::Rules(_)))
        });
        if !is_known && name::rules_place(&path).is_ok() {
            self.rules(root, path, Err(why.to_owned()), None);
        }
    }

    pub(super) fn rules(
        &mut self,
        root: &Folder,
        path: String,
        stamp: Result<Stamp, String>,
        again: Option<Instant>,
    ) {
        // Its place is kept: to take it out and put it back would move all that is behind, twice.
        let before = self.items.get_mut(&path);
        let before = before.map(|item| std::mem::replace(item, Item::Ignored(String::new())));
        let mut rules = match before {
            Some(Item::Rules(rules)) => rules,
            _ => {
                self.changed = true;
                Rulebook::default()
            }
        };
        match stamp {
            Ok(stamp) => {
                if rules.stamp != Some(stamp) || rules.gone {
                    rules.stamp = Some(stamp);
                    rules.gone = false;
                    rules.again = again;
                    if again.is_some() {
                        self.open.insert(path.clone(), ());
                    }
                    self.changed |= rules.read(root, &path);
                }
            }
            Err(text) => {
                rules.stamp = None;
                rules.gone = false;
                rules.again = None;
                self.open.remove(&path);
                self.changed |= rules.error.as_ref() != Some(&text);
                rules.error = Some(text);
            }
        }
        self.items.insert(path, Item::Rules(rules));
    }
}

/// It has not changed since this moment, by its own times.
fn is_old(stamp: &Stamp, old_before: Option<i128>) -> bool {
    old_before.is_some_and(|old| stamp.mtime < old && stamp.ctime < old)
}
