//! What the guide says about Iroh, through a relay that the test starts.

use std::{
    collections::BTreeSet,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

use eidetica::{
    Database, Instance, User,
    auth::Permission,
    backend::database::InMemory,
    crdt::Doc,
    sync::{IrohConfig, Relays, Ticket},
};
use eidetica_transport::{Address, Channel, Listener, Scheme, Transport, TransportError};
use eidetica_transport_iroh::IrohTransport;

use crate::{
    device,
    relay::{other_family, relay},
};

fn in_memory() -> Instance {
    let instance = Instance::open(Box::new(InMemory::new())).unwrap();
    instance.create_user("user", None).unwrap();
    instance.enable_sync().unwrap()
}

pub(crate) fn instance(config: IrohConfig) -> Instance {
    let instance = in_memory();
    let sync = instance.sync().unwrap();
    sync.enable_iroh_transport_with(config).unwrap();
    instance
}

fn at(bind: &str, relays: &Relays) -> Instance {
    let config = IrohConfig::local().with_relays(relays.clone());
    instance(config.with_bind(vec![bind.parse().unwrap()]))
}

/// What the databases of these tests are called.
pub(crate) const NAME: &str = "private notes";

/// A database with a note, that anybody may read.
pub(crate) fn database(author: &User) -> Database {
    let mut auth = Doc::new();
    let all = serde_json::json!({"pubkey": "*", "permissions": "Read", "status": "Active"});
    auth.set_json("*", all).unwrap();
    let mut settings = Doc::new();
    settings.set_string("name", NAME);
    settings.set_doc("auth", auth);
    let key = author.get_default_key().unwrap();
    let database = author.create_database(settings, key).unwrap();
    write(&database, "monday", "buy milk");
    database
}

pub(crate) fn write(database: &Database, day: &str, note: &str) {
    let op = database.new_transaction().unwrap();
    op.doc("notes").unwrap().set(day, note).unwrap();
    op.commit().unwrap();
}

pub(crate) fn read(database: &Database, day: &str) -> Option<String> {
    database.doc("notes").unwrap().get_as(day).unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_guide_through_a_relay() -> eidetica::Result<()> {
    let Some(bind) = other_family() else {
        return Ok(());
    };
    let (server, relays) = relay().await;
    // One on IPv4 alone, one on IPv6 alone: nothing goes directly.
    let (alice, bob) = (at("127.0.0.1:0", &relays), at(bind, &relays));
    let author = alice.login_user("user", None)?;
    let database = database(&author);
    let tree_id = database.root_id();

    let sync = alice.sync()?;
    sync.start_server_async("ignored").await?;
    let my_address = sync.get_server_address_async().await?;
    let peer_address_json = my_address.to_json().unwrap();

    let sync = bob.sync()?;
    let report = sync
        .sync_with_peer(&peer_address_json, Some(&tree_id))
        .await?;
    assert_eq!(report.peer, alice.device_key());
    let reader = bob.login_user("user", None)?;
    let copy = reader.open_database(tree_id)?;
    assert_eq!(read(&copy, "monday").as_deref(), Some("buy milk"));
    drop((reader, copy, author, database));
    tokio::task::spawn_blocking(move || drop((alice, bob)))
        .await
        .unwrap();
    server.shutdown().await.unwrap();
    Ok(())
}

/// A transport that counts how often it dials.
struct Counted {
    transport: IrohTransport,
    dials: AtomicUsize,
}

#[async_trait::async_trait]
impl Transport for Counted {
    fn scheme(&self) -> Scheme {
        self.transport.scheme()
    }

    async fn connect(&self, address: &Address) -> Result<Box<dyn Channel>, TransportError> {
        self.dials.fetch_add(1, Ordering::Relaxed);
        self.transport.connect(address).await
    }

    async fn listen(&self, bind: &str) -> Result<Box<dyn Listener>, TransportError> {
        self.transport.listen(bind).await
    }

    async fn close(&self) {
        self.transport.close().await;
    }
}

fn wait_for(what: impl Fn() -> bool) {
    let start = Instant::now();
    while !what() {
        assert!(start.elapsed() < Duration::from_secs(60));
        std::thread::park_timeout(Duration::from_millis(5));
    }
}

/// One connection serves every sync and what is live; when its transport goes away, the other one takes over.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn both_transports_lead_to_one_peer() -> eidetica::Result<()> {
    let (alice, bob) = (instance(IrohConfig::local()), in_memory());
    let sync = alice.sync()?;
    sync.enable_http_transport()?;
    sync.start_server_async("127.0.0.1:0").await?;
    let author = alice.login_user("user", None)?;
    let database = database(&author);
    let ticket = sync.ticket(database.root_id())?;
    let schemes: BTreeSet<Scheme> = ticket.addresses().map(|place| place.scheme()).collect();
    assert_eq!(schemes, BTreeSet::from([Scheme::Http, Scheme::Iroh]));

    let over_iroh = Arc::new(Counted {
        transport: IrohTransport::new(&device(), IrohConfig::local()),
        dials: AtomicUsize::new(0),
    });
    let sync = bob.sync()?;
    sync.enable_http_transport()?;
    sync.enable_transport(Arc::clone(&over_iroh) as Arc<dyn Transport>)?;
    let iroh_first = ticket.addresses().filter(|at| at.scheme() == Scheme::Iroh);
    let then_http = ticket.addresses().filter(|at| at.scheme() == Scheme::Http);
    let ticket = Ticket::new(
        ticket.database(),
        ticket.device(),
        iroh_first.chain(then_http),
    )?;
    let reader = bob.login_user("user", None)?;
    let key = reader.get_default_key()?;
    let joined = sync.join(&ticket, key, Permission::Read).await?;
    let dials = over_iroh.dials.load(Ordering::Relaxed);
    assert!(dials > 0);
    for _ in 0..5 {
        sync.sync_tree_with_peer(joined.peer, ticket.database())
            .await?;
    }
    let copy = reader.open_database(ticket.database())?;
    write(&database, "tuesday", "drink it");
    wait_for(|| read(&copy, "tuesday").is_some());
    assert_eq!(over_iroh.dials.load(Ordering::Relaxed), dials);

    over_iroh.close().await;
    write(&database, "wednesday", "buy more");
    wait_for(|| read(&copy, "wednesday").is_some());
    drop((reader, copy, author, database));
    tokio::task::spawn_blocking(move || drop((alice, bob)))
        .await
        .unwrap();
    Ok(())
}
