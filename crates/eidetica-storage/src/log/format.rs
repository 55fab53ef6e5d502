//! The format of all rows of an engine: which one it is, how an older one becomes the present one, and what an engine
//! is that rows are being copied into.
//!
//! One number stands for the rows of every layer. An older format is brought to the present one when the engine is
//! opened, by a chain of [`Upgrade`]s from each format to the next; a newer one is refused. A step of a chain is one
//! batch, or several that go on where the last one ended, after a crash too: from the first of them on the format row
//! names the new format, so that an older program refuses what is half done.
//!
//! The small rows about all this are read and written here alone.

use bytes::Bytes;

use super::LogError;
use super::rows::{checked_sum, put_sum};
use crate::{Batch, Durability, Engine, EngineError, Snapshot, Space};

/// The format that this build reads and writes.
pub const FORMAT: u32 = 1;

/// The ways up to [`FORMAT`]. There was no other one yet.
const UPGRADES: &[Upgrade] = &[];

const FORMAT_KEY: [u8; 2] = *b"Lf";
/// How far an upgrade has come.
const UPGRADE_KEY: [u8; 2] = *b"Lg";
/// There while rows are copied into the engine.
const COPYING_KEY: [u8; 2] = *b"Lx";
/// There until a copy of an instance has become a device of its own.
const NEW_DEVICE_KEY: [u8; 2] = *b"Lk";

/// How rows of one format become rows of the next.
#[derive(Clone, Copy)]
pub struct Upgrade {
    /// The format at which it begins; it ends at the next.
    pub from: u32,
    /// Stages a bounded part of the work. It gets the rows as they are, and where the last part ended: nothing the first
    /// time.
    ///
    /// A part and where it ended are one batch, so that each is done exactly once.
    pub part: fn(&dyn Snapshot, &[u8], &mut Batch) -> Result<Part, LogError>,
}

/// What a part of an [`Upgrade`] leaves.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Part {
    /// There is more to do, from here.
    More(Vec<u8>),
    /// Nothing is left.
    Last,
}

/// Brings the rows of an engine to [`FORMAT`]; an engine without any gets the format row.
///
/// # Errors
/// Those of [`check_with`].
pub(super) fn check(engine: &dyn Engine) -> Result<(), LogError> {
    check_with(engine, FORMAT, UPGRADES)
}

/// Brings the rows of an engine to the format `supported`, in steps of `upgrades`.
///
/// # Errors
/// [`LogError::NewerFormat`]; [`LogError::OlderFormat`] where no step leads on; [`LogError::Unfinished`] while rows are
/// being copied into the engine; a damaged row; the engine's.
pub fn check_with(
    engine: &dyn Engine,
    supported: u32,
    upgrades: &[Upgrade],
) -> Result<(), LogError> {
    while let Some(batch) = next_step(&*engine.snapshot()?, supported, upgrades)? {
        match engine.write(&batch, Durability::Durable) {
            // Another process was faster: see what it wrote.
            Ok(()) | Err(EngineError::PreconditionFailed { .. }) => {}
            Err(error) => return Err(error.into()),
        }
    }
    Ok(())
}

/// What is to be written next; nothing where all is as it should be.
fn next_step(
    snapshot: &dyn Snapshot,
    supported: u32,
    upgrades: &[Upgrade],
) -> Result<Option<Batch>, LogError> {
    let mut batch = Batch::new();
    let mut read = |key: [u8; 2]| -> Result<Option<Bytes>, LogError> {
        let value = snapshot.get(Space::Meta, &key)?;
        batch.expect(Space::Meta, &key, value.as_deref());
        Ok(value)
    };
    if read(COPYING_KEY)?.is_some() {
        return Err(LogError::Unfinished);
    }
    let (format, upgrade) = (read(FORMAT_KEY)?, read(UPGRADE_KEY)?);
    let Some(format) = format else {
        put_sum(&FORMAT_KEY, &[&supported.to_le_bytes()], &mut batch);
        return Ok(Some(batch));
    };
    let found = decode_format(&format)?;
    if found > supported {
        return Err(LogError::NewerFormat { found, supported });
    }
    let at = upgrade.as_deref().map(decode_place).transpose()?;
    if found == supported && at.is_none() {
        return Ok(None);
    }
    let from = if at.is_some() { found - 1 } else { found };
    let step = upgrades.iter().find(|upgrade| upgrade.from == from);
    let step = step.ok_or(LogError::OlderFormat {
        found: from,
        supported,
    })?;
    let part = (step.part)(snapshot, at.unwrap_or_default(), &mut batch)?;
    put_sum(&FORMAT_KEY, &[&(from + 1).to_le_bytes()], &mut batch);
    match part {
        Part::More(place) => put_sum(&UPGRADE_KEY, &[&place], &mut batch),
        Part::Last => batch.delete(Space::Meta, &UPGRADE_KEY),
    }
    Ok(Some(batch))
}

