//! The suite that every transport passes.
//!
//! Each law is an async function over a [`Fixture`]; [`transport_contract!`](crate::transport_contract) makes one
//! test of each. The functions spawn nothing and know no clock: both ends of a channel are driven by one future,
//! and "a little while" is the fixture's business.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test suite: a broken law panics"
)]

use std::{
    cell::Cell,
    collections::HashSet,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
};

use bytes::{Bytes, BytesMut};
use futures::{
    FutureExt, StreamExt,
    future::{BoxFuture, join, join_all},
    stream,
};

use crate::{
    Address, Channel, FrameSink, FrameStream, Listener, ServerChannel, Transport, TransportError,
    limits, pipe,
};

/// A transport under test.
pub struct Fixture {
    /// Listens.
    pub server: Box<dyn Transport>,
    /// Dials; may be the same transport.
    pub client: Box<dyn Transport>,
    /// Where to listen: free, in the transport's own form.
    pub bind: String,
    /// Lets everything else that is ready run, for as long as a frame takes to arrive.
    pub pause: Box<dyn Fn() -> BoxFuture<'static, ()> + Send + Sync>,
}

/// Makes one test of each law. `$run` blocks on a `LocalBoxFuture<'static, ()>`, `$fixture` is a function that makes a
/// future of a fresh [`Fixture`].
#[macro_export]
macro_rules! transport_contract {
    ($run:path, $fixture:path) => {
        $crate::transport_contract!(@ $run, $fixture,
            echoes_frames, both_directions_at_once, both_ends_share_the_binding, bindings_differ, empty_streams_end,
            stalled_reader_stops_the_sender, stalled_server_stops_the_sender, large_streams_arrive_whole,
            a_cut_request_is_seen, a_cut_response_is_seen, an_abandoned_response_stops_the_sender,
            an_abandoned_request_is_answered, a_long_frame_passes, a_longer_frame_is_refused,
            many_requests_at_once, many_channels_at_once, a_closed_channel_refuses, a_dropped_server_channel_is_unknown,
            a_vanished_listener_cuts_streams, nobody_listens, a_place_in_use, a_shut_down_listener_frees_its_place);
    };
    (@ $run:path, $fixture:path, $($law:ident),* $(,)?) => {
        $(
            #[test]
            fn $law() {
                $run(::futures::FutureExt::boxed_local(async {
                    let fixture = $fixture().await;
                    $crate::contract::$law(&fixture).await;
                }));
            }
        )*
    };
}

struct Pair {
    client: Box<dyn Channel>,
    server: Box<dyn ServerChannel>,
    listener: Box<dyn Listener>,
}

async fn connect(fixture: &Fixture) -> Pair {
    let mut listener = fixture.server.listen(&fixture.bind).await.expect("listens");
    let (client, server) = dial(fixture, &mut listener).await;
    Pair {
        client,
        server,
        listener,
    }
}

async fn dial(
    fixture: &Fixture,
    listener: &mut Box<dyn Listener>,
) -> (Box<dyn Channel>, Box<dyn ServerChannel>) {
    let (client, server) = pair(&*fixture.client, listener).await;
    server.mark_proven();
    (client, server)
}

/// Dials a listener and accepts: both ends of one channel, on which nothing is proven yet.
pub async fn pair(
    client: &dyn Transport,
    listener: &mut Box<dyn Listener>,
) -> (Box<dyn Channel>, Box<dyn ServerChannel>) {
    let address = listener.address();
    let (client, server) = join(client.connect(&address), listener.accept()).await;
    (client.expect("connects"), server.expect("accepts"))
}

/// Serves every channel of a listener, and every request on them, by sending the frames back.
pub async fn echo_server(listener: Box<dyn Listener>) {
    let channels = stream::unfold(listener, |mut listener| async {
        Some((listener.accept().await.ok()?, listener))
    });
    let serve = |channel: Box<dyn ServerChannel>| {
        channel.mark_proven();
        echo_channel(channel)
    };
    channels.for_each_concurrent(None, serve).await;
}

/// Serves every request of a channel by sending the frames back, all of them at once.
pub async fn echo_channel(channel: Box<dyn ServerChannel>) {
    let requests = stream::unfold(channel, |mut channel| async {
        Some((channel.next_request().await?, channel))
    });
    // What one request fails of is told to its client, and no business of the others.
    let serve = |(request, response)| send_back(request, response).map(drop);
    requests.for_each_concurrent(None, serve).await;
}

