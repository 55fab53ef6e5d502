//! A PostgreSQL server to test with: the one that `DATABASE_URL` names, or one of our own.
//!
//! Our own is made by `initdb` in a temporary directory, listens on a Unix socket in there and nowhere else, and
//! goes away with the directory when its owner does, whether that drops it or dies. The server refuses to run as
//! root, so root runs it as `nobody`.

use std::env;
use std::fs;
use std::io::{BufRead as _, BufReader};
use std::os::unix::fs::{PermissionsExt as _, chown};
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU32, Ordering};

/// Names a server to test on. Tests make schemas of their own in it and leave them there.
pub const DATABASE_URL: &str = "DATABASE_URL";

const UNPRIVILEGED: &str = "nobody";

/// Makes a server, says so, and takes it away when standard input ends, which is when the owner is gone.
const SCRIPT: &str = r#"
    set -e
    "$BIN/initdb" -D "$DIR/data" -U postgres --auth=trust --no-sync -E UTF8 --locale=C >"$DIR/log" 2>&1
    "$BIN/pg_ctl" -D "$DIR/data" -l "$DIR/log" -w -t 60 -o "$OPTIONS" start >/dev/null
    echo ready
    cat >/dev/null || true
    "$BIN/pg_ctl" -D "$DIR/data" -m immediate -w stop >/dev/null 2>&1 || true
    rm -rf "$DIR"
"#;

/// A running server.
#[derive(Debug)]
pub struct PostgresServer {
    url: String,
    /// Ours, if it is.
    own: Option<Own>,
}

#[derive(Debug)]
struct Own {
    keeper: Child,
    dir: PathBuf,
    bin: PathBuf,
}

impl PostgresServer {
    /// The server of this process, started when first asked for. It ends with the process.
    ///
    /// # Panics
    /// If there is none, with the reason: a test that cannot run does not pass.
    pub fn shared() -> &'static Self {
        static SHARED: OnceLock<PostgresServer> = OnceLock::new();
        SHARED.get_or_init(|| match env::var(DATABASE_URL) {
            Ok(url) => Self { url, own: None },
            Err(_) => Self::start(false).unwrap_or_else(|reason| {
                panic!("no PostgreSQL to test on: {reason}, and {DATABASE_URL} is not set")
            }),
        })
    }

    /// Starts a server of our own. Without `sync` it forgets when the machine loses power, and is faster.
    ///
    /// # Errors
    /// Why not: PostgreSQL is not installed, or its own message.
    pub fn start(sync: bool) -> Result<Self, String> {
        static NUMBER: AtomicU32 = AtomicU32::new(0);
        let bin = programs().ok_or("initdb is not installed")?;
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        let dir = env::temp_dir().join(format!("eidetica-pg-{}-{number}", std::process::id()));
        fs::create_dir(&dir).map_err(|error| format!("{}: {error}", dir.display()))?;
        fs::set_permissions(&dir, fs::Permissions::from_mode(0o700))
            .map_err(|error| error.to_string())?;
        let sync = if sync { "on" } else { "off" };
        let mut command = unprivileged("sh", &dir)?;
        let mut keeper = command
            .args(["-c", SCRIPT])
            .env("BIN", &bin)
            .env("DIR", &dir)
            .env(
                "OPTIONS",
                format!(
                    "-k {} -h '' -c fsync={sync} -c max_connections=200",
                    dir.display()
                ),
            )
            .current_dir(&dir)
            // A signal to the tests' group is not for it.
            .process_group(0)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            // It may outlive its owner by a moment and holds nothing of it.
            .stderr(Stdio::null())
            .spawn()
            .map_err(|error| error.to_string())?;
        let mut said = String::new();
        let answer = keeper.stdout.take().ok_or("no standard output")?;
        let _ = BufReader::new(answer).read_line(&mut said);
        let url = format!(
            "postgres://postgres@{}/postgres",
            dir.display().to_string().replace('/', "%2F")
        );
        let own = Own { keeper, dir, bin };
        if said.trim() == "ready" {
            return Ok(Self {
                url,
                own: Some(own),
            });
        }
        let log = fs::read_to_string(own.dir.join("log")).unwrap_or_default();
        let _ = fs::remove_dir_all(&own.dir);
        Err(format!("the server does not start: {log}"))
    }

    /// Whether a server can be had, without starting one; if not, why.
    ///
    /// # Errors
    /// The reason.
    pub fn available() -> Result<(), String> {
        match (env::var_os(DATABASE_URL), programs()) {
            (None, None) => Err(format!(
                "initdb is not installed and {DATABASE_URL} is not set"
            )),
            _ => Ok(()),
        }
    }

    /// How to connect to it.
    #[must_use]
    pub fn url(&self) -> &str {
        &self.url
    }

    /// How to connect to it with a schema that nobody else uses, now or later.
    #[must_use]
    pub fn fresh_schema(&self) -> String {
        static NUMBER: AtomicU32 = AtomicU32::new(0);
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        let now = std::time::SystemTime::now()
            .duration_since(std::time::UNIX_EPOCH)
            .map_or(0, |since| since.as_micros());
        let separator = if self.url.contains('?') { '&' } else { '?' };
        format!(
            "{}{separator}schema=test_{}_{number}_{now}",
            self.url,
            std::process::id()
        )
    }

    /// Ends a server of our own at once, as a crash does, and starts it again. Connections are lost.
    ///
    /// # Errors
    /// If it is not ours, or does not start.
    pub fn crash_and_restart(&self) -> Result<(), String> {
        self.control(&["-m", "immediate", "-w", "restart"])
    }

    fn control(&self, what: &[&str]) -> Result<(), String> {
        let own = self.own.as_ref().ok_or("the server is not ours")?;
        let status = unprivileged(own.bin.join("pg_ctl"), &own.dir)?
            .arg("-D")
            .arg(own.dir.join("data"))
            .arg("-l")
            .arg(own.dir.join("log"))
            .args(what)
            .current_dir(&own.dir)
            .stdout(Stdio::null())
            .status()
            .map_err(|error| error.to_string())?;
        match status.success() {
            true => Ok(()),
            false => Err(format!("pg_ctl {what:?}: {status}")),
        }
    }
}

