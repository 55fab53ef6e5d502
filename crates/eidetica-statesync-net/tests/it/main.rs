//! Driver and server together: over TCP on loopback, over a transport in memory, and against servers that misbehave.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test that fails panics"
)]

use std::io;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::time::Duration;

use eidetica_auth::SecretKey;
use eidetica_authdb::{Any, Kind, MemoryDisk, Operation, Options, Replica};
use eidetica_mmr::Digest;
use eidetica_statesync::{Config, DatabaseName, Evidence, Pin};
use eidetica_statesync_net::{
    Binding, Driver, DriverError, Endpoint, Identity, Outcome, Served, Server, ServerLimits,
    Silent, SourceNews, Stopper, Watcher, signed_by,
};
use eidetica_transport::{Address, Transport as _, memory::Hub};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::runtime::Runtime;

const PATIENCE: Duration = Duration::from_secs(60);

fn secret(number: u8) -> SecretKey {
    SecretKey::from_bytes(&[number; 32])
}

fn identity(own: u8, allowed: u8) -> Option<Identity> {
    Some(Identity::new(secret(own), &[secret(allowed).public()]))
}

fn name() -> DatabaseName {
    DatabaseName::new("any").unwrap()
}

fn config() -> Config {
    let mut config = Config::new(name(), Operation::length);
    config.timeout_ms = 500;
    config.target_interval_ms = 20;
    config
}

/// A database of two commits, served.
fn served(signer: Option<SecretKey>) -> (Arc<Served<Any>>, Digest) {
    let mut database = Any::open(Arc::new(MemoryDisk::new()), Options::new([1; 32])).unwrap();
    for number in 0..3000u32 {
        database
            .update(&(number % 900).to_le_bytes(), &number.to_le_bytes())
            .unwrap();
        if number % 100 == 99 {
            database.commit(None).unwrap();
        }
    }
    let root = database.root();
    (Arc::new(Served::new(name(), database, signer)), root)
}

fn serve(
    runtime: &Runtime,
    served: Arc<Served<Any>>,
    binding: Binding,
) -> Arc<Server<Any, Silent>> {
    let server = Server::new(served, ServerLimits::default(), Silent);
    let serving = Arc::clone(&server);
    runtime.spawn(async move { serving.listen(binding).await });
    server
}

/// Tells a test what it heard.
struct Telling(Sender<String>);

impl Watcher for Telling {
    fn persist(&mut self, pin: &Pin) -> io::Result<()> {
        self.0.send(format!("pin {}", pin.target.root())).ok();
        Ok(())
    }

    fn alarm(&mut self, _: Option<usize>, evidence: &Evidence) -> io::Result<()> {
        self.0.send(format!("alarm {:?}", evidence.kind)).ok();
        Ok(())
    }

    fn source(&mut self, source: usize, news: SourceNews<'_>) {
        self.0.send(format!("{source} {news:?}")).ok();
    }
}

struct Running {
    done: Receiver<Result<(Outcome, Replica), DriverError>>,
    heard: Receiver<String>,
    stopper: Stopper,
}

impl Running {
    fn start(runtime: &Runtime, config: Config, endpoints: Vec<Endpoint>) -> Self {
        let disk = Arc::new(MemoryDisk::new());
        let replica = Replica::open(disk, Kind::Any, Options::new([2; 32])).unwrap();
        let (driver, stopper) =
            Driver::new(config, replica, None, endpoints, runtime.handle()).unwrap();
        let (tell, heard) = channel();
        let (finish, done) = channel();
        std::thread::spawn(move || finish.send(driver.run(&mut Telling(tell))).ok());
        Self {
            done,
            heard,
            stopper,
        }
    }

    /// What is heard next with this text in it.
    fn hears(&self, text: &str) -> String {
        loop {
            let heard = self
                .heard
                .recv_timeout(PATIENCE)
                .unwrap_or_else(|_| panic!("nothing of {text:?}"));
            if heard.contains(text) {
                return heard;
            }
        }
    }

    fn ends(&self) -> (Outcome, Replica) {
        self.done.recv_timeout(PATIENCE).unwrap().unwrap()
    }
}

fn tcp(runtime: &Runtime) -> (TcpListener, Endpoint) {
    let listener = runtime.block_on(TcpListener::bind("127.0.0.1:0")).unwrap();
    let address = listener.local_addr().unwrap().to_string();
    (listener, Endpoint::Tcp { address })
}

