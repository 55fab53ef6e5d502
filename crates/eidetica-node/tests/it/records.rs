//! The engine's records where several processes write them.

use std::sync::Arc;

use eidetica_auth::SecretKey;
use eidetica_database::{Config, Databases};
use eidetica_engine::{
    Action, Command, CommandId, Engine as SyncEngine, EngineConfig, Input, Record,
};
use eidetica_entry::{Id, PublicKey};
use eidetica_node::{Backend, DatabasesBackend, Policy};
use eidetica_storage::{Engine, MemoryEngine, Space};
use eidetica_testkit::{RecordingEngine, SharedEngine};

struct NoUsers;

impl Policy for NoUsers {
    fn offers(&self, _: &Id) -> bool {
        true
    }

    fn unlocked(&self, _: &PublicKey) -> Option<Arc<SecretKey>> {
        None
    }
}

fn process(rows: Arc<dyn Engine>, name: &str) -> DatabasesBackend {
    let engine = Arc::new(SharedEngine::new(rows));
    let databases = Databases::open(engine, Config::new([1; 32])).unwrap();
    let backend = DatabasesBackend::of_node(databases, Arc::new(NoUsers), Some(name)).unwrap();
    backend.load().unwrap();
    backend
}

fn id(n: usize) -> Id {
    let mut id = [7; 32];
    id[..8].copy_from_slice(&n.to_be_bytes());
    Id::new(id)
}

/// What is to be written of a peer and so many databases that are synced with it, one after another.
fn records(databases: usize) -> Vec<Record> {
    let config = EngineConfig {
        device: SecretKey::from_bytes(&[1; 32]).public(),
        seed: 1,
        wishes: Vec::new(),
        process: None,
    };
    let mut engine = SyncEngine::restore(config, [], 0).unwrap();
    let key = SecretKey::from_bytes(&[2; 32]).public();
    let register = Command::RegisterPeer { key, name: None };
    let relate = (0..databases).map(|n| Command::Relate(key, id(n)));
    let mut records = Vec::new();
    for (n, command) in std::iter::once(register).chain(relate).enumerate() {
        engine.handle_input(Input::Command(CommandId(n as u64), command, u64::MAX), 0);
        loop {
            match engine.poll_action(0) {
                Action::Persist(record) => records.push(record),
                Action::Timeout(_) => break,
                _ => {}
            }
        }
    }
    records
}

#[test]
fn what_a_process_has_written_itself_it_does_not_read_again() {
    let rows = Arc::new(RecordingEngine::new(Arc::new(MemoryEngine::new())));
    let here = process(rows.clone(), "here");
    let mut most = 0;
    for record in records(100) {
        here.persist(&[record]).unwrap();
        let _ = rows.take();
        assert_eq!(here.follow().unwrap().records, []);
        most = most.max(rows.take().space(Space::Local).scanned_rows);
    }
    assert_eq!(most, 0);
}

#[test]
fn what_others_have_written_meanwhile_is_followed() {
    let rows: Arc<dyn Engine> = Arc::new(MemoryEngine::new());
    let (here, there) = (process(Arc::clone(&rows), "here"), process(rows, "there"));
    let all = records(6);
    let (peer, pairs) = all.split_at(1);
    let forgotten = |record: &Record| Record {
        key: record.key.clone(),
        value: None,
    };
    here.persist(peer).unwrap();
    assert_eq!(there.follow().unwrap().records, peer);
    // Before, beside and after what is written here; and where that changes nothing.
    there.persist(&pairs[..1]).unwrap();
    here.persist(&pairs[1..2]).unwrap();
    assert_eq!(here.follow().unwrap().records, pairs[..1]);
    there.persist(&pairs[2..4]).unwrap();
    here.persist(&pairs[2..3]).unwrap();
    assert_eq!(here.follow().unwrap().records, pairs[3..4]);
    there.persist(&pairs[4..5]).unwrap();
    here.persist(&[forgotten(&pairs[5])]).unwrap();
    assert_eq!(here.follow().unwrap().records, pairs[4..5]);
    here.persist(&pairs[5..]).unwrap();
    there.persist(&[forgotten(&pairs[0])]).unwrap();
    assert_eq!(here.follow().unwrap().records, [forgotten(&pairs[0])]);
    let theirs = there.follow().unwrap().records;
    assert_eq!(theirs, [pairs[1].clone(), pairs[5].clone()]);
}
