//! Reading by id, height and difference.

use std::collections::BTreeSet;
use std::sync::Arc;

use eidetica_entry::dag::{Budget, Dag};
use eidetica_entry::pack::{self, Limits};
use eidetica_entry::{Entry, Height, Id, Stamp};
use eidetica_storage::log::{CacheSize, EntryLog, LogError, LogReader};
use eidetica_storage::{MemoryEngine, Space, limits};
use eidetica_testkit::{RecordingEngine, Rng};
use proptest::prelude::*;

use super::support::*;

pub(super) fn unlimited() -> Budget {
    Budget::unlimited()
}

/// A log with sealed packs of several sizes and an open block.
fn mixed(history: &History) -> Bench {
    let mut bench = Bench::new(&history.entries[0]);
    fill(&mut bench, history);
    bench
}

fn fill(bench: &mut Bench, history: &History) {
    let len = history.entries.len();
    let cut = |share: usize| 1 + (len - 1) * share / 10;
    bench.add_pack(&history.entries[1..cut(4)], None).unwrap();
    history.entries[cut(4)..cut(5)]
        .iter()
        .for_each(|entry| bench.add(entry).unwrap());
    bench
        .add_pack(&history.entries[cut(5)..cut(9)], None)
        .unwrap();
    history.entries[cut(9)..]
        .iter()
        .for_each(|entry| bench.add(entry).unwrap());
}

/// All packs of a difference, in pages.
fn collect(reader: &LogReader<'_>, from: &[Id], not: &[Id], budget: usize) -> Vec<Entry> {
    let difference = reader.difference(from, not, &mut unlimited()).unwrap();
    let mut entries = Vec::new();
    let mut next = Some(0);
    while let Some(at) = next {
        let page = reader.packs(&difference, at, budget).unwrap();
        assert!(!page.packs.is_empty() || difference.is_empty());
        for packed in &page.packs {
            entries.extend(pack::decode(packed, &Limits::default()).unwrap());
        }
        next = page.next;
    }
    assert_eq!(difference.entries(), entries.len() as u64);
    entries
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    #[test]
    fn differences_are_exact_and_in_order(
        seed in 0..20_u64,
        from in proptest::collection::vec(any::<prop::sample::Index>(), 1..4),
        not in proptest::collection::vec(any::<prop::sample::Index>(), 0..4),
        budget in prop_oneof![Just(1_usize), 100..100_000_usize],
    ) {
        let history = History::branching(1_400, seed);
        let bench = mixed(&history);
        let pick = |picks: &[prop::sample::Index]| -> Vec<Id> {
            picks.iter().map(|pick| history.entries[pick.index(1_400)].id()).collect()
        };
        let (from, not) = (pick(&from), pick(&not));
        let entries = bench.read(|reader| collect(reader, &from, &not, budget));
        let found: BTreeSet<Id> = entries.iter().map(Entry::id).collect();
        prop_assert_eq!(found.len(), entries.len());
        prop_assert_eq!(&found, &history.difference(&from, &not));
        let mut seen = BTreeSet::new();
        for entry in &entries {
            prop_assert!(entry.header().parents.iter().all(|p| seen.contains(p) || !found.contains(p)));
            seen.insert(entry.id());
        }
    }

    #[test]
    fn heights_are_exact_and_continue(seed in 0..20_u64, low in 0..700_u64, span in 0..900_u64, limit in 1..400_usize) {
        let history = History::branching(1_400, seed);
        let bench = mixed(&history);
        let heights = Height(low)..=Height(low + span);
        let mut expected: Vec<Stamp> = history.entries.iter().map(Entry::stamp).collect();
        expected.retain(|stamp| heights.contains(&stamp.height));
        expected.sort_unstable_by(|a, b| b.cmp(a));
        bench.read(|reader| {
            let mut found: Vec<Stamp> = Vec::new();
            loop {
                let page = reader.by_height(heights.clone(), found.last().copied(), limit).unwrap();
                assert!(page.len() <= limit);
                if page.is_empty() {
                    break;
                }
                found.extend(page.iter().map(|(stamp, _)| *stamp));
            }
            assert_eq!(found, expected);
            assert!(reader.by_height(heights, None, 0).unwrap().is_empty());
        });
    }
}

