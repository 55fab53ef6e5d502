//! The contract of the engine trait, clause by clause.

use std::ops::ControlFlow;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, mpsc};
use std::thread;
use std::time::Duration;

use eidetica_storage::{
    Batch, Blame, Direction, Durability, Engine, EngineError, KeyRange, Row, ScanLimit, Snapshot,
    Space, limits,
};

pub use crate::crash::{child as crash_child, kill_leaves_whole_batches};
pub use crate::files::{
    damage_is_an_error, files_are_private, foreign_places_are_left_alone, mode_child,
};
pub use crate::model::random_operations_match_the_model;

/// One place where an engine keeps its data.
pub trait EngineSite {
    /// Opens the engine on this place: the data of the last time if it is persistent, nothing if not.
    ///
    /// # Errors
    /// The engine's own.
    fn open(&self) -> Result<Arc<dyn Engine>, EngineError>;
}

/// A function that opens is a site.
impl<F: Fn() -> Result<Arc<dyn Engine>, EngineError>> EngineSite for F {
    fn open(&self) -> Result<Arc<dyn Engine>, EngineError> {
        self()
    }
}

/// Expands to one test per clause of the engine contract.
///
/// The argument is an expression that makes a fresh, empty [`EngineSite`].
///
/// ```
/// mod memory {
///     use std::sync::Arc;
///     use eidetica_storage::{Engine, EngineError, MemoryEngine};
///
///     fn open() -> Result<Arc<dyn Engine>, EngineError> {
///         Ok(Arc::new(MemoryEngine::new()))
///     }
///     eidetica_testkit::engine_contract!(open);
/// }
/// ```
#[macro_export]
macro_rules! engine_contract {
    ($site:expr) => {
        $crate::engine_contract! { @tests $site;
            rows_read_back_as_written
            spaces_are_separate
            keys_order_as_bytes
            pages_end_at_their_limits
            ranges_take_what_they_say
            the_last_step_on_a_row_wins
            ranges_are_deleted
            expectations_guard_the_whole_batch
            expectations_see_earlier_steps
            batches_are_bounded
            snapshots_do_not_change
            snapshots_are_consistent_over_spaces
            values_outlive_snapshot_and_engine
            one_of_many_writers_meets_an_expectation
            watchers_hear_of_writes
            closing_is_final
            acknowledged_rows_are_there_again
            a_place_has_one_engine
            large_rows_and_batches_work
            random_operations_match_the_model
        }
    };
    (@tests $site:expr; $($name:ident)*) => {
        $(
            #[test]
            fn $name() {
                $crate::contract::$name(&$site);
            }
        )*
    };
}

/// How long a hint may take where it comes over a network.
const PATIENCE: Duration = Duration::from_secs(30);

const DURABLE: Durability = Durability::Durable;

fn open(site: &impl EngineSite) -> Arc<dyn Engine> {
    site.open().expect("the engine opens")
}

fn put(engine: &dyn Engine, space: Space, rows: &[(&[u8], &[u8])]) {
    let mut batch = Batch::new();
    for (key, value) in rows {
        batch.put(space, key, value);
    }
    engine.write(&batch, DURABLE).expect("the write succeeds");
}

fn get(engine: &dyn Engine, space: Space, key: &[u8]) -> Option<Vec<u8>> {
    engine
        .snapshot()
        .unwrap()
        .get(space, key)
        .unwrap()
        .map(|value| value.to_vec())
}

/// All keys of a range, through pages of one row.
fn keys(
    snapshot: &dyn Snapshot,
    space: Space,
    range: &KeyRange,
    direction: Direction,
) -> Vec<Vec<u8>> {
    let mut keys = Vec::new();
    let mut rest = Some(range.clone());
    while let Some(range) = rest {
        let page = snapshot
            .scan(space, &range, direction, ScanLimit::rows(1))
            .unwrap();
        rest = page.rest(&range, direction);
        keys.extend(page.rows.into_iter().map(|row| row.key.to_vec()));
    }
    keys
}

