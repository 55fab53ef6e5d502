//! What the rest of an instance holds of a node.

use std::{
    collections::{BTreeMap, btree_map},
    future::Future,
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    task::{Context, Poll},
    time::Duration,
};

use eidetica_auth::{DeviceClaim, InviteProof, RequestId, SignedRequest};
use eidetica_engine::{
    Command, CommandId, Cursor, Engine, EngineError, IncomingRequest, Invite, OutgoingRequest,
    PairState, PastSync, PeerInfo, PeerStats, PeerStatus, Reach, Response, Selection, Target,
    Wishes,
};
use eidetica_entry::{Id, PublicKey};
use eidetica_protocol::{BootstrapAnswer, DatabaseInfo, Outcome};
use eidetica_transport::{Address, Scheme, Transport};
use futures::channel::oneshot;
use parking_lot::Mutex;
use tokio::sync::{mpsc, watch};

use crate::{NodeError, NodeLimits, block_on::block_on, clock::now_ms, driver::Event};

/// What a node is doing, as everybody may see it.
pub(crate) struct Shared {
    pub(crate) engine: Mutex<Engine>,
    /// Enabled transports.
    pub(crate) transports: Mutex<Vec<Arc<dyn Transport>>>,
    /// Where the server listens; empty if it does not run.
    pub(crate) addresses: Mutex<Vec<Address>>,
    /// What changed in the databases and the driver has not heard yet.
    pub(crate) changes: Changes,
    /// Other processes may have written something.
    pub(crate) written: tokio::sync::Notify,
    /// Counts the changes of this node's claims.
    pub(crate) claims: watch::Sender<u64>,
    pub(crate) stopped: AtomicBool,
    pub(crate) limits: NodeLimits,
}

impl Shared {
    pub(crate) fn transport(&self, scheme: Scheme) -> Option<Arc<dyn Transport>> {
        self.transports
            .lock()
            .iter()
            .find(|transport| transport.scheme() == scheme)
            .cloned()
    }
}

/// Databases that changed, each once however often.
#[derive(Default)]
pub(crate) struct Changes {
    /// With whether entries of this instance are among what is new.
    waiting: Mutex<BTreeMap<Id, bool>>,
    pub(crate) some: tokio::sync::Notify,
}

impl Changes {
    pub(crate) fn add(&self, database: Id, here: bool) {
        // Whoever takes them was woken for the first, and has taken none since.
        let wakes = match self.waiting.lock().entry(database) {
            btree_map::Entry::Vacant(entry) => {
                entry.insert(here);
                true
            }
            btree_map::Entry::Occupied(mut entry) => {
                *entry.get_mut() |= here;
                false
            }
        };
        if wakes {
            self.some.notify_one();
        }
    }

    pub(crate) fn take(&self) -> BTreeMap<Id, bool> {
        std::mem::take(&mut *self.waiting.lock())
    }
}

/// A handle of a running node. Cheap to clone; when the last one is dropped, the node shuts down.
#[derive(Clone)]
pub struct NodeHandle {
    pub(crate) shared: Arc<Shared>,
    pub(crate) events: mpsc::Sender<Event>,
    pub(crate) next: Arc<AtomicU64>,
}

/// The result of a command, when it is there: a future for any executor, or [`wait`](Self::wait). Dropping it abandons
/// the wait; the work goes on.
#[must_use = "the command runs, but its result is lost"]
pub struct Pending<T> {
    state: State<T>,
}

enum State<T> {
    Waiting(
        oneshot::Receiver<Result<Response, NodeError>>,
        fn(Response) -> Option<T>,
    ),
    Direct(oneshot::Receiver<Result<T, NodeError>>),
    Failed(Option<NodeError>),
}

impl<T> Pending<T> {
    fn failed(error: NodeError) -> Self {
        Self {
            state: State::Failed(Some(error)),
        }
    }

    /// Blocks this thread until the result is there. Works inside a tokio runtime as well as outside, where it keeps
    /// the thread from doing anything else.
    ///
    /// # Errors
    /// Those of the command.
    pub fn wait(self) -> Result<T, NodeError> {
        block_on(self)
    }
}

// Nothing in it is pinned.
impl<T> Unpin for Pending<T> {}

