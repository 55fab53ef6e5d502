//! A program that runs, and what it has printed.

use std::ffi::OsStr;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::path::Path;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};

/// How long anything is waited for that has to come.
pub(crate) const PATIENCE: Duration = Duration::from_secs(60);

pub(crate) struct Program {
    child: Child,
    lines: Receiver<String>,
    errors: Receiver<String>,
    /// All lines that were read so far.
    pub(crate) seen: Vec<String>,
    metrics: Option<u16>,
}

/// The server, with free ports and these options.
pub(crate) fn server<S: AsRef<OsStr>>(options: &[S]) -> Program {
    start(env!("CARGO_BIN_EXE_server"), &["--port", "0"], options)
}

/// The client of servers at these addresses.
pub(crate) fn client<S: AsRef<OsStr>>(servers: &[&str], options: &[S]) -> Program {
    let servers: Vec<&str> = servers
        .iter()
        .flat_map(|server| ["--server", server])
        .collect();
    start(env!("CARGO_BIN_EXE_client"), &servers, options)
}

fn start<S: AsRef<OsStr>>(program: &str, first: &[&str], options: &[S]) -> Program {
    let mut command = Command::new(program);
    command
        .args(["--metrics-port", "0"])
        .args(first)
        .args(options);
    run(command)
}

/// A program with these options alone.
pub(crate) fn run(mut command: Command) -> Program {
    command.env_remove("RUST_LOG").stdin(Stdio::null());
    let mut child = command
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let lines = read(child.stdout.take().unwrap());
    let errors = read(child.stderr.take().unwrap());
    let (seen, metrics) = (Vec::new(), None);
    Program {
        child,
        lines,
        errors,
        seen,
        metrics,
    }
}

fn read(from: impl Read + Send + 'static) -> Receiver<String> {
    let (sender, receiver) = channel();
    std::thread::spawn(move || {
        for line in BufReader::new(from).lines().map_while(Result::ok) {
            if sender.send(line).is_err() {
                return;
            }
        }
    });
    receiver
}

impl Program {
    /// The next line with this text in it.
    pub(crate) fn expect(&mut self, text: &str) -> String {
        self.expect_that(text, |line| line.contains(text))
    }

    /// The next line that is right.
    pub(crate) fn expect_that(&mut self, what: &str, is_right: impl Fn(&str) -> bool) -> String {
        let deadline = Instant::now() + PATIENCE;
        loop {
            match self
                .lines
                .recv_timeout(deadline.saturating_duration_since(Instant::now()))
            {
                Ok(line) => {
                    self.seen.push(line.clone());
                    if is_right(&line) {
                        return line;
                    }
                }
                Err(error) => self.fail(what, error),
            }
        }
    }

    fn fail(&mut self, what: &str, error: RecvTimeoutError) -> ! {
        let errors: Vec<String> = self.errors.try_iter().collect();
        panic!(
            "no line with {what:?} ({error}):\n{}\n{}",
            self.seen.join("\n"),
            errors.join("\n")
        );
    }

    /// Where a server listens, once it does.
    pub(crate) fn address(&mut self) -> String {
        let line = self.expect("server listening and continuously adding operations");
        field(&line, "addr").to_owned()
    }

    pub(crate) fn signal(&self, signal: Signal) {
        let pid = Pid::from_child(&self.child);
        kill_process(pid, signal).unwrap();
    }

    /// Stops it and reads what it says to that; it has to end well.
    pub(crate) fn stop(mut self, signal: Signal) -> Vec<String> {
        self.signal(signal);
        let (status, _) = self.ended();
        assert!(status.success(), "{status}\n{}", self.seen.join("\n"));
        std::mem::take(&mut self.seen)
    }

    /// Kills it, as a crash would.
    pub(crate) fn kill(mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }

