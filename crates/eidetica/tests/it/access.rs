use std::sync::Arc;
use std::sync::mpsc::channel;
use std::thread::spawn;
use std::time::Duration;

use eidetica::{
    Error, Instance,
    auth::{Permission, Right},
    backend::database::InMemory,
    crdt::Doc,
};
use eidetica_testkit::HookedEngine;
use serde_json::json;

use crate::{Disk, database, instance, named, read, user, write};

fn with_auth(name: &str, section: &[(&str, serde_json::Value)]) -> Doc {
    let mut auth = Doc::new();
    for (name, entry) in section {
        auth.set_json(*name, entry.clone()).unwrap();
    }
    let mut settings = named(name);
    settings.set_doc("auth", auth);
    settings
}

#[test]
fn a_new_database_belongs_to_its_owner_with_the_recovery_key_above() {
    let alice = user(&instance(), "alice");
    let db = database(&alice, "notes");
    assert_eq!(
        db.settings().unwrap().name().unwrap().as_deref(),
        Some("notes")
    );
    let rights: Vec<_> = alice
        .list_keys()
        .unwrap()
        .into_iter()
        .map(|key| {
            (
                key.is_default,
                db.settings().unwrap().right_of(&key.id.public_key()),
            )
        })
        .collect();
    assert!(
        rights.contains(&(true, Some(Right::Permission(Permission::Admin(0))))),
        "{rights:?}"
    );
    assert!(
        rights.contains(&(false, Some(Right::Recovery))),
        "{rights:?}"
    );
    write(&db, "monday", "buy milk").unwrap();
    assert_eq!(read(&db, "monday").as_deref(), Some("buy milk"));
}

#[test]
fn rights_carry_the_names_of_user_and_key() {
    let alice = user(&instance(), "alice");
    alice.add_private_key(Some("laptop")).unwrap();
    let names = |db: &eidetica::Database| {
        let mut names: Vec<String> = db
            .settings()
            .unwrap()
            .keys()
            .into_iter()
            .map(|(_, _, name)| name.to_string())
            .collect();
        names.sort();
        names
    };
    assert_eq!(
        names(&database(&alice, "notes")),
        ["alice", "alice/recovery"]
    );
    let db = alice.create_database(named("more"), "laptop").unwrap();
    assert_eq!(names(&db), ["alice/laptop", "alice/recovery"]);
    // A name has 255 bytes: the user's own is kept where both are too long.
    let long = "x".repeat(255);
    let db = database(&user(alice.instance(), &long), "notes");
    assert_eq!(names(&db), [long.clone(), long]);
}

#[test]
fn the_auth_section_of_the_settings_is_merged_with_the_owner() {
    let instance = instance();
    let (alice, bob) = (user(&instance, "alice"), user(&instance, "bob"));
    let bobs = bob.get_default_key().unwrap();
    let section = [
        (
            "*",
            json!({"pubkey": "*", "permissions": {"Write": 10}, "status": "Active"}),
        ),
        (
            "bob",
            json!({"pubkey": bobs.as_str(), "permissions": {"Admin": 2}, "status": "Active"}),
        ),
        // The owner cannot make itself less than the owner.
        (
            "me",
            json!({"pubkey": alice.get_default_key().unwrap().as_str(), "permissions": "Read", "status": "Active"}),
        ),
    ];
    let db = alice
        .create_database(
            with_auth("Team Database", &section),
            alice.get_default_key().unwrap(),
        )
        .unwrap();
    let settings = db.settings().unwrap();
    assert_eq!(settings.wildcard(), Some(Permission::Write(10)));
    assert_eq!(
        settings.right_of(&bobs.public_key()),
        Some(Permission::Admin(2).into())
    );
    let owner = alice.get_default_key().unwrap();
    assert_eq!(
        settings.right_of(&owner.public_key()),
        Some(Permission::Admin(0).into())
    );
    assert_eq!(
        settings.get("auth").unwrap(),
        None,
        "authority is no part of the settings document"
    );
    write(&db, "a", "1").unwrap();

    let carol = user(&instance, "carol");
    write(&carol.open_database(db.root_id()).unwrap(), "b", "2").unwrap();
    assert_eq!(read(&db, "b").as_deref(), Some("2"));
}

