//! Tickets from text. Total: any text gives a ticket or an error, and a ticket has one encoding only.

use core::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use eidetica_auth::{Permission, SecretKey, check_public_key};
use eidetica_entry::{Id, PublicKey};
use eidetica_transport::{Address, EndpointAddress};

use crate::{
    Ticket, TicketError,
    encode::{
        ADMIN, CHECKSUM, ENDPOINT, HTTP_SOCKET, PREFIX, READ, TEXT, V4, V6, VERSION, WITH_INVITE,
        WRITE, base32, checksum,
    },
    limits,
    ticket::Invite,
};

pub(crate) fn text(text: &str) -> Result<Ticket, TicketError> {
    let text = text.trim();
    if text.len() > limits::TEXT {
        return Err(TicketError::TooLong(text.len()));
    }
    let (prefix, letters) = text
        .split_at_checked(PREFIX.len())
        .ok_or(TicketError::NotATicket)?;
    if !prefix.eq_ignore_ascii_case(PREFIX) {
        return Err(TicketError::NotATicket);
    }
    let bytes = base32()
        .decode(letters.as_bytes())
        .map_err(|_| TicketError::Characters)?;
    let (body, found) = bytes
        .split_last_chunk::<CHECKSUM>()
        .ok_or(TicketError::Checksum)?;
    if checksum(body) != *found {
        return Err(TicketError::Checksum);
    }
    let ticket = Reader { rest: body }.ticket()?;
    match crate::encode::text(&ticket).eq_ignore_ascii_case(text) {
        true => Ok(ticket),
        false => Err(TicketError::Malformed("another form of the same")),
    }
}

struct Reader<'a> {
    rest: &'a [u8],
}

impl Reader<'_> {
    fn ticket(mut self) -> Result<Ticket, TicketError> {
        match self.byte()? {
            VERSION => {}
            newer => return Err(TicketError::Version(newer)),
        }
        let invited = match self.byte()? {
            0 => false,
            WITH_INVITE => true,
            _ => return Err(TicketError::Malformed("unknown flags")),
        };
        let database = Id::new(self.bytes()?);
        let device = PublicKey::new(self.bytes()?);
        check_public_key(&device)
            .map_err(|_| TicketError::Malformed("the device's key is none"))?;
        let count = usize::from(self.byte()?);
        if count > limits::ADDRESSES {
            return Err(TicketError::TooManyAddresses);
        }
        let addresses = (0..count)
            .map(|_| self.address(device))
            .collect::<Result<Vec<_>, _>>()?;
        let mut ticket = Ticket::new(database, device, addresses)?;
        if invited {
            ticket = ticket.with_invite(self.invite()?);
        }
        match self.rest {
            [] => Ok(ticket),
            _ => Err(TicketError::Malformed("more bytes than it needs")),
        }
    }

    fn address(&mut self, device: PublicKey) -> Result<Address, TicketError> {
        match self.byte()? {
            TEXT => Ok(self.text()?.parse()?),
            ENDPOINT => self.endpoint(device).map(Address::from),
            HTTP_SOCKET => {
                let socket = self.socket()?;
                Ok(Address::http(&socket.to_string())?)
            }
            _ => Err(TicketError::Malformed("an unknown kind of address")),
        }
    }

    fn endpoint(&mut self, device: PublicKey) -> Result<EndpointAddress, TicketError> {
        let mut place = EndpointAddress::new(device);
        let relay = self.text()?;
        if !relay.is_empty() {
            place = place.with_relay(relay.parse()?);
        }
        let count = self.byte()?;
        let sockets = (0..count)
            .map(|_| self.socket())
            .collect::<Result<Vec<_>, _>>()?;
        Ok(place.with_direct(sockets)?)
    }

    fn socket(&mut self) -> Result<SocketAddr, TicketError> {
        let ip = match self.byte()? {
            V4 => IpAddr::from(Ipv4Addr::from(self.bytes::<4>()?)),
            V6 => IpAddr::from(Ipv6Addr::from(self.bytes::<16>()?)),
            _ => return Err(TicketError::Malformed("an unknown kind of IP address")),
        };
        Ok(SocketAddr::new(ip, u16::from_le_bytes(self.bytes()?)))
    }

    fn invite(&mut self) -> Result<Invite, TicketError> {
        let secret = SecretKey::from_bytes(&self.bytes()?);
        let (kind, rank) = (self.byte()?, u32::from_le_bytes(self.bytes()?));
        let permission = match (kind, rank) {
            (READ, 0) => Permission::Read,
            (WRITE, rank) => Permission::Write(rank),
            (ADMIN, rank) => Permission::Admin(rank),
            _ => return Err(TicketError::Malformed("an unknown permission")),
        };
        Ok(Invite {
            secret,
            permission,
            expires_ms: u64::from_le_bytes(self.bytes()?),
        })
    }

    fn text(&mut self) -> Result<String, TicketError> {
        let len = usize::from(self.byte()?);
        let (text, rest) = self
            .rest
            .split_at_checked(len)
            .ok_or(TicketError::Malformed("it ends too early"))?;
        self.rest = rest;
        String::from_utf8(text.to_vec())
            .map_err(|_| TicketError::Malformed("a text that is not UTF-8"))
    }

    fn byte(&mut self) -> Result<u8, TicketError> {
        let [byte] = self.bytes()?;
        Ok(byte)
    }

    fn bytes<const N: usize>(&mut self) -> Result<[u8; N], TicketError> {
        let (bytes, rest) = self
            .rest
            .split_first_chunk::<N>()
            .ok_or(TicketError::Malformed("it ends too early"))?;
        self.rest = rest;
        Ok(*bytes)
    }
}
