//! The Iroh transport through its public surface. Everything stays on loopback, or on networks that the tests make.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing
)]

mod facade;
mod hostile;
#[cfg(target_os = "linux")]
mod netns;
#[cfg(target_os = "linux")]
mod networks;
mod places;
mod relay;
mod tickets;

use std::{
    sync::atomic::{AtomicU64, Ordering},
    time::Duration,
};

use eidetica_transport::{Listener, contract::Fixture};
use eidetica_transport_iroh::{IrohConfig, IrohTransport};
use futures::{FutureExt, future::LocalBoxFuture};

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

/// Serves on a task of its own.
fn echo_server(listener: Box<dyn Listener>) -> tokio::task::JoinHandle<()> {
    tokio::spawn(eidetica_transport::contract::echo_server(listener))
}
