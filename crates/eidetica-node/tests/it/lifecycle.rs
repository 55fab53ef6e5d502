//! Starting, stopping, restarting, and what is not there.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use eidetica_auth::Permission;
use eidetica_engine::{EngineError, Target};
use eidetica_node::{NodeError, NodeLimits};
use eidetica_protocol::BootstrapAnswer;
use eidetica_transport::{Address, Transport, TransportError};
use futures::{executor::block_on, future::BoxFuture};

use crate::world::{Net, Peer, eventually, on_selected};

on_selected!(
    a_port_in_use_is_a_typed_error,
    an_unreachable_peer_is_a_typed_error,
    a_restart_keeps_what_was_known
);

fn a_port_in_use_is_a_typed_error(net: &Net) {
    let (alice, bob) = (Peer::new(net, "alice"), Peer::new(net, "bob"));
    assert!(!alice.node.is_server_running());
    let address = alice.serve();
    assert_eq!(
        alice.node.server_addresses(),
        std::slice::from_ref(&address)
    );
    let bind = address.to_string().split_once("://").unwrap().1.to_owned();
    // An endpoint of Iroh has a place of its own, whatever it is told.
    let has_places = !matches!(net, Net::Iroh);
    if has_places {
        let refused = bob.node.start_server(&bind).wait();
        assert_eq!(
            refused,
            Err(NodeError::Transport(TransportError::InUse {
                bind: bind.clone()
            }))
        );
        assert!(!bob.node.is_server_running());
    }
    assert_eq!(
        alice.node.start_server("elsewhere").wait(),
        Err(NodeError::ServerRunning)
    );
    alice.node.stop_server().wait().unwrap();
    assert!(!alice.node.is_server_running());
    assert_eq!(
        alice.node.stop_server().wait(),
        Err(NodeError::ServerNotRunning)
    );
    bob.node.start_server(&bind).wait().unwrap();
}

fn an_unreachable_peer_is_a_typed_error(net: &Net) {
    let (alice, bob) = (Peer::new(net, "alice"), Peer::new(net, "bob"));
    let address = alice.serve();
    alice.node.stop_server().wait().unwrap();
    let failed = bob.node.connect(Target::Address(address)).wait();
    let Err(NodeError::Engine(EngineError::Connect(error))) = failed else {
        panic!("{failed:?}")
    };
    assert!(
        !error.peer_fault && error.text.contains("unreachable"),
        "{error}"
    );
    let (other, scheme) = match net {
        Net::Iroh => (Address::memory("m").unwrap(), "memory"),
        _ => (Address::iroh(&"0a".repeat(32)).unwrap(), "iroh"),
    };
    let failed = bob.node.connect(Target::Address(other)).wait();
    let Err(NodeError::Engine(EngineError::Connect(error))) = failed else {
        panic!("{failed:?}")
    };
    assert!(
        error
            .text
            .contains(&format!("no transport enabled for {scheme}")),
        "{error}"
    );
}

/// Another address is tried meanwhile, and whoever loses is not waited for.
#[test]
fn an_address_where_nobody_answers_holds_up_nothing() {
    let net = Net::memory();
    let mut limits = NodeLimits::default();
    limits.handshake = Duration::from_secs(100);
    let (alice, bob) = (
        Peer::new(&net, "alice"),
        Peer::with_limits(&net, "bob", limits),
    );
    let Net::Memory(hub) = &net else { panic!() };
    let mut deaf = block_on(hub.transport().listen("deaf")).unwrap();
    let (key, good) = (alice.node.device(), alice.serve());
    let begun = Instant::now();
    let reached = bob.node.connect(Target::Device {
        key,
        addresses: vec![deaf.address(), good.clone()],
    });
    assert_eq!(reached.wait(), Ok(key));
    assert_eq!(bob.node.peer(&key).unwrap().addresses, [good]);
    block_on(async {
        let mut channel = deaf.accept().await.unwrap();
        while let Some(request) = channel.next_request().await {
            drop(request);
        }
    });
    assert!(begun.elapsed() < limits.handshake / 2);
}

