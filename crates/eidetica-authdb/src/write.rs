//! Changing the log: appending, making durable, sealing, pruning.

use std::sync::Arc;

use eidetica_mmr::{Batch, Leaves, Location};

use crate::block::{self, Block, Entry, Table};
use crate::files::{self, Name, PAGE, SUM};
use crate::log::{Durable, Log, PER_PAGE, side, stored_nodes};
use crate::manifest::{Head, Manifest, Segment, State};
use crate::run::{Slot, Tag};
use crate::{Error, Kind, Operation, OperationError, Operations, limits};

/// Operations that are to be appended: what they change, and the range with them.
pub(crate) struct Prepared {
    pub(crate) batch: Batch,
    pub(crate) operations: Operations,
    pub(crate) changes: Vec<(Tag, Slot)>,
    pub(crate) state: State,
}

impl Log {
    /// Refuses to go on after a failed write.
    pub(crate) fn check_writable(&self) -> Result<(), Error> {
        match &self.failed {
            Some(first) => Err(Error::Poisoned {
                first: first.clone(),
            }),
            None => Ok(()),
        }
    }

    /// Notes a failure of what may have been half done.
    pub(crate) fn note<T>(&mut self, result: Result<T, Error>) -> Result<T, Error> {
        if let Err(error) = &result {
            self.failed
                .get_or_insert_with(|| Arc::from(error.to_string()));
        }
        result
    }

    /// Appends in memory: visible to reads, not written.
    pub(crate) fn apply(&mut self, prepared: Prepared) -> Result<(), Error> {
        self.check_writable()?;
        self.mmr.apply(prepared.batch)?;
        let count = prepared.operations.len();
        self.tail.extend_from(&prepared.operations, 0, count);
        self.index.put(prepared.changes);
        self.state = prepared.state;
        Ok(())
    }

    /// What operations that were checked change, as those of the next locations.
    pub(crate) fn effects(
        &self,
        operations: &Operations,
    ) -> Result<(Vec<(Tag, Slot)>, State), Error> {
        let mut keys = Vec::with_capacity(operations.len());
        let mut slots = Vec::with_capacity(operations.len());
        let mut state = self.state;
        for (operation, at) in operations.decoded().zip(self.leaves().0..) {
            let location = Location(at);
            let operation = operation.map_err(|detail| Error::Operation { location, detail })?;
            match operation {
                Operation::Update { key, .. } | Operation::Set { key, .. } => {
                    keys.push(key);
                    slots.push(Slot::live(at));
                }
                Operation::Delete { key } => {
                    keys.push(key);
                    slots.push(Slot::dead(at));
                }
                Operation::Commit { floor, active, .. } => {
                    if floor > location || floor.0 < state.floor {
                        let detail = OperationError::Floor;
                        return Err(Error::Operation { location, detail });
                    }
                    if active > at {
                        let detail = OperationError::Active;
                        return Err(Error::Operation { location, detail });
                    }
                    state = State {
                        floor: floor.0,
                        active,
                        last_commit: Some(location),
                    };
                }
            }
        }
        let changes = self.tags(&keys).into_iter().zip(slots);
        Ok((changes.collect(), state))
    }

    /// Appends operations that were checked, in memory.
    pub(crate) fn append(&mut self, operations: Operations) -> Result<(), Error> {
        let (changes, state) = self.effects(&operations)?;
        let mut batch = self.mmr.batch();
        let leaves: Vec<&[u8]> = operations.iter().collect();
        batch.extend(&leaves, self.options.threads)?;
        self.apply(Prepared {
            batch,
            operations,
            changes,
            state,
        })
    }

    /// Takes back what was applied and not written.
    pub(crate) fn rewind(&mut self) -> Result<(), Error> {
        self.check_writable()?;
        self.mmr.rewind(Leaves(self.durable.leaves))?;
        let kept = self.durable.leaves - self.tail_first();
        self.tail
            .truncate(usize::try_from(kept).unwrap_or(usize::MAX));
        self.index.rewind();
        self.state = self.durable.state;
        Ok(())
    }

    /// Writes what was applied, without waiting for the disk.
    pub(crate) fn write_out(&mut self) -> Result<(), Error> {
        self.check_writable()?;
        let written =
            usize::try_from(self.durable.leaves - self.tail_first()).unwrap_or(usize::MAX);
        if written >= self.tail.len() {
            return Ok(());
        }
        let log = self.tail_first();
        let place = (log, self.file_end, self.epoch);
        let (bytes, placed) = block::encode(&self.tail, written, self.durable.leaves, place);
        let result = files::write(&*self.file, Name::Log(log), self.file_end, &bytes);
        self.note(result)?;
        self.unsynced = true;
        self.file_end += bytes.len() as u64;
        self.blocks.extend(placed);
        self.index.keep();
        self.durable = Durable {
            leaves: self.leaves().0,
            state: self.state,
        };
        Ok(())
    }

    /// Makes all that was applied durable, as one.
    pub(crate) fn commit(&mut self) -> Result<(), Error> {
        self.write_out()?;
        if !self.unsynced {
            return Ok(());
        }
        let result = files::sync(&*self.file, Name::Log(self.tail_first()));
        self.note(result)?;
        self.synced = self.durable.leaves;
        let head = Head {
            generation: self.generation,
            epoch: self.epoch,
            leaves: self.durable.leaves,
        };
        self.epoch += 1;
        self.unsynced = false;
        // From here on it is durable; what fails now concerns the next commit.
        if let Err(error) = head.store(&*self.head).and_then(|()| self.seal_if_full()) {
            self.failed
                .get_or_insert_with(|| Arc::from(error.to_string()));
        }
        Ok(())
    }

