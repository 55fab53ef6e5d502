//! Delegation between instances: what authority follows from comes along, and no more than that.

use std::sync::Arc;

use bytes::Bytes;
use eidetica_auth::{Permission, SecretKey};
use eidetica_database::{Database, Databases, Error, IngestRequest, limits};
use eidetica_entry::{Id, Stamp, pack};
use eidetica_storage::log::{CacheSize, EntryLog};
use eidetica_storage::{Direction, Engine, EngineError, KeyRange, Space};
use eidetica_testkit::Rng;
use parking_lot::Mutex;

use crate::world::{all_packs, engine, ingest, instance, instance_on, key, packs_without, rights};

/// A team that the member belongs to, with some data that is nobody else's business.
pub(crate) fn team(on: &Databases) -> Database {
    let members = [(&*member(), Permission::Write(3))];
    let team = on.create(rights(&key(3), &members), key(3)).unwrap();
    note(&team, "secret", "of the team");
    team
}

pub(crate) fn note(database: &Database, path: &str, text: &str) -> Id {
    let transaction = database.new_transaction();
    transaction.doc("notes").unwrap().set(path, text).unwrap();
    transaction.commit().unwrap().unwrap().id()
}

/// A project of key 1 whose settings let a team in.
pub(crate) fn project(on: &Databases, team: &Database, bound: Permission) -> Database {
    let project = on.create(rights(&key(1), &[]), key(1)).unwrap();
    delegate(&project, team, bound);
    project
}

fn delegate(project: &Database, team: &Database, bound: Permission) {
    let tips = team.tips().unwrap().into_iter().map(|tip| tip.id);
    let transaction = project.new_transaction();
    transaction
        .settings()
        .delegate(team.id(), bound, tips, "the team")
        .unwrap();
    transaction.commit().unwrap();
}

/// Writes as a member of a database that is delegated to.
pub(crate) fn note_as_member(databases: &Databases, project: &Id, text: &str) -> Id {
    let project = databases.get(project).unwrap();
    let access = project.access_of(&member().public()).unwrap().unwrap();
    assert!(!access.via.is_empty());
    let transaction = project
        .with_key(member())
        .new_transaction()
        .with_via(access.via);
    transaction.doc("notes").unwrap().set(text, 1).unwrap();
    transaction.commit().unwrap().unwrap().id()
}

fn member() -> Arc<SecretKey> {
    key(2)
}

pub(crate) fn all_above(from: &Databases, to: &Databases, id: &Id) -> Vec<Bytes> {
    let held = to.closures(id).unwrap();
    let held: Vec<(Id, Vec<Id>)> = held
        .into_iter()
        .map(|(id, tips)| (id, tips.iter().map(|tip| tip.id).collect()))
        .collect();
    let held: Vec<(Id, &[Id])> = held
        .iter()
        .map(|(id, tips)| (*id, tips.as_slice()))
        .collect();
    let known: Vec<Id> = to
        .tips(id)
        .unwrap()
        .unwrap_or_default()
        .iter()
        .map(|tip| tip.id)
        .collect();
    let mut packs = Vec::new();
    let mut cursor = None;
    loop {
        // Small pages, so that a cursor stops anywhere.
        let page = from
            .difference_above(id, &known, &held, cursor, 200)
            .unwrap();
        packs.extend(page.packs);
        cursor = page.next;
        if cursor.is_none() {
            return packs;
        }
    }
}

