//! What the driver asks of the databases of an instance.

use std::{any::Any, sync::Arc};

use bytes::Bytes;
use eidetica_auth::{DeviceClaim, SignedRequest};
use eidetica_engine::{Facts, GrantOutcome, LeaseChange, Record, Wishes};
use eidetica_entry::reconcile::{Contrast, Detail, Span};
use eidetica_entry::{Id, PublicKey};
use eidetica_protocol::{
    Closure, Cursor, DatabaseInfo, Frontier, IdPrefix, IngestBatch, IngestError, IngestReport,
    Lacking, PackPage, Sketch, Stores, Unavailable,
};

/// What other processes of the same instance have written, since it was last asked for.
#[derive(Debug, Default)]
pub struct Followed {
    /// Records that stand otherwise now.
    pub records: Vec<Record>,
    /// What the users want of databases that they track by now; none where nobody does any more.
    pub wishes: Vec<(Id, Option<Wishes>)>,
    /// Claims that were made for the devices of this process.
    pub claims: Vec<DeviceClaim>,
}

/// The turn of one ingest among those into the same database: dropping it lets the next one begin.
pub type Turn = Box<dyn Send>;

/// The databases, the settings and the keys of an instance, as the driver needs them.
///
/// All functions may block; they are called on a bounded pool, several at once, `ingest` one at a time per database
/// until its [`Turn`] is over.
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
        stores: &Stores,
        cursor: Option<&Cursor>,
        budget_bytes: usize,
    ) -> Result<PackPage, Unavailable>;

    /// A page of packs of what is in the past of the tips and not in that of `not`, parents first; before them packs
    /// of the delegated databases that they are judged by, as far as those are above `closures`. With the payloads of
    /// some stores.
    fn difference(
        &self,
        database: &Id,
        not: &[Id],
        closures: &[Closure],
        stores: &Stores,
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
        stores: &Stores,
        budget_bytes: usize,
    ) -> Result<PackPage, Unavailable>;

    /// The stores whose payloads are held of a database, which may not be here yet.
    fn holds(&self, database: &Id) -> Result<Stores, Unavailable>;

    /// Which payloads of those are not here, of these stores alone, from a place or from anywhere on: at most `limit`
    /// entries.
    fn lacking(
        &self,
        database: &Id,
        of: &Stores,
        from: Option<u64>,
        limit: usize,
    ) -> Result<Lacking, Unavailable>;

    /// A page of packs of those entries that have a payload of one of these stores here, with nothing else.
    fn payloads(
        &self,
        database: &Id,
        ids: &[IdPrefix],
        stores: &Stores,
        cursor: Option<&Cursor>,
        budget_bytes: usize,
    ) -> Result<PackPage, Unavailable>;

    /// The databases offered to peers that one of the keys may read.
    fn discover(&self, keys: &[PublicKey]) -> Result<Vec<DatabaseInfo>, Unavailable>;

    /// Judges packs of the peer `from` and applies what is sound, in order. Creates the database only if the batch
    /// says so. Drops its turn as soon as another call may begin, whose packs are applied after these.
    ///
    /// # Errors
    /// The packs are malformed, or storage failed.
    fn ingest(
        &self,
        batch: &IngestBatch,
        from: &PublicKey,
        turn: Turn,
    ) -> Result<IngestReport, IngestError>;

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

    /// Writes records durably: the shared ones all or none, then the own ones all or none, each in order. The answer
    /// is what stands there instead of some, where other processes have written meanwhile.
    fn persist(&self, records: &[Record]) -> Result<Vec<Record>, Unavailable>;

    /// Whether other processes may be the same instance; none by default.
    fn is_shared(&self) -> bool {
        false
    }

    /// What other processes have written; asked often, one lookup where there is nothing.
    fn follow(&self) -> Result<Followed, Unavailable> {
        Ok(Followed::default())
    }

    /// Writes those of these rows that are as expected, each for itself, durably, and reads all.
    fn lease(&self, _changes: &[LeaseChange]) -> Result<Vec<(String, Bytes)>, Unavailable> {
        Ok(Vec::new())
    }

    /// Calls `hint`, from any thread, when there may be something to follow, for as long as the result lives.
    fn watch(&self, _hint: Arc<dyn Fn() + Send + Sync>) -> Option<Box<dyn Any + Send + Sync>> {
        None
    }
}
