//! Keys with their latest value.

use std::ops::Range;
use std::sync::Arc;

use eidetica_mmr::{Consistency, Digest, Frontier, Leaves, Location};

use crate::log::Log;
use crate::op::check_metadata;
use crate::run::{Slot, Tag};
use crate::staged::Staged;
use crate::write::Prepared;
use crate::{
    Disk, Error, Kind, Operation, Operations, Options, ProvenRange, ProvenSeveral, limits,
};

/// Changes of keys that go together. The last one of a key counts; their order does not matter otherwise.
#[derive(Debug, Clone, Default)]
pub struct Changes(Staged);

impl Changes {
    /// None.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Gives a key a value.
    ///
    /// # Errors
    /// [`Error::Key`], [`Error::Value`], [`Error::BatchTooLarge`].
    pub fn update(&mut self, key: &[u8], value: &[u8]) -> Result<(), Error> {
        self.0.insert(key, Some(value))
    }

    /// Takes the value of a key. Nothing happens if it has none.
    ///
    /// # Errors
    /// [`Error::Key`], [`Error::BatchTooLarge`].
    pub fn delete(&mut self, key: &[u8]) -> Result<(), Error> {
        self.0.insert(key, None)
    }

    /// How many keys are changed.
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

/// Changes as operations, with the root that they lead to. Dropping it changes nothing.
pub struct PreparedChanges(Prepared);

impl PreparedChanges {
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

/// An authenticated database of keys and their latest values.
///
/// Every update and deletion is an operation in a log, and the root commits to the whole sequence. At the
/// end of a batch the *inactivity floor* rises, if more is dead than alive: operations behind it that
/// still count are appended anew, so that all before it can be pruned.
///
/// Changes go three ways: [`Any::update`] and [`Any::delete`] stage them, visible to [`Any::get`], until
/// [`Any::commit`]; or [`Any::prepare`] tells the root of [`Changes`] before [`Any::apply`] puts them in
/// force; [`Any::commit`] makes everything durable, as one; [`Any::rewind`] takes back what it has not.
pub struct Any {
    log: Log,
    staged: Changes,
}

/// What [`Any`] and [`crate::Immutable`] share: reading the log.
macro_rules! read_the_log {
    () => {
        /// The root of all that was applied.
        #[must_use]
        pub fn root(&self) -> Digest {
            self.log.root()
        }

        /// How many operations there are, pruned ones included.
        #[must_use]
        pub fn leaves(&self) -> Leaves {
            self.log.leaves()
        }

        /// How many of them are durable.
        #[must_use]
        pub fn committed(&self) -> Leaves {
            Leaves(self.log.synced)
        }

        /// How many keys have a value.
        #[must_use]
        pub fn active(&self) -> u64 {
            self.log.state.active
        }

        /// The first operation that is not pruned.
        #[must_use]
        pub fn boundary(&self) -> Location {
            self.log.first()
        }

        /// Where the last commit is and its metadata.
        ///
        /// # Errors
        /// [`Error::Corrupt`], [`Error::Io`].
        pub fn last_commit(&self) -> Result<Option<(Location, Option<Vec<u8>>)>, Error> {
            let Some(location) = self.log.state.last_commit else {
                return Ok(None);
            };
            self.log
                .with_operation(location, |bytes| match Operation::decode(bytes) {
                    Ok(Operation::Commit { metadata, .. }) => {
                        Ok(Some((location, metadata.map(<[u8]>::to_vec))))
                    }
                    _ => Err(Error::corrupt(
                        "the log",
                        "the last commit is something else",
                    )),
                })
        }

        /// The bytes of an operation; [`Operation::decode`] reads them.
        ///
        /// # Errors
        /// [`Error::OutOfBounds`], [`Error::Pruned`]; [`Error::Corrupt`], [`Error::Io`].
        pub fn operation(&self, location: Location) -> Result<Vec<u8>, Error> {
            self.log
                .with_operation(location, |bytes| Ok(bytes.to_vec()))
        }

        /// The root at an earlier size, not before the boundary.
        ///
        /// # Errors
        /// [`Error::OutOfBounds`], [`Error::Pruned`]; [`Error::Corrupt`], [`Error::Io`].
        pub fn root_at(&self, leaves: Leaves) -> Result<Digest, Error> {
            self.log.root_at(leaves)
        }

        /// The peaks at an earlier size, not before the boundary: from them a replica can go on.
        ///
        /// # Errors
        /// Those of [`Self::root_at`].
        pub fn frontier_at(&self, leaves: Leaves) -> Result<Frontier, Error> {
            self.log.frontier_at(leaves)
        }

        /// The operations of a range and their proof against the present root: as many from the start as
        /// fit `most_bytes` and [`limits::RANGE_BYTES`](crate::limits::RANGE_BYTES), at least one.
        ///
        /// # Errors
        /// [`Error::Request`] if the range is empty, beyond the size, or longer than
        /// [`limits::RANGE_OPERATIONS`](crate::limits::RANGE_OPERATIONS); [`Error::OutOfBounds`], [`Error::Pruned`]; [`Error::Corrupt`],
        /// [`Error::Io`].
        pub fn proof(
            &self,
            range: Range<Location>,
            most_bytes: usize,
        ) -> Result<ProvenRange, Error> {
            self.log.prove(self.log.leaves(), range, most_bytes)
        }

        /// Like [`Self::proof`], against the root at an earlier size.
        ///
        /// # Errors
        /// Those of [`Self::proof`].
        pub fn historical_proof(
            &self,
            leaves: Leaves,
            range: Range<Location>,
            most_bytes: usize,
        ) -> Result<ProvenRange, Error> {
            self.log.prove(leaves, range, most_bytes)
        }

        /// Several operations, ascending and each once, and their proof against the root at a size.
        ///
        /// # Errors
        /// Those of [`Self::proof`].
        pub fn multi_proof(
            &self,
            leaves: Leaves,
            locations: &[Location],
        ) -> Result<ProvenSeveral, Error> {
            self.log.prove_several(leaves, locations)
        }

        /// The proof that the log at an old size is the beginning of the log at a new one.
        ///
        /// # Errors
        /// [`Error::Request`] if the sizes are out of order; [`Error::OutOfBounds`], [`Error::Pruned`];
        /// [`Error::Corrupt`], [`Error::Io`].
        pub fn consistency(&self, old: Leaves, new: Leaves) -> Result<Consistency, Error> {
            self.log.prove_consistency(old, new)
        }
    };
}
pub(crate) use read_the_log;

impl Any {
    /// Opens the database on a disk, or begins an empty one. Replays the tail of the log, which is bounded.
    ///
    /// # Errors
    /// [`Error::OtherKind`], [`Error::Unfinished`], [`Error::NewerFormat`], [`Error::Corrupt`],
    /// [`Error::Io`].
    pub fn open(disk: Arc<dyn Disk>, options: Options) -> Result<Self, Error> {
        Ok(Self::of(Log::open(disk, Kind::Any, options, false)?))
    }

