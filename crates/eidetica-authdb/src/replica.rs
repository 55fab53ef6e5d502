//! Filling a database with operations that others have proven.

use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::Arc;

use eidetica_mmr::{Digest, Frontier, Leaves, Location};

use crate::files::{Fields, Name, SUM, checksum};
use crate::log::Log;
use crate::manifest::Manifest;
use crate::{Any, Disk, Error, Immutable, Kind, Operation, Operations, Options, limits};

/// A database that is being filled from others.
///
/// The caller verifies each range of operations against a target before it comes here, in any order. What
/// continues the log is appended, what is further ahead waits in files of its own. [`Replica::sync`] makes
/// the log durable; whatever was received and is lost in a crash is [`Replica::missing`] afterwards.
/// [`Replica::finish`] compares the root with the target's and turns the replica into a database. Until
/// then it does not open as one.
///
/// A replica begins empty, with [`Replica::reset`] behind a boundary whose peaks were proven, or as the
/// database of an earlier target.
pub struct Replica {
    log: Log,
    ahead: BTreeMap<u64, Ahead>,
}

/// A range that waits.
#[derive(Clone, Copy)]
struct Ahead {
    end: u64,
    bytes: u64,
}

impl Replica {
    /// Opens what is on a disk, or begins an empty replica.
    ///
    /// # Errors
    /// [`Error::OtherKind`], [`Error::NewerFormat`], [`Error::Corrupt`], [`Error::Io`].
    pub fn open(disk: Arc<dyn Disk>, kind: Kind, options: Options) -> Result<Self, Error> {
        let mut replica = Self {
            log: Log::open(disk, kind, options, true)?,
            ahead: BTreeMap::new(),
        };
        replica.load_ahead()?;
        Ok(replica)
    }

    /// Goes on from the database of an earlier target. What is staged in it, or applied and not committed,
    /// is lost.
    ///
    /// # Errors
    /// [`Error::Poisoned`].
    pub fn from_any(database: Any) -> Result<Self, Error> {
        Self::from_log(database.into_log())
    }

    /// Goes on from the database of an earlier target, like [`Replica::from_any`].
    ///
    /// # Errors
    /// [`Error::Poisoned`].
    pub fn from_immutable(database: Immutable) -> Result<Self, Error> {
        Self::from_log(database.into_log())
    }

    fn from_log(mut log: Log) -> Result<Self, Error> {
        log.rewind()?;
        let ahead = BTreeMap::new();
        Ok(Self { log, ahead })
    }

    /// How many operations are appended without a gap.
    #[must_use]
    pub fn leaves(&self) -> Leaves {
        self.log.leaves()
    }

    /// The first operation that is kept.
    #[must_use]
    pub fn boundary(&self) -> Location {
        self.log.first()
    }

    /// The root of what is appended.
    #[must_use]
    pub fn root(&self) -> Digest {
        self.log.root()
    }

    /// The size and the peaks of what is appended.
    #[must_use]
    pub fn frontier(&self) -> &Frontier {
        self.log.mmr.frontier()
    }

    /// The root at an earlier size, not before the boundary.
    ///
    /// # Errors
    /// [`Error::OutOfBounds`], [`Error::Pruned`]; [`Error::Corrupt`], [`Error::Io`].
    pub fn root_at(&self, leaves: Leaves) -> Result<Digest, Error> {
        self.log.root_at(leaves)
    }

    /// Whether it has begun and is not finished.
    #[must_use]
    pub fn is_syncing(&self) -> bool {
        self.log.syncing
    }

    /// Throws away everything and begins behind a boundary, of which the caller has verified the peaks.
    ///
    /// # Errors
    /// [`Error::Io`].
    pub fn reset(&mut self, boundary: Frontier) -> Result<(), Error> {
        let generation = self.log.generation + 1;
        let options = self.log.options.clone();
        let mut manifest = Manifest::new(self.log.kind, options.seed, boundary, generation);
        manifest.syncing = true;
        let files = crate::files::Files::new(self.log.files.disk(), options.cache_bytes);
        let begun = Log::begin(files, options, manifest);
        self.log = self.log.note(begun)?;
        self.ahead.clear();
        Ok(())
    }

    /// Like [`Replica::reset`], but of what is there nothing is thrown away: its files are renamed, `aside.` before each name, and
    /// left alone from then on. Without that prefix and in a directory of their own they open as what they were.
    /// `false` if files were set aside before, which stay, and these are thrown away.
    ///
    /// # Errors
    /// [`Error::Io`].
    pub fn set_aside(&mut self, boundary: Frontier) -> Result<bool, Error> {
        let kept = Manifest::set_aside(&self.log.files)?;
        self.reset(boundary)?;
        Ok(kept)
    }

