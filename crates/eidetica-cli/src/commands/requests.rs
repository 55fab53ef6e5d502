//! `eidetica requests ..`

use eidetica::User;
use eidetica::sync::RequestState;
use serde::Serialize;

use crate::context::{Context, Network, name_of};
use crate::error::{Code, Error, Result};
use crate::escape::escape;
use crate::output::time;

/// Characters of an id that are shown, and enough to name a request.
const SHORT_ID: usize = 8;

/// What to do with requests for access. While `eidetica serve` runs, type the same to it
#[derive(clap::Subcommand)]
pub(crate) enum Command {
    /// List requests
    List {
        /// Those that were decided too
        #[arg(long)]
        all: bool,
    },
    /// Grant what a request asks for
    Approve {
        /// The request's id, or its beginning
        id: String,
    },
    /// Refuse a request
    Reject {
        /// The request's id, or its beginning
        id: String,
    },
}

/// A request as it is shown.
#[derive(Serialize)]
pub(crate) struct RequestRow {
    pub(crate) id: String,
    database: String,
    database_name: String,
    key: String,
    name: String,
    permission: String,
    device: String,
    received_ms: u64,
    state: &'static str,
}

pub(crate) fn run(command: Command, context: &Context) -> Result<()> {
    let user = context.login()?;
    let network = Network::enable(&user)?;
    match command {
        Command::List { all } => list(&network, &user, all, context),
        Command::Approve { id } => approve(&network, &user, &id, context),
        Command::Reject { id } => reject(&network, &user, &id, context),
    }
}

/// Requests that wait for a decision.
pub(crate) fn pending(network: &Network, user: &User) -> Result<Vec<RequestRow>> {
    Ok(all(network, user)?
        .into_iter()
        .filter(|row| row.state == "pending")
        .collect())
}

fn all(network: &Network, user: &User) -> Result<Vec<RequestRow>> {
    let mut rows = Vec::new();
    for request in network.sync().list_bootstrap_requests()? {
        let database_name = match user.open_database(request.database_id) {
            Ok(database) => name_of(&database)?,
            Err(_) => String::new(),
        };
        rows.push(RequestRow {
            id: request.id.to_string(),
            database: request.database_id.to_string(),
            database_name,
            key: request.key.to_string(),
            name: request.name.to_string(),
            permission: request.permission.to_string(),
            device: request.device.to_string(),
            received_ms: request.received_ms,
            state: match request.state {
                RequestState::Pending => "pending",
                RequestState::Approved => "approved",
                RequestState::Rejected => "rejected",
            },
        });
    }
    Ok(rows)
}

pub(crate) fn list(network: &Network, user: &User, decided: bool, context: &Context) -> Result<()> {
    let rows = if decided {
        all(network, user)?
    } else {
        pending(network, user)?
    };
    if rows.is_empty() {
        context.output.note("no requests");
    }
    context.output.list(
        &rows,
        &["id", "from", "key", "asks for", "on", "received", "state"],
        |row| {
            vec![
                row.short().to_owned(),
                row.name.clone(),
                row.key.clone(),
                row.permission.clone(),
                row.database_name.clone(),
                time(row.received_ms),
                row.state.to_owned(),
            ]
        },
    )
}

/// Grants what a request asks for, with the acting user's key.
pub(crate) fn approve(network: &Network, user: &User, id: &str, context: &Context) -> Result<()> {
    let row = find(network, user, id)?;
    let by = user
        .open_database(row.database.as_str())?
        .default_auth_key();
    network
        .sync()
        .approve_bootstrap_request(&row.parsed()?, by)?;
    context
        .output
        .result(&serde_json::json!({"approved": row.id}), || {
            format!("approved {}", row.line())
        })
}

/// Refuses a request.
pub(crate) fn reject(network: &Network, user: &User, id: &str, context: &Context) -> Result<()> {
    let row = find(network, user, id)?;
    network.sync().reject_bootstrap_request(&row.parsed()?)?;
    context
        .output
        .result(&serde_json::json!({"rejected": row.id}), || {
            format!("rejected {}", row.line())
        })
}

fn find(network: &Network, user: &User, id: &str) -> Result<RequestRow> {
    let mut found: Vec<RequestRow> = all(network, user)?
        .into_iter()
        .filter(|row| row.id.starts_with(id))
        .collect();
    match (found.pop(), found.pop()) {
        (Some(only), None) => Ok(only),
        (None, _) => Err(Error::new(Code::NotFound, format!("no request {id}"))
            .hint("`requests list` shows what waits")),
        (Some(_), Some(_)) => Err(Error::new(
            Code::Failed,
            format!("several requests begin with {id}"),
        )
        .hint("give more of the id")),
    }
}

impl RequestRow {
    /// Who asks for what, escaped.
    pub(crate) fn line(&self) -> String {
        let who = if self.name.is_empty() {
            self.key.clone()
        } else {
            format!("{} ({})", self.name, self.key)
        };
        let what = if self.database_name.is_empty() {
            &self.database
        } else {
            &self.database_name
        };
        escape(&format!(
            "{}: {who} asks for {} on {what}",
            self.short(),
            self.permission
        ))
        .into_owned()
    }

    pub(crate) fn short(&self) -> &str {
        self.id.get(..SHORT_ID).unwrap_or(&self.id)
    }

    fn parsed(&self) -> Result<eidetica::sync::RequestId> {
        self.id
            .parse()
            .map_err(|_| Error::new(Code::Failed, format!("{} is no request id", self.id)))
    }
}
