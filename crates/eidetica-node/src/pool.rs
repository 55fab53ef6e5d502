//! Calls of the backend: on a bounded number of blocking threads, ingests one at a time per database.

use std::{collections::HashMap, sync::Arc};

use eidetica_auth::SignedRequest;
use eidetica_engine::{Facts, GrantOutcome, Record};
use eidetica_entry::{Id, PublicKey};
use eidetica_protocol::{Answer, IngestBatch, IngestError, IngestReport, Query, Unavailable};
use parking_lot::Mutex;
use tokio::sync::{Mutex as Queue, Semaphore};

use crate::{Backend, limits};

/// The backend, as tasks call it.
pub(crate) struct Pool {
    backend: Arc<dyn Backend>,
    queries: Semaphore,
    ingests: Semaphore,
    /// One queue per database that is being ingested into.
    queues: Mutex<HashMap<Id, Arc<Queue<()>>>>,
}

impl Pool {
    pub(crate) fn new(backend: Arc<dyn Backend>) -> Self {
        Self {
            backend,
            queries: Semaphore::new(limits::QUERIES),
            ingests: Semaphore::new(limits::INGESTS),
            queues: Mutex::default(),
        }
    }

    /// Answers a question of a session that needs only the databases.
    pub(crate) async fn query(&self, query: Query) -> Result<Answer, Unavailable> {
        self.call(move |backend| answer(backend, query)).await
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
            .call(move |backend| Ok(backend.grant(&request, &by)))
            .await;
        granted.unwrap_or_else(|error| Err(error.to_string()))
    }

    /// Writes records; not behind anybody's queries.
    pub(crate) async fn persist(&self, records: Vec<Record>) -> Result<(), Unavailable> {
        let backend = Arc::clone(&self.backend);
        run(move || backend.persist(&records))
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
            let backend = Arc::clone(&self.backend);
            run(move || backend.ingest(&batch, &from)).await
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
        ingested.unwrap_or_else(|error| Err(IngestError::Unavailable(error.to_string())))
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

/// Runs on a blocking thread. A panic there is a failure of this one call.
async fn run<T: Send + 'static>(
    call: impl FnOnce() -> T + Send + 'static,
) -> Result<T, Unavailable> {
    tokio::task::spawn_blocking(call)
        .await
        .map_err(|error| Unavailable(format!("a call failed: {error}")))
}

fn answer(backend: &dyn Backend, query: Query) -> Result<Answer, Unavailable> {
    Ok(match query {
        Query::CanRead { database, keys } => Answer::Access(backend.can_read(&database, &keys)?),
        Query::Tips { database } => Answer::Tips(backend.tips(&database)?),
        Query::Known { database, ids } => Answer::Known(backend.known(&database, &ids)?),
        Query::Ancestors {
            database,
            of,
            stop,
            generations,
            limit,
        } => Answer::Headers(backend.ancestors(&database, &of, &stop, generations, limit)?),
        Query::Difference {
            database,
            not,
            cursor,
            budget_bytes,
        } => Answer::Packs(backend.difference(&database, &not, cursor.as_ref(), budget_bytes)?),
        Query::Discover { keys } => Answer::Databases(backend.discover(&keys)?),
        // These are the engine's to answer, with the facts of the databases: `session::Services`.
        Query::Bootstrap { .. } | Query::Status { .. } | Query::Cancel { .. } => {
            return Err(Unavailable("a question for the engine".to_owned()));
        }
    })
}