    /// The ranges before a size that are neither appended nor waiting, ascending.
    #[must_use]
    pub fn missing(&self, leaves: Leaves) -> Vec<Range<Location>> {
        let mut missing = Vec::new();
        let mut next = self.leaves().0;
        for (start, ahead) in &self.ahead {
            if *start > next && next < leaves.0 {
                missing.push(Location(next)..Location((*start).min(leaves.0)));
            }
            next = next.max(ahead.end);
        }
        if next < leaves.0 {
            missing.push(Location(next)..leaves.next());
        }
        missing
    }

    /// Takes operations that the caller has verified, the first at `start`. What it has already is
    /// ignored. Nothing is durable before [`Replica::sync`].
    ///
    /// # Errors
    /// [`Error::Operation`] if one does not belong into a database of this type, and then none is taken;
    /// [`Error::TooFarAhead`] if they cannot be appended yet and too much waits already;
    /// [`Error::Poisoned`], [`Error::Io`].
    pub fn apply(&mut self, start: Location, operations: Operations) -> Result<(), Error> {
        self.log.check_writable()?;
        self.check(start, &operations)?;
        let end = start.0.saturating_add(operations.len() as u64);
        if end <= self.leaves().0 {
            return Ok(());
        }
        self.begin()?;
        if start.0 > self.leaves().0 {
            return self.put_ahead(start, &operations);
        }
        self.append(start.0, operations)?;
        self.take_ahead()
    }

    fn check(&self, start: Location, operations: &Operations) -> Result<(), Error> {
        for (operation, at) in operations.decoded().zip(start.0..) {
            let location = Location(at);
            let malformed = |detail| Error::Operation { location, detail };
            if !operation.map_err(malformed)?.belongs_to(self.log.kind) {
                return Err(malformed(crate::OperationError::Kind));
            }
        }
        Ok(())
    }

    /// From the first operation on it does not open as a database any more.
    fn begin(&mut self) -> Result<(), Error> {
        if self.log.syncing {
            return Ok(());
        }
        self.log.syncing = true;
        let stored = self.log.manifest().store(&self.log.files);
        self.log.note(stored)
    }

    fn append(&mut self, start: u64, operations: Operations) -> Result<(), Error> {
        let known = usize::try_from(self.leaves().0 - start).unwrap_or(usize::MAX);
        let operations = if known == 0 {
            operations
        } else {
            let mut rest = Operations::new();
            rest.extend_from(&operations, known, operations.len());
            rest
        };
        self.log.append(operations)?;
        self.log.write_out()?;
        let (count, bytes) = (self.log.tail.len(), self.log.tail.as_bytes().len());
        if count >= self.log.options.tail_operations || bytes >= self.log.options.tail_bytes {
            // Sealing is for what is durable.
            self.log.commit()?;
            self.log.check_writable()?;
        }
        Ok(())
    }

    /// Appends the ranges that wait no longer.
    fn take_ahead(&mut self) -> Result<(), Error> {
        while let Some((start, ahead)) = self.ahead.first_key_value().map(|(s, a)| (*s, *a)) {
            if start > self.leaves().0 {
                break;
            }
            self.ahead.remove(&start);
            let name = Name::Ahead(start);
            if ahead.end > self.leaves().0 {
                let bytes = self.log.files.read(name)?.unwrap_or_default();
                // If it was damaged meanwhile, it is missing again.
                if let Some(operations) = read_ahead(start, &bytes) {
                    self.append(start, operations)?;
                }
            }
            self.log.files.remove(name)?;
        }
        Ok(())
    }

    fn put_ahead(&mut self, start: Location, operations: &Operations) -> Result<(), Error> {
        let end = start.0 + operations.len() as u64;
        if self
            .ahead
            .get(&start.0)
            .is_some_and(|ahead| ahead.end >= end)
        {
            return Ok(());
        }
        let bytes = operations.as_bytes().len() as u64;
        let waiting: u64 = self.ahead.values().map(|ahead| ahead.bytes).sum();
        if self.ahead.len() >= limits::AHEAD_RANGES || waiting + bytes > limits::AHEAD_BYTES {
            return Err(Error::TooFarAhead);
        }
        let name = Name::Ahead(start.0);
        let mut out = Vec::with_capacity(operations.as_bytes().len() + 8 + SUM);
        out.extend_from_slice(&(operations.len() as u64).to_le_bytes());
        out.extend_from_slice(operations.as_bytes());
        let sum = checksum(name, 0, &out);
        out.extend_from_slice(&sum);
        let file = self.log.files.create(name)?;
        crate::files::write(&*file, name, 0, &out)?;
        self.ahead.insert(start.0, Ahead { end, bytes });
        Ok(())
    }

