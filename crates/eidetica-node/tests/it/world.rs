//! Instances with a node each, and what the tests do with them.

use std::{
    collections::HashSet,
    sync::{
        Arc, Weak,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};

use eidetica_auth::{
    AccessRequest, AuthRecord, DeviceClaim, KeyName, Permission, Scope, SecretKey, SignedRequest,
};
use eidetica_crdt::{Doc, Value};
use eidetica_database::{Config, Database, Databases, Error, NewDatabase};
use eidetica_engine::{PeerStatus, Selection, Target, Wishes};
use eidetica_entry::{Id, PublicKey};
use eidetica_node::{
    DatabasesBackend, Node, NodeConfig, NodeError, NodeHandle, NodeLimits, Pending, Policy,
    SyncReport,
};
use eidetica_storage::{Engine, MemoryEngine};
use eidetica_transport::{Address, Transport, memory::Hub};
use eidetica_transport_http::HttpTransport;
use eidetica_transport_iroh::{IrohConfig, IrohTransport};
use parking_lot::Mutex;

/// Which transport a test runs on.
#[derive(Clone, Debug)]
pub(crate) enum Net {
    Memory(Hub),
    Http,
    /// On loopback, without relays.
    Iroh,
}

impl Net {
    pub(crate) fn memory() -> Self {
        Self::Memory(Hub::new())
    }

    /// The transports that `EIDETICA_TEST_TRANSPORT` names: `memory`, `http`, `iroh`, or the first two if it is not set.
    pub(crate) fn selected() -> Vec<Self> {
        match std::env::var("EIDETICA_TEST_TRANSPORT").as_deref() {
            Ok("memory") => vec![Self::memory()],
            Ok("http") => vec![Self::Http],
            Ok("iroh") => vec![Self::Iroh],
            Err(_) => vec![Self::memory(), Self::Http],
            Ok(other) => panic!("no transport {other:?}"),
        }
    }

    pub(crate) fn transport(&self, device: &[u8; 32]) -> Arc<dyn Transport> {
        match self {
            Self::Memory(hub) => Arc::new(hub.transport()),
            Self::Http => Arc::new(HttpTransport::new().unwrap()),
            Self::Iroh => Arc::new(IrohTransport::new(device, IrohConfig::local())),
        }
    }

    fn bind(&self, name: &str) -> String {
        match self {
            Self::Memory(_) => name.to_owned(),
            Self::Http | Self::Iroh => "127.0.0.1:0".to_owned(),
        }
    }
}

/// Makes a test of each scenario, which runs on every selected transport.
macro_rules! on_selected {
    ($($scenario:ident),* $(,)?) => {
        mod on_selected {
            $(#[test] fn $scenario() {
                for net in crate::world::Net::selected() {
                    eprintln!("over {net:?}");
                    super::$scenario(&net);
                }
            })*
        }
    };
}
pub(crate) use on_selected;

const BY_COMMAND: Wishes = Wishes {
    enabled: true,
    on_commit: false,
    interval_s: None,
};

#[derive(Default)]
struct Choices {
    hidden: Mutex<HashSet<Id>>,
    /// Databases that are synced by command only.
    by_command: Mutex<HashSet<Id>>,
    unlocked: Mutex<Vec<Arc<SecretKey>>>,
}

impl Policy for Choices {
    fn offers(&self, database: &Id) -> bool {
        !self.hidden.lock().contains(database)
    }

    fn wishes(&self) -> Vec<(Id, Wishes)> {
        let ids = self.by_command.lock();
        ids.iter().map(|id| (*id, BY_COMMAND)).collect()
    }

    fn unlocked(&self, key: &PublicKey) -> Option<Arc<SecretKey>> {
        self.unlocked
            .lock()
            .iter()
            .find(|secret| secret.public() == *key)
            .cloned()
    }
}

/// An instance: databases, a user's key, a node.
pub(crate) struct Peer {
    pub(crate) name: &'static str,
    pub(crate) databases: Databases,
    /// The user's key, which is not the device's.
    pub(crate) key: Arc<SecretKey>,
    pub(crate) node: NodeHandle,
    pub(crate) engine: Arc<dyn Engine>,
    net: Net,
    choices: Arc<Choices>,
    device: [u8; 32],
    limits: NodeLimits,
    /// Whether its databases are live, as they are where nobody tracks them; else they are synced by command.
    is_live: bool,
}

