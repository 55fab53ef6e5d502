//! What is known of rooms, as plain data: the session reads it, the screen shows it.

use std::time::Duration;

use eidetica::auth::Permission;
use eidetica::sync::RequestId;
use eidetica::{Height, Id, PublicKey, Stamp};

use crate::address::RoomAddress;

/// A message whose author was verified.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Message {
    /// The row that it is in.
    pub(crate) key: String,
    /// The entry that wrote it.
    pub(crate) stamp: Stamp,
    pub(crate) author: PublicKey,
    /// When it was written, by its author's clock.
    pub(crate) time_ms: Option<u64>,
    pub(crate) text: String,
}

/// A key that may do something in a room, or could once.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Member {
    pub(crate) key: PublicKey,
    /// What the settings call it; may be empty, and several may have the same.
    pub(crate) name: String,
    /// `None` for a key whose right was taken away.
    pub(crate) permission: Option<Permission>,
}

/// Another device that has the room.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Peer {
    pub(crate) device: PublicKey,
    /// The height up to which it has everything that was written here; `None` if that is not known.
    pub(crate) holds: Option<Height>,
    pub(crate) is_connected: bool,
}

/// Somebody who would like to be let in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Request {
    pub(crate) id: RequestId,
    pub(crate) room: Id,
    pub(crate) key: PublicKey,
    pub(crate) name: String,
    pub(crate) permission: Permission,
}

/// A room that is here, as it is now.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct RoomView {
    pub(crate) id: Id,
    pub(crate) name: String,
    /// By descending height: the newest last.
    pub(crate) messages: Vec<Message>,
    /// Whether there are older messages.
    pub(crate) has_more: bool,
    pub(crate) members: Vec<Member>,
    pub(crate) own_key: PublicKey,
    /// What others need to join; `None` while nobody can dial this device.
    pub(crate) address: Option<RoomAddress>,
    /// The same with the key of this device, for a QR code.
    pub(crate) ticket: Option<RoomAddress>,
}

impl RoomView {
    /// What the own key may do.
    pub(crate) fn permission(&self) -> Option<Permission> {
        self.members
            .iter()
            .find(|member| member.key == self.own_key)?
            .permission
    }
}

/// A ticket whose holders are let in without being asked about.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Invitation {
    pub(crate) ticket: RoomAddress,
    /// How many more may use it.
    pub(crate) left: u32,
    /// Until when, in milliseconds since 1970.
    pub(crate) expires_ms: u64,
}

/// How an attempt to join a room stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Joining {
    /// Dialling, or fetching.
    Connecting,
    /// An administrator has to decide.
    Waiting,
    /// Nobody was reached; it goes on.
    Unreachable(String),
    /// It is over.
    Failed(String),
}

/// What the screen asks the session for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Command {
    Send {
        room: Id,
        text: String,
    },
    Create {
        name: String,
    },
    Join(RoomAddress),
    /// Let so many in who come with a ticket, for so long.
    Invite {
        room: Id,
        count: u32,
        lifetime: Duration,
    },
    /// Take all invites to a room back.
    Uninvite(Id),
    /// Older messages of a room.
    More(Id),
    Approve(RequestId),
    Reject(RequestId),
    /// Forget an attempt to join.
    GiveUp(Id),
}

/// What the session tells the screen.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum News {
    Room(Box<RoomView>),
    Peers {
        room: Id,
        peers: Vec<Peer>,
    },
    /// The invite that was made last, while it holds.
    Invited {
        room: Id,
        invitation: Option<Invitation>,
    },
    Joining {
        at: RoomAddress,
        state: Joining,
    },
    /// All requests that wait for a decision.
    Requests(Vec<Request>),
    /// Show this room.
    Show(Id),
    /// Something to read.
    Notice(String),
}
