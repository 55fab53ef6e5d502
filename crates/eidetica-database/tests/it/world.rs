//! Instances, keys and packs to test with.

use std::sync::Arc;

use bytes::Bytes;
use eidetica_auth::{AuthRecord, KeyName, Permission, SecretKey};
use eidetica_crdt::Doc;
use eidetica_database::{Config, Database, Databases, IngestReport, IngestRequest, NewDatabase};
use eidetica_entry::{Entry, Id, pack};
use eidetica_storage::{Engine, MemoryEngine};
use eidetica_storage_fjall::FjallEngine;
use eidetica_storage_postgres::PostgresEngine;
use eidetica_storage_redb::RedbEngine;
use eidetica_storage_sqlite::SqliteEngine;
use eidetica_testkit::{EngineKind, HeldEngine, PostgresServer, selected_engine};

pub(crate) fn key(number: u8) -> Arc<SecretKey> {
    Arc::new(SecretKey::from_bytes(&[number; 32]))
}

pub(crate) fn on(engine: Arc<dyn Engine>) -> Databases {
    Databases::open(engine, Config::new([7; 32])).unwrap()
}

/// An empty engine of the kind that the test matrix is at.
pub(crate) fn engine() -> Arc<dyn Engine> {
    engine_of(selected_engine())
}

/// An empty engine; one with files has a directory that goes with it.
pub(crate) fn engine_of(kind: EngineKind) -> Arc<dyn Engine> {
    let dir = tempfile::tempdir().unwrap();
    let data = dir.path().join("data");
    let inner: Arc<dyn Engine> = match kind {
        EngineKind::Memory => return Arc::new(MemoryEngine::new()),
        EngineKind::Fjall => Arc::new(FjallEngine::open(data).unwrap()),
        EngineKind::Redb => Arc::new(RedbEngine::open(data).unwrap()),
        EngineKind::Sqlite => Arc::new(SqliteEngine::open(data).unwrap()),
        EngineKind::Postgres => {
            let schema = PostgresServer::shared().fresh_schema();
            return Arc::new(PostgresEngine::open(&schema).unwrap());
        }
    };
    Arc::new(HeldEngine::new(inner, dir))
}

/// An instance of its own; different numbers draw different random bytes.
pub(crate) fn instance(number: u8) -> Databases {
    instance_on(engine(), number)
}

pub(crate) fn instance_on(engine: Arc<dyn Engine>, number: u8) -> Databases {
    Databases::open(engine, Config::new([number; 32])).unwrap()
}

/// What makes a database of `owner`, where `others` may do as they are given.
pub(crate) fn rights(owner: &SecretKey, others: &[(&SecretKey, Permission)]) -> NewDatabase {
    let grant = |key: &SecretKey, permission| {
        AuthRecord::grant(key.public(), permission, KeyName::default())
    };
    let mut records = vec![grant(owner, Permission::Admin(0))];
    records.extend(
        others
            .iter()
            .map(|(key, permission)| grant(key, *permission)),
    );
    let mut settings = Doc::new();
    settings.set_string("name", "test");
    NewDatabase {
        records,
        settings,
        ..NewDatabase::default()
    }
}

pub(crate) fn database(databases: &Databases) -> Database {
    databases.create(rights(&key(1), &[]), key(1)).unwrap()
}

/// Everything that `from` has and an empty replica has not.
pub(crate) fn all_packs(from: &Databases, id: &Id) -> Vec<Bytes> {
    packs_without(from, id, &[])
}

pub(crate) fn packs_without(from: &Databases, id: &Id, not: &[Id]) -> Vec<Bytes> {
    let mut packs = Vec::new();
    let mut cursor = None;
    loop {
        let page = from.difference(id, not, cursor, 1 << 20).unwrap();
        packs.extend(page.packs);
        cursor = page.next;
        if cursor.is_none() {
            return packs;
        }
    }
}

pub(crate) fn ingest(into: &Databases, id: Id, packs: &[Bytes]) -> IngestReport {
    into.ingest(IngestRequest::new(id, packs).create(true))
        .unwrap()
}

pub(crate) fn ingest_entries(into: &Databases, id: Id, entries: &[Entry]) -> IngestReport {
    ingest(into, id, &[pack::encode(entries).unwrap()])
}

/// One pass in both directions, as a session would do it.
pub(crate) fn sync(a: &Databases, b: &Databases, id: &Id) {
    for (from, to) in [(a, b), (b, a)] {
        let known: Vec<Id> = to
            .tips(id)
            .unwrap()
            .unwrap_or_default()
            .iter()
            .map(|tip| tip.id)
            .collect();
        let packs = packs_without(from, id, &known);
        if !packs.is_empty() {
            let report = ingest(to, *id, &packs);
            assert_eq!(report.rejected_count, 0, "{:?}", report.rejected);
            assert!(report.bad_packs.is_empty());
        }
    }
}
