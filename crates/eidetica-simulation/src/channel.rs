//! Connections of a node: dialled or accepted, the identity handshake on them, and the streams that they carry.

use std::collections::{BTreeMap, VecDeque};

use bytes::Bytes;
use eidetica_auth::DeviceClaim;
use eidetica_engine::{ConnectError, Input, LinkId};
use eidetica_entry::PublicKey;
use eidetica_protocol::{
    Blame, PeerIdentity, Refusal,
    handshake::{Acceptor, HandshakeError, Initiator, Proving, Side as Part},
    limits::HANDSHAKE_MS,
};
use eidetica_transport::Address;

use crate::{
    env::{Env, Event},
    net::{Body, CONTROL, ConnId, Side, StreamId},
    node::{self, Node},
    session::Item,
};

/// To dial.
const DIAL_MS: u64 = 10_000;
/// Requests of one connection that are served at once; more wait.
const REQUESTS: usize = 8;

/// One end of a connection.
pub(crate) struct Channel {
    pub(crate) side: Side,
    /// The engine's name of it, if this node dialled.
    link: Option<LinkId>,
    state: State,
    /// Until when it is to be open (of the simulation).
    deadline_ms: u64,
    broken: bool,
    serving: usize,
    /// Requests that wait for their turn, with what has come of them.
    waiting: BTreeMap<StreamId, VecDeque<Item>>,
}

enum State {
    Dialling(Option<PublicKey>),
    Greeting(Initiator),
    Proving(Proving),
    Accepting,
    Answered(Acceptor),
    Open(PeerIdentity),
    /// Between two states.
    Changing,
}

/// What both ends bind their handshake to.
pub(crate) fn binding(conn: ConnId) -> [u8; 32] {
    let mut binding = [0x5a; 32];
    binding[..4].copy_from_slice(&conn.0.to_le_bytes());
    binding
}

impl Channel {
    fn new(side: Side, link: Option<LinkId>, state: State, deadline_ms: u64) -> Self {
        Self {
            side,
            link,
            state,
            deadline_ms,
            broken: false,
            serving: 0,
            waiting: BTreeMap::new(),
        }
    }
}

impl Node {
    pub(crate) fn identity(&self, conn: ConnId) -> Option<&PeerIdentity> {
        match &self.channels.get(&conn)?.state {
            State::Open(identity) => Some(identity),
            _ => None,
        }
    }

    /// How many connections are open or on their way.
    pub(crate) fn conns(&self) -> Vec<ConnId> {
        self.channels.keys().copied().collect()
    }

    pub(crate) fn dial(
        &mut self,
        link: LinkId,
        address: &Address,
        pinned: Option<PublicKey>,
        env: &mut Env,
    ) {
        let Some(to) = node::node_at(address) else {
            let error = ConnectError {
                text: "not in time".to_owned(),
                peer_fault: false,
            };
            let late = node::Work::DialFailed(link, error);
            return env.after(DIAL_MS, Event::Disk(self.me, self.boot, late));
        };
        env.counts.dials += 1;
        env.oracle.dialled(self.me, to, env.now_ms);
        let conn = env.net.connect(self.me, to);
        self.links.insert(link, conn);
        let state = State::Dialling(pinned);
        let channel = Channel::new(Side::Dialler, Some(link), state, env.now_ms + DIAL_MS);
        self.channels.insert(conn, channel);
        env.send(conn, Side::Dialler, CONTROL, Body::Dial);
        env.after(DIAL_MS, Event::Late(self.me, self.boot, conn));
    }

    /// The engine gives a connection up.
    pub(crate) fn close(&mut self, link: LinkId, env: &mut Env) {
        if let Some(conn) = self.links.remove(&link) {
            self.hang_up(conn, env);
        }
    }

    fn hang_up(&mut self, conn: ConnId, env: &mut Env) {
        if let Some(channel) = self.channels.remove(&conn) {
            env.send(conn, channel.side, CONTROL, Body::Closed);
            self.cut_sessions(conn, env);
        }
    }

    fn cut_sessions(&mut self, conn: ConnId, env: &mut Env) {
        let ids: Vec<_> = self
            .sessions
            .iter()
            .filter(|(_, session)| session.conn == conn)
            .map(|(id, _)| *id)
            .collect();
        for id in ids {
            self.deliver(id, Item::Cut, env);
        }
    }

