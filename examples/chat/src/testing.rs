//! What tests share: keys, members, messages, rooms.

use eidetica::auth::Permission;
use eidetica::sync::Ticket;
use eidetica::{Height, Id, PublicKey, Stamp};

use crate::address::RoomAddress;
use crate::model::{Member, Message, Request, RoomView};

pub(crate) fn key(n: u8) -> PublicKey {
    format!("ed25519:{}", format!("{n:02x}").repeat(32))
        .parse()
        .unwrap()
}

pub(crate) fn id(n: u8) -> Id {
    format!("{n:02x}").repeat(32).parse().unwrap()
}

pub(crate) fn member(n: u8, name: &str) -> Member {
    Member {
        key: key(n),
        name: name.to_owned(),
        permission: Some(Permission::Write(0)),
    }
}

/// A message of the n-th key at this height, a minute after the one below.
pub(crate) fn message(height: u64, author: u8, text: &str) -> Message {
    Message {
        key: format!("{height:016x}"),
        stamp: Stamp {
            height: Height(height),
            id: id(author),
        },
        author: key(author),
        time_ms: Some(1_795_262_400_000 + height * 60_000),
        text: text.to_owned(),
    }
}

/// A room of alice (1, the own key) and bob (2).
pub(crate) fn room(n: u8, name: &str, messages: Vec<Message>) -> Box<RoomView> {
    Box::new(RoomView {
        id: id(n),
        name: name.to_owned(),
        messages,
        has_more: false,
        members: vec![member(1, "alice"), member(2, "bob")],
        own_key: key(1),
        address: Some(format!("{}@127.0.0.1:4950", id(n)).parse().unwrap()),
        ticket: Some(ticket(n)),
    })
}

/// The n-th key asks to join the room 8.
pub(crate) fn request(n: u8) -> Request {
    Request {
        id: format!("{n:02x}").repeat(32).parse().unwrap(),
        room: id(8),
        key: key(n),
        name: format!("asker{n}"),
        permission: Permission::Write(0),
    }
}

fn ticket(n: u8) -> RoomAddress {
    let addresses = vec!["127.0.0.1:4950".parse().unwrap()];
    RoomAddress::Ticket(Box::new(Ticket::new(id(n), key(7), addresses).unwrap()))
}
