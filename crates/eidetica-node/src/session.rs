//! Running one machine of `eidetica-protocol`: its frames, its questions, its clock.

use std::{pin::pin, sync::Arc, time::Duration};

use bytes::Bytes;
use eidetica_auth::SignedRequest;
use eidetica_engine::Redemption;
use eidetica_entry::PublicKey;
use eidetica_protocol::{
    Answer, BootstrapAnswer, Call, CallReply, CloseReason, Failure, IngestBatch, IngestError,
    IngestReport, Input, Outcome, Output, Query, Responder, Served, SyncClient, Unavailable,
};
use futures::{FutureExt, StreamExt, channel::oneshot, future::BoxFuture, stream::FuturesOrdered};
use tokio::{
    sync::mpsc,
    time::{Instant, sleep_until, timeout},
};
use tokio_util::sync::CancellationToken;

use crate::{clock::now_ms, driver::News, pool::Pool, wire::Wire};

/// What the three machines have in common.
pub(crate) trait Machine {
    type Done;

    fn wants_frame(&self) -> bool;
    fn handle_input(&mut self, input: Input, now_ms: u64);
    fn poll_output(&mut self, now_ms: u64) -> Output<Self::Done>;
}

macro_rules! machine {
    ($machine:ty => $done:ty) => {
        impl Machine for $machine {
            type Done = $done;

            fn wants_frame(&self) -> bool {
                <$machine>::wants_frame(self)
            }

            fn handle_input(&mut self, input: Input, now_ms: u64) {
                <$machine>::handle_input(self, input, now_ms);
            }

            fn poll_output(&mut self, now_ms: u64) -> Output<$done> {
                <$machine>::poll_output(self, now_ms)
            }
        }
    };
}

machine!(SyncClient => Outcome);
machine!(Call => CallReply);
machine!(Responder => Served);

/// What sessions ask: the databases, and the engine about requests for access.
pub(crate) struct Services {
    pub(crate) pool: Arc<Pool>,
    pub(crate) news: mpsc::Sender<News>,
    /// For how long a frame may wait to be sent.
    pub(crate) send: Duration,
}

impl Services {
    pub(crate) async fn query(self: Arc<Self>, query: Query) -> Result<Answer, Unavailable> {
        match query {
            Query::Bootstrap { request } => {
                let asked = request.request();
                let facts = self.pool.facts(asked.database, asked.key).await?;
                self.ask(|reply| News::Bootstrap {
                    request,
                    facts,
                    reply,
                })
                .await
                .map(Answer::Bootstrap)
            }
            Query::Redeem { request, invite } => self.redeem(request, invite).await,
            Query::Status { request, device } => {
                let facts = self.pool.facts(request.database, request.key).await?;
                self.ask(|reply| News::Status {
                    request,
                    device,
                    facts,
                    reply,
                })
                .await
                .map(Answer::Bootstrap)
            }
            Query::Cancel { request, device } => {
                self.ask(|reply| News::Cancel {
                    request,
                    device,
                    reply,
                })
                .await?;
                Ok(Answer::Cancelled)
            }
            query => self.pool.query(query).await,
        }
    }

    pub(crate) async fn ingest(
        self: Arc<Self>,
        batch: IngestBatch,
        from: PublicKey,
    ) -> Result<IngestReport, IngestError> {
        let database = batch.database;
        let report = self.pool.ingest(batch, from).await?;
        // New entries are announced by whoever watches the database. Payloads of old ones are of use to others, too.
        if report.filled > 0 {
            // The driver is gone, and this ends with it.
            let _ = self.news.send(News::Filled(database)).await;
        }
        Ok(report)
    }

    /// The engine takes a place of the invite, the databases make the grant, the engine remembers it. Whoever stops
    /// waiting in between keeps the place, and may try again.
    async fn redeem(
        &self,
        request: Box<SignedRequest>,
        invite: PublicKey,
    ) -> Result<Answer, Unavailable> {
        let asked = request.request();
        let facts = self.pool.facts(asked.database, asked.key).await?;
        let asking = request.clone();
        let taken = self
            .ask(|reply| News::Redeem {
                request: asking,
                invite,
                facts,
                reply,
            })
            .await?;
        let by = match taken {
            Redemption::Answer(Ok(answer)) => return Ok(Answer::Bootstrap(answer)),
            Redemption::Answer(Err(refusal)) => return Ok(Answer::Refused(refusal)),
            Redemption::Grant { by } => by,
        };
        let result = self.pool.redeem(request.clone(), by).await;
        let answer = self.ask(|reply| News::Redeemed {
            request,
            invite,
            facts,
            result,
            reply,
        });
        answer.await.map(Answer::Bootstrap)
    }

