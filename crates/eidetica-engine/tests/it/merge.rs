//! Records that two processes write at once, as a backend puts them together.

use std::collections::BTreeMap;

use bytes::Bytes;
use eidetica_auth::Permission;
use eidetica_engine::{
    Command, EngineError, Facts, GrantOutcome, Invite, PeerStatus, Record, Redemption,
    RequestState, Response, merge,
};
use eidetica_protocol::{BootstrapAnswer, Refusal, RequestRef};

use crate::bench::{Bench, START, address, database, key, request};

const STRANGER: Facts = Facts {
    here: true,
    explicit: None,
    wildcard: None,
};
const WRITE: Permission = Permission::Write(10);
const INVITE: u16 = 3;

/// Two processes, and the records that they share. A process writes when it is told to, and sees what others have
/// written when it writes or follows.
struct Two {
    rows: BTreeMap<String, Bytes>,
    processes: [Bench; 2],
    known: [BTreeMap<String, Bytes>; 2],
}

impl Two {
    fn of(first: Bench) -> Self {
        let rows = first.records;
        let process = |n| Bench::process(n, rows.clone(), START);
        Self {
            processes: [process(1), process(2)],
            known: [rows.clone(), rows.clone()],
            rows,
        }
    }

    /// The process `n` writes what it has changed, put together with what stands there.
    fn write(&mut self, n: usize) {
        let (bench, known) = (&mut self.processes[n], &mut self.known[n]);
        let mut keys: Vec<String> = bench.records.keys().chain(known.keys()).cloned().collect();
        keys.retain(|key| bench.records.get(key) != known.get(key));
        keys.sort();
        keys.dedup();
        let mut others = Vec::new();
        for key in keys {
            let record = Record {
                key: key.clone(),
                value: bench.records.get(&key).cloned(),
            };
            if !record.is_shared() {
                continue;
            }
            let theirs = self.rows.get(&key).map(|row| &row[..]);
            let base = known.get(&key).map(|row| &row[..]);
            let merged = merge(&key, base, record.value.as_deref(), theirs).unwrap();
            if merged != record.value {
                others.push(Record {
                    key: key.clone(),
                    value: merged.clone(),
                });
            }
            match merged {
                Some(row) => self.rows.insert(key, row),
                None => self.rows.remove(&key),
            };
        }
        let bench = &mut self.processes[n];
        bench.engine.meet(&others, START).unwrap();
        self.settled(n, &others);
    }

    /// The process `n` reads what others have written.
    fn follow(&mut self, n: usize) {
        let known = &self.known[n];
        let mut keys: Vec<String> = self.rows.keys().chain(known.keys()).cloned().collect();
        keys.sort();
        keys.dedup();
        keys.retain(|key| self.rows.get(key) != known.get(key));
        let of = |key: String| Record {
            value: self.rows.get(&key).cloned(),
            key,
        };
        let changed: Vec<Record> = keys.into_iter().map(of).collect();
        self.processes[n].engine.meet(&changed, START).unwrap();
        self.settled(n, &changed);
    }

    fn settled(&mut self, n: usize, met: &[Record]) {
        let bench = &mut self.processes[n];
        bench.drain();
        for Record { key, value } in met {
            match value {
                Some(value) => bench.records.insert(key.clone(), value.clone()),
                None => bench.records.remove(key),
            };
        }
        self.known[n] = bench.records.clone();
        self.known[n].retain(|key, _| self.rows.contains_key(key));
    }

    fn redeem(&mut self, n: usize, k: u16) -> Redemption {
        let asked = request(k, database(1), WRITE, 1);
        let bench = &mut self.processes[n];
        let said = bench.engine.redeem(&asked, &key(INVITE), STRANGER, START);
        bench.drain();
        said
    }

    fn has_place(&self, n: usize, k: u16) -> bool {
        self.processes[n].engine.has_place(&key(INVITE), &key(k))
    }

    fn redeemed(&mut self, n: usize, k: u16, result: Result<GrantOutcome, String>) {
        let asked = request(k, database(1), WRITE, 1);
        let bench = &mut self.processes[n];
        bench
            .engine
            .redeemed(&asked, &key(INVITE), STRANGER, result, START);
        bench.drain();
    }

    fn places(&self, n: usize) -> Vec<(eidetica_entry::PublicKey, bool)> {
        let invite = self.processes[n].engine.invites().next().unwrap();
        invite
            .redeemed
            .iter()
            .map(|place| (place.key, place.granted))
            .collect()
    }
}

fn issued(count: u32) -> Two {
    let mut bench = Bench::live();
    let put = Command::PutInvite(Box::new(Invite {
        id: key(INVITE),
        database: database(1),
        permission: WRITE,
        by: key(2),
        count,
        expires_ms: START + 1_000_000,
        revoked: false,
        redeemed: Vec::new(),
    }));
    bench.now(put).unwrap();
    Two::of(bench)
}

fn is_grant(redemption: &Redemption) -> bool {
    matches!(redemption, Redemption::Grant { .. })
}

#[test]
fn two_processes_give_no_more_places_than_there_are() {
    let mut two = issued(1);
    assert!(is_grant(&two.redeem(0, 10)) && is_grant(&two.redeem(1, 11)));
    two.write(0);
    two.write(1);
    assert!(two.has_place(0, 10) && !two.has_place(1, 11));
    let refused = Redemption::Answer(Err(Refusal::INVITE_USED));
    assert_eq!(two.redeem(1, 11), refused);
    two.redeemed(0, 10, Ok(GrantOutcome::Granted));
    two.write(0);
    two.follow(1);
    assert_eq!(two.places(0), [(key(10), true)]);
    assert_eq!(two.places(1), [(key(10), true)]);
}

