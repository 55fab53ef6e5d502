//! Keeping an instance in order: databases that are forgotten, rows that are computed again, entries that come back.

use std::sync::Arc;

use bytes::Bytes;
use eidetica_auth::{Permission, Revocation};
use eidetica_database::{
    Blame, Database, Databases, Error, Fault, Holds, IngestRequest, Remedy, limits,
};
use eidetica_entry::{Entry, Id, pack};
use eidetica_storage::{Batch, DAMAGED, Durability, Engine, MemoryEngine, Row, Space};
use eidetica_testkit::{Fault as Failing, FaultyEngine, HookedEngine, Rng, SharedEngine};

use super::damage::{copy_rows, full, rows};
use crate::closures::{all_above, note, note_as_member, project, team};
use crate::world::{all_packs, database, ingest, instance_on, key, on, packs_without, rights};

/// All rows but those that belong to no database: the format, the next number, what was named and taken away last, local
/// databases.
fn left_over(engine: &dyn Engine) -> Vec<(Space, Row)> {
    let all = Space::ALL.into_iter().flat_map(|space| {
        let rows = rows(engine, space).into_iter();
        rows.map(move |row| (space, row))
    });
    let stays = |space: Space, row: &Row| match space {
        Space::Meta => [b"Lf", b"Ln", b"Lu", b"Lj"]
            .iter()
            .any(|key| row.key[..] == key[..]),
        Space::Local => row.key[0] < 4,
        _ => false,
    };
    all.filter(|(space, row)| !stays(*space, row)).collect()
}

/// Rows that must be the same however often they were computed: all but those that count batches.
fn lasting(engine: &dyn Engine) -> Vec<(Space, Row)> {
    let all = Space::ALL.into_iter().flat_map(|space| {
        let rows = rows(engine, space).into_iter();
        rows.map(move |row| (space, row))
    });
    let counts = |row: &Row| {
        // Or say that a repair was refused, or who was last.
        [b"Lv", b"Lo", b"Le", b"Ll", b"Lu", b"Lj"]
            .iter()
            .any(|kind| row.key.starts_with(*kind))
    };
    all.filter(|(space, row)| *space != Space::Meta || !counts(row))
        .collect()
}

fn is_gone(error: Option<Error>) -> bool {
    matches!(error, Some(Error::NoDatabase(_)))
}

#[test]
fn a_forgotten_database_is_gone_with_all_its_rows() {
    let (engine, id) = full();
    let databases = on(Arc::new(engine));
    let packs = all_packs(&databases, &id);
    let db = databases.get(&id).unwrap().with_key(key(1));
    let hash = db.state_hash().unwrap();
    let (begun, import) = (db.new_transaction(), db.import());
    begun.doc("d").unwrap().set("late", 1).unwrap();
    let forgotten = databases.forget(&id).unwrap();
    assert!(
        forgotten.rows > 500 && forgotten.bytes > 10_000,
        "{forgotten:?}"
    );
    assert_eq!(left_over(&**databases.engine()), []);

    assert!(databases.find(&id).unwrap().is_none());
    assert_eq!(databases.list().unwrap(), []);
    assert!(is_gone(databases.forget(&id).err()));
    assert!(is_gone(begun.commit().err()));
    assert!(is_gone(db.tips().err()));
    assert!(is_gone(db.doc("d").and_then(|doc| doc.get_all()).err()));
    assert!(is_gone(db.state_hash().err()));
    drop(import);
    assert_eq!(left_over(&**databases.engine()), []);

    // Whoever brings it again begins it anew, under another number.
    ingest(&databases, id, &packs);
    assert_eq!(databases.get(&id).unwrap().state_hash().unwrap(), hash);
    assert!(is_gone(db.tips().err()), "an old handle finds nothing");
    let log = rows(&**databases.engine(), Space::Log);
    assert!(log.iter().all(|row| row.key[..4] == [0, 0, 0, 1]));
    assert!(databases.verify().unwrap().is_sound());
}

#[test]
fn a_database_is_forgotten_or_there_wherever_a_crash_comes() {
    let (engine, id) = full();
    let hash = on(Arc::new(engine.fork().unwrap()))
        .get(&id)
        .unwrap()
        .state_hash()
        .unwrap();
    let mut seen = [false; 2];
    for at in 0..20 {
        for fault in [Failing::Before, Failing::After] {
            let faulty = Arc::new(FaultyEngine::over(&engine, Some((at, fault))));
            let databases = on(faulty.clone());
            let failed = databases.forget(&id).is_err();
            for keep in 0..=faulty.relaxed() {
                let again = on(Arc::new(faulty.crash(keep)));
                let is_here = again.find(&id).unwrap().is_some();
                seen[usize::from(is_here)] |= failed;
                match is_here {
                    true => assert_eq!(again.get(&id).unwrap().state_hash().unwrap(), hash),
                    false => assert_eq!(left_over(&**again.engine()), []),
                }
                assert!(again.verify().unwrap().is_sound());
            }
        }
    }
    assert_eq!(seen, [true, true], "crashes came before and after");
}

