//! The dialling side: a connection, on which each request is a stream.

use std::sync::{
    Arc,
    atomic::{AtomicBool, Ordering},
};

use async_trait::async_trait;
use eidetica_transport::{
    Binding, Budget, Channel, FrameStream, TransportError, limits as transport_limits,
};
use futures::StreamExt;
use iroh::endpoint::Connection;
use tokio::time::timeout;
use tokio_util::sync::{CancellationToken, DropGuard};

use crate::{
    error::{code, late, of_connection},
    frames::{Receiving, Sending},
    limits::IrohLimits,
    server::{REQUEST, TAKEN},
};

/// The dialling end of a connection.
pub(crate) struct IrohChannel {
    pub(crate) link: Arc<Link>,
    pub(crate) binding: Binding,
    pub(crate) limits: IrohLimits,
    pub(crate) budget: Arc<Budget>,
    pub(crate) closed: AtomicBool,
}

/// A connection that is closed when neither its channel nor a response on it is left.
pub(crate) struct Link(pub(crate) Connection);

impl Drop for Link {
    fn drop(&mut self) {
        self.0.close(code::DONE, b"");
    }
}

#[async_trait]
impl Channel for IrohChannel {
    fn binding(&self) -> Binding {
        self.binding
    }

    async fn request(&self, body: FrameStream) -> Result<FrameStream, TransportError> {
        if self.closed.load(Ordering::Relaxed) {
            return Err(TransportError::Closed);
        }
        let limits = &self.limits;
        let opened = timeout(limits.response, self.link.0.open_bi()).await;
        let (send, receive) = opened
            .map_err(|_| TransportError::Busy)?
            .map_err(|error| of_connection(&error, limits.idle))?;
        let abandoned = CancellationToken::new();
        let (stop, sending) = (abandoned.clone(), Sending::new(send, limits.idle));
        let progress = body.progress().clone();
        tokio::spawn(async move {
            tokio::select! {
                () = stop.cancelled() => {}
                () = sending.run(REQUEST, body, &progress) => {}
            }
        });
        let guard = Abandon {
            sending: Some(abandoned.drop_guard()),
            _link: Arc::clone(&self.link),
        };
        let mut receiving = Receiving::new(receive, limits.idle, &self.budget, || {
            transport_limits::FRAME
        });
        let head = timeout(limits.response, receiving.head()).await;
        match head.map_err(|_| late("response", limits.response))?? {
            TAKEN => Ok(guard.keep(receiving.frames())),
            _ => Err(TransportError::Protocol {
                detail: "a stream that is no response",
            }),
        }
    }

    async fn close(&self) {
        self.closed.store(true, Ordering::Relaxed);
        self.link.0.close(code::DONE, b"");
    }
}

/// Stops the sending of a request whose response is dropped before its end.
struct Abandon {
    sending: Option<DropGuard>,
    _link: Arc<Link>,
}

impl Abandon {
    fn keep(mut self, mut frames: FrameStream) -> FrameStream {
        let progress = frames.progress().clone();
        let kept = futures::stream::poll_fn(move |cx| {
            let frame = std::task::ready!(frames.poll_next_unpin(cx));
            if frame.is_none()
                && let Some(sending) = self.sending.take()
            {
                sending.disarm();
            }
            std::task::Poll::Ready(frame)
        });
        FrameStream::with_progress(kept, progress)
    }
}
