//! What settings name and what is taken away at the same moment.

use std::cell::Cell;
use std::sync::Arc;
use std::sync::mpsc::channel;
use std::thread;

use bytes::Bytes;
use eidetica_auth::{AuthRecord, Delegation, KeyName, Permission};
use eidetica_database::{Database, Databases, Error, IngestRequest, NewDatabase};
use eidetica_entry::{Id, pack};
use eidetica_storage::{Engine, MemoryEngine};
use eidetica_testkit::{Call, HookedEngine, Interruption};
use parking_lot::Mutex;

use crate::closures::{all_above, closures_in, note, note_as_member, project, team};
use crate::others::{engines, open};
use crate::world::{all_packs, ingest, instance, instance_on, key, packs_without, rights};

/// Two processes, and what interrupts the first one.
struct Processes {
    first: Databases,
    second: Databases,
    interruption: Interruption,
    /// That of the second one.
    engine: Arc<dyn Engine>,
}

impl Processes {
    fn new() -> Self {
        let [first, engine] = <[_; 2]>::try_from(engines(2)).ok().unwrap();
        let (first, interruption) = HookedEngine::interruptible(first);
        Self {
            first: instance_on(first, 1),
            second: instance_on(Arc::clone(&engine), 2),
            interruption,
            engine,
        }
    }

    /// Does something in the second process before the first one writes next.
    fn before_write(&self, act: impl FnOnce(&Databases) + Send + 'static) {
        let second = self.second.clone();
        self.interruption.before_write(move || act(&second));
    }

    /// What a process finds that has nothing in memory: a project, all of which can be read and given to others.
    fn check(&self, id: &Id, is_delegated: bool) {
        assert!(!self.interruption.cancel(), "nothing was interrupted");
        let fresh = instance_on(Arc::clone(&self.engine), 3);
        let project = open(&fresh, id);
        let access = project.access_of(&key(2).public()).unwrap();
        assert_eq!(access.is_some(), is_delegated);
        if is_delegated {
            note_as_member(&fresh, id, "m1");
        }
        let other = instance(9);
        let report = ingest(&other, *id, &all_above(&fresh, &other, id));
        assert_eq!((report.pending, report.rejected_count), (0, 0));
        let there = other.get(id).unwrap();
        assert_eq!(there.state_hash().unwrap(), project.state_hash().unwrap());
        assert!(fresh.verify().unwrap().is_sound());
    }
}

fn delegate(project: &Database, team: &Id, tips: &[Id]) -> Result<(), Error> {
    let naming = project.new_transaction();
    let (bound, tips) = (Permission::Write(5), tips.iter().copied());
    naming.settings().delegate(*team, bound, tips, "the team")?;
    naming.commit().map(drop)
}

fn tips_of(database: &Database) -> Vec<Id> {
    let tips = database.tips().unwrap().into_iter();
    tips.map(|tip| tip.id).collect()
}

/// A project, and a team of which only the closure is here: its id and tips.
fn with_stray(on: &Databases) -> (Id, Id, Vec<Id>, Vec<Bytes>) {
    let source = instance(8);
    let stray = team(&source);
    let project = on.create(rights(&key(1), &[]), key(1)).unwrap().id();
    let packs = all_packs(&source, &stray.id());
    let taken = on.ingest(IngestRequest::new(project, &packs)).unwrap();
    assert!(taken.bad_packs.is_empty());
    // The next that writes to it writes nothing else before.
    open(on, &project).catch_up().unwrap();
    (project, stray.id(), tips_of(&stray), packs)
}

fn is_not_here(done: Result<(), Error>, id: &Id) {
    assert!(matches!(done, Err(Error::NoDatabase(gone)) if gone == *id));
}

#[test]
fn a_closure_that_is_named_while_names_are_looked_for_stays() {
    let all = Processes::new();
    let (id, stray, tips, _) = with_stray(&all.first);
    all.before_write(move |second| delegate(&open(second, &id), &stray, &tips).unwrap());
    assert_eq!(all.first.compact().unwrap().closures, 0);
    assert_eq!(closures_in(&all.engine), [stray]);
    all.check(&id, true);
}

#[test]
fn settings_do_not_name_what_is_taken_away_while_they_are_judged() {
    let all = Processes::new();
    let (id, stray, tips, packs) = with_stray(&all.first);
    let db = open(&all.first, &id);
    let compact = |second: &Databases| assert_eq!(second.compact().unwrap().closures, 1);
    all.before_write(compact);
    is_not_here(delegate(&db, &stray, &tips), &stray);
    all.check(&id, false);
    // Nor those of a peer: they wait.
    let source = instance(7);
    ingest(&source, id, &all_packs(&all.first, &id));
    let brought = |to: &Databases| to.ingest(IngestRequest::new(id, &packs)).unwrap();
    brought(&source);
    delegate(&open(&source, &id), &stray, &tips).unwrap();
    brought(&all.first);
    all.before_write(compact);
    let is_own = |pack: &Bytes| pack::PackInfo::read(pack).unwrap().database == id;
    let mut own = all_packs(&source, &id);
    own.retain(is_own);
    assert_eq!(ingest(&all.first, id, &own).pending, 1);
    all.check(&id, false);
    brought(&all.first);
    assert_eq!(tips_of(&db), tips_of(&open(&source, &id)));
    all.check(&id, true);
}

