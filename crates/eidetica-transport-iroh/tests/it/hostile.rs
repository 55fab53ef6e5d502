//! Peers that speak something else, or nothing, or too much.

use std::time::Duration;

use bytes::Bytes;
use eidetica_transport::{
    FrameStream, Listener, Transport, TransportError,
    contract::{ask, echo_channel, pair, progress_of_a_long_frame},
    limits as transport_limits,
};
use eidetica_transport_iroh::{ALPN, IrohConfig, IrohLimits, limits};
use iroh::{Endpoint, EndpointAddr, RelayMode, endpoint::presets};

use crate::{echo_server, transport};

/// A bare endpoint on loopback.
async fn bare(alpn: &[u8]) -> Endpoint {
    Endpoint::builder(presets::Minimal)
        .relay_mode(RelayMode::Disabled)
        .clear_ip_transports()
        .bind_addr("127.0.0.1:0")
        .unwrap()
        .alpns(vec![alpn.to_vec()])
        .bind()
        .await
        .unwrap()
}

fn place(listener: &dyn Listener) -> EndpointAddr {
    serde_json::from_str(&listener.address().to_json().unwrap()).unwrap()
}

fn limited(change: impl FnOnce(&mut IrohLimits)) -> IrohConfig {
    let mut limits = IrohLimits::default();
    change(&mut limits);
    IrohConfig::local().with_limits(limits)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn another_protocol_is_refused_by_either_side() {
    let alice = transport(IrohConfig::local());
    let listener = alice.listen("").await.unwrap();
    let stranger = bare(b"other/1").await;
    assert!(
        stranger
            .connect(place(&*listener), b"other/1")
            .await
            .is_err()
    );
    let accepting = tokio::spawn({
        let stranger = stranger.clone();
        async move {
            while let Some(incoming) = stranger.accept().await {
                let _ = incoming.await;
            }
        }
    });
    let address = serde_json::to_string(&stranger.addr())
        .unwrap()
        .parse()
        .unwrap();
    let error = alice.connect(&address).await.err().unwrap();
    assert!(
        error
            .to_string()
            .contains("speaks no version of this protocol"),
        "{error}"
    );
    stranger.close().await;
    accepting.await.unwrap();
    alice.close().await;
}

/// What a stranger writes on streams, and what the one who reads them gets.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn garbage_on_streams_is_an_error_and_harms_nobody() {
    let alice = transport(limited(|limits| limits.idle = Duration::from_secs(3)));
    let mut listener = alice.listen("").await.unwrap();
    let stranger = bare(b"x").await;
    let (connection, served) =
        futures::join!(stranger.connect(place(&*listener), ALPN), listener.accept());
    let (connection, mut served) = (connection.unwrap(), served.unwrap());
    served.mark_proven();
    let too_long = (transport_limits::FRAME as u32 + 1).to_le_bytes();
    let head = |rest: &[u8]| [&[1], rest].concat();
    let cases: Vec<(Vec<u8>, &str)> = vec![
        (vec![], "cut off"),
        (vec![7], "breaks the transport protocol"),
        (vec![1], "cut off"),
        (head(&[9, 0]), "cut off"),
        (head(&[9, 0, 0, 0, 1, 2, 3]), "cut off"),
        (head(&too_long), "longer than"),
        (head(&[0xfe, 0xff, 0xff, 0xff]), "longer than"),
    ];
    for (bytes, expected) in cases {
        let (mut send, _receive) = connection.open_bi().await.unwrap();
        send.write_all(&bytes).await.unwrap();
        send.finish().unwrap();
        let (mut request, _response) = served.next_request().await.unwrap();
        let error = request.next().await.unwrap_err();
        assert!(error.to_string().contains(expected), "{bytes:?}: {error}");
    }
    // A frame that begins and does not go on.
    let (mut send, _receive) = connection.open_bi().await.unwrap();
    send.write_all(&head(&[9, 0, 0, 0, 1])).await.unwrap();
    let (mut request, _response) = served.next_request().await.unwrap();
    let error = request.next().await.unwrap_err();
    assert!(
        matches!(
            error,
            // Where nobody has time for the signs of life between, these end it at the same moment.
            TransportError::TimedOut {
                what: "data" | "sign of life",
                after_ms: 3_000
            }
        ),
        "{error}"
    );

    let bob = transport(IrohConfig::local());
    let (honest, honestly_served) = pair(&bob, &mut listener).await;
    honestly_served.mark_proven();
    let serving = tokio::spawn(echo_channel(honestly_served));
    let frames = vec![Bytes::from_static(b"still here")];
    assert_eq!(ask(&*honest, frames.clone()).await.unwrap(), frames);
    serving.abort();
    stranger.close().await;
    bob.close().await;
    alice.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_unproven_peer_sends_small_frames_and_few_requests() {
    let alice = transport(IrohConfig::local());
    let mut listener = alice.listen("").await.unwrap();
    let bob = transport(limited(|limits| {
        limits.response = Duration::from_millis(500)
    }));
    let (client, mut served) = pair(&bob, &mut listener).await;
    let mut open = Vec::new();
    for _ in 0..limits::UNPROVEN_REQUESTS {
        let (response, request) =
            futures::join!(client.request(FrameStream::empty()), served.next_request());
        open.push((response.unwrap(), request.unwrap()));
    }
    let error = client.request(FrameStream::empty()).await.err();
    assert_eq!(error, Some(TransportError::Busy));
    for (mut response, (request, sink)) in open {
        sink.finish();
        drop(request);
        assert_eq!(response.next().await, Ok(None));
    }
    for (len, passes) in [
        (limits::UNPROVEN_FRAME, true),
        (limits::UNPROVEN_FRAME + 1, false),
    ] {
        let body = FrameStream::of([Bytes::from(vec![1; len])]);
        let (_response, request) = futures::join!(client.request(body), served.next_request());
        let (mut request, _sink) = request.unwrap();
        assert_eq!(request.next().await.is_ok(), passes, "{len}");
    }
    served.mark_proven();
    let serving = tokio::spawn(echo_channel(served));
    let large = vec![Bytes::from(vec![1; limits::UNPROVEN_FRAME + 1])];
    assert_eq!(ask(&*client, large.clone()).await.unwrap(), large);
    serving.abort();
    bob.close().await;
    alice.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_peer_that_proves_nothing_is_closed() {
    let alice = transport(limited(|limits| {
        limits.handshake = Duration::from_millis(300)
    }));
    let mut listener = alice.listen("").await.unwrap();
    let bob = transport(IrohConfig::local());
    let (client, mut served) = pair(&bob, &mut listener).await;
    assert!(served.next_request().await.is_none());
    assert!(client.request(FrameStream::empty()).await.is_err());
    bob.close().await;
    alice.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_proven_peer_that_asks_nothing_is_forgotten_and_dials_again() {
    let alice = transport(limited(|limits| limits.unused = Duration::from_millis(300)));
    let mut listener = alice.listen("").await.unwrap();
    let bob = transport(IrohConfig::local());
    let (client, mut served) = pair(&bob, &mut listener).await;
    served.mark_proven();
    assert!(served.next_request().await.is_none());
    let error = client.request(FrameStream::empty()).await.err();
    assert_eq!(error, Some(TransportError::UnknownChannel));
    bob.close().await;
    alice.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_oldest_stranger_makes_room() {
    let alice = transport(limited(|limits| limits.unproven = 4));
    let mut listener = alice.listen("").await.unwrap();
    let bob = transport(IrohConfig::local());
    let (trusted, served) = pair(&bob, &mut listener).await;
    served.mark_proven();
    let serving = tokio::spawn(echo_channel(served));
    let mut silent = Vec::new();
    for _ in 0..5 {
        silent.push(pair(&bob, &mut listener).await);
    }
    let (_, oldest) = &mut silent[0];
    assert!(
        oldest.next_request().await.is_none(),
        "the oldest was dropped"
    );
    let (client, newest) = silent.pop().unwrap();
    newest.mark_proven();
    let serving_too = tokio::spawn(echo_channel(newest));
    let frames = vec![Bytes::from_static(b"room")];
    assert_eq!(ask(&*client, frames.clone()).await.unwrap(), frames);
    assert_eq!(ask(&*trusted, frames.clone()).await.unwrap(), frames);
    serving.abort();
    serving_too.abort();
    bob.close().await;
    alice.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_longest_idle_of_the_proven_goes_first() {
    let alice = transport(limited(|limits| limits.proven = 2));
    let mut listener = alice.listen("").await.unwrap();
    let bob = transport(IrohConfig::local());
    let mut channels = Vec::new();
    for _ in 0..3 {
        let (client, served) = pair(&bob, &mut listener).await;
        served.mark_proven();
        channels.push((client, served));
    }
    let (client, served) = &mut channels[0];
    assert!(served.next_request().await.is_none());
    assert_eq!(
        client.request(FrameStream::empty()).await.err(),
        Some(TransportError::UnknownChannel)
    );
    for (client, served) in &mut channels[1..] {
        let (response, request) =
            futures::join!(client.request(FrameStream::empty()), served.next_request());
        assert!(response.is_ok() && request.is_some());
    }
    bob.close().await;
    alice.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn unfinished_frames_share_a_budget() {
    let alice = transport(limited(|limits| limits.reassembly_bytes = 300_000));
    let mut listener = alice.listen("").await.unwrap();
    let bob = transport(IrohConfig::local());
    let (client, served) = pair(&bob, &mut listener).await;
    served.mark_proven();
    let serving = tokio::spawn(echo_channel(served));
    let small = vec![Bytes::from(vec![1; 250_000]); 3];
    assert_eq!(
        ask(&*client, small.clone()).await.unwrap(),
        small,
        "the budget is given back"
    );
    assert!(
        ask(&*client, vec![Bytes::from(vec![1; 700_000])])
            .await
            .is_err()
    );
    assert_eq!(
        ask(&*client, small.clone()).await.unwrap(),
        small,
        "also after an error"
    );
    serving.abort();
    bob.close().await;
    alice.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn stalled_clients_do_not_stop_an_honest_one() {
    let alice = transport(IrohConfig::local());
    let listener = alice.listen("").await.unwrap();
    let address = listener.address();
    let echo = echo_server(listener);
    let (slow, bob) = (
        transport(IrohConfig::local()),
        transport(IrohConfig::local()),
    );
    let big = Bytes::from(vec![1; 2 << 20]);
    let mut stalled = Vec::new();
    for _ in 0..20 {
        let channel = slow.connect(&address).await.unwrap();
        let body = FrameStream::of(vec![big.clone(); 8]);
        let response = channel.request(body).await.unwrap();
        stalled.push((channel, response));
    }
    let honest = async {
        let channel = bob.connect(&address).await.unwrap();
        for number in 0..20_u8 {
            let frames = vec![Bytes::from(vec![number; 10_000])];
            assert_eq!(ask(&*channel, frames.clone()).await.unwrap(), frames);
        }
    };
    tokio::time::timeout(Duration::from_secs(60), honest)
        .await
        .expect("an honest client waits for stalled ones");
    drop(stalled);
    echo.abort();
    slow.close().await;
    bob.close().await;
    alice.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn shutdown_lets_a_request_finish_and_cuts_one_that_does_not() {
    for finishes in [true, false] {
        let patience = Duration::from_millis(if finishes { 60_000 } else { 300 });
        let alice = transport(limited(|limits| limits.shutdown = patience));
        let mut listener = alice.listen("").await.unwrap();
        let bob = transport(IrohConfig::local());
        let (client, mut served) = pair(&bob, &mut listener).await;
        served.mark_proven();
        let (response, request) =
            futures::join!(client.request(FrameStream::empty()), served.next_request());
        let (mut response, (_request, mut sink)) = (response.unwrap(), request.unwrap());
        let work = async {
            if finishes {
                // Not before the server has begun to shut down.
                assert!(served.next_request().await.is_none());
                drop(_request);
                sink.send(Bytes::from_static(b"done")).await.unwrap();
                sink.finish();
                assert_eq!(response.next().await, Ok(Some(Bytes::from_static(b"done"))));
                assert_eq!(response.next().await, Ok(None));
            } else {
                assert!(response.next().await.is_err());
                drop((sink, _request));
            }
        };
        futures::join!(work, listener.shutdown());
        bob.close().await;
        alice.close().await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn parts_of_a_long_frame_are_progress() {
    let alice = transport(IrohConfig::local());
    let mut listener = alice.listen("").await.unwrap();
    let (channel, served) = pair(&transport(IrohConfig::local()), &mut listener).await;
    served.mark_proven();
    let _serving = tokio::spawn(echo_channel(served));
    let [sent, arrived] = progress_of_a_long_frame(&*channel).await;
    assert!(sent > 8 && arrived > 8, "{sent}, {arrived}");
}
