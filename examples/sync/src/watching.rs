//! What a client tells about one sync while it runs: log, metrics, bar, and the files that outlive it.

use std::collections::BTreeSet;
use std::fmt;
use std::io;
use std::path::PathBuf;
use std::time::Duration;

use eidetica_statesync::{
    Conflict, Counters, Dropped, Evidence, Feedback, Gap, Pin, Progress, Refusal, Target,
};
use eidetica_statesync_net::{Closed, SourceNews, Watcher};
use indicatif::ProgressBar;
use tracing::{debug, error, info, warn};

use crate::metrics::ClientMetrics;
use crate::options::Interval;
use crate::output;
use crate::storage::Memory;

/// What stands in the log lines of every sync.
#[derive(Debug, Clone)]
pub struct Names {
    /// By the number of the source.
    pub servers: Vec<String>,
    /// Operations in a request.
    pub batch_size: u32,
    /// How often a newer target is asked for.
    pub target_update_interval: Interval,
}

/// One sync.
pub struct Watching {
    iteration: u64,
    names: Names,
    metrics: ClientMetrics,
    bar: ProgressBar,
    memory: Memory,
    seen: Counters,
    adopted: bool,
    /// Where it began, once there is a target.
    from: Option<u64>,
    /// By the number of the source.
    connected: BTreeSet<usize>,
    warned: bool,
}

/// A target as it is logged.
struct SyncTarget<'a>(&'a Target);

impl fmt::Debug for SyncTarget<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SyncTarget")
            .field("root", &format_args!("{}", self.0.root()))
            .field("lower_bound_ops", &self.0.lower().0)
            .field("upper_bound_ops", &self.0.last().0)
            .finish()
    }
}

impl Watching {
    /// A sync that begins.
    #[must_use]
    pub fn new(
        iteration: u64,
        names: Names,
        metrics: ClientMetrics,
        bar: ProgressBar,
        memory: Memory,
    ) -> Self {
        Self {
            iteration,
            names,
            metrics,
            bar,
            memory,
            seen: Counters::default(),
            adopted: false,
            from: None,
            connected: BTreeSet::new(),
            warned: false,
        }
    }

    fn server(&self, source: usize) -> &str {
        self.names.servers.get(source).map_or("?", String::as_str)
    }

    /// A server of which it is known whether it is connected.
    fn connection(&mut self, source: usize, stands: bool) {
        match stands {
            true => self.connected.insert(source),
            false => self.connected.remove(&source),
        };
        self.metrics.servers.set(self.connected.len() as i64);
    }

    /// A server that has less than this copy is not followed, and that is worth a word.
    fn warn_if_behind(&mut self, counters: &Counters) {
        if !self.adopted && !self.warned && counters.ignored > 0 {
            self.warned = true;
            warn!(
                sync_iteration = self.iteration,
                "the servers have an older state than this copy: waiting for a newer one"
            );
        }
    }

    /// What was counted since the last time.
    fn count(&mut self, counters: &Counters) {
        let (seen, metrics) = (&self.seen, &self.metrics);
        let fetched = counters.fetched_operations - seen.fetched_operations;
        let verified = counters.verified_operations - seen.verified_operations;
        metrics.operations_fetched.inc_by(fetched);
        metrics.operations_verified.inc_by(verified);
        self.seen = *counters;
    }

    fn show_progress(&mut self, target: &Target, progress: &Progress) {
        let (applied, end) = (progress.applied.0, target.leaves().0);
        let at = applied.clamp(target.lower().0, end);
        let from = *self.from.get_or_insert(at);
        if self.bar.length() != Some(end) {
            output::show(&self.bar, at, end);
        }
        self.bar.set_position(at);
        let (done, whole) = (at.saturating_sub(from), end.saturating_sub(from));
        let part = match progress.complete {
            false if whole > 0 => done as f64 / whole as f64,
            _ => 1.0,
        };
        self.metrics.iteration_progress.set(part);
        self.metrics.target_operations.set(end.cast_signed());
        self.metrics.database_operations.set(applied.cast_signed());
    }

