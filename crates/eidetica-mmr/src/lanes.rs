//! BLAKE3 of many short messages side by side, one in each lane of the processor's vectors.
//!
//! What the `blake3` crate hashes side by side are the chunks of one long message. Operations and pairs of digests are
//! shorter than a chunk: one after the other each waits for itself. The results are the same, which tests hold it to.
//! Source: the BLAKE3 paper, sections 2.2 to 2.5 (O'Connor, Aumasson, Neves, Wilcox-O'Hearn 2020).

use fearless_simd::{Level, Simd, SimdBase as _, dispatch};

use crate::Digest;

/// The most messages side by side; processors with narrower vectors take several turns.
const LANES: usize = 16;
/// Bytes that are compressed at a time.
const BLOCK: usize = 64;
/// Longer messages have more than one chunk.
const CHUNK: usize = 1024;
/// Fewer messages than this are hashed one after the other.
const FEW: usize = 2;

const IV: [u32; 8] = [
    0x6a09_e667,
    0xbb67_ae85,
    0x3c6e_f372,
    0xa54f_f53a,
    0x510e_527f,
    0x9b05_688c,
    0x1f83_d9ab,
    0x5be0_cd19,
];
const START: u32 = 1;
const END: u32 = 2;
const ROOT: u32 = 8;
const KEYED: u32 = 16;

/// A word of each lane.
type Row = [u32; LANES];

/// What [`blake3::keyed_hash`] makes of each message under one key. Messages of up to 1,024 bytes are hashed side by side
/// with those of as many blocks.
#[must_use]
pub fn keyed_hashes<T: AsRef<[u8]>>(key: &[u8; 32], messages: &[T]) -> Vec<Digest> {
    hashes(Level::new(), key, messages)
}

/// The hashes of pairs of consecutive digests. A last one without another is left out.
#[must_use]
pub(crate) fn pair_hashes(key: &[u8; 32], digests: &[Digest]) -> Vec<Digest> {
    pairs(Level::new(), key, digests)
}

