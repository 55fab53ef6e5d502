//! How synchronization stands. The engine records it as it works, and it survives a restart.

use eidetica_engine::PastSync;
use eidetica_entry::Id;
use eidetica_node::NodeHandle;

use crate::{AsDatabaseId, AsKey, Error, KeyRef, Result};

/// Where the state is read from.
pub struct SyncTree {
    node: NodeHandle,
}

impl SyncTree {
    pub(crate) fn new(node: NodeHandle) -> Self {
        Self { node }
    }

    /// Begins to read.
    ///
    /// # Errors
    /// None today.
    pub fn new_operation(&self) -> Result<SyncOperation> {
        Ok(SyncOperation {
            node: self.node.clone(),
        })
    }
}

/// Reads how synchronization stands.
pub struct SyncOperation {
    node: NodeHandle,
}

/// Answers how synchronization stands, by peer and database.
pub struct SyncStateManager<'a> {
    op: &'a SyncOperation,
}

/// How far a database is synchronized with a peer.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct SyncCursor {
    /// The highest entry that both had after the last synchronization.
    pub last_synced_entry: Option<Id>,
    /// When that was, in milliseconds since 1970.
    pub last_synced_ms: Option<u64>,
}

/// How synchronization with a peer went, over all databases.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct SyncMetadata {
    /// Synchronizations that reached their end.
    pub successful_sync_count: u64,
    /// Synchronizations that did not.
    pub failed_sync_count: u64,
    /// When one last succeeded, in milliseconds since 1970.
    pub last_success_ms: Option<u64>,
    /// When one last failed.
    pub last_failure_ms: Option<u64>,
    /// Entries that came in and were new.
    pub entries_received: u64,
    /// Bytes, both ways.
    pub bytes: u64,
}

impl SyncMetadata {
    /// The part of synchronizations that succeeded, 0 to 1; 0 before the first.
    pub fn sync_success_rate(&self) -> f64 {
        match self
            .successful_sync_count
            .saturating_add(self.failed_sync_count)
        {
            0 => 0.0,
            all => self.successful_sync_count as f64 / all as f64,
        }
    }
}

/// One synchronization that is over.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct SyncHistoryEntry {
    /// When it ended, in milliseconds since 1970.
    pub ended_ms: u64,
    /// Of which database.
    pub database_id: Id,
    /// Entries that came in and were new.
    pub entries_received: u64,
    /// Entries that went out and were new there.
    pub entries_sent: u64,
    /// Bytes, both ways.
    pub bytes: u64,
    /// Why it did not reach its end; `None` if it did.
    pub error: Option<String>,
}

impl<'a> SyncStateManager<'a> {
    /// Reads through `op`.
    pub fn new(op: &'a SyncOperation) -> Self {
        Self { op }
    }

    /// How far a database is synchronized with a peer; empty before the first time.
    ///
    /// # Errors
    /// [`Error::NoSuchPeer`] where a text is no key, and [`Error::Text`] where one is no id.
    pub fn get_sync_cursor(
        &self,
        peer: impl AsKey,
        database: impl AsDatabaseId,
    ) -> Result<SyncCursor> {
        let KeyRef::Id(key) = peer.as_key() else {
            return Err(Error::NoSuchPeer(Box::new(peer.as_key())));
        };
        let cursor = self
            .op
            .node
            .cursor(&key.public_key(), &database.as_database_id()?)
            .unwrap_or_default();
        let last_synced_entry = cursor.last.map(|stamp| stamp.id);
        Ok(SyncCursor {
            last_synced_entry,
            last_synced_ms: cursor.last_synced_ms,
        })
    }

    /// The last synchronizations with a peer, the newest first; a limited number of them.
    ///
    /// # Errors
    /// [`Error::NoSuchPeer`] where a text is no key.
    pub fn get_sync_history(&self, peer: impl AsKey) -> Result<Vec<SyncHistoryEntry>> {
        let KeyRef::Id(key) = peer.as_key() else {
            return Err(Error::NoSuchPeer(Box::new(peer.as_key())));
        };
        let past = self.op.node.history(&key.public_key());
        let entry = |past: PastSync| SyncHistoryEntry {
            ended_ms: past.at_ms,
            database_id: past.database,
            entries_received: past.received,
            entries_sent: past.sent,
            bytes: past.frame_bytes,
            error: past.error,
        };
        Ok(past.into_iter().rev().map(entry).collect())
    }

    /// How synchronization with a peer went; all zero before the first time.
    ///
    /// # Errors
    /// [`Error::NoSuchPeer`] where a text is no key.
    pub fn get_sync_metadata(&self, peer: impl AsKey) -> Result<SyncMetadata> {
        let KeyRef::Id(key) = peer.as_key() else {
            return Err(Error::NoSuchPeer(Box::new(peer.as_key())));
        };
        let stats = self.op.node.stats(&key.public_key()).unwrap_or_default();
        Ok(SyncMetadata {
            successful_sync_count: stats.successes,
            failed_sync_count: stats.failures,
            last_success_ms: stats.last_success_ms,
            last_failure_ms: stats.last_failure_ms,
            entries_received: stats.entries_received,
            bytes: stats.frame_bytes,
        })
    }
}
