use std::sync::{Arc, Mutex};

use bytes::Bytes;
use eidetica_transport::{
    Address, FrameStream, Transport, TransportError,
    contract::Fixture,
    memory::{Cut, Faults, Hub},
};
use futures::{
    FutureExt,
    executor::block_on,
    future::{LocalBoxFuture, join},
};

mod contract {
    use super::{fixture, run};

    eidetica_transport::transport_contract!(run, fixture);
}

fn run(test: LocalBoxFuture<'static, ()>) {
    block_on(test);
}

async fn fixture() -> Fixture {
    let hub = Hub::new();
    Fixture {
        server: Box::new(hub.transport()),
        client: Box::new(hub.transport()),
        bind: "server".into(),
        pause: Box::new(|| yield_once().boxed()),
    }
}

async fn yield_once() {
    let mut yielded = false;
    std::future::poll_fn(|cx| {
        if std::mem::replace(&mut yielded, true) {
            return std::task::Poll::Ready(());
        }
        cx.waker().wake_by_ref();
        std::task::Poll::Pending
    })
    .await;
}

/// Sends four frames of ten bytes each way under some faults; returns what arrives at the server and the client.
fn exchange(faults: Faults) -> [Result<usize, TransportError>; 2] {
    block_on(async {
        let hub = Hub::new();
        let transport = hub.transport();
        let mut listener = transport.listen("a").await.unwrap();
        let client = transport
            .connect(&Address::memory("a").unwrap())
            .await
            .unwrap();
        let mut server = listener.accept().await.unwrap();
        hub.set_faults("a", faults);
        let frames = || (0..4).map(|byte| Bytes::from(vec![byte; 10]));
        let request =
            async { count(client.request(FrameStream::of(frames())).await.unwrap()).await };
        let serve = async {
            let (request, mut response) = server.next_request().await.unwrap();
            for frame in frames() {
                response.send(frame).await.unwrap();
            }
            response.finish();
            count(request).await
        };
        let (down, up) = join(request, serve).await;
        [up, down]
    })
}

async fn count(mut stream: FrameStream) -> Result<usize, TransportError> {
    let mut frames = 0;
    while stream.next().await?.is_some() {
        frames += 1;
    }
    Ok(frames)
}

#[test]
fn cuts_cut_one_direction() {
    let cut = Err(TransportError::Truncated);
    assert_eq!(exchange(Faults::default()), [Ok(4), Ok(4)]);
    for after in 0..=4 {
        let faults = Faults {
            cut_requests: Some(Cut::Frames(after)),
            ..Faults::default()
        };
        assert_eq!(exchange(faults), [cut.clone(), Ok(4)]);
    }
    for after in [0, 9, 10, 39, 40] {
        let faults = Faults {
            cut_responses: Some(Cut::Bytes(after)),
            ..Faults::default()
        };
        assert_eq!(exchange(faults), [Ok(4), cut.clone()]);
    }
    let faults = Faults {
        cut_requests: Some(Cut::Frames(5)),
        cut_responses: Some(Cut::Bytes(41)),
        ..Faults::default()
    };
    assert_eq!(exchange(faults), [Ok(4), Ok(4)]);
}

#[test]
fn delays_are_asked_before_each_frame_and_the_end() {
    let asked = Arc::new(Mutex::new(Vec::new()));
    let log = Arc::clone(&asked);
    let delay = move |number| {
        log.lock().unwrap().push(number);
        yield_once().boxed()
    };
    assert_eq!(
        exchange(Faults {
            delay: Some(Arc::new(delay)),
            ..Faults::default()
        }),
        [Ok(4), Ok(4)]
    );
    let mut asked = asked.lock().unwrap().clone();
    asked.sort_unstable();
    assert_eq!(asked, [0, 0, 1, 1, 2, 2, 3, 3, 4, 4]);
}

#[test]
fn an_unreachable_endpoint_is_unreachable() {
    block_on(async {
        let hub = Hub::new();
        let transport = hub.transport();
        let _listener = transport.listen("a").await.unwrap();
        hub.set_faults(
            "a",
            Faults {
                unreachable: true,
                ..Faults::default()
            },
        );
        let address = Address::memory("a").unwrap();
        assert!(matches!(
            transport.connect(&address).await.err(),
            Some(TransportError::Unreachable { .. })
        ));
        hub.set_faults("a", Faults::default());
        assert!(transport.connect(&address).await.is_ok());
        let http = Address::http("a").unwrap();
        assert!(matches!(
            transport.connect(&http).await.err(),
            Some(TransportError::Unsupported { .. })
        ));
    });
}

#[test]
fn a_severed_endpoint_fails_what_waits_and_frees_its_name() {
    block_on(async {
        let hub = Hub::new();
        let transport = hub.transport();
        let mut listener = transport.listen("a").await.unwrap();
        let client = transport
            .connect(&Address::memory("a").unwrap())
            .await
            .unwrap();
        let mut server = listener.accept().await.unwrap();
        let (response, request) =
            join(client.request(FrameStream::empty()), server.next_request()).await;
        let (mut response, _request) = (response.unwrap(), request.unwrap());
        let (got, ()) = join(response.next(), async { hub.sever("a") }).await;
        assert_eq!(got, Err(TransportError::PeerGone));
        assert!(server.next_request().await.is_none());
        let again = transport.listen("a").await.unwrap();
        drop(listener);
        transport.connect(&again.address()).await.unwrap();
    });
}
