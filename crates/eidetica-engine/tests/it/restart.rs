//! What survives the end of the process.

use eidetica_auth::{DeviceClaim, Permission, Scope};
use eidetica_engine::{Command, Cursor, Engine, Facts, PeerStatus, RestoreError, limits};
use eidetica_entry::StoreName;
use eidetica_protocol::{Failure, Holding, Outcome, Stores};

use crate::bench::{Bench, START, address, config, database, key, outcome, request, secret};

#[test]
fn everything_comes_back() {
    let mut bench = Bench::new();
    bench.with_peer(1);
    bench
        .now(Command::RegisterPeer {
            key: key(1),
            name: Some("one".into()),
        })
        .unwrap();
    bench
        .now(Command::AddAddress(key(1), address("other:2")))
        .unwrap();
    bench.now(Command::Relate(key(1), database(3))).unwrap();
    let _sync = bench.sync(key(1), &[database(1)]);
    let (task, ..) = bench.task().unwrap();
    bench.synced(task, Ok(outcome()));
    bench
        .now(Command::RegisterPeer {
            key: key(2),
            name: None,
        })
        .unwrap();
    bench
        .now(Command::SetStatus(key(2), PeerStatus::Blocked))
        .unwrap();
    let facts = Facts {
        here: true,
        explicit: None,
        wildcard: None,
    };
    bench.engine.receive_bootstrap(
        &request(9, database(1), Permission::Write(1), 1),
        facts,
        START,
    );
    bench.drain();
    let claim = DeviceClaim::make(&secret(9), key(0), Scope::All, START + 1000).unwrap();
    bench
        .now(Command::PutClaim(Box::new(claim.clone())))
        .unwrap();
    bench.now(Command::Flush).unwrap();

    let seen = |bench: &Bench| {
        let engine = &bench.engine;
        (
            engine.peers().cloned().collect::<Vec<_>>(),
            engine.stats(&key(1)).cloned(),
            engine.cursor(&key(1), &database(1)).cloned(),
            engine.related(&key(1)),
            engine.incoming_requests().cloned().collect::<Vec<_>>(),
            engine.claims(START).cloned().collect::<Vec<_>>(),
            engine.admits(&key(2)),
        )
    };
    let before = seen(&bench);
    assert_eq!(before.3, [database(1), database(3)]);
    let bench = bench.restart();
    assert_eq!(seen(&bench), before);
    assert_eq!(bench.engine.claims(START + 1001).count(), 0);
}

#[test]
fn statistics_are_written_together_and_not_each_time() {
    let mut bench = Bench::new();
    bench.with_peer(1);
    bench.pass_until(bench.now + limits::FLUSH_MS);
    bench.now(Command::Relate(key(1), database(1))).unwrap();
    let writes = bench.writes;
    for _ in 0..100 {
        let _id = bench.sync(key(1), &[database(1)]);
        let (task, ..) = bench.task().unwrap();
        bench.synced(task, Ok(outcome()));
    }
    assert_eq!(bench.writes, writes);
    bench.pass_until(bench.now + limits::FLUSH_MS);
    // Of the peer, of its last syncs, of the pair.
    assert_eq!(bench.writes, writes + 3);
    bench.pass_until(bench.now + 10 * limits::FLUSH_MS);
    assert_eq!(bench.writes, writes + 3, "nothing changed");
    assert_eq!(
        bench.restart().engine.stats(&key(1)).unwrap().successes,
        100
    );
}

#[test]
fn queued_work_goes_on() {
    let mut bench = Bench::new();
    bench.with_peer(1);
    bench.now(Command::Queue(key(1), database(1))).unwrap();
    assert!(bench.task().is_some());
    let mut bench = bench.restart();
    assert!(bench.connect().is_none(), "not all at once");
    bench.pass_until(bench.now + 2000);
    let (link, dialled, pinned) = bench.connect().unwrap();
    assert_eq!((dialled.as_str(), pinned), ("http://peer1:1", Some(key(1))));
    bench.connected(link, key(1));
    let (task, ..) = bench.task().unwrap();
    bench.synced(task, Ok(outcome()));
    let mut bench = bench.restart();
    bench.pass_until(bench.now + 10_000);
    assert!(bench.connect().is_none());
}

