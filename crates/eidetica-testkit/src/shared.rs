//! An engine as several processes see it that share one.

use std::sync::Arc;

use eidetica_storage::{Batch, Durability, Engine, EngineError, EngineInfo, Snapshot, Watch};

/// One process's engine over rows that others write to as well: the engine below, which says of itself that it is
/// shared, and which another of these does not close.
pub struct SharedEngine(Arc<dyn Engine>);

impl SharedEngine {
    /// One more process on `inner`.
    pub fn new(inner: Arc<dyn Engine>) -> Self {
        Self(inner)
    }
}

impl Engine for SharedEngine {
    fn snapshot(&self) -> Result<Box<dyn Snapshot>, EngineError> {
        self.0.snapshot()
    }

    fn snapshot_with_damage(&self) -> Result<Box<dyn Snapshot>, EngineError> {
        self.0.snapshot_with_damage()
    }

    fn write(&self, batch: &Batch, durability: Durability) -> Result<(), EngineError> {
        self.0.write(batch, durability)
    }

    fn flush(&self) -> Result<(), EngineError> {
        self.0.flush()
    }

    fn compact(&self) -> Result<(), EngineError> {
        self.0.compact()
    }

    fn watch(&self, hint: Arc<dyn Fn() + Send + Sync>) -> Watch {
        self.0.watch(hint)
    }

    fn close(&self) -> Result<(), EngineError> {
        self.0.flush()
    }

    fn info(&self) -> EngineInfo {
        let mut info = self.0.info();
        info.shared = true;
        info
    }
}
