//! Where an instance keeps its data.

use std::sync::Arc;

pub use eidetica_storage::Engine as Backend;

use crate::{Error, Result};

/// The backends that come with this crate.
pub mod database {
    #[cfg(feature = "fjall")]
    pub use eidetica_storage_fjall::FjallEngine as Fjall;
    #[cfg(feature = "postgres")]
    pub use eidetica_storage_postgres::PostgresEngine as Postgres;
    #[cfg(feature = "redb")]
    pub use eidetica_storage_redb::RedbEngine as Redb;
    #[cfg(feature = "sqlite")]
    pub use eidetica_storage_sqlite::SqliteEngine as Sqlite;

    pub use eidetica_storage::MemoryEngine as InMemory;
}

/// Opens the backend that `location` names: `memory:`, `file:PATH` (the default engine for files),
/// `fjall:PATH`, `redb:PATH`, `sqlite:PATH` or `postgres://…`.
pub(crate) fn open(location: &str) -> Result<Arc<dyn Backend>> {
    match location.split_once(':') {
        Some(("memory", "")) => Ok(Arc::new(database::InMemory::new())),
        #[cfg(feature = "fjall")]
        Some(("file" | "fjall", path)) => Ok(Arc::new(database::Fjall::open(path)?)),
        #[cfg(feature = "redb")]
        Some(("redb", path)) => Ok(Arc::new(database::Redb::open(path)?)),
        #[cfg(feature = "sqlite")]
        Some(("sqlite", path)) => Ok(Arc::new(database::Sqlite::open(path)?)),
        #[cfg(feature = "postgres")]
        Some(("postgres" | "postgresql", _)) => Ok(Arc::new(database::Postgres::open(location)?)),
        #[cfg(all(feature = "redb", not(feature = "fjall")))]
        Some(("file", path)) => Ok(Arc::new(database::Redb::open(path)?)),
        _ => Err(Error::Location(location.into())),
    }
}