/// Sends one frame of a mebibyte to a server that echoes and reads it back: the progress that was noted of either.
pub async fn progress_of_a_long_frame(channel: &dyn Channel) -> [u64; 2] {
    let long = Bytes::from(vec![7; 1 << 20]);
    let (mut sink, body) = pipe();
    let sent = sink.progress().clone();
    sink.send(long.clone()).await.expect("is read");
    sink.finish();
    let mut response = channel.request(body.into()).await.expect("is taken");
    assert_eq!(response.next().await, Ok(Some(long)));
    [sent.pieces(), response.progress().pieces()]
}

async fn send_back(
    mut request: FrameStream,
    mut response: FrameSink,
) -> Result<(), TransportError> {
    while let Some(frame) = request.next().await? {
        response.send(frame).await?;
    }
    response.finish();
    Ok(())
}

/// Sends frames in one request and reads all that comes back.
///
/// # Errors
/// Those of the transport.
pub async fn ask(channel: &dyn Channel, frames: Vec<Bytes>) -> Result<Vec<Bytes>, TransportError> {
    drain(channel.request(FrameStream::of(frames)).await?).await
}

/// Starts one request whose frames and response the caller sends itself.
async fn open(
    client: &dyn Channel,
    server: &mut Box<dyn ServerChannel>,
) -> (FrameSink, FrameStream, FrameStream, FrameSink) {
    let (up, body) = pipe();
    let (down, request) = join(client.request(body.into()), server.next_request()).await;
    let (up_end, down_end) = request.expect("a request");
    (up, down.expect("a response"), up_end, down_end)
}

/// A frame that says which it is, of `len` bytes or a little more.
fn frame(number: usize, len: usize) -> Bytes {
    let mut bytes = BytesMut::with_capacity(len.max(8));
    bytes.extend_from_slice(&(number as u64).to_le_bytes());
    bytes.resize(len.max(8), (number % 251) as u8);
    bytes.freeze()
}

async fn drain(mut stream: FrameStream) -> Result<Vec<Bytes>, TransportError> {
    let mut frames = Vec::new();
    while let Some(frame) = stream.next().await? {
        frames.push(frame);
    }
    Ok(frames)
}

async fn send_all(mut sink: FrameSink, frames: Vec<Bytes>) {
    for frame in frames {
        sink.send(frame).await.expect("sends");
    }
    sink.finish();
}

/// Serves one request: sends every frame back.
async fn echo(server: &mut Box<dyn ServerChannel>) {
    let (request, response) = server.next_request().await.expect("a request");
    send_back(request, response).await.expect("all frames");
}

/// Frames of many sizes come back as they were sent.
pub async fn echoes_frames(fixture: &Fixture) {
    let mut pair = connect(fixture).await;
    let sizes = [
        8, 9, 100, 65_000, 65_503, 65_518, 65_519, 65_520, 65_535, 65_536, 65_537, 131_072,
        1_000_000,
    ];
    let mut frames: Vec<_> = sizes
        .iter()
        .enumerate()
        .map(|(number, len)| frame(number, *len))
        .collect();
    frames.insert(3, Bytes::new());
    let request = async {
        let response = pair
            .client
            .request(FrameStream::of(frames.clone()))
            .await
            .expect("a response");
        drain(response).await.expect("whole")
    };
    let (got, ()) = join(request, echo(&mut pair.server)).await;
    assert!(got == frames, "the echo differs");
}

/// The response flows while the request is still being sent, frame by frame.
pub async fn both_directions_at_once(fixture: &Fixture) {
    let mut pair = connect(fixture).await;
    let (mut up, mut down, mut request, mut response) = open(&*pair.client, &mut pair.server).await;
    for number in 0..100 {
        let (sent, got) = join(up.send(frame(number, 10)), request.next()).await;
        sent.expect("sends");
        assert_eq!(got.expect("arrives"), Some(frame(number, 10)));
        let (sent, got) = join(response.send(frame(number, 20)), down.next()).await;
        sent.expect("sends");
        assert_eq!(got.expect("arrives"), Some(frame(number, 20)));
    }
    up.finish();
    assert_eq!(request.next().await, Ok(None));
    let (sent, got) = join(response.send(frame(7, 20)), down.next()).await;
    sent.expect("sends after the request ended");
    assert_eq!(got, Ok(Some(frame(7, 20))));
    response.finish();
    assert_eq!(down.next().await, Ok(None));
    assert_eq!(down.next().await, Ok(None), "stays ended");
}

/// Both ends see the same binding.
pub async fn both_ends_share_the_binding(fixture: &Fixture) {
    let pair = connect(fixture).await;
    assert_eq!(pair.client.binding(), pair.server.binding());
}

