//! A row whose bytes are damaged, as snapshots and expectations see it.

use eidetica_storage::{
    Batch, DAMAGED, Direction, Durability, Engine, EngineError, KeyRange, ScanLimit, Snapshot,
    Space,
};
use eidetica_storage_redb::RedbEngine;
use redb::{Database, TableDefinition};

use crate::dir;

const SPACE: Space = Space::State;

fn values(snapshot: &dyn Snapshot) -> Result<Vec<Vec<u8>>, EngineError> {
    let all = KeyRange::all();
    let page = snapshot.scan(SPACE, &all, Direction::Forward, ScanLimit::default())?;
    Ok(page.rows.iter().map(|row| row.value.to_vec()).collect())
}

#[test]
fn a_damaged_row_can_be_named_and_written_anew() {
    let dir = dir();
    let place = dir.path().join("data");
    let engine = RedbEngine::open(&place).unwrap();
    let mut batch = Batch::new();
    batch.put(SPACE, b"a", b"first");
    batch.put(SPACE, b"b", b"second");
    engine.write(&batch, Durability::Durable).unwrap();
    engine.close().unwrap();
    drop(engine);
    let file = Database::open(place.join("data")).unwrap();
    let transaction = file.begin_write().unwrap();
    let name = TableDefinition::<&[u8], &[u8]>::new("state");
    let mut table = transaction.open_table(name).unwrap();
    assert!(table.insert(&b"a"[..], &b"damaged"[..]).unwrap().is_some());
    drop(table);
    transaction.commit().unwrap();
    drop(file);

    let engine = RedbEngine::open(&place).unwrap();
    let strict = engine.snapshot().unwrap();
    assert!(matches!(values(&*strict), Err(EngineError::Corrupt { .. })));
    assert!(strict.get(SPACE, b"a").is_err());
    assert_eq!(strict.get(SPACE, b"b").unwrap().unwrap(), b"second"[..]);
    let shown = engine.snapshot_with_damage().unwrap();
    assert_eq!(values(&*shown).unwrap(), [DAMAGED, b"second"]);
    assert_eq!(shown.get(SPACE, b"a").unwrap().unwrap(), DAMAGED);

    let mut batch = Batch::new();
    batch.expect(SPACE, b"a", Some(b"first"));
    batch.delete(SPACE, b"b");
    let refused = engine.write(&batch, Durability::Durable).unwrap_err();
    assert!(refused.is_refusal(), "{refused}");
    let mut batch = Batch::new();
    batch.expect(SPACE, b"a", Some(DAMAGED));
    batch.put(SPACE, b"a", b"again");
    engine.write(&batch, Durability::Durable).unwrap();
    let strict = engine.snapshot().unwrap();
    assert_eq!(values(&*strict).unwrap(), [&b"again"[..], b"second"]);
}
