//! Changes of keys before they are operations: in the order of keys when they are wanted, found by key when somebody asks.

use std::collections::HashMap;
use std::collections::hash_map::RandomState;
use std::hash::{BuildHasher as _, BuildHasherDefault};

use parking_lot::Mutex;

use crate::index::TagHasher;
use crate::op::{check_key, check_value};
use crate::{Error, limits};

/// Changes in the order in which they came; the last one of a key counts. All bytes are in one buffer: a batch costs few
/// allocations.
#[derive(Debug, Default)]
pub(crate) struct Staged {
    bytes: Vec<u8>,
    entries: Vec<Entry>,
    /// A batch that is only written needs none.
    lookup: Mutex<Lookup>,
}

#[derive(Debug, Clone, Copy)]
struct Entry {
    key: (u32, u32),
    value: Option<(u32, u32)>,
}

/// Entries by key, of those that came before somebody asked last.
#[derive(Debug, Clone, Default)]
struct Lookup {
    /// The last entry for each hash of a key.
    by_hash: HashMap<u64, u32, BuildHasherDefault<TagHasher>>,
    /// For each entry the one before it whose key has the same hash, mostly of the same key.
    before: Vec<Option<u32>>,
    /// How many keys there are.
    keys: usize,
    hasher: RandomState,
}

/// A change: a key and its value, or none.
pub(crate) type Change<'a> = (&'a [u8], Option<&'a [u8]>);

impl Clone for Staged {
    fn clone(&self) -> Self {
        Self {
            bytes: self.bytes.clone(),
            entries: self.entries.clone(),
            lookup: Mutex::default(),
        }
    }
}

impl Staged {
    /// How many keys are changed. Costs a look at the changes since it was asked last.
    pub(crate) fn len(&self) -> usize {
        let mut lookup = self.lookup.lock();
        lookup.catch_up(self);
        lookup.keys
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
        self.lookup.get_mut().clear();
    }

    /// The change of a key, if it has one. The first question after changes costs a look at each of them.
    pub(crate) fn get(&self, key: &[u8]) -> Option<Option<&[u8]>> {
        if self.is_empty() {
            return None;
        }
        let mut lookup = self.lookup.lock();
        lookup.catch_up(self);
        let found = lookup.find(self, lookup.hasher.hash_one(key), key)?;
        Some(self.change(found).1)
    }

    /// Puts a change in place of an earlier one of the key.
    pub(crate) fn insert(&mut self, key: &[u8], value: Option<&[u8]>) -> Result<(), Error> {
        check_key(key)?;
        check_value(value.unwrap_or_default())?;
        let more = key.len() + value.map_or(0, <[u8]>::len);
        if !self.has_room(more) {
            self.forget_replaced();
            if !self.has_room(more) {
                return Err(Error::BatchTooLarge);
            }
        }
        self.push_change((key, value));
        Ok(())
    }

    /// All changes in the order of keys.
    pub(crate) fn sorted(&self) -> Vec<Change<'_>> {
        // Mostly the first eight bytes tell. Below them, in one number, the place: a later change of a key comes later.
        let order = self.entries.iter().zip(0u32..).map(|(entry, number)| {
            let key = self.at(entry.key);
            let mut first = [0; 8];
            let known = key.len().min(first.len());
            let (filled, _) = first.split_at_mut(known);
            filled.copy_from_slice(key.get(..known).unwrap_or_default());
            u128::from(u64::from_be_bytes(first)) << 32 | u128::from(number)
        });
        let mut order: Vec<u128> = order.collect();
        order.sort_unstable();
        let change = |packed: u128| self.change(packed as u32);
        let mut sorted: Vec<Change<'_>> = Vec::with_capacity(order.len());
        for alike in order.chunk_by_mut(|a, b| a >> 32 == b >> 32) {
            if let [one] = alike {
                sorted.push(change(*one));
                continue;
            }
            alike.sort_unstable_by(|a, b| change(*a).0.cmp(change(*b).0).then(a.cmp(b)));
            for change in alike.iter().map(|packed| change(*packed)) {
                match sorted.last_mut() {
                    Some(last) if last.0 == change.0 => *last = change,
                    _ => sorted.push(change),
                }
            }
        }
        sorted
    }

    fn has_room(&self, bytes: usize) -> bool {
        self.entries.len() < limits::BATCH_CHANGES
            && self.bytes.len() + bytes <= limits::BATCH_BYTES
    }

    /// Keeps the last change of each key, if most are replaced: so seldom that it costs little for each.
    fn forget_replaced(&mut self) {
        if self.len() > self.entries.len() / 2 {
            return;
        }
        let mut kept = Self::default();
        for change in self.sorted() {
            kept.push_change(change);
        }
        *self = kept;
    }

    fn push_change(&mut self, (key, value): Change<'_>) {
        let key = self.push(key);
        let value = value.map(|value| self.push(value));
        self.entries.push(Entry { key, value });
    }

    fn change(&self, number: u32) -> Change<'_> {
        let entry = self.entries.get(number as usize);
        entry.map_or((&[][..], None), |entry| {
            (self.at(entry.key), entry.value.map(|value| self.at(value)))
        })
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

impl Lookup {
    fn clear(&mut self) {
        self.by_hash.clear();
        self.before.clear();
        self.keys = 0;
    }

    fn catch_up(&mut self, staged: &Staged) {
        for entry in staged.entries.iter().skip(self.before.len()) {
            let key = staged.at(entry.key);
            let hash = self.hasher.hash_one(key);
            let is_new = self.find(staged, hash, key).is_none();
            self.keys += usize::from(is_new);
            let number = u32::try_from(self.before.len()).unwrap_or(u32::MAX);
            self.before.push(self.by_hash.insert(hash, number));
        }
    }

    /// The last entry of a key.
    fn find(&self, staged: &Staged, hash: u64, key: &[u8]) -> Option<u32> {
        let mut number = self.by_hash.get(&hash).copied();
        while let Some(found) = number {
            if staged.change(found).0 == key {
                return Some(found);
            }
            number = *self.before.get(found as usize)?;
        }
        None
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
        assert_eq!(staged.len(), 1);
        // As if another key had the hash of the first.
        let lookup = staged.lookup.get_mut();
        let (one, two) = (
            lookup.hasher.hash_one(b"one"),
            lookup.hasher.hash_one(b"two"),
        );
        let number = lookup.by_hash.remove(&one).unwrap();
        lookup.by_hash.insert(two, number);
        staged.insert(b"two", Some(b"2")).unwrap();
        staged.insert(b"two", None).unwrap();
        assert_eq!(staged.len(), 2);
        assert_eq!(staged.get(b"two"), Some(None));
        assert_eq!(staged.lookup.lock().find(&staged, two, b"one"), Some(0));
    }

    #[test]
    fn a_batch_of_few_keys_never_ends() {
        let mut staged = Staged::default();
        let value = vec![0; limits::VALUE_BYTES];
        for round in 0..3 * limits::BATCH_BYTES / limits::VALUE_BYTES {
            staged.insert(&[round as u8 % 5], Some(&value)).unwrap();
        }
        staged.insert(b"last", Some(b"")).unwrap();
        assert_eq!(staged.len(), 6);
        assert_eq!(staged.get(&[3]), Some(Some(value.as_slice())));
    }
}
