//! A file that is there as a whole or not at all, for its owner alone.

use std::fs::File;
use std::io::{self, BufWriter, Write};
use std::path::{Path, PathBuf};

use tempfile::NamedTempFile;

use crate::error::{Code, Error, Result};

/// A file that is being written under another name, beside its place. Dropped, it is gone.
pub(crate) struct NewFile {
    file: BufWriter<NamedTempFile>,
    path: PathBuf,
    replace: bool,
}

impl NewFile {
    /// Begins a file; with `replace` it may be there already.
    pub(crate) fn create(path: &Path, replace: bool) -> Result<Self> {
        let attempted = |error: io::Error| {
            Error::from(error).context(format!("cannot write {}", path.display()))
        };
        if !replace && path.try_exists().map_err(attempted)? {
            return Err(exists(path));
        }
        // Its mode is 0600 from its creation.
        let file = tempfile::Builder::new()
            .prefix(".eidetica-")
            .suffix(".part")
            .tempfile_in(dir_of(path))
            .map_err(attempted)?;
        Ok(Self {
            file: BufWriter::new(file),
            path: path.to_path_buf(),
            replace,
        })
    }

    /// Puts the file in its place, durably. One that has come there meanwhile is not overwritten unasked.
    pub(crate) fn finish(self) -> Result<()> {
        let path = self.path;
        let attempted = |error: io::Error| {
            Error::from(error).context(format!("cannot write {}", path.display()))
        };
        let file = self
            .file
            .into_inner()
            .map_err(|error| attempted(error.into_error()))?;
        file.as_file().sync_all().map_err(attempted)?;
        let put = match self.replace {
            true => file.persist(&path),
            false => file.persist_noclobber(&path),
        };
        put.map_err(|error| match error.error.kind() {
            io::ErrorKind::AlreadyExists => exists(&path),
            _ => attempted(error.error),
        })?;
        if cfg!(unix) {
            File::open(dir_of(&path))
                .and_then(|dir| dir.sync_all())
                .map_err(attempted)?;
        }
        Ok(())
    }
}

impl Write for NewFile {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.file.write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.file.flush()
    }
}

fn exists(path: &Path) -> Error {
    Error::new(Code::Failed, format!("{} is there already", path.display()))
        .hint("--replace overwrites it once the new one is complete")
}

fn dir_of(path: &Path) -> &Path {
    match path.parent() {
        Some(dir) if !dir.as_os_str().is_empty() => dir,
        _ => Path::new("."),
    }
}