/// No two channels share a binding.
pub async fn bindings_differ(fixture: &Fixture) {
    let mut pair = connect(fixture).await;
    let mut seen = HashSet::from([pair.client.binding()]);
    for _ in 0..5 {
        let (client, _server) = dial(fixture, &mut pair.listener).await;
        assert!(seen.insert(client.binding()), "a binding came twice");
    }
}

/// A request and a response without frames end cleanly.
pub async fn empty_streams_end(fixture: &Fixture) {
    let mut pair = connect(fixture).await;
    let request = async {
        drain(
            pair.client
                .request(FrameStream::empty())
                .await
                .expect("a response"),
        )
        .await
    };
    let serve = async {
        let (request, response) = pair.server.next_request().await.expect("a request");
        response.finish();
        drain(request).await
    };
    let (down, up) = join(request, serve).await;
    assert_eq!((down, up), (Ok(vec![]), Ok(vec![])));
}

/// More than any honest buffer on the way: pipes, sockets, a chunk here and there.
const BUFFERED: usize = 32 << 20;

/// Sends frames until the other side's not reading has stopped the sender; returns how many it took.
async fn fill(sink: &mut FrameSink, pause: &dyn Fn() -> BoxFuture<'static, ()>) -> usize {
    let piece = 64 << 10;
    let sent = Cell::new(0_usize);
    let sender = async {
        while sent.get() * piece <= BUFFERED {
            sink.send(frame(sent.get(), piece)).await.expect("sends");
            sent.set(sent.get() + 1);
        }
    };
    let watcher = async {
        let (mut last, mut quiet) = (0, 0);
        while quiet < 20 {
            pause().await;
            quiet = if sent.get() == last { quiet + 1 } else { 0 };
            last = sent.get();
        }
    };
    futures::select_biased! {
        () = sender.fuse() => panic!("nobody reads, and {BUFFERED} bytes were taken"),
        () = watcher.fuse() => {}
    }
    sent.get()
}

async fn expect_frames(stream: &mut FrameStream, count: usize) {
    for number in 0..count {
        let got = stream.next().await.expect("arrives").expect("not the end");
        assert!(got == frame(number, 64 << 10), "frame {number} differs");
    }
}

/// A client that does not read its response stops the server's sending, and loses nothing.
pub async fn stalled_reader_stops_the_sender(fixture: &Fixture) {
    let mut pair = connect(fixture).await;
    let (_up, mut down, _request, mut response) = open(&*pair.client, &mut pair.server).await;
    let sent = fill(&mut response, &*fixture.pause).await;
    response.finish();
    expect_frames(&mut down, sent).await;
    assert_eq!(down.next().await, Ok(None));
}

/// A server that does not read a request stops the client's sending, and loses nothing.
pub async fn stalled_server_stops_the_sender(fixture: &Fixture) {
    let mut pair = connect(fixture).await;
    let (mut up, _down, mut request, _response) = open(&*pair.client, &mut pair.server).await;
    let sent = fill(&mut up, &*fixture.pause).await;
    up.finish();
    expect_frames(&mut request, sent).await;
    assert_eq!(request.next().await, Ok(None));
}

/// 64 MiB in both directions at once, with a bound on what is on the way.
pub async fn large_streams_arrive_whole(fixture: &Fixture) {
    const FRAMES: usize = 64;
    const LEN: usize = 1 << 20;
    let mut pair = connect(fixture).await;
    let (mut up, mut down, mut request, mut response) = open(&*pair.client, &mut pair.server).await;
    let on_the_way = Arc::new(AtomicUsize::new(0));
    let client_sends = async {
        for number in 0..FRAMES {
            up.send(frame(number, LEN)).await.expect("sends");
            let now = on_the_way.fetch_add(LEN, Ordering::Relaxed) + LEN;
            assert!(now <= BUFFERED, "{now} bytes are buffered somewhere");
        }
        up.finish();
    };
    let server_reads = async {
        for number in 0..FRAMES {
            assert!(
                request.next().await.expect("arrives").expect("not the end") == frame(number, LEN)
            );
            on_the_way.fetch_sub(LEN, Ordering::Relaxed);
        }
        assert_eq!(request.next().await, Ok(None));
    };
    let server_sends = async {
        for number in 0..FRAMES {
            response
                .send(frame(FRAMES - number, LEN))
                .await
                .expect("sends");
        }
        response.finish();
    };
    let client_reads = async {
        for number in 0..FRAMES {
            assert!(
                down.next().await.expect("arrives").expect("not the end")
                    == frame(FRAMES - number, LEN)
            );
        }
        assert_eq!(down.next().await, Ok(None));
    };
    futures::join!(client_sends, server_reads, server_sends, client_reads);
}