    pub(crate) async fn ask<T>(
        &self,
        news: impl FnOnce(oneshot::Sender<T>) -> News,
    ) -> Result<T, Unavailable> {
        let stopped = || Unavailable("the node has stopped".to_owned());
        let (reply, receiver) = oneshot::channel();
        self.news.send(news(reply)).await.map_err(|_| stopped())?;
        receiver.await.map_err(|_| stopped())
    }
}

/// The reply to a question about a request for access.
pub(crate) type BootstrapReply = oneshot::Sender<BootstrapAnswer>;

/// Why a session is to end early: cancelled with it.
#[derive(Clone)]
pub(crate) struct Stop {
    pub(crate) token: CancellationToken,
    pub(crate) reason: CloseReason,
}

/// Runs a machine that talks with `peer` to its end. What has arrived whole is ingested even when it is stopped.
pub(crate) async fn run<M: Machine>(
    mut machine: M,
    mut wire: Wire,
    peer: PublicKey,
    services: &Arc<Services>,
    stop: &Stop,
) -> Result<M::Done, Failure> {
    let mut query: Option<BoxFuture<'static, Input>> = None;
    let mut ingests: FuturesOrdered<BoxFuture<'static, Input>> = FuturesOrdered::new();
    let mut stopped = false;
    let mut motion = Motion::begin(wire.moved(), now_ms());
    loop {
        let input = match machine.poll_output(now_ms()) {
            Output::OpenRequest => {
                wire.open();
                continue;
            }
            Output::Send(frame) => {
                let taken = tokio::select! {
                    biased;
                    () = stop.token.cancelled(), if !stopped => {
                        stopped = true;
                        machine.handle_input(Input::Closed(stop.reason), now_ms());
                        continue;
                    }
                    taken = send(&mut wire, frame, services.send) => taken,
                };
                match taken {
                    Some(true) => continue,
                    // Whoever stops reading may have said why.
                    Some(false) if machine.wants_frame() => continue,
                    // After a frame that was not sent in time none may follow: there would be a gap.
                    Some(false) | None => Input::Closed(CloseReason::Cut),
                }
            }
            Output::End => {
                wire.end();
                continue;
            }
            Output::Query(id, asked) => {
                let answer = Arc::clone(services).query(asked);
                query = Some(answer.map(move |answer| Input::Answer(id, answer)).boxed());
                continue;
            }
            Output::Ingest(id, batch) => {
                let report = Arc::clone(services).ingest(batch, peer);
                ingests.push_back(
                    report
                        .map(move |report| Input::Ingested(id, report))
                        .boxed(),
                );
                continue;
            }
            Output::Event(_) => continue,
            Output::Done(result) => return result,
            Output::Timeout(at_ms) => tokio::select! {
                biased;
                () = stop.token.cancelled(), if !stopped => {
                    stopped = true;
                    Input::Closed(stop.reason)
                }
                input = due(&mut query) => input,
                Some(input) = ingests.next() => input,
                frame = wire.next(), if machine.wants_frame() => match frame {
                    Ok(Some(frame)) => Input::Frame(frame),
                    Ok(None) => Input::End,
                    Err(error) => {
                        tracing::trace!(%error, "a session's stream broke");
                        Input::Closed(CloseReason::Cut)
                    }
                },
                () = until(at_ms.map(|at_ms| at_ms.min(now_ms() + LOOK_MS))) => {
                    motion.look(wire.moved(), now_ms());
                    if at_ms.is_some_and(|at_ms| now_ms() < at_ms) {
                        continue;
                    }
                    if let Some(moved_ms) = motion.take() {
                        machine.handle_input(Input::Moving, moved_ms);
                        continue;
                    }
                    Input::Tick
                }
            },
        };
        motion = Motion::begin(wire.moved(), now_ms());
        machine.handle_input(input, now_ms());
    }
}

/// How often it is looked whether anything moves, of what a machine waits for.
const LOOK_MS: u64 = 1_000;

/// What moves while a machine waits.
struct Motion {
    /// As [`Wire::moved`] said.
    pieces: (u64, u64),
    /// When that was seen first.
    at_ms: u64,
    /// Since when the machine has waited, as it was told.
    told_ms: u64,
}

impl Motion {
    fn begin(pieces: (u64, u64), now_ms: u64) -> Self {
        Self {
            pieces,
            at_ms: now_ms,
            told_ms: now_ms,
        }
    }

    fn look(&mut self, pieces: (u64, u64), now_ms: u64) {
        if pieces != self.pieces {
            (self.pieces, self.at_ms) = (pieces, now_ms);
        }
    }

    /// When anything moved last, if the machine is to be told.
    fn take(&mut self) -> Option<u64> {
        let moved_ms = Some(self.at_ms).filter(|at_ms| *at_ms > self.told_ms);
        self.told_ms = self.at_ms;
        moved_ms
    }
}

