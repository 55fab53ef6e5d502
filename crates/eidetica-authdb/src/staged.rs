//! Changes of keys before they are operations: found by key, and in the order of keys when they are wanted.

use std::collections::HashMap;
use std::collections::hash_map::{self, RandomState};
use std::hash::{BuildHasher as _, BuildHasherDefault};

use crate::index::TagHasher;
use crate::op::{check_key, check_value};
use crate::{Error, limits};

/// Keys with their last value, or none. All bytes are in one buffer: a batch costs few allocations.
#[derive(Debug, Clone, Default)]
pub(crate) struct Staged {
    bytes: Vec<u8>,
    entries: Vec<Entry>,
    /// The last entry for each hash of a key.
    by_hash: HashMap<u64, u32, BuildHasherDefault<TagHasher>>,
    hasher: RandomState,
}

#[derive(Debug, Clone, Copy)]
struct Entry {
    key: (u32, u32),
    value: Option<(u32, u32)>,
    /// Another entry whose key has the same hash.
    next: Option<u32>,
}

/// A change: a key and its value, or none.
pub(crate) type Change<'a> = (&'a [u8], Option<&'a [u8]>);

impl Staged {
    pub(crate) fn len(&self) -> usize {
        self.entries.len()
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// Forgets all. Keeps the memory of a batch of usual size.
    pub(crate) fn clear(&mut self) {
        if self.bytes.capacity() > limits::BATCH_KEPT_BYTES {
            *self = Self::default();
        }
        self.bytes.clear();
        self.entries.clear();
        self.by_hash.clear();
    }

    /// The change of a key, if it has one.
    pub(crate) fn get(&self, key: &[u8]) -> Option<Option<&[u8]>> {
        let entry = self.entries.get(self.find(self.hash(key), key)?)?;
        Some(entry.value.map(|value| self.at(value)))
    }

    /// Puts a change in place of an earlier one of the key.
    pub(crate) fn insert(&mut self, key: &[u8], value: Option<&[u8]>) -> Result<(), Error> {
        check_key(key)?;
        check_value(value.unwrap_or_default())?;
        let more = key.len() + value.map_or(0, <[u8]>::len);
        if self.len() >= limits::BATCH_CHANGES || self.bytes.len() + more > limits::BATCH_BYTES {
            return Err(Error::BatchTooLarge);
        }
        let value = value.map(|value| self.push(value));
        let number = u32::try_from(self.entries.len()).unwrap_or(u32::MAX);
        let hash = self.hash(key);
        let next = match self.by_hash.entry(hash) {
            hash_map::Entry::Vacant(vacant) => {
                vacant.insert(number);
                None
            }
            hash_map::Entry::Occupied(_) => {
                if let Some(entry) = self.find(hash, key).and_then(|at| self.entries.get_mut(at)) {
                    entry.value = value;
                    return Ok(());
                }
                self.by_hash.insert(hash, number)
            }
        };
        let key = self.push(key);
        self.entries.push(Entry { key, value, next });
        Ok(())
    }

    /// All changes in the order of keys.
    pub(crate) fn sorted(&self) -> Vec<Change<'_>> {
        let keyed = self.entries.iter().zip(0u32..).map(|(entry, number)| {
            let mut first = [0; 8];
            let key = self.at(entry.key);
            first
                .iter_mut()
                .zip(key)
                .for_each(|(byte, of_key)| *byte = *of_key);
            (u64::from_be_bytes(first), number)
        });
        let mut keyed: Vec<(u64, u32)> = keyed.collect();
        let change = |number: u32| {
            let entry = self.entries.get(number as usize);
            entry.map_or((&[][..], None), |entry| {
                (self.at(entry.key), entry.value.map(|value| self.at(value)))
            })
        };
        // Mostly the first eight bytes tell.
        keyed.sort_unstable_by(|(a, left), (b, right)| {
            a.cmp(b).then_with(|| change(*left).0.cmp(change(*right).0))
        });
        keyed
            .into_iter()
            .map(|(_, number)| change(number))
            .collect()
    }

    fn hash(&self, key: &[u8]) -> u64 {
        self.hasher.hash_one(key)
    }

    fn find(&self, hash: u64, key: &[u8]) -> Option<usize> {
        let mut number = self.by_hash.get(&hash).copied();
        while let Some(found) = number {
            let found = usize::try_from(found).ok()?;
            let entry = self.entries.get(found)?;
            if self.at(entry.key) == key {
                return Some(found);
            }
            number = entry.next;
        }
        None
    }

    fn push(&mut self, bytes: &[u8]) -> (u32, u32) {
        // The limit of a batch fits.
        let place = |length: usize| u32::try_from(length).unwrap_or(u32::MAX);
        let start = place(self.bytes.len());
        self.bytes.extend_from_slice(bytes);
        (start, place(self.bytes.len()))
    }

    fn at(&self, (start, end): (u32, u32)) -> &[u8] {
        self.bytes
            .get(start as usize..end as usize)
            .unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

    #[test]
    fn it_is_a_sorted_map_of_the_last_changes() {
        let mut staged = Staged::default();
        let mut model = BTreeMap::new();
        for number in 0u32..5000 {
            // Keys that share their first bytes, some of them changed again.
            let key = format!("a long beginning {}", number * 7919 % 1500);
            let value = (number % 3 != 0).then(|| number.to_le_bytes());
            let value = value.as_ref().map(<[u8; 4]>::as_slice);
            staged.insert(key.as_bytes(), value).unwrap();
            model.insert(key.into_bytes(), value.map(<[u8]>::to_vec));
        }
        let expected = model
            .iter()
            .map(|(key, value)| (key.as_slice(), value.as_deref()));
        assert_eq!(staged.sorted(), expected.collect::<Vec<_>>());
        assert_eq!(staged.len(), model.len());
        for (key, value) in &model {
            assert_eq!(staged.get(key), Some(value.as_deref()));
        }
        assert_eq!(staged.get(b"another"), None);
        staged.clear();
        assert!(staged.is_empty());
        assert_eq!(staged.get(b"a long beginning 1"), None);
    }

    #[test]
    fn keys_of_one_hash_are_told_apart() {
        let mut staged = Staged::default();
        staged.insert(b"one", Some(b"1")).unwrap();
        // As if another key had the hash of the first.
        let hash = staged.hash(b"two");
        let first = staged.hash(b"one");
        let number = staged.by_hash.remove(&first).unwrap();
        staged.by_hash.insert(hash, number);
        staged.insert(b"two", Some(b"2")).unwrap();
        staged.insert(b"two", None).unwrap();
        assert_eq!(staged.len(), 2);
        assert_eq!(staged.find(hash, b"one"), Some(0));
        assert_eq!(staged.get(b"two"), Some(None));
    }
}