/// A request whose sender goes away before its end is an error at the server, never an end.
pub async fn a_cut_request_is_seen(fixture: &Fixture) {
    let mut pair = connect(fixture).await;
    let (mut up, _down, mut request, _response) = open(&*pair.client, &mut pair.server).await;
    let (sent, got) = join(up.send(frame(1, 10)), request.next()).await;
    sent.expect("sends");
    assert_eq!(got, Ok(Some(frame(1, 10))));
    drop(up);
    assert!(request.next().await.is_err(), "a cut passed for an end");
}

/// A response whose sender goes away before its end is an error at the client, never an end.
pub async fn a_cut_response_is_seen(fixture: &Fixture) {
    let mut pair = connect(fixture).await;
    let (up, mut down, _request, mut response) = open(&*pair.client, &mut pair.server).await;
    let (sent, got) = join(response.send(frame(1, 10)), down.next()).await;
    sent.expect("sends");
    assert_eq!(got, Ok(Some(frame(1, 10))));
    drop(response);
    assert!(down.next().await.is_err(), "a cut passed for an end");
    drop(up);
}

/// A client that drops its response makes the server's sends fail.
pub async fn an_abandoned_response_stops_the_sender(fixture: &Fixture) {
    let mut pair = connect(fixture).await;
    let (up, down, _request, mut response) = open(&*pair.client, &mut pair.server).await;
    drop((up, down));
    let mut number = 0;
    while response.send(frame(number, 64 << 10)).await.is_ok() {
        (fixture.pause)().await;
        number += 1;
        assert!(number < 2_000, "nobody is there, and sending goes on");
    }
}

/// A server that answers without reading the request does answer.
pub async fn an_abandoned_request_is_answered(fixture: &Fixture) {
    let mut pair = connect(fixture).await;
    let (mut up, mut down, request, mut response) = open(&*pair.client, &mut pair.server).await;
    let answer = async {
        drop(request);
        response.send(frame(5, 100)).await.expect("sends");
        response.finish();
    };
    let (_, (), got) = futures::join!(up.send(frame(0, 100)), answer, down.next());
    assert_eq!(got, Ok(Some(frame(5, 100))));
    assert_eq!(down.next().await, Ok(None));
}

/// A frame of exactly the limit passes.
pub async fn a_long_frame_passes(fixture: &Fixture) {
    let mut pair = connect(fixture).await;
    let long = frame(3, limits::FRAME);
    let request = async {
        let response = pair
            .client
            .request(FrameStream::of([long.clone()]))
            .await
            .expect("a response");
        drain(response).await.expect("whole")
    };
    let (got, ()) = join(request, echo(&mut pair.server)).await;
    assert!(got == [long]);
}

/// A frame one byte above the limit is refused by its sender, and by the receiver when it comes nevertheless.
pub async fn a_longer_frame_is_refused(fixture: &Fixture) {
    let mut pair = connect(fixture).await;
    let long = frame(3, limits::FRAME + 1);
    let (mut sink, _reader) = pipe();
    assert!(matches!(
        sink.send(long.clone()).await,
        Err(TransportError::FrameTooLong { .. })
    ));
    let body = FrameStream::new(stream::iter([Ok(frame(1, 10)), Ok(long)]));
    let client = async {
        match pair.client.request(body).await {
            Ok(response) => drain(response).await.map(drop),
            Err(error) => Err(error),
        }
    };
    let server = async {
        let (mut request, _response) = pair.server.next_request().await.expect("a request");
        assert_eq!(request.next().await, Ok(Some(frame(1, 10))));
        request.next().await
    };
    let (client, server) = join(client, server).await;
    assert!(server.is_err(), "the frame arrived");
    assert!(client.is_err(), "the client was told all is well");
}

/// Many requests on one channel run at the same time and do not mix.
pub async fn many_requests_at_once(fixture: &Fixture) {
    const REQUESTS: usize = 40;
    let mut pair = connect(fixture).await;
    let client = &pair.client;
    let server = &mut pair.server;
    let requests = join_all((0..REQUESTS).map(|number| async move {
        let response = client
            .request(FrameStream::of([frame(number, 5_000)]))
            .await
            .expect("a response");
        assert_eq!(drain(response).await, Ok(vec![frame(number, 5_000)]));
    }));
    let serve = async {
        // All requests are open before the first is answered, in the opposite order.
        let mut open = Vec::new();
        for _ in 0..REQUESTS {
            open.push(server.next_request().await.expect("a request"));
        }
        for (request, response) in open.into_iter().rev() {
            send_all(response, drain(request).await.expect("whole")).await;
        }
    };
    join(requests, serve).await;
}