/// Unlike every other of the process, and unlike those of one byte that tests write out.
fn fresh_seed() -> [u8; 32] {
    static NEXT: AtomicU64 = AtomicU64::new(1);
    let mut seed = [0xa5; 32];
    seed[..8].copy_from_slice(&NEXT.fetch_add(1, Ordering::Relaxed).to_le_bytes());
    seed
}

impl Peer {
    pub(crate) fn new(net: &Net, name: &'static str) -> Self {
        Self::with_limits(net, name, NodeLimits::default())
    }

    pub(crate) fn with_limits(net: &Net, name: &'static str, limits: NodeLimits) -> Self {
        let engine: Arc<dyn Engine> = Arc::new(MemoryEngine::new());
        let databases = Databases::open(Arc::clone(&engine), Config::new(fresh_seed())).unwrap();
        let key = Arc::new(SecretKey::from_bytes(&fresh_seed()));
        let choices = Arc::new(Choices::default());
        choices.unlocked.lock().push(Arc::clone(&key));
        let device = fresh_seed();
        let node = start(&databases, &choices, device, net, limits);
        let peer = Self {
            name,
            databases,
            key,
            node,
            engine,
            net: net.clone(),
            choices,
            device,
            limits,
            is_live: false,
        };
        peer.claim(Scope::All);
        peer
    }

    /// One whose changes travel at once.
    pub(crate) fn live(net: &Net, name: &'static str) -> Self {
        let mut peer = Self::new(net, name);
        peer.is_live = true;
        peer.announce_writes();
        peer
    }

    fn announce_writes(&self) {
        let node = self.node.clone();
        let announce = move |id: &Id, here| node.announce(*id, here);
        self.databases.on_change(announce).unwrap();
    }

    /// A database that is synced by command, unless all are live.
    fn choose(&self, id: Id) {
        if !self.is_live && self.choices.by_command.lock().insert(id) {
            // A node that has stopped syncs nothing anyway.
            let _ = self.node.set_wishes(id, Some(BY_COMMAND)).wait();
        }
    }

    /// Lets the device act for the user's key.
    pub(crate) fn claim(&self, scope: Scope) {
        self.claim_for(&self.key, scope);
    }

    /// The same for any key.
    pub(crate) fn claim_for(&self, key: &SecretKey, scope: Scope) {
        let claim =
            DeviceClaim::make(key, self.node.device(), scope, now_ms() + 3_600_000).unwrap();
        self.node.put_claim(claim).wait().unwrap();
    }

    /// Dies with the last part of the node that may call the databases.
    pub(crate) fn backend_alive(&self) -> Weak<impl Sized + use<>> {
        Arc::downgrade(&self.choices)
    }

    /// What a node asks of the databases here.
    pub(crate) fn backend(&self) -> DatabasesBackend {
        let policy: Arc<dyn Policy> = Arc::clone(&self.choices) as _;
        DatabasesBackend::new(self.databases.clone(), policy).unwrap()
    }

    /// Starts the node again on what it left.
    pub(crate) fn restart(mut self) -> Self {
        self.node.shutdown().wait().unwrap();
        self.databases =
            Databases::open(Arc::clone(&self.engine), Config::new(fresh_seed())).unwrap();
        self.node = start(
            &self.databases,
            &self.choices,
            self.device,
            &self.net,
            self.limits,
        );
        if self.is_live {
            self.announce_writes();
        }
        self
    }

    /// Starts the server; the address to dial.
    pub(crate) fn serve(&self) -> Address {
        self.node
            .start_server(&self.net.bind(self.name))
            .wait()
            .unwrap()
            .remove(0)
    }

    pub(crate) fn hide(&self, database: Id) {
        self.choices.hidden.lock().insert(database);
    }

    /// A new database of this user, with these rights for others.
    pub(crate) fn create(
        &self,
        others: &[(PublicKey, Permission)],
        wildcard: Option<Permission>,
    ) -> Database {
        let name = KeyName::new(self.name).unwrap();
        let mut records = vec![AuthRecord::grant(
            self.key.public(),
            Permission::Admin(0),
            name.clone(),
        )];
        records.extend(
            others
                .iter()
                .map(|(key, permission)| AuthRecord::grant(*key, *permission, name.clone())),
        );
        records.extend(wildcard.map(|permission| AuthRecord::Wildcard(Some(permission))));
        let mut settings = Doc::new();
        settings.set_string("name", "notes");
        let new = NewDatabase {
            records,
            settings,
            timestamp_ms: None,
        };
        let database = self.databases.create(new, Arc::clone(&self.key)).unwrap();
        self.choose(database.id());
        database
    }