#[test]
fn whoever_sends_more_of_a_closure_is_not_to_blame_that_it_is_taken_away() {
    let all = Processes::new();
    let source = instance(7);
    let stray = team(&source);
    let id = all.first.create(rights(&key(1), &[]), key(1)).unwrap().id();
    let brought = |packs: &[Bytes]| all.first.ingest(IngestRequest::new(id, packs)).unwrap();
    brought(&all_packs(&source, &stray.id()));
    let before = tips_of(&stray);
    note(&stray, "more", "of it");
    let more = packs_without(&source, &stray.id(), &before);
    all.before_write(|second| assert_eq!(second.compact().unwrap().closures, 1));
    let report = brought(&more);
    assert_eq!(
        (report.bad_packs.len(), report.left_out.len()),
        (0, more.len())
    );
    // Whoever sends no beginning is, as ever.
    assert_eq!(brought(&more).bad_packs.len(), more.len());
}

#[test]
fn a_database_does_not_begin_with_a_name_of_what_is_taken_away() {
    let all = Processes::new();
    let (id, stray, tips, packs) = with_stray(&all.first);
    let named = || {
        let mut new = rights(&key(4), &[]);
        new.records.push(AuthRecord::Delegate(Delegation {
            database: stray,
            bound: Some(Permission::Write(5)),
            floor: tips.iter().copied().collect(),
            name: KeyName::default(),
        }));
        new
    };
    let create = |on: &Databases, new: NewDatabase| on.create(new, key(4));
    all.before_write(|second| assert_eq!(second.compact().unwrap().closures, 1));
    assert!(create(&all.first, named()).is_err());
    assert_eq!(all.first.list().unwrap(), [id]);
    all.check(&id, false);
    // The other way round.
    let brought = all.first.ingest(IngestRequest::new(id, &packs)).unwrap();
    assert!(brought.bad_packs.is_empty());
    let new = named();
    all.before_write(move |second| drop(create(second, new).unwrap()));
    assert_eq!(all.first.compact().unwrap().closures, 0);
    let begun = all.second.list().unwrap();
    let begun = begun.iter().find(|begun| **begun != id).unwrap();
    all.check(begun, true);
}

#[test]
fn a_team_that_is_named_while_it_is_forgotten_leaves_its_authority() {
    let all = Processes::new();
    let team = team(&all.first);
    let id = all.first.create(rights(&key(1), &[]), key(1)).unwrap().id();
    let (named, tips) = (team.id(), tips_of(&team));
    all.before_write(move |second| delegate(&open(second, &id), &named, &tips).unwrap());
    assert!(all.first.forget(&named).unwrap().keeps_authority);
    all.check(&id, true);
}

#[test]
fn settings_do_not_name_what_is_forgotten_while_they_are_judged() {
    let all = Processes::new();
    let team = team(&all.first);
    let id = all.first.create(rights(&key(1), &[]), key(1)).unwrap().id();
    let (named, tips) = (team.id(), tips_of(&team));
    open(&all.first, &id).catch_up().unwrap();
    all.before_write(move |second| assert!(!second.forget(&named).unwrap().keeps_authority));
    is_not_here(delegate(&open(&all.first, &id), &named, &tips), &named);
    all.check(&id, false);
}

#[test]
fn what_is_pinned_of_a_team_while_it_is_forgotten_stays() {
    let all = Processes::new();
    let team = team(&all.first);
    let project = project(&all.first, &team, Permission::Write(5));
    let (id, named) = (project.id(), team.id());
    all.before_write(move |second| {
        let (late, team) = (key(5), open(second, &named).with_key(key(3)));
        let welcome = team.new_transaction();
        let right = Permission::Write(3);
        welcome
            .settings()
            .grant(late.public(), right, "late")
            .unwrap();
        welcome.commit().unwrap();
        let access = open(second, &id).access_of(&late.public()).unwrap();
        let theirs = open(second, &id).with_key(late).new_transaction();
        let theirs = theirs.with_via(access.unwrap().via);
        theirs.doc("notes").unwrap().set("late", 1).unwrap();
        theirs.commit().unwrap();
    });
    assert!(all.first.forget(&named).unwrap().keeps_authority);
    all.check(&id, true);
}

/// Whether this thread forgets something, and has written since it was last interrupted.
#[derive(Clone, Copy, PartialEq, Eq)]
enum At {
    Elsewhere,
    Forgetting,
    Written,
}

thread_local! {
    static AT: Cell<At> = const { Cell::new(At::Elsewhere) };
}

#[test]
fn a_team_that_is_written_to_all_the_time_can_be_forgotten() {
    let (ask, asked) = channel();
    let (done, is_done) = channel();
    let over = ask.clone();
    let ends = Mutex::new((ask, is_done));
    // After each write of the one who forgets, somebody else writes too.
    let engine = HookedEngine::new(Arc::new(MemoryEngine::new()), move |call| {
        match (AT.get(), call) {
            (At::Forgetting, Call::Write(_)) => AT.set(At::Written),
            (At::Written, Call::Snapshot) => {
                AT.set(At::Forgetting);
                let (ask, is_done) = &*ends.lock();
                ask.send(true).unwrap();
                is_done.recv().unwrap();
            }
            _ => {}
        }
    });
    let all = instance_on(Arc::new(engine), 1);
    let team = team(&all);
    let id = project(&all, &team, Permission::Write(5)).id();
    let mut written = 0;
    thread::scope(|scope| {
        let all = &all;
        let named = team.id();
        scope.spawn(move || {
            AT.set(At::Forgetting);
            let forgotten = all.forget(&named);
            over.send(false).unwrap();
            assert!(forgotten.unwrap().keeps_authority);
        });
        while asked.recv().unwrap() {
            let transaction = team.new_transaction();
            transaction.doc("notes").unwrap().set("n", written).unwrap();
            match transaction.commit() {
                Ok(_) => written += 1,
                Err(error) => is_not_here(Err(error), &named),
            }
            done.send(()).unwrap();
        }
    });
    assert!(written > 0);
    note_as_member(&all, &id, "m1");
    assert!(all.verify().unwrap().is_sound());
}
