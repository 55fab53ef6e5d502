//! The server: listens, counts connections, answers.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use bytes::Bytes;
use eidetica_entry::PublicKey;
use eidetica_transport::{FrameSink, FrameStream, Listener, ServerChannel, TransportError};
use futures::{FutureExt as _, StreamExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio::task::spawn_blocking;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::desk::{Desk, Witness};
use crate::framed::{Framed, frames_of, send_all};
use crate::identity::{Identity, IdentityError, only_frame};
use crate::places::{Place, Places};
use crate::rates::{Peer, Rates};
use crate::served::{Authdb, Served};
use crate::{ServerLimits, limits};

/// Where a server listens.
pub enum Binding {
    /// Plain TCP.
    Tcp(TcpListener),
    /// A transport; with an identity nobody is served who has not proven an allowed key.
    Channels(Box<dyn Listener>, Option<Identity>),
}

/// Why a connection ended.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ServeError {
    /// The system's error.
    #[error(transparent)]
    Io(#[from] std::io::Error),
    /// The transport's.
    #[error(transparent)]
    Transport(#[from] TransportError),
    /// Who is there has not proven an allowed key.
    #[error(transparent)]
    Identity(#[from] IdentityError),
    /// A deadline passed.
    #[error("it was silent for too long")]
    Idle,
    /// All places, or those of its address, are taken.
    #[error("there are too many connections")]
    NoPlace,
    /// This side has a bug: answering panicked.
    #[error("answering failed")]
    Answering,
}

impl ServeError {
    /// Whether the client has left, with an answer on its way perhaps: it may at any time.
    fn is_departure(&self) -> bool {
        use std::io::ErrorKind::{BrokenPipe, ConnectionAborted, ConnectionReset};
        match self {
            Self::Io(error) => {
                matches!(
                    error.kind(),
                    BrokenPipe | ConnectionAborted | ConnectionReset
                )
            }
            Self::Transport(error) => matches!(error, TransportError::PeerGone),
            _ => false,
        }
    }
}

/// Serves a database until it is stopped.
pub struct Server<D: Authdb, W: Witness> {
    desk: Arc<Desk<Served<D>, W>>,
    limits: ServerLimits,
    places: Arc<Places>,
    stop: CancellationToken,
    tasks: TaskTracker,
}

impl<D: Authdb, W: Witness> Server<D, W> {
    /// A server that does not listen yet.
    #[must_use]
    pub fn new(served: Arc<Served<D>>, limits: ServerLimits, witness: W) -> Arc<Self> {
        let desk = Desk {
            name: served.name().clone(),
            served,
            rates: Rates::new(&limits),
            witness,
        };
        Arc::new(Self {
            desk: Arc::new(desk),
            limits,
            places: Places::new(limits.connections, limits.connections_per_address),
            stop: CancellationToken::new(),
            tasks: TaskTracker::new(),
        })
    }

    /// Serves whoever comes, until [`Server::stop`].
    ///
    /// # Errors
    /// [`ServeError`] when nobody else can be accepted.
    pub async fn listen(self: &Arc<Self>, binding: Binding) -> Result<(), ServeError> {
        match binding {
            Binding::Tcp(listener) => self.accept_tcp(&listener).await,
            Binding::Channels(listener, identity) => self.accept_channels(listener, identity).await,
        }
    }

    /// Takes no more requests, and gives those that are being answered a moment.
    pub async fn stop(&self) {
        self.stop.cancel();
        self.tasks.close();
        if timeout(limits::STOPPING, self.tasks.wait()).await.is_err() {
            tracing::warn!("connections were cut off that did not end in time");
        }
    }

    async fn accept_tcp(self: &Arc<Self>, listener: &TcpListener) -> Result<(), ServeError> {
        loop {
            let accepted = tokio::select! {
                biased;
                () = self.stop.cancelled() => return Ok(()),
                accepted = listener.accept() => accepted,
            };
            match accepted {
                Ok((stream, from)) => self.enter_tcp(stream, from),
                // The client was gone already, or there are no more sockets for now.
                Err(error) => {
                    self.fail("nobody", &error.into());
                    tokio::time::sleep(limits::ACCEPT_PAUSE).await;
                }
            }
        }
    }

    fn enter_tcp(self: &Arc<Self>, stream: TcpStream, from: SocketAddr) {
        let Some(place) = self.places.take(Some(from.ip())) else {
            return self.fail(from, &ServeError::NoPlace);
        };
        let server = Arc::clone(self);
        self.tasks.spawn(async move {
            let peer = Peer {
                address: Some(from.ip()),
                key: None,
            };
            let served = server.serve_tcp(stream, peer);
            server.host(from, place, served).await;
        });
    }

    /// Counts a connection while it is served.
    async fn host(
        &self,
        from: impl std::fmt::Display,
        place: Place,
        served: impl Future<Output = Result<(), ServeError>>,
    ) {
        self.desk.witness.connections(1);
        if let Err(error) = served.await {
            self.fail(from, &error);
        }
        self.desk.witness.connections(-1);
        drop(place);
    }

    fn fail(&self, from: impl std::fmt::Display, error: &ServeError) {
        tracing::debug!(%from, %error, "a connection ended");
        if !error.is_departure() {
            self.desk.witness.failed(error);
        }
    }

    /// Answers what comes on a connection, in order. What has arrived together is answered together.
    async fn serve_tcp(&self, stream: TcpStream, peer: Peer) -> Result<(), ServeError> {
        stream.set_nodelay(true)?;
        let mut frames = frames_of(stream, eidetica_statesync::limits::REQUEST_BYTES);
        // Whoever dials has something to ask.
        let mut patience = limits::DIAL;
        loop {
            let first = tokio::select! {
                biased;
                () = self.stop.cancelled() => return Ok(()),
                first = timeout(patience, frames.next()) => first.map_err(|_| ServeError::Idle)?,
            };
            patience = self.limits.idle;
            let Some(first) = first else { return Ok(()) };
            let mut requests = vec![first?.freeze()];
            while requests.len() < limits::PIPELINE
                && let Some(Some(next)) = frames.next().now_or_never()
            {
                requests.push(next?.freeze());
            }
            self.answer_all(&mut frames, peer, requests).await?;
        }
    }

    async fn answer_all(
        &self,
        frames: &mut Framed,
        peer: Peer,
        requests: Vec<Bytes>,
    ) -> Result<(), ServeError> {
        let mut requests = requests.into_iter();
        while requests.len() > 0 {
            let desk = Arc::clone(&self.desk);
            let answering = spawn_blocking(move || {
                let mut answers = Vec::with_capacity(requests.len());
                let mut bytes = 0;
                while bytes < limits::ANSWER_BYTES
                    && let Some(request) = requests.next()
                {
                    let answer = desk.answer(&peer, &request);
                    bytes += answer.len();
                    answers.push(answer);
                }
                (answers, requests)
            });
            let (answers, rest) = answering.await.map_err(|_| ServeError::Answering)?;
            requests = rest;
            send_all(frames, answers).await?;
        }
        Ok(())
    }

    async fn accept_channels(
        self: &Arc<Self>,
        mut listener: Box<dyn Listener>,
        identity: Option<Identity>,
    ) -> Result<(), ServeError> {
        let accepted = loop {
            let accepted = tokio::select! {
                biased;
                () = self.stop.cancelled() => break Ok(()),
                accepted = listener.accept() => accepted,
            };
            match accepted {
                Ok(channel) => self.enter_channel(channel, identity.clone()),
                Err(error) => break Err(error.into()),
            }
        };
        listener.shutdown().await;
        accepted
    }

    /// Until a peer has proven its key, the transport's own limits on strangers hold; only then it takes a place.
    fn enter_channel(
        self: &Arc<Self>,
        mut channel: Box<dyn ServerChannel>,
        identity: Option<Identity>,
    ) {
        let from = channel.remote();
        let address = address_of(&from);
        let server = Arc::clone(self);
        self.tasks.spawn(async move {
            let identified = match identity {
                None => Ok(None),
                Some(identity) => server.identify(&mut *channel, &identity).await.map(Some),
            };
            match identified {
                Err(error) => server.fail(from, &error),
                Ok(key) => match server.places.take(address) {
                    None => server.fail(from, &ServeError::NoPlace),
                    Some(place) => {
                        let served = server.serve_channel(channel, Peer { address, key });
                        server.host(from, place, served).await;
                    }
                },
            }
        });
    }

    async fn identify(
        &self,
        channel: &mut dyn ServerChannel,
        identity: &Identity,
    ) -> Result<PublicKey, ServeError> {
        let proven = tokio::select! {
            () = self.stop.cancelled() => return Err(ServeError::Idle),
            proven = timeout(limits::DIAL, identity.identify(channel)) => proven,
        };
        Ok(proven.map_err(|_| ServeError::Idle)??)
    }

    async fn serve_channel(
        self: &Arc<Self>,
        mut channel: Box<dyn ServerChannel>,
        peer: Peer,
    ) -> Result<(), ServeError> {
        channel.mark_proven();
        let turns = Arc::new(Semaphore::new(limits::CHANNEL_REQUESTS));
        loop {
            let next = async {
                let turn = Arc::clone(&turns).acquire_owned().await.ok()?;
                Some((turn, channel.next_request().await?))
            };
            let next = tokio::select! {
                biased;
                () = self.stop.cancelled() => return Ok(()),
                next = timeout(self.limits.idle, next) => next.map_err(|_| ServeError::Idle)?,
            };
            let Some((turn, (request, reply))) = next else {
                return Ok(());
            };
            let server = Arc::clone(self);
            self.tasks.spawn(async move {
                if let Err(error) = server.answer_call(peer, request, reply).await {
                    server.fail("a call", &error);
                }
                drop(turn);
            });
        }
    }

    async fn answer_call(
        &self,
        peer: Peer,
        mut request: FrameStream,
        mut reply: FrameSink,
    ) -> Result<(), ServeError> {
        let request = timeout(limits::DIAL, only_frame(&mut request)).await;
        let request = request.map_err(|_| ServeError::Idle)??;
        let desk = Arc::clone(&self.desk);
        let answer = spawn_blocking(move || desk.answer(&peer, &request)).await;
        reply
            .send(answer.map_err(|_| ServeError::Answering)?.into())
            .await?;
        reply.finish();
        Ok(())
    }
}

fn address_of(remote: &str) -> Option<IpAddr> {
    let socket = remote.parse().map(|socket: SocketAddr| socket.ip());
    socket.ok().or_else(|| remote.parse().ok())
}