    pub(crate) fn seal_if_full(&mut self) -> Result<(), Error> {
        let full = self.tail.len() >= self.options.tail_operations
            || self.tail.as_bytes().len() >= self.options.tail_bytes;
        if full && !self.tail.is_empty() {
            self.seal()
        } else {
            Ok(())
        }
    }

    /// Ends the segment that was written to, which is durable, and begins the next.
    fn seal(&mut self) -> Result<(), Error> {
        if self.segments.len() >= limits::SEGMENTS {
            return Err(Error::TooManySegments);
        }
        let (first, end) = (self.tail_first(), self.leaves().0);
        let entries = self.blocks.iter().map(|(location, offset)| Entry {
            first: u32::try_from(location - first).unwrap_or(u32::MAX),
            offset: *offset,
        });
        let table = Table {
            entries: entries.collect(),
        };
        let segment = Segment {
            first,
            end,
            log_bytes: self.file_end,
            blocks: table.entries.len() as u64,
        };
        let side = side(&segment, &table, &self.mmr)?;
        self.files.put(Name::Side(first), &side)?;
        let (kind, floor) = (self.kind, self.state.floor);
        let keep = |slot: Slot| kind == Kind::Immutable || slot.location() >= floor;
        let mut next_run = self.next_run;
        let runs = self.index.sealed(&self.files, &mut next_run, &keep)?;
        let file = self.files.create(Name::Log(end))?;
        files::sync(&*file, Name::Log(end))?;
        // Also those that were written and merged at once.
        let created = self.next_run..next_run;
        let replaced: Vec<u64> = self
            .index
            .infos()
            .iter()
            .map(|run| run.id)
            .chain(created)
            .collect();

        let mut manifest = self.manifest();
        manifest.sealed = self.mmr.frontier().clone();
        manifest.state = self.state;
        manifest.segments.push(segment);
        manifest.runs = runs.iter().map(|run| run.info).collect();
        manifest.next_run = next_run;
        manifest.store(&self.files)?;

        self.index.adopt(runs);
        self.segments.push(segment);
        self.next_run = next_run;
        self.sealed_state = self.state;
        self.mmr.prune(Location(end))?;
        self.keep_sealed(&segment, &side);
        self.tail.clear();
        self.blocks.clear();
        self.file = file;
        self.file_end = 0;
        let present = self.index.infos();
        let gone = replaced
            .into_iter()
            .filter(|id| present.iter().all(|run| run.id != *id));
        gone.into_iter()
            .try_for_each(|id| self.files.remove(Name::Run(id)))
    }

    /// What was sealed is what replicas will ask for first: it need not be read, checked and parsed again for that. A
    /// database that is being filled is asked for nothing yet.
    fn keep_sealed(&self, segment: &Segment, side: &[u8]) {
        if self.syncing {
            return;
        }
        let pages = stored_nodes(segment).div_ceil(PER_PAGE);
        for (page, number) in side.chunks(PAGE).zip(0..pages) {
            let body = page.get(..PAGE - SUM).unwrap_or_default();
            self.files
                .keep_page(Name::Side(segment.first), number, body);
        }
        let ends = self.blocks.iter().skip(1).map(|(location, _)| *location);
        for ((location, offset), end) in self.blocks.iter().zip(ends.chain([segment.end])) {
            let index =
                |location: u64| usize::try_from(location - segment.first).unwrap_or(usize::MAX);
            let mut operations = Operations::new();
            operations.extend_from(&self.tail, index(*location), index(end));
            let first = *location;
            self.files
                .keep_block(segment.first, *offset, Block { first, operations });
        }
    }

    /// The manifest as of the last seal.
    pub(crate) fn manifest(&self) -> Manifest {
        Manifest {
            kind: self.kind,
            syncing: self.syncing,
            fresh: false,
            seed: self.options.seed,
            generation: self.generation,
            epoch: self.epoch,
            next_run: self.next_run,
            boundary: self.boundary.clone(),
            sealed: self.mmr.pinned().clone(),
            state: self.sealed_state,
            segments: self.segments.clone(),
            runs: self.index.infos(),
        }
    }

    /// Forgets all operations before one that is not after `floor`. Files go when all in them is forgotten.
    pub(crate) fn prune(&mut self, boundary: Location, floor: Location) -> Result<(), Error> {
        self.check_writable()?;
        if boundary <= self.first() {
            return Ok(());
        }
        if boundary > floor {
            return Err(Error::NotInactive {
                asked: boundary,
                floor,
            });
        }
        let pinned = self.frontier_at(boundary.before())?;
        let (gone, kept): (Vec<Segment>, Vec<Segment>) = self
            .segments
            .iter()
            .partition(|segment| segment.end <= boundary.0);
        let mut manifest = self.manifest();
        manifest.boundary = pinned.clone();
        manifest.segments.clone_from(&kept);
        let stored = manifest.store(&self.files);
        self.note(stored)?;
        self.boundary = pinned;
        self.segments = kept;
        let removed = gone.iter().try_for_each(|segment| {
            self.files.remove(Name::Log(segment.first))?;
            self.files.remove(Name::Side(segment.first))
        });
        self.note(removed)
    }
}
