//! Networks of a test's own: namespaces of the kernel, which are gone when the test is, however it ends.

use std::{
    fs::File,
    io::{self, BufRead, BufReader, Write},
    os::fd::AsFd,
    process::{Child, ChildStdin, ChildStdout, Command, Stdio},
    thread::{self, JoinHandle},
};

use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};

/// Set in a test that was started again as root of a user namespace.
const INSIDE: &str = "EIDETICA_TEST_INSIDE";

/// Whether this test can make the networks that `needs` stands for; says on standard error why not. Where only root may
/// make some, the test runs again as root of a user namespace and this answers false: all is done.
pub(crate) fn can_make(test: &str, needs: &str) -> bool {
    let here = Network::new().and_then(|mut network| network.run(needs));
    let Err(error) = here else { return true };
    if std::env::var_os(INSIDE).is_some() || !runs_as_root_of_its_own(test) {
        eprintln!("==> NOT tested between networks: {error}");
    }
    false
}

/// Runs the test again in a user namespace; false if there can be none.
fn runs_as_root_of_its_own(test: &str) -> bool {
    let inside = |program: &std::ffi::OsStr| {
        let mut command = Command::new("unshare");
        command.args(["--user", "--map-root-user", "--net"]);
        command.arg(program);
        command
    };
    let allowed = inside("true".as_ref()).stderr(Stdio::null()).status();
    if !allowed.is_ok_and(|status| status.success()) {
        return false;
    }
    let again = inside(std::env::current_exe().unwrap().as_os_str())
        .args(["--exact", test, "--nocapture"])
        .env(INSIDE, "1")
        .status();
    assert!(
        again.unwrap().success(),
        "{test} failed in a user namespace"
    );
    true
}

/// A network namespace, kept by a shell in it, which ends when its input does.
pub(crate) struct Network {
    shell: Child,
    commands: ChildStdin,
    answers: BufReader<ChildStdout>,
}

impl Network {
    pub(crate) fn new() -> io::Result<Self> {
        let mut shell = Command::new("unshare")
            .args(["--net", "sh"])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()?;
        let (commands, answers) = (shell.stdin.take().unwrap(), shell.stdout.take().unwrap());
        let mut network = Self {
            shell,
            commands,
            answers: BufReader::new(answers),
        };
        network.run("ip link set lo up")?;
        Ok(network)
    }

    /// Runs commands of a shell in it; all of them have to succeed.
    pub(crate) fn run(&mut self, commands: &str) -> io::Result<()> {
        let refused = || io::Error::other(format!("this machine does not allow `{commands}`"));
        let script = format!("sh -e >&2 <<'END' && echo yes || echo no\n{commands}\nEND\n");
        self.commands
            .write_all(script.as_bytes())
            .map_err(|_| refused())?;
        let mut answer = String::new();
        self.answers.read_line(&mut answer)?;
        match answer.trim() {
            "yes" => Ok(()),
            _ => Err(refused()),
        }
    }

    /// A cable to another network: the name and the address of either end.
    pub(crate) fn connect(
        &mut self,
        (name, address): (&str, &str),
        other: &mut Self,
        (other_name, other_address): (&str, &str),
    ) {
        let pid = other.shell.id();
        self.run(&format!(
            "ip link add {name} type veth peer name {other_name} netns {pid}"
        ))
        .unwrap();
        for (network, name, address) in [(self, name, address), (other, other_name, other_address)]
        {
            network
                .run(&format!(
                    "ip address add {address} dev {name}; ip link set {name} up"
                ))
                .unwrap();
        }
    }

    /// Does some work in it: the threads that this starts, and the sockets that they open, are in it too.
    pub(crate) fn spawn<T: Send + 'static>(
        &self,
        work: impl FnOnce() -> T + Send + 'static,
    ) -> JoinHandle<T> {
        let namespace = File::open(format!("/proc/{}/ns/net", self.shell.id())).unwrap();
        thread::spawn(move || {
            move_into_link_name_space(namespace.as_fd(), Some(LinkNameSpaceType::Network)).unwrap();
            work()
        })
    }
}

impl Drop for Network {
    fn drop(&mut self) {
        // It may have ended already.
        let _ = self.shell.kill();
        let _ = self.shell.wait();
    }
}
