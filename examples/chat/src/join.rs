//! Joining a room: dial, ask for access, wait until an administrator decided, fetch.

use std::pin::pin;
use std::sync::Arc;
use std::thread;

use eidetica::auth::Permission;
use eidetica::sync::{RequestId, Sync};
use eidetica::{Blame, Error, KeyId};
use futures::channel::oneshot;
use futures::executor::block_on;
use futures::future::{Either, select};

use crate::address::RoomAddress;
use crate::limits;
use crate::model::Joining;

/// How an attempt goes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Step {
    Still(Joining),
    /// The room is here.
    Joined,
}

/// An attempt to join, on a thread of its own. Dropped, it ends soon; what was asked for stays asked for.
pub(crate) struct Attempt {
    give_up: oneshot::Sender<()>,
}

impl Attempt {
    /// Ends it and withdraws the request.
    pub(crate) fn give_up(self) {
        // An error means that it has ended.
        let _ = self.give_up.send(());
    }
}

/// Begins an attempt.
pub(crate) fn join(
    sync: Arc<Sync>,
    key: KeyId,
    at: RoomAddress,
    report: impl Fn(Step) + Send + 'static,
) -> std::io::Result<Attempt> {
    let (give_up, stopped) = oneshot::channel();
    let asking = Asking {
        sync,
        key,
        at,
        stopped,
    };
    thread::Builder::new()
        .name("join".to_owned())
        .spawn(move || asking.run(report))?;
    Ok(Attempt { give_up })
}

struct Asking {
    sync: Arc<Sync>,
    key: KeyId,
    at: RoomAddress,
    stopped: oneshot::Receiver<()>,
}

impl Asking {
    fn run(mut self, report: impl Fn(Step)) {
        let mut pause = limits::DIAL_AGAIN_FIRST;
        // Nothing was sent, and the sender is there: it goes on.
        while matches!(self.stopped.try_recv(), Ok(None)) {
            let result = match self.ask() {
                Err(Error::BootstrapPending { request_id }) => {
                    report(Step::Still(Joining::Waiting));
                    match self.wait(&request_id) {
                        Some(decided) => decided,
                        None => return,
                    }
                }
                asked => asked,
            };
            match result {
                Ok(()) => return report(Step::Joined),
                Err(error) if error.blame() == Blame::Unavailable => {
                    report(Step::Still(Joining::Unreachable(error.to_string())));
                    thread::park_timeout(pause);
                    pause = (pause * 2).min(limits::DIAL_AGAIN);
                }
                Err(error) => {
                    let error = crate::error::Error::from(error);
                    return report(Step::Still(Joining::Failed(error.to_string())));
                }
            }
        }
    }

    /// Asks for access. The weakest right to write is enough for a chat.
    fn ask(&self) -> Result<(), Error> {
        let (sync, key) = (&self.sync, self.key);
        let report = match &self.at {
            RoomAddress::Plain { room, at } => {
                block_on(sync.sync_with_peer_for_bootstrap(at, room, key, Permission::Write))
            }
            RoomAddress::Ticket(ticket) => block_on(sync.join(ticket, key, Permission::Write)),
        };
        report.map(drop)
    }

    /// Waits for the decision; `None` if nobody wants to know it any more.
    fn wait(&mut self, request: &RequestId) -> Option<Result<(), Error>> {
        let decision = pin!(self.sync.await_bootstrap(request));
        match block_on(select(decision, &mut self.stopped)) {
            Either::Left((decided, _)) => Some(decided),
            Either::Right((Ok(()), _)) => {
                // If nobody is there to be told, the request ends by itself some day.
                let _ = block_on(self.sync.cancel_bootstrap_request(request));
                None
            }
            Either::Right((Err(oneshot::Canceled), _)) => None,
        }
    }
}
