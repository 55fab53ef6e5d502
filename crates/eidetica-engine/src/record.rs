//! What survives a restart, record by record.
//!
//! A key is a word, a slash and ids in hexadecimal; a value is one format byte and bincode (variable-width,
//! little-endian). A record is small and stands for one thing, so that a change writes one.
//!
//! Where several processes are one instance, some records are everybody's and the others each process's own:
//! [`Record::is_shared`]. What two of them write of the same at once is put together by [`merge`](crate::merge).

use bytes::Bytes;
use eidetica_entry::{Id, PublicKey};
use serde::{Serialize, de::DeserializeOwned};

use crate::RestoreError;

const FORMAT: u8 = 1;
/// Of cursors: with what the peer has of the payloads.
pub(crate) const CURSOR_FORMAT: u8 = 2;
/// Of invites: with the processes that make a grant.
pub(crate) const INVITE_FORMAT: u8 = 2;

/// One record of a local database.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Record {
    /// Its key: ASCII, at most 160 bytes.
    pub key: String,
    /// Its value; none removes it.
    pub value: Option<Bytes>,
}

impl Record {
    /// Whether it is every process's, where several are one instance: peers, what is synced with them, requests of
    /// others and invites. Else it is the own of the process that wrote it: statistics, cursors, requests and claims of
    /// its own device.
    pub fn is_shared(&self) -> bool {
        Kind::split(&self.key).is_some_and(|(kind, _)| kind.is_shared())
    }
}

/// What kinds of records there are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    Peer,
    Stats,
    History,
    Pair,
    Cursor,
    Incoming,
    Outgoing,
    Claim,
    Invite,
}

impl Kind {
    const ALL: [Self; 9] = [
        Self::Peer,
        Self::Stats,
        Self::History,
        Self::Pair,
        Self::Cursor,
        Self::Incoming,
        Self::Outgoing,
        Self::Claim,
        Self::Invite,
    ];

    fn word(self) -> &'static str {
        match self {
            Self::Peer => "peer",
            Self::Stats => "stats",
            Self::History => "history",
            Self::Pair => "pair",
            Self::Cursor => "cursor",
            Self::Incoming => "incoming",
            Self::Outgoing => "outgoing",
            Self::Claim => "claim",
            Self::Invite => "invite",
        }
    }

    pub(crate) fn is_shared(self) -> bool {
        matches!(
            self,
            Self::Peer | Self::Pair | Self::Incoming | Self::Invite
        )
    }

    /// The kind and the rest of a key.
    pub(crate) fn split(key: &str) -> Option<(Self, &str)> {
        let (word, rest) = key.split_once('/')?;
        Self::ALL
            .into_iter()
            .find(|kind| kind.word() == word)
            .map(|kind| (kind, rest))
    }

    pub(crate) fn key(self, rest: impl std::fmt::Display) -> String {
        format!("{}/{rest}", self.word())
    }
}

/// The rest of a pair's key.
pub(crate) fn pair_key(peer: &PublicKey, database: &Id) -> String {
    format!("{}/{database}", Id::new(peer.to_bytes()))
}

/// The rest of a key that is a public key.
pub(crate) fn key_key(key: &PublicKey) -> String {
    Id::new(key.to_bytes()).to_string()
}

/// The public key that is the rest of a key.
pub(crate) fn parse_key(text: &str) -> Option<PublicKey> {
    text.parse::<Id>()
        .ok()
        .map(|id| PublicKey::new(id.to_bytes()))
}

/// The pair that is the rest of a key.
pub(crate) fn parse_pair(text: &str) -> Option<(PublicKey, Id)> {
    let (peer, database) = text.split_once('/')?;
    Some((parse_key(peer)?, database.parse().ok()?))
}

pub(crate) fn encode<T: Serialize>(value: &T) -> Bytes {
    encode_as(FORMAT, value)
}

#[expect(
    clippy::expect_used,
    reason = "records are plain structs, whose Serialize cannot fail into a vector"
)]
pub(crate) fn encode_as<T: Serialize>(format: u8, value: &T) -> Bytes {
    let mut out = vec![format];
    bincode::serde::encode_into_std_write(value, &mut out, bincode::config::standard())
        .expect("records encode");
    out.into()
}

pub(crate) fn decode<T: DeserializeOwned>(key: &str, value: &[u8]) -> Result<T, RestoreError> {
    decode_as(FORMAT, key, value)
}

/// A record of this format; older ones are for the caller to know.
pub(crate) fn decode_as<T: DeserializeOwned>(
    known: u8,
    key: &str,
    value: &[u8],
) -> Result<T, RestoreError> {
    let corrupt = || RestoreError::Corrupt {
        key: key.to_owned(),
    };
    let (format, body) = value.split_first().ok_or_else(corrupt)?;
    if *format > known {
        return Err(RestoreError::Newer {
            key: key.to_owned(),
            found: *format,
            known,
        });
    }
    let config = bincode::config::standard().with_limit::<{ 1 << 20 }>();
    let (decoded, used) = bincode::serde::decode_from_slice(body, config).map_err(|_| corrupt())?;
    if *format == known && used == body.len() {
        Ok(decoded)
    } else {
        Err(corrupt())
    }
}