impl Drop for Own {
    fn drop(&mut self) {
        drop(self.keeper.stdin.take());
        let _ = self.keeper.wait();
    }
}

/// Where the server's programs are: on the path, or where distributions put them.
fn programs() -> Option<PathBuf> {
    let path = env::var_os("PATH").unwrap_or_default();
    let mut places: Vec<PathBuf> = env::split_paths(&path).collect();
    let versions = fs::read_dir("/usr/lib/postgresql");
    let mut versions: Vec<PathBuf> = versions
        .into_iter()
        .flatten()
        .flatten()
        .map(|version| version.path().join("bin"))
        .collect();
    versions.sort();
    places.extend(versions.into_iter().rev());
    places.into_iter().find(|place| {
        ["initdb", "pg_ctl", "postgres"]
            .iter()
            .all(|name| place.join(name).is_file())
    })
}

/// A command that does not run as root, and may use `dir`.
fn unprivileged(program: impl AsRef<Path>, dir: &Path) -> Result<Command, String> {
    let mut command = Command::new(program.as_ref());
    let own = fs::metadata("/proc/self").or_else(|_| fs::metadata(dir));
    if own.is_ok_and(|own| std::os::unix::fs::MetadataExt::uid(&own) == 0) {
        let (user, group) = nobody().ok_or(format!("there is no user {UNPRIVILEGED}"))?;
        chown(dir, Some(user), Some(group)).map_err(|error| error.to_string())?;
        command.uid(user).gid(group);
    }
    Ok(command)
}

fn nobody() -> Option<(u32, u32)> {
    let users = fs::read_to_string("/etc/passwd").ok()?;
    let line = users
        .lines()
        .find(|line| line.split(':').next() == Some(UNPRIVILEGED))?;
    let mut fields = line.split(':').skip(2);
    Some((fields.next()?.parse().ok()?, fields.next()?.parse().ok()?))
}
