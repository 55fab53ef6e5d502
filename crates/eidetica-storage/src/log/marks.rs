//! [`Marks`]: sets of arrival numbers that are kept as rows, one per chunk that is not empty.

use std::collections::BTreeMap;

use crate::limits::MARK_WORDS;

const WORD: u64 = 64;
const CHUNK: u64 = WORD * MARK_WORDS as u64;

/// What can be said of an entry beside its bytes. Most databases never need it and have no rows of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Mark {
    /// Its author's right was taken away: it contributes nothing.
    Void,
    /// Its writes are not in the materialised state, once that has seen it ([`LogState::applied`](super::LogState::applied)).
    /// What is void and not absent, or the other way round, is still to be settled.
    Absent,
    /// Void, and no entry above it is effective: it is not passed on.
    Loose,
}

impl Mark {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::Void, Self::Absent, Self::Loose];

    pub(super) const fn number(self) -> u8 {
        match self {
            Self::Void => 0,
            Self::Absent => 1,
            Self::Loose => 2,
        }
    }
}

/// A set of arrival numbers.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Marks {
    /// By number; none is empty.
    chunks: BTreeMap<u64, Chunk>,
}

impl Marks {
    /// Whether an entry is in the set.
    #[must_use]
    pub fn contains(&self, arrival: u64) -> bool {
        let chunk = self.chunks.get(&(arrival / CHUNK));
        chunk.is_some_and(|chunk| chunk.contains(arrival))
    }

    /// Whether no entry is.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.chunks.is_empty()
    }

    /// How many entries are.
    #[must_use]
    pub fn len(&self) -> u64 {
        self.chunks.values().map(Chunk::len).sum()
    }

    /// The arrival numbers from `from` on, ascending.
    pub fn iter_from(&self, from: u64) -> impl Iterator<Item = u64> + '_ {
        let chunks = self.chunks.range(from / CHUNK..);
        let arrivals = chunks.flat_map(|(number, chunk)| chunk.iter(*number));
        arrivals.filter(move |arrival| *arrival >= from)
    }

    /// All arrival numbers, ascending.
    pub fn iter(&self) -> impl Iterator<Item = u64> + '_ {
        self.iter_from(0)
    }

    /// Puts an entry in or takes it out; says whether that changed anything.
    pub fn set(&mut self, arrival: u64, on: bool) -> bool {
        let number = arrival / CHUNK;
        let mut chunk = self.chunks.remove(&number).unwrap_or_default();
        let changed = chunk.set(arrival, on);
        self.put(number, chunk);
        changed
    }

    /// By number; none is empty.
    pub(super) fn chunks(&self) -> impl Iterator<Item = (u64, &Chunk)> {
        self.chunks.iter().map(|(number, chunk)| (*number, chunk))
    }

    pub(super) fn chunk(&self, number: u64) -> Option<&Chunk> {
        self.chunks.get(&number)
    }

    pub(super) fn put(&mut self, number: u64, chunk: Chunk) {
        match chunk.is_empty() {
            true => drop(self.chunks.remove(&number)),
            false => drop(self.chunks.insert(number, chunk)),
        }
    }
}

/// The number of the chunk that an arrival number is in.
pub(super) fn chunk_of(arrival: u64) -> u64 {
    arrival / CHUNK
}

/// What one row says: [`CHUNK`] arrival numbers, without the zeros at the end.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Chunk(Vec<u64>);

impl Chunk {
    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub(super) fn contains(&self, arrival: u64) -> bool {
        let (word, bit) = place(arrival);
        self.0.get(word).is_some_and(|bits| bits & bit != 0)
    }

    pub(super) fn set(&mut self, arrival: u64, on: bool) -> bool {
        let changed = self.contains(arrival) != on;
        let (word, bit) = place(arrival);
        if changed && self.0.len() <= word {
            self.0.resize(word + 1, 0);
        }
        if let Some(bits) = self.0.get_mut(word).filter(|_| changed) {
            *bits ^= bit;
        }
        let used = self.0.iter().rposition(|bits| *bits != 0);
        self.0.truncate(used.map_or(0, |last| last + 1));
        changed
    }

    fn len(&self) -> u64 {
        self.0.iter().map(|bits| u64::from(bits.count_ones())).sum()
    }

    fn iter(&self, number: u64) -> impl Iterator<Item = u64> + '_ {
        let words = (number * MARK_WORDS as u64..).zip(&self.0);
        words.flat_map(|(word, bits)| {
            let set = (0..WORD).filter(move |bit| bits & (1 << bit) != 0);
            set.map(move |bit| word * WORD + bit)
        })
    }

    pub(super) fn encode(&self) -> Vec<u8> {
        self.0.iter().flat_map(|bits| bits.to_le_bytes()).collect()
    }

    /// `None` for what [`Chunk::encode`] does not give.
    pub(super) fn decode(bytes: &[u8]) -> Option<Self> {
        let (words, rest) = bytes.as_chunks::<8>();
        let words: Vec<u64> = words.iter().map(|word| u64::from_le_bytes(*word)).collect();
        let whole = rest.is_empty() && words.len() <= MARK_WORDS;
        (whole && words.last().is_some_and(|last| *last != 0)).then_some(Self(words))
    }
}

/// Word and bit of an arrival number within its chunk.
fn place(arrival: u64) -> (usize, u64) {
    // Below `MARK_WORDS`, so no bit is lost.
    let word = (arrival % CHUNK / WORD) as usize;
    (word, 1 << (arrival % WORD))
}
