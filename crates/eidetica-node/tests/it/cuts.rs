//! Sessions over HTTP that are cut after so many bytes.

use std::{
    io::{Read, Write},
    net::{Shutdown, TcpListener, TcpStream},
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    thread,
};

use eidetica_auth::Permission;
use eidetica_transport::Address;

use crate::world::{Net, Peer};

/// Every so many bytes, from the first to the last.
const STEP: usize = 29;

/// Stands before a server, and lets only so many bytes through, of both directions and all connections together.
struct Proxy {
    address: Address,
    left: Arc<AtomicUsize>,
    ends: Arc<AtomicBool>,
}

impl Proxy {
    fn before(target: &Address) -> Self {
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
                    thread::spawn(move || pass(from, to, &budget));
                }
            }
        });
        Self {
            address,
            left,
            ends,
        }
    }

    fn let_through(&self, bytes: usize) {
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
fn pass(mut from: TcpStream, mut to: TcpStream, budget: &AtomicUsize) {
    let mut buffer = vec![0; 16 << 10];
    while let Ok(len @ 1..) = from.read(&mut buffer) {
        let take = |left: usize| Some(left.saturating_sub(len));
        let left = budget.fetch_update(Ordering::SeqCst, Ordering::SeqCst, take);
        let room = left.unwrap_or_default().min(len);
        if to.write_all(&buffer[..room]).is_err() || room < len {
            break;
        }
    }
    for socket in [from, to] {
        let _closed = socket.shutdown(Shutdown::Both);
    }
}

/// Handshakes, comparison, transfer both ways: wherever it is cut, the next session does the rest.
#[test]
fn a_session_cut_every_few_bytes_resumes() {
    let (alice, bob) = (Peer::new(&Net::Http, "alice"), Peer::new(&Net::Http, "bob"));
    let id = alice
        .create(&[(bob.key.public(), Permission::Write(5))], None)
        .id();
    let proxy = Proxy::before(&alice.serve());
    bob.try_sync(&proxy.address, id).unwrap();
    let (mut cut, mut whole) = (0, 0);
    for bytes in (0..).step_by(STEP) {
        let value = bytes.to_string();
        alice.write(id, "alice", &value);
        bob.write(id, "bob", &value);
        proxy.let_through(bytes);
        match bob.try_sync(&proxy.address, id) {
            Ok(()) => whole += 1,
            Err(_) => cut += 1,
        }
        proxy.let_through(usize::MAX);
        bob.try_sync(&proxy.address, id).unwrap();
        for peer in [&alice, &bob] {
            assert_eq!(peer.read(id, "alice").as_deref(), Some(&*value), "{bytes}");
            assert_eq!(peer.read(id, "bob").as_deref(), Some(&*value), "{bytes}");
        }
        assert_eq!(alice.tips(id), bob.tips(id));
        if whole > 2 {
            break;
        }
    }
    assert!(cut > 50, "{cut} sessions were cut");
}
