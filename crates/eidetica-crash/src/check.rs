//! What must hold of a database after anything happened to the process that wrote it.

use std::collections::{BTreeMap, HashSet};
use std::sync::Arc;

use anyhow::{Context as _, ensure};
use eidetica_database::{Database, Databases};
use eidetica_entry::{Entry, Id, StoreName, pack};
use eidetica_storage::{Durability, Engine};

use crate::promise::Promises;
use crate::site::Site;
use crate::work::{
    self, CREATED, GRANT, IMPORT, IMPORT_ROWS, LOCAL, PEER, SUMS, bring, granted, in_memory, owner,
    packs,
};

/// How often a check begins anew because a server still worked on what the dead had asked.
const RESTLESS: usize = 100;

/// The names of the writers that may have committed.
pub const WRITERS: [&str; 4] = ["w0", "w1", "w2", PEER];

/// What is there.
#[derive(Clone, Debug, Default)]
pub struct Found {
    /// The database, if it was created.
    pub id: Option<Id>,
    /// How many entries it has.
    pub entries: u64,
    /// The last number of everybody.
    pub last: BTreeMap<&'static str, u64>,
}

/// Opens a site, checks it, goes on with one commit, and checks that.
///
/// # Errors
/// What does not hold.
pub fn site(site: &Site, promises: &Promises) -> anyhow::Result<Found> {
    let engine = site.open().context("it does not open")?;
    let found = goes_on(&engine, promises);
    engine.close().context("it does not close")?;
    found
}

fn goes_on(engine: &Arc<dyn Engine>, promises: &Promises) -> anyhow::Result<Found> {
    let databases = work::databases(Arc::clone(engine), Durability::Durable, 3)?;
    let found = databases_hold(&databases, promises)?;
    if let Some(id) = found.id {
        let next = found.last["w0"] + 1;
        let database = databases.get(&id)?.with_key(owner());
        work::commit(&database, "w0", next).context("it does not go on")?;
        let after = databases_hold(&databases, promises).context("after one commit more")?;
        ensure!(after.last["w0"] == next, "a commit is missing");
    }
    Ok(found)
}

/// Everything promised is there, nothing twice; everything verifies; the state is what follows from the entries.
///
/// # Errors
/// What does not hold.
pub fn databases_hold(databases: &Databases, promises: &Promises) -> anyhow::Result<Found> {
    let ids = databases.list()?;
    ensure!(ids.len() <= 1, "{} databases", ids.len());
    let mut found = match ids.first() {
        Some(id) => {
            let database = databases.get(id)?;
            settled(databases, &database)?
        }
        None => Found::default(),
    };
    let local = databases.local(LOCAL)?.doc(LOCAL)?;
    let last = local.get_as::<i64>("last")?.unwrap_or(0);
    ensure!(
        local.get_as::<i64>("sum")?.unwrap_or(0) == last,
        "the local database counts twice"
    );
    found.last.insert(LOCAL, u64::try_from(last)?);
    found.last.insert(CREATED, found.id.is_some().into());
    for (who, promised) in promises.iter() {
        let there = found.last.get(who).copied().unwrap_or(0);
        ensure!(
            there >= promised,
            "{who} was promised {promised}, {there} is there"
        );
    }
    Ok(found)
}

/// The check of a database that nobody writes to. A server may still be busy with what the dead asked for.
fn settled(databases: &Databases, database: &Database) -> anyhow::Result<Found> {
    let mut attempts = 0;
    loop {
        let before = database.entry_count()?;
        let checked = holds(databases, database);
        attempts += 1;
        if before == database.entry_count()? || attempts == RESTLESS {
            return checked;
        }
    }
}

