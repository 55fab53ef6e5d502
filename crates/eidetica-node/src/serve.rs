//! The server: accepts channels, proves who is there, answers requests.

use std::{collections::HashMap, sync::Arc};

use bytes::Bytes;
use eidetica_auth::{DeviceClaim, SecretKey};
use eidetica_entry::{Id, PublicKey};
use eidetica_protocol::{
    CloseReason, Failure, Frame, Live, LiveConfig, LiveOpen, Notice, PeerIdentity, ProvenKeys,
    Refusal, Reply, Request, Responder, ResponderConfig,
    handshake::{Acceptor, HandshakeError, Side, VERSIONS},
    limits::CLAIMS,
};
use eidetica_transport::{FrameSink, FrameStream, Listener, ServerChannel, TransportError};
use futures::{StreamExt, stream};
use parking_lot::Mutex;
use tokio::{
    sync::{Semaphore, watch},
    time::{sleep, timeout},
};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use crate::{
    clock::now_ms,
    driver::News,
    handle::Shared,
    limits, live,
    session::{self, Services, Stop},
    slots::{Slots, Turns},
    wire::Wire,
};

/// What the tasks of a server share.
pub(crate) struct Server {
    shared: Arc<Shared>,
    device: Arc<SecretKey>,
    services: Arc<Services>,
    /// Those that run.
    handshakes: Mutex<Turns>,
    channels: Arc<Slots>,
    requests: Arc<Slots>,
    by_device: Mutex<HashMap<PublicKey, Device>>,
    /// No more channels and requests.
    closing: CancellationToken,
    /// No more answers either.
    stop: Stop,
    tasks: TaskTracker,
}

/// What runs for one device.
#[derive(Default)]
struct Device {
    channels: Turns,
    answers: Turns,
}

impl Device {
    fn is_idle(&mut self) -> bool {
        self.channels.is_empty() && self.answers.is_empty()
    }
}

