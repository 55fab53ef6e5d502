//! Rights that were given and taken, on replicas that hear of it in different orders.

use eidetica_auth::{AuthRecord, KeyName, Permission, Revocation};
use eidetica_database::{Config, Databases, Error, Fault, limits};
use eidetica_entry::{Entry, Id, Ids};
use eidetica_storage::{Batch, Direction, Durability, KeyRange, Space};
use eidetica_testkit::{FaultyEngine, Rng};
use std::sync::Arc;

use crate::story::{Story, grant, memory, revoke, view};
use crate::world::{engine, ingest_entries, instance_on, key, sync};

/// Of an admin who says why and what stays.
fn revoke_but(who: u8, cut: &[Id], replaces: &[Id]) -> AuthRecord {
    AuthRecord::Revoke(Revocation {
        cut: Some(Ids::from(cut)),
        replaces: Ids::from(replaces),
        ..Revocation::of(key(who).public())
    })
}

#[test]
fn a_revoked_key_backdates_to_no_avail() {
    let mut story = Story::new();
    let honest = story.write(&[0], 4, "a", 1);
    let revocation = story.say(&[honest], 1, revoke(4));
    // On old parents, on the root, and both on top of each other.
    let backdated = story.write(&[honest], 4, "a", 2);
    let on_root = story.write(&[0], 4, "b", 3);
    let further = story.write(&[backdated, on_root], 4, "c", 4);
    let view = story.told_in_all_orders();
    assert_eq!(view.void, story.ids(&[backdated, on_root, further]));
    assert_eq!(view.tips.len(), 1);
    assert_eq!(view.tips[0].id, story.entries[revocation].id());
    let db = story.deliver(&[1, 2, 3, 4, 5], &memory(1));
    assert_eq!(db.doc("d").unwrap().get("a").unwrap(), Some(1.into()));
    assert_eq!(db.doc("d").unwrap().get("b").unwrap(), None);
}

#[test]
fn what_a_revoked_key_granted_falls_with_it() {
    let mut story = Story::new();
    let revocation = story.say(&[0], 1, revoke(2));
    let accomplice = story.say(&[0], 2, grant(6, Permission::Write(5)));
    let writes = story.write(&[accomplice], 6, "x", 1);
    let honest = story.write(&[accomplice], 5, "y", 2);
    let view = story.told_in_all_orders();
    // Honest work above something void stays.
    assert_eq!(view.void, story.ids(&[accomplice, writes]));
    let mut tips: Vec<Id> = view.tips.iter().map(|tip| tip.id).collect();
    tips.sort_unstable();
    assert_eq!(tips, Vec::from_iter(story.ids(&[revocation, honest])));
    assert_eq!(view.rights[&key(6).public()], None);
}

#[test]
fn equals_that_revoke_each_other_both_stay() {
    let mut story = Story::new();
    let one = story.say(&[0], 2, revoke(3));
    let other = story.say(&[0], 3, revoke(2));
    let data = story.write(&[one, other], 2, "x", 1);
    let view = story.told_in_all_orders();
    // Neither is stronger than the other, so neither takes anything.
    assert!(view.void.is_empty());
    assert_eq!(view.tips[0].id, story.entries[data].id());
}

#[test]
fn whoever_revokes_the_revoker_undoes_it() {
    let mut story = Story::new();
    let data = story.write(&[0], 4, "x", 1);
    let wrong = story.say(&[0], 2, revoke(4));
    let right = story.say(&[0], 1, revoke(2));
    let view = story.told_in_all_orders();
    assert_eq!(view.void, story.ids(&[wrong]));
    assert!(view.rights[&key(4).public()].is_some());
    let tips: Vec<Id> = view.tips.iter().map(|tip| tip.id).collect();
    assert!(tips.contains(&story.entries[data].id()) && tips.contains(&story.entries[right].id()));
}

