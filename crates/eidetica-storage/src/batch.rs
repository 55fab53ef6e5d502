//! A write batch in one arena, and its normal form for engines.

use bytes::Bytes;

use crate::{EngineError, KeyRange, Space, limits};

/// Steps that take effect together, as if one after the other, or not at all.
///
/// A later step sees the earlier ones: a second `put` of a key wins, a `delete_range` takes away what
/// was put before it and not what is put after it, and an `expect` is compared with the row as the
/// earlier steps leave it. So appending one batch to another ([`Batch::append`]) means doing both in
/// turn, which is all a group commit needs.
///
/// All keys and values lie in one buffer: a step costs no allocation of its own. Building never fails;
/// a step that is out of bounds is remembered and refuses the whole batch at the write.
#[derive(Debug, Clone, Default)]
pub struct Batch {
    arena: Vec<u8>,
    steps: Vec<RawStep>,
    refused: Option<EngineError>,
}

#[derive(Debug, Clone, Copy)]
struct RawStep {
    kind: Kind,
    space: Space,
    /// Where the key begins in the arena; the second slice follows it.
    start: u32,
    key_len: u32,
    second_len: u32,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Put,
    Delete,
    /// From the key up to the second slice.
    DeleteBelow,
    /// From the key to the end of the space.
    DeleteRest,
    ExpectValue,
    ExpectNone,
}

/// One step of a batch, borrowed from its arena.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Step<'a> {
    /// Writes a row, replacing what is there.
    Put(Space, &'a [u8], &'a [u8]),
    /// Deletes a row, if it is there.
    Delete(Space, &'a [u8]),
    /// Deletes the rows from the first key up to, but without, the second, or to the end of the space.
    DeleteRange(Space, &'a [u8], Option<&'a [u8]>),
    /// Refuses the batch unless the row has this value, or is absent.
    Expect(Space, &'a [u8], Option<&'a [u8]>),
}

impl Batch {
    /// An empty batch.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// An empty batch with room for so many steps and bytes of keys and values.
    #[must_use]
    pub fn with_capacity(steps: usize, bytes: usize) -> Self {
        Self {
            arena: Vec::with_capacity(bytes),
            steps: Vec::with_capacity(steps),
            refused: None,
        }
    }

    /// Writes a row, replacing what is there.
    pub fn put(&mut self, space: Space, key: &[u8], value: &[u8]) {
        self.push(Kind::Put, space, key, value);
    }

    /// Writes a row whose key and value come in parts, so that a caller need not join them first.
    pub fn put_parts(&mut self, space: Space, key: &[&[u8]], value: &[&[u8]]) {
        self.push_parts(Kind::Put, space, key, value);
    }

    /// Deletes a row, if it is there.
    pub fn delete(&mut self, space: Space, key: &[u8]) {
        self.push(Kind::Delete, space, key, &[]);
    }

    /// Deletes every row of the range. May cost an engine O(rows in the range) and its bytes of keys
    /// in memory.
    pub fn delete_range(&mut self, space: Space, range: &KeyRange) {
        match &range.end {
            Some(end) => self.push(Kind::DeleteBelow, space, &range.start, end),
            None => self.push(Kind::DeleteRest, space, &range.start, &[]),
        }
    }

    /// Refuses the batch with [`EngineError::PreconditionFailed`] unless the row has exactly this
    /// value at this point, or is absent (`None`). Checked in the same atomic step as the write.
    pub fn expect(&mut self, space: Space, key: &[u8], value: Option<&[u8]>) {
        match value {
            Some(value) => self.push(Kind::ExpectValue, space, key, value),
            None => self.push(Kind::ExpectNone, space, key, &[]),
        }
    }

    /// Does the steps of `other` after those of this batch. Costs one copy of `other`.
    pub fn append(&mut self, other: &Self) {
        if self.refused.is_none() {
            self.refused.clone_from(&other.refused);
        }
        let Some(base) = self.room(other.arena.len(), other.steps.len()) else {
            return;
        };
        self.arena.extend_from_slice(&other.arena);
        self.steps.extend(other.steps.iter().map(|step| RawStep {
            start: base + step.start,
            ..*step
        }));
    }

    /// Empties the batch and keeps its memory.
    pub fn clear(&mut self) {
        self.arena.clear();
        self.steps.clear();
        self.refused = None;
    }

    /// How many steps there are, expectations included.
    #[must_use]
    pub fn len(&self) -> usize {
        self.steps.len()
    }