    pub(crate) fn of(log: Log) -> Self {
        Self {
            log,
            staged: Changes::new(),
        }
    }

    pub(crate) fn into_log(self) -> Log {
        self.log
    }

    read_the_log!();

    /// The value of a key, staged changes included.
    ///
    /// # Errors
    /// [`Error::Key`]; [`Error::Corrupt`], [`Error::Io`].
    pub fn get(&self, key: &[u8]) -> Result<Option<Vec<u8>>, Error> {
        match self.staged.0.get(key) {
            Some(staged) => Ok(staged.map(<[u8]>::to_vec)),
            None => self.log.value(key),
        }
    }

    /// The inactivity floor: no operation before it counts.
    #[must_use]
    pub fn floor(&self) -> Location {
        Location(self.log.state.floor)
    }

    /// Stages a value for a key.
    ///
    /// # Errors
    /// Those of [`Changes::update`].
    pub fn update(&mut self, key: &[u8], value: &[u8]) -> Result<(), Error> {
        self.staged.update(key, value)
    }

    /// Stages the deletion of a key.
    ///
    /// # Errors
    /// Those of [`Changes::delete`].
    pub fn delete(&mut self, key: &[u8]) -> Result<(), Error> {
        self.staged.delete(key)
    }

    /// Turns changes into operations on the present state, without the staged ones: sorted by key, then
    /// what the floor moves, then the commit with its metadata.
    ///
    /// # Errors
    /// [`Error::Metadata`]; [`Error::Corrupt`], [`Error::Io`].
    pub fn prepare(
        &self,
        changes: &Changes,
        metadata: Option<&[u8]>,
    ) -> Result<PreparedChanges, Error> {
        check_metadata(metadata)?;
        let mut draft = Draft {
            log: &self.log,
            changes,
            state: self.log.state,
            operations: Operations::new(),
            slots: Vec::new(),
        };
        draft.write_changes()?;
        draft.raise_floor()?;
        draft.finish(metadata).map(PreparedChanges)
    }

