//! The manifest: which files make up a database, replaced as a whole; and the head, a note of what was
//! durable last.

use eidetica_mmr::{Digest, Frontier, Leaves, Location};

use crate::files::{self, Fields, Files, Name, SUM, checksum};
use crate::run::RunInfo;
use crate::{DiskFile, Error, Kind, limits};

const MAGIC: [u8; 8] = *b"EAdbMan\0";
const FORMAT: u32 = 1;

/// A part of the log that does not change any more.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Segment {
    pub(crate) first: u64,
    pub(crate) end: u64,
    pub(crate) log_bytes: u64,
    pub(crate) blocks: u64,
}

/// What the operations so far lead to, besides values.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct State {
    pub(crate) floor: u64,
    pub(crate) active: u64,
    pub(crate) last_commit: Option<Location>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Manifest {
    pub(crate) kind: Kind,
    /// Whether it is being filled from others and not complete.
    pub(crate) syncing: bool,
    /// Whether the files of before have still to be removed and the first ones made.
    pub(crate) fresh: bool,
    pub(crate) seed: [u8; 32],
    /// Counts how often the database was begun anew.
    pub(crate) generation: u64,
    /// How often the log had been made durable.
    pub(crate) epoch: u64,
    pub(crate) next_run: u64,
    /// The size before the first operation that is kept, and its peaks.
    pub(crate) boundary: Frontier,
    /// The size at which the log that is written to begins, its peaks, and what led there.
    pub(crate) sealed: Frontier,
    pub(crate) state: State,
    pub(crate) segments: Vec<Segment>,
    pub(crate) runs: Vec<RunInfo>,
}

impl Manifest {
    pub(crate) fn new(kind: Kind, seed: [u8; 32], boundary: Frontier, generation: u64) -> Self {
        Self {
            kind,
            syncing: false,
            fresh: true,
            seed,
            generation,
            epoch: 0,
            next_run: 0,
            sealed: boundary.clone(),
            boundary,
            state: State::default(),
            segments: Vec::new(),
            runs: Vec::new(),
        }
    }

    /// Puts it in place of the present one, durably.
    pub(crate) fn store(&self, files: &Files) -> Result<(), Error> {
        files.put(Name::ManifestNew, &self.encode())?;
        files.rename(Name::ManifestNew, Name::Manifest)?;
        files.sync_names()
    }

    pub(crate) fn load(files: &Files) -> Result<Option<Self>, Error> {
        let bytes = files.read(Name::Manifest)?;
        bytes.map(|bytes| Self::decode(&bytes)).transpose()
    }

    /// Notes that the files of the present generation are kept when the next one begins. `false` if those of an earlier one
    /// are kept already, or what looks like them.
    pub(crate) fn set_aside(files: &Files) -> Result<bool, Error> {
        let Some(present) = files.read(Name::Manifest)? else {
            return Ok(false);
        };
        let generation = Self::decode(&present)?.generation;
        match files.read(Name::AsideManifest)? {
            Some(_) if !Self::is_aside(files, generation)? => return Ok(false),
            _ => {}
        }
        files.put(Name::ManifestNew, &present)?;
        files.rename(Name::ManifestNew, Name::AsideManifest)?;
        files.sync_names()?;
        Ok(true)
    }

    /// Whether the files of a generation are to be kept.
    pub(crate) fn is_aside(files: &Files, generation: u64) -> Result<bool, Error> {
        let bytes = files.read(Name::AsideManifest)?;
        let aside = bytes.and_then(|bytes| Self::decode(&bytes).ok());
        Ok(aside.is_some_and(|aside| aside.generation == generation))
    }

    fn encode(&self) -> Vec<u8> {
        let mut out = Vec::new();
        out.extend_from_slice(&MAGIC);
        out.extend_from_slice(&FORMAT.to_le_bytes());
        let kind = match self.kind {
            Kind::Any => 1,
            Kind::Immutable => 2,
        };
        out.extend_from_slice(&[kind, u8::from(self.syncing), u8::from(self.fresh), 0]);
        out.extend_from_slice(&self.seed);
        let commit = self.state.last_commit.map_or(0, |location| location.0 + 1);
        let numbers = [
            self.generation,
            self.epoch,
            self.next_run,
            self.state.floor,
            self.state.active,
            commit,
            self.segments.len() as u64,
            self.runs.len() as u64,
        ];
        numbers
            .iter()
            .for_each(|n| out.extend_from_slice(&n.to_le_bytes()));
        for frontier in [&self.boundary, &self.sealed] {
            out.extend_from_slice(&frontier.leaves().0.to_le_bytes());
            frontier
                .peaks()
                .iter()
                .for_each(|peak| out.extend_from_slice(peak.as_bytes()));
        }
        let segments = self
            .segments
            .iter()
            .flat_map(|s| [s.first, s.end, s.log_bytes, s.blocks]);
        let runs = self
            .runs
            .iter()
            .flat_map(|r| [r.id, u64::from(r.level), r.entries, r.filter]);
        segments
            .chain(runs)
            .for_each(|n| out.extend_from_slice(&n.to_le_bytes()));
        let sum = checksum(Name::Manifest, 0, &out);
        out.extend_from_slice(&sum);
        out
    }

