//! Where a room is, as one text that people hand to each other: `ROOM_ID@HOST:PORT`.

use std::fmt;
use std::str::FromStr;

use eidetica::Id;
use eidetica::sync::Address;

/// A room, and where somebody who has it can be dialled.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct RoomAddress {
    pub(crate) room: Id,
    pub(crate) at: Address,
}

impl fmt::Display for RoomAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let at = self.at.to_string();
        write!(
            f,
            "{}@{}",
            self.room,
            at.strip_prefix("http://").unwrap_or(&at)
        )
    }
}

impl FromStr for RoomAddress {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        // It is long: where it was copied from a screen, it may have been broken.
        let text: String = text.split_whitespace().collect();
        let (room, at) = text
            .split_once('@')
            .ok_or("a room's address has the form ROOM_ID@HOST:PORT")?;
        Ok(Self {
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

    #[test]
    fn what_is_printed_is_read_again() {
        let id = "ab".repeat(32);
        for at in ["127.0.0.1:4950", "[::1]:8080", "chat.example.com:80"] {
            let text = format!("{id}@{at}");
            let address: RoomAddress = text.parse().unwrap();
            assert_eq!(address.to_string(), text);
            let (start, end) = text.split_at(40);
            assert_eq!(format!(" {start}\n{end} ").parse(), Ok(address));
        }
    }

    #[test]
    fn what_is_wrong_is_said() {
        let id = "ab".repeat(32);
        let error = |text: &str| text.parse::<RoomAddress>().unwrap_err();
        assert!(error("127.0.0.1:4950").contains("ROOM_ID@HOST:PORT"));
        assert!(error("abc123@127.0.0.1:4950").contains("64 digits"));
        assert!(error(&format!("{id}@127.0.0.1:port")).contains("port"));
        assert!(error(&format!("{id}@")).contains("after the @"));
    }
}