    /// A dial or a handshake has had its time.
    pub(crate) fn late(&mut self, conn: ConnId, env: &mut Env) {
        let is_late = self.channels.get(&conn).is_some_and(|channel| {
            !matches!(channel.state, State::Open(_)) && env.now_ms >= channel.deadline_ms
        });
        if is_late {
            self.fail_dial(conn, "not in time", false, env);
            self.hang_up(conn, env);
        }
    }

    fn fail_dial(&mut self, conn: ConnId, text: &str, peer_fault: bool, env: &mut Env) {
        let link = self.channels.get(&conn).and_then(|channel| channel.link);
        let Some(link) = link.filter(|link| self.links.remove(link).is_some()) else {
            return;
        };
        env.note(self.me, "dial failed", text.as_bytes(), || text.to_owned());
        let text = text.to_owned();
        self.input(
            Input::ConnectFailed(link, ConnectError { text, peer_fault }),
            env,
        );
    }

    /// This node notices that a connection is gone.
    pub(crate) fn lose(&mut self, conn: ConnId, env: &mut Env) {
        let Some(channel) = self.channels.get_mut(&conn) else {
            return;
        };
        channel.broken = true;
        channel.waiting.clear();
        if !matches!(channel.state, State::Open(_)) {
            self.fail_dial(conn, "the connection was cut", false, env);
            self.channels.remove(&conn);
            return;
        }
        self.cut_sessions(conn, env);
        self.drop_if_broken(conn, env);
    }