fn a_restart_keeps_what_was_known(net: &Net) {
    let (alice, bob) = (Peer::new(net, "alice"), Peer::new(net, "bob"));
    let open = alice
        .create(&[(bob.key.public(), Permission::Write(1))], None)
        .id();
    let closed = alice.create(&[], None).id();
    let address = alice.serve();
    bob.try_sync(&address, open).unwrap();
    let asked = bob
        .node
        .bootstrap(
            Target::Address(address.clone()),
            bob.request(closed, Permission::Read),
        )
        .wait();
    let BootstrapAnswer::Pending(request) = asked.unwrap().answer else {
        panic!("not pending")
    };

    let (alice, bob) = (alice.restart(), bob.restart());
    assert_eq!(alice.node.incoming_requests()[0].id, request);
    assert_eq!(bob.node.outgoing_requests()[0].id, request);
    let device = alice.node.device();
    assert_eq!(bob.node.peer(&device).unwrap().addresses, [address]);
    assert_eq!(bob.node.related(&device), [open]);
    assert!(bob.node.cursor(&device, &open).is_some());
    assert_eq!(bob.node.stats(&device).unwrap().successes, 1);
    assert_eq!(bob.node.claims().len(), 1);

    let address = alice.serve();
    bob.node
        .add_peer_address(device, address.clone())
        .wait()
        .unwrap();
    alice
        .node
        .approve(request, alice.key.public())
        .wait()
        .unwrap();
    assert_eq!(
        bob.node.poll_request(request).wait().unwrap().answer,
        BootstrapAnswer::Granted
    );
    bob.try_sync(&address, closed).unwrap();
}

#[test]
fn a_server_that_restarts_on_its_port_is_found_again() {
    let (alice, bob) = (Peer::new(&Net::Http, "alice"), Peer::new(&Net::Http, "bob"));
    let id = alice
        .create(&[(bob.key.public(), Permission::Read)], None)
        .id();
    let address = alice.serve();
    bob.try_sync(&address, id).unwrap();
    alice.node.stop_server().wait().unwrap();
    alice.write(id, "after", "the restart");
    let bind = format!("127.0.0.1:{}", address.port().unwrap());
    alice.node.start_server(&bind).wait().unwrap();
    bob.try_sync(&address, id).unwrap();
    assert_eq!(bob.read(id, "after").as_deref(), Some("the restart"));
}

#[test]
fn without_a_transport_there_is_no_server() {
    let peer = Peer::new(&Net::memory(), "alice");
    assert!(peer.node.is_enabled(eidetica_transport::Scheme::Memory));
    assert!(!peer.node.is_enabled(eidetica_transport::Scheme::Http));
    peer.node.enable(Net::Http.transport(&[1; 32]));
    assert!(peer.node.is_enabled(eidetica_transport::Scheme::Http));
}

#[test]
fn a_stopped_node_is_an_error_and_not_a_hang() {
    let net = Net::memory();
    let peer = Peer::new(&net, "alice");
    peer.serve();
    let handle = peer.node.clone();
    let backend = peer.backend_alive();
    peer.node.shutdown().wait().unwrap();
    assert!(handle.is_stopped());
    assert_eq!(
        backend.strong_count(),
        1,
        "something still holds the backend"
    );
    assert!(!handle.is_server_running());
    assert_eq!(handle.flush().wait(), Err(NodeError::Stopped));
    assert_eq!(handle.start_server("alice").wait(), Err(NodeError::Stopped));
    let target = Target::Address(Address::memory("bob").unwrap());
    assert_eq!(handle.connect(target).wait(), Err(NodeError::Stopped));
    handle.announce(eidetica_entry::Id::new([1; 32]), true);
    handle.shutdown().wait().unwrap();
    // Its name is free again.
    let other = Peer::new(&net, "alice");
    other.serve();
}

#[test]
fn the_last_handle_stops_the_node() {
    let net = Net::memory();
    let alice = Peer::new(&net, "alice");
    let address = alice.serve();
    let backend = alice.backend_alive();
    drop(alice);
    let bob = Peer::new(&net, "bob");
    eventually("the end of the server", || {
        bob.node
            .connect(Target::Address(address.clone()))
            .wait()
            .is_err()
    });
    eventually("the end of the driver", || backend.upgrade().is_none());
}

#[test]
fn waiting_commands_learn_of_the_end() {
    let net = Net::memory();
    let (alice, bob) = (Peer::new(&net, "alice"), Peer::new(&net, "bob"));
    let address = alice.serve();
    let Net::Memory(hub) = &net else {
        unreachable!()
    };
    let (dialled, dials) = std::sync::mpsc::channel();
    let never = Arc::new(move |_| -> BoxFuture<'static, ()> {
        // Nobody listens any more once the test is over.
        let _ = dialled.send(());
        Box::pin(std::future::pending())
    });
    let faults = eidetica_transport::memory::Faults {
        delay: Some(never),
        ..Default::default()
    };
    hub.set_faults("alice", faults);
    let waiting = bob.node.connect(Target::Address(address));
    dials.recv().unwrap();
    bob.node.shutdown().wait().unwrap();
    assert_eq!(waiting.wait(), Err(NodeError::Engine(EngineError::Stopped)));
}