fn all_keys(engine: &dyn Engine, space: Space) -> Vec<Vec<u8>> {
    keys(
        &*engine.snapshot().unwrap(),
        space,
        &KeyRange::all(),
        Direction::Forward,
    )
}

/// Values come back exactly, in the order asked for, with `None` for what is not there.
pub fn rows_read_back_as_written(site: &impl EngineSite) {
    let engine = open(site);
    put(
        &*engine,
        Space::State,
        &[
            (b"a", b"1"),
            (b"b", b""),
            (&[0], &[0, 255]),
            (b"c", &[7; 5000]),
        ],
    );
    let snapshot = engine.snapshot().unwrap();
    let values = snapshot
        .multi_get(Space::State, &[b"c", b"zz", b"b", b"a", b"a", b"", &[0]])
        .unwrap()
        .into_iter()
        .map(|value| value.map(|v| v.to_vec()))
        .collect::<Vec<_>>();
    let one = Some(b"1".to_vec());
    let expected = [
        Some(vec![7; 5000]),
        None,
        Some(vec![]),
        one.clone(),
        one,
        None,
        Some(vec![0, 255]),
    ];
    assert_eq!(values, expected);
    assert_eq!(snapshot.multi_get(Space::State, &[]).unwrap(), []);
    assert_eq!(snapshot.get(Space::State, b"").unwrap(), None);
}

/// The same key is another row in another space.
pub fn spaces_are_separate(site: &impl EngineSite) {
    let engine = open(site);
    let mut batch = Batch::new();
    for space in Space::ALL {
        batch.put(space, b"key", space.name().as_bytes());
    }
    batch.delete(Space::Versions, b"key");
    engine.write(&batch, DURABLE).unwrap();
    for space in Space::ALL {
        let expected = (space != Space::Versions).then(|| space.name().as_bytes().to_vec());
        assert_eq!(get(&*engine, space, b"key"), expected, "{space}");
        assert_eq!(
            all_keys(&*engine, space).len(),
            usize::from(space != Space::Versions),
            "{space}"
        );
    }
}

/// Scans walk in byte order, shorter keys first, in both directions.
pub fn keys_order_as_bytes(site: &impl EngineSite) {
    let engine = open(site);
    let sorted: [&[u8]; 9] = [
        &[0],
        &[0, 0],
        &[0, 255],
        &[1],
        &[127],
        &[128],
        &[128, 0],
        &[255],
        &[255, 255],
    ];
    let mut shuffled = sorted;
    shuffled.reverse();
    shuffled.swap(1, 6);
    for key in shuffled {
        put(&*engine, Space::Ids, &[(key, b"x")]);
    }
    let snapshot = engine.snapshot().unwrap();
    assert_eq!(
        keys(&*snapshot, Space::Ids, &KeyRange::all(), Direction::Forward),
        sorted
    );
    let mut down = keys(&*snapshot, Space::Ids, &KeyRange::all(), Direction::Reverse);
    down.reverse();
    assert_eq!(down, sorted);
}

/// A page holds at least one row and no more than its limits admit, and says whether to go on.
pub fn pages_end_at_their_limits(site: &impl EngineSite) {
    let engine = open(site);
    let mut batch = Batch::new();
    for key in 0..10_u8 {
        batch.put(Space::Log, &[key], &[key; 99]);
    }
    engine.write(&batch, DURABLE).unwrap();
    let snapshot = engine.snapshot().unwrap();
    let count = |direction, rows, bytes| {
        let page = snapshot
            .scan(
                Space::Log,
                &KeyRange::all(),
                direction,
                ScanLimit { rows, bytes },
            )
            .unwrap();
        (page.rows.len(), page.more)
    };
    for direction in [Direction::Forward, Direction::Reverse] {
        assert_eq!(count(direction, 4, 100_000), (4, true));
        assert_eq!(count(direction, 11, 100_000), (10, false));
        assert_eq!(count(direction, usize::MAX, usize::MAX), (10, false));
        assert_eq!(count(direction, 0, 0), (1, true));
        assert_eq!(count(direction, 100, 0), (1, true));
        assert_eq!(count(direction, 100, 100), (1, true));
        assert_eq!(count(direction, 100, 101), (2, true));
        assert_eq!(count(direction, 100, 300), (3, true));
    }
    let mut rows = 0;
    let flow = snapshot
        .for_each(
            Space::Log,
            &KeyRange::all(),
            Direction::Reverse,
            |row: Row| {
                rows += 1;
                Ok::<_, EngineError>(if row.key[0] == 4 {
                    ControlFlow::Break(())
                } else {
                    ControlFlow::Continue(())
                })
            },
        )
        .unwrap();
    assert_eq!((flow, rows), (ControlFlow::Break(()), 6));
}

