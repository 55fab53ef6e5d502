//! `eidetica join TICKET`

use std::time::Duration;

use eidetica::User;
use eidetica::auth::Permission;
use eidetica::sync::Ticket;

use crate::commands::sync::{Done, show, wait};
use crate::context::{Context, Network, block_on};
use crate::error::Result;
use crate::iroh::IrohArgs;
use crate::permission::permission;
use crate::progress::Progress;

/// Arguments.
#[derive(clap::Args)]
pub(crate) struct Args {
    /// What `eidetica share` printed there
    ticket: String,
    /// The access to ask for where the ticket has no invite: read, write or admin, and a rank after a colon
    #[arg(long, value_name = "PERMISSION", default_value = "write", value_parser = permission)]
    request: Permission,
    /// Wait so many seconds for the request to be decided
    #[arg(long, value_name = "SECONDS", num_args = 0..=1, default_missing_value = "3600")]
    wait: Option<u64>,
    #[command(flatten)]
    iroh: IrohArgs,
}

pub(crate) fn run(args: &Args, context: &Context) -> Result<()> {
    let ticket: Ticket = args.ticket.parse().map_err(eidetica::Error::from)?;
    let user = context.login()?;
    let network = Network::start(&user)?;
    network.enable_http()?;
    if let Some(config) = args.iroh.config(true) {
        network.enable_iroh(config)?;
    }
    let result = {
        let _progress = Progress::spinner(context.output, "joining".to_owned());
        join(args, &ticket, &user, &network)
    };
    show(&result?, &user, ticket.database(), context)
}

fn join(args: &Args, ticket: &Ticket, user: &User, network: &Network) -> Result<Done> {
    let key = user.get_default_key()?;
    let try_once = || Done::timed(|| block_on(network.sync().join(ticket, key, args.request)));
    match (try_once(), args.wait) {
        (Err(eidetica::Error::BootstrapPending { request_id }), Some(seconds)) => {
            wait(network, &request_id, Duration::from_secs(seconds))?;
            Ok(try_once()?)
        }
        (result, _) => Ok(result?),
    }
}
