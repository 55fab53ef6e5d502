//! The client: dials, and makes one POST of each request.

use std::{
    error::Error,
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU32, Ordering},
    },
    task::{Context, Poll},
};

use async_trait::async_trait;
use bytes::{Bytes, BytesMut};
use eidetica_transport::{Address, Binding, Channel, FrameStream, Scheme, TransportError};
use futures::{Stream, StreamExt};
use reqwest::{StatusCode, header::CONTENT_TYPE};
use tokio::sync::oneshot;

use crate::{
    body::{Arrivals, Budget, Opened, Sealed},
    limits::{EAGER_BYTES, HttpLimits},
    noise::{self, ChannelId, Initiator, Keys},
    record::{Opener, Sealer},
    server::{CLOSE, MEDIA_TYPE, OPEN, REQUEST},
};

/// What the channels of a client share.
#[derive(Clone)]
pub(crate) struct Client {
    pub(crate) http: reqwest::Client,
    pub(crate) limits: HttpLimits,
    pub(crate) budget: Arc<Budget>,
}

impl Client {
    pub(crate) fn new(limits: HttpLimits) -> Result<Self, reqwest::Error> {
        let http = reqwest::Client::builder()
            .no_proxy()
            .redirect(reqwest::redirect::Policy::none())
            .retry(reqwest::retry::never())
            .referer(false)
            .tcp_nodelay(true)
            .http1_only()
            .connect_timeout(limits.handshake)
            // Well below the server's patience, or a request would meet a connection that is being closed.
            .pool_idle_timeout(limits.head / 3)
            .build()?;
        Ok(Self {
            http,
            limits,
            budget: Budget::new(limits.reassembly_bytes),
        })
    }

    pub(crate) async fn connect(&self, address: &Address) -> Result<HttpChannel, TransportError> {
        let (Scheme::Http, Some(port)) = (address.scheme(), address.port()) else {
            return Err(TransportError::Unsupported {
                address: address.clone(),
            });
        };
        let host = address.host();
        let base = if host.contains(':') {
            format!("http://[{host}]:{port}")
        } else {
            format!("http://{host}:{port}")
        };
        let broken = |_: snow::Error| TransportError::Protocol {
            detail: "a bad handshake",
        };
        let (initiator, message) = Initiator::start().map_err(broken)?;
        let post = self.post(&base, OPEN).body(message.to_vec()).send();
        let answer = async {
            let response = post.await.map_err(|error| unreachable(address, &error))?;
            check(response.status())?;
            let mut arrivals = Arrivals::new(response.bytes_stream(), self.limits.handshake);
            let answer = arrivals.exactly::<{ noise::SECOND }>().await?;
            // The connection can be used again once the body has ended.
            arrivals.linger().await;
            Ok(answer)
        };
        let answer = self
            .within(self.limits.handshake, "handshake", answer)
            .await?;
        let (id, keys) = initiator.finish(&answer).map_err(broken)?;
        Ok(HttpChannel {
            client: self.clone(),
            base,
            id,
            keys: Arc::new(keys),
            next: AtomicU32::new(0),
            closed: AtomicBool::new(false),
            runtime: tokio::runtime::Handle::current(),
        })
    }

    fn post(&self, base: &str, path: &str) -> reqwest::RequestBuilder {
        self.http
            .post(format!("{base}{path}"))
            .header(CONTENT_TYPE, MEDIA_TYPE)
    }

    async fn within<T>(
        &self,
        limit: std::time::Duration,
        what: &'static str,
        future: impl Future<Output = Result<T, TransportError>>,
    ) -> Result<T, TransportError> {
        let timed_out = TransportError::TimedOut {
            what,
            after_ms: limit.as_millis() as u64,
        };
        tokio::time::timeout(limit, future)
            .await
            .unwrap_or(Err(timed_out))
    }
}

/// What the innermost cause says: the outer ones say that a request to a URL failed.
fn unreachable(address: &Address, error: &reqwest::Error) -> TransportError {
    let mut cause: &dyn Error = error;
    while let Some(source) = cause.source() {
        cause = source;
    }
    TransportError::Unreachable {
        address: address.clone(),
        detail: cause.to_string(),
    }
}

fn check(status: StatusCode) -> Result<(), TransportError> {
    match status {
        StatusCode::OK => Ok(()),
        StatusCode::GONE => Err(TransportError::UnknownChannel),
        StatusCode::SERVICE_UNAVAILABLE => Err(TransportError::Busy),
        StatusCode::CONFLICT => Err(TransportError::Replayed),
        StatusCode::BAD_REQUEST => Err(TransportError::Tampered),
        _ => Err(TransportError::Protocol {
            detail: "no Eidetica server answers there",
        }),
    }
}

