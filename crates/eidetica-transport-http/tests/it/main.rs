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

use eidetica_transport::{
    Address, Channel, Listener, ServerChannel, Transport, TransportError, contract::Fixture,
};
use eidetica_transport_http::{HttpLimits, HttpTransport};
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

/// Serves on a task of its own.
fn echo_server(listener: Box<dyn Listener>) -> tokio::task::JoinHandle<()> {
    tokio::spawn(eidetica_transport::contract::echo_server(listener))
}

async fn dial(address: &Address) -> Result<Box<dyn Channel>, TransportError> {
    HttpTransport::new().unwrap().connect(address).await
}

/// Dials and accepts.
async fn pair(listener: &mut Box<dyn Listener>) -> (Box<dyn Channel>, Box<dyn ServerChannel>) {
    eidetica_transport::contract::pair(&HttpTransport::new().unwrap(), listener).await
}