fn hashes<T: AsRef<[u8]>>(level: Level, key: &[u8; 32], messages: &[T]) -> Vec<Digest> {
    let mut digests = vec![Digest::new([0; 32]); messages.len()];
    let mut groups: [Group<'_>; CHUNK / BLOCK] = Default::default();
    for (message, digest) in messages.iter().map(AsRef::as_ref).zip(&mut digests) {
        let blocks = message.len().div_ceil(BLOCK).max(1);
        match groups.get_mut(blocks - 1) {
            Some(group) => {
                group.push((message, digest));
                if group.len() == LANES {
                    hash_group(level, key, group);
                }
            }
            None => *digest = hash_alone(key, message),
        }
    }
    groups
        .iter_mut()
        .for_each(|group| hash_group(level, key, group));
    digests
}

/// Messages of as many blocks, at most [`LANES`], and where their digests go.
type Group<'a> = Vec<(&'a [u8], &'a mut Digest)>;

fn pairs(level: Level, key: &[u8; 32], digests: &[Digest]) -> Vec<Digest> {
    let mut parents = Vec::with_capacity(digests.len() / 2);
    for group in digests.chunks(2 * LANES) {
        let pairs = group.as_chunks::<2>().0;
        if pairs.len() < FEW {
            let alone = pairs.iter().map(|pair| hash_alone(key, &block_of(pair)));
            parents.extend(alone);
            continue;
        }
        let mut blocks = [[0; BLOCK]; LANES];
        for (block, pair) in blocks.iter_mut().zip(pairs) {
            *block = block_of(pair);
        }
        let mut state = keyed(key);
        let flags = KEYED | START | END | ROOT;
        compress(
            level,
            &mut state,
            &blocks,
            &[BLOCK as u32; LANES],
            flags,
            pairs.len(),
        );
        parents.extend(digests_of(&state).take(pairs.len()));
    }
    parents
}

fn block_of([left, right]: &[Digest; 2]) -> [u8; BLOCK] {
    let mut block = [0; BLOCK];
    let (first, second) = block.split_at_mut(BLOCK / 2);
    first.copy_from_slice(left.as_bytes());
    second.copy_from_slice(right.as_bytes());
    block
}

fn hash_alone(key: &[u8; 32], message: &[u8]) -> Digest {
    Digest::new(*blake3::keyed_hash(key, message).as_bytes())
}

/// Hashes the messages of a group, which is empty then.
fn hash_group(level: Level, key: &[u8; 32], group: &mut Group<'_>) {
    if group.len() < FEW {
        for (message, digest) in group.drain(..) {
            *digest = hash_alone(key, message);
        }
        return;
    }
    let length = group.first().map_or(0, |(message, _)| message.len());
    let last = length.div_ceil(BLOCK).max(1) - 1;
    let mut state = keyed(key);
    let mut blocks = [[0; BLOCK]; LANES];
    let mut lengths = [0; LANES];
    for number in 0..=last {
        let lanes = blocks.iter_mut().zip(&mut lengths);
        for ((block, length), (message, _)) in lanes.zip(group.iter()) {
            let part = message.get(number * BLOCK..).unwrap_or_default();
            let part = part.get(..BLOCK).unwrap_or(part);
            let (filled, rest) = block.split_at_mut(part.len());
            filled.copy_from_slice(part);
            rest.fill(0);
            *length = part.len() as u32;
        }
        let first = if number == 0 { START } else { 0 };
        let end = if number == last { END | ROOT } else { 0 };
        compress(
            level,
            &mut state,
            &blocks,
            &lengths,
            KEYED | first | end,
            group.len(),
        );
    }
    for ((_, digest), found) in group.drain(..).zip(digests_of(&state)) {
        *digest = found;
    }
}

fn keyed(key: &[u8; 32]) -> [Row; 8] {
    let words = key.as_chunks::<4>().0;
    let mut state = [[0; LANES]; 8];
    for (row, word) in state.iter_mut().zip(words) {
        *row = [u32::from_le_bytes(*word); LANES];
    }
    state
}

fn digests_of(state: &[Row; 8]) -> impl Iterator<Item = Digest> {
    (0..LANES).map(move |lane| {
        let mut bytes = [0; 32];
        for (word, row) in bytes.as_chunks_mut::<4>().0.iter_mut().zip(state) {
            *word = row.get(lane).copied().unwrap_or_default().to_le_bytes();
        }
        Digest::new(bytes)
    })
}

/// Compresses one block of each message into its chaining value, as block of a chunk that is its message's only one. Lanes from `used`
/// on are not looked at.
fn compress(
    level: Level,
    state: &mut [Row; 8],
    blocks: &[[u8; BLOCK]; LANES],
    lengths: &Row,
    flags: u32,
    used: usize,
) {
    let words = transposed(blocks);
    dispatch!(level, simd => compress_lanes(simd, state, &words, lengths, flags, used));
}

/// The words of the blocks: the first of each, the second of each, and so on.
fn transposed(blocks: &[[u8; BLOCK]; LANES]) -> [Row; 16] {
    let mut words = [[0; LANES]; 16];
    for (lane, block) in blocks.iter().enumerate() {
        for (row, word) in words.iter_mut().zip(block.as_chunks::<4>().0) {
            if let Some(place) = row.get_mut(lane) {
                *place = u32::from_le_bytes(*word);
            }
        }
    }
    words
}

#[inline(always)]
fn compress_lanes<S: Simd>(
    simd: S,
    state: &mut [Row; 8],
    words: &[Row; 16],
    lengths: &Row,
    flags: u32,
    used: usize,
) {
    for from in (0..used.min(LANES)).step_by(S::u32s::LEN) {
        let load = |row: &Row| {
            let lanes = row.get(from..from + S::u32s::LEN);
            S::u32s::from_slice(simd, lanes.unwrap_or(row))
        };
        let splat = |word: u32| S::u32s::splat(simd, word);
        let message = words.each_ref().map(load);
        let [a, b, c, d, e, f, g, h] = state.each_ref().map(load);
        let [i, j, k, l, ..] = IV.map(splat);
        let zero = splat(0);
        let mut v = [
            a,
            b,
            c,
            d,
            e,
            f,
            g,
            h,
            i,
            j,
            k,
            l,
            zero,
            zero,
            load(lengths),
            splat(flags),
        ];
        let message = permuted(round::<S>(&mut v, message));
        let message = permuted(round::<S>(&mut v, message));
        let message = permuted(round::<S>(&mut v, message));
        let message = permuted(round::<S>(&mut v, message));
        let message = permuted(round::<S>(&mut v, message));
        let message = permuted(round::<S>(&mut v, message));
        round::<S>(&mut v, message);
        let (low, high) = v.split_at(8);
        for (row, (low, high)) in state.iter_mut().zip(low.iter().zip(high)) {
            if let Some(lanes) = row.get_mut(from..from + S::u32s::LEN) {
                (*low ^ *high).store_slice(lanes);
            }
        }
    }
}

/// The columns, then the diagonals. Gives back the message.
#[inline(always)]
fn round<S: Simd>(v: &mut [S::u32s; 16], m: [S::u32s; 16]) -> [S::u32s; 16] {
    mix::<S, 0, 4, 8, 12>(v, m[0], m[1]);
    mix::<S, 1, 5, 9, 13>(v, m[2], m[3]);
    mix::<S, 2, 6, 10, 14>(v, m[4], m[5]);
    mix::<S, 3, 7, 11, 15>(v, m[6], m[7]);
    mix::<S, 0, 5, 10, 15>(v, m[8], m[9]);
    mix::<S, 1, 6, 11, 12>(v, m[10], m[11]);
    mix::<S, 2, 7, 8, 13>(v, m[12], m[13]);
    mix::<S, 3, 4, 9, 14>(v, m[14], m[15]);
    m
}

/// The message words in the order of the next round.
#[inline(always)]
fn permuted<T: Copy>(m: [T; 16]) -> [T; 16] {
    [
        m[2], m[6], m[3], m[10], m[7], m[0], m[4], m[13], m[1], m[11], m[12], m[5], m[9], m[14],
        m[15], m[8],
    ]
}

#[inline(always)]
#[expect(
    clippy::indexing_slicing,
    reason = "constants below 16, checked by the compiler"
)]
fn mix<S: Simd, const A: usize, const B: usize, const C: usize, const D: usize>(
    v: &mut [S::u32s; 16],
    x: S::u32s,
    y: S::u32s,
) {
    v[A] = v[A] + v[B] + x;
    v[D] = rotated::<S, 16>(v[D] ^ v[A]);
    v[C] += v[D];
    v[B] = rotated::<S, 12>(v[B] ^ v[C]);
    v[A] = v[A] + v[B] + y;
    v[D] = rotated::<S, 8>(v[D] ^ v[A]);
    v[C] += v[D];
    v[B] = rotated::<S, 7>(v[B] ^ v[C]);
}

