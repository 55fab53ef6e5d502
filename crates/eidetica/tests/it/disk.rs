//! A memory backend that outlives the instances on it, as a disk does.

use std::sync::{
    Arc,
    atomic::{AtomicUsize, Ordering},
};

use eidetica::{
    Instance,
    backend::{Backend, database::InMemory},
};
use eidetica_storage::{Batch, Durability, EngineError, EngineInfo, Snapshot, Watch};

#[derive(Clone, Default)]
pub(crate) struct Disk(Arc<Inner>);

#[derive(Default)]
struct Inner {
    engine: InMemory,
    open: AtomicUsize,
}

impl Disk {
    pub(crate) fn new() -> Self {
        Self::default()
    }

    pub(crate) fn open(&self) -> Instance {
        self.0.open.fetch_add(1, Ordering::SeqCst);
        Instance::open(Box::new(self.clone())).unwrap()
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
