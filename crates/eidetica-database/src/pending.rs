//! Entries that cannot be judged yet: an ancestor or a settings payload is missing.
//!
//! The pool is bounded in entries, bytes and entries per source; when it is full, the oldest entry
//! of the source with the most entries gives way. It is memory only: what is lost is fetched again.
//! Pending entries are invisible: no read, tip or peer ever meets one.

use std::collections::{BTreeMap, HashMap, HashSet};

use eidetica_entry::{Entry, Id, PublicKey};

use crate::limits;

/// Who brought an entry; `None` is this instance's own user (an import from a file).
pub(crate) type Source = Option<PublicKey>;

struct Waiting {
    entry: Entry,
    source: Source,
    /// Position in arrival order, for eviction.
    order: u64,
    bytes: usize,
    /// The parents that are missing; empty when its own settings payload is.
    missing: HashSet<Id>,
}

#[derive(Default)]
pub(crate) struct Pool {
    entries: HashMap<Id, Waiting>,
    /// Missing id -> the entries that wait for it.
    children: HashMap<Id, HashSet<Id>>,
    sources: HashMap<Source, BTreeMap<u64, Id>>,
    bytes: usize,
    next: u64,
}

impl Pool {
    pub(crate) fn len(&self) -> usize {
        self.entries.len()
    }

    pub(crate) fn bytes(&self) -> usize {
        self.bytes
    }

    /// Adds an entry, or replaces the copy that waits already (it may have brought a payload). Whoever sent it
    /// first answers for it, so that a peer cannot make another's entries its own and then flood them away.
    pub(crate) fn add(&mut self, entry: &Entry, source: Source, missing: HashSet<Id>) {
        let id = entry.id();
        let (source, order) = match self.take(&id) {
            Some(waiting) => (waiting.source, waiting.order),
            None => {
                self.next += 1;
                (source, self.next)
            }
        };
        let bytes = entry.encoded_len();
        for parent in &missing {
            self.children.entry(*parent).or_default().insert(id);
        }
        self.sources.entry(source).or_default().insert(order, id);
        self.bytes += bytes;
        self.entries.insert(
            id,
            Waiting {
                entry: entry.clone(),
                source,
                order,
                bytes,
                missing,
            },
        );
        self.shrink(source);
    }

    /// Tells the pool that `parent` is stored; returns the entries that now have all their parents.
    pub(crate) fn release(&mut self, parent: &Id) -> Vec<(Entry, Source)> {
        self.take(parent);
        let Some(children) = self.children.remove(parent) else {
            return Vec::new();
        };
        let mut free = Vec::new();
        for child in children {
            let Some(waiting) = self.entries.get_mut(&child) else {
                continue;
            };
            waiting.missing.remove(parent);
            if waiting.missing.is_empty() {
                free.extend(
                    self.take(&child)
                        .map(|waiting| (waiting.entry, waiting.source)),
                );
            }
        }
        free
    }

    /// Drops everything that builds on a rejected id; returns the dropped ids.
    pub(crate) fn reject(&mut self, id: &Id) -> Vec<Id> {
        let mut dropped = Vec::new();
        let mut rejected = vec![*id];
        while let Some(id) = rejected.pop() {
            self.take(&id);
            for child in self.children.remove(&id).unwrap_or_default() {
                if self.take(&child).is_some() {
                    dropped.push(child);
                    rejected.push(child);
                }
            }
        }
        dropped
    }

    fn shrink(&mut self, source: Source) {
        while self
            .sources
            .get(&source)
            .is_some_and(|own| own.len() > limits::PENDING_PER_SOURCE)
        {
            self.evict(source);
        }
        while self.entries.len() > limits::PENDING_ENTRIES || self.bytes > limits::PENDING_BYTES {
            let Some(greatest) = self
                .sources
                .iter()
                .max_by_key(|(_, own)| own.len())
                .map(|(key, _)| *key)
            else {
                return;
            };
            self.evict(greatest);
        }
    }

    fn evict(&mut self, source: Source) {
        let oldest = self
            .sources
            .get(&source)
            .and_then(|own| own.values().next().copied());
        if let Some(id) = oldest {
            self.take(&id);
        }
    }

    /// Takes one entry out; those who wait for it go on waiting for its id.
    fn take(&mut self, id: &Id) -> Option<Waiting> {
        let waiting = self.entries.remove(id)?;
        self.bytes -= waiting.bytes;
        if let Some(own) = self.sources.get_mut(&waiting.source) {
            own.remove(&waiting.order);
            if own.is_empty() {
                self.sources.remove(&waiting.source);
            }
        }
        for parent in &waiting.missing {
            if let Some(children) = self.children.get_mut(parent) {
                children.remove(id);
                if children.is_empty() {
                    self.children.remove(parent);
                }
            }
        }
        Some(waiting)
    }
}
