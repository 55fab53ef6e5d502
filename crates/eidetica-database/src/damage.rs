//! An engine as this crate sees it: damaged rows are there to be named and written anew.

use std::sync::Arc;

use eidetica_storage::{Batch, Durability, Engine, EngineError, EngineInfo, Snapshot, Watch};

/// An engine below a layer that checks every value it reads. What stands in the place of a damaged value is none of this
/// crate's or of the log's, so that such a row never passes for a sound one; and it hides none beside it.
pub(crate) struct WithDamage(pub(crate) Arc<dyn Engine>);

impl Engine for WithDamage {
    fn snapshot(&self) -> Result<Box<dyn Snapshot>, EngineError> {
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
        self.0.close()
    }

    fn info(&self) -> EngineInfo {
        self.0.info()
    }
}
