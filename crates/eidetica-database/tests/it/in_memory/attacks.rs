//! Attacks by those who had a right, or who have one elsewhere, through packs that anybody may send.

use std::sync::Arc;

use eidetica_auth::{AuthRecord, Permission, Revocation, SecretKey};
use eidetica_database::{Database, Databases, Error, IngestRequest, Reject, limits};
use eidetica_entry::{Entry, Id, Ids, Via, pack};
use eidetica_storage::{Engine, MemoryEngine};
use eidetica_testkit::{Fault, FaultyEngine, RecordingEngine};

use crate::story::{Story, memory, revoke, view};
use crate::world::{all_packs, ingest, ingest_entries, instance_on, key, rights, sync};

fn note(database: &Database, path: &str, value: i64) -> Id {
    let transaction = database.new_transaction();
    transaction.doc("d").unwrap().set(path, value).unwrap();
    transaction.commit().unwrap().unwrap().id()
}

fn tips_of(database: &Database) -> Vec<Id> {
    let tips = database.tips().unwrap();
    tips.into_iter().map(|tip| tip.id).collect()
}

/// A database of key 3 with a member, key 2.
fn team(on: &Databases) -> Database {
    let member = key(2);
    let members = [(&*member, Permission::Write(3))];
    on.create(rights(&key(3), &members), key(3)).unwrap()
}

fn try_delegate(to: &Database, delegated: &Database, bound: Permission) -> Result<(), Error> {
    let transaction = to.new_transaction();
    let settings = transaction.settings();
    settings.delegate(delegated.id(), bound, tips_of(delegated), "others")?;
    transaction.commit().map(drop)
}

fn delegate(to: &Database, delegated: &Database, bound: Permission) {
    try_delegate(to, delegated, bound).unwrap();
}

fn by_cut(who: u8, cut: Id) -> AuthRecord {
    AuthRecord::Revoke(Revocation {
        cut: Some(Ids::from(cut)),
        ..Revocation::of(key(who).public())
    })
}

#[test]
fn two_revocations_of_one_entry_have_a_cut_each() {
    for (void, stays) in [(4, 5), (5, 4)] {
        let mut story = Story::new();
        let taken = story.write(&[0], void, "x", 1);
        let kept = story.write(&[0], stays, "y", 1);
        let (root, own) = (story.id(), story.entries[kept].id());
        let added = story.try_add(&[taken, kept], &key(1), |tx| {
            tx.settings().record(by_cut(void, root));
            tx.settings().record(by_cut(stays, own));
        });
        added.unwrap();
        let view = story.told_in_all_orders();
        assert_eq!(view.void, story.ids(&[taken]), "{void} is revoked");
    }
}

#[test]
fn reports_count_what_is_void_beside_closures() {
    let mut story = Story::new();
    let data = story.write(&[0], 4, "x", 1);
    story.say(&[0], 1, revoke(4));
    let b = memory(2);
    ingest_entries(
        &b,
        story.id(),
        &[story.entries[0].clone(), story.entries[2].clone()],
    );
    let stray = team(&memory(3));
    let packs = [
        pack::encode(&[stray.get(&stray.id()).unwrap().unwrap()]).unwrap(),
        pack::encode(&story.entries[data..=data]).unwrap(),
    ];
    let report = ingest(&b, story.id(), &packs);
    assert_eq!((report.new, report.void), (1, 1));
}

#[test]
fn a_ladder_of_delegations_reads_the_same_from_disk() {
    let engine: Arc<dyn Engine> = Arc::new(MemoryEngine::new());
    let a = instance_on(Arc::clone(&engine), 1);
    let mut ladder = vec![team(&a)];
    let refused = loop {
        let next = a.create(rights(&key(3), &[]), key(3)).unwrap();
        match try_delegate(&next, &ladder[ladder.len() - 1], Permission::Write(4)) {
            Ok(()) => ladder.push(next),
            Err(error) => break error,
        }
    };
    let too_deep = Reject::Authority(eidetica_auth::Reject::DelegatesTooDeep);
    assert!(matches!(refused, Error::Refused(reason) if reason == too_deep));
    assert_eq!(ladder.len() - 1, eidetica_auth::limits::DELEGATION_DEPTH);
    let made: Vec<Id> = ladder.iter().map(Database::id).collect();
    drop((ladder, a));
    // Nothing of it is in memory, and the deepest is asked first.
    let again = instance_on(engine, 2);
    for (depth, id) in made.iter().enumerate().rev() {
        let authority = again.get(id).unwrap().authority().unwrap();
        assert_eq!(authority.controls(), 1 + usize::from(depth > 0));
    }
}

