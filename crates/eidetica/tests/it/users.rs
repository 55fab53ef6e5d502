use std::time::{Duration, Instant};

use eidetica::{Blame, Error, Instance};

use crate::{Disk, instance};

fn login_error(instance: &Instance, name: &str, password: Option<&str>) -> String {
    let error = instance.login_user(name, password).unwrap_err();
    assert!(matches!(error, Error::Login), "{error:?}");
    assert_eq!(error.blame(), Blame::Caller);
    error.to_string()
}

#[test]
fn users_log_in_with_their_own_password_or_with_none() {
    let instance = instance();
    instance
        .create_user("alice", Some("correct horse"))
        .unwrap();
    instance.create_user("bob", None).unwrap();
    assert_eq!(instance.list_users().unwrap(), ["alice", "bob"]);
    assert_eq!(
        instance
            .login_user("alice", Some("correct horse"))
            .unwrap()
            .name(),
        "alice"
    );
    assert_eq!(instance.login_user("bob", None).unwrap().name(), "bob");
}

#[test]
fn what_is_wrong_with_a_login_is_not_said() {
    let instance = instance();
    instance
        .create_user("alice", Some("correct horse"))
        .unwrap();
    instance.create_user("bob", None).unwrap();
    let texts: Vec<String> = [
        ("alice", Some("wrong")),
        ("alice", Some("")),
        ("alice", None),
        ("bob", Some("anything")),
        ("nobody", Some("correct horse")),
        ("nobody", None),
        ("", None),
        ("Alice", Some("correct horse")),
    ]
    .into_iter()
    .map(|(name, password)| login_error(&instance, name, password))
    .collect();
    assert!(texts.iter().all(|text| *text == texts[0]), "{texts:?}");
}

/// The least of a few runs, so that a busy machine does not decide.
fn time(mut work: impl FnMut()) -> Duration {
    let run = |_| {
        let start = Instant::now();
        work();
        start.elapsed()
    };
    (0..3).map(run).min().unwrap()
}

/// Without the dummy run the factor is some thousands, so that a wide margin costs nothing.
#[test]
fn an_unknown_user_takes_as_long_as_a_wrong_password() {
    let instance = instance();
    instance
        .create_user("alice", Some("correct horse"))
        .unwrap();
    instance.create_user("bob", None).unwrap();
    let attempt = |name: &'static str| time(|| drop(instance.login_user(name, Some("wrong"))));
    let [wrong, unknown, without] = ["alice", "nobody", "bob"].map(attempt);
    for other in [unknown, without] {
        assert!(
            other > wrong / 5 && other < wrong * 5,
            "{wrong:?} {unknown:?} {without:?}"
        );
    }
    assert!(
        wrong > Duration::from_millis(10),
        "the password hash costs something: {wrong:?}"
    );
}

#[test]
fn a_user_name_is_given_once_and_shows_what_it_is() {
    let instance = instance();
    instance.create_user("alice", None).unwrap();
    assert!(
        matches!(instance.create_user("alice", Some("x")), Err(Error::UserExists(name)) if name == "alice")
    );
    assert!(
        instance.login_user("alice", None).is_ok(),
        "the first one is as it was"
    );
    assert!(matches!(
        instance.create_user("", None),
        Err(Error::Text { .. })
    ));
    for name in ["a\u{1b}[31m", "a\nb", "\u{202e}ecila", &"x".repeat(256)] {
        assert!(
            matches!(instance.create_user(name, None), Err(Error::Name(_))),
            "{name:?}"
        );
    }
    for name in ["=", "a/b", "../x", "alice ", "Ålice", &"x".repeat(255)] {
        instance.create_user(name, None).unwrap();
        assert_eq!(instance.login_user(name, None).unwrap().name(), name);
    }
}

#[test]
fn of_many_that_create_one_user_at_the_same_time_one_succeeds() {
    let instance = instance();
    let created: usize = std::thread::scope(|scope| {
        let create = || usize::from(instance.create_user("alice", None).is_ok());
        let threads: Vec<_> = (0..8).map(|_| scope.spawn(create)).collect();
        threads
            .into_iter()
            .map(|thread| thread.join().unwrap())
            .sum()
    });
    assert_eq!(created, 1);
}

