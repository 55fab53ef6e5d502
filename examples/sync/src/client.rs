//! The program `client`.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Instant;

use anyhow::Context as _;
use eidetica_authdb::{Disk, Operation, Options, Replica};
use eidetica_statesync::{Config, DatabaseName, Target};
use eidetica_statesync_net::{Driver, DriverError, Endpoint, Identity, Outcome, signed_by};
use eidetica_transport::Transport;
use eidetica_transport_http::HttpTransport;
use indicatif::ProgressBar;
use tokio::runtime::Handle;
use tokio::task::spawn_blocking;
use tokio_util::sync::CancellationToken;
use tracing::info;

use crate::metrics::{self, ClientMetrics};
use crate::options::{ClientOptions, Key, ServerAddress};
use crate::storage::{self, Memory};
use crate::watching::{Names, Watching};
use crate::{keys, output, signals};

/// Syncs again and again until it is told to stop.
///
/// # Errors
/// Whatever keeps it from syncing at all, as a message for people. That servers are away or wrong does not.
pub async fn run(options: ClientOptions, bar: ProgressBar) -> anyhow::Result<()> {
    let stop = signals::stop_signal().context("cannot wait for signals")?;
    let (metrics, registry) = ClientMetrics::new();
    let identity = keys::identity(&options.peers)?;
    let metrics_port = metrics::serve(options.metrics_port, registry).await?;
    if identity.is_none() {
        tracing::warn!(
            "servers are not authenticated: fine on one machine, see --identity for anything else"
        );
    }
    let stopped = CancellationToken::new();
    let told = stopped.clone();
    tokio::spawn(async move {
        let signal = stop.await;
        info!(%signal, "stopping");
        told.cancel();
    });
    let client = Client::new(options, identity, metrics, bar)?;
    info!(storage_dir = %client.directory.display(), metrics = %metrics::url(metrics_port), "where to look");
    info!("starting continuous sync process");
    client.sync_until(&stopped).await
}

struct Client {
    options: ClientOptions,
    config: Config,
    endpoints: Vec<Endpoint>,
    directory: PathBuf,
    metrics: ClientMetrics,
    bar: ProgressBar,
}

impl Client {
    fn new(
        options: ClientOptions,
        identity: Option<Identity>,
        metrics: ClientMetrics,
        bar: ProgressBar,
    ) -> anyhow::Result<Self> {
        Ok(Self {
            config: config(&options)?,
            endpoints: endpoints(&options.server, identity.as_ref())?,
            directory: storage::directory(options.storage_dir.as_ref(), "client"),
            options,
            metrics,
            bar,
        })
    }

    async fn sync_until(&self, stopped: &CancellationToken) -> anyhow::Result<()> {
        let interval = self.options.sync_interval;
        // It is held all the time, so that nobody else takes it between two syncs.
        let disk = storage::disk(&self.directory)?;
        for iteration in 1.. {
            match self.sync(iteration, &disk, stopped).await? {
                Ended::Stopped => break,
                Ended::Complete(target) => info!(
                    sync_iteration = iteration,
                    database_ops = target.leaves().0,
                    root = %target.root(),
                    sync_interval = %interval,
                    "✅ sync completed successfully"
                ),
                Ended::Failed(error) => tracing::error!(
                    sync_iteration = iteration,
                    %error,
                    sync_interval = %interval,
                    "sync failed"
                ),
            }
            tokio::select! {
                () = stopped.cancelled() => break,
                () = tokio::time::sleep(interval.0) => {}
            }
        }
        info!("stopped");
        Ok(())
    }

    /// One sync: opens the copy, connects, follows the target until it is reached.
    async fn sync(
        &self,
        iteration: u64,
        disk: &Arc<dyn Disk>,
        stopped: &CancellationToken,
    ) -> anyhow::Result<Ended> {
        self.metrics.iteration.set(iteration.cast_signed());
        let begun = Instant::now();
        let memory = Memory::of(&self.directory);
        let (driver, stopper) = self.open(Arc::clone(disk), &memory)?;
        let mut watching = Watching::new(
            iteration,
            self.names(),
            self.metrics.clone(),
            self.bar.clone(),
            memory,
        );
        let mut running =
            spawn_blocking(move || driver.run(&mut watching).map(|(outcome, _)| outcome));
        let ended = tokio::select! {
            ended = &mut running => ended?,
            () = stopped.cancelled() => {
                stopper.stop();
                running.await?
            }
        };
        output::hide(&self.bar);
        match ended {
            Ok(Outcome::Stopped) => Ok(Ended::Stopped),
            Ok(Outcome::Complete(target)) => {
                self.metrics.iterations_completed.inc();
                self.metrics
                    .iteration_duration
                    .observe(begun.elapsed().as_secs_f64());
                Ok(Ended::Complete(target))
            }
            Err(error @ DriverError::NoSources) => Ok(Ended::Failed(error)),
            Err(error) => Err(anyhow::Error::from(error).context("cannot sync")),
        }
    }

    fn open(
        &self,
        disk: Arc<dyn Disk>,
        memory: &Memory,
    ) -> anyhow::Result<(Driver, eidetica_statesync_net::Stopper)> {
        let shown = self.directory.display();
        let options = Options::new(rand::random());
        let replica = Replica::open(disk, self.options.db.kind(), options)
            .with_context(|| format!("cannot open the copy in {shown}"))?;
        let pin = memory
            .pin()
            .with_context(|| format!("cannot read the pin in {shown}"))?;
        let endpoints = self.endpoints.clone();
        Ok(Driver::new(
            self.config.clone(),
            replica,
            pin,
            endpoints,
            &Handle::current(),
        )?)
    }

    fn names(&self) -> Names {
        Names {
            servers: self.endpoints.iter().map(ToString::to_string).collect(),
            batch_size: self.options.batch_size,
            target_update_interval: self.options.target_update_interval,
        }
    }
}

/// How an iteration ended.
enum Ended {
    Stopped,
    Complete(Target),
    Failed(DriverError),
}

fn config(options: &ClientOptions) -> anyhow::Result<Config> {
    let name = DatabaseName::new(options.db.name())?;
    let mut config = Config::new(name, Operation::length);
    config.batch = options.batch_size as usize;
    config.outstanding = options.max_outstanding_requests as usize;
    config.target_interval_ms = u64::try_from(options.target_update_interval.0.as_millis())?;
    config.cross_gaps = options.start_over;
    if let Some(Key(signer)) = options.trusted_signer {
        config.trust = signed_by(signer);
    }
    Ok(config)
}

/// Plain servers are dialled over HTTP too when this side proves who it is.
fn endpoints(
    servers: &[ServerAddress],
    identity: Option<&Identity>,
) -> anyhow::Result<Vec<Endpoint>> {
    let http: Arc<dyn Transport> = Arc::new(HttpTransport::new()?);
    let endpoint = |server: &ServerAddress| match server {
        ServerAddress::Plain { .. } if identity.is_none() => Ok(Endpoint::Tcp {
            address: server.to_string(),
        }),
        server => Ok(Endpoint::Channel {
            transport: Arc::clone(&http),
            address: server.over_http()?,
            identity: identity.cloned(),
        }),
    };
    servers.iter().map(endpoint).collect()
}
