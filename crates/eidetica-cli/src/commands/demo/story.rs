//! The steps of the demo in their order, each with what it says, how long it took, and what it checks.

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use eidetica::sync::{RequestId, SyncReport};
use eidetica::{Database, Id};
use serde_json::{Value, json};

use super::broken;
use super::node::Node;
use crate::commands::db::create_database;
use crate::commands::import::import;
use crate::commands::requests;
use crate::context::{Context, author_name};
use crate::error::{Code, Error, Result};
use crate::escape::escape;
use crate::limits;
use crate::output::{bytes, count, counted, duration, plain, table};
use crate::read::Source;

/// Column where the time of a step stands.
const WIDTH: usize = 78;

pub(super) struct Story<'a> {
    context: &'a Context,
    dir: PathBuf,
    alice: Node,
    bob: Node,
    address: String,
    database: Option<Shared>,
    request: Option<RequestId>,
    steps: u32,
}

/// The database, once it is made, and the rows that are edited.
#[derive(Clone)]
struct Shared {
    id: Id,
    table: String,
    rows: u64,
    /// Edited by both, by Alice alone, by Bob alone.
    both: String,
    alices: String,
    bobs: String,
    /// A field of text that the row edited by both has.
    field: String,
}

impl<'a> Story<'a> {
    pub(super) fn begin(dir: &Path, context: &'a Context) -> Result<Self> {
        let alice = Node::on_disk(&dir.join("alice"), "alice")?;
        let bob = Node::on_disk(&dir.join("bob"), "bob")?;
        let address = alice.serve()?;
        let story = Self {
            context,
            dir: dir.to_path_buf(),
            alice,
            bob,
            address,
            database: None,
            request: None,
            steps: 0,
        };
        story.text(
            "Two nodes share a database. They do not trust each other, nor the way between them.",
        )?;
        story.text("")?;
        story.text(&format!(
            "  Alice  {}, serving on {}",
            show(&dir.join("alice")),
            story.address
        ))?;
        story.text(&format!("  Bob    {}", show(&dir.join("bob"))))?;
        Ok(story)
    }

    /// Alice imports a file into a table of a new database.
    pub(super) fn import(&mut self, source: &Source) -> Result<()> {
        let start = Instant::now();
        let stem = source
            .path
            .file_stem()
            .and_then(|stem| stem.to_str())
            .unwrap_or("rows")
            .to_owned();
        let database = create_database(&self.alice.user, &stem, false)?;
        let imported = import(source, &database, &stem, self.context)?;
        let took = start.elapsed();
        let shared = choose(&database, &stem, imported.rows)?;
        let facts = json!({"database": shared.id.to_string(), "rows": imported.rows, "bytes": imported.bytes, "entries": imported.entries});
        let rows = counted(imported.rows, "row", "rows");
        let entries = counted(imported.entries, "signed entry", "signed entries");
        self.step(
            &format!("Alice imports {}", file_name(source)),
            took,
            facts,
            &[
                format!("{rows} ({}) in {entries}", bytes(imported.bytes)),
                format!("database {stem}, {}", shared.id),
            ],
        )?;
        self.database = Some(shared);
        Ok(())
    }

    /// Bob may not read yet; he asks, and his request waits.
    pub(super) fn ask_for_access(&mut self) -> Result<()> {
        let shared = self.shared()?;
        let start = Instant::now();
        if self.bob.sync(&self.address, shared.id).is_ok() {
            return Err(broken("Bob could read without access"));
        }
        match self.bob.ask(&self.address, shared.id) {
            Err(eidetica::Error::BootstrapPending { request_id }) => {
                self.request = Some(request_id)
            }
            Err(error) => return Err(error.into()),
            Ok(_) => return Err(broken("Bob's request was granted by nobody")),
        }
        let took = start.elapsed();
        let waiting = requests::pending(&self.alice.network, &self.alice.user)?;
        let [request] = waiting.as_slice() else {
            return Err(broken("Alice sees no request"));
        };
        let line = request.line();
        let facts = json!({"request": request.id});
        self.step(
            "Bob asks for access",
            took,
            facts,
            &[
                "before that, the database does not exist as far as Bob can tell".to_owned(),
                format!("Alice sees request {line}"),
            ],
        )
    }