#[test]
fn a_grant_lifts_only_by_who_is_as_strong() {
    let mut story = Story::new();
    let revocation = story.say(&[0], 1, revoke(4));
    let weak = story.say(&[revocation], 2, grant(4, Permission::Write(3)));
    let strong = story.say(&[revocation], 1, grant(5, Permission::Write(0)));
    let again = story.say(&[weak, strong], 1, grant(4, Permission::Write(2)));
    let data = story.write(&[again], 4, "x", 1);
    let view = story.told_in_all_orders();
    assert!(view.void.is_empty(), "nobody wrote without a right");
    assert_eq!(view.tips[0].id, story.entries[data].id());
    // Below the strong grant the key has nothing to write by, whatever the weak one says.
    let refused = story.try_add(&[weak], &key(4), |tx| {
        tx.doc("d").unwrap().set("y", 1).unwrap();
    });
    assert!(matches!(refused, Err(Error::Refused(_))), "{refused:?}");
}

#[test]
fn concurrent_rotations_and_revocations_agree() {
    let mut story = Story::new();
    let to = |who: u8| AuthRecord::Rotate {
        to: key(who).public(),
        name: KeyName::default(),
    };
    let mine = story.say(&[0], 4, to(6));
    let stolen = story.say(&[0], 4, to(7));
    let by_new = story.write(&[mine], 6, "x", 1);
    let by_thief = story.write(&[stolen], 7, "x", 2);
    let view = story.told_in_all_orders();
    assert!(view.void.is_empty());
    // The rotation that was wrong lies outside of the cut.
    story.say(&[mine], 1, revoke(4));
    let view = story.told_in_all_orders();
    assert_eq!(view.void, story.ids(&[stolen, by_thief]));
    assert!(!view.void.contains(&story.entries[by_new].id()));
}

#[test]
fn the_wildcard_readmits_nobody() {
    let mut story = Story::new();
    let open = story.say(&[0], 1, AuthRecord::Wildcard(Some(Permission::Write(7))));
    let revocation = story.say(&[open], 1, revoke(4));
    let stranger = story.write(&[open], 8, "x", 1);
    let revoked = story.write(&[open], 4, "y", 1);
    let closed = story.say(&[revocation, stranger], 1, AuthRecord::Wildcard(None));
    let late = story.write(&[open], 8, "z", 1);
    let view = story.told_in_all_orders();
    assert_eq!(view.void, story.ids(&[revoked, late]));
    assert_eq!(view.tips[0].id, story.entries[closed].id());
}

#[test]
fn a_corrected_cut_brings_offline_work_back() {
    let mut story = Story::new();
    let offline = story.write(&[0], 4, "x", 1);
    let more = story.write(&[offline], 4, "y", 1);
    let wrong = story.say(&[0], 1, revoke(4));
    assert_eq!(story.told_in_all_orders().void, story.ids(&[offline, more]));
    let ids = story.entries[offline].id();
    let revocation = story.entries[wrong].id();
    story.say(
        &[wrong, more],
        1,
        revoke_but(4, &[ids, revocation], &[revocation]),
    );
    assert_eq!(story.told_in_all_orders().void, story.ids(&[more]));
}

#[test]
fn a_single_entry_is_adopted() {
    let mut story = Story::new();
    let offline = story.write(&[0], 4, "x", 1);
    let more = story.write(&[offline], 4, "y", 1);
    let revocation = story.say(&[0], 1, revoke(4));
    let adopt = AuthRecord::Adopt {
        entries: Ids::from(story.entries[more].id()),
    };
    story.say(&[revocation, more], 1, adopt);
    assert_eq!(story.told_in_all_orders().void, story.ids(&[offline]));
}

#[test]
fn three_replicas_meet_in_the_middle() {
    let mut story = Story::new();
    let a = story.write(&[0], 4, "x", 1);
    let b = story.say(&[a], 1, revoke(4));
    let c = story.write(&[a], 4, "x", 2);
    let d = story.write(&[c], 5, "y", 1);
    let replicas = [memory(1), memory(2), memory(3)];
    story.deliver(&[a, b], &replicas[0]);
    story.deliver(&[a, c, d], &replicas[1]);
    story.deliver(&[a], &replicas[2]);
    // A revoked key goes on where nobody has told it.
    let db = replicas[1].get(&story.id()).unwrap().with_key(key(4));
    db.transact(|tx| tx.doc("d")?.set("z", 1)).unwrap();
    for (from, to) in [(1, 2), (0, 2), (2, 1), (1, 0)] {
        sync(&replicas[from], &replicas[to], &story.id());
    }
    let views: Vec<_> = replicas
        .iter()
        .map(|replica| {
            let db = replica.get(&story.id()).unwrap();
            (db.state_hash().unwrap(), db.tips().unwrap())
        })
        .collect();
    assert_eq!(views[0], views[1]);
    assert_eq!(views[1], views[2]);
    let error = db.transact(|tx| tx.doc("d")?.set("z", 2)).unwrap_err();
    assert!(matches!(error, Error::Refused(_)), "{error}");
}

