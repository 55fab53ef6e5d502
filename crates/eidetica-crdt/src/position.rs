//! List positions: byte strings with room between any two that we make ourselves.
//!
//! Ours are an integer, so that appending and prepending cost a few bits per element, a fraction for
//! what lies between two neighbours, and two random bytes that keep concurrent insertions at one place
//! apart. A stranger's may be any bytes, so nothing here relies on that shape.

use crate::limits;

/// Where an element stands in its list: 1 to [`limits::POSITION_BYTES`] bytes, ordered as bytes.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Position(Vec<u8>);

/// Header byte of a one-byte integer that is not negative; one more per further byte.
const INT_ZERO: u8 = 0x80;

impl Position {
    /// Takes bytes of an allowed length.
    pub fn from_bytes(bytes: &[u8]) -> Option<Self> {
        (1..=limits::POSITION_BYTES)
            .contains(&bytes.len())
            .then(|| Self(bytes.to_vec()))
    }

    /// The bytes.
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }
}

/// `count` ascending positions strictly between two, each ending in two bytes from `random`.
///
/// `None` bounds are open. Returns `None` if there is no room within the length limit, which includes
/// bounds that are equal.
pub(crate) fn spread(
    low: Option<&Position>,
    high: Option<&Position>,
    count: usize,
    random: &mut impl FnMut() -> [u8; 2],
) -> Option<Vec<Position>> {
    let (low, high) = (low.map(Position::as_bytes), high.map(Position::as_bytes));
    let mut numbers = integers(low, high, count).map(|first| first..);
    let stem = match numbers {
        Some(_) => Vec::new(),
        None => between(low.unwrap_or(&[]), high)?,
    };
    let step = (usize::from(u16::MAX) / (count + 1)).max(1);
    let position = |i: usize| {
        let mut bytes = match &mut numbers {
            Some(numbers) => encode_int(numbers.next()?),
            None if count == 1 => stem.clone(),
            None => {
                let slot = u16::try_from((i + 1).checked_mul(step)?).ok()?;
                [stem.as_slice(), &slot.to_be_bytes()].concat()
            }
        };
        bytes.extend(random());
        Position::from_bytes(&bytes)
    };
    (0..count).map(position).collect()
}

/// The first of `count` consecutive integers that lie between the bounds whatever follows them.
fn integers(low: Option<&[u8]>, high: Option<&[u8]>, count: usize) -> Option<i64> {
    let count = i64::try_from(count).ok()?;
    match (low, high) {
        (None, None) => Some(0),
        (Some(low), None) => {
            let first = decode_int(low)?.checked_add(1)?;
            first.checked_add(count).map(|_| first)
        }
        (None, Some(high)) => decode_int(high)?.checked_sub(count),
        (Some(low), Some(high)) => {
            let first = decode_int(low)?.checked_add(1)?;
            (first.checked_add(count)? <= decode_int(high)?).then_some(first)
        }
    }
}

/// A byte string `m` with `low < m < high` such that whatever extends `m` lies there too.
fn between(low: &[u8], high: Option<&[u8]>) -> Option<Vec<u8>> {
    let mut stem = Vec::new();
    // Once a byte is below the upper bound's, everything after it is free upwards.
    let mut high = high;
    for i in 0..limits::POSITION_BYTES {
        let floor = low.get(i).copied();
        let ceiling = match high {
            Some(bytes) => u16::from(*bytes.get(i)?),
            None => 256,
        };
        // The least byte that puts the stem above `low`; past its end any byte does.
        let least = floor.map_or(0, |byte| u16::from(byte) + 1);
        if least < ceiling {
            stem.push(u8::try_from(least + (ceiling - 1 - least) / 2).ok()?);
            return Some(stem);
        }
        let byte = floor.unwrap_or(0);
        if u16::from(byte) < ceiling {
            high = None;
        } else if u16::from(byte) > ceiling {
            return None;
        }
        stem.push(byte);
    }
    None
}

/// An integer in order-preserving bytes: a header that tells sign and length, then the magnitude.
fn encode_int(value: i64) -> Vec<u8> {
    let bytes = if value < 0 { !value } else { value }.to_be_bytes();
    let skip = bytes.iter().take(7).take_while(|&&b| b == 0).count();
    let extra = u8::try_from(7 - skip).unwrap_or(0);
    let magnitude = bytes.into_iter().skip(skip);
    if value < 0 {
        std::iter::once(INT_ZERO - 1 - extra)
            .chain(magnitude.map(|b| !b))
            .collect()
    } else {
        std::iter::once(INT_ZERO + extra).chain(magnitude).collect()
    }
}

/// The integer a position begins with; `None` if it does not begin with one.
fn decode_int(bytes: &[u8]) -> Option<i64> {
    let (&header, rest) = bytes.split_first()?;
    let negative = header < INT_ZERO;
    let extra = if negative {
        INT_ZERO - 1 - header
    } else {
        header - INT_ZERO
    };
    let len = usize::from(extra) + 1;
    let digits = rest.get(..len).filter(|_| len <= 8)?;
    let flip = if negative { 0xff } else { 0x00 };
    let magnitude = digits
        .iter()
        .fold(0u64, |n, b| (n << 8) | u64::from(b ^ flip));
    let value = i64::try_from(magnitude).ok()?;
    Some(if negative { !value } else { value })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn integers_keep_their_order() {
        let mut all = vec![
            i64::MIN,
            -65_537,
            -65_536,
            -257,
            -256,
            -2,
            -1,
            0,
            1,
            255,
            256,
            65_535,
            i64::MAX,
        ];
        all.extend(-1000..1000);
        all.sort_unstable();
        all.dedup();
        let encoded: Vec<_> = all.iter().map(|&n| encode_int(n)).collect();
        assert!(encoded.is_sorted());
        assert!(
            all.iter()
                .zip(&encoded)
                .all(|(&n, bytes)| decode_int(bytes) == Some(n))
        );
    }

    #[test]
    fn between_is_between_for_all_short_strings() {
        let digits = [0u8, 1, 2, 127, 254, 255];
        let mut all = vec![vec![]];
        for len in 0..3 {
            for i in 0..all.len() {
                if all[i].len() == len {
                    all.extend(digits.map(|d| [all[i].as_slice(), &[d]].concat()));
                }
            }
        }
        for low in &all {
            for high in all.iter().map(Some).chain([None]) {
                let Some(stem) = between(low, high.map(Vec::as_slice)) else {
                    // Only what has no room: not below, or the lower one and zeros.
                    let high = high.expect("an open end has room");
                    let zeros = high.strip_prefix(low.as_slice());
                    assert!(low >= high || zeros.is_some_and(|rest| rest.iter().all(|&b| b == 0)));
                    continue;
                };
                for tail in [&[][..], &[0], &[255, 255]] {
                    let m = [stem.as_slice(), tail].concat();
                    assert!(
                        *low < m && high.is_none_or(|h| m < *h),
                        "{low:?} {m:?} {high:?}"
                    );
                }
            }
        }
    }

    #[test]
    fn a_position_at_the_limit_has_no_room_after_it() {
        let top = Position::from_bytes(&[255; limits::POSITION_BYTES]).unwrap();
        assert!(Position::from_bytes(&[255; limits::POSITION_BYTES + 1]).is_none());
        assert!(spread(Some(&top), None, 1, &mut || [0, 0]).is_none());
        assert!(spread(None, Some(&top), 1, &mut || [0, 0]).is_some());
        assert!(spread(Some(&top), Some(&top), 1, &mut || [0, 0]).is_none());
    }
}
