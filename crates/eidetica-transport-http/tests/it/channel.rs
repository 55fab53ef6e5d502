//! Ports, addresses and shutting down.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use bytes::Bytes;
use eidetica_transport::{
    Address, FrameStream, Transport, TransportError,
    contract::{ask, progress_of_a_long_frame},
};
use eidetica_transport_http::{HttpLimits, HttpTransport};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt, copy_bidirectional},
    net::{TcpListener, TcpStream},
};

use crate::{dial, echo_server, listen, pair};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn binds_what_it_is_told() {
    let transport = HttpTransport::new().unwrap();
    let listener = transport.listen("127.0.0.1:0").await.unwrap();
    assert!(listener.address().port().is_some_and(|port| port != 0));
    let named = transport.listen("http://localhost:0").await.unwrap();
    dial(&named.address()).await.unwrap();
    if let Ok(six) = transport.listen("[::1]:0").await {
        assert_eq!(six.address().host(), "::1");
        dial(&six.address()).await.unwrap();
    }
    let taken = format!("127.0.0.1:{}", listener.address().port().unwrap());
    assert_eq!(
        transport.listen(&taken).await.err(),
        Some(TransportError::InUse { bind: taken })
    );
    for bad in [
        "127.0.0.1:99999",
        "127.0.0.1:http",
        "192.0.2.1:0",
        "no such host:1",
        "",
    ] {
        assert!(
            matches!(
                transport.listen(bad).await.err(),
                Some(TransportError::Bind { .. })
            ),
            "{bad}"
        );
    }
}

/// How a connection ends whose request was read.
#[derive(Clone, Copy, Debug)]
enum End {
    Closed,
    Reset,
}

/// Stands before `server` and ends the first `dying` connections, and says how many there were.
async fn dying_before(server: &Address, dying: usize, end: End) -> (Address, Arc<AtomicUsize>) {
    let socket = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = Address::http(&socket.local_addr().unwrap().to_string()).unwrap();
    let server = format!("127.0.0.1:{}", server.port().unwrap());
    let count = Arc::new(AtomicUsize::new(0));
    let counted = Arc::clone(&count);
    tokio::spawn(async move {
        while let Ok((mut client, _)) = socket.accept().await {
            if counted.fetch_add(1, Ordering::Relaxed) >= dying {
                let mut server = TcpStream::connect(&server).await.unwrap();
                copy_bidirectional(&mut client, &mut server).await.ok();
                continue;
            }
            assert!(client.read(&mut [0; 64 << 10]).await.unwrap() > 0);
            match end {
                End::Closed => client.shutdown().await.unwrap(),
                End::Reset => client.set_zero_linger().unwrap(),
            }
        }
    });
    (address, count)
}

/// A server that stops closes the connections that its clients keep, maybe in the moment in which one is used again.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_handshake_that_meets_a_dying_connection_begins_once_more() {
    let listener = listen(HttpLimits::default()).await;
    let server = listener.address();
    for end in [End::Closed, End::Reset] {
        let (address, _) = dying_before(&server, 1, end).await;
        assert!(dial(&address).await.is_ok(), "{end:?}");
        let (address, count) = dying_before(&server, 9, end).await;
        assert!(
            matches!(
                dial(&address).await.err(),
                Some(TransportError::Unreachable { .. })
            ),
            "{end:?}"
        );
        assert_eq!(count.load(Ordering::Relaxed), 2, "{end:?}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_dead_port_is_unreachable() {
    let mut listener = listen(HttpLimits::default()).await;
    let address = listener.address();
    listener.shutdown().await;
    assert!(matches!(
        dial(&address).await.err(),
        Some(TransportError::Unreachable { .. })
    ));
    let other = Address::memory("m").unwrap();
    assert!(matches!(
        dial(&other).await.err(),
        Some(TransportError::Unsupported { .. })
    ));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn shutdown_lets_a_request_finish_and_cuts_one_that_does_not() {
    for finishes in [true, false] {
        let mut limits = HttpLimits::default();
        // Patience for the one that finishes, however slow the machine is; little for the one that never does.
        limits.shutdown = match finishes {
            true => Duration::from_secs(60),
            false => Duration::from_millis(300),
        };
        let mut listener = listen(limits).await;
        let address = listener.address();
        let (client, mut server) = pair(&mut listener).await;
        let (response, request) =
            futures::join!(client.request(FrameStream::empty()), server.next_request());
        let (mut response, (_request, mut sink)) = (response.unwrap(), request.unwrap());
        let work = async {
            if finishes {
                // Not before the server has begun to shut down.
                while dial(&address).await.is_ok() {}
                sink.send(Bytes::from_static(b"done")).await.unwrap();
                sink.finish();
                assert_eq!(response.next().await, Ok(Some(Bytes::from_static(b"done"))));
                assert_eq!(response.next().await, Ok(None));
            } else {
                assert!(response.next().await.is_err());
                drop(sink);
            }
        };
        futures::join!(work, listener.shutdown());
        assert!(server.next_request().await.is_none());
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn connections_are_used_again() {
    let listener = listen(HttpLimits::default()).await;
    let proxy =
        crate::proxy::Proxy::start(&listener.address(), [crate::proxy::Fault::None; 2]).await;
    let server = echo_server(listener);
    let channel = dial(&proxy.address).await.unwrap();
    for number in 0..20_u8 {
        let frames = vec![Bytes::from(vec![number; 1_000])];
        assert_eq!(ask(&*channel, frames.clone()).await.unwrap(), frames);
    }
    assert!(
        proxy.connections() < 10,
        "{} connections for 21 requests",
        proxy.connections()
    );
    server.abort();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_dropped_channel_tells_the_server() {
    let mut listener = listen(HttpLimits::default()).await;
    let (client, mut server) = pair(&mut listener).await;
    server.mark_proven();
    drop(client);
    assert!(server.next_request().await.is_none());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn parts_of_a_long_frame_are_progress() {
    let listener = listen(HttpLimits::default()).await;
    let address = listener.address();
    let _server = echo_server(listener);
    let channel = dial(&address).await.unwrap();
    let [sent, arrived] = progress_of_a_long_frame(&*channel).await;
    assert!(sent > 8 && arrived > 8, "{sent}, {arrived}");
}
