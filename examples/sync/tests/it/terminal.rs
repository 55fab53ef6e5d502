//! What somebody sees who runs the client in a terminal.

use std::fs::{File, OpenOptions};
use std::io::Read as _;
use std::os::fd::OwnedFd;
use std::process::{Command, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::time::Instant;

use rustix::pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt};
use rustix::termios::{Winsize, tcsetwinsize};

use crate::program::{PATIENCE, server};

/// A terminal of 100 columns: what is to be written into, and what was written.
fn terminal() -> (File, Receiver<String>) {
    let ours: OwnedFd = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY).unwrap();
    grantpt(&ours).unwrap();
    unlockpt(&ours).unwrap();
    let path = ptsname(&ours, Vec::new()).unwrap();
    let path = path.to_str().unwrap();
    let theirs = OpenOptions::new()
        .read(true)
        .write(true)
        .open(path)
        .unwrap();
    let size = Winsize {
        ws_row: 30,
        ws_col: 100,
        ws_xpixel: 0,
        ws_ypixel: 0,
    };
    tcsetwinsize(&theirs, size).unwrap();
    let (sender, receiver) = channel();
    std::thread::spawn(move || {
        let (mut ours, mut bytes) = (File::from(ours), [0; 4096]);
        // It fails once nobody has the other end open.
        while let Ok(count @ 1..) = ours.read(&mut bytes) {
            let text = String::from_utf8_lossy(&bytes[..count]).into_owned();
            if sender.send(text).is_err() {
                return;
            }
        }
    });
    (theirs, receiver)
}

#[test]
fn a_bar_is_shown_below_the_lines_and_goes() {
    let mut server = server(&["--initial-ops", "20000", "--op-interval", "1h"]);
    let address = server.address();
    let (screen, shown) = terminal();
    let mut client = Command::new(env!("CARGO_BIN_EXE_client"))
        .args(["--server", &address, "--metrics-port", "0", "-b", "50"])
        .args(["-i", "1h"])
        .env_remove("RUST_LOG")
        .env_remove("NO_COLOR")
        .env("TERM", "xterm")
        .stdin(Stdio::null())
        .stdout(screen.try_clone().unwrap())
        .stderr(screen)
        .spawn()
        .unwrap();
    let deadline = Instant::now() + PATIENCE;
    let (mut seen, end) = (String::new(), "sync completed successfully");
    while !seen.contains(end) {
        let left = deadline.saturating_duration_since(Instant::now());
        seen += &shown
            .recv_timeout(left)
            .unwrap_or_else(|_| panic!("{seen}"));
    }
    client.kill().unwrap();
    client.wait().unwrap();
    seen.extend(shown.iter());

    let (during, after) = seen.split_once(end).unwrap();
    assert!(
        during.contains("\x1b[32mINFO\x1b[0m starting sync"),
        "{seen}"
    );
    assert!(during.contains(" operations, "), "{seen}");
    assert!(during.contains(" left"), "{seen}");
    assert!(!after.contains(" left"), "{seen}");
}

#[test]
fn no_bar_is_written_into_a_file() {
    let mut server = server(&["--initial-ops", "20000", "--op-interval", "1h"]);
    let address = server.address();
    let mut client = crate::program::client(&[&address], &["-b", "50", "-i", "1h"]);
    client.expect("sync completed successfully");
    client.signal(rustix::process::Signal::INT);
    let (status, errors) = client.ended();
    assert!(status.success());
    assert_eq!(errors, "");
    assert!(client.seen.iter().all(|line| !line.contains('\x1b')));
}