#[test]
fn settings_with_a_bad_auth_section_make_no_database() {
    let instance = instance();
    let alice = user(&instance, "alice");
    let key = alice.get_default_key().unwrap();
    let entry = |permissions: serde_json::Value| json!({"pubkey": "*", "permissions": permissions, "status": "Active"});
    let bad = [
        with_auth("x", &[("*", entry(json!({"Admin": 0})))]),
        with_auth("x", &[("*", entry(json!("Everything")))]),
        with_auth(
            "x",
            &[(
                "bob",
                json!({"pubkey": "ed25519:abc", "permissions": "Read", "status": "Active"}),
            )],
        ),
        with_auth(
            "x",
            &[(
                "bob",
                json!({"pubkey": format!("ed25519:{}", "00".repeat(32)), "permissions": "Read", "status": "Active"}),
            )],
        ),
        with_auth("x", &[("bob", json!("Admin"))]),
    ];
    for settings in bad {
        assert!(alice.create_database(settings, key).is_err());
    }
    let mut settings = named("x");
    settings.set_string("auth", "everybody");
    assert!(matches!(
        alice.create_database(settings, key),
        Err(Error::Text { .. })
    ));
    assert!(instance.list_databases().unwrap().is_empty());
}

#[test]
fn who_has_no_right_opens_nothing() {
    let instance = instance();
    let (alice, bob) = (user(&instance, "alice"), user(&instance, "bob"));
    let db = database(&alice, "notes");
    assert!(
        matches!(bob.open_database(db.root_id()), Err(Error::NoAccess(id)) if id == db.root_id())
    );
    assert_eq!(bob.find_key(db.root_id()).unwrap(), None);
    let forced = bob
        .open_database_with_key(db.root_id(), bob.get_default_key().unwrap())
        .unwrap();
    assert!(write(&forced, "a", "1").is_err());
    assert_eq!(read(&db, "a"), None);
    let elsewhere = database(&user(&crate::instance(), "alice"), "other");
    assert!(matches!(
        alice.open_database(elsewhere.root_id()),
        Err(Error::NoDatabase(_))
    ));
    assert!(matches!(
        alice.open_database("abc"),
        Err(Error::Text { .. })
    ));
}

#[test]
fn the_best_key_of_the_user_is_found() {
    let instance = instance();
    let (alice, bob) = (user(&instance, "alice"), user(&instance, "bob"));
    let strong = bob.add_private_key(Some("strong")).unwrap();
    let weak = bob.get_default_key().unwrap();
    let db = database(&alice, "notes");
    let grant = |key: eidetica::KeyId, permission| {
        let op = db.new_operation().unwrap();
        op.settings()
            .grant(key.public_key(), permission, "")
            .unwrap();
        op.commit().unwrap();
    };
    grant(weak, Permission::Read);
    assert_eq!(bob.find_key(db.root_id()).unwrap(), Some(weak));
    grant(strong, Permission::Write(5));
    assert_eq!(bob.find_key(db.root_id()).unwrap(), Some(strong));
    assert_eq!(
        bob.open_database(db.root_id()).unwrap().default_auth_key(),
        strong
    );
    grant(weak, Permission::Write(5));
    assert_eq!(
        bob.find_key(db.root_id()).unwrap(),
        Some(weak),
        "the default key first among equals"
    );
}

#[test]
fn a_weaker_admin_grants_less_than_it_has() {
    let instance = instance();
    let (alice, bob) = (user(&instance, "alice"), user(&instance, "bob"));
    let bobs = bob.get_default_key().unwrap().public_key();
    let db = database(&alice, "notes");
    let op = db.new_operation().unwrap();
    op.settings()
        .grant(bobs, Permission::Admin(5), "bob")
        .unwrap();
    op.commit().unwrap();
    let bobs_db = bob.open_database(db.root_id()).unwrap();
    let carol = user(&instance, "carol")
        .get_default_key()
        .unwrap()
        .public_key();
    let grant = |permission| -> eidetica::Result<()> {
        let op = bobs_db.new_operation()?;
        op.settings().grant(carol, permission, "carol")?;
        op.commit()?;
        Ok(())
    };
    for too_much in [
        Permission::Admin(0),
        Permission::Admin(4),
        Permission::Admin(5),
    ] {
        assert!(grant(too_much).is_err(), "{too_much}");
    }
    assert_eq!(db.settings().unwrap().right_of(&carol), None);
    grant(Permission::Admin(6)).unwrap();
    assert_eq!(
        db.settings().unwrap().right_of(&carol),
        Some(Permission::Admin(6).into())
    );
}

#[test]
fn databases_are_there_after_a_restart() {
    let disk = Disk::new();
    let alice = user(&disk.open(), "alice");
    let db = database(&alice, "notes");
    write(&db, "a", "1").unwrap();
    let (id, alice) = (db.root_id(), alice.name().to_owned());
    drop(db);
    let instance = disk.open();
    assert_eq!(instance.list_databases().unwrap(), [id]);
    let db = instance
        .login_user(&alice, None)
        .unwrap()
        .open_database(id.to_string())
        .unwrap();
    assert_eq!(read(&db, "a").as_deref(), Some("1"));
    write(&db, "a", "2").unwrap();
    assert_eq!(read(&db, "a").as_deref(), Some("2"));
}

