//! Two stores, a wire between them that can be cut or bent, and a virtual clock.

use std::collections::VecDeque;

use bytes::Bytes;
use eidetica_auth::{DeviceClaim, SecretKey};
use eidetica_entry::Id;
use eidetica_protocol::{
    CloseReason, Failure, Frame, Input, Outcome, Output, PeerIdentity, ProvenKeys, Reply, Request,
    Responder, ResponderConfig, Served, SyncClient, SyncConfig,
};

use crate::model::Store;

pub(crate) const NOW: u64 = 1_800_000_000_000;

pub(crate) fn key(seed: u8) -> SecretKey {
    SecretKey::from_bytes(&[seed; 32])
}

/// Changes the frames of a response.
pub(crate) type Bend = Box<dyn FnMut(&mut Vec<Bytes>)>;

/// What to do to the wire. Messages are counted over both directions, from 0; an end is a message.
#[derive(Default)]
pub(crate) struct Wire {
    /// Cut before this message.
    pub(crate) cut_at: Option<usize>,
    /// Changes the frames of one response before they are handed over.
    pub(crate) bend: Option<Bend>,
    pub(crate) messages: usize,
    pub(crate) bytes: usize,
    /// Of them, those of packs.
    pub(crate) pack_bytes: usize,
    pub(crate) requests: usize,
}

/// Who syncs: the client's proof is what the server goes by.
pub(crate) struct Parties {
    pub(crate) client: ProvenKeys,
    pub(crate) server: PeerIdentity,
    pub(crate) server_claims: Vec<DeviceClaim>,
}

impl Default for Parties {
    fn default() -> Self {
        let device = key(2).public();
        Self {
            client: ProvenKeys::device(key(1).public()),
            server: PeerIdentity {
                device,
                version: 1,
                proven: ProvenKeys::device(device),
            },
            server_claims: Vec::new(),
        }
    }
}

pub(crate) fn config(database: Id, parties: &Parties) -> SyncConfig {
    SyncConfig {
        database,
        peer: parties.server.clone(),
        common: Vec::new(),
        create: true,
    }
}

pub(crate) fn sync(client: &mut Store, server: &mut Store) -> Result<Outcome, Failure> {
    let database = server
        .replica
        .as_ref()
        .or(client.replica.as_ref())
        .unwrap()
        .database;
    sync_over(client, server, database, &mut Wire::default())
}

pub(crate) fn sync_over(
    client: &mut Store,
    server: &mut Store,
    database: Id,
    wire: &mut Wire,
) -> Result<Outcome, Failure> {
    let parties = Parties::default();
    run(
        config(database, &parties),
        &parties,
        client,
        server,
        wire,
        &mut |_, _, _| {},
    )
}

/// Runs a sync to its end. `meddle` is called after every request, with its number.
pub(crate) fn run(
    config: SyncConfig,
    parties: &Parties,
    client: &mut Store,
    server: &mut Store,
    wire: &mut Wire,
    meddle: &mut dyn FnMut(usize, &mut Store, &mut Store),
) -> Result<Outcome, Failure> {
    let mut machine = SyncClient::new(config);
    let mut request: Vec<Bytes> = Vec::new();
    let mut response: VecDeque<Option<Bytes>> = VecDeque::new();
    loop {
        match machine.poll_output(NOW) {
            Output::OpenRequest => {
                request.clear();
                response.clear();
            }
            Output::Send(frame) => request.push(frame),
            Output::End => {
                wire.requests += 1;
                let frames = std::mem::take(&mut request);
                let (mut answer, ended) = serve(parties, server, frames, wire);
                if let Some(bend) = &mut wire.bend {
                    bend(&mut answer);
                }
                response = answer.into_iter().map(Some).collect();
                if ended {
                    response.push_back(None);
                }
                meddle(wire.requests, client, server);
            }
            Output::Query(id, query) => {
                let answer = client.answer(&query);
                machine.handle_input(Input::Answer(id, Ok(answer)), NOW);
            }
            Output::Ingest(id, batch) => {
                let report = client.ingest(&batch);
                machine.handle_input(Input::Ingested(id, report), NOW);
            }
            Output::Event(_) => {}
            Output::Done(result) => {
                assert!(
                    matches!(machine.poll_output(NOW), Output::Timeout(None)),
                    "done is done"
                );
                return result;
            }
            Output::Timeout(_) => {
                assert!(
                    machine.wants_frame(),
                    "the client waits for nothing: {machine:?}"
                );
                let input = match response.pop_front() {
                    Some(message) if wire.passes(message.as_ref()) => {
                        message.map_or(Input::End, Input::Frame)
                    }
                    _ => Input::Closed(CloseReason::Cut),
                };
                machine.handle_input(input, NOW);
            }
        }
    }
}

