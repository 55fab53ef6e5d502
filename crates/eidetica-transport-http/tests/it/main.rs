//! The HTTP transport through its public surface.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing
)]

mod channel;
mod hostile;
mod limits;
mod proxy;
mod wire;

use std::time::Duration;

use bytes::Bytes;
use eidetica_transport::{
    Address, Channel, FrameStream, Listener, ServerChannel, Transport, TransportError,
    contract::Fixture,
};
use eidetica_transport_http::{HttpLimits, HttpTransport};
use futures::{
    FutureExt,
    future::{LocalBoxFuture, join},
};

mod contract {
    use super::{fixture, run};

    eidetica_transport::transport_contract!(run, fixture);
}

fn run(test: LocalBoxFuture<'static, ()>) {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .unwrap();
    runtime.block_on(test);
}

async fn fixture() -> Fixture {
    let transport = HttpTransport::new().unwrap();
    Fixture {
        server: Box::new(transport.clone()),
        client: Box::new(transport),
        bind: "127.0.0.1:0".into(),
        pause: Box::new(|| {
            tokio::time::timeout(Duration::from_millis(2), std::future::pending())
                .map(|late| late.unwrap_or(()))
                .boxed()
        }),
    }
}

/// A listener on a free port.
async fn listen(limits: HttpLimits) -> Box<dyn Listener> {
    HttpTransport::with_limits(limits)
        .unwrap()
        .listen("127.0.0.1:0")
        .await
        .unwrap()
}

/// Serves every channel and request of a listener by sending the frames back.
fn echo_server(mut listener: Box<dyn Listener>) -> tokio::task::JoinHandle<()> {
    tokio::spawn(async move {
        while let Ok(channel) = listener.accept().await {
            channel.mark_proven();
            tokio::spawn(echo_channel(channel));
        }
    })
}

async fn echo_channel(mut channel: Box<dyn ServerChannel>) {
    while let Some((mut request, mut response)) = channel.next_request().await {
        tokio::spawn(async move {
            loop {
                match request.next().await {
                    Ok(Some(frame)) => {
                        if response.send(frame).await.is_err() {
                            return;
                        }
                    }
                    Ok(None) => return response.finish(),
                    Err(_) => return,
                }
            }
        });
    }
}

/// Sends frames and reads all that comes back.
async fn ask(channel: &dyn Channel, frames: Vec<Bytes>) -> Result<Vec<Bytes>, TransportError> {
    let mut response = channel.request(FrameStream::of(frames)).await?;
    let mut got = Vec::new();
    while let Some(frame) = response.next().await? {
        got.push(frame);
    }
    Ok(got)
}

async fn dial(address: &Address) -> Result<Box<dyn Channel>, TransportError> {
    HttpTransport::new().unwrap().connect(address).await
}

/// Dials and accepts.
async fn pair(listener: &mut Box<dyn Listener>) -> (Box<dyn Channel>, Box<dyn ServerChannel>) {
    let address = listener.address();
    let (client, server) = join(dial(&address), listener.accept()).await;
    (client.unwrap(), server.unwrap())
}
