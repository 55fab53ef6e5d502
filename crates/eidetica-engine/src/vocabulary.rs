//! What goes in and what comes out.

use bytes::Bytes;
use eidetica_auth::{DeviceClaim, InviteProof, RequestId, SignedRequest};
use eidetica_entry::{Id, PublicKey};
use eidetica_protocol::{
    BootstrapAnswer, DatabaseInfo, Failure, LiveEvent, Notice, Outcome, PeerIdentity, RequestRef,
};
use eidetica_transport::Address;

use crate::{
    ConnectError, EngineError, GrantOutcome, Invite, LeaseChange, PeerStatus, Record, Wishes,
};

/// Names a command; chosen by the driver, unique while the command has no reply.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct CommandId(pub u64);

/// Names a connection, from [`Action::Connect`] on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct LinkId(pub(crate) u64);

/// Names a session, from [`Action::Run`] on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TaskId(pub(crate) u64);

/// Names a live stream, from [`Action::OpenLive`] or [`Engine::accept_live`](crate::Engine::accept_live) on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct StreamId(pub(crate) u64);

/// Whom a command is about.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Target {
    /// A registered peer, at any of its addresses; it must prove this key.
    Peer(PublicKey),
    /// This device, at any of these addresses, the likeliest first, or of those that are known. At most
    /// [`limits::ADDRESSES`](crate::limits::ADDRESSES) are tried. It becomes registered, with the address that led there.
    Device {
        /// The key that it must prove.
        key: PublicKey,
        /// Where it may be.
        addresses: Vec<Address>,
    },
    /// Whoever is there; if the address pins a key, only that device. The peer becomes registered.
    Address(Address),
}

/// Which databases.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Selection {
    /// These.
    These(Vec<Id>),
    /// All that are related to the peer.
    Related,
}

/// What a user wants. Each gets exactly one [`Action::Reply`].
#[derive(Debug, Clone)]
pub enum Command {
    /// Remember a peer. Again: only the name changes. -> [`Response::Done`]
    RegisterPeer {
        /// Its device key.
        key: PublicKey,
        /// What to call it.
        name: Option<String>,
    },
    /// Forget a peer and everything about it. -> [`Response::Done`]
    RemovePeer(PublicKey),
    /// Allow, pause or block a peer. -> [`Response::Done`]
    SetStatus(PublicKey, PeerStatus),
    /// Remember where a peer can be dialled. -> [`Response::Done`]
    AddAddress(PublicKey, Address),
    /// Forget an address. -> [`Response::Done`]
    RemoveAddress(PublicKey, Address),
    /// Sync this database with this peer. -> [`Response::Done`]
    Relate(PublicKey, Id),
    /// No longer. -> [`Response::Done`]
    Unrelate(PublicKey, Id),
    /// Forget what is known of a database that was taken away: with whom it was synced and how far, requests for it,
    /// invites to it. -> [`Response::Done`]
    ForgetDatabase(Id),
    /// Connect and learn who is there. -> [`Response::Peer`]
    Connect(Target),
    /// Sync now. Relates the databases to the peer where it succeeds. -> [`Response::Synced`]
    Sync {
        /// With whom.
        target: Target,
        /// Which databases.
        databases: Selection,
        /// Whether to create those that are not here.
        create: bool,
    },
    /// Sync in the background, with retries, until it succeeds once; survives a restart. -> [`Response::Done`]
    Queue(PublicKey, Id),
    /// Ask which databases this node may read there. -> [`Response::Databases`]
    Discover(Target),
    /// Ask for access; remembered while pending. -> [`Response::Bootstrap`]
    Bootstrap {
        /// Whom to ask.
        target: Target,
        /// The signed request.
        request: Box<SignedRequest>,
    },
    /// Ask for access with an invite; remembered while pending. -> [`Response::Bootstrap`]
    Redeem {
        /// Whom to ask.
        target: Target,
        /// The signed request.
        request: Box<SignedRequest>,
        /// That the invite is held here.
        proof: Box<InviteProof>,
    },
    /// Remember an invite that was issued here, in place of one of the same name. -> [`Response::Done`]
    PutInvite(Box<Invite>),
    /// Take an invite back. -> [`Response::Done`]
    RevokeInvite(PublicKey),
    /// Ask what became of an own request. -> [`Response::Bootstrap`]
    PollRequest(RequestId),
    /// Wait until an own request is decided, and the database is here if it was granted. -> [`Response::Bootstrap`] if
    /// it was denied, else [`Response::Synced`]
    AwaitRequest(RequestId),
    /// Withdraw an own request. -> [`Response::Done`]
    CancelRequest(RequestId),
    /// Grant another's request with this administrator's key. Again: the same reply. -> [`Response::Done`]
    Approve {
        /// The request.
        id: RequestId,
        /// The key that grants.
        by: PublicKey,
    },
    /// Refuse another's request. Again: the same reply. -> [`Response::Done`]
    Reject(RequestId),
    /// Remember a claim for this device, in place of older ones of the same key. -> [`Response::Done`]
    PutClaim(Box<DeviceClaim>),
    /// Forget the claim of a key. -> [`Response::Done`]
    RemoveClaim(PublicKey),
    /// Whether to do anything without being asked: keep connections for news, make rounds, fetch what was granted. It
    /// does at first. What is queued is done in any case. -> [`Response::Done`]
    Background(bool),
    /// Write statistics and cursors now. -> [`Response::Done`]
    Flush,
    /// Stop: end all work, reply to all commands, write everything. -> [`Response::Done`]
    Stop,
}

