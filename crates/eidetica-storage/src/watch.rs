//! Change hints: the registry every engine keeps, and the guard its callers hold.

use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Weak};

use parking_lot::Mutex;

type Hint = Arc<dyn Fn() + Send + Sync>;

/// The hints registered with one engine. Clones share the registry.
#[derive(Clone, Default)]
pub struct Watchers {
    shared: Arc<Shared>,
}

#[derive(Default)]
struct Shared {
    next: AtomicU64,
    hints: Mutex<Vec<(u64, Hint)>>,
}

impl Watchers {
    /// Adds a hint for as long as the guard lives.
    pub fn add(&self, hint: Hint) -> Watch {
        let number = self.shared.next.fetch_add(1, Ordering::Relaxed);
        self.shared.hints.lock().push((number, hint));
        Watch {
            number,
            shared: Arc::downgrade(&self.shared),
        }
    }

    /// Calls every hint, with no lock held. Costs next to nothing when there is none.
    pub fn notify(&self) {
        let hints: Vec<Hint> = self
            .shared
            .hints
            .lock()
            .iter()
            .map(|(_, hint)| hint.clone())
            .collect();
        for hint in hints {
            hint();
        }
    }
}

impl fmt::Debug for Watchers {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Watchers")
            .field("hints", &self.shared.hints.lock().len())
            .finish()
    }
}

/// Keeps a hint registered; dropping it ends the calls (one that is running may still finish).
#[derive(Debug)]
#[must_use = "dropping a watch ends it"]
pub struct Watch {
    number: u64,
    shared: Weak<Shared>,
}

impl fmt::Debug for Shared {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Shared").finish_non_exhaustive()
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        if let Some(shared) = self.shared.upgrade() {
            shared
                .hints
                .lock()
                .retain(|(number, _)| *number != self.number);
        }
    }
}