/// The client's end of a channel.
pub(crate) struct HttpChannel {
    client: Client,
    base: String,
    id: ChannelId,
    keys: Arc<Keys>,
    next: AtomicU32,
    closed: AtomicBool,
    runtime: tokio::runtime::Handle,
}

impl HttpChannel {
    /// The next request number, once each. A channel that has used them all is done.
    fn number(&self) -> Result<u32, TransportError> {
        let more = |number: u32| number.checked_add(1);
        self.next
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, more)
            .map_err(|_| TransportError::UnknownChannel)
    }

    fn head(&self, number: u32) -> BytesMut {
        let mut head = BytesMut::new();
        head.extend_from_slice(&self.id);
        head.extend_from_slice(&number.to_le_bytes());
        head
    }

    /// The request that closes the channel.
    fn farewell(&self) -> Option<reqwest::RequestBuilder> {
        let number = self.number().ok()?;
        let sealer = Sealer::new(Arc::clone(&self.keys), number);
        let body = Sealed::new(
            FrameStream::empty(),
            sealer,
            self.head(number),
            self.client.limits.keep_alive,
        )
        .ok()?;
        let post = self
            .client
            .post(&self.base, CLOSE)
            .timeout(self.client.limits.handshake);
        Some(post.body(reqwest::Body::wrap_stream(body)))
    }
}

#[async_trait]
impl Channel for HttpChannel {
    fn binding(&self) -> Binding {
        self.keys.binding()
    }

    async fn request(&self, body: FrameStream) -> Result<FrameStream, TransportError> {
        if self.closed.load(Ordering::Relaxed) {
            return Err(TransportError::Closed);
        }
        let number = self.number()?;
        let (accept, accepted) = oneshot::channel();
        let frames = Gate {
            frames: body,
            accepted: Some(accepted),
            room: EAGER_BYTES,
            held: None,
        };
        let sealer = Sealer::new(Arc::clone(&self.keys), number);
        let body = Sealed::new(
            frames,
            sealer,
            self.head(number),
            self.client.limits.keep_alive,
        )?;
        let post = self
            .client
            .post(&self.base, REQUEST)
            .body(reqwest::Body::wrap_stream(body))
            .send();
        let head = async {
            let response = post.await.map_err(|_| TransportError::PeerGone)?;
            check(response.status())?;
            Ok(response)
        };
        let response = self
            .client
            .within(self.client.limits.response, "response", head)
            .await?;
        // Nobody waits when the body has ended already.
        let _ = accept.send(());
        let arrivals = Arrivals::new(response.bytes_stream(), self.client.limits.idle);
        let opener = Opener::new(Arc::clone(&self.keys), number);
        let limit = Box::new(|| eidetica_transport::limits::FRAME);
        Ok(FrameStream::new(Opened::new(
            arrivals,
            opener,
            &self.client.budget,
            limit,
        )))
    }

    async fn close(&self) {
        if self.closed.swap(true, Ordering::Relaxed) {
            return;
        }
        if let Some(farewell) = self.farewell() {
            // A server that does not hear it forgets the channel by itself.
            let _ = farewell.send().await;
        }
    }
}

impl Drop for HttpChannel {
    fn drop(&mut self) {
        if self.closed.swap(true, Ordering::Relaxed) {
            return;
        }
        if let Some(farewell) = self.farewell() {
            self.runtime.spawn(farewell.send());
        }
    }
}

/// Holds frames back, after the first few, until the server has accepted the request: a refused request would
/// otherwise send them for nothing, and be reset before it reads why.
struct Gate {
    frames: FrameStream,
    accepted: Option<oneshot::Receiver<()>>,
    room: usize,
    held: Option<Bytes>,
}

impl Stream for Gate {
    type Item = Result<Bytes, TransportError>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let frame = match self.held.take() {
            Some(frame) => frame,
            None => match std::task::ready!(self.frames.poll_next_unpin(cx)) {
                Some(Ok(frame)) => frame,
                other => return Poll::Ready(other),
            },
        };
        let Some(accepted) = &mut self.accepted else {
            return Poll::Ready(Some(Ok(frame)));
        };
        match Pin::new(accepted).poll(cx) {
            Poll::Ready(Ok(())) => self.accepted = None,
            Poll::Ready(Err(_)) => return Poll::Ready(Some(Err(TransportError::PeerGone))),
            Poll::Pending => match self.room.checked_sub(frame.len()) {
                Some(room) => self.room = room,
                None => {
                    self.held = Some(frame);
                    return Poll::Pending;
                }
            },
        }
        Poll::Ready(Some(Ok(frame)))
    }
}
