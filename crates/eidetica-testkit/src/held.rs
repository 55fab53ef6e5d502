//! An engine that takes what it stands on with it.

use std::sync::Arc;

use eidetica_storage::{Batch, Durability, Engine, EngineError, EngineInfo, Snapshot, Watch};

/// An engine and what has to outlive it, such as a temporary directory.
pub struct HeldEngine<T> {
    // Dropped in this order.
    inner: Arc<dyn Engine>,
    _ground: T,
}

impl<T> HeldEngine<T> {
    /// An engine that stands on `ground`.
    pub fn new(inner: Arc<dyn Engine>, ground: T) -> Self {
        Self {
            inner,
            _ground: ground,
        }
    }
}

impl<T: Send + Sync + 'static> Engine for HeldEngine<T> {
    fn snapshot(&self) -> Result<Box<dyn Snapshot>, EngineError> {
        self.inner.snapshot()
    }

    fn snapshot_with_damage(&self) -> Result<Box<dyn Snapshot>, EngineError> {
        self.inner.snapshot_with_damage()
    }

    fn write(&self, batch: &Batch, durability: Durability) -> Result<(), EngineError> {
        self.inner.write(batch, durability)
    }

    fn flush(&self) -> Result<(), EngineError> {
        self.inner.flush()
    }

    fn watch(&self, hint: Arc<dyn Fn() + Send + Sync>) -> Watch {
        self.inner.watch(hint)
    }

    fn close(&self) -> Result<(), EngineError> {
        self.inner.close()
    }

    fn info(&self) -> EngineInfo {
        self.inner.info()
    }
}
