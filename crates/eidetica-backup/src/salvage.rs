//! Going on behind rows that cannot be read.

use eidetica_storage::{Direction, EngineError, KeyRange, ScanLimit, Snapshot, Space};

use crate::limits::TOLD_APART;

/// The part of a range behind the rows at its beginning that cannot be read; `None` if that is nothing.
///
/// An engine that checks whole blocks does not say where a damaged one ends. It is looked for in steps that double, and
/// then between the last two: some hundred reads of one row. Rows that can be read are passed over where damaged
/// places are nearer to each other than such a step, or keys differ behind their first [`TOLD_APART`] bytes alone.
///
/// # Errors
/// Those of the engine that are no damage.
pub(crate) fn behind_damage(
    snapshot: &dyn Snapshot,
    space: Space,
    range: &KeyRange,
) -> Result<Option<KeyRange>, EngineError> {
    let from = |at: &Place| KeyRange {
        start: at.key(),
        end: range.end.clone(),
    };
    let can_be_read = |at: &Place| {
        let range = from(at);
        if range.is_empty() {
            return Ok(true);
        }
        match snapshot.scan(space, &range, Direction::Forward, ScanLimit::rows(1)) {
            Ok(_) => Ok(true),
            Err(EngineError::Corrupt { .. }) => Ok(false),
            Err(error) => Err(error),
        }
    };
    let start = Place::of(&range.start);
    let (mut damaged, mut sound) = (start, Place::LAST);
    for bit in 0..8 * TOLD_APART {
        let Some(at) = start.plus(bit) else { break };
        if can_be_read(&at)? {
            sound = at;
            break;
        }
        damaged = at;
    }
    while let Some(middle) = damaged.middle(&sound) {
        match can_be_read(&middle)? {
            true => sound = middle,
            false => damaged = middle,
        }
    }
    Ok(Some(from(&sound)).filter(|rest| !rest.is_empty()))
}

/// The first bytes of a key as a number.
#[derive(Clone, Copy, PartialEq, Eq)]
struct Place([u8; TOLD_APART]);

impl Place {
    const LAST: Self = Self([u8::MAX; TOLD_APART]);

    fn of(key: &[u8]) -> Self {
        let mut digits = [0; TOLD_APART];
        digits
            .iter_mut()
            .zip(key)
            .for_each(|(to, from)| *to = *from);
        Self(digits)
    }

    /// The least key at this place.
    fn key(&self) -> Vec<u8> {
        let end = self.0.iter().rposition(|digit| *digit != 0);
        let digits = self.0.iter().take(end.map_or(0, |end| end + 1));
        digits.copied().collect()
    }

    /// This and two to the power of `bit`, unless that is too large.
    fn plus(mut self, bit: usize) -> Option<Self> {
        let mut carry = 1_u8 << (bit % 8);
        for digit in self.0.iter_mut().rev().skip(bit / 8) {
            let (sum, is_over) = digit.overflowing_add(carry);
            *digit = sum;
            carry = u8::from(is_over);
            if carry == 0 {
                return Some(self);
            }
        }
        None
    }

    /// What is half way to a greater one; `None` if nothing is in between.
    fn middle(&self, greater: &Self) -> Option<Self> {
        let mut sum = [0; TOLD_APART];
        let mut carry = 0;
        for (to, (a, b)) in sum.iter_mut().zip(self.0.iter().zip(&greater.0)).rev() {
            let all = u16::from(*a) + u16::from(*b) + carry;
            [_, *to] = all.to_be_bytes();
            carry = all >> 8;
        }
        let mut above = u8::from(carry > 0);
        for digit in &mut sum {
            let low = *digit & 1;
            *digit = (*digit >> 1) | (above << 7);
            above = low;
        }
        Some(Self(sum)).filter(|middle| middle != self && middle != greater)
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use eidetica_storage::{Batch, Durability, Engine, MemoryEngine, Page};

    use super::*;

    /// Blocks of so many rows.
    const BLOCK: usize = 4;

    /// A snapshot of which some blocks cannot be read.
    struct Blocks {
        keys: Vec<Vec<u8>>,
        damaged: Vec<usize>,
        inner: Box<dyn Snapshot>,
    }

    impl Snapshot for Blocks {
        fn multi_get(
            &self,
            space: Space,
            keys: &[&[u8]],
        ) -> Result<Vec<Option<Bytes>>, EngineError> {
            self.inner.multi_get(space, keys)
        }

        fn scan(
            &self,
            space: Space,
            range: &KeyRange,
            direction: Direction,
            limit: ScanLimit,
        ) -> Result<Page, EngineError> {
            let first = self.keys.partition_point(|key| *key < range.start);
            if first < self.keys.len() && self.damaged.contains(&(first / BLOCK)) {
                return Err(EngineError::corrupt("a block"));
            }
            self.inner.scan(space, range, direction, limit)
        }
    }

    #[test]
    fn what_can_be_read_begins_behind_the_block() {
        let keys = |n: u32| {
            let hash = blake3::hash(&n.to_le_bytes());
            [
                n.to_be_bytes().to_vec(),
                [&[7], &hash.as_bytes()[..]].concat(),
                format!("a path that many begin with/{n:05}").into_bytes(),
            ]
        };
        for kind in 0..3 {
            let engine = MemoryEngine::new();
            let mut batch = Batch::new();
            let mut all: Vec<Vec<u8>> = (0..100).map(|n| keys(n)[kind].clone()).collect();
            all.sort();
            for key in &all {
                batch.put(Space::State, key, b"value");
            }
            engine.write(&batch, Durability::Durable).unwrap();
            for damaged in [
                vec![0],
                vec![7],
                vec![7, 8],
                vec![3, 4, 5, 6],
                vec![24],
                vec![23, 24],
            ] {
                let (first, last) = (damaged[0] * BLOCK, (damaged[damaged.len() - 1] + 1) * BLOCK);
                let blocks = Blocks {
                    keys: all.clone(),
                    damaged,
                    inner: engine.snapshot().unwrap(),
                };
                let range = KeyRange::starting_at(all[first].clone());
                let rest = behind_damage(&blocks, Space::State, &range).unwrap();
                let page = rest.map(|rest| {
                    let limit = ScanLimit::default();
                    blocks.scan(Space::State, &rest, Direction::Forward, limit)
                });
                let found = page.map(|page| page.unwrap().rows.first().map(|row| row.key.to_vec()));
                assert_eq!(found.flatten().as_ref(), all.get(last), "{kind}, {first}");
            }
        }
    }
}