#[test]
fn what_would_be_void_at_once_is_refused() {
    let mut story = Story::new();
    let data = story.write(&[0], 4, "x", 1);
    let revocation = story.say(&[data], 1, revoke(4));
    let db = story
        .deliver(&[data, revocation], &memory(1))
        .with_key(key(4));
    let fork = db.new_transaction_at(&[story.entries[data].id()]).unwrap();
    fork.doc("d").unwrap().set("x", 2).unwrap();
    let error = fork.commit().unwrap_err();
    assert!(matches!(error, Error::WouldBeVoid(_)), "{error}");
    assert_eq!(db.entry_count().unwrap(), 3);
}

/// Everything that can be said, by anybody, anywhere.
fn any_entry(story: &mut Story, rng: &mut Rng) {
    let recent = story.entries.len().min(8);
    let mut at: Vec<usize> = (0..1 + rng.below(2))
        .map(|_| story.entries.len() - 1 - rng.below(recent))
        .collect();
    at.sort_unstable();
    at.dedup();
    let who = *rng.pick(&[1, 2, 3, 4, 5, 6, 7, 9]);
    let whom = *rng.pick(&[2, 3, 4, 5, 6, 7]);
    let past: Vec<Entry> = story.past(&at);
    let some = |rng: &mut Rng| rng.pick(&past).id();
    let permission = *rng.pick(&[
        Permission::Read,
        Permission::Write(1),
        Permission::Write(4),
        Permission::Admin(2),
    ]);
    let record = match rng.below(14) {
        0 | 1 => grant(whom, permission),
        2 => revoke(whom),
        3 => revoke_but(whom, &[some(rng)], &[]),
        4 => {
            let old = past.iter().filter(|entry| entry.header().writes_settings());
            let old: Vec<Id> = old.map(Entry::id).collect();
            revoke_but(whom, &[some(rng)], &[*rng.pick(&old)])
        }
        5 => AuthRecord::Revoke(Revocation {
            to: Some(permission),
            ..Revocation::of(key(whom).public())
        }),
        6 => AuthRecord::Wildcard(rng.one_in(2).then_some(Permission::Write(5))),
        7 => AuthRecord::Renounce,
        8 => AuthRecord::Rotate {
            to: key(whom).public(),
            name: KeyName::default(),
        },
        9 => AuthRecord::Adopt {
            entries: Ids::from(some(rng)),
        },
        _ => {
            let path = *rng.pick(&["a", "a.b", "l", "n"]);
            let value = rng.below(50) as i64;
            let _ = story.try_add(&at, &key(who), |tx| {
                let doc = tx.doc("d").unwrap();
                match rng.below(4) {
                    0 => doc.delete(path).unwrap(),
                    1 => doc.increment("n", value).unwrap(),
                    2 => doc.push("l", value).unwrap(),
                    _ => doc.set(path, value).unwrap(),
                }
            });
            return;
        }
    };
    let _ = story.try_add(&at, &key(who), |tx| tx.settings().record(record));
}

pub(crate) fn random_story(rng: &mut Rng, len: usize) -> Story {
    let mut story = Story::new();
    let mut attempts = 0;
    while story.entries.len() < len && attempts < 4 * len {
        any_entry(&mut story, rng);
        attempts += 1;
    }
    story
}

#[test]
fn random_histories_converge() {
    let mut voids = 0;
    for seed in 0..16 {
        let mut rng = Rng::new(seed);
        let len = 6 + rng.below(20);
        let story = random_story(&mut rng, len);
        voids += story.told_in_some_orders(&mut rng, 4).void.len();
    }
    assert!(voids > 8, "only {voids} void entries: nothing was tested");
}

