//! Through a relay that the test starts, on loopback. One end is on IPv4 alone and the other on IPv6 alone, so that nothing
//! goes directly.

use std::{net::Ipv4Addr, time::Duration};

use bytes::Bytes;
use eidetica_transport::{
    Address, EndpointAddress, Listener, Transport, TransportError,
    contract::{ask, pair},
};
use eidetica_transport_iroh::{IrohConfig, IrohLimits, IrohTransport, Relays};
use iroh_relay::server::{RelayConfig, Server, ServerConfig};

use crate::{echo_server, transport};

/// A relay on loopback.
pub(crate) async fn relay() -> (Server, Relays) {
    relay_at(Ipv4Addr::LOCALHOST).await
}

/// A relay without TLS: what it carries is encrypted anyway.
pub(crate) async fn relay_at(ip: Ipv4Addr) -> (Server, Relays) {
    let mut config = ServerConfig::default();
    config.relay = Some(RelayConfig::new((ip, 0)));
    let server = Server::spawn(config).await.unwrap();
    let url = format!("http://{}", server.http_addr().unwrap());
    (server, url.parse().unwrap())
}

fn on(bind: &str, relays: &Relays, limits: IrohLimits) -> IrohTransport {
    let config = IrohConfig::local()
        .with_relays(relays.clone())
        .with_bind(vec![bind.parse().unwrap()])
        .with_limits(limits);
    transport(config)
}

/// Where an endpoint can be that one on IPv4 alone cannot reach; says on standard error if that is nowhere here.
pub(crate) fn other_family() -> Option<&'static str> {
    let bind = "[::1]:0";
    let there = std::net::UdpSocket::bind(bind);
    if let Err(error) = &there {
        eprintln!("==> NOT tested through a relay: {error}");
    }
    there.is_ok().then_some(bind)
}

/// Where it is by its relay alone.
fn by_relay(listener: &dyn Listener) -> Address {
    let address = listener.address();
    let relay = address.relay().expect("at home at the relay").clone();
    EndpointAddress::new(*address.key().unwrap())
        .with_relay(relay)
        .into()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_cannot_go_directly_goes_through_the_relay() {
    let Some(bind) = other_family() else { return };
    let (server, relays) = relay().await;
    let limits = IrohLimits::default();
    let (alice, bob) = (
        on("127.0.0.1:0", &relays, limits),
        on(bind, &relays, limits),
    );
    let listener = alice.listen("").await.unwrap();
    let address = by_relay(&*listener);
    let echo = echo_server(listener);
    let channel = bob.connect(&address).await.unwrap();
    let frames = vec![
        Bytes::from(vec![1; 200_000]),
        Bytes::from_static(b"the end"),
    ];
    assert_eq!(ask(&*channel, frames.clone()).await.unwrap(), frames);
    drop(channel);
    echo.abort();
    bob.close().await;
    alice.close().await;
    server.shutdown().await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_relay_that_vanishes_is_a_clear_error() {
    let Some(bind) = other_family() else { return };
    let (server, relays) = relay().await;
    let mut limits = IrohLimits::default();
    limits.idle = Duration::from_secs(4);
    limits.dial = Duration::from_secs(2);
    let (alice, bob) = (
        on("127.0.0.1:0", &relays, limits),
        on(bind, &relays, limits),
    );
    let mut listener = alice.listen("").await.unwrap();
    let address = by_relay(&*listener);
    let channel = {
        let (channel, served) = futures::join!(bob.connect(&address), listener.accept());
        served.unwrap().mark_proven();
        channel.unwrap()
    };
    server.shutdown().await.unwrap();
    let error = ask(&*channel, vec![Bytes::from_static(b"anybody?")])
        .await
        .unwrap_err();
    let clear = matches!(
        error,
        TransportError::TimedOut { .. } | TransportError::PeerGone | TransportError::UnknownChannel
    );
    assert!(clear, "{error}");
    let error = bob.connect(&address).await.err().unwrap();
    assert!(
        matches!(
            error,
            TransportError::TimedOut { .. } | TransportError::Unreachable { .. }
        ),
        "{error}"
    );
    // With a new relay nothing is dialled that was not said: the old address stays dead, a direct one works.
    let carol = transport(IrohConfig::local());
    let (_, _served) = pair(&carol, &mut listener).await;
    for transport in [alice, bob, carol] {
        transport.close().await;
    }
}

/// A relay that is not there does not stop those who reach each other without.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_dead_relay_stops_nobody_from_going_directly() {
    let dead = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let relays: Relays = format!("http://{}", dead.local_addr().unwrap())
        .parse()
        .unwrap();
    drop(dead);
    let mut limits = IrohLimits::default();
    limits.online = Duration::from_millis(200);
    let alice = on("127.0.0.1:0", &relays, limits);
    let bob = transport(IrohConfig::local());
    let mut listener = alice.listen("").await.unwrap();
    let (_client, _served) = pair(&bob, &mut listener).await;
    bob.close().await;
    alice.close().await;
}
