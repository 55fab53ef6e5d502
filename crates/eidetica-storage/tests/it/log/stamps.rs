//! Summaries of what is passed on, against those of the plain list of stamps.

use std::sync::Arc;

use eidetica_entry::reconcile::{Node, Source, Span, Summary, summarize, within};
use eidetica_entry::{Entry, Height, Stamp};
use eidetica_storage::log::{DatabaseLog, LogWriter, NewSummaries};
use eidetica_storage::{
    Batch, Direction, Durability, Engine, KeyRange, MemoryEngine, ScanLimit, Space, limits,
};
use eidetica_testkit::{RecordingEngine, Rng};

use super::support::{Bench, History, key};

/// How many summaries are kept.
fn kept(engine: &dyn Engine) -> usize {
    let snapshot = engine.snapshot().unwrap();
    let limit = ScanLimit::rows(limits::SCAN_ROWS);
    let range = KeyRange::prefix(*b"Ls");
    let page = snapshot.scan(Space::Meta, &range, Direction::Forward, limit);
    page.unwrap().rows.len()
}

/// Asks for many summaries, compares them with those of the list, keeps what was computed; says whether it could.
fn compare(log: &DatabaseLog, stamps: &[Stamp], rng: &mut Rng) -> bool {
    let snapshot = log.engine().snapshot().unwrap();
    let reader = log.reader(&*snapshot);
    let mut set = reader.stamp_set().unwrap();
    let top = stamps.last().unwrap().height.0;
    let mut spans = vec![Span::ALL];
    for _ in 0..6 {
        let mut end = |most| {
            Stamp::new(
                Height(rng.below(most as usize + 2) as u64),
                stamps[rng.below(stamps.len())].id,
            )
        };
        let (a, b) = (end(top), end(top));
        let (from, to) = (a.min(b), Some(a.max(b)));
        spans.extend([Span { from, to }, Span { from, to: None }]);
    }
    for span in &spans {
        let mut list = stamps;
        let Ok(expected) = summarize(&mut list, span);
        assert_eq!(summarize(&mut set, span).unwrap(), expected, "{span:?}");
        let limit = rng.below(700);
        let few: Vec<Stamp> = within(stamps, span).iter().take(limit).copied().collect();
        assert_eq!(set.stamps(span, limit).unwrap(), few);
    }
    for level in [0, 1, 2, 3, 5, 16] {
        let node = Node::of_heights(Height(top / 2), level);
        let expected = Summary::of_node(&node, within(stamps, &node.span()));
        assert_eq!(set.summary(&node).unwrap(), expected);
    }
    log.keep(&set.into_new()).unwrap()
}

/// What answering for everything computes.
fn compute(log: &DatabaseLog) -> NewSummaries {
    let snapshot = log.engine().snapshot().unwrap();
    let reader = log.reader(&*snapshot);
    let mut set = reader.stamp_set().unwrap();
    summarize(&mut set, &Span::ALL).unwrap();
    set.into_new()
}

fn write(writer: &mut LogWriter, engine: &dyn Engine, entries: &[Entry]) -> Batch {
    let mut batch = Batch::new();
    let mut stage = writer.stage();
    stage.add_pack(entries, None, &mut batch).unwrap();
    stage.finish(&mut batch).unwrap();
    engine.write(&batch, Durability::Relaxed).unwrap();
    batch
}

fn sorted(entries: &[Entry]) -> Vec<Stamp> {
    let mut stamps: Vec<Stamp> = entries.iter().map(Entry::stamp).collect();
    stamps.sort_unstable();
    stamps
}

#[test]
fn summaries_are_those_of_the_list_however_it_came_to_be() {
    let mut rng = Rng::new(11);
    for seed in 0..2 {
        let history = History::branching(4_000, seed);
        let Bench {
            engine,
            log,
            mut writer,
            ..
        } = Bench::new(&history.entries[0]);
        let mut from = 1;
        while from < history.entries.len() {
            let count = 1 + rng.below(900);
            let to = history.entries.len().min(from + count);
            match rng.one_in(3) {
                true => history.entries[from..to.min(from + 40)]
                    .iter()
                    .for_each(|entry| {
                        write(&mut writer, &*engine, std::slice::from_ref(entry));
                    }),
                false => drop(write(&mut writer, &*engine, &history.entries[from..to])),
            }
            from = writer.state().next_arrival as usize;
            assert!(compare(&log, &sorted(&history.entries[..from]), &mut rng));
        }
        assert!(kept(&*engine) > 0);
    }
}