#[test]
fn random_histories_converge_on_the_engine_of_the_matrix() {
    for seed in 100..103 {
        let mut rng = Rng::new(seed);
        let story = random_story(&mut rng, 20);
        let order: Vec<usize> = (1..story.entries.len()).collect();
        let mut other = order.clone();
        crate::story::shuffle(&mut other, &mut rng);
        let here = story.deliver(&order, &instance_on(engine(), 1));
        let there = story.deliver(&other, &memory(2));
        assert_eq!(view(&here), view(&there));
    }
}

#[test]
fn the_past_is_judged_by_the_past() {
    let mut compared = 0;
    for seed in 200..212 {
        let mut rng = Rng::new(seed);
        let story = random_story(&mut rng, 14);
        let order: Vec<usize> = (1..story.entries.len()).collect();
        let db = story.deliver(&order, &memory(1));
        for n in 0..story.entries.len() {
            let then = memory(2);
            ingest_entries(&then, story.id(), &story.past(&[n]));
            let then = then.get(&story.id()).unwrap();
            let as_of = db.as_of(&[story.entries[n].id()]).unwrap();
            assert_eq!(
                as_of.doc("d").unwrap().get_all().unwrap(),
                then.doc("d").unwrap().get_all().unwrap(),
                "seed {seed}, entry {n}"
            );
            compared += 1;
        }
    }
    assert!(compared > 60);
}

/// A revoked author with this many entries, and the revocation.
fn prolific(entries: usize) -> (Story, Vec<Entry>, Entry) {
    let story = Story::new();
    let author = memory(1);
    ingest_entries(&author, story.id(), &story.entries);
    let db = author.get(&story.id()).unwrap().with_key(key(4));
    let mut made = Vec::new();
    for n in 0..entries {
        let tx = db.new_transaction();
        tx.doc("d")
            .unwrap()
            .set(&format!("k{}", n % 97), n as i64)
            .unwrap();
        made.push(tx.commit().unwrap().unwrap());
    }
    let mut story = story;
    let revocation = story.say(&[0], 1, revoke(4));
    let revocation = story.entries[revocation].clone();
    (story, made, revocation)
}

#[test]
fn many_changes_are_settled_in_steps_and_never_seen_half() {
    for count in [limits::SETTLE_AT_ONCE, limits::SETTLE_AT_ONCE + 1] {
        let (story, made, revocation) = prolific(count);
        let replica = memory(2);
        ingest_entries(&replica, story.id(), &story.entries[..1]);
        for chunk in made.chunks(256) {
            ingest_entries(&replica, story.id(), chunk);
        }
        let db = replica.get(&story.id()).unwrap();
        db.catch_up().unwrap();
        assert_eq!(db.doc("d").unwrap().get_all().unwrap().len(), 97);
        ingest_entries(&replica, story.id(), std::slice::from_ref(&revocation));
        assert_eq!(db.is_settling(), count > limits::SETTLE_AT_ONCE);
        assert!(db.doc("d").unwrap().get_all().unwrap().is_empty());
        assert!(!db.is_settling());
        assert_eq!(view(&db).void.len(), count.min(1_000));
        assert_eq!(db.tips().unwrap(), [revocation.stamp()]);
    }
}

