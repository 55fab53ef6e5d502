//! What engines that keep a store open have in common.

use std::fmt;
use std::sync::{Arc, OnceLock};

use parking_lot::{Mutex, RwLock};

use crate::{Batch, EngineError, Plan, Watch, Watchers};

/// An open store behind an engine: one writer at a time, the first failed write or sync poisons it, and
/// once closed it is gone.
///
/// `S` is what the engine keeps open. It is dropped when the last holder lets go, which may be a
/// snapshot that outlives the engine.
pub struct StoreHandle<S> {
    /// `None` once closed.
    store: RwLock<Option<Arc<S>>>,
    writer: Mutex<()>,
    /// The text of the first failed write or sync.
    failed: OnceLock<Arc<str>>,
    watchers: Watchers,
}

impl<S> StoreHandle<S> {
    /// A handle on a store that was just opened.
    pub fn new(store: S) -> Self {
        Self {
            store: RwLock::new(Some(Arc::new(store))),
            writer: Mutex::new(()),
            failed: OnceLock::new(),
            watchers: Watchers::default(),
        }
    }

    /// The store, to read from.
    ///
    /// # Errors
    /// [`EngineError::Closed`], [`EngineError::Poisoned`].
    pub fn store(&self) -> Result<Arc<S>, EngineError> {
        let store = self.store.read().clone().ok_or(EngineError::Closed)?;
        match self.failed.get() {
            Some(first) => Err(EngineError::Poisoned {
                first: first.clone(),
            }),
            None => Ok(store),
        }
    }

    /// Looks at the store, poisoned or not; `None` once it is closed.
    pub fn look<T>(&self, look: impl FnOnce(&S) -> T) -> Option<T> {
        self.store.read().as_ref().map(|store| look(store))
    }

    /// Writes a batch, then calls the hints. The writer's lock is held through `write`, so that nobody
    /// sees what is not durable yet.
    ///
    /// # Errors
    /// Those of [`Batch::plan`], of [`StoreHandle::store`] and of `write`; a failure of `write` other than a
    /// refusal poisons the store.
    pub fn write(
        &self,
        batch: &Batch,
        write: impl FnOnce(&S, &Plan<'_>) -> Result<(), EngineError>,
    ) -> Result<(), EngineError> {
        let plan = batch.plan()?;
        self.change(|store| write(store, &plan))?;
        self.watchers.notify();
        Ok(())
    }

    /// Like [`StoreHandle::write`], for an engine that changes nothing before the end: what `prepare` makes of the batch is
    /// given to `write`, and a failure of `prepare` poisons nothing.
    ///
    /// # Errors
    /// As for [`StoreHandle::write`], and those of `prepare`.
    pub fn write_prepared<P>(
        &self,
        batch: &Batch,
        prepare: impl FnOnce(&S, &Plan<'_>) -> Result<P, EngineError>,
        write: impl FnOnce(&S, P) -> Result<(), EngineError>,
    ) -> Result<(), EngineError> {
        let plan = batch.plan()?;
        let turn = self.writer.lock();
        let store = self.store()?;
        let prepared = prepare(&store, &plan)?;
        self.noting_failure(write(&store, prepared))?;
        drop((store, turn));
        self.watchers.notify();
        Ok(())
    }

    /// Changes the store, or syncs it, without telling anybody.
    ///
    /// # Errors
    /// As for [`StoreHandle::write`].
    pub fn change(
        &self,
        change: impl FnOnce(&S) -> Result<(), EngineError>,
    ) -> Result<(), EngineError> {
        let _turn = self.writer.lock();
        let store = self.store()?;
        self.noting_failure(change(&store))
    }

    fn noting_failure(&self, changed: Result<(), EngineError>) -> Result<(), EngineError> {
        changed.inspect_err(|error| {
            if !error.is_refusal() {
                self.failed.get_or_init(|| error.to_string().into());
            }
        })
    }

    /// Gives `work` the store for itself, and goes on with what it gives back; says whether it did. Nothing happens
    /// while somebody else holds the store, such as a snapshot. Readers wait.
    ///
    /// # Errors
    /// As for [`StoreHandle::store`]; those of `work`, after which the store is closed.
    pub fn exchange(
        &self,
        work: impl FnOnce(S) -> Result<S, EngineError>,
    ) -> Result<bool, EngineError> {
        let _turn = self.writer.lock();
        drop(self.store()?);
        let mut slot = self.store.write();
        match slot.take().map(Arc::try_unwrap) {
            Some(Ok(store)) => {
                *slot = Some(Arc::new(work(store)?));
                Ok(true)
            }
            Some(Err(held)) => {
                *slot = Some(held);
                Ok(false)
            }
            None => Err(EngineError::Closed),
        }
    }

    /// Adds a hint that is called after each write.
    pub fn watch(&self, hint: Arc<dyn Fn() + Send + Sync>) -> Watch {
        self.watchers.add(hint)
    }

    /// Takes the store away, after the present writer. `end` gets it unless it is poisoned. Nothing
    /// happens the second time.
    ///
    /// # Errors
    /// Those of `end`.
    pub fn close(
        &self,
        end: impl FnOnce(Arc<S>) -> Result<(), EngineError>,
    ) -> Result<(), EngineError> {
        let _turn = self.writer.lock();
        let store = self.store.write().take();
        match store.filter(|_| self.failed.get().is_none()) {
            Some(store) => end(store),
            None => Ok(()),
        }
    }
}

impl<S> fmt::Debug for StoreHandle<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("StoreHandle")
            .field("open", &self.store.read().is_some())
            .field("failed", &self.failed.get())
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Batch, Space};

    #[test]
    fn the_first_failure_poisons_and_a_refusal_does_not() {
        let handle = StoreHandle::new(());
        let refuse = |(): &()| -> Result<(), EngineError> { Err(EngineError::EmptyKey) };
        assert!(handle.change(refuse).is_err());
        assert!(handle.store().is_ok());
        let fail = |(): &()| Err(EngineError::corrupt("first"));
        assert!(handle.change(fail).is_err());
        let mut batch = Batch::new();
        batch.put(Space::Meta, b"k", b"v");
        let second = handle.write(&batch, |(), _| Err(EngineError::corrupt("never called")));
        assert!(
            matches!(&second, Err(EngineError::Poisoned { first }) if first.contains("first")),
            "{second:?}"
        );
        assert_eq!(handle.look(|()| 1), Some(1));
        let ended = |_| Err(EngineError::corrupt("a poisoned store is not ended"));
        assert!(handle.close(ended).is_ok());
        assert!(matches!(handle.store(), Err(EngineError::Closed)));
        assert_eq!(handle.look(|()| 1), None);
    }

    #[test]
    fn a_store_is_exchanged_unless_somebody_holds_it() {
        let handle = StoreHandle::new(1);
        let held = handle.store().unwrap();
        assert!(!handle.exchange(|n| Ok(n + 1)).unwrap());
        drop(held);
        assert!(handle.exchange(|n| Ok(n + 1)).unwrap());
        assert_eq!(*handle.store().unwrap(), 2);
        let fail = |_| Err(EngineError::corrupt("it does not open again"));
        assert!(handle.exchange(fail).is_err());
        assert!(matches!(handle.store(), Err(EngineError::Closed)));
        assert!(matches!(handle.exchange(Ok), Err(EngineError::Closed)));
    }
}