impl<T> Future for Pending<T> {
    type Output = Result<T, NodeError>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        match &mut self.state {
            State::Waiting(receiver, pick) => {
                let reply = std::task::ready!(Pin::new(receiver).poll(cx))
                    .unwrap_or(Err(NodeError::Stopped));
                // A reply of another kind would be the engine's fault; there is nothing to hand out.
                Poll::Ready(reply.and_then(|response| pick(response).ok_or(NodeError::Stopped)))
            }
            State::Direct(receiver) => Pin::new(receiver)
                .poll(cx)
                .map(|reply| reply.unwrap_or(Err(NodeError::Stopped))),
            State::Failed(error) => Poll::Ready(Err(error.take().unwrap_or(NodeError::Stopped))),
        }
    }
}

impl<T> std::fmt::Debug for Pending<T> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Pending").finish_non_exhaustive()
    }
}

/// What became of a sync with one peer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SyncReport {
    /// Who was reached.
    pub peer: PublicKey,
    /// What became of each database, by id.
    pub databases: Vec<(Id, Result<Outcome, EngineError>)>,
}

impl SyncReport {
    /// The error of the first database that failed, else nothing.
    ///
    /// # Errors
    /// That error.
    pub fn check(&self) -> Result<(), EngineError> {
        let failed = self
            .databases
            .iter()
            .find_map(|(_, result)| result.as_ref().err());
        failed.map_or(Ok(()), |error| Err(error.clone()))
    }
}

/// What a peer offers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Discovery {
    /// Who was reached.
    pub peer: PublicKey,
    /// The databases that this node may read there.
    pub databases: Vec<DatabaseInfo>,
    /// Whether there are more than one answer holds.
    pub more: bool,
}

/// What a peer says to a bootstrap request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Bootstrap {
    /// Who was reached.
    pub peer: PublicKey,
    /// What it says.
    pub answer: BootstrapAnswer,
}

fn done(response: Response) -> Option<()> {
    matches!(response, Response::Done).then_some(())
}

fn bootstrap(response: Response) -> Option<Bootstrap> {
    match response {
        Response::Bootstrap(peer, answer) => Some(Bootstrap { peer, answer }),
        _ => None,
    }
}

impl NodeHandle {
    /// This node's device key.
    pub fn device(&self) -> PublicKey {
        self.shared.engine.lock().device()
    }

    /// The time that the engine goes by, in milliseconds since 1970: the wall clock's, but it never goes back.
    pub fn now_ms(&self) -> u64 {
        now_ms()
    }

    // Transports and the server.

    /// Enables a transport, in place of one of the same scheme. Servers that run already are not touched.
    pub fn enable(&self, transport: Arc<dyn Transport>) {
        let mut transports = self.shared.transports.lock();
        transports.retain(|other| other.scheme() != transport.scheme());
        transports.push(transport);
        transports.sort_by_key(|transport| transport.scheme());
        drop(transports);
        // If the driver is too busy to hear it, it comes to the peers that wait by itself, a little later.
        let _ = self.events.try_send(Event::Online);
    }

    /// Whether a transport of the scheme is enabled.
    pub fn is_enabled(&self, scheme: Scheme) -> bool {
        self.shared.transport(scheme).is_some()
    }

    /// Starts serving on every enabled transport, at `bind`, all or none. The addresses are those to dial, in the
    /// order HTTP, Iroh, memory.
    ///
    /// # Errors
    /// [`NodeError::NoTransport`], [`NodeError::ServerRunning`], and a transport's: a port in use.
    pub fn start_server(&self, bind: &str) -> Pending<Vec<Address>> {
        self.start(bind, false)
    }

    /// The same with the key that all processes of the instance answer with, so that it makes no difference to peers
    /// which of them they reach.
    ///
    /// # Errors
    /// As there.
    pub fn start_service(&self, bind: &str) -> Pending<Vec<Address>> {
        self.start(bind, true)
    }

    fn start(&self, bind: &str, as_service: bool) -> Pending<Vec<Address>> {
        let bind = bind.to_owned();
        self.direct(|reply| Event::StartServer {
            bind,
            as_service,
            reply,
        })
    }

    /// Stops serving, on all transports; requests that run have a few seconds.
    ///
    /// # Errors
    /// [`NodeError::ServerNotRunning`].
    pub fn stop_server(&self) -> Pending<()> {
        self.direct(|reply| Event::StopServer { reply })
    }

    /// Whether the server runs.
    pub fn is_server_running(&self) -> bool {
        !self.shared.addresses.lock().is_empty()
    }

    /// Where the server listens, in the order HTTP, Iroh, memory; empty if it does not run.
    pub fn server_addresses(&self) -> Vec<Address> {
        self.shared.addresses.lock().clone()
    }

    // Peers.

