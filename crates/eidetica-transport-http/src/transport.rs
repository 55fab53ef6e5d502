//! The transport as the node sees it.

use async_trait::async_trait;
use eidetica_transport::{Address, Channel, Listener, Scheme, Transport, TransportError};

use crate::{client::Client, limits::HttpLimits, server::HttpListener};

/// Dials and listens over HTTP/1.1. Cheap to clone; clones share a pool of connections.
///
/// Dials directly: proxies of the environment are not used, redirects not followed. `listen` takes `host:port`,
/// where port 0 is any free one, and a missing one
/// [`DEFAULT_HTTP_PORT`](eidetica_transport::DEFAULT_HTTP_PORT).
#[derive(Clone)]
pub struct HttpTransport {
    client: Client,
}

impl HttpTransport {
    /// A transport with the default limits.
    ///
    /// # Errors
    /// None today.
    pub fn new() -> Result<Self, TransportError> {
        Self::with_limits(HttpLimits::default())
    }

    /// A transport with limits of an operator.
    ///
    /// # Errors
    /// None today.
    pub fn with_limits(limits: HttpLimits) -> Result<Self, TransportError> {
        Ok(Self {
            client: Client::new(limits),
        })
    }
}

#[async_trait]
impl Transport for HttpTransport {
    fn scheme(&self) -> Scheme {
        Scheme::Http
    }

    async fn connect(&self, address: &Address) -> Result<Box<dyn Channel>, TransportError> {
        Ok(Box::new(self.client.connect(address).await?))
    }

    async fn listen(&self, bind: &str) -> Result<Box<dyn Listener>, TransportError> {
        Ok(Box::new(
            HttpListener::bind(bind, self.client.limits).await?,
        ))
    }
}

impl std::fmt::Debug for HttpTransport {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("HttpTransport")
            .field("limits", &self.client.limits)
            .finish_non_exhaustive()
    }
}
