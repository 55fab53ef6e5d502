//! What the server's owner does to the database: fresh keys, and in one of type `any` overwritten and deleted ones.
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

/// In ten changes of a database with updates, so many are of keys that there were.
const OVERWRITES: u64 = 3;
const DELETIONS: u64 = 1;

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
        let older = which.checked_rem(number).unwrap_or(0);
        let (fresh, value) = (self.bytes(b"key", number), self.bytes(b"value", number));
        match what % 10 {
            _ if kind == Kind::Immutable || number == 0 => Change::Put(fresh, value),
            0..OVERWRITES => Change::Put(self.bytes(b"key", older), value),
            what if what < OVERWRITES + DELETIONS => Change::Delete(self.bytes(b"key", older)),
            _ => Change::Put(fresh, value),
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
            (100..400).contains(&overwrites) && (50..200).contains(&deletes),
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
