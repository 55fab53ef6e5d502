//! A small seeded generator, so that every random test can be replayed.

use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};

/// A seeded generator that says its seed when a test fails.
#[derive(Debug)]
pub struct Rng {
    seed: u64,
    inner: StdRng,
    /// Whether it is to say how to replay the test.
    speaks: bool,
}

impl Rng {
    /// The generator of this seed, or of the one in the environment variable `EIDETICA_SEED`.
    #[must_use]
    pub fn new(seed: u64) -> Self {
        let seed = std::env::var("EIDETICA_SEED")
            .ok()
            .and_then(|s| s.parse().ok())
            .unwrap_or(seed);
        let mut rng = Self::exact(seed);
        rng.speaks = true;
        rng
    }

    /// The generator of this seed, whatever the environment says, for those who say themselves how to replay.
    #[must_use]
    pub fn exact(seed: u64) -> Self {
        Self {
            seed,
            inner: StdRng::seed_from_u64(seed),
            speaks: false,
        }
    }

    /// The generator of one part of what this one is for: what it draws does not depend on what others draw.
    #[must_use]
    pub fn part(&self, name: &str, number: u64) -> Self {
        let mut seed = self.seed;
        for word in name.bytes().map(u64::from).chain([u64::MAX, number]) {
            seed = mix(seed ^ word);
        }
        Self::exact(seed)
    }

    /// A number below `end`, which is above 0.
    pub fn below(&mut self, end: usize) -> usize {
        self.inner.random_range(0..end)
    }

    /// A number from `low` to `high`, both included.
    pub fn between(&mut self, low: u64, high: u64) -> u64 {
        self.inner.random_range(low..=high)
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

    /// As many random bytes as the array has.
    pub fn array<const N: usize>(&mut self) -> [u8; N] {
        let mut bytes = [0; N];
        self.inner.fill(bytes.as_mut_slice());
        bytes
    }
}

/// The finalizer of splitmix64.
fn mix(seed: u64) -> u64 {
    let mut z = seed.wrapping_add(0x9e37_79b9_7f4a_7c15);
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

impl Drop for Rng {
    fn drop(&mut self) {
        if self.speaks && std::thread::panicking() {
            eprintln!("replay with EIDETICA_SEED={}", self.seed);
        }
    }
}
