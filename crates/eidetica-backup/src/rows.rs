//! Rows as bytes, in frames, and what is counted of them.

use std::fmt;
use std::ops::ControlFlow;

use eidetica_storage::limits::{KEY_BYTES, VALUE_BYTES};
use eidetica_storage::log::format::Copying;
use eidetica_storage::{DAMAGED, Direction, EngineError, KeyRange, ScanLimit, Snapshot, Space};

use crate::salvage::behind_damage;
use crate::{BackupError, limits};

/// Bytes of a row before its key.
pub(crate) const ROW_HEAD: usize = 1 + 2 + 4;

const SPACES: usize = Space::ALL.len();

/// A hash of rows and their order, whatever frames they came in.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct Digest(pub [u8; 32]);

impl fmt::Display for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl fmt::Debug for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Digest({self})")
    }
}

/// How many rows there are, and bytes of keys and values in them, by the number of their space.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Totals {
    /// Frames.
    pub frames: u64,
    /// Rows of each space.
    pub rows: [u64; SPACES],
    /// Bytes of keys and values of each space.
    pub bytes: [u64; SPACES],
}

impl Totals {
    /// Rows of all spaces.
    #[must_use]
    pub fn row_count(&self) -> u64 {
        self.rows.iter().sum()
    }

    /// Bytes of keys and values of all spaces.
    #[must_use]
    pub fn byte_count(&self) -> u64 {
        self.bytes.iter().sum()
    }
}

/// What was copied.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Report {
    /// How much it is.
    pub totals: Totals,
    /// The hash of it.
    pub digest: Digest,
    /// Bytes of the stream; 0 where there was none.
    pub stream_bytes: u64,
}

/// A row of a frame.
pub(crate) struct RowRef<'a> {
    pub(crate) space: Space,
    pub(crate) key: &'a [u8],
    pub(crate) value: &'a [u8],
}

impl<'a> RowRef<'a> {
    /// The first row of these, and the rest; or what is wrong.
    fn take(bytes: &'a [u8]) -> Result<(Self, &'a [u8]), &'static str> {
        let decode = || {
            let (space, rest) = bytes.split_first()?;
            let (key_len, rest) = rest.split_first_chunk()?;
            let (value_len, rest) = rest.split_first_chunk()?;
            let key_len = usize::from(u16::from_le_bytes(*key_len));
            let value_len = u32::from_le_bytes(*value_len) as usize;
            let (key, rest) = rest.split_at_checked(key_len)?;
            let (value, rest) = rest.split_at_checked(value_len)?;
            let space = *Space::ALL.get(usize::from(*space))?;
            Some((Self { space, key, value }, rest))
        };
        let (row, rest) = decode().ok_or("a row does not decode")?;
        match () {
            () if row.key.is_empty() || row.key.len() > KEY_BYTES => Err("a key of a wrong length"),
            () if row.value.len() > VALUE_BYTES => Err("a value that is too long"),
            () if Copying::is_row(row.space, row.key) => Err("a row that is never copied"),
            () => Ok((row, rest)),
        }
    }

    /// Calls `visit` for each row of a frame.
    pub(crate) fn each(
        mut frame: &'a [u8],
        mut visit: impl FnMut(&Self) -> Result<(), &'static str>,
    ) -> Result<(), &'static str> {
        while !frame.is_empty() {
            let (row, rest) = Self::take(frame)?;
            visit(&row)?;
            frame = rest;
        }
        Ok(())
    }
}

/// Counts and hashes rows, frame by frame, and sees to their order.
pub(crate) struct Tally {
    pub(crate) totals: Totals,
    hasher: blake3::Hasher,
    /// Space and key of the last row.
    last: Vec<u8>,
}

impl Tally {
    pub(crate) fn new() -> Self {
        Self {
            totals: Totals::default(),
            hasher: blake3::Hasher::new_derive_key("eidetica rows v1"),
            last: Vec::new(),
        }
    }

