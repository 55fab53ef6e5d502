//! Invites that were issued here.

use eidetica_auth::{InviteProof, Permission};
use eidetica_engine::{
    Command, EngineError, Facts, GrantOutcome, Invite, Job, Redemption, RequestState, Response,
    Target, limits,
};
use eidetica_entry::PublicKey;
use eidetica_protocol::{BootstrapAnswer, Refusal};

use crate::bench::{Bench, START, address, database, key, request, secret};

const STRANGER: Facts = Facts {
    here: true,
    explicit: None,
    wildcard: None,
};
const WRITE: Permission = Permission::Write(10);
const ADMIN: u16 = 2;
const INVITE: u16 = 3;

/// The administrator's key is to grant.
fn to_grant() -> Redemption {
    Redemption::Grant { by: key(ADMIN) }
}

fn invite(count: u32) -> Invite {
    Invite {
        id: key(INVITE),
        database: database(1),
        permission: WRITE,
        by: key(ADMIN),
        count,
        expires_ms: START + 1_000_000,
        revoked: false,
        redeemed: Vec::new(),
    }
}

fn issued(count: u32) -> Bench {
    let mut bench = Bench::new();
    let put = Command::PutInvite(Box::new(invite(count)));
    assert_eq!(bench.now(put), Ok(Response::Done));
    bench
}

/// What is said to the key `n`.
fn redeem_with(bench: &mut Bench, n: u16, permission: Permission, facts: Facts) -> Redemption {
    let asked = request(n, database(1), permission, 1);
    let said = bench.engine.redeem(&asked, &key(INVITE), facts, bench.now);
    bench.drain();
    said
}

fn redeem(bench: &mut Bench, n: u16) -> Redemption {
    redeem_with(bench, n, WRITE, STRANGER)
}

fn grant(bench: &mut Bench, n: u16) -> BootstrapAnswer {
    assert_eq!(redeem(bench, n), to_grant());
    settle(bench, n, Ok(GrantOutcome::Granted))
}

fn settle(bench: &mut Bench, n: u16, result: Result<GrantOutcome, String>) -> BootstrapAnswer {
    let asked = request(n, database(1), WRITE, 1);
    let answer = bench
        .engine
        .redeemed(&asked, &key(INVITE), STRANGER, result, bench.now);
    bench.drain();
    answer
}

const fn refused(refusal: Refusal) -> Redemption {
    Redemption::Answer(Err(refusal))
}

const DENIED: Redemption = Redemption::Answer(Ok(BootstrapAnswer::Denied));

fn left(bench: &Bench) -> u32 {
    let mut invites = bench.engine.invites();
    invites.next().unwrap().left(bench.now)
}

#[test]
fn an_invite_grants_as_often_as_it_says() {
    let mut bench = issued(2);
    assert_eq!(grant(&mut bench, 10), BootstrapAnswer::Granted);
    assert_eq!(left(&bench), 1);
    assert_eq!(grant(&mut bench, 11), BootstrapAnswer::Granted);
    assert_eq!(left(&bench), 0);
    assert_eq!(redeem(&mut bench, 12), refused(Refusal::INVITE_USED));
    // Whoever has the right already is told so, and no place is taken.
    let held = Facts {
        explicit: Some(WRITE),
        ..STRANGER
    };
    assert_eq!(
        redeem_with(&mut bench, 10, WRITE, held),
        Redemption::Answer(Ok(BootstrapAnswer::Granted))
    );
    // Whoever had it and lost it gets nothing again.
    assert_eq!(redeem(&mut bench, 10), refused(Refusal::INVITE_USED));
}

#[test]
fn a_place_is_taken_before_the_grant_and_survives_a_restart() {
    let mut bench = issued(1);
    assert_eq!(redeem(&mut bench, 10), to_grant());
    // The process ends before the grant is made: the place is kept for the same key alone.
    let mut bench = bench.restart();
    assert_eq!(redeem(&mut bench, 11), refused(Refusal::INVITE_USED));
    assert_eq!(grant(&mut bench, 10), BootstrapAnswer::Granted);
    let mut bench = bench.restart();
    assert_eq!(redeem(&mut bench, 10), refused(Refusal::INVITE_USED));
    assert_eq!(left(&bench), 0);
}

