//! Calls of the backend: a bounded number at once, what the driver itself waits for behind none of them.

use std::sync::Arc;

use bytes::Bytes;

use eidetica_auth::{DeviceClaim, SignedRequest};
use eidetica_engine::{Facts, GrantOutcome, LeaseChange, Record};
use eidetica_entry::{Id, PublicKey};
use eidetica_protocol::{
    Answer, IngestBatch, IngestError, IngestReport, ProvenKeys, Query, Standing, TipList,
    Unavailable, limits::CLAIMS,
};
use futures::channel::oneshot;
use tokio::{sync::Semaphore, task::JoinError};

use crate::{Backend, backend::Followed, claims, clock::now_ms, ingests::Ingests, limits};

/// The backend, as tasks call it.
pub(crate) struct Pool {
    backend: Arc<dyn Backend>,
    queries: Arc<Semaphore>,
    ingests: Ingests,
}

impl Pool {
    pub(crate) fn new(backend: Arc<dyn Backend>) -> Self {
        Self {
            backend,
            queries: Arc::new(Semaphore::new(limits::QUERIES)),
            ingests: Ingests::default(),
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

    /// The claims to show about these databases, as [`claims::choose`] has it.
    pub(crate) async fn choose_claims(
        &self,
        all: Vec<DeviceClaim>,
        first: Vec<PublicKey>,
        databases: Vec<Id>,
    ) -> Vec<DeviceClaim> {
        if all.len() <= CLAIMS {
            return all;
        }
        let chosen = self.call(move |backend| Ok(claims::choose(backend, all, &first, &databases)));
        // Nothing can be shown of what is closed.
        chosen.await.unwrap_or_default()
    }

    /// The same to a peer, about those of the databases that it may read.
    pub(crate) async fn choose_claims_for(
        &self,
        peer: &ProvenKeys,
        all: Vec<DeviceClaim>,
        mut databases: Vec<Id>,
    ) -> Vec<DeviceClaim> {
        if all.len() <= CLAIMS {
            return all;
        }
        let peer = peer.clone();
        let chosen = self.call(move |backend| {
            // For others nothing more is looked up.
            databases.retain(|id| {
                let keys = peer.keys_for(id, now_ms());
                backend.can_read(id, &keys).unwrap_or(false)
            });
            Ok(claims::choose(backend, all, &[], &databases))
        });
        chosen.await.unwrap_or_default()
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
        apart(move || backend.persist(&records))
            .await
            .and_then(|result| result)
    }

    /// What other processes have written.
    pub(crate) async fn follow(&self) -> Result<Followed, Unavailable> {
        let backend = Arc::clone(&self.backend);
        apart(move || backend.follow())
            .await
            .and_then(|result| result)
    }

    /// Writes leases and reads them; not behind anybody's queries.
    pub(crate) async fn lease(
        &self,
        changes: Vec<LeaseChange>,
    ) -> Result<Vec<(String, Bytes)>, Unavailable> {
        let backend = Arc::clone(&self.backend);
        apart(move || backend.lease(&changes))
            .await
            .and_then(|result| result)
    }

    /// Ingests after whatever came before for the same database.
    pub(crate) async fn ingest(
        &self,
        batch: IngestBatch,
        from: PublicKey,
    ) -> Result<IngestReport, IngestError> {
        let backend = Arc::clone(&self.backend);
        let take = move |part: &IngestBatch, turn| backend.ingest(part, &from, turn);
        self.ingests.run(batch, Arc::new(take)).await
    }

    async fn call<T: Send + 'static>(
        &self,
        call: impl FnOnce(&dyn Backend) -> Result<T, Unavailable> + Send + 'static,
    ) -> Result<T, Unavailable> {
        let backend = Arc::clone(&self.backend);
        let called = in_place(&self.queries, move || call(&*backend)).await;
        called.and_then(|result| result)
    }
}

/// Runs on a blocking thread. The place is given back when the call ends, also where nobody waits for it any more. A
/// panic there is a failure of this one call.
async fn in_place<T: Send + 'static>(
    places: &Arc<Semaphore>,
    call: impl FnOnce() -> T + Send + 'static,
) -> Result<T, Unavailable> {
    // It is never closed.
    let place = Arc::clone(places).acquire_owned().await.ok();
    let called = tokio::task::spawn_blocking(move || {
        let result = call();
        drop(place);
        result
    });
    called.await.map_err(failed)
}

