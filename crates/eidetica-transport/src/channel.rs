//! The traits that a transport implements. Object safe: a node holds several kinds behind `dyn`.

use async_trait::async_trait;

use crate::{Address, FrameSink, FrameStream, Scheme, TransportError};

/// A value that both ends of one channel know and no other channel shares: the hash of the key exchange that
/// protects it. Whoever signs it proves to be an end of this channel, and nobody can carry the proof to another.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct Binding([u8; 32]);

impl Binding {
    /// The binding with these bytes.
    pub const fn new(bytes: [u8; 32]) -> Self {
        Self(bytes)
    }

    /// Its bytes.
    pub const fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }
}

impl std::fmt::Debug for Binding {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let [a, b, c, d, ..] = self.0;
        write!(f, "Binding({a:02x}{b:02x}{c:02x}{d:02x}..)")
    }
}

/// A way to reach peers.
#[async_trait]
pub trait Transport: Send + Sync {
    /// The kind of address it dials.
    fn scheme(&self) -> Scheme;

    /// Opens a channel to whoever listens at `address`. The key that an address pins is not looked at here: it is
    /// the identity handshake that proves it.
    ///
    /// # Errors
    /// [`Unsupported`](TransportError::Unsupported), [`Unreachable`](TransportError::Unreachable),
    /// [`TimedOut`](TransportError::TimedOut), [`Busy`](TransportError::Busy) or what the peer did wrong.
    async fn connect(&self, address: &Address) -> Result<Box<dyn Channel>, TransportError>;

    /// Listens at `bind`, whose form is the transport's own.
    ///
    /// # Errors
    /// [`Bind`](TransportError::Bind) and [`InUse`](TransportError::InUse).
    async fn listen(&self, bind: &str) -> Result<Box<dyn Listener>, TransportError>;

    /// Lets go of what the transport itself holds open, such as a socket that all its channels share, and tells peers.
    /// Nothing is dialled or listened for afterwards.
    async fn close(&self) {}
}

/// The dialling end of a channel. Dropping it closes it.
#[async_trait]
pub trait Channel: Send + Sync {
    /// The channel's binding.
    fn binding(&self) -> Binding;

    /// Sends a request. Returns as soon as the peer has taken it; `body` is sent while the response is read.
    /// Dropping the response abandons the request.
    ///
    /// # Errors
    /// [`UnknownChannel`](TransportError::UnknownChannel) when the peer has forgotten the channel (nothing was
    /// processed; dial again), else any error of a peer that is gone, slow, busy or wrong.
    async fn request(&self, body: FrameStream) -> Result<FrameStream, TransportError>;

    /// Closes the channel and tells the peer, as far as it can be told at once. Idempotent.
    async fn close(&self);
}

/// Accepts channels. Dropping it stops listening and closes what it accepted.
#[async_trait]
pub trait Listener: Send {
    /// Where it listens, as others may dial it.
    fn address(&self) -> Address;

    /// Waits for the next channel. Cancel safe.
    ///
    /// # Errors
    /// [`Closed`](TransportError::Closed) when the listener cannot go on; nothing else ends it.
    async fn accept(&mut self) -> Result<Box<dyn ServerChannel>, TransportError>;

    /// Stops accepting, lets the requests that run finish within the transport's own deadline, and returns.
    async fn shutdown(&mut self);
}

/// The accepting end of a channel. Dropping it closes it; requests already taken go on.
#[async_trait]
pub trait ServerChannel: Send {
    /// The channel's binding.
    fn binding(&self) -> Binding;

    /// Where the peer seems to be, for logs; never a reason to trust it.
    fn remote(&self) -> String;

    /// Says that the peer has proven who it is. Channels that were not proven are few, short-lived and the first
    /// to go when there is no room.
    fn mark_proven(&self);

    /// The next request: its frames, and where the frames of the response go. `None` when the channel is closed
    /// from either end or has expired. Cancel safe.
    async fn next_request(&mut self) -> Option<(FrameStream, FrameSink)>;
}
