//! The driver: joins the engine, a replica, the sources and the clock, on a thread of its own.
//!
//! It decides nothing. Sockets are tasks of a runtime; what is checked, hashed and written is work of the
//! calling thread, and everything that a source sends waits in one queue that is no longer than what was asked.

use std::io;
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::time::{Duration, Instant};

use eidetica_authdb::{Operations, Replica};
use eidetica_mmr::{Frontier, Leaves};
use eidetica_statesync::{
    Config, ConfigError, Counters, Dropped, Engine, Evidence, Feedback, Gap, Input, Local, Output,
    Pin, Progress, Restart, SourceId, Target,
};
use tokio::sync::mpsc::{UnboundedSender, unbounded_channel};

use crate::endpoint::{DialError, Endpoint};
use crate::source::{Closed, Command, Event, Source};

/// Hears what happens during a sync, on the driver's thread.
pub trait Watcher {
    /// Keeps the pin, durably, in place of the one before.
    ///
    /// # Errors
    /// The disk's; the sync ends with it.
    fn persist(&mut self, pin: &Pin) -> io::Result<()>;

    /// A source has shown what cannot be true together: both sides of it are to be kept.
    ///
    /// # Errors
    /// The disk's; the sync ends with it.
    fn alarm(&mut self, source: Option<usize>, evidence: &Evidence) -> io::Result<()>;

    /// The sources have forgotten what is held. If the gap was crossed, what was held is to be kept.
    ///
    /// # Errors
    /// The disk's; the sync ends with it.
    fn gap(&mut self, source: Option<usize>, gap: &Gap) -> io::Result<()> {
        let _ = (source, gap);
        Ok(())
    }

    /// There is a new target to sync to.
    fn adopted(&mut self, target: &Target) {
        let _ = target;
    }

    /// Something was applied or asked.
    fn progress(&mut self, progress: &Progress, counters: &Counters) {
        let _ = (progress, counters);
    }

    /// A source answered.
    fn replied(&mut self, source: usize, bytes: usize, took: Duration) {
        let _ = (source, bytes, took);
    }

    /// A request of this many bytes was sent.
    fn asked(&mut self, source: usize, bytes: usize) {
        let _ = (source, bytes);
    }

    /// A source changed its standing.
    fn source(&mut self, source: usize, news: SourceNews<'_>) {
        let _ = (source, news);
    }
}

