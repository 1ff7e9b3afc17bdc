//! A map that is a sorted list, for what is small or grows at its end: the standard library's ordered map is compiled
//! anew, 5 kB of it, for each type of key and value.
//!
//! What would surprise you: to insert in the middle, or to remove, moves everything behind. For ten thousand short
//! entries that is a few microseconds; what strangers fill by the hundred thousand does not belong here.

use std::borrow::Borrow;

/// Keys with their values, by key.
#[derive(Clone, Debug)]
pub struct Sorted<K, V> {
    list: Vec<(K, V)>,
}

impl<K, V> Default for Sorted<K, V> {
    fn default() -> Self {
        Sorted { list: Vec::new() }
    }
}

impl<K: Ord, V> Sorted<K, V> {
    /// How many entries there are.
    pub fn len(&self) -> usize {
        self.list.len()
    }

    /// There are none.
    pub fn is_empty(&self) -> bool {
        self.list.is_empty()
    }

    /// The entries, by key.
    pub fn iter(&self) -> std::slice::Iter<'_, (K, V)> {
        self.list.iter()
    }

    /// The values, by key.
    pub fn values_mut(&mut self) -> impl Iterator<Item = &mut V> {
        self.list.iter_mut().map(|(_, value)| value)
    }

    /// The entries from this key on.
    pub fn from<Q: Ord + ?Sized>(&self, key: &Q) -> &[(K, V)]
    where
        K: Borrow<Q>,
    {
        let (Ok(start) | Err(start)) = self.place(key);
        self.list.get(start..).unwrap_or_default()
    }

    /// The value of this key.
    pub fn get<Q: Ord + ?Sized>(&self, key: &Q) -> Option<&V>
    where
        K: Borrow<Q>,
    {
        let place = self.place(key).ok()?;
        self.list.get(place).map(|(_, value)| value)
    }

    /// The value of this key, to be changed.
    pub fn get_mut<Q: Ord + ?Sized>(&mut self, key: &Q) -> Option<&mut V>
    where
        K: Borrow<Q>,
    {
        let place = self.place(key).ok()?;
        self.list.get_mut(place).map(|(_, value)| value)
    }

    /// Is it there?
    pub fn contains<Q: Ord + ?Sized>(&self, key: &Q) -> bool
    where
        K: Borrow<Q>,
    {
        self.place(key).is_ok()
    }

    /// Puts it there. The value that it had before, if any.
    pub fn insert(&mut self, key: K, value: V) -> Option<V> {
        match self.place(&key) {
            Ok(place) => {
                let there = self.list.get_mut(place)?;
                Some(std::mem::replace(&mut there.1, value))
            }
            Err(place) => {
                self.list.insert(place, (key, value));
                None
            }
        }
    }

    /// Takes it away; its value, if it was there.
    pub fn remove<Q: Ord + ?Sized>(&mut self, key: &Q) -> Option<V>
    where
        K: Borrow<Q>,
    {
        let place = self.place(key).ok()?;
        Some(self.list.remove(place).1)
    }

    /// Keeps those for which this is true.
    pub fn retain(&mut self, mut keep: impl FnMut(&K, &mut V) -> bool) {
        self.list.retain_mut(|(key, value)| keep(key, value));
    }

    /// Takes all away.
    pub fn clear(&mut self) {
        self.list.clear();
    }

    /// Where it is, or would be.
    fn place<Q: Ord + ?Sized>(&self, key: &Q) -> Result<usize, usize>
    where
        K: Borrow<Q>,
    {
        // What comes in order needs no search.
        match self.list.last() {
            Some((last, _)) if last.borrow() < key => Err(self.list.len()),
            _ => self
                .list
                .binary_search_by(|(other, _)| other.borrow().cmp(key)),
        }
    }
}

impl<K: Ord, V: Default> Sorted<K, V> {
    /// The value of this key, which is put there if it is not.
    pub fn entry(&mut self, key: K) -> Option<&mut V> {
        let place = match self.place(&key) {
            Ok(place) => place,
            Err(place) => {
                self.list.insert(place, (key, V::default()));
                place
            }
        };
        self.list.get_mut(place).map(|(_, value)| value)
    }
}

impl<'s, K, V> IntoIterator for &'s Sorted<K, V> {
    type Item = &'s (K, V);
    type IntoIter = std::slice::Iter<'s, (K, V)>;

    fn into_iter(self) -> Self::IntoIter {
        self.list.iter()
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn it_does_what_the_standard_map_does(
            steps in proptest::collection::vec((0..7_u8, 0..40_u8, any::<u16>()), 0..200),
        ) {
            let mut ours = Sorted::default();
            let mut theirs = BTreeMap::new();
            for (step, key, value) in steps {
                match step {
                    0..3 => prop_assert_eq!(ours.insert(key, value), theirs.insert(key, value)),
                    3 => prop_assert_eq!(ours.remove(&key), theirs.remove(&key)),
                    4 => {
                        let (there, other) = (ours.entry(key).unwrap(), theirs.entry(key).or_default());
                        prop_assert_eq!(&there, &other);
                        (*there, *other) = (value, value);
                    }
                    5 => {
                        ours.retain(|k, v| *k != key && *v % 5 > 0);
                        theirs.retain(|k, v| *k != key && *v % 5 > 0);
                    }
                    _ => {
                        if let Some(there) = ours.get_mut(&key) {
                            *there = value;
                            theirs.insert(key, value);
                        }
                    }
                }
                prop_assert_eq!(ours.get(&key), theirs.get(&key));
                prop_assert_eq!(ours.contains(&key), theirs.contains_key(&key));
                prop_assert_eq!((ours.len(), ours.is_empty()), (theirs.len(), theirs.is_empty()));
                let rest: Vec<_> = theirs.range(key..).map(|(k, v)| (*k, *v)).collect();
                prop_assert_eq!(ours.from(&key), &rest[..]);
            }
            let all: Vec<_> = theirs.into_iter().collect();
            prop_assert_eq!(ours.iter().copied().collect::<Vec<_>>(), all);
        }
    }
}
