//! What synchronization is asked with and answers.

use eidetica_auth::{KeyName, Permission, RequestId};
use eidetica_engine::{EngineError, IncomingRequest, PeerStatus, RequestState};
use eidetica_entry::Id;
use eidetica_protocol::{BootstrapAnswer, PushOutcome};
use eidetica_transport::Address;

use crate::{KeyId, Result};

/// Arguments that name a place to dial: an [`Address`] or the text of one.
pub trait AsAddress {
    /// The address that is meant.
    ///
    /// # Errors
    /// [`Error::Address`](crate::Error::Address) where a text is none.
    fn as_address(&self) -> Result<Address>;
}

impl AsAddress for Address {
    fn as_address(&self) -> Result<Address> {
        Ok(self.clone())
    }
}

impl AsAddress for str {
    fn as_address(&self) -> Result<Address> {
        Ok(self.parse()?)
    }
}

impl AsAddress for String {
    fn as_address(&self) -> Result<Address> {
        self.as_str().as_address()
    }
}

impl<T: AsAddress + ?Sized> AsAddress for &T {
    fn as_address(&self) -> Result<Address> {
        (**self).as_address()
    }
}

/// A peer that is known here.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct PeerInfo {
    /// Its device key.
    pub pubkey: KeyId,
    /// What the user calls it.
    pub display_name: Option<String>,
    /// How it is treated.
    pub status: PeerStatus,
    /// Where it can be dialled, the last that worked first.
    pub addresses: Vec<Address>,
    /// When it was last connected, in milliseconds since 1970; `None` if never.
    pub last_seen_ms: Option<u64>,
}

impl From<eidetica_engine::PeerInfo> for PeerInfo {
    fn from(peer: eidetica_engine::PeerInfo) -> Self {
        let eidetica_engine::PeerInfo {
            pubkey,
            display_name,
            status,
            addresses,
            last_seen_ms,
        } = peer;
        Self {
            pubkey: pubkey.into(),
            display_name,
            status,
            addresses,
            last_seen_ms,
        }
    }
}

/// A database that a peer offers.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct TreeInfo {
    /// Its id.
    pub tree_id: Id,
    /// Its name, as the peer gives it; empty if it has none.
    pub name: String,
    /// How many entries it has there.
    pub entries: u64,
}

/// What a synchronization with one peer did, over all databases that it was about.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct SyncReport {
    /// The peer that was reached.
    pub peer: KeyId,
    /// The databases.
    pub databases: Vec<Id>,
    /// Whether everything that the peer has of them is here now. Else entries wait for others, or were rejected.
    pub complete: bool,
    /// Entries that came in and were new.
    pub entries_received: u64,
    /// Entries that went out and were new to the peer.
    pub entries_sent: u64,
    /// Packs of entries that went out.
    pub packs_sent: u64,
    /// Bytes, both ways.
    pub bytes: u64,
}

impl SyncReport {
    /// Adds up what became of each database.
    ///
    /// # Errors
    /// That of the first database that failed.
    pub(crate) fn of(report: eidetica_node::SyncReport) -> Result<Self, EngineError> {
        let empty = |peer| Self {
            peer,
            databases: Vec::new(),
            complete: true,
            entries_received: 0,
            entries_sent: 0,
            packs_sent: 0,
            bytes: 0,
        };
        let mut sum = empty(report.peer.into());
        for (database, outcome) in report.databases {
            let outcome = outcome?;
            sum.databases.push(database);
            sum.complete &= outcome.complete;
            sum.entries_received += outcome.received.new;
            if let PushOutcome::Done { new, .. } = outcome.push {
                sum.entries_sent += new;
            }
            sum.packs_sent += outcome.packs_sent;
            sum.bytes += outcome.frame_bytes;
        }
        Ok(sum)
    }
}

/// Somebody's request for access to a database here.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct BootstrapRequest {
    /// The request's id.
    pub id: RequestId,
    /// The database.
    pub database_id: Id,
    /// The key that asks, and has proven itself.
    pub key: KeyId,
    /// What the key would like to be called.
    pub name: KeyName,
    /// What it asks for.
    pub permission: Permission,
    /// The device it asks from.
    pub device: KeyId,
    /// When it came, in milliseconds since 1970.
    pub received_ms: u64,
    /// How it stands.
    pub state: RequestState,
}

impl From<IncomingRequest> for BootstrapRequest {
    fn from(incoming: IncomingRequest) -> Self {
        let asked = incoming.request.request();
        Self {
            id: incoming.id,
            database_id: asked.database,
            key: asked.key.into(),
            name: asked.name.clone(),
            permission: asked.permission,
            device: asked.device.into(),
            received_ms: incoming.received_ms,
            state: incoming.state,
        }
    }
}

/// How a request for access that was made from here stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum BootstrapStatus {
    /// The key has what it asked for.
    Granted,
    /// An administrator has to decide.
    Pending(RequestId),
    /// Refused, or unknown there: nobody can tell which.
    Denied,
}

impl From<BootstrapAnswer> for BootstrapStatus {
    fn from(answer: BootstrapAnswer) -> Self {
        match answer {
            BootstrapAnswer::Granted => Self::Granted,
            BootstrapAnswer::Pending(id) => Self::Pending(id),
            BootstrapAnswer::Denied => Self::Denied,
        }
    }
}

#[cfg(test)]
mod tests {
    use eidetica_entry::PublicKey;
    use eidetica_protocol::{Holding, IngestTotals, Outcome, Relation};

    use super::*;

    #[test]
    fn a_sync_that_left_something_out_says_so() {
        let outcome = |complete| Outcome {
            relation: Relation::Behind,
            complete,
            received: IngestTotals::default(),
            push: PushOutcome::Nothing,
            packs_sent: 0,
            compared: 0,
            requests: 1,
            frame_bytes: 0,
            common: Vec::new(),
            last: None,
            holding: Holding::default(),
        };
        let report = |all: &[bool]| {
            let databases = all
                .iter()
                .map(|complete| (Id::new([1; 32]), Ok(outcome(*complete))));
            SyncReport::of(eidetica_node::SyncReport {
                peer: PublicKey::new([2; 32]),
                databases: databases.collect(),
            })
        };
        let is_complete = |all| report(all).unwrap().complete;
        assert!(is_complete(&[]) && is_complete(&[true, true]));
        assert!(!is_complete(&[true, false, true]));
    }
}