impl Wire {
    /// Counts a message; false if the wire is cut before it.
    fn passes(&mut self, message: Option<&Bytes>) -> bool {
        let passes = self.cut_at.is_none_or(|at| self.messages < at);
        self.messages += 1;
        self.bytes += message.map_or(0, Bytes::len);
        let pack = message.filter(|frame| frame.first() == Some(&3));
        self.pack_bytes += pack.map_or(0, Bytes::len);
        passes
    }
}

/// One request through a responder: the frames of the response, and whether it ended as it should.
pub(crate) fn serve(
    parties: &Parties,
    server: &mut Store,
    frames: Vec<Bytes>,
    wire: &mut Wire,
) -> (Vec<Bytes>, bool) {
    let config = ResponderConfig {
        peer: parties.client.clone(),
        claims: parties.server_claims.clone(),
    };
    let mut machine = Responder::new(config);
    let mut frames: VecDeque<Option<Bytes>> = frames.into_iter().map(Some).chain([None]).collect();
    let (mut response, mut ended) = (Vec::new(), false);
    loop {
        match machine.poll_output(NOW) {
            Output::OpenRequest => panic!("a responder opens nothing"),
            Output::Send(frame) => response.push(frame),
            Output::End => ended = true,
            Output::Query(id, query) => {
                let answer = server.answer(&query);
                machine.handle_input(Input::Answer(id, Ok(answer)), NOW);
            }
            Output::Ingest(id, batch) => {
                let report = server.ingest(&batch);
                machine.handle_input(Input::Ingested(id, report), NOW);
            }
            Output::Event(_) => {}
            Output::Done(result) => {
                let _: Result<Served, Failure> = result;
                return (response, ended);
            }
            Output::Timeout(_) => {
                assert!(
                    machine.wants_frame(),
                    "the server waits for nothing: {machine:?}"
                );
                let input = match frames.pop_front() {
                    Some(message) if wire.passes(message.as_ref()) => {
                        message.map_or(Input::End, Input::Frame)
                    }
                    _ => Input::Closed(CloseReason::Cut),
                };
                machine.handle_input(input, NOW);
            }
        }
    }
}

/// A sync against a server that is a function from requests to responses, whole or cut off.
pub(crate) fn against(
    client: &mut Store,
    database: Id,
    server: &mut dyn FnMut(&Request) -> Vec<Frame>,
) -> (Result<Outcome, Failure>, usize) {
    against_at(1, client, database, &mut |frame| match frame {
        Frame::Request(request) => server(request),
        other => panic!("{other:?} of version 1"),
    })
}

/// The same of any version: the function is from the first frame of a request.
pub(crate) fn against_at(
    version: u16,
    client: &mut Store,
    database: Id,
    server: &mut dyn FnMut(&Frame) -> Vec<Frame>,
) -> (Result<Outcome, Failure>, usize) {
    let mut parties = Parties::default();
    parties.server.version = version;
    let mut machine = SyncClient::new(config(database, &parties));
    let (mut response, mut requests) = (VecDeque::new(), 0);
    loop {
        match machine.poll_output(NOW) {
            Output::OpenRequest => requests += 1,
            Output::Send(frame) => {
                let frame = Frame::decode(&frame).unwrap();
                if matches!(frame, Frame::Request(_) | Frame::RequestFor(..)) {
                    response = server(&frame)
                        .into_iter()
                        .map(|frame| frame.encode().unwrap())
                        .collect();
                }
            }
            Output::Query(id, query) => {
                let answer = client.answer(&query);
                machine.handle_input(Input::Answer(id, Ok(answer)), NOW);
            }
            Output::Ingest(id, batch) => {
                let report = client.ingest(&batch);
                machine.handle_input(Input::Ingested(id, report), NOW);
            }
            Output::End | Output::Event(_) => {}
            Output::Done(result) => return (result, requests),
            Output::Timeout(_) => {
                let input = response.pop_front().map_or(Input::End, Input::Frame);
                machine.handle_input(input, NOW);
            }
        }
    }
}

/// The frames of a response, decoded.
pub(crate) fn replies(frames: &[Bytes]) -> Vec<Reply> {
    let decoded = frames.iter().map(|frame| Frame::decode(frame).unwrap());
    let replies = decoded.filter_map(|frame| match frame {
        Frame::Reply(reply) => Some(reply),
        _ => None,
    });
    replies.collect()
}