/// One key asks twice at once: the second grant finds the first one's. In whatever order they are told, one place is used.
#[test]
fn a_key_that_asks_twice_at_once_uses_one_place() {
    let outcomes = [GrantOutcome::Granted, GrantOutcome::Held];
    for order in [[0, 1], [1, 0]] {
        let mut bench = issued(1);
        assert_eq!(redeem(&mut bench, 10), to_grant());
        assert_eq!(redeem(&mut bench, 10), to_grant());
        for n in order {
            let answer = settle(&mut bench, 10, Ok(outcomes[n]));
            assert_eq!(answer, BootstrapAnswer::Granted);
            assert_eq!(left(&bench), 0, "{order:?}");
        }
        assert_eq!(redeem(&mut bench, 11), refused(Refusal::INVITE_USED));
        assert_eq!(redeem(&mut bench, 10), refused(Refusal::INVITE_USED));
        let mut bench = bench.restart();
        assert_eq!(redeem(&mut bench, 11), refused(Refusal::INVITE_USED));
    }
    // Where neither is granted the place is free again, once both are over.
    let mut bench = issued(1);
    assert_eq!(redeem(&mut bench, 10), to_grant());
    assert_eq!(redeem(&mut bench, 10), to_grant());
    settle(&mut bench, 10, Err("not unlocked".to_owned()));
    assert_eq!(redeem(&mut bench, 11), refused(Refusal::INVITE_USED));
    settle(&mut bench, 10, Ok(GrantOutcome::Held));
    assert_eq!(grant(&mut bench, 11), BootstrapAnswer::Granted);
}

#[test]
fn an_invite_ends() {
    let mut bench = issued(5);
    bench.now = START + 1_000_000 - 1;
    assert_eq!(grant(&mut bench, 10), BootstrapAnswer::Granted);
    bench.now += 1;
    assert_eq!(redeem(&mut bench, 11), refused(Refusal::INVITE_EXPIRED));
    assert_eq!(left(&bench), 0);

    let mut bench = issued(5);
    assert_eq!(
        bench.now(Command::RevokeInvite(key(INVITE))),
        Ok(Response::Done)
    );
    assert_eq!(redeem(&mut bench, 11), refused(Refusal::INVITE_REVOKED));
    let mut bench = bench.restart();
    assert_eq!(redeem(&mut bench, 11), refused(Refusal::INVITE_REVOKED));
    assert_eq!(
        bench.now(Command::RevokeInvite(key(9))),
        Err(EngineError::UnknownInvite(key(9)))
    );
    // Long after its end nobody knows of it.
    bench.now = START + 1_000_000 + limits::REQUEST_MS;
    let mut bench = bench.restart();
    assert_eq!(redeem(&mut bench, 11), DENIED);
    assert_eq!(bench.engine.invites().count(), 0);
}

/// The same answer for an invite that does not exist, one for another database, and a database that is not here.
#[test]
fn a_stranger_learns_nothing_of_invites() {
    let mut bench = issued(1);
    let asked = request(10, database(1), WRITE, 1);
    let unknown = bench.engine.redeem(&asked, &key(9), STRANGER, bench.now);
    assert_eq!(unknown, DENIED);
    let elsewhere = request(10, database(2), WRITE, 1);
    let other = bench
        .engine
        .redeem(&elsewhere, &key(INVITE), STRANGER, bench.now);
    assert_eq!(other, DENIED);
    let absent = Facts {
        here: false,
        ..STRANGER
    };
    assert_eq!(redeem_with(&mut bench, 10, WRITE, absent), DENIED);
    assert_eq!(left(&bench), 1, "no place was taken");
    assert_eq!(bench.engine.incoming_requests().count(), 0);
}