    fn feedback(&mut self, source: usize, feedback: &Feedback) {
        let server = self.server(source).to_owned();
        match feedback {
            Feedback::Fault(fault) => {
                self.metrics.error("fault");
                warn!(%server, %fault, "a server sent something wrong");
            }
            Feedback::Late => {
                self.metrics.error("late");
                warn!(%server, "a server did not answer in time");
            }
            Feedback::Refused(refusal @ (Refusal::OtherDatabase | Refusal::NoTarget)) => {
                self.metrics.error("refused");
                warn!(%server, %refusal, "a server refuses; --db has to be the same on both sides");
            }
            Feedback::Refused(refusal) => {
                self.metrics.error("refused");
                debug!(%server, %refusal, "a server refuses");
            }
            Feedback::Dropped(Dropped::Lies) => {
                self.connection(source, false);
                warn!(%server, "a server is not asked any more in this sync");
            }
            feedback => debug!(%server, ?feedback, "a server is found wanting"),
        }
    }
}

impl Watcher for Watching {
    fn persist(&mut self, pin: &Pin) -> io::Result<()> {
        self.memory.keep_pin(pin)
    }

    fn alarm(&mut self, source: Option<usize>, evidence: &Evidence) -> io::Result<()> {
        let server = source.map_or("?", |source| self.server(source)).to_owned();
        let kept = place(self.memory.keep_alarm(evidence, &server)?);
        self.metrics.alarms.inc();
        let (conflict, [held, shown]) = (evidence.kind, [&evidence.held, &evidence.shown]);
        let (held, shown) = (SyncTarget(&held.target), SyncTarget(&shown.target));
        match conflict {
            Conflict::Unshown => error!(
                %server, ?conflict, ?held, ?shown, evidence = %kept,
                "ALARM: no server shows that a newer history continues the one held"
            ),
            _ => error!(
                %server, ?conflict, ?held, ?shown, evidence = %kept,
                "ALARM: a server shows a history that cannot be true together with the one held"
            ),
        }
        Ok(())
    }

    fn gap(&mut self, source: Option<usize>, gap: &Gap) -> io::Result<()> {
        let server = source.map_or("?", |source| self.server(source)).to_owned();
        let held = SyncTarget(&gap.held.target);
        if !gap.crossed {
            self.metrics.error("gap");
            warn!(
                %server, ?held,
                "this copy is older than what the servers keep, so none can show that their history continues it: \
                 it stays as it is, --start-over begins anew"
            );
            return Ok(());
        }
        let kept = place(self.memory.keep_gap(gap, &server)?);
        warn!(%server, ?held, evidence = %kept, "this copy is older than what the servers keep: starting over");
        Ok(())
    }

    fn adopted(&mut self, target: &Target) {
        let target = SyncTarget(target);
        if std::mem::replace(&mut self.adopted, true) {
            return info!(
                sync_iteration = self.iteration,
                ?target,
                "sync target updated"
            );
        }
        info!(
            sync_iteration = self.iteration,
            ?target,
            server = %self.names.servers.join(","),
            batch_size = self.names.batch_size,
            target_update_interval = %self.names.target_update_interval,
            "starting sync"
        );
    }

    fn progress(&mut self, progress: &Progress, counters: &Counters) {
        self.warn_if_behind(counters);
        self.count(counters);
        if let Some(target) = &progress.target {
            self.show_progress(target, progress);
        }
    }

    fn asked(&mut self, _: usize, bytes: usize) {
        self.metrics.requests.inc();
        self.metrics.sent.inc_by(bytes as u64);
    }

    fn replied(&mut self, _: usize, bytes: usize, took: Duration) {
        self.metrics.received.inc_by(bytes as u64);
        self.metrics.request_duration.observe(took.as_secs_f64());
    }

    fn source(&mut self, source: usize, news: SourceNews<'_>) {
        match news {
            SourceNews::Connected => {
                self.connection(source, true);
                debug!(server = %self.server(source), "connected");
            }
            SourceNews::Disconnected(reason) => {
                self.connection(source, false);
                if !matches!(reason, Closed::Ended) {
                    self.metrics.error("disconnected");
                }
                warn!(server = %self.server(source), %reason, "the connection to a server is gone: connecting again");
            }
            SourceNews::Unreachable(reason, retry) => {
                self.metrics.error("unreachable");
                let retry_in = output::rounded(retry);
                warn!(server = %self.server(source), %reason, ?retry_in, "cannot reach a server");
            }
            SourceNews::Feedback(feedback) => self.feedback(source, feedback),
            _ => {}
        }
    }
}

/// Where evidence is, as it is logged.
fn place(kept: Option<PathBuf>) -> String {
    kept.map_or("enough is kept".to_owned(), |path| {
        path.display().to_string()
    })
}

impl Drop for Watching {
    /// The connections end with the sync.
    fn drop(&mut self) {
        self.metrics.servers.set(0);
    }
}
