//! A process that is killed in the middle of an import, on a server that others use too.

use std::io::{BufRead as _, BufReader, Write as _};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use eidetica::crdt::Doc;
use eidetica_auth::{AuthRecord, KeyName, Permission, SecretKey};
use eidetica_database::{Config, Database, Databases, NewDatabase, limits};
use eidetica_entry::Id;
use eidetica_storage::{Direction, KeyRange, ScanLimit, Space};
use eidetica_testkit::Rng;

use crate::{fresh, open};

/// Tell a child what it is.
const URL: &str = "EIDETICA_IMPORT_URL";
const DATABASE: &str = "EIDETICA_IMPORT_DATABASE";
const ROWS: usize = 40;

fn instance(url: &str, seed: u8) -> Databases {
    Databases::open(open(url).unwrap(), Config::new([seed; 32])).unwrap()
}

fn key() -> Arc<SecretKey> {
    Arc::new(SecretKey::from_bytes(&[1; 32]))
}

fn begin(databases: &Databases) -> Id {
    let owner = AuthRecord::grant(key().public(), Permission::Admin(0), KeyName::default());
    let mut new = NewDatabase::default();
    new.records.push(owner);
    databases.create(new, key()).unwrap().id()
}

/// Rows that are moved in several batches.
fn import(database: &Database, said: impl Fn(&str)) {
    let mut import = database.import().with_memory_bytes(1 << 20);
    for n in 0..ROWS {
        let mut row = Doc::new();
        row.set_string("text", "x".repeat(256 << 10));
        import.insert_row("rows", format!("{n:05}"), row).unwrap();
        said("row");
    }
    said("all");
    import.commit().unwrap();
    said("committed");
}

/// The child. Run by itself it is an import that nobody interrupts.
#[test]
fn importer() {
    let Ok(url) = std::env::var(URL) else {
        let databases = instance(&fresh(), 1);
        let id = begin(&databases);
        import(&databases.get(&id).unwrap().with_key(key()), |_| {});
        assert_eq!(count(&databases, &id), ROWS);
        return;
    };
    let id: Id = std::env::var(DATABASE).unwrap().parse().unwrap();
    let database = instance(&url, 2).get(&id).unwrap().with_key(key());
    import(&database, |what| {
        writeln!(std::io::stdout().lock(), "\n{what}").unwrap();
    });
}

fn count(databases: &Databases, id: &Id) -> usize {
    let rows = databases.get(id).unwrap();
    let rows = rows.table::<serde_json::Value>("rows").unwrap();
    rows.rows().iter().count()
}

fn has_leftovers(databases: &Databases) -> bool {
    let snapshot = databases.engine().snapshot().unwrap();
    let imports = KeyRange::prefix([4]);
    let page = snapshot.scan(
        Space::Local,
        &imports,
        Direction::Forward,
        ScanLimit::rows(1),
    );
    !page.unwrap().rows.is_empty()
}

fn start(url: &str, id: Id) -> Child {
    Command::new(std::env::current_exe().unwrap())
        .args([
            "--exact",
            "imports::importer",
            "--nocapture",
            "--test-threads=1",
        ])
        .env(URL, url)
        .env(DATABASE, id.to_string())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap()
}

/// Kills an import when it has said so many words, and a little later; says whether it had said that it was committed.
fn kill_after(mut child: Child, words: usize, later: Duration) -> bool {
    let lines = BufReader::new(child.stdout.take().unwrap()).lines();
    let said = lines.map_while(Result::ok);
    let mut said = said.filter(|line| ["row", "all", "committed"].contains(&line.as_str()));
    let mut is_committed = said.by_ref().take(words).any(|word| word == "committed");
    thread::park_timeout(later);
    child.kill().unwrap();
    child.wait().unwrap();
    is_committed |= said.any(|word| word == "committed");
    is_committed
}

#[test]
fn what_a_killed_import_has_left_is_ended_by_another_process() {
    let mut rng = Rng::new(1);
    let (mut nothing, mut all, mut left) = (0, 0, 0);
    for round in 0..6 {
        let url = fresh();
        let databases = instance(&url, 1);
        let id = begin(&databases);
        // Some as they add rows, and some in their commit.
        let words = match round % 2 {
            0 => 5 + rng.below(ROWS - 5),
            _ => ROWS + 1,
        };
        let later = Duration::from_millis(rng.below(150) as u64);
        let is_committed = kill_after(start(&url, id), words, later);
        left += usize::from(has_leftovers(&databases));
        // A batch that the server was at when its client died may come a moment later.
        for _ in 0..50 * limits::IMPORT_LOOKS {
            databases.tend_imports().unwrap();
            if !has_leftovers(&databases) {
                break;
            }
            thread::park_timeout(Duration::from_millis(2));
        }
        assert!(!has_leftovers(&databases));
        match count(&databases, &id) {
            0 => nothing += 1,
            ROWS => all += 1,
            some => panic!("{some} rows of an import"),
        }
        assert!(!is_committed || count(&databases, &id) == ROWS);
        let database = databases.get(&id).unwrap();
        assert!(database.verify().unwrap().is_sound());
    }
    eprintln!("{nothing} times nothing, {all} times all; {left} times something was left");
    assert!(nothing > 0 && left > 0);
}
