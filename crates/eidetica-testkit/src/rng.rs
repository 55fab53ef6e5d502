//! A small seeded generator, so that every random test can be replayed.

use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};

/// A seeded generator that says its seed when a test fails.
#[derive(Debug)]
pub struct Rng {
    seed: u64,
    inner: StdRng,
}

impl Rng {
    /// The generator of this seed, or of the one in the environment variable `EIDETICA_SEED`.
    #[must_use]
    pub fn new(seed: u64) -> Self {
        let seed = std::env::var("EIDETICA_SEED")
            .ok()
            .and_then(|s| s.parse().ok())
            .unwrap_or(seed);
        Self {
            seed,
            inner: StdRng::seed_from_u64(seed),
        }
    }

    /// A number below `end`, which is above 0.
    pub fn below(&mut self, end: usize) -> usize {
        self.inner.random_range(0..end)
    }

    /// True about once in `n` times.
    pub fn one_in(&mut self, n: usize) -> bool {
        self.below(n) == 0
    }

    /// One of `items`, which are not empty.
    pub fn pick<'a, T>(&mut self, items: &'a [T]) -> &'a T {
        &items[self.below(items.len())]
    }

    /// Random bytes.
    pub fn bytes(&mut self, len: usize) -> Vec<u8> {
        let mut bytes = vec![0; len];
        self.inner.fill(bytes.as_mut_slice());
        bytes
    }
}

impl Drop for Rng {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("replay with EIDETICA_SEED={}", self.seed);
        }
    }
}