    /// Whether there is no step.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.steps.is_empty()
    }

    /// Bytes of all keys and values.
    #[must_use]
    pub fn byte_len(&self) -> usize {
        self.arena.len()
    }

    /// The steps in order.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = Step<'_>> {
        self.steps.iter().map(|step| step.resolve(&self.arena))
    }

    /// The normal form that engines apply.
    ///
    /// Costs O(n log n) for n steps, less where keys come in order, and O(n r) with r range deletions.
    ///
    /// # Errors
    /// [`EngineError::TooLarge`] or [`EngineError::EmptyKey`] if a step or the batch is out of bounds,
    /// and [`EngineError::PreconditionFailed`] if an expectation contradicts an earlier step.
    pub fn plan(&self) -> Result<Plan<'_>, EngineError> {
        match &self.refused {
            Some(error) => Err(error.clone()),
            None => Plan::of(self),
        }
    }

    fn push(&mut self, kind: Kind, space: Space, key: &[u8], second: &[u8]) {
        self.push_parts(kind, space, &[key], &[second]);
    }

    fn push_parts(&mut self, kind: Kind, space: Space, key: &[&[u8]], second: &[&[u8]]) {
        let key_len: usize = key.iter().map(|part| part.len()).sum();
        let second_len: usize = second.iter().map(|part| part.len()).sum();
        let is_range = matches!(kind, Kind::DeleteBelow | Kind::DeleteRest);
        // The bounds of a range may lie just above the longest key.
        let key_limit = limits::KEY_BYTES + usize::from(is_range);
        let second_limit = if is_range {
            key_limit
        } else {
            limits::VALUE_BYTES
        };
        if key_len == 0 && !is_range {
            self.refused.get_or_insert(EngineError::EmptyKey);
        } else if key_len > key_limit {
            self.refuse("key bytes", key_len, limits::KEY_BYTES);
        } else if second_len > second_limit {
            self.refuse("value bytes", second_len, second_limit);
        } else if let Some(start) = self.room(key_len + second_len, 1) {
            for part in key.iter().chain(second) {
                self.arena.extend_from_slice(part);
            }
            let (key_len, second_len) = (key_len as u32, second_len as u32);
            self.steps.push(RawStep {
                kind,
                space,
                start,
                key_len,
                second_len,
            });
        }
    }

    /// The arena offset of what comes next, if so much more fits.
    fn room(&mut self, bytes: usize, steps: usize) -> Option<u32> {
        let (bytes, steps) = (self.arena.len() + bytes, self.steps.len() + steps);
        if bytes > limits::BATCH_BYTES {
            self.refuse("batch bytes", bytes, limits::BATCH_BYTES);
        } else if steps > limits::BATCH_STEPS {
            self.refuse("batch steps", steps, limits::BATCH_STEPS);
        } else {
            return u32::try_from(self.arena.len()).ok();
        }
        None
    }

    fn refuse(&mut self, what: &'static str, len: usize, limit: usize) {
        self.refused
            .get_or_insert(EngineError::TooLarge { what, len, limit });
    }
}

impl RawStep {
    #[expect(
        clippy::indexing_slicing,
        reason = "push_parts and append keep every step inside the arena"
    )]
    fn resolve<'a>(&self, arena: &'a [u8]) -> Step<'a> {
        let (start, key_len) = (self.start as usize, self.key_len as usize);
        let key = &arena[start..start + key_len];
        let second = &arena[start + key_len..start + key_len + self.second_len as usize];
        match self.kind {
            Kind::Put => Step::Put(self.space, key, second),
            Kind::Delete => Step::Delete(self.space, key),
            Kind::DeleteBelow => Step::DeleteRange(self.space, key, Some(second)),
            Kind::DeleteRest => Step::DeleteRange(self.space, key, None),
            Kind::ExpectValue => Step::Expect(self.space, key, Some(second)),
            Kind::ExpectNone => Step::Expect(self.space, key, None),
        }
    }
}

/// A batch in normal form: check `expects` against the stored rows; if all hold, delete the stored
/// rows in `ranges`; then apply `writes`. That equals doing the steps of the batch in turn.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Plan<'a> {
    /// Rows that must be as said before the batch, sorted by space and key, one per row.
    pub expects: Vec<Expect<'a>>,
    /// Ranges to clear, in the order of the batch; none is empty.
    pub ranges: Vec<Range<'a>>,
    /// Final writes, sorted by space and key, one per row.
    pub writes: Vec<Write<'a>>,
}

