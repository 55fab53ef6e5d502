//! What many databases take: rows and bytes on the server, time to open, memory while they are open. The figures stand in
//! the guide's page on deployments; here are their limits.

use std::sync::Arc;
use std::time::Instant;

use eidetica_auth::{AuthRecord, KeyName, Permission, SecretKey};
use eidetica_database::{Config, Database, Databases, NewDatabase};
use eidetica_testkit::PostgresServer;

use crate::{fresh, open};

const DATABASES: usize = 400;
/// Entries of each beyond its root.
const COMMITS: usize = 2;

/// Most that each may take.
const ROWS: usize = 20;
const STORED_BYTES: usize = 8 << 10;
const MEMORY_BYTES: usize = 64 << 10;

fn instance(url: &str) -> Databases {
    Databases::open(open(url).unwrap(), Config::new([1; 32])).unwrap()
}

/// Bytes of this process in memory, where the system says it.
fn resident() -> Option<usize> {
    let statm = std::fs::read_to_string("/proc/self/statm").ok()?;
    let pages: usize = statm.split(' ').nth(1)?.parse().ok()?;
    Some(pages * 4096)
}

/// Rows in the schema, and bytes with the index.
fn stored(url: &str) -> (usize, usize) {
    let schema = url.rsplit_once("schema=").unwrap().1.to_owned();
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    runtime.block_on(async {
        let server = PostgresServer::shared().url();
        let (client, connection) = tokio_postgres::connect(server, tokio_postgres::NoTls)
            .await
            .unwrap();
        tokio::spawn(connection);
        client
            .batch_execute(&format!("VACUUM FULL {schema}.rows"))
            .await
            .unwrap();
        let ask =
            format!("SELECT count(*), pg_total_relation_size('{schema}.rows') FROM {schema}.rows");
        let row = client.query_one(&ask, &[]).await.unwrap();
        (row.get::<_, i64>(0) as usize, row.get::<_, i64>(1) as usize)
    })
}

#[test]
fn a_database_takes_few_rows_and_little_memory() {
    let url = fresh();
    let key = Arc::new(SecretKey::from_bytes(&[1; 32]));
    let first = instance(&url);
    let begun = Instant::now();
    let ids: Vec<_> = (0..DATABASES)
        .map(|_| {
            let records = vec![AuthRecord::grant(
                key.public(),
                Permission::Admin(0),
                KeyName::default(),
            )];
            let new = NewDatabase {
                records,
                ..NewDatabase::default()
            };
            let db = first.create(new, Arc::clone(&key)).unwrap();
            for n in 0..COMMITS {
                let tx = db.new_transaction();
                tx.doc("d").unwrap().set("k", n as i64).unwrap();
                tx.commit().unwrap();
            }
            db.id()
        })
        .collect();
    let made = begun.elapsed() / DATABASES as u32;
    let (rows, bytes) = stored(&url);

    let begun = Instant::now();
    let databases = instance(&url);
    let opened = begun.elapsed();
    let (before, begun) = (resident(), Instant::now());
    let all: Vec<Database> = ids.iter().map(|id| databases.get(id).unwrap()).collect();
    for db in &all {
        assert_eq!(
            db.doc("d").unwrap().get_as::<i64>("k").unwrap(),
            Some(COMMITS as i64 - 1)
        );
    }
    let each = begun.elapsed() / DATABASES as u32;
    let grown = |before| Some(resident()?.saturating_sub(before) / DATABASES);
    let memory = before.and_then(grown);
    let (rows, bytes) = (rows / DATABASES, bytes / DATABASES);
    let in_memory = memory.map_or_else(|| "not measured".into(), |bytes| format!("{bytes} bytes"));
    eprintln!(
        "of {DATABASES} databases each: {rows} rows, {bytes} bytes stored, in memory {in_memory}, made in {made:?}, \
         opened and read in {each:?}; the instance opened in {opened:?}"
    );
    assert!(rows <= ROWS && bytes <= STORED_BYTES);
    assert!(memory.is_none_or(|bytes| bytes <= MEMORY_BYTES));
    // Its memory is not to be used again by the second one.
    drop(first);
}