#[test]
fn what_follows_from_entries_is_computed_again_whatever_is_damaged() {
    let (engine, id) = full();
    let right = lasting(&engine);
    let whole = on(Arc::new(engine.fork().unwrap()));
    let hash = whole.get(&id).unwrap().state_hash().unwrap();
    let mut rng = Rng::new(7);
    let mut kinds = std::collections::BTreeSet::new();
    let all = Space::ALL.into_iter().flat_map(|space| {
        let rows = rows(&engine, space).into_iter();
        rows.map(move |row| (space, row))
    });
    for (space, row) in &all.collect::<Vec<_>>() {
        let kind = match space {
            Space::Meta => row.key[..2].to_vec(),
            // Entries, and what is of this instance alone, do not follow from anything.
            Space::Log | Space::Local => continue,
            _ => vec![space.number()],
        };
        let is_often = kind.len() == 1;
        // Places in lists, which have no value.
        let is_bare = row.value.is_empty();
        let is_met = kinds.contains(&kind) && !is_bare;
        if (is_often && is_met && rng.below(60) > 0) || row.key[..] == *b"Lf" {
            continue;
        }
        kinds.insert(kind);
        for what in 0..4 {
            let (mut at, mut value) = (row.key.to_vec(), row.value.to_vec());
            match what {
                0 if !value.is_empty() => {
                    let byte = rng.below(value.len());
                    value[byte] ^= 1 << rng.below(8);
                }
                1 => *at.last_mut().unwrap() ^= 1 << rng.below(8),
                // As engines show a row that they know to be damaged.
                2 => value = DAMAGED.to_vec(),
                _ => {}
            }
            let damaged = engine.fork().unwrap();
            let mut batch = Batch::new();
            batch.delete(*space, &row.key);
            if what < 3 {
                batch.put(*space, &at, &value);
            }
            damaged.write(&batch, Durability::Durable).unwrap();
            let databases = on(Arc::new(damaged));
            let is_sound = databases.verify().unwrap().is_sound();
            assert!(!is_sound || what != 2, "{space} {:?}", row.key);
            if !is_sound {
                databases.repair_directory().unwrap();
                databases.repair(&id).unwrap();
            }
            let report = databases.verify().unwrap();
            assert!(
                report.is_sound(),
                "{space} {:?}: {:?}",
                row.key,
                report.faults
            );
            let db = databases.get(&id).unwrap();
            assert_eq!(db.state_hash().unwrap(), hash);
            // A store may have got another number.
            if !row.key.starts_with(b"S") {
                let found = lasting(&**databases.engine());
                assert_eq!(found, right, "{space} {:?}, {what}", row.key);
            }
        }
    }
    // All that this database has: numbers, versions, heights, stores; ids, state, versions.
    assert_eq!(kinds.len(), 8, "{kinds:?}");
}

/// A copy in which one row of the log is damaged.
fn with_damaged(engine: &MemoryEngine, row: &Row) -> Databases {
    let damaged = engine.fork().unwrap();
    let mut batch = Batch::new();
    batch.put(Space::Log, &row.key, b"damaged");
    damaged.write(&batch, Durability::Durable).unwrap();
    on(Arc::new(damaged))
}

/// A database that delegates to another one, of which only the closure is here. The closure has nothing that a database
/// could not have.
fn with_closure() -> (MemoryEngine, Databases, Id, Id) {
    let (there, here) = (
        instance_on(Arc::new(MemoryEngine::new()), 1),
        instance_on(Arc::new(MemoryEngine::new()), 2),
    );
    let team = team(&there);
    for n in 0..3 {
        note(&team, &n.to_string(), "more");
    }
    let project = project(&there, &team, Permission::Write(5));
    note_as_member(&there, &project.id(), "m1");
    ingest(
        &here,
        project.id(),
        &all_above(&there, &here, &project.id()),
    );
    // Writes the state of both.
    assert!(here.verify().unwrap().is_sound());
    let engine = MemoryEngine::new();
    copy_rows(&**here.engine(), &engine);
    (engine, there, project.id(), team.id())
}

#[test]
fn a_closure_is_repaired_and_stays_a_closure() {
    let (engine, _, project, team) = with_closure();
    let right = lasting(&engine);
    let mut repaired = 0;
    for space in [Space::Meta, Space::Ids, Space::State, Space::Versions] {
        for row in rows(&engine, space) {
            for what in 0..4 {
                let (mut at, mut value) = (row.key.to_vec(), row.value.to_vec());
                match what {
                    0 => *value.last_mut().unwrap() ^= 1,
                    1 => *at.last_mut().unwrap() ^= 1,
                    2 => value = DAMAGED.to_vec(),
                    _ => {}
                }
                if row.key[..] == *b"Lf" || row.key.starts_with(b"S") {
                    continue;
                }
                let damaged = engine.fork().unwrap();
                let mut batch = Batch::new();
                batch.delete(space, &row.key);
                if what < 3 {
                    batch.put(space, &at, &value);
                }
                damaged.write(&batch, Durability::Durable).unwrap();
                let databases = on(Arc::new(damaged));
                databases.repair_directory().unwrap();
                let report = databases.verify().unwrap();
                for id in report.databases(Remedy::Rebuild) {
                    assert!([project, team].contains(&id));
                    repaired += u64::from(id == team);
                    databases.repair(&id).unwrap();
                }
                let report = databases.verify().unwrap();
                assert!(report.is_sound(), "{:?}: {:?}", row.key, report.faults);
                assert_eq!(databases.list().unwrap(), [project]);
                let is_right = lasting(&**databases.engine()) == right;
                assert!(is_right, "{space} {:?}, {what}", row.key);
            }
        }
    }
    assert!(repaired > 10, "{repaired}");
}

