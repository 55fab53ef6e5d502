use std::io::Write as _;
use std::process::Stdio;

use crate::home::{BAD_INPUT, FAILED, Home, NOT_FOUND, failed, succeeded};

#[test]
fn real_input_is_imported_as_one_atomic_batch() {
    let home = Home::with_db();
    let airports = concat!(env!("CARGO_MANIFEST_DIR"), "/../../data/airports.csv");
    let report = &home.json(&["import", airports, "db"])[0];
    assert_eq!(
        (report["rows"].as_u64(), report["table"].as_str()),
        (Some(3376), Some("airports"))
    );
    assert_eq!(home.rows("airports"), 3376);
    let row = &home.json(&["get", "db", "airports", "SFO"])[0];
    assert_eq!(
        (row["city"].as_str(), row["latitude"].as_f64()),
        (Some("San Francisco"), Some(37.61900194))
    );
    // The same again changes nothing.
    assert_eq!(home.json(&["import", airports, "db"])[0]["entries"], 0);
}

#[test]
fn a_file_changes_rows_field_by_field() {
    let home = Home::with_db();
    let first = home.file("t.csv", "k,a,b\nx,1,one\ny,2,two\n");
    home.ok(&["import", &first, "db"]);
    home.ok(&["set", "db", "t", "x", "c=kept"]);
    let second = home.file(
        "t.jsonl",
        "{\"id\":\"x\",\"a\":10}\n{\"id\":\"z\",\"a\":3}\n",
    );
    home.ok(&["import", &second, "db"]);
    let rows = home.json(&["query", "db", "t"]);
    assert_eq!(
        rows[0],
        serde_json::json!({"key": "x", "a": 10, "b": "one", "c": "kept"})
    );
    assert_eq!(rows.len(), 3);
}

#[test]
fn the_key_may_be_any_column() {
    let home = Home::with_db();
    let file = home.file("t.csv", "a,b\n1,x\n2,y\n");
    home.ok(&["import", &file, "db", "--key", "b"]);
    assert_eq!(home.ok(&["get", "db", "t", "y", "a"]), "2\n");
    let errors = home.fails(&["import", &file, "db", "--key", "c"], BAD_INPUT);
    assert!(errors.contains("no column is called `c`"), "{errors}");
    home.ok(&["import", &file, "db", "text", "--text"]);
    assert_eq!(home.json(&["get", "db", "text", "1", "b"]), ["x"]);
}

#[test]
fn a_bad_line_is_named_and_nothing_is_imported() {
    let home = Home::with_db();
    let good = "k,v\n".to_owned()
        + &(0..100)
            .map(|i| format!("key{i},{i}\n"))
            .collect::<String>();
    let too_long = format!("{good}last,{}\n", "x".repeat(1 << 20));
    for (name, content, place) in [
        (
            "t.csv",
            format!("{good}last\n").into_bytes(),
            "line 102, column 2 (v): the line ends after 1 of 2 columns",
        ),
        (
            "t.csv",
            format!("{good}last,1,2\n").into_bytes(),
            "line 102, column 3: 3 values, the header names 2 columns",
        ),
        (
            "t.csv",
            format!("{good}last,\"open\n").into_bytes(),
            "line 102, column 2 (v): a quote is never closed",
        ),
        (
            "t.csv",
            format!("{good}\"last\"x,1\n").into_bytes(),
            "line 102, column 1 (k): text after the closing quote",
        ),
        (
            "t.csv",
            format!("{good},1\n").into_bytes(),
            "line 102, column 1 (k): the key is empty",
        ),
        (
            "t.csv",
            [good.as_bytes(), b"last,\xff\n"].concat(),
            "line 102, column 2 (v): not UTF-8 text",
        ),
        (
            "t.csv",
            too_long.into_bytes(),
            "line 102: longer than 1048576 bytes",
        ),
        ("t.csv", Vec::new(), "line 1: the file is empty"),
        (
            "t.csv",
            b"k,k\n".to_vec(),
            "line 1, column 2: the column name `k` is used twice",
        ),
        (
            "t.jsonl",
            b"{\"id\":1,\"v\":1}\n{\"id\":2,\"v\":}\n".to_vec(),
            "line 2, column 13: expected value",
        ),
        (
            "t.jsonl",
            b"{\"id\":1}\n\"text\"\n".to_vec(),
            "line 2, column 1: expected a JSON object, found text",
        ),
        (
            "t.jsonl",
            b"{\"id\":1}\n{\"v\":1}\n".to_vec(),
            "line 2, column 1: the object has no field `id` to be its key",
        ),
        (
            "t.jsonl",
            b"{\"id\":1}\n{\"id\":2,\"v\":18446744073709551615}\n".to_vec(),
            "line 2: ",
        ),
    ] {
        let file = home.file(name, content);
        let errors = home.fails(&["import", &file, "db", "t"], BAD_INPUT);
        assert!(
            errors.contains(&format!("{name}, {place}")),
            "expected {place:?}, found {errors}"
        );
    }
    assert_eq!(home.rows("t"), 0);
    assert_eq!(home.json(&["db", "info", "db"])[0]["entries"], 1);
    home.fails(&["import", "missing.csv", "db"], NOT_FOUND);
    let odd = home.file("table.xlsx", "");
    home.fails(&["import", &odd, "db"], BAD_INPUT);
    let file = home.file("t.csv", "k,v\n1,2\n");
    home.fails(&["import", &file, "nothing"], NOT_FOUND);
    home.fails(&["import", &file, "db", "_settings"], FAILED);
}

/// Many rows make several entries, in one batch.
#[test]
fn a_large_file_becomes_several_entries() {
    let home = Home::with_db();
    let line = "x".repeat(1000);
    let rows: String = (0..3000).map(|i| format!("k{i:06},{line}\n")).collect();
    let file = home.file("t.csv", format!("k,v\n{rows}"));
    let report = &home.json(&["import", &file, "db"])[0];
    assert_eq!(report["rows"], 3000);
    assert!(report["entries"].as_u64().unwrap() > 1, "{report}");
    assert_eq!(home.rows("t"), 3000);
}

#[test]
fn rows_come_from_a_pipe_too() {
    let home = Home::with_db();
    let import = |args: &[&str], input: &str| {
        let mut child = home
            .command(args)
            .stdin(Stdio::piped())
            .stderr(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        // A refusal may come before all of it was read.
        let _ = child.stdin.take().unwrap().write_all(input.as_bytes());
        child.wait_with_output().unwrap()
    };
    let args = ["import", "-", "db", "t", "--format", "csv"];
    succeeded(import(&args, "k,v\na,1\nb,2\n"), &args);
    assert_eq!(home.rows("t"), 2);
    let bad = failed(import(&args, "k,v\nc,1\nd\n"), &args, BAD_INPUT);
    assert!(bad.contains("line 3") && bad.contains("hint:"), "{bad}");
    assert_eq!(home.rows("t"), 2);
    let errors = failed(import(&args[..3], ""), &args[..3], BAD_INPUT);
    assert!(errors.contains("name the table"), "{errors}");
    if cfg!(target_os = "linux") {
        let args = ["import", "/dev/stdin", "db", "u", "--format", "jsonl"];
        succeeded(import(&args, "{\"id\":\"a\"}\n"), &args);
        assert_eq!(home.rows("u"), 1);
    }
}
