//! One node of the demo: an instance in a directory of its own, a user without a password, a server on a free port.

use std::path::Path;

use eidetica::crdt::Doc;
use eidetica::sync::SyncReport;
use eidetica::{Database, Id, Instance, User};
use serde_json::Value;

use crate::context::{Network, block_on};
use crate::error::{Code, Error, Result};
use crate::place::Place;

pub(super) struct Node {
    pub(super) user: User,
    pub(super) network: Network,
}

impl Node {
    pub(super) fn on_disk(dir: &Path, name: &str) -> Result<Self> {
        Self::new(Place::dir(dir.into()).open_or_make()?, name)
    }

    pub(super) fn in_memory(name: &str) -> Result<Self> {
        let backend = eidetica::backend::database::InMemory::new();
        Self::new(Instance::open(Box::new(backend))?, name)
    }

    fn new(instance: Instance, name: &str) -> Result<Self> {
        instance.create_user(name, None)?;
        let user = instance.login_user(name, None)?;
        let network = Network::enable(&user)?;
        Ok(Self { user, network })
    }

    /// Starts the server and returns its address.
    pub(super) fn serve(&self) -> Result<String> {
        self.network.listen("127.0.0.1:0")
    }

    pub(super) fn open(&self, database: Id) -> Result<Database> {
        Ok(self.user.open_database(database)?)
    }

    pub(super) fn sync(&self, address: &str, database: Id) -> Result<SyncReport, eidetica::Error> {
        block_on(self.network.sync().sync_with_peer(address, Some(&database)))
    }

    /// Asks for the right to write.
    pub(super) fn ask(&self, address: &str, database: Id) -> Result<SyncReport, eidetica::Error> {
        let key = self.user.get_default_key()?;
        let permission = eidetica::auth::Permission::Write(10);
        block_on(
            self.network
                .sync()
                .sync_with_peer_for_bootstrap(address, &database, key, permission),
        )
    }

    /// Changes fields of a row in one entry.
    pub(super) fn set(&self, database: Id, table: &str, key: &str, fields: &Value) -> Result<()> {
        let fields =
            Doc::from_json(fields).map_err(|error| Error::new(Code::Failed, error.to_string()))?;
        let transaction = self.open(database)?.new_transaction()?;
        transaction.table::<Value>(table)?.set_fields(key, fields)?;
        transaction.commit()?;
        Ok(())
    }
}
