//! Two nodes of one service behind a load balancer: one that keeps a client with a node, as the deployment page has it, and
//! one that gives each connection to the next node.

use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;

use eidetica::sync::Address;
use eidetica::{Database, Id, Instance, User};
use futures::executor::block_on;

use crate::fresh;
use crate::processes::{USER, begin, client, commit, online, open};

/// Which node each connection of a client goes to first.
#[derive(Clone, Copy)]
enum Balance {
    /// Always this one.
    Keep(usize),
    /// Another one than the last.
    Alternate,
}

/// What a client reaches: a place that hands each connection on to a node, or to the other one where that does not
/// answer. Says how many connections each has got.
fn front(nodes: &[SocketAddr; 2], balance: Balance) -> (Address, Arc<[AtomicUsize; 2]>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = format!("http://{}", listener.local_addr().unwrap());
    let counts: Arc<[AtomicUsize; 2]> = Arc::default();
    let (counted, nodes) = (Arc::clone(&counts), *nodes);
    thread::spawn(move || {
        for (n, accepted) in listener.incoming().map_while(Result::ok).enumerate() {
            let first = match balance {
                Balance::Keep(node) => node,
                Balance::Alternate => n % 2,
            };
            let mut tried = [first, 1 - first].into_iter();
            let reached = tried.find_map(|at| Some((at, TcpStream::connect(nodes[at]).ok()?)));
            let Some((at, node)) = reached else {
                continue;
            };
            counted[at].fetch_add(1, Ordering::SeqCst);
            let ways = [
                (accepted.try_clone().unwrap(), node.try_clone().unwrap()),
                (node, accepted),
            ];
            for (mut from, mut to) in ways {
                thread::spawn(move || {
                    std::io::copy(&mut from, &mut to).ok();
                    to.shutdown(Shutdown::Both).ok();
                });
            }
        }
    });
    (address.parse().unwrap(), counts)
}

/// Two nodes that serve as one, with a database that everybody may write.
fn service() -> ([Instance; 2], [SocketAddr; 2], Id) {
    let url = fresh();
    let id = begin(&url);
    let nodes = ["a", "b"].map(|name| open(&url, Some(name)));
    let places = nodes.each_ref().map(|node| {
        node.login_user(USER, None).unwrap();
        let sync = online(node);
        sync.start_service("127.0.0.1:0").unwrap();
        let address = sync.get_server_address().unwrap().to_string();
        address.trim_start_matches("http://").parse().unwrap()
    });
    (nodes, places, id)
}

struct Client {
    instance: Instance,
    user: User,
    front: Address,
    reached: Arc<[AtomicUsize; 2]>,
    id: Id,
}

impl Client {
    fn new(nodes: &[SocketAddr; 2], balance: Balance, id: Id) -> Self {
        let (front, reached) = front(nodes, balance);
        let (instance, user) = client("somebody");
        Self {
            instance,
            user,
            front,
            reached,
            id,
        }
    }

    /// Syncs until it works; how many attempts that took.
    fn sync(&self, limit: usize) -> usize {
        let sync = self.instance.sync().unwrap();
        let mut last = None;
        for attempt in 1..=limit {
            match block_on(sync.sync_with_peer(&self.front, Some(&self.id))) {
                Ok(_) => return attempt,
                Err(error) => last = Some(error),
            }
        }
        panic!("{} attempts: {last:?}", limit);
    }

    fn database(&self) -> Database {
        self.user.open_database(self.id).unwrap()
    }

    fn reached(&self) -> [usize; 2] {
        self.reached
            .each_ref()
            .map(|count| count.load(Ordering::SeqCst))
    }
}

fn rows_at(node: &Instance, id: Id) -> usize {
    let user = node.login_user(USER, None).unwrap();
    let rows = user
        .open_database(id)
        .unwrap()
        .table::<serde_json::Value>("rows");
    rows.unwrap().get_all().unwrap().len()
}

#[test]
fn clients_stay_with_a_node_and_move_when_it_is_gone() {
    let (nodes, places, id) = service();
    let clients: Vec<Client> = (0..4)
        .map(|n| Client::new(&places, Balance::Keep(n % 2), id))
        .collect();
    for (n, client) in clients.iter().enumerate() {
        assert_eq!(client.sync(1), 1);
        for row in 0..3 {
            commit(&client.database(), &format!("{n}.{row}")).unwrap();
            assert_eq!(client.sync(1), 1);
        }
        let peers = client.instance.sync().unwrap().list_peers().unwrap();
        assert_eq!(peers.len(), 1);
        assert_eq!(peers[0].pubkey, nodes[0].service_key());
        assert_eq!(client.reached()[1 - n % 2], 0);
    }
    for node in &nodes {
        assert_eq!(rows_at(node, id), 12);
    }
    // Its clients find that nobody answers, and open other channels at the other one.
    nodes[0].sync().unwrap().stop_server().unwrap();
    for (n, client) in clients.iter().enumerate() {
        commit(&client.database(), &format!("{n}.late")).unwrap();
        client.sync(5);
    }
    assert!(clients[0].reached()[1] > 0);
    assert_eq!(rows_at(&nodes[1], id), 16);
}

/// Without that, a client now and then meets a node that does not know its channel. It opens another, so it loses time and
/// nothing else.
#[test]
fn clients_whose_connections_alternate_lose_nothing() {
    let (nodes, places, id) = service();
    let clients: Vec<Client> = (0..3)
        .map(|_| Client::new(&places, Balance::Alternate, id))
        .collect();
    let mut attempts = Vec::new();
    for row in 0..8 {
        for (n, client) in clients.iter().enumerate() {
            if row > 0 {
                commit(&client.database(), &format!("{n}.{row}")).unwrap();
            }
            attempts.push(client.sync(20));
        }
    }
    let reached: Vec<_> = clients.iter().map(Client::reached).collect();
    eprintln!("attempts {attempts:?}, connections {reached:?}");
    assert!(reached.iter().all(|nodes| nodes.iter().all(|n| *n > 0)));
    for node in &nodes {
        assert_eq!(rows_at(node, id), 21);
    }
}