    pub(super) fn approve(&mut self) -> Result<()> {
        let shared = self.shared()?;
        let request = self.request.ok_or_else(|| broken("there is no request"))?;
        let start = Instant::now();
        let key = self.alice.open(shared.id)?.default_auth_key();
        self.alice
            .network
            .sync()
            .approve_bootstrap_request(&request, key)?;
        let took = start.elapsed();
        self.step(
            "Alice approves",
            took,
            json!({}),
            &[
                "the grant is a signed entry in the database itself, and travels with it"
                    .to_owned(),
            ],
        )
    }

    /// Bob fetches all of it and checks every hash, signature and right himself.
    pub(super) fn bootstrap(&mut self) -> Result<()> {
        let shared = self.shared()?;
        let start = Instant::now();
        let report = self.bob.sync(&self.address, shared.id)?;
        let took = start.elapsed();
        let database = self.bob.open(shared.id)?;
        let rows = row_count(&database, &shared.table)?;
        if rows != shared.rows {
            return Err(broken(&format!("Bob has {rows} rows of {}", shared.rows)));
        }
        let verified = database.verify()?;
        if !verified.is_sound() {
            return Err(broken("what Bob received does not verify"));
        }
        self.step(
            "Bob fetches the database",
            took,
            facts(&report),
            &[
                exchanged(&report),
                format!(
                    "Bob has {} and verified every hash, signature and right",
                    counted(rows, "row", "rows")
                ),
            ],
        )
    }

    /// Both edit while neither can reach the other.
    pub(super) fn edit_offline(&mut self) -> Result<()> {
        let shared = self.shared()?;
        let start = Instant::now();
        self.alice.network.stop()?;
        if self.bob.sync(&self.address, shared.id).is_ok() {
            return Err(broken("Bob reached Alice, who is offline"));
        }
        let Shared {
            id,
            table,
            both,
            alices,
            bobs,
            field,
            ..
        } = &shared;
        self.alice.set(
            *id,
            table,
            both,
            &json!({field: "as Alice calls it", "runways": 4}),
        )?;
        self.alice
            .set(*id, table, alices, &json!({"visited": "by Alice"}))?;
        self.bob.set(
            *id,
            table,
            both,
            &json!({field: "as Bob calls it", "open": true}),
        )?;
        self.bob
            .set(*id, table, bobs, &json!({"visited": "by Bob"}))?;
        let took = start.elapsed();
        self.step(
            "Both go offline and edit",
            took,
            json!({"entries": 4}),
            &[
                format!("Alice  {both}: {field}, runways   {alices}: visited"),
                format!("Bob    {both}: {field}, open      {bobs}: visited"),
            ],
        )
    }

    pub(super) fn reconnect(&mut self) -> Result<()> {
        let shared = self.shared()?;
        self.address = self.alice.serve()?;
        let start = Instant::now();
        let report = self.bob.sync(&self.address, shared.id)?;
        let took = start.elapsed();
        if (report.entries_received, report.entries_sent) != (2, 2) {
            return Err(broken(
                "they did not exchange exactly what the other one lacked",
            ));
        }
        let again = self.bob.sync(&self.address, shared.id)?;
        self.step(
            "They reconnect and exchange what the other one lacks",
            took,
            facts(&report),
            &[
                exchanged(&report),
                format!("asking again finds nothing new, in {}", bytes(again.bytes)),
            ],
        )
    }

    /// Both show the same, down to the last value.
    pub(super) fn compare(&mut self) -> Result<()> {
        let shared = self.shared()?;
        let start = Instant::now();
        let alices = self.alice.open(shared.id)?.state_hash()?.to_string();
        let bobs = self.bob.open(shared.id)?.state_hash()?.to_string();
        let took = start.elapsed();
        if alices != bobs {
            return Err(broken(&format!("the states differ: {alices} and {bobs}")));
        }
        let lines = [format!("Alice  {alices}"), format!("Bob    {bobs}")];
        self.step(
            "Both hold the same state",
            took,
            json!({"alice": alices, "bob": bobs}),
            &lines,
        )
    }