#[test]
fn writers_that_conflict_are_told_and_transact_tries_again() {
    let alice = user(&instance(), "alice");
    let db = database(&alice, "notes");
    write(&db, "n", "0").unwrap();
    let (first, second) = (db.new_operation().unwrap(), db.new_operation().unwrap());
    for op in [&first, &second] {
        let read: Option<String> = op.doc("data").unwrap().get_as("n").unwrap();
        op.doc("data")
            .unwrap()
            .set("n", format!("{}+", read.unwrap()))
            .unwrap();
    }
    first.commit().unwrap();
    let error = eidetica::Error::from(second.commit().unwrap_err());
    assert!(error.is_conflict(), "{error}");
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                for _ in 0..5 {
                    db.transact(|op| {
                        let doc = op.doc("data")?;
                        let read: Option<String> = doc.get_as("n")?;
                        Ok(doc.set("n", format!("{}+", read.unwrap_or_default()))?)
                    })
                    .unwrap();
                }
            });
        }
    });
    assert_eq!(read(&db, "n").unwrap(), format!("0+{}", "+".repeat(20)));
}

#[test]
fn who_loses_against_a_commit_that_is_being_written_waits_for_it() {
    let (engine, interruption) = HookedEngine::interruptible(Arc::new(InMemory::new()));
    let engine = Arc::into_inner(engine).unwrap();
    let alice = user(&Instance::open(Box::new(engine)).unwrap(), "alice");
    let db = database(&alice, "notes");
    write(&db, "n", "0").unwrap();
    let (attempted, attempts) = channel();
    let loser = db.clone();
    let (started, other) = channel();
    interruption.before_write(move || {
        let lost = spawn(move || {
            loser.transact(|op| {
                attempted.send(()).unwrap();
                let doc = op.doc("data")?;
                let read: Option<String> = doc.get_as("n")?;
                Ok(doc.set("n", format!("{}+", read.unwrap_or_default()))?)
            })
        });
        attempts.recv().unwrap();
        // What it would read again now is what it has read.
        let again = attempts.recv_timeout(Duration::from_millis(200));
        started.send((lost, attempts, again.is_ok())).unwrap();
    });
    write(&db, "n", "1").unwrap();
    let (lost, attempts, again) = other.recv().unwrap();
    lost.join().unwrap().unwrap();
    assert!(!again, "it tries again before anything can have changed");
    assert_eq!(attempts.iter().count(), 1);
    assert_eq!(read(&db, "n").as_deref(), Some("1+"));
}

