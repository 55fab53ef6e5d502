//! Who may read, and that nobody else learns anything.

use std::collections::BTreeSet;

use bytes::Bytes;
use eidetica_auth::{DeviceClaim, Scope, SecretKey};
use eidetica_entry::{
    Id,
    reconcile::{Detail, Span},
};
use eidetica_protocol::{
    Failure, Frame, IdPrefix, PeerFault, PushOutcome, Refusal, Reply, Request, Spans, Stores,
    TipList, handshake::PeerIdentity,
};

use crate::{
    handshake::shake,
    model::{Replica, Store},
    pair::{NOW, Parties, Wire, config, key, replies, run, serve},
};

const DAY: u64 = 24 * 3600 * 1000;

/// A database that only the key 9 may read.
fn private(entries: usize) -> Store {
    let mut replica = Replica::new(1);
    replica.commit(entries, "private");
    let readers = Some(BTreeSet::from([key(9).public()]));
    Store {
        readers,
        ..Store::new(replica)
    }
}

fn claim(of: &SecretKey, device: &SecretKey, scope: Scope, not_after_ms: u64) -> DeviceClaim {
    DeviceClaim::make(of, device.public(), scope, not_after_ms).unwrap()
}

/// What a client with these claims proves to the server, by a real handshake.
fn parties(claims: &[DeviceClaim]) -> Parties {
    let identity: PeerIdentity = shake(&key(1), &key(2), claims).unwrap();
    Parties {
        client: identity.proven,
        ..Parties::default()
    }
}

fn requests(database: Id) -> Vec<Vec<Frame>> {
    let tips = TipList::new(Vec::new());
    let invented = Id::new([0xee; 32]);
    vec![
        vec![Frame::Request(Request::Compare {
            database,
            tips,
            common: Vec::new(),
            closures: Vec::new(),
        })],
        vec![Frame::Request(Request::Compare {
            database,
            tips: TipList::new(vec![eidetica_entry::Stamp::new(
                eidetica_entry::Height(3),
                invented,
            )]),
            common: vec![database],
            closures: Vec::new(),
        })],
        vec![Frame::Request(Request::Describe {
            database,
            spans: Spans::new(&[(Span::ALL, Detail::Levels)]),
        })],
        vec![Frame::Request(Request::Describe {
            database,
            spans: Spans::new(&[]),
        })],
        vec![Frame::Request(Request::Push {
            database,
            wants: vec![IdPrefix::of(&database), IdPrefix::of(&invented)],
            closures: Vec::new(),
        })],
        vec![
            Frame::Request(Request::Push {
                database,
                wants: Vec::new(),
                closures: Vec::new(),
            }),
            Frame::Pack(Bytes::from_static(b"no pack")),
        ],
        vec![Frame::Request(Request::Void {
            database,
            leaves: vec![invented],
        })],
        vec![Frame::Request(Request::Lacking { database })],
        vec![Frame::RequestFor(
            Stores::All,
            Request::Lacking { database },
        )],
        vec![Frame::RequestFor(
            Stores::All,
            Request::Payloads {
                database,
                ids: vec![IdPrefix::of(&database), IdPrefix::of(&invented)],
            },
        )],
        vec![Frame::RequestFor(
            Stores::these([]),
            Request::Compare {
                database,
                tips: TipList::new(Vec::new()),
                common: Vec::new(),
                closures: Vec::new(),
            },
        )],
    ]
}

fn ask(parties: &Parties, server: &mut Store, request: &[Frame]) -> Vec<Bytes> {
    let frames = request
        .iter()
        .map(|frame| frame.encode().unwrap())
        .collect();
    serve(parties, server, frames, &mut Wire::default()).0
}

#[test]
fn strangers_get_byte_for_byte_what_they_get_for_nothing() {
    let database = private(0).get().database;
    let member = key(9);
    let other_database = Id::new([3; 32]);
    let strangers = [
        ("no claim", parties(&[])),
        (
            "the claim of another key",
            parties(&[claim(&key(8), &key(1), Scope::All, NOW + DAY)]),
        ),
        (
            "an expired claim",
            parties(&[claim(&member, &key(1), Scope::All, NOW - 1)]),
        ),
        (
            "a claim for another database",
            parties(&[claim(
                &member,
                &key(1),
                Scope::Databases(vec![other_database]),
                NOW + DAY,
            )]),
        ),
    ];
    for (name, stranger) in &strangers {
        for request in requests(database) {
            let denied = ask(stranger, &mut private(50), &request);
            let absent = ask(stranger, &mut Store::without(), &request);
            assert_eq!(denied, absent, "{name}: {request:?}");
            assert_eq!(
                replies(&denied),
                [Reply::Refused(Refusal::ABSENT)],
                "{name}: {request:?}"
            );
        }
    }
    // The same amount of questions, too: nothing else can be timed.
    let (mut denied, mut absent) = (private(50), Store::without());
    for request in requests(database) {
        ask(&strangers[0].1, &mut denied, &request);
        ask(&strangers[0].1, &mut absent, &request);
    }
    assert_eq!(denied.queries, absent.queries);
}

