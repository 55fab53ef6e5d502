//! Packs on their way into the database.

use std::collections::VecDeque;

use bytes::Bytes;
use eidetica_entry::Id;

use crate::{Failure, IngestBatch, IngestError, IngestId, IngestReport, PeerFault, limits};

/// What became of all packs of one session.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct IngestTotals {
    /// Packs ingested.
    pub packs: u64,
    /// Their bytes.
    pub bytes: u64,
    /// Entries that were new and sound.
    pub new: u64,
    /// Entries that were here already.
    pub known: u64,
    /// Payloads that these lacked, which are here now.
    pub filled: u64,
    /// Entries that wait for others.
    pub pending: u64,
    /// Entries that cannot be right.
    pub rejected: u64,
    /// The first of those, at most [`limits::REJECTED_NAMED`].
    pub rejected_ids: Vec<Id>,
}

/// A bounded queue in front of ingest: while a batch is being ingested, further packs gather into the next one, which
/// may follow before the first is done if it is large enough. So order is kept, and the slower the ingest, the larger
/// its batches.
#[derive(Debug)]
pub(crate) struct Intake {
    database: Id,
    pub(crate) create: bool,
    waiting: VecDeque<Bytes>,
    waiting_bytes: usize,
    /// Batches that are being ingested, in their order, with their numbers of packs.
    running: VecDeque<(IngestId, usize)>,
    next: u64,
    useless: u64,
    pub(crate) totals: IngestTotals,
}

impl Intake {
    pub(crate) fn new(database: Id) -> Self {
        Self {
            database,
            create: false,
            waiting: VecDeque::new(),
            waiting_bytes: 0,
            running: VecDeque::new(),
            next: 0,
            useless: 0,
            totals: IngestTotals::default(),
        }
    }

    pub(crate) fn has_room(&self) -> bool {
        self.waiting.len() < limits::PACKS_WAITING
            && self.waiting_bytes < limits::PACK_BYTES_WAITING
    }

    pub(crate) fn is_idle(&self) -> bool {
        self.waiting.is_empty() && self.running.is_empty()
    }

    pub(crate) fn push(&mut self, pack: Bytes) {
        self.waiting_bytes += pack.len();
        self.waiting.push_back(pack);
    }

    fn may_run(&self) -> bool {
        match self.running.len() {
            0 => !self.waiting.is_empty(),
            running => {
                running < limits::BATCHES_INGESTED
                    && (self.waiting.len() >= limits::PACKS_AHEAD
                        || self.waiting_bytes >= limits::PACK_BYTES_AHEAD)
            }
        }
    }

    /// The next batch, when it is time.
    pub(crate) fn poll(&mut self) -> Option<(IngestId, IngestBatch)> {
        if !self.may_run() {
            return None;
        }
        let id = IngestId(self.next);
        self.next += 1;
        let packs: Vec<Bytes> = self.waiting.drain(..).collect();
        self.waiting_bytes = 0;
        self.running.push_back((id, packs.len()));
        self.totals.bytes += packs.iter().map(|pack| pack.len() as u64).sum::<u64>();
        Some((
            id,
            IngestBatch {
                database: self.database,
                packs,
                create: self.create,
            },
        ))
    }

    /// Takes what became of the first batch that runs. After an error what waits is dropped.
    pub(crate) fn done(
        &mut self,
        id: IngestId,
        result: Result<IngestReport, IngestError>,
    ) -> Result<(), Failure> {
        let first = self.running.pop_front();
        let Some((_, packs)) = first.filter(|(running, _)| *running == id) else {
            return Err(Failure::Driver("reports an ingest that is not the next"));
        };
        let counted = result
            .map_err(failure)
            .and_then(|report| self.count(packs as u64, report));
        if counted.is_err() {
            self.waiting.clear();
            self.waiting_bytes = 0;
        }
        counted
    }

    fn count(&mut self, packs: u64, report: IngestReport) -> Result<(), Failure> {
        let totals = &mut self.totals;
        totals.packs += packs;
        totals.new += report.new;
        totals.known += report.known;
        totals.filled += report.filled;
        totals.pending += report.pending;
        totals.rejected += report.rejected.len() as u64;
        let room = limits::REJECTED_NAMED.saturating_sub(totals.rejected_ids.len());
        totals
            .rejected_ids
            .extend(report.rejected.iter().take(room));
        self.useless = if report.new > 0 || report.filled > 0 {
            0
        } else {
            self.useless + packs
        };
        match () {
            () if totals.rejected > limits::REJECTED => {
                Err(PeerFault::TooManyRejected(totals.rejected).into())
            }
            () if self.useless > limits::USELESS_PACKS => {
                Err(PeerFault::Useless(self.useless).into())
            }
            () => Ok(()),
        }
    }
}

pub(crate) fn failure(error: IngestError) -> Failure {
    match error {
        IngestError::Malformed(text) => PeerFault::BadPack(text).into(),
        IngestError::Unavailable(text) => Failure::Local(text),
    }
}
