use serde_json::json;

use crate::home::{BAD_INPUT, FAILED, Home, NOT_FOUND};

fn airports() -> Home {
    let home = Home::with_db();
    let csv = "code,name,city,runways\nSFO,San Francisco,San Francisco,4\nOAK,Oakland,Oakland,3\nSJC,Norman Y. Mineta,San Jose,2\nHND,Haneda,東京,4\n";
    let file = home.file("airports.csv", csv);
    home.ok(&["import", &file, "db"]);
    home
}

#[test]
fn a_row_and_a_field_are_read() {
    let home = airports();
    let text = home.ok(&["get", "db", "airports", "SFO"]);
    assert_eq!(
        text,
        "city     San Francisco\nname     San Francisco\nrunways  4\n"
    );
    assert_eq!(home.ok(&["get", "db", "airports", "HND", "city"]), "東京\n");
    assert_eq!(
        home.json(&["get", "db", "airports", "OAK"]),
        [json!({"name": "Oakland", "city": "Oakland", "runways": 3})]
    );
    home.fails(&["get", "db", "airports", "XXX"], NOT_FOUND);
    home.fails(&["get", "db", "airports", "SFO", "altitude"], NOT_FOUND);
    let errors = home.fails(&["get", "db", "nowhere", "SFO"], NOT_FOUND);
    assert!(
        errors.contains("hint: there are: _settings, airports"),
        "{errors}"
    );
    home.fails(&["get", "db", "airports"], FAILED);
}

#[test]
fn fields_are_set_and_rows_are_made() {
    let home = airports();
    home.ok(&[
        "set",
        "db",
        "airports",
        "SFO",
        "name=SFO International",
        "runways:=5",
        "tags:=[\"big\",1]",
    ]);
    home.ok(&["set", "db", "airports", "NRT", "name=Narita"]);
    home.ok(&["set", "db", "airports", "--row", "a=b", "name=odd"]);
    assert_eq!(
        home.json(&["get", "db", "airports", "SFO"]),
        [
            json!({"name": "SFO International", "city": "San Francisco", "runways": 5, "tags": ["big", 1]})
        ]
    );
    assert_eq!(
        home.json(&["get", "db", "airports", "NRT"]),
        [json!({"name": "Narita"})]
    );
    assert_eq!(
        home.json(&["get", "db", "airports", "a=b"]),
        [json!({"name": "odd"})]
    );
    // Setting what is there already makes no entry.
    assert_eq!(
        home.json(&["set", "db", "airports", "NRT", "name=Narita"]),
        [json!({"entry": null})]
    );
    home.fails(&["set", "db", "airports", "SFO"], BAD_INPUT);
    home.fails(
        &["set", "db", "airports", "SFO", "runways:=four"],
        BAD_INPUT,
    );
}

#[test]
fn queries_filter_order_and_limit() {
    let home = airports();
    let keys = |args: &[&str]| -> Vec<String> {
        let rows = home.json(&[&["query", "db", "airports"], args].concat());
        rows.iter()
            .map(|row| row["key"].as_str().unwrap().to_owned())
            .collect()
    };
    assert_eq!(keys(&[]), ["HND", "OAK", "SFO", "SJC"]);
    assert_eq!(keys(&["--reverse", "--limit", "2"]), ["SJC", "SFO"]);
    assert_eq!(
        keys(&["--where", "runways>=3", "--where", "city!=東京"]),
        ["OAK", "SFO"]
    );
    assert_eq!(keys(&["--where", "name~an", "-n", "1"]), ["HND"]);
    assert_eq!(keys(&["--prefix", "S"]), ["SFO", "SJC"]);
    assert_eq!(keys(&["--from", "OAK", "--to", "SFO"]), ["OAK", "SFO"]);
    assert_eq!(keys(&["--sort", "runways"]), ["SJC", "OAK", "HND", "SFO"]);
    assert_eq!(
        keys(&["--sort", "runways", "--reverse", "-n", "1"]),
        ["SFO"]
    );
    assert_eq!(
        home.ok(&["query", "db", "airports", "--count", "-w", "runways=4"]),
        "2\n"
    );
    let text = home.ok(&["query", "db", "airports", "--fields", "city", "-n", "2"]);
    assert_eq!(text, "KEY  CITY\nHND  東京\nOAK  Oakland\n");
}

#[test]
fn what_is_exported_imports_again() {
    let home = airports();
    for name in ["out.csv", "out.jsonl"] {
        home.ok(&["export", "db", "airports", "--output", name]);
        home.ok(&["import", name, "db", "copy"]);
        let of = |table: &str| home.json(&["query", "db", table]);
        assert_eq!(of("airports"), of("copy"), "{name}");
        // An export does not replace a file.
        home.fails(&["export", "db", "airports", "--output", name], FAILED);
    }
    home.ok(&["export", "db", "airports", "-o", "out.csv", "--replace"]);
    // What cannot be written to its end is not there.
    let wide: Vec<String> = (0..1_100).map(|n| format!("\"f{n}\":1")).collect();
    home.file("wide.jsonl", format!("{{\"id\":\"w\",{}}}", wide.join(",")));
    home.ok(&["import", "wide.jsonl", "db", "wide"]);
    home.fails(&["export", "db", "wide", "-o", "wide.csv"], FAILED);
    assert!(!home.path().join("wide.csv").exists());
    let csv = home.ok(&[
        "export", "db", "airports", "--format", "csv", "--key", "code",
    ]);
    assert_eq!(csv.lines().next().unwrap(), "code,city,name,runways");
}

#[test]
fn history_is_newest_first_and_names_authors() {
    let home = airports();
    home.ok(&["set", "db", "airports", "SFO", "name=x"]);
    let log = home.json(&["log", "db"]);
    let heights: Vec<_> = log
        .iter()
        .map(|entry| entry["height"].as_u64().unwrap())
        .collect();
    assert_eq!(heights, [2, 1, 0]);
    assert_eq!(log[0]["parents"], json!([log[1]["id"]]));
    assert_eq!(log[0]["stores"][0]["name"], "airports");
    assert_eq!(log[2]["stores"][0]["name"], "_settings");
    assert_eq!(home.json(&["log", "db", "-n", "1"]), log[..1]);
}

#[test]
fn what_is_stored_verifies() {
    let home = airports();
    let report = &home.json(&["verify"])[0];
    assert_eq!(
        (&report["sound"], &report["fault_count"]),
        (&json!(true), &json!(0))
    );
    assert_eq!(home.json(&["verify", "db"])[0]["entries"], 2);
}
