//! Peers that break the rules. Each does one thing, over and over, as a client and as a server; most prove their device
//! key first, and some were let into a database.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use bytes::Bytes;
use eidetica_auth::{DeviceClaim, Scope, SecretKey};
use eidetica_entry::{
    Draft, Entry, Height, Id, Ids, ParentInfo, PublicKey, Stamp, StoreName,
    pack::{self, PackInfo},
    reconcile::{self, Content, Detail, Span, Summary},
};
use eidetica_protocol::{
    Frame, IdPrefix, LiveMessage, LiveOpen, Parts, Refusal, Reply, Request, Sketch, Spans, Stores,
    TipList,
    handshake::{Acceptor, Initiator, Proving, Side as Part, VERSIONS},
    limits, set_hash,
};
use eidetica_testkit::Rng;

use crate::{
    channel::binding,
    env::{EPOCH_MS, Env},
    net::{Body, CONTROL, CREDIT, ConnId, NodeId, Side, StreamId},
};

/// What a rogue does.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, clap::ValueEnum)]
pub enum Behaviour {
    /// Begins requests and does not go on; takes requests and does not answer; reads nothing.
    Stalls,
    /// Connects and says nothing, many times at once.
    Crowds,
    /// Sends noise, and good frames with a flipped bit.
    Garbles,
    /// Claims tips that nobody has.
    InventsTips,
    /// Says of every span that it has other entries in it, and never which.
    EndlessSpans,
    /// Says that it has more, and sends nothing.
    Withholds,
    /// Sends packs that were changed.
    BadPacks,
    /// Sends entries whose parents do not exist.
    Orphans,
    /// Writes on, on old parents, with a right that it had once or never.
    Backdates,
    /// Asks for what it may not read, in every way there is.
    Spies,
    /// Speaks a version that nobody knows.
    Foreign,
    /// Hangs up in the middle.
    HangsUp,
    /// Tells news that are none, and asks for those of others.
    Gossips,
    /// Says that it has all payloads and lacks all, asks for those of entries that nobody has, and gives none.
    Hoards,
}

impl Behaviour {
    /// All of them.
    pub const ALL: [Self; 14] = [
        Self::Stalls,
        Self::Crowds,
        Self::Garbles,
        Self::InventsTips,
        Self::EndlessSpans,
        Self::Withholds,
        Self::BadPacks,
        Self::Orphans,
        Self::Backdates,
        Self::Spies,
        Self::Foreign,
        Self::HangsUp,
        Self::Gossips,
        Self::Hoards,
    ];
}

enum Shake {
    Silent,
    Greeting(Initiator),
    Proving(Proving),
    Accepting,
    Answered(Acceptor),
    Open,
}

/// A database as a rogue knows it.
#[derive(Debug, Clone)]
pub(crate) struct Prey {
    pub(crate) database: Id,
    /// What it may have of it: nothing if it may not read.
    pub(crate) packs: Vec<Bytes>,
    pub(crate) tips: Vec<Stamp>,
}

pub(crate) struct Rogue {
    me: NodeId,
    pub(crate) behaviour: Behaviour,
    pub(crate) device: Arc<SecretKey>,
    /// A user's key: that of a member, of a former one, or of nobody.
    pub(crate) key: Arc<SecretKey>,
    /// Another one, by which it reads when the first was revoked.
    pub(crate) reader: Arc<SecretKey>,
    pub(crate) prey: Vec<Prey>,
    ends: BTreeMap<ConnId, (Side, Shake)>,
    /// Databases of which it was sent packs.
    pub(crate) seen: BTreeSet<Id>,
    taken: u32,
    rng: Rng,
}

impl Rogue {
    pub(crate) fn new(me: NodeId, behaviour: Behaviour, rng: &Rng) -> Self {
        let mut rng = rng.part("rogue", me as u64);
        let mut key = || Arc::new(SecretKey::from_bytes(&rng.array()));
        Self {
            me,
            behaviour,
            device: key(),
            key: key(),
            reader: key(),
            prey: Vec::new(),
            ends: BTreeMap::new(),
            seen: BTreeSet::new(),
            taken: 0,
            rng,
        }
    }

    pub(crate) fn keys(&self) -> Vec<PublicKey> {
        [&self.device, &self.key, &self.reader]
            .iter()
            .map(|key| key.public())
            .collect()
    }

