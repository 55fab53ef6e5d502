//! The accepting side: who is let in, one task that watches each connection, and its requests.

use std::sync::Arc;

use async_trait::async_trait;
use eidetica_transport::{
    Address, Binding, Budget, FrameSink, FrameStream, Listener, ServerChannel, TransportError, pipe,
};
use iroh::endpoint::{Connection, Incoming, RecvStream, SendStream};
use parking_lot::Mutex;
use tokio::{sync::mpsc, time::timeout};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use crate::{
    binding,
    error::code,
    frames::{Receiving, Sending},
    limits::{self, IrohLimits},
    peers::{Peer, Peers, Place, Running},
    transport::address_of,
};

/// Stands before the frames of a request.
pub(crate) const REQUEST: u8 = 1;
/// Stands before the frames of a response: the request is taken.
pub(crate) const TAKEN: u8 = 1;

/// Whoever listens now, if anybody does. An endpoint is there for dialling too.
#[derive(Default)]
pub(crate) struct Hall {
    server: Mutex<Option<Arc<Server>>>,
}

impl Hall {
    /// Takes the place of the one that listens.
    pub(crate) fn open(&self, server: &Arc<Server>, bind: &str) -> Result<(), TransportError> {
        let mut current = self.server.lock();
        if current.is_some() {
            return Err(TransportError::InUse {
                bind: bind.to_owned(),
            });
        }
        *current = Some(Arc::clone(server));
        Ok(())
    }

    fn leave(&self, server: &Arc<Server>) {
        let mut current = self.server.lock();
        if current
            .as_ref()
            .is_some_and(|other| Arc::ptr_eq(other, server))
        {
            *current = None;
        }
    }

    /// Takes or refuses what comes, until the endpoint is closed.
    pub(crate) async fn receive(self: Arc<Self>, endpoint: iroh::Endpoint) {
        while let Some(incoming) = endpoint.accept().await {
            match self.server.lock().clone() {
                Some(server) => server.receive(incoming),
                None => incoming.refuse(),
            }
        }
    }
}

/// What the tasks of a listener share.
pub(crate) struct Server {
    own: iroh::EndpointId,
    limits: IrohLimits,
    peers: Peers,
    budget: Arc<Budget>,
    accepted: mpsc::Sender<IrohServerChannel>,
    tasks: TaskTracker,
    /// Cancelled when no more requests are taken.
    draining: CancellationToken,
    /// Cancelled to end everything at once.
    dropped: CancellationToken,
}

impl Server {
    pub(crate) fn new(
        limits: IrohLimits,
        own: iroh::EndpointId,
    ) -> (Arc<Self>, mpsc::Receiver<IrohServerChannel>) {
        let (accepted, taken) = mpsc::channel(limits::ACCEPT_QUEUE);
        let server = Self {
            own,
            limits,
            peers: Peers::new(limits),
            budget: Budget::new(limits.reassembly_bytes),
            accepted,
            tasks: TaskTracker::new(),
            draining: CancellationToken::new(),
            dropped: CancellationToken::new(),
        };
        (Arc::new(server), taken)
    }

    fn receive(self: Arc<Self>, incoming: Incoming) {
        if self.peers.is_crowded() && !incoming.remote_addr_validated() {
            // Only for one that is validated already, which it is not.
            let _ = incoming.retry();
            return;
        }
        let place = self.peers.enter();
        let tasks = self.tasks.clone();
        tasks.spawn(async move {
            self.meet(incoming, &place).await;
            place.cancel();
        });
    }

    /// From a peer's first packet to the end of its connection.
    async fn meet(self: Arc<Self>, incoming: Incoming, place: &Place) {
        let connection = tokio::select! {
            () = self.dropped.cancelled() => return,
            () = self.draining.cancelled() => return,
            () = place.cancelled() => return,
            made = timeout(self.limits.handshake, incoming) => match made {
                Ok(Ok(connection)) => connection,
                Ok(Err(error)) => return tracing::debug!(%error, "no connection came about"),
                Err(_) => return,
            },
        };
        let Some(binding) = binding::of(&connection, &self.own) else {
            return connection.close(code::DONE, b"");
        };
        let released = self.draining.child_token();
        let peer = self.peers.peer(connection, place, released);
        let channel = IrohServerChannel {
            server: Arc::clone(&self),
            peer: Arc::clone(&peer),
            binding,
        };
        if self.accepted.try_send(channel).is_err() {
            return peer.close(code::BUSY);
        }
        self.watch(&peer).await;
        self.peers.leave(&peer);
    }

    /// Ends a connection that proves nothing, is not used, or is not wanted any more.
    async fn watch(&self, peer: &Arc<Peer>) {
        let connection = &peer.connection;
        tokio::select! {
            biased;
            () = self.dropped.cancelled() => return peer.close(code::FORGOTTEN),
            () = peer.dropped.cancelled() => return peer.close(code::FORGOTTEN),
            () = peer.released.cancelled() => {}
            () = peer.admitted.cancelled() => {}
            _ = connection.closed() => return,
            () = tokio::time::sleep(self.limits.handshake) => return peer.close(code::UNPROVEN),
        }
        while !peer.released.is_cancelled() {
            tokio::select! {
                biased;
                () = self.dropped.cancelled() => return peer.close(code::FORGOTTEN),
                () = peer.dropped.cancelled() => return peer.close(code::FORGOTTEN),
                () = peer.released.cancelled() => {}
                _ = connection.closed() => return,
                () = tokio::time::sleep(self.peers.pause()) => {
                    if peer.is_unused() {
                        return peer.close(code::FORGOTTEN);
                    }
                }
            }
        }
        tokio::select! {
            () = self.dropped.cancelled() => {}
            () = peer.dropped.cancelled() => {}
            _ = connection.closed() => {}
            () = refuse_all(connection) => {}
            () = until_quiet(peer) => {}
        }
        peer.close(code::FORGOTTEN);
    }

