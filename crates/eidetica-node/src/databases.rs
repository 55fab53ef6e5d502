//! The databases of an instance as the driver's [`Backend`].

use std::sync::Arc;

use bytes::Bytes;
use eidetica_auth::{AccessRequest, Right, SecretKey, SignedRequest};
use eidetica_crdt::Value;
use eidetica_database::{Blame, Database, Databases, Error, IngestRequest, LocalDatabase, limits};
use eidetica_engine::{Facts, GrantOutcome, Record, Wishes};
use eidetica_entry::{
    Id, PublicKey, Stamp,
    reconcile::{Contrast, Detail, Span},
};
use eidetica_protocol::{
    Closure, Cursor, DatabaseInfo, Frontier, IdPrefix, IngestBatch, IngestError, IngestReport,
    PackPage, Parts, Sketch, Unavailable, limits as protocol_limits,
};

use crate::Backend;

/// The name of the local database that holds the engine's records.
pub const SYNC_DATABASE: &str = "_sync";

/// The store in it.
const RECORDS: &str = "engine";

/// What the users of an instance decide.
pub trait Policy: Send + Sync + 'static {
    /// Whether peers may know of this database, as far as its own settings let them.
    fn offers(&self, database: &Id) -> bool;

    /// What the users want of the databases that they track, now; nothing by default, as if nobody tracked any.
    fn wishes(&self) -> Vec<(Id, Wishes)> {
        Vec::new()
    }

    /// The secret key of an administrator, if it is unlocked.
    fn unlocked(&self, key: &PublicKey) -> Option<Arc<SecretKey>>;
}

/// The databases of an instance, with what its users decide. Records stand in the local database
/// [`SYNC_DATABASE`].
pub struct DatabasesBackend {
    databases: Databases,
    records: LocalDatabase,
    policy: Arc<dyn Policy>,
}

impl DatabasesBackend {
    /// The backend over these databases.
    ///
    /// # Errors
    /// The engine's.
    pub fn new(databases: Databases, policy: Arc<dyn Policy>) -> Result<Self, Error> {
        let records = databases.local(SYNC_DATABASE)?;
        Ok(Self {
            databases,
            records,
            policy,
        })
    }

    /// Commits a grant of what a request asks for, by a key that is unlocked.
    fn commit_grant(
        &self,
        request: &SignedRequest,
        by: &PublicKey,
        now_ms: u64,
        by_invite: bool,
    ) -> Result<GrantOutcome, String> {
        let asked = request.request();
        let secret = self
            .policy
            .unlocked(by)
            .ok_or_else(|| format!("the key {by} is not unlocked"))?;
        let database = self
            .databases
            .get(&asked.database)
            .map_err(|error| error.to_string())?
            .with_key(secret);
        let mut attempts = 0;
        loop {
            if by_invite && was_revoked(&database, &asked.key).map_err(|error| error.to_string())? {
                return Err("the key was revoked here".to_owned());
            }
            let granted = grant_once(&database, asked, now_ms);
            attempts += 1;
            match granted {
                Err(error) if error.is_conflict() && attempts < limits::TRANSACT_ATTEMPTS => {}
                done => return done.map_err(|error| error.to_string()),
            }
        }
    }

    fn offered(&self, database: &Id) -> Result<Option<Database>, Unavailable> {
        if !self.policy.offers(database) {
            return Ok(None);
        }
        self.databases.find(database).map_err(unavailable)
    }
}

#[expect(clippy::needless_pass_by_value, reason = "for map_err")]
fn unavailable(error: Error) -> Unavailable {
    Unavailable(error.to_string())
}

/// What a peer has of other databases.
fn held(closures: &[Closure]) -> Vec<(Id, &[Id])> {
    closures
        .iter()
        .map(|closure| (closure.database, closure.tips.as_slice()))
        .collect()
}

/// A cursor that this backend gave.
fn own_cursor(cursor: Option<&Cursor>) -> Result<Option<eidetica_database::Cursor>, Unavailable> {
    let own = |cursor: &Cursor| cursor.get().cloned();
    cursor
        .map(|cursor| {
            own(cursor).ok_or_else(|| Unavailable("a cursor of another backend".to_owned()))
        })
        .transpose()
}

fn pack_page(page: eidetica_database::PackPage) -> PackPage {
    PackPage {
        packs: page.packs,
        next: page.next.map(Cursor::new),
        tips: page.done_tips,
    }
}

impl Backend for DatabasesBackend {
    fn can_read(&self, database: &Id, keys: &[PublicKey]) -> Result<bool, Unavailable> {
        Ok(self.policy.offers(database)
            && self
                .databases
                .can_read(database, keys)
                .map_err(unavailable)?)
    }