/// What a command led to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Response {
    /// It is done.
    Done,
    /// The peer that was reached.
    Peer(PublicKey),
    /// The peer, and what became of each database; fails as a whole only if the peer was not reached.
    Synced(PublicKey, Vec<(Id, Result<Outcome, EngineError>)>),
    /// The peer, its databases, and whether it has more.
    Databases(PublicKey, Vec<DatabaseInfo>, bool),
    /// What became of a bootstrap request.
    Bootstrap(PublicKey, BootstrapAnswer),
}

/// What goes in.
#[derive(Debug)]
pub enum Input {
    /// A command, and until when it needs a reply (ms).
    Command(CommandId, Command, u64),
    /// A dial succeeded, handshake included.
    Connected(LinkId, PeerIdentity),
    /// A dial or its handshake failed.
    ConnectFailed(LinkId, ConnectError),
    /// A connection is gone, and every session on it has been reported as finished.
    Disconnected(LinkId),
    /// A session ended.
    Finished(TaskId, JobResult),
    /// What became of a grant.
    Granted(RequestId, Result<GrantOutcome, String>),
    /// A peer was heard of: an incoming handshake.
    Seen(PublicKey),
    /// Entries of a database became durable. Several that come quickly may be told as one.
    Changed {
        /// The database.
        database: Id,
        /// Whether one of them was committed on this instance; else all came from peers.
        here: bool,
    },
    /// What the users want of a database from now on; none if nobody tracks it.
    Wishes(Id, Option<Wishes>),
    /// All rows of leases, after [`Action::Lease`]; none if they could not be written or read.
    Leases(Option<Vec<(String, Bytes)>>),
    /// Peers may be reached in other ways than before: a transport was enabled, or the network is back.
    Online,
    /// What a live stream says.
    Live(StreamId, LiveEvent),
    /// A live stream ended by itself.
    LiveEnded(StreamId, Result<(), Failure>),
    /// The time of [`Action::Timeout`] has come.
    Tick,
}

/// One session for the driver to run.
#[derive(Debug, Clone)]
pub enum Job {
    /// `SyncClient`.
    Sync {
        /// The database.
        database: Id,
        /// What both had last time.
        common: Vec<Id>,
        /// Whether to create the database.
        create: bool,
    },
    /// `Call::discover`.
    Discover,
    /// `Call::bootstrap`.
    Bootstrap(Box<SignedRequest>),
    /// `Call::redeem`.
    Redeem(Box<SignedRequest>, Box<InviteProof>),
    /// `Call::status`.
    Status(RequestRef),
    /// `Call::cancel`.
    Cancel(RequestRef),
}

/// How a session ended; of the kind of its job.
#[derive(Debug, Clone)]
pub enum JobResult {
    /// Of [`Job::Sync`].
    Sync(Box<Result<Outcome, Failure>>),
    /// Of the other jobs.
    Call(Result<eidetica_protocol::CallReply, Failure>),
}

/// What comes out.
#[derive(Debug)]
pub enum Action {
    /// Dial, within [`HANDSHAKE_MS`](eidetica_protocol::limits::HANDSHAKE_MS) and a deadline for the dial itself, and
    /// do the handshake with all [`claims`](crate::Engine::claims). The key is the one to pin. Others may be under way
    /// to the same peer. -> [`Input::Connected`] or [`Input::ConnectFailed`]
    Connect(LinkId, Address, Option<PublicKey>),
    /// Close a connection, or give up a dial. No answer; reports about it are ignored from now on.
    Close(LinkId),
    /// Run a session on a connection. -> [`Input::Finished`]
    Run(TaskId, LinkId, Job),
    /// End a session soon (`CloseReason::Cancelled`). -> [`Input::Finished`]
    Abort(TaskId),
    /// Run the dialling end of a live stream about these databases on a connection.
    /// -> [`Input::Live`] as often as it says something, then [`Input::LiveEnded`]
    OpenLive(StreamId, LinkId, Vec<Id>),
    /// Hand this to a live stream. If it takes no more, end it as if it were cut.
    Tell(StreamId, Notice),
    /// End a live stream. Reports about it are ignored from now on.
    EndLive(StreamId),
    /// Commit a grant of what the request asks for, by the administrator's key `by`, which must be unlocked, and only
    /// if the requesting key has no explicit right: an approval never changes one. -> [`Input::Granted`]
    Grant {
        /// The request.
        request: Box<SignedRequest>,
        /// The key that grants.
        by: PublicKey,
    },
    /// Write a record before carrying out later actions.
    Persist(Record),
    /// Write those of these rows that are as expected, each for itself, then read all of them. Only where several
    /// processes are one instance; one at a time. -> [`Input::Leases`]
    Lease(Vec<LeaseChange>),
    /// The reply to a command.
    Reply(CommandId, Result<Response, EngineError>),
    /// Nothing more to do before the next input, or this time (ms), whichever comes first.
    Timeout(Option<u64>),
}
