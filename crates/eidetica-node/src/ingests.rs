//! Ingests: in order for each database, a few at once, within the memory for what packs are decoded to.

use std::{collections::HashMap, sync::Arc};

use bytes::Bytes;
use eidetica_entry::{Id, pack::PackInfo};
use eidetica_protocol::{IngestBatch, IngestError, IngestReport};
use parking_lot::Mutex;
use tokio::sync::{Mutex as Queue, OwnedSemaphorePermit, Semaphore};

use crate::{backend::Turn, limits, pool::failed};

/// What runs and what waits.
pub(crate) struct Ingests {
    places: Arc<Semaphore>,
    decoded: DecodeBudget,
    /// Of the databases that are being ingested into.
    lanes: Mutex<HashMap<Id, Arc<Lane>>>,
}

/// The order of what goes into one database.
#[derive(Default)]
struct Lane {
    /// A batch is at the head until all its parts have begun.
    batches: Queue<()>,
    /// A part has its turn until another may begin.
    parts: Arc<Queue<()>>,
}

/// Takes in one part of a batch.
pub(crate) type Take =
    dyn Fn(&IngestBatch, Turn) -> Result<IngestReport, IngestError> + Send + Sync;

impl Default for Ingests {
    fn default() -> Self {
        Self {
            places: Arc::new(Semaphore::new(limits::INGESTS)),
            decoded: DecodeBudget::new(limits::DECODED_BYTES),
            lanes: Mutex::default(),
        }
    }
}

impl Ingests {
    /// Takes a batch in after whatever came before for the same database.
    pub(crate) async fn run(
        &self,
        batch: IngestBatch,
        take: Arc<Take>,
    ) -> Result<IngestReport, IngestError> {
        let database = batch.database;
        let lane = Arc::clone(self.lanes.lock().entry(database).or_default());
        let ingested = self.run_parts(batch, &take, &lane).await;
        drop(lane);
        let mut lanes = self.lanes.lock();
        if lanes
            .get(&database)
            .is_some_and(|lane| Arc::strong_count(lane) == 1)
        {
            lanes.remove(&database);
        }
        drop(lanes);
        ingested
    }

    /// Takes in as many packs at a time as may be decoded at once. A part begins when the one before has left its turn,
    /// and no other batch gets between them.
    async fn run_parts(
        &self,
        mut batch: IngestBatch,
        take: &Arc<Take>,
        lane: &Lane,
    ) -> Result<IngestReport, IngestError> {
        let mut parts = Vec::new();
        let head = lane.batches.lock().await;
        while !batch.packs.is_empty() {
            let count = part(&batch.packs, limits::DECODED_BYTES_AT_ONCE);
            let rest = batch.packs.split_off(count);
            let packs = std::mem::replace(&mut batch.packs, rest);
            let part = IngestBatch { packs, ..batch };
            let turn = Arc::clone(&lane.parts).lock_owned().await;
            // It is never closed.
            let place = Arc::clone(&self.places).acquire_owned().await.ok();
            let decoded = self.decoded.take(&part.packs).await;
            let take = Arc::clone(take);
            parts.push(tokio::task::spawn_blocking(move || {
                let report = take(&part, Box::new(turn));
                drop((decoded, place));
                report
            }));
        }
        drop(head);
        let mut total = IngestReport::default();
        for part in parts {
            let report = part
                .await
                .unwrap_or_else(|error| Err(IngestError::Unavailable(failed(error).0)))?;
            total.new += report.new;
            total.known += report.known;
            total.filled += report.filled;
            total.pending += report.pending;
            total.rejected.extend(report.rejected);
        }
        Ok(total)
    }
}

/// The memory for decoded packs that all peers share, by what the packs claim.
struct DecodeBudget {
    kib: Arc<Semaphore>,
    most: u32,
}

impl DecodeBudget {
    fn new(bytes: usize) -> Self {
        let most = u32::try_from(bytes >> 10).unwrap_or(u32::MAX);
        Self {
            kib: Arc::new(Semaphore::new(most as usize)),
            most,
        }
    }

    /// Waits until these packs may be decoded. What claims more than there is gets all of it.
    async fn take(&self, packs: &[Bytes]) -> Option<OwnedSemaphorePermit> {
        let claimed: usize = packs.iter().map(claimed).sum();
        let kib = u32::try_from(claimed.div_ceil(1 << 10)).unwrap_or(u32::MAX);
        let kib = kib.min(self.most);
        // It is never closed.
        Arc::clone(&self.kib).acquire_many_owned(kib).await.ok()
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

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use eidetica_entry::PublicKey;

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

    #[tokio::test]
    async fn parts_of_batches_keep_their_order() {
        let ingests = Arc::new(Ingests::default());
        let order = Arc::new(Mutex::new(Vec::new()));
        let ingest = |packs: Vec<Bytes>| {
            let (ingests, order) = (Arc::clone(&ingests), Arc::clone(&order));
            let batch = IngestBatch {
                database: Id::new([1; 32]),
                packs,
                create: false,
            };
            tokio::spawn(async move {
                let take = move |part: &IngestBatch, _: Turn| {
                    order.lock().push(claimed(&part.packs[0]) >> 20);
                    Ok(IngestReport::default())
                };
                ingests.run(batch, Arc::new(take)).await
            })
        };
        let settled = || async {
            for _ in 0..10 {
                tokio::task::yield_now().await;
            }
        };
        // Others hold all places.
        let all = u32::try_from(limits::INGESTS).unwrap();
        let held = Arc::clone(&ingests.places).acquire_many_owned(all);
        let held = held.await.unwrap();
        let mut batches = vec![ingest(vec![bomb(20 << 20), bomb(21 << 20)])];
        settled().await;
        batches.push(ingest(vec![bomb(1 << 20)]));
        settled().await;
        drop(held);
        for batch in batches {
            batch.await.unwrap().unwrap();
        }
        assert_eq!(*order.lock(), [20, 21, 1]);
        assert!(ingests.lanes.lock().is_empty());
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