/// What becomes effective in a store that nobody had written to gives it a number; it must be there whatever read fails
/// on the way.
#[test]
fn a_store_that_settling_begins_is_there_after_a_failed_read() {
    const EACH: usize = limits::SETTLE_AT_ONCE / 2 + 100;
    let mut story = Story::new();
    let authors: Vec<Vec<Entry>> = [4, 5]
        .map(|author| {
            let replica = memory(author);
            ingest_entries(&replica, story.id(), &story.entries[..1]);
            let db = replica.get(&story.id()).unwrap().with_key(key(author));
            let write = |n: usize| {
                let tx = db.new_transaction();
                let doc = tx.doc("late").unwrap();
                doc.set(&format!("{author} {}", n % 97), n as i64).unwrap();
                tx.commit().unwrap().unwrap()
            };
            (0..EACH).map(write).collect()
        })
        .into();
    let first = story.say(&[0], 2, revoke(4));
    let second = story.say(&[first], 2, revoke(5));
    let last = story.say(&[0], 1, revoke(2));
    let engine = Arc::new(FaultyEngine::new());
    let replica = instance_on(engine.clone(), 1);
    ingest_entries(&replica, story.id(), &story.entries[..=second]);
    for chunk in authors.iter().flat_map(|made| made.chunks(256)) {
        ingest_entries(&replica, story.id(), chunk);
    }
    let db = replica.get(&story.id()).unwrap();
    assert!(db.stores().unwrap().is_empty(), "all are void");
    ingest_entries(&replica, story.id(), &story.entries[last..]);
    assert!(db.is_settling());
    let rows = |databases: &Databases| {
        let db = databases.get(&story.id())?;
        Ok::<_, Error>(db.doc("late")?.get_all()?.len())
    };
    let settle = |number: Option<u64>| {
        let fault = number.map(|number| (number, eidetica_testkit::Fault::Read));
        let engine = Arc::new(FaultyEngine::over(&engine.crash(usize::MAX), fault));
        let replica = Databases::open(engine.clone(), Config::new([2; 32]));
        let begun = engine.reads();
        if let Ok(replica) = replica {
            let shown = rows(&replica).or_else(|_| rows(&replica)).unwrap();
            assert_eq!(shown, 2 * 97, "{number:?}");
            let again = instance_on(Arc::new(engine.crash(usize::MAX)), 3);
            assert_eq!(rows(&again).unwrap(), shown, "{number:?}");
        }
        begun..engine.reads()
    };
    let reads = settle(None);
    assert!(reads.clone().count() > 5, "{reads:?}");
    for number in reads {
        settle(Some(number));
    }
}

#[test]
fn settling_goes_on_after_a_crash() {
    let (story, made, revocation) = prolific(limits::SETTLE_AT_ONCE + limits::SETTLE_STEP);
    let engine = eidetica_testkit::FaultyEngine::new();
    let engine = Arc::new(engine);
    let replica = instance_on(engine.clone(), 1);
    ingest_entries(&replica, story.id(), &story.entries[..1]);
    for chunk in made.chunks(1_024) {
        ingest_entries(&replica, story.id(), chunk);
    }
    let db = replica.get(&story.id()).unwrap();
    db.catch_up().unwrap();
    ingest_entries(&replica, story.id(), &[revocation]);
    assert!(db.is_settling());
    let settled = {
        let other = instance_on(Arc::new(engine.crash(usize::MAX)), 2);
        let db = other.get(&story.id()).unwrap();
        assert!(db.is_settling());
        view(&db)
    };
    for number in 0..3 {
        let broken = eidetica_testkit::FaultyEngine::over(
            &engine.crash(usize::MAX),
            Some((number, eidetica_testkit::Fault::Before)),
        );
        let broken = Arc::new(broken);
        let other = instance_on(broken.clone(), 2);
        let db = other.get(&story.id()).unwrap();
        let _ = db.catch_up();
        let after = instance_on(Arc::new(broken.crash(usize::MAX)), 3);
        assert_eq!(view(&after.get(&story.id()).unwrap()), settled);
    }
}

