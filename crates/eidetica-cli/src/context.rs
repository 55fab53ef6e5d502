//! What a command works on: the place of the data, the user who acts, the database that is named.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use eidetica::crdt::StoreKind;
use eidetica::{Database, Id, Instance, PublicKey, User};

use crate::cli::Global;
use crate::error::{Code, Error, Result};
use crate::limits;
use crate::output::Output;
use crate::password;
use crate::place::Place;

/// The data directory unless another one is named.
const DEFAULT_DIR: &str = ".eidetica";

/// The global options of one run.
pub(crate) struct Context {
    pub(crate) output: Output,
    place: Place,
    /// The data directory that was named, by an option or the environment.
    named_dir: Option<PathBuf>,
    user: Option<String>,
}

impl Context {
    pub(crate) fn new(global: Global) -> Self {
        let dir = || {
            global
                .data_dir
                .clone()
                .unwrap_or_else(|| DEFAULT_DIR.into())
        };
        let place = match &global.store {
            Some(url) => Place::store(url),
            None => Place::dir(dir()),
        };
        Self {
            output: Output::new(global.json, global.quiet),
            place: place.for_node(global.node),
            named_dir: global.data_dir,
            user: global.user,
        }
    }

    /// Where the data is.
    pub(crate) fn place(&self) -> &Place {
        &self.place
    }

    /// The data directory, if one was named.
    pub(crate) fn named_dir(&self) -> Option<&Path> {
        self.named_dir.as_deref()
    }

    /// The user named by `--user`.
    pub(crate) fn user_name(&self) -> Option<&str> {
        self.user.as_deref()
    }

    /// Opens the instance, which must have been made by `init`.
    pub(crate) fn open(&self) -> Result<Instance> {
        self.place.open()
    }

    /// Opens the instance and logs the acting user in.
    pub(crate) fn login(&self) -> Result<User> {
        let instance = self.open()?;
        let name = match &self.user {
            Some(name) => name.clone(),
            None => only_user(&instance)?,
        };
        login(&instance, &name)
    }

    /// Logs in and opens the database that `text` names.
    pub(crate) fn database(&self, text: &str) -> Result<(User, Database)> {
        self.database_by(text, None)
    }

    /// The same with a key of the user's choice to sign with, such as the recovery key, which is never taken unasked.
    pub(crate) fn database_by(&self, text: &str, key: Option<&str>) -> Result<(User, Database)> {
        let user = self.login()?;
        let database = find_database_by(&user, text, key)?;
        Ok((user, database))
    }
}

/// Synchronization, enabled for a user's instance.
pub(crate) struct Network {
    sync: Arc<eidetica::sync::Sync>,
}

impl Network {
    /// Enables synchronization over HTTP.
    pub(crate) fn enable(user: &User) -> Result<Self> {
        let network = Self::start(user)?;
        network.enable_http()?;
        Ok(network)
    }

    /// Enables synchronization, over nothing yet, in the name of a user.
    pub(crate) fn start(user: &User) -> Result<Self> {
        let sync = user.instance().enable_sync()?.sync()?;
        // Most commands do one thing and end.
        sync.set_background(false)?;
        Ok(Self { sync })
    }

    /// Over HTTP.
    pub(crate) fn enable_http(&self) -> Result<()> {
        Ok(self.sync.enable_http_transport()?)
    }

    /// From peer to peer.
    pub(crate) fn enable_iroh(&self, config: eidetica::sync::IrohConfig) -> Result<()> {
        Ok(self.sync.enable_iroh_transport_with(config)?)
    }

    pub(crate) fn sync(&self) -> &eidetica::sync::Sync {
        &self.sync
    }

    /// Starts answering peers; returns the address to dial.
    pub(crate) fn listen(&self, address: &str) -> Result<String> {
        self.listen_as(address, false)
    }

    /// The same, as the service that all processes of the instance are together or as this process.
    pub(crate) fn listen_as(&self, address: &str, as_service: bool) -> Result<String> {
        let attempted = |error: eidetica::Error| {
            let error = Error::from(error).context(format!("cannot listen on {address}"));
            if error.has_hint() {
                error
            } else {
                error.hint("--listen 127.0.0.1:0 takes any free port")
            }
        };
        let started = match as_service {
            true => self.sync.start_service(address),
            false => self.sync.start_server(address),
        };
        started.map_err(attempted)?;
        Ok(self.sync.get_server_address()?.to_string())
    }

    /// Stops answering, if it does.
    pub(crate) fn stop(&self) -> Result<()> {
        if self.sync.is_server_running() {
            self.sync.stop_server()?;
        }
        Ok(())
    }
}

/// Waits for a future that another thread completes.
pub(crate) fn block_on<T>(future: impl Future<Output = T>) -> T {
    futures::executor::block_on(future)
}

