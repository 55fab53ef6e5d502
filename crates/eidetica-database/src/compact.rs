//! Compacting: what nobody can ask for any more goes, and the engine gives the space back.
//!
//! Of a database nothing goes. Every entry is somebody's history, and a version that is not shown now may be asked for
//! as of a frontier, or be shown again when the write above it turns void; which frontier everybody agrees on is
//! nowhere written down.

use crate::error::{Error, Result};
use crate::{Databases, Forgotten};

/// What compacting took away.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Compacted {
    /// Rows of databases that were forgotten.
    pub rows: u64,
    /// Bytes of their keys and values.
    pub bytes: u64,
    /// Closures that no settings name.
    pub closures: u64,
    /// Bytes on disk before, where the engine can say.
    pub disk_before: Option<u64>,
    /// Bytes on disk afterwards.
    pub disk_after: Option<u64>,
}

impl Databases {
    /// Takes away what is left of forgotten databases and of imports that did not end, and closures that no settings
    /// name; then lets the engine give space back. A damaged database is left as it is, and so are imports on an engine
    /// that other processes may use: see [`tend_imports`](Self::tend_imports). Costs what that costs the engine, at most
    /// reading and writing everything.
    ///
    /// # Errors
    /// The engine's, damaged rows of the directory.
    pub fn compact(&self) -> Result<Compacted> {
        let engine = &self.shared().rows;
        let disk_before = engine.info().disk_bytes;
        let Forgotten { rows, bytes, .. } = self.sweep(u64::MAX)?;
        for id in self.list()? {
            // Loading it takes away what imports have left, unless other processes may be making them.
            match self.find(&id) {
                Ok(_) | Err(Error::Corrupt(_) | Error::NoEntry(_) | Error::Repairing(_)) => {}
                Err(error) => return Err(error),
            }
        }
        let closures = self.drop_unnamed_closures()?;
        engine.compact()?;
        Ok(Compacted {
            rows,
            bytes,
            closures,
            disk_before,
            disk_after: engine.info().disk_bytes,
        })
    }
}
