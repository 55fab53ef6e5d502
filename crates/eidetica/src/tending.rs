//! Looks at the imports of processes that share a backend: says that this one's go on, and ends those of dead ones.

use std::sync::mpsc::{RecvTimeoutError, Sender, channel};
use std::thread;
use std::time::Duration;

use eidetica_database::{Databases, limits};

/// A thread that looks now and then. Ends when this is dropped.
pub(crate) struct Tending {
    _open: Sender<()>,
}

impl Tending {
    /// None where the backend is this process's alone, or where the system gives no thread: then others may take imports of
    /// this process for abandoned.
    pub(crate) fn begin(databases: &Databases) -> Option<Self> {
        Self::every(Duration::from_millis(limits::IMPORT_BEAT_MS), databases)
    }

    fn every(pause: Duration, databases: &Databases) -> Option<Self> {
        if !databases.engine().info().shared {
            return None;
        }
        let (open, closed) = channel::<()>();
        let databases = databases.clone();
        let look = move || {
            while closed.recv_timeout(pause) == Err(RecvTimeoutError::Timeout) {
                if let Err(error) = databases.tend_imports() {
                    tracing::warn!(%error, "cannot look at the imports of other processes");
                }
            }
        };
        let thread = thread::Builder::new().name("eidetica-imports".into());
        match thread.spawn(look) {
            Ok(_) => Some(Self { _open: open }),
            Err(error) => {
                tracing::warn!(%error, "no thread to look at imports");
                None
            }
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use std::sync::Arc;
    use std::time::Instant;

    use eidetica_auth::{AuthRecord, KeyName, Permission, SecretKey};
    use eidetica_crdt::Doc;
    use eidetica_database::{Config, Database, Import, NewDatabase};
    use eidetica_storage::{Engine, MemoryEngine};
    use eidetica_testkit::SharedEngine;

    use super::*;

    fn process(rows: &Arc<dyn Engine>, seed: u8) -> Databases {
        let engine = Arc::new(SharedEngine::new(Arc::clone(rows)));
        Databases::open(engine, Config::new([seed; 32])).unwrap()
    }

    fn import(database: &Database) -> Import {
        let mut import = database.import().with_memory_bytes(1);
        for key in ["a", "b", "c"] {
            import.insert_row("rows", key, Doc::new()).unwrap();
        }
        import
    }

    #[test]
    fn imports_go_on_while_their_process_looks_and_end_when_it_does_not() {
        let rows: Arc<dyn Engine> = Arc::new(MemoryEngine::new());
        let [dead, alive, looking] = [1, 2, 3].map(|seed| process(&rows, seed));
        let key = Arc::new(SecretKey::from_bytes(&[1; 32]));
        let owner = AuthRecord::grant(key.public(), Permission::Admin(0), KeyName::default());
        let mut new = NewDatabase::default();
        new.records.push(owner);
        let database = dead.create(new, Arc::clone(&key)).unwrap();
        let abandoned = import(&database);
        let here = alive.get(&database.id()).unwrap().with_key(key);
        let going_on = import(&here);
        // It says that it lives oftener than anybody looks.
        let _lives = Tending::every(Duration::from_millis(1), &alive).unwrap();
        let _looks = Tending::every(Duration::from_millis(100), &looking).unwrap();
        let begun = Instant::now();
        let is_there = || {
            let snapshot = rows.snapshot().unwrap();
            let range = eidetica_storage::KeyRange::prefix([4]);
            let limit = eidetica_storage::ScanLimit::rows(1_000);
            let forward = eidetica_storage::Direction::Forward;
            let page = snapshot.scan(eidetica_storage::Space::Local, &range, forward, limit);
            let rows = page.unwrap().rows;
            let imports = rows.iter().map(|row| row.key.slice(..13));
            imports.collect::<std::collections::BTreeSet<_>>().len() > 1
        };
        while is_there() {
            assert!(begun.elapsed() < Duration::from_secs(60), "nobody ends it");
            thread::park_timeout(Duration::from_millis(5));
        }
        assert!(abandoned.commit().is_err());
        assert_eq!(going_on.commit().unwrap().len(), 3);
    }
}