    /// Does what it does to a node.
    pub(crate) fn turn(&mut self, target: NodeId, env: &mut Env) {
        env.counts.lies += 1;
        env.note(self.me, "turn", &[], || {
            format!("{:?} at {target}", self.behaviour)
        });
        let dials = if self.behaviour == Behaviour::Crowds {
            20
        } else {
            1
        };
        for _ in 0..dials {
            let conn = env.net.connect(self.me, target);
            self.ends.insert(conn, (Side::Dialler, Shake::Silent));
            env.send(conn, Side::Dialler, CONTROL, Body::Dial);
        }
    }

    pub(crate) fn lose(&mut self, conn: ConnId) {
        self.ends.remove(&conn);
    }

    pub(crate) fn receive(
        &mut self,
        conn: ConnId,
        side: Side,
        stream: StreamId,
        body: Body,
        env: &mut Env,
    ) {
        match body {
            Body::Dial if self.behaviour == Behaviour::Crowds => {}
            Body::Dial => {
                self.ends.insert(conn, (side, Shake::Accepting));
                env.send(conn, side, CONTROL, Body::Accepted);
            }
            Body::Accepted if self.behaviour == Behaviour::Crowds => {}
            Body::Accepted | Body::Hand(_) => self.shake(conn, side, body.bytes(), env),
            Body::Closed | Body::Refused => self.lose(conn),
            Body::Frame(frame) => self.read(conn, side, stream, &frame, env),
            Body::Open | Body::End | Body::Reset | Body::Credit(_) => {}
        }
    }

