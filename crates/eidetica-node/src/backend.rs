//! What the driver asks of the databases of an instance.

use bytes::Bytes;
use eidetica_auth::SignedRequest;
use eidetica_engine::{Facts, GrantOutcome, Record, Wishes};
use eidetica_entry::reconcile::{Contrast, Detail, Span};
use eidetica_entry::{Id, PublicKey};
use eidetica_protocol::{
    Closure, Cursor, DatabaseInfo, Frontier, IdPrefix, IngestBatch, IngestError, IngestReport,
    PackPage, Sketch, Unavailable,
};

/// The databases, the settings and the keys of an instance, as the driver needs them.
///
/// All functions may block; they are called on a bounded pool, several at once, `ingest` one at a time per database.
/// A database that is not offered to peers (local, disabled, unknown) is not here for `can_read`, `discover` and
/// `facts`; the others are asked only after `can_read` said yes, or for a sync of our own.
///
/// # Errors
/// [`Unavailable`]: storage failed or is closed. Never a verdict.
pub trait Backend: Send + Sync + 'static {
    /// Whether one of the keys has at least Read in the present settings of a database offered to peers.
    fn can_read(&self, database: &Id, keys: &[PublicKey]) -> Result<bool, Unavailable>;

    /// The effective tips, and what is here of the databases that this one delegates to; `None` if the database is not
    /// here.
    fn tips(&self, database: &Id) -> Result<Option<Frontier>, Unavailable>;

    /// Which of these entries are in the history, one answer per id.
    fn known(&self, database: &Id, ids: &[Id]) -> Result<Vec<bool>, Unavailable>;

    /// What is in some spans of the entries that are passed on; or, where all of `since` are here and few entries are
    /// beyond them, those.
    fn describe(
        &self,
        database: &Id,
        since: &[Id],
        spans: &[(Span, Detail)],
    ) -> Result<Sketch, Unavailable>;

    /// How the entries here that are passed on differ from what a peer says of its own; none where too many are beyond
    /// `common`. At most `limit` of the entries here are named.
    fn contrast(
        &self,
        database: &Id,
        common: &[Id],
        theirs: &Sketch,
        limit: usize,
    ) -> Result<Option<Contrast>, Unavailable>;

    /// A page of packs of the entries whose ids begin like these, as [`difference`](Self::difference) gives them.
    fn selected(
        &self,
        database: &Id,
        ids: &[IdPrefix],
        closures: &[Closure],
        cursor: Option<&Cursor>,
        budget_bytes: usize,
    ) -> Result<PackPage, Unavailable>;

    /// A page of packs of what is in the past of the tips and not in that of `not`, parents first; before them packs
    /// of the delegated databases that they are judged by, as far as those are above `closures`.
    fn difference(
        &self,
        database: &Id,
        not: &[Id],
        closures: &[Closure],
        cursor: Option<&Cursor>,
        budget_bytes: usize,
    ) -> Result<PackPage, Unavailable>;

    /// The void entries that are nobody's parents, the highest
    /// [`VOID_LEAVES`](eidetica_protocol::limits::VOID_LEAVES).
    fn void(&self, database: &Id) -> Result<Vec<Id>, Unavailable>;

    /// One page of packs of what is in the past of these void leaves, and neither in that of the tips nor in that of
    /// `not`.
    fn void_packs(
        &self,
        database: &Id,
        of: &[Id],
        not: &[Id],
        budget_bytes: usize,
    ) -> Result<PackPage, Unavailable>;

    /// The databases offered to peers that one of the keys may read.
    fn discover(&self, keys: &[PublicKey]) -> Result<Vec<DatabaseInfo>, Unavailable>;

    /// Judges packs of the peer `from` and applies what is sound, in order. Creates the database only if the batch
    /// says so.
    ///
    /// # Errors
    /// The packs are malformed, or storage failed.
    fn ingest(&self, batch: &IngestBatch, from: &PublicKey) -> Result<IngestReport, IngestError>;

    /// What is known about the key of a bootstrap request.
    fn facts(&self, database: &Id, key: &PublicKey) -> Result<Facts, Unavailable>;

    /// Commits a grant of what `request` asks for, by an administrator's key that is unlocked, only if the asking key
    /// has no explicit right. The grant says that it was made at `now_ms`.
    ///
    /// # Errors
    /// Why there is no grant, as a fragment after "the grant was not made: ".
    fn grant(
        &self,
        request: &SignedRequest,
        by: &PublicKey,
        now_ms: u64,
    ) -> Result<GrantOutcome, String>;

    /// The same for whoever holds an invite: a key that was ever revoked here gets nothing without an administrator's
    /// looking.
    ///
    /// # Errors
    /// As there.
    fn redeem(
        &self,
        request: &SignedRequest,
        by: &PublicKey,
        now_ms: u64,
    ) -> Result<GrantOutcome, String>;

    /// What the users want of the databases that they track, when the node starts; nothing by default.
    ///
    /// # Errors
    /// Storage failed.
    fn wishes(&self) -> Result<Vec<(Id, Wishes)>, Unavailable> {
        Ok(Vec::new())
    }

    /// All records of the engine.
    fn load(&self) -> Result<Vec<(String, Bytes)>, Unavailable>;

    /// Writes records durably, all or none, in order.
    fn persist(&self, records: &[Record]) -> Result<(), Unavailable>;
}
