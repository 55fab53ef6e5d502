//! Rooms that two and three people share.

use std::io::{BufRead, BufReader, Write};
use std::process::{Command, Stdio};

use crate::screen::{Chat, PROGRAM, chat, kept};

/// Over Iroh on loopback alone: no relay, no look-up, no other machine is asked.
const IROH: &[&str] = &[
    "--transport",
    "iroh",
    "--relays",
    "disabled",
    "--listen",
    "127.0.0.1:0",
];

/// Alice's room, and Bob in it.
fn two(alice_args: &[&str], bob_args: &[&str]) -> (Chat, Chat, String) {
    let mut alice = chat(
        "alice",
        &[&["--transport", "http", "--room-name", "Demo"], alice_args].concat(),
    );
    alice.sees("Demo");
    let address = alice.invite();
    let mut bob = chat(
        "bob",
        &[&["--transport", "http", "--connect", &address], bob_args].concat(),
    );
    bob.sees("Waiting to be let in");
    let shown = alice.sees("asks to join Demo");
    assert!(shown.contains("bob "), "{shown}");
    alice.say("/approve");
    bob.sees("Demo");
    bob.sees("2 members");
    (alice, bob, address)
}

#[test]
fn two_talk_both_ways() {
    let (mut alice, mut bob, _) = two(&[], &[]);
    alice.say("hello bob");
    bob.sees("hello bob");
    bob.say("hello alice, 日本語 👍 \u{e9}");
    alice.sees("hello alice, 日本語 👍 \u{e9}");
    let shown = bob.sees("✓ hello alice");
    assert!(shown.contains("you"), "{shown}");
    alice.sees("✓ hello bob");
    alice.leave();
    bob.leave();
}

#[test]
fn a_third_is_refused_and_asks_again() {
    let (mut alice, bob, address) = two(&[], &[]);
    let mut carol = chat("carol", &[&address]);
    carol.sees("Waiting to be let in");
    alice.sees("carol");
    alice.say("/reject");
    carol.sees("Not joined");
    bob.leave();
}

#[test]
fn three_talk_and_the_same_order_is_on_every_screen() {
    let (mut alice, mut bob, address) = two(&[], &[]);
    let mut carol = chat("carol", &[&address]);
    alice.sees("carol");
    alice.say("/approve");
    carol.sees("3 members");
    alice.say("apple");
    carol.sees("apple");
    carol.say("banana");
    bob.sees("banana");
    bob.say("cherry");
    for chat in [&mut alice, &mut bob, &mut carol] {
        chat.sees("cherry");
        let shown = chat.sees("banana");
        let at = |text| shown.find(text).unwrap();
        assert!(
            at("apple") < at("banana") && at("banana") < at("cherry"),
            "{shown}"
        );
    }
}

#[test]
fn who_was_away_reads_everything_afterwards() {
    let (alices, bobs) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let (mut alice, mut bob, _) = two(&kept(alices.path()), &kept(bobs.path()));
    alice.say("before");
    bob.sees("before");
    alice.sees("✓ before");
    bob.leave();
    alice.say("while you were away");
    alice.sees("· while you were away");
    let mut bob = chat("bob", &kept(bobs.path()));
    bob.sees("while you were away");
    alice.sees("✓ while you were away");
    // The other way round: what is written alone is sent when somebody is there.
    alice.leave();
    bob.say("to nobody");
    bob.sees("· to nobody");
    bob.leave();
    let mut bob = chat("bob", &kept(bobs.path()));
    bob.sees("· to nobody");
    let mut alice = chat("alice", &kept(alices.path()));
    alice.sees("before");
    alice.sees("to nobody");
    bob.sees("✓ to nobody");
}

#[test]
fn a_request_survives_a_restart() {
    let dir = tempfile::tempdir().unwrap();
    let mut alice = chat("alice", &["--room-name", "Demo"]);
    alice.sees("Demo");
    let address = alice.invite();
    let mut bob = chat(
        "bob",
        &[&kept(dir.path())[..], &["--connect", &address]].concat(),
    );
    bob.sees("Waiting");
    alice.sees("asks to join");
    bob.leave();
    alice.say("/approve");
    alice.sees("2 members");
    let mut bob = chat("bob", &kept(dir.path()));
    bob.sees("Demo");
    bob.say("here I am");
    alice.sees("here I am");
}

#[test]
fn the_guides_two_terminals() {
    let mut alice = Command::new(PROGRAM)
        .args([
            "--username",
            "alice",
            "--transport",
            "http",
            "--create-only",
            "--room-name",
            "Demo",
        ])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(alice.stdout.take().unwrap())
        .lines()
        .map(Result::unwrap);
    let first = lines.next().unwrap();
    let address = first.strip_prefix("room Demo: ").unwrap();
    let mut bob = chat("bob", &["--transport", "http", "--connect", address]);
    let asks = lines
        .find(|line| line.contains("asks to join Demo"))
        .unwrap();
    assert!(asks.starts_with("bob "), "{asks}");
    writeln!(alice.stdin.take().unwrap(), "y").unwrap();
    bob.sees("2 members");
    bob.say("hello");
    bob.sees("✓ hello");
    alice.kill().unwrap();
    alice.wait().unwrap();
}

#[test]
fn two_talk_over_iroh() {
    let mut alice = chat("alice", &[IROH, &["--room-name", "Demo"]].concat());
    alice.sees("Demo");
    let ticket = alice.ticket();
    let mut bob = chat("bob", &[IROH, &[&ticket]].concat());
    bob.sees("Waiting to be let in");
    alice.sees("asks to join Demo");
    alice.say("/approve");
    bob.sees("2 members");
    alice.say("hello bob");
    bob.sees("hello bob");
    bob.say("hello alice");
    alice.sees("hello alice");
    alice.sees("✓ hello bob");
    bob.sees("✓ hello alice");
}

