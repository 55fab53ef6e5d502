//! Every limit of this crate.

/// Leaves of one range. Positions of all its nodes fit an `u64` with room to spare.
pub const LEAVES: u64 = 1 << 62;
/// The greatest height of a node; leaves have height 0.
pub const HEIGHT: u32 = 62;
/// Hashes in the proof of one leaf or of one range: two edges and the other peaks.
pub const RANGE_DIGESTS: usize = 3 * HEIGHT as usize;
/// Locations in one multi proof.
pub const MULTI_LOCATIONS: usize = 4096;
/// Hashes in any proof, 2 MiB: as many as 4,096 locations spread evenly over 2^28 leaves need.
pub const PROOF_DIGESTS: usize = 1 << 16;
/// Fewer new leaves than this are hashed by the calling thread alone.
pub const PARALLEL_LEAVES: usize = 2048;
/// The most threads a batch is hashed by.
pub const THREADS: usize = 64;