/// Ranges include their start and exclude their end.
pub fn ranges_take_what_they_say(site: &impl EngineSite) {
    let engine = open(site);
    let rows: [&[u8]; 7] = [b"a", b"aa", b"ab", b"b", &[255], &[255, 0], &[255, 255]];
    for key in rows {
        put(&*engine, Space::State, &[(key, b"")]);
    }
    let snapshot = engine.snapshot().unwrap();
    let check = |range: KeyRange, expected: &[&[u8]]| {
        let mut found = keys(&*snapshot, Space::State, &range, Direction::Forward);
        assert_eq!(found, expected, "{range:?}");
        found.reverse();
        assert_eq!(
            keys(&*snapshot, Space::State, &range, Direction::Reverse),
            found,
            "{range:?}"
        );
    };
    check(KeyRange::new(b"a", b"b"), &rows[..3]);
    check(KeyRange::new(b"aa", b"ab"), &rows[1..2]);
    check(KeyRange::prefix(b"a"), &rows[..3]);
    check(KeyRange::prefix([255]), &rows[4..]);
    check(KeyRange::prefix([255, 255]), &rows[6..]);
    check(KeyRange::prefix(b""), &rows);
    check(KeyRange::starting_at(b"b"), &rows[3..]);
    check(KeyRange::all().after(b"ab").before(&[255]), &rows[3..4]);
    check(KeyRange::new(b"b", b"a"), &[]);
    check(KeyRange::new(b"a", b"a"), &[]);
    check(KeyRange::new(b"c", b"d"), &[]);
}

/// Steps of one batch act in turn.
pub fn the_last_step_on_a_row_wins(site: &impl EngineSite) {
    let engine = open(site);
    put(
        &*engine,
        Space::State,
        &[(b"stored", b"0"), (b"gone", b"0")],
    );
    let mut batch = Batch::new();
    batch.put(Space::State, b"twice", b"1");
    batch.put(Space::State, b"twice", b"2");
    batch.put(Space::State, b"dropped", b"1");
    batch.delete(Space::State, b"dropped");
    batch.delete(Space::State, b"stored");
    batch.put(Space::State, b"stored", b"3");
    batch.put(Space::State, b"gone", b"4");
    batch.delete(Space::State, b"gone");
    batch.delete(Space::State, b"never");
    engine.write(&batch, DURABLE).unwrap();
    assert_eq!(
        all_keys(&*engine, Space::State),
        [b"stored".to_vec(), b"twice".to_vec()]
    );
    assert_eq!(get(&*engine, Space::State, b"twice"), Some(b"2".to_vec()));
    assert_eq!(get(&*engine, Space::State, b"stored"), Some(b"3".to_vec()));
}