/// Runs on a thread of its own: behind nobody.
async fn apart<T: Send + 'static>(
    call: impl FnOnce() -> T + Send + 'static,
) -> Result<T, Unavailable> {
    let (sender, result) = oneshot::channel();
    let thread = std::thread::Builder::new().name("eidetica-records".to_owned());
    thread
        .spawn(move || {
            let result = call();
            // Whoever does not wait does not need to know.
            let _ = sender.send(result);
        })
        .map_err(|error| Unavailable(format!("there is no thread for a call: {error}")))?;
    result
        .await
        .map_err(|_| Unavailable("a call failed: it panicked".to_owned()))
}

pub(crate) fn failed(error: JoinError) -> Unavailable {
    Unavailable(format!("a call failed: {error}"))
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
        Query::Digests { databases, peer } => {
            Answer::Digests(standings(backend, &databases, peer.as_ref(), now_ms)?)
        }
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
/// How databases stand. One that cannot be read is as if it were not here, since the others are; where none can be read it
/// is not for them.
fn standings(
    backend: &dyn Backend,
    databases: &[Id],
    peer: Option<&ProvenKeys>,
    now_ms: u64,
) -> Result<Vec<Standing>, Unavailable> {
    let mut failures = 0;
    let mut standings = Vec::with_capacity(databases.len());
    for database in databases {
        let stands = standing(backend, database, peer, now_ms);
        if let Err(error) = &stands {
            tracing::warn!(%database, error = error.0, "cannot say how a database stands");
            failures += 1;
            if failures == databases.len() {
                return Err(error.clone());
            }
        }
        standings.push(stands.unwrap_or_default());
    }
    Ok(standings)
}

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
            is_partial: !frontier.holds.is_all(),
            digest: TipList::new(frontier.tips).digest(),
        }),
    )
}

#[cfg(test)]
mod tests {
    use std::{
        pin::pin,
        sync::atomic::{AtomicUsize, Ordering},
    };

    use parking_lot::RwLock;

    use super::*;

    #[test]
    fn calls_that_nobody_waits_for_keep_their_places_and_hold_up_no_records() {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .max_blocking_threads(limits::QUERIES)
            .build()
            .unwrap();
        let (gate, inside) = (Arc::new(RwLock::new(())), Arc::new(AtomicUsize::new(0)));
        let closed = gate.write();
        runtime.block_on(async {
            let places = Arc::new(Semaphore::new(limits::QUERIES));
            for _ in 0..5 * limits::QUERIES {
                let (gate, inside) = (Arc::clone(&gate), Arc::clone(&inside));
                let call = pin!(in_place(&places, move || {
                    inside.fetch_add(1, Ordering::SeqCst);
                    drop(gate.read());
                }));
                assert!(futures::poll!(call).is_pending());
            }
            assert_eq!(places.available_permits(), 0);
            assert_eq!(apart(|| 5).await.unwrap(), 5);
            drop(closed);
            let all = u32::try_from(limits::QUERIES).unwrap();
            let _all = places.acquire_many(all).await.unwrap();
            assert_eq!(inside.load(Ordering::SeqCst), limits::QUERIES);
        });
    }

    #[tokio::test]
    async fn a_panic_is_a_failure_of_one_call() {
        let places = Arc::new(Semaphore::new(1));
        let panics = || -> u8 { panic!("a bug") };
        assert!(in_place(&places, panics).await.is_err());
        assert!(apart(panics).await.is_err());
        assert_eq!(in_place(&places, || 1).await.unwrap(), 1);
    }
}