#[test]
fn a_database_is_shared_with_another_user_or_a_key() {
    let instance = instance();
    let (alice, bob) = (user(&instance, "alice"), user(&instance, "bob"));
    let db = database(&alice, "notes");
    let id = db.root_id();
    assert!(matches!(bob.open_database(id), Err(Error::NoAccess(_))));
    let shared = alice
        .share_database(id, "bob", Permission::Write(10))
        .unwrap();
    assert_eq!(shared, bob.get_default_key().unwrap());
    write(&bob.open_database(id).unwrap(), "b", "1").unwrap();
    assert_eq!(read(&db, "b").as_deref(), Some("1"));
    assert_eq!(db.find_member("bob").unwrap().name.as_str(), "bob");

    // A key of one's own, and one of somebody elsewhere.
    let laptop = alice.add_private_key(Some("laptop")).unwrap();
    alice
        .share_database(id, "laptop", Permission::Write)
        .unwrap();
    let elsewhere = user(&crate::instance(), "carol").get_default_key().unwrap();
    alice
        .share_database(id, elsewhere, Permission::Read)
        .unwrap();
    let rights: Vec<_> = [laptop, elsewhere]
        .map(|key| db.right_of(&key.public_key()).unwrap().unwrap())
        .into();
    assert_eq!(
        rights,
        [Permission::Write(u32::MAX).into(), Permission::Read.into()]
    );
    assert_eq!(
        db.find_member(laptop).unwrap().name.as_str(),
        "alice/laptop"
    );

    // Who may not share does not, and a name that two have names nobody.
    assert!(
        bob.share_database(id, elsewhere, Permission::Write(20))
            .is_err()
    );
    assert!(matches!(
        alice.share_database(id, "nobody", Permission::Read),
        Err(Error::NoSuchKey(_))
    ));
    db.transact(|op| {
        Ok(op
            .settings()
            .grant(elsewhere.public_key(), Permission::Write(5), "dave")?)
    })
    .unwrap();
    let dave = user(&instance, "dave");
    match alice
        .share_database(id, "dave", Permission::Admin(1))
        .unwrap_err()
    {
        Error::AmbiguousKey { found, .. } => {
            assert!(found.contains(&elsewhere) && found.contains(&dave.get_default_key().unwrap()));
        }
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_user_sees_what_its_keys_may_do_where() {
    use eidetica::user::types::AccessSource;
    let instance = instance();
    let (alice, bob) = (user(&instance, "alice"), user(&instance, "bob"));
    let mut default = alice.get_default_key().unwrap();
    let everybody = [(
        "*",
        json!({"pubkey": "*", "permissions": {"Write": 10}, "status": "Active"}),
    )];
    let open = alice
        .create_database(with_auth("open", &everybody), default)
        .unwrap();
    database(&alice, "closed");
    let laptop = alice.add_private_key(Some("laptop")).unwrap();
    let access: Vec<_> = alice
        .key_access(open.root_id())
        .unwrap()
        .into_iter()
        .map(|access| (access.key, access.right, access.source))
        .collect();
    let recovery = access[0].0;
    let admin = Right::from(Permission::Admin(0));
    let write = Right::from(Permission::Write(10));
    assert_eq!(
        access,
        [
            (recovery, Right::Recovery, AccessSource::Direct),
            (default, admin, AccessSource::Direct),
            (laptop, write, AccessSource::Wildcard),
        ]
    );
    assert_eq!(
        alice.find_key(open.root_id()).unwrap(),
        Some(default),
        "recovery is never chosen"
    );
    let all = alice.list_access().unwrap();
    assert_eq!(all.len(), 5);
    // Of keys with equal rights, the default one is taken.
    let [first, second] = [
        bob.get_default_key().unwrap(),
        bob.add_private_key(None).unwrap(),
    ];
    for key in [first, second] {
        bob.set_default_key(key).unwrap();
        default = bob
            .open_database(open.root_id())
            .unwrap()
            .default_auth_key();
        assert_eq!(default, key);
    }
    let of_bob = bob.list_access().unwrap();
    assert_eq!(of_bob.len(), 3, "{of_bob:?}");
}

#[test]
fn members_of_another_database_are_let_in_by_their_best_key() {
    use eidetica::user::types::AccessSource;
    let instance = instance();
    let (alice, bob) = (user(&instance, "alice"), user(&instance, "bob"));
    let (team, notes) = (database(&alice, "team"), database(&alice, "notes"));
    assert!(matches!(
        bob.open_database(notes.root_id()),
        Err(Error::NoAccess(_))
    ));
    alice
        .share_database(team.root_id(), "bob", Permission::Write(3))
        .unwrap();
    let tips = |db: &eidetica::Database| -> Vec<_> {
        db.tips().unwrap().iter().map(|tip| tip.id).collect()
    };
    notes
        .change_settings(|settings| {
            settings.delegate(team.root_id(), Permission::Write(10), tips(&team), "team")
        })
        .unwrap();

    let delegated = notes.settings().unwrap().delegations();
    assert_eq!(delegated.len(), 1);
    assert_eq!(
        (delegated[0].0, delegated[0].1),
        (team.root_id(), Permission::Write(10))
    );
    let access = bob.key_access(notes.root_id()).unwrap();
    assert_eq!(access.len(), 1);
    assert_eq!(
        (access[0].right, &access[0].source),
        (
            Permission::Write(10).into(),
            &AccessSource::Delegation(team.root_id())
        )
    );
    let theirs = bob.open_database(notes.root_id()).unwrap();
    write(&theirs, "b", "1").unwrap();
    assert_eq!(read(&notes, "b").as_deref(), Some("1"));

    // Who leaves the team leaves the notes once their floor is advanced.
    let key = bob.get_default_key().unwrap().public_key();
    team.change_settings(|settings| settings.revoke(eidetica::auth::Revocation::of(key)))
        .unwrap();
    notes
        .change_settings(|settings| {
            settings.delegate(team.root_id(), Permission::Write(10), tips(&team), "team")
        })
        .unwrap();
    assert!(write(&theirs, "b", "2").is_err());
    assert!(matches!(
        bob.open_database(notes.root_id()),
        Err(Error::NoAccess(_))
    ));
    assert_eq!(read(&notes, "b").as_deref(), Some("1"));

    notes
        .change_settings(|settings| settings.undelegate(team.root_id()))
        .unwrap();
    assert!(notes.settings().unwrap().delegations().is_empty());
}
