//! HTTP bodies as streams of encrypted chunks, in both directions, with their deadlines.

use std::{
    future::Future,
    io,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
    time::Duration,
};

use bytes::{Bytes, BytesMut};
use eidetica_transport::{
    Blame, Budget, FrameStream, Progress, Share, TransportError, limits as transport_limits,
};
use futures::{FutureExt, Stream, StreamExt, stream::BoxStream};
use parking_lot::Mutex;
use tokio::time::{Instant, Sleep};

use crate::{
    limits::{CHUNK_DATA, LINGER, LINGER_BYTES},
    record::{self, Kind, Opener, Sealer},
};

/// What arrives of a body, and a deadline for the next whole piece of it.
pub(crate) struct Arrivals {
    body: BoxStream<'static, Result<Bytes, ()>>,
    buffer: BytesMut,
    idle: Duration,
    deadline: Pin<Box<Sleep>>,
    /// Whether the deadline runs: from when somebody waits to when a piece is whole.
    waiting: bool,
    ended: bool,
}

impl Arrivals {
    pub(crate) fn new<E>(
        body: impl Stream<Item = Result<Bytes, E>> + Send + 'static,
        idle: Duration,
    ) -> Self {
        Self {
            body: body.map(|piece| piece.map_err(drop)).boxed(),
            buffer: BytesMut::new(),
            idle,
            deadline: Box::pin(tokio::time::sleep(idle)),
            waiting: false,
            ended: false,
        }
    }

    /// The same, with another deadline from now on.
    pub(crate) fn with_idle(mut self, idle: Duration) -> Self {
        self.idle = idle;
        self.waiting = false;
        self
    }

    /// The next piece that `take` finds in what has arrived.
    fn poll_piece<T>(
        &mut self,
        cx: &mut Context<'_>,
        take: impl Fn(&mut BytesMut) -> Option<T>,
    ) -> Poll<Result<T, TransportError>> {
        loop {
            if let Some(piece) = take(&mut self.buffer) {
                self.waiting = false;
                return Poll::Ready(Ok(piece));
            }
            if self.ended {
                return Poll::Ready(Err(TransportError::Truncated));
            }
            match self.body.poll_next_unpin(cx) {
                Poll::Ready(Some(Ok(bytes))) if self.buffer.is_empty() => {
                    self.buffer = BytesMut::from(bytes)
                }
                Poll::Ready(Some(Ok(bytes))) => self.buffer.extend_from_slice(&bytes),
                Poll::Ready(_) => self.ended = true,
                Poll::Pending => {
                    ready!(self.poll_deadline(cx));
                    let after_ms = self.idle.as_millis() as u64;
                    return Poll::Ready(Err(TransportError::TimedOut {
                        what: "data",
                        after_ms,
                    }));
                }
            }
        }
    }

    fn poll_deadline(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        if !std::mem::replace(&mut self.waiting, true) {
            self.deadline.as_mut().reset(Instant::now() + self.idle);
        }
        self.deadline.poll_unpin(cx)
    }

    /// The next `N` bytes.
    pub(crate) async fn exactly<const N: usize>(&mut self) -> Result<[u8; N], TransportError> {
        let take = |buffer: &mut BytesMut| {
            let piece = *buffer.first_chunk::<N>()?;
            drop(buffer.split_to(N));
            Some(piece)
        };
        std::future::poll_fn(|cx| self.poll_piece(cx, take)).await
    }

    /// The next chunk, encrypted.
    pub(crate) async fn chunk(&mut self) -> Result<BytesMut, TransportError> {
        std::future::poll_fn(|cx| self.poll_piece(cx, record::split_chunk)).await
    }

    /// Reads on and throws away, so that the other side sees an answer and not a reset: until the end, but not
    /// more than [`LINGER_BYTES`] and not for longer than [`LINGER`].
    pub(crate) async fn linger(mut self) {
        let drain = async {
            let mut seen = self.buffer.len();
            while !self.ended && seen <= LINGER_BYTES {
                match self.body.next().await {
                    Some(Ok(bytes)) => seen += bytes.len(),
                    _ => break,
                }
            }
        };
        let _ = tokio::time::timeout(LINGER, drain).await;
    }
}

/// Where a request's reader leaves the rest of the body, for [`Arrivals::linger`].
pub(crate) type Rest = Arc<Mutex<Option<Arrivals>>>;

