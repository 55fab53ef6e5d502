use eidetica::{
    Error, Id,
    user::types::{DatabasePreferences, SyncSettings},
};

use crate::{Disk, database, instance, user};

fn prefs(user: &eidetica::User, database_id: Id, seconds: u64) -> DatabasePreferences {
    let sync_settings = SyncSettings {
        interval_seconds: Some(seconds),
        ..Default::default()
    };
    DatabasePreferences {
        database_id,
        key_id: user.get_default_key().unwrap(),
        sync_settings,
    }
}

#[test]
fn the_default_synchronizes_with_no_interval_and_not_on_commit() {
    let SyncSettings {
        sync_enabled,
        sync_on_commit,
        interval_seconds,
        properties,
    } = SyncSettings::default();
    assert!(sync_enabled && !sync_on_commit && interval_seconds.is_none() && properties.is_empty());
}

#[test]
fn tracked_databases_are_listed_changed_and_removed() {
    let disk = Disk::new();
    let instance = disk.open();
    let alice = user(&instance, "alice");
    let db = database(&alice, "notes");
    let id = db.root_id();
    assert!(alice.list_database_prefs().unwrap().is_empty());
    assert!(matches!(alice.database_prefs(id), Err(Error::NotTracked(found)) if found == id));
    assert!(matches!(
        alice.set_prefs(prefs(&alice, id, 60)),
        Err(Error::NotTracked(_))
    ));
    assert!(matches!(
        alice.remove_database(id),
        Err(Error::NotTracked(_))
    ));

    alice.add_database(prefs(&alice, id, 60)).unwrap();
    let found = alice.database_prefs(id).unwrap();
    assert_eq!(found.database_prefs, prefs(&alice, id, 60));
    assert!(found.added_at > 0);
    let mut changed = found.clone();
    changed.sync_settings.sync_enabled = false;
    changed
        .sync_settings
        .properties
        .insert("colour".into(), "red".into());
    alice.set_prefs(changed.database_prefs.clone()).unwrap();
    alice.add_database(changed.database_prefs.clone()).unwrap();

    let again = disk.open().login_user("alice", None).unwrap();
    assert_eq!(again.list_database_prefs().unwrap(), [changed]);
    again.remove_database(id).unwrap();
    assert!(again.list_database_prefs().unwrap().is_empty());
    assert!(alice.open_database(id).is_ok(), "the data stay");
}

#[test]
fn each_user_has_its_own_preferences() {
    let instance = instance();
    let (alice, bob) = (user(&instance, "alice"), user(&instance, "bob"));
    let id = database(&alice, "notes").root_id();
    alice.add_database(prefs(&alice, id, 300)).unwrap();
    bob.add_database(prefs(&bob, id, 60)).unwrap();
    assert_eq!(
        alice
            .database_prefs(id)
            .unwrap()
            .sync_settings
            .interval_seconds,
        Some(300)
    );
    assert_eq!(
        bob.database_prefs(id)
            .unwrap()
            .sync_settings
            .interval_seconds,
        Some(60)
    );
    bob.remove_database(id).unwrap();
    assert_eq!(alice.list_database_prefs().unwrap().len(), 1);
}

#[test]
fn a_database_may_be_tracked_before_it_is_here() {
    let alice = user(&instance(), "alice");
    let id = database(&user(&instance(), "bob"), "elsewhere").root_id();
    alice.add_database(prefs(&alice, id, 60)).unwrap();
    assert!(matches!(alice.open_database(id), Err(Error::NoDatabase(_))));
}

#[test]
fn the_key_must_be_the_users_and_one_with_a_right_is_found() {
    let instance = instance();
    let (alice, bob) = (user(&instance, "alice"), user(&instance, "bob"));
    let id = database(&alice, "notes").root_id();
    assert!(matches!(
        alice.add_database(prefs(&bob, id, 60)),
        Err(Error::NoSuchKey(_))
    ));
    let useless = alice.add_private_key(Some("useless")).unwrap();
    alice
        .add_database(DatabasePreferences {
            key_id: useless,
            ..prefs(&alice, id, 60)
        })
        .unwrap();
    assert_eq!(
        alice.database_prefs(id).unwrap().key_id,
        alice.get_default_key().unwrap()
    );
}

#[test]
fn a_tracked_database_opens_with_the_key_of_its_preferences() {
    let instance = instance();
    let alice = user(&instance, "alice");
    let db = database(&alice, "notes");
    let daily = alice.add_private_key(Some("daily")).unwrap();
    let op = db.new_operation().unwrap();
    op.settings()
        .grant(
            daily.public_key(),
            eidetica::auth::Permission::Write(1),
            "daily",
        )
        .unwrap();
    op.commit().unwrap();
    let id = db.root_id();
    alice
        .add_database(DatabasePreferences {
            key_id: daily,
            ..prefs(&alice, id, 60)
        })
        .unwrap();
    assert_eq!(alice.open_database(id).unwrap().default_auth_key(), daily);
    alice.remove_database(id).unwrap();
    assert_eq!(
        alice.open_database(id).unwrap().default_auth_key(),
        alice.get_default_key().unwrap()
    );
}
