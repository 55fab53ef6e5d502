//! `eidetica sync ADDRESS DB`

use std::time::{Duration, Instant};

use eidetica::auth::Permission;
use eidetica::sync::{Address, BootstrapStatus, RequestId, Scheme, SyncReport};
use eidetica::{Id, User};

use crate::context::{Context, Network, block_on, find_database, name_of};
use crate::error::{Code, Error, Result};
use crate::escape::escape;
use crate::iroh::IrohArgs;
use crate::limits;
use crate::output::{bytes, counted, duration};
use crate::permission::permission;
use crate::progress::Progress;

/// Arguments.
#[derive(clap::Args)]
pub(crate) struct Args {
    /// Where the peer is: host:port, or an address that begins with iroh://
    address: String,
    /// The database: its id, or its name when it is here already
    db: String,
    /// The access to ask for where there is none yet: read, write or admin, and a rank after a colon
    #[arg(long, value_name = "PERMISSION", default_value = "write", value_parser = permission)]
    request: Permission,
    /// Wait so many seconds for the request to be decided
    #[arg(long, value_name = "SECONDS", num_args = 0..=1, default_missing_value = "3600")]
    wait: Option<u64>,
    #[command(flatten)]
    iroh: IrohArgs,
}

pub(crate) fn run(args: &Args, context: &Context) -> Result<()> {
    let user = context.login()?;
    let network = Network::enable(&user)?;
    let peer_to_peer =
        matches!(args.address.parse::<Address>(), Ok(address) if address.scheme() == Scheme::Iroh);
    if let Some(config) = args.iroh.config(peer_to_peer).filter(|_| peer_to_peer) {
        network.enable_iroh(config)?;
    }
    let id = database_id(&user, &args.db)?;
    let result = {
        let _progress = Progress::spinner(
            context.output,
            format!("synchronizing with {}", escape(&args.address)),
        );
        exchange(args, id, &user, &network)
    };
    let done = result?;
    network.stop()?;
    show(&done, &user, id, context)
}

/// A synchronization, and how long it took, without the wait for somebody to grant it.
pub(crate) struct Done {
    report: SyncReport,
    took: Duration,
}

impl Done {
    pub(crate) fn timed(
        sync: impl FnOnce() -> eidetica::Result<SyncReport>,
    ) -> eidetica::Result<Self> {
        let start = Instant::now();
        let report = sync()?;
        let took = start.elapsed();
        Ok(Self { report, took })
    }
}

fn database_id(user: &User, text: &str) -> Result<Id> {
    match text.parse() {
        Ok(id) => Ok(id),
        Err(_) => Ok(find_database(user, text)?.root_id()),
    }
}

/// Synchronizes; asks for access first if none of the user's keys has any here.
fn exchange(args: &Args, id: Id, user: &User, network: &Network) -> Result<Done> {
    let here = user.instance().has_database(id)? && user.find_key(id)?.is_some();
    let fetch = || {
        let sync = network.sync();
        Done::timed(|| block_on(sync.sync_with_peer(args.address.as_str(), Some(&id))))
    };
    if here {
        return Ok(fetch()?);
    }
    let key = user.get_default_key()?;
    let asked = Done::timed(|| {
        let sync = network.sync();
        let address = args.address.as_str();
        block_on(sync.sync_with_peer_for_bootstrap(address, &id, key, args.request))
    });
    match (asked, args.wait) {
        (Err(eidetica::Error::BootstrapPending { request_id }), Some(seconds)) => {
            wait(network, &request_id, Duration::from_secs(seconds))?;
            Ok(fetch()?)
        }
        // Another right than the one asked for may have been granted already.
        (Err(denied @ eidetica::Error::AccessDenied(_)), _) => Ok(fetch().map_err(|_| denied)?),
        (result, _) => Ok(result?),
    }
}

/// Waits until a request is granted.
pub(crate) fn wait(network: &Network, request: &RequestId, most: Duration) -> Result<()> {
    let start = Instant::now();
    while start.elapsed() < most {
        match block_on(network.sync().bootstrap_status(request))? {
            BootstrapStatus::Granted => return Ok(()),
            BootstrapStatus::Denied => {
                return Err(Error::new(Code::Denied, "the request was refused"));
            }
            _ => std::thread::sleep(limits::REQUEST_POLL),
        }
    }
    Err(eidetica::Error::BootstrapPending {
        request_id: *request,
    }
    .into())
}

pub(crate) fn show(done: &Done, user: &User, id: Id, context: &Context) -> Result<()> {
    let Done { report, took } = done;
    let name = match user.open_database(id) {
        Ok(database) => name_of(&database)?,
        Err(_) => String::new(),
    };
    let value = serde_json::json!({
        "database": id.to_string(), "name": name, "peer": report.peer.to_string(), "received": report.entries_received,
        "sent": report.entries_sent, "bytes": report.bytes, "seconds": took.as_secs_f64(),
        "complete": report.complete,
    });
    context.output.result(&value, || {
        let received = counted(report.entries_received, "entry", "entries");
        let sent = counted(report.entries_sent, "entry", "entries");
        let exchanged = bytes(report.bytes);
        let rest = match report.complete {
            true => "",
            false => "; not all of it is here, as some entries wait for others or were rejected",
        };
        format!(
            "{}: received {received}, sent {sent}; {exchanged} exchanged in {}{rest}",
            escape(&name),
            duration(*took)
        )
    })
}
