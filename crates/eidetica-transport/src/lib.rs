//! What a transport is: addresses, frames, channels, and the in-memory one.
//!
//! A [`Transport`] dials an [`Address`] and gives a [`Channel`], or listens and gives one [`ServerChannel`] per
//! peer. On a channel travel *requests*: a stream of frames in one direction and a stream of frames in the other,
//! both at once, both with back-pressure, both with an end that can be told from a cut. Any number of requests
//! run on a channel at the same time. A channel is private to its two ends and has a [`Binding`], a value that
//! both ends know and that no other channel shares; identity is proven above, by signing it.
//!
//! This crate does no I/O, spawns nothing and knows no clock: it is futures and data, and runs on any executor.
//! It does not know what stands in a frame.
//!
//! ```
//! use bytes::Bytes;
//! use eidetica_transport::{Address, FrameStream, memory::Hub, Transport};
//!
//! futures::executor::block_on(async {
//!     let hub = Hub::new();
//!     let transport = hub.transport();
//!     let mut listener = transport.listen("alice").await?;
//!     let channel = transport.connect(&Address::memory("alice")?).await?;
//!     let mut served = listener.accept().await?;
//!     assert_eq!(channel.binding(), served.binding());
//!
//!     let client = async {
//!         let mut response = channel.request(FrameStream::of([Bytes::from("ping")])).await?;
//!         response.next().await
//!     };
//!     let server = async {
//!         let Some((mut request, mut response)) = served.next_request().await else { return };
//!         if let Ok(Some(frame)) = request.next().await {
//!             response.send(frame).await.ok();
//!         }
//!         response.finish();
//!     };
//!     let (answer, ()) = futures::join!(client, server);
//!     assert_eq!(answer?, Some(Bytes::from("ping")));
//!     Ok::<(), Box<dyn std::error::Error>>(())
//! })
//! # .unwrap();
//! ```

mod address;
mod budget;
mod channel;
#[cfg(feature = "contract")]
pub mod contract;
mod endpoint;
mod error;
mod frame;
pub mod limits;
pub mod memory;

pub use address::{Address, AddressError, DEFAULT_HTTP_PORT, Scheme};
pub use budget::{Budget, Share};
pub use channel::{Binding, Channel, Listener, ServerChannel, Transport};
pub use endpoint::{EndpointAddress, Relay};
pub use error::{Blame, TransportError};
pub use frame::{FrameSink, FrameStream, PipeReader, Progress, pipe};
