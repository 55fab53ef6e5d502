//! Calls of the backend: on a bounded number of blocking threads, ingests one at a time per database.

use std::{collections::HashMap, sync::Arc};

use bytes::Bytes;

use eidetica_auth::SignedRequest;
use eidetica_engine::{Facts, GrantOutcome, LeaseChange, Record};
use eidetica_entry::pack::PackInfo;
use eidetica_entry::{Id, PublicKey};
use eidetica_protocol::{
    Answer, IngestBatch, IngestError, IngestReport, ProvenKeys, Query, Standing, TipList,
    Unavailable,
};
use parking_lot::Mutex;
use tokio::sync::{Mutex as Queue, Semaphore, SemaphorePermit};

use crate::{Backend, backend::Followed, clock::now_ms, limits};

/// The backend, as tasks call it.
pub(crate) struct Pool {
    backend: Arc<dyn Backend>,
    queries: Semaphore,
    ingests: Semaphore,
    decoded: DecodeBudget,
    /// One queue per database that is being ingested into.
    queues: Mutex<HashMap<Id, Arc<Queue<()>>>>,
}

impl Pool {
    pub(crate) fn new(backend: Arc<dyn Backend>) -> Self {
        Self {
            backend,
            queries: Semaphore::new(limits::QUERIES),
            ingests: Semaphore::new(limits::INGESTS),
            decoded: DecodeBudget::new(limits::DECODED_BYTES),
            queues: Mutex::default(),
        }
    }

    /// Answers a question of a session that needs only the databases.
    pub(crate) async fn query(&self, query: Query) -> Result<Answer, Unavailable> {
        self.call(move |backend| answer(backend, query, now_ms()))
            .await
    }

    /// What is known about the key of a bootstrap request.
    pub(crate) async fn facts(&self, database: Id, key: PublicKey) -> Result<Facts, Unavailable> {
        self.call(move |backend| backend.facts(&database, &key))
            .await
    }

    /// Commits a grant.
    pub(crate) async fn grant(
        &self,
        request: Box<SignedRequest>,
        by: PublicKey,
    ) -> Result<GrantOutcome, String> {
        let granted = self
            .call(move |backend| Ok(backend.grant(&request, &by, now_ms())))
            .await;
        granted.unwrap_or_else(|error| Err(error.to_string()))
    }

    /// Commits a grant by an invite.
    pub(crate) async fn redeem(
        &self,
        request: Box<SignedRequest>,
        by: PublicKey,
    ) -> Result<GrantOutcome, String> {
        let granted = self
            .call(move |backend| Ok(backend.redeem(&request, &by, now_ms())))
            .await;
        granted.unwrap_or_else(|error| Err(error.to_string()))
    }

    /// Writes records; not behind anybody's queries.
    pub(crate) async fn persist(&self, records: Vec<Record>) -> Result<Vec<Record>, Unavailable> {
        let backend = Arc::clone(&self.backend);
        run(move || backend.persist(&records))
            .await
            .and_then(|result| result)
    }

    /// What other processes have written.
    pub(crate) async fn follow(&self) -> Result<Followed, Unavailable> {
        let backend = Arc::clone(&self.backend);
        run(move || backend.follow())
            .await
            .and_then(|result| result)
    }

    /// Writes leases and reads them; not behind anybody's queries.
    pub(crate) async fn lease(
        &self,
        changes: Vec<LeaseChange>,
    ) -> Result<Vec<(String, Bytes)>, Unavailable> {
        let backend = Arc::clone(&self.backend);
        run(move || backend.lease(&changes))
            .await
            .and_then(|result| result)
    }

    /// Ingests after whatever came before for the same database.
    pub(crate) async fn ingest(
        &self,
        batch: IngestBatch,
        from: PublicKey,
    ) -> Result<IngestReport, IngestError> {
        let database = batch.database;
        let queue = Arc::clone(self.queues.lock().entry(database).or_default());
        let turn = queue.lock().await;
        let ingested = {
            let _permit = self.ingests.acquire().await;
            self.ingest_in_parts(batch, from).await
        };
        drop(turn);
        drop(queue);
        let mut queues = self.queues.lock();
        if queues
            .get(&database)
            .is_some_and(|queue| Arc::strong_count(queue) == 1)
        {
            queues.remove(&database);
        }
        drop(queues);
        ingested
    }