/// Each word rotated to the right.
#[inline(always)]
fn rotated<S: Simd, const BITS: u32>(words: S::u32s) -> S::u32s {
    (words >> BITS) | (words << (32 - BITS))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn message(number: usize, length: usize) -> Vec<u8> {
        let mut bytes = vec![0; length];
        blake3::Hasher::new()
            .update(&number.to_le_bytes())
            .finalize_xof()
            .fill(&mut bytes);
        bytes
    }

    /// What this processor has, and what all of its kind have.
    fn levels() -> Vec<Level> {
        let mut levels = vec![Level::new(), Level::baseline()];
        #[cfg(target_arch = "x86_64")]
        {
            let level = Level::new();
            levels.extend(level.as_avx2().map(fearless_simd::Simd::level));
            levels.extend(level.as_sse4_2().map(fearless_simd::Simd::level));
        }
        levels
    }

    #[test]
    fn they_are_the_hashes_of_each() {
        let key = &[7; 32];
        let mut lengths: Vec<usize> = (0..=130).chain(1000..1100).collect();
        lengths.extend([66; 40]);
        lengths.extend([32, 4096, 0, 64, 65, 66]);
        for count in (0..40).chain([lengths.len()]) {
            let messages = lengths.iter().rev().take(count).enumerate();
            let messages: Vec<Vec<u8>> =
                messages.map(|(at, length)| message(at, *length)).collect();
            let alone = messages.iter().map(|message| hash_alone(key, message));
            let alone: Vec<Digest> = alone.collect();
            for level in levels() {
                assert_eq!(hashes(level, key, &messages), alone, "{level:?}");
            }
        }
    }

    #[test]
    fn pairs_are_hashed_as_one() {
        let key = &[9; 32];
        let digests: Vec<Digest> = (0..80).map(|number| hash_alone(key, &[number])).collect();
        for count in 0..digests.len() {
            let digests = digests.get(..count).unwrap_or_default();
            let alone = digests.as_chunks::<2>().0.iter();
            let alone = alone.map(|[left, right]| {
                hash_alone(key, &[*left.as_bytes(), *right.as_bytes()].concat())
            });
            let alone: Vec<Digest> = alone.collect();
            for level in levels() {
                assert_eq!(pairs(level, key, digests), alone, "{level:?}");
            }
        }
    }
}