/// Sends a frame; `None` if nothing of those before it was taken for so long.
async fn send(wire: &mut Wire, frame: Bytes, patience: Duration) -> Option<bool> {
    let progress = wire.sent();
    let mut sending = pin!(wire.send(frame));
    loop {
        let before = progress.pieces();
        match timeout(patience, &mut sending).await {
            Ok(taken) => return Some(taken),
            Err(_) if progress.pieces() != before => {}
            Err(_) => return None,
        }
    }
}

/// The result of what runs, which is then nothing; for ever pending while nothing runs.
async fn due(running: &mut Option<BoxFuture<'static, Input>>) -> Input {
    let Some(future) = running else {
        return std::future::pending().await;
    };
    let input = future.await;
    *running = None;
    input
}

/// Waits until a time of the wall clock.
pub(crate) async fn until(at_ms: Option<u64>) {
    match at_ms {
        Some(at_ms) => {
            sleep_until(Instant::now() + Duration::from_millis(at_ms.saturating_sub(now_ms())))
                .await
        }
        None => std::future::pending().await,
    }
}

#[cfg(test)]
mod tests {
    use eidetica_transport::{FrameSink, FrameStream, pipe};

    use super::*;
    use crate::{NodeLimits, driver::tests::driver};

    /// Sends frames, then their end, and is done. It reads what comes meanwhile.
    struct Sender {
        left: u32,
        is_over: Option<Result<(), Failure>>,
    }

    impl Machine for Sender {
        type Done = ();

        fn wants_frame(&self) -> bool {
            true
        }

        fn handle_input(&mut self, input: Input, _: u64) {
            if let Input::Closed(reason) = input {
                self.is_over = Some(Err(Failure::Closed(reason)));
            }
        }

        fn poll_output(&mut self, _: u64) -> Output<()> {
            if let Some(result) = self.is_over.take() {
                return Output::Done(result);
            }
            match self.left.checked_sub(1) {
                Some(left) => {
                    self.left = left;
                    Output::Send(vec![0; 64 << 10].into())
                }
                None => {
                    self.is_over = Some(Ok(()));
                    Output::End
                }
            }
        }
    }

    #[test]
    fn a_machine_is_told_once_when_anything_moved_last() {
        let mut motion = Motion::begin((1, 1), 10);
        motion.look((1, 1), 20);
        assert_eq!(motion.take(), None);
        motion.look((2, 1), 30);
        motion.look((2, 1), 40);
        assert_eq!(motion.take(), Some(30));
        motion.look((2, 1), 50);
        assert_eq!(motion.take(), None);
        // Another stream has begun.
        motion.look((0, 1), 60);
        assert_eq!(motion.take(), Some(60));
    }

    /// How long a frame may wait to be taken.
    const SEND: Duration = Duration::from_millis(20);

    /// Sends a hundred frames.
    async fn send_all(sink: FrameSink) -> Result<(), Failure> {
        let services = driver(NodeLimits {
            send: SEND,
            ..NodeLimits::default()
        })
        .services();
        let machine = Sender {
            left: 100,
            is_over: None,
        };
        let stop = Stop {
            token: CancellationToken::new(),
            reason: CloseReason::Cancelled,
        };
        let wire = Wire::of_request(FrameStream::empty(), sink);
        run(machine, wire, PublicKey::new([2; 32]), &services, &stop).await
    }

    /// A reader that takes its time for each frame, but less than the sender waits for a piece of one.
    #[tokio::test(start_paused = true)]
    async fn a_frame_is_waited_for_as_long_as_those_before_it_are_taken() {
        let (sink, reader) = pipe();
        let reading = async move {
            let taken = reader.progress().clone();
            for _ in 0..10 {
                let wait = timeout(SEND * 3 / 4, std::future::pending::<()>());
                assert!(wait.await.is_err());
                taken.note();
            }
            FrameStream::from(reader).count().await
        };
        let (sent, read) = futures::join!(send_all(sink), reading);
        assert_eq!((sent, read), (Ok(()), 100));
    }

    /// Whoever reads too late gets no more, rather than the rest with a gap.
    #[tokio::test]
    async fn no_frame_follows_one_that_was_not_sent_in_time() {
        let (sink, reader) = pipe();
        // Nobody reads before it is over.
        let sent = send_all(sink).await;
        assert_eq!(sent, Err(Failure::Closed(CloseReason::Cut)));
        let mut frames = FrameStream::from(reader);
        let mut count = 0;
        let whole = loop {
            match frames.next().await {
                Ok(Some(_)) => count += 1,
                Ok(None) => break true,
                Err(_) => break false,
            }
        };
        assert!(!whole && count < 100, "{count} frames arrived");
    }
}