/// The root of a history, and what reads count on.
fn recording(history: &History) -> (Arc<RecordingEngine>, Bench) {
    let engine = Arc::new(RecordingEngine::new(Arc::new(MemoryEngine::new())));
    let bench = Bench::on(engine.clone(), &history.entries[0]).unwrap();
    (engine, bench)
}

#[test]
fn everything_is_streamed_without_decoding() {
    let history = History::chain(3_000);
    let (engine, mut bench) = recording(&history);
    bench.add_pack(&history.entries[1..], None).unwrap();
    let _ = engine.take();
    let tips = [history.entries[2_999].id()];
    let found = bench.read(|reader| collect(reader, &tips, &[], usize::MAX));
    assert_eq!(found, history.entries);
    let tally = engine.take();
    assert_eq!(tally.space(Space::Ids).gets, 0, "no entry is looked up");
    assert_eq!(
        tally.space(Space::Log).scanned_rows,
        3_000_u64.div_ceil(512) + 1
    );
}

#[test]
fn a_small_difference_reads_little_of_a_long_history() {
    let history = History::chain(4_000);
    let (engine, mut bench) = recording(&history);
    bench.add_pack(&history.entries[1..3_990], None).unwrap();
    history.entries[3_990..]
        .iter()
        .for_each(|entry| bench.add(entry).unwrap());
    let _ = engine.take();
    let (tip, known) = (history.entries[3_999].id(), history.entries[3_980].id());
    let found = bench.read(|reader| collect(reader, &[tip], &[known], usize::MAX));
    assert_eq!(found, history.entries[3_981..]);
    let tally = engine.take();
    assert!(tally.space(Space::Log).scanned_rows < 40, "{tally:?}");
    assert!(tally.space(Space::Ids).gets < 60, "{tally:?}");
}

#[test]
fn any_number_of_ids_is_looked_up_in_calls_of_a_bounded_size() {
    let history = History::chain(40);
    let (engine, mut bench) = recording(&history);
    bench.add_pack(&history.entries[1..], None).unwrap();
    let ids: Vec<Id> = history.entries.iter().map(Entry::id).collect();
    let ids: Vec<Id> = ids
        .into_iter()
        .cycle()
        .take(2 * limits::LOOKUPS + 1)
        .collect();
    let _ = engine.take();
    let located = bench.read(|reader| reader.locate(&ids).unwrap());
    let tally = engine.take();
    assert_eq!(tally.space(Space::Ids).get_calls, 3);
    assert_eq!(tally.space(Space::Ids).gets, ids.len() as u64);
    let arrivals = located.iter().map(|located| located.unwrap().arrival);
    assert!(arrivals.eq((0..40).cycle().take(ids.len())));
}

/// A page that ended inside the open block goes on after that was sealed.
#[test]
fn paging_survives_sealing() {
    let history = History::chain(600);
    let mut bench = Bench::new(&history.entries[0]);
    history.entries[1..200]
        .iter()
        .for_each(|entry| bench.add(entry).unwrap());
    let tips = [history.entries[199].id()];
    let difference = bench.read(|reader| reader.difference(&tips, &[], &mut unlimited()).unwrap());
    let first = bench.read(|reader| reader.packs(&difference, 0, 20_000).unwrap());
    let next = first.next.unwrap();
    assert!(next < 199);
    history.entries[200..]
        .iter()
        .for_each(|entry| bench.add(entry).unwrap());
    assert!(bench.writer.state().open_from > 200);
    let rest = bench.read(|reader| reader.packs(&difference, next, usize::MAX).unwrap());
    assert_eq!(rest.next, None);
    let packs = first.packs.iter().chain(&rest.packs);
    let found: Vec<Entry> = packs
        .flat_map(|packed| pack::decode(packed, &Limits::default()).unwrap())
        .collect();
    assert_eq!(found, history.entries[..200]);
}

