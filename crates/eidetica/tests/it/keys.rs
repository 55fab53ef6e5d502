use eidetica::{Error, KeyId, auth::SecretKey, user::types::KeyRole};

use crate::{Disk, database, instance, read, user, write};

#[test]
fn a_new_user_has_a_default_key_and_a_recovery_key() {
    let alice = user(&instance(), "alice");
    let keys = alice.list_keys().unwrap();
    assert_eq!(keys.len(), 2);
    let default = keys.iter().find(|key| key.is_default).unwrap();
    assert_eq!(
        (default.id, default.role),
        (alice.get_default_key().unwrap(), KeyRole::Signing)
    );
    let other = keys.iter().find(|key| !key.is_default).unwrap();
    assert_eq!(
        (other.role, other.name.as_str()),
        (KeyRole::Recovery, "recovery")
    );
}

#[test]
fn key_ids_have_a_text_form() {
    let key = user(&instance(), "alice").get_default_key().unwrap();
    let text: &str = key.as_ref();
    assert!(text.starts_with("ed25519:") && text.len() == 72);
    assert_eq!(key.to_string(), text);
    assert_eq!(text.parse::<KeyId>().unwrap(), key);
    assert_eq!(serde_json::to_string(&key).unwrap(), format!("{text:?}"));
    for wrong in [
        "",
        "ed25519:",
        "ed25519:00",
        &text[8..],
        &text.to_uppercase(),
    ] {
        assert!(matches!(wrong.parse::<KeyId>(), Err(Error::Text { .. })));
    }
}

#[test]
fn keys_are_added_by_name_and_kept() {
    let disk = Disk::new();
    let alice = user(&disk.open(), "alice");
    let backup = alice.add_private_key(Some("backup_key")).unwrap();
    let unnamed = [
        alice.add_private_key(None).unwrap(),
        alice.add_private_key(None).unwrap(),
    ];
    assert_ne!(unnamed[0], unnamed[1]);
    assert!(
        matches!(alice.add_private_key(Some("backup_key")), Err(Error::KeyExists(name)) if name == "backup_key")
    );
    assert!(matches!(
        alice.add_private_key(Some("recovery")),
        Err(Error::KeyExists(_))
    ));
    assert!(matches!(
        alice.add_private_key(Some("a\u{7}")),
        Err(Error::Name(_))
    ));
    assert_eq!(alice.list_keys().unwrap().len(), 5);
    let again = disk.open().login_user("alice", None).unwrap();
    assert_eq!(again.list_keys().unwrap(), alice.list_keys().unwrap());
    again.set_default_key("backup_key").unwrap();
    assert_eq!(
        disk.open()
            .login_user("alice", None)
            .unwrap()
            .get_default_key()
            .unwrap(),
        backup
    );
}

#[test]
fn the_recovery_key_is_no_key_for_every_day() {
    let alice = user(&instance(), "alice");
    assert!(matches!(
        alice.set_default_key("recovery"),
        Err(Error::KeyRole { .. })
    ));
    assert!(matches!(
        alice.create_database(crate::named("x"), "recovery"),
        Err(Error::KeyRole { .. })
    ));
}

#[test]
fn a_key_is_exported_against_the_password_and_imported_elsewhere() {
    let (here, there) = (instance(), instance());
    here.create_user("alice", Some("password")).unwrap();
    let alice = here.login_user("alice", Some("password")).unwrap();
    let key = alice.get_default_key().unwrap();
    assert!(matches!(
        alice.export_private_key(key, Some("wrong")),
        Err(Error::Login)
    ));
    assert!(matches!(
        alice.export_private_key(key, None),
        Err(Error::Login)
    ));
    let secret = alice.export_private_key(key, Some("password")).unwrap();
    let bob = user(&there, "bob");
    let imported = SecretKey::from_text(&secret.expose_text()).unwrap();
    assert_eq!(
        bob.import_private_key(imported.clone(), Some("alices"))
            .unwrap(),
        key
    );
    assert_eq!(
        bob.import_private_key(imported, Some("other name"))
            .unwrap(),
        key,
        "the same again"
    );
    assert_eq!(bob.list_keys().unwrap().len(), 3);
}

