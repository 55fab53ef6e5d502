//! Keys that are set once.

use std::ops::Range;
use std::sync::Arc;

use eidetica_mmr::{Consistency, Digest, Frontier, Leaves, Location};

use crate::any::read_the_log;
use crate::log::Log;
use crate::op::{check_key, check_metadata};
use crate::run::Slot;
use crate::staged::Staged;
use crate::write::Prepared;
use crate::{Disk, Error, Kind, Operation, Operations, Options, ProvenRange, ProvenSeveral};

/// Keys to set that go together. Their order does not matter.
#[derive(Debug, Clone, Default)]
pub struct Sets(Staged);

impl Sets {
    /// None.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Sets a key.
    ///
    /// # Errors
    /// [`Error::AlreadySet`] if these have it; [`Error::Key`], [`Error::Value`], [`Error::BatchTooLarge`].
    pub fn set(&mut self, key: &[u8], value: &[u8]) -> Result<(), Error> {
        self.set_at(key, value, Location(u64::MAX))
    }

    fn set_at(&mut self, key: &[u8], value: &[u8], at: Location) -> Result<(), Error> {
        if self.0.get(key).is_some() {
            return Err(Error::AlreadySet { at });
        }
        self.0.insert(key, Some(value))
    }

    /// How many.
    #[must_use]
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

/// Sets as operations, with the root that they lead to. Dropping it changes nothing.
pub struct PreparedSets(Prepared);

impl PreparedSets {
    /// The root once they are applied.
    #[must_use]
    pub fn root(&self) -> Digest {
        self.0.batch.root()
    }

    /// The size once they are applied.
    #[must_use]
    pub fn leaves(&self) -> Leaves {
        self.0.batch.leaves()
    }

    /// What will be appended.
    #[must_use]
    pub fn operations(&self) -> &Operations {
        &self.0.operations
    }
}

/// An authenticated database of keys that are set once, on the same log as [`crate::Any`].
///
/// That a key was set is remembered also when the operation is pruned. A replica that began behind it
/// cannot know.
pub struct Immutable {
    log: Log,
    staged: Sets,
}

impl Immutable {
    /// Opens the database on a disk, or begins an empty one. Replays the tail of the log, which is bounded.
    ///
    /// # Errors
    /// [`Error::OtherKind`], [`Error::Unfinished`], [`Error::NewerFormat`], [`Error::Corrupt`],
    /// [`Error::Io`].
    pub fn open(disk: Arc<dyn Disk>, options: Options) -> Result<Self, Error> {
        Ok(Self::of(Log::open(disk, Kind::Immutable, options, false)?))
    }

    pub(crate) fn of(log: Log) -> Self {
        Self {
            log,
            staged: Sets::new(),
        }
    }

    pub(crate) fn into_log(self) -> Log {
        self.log
    }

    read_the_log!();

    /// The value of a key, staged ones included.
    ///
    /// # Errors
    /// [`Error::Pruned`] if it was set before the boundary; [`Error::Key`]; [`Error::Corrupt`],
    /// [`Error::Io`].
    pub fn get(&self, key: &[u8]) -> Result<Option<Vec<u8>>, Error> {
        match self.staged.0.get(key) {
            Some(staged) => Ok(staged.map(<[u8]>::to_vec)),
            None => self.log.value(key),
        }
    }

    /// Stages a key.
    ///
    /// # Errors
    /// [`Error::AlreadySet`]; those of [`Sets::set`]; [`Error::Corrupt`], [`Error::Io`].
    pub fn set(&mut self, key: &[u8], value: &[u8]) -> Result<(), Error> {
        check_key(key)?;
        if let Some(at) = self.log.find(self.log.tag(key))? {
            return Err(Error::AlreadySet { at });
        }
        self.staged.set_at(key, value, self.log.leaves().next())
    }

    /// Turns sets into operations on the present state, without the staged ones: sorted by key, then the
    /// commit with its metadata.
    ///
    /// # Errors
    /// [`Error::AlreadySet`], [`Error::Metadata`]; [`Error::Corrupt`], [`Error::Io`].
    pub fn prepare(&self, sets: &Sets, metadata: Option<&[u8]>) -> Result<PreparedSets, Error> {
        check_metadata(metadata)?;
        let sorted = sets.0.sorted();
        let mut operations = Operations::with_capacity(sorted.len());
        let mut changes = Vec::with_capacity(sorted.len());
        let keys: Vec<&[u8]> = sorted.iter().map(|(key, _)| *key).collect();
        let tags = self.log.tags(&keys);
        if let Some(at) = self.log.find_many(&tags)?.into_iter().flatten().next() {
            return Err(Error::AlreadySet { at });
        }
        for ((key, value), tag) in sorted.into_iter().zip(tags) {
            let at = self.log.leaves().0 + operations.len() as u64;
            changes.push((tag, Slot::live(at)));
            let value = value.unwrap_or_default();
            operations.push(&Operation::Set { key, value });
        }
        let mut state = self.log.state;
        state.active += changes.len() as u64;
        state.last_commit = Some(Location(self.log.leaves().0 + operations.len() as u64));
        operations.push(&Operation::Commit {
            floor: Location(state.floor),
            active: state.active,
            metadata,
        });
        let mut batch = self.log.mmr.batch();
        let leaves: Vec<&[u8]> = operations.iter().collect();
        batch.extend(&leaves, self.log.options.threads)?;
        Ok(PreparedSets(Prepared {
            batch,
            operations,
            changes,
            state,
        }))
    }

    /// Puts prepared sets in force. They are visible, but not durable before [`Immutable::commit`].
    ///
    /// # Errors
    /// [`Error::Stale`] if others came in between; [`Error::Poisoned`].
    pub fn apply(&mut self, prepared: PreparedSets) -> Result<(), Error> {
        self.log.apply(prepared.0)
    }

    /// Applies what is staged, with a commit operation, and makes all that was applied durable: after a
    /// crash there is all of it or nothing. Without staged sets and metadata no operation is added. After a
    /// failed write the handle refuses to write; opening again tells whether the commit came through.
    ///
    /// # Errors
    /// [`Error::Metadata`]; [`Error::Poisoned`], [`Error::Corrupt`], [`Error::Io`].
    pub fn commit(&mut self, metadata: Option<&[u8]>) -> Result<(), Error> {
        self.log.check_writable()?;
        if !self.staged.is_empty() || metadata.is_some() {
            let prepared = self.prepare(&self.staged, metadata)?;
            self.apply(prepared)?;
            self.staged.0.clear();
        }
        self.log.commit()
    }

    /// Takes back what is staged and what was applied since the last commit.
    ///
    /// # Errors
    /// [`Error::Poisoned`].
    pub fn rewind(&mut self) -> Result<(), Error> {
        self.log.rewind()?;
        self.staged.0.clear();
        Ok(())
    }

    /// Forgets the operations before a location, at most the last durable commit, with the values that
    /// they set.
    ///
    /// # Errors
    /// [`Error::NotInactive`]; [`Error::Poisoned`], [`Error::Io`].
    pub fn prune(&mut self, boundary: Location) -> Result<(), Error> {
        let last = self.log.durable.state.last_commit;
        self.log.prune(boundary, last.unwrap_or(self.log.first()))
    }
}
