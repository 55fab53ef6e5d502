//! Commits: what they make, see and refuse.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use eidetica_auth::Permission;
use eidetica_crdt::Doc;
use eidetica_database::{Error, Origin, Reject};
use serde::{Deserialize, Serialize};

use crate::world::{database, engine, instance, key, on, rights};

#[test]
fn a_document_reads_back() {
    let db = database(&instance(1));
    let tx = db.new_transaction();
    let doc = tx.doc("notes").unwrap();
    doc.set("title", "hello").unwrap();
    doc.set("author.age", 41).unwrap();
    assert_eq!(
        doc.get_as::<String>("title").unwrap().unwrap(),
        "hello",
        "own edits are seen"
    );
    assert!(
        db.doc("notes").unwrap().get("title").unwrap().is_none(),
        "and nobody else sees them"
    );
    let entry = tx.commit().unwrap().unwrap();

    let doc = db.doc("notes").unwrap();
    assert_eq!(doc.get_as::<i64>("author.age").unwrap(), Some(41));
    assert_eq!(
        doc.get_all().unwrap().to_json(),
        serde_json::json!({"title": "hello", "author": {"age": 41}})
    );
    assert_eq!(db.tips().unwrap(), [entry.stamp()]);
    assert_eq!(db.name().unwrap().unwrap(), "test");
    assert_eq!(db.get(&entry.id()).unwrap(), Some(entry));
}

#[test]
fn lists_and_counters_work() {
    let db = database(&instance(1));
    db.transact(|tx| {
        let doc = tx.doc("d")?;
        doc.push("l", "a")?;
        doc.push("l", "c")?;
        doc.insert("l", 1, "b")?;
        doc.increment("n", 2)
    })
    .unwrap();
    db.transact(|tx| {
        let doc = tx.doc("d")?;
        doc.increment("n", 3)?;
        doc.move_to("l.2", 0)?;
        doc.delete("l.1")
    })
    .unwrap();
    let doc = db.doc("d").unwrap();
    assert_eq!(doc.get_as::<i64>("n").unwrap(), Some(5));
    let texts: Vec<_> = doc
        .list("l", 0, 10)
        .unwrap()
        .iter()
        .map(|v| v.as_text().unwrap().to_owned())
        .collect();
    assert_eq!(texts, ["c", "b"]);
}

#[derive(Serialize, Deserialize, PartialEq, Debug, Clone)]
struct Task {
    title: String,
    done: bool,
    tags: Vec<String>,
}

fn task(title: &str) -> Task {
    Task {
        title: title.into(),
        done: false,
        tags: vec!["x".into()],
    }
}

#[test]
fn a_table_reads_back_in_order() {
    let db = database(&instance(1));
    db.transact(|tx| {
        let tasks = tx.table::<Task>("tasks")?;
        for at in 0..50 {
            tasks.insert(format!("t{at:02}"), &task(&format!("task {at}")))?;
        }
        tasks.delete("t07")?;
        tasks.insert_doc(
            "u",
            Doc::from_json(&serde_json::json!({"title": "u", "done": true, "tags": []})).unwrap(),
        )
    })
    .unwrap();
    let tasks = db.table::<Task>("tasks").unwrap();
    assert_eq!(tasks.get("t03").unwrap(), Some(task("task 3")));
    assert_eq!(tasks.get("t07").unwrap(), None);
    assert_eq!(tasks.get_all().unwrap().len(), 50);
    let keys = |rows: Vec<(String, Task)>| rows.into_iter().map(|(key, _)| key).collect::<Vec<_>>();
    let some = tasks
        .rows()
        .range("t05".."t10")
        .page(2)
        .iter()
        .collect::<Result<Vec<_>, _>>()
        .unwrap();
    assert_eq!(keys(some), ["t05", "t06", "t08", "t09"]);
    let last = tasks
        .rows()
        .prefix("t")
        .reverse()
        .limit(3)
        .page(2)
        .iter()
        .collect::<Result<Vec<_>, _>>()
        .unwrap();
    assert_eq!(keys(last), ["t49", "t48", "t47"]);
    assert_eq!(
        keys(tasks.rows().limit(2).filter(|_, task| task.done).unwrap()),
        ["u"]
    );
}

