use crate::home::{BAD_INPUT, Home, NOT_FOUND};

/// Strings that do something to a terminal, to a shell's output or to the eye.
const NASTY: [&str; 9] = [
    "\u{1b}[2J\u{1b}]0;owned\u{7}",
    "a\nb\r\nc\td",
    "\u{202e}gpj.exe",
    "\u{9b}31m\u{7f}\u{80}",
    "\u{200b}\u{200f}\u{feff}\u{2066}x\u{2069}",
    "\u{e0041}\u{fffe}",
    "../../etc/passwd",
    "<script>alert(1)</script> & \"q\"",
    "'; DROP TABLE t; --",
];

fn is_safe(text: &str) -> bool {
    text.chars().all(|c| {
        c == '\n'
            || !(c.is_control()
                || matches!(c, '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{206f}' | '\u{feff}' | '\u{e0000}'..='\u{e007f}' | '\u{fffe}'))
    })
}

#[test]
fn keys_fields_and_values_are_shown_escaped() {
    let home = Home::with_db();
    let lines: String = NASTY
        .iter()
        .map(|text| {
            format!(
                "{}\n",
                serde_json::json!({"id": text, "value": text, "k": {*text: text}})
            )
        })
        .collect();
    let file = home.file("t.jsonl", lines);
    home.ok(&["import", &file, "db"]);
    for args in [
        &["query", "db", "t"][..],
        &["--json", "query", "db", "t"],
        &["export", "db", "t"],
    ] {
        let text = home.ok(args);
        assert!(is_safe(&text), "{args:?}: {text:?}");
        assert_eq!(
            text.lines().count(),
            NASTY.len() + usize::from(args[0] == "query"),
            "{args:?}: {text:?}"
        );
    }
    // JSON keeps the value; nothing is lost by showing it safely.
    let values: Vec<_> = home
        .json(&["query", "db", "t"])
        .iter()
        .map(|row| row["value"].as_str().unwrap().to_owned())
        .collect();
    let mut expected = NASTY.map(str::to_owned);
    expected.sort();
    assert_eq!(values, expected);
    for text in NASTY {
        for args in [
            &["get", "db", "t", text][..],
            &["get", "db", "t", text, "value"],
            &["get", "db", "t", text, "--versions"],
        ] {
            let shown = home.ok(args);
            assert!(is_safe(&shown), "{args:?}: {shown:?}");
        }
    }
}

#[test]
fn errors_are_shown_escaped() {
    let home = Home::with_db();
    for text in NASTY {
        for args in [
            &["get", text, "s", "k"][..],
            &["get", "db", text, "k"],
            &["db", "info", text],
            &["--json", "db", "info", text],
            &["--user", text, "db", "list"],
            &["import", text, "db"],
            &["init", "--user", text, "--no-password"],
        ] {
            let output = home.run(args);
            let errors = String::from_utf8(output.stderr).unwrap();
            assert!(
                !output.status.success() && is_safe(&errors),
                "{args:?}: {errors:?}"
            );
        }
    }
}

#[test]
fn names_with_controls_are_refused() {
    let home = Home::new();
    for text in ["\u{1b}[2J", "a\nb", "\u{202e}x"] {
        let output = home.run(&["user", "create", text, "--no-password"]);
        assert!(!output.status.success());
        assert!(is_safe(&String::from_utf8(output.stderr).unwrap()));
    }
    assert_eq!(home.ok(&["user", "list"]), "USER\nalice\n");
}

#[test]
fn a_column_name_is_shown_escaped() {
    let home = Home::with_db();
    let file = home.file("t.csv", "k,\u{1b}[31mred\n1\n");
    let errors = home.fails(&["import", &file, "db"], BAD_INPUT);
    assert!(
        is_safe(&errors) && errors.contains("\\u{1b}[31mred"),
        "{errors:?}"
    );
    home.fails(&["get", "db", "\u{1b}", "k"], NOT_FOUND);
}
