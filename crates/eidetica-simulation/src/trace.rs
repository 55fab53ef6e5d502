//! What happened: always as a hash, in words where somebody wants to read it.

use crate::net::NodeId;

/// The events of one run, in order.
#[derive(Debug)]
pub(crate) struct Trace {
    hasher: blake3::Hasher,
    events: u64,
    readable: bool,
}

impl Trace {
    /// `readable` prints a line per event, at once: what is simulated may panic.
    pub(crate) fn new(readable: bool) -> Self {
        Self {
            hasher: blake3::Hasher::new_derive_key("eidetica simulation events v1"),
            events: 0,
            readable,
        }
    }

    /// Notes an event at a node. All of it is hashed but the words.
    pub(crate) fn note(
        &mut self,
        now_ms: u64,
        node: NodeId,
        what: &'static str,
        bytes: &[u8],
        words: impl FnOnce() -> String,
    ) {
        self.events += 1;
        self.hasher
            .update(&now_ms.to_le_bytes())
            .update(&(node as u64).to_le_bytes())
            .update(&(what.len() as u64).to_le_bytes())
            .update(what.as_bytes())
            .update(&(bytes.len() as u64).to_le_bytes())
            .update(bytes);
        if self.readable {
            let (seconds, ms) = (now_ms / 1000, now_ms % 1000);
            let (minute, second) = (seconds / 60, seconds % 60);
            println!(
                "{minute:02}:{second:02}.{ms:03} node {node} {what} {}",
                words()
            );
        }
    }

    pub(crate) fn events(&self) -> u64 {
        self.events
    }

    pub(crate) fn hash(&self) -> [u8; 32] {
        *self.hasher.finalize().as_bytes()
    }
}
