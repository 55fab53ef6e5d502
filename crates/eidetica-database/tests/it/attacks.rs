//! Attacks by those who had a right, or who have one elsewhere, through packs that anybody may send.

use std::sync::Arc;

use eidetica_auth::{AuthRecord, Permission, Revocation};
use eidetica_database::{Database, Databases, Error, Reject, limits};
use eidetica_entry::{Id, Ids, pack};
use eidetica_storage::{Engine, MemoryEngine};

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
fn honest_work_above_many_void_entries_arrives_in_small_packs() {
    let mut story = Story::new();
    story.say(&[0], 1, revoke(4));
    let told = memory(2);
    ingest_entries(&told, story.id(), &story.entries);
    let a = memory(3);
    ingest_entries(&a, story.id(), &story.entries[..1]);
    let db = a.get(&story.id()).unwrap();
    let revoked = db.with_key(key(4));
    let mut last = None;
    for n in 0..limits::VOID_PER_AUTHOR as i64 + 50 {
        last = Some(note(&revoked, "x", n));
    }
    assert!(last.is_some());
    let honest = note(&db.with_key(key(5)), "honest", 1);
    for _ in 0..3 {
        sync(&a, &told, &story.id());
    }
    let there = told.get(&story.id()).unwrap();
    assert!(there.get(&honest).unwrap().is_some(), "it is not lost");
    assert_eq!(view(&there), view(&db));
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
    let report = ingest_entries(&b, db.id(), &stripped(0));
    assert_eq!((report.new, report.pending), (0, 1));
    // One that waits as a whole is not replaced either.
    assert_eq!(ingest_entries(&b, db.id(), &entries[1..]).pending, 1);
    assert_eq!(ingest_entries(&b, db.id(), &stripped(1)).pending, 1);
    assert_eq!(ingest_entries(&b, db.id(), &entries[..1]).new, 2);
    let there = b.get(&db.id()).unwrap();
    assert_eq!(there.state_hash().unwrap(), db.state_hash().unwrap());
    assert_eq!(there.pending(), (0, 0));
    assert!(there.verify().unwrap().is_sound());
}