    fn decode(bytes: &[u8]) -> Result<Self, Error> {
        let damaged = |detail: &str| Error::corrupt(Name::Manifest, detail);
        let (body, sum) = bytes
            .split_last_chunk::<SUM>()
            .ok_or_else(|| damaged("it is too short"))?;
        if checksum(Name::Manifest, 0, body) != *sum {
            return Err(damaged("it has another checksum"));
        }
        let mut fields = Fields(body);
        if fields.take() != Some(MAGIC) {
            return Err(damaged("it is something else"));
        }
        match fields.u32() {
            Some(FORMAT) => {}
            Some(found) if found > FORMAT => return Err(Error::NewerFormat { found }),
            _ => return Err(damaged("it has no format")),
        }
        let manifest = Self::fields(&mut fields).ok_or_else(|| damaged("it does not add up"))?;
        if fields.0.is_empty() && manifest.adds_up() {
            Ok(manifest)
        } else {
            Err(damaged("it does not add up"))
        }
    }

    fn fields(fields: &mut Fields<'_>) -> Option<Self> {
        let [kind, syncing, fresh, _] = fields.take::<4>()?;
        let kind = match kind {
            1 => Kind::Any,
            2 => Kind::Immutable,
            _ => return None,
        };
        let seed = fields.take()?;
        let (generation, epoch, next_run) = (fields.u64()?, fields.u64()?, fields.u64()?);
        let state = State {
            floor: fields.u64()?,
            active: fields.u64()?,
            last_commit: fields.u64()?.checked_sub(1).map(Location),
        };
        let (segments, runs) = (fields.u64()?, fields.u64()?);
        if segments > limits::SEGMENTS as u64 || runs > limits::RUNS as u64 {
            return None;
        }
        let (boundary, sealed) = (frontier(fields)?, frontier(fields)?);
        let segments = (0..segments).map(|_| {
            Some(Segment {
                first: fields.u64()?,
                end: fields.u64()?,
                log_bytes: fields.u64()?,
                blocks: fields.u64()?,
            })
        });
        let segments = segments.collect::<Option<_>>()?;
        let runs = (0..runs).map(|_| {
            Some(RunInfo {
                id: fields.u64()?,
                level: u32::try_from(fields.u64()?).ok()?,
                entries: fields.u64()?,
                filter: fields.u64()?,
            })
        });
        let runs = runs.collect::<Option<_>>()?;
        Some(Self {
            kind,
            syncing: syncing == 1,
            fresh: fresh == 1,
            seed,
            generation,
            epoch,
            next_run,
            boundary,
            sealed,
            state,
            segments,
            runs,
        })
    }

    /// Whether the segments lead without gaps from the boundary to the log that is written to.
    fn adds_up(&self) -> bool {
        let boundary = self.boundary.leaves().0;
        let begins = self
            .segments
            .first()
            .is_none_or(|segment| segment.first <= boundary);
        let mut next = self
            .segments
            .first()
            .map_or(boundary, |segment| segment.first);
        let gapless = self.segments.iter().all(|segment| {
            let fits = segment.first == next && segment.end > segment.first;
            next = segment.end;
            fits
        });
        begins && gapless && (next == self.sealed.leaves().0 || self.segments.is_empty())
    }
}

fn frontier(fields: &mut Fields<'_>) -> Option<Frontier> {
    let leaves = Leaves(fields.u64()?);
    let peaks = (0..leaves.0.count_ones()).map(|_| fields.take().map(Digest::new));
    Frontier::from_peaks(leaves, peaks.collect::<Option<_>>()?).ok()
}

/// What was durable last. It is written after that, without waiting for it to be durable itself: it can be
/// older than the log, never newer. So a log that ends before it has lost what was committed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Head {
    pub(crate) generation: u64,
    pub(crate) epoch: u64,
    pub(crate) leaves: u64,
}

const SLOT: usize = 40;

impl Head {
    /// Writes over the older of the two notes.
    pub(crate) fn store(&self, file: &dyn DiskFile) -> Result<(), Error> {
        let mut slot = Vec::with_capacity(SLOT);
        for number in [self.generation, self.epoch, self.leaves] {
            slot.extend_from_slice(&number.to_le_bytes());
        }
        let sum = checksum(Name::Head, 0, &slot);
        slot.extend_from_slice(&sum);
        files::write(file, Name::Head, self.epoch % 2 * SLOT as u64, &slot)
    }

    /// Writes two empty notes.
    pub(crate) fn create(files: &Files) -> Result<(), Error> {
        files.put(Name::Head, &[0; 2 * SLOT])
    }

    /// The later of the whole notes of a generation.
    pub(crate) fn load(files: &Files, generation: u64) -> Result<Option<Self>, Error> {
        let bytes = files.read(Name::Head)?.unwrap_or_default();
        let slots = bytes.chunks(SLOT).filter_map(Self::parse);
        Ok(slots
            .filter(|head| head.generation == generation)
            .max_by_key(|head| head.epoch))
    }

    fn parse(slot: &[u8]) -> Option<Self> {
        let (body, sum) = slot.split_last_chunk::<SUM>()?;
        let mut fields = Fields(body);
        let head = Self {
            generation: fields.u64()?,
            epoch: fields.u64()?,
            leaves: fields.u64()?,
        };
        (checksum(Name::Head, 0, body) == *sum).then_some(head)
    }
}
