//! Histories for the tests of the entry log.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use bytes::Bytes;
use eidetica_entry::dag::{self, Budget, Node};
use eidetica_entry::{Draft, Entry, Id, ParentInfo, PublicKey, Signature, Stamp, StoreName};
use eidetica_storage::log::{CacheSize, DatabaseLog, EntryLog, LogError, LogReader, LogWriter};
use eidetica_storage::{Batch, Durability, Engine, EngineError, MemoryEngine};
use eidetica_testkit::Rng;

pub(crate) fn signature(n: u64) -> Signature {
    let mut bytes = [7; 64];
    bytes[..8].copy_from_slice(&n.to_le_bytes());
    Signature::new(bytes)
}

pub(crate) fn key(n: u8) -> PublicKey {
    PublicKey::new([n; 32])
}

fn payload(store: &str, n: u64) -> BTreeMap<StoreName, Bytes> {
    let store = StoreName::new(store).unwrap();
    BTreeMap::from([(store, Bytes::from(format!("payload {n}")))])
}

pub(crate) fn root(nonce: u8) -> Entry {
    let draft = Draft::root([nonce; 32], payload("_settings", 0), key(0), Some(0)).unwrap();
    draft.sign(signature(0))
}

pub(crate) fn child(database: Id, parents: &[ParentInfo], settings: &[Id], n: u64) -> Draft {
    let store = if n % 23 == 5 { "_settings" } else { "notes" };
    Draft::child(
        database,
        parents,
        settings,
        payload(store, n),
        key((n % 5) as u8),
        Some(n),
    )
    .unwrap()
}

/// A history with branches and merges, parents first: what a log is compared with.
pub(crate) struct History {
    pub(crate) entries: Vec<Entry>,
    nodes: std::collections::HashMap<Id, Node>,
    settings: std::collections::HashMap<Id, Node>,
}

impl History {
    pub(crate) fn new(nonce: u8) -> Self {
        let mut history = Self {
            entries: Vec::new(),
            nodes: Default::default(),
            settings: Default::default(),
        };
        history.push(root(nonce));
        history
    }

    pub(crate) fn chain(len: usize) -> Self {
        let mut history = Self::new(1);
        while history.entries.len() < len {
            let parent = ParentInfo::from(history.entries.last().unwrap());
            history.add(&[parent]);
        }
        history
    }

    /// `len` entries, each on one or two of the last few.
    pub(crate) fn branching(len: usize, seed: u64) -> Self {
        let mut rng = Rng::new(seed);
        let mut history = Self::new(seed as u8);
        while history.entries.len() < len {
            let recent = history.entries.len().min(6);
            let mut pick = || history.entries.len() - 1 - rng.below(recent);
            let picks: BTreeSet<usize> = match pick() % 3 {
                0 => [pick(), pick()].into(),
                _ => [pick()].into(),
            };
            let parents: Vec<ParentInfo> = picks
                .iter()
                .map(|n| ParentInfo::from(&history.entries[*n]))
                .collect();
            history.add(&parents);
        }
        history
    }

    pub(crate) fn database(&self) -> Id {
        self.entries[0].id()
    }

    /// One more entry, on an old one.
    pub(crate) fn late_child(&mut self, of: usize) -> Entry {
        let parent = ParentInfo::from(&self.entries[of]);
        self.add(&[parent]);
        self.entries.last().unwrap().clone()
    }

    fn add(&mut self, parents: &[ParentInfo]) {
        let settings =
            eidetica_entry::derive_settings(parents, &self.settings, &mut Budget::unlimited())
                .unwrap();
        let n = self.entries.len() as u64;
        let draft = child(self.database(), parents, &settings, n);
        self.push(draft.sign(signature(n)));
    }

    fn push(&mut self, entry: Entry) {
        let header = entry.header();
        let node = |parents: &eidetica_entry::Ids| Node {
            height: header.height,
            parents: parents.clone(),
        };
        self.nodes.insert(entry.id(), node(&header.parents));
        if header.writes_settings() {
            self.settings.insert(entry.id(), node(&header.settings));
        }
        self.entries.push(entry);
    }

    pub(crate) fn difference(&self, from: &[Id], not: &[Id]) -> BTreeSet<Id> {
        let found = dag::difference(&self.nodes, from, not, &mut Budget::unlimited()).unwrap();
        found.into_iter().map(|stamp| stamp.id).collect()
    }

    /// The tips of the first `len` entries.
    pub(crate) fn tips(&self, len: usize) -> Vec<Stamp> {
        let entries = &self.entries[..len];
        let covered: BTreeSet<Id> = entries
            .iter()
            .flat_map(|e| e.header().parents.iter().copied())
            .collect();
        let mut tips: Vec<Stamp> = entries
            .iter()
            .map(Entry::stamp)
            .filter(|stamp| !covered.contains(&stamp.id))
            .collect();
        tips.sort_unstable();
        tips
    }
}