#[test]
fn damaged_entries_of_a_closure_are_put_back_without_their_data() {
    let (engine, there, project, team) = with_closure();
    let right = lasting(&engine);
    for row in rows(&engine, Space::Log) {
        let databases = with_damaged(&engine, &row);
        let report = databases.verify().unwrap();
        for id in report.databases(Remedy::Fetch) {
            let lost = databases.lost(&id).unwrap().lost;
            assert!(!lost.is_empty());
            assert!(databases.repair(&id).is_err());
            let mended = databases.mend(&id, |lost| there.entry(&id, lost)).unwrap();
            assert_eq!((mended.restored, mended.lost), (lost.len() as u64, vec![]));
            databases.repair(&id).unwrap();
        }
        assert!(databases.verify().unwrap().is_sound());
        assert_eq!(databases.list().unwrap(), [project]);
        assert!(databases.find(&team).unwrap().is_none());
        assert!(lasting(&**databases.engine()) == right, "{:?}", row.key);
    }
}

#[test]
fn a_repair_that_any_failure_interrupts_is_run_again() {
    let (engine, id) = full();
    let mut batch = Batch::new();
    for space in [Space::Ids, Space::State, Space::Versions] {
        for row in rows(&engine, space).iter().step_by(3) {
            batch.delete(space, &row.key);
        }
    }
    let right = lasting(&engine);
    engine.write(&batch, Durability::Durable).unwrap();
    let mut interrupted = 0;
    for at in 0..30 {
        for fault in [Failing::Before, Failing::After] {
            let faulty = Arc::new(FaultyEngine::over(&engine, Some((at, fault))));
            let failed = on(faulty.clone()).repair(&id).is_err();
            for keep in 0..=faulty.relaxed() {
                let again = on(Arc::new(faulty.crash(keep)));
                if let Err(error) = again.get(&id) {
                    assert!(matches!(error, Error::Repairing(_)), "{error}");
                    assert_eq!(error.blame(), Blame::Unavailable);
                    interrupted += u64::from(failed);
                }
                again.repair(&id).unwrap();
                assert!(again.verify().unwrap().is_sound());
                assert_eq!(lasting(&**again.engine()), right);
            }
        }
    }
    assert!(interrupted > 3, "{interrupted}");
}

#[test]
fn nobody_sees_half_a_repair() {
    let (engine, id) = full();
    let databases = on(Arc::new(engine));
    let db = databases.get(&id).unwrap();
    let hash = db.state_hash().unwrap();
    std::thread::scope(|scope| {
        let reading = scope.spawn(|| {
            for _ in 0..200 {
                match db.state_hash() {
                    Ok(found) => assert_eq!(found, hash),
                    Err(error) => assert!(matches!(error, Error::Repairing(_)), "{error}"),
                }
            }
        });
        for _ in 0..5 {
            databases.repair(&id).unwrap();
        }
        reading.join().unwrap();
    });
    let db = db.with_key(key(1));
    db.transact(|tx| tx.doc("d")?.set("after", 1)).unwrap();
    assert!(databases.verify().unwrap().is_sound());
}

/// What happens to a row.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Harm {
    Value,
    Key,
    /// As engines show a row that they know to be damaged.
    Known,
    Gone,
}

impl Harm {
    const ALL: [Self; 4] = [Self::Value, Self::Key, Self::Known, Self::Gone];
}

/// Damages one row that holds entries.
fn damage_entries(engine: &MemoryEngine, n: usize, harm: Harm) {
    let all = rows(engine, Space::Log);
    let row = &all[n % all.len()];
    let (mut key, mut value) = (row.key.to_vec(), row.value.to_vec());
    match harm {
        Harm::Value => value[row.value.len() / 2] ^= 4,
        Harm::Key => *key.last_mut().unwrap() ^= 4,
        Harm::Known => value = DAMAGED.to_vec(),
        Harm::Gone => {}
    }
    let mut batch = Batch::new();
    batch.delete(Space::Log, &row.key);
    if harm != Harm::Gone {
        batch.put(Space::Log, &key, &value);
    }
    engine.write(&batch, Durability::Durable).unwrap();
}

