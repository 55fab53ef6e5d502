//! `eidetica status`

use std::time::Duration;

use eidetica::Instance;
use eidetica::sync::{DatabaseStatus, PeerCopy, PeerPayloads, Reach, ToSend};
use serde_json::{Value, json};

use crate::context::{Context, find_database, wait_for_interruption};
use crate::error::Result;
use crate::escape::escape;
use crate::iroh::{self, IrohArgs};
use crate::limits;
use crate::output::{bytes, count, counted, fields, table};

/// Arguments.
#[derive(clap::Args)]
pub(crate) struct Args {
    /// Only this database: its id or name
    db: Option<String>,
    /// Connect to the peers, exchange what is left, and print every change until interrupted
    #[arg(long)]
    watch: bool,
    #[command(flatten)]
    iroh: IrohArgs,
}

pub(crate) fn run(args: &Args, context: &Context) -> Result<()> {
    let (instance, only) = match &args.db {
        None => (context.open()?, None),
        Some(name) => {
            let user = context.login()?;
            let id = find_database(&user, name)?.root_id();
            (user.instance().clone(), Some(id))
        }
    };
    let sync = instance.enable_sync()?.sync()?;
    sync.set_background(args.watch)?;
    let look = || -> Result<Vec<DatabaseStatus>> {
        match only {
            Some(id) => Ok(vec![sync.database_status(id)?]),
            None => Ok(sync.status()?.databases),
        }
    };
    if args.watch {
        sync.enable_http_transport()?;
        if let Some(config) = args.iroh.config(iroh::is_needed(&sync)?) {
            sync.enable_iroh_transport_with(config)?;
        }
        return watch(look, context);
    }
    let databases = look()?;
    if only.is_some() {
        return show(&databases, context);
    }
    overview(&instance, &databases, context)
}

/// What is in the data directory, then how its databases stand.
fn overview(instance: &Instance, databases: &[DatabaseStatus], context: &Context) -> Result<()> {
    let place = context.place().shown();
    let device = instance.device_key().to_string();
    let users = instance.list_users()?;
    let total = instance.list_databases()?.len() as u64;
    let size = context
        .place()
        .path()
        .map(crate::context::disk_size)
        .transpose()?;
    let value = json!({
        "data_dir": place, "device": device, "users": users, "databases": total, "bytes_on_disk": size,
        "safe_to_close": is_safe(databases),
        "sync": databases.iter().map(database_value).collect::<Vec<_>>(),
    });
    context.output.result(&value, || {
        let rows = fields(&[
            ("data directory", place.clone()),
            (
                "size on disk",
                size.map_or_else(|| "on a server".to_owned(), bytes),
            ),
            ("device", device.clone()),
            ("users", users.join(", ")),
            ("databases", count(total)),
        ]);
        match databases {
            [] => rows,
            _ => format!("{rows}\n\n{}", text(databases)),
        }
    })
}

/// Prints how the databases stand, again whenever something changes.
fn watch(look: impl Fn() -> Result<Vec<DatabaseStatus>>, context: &Context) -> Result<()> {
    let (sender, interrupted) = std::sync::mpsc::channel();
    std::thread::Builder::new()
        .name("signals".to_owned())
        .spawn(move || {
            // Without signal handling the process ends by the signal itself.
            if wait_for_interruption().is_ok() {
                let _ = sender.send(());
            } else {
                loop {
                    std::thread::park_timeout(Duration::MAX);
                }
            }
        })?;
    let mut shown = None;
    loop {
        let databases = look()?;
        let lines: Vec<Value> = databases.iter().map(line_value).collect();
        if shown.as_ref() != Some(&lines) {
            show(&databases, context)?;
            shown = Some(lines);
        }
        if interrupted.recv_timeout(limits::STATUS_TICK).is_ok() {
            return Ok(());
        }
    }
}

fn show(databases: &[DatabaseStatus], context: &Context) -> Result<()> {
    let value = json!({
        "safe_to_close": is_safe(databases),
        "sync": databases.iter().map(database_value).collect::<Vec<_>>(),
    });
    context.output.result(&value, || text(databases))
}

fn is_safe(databases: &[DatabaseStatus]) -> bool {
    databases.iter().all(DatabaseStatus::is_safe_to_close)
}

/// What a change is noticed by: times alone are none.
fn line_value(status: &DatabaseStatus) -> Value {
    let copies = status.peers.iter().map(|copy| {
        json!([
            copy.peer.to_string(),
            copy.connection.to_string(),
            copy.has_latest,
            copy.payloads.to_string(),
            left(copy),
            copy.is_pending
        ])
    });
    json!([
        status.database_id.to_string(),
        status.name,
        copies.collect::<Vec<_>>()
    ])
}

fn database_value(status: &DatabaseStatus) -> Value {
    json!({
        "database": status.database_id.to_string(), "name": status.name, "enabled": status.enabled,
        "on_commit": status.on_commit, "interval_seconds": status.interval_seconds,
        "safe_to_close": status.is_safe_to_close(),
        "peers": status.peers.iter().map(copy_value).collect::<Vec<_>>(),
    })
}

fn copy_value(copy: &PeerCopy) -> Value {
    let error = match &copy.connection {
        Reach::Waiting { error, .. } => error.clone(),
        _ => None,
    };
    json!({
        "peer": copy.peer.to_string(), "name": copy.display_name, "connection": copy.connection.to_string(),
        "has_latest": copy.has_latest, "payloads": copy.payloads.to_string(), "to_send": copy.to_send.map(|left| left.entries),
        "to_send_is_more": copy.to_send.is_some_and(|left| left.more), "pending": copy.is_pending,
        "retry_ms": copy.retry_ms, "last_synced_ms": copy.last_synced_ms, "error": error,
    })
}

fn left(copy: &PeerCopy) -> String {
    match copy.to_send {
        None => "unknown".to_owned(),
        Some(ToSend { entries: 0, .. }) => "nothing".to_owned(),
        Some(ToSend { entries, more }) => {
            let entries = counted(entries, "entry", "entries");
            if more {
                format!("{entries} and more")
            } else {
                entries
            }
        }
    }
}

/// Whether it has the latest write, or what keeps it from having all of it.
fn latest(copy: &PeerCopy) -> &'static str {
    match &copy.payloads {
        _ if !copy.has_entries => "no",
        PeerPayloads::All => "yes",
        PeerPayloads::Stores(_) => "some stores",
        PeerPayloads::Lacking => "not all payloads",
        _ => "entries; payloads unknown",
    }
}

fn text(databases: &[DatabaseStatus]) -> String {
    let rows = databases.iter().flat_map(|status| {
        let name = match status.name.as_str() {
            "" => status.database_id.to_string(),
            name => escape(name).into_owned(),
        };
        status.peers.iter().map(move |copy| {
            let peer = copy.display_name.clone();
            vec![
                name.clone(),
                escape(&peer.unwrap_or_else(|| copy.peer.to_string())).into_owned(),
                copy.connection.to_string(),
                latest(copy).to_owned(),
                left(copy),
            ]
        })
    });
    let columns = [
        "database",
        "peer",
        "connection",
        "has the latest",
        "left to send",
    ];
    let safe = match is_safe(databases) {
        true => "safe to close: every write is on another device, or for this one alone",
        false => "not safe to close: some writes are on this device only, as far as is known",
    };
    format!("{}\n{safe}", table(&columns, rows))
}
