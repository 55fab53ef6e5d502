//! Entries that come in faster than their state is computed.

use std::sync::Arc;

use eidetica_database::{Database, Databases, limits};
use eidetica_entry::Entry;
use eidetica_storage::MemoryEngine;
use eidetica_testkit::{Fault, FaultyEngine};

use crate::story::{Story, View, memory, revoke, view};
use crate::world::{engine, ingest_entries, instance_on, key};

/// Bytes of a large value.
const LARGE: usize = 512 << 10;
/// Entries with one that fill what may wait for its state to be computed.
const FULL: usize = limits::DEFERRED_BYTES / LARGE + 1;

/// What two authors write in turn: so much that its state is deferred, then one large value after the other.
fn written_by_two(story: &Story, large: usize) -> Vec<Entry> {
    let author = memory(1);
    ingest_entries(&author, story.id(), &story.entries);
    let db = author.get(&story.id()).unwrap();
    let write = |number: usize| {
        let db = db.with_key(key(4 + (number % 2) as u8));
        let tx = db.new_transaction();
        let doc = tx.doc("d").unwrap();
        doc.set(&format!("k{}", number % 61), number as i64)
            .unwrap();
        if number >= limits::DEFER_STATE_FROM {
            let text = number.to_string().repeat(LARGE / 3);
            doc.set(&format!("large{}", number % 3), text).unwrap();
        }
        tx.commit().unwrap().unwrap()
    };
    (0..limits::DEFER_STATE_FROM + large).map(write).collect()
}

/// Brings entries one request after the other, so that none of them is deferred for long.
fn told_slowly(story: &Story, entries: &[&[Entry]]) -> View {
    let replica = memory(3);
    ingest_entries(&replica, story.id(), &story.entries[..1]);
    let db = replica.get(&story.id()).unwrap();
    for entries in entries.iter().flat_map(|entries| entries.chunks(100)) {
        for part in entries.chunks(4) {
            ingest_entries(&replica, story.id(), part);
        }
        db.catch_up().unwrap();
    }
    view(&db)
}

/// Brings entries as they come in bulk, so that all of them are deferred: first many small ones, then the large ones.
fn bring(replica: &Databases, story: &Story, entries: &[Entry]) -> Database {
    ingest_entries(replica, story.id(), &story.entries[..1]);
    let db = replica.get(&story.id()).unwrap();
    db.catch_up().unwrap();
    let (first, large) = entries.split_at(limits::DEFER_STATE_FROM);
    ingest_entries(replica, story.id(), first);
    for part in large.chunks(4) {
        ingest_entries(replica, story.id(), part);
    }
    db
}

#[test]
fn state_is_computed_while_more_comes_in() {
    let story = Story::new();
    let entries = written_by_two(&story, 3 * FULL);
    let expected = told_slowly(&story, &[&entries]);
    let db = bring(&instance_on(engine(), 2), &story, &entries);
    assert_eq!(view(&db), expected);
}

/// Entries of one leaf each, told in one request.
fn told(db: &Database, into: &Databases, leaf: impl Fn(usize) -> (String, i64)) {
    let entries: Vec<Entry> = (0..limits::DEFER_STATE_FROM)
        .map(|number| {
            let (path, value) = leaf(number);
            let tx = db.new_transaction();
            tx.doc("d").unwrap().set(&path, value).unwrap();
            tx.commit().unwrap().unwrap()
        })
        .collect();
    ingest_entries(into, db.id(), &entries);
}

#[test]
fn what_is_below_a_leaf_is_found_when_that_is_replaced() {
    let story = Story::new();
    let (author, replica) = (memory(1), instance_on(engine(), 2));
    for to in [&author, &replica] {
        ingest_entries(to, story.id(), &story.entries);
    }
    let db = author.get(&story.id()).unwrap().with_key(key(4));
    let of = replica.get(&story.id()).unwrap();
    // The replica sees the store from its first row on, so it knows how deep the rows go.
    told(&db, &replica, |number| (format!("k{number}"), 1));
    of.catch_up().unwrap();
    told(&db, &replica, |number| (format!("k{}", number % 99), 2));
    of.catch_up().unwrap();
    told(&db, &replica, |number| (format!("k{}.a.b", number % 77), 3));
    of.catch_up().unwrap();
    told(&db, &replica, |number| (format!("k{}", number % 66), 4));
    told(&db, &replica, |number| (format!("k{}.a", number % 88), 5));
    assert_eq!(view(&of), view(&db));
}

#[test]
fn what_changes_sides_while_state_is_computed_is_left_out_of_it() {
    let mut story = Story::new();
    let revocation = story.say(&[0], 1, revoke(4));
    let revocation = story.entries.split_off(revocation);
    // Written, being computed and not begun.
    let entries = written_by_two(&story, 2 * FULL + FULL / 2);
    let (before, after) = entries.split_at(entries.len() - FULL / 4);
    let expected = told_slowly(&story, &[before, &revocation, after]);
    let replica = memory(2);
    let db = bring(&replica, &story, before);
    ingest_entries(&replica, story.id(), &revocation);
    for part in after.chunks(4) {
        ingest_entries(&replica, story.id(), part);
    }
    assert_eq!(view(&db), expected);
}

#[test]
fn state_that_could_not_be_computed_beside_is_computed_again() {
    let story = Story::new();
    let entries = written_by_two(&story, 2 * FULL + 8);
    let expected = told_slowly(&story, &[&entries]);
    let begin = |number| {
        let fault = Some((number, Fault::ReadOn("eidetica-state")));
        let engine = Arc::new(FaultyEngine::over(&MemoryEngine::new(), fault));
        let db = bring(&instance_on(engine.clone(), 2), &story, &entries);
        (engine, db)
    };
    let reads = {
        let (engine, db) = begin(u64::MAX);
        // What is being computed ends before.
        drop(db);
        engine.reads_there()
    };
    assert!(reads > 2, "{reads}");
    // The first is met by what comes in next, the last by who reads.
    for number in [0, reads / 2, reads - 1] {
        let (engine, db) = begin(number);
        assert_eq!(view(&db), expected, "{number}");
        let again = instance_on(Arc::new(engine.crash(usize::MAX)), 3);
        assert_eq!(view(&again.get(&story.id()).unwrap()), expected, "{number}");
    }
}
