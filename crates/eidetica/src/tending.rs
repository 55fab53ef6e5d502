//! What an open instance does now and then, on a thread of its own: looks at the imports of processes that share a
//! backend, says that this one's go on, and ends those of dead ones; renews what keys say while their users are logged in.

use std::sync::mpsc::{RecvTimeoutError, Sender, channel};
use std::thread;
use std::time::Duration;

use eidetica_database::{Databases, limits};

use crate::clock::now_ms;
use crate::instance::WeakInstance;

/// Between two looks at who is logged in; claims last for weeks.
const CLAIMS_PAUSE: Duration = Duration::from_secs(3_600);

/// A thread that looks now and then. Ends when this is dropped.
pub(crate) struct Tending {
    _open: Sender<()>,
}

impl Tending {
    /// Looks at the imports of other processes. None where the backend is this process's alone, or where the system gives
    /// no thread: then others may take imports of this process for abandoned.
    pub(crate) fn imports(databases: &Databases) -> Option<Self> {
        Self::imports_every(Duration::from_millis(limits::IMPORT_BEAT_MS), databases)
    }

    fn imports_every(pause: Duration, databases: &Databases) -> Option<Self> {
        if !databases.engine().info().shared {
            return None;
        }
        let databases = databases.clone();
        Self::begin("eidetica-imports", pause, move || {
            if let Err(error) = databases.tend_imports() {
                tracing::warn!(%error, "cannot look at the imports of other processes");
            }
        })
    }

    /// Renews the claims of users who stay logged in.
    pub(crate) fn claims(instance: WeakInstance) -> Option<Self> {
        Self::begin("eidetica-claims", CLAIMS_PAUSE, move || {
            instance.with(|instance| instance.renew_claims(now_ms()));
        })
    }

    /// Does something now and then; not at all where the system gives no thread.
    pub(crate) fn begin(
        name: &'static str,
        pause: Duration,
        mut look: impl FnMut() + Send + 'static,
    ) -> Option<Self> {
        let (open, closed) = channel::<()>();
        let looking = move || {
            while closed.recv_timeout(pause) == Err(RecvTimeoutError::Timeout) {
                look();
            }
        };
        match thread::Builder::new().name(name.into()).spawn(looking) {
            Ok(_) => Some(Self { _open: open }),
            Err(error) => {
                tracing::warn!(%error, name, "no thread");
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

    use eidetica_auth::limits::CLAIM_LIFETIME_MS;
    use eidetica_auth::{AuthRecord, DeviceClaim, KeyName, Permission, Scope, SecretKey};
    use eidetica_crdt::Doc;
    use eidetica_database::{Config, Database, Import, NewDatabase};
    use eidetica_storage::{Engine, MemoryEngine};
    use eidetica_testkit::SharedEngine;

    use super::*;
    use crate::Instance;

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
        let _lives = Tending::imports_every(Duration::from_millis(1), &alive).unwrap();
        let _looks = Tending::imports_every(Duration::from_millis(100), &looking).unwrap();
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

    #[test]
    fn claims_of_who_stays_logged_in_are_renewed_and_of_forgotten_keys_are_not() {
        let instance = Instance::connect("memory:").unwrap();
        instance.create_user("user", None).unwrap();
        let user = instance.login_user("user", None).unwrap();
        let accounts = instance.accounts();
        let uid = accounts.user("user").unwrap().unwrap().uid;
        let ends = || -> Vec<u64> {
            let claims = accounts.claims(&uid).unwrap();
            claims.iter().map(DeviceClaim::not_after_ms).collect()
        };
        let (now, half) = (now_ms(), CLAIM_LIFETIME_MS / 2);
        let at_login = ends();
        assert!(!at_login.is_empty() && at_login.iter().all(|end| *end <= now + 2 * half));
        instance.renew_claims(now + half - 600_000);
        assert_eq!(ends(), at_login);
        let later = now + half + 600_000;
        instance.renew_claims(later);
        assert_eq!(ends(), vec![later + 2 * half; at_login.len()]);
        // Once is enough.
        instance.renew_claims(later + 600_000);
        assert_eq!(ends(), vec![later + 2 * half; at_login.len()]);

        let unknown = SecretKey::from_bytes(&[9; 32]);
        let device = instance.device_key().public_key();
        let claim = DeviceClaim::make(&unknown, device, Scope::All, later).unwrap();
        let kept = accounts.put_claims(&uid, vec![claim], device).unwrap();
        assert!(kept.is_empty() && ends().len() == at_login.len());
        drop(user);
    }

    #[test]
    fn whoever_logs_in_is_looked_at_until_the_instance_is_closed() {
        let instance = Instance::connect("memory:").unwrap();
        assert!(!instance.is_renewing());
        instance.create_user("user", None).unwrap();
        let _user = instance.login_user("user", None).unwrap();
        assert!(instance.is_renewing());
        let (send, looks) = channel();
        let look = move || send.send(()).unwrap_or_default();
        let tending = Tending::begin("looking", Duration::from_millis(1), look).unwrap();
        for _ in 0..3 {
            looks.recv_timeout(Duration::from_secs(60)).unwrap();
        }
        drop(tending);
        // The thread is gone, and with it its end of the channel.
        while looks.recv_timeout(Duration::from_secs(60)).is_ok() {}
        assert_eq!(
            looks.try_recv(),
            Err(std::sync::mpsc::TryRecvError::Disconnected)
        );
    }
}
