//! The databases of an instance as the driver's [`Backend`].

use std::{any::Any, collections::BTreeMap, sync::Arc};

use bytes::Bytes;
use eidetica_auth::{AccessRequest, DeviceClaim, Right, SecretKey, SignedRequest};
use eidetica_crdt::{Doc, Value};
use eidetica_database::{
    Blame, Database, Databases, DocStore, Error, Holds, IngestRequest, LocalDatabase,
};
use eidetica_engine::{Facts, GrantOutcome, LeaseChange, Record, Wishes, merge};
use eidetica_entry::{
    Id, PublicKey, Stamp,
    reconcile::{Contrast, Detail, Span},
};
use eidetica_protocol::{
    Closure, Cursor, DatabaseInfo, Frontier, IdPrefix, IngestBatch, IngestError, IngestReport,
    Lacking, PackPage, Parts, Sketch, Stores, Unavailable, limits as protocol_limits,
};

use parking_lot::Mutex;

use crate::{
    Backend,
    backend::{Followed, Turn},
};

/// The name of the local database that holds the engine's records.
pub const SYNC_DATABASE: &str = "_sync";

/// The store in it.
const RECORDS: &str = "engine";

/// The name of the local database that holds leases.
const LEASE_DATABASE: &str = "_leases";

/// The store in it.
const LEASES: &str = "rows";

/// What the users of an instance decide.
pub trait Policy: Send + Sync + 'static {
    /// Whether peers may know of this database, as far as its own settings let them.
    fn offers(&self, database: &Id) -> bool;

    /// What the users want of the databases that they track, now; nothing by default, as if nobody tracked any.
    fn wishes(&self) -> Vec<(Id, Wishes)> {
        Vec::new()
    }

    /// What other processes of the same instance have changed since the last time; nothing by default.
    ///
    /// # Errors
    /// Storage failed.
    fn follow(&self) -> Result<PolicyChanges, Unavailable> {
        Ok(PolicyChanges::default())
    }

    /// The secret key of an administrator, if it is unlocked.
    fn unlocked(&self, key: &PublicKey) -> Option<Arc<SecretKey>>;
}

/// What users have decided in other processes.
#[derive(Debug, Default)]
pub struct PolicyChanges {
    /// What they want of databases; none of one that nobody tracks any more.
    pub wishes: Vec<(Id, Option<Wishes>)>,
    /// Claims for the devices of this process.
    pub claims: Vec<DeviceClaim>,
}

/// The databases of an instance, with what its users decide. Records stand in the local database
/// [`SYNC_DATABASE`]; the own ones of a node with a name in one of that name.
pub struct DatabasesBackend {
    databases: Databases,
    records: LocalDatabase,
    /// Where the own records are, if elsewhere.
    own: Option<LocalDatabase>,
    leases: LocalDatabase,
    policy: Arc<dyn Policy>,
    is_shared: bool,
    known: Mutex<Known>,
}

/// The shared records that this process knows.
#[derive(Default)]
struct Known {
    version: u64,
    records: BTreeMap<String, Bytes>,
}

impl DatabasesBackend {
    /// The backend over these databases.
    ///
    /// # Errors
    /// The engine's.
    pub fn new(databases: Databases, policy: Arc<dyn Policy>) -> Result<Self, Error> {
        Self::of_node(databases, policy, None)
    }

    /// The backend of the node of this name, one of several processes.
    ///
    /// # Errors
    /// The engine's.
    pub fn of_node(
        databases: Databases,
        policy: Arc<dyn Policy>,
        name: Option<&str>,
    ) -> Result<Self, Error> {
        let own = name.map(|name| databases.local(&own_database(name)));
        Ok(Self {
            records: databases.local(SYNC_DATABASE)?,
            own: own.transpose()?,
            leases: databases.local(LEASE_DATABASE)?,
            is_shared: databases.engine().info().shared,
            databases,
            policy,
            known: Mutex::default(),
        })
    }

    /// The records that every process writes, as they stand and when that was.
    fn shared_records(&self) -> Result<Known, Unavailable> {
        // Before them, so that what is written meanwhile is looked for again.
        let version = self.records.version().map_err(unavailable)?;
        let mut records: BTreeMap<String, Bytes> = all(&self.records)?.into_iter().collect();
        records.retain(|key, _| is_shared(key));
        Ok(Known { version, records })
    }

