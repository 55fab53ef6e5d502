//! Where the data of a child is: a directory of an engine, or a schema of a server.

use std::fmt;
use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::sync::Arc;

use anyhow::Context as _;
use eidetica_storage::{Engine, EngineError};
use eidetica_storage_fjall::FjallEngine;
use eidetica_storage_postgres::PostgresEngine;
use eidetica_storage_redb::RedbEngine;
use eidetica_storage_sqlite::SqliteEngine;
use eidetica_testkit::EngineKind;

/// An engine and its place. Text form: `fjall:DIR`, `redb:DIR`, `sqlite:DIR`, `postgres://…`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Site {
    /// A directory; it need not exist.
    Dir(EngineKind, PathBuf),
    /// The URL of a schema.
    Server(String),
}

impl Site {
    /// The data of an engine in a directory.
    ///
    /// # Panics
    /// An engine without a directory.
    #[must_use]
    pub fn dir(kind: EngineKind, dir: &Path) -> Self {
        assert!(
            FILE_ENGINES.contains(&kind),
            "{kind:?} keeps no files of its own"
        );
        Self::Dir(kind, dir.to_path_buf())
    }

    /// Opens the engine, creating it if there is none.
    ///
    /// # Errors
    /// The engine's.
    pub fn open(&self) -> Result<Arc<dyn Engine>, EngineError> {
        Ok(match self {
            Self::Dir(EngineKind::Fjall, dir) => Arc::new(FjallEngine::open(dir)?),
            Self::Dir(EngineKind::Redb, dir) => Arc::new(RedbEngine::open(dir)?),
            Self::Dir(_, dir) => Arc::new(SqliteEngine::open(dir)?),
            Self::Server(url) => Arc::new(PostgresEngine::open(url)?),
        })
    }
}

/// The engines that keep files.
pub const FILE_ENGINES: [EngineKind; 3] = [EngineKind::Fjall, EngineKind::Redb, EngineKind::Sqlite];

/// The name of an engine, as in the text of a [`Site`].
#[must_use]
pub fn name(kind: EngineKind) -> String {
    format!("{kind:?}").to_lowercase()
}

/// The engine with this name.
///
/// # Errors
/// There is none.
pub fn named(text: &str) -> Result<EngineKind, String> {
    let mut kinds = EngineKind::ALL.into_iter();
    let found = kinds.find(|kind| *kind != EngineKind::Memory && name(*kind) == text);
    found.ok_or_else(|| format!("no engine {text:?} survives a crash"))
}

impl fmt::Display for Site {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Dir(kind, dir) => write!(f, "{}:{}", name(*kind), dir.display()),
            Self::Server(url) => f.write_str(url),
        }
    }
}

impl FromStr for Site {
    type Err = anyhow::Error;

    fn from_str(text: &str) -> anyhow::Result<Self> {
        if text.starts_with("postgres:") {
            return Ok(Self::Server(text.to_owned()));
        }
        let (engine, dir) = text.split_once(':').context("a site is ENGINE:DIR")?;
        let kind = named(engine).map_err(anyhow::Error::msg)?;
        Ok(Self::Dir(kind, PathBuf::from(dir)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_site_is_read_as_written() {
        for text in [
            "fjall:/a b/c",
            "redb:x",
            "sqlite:y:z",
            "postgres://u@h/d?schema=s",
        ] {
            assert_eq!(text.parse::<Site>().unwrap().to_string(), text);
        }
        assert!("memory:x".parse::<Site>().is_err());
    }
}
