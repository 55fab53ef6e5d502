//! Emptying the journals of a closed fjall database.
//!
//! fjall 3 begins a new journal only after 64 MB and replays all of the old one, row by row, when it is
//! opened, although it skips what is in files already. Once every memory table has been written and
//! synced the journals say nothing new. They go oldest first, so that an interruption leaves the latest
//! ones, which it is sound to replay; the last one stays as an empty file, since fjall takes its
//! sequence number from the files only if there is a journal.

use std::fs::{self, File, OpenOptions};
use std::io;
use std::path::{Path, PathBuf};

use eidetica_storage::EngineError;

const EXTENSION: &str = "jnl";

/// Empties the journals in a directory. No database may be open there, and each row in them must be in
/// a file.
pub(crate) fn empty(dir: &Path) -> Result<(), EngineError> {
    remove_all(dir).map_err(|error| EngineError::io("emptying the journals", error))
}

fn remove_all(dir: &Path) -> io::Result<()> {
    let mut journals = list(dir)?;
    let Some((_, last)) = journals.pop() else {
        return Ok(());
    };
    for (_, journal) in journals {
        fs::remove_file(journal)?;
    }
    #[cfg(unix)]
    File::open(dir)?.sync_all()?;
    let last: File = OpenOptions::new().write(true).open(last)?;
    last.set_len(0)?;
    last.sync_all()
}

/// The journals in a directory with their numbers, oldest first.
pub(crate) fn list(dir: &Path) -> io::Result<Vec<(u64, PathBuf)>> {
    let mut journals = Vec::new();
    for entry in fs::read_dir(dir)? {
        journals.extend(numbered(entry?.path()));
    }
    journals.sort_unstable();
    Ok(journals)
}

/// A journal with its number.
fn numbered(path: PathBuf) -> Option<(u64, PathBuf)> {
    let number = path.file_stem()?.to_str()?.parse().ok()?;
    (path.extension()? == EXTENSION).then_some((number, path))
}