#[test]
fn what_a_delegation_follows_from_comes_with_the_entries() {
    let (a, b) = (instance(1), instance(2));
    let team = team(&a);
    let project = project(&a, &team, Permission::Write(5));
    note_as_member(&a, &project.id(), "m1");
    let report = ingest(&b, project.id(), &all_above(&a, &b, &project.id()));
    assert_eq!(
        (
            report.pending,
            report.rejected_count,
            report.bad_packs.len()
        ),
        (0, 0, 0)
    );
    let there = b.get(&project.id()).unwrap();
    assert_eq!(there.state_hash().unwrap(), project.state_hash().unwrap());
    assert_eq!(there.tips().unwrap(), project.tips().unwrap());
    assert!(there.verify().unwrap().is_sound());
    // The team itself is not there, and none of its data.
    assert!(b.find(&team.id()).unwrap().is_none());
    assert_eq!(b.list().unwrap(), [project.id()]);
    let sent = all_packs(&a, &project.id());
    let data = |pack: &Bytes| {
        let entries = pack::decode(pack, &pack::Limits::default()).unwrap();
        let of_team = entries.iter().filter(|entry| entry.database() == team.id());
        let payloads = of_team.flat_map(|entry| entry.payloads());
        payloads
            .filter(|(store, payload)| !store.is_settings() && payload.is_some())
            .count()
    };
    assert_eq!(sent.iter().map(data).sum::<usize>(), 0);
    // Members may read there, others not.
    assert!(b.can_read(&project.id(), &[member().public()]).unwrap());
    assert!(!b.can_read(&project.id(), &[key(9).public()]).unwrap());
    // And a member may write there, having never seen the team.
    note_as_member(&b, &project.id(), "m2");
}

#[test]
fn what_is_here_is_not_sent_again() {
    let (a, b) = (instance(1), instance(2));
    let team = team(&a);
    for n in 0..50 {
        note(&team, &n.to_string(), "more");
    }
    let project = project(&a, &team, Permission::Write(5));
    ingest(&b, project.id(), &all_above(&a, &b, &project.id()));
    assert_eq!(all_above(&a, &b, &project.id()).len(), 0);
    note(&team, "further", "on");
    note_as_member(&a, &project.id(), "m1");
    let packs = all_above(&a, &b, &project.id());
    let entries = packs
        .iter()
        .map(|pack| pack::PackInfo::read(pack).unwrap().entries);
    assert!(entries.sum::<u32>() <= 2);
    let report = ingest(&b, project.id(), &packs);
    assert_eq!(
        (report.new, report.pending, report.rejected_count),
        (1, 0, 0)
    );
}

#[test]
fn a_delegated_database_that_comes_late_gives_the_same() {
    let (a, b) = (instance(1), instance(2));
    let team = team(&a);
    let project = project(&a, &team, Permission::Write(5));
    note_as_member(&a, &project.id(), "m1");
    let of = |id: Id, packs: &[Bytes]| -> Vec<Bytes> {
        let own = packs
            .iter()
            .filter(|pack| pack::PackInfo::read(pack).unwrap().database == id);
        own.cloned().collect()
    };
    let packs = all_packs(&a, &project.id());
    let report = ingest(&b, project.id(), &of(project.id(), &packs));
    assert_eq!((report.pending, report.rejected_count), (2, 0));
    let late = b
        .ingest(IngestRequest::new(project.id(), &of(team.id(), &packs)))
        .unwrap();
    assert_eq!(late.rejected_count, 0);
    let there = b.get(&project.id()).unwrap();
    assert_eq!(there.tips().unwrap(), project.tips().unwrap());
    assert_eq!(there.state_hash().unwrap(), project.state_hash().unwrap());
}

/// What comes while the team tells of its last change, and needs the next one, is judged when that comes.
#[test]
fn an_entry_that_comes_while_its_delegated_database_changes_is_judged_by_the_next_change() {
    let (a, b) = (instance(1), instance(2));
    let team = team(&a);
    let project = project(&a, &team, Permission::Write(5));
    ingest(&b, team.id(), &all_packs(&a, &team.id()));
    ingest(&b, project.id(), &all_packs(&a, &project.id()));
    let next = |known: Vec<Stamp>| {
        let known: Vec<Id> = known.iter().map(|tip| tip.id).collect();
        packs_without(&a, &team.id(), &known)
    };
    let known = team.tips().unwrap();
    note(&team, "first", "change");
    let first = next(known);
    let known = team.tips().unwrap();
    let grant = team.new_transaction();
    let (settings, member) = (grant.settings(), key(7).public());
    settings.grant(member, Permission::Write(3), "").unwrap();
    grant.commit().unwrap();
    let second = next(known);
    let access = project.access_of(&member).unwrap().unwrap();
    let entry = project
        .with_key(key(7))
        .new_transaction()
        .with_via(access.via);
    entry.doc("notes").unwrap().set("n", 1).unwrap();
    let entry = entry.commit().unwrap().unwrap();
    let late = pack::encode(std::slice::from_ref(&entry)).unwrap();
    let (late, to) = (Mutex::new(Some(late)), b.clone());
    let there = b.get(&project.id()).unwrap();
    b.get(&team.id())
        .unwrap()
        .on_remote_write(move |_, _| {
            if let Some(late) = late.lock().take() {
                to.ingest(IngestRequest::new(entry.database(), &[late]))?;
            }
            Ok(())
        })
        .unwrap();
    ingest(&b, team.id(), &first);
    assert_eq!(there.pending().0, 1);
    ingest(&b, team.id(), &second);
    assert_eq!(there.pending().0, 0);
    assert_eq!(there.tips().unwrap(), project.tips().unwrap());
}