/// Waits until the process is interrupted (Ctrl-C) or asked to end.
pub(crate) fn wait_for_interruption() -> std::io::Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_io()
        .build()?;
    runtime.block_on(async {
        #[cfg(unix)]
        {
            use tokio::signal::unix::{SignalKind, signal};
            let mut terminate = signal(SignalKind::terminate())?;
            tokio::select! {
                result = tokio::signal::ctrl_c() => result,
                _ = terminate.recv() => Ok(()),
            }
        }
        #[cfg(not(unix))]
        tokio::signal::ctrl_c().await
    })
}

/// Logs a user in: with the password of the environment, else without one, else asking for it.
pub(crate) fn login(instance: &Instance, name: &str) -> Result<User> {
    let first = password::from_environment();
    match instance.login_user(name, first.as_deref()) {
        Err(eidetica::Error::Login) if first.is_none() => {
            let asked = password::ask(name)?.ok_or(eidetica::Error::Login)?;
            Ok(instance.login_user(name, Some(&asked))?)
        }
        other => Ok(other?),
    }
}

fn only_user(instance: &Instance) -> Result<String> {
    let mut users = instance.list_users()?;
    match (users.pop(), users.pop()) {
        (Some(only), None) => Ok(only),
        (None, _) => Err(Error::new(Code::NotFound, "there are no users")
            .hint("`eidetica user create NAME` makes one")),
        (Some(a), Some(b)) => Err(Error::new(
            Code::Failed,
            format!("there are several users, such as {b} and {a}"),
        )
        .hint("name one with --user")),
    }
}

/// The database that a text names: an id, the beginning of one, or a name that one database has.
pub(crate) fn find_database(user: &User, text: &str) -> Result<Database> {
    find_database_by(user, text, None)
}

fn find_database_by(user: &User, text: &str, key: Option<&str>) -> Result<Database> {
    let open = |id| match key {
        None => user.open_database(id),
        Some(key) => {
            let database = user.open_database_with_key(id, key)?;
            let access = database.access_of(&database.default_auth_key().public_key())?;
            access
                .map(|_| database)
                .ok_or(eidetica::Error::NoAccess(id))
        }
    };
    if let Ok(id) = text.parse::<Id>() {
        return Ok(open(id)?);
    }
    let mut found = Vec::new();
    for id in user.instance().list_databases()? {
        let by_id = text.len() >= limits::SHORTEST_ID && id.to_string().starts_with(text);
        match open(id) {
            // There is no such key, whatever the database.
            Err(error @ (eidetica::Error::NoSuchKey(_) | eidetica::Error::AmbiguousKey { .. })) => {
                return Err(error.into());
            }
            Ok(database) if by_id || name_of(&database)? == text => found.push(database),
            Err(error) if by_id => return Err(error.into()),
            _ => {}
        }
    }
    match (found.pop(), found.pop()) {
        (Some(only), None) => Ok(only),
        (None, _) => Err(Error::new(Code::NotFound, format!("no database is called {text}"))
            .hint("`eidetica db list` shows what is here; `eidetica sync ADDRESS ID` fetches one from a peer")),
        (Some(a), Some(b)) => {
            let message = format!("{text} could be {} or {}", a.root_id(), b.root_id());
            Err(Error::new(Code::Failed, message).hint("use the id, or enough of its beginning"))
        }
    }
}

/// The name that the database gives a key; the beginning of the key where it has none.
pub(crate) fn author_name(database: &Database, key: &PublicKey) -> Result<String> {
    let keys = database.settings()?.keys();
    let name = keys
        .iter()
        .find(|(found, _, _)| found == key)
        .map(|(_, _, name)| name.to_string());
    Ok(name
        .filter(|name| !name.is_empty())
        .unwrap_or_else(|| key.to_string().chars().take(16).collect()))
}

/// A database's name; empty where it has none.
pub(crate) fn name_of(database: &Database) -> Result<String> {
    Ok(database.name()?.unwrap_or_default())
}

/// What a store holds.
pub(crate) fn kind_of(database: &Database, store: &str) -> Result<StoreKind> {
    let stores = database.stores()?;
    let found = stores.iter().find(|(name, _)| name.as_str() == store);
    found.map(|(_, kind)| *kind).ok_or_else(|| {
        let names: Vec<String> = stores.iter().map(|(name, _)| name.to_string()).collect();
        Error::new(Code::NotFound, format!("the database has no store {store}"))
            .hint(format!("there are: {}", names.join(", ")))
    })
}

/// Bytes of all files in a directory.
pub(crate) fn disk_size(dir: &Path) -> Result<u64> {
    let mut size = 0;
    let mut open = vec![dir.to_path_buf()];
    while let Some(dir) = open.pop() {
        for item in std::fs::read_dir(dir)? {
            let item = item?;
            let meta = item.metadata()?;
            if meta.is_dir() {
                open.push(item.path());
            } else {
                size += meta.len();
            }
        }
    }
    Ok(size)
}