    /// How it ends, and what stood on standard error.
    pub(crate) fn ended(&mut self) -> (ExitStatus, String) {
        let deadline = Instant::now() + PATIENCE;
        let left = || deadline.saturating_duration_since(Instant::now());
        loop {
            match self.lines.recv_timeout(left()) {
                Ok(line) => self.seen.push(line),
                Err(RecvTimeoutError::Disconnected) => break,
                Err(RecvTimeoutError::Timeout) => {
                    panic!("it does not end:\n{}", self.seen.join("\n"))
                }
            }
        }
        // Its output is closed.
        let errors: Vec<String> = self.errors.iter().collect();
        (self.child.wait().unwrap(), errors.join("\n"))
    }

    /// Its metrics page.
    pub(crate) fn page(&mut self) -> (String, String) {
        let port = match self.metrics {
            Some(port) => port,
            None => {
                let shown = self
                    .seen
                    .iter()
                    .find(|line| line.contains("metrics="))
                    .cloned();
                let line = shown.unwrap_or_else(|| self.expect("metrics="));
                let port = field(&line, "metrics")
                    .rsplit_once(':')
                    .unwrap()
                    .1
                    .split_once('/')
                    .unwrap()
                    .0;
                *self.metrics.insert(port.parse().unwrap())
            }
        };
        get(port, "/metrics")
    }

    /// The value of a metric on its page: the sum over all labels.
    pub(crate) fn metric(&mut self, name: &str) -> f64 {
        let (_, page) = self.page();
        page.lines()
            .filter(|line| line.split([' ', '{']).next() == Some(name))
            .map(|line| line.rsplit_once(' ').unwrap().1.parse::<f64>().unwrap())
            .sum()
    }

    /// Asks for a metric until it is right.
    pub(crate) fn metric_until(&mut self, name: &str, is_right: impl Fn(f64) -> bool) -> f64 {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let value = self.metric(name);
            if is_right(value) {
                return value;
            }
            assert!(
                Instant::now() < deadline,
                "{name} stays {value}:\n{}",
                self.seen.join("\n")
            );
        }
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        self.child.kill().ok();
        self.child.wait().ok();
    }
}

/// Head and body of a page on this machine.
pub(crate) fn get(port: u16, path: &str) -> (String, String) {
    let mut stream = TcpStream::connect(("127.0.0.1", port)).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    write!(
        stream,
        "GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n"
    )
    .unwrap();
    let mut text = String::new();
    stream.read_to_string(&mut text).unwrap();
    let (head, body) = text.split_once("\r\n\r\n").unwrap();
    (head.to_owned(), body.to_owned())
}

/// The value of `name=value` in a log line.
pub(crate) fn field<'a>(line: &'a str, name: &str) -> &'a str {
    let after = line
        .split_once(&format!(" {name}="))
        .unwrap_or_else(|| panic!("no {name} in {line}"))
        .1;
    after.split_once(' ').map_or(after, |(value, _)| value)
}

/// A number in a log line, after `name=` or `name: `.
pub(crate) fn number(line: &str, name: &str) -> u64 {
    let after = line
        .split_once(name)
        .unwrap_or_else(|| panic!("no {name} in {line}"))
        .1;
    let digits = after.trim_start_matches(['=', ':', ' ']);
    let digits: String = digits.chars().take_while(char::is_ascii_digit).collect();
    digits.parse().unwrap()
}

/// Names of the fields of a log line, in order.
pub(crate) fn names(line: &str) -> Vec<&str> {
    line.split(' ')
        .filter_map(|word| Some(word.split_once('=')?.0))
        .collect()
}

/// A directory as an option.
pub(crate) fn text(path: &Path) -> &str {
    path.to_str().unwrap()
}

/// Copies a directory of one level of subdirectories.
pub(crate) fn copy(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).unwrap();
    for entry in std::fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let target = to.join(entry.file_name());
        match entry.file_type().unwrap().is_dir() {
            true => copy(&entry.path(), &target),
            false => drop(std::fs::copy(entry.path(), target).unwrap()),
        }
    }
}
