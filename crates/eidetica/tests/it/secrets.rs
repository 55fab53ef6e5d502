//! Nothing secret shows: not in logs, not in Debug output, not in stored rows.

use std::{
    io,
    sync::{Arc, Mutex},
};

use eidetica::{User, auth::SecretKey, backend::Backend};
use eidetica_storage::{Direction, KeyRange, ScanLimit, Space};
use tracing_subscriber::fmt::MakeWriter;

use crate::{Disk, database, named, read, user, write};

const PASSWORD: &str = "correct horse battery staple";
const PASSPHRASE: &str = "unrelated words protect it";

/// The texts and bytes that must not show: the password, and every private key of the user as hex,
/// as bytes and as a list of numbers. The user has no password yet.
fn forbidden(user: &User) -> Vec<Vec<u8>> {
    let mut forbidden = vec![PASSWORD.into(), PASSPHRASE.into()];
    for key in user.list_keys().unwrap() {
        let secret = user.export_private_key(key.id, None).unwrap();
        forbidden.extend(forms(&secret));
    }
    forbidden
}

fn forms(secret: &SecretKey) -> [Vec<u8>; 4] {
    let seed = *secret.expose();
    let hex = secret
        .expose_text()
        .trim_start_matches("ed25519-secret:")
        .to_owned();
    let numbers = format!("{seed:?}").trim_matches(['[', ']']).to_owned();
    [
        seed.to_vec(),
        hex.to_uppercase().into_bytes(),
        hex.into_bytes(),
        numbers.into_bytes(),
    ]
}

fn assert_absent(haystack: &[u8], forbidden: &[Vec<u8>], place: &str) {
    for needle in forbidden {
        // A part of a secret is a secret.
        let needle = &needle[..needle.len().min(16)];
        let found = haystack
            .windows(needle.len())
            .any(|window| window == needle);
        assert!(!found, "a secret shows in {place}");
    }
}

#[derive(Clone, Default)]
struct Log(Arc<Mutex<Vec<u8>>>);

impl io::Write for Log {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().unwrap().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl<'a> MakeWriter<'a> for Log {
    type Writer = Self;

    fn make_writer(&'a self) -> Self {
        self.clone()
    }
}

#[test]
fn logs_at_trace_level_hold_no_secret() {
    let log = Log::default();
    let subscriber = tracing_subscriber::fmt()
        .with_max_level(tracing::Level::TRACE)
        .with_writer(log.clone())
        .finish();
    let secrets = tracing::subscriber::with_default(subscriber, || {
        tracing::trace!("a line, so that the log is known to work");
        let disk = Disk::new();
        let instance = disk.open();
        let alice = user(&instance, "alice");
        alice.add_private_key(Some("backup")).unwrap();
        let secrets = forbidden(&alice);
        let db = database(&alice, "notes");
        db.on_local_write(|_, _, _| Err(eidetica::Error::Closed))
            .unwrap();
        write(&db, "a", "1").unwrap();
        drop(alice.create_database(named("x"), "nonsense"));
        alice.change_password(None, Some(PASSWORD)).unwrap();
        let sealed = alice
            .export_key("backup", Some(PASSWORD), PASSPHRASE)
            .unwrap();
        let bob = user(&instance, "bob");
        drop(bob.import_key(&sealed, "a wrong passphrase", None));
        bob.import_key(&sealed, PASSPHRASE, None).unwrap();
        drop(instance.login_user("alice", Some("wrong")));
        drop(disk.open().login_user("alice", Some(PASSWORD)).unwrap());
        secrets
    });
    let text = log.0.lock().unwrap();
    assert!(text.len() > 20);
    assert_absent(&text, &secrets, "the log");
}

#[test]
fn debug_output_holds_no_secret() {
    let instance = Disk::new().open();
    let alice = user(&instance, "alice");
    let secrets = forbidden(&alice);
    alice.change_password(None, Some(PASSWORD)).unwrap();
    let db = database(&alice, "notes");
    let sealed = alice
        .export_key("default", Some(PASSWORD), PASSPHRASE)
        .unwrap();
    assert_absent(sealed.to_string().as_bytes(), &secrets, "an exported key");
    let errors = [
        alice
            .import_key(&sealed, "a wrong passphrase", None)
            .unwrap_err(),
        sealed.to_string()[1..]
            .parse::<eidetica::user::SealedKey>()
            .unwrap_err(),
        instance
            .login_user("alice", Some(&format!("{PASSWORD}!")))
            .unwrap_err(),
        alice.set_default_key("nonsense").unwrap_err(),
    ];
    let shown = format!(
        "{instance:#?} {alice:#?} {db:#?} {errors:#?} {sealed:#?} {:#?}",
        alice.list_keys().unwrap()
    );
    assert_absent(shown.as_bytes(), &secrets, "Debug output");
}

/// Every stored key and value.
fn stored(disk: &Disk) -> Vec<u8> {
    let snapshot = disk.snapshot().unwrap();
    let mut bytes = Vec::new();
    for space in Space::ALL {
        let page = snapshot
            .scan(
                space,
                &KeyRange::all(),
                Direction::Forward,
                ScanLimit::rows(100_000),
            )
            .unwrap();
        assert!(!page.more);
        for row in page.rows {
            bytes.extend_from_slice(&row.key);
            bytes.extend_from_slice(&row.value);
        }
    }
    bytes
}

#[test]
fn the_keys_of_a_user_with_a_password_are_stored_sealed() {
    let disk = Disk::new();
    let instance = disk.open();
    instance.create_user("alice", Some(PASSWORD)).unwrap();
    let alice = instance.login_user("alice", Some(PASSWORD)).unwrap();
    let known = SecretKey::from_bytes(&[0xa7; 32]);
    alice
        .import_private_key(known.clone(), Some("known"))
        .unwrap();
    let bytes = stored(&disk);
    let public = alice.get_default_key().unwrap();
    assert!(
        bytes
            .windows(64)
            .any(|window| window == &public.as_str().as_bytes()[8..]),
        "the scan finds what is there"
    );
    let mut secrets = forms(&known).to_vec();
    secrets.push(PASSWORD.as_bytes().to_vec());
    assert_absent(&bytes, &secrets, "the rows");
}

#[test]
fn setting_a_password_leaves_no_open_key_behind() {
    let disk = Disk::new();
    let instance = disk.open();
    let alice = user(&instance, "alice");
    let secrets = forbidden(&alice);
    let open = stored(&disk);
    alice.change_password(None, Some(PASSWORD)).unwrap();
    let sealed = stored(&disk);
    assert_ne!(open, sealed);
    assert_absent(&sealed, &secrets, "the rows");
    drop(alice);
    assert!(disk.open().login_user("alice", None).is_err());
    let alice = disk.open().login_user("alice", Some(PASSWORD)).unwrap();
    let db = database(&alice, "notes");
    write(&db, "a", "1").unwrap();
    assert_eq!(read(&db, "a").as_deref(), Some("1"));
}