/// A row that must be as said.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Expect<'a> {
    /// Its space.
    pub space: Space,
    /// Its key.
    pub key: &'a [u8],
    /// Its value, or `None` if there must be no row.
    pub value: Option<&'a [u8]>,
}

/// Keys to clear: from `start` up to, but without, `end`, or to the end of the space.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Range<'a> {
    /// The space.
    pub space: Space,
    /// The least key to clear.
    pub start: &'a [u8],
    /// The least key to keep.
    pub end: Option<&'a [u8]>,
}

/// What a row is after the batch.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Write<'a> {
    /// Its space.
    pub space: Space,
    /// Its key.
    pub key: &'a [u8],
    /// Its new value, or `None` to delete it.
    pub value: Option<&'a [u8]>,
}

impl Expect<'_> {
    /// Compares with the stored value.
    ///
    /// # Errors
    /// [`EngineError::PreconditionFailed`] if they differ.
    pub fn check(&self, stored: Option<&[u8]>) -> Result<(), EngineError> {
        if stored == self.value {
            return Ok(());
        }
        Err(EngineError::PreconditionFailed {
            space: self.space,
            key: Bytes::copy_from_slice(self.key),
        })
    }
}

impl Range<'_> {
    fn covers(&self, space: Space, key: &[u8]) -> bool {
        self.space == space && key >= self.start && self.end.is_none_or(|end| key < end)
    }
}

/// A step on one row with its place in the batch.
#[derive(Clone, Copy)]
struct RowStep<'a> {
    space: Space,
    key: &'a [u8],
    place: usize,
    /// A final value, or an expectation.
    write: bool,
    value: Option<&'a [u8]>,
}

impl<'a> Plan<'a> {
    fn of(batch: &'a Batch) -> Result<Self, EngineError> {
        let mut rows = Vec::with_capacity(batch.steps.len());
        let mut ranges: Vec<(usize, Range<'a>)> = Vec::new();
        for (place, step) in batch.iter().enumerate() {
            let (space, key, write, value) = match step {
                Step::Put(space, key, value) => (space, key, true, Some(value)),
                Step::Delete(space, key) => (space, key, true, None),
                Step::Expect(space, key, value) => (space, key, false, value),
                Step::DeleteRange(space, start, end) => {
                    if end.is_none_or(|end| start < end) {
                        ranges.push((place, Range { space, start, end }));
                    }
                    continue;
                }
            };
            rows.push(RowStep {
                space,
                key,
                place,
                write,
                value,
            });
        }
        // Stable, so that the steps on one row keep their order; and adaptive to sorted runs.
        rows.sort_by(|a, b| (a.space, a.key).cmp(&(b.space, b.key)));
        let mut plan = Plan {
            writes: Vec::with_capacity(rows.len()),
            ..Plan::default()
        };
        for row in rows.chunk_by(|a, b| a.key == b.key && a.space == b.space) {
            plan.add_row(row, &ranges)?;
        }
        plan.ranges = ranges.into_iter().map(|(_, range)| range).collect();
        Ok(plan)
    }

    /// Folds the steps on one row into at most one expectation and one write.
    fn add_row(
        &mut self,
        steps: &[RowStep<'a>],
        ranges: &[(usize, Range<'a>)],
    ) -> Result<(), EngineError> {
        let Some(first) = steps.first() else {
            return Ok(());
        };
        let mut cleared = ranges
            .iter()
            .filter(|(_, range)| range.covers(first.space, first.key))
            .map(|(place, _)| *place)
            .peekable();
        // What the steps so far have made of the row; `None` while it is as stored.
        let mut row: Option<Option<&[u8]>> = None;
        let mut expected: Option<Option<&[u8]>> = None;
        let mut written = false;
        for step in steps {
            while cleared.next_if(|place| *place < step.place).is_some() {
                row = Some(None);
            }
            if step.write {
                row = Some(step.value);
                written = true;
                continue;
            }
            let known = row.or(expected);
            let expect = Expect {
                space: step.space,
                key: step.key,
                value: step.value,
            };
            match known {
                Some(value) => expect.check(value)?,
                None => {
                    expected = Some(step.value);
                    self.expects.push(expect);
                }
            }
        }
        if cleared.next().is_some() {
            row = Some(None);
        }
        if written && let Some(value) = row {
            self.writes.push(Write {
                space: first.space,
                key: first.key,
                value,
            });
        }
        Ok(())
    }
}
