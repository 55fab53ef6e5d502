//! Where an endpoint is, and what it says of that.

use eidetica_transport::{Address, EndpointAddress, Transport, TransportError, contract::pair};
use eidetica_transport_iroh::{IrohConfig, IrohTransport};

use crate::{device, transport};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_local_endpoint_is_on_loopback_alone() {
    let alice = transport(IrohConfig::local());
    let listener = alice.listen("anything").await.unwrap();
    let address = listener.address();
    assert!(address.relay().is_none());
    let direct = address.endpoint().unwrap().direct();
    assert!(
        !direct.is_empty() && direct.iter().all(|socket| socket.ip().is_loopback()),
        "{address}"
    );
    alice.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_endpoint_has_the_device_key_also_after_a_restart() {
    let secret = device();
    let key = iroh::SecretKey::from_bytes(&secret).public();
    for _ in 0..2 {
        let alice = IrohTransport::new(&secret, IrohConfig::local());
        let listener = alice.listen("").await.unwrap();
        assert_eq!(listener.address().key().unwrap().as_bytes(), key.as_bytes());
        alice.close().await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_address_is_the_json_of_iroh() {
    let alice = transport(IrohConfig::local());
    let mut listener = alice.listen("").await.unwrap();
    let address = listener.address();
    let json = address.to_json().unwrap();
    let theirs: iroh::EndpointAddr = serde_json::from_str(&json).unwrap();
    let again: Address = serde_json::to_string(&theirs).unwrap().parse().unwrap();
    assert_eq!(again, address);
    let bob = transport(IrohConfig::local());
    let (client, server) = futures::join!(bob.connect(&again), listener.accept());
    assert_eq!(client.unwrap().binding(), server.unwrap().binding());
    bob.close().await;
    alice.close().await;
}

/// Whoever is at the place has to have the key that the address names, or nothing is said.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn another_device_at_the_place_is_refused() {
    let alice = transport(IrohConfig::local());
    let listener = alice.listen("").await.unwrap();
    let place = listener.address().endpoint().unwrap().clone();
    let other = iroh::SecretKey::from_bytes(&device()).public();
    let wrong = EndpointAddress::new(eidetica_entry::PublicKey::new(*other.as_bytes()))
        .with_direct(place.direct().iter().copied())
        .unwrap();
    let bob = transport(IrohConfig::local());
    let error = bob.connect(&wrong.into()).await.err().unwrap();
    assert!(
        !matches!(
            error,
            TransportError::Unsupported { .. } | TransportError::Closed
        ),
        "{error}"
    );
    bob.close().await;
    alice.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_cannot_be_dialled_says_why() {
    let bob = transport(IrohConfig::local());
    let unreachable = |error: TransportError, part: &str| {
        assert!(
            matches!(error, TransportError::Unreachable { .. }),
            "{error}"
        );
        assert!(error.to_string().contains(part), "{error}");
    };
    let http = Address::http("127.0.0.1:1").unwrap();
    assert_eq!(
        bob.connect(&http).await.err(),
        Some(TransportError::Unsupported { address: http })
    );
    let stranger = iroh::SecretKey::from_bytes(&device()).public();
    let bare = EndpointAddress::new(eidetica_entry::PublicKey::new(*stranger.as_bytes()));
    unreachable(
        bob.connect(&bare.into()).await.err().unwrap(),
        "no relay and no socket",
    );
    let listener = bob.listen("").await.unwrap();
    unreachable(
        bob.connect(&listener.address()).await.err().unwrap(),
        "this device",
    );
    bob.close().await;
    assert!(bob.connect(&listener.address()).await.is_err());
}

/// Requests share the connection, and a second channel to the same device is another connection.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn both_ends_may_dial_each_other() {
    let (alice, bob) = (
        transport(IrohConfig::local()),
        transport(IrohConfig::local()),
    );
    let mut alices = alice.listen("").await.unwrap();
    let mut bobs = bob.listen("").await.unwrap();
    let (one, _served) = pair(&bob, &mut alices).await;
    let (two, _served_too) = pair(&alice, &mut bobs).await;
    assert_ne!(one.binding(), two.binding());
    bob.close().await;
    alice.close().await;
}
