//! An engine that does something else first.

use std::sync::Arc;

use bytes::Bytes;
use eidetica_storage::{
    Batch, Direction, Durability, Engine, EngineError, EngineInfo, KeyRange, Page, ScanLimit,
    Snapshot, Space, Watch,
};
use parking_lot::Mutex;

/// What is about to be asked of an engine.
#[derive(Debug, Clone, Copy)]
pub enum Call<'a> {
    /// A snapshot.
    Snapshot,
    /// To read rows of this space, in a snapshot.
    Read(Space),
    /// To write this.
    Write(&'a Batch),
}

type Hook = dyn Fn(Call<'_>) -> Result<(), EngineError> + Send + Sync;

/// An engine below a hook that is called before each snapshot, read and write, on the thread that asks.
pub struct HookedEngine {
    inner: Arc<dyn Engine>,
    hook: Arc<Hook>,
}

impl HookedEngine {
    /// Calls `hook` before it calls `inner`.
    pub fn new(inner: Arc<dyn Engine>, hook: impl Fn(Call<'_>) + Send + Sync + 'static) -> Self {
        Self::failing(inner, move |call| {
            hook(call);
            Ok(())
        })
    }

    /// Does not call `inner` where `hook` fails, and fails so itself. It is not poisoned by that.
    pub fn failing(
        inner: Arc<dyn Engine>,
        hook: impl Fn(Call<'_>) -> Result<(), EngineError> + Send + Sync + 'static,
    ) -> Self {
        let hook = Arc::new(hook);
        Self { inner, hook }
    }

    /// An engine whose calls can be interrupted, and what interrupts them.
    #[must_use]
    pub fn interruptible(inner: Arc<dyn Engine>) -> (Arc<Self>, Interruption) {
        let interruption = Interruption::default();
        let hook = interruption.clone();
        let engine = Self::new(inner, move |call| hook.meet(call));
        (Arc::new(engine), interruption)
    }

    fn hooked(&self, inner: Box<dyn Snapshot>) -> Box<dyn Snapshot> {
        Box::new(HookedSnapshot {
            inner,
            hook: Arc::clone(&self.hook),
        })
    }
}

struct HookedSnapshot {
    inner: Box<dyn Snapshot>,
    hook: Arc<Hook>,
}

impl Snapshot for HookedSnapshot {
    fn multi_get(&self, space: Space, keys: &[&[u8]]) -> Result<Vec<Option<Bytes>>, EngineError> {
        (self.hook)(Call::Read(space))?;
        self.inner.multi_get(space, keys)
    }

    fn scan(
        &self,
        space: Space,
        range: &KeyRange,
        direction: Direction,
        limit: ScanLimit,
    ) -> Result<Page, EngineError> {
        (self.hook)(Call::Read(space))?;
        self.inner.scan(space, range, direction, limit)
    }
}

impl Engine for HookedEngine {
    fn snapshot(&self) -> Result<Box<dyn Snapshot>, EngineError> {
        (self.hook)(Call::Snapshot)?;
        Ok(self.hooked(self.inner.snapshot()?))
    }

    fn snapshot_with_damage(&self) -> Result<Box<dyn Snapshot>, EngineError> {
        (self.hook)(Call::Snapshot)?;
        Ok(self.hooked(self.inner.snapshot_with_damage()?))
    }

    fn write(&self, batch: &Batch, durability: Durability) -> Result<(), EngineError> {
        (self.hook)(Call::Write(batch))?;
        self.inner.write(batch, durability)
    }

    fn flush(&self) -> Result<(), EngineError> {
        self.inner.flush()
    }

    fn compact(&self) -> Result<(), EngineError> {
        self.inner.compact()
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

type Act = Box<dyn FnOnce() + Send>;

/// Something that is done once, before a call of a [`HookedEngine`]. Clones are the same.
#[derive(Clone, Default)]
pub struct Interruption(Arc<Mutex<Option<Planned>>>);

#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    Snapshot,
    ReadOfState,
    Write,
}

impl Kind {
    fn is_of(self, call: Call<'_>) -> bool {
        match call {
            Call::Snapshot => self == Self::Snapshot,
            Call::Read(space) => self == Self::ReadOfState && space == Space::State,
            Call::Write(_) => self == Self::Write,
        }
    }
}

struct Planned {
    kind: Kind,
    /// Calls of that kind that come before it.
    left: u32,
    act: Act,
}

impl Interruption {
    /// Does `act` before the next write.
    pub fn before_write(&self, act: impl FnOnce() + Send + 'static) {
        self.plan(Kind::Write, 0, Box::new(act));
    }

    /// Does `act` before the snapshot that comes after `count` others.
    pub fn before_snapshot(&self, count: u32, act: impl FnOnce() + Send + 'static) {
        self.plan(Kind::Snapshot, count, Box::new(act));
    }

    /// Does `act` before the next rows of state are read, in a snapshot that is there already.
    pub fn before_read_of_state(&self, act: impl FnOnce() + Send + 'static) {
        self.plan(Kind::ReadOfState, 0, Box::new(act));
    }

    /// Takes back what is planned; says whether it was still to come.
    pub fn cancel(&self) -> bool {
        self.0.lock().take().is_some()
    }

    fn plan(&self, kind: Kind, left: u32, act: Act) {
        *self.0.lock() = Some(Planned { kind, left, act });
    }

    fn meet(&self, call: Call<'_>) {
        let due = {
            let mut planned = self.0.lock();
            let is_meant = |planned: &&mut Planned| planned.kind.is_of(call);
            match planned.as_mut().filter(is_meant) {
                Some(Planned { left: 0, .. }) => planned.take(),
                Some(planned) => {
                    planned.left -= 1;
                    None
                }
                None => None,
            }
        };
        // What is done may call the engine too.
        if let Some(planned) = due {
            (planned.act)();
        }
    }
}
