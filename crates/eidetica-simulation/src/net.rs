//! The network: connections between nodes, on links that delay, lose, cut and repeat.
//!
//! It keeps to the contract of `eidetica-transport`: the frames of a stream arrive in order or not at all, and a stream
//! that has lost a frame is over. So loss and partitions are cuts, which both ends notice some time later, at the
//! latest when a keep-alive is missed. Streams overtake each other, and a request may come twice, as it does when a
//! client is not sure that its first attempt arrived.

use std::collections::BTreeMap;

use bytes::Bytes;
use eidetica_protocol::Frame;
use eidetica_testkit::Rng;

/// The number of a node.
pub type NodeId = usize;

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct ConnId(pub(crate) u32);

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct StreamId(pub(crate) u32);

/// The stream of a connection's handshake and of what concerns the connection as a whole.
pub(crate) const CONTROL: StreamId = StreamId(0);

/// Frames that may be on their way before the reader takes one.
pub(crate) const WINDOW: u32 = 16;
/// After so many frames a reader makes room for as many.
pub(crate) const CREDIT: u32 = 4;
/// How a frame with a pack begins.
const PACK: u8 = 3;
/// When a cut is noticed at the latest: a missed keep-alive.
pub(crate) const KEEP_ALIVE_MS: u64 = 45_000;

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Side {
    Dialler,
    Acceptor,
}

impl Side {
    pub(crate) fn other(self) -> Self {
        match self {
            Self::Dialler => Self::Acceptor,
            Self::Acceptor => Self::Dialler,
        }
    }
}

/// What travels.
#[derive(Debug, Clone)]
pub(crate) enum Body {
    /// A connection is wanted.
    Dial,
    /// It is there.
    Accepted,
    /// Nobody listens.
    Refused,
    /// A frame of the handshake.
    Hand(Bytes),
    /// A request begins.
    Open,
    Frame(Bytes),
    /// The last frame was the last.
    End,
    /// The stream is cut.
    Reset,
    /// The reader has taken so many frames.
    Credit(u32),
    /// The other end has closed the connection.
    Closed,
}

impl Body {
    pub(crate) fn name(&self) -> &'static str {
        match self {
            Self::Dial => "dial",
            Self::Accepted => "accepted",
            Self::Refused => "refused",
            Self::Hand(_) => "handshake",
            Self::Open => "open",
            Self::Frame(_) => "frame",
            Self::End => "end",
            Self::Reset => "reset",
            Self::Credit(_) => "credit",
            Self::Closed => "closed",
        }
    }

    /// What it is to an observer.
    pub(crate) fn kind(&self) -> &'static str {
        match self {
            Self::Frame(bytes) if is_pack(bytes) => "pack",
            body => body.name(),
        }
    }

    /// How long it is, where that does not depend on chance.
    pub(crate) fn length(&self) -> usize {
        match self {
            Self::Frame(bytes) if is_pack(bytes) => 0,
            body => body.bytes().len(),
        }
    }

    /// What it says, for people.
    pub(crate) fn words(&self) -> String {
        match self {
            Self::Frame(bytes) => match Frame::decode(bytes) {
                Ok(Frame::Pack(pack)) => format!("a pack of {} bytes", pack.len()),
                Ok(frame) => format!("{frame:?}").chars().take(300).collect(),
                Err(error) => error.to_string(),
            },
            body => format!("{} bytes", body.bytes().len()),
        }
    }

    pub(crate) fn bytes(&self) -> &[u8] {
        match self {
            Self::Hand(bytes) | Self::Frame(bytes) => bytes,
            _ => &[],
        }
    }
}

fn is_pack(frame: &[u8]) -> bool {
    frame.first() == Some(&PACK)
}

/// Something on its way to one end of a connection.
#[derive(Debug, Clone)]
pub(crate) struct Packet {
    pub(crate) conn: ConnId,
    pub(crate) to: Side,
    pub(crate) stream: StreamId,
    pub(crate) body: Body,
}

/// One direction between two nodes.
#[derive(Debug)]
pub(crate) struct Link {
    pub(crate) up: bool,
    pub(crate) delay_ms: u64,
    pub(crate) jitter_ms: u64,
    /// Bytes per millisecond; no limit if none.
    pub(crate) rate: Option<u64>,
    /// Of 100,000 packets, so many are lost.
    pub(crate) loss: u64,
    /// Of 1,000 requests, so many come twice.
    pub(crate) twice: u64,
    busy_until_ms: u64,
    rng: Rng,
}

impl Link {
    fn new(rng: Rng) -> Self {
        Self {
            up: true,
            delay_ms: 1,
            jitter_ms: 0,
            rate: None,
            loss: 0,
            twice: 0,
            busy_until_ms: 0,
            rng,
        }
    }

    fn loses(&mut self) -> bool {
        !self.up || (self.loss > 0 && self.rng.between(1, 100_000) <= self.loss)
    }

    fn repeats(&mut self) -> bool {
        self.twice > 0 && self.rng.between(1, 1_000) <= self.twice
    }

