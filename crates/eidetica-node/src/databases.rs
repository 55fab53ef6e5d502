//! The databases of an instance as the driver's [`Backend`].

use std::sync::Arc;

use bytes::Bytes;
use eidetica_auth::{AccessRequest, Right, SecretKey, SignedRequest};
use eidetica_crdt::Value;
use eidetica_database::{Blame, Database, Databases, Error, IngestRequest, LocalDatabase, limits};
use eidetica_engine::{Facts, GrantOutcome, Record};
use eidetica_entry::{
    Id, PublicKey, Stamp,
    dag::{Dag, Node},
};
use eidetica_protocol::{
    Closure, Cursor, DatabaseInfo, Frontier, HeaderSummary, IngestBatch, IngestError, IngestReport,
    PackPage, Unavailable, ancestors_page, limits as protocol_limits,
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

/// The history of one database, a header at a time.
struct History(Database);

impl Dag for History {
    type Error = Error;

    fn node(&self, id: &Id) -> Result<Option<Node>, Error> {
        let node = |entry: eidetica_entry::Entry| Node {
            height: entry.header().height,
            parents: entry.header().parents.clone(),
        };
        Ok(self.0.get(id)?.map(node))
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

    fn ancestors(
        &self,
        database: &Id,
        of: &[Id],
        stop: &[Id],
        generations: u32,
        limit: u32,
    ) -> Result<Vec<HeaderSummary>, Unavailable> {
        let history = History(self.databases.get(database).map_err(unavailable)?);
        ancestors_page(&history, of, stop, generations, limit as usize).map_err(unavailable)
    }

    fn difference(
        &self,
        database: &Id,
        not: &[Id],
        closures: &[Closure],
        cursor: Option<&Cursor>,
        budget_bytes: usize,
    ) -> Result<PackPage, Unavailable> {
        let closures: Vec<_> = closures
            .iter()
            .map(|closure| (closure.database, closure.tips.as_slice()))
            .collect();
        let cursor = cursor.map(|cursor| cursor.get::<eidetica_database::Cursor>().cloned());
        if cursor.as_ref().is_some_and(Option::is_none) {
            return Err(Unavailable("a cursor of another backend".to_owned()));
        }
        let page = self
            .databases
            .difference_above(database, not, &closures, cursor.flatten(), budget_bytes)
            .map_err(unavailable)?;
        Ok(PackPage {
            packs: page.packs,
            next: page.next.map(Cursor::new),
            tips: page.done_tips,
        })
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
            let granted = grant_once(&database, asked, now_ms);
            attempts += 1;
            match granted {
                Err(error) if error.is_conflict() && attempts < limits::TRANSACT_ATTEMPTS => {}
                done => return done.map_err(|error| error.to_string()),
            }
        }
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
