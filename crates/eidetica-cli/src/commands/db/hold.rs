//! `eidetica db hold`: what of a database is held here.

use eidetica::{Database, Holding, Holds, Id, User};

use crate::context::Context;
use crate::error::Result;
use crate::output::{count, counted, fields, table};

/// Arguments.
#[derive(clap::Args)]
#[command(after_help = "\
Headers, signatures and settings are always here, so all that is held is verified. A store that is left out says so when it \
is read. What is held and missing is fetched with every sync, from any peer that has it. Of a database that is not here yet, by \
its id, this decides what is fetched: `eidetica join` then brings no more.")]
pub(crate) struct Args {
    /// The database: its name or id
    db: String,
    /// Hold these stores only, such as `notes,tags`
    #[arg(
        long,
        value_delimiter = ',',
        value_name = "STORES",
        conflicts_with = "all"
    )]
    stores: Option<Vec<String>>,
    /// Hold everything
    #[arg(long)]
    all: bool,
    /// Take away what is here of stores that are left out; it may be the only copy there is
    #[arg(long, requires = "stores")]
    drop: bool,
    /// Do not wait any longer for what is missing of these stores: read them without
    #[arg(long, value_delimiter = ',', value_name = "STORES")]
    give_up: Vec<String>,
}

pub(super) fn run(args: &Args, context: &Context) -> Result<()> {
    let user = context.login()?;
    let (id, database) = find(&user, &args.db)?;
    let instance = user.instance();
    let holds = match &args.stores {
        Some(stores) => Some(Holds::stores(stores)?),
        None => args.all.then_some(Holds::All),
    };
    if let Some(holds) = &holds {
        instance.hold(id, holds)?;
    }
    let mut dropped = 0;
    if let Some(database) = &database {
        if args.drop {
            for (store, _) in database.stores()? {
                if !instance.holds(id)?.has(&store) {
                    dropped += database.release(store.as_str())?;
                }
            }
        }
        for store in &args.give_up {
            database.give_up(store)?;
        }
    }
    let missing = match &database {
        Some(database) => database.missing()?,
        None => Vec::new(),
    };
    let holds = instance.holds(id)?;
    let held: Option<Vec<String>> = holds
        .some()
        .map(|stores| stores.iter().map(ToString::to_string).collect());
    let value = serde_json::json!({
        "id": id.to_string(), "holds": held, "dropped": dropped, "missing": missing.iter().map(to_json).collect::<Vec<_>>(),
    });
    context.output.result(&value, || {
        let mut text = fields(&[("id", id.to_string()), ("holds", shown(&holds))]);
        if dropped > 0 {
            text += &format!("\n{} taken away", counted(dropped, "payload", "payloads"));
        }
        if !missing.is_empty() {
            text += &format!("\n\n{}", missing_table(&missing));
        }
        text
    })
}

/// A database that is here, or the id of one that is not yet.
fn find(user: &User, text: &str) -> Result<(Id, Option<Database>)> {
    match crate::context::find_database(user, text) {
        Ok(database) => Ok((database.root_id(), Some(database))),
        Err(error) => match text.parse() {
            Ok(id) if !user.instance().has_database(id)? => Ok((id, None)),
            _ => Err(error),
        },
    }
}

pub(super) fn shown(holds: &Holds) -> String {
    match holds.some() {
        None => "everything".to_owned(),
        Some(stores) if stores.is_empty() => "settings only".to_owned(),
        Some(stores) => {
            let names: Vec<&str> = stores.iter().map(|store| store.as_str()).collect();
            names.join(", ")
        }
    }
}

pub(super) fn to_json(holding: &Holding) -> serde_json::Value {
    serde_json::json!({
        "store": holding.store.to_string(), "held": holding.held, "missing": holding.missing, "given_up": holding.given_up,
    })
}

pub(super) fn missing_table(missing: &[Holding]) -> String {
    let rows = missing.iter().map(|holding| {
        let why = match holding.held {
            true if holding.missing == holding.given_up => "given up",
            true => "not come yet",
            false => "left out",
        };
        vec![
            holding.store.to_string(),
            count(holding.missing),
            why.to_owned(),
        ]
    });
    table(&["not whole here", "missing", "because"], rows)
}

/// The hash of what a database shows, if all of that is here.
pub(super) fn state(database: &Database) -> Result<Option<String>> {
    match database.state_hash() {
        Ok(hash) => Ok(Some(hash.to_string())),
        Err(eidetica::DatabaseError::Incomplete { .. }) => Ok(None),
        Err(error) => Err(error.into()),
    }
}
