//! How fast one encrypted stream is over loopback: `cargo run --release -p eidetica-transport-http --example
//! throughput`. Both ends share this process and its cores.
#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::time::Instant;

use bytes::Bytes;
use eidetica_transport::{Transport, pipe};
use eidetica_transport_http::HttpTransport;
use futures::future::{join, try_join};

const FRAMES: usize = 1_024;

#[tokio::main(flavor = "multi_thread", worker_threads = 2)]
async fn main() {
    let transport = HttpTransport::new().unwrap();
    let mut listener = transport.listen("127.0.0.1:0").await.unwrap();
    let address = listener.address();
    let (client, server) = try_join(transport.connect(&address), listener.accept())
        .await
        .unwrap();
    let mut server = server;
    server.mark_proven();
    for len in [1 << 20, 64 << 10, 4 << 10] {
        let frame = Bytes::from(vec![7; len]);
        let (mut up, body) = pipe();
        let (response, request) = join(client.request(body.into()), server.next_request()).await;
        let (mut response, (mut request, mut down)) = (response.unwrap(), request.unwrap());

        let begun = Instant::now();
        let sent = frame.clone();
        let send = tokio::spawn(async move {
            for _ in 0..FRAMES {
                up.send(sent.clone()).await.unwrap();
            }
            up.finish();
        });
        while request.next().await.unwrap().is_some() {}
        send.await.unwrap();
        let upload = begun.elapsed();

        let begun = Instant::now();
        let send = tokio::spawn(async move {
            for _ in 0..FRAMES {
                down.send(frame.clone()).await.unwrap();
            }
            down.finish();
        });
        while response.next().await.unwrap().is_some() {}
        send.await.unwrap();
        let download = begun.elapsed();

        let rate = |time: std::time::Duration| (FRAMES * len) as f64 / time.as_secs_f64() / 1e6;
        println!(
            "frames of {len} bytes: up {:.0} MB/s, down {:.0} MB/s",
            rate(upload),
            rate(download)
        );
    }
    let begun = Instant::now();
    let asks = 2_000;
    for _ in 0..asks {
        let ask = async {
            let mut response = client
                .request(eidetica_transport::FrameStream::of([Bytes::from_static(
                    b"?",
                )]))
                .await
                .unwrap();
            while response.next().await.unwrap().is_some() {}
        };
        let answer = async {
            let (mut request, mut response) = server.next_request().await.unwrap();
            while let Some(frame) = request.next().await.unwrap() {
                response.send(frame).await.unwrap();
            }
            response.finish();
        };
        join(ask, answer).await;
    }
    println!(
        "one request after another: {:.0} /s",
        f64::from(asks) / begun.elapsed().as_secs_f64()
    );
}