#[test]
fn databases_that_delegate_to_each_other_go_round_a_bounded_number_of_times() {
    let engine: Arc<dyn Engine> = Arc::new(MemoryEngine::new());
    let a = instance_on(Arc::clone(&engine), 1);
    let two = [team(&a), a.create(rights(&key(1), &[]), key(1)).unwrap()];
    let mut rounds = 0;
    while try_delegate(
        &two[(rounds + 1) % 2],
        &two[rounds % 2],
        Permission::Write(4),
    )
    .is_ok()
    {
        rounds += 1;
    }
    assert_eq!(rounds, eidetica_auth::limits::DELEGATION_DEPTH);
    note(&two[0], "x", 1);
    note(&two[1], "x", 1);
    let again = instance_on(engine, 2);
    let b = memory(3);
    for database in &two {
        let id = database.id();
        let there = again.get(&id).unwrap();
        assert_eq!(there.authority().unwrap(), database.authority().unwrap());
        // Two passes: they need each other.
        for _ in 0..2 {
            ingest(&b, id, &all_packs(&again, &id));
        }
        let copy = b.get(&id).unwrap();
        assert_eq!(copy.state_hash().unwrap(), database.state_hash().unwrap());
        assert_eq!(copy.pending().0, 0);
        assert!(copy.verify().unwrap().is_sound());
    }
}

#[test]
fn members_write_on_when_what_a_floor_names_turns_void() {
    let a = memory(1);
    let (member, bad) = (key(2), key(5));
    let members = [
        (&*member, Permission::Write(3)),
        (&*bad, Permission::Admin(3)),
    ];
    let team = a.create(rights(&key(3), &members), key(3)).unwrap();
    let before = team.id();
    let tx = team.with_key(Arc::clone(&bad)).new_transaction();
    tx.settings()
        .grant(key(6).public(), Permission::Write(9), "")
        .unwrap();
    tx.commit().unwrap();
    let project = a.create(rights(&key(1), &[]), key(1)).unwrap();
    delegate(&project, &team, Permission::Write(5));
    // Said by who had not heard of the grant.
    let tx = team.new_transaction_at(&[before]).unwrap();
    tx.settings().record(revoke(5));
    tx.commit().unwrap();
    assert_eq!(team.tips().unwrap().len(), 1);
    let access = project.access_of(&member.public()).unwrap();
    let access = access.expect("the team's member has its right on");
    let tx = project
        .with_key(member)
        .new_transaction()
        .with_via(access.via);
    tx.doc("d").unwrap().set("x", 1).unwrap();
    tx.commit().unwrap();
}

#[test]
fn many_delegations_of_a_team_do_not_stop_who_lets_it_in() {
    let a = memory(1);
    let team = team(&a);
    for _ in 0..limits::CLOSURES + 2 {
        let stray = a.create(rights(&key(3), &[]), key(3)).unwrap();
        delegate(&team, &stray, Permission::Write(9));
    }
    let project = a.create(rights(&key(1), &[]), key(1)).unwrap();
    delegate(&project, &team, Permission::Write(5));
    note(&project, "x", 1);
    let b = memory(2);
    let report = ingest(&b, project.id(), &all_packs(&a, &project.id()));
    assert_eq!((report.pending, report.rejected_count), (0, 0));
    let there = b.get(&project.id()).unwrap();
    assert_eq!(there.state_hash().unwrap(), project.state_hash().unwrap());
}

