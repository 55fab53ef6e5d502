use data_encoding::BASE64URL_NOPAD;
use eidetica::{
    Error, KeyId,
    auth::SecretKey,
    limits,
    user::{SealedKey, SealedKeyError, types::KeyRole},
};
use eidetica_auth::{KdfParams, PasswordSealed};

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

const PASSPHRASE: &str = "nine blue otters";

#[test]
fn a_key_travels_sealed_by_a_passphrase() {
    let (here, there) = (instance(), instance());
    here.create_user("alice", Some("password")).unwrap();
    let alice = here.login_user("alice", Some("password")).unwrap();
    let key = alice.add_private_key(Some("laptop")).unwrap();
    for password in [None, Some("wrong")] {
        assert!(matches!(
            alice.export_key(key, password, PASSPHRASE),
            Err(Error::Login)
        ));
    }
    let text = alice
        .export_key("laptop", Some("password"), PASSPHRASE)
        .unwrap()
        .to_string();
    assert!(text.starts_with("eidetica-key-1:") && text.len() < limits::SEALED_KEY_BYTES / 2);
    assert!(
        text.bytes()
            .all(|b| b.is_ascii_alphanumeric() || b"-_:".contains(&b))
    );

    let sealed: SealedKey = format!("\n {text}\n").parse().unwrap();
    assert_eq!((sealed.id(), sealed.to_string()), (key, text));
    let phone = user(&there, "alice");
    assert!(matches!(
        phone.import_key(&sealed, "nine blue otter", None),
        Err(Error::Passphrase)
    ));
    assert_eq!(phone.list_keys().unwrap().len(), 2, "nothing was added");
    assert_eq!(phone.import_key(&sealed, PASSPHRASE, None).unwrap(), key);
    assert_eq!(
        phone
            .import_key(&sealed, PASSPHRASE, Some("other"))
            .unwrap(),
        key
    );
    let names = |key: KeyId| {
        let keys = phone.list_keys().unwrap();
        let found = keys.into_iter().find(|info| info.id == key).unwrap();
        (found.name, found.role)
    };
    assert_eq!(names(key), ("laptop".to_owned(), KeyRole::Signing));
    let same = SealedKey::to_string(&alice.export_key(key, Some("password"), PASSPHRASE).unwrap());
    assert_ne!(
        same,
        sealed.to_string(),
        "every export has a salt of its own"
    );

    // The names that every user has are taken: the key gets a number, or another name.
    let secret = |name: &str| {
        alice
            .export_key(name, Some("password"), PASSPHRASE)
            .unwrap()
    };
    let default = phone
        .import_key(&secret("default"), PASSPHRASE, None)
        .unwrap();
    assert_eq!(names(default), ("default-2".to_owned(), KeyRole::Signing));
    let recovery = secret("recovery");
    assert!(matches!(
        phone.import_key(&recovery, PASSPHRASE, Some("laptop")),
        Err(Error::KeyExists(_))
    ));
    let recovery = phone
        .import_key(&recovery, PASSPHRASE, Some("alices"))
        .unwrap();
    assert_eq!(names(recovery), ("alices".to_owned(), KeyRole::Recovery));
    assert!(matches!(
        phone.set_default_key("alices"),
        Err(Error::KeyRole { .. })
    ));
}