    fn arrival_ms(&mut self, len: usize, now_ms: u64) -> u64 {
        let jitter = match self.jitter_ms {
            0 => 0,
            most => self.rng.between(0, most),
        };
        let sent_ms = match self.rate {
            None => now_ms,
            Some(rate) => {
                let begin = self.busy_until_ms.max(now_ms);
                self.busy_until_ms = begin + (len as u64).div_ceil(rate);
                self.busy_until_ms
            }
        };
        sent_ms + self.delay_ms + jitter
    }
}

#[derive(Debug)]
struct Conn {
    ends: [NodeId; 2],
    /// Nothing that this side sends arrives any more.
    cut: [bool; 2],
    streams: BTreeMap<StreamId, Stream>,
}

#[derive(Debug, Default)]
struct Stream {
    /// When the last packet to each side arrives: the next one is not earlier.
    last_ms: [u64; 2],
    /// The request that comes a second time, and how much later.
    again: Option<(StreamId, u64)>,
}

/// What becomes of a packet.
#[derive(Debug)]
pub(crate) enum Carried {
    /// It arrives then; and once more as part of another stream.
    At(u64, Option<(StreamId, u64)>),
    /// It is lost, and with it the connection: each side notices then. Told once.
    Cut([(Side, u64); 2]),
    /// It is lost on a connection that was cut before.
    Nowhere,
}

/// All links and connections.
#[derive(Debug)]
pub(crate) struct Net {
    nodes: usize,
    links: Vec<Link>,
    conns: Vec<Conn>,
    streams: u32,
    rng: Rng,
}

impl Net {
    pub(crate) fn new(nodes: usize, rng: &Rng) -> Self {
        let link = |n: usize| Link::new(rng.part("link", n as u64));
        Self {
            nodes,
            links: (0..nodes * nodes).map(link).collect(),
            conns: Vec::new(),
            streams: CONTROL.0,
            rng: rng.part("cuts", 0),
        }
    }

    pub(crate) fn nodes(&self) -> usize {
        self.nodes
    }

    pub(crate) fn link(&mut self, from: NodeId, to: NodeId) -> &mut Link {
        &mut self.links[from * self.nodes + to]
    }

    pub(crate) fn links(&mut self) -> impl Iterator<Item = &mut Link> {
        self.links.iter_mut()
    }

    pub(crate) fn connect(&mut self, from: NodeId, to: NodeId) -> ConnId {
        let id = ConnId(self.conns.len() as u32);
        self.conns.push(Conn {
            ends: [from, to],
            cut: [false; 2],
            streams: BTreeMap::new(),
        });
        id
    }

    pub(crate) fn stream(&mut self) -> StreamId {
        self.streams += 1;
        StreamId(self.streams)
    }

    pub(crate) fn end(&self, conn: ConnId, side: Side) -> NodeId {
        self.conns[conn.0 as usize].ends[side as usize]
    }

    /// Cuts a connection; says when each side notices, unless it was cut already.
    pub(crate) fn cut(&mut self, conn: ConnId, now_ms: u64) -> Carried {
        let conn = &mut self.conns[conn.0 as usize];
        if conn.cut == [true; 2] {
            return Carried::Nowhere;
        }
        let told = conn.cut.contains(&true);
        conn.cut = [true; 2];
        match told {
            true => Carried::Nowhere,
            false => Carried::Cut(self.notices(now_ms)),
        }
    }

    fn notices(&mut self, now_ms: u64) -> [(Side, u64); 2] {
        [Side::Dialler, Side::Acceptor].map(|side| {
            let most = if self.rng.one_in(2) {
                2_000
            } else {
                KEEP_ALIVE_MS
            };
            (side, now_ms + self.rng.between(0, most))
        })
    }

    /// Takes a packet from one side.
    pub(crate) fn carry(
        &mut self,
        id: ConnId,
        from: Side,
        stream: StreamId,
        body: &Body,
        now_ms: u64,
    ) -> Carried {
        let conn = &mut self.conns[id.0 as usize];
        if conn.cut[from as usize] {
            return Carried::Nowhere;
        }
        let to = from.other();
        let (sender, receiver) = (conn.ends[from as usize], conn.ends[to as usize]);
        let link = &mut self.links[sender * self.nodes + receiver];
        if link.loses() {
            let told = conn.cut.contains(&true);
            conn.cut[from as usize] = true;
            return match told {
                true => Carried::Nowhere,
                false => Carried::Cut(self.notices(now_ms)),
            };
        }
        let sent = conn.streams.entry(stream).or_default();
        if matches!(body, Body::Open) && link.repeats() {
            self.streams += 1;
            sent.again = Some((StreamId(self.streams), link.rng.between(0, 5_000)));
        }
        let last_ms = &mut sent.last_ms[to as usize];
        *last_ms = link.arrival_ms(body.bytes().len(), now_ms).max(*last_ms);
        let again = sent.again.filter(|_| from == Side::Dialler);
        Carried::At(*last_ms, again.map(|(id, later)| (id, *last_ms + later)))
    }
}