#[test]
fn a_password_can_be_changed_set_and_removed() {
    let disk = Disk::new();
    let instance = disk.open();
    instance.create_user("alice", Some("one")).unwrap();
    let alice = instance.login_user("alice", Some("one")).unwrap();
    let key = alice.add_private_key(Some("laptop")).unwrap();
    for wrong in [Some("two"), None] {
        assert!(matches!(
            alice.change_password(wrong, Some("three")),
            Err(Error::Login)
        ));
    }
    for (old, new) in [
        (Some("one"), Some("two")),
        (Some("two"), None),
        (None, Some("three")),
    ] {
        alice.change_password(old, new).unwrap();
        login_error(&instance, "alice", old);
    }
    let again = disk.open().login_user("alice", Some("three")).unwrap();
    assert!(
        again
            .list_keys()
            .unwrap()
            .iter()
            .any(|info| info.id == key && info.name == "laptop")
    );
    assert_eq!(again.list_keys().unwrap(), alice.list_keys().unwrap());
}

#[test]
fn a_change_of_password_happens_as_a_whole_or_not_at_all() {
    let disk = Disk::new();
    let alice = crate::user(&disk.open(), "alice");
    let keys = alice.list_keys().unwrap();
    let mut failed = 0;
    loop {
        disk.allow_writes(failed);
        let alice = disk.open().login_user("alice", None);
        let done = alice.and_then(|alice| alice.change_password(None, Some("two")));
        disk.allow_writes(usize::MAX);
        let (new, old) = if done.is_ok() {
            (Some("two"), None)
        } else {
            (None, Some("two"))
        };
        let instance = disk.open();
        login_error(&instance, "alice", old);
        let again = instance.login_user("alice", new).unwrap();
        assert_eq!(again.list_keys().unwrap(), keys);
        if done.is_ok() {
            break;
        }
        failed += 1;
    }
    assert!(failed > 0, "at some point it failed");
}

#[test]
fn all_handles_of_a_user_share_keys_and_password() {
    let disk = Disk::new();
    let instance = disk.open();
    instance.create_user("alice", Some("one")).unwrap();
    let login = |password| instance.login_user("alice", Some(password)).unwrap();
    let (first, second) = (login("one"), login("one"));
    first.change_password(Some("one"), Some("two")).unwrap();
    login_error(&instance, "alice", Some("one"));
    // What the other handle adds is sealed for the new password.
    let key = second.add_private_key(Some("laptop")).unwrap();
    second.set_default_key("laptop").unwrap();
    assert_eq!(first.get_default_key().unwrap(), key);
    let again = disk.open().login_user("alice", Some("two")).unwrap();
    assert_eq!(again.list_keys().unwrap(), first.list_keys().unwrap());
    login_error(&disk.open(), "alice", Some("one"));
}

#[test]
fn an_instance_keeps_its_device_key_and_users() {
    let disk = Disk::new();
    let first = disk.open();
    let device = first.device_key();
    first.create_user("alice", None).unwrap();
    let key = first
        .login_user("alice", None)
        .unwrap()
        .get_default_key()
        .unwrap();
    drop(first);
    let second = disk.open();
    assert_eq!(second.device_key(), device);
    assert_eq!(
        second
            .login_user("alice", None)
            .unwrap()
            .get_default_key()
            .unwrap(),
        key
    );
    assert_ne!(instance().device_key(), device);
}

#[test]
fn locations_name_backends() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("data");
    let location = format!("file:{}", path.display());
    let device = {
        let instance = Instance::connect(&location).unwrap();
        instance.create_user("alice", None).unwrap();
        instance.device_key()
    };
    let again = Instance::connect(&location).unwrap();
    assert_eq!(again.device_key(), device);
    assert!(again.login_user("alice", None).is_ok());
    assert!(
        Instance::connect("memory:")
            .unwrap()
            .list_users()
            .unwrap()
            .is_empty()
    );
    for wrong in ["", "memory", "memory:x", "nfs:/x", "/tmp/x"] {
        assert!(matches!(
            Instance::connect(wrong),
            Err(Error::Location { location, .. }) if location == wrong
        ));
    }
}

#[cfg(unix)]
#[test]
fn files_are_for_their_owner_alone() {
    use std::os::unix::fs::PermissionsExt;
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("data");
    let instance = Instance::connect(&format!("file:{}", path.display())).unwrap();
    instance.create_user("alice", None).unwrap();
    let mut open = vec![path];
    let mut files = 0;
    while let Some(path) = open.pop() {
        let meta = std::fs::metadata(&path).unwrap();
        assert_eq!(meta.permissions().mode() & 0o077, 0, "{}", path.display());
        if meta.is_dir() {
            open.extend(
                std::fs::read_dir(&path)
                    .unwrap()
                    .map(|entry| entry.unwrap().path()),
            );
        } else {
            files += 1;
        }
    }
    assert!(files > 0);
}
