//! Comparing two sets of writes of which neither fits in memory: those of the entries and those in the state rows.
//!
//! Every write is hashed with a key that nobody knows and counted in the bucket that its hash names, up for an entry
//! and down for a row. Where all buckets are zero the sets are equal. Else some of those that are not are filled with
//! what belongs there, by reading everything once more: what is left over on either side is wrong, and named.

use std::collections::{BTreeSet, HashMap};

use eidetica_crdt::{Op, Path, StoreKind, each_write, encode_write};
use eidetica_entry::{Entry, Id, Stamp, StoreName};
use eidetica_storage::Space;
use rayon::prelude::*;

use crate::apply::decode;
use crate::limits;

/// A write's hash, and where it is from.
pub(crate) type Digest = [u8; 32];

/// What an entry writes: its hash, store and path.
pub(crate) struct Written {
    pub(crate) digest: Digest,
    pub(crate) store: StoreName,
    pub(crate) path: Path,
}

/// What one entry writes.
#[derive(Default)]
pub(crate) struct Entered {
    pub(crate) written: Vec<Written>,
    /// Stores for which it has something that this program cannot read.
    pub(crate) unread: Vec<StoreName>,
}

/// Counts writes.
pub(crate) struct Tally {
    key: [u8; 32],
    buckets: Vec<u128>,
}

/// What is left over.
#[derive(Default)]
pub(crate) struct Surplus {
    /// Writes that are in no row: entry, store, path.
    pub(crate) missing: Vec<(Id, StoreName, Path)>,
    /// Rows with writes that are in no entry.
    pub(crate) foreign: Vec<(Space, Vec<u8>)>,
}

impl Tally {
    /// With nothing counted, and a fresh key.
    pub(crate) fn new(key: [u8; 32]) -> Self {
        Self {
            key,
            buckets: vec![0; limits::TALLY_BUCKETS],
        }
    }

    /// The hash of one write.
    pub(crate) fn digest(
        &self,
        store: &StoreName,
        kind: StoreKind,
        path: &Path,
        stamp: &Stamp,
        op: &Op,
    ) -> Digest {
        let name = store.as_str().as_bytes();
        let mut bytes = Vec::with_capacity(name.len() + path.as_bytes().len() + 128);
        bytes.extend((name.len() as u64).to_le_bytes());
        bytes.extend(name);
        bytes.push(kind as u8);
        encode_write(path, stamp, op, &mut bytes);
        *blake3::keyed_hash(&self.key, &bytes).as_bytes()
    }

    /// What entries write, on all cores.
    pub(crate) fn entered(&self, entries: &[Entry]) -> Vec<Entered> {
        entries.par_iter().map(|entry| self.of(entry)).collect()
    }

    fn of(&self, entry: &Entry) -> Entered {
        let stamp = entry.stamp();
        let mut entered = Entered::default();
        for (store, bytes) in entry.payloads() {
            let Some(bytes) = bytes else { continue };
            let Some(payload) = decode(store, bytes) else {
                if !(store.is_settings() && has_no_doc(bytes)) {
                    entered.unread.push(store.clone());
                }
                continue;
            };
            each_write(stamp, &payload, &mut |path, op| {
                entered.written.push(Written {
                    digest: self.digest(store, payload.kind(), path, &stamp, op),
                    store: store.clone(),
                    path: path.clone(),
                });
            });
        }
        entered
    }

    /// Counts a write of an entry.
    pub(crate) fn add(&mut self, digest: &Digest) {
        self.count(digest, u128::wrapping_add);
    }

    /// Counts a write in a row.
    pub(crate) fn take(&mut self, digest: &Digest) {
        self.count(digest, u128::wrapping_sub);
    }

    fn count(&mut self, digest: &Digest, change: fn(u128, u128) -> u128) {
        if let Some((_, low)) = digest.split_last_chunk::<16>()
            && let Some(bucket) = self.buckets.get_mut(bucket_of(digest))
        {
            *bucket = change(*bucket, u128::from_le_bytes(*low));
        }
    }

    /// Buckets in which the two sides differ; at most [`limits::TALLY_NAMED`].
    pub(crate) fn differing(&self) -> BTreeSet<usize> {
        let counts = self.buckets.iter().enumerate();
        let differing = counts.filter(|(_, count)| **count != 0);
        differing
            .map(|(at, _)| at)
            .take(limits::TALLY_NAMED)
            .collect()
    }
}

/// Collects what belongs in some buckets.
pub(crate) struct Naming {
    buckets: BTreeSet<usize>,
    entries: HashMap<Digest, (Id, StoreName, Path)>,
    surplus: Surplus,
}

impl Naming {
    pub(crate) fn new(buckets: BTreeSet<usize>) -> Self {
        Self {
            buckets,
            entries: HashMap::new(),
            surplus: Surplus::default(),
        }
    }

    /// Adds a write of an entry. All of these come before the first of a row.
    pub(crate) fn add(&mut self, id: Id, written: Written) {
        if self.buckets.contains(&bucket_of(&written.digest)) {
            self.entries
                .insert(written.digest, (id, written.store, written.path));
        }
    }

    /// Adds a write in a row.
    pub(crate) fn take(&mut self, digest: &Digest, space: Space, key: impl FnOnce() -> Vec<u8>) {
        if self.buckets.contains(&bucket_of(digest)) && self.entries.remove(digest).is_none() {
            self.surplus.foreign.push((space, key()));
        }
    }

    pub(crate) fn finish(mut self) -> Surplus {
        self.surplus.missing.extend(self.entries.into_values());
        self.surplus.missing.sort();
        self.surplus
    }
}

fn bucket_of(digest: &Digest) -> usize {
    let [a, b, ..] = digest;
    usize::from(u16::from_be_bytes([*a, *b])) % limits::TALLY_BUCKETS
}

/// A settings payload that has authority records and nothing beside.
fn has_no_doc(payload: &[u8]) -> bool {
    eidetica_auth::SettingsPayload::decode(payload).is_ok_and(|settings| settings.doc().is_empty())
}