#[test]
fn whoever_comes_with_an_invite_is_let_in_unasked() {
    let mut alice = chat("alice", &["--room-name", "Demo"]);
    alice.sees("Demo");
    let ticket = alice.unasked(2);
    let mut bob = chat("bob", &[&ticket]);
    let mut carol = chat("carol", &[&ticket]);
    for guest in [&mut bob, &mut carol] {
        guest.sees("Demo");
    }
    bob.sees("3 members");
    carol.say("here I am");
    let shown = alice.sees("here I am");
    assert!(!shown.contains("asks to join"), "{shown}");
    let mut dave = chat("dave", &[&ticket]);
    dave.sees("used up");
    // Taken back before anybody used it.
    let ticket = alice.unasked(1);
    alice.say("/uninvite");
    alice.sees("took an invite back");
    let mut erin = chat("erin", &[&ticket]);
    erin.sees("taken back");
    // Whoever was let in lets nobody in.
    bob.say("/invite 1");
    bob.sees("only who administers the room");
}

#[test]
fn an_invite_is_a_code_where_the_screen_is_large() {
    let mut alice = Chat::start("alice", &["--room-name", "Demo"], (80, 50));
    alice.sees("Demo");
    alice.say("/invite 1 7d");
    let shown = alice.sees("1 more person");
    assert!(
        shown.contains('▀') && shown.contains("eidetica:"),
        "{shown}"
    );
}

#[test]
fn three_over_iroh_read_everything_after_a_restart() {
    let dirs = [(); 3].map(|()| tempfile::tempdir().unwrap());
    let start = |number: usize, args: &[&str]| {
        let kept = kept(dirs[number].path());
        chat(
            ["alice", "bob", "carol"][number],
            &[IROH, &kept, args].concat(),
        )
    };
    let mut alice = start(0, &["--room-name", "Demo"]);
    alice.sees("Demo");
    let ticket = alice.unasked(2);
    let (mut bob, mut carol) = (start(1, &[&ticket]), start(2, &[&ticket]));
    carol.sees("Demo");
    bob.sees("3 members");
    alice.say("apple");
    bob.sees("apple");
    carol.sees("apple");
    carol.leave();
    bob.say("banana");
    alice.sees("banana");
    alice.say("cherry");
    bob.sees("cherry");
    let mut carol = start(2, &[]);
    carol.sees("cherry");
    carol.say("damson");
    for chat in [&mut alice, &mut bob, &mut carol] {
        let shown = chat.until("all of it in order", |shown| {
            let at = ["apple", "banana", "cherry", "damson"].map(|text| shown.find(text));
            at.iter().all(Option::is_some) && at.is_sorted()
        });
        assert!(shown.contains("3 members"), "{shown}");
    }
    bob.sees("✓ banana");
}

#[test]
fn two_rooms_at_once() {
    let (mut alice, mut bob, _) = two(&[], &[]);
    bob.say("/create Bob's own");
    bob.sees("Bob's own (2/2)");
    bob.say("alone here");
    bob.sees("· alone here");
    alice.say("in the first room");
    bob.sees("1 new elsewhere");
    bob.keys("\u{1b}1");
    bob.sees("in the first room");
}

/// What a member may write, and call a room.
const NASTY: &[&str] = &[
    "\u{1b}[2J\u{1b}[H",
    "\u{1b}]0;owned\u{7}",
    "\u{1b}Pq#0\u{1b}\\",
    "\u{9b}31m",
    "\u{8}\u{8}\u{8}bob 02020202",
    "\u{202e}drawkcab\u{2066}",
    "nothing\u{200b}\u{2060}\u{feff}here",
    "a\u{0}b",
    "Z\u{334}\u{351}\u{346}\u{335}\u{33e}",
    "../../etc/passwd",
    "<script>alert(1)</script>",
    "%s%n $(reboot) `id`",
];

#[test]
fn nasty_names_and_messages_are_shown_and_not_obeyed() {
    let room = NASTY[..3].concat();
    let mut alice = chat("alice", &["--room-name", &room]);
    alice.sees("\\u{1b}[2J");
    let ticket = alice.unasked(1);
    let mut bob = Chat::start("bob", &[&ticket], (100, 60));
    bob.sees("\\u{1b}[2J");
    NASTY.iter().for_each(|text| alice.paste(text));
    alice.say("the end");
    let shown = bob.sees("the end");
    for text in [
        "\\u{1b}[2J\\u{1b}[H",
        "\\u{1b}]0;owned\\u{7}",
        "\\u{9b}31m",
        "\\u{8}bob",
        "\\u{202e}drawkcab\\u{2066}",
        "nothing\\u{200b}",
        "a\\u{0}b",
        "<script>alert(1)</script>",
        "%s%n $(reboot) `id`",
    ] {
        assert!(shown.contains(text), "{text:?} in\n{shown}");
    }
    alice.sees("the end");
    for chat in [&alice, &bob] {
        let written = chat.written();
        let obeyed = [
            "\u{1b}]0;",
            "\u{1b}P",
            "\u{7}",
            "\u{8}",
            "\u{9b}",
            "\u{202e}",
            "\u{200b}",
            "\u{feff}",
            "\0",
        ];
        for nasty in obeyed {
            assert!(!written.contains(nasty), "{nasty:?} reached the terminal");
        }
    }
}
