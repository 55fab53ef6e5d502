//! The streams of one session: of a request that this node makes or answers.

use std::{pin::pin, sync::Arc};

use bytes::Bytes;
use eidetica_transport::{Channel, FrameSink, FrameStream, Progress, TransportError, pipe};
use futures::{FutureExt, StreamExt, future::BoxFuture, stream};

use crate::link::Link;

/// Where a session's frames go and come from.
#[derive(Default)]
pub(crate) struct Wire {
    link: Option<Arc<Link>>,
    sink: Option<FrameSink>,
    /// Of the last sink.
    sent: Progress,
    frames: Option<FrameStream>,
    opening: Option<Opening>,
    /// Why the last request could not be opened, for whoever waits for its response.
    failed: Option<TransportError>,
}

/// A request that the peer has not yet taken.
struct Opening {
    channel: Arc<dyn Channel>,
    response: BoxFuture<'static, Result<FrameStream, TransportError>>,
    /// What was sent of it, in case the peer does not know the channel any more. No more than pipes hold.
    sent: Vec<Bytes>,
    ended: bool,
    again: bool,
}

impl Wire {
    /// For sessions that ask.
    pub(crate) fn of_link(link: Arc<Link>) -> Self {
        Self {
            link: Some(link),
            ..Self::default()
        }
    }

    /// For a session that answers.
    pub(crate) fn of_request(request: FrameStream, response: FrameSink) -> Self {
        Self {
            sent: response.progress().clone(),
            sink: Some(response),
            frames: Some(request),
            ..Self::default()
        }
    }

    /// Begins a request, in place of the one before.
    pub(crate) fn open(&mut self) {
        let Some(link) = &self.link else { return };
        let (sink, body) = pipe();
        self.sent = sink.progress().clone();
        let (channel, asked) = (link.channel(), Arc::clone(link));
        let response = async move { asked.current().await?.request(body.into()).await }.boxed();
        (self.sink, self.frames, self.failed) = (Some(sink), None, None);
        self.opening = Some(Opening {
            channel,
            response,
            sent: Vec::new(),
            ended: false,
            again: false,
        });
    }

    /// What was taken of our frames; of a request that has ended, too.
    pub(crate) fn sent(&self) -> Progress {
        self.sent.clone()
    }

    /// Changes when anything has moved, this way or that, and when a request begins.
    pub(crate) fn moved(&self) -> (u64, u64) {
        let arrived = self.frames.as_ref().map(FrameStream::progress);
        let arrived = arrived.map_or(0, Progress::pieces);
        (self.sent.pieces(), arrived)
    }

    /// Sends a frame, with back-pressure. False when nobody reads any more; what the peer said may still be there.
    pub(crate) async fn send(&mut self, frame: Bytes) -> bool {
        let Some(sink) = &mut self.sink else {
            return false;
        };
        if let Some(opening) = self.opening.as_mut().filter(|opening| !opening.again) {
            opening.sent.push(frame.clone());
        }
        let failed = {
            let mut sending = pin!(sink.send(frame));
            loop {
                let Some(opening) = &mut self.opening else {
                    return sending.await.is_ok();
                };
                tokio::select! {
                    biased;
                    response = &mut opening.response => match response {
                        Ok(response) => (self.frames, self.opening) = (Some(response), None),
                        Err(error) => break error,
                    },
                    sent = &mut sending => return sent.is_ok(),
                }
            }
        };
        // If it is opened again, this frame is sent again with those before it.
        self.open_again(failed)
    }

    /// No more frames of ours.
    pub(crate) fn end(&mut self) {
        if let Some(opening) = &mut self.opening {
            opening.ended = true;
        }
        if let Some(sink) = self.sink.take() {
            sink.finish();
        }
    }

    /// The next frame of the peer's, or its end. For ever pending when there is no stream. Cancel safe.
    pub(crate) async fn next(&mut self) -> Result<Option<Bytes>, TransportError> {
        while let Some(opening) = &mut self.opening {
            match (&mut opening.response).await {
                Ok(response) => (self.frames, self.opening) = (Some(response), None),
                Err(error) => {
                    self.open_again(error);
                }
            }
        }
        if let Some(error) = self.failed.take() {
            return Err(error);
        }
        let Some(frames) = &mut self.frames else {
            return std::future::pending().await;
        };
        let frame = frames.next().await;
        if !matches!(frame, Ok(Some(_))) {
            self.frames = None;
        }
        frame
    }

    /// After a failed opening: if the channel is gone, makes another one and the same request again, once; requests
    /// may be made twice. Else false, and the link is not to be used any more.
    fn open_again(&mut self, error: TransportError) -> bool {
        let (Some(opening), Some(link)) = (self.opening.take(), &self.link) else {
            return false;
        };
        let stale = matches!(
            error,
            TransportError::UnknownChannel | TransportError::PeerGone
        );
        if !stale || opening.again {
            if error != TransportError::Busy {
                link.mark_broken();
            }
            (self.sink, self.failed) = (None, Some(error));
            return false;
        }
        let Opening {
            channel: stale,
            sent,
            ended,
            ..
        } = opening;
        let (sink, body) = pipe();
        self.sent = sink.progress().clone();
        let (sent, progress) = (stream::iter(sent).map(Ok), self.sent());
        let body = if ended {
            FrameStream::with_progress(sent, progress)
        } else {
            FrameStream::with_progress(sent.chain(body), progress)
        };
        let (link, forgotten) = (Arc::clone(link), Arc::clone(&stale));
        let response = async move { link.reopen(&forgotten).await?.request(body).await }.boxed();
        self.sink = (!ended).then_some(sink);
        self.opening = Some(Opening {
            channel: stale,
            response,
            sent: Vec::new(),
            ended,
            again: true,
        });
        true
    }
}