#[test]
fn over_tcp() {
    let runtime = Runtime::new().unwrap();
    let (served, root) = served(None);
    let (listener, endpoint) = tcp(&runtime);
    let server = serve(&runtime, served, Binding::Tcp(listener));
    let running = Running::start(&runtime, config(), vec![endpoint]);
    let (outcome, replica) = running.ends();
    assert!(matches!(outcome, Outcome::Complete(target) if target.root() == root));
    assert_eq!(replica.root(), root);
    assert_eq!(
        running.hears("pin"),
        format!("pin {root}"),
        "kept at the end"
    );
    let copy = replica.into_any().unwrap();
    assert_eq!(
        copy.get(&7u32.to_le_bytes()).unwrap().unwrap(),
        2707u32.to_le_bytes()
    );
    runtime.block_on(server.stop());
}

#[test]
fn over_a_transport_with_proven_keys_and_signed_targets() {
    let runtime = Runtime::new().unwrap();
    let (hub, signer) = (Hub::new(), secret(3));
    let trusted = signer.public();
    let (served, root) = served(Some(signer));
    let listener = runtime.block_on(hub.transport().listen("server")).unwrap();
    let _server = serve(
        &runtime,
        served,
        Binding::Channels(listener, identity(1, 2)),
    );
    let endpoint = |identity| Endpoint::Channel {
        transport: Arc::new(hub.transport()),
        address: Address::memory("server").unwrap(),
        identity,
    };
    let mut trusting = config();
    trusting.trust = signed_by(trusted);
    let running = Running::start(&runtime, trusting.clone(), vec![endpoint(identity(2, 1))]);
    assert_eq!(running.ends().1.root(), root);

    // The server does not know 4, and 2 does not expect to find 1.
    for (own, allowed, text) in [(4, 1, "refuses"), (2, 4, "NotAllowed")] {
        let running = Running::start(
            &runtime,
            trusting.clone(),
            vec![endpoint(identity(own, allowed))],
        );
        let heard = running.hears("Unreachable");
        assert!(heard.contains(text) || heard.contains("Refused"), "{heard}");
        running.stopper.stop();
        assert_eq!(running.ends().0, Outcome::Stopped);
    }

    trusting.trust = signed_by(secret(1).public());
    let running = Running::start(&runtime, trusting, vec![endpoint(identity(2, 1))]);
    running.hears("Signature");
    assert!(matches!(
        running.done.recv_timeout(PATIENCE).unwrap(),
        Err(DriverError::NoSources)
    ));
}

/// Accepts connections for ever, reads a request on each, and sends these bytes instead of an answer.
async fn misbehave(listener: TcpListener, answer: &'static [u8]) {
    let mut open: Vec<TcpStream> = Vec::new();
    while let Ok((mut stream, _)) = listener.accept().await {
        let length = stream.read_u32_le().await.unwrap();
        let mut request = vec![0; length as usize];
        stream.read_exact(&mut request).await.unwrap();
        stream.write_all(answer).await.unwrap();
        open.push(stream);
    }
}

#[test]
fn one_bad_server_does_not_hold_up_the_others() {
    let behaviours: [(&'static [u8], &str); 5] = [
        (b"", "Late"),
        (b"HTTP/1.1 400 Bad Request", "Foreign"),
        (b"\x04\0\0\0what", "Fault"),
        (b"\x04\0\0\0what\x04\0\0\0what", "Unasked"),
        (b"\xff\xff\xff\xff", "Foreign"),
    ];
    for (answer, expected) in behaviours {
        let runtime = Runtime::new().unwrap();
        let (listener, bad) = tcp(&runtime);
        runtime.spawn(misbehave(listener, answer));
        let alone = Running::start(&runtime, config(), vec![bad.clone()]);
        let heard = alone.hears(expected);
        assert!(heard.starts_with("0 "), "{heard}");
        alone.stopper.stop();
        alone.done.recv_timeout(PATIENCE).unwrap().ok();

        let (served, root) = served(None);
        let (listener, good) = tcp(&runtime);
        let _server = serve(&runtime, served, Binding::Tcp(listener));
        let both = Running::start(&runtime, config(), vec![bad, good]);
        assert_eq!(both.ends().1.root(), root);
    }
}

#[test]
fn a_source_that_is_away_is_tried_again() {
    let runtime = Runtime::new().unwrap();
    let (listener, endpoint) = tcp(&runtime);
    let Endpoint::Tcp { address } = endpoint.clone() else {
        panic!("another endpoint")
    };
    drop(listener);
    let running = Running::start(&runtime, config(), vec![endpoint]);
    running.hears("0 Unreachable");
    let listener = runtime.block_on(TcpListener::bind(address)).unwrap();
    let (served, root) = served(None);
    let _server = serve(&runtime, served, Binding::Tcp(listener));
    assert_eq!(running.ends().1.root(), root);
}
