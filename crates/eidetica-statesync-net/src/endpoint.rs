//! Where a source is and how it is dialled.

use std::sync::Arc;

use eidetica_transport::{Address, Channel, Transport, TransportError};
use tokio::net::TcpStream;

use crate::framed::{Framed, frames_of};
use crate::identity::{Identity, IdentityError};

/// A way to a server.
#[derive(Clone)]
pub enum Endpoint {
    /// Plain TCP: messages with their lengths, neither private nor proven. For one machine, and for targets
    /// that a signer vouches for.
    Tcp {
        /// `host:port`.
        address: String,
    },
    /// Any transport: private, and with an identity both ends prove their keys.
    Channel {
        /// The transport.
        transport: Arc<dyn Transport>,
        /// Where to dial.
        address: Address,
        /// The key to prove and those to accept; without it anybody is.
        identity: Option<Identity>,
    },
}

/// Why a source was not reached. Reads as a fragment after "cannot reach the server: ".
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum DialError {
    /// The system's error.
    #[error(transparent)]
    Io(#[from] std::io::Error),
    /// The transport's.
    #[error(transparent)]
    Transport(#[from] TransportError),
    /// It is not who it has to be.
    #[error(transparent)]
    Identity(#[from] IdentityError),
    /// A deadline passed.
    #[error("no answer within {} s", crate::limits::DIAL.as_secs())]
    TimedOut,
}

/// What dialling gives.
pub(crate) enum Wire {
    Tcp(Framed),
    Channel(Box<dyn Channel>),
}

impl Endpoint {
    /// Dials.
    pub(crate) async fn dial(&self) -> Result<Wire, DialError> {
        let dialled = tokio::time::timeout(crate::limits::DIAL, self.connect()).await;
        dialled.map_err(|_| DialError::TimedOut)?
    }

    async fn connect(&self) -> Result<Wire, DialError> {
        match self {
            Self::Tcp { address } => {
                let stream = TcpStream::connect(address.as_str()).await?;
                stream.set_nodelay(true)?;
                Ok(Wire::Tcp(frames_of(
                    stream,
                    eidetica_statesync::limits::REPLY_BYTES,
                )))
            }
            Self::Channel {
                transport,
                address,
                identity,
            } => {
                let channel = transport.connect(address).await?;
                if let Some(identity) = identity {
                    identity.introduce(&*channel).await?;
                }
                Ok(Wire::Channel(channel))
            }
        }
    }
}

impl std::fmt::Display for Endpoint {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Tcp { address } => f.write_str(address),
            Self::Channel { address, .. } => address.fmt(f),
        }
    }
}

impl std::fmt::Debug for Endpoint {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Endpoint({self})")
    }
}