    /// The row that both edited: different fields are merged, the same field has versions.
    pub(super) fn show_merged_row(&mut self) -> Result<()> {
        let shared = self.shared()?;
        let start = Instant::now();
        let database = self.bob.open(shared.id)?;
        let row = database
            .table::<Value>(&shared.table)?
            .get_doc(&shared.both)?
            .map(|row| row.to_json());
        let row = row.ok_or_else(|| broken("the merged row is gone"))?;
        if row.get("runways") != Some(&json!(4)) || row.get("open") != Some(&json!(true)) {
            return Err(broken("an edit of different fields was lost"));
        }
        let versions = database.field_versions(
            &shared.table,
            &shared.both,
            &shared.field,
            limits::VERSIONS,
        )?;
        if versions.len() != 2 {
            return Err(broken(
                "the field that both edited does not have two versions",
            ));
        }
        let took = start.elapsed();
        let mut cells = Vec::new();
        for (name, value) in row.as_object().into_iter().flatten() {
            if *name != shared.field {
                cells.push(vec![name.clone(), plain(value), String::new()]);
                continue;
            }
            for (i, version) in versions.iter().enumerate() {
                let author = self.author(&database, version.stamp.id)?;
                let value = version.value.as_ref().map(|value| plain(&value.to_json()));
                let (name, note) = match i {
                    0 => (name.clone(), format!("by {author}: shown")),
                    _ => (
                        String::new(),
                        format!("by {author}, at the same time: kept as a version"),
                    ),
                };
                cells.push(vec![name, value.unwrap_or_default(), note]);
            }
        }
        let title = format!("The row that both edited: {}", shared.both);
        let text = table(&["field", "value", ""], cells.into_iter());
        let lines: Vec<String> = text.lines().skip(1).map(str::to_owned).collect();
        self.step(
            &title,
            took,
            json!({"row": row, "versions": versions.len()}),
            &lines,
        )
    }

    /// Somebody whom nobody knows learns nothing, not even that the database is there.
    pub(super) fn refuse_stranger(&mut self) -> Result<()> {
        let shared = self.shared()?;
        let start = Instant::now();
        let mallory = Node::in_memory("mallory")?;
        let nothing: Id = "00"
            .repeat(32)
            .parse()
            .map_err(|_| broken("zeros are no id"))?;
        let answer = |id: Id| match mallory.sync(&self.address, id) {
            Ok(_) => Err(broken("a stranger was served")),
            Err(error) => Ok(error.to_string().replace(&id.to_string(), "it")),
        };
        let (real, invented) = (answer(shared.id)?, answer(nothing)?);
        let took = start.elapsed();
        if real != invented {
            return Err(broken(&format!(
                "a stranger can tell {real:?} from {invented:?}"
            )));
        }
        if !mallory.user.instance().list_databases()?.is_empty() {
            return Err(broken("a stranger has the database"));
        }
        self.step(
            "Mallory, whom nobody knows, tries",
            took,
            json!({"answer": real}),
            &[
                format!("refused: {real}"),
                "the answer is the same for a database that does not exist".to_owned(),
            ],
        )
    }

    /// Says where everything is.
    pub(super) fn end(&mut self, keep: bool) -> Result<()> {
        let shared = self.shared()?;
        let bobs_address = if keep { Some(self.bob.serve()?) } else { None };
        if !keep {
            self.stop()?;
        }
        if self.context.output.is_json() {
            let value = json!({"data_dir": self.dir.display().to_string(), "alice": self.address, "bob": bobs_address});
            return self.context.output.result(&value, String::new);
        }
        self.text("")?;
        let option = |who: &str| format!("--data-dir {}", show(&self.dir.join(who)));
        match bobs_address {
            Some(address) => {
                self.text(&format!(
                    "Both nodes serve until Ctrl-C: Alice on {}, Bob on {address}. Try:",
                    self.address
                ))?;
                let dir = show(&self.dir.join("carol"));
                self.text(&format!(
                    "  eidetica --data-dir {dir} init --user carol --no-password"
                ))?;
                self.text(&format!(
                    "  eidetica --data-dir {dir} sync {} {}",
                    bare(&self.address),
                    shared.id
                ))?;
            }
            None => {
                let Shared { table, both, .. } = &shared;
                self.text(&format!("The data is in {}. Try:", show(&self.dir)))?;
                self.text(&format!(
                    "  eidetica {} get {table} {table} {} --versions",
                    option("bob"),
                    quoted(both)
                ))?;
                self.text(&format!(
                    "  eidetica {} query {table} {table} --limit 10",
                    option("bob")
                ))?;
                self.text(&format!("  eidetica {} log {table}", option("bob")))?;
                self.text(&format!("  eidetica {} serve", option("alice")))?;
            }
        }
        Ok(())
    }

