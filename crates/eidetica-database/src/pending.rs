//! Entries that cannot be taken in yet: an ancestor, a payload or another database is missing.
//!
//! The pool is bounded in entries, bytes and entries per source; when it is full, the oldest entry
//! of the source with the most entries gives way. It is memory only: what is lost is fetched again.
//! Pending entries are invisible: no read, tip or peer ever meets one.

use std::collections::{BTreeMap, HashMap, HashSet, hash_map};
use std::sync::Arc;

use eidetica_entry::{Entry, Id, PublicKey};

use crate::core::Core;
use crate::shared::Shared;
use crate::{Database, Databases, limits};

/// Who brought an entry; `None` is this instance's own user (an import from a file).
pub(crate) type Source = Option<PublicKey>;

struct Waiting {
    entry: Entry,
    source: Source,
    /// Position in arrival order, for eviction.
    order: u64,
    bytes: usize,
    /// The parents that are missing; empty when something else is.
    missing: HashSet<Id>,
    /// The database that it waits for.
    delegated: Option<Id>,
}

/// Entries that wait for another database.
#[derive(Default)]
struct Awaiting {
    /// The version of that database when they were judged last; 0 if it was not here.
    version: u64,
    entries: HashSet<Id>,
}

#[derive(Default)]
pub(crate) struct Pool {
    entries: HashMap<Id, Waiting>,
    /// Missing id -> the entries that wait for it.
    children: HashMap<Id, HashSet<Id>>,
    /// Databases -> the entries that wait for them.
    delegations: HashMap<Id, Awaiting>,
    sources: HashMap<Source, BTreeMap<u64, Id>>,
    /// Entries that wait for nothing but to be judged again: no more than were being taken in just now, or waited.
    ready: Vec<(Entry, Source)>,
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

