//! The Iroh transport through its public surface. Everything stays on loopback.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing
)]

mod facade;
mod hostile;
mod places;
mod relay;

use std::{
    sync::atomic::{AtomicU64, Ordering},
    time::Duration,
};

use bytes::Bytes;
use eidetica_transport::{
    Channel, FrameStream, Listener, ServerChannel, Transport, TransportError, contract::Fixture,
};
use eidetica_transport_iroh::{IrohConfig, IrohTransport};
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

/// The secret key of another device each time.
fn device() -> [u8; 32] {
    static NEXT: AtomicU64 = AtomicU64::new(1);
    let mut secret = [7; 32];
    secret[..8].copy_from_slice(&NEXT.fetch_add(1, Ordering::Relaxed).to_le_bytes());
    secret[8..12].copy_from_slice(&std::process::id().to_le_bytes());
    secret
}

fn transport(config: IrohConfig) -> IrohTransport {
    IrohTransport::new(&device(), config)
}

async fn fixture() -> Fixture {
    Fixture {
        server: Box::new(transport(IrohConfig::local())),
        client: Box::new(transport(IrohConfig::local())),
        bind: "ignored".into(),
        pause: Box::new(|| {
            tokio::time::timeout(Duration::from_millis(2), std::future::pending())
                .map(|late| late.unwrap_or(()))
                .boxed()
        }),
    }
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

/// Dials and accepts.
async fn pair(
    client: &IrohTransport,
    listener: &mut Box<dyn Listener>,
) -> (Box<dyn Channel>, Box<dyn ServerChannel>) {
    let address = listener.address();
    let (client, server) = join(client.connect(&address), listener.accept()).await;
    (client.unwrap(), server.unwrap())
}