    fn tips(&self, database: &Id) -> Result<Option<Frontier>, Unavailable> {
        let Some(tips) = self.databases.tips(database).map_err(unavailable)? else {
            return Ok(None);
        };
        let closures = self.databases.closures(database).map_err(unavailable)?;
        let closures = closures.into_iter().take(protocol_limits::CLOSURES);
        let closure = |(database, mut tips): (Id, Vec<Stamp>)| {
            tips.sort_unstable_by(|a, b| b.cmp(a));
            let tips = tips.iter().take(protocol_limits::CLOSURE_TIPS);
            Closure {
                database,
                tips: tips.map(|tip| tip.id).collect(),
            }
        };
        Ok(Some(Frontier {
            tips,
            closures: closures.map(closure).collect(),
            void: self.void(database)?,
        }))
    }

    fn void(&self, database: &Id) -> Result<Vec<Id>, Unavailable> {
        let leaves = self
            .databases
            .void_tips(database, protocol_limits::VOID_LEAVES)
            .map_err(unavailable)?;
        let leaves = leaves.unwrap_or_default();
        Ok(leaves.iter().map(|leaf| leaf.id).collect())
    }

    fn void_packs(
        &self,
        database: &Id,
        of: &[Id],
        not: &[Id],
        budget_bytes: usize,
    ) -> Result<PackPage, Unavailable> {
        let packs = self
            .databases
            .void_packs(database, of, not, budget_bytes)
            .map_err(unavailable)?;
        Ok(PackPage {
            packs,
            next: None,
            tips: Vec::new(),
        })
    }

    fn known(&self, database: &Id, ids: &[Id]) -> Result<Vec<bool>, Unavailable> {
        self.databases.known(database, ids).map_err(unavailable)
    }

    fn describe(
        &self,
        database: &Id,
        since: &[Id],
        spans: &[(Span, Detail)],
    ) -> Result<Sketch, Unavailable> {
        if !since.is_empty() {
            let steps = protocol_limits::SINCE_STEPS;
            let since = self.databases.since(database, since, steps);
            let few = |since: &Vec<Stamp>| since.len() <= protocol_limits::SKETCH_IDS;
            if let Some(since) = since.map_err(unavailable)?.filter(few) {
                let ids = since.iter().map(|stamp| stamp.id);
                return Ok(Sketch::Since(ids.collect()));
            }
        }
        let parts = self
            .databases
            .describe(database, spans, Sketch::ROOM)
            .map_err(unavailable)?;
        Ok(Sketch::Parts(Parts::new(&parts)))
    }

    fn contrast(
        &self,
        database: &Id,
        common: &[Id],
        theirs: &Sketch,
        limit: usize,
    ) -> Result<Option<Contrast>, Unavailable> {
        let contrast = match theirs {
            Sketch::Since(ids) => {
                let steps = protocol_limits::SINCE_STEPS;
                self.databases
                    .contrast_since(database, common, ids, steps, limit)
            }
            Sketch::Parts(parts) => {
                // Whoever got them has read them before.
                let parts = parts
                    .parts()
                    .map_err(|error| Unavailable(error.to_string()))?;
                self.databases.contrast(database, &parts, limit).map(Some)
            }
        };
        contrast.map_err(unavailable)
    }

    fn selected(
        &self,
        database: &Id,
        ids: &[IdPrefix],
        closures: &[Closure],
        cursor: Option<&Cursor>,
        budget_bytes: usize,
    ) -> Result<PackPage, Unavailable> {
        let (held, cursor) = (held(closures), own_cursor(cursor)?);
        let page = self
            .databases
            .selected(database, ids, &held, cursor, budget_bytes);
        page.map(pack_page).map_err(unavailable)
    }

    fn difference(
        &self,
        database: &Id,
        not: &[Id],
        closures: &[Closure],
        cursor: Option<&Cursor>,
        budget_bytes: usize,
    ) -> Result<PackPage, Unavailable> {
        let (held, cursor) = (held(closures), own_cursor(cursor)?);
        let page = self
            .databases
            .difference_above(database, not, &held, cursor, budget_bytes);
        page.map(pack_page).map_err(unavailable)
    }

    fn discover(&self, keys: &[PublicKey]) -> Result<Vec<DatabaseInfo>, Unavailable> {
        let readable = self.databases.list_readable(keys).map_err(unavailable)?;
        let offered = readable
            .into_iter()
            .filter(|info| self.policy.offers(&info.id));
        Ok(offered
            .map(|info| DatabaseInfo::new(info.id, &info.name, info.entries))
            .collect())
    }