    /// Takes in as many packs at a time as may be decoded at once.
    async fn ingest_in_parts(
        &self,
        mut batch: IngestBatch,
        from: PublicKey,
    ) -> Result<IngestReport, IngestError> {
        let mut total = IngestReport::default();
        while !batch.packs.is_empty() {
            let count = part(&batch.packs, limits::DECODED_BYTES_AT_ONCE);
            let rest = batch.packs.split_off(count);
            let packs = std::mem::replace(&mut batch.packs, rest);
            let part = IngestBatch { packs, ..batch };
            let _decoded = self.decoded.take(&part.packs).await;
            let backend = Arc::clone(&self.backend);
            let report = run(move || backend.ingest(&part, &from))
                .await
                .unwrap_or_else(|error| Err(IngestError::Unavailable(error.to_string())))?;
            total.new += report.new;
            total.known += report.known;
            total.filled += report.filled;
            total.pending += report.pending;
            total.rejected.extend(report.rejected);
        }
        Ok(total)
    }

    async fn call<T: Send + 'static>(
        &self,
        call: impl FnOnce(&dyn Backend) -> Result<T, Unavailable> + Send + 'static,
    ) -> Result<T, Unavailable> {
        let _permit = self.queries.acquire().await;
        let backend = Arc::clone(&self.backend);
        run(move || call(&*backend)).await.and_then(|result| result)
    }
}

/// The memory for decoded packs that all peers share, by what the packs claim.
struct DecodeBudget {
    kib: Semaphore,
    most: u32,
}

impl DecodeBudget {
    fn new(bytes: usize) -> Self {
        let most = u32::try_from(bytes >> 10).unwrap_or(u32::MAX);
        Self {
            kib: Semaphore::new(most as usize),
            most,
        }
    }

    /// Waits until these packs may be decoded. What claims more than there is gets all of it.
    async fn take(&self, packs: &[Bytes]) -> Option<SemaphorePermit<'_>> {
        let claimed: usize = packs.iter().map(claimed).sum();
        let kib = u32::try_from(claimed.div_ceil(1 << 10)).unwrap_or(u32::MAX);
        // It is never closed.
        self.kib.acquire_many(kib.min(self.most)).await.ok()
    }
}

/// How many of the first packs claim no more than `most` bytes, at least one.
fn part(packs: &[Bytes], most: usize) -> usize {
    let mut sum = 0;
    let fits = packs.iter().take_while(|pack| {
        sum += claimed(pack);
        sum <= most
    });
    fits.count().max(1)
}

/// Bytes that a pack is going to take, by its prefix; decoding refuses at once what claims more than any
/// pack may.
fn claimed(pack: &Bytes) -> usize {
    let most = eidetica_entry::limits::PACK_RAW_BYTES;
    let raw = PackInfo::read(pack).map_or(0, |info| info.raw_bytes.min(most as u64) as usize);
    raw + pack.len()
}

/// Runs on a blocking thread. A panic there is a failure of this one call.
async fn run<T: Send + 'static>(
    call: impl FnOnce() -> T + Send + 'static,
) -> Result<T, Unavailable> {
    tokio::task::spawn_blocking(call)
        .await
        .map_err(|error| Unavailable(format!("a call failed: {error}")))
}

/// Answers a question of a session that needs only the databases. May block.
///
/// # Errors
/// The backend's; a question for the engine.
pub fn answer(backend: &dyn Backend, query: Query, now_ms: u64) -> Result<Answer, Unavailable> {
    Ok(match query {
        Query::CanRead { database, keys } => Answer::Access(backend.can_read(&database, &keys)?),
        Query::Tips { database } => Answer::Tips(backend.tips(&database)?),
        Query::Known { database, ids } => Answer::Known(backend.known(&database, &ids)?),
        Query::Describe {
            database,
            since,
            spans,
        } => Answer::Sketch(backend.describe(&database, &since, &spans)?),
        Query::Contrast {
            database,
            common,
            theirs,
            limit,
        } => Answer::Contrast(backend.contrast(&database, &common, &theirs, limit)?),
        Query::Selected {
            database,
            ids,
            closures,
            stores,
            cursor,
            budget_bytes,
        } => Answer::Packs(backend.selected(
            &database,
            &ids,
            &closures,
            &stores,
            cursor.as_ref(),
            budget_bytes,
        )?),
        Query::Difference {
            database,
            not,
            closures,
            stores,
            cursor,
            budget_bytes,
        } => Answer::Packs(backend.difference(
            &database,
            &not,
            &closures,
            &stores,
            cursor.as_ref(),
            budget_bytes,
        )?),
        Query::Void { database } => Answer::Void(backend.void(&database)?),
        Query::VoidPacks {
            database,
            of,
            not,
            stores,
            budget_bytes,
        } => Answer::Packs(backend.void_packs(&database, &of, &not, &stores, budget_bytes)?),
        Query::Holds { database } => Answer::Holds(backend.holds(&database)?),
        Query::Lacking {
            database,
            stores,
            from,
            limit,
        } => Answer::Lacking(backend.lacking(&database, &stores, from, limit)?),
        Query::Payloads {
            database,
            ids,
            stores,
            cursor,
            budget_bytes,
        } => Answer::Packs(backend.payloads(
            &database,
            &ids,
            &stores,
            cursor.as_ref(),
            budget_bytes,
        )?),
        Query::Digests { databases, peer } => Answer::Digests(
            databases
                .iter()
                .map(|database| standing(backend, database, peer.as_ref(), now_ms))
                .collect::<Result<_, _>>()?,
        ),
        Query::Discover { keys } => Answer::Databases(backend.discover(&keys)?),
        // These are the engine's to answer, with the facts of the databases: `session::Services`.
        Query::Bootstrap { .. }
        | Query::Redeem { .. }
        | Query::Status { .. }
        | Query::Cancel { .. } => {
            return Err(Unavailable("a question for the engine".to_owned()));
        }
    })
}

