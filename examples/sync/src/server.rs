//! The program `server`.

use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::time::Instant;

use anyhow::{Context as _, bail};
use eidetica_auth::SecretKey;
use eidetica_authdb::{Any, Immutable, Options};
use eidetica_entry::PublicKey;
use eidetica_statesync::DatabaseName;
use eidetica_statesync_net::{Binding, Identity, Served, Server, ServerLimits};
use eidetica_transport::Transport as _;
use eidetica_transport_http::HttpTransport;
use tokio::net::TcpListener;
use tokio::task::spawn_blocking;
use tokio::time::{MissedTickBehavior, interval_at};
use tokio_util::sync::CancellationToken;
use tracing::info;

use crate::growing::{Growing, Pruning, fill, grow, initial_operations, workload};
use crate::metrics::{self, ServerMetrics};
use crate::options::{DatabaseType, ServerOptions};
use crate::workload::Workload;
use crate::{keys, signals, storage};

/// Serves until it is told to stop.
///
/// # Errors
/// Whatever keeps it from serving, as a message for people.
pub async fn run(options: ServerOptions) -> anyhow::Result<()> {
    match options.db {
        DatabaseType::Any => serve::<Any>(options).await,
        DatabaseType::Immutable => serve::<Immutable>(options).await,
    }
}

async fn serve<D: Growing>(options: ServerOptions) -> anyhow::Result<()> {
    let stop = signals::stop_signal().context("cannot wait for signals")?;
    tokio::pin!(stop);
    let (metrics, registry) = ServerMetrics::new();
    let identity = keys::identity(&options.peers)?;
    let signer = signer(&options, identity.as_ref())?;
    let (binding, address) = bind(&options, identity).await?;
    let metrics_port = metrics::serve(options.metrics_port, registry).await?;

    let storage = storage::directory(options.storage_dir.as_ref(), "server");
    info!(storage_dir = %storage.display(), metrics = %metrics::url(metrics_port), "where to look");
    info!("initializing database");
    let stopped = CancellationToken::new();
    let opening = open::<D>(&storage, &options, stopped.clone());
    tokio::pin!(opening);
    let (database, workload) = tokio::select! {
        opened = &mut opening => opened?,
        signal = &mut stop => {
            // What is being committed is committed.
            stopped.cancel();
            opening.await?;
            info!(%signal, "stopped");
            return Ok(());
        }
    };
    let name = DatabaseName::new(options.db.name())?;
    let served = Arc::new(Served::new(name, database, signer));
    let limits = limits(&options);
    let server = Server::new(Arc::clone(&served), limits, metrics.clone());
    info!(
        addr = %address,
        op_interval = %options.op_interval,
        ops_per_interval = options.ops_per_interval,
        "server listening and continuously adding operations"
    );

    let serving = Arc::clone(&server);
    let mut listening = tokio::spawn(async move { serving.listen(binding).await });
    let growing = grow_until(&stopped, served, workload, &options, &metrics);
    tokio::pin!(growing);
    let ended = tokio::select! {
        signal = &mut stop => {
            // What is being added is added, and told.
            stopped.cancel();
            growing.await.map(|()| signal)
        }
        ended = &mut listening => Err(match ended? {
            Ok(()) => anyhow::anyhow!("it stopped listening"),
            Err(error) => anyhow::Error::from(error).context("cannot listen any longer"),
        }),
        ended = &mut growing => ended.and(Err(anyhow::anyhow!("it stopped adding operations"))),
    };
    server.stop().await;
    let signal = ended?;
    info!(%signal, "stopped");
    Ok(())
}

/// Where it listens. Anybody is served on this machine alone.
async fn bind(
    options: &ServerOptions,
    identity: Option<Identity>,
) -> anyhow::Result<(Binding, SocketAddr)> {
    let wanted = SocketAddr::new(options.host, options.port);
    if identity.is_none() && !options.host.is_loopback() {
        bail!(
            "cannot listen at {wanted}: other machines reach it, so --identity and --allow have to say who may"
        );
    }
    let context = || format!("cannot listen at {wanted}, see --port");
    if identity.is_none() {
        tracing::warn!(
            "clients are not authenticated: fine on one machine, see --identity for anything else"
        );
    }
    if identity.is_none() && !options.http {
        let listener = TcpListener::bind(wanted).await.with_context(context)?;
        let address = listener.local_addr()?;
        return Ok((Binding::Tcp(listener), address));
    }
    let listener = HttpTransport::new()?
        .listen(&wanted.to_string())
        .await
        .with_context(context)?;
    let shown = listener.address().to_string();
    let address = shown
        .trim_start_matches("http://")
        .parse()
        .with_context(|| format!("listening at {shown}"))?;
    Ok((Binding::Channels(listener, identity), address))
}