/// A range deletion takes what is stored and what was put before it, nothing else.
pub fn ranges_are_deleted(site: &impl EngineSite) {
    let engine = open(site);
    for key in [b"a", b"b", b"c", b"d", b"e"] {
        put(&*engine, Space::State, &[(key, b"0")]);
        put(&*engine, Space::Ids, &[(key, b"0")]);
    }
    let mut batch = Batch::new();
    batch.put(Space::State, b"bb", b"1");
    batch.put(Space::State, b"d", b"1");
    batch.delete_range(Space::State, &KeyRange::new(b"b", b"d"));
    batch.put(Space::State, b"c", b"2");
    batch.delete_range(Space::State, &KeyRange::new(b"e", b"a"));
    engine.write(&batch, DURABLE).unwrap();
    assert_eq!(all_keys(&*engine, Space::State), [b"a", b"c", b"d", b"e"]);
    assert_eq!(get(&*engine, Space::State, b"c"), Some(b"2".to_vec()));
    assert_eq!(get(&*engine, Space::State, b"d"), Some(b"1".to_vec()));
    assert_eq!(
        all_keys(&*engine, Space::Ids).len(),
        5,
        "another space is left alone"
    );

    let mut batch = Batch::new();
    batch.delete_range(Space::State, &KeyRange::starting_at(b"d"));
    batch.delete_range(Space::Ids, &KeyRange::all());
    engine.write(&batch, DURABLE).unwrap();
    assert_eq!(all_keys(&*engine, Space::State), [b"a", b"c"]);
    assert_eq!(all_keys(&*engine, Space::Ids), Vec::<Vec<u8>>::new());
}

/// One expectation that does not hold refuses every step, and the engine goes on.
pub fn expectations_guard_the_whole_batch(site: &impl EngineSite) {
    let engine = open(site);
    put(&*engine, Space::Meta, &[(b"version", b"1")]);
    let attempt = |key: &[u8], value: Option<&[u8]>| {
        let mut batch = Batch::new();
        batch.put(Space::State, b"row", b"x");
        batch.delete_range(Space::Meta, &KeyRange::starting_at(b"w"));
        batch.expect(Space::Meta, key, value);
        engine.write(&batch, DURABLE)
    };
    for (key, value) in [
        (b"version".as_slice(), Some(b"2".as_slice())),
        (b"version", Some(b"")),
        (b"version", None),
        (b"absent", Some(b"1")),
    ] {
        match attempt(key, value) {
            Err(error @ EngineError::PreconditionFailed { .. }) => {
                assert!(error.is_refusal());
                assert_eq!(error.blame(), Blame::Caller);
                let EngineError::PreconditionFailed { space, key: named } = error else {
                    return;
                };
                assert_eq!((space, &named[..]), (Space::Meta, key));
            }
            other => panic!("expected a refusal, not {other:?}"),
        }
        assert_eq!(get(&*engine, Space::State, b"row"), None);
    }
    attempt(b"version", Some(b"1")).unwrap();
    attempt(b"absent", None).unwrap();
    assert_eq!(get(&*engine, Space::State, b"row"), Some(b"x".to_vec()));
}

/// Batches that were staged one on the other can be appended and written as one.
pub fn expectations_see_earlier_steps(site: &impl EngineSite) {
    let engine = open(site);
    let step = |from: Option<&[u8]>, to: &[u8]| {
        let mut batch = Batch::new();
        batch.expect(Space::Meta, b"version", from);
        batch.put(Space::Meta, b"version", to);
        batch
    };
    let mut group = step(None, b"1");
    group.append(&step(Some(b"1"), b"2"));
    group.append(&step(Some(b"2"), b"3"));
    engine.write(&group, DURABLE).unwrap();
    assert_eq!(get(&*engine, Space::Meta, b"version"), Some(b"3".to_vec()));

    let mut stale = step(Some(b"3"), b"4");
    stale.append(&step(Some(b"3"), b"5"));
    let refused = engine.write(&stale, DURABLE);
    assert!(
        matches!(refused, Err(EngineError::PreconditionFailed { .. })),
        "{refused:?}"
    );
    assert_eq!(get(&*engine, Space::Meta, b"version"), Some(b"3".to_vec()));

    let mut cleared = Batch::new();
    cleared.delete_range(Space::Meta, &KeyRange::prefix(b"ver"));
    cleared.append(&step(None, b"6"));
    cleared.delete(Space::Meta, b"version");
    cleared.expect(Space::Meta, b"version", None);
    engine.write(&cleared, DURABLE).unwrap();
    assert_eq!(get(&*engine, Space::Meta, b"version"), None);
}