    /// Adds an entry, or replaces the copy that waits already (it may have brought a payload), unless that has all
    /// payloads. Whoever sent it first answers for it, so that a peer cannot make another's entries its own and then
    /// flood them away.
    pub(crate) fn add(&mut self, entry: &Entry, source: Source, missing: HashSet<Id>) {
        let id = entry.id();
        let mut entry = entry.clone();
        let (source, order) = match self.take(&id) {
            Some(waiting) => {
                if waiting.entry.is_complete() {
                    entry = waiting.entry;
                }
                (waiting.source, waiting.order)
            }
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
                entry,
                source,
                order,
                bytes,
                missing,
                delegated: None,
            },
        );
        self.shrink(source);
    }

    /// Adds an entry that waits for another database, which has this version.
    pub(crate) fn add_delegated(
        &mut self,
        entry: &Entry,
        source: Source,
        database: Id,
        version: u64,
    ) {
        self.add(entry, source, HashSet::new());
        if let Some(waiting) = self.entries.get_mut(&entry.id()) {
            waiting.delegated = Some(database);
            let awaiting = self.delegations.entry(database).or_default();
            awaiting.version = version;
            awaiting.entries.insert(entry.id());
        }
    }

    /// Whether entries wait for a database, or only to be judged.
    fn awaits(&self, database: &Id) -> bool {
        !self.ready.is_empty() || self.delegations.contains_key(database)
    }

    /// Takes out the entries that wait for a database whose version is not what it was.
    pub(crate) fn take_delegated(
        &mut self,
        version: impl Fn(&Id) -> Option<u64>,
    ) -> Vec<(Entry, Source)> {
        let changed = self.delegations.iter().filter(|(database, awaiting)| {
            version(database).is_some_and(|version| version != awaiting.version)
        });
        let changed: Vec<Id> = changed
            .flat_map(|(_, awaiting)| awaiting.entries.iter().copied())
            .collect();
        let mut taken: Vec<Waiting> = changed.iter().filter_map(|id| self.take(id)).collect();
        taken.sort_unstable_by_key(|waiting| waiting.order);
        let taken = taken.into_iter();
        taken
            .map(|waiting| (waiting.entry, waiting.source))
            .collect()
    }

    /// Entries to be judged with the next that are taken in.
    pub(crate) fn add_ready(&mut self, entries: impl IntoIterator<Item = (Entry, Source)>) {
        self.ready.extend(entries);
    }

    /// The ids that entries wait for.
    pub(crate) fn missing(&self) -> Vec<Id> {
        self.children.keys().copied().collect()
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
        if let Some(database) = &waiting.delegated
            && let Some(awaiting) = self.delegations.get_mut(database)
        {
            awaiting.entries.remove(id);
            if awaiting.entries.is_empty() {
                self.delegations.remove(database);
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

/// Void entries that were turned away a while ago: nothing that is stored knows them, but something effective above
/// them may come with a later pack. Bounded and memory only; the oldest give way.
#[derive(Default)]
pub(crate) struct Surplus {
    /// By the order in which they came, parents first.
    entries: BTreeMap<u64, Entry>,
    orders: HashMap<Id, u64>,
    bytes: usize,
    next: u64,
}

impl Surplus {
    /// Adds entries, parents first.
    pub(crate) fn add(&mut self, entries: Vec<Entry>) {
        for entry in entries {
            if let hash_map::Entry::Vacant(free) = self.orders.entry(entry.id()) {
                free.insert(self.next);
                self.bytes += entry.encoded_len();
                self.entries.insert(self.next, entry.compact());
                self.next += 1;
            }
        }
        while self.entries.len() > limits::VOID_SURPLUS || self.bytes > limits::PENDING_BYTES {
            let Some((_, oldest)) = self.entries.pop_first() else {
                return;
            };
            self.forget(&oldest);
        }
    }

    /// Takes out those that any of `entries` builds on, and what these build on in turn; parents first. O(those).
    pub(crate) fn take_below<'e>(
        &mut self,
        entries: impl Iterator<Item = &'e Entry>,
    ) -> Vec<Entry> {
        if self.entries.is_empty() {
            return Vec::new();
        }
        let parents = entries.flat_map(|entry| entry.header().parents.iter());
        let mut open: Vec<Id> = parents.copied().collect();
        let mut taken = BTreeMap::new();
        while let Some(id) = open.pop() {
            let order = self.orders.get(&id).copied();
            let Some((order, entry)) = order.and_then(|n| Some((n, self.entries.remove(&n)?)))
            else {
                continue;
            };
            self.forget(&entry);
            open.extend(entry.header().parents.iter());
            taken.insert(order, entry);
        }
        taken.into_values().collect()
    }

    fn forget(&mut self, entry: &Entry) {
        self.orders.remove(&entry.id());
        self.bytes -= entry.encoded_len();
    }
}

impl Database {
    /// Asks another database to tell when it has new entries; gives its version, or 0 if it is not here.
    pub(crate) fn await_delegated(&self, database: Id) -> u64 {
        let mut awaited = self.shared().awaited.lock();
        if awaited.len() < limits::AWAITED_DATABASES || awaited.contains_key(&database) {
            awaited.entry(database).or_default().insert(self.id());
        }
        drop(awaited);
        self.shared().version_of(&database).unwrap_or(0)
    }

    /// Adds an entry that waits for another database. `false` if that has another version than when the entry was
    /// judged: who has changed it may have looked here already.
    pub(crate) fn add_delegated(
        &self,
        entry: &Entry,
        source: Source,
        database: Id,
        version: u64,
    ) -> bool {
        let mut pool = self.core().pool.lock();
        let is_same = self.shared().version_of(&database).unwrap_or(0) == version;
        if is_same {
            pool.add_delegated(&entry.compact(), source, database, version);
        }
        is_same
    }

    /// Entries that waited for databases that have changed since, and those that only wait to be judged.
    pub(crate) fn take_awaited(&self) -> Vec<(Entry, Source)> {
        let version = |id: &Id| self.shared().version_of(id);
        let mut pool = self.core().pool.lock();
        let mut taken = std::mem::take(&mut pool.ready);
        taken.extend(pool.take_delegated(version));
        taken
    }

    /// Judges entries of other databases again that have waited for this one.
    pub(crate) fn wake_awaiting(&self) {
        let shared = self.shared();
        let mut changed = vec![self.id()];
        while let Some(here) = changed.pop() {
            let waiting = shared.awaited.lock().get(&here).cloned();
            for id in waiting.into_iter().flatten() {
                match judge_awaited(&Databases::of(shared), &id) {
                    Ok(stored) => {
                        shared.end_awaiting(&here, &id);
                        changed.extend(stored.then_some(id));
                    }
                    Err(error) => {
                        tracing::warn!(database = %id, %error, "entries that waited were not judged");
                    }
                }
            }
        }
    }
}

impl Shared {
    /// Takes down that `database` is told when `delegated` has changed, unless entries still wait there, or may be about
    /// to: they are judged under the lock of their sequencer.
    fn end_awaiting(&self, delegated: &Id, database: &Id) {
        let closure = self.closures.lock().get(database).cloned();
        let here: Vec<Arc<Core>> = self.open.get(database).into_iter().chain(closure).collect();
        let mut idle = Vec::with_capacity(here.len());
        for core in &here {
            match core.try_lock_sequencer() {
                Some(lock) if !core.pool.lock().awaits(delegated) => idle.push(lock),
                _ => return,
            }
        }
        let mut awaited = self.awaited.lock();
        if let Some(waiting) = awaited.get_mut(delegated) {
            waiting.remove(database);
            if waiting.is_empty() {
                awaited.remove(delegated);
            }
        }
    }
}

/// Judges again what waits in a database and in its closure; says whether anything was stored.
fn judge_awaited(databases: &Databases, id: &Id) -> crate::Result<bool> {
    let mut stored = false;
    for database in [databases.find(id)?, databases.closure(id)?] {
        stored |= database.map_or(Ok(false), |database| database.judge_awaited())?;
    }
    Ok(stored)
}