fn signer(
    options: &ServerOptions,
    identity: Option<&Identity>,
) -> anyhow::Result<Option<SecretKey>> {
    let Some(path) = &options.signer else {
        return Ok(None);
    };
    let signer = keys::secret(path)?;
    let key: PublicKey = signer.public();
    if identity.is_some_and(|identity| identity.public() == key) {
        bail!(
            "--signer and --identity are the same key: whoever has the server's could then forge targets"
        );
    }
    info!(%key, "targets are signed");
    Ok(Some(signer))
}

fn limits(options: &ServerOptions) -> ServerLimits {
    let mut limits = ServerLimits::default();
    limits.connections = options.max_connections as usize;
    limits.connections_per_address = options.max_connections_per_address as usize;
    limits.targets_per_second = options.target_rate;
    limits.operations_per_second = options.operation_rate;
    limits
}

/// Opens the database, or begins one and fills it.
async fn open<D: Growing>(
    directory: &Path,
    options: &ServerOptions,
    stopped: CancellationToken,
) -> anyhow::Result<(D, Workload)> {
    let (directory, initial) = (directory.to_path_buf(), options.initial_ops);
    spawn_blocking(move || {
        let disk = storage::disk(&directory)?;
        let opened = D::open(disk, Options::new(rand::random()));
        let mut database = opened
            .with_context(|| format!("cannot open the database in {}", directory.display()))?;
        let mut workload = workload(&database, rand::random())?;
        if database.leaves().0 == 0 {
            info!(
                operations_len = initial_operations(initial),
                "creating initial operations"
            );
            fill(&mut database, &mut workload, initial, || {
                stopped.is_cancelled()
            })?;
        }
        info!(op_count = database.leaves().0, root = %database.root(), "database ready");
        Ok((database, workload))
    })
    .await?
}

/// Adds operations at the interval until it is stopped.
async fn grow_until<D: Growing>(
    stopped: &CancellationToken,
    served: Arc<Served<D>>,
    mut workload: Workload,
    options: &ServerOptions,
    metrics: &ServerMetrics,
) -> anyhow::Result<()> {
    let period = options.op_interval.0;
    let mut ticks = interval_at(tokio::time::Instant::now() + period, period);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut pruning = Pruning::new(options.prune_after.0);
    let changes = options.ops_per_interval;
    show_size(&*served, metrics);
    loop {
        tokio::select! {
            biased;
            () = stopped.cancelled() => return Ok(()),
            _ = ticks.tick() => {}
        }
        if changes == 0 {
            continue;
        }
        let (database, mut next, mut prunes) = (Arc::clone(&served), workload, pruning);
        let round = spawn_blocking(move || {
            let added =
                database.write(|database| add(database, &mut next, &mut prunes, changes))?;
            Ok::<_, eidetica_authdb::Error>((added, next, prunes))
        });
        let added;
        (added, workload, pruning) = round.await?.context("cannot add operations")?;
        metrics.operations_added.inc_by(added);
        let root = show_size(&*served, metrics);
        info!(operations_added = added, %root, "added operations");
    }
}

/// One round: changes, a commit, and what can be forgotten since.
fn add<D: Growing>(
    database: &mut D,
    workload: &mut Workload,
    pruning: &mut Pruning,
    changes: u64,
) -> Result<u64, eidetica_authdb::Error> {
    let added = grow(database, workload, changes)?;
    if let Some(boundary) = pruning.boundary(Instant::now(), database.lower()) {
        database.prune(boundary)?;
        tracing::debug!(%boundary, "pruned");
    }
    Ok(added)
}

fn show_size<D: Growing>(served: &Served<D>, metrics: &ServerMetrics) -> eidetica_mmr::Digest {
    served.read(|database| {
        metrics
            .database_operations
            .set(database.leaves().0.cast_signed());
        metrics
            .database_lower_bound
            .set(database.lower().0.cast_signed());
        database.root()
    })
}