/// Keys up to the limit work; one byte more, or none at all, is refused.
pub fn batches_are_bounded(site: &impl EngineSite) {
    let engine = open(site);
    let longest = vec![b'k'; limits::KEY_BYTES];
    put(&*engine, Space::Ids, &[(&longest, b"v")]);
    assert_eq!(get(&*engine, Space::Ids, &longest), Some(b"v".to_vec()));
    let snapshot = engine.snapshot().unwrap();
    assert_eq!(
        keys(
            &*snapshot,
            Space::Ids,
            &KeyRange::all().after(&longest),
            Direction::Forward
        )
        .len(),
        0
    );

    let refusal = |batch: &Batch| engine.write(batch, DURABLE).expect_err("out of bounds");
    let mut batch = Batch::new();
    batch.put(Space::Ids, b"fine", b"");
    batch.put(Space::Ids, &vec![b'k'; limits::KEY_BYTES + 1], b"v");
    assert!(matches!(
        refusal(&batch),
        EngineError::TooLarge {
            what: "key bytes",
            ..
        }
    ));
    batch.clear();
    batch.put(Space::Ids, b"fine", b"");
    batch.put(Space::Ids, b"", b"v");
    assert!(matches!(refusal(&batch), EngineError::EmptyKey));
    batch.clear();
    batch.put(Space::Ids, b"fine", b"");
    batch.put(Space::Ids, b"value", &vec![0; limits::VALUE_BYTES + 1]);
    assert!(matches!(
        refusal(&batch),
        EngineError::TooLarge {
            what: "value bytes",
            ..
        }
    ));
    assert_eq!(get(&*engine, Space::Ids, b"fine"), None);

    batch.clear();
    batch.delete_range(Space::Ids, &KeyRange::all().after(&longest));
    engine.write(&batch, DURABLE).unwrap();
    assert_eq!(all_keys(&*engine, Space::Ids), [longest]);
}

/// A snapshot shows the same rows whatever is written later.
pub fn snapshots_do_not_change(site: &impl EngineSite) {
    let engine = open(site);
    put(
        &*engine,
        Space::State,
        &[(b"a", b"1"), (b"b", b"1"), (b"c", b"1")],
    );
    let before = engine.snapshot().unwrap();
    let mut batch = Batch::new();
    batch.put(Space::State, b"a", b"2");
    batch.delete(Space::State, b"b");
    batch.delete_range(Space::State, &KeyRange::starting_at(b"c"));
    batch.put(Space::State, b"d", b"2");
    engine.write(&batch, Durability::Relaxed).unwrap();
    let after = engine.snapshot().unwrap();
    for _ in 0..2 {
        assert_eq!(
            keys(&*before, Space::State, &KeyRange::all(), Direction::Forward),
            [b"a", b"b", b"c"]
        );
        assert_eq!(before.get(Space::State, b"a").unwrap().unwrap(), "1");
        assert_eq!(
            keys(&*after, Space::State, &KeyRange::all(), Direction::Reverse),
            [b"d", b"a"]
        );
        assert_eq!(after.get(Space::State, b"a").unwrap().unwrap(), "2");
        put(&*engine, Space::State, &[(b"e", b"3")]);
        engine.flush().unwrap();
    }
}