    /// Takes a request.
    fn begin(
        &self,
        peer: &Arc<Peer>,
        (send, receive): (SendStream, RecvStream),
    ) -> (FrameStream, FrameSink) {
        let (sink, response) = pipe();
        let (running, reading) = (peer.begin(), peer.begin());
        let sending = Sending::new(send, self.limits.idle);
        let dropped = self.dropped.clone();
        let progress = response.progress().clone();
        self.tasks.spawn(async move {
            tokio::select! {
                () = dropped.cancelled() => {}
                () = sending.run(TAKEN, response, &progress) => {}
            }
            drop(running);
        });
        let limited = Arc::clone(peer);
        let limit = move || limited.frame_limit();
        let receiving = Receiving::new(receive, self.limits.idle, &self.budget, limit);
        (request_frames(receiving, reading), sink)
    }
}

/// The frames of a request, behind its head.
fn request_frames(mut receiving: Receiving, reading: Running) -> FrameStream {
    use futures::{StreamExt, stream};
    let progress = receiving.progress();
    let begun = async move {
        match receiving.head().await {
            Ok(REQUEST) => receiving.with_guard(Box::new(reading)).frames(),
            Ok(_) => failed(TransportError::Protocol {
                detail: "a stream that is no request",
            }),
            Err(error) => failed(error),
        }
    };
    FrameStream::with_progress(stream::once(begun).flatten(), progress)
}

fn failed(error: TransportError) -> FrameStream {
    FrameStream::new(futures::stream::iter([Err(error)]))
}

/// Refuses every further request, for as long as it is polled.
async fn refuse_all(connection: &Connection) {
    while let Ok((send, mut receive)) = connection.accept_bi().await {
        Sending::new(send, std::time::Duration::ZERO).refuse(code::FORGOTTEN);
        // Refused only where the stream is gone already.
        let _ = receive.stop(code::FORGOTTEN);
    }
    std::future::pending().await
}

async fn until_quiet(peer: &Peer) {
    loop {
        let quiet = peer.quiet.notified();
        if peer.is_quiet() {
            return;
        }
        quiet.await;
    }
}

/// Listens on an endpoint.
pub(crate) struct IrohListener {
    pub(crate) endpoint: iroh::Endpoint,
    pub(crate) hall: Arc<Hall>,
    pub(crate) server: Arc<Server>,
    pub(crate) accepted: mpsc::Receiver<IrohServerChannel>,
}

#[async_trait]
impl Listener for IrohListener {
    fn address(&self) -> Address {
        address_of(&self.endpoint.addr())
    }

    async fn accept(&mut self) -> Result<Box<dyn ServerChannel>, TransportError> {
        tokio::select! {
            biased;
            () = self.server.draining.cancelled() => Err(TransportError::Closed),
            channel = self.accepted.recv() => match channel {
                Some(channel) => Ok(Box::new(channel)),
                None => Err(TransportError::Closed),
            },
        }
    }

    async fn shutdown(&mut self) {
        self.hall.leave(&self.server);
        self.server.draining.cancel();
        // Connections that nobody has taken.
        self.accepted.close();
        while self.accepted.try_recv().is_ok() {}
        let tasks = &self.server.tasks;
        tasks.close();
        if timeout(self.server.limits.shutdown, tasks.wait())
            .await
            .is_err()
        {
            tracing::debug!("requests still run: dropped");
            self.server.dropped.cancel();
            tasks.wait().await;
        }
    }
}

impl Drop for IrohListener {
    fn drop(&mut self) {
        self.hall.leave(&self.server);
        self.server.draining.cancel();
        self.server.dropped.cancel();
    }
}

/// The accepting end of a connection.
pub(crate) struct IrohServerChannel {
    server: Arc<Server>,
    peer: Arc<Peer>,
    binding: Binding,
}

#[async_trait]
impl ServerChannel for IrohServerChannel {
    fn binding(&self) -> Binding {
        self.binding
    }

    fn remote(&self) -> String {
        self.peer.connection.remote_id().to_string()
    }

    fn mark_proven(&self) {
        self.server.peers.mark_proven(&self.peer);
    }

    async fn next_request(&mut self) -> Option<(FrameStream, FrameSink)> {
        tokio::select! {
            biased;
            () = self.peer.released.cancelled() => None,
            () = self.peer.dropped.cancelled() => None,
            stream = self.peer.connection.accept_bi() => {
                Some(self.server.begin(&self.peer, stream.ok()?))
            }
        }
    }
}

impl Drop for IrohServerChannel {
    fn drop(&mut self) {
        self.peer.released.cancel();
    }
}