#[test]
fn what_is_no_exported_key_is_refused() {
    let alice = user(&instance(), "alice");
    let export = |passphrase: &str| alice.export_key("default", None, passphrase);
    let short = "x".repeat(limits::PASSPHRASE_CHARS - 1);
    assert!(matches!(export(&short), Err(Error::WeakPassphrase)));
    let text = export(&"é".repeat(limits::PASSPHRASE_CHARS))
        .unwrap()
        .to_string();
    let error = |text: &str| match text.parse::<SealedKey>() {
        Err(Error::SealedKey(error)) => error,
        other => panic!("{text}: {other:?}"),
    };
    let (head, tail) = text.rsplit_once(':').unwrap();
    for wrong in [
        "",
        "eidetica-key-",
        "eidetica-key-1:",
        head,
        &text[1..],
        &text.to_uppercase(),
        &format!("{head}:{}", &tail[..tail.len() - 4]),
        &format!("{text}AAAA"),
        &format!("{text}="),
        alice.get_default_key().unwrap().as_str(),
    ] {
        assert_eq!(error(wrong), SealedKeyError::Form, "{wrong}");
    }
    assert_eq!(
        error(&text.replace("key-1", "key-2")),
        SealedKeyError::Version
    );
    let at_limit = format!(
        "{head}:{}",
        "A".repeat(limits::SEALED_KEY_BYTES - head.len() - 1)
    );
    assert_ne!(
        error(&at_limit),
        SealedKeyError::TooLong(limits::SEALED_KEY_BYTES)
    );
    assert_eq!(
        error(&format!("{at_limit}A")),
        SealedKeyError::TooLong(limits::SEALED_KEY_BYTES + 1)
    );

    // A text that was altered, or names another key, does not open.
    let other = user(&instance(), "bob").get_default_key().unwrap();
    let swapped = format!("eidetica-key-1:{}:{tail}", &other.as_str()[8..]);
    let swapped: SealedKey = swapped.parse().unwrap();
    let passphrase = "é".repeat(limits::PASSPHRASE_CHARS);
    assert!(matches!(
        alice.import_key(&swapped, &passphrase, None),
        Err(Error::Passphrase)
    ));
}

#[test]
fn an_exported_key_costs_no_more_to_open_than_the_limits_allow() {
    let alice = user(&instance(), "alice");
    let id = alice.get_default_key().unwrap();
    let text = |params: KdfParams, secret: &[u8]| {
        let context = format!("eidetica/exported-key/1/{id}");
        let cheap = KdfParams {
            memory_kib: 64,
            passes: 1,
            lanes: 1,
        };
        let sealed =
            PasswordSealed::seal_with(cheap, secret, PASSPHRASE, &context, &mut rand::rng());
        // The costs stand right after the version, as little-endian words.
        let mut bytes = sealed.unwrap().encode();
        bytes[1..5].copy_from_slice(&params.memory_kib.to_le_bytes());
        bytes[5..9].copy_from_slice(&params.passes.to_le_bytes());
        format!(
            "eidetica-key-1:{}:{}",
            &id.as_str()[8..],
            BASE64URL_NOPAD.encode(&bytes)
        )
    };
    let most = KdfParams {
        memory_kib: limits::SEALED_KEY_MEMORY_KIB,
        passes: limits::SEALED_KEY_PASSES,
        lanes: 1,
    };
    assert!(text(most, &[]).parse::<SealedKey>().is_ok());
    for dear in [
        KdfParams {
            memory_kib: most.memory_kib + 1,
            ..most
        },
        KdfParams {
            passes: most.passes + 1,
            ..most
        },
    ] {
        let error = text(dear, &[]).parse::<SealedKey>().unwrap_err();
        assert!(
            matches!(error, Error::SealedKey(SealedKeyError::Cost)),
            "{error:?}"
        );
    }
    // What opens and is no key of this id is no key.
    let cheap = KdfParams {
        memory_kib: 64,
        passes: 1,
        lanes: 1,
    };
    let seed = *alice.export_private_key(id, None).unwrap().expose();
    let with = |rest: &[u8]| [&seed[..], rest].concat();
    for content in [
        vec![],
        seed.to_vec(),
        with(&[2]),
        with(&[0, 0xff]),
        with(b"\0a\x1b"),
        [&[1; 32][..], &[0]].concat(),
    ] {
        let sealed = text(cheap, &content).parse().unwrap();
        let error = alice.import_key(&sealed, PASSPHRASE, None).unwrap_err();
        assert!(
            matches!(error, Error::SealedKey(SealedKeyError::Content)),
            "{error:?}"
        );
    }
}
