//! Entries that come in faster than their state is computed.

use std::sync::Arc;

use eidetica_database::limits;
use eidetica_entry::Entry;
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

fn first_ones(entries: &[Entry]) -> (&[Entry], &[Entry]) {
    entries.split_at(limits::DEFER_STATE_FROM)
}

#[test]
fn state_is_computed_while_more_comes_in() {
    let story = Story::new();
    let entries = written_by_two(&story, 3 * FULL);
    let expected = told_slowly(&story, &[&entries]);
    let replica = instance_on(engine(), 2);
    ingest_entries(&replica, story.id(), &story.entries);
    let db = replica.get(&story.id()).unwrap();
    db.catch_up().unwrap();
    let (first, large) = first_ones(&entries);
    ingest_entries(&replica, story.id(), first);
    for part in large.chunks(4) {
        ingest_entries(&replica, story.id(), part);
    }
    assert_eq!(view(&db), expected);
    assert!(db.verify().unwrap().is_sound());
}

#[test]
fn what_changes_sides_while_state_is_computed_is_left_out_of_it() {
    let mut story = Story::new();
    let revocation = story.say(&[0], 1, revoke(4));
    let revocation = story.entries[revocation].clone();
    story.entries.truncate(1);
    // Written, being computed and not begun.
    let entries = written_by_two(&story, 2 * FULL + FULL / 2);
    let later = FULL / 4;
    let (before, after) = entries.split_at(entries.len() - later);
    let revocation = std::slice::from_ref(&revocation);
    let expected = told_slowly(&story, &[before, revocation, after]);
    let replica = memory(2);
    ingest_entries(&replica, story.id(), &story.entries);
    let db = replica.get(&story.id()).unwrap();
    db.catch_up().unwrap();
    let (first, large) = first_ones(before);
    ingest_entries(&replica, story.id(), first);
    for part in large.chunks(4) {
        ingest_entries(&replica, story.id(), part);
    }
    ingest_entries(&replica, story.id(), revocation);
    for part in after.chunks(4) {
        ingest_entries(&replica, story.id(), part);
    }
    assert_eq!(view(&db), expected);
    assert!(db.verify().unwrap().is_sound());
}

#[test]
fn state_that_is_computed_is_computed_again_after_a_failure() {
    let story = Story::new();
    let entries = written_by_two(&story, 2 * FULL + 8);
    let expected = told_slowly(&story, &[&entries]);
    let run = |fault| {
        let engine = Arc::new(FaultyEngine::over(&FaultyEngine::new().crash(0), fault));
        let replica = instance_on(engine.clone(), 2);
        ingest_entries(&replica, story.id(), &story.entries);
        replica.get(&story.id()).unwrap().catch_up().unwrap();
        let (first, large) = first_ones(&entries);
        let packs = |entries: &[Entry]| vec![eidetica_entry::pack::encode(entries).unwrap()];
        for part in std::iter::once(first).chain(large.chunks(4)) {
            let packs = packs(part);
            let request = eidetica_database::IngestRequest::new(story.id(), &packs);
            let _ = replica.ingest(request);
        }
        (engine, replica)
    };
    let (engine, _) = run(None);
    let reads = engine.reads();
    for fault in (0..4).map(|quarter| reads * (4 + quarter) / 8) {
        let (engine, replica) = run(Some((fault, Fault::Read)));
        // What was refused comes again.
        for part in entries.chunks(4) {
            ingest_entries(&replica, story.id(), part);
        }
        assert_eq!(view(&replica.get(&story.id()).unwrap()), expected);
        let again = instance_on(Arc::new(engine.crash(usize::MAX)), 3);
        assert_eq!(view(&again.get(&story.id()).unwrap()), expected);
    }
}