/// Readers beside a writer see whole batches, over all spaces, and never go back.
pub fn snapshots_are_consistent_over_spaces(site: &impl EngineSite) {
    const BATCHES: u32 = 200;
    let engine = open(site);
    let done = AtomicBool::new(false);
    thread::scope(|scope| {
        for _ in 0..2 {
            scope.spawn(|| {
                let mut last = None;
                while !done.load(Ordering::Acquire) {
                    let snapshot = engine.snapshot().unwrap();
                    let seen = Space::ALL.map(|space| snapshot.get(space, b"n").unwrap());
                    assert!(
                        seen.iter().all(|value| *value == seen[0]),
                        "a torn batch: {seen:?}"
                    );
                    let [now, ..] = seen;
                    assert!(now >= last, "a batch vanished");
                    last = now;
                }
            });
        }
        for n in 0..BATCHES {
            let mut batch = Batch::new();
            for space in Space::ALL {
                batch.put(space, b"n", &n.to_be_bytes());
            }
            engine
                .write(
                    &batch,
                    if n % 16 == 0 {
                        DURABLE
                    } else {
                        Durability::Relaxed
                    },
                )
                .unwrap();
            assert_eq!(
                get(&*engine, Space::Local, b"n"),
                Some(n.to_be_bytes().to_vec())
            );
        }
        done.store(true, Ordering::Release);
    });
}

/// What was read stays valid without the snapshot and without the engine.
pub fn values_outlive_snapshot_and_engine(site: &impl EngineSite) {
    let engine = open(site);
    let long = vec![42; 20_000];
    put(&*engine, Space::Log, &[(b"long", &long), (b"short", b"s")]);
    let snapshot = engine.snapshot().unwrap();
    let value = snapshot.get(Space::Log, b"long").unwrap().unwrap();
    let page = snapshot
        .scan(
            Space::Log,
            &KeyRange::all(),
            Direction::Forward,
            ScanLimit::default(),
        )
        .unwrap();
    drop(snapshot);
    engine.close().unwrap();
    drop(engine);
    assert_eq!(value, long);
    assert_eq!(page.rows[1].key, "short");
    assert_eq!(page.rows[0].value, long);
}

/// Of writers that expect the same row, one succeeds and the others are refused.
pub fn one_of_many_writers_meets_an_expectation(site: &impl EngineSite) {
    const WRITERS: u32 = 4;
    const EACH: u32 = 25;
    let engine = open(site);
    thread::scope(|scope| {
        for _ in 0..WRITERS {
            scope.spawn(|| {
                for _ in 0..EACH {
                    while !increment(&*engine) {}
                }
            });
        }
    });
    let total = get(&*engine, Space::Meta, b"counter").unwrap();
    assert_eq!(total, (WRITERS * EACH).to_be_bytes());
}

/// Reads, adds one and writes under the expectation that nobody else did.
fn increment(engine: &dyn Engine) -> bool {
    let stored = get(engine, Space::Meta, b"counter");
    let count = stored
        .as_deref()
        .map_or(0, |bytes| u32::from_be_bytes(bytes.try_into().unwrap()));
    let mut batch = Batch::new();
    batch.expect(Space::Meta, b"counter", stored.as_deref());
    batch.put(Space::Meta, b"counter", &(count + 1).to_be_bytes());
    match engine.write(&batch, Durability::Relaxed) {
        Ok(()) => true,
        Err(EngineError::PreconditionFailed { .. }) => false,
        Err(error) => panic!("{error}"),
    }
}

/// A hint comes after a write, may use the engine, and ends with its guard.
pub fn watchers_hear_of_writes(site: &impl EngineSite) {
    let engine = open(site);
    let (heard, hints) = mpsc::channel();
    let weak = Arc::downgrade(&engine);
    let hint = move || {
        let engine = weak.upgrade().expect("the engine lives");
        heard
            .send(get(&*engine, Space::Local, b"a"))
            .expect("the test listens");
    };
    let watch = engine.watch(Arc::new(hint));
    put(&*engine, Space::Local, &[(b"a", b"1")]);
    let seen = hints.recv_timeout(PATIENCE).expect("a hint comes");
    assert_eq!(
        seen,
        Some(b"1".to_vec()),
        "the write is visible when the hint comes"
    );
    drop(watch);
    put(&*engine, Space::Local, &[(b"a", b"2")]);
    engine.flush().unwrap();
    assert!(
        hints.iter().all(|seen| seen == Some(b"1".to_vec())),
        "no hint after the guard is gone"
    );
}

