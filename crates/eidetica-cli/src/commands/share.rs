//! `eidetica share ..`
//!
//! A ticket leads to a device that answers: whoever shares answers too, until interrupted.

use std::time::Duration;

use eidetica::auth::Permission;
use eidetica::sync::{InviteInfo, Ticket};
use qrcode::render::unicode::Dense1x2;
use qrcode::{EcLevel, QrCode};
use serde::Serialize;

use crate::commands::serve;
use crate::context::{Context, Network, find_database, name_of};
use crate::error::{Code, Error, Result};
use crate::escape::escape;
use crate::iroh::IrohArgs;
use crate::output::time;
use crate::permission::permission;

/// Arguments.
#[derive(clap::Args)]
#[command(args_conflicts_with_subcommands = true, subcommand_negates_reqs = true)]
pub(crate) struct Args {
    #[command(subcommand)]
    command: Option<Command>,
    /// The database: its name, its id, or the beginning of that
    #[arg(required = true)]
    db: Option<String>,
    /// Invite: whoever has the ticket gets this access without being asked. read, write or admin, and a rank after a colon
    #[arg(long, value_name = "PERMISSION", value_parser = permission)]
    permission: Option<Permission>,
    /// How many may use the invite
    #[arg(
        long,
        value_name = "NUMBER",
        default_value_t = 1,
        requires = "permission"
    )]
    count: u32,
    /// For how long the invite holds: a number and s, m, h or d
    #[arg(long, value_name = "TIME", default_value = "24h", value_parser = lifetime, requires = "permission")]
    expires: Duration,
    /// Show the ticket as a QR code too
    #[arg(long)]
    qr: bool,
    /// Answer over HTTP too, at this address
    #[arg(long, value_name = "ADDRESS")]
    listen: Option<String>,
    #[command(flatten)]
    iroh: IrohArgs,
}

/// What to do with invites that were issued.
#[derive(clap::Subcommand)]
pub(crate) enum Command {
    /// List the invites that were issued here
    List,
    /// Take an invite back; the access that it gave stays
    Revoke {
        /// The invite's id, or its beginning
        id: String,
    },
}

pub(crate) fn run(args: &Args, context: &Context) -> Result<()> {
    match (&args.command, &args.db) {
        (Some(Command::List), _) => list(context),
        (Some(Command::Revoke { id }), _) => revoke(id, context),
        (None, Some(db)) => share(args, db, context),
        // Clap does not let this through.
        (None, None) => Err(Error::new(Code::Failed, "no database is named")),
    }
}

fn share(args: &Args, db: &str, context: &Context) -> Result<()> {
    let user = context.login()?;
    let database = find_database(&user, db)?;
    let network = Network::start(&user)?;
    if args.listen.is_some() {
        network.enable_http()?;
    }
    let over_iroh = args.iroh.config(true);
    if let Some(config) = over_iroh {
        network.enable_iroh(config)?;
    }
    network.listen(args.listen.as_deref().unwrap_or_default())?;
    network.sync().set_background(true)?;
    let (id, by) = (database.root_id(), database.default_auth_key());
    let ticket = match args.permission {
        None => network.sync().ticket(id)?,
        Some(permission) => network
            .sync()
            .invite(id, by, permission, args.count, args.expires)?,
    };
    announce(&ticket, &name_of(&database)?, args.qr, context)?;
    serve::answer(&network, &user, context)
}

fn announce(ticket: &Ticket, name: &str, qr: bool, context: &Context) -> Result<()> {
    let invite = ticket.invite().map(|invite| {
        serde_json::json!({
            "id": invite.id().to_string(), "permission": invite.permission.to_string(),
            "expires_ms": invite.expires_ms,
        })
    });
    let addresses: Vec<String> = ticket
        .addresses()
        .map(|address| address.to_string())
        .collect();
    let value = serde_json::json!({
        "ticket": ticket.to_string(), "database": ticket.database().to_string(), "name": name,
        "addresses": addresses, "invite": invite,
    });
    let code = if qr { Some(qr_code(ticket)?) } else { None };
    context.output.result(&value, || {
        let mut lines = vec![
            format!("to join {}: eidetica join {ticket}", escape(name)),
            match ticket.invite() {
                Some(invite) => format!(
                    "whoever has this ticket gets {} until {}",
                    invite.permission,
                    time(invite.expires_ms)
                ),
                None => "whoever has this ticket may ask for access".to_owned(),
            },
        ];
        lines.extend(code.clone());
        lines.push(serve::COMMANDS.to_owned());
        lines.join("\n")
    })
}