fn decode_format(value: &[u8]) -> Result<u32, LogError> {
    let format = checked_sum(&FORMAT_KEY, value).and_then(|rest| rest.try_into().ok());
    format
        .map(u32::from_le_bytes)
        .filter(|format| *format > 0)
        .ok_or_else(|| LogError::corrupt("entry log format row", "does not decode"))
}

fn decode_place(value: &[u8]) -> Result<&[u8], LogError> {
    checked_sum(&UPGRADE_KEY, value)
        .ok_or_else(|| LogError::corrupt("upgrade row", "does not decode"))
}

/// The format of the rows in a snapshot; `None` where there are none of ours.
///
/// # Errors
/// [`LogError::Unfinished`] while rows are being copied into the engine; a damaged row; the engine's.
pub fn stored(snapshot: &dyn Snapshot) -> Result<Option<u32>, LogError> {
    if Copying::read(snapshot)?.is_some() {
        return Err(LogError::Unfinished);
    }
    let value = snapshot.get(Space::Meta, &FORMAT_KEY)?;
    value.as_deref().map(decode_format).transpose()
}

/// How far rows have been copied into an engine from elsewhere. While it stands there, nothing else opens the engine.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Copying {
    /// Names what is copied.
    pub source: [u8; 32],
    /// Parts that are here.
    pub parts: u64,
}

impl Copying {
    /// What is being copied into the engine, if anything.
    ///
    /// # Errors
    /// A damaged row, the engine's.
    pub fn read(snapshot: &dyn Snapshot) -> Result<Option<Self>, LogError> {
        let decode = |value: &[u8]| {
            let (source, parts) = checked_sum(&COPYING_KEY, value)?.split_first_chunk()?;
            Some(Self {
                source: *source,
                parts: u64::from_le_bytes(parts.try_into().ok()?),
            })
        };
        let value = snapshot.get(Space::Meta, &COPYING_KEY)?;
        let damaged = || LogError::corrupt("copying row", "does not decode");
        value
            .map(|value| decode(&value).ok_or_else(damaged))
            .transpose()
    }

    /// Whether a row is that of a copy in progress, which is itself never copied.
    #[must_use]
    pub fn is_row(space: Space, key: &[u8]) -> bool {
        space == Space::Meta && key == COPYING_KEY
    }

    /// Stages the beginning of a copy: into an engine that has no rows of ours.
    pub fn stage_first(&self, batch: &mut Batch) {
        batch.expect(Space::Meta, &COPYING_KEY, None);
        batch.expect(Space::Meta, &FORMAT_KEY, None);
        self.put(batch);
    }

    /// Stages that the copy is now as far as `next`, on condition that it was as far as this.
    pub fn stage_next(&self, next: &Self, batch: &mut Batch) {
        self.expect(batch);
        next.put(batch);
    }

    /// Stages the end of the copy, on condition that it was as far as this.
    pub fn stage_last(&self, batch: &mut Batch) {
        self.expect(batch);
        batch.delete(Space::Meta, &COPYING_KEY);
    }

    fn expect(&self, batch: &mut Batch) {
        let mut row = Batch::new();
        self.put(&mut row);
        for step in row.iter() {
            if let crate::Step::Put(space, key, value) = step {
                batch.expect(space, key, Some(value));
            }
        }
    }

    fn put(&self, batch: &mut Batch) {
        let parts = self.parts.to_le_bytes();
        put_sum(&COPYING_KEY, &[&self.source, &parts], batch);
    }
}

/// Stages that these rows are a copy of an instance that goes on elsewhere: whoever opens them has to become a device of
/// its own first.
pub fn stage_new_device(batch: &mut Batch) {
    put_sum(&NEW_DEVICE_KEY, &[], batch);
}

/// Stages that it has become one.
pub fn stage_is_device(batch: &mut Batch) {
    batch.delete(Space::Meta, &NEW_DEVICE_KEY);
}

/// Whether the rows are a copy that has not become a device of its own yet.
///
/// # Errors
/// The engine's.
pub fn wants_new_device(snapshot: &dyn Snapshot) -> Result<bool, LogError> {
    Ok(snapshot.get(Space::Meta, &NEW_DEVICE_KEY)?.is_some())
}
