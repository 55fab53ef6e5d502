//! Entry synchronization from peer to peer, over Iroh.
//!
//! [`IrohTransport`] is a [`Transport`](eidetica_transport::Transport) whose endpoint has the device key. Each channel is
//! a QUIC connection with TLS 1.3, each request a stream on it: directly where the network allows it, through a relay
//! where not. Both ends prove their keys in the TLS handshake, and again in the identity handshake above, which signs the
//! [`Binding`](eidetica_transport::Binding) of the connection.
//!
//! What this crate does not do: keep the key (it is an argument), choose whom to dial, or know what is in a frame.
//!
//! ```
//! use eidetica_transport::Transport;
//! use eidetica_transport_iroh::{IrohConfig, IrohTransport};
//!
//! # tokio::runtime::Runtime::new().unwrap().block_on(async {
//! let alice = IrohTransport::new(&[1; 32], IrohConfig::local());
//! let bob = IrohTransport::new(&[2; 32], IrohConfig::local());
//! let mut listener = alice.listen("").await?;
//! let channel = bob.connect(&listener.address()).await?;
//! assert_eq!(channel.binding(), listener.accept().await?.binding());
//! # drop((channel, listener));
//! bob.close().await;
//! alice.close().await;
//! # Ok::<(), eidetica_transport::TransportError>(())
//! # }).unwrap();
//! ```

mod binding;
mod client;
mod config;
mod error;
mod frames;
pub mod limits;
mod peers;
mod server;
mod transport;

pub use config::{IrohConfig, Relays};
pub use limits::IrohLimits;
pub use transport::{ALPN, IrohTransport};