    fn ingest(&self, batch: &IngestBatch, from: &PublicKey) -> Result<IngestReport, IngestError> {
        let request = IngestRequest::new(batch.database, &batch.packs)
            .create(batch.create)
            .from(*from);
        let report = self.databases.ingest(request).map_err(ingest_error)?;
        if let Some((place, reason)) = report.bad_packs.first() {
            return Err(IngestError::Malformed(format!("pack {place}: {reason}")));
        }
        let rejected = report.rejected.into_iter().map(|(id, _)| id).collect();
        Ok(IngestReport {
            new: report.new,
            known: report.known,
            pending: report.pending,
            rejected,
        })
    }

    fn facts(&self, database: &Id, key: &PublicKey) -> Result<Facts, Unavailable> {
        let Some(database) = self.offered(database)? else {
            return Ok(Facts {
                here: false,
                explicit: None,
                wildcard: None,
            });
        };
        let authority = database.authority().map_err(unavailable)?;
        let explicit = authority.explicit_right_of(key).map(Right::permission);
        Ok(Facts {
            here: true,
            explicit,
            wildcard: authority.wildcard(),
        })
    }

    fn grant(
        &self,
        request: &SignedRequest,
        by: &PublicKey,
        now_ms: u64,
    ) -> Result<GrantOutcome, String> {
        self.commit_grant(request, by, now_ms, false)
    }

    fn redeem(
        &self,
        request: &SignedRequest,
        by: &PublicKey,
        now_ms: u64,
    ) -> Result<GrantOutcome, String> {
        self.commit_grant(request, by, now_ms, true)
    }

    fn wishes(&self) -> Result<Vec<(Id, Wishes)>, Unavailable> {
        Ok(self.policy.wishes())
    }

    fn load(&self) -> Result<Vec<(String, Bytes)>, Unavailable> {
        let doc = self
            .records
            .doc(RECORDS)
            .and_then(|doc| doc.get_all())
            .map_err(unavailable)?;
        let record = |(key, value): (String, Value)| match value {
            Value::Bytes(bytes) => Ok((key, Bytes::from(bytes))),
            _ => Err(Unavailable(format!("the sync record {key:?} is damaged"))),
        };
        doc.into_iter().map(record).collect()
    }

    fn persist(&self, records: &[Record]) -> Result<(), Unavailable> {
        let written = self.records.transact(|transaction| {
            let doc = transaction.doc(RECORDS)?;
            for record in records {
                match &record.value {
                    Some(value) => doc.set(&record.key, Value::Bytes(value.to_vec()))?,
                    None if doc.contains(&record.key)? => doc.delete(&record.key)?,
                    None => {}
                }
            }
            Ok(())
        });
        written.map_err(unavailable)
    }
}

/// Takes away what the engine has remembered of peers, requests and invites: for a copy that becomes a device of its own.
///
/// # Errors
/// The engine's.
pub fn forget_records(databases: &Databases) -> Result<(), Error> {
    let records = databases.local(SYNC_DATABASE)?;
    let keys: Vec<String> = {
        let doc = records.doc(RECORDS)?.get_all()?;
        doc.into_iter().map(|(key, _)| key).collect()
    };
    records.transact(|transaction| {
        let doc = transaction.doc(RECORDS)?;
        keys.iter().try_for_each(|key| doc.delete(key))
    })?;
    Ok(())
}

/// Whether a revocation of the key holds.
fn was_revoked(database: &Database, key: &PublicKey) -> Result<bool, Error> {
    Ok(database.authority()?.revocations(key).next().is_some())
}

/// Commits the grant that is asked for, as of now, unless the key has a right of its own.
fn grant_once(
    database: &Database,
    asked: &AccessRequest,
    now_ms: u64,
) -> Result<GrantOutcome, Error> {
    let transaction = database.new_transaction().with_timestamp_ms(now_ms);
    let authority = database.authority()?;
    if authority.explicit_right_of(&asked.key).is_some() {
        return Ok(GrantOutcome::Held);
    }
    transaction
        .settings()
        .grant(asked.key, asked.permission, asked.name.as_str())?;
    transaction.commit()?;
    Ok(GrantOutcome::Granted)
}

fn ingest_error(error: Error) -> IngestError {
    match (&error, error.blame()) {
        // A root that is not in the first packs, or not sound: the peer sends something else than was asked for.
        (Error::NoDatabase(_) | Error::Refused(_), _) | (_, Blame::Peer) => {
            IngestError::Malformed(error.to_string())
        }
        _ => IngestError::Unavailable(error.to_string()),
    }
}
