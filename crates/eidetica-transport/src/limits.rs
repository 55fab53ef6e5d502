//! The named limits of this crate.

/// The longest frame, in bytes. A longer one is refused by the sender before it is sent and by the receiver
/// before it is allocated.
pub const FRAME: usize = 8 << 20;

/// How many bytes a pipe holds before its sender waits. One frame is always let in, however long.
pub const PIPE_BYTES: usize = 1 << 20;

/// How many frames a pipe holds before its sender waits.
pub const PIPE_FRAMES: usize = 256;

/// The longest text of an address, in bytes.
pub const ADDRESS: usize = 1024;

/// How many sockets an Iroh address may name.
pub const DIRECT: usize = 8;

/// The longest host name, in bytes (DNS).
pub const HOST: usize = 253;

/// The longest name of an in-memory endpoint, in bytes.
pub const MEMORY_NAME: usize = 255;

/// How many channels of an in-memory listener wait to be accepted.
pub const MEMORY_BACKLOG: usize = 64;

/// How many requests of an in-memory channel wait to be taken.
pub const MEMORY_REQUESTS: usize = 64;
