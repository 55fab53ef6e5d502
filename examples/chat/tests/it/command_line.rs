//! How the program begins and ends.

use std::process::{Command, Stdio};

use rustix::process::Signal;

use crate::screen::{Chat, PROGRAM, chat, kept};

fn fails(args: &[&str]) -> String {
    let command = Command::new(PROGRAM)
        .args(["--username", "alice"])
        .args(args)
        .stdin(Stdio::null())
        .output();
    let output = command.unwrap();
    assert!(!output.status.success());
    String::from_utf8(output.stderr).unwrap()
}

#[test]
fn without_a_terminal_it_says_so() {
    let said = fails(&["--room-name", "Demo"]);
    assert!(
        said.contains("error: this is no terminal") && said.contains("hint: --create-only"),
        "{said}"
    );
}

#[test]
fn what_is_wrong_is_said_with_a_hint() {
    let room = "0".repeat(64);
    let said = fails(&["--create-only", "--listen", "256.0.0.1:80"]);
    assert!(
        said.contains("cannot listen on 256.0.0.1:80") && said.contains("hint: "),
        "{said}"
    );
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let said = fails(&[
        "--create-only",
        "--listen",
        &taken.local_addr().unwrap().to_string(),
    ]);
    assert!(
        said.contains("cannot listen") && said.contains("127.0.0.1:0"),
        "{said}"
    );
    assert!(fails(&["--connect", "abc@127.0.0.1:1"]).contains("64 digits"));
    assert!(fails(&[&format!("{room}@127.0.0.1:port")]).contains("after the @"));
    let dir = tempfile::tempdir().unwrap();
    std::fs::write(dir.path().join("letter.txt"), "not a database").unwrap();
    let said = fails(&[&["--create-only"], &kept(dir.path())[..]].concat());
    assert!(said.contains("cannot open the data directory"), "{said}");
}

#[test]
fn what_is_given_on_the_command_line_is_shown_escaped() {
    for args in [
        ["--username", "x\u{1b}[31m", "--create-only"],
        ["--create-only", "--listen", "\u{1b}]0;x\u{7}:1"],
        ["--create-only", "--data-dir", "/dev/null/\u{1b}[2J"],
        ["--username", "bob", "\u{1b}[2J@127.0.0.1:1"],
    ] {
        let output = Command::new(PROGRAM)
            .args(args)
            .env("USER", "alice")
            .stdin(Stdio::null())
            .output()
            .unwrap();
        let said = String::from_utf8(output.stderr).unwrap();
        assert!(
            !output.status.success() && !said.contains('\u{1b}'),
            "{said:?}"
        );
    }
}

#[test]
fn two_programs_do_not_share_a_directory() {
    let dir = tempfile::tempdir().unwrap();
    let mut first = chat("alice", &kept(dir.path()));
    first.sees("You are in no room");
    let said = fails(&[&["--create-only"], &kept(dir.path())[..]].concat());
    assert!(said.contains("one program at a time"), "{said}");
    first.leave();
}

#[test]
fn a_terminal_that_is_too_small_is_an_error() {
    let mut small = Chat::start("alice", &[], (29, 24));
    let (shown, status) = small.ended();
    assert!(!status.success() && shown.contains("too small"), "{shown}");
}

#[test]
fn the_terminal_is_as_it_was_afterwards() {
    for end in [Signal::TERM, Signal::HUP, Signal::INT] {
        let mut chat = chat("alice", &["--room-name", "Demo"]);
        chat.sees("Demo");
        assert!(chat.is_on_other_screen());
        chat.signal(end);
        let (_, status) = chat.ended();
        assert!(status.success(), "{end:?}: {status}");
        assert!(!chat.is_on_other_screen());
    }
}

#[test]
fn nobody_there_is_said_and_tried_again() {
    let room = "0".repeat(64);
    let mut bob = chat("bob", &["--connect", &format!("{room}@127.0.0.1:1")]);
    bob.sees("Cannot reach 127.0.0.1:1");
    bob.say("/giveup");
    bob.sees("You are in no room");
    bob.leave();
}

#[test]
fn a_room_that_is_not_there_is_refused() {
    let mut alice = chat("alice", &["--room-name", "Demo"]);
    alice.sees("Demo");
    let address = alice.invite();
    let (_, at) = address.split_once('@').unwrap();
    let mut bob = chat("bob", &[&format!("{}@{at}", "0".repeat(64))]);
    bob.sees("Not joined");
}

#[test]
fn the_log_goes_to_a_file() {
    let mut alice = chat("alice", &["-v", "--room-name", "Demo"]);
    let shown = alice.sees("log: ");
    assert!(shown.contains("eidetica-chat-"), "{shown}");
    alice.leave();
}
