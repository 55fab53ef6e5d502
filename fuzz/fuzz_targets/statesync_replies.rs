//! An engine whose source sends anything, or right replies with bytes written over them: no panic, no loop without time, and
//! nothing is appended but the log of the target.
#![no_main]

use std::ops::Range;
use std::sync::LazyLock;

use eidetica_mmr::{
    Consistency, Leaves, Location, Mmr, leaf_hash, prove_consistency, prove_range,
};
use eidetica_statesync::{
    Claim, Config, DatabaseName, Engine, Input, Local, Output, Refusal, Serve, Shown, SourceId,
    Target, Trust, respond,
};
use libfuzzer_sys::fuzz_target;

const SIZE: u64 = 100;

/// To whoever believed in a greater log.
const NOT_YET: Refusal = Refusal::NotYet {
    leaves: Leaves(SIZE),
};

struct Log(Mmr);

/// Operations are their own locations.
static LOG: LazyLock<Log> = LazyLock::new(|| {
    let mut mmr = Mmr::new();
    for at in 0..SIZE {
        mmr.append(leaf_hash(&at.to_le_bytes())).unwrap();
    }
    Log(mmr)
});

fn claim() -> Claim {
    let target = Target::new(LOG.0.root(), Location(3), Leaves(SIZE));
    Claim::unsigned(target.unwrap())
}

impl Serve for Log {
    fn claim(&self) -> Result<Option<Claim>, Refusal> {
        Ok(Some(claim()))
    }

    fn operations(
        &self,
        size: Leaves,
        range: Range<Location>,
        _most_bytes: usize,
    ) -> Result<Shown, Refusal> {
        let locations = range.start.0..range.end.0.min(SIZE);
        let operations: Vec<[u8; 8]> = locations.map(u64::to_le_bytes).collect();
        let proof = prove_range(&self.0, size, range).map_err(|_| NOT_YET)?;
        Ok(Shown {
            proof,
            count: operations.len(),
            operations: operations.concat(),
        })
    }

    fn consistency(&self, old: Leaves, new: Leaves) -> Result<Consistency, Refusal> {
        prove_consistency(&self.0, old, new).map_err(|_| NOT_YET)
    }
}

fuzz_target!(|input: (bool, Vec<(u8, u16, Vec<u8>)>)| {
    let (trusted, lies) = input;
    let name = DatabaseName::new("any").unwrap();
    let split = |bytes: &[u8]| (bytes.len() >= 8).then_some(8);
    let mut config = Config::new(name.clone(), split);
    if trusted {
        config.trust = Trust::Caller;
    }
    let mut engine = Engine::new(config, Local::default(), Some(claim())).unwrap();
    let source = SourceId(1);
    let (mut now_ms, mut lies) = (0, lies.into_iter());
    engine.handle_input(Input::Connected(source), now_ms);
    engine.handle_input(Input::Target(claim()), now_ms);
    let mut log = Mmr::new();
    for _ in 0..500 {
        match engine.poll_output(now_ms) {
            Output::Request { message, .. } => {
                let mut reply = respond(&name, &*LOG, &message).message;
                match lies.next() {
                    Some((0, _, bytes)) => reply = bytes,
                    Some((1, _, _)) => continue,
                    Some((_, at, bytes)) => {
                        let at = usize::from(at) % reply.len();
                        let places = reply.iter_mut().skip(at);
                        places.zip(bytes).for_each(|(byte, new)| *byte ^= new);
                    }
                    None => {}
                }
                let message = reply;
                engine.handle_input(Input::Reply { source, message }, now_ms);
            }
            Output::Restart { boundary, .. } => {
                assert_eq!(boundary, LOG.0.frontier_at(boundary.leaves()).unwrap());
                log = Mmr::from_frontier(boundary);
                engine.handle_input(Input::Applied(log.frontier().clone()), now_ms);
            }
            Output::Append { start, operations } => {
                assert_eq!(start, log.leaves().next());
                for operation in operations.bytes.chunks(8) {
                    assert_eq!(operation, log.leaves().0.to_le_bytes());
                    log.append(leaf_hash(operation)).unwrap();
                }
                engine.handle_input(Input::Applied(log.frontier().clone()), now_ms);
            }
            Output::Complete(target) => {
                assert_eq!(target, claim().target);
                assert_eq!(log.root(), target.root());
            }
            Output::Timeout(at) => {
                assert!(at > now_ms);
                now_ms = at.min(now_ms + 1_000_000);
                engine.handle_input(Input::Tick, now_ms);
            }
            _ => {}
        }
    }
});