/// Says how long a frame may be now, in bytes.
pub(crate) type FrameLimit = Box<dyn Fn() -> usize + Send>;

/// The frames of a body.
pub(crate) struct Opened {
    arrivals: Option<Arrivals>,
    opener: Opener,
    partial: BytesMut,
    share: Share,
    limit: FrameLimit,
    rest: Option<Rest>,
    progress: Progress,
    _guard: Option<Guard>,
}

/// Kept for as long as a stream lives.
pub(crate) type Guard = Arc<dyn Send + Sync>;

impl Opened {
    pub(crate) fn new(
        arrivals: Arrivals,
        opener: Opener,
        budget: &Arc<Budget>,
        limit: FrameLimit,
    ) -> Self {
        Self {
            arrivals: Some(arrivals),
            opener,
            partial: BytesMut::new(),
            share: Share::of(budget),
            limit,
            rest: None,
            progress: Progress::default(),
            _guard: None,
        }
    }

    /// The frames, whose parts are progress.
    pub(crate) fn frames(self) -> FrameStream {
        let progress = self.progress.clone();
        FrameStream::with_progress(self, progress)
    }

    /// Leaves what is not read there when dropped, and keeps `guard` until then.
    pub(crate) fn with_rest(mut self, rest: Rest, guard: Guard) -> Self {
        self.rest = Some(rest);
        self._guard = Some(guard);
        self
    }

    /// Puts a part to what is there of a frame; a frame when it is the last.
    fn add(&mut self, kind: Kind, part: Bytes) -> Result<Option<Bytes>, TransportError> {
        let len = self.partial.len() + part.len();
        let limit = (self.limit)().min(transport_limits::FRAME);
        if len > limit {
            return Err(TransportError::FrameTooLong {
                len,
                limit,
                by: Blame::Peer,
            });
        }
        if kind == Kind::Last && self.partial.is_empty() {
            return Ok(Some(part));
        }
        // A frame that goes on has a full part, or parts could be made that cost more than they carry.
        if kind == Kind::More && part.len() != CHUNK_DATA {
            return Err(TransportError::Protocol {
                detail: "a part of a frame that is not full",
            });
        }
        if !self.share.grow(part.len()) {
            return Err(TransportError::Busy);
        }
        self.partial.extend_from_slice(&part);
        self.progress.note();
        if kind == Kind::More {
            return Ok(None);
        }
        self.share.release();
        Ok(Some(std::mem::take(&mut self.partial).freeze()))
    }

    fn poll_frame(&mut self, cx: &mut Context<'_>) -> Poll<Result<Option<Bytes>, TransportError>> {
        loop {
            let Some(arrivals) = &mut self.arrivals else {
                return Poll::Ready(Ok(None));
            };
            let chunk = ready!(arrivals.poll_piece(cx, record::split_chunk))?;
            let (kind, part) = self.opener.open(&chunk)?;
            match kind {
                Kind::Keep => {}
                Kind::End if self.partial.is_empty() => {
                    self.leave();
                    return Poll::Ready(Ok(None));
                }
                Kind::End => return Poll::Ready(Err(TransportError::Truncated)),
                Kind::More | Kind::Last => {
                    if let Some(frame) = self.add(kind, part)? {
                        return Poll::Ready(Ok(Some(frame)));
                    }
                }
            }
        }
    }

    /// Gives the body up.
    fn leave(&mut self) {
        let Some(arrivals) = self.arrivals.take() else {
            return;
        };
        match &self.rest {
            Some(rest) => *rest.lock() = Some(arrivals),
            // A client reads the body's own end, so that its connection can be used again.
            None => {
                if let Ok(runtime) = tokio::runtime::Handle::try_current() {
                    runtime.spawn(arrivals.linger());
                }
            }
        }
    }
}

impl Stream for Opened {
    type Item = Result<Bytes, TransportError>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let frame = ready!(self.poll_frame(cx));
        if frame.is_err() {
            match &self.rest {
                Some(_) => self.leave(),
                None => self.arrivals = None,
            }
        }
        Poll::Ready(frame.transpose())
    }
}

impl Drop for Opened {
    fn drop(&mut self) {
        // A client that stops reading breaks the connection, which is how the server learns of it.
        if self.rest.is_some() {
            self.leave();
        }
    }
}