#[test]
fn nothing_is_summarized_twice_for_one_answer() {
    let history = History::chain(9_000);
    let recording = Arc::new(RecordingEngine::new(Arc::new(MemoryEngine::new())));
    let mut bench = Bench::on(recording.clone(), &history.entries[0]).unwrap();
    write(&mut bench.writer, &*bench.engine, &history.entries[1..]);
    let snapshot = bench.engine.snapshot().unwrap();
    let reader = bench.log.reader(&*snapshot);
    let mut set = reader.stamp_set().unwrap();
    summarize(&mut set, &Span::ALL).unwrap();
    assert!(recording.take().reads() > 0);
    for number in 0..31 {
        set.summary(&Node::of_heights(Height(256 * number), 2))
            .unwrap();
    }
    set.summary(&Node::of_heights(Height(0), 3)).unwrap();
    assert_eq!(recording.take().reads(), 0);
}

#[test]
fn a_late_entry_drops_the_summaries_above_it_and_no_others() {
    let mut history = History::chain(9_000);
    let Bench {
        engine,
        log,
        mut writer,
        ..
    } = Bench::new(&history.entries[0]);
    write(&mut writer, &*engine, &history.entries[1..]);
    let mut rng = Rng::new(5);
    assert!(compare(&log, &sorted(&history.entries), &mut rng));
    // 31 blocks of 256 heights that are old, and one of 4096.
    assert_eq!(kept(&*engine), 32);

    let next = history.late_child(8_999);
    let usual = write(&mut writer, &*engine, std::slice::from_ref(&next)).len();
    assert_eq!(kept(&*engine), 32, "on top, nothing is dropped");

    let late = history.late_child(300);
    let batch = write(&mut writer, &*engine, std::slice::from_ref(&late));
    // What any entry writes, a row that says that something old has changed, and two that go.
    assert_eq!(batch.len(), usual + 1 + 2);
    assert_eq!(kept(&*engine), 30);
    assert!(compare(&log, &sorted(&history.entries), &mut rng));
    assert_eq!(kept(&*engine), 32);

    // On top, nothing more is written.
    let next = history.late_child(9_000);
    let batch = write(&mut writer, &*engine, std::slice::from_ref(&next));
    assert_eq!(batch.len(), usual);
    assert_eq!(kept(&*engine), 32);
    assert!(compare(&log, &sorted(&history.entries), &mut rng));
}

#[test]
fn what_was_computed_before_a_late_entry_is_not_kept_after_it() {
    let mut history = History::chain(4_000);
    let Bench {
        engine,
        log,
        mut writer,
        ..
    } = Bench::new(&history.entries[0]);
    write(&mut writer, &*engine, &history.entries[1..]);
    let computed = compute(&log);
    assert!(!computed.is_empty());
    let late = history.late_child(100);
    write(&mut writer, &*engine, std::slice::from_ref(&late));
    assert!(!log.keep(&computed).unwrap());
    assert_eq!(kept(&*engine), 0);
    // An entry on top does not matter.
    let computed = compute(&log);
    let next = history.late_child(3_999);
    write(&mut writer, &*engine, std::slice::from_ref(&next));
    assert!(log.keep(&computed).unwrap());
    assert!(compare(&log, &sorted(&history.entries), &mut Rng::new(1)));
}

#[test]
fn loose_entries_are_no_part_of_it() {
    let history = History::chain(4_000);
    let Bench {
        engine,
        log,
        mut writer,
        ..
    } = Bench::new(&history.entries[0]);
    write(&mut writer, &*engine, &history.entries[1..]);
    let all = sorted(&history.entries);
    let mut rng = Rng::new(2);
    assert!(compare(&log, &all, &mut rng));
    let before = kept(&*engine);
    for on in [true, false] {
        let (mut batch, mut stage) = (Batch::new(), writer.stage());
        stage.set_void(500, on);
        stage.set_loose(500, all[500].height, &key(0), on);
        stage.finish(&mut batch).unwrap();
        engine.write(&batch, Durability::Relaxed).unwrap();
        assert_eq!(kept(&*engine), before - 1);
        let passed: Vec<Stamp> = all
            .iter()
            .filter(|s| !on || **s != all[500])
            .copied()
            .collect();
        assert!(compare(&log, &passed, &mut rng));
        assert_eq!(kept(&*engine), before);
    }
}

#[test]
fn entries_are_found_by_how_their_ids_begin() {
    let history = History::branching(500, 9);
    let Bench {
        engine,
        log,
        mut writer,
        ..
    } = Bench::new(&history.entries[0]);
    write(&mut writer, &*engine, &history.entries[1..]);
    let snapshot = engine.snapshot().unwrap();
    let reader = log.reader(&*snapshot);
    for (arrival, entry) in (0..).zip(&history.entries) {
        let id = entry.id();
        assert_eq!(reader.with_prefix(&id.as_bytes()[..8]).unwrap(), [arrival]);
        assert_eq!(reader.with_prefix(id.as_bytes()).unwrap(), [arrival]);
    }
    assert!(reader.with_prefix(&[0; 8]).unwrap().is_empty());
    assert_eq!(reader.with_prefix(&[]).unwrap().len(), limits::SAME_PREFIX);
}