#[test]
fn forgotten_keys_are_gone_and_the_default_one_stays() {
    let disk = Disk::new();
    let alice = user(&disk.open(), "alice");
    let default = alice.get_default_key().unwrap();
    assert!(matches!(
        alice.forget_private_key(default),
        Err(Error::KeyRole { .. })
    ));
    alice.forget_private_key("recovery").unwrap();
    assert!(matches!(
        alice.forget_private_key("recovery"),
        Err(Error::NoSuchKey(_))
    ));
    assert_eq!(alice.list_keys().unwrap().len(), 1);
    assert_eq!(
        disk.open()
            .login_user("alice", None)
            .unwrap()
            .list_keys()
            .unwrap()
            .len(),
        1
    );
}

#[test]
fn a_database_signs_with_the_key_that_it_is_told_to() {
    let instance = instance();
    let alice = user(&instance, "alice");
    let default = alice.get_default_key().unwrap();
    let backup = alice.add_private_key(Some("backup_key")).unwrap();
    let db = database(&alice, "notes");
    assert_eq!(db.default_auth_key(), default);
    write(&db, "a", "1").unwrap();
    db.set_default_auth_key("backup_key").unwrap();
    assert_eq!(db.default_auth_key(), backup);
    assert!(
        write(&db, "a", "2").is_err(),
        "the backup key has no right yet"
    );
    assert_eq!(read(&db, "a").as_deref(), Some("1"));

    let op = db.new_authenticated_operation(default).unwrap();
    op.settings()
        .grant(
            backup.public_key(),
            eidetica::auth::Permission::Write(1),
            "backup",
        )
        .unwrap();
    op.commit().unwrap();
    write(&db, "a", "3").unwrap();
    let op = db.new_authenticated_operation("backup_key").unwrap();
    op.doc("data").unwrap().set("b", "4").unwrap();
    let entry = op.commit().unwrap().unwrap();
    assert_eq!(KeyId::from(entry.header().author.key), backup);
    assert!(matches!(
        db.set_default_auth_key("nonsense"),
        Err(Error::NoSuchKey(_))
    ));
    assert_eq!(db.default_auth_key(), backup);
}

#[test]
fn key_names_are_looked_up_among_the_own_keys_then_among_those_of_other_users() {
    let instance = instance();
    let (alice, bob) = (user(&instance, "alice"), user(&instance, "bob"));
    let alices = alice.add_private_key(Some("laptop")).unwrap();
    let db = database(&alice, "notes");
    let bobs = bob.add_private_key(Some("laptop")).unwrap();
    let bobs_phone = bob.add_private_key(Some("phone")).unwrap();
    db.set_default_auth_key("laptop").unwrap();
    assert_eq!(db.default_auth_key(), alices, "the own one first");
    db.set_default_auth_key("phone").unwrap();
    assert_eq!(db.default_auth_key(), bobs_phone);
    db.set_default_auth_key(bobs).unwrap();
    assert_eq!(db.default_auth_key(), bobs);

    let carol = user(&instance, "carol");
    let carols = database(&carol, "carols");
    match carols.set_default_auth_key("laptop").unwrap_err() {
        Error::AmbiguousKey { name, found } => {
            let mut both = [alices, bobs];
            both.sort();
            assert_eq!((name.as_str(), found), ("laptop", both.to_vec()));
        }
        other => panic!("{other:?}"),
    }
    // Who is not logged in lends no key.
    drop(bob);
    carols.set_default_auth_key("laptop").unwrap();
    assert_eq!(carols.default_auth_key(), alices);
    assert!(matches!(
        carols.set_default_auth_key("phone"),
        Err(Error::NoSuchKey(_))
    ));
}
