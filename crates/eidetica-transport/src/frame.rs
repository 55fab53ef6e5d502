//! Streams of frames with back-pressure and a real end.

use std::{
    collections::VecDeque,
    fmt,
    future::poll_fn,
    pin::Pin,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    task::{Context, Poll, Waker},
};

use bytes::Bytes;
use futures::{
    Stream, StreamExt,
    stream::{self, BoxStream},
};

use crate::{Blame, TransportError, limits};

/// Counts the pieces of frames that moved on one stream: whoever waits for a long frame over a slow link can tell that it is
/// under way. Clones are the same.
///
/// A piece is a frame or a part of one, whose length and time the transport bounds: a transport that cuts whoever is too
/// slow with a piece may count each, and then a peer that sends byte by byte makes no progress.
#[derive(Debug, Clone, Default)]
pub struct Progress(Arc<AtomicU64>);

impl Progress {
    /// One more piece has arrived, or was taken by whatever brings it to the peer.
    pub fn note(&self) {
        self.0.fetch_add(1, Ordering::Relaxed);
    }

    /// How many there were so far.
    pub fn pieces(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// The receiving end of a stream of frames. It ends with `Ok(None)` only if the sender said so; after an error or
/// the end it stays ended.
pub struct FrameStream {
    inner: Option<BoxStream<'static, Result<Bytes, TransportError>>>,
    progress: Progress,
}

impl FrameStream {
    /// Wraps a stream whose end is the end of the frames, and whose first error is its last item.
    pub fn new(stream: impl Stream<Item = Result<Bytes, TransportError>> + Send + 'static) -> Self {
        Self::with_progress(stream, Progress::default())
    }

    /// The same of a stream that notes pieces of frames on their way.
    pub fn with_progress(
        stream: impl Stream<Item = Result<Bytes, TransportError>> + Send + 'static,
        progress: Progress,
    ) -> Self {
        Self {
            inner: Some(Box::pin(stream)),
            progress,
        }
    }

    /// These frames with one before them, which was read already.
    #[must_use]
    pub fn after(self, first: Bytes) -> Self {
        let progress = self.progress.clone();
        Self::with_progress(stream::iter([Ok(first)]).chain(self), progress)
    }

    /// What has moved of it: each frame that was read, and for transports that say so pieces before that.
    ///
    /// Whoever sends the stream on to a peer notes here what was taken.
    pub fn progress(&self) -> &Progress {
        &self.progress
    }

    /// The stream of these frames.
    pub fn of<I>(frames: I) -> Self
    where
        I: IntoIterator<Item = Bytes>,
        I::IntoIter: Send + 'static,
    {
        Self::new(stream::iter(frames).map(Ok))
    }

    /// The stream without frames.
    pub fn empty() -> Self {
        Self::new(stream::empty())
    }

    /// The next frame, `None` at the end. Cancel safe.
    ///
    /// # Errors
    /// The stream was cut off, changed on the way, or its sender is gone.
    pub async fn next(&mut self) -> Result<Option<Bytes>, TransportError> {
        poll_fn(|cx| self.poll_next_unpin(cx)).await.transpose()
    }
}

impl Stream for FrameStream {
    type Item = Result<Bytes, TransportError>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let Some(inner) = &mut self.inner else {
            return Poll::Ready(None);
        };
        let item = std::task::ready!(inner.as_mut().poll_next(cx));
        match item {
            Some(Ok(_)) => self.progress.note(),
            _ => self.inner = None,
        }
        Poll::Ready(item)
    }
}

impl fmt::Debug for FrameStream {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("FrameStream")
            .field("open", &self.inner.is_some())
            .finish()
    }
}

/// A bounded pipe of frames: holds at most [`PIPE_BYTES`](limits::PIPE_BYTES) (or one longer frame) and
/// [`PIPE_FRAMES`](limits::PIPE_FRAMES).
pub fn pipe() -> (FrameSink, PipeReader) {
    let shared = Arc::new(Mutex::new(Pipe::default()));
    let progress = Progress::default();
    (
        FrameSink {
            shared: Some(Arc::clone(&shared)),
            progress: progress.clone(),
        },
        PipeReader { shared, progress },
    )
}

/// The sending end of a stream of frames. Dropping it without [`finish`](Self::finish) cuts the stream off, and
/// the receiver can tell.
pub struct FrameSink {
    // Taken by `finish` and `fail`, so that `drop` knows.
    shared: Option<Arc<Mutex<Pipe>>>,
    progress: Progress,
}

/// The receiving end of a [`pipe`]. A stream that ends after the last frame, or with the reason why it was cut.
/// Dropping it tells the sender.
pub struct PipeReader {
    shared: Arc<Mutex<Pipe>>,
    progress: Progress,
}

impl PipeReader {
    /// As [`FrameStream::progress`].
    pub fn progress(&self) -> &Progress {
        &self.progress
    }
}