    /// A broken connection is given up once no session runs on it.
    pub(crate) fn drop_if_broken(&mut self, conn: ConnId, env: &mut Env) {
        let is_used = self.sessions.values().any(|session| session.conn == conn);
        let is_broken = self
            .channels
            .get(&conn)
            .is_some_and(|channel| channel.broken);
        if is_used || !is_broken {
            return;
        }
        let link = self.channels.remove(&conn).and_then(|channel| channel.link);
        if let Some(link) = link.filter(|link| self.links.remove(link).is_some()) {
            self.input(Input::Disconnected(link), env);
        }
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
            Body::Dial => self.accept(conn, env),
            Body::Accepted => self.greet(conn, env),
            Body::Refused => {
                self.fail_dial(conn, "the connection was refused", false, env);
                self.channels.remove(&conn);
            }
            Body::Hand(frame) => self.shake(conn, &frame, env),
            Body::Closed => self.lose(conn, env),
            Body::Open => self.admit(conn, stream, env),
            Body::Credit(frames) => {
                if let Some(id) = self.by_stream.get(&stream) {
                    self.credit(*id, frames, env);
                }
            }
            Body::Frame(frame) => self.on_stream(conn, side, stream, Item::Frame(frame), env),
            Body::End => self.on_stream(conn, side, stream, Item::End, env),
            Body::Reset => self.on_stream(conn, side, stream, Item::Cut, env),
        }
    }

    fn on_stream(&mut self, conn: ConnId, side: Side, stream: StreamId, item: Item, env: &mut Env) {
        let channel = self.channels.get_mut(&conn);
        if let Some(id) = self.by_stream.get(&stream) {
            self.deliver(*id, item, env);
        } else if let Some(waiting) = channel.and_then(|channel| channel.waiting.get_mut(&stream)) {
            waiting.push_back(item);
        } else if matches!(item, Item::Frame(_)) {
            // Nobody reads this any more.
            env.send(conn, side, stream, Body::Reset);
        }
    }

    fn accept(&mut self, conn: ConnId, env: &mut Env) {
        let deadline_ms = env.now_ms + HANDSHAKE_MS;
        let channel = Channel::new(Side::Acceptor, None, State::Accepting, deadline_ms);
        self.channels.insert(conn, channel);
        env.send(conn, Side::Acceptor, CONTROL, Body::Accepted);
        env.after(HANDSHAKE_MS, Event::Late(self.me, self.boot, conn));
    }

    fn part<'a>(&mut self, conn: ConnId, device: &'a eidetica_auth::SecretKey) -> Part<'a> {
        Part {
            device,
            binding: binding(conn),
            nonce: self.rng.array(),
            versions: self.versions,
        }
    }

    fn greet(&mut self, conn: ConnId, env: &mut Env) {
        let device = std::sync::Arc::clone(&self.device);
        let part = self.part(conn, &device);
        let Some(channel) = self.channels.get_mut(&conn) else {
            return;
        };
        let State::Dialling(pinned) = channel.state else {
            return;
        };
        match Initiator::start(&part, pinned) {
            Ok((initiator, frame)) => {
                channel.state = State::Greeting(initiator);
                channel.deadline_ms = env.now_ms + HANDSHAKE_MS;
                env.send(conn, Side::Dialler, CONTROL, Body::Hand(frame));
                env.after(HANDSHAKE_MS, Event::Late(self.me, self.boot, conn));
            }
            Err(error) => self.refuse(conn, &error, env),
        }
    }

    /// One step of the handshake.
    fn shake(&mut self, conn: ConnId, frame: &Bytes, env: &mut Env) {
        let device = std::sync::Arc::clone(&self.device);
        let part = self.part(conn, &device);
        let claims: Vec<DeviceClaim> = self.engine.claims(self.now_ms(env)).cloned().collect();
        let Some(channel) = self.channels.get_mut(&conn) else {
            return;
        };
        let side = channel.side;
        let next = match std::mem::replace(&mut channel.state, State::Changing) {
            State::Greeting(initiator) => initiator
                .answered(frame, &device, &claims)
                .map(|(proving, frame)| (State::Proving(proving), Some(frame))),
            State::Proving(proving) => proving
                .welcomed(frame)
                .map(|identity| (State::Open(identity), None)),
            State::Accepting => Acceptor::hello(&part, frame)
                .map(|(acceptor, frame)| (State::Answered(acceptor), Some(frame))),
            State::Answered(acceptor) => acceptor.proof(frame).and_then(|(identity, frame)| {
                match self.engine.admits(&identity.device) {
                    true => Ok((State::Open(identity), Some(frame))),
                    false => Err(HandshakeError::Refused(Refusal::IDENTITY)),
                }
            }),
            state => Ok((state, None)),
        };
        match next {
            Ok((state, frame)) => {
                if let Some(frame) = frame {
                    env.send(conn, side, CONTROL, Body::Hand(frame));
                }
                self.advance(conn, state, env);
            }
            Err(error) => self.refuse(conn, &error, env),
        }
    }

    fn advance(&mut self, conn: ConnId, state: State, env: &mut Env) {
        let Some(channel) = self.channels.get_mut(&conn) else {
            return;
        };
        channel.state = state;
        let (State::Open(identity), link) = (&channel.state, channel.link) else {
            return;
        };
        let (identity, me) = (identity.clone(), self.me);
        env.note(me, "proven", identity.device.as_bytes(), String::new);
        match link {
            Some(link) => self.input(Input::Connected(link, identity), env),
            None => self.input(Input::Seen(identity.device), env),
        }
    }

    fn refuse(&mut self, conn: ConnId, error: &HandshakeError, env: &mut Env) {
        let text = error.to_string();
        let accepts = self
            .channels
            .get(&conn)
            .is_some_and(|channel| channel.side == Side::Acceptor);
        if accepts {
            env.note(self.me, "handshake refused", text.as_bytes(), || {
                text.clone()
            });
            env.send(conn, Side::Acceptor, CONTROL, Body::Hand(error.refusal()));
        }
        self.fail_dial(conn, &text, error.blame() == Blame::Peer, env);
        self.hang_up(conn, env);
    }

    /// A request begins.
    fn admit(&mut self, conn: ConnId, stream: StreamId, env: &mut Env) {
        let Some(device) = self.identity(conn).map(|identity| identity.device) else {
            return;
        };
        if !self.engine.admits(&device) {
            return self.hang_up(conn, env);
        }
        if let Some(channel) = self.channels.get_mut(&conn) {
            channel.waiting.insert(stream, VecDeque::new());
            self.serve_waiting(conn, env);
        }
    }

    /// A request is answered.
    pub(crate) fn served(&mut self, conn: ConnId, env: &mut Env) {
        if let Some(channel) = self.channels.get_mut(&conn) {
            channel.serving -= 1;
            self.serve_waiting(conn, env);
        }
        self.drop_if_broken(conn, env);
    }

    fn serve_waiting(&mut self, conn: ConnId, env: &mut Env) {
        let Some(channel) = self.channels.get_mut(&conn) else {
            return;
        };
        if channel.serving >= REQUESTS {
            return;
        }
        if let Some((stream, items)) = channel.waiting.pop_first() {
            channel.serving += 1;
            self.serve(conn, stream, env);
            for item in items {
                self.on_stream(conn, Side::Acceptor, stream, item, env);
            }
        }
    }
}
