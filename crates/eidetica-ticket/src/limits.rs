//! The named limits of this crate.

/// Greatest number of addresses in a ticket.
pub const ADDRESSES: usize = 4;

/// Greatest length of an address that is written out, in bytes.
pub const ADDRESS_TEXT: usize = 255;

/// Greatest length of a relay's URL, in bytes.
pub const RELAY_TEXT: usize = 255;

/// Greatest size of a ticket in bytes: all addresses as long as may be, and an invite.
pub const BYTES: usize = 2048;

/// Greatest length of its text, in bytes.
pub const TEXT: usize = PREFIX_LEN + BYTES.div_ceil(5) * 8;

/// Bytes of `eidetica:`.
pub(crate) const PREFIX_LEN: usize = 9;