    /// The database here, written to with the user's key.
    pub(crate) fn database(&self, id: Id) -> Database {
        self.databases
            .get(&id)
            .unwrap()
            .with_key(Arc::clone(&self.key))
    }

    pub(crate) fn has(&self, id: Id) -> bool {
        self.databases.find(&id).unwrap().is_some()
    }

    pub(crate) fn write(&self, id: Id, path: &str, value: &str) {
        let database = self.database(id);
        database
            .transact(|transaction| transaction.doc("notes")?.set(path, value))
            .unwrap();
    }

    pub(crate) fn read(&self, id: Id, path: &str) -> Option<String> {
        self.look(id, path).unwrap()
    }

    /// Whether a value is here by now; a header may be here before its payload.
    pub(crate) fn shows(&self, id: Id, path: &str, value: &str) -> bool {
        match self.look(id, path) {
            Err(Error::Incomplete { held: true, .. }) => false,
            read => read.unwrap().as_deref() == Some(value),
        }
    }

    fn look(&self, id: Id, path: &str) -> Result<Option<String>, Error> {
        let doc = self.databases.get(&id).unwrap().doc("notes").unwrap();
        match doc.get(path)? {
            None => Ok(None),
            Some(Value::Text(text)) => Ok(Some(text)),
            Some(other) => panic!("{path} is {other:?}"),
        }
    }

    pub(crate) fn tips(&self, id: Id) -> Vec<Id> {
        self.databases
            .tips(&id)
            .unwrap()
            .unwrap_or_default()
            .iter()
            .map(|tip| tip.id)
            .collect()
    }

    pub(crate) fn sync(&self, address: &Address, id: Id) -> Pending<SyncReport> {
        self.choose(id);
        self.node.sync(
            Target::Address(address.clone()),
            Selection::These(vec![id]),
            true,
        )
    }

    /// Syncs and says what went wrong, with the peer or with the database.
    pub(crate) fn try_sync(&self, address: &Address, id: Id) -> Result<(), NodeError> {
        Ok(self.sync(address, id).wait()?.check()?)
    }

    /// Ends all connections to a peer that this one dialled.
    pub(crate) fn hang_up(&self, peer: &Peer) {
        for status in [PeerStatus::Blocked, PeerStatus::Active] {
            let device = peer.node.device();
            self.node.set_peer_status(device, status).wait().unwrap();
        }
    }

    /// A bootstrap request of the user's key.
    pub(crate) fn request(&self, id: Id, permission: Permission) -> SignedRequest {
        let request = AccessRequest {
            database: id,
            key: self.key.public(),
            permission,
            name: KeyName::new(self.name).unwrap(),
            device: self.node.device(),
            nonce: fresh_seed()[..16].try_into().unwrap(),
        };
        request.sign(&self.key).unwrap()
    }
}

fn start(
    databases: &Databases,
    choices: &Arc<Choices>,
    device: [u8; 32],
    net: &Net,
    limits: NodeLimits,
) -> NodeHandle {
    let policy: Arc<dyn Policy> = Arc::clone(choices) as _;
    let backend = DatabasesBackend::new(databases.clone(), policy).unwrap();
    let config = NodeConfig {
        service: None,
        device: SecretKey::from_bytes(&device),
        backend: Arc::new(backend),
        transports: vec![net.transport(&device)],
        limits,
    };
    Node::start(config).unwrap()
}

pub(crate) fn now_ms() -> u64 {
    SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap()
        .as_millis() as u64
}

/// Waits for something that happens by itself.
#[track_caller]
pub(crate) fn eventually(what: &str, check: impl Fn() -> bool) {
    let begun = Instant::now();
    while !check() {
        assert!(
            begun.elapsed() < Duration::from_secs(60),
            "{what} does not happen"
        );
        std::thread::park_timeout(Duration::from_millis(5));
    }
}