    fn versions(&self) -> &'static [u16] {
        match self.behaviour {
            Behaviour::Foreign => &[0x7777, 0x7776],
            _ => VERSIONS,
        }
    }

    fn claims(&self) -> Vec<DeviceClaim> {
        let device = self.device.public();
        let until = |ms: u64| EPOCH_MS + ms;
        let make = |key, scope, ms| DeviceClaim::make(key, device, scope, until(ms)).unwrap();
        let nothing = Scope::Databases(vec![]);
        match self.behaviour {
            // Ended long ago, or about something else.
            Behaviour::Spies => vec![
                make(&self.key, Scope::All, 0),
                make(&self.reader, nothing, 1 << 30),
            ],
            _ => vec![
                make(&self.key, Scope::All, 1 << 31),
                make(&self.reader, Scope::All, 1 << 31),
            ],
        }
    }

    fn shake(&mut self, conn: ConnId, side: Side, frame: &[u8], env: &mut Env) {
        let Some((_, shake)) = self.ends.remove(&conn) else {
            return;
        };
        let device = Arc::clone(&self.device);
        let part = Part {
            device: &device,
            binding: binding(conn),
            nonce: self.rng.array(),
            versions: self.versions(),
        };
        let frame = Bytes::copy_from_slice(frame);
        let next =
            match shake {
                Shake::Silent => Initiator::start(&part, None)
                    .map(|(next, out)| (Shake::Greeting(next), Some(out))),
                Shake::Greeting(greeting) => greeting
                    .answered(&frame, &device, &self.claims())
                    .map(|(next, out)| (Shake::Proving(next), Some(out))),
                Shake::Proving(proving) => proving.welcomed(&frame).map(|_| (Shake::Open, None)),
                Shake::Accepting => Acceptor::hello(&part, &frame)
                    .map(|(next, out)| (Shake::Answered(next), Some(out))),
                Shake::Answered(acceptor) => acceptor
                    .proof(&frame)
                    .map(|(_, out)| (Shake::Open, Some(out))),
                Shake::Open => Ok((Shake::Open, None)),
            };
        let Ok((next, out)) = next else {
            return env.send(conn, side, CONTROL, Body::Closed);
        };
        if let Some(out) = out {
            env.send(conn, side, CONTROL, Body::Hand(out));
        }
        let attacks = matches!(next, Shake::Open) && side == Side::Dialler;
        self.ends.insert(conn, (side, next));
        if attacks {
            self.attack(conn, env);
        }
    }

    /// Reads a frame, and answers it where it was asked something.
    fn read(&mut self, conn: ConnId, side: Side, stream: StreamId, frame: &Bytes, env: &mut Env) {
        let Ok(frame) = Frame::decode(frame) else {
            return;
        };
        if self.behaviour != Behaviour::Stalls {
            self.taken += 1;
            if self.taken.is_multiple_of(CREDIT) {
                env.send(conn, side, stream, Body::Credit(CREDIT));
            }
        }
        match frame {
            Frame::Pack(pack) => {
                let database = PackInfo::read(&pack).map(|info| info.database);
                self.seen.extend(database);
            }
            Frame::Request(request) | Frame::RequestFor(_, request) if side == Side::Acceptor => {
                let is_live = matches!(request, Request::Live(_));
                env.counts.false_answers += u64::from(!is_live);
                self.respond(conn, stream, &request, env);
            }
            _ => {}
        }
    }

    // As a server.

    fn respond(&mut self, conn: ConnId, stream: StreamId, request: &Request, env: &mut Env) {
        let replies = match self.behaviour {
            Behaviour::Stalls => return,
            Behaviour::HangsUp => {
                let body = match self.rng.one_in(2) {
                    true => Body::Reset,
                    false => Body::Closed,
                };
                return env.send(conn, Side::Acceptor, stream, body);
            }
            Behaviour::Garbles => vec![self.noise()],
            Behaviour::InventsTips => self.invented(request),
            Behaviour::EndlessSpans => self.spans(request),
            Behaviour::Withholds => self.nothing(request, Vec::new()),
            Behaviour::BadPacks => {
                let packs = self.bad_packs();
                self.nothing(request, packs)
            }
            Behaviour::Orphans => {
                let packs = self.orphans(20);
                self.nothing(request, packs)
            }
            Behaviour::Backdates => {
                let packs = self.backdated(5);
                self.nothing(request, packs)
            }
            Behaviour::Gossips => {
                // It does not end.
                return self.gossip(conn, Side::Acceptor, stream, env);
            }
            Behaviour::Hoards => self.nothing_but_wishes(request),
            Behaviour::Crowds | Behaviour::Spies | Behaviour::Foreign => {
                vec![reply(Reply::Refused(Refusal::ABSENT))]
            }
        };
        for frame in replies {
            env.send(conn, Side::Acceptor, stream, Body::Frame(frame));
        }
        env.send(conn, Side::Acceptor, stream, Body::End);
    }

    /// Says that it has more, sends these packs, and that that was all.
    fn nothing(&mut self, request: &Request, packs: Vec<Bytes>) -> Vec<Bytes> {
        let tips = TipList::new(self.tips());
        let (claims, closures) = (Vec::new(), Vec::new());
        let packs = packs
            .into_iter()
            .map(|pack| Frame::Pack(pack).encode().unwrap());
        let end = reply(Reply::End { tips: tips.clone() });
        let begin = reply(Reply::Behind {
            tips,
            claims,
            closures,
        });
        match request {
            Request::Compare { .. } => [begin].into_iter().chain(packs).chain([end]).collect(),
            _ => vec![reply(Reply::Refused(Refusal::ABSENT))],
        }
    }

    /// Says that it has the same entries and all payloads, which it does not send, and that it lacks all.
    fn nothing_but_wishes(&mut self, request: &Request) -> Vec<Bytes> {
        let (stores, lacks) = (Stores::All, true);
        let replies = match request {
            Request::Compare { .. } => vec![Reply::Holds { stores, lacks }, Reply::Equal],
            Request::Payloads { .. } => vec![Reply::End {
                tips: TipList::new(self.tips()),
            }],
            Request::Lacking { .. } => vec![Reply::Lacking {
                ids: self.prefixes(),
                stores,
            }],
            _ => vec![Reply::Refused(Refusal::ABSENT)],
        };
        replies.into_iter().map(reply).collect()
    }

    /// Of entries that nobody has, and of roots.
    fn prefixes(&mut self) -> Vec<IdPrefix> {
        let roots: Vec<Id> = self.prey.iter().map(|prey| prey.database).collect();
        let invented: Vec<Id> = (0..limits::FIRST_LACKING).map(|_| self.id()).collect();
        roots.iter().chain(&invented).map(IdPrefix::of).collect()
    }

    fn invented(&mut self, request: &Request) -> Vec<Bytes> {
        let tips = self.tips();
        let ids = tips.iter().map(|tip| tip.id).collect();
        let tips = TipList::new(tips);
        vec![reply(match request {
            Request::Compare { .. } => Reply::Diverged {
                tips,
                claims: Vec::new(),
                sketch: Sketch::Since(ids),
                closures: Vec::new(),
            },
            Request::Describe { .. } => Reply::Sketch(Parts::new(&[])),
            Request::Push { .. } => Reply::Pushed {
                tips,
                new: 1 << 40,
                known: 0,
                pending: 0,
                rejected: 0,
            },
            _ => Reply::Refused(Refusal::ABSENT),
        })]
    }

    fn spans(&mut self, request: &Request) -> Vec<Bytes> {
        let (spans, reply_with): (_, fn(TipList, Parts) -> Reply) = match request {
            Request::Compare { .. } => (vec![(Span::ALL, Detail::Levels)], |tips, parts| {
                Reply::Diverged {
                    tips,
                    claims: Vec::new(),
                    sketch: Sketch::Parts(parts),
                    closures: Vec::new(),
                }
            }),
            Request::Describe { spans, .. } => {
                (spans.spans().unwrap(), |_, parts| Reply::Sketch(parts))
            }
            _ => return vec![reply(Reply::Refused(Refusal::ABSENT))],
        };
        let parts: Vec<reconcile::Part> = spans
            .into_iter()
            .flat_map(|(span, _)| self.split(span))
            .collect();
        vec![reply(reply_with(
            TipList::new(self.tips()),
            Parts::new(&parts),
        ))]
    }

    /// A span in two, with invented summaries.
    fn split(&mut self, span: Span) -> Vec<reconcile::Part> {
        let middle = Stamp::new(
            Height(span.from.height.0.saturating_add(1)),
            Id::new([0; 32]),
        );
        let mut part = |from, to| reconcile::Part {
            span: Span { from, to },
            content: Content::Summary(Summary {
                count: self.rng.between(1, 1 << 40),
                hash: self.rng.array(),
            }),
        };
        match span.to.is_none_or(|to| middle < to) {
            true => vec![part(span.from, Some(middle)), part(middle, span.to)],
            false => vec![part(span.from, span.to)],
        }
    }

    // As a client.

    fn attack(&mut self, conn: ConnId, env: &mut Env) {
        match self.behaviour {
            Behaviour::Stalls => {
                for _ in 0..6 {
                    let frame = self.compare();
                    let stream = self.open(conn, env);
                    env.send(conn, Side::Dialler, stream, Body::Frame(frame));
                }
            }
            Behaviour::HangsUp => {
                let frame = self.compare();
                let stream = self.open(conn, env);
                env.send(conn, Side::Dialler, stream, Body::Frame(frame));
                env.send(conn, Side::Dialler, CONTROL, Body::Closed);
            }
            Behaviour::Garbles => {
                let frame = self.noise();
                self.ask(conn, [frame], env);
            }
            Behaviour::InventsTips | Behaviour::EndlessSpans | Behaviour::Withholds => {
                let frame = self.compare();
                self.ask(conn, [frame], env);
                let frame = self.deep();
                self.ask(conn, [frame], env);
            }
            Behaviour::BadPacks => {
                let packs = self.bad_packs();
                self.push(conn, packs, env);
            }
            Behaviour::Orphans => {
                let packs = self.orphans(100);
                self.push(conn, packs, env);
            }
            Behaviour::Backdates => {
                let packs = self.backdated(20);
                self.push(conn, packs, env);
            }
            Behaviour::Spies => {
                self.spy(conn, env);
                self.listen(conn, env);
            }
            Behaviour::Gossips => {
                let stream = self.listen(conn, env);
                self.gossip(conn, Side::Dialler, stream, env);
            }
            Behaviour::Hoards => self.hoard(conn, env),
            Behaviour::Crowds | Behaviour::Foreign => {}
        }
    }

    /// Asks for payloads of everything and of nothing, and pushes what it has of one database into another.
    fn hoard(&mut self, conn: ConnId, env: &mut Env) {
        let (ids, prey) = (self.prefixes(), self.prey.clone());
        for Prey { database, .. } in &prey {
            let (database, ids) = (*database, ids.clone());
            let questions = [
                Request::Payloads { database, ids },
                Request::Lacking { database },
            ];
            for question in questions {
                self.ask(conn, [request_for_all(question)], env);
            }
        }
        let foreign = prey.iter().rev().flat_map(|prey| prey.packs.iter().take(2));
        self.push(conn, foreign.cloned().collect(), env);
    }

    fn open(&mut self, conn: ConnId, env: &mut Env) -> StreamId {
        let stream = env.net.stream();
        env.send(conn, Side::Dialler, stream, Body::Open);
        stream
    }

    fn ask(&mut self, conn: ConnId, frames: impl IntoIterator<Item = Bytes>, env: &mut Env) {
        let stream = self.open(conn, env);
        for frame in frames {
            env.send(conn, Side::Dialler, stream, Body::Frame(frame));
        }
        env.send(conn, Side::Dialler, stream, Body::End);
    }

    fn push(&mut self, conn: ConnId, packs: Vec<Bytes>, env: &mut Env) {
        let Some(database) = self.some_prey().map(|prey| prey.database) else {
            return;
        };
        let packs = packs
            .into_iter()
            .map(|pack| Frame::Pack(pack).encode().unwrap());
        let begin = request(Request::Push {
            database,
            wants: Vec::new(),
            closures: Vec::new(),
        });
        self.ask(conn, [begin].into_iter().chain(packs), env);
    }

    fn spy(&mut self, conn: ConnId, env: &mut Env) {
        self.ask(conn, [request(Request::Discover)], env);
        let ids: Vec<Id> = self.prey.iter().map(|prey| prey.database).collect();
        for database in ids {
            let questions = [
                Request::Compare {
                    database,
                    tips: TipList::new(Vec::new()),
                    common: Vec::new(),
                    closures: Vec::new(),
                },
                Request::Describe {
                    database,
                    spans: Spans::new(&[(Span::ALL, Detail::Stamps)]),
                },
                Request::Push {
                    database,
                    wants: vec![IdPrefix::of(&database)],
                    closures: Vec::new(),
                },
                Request::Void {
                    database,
                    leaves: Vec::new(),
                },
                Request::Payloads {
                    database,
                    ids: vec![IdPrefix::of(&database)],
                },
                Request::Lacking { database },
            ];
            for question in questions {
                self.ask(conn, [request(question.clone())], env);
                self.ask(conn, [request_for_all(question)], env);
            }
        }
    }

    // On live streams.

    /// Asks for the news of everything.
    fn listen(&mut self, conn: ConnId, env: &mut Env) -> StreamId {
        let mut databases: Vec<Id> = self.prey.iter().map(|prey| prey.database).collect();
        databases.sort_unstable();
        let open = LiveOpen {
            set: set_hash(&databases),
            count: databases.len() as u32,
        };
        let stream = self.open(conn, env);
        let subscribe = Frame::Live(LiveMessage::Subscribe { databases })
            .encode()
            .unwrap();
        for frame in [request(Request::Live(open)), subscribe] {
            env.send(conn, Side::Dialler, stream, Body::Frame(frame));
        }
        stream
    }

    fn gossip(&mut self, conn: ConnId, side: Side, stream: StreamId, env: &mut Env) {
        for _ in 0..10 {
            for frame in self.rumour() {
                env.send(conn, side, stream, Body::Frame(frame));
            }
        }
    }

    /// Frames of a live stream, in their place or out of it.
    fn rumour(&mut self) -> Vec<Bytes> {
        let database = self
            .some_prey()
            .map_or(Id::new([1; 32]), |prey| prey.database);
        let tips = TipList::new(self.tips());
        let large = self.rng.one_in(2);
        let message = match self.rng.below(8) {
            0 => LiveMessage::Check,
            1 => LiveMessage::Detail,
            2 => LiveMessage::Want {
                database,
                not: vec![self.id()],
            },
            3 => LiveMessage::Compare { database },
            5 => LiveMessage::Holds {
                database,
                stores: Stores::these([]),
                lacks: large,
            },
            4 => {
                let packs = match self.rng.one_in(2) {
                    true => self.orphans(5),
                    false => self.bad_packs(),
                };
                let begin = LiveMessage::Entries {
                    database,
                    tips,
                    packs: packs.len().max(1) as u32,
                };
                let packs = packs.into_iter().map(Frame::Pack);
                let frames = [Frame::Live(begin)].into_iter().chain(packs);
                return frames.map(|frame| frame.encode().unwrap()).collect();
            }
            _ => LiveMessage::Have {
                database,
                tips,
                large,
            },
        };
        vec![Frame::Live(message).encode().unwrap()]
    }

    // What it sends.

    fn id(&mut self) -> Id {
        Id::new(self.rng.array())
    }

    fn tips(&mut self) -> Vec<Stamp> {
        let count = 1 + self.rng.below(3);
        let mut tip = || {
            let (height, id) = (
                self.rng.between(1 << 20, 1 << 40),
                Id::new(self.rng.array()),
            );
            Stamp::new(Height(height), id)
        };
        (0..count).map(|_| tip()).collect()
    }

    fn some_prey(&mut self) -> Option<&Prey> {
        match self.prey.len() {
            0 => None,
            len => self.prey.get(self.rng.below(len)),
        }
    }

    fn compare(&mut self) -> Bytes {
        let tips = TipList::new(self.tips());
        let common = vec![self.id()];
        let database = self.some_prey().map(|prey| prey.database);
        request(Request::Compare {
            database: database.unwrap_or(Id::new([1; 32])),
            tips,
            common,
            closures: Vec::new(),
        })
    }

    /// A question for all that there is.
    fn deep(&mut self) -> Bytes {
        let database = self.some_prey().map(|prey| prey.database);
        let block = |n| {
            let start = |n| Stamp::new(Height(n), Id::new([0; 32]));
            let (from, to) = (start(n), Some(start(n + 1)));
            (Span { from, to }, Detail::Stamps)
        };
        let spans: Vec<_> = (0..limits::SKETCH_SPANS as u64).map(block).collect();
        request(Request::Describe {
            database: database.unwrap_or(Id::new([1; 32])),
            spans: Spans::new(&spans),
        })
    }

    fn noise(&mut self) -> Bytes {
        match self.rng.below(3) {
            0 => {
                let len = self.rng.below(300);
                self.rng.bytes(len).into()
            }
            1 => self.flipped(self.some_frame()),
            _ => {
                let frame = self.compare();
                self.flipped(frame)
            }
        }
    }

    fn some_frame(&self) -> Bytes {
        let pack = self.prey.iter().find_map(|prey| prey.packs.first());
        match pack {
            Some(pack) => Frame::Pack(pack.clone()).encode().unwrap(),
            None => request(Request::Discover),
        }
    }

    fn flipped(&mut self, bytes: Bytes) -> Bytes {
        let mut bytes = bytes.to_vec();
        if !bytes.is_empty() {
            let (at, bit) = (self.rng.below(bytes.len()), self.rng.below(8));
            bytes[at] ^= 1 << bit;
        }
        bytes.into()
    }

    /// Packs with a flipped bit, and of another database.
    fn bad_packs(&mut self) -> Vec<Bytes> {
        let packs: Vec<Bytes> = self
            .prey
            .iter()
            .flat_map(|prey| prey.packs.iter().take(2).cloned())
            .collect();
        packs.into_iter().map(|pack| self.flipped(pack)).collect()
    }

    /// Entries on parents that nobody has.
    fn orphans(&mut self, count: usize) -> Vec<Bytes> {
        let Some(database) = self.some_prey().map(|prey| prey.database) else {
            return Vec::new();
        };
        let entries: Vec<Entry> = (0..count)
            .map(|_| {
                let parent = ParentInfo {
                    id: self.id(),
                    height: Height(self.rng.between(1, 1000)),
                    writes_settings: false,
                    settings: Ids::from(database),
                };
                self.entry(database, parent)
            })
            .collect();
        packed(&entries)
    }

    /// Entries on the root, each on the one before.
    fn backdated(&mut self, count: usize) -> Vec<Bytes> {
        let Some(database) = self.some_prey().map(|prey| prey.database) else {
            return Vec::new();
        };
        let mut parent = ParentInfo {
            id: database,
            height: Height::ROOT,
            writes_settings: true,
            settings: Ids::new(),
        };
        let mut entries = Vec::with_capacity(count);
        for _ in 0..count {
            let entry = self.entry(database, parent);
            parent = ParentInfo::of(entry.id(), entry.header());
            entries.push(entry);
        }
        packed(&entries)
    }

    fn entry(&mut self, database: Id, parent: ParentInfo) -> Entry {
        let store = StoreName::new("junk").unwrap();
        let payload = (store, Bytes::from(self.rng.bytes(8)));
        let draft = Draft::child(
            database,
            &[parent],
            Ids::from(database),
            [payload].into(),
            self.key.public(),
            None,
        )
        .unwrap();
        let signature = self.key.sign(&draft.signing_message());
        draft.sign(signature)
    }
}

fn packed(entries: &[Entry]) -> Vec<Bytes> {
    pack::chunks(entries, 64)
        .map(|chunk| pack::encode(chunk).unwrap())
        .collect()
}

fn request(request: Request) -> Bytes {
    Frame::Request(request).encode().unwrap()
}

fn request_for_all(request: Request) -> Bytes {
    Frame::RequestFor(Stores::All, request).encode().unwrap()
}

fn reply(reply: Reply) -> Bytes {
    Frame::Reply(reply).encode().unwrap()
}
