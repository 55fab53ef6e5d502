//! Running one end of a live stream: both directions at once, for as long as it lives.

use std::{future::Future, sync::Arc};

use bytes::Bytes;
use eidetica_engine::StreamId;
use eidetica_entry::{Id, PublicKey};
use eidetica_protocol::{
    CloseReason, Failure, Input, Live, LiveConfig, LiveEvent, Notice, Output, ProvenKeys,
};
use eidetica_transport::{FrameSink, FrameStream, TransportError, pipe};
use futures::{
    FutureExt, StreamExt,
    future::BoxFuture,
    stream::{self, BoxStream, FuturesUnordered},
};
use tokio::{
    sync::{mpsc, watch},
    time::{Instant, timeout_at},
};
use tokio_util::sync::CancellationToken;

use crate::{
    clock::now_ms,
    driver::News,
    link::Link,
    session::{Services, until},
};

/// How the task of a stream is told things.
pub(crate) struct Control {
    pub(crate) id: StreamId,
    pub(crate) notices: mpsc::Receiver<Notice>,
    /// Cancelled when the stream is to end.
    pub(crate) token: CancellationToken,
}

/// The claims that an acceptor shows.
pub(crate) struct Claims {
    /// Told what the stream is about, as that grows.
    pub(crate) about: Option<watch::Sender<Vec<Id>>>,
    /// Gives out those to show whenever there are others.
    pub(crate) notices: BoxStream<'static, Notice>,
}

/// Opens a stream on a link and runs it to its end.
pub(crate) async fn dial(
    link: Arc<Link>,
    databases: Vec<Id>,
    mut control: Control,
    services: &Arc<Services>,
) -> Result<(), Failure> {
    let device = link.identity().device;
    let mut machine = Live::dial(LiveConfig {
        peer: ProvenKeys::device(device),
        version: link.identity().version,
        claims: Vec::new(),
        databases,
    });
    let first = loop {
        match machine.poll_output(now_ms()) {
            Output::Send(frame) => break frame,
            Output::Done(result) => return result,
            _ => {}
        }
    };
    let opened = tokio::select! {
        () = control.token.cancelled() => return Err(Failure::Closed(CloseReason::Cancelled)),
        opened = open(&link, &first) => opened,
    };
    let (sink, frames) = opened.map_err(|error| {
        tracing::debug!(%device, %error, "no news");
        Failure::Closed(CloseReason::Cut)
    })?;
    machine.handle_sent();
    // A dialler shows its claims by the handshake.
    let claims = Claims {
        about: None,
        notices: stream::pending().boxed(),
    };
    talk(
        machine,
        (sink, frames),
        claims,
        &mut control,
        services,
        device,
    )
    .await
}

/// The request that begins with this frame; on another channel if the peer has forgotten this one.
async fn open(link: &Arc<Link>, first: &Bytes) -> Result<(FrameSink, FrameStream), TransportError> {
    let channel = link.current().await?;
    let request = |frame: Bytes| async {
        let (mut sink, body) = pipe();
        sink.send(frame).await?;
        Ok::<_, TransportError>((sink, FrameStream::from(body)))
    };
    let (sink, body) = request(first.clone()).await?;
    match channel.request(body).await {
        Err(TransportError::UnknownChannel | TransportError::PeerGone) => {
            let channel = link.reopen(&channel).await?;
            let (sink, body) = request(first.clone()).await?;
            Ok((sink, channel.request(body).await?))
        }
        opened => Ok((sink, opened?)),
    }
}

/// Runs a stream to its end.
pub(crate) async fn talk(
    mut machine: Live,
    (sink, mut frames): (FrameSink, FrameStream),
    mut claims: Claims,
    control: &mut Control,
    services: &Arc<Services>,
    peer: PublicKey,
) -> Result<(), Failure> {
    let mut running: FuturesUnordered<BoxFuture<'static, Input>> = FuturesUnordered::new();
    let mut sending: Option<(Bytes, Instant)> = None;
    let mut sink = Some(sink);
    let mut stopped = false;
    loop {
        let at_ms = match machine.poll_output(now_ms()) {
            Output::OpenRequest => continue,
            Output::End => {
                sink.take().into_iter().for_each(FrameSink::finish);
                continue;
            }
            Output::Send(frame) => {
                sending = Some((frame, Instant::now() + services.send));
                continue;
            }
            Output::Query(id, query) => {
                let answer = Arc::clone(services).query(query);
                running.push(answer.map(move |answer| Input::Answer(id, answer)).boxed());
                continue;
            }
            Output::Ingest(id, batch) => {
                let report = Arc::clone(services).ingest(batch, peer);
                running.push(
                    report
                        .map(move |report| Input::Ingested(id, report))
                        .boxed(),
                );
                continue;
            }
            Output::Event(event) => {
                if let (Some(about), LiveEvent::Subscribed(_)) = (&claims.about, &event) {
                    about.send_replace(machine.databases().copied().collect());
                }
                report(services, control.id, event).await;
                continue;
            }
            Output::Done(result) => return result,
            Output::Timeout(at_ms) => at_ms,
        };
        let input = tokio::select! {
            biased;
            () = control.token.cancelled(), if !stopped => {
                stopped = true;
                Input::Closed(CloseReason::Cancelled)
            }
            Some(notice) = control.notices.recv() => {
                machine.handle_notice(notice);
                continue;
            }
            Some(notice) = claims.notices.next() => {
                machine.handle_notice(notice);
                continue;
            }
            Some(input) = running.next() => input,
            sent = send(&mut sink, sending.as_ref()) => {
                sending = None;
                if sent {
                    machine.handle_sent();
                    continue;
                }
                Input::Closed(CloseReason::Cut)
            }
            frame = frames.next(), if machine.wants_frame() => match frame {
                Ok(Some(frame)) => Input::Frame(frame),
                Ok(None) => Input::End,
                Err(error) => {
                    tracing::trace!(%error, "a live stream broke");
                    Input::Closed(CloseReason::Cut)
                }
            },
            () = until(at_ms) => Input::Tick,
        };
        machine.handle_input(input, now_ms());
    }
}

/// Sends the frame, if there is one; for ever pending if not. False when nobody takes it in time. Cancel safe.
fn send<'a>(
    sink: &'a mut Option<FrameSink>,
    sending: Option<&(Bytes, Instant)>,
) -> impl Future<Output = bool> + 'a {
    let sending = sending.cloned();
    async move {
        match sending.zip(sink.as_mut()) {
            None => std::future::pending().await,
            Some(((frame, deadline), sink)) => {
                matches!(timeout_at(deadline, sink.send(frame)).await, Ok(Ok(())))
            }
        }
    }
}

async fn report(services: &Services, id: StreamId, event: LiveEvent) {
    // The driver is gone, and this ends with it.
    let _ = services.news.send(News::Live(id, event)).await;
}
