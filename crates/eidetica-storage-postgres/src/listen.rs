//! Hints between processes: one connection that listens, and says that something changed.

use std::future::poll_fn;
use std::sync::Arc;
use std::sync::atomic::{AtomicI32, Ordering};
use std::sync::mpsc::{SyncSender, TrySendError, sync_channel};
use std::thread;
use std::time::{Duration, Instant};

use eidetica_storage::{EngineError, Watchers};
use tokio::sync::{Notify, oneshot};
use tokio_postgres::{AsyncMessage, Error};

use crate::pool::{Dialer, Failure, Io};
use crate::schema::Schema;
use crate::wait::wait_until;

/// Between two attempts to connect.
const RETRY: Duration = Duration::from_millis(500);

/// Says that something changed. Many calls may become one notification.
#[derive(Clone, Default)]
pub(crate) struct Announcer(Arc<Notify>);

impl Announcer {
    pub(crate) fn announce(&self) {
        self.0.notify_one();
    }
}

/// Listens for as long as `io` lives, and returns once it does. Hints are called on a thread of their own, since they may use
/// the engine.
pub(crate) fn start(
    io: &Io,
    dialer: Dialer,
    schema: Schema,
    watchers: Watchers,
    deadline: Instant,
) -> Result<Announcer, EngineError> {
    let announcer = Announcer::default();
    // One that waits stands for all that come meanwhile.
    let (hints, heard) = sync_channel(1);
    let call = move || {
        while let Ok(()) = heard.recv() {
            watchers.notify();
        }
    };
    thread::Builder::new()
        .name("eidetica-postgres-hints".to_owned())
        .spawn(call)
        .map_err(|error| EngineError::io("starting a thread", error))?;
    let listener = Listener {
        dialer,
        schema,
        changed: announcer.clone(),
        hints,
    };
    let (ready, listening) = oneshot::channel();
    io.handle.spawn(listener.run(ready));
    match wait_until(deadline, listening) {
        Some(Ok(())) => Ok(announcer),
        _ => Err(Failure::Timeout.engine_error("listening")),
    }
}

struct Listener {
    dialer: Dialer,
    schema: Schema,
    changed: Announcer,
    hints: SyncSender<()>,
}

impl Listener {
    /// Ends when the engine is gone.
    async fn run(self, ready: oneshot::Sender<()>) {
        let mut ready = Some(ready);
        while let Err(_lost) = self.listen(&mut ready).await {
            tokio::time::sleep(RETRY).await;
        }
    }

    /// Listens until the connection is lost, or (`Ok`) nobody wants hints any more.
    async fn listen(&self, ready: &mut Option<oneshot::Sender<()>>) -> Result<(), Option<Error>> {
        let (client, mut driver) = self.dialer.dial().await?;
        let own = AtomicI32::new(0);
        let receive = async {
            while let Some(message) = poll_fn(&mut driver).await {
                let AsyncMessage::Notification(heard) = message? else {
                    continue;
                };
                if heard.process_id() != own.load(Ordering::Relaxed) && !self.hint() {
                    return Ok(());
                }
            }
            Err(None)
        };
        let speak = async {
            client.batch_execute(&self.schema.listen()).await?;
            let asked = client.query_one("SELECT pg_backend_pid()", &[]).await?;
            own.store(asked.try_get(0)?, Ordering::Relaxed);
            match ready.take() {
                Some(ready) => drop(ready.send(())),
                // Something may have been written while nobody listened, or here and never told.
                None => {
                    self.hint();
                    self.changed.announce();
                }
            }
            loop {
                self.changed.0.notified().await;
                client.batch_execute(&self.schema.notify()).await?;
            }
        };
        tokio::select! {
            received = receive => received,
            spoken = speak => spoken,
        }
    }

    /// Says whether anybody is there.
    fn hint(&self) -> bool {
        !matches!(self.hints.try_send(()), Err(TrySendError::Disconnected(())))
    }
}