#[test]
fn damaged_entries_are_named_and_put_back_from_elsewhere() {
    let (engine, id) = full();
    let right = lasting(&engine);
    let peer = on(Arc::new(engine.fork().unwrap()));
    let there = peer.get(&id).unwrap();
    for n in 0..rows(&engine, Space::Log).len() {
        for harm in Harm::ALL {
            let damaged = engine.fork().unwrap();
            damage_entries(&damaged, n, harm);
            let databases = on(Arc::new(damaged.fork().unwrap()));
            let report = databases.verify().unwrap();
            assert!(!report.is_sound());
            assert_eq!(report.databases(Remedy::Fetch), [id], "{:?}", report.faults);
            assert_eq!(report.unchecked.len(), 1);
            let named = report.faults.iter().filter_map(|found| match found.fault {
                Fault::Lost(lost) => Some(lost),
                _ => None,
            });
            let mut named: Vec<Id> = named.collect();
            // Without them nothing can be computed, and nothing is changed.
            let before = lasting(&**databases.engine());
            let refused = databases.repair(&id).unwrap_err();
            assert_eq!(refused.blame(), Blame::Corrupt);
            assert_eq!(lasting(&**databases.engine()), before);

            let lost = databases.lost(&id).unwrap();
            named.sort();
            let mut missing = lost.lost.clone();
            missing.sort();
            assert_eq!(missing, named);
            assert_eq!((lost.restored, lost.unknown), (0, 0));
            let mended = databases.mend(&id, |lost| there.get(lost)).unwrap();
            assert_eq!(
                (mended.restored, mended.lost.len()),
                (missing.len() as u64, 0)
            );
            databases.repair(&id).unwrap();
            assert!(databases.verify().unwrap().is_sound());
            let db = databases.get(&id).unwrap();
            assert_eq!(db.state_hash().unwrap(), there.state_hash().unwrap());
            assert_eq!(db.tips().unwrap(), there.tips().unwrap());
            if harm != Harm::Key {
                assert_eq!(lasting(&**databases.engine()), right);
            }
        }
    }
}

#[test]
fn other_entries_do_not_take_the_place_of_damaged_ones() {
    let (engine, id) = full();
    let peer = on(Arc::new(engine.fork().unwrap()));
    damage_entries(&engine, 0, Harm::Value);
    let databases = on(Arc::new(engine));
    let lost = databases.lost(&id).unwrap();
    assert!(!lost.lost.is_empty());
    let stranger = instance_on(Arc::new(MemoryEngine::new()), 9);
    let root = database(&stranger).id();
    let other = stranger.get(&root).unwrap().get(&root).unwrap();
    assert_eq!(databases.mend(&id, |_| Ok(other.clone())).unwrap(), lost);
    // Nor the right ones with signatures of others, or without their settings.
    let there = peer.get(&id).unwrap();
    let forge = |lost: &Id| {
        let entry = there.get(lost)?.unwrap();
        let signature = other.as_ref().unwrap().signature();
        let payloads = entry
            .payloads()
            .filter_map(|(store, payload)| Some((store.clone(), payload?.clone())));
        Ok(Some(
            Entry::new(entry.header().clone(), *signature, payloads.collect()).unwrap(),
        ))
    };
    assert_eq!(databases.mend(&id, forge).unwrap(), lost);
    let bare = |lost: &Id| {
        Ok(there
            .get(lost)?
            .map(|entry| entry.with_payloads_of(|_| false)))
    };
    let mended = databases.mend(&id, bare).unwrap();
    assert_eq!((mended.lost, mended.unknown), (vec![id], 0));
    // What lacks nothing but data is back, and its data is missing.
    assert_eq!(mended.restored, lost.lost.len() as u64 - 1);
    databases.mend(&id, |lost| there.get(lost)).unwrap();
    databases.repair(&id).unwrap();
    assert!(databases.verify().unwrap().is_sound());
    assert!(databases.get(&id).unwrap().lacks().unwrap());
}

/// Payloads of entries, as a peer gives them that is asked by the beginnings of ids.
fn given(by: &Databases, id: &Id, ids: &[Id]) -> Vec<Bytes> {
    let prefixes: Vec<&[u8]> = ids.iter().map(|id| &id.as_bytes()[..8]).collect();
    let (mut packs, mut cursor) = (Vec::new(), None);
    loop {
        let page = by.payloads(id, &prefixes, &Holds::All, cursor, 3_000);
        let page = page.unwrap();
        packs.push(page.packs);
        cursor = page.next;
        if cursor.is_none() {
            return packs.concat();
        }
    }
}

#[test]
fn damaged_entries_come_back_from_peers_and_the_repair_is_done() {
    let (engine, id) = full();
    let right = lasting(&engine);
    let peer = on(Arc::new(engine.fork().unwrap()));
    for n in 0..rows(&engine, Space::Log).len() {
        let damaged = engine.fork().unwrap();
        damage_entries(&damaged, n, Harm::ALL[n % 4]);
        let databases = on(Arc::new(damaged));
        let db = databases.get(&id).unwrap();
        assert!(!db.is_damaged().unwrap());
        assert_eq!(databases.damaged(&id, 10).unwrap(), []);
        // Whoever has not been told asks for nothing, and takes nothing.
        let packs = all_packs(&peer, &id);
        assert_eq!(ingest(&databases, id, &packs[..1]).filled, 0);
        databases.repair(&id).unwrap_err();
        let lost = databases.lost(&id).unwrap().lost;
        // It is remembered.
        let databases = on(Arc::clone(databases.engine()));
        assert!(databases.get(&id).unwrap().is_damaged().unwrap());
        assert_eq!(databases.damaged(&id, 1_000).unwrap(), lost);
        let mut filled = 0;
        for pack in given(&peer, &id, &lost) {
            assert!(databases.get(&id).unwrap().is_damaged().unwrap());
            filled += ingest(&databases, id, &[pack]).filled;
        }
        assert_eq!(filled, lost.len() as u64);
        let db = databases.get(&id).unwrap();
        assert!(!db.is_damaged().unwrap());
        assert_eq!(databases.damaged(&id, 10).unwrap(), []);
        let report = databases.verify().unwrap();
        assert!(report.is_sound(), "{:?}", report.faults);
        assert_eq!(
            db.state_hash().unwrap(),
            peer.get(&id).unwrap().state_hash().unwrap()
        );
        if lost.len() == 1 {
            assert!(lasting(&**databases.engine()) == right);
        }
    }
}

