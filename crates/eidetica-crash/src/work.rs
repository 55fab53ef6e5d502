//! What children do to a database, in steps that a check can count.
//!
//! Each writer has a name and numbers its commits from 1. A commit leaves a row in the writer's table, one in the sums, and
//! the number of the last: three places that must agree, of which the sums count what is applied twice.

use std::sync::Arc;

use bytes::Bytes;
use eidetica_auth::{AuthRecord, KeyName, Permission, SecretKey};
use eidetica_crdt::Doc;
use eidetica_database::{Config, Database, Databases, IngestRequest, NewDatabase, Result};
use eidetica_entry::Id;
use eidetica_storage::{Durability, Engine, MemoryEngine};
use serde_json::json;

/// Promises that the database is there.
pub const CREATED: &str = "created";
/// Promises commits of another author that came by way of packs.
pub const PEER: &str = "peer";
/// Promises imports, each of [`IMPORT_ROWS`] rows.
pub const IMPORT: &str = "import";
/// Promises transactions of a local database.
pub const LOCAL: &str = "local";
/// Promises keys that were granted a right.
pub const GRANT: &str = "grant";

/// The rows of one import.
pub const IMPORT_ROWS: u64 = 40;
/// Bytes of edits that an import holds in memory: it is made of several entries, and waits in the engine.
const IMPORT_MEMORY: usize = 1_500;

/// The document with the sums, and that with the last numbers.
pub const SUMS: &str = "sums";

/// The key of somebody with this number.
#[must_use]
pub fn key(number: u64) -> Arc<SecretKey> {
    let mut seed = [7; 32];
    seed[..8].copy_from_slice(&number.to_le_bytes());
    Arc::new(SecretKey::from_bytes(&seed))
}

/// The owner's key.
#[must_use]
pub fn owner() -> Arc<SecretKey> {
    key(0)
}

/// The key of the other author.
#[must_use]
pub fn peer() -> Arc<SecretKey> {
    key(1)
}

/// The key that the grant with this number is for.
#[must_use]
pub fn granted(number: u64) -> Arc<SecretKey> {
    key(1_000 + number)
}

/// The databases in an engine.
///
/// # Errors
/// The database's.
pub fn databases(engine: Arc<dyn Engine>, durability: Durability, seed: u8) -> Result<Databases> {
    let mut config = Config::new([seed; 32]);
    config.durability = durability;
    Databases::open(engine, config)
}

/// An instance that nobody else has.
#[must_use]
pub fn in_memory(seed: u8) -> Databases {
    databases(Arc::new(MemoryEngine::new()), Durability::Relaxed, seed).unwrap()
}

/// Makes the database.
///
/// # Errors
/// The database's.
pub fn create(databases: &Databases) -> Result<Database> {
    let grant = |key: &SecretKey, permission| {
        AuthRecord::grant(key.public(), permission, KeyName::default())
    };
    let records = vec![
        grant(&owner(), Permission::Admin(0)),
        grant(&peer(), Permission::Write(1)),
    ];
    let mut settings = Doc::new();
    settings.set_string("name", "crash");
    let new = NewDatabase {
        records,
        settings,
        ..NewDatabase::default()
    };
    databases.create(new, owner())
}

/// The text in row `number` of a writer; sometimes long enough that engines rotate logs.
#[must_use]
pub fn text(number: u64) -> String {
    let len = if number.is_multiple_of(32) {
        30_000
    } else {
        number % 60
    };
    "x".repeat(usize::try_from(len).unwrap())
}

/// The key of row `number`.
#[must_use]
pub fn row(number: u64) -> String {
    format!("{number:08}")
}

/// Commit `number` of a writer.
///
/// # Errors
/// The database's.
pub fn commit(database: &Database, who: &str, number: u64) -> Result<()> {
    let transaction = database.new_transaction();
    transaction.table::<serde_json::Value>(who)?.insert(
        row(number),
        &json!({"number": number, "text": text(number)}),
    )?;
    let sums = transaction.doc(SUMS)?;
    sums.increment(who, 1)?;
    sums.increment("all", 1)?;
    sums.set(&format!("last.{who}"), number as i64)?;
    transaction.commit()?;
    Ok(())
}

/// Import `number`: all of its rows or none.
///
/// # Errors
/// The database's.
pub fn import(database: &Database, number: u64) -> Result<()> {
    let mut import = database.import().with_memory_bytes(IMPORT_MEMORY);
    for at in 0..IMPORT_ROWS {
        let mut fields = Doc::new();
        fields.insert("text", text(at));
        import.insert_row(IMPORT, format!("{number:08}/{at:04}"), fields)?;
    }
    import.commit()?;
    Ok(())
}

/// Grant `number`, and the sum of grants in the same entry.
///
/// # Errors
/// The database's.
pub fn grant(database: &Database, number: u64) -> Result<()> {
    let transaction = database.new_transaction();
    let to = granted(number).public();
    transaction
        .settings()
        .grant(to, Permission::Read, "reader")?;
    transaction.doc(SUMS)?.increment(GRANT, 1)?;
    transaction.commit()?;
    Ok(())
}

/// Transaction `number` of the local database.
///
/// # Errors
/// The database's.
pub fn local(databases: &Databases, number: u64) -> Result<()> {
    databases.local(LOCAL)?.transact(|transaction| {
        let doc = transaction.doc(LOCAL)?;
        doc.set("last", number as i64)?;
        doc.increment("sum", 1)
    })
}

/// All packs of what is in `from` and not in the past of `not`.
///
/// # Errors
/// The database's.
pub fn packs(from: &Databases, id: &Id, not: &[Id]) -> Result<Vec<Bytes>> {
    let (mut packs, mut cursor) = (Vec::new(), None);
    loop {
        let page = from.difference(id, not, cursor, usize::MAX)?;
        packs.extend(page.packs);
        cursor = page.next;
        if cursor.is_none() {
            return Ok(packs);
        }
    }
}

/// Brings everything of `from` that is missing in `to`.
///
/// # Errors
/// The database's.
///
/// # Panics
/// Rejected entries: all of them are honest.
pub fn bring(from: &Databases, to: &Databases, id: &Id) -> Result<()> {
    let tips = to.tips(id)?.unwrap_or_default();
    let tips: Vec<Id> = tips.iter().map(|tip| tip.id).collect();
    let packs = packs(from, id, &tips)?;
    if !packs.is_empty() {
        let report = to.ingest(IngestRequest::new(*id, &packs).create(true))?;
        assert_eq!(report.rejected_count + report.pending, 0, "{report:?}");
    }
    Ok(())
}