/// Of one team, an instance has the newest as a whole and, from elsewhere, other news for its authority alone.
#[test]
fn pins_in_a_database_and_in_its_closure_are_both_sent() {
    let (a, b) = (memory(1), memory(2));
    let team_at_a = team(&a);
    let project = a.create(rights(&key(1), &[]), key(1)).unwrap();
    delegate(&project, &team_at_a, Permission::Write(5));
    sync(&a, &b, &team_at_a.id());
    sync(&a, &b, &project.id());
    let grant = |team: &Database, who: u8| {
        let tx = team.new_transaction();
        let settings = tx.settings();
        settings
            .grant(key(who).public(), Permission::Write(4), "")
            .unwrap();
        tx.commit().unwrap();
    };
    let write = |on: &Databases, who: u8| {
        let project = on.get(&project.id()).unwrap().with_key(key(who));
        let access = project.access_of(&key(who).public()).unwrap().unwrap();
        let tx = project.new_transaction().with_via(access.via);
        tx.doc("d").unwrap().set(&who.to_string(), 1).unwrap();
        tx.commit().unwrap();
    };
    grant(&team_at_a, 6);
    write(&a, 6);
    grant(&b.get(&team_at_a.id()).unwrap().with_key(key(3)), 7);
    write(&b, 7);
    sync(&a, &b, &project.id());
    let c = memory(3);
    let report = ingest(&c, project.id(), &all_packs(&b, &project.id()));
    assert_eq!((report.new, report.pending), (4, 0));
}

#[test]
fn entries_stripped_of_their_data_do_not_take_the_place_of_whole_ones() {
    let (a, b) = (memory(1), memory(2));
    let db = a.create(rights(&key(1), &[]), key(1)).unwrap();
    sync(&a, &b, &db.id());
    let entries = [note(&db, "x", 1), note(&db, "y", 2)];
    let entries = entries.map(|id| db.get(&id).unwrap().unwrap());
    let stripped = |n: usize| [entries[n].without_data()];
    // One that waits as a whole is not replaced.
    assert_eq!(ingest_entries(&b, db.id(), &entries[1..]).pending, 1);
    assert_eq!(ingest_entries(&b, db.id(), &stripped(1)).pending, 1);
    let report = ingest_entries(&b, db.id(), &stripped(0));
    assert_eq!((report.new, report.pending, report.lacking), (2, 0, 1));
    assert_eq!(ingest_entries(&b, db.id(), &entries[..1]).filled, 1);
    let there = b.get(&db.id()).unwrap();
    assert_eq!(there.state_hash().unwrap(), db.state_hash().unwrap());
    assert_eq!(there.pending(), (0, 0));
    assert!(there.verify().unwrap().is_sound());
}

/// The receiver knows of the revocation; what is below the honest entry comes in packs, waves and calls of its own.
#[test]
fn honest_work_above_many_void_entries_arrives_whatever_it_is_packed_in() {
    let mut story = Story::new();
    story.say(&[0], 1, revoke(4));
    let a = memory(3);
    ingest_entries(&a, story.id(), &story.entries[..1]);
    let db = a.get(&story.id()).unwrap();
    let mut ids = Vec::new();
    for n in 0..limits::VOID_PER_AUTHOR as i64 + 50 {
        ids.push(note(&db.with_key(key(4)), "x", n));
    }
    let honest = note(&db.with_key(key(5)), "honest", 1);
    ids.push(honest);
    let entries: Vec<_> = ids.iter().map(|id| db.get(id).unwrap().unwrap()).collect();
    let pack = |entry| pack::encode(std::slice::from_ref(entry)).unwrap();
    let packs: Vec<_> = entries.iter().map(pack).collect();
    for calls in [1, 40] {
        let told = memory(2);
        ingest_entries(&told, story.id(), &story.entries);
        for packs in packs.chunks(packs.len().div_ceil(calls)) {
            ingest(&told, story.id(), packs);
        }
        let there = told.get(&story.id()).unwrap();
        assert!(there.get(&honest).unwrap().is_some(), "in {calls} calls");
        assert_eq!(there.pending().0, 0);
    }
}