/// A peer has the database of the closure itself, or no more than its closure.
#[test]
fn damaged_entries_of_closures_come_back_from_peers() {
    let (engine, there, project, team) = with_closure();
    let right = lasting(&engine);
    let beside = on(Arc::new(engine.fork().unwrap()));
    let mut tried = 0;
    for peer in [&there, &beside] {
        for row in rows(&engine, Space::Log) {
            let databases = with_damaged(&engine, &row);
            if databases.verify().unwrap().databases(Remedy::Fetch) != [team] {
                continue;
            }
            tried += 1;
            let db = || databases.get(&project).unwrap();
            assert!(!db().is_damaged().unwrap());
            let lost = databases.lost(&team).unwrap().lost;
            databases.repair(&team).unwrap_err();
            assert!(db().is_damaged().unwrap());
            assert_eq!(databases.damaged(&project, 100).unwrap(), lost);
            // It is part of what is told of the database, which goes on.
            databases.closures(&project).unwrap();
            let packs = given(peer, &project, &lost);
            let report = ingest(&databases, project, &packs);
            assert_eq!(report.filled, lost.len() as u64);
            assert!(!db().is_damaged().unwrap());
            assert_eq!(databases.damaged(&project, 100).unwrap(), []);
            let report = databases.verify().unwrap();
            assert!(report.is_sound(), "{:?}", report.faults);
            assert_eq!(databases.list().unwrap(), [project]);
            assert!(lasting(&**databases.engine()) == right, "{:?}", row.key);
        }
    }
    assert!(tried >= 4, "{tried}");
    // Nobody is given data of a database that is only delegated to.
    let ids = [team];
    for pack in given(&there, &project, &ids) {
        let entries = pack::decode(&pack, &pack::Limits::default()).unwrap();
        let data = |entry: &Entry| {
            let mut payloads = entry.payloads();
            payloads.any(|(store, payload)| !store.is_settings() && payload.is_some())
        };
        assert!(!entries.iter().any(data));
    }
}

/// It cannot be judged, but read; and it is what a sync asks for the damaged entries by.
#[test]
fn a_repair_leaves_what_a_damaged_closure_judges_as_it_was() {
    let (engine, there, project, team) = with_closure();
    let mut tried = 0;
    for row in rows(&engine, Space::Log) {
        let databases = with_damaged(&engine, &row);
        if databases.verify().unwrap().databases(Remedy::Fetch) != [team] {
            continue;
        }
        tried += 1;
        let lost = databases.lost(&team).unwrap().lost;
        let before = databases.get(&project).unwrap().state_hash().unwrap();
        let refused = databases.repair_all(vec![project, team]);
        assert!(refused.iter().any(|(_, repaired)| repaired.is_err()));
        // A new process finds it as well.
        let databases = on(Arc::clone(databases.engine()));
        let db = databases.get(&project).unwrap();
        assert_eq!(db.state_hash().unwrap(), before);
        assert_eq!(databases.damaged(&project, 100).unwrap(), lost);
        ingest(&databases, project, &given(&there, &project, &lost));
        let report = databases.verify().unwrap();
        assert!(report.is_sound(), "{:?}", report.faults);
    }
    assert!(tried >= 2, "{tried}");
}

#[test]
fn one_database_with_many_lost_entries_keeps_no_other_from_being_repaired() {
    let engine = MemoryEngine::new();
    let there = instance_on(Arc::new(engine.fork().unwrap()), 1);
    let mut ids = [(); 2].map(|()| {
        let db = database(&there);
        for n in 0..limits::REPORTED_FAULTS as i64 + 600 {
            db.transact(|tx| tx.doc("d")?.set("n", n)).unwrap();
        }
        db.id()
    });
    ids.sort();
    assert!(there.verify().unwrap().is_sound());
    let mut batch = Batch::new();
    for row in rows(&**there.engine(), Space::Log) {
        batch.put(Space::Log, &row.key, b"damaged");
    }
    there.engine().write(&batch, Durability::Durable).unwrap();
    let report = on(Arc::clone(there.engine())).verify().unwrap();
    assert_eq!(report.faults.len(), limits::REPORTED_FAULTS);
    assert_eq!(report.databases(Remedy::Fetch), ids);
}