    /// Connects and learns who is there; the peer becomes registered.
    ///
    /// # Errors
    /// Nobody there, or not the one that the address pins.
    pub fn connect(&self, target: Target) -> Pending<PublicKey> {
        let pick = |response| match response {
            Response::Peer(peer) => Some(peer),
            _ => None,
        };
        self.command(Command::Connect(target), self.shared.limits.call, pick)
    }

    /// Remembers a peer; again: only the name changes.
    ///
    /// # Errors
    /// A bad name, or too many peers.
    pub fn register_peer(&self, key: PublicKey, name: Option<String>) -> Pending<()> {
        self.local(Command::RegisterPeer { key, name })
    }

    /// Forgets a peer and everything about it.
    ///
    /// # Errors
    /// The node has stopped.
    pub fn remove_peer(&self, key: PublicKey) -> Pending<()> {
        self.local(Command::RemovePeer(key))
    }

    /// Forgets what is known of a database that was taken away: with whom it was synced, requests for it, invites to it.
    ///
    /// # Errors
    /// The node has stopped.
    pub fn forget_database(&self, database: Id) -> Pending<()> {
        self.local(Command::ForgetDatabase(database))
    }

    /// Allows, pauses or blocks a peer.
    ///
    /// # Errors
    /// An unknown peer.
    pub fn set_peer_status(&self, key: PublicKey, status: PeerStatus) -> Pending<()> {
        self.local(Command::SetStatus(key, status))
    }

    /// Remembers where a peer can be dialled.
    ///
    /// # Errors
    /// An unknown peer, or too many addresses.
    pub fn add_peer_address(&self, key: PublicKey, address: Address) -> Pending<()> {
        self.local(Command::AddAddress(key, address))
    }

    /// Forgets an address of a peer.
    ///
    /// # Errors
    /// An unknown peer.
    pub fn remove_peer_address(&self, key: PublicKey, address: Address) -> Pending<()> {
        self.local(Command::RemoveAddress(key, address))
    }

    /// All registered peers, by key.
    pub fn peers(&self) -> Vec<PeerInfo> {
        self.shared.engine.lock().peers().cloned().collect()
    }

    /// A registered peer.
    pub fn peer(&self, key: &PublicKey) -> Option<PeerInfo> {
        self.shared.engine.lock().peer(key).cloned()
    }

    /// How syncs with a peer went; none before the first contact.
    pub fn stats(&self, peer: &PublicKey) -> Option<PeerStats> {
        self.shared.engine.lock().stats(peer).cloned()
    }

    /// The last syncs with a peer, the oldest first.
    pub fn history(&self, peer: &PublicKey) -> Vec<PastSync> {
        self.shared.engine.lock().history(peer).cloned().collect()
    }

    /// How far a database is synced with a peer; none before the first sync.
    pub fn cursor(&self, peer: &PublicKey, database: &Id) -> Option<Cursor> {
        self.shared.engine.lock().cursor(peer, database).cloned()
    }

    // Sync.

    /// Syncs now, both ways. `create` says that somebody here asked for databases that are not here.
    ///
    /// # Errors
    /// The peer was not reached. What became of each database stands in the report.
    pub fn sync(&self, target: Target, databases: Selection, create: bool) -> Pending<SyncReport> {
        let pick = |response| match response {
            Response::Synced(peer, databases) => Some(SyncReport { peer, databases }),
            _ => None,
        };
        self.command(
            Command::Sync {
                target,
                databases,
                create,
            },
            self.shared.limits.sync,
            pick,
        )
    }

    /// Syncs in the background, with retries, until it succeeds once; survives a restart.
    ///
    /// # Errors
    /// An unknown peer.
    pub fn queue(&self, peer: PublicKey, database: Id) -> Pending<()> {
        self.local(Command::Queue(peer, database))
    }

    /// Says that entries of a database became durable, committed on this instance (`here`) or taken in from a peer, or that
    /// other stores of it are held than before: peers that are connected learn of it at once. Never waits, so that it may be called from a commit.
    pub fn announce(&self, database: Id, here: bool) {
        self.shared.changes.add(database, here);
    }

    /// Says what the users want of a database from now on; none if nobody tracks it.
    ///
    /// # Errors
    /// The node has stopped.
    pub fn set_wishes(&self, database: Id, wishes: Option<Wishes>) -> Pending<()> {
        self.direct(|reply| Event::Wishes {
            database,
            wishes,
            reply,
        })
    }

    /// What the users want of a database, as the engine goes by it.
    pub fn wishes(&self, database: &Id) -> Wishes {
        self.shared.engine.lock().wishes(database)
    }