    /// Writes what every process may write, put together with what they have written since it was last read.
    fn persist_shared(&self, records: &[&Record]) -> Result<Vec<Record>, Unavailable> {
        let mut known = self.known.lock();
        let merged = self.records.transact(|transaction| {
            let doc = transaction.doc(RECORDS)?;
            let mut merged: Vec<(String, Option<Bytes>)> = Vec::with_capacity(records.len());
            let mut stood: BTreeMap<&String, Option<Bytes>> = BTreeMap::new();
            let mut stands: BTreeMap<&String, Option<Bytes>> = BTreeMap::new();
            for Record { key, value } in records {
                let theirs = match doc.get(key)? {
                    Some(Value::Bytes(bytes)) => Some(bytes),
                    Some(_) => return Err(damaged(key)),
                    None => None,
                };
                // What this transaction writes twice is on top of itself.
                let base = match stands.get(key) {
                    Some(value) => value.clone(),
                    None => known.records.get(key).cloned(),
                };
                stood
                    .entry(key)
                    .or_insert_with(|| theirs.clone().map(Bytes::from));
                let value = merge(key, base.as_deref(), value.as_deref(), theirs.as_deref())
                    .map_err(|_| damaged(key))?;
                write(&doc, key, value.as_deref())?;
                stands.insert(key, value.clone());
                merged.push((key.clone(), value));
            }
            Ok((merged, stood != stands))
        });
        let (merged, is_changed) = merged.map_err(unavailable)?;
        // If there is one transaction more than was known, it is this one: the others have written nothing.
        let version = self.records.version().map_err(unavailable)?;
        if is_changed && version == known.version + 1 {
            known.version = version;
        }
        for (key, value) in &merged {
            match value {
                Some(value) => known.records.insert(key.clone(), value.clone()),
                None => known.records.remove(key),
            };
        }
        let other = merged.into_iter().zip(records);
        let other = other.filter(|((_, value), record)| *value != record.value);
        Ok(other
            .map(|((key, value), _)| Record { key, value })
            .collect())
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
        let granted = database.retry(|| {
            if by_invite && was_revoked(&database, &asked.key).map_err(|error| error.to_string())? {
                return Err("the key was revoked here".to_owned());
            }
            Ok(grant_once(&database, asked, now_ms))
        })?;
        granted.map_err(|error| error.to_string())
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

/// The stores whose payloads a peer wants.
fn holds(stores: &Stores) -> Holds {
    match stores.some() {
        None => Holds::All,
        Some(stores) => Holds::Stores(stores.iter().cloned().collect()),
    }
}

/// The stores whose payloads are held here.
fn stores(holds: &Holds) -> Stores {
    match holds.some() {
        None => Stores::All,
        Some(stores) => Stores::these(stores.iter().cloned()),
    }
}

/// The stores of which payloads are here: also of those that are held no more.
fn offers(holds: &Stores, here: &Database) -> Result<Stores, Unavailable> {
    let Some(held) = holds.some() else {
        return Ok(Stores::All);
    };
    let written = here.stores().map_err(unavailable)?.into_iter();
    let kept = written.map(|(store, _)| store);
    let kept = kept.filter(|store| !store.is_settings() && !held.contains(store));
    let room = protocol_limits::STORES.saturating_sub(held.len());
    Ok(Stores::these(held.iter().cloned().chain(kept.take(room))))
}

/// A page of packs for a peer that has so much of other databases, and holds these stores.
fn page(
    closures: &[Closure],
    stores: &Stores,
    cursor: Option<&Cursor>,
    find: impl FnOnce(
        &[(Id, &[Id])],
        &Holds,
        Option<eidetica_database::Cursor>,
    ) -> Result<eidetica_database::PackPage, Error>,
) -> Result<PackPage, Unavailable> {
    let (held, holds, cursor) = (held(closures), holds(stores), own_cursor(cursor)?);
    let page = find(&held, &holds, cursor);
    page.map(pack_page).map_err(unavailable)
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
        let here = self.databases.get(database).map_err(unavailable)?;
        let damaged = here.is_damaged().map_err(unavailable)?;
        let holds = self.holds(database)?;
        Ok(Some(Frontier {
            offers: offers(&holds, &here)?,
            holds,
            lacks: damaged || here.lacks().map_err(unavailable)?,
            damaged,
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
        stores: &Stores,
        budget_bytes: usize,
    ) -> Result<PackPage, Unavailable> {
        let packs = self
            .databases
            .void_packs_for(database, of, not, &holds(stores), budget_bytes)
            .map_err(unavailable)?;
        Ok(PackPage {
            packs,
            next: None,
            tips: Vec::new(),
        })
    }

    fn known(&self, database: &Id, ids: &[Id]) -> Result<Vec<bool>, Unavailable> {
        match self.databases.known(database, ids) {
            // It is on its way here, or was forgotten meanwhile.
            Err(Error::NoDatabase(_)) => Ok(vec![false; ids.len()]),
            known => known.map_err(unavailable),
        }
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
        stores: &Stores,
        cursor: Option<&Cursor>,
        budget_bytes: usize,
    ) -> Result<PackPage, Unavailable> {
        page(closures, stores, cursor, |held, holds, cursor| {
            self.databases
                .selected_for(database, ids, held, holds, cursor, budget_bytes)
        })
    }

    fn holds(&self, database: &Id) -> Result<Stores, Unavailable> {
        let holds = self.databases.holds(database).map_err(unavailable)?;
        Ok(stores(&holds))
    }

    fn lacking(
        &self,
        database: &Id,
        of: &Stores,
        from: Option<u64>,
        limit: usize,
    ) -> Result<Lacking, Unavailable> {
        // Once, before what is missing: as long as that brings something.
        let damaged = match from {
            Some(0) => self.databases.damaged(database, limit),
            _ => Ok(Vec::new()),
        };
        let damaged = damaged.map_err(unavailable)?;
        if !damaged.is_empty() {
            return Ok(Lacking {
                ids: damaged.iter().map(IdPrefix::of).collect(),
                stores: Stores::All,
                next: Some(0),
            });
        }
        let wanted = self.databases.wanted(database, &holds(of), from, limit);
        let wanted = wanted.map_err(unavailable)?;
        Ok(Lacking {
            ids: wanted.ids.iter().map(IdPrefix::of).collect(),
            stores: Stores::these(wanted.stores),
            next: wanted.next,
        })
    }

    fn payloads(
        &self,
        database: &Id,
        ids: &[IdPrefix],
        stores: &Stores,
        cursor: Option<&Cursor>,
        budget_bytes: usize,
    ) -> Result<PackPage, Unavailable> {
        page(&[], stores, cursor, |_, holds, cursor| {
            self.databases
                .payloads(database, ids, holds, cursor, budget_bytes)
        })
    }

    fn difference(
        &self,
        database: &Id,
        not: &[Id],
        closures: &[Closure],
        stores: &Stores,
        cursor: Option<&Cursor>,
        budget_bytes: usize,
    ) -> Result<PackPage, Unavailable> {
        page(closures, stores, cursor, |held, holds, cursor| {
            self.databases
                .difference_for(database, not, held, holds, cursor, budget_bytes)
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

    fn ingest(
        &self,
        batch: &IngestBatch,
        from: &PublicKey,
        turn: Turn,
    ) -> Result<IngestReport, IngestError> {
        let request = IngestRequest::new(batch.database, &batch.packs)
            .create(batch.create)
            .from(*from);
        let report = self
            .databases
            .ingest_in_turn(request, turn)
            .map_err(ingest_error)?;
        if let Some((place, reason)) = report.bad_packs.first() {
            return Err(IngestError::Malformed(format!("pack {place}: {reason}")));
        }
        let rejected = report.rejected.into_iter().map(|(id, _)| id).collect();
        Ok(IngestReport {
            new: report.new,
            known: report.known,
            filled: report.filled,
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
        if !self.is_shared && self.own.is_none() {
            return all(&self.records);
        }
        let known = self.shared_records()?;
        let mut records: Vec<(String, Bytes)> = known.records.clone().into_iter().collect();
        *self.known.lock() = known;
        let own = all(self.own.as_ref().unwrap_or(&self.records))?;
        records.extend(own.into_iter().filter(|(key, _)| !is_shared(key)));
        Ok(records)
    }

    fn persist(&self, records: &[Record]) -> Result<Vec<Record>, Unavailable> {
        let is_shared = |record: &&Record| self.is_shared && record.is_shared();
        let (shared, own): (Vec<&Record>, Vec<&Record>) = records.iter().partition(is_shared);
        let others = match shared.is_empty() {
            true => Vec::new(),
            false => self.persist_shared(&shared)?,
        };
        if !own.is_empty() {
            let database = self.own.as_ref().unwrap_or(&self.records);
            let written = database.transact(|transaction| {
                let doc = transaction.doc(RECORDS)?;
                own.iter()
                    .try_for_each(|record| write(&doc, &record.key, record.value.as_deref()))
            });
            written.map_err(unavailable)?;
        }
        Ok(others)
    }

    fn is_shared(&self) -> bool {
        self.is_shared
    }

    fn follow(&self) -> Result<Followed, Unavailable> {
        let mut followed = Followed::default();
        if !self.is_shared {
            return Ok(followed);
        }
        let mut known = self.known.lock();
        let is_new = self.records.version().map_err(unavailable)? != known.version;
        let now = is_new.then(|| self.shared_records()).transpose()?;
        // What they tell is not told again: nothing fails after this.
        let changes = self.policy.follow()?;
        (followed.wishes, followed.claims) = (changes.wishes, changes.claims);
        let Some(now) = now else {
            return Ok(followed);
        };
        let gone = known
            .records
            .keys()
            .filter(|key| !now.records.contains_key(*key));
        let gone = gone.map(|key| (key.clone(), None));
        let new = now
            .records
            .iter()
            .filter(|(key, value)| known.records.get(*key) != Some(value));
        let new = new.map(|(key, value)| (key.clone(), Some(value.clone())));
        let changed = gone.chain(new).map(|(key, value)| Record { key, value });
        followed.records = changed.collect();
        *known = now;
        Ok(followed)
    }

    fn lease(&self, changes: &[LeaseChange]) -> Result<Vec<(String, Bytes)>, Unavailable> {
        let rows = self.leases.transact(|transaction| {
            let doc = transaction.doc(LEASES)?;
            let mut rows: BTreeMap<String, Bytes> = bytes_of(doc.get_all()?)?.into_iter().collect();
            for LeaseChange { key, before, after } in changes {
                if rows.get(key) == before.as_ref() {
                    write(&doc, key, after.as_deref())?;
                    match after {
                        Some(after) => rows.insert(key.clone(), after.clone()),
                        None => rows.remove(key),
                    };
                }
            }
            Ok(rows)
        });
        Ok(rows.map_err(unavailable)?.into_iter().collect())
    }

    fn watch(&self, hint: Arc<dyn Fn() + Send + Sync>) -> Option<Box<dyn Any + Send + Sync>> {
        self.is_shared
            .then(|| Box::new(self.databases.engine().watch(hint)) as _)
    }
}

/// Forgets all records of the engine, those of nodes of these names with them: peers, what is synced with them, requests,
/// invites, statistics.
///
/// # Errors
/// The engine's.
pub fn forget_records(databases: &Databases, nodes: &[String]) -> Result<(), Error> {
    forget(databases, SYNC_DATABASE, RECORDS)?;
    forget(databases, LEASE_DATABASE, LEASES)?;
    let mut nodes = nodes.iter();
    nodes.try_for_each(|node| forget(databases, &own_database(node), RECORDS))
}

fn forget(databases: &Databases, name: &str, store: &str) -> Result<(), Error> {
    databases.local(name)?.transact(|transaction| {
        let doc = transaction.doc(store)?;
        let mut keys = doc.get_all()?.into_iter().map(|(key, _)| key);
        keys.try_for_each(|key| doc.delete(&key))
    })
}

/// Where the own records of a node are.
fn own_database(node: &str) -> String {
    format!("{SYNC_DATABASE}/{node}")
}

fn is_shared(key: &str) -> bool {
    let (key, value) = (key.to_owned(), None);
    Record { key, value }.is_shared()
}

fn damaged(key: &str) -> Error {
    Error::Corrupt(format!("the sync record {key:?}"))
}

/// All records in a local database.
fn all(records: &LocalDatabase) -> Result<Vec<(String, Bytes)>, Unavailable> {
    let doc = records.doc(RECORDS).and_then(|doc| doc.get_all());
    doc.and_then(bytes_of).map_err(unavailable)
}

fn bytes_of(doc: Doc) -> Result<Vec<(String, Bytes)>, Error> {
    let row = |(key, value): (String, Value)| match value {
        Value::Bytes(bytes) => Ok((key, Bytes::from(bytes))),
        _ => Err(damaged(&key)),
    };
    doc.into_iter().map(row).collect()
}

fn write(doc: &DocStore<'_>, key: &str, value: Option<&[u8]>) -> Result<(), Error> {
    match value {
        Some(value) => doc.set(key, Value::Bytes(value.to_vec())),
        None if doc.contains(key)? => doc.delete(key),
        None => Ok(()),
    }
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
