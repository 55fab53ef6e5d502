//! Each limit, at it and one above.

use std::time::Duration;

use bytes::Bytes;
use eidetica_transport::{
    FrameStream, Transport, TransportError,
    contract::{ask, echo_channel},
    pipe,
};
use eidetica_transport_http::{HttpLimits, HttpTransport, limits};
use tokio::{io::AsyncReadExt, net::TcpStream};

use crate::{dial, listen, pair};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_oldest_unproven_channel_goes_first() {
    let mut limits = HttpLimits::default();
    limits.unproven = 3;
    let mut listener = listen(limits).await;
    let mut channels = Vec::new();
    for _ in 0..4 {
        channels.push(pair(&mut listener).await);
    }
    let (_, oldest) = &mut channels[0];
    assert!(
        oldest.next_request().await.is_none(),
        "the oldest is still there"
    );
    for (client, server) in &mut channels[1..] {
        let (response, request) =
            futures::join!(client.request(FrameStream::empty()), server.next_request());
        assert!(response.is_ok() && request.is_some());
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn proven_channels_do_not_count_as_unproven_and_the_idlest_goes_first() {
    let mut limits = HttpLimits::default();
    limits.unproven = 1;
    limits.proven = 3;
    let mut listener = listen(limits).await;
    let mut channels = Vec::new();
    for _ in 0..4 {
        let (client, server) = pair(&mut listener).await;
        server.mark_proven();
        server.mark_proven();
        channels.push((client, server));
    }
    assert!(
        channels[0].1.next_request().await.is_none(),
        "the idlest is still there"
    );
    for (client, server) in &mut channels[1..] {
        let (response, request) =
            futures::join!(client.request(FrameStream::empty()), server.next_request());
        assert!(response.is_ok() && request.is_some());
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn unproven_channels_expire_soon_and_proven_ones_when_idle() {
    let mut limits = HttpLimits::default();
    limits.handshake = Duration::from_millis(200);
    let mut listener = listen(limits).await;
    let (client, mut server) = pair(&mut listener).await;
    assert!(
        server.next_request().await.is_none(),
        "an unproven channel expires"
    );
    assert_eq!(
        client.request(FrameStream::empty()).await.err(),
        Some(TransportError::UnknownChannel)
    );

    let mut limits = HttpLimits::default();
    limits.idle = Duration::from_secs(2);
    let mut listener = listen(limits).await;
    let (client, mut server) = pair(&mut listener).await;
    server.mark_proven();
    let (_up, body) = pipe();
    let (response, request) = futures::join!(client.request(body.into()), server.next_request());
    let open = (response.unwrap(), request.unwrap());
    tokio::time::timeout(Duration::from_secs(3), server.next_request())
        .await
        .expect_err("a used channel stays");
    drop(open);
    assert!(
        server.next_request().await.is_none(),
        "an idle channel expires"
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_unproven_peer_sends_small_frames_and_few_requests() {
    let mut listener = listen(HttpLimits::default()).await;
    let (client, mut server) = pair(&mut listener).await;
    for (len, ok) in [
        (limits::UNPROVEN_FRAME, true),
        (limits::UNPROVEN_FRAME + 1, false),
    ] {
        let body = FrameStream::of([Bytes::from(vec![1; len])]);
        let (_response, request) = futures::join!(client.request(body), server.next_request());
        assert_eq!(request.unwrap().0.next().await.is_ok(), ok);
    }
    let mut open = Vec::new();
    loop {
        let (up, body) = pipe();
        let asked = futures::future::select(
            Box::pin(client.request(body.into())),
            Box::pin(async { server.next_request().await.unwrap() }),
        );
        match asked.await {
            futures::future::Either::Left((Err(error), _)) => {
                assert_eq!(error, TransportError::Busy);
                break;
            }
            futures::future::Either::Left((Ok(response), request)) => {
                open.push((up, response, request.await))
            }
            futures::future::Either::Right((request, response)) => {
                open.push((up, response.await.unwrap(), request))
            }
        }
        assert!(open.len() <= limits::UNPROVEN_REQUESTS);
    }
    assert!(
        open.len() >= limits::UNPROVEN_REQUESTS - 1,
        "{} requests",
        open.len()
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn unfinished_frames_share_a_budget() {
    let mut tight = HttpLimits::default();
    tight.reassembly_bytes = 300_000;
    let mut listener = listen(tight).await;
    let (client, server) = pair(&mut listener).await;
    server.mark_proven();
    let serving = tokio::spawn(echo_channel(server));
    let small = vec![Bytes::from(vec![1; 250_000]); 3];
    assert_eq!(
        ask(&*client, small.clone()).await.unwrap(),
        small,
        "the budget is given back"
    );
    assert!(
        ask(&*client, vec![Bytes::from(vec![1; 400_000])])
            .await
            .is_err()
    );
    assert_eq!(
        ask(&*client, small.clone()).await.unwrap(),
        small,
        "also after an error"
    );
    serving.abort();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_oldest_stranger_makes_room_for_a_connection() {
    let mut limits = HttpLimits::default();
    limits.connections = 10;
    let listener = listen(limits).await;
    let address = listener.address();
    let server = crate::echo_server(listener);
    let trusted = dial(&address).await.unwrap();
    ask(&*trusted, vec![]).await.unwrap();
    let mut silent = Vec::new();
    for _ in 0..30 {
        silent.push(
            TcpStream::connect((address.host(), address.port().unwrap()))
                .await
                .unwrap(),
        );
    }
    let honest = dial(&address).await.unwrap();
    let frames = vec![Bytes::from_static(b"room")];
    assert_eq!(ask(&*honest, frames.clone()).await.unwrap(), frames);
    assert_eq!(ask(&*trusted, frames.clone()).await.unwrap(), frames);
    assert!(
        matches!(silent[0].read(&mut [0]).await, Ok(0) | Err(_)),
        "the oldest was dropped"
    );
    server.abort();
}

/// A device key costs nothing: what proved to have one and does nothing now makes room, and what it is at does not.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn idle_connections_of_proven_peers_make_room_and_busy_ones_do_not() {
    let mut limits = HttpLimits::default();
    limits.connections = 10;
    let listener = listen(limits).await;
    let address = listener.address();
    let server = crate::echo_server(listener);
    let busy = dial(&address).await.unwrap();
    ask(&*busy, vec![]).await.unwrap();
    let (mut up, body) = pipe();
    let mut answer = busy.request(body.into()).await.unwrap();
    let frame = Bytes::from_static(b"a");
    up.send(frame.clone()).await.unwrap();
    assert_eq!(answer.next().await.unwrap(), Some(frame.clone()));
    // Each of these is proven, has asked once, and is kept open. Who comes while the table is full may be a stranger's
    // victim before it has proven anything, and tries again.
    let mut idle = Vec::new();
    for _ in 0..300 {
        if let Ok(channel) = dial(&address).await
            && ask(&*channel, vec![frame.clone()]).await.is_ok()
        {
            idle.push(channel);
        }
        if idle.len() == 30 {
            break;
        }
    }
    assert_eq!(idle.len(), 30, "idle connections make no room");
    up.send(frame.clone()).await.unwrap();
    assert_eq!(answer.next().await.unwrap(), Some(frame.clone()));
    drop((up, answer));
    server.abort();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn many_dials_at_once_are_served_or_refused() {
    let listener = listen(HttpLimits::default()).await;
    let address = listener.address();
    let server = crate::echo_server(listener);
    let transport = HttpTransport::new().unwrap();
    let dials = futures::future::join_all((0..200).map(|_| transport.connect(&address))).await;
    let refused: Vec<_> = dials
        .iter()
        .filter_map(|dial| dial.as_ref().err())
        .collect();
    assert!(
        refused.iter().all(|error| **error == TransportError::Busy),
        "{refused:?}"
    );
    assert!(refused.len() < 150);
    server.abort();
}
