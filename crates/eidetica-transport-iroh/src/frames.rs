//! Frames on a QUIC stream: a length before each, and a mark after the last, since the end of a QUIC stream may be the
//! doing of a task that was dropped.

use std::{future::Future, sync::Arc, time::Duration};

use bytes::{Bytes, BytesMut};
use eidetica_transport::{
    Blame, Budget, FrameStream, Progress, Share, TransportError, limits as transport_limits,
};
use futures::{Stream, StreamExt, stream};
use iroh::endpoint::{ReadError, RecvStream, SendStream, WriteError};
use tokio::time::timeout;

use crate::{
    error::{code, late, of_read},
    limits::PIECE,
};

/// Stands in place of a length after the last frame.
const END: u32 = u32::MAX;

/// Kept for as long as a stream lives.
pub(crate) type Guard = Box<dyn Send>;

/// The sending half of a stream. Dropped before its end it is cut off at once, and the peer can tell.
pub(crate) struct Sending {
    stream: SendStream,
    idle: Duration,
    ended: bool,
}

/// Nobody takes what is sent.
struct NotTaken;

impl Sending {
    pub(crate) fn new(stream: SendStream, idle: Duration) -> Self {
        Self {
            stream,
            idle,
            ended: false,
        }
    }

    /// Sends `head` and the frames until their end, their error, or until nobody reads them. Pieces that are taken are
    /// noted.
    pub(crate) async fn run<S>(mut self, head: u8, frames: S, progress: &Progress)
    where
        S: Stream<Item = Result<Bytes, TransportError>> + Unpin,
    {
        let stopped = self.stream.stopped();
        let sent = tokio::select! {
            sent = self.send(head, frames, progress) => sent,
            _ = stopped => Err(NotTaken),
        };
        // Also after a cut: what was sent before it arrives, and then an end without the mark.
        if sent.is_ok() && self.stream.finish().is_ok() {
            self.ended = true;
            // A connection that is closed now would take with it what has not arrived.
            let _ = timeout(self.idle, self.stream.stopped()).await;
        }
    }

    async fn send<S>(
        &mut self,
        head: u8,
        mut frames: S,
        progress: &Progress,
    ) -> Result<(), NotTaken>
    where
        S: Stream<Item = Result<Bytes, TransportError>> + Unpin,
    {
        self.write(&[head]).await?;
        while let Some(frame) = frames.next().await {
            let Some(frame) = frame
                .ok()
                .filter(|frame| frame.len() <= transport_limits::FRAME)
            else {
                return Ok(());
            };
            self.write(&(frame.len() as u32).to_le_bytes()).await?;
            for piece in frame.chunks(PIECE) {
                self.write(piece).await?;
                progress.note();
            }
        }
        self.write(&END.to_le_bytes()).await
    }

    /// Gives the stream up with a reason for the peer.
    pub(crate) fn refuse(mut self, reason: iroh::endpoint::VarInt) {
        self.ended = self.stream.reset(reason).is_ok();
    }

    async fn write(&mut self, bytes: &[u8]) -> Result<(), NotTaken> {
        let written: Result<(), WriteError> = timeout(self.idle, self.stream.write_all(bytes))
            .await
            .map_err(|_| NotTaken)?;
        written.map_err(|error| {
            tracing::trace!(%error, "frames are not taken");
            NotTaken
        })
    }
}

impl Drop for Sending {
    fn drop(&mut self) {
        if !self.ended {
            // Refused only where the stream is gone already.
            let _ = self.stream.reset(code::CUT);
        }
    }
}

/// The receiving half of a stream.
pub(crate) struct Receiving {
    stream: RecvStream,
    idle: Duration,
    share: Share,
    limit: Box<dyn Fn() -> usize + Send>,
    progress: Progress,
    _guard: Option<Guard>,
}

impl Receiving {
    /// Frames of at most `limit` bytes, as it stands when a frame begins.
    pub(crate) fn new(
        stream: RecvStream,
        idle: Duration,
        budget: &Arc<Budget>,
        limit: impl Fn() -> usize + Send + 'static,
    ) -> Self {
        Self {
            stream,
            idle,
            share: Share::of(budget),
            limit: Box::new(limit),
            progress: Progress::default(),
            _guard: None,
        }
    }

    /// Keeps `guard` as long as the frames are read.
    pub(crate) fn with_guard(mut self, guard: Guard) -> Self {
        self._guard = Some(guard);
        self
    }

    /// The byte that stands before all frames.
    pub(crate) async fn head(&mut self) -> Result<u8, TransportError> {
        let mut head = [0];
        self.fill(&mut head, 0).await?;
        let [head] = head;
        Ok(head)
    }

    /// Where pieces of frames are noted.
    pub(crate) fn progress(&self) -> Progress {
        self.progress.clone()
    }

    /// The frames.
    pub(crate) fn frames(self) -> FrameStream {
        let progress = self.progress();
        let next = |mut receiving: Self| async move {
            let frame = receiving.next().await.transpose()?;
            Some((frame, receiving))
        };
        FrameStream::with_progress(stream::unfold(self, next), progress)
    }

    async fn next(&mut self) -> Result<Option<Bytes>, TransportError> {
        let mut len = [0; 4];
        // A quiet stream may be quiet for ever: that the peer lives is the connection's business.
        let begun = self.read(&mut len).await?;
        within(self.idle, self.fill(&mut len, begun)).await?;
        let len = u32::from_le_bytes(len);
        if len == END {
            return Ok(None);
        }
        let (len, limit) = (len as usize, (self.limit)().min(transport_limits::FRAME));
        if len > limit {
            return Err(TransportError::FrameTooLong {
                len,
                limit,
                by: Blame::Peer,
            });
        }
        let mut frame = BytesMut::new();
        while frame.len() < len {
            let (start, piece) = (frame.len(), PIECE.min(len - frame.len()));
            // No more is taken than has arrived or is on its way at once.
            if !self.share.grow(piece) {
                return Err(TransportError::Busy);
            }
            frame.resize(start + piece, 0);
            let rest = frame.get_mut(start..).unwrap_or_default();
            within(self.idle, self.fill(rest, 0)).await?;
            self.progress.note();
        }
        self.share.release();
        Ok(Some(frame.freeze()))
    }

    /// Fills the buffer from `filled` on.
    async fn fill(&mut self, buffer: &mut [u8], mut filled: usize) -> Result<(), TransportError> {
        while let Some(rest) = buffer.get_mut(filled..).filter(|rest| !rest.is_empty()) {
            filled += self.read(rest).await?;
        }
        Ok(())
    }

    /// What has arrived of the buffer's length, at least a byte.
    async fn read(&mut self, buffer: &mut [u8]) -> Result<usize, TransportError> {
        let read: Result<Option<usize>, ReadError> = self.stream.read(buffer).await;
        match read {
            Ok(Some(read)) => Ok(read),
            // The stream's end without the mark.
            Ok(None) => Err(TransportError::Truncated),
            Err(error) => Err(of_read(error, self.idle)),
        }
    }
}

/// A piece that arrives in time.
async fn within<T>(
    idle: Duration,
    piece: impl Future<Output = Result<T, TransportError>>,
) -> Result<T, TransportError> {
    timeout(idle, piece)
        .await
        .unwrap_or_else(|_| Err(late("data", idle)))
}