#[derive(Default)]
struct Pipe {
    frames: VecDeque<Bytes>,
    bytes: usize,
    /// Set when nothing more is sent: the end, or the reason why there is none.
    end: Option<Result<(), TransportError>>,
    reader_gone: bool,
    reader: Option<Waker>,
    writer: Option<Waker>,
}

impl Pipe {
    fn has_room(&self, len: usize) -> bool {
        self.frames.is_empty()
            || (self.frames.len() < limits::PIPE_FRAMES && self.bytes + len <= limits::PIPE_BYTES)
    }
}

fn lock(shared: &Mutex<Pipe>) -> MutexGuard<'_, Pipe> {
    // Nothing that runs under the lock can panic half way through a change.
    shared.lock().unwrap_or_else(PoisonError::into_inner)
}

fn wake(waker: Option<Waker>) {
    if let Some(waker) = waker {
        waker.wake();
    }
}

impl FrameSink {
    /// What was taken of what was sent: each frame that was read, and for transports that say so pieces after that.
    pub fn progress(&self) -> &Progress {
        &self.progress
    }

    /// Sends a frame; waits while the pipe is full. Cancel safe: a cancelled `send` sent nothing.
    ///
    /// # Errors
    /// [`FrameTooLong`](TransportError::FrameTooLong), and [`PeerGone`](TransportError::PeerGone) when nobody
    /// reads any more.
    pub async fn send(&mut self, frame: Bytes) -> Result<(), TransportError> {
        if frame.len() > limits::FRAME {
            return Err(TransportError::FrameTooLong {
                len: frame.len(),
                limit: limits::FRAME,
                by: Blame::Caller,
            });
        }
        let mut frame = Some(frame);
        poll_fn(|cx| self.poll_send(cx, &mut frame)).await
    }

    fn poll_send(
        &mut self,
        cx: &mut Context<'_>,
        frame: &mut Option<Bytes>,
    ) -> Poll<Result<(), TransportError>> {
        let Some(shared) = &self.shared else {
            return Poll::Ready(Err(TransportError::Closed));
        };
        let mut pipe = lock(shared);
        if pipe.reader_gone {
            return Poll::Ready(Err(TransportError::PeerGone));
        }
        if !pipe.has_room(frame.as_ref().map_or(0, Bytes::len)) {
            pipe.writer = Some(cx.waker().clone());
            return Poll::Pending;
        }
        if let Some(frame) = frame.take() {
            pipe.bytes += frame.len();
            pipe.frames.push_back(frame);
        }
        let reader = pipe.reader.take();
        drop(pipe);
        wake(reader);
        Poll::Ready(Ok(()))
    }

    /// Waits until nobody reads any more.
    pub async fn closed(&mut self) {
        poll_fn(|cx| {
            let Some(shared) = &self.shared else {
                return Poll::Ready(());
            };
            let mut pipe = lock(shared);
            if pipe.reader_gone {
                return Poll::Ready(());
            }
            pipe.writer = Some(cx.waker().clone());
            Poll::Pending
        })
        .await
    }

    /// Ends the stream: the reader sees the frames sent so far, then the end.
    pub fn finish(mut self) {
        self.end(Ok(()));
    }

    /// Cuts the stream off with a reason, which the local reader sees; a remote one sees only that it was cut.
    pub fn fail(mut self, error: TransportError) {
        self.end(Err(error));
    }

    fn end(&mut self, end: Result<(), TransportError>) {
        if let Some(shared) = self.shared.take() {
            let mut pipe = lock(&shared);
            pipe.end = Some(end);
            let reader = pipe.reader.take();
            drop(pipe);
            wake(reader);
        }
    }
}

impl Drop for FrameSink {
    fn drop(&mut self) {
        self.end(Err(TransportError::Truncated));
    }
}

impl fmt::Debug for FrameSink {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("FrameSink")
            .field("open", &self.shared.is_some())
            .finish()
    }
}

impl Stream for PipeReader {
    type Item = Result<Bytes, TransportError>;

    fn poll_next(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let mut pipe = lock(&self.shared);
        let item = match (pipe.frames.pop_front(), &mut pipe.end) {
            (Some(frame), _) => {
                pipe.bytes -= frame.len();
                self.progress.note();
                Some(Ok(frame))
            }
            (None, Some(end)) => std::mem::replace(end, Ok(())).err().map(Err),
            (None, None) => {
                pipe.reader = Some(cx.waker().clone());
                return Poll::Pending;
            }
        };
        let writer = pipe.writer.take();
        drop(pipe);
        wake(writer);
        Poll::Ready(item)
    }
}

impl Drop for PipeReader {
    fn drop(&mut self) {
        let mut pipe = lock(&self.shared);
        pipe.reader_gone = true;
        pipe.frames.clear();
        pipe.bytes = 0;
        let writer = pipe.writer.take();
        drop(pipe);
        wake(writer);
    }
}

impl From<PipeReader> for FrameStream {
    fn from(reader: PipeReader) -> Self {
        let progress = reader.progress.clone();
        Self::with_progress(reader, progress)
    }
}

impl fmt::Debug for PipeReader {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PipeReader").finish_non_exhaustive()
    }
}
