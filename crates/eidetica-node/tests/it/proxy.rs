//! What stands between a node and a server that speaks HTTP.

use std::{
    io::{Read, Write},
    net::{Shutdown, TcpListener, TcpStream},
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    thread,
    time::Duration,
};

use eidetica_transport::Address;

/// Bytes that are passed on at once.
pub(crate) const PIECE: usize = 16 << 10;

/// Stands before a server, and lets only so many bytes through, of both directions and all connections together.
pub(crate) struct Proxy {
    pub(crate) address: Address,
    left: Arc<AtomicUsize>,
    ends: Arc<AtomicBool>,
}

impl Proxy {
    pub(crate) fn before(target: &Address) -> Self {
        Self::with_pace(target, Duration::ZERO)
    }

    /// One over a link that takes so long for each [`PIECE`] of a connection and a direction.
    pub(crate) fn with_pace(target: &Address, pace: Duration) -> Self {
        let target = format!("{}:{}", target.host(), target.port().unwrap());
        let socket = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = Address::http(&socket.local_addr().unwrap().to_string()).unwrap();
        let left = Arc::new(AtomicUsize::new(usize::MAX));
        let ends = Arc::new(AtomicBool::new(false));
        let (budget, is_over) = (Arc::clone(&left), Arc::clone(&ends));
        thread::spawn(move || {
            while let Ok((client, _)) = socket.accept() {
                if is_over.load(Ordering::Relaxed) {
                    return;
                }
                let Ok(server) = TcpStream::connect(&target) else {
                    continue;
                };
                for (from, to) in [(&client, &server), (&server, &client)] {
                    let (from, to) = (from.try_clone().unwrap(), to.try_clone().unwrap());
                    let budget = Arc::clone(&budget);
                    thread::spawn(move || pass(from, to, &budget, pace));
                }
            }
        });
        Self {
            address,
            left,
            ends,
        }
    }

    pub(crate) fn let_through(&self, bytes: usize) {
        self.left.store(bytes, Ordering::SeqCst);
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.ends.store(true, Ordering::Relaxed);
        // Wakes whoever accepts.
        let at = format!("127.0.0.1:{}", self.address.port().unwrap());
        let _woken = TcpStream::connect(at);
    }
}

/// Passes on what there is room for, then cuts.
fn pass(mut from: TcpStream, mut to: TcpStream, budget: &AtomicUsize, pace: Duration) {
    let mut buffer = vec![0; PIECE];
    while let Ok(len @ 1..) = from.read(&mut buffer) {
        let take = |left: usize| Some(left.saturating_sub(len));
        let left = budget.fetch_update(Ordering::SeqCst, Ordering::SeqCst, take);
        let room = left.unwrap_or_default().min(len);
        // Nobody unparks it.
        thread::park_timeout(pace * len as u32 / PIECE as u32);
        if to.write_all(&buffer[..room]).is_err() || room < len {
            break;
        }
    }
    for socket in [from, to] {
        let _closed = socket.shutdown(Shutdown::Both);
    }
}