    /// Takes in a frame, whose rows have to follow those before.
    pub(crate) fn add(&mut self, frame: &[u8]) -> Result<(), &'static str> {
        RowRef::each(frame, |row| {
            let place = row.space.index();
            let before = self.last.split_first();
            let follows =
                before.is_none_or(|(space, key)| (usize::from(*space), key) < (place, row.key));
            if !follows {
                return Err("a row is out of order");
            }
            self.last.clear();
            self.last.push(row.space.number());
            self.last.extend_from_slice(row.key);
            let (rows, bytes) = (&mut self.totals.rows, &mut self.totals.bytes);
            if let (Some(rows), Some(bytes)) = (rows.get_mut(place), bytes.get_mut(place)) {
                *rows += 1;
                *bytes += (row.key.len() + row.value.len()) as u64;
            }
            Ok(())
        })?;
        self.totals.frames += 1;
        self.hasher.update(frame);
        Ok(())
    }

    pub(crate) fn digest(&self) -> Digest {
        Digest(*self.hasher.finalize().as_bytes())
    }

    pub(crate) fn report(&self, stream_bytes: u64) -> Report {
        Report {
            totals: self.totals,
            digest: self.digest(),
            stream_bytes,
        }
    }
}

/// Counts and hashes all rows of a snapshot. O(rows).
///
/// # Errors
/// The engine's.
pub fn digest(snapshot: &dyn Snapshot) -> Result<Report, BackupError> {
    digest_of(snapshot, &Space::ALL)
}

pub(crate) fn digest_of(snapshot: &dyn Snapshot, spaces: &[Space]) -> Result<Report, BackupError> {
    let mut tally = Tally::new();
    for_each_frame(snapshot, spaces, None, |frame| counted(&mut tally, frame))?;
    Ok(tally.report(0))
}

/// Adds a frame that an engine's own rows make.
pub(crate) fn counted(tally: &mut Tally, frame: &[u8]) -> Result<(), BackupError> {
    // Rows of an engine can be out of order only if it breaks its contract.
    let broken = |detail: &'static str| EngineError::corrupt(detail);
    Ok(tally.add(frame).map_err(broken)?)
}

/// Calls `visit` with all rows of some spaces, a frame after the other. Rows about a copy in progress are left out.
pub(crate) fn for_each_frame(
    snapshot: &dyn Snapshot,
    spaces: &[Space],
    mut left_out: Option<&mut u64>,
    mut visit: impl FnMut(&[u8]) -> Result<(), BackupError>,
) -> Result<(), BackupError> {
    let mut frame = Vec::with_capacity(limits::FRAME_BYTES + limits::PAGE_BYTES);
    for space in spaces {
        let _: ControlFlow<()> =
            for_each_row(snapshot, *space, left_out.as_deref_mut(), |key, value| {
                if !Copying::is_row(*space, key) {
                    put_row(&mut frame, *space, key, value);
                }
                if frame.len() >= limits::FRAME_BYTES {
                    visit(&frame)?;
                    frame.clear();
                    frame.shrink_to(limits::FRAME_BYTES + limits::PAGE_BYTES);
                }
                Ok(ControlFlow::Continue(()))
            })?;
    }
    match frame.is_empty() {
        true => Ok(()),
        false => visit(&frame),
    }
}

/// Pages of a size that suits a long walk. Damage is an error, or counted in `left_out` and passed over.
pub(crate) fn for_each_row<B>(
    snapshot: &dyn Snapshot,
    space: Space,
    mut left_out: Option<&mut u64>,
    mut visit: impl FnMut(&[u8], &[u8]) -> Result<ControlFlow<B>, BackupError>,
) -> Result<ControlFlow<B>, BackupError> {
    let limit = ScanLimit {
        rows: limits::PAGE_ROWS,
        bytes: limits::PAGE_BYTES,
    };
    let mut rest = Some(KeyRange::all());
    while let Some(range) = rest {
        let page = snapshot.scan(space, &range, Direction::Forward, limit);
        let page = match (page, left_out.as_deref_mut()) {
            (Err(EngineError::Corrupt { .. }), Some(left_out)) => {
                *left_out += 1;
                rest = behind_damage(snapshot, space, &range)?;
                continue;
            }
            (page, _) => page?,
        };
        for row in &page.rows {
            if let Some(left_out) = left_out.as_deref_mut().filter(|_| row.value == DAMAGED) {
                *left_out += 1;
                continue;
            }
            if let ControlFlow::Break(value) = visit(&row.key, &row.value)? {
                return Ok(ControlFlow::Break(value));
            }
        }
        rest = page.rest(&range, Direction::Forward);
    }
    Ok(ControlFlow::Continue(()))
}

/// Keys and values fit their lengths: engines take no longer ones.
fn put_row(frame: &mut Vec<u8>, space: Space, key: &[u8], value: &[u8]) {
    frame.push(space.number());
    frame.extend_from_slice(&(key.len() as u16).to_le_bytes());
    frame.extend_from_slice(&(value.len() as u32).to_le_bytes());
    frame.extend_from_slice(key);
    frame.extend_from_slice(value);
}
