use crate::home::{Home, NOT_FOUND, USAGE};

#[test]
fn errors_are_json_too() {
    let home = Home::with_db();
    let errors = home.fails(&["--json", "get", "db", "t", "k"], NOT_FOUND);
    let value: serde_json::Value = serde_json::from_str(&errors).unwrap();
    assert_eq!(
        (value["code"].as_str(), value["exit_code"].as_i64()),
        (Some("not_found"), Some(3))
    );
    assert!(value["error"].is_string() && value["hint"].is_string());
}

#[test]
fn every_command_explains_itself() {
    let home = Home::empty();
    let help = home.ok(&["--help"]);
    assert!(help.contains("Exit codes:"));
    let commands = help
        .lines()
        .skip_while(|line| *line != "Commands:")
        .skip(1)
        .take_while(|line| !line.is_empty());
    let names: Vec<&str> = commands
        .filter_map(|line| line.strip_prefix("  ")?.split_whitespace().next())
        .collect();
    assert!(names.len() > 10, "{names:?}");
    for name in names {
        assert!(
            home.ok(&["help", name]).contains("Usage: eidetica"),
            "{name}"
        );
    }
    home.fails(&["no-such-command"], USAGE);
    home.fails(&["get"], USAGE);
}

#[test]
fn shells_complete() {
    let home = Home::empty();
    for shell in ["bash", "zsh", "fish", "powershell", "elvish"] {
        assert!(
            home.ok(&["completions", shell]).contains("eidetica"),
            "{shell}"
        );
    }
}

/// `eidetica query .. | head -1` ends quietly.
#[test]
fn a_reader_that_had_enough_is_no_error() {
    let home = Home::with_db();
    let rows: String = (0..3000)
        .map(|i| format!("k{i},{}\n", "x".repeat(100)))
        .collect();
    let file = home.file("t.csv", format!("k,v\n{rows}"));
    home.ok(&["import", &file, "db"]);
    for args in [
        &["--json", "query", "db", "t"][..],
        &["export", "db", "t"],
        &["export", "db", "t", "--format", "csv"],
    ] {
        let mut child = home
            .command(args)
            .stdout(std::process::Stdio::piped())
            .stderr(std::process::Stdio::piped())
            .spawn()
            .unwrap();
        drop(child.stdout.take());
        let output = child.wait_with_output().unwrap();
        assert_eq!(String::from_utf8(output.stderr).unwrap(), "");
        assert!(output.status.success(), "{args:?}");
    }
}
