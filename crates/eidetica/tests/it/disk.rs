//! A backend that outlives the instances on it, of the engine that `EIDETICA_TEST_ENGINE` names: `memory` (the
//! default), `fjall`, `redb`, `sqlite` or `postgres`.

use std::sync::{
    Arc,
    atomic::{AtomicUsize, Ordering},
};

use eidetica::{
    Instance,
    backend::{Backend, database::InMemory},
};
use eidetica_storage::{Batch, Durability, EngineError, EngineInfo, Snapshot, Watch};
use eidetica_storage_fjall::FjallEngine;
use eidetica_storage_postgres::PostgresEngine;
use eidetica_storage_redb::RedbEngine;
use eidetica_storage_sqlite::SqliteEngine;
use eidetica_testkit::{EngineKind, PostgresServer, selected_engine};
use tempfile::TempDir;

#[derive(Clone)]
pub(crate) struct Disk(Arc<Inner>);

struct Inner {
    engine: Box<dyn Backend>,
    open: AtomicUsize,
    /// How many more writes succeed.
    writes: AtomicUsize,
    /// Removed after the engine, which stands before it, is dropped.
    _dir: TempDir,
}

impl Disk {
    pub(crate) fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let engine: Box<dyn Backend> = match selected_engine() {
            EngineKind::Memory => Box::new(InMemory::new()),
            EngineKind::Fjall => Box::new(FjallEngine::open(dir.path()).unwrap()),
            EngineKind::Redb => Box::new(RedbEngine::open(dir.path()).unwrap()),
            EngineKind::Sqlite => Box::new(SqliteEngine::open(dir.path()).unwrap()),
            EngineKind::Postgres => {
                let schema = PostgresServer::shared().fresh_schema();
                Box::new(PostgresEngine::open(&schema).unwrap())
            }
        };
        Self::of(engine, dir)
    }

    /// With an engine of the test's own.
    pub(crate) fn over(engine: Box<dyn Backend>) -> Self {
        Self::of(engine, tempfile::tempdir().unwrap())
    }

    fn of(engine: Box<dyn Backend>, dir: TempDir) -> Self {
        let open = AtomicUsize::new(0);
        let inner = Inner {
            engine,
            open,
            writes: AtomicUsize::new(usize::MAX),
            _dir: dir,
        };
        Self(Arc::new(inner))
    }

    /// What the instances on it are on.
    pub(crate) fn engine(&self) -> &dyn Backend {
        &*self.0.engine
    }

    pub(crate) fn open(&self) -> Instance {
        self.0.open.fetch_add(1, Ordering::SeqCst);
        Instance::open(Box::new(self.clone())).unwrap()
    }

    /// Lets so many more writes succeed.
    pub(crate) fn allow_writes(&self, writes: usize) {
        self.0.writes.store(writes, Ordering::SeqCst);
    }

    /// How many instances are open on it.
    pub(crate) fn instances(&self) -> usize {
        self.0.open.load(Ordering::SeqCst)
    }
}

impl Backend for Disk {
    fn snapshot(&self) -> Result<Box<dyn Snapshot>, EngineError> {
        self.0.engine.snapshot()
    }

    fn write(&self, batch: &Batch, durability: Durability) -> Result<(), EngineError> {
        let one_less = |left: usize| left.checked_sub(1);
        let left = self
            .0
            .writes
            .fetch_update(Ordering::SeqCst, Ordering::SeqCst, one_less);
        left.map_err(|_| EngineError::io("writing", std::io::Error::other("no more writes")))?;
        self.0.engine.write(batch, durability)
    }

    fn flush(&self) -> Result<(), EngineError> {
        self.0.engine.flush()
    }

    fn watch(&self, hint: Arc<dyn Fn() + Send + Sync>) -> Watch {
        self.0.engine.watch(hint)
    }

    fn close(&self) -> Result<(), EngineError> {
        self.0.open.fetch_sub(1, Ordering::SeqCst);
        Ok(())
    }

    fn info(&self) -> EngineInfo {
        self.0.engine.info()
    }
}