    pub(super) fn stop(&self) -> Result<()> {
        self.alice.network.stop()?;
        self.bob.network.stop()
    }

    fn shared(&self) -> Result<Shared> {
        self.database
            .clone()
            .ok_or_else(|| broken("there is no database yet"))
    }

    /// Who made an entry, as the reader knows them.
    fn author(&self, database: &Database, entry: Id) -> Result<String> {
        let Some(entry) = database.get(&entry)? else {
            return Ok(String::new());
        };
        let key = &entry.header().author.key;
        for (node, name) in [(&self.alice, "Alice"), (&self.bob, "Bob")] {
            if node.user.get_default_key()?.public_key() == *key {
                return Ok(name.to_owned());
            }
        }
        author_name(database, key)
    }

    fn step(&mut self, title: &str, took: Duration, facts: Value, lines: &[String]) -> Result<()> {
        self.steps += 1;
        if self.context.output.is_json() {
            let value = json!({"step": self.steps, "title": title, "seconds": took.as_secs_f64(), "facts": facts});
            return self.context.output.result(&value, String::new);
        }
        self.text("")?;
        let head = format!("{:2}  {}", self.steps, escape(title));
        let took = duration(took);
        let gap = WIDTH
            .saturating_sub(head.chars().count() + took.chars().count())
            .max(1);
        self.text(&format!("{head}{:gap$}{took}", ""))?;
        lines
            .iter()
            .try_for_each(|line| self.text(&format!("      {}", escape(line))))
    }

    /// A line for people.
    fn text(&self, line: &str) -> Result<()> {
        if self.context.output.is_json() {
            Ok(())
        } else {
            self.context.output.line(line)
        }
    }
}

/// Picks the rows to edit: well-known airports where they are, else the first three.
fn choose(database: &Database, table: &str, rows: u64) -> Result<Shared> {
    let view = database.table::<Value>(table)?;
    let mut keys = Vec::new();
    for key in ["SFO", "JFK", "ORD"] {
        if view.contains(key)? {
            keys.push(key.to_owned());
        }
    }
    if keys.len() < 3 {
        keys = view
            .rows()
            .limit(3)
            .docs()
            .map(|row| row.map(|(key, _)| key))
            .collect::<Result<_, _>>()?;
    }
    let [both, alices, bobs] = <[String; 3]>::try_from(keys)
        .map_err(|_| Error::new(Code::BadInput, "the demo needs at least three rows"))?;
    let row = view.get_doc(&both)?.unwrap_or_default();
    let text = row.iter().filter(|(_, value)| value.as_text().is_some());
    let names: Vec<&str> = text.map(|(name, _)| name).collect();
    let field = names
        .iter()
        .find(|name| **name == "name")
        .or(names.first())
        .unwrap_or(&"name");
    let field = (*field).to_owned();
    Ok(Shared {
        id: database.root_id(),
        table: table.to_owned(),
        rows,
        both,
        alices,
        bobs,
        field,
    })
}

fn row_count(database: &Database, table: &str) -> Result<u64> {
    let mut rows = 0;
    for row in database.table::<Value>(table)?.rows().docs() {
        row?;
        rows += 1;
    }
    Ok(rows)
}

fn facts(report: &SyncReport) -> Value {
    json!({"received": report.entries_received, "sent": report.entries_sent, "bytes": report.bytes})
}

fn exchanged(report: &SyncReport) -> String {
    let received = counted(report.entries_received, "entry", "entries");
    format!(
        "received {received}, sent {}, {} on the wire",
        count(report.entries_sent),
        bytes(report.bytes)
    )
}

fn file_name(source: &Source) -> String {
    source
        .path
        .file_name()
        .map(|name| name.to_string_lossy().into_owned())
        .unwrap_or_default()
}

fn show(path: &Path) -> String {
    quoted(&path.display().to_string())
}

/// As a shell takes it.
fn quoted(text: &str) -> String {
    let harmless = text
        .chars()
        .all(|c| c.is_ascii_alphanumeric() || "-_./:@+=,".contains(c));
    let text = escape(text);
    if harmless {
        text.into_owned()
    } else {
        format!("'{}'", text.replace('\'', "'\\''"))
    }
}

fn bare(address: &str) -> &str {
    address.trim_start_matches("http://")
}