/// After close every call but `close` and `info` says so.
pub fn closing_is_final(site: &impl EngineSite) {
    let engine = open(site);
    put(&*engine, Space::Meta, &[(b"a", b"1")]);
    let info = engine.info();
    engine.close().unwrap();
    engine.close().unwrap();
    let mut batch = Batch::new();
    batch.put(Space::Meta, b"a", b"2");
    assert!(matches!(
        engine.snapshot().map(drop),
        Err(EngineError::Closed)
    ));
    assert!(matches!(
        engine.write(&batch, DURABLE),
        Err(EngineError::Closed)
    ));
    assert!(matches!(engine.flush(), Err(EngineError::Closed)));
    assert_eq!(engine.info().name, info.name);
    let again = open(site);
    assert_eq!(get(&*again, Space::Meta, b"a").is_some(), info.persistent);
}

/// What a durable write or a flush acknowledged is there after opening again, closed properly or not.
pub fn acknowledged_rows_are_there_again(site: &impl EngineSite) {
    let persistent = open(site).info().persistent;
    for round in 0..4_u8 {
        let engine = open(site);
        let expected: Vec<_> = (0..round * 2).map(|key| vec![key]).collect();
        assert_eq!(
            all_keys(&*engine, Space::Log),
            if persistent { expected } else { vec![] }
        );
        let mut batch = Batch::new();
        batch.put(Space::Log, &[round * 2], b"relaxed");
        engine.write(&batch, Durability::Relaxed).unwrap();
        batch.clear();
        batch.put(Space::Log, &[round * 2 + 1], b"second");
        if round % 2 == 0 {
            engine.write(&batch, DURABLE).unwrap();
        } else {
            engine.write(&batch, Durability::Relaxed).unwrap();
            engine.flush().unwrap();
        }
        if round > 1 {
            engine.close().unwrap();
        }
    }
}

/// A persistent place that is not shared cannot be opened twice at once.
pub fn a_place_has_one_engine(site: &impl EngineSite) {
    let first = open(site);
    let info = first.info();
    if !info.persistent || info.shared {
        put(&*first, Space::Meta, &[(b"a", b"1")]);
        let seen = get(&*open(site), Space::Meta, b"a");
        assert_eq!(seen.is_some(), info.shared);
        return;
    }
    match site.open().map(drop) {
        Err(error @ EngineError::Locked { .. }) => assert_eq!(error.blame(), Blame::Unavailable),
        other => panic!("expected Locked, not {other:?}"),
    }
    put(&*first, Space::Meta, &[(b"a", b"1")]);
    first.close().unwrap();
    assert_eq!(
        get(&*open(site), Space::Meta, b"a"),
        Some(b"1".to_vec()),
        "close releases the lock"
    );
}

/// Rows of a few MiB and batches of many rows are nothing special.
pub fn large_rows_and_batches_work(site: &impl EngineSite) {
    const ROWS: u32 = 20_000;
    let engine = open(site);
    let large = crate::Rng::new(1).bytes(6 << 20);
    let mut batch = Batch::new();
    batch.put(Space::Log, b"large", &large);
    for n in 0..ROWS {
        // Spread over the key space, as hashes are.
        let key = n.wrapping_mul(0x9E37_79B1).to_be_bytes();
        batch.put_parts(Space::Ids, &[&key, b"/id"], &[&n.to_be_bytes()]);
    }
    engine.write(&batch, DURABLE).unwrap();
    let snapshot = engine.snapshot().unwrap();
    assert_eq!(snapshot.get(Space::Log, b"large").unwrap().unwrap(), large);
    let mut rows = 0;
    let mut last = Vec::new();
    let walked: Result<ControlFlow<()>, EngineError> =
        snapshot.for_each(Space::Ids, &KeyRange::all(), Direction::Forward, |row| {
            assert!(row.key > last, "keys ascend");
            last = row.key.to_vec();
            rows += 1;
            Ok(ControlFlow::Continue(()))
        });
    assert!(walked.unwrap().is_continue());
    assert_eq!(rows, ROWS);
}