#[test]
fn a_place_is_given_back_by_the_last_process_that_tried() {
    let failed = || Err("not unlocked".to_owned());
    for granted in [false, true] {
        let mut two = issued(1);
        // The same key asks both.
        assert!(is_grant(&two.redeem(0, 10)) && is_grant(&two.redeem(1, 10)));
        two.write(0);
        two.write(1);
        assert!(two.has_place(0, 10) && two.has_place(1, 10));
        two.redeemed(0, 10, failed());
        two.write(0);
        assert_eq!(
            two.places(0),
            [(key(10), false)],
            "the other one still tries"
        );
        assert_eq!(
            two.redeem(0, 11),
            Redemption::Answer(Err(Refusal::INVITE_USED))
        );
        two.redeemed(
            1,
            10,
            if granted {
                Ok(GrantOutcome::Granted)
            } else {
                failed()
            },
        );
        two.write(1);
        two.follow(0);
        assert_eq!(two.places(0), two.places(1));
        assert_eq!(is_grant(&two.redeem(0, 11)), !granted);
    }
}

#[test]
fn an_invite_that_was_taken_back_gives_nothing_in_any_process() {
    let mut two = issued(5);
    two.processes[0]
        .now(Command::RevokeInvite(key(INVITE)))
        .unwrap();
    assert!(is_grant(&two.redeem(1, 10)), "it has not heard of it");
    two.write(0);
    two.write(1);
    assert!(!two.has_place(1, 10));
    assert_eq!(
        two.redeem(1, 10),
        Redemption::Answer(Err(Refusal::INVITE_REVOKED))
    );
    two.follow(0);
    assert!(
        two.processes[0]
            .engine
            .invites()
            .all(|invite| invite.revoked)
    );
}

#[test]
fn what_two_users_decide_about_a_peer_stands_both() {
    let mut bench = Bench::live();
    bench
        .now(Command::RegisterPeer {
            key: key(1),
            name: None,
        })
        .unwrap();
    bench
        .now(Command::AddAddress(key(1), address("old:1")))
        .unwrap();
    let mut two = Two::of(bench);
    two.processes[0]
        .now(Command::SetStatus(key(1), PeerStatus::Blocked))
        .unwrap();
    two.processes[0]
        .now(Command::RemoveAddress(key(1), address("old:1")))
        .unwrap();
    let name = Some("one".to_owned());
    two.processes[1]
        .now(Command::RegisterPeer { key: key(1), name })
        .unwrap();
    two.processes[1]
        .now(Command::AddAddress(key(1), address("new:1")))
        .unwrap();
    two.write(0);
    two.write(1);
    two.follow(0);
    for process in &two.processes {
        let peer = process.engine.peer(&key(1)).unwrap();
        assert_eq!(peer.status, PeerStatus::Blocked);
        assert_eq!(peer.display_name.as_deref(), Some("one"));
        assert_eq!(peer.addresses, [address("new:1")]);
        assert!(!process.engine.admits(&key(1)));
    }
    // What one forgets stays forgotten.
    two.processes[0].now(Command::RemovePeer(key(1))).unwrap();
    two.processes[1]
        .now(Command::AddAddress(key(1), address("again:1")))
        .unwrap();
    two.write(0);
    two.write(1);
    assert!(
        two.processes
            .iter()
            .all(|process| process.engine.peer(&key(1)).is_none())
    );
    assert!(two.rows.is_empty());
}

#[test]
fn a_block_stands_whatever_another_process_makes_of_the_peer() {
    for (first, second) in [(0, 1), (1, 0)] {
        for other in [
            Command::RemovePeer(key(1)),
            Command::SetStatus(key(1), PeerStatus::Active),
            Command::AddAddress(key(1), address("new:1")),
        ] {
            let case = format!("{other:?}, written {first} first");
            let mut bench = Bench::live();
            let name = Some("one".to_owned());
            bench
                .now(Command::RegisterPeer { key: key(1), name })
                .unwrap();
            let mut two = Two::of(bench);
            two.processes[0]
                .now(Command::SetStatus(key(1), PeerStatus::Blocked))
                .unwrap();
            two.processes[1].now(other).unwrap();
            two.write(first);
            two.write(second);
            two.follow(0);
            two.follow(1);
            for process in &two.processes {
                assert!(!process.engine.admits(&key(1)), "{case}");
            }
        }
    }
}

#[test]
fn a_request_is_decided_once_for_all_processes() {
    let asked = request(9, database(1), WRITE, 1);
    let mut bench = Bench::live();
    bench.engine.receive_bootstrap(&asked, STRANGER, START);
    bench.drain();
    let mut two = Two::of(bench);
    assert_eq!(
        two.processes[0].now(Command::Reject(asked.id())),
        Ok(Response::Done)
    );
    two.write(0);
    // The other one forgets it for its maker, which comes too late.
    let of = RequestRef {
        database: database(1),
        key: key(9),
        id: asked.id(),
    };
    two.processes[1].engine.cancel_request(&of, &key(1));
    two.processes[1].drain();
    two.write(1);
    for process in &mut two.processes {
        let state: Vec<RequestState> = process
            .engine
            .incoming_requests()
            .map(|request| request.state)
            .collect();
        assert_eq!(state, [RequestState::Rejected]);
        let answer = process.engine.request_status(&of, &key(1), STRANGER);
        assert_eq!(answer, BootstrapAnswer::Denied);
        let approve = Command::Approve {
            id: asked.id(),
            by: key(2),
        };
        assert_eq!(process.now(approve), Err(EngineError::Decided(asked.id())));
    }
}
