//! The synchronization guide, executed.
//!
//! Every block of `docs/guide/synchronization.md` stands in [`blocks`] as it is in the guide,
//! between two markers, and runs. What a reader has to replace is replaced by live values, by
//! [`REPLACED`] and nothing else; [`CORRECTED`] holds the guide's two typing errors. The test here
//! compares both texts.

#[rustfmt::skip]
mod blocks;

/// Blocks that are not executed, and why.
const NOT_EXECUTED: &[(usize, &str)] = &[];

/// The guide's typing errors: a missing `?;` and a missing parenthesis, twice.
const CORRECTED: &[(usize, &str, &str)] = &[
    (
        17,
        r#"instance.login_user("admin", Some("admin_password"))"#,
        r#"instance.login_user("admin", Some("admin_password"))?;"#,
    ),
    (
        28,
        "Box::new(InMemory::new())?",
        "Box::new(InMemory::new()))?",
    ),
];

/// What a reader replaces: block, the guide's text, the live value.
const REPLACED: &[(usize, &str, &str)] = &[
    (2, r#""127.0.0.1:8080""#, r#""127.0.0.1:0""#),
    (3, r#""127.0.0.1:8080""#, "&address"),
    (4, r#""127.0.0.1:8080""#, "&address"),
    (5, r#""127.0.0.1:8080""#, r#""127.0.0.1:0""#),
    (5, r#""peer.example.com:8080""#, "&address"),
    // Without any relay: no packet of a test leaves the machine.
    (
        6,
        "enable_iroh_transport()?",
        "enable_iroh_transport_with(IrohConfig::local())?",
    ),
    (9, r#""peer.example.com:8080""#, "&address"),
    (10, r#""ed25519:abc123...""#, "&peer_key"),
    (10, r#""192.168.1.100:8080""#, "&address"),
    (10, r#""iroh://peer_id@relay""#, "&elsewhere"),
    (17, r#""peer_address""#, "&address"),
    (21, r#""peer.example.com:8080""#, "&address"),
    (22, r#""abc123...""#, "text.as_str()"),
    (22, r#""chat.example.com""#, "&address"),
    (23, r#""def456...""#, "text.as_str()"),
    (23, r#""docs.example.com""#, "&address"),
    (24, r#""my-server.com""#, "&address"),
    (25, r#""peer.example.com""#, "&address"),
    (26, r#""peer.example.com""#, "&address"),
    (27, r#""peer_public_key""#, "peer_public_key"),
    (
        28,
        r#"start_server("127.0.0.1:8080")"#,
        r#"start_server("127.0.0.1:0")"#,
    ),
    (
        28,
        r#"start_server("127.0.0.1:8081")"#,
        r#"start_server("127.0.0.1:0")"#,
    ),
    (
        28,
        r#""127.0.0.1:8080""#,
        "&db1.sync()?.get_server_address()?.to_string()",
    ),
];

/// The Rust blocks of the guide, counted from 1.
fn guide() -> Vec<String> {
    let text = include_str!("../../../../../docs/guide/synchronization.md");
    let blocks = text.split("```rust\n").skip(1);
    blocks
        .map(|rest| rest.split("\n```").next().unwrap().to_owned())
        .collect()
}

/// The blocks as they are executed, with their numbers.
fn executed() -> Vec<(usize, String)> {
    let text = include_str!("blocks.rs");
    let blocks = text.split("// guide block ").skip(1);
    let block = |rest: &str| {
        let (number, rest) = rest.split_once('\n').unwrap();
        let body = rest.split("// end of block").next().unwrap();
        (number.trim().parse().unwrap(), body.to_owned())
    };
    blocks.map(block).collect()
}

/// The lines that say something, without indentation.
fn lines(block: &str) -> Vec<&str> {
    block
        .lines()
        .map(str::trim)
        .filter(|line| !line.is_empty())
        .collect()
}

#[test]
fn the_executed_blocks_are_those_of_the_guide() {
    let executed = executed();
    let mut next = executed.iter();
    for (number, block) in (1..).zip(guide()) {
        if NOT_EXECUTED.iter().any(|(skipped, _)| *skipped == number) {
            continue;
        }
        let mut expected = block;
        for (_, from, to) in CORRECTED
            .iter()
            .chain(REPLACED)
            .filter(|change| change.0 == number)
        {
            assert!(expected.contains(from), "block {number} has no {from}");
            expected = expected.replace(from, to);
        }
        let (found, body) = next
            .next()
            .unwrap_or_else(|| panic!("block {number} is not executed"));
        assert_eq!(*found, number);
        assert_eq!(lines(body), lines(&expected), "block {number}");
    }
    assert!(next.next().is_none());
}