    /// Finds the ranges that waited when the replica was closed.
    fn load_ahead(&mut self) -> Result<(), Error> {
        for name in self.log.files.list()? {
            let Name::Ahead(start) = name else { continue };
            let bytes = self.log.files.read(name)?.unwrap_or_default();
            match read_ahead(start, &bytes) {
                Some(operations) => {
                    let end = start + operations.len() as u64;
                    let bytes = operations.as_bytes().len() as u64;
                    self.ahead.insert(start, Ahead { end, bytes });
                }
                None => self.log.files.remove(name)?,
            }
        }
        self.take_ahead()
    }

    /// Makes what is appended durable.
    ///
    /// # Errors
    /// [`Error::Poisoned`], [`Error::Io`].
    pub fn sync(&mut self) -> Result<(), Error> {
        self.log.commit()
    }

    /// Compares with a target: its root, its size, and its lower bound, before which nothing counts. If all
    /// is there, makes it durable and a database, with everything before the lower bound pruned.
    ///
    /// # Errors
    /// [`Error::Target`] if the size is not reached or passed, the last operation is no commit, or the lower bound
    /// is not one of this database; [`Error::WrongRoot`]. The replica is as it was then.
    /// [`Error::Poisoned`], [`Error::Corrupt`], [`Error::Io`].
    pub fn finish(&mut self, root: Digest, leaves: Leaves, lower: Location) -> Result<(), Error> {
        self.log.check_writable()?;
        self.check_target(root, leaves, lower)?;
        self.log.commit()?;
        self.log.check_writable()?;
        if self.log.syncing {
            self.log.syncing = false;
            let stored = self.log.manifest().store(&self.log.files);
            self.log.note(stored)?;
        }
        self.log.prune(lower, leaves.next())?;
        for (start, _) in std::mem::take(&mut self.ahead) {
            self.log.files.remove(Name::Ahead(start))?;
        }
        Ok(())
    }

    fn check_target(&self, root: Digest, leaves: Leaves, lower: Location) -> Result<(), Error> {
        let target = |detail| Error::Target { detail };
        if self.leaves() != leaves {
            return Err(target("the operations are more or fewer"));
        }
        let found = self.root();
        if found != root {
            return Err(Error::WrongRoot {
                expected: root,
                found,
            });
        }
        let commit = self.log.state.last_commit;
        if commit.map(|location| location.0 + 1) != Some(leaves.0) {
            return Err(target("the last operation is no commit"));
        }
        let needed = match self.log.kind {
            Kind::Any => self.log.state.floor,
            Kind::Immutable => leaves.0,
        };
        if lower.0 > needed || lower < self.log.first() && self.log.kind == Kind::Any {
            return Err(target(
                "the lower bound is above the floor or before the first operation",
            ));
        }
        if self.log.kind == Kind::Any && self.log.first().0 > self.log.state.floor {
            return Err(target("operations that count are before the first one"));
        }
        Ok(())
    }

    /// The finished database.
    ///
    /// # Errors
    /// [`Error::OtherKind`], [`Error::Unfinished`].
    pub fn into_any(self) -> Result<Any, Error> {
        self.into_log(Kind::Any).map(Any::of)
    }

    /// The finished database.
    ///
    /// # Errors
    /// [`Error::OtherKind`], [`Error::Unfinished`].
    pub fn into_immutable(self) -> Result<Immutable, Error> {
        self.into_log(Kind::Immutable).map(Immutable::of)
    }

    fn into_log(self, kind: Kind) -> Result<Log, Error> {
        if self.log.kind != kind {
            return Err(Error::OtherKind);
        }
        if self.log.syncing {
            return Err(Error::Unfinished);
        }
        Ok(self.log)
    }

    /// Looks at an operation that is appended.
    ///
    /// # Errors
    /// [`Error::OutOfBounds`], [`Error::Pruned`]; [`Error::Corrupt`], [`Error::Io`].
    pub fn operation<R>(
        &self,
        location: Location,
        look: impl FnOnce(Operation<'_>) -> R,
    ) -> Result<R, Error> {
        self.log.with_operation(location, |bytes| {
            let operation = Operation::decode(bytes);
            operation
                .map(look)
                .map_err(|detail| Error::Operation { location, detail })
        })
    }
}

/// The operations of a file of a range that waits, if it is whole.
fn read_ahead(start: u64, bytes: &[u8]) -> Option<Operations> {
    let (body, sum) = bytes.split_last_chunk::<SUM>()?;
    if checksum(Name::Ahead(start), 0, body) != *sum {
        return None;
    }
    let mut fields = Fields(body);
    let count = usize::try_from(fields.u64()?).ok()?;
    let operations = Operations::parse(fields.0.to_vec(), Location(start), count).ok()?;
    (operations.len() == count).then_some(operations)
}
