use crate::home::{BAD_INPUT, DENIED, FAILED, Home, NOT_FOUND, failed, succeeded};

#[test]
fn passwords_come_from_the_environment() {
    let home = Home::empty();
    let with = |password: &str, args: &[&str]| {
        home.command(args)
            .env("EIDETICA_PASSWORD", password)
            .output()
            .unwrap()
    };
    let errors = home.fails(&["init", "--user", "alice"], FAILED);
    assert!(
        errors.contains("EIDETICA_PASSWORD") && errors.contains("--no-password"),
        "{errors}"
    );
    succeeded(with("secret", &["init", "--user", "alice"]), &["init"]);
    succeeded(with("secret", &["db", "create", "db"]), &["db"]);
    let wrong = failed(with("wrong", &["db", "list"]), &["db", "list"], DENIED);
    let unknown = failed(
        with("secret", &["--user", "bob", "db", "list"]),
        &["db", "list"],
        DENIED,
    );
    assert_eq!(wrong, unknown, "who guesses learns nothing");
    home.fails(&["db", "list"], DENIED);

    let args = ["user", "passwd"];
    let change = |old: &str, new: &str| {
        let mut command = home.command(&args);
        command
            .env("EIDETICA_PASSWORD", old)
            .env("EIDETICA_NEW_PASSWORD", new)
            .output()
            .unwrap()
    };
    failed(change("wrong", "new"), &args, DENIED);
    succeeded(change("secret", "new"), &args);
    failed(with("secret", &["db", "list"]), &["db", "list"], DENIED);
    succeeded(with("new", &["db", "list"]), &["db", "list"]);
    succeeded(
        with("new", &["user", "passwd", "--no-password"]),
        &["user", "passwd"],
    );
    home.ok(&["db", "list"]);
}

#[test]
fn of_several_users_one_is_named() {
    let home = Home::with_db();
    home.ok(&["user", "create", "bob", "--no-password"]);
    let errors = home.fails(&["db", "list"], FAILED);
    assert!(errors.contains("--user"), "{errors}");
    assert!(
        home.ok(&["--user", "alice", "db", "list"])
            .contains("Admin(0)")
    );
    let list = home.json(&["--user", "bob", "db", "list"]);
    assert_eq!(
        (&list[0]["right"], &list[0]["name"]),
        (&"none".into(), &"".into())
    );
    // Bob has no right: to him it does not open.
    home.fails(
        &["--user", "bob", "get", "db", "_settings", "name"],
        NOT_FOUND,
    );
    let id = list[0]["id"].as_str().unwrap();
    home.fails(&["--user", "bob", "get", id, "_settings", "name"], DENIED);
}

#[test]
fn keys_are_made_listed_chosen_and_forgotten() {
    let home = Home::with_db();
    let key = home.ok(&["user", "key", "add", "laptop"]).trim().to_owned();
    assert!(key.starts_with("ed25519:"));
    let keys = home.json(&["user", "key", "list"]);
    assert_eq!(keys.len(), 3);
    assert!(keys.iter().any(|row| row["key"] == key.as_str()
        && row["name"] == "laptop"
        && row["role"] == "signing"));
    home.ok(&["user", "key", "default", "laptop"]);
    home.fails(&["user", "key", "forget", "laptop"], FAILED);
    home.ok(&["user", "key", "default", "default"]);
    home.ok(&["user", "key", "forget", &key]);
    home.fails(&["user", "key", "forget", "laptop"], NOT_FOUND);
}

#[test]
fn a_key_is_carried_to_another_device() {
    let (home, phone) = (Home::with_db(), Home::new());
    let with = |home: &Home, passphrase: &str, args: &[&str]| {
        let mut command = home.command(args);
        command
            .env("EIDETICA_PASSPHRASE", passphrase)
            .output()
            .unwrap()
    };
    let passphrase = "nine blue otters";
    let export = ["user", "key", "export", "default"];
    let errors = home.fails(&export, FAILED);
    assert!(errors.contains("EIDETICA_PASSPHRASE"), "{errors}");
    failed(with(&home, "short", &export), &export, BAD_INPUT);
    let unknown = ["user", "key", "export", "nonsense"];
    failed(with(&home, passphrase, &unknown), &unknown, NOT_FOUND);
    let text = succeeded(with(&home, passphrase, &export), &export);
    assert!(text.starts_with("eidetica-key-1:") && text.lines().count() == 1);

    phone.file("key", &text);
    let import = ["--json", "user", "key", "import", "key"];
    let errors = failed(with(&phone, "nine blue otter", &import), &import, DENIED);
    assert!(errors.contains("passphrase"), "{errors}");
    let imported = succeeded(with(&phone, passphrase, &import), &import);
    let imported: serde_json::Value = serde_json::from_str(&imported).unwrap();
    let keys = home.json(&["user", "key", "list"]);
    assert!(
        keys.iter()
            .any(|row| row["default"] == true && row["key"] == imported["key"])
    );
    assert_eq!(
        (&imported["name"], &imported["role"]),
        (&"default-2".into(), &"signing".into())
    );

    for (file, content) in [
        ("damaged", &text[1..]),
        ("long", &text.repeat(100)),
        ("binary", "\u{0}\u{1b}[2J"),
    ] {
        phone.file(file, content);
        let import = ["user", "key", "import", file];
        failed(with(&phone, passphrase, &import), &import, BAD_INPUT);
    }
    let missing = ["user", "key", "import", "missing"];
    failed(with(&phone, passphrase, &missing), &missing, NOT_FOUND);
}

#[test]
fn an_exported_key_in_a_file_is_for_its_owner_alone() {
    let home = Home::new();
    let export = ["user", "key", "export", "recovery", "--output", "key"];
    let run = || {
        let mut command = home.command(&export);
        command
            .env("EIDETICA_PASSPHRASE", "nine blue otters")
            .output()
            .unwrap()
    };
    succeeded(run(), &export);
    let before = std::fs::read(home.path().join("key")).unwrap();
    assert!(before.starts_with(b"eidetica-key-1:"));
    failed(run(), &export, FAILED);
    assert_eq!(
        std::fs::read(home.path().join("key")).unwrap(),
        before,
        "no file is replaced"
    );
    #[cfg(unix)]
    {
        use std::os::unix::fs::PermissionsExt;
        let mode = std::fs::metadata(home.path().join("key"))
            .unwrap()
            .permissions()
            .mode();
        assert_eq!(mode & 0o777, 0o600);
    }
}

#[test]
fn a_user_sees_which_key_opens_which_database() {
    let home = Home::with_db();
    home.ok(&["user", "key", "new", "laptop"]);
    let rows = home.json(&["user", "key", "list", "--databases"]);
    let mut found: Vec<_> = rows
        .iter()
        .map(|row| {
            (
                row["name"].as_str().unwrap(),
                row["right"].as_str().unwrap(),
                row["database_name"].as_str().unwrap(),
            )
        })
        .collect();
    found.sort_unstable();
    assert_eq!(
        found,
        [
            ("default", "Admin(0)", "db"),
            ("recovery", "Recovery", "db")
        ]
    );
}