#[test]
fn a_table_writes_changed_fields_only() {
    let db = database(&instance(1));
    db.transact(|tx| tx.table::<Task>("tasks")?.insert("a", &task("one")))
        .unwrap();
    let same = db.new_transaction();
    same.table::<Task>("tasks")
        .unwrap()
        .set("a", &task("one"))
        .unwrap();
    assert!(
        same.commit().unwrap().is_none(),
        "nothing changed, so there is no entry"
    );
    let tx = db.new_transaction();
    tx.table::<Task>("tasks")
        .unwrap()
        .set(
            "a",
            &Task {
                done: true,
                ..task("one")
            },
        )
        .unwrap();
    assert!(tx.commit().unwrap().is_some());
    assert!(
        db.table::<Task>("tasks")
            .unwrap()
            .get("a")
            .unwrap()
            .unwrap()
            .done
    );
}

#[test]
fn an_empty_transaction_makes_no_entry() {
    let db = database(&instance(1));
    assert!(db.new_transaction().commit().unwrap().is_none());
    assert_eq!(db.entry_count().unwrap(), 1);
}

#[test]
fn a_stale_read_conflicts_and_a_blind_write_does_not() {
    let db = database(&instance(1));
    db.transact(|tx| tx.doc("d")?.set("n", 1)).unwrap();
    let (reads, blind, elsewhere) = (
        db.new_transaction(),
        db.new_transaction(),
        db.new_transaction(),
    );
    assert_eq!(reads.doc("d").unwrap().get_as::<i64>("n").unwrap(), Some(1));
    reads.doc("d").unwrap().set("m", 2).unwrap();
    blind.doc("d").unwrap().set("n", 5).unwrap();
    assert_eq!(elsewhere.doc("d").unwrap().get("other").unwrap(), None);
    elsewhere.doc("d").unwrap().set("k", 1).unwrap();
    blind.commit().unwrap();
    assert!(matches!(reads.commit(), Err(Error::Conflict { store }) if store.as_str() == "d"));
    elsewhere.commit().unwrap();
    assert_eq!(db.doc("d").unwrap().get("m").unwrap(), None);
}

#[test]
fn transact_counts_exactly_from_eight_threads() {
    let db = database(&instance(1));
    let seen = Arc::new(AtomicU64::new(0));
    let counted = Arc::clone(&seen);
    db.on_local_write(move |event, db| {
        let at = counted.fetch_add(1, Ordering::SeqCst);
        assert_eq!(
            event.entry.header().height.0,
            at + 1,
            "in the order of arrival"
        );
        assert!(db.get(&event.entry.id())?.is_some(), "durable when told");
        Ok(())
    })
    .unwrap();
    std::thread::scope(|scope| {
        for thread in 0..8 {
            let db = db.clone();
            scope.spawn(move || {
                for round in 0..20 {
                    db.transact(|tx| {
                        let doc = tx.doc("d")?;
                        let n = doc.get_as::<i64>("n")?.unwrap_or(0);
                        doc.set("n", n + 1)?;
                        doc.set(&format!("by{thread}"), round)
                    })
                    .unwrap();
                }
            });
        }
    });
    assert_eq!(db.doc("d").unwrap().get_as::<i64>("n").unwrap(), Some(160));
    assert_eq!(db.entry_count().unwrap(), 161);
    assert_eq!(
        db.tips().unwrap().len(),
        1,
        "writers on one instance form a chain"
    );
    assert_eq!(seen.load(Ordering::SeqCst), 160);
    assert_eq!(db.callback_failures(), 0);
}

#[test]
fn what_was_said_at_a_place_before_is_that_entry() {
    let databases = instance(1);
    let db = database(&databases);
    db.transact(|tx| tx.doc("d")?.set("a", 1)).unwrap();
    let base = db.tips().unwrap()[0].id;
    db.transact(|tx| tx.doc("d")?.set("a", 2)).unwrap();
    let say = |n: i64| {
        let fork = db.new_transaction_at(&[base]).unwrap();
        fork.doc("d").unwrap().set("b", n).unwrap();
        fork.commit().unwrap().unwrap()
    };
    let first = say(1);
    assert_eq!(say(1), first);
    assert_ne!(say(2), first);
    assert_eq!(db.entry_count().unwrap(), 5);
    std::thread::scope(|scope| {
        let same: Vec<_> = (0..4).map(|_| scope.spawn(|| say(3).id())).collect();
        let same = same.into_iter().map(|said| said.join().unwrap());
        assert_eq!(same.collect::<std::collections::HashSet<_>>().len(), 1);
    });
    assert_eq!(db.entry_count().unwrap(), 6);
    assert!(databases.verify().unwrap().is_sound());
}

