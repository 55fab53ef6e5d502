//! Typed changes of settings: what is refused before it is made, previews, corrections, the audit.

use eidetica_auth::{AuthRecord, Permission, Revocation, Right, SecretKey, Standing};
use eidetica_database::{Act, Database, Error, SettingsStore, limits};
use eidetica_entry::{Entry, Id};

use crate::world::{instance, key, rights};

/// A database of key 1, where key 2 has `Admin(2)`, key 3 `Write(5)` and key 4 `Admin(0)`.
fn database() -> Database {
    let (admin, writer, owner) = (key(2), key(3), key(4));
    let others: [(&SecretKey, Permission); 3] = [
        (&admin, Permission::Admin(2)),
        (&writer, Permission::Write(5)),
        (&owner, Permission::Admin(0)),
    ];
    instance(1)
        .create(rights(&key(1), &others), key(1))
        .unwrap()
}

fn by(
    database: &Database,
    author: u8,
    work: impl Fn(&SettingsStore<'_>) -> Result<(), Error>,
) -> Result<Entry, Error> {
    let transaction = database.with_key(key(author)).new_transaction();
    work(&transaction.settings())?;
    Ok(transaction.commit()?.unwrap())
}

fn revoke(database: &Database, author: u8, revocation: &Revocation) -> Result<Entry, Error> {
    by(database, author, |settings| {
        settings.revoke(revocation.clone())
    })
}

fn write(database: &Database, author: u8, row: &str) -> Result<Id, Error> {
    let transaction = database.with_key(key(author)).new_transaction();
    transaction.doc("d")?.set(row, i64::from(author))?;
    Ok(transaction.commit()?.unwrap().id())
}

fn of(number: u8) -> Revocation {
    Revocation::of(key(number).public())
}

fn cut_at(number: u8, cut: &[Id]) -> Revocation {
    Revocation {
        cut: Some(cut.iter().copied().collect()),
        ..of(number)
    }
}

/// What was refused, and who could do it.
fn refused(result: Result<Entry, Error>) -> (Act, Vec<Right>, String) {
    match result.unwrap_err() {
        Error::NotAllowed(refused) => {
            let ask = refused.ask.iter().map(|(_, right, _)| *right).collect();
            (refused.act.clone(), ask, refused.to_string())
        }
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_refusal_says_what_is_wrong_and_who_could_do_it() {
    let db = database();
    let owner = Right::from(Permission::Admin(0));
    let admin = Right::from(Permission::Admin(2));
    let new = key(9).public();
    by(&db, 1, |settings| {
        settings.grant(key(1).public(), Permission::Admin(0), "laptop")
    })
    .unwrap();

    let (act, ask, text) = refused(by(&db, 2, |s| s.grant(new, Permission::Admin(2), "x")));
    assert_eq!(
        (act, ask),
        (Act::Grant(Permission::Admin(2)), vec![owner, owner])
    );
    assert!(
        text.starts_with("an author with Admin(2) cannot grant Admin(2); ask one of: "),
        "{text}"
    );
    assert!(text.contains("laptop (Admin(0))"), "{text}");

    let (right, taken) = (owner, key(1).public());
    let (act, ask, text) = refused(revoke(&db, 2, &of(1)));
    assert_eq!((act, ask), (Act::Take { right, key: taken }, vec![]));
    assert!(text.ends_with("; no key of this database can"), "{text}");

    let (act, ask, text) = refused(by(&db, 3, |s| s.set_wildcard(None)));
    assert_eq!((act, ask), (Act::Change, vec![admin, owner, owner]));
    assert!(
        text.contains("an author with Write(5) cannot change settings"),
        "{text}"
    );
    let (_, _, text) = refused(by(&db, 9, |s| s.grant(new, Permission::Read, "")));
    assert!(text.contains("has no right"), "{text}");
    let (act, _, _) = refused(by(&db, 2, |s| {
        s.delegate(
            Id::new([1; 32]),
            Permission::Admin(1),
            [Id::new([2; 32])],
            "",
        )
    }));
    assert_eq!(act, Act::Delegate(Permission::Admin(1)));
    let entries = db.entry_count().unwrap();
    assert_eq!(entries, 2, "nothing that was refused is there");
}

#[test]
fn at_most_so_many_helpers_are_named() {
    let db = database();
    for number in 0..limits::HELPERS {
        let admin = key(100 + u8::try_from(number).unwrap()).public();
        by(&db, 1, |settings| {
            settings.grant(admin, Permission::Admin(1), "")
        })
        .unwrap();
    }
    let (_, ask, _) = refused(by(&db, 3, |settings| settings.set_wildcard(None)));
    assert_eq!(ask.len(), limits::HELPERS);
    assert_eq!(ask[0], Permission::Admin(2).into(), "the weakest first");
}

#[test]
fn what_would_do_nothing_is_an_error() {
    let db = database();
    let unknown = |result: Result<Entry, Error>| {
        assert!(
            matches!(result, Err(Error::NothingToTake { .. })),
            "{result:?}"
        );
    };
    unknown(revoke(&db, 1, &of(9)));
    let to = Some(Permission::Write(5));
    unknown(revoke(&db, 1, &Revocation { to, ..of(3) }));
    unknown(by(&db, 9, |settings| settings.renounce()));
    unknown(by(&db, 9, |settings| settings.rotate(key(3).public(), "")));
    let own =
        |result: Result<Entry, Error>| assert!(matches!(result, Err(Error::OwnKey)), "{result:?}");
    own(revoke(&db, 1, &of(1)));
    own(by(&db, 3, |settings| settings.rotate(key(3).public(), "")));
    let missing = Id::new([7; 32]);
    for result in [
        revoke(&db, 1, &cut_at(3, &[missing])),
        by(&db, 1, |settings| settings.adopt([missing])),
    ] {
        assert!(
            matches!(result, Err(Error::NoEntry(id)) if id == missing),
            "{result:?}"
        );
    }
    let counts = write(&db, 3, "a").unwrap();
    for entry in [counts, db.id()] {
        let result = by(&db, 1, |settings| settings.adopt([entry]));
        assert!(
            matches!(result, Err(Error::NotAdoptable(id)) if id == entry),
            "{result:?}"
        );
    }
    let result = by(&db, 1, |settings| settings.undelegate(missing));
    assert!(matches!(result, Err(Error::NoDelegation(_))), "{result:?}");
}

#[test]
fn the_last_owner_has_to_insist() {
    let db = database();
    by(&db, 4, |settings| settings.renounce()).unwrap();
    let result = by(&db, 1, |settings| settings.renounce());
    assert!(matches!(result, Err(Error::LastOwner { key: last }) if last == key(1).public()));
    by(&db, 2, |settings| settings.renounce()).unwrap();
    by(&db, 1, |settings| settings.renounce_as_last_owner()).unwrap();
    assert_eq!(db.right_of(&key(1).public()).unwrap(), None);
    assert_eq!(
        db.right_of(&key(3).public()).unwrap(),
        Some(Permission::Write(5).into())
    );
}

#[test]
fn a_right_is_rotated_to_a_new_key() {
    let db = database();
    write(&db, 3, "a").unwrap();
    by(&db, 3, |settings| settings.rotate(key(9).public(), "new")).unwrap();
    assert!(write(&db, 3, "b").is_err());
    write(&db, 9, "b").unwrap();
    assert_eq!(db.doc("d").unwrap().get_as::<i64>("a").unwrap(), Some(3));
    assert_eq!(
        db.right_of(&key(9).public()).unwrap(),
        Some(Permission::Write(5).into())
    );
}

/// What is shown, and how many entries are void.
fn shown(db: &Database) -> (Vec<String>, u64) {
    let all = db.doc("d").unwrap().get_all().unwrap();
    (
        all.keys().map(str::to_owned).collect(),
        db.void_count().unwrap(),
    )
}

#[test]
fn a_preview_foretells_what_comes_above_more_tips_than_parents() {
    let db = database();
    let trusted = write(&db, 3, "a").unwrap();
    for n in 0..70 {
        let tx = db.with_key(key(3)).new_transaction_at(&[trusted]).unwrap();
        tx.doc("d").unwrap().set("fork", n).unwrap();
        tx.commit().unwrap();
    }
    let owner = db.with_key(key(1));
    for revocation in [of(3), cut_at(3, &[trusted])] {
        let preview = owner.preview_revocation(&revocation, 100).unwrap();
        let before = db.void_count().unwrap();
        by(&db, 1, |settings| settings.revoke(revocation.clone())).unwrap();
        let after = db.void_count().unwrap();
        assert_eq!(before + preview.voided - preview.restored, after);
    }
    assert_eq!(db.void_count().unwrap(), 70);
}

#[test]
fn a_preview_says_what_happens_and_does_nothing() {
    let db = database();
    let trusted = write(&db, 3, "a").unwrap();
    by(&db, 2, |settings| {
        settings.grant(key(9).public(), Permission::Write(7), "guest")
    })
    .unwrap();
    let theft = [write(&db, 3, "b").unwrap(), write(&db, 3, "c").unwrap()];
    write(&db, 9, "d").unwrap();
    let before = (db.tips().unwrap(), db.state_hash().unwrap(), db.version());

    let default = db.with_key(key(1)).preview_revocation(&of(3), 10).unwrap();
    assert_eq!((default.voided, default.restored), (0, 0));
    let cut = cut_at(3, &[trusted]);
    let preview = db.with_key(key(1)).preview_revocation(&cut, 10).unwrap();
    let listed: Vec<Id> = preview.entries.iter().map(|entry| entry.stamp.id).collect();
    assert_eq!(
        (preview.voided, preview.restored, listed.as_slice()),
        (2, 0, theft.as_slice())
    );
    assert!(
        preview
            .entries
            .iter()
            .all(|entry| entry.voided && entry.author == key(3).public())
    );
    assert_eq!(
        db.with_key(key(1))
            .preview_revocation(&cut, 1)
            .unwrap()
            .entries
            .len(),
        1
    );
    // Whom the key let in falls with it.
    let all = db
        .with_key(key(1))
        .preview_revocation(&cut_at(2, &[db.id()]), 10)
        .unwrap();
    assert_eq!(all.voided, 2, "the grant and what came of it");
    assert!(db.with_key(key(3)).preview_revocation(&cut, 1).is_err());
    assert!(matches!(
        db.preview_revocation(&cut, 1),
        Ok(_) | Err(Error::NoKey)
    ));
    assert_eq!(
        before,
        (db.tips().unwrap(), db.state_hash().unwrap(), db.version())
    );

    revoke(&db, 1, &cut).unwrap();
    assert_eq!(shown(&db), (vec!["a".to_owned(), "d".to_owned()], 2));
    let void = db.void_entries(0, 10).unwrap();
    let ids: Vec<Id> = void.entries.iter().map(|entry| entry.stamp.id).collect();
    assert_eq!((ids.as_slice(), void.next), (theft.as_slice(), None));
}

#[test]
fn void_entries_come_in_pages_with_the_reason() {
    let db = database();
    let theft: Vec<Id> = (0..5)
        .map(|row| write(&db, 3, &row.to_string()).unwrap())
        .collect();
    let by = revoke(&db, 1, &cut_at(3, &[])).unwrap().id();
    let (mut found, mut from) = (Vec::new(), Some(0));
    while let Some(next) = from {
        let page = db.void_entries(next, 2).unwrap();
        assert!(page.entries.len() <= 2);
        found.extend(page.entries);
        from = page.next;
    }
    let ids: Vec<Id> = found.iter().map(|entry| entry.stamp.id).collect();
    assert_eq!(ids, theft);
    for entry in &found {
        assert_eq!(entry.reason.to_string(), format!("revoked by {by}"));
        assert_eq!(entry.author, key(3).public());
        assert_eq!(
            db.standing_of(&entry.stamp.id).unwrap(),
            Standing::Void(entry.reason.clone())
        );
    }
    assert!(db.standing_of(&by).unwrap().is_effective());
    assert!(matches!(
        db.standing_of(&Id::new([9; 32])),
        Err(Error::NoEntry(_))
    ));
}

#[test]
fn honest_entries_are_adopted_by_whoever_could_have_revoked() {
    let db = database();
    let entry = write(&db, 3, "a").unwrap();
    let other = write(&db, 3, "b").unwrap();
    let revocation = revoke(&db, 1, &cut_at(3, &[])).unwrap().id();
    let strength = Permission::Admin(0).into();
    let (act, _, _) = refused(by(&db, 2, |settings| settings.adopt([entry])));
    assert_eq!(
        act,
        Act::Undo {
            revocation,
            strength
        }
    );
    by(&db, 4, |settings| settings.adopt([entry])).unwrap();
    assert_eq!(shown(&db), (vec!["a".to_owned()], 1));
    by(&db, 1, |settings| settings.adopt([other])).unwrap();
    assert_eq!(shown(&db), (vec!["a".to_owned(), "b".to_owned()], 0));
}

#[test]
fn a_correction_puts_another_cut_in_the_place_of_all_that_hold() {
    let db = database();
    assert_eq!(db.correction_of(&key(3).public()).unwrap(), None);
    let first = write(&db, 3, "a").unwrap();
    write(&db, 3, "b").unwrap();
    revoke(&db, 2, &cut_at(3, &[first])).unwrap();
    revoke(&db, 1, &cut_at(3, &[])).unwrap();
    assert_eq!(shown(&db).1, 2);

    let correction = db.correction_of(&key(3).public()).unwrap().unwrap();
    assert_eq!(correction.replaces.len(), 2);
    let (act, _, _) = refused(revoke(&db, 2, &correction));
    assert!(matches!(act, Act::Undo { .. }), "{act:?}");
    let preview = db
        .with_key(key(1))
        .preview_revocation(&correction, 10)
        .unwrap();
    assert_eq!((preview.voided, preview.restored), (0, 2));
    revoke(&db, 1, &correction).unwrap();
    assert_eq!(shown(&db), (vec!["a".to_owned(), "b".to_owned()], 0));
    assert!(write(&db, 3, "c").is_err(), "what comes after it is taken");
    by(&db, 1, |settings| {
        settings.grant(key(3).public(), Permission::Write(6), "again")
    })
    .unwrap();
    write(&db, 3, "c").unwrap();
}

#[test]
fn the_audit_tells_who_was_allowed_what_by_whom_and_until_when() {
    let db = database();
    let granted = by(&db, 2, |settings| {
        settings.grant(key(9).public(), Permission::Write(7), "guest")
    })
    .unwrap();
    let opened = by(&db, 1, |settings| {
        settings.set_wildcard(Some(Permission::Write(9)))
    })
    .unwrap();
    by(&db, 1, |settings| settings.set_name("renamed")).unwrap();
    let closed = by(&db, 1, |settings| {
        settings.set_wildcard(Some(Permission::Read))
    })
    .unwrap();
    let ended = revoke(&db, 1, &of(9)).unwrap();
    let again = by(&db, 1, |settings| {
        settings.grant(key(9).public(), Permission::Write(8), "guest")
    })
    .unwrap();
    let gone = revoke(&db, 1, &cut_at(2, &[db.id()])).unwrap();

    let all = db.audit(None, 100).unwrap();
    let ids: Vec<Id> = all.entries.iter().map(|entry| entry.stamp.id).collect();
    let expected = [
        db.id(),
        granted.id(),
        opened.id(),
        closed.id(),
        ended.id(),
        again.id(),
        gone.id(),
    ];
    assert_eq!(
        (ids.as_slice(), all.next),
        (expected.as_slice(), None),
        "the name is no authority"
    );
    let find = |id: Id| {
        all.entries
            .iter()
            .find(|entry| entry.stamp.id == id)
            .unwrap()
    };
    let until = |id: Id| find(id).records[0].until;
    assert_eq!(until(opened.id()), Some(closed.id()));
    assert_eq!(
        (until(closed.id()), until(again.id()), until(ended.id())),
        (None, None, None)
    );
    assert!(
        !find(granted.id()).standing.is_effective(),
        "its author was revoked below it"
    );
    assert_eq!(find(granted.id()).author, key(2).public());
    let root = find(db.id());
    let of_admin = root.records.iter().find(
        |said| matches!(&said.record, AuthRecord::Grant { key: k, .. } if *k == key(2).public()),
    );
    assert_eq!(of_admin.unwrap().until, Some(gone.id()));

    let (mut paged, mut after) = (Vec::new(), None);
    loop {
        let page = db.audit(after, 2).unwrap();
        paged.extend(page.entries);
        after = page.next;
        if after.is_none() {
            break;
        }
    }
    assert_eq!(paged, all.entries);
}

#[test]
fn settings_read_as_the_document_that_people_write() {
    let db = database();
    by(&db, 1, |settings| {
        settings.grant(key(9).public(), Permission::Write(10), "guest")
    })
    .unwrap();
    by(&db, 1, |settings| {
        settings.set_wildcard(Some(Permission::Read))
    })
    .unwrap();
    let auth = db.settings().unwrap().auth().unwrap().to_json();
    let guest = serde_json::json!({
        "pubkey": key(9).public().to_string(), "permissions": {"Write": 10}, "status": "Active",
    });
    assert_eq!(auth["guest"], guest);
    assert_eq!(auth["*"]["permissions"], "Read");
    assert_eq!(auth.as_object().unwrap().len(), 6);
}
