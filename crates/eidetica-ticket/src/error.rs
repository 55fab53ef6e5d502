//! Why a text is no ticket.

use eidetica_transport::{Address, AddressError};

use crate::limits;

/// Why a text is no ticket, or parts do not make one. Reads as a fragment after "cannot join: ".
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum TicketError {
    /// Text that does not begin with `eidetica:`.
    #[error("a ticket begins with eidetica:")]
    NotATicket,
    /// Longer than [`TEXT`](limits::TEXT).
    #[error("a text of {0} bytes is longer than any ticket")]
    TooLong(usize),
    /// A character that does not belong there, or a letter too many.
    #[error("a ticket has letters and the digits 2 to 7 only")]
    Characters,
    /// It was changed or cut on the way: its checksum does not fit.
    #[error("the ticket is damaged: a part is missing or mistyped")]
    Checksum,
    /// Written by a newer version.
    #[error("the ticket is of version {0}, which this program does not know")]
    Version(u8),
    /// The checksum fits, and the bytes are no ticket: nobody mistyped that.
    #[error("the ticket is malformed: {0}")]
    Malformed(&'static str),
    /// An address in it that is none.
    #[error("the ticket has a bad address: {0}")]
    Address(#[from] AddressError),
    /// More than [`ADDRESSES`](limits::ADDRESSES) addresses.
    #[error("a ticket has at most {} addresses", limits::ADDRESSES)]
    TooManyAddresses,
    /// An address that leads to another device than the ticket names.
    #[error("{0} leads to another device than the ticket names")]
    OtherDevice(Address),
    /// An address that is too long for a ticket.
    #[error("{0} is too long for a ticket")]
    LongAddress(Address),
}
