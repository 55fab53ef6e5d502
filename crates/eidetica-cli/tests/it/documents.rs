use serde_json::json;

use crate::home::{FAILED, Home, NOT_FOUND};

#[test]
fn values_have_paths() {
    let home = Home::with_db();
    home.ok(&[
        "set",
        "db",
        "notes",
        "title=Airports",
        "source.url=ourairports.com",
        "counts:=[1,{\"a\":2.5}]",
        "ok:=true",
    ]);
    assert_eq!(
        home.ok(&["get", "db", "notes", "source.url"]),
        "ourairports.com\n"
    );
    assert_eq!(home.ok(&["get", "db", "notes", "counts.1.a"]), "2.5\n");
    assert_eq!(
        home.json(&["get", "db", "notes"]),
        [
            json!({"title": "Airports", "source": {"url": "ourairports.com"}, "counts": [1, {"a": 2.5}], "ok": true})
        ]
    );
    home.ok(&["set", "db", "notes", "counts.0:=7", "source.url:=null"]);
    assert_eq!(
        home.json(&["get", "db", "notes", "counts"]),
        [json!([7, {"a": 2.5}])]
    );
    home.fails(&["get", "db", "notes", "nothing.here"], NOT_FOUND);
}

#[test]
fn a_store_is_a_table_or_a_document() {
    let home = Home::with_db();
    home.ok(&["set", "db", "notes", "a=1"]);
    home.ok(&["set", "db", "rows", "k", "a=1"]);
    let errors = home.fails(&["set", "db", "notes", "k", "a=1"], FAILED);
    assert!(
        errors.contains("store notes is a document, not a table"),
        "{errors}"
    );
    home.fails(&["set", "db", "rows", "a=1"], FAILED);
    home.fails(&["query", "db", "notes"], FAILED);
}

#[test]
fn databases_are_listed_and_described() {
    let home = Home::new();
    let id = home.ok(&["db", "create", "one"]).trim().to_owned();
    home.ok(&["db", "create", "two", "--public"]);
    let names: Vec<_> = home
        .json(&["db", "list"])
        .iter()
        .map(|row| row["name"].clone())
        .collect();
    assert_eq!(names, ["one", "two"]);
    let info = &home.json(&["db", "info", &id[..8]])[0];
    assert_eq!(
        (&info["id"], &info["entries"], &info["everybody"]),
        (&json!(id), &json!(1), &json!(null))
    );
    assert_eq!(home.json(&["db", "info", "two"])[0]["everybody"], "Read");
    let errors = home.fails(&["db", "info", "three"], NOT_FOUND);
    assert!(
        errors.contains("no database is called three") && errors.contains("hint:"),
        "{errors}"
    );
    home.fails(&["db", "info", &"0".repeat(64)], NOT_FOUND);
    // Two databases of one name are told apart by their ids.
    home.ok(&["db", "create", "one"]);
    let errors = home.fails(&["get", "one", "x", "y"], FAILED);
    assert!(errors.contains(&id), "{errors}");
}