/// A database under test: engine, log and writer.
pub(crate) struct Bench {
    pub(crate) engine: Arc<dyn Engine>,
    pub(crate) entries: EntryLog,
    pub(crate) log: DatabaseLog,
    pub(crate) writer: LogWriter,
}

impl Bench {
    pub(crate) fn new(root: &Entry) -> Self {
        Self::on(Arc::new(MemoryEngine::new()), root).unwrap()
    }

    pub(crate) fn on(engine: Arc<dyn Engine>, root: &Entry) -> Result<Self, LogError> {
        let entries = EntryLog::open(Arc::clone(&engine), CacheSize(1 << 20))?;
        let mut batch = Batch::new();
        let (log, writer) = entries.create::<LogError>(root, &mut batch, |_, _, _| Ok(()))?;
        engine.write(&batch, Durability::Durable)?;
        Ok(Self {
            engine,
            entries,
            log,
            writer,
        })
    }

    /// Opens what is stored anew, with empty caches.
    pub(crate) fn reopen(engine: Arc<dyn Engine>, database: &Id) -> Self {
        let entries = EntryLog::open(Arc::clone(&engine), CacheSize(1 << 20)).unwrap();
        let log = entries.database(database).unwrap().unwrap();
        let writer = log.writer().unwrap();
        Self {
            engine,
            entries,
            log,
            writer,
        }
    }

    pub(crate) fn write(&self, batch: &Batch) -> Result<(), EngineError> {
        self.engine.write(batch, Durability::Durable)
    }

    /// Commits one entry in a batch of its own.
    pub(crate) fn add(&mut self, entry: &Entry) -> Result<(), LogError> {
        let mut batch = Batch::new();
        let mut stage = self.writer.stage();
        stage.add(entry, &mut batch)?;
        stage.finish(&mut batch)?;
        Ok(self.engine.write(&batch, Durability::Durable)?)
    }

    /// Ingests entries in one batch.
    pub(crate) fn add_pack(
        &mut self,
        entries: &[Entry],
        packed: Option<&Bytes>,
    ) -> Result<(), LogError> {
        let mut batch = Batch::new();
        let mut stage = self.writer.stage();
        stage.add_pack(entries, packed, &mut batch)?;
        let end = stage.state().next_arrival;
        stage.set_applied(end);
        stage.finish(&mut batch)?;
        Ok(self.engine.write(&batch, Durability::Durable)?)
    }

    pub(crate) fn read<T>(&self, read: impl FnOnce(&LogReader<'_>) -> T) -> T {
        let snapshot = self.engine.snapshot().unwrap();
        read(&self.log.reader(&*snapshot))
    }

    /// Checks that the log holds exactly the first `len` entries of `history`, by every way to read.
    pub(crate) fn check(&self, history: &History, len: usize) {
        let expected = &history.entries[..len];
        self.read(|reader| {
            let state = reader.state().unwrap();
            assert_eq!(state.next_arrival, len as u64);
            assert_eq!(state.tips, history.tips(len));
            assert_eq!(
                state.max_height,
                expected.iter().map(|e| e.header().height).max().unwrap()
            );
            let mut found = Vec::new();
            while found.len() < len {
                let page = reader.entries_from(found.len() as u64, 100).unwrap();
                assert!(!page.is_empty() && page.len() <= 100);
                found.extend(page);
            }
            assert_eq!(found, expected);

            let ids: Vec<Id> = history.entries.iter().map(Entry::id).rev().collect();
            for (id, located) in ids.iter().zip(reader.locate(&ids).unwrap()) {
                let arrival = expected.iter().position(|entry| entry.id() == *id);
                assert_eq!(located.map(|l| l.arrival), arrival.map(|at| at as u64));
                if let (Some(located), Some(at)) = (located, arrival) {
                    assert_eq!(located.height, expected[at].header().height);
                    assert_eq!(
                        located.writes_settings,
                        expected[at].header().writes_settings()
                    );
                }
            }
            for (id, entry) in ids.iter().zip(reader.get_many(&ids).unwrap()) {
                assert_eq!(
                    entry.as_ref(),
                    expected.iter().find(|entry| entry.id() == *id)
                );
            }
            assert_eq!(reader.at(len as u64 - 1).unwrap(), expected[len - 1]);
        });
        assert_eq!(self.log.writer().unwrap().tips(), {
            let ids: Vec<Id> = history.tips(len).iter().map(|tip| tip.id).collect();
            let entries = ids
                .iter()
                .map(|id| expected.iter().find(|e| e.id() == *id).unwrap());
            entries.map(ParentInfo::from).collect::<Vec<_>>()
        });
    }
}
