//! What all nodes share: the clock, the network, the oracle, the trace.

use eidetica_testkit::Rng;

use crate::{
    act::Act,
    net::{Body, Carried, ConnId, Net, NodeId, Packet, Side, StreamId},
    node::Work,
    oracle::Oracle,
    queue::Queue,
    session::SessionId,
    trace::Trace,
};

/// The wall-clock time at which every simulation begins.
pub(crate) const EPOCH_MS: u64 = 1_800_000_000_000;

/// The number of a node's start. What was meant for an earlier one is nobody's.
pub(crate) type Boot = u32;

/// Something that happens at a time.
#[derive(Debug)]
pub(crate) enum Event {
    /// A packet arrives.
    Packet(Packet),
    /// One end notices that a connection is gone.
    Broken(ConnId, Side),
    /// The engine wants to know the time.
    Engine(NodeId, Boot),
    /// A session wants to know the time.
    Session(NodeId, Boot, SessionId),
    /// A dial or a handshake has had its time.
    Late(NodeId, Boot, ConnId),
    /// The databases get to a call.
    Disk(NodeId, Boot, Work),
    /// A user, an operator or fate does something.
    Act(Act),
}

pub(crate) struct Env {
    /// Milliseconds since the simulation began.
    pub(crate) now_ms: u64,
    pub(crate) queue: Queue<Event>,
    pub(crate) net: Net,
    pub(crate) oracle: Oracle,
    pub(crate) trace: Trace,
    pub(crate) counts: Counts,
    /// Packets between the first two nodes, where somebody wants to know.
    pub(crate) heard: Option<Vec<Heard>>,
}

/// A packet as an observer of the network sees it: when it arrives, where, what it is, and how long; of packs it is not
/// said how long, since signatures and ids compress by chance.
pub type Heard = (u64, NodeId, &'static str, usize);

/// What happened how often.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Counts {
    /// Packets that arrived.
    pub packets: u64,
    /// Bytes of frames in them.
    pub bytes: u64,
    /// Connections that were cut or lost a packet.
    pub cuts: u64,
    /// Dials.
    pub dials: u64,
    /// Sessions that asked, and of them those that failed.
    pub asked: u64,
    /// Sessions that asked and failed.
    pub failed: u64,
    /// Requests that were answered.
    pub served: u64,
    /// Entries that were acknowledged to a user.
    pub commits: u64,
    /// Nodes that were killed.
    pub crashes: u64,
    /// Of those, by a failing disk.
    pub disk_faults: u64,
    /// Things that liars did.
    pub lies: u64,
    /// Requests of honest nodes that liars answered, or took and did not answer; not those for live streams.
    pub false_answers: u64,
    /// Keys that were let in on request.
    pub grants: u64,
    /// Keys that were revoked.
    pub revocations: u64,
    /// Times that a node was told to hold other stores than before.
    pub holds: u64,
    /// Payloads that came after their entries.
    pub filled: u64,
}

impl std::ops::AddAssign for Counts {
    fn add_assign(&mut self, other: Self) {
        self.packets += other.packets;
        self.bytes += other.bytes;
        self.cuts += other.cuts;
        self.dials += other.dials;
        self.asked += other.asked;
        self.failed += other.failed;
        self.served += other.served;
        self.commits += other.commits;
        self.crashes += other.crashes;
        self.disk_faults += other.disk_faults;
        self.lies += other.lies;
        self.false_answers += other.false_answers;
        self.grants += other.grants;
        self.revocations += other.revocations;
        self.holds += other.holds;
        self.filled += other.filled;
    }
}

impl Env {
    pub(crate) fn new(nodes: usize, rng: &Rng, readable: bool) -> Self {
        Self {
            now_ms: 0,
            queue: Queue::new(),
            net: Net::new(nodes, rng),
            oracle: Oracle::default(),
            trace: Trace::new(readable),
            counts: Counts::default(),
            heard: None,
        }
    }

    /// The wall clock of a node whose clock is so much ahead.
    pub(crate) fn wall_ms(&self, skew_ms: i64) -> u64 {
        (EPOCH_MS + self.now_ms).saturating_add_signed(skew_ms)
    }

    pub(crate) fn after(&mut self, ms: u64, event: Event) {
        self.queue.push(self.now_ms + ms, event);
    }

    /// Sends a packet from one side of a connection.
    pub(crate) fn send(&mut self, conn: ConnId, from: Side, stream: StreamId, body: Body) {
        let carried = self.net.carry(conn, from, stream, &body, self.now_ms);
        let to = from.other();
        match carried {
            Carried::At(at_ms, again) => {
                let again = again.map(|(stream, at_ms)| (stream, at_ms, body.clone()));
                for (stream, at_ms, body) in again.into_iter().chain([(stream, at_ms, body)]) {
                    let packet = Packet {
                        conn,
                        to,
                        stream,
                        body,
                    };
                    self.queue.push(at_ms, Event::Packet(packet));
                }
            }
            carried => self.tell(conn, &carried),
        }
    }

    /// Cuts a connection, as when one of its ends dies.
    pub(crate) fn cut(&mut self, conn: ConnId) {
        let carried = self.net.cut(conn, self.now_ms);
        self.tell(conn, &carried);
    }

    fn tell(&mut self, conn: ConnId, carried: &Carried) {
        if let Carried::Cut(notices) = carried {
            self.counts.cuts += 1;
            for (side, at_ms) in notices {
                self.queue.push(*at_ms, Event::Broken(conn, *side));
            }
        }
    }

    /// Notes an event at a node.
    pub(crate) fn note(
        &mut self,
        node: NodeId,
        what: &'static str,
        bytes: &[u8],
        words: impl FnOnce() -> String,
    ) {
        self.trace.note(self.now_ms, node, what, bytes, words);
    }

    /// Reports that something happened that must not.
    pub(crate) fn broken(&mut self, node: NodeId, what: String) {
        self.note(node, "BROKEN", what.as_bytes(), || what.clone());
        self.oracle.broken(node, self.now_ms, what);
    }
}
