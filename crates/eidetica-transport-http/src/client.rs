//! The client: dials, and makes one POST of each request.
//!
//! It speaks plain HTTP/1.1 to exactly the place it is told: no proxy, no redirect, no TLS.

use std::{
    error::Error,
    io,
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU32, Ordering},
    },
    task::{Context, Poll},
    time::Duration,
};

use async_trait::async_trait;
use bytes::{Bytes, BytesMut};
use eidetica_transport::{
    Address, Binding, Budget, Channel, FrameStream, Progress, Scheme, TransportError,
};
use futures::{Stream, StreamExt};
use http_body_util::{BodyExt, Full, StreamBody, combinators::UnsyncBoxBody};
use hyper::{
    Request, Response, StatusCode,
    body::{Frame, Incoming},
    header::CONTENT_TYPE,
};
use hyper_util::{
    client::legacy::{self, connect::HttpConnector},
    rt::{TokioExecutor, TokioTimer},
};
use tokio::sync::oneshot;

use crate::{
    body::{Arrivals, Opened, Sealed},
    limits::{EAGER_BYTES, HttpLimits},
    noise::{self, ChannelId, Initiator, Keys},
    record::{Opener, Sealer},
    server::{CLOSE, MEDIA_TYPE, OPEN, REQUEST},
};

/// The body of a request.
type Body = UnsyncBoxBody<Bytes, io::Error>;

/// What the channels of a client share.
#[derive(Clone)]
pub(crate) struct Client {
    http: legacy::Client<HttpConnector, Body>,
    pub(crate) limits: HttpLimits,
    pub(crate) budget: Arc<Budget>,
}

impl Client {
    pub(crate) fn new(limits: HttpLimits) -> Self {
        let mut connector = HttpConnector::new();
        connector.set_nodelay(true);
        connector.set_connect_timeout(Some(limits.handshake));
        let http = legacy::Client::builder(TokioExecutor::new())
            .timer(TokioTimer::new())
            .pool_timer(TokioTimer::new())
            // Well below the server's patience, or a request would meet a connection that is being closed.
            .pool_idle_timeout(limits.head / 3)
            .build(connector);
        Self {
            http,
            limits,
            budget: Budget::new(limits.reassembly_bytes),
        }
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
        let post = || self.post(&base, OPEN, whole(Bytes::copy_from_slice(&message)));
        let answer = async {
            let response = match post().await {
                // A connection kept from before met its end. Beginning a handshake once more does no harm.
                Err(error) if was_cut(&error) => post().await,
                answered => answered,
            };
            let response = response.map_err(|error| unreachable(address, &error))?;
            check(response.status())?;
            let mut arrivals = arrivals(response, self.limits.handshake);
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

    fn post(
        &self,
        base: &str,
        path: &str,
        body: Body,
    ) -> impl Future<Output = Result<Response<Incoming>, PostError>> + Send + use<> {
        let request = Request::post(format!("{base}{path}"))
            .header(CONTENT_TYPE, MEDIA_TYPE)
            .body(body);
        let http = self.http.clone();
        async move { Ok(http.request(request?).await?) }
    }

    async fn within<T>(
        &self,
        limit: Duration,
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

type PostError = Box<dyn Error + Send + Sync>;

fn whole(bytes: Bytes) -> Body {
    Full::new(bytes)
        .map_err(|never| match never {})
        .boxed_unsync()
}

fn streamed<S>(pieces: Sealed<S>) -> Body
where
    S: Stream<Item = Result<Bytes, TransportError>> + Unpin + Send + 'static,
{
    StreamBody::new(pieces.map(|piece| piece.map(Frame::data))).boxed_unsync()
}

fn arrivals(response: Response<Incoming>, idle: Duration) -> Arrivals {
    Arrivals::new(response.into_body().into_data_stream(), idle)
}

/// Whether a connection ended before it brought an answer.
fn was_cut(error: &PostError) -> bool {
    use io::ErrorKind::{BrokenPipe, ConnectionAborted, ConnectionReset};
    let is_cut = |error: &(dyn Error + 'static)| match error.downcast_ref::<io::Error>() {
        Some(error) => matches!(
            error.kind(),
            BrokenPipe | ConnectionAborted | ConnectionReset
        ),
        None => error
            .downcast_ref()
            .is_some_and(hyper::Error::is_incomplete_message),
    };
    let mut cause: Option<&(dyn Error + 'static)> = Some(&**error);
    while let Some(error) = cause {
        if is_cut(error) {
            return true;
        }
        cause = error.source();
    }
    false
}

/// What the innermost cause says: the outer ones say that a request to a URL failed.
fn unreachable(address: &Address, error: &PostError) -> TransportError {
    let mut cause: &dyn Error = &**error;
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
    fn farewell(&self) -> Option<impl Future<Output = ()> + Send + use<>> {
        let number = self.number().ok()?;
        let sealer = Sealer::new(Arc::clone(&self.keys), number);
        let body = Sealed::new(
            FrameStream::empty(),
            Progress::default(),
            sealer,
            self.head(number),
            self.client.limits.keep_alive,
        )
        .ok()?;
        let post = self.client.post(&self.base, CLOSE, streamed(body));
        let limit = self.client.limits.handshake;
        // A server that does not hear it forgets the channel by itself.
        Some(async move { drop(tokio::time::timeout(limit, post).await) })
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
        let progress = body.progress().clone();
        let frames = Gate {
            frames: body,
            accepted: Some(accepted),
            room: EAGER_BYTES,
            held: None,
        };
        let sealer = Sealer::new(Arc::clone(&self.keys), number);
        let body = Sealed::new(
            frames,
            progress,
            sealer,
            self.head(number),
            self.client.limits.keep_alive,
        )?;
        let post = self.client.post(&self.base, REQUEST, streamed(body));
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
        let arrivals = arrivals(response, self.client.limits.idle);
        let opener = Opener::new(Arc::clone(&self.keys), number);
        let limit = Box::new(|| eidetica_transport::limits::FRAME);
        Ok(Opened::new(arrivals, opener, &self.client.budget, limit).frames())
    }

    async fn close(&self) {
        if self.closed.swap(true, Ordering::Relaxed) {
            return;
        }
        if let Some(farewell) = self.farewell() {
            farewell.await;
        }
    }
}

impl Drop for HttpChannel {
    fn drop(&mut self) {
        if self.closed.swap(true, Ordering::Relaxed) {
            return;
        }
        if let Some(farewell) = self.farewell() {
            self.runtime.spawn(farewell);
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
