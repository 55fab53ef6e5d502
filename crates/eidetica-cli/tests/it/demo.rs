use std::io::{BufRead, BufReader};
use std::process::Stdio;

use serde_json::Value;

use crate::home::{BAD_INPUT, FAILED, Home, NOT_FOUND};

#[test]
fn the_main_job_is_done() {
    let home = Home::empty();
    let text = home.ok(&["--data-dir", "demo", "demo"]);
    for said in [
        "Alice imports airports.csv",
        "3,376 rows",
        "Bob asks for access",
        "Both hold the same state",
        "refused",
    ] {
        assert!(text.contains(said), "{said} is missing in\n{text}");
    }
    // What it suggests works.
    let suggested: Vec<&str> = text
        .lines()
        .filter_map(|line| line.strip_prefix("  eidetica "))
        .collect();
    assert!(suggested.len() >= 4, "{text}");
    for line in suggested.iter().filter(|line| !line.ends_with("serve")) {
        home.ok(&line.split_whitespace().collect::<Vec<_>>());
    }
    home.fails(&["--data-dir", "demo", "demo"], FAILED);
}

#[test]
fn any_file_of_rows_will_do() {
    let home = Home::empty();
    let file = home.file(
        "people.jsonl",
        "{\"id\":\"ann\",\"age\":30}\n{\"id\":\"ben\",\"x\":\"\\u001b[2J\"}\n{\"id\":\"cy d\"}\n",
    );
    let text = home.ok(&["--json", "--data-dir", "demo", "demo", "--input", &file]);
    let steps: Vec<Value> = text
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect();
    let same = steps
        .iter()
        .find(|step| step["facts"]["alice"].is_string())
        .unwrap();
    assert_eq!(same["facts"]["alice"], same["facts"]["bob"]);
    assert!(
        steps
            .iter()
            .filter(|step| step["step"].is_number())
            .all(|step| step["seconds"].is_number())
    );

    let few = home.file("few.csv", "k\na\n");
    home.fails(&["--data-dir", "few", "demo", "--input", &few], BAD_INPUT);
    home.fails(
        &["--data-dir", "none", "demo", "--input", "none.csv"],
        NOT_FOUND,
    );
}

/// With `--keep` both nodes go on serving: a third one finds them.
#[test]
fn kept_nodes_serve_until_they_are_interrupted() {
    let home = Home::empty();
    let mut child = home
        .command(&["--json", "--data-dir", "demo", "demo", "--keep"])
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let lines = BufReader::new(child.stdout.take().unwrap()).lines();
    let values = lines.map(|line| serde_json::from_str::<Value>(&line.unwrap()).unwrap());
    let mut id = String::new();
    let end = values
        .inspect(|value| {
            if let Some(found) = value["facts"]["database"].as_str() {
                found.clone_into(&mut id);
            }
        })
        .find(|value| value["bob"].is_string())
        .unwrap();
    home.ok(&[
        "--data-dir",
        "carol",
        "init",
        "--user",
        "carol",
        "--no-password",
    ]);
    for node in ["alice", "bob"] {
        let address = end[node].as_str().unwrap();
        home.fails(
            &["--data-dir", "carol", "sync", address, &id],
            crate::home::PENDING,
        );
    }
    child.kill().unwrap();
    child.wait().unwrap();
}