    /// Puts prepared changes in force. They are visible, but not durable before [`Any::commit`].
    ///
    /// # Errors
    /// [`Error::Stale`] if other changes came in between; [`Error::Poisoned`].
    pub fn apply(&mut self, prepared: PreparedChanges) -> Result<(), Error> {
        self.log.apply(prepared.0)
    }

    /// Applies what is staged, with a commit operation, and makes all that was applied durable: after a
    /// crash there is all of it or nothing. Without staged changes and metadata no operation is added. After a
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

    /// Forgets the operations before a location, at most the committed floor. Whole files go; proofs from
    /// there on stay possible.
    ///
    /// # Errors
    /// [`Error::NotInactive`]; [`Error::Poisoned`], [`Error::Io`].
    pub fn prune(&mut self, boundary: Location) -> Result<(), Error> {
        let floor = Location(self.log.durable.state.floor);
        self.log.prune(boundary, floor)
    }
}

/// Operations in the making.
struct Draft<'a> {
    log: &'a Log,
    changes: &'a Changes,
    state: crate::manifest::State,
    operations: Operations,
    slots: Vec<(Tag, Slot)>,
}

impl Draft<'_> {
    fn end(&self) -> u64 {
        self.log.leaves().0 + self.operations.len() as u64
    }

    fn write_changes(&mut self) -> Result<(), Error> {
        let sorted = self.changes.0.sorted();
        let keys: Vec<&[u8]> = sorted.iter().map(|(key, _)| *key).collect();
        let tags = self.log.tags(&keys);
        let present = self.log.find_many(&tags)?;
        self.operations = Operations::with_capacity(sorted.len());
        self.slots.reserve(sorted.len());
        for (((key, value), tag), was) in sorted.into_iter().zip(tags).zip(present) {
            let was = was.is_some();
            match value {
                Some(value) => {
                    self.write(tag, key, value);
                    self.state.active += u64::from(!was);
                }
                None if was => {
                    self.slots.push((tag, Slot::dead(self.end())));
                    self.operations.push(&Operation::Delete { key });
                    self.state.active = self.state.active.saturating_sub(1);
                }
                None => {}
            }
        }
        Ok(())
    }

    fn write(&mut self, tag: Tag, key: &[u8], value: &[u8]) {
        self.slots.push((tag, Slot::live(self.end())));
        self.operations.push(&Operation::Update { key, value });
    }

    /// Raises the floor while less than half of what is behind it counts, by a number of steps that the
    /// size of the batch bounds. A dead operation is passed, a live one appended anew.
    fn raise_floor(&mut self) -> Result<(), Error> {
        let changed = self.operations.len() as u64;
        let steps = changed * limits::FLOOR_STEPS + limits::FLOOR_SLACK;
        let wanted = self.state.active * 2 + limits::FLOOR_SLACK;
        for _ in 0..steps {
            let floor = self.state.floor;
            if self.end() - floor <= wanted || floor >= self.log.leaves().0 {
                break;
            }
            self.log
                .with_operation(Location(floor), |bytes| self.pass(floor, bytes))?;
            self.state.floor += 1;
        }
        Ok(())
    }

    fn pass(&mut self, at: u64, bytes: &[u8]) -> Result<(), Error> {
        let operation = Operation::decode(bytes).map_err(|detail| {
            Error::corrupt("the log", format_args!("operation {at}: {detail}"))
        })?;
        let Operation::Update { key, value } = operation else {
            return Ok(());
        };
        let tag = self.log.tag(key);
        let counts = self.log.find(tag)? == Some(Location(at));
        if counts && self.changes.0.get(key).is_none() {
            self.write(tag, key, value);
        }
        Ok(())
    }

    fn finish(mut self, metadata: Option<&[u8]>) -> Result<Prepared, Error> {
        self.state.last_commit = Some(Location(self.end()));
        self.operations.push(&Operation::Commit {
            floor: Location(self.state.floor),
            active: self.state.active,
            metadata,
        });
        let mut batch = self.log.mmr.batch();
        let leaves: Vec<&[u8]> = self.operations.iter().collect();
        batch.extend(&leaves, self.log.options.threads)?;
        Ok(Prepared {
            batch,
            operations: self.operations,
            changes: self.slots,
            state: self.state,
        })
    }
}