    /// Whether a peer is connected.
    pub fn reach(&self, peer: &PublicKey) -> Reach {
        self.shared.engine.lock().reach(peer)
    }

    /// How a database stands with every peer that it is synced with or that listens, by peer.
    pub fn pair_states(&self, database: &Id) -> Vec<PairState> {
        self.shared.engine.lock().pair_states(database)
    }

    /// Syncs this database with this peer from now on.
    ///
    /// # Errors
    /// An unknown peer.
    pub fn relate(&self, peer: PublicKey, database: Id) -> Pending<()> {
        self.local(Command::Relate(peer, database))
    }

    /// No longer.
    ///
    /// # Errors
    /// The node has stopped.
    pub fn unrelate(&self, peer: PublicKey, database: Id) -> Pending<()> {
        self.local(Command::Unrelate(peer, database))
    }

    /// The databases that are synced with a peer.
    pub fn related(&self, peer: &PublicKey) -> Vec<Id> {
        self.shared.engine.lock().related(peer)
    }

    /// The peers that a database is synced with.
    pub fn peers_of(&self, database: &Id) -> Vec<PublicKey> {
        self.shared.engine.lock().peers_of(database)
    }

    /// Asks which databases this node may read there.
    ///
    /// # Errors
    /// The peer was not reached, or did not answer.
    pub fn discover(&self, target: Target) -> Pending<Discovery> {
        let pick = |response| match response {
            Response::Databases(peer, databases, more) => Some(Discovery {
                peer,
                databases,
                more,
            }),
            _ => None,
        };
        self.command(Command::Discover(target), self.shared.limits.call, pick)
    }

    // Access.

    /// Asks for access; a request that is pending is remembered and can be polled.
    ///
    /// # Errors
    /// The peer was not reached, or did not answer.
    pub fn bootstrap(&self, target: Target, request: SignedRequest) -> Pending<Bootstrap> {
        let command = Command::Bootstrap {
            target,
            request: Box::new(request),
        };
        self.command(command, self.shared.limits.call, bootstrap)
    }

    /// Asks for access with an invite.
    ///
    /// # Errors
    /// As [`bootstrap`](Self::bootstrap), and why the invite does nothing any more.
    pub fn redeem(
        &self,
        target: Target,
        request: SignedRequest,
        proof: InviteProof,
    ) -> Pending<Bootstrap> {
        let command = Command::Redeem {
            target,
            request: Box::new(request),
            proof: Box::new(proof),
        };
        self.command(command, self.shared.limits.call, bootstrap)
    }

    /// Remembers an invite that was issued here.
    ///
    /// # Errors
    /// Too many invites, for too many keys, or for too long.
    pub fn put_invite(&self, invite: Invite) -> Pending<()> {
        self.local(Command::PutInvite(Box::new(invite)))
    }

    /// Takes an invite back.
    ///
    /// # Errors
    /// No such invite.
    pub fn revoke_invite(&self, invite: PublicKey) -> Pending<()> {
        self.local(Command::RevokeInvite(invite))
    }

    /// The invites that were issued here and are remembered.
    pub fn invites(&self) -> Vec<Invite> {
        self.shared.engine.lock().invites().cloned().collect()
    }

    /// Asks what became of an own request.
    ///
    /// # Errors
    /// No such request, or the peer was not reached.
    pub fn poll_request(&self, id: RequestId) -> Pending<Bootstrap> {
        self.command(Command::PollRequest(id), self.shared.limits.call, bootstrap)
    }

    /// Waits until an own request is decided, and the database is here if it was granted: true; false if it was denied.
    ///
    /// # Errors
    /// No such request, no decision before `deadline`, or the database could not be fetched.
    pub fn await_request(&self, id: RequestId, deadline: Duration) -> Pending<bool> {
        let pick = |response| match response {
            Response::Bootstrap(..) => Some(false),
            Response::Synced(..) => Some(true),
            _ => None,
        };
        self.command(Command::AwaitRequest(id), deadline, pick)
    }

    /// Withdraws an own request.
    ///
    /// # Errors
    /// No such request, or the peer was not reached.
    pub fn cancel_request(&self, id: RequestId) -> Pending<()> {
        self.command(Command::CancelRequest(id), self.shared.limits.call, done)
    }

    /// The bootstrap requests of others, pending and decided.
    pub fn incoming_requests(&self) -> Vec<IncomingRequest> {
        self.shared
            .engine
            .lock()
            .incoming_requests()
            .cloned()
            .collect()
    }