#[test]
fn members_are_served_by_claims_of_either_scope() {
    let database = private(0).get().database;
    for scope in [Scope::All, Scope::Databases(vec![database])] {
        // The last moment counts.
        let member = parties(&[claim(&key(9), &key(1), scope, NOW)]);
        let mut server = private(50);
        for request in requests(database) {
            let frames = ask(&member, &mut server, &request);
            assert_ne!(
                replies(&frames),
                [Reply::Refused(Refusal::ABSENT)],
                "{request:?}"
            );
        }
    }
}

#[test]
fn access_is_checked_before_every_page() {
    let mut replica = Replica::new(1);
    for i in 0..80 {
        // Random bytes, so that packs are large and pages many.
        let noise: Vec<u8> = (0..4096_u64)
            .flat_map(|at| blake3_like(i * 5000 + at))
            .collect();
        let tip = replica.tips()[0].id;
        replica.commit_on(&[tip], &noise);
        replica.commit(130, &format!("{i}"));
    }
    let parties = Parties::default();
    for accesses in [2, 3] {
        let mut server = Store {
            accesses,
            ..Store::new(replica.clone())
        };
        let mut client = Store::without();
        let config = config(replica.database, &parties);
        let result = run(
            config,
            &parties,
            &mut client,
            &mut server,
            &mut Wire::default(),
            &mut |_, _, _| {},
        );
        assert_eq!(result, Err(Failure::Refused(Refusal::ABSENT)));
        let got = client.get().len();
        assert!(got > 0 && got < replica.len(), "{got}");
    }
}

fn blake3_like(n: u64) -> [u8; 8] {
    let mut z = n.wrapping_mul(0x9e37_79b9_7f4a_7c15);
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    (z ^ (z >> 27))
        .wrapping_mul(0x94d0_49bb_1331_11eb)
        .to_le_bytes()
}

#[test]
fn nothing_is_pushed_to_a_server_that_may_not_read_it() {
    let mut server = Store::new(Replica::new(1));
    let mut client = Store {
        readers: Some(BTreeSet::from([key(9).public()])),
        ..server.clone()
    };
    client.get_mut().commit(10, "secret");
    let database = server.get().database;
    let claims = [
        vec![],
        vec![claim(&key(9), &key(2), Scope::All, NOW - 1)],
        vec![claim(
            &key(9),
            &key(2),
            Scope::Databases(vec![Id::new([3; 32])]),
            NOW + DAY,
        )],
    ];
    for server_claims in claims {
        let parties = Parties {
            server_claims,
            ..Parties::default()
        };
        let config = config(database, &parties);
        let outcome = run(
            config,
            &parties,
            &mut client,
            &mut server,
            &mut Wire::default(),
            &mut |_, _, _| {},
        );
        let outcome = outcome.unwrap();
        assert_eq!(
            (outcome.push, outcome.packs_sent),
            (PushOutcome::Withheld, 0)
        );
        assert_eq!(server.get().len(), 1);
    }
    let good = vec![claim(
        &key(9),
        &key(2),
        Scope::Databases(vec![database]),
        NOW + DAY,
    )];
    let parties = Parties {
        server_claims: good,
        ..Parties::default()
    };
    let config = config(database, &parties);
    run(
        config,
        &parties,
        &mut client,
        &mut server,
        &mut Wire::default(),
        &mut |_, _, _| {},
    )
    .unwrap();
    assert_eq!(server.get().len(), 11);
}

#[test]
fn a_server_that_shows_a_claim_of_another_device_is_a_liar() {
    let mut server = Store::new(Replica::new(1));
    let mut client = server.clone();
    client.get_mut().commit(1, "ours");
    let stolen = claim(&key(9), &key(77), Scope::All, NOW + DAY);
    let parties = Parties {
        server_claims: vec![stolen],
        ..Parties::default()
    };
    let config = config(server.get().database, &parties);
    let result = run(
        config,
        &parties,
        &mut client,
        &mut server,
        &mut Wire::default(),
        &mut |_, _, _| {},
    );
    assert!(
        matches!(result, Err(Failure::Peer(PeerFault::Claim(_)))),
        "{result:?}"
    );
}
