//! Tickets as bytes and as text.

use core::net::{IpAddr, SocketAddr};

use data_encoding::{Encoding, Specification};
use eidetica_auth::Permission;
use eidetica_transport::{Address, EndpointAddress, Scheme};

use crate::{Ticket, TicketError, limits, ticket::Invite};

pub(crate) const PREFIX: &str = "eidetica:";
pub(crate) const VERSION: u8 = 1;
pub(crate) const CHECKSUM: usize = 4;
pub(crate) const WITH_INVITE: u8 = 1;

/// An address as text.
pub(crate) const TEXT: u8 = 0;
/// An Iroh address of the ticket's device.
pub(crate) const ENDPOINT: u8 = 1;
/// An HTTP address by its socket.
pub(crate) const HTTP_SOCKET: u8 = 2;

pub(crate) const V4: u8 = 4;
pub(crate) const V6: u8 = 6;

pub(crate) const READ: u8 = 0;
pub(crate) const WRITE: u8 = 1;
pub(crate) const ADMIN: u8 = 2;

/// Base32 without padding, in small letters, read in any.
pub(crate) fn base32() -> Encoding {
    let mut specification = Specification::new();
    specification
        .symbols
        .push_str("abcdefghijklmnopqrstuvwxyz234567");
    specification
        .translate
        .from
        .push_str("ABCDEFGHIJKLMNOPQRSTUVWXYZ");
    specification
        .translate
        .to
        .push_str("abcdefghijklmnopqrstuvwxyz");
    // A constant, made in every test.
    #[expect(clippy::expect_used, reason = "the specification is a constant")]
    specification.encoding().expect("an alphabet of 32 letters")
}

pub(crate) fn checksum(bytes: &[u8]) -> [u8; CHECKSUM] {
    let [a, b, c, d, ..] = blake3::derive_key("eidetica ticket checksum v1", bytes);
    [a, b, c, d]
}

/// Whether an address fits into a ticket.
pub(crate) fn check(address: &Address) -> Result<(), TicketError> {
    let fits = match address.endpoint() {
        Some(place) => place
            .relay()
            .is_none_or(|relay| relay.to_string().len() <= limits::RELAY_TEXT),
        None => address.to_string().len() <= limits::ADDRESS_TEXT,
    };
    match fits {
        true => Ok(()),
        false => Err(TicketError::LongAddress(address.clone())),
    }
}

pub(crate) fn text(ticket: &Ticket) -> String {
    let mut bytes = vec![VERSION];
    bytes.push(if ticket.invite().is_some() {
        WITH_INVITE
    } else {
        0
    });
    bytes.extend_from_slice(ticket.database().as_bytes());
    bytes.extend_from_slice(ticket.device().as_bytes());
    bytes.push(ticket.plain_addresses().len() as u8);
    for address in ticket.plain_addresses() {
        put_address(&mut bytes, address);
    }
    if let Some(invite) = ticket.invite() {
        put_invite(&mut bytes, invite);
    }
    let checksum = checksum(&bytes);
    bytes.extend_from_slice(&checksum);
    let mut text = PREFIX.to_owned();
    base32().encode_append(&bytes, &mut text);
    text
}

fn put_address(bytes: &mut Vec<u8>, address: &Address) {
    if let Some(place) = address.endpoint() {
        return put_endpoint(bytes, place);
    }
    if let Some(socket) = http_socket(address) {
        bytes.push(HTTP_SOCKET);
        return put_socket(bytes, &socket);
    }
    bytes.push(TEXT);
    put_text(bytes, &address.to_string());
}

/// The socket of an HTTP address that names an IP.
pub(crate) fn http_socket(address: &Address) -> Option<SocketAddr> {
    let port = address
        .port()
        .filter(|_| address.scheme() == Scheme::Http)?;
    let ip: IpAddr = address.host().parse().ok()?;
    Some(SocketAddr::new(ip, port))
}

fn put_endpoint(bytes: &mut Vec<u8>, place: &EndpointAddress) {
    bytes.push(ENDPOINT);
    put_text(
        bytes,
        &place.relay().map(ToString::to_string).unwrap_or_default(),
    );
    bytes.push(place.direct().len() as u8);
    for socket in place.direct() {
        put_socket(bytes, socket);
    }
}

fn put_socket(bytes: &mut Vec<u8>, socket: &SocketAddr) {
    match socket.ip() {
        IpAddr::V4(ip) => {
            bytes.push(V4);
            bytes.extend_from_slice(&ip.octets());
        }
        IpAddr::V6(ip) => {
            bytes.push(V6);
            bytes.extend_from_slice(&ip.octets());
        }
    }
    bytes.extend_from_slice(&socket.port().to_le_bytes());
}

/// A text of at most 255 bytes, which `check` has seen to.
fn put_text(bytes: &mut Vec<u8>, text: &str) {
    bytes.push(text.len() as u8);
    bytes.extend_from_slice(text.as_bytes());
}

fn put_invite(bytes: &mut Vec<u8>, invite: &Invite) {
    bytes.extend_from_slice(&*invite.secret.expose());
    let (kind, rank) = match invite.permission {
        Permission::Read => (READ, 0),
        Permission::Write(rank) => (WRITE, rank),
        Permission::Admin(rank) => (ADMIN, rank),
    };
    bytes.push(kind);
    bytes.extend_from_slice(&rank.to_le_bytes());
    bytes.extend_from_slice(&invite.expires_ms.to_le_bytes());
}
