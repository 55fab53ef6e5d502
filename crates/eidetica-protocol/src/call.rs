//! One short question to a peer.

use std::collections::VecDeque;

use bytes::Bytes;
use eidetica_auth::{InviteProof, SignedRequest};

use crate::{
    DatabaseInfo, Failure, Frame, Input, Output, PeerFault, Refusal, Reply, Request, RequestRef,
    limits, machine::BootstrapAnswer, message::BootstrapState,
};

/// What a peer said.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum CallReply {
    /// To [`Call::discover`]: the databases, and whether there are more.
    Databases(Vec<DatabaseInfo>, bool),
    /// To [`Call::bootstrap`] and [`Call::status`].
    Bootstrap(BootstrapAnswer),
    /// To [`Call::cancel`].
    Cancelled,
}

/// A request with one frame each way. Same contract as [`SyncClient`](crate::SyncClient); asks nothing of the database
/// side.
#[derive(Debug)]
pub struct Call {
    request: Option<Request>,
    expect: Expect,
    reply: Option<Reply>,
    outputs: VecDeque<Output<CallReply>>,
    waiting_since: Option<u64>,
    finished: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Expect {
    Databases,
    Bootstrap,
    Cancelled,
}

impl Call {
    /// Asks which databases this node may read there.
    pub fn discover() -> Self {
        Self::new(Request::Discover, Expect::Databases)
    }

    /// Asks for access.
    pub fn bootstrap(request: &SignedRequest) -> Self {
        Self::new(
            Request::Bootstrap {
                request: request.encode().into(),
            },
            Expect::Bootstrap,
        )
    }

    /// Asks for access with an invite. Why the invite does nothing any more is [`Failure::Refused`].
    pub fn redeem(request: &SignedRequest, proof: &InviteProof) -> Self {
        Self::new(
            Request::Redeem {
                request: request.encode().into(),
                proof: *proof,
            },
            Expect::Bootstrap,
        )
    }

    /// Asks what became of a request. Its key is to be proven: the device key, or one with a claim for this device.
    pub fn status(request: RequestRef) -> Self {
        Self::new(Request::Status(request), Expect::Bootstrap)
    }

    /// Withdraws a request. Its key is to be proven.
    pub fn cancel(request: RequestRef) -> Self {
        Self::new(Request::Cancel(request), Expect::Cancelled)
    }

    fn new(request: Request, expect: Expect) -> Self {
        let (reply, outputs) = (None, VecDeque::new());
        Self {
            request: Some(request),
            expect,
            reply,
            outputs,
            waiting_since: None,
            finished: false,
        }
    }

    /// Whether a frame of the response, or its end, may be handed in now.
    pub fn wants_frame(&self) -> bool {
        self.request.is_none() && !self.finished
    }

    /// Takes one input.
    pub fn handle_input(&mut self, input: Input, now_ms: u64) {
        if self.finished {
            return;
        }
        let waiting = self.waiting_since.take();
        match input {
            Input::Frame(bytes) => self.handle_frame(&bytes),
            Input::End => {
                let result = self
                    .reply
                    .take()
                    .ok_or(PeerFault::Truncated.into())
                    .and_then(|r| self.read(r));
                self.finish(result);
            }
            Input::Answer(..) | Input::Ingested(..) => {
                self.finish(Err(Failure::Driver("answers what nobody asked")))
            }
            Input::Closed(reason) => self.finish(Err(Failure::Closed(reason))),
            Input::Moving => self.waiting_since = Some(now_ms),
            Input::Tick => {
                self.waiting_since = waiting;
                if waiting.is_some_and(|since| now_ms >= since.saturating_add(limits::ANSWER_MS)) {
                    self.finish(Err(Failure::Idle(limits::ANSWER_MS)));
                }
            }
        }
    }

    /// The next output.
    pub fn poll_output(&mut self, now_ms: u64) -> Output<CallReply> {
        if let Some(request) = self.request.take() {
            match Frame::Request(request).encode() {
                Ok(frame) => {
                    self.outputs
                        .extend([Output::OpenRequest, Output::Send(frame), Output::End])
                }
                Err(error) => self.finish(Err(Failure::Local(error.to_string()))),
            }
        }
        if let Some(output) = self.outputs.pop_front() {
            return output;
        }
        if self.finished {
            return Output::Timeout(None);
        }
        let since = *self.waiting_since.get_or_insert(now_ms);
        Output::Timeout(Some(since.saturating_add(limits::ANSWER_MS)))
    }

    fn handle_frame(&mut self, bytes: &Bytes) {
        match Frame::decode(bytes) {
            Err(error) => self.finish(Err(PeerFault::from(error).into())),
            Ok(Frame::Reply(reply)) if self.reply.is_none() => self.reply = Some(reply),
            Ok(_) => self.finish(Err(PeerFault::Unexpected("another frame").into())),
        }
    }

    fn read(&self, reply: Reply) -> Result<CallReply, Failure> {
        match (self.expect, reply) {
            (Expect::Bootstrap, Reply::Refused(Refusal::ABSENT)) => {
                Ok(CallReply::Bootstrap(BootstrapAnswer::Denied))
            }
            (_, Reply::Refused(refusal)) => Err(Failure::Refused(refusal)),
            (Expect::Databases, Reply::Databases { databases, more }) => {
                Ok(CallReply::Databases(databases, more))
            }
            (Expect::Bootstrap, Reply::Bootstrap(state)) => Ok(CallReply::Bootstrap(match state {
                BootstrapState::Granted => BootstrapAnswer::Granted,
                BootstrapState::Pending(id) => BootstrapAnswer::Pending(id),
            })),
            (Expect::Cancelled, Reply::Cancelled) => Ok(CallReply::Cancelled),
            _ => Err(PeerFault::Unexpected("another answer").into()),
        }
    }

    fn finish(&mut self, result: Result<CallReply, Failure>) {
        self.finished = true;
        self.outputs.clear();
        self.outputs.push_back(Output::Done(result));
    }
}