/// A revocation that voids much, one that voids the revocation while its work is half done, and another that takes
/// but one entry: with a crash at any write, all come to what they come to elsewhere.
#[test]
fn revocations_on_revocations_while_settling_end_as_they_would_alone() {
    let count = limits::SETTLE_AT_ONCE as i64 + 200;
    let mut story = Story::new();
    let wrong = story.say(&[0], 2, revoke(4));
    let upset = story.say(&[0], 1, revoke(2));
    let forge = memory(9);
    ingest_entries(&forge, story.id(), &story.entries[..1]);
    let author = forge.get(&story.id()).unwrap().with_key(key(4));
    let made: Vec<Entry> = (0..count)
        .map(|n| author.get(&note(&author, "x", n)).unwrap().unwrap())
        .collect();
    let (first, last) = (made[0].id(), made[made.len() - 1].id());
    story.entries.extend(made.iter().cloned());
    let end = story.entries.len() - 1;
    let taken = story.say(&[end], 1, by_cut(4, first));
    let adoption = story.say(
        &[taken],
        1,
        AuthRecord::Adopt {
            entries: Ids::from(last),
        },
    );
    let later = [wrong, upset, taken, adoption].map(|n| story.entries[n].clone());
    let hashes = |on: &Databases| {
        let db = on.get(&story.id()).unwrap();
        assert!(db.verify().unwrap().is_sound());
        assert_eq!(
            db.doc("d").unwrap().get_as::<i64>("x").unwrap(),
            Some(count - 1)
        );
        (db.state_hash().unwrap(), db.tips().unwrap())
    };
    let plain = memory(3);
    ingest_entries(&plain, story.id(), &story.entries[..1]);
    ingest_entries(&plain, story.id(), &later[..2]);
    ingest_entries(&plain, story.id(), &made);
    ingest_entries(&plain, story.id(), &later[2..]);
    let expected = hashes(&plain);
    let sound = FaultyEngine::new();
    let sound = Arc::new(sound);
    let replica = instance_on(sound.clone(), 4);
    ingest_entries(&replica, story.id(), &story.entries[..1]);
    ingest_entries(&replica, story.id(), &made);
    replica.get(&story.id()).unwrap().catch_up().unwrap();
    drop(replica);
    for number in 0..4 {
        let fault = Some((number, Fault::Before));
        let broken = Arc::new(FaultyEngine::over(&sound.crash(usize::MAX), fault));
        let other = instance_on(broken.clone(), 5);
        for entry in &later {
            let packs = [pack::encode(std::slice::from_ref(entry)).unwrap()];
            let taken = other.ingest(IngestRequest::new(story.id(), &packs));
            let settled = other
                .get(&story.id())
                .and_then(|db| match entry.id() == later[1].id() {
                    true => db.catch_up(),
                    false => Ok(()),
                });
            if taken.is_err() || settled.is_err() {
                break;
            }
        }
        drop(other);
        let after = instance_on(Arc::new(broken.crash(usize::MAX)), 6);
        ingest_entries(&after, story.id(), &later);
        assert_eq!(hashes(&after), expected, "at write {number}");
    }
}

/// What a replica reads to take in revocations of that many keys, each with a cut of its own in a long chain.
fn reads_of_low_cuts(revoked: u64) -> u64 {
    let a = memory(1);
    let db = a.create(rights(&key(1), &[]), key(1)).unwrap();
    let ids: Vec<Id> = (0..512).map(|n| note(&db, "x", n)).collect();
    let engine = Arc::new(RecordingEngine::new(Arc::new(MemoryEngine::new())));
    let b = instance_on(engine.clone(), 2);
    ingest(&b, db.id(), &all_packs(&a, &db.id()));
    let tx = db.new_transaction();
    for (n, id) in (0..revoked).zip(&ids) {
        let mut seed = [77; 32];
        seed[..8].copy_from_slice(&n.to_le_bytes());
        tx.settings().record(AuthRecord::Revoke(Revocation {
            cut: Some(Ids::from(*id)),
            ..Revocation::of(SecretKey::from_bytes(&seed).public())
        }));
    }
    let entry = tx.commit().unwrap().unwrap();
    let _ = engine.take();
    assert_eq!(ingest_entries(&b, db.id(), &[entry]).new, 1);
    engine.take().reads()
}

#[test]
fn many_revocations_with_low_cuts_cost_a_walk_and_not_one_each() {
    let (few, many) = (reads_of_low_cuts(8), reads_of_low_cuts(512));
    assert!(many < 4 * few + 2 * 512, "{few} reads, then {many}");
}

