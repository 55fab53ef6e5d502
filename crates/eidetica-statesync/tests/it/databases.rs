//! Whole databases, from one to the other, by way of the engine.

use std::ops::Range;
use std::sync::Arc;

use eidetica_authdb::{Any, Immutable, Kind, MemoryDisk, Operation, Operations, Options, Replica};
use eidetica_mmr::{Consistency, Leaves, Location};
use eidetica_statesync::{
    Claim, Config, DatabaseName, Engine, Input, Local, Output, Pin, Refusal, Restart, Serve, Shown,
    SourceId, Target, respond,
};

use crate::support::Dice;

fn options() -> Options {
    Options {
        tail_operations: 40,
        tail_bytes: 4_000,
        cache_bytes: 1 << 20,
        ..Options::new([9; 32])
    }
}

fn refusal(error: &eidetica_authdb::Error) -> Refusal {
    match error {
        eidetica_authdb::Error::OutOfBounds { leaves, .. } => Refusal::NotYet { leaves: *leaves },
        eidetica_authdb::Error::Pruned { boundary, .. } => Refusal::Pruned {
            boundary: *boundary,
        },
        _ => Refusal::Unavailable,
    }
}

macro_rules! serve {
    ($type:ty, $lower:ident) => {
        impl Serve for Served<$type> {
            fn claim(&self) -> Result<Option<Claim>, Refusal> {
                let target = Target::new(self.0.root(), self.0.$lower(), self.0.committed());
                Ok(target.ok().map(Claim::unsigned))
            }

            fn operations(
                &self,
                size: Leaves,
                range: Range<Location>,
                most_bytes: usize,
            ) -> Result<Shown, Refusal> {
                let shown = self.0.historical_proof(size, range, most_bytes);
                let shown = shown.map_err(|error| refusal(&error))?;
                Ok(Shown {
                    proof: shown.proof,
                    count: shown.operations.len(),
                    operations: shown.operations.into_bytes(),
                })
            }

            fn consistency(&self, old: Leaves, new: Leaves) -> Result<Consistency, Refusal> {
                self.0
                    .consistency(old, new)
                    .map_err(|error| refusal(&error))
            }
        }
    };
}

struct Served<D>(D);

serve!(Any, floor);
serve!(Immutable, boundary);

/// A client: its disk and its pin.
struct Client {
    disk: MemoryDisk,
    kind: Kind,
    pin: Option<Pin>,
    restarts: Vec<Restart>,
    fetched: u64,
}

impl Client {
    fn new(kind: Kind) -> Self {
        Self {
            disk: MemoryDisk::new(),
            kind,
            pin: None,
            restarts: Vec::new(),
            fetched: 0,
        }
    }

    fn open(&self) -> (Replica, Engine) {
        let disk = Arc::new(self.disk.clone());
        let replica = Replica::open(disk, self.kind, options()).unwrap();
        let local = Local {
            boundary: replica.boundary(),
            frontier: replica.frontier().clone(),
        };
        let config = Config {
            batch: 25,
            ..Config::new(DatabaseName::new("any").unwrap(), Operation::length)
        };
        let engine = Engine::new(config, local, self.pin.clone()).unwrap();
        (replica, engine)
    }

    /// Brings it to the present target of a server. It dies after each `crash` steps.
    fn sync(&mut self, served: &impl Serve, crash: u64) -> Replica {
        let (mut replica, mut engine) = self.open();
        engine.handle_input(Input::Connected(SourceId(0)), 0);
        let (mut now_ms, mut steps) = (0, 0);
        loop {
            steps += 1;
            assert!(steps < 20_000);
            if steps % crash == 0 {
                self.fetched += engine.counters().verified_operations;
                drop(replica);
                (replica, engine) = self.open();
                engine.handle_input(Input::Connected(SourceId(0)), now_ms);
            }
            match engine.poll_output(now_ms) {
                Output::Request {
                    source, message, ..
                } => {
                    let name = DatabaseName::new("any").unwrap();
                    let message = respond(&name, served, &message).message;
                    engine.handle_input(Input::Reply { source, message }, now_ms);
                }
                Output::Restart { boundary, why } => {
                    self.restarts.push(why);
                    replica.reset(boundary).unwrap();
                    engine.handle_input(Input::Applied(replica.frontier().clone()), now_ms);
                }
                Output::Append { start, operations } => {
                    let count = operations.count;
                    let operations = Operations::parse(operations.bytes, start, count).unwrap();
                    replica.apply(start, operations).unwrap();
                    replica.sync().unwrap();
                    engine.handle_input(Input::Applied(replica.frontier().clone()), now_ms);
                }
                Output::Complete(target) => {
                    let (root, leaves, lower) = (target.root(), target.leaves(), target.lower());
                    replica.finish(root, leaves, lower).unwrap();
                }
                Output::Persist(pin) => {
                    self.pin = Some(pin);
                    if engine.progress().complete {
                        self.fetched += engine.counters().verified_operations;
                        return replica;
                    }
                }
                Output::Timeout(at) => {
                    now_ms = at;
                    engine.handle_input(Input::Tick, now_ms);
                    if engine.progress().complete {
                        self.fetched += engine.counters().verified_operations;
                        return replica;
                    }
                }
                Output::Feedback { feedback, .. } => panic!("{feedback:?}"),
                Output::Alarm(evidence) => panic!("{evidence}"),
                _ => {}
            }
        }
    }
}