#[test]
fn a_fork_reads_its_past_and_the_next_commit_merges() {
    let db = database(&instance(1));
    db.transact(|tx| tx.doc("d")?.set("n", 1)).unwrap();
    let base = db.tips().unwrap()[0].id;
    db.transact(|tx| tx.doc("d")?.set("n", 2)).unwrap();
    let fork = db.new_transaction_at(&[base]).unwrap();
    assert_eq!(fork.doc("d").unwrap().get_as::<i64>("n").unwrap(), Some(1));
    fork.doc("d").unwrap().set("m", 3).unwrap();
    let forked = fork.commit().unwrap().unwrap();
    assert_eq!(forked.header().parents.as_slice(), [base]);
    assert_eq!(db.tips().unwrap().len(), 2);
    let past = db.as_of(&[forked.id()]).unwrap();
    assert_eq!(
        past.doc("d").unwrap().get_all().unwrap().to_json(),
        serde_json::json!({"n": 1, "m": 3})
    );
    let merged = db.new_transaction();
    merged.doc("d").unwrap().set("k", 1).unwrap();
    let merged = merged.commit().unwrap().unwrap();
    assert_eq!(merged.header().parents.len(), 2);
    assert_eq!(
        db.doc("d").unwrap().get_all().unwrap().to_json(),
        serde_json::json!({"n": 2, "m": 3, "k": 1})
    );
}

#[test]
fn a_store_keeps_its_kind() {
    let db = database(&instance(1));
    db.transact(|tx| tx.doc("d")?.set("n", 1)).unwrap();
    assert!(matches!(
        db.table::<Task>("d"),
        Err(Error::WrongKind {
            found: "document",
            ..
        })
    ));
    assert!(matches!(
        db.new_transaction().table::<Task>("d"),
        Err(Error::WrongKind { .. })
    ));
    let tx = db.new_transaction();
    tx.doc("new").unwrap().set("n", 1).unwrap();
    assert!(matches!(
        tx.table::<Task>("new"),
        Err(Error::WrongKind { .. })
    ));
    assert!(db.doc("_hidden").is_err());
}

#[test]
fn rights_are_judged_at_the_commit() {
    let (owner, writer, reader) = (key(1), key(2), key(3));
    let new = rights(
        &owner,
        &[
            (&writer, Permission::Write(10)),
            (&reader, Permission::Read),
        ],
    );
    let db = instance(1).create(new, owner).unwrap();
    let write = |key| {
        let db = db.with_key(key);
        db.transact(|tx| tx.doc("d")?.set("n", 1))
    };
    write(key(2)).unwrap();
    for nobody in [3, 4] {
        assert!(matches!(
            write(key(nobody)),
            Err(Error::Refused(Reject::Authority(_)))
        ));
    }
    let settings = db
        .with_key(writer)
        .transact(|tx| tx.settings().set_name("mine"));
    assert!(matches!(
        settings,
        Err(Error::Refused(Reject::Authority(_)))
    ));
    db.transact(|tx| {
        tx.settings()
            .grant(key(4).public(), Permission::Write(1), "four")
    })
    .unwrap();
    write(key(4)).unwrap();
    db.transact(|tx| tx.settings().set_wildcard(Some(Permission::Write(50))))
        .unwrap();
    write(key(9)).unwrap();
    assert_eq!(
        db.settings().unwrap().wildcard(),
        Some(Permission::Write(50))
    );
    assert_eq!(db.settings().unwrap().keys().len(), 4);
    assert_eq!(db.name().unwrap().unwrap(), "test");
}

#[test]
fn callbacks_may_write_and_fail() {
    let db = database(&instance(1));
    db.on_local_write(|event, db| {
        assert_eq!(event.origin, Origin::Local);
        if db.entry_count()? < 5 {
            db.with_key(key(1))
                .transact(|tx| tx.doc("echo")?.increment("n", 1))?;
        }
        Err("on purpose".into())
    })
    .unwrap();
    db.transact(|tx| tx.doc("d")?.set("n", 1)).unwrap();
    assert_eq!(db.doc("echo").unwrap().get_as::<i64>("n").unwrap(), Some(3));
    assert_eq!(db.callback_failures(), 4);
}