    /// The bootstrap requests of this node.
    pub fn outgoing_requests(&self) -> Vec<OutgoingRequest> {
        self.shared
            .engine
            .lock()
            .outgoing_requests()
            .cloned()
            .collect()
    }

    /// Grants another's request with this administrator's key, which must be unlocked. Again: the same result.
    ///
    /// # Errors
    /// No such request, decided otherwise, or no right to grant it.
    pub fn approve(&self, id: RequestId, by: PublicKey) -> Pending<()> {
        self.local(Command::Approve { id, by })
    }

    /// Refuses another's request. Again: the same result.
    ///
    /// # Errors
    /// No such request, or decided otherwise.
    pub fn reject(&self, id: RequestId) -> Pending<()> {
        self.local(Command::Reject(id))
    }

    /// Remembers a claim for this device, in place of older ones of the same key.
    ///
    /// # Errors
    /// Too many claims.
    pub fn put_claim(&self, claim: DeviceClaim) -> Pending<()> {
        self.local(Command::PutClaim(Box::new(claim)))
    }

    /// Forgets the claim of a key.
    ///
    /// # Errors
    /// The node has stopped.
    pub fn remove_claim(&self, key: PublicKey) -> Pending<()> {
        self.local(Command::RemoveClaim(key))
    }

    /// The claims that this node shows to peers now.
    pub fn claims(&self) -> Vec<DeviceClaim> {
        self.shared
            .engine
            .lock()
            .claims(now_ms())
            .cloned()
            .collect()
    }

    /// The peers whose background work is this process's, where several processes are one instance.
    pub fn held_peers(&self) -> Vec<PublicKey> {
        self.shared.engine.lock().held_peers()
    }

    // Ends.

    /// Whether to do anything without being asked; it does at first.
    ///
    /// # Errors
    /// The node has stopped.
    pub fn set_background(&self, is_on: bool) -> Pending<()> {
        self.local(Command::Background(is_on))
    }

    /// Writes statistics and cursors now.
    ///
    /// # Errors
    /// The node has stopped.
    pub fn flush(&self) -> Pending<()> {
        self.local(Command::Flush)
    }

    /// Ends all work, writes everything and stops the node; afterwards nothing of it holds the backend any more. Again:
    /// done.
    ///
    /// # Errors
    /// What was to be written could not be.
    pub fn shutdown(&self) -> Pending<()> {
        if self.is_stopped() {
            return Pending {
                state: State::Direct(ready(Ok(()))),
            };
        }
        self.direct(|reply| Event::Shutdown { reply })
    }

    /// Whether the node has stopped, by `shutdown` or by a fault.
    pub fn is_stopped(&self) -> bool {
        self.shared.stopped.load(Ordering::Acquire)
    }

    fn local(&self, command: Command) -> Pending<()> {
        self.command(command, self.shared.limits.local, done)
    }

    fn command<T>(
        &self,
        command: Command,
        deadline: Duration,
        pick: fn(Response) -> Option<T>,
    ) -> Pending<T> {
        let id = CommandId(self.next.fetch_add(1, Ordering::Relaxed));
        let deadline_ms = now_ms().saturating_add(deadline.as_millis() as u64);
        let (reply, receiver) = oneshot::channel();
        match self.events.try_send(Event::Command {
            id,
            command,
            deadline_ms,
            reply,
        }) {
            Ok(()) => Pending {
                state: State::Waiting(receiver, pick),
            },
            Err(error) => Pending::failed(lost(&error)),
        }
    }

    fn direct<T>(
        &self,
        event: impl FnOnce(oneshot::Sender<Result<T, NodeError>>) -> Event,
    ) -> Pending<T> {
        let (reply, receiver) = oneshot::channel();
        match self.events.try_send(event(reply)) {
            Ok(()) => Pending {
                state: State::Direct(receiver),
            },
            Err(error) => Pending::failed(lost(&error)),
        }
    }
}

fn ready<T>(value: T) -> oneshot::Receiver<T> {
    let (sender, receiver) = oneshot::channel();
    // The receiver is here.
    let _ = sender.send(value);
    receiver
}

fn lost(error: &mpsc::error::TrySendError<Event>) -> NodeError {
    match error {
        mpsc::error::TrySendError::Full(_) => NodeError::Busy,
        mpsc::error::TrySendError::Closed(_) => NodeError::Stopped,
    }
}

impl std::fmt::Debug for NodeHandle {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("NodeHandle")
            .field("addresses", &self.server_addresses())
            .finish_non_exhaustive()
    }
}
