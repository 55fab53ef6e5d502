//! A command can be waited for anywhere.

use eidetica_auth::Permission;
use eidetica_engine::Target;

use crate::world::{Net, Peer, eventually};

/// Bob, who may sync a database of alice's.
fn pair() -> (Peer, Peer, eidetica_transport::Address, eidetica_entry::Id) {
    let net = Net::memory();
    let (alice, bob) = (Peer::new(&net, "alice"), Peer::new(&net, "bob"));
    let id = alice
        .create(&[(bob.key.public(), Permission::Write(1))], None)
        .id();
    let address = alice.serve();
    (alice, bob, address, id)
}

#[test]
fn on_a_plain_executor() {
    let (_alice, bob, address, id) = pair();
    let report = futures::executor::block_on(bob.sync(&address, id)).unwrap();
    report.check().unwrap();
    futures::executor::block_on(async { bob.sync(&address, id).wait().unwrap() })
        .check()
        .unwrap();
}

#[test]
fn on_tokio_with_one_thread_blocking_or_not() {
    let (_alice, bob, address, id) = pair();
    let runtime = tokio::runtime::Builder::new_current_thread()
        .build()
        .unwrap();
    runtime.block_on(async {
        bob.sync(&address, id).await.unwrap().check().unwrap();
        bob.sync(&address, id).wait().unwrap().check().unwrap();
    });
}

#[test]
fn on_tokio_with_many_threads() {
    let (_alice, bob, address, id) = pair();
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .build()
        .unwrap();
    runtime.block_on(async {
        let synced = tokio::spawn(bob.sync(&address, id)).await.unwrap();
        synced.unwrap().check().unwrap();
        bob.sync(&address, id).wait().unwrap().check().unwrap();
    });
}

#[test]
fn not_at_all() {
    let (_alice, bob, address, id) = pair();
    drop(bob.sync(&address, id));
    eventually("the work of an abandoned wait", || bob.has(id));
}

#[test]
fn many_at_once() {
    let (alice, bob, address, id) = pair();
    let syncs: Vec<_> = (0..200).map(|_| bob.sync(&address, id)).collect();
    let connects: Vec<_> = (0..200)
        .map(|_| bob.node.connect(Target::Address(address.clone())))
        .collect();
    for sync in syncs {
        sync.wait().unwrap().check().unwrap();
    }
    for connect in connects {
        assert_eq!(connect.wait().unwrap(), alice.node.device());
    }
}