#[test]
fn ids_that_are_not_here_take_nothing_away() {
    let history = History::branching(300, 8);
    let bench = mixed(&history);
    let tips: Vec<Id> = history.tips(300).iter().map(|tip| tip.id).collect();
    let stranger = root(77).id();
    bench.read(|reader| {
        assert_eq!(collect(reader, &tips, &[stranger], usize::MAX).len(), 300);
        let missing = reader.difference(&[stranger], &[], &mut unlimited());
        assert!(matches!(missing, Err(LogError::Missing(id)) if id == stranger));
        let broke = reader.difference(&tips, &tips[..1], &mut Budget::new(0));
        assert!(tips.len() == 1 || matches!(broke, Err(LogError::Budget)));
        assert_eq!(reader.get(&stranger).unwrap(), None);
        assert_eq!(
            reader.contains_many(&[stranger, tips[0]]).unwrap(),
            [false, true]
        );
        assert_eq!(reader.node(&stranger).unwrap(), None);
    });
}

#[test]
fn nodes_and_settings_are_the_headers() {
    let history = History::branching(700, 9);
    let bench = mixed(&history);
    bench.read(|reader| {
        let settings = reader.settings_dag();
        for entry in history.entries.iter().step_by(13) {
            let node = reader.node(&entry.id()).unwrap().unwrap();
            assert_eq!(
                (node.height, &node.parents),
                (entry.header().height, &entry.header().parents)
            );
            let node = settings.node(&entry.id()).unwrap().unwrap();
            assert_eq!(node.parents, entry.header().settings);
        }
    });
}

/// Reading at random with a cache that holds next to nothing gives the same answers as with none needed.
#[test]
fn the_cache_changes_cost_and_nothing_else() {
    let history = History::branching(3_000, 2);
    let bench = mixed(&history);
    for size in [0, 1, 300_000, 1 << 30] {
        let entries = EntryLog::open(Arc::clone(&bench.engine), CacheSize(size)).unwrap();
        let log = entries.database(&history.database()).unwrap().unwrap();
        let snapshot = bench.engine.snapshot().unwrap();
        let mut rng = Rng::new(size);
        for _ in 0..60 {
            let entry = &history.entries[rng.below(3_000)];
            assert_eq!(
                log.reader(&*snapshot).get(&entry.id()).unwrap().as_ref(),
                Some(entry)
            );
        }
    }
}

#[test]
fn a_cached_entry_is_read_without_its_row() {
    let history = History::chain(500);
    let (engine, mut bench) = recording(&history);
    bench.add_pack(&history.entries[1..], None).unwrap();
    let read = |n: usize| {
        let _ = engine.take();
        assert_eq!(
            bench.read(|reader| reader.get(&history.entries[n].id()).unwrap().unwrap()),
            history.entries[n]
        );
        engine.take()
    };
    assert_eq!(read(400).space(Space::Log).scans, 1);
    let tally = read(17);
    assert_eq!(
        (tally.space(Space::Log).scans, tally.space(Space::Ids).gets),
        (0, 1)
    );
}

#[test]
fn a_page_of_entries_is_bounded_in_bytes() {
    let mut bench = Bench::new(&root(1));
    for n in 0..6 {
        let (id, parents) = (bench.log.id(), bench.writer.tips().to_vec());
        let payloads = [("big".parse().unwrap(), vec![n; 3 << 20].into())].into();
        let entry = eidetica_entry::Draft::child(id, &parents, id, payloads, key(1), None).unwrap();
        bench.add(&entry.sign(signature(1))).unwrap();
    }
    let page = bench.read(|reader| reader.entries_from(0, 100).unwrap());
    let bytes: usize = page.iter().map(Entry::encoded_len).sum();
    assert!(
        (limits::READ_BYTES..limits::READ_BYTES + (4 << 20)).contains(&bytes),
        "{bytes}"
    );
    assert!(
        bench
            .read(|reader| reader.entries_from(7, 100).unwrap())
            .is_empty()
    );
}
