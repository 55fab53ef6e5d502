use crate::home::{DENIED, FAILED, Home, NOT_FOUND, failed, succeeded};

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
