//! A TCP proxy between client and server that records, changes and cuts.

use std::{
    net::SocketAddr,
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering},
    },
};

use eidetica_transport::Address;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
};

/// What the proxy does to the bytes of one direction, counted over all connections.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fault {
    None,
    /// Flips a bit of byte n.
    Flip(usize),
    /// Closes everything before byte n.
    Cut(usize),
}

#[derive(Default)]
struct Direction {
    seen: Vec<u8>,
}

/// A running proxy.
pub(crate) struct Proxy {
    pub(crate) address: Address,
    directions: [Arc<Mutex<Direction>>; 2],
    connections: Arc<AtomicUsize>,
    task: tokio::task::JoinHandle<()>,
}

impl Proxy {
    /// Stands before `target`; `faults` are for the bytes to the server and to the client.
    pub(crate) async fn start(target: &Address, faults: [Fault; 2]) -> Self {
        let target: SocketAddr = format!("{}:{}", target.host(), target.port().unwrap())
            .parse()
            .unwrap();
        let socket = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = Address::http(&socket.local_addr().unwrap().to_string()).unwrap();
        let directions = [Arc::default(), Arc::default()];
        let shared = directions.clone();
        let connections = Arc::new(AtomicUsize::new(0));
        let counted = Arc::clone(&connections);
        let task = tokio::spawn(async move {
            let mut running = tokio::task::JoinSet::new();
            while let Ok((client, _)) = socket.accept().await {
                counted.fetch_add(1, Ordering::Relaxed);
                let Ok(server) = TcpStream::connect(target).await else {
                    continue;
                };
                let [up, down] = shared.clone();
                running.spawn(async move {
                    let ((client_read, client_write), (server_read, server_write)) =
                        (client.into_split(), server.into_split());
                    tokio::select! {
                        () = copy(client_read, server_write, up, faults[0]) => {}
                        () = copy(server_read, client_write, down, faults[1]) => {}
                    }
                });
            }
        });
        Self {
            address,
            directions,
            connections,
            task,
        }
    }

    /// How many connections were made.
    pub(crate) fn connections(&self) -> usize {
        self.connections.load(Ordering::Relaxed)
    }

    /// The bytes that went to the server and to the client.
    pub(crate) fn seen(&self) -> [Vec<u8>; 2] {
        self.directions
            .clone()
            .map(|direction| direction.lock().unwrap().seen.clone())
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn copy(
    mut from: tokio::net::tcp::OwnedReadHalf,
    mut to: tokio::net::tcp::OwnedWriteHalf,
    direction: Arc<Mutex<Direction>>,
    fault: Fault,
) {
    let mut buffer = vec![0; 64 << 10];
    while let Ok(len @ 1..) = from.read(&mut buffer).await {
        let bytes = &mut buffer[..len];
        let start = {
            let mut direction = direction.lock().unwrap();
            let start = direction.seen.len();
            direction.seen.extend_from_slice(bytes);
            start
        };
        let mut take = len;
        match fault {
            Fault::Flip(at) if (start..start + len).contains(&at) => bytes[at - start] ^= 0x10,
            Fault::Cut(at) if start + len > at => take = at.saturating_sub(start),
            _ => {}
        }
        if to.write_all(&bytes[..take]).await.is_err() || take < len {
            return;
        }
    }
}