#[test]
fn an_invite_changes_no_right_and_gives_no_more_than_it_says() {
    let mut bench = issued(1);
    let reader = Facts {
        explicit: Some(Permission::Read),
        ..STRANGER
    };
    assert_eq!(redeem_with(&mut bench, 10, WRITE, reader), DENIED);
    // A weaker right than the invite's is granted as asked.
    assert_eq!(
        redeem_with(&mut bench, 10, Permission::Read, STRANGER),
        to_grant()
    );
    settle(&mut bench, 10, Err("away".to_owned()));
    // More than the invite is for waits for an administrator.
    let more = Permission::Write(9);
    let id = request(11, database(1), more, 1).id();
    assert_eq!(
        redeem_with(&mut bench, 11, more, STRANGER),
        Redemption::Answer(Ok(BootstrapAnswer::Pending(id)))
    );
    assert_eq!(left(&bench), 1);
}

#[test]
fn what_cannot_be_granted_now_waits_for_an_administrator() {
    let mut bench = issued(1);
    assert_eq!(redeem(&mut bench, 10), to_grant());
    let id = request(10, database(1), WRITE, 1).id();
    let failed = settle(&mut bench, 10, Err("not unlocked".to_owned()));
    assert_eq!(failed, BootstrapAnswer::Pending(id));
    assert_eq!(left(&bench), 1, "the place is free again");
    // Later it can be: the request is decided with it.
    assert_eq!(grant(&mut bench, 10), BootstrapAnswer::Granted);
    let state = bench.engine.incoming_requests().next().unwrap().state;
    assert_eq!(state, RequestState::Approved);
    // Another right came in between: nothing was changed, and no place is used up.
    let mut bench = issued(1);
    assert_eq!(redeem(&mut bench, 10), to_grant());
    assert_eq!(
        settle(&mut bench, 10, Ok(GrantOutcome::Held)),
        BootstrapAnswer::Granted
    );
    assert_eq!(left(&bench), 1);
}

#[test]
fn invites_are_bounded() {
    let mut bench = Bench::new();
    let mut put = |change: &dyn Fn(&mut Invite)| {
        let mut invite = invite(1);
        change(&mut invite);
        bench.now(Command::PutInvite(Box::new(invite)))
    };
    let most = limits::INVITE_COUNT as u32;
    assert_eq!(put(&|invite| invite.count = most), Ok(Response::Done));
    for count in [0, most + 1] {
        let refused = put(&|invite| invite.count = count);
        assert!(
            matches!(refused, Err(EngineError::TooMany { .. })),
            "{count}"
        );
    }
    let last = START + limits::INVITE_MS;
    assert_eq!(put(&|invite| invite.expires_ms = last), Ok(Response::Done));
    assert_eq!(
        put(&|invite| invite.expires_ms = last + 1),
        Err(EngineError::LongInvite(limits::INVITE_MS))
    );
    let name = |n: usize| {
        let mut bytes = [7; 32];
        bytes[..8].copy_from_slice(&(n as u64).to_le_bytes());
        PublicKey::new(bytes)
    };
    for n in 1..limits::INVITES {
        assert_eq!(put(&|invite| invite.id = name(n)), Ok(Response::Done));
    }
    let full = put(&|invite| invite.id = name(0));
    assert!(matches!(full, Err(EngineError::TooMany { .. })));
    assert_eq!(
        put(&|invite| invite.id = name(1)),
        Ok(Response::Done),
        "in place"
    );
    // What has ended long ago makes room.
    bench.now = last + limits::REQUEST_MS;
    let mut later = invite(1);
    (later.id, later.expires_ms) = (name(0), bench.now + 1);
    let put = Command::PutInvite(Box::new(later));
    assert_eq!(bench.now(put), Ok(Response::Done));
}

#[test]
fn an_invite_of_others_is_redeemed_by_one_question() {
    let mut bench = Bench::new();
    let asked = Box::new(request(9, database(1), WRITE, 1));
    let proof = Box::new(InviteProof::make(&secret(INVITE), &asked));
    let command = bench.command(Command::Redeem {
        target: Target::Address(address("peer1:1")),
        request: asked.clone(),
        proof: proof.clone(),
    });
    let (link, ..) = bench.connect().unwrap();
    bench.connected(link, key(1));
    let (_, _, job) = bench.task().unwrap();
    assert!(matches!(job, Job::Redeem(found, shown) if found == asked && shown == proof));
    assert_eq!(bench.reply(command), None, "it is not answered yet");
}