#[test]
fn records_that_are_no_records_are_named() {
    let restore =
        |key: &str, value: &[u8]| Engine::restore(config(), [(key, value)], START).map(drop);
    let peer = format!("peer/{}", "01".repeat(32));
    for (key, value) in [
        ("", &[1][..]),
        ("peer", &[1]),
        ("other/1", &[1]),
        ("peer/zz", &[1, 0, 0, 0]),
        (&peer, &[]),
    ] {
        assert_eq!(
            restore(key, value),
            Err(RestoreError::Corrupt { key: key.into() })
        );
    }
    for value in [&[1][..], &[1, 0, 0, 0, 0], &[1, 9, 9, 9], &[0, 0, 0, 0]] {
        assert_eq!(
            restore(&peer, value),
            Err(RestoreError::Corrupt { key: peer.clone() })
        );
    }
    let newer = RestoreError::Newer {
        key: peer.clone(),
        found: 2,
        known: 1,
    };
    assert_eq!(restore(&peer, &[2, 0, 0, 0]), Err(newer));
    assert_eq!(restore(&peer, &[1, 0, 0, 0]), Ok(()));
}

/// Before payloads were looked at, a cursor ended where it now says what the peer has of them.
#[test]
fn a_cursor_of_before_says_nothing_of_payloads() {
    let mut bench = Bench::new();
    bench.with_peer(1);
    let _sync = bench.sync(key(1), &[database(1)]);
    let (task, ..) = bench.task().unwrap();
    let holding = Holding {
        stores: Stores::these([StoreName::new("notes").unwrap()]),
        lacks: true,
    };
    let synced = Outcome {
        holding: holding.clone(),
        ..outcome()
    };
    bench.synced(task, Ok(synced));
    bench.now(Command::Flush).unwrap();
    let cursor = bench.engine.cursor(&key(1), &database(1)).unwrap().clone();
    assert_eq!(cursor.holding, Some(holding));
    let is_cursor = |key: &&String| key.starts_with("cursor/");
    let at = bench.records.keys().find(is_cursor).unwrap().clone();
    let record = &bench.records[&at];
    let said = b"\x01\x01\x01\x05notes\x01";
    let (before, end) = record.split_at(record.len() - said.len());
    assert_eq!((before[0], end), (2, &said[..]));
    let old = [&[1], &before[1..]].concat();
    bench.records.insert(at, old.into());
    let bench = bench.restart();
    let holding = None;
    assert_eq!(
        bench.engine.cursor(&key(1), &database(1)),
        Some(&Cursor { holding, ..cursor })
    );
}

#[test]
fn claims_are_replaced_ended_and_removed() {
    let mut bench = Bench::new();
    let claim = |n, end| Box::new(DeviceClaim::make(&secret(n), key(0), Scope::All, end).unwrap());
    bench.now(Command::PutClaim(claim(9, START + 10))).unwrap();
    bench.now(Command::PutClaim(claim(9, START + 20))).unwrap();
    assert_eq!(
        bench
            .engine
            .claims(START)
            .map(DeviceClaim::not_after_ms)
            .collect::<Vec<_>>(),
        [START + 20]
    );
    bench.pass_until(START + 21);
    assert_eq!(bench.engine.claims(bench.now).count(), 0);
    bench.now(Command::PutClaim(claim(8, START + 90))).unwrap();
    assert_eq!(bench.records.len(), 1, "what has ended is dropped");
    bench.now(Command::RemoveClaim(key(8))).unwrap();
    assert!(bench.records.is_empty());
}

#[test]
fn the_last_syncs_are_remembered_and_no_more() {
    let mut bench = Bench::new();
    bench.with_peer(1);
    let sync = |bench: &mut Bench, result| {
        let id = bench.sync(key(1), &[database(1)]);
        let (task, ..) = bench.task().unwrap();
        bench.synced(task, result);
        assert!(bench.reply(id).is_some());
        bench.now += 1;
    };
    for _ in 0..limits::HISTORY {
        sync(&mut bench, Ok(outcome()));
    }
    let reason = "x".repeat(2 * limits::REASON_BYTES);
    sync(&mut bench, Err(Failure::Local(reason)));
    bench.now(Command::Flush).unwrap();
    let bench = bench.restart();
    let history: Vec<_> = bench.engine.history(&key(1)).collect();
    assert_eq!(history.len(), limits::HISTORY);
    let (first, last) = (history[0], history[history.len() - 1]);
    assert_eq!((first.received, first.error.as_ref()), (3, None));
    assert_eq!(
        last.error.as_ref().map(String::len),
        Some(limits::REASON_BYTES)
    );
    assert_eq!(last.at_ms, bench.now - 1);
}