#[test]
fn chains_of_delegations_come_deepest_first() {
    let (a, b) = (instance(1), instance(2));
    let mut last = team(&a);
    for _ in 0..3 {
        let next = a.create(rights(&key(3), &[]), key(3)).unwrap();
        delegate(&next, &last, Permission::Write(4));
        last = next;
    }
    let project = project(&a, &last, Permission::Write(5));
    note_as_member(&a, &project.id(), "m1");
    let report = ingest(&b, project.id(), &all_above(&a, &b, &project.id()));
    assert_eq!((report.pending, report.rejected_count), (0, 0));
    let there = b.get(&project.id()).unwrap();
    assert_eq!(there.state_hash().unwrap(), project.state_hash().unwrap());
    note_as_member(&b, &project.id(), "m2");
    // What came is enough to send it on.
    let c = instance(3);
    let report = ingest(&c, project.id(), &all_above(&b, &c, &project.id()));
    assert_eq!((report.pending, report.rejected_count), (0, 0));
}

#[test]
fn a_member_of_the_team_reads_it_as_a_whole_beside_its_closure() {
    let (a, b) = (instance(1), instance(2));
    let team = team(&a);
    let project = project(&a, &team, Permission::Write(5));
    ingest(&b, project.id(), &all_above(&a, &b, &project.id()));
    ingest(&b, team.id(), &all_packs(&a, &team.id()));
    let there = b.get(&team.id()).unwrap();
    assert_eq!(there.state_hash().unwrap(), team.state_hash().unwrap());
    assert!(there.verify().unwrap().is_sound());
}

pub(crate) fn closures_in(engine: &Arc<dyn Engine>) -> Vec<Id> {
    let log = EntryLog::open(engine.clone(), CacheSize(0)).unwrap();
    let closures = log.closures().unwrap();
    closures.iter().map(|closure| closure.id()).collect()
}

#[test]
fn of_databases_that_no_settings_name_those_used_last_are_kept() {
    let (a, engine) = (instance(1), engine());
    let b = instance_on(engine.clone(), 2);
    let project = a.create(rights(&key(1), &[]), key(1)).unwrap();
    ingest(&b, project.id(), &all_packs(&a, &project.id()));
    let send = |stray: &Database| {
        let packs = all_packs(&a, &stray.id());
        let taken = b.ingest(IngestRequest::new(project.id(), &packs)).unwrap();
        assert!(taken.bad_packs.is_empty());
        assert!(b.find(&stray.id()).unwrap().is_none());
    };
    let (full, more) = (limits::UNNAMED_CLOSURES, 3);
    let kept = limits::UNNAMED_CLOSURES_KEPT + more;
    let named = team(&a);
    delegate(&project, &named, Permission::Write(5));
    ingest(&b, project.id(), &all_above(&a, &b, &project.id()));
    let strays: Vec<Database> = (0..full + more).map(|_| team(&a)).collect();
    strays[..full].iter().for_each(&send);
    let bytes = bytes_in(&*engine);
    // The first of them is in use again.
    send(&strays[0]);
    strays[full..].iter().for_each(&send);
    let here = closures_in(&engine);
    assert_eq!(here.len(), 1 + kept);
    assert!(here.contains(&named.id()) && here.contains(&strays[0].id()));
    for (n, stray) in strays.iter().enumerate() {
        let gone = (1..=full + more - kept).contains(&n);
        assert_eq!(here.contains(&stray.id()), !gone, "{n}");
    }
    assert!(bytes_in(&*engine) <= bytes + 1_000, "rows are left");
    // What has gone comes again when it is needed.
    delegate(&project, &strays[1], Permission::Write(5));
    let report = ingest(&b, project.id(), &all_above(&a, &b, &project.id()));
    assert_eq!((report.new, report.pending), (1, 0));
    assert!(b.verify().unwrap().is_sound());
}