fn change(database: &mut Any, dice: &mut Dice, rounds: u64) {
    for _ in 0..rounds {
        for _ in 0..dice.roll(12) {
            let key = dice.roll(30).to_le_bytes();
            match dice.roll(4) {
                0 => database.delete(&key).unwrap(),
                _ => database
                    .update(&key, &dice.roll(1 << 30).to_le_bytes())
                    .unwrap(),
            }
        }
        database.commit(Some(b"round")).unwrap();
    }
}

#[test]
fn an_any_database_follows_another_one() {
    for (seed, crash) in [(1, u64::MAX), (2, 40), (3, 15), (4, u64::MAX)] {
        let disk = Arc::new(MemoryDisk::new());
        let mut served = Served(Any::open(disk, options()).unwrap());
        let mut dice = Dice(seed);
        let mut client = Client::new(Kind::Any);
        for round in 0..8 {
            change(&mut served.0, &mut dice, 1 + round * 8);
            let floor = served.0.floor();
            if seed == 4 {
                // As much as can be shown to be continued.
                let shown = client.pin.as_ref().map_or(0, |pin| pin.target.leaves().0);
                served.0.prune(Location(floor.0.min(shown))).unwrap();
            }
            let replica = client.sync(&served, crash);
            let copy = replica.into_any().unwrap();
            assert_eq!((copy.root(), copy.floor()), (served.0.root(), floor));
            for key in (0..30u64).map(u64::to_le_bytes) {
                assert_eq!(copy.get(&key).unwrap(), served.0.get(&key).unwrap());
            }
        }
        assert!(!client.restarts.contains(&Restart::WrongPrefix));
    }
}

#[test]
fn an_immutable_database_follows_another_one() {
    for crash in [u64::MAX, 20] {
        let disk = Arc::new(MemoryDisk::new());
        let mut served = Served(Immutable::open(disk, options()).unwrap());
        let mut client = Client::new(Kind::Immutable);
        for round in 0..6u64 {
            for key in 0..50 {
                let key = round * 50 + key;
                served.0.set(&key.to_le_bytes(), &[key as u8; 20]).unwrap();
            }
            served.0.commit(None).unwrap();
            if round == 3 {
                served.0.prune(Location(60)).unwrap();
            }
            let copy = client.sync(&served, crash).into_immutable().unwrap();
            assert_eq!(copy.root(), served.0.root());
            let key = (round * 50).to_le_bytes();
            assert_eq!(copy.get(&key).unwrap(), served.0.get(&key).unwrap());
        }
        // Nothing was thrown away, and without crashes nothing is fetched twice.
        assert_eq!(client.restarts, []);
        if crash == u64::MAX {
            assert_eq!(client.fetched, served.0.leaves().0);
        }
    }
}

#[test]
fn a_new_client_begins_behind_what_is_pruned() {
    let disk = Arc::new(MemoryDisk::new());
    let mut served = Served(Any::open(disk, options()).unwrap());
    change(&mut served.0, &mut Dice(5), 80);
    served.0.prune(served.0.floor()).unwrap();
    assert!(served.0.boundary().0 > 0);
    let mut client = Client::new(Kind::Any);
    let copy = client.sync(&served, u64::MAX).into_any().unwrap();
    assert_eq!(client.restarts, [Restart::Fresh]);
    assert_eq!(
        (copy.root(), copy.boundary()),
        (served.0.root(), served.0.floor())
    );
    assert_eq!(client.fetched, served.0.leaves().0 - served.0.floor().0);
}

#[test]
fn a_database_of_something_else_is_set_aside() {
    let disk = Arc::new(MemoryDisk::new());
    let mut served = Served(Any::open(disk, options()).unwrap());
    change(&mut served.0, &mut Dice(6), 30);
    let mut client = Client::new(Kind::Any);
    let mut other = Any::open(Arc::new(client.disk.clone()), options()).unwrap();
    change(&mut other, &mut Dice(7), 20);
    drop(other);
    let copy = client.sync(&served, u64::MAX).into_any().unwrap();
    assert_eq!(client.restarts, [Restart::WrongPrefix]);
    assert_eq!(copy.root(), served.0.root());
}