#[test]
fn everything_is_there_after_reopening() {
    let engine = engine();
    let id = {
        let db = database(&on(engine.clone()));
        for n in 0..300 {
            db.transact(|tx| tx.doc("d")?.set(&format!("k{n}"), n))
                .unwrap();
        }
        db.id()
    };
    let databases = on(engine);
    assert_eq!(databases.list().unwrap(), [id]);
    let db = databases.get(&id).unwrap().with_key(key(1));
    assert_eq!(
        db.doc("d").unwrap().get_as::<i64>("k299").unwrap(),
        Some(299)
    );
    db.transact(|tx| tx.doc("d")?.set("k0", -1)).unwrap();
    assert_eq!(db.doc("d").unwrap().get_all().unwrap().len(), 300);
    assert_eq!(db.tips().unwrap()[0].height.0, 301);
}

#[test]
fn a_local_database_keeps_no_history() {
    let engine = engine();
    {
        let local = on(engine.clone()).local("_sync").unwrap();
        for n in 0..3 {
            local
                .transact(|tx| {
                    tx.doc("d")?.set("n", n)?;
                    tx.doc("d")?.increment("count", 1)?;
                    tx.doc("d")?.push("l", n)?;
                    tx.table::<Task>("t")?.insert(format!("{n}"), &task("x"))
                })
                .unwrap();
        }
        local
            .transact(|tx| tx.table::<Task>("t")?.delete("1"))
            .unwrap();
    }
    let databases = on(engine);
    let local = databases.local("_sync").unwrap();
    let doc = local.doc("d").unwrap().get_all().unwrap();
    assert_eq!(
        doc.to_json(),
        serde_json::json!({"n": 2, "count": 3, "l": [0, 1, 2]})
    );
    assert_eq!(
        local.table::<Task>("t").unwrap().get_all().unwrap().len(),
        2
    );
    assert!(databases.list().unwrap().is_empty());
    assert_eq!(databases.list_local().unwrap(), ["_sync"]);
    let (stale, other) = (local.new_transaction(), local.new_transaction());
    stale.doc("d").unwrap().get("n").unwrap();
    stale.doc("d").unwrap().set("n", 9).unwrap();
    other.doc("d").unwrap().set("n", 8).unwrap();
    other.commit().unwrap();
    assert!(stale.commit().unwrap_err().is_conflict());
}

#[test]
fn dropped_handles_let_the_engine_go() {
    let engine = engine();
    {
        let databases = on(Arc::clone(&engine));
        let db = database(&databases);
        db.transact(|tx| tx.doc("d")?.set("n", 1)).unwrap();
        databases.on_write(|_, _| Ok(())).unwrap();
        db.on_local_write(|_, _| Ok(())).unwrap();
        let past = db.as_of(&[db.id()]).unwrap();
        assert!(past.doc("d").unwrap().get("n").unwrap().is_none());
        let local = databases.local("prefs").unwrap();
        local.transact(|tx| tx.doc("d")?.set("n", 1)).unwrap();
        let again = databases.local("prefs").unwrap();
        let view = again.doc("d").unwrap();
        assert_eq!(view.get_as::<i64>("n").unwrap(), Some(1));
        let unfinished = (db.new_transaction(), local.new_transaction());
        unfinished.0.doc("d").unwrap().get("n").unwrap();
        assert!(Arc::strong_count(&engine) > 1);
    }
    assert_eq!(Arc::strong_count(&engine), 1);
}

#[test]
fn a_local_store_that_began_with_nothing_is_there_after_reopening() {
    let engine = engine();
    {
        let local = on(engine.clone()).local("prefs").unwrap();
        local.transact(|tx| tx.doc("d")?.delete("none")).unwrap();
        local.transact(|tx| tx.doc("d")?.set("n", 1)).unwrap();
    }
    let local = on(engine).local("prefs").unwrap();
    let n = local.doc("d").unwrap().get_as::<i64>("n").unwrap();
    assert_eq!(n, Some(1));
}
