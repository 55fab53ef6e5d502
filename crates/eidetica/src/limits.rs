//! Named limits of this crate. Each is tested at the limit and one above.

/// Greatest length of the text of a [`SealedKey`](crate::user::SealedKey) in bytes; with the longest
/// name it is about half of this.
pub const SEALED_KEY_BYTES: usize = 1024;

/// Least number of characters of a passphrase that seals a key for the way to another device: such a
/// text can be copied and guessed at for ever.
pub const PASSPHRASE_CHARS: usize = 8;

/// Greatest Argon2id memory that a sealed key may ask for before it is opened, in KiB (256 MiB): the
/// text may be a stranger's.
pub const SEALED_KEY_MEMORY_KIB: u32 = 256 << 10;

/// Greatest number of Argon2id passes that a sealed key may ask for.
pub const SEALED_KEY_PASSES: u32 = 16;

/// Bytes of packs that are looked at to count the entries that are left to send to one peer; what is
/// more is said to be more.
pub const COUNTED_BYTES: usize = 256 << 10;

/// For how long [`Sync::await_bootstrap`](crate::sync::Sync::await_bootstrap) waits, in days: as long as
/// a request is remembered.
pub const REQUEST_DAYS: u64 = 7;

/// Nodes with a name, and a device key, of their own that one instance may have.
pub const NODES: usize = 64;

/// Bytes of the name of a node.
pub const NODE_NAME: usize = 100;
