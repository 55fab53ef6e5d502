//! A task for each source: dials it, carries requests and replies, dials again after a while.

use std::collections::VecDeque;
use std::sync::mpsc::Sender;
use std::time::{Duration, Instant};

use bytes::Bytes;
use eidetica_statesync::{RequestId, SourceId};
use eidetica_transport::{Channel, TransportError};
use futures::stream::{FuturesUnordered, StreamExt as _};
use tokio::sync::mpsc::UnboundedReceiver;

use crate::endpoint::{DialError, Endpoint, Wire};
use crate::framed::{Framed, send_all};
use crate::{identity, limits};

/// What the driver tells a source. Dropping the sender ends it.
pub(crate) enum Command {
    /// A request, on the connection with this number alone.
    Send {
        connection: u64,
        id: RequestId,
        message: Vec<u8>,
    },
    /// The connection is of no use: another one, after a while.
    Reconnect { connection: u64 },
}

/// What happens, as the driver's thread hears it.
pub(crate) enum Event {
    /// A connection stands. Its number goes with every request.
    Up { source: SourceId, connection: u64 },
    /// It is gone.
    Down { source: SourceId, reason: Closed },
    /// There was none; the next attempt is after this time.
    Unreachable {
        source: SourceId,
        error: DialError,
        retry: Duration,
    },
    /// A whole reply.
    Reply {
        source: SourceId,
        message: Vec<u8>,
        took: Duration,
    },
    /// This request gets none.
    Failed { source: SourceId, id: RequestId },
    /// The caller wants an end.
    Stop,
}

/// Why a connection ended.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Closed {
    /// The other side closed it between two messages.
    #[error("it closed the connection")]
    Ended,
    /// It answers what nobody has asked.
    #[error("it sent a message that nobody asked for")]
    Unasked,
    /// It sent something else than messages.
    #[error("it does not speak this protocol: {0}")]
    Foreign(std::io::Error),
    /// The system's error.
    #[error(transparent)]
    Io(std::io::Error),
    /// The transport's.
    #[error(transparent)]
    Transport(TransportError),
    /// This side had no use for it any more.
    #[error("it was of no use")]
    Useless,
}

/// A source's own state.
pub(crate) struct Source {
    pub(crate) id: SourceId,
    pub(crate) endpoint: Endpoint,
    pub(crate) commands: UnboundedReceiver<Command>,
    pub(crate) events: Sender<Event>,
}

/// The driver is gone: nothing is left to do.
struct Gone;

impl Source {
    /// Runs until the driver is gone.
    pub(crate) async fn run(mut self) {
        let mut failures = 0;
        let mut connection = 0;
        loop {
            let dialled = self.endpoint.dial().await;
            let retry = match dialled {
                Ok(wire) => {
                    connection += 1;
                    if self.carry(wire, connection, &mut failures).await.is_err() {
                        return;
                    }
                    backoff(failures)
                }
                Err(error) => {
                    let (source, retry) = (self.id, backoff(failures));
                    self.tell(Event::Unreachable {
                        source,
                        error,
                        retry,
                    });
                    retry
                }
            };
            failures += 1;
            if self.pause(retry).await.is_err() {
                return;
            }
        }
    }

    /// One connection from its beginning to its end.
    async fn carry(&mut self, wire: Wire, connection: u64, failures: &mut u32) -> Result<(), Gone> {
        let source = self.id;
        self.tell(Event::Up { source, connection });
        let reason = match wire {
            Wire::Tcp(frames) => self.carry_frames(frames, connection, failures).await?,
            Wire::Channel(channel) => self.carry_calls(&*channel, connection, failures).await?,
        };
        self.tell(Event::Down { source, reason });
        Ok(())
    }

    /// Requests go out as they come. Replies are not told apart here; there are never more than requests,
    /// which bounds what waits for the driver.
    async fn carry_frames(
        &mut self,
        mut frames: Framed,
        connection: u64,
        failures: &mut u32,
    ) -> Result<Closed, Gone> {
        let mut asked: VecDeque<Instant> = VecDeque::new();
        loop {
            tokio::select! {
                command = self.commands.recv() => {
                    let mut batch = Vec::new();
                    let mut next = Some(command.ok_or(Gone)?);
                    while let Some(command) = next {
                        match command {
                            Command::Send { connection: of, message, .. } if of == connection => {
                                batch.push(message);
                                asked.push_back(Instant::now());
                            }
                            Command::Reconnect { connection: of } if of == connection => return Ok(Closed::Useless),
                            _ => {}
                        }
                        next = self.commands.try_recv().ok();
                    }
                    if let Err(error) = send_all(&mut frames, batch).await {
                        return Ok(Closed::Io(error));
                    }
                }
                reply = frames.next() => {
                    let message = match reply {
                        None => return Ok(Closed::Ended),
                        Some(Err(error)) if error.kind() == std::io::ErrorKind::InvalidData => return Ok(Closed::Foreign(error)),
                        Some(Err(error)) => return Ok(Closed::Io(error)),
                        Some(Ok(message)) => message,
                    };
                    let Some(since) = asked.pop_front() else { return Ok(Closed::Unasked) };
                    *failures = 0;
                    self.tell(Event::Reply { source: self.id, message: message.into(), took: since.elapsed() });
                }
            }
        }
    }

    /// Each request is a call of its own.
    async fn carry_calls(
        &mut self,
        channel: &dyn Channel,
        connection: u64,
        failures: &mut u32,
    ) -> Result<Closed, Gone> {
        let mut calls = FuturesUnordered::new();
        loop {
            tokio::select! {
                command = self.commands.recv() => match command.ok_or(Gone)? {
                    Command::Send { connection: of, id, message } if of == connection => {
                        calls.push(call(channel, id, message));
                    }
                    Command::Reconnect { connection: of } if of == connection => return Ok(Closed::Useless),
                    _ => {}
                },
                Some((id, took, answered)) = calls.next() => match answered {
                    Ok(message) => {
                        *failures = 0;
                        self.tell(Event::Reply { source: self.id, message: message.into(), took });
                    }
                    Err(TransportError::Busy) => self.tell(Event::Failed { source: self.id, id }),
                    Err(error) => return Ok(Closed::Transport(error)),
                },
            }
        }
    }

    /// Waits. Requests of connections that are gone are dropped meanwhile.
    async fn pause(&mut self, wait: Duration) -> Result<(), Gone> {
        let end = tokio::time::sleep(wait);
        tokio::pin!(end);
        loop {
            tokio::select! {
                () = &mut end => return Ok(()),
                command = self.commands.recv() => drop(command.ok_or(Gone)?),
            }
        }
    }

    fn tell(&self, event: Event) {
        // A driver that is gone drops the commands as well, which ends this task.
        self.events.send(event).ok();
    }
}

async fn call(
    channel: &dyn Channel,
    id: RequestId,
    message: Vec<u8>,
) -> (RequestId, Duration, Result<Bytes, TransportError>) {
    let since = Instant::now();
    let answered = identity::ask(channel, message.into()).await;
    (id, since.elapsed(), answered)
}

/// Doubles up to [`limits::BACKOFF_MOST`], give or take a quarter, so that clients do not come back all at once.
fn backoff(failures: u32) -> Duration {
    let doubled = limits::BACKOFF.saturating_mul(1 << failures.min(16));
    doubled
        .min(limits::BACKOFF_MOST)
        .mul_f64(rand::random_range(0.75..1.25))
}
