//! The library's log, for `-v`: into a file, since the screen is taken.

use std::fs::File;
use std::path::PathBuf;

use tracing::Level;

use crate::error::{Error, Result};

/// Starts the log; the file that it goes to.
pub(crate) fn start(verbose: u8) -> Result<Option<PathBuf>> {
    let level = match verbose {
        0 => return Ok(None),
        1 => Level::INFO,
        2 => Level::DEBUG,
        _ => Level::TRACE,
    };
    let path = std::env::temp_dir().join(format!("eidetica-chat-{}.log", std::process::id()));
    let file = File::create_new(&path)
        .map_err(|error| Error::from(error).context(format!("cannot log to {}", path.display())))?;
    tracing_subscriber::fmt()
        .with_max_level(level)
        .with_ansi(false)
        .with_writer(file)
        .init();
    Ok(Some(path))
}
