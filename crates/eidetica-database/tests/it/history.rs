//! History, versions, the past, imports.

use eidetica_crdt::{Doc, StoreKind, Value};
use eidetica_database::Error;

use crate::world::{all_packs, database, ingest, instance, key, sync};

#[test]
fn history_pages_from_the_newest() {
    let db = database(&instance(1));
    for n in 0..600 {
        db.transact(|tx| tx.doc("d")?.set("n", n)).unwrap();
    }
    let (mut before, mut heights) = (None, Vec::new());
    loop {
        let page = db.history(before, 97).unwrap();
        heights.extend(page.entries.iter().map(|entry| entry.header().height.0));
        before = page.next;
        if before.is_none() {
            break;
        }
    }
    assert_eq!(heights, (0..=600).rev().collect::<Vec<_>>());
}

#[test]
fn versions_are_what_nobody_overwrote_knowingly() {
    let (a, b) = (instance(1), instance(2));
    let db = database(&a);
    db.transact(|tx| tx.doc("d")?.set("v", "base")).unwrap();
    db.transact(|tx| {
        tx.table::<serde_json::Value>("t")?
            .insert("r", &serde_json::json!({"f": 0}))
    })
    .unwrap();
    sync(&a, &b, &db.id());
    let other = b.get(&db.id()).unwrap().with_key(key(1));
    db.transact(|tx| tx.doc("d")?.set("v", "a")).unwrap();
    other.transact(|tx| tx.doc("d")?.set("v", "b1")).unwrap();
    other.transact(|tx| tx.doc("d")?.set("v", "b2")).unwrap();
    db.transact(|tx| {
        tx.table::<serde_json::Value>("t")?
            .set("r", &serde_json::json!({"f": 1}))
    })
    .unwrap();
    other
        .transact(|tx| {
            tx.table::<serde_json::Value>("t")?
                .set("r", &serde_json::json!({"f": 2}))
        })
        .unwrap();
    sync(&a, &b, &db.id());
    let texts = |db: &eidetica_database::Database| -> Vec<String> {
        let versions = db.versions("d", "v", 100).unwrap();
        versions
            .iter()
            .map(|v| v.value.as_ref().unwrap().as_text().unwrap().to_owned())
            .collect()
    };
    assert_eq!(texts(&db), ["b2", "a"]);
    assert_eq!(texts(&db), texts(&other));
    let fields = db.field_versions("t", "r", "f", 100).unwrap();
    let fields: Vec<_> = fields
        .iter()
        .map(|v| v.value.as_ref().unwrap().as_int().unwrap())
        .collect();
    assert_eq!(fields, [2, 1]);
    db.transact(|tx| tx.doc("d")?.set("v", "settled")).unwrap();
    assert_eq!(texts(&db), ["settled"]);
    db.transact(|tx| tx.doc("d")?.delete("v")).unwrap();
    assert_eq!(db.versions("d", "v", 100).unwrap()[0].value, None::<Value>);
    assert!(db.versions("d", "nothing", 100).unwrap().is_empty());
}

#[test]
fn the_past_can_be_read() {
    let db = database(&instance(1));
    let mut ids = Vec::new();
    for n in 0..20 {
        let tx = db.new_transaction();
        tx.doc("d").unwrap().set("n", n).unwrap();
        tx.doc("d").unwrap().push("l", n).unwrap();
        ids.push(tx.commit().unwrap().unwrap().id());
    }
    for (n, id) in ids.iter().enumerate() {
        let doc = db
            .as_of(&[*id])
            .unwrap()
            .doc("d")
            .unwrap()
            .get_all()
            .unwrap();
        let list: Vec<_> = (0..=n).collect();
        assert_eq!(doc.to_json(), serde_json::json!({"n": n, "l": list}));
    }
    let nowhere = db.as_of(&[eidetica_entry::Id::new([3; 32])]);
    assert!(matches!(nowhere, Err(Error::NoEntry(_))));
}