#[derive(Debug, thiserror::Error)]
enum Refused {
    #[error("{0}")]
    Transport(#[from] TransportError),
    #[error("{0}")]
    Handshake(#[from] HandshakeError),
}

impl Server {
    pub(crate) fn new(
        shared: Arc<Shared>,
        device: Arc<SecretKey>,
        services: Arc<Services>,
    ) -> Arc<Self> {
        let limits = shared.limits;
        Arc::new(Self {
            shared,
            device,
            services,
            handshakes: Mutex::default(),
            channels: Slots::new(limits.channels, limits.channels_for_known),
            requests: Slots::new(limits.requests, limits.requests_for_known),
            by_device: Mutex::default(),
            closing: CancellationToken::new(),
            stop: Stop {
                token: CancellationToken::new(),
                reason: CloseReason::Shutdown,
            },
            tasks: TaskTracker::new(),
        })
    }

    /// Serves what a listener accepts.
    pub(crate) fn start(self: &Arc<Self>, listener: Box<dyn Listener>) {
        self.tasks.spawn(Arc::clone(self).accept(listener));
    }

    /// Stops: no more requests, a while for those that run, then nothing.
    pub(crate) async fn shutdown(&self) {
        self.closing.cancel();
        self.tasks.close();
        if timeout(self.shared.limits.shutdown, self.tasks.wait())
            .await
            .is_err()
        {
            self.stop.token.cancel();
            self.tasks.wait().await;
        }
    }

    async fn accept(self: Arc<Self>, mut listener: Box<dyn Listener>) {
        loop {
            let accepted = tokio::select! {
                biased;
                () = self.closing.cancelled() => break,
                accepted = listener.accept() => accepted,
            };
            let Ok(channel) = accepted else { break };
            let turn = CancellationToken::new();
            let limit = self.shared.limits.handshakes;
            self.handshakes.lock().enter(turn.clone(), limit);
            self.tasks.spawn(Arc::clone(&self).serve(channel, turn));
        }
        listener.shutdown().await;
    }

    /// Serves one channel to its end.
    async fn serve(self: Arc<Self>, mut channel: Box<dyn ServerChannel>, turn: CancellationToken) {
        let identified = tokio::select! {
            () = self.closing.cancelled() => return,
            // Others came since, and there is no room.
            () = turn.cancelled() => return,
            identified = timeout(self.shared.limits.handshake, self.identify(&mut *channel)) => identified,
        };
        turn.cancel();
        let identity = match identified {
            Ok(Ok(identity)) => identity,
            Ok(Err(error)) => {
                return tracing::debug!(remote = channel.remote(), %error, "a handshake failed");
            }
            Err(_) => return,
        };
        let device = identity.device;
        let replaced = CancellationToken::new();
        let known = self.knows(&device);
        let Some(_slot) = self.channels.take(device, known, &replaced) else {
            return tracing::debug!(%device, "no room for another channel");
        };
        channel.mark_proven();
        if self.services.news.send(News::Seen(device)).await.is_err() {
            return;
        }
        self.enter(device, &replaced);
        self.answer_requests(&mut *channel, identity, &replaced)
            .await;
        self.leave(&device, &replaced);
    }

    fn knows(&self, device: &PublicKey) -> bool {
        self.shared.engine.lock().peer(device).is_some()
    }

    /// Puts a channel to those of its device; the oldest goes if there are too many. The token ends this one.
    fn enter(&self, device: PublicKey, token: &CancellationToken) {
        let mut by_device = self.by_device.lock();
        let Device { channels, .. } = by_device.entry(device).or_default();
        channels.enter(token.clone(), self.shared.limits.channels_per_device);
    }

    /// The same for an answer, which also ends with the server.
    fn enter_answer(&self, device: PublicKey) -> Stop {
        let token = self.stop.token.child_token();
        let mut by_device = self.by_device.lock();
        let Device { answers, .. } = by_device.entry(device).or_default();
        answers.add(token.clone());
        Stop {
            token,
            reason: CloseReason::Cancelled,
        }
    }

    fn leave(&self, device: &PublicKey, token: &CancellationToken) {
        token.cancel();
        let mut by_device = self.by_device.lock();
        if by_device.get_mut(device).is_some_and(Device::is_idle) {
            by_device.remove(device);
        }
    }

    /// Ends what runs for devices that are served no more.
    pub(crate) fn hang_up(&self) {
        let engine = self.shared.engine.lock();
        let mut by_device = self.by_device.lock();
        for (_, device) in by_device.iter_mut().filter(|(key, _)| !engine.admits(key)) {
            device.channels.end();
            device.answers.end();
        }
    }

    async fn answer_requests(
        self: &Arc<Self>,
        channel: &mut dyn ServerChannel,
        identity: PeerIdentity,
        replaced: &CancellationToken,
    ) {
        let turns = Arc::new(Semaphore::new(self.shared.limits.requests_per_channel));
        loop {
            let next = async {
                let turn = Arc::clone(&turns).acquire_owned().await.ok()?;
                Some((turn, channel.next_request().await?))
            };
            let (turn, (request, response)) = tokio::select! {
                biased;
                () = self.closing.cancelled() => return,
                () = replaced.cancelled() => return,
                next = next => match next {
                    Some(next) => next,
                    None => return,
                },
            };
            // Also one that was blocked meanwhile.
            if !self.shared.engine.lock().admits(&identity.device) {
                return;
            }
            let (server, identity) = (Arc::clone(self), identity.clone());
            self.tasks.spawn(async move {
                let Some((first, rest)) = server.first_frame(request).await else {
                    return;
                };
                if let Some(open) = LiveOpen::in_request(&first) {
                    // News are no request that ends: their places are counted by the engine.
                    drop(turn);
                    return server.tell_news(identity, open, rest, response).await;
                }
                // One that asks nothing yet takes a turn of its channel, and no place of others.
                let device = identity.device;
                let stop = server.enter_answer(device);
                let known = server.knows(&device);
                match server.requests.take(device, known, &stop.token) {
                    Some(_slot) => {
                        let claims = server.claims_about(&identity, &first).await;
                        let request = rest.after(first);
                        server
                            .answer(identity, claims, request, response, &stop)
                            .await;
                    }
                    None => server.refuse(Refusal::UNAVAILABLE, response).await,
                }
                server.leave(&device, &stop.token);
                drop(turn);
            });
        }
    }

    /// The first frame of a request, in time, and the rest.
    async fn first_frame(&self, mut request: FrameStream) -> Option<(Bytes, FrameStream)> {
        let first = tokio::select! {
            () = self.stop.token.cancelled() => return None,
            first = timeout(self.shared.limits.send, request.next()) => first,
        };
        Some((first.ok()?.ok()??, request))
    }

    /// Runs a live stream that a peer opened.
    async fn tell_news(
        self: &Arc<Self>,
        identity: PeerIdentity,
        open: LiveOpen,
        frames: FrameStream,
        sink: FrameSink,
    ) {
        let device = identity.device;
        let accepted = self
            .services
            .ask(|reply| News::AcceptLive {
                device,
                open,
                reply,
            })
            .await;
        let accepted = match accepted {
            Ok(Ok(accepted)) => accepted,
            Ok(Err(refusal)) => return self.refuse(refusal, sink).await,
            Err(_) => return,
        };
        let databases = accepted.databases;
        let renewed = self.renewed_claims(&identity.proven, databases.clone());
        let pool = &self.services.pool;
        let claims = pool
            .choose_claims_for(&identity.proven, self.claims(), databases.clone())
            .await;
        let config = LiveConfig {
            peer: identity.proven,
            version: identity.version,
            claims,
            databases,
        };
        let (id, mut control) = (accepted.id, accepted.control);
        let machine = Live::accept(config, &open);
        let talking = live::talk(
            machine,
            (sink, frames),
            renewed,
            &mut control,
            &self.services,
            device,
        );
        let result = tokio::select! {
            result = talking => result,
            () = self.closing.cancelled() => Err(Failure::Closed(CloseReason::Shutdown)),
        };
        if let Err(error) = &result {
            tracing::debug!(%device, %error, "news ended");
        }
        let _ = self.services.news.send(News::LiveEnded(id, result)).await;
    }

    /// The whole answer to a request that is not gone into.
    async fn refuse(&self, refusal: Refusal, mut sink: FrameSink) {
        if let Ok(frame) = Frame::Reply(Reply::Refused(refusal)).encode() {
            let _ = timeout(self.shared.limits.send, sink.send(frame)).await;
            sink.finish();
        }
    }

    /// The claims again whenever others are to be shown. Those of a login come together.
    fn renewed_claims(self: &Arc<Self>, peer: &ProvenKeys, about: Vec<Id>) -> live::Claims {
        let changes = self.shared.claims.subscribe();
        let (about, grows) = watch::channel(about);
        let next = |(server, peer, mut changes, mut grows): (
            Arc<Self>,
            ProvenKeys,
            watch::Receiver<u64>,
            watch::Receiver<Vec<Id>>,
        )| async move {
            tokio::select! {
                changed = changes.changed() => changed.ok()?,
                grown = grows.changed() => grown.ok()?,
            }
            sleep(limits::CLAIMS_TOGETHER).await;
            changes.mark_unchanged();
            let about = grows.borrow_and_update().clone();
            let claims = server.claims();
            let pool = &server.services.pool;
            let claims = pool.choose_claims_for(&peer, claims, about).await;
            Some((Notice::Claims(claims), (server, peer, changes, grows)))
        };
        let start = (Arc::clone(self), peer.clone(), changes, grows);
        live::Claims {
            about: Some(about),
            notices: stream::unfold(start, next).boxed(),
        }
    }

    fn claims(&self) -> Vec<DeviceClaim> {
        let engine = self.shared.engine.lock();
        let device = self.device.public();
        engine.claims_of(device, now_ms()).cloned().collect()
    }

    /// The claims to show to whoever asks this. The frame is looked into where they are too many, and else by the
    /// responder alone.
    async fn claims_about(&self, identity: &PeerIdentity, request: &Bytes) -> Vec<DeviceClaim> {
        let claims = self.claims();
        if claims.len() <= CLAIMS {
            return claims;
        }
        match Request::database_in(request) {
            Some(database) => {
                let pool = &self.services.pool;
                pool.choose_claims_for(&identity.proven, claims, vec![database])
                    .await
            }
            None => claims,
        }
    }

    async fn answer(
        &self,
        identity: PeerIdentity,
        claims: Vec<DeviceClaim>,
        request: FrameStream,
        response: FrameSink,
        stop: &Stop,
    ) {
        let device = identity.device;
        let responder = Responder::new(ResponderConfig {
            peer: identity.proven,
            claims,
        });
        let wire = Wire::of_request(request, response);
        // Whoever is blocked from now on is hung up on.
        if self.shared.engine.lock().admits(&device) {
            match session::run(responder, wire, device, &self.services, stop).await {
                Ok(served) => tracing::debug!(%device, ?served, "answered"),
                Err(error) => tracing::debug!(%device, %error, "a request failed"),
            }
        }
    }

    /// The identity handshake, from the accepting side.
    async fn identify(&self, channel: &mut dyn ServerChannel) -> Result<PeerIdentity, Refused> {
        let binding = *channel.binding().as_bytes();
        let side = Side {
            device: &self.device,
            binding,
            nonce: rand::random(),
            versions: VERSIONS,
        };
        let (hello, reply) = one_frame(channel).await?;
        let acceptor = respond(reply, Acceptor::hello(&side, &hello)).await?;
        let (proof, reply) = one_frame(channel).await?;
        let admits = |identity: &PeerIdentity| self.shared.engine.lock().admits(&identity.device);
        let proven =
            acceptor
                .proof(&proof)
                .and_then(|(identity, welcome)| match admits(&identity) {
                    true => Ok((identity, welcome)),
                    false => Err(HandshakeError::Refused(Refusal::IDENTITY)),
                });
        respond(reply, proven).await
    }
}

/// The one frame of the next request.
async fn one_frame(channel: &mut dyn ServerChannel) -> Result<(Bytes, FrameSink), Refused> {
    let (mut request, response) = channel
        .next_request()
        .await
        .ok_or(TransportError::PeerGone)?;
    let frame = request.next().await?.ok_or(TransportError::Truncated)?;
    match request.next().await? {
        None => Ok((frame, response)),
        Some(_) => Err(TransportError::Protocol {
            detail: "a handshake message of two frames",
        }
        .into()),
    }
}

/// Sends what a step of the handshake answers, or that it is refused.
async fn respond<T>(
    mut response: FrameSink,
    step: Result<(T, Bytes), HandshakeError>,
) -> Result<T, Refused> {
    let (result, frame) = match step {
        Ok((next, frame)) => (Ok(next), frame),
        Err(error) => {
            let refusal = error.refusal();
            (Err(error), refusal)
        }
    };
    response.send(frame).await?;
    response.finish();
    Ok(result?)
}