/// How a database stands, as far as the peer may know.
fn standing(
    backend: &dyn Backend,
    database: &Id,
    peer: Option<&ProvenKeys>,
    now_ms: u64,
) -> Result<Standing, Unavailable> {
    if let Some(peer) = peer
        && !backend.can_read(database, &peer.keys_for(database, now_ms))?
    {
        return Ok(Standing::default());
    }
    let frontier = backend.tips(database)?;
    Ok(
        frontier.map_or_else(Standing::default, |frontier| Standing {
            lacks: frontier.lacks,
            digest: TipList::new(frontier.tips).digest(),
        }),
    )
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use super::*;

    /// The prefix of a pack that claims so many bytes.
    fn bomb(raw_bytes: u32) -> Bytes {
        let mut prefix = eidetica_entry::pack::encode(&[entry()]).unwrap().to_vec();
        let payloads_raw = eidetica_entry::pack::PREFIX_BYTES - 8;
        let metadata = PackInfo::read(&prefix).unwrap().raw_bytes as u32;
        let old = u32::from_le_bytes(prefix[payloads_raw..][..4].try_into().unwrap());
        let new = raw_bytes - (metadata - old);
        prefix[payloads_raw..][..4].copy_from_slice(&new.to_le_bytes());
        let bomb = Bytes::from(prefix);
        assert_eq!(
            PackInfo::read(&bomb).unwrap().raw_bytes,
            u64::from(raw_bytes)
        );
        bomb
    }

    fn entry() -> eidetica_entry::Entry {
        let payload = (
            eidetica_entry::StoreName::settings(),
            Bytes::from_static(b"p"),
        );
        let author = PublicKey::new([1; 32]);
        let draft = eidetica_entry::Draft::root([1; 32], [payload].into(), author, None).unwrap();
        draft.sign(eidetica_entry::Signature::new([2; 64]))
    }

    #[test]
    fn a_request_is_cut_by_what_its_packs_claim() {
        let mib = |n: u32| bomb(n << 20);
        let packs = [mib(10), mib(10), mib(10), mib(4_000), mib(1)];
        assert_eq!(part(&packs, 32 << 20), 3);
        assert_eq!(part(&packs[1..], 32 << 20), 2);
        // More than any pack may have counts as that, and goes alone.
        assert_eq!(part(&packs[3..], 32 << 20), 1);
        assert_eq!(claimed(&packs[3]), (32 << 20) + packs[3].len());
        assert_eq!(part(&[Bytes::from_static(b"no pack")], 1), 1);
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn peers_share_the_memory_for_decoding() {
        let budget = Arc::new(DecodeBudget::new(64 << 20));
        let (now, most, served) = <(AtomicUsize, AtomicUsize, AtomicUsize)>::default();
        let counters = Arc::new((now, most, served));
        let peers = (0..40_u32).map(|peer| {
            let (budget, counters) = (Arc::clone(&budget), Arc::clone(&counters));
            tokio::spawn(async move {
                let (now, most, served) = &*counters;
                let packs = [bomb((1 + peer % 4 * 10) << 20)];
                let bytes: usize = packs.iter().map(claimed).sum();
                let permit = budget.take(&packs).await;
                assert!(permit.is_some());
                let sum = now.fetch_add(bytes, Ordering::SeqCst) + bytes;
                most.fetch_max(sum, Ordering::SeqCst);
                tokio::task::yield_now().await;
                now.fetch_sub(bytes, Ordering::SeqCst);
                served.fetch_add(1, Ordering::SeqCst);
            })
        });
        for peer in peers.collect::<Vec<_>>() {
            peer.await.unwrap();
        }
        let (_, most, served) = &*counters;
        assert_eq!(served.load(Ordering::SeqCst), 40);
        let most = most.load(Ordering::SeqCst);
        assert!(most <= 64 << 20 && most > 32 << 20, "{most}");
    }
}
