//! When to try again.

use crate::limits;

/// A small generator (splitmix64) for jitter: nothing depends on it being unpredictable.
#[derive(Debug, Clone)]
pub(crate) struct Jitter(u64);

impl Jitter {
    pub(crate) fn new(seed: u64) -> Self {
        Self(seed)
    }

    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// 2^attempts seconds, at most [`limits::BACKOFF_MS`], and up to a quarter more.
    pub(crate) fn backoff_ms(&mut self, attempts: u32) -> u64 {
        let base = 1000_u64
            .checked_shl(attempts)
            .map_or(limits::BACKOFF_MS, |ms| ms.min(limits::BACKOFF_MS));
        let base = if attempts > 16 {
            limits::BACKOFF_MS
        } else {
            base
        };
        base + self.next() % (base / 4)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn doubles_up_to_the_limit_with_bounded_jitter() {
        let mut jitter = Jitter::new(7);
        for (attempts, seconds) in [
            (1, 2),
            (2, 4),
            (3, 8),
            (5, 32),
            (6, 64),
            (7, 64),
            (63, 64),
            (u32::MAX, 64),
        ] {
            let base = seconds * 1000;
            for _ in 0..100 {
                let ms = jitter.backoff_ms(attempts);
                assert!((base..base + base / 4).contains(&ms), "{attempts}: {ms}");
            }
        }
    }
}