/// What becomes of a source.
#[derive(Debug)]
#[non_exhaustive]
pub enum SourceNews<'a> {
    /// A connection stands.
    Connected,
    /// It ended; another attempt follows.
    Disconnected(&'a Closed),
    /// There is none; the next attempt follows after this time.
    Unreachable(&'a DialError, Duration),
    /// The engine's opinion of a reply.
    Feedback(&'a Feedback),
}

/// How a sync ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// The replica is the database of this target.
    Complete(Target),
    /// It was stopped; the replica goes on from where it is.
    Stopped,
}

/// Why a sync cannot go on. Reads as a fragment after "cannot sync: ".
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum DriverError {
    /// The configuration.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// The replica could not be read or written.
    #[error(transparent)]
    Replica(#[from] eidetica_authdb::Error),
    /// The pin or evidence could not be written.
    #[error("cannot keep the pin or evidence: {0}")]
    Keep(#[source] io::Error),
    /// Every source was caught lying and is not asked again.
    #[error("no server is left to ask: each has shown something that cannot be true")]
    NoSources,
}

/// Ends a sync from elsewhere.
#[derive(Clone)]
pub struct Stopper(Sender<Event>);

impl Stopper {
    /// Ends it after what it is doing.
    pub fn stop(&self) {
        // One that has ended hears nothing.
        self.0.send(Event::Stop).ok();
    }
}

/// One sync of a replica with several sources.
pub struct Driver {
    engine: Engine,
    replica: Replica,
    /// No pin says that what the replica begins with is of this history.
    unpinned: bool,
    links: Vec<Link>,
    events: Receiver<Event>,
    begun: Instant,
}

struct Link {
    commands: Option<UnboundedSender<Command>>,
    connection: u64,
}

/// What the engine wants next.
enum Next {
    Wait(u64),
    Done(Target),
}

impl Driver {
    /// Begins with a pin that was kept before, if there is one. The sources are tasks of `runtime` until the
    /// driver is dropped.
    ///
    /// # Errors
    /// [`DriverError::Config`].
    pub fn new(
        config: Config,
        replica: Replica,
        pin: Option<Pin>,
        endpoints: Vec<Endpoint>,
        runtime: &tokio::runtime::Handle,
    ) -> Result<(Self, Stopper), DriverError> {
        let local = Local {
            boundary: replica.boundary(),
            frontier: replica.frontier().clone(),
        };
        let unpinned = pin.is_none() && local.frontier.leaves() > Leaves(0);
        let engine = Engine::new(config, local, pin)?;
        let (sender, events) = channel();
        let links = endpoints.into_iter().zip(0..).map(|(endpoint, number)| {
            let (commands, receiver) = unbounded_channel();
            let source = Source {
                id: SourceId(number),
                endpoint,
                commands: receiver,
                events: sender.clone(),
            };
            runtime.spawn(source.run());
            Link {
                commands: Some(commands),
                connection: 0,
            }
        });
        let driver = Self {
            engine,
            replica,
            unpinned,
            links: links.collect(),
            events,
            begun: Instant::now(),
        };
        Ok((driver, Stopper(sender)))
    }

    /// Syncs until a target is complete, and gives the replica back. Blocks: for a thread of its own.
    ///
    /// # Errors
    /// [`DriverError`]: this side failed, or nobody is left to ask. What was appended stays.
    pub fn run(mut self, watcher: &mut dyn Watcher) -> Result<(Outcome, Replica), DriverError> {
        loop {
            let at = match self.drain(watcher)? {
                Next::Done(target) => return Ok((Outcome::Complete(target), self.replica)),
                Next::Wait(at) => at,
            };
            watcher.progress(&self.engine.progress(), self.engine.counters());
            if self.links.iter().all(|link| link.commands.is_none()) {
                self.replica.sync()?;
                return Err(DriverError::NoSources);
            }
            let wait = Duration::from_millis(at.saturating_sub(self.now_ms()));
            match self.events.recv_timeout(wait) {
                Ok(Event::Stop) | Err(RecvTimeoutError::Disconnected) => {
                    self.replica.sync()?;
                    return Ok((Outcome::Stopped, self.replica));
                }
                Ok(event) => self.hear(event, watcher),
                Err(RecvTimeoutError::Timeout) => self.input(Input::Tick),
            }
        }
    }

    fn now_ms(&self) -> u64 {
        u64::try_from(self.begun.elapsed().as_millis()).unwrap_or(u64::MAX)
    }

    fn input(&mut self, input: Input) {
        let now = self.now_ms();
        self.engine.handle_input(input, now);
    }

    /// Does what the engine wants until it waits, or until a target is complete and its pin is kept.
    fn drain(&mut self, watcher: &mut dyn Watcher) -> Result<Next, DriverError> {
        let mut done = None;
        loop {
            let now = self.now_ms();
            match (self.engine.poll_output(now), done) {
                (Output::Persist(pin), _) => watcher.persist(&pin).map_err(DriverError::Keep)?,
                (Output::Alarm(evidence), _) => {
                    let source = evidence.source.map(index);
                    watcher
                        .alarm(source, &evidence)
                        .map_err(DriverError::Keep)?;
                }
                (Output::Gap(gap), _) => {
                    let source = gap.source.map(index);
                    watcher.gap(source, &gap).map_err(DriverError::Keep)?;
                }
                (Output::Feedback { source, feedback }, _) => {
                    self.judge(source, &feedback, watcher);
                }
                (_, Some(target)) => {
                    watcher.progress(&self.engine.progress(), self.engine.counters());
                    return Ok(Next::Done(target));
                }
                (Output::Timeout(at), None) => return Ok(Next::Wait(at)),
                (Output::Complete(target), None) => {
                    done = self.finish(&target)?.then_some(target);
                }
                (output, None) => self.carry_out(output, watcher)?,
            }
        }
    }

    fn carry_out(&mut self, output: Output, watcher: &mut dyn Watcher) -> Result<(), DriverError> {
        match output {
            Output::Request {
                source,
                id,
                message,
                ..
            } => {
                watcher.asked(index(source), message.len());
                if let Some(link) = link(&mut self.links, source) {
                    link.tell(|connection| Command::Send {
                        connection,
                        id,
                        message,
                    });
                }
            }
            Output::Restart { boundary, why } => {
                self.begin_anew(boundary, why)?;
                self.applied();
            }
            Output::Append { start, operations } => {
                let parsed = Operations::parse(operations.bytes, start, operations.count);
                match parsed.and_then(|operations| self.replica.apply(start, operations)) {
                    Ok(()) => self.applied(),
                    Err(error) => self.unfit(error)?,
                }
            }
            Output::Adopted(target) => watcher.adopted(&target),
            // The others are dealt with before.
            _ => {}
        }
        Ok(())
    }

    /// What is there ends before what is needed now, or is of another history. If nobody has ever said that it is of this one
    /// it may be somebody's only copy of something else, and is kept.
    fn begin_anew(&mut self, boundary: Frontier, why: Restart) -> Result<(), DriverError> {
        let from = boundary.leaves().0;
        let is_other = std::mem::take(&mut self.unpinned) || why == Restart::WrongPrefix;
        if why == Restart::Fresh || !is_other {
            tracing::debug!(?why, from, "the copy begins anew");
            return Ok(self.replica.reset(boundary)?);
        }
        if self.replica.set_aside(boundary)? {
            tracing::warn!(
                from,
                "what was here is no beginning of the servers' history: its files are set aside (aside.*), and the copy begins anew"
            );
        } else {
            tracing::warn!(
                from,
                "what was here is no beginning of the servers' history, and something was set aside before: the copy begins anew"
            );
        }
        Ok(())
    }

    /// Makes the replica the database of a target, if it is one.
    fn finish(&mut self, target: &Target) -> Result<bool, DriverError> {
        let (root, leaves, lower) = (target.root(), target.leaves(), target.lower());
        match self.replica.finish(root, leaves, lower) {
            Ok(()) => Ok(true),
            Err(error) => self.unfit(error).map(|()| false),
        }
    }

    fn applied(&mut self) {
        let frontier = self.replica.frontier().clone();
        self.input(Input::Applied(frontier));
    }

    /// Proven operations that make no database are the fault of whoever made the target; everything else is
    /// this side's.
    fn unfit(&mut self, error: eidetica_authdb::Error) -> Result<(), DriverError> {
        if error.blame() != eidetica_authdb::Blame::Peer {
            return Err(error.into());
        }
        tracing::warn!(%error, "the target is of no database; waiting for another one");
        self.input(Input::Unfit);
        Ok(())
    }

    /// Tells a source's task what the engine thinks of it.
    fn judge(&mut self, source: SourceId, feedback: &Feedback, watcher: &mut dyn Watcher) {
        watcher.source(index(source), SourceNews::Feedback(feedback));
        let Some(link) = link(&mut self.links, source) else {
            return;
        };
        match feedback {
            Feedback::Dropped(Dropped::Lies) => link.commands = None,
            Feedback::Dropped(_) => link.tell(|connection| Command::Reconnect { connection }),
            _ => {}
        }
    }

    fn hear(&mut self, event: Event, watcher: &mut dyn Watcher) {
        match event {
            Event::Up { source, connection } => {
                let link = link(&mut self.links, source);
                // One that was dropped for good may have dialled before it knew.
                let Some(link) = link.filter(|link| link.commands.is_some()) else {
                    return;
                };
                link.connection = connection;
                watcher.source(index(source), SourceNews::Connected);
                self.input(Input::Connected(source));
            }
            Event::Down { source, reason } => {
                watcher.source(index(source), SourceNews::Disconnected(&reason));
                self.input(Input::Disconnected(source));
            }
            Event::Unreachable {
                source,
                error,
                retry,
            } => {
                watcher.source(index(source), SourceNews::Unreachable(&error, retry));
            }
            Event::Reply {
                source,
                message,
                took,
            } => {
                watcher.replied(index(source), message.len(), took);
                self.input(Input::Reply { source, message });
            }
            Event::Failed { source, id } => self.input(Input::Failed { source, id }),
            Event::Stop => {}
        }
    }
}

impl Link {
    fn tell(&self, command: impl FnOnce(u64) -> Command) {
        if let Some(commands) = &self.commands {
            // A task that has ended says so by an event of its own.
            commands.send(command(self.connection)).ok();
        }
    }
}

fn link(links: &mut [Link], source: SourceId) -> Option<&mut Link> {
    links.get_mut(index(source))
}

fn index(source: SourceId) -> usize {
    usize::try_from(source.0).unwrap_or(usize::MAX)
}