/// Of those whom the wildcard let in, when it lets nobody in any more.
#[test]
fn void_entries_of_strangers_change_nothing_and_go_nowhere() {
    let mut story = Story::new();
    let open = story.say(&[0], 1, AuthRecord::Wildcard(Some(Permission::Write(7))));
    let honest = story.write(&[open], 5, "honest", 1);
    story.say(&[honest], 1, AuthRecord::Wildcard(None));
    let replica = memory(2);
    ingest_entries(&replica, story.id(), &story.entries);
    let db = replica.get(&story.id()).unwrap();
    let before = view(&db);
    let forge = memory(3);
    ingest_entries(&forge, story.id(), &story.past(&[open]));
    let forged = forge.get(&story.id()).unwrap();
    let at = story.entries[open].id();
    let late: Vec<Entry> = (100..140)
        .map(|who| {
            let tx = forged.with_key(key(who)).new_transaction_at(&[at]).unwrap();
            tx.doc("d").unwrap().set("honest", i64::from(who)).unwrap();
            tx.commit().unwrap().unwrap()
        })
        .collect();
    let report = ingest_entries(&replica, story.id(), &late);
    assert_eq!((report.new, report.void), (40, 40));
    let after = view(&db);
    assert_eq!((after.hash, after.tips), (before.hash, before.tips));
    // None of it is passed on.
    let other = memory(4);
    ingest(&other, story.id(), &all_packs(&replica, &story.id()));
    let there = other.get(&story.id()).unwrap();
    assert_eq!(there.entry_count().unwrap(), story.entries.len() as u64);
    // An honest late entry above one of them takes it along, and nothing else.
    let tx = forged.with_key(key(5)).new_transaction_at(&[late[0].id()]);
    let tx = tx.unwrap();
    tx.doc("d").unwrap().set("late", 1).unwrap();
    let above = tx.commit().unwrap().unwrap();
    assert_eq!(ingest_entries(&replica, story.id(), &[above]).void, 0);
    sync(&replica, &other, &story.id());
    assert_eq!(there.entry_count().unwrap(), story.entries.len() as u64 + 2);
    assert_eq!(there.state_hash().unwrap(), db.state_hash().unwrap());
}

#[test]
fn invented_and_foreign_ids_among_what_is_held_change_nothing() {
    let a = memory(1);
    let (team, other) = (team(&a), team(&a));
    note(&team, "x", 1);
    let project = a.create(rights(&key(1), &[]), key(1)).unwrap();
    delegate(&project, &team, Permission::Write(5));
    let all = |not: &[Id], held: &[(Id, &[Id])]| {
        let page = a.difference_above(&project.id(), not, held, None, 1 << 20);
        let page = page.unwrap();
        assert!(page.next.is_none() || !page.packs.is_empty());
        let mut packs = page.packs;
        let mut next = page.next;
        while let Some(cursor) = next {
            let page = a.difference_above(&project.id(), not, held, Some(cursor), 1 << 20);
            let page = page.unwrap();
            packs.extend(page.packs);
            next = page.next;
        }
        packs
    };
    let expected = all(&[], &[]);
    let foreign = [other.id(), Id::new([9; 32])];
    let held = [(team.id(), &foreign[..]), (other.id(), &foreign[..])];
    assert_eq!(all(&foreign, &held), expected);
    let twice = [held[0], held[0], (project.id(), &foreign[..])];
    assert_eq!(all(&foreign, &twice), expected);
}

/// Pins of another database, floors that were never there: they wait, share the pool, and are forgotten with it.
#[test]
fn floors_and_pins_that_do_not_exist_wait_and_harm_nobody() {
    let (a, b) = (memory(1), memory(2));
    let team = team(&a);
    let project = a.create(rights(&key(1), &[]), key(1)).unwrap();
    delegate(&project, &team, Permission::Write(5));
    ingest(&b, project.id(), &all_packs(&a, &project.id()));
    let try_floor = |floor: Id| {
        let tx = project.new_transaction();
        let settings = tx.settings();
        let bound = Permission::Write(5);
        settings.delegate(team.id(), bound, [floor], "x")?;
        tx.commit()
    };
    assert!(try_floor(project.id()).is_err(), "it is of the parent");
    assert!(try_floor(Id::new([9; 32])).is_err());
    let itself = project.new_transaction();
    let settings = itself.settings();
    let said = settings.delegate(project.id(), Permission::Write(5), [project.id()], "x");
    assert!(said.and_then(|()| itself.commit()).is_err());
    let (member, there) = (key(2), b.get(&project.id()).unwrap());
    for tips in [project.id(), Id::new([9; 32])] {
        let via = vec![Via {
            database: team.id(),
            tips: Ids::from(tips),
        }];
        let author = there.with_key(Arc::clone(&member));
        let tx = author.new_transaction().with_via(via);
        tx.doc("d").unwrap().set("x", 1).unwrap();
        assert!(tx.commit().is_err());
    }
    assert_eq!(there.pending(), (0, 0));
    assert_eq!(there.tips().unwrap(), project.tips().unwrap());
}
