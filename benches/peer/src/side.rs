//! What is measured of either side.

use std::ops::Range;
use std::path::Path;
use std::sync::Arc;

/// A key and its value, both of 32 bytes.
pub(crate) type Pair = ([u8; 32], [u8; 32]);

/// Changes in one commit.
pub(crate) const COMMIT: usize = 10_000;

/// A database of one of them. What fails panics.
pub(crate) trait Side {
    /// How it is shown.
    const NAME: &'static str;

    /// One that will be in a directory that does not exist yet, and what will be in it.
    fn at(dir: &Path, pairs: Arc<Vec<Pair>>) -> Self;

    /// Opens it; what it had is there.
    fn open(&mut self);

    /// Lets it go, without writing anything.
    fn close(&mut self);

    /// Sets all keys, makes each [`COMMIT`] of them durable, and takes the root each time.
    fn insert(&mut self);

    /// How many operations there are.
    fn operations(&mut self) -> u64;

    /// Proves ranges against the root, and keeps operations and proofs.
    fn prove(&mut self, ranges: Vec<Range<u64>>);

    /// Verifies what was kept against the root.
    fn verify(&mut self);
}