fn holds(databases: &Databases, database: &Database) -> anyhow::Result<Found> {
    let verified = databases.verify()?;
    ensure!(verified.is_sound(), "{:?}", verified.faults);
    let entries = database.entry_count()?;
    ensure!(
        verified.entries == entries,
        "{} of {entries} entries verified",
        verified.entries
    );
    let commits = follows_from_entries(databases, database, entries)?;
    let mut found = Found {
        id: Some(database.id()),
        entries,
        last: BTreeMap::new(),
    };
    let mut all = 0;
    for who in WRITERS {
        let last = writer(database, who).with_context(|| format!("what {who} wrote"))?;
        let commits = commits.get(who).copied().unwrap_or(0);
        ensure!(
            commits == last,
            "{who} has {commits} entries for {last} commits"
        );
        all += last;
        found.last.insert(who, last);
    }
    ensure!(sum(database, "all")? == all, "the sum of all is wrong");
    found.last.insert(IMPORT, imports(database)?);
    let grants = sum(database, GRANT)?;
    for number in 1..=grants {
        let right = database.right_of(&granted(number).public())?;
        ensure!(right.is_some(), "grant {number} of {grants} is missing");
    }
    found.last.insert(GRANT, grants);
    Ok(found)
}

/// Computes everything anew from the entries alone, in a replica, and counts the entries of each writer.
fn follows_from_entries(
    databases: &Databases,
    database: &Database,
    entries: u64,
) -> anyhow::Result<BTreeMap<&'static str, u64>> {
    let id = database.id();
    let (mut ids, mut commits) = (HashSet::new(), BTreeMap::new());
    let names = WRITERS.map(|who| (who, StoreName::new(who).unwrap()));
    for packed in packs(databases, &id, &[])? {
        for entry in pack::decode(&packed, &pack::Limits::default())? {
            ensure!(ids.insert(entry.id()), "{} is there twice", entry.id());
            let wrote = names.iter().find(|(_, name)| writes(&entry, name));
            if let Some((who, _)) = wrote {
                *commits.entry(*who).or_default() += 1;
            }
        }
    }
    ensure!(
        ids.len() as u64 == entries,
        "{} of {entries} entries are handed out",
        ids.len()
    );
    let replica = in_memory(9);
    bring(databases, &replica, &id)?;
    let copy = replica.get(&id)?;
    ensure!(
        copy.entry_count()? == entries,
        "a replica has other entries"
    );
    ensure!(copy.tips()? == database.tips()?, "a replica has other tips");
    ensure!(
        copy.state_hash()? == database.state_hash()?,
        "the state does not follow from the entries"
    );
    Ok(commits)
}

fn writes(entry: &Entry, name: &StoreName) -> bool {
    entry
        .header()
        .stores
        .iter()
        .any(|store| store.name == *name)
}

/// The last commit of a writer, if all up to it are there, once.
fn writer(database: &Database, who: &str) -> anyhow::Result<u64> {
    let rows = database.table::<serde_json::Value>(who)?.get_all()?;
    let mut last = 0;
    for (key, value) in rows {
        last += 1;
        ensure!(key == work::row(last), "row {key} instead of {last}");
        ensure!(value["number"] == last, "row {key} holds {value}");
        ensure!(
            value["text"] == work::text(last),
            "row {key} holds another text"
        );
    }
    ensure!(sum(database, who)? == last, "the sum is wrong");
    let shown = database.doc(SUMS)?.get_as::<i64>(&format!("last.{who}"))?;
    ensure!(
        shown.unwrap_or(0) == last as i64,
        "the last number is {shown:?}, not {last}"
    );
    Ok(last)
}

fn sum(database: &Database, of: &str) -> anyhow::Result<u64> {
    let sum = database.doc(SUMS)?.get_as::<i64>(of)?;
    Ok(u64::try_from(sum.unwrap_or(0))?)
}

/// The last import, if all up to it are whole.
fn imports(database: &Database) -> anyhow::Result<u64> {
    let rows = database.table::<serde_json::Value>(IMPORT)?.get_all()?;
    let mut count = 0_u64;
    for (key, _) in rows {
        let expected = format!("{:08}/{:04}", count / IMPORT_ROWS + 1, count % IMPORT_ROWS);
        ensure!(
            key == expected,
            "row {key} of an import instead of {expected}"
        );
        count += 1;
    }
    ensure!(
        count.is_multiple_of(IMPORT_ROWS),
        "an import is there in part"
    );
    Ok(count / IMPORT_ROWS)
}