/// Many channels at once do not mix.
pub async fn many_channels_at_once(fixture: &Fixture) {
    const CHANNELS: usize = 30;
    let mut listener = fixture.server.listen(&fixture.bind).await.expect("listens");
    let address = listener.address();
    let clients = join_all((0..CHANNELS).map(|number| {
        let address = address.clone();
        async move {
            let channel = fixture.client.connect(&address).await.expect("connects");
            // Requests of a client that dials and asks at once find the channel, taken or not.
            let response = channel
                .request(FrameStream::of([frame(number, 100)]))
                .await
                .expect("a response");
            assert_eq!(drain(response).await, Ok(vec![frame(number, 100)]));
        }
    }));
    let serve = async {
        let channels: Vec<_> = stream::unfold(&mut listener, |listener| async {
            Some((listener.accept().await.expect("accepts"), listener))
        })
        .take(CHANNELS)
        .collect()
        .await;
        join_all(channels.into_iter().map(|mut channel| async move {
            echo(&mut channel).await;
            channel
        }))
        .await
    };
    join(clients, serve).await;
}

/// After `close` the client's requests are refused, and the server sees the channel end.
pub async fn a_closed_channel_refuses(fixture: &Fixture) {
    let mut pair = connect(fixture).await;
    pair.client.close().await;
    pair.client.close().await;
    assert_eq!(
        pair.client.request(FrameStream::empty()).await.err(),
        Some(TransportError::Closed)
    );
    assert!(pair.server.next_request().await.is_none());
}

/// A channel that the server dropped is unknown to it, which tells the client to dial again; and that works.
pub async fn a_dropped_server_channel_is_unknown(fixture: &Fixture) {
    let mut pair = connect(fixture).await;
    drop(pair.server);
    let refused = pair.client.request(FrameStream::empty()).await.err();
    assert_eq!(refused, Some(TransportError::UnknownChannel));
    let (client, mut server) = dial(fixture, &mut pair.listener).await;
    let request = async {
        drain(
            client
                .request(FrameStream::of([frame(1, 8)]))
                .await
                .expect("a response"),
        )
        .await
    };
    let (got, ()) = join(request, echo(&mut server)).await;
    assert_eq!(got, Ok(vec![frame(1, 8)]));
}

/// When the listener is dropped, its channels and the streams on them fail instead of waiting for ever.
pub async fn a_vanished_listener_cuts_streams(fixture: &Fixture) {
    let mut pair = connect(fixture).await;
    let address = pair.listener.address();
    let (_up, mut down, _request, response) = open(&*pair.client, &mut pair.server).await;
    drop(pair.listener);
    assert!(
        down.next().await.is_err(),
        "a vanished server passed for an end"
    );
    assert!(pair.client.request(FrameStream::empty()).await.is_err());
    let mut tries = 0;
    while fixture.client.connect(&address).await.is_ok() {
        (fixture.pause)().await;
        tries += 1;
        assert!(tries < 1_000, "the place still answers");
    }
    drop(response);
}

/// Dialling where nobody listens is an error at once.
pub async fn nobody_listens(fixture: &Fixture) {
    let mut listener = fixture.server.listen(&fixture.bind).await.expect("listens");
    let address = listener.address();
    listener.shutdown().await;
    assert!(matches!(
        fixture.client.connect(&address).await.err(),
        Some(TransportError::Unreachable { .. })
    ));
}

/// Listening where somebody listens is a typed error.
pub async fn a_place_in_use(fixture: &Fixture) {
    let listener = fixture.server.listen(&fixture.bind).await.expect("listens");
    let bind = place_of(&listener.address());
    assert_eq!(
        fixture.server.listen(&bind).await.err(),
        Some(TransportError::InUse { bind })
    );
}

/// After `shutdown` the place is free, and the listener accepts no more.
pub async fn a_shut_down_listener_frees_its_place(fixture: &Fixture) {
    let mut listener = fixture.server.listen(&fixture.bind).await.expect("listens");
    let bind = place_of(&listener.address());
    listener.shutdown().await;
    assert_eq!(listener.accept().await.err(), Some(TransportError::Closed));
    fixture
        .server
        .listen(&bind)
        .await
        .expect("the place is free");
}

fn place_of(address: &Address) -> String {
    address
        .to_string()
        .split_once("://")
        .expect("has a scheme")
        .1
        .to_owned()
}