#[test]
fn one_request_begins_no_more_closures_than_stay() {
    let (a, engine) = (instance(1), engine());
    let b = instance_on(engine.clone(), 2);
    let project = a.create(rights(&key(1), &[]), key(1)).unwrap();
    ingest(&b, project.id(), &all_packs(&a, &project.id()));
    let strays = (0..limits::NEW_CLOSURES + 2).map(|_| team(&a));
    let packs: Vec<Bytes> = strays
        .flat_map(|stray| all_packs(&a, &stray.id()))
        .collect();
    assert_eq!(packs.len(), limits::NEW_CLOSURES + 2);
    let send = || b.ingest(IngestRequest::new(project.id(), &packs)).unwrap();
    let report = send();
    let left_out: Vec<usize> = report.left_out.iter().map(|(at, _)| *at).collect();
    assert_eq!(left_out, [limits::NEW_CLOSURES, limits::NEW_CLOSURES + 1]);
    assert_eq!(report.bad_packs, []);
    assert_eq!(closures_in(&engine).len(), limits::NEW_CLOSURES);
    // The next one goes on.
    assert_eq!(send().left_out, []);
}

#[test]
fn a_database_that_nobody_waits_for_is_kept_only_while_it_is_small() {
    let (a, engine) = (instance(1), engine());
    let b = instance_on(engine.clone(), 2);
    let project = a.create(rights(&key(1), &[]), key(1)).unwrap();
    ingest(&b, project.id(), &all_packs(&a, &project.id()));
    let large = team(&a);
    let mut rng = Rng::new(1);
    let size = 256 * 1024;
    for n in 0..limits::UNNAMED_CLOSURE_BYTES / size + 16 {
        let text = rng
            .bytes(size as usize)
            .into_iter()
            .map(|byte| char::from(byte & 0x7f));
        let text = String::from_iter(text);
        large
            .transact(|tx| tx.settings().set(&format!("t{}", n % 2), text.as_str()))
            .unwrap();
    }
    let send = |packs: &[Bytes]| b.ingest(IngestRequest::new(project.id(), packs)).unwrap();
    let before = bytes_in(&*engine);
    let packs = all_packs(&a, &large.id());
    let taken = packs.chunks(1).map(send);
    let (mut left_out, mut bad) = (0, 0);
    for taken in taken {
        left_out += taken.left_out.len();
        bad += taken.bad_packs.len();
    }
    assert!(left_out > 0 && bad == 0, "that is nobody's fault");
    let held = bytes_in(&*engine) - before;
    assert!(
        held as u64 <= limits::UNNAMED_CLOSURE_BYTES + 100_000,
        "{held}"
    );
    // Once settings wait for it, it comes as a whole.
    delegate(&project, &large, Permission::Write(5));
    let all = all_above(&a, &b, &project.id());
    send(&all);
    let settings = send(&all_above(&a, &b, &project.id()));
    assert!(settings.bad_packs.is_empty() && settings.left_out.is_empty());
    let there = b.get(&project.id()).unwrap();
    assert_eq!(there.tips().unwrap(), project.tips().unwrap());
}

