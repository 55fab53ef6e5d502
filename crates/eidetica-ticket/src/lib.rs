//! One string that leads to a database.
//!
//! A [`Ticket`] names a database, the device where it is, ways to that device, and perhaps carries an [`Invite`]: the
//! secret with which the right to it is had without asking. Its text, `eidetica:` and base32, has no character that a
//! shell or a URL must quote, and is read whatever the case of its letters, so that a QR code of it is small.
//!
//! The device's key is pinned: whoever answers at an address has to prove it. A ticket with an invite is a secret; one
//! without is none.
//!
//! This crate reads and writes tickets and does nothing else. `docs/formats/ticket.md` has the bytes.

mod decode;
mod encode;
mod error;
pub mod limits;
mod ticket;

pub use error::TicketError;
pub use ticket::{Invite, Ticket};