/// Others than the one that mends go on writing.
#[test]
fn entries_are_put_back_beside_commits() {
    let (engine, id) = full();
    let peer = on(Arc::new(engine.fork().unwrap()));
    let there = peer.get(&id).unwrap();
    let engine = Arc::new(engine);
    // It has read what it needs.
    let db = on(engine.clone()).get(&id).unwrap().with_key(key(1));
    db.transact(|tx| tx.doc("d")?.set("before", 1)).unwrap();
    damage_entries(&engine, 0, Harm::Value);
    let (hooked, interruption) = HookedEngine::interruptible(engine.clone());
    let databases = on(hooked);
    let lost = databases.lost(&id).unwrap().lost.len() as u64;
    interruption.before_write(move || {
        db.transact(|tx| tx.doc("d")?.set("meanwhile", 1)).unwrap();
    });
    let mended = databases.mend(&id, |lost| there.get(lost)).unwrap();
    assert_eq!((mended.restored, mended.lost), (lost, vec![]));
    assert!(!interruption.cancel(), "somebody committed");
    assert!(databases.verify().unwrap().is_sound());
}

#[test]
fn what_is_judged_by_a_damaged_database_is_repaired_after_it() {
    let (engine, project, team) = with_damaged_versions();
    for order in [[project, team], [team, project]] {
        let databases = on(Arc::new(engine.fork().unwrap()));
        let repaired = databases.repair_all(order.to_vec());
        assert!(repaired.iter().all(|(_, repaired)| repaired.is_ok()));
        assert_eq!(repaired.len(), 2);
        assert!(databases.verify().unwrap().is_sound());
    }
}

/// A database and the closure that it is judged by, both with a damaged version row.
fn with_damaged_versions() -> (MemoryEngine, Id, Id) {
    let (engine, _, project, team) = with_closure();
    let mut batch = Batch::new();
    for row in rows(&engine, Space::Meta) {
        if row.key.starts_with(b"Lv") {
            batch.put(Space::Meta, &row.key, b"damaged");
        }
    }
    engine.write(&batch, Durability::Durable).unwrap();
    (engine, project, team)
}

#[test]
fn compacting_goes_on_beside_a_damaged_database_and_drops_nothing_that_it_may_name() {
    let (engine, project, team) = with_damaged_versions();
    let databases = on(Arc::new(engine));
    databases.get(&project).unwrap_err();
    assert_eq!(databases.compact().unwrap().closures, 0);
    let repaired = databases.repair_all(vec![project, team]);
    assert!(repaired.iter().all(|(_, repaired)| repaired.is_ok()));
    assert!(databases.verify().unwrap().is_sound());
}

#[test]
fn a_database_with_damaged_rows_can_be_forgotten() {
    let (engine, id) = full();
    for prefix in [&b"Lv"[..], b"Lh", b"S"] {
        let damaged = engine.fork().unwrap();
        let mut batch = Batch::new();
        for row in rows(&damaged, Space::Meta) {
            if row.key.starts_with(prefix) {
                batch.put(Space::Meta, &row.key, b"damaged");
            }
        }
        damaged.write(&batch, Durability::Durable).unwrap();
        let databases: Databases = on(Arc::new(damaged));
        databases.forget(&id).unwrap();
        assert_eq!(left_over(&**databases.engine()), []);
    }
}

/// What the entries take, each encoded by itself.
fn entry_bytes(db: &Database) -> u64 {
    let entries = db.history(None, 10_000).unwrap().entries;
    entries.iter().map(|entry| entry.encoded_len() as u64).sum()
}

fn fill(db: &Database, from: i64) -> (i64, Error) {
    for n in from.. {
        if let Err(error) = db.transact(|tx| tx.doc("d")?.set(&format!("k{n}"), "x".repeat(100))) {
            return (n, error);
        }
    }
    unreachable!()
}

#[test]
fn a_database_takes_no_more_than_its_quota() {
    let a = instance_on(Arc::new(MemoryEngine::new()), 1);
    let db = database(&a);
    db.transact(|tx| tx.doc("d")?.set("first", 1)).unwrap();
    assert_eq!(db.quota().unwrap(), None);
    let held = entry_bytes(&db);
    db.set_quota(Some(held + 200_000)).unwrap();
    assert_eq!(db.quota().unwrap().unwrap().bytes, held);

    let (n, error) = fill(&db, 0);
    assert!(n > 256, "some entries were packed");
    assert!(matches!(error, Error::Full { .. }), "{error}");
    assert_eq!(error.blame(), Blame::Unavailable);
    let quota = db.quota().unwrap().unwrap();
    assert_eq!(quota.bytes, entry_bytes(&db));
    assert!(quota.bytes <= quota.limit && quota.limit - quota.bytes < 1_000);
    assert_eq!(db.entry_count().unwrap(), 2 + n as u64);
    let mut import = db.import();
    import.set("d", "imported", "x".repeat(2_000)).unwrap();
    assert!(matches!(import.commit(), Err(Error::Full { .. })));
    let mut import = db.import().with_memory_bytes(1_000);
    for n in 0..20 {
        import.set("d", &format!("i{n}"), "x".repeat(500)).unwrap();
    }
    assert!(matches!(import.commit(), Err(Error::Full { .. })));
    assert_eq!(db.quota().unwrap(), Some(quota));
    assert!(a.verify().unwrap().is_sound());

    // At the limit, and one above.
    db.set_quota(Some(quota.bytes)).unwrap();
    assert!(db.transact(|tx| tx.doc("d")?.set("more", 1)).is_err());
    db.set_quota(Some(quota.limit + 10_000)).unwrap();
    let (more, _) = fill(&db, n);
    assert!(more > n);
    a.repair(&db.id()).unwrap();
    assert_eq!(db.quota().unwrap().unwrap().bytes, entry_bytes(&db));
    db.set_quota(None).unwrap();
    db.transact(|tx| tx.doc("d")?.set("more", "x".repeat(50_000)))
        .unwrap();
    assert_eq!(db.quota().unwrap(), None);
    assert!(a.verify().unwrap().is_sound());
}