#[test]
fn an_import_becomes_visible_at_once() {
    let (a, b) = (instance(1), instance(2));
    let db = database(&a);
    db.transact(|tx| {
        tx.table::<serde_json::Value>("rows")?
            .insert("00000", &serde_json::json!({"old": 1}))
    })
    .unwrap();
    let mut import = db.import();
    let text = "x".repeat(1000);
    for n in 0..3000 {
        let mut row = Doc::new();
        row.set_string("text", text.as_str());
        row.insert("n", n);
        import.insert_row("rows", format!("{n:05}"), row).unwrap();
    }
    import.set("d", "imported.rows", 3000).unwrap();
    assert_eq!(db.entry_count().unwrap(), 2, "nothing yet");
    let version = db.version();
    let entries = import.commit().unwrap();
    assert!(entries.len() > 2);
    for id in &entries {
        assert!(db.get(id).unwrap().unwrap().encoded_len() < 4 << 20);
    }
    assert_eq!(db.version(), version + 1, "one batch");
    let rows = db.table::<serde_json::Value>("rows").unwrap();
    assert_eq!(rows.rows().iter().count(), 3000);
    assert_eq!(rows.get("00000").unwrap().unwrap()["n"], 0);
    assert!(rows.get("00000").unwrap().unwrap().get("old").is_none());
    assert_eq!(
        db.doc("d").unwrap().get_as::<i64>("imported.rows").unwrap(),
        Some(3000)
    );
    assert!(db.verify().unwrap().is_sound());
    ingest(&b, db.id(), &all_packs(&a, &db.id()));
    assert_eq!(
        b.get(&db.id()).unwrap().state_hash().unwrap(),
        db.state_hash().unwrap()
    );
    assert!(matches!(
        db.import().set("rows", "x", 1),
        Err(Error::WrongKind { .. })
    ));
    assert!(db.store_hash("rows", StoreKind::Table).unwrap().is_some());
}

#[test]
fn a_fork_sees_the_past_of_all_its_parents() {
    let a = instance(1);
    let db = database(&a);
    let commit = |at: Option<&[eidetica_entry::Id]>, path: &str, value: i64| {
        let tx = match at {
            Some(at) => db.new_transaction_at(at).unwrap(),
            None => db.new_transaction(),
        };
        tx.doc("d").unwrap().set(path, value).unwrap();
        tx.commit().unwrap().unwrap().id()
    };
    let base = commit(None, "a.x", 1);
    let left = commit(Some(&[base]), "b.x", 2);
    let left = commit(Some(&[left, base]), "a.x", 3);
    let right = commit(Some(&[base]), "c.x", 4);
    let entry = db.get(&left).unwrap().unwrap();
    assert_eq!(
        entry.header().parents.len(),
        1,
        "a frontier is made of maximal entries"
    );
    let tx = db.new_transaction_at(&[left, right]).unwrap();
    let doc = tx.doc("d").unwrap();
    assert_eq!(doc.get_as::<i64>("a.x").unwrap(), Some(3));
    doc.set("b.y", 5).unwrap();
    doc.set("e", 6).unwrap();
    let all = serde_json::json!({"a": {"x": 3}, "b": {"x": 2, "y": 5}, "c": {"x": 4}, "e": 6});
    assert_eq!(doc.get_all().unwrap().to_json(), all);
    let merged = tx.commit().unwrap().unwrap();
    assert_eq!(
        db.as_of(&[merged.id()])
            .unwrap()
            .doc("d")
            .unwrap()
            .get_all()
            .unwrap()
            .to_json(),
        all
    );
    let right = db.as_of(&[right]).unwrap();
    assert_eq!(
        right.doc("d").unwrap().get_all().unwrap().to_json(),
        serde_json::json!({"a": {"x": 1}, "c": {"x": 4}})
    );
    // The same where no past is remembered.
    let other = instance(2);
    ingest(&other, db.id(), &all_packs(&a, &db.id()));
    let other = other.get(&db.id()).unwrap();
    assert_eq!(
        other
            .as_of(&[merged.id()])
            .unwrap()
            .doc("d")
            .unwrap()
            .get_all()
            .unwrap()
            .to_json(),
        all
    );
    assert_eq!(other.as_of(&[left, base]).unwrap().frontier(), [left]);
    assert!(other.as_of(&[]).is_err());
}
