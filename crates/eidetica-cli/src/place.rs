//! Where the data is: a data directory, or a store that a URL names.

use std::path::{Path, PathBuf};

use eidetica::{Blame, Instance, backend};

use crate::error::{Code, Error, Result};

/// A place that holds an instance, or shall hold one.
#[derive(Clone)]
pub(crate) struct Place {
    location: String,
    dir: Option<PathBuf>,
    /// What it is called in messages.
    name: String,
    /// The name of this process, where several share the place.
    node: Option<String>,
}

impl Place {
    /// A data directory.
    pub(crate) fn dir(dir: PathBuf) -> Self {
        Self {
            location: format!("file:{}", dir.display()),
            name: format!("the data directory {}", dir.display()),
            dir: Some(dir),
            node: None,
        }
    }

    /// What a URL names: `sqlite:PATH`, `postgres://..`.
    pub(crate) fn store(url: &str) -> Self {
        let dir = match url.split_once(':') {
            Some(("file" | "fjall" | "redb" | "sqlite", path)) if !path.is_empty() => {
                Some(PathBuf::from(path))
            }
            _ => None,
        };
        Self {
            location: url.to_owned(),
            name: format!("the store {}", backend::shown(url)),
            dir,
            node: None,
        }
    }

    /// The same place, opened as one of several processes.
    pub(crate) fn for_node(self, node: Option<String>) -> Self {
        Self { node, ..self }
    }

    /// A URL, or a directory where there is no scheme.
    pub(crate) fn parse(text: &str) -> Self {
        match text.contains(':') {
            true => Self::store(text),
            false => Self::dir(text.into()),
        }
    }

    /// What [`Instance::connect`] takes.
    pub(crate) fn location(&self) -> &str {
        &self.location
    }

    /// Its directory, where it has one.
    pub(crate) fn path(&self) -> Option<&Path> {
        self.dir.as_deref()
    }

    /// The directory, or the URL without a password.
    pub(crate) fn shown(&self) -> String {
        match &self.dir {
            Some(dir) => dir.display().to_string(),
            None => backend::shown(&self.location),
        }
    }

    /// Whether something is in its directory. A server is asked when it is opened.
    pub(crate) fn is_used(&self) -> Option<bool> {
        let used =
            |dir: &PathBuf| std::fs::read_dir(dir).is_ok_and(|mut items| items.next().is_some());
        self.dir.as_ref().map(used)
    }

    /// Opens the instance, which must be there.
    pub(crate) fn open(&self) -> Result<Instance> {
        if self.is_used() == Some(false) {
            let message = format!("there is no data in {}", self.shown());
            return Err(Error::new(Code::NotFound, message)
                .hint("`eidetica init` makes a data directory; --data-dir or EIDETICA_DIR names another, --store a store"));
        }
        self.open_or_make()
    }

    /// Opens the instance, or makes one.
    pub(crate) fn open_or_make(&self) -> Result<Instance> {
        let opened = match &self.node {
            Some(node) => Instance::connect_as(&self.location, node),
            None => Instance::connect(&self.location),
        };
        opened.map_err(|error| self.not_opened(error))
    }

    /// Why the place does not open, and what to do about it.
    pub(crate) fn not_opened(&self, error: eidetica::Error) -> Error {
        let error = match error.blame() {
            _ if matches!(error, eidetica::Error::Location { .. }) => {
                return Error::new(Code::BadInput, error.to_string());
            }
            _ if error.is_unfinished_restore() => Error::new(Code::Corrupt, error.to_string()).hint(
                "restore the same backup there again and it goes on; --start-over takes away what is there first",
            ),
            // Nothing of the caller's is at fault but the place: it holds something else, or something newer.
            Blame::Caller => {
                Error::new(Code::Corrupt, error.to_string()).hint("nothing there was changed")
            }
            Blame::Unavailable if self.dir.is_some() => Error::from(error)
                .hint("one process at a time may have it open: is `eidetica serve` running there?"),
            Blame::Unavailable => {
                Error::from(error).hint("is the server running there, and are the user and the password right?")
            }
            _ => error.into(),
        };
        error.context(format!("cannot open {}", self.name))
    }
}
