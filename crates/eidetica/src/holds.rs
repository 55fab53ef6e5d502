//! What an instance holds of its databases: all stores, or some.

use eidetica_database::Holds;

use crate::{AsDatabaseId, Database, Instance, Result, sync::Sync};

impl Instance {
    /// What this instance holds of a database, which may not be here yet.
    ///
    /// # Errors
    /// What the backend gives.
    pub fn holds(&self, database: impl AsDatabaseId) -> Result<Holds> {
        Ok(self.databases().holds(&database.as_database_id()?)?)
    }

    /// Decides what this instance holds of a database; see [`eidetica_database::Databases::hold`]. Before the database is
    /// here it decides what comes: a device that is to hold little never fetches the rest.
    ///
    /// # Errors
    /// Too many stores, what the backend gives.
    pub fn hold(&self, database: impl AsDatabaseId, holds: &Holds) -> Result<()> {
        let id = database.as_database_id()?;
        self.databases().hold(&id, holds)?;
        // Peers that are connected send what is held from now on, and what is missing is asked for now.
        if let Ok(sync) = self.sync() {
            sync.node().announce(id, false);
        }
        Ok(())
    }
}

impl Database {
    /// Decides what the instance holds of this database: [`Instance::hold`].
    ///
    /// # Errors
    /// As there.
    pub fn hold(&self, holds: &Holds) -> Result<()> {
        self.instance().hold(self.root_id(), holds)
    }
}

impl Sync {
    /// Asks the peers that are known, one after the other, for payloads of the database that are missing here, until
    /// none are; how many are then. Every sync with a peer does this too: this is for who does not want to wait.
    ///
    /// # Errors
    /// [`Error::NoDatabase`](crate::Error::NoDatabase), what the backend gives. A peer that is not reached is none.
    pub async fn fetch_missing(&self, database: impl AsDatabaseId) -> Result<u64> {
        let id = database.as_database_id()?;
        let here = self.instance()?.open_inner(&id)?;
        for peer in self.list_peers()? {
            if !here.lacks()? {
                break;
            }
            // Whoever is away may come back; the others are asked meanwhile.
            let _ = self.sync_tree_with_peer(peer.pubkey, id).await;
        }
        let missing = here.missing()?.into_iter().filter(|store| store.held);
        Ok(missing.map(|store| store.missing - store.given_up).sum())
    }
}
