//! Messages of state synchronization from a stranger: no panic, one encoding only, and a server answers whatever it gets.
#![no_main]

use std::ops::Range;

use eidetica_mmr::{Consistency, Leaves, Location};
use eidetica_statesync::message::{Reply, Request};
use eidetica_statesync::{Claim, DatabaseName, Evidence, Refusal, Serve, Shown, limits, respond};
use libfuzzer_sys::fuzz_target;

struct Nothing;

impl Serve for Nothing {
    fn claim(&self) -> Result<Option<Claim>, Refusal> {
        Ok(None)
    }

    fn operations(
        &self,
        size: Leaves,
        range: Range<Location>,
        _most_bytes: usize,
    ) -> Result<Shown, Refusal> {
        assert!(range.start < range.end && range.end.0 <= size.0);
        assert!(range.end.0 - range.start.0 <= limits::BATCH as u64);
        Err(Refusal::Unavailable)
    }

    fn consistency(&self, old: Leaves, new: Leaves) -> Result<Consistency, Refusal> {
        assert!(old <= new && new.is_possible());
        Err(Refusal::Unavailable)
    }
}

fuzz_target!(|bytes: &[u8]| {
    if let Ok((id, request)) = Request::decode(bytes) {
        assert_eq!(request.encode(id), bytes);
    }
    if let Ok((id, reply)) = Reply::decode(bytes) {
        assert_eq!(reply.encode(id), bytes);
    }
    if let Ok(evidence) = Evidence::decode(bytes) {
        assert_eq!(evidence.encode(), bytes);
    }
    let name = DatabaseName::new("any").unwrap();
    assert!(Reply::decode(&respond(&name, &Nothing, bytes).message).is_ok());
});
