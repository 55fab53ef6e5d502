//! Joining a room: dial, ask for access, wait until an administrator decided, fetch.

use std::sync::Arc;
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, sync_channel};
use std::thread;

use eidetica::auth::Permission;
use eidetica::sync::{BootstrapStatus, RequestId, Sync};
use eidetica::{Blame, Error, KeyId};
use futures::executor::block_on;

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

/// An attempt to join, on a thread of its own. It ends by itself, or soon after this is dropped.
pub(crate) struct Attempt {
    _stop: SyncSender<()>,
}

/// Begins an attempt.
pub(crate) fn join(
    sync: Arc<Sync>,
    key: KeyId,
    at: RoomAddress,
    report: impl Fn(Step) + Send + 'static,
) -> std::io::Result<Attempt> {
    let (stop, stopped) = sync_channel(0);
    let asking = Asking {
        sync,
        key,
        at,
        request: None,
    };
    thread::Builder::new()
        .name("join".to_owned())
        .spawn(move || asking.run(&stopped, report))?;
    Ok(Attempt { _stop: stop })
}

struct Asking {
    sync: Arc<Sync>,
    key: KeyId,
    at: RoomAddress,
    /// The request that waits for an answer.
    request: Option<RequestId>,
}

impl Asking {
    fn run(mut self, stopped: &Receiver<()>, report: impl Fn(Step)) {
        let mut told = None;
        let mut backoff = limits::ASK_AGAIN;
        loop {
            let (step, pause) = match self.ask() {
                Ok(true) => (Step::Joined, None),
                Ok(false) => (Step::Still(Joining::Waiting), Some(limits::ASK_AGAIN)),
                Err(error) if error.blame() == Blame::Unavailable => {
                    backoff = (backoff * 2).min(limits::DIAL_AGAIN);
                    (
                        Step::Still(Joining::Unreachable(error.to_string())),
                        Some(backoff),
                    )
                }
                Err(error) => {
                    let error = crate::error::Error::from(error);
                    (Step::Still(Joining::Failed(error.to_string())), None)
                }
            };
            if told.as_ref() != Some(&step) {
                report(step.clone());
                told = Some(step);
            }
            match pause.map(|pause| stopped.recv_timeout(pause)) {
                Some(Err(RecvTimeoutError::Timeout)) => {}
                _ => return,
            }
        }
    }

    /// Asks for access, or what became of the request; true when the room is here.
    fn ask(&mut self) -> Result<bool, Error> {
        if let Some(request) = self.request {
            match block_on(self.sync.bootstrap_status(&request))? {
                BootstrapStatus::Pending(_) => return Ok(false),
                BootstrapStatus::Granted => self.request = None,
                _ => return Err(Error::AccessDenied(self.at.room)),
            }
        }
        let RoomAddress { room, at } = &self.at;
        let asked = self
            .sync
            .sync_with_peer_for_bootstrap(at, room, self.key, Permission::Write);
        match block_on(asked) {
            Ok(_) => Ok(true),
            Err(Error::BootstrapPending { request_id }) => {
                self.request = Some(request_id);
                Ok(false)
            }
            Err(error) => Err(error),
        }
    }
}