/// Frames as a body: encrypted, with an empty chunk now and then while there is no frame.
pub(crate) struct Sealed<S> {
    frames: S,
    /// Of those who send the frames.
    progress: Progress,
    sealer: Sealer,
    /// What goes before the frames.
    head: BytesMut,
    /// The rest of a frame that is partly sent.
    current: Option<Bytes>,
    keep_alive: Duration,
    silence: Pin<Box<Sleep>>,
    state: State,
    rest: Option<Rest>,
    _guard: Option<Guard>,
}

enum State {
    Frames,
    Lingering(futures::future::BoxFuture<'static, ()>),
    Done,
}

impl<S> Sealed<S>
where
    S: Stream<Item = Result<Bytes, TransportError>> + Unpin,
{
    /// A body that begins with `head` and an empty chunk.
    pub(crate) fn new(
        frames: S,
        progress: Progress,
        mut sealer: Sealer,
        mut head: BytesMut,
        keep_alive: Duration,
    ) -> Result<Self, TransportError> {
        sealer.seal_mark(Kind::Keep, &mut head)?;
        Ok(Self {
            frames,
            progress,
            sealer,
            head,
            current: None,
            keep_alive,
            silence: Box::pin(tokio::time::sleep(keep_alive)),
            state: State::Frames,
            rest: None,
            _guard: None,
        })
    }

    /// Reads what is left there before the body ends, and keeps `guard` until then.
    pub(crate) fn with_rest(mut self, rest: Rest, guard: Guard) -> Self {
        self.rest = Some(rest);
        self._guard = Some(guard);
        self
    }

    /// The next piece of the body, of some chunks.
    fn poll_body(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Bytes, TransportError>>> {
        let mut out = std::mem::take(&mut self.head);
        while out.len() < CHUNK_DATA {
            let mut frame = match self.current.take() {
                Some(frame) => frame,
                None => match self.frames.poll_next_unpin(cx) {
                    Poll::Ready(Some(Ok(frame))) => frame,
                    Poll::Ready(Some(Err(error))) => return Poll::Ready(Some(Err(error))),
                    Poll::Ready(None) => {
                        self.sealer.seal_mark(Kind::End, &mut out)?;
                        self.state = self.linger();
                        break;
                    }
                    Poll::Pending if out.is_empty() => return self.poll_silence(cx),
                    Poll::Pending => break,
                },
            };
            if frame.len() > transport_limits::FRAME {
                let (len, limit) = (frame.len(), transport_limits::FRAME);
                return Poll::Ready(Some(Err(TransportError::FrameTooLong {
                    len,
                    limit,
                    by: Blame::Caller,
                })));
            }
            if !self.sealer.seal_frame(&mut frame, &mut out)? {
                self.current = Some(frame);
            }
        }
        self.progress.note();
        self.rest_from_now();
        Poll::Ready(Some(Ok(out.freeze())))
    }

    fn poll_silence(
        &mut self,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Bytes, TransportError>>> {
        ready!(self.silence.as_mut().poll(cx));
        self.rest_from_now();
        // Armed for whoever polls next: the caller will poll again after this piece.
        let mut out = BytesMut::new();
        self.sealer.seal_mark(Kind::Keep, &mut out)?;
        Poll::Ready(Some(Ok(out.freeze())))
    }

    fn rest_from_now(&mut self) {
        self.silence
            .as_mut()
            .reset(Instant::now() + self.keep_alive);
    }

    fn linger(&self) -> State {
        match self.rest.as_ref().and_then(|rest| rest.lock().take()) {
            Some(arrivals) => State::Lingering(arrivals.linger().boxed()),
            None => State::Done,
        }
    }
}

impl<S> Stream for Sealed<S>
where
    S: Stream<Item = Result<Bytes, TransportError>> + Unpin,
{
    type Item = Result<Bytes, io::Error>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        match &mut self.state {
            State::Frames => {
                let piece = ready!(self.poll_body(cx));
                if matches!(piece, Some(Err(_))) {
                    self.state = State::Done;
                }
                Poll::Ready(piece.map(|piece| piece.map_err(io::Error::other)))
            }
            State::Lingering(linger) => {
                ready!(linger.poll_unpin(cx));
                self.state = State::Done;
                Poll::Ready(None)
            }
            State::Done => Poll::Ready(None),
        }
    }
}
