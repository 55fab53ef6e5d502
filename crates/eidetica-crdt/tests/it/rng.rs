//! A small seeded generator: a failing history is told by its seed alone.

pub(crate) struct Rng(u64);

impl Rng {
    pub(crate) fn new(seed: u64) -> Self {
        Self(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1)
    }

    pub(crate) fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0.wrapping_mul(0x2545_f491_4f6c_dd1d)
    }

    /// A number below `n`.
    pub(crate) fn below(&mut self, n: usize) -> usize {
        ((self.next() >> 32) as usize) % n
    }

    pub(crate) fn one_in(&mut self, n: usize) -> bool {
        self.below(n) == 0
    }

    pub(crate) fn pick<'a, T>(&mut self, from: &'a [T]) -> &'a T {
        &from[self.below(from.len())]
    }
}

/// How many random cases to run: ten times as many with optimisation as without, and `EIDETICA_CASES`
/// times as many again.
pub(crate) fn cases(usual: u64) -> u64 {
    let factor = std::env::var("EIDETICA_CASES")
        .ok()
        .and_then(|n| n.parse::<u64>().ok());
    usual * factor.unwrap_or(1) * if cfg!(debug_assertions) { 1 } else { 10 }
}