#[test]
fn entries_of_peers_come_in_when_there_is_room() {
    let (engine, id) = full();
    let there = on(Arc::new(engine));
    let packs = all_packs(&there, &id);
    let here = instance_on(Arc::new(MemoryEngine::new()), 2);
    let first = there.get(&id).unwrap().get(&id).unwrap().unwrap();
    let root = [eidetica_entry::pack::encode(&[first]).unwrap()];
    ingest(&here, id, &root);
    let db = here.get(&id).unwrap();
    db.set_quota(Some(10_000)).unwrap();
    for _ in 0..2 {
        let request = eidetica_database::IngestRequest::new(id, &packs);
        let refused = here.ingest(request).unwrap_err();
        assert!(matches!(refused, Error::Full { .. }), "{refused}");
        assert_eq!(refused.blame(), Blame::Unavailable);
        assert_eq!(db.entry_count().unwrap(), 1);
    }
    db.set_quota(Some(10_000_000)).unwrap();
    ingest(&here, id, &packs);
    let hash = there.get(&id).unwrap().state_hash().unwrap();
    assert_eq!(db.state_hash().unwrap(), hash);
    assert_eq!(db.quota().unwrap().unwrap().bytes, entry_bytes(&db));
    assert!(here.verify().unwrap().is_sound());
}

/// Takes everything from the thief, key 2, above a cut.
fn revoke(db: &Database, cut: &[Id]) -> Result<(), Error> {
    let revocation = Revocation {
        cut: Some(cut.iter().copied().collect()),
        ..Revocation::of(key(2).public())
    };
    db.transact(|tx| tx.settings().revoke(revocation.clone()))
}

/// A database that a thief of key 2 may write, with a first entry.
fn with_thief(on: &Databases) -> (Database, Id) {
    let thief = key(2);
    let new = rights(&key(1), &[(&*thief, Permission::Write(5))]);
    let db = on.create(new, key(1)).unwrap();
    db.transact(|tx| tx.doc("d")?.set("honest", 1)).unwrap();
    let honest = db.tips().unwrap()[0].id;
    (db, honest)
}

#[test]
fn who_fills_a_database_can_be_revoked_and_the_reserve_ends() {
    let a = instance_on(Arc::new(MemoryEngine::new()), 1);
    let (db, honest) = with_thief(&a);
    let limit = entry_bytes(&db) + 20_000;
    db.set_quota(Some(limit)).unwrap();
    let theirs = db.with_key(key(2));
    fill(&theirs, 0);
    assert!(matches!(fill(&db, 500).1, Error::Full { .. }));
    // Giving up keys is what everybody may do, as often as they like.
    let rotated = theirs.transact(|tx| tx.settings().rotate(key(3).public(), "next"));
    assert!(matches!(rotated, Err(Error::Full { .. })), "{rotated:?}");
    revoke(&db, &[honest]).unwrap();
    assert!(theirs.transact(|tx| tx.doc("d")?.set("more", 1)).is_err());
    assert_eq!(
        db.doc("d").unwrap().get_all().unwrap().len(),
        1,
        "what the thief wrote is gone"
    );
    // Settings with data beside them are data.
    let both = db.transact(|tx| {
        tx.settings().set_name("renamed")?;
        tx.doc("d")?.set("x", 1)
    });
    assert!(matches!(both, Err(Error::Full { .. })));
    let mut last = Ok(());
    for n in 0.. {
        last = db.transact(|tx| {
            tx.settings()
                .set("note", format!("{n}{}", "x".repeat(60_000)))
        });
        if last.is_err() {
            break;
        }
    }
    assert!(matches!(last, Err(Error::Full { .. })));
    let held = db.quota().unwrap().unwrap().bytes;
    let reserve = limits::QUOTA_RESERVE_BYTES;
    assert!(held <= limit + reserve && held > limit + reserve - 65_000);
    assert!(a.verify().unwrap().is_sound());
}

#[test]
fn payloads_of_void_entries_fill_no_database_beyond_its_quota() {
    let there = instance_on(Arc::new(MemoryEngine::new()), 1);
    let (db, honest) = with_thief(&there);
    let theirs = db.with_key(key(2));
    for n in 0..20 {
        theirs
            .transact(|tx| tx.doc("d")?.set(&format!("s{n}"), "x".repeat(5_000)))
            .unwrap();
    }
    revoke(&db, &[honest]).unwrap();
    let packs = all_packs(&there, &db.id());
    let stripped: Vec<Bytes> = packs
        .iter()
        .map(|bytes| {
            let entries = pack::decode(bytes, &pack::Limits::default()).unwrap();
            let entries: Vec<Entry> = entries.iter().map(Entry::without_data).collect();
            pack::encode(&entries).unwrap()
        })
        .collect();
    let here = instance_on(Arc::new(MemoryEngine::new()), 2);
    assert_eq!(ingest(&here, db.id(), &stripped).void, 20);
    let full = here.get(&db.id()).unwrap();
    let limit = entry_bytes(&full) + 12_000;
    full.set_quota(Some(limit)).unwrap();
    let filled = ingest(&here, db.id(), &packs).filled;
    assert!((1..5).contains(&filled), "{filled}");
    let quota = full.quota().unwrap().unwrap();
    assert!(quota.bytes <= limit, "{quota:?}");
    assert!(here.verify().unwrap().is_sound());
    full.set_quota(None).unwrap();
    assert!(ingest(&here, db.id(), &packs).filled > 15);
    assert!(here.verify().unwrap().is_sound());
}

