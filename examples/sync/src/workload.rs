//! What the server's owner does to the database: keys are set, and in one of type `any` overwritten and deleted too.
//!
//! Where it stands is in the metadata of each commit, so that a server that starts again goes on.

use eidetica_authdb::Kind;

/// One change of a key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Change {
    /// The key gets a value.
    Put([u8; 32], [u8; 32]),
    /// The key loses it.
    Delete([u8; 32]),
}

/// An endless, repeatable sequence of changes, and how much of it is done.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Workload {
    /// Makes it differ from those of other databases.
    seed: [u8; 16],
    /// The number of the next change.
    next: u64,
}

/// In a database with updates there are so many changes for each key, so that most operations do not count for long.
const CHANGES_PER_KEY: u64 = 4;
/// One of so many changes is a deletion.
const DELETED_OF: u64 = 8;

impl Workload {
    /// From its beginning.
    #[must_use]
    pub fn new(seed: [u8; 16]) -> Self {
        Self { seed, next: 0 }
    }

    /// Goes on where the metadata of a commit say; `None` if they are not of a workload.
    #[must_use]
    pub fn resume(metadata: &[u8]) -> Option<Self> {
        let (seed, next) = metadata.split_first_chunk()?;
        let next = u64::from_le_bytes(next.try_into().ok()?);
        Some(Self { seed: *seed, next })
    }

    /// What to note in a commit.
    #[must_use]
    pub fn metadata(&self) -> [u8; 24] {
        let mut metadata = [0; 24];
        let (seed, next) = metadata.split_at_mut(16);
        seed.copy_from_slice(&self.seed);
        next.copy_from_slice(&self.next.to_le_bytes());
        metadata
    }

    /// The next change for a database of a type.
    pub fn next(&mut self, kind: Kind) -> Change {
        let number = self.next;
        self.next += 1;
        let [what, which, ..] = self.draw(b"choice", number);
        let value = self.bytes(b"value", number);
        if kind == Kind::Immutable {
            return Change::Put(self.bytes(b"key", number), value);
        }
        let key = self.bytes(b"key", which % (number / CHANGES_PER_KEY + 1));
        match what % DELETED_OF {
            0 => Change::Delete(key),
            _ => Change::Put(key, value),
        }
    }

    fn bytes(&self, label: &[u8], number: u64) -> [u8; 32] {
        let mut hasher = blake3::Hasher::new();
        hasher
            .update(&self.seed)
            .update(label)
            .update(&number.to_le_bytes());
        *hasher.finalize().as_bytes()
    }

    fn draw(&self, label: &[u8], number: u64) -> [u64; 4] {
        let bytes = self.bytes(label, number);
        let (words, _) = bytes.as_chunks();
        let mut drawn = [0; 4];
        for (drawn, word) in drawn.iter_mut().zip(words) {
            *drawn = u64::from_le_bytes(*word);
        }
        drawn
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    #[test]
    fn it_goes_on_where_it_was() {
        let mut workload = Workload::new([7; 16]);
        let whole: Vec<Change> = (0..200).map(|_| workload.next(Kind::Any)).collect();
        let mut first = Workload::new([7; 16]);
        let mut parts: Vec<Change> = (0..80).map(|_| first.next(Kind::Any)).collect();
        let mut second = Workload::resume(&first.metadata()).unwrap();
        parts.extend((0..120).map(|_| second.next(Kind::Any)));
        assert_eq!(whole, parts);
        assert_eq!(Workload::resume(b"something else"), None);
    }

    #[test]
    fn keys_come_again_where_they_may() {
        let (mut keys, mut overwrites, mut deletes) = (HashSet::new(), 0, 0);
        let mut workload = Workload::new([1; 16]);
        for _ in 0..1000 {
            match workload.next(Kind::Any) {
                Change::Put(key, _) => overwrites += u64::from(!keys.insert(key)),
                Change::Delete(_) => deletes += 1,
            }
        }
        assert!(
            (500..900).contains(&overwrites) && (50..200).contains(&deletes),
            "{overwrites} {deletes}"
        );
        let mut workload = Workload::new([1; 16]);
        let mut keys = HashSet::new();
        for _ in 0..1000 {
            let Change::Put(key, _) = workload.next(Kind::Immutable) else {
                panic!("a deletion");
            };
            assert!(keys.insert(key));
        }
    }
}