#[test]
fn a_database_that_is_behind_its_closure_takes_no_right_from_members() {
    let (a, b) = (instance(1), instance(2));
    let team = team(&a);
    ingest(&b, team.id(), &all_packs(&a, &team.id()));
    note(&team, "later", "than b knows");
    let project = project(&a, &team, Permission::Write(5));
    ingest(&b, project.id(), &all_above(&a, &b, &project.id()));
    assert!(b.can_read(&project.id(), &[member().public()]).unwrap());
    note_as_member(&b, &project.id(), "m1");
}

fn bytes_in(engine: &dyn Engine) -> usize {
    let snapshot = engine.snapshot().unwrap();
    let mut bytes = 0;
    for space in Space::ALL {
        let all = KeyRange::prefix(Vec::new());
        let _ = snapshot.for_each::<(), EngineError>(space, &all, Direction::Forward, |row| {
            bytes += row.key.len() + row.value.len();
            Ok(std::ops::ControlFlow::Continue(()))
        });
    }
    bytes
}

/// A peer may send more of a team than was asked for.
#[test]
fn data_that_come_with_a_closure_are_not_kept() {
    let (a, engine) = (instance(1), engine());
    let b = instance_on(engine.clone(), 2);
    let team = team(&a);
    let project = project(&a, &team, Permission::Write(5));
    ingest(&b, project.id(), &all_packs(&a, &project.id()));
    let before = bytes_in(&*engine);
    let size = 100_000;
    let text: Vec<char> = Rng::new(1)
        .bytes(size)
        .into_iter()
        .map(char::from)
        .collect();
    note(&team, "large", &String::from_iter(text));
    let packs = all_packs(&a, &team.id());
    assert!(packs.iter().map(Bytes::len).sum::<usize>() > size);
    let taken = b.ingest(IngestRequest::new(project.id(), &packs)).unwrap();
    assert_eq!((taken.rejected_count, taken.bad_packs.len()), (0, 0));
    let here = b.closures(&project.id()).unwrap();
    assert_eq!(here, [(team.id(), team.tips().unwrap())]);
    assert!(bytes_in(&*engine) < before + 2_000);
}

#[test]
fn a_member_of_the_team_imports_into_the_project() {
    let (a, b) = (instance(1), instance(2));
    let team = team(&a);
    let project = project(&a, &team, Permission::Write(5));
    let by_member = project.with_key(member());
    for memory_bytes in [limits::IMPORT_MEMORY_BYTES, 32 << 10] {
        let mut import = by_member.import().with_memory_bytes(memory_bytes);
        for n in 0..200 {
            let text = "x".repeat(1_000);
            import.set("imported", &format!("k{n}"), text).unwrap();
        }
        let ids = import.commit().unwrap();
        let first = project.get(&ids[0]).unwrap().unwrap();
        assert_eq!(first.header().author.via[0].database, team.id());
    }
    assert!(project.verify().unwrap().is_sound());
    let report = ingest(&b, project.id(), &all_above(&a, &b, &project.id()));
    assert_eq!((report.rejected_count, report.pending), (0, 0));
    let there = b.get(&project.id()).unwrap();
    assert_eq!(there.state_hash().unwrap(), project.state_hash().unwrap());
    let stranger = project.with_key(key(9));
    let mut import = stranger.import();
    import.set("imported", "k", 1).unwrap();
    assert!(matches!(import.commit(), Err(Error::Refused(_))));
}

#[test]
fn a_team_that_is_forgotten_leaves_its_authority() {
    let a = instance(1);
    let team = team(&a);
    let project = project(&a, &team, Permission::Write(5));
    note_as_member(&a, &project.id(), "before");
    let forgotten = a.forget(&team.id()).unwrap();
    assert!(forgotten.keeps_authority);
    assert!(a.find(&team.id()).unwrap().is_none());
    note_as_member(&a, &project.id(), "after");
    assert!(a.verify().unwrap().is_sound());
    let b = instance(2);
    ingest(&b, project.id(), &all_above(&a, &b, &project.id()));
    let there = b.get(&project.id()).unwrap();
    assert_eq!(there.state_hash().unwrap(), project.state_hash().unwrap());
    assert!(b.verify().unwrap().is_sound());
}
