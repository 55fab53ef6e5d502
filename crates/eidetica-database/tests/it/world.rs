//! Instances, keys and packs to test with.

use std::sync::Arc;

use bytes::Bytes;
use eidetica_auth::{AuthRecord, KeyName, Permission, SecretKey};
use eidetica_crdt::Doc;
use eidetica_database::{Config, Database, Databases, IngestReport, IngestRequest, NewDatabase};
use eidetica_entry::{Entry, Id, pack};
use eidetica_storage::{Engine, MemoryEngine};

pub(crate) fn key(number: u8) -> Arc<SecretKey> {
    Arc::new(SecretKey::from_bytes(&[number; 32]))
}

pub(crate) fn on(engine: Arc<dyn Engine>) -> Databases {
    Databases::open(engine, Config::new([7; 32])).unwrap()
}

/// An instance of its own; different numbers draw different random bytes.
pub(crate) fn instance(number: u8) -> Databases {
    Databases::open(Arc::new(MemoryEngine::new()), Config::new([number; 32])).unwrap()
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
