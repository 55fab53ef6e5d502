//! A chat on a terminal of its own.

use std::io::{Read, Write};
use std::path::Path;
use std::process::{Child, ExitStatus};
use std::sync::mpsc::{Receiver, channel};
use std::thread;
use std::time::{Duration, Instant};

use pty_process::blocking::{Command, Pty};
use rustix::process::{Pid, Signal, kill_process};

/// The longest that anything may take.
pub(crate) const LONG: Duration = Duration::from_secs(60);

pub(crate) const PROGRAM: &str = env!("CARGO_BIN_EXE_eidetica-chat");

/// A running chat.
pub(crate) struct Chat {
    name: String,
    child: Child,
    pty: &'static Pty,
    output: Receiver<Vec<u8>>,
    screen: vt100::Parser,
    /// All that was written on the terminal.
    written: Vec<u8>,
}

/// Starts a chat with an 80×24 terminal.
pub(crate) fn chat(name: &str, args: &[&str]) -> Chat {
    Chat::start(name, args, (80, 24))
}

/// The arguments that keep a chat in a directory.
pub(crate) fn kept(dir: &Path) -> [&str; 2] {
    ["--data-dir", dir.to_str().unwrap()]
}

impl Chat {
    pub(crate) fn start(name: &str, args: &[&str], (columns, rows): (u16, u16)) -> Self {
        let (pty, terminal) = pty_process::blocking::open().unwrap();
        pty.resize(pty_process::Size::new(rows, columns)).unwrap();
        let command = Command::new(PROGRAM).args(["--username", name]).args(args);
        let child = command
            .env("TERM", "xterm-256color")
            .env("TZ", "UTC")
            .spawn(terminal)
            .unwrap();
        // Read by a thread that ends with the terminal, and written by the test.
        let pty: &'static Pty = Box::leak(Box::new(pty));
        let (bytes, output) = channel();
        thread::spawn(move || {
            let mut buffer = [0; 4096];
            while let Ok(read @ 1..) = { pty }.read(&mut buffer) {
                if bytes.send(buffer[..read].to_vec()).is_err() {
                    return;
                }
            }
        });
        let screen = vt100::Parser::new(rows.try_into().unwrap(), columns.try_into().unwrap(), 0);
        Self {
            name: name.to_owned(),
            child,
            pty,
            output,
            screen,
            written: Vec::new(),
        }
    }

    /// Pastes some text, whatever is in it, and sends it.
    pub(crate) fn paste(&mut self, text: &str) {
        self.keys(&format!("\u{1b}[200~{text}\u{1b}[201~\r"));
    }

    /// All that was written on the terminal so far, as it was.
    pub(crate) fn written(&self) -> String {
        String::from_utf8_lossy(&self.written).into_owned()
    }

    fn take(&mut self, bytes: &[u8]) {
        self.written.extend_from_slice(bytes);
        self.screen.process(bytes);
    }

    /// Types, as it is.
    pub(crate) fn keys(&mut self, keys: &str) {
        self.pty.write_all(keys.as_bytes()).unwrap();
    }

    /// Types a line.
    pub(crate) fn say(&mut self, text: &str) {
        self.keys(&format!("{text}\r"));
    }

    pub(crate) fn shown(&self) -> String {
        self.screen.screen().contents()
    }

    /// Waits until the screen is as wanted, and gives it.
    pub(crate) fn until(&mut self, what: &str, is_so: impl Fn(&str) -> bool) -> String {
        let end = Instant::now() + LONG;
        loop {
            let shown = self.shown();
            if is_so(&shown) {
                return shown;
            }
            let left = end.saturating_duration_since(Instant::now());
            let Ok(bytes) = self.output.recv_timeout(left) else {
                panic!("{} waits for {what:?} and sees\n{shown}", self.name);
            };
            self.take(&bytes);
        }
    }

    /// Waits until some text is on the screen.
    pub(crate) fn sees(&mut self, text: &str) -> String {
        self.until(text, |shown| shown.contains(text))
    }

    /// The address of the room, as it is shown to be handed over.
    pub(crate) fn invite(&mut self) -> String {
        self.say("/invite");
        let shown = self.sees("127.0.0.1:");
        self.keys("\u{1b}i");
        let at = shown.lines().position(|line| line.contains('@')).unwrap();
        // It is longer than a line may be.
        let address: String = shown.lines().skip(at.saturating_sub(1)).take(3).collect();
        let address: String = address.chars().filter(|c| c.is_ascii_graphic()).collect();
        let middle = address.find('@').unwrap();
        let end = address[middle + 1..].find(|c: char| !c.is_ascii_digit() && c != '.' && c != ':');
        address[middle - 64..end.map_or(address.len(), |end| middle + 1 + end)].to_owned()
    }

    /// The ticket of the room, as it is shown to be handed over.
    pub(crate) fn ticket(&mut self) -> String {
        self.say("/invite");
        self.ticket_above("You are asked")
    }

    /// A ticket for some who are let in unasked.
    pub(crate) fn unasked(&mut self, count: u32) -> String {
        self.say(&format!("/invite {count} 1h"));
        self.ticket_above("is let in")
    }

    /// The ticket that stands above some text, which it then closes.
    fn ticket_above(&mut self, text: &str) -> String {
        let shown = self.sees(text);
        self.keys("\u{1b}i");
        let lines = shown.lines().skip_while(|line| !line.contains("eidetica:"));
        let ticket = lines.take_while(|line| !line.trim_end().contains(' '));
        ticket.map(str::trim_end).collect()
    }

    pub(crate) fn signal(&self, signal: Signal) {
        let pid = Pid::from_child(&self.child);
        kill_process(pid, signal).unwrap();
    }

    /// Waits for the end. What is on the terminal then, and how it ended.
    pub(crate) fn ended(&mut self) -> (String, ExitStatus) {
        let status = self.child.wait().unwrap();
        while let Ok(bytes) = self.output.recv_timeout(LONG) {
            self.take(&bytes);
        }
        (self.shown(), status)
    }

    /// Leaves, and waits until everything is closed.
    pub(crate) fn leave(mut self) {
        self.keys("\u{3}");
        let (_, status) = self.ended();
        assert!(status.success(), "{status}");
    }

    pub(crate) fn is_on_other_screen(&self) -> bool {
        self.screen.screen().alternate_screen()
    }
}

impl Drop for Chat {
    fn drop(&mut self) {
        // It may have ended already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