#[test]
fn void_entries_that_nobody_needs_are_bounded() {
    let mut story = Story::new();
    let revocation = story.say(&[0], 1, revoke(4));
    let limit = limits::VOID_PER_AUTHOR;
    let forge = memory(9);
    ingest_entries(&forge, story.id(), &story.entries[..1]);
    let author = forge.get(&story.id()).unwrap().with_key(key(4));
    let mut leaves = Vec::new();
    for n in 0..=limit {
        let tx = author.new_transaction_at(&[story.id()]).unwrap();
        tx.doc("d").unwrap().set("k", n as i64).unwrap();
        leaves.push(tx.commit().unwrap().unwrap());
    }
    let replica = memory(2);
    let db = story.deliver(&[revocation], &replica);
    let (within, above) = leaves.split_at(limit as usize);
    let report = ingest_entries(&replica, story.id(), within);
    assert_eq!((report.new, report.void, report.refused), (limit, limit, 0));
    for _ in 0..2 {
        let report = ingest_entries(&replica, story.id(), above);
        assert_eq!((report.new, report.void, report.refused), (0, 0, 1));
    }
    assert_eq!(db.pending(), (0, 0));
    assert_eq!(db.tips().unwrap(), [story.entries[revocation].stamp()]);
    // Nothing of it is passed on, but an admin may ask for it.
    let page = replica
        .difference(&story.id(), &[], None, usize::MAX)
        .unwrap();
    let other = memory(3);
    crate::world::ingest(&other, story.id(), &page.packs);
    assert_eq!(other.get(&story.id()).unwrap().entry_count().unwrap(), 2);
    let tips = replica.void_tips(&story.id(), 10).unwrap().unwrap();
    assert_eq!(tips.len(), 10);
    // What an honest entry builds on is taken in whatever the number.
    let above_id = above[0].id();
    let honest = author.with_key(key(5));
    let tx = honest.new_transaction_at(&[above_id]).unwrap();
    tx.doc("d").unwrap().set("honest", 1).unwrap();
    let honest = tx.commit().unwrap().unwrap();
    let report = ingest_entries(&replica, story.id(), &[above[0].clone(), honest.clone()]);
    assert_eq!((report.new, report.void, report.refused), (2, 1, 0));
    // In two steps too: the honest one waits for what it builds on.
    let replica = memory(4);
    story.deliver(&[revocation], &replica);
    ingest_entries(&replica, story.id(), within);
    assert_eq!(
        ingest_entries(&replica, story.id(), std::slice::from_ref(&honest)).pending,
        1
    );
    assert_eq!(ingest_entries(&replica, story.id(), above).new, 2);
    let db = replica.get(&story.id()).unwrap();
    assert!(db.verify().unwrap().is_sound());
    assert_eq!(db.doc("d").unwrap().get("honest").unwrap(), Some(1.into()));
}

/// Rows of marks, leaves and authors of void entries, whose damage is to be found.
#[test]
fn every_damaged_row_about_void_entries_is_found() {
    let mut story = Story::new();
    let data = story.write(&[0], 4, "x", 1);
    let revocation = story.say(&[0], 1, revoke(4));
    let engine = engine();
    let db = story.deliver(&[data, revocation], &instance_on(engine.clone(), 1));
    assert_eq!(view(&db).void, story.ids(&[data]));
    let mut kinds = std::collections::BTreeSet::new();
    let rows: Vec<_> = {
        let snapshot = engine.snapshot().unwrap();
        let mut rows = Vec::new();
        for tag in [b"Lm", b"Lt", b"Lw", b"Lv"] {
            let range = KeyRange::prefix(tag.to_vec());
            let _ = snapshot.for_each::<(), eidetica_storage::EngineError>(
                Space::Meta,
                &range,
                Direction::Forward,
                |row| {
                    kinds.insert(row.key[..2].to_vec());
                    rows.push(row);
                    Ok(std::ops::ControlFlow::Continue(()))
                },
            );
        }
        rows
    };
    assert_eq!(kinds.len(), 4);
    for row in rows {
        let mut batch = Batch::new();
        let mut value = row.value.to_vec();
        *value.last_mut().unwrap() ^= 1;
        batch.put(Space::Meta, &row.key, &value);
        engine.write(&batch, Durability::Durable).unwrap();
        let report = db.verify().unwrap();
        assert!(!report.is_sound(), "{:?}", &row.key[..2]);
        let mut batch = Batch::new();
        match row.key.starts_with(b"Lv") {
            true => {}
            // A row that is gone is missed as well.
            false => {
                batch.delete(Space::Meta, &row.key);
                engine.write(&batch, Durability::Durable).unwrap();
                let faults = db.verify().unwrap().faults;
                let found = faults.iter().any(|found| {
                    matches!(
                        found.fault,
                        Fault::Marks(_) | Fault::VoidLeaves | Fault::LooseAuthors
                    )
                });
                assert!(found, "{faults:?}");
            }
        }
        let mut batch = Batch::new();
        batch.put(Space::Meta, &row.key, &row.value);
        engine.write(&batch, Durability::Durable).unwrap();
    }
    assert!(db.verify().unwrap().is_sound());
}