/// The ticket for a camera, in characters of a terminal.
fn qr_code(ticket: &Ticket) -> Result<String> {
    let code = QrCode::with_error_correction_level(ticket.to_qr_text(), EcLevel::L)
        .map_err(|_| Error::new(Code::Failed, "the ticket is too long for a QR code"))?;
    Ok(code
        .render::<Dense1x2>()
        .dark_color(Dense1x2::Light)
        .light_color(Dense1x2::Dark)
        .build())
}

/// An invite as it is shown.
#[derive(Serialize)]
struct InviteRow {
    id: String,
    database: String,
    database_name: String,
    permission: String,
    count: u32,
    left: u32,
    redeemed: Vec<String>,
    expires_ms: u64,
    state: &'static str,
}

fn list(context: &Context) -> Result<()> {
    let user = context.login()?;
    let network = Network::start(&user)?;
    let mut rows = Vec::new();
    for invite in network.sync().list_invites()? {
        let name = match user.open_database(invite.database_id) {
            Ok(database) => name_of(&database)?,
            Err(_) => String::new(),
        };
        rows.push(InviteRow {
            state: state(&invite),
            id: invite.id.to_string(),
            database: invite.database_id.to_string(),
            database_name: name,
            permission: invite.permission.to_string(),
            count: invite.count,
            left: invite.left,
            redeemed: invite.redeemed.iter().map(ToString::to_string).collect(),
            expires_ms: invite.expires_ms,
        });
    }
    if rows.is_empty() {
        context.output.note("no invites");
    }
    context.output.list(
        &rows,
        &["id", "on", "gives", "left", "of", "until", "state"],
        |row| {
            vec![
                row.id.clone(),
                row.database_name.clone(),
                row.permission.clone(),
                row.left.to_string(),
                row.count.to_string(),
                time(row.expires_ms),
                row.state.to_owned(),
            ]
        },
    )
}

fn state(invite: &InviteInfo) -> &'static str {
    match () {
        () if invite.revoked => "taken back",
        () if invite.left > 0 => "open",
        () if invite.redeemed.len() >= invite.count as usize => "used up",
        () => "expired",
    }
}

fn revoke(id: &str, context: &Context) -> Result<()> {
    let user = context.login()?;
    let network = Network::start(&user)?;
    let wanted = id.trim_start_matches(KEY_PREFIX);
    let mut found: Vec<InviteInfo> = network.sync().list_invites()?;
    found.retain(|invite| {
        let text = invite.id.to_string();
        !wanted.is_empty() && text.trim_start_matches(KEY_PREFIX).starts_with(wanted)
    });
    match (found.pop(), found.pop()) {
        (Some(invite), None) => {
            network.sync().revoke_invite(invite.id)?;
            let id = invite.id.to_string();
            context
                .output
                .result(&serde_json::json!({"revoked": id}), || {
                    format!("took the invite {id} back")
                })
        }
        (None, _) => Err(Error::new(Code::NotFound, format!("no invite {id}"))
            .hint("`eidetica share list` shows those that were issued here")),
        (Some(_), Some(_)) => Err(Error::new(
            Code::Failed,
            format!("several invites begin with {id}"),
        )
        .hint("give more of the id")),
    }
}

/// What every key's text begins with.
const KEY_PREFIX: &str = "ed25519:";

/// Reads a time: a number and a unit.
fn lifetime(text: &str) -> Result<Duration, String> {
    let bad = || "expected a number and s, m, h or d, such as 24h".to_owned();
    let unit = text.chars().last().ok_or_else(bad)?;
    let seconds = match unit {
        's' => 1,
        'm' => 60,
        'h' => 3_600,
        'd' => 24 * 3_600,
        _ => return Err(bad()),
    };
    let digits = text.strip_suffix(unit).unwrap_or_default();
    let number: u64 = digits.parse().map_err(|_| bad())?;
    number
        .checked_mul(seconds)
        .filter(|seconds| *seconds > 0)
        .map(Duration::from_secs)
        .ok_or_else(bad)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_have_a_unit() {
        assert_eq!(lifetime("90s"), Ok(Duration::from_secs(90)));
        assert_eq!(lifetime("2m"), Ok(Duration::from_secs(120)));
        assert_eq!(lifetime("24h"), Ok(Duration::from_secs(86_400)));
        assert_eq!(lifetime("7d"), Ok(Duration::from_secs(604_800)));
        for bad in [
            "",
            "h",
            "24",
            "0h",
            "-1h",
            "1.5h",
            "1w",
            "\u{fc}",
            "99999999999999999999d",
        ] {
            assert!(lifetime(bad).is_err(), "{bad}");
        }
    }
}
