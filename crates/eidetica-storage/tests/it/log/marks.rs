//! Marks of void entries, and what is kept with them.

use std::collections::BTreeSet;

use eidetica_entry::{Entry, Stamp};
use eidetica_storage::log::{Mark, Marks};
use eidetica_storage::{Batch, Direction, Durability, KeyRange, ScanLimit, Space, limits};
use eidetica_testkit::Rng;

use super::support::{Bench, History, key};

const CHUNK: u64 = 64 * limits::MARK_WORDS as u64;

#[test]
fn a_set_is_a_set() {
    let mut rng = Rng::new(3);
    let (mut marks, mut model) = (Marks::default(), BTreeSet::new());
    let edges = [0, 63, 64, CHUNK - 1, CHUNK, CHUNK + 1, 5 * CHUNK + 7];
    for _ in 0..2_000 {
        let arrival = *rng.pick(&edges) + rng.below(3) as u64;
        let on = rng.one_in(2);
        let changed = match on {
            true => model.insert(arrival),
            false => model.remove(&arrival),
        };
        assert_eq!(marks.set(arrival, on), changed);
        assert_eq!(marks.contains(arrival), on);
        assert!(marks.iter().eq(model.iter().copied()));
        assert!(marks.iter_from(CHUNK).eq(model.range(CHUNK..).copied()));
        assert_eq!(
            (marks.len(), marks.is_empty()),
            (model.len() as u64, model.is_empty())
        );
    }
}

/// Whatever a stage changes is there for the writer, for readers and for the next process alike.
#[test]
fn marks_are_stored_and_loaded() {
    let history = History::chain(40);
    let Bench {
        engine,
        log,
        mut writer,
        ..
    } = Bench::new(&history.entries[0]);
    let mut batch = Batch::new();
    let mut stage = writer.stage();
    stage
        .add_pack(&history.entries[1..], None, &mut batch)
        .unwrap();
    let leaf = Entry::stamp(&history.entries[39]);
    stage.set_void(39, true);
    stage.set_loose(39, leaf.height, &key(4), true);
    stage.set_void_leaf(leaf, true);
    stage.set_void(7, true);
    stage.set_absent(7, true);
    let state = stage.finish(&mut batch).unwrap();
    engine.write(&batch, Durability::Durable).unwrap();
    assert_eq!((state.void, state.unsettled, state.loose), (2, 1, 1));
    assert!(!state.is_settled());
    let check = |void: &[u64], loose: u64, leaves: &[Stamp]| {
        let writer = log.writer().unwrap();
        let snapshot = engine.snapshot().unwrap();
        let reader = log.reader(&*snapshot);
        assert!(
            reader
                .marks(Mark::Void)
                .unwrap()
                .iter()
                .eq(void.iter().copied())
        );
        let among = reader.marks_among(Mark::Void, 39..40).unwrap();
        assert_eq!(among.contains(39), void.contains(&39));
        assert!(
            reader
                .marks_among(Mark::Void, CHUNK..CHUNK + 1)
                .unwrap()
                .is_empty()
        );
        for arrival in 0..41 {
            let is_void = void.contains(&arrival);
            assert_eq!(writer.is_marked(Mark::Void, arrival), is_void);
            assert_eq!(reader.is_marked(Mark::Void, arrival).unwrap(), is_void);
        }
        assert_eq!(writer.loose_of(&key(4)), loose);
        assert_eq!(reader.loose_authors().unwrap().len() as u64, loose);
        assert_eq!(reader.void_leaves().unwrap(), leaves);
    };
    check(&[7, 39], 1, &[leaf]);
    let mut batch = Batch::new();
    let mut stage = writer.stage();
    stage.set_void(39, false);
    stage.set_loose(39, leaf.height, &key(4), false);
    stage.set_void_leaf(leaf, false);
    stage.set_void(7, false);
    stage.set_absent(7, false);
    let state = stage.finish(&mut batch).unwrap();
    engine.write(&batch, Durability::Durable).unwrap();
    assert_eq!((state.void, state.unsettled, state.loose), (0, 0, 0));
    check(&[], 0, &[]);
    // What is gone has no rows.
    let snapshot = engine.snapshot().unwrap();
    for tag in [b"Lm", b"Lt", b"Lw"] {
        let range = KeyRange::prefix(tag.to_vec());
        let one = ScanLimit::rows(1);
        let page = snapshot.scan(Space::Meta, &range, Direction::Forward, one);
        let page = page.unwrap();
        assert!(page.rows.is_empty());
    }
}
