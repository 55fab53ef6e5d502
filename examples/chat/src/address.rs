//! Where a room is, as one text that people hand to each other: `ROOM_ID@HOST:PORT`, or a ticket.

use std::fmt;
use std::str::FromStr;

use eidetica::Id;
use eidetica::sync::{Address, Ticket};

/// A room, and where somebody who has it can be dialled.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum RoomAddress {
    /// `ROOM_ID@HOST:PORT`: short, and believes whoever answers there.
    Plain { room: Id, at: Address },
    /// `eidetica:…`, which names the device that has to answer too.
    Ticket(Box<Ticket>),
}

impl RoomAddress {
    pub(crate) fn room(&self) -> Id {
        match self {
            Self::Plain { room, .. } => *room,
            Self::Ticket(ticket) => ticket.database(),
        }
    }

    /// Where is dialled first, for people.
    pub(crate) fn place(&self) -> String {
        let first = match self {
            Self::Plain { at, .. } => Some(at.clone()),
            Self::Ticket(ticket) => ticket.addresses().next(),
        };
        first.map_or_else(|| "nowhere".to_owned(), |at| shown(&at.without_key()))
    }

    /// The same without the secret that an invite is.
    pub(crate) fn without_invite(self) -> Self {
        match self {
            Self::Ticket(ticket) => Self::Ticket(Box::new(ticket.without_invite())),
            plain => plain,
        }
    }

    /// The text for a QR code.
    pub(crate) fn to_qr_text(&self) -> String {
        match self {
            Self::Plain { .. } => self.to_string(),
            Self::Ticket(ticket) => ticket.to_qr_text(),
        }
    }
}

fn shown(at: &Address) -> String {
    let text = at.to_string();
    text.strip_prefix("http://").unwrap_or(&text).to_owned()
}

impl fmt::Display for RoomAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Plain { room, at } => write!(f, "{room}@{}", shown(at)),
            Self::Ticket(ticket) => ticket.fmt(f),
        }
    }
}

impl FromStr for RoomAddress {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        // It is long: where it was copied from a screen, it may have been broken.
        let text: String = text.split_whitespace().collect();
        let Some((room, at)) = text.split_once('@') else {
            let ticket: Result<Ticket, _> = text.parse();
            return ticket
                .map(|ticket| Self::Ticket(Box::new(ticket)))
                .map_err(|error| {
                    format!(
                        "a room's address has the form ROOM_ID@HOST:PORT, or is a ticket: {error}"
                    )
                });
        };
        Ok(Self::Plain {
            room: room
                .parse()
                .map_err(|_| "the room's id, before the @, is 64 digits and letters a to f")?,
            at: at
                .parse()
                .map_err(|error| format!("after the @: {error}"))?,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{id, key};

    #[test]
    fn what_is_printed_is_read_again() {
        let id = id(0xab);
        let mut texts: Vec<String> = ["127.0.0.1:4950", "[::1]:8080", "chat.example.com:80"]
            .map(|at| format!("{id}@{at}"))
            .to_vec();
        let addresses = vec!["127.0.0.1:4950".parse().unwrap()];
        texts.push(Ticket::new(id, key(1), addresses).unwrap().to_string());
        for text in texts {
            let address: RoomAddress = text.parse().unwrap();
            assert_eq!(address.to_string(), text);
            assert_eq!(address.room(), id);
            let (start, end) = text.split_at(40);
            assert_eq!(format!(" {start}\n{end} ").parse(), Ok(address.clone()));
            assert_eq!(address.to_qr_text().parse(), Ok(address));
        }
    }

    #[test]
    fn what_is_wrong_is_said() {
        let id = "ab".repeat(32);
        let error = |text: &str| text.parse::<RoomAddress>().unwrap_err();
        assert!(error("127.0.0.1:4950").contains("ROOM_ID@HOST:PORT"));
        assert!(error("eidetica:nothing").contains("ticket"));
        assert!(error("abc123@127.0.0.1:4950").contains("64 digits"));
        assert!(error(&format!("{id}@127.0.0.1:port")).contains("port"));
        assert!(error(&format!("{id}@")).contains("after the @"));
    }
}