#[test]
fn a_revocation_comes_into_a_full_database_from_a_peer() {
    let there = instance_on(Arc::new(MemoryEngine::new()), 1);
    let (db, honest) = with_thief(&there);
    let begun = all_packs(&there, &db.id());
    let theirs = db.with_key(key(2));
    let spam = |bytes: usize| theirs.transact(|tx| tx.doc("d")?.set("spam", "x".repeat(bytes)));
    // One who is full below it, up to half of the reserve, and above it.
    for (bytes, comes) in [(200_000, true), (400_000, false)] {
        let here = instance_on(Arc::new(MemoryEngine::new()), 2);
        ingest(&here, db.id(), &begun);
        let full = here.get(&db.id()).unwrap();
        full.set_quota(Some(entry_bytes(&full) + 1_000)).unwrap();
        let known: Vec<Id> = full.tips().unwrap().iter().map(|tip| tip.id).collect();
        spam(bytes).unwrap();
        let forked = db.new_transaction_at(&known).unwrap();
        revoke(&db, &[honest]).unwrap();
        forked
            .settings()
            .set_name(&format!("forked {bytes}"))
            .unwrap();
        let forked = forked.commit().unwrap().unwrap();
        db.transact(|tx| tx.doc("d")?.set("later", "x".repeat(10_000)))
            .unwrap();
        let packs = packs_without(&there, &db.id(), &known);
        for _ in 0..2 {
            let request = IngestRequest::new(db.id(), &packs);
            let refused = here.ingest(request).unwrap_err();
            assert!(matches!(refused, Error::Full { .. }), "{refused}");
            let revoked = full.authority().unwrap();
            let revoked = revoked.revocations(&key(2).public()).next().is_some();
            assert_eq!(revoked, comes);
            // What is above entries that are here has nothing else to wait for.
            assert!(full.get(&forked.id()).unwrap().is_some());
            assert_eq!(full.doc("d").unwrap().get("later").unwrap(), None);
        }
        assert!(here.verify().unwrap().is_sound());
        full.set_quota(None).unwrap();
        ingest(&here, db.id(), &packs);
        assert_eq!(full.state_hash().unwrap(), db.state_hash().unwrap());
        assert!(here.verify().unwrap().is_sound());
        if comes {
            // They are trusted again, to fill another one.
            let grant = |tx: &eidetica_database::Transaction| {
                tx.settings()
                    .grant(key(2).public(), Permission::Write(5), "again")
            };
            db.transact(grant).unwrap();
        }
    }
}

#[test]
fn other_processes_find_a_database_gone_full_or_repaired() {
    let rows: Arc<dyn Engine> = Arc::new(MemoryEngine::new());
    let open = |n| instance_on(Arc::new(SharedEngine::new(Arc::clone(&rows))), n);
    let (one, two) = (open(1), open(2));
    let mine = database(&one);
    let id = mine.id();
    let theirs = two.get(&id).unwrap().with_key(key(1));
    mine.transact(|tx| tx.doc("d")?.set("a", 1)).unwrap();
    assert_eq!(
        theirs.doc("d").unwrap().get_as::<i64>("a").unwrap(),
        Some(1)
    );

    mine.set_quota(Some(100_000)).unwrap();
    let (_, error) = fill(&theirs, 0);
    assert!(matches!(error, Error::Full { .. }), "{error}");
    assert_eq!(mine.quota().unwrap().unwrap().bytes, entry_bytes(&mine));
    mine.set_quota(None).unwrap();

    one.repair(&id).unwrap();
    theirs.transact(|tx| tx.doc("d")?.set("b", 2)).unwrap();
    assert_eq!(mine.doc("d").unwrap().get_as::<i64>("b").unwrap(), Some(2));
    assert!(two.verify().unwrap().is_sound());

    one.forget(&id).unwrap();
    assert!(is_gone(theirs.doc("d").and_then(|doc| doc.get_all()).err()));
    assert!(is_gone(
        theirs.transact(|tx| tx.doc("d")?.set("c", 3)).err()
    ));
    assert!(two.find(&id).unwrap().is_none());
    assert_eq!(left_over(&*rows), []);
}

#[test]
fn compacting_changes_nothing_that_is_seen() {
    let (engine, id) = full();
    let before = lasting(&engine);
    let databases = on(Arc::new(engine));
    let hash = databases.get(&id).unwrap().state_hash().unwrap();
    databases.compact().unwrap();
    assert_eq!(databases.get(&id).unwrap().state_hash().unwrap(), hash);
    assert_eq!(lasting(&**databases.engine()), before);
}
