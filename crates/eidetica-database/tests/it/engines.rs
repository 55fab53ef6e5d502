//! The same operations give the same on every engine.

use eidetica_auth::Permission;
use eidetica_database::{Databases, IngestReport};
use eidetica_entry::{Entry, Height, Id, Stamp, pack};
use eidetica_storage::{Row, Space};
use eidetica_testkit::{EngineKind, Rng};

use crate::exchange::{forge, resign};
use crate::in_memory::damage::rows;
use crate::laws::change;
use crate::world::{all_packs, database, engine_of, ingest, ingest_entries, instance_on, key};

/// What became of the entries of one ingest.
#[derive(Debug, PartialEq)]
struct Verdicts {
    new: u64,
    known: u64,
    pending: u64,
    rejected: Vec<String>,
    tips: Vec<Stamp>,
}

impl From<IngestReport> for Verdicts {
    fn from(report: IngestReport) -> Self {
        let mut rejected: Vec<_> = report
            .rejected
            .iter()
            .map(|(id, reason)| format!("{id}: {reason:?}"))
            .collect();
        rejected.sort();
        Self {
            new: report.new,
            known: report.known,
            pending: report.pending,
            rejected,
            tips: report.tips,
        }
    }
}

/// What is shown of a replica.
#[derive(Debug, PartialEq)]
struct Shown {
    tips: Vec<Stamp>,
    entries: u64,
    stores: String,
    state: String,
}

fn shown(databases: &Databases, id: &Id) -> Shown {
    let db = databases.get(id).unwrap();
    let verified = db.verify().unwrap();
    assert!(verified.is_sound(), "{:?}", verified.faults);
    Shown {
        tips: db.tips().unwrap(),
        entries: db.entry_count().unwrap(),
        stores: format!("{:?}", db.stores().unwrap()),
        state: db.state_hash().unwrap().to_string(),
    }
}

/// Commits, forks and settings of an author.
fn write(author: &Databases, rng: &mut Rng) -> Id {
    let db = database(author);
    for round in 0..60 {
        change(&db, rng);
        if round % 20 == 10 {
            let other = key(2 + round / 20).public();
            db.transact(|tx| tx.settings().grant(other, Permission::Write(1), "other"))
                .unwrap();
        }
    }
    db.id()
}

/// The same entries in small packs and any order, and some that nobody may write.
fn shuffle(author: &Databases, id: Id, replica: &Databases, rng: &mut Rng) -> Vec<Verdicts> {
    let mut entries: Vec<Entry> = all_packs(author, &id)
        .iter()
        .flat_map(|packed| pack::decode(packed, &pack::Limits::default()).unwrap())
        .collect();
    let root = entries.remove(0);
    for at in 0..5 {
        let honest = &entries[at * 7];
        let mut header = honest.header().clone();
        header.height = Height(header.height.0 + 1);
        let (stranger, misplaced) = (forge(honest, 9), resign(header, honest, 1));
        entries.extend([stranger, misplaced]);
    }
    let mut verdicts = vec![ingest_entries(replica, id, &[root]).into()];
    while !entries.is_empty() {
        let many = 1 + rng.below(entries.len().min(9));
        let mut some: Vec<Entry> = (0..many)
            .map(|_| entries.swap_remove(rng.below(entries.len())))
            .collect();
        some.sort_by_key(Entry::stamp);
        verdicts.push(ingest_entries(replica, id, &some).into());
    }
    verdicts
}

/// What an engine makes of the operations: the author's rows, and what three replicas say and show.
type Outcome = (Vec<Vec<Row>>, Vec<Verdicts>, [Shown; 3]);

fn run(kind: EngineKind, seed: u64) -> Outcome {
    let mut rng = Rng::new(seed);
    let [author, shuffled, whole] = [1, 2, 3].map(|number| instance_on(engine_of(kind), number));
    let id = write(&author, &mut rng);
    let mut verdicts = shuffle(&author, id, &shuffled, &mut rng);
    verdicts.push(ingest(&whole, id, &all_packs(&author, &id)).into());
    let rows = Space::ALL.map(|space| rows(&**author.engine(), space));
    let shown = [&author, &shuffled, &whole].map(|replica| shown(replica, &id));
    assert_eq!(shown[0], shown[1]);
    assert_eq!(shown[0], shown[2]);
    (rows.into(), verdicts, shown)
}

#[test]
fn every_engine_gives_the_same() {
    let memory = run(EngineKind::Memory, 1);
    let rejected = memory.1.iter().map(|verdicts| verdicts.rejected.len());
    assert!(rejected.sum::<usize>() >= 10);
    for kind in EngineKind::here() {
        let other = run(kind, 1);
        assert_eq!(other.1, memory.1, "{kind:?}");
        assert_eq!(other.2, memory.2, "{kind:?}");
        assert!(other.0 == memory.0, "rows: {kind:?}");
    }
}
