//! Claiming a data directory, and creating an engine in it so that an interruption leaves no half.

use std::fs::{self, File, TryLockError};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use eidetica_storage::EngineError;

use crate::label::{Label, State};
use crate::modes;

const LABEL: &str = "eidetica";
const DATA: &str = "data";
const DATA_NEW: &str = "data.new";

/// A data directory that this process holds. Dropping it narrows the modes of all files and lets go.
#[derive(Debug)]
pub struct DataDir {
    path: PathBuf,
    /// Holds the lock as long as it is open.
    label: File,
    engine: &'static str,
    format: u32,
    /// What the label says.
    found: u32,
    state: State,
}

/// The name of the engine that a directory belongs to, by its label; `None` where there is none. Takes no lock.
///
/// # Errors
/// [`EngineError::Corrupt`] if the label is damaged; [`EngineError::Io`].
pub fn engine_of(path: &Path) -> Result<Option<String>, EngineError> {
    match File::open(path.join(LABEL)) {
        Ok(label) => Ok(Label::read(&label)?.map(|label| label.engine)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) if error.kind() == io::ErrorKind::NotADirectory => Ok(None),
        Err(error) => Err(opening(error)),
    }
}

impl DataDir {
    /// Takes a directory for an engine, creating it if there is none.
    ///
    /// # Errors
    /// [`EngineError::Foreign`] if there is something else, which is not touched;
    /// [`EngineError::NewerFormat`]; [`EngineError::Locked`] if somebody holds it;
    /// [`EngineError::Corrupt`] if the label is damaged; [`EngineError::Io`].
    pub fn claim(path: &Path, engine: &'static str, format: u32) -> Result<Self, EngineError> {
        prepare(path)?;
        let label = modes::open_private(&path.join(LABEL)).map_err(opening)?;
        match label.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => {
                return Err(EngineError::Locked {
                    location: location(path),
                });
            }
            Err(TryLockError::Error(error)) => return Err(EngineError::io("locking", error)),
        }
        let (state, found) = check_label(&label, path, engine, format)?;
        modes::narrow(path).map_err(|error| EngineError::io("setting file modes", error))?;
        Ok(Self {
            path: path.to_path_buf(),
            label,
            engine,
            format,
            found,
            state,
        })
    }

    /// Brings the data from the format `from` to the next, if that is what they are in: `step` gets the path inside. Called
    /// for one format after the other, before [`open`](Self::open).
    ///
    /// The label changes when the step is done, so that a crash in between does it again: a step has to bear that.
    ///
    /// # Errors
    /// Those of `step`; [`EngineError::Io`].
    pub fn upgrade(
        &mut self,
        from: u32,
        step: impl FnOnce(&Path) -> Result<(), EngineError>,
    ) -> Result<(), EngineError> {
        if self.found != from || self.found >= self.format {
            return Ok(());
        }
        step(&self.data())?;
        self.found += 1;
        self.write_label(self.state)
    }

    /// Opens the engine on its path inside. If there is none yet, `open` is called before on another
    /// path, where it creates the engine, and the result is dropped.
    ///
    /// # Errors
    /// Those of `open`; [`EngineError::OlderFormat`] if no [`upgrade`](Self::upgrade) led on;
    /// [`EngineError::Corrupt`] if the data is gone; [`EngineError::Io`].
    pub fn open<T>(
        &mut self,
        open: impl Fn(&Path) -> Result<T, EngineError>,
    ) -> Result<T, EngineError> {
        if self.found < self.format {
            return Err(EngineError::OlderFormat {
                found: self.found,
                supported: self.format,
            });
        }
        let data = self.data();
        let exists = data.try_exists().map_err(opening)?;
        match (self.state, exists) {
            (State::Ready, false) => {
                let detail = format!("there is no data in {}", self.path.display());
                return Err(EngineError::corrupt(detail));
            }
            (State::New, false) => self.create(&data, &open)?,
            _ => {}
        }
        if self.state == State::New {
            self.write_label(State::Ready)?;
        }
        let engine = open(&data)?;
        modes::narrow(&self.path).map_err(|error| EngineError::io("setting file modes", error))?;
        Ok(engine)
    }

    /// Where the engine's own file or directory is.
    #[must_use]
    pub fn data(&self) -> PathBuf {
        self.path.join(DATA)
    }

    /// Bytes of all files inside. Costs a walk through the directory.
    #[must_use]
    pub fn disk_bytes(&self) -> u64 {
        modes::disk_bytes(&self.data())
    }

    fn create<T>(
        &self,
        data: &Path,
        open: impl Fn(&Path) -> Result<T, EngineError>,
    ) -> Result<(), EngineError> {
        let creating = |error| EngineError::io("creating", error);
        let fresh = self.path.join(DATA_NEW);
        // Left by an interrupted creation: nothing in it was ever acknowledged.
        remove(&fresh).map_err(creating)?;
        drop(open(&fresh)?);
        fs::rename(&fresh, data).map_err(creating)?;
        modes::sync_dir(&self.path).map_err(creating)
    }

    fn write_label(&mut self, state: State) -> Result<(), EngineError> {
        let label = Label {
            engine: self.engine.to_owned(),
            format: self.found,
            state,
        };
        label.write(&self.label)?;
        self.state = state;
        Ok(())
    }
}

impl Drop for DataDir {
    fn drop(&mut self) {
        // Best effort: the directory itself is closed to others anyway.
        modes::narrow(&self.path).ok();
    }
}

/// Makes sure that there is a directory which is empty or ours.
fn prepare(path: &Path) -> Result<(), EngineError> {
    match fs::metadata(path) {
        Ok(meta) if !meta.is_dir() => return Err(foreign(path, "it is not a directory")),
        Ok(_) => {}
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            match modes::create_private_dir(path) {
                Ok(()) => return Ok(()),
                // Somebody was faster.
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
                Err(error) => return Err(EngineError::io("creating the directory", error)),
            }
        }
        Err(error) => return Err(opening(error)),
    }
    let labelled = path.join(LABEL).try_exists().map_err(opening)?;
    if !labelled && fs::read_dir(path).map_err(opening)?.next().is_some() {
        return Err(foreign(path, "it has files but no label of ours"));
    }
    Ok(())
}

/// Reads the label, or writes the first one: the state of the data and their format.
fn check_label(
    file: &File,
    path: &Path,
    engine: &'static str,
    format: u32,
) -> Result<(State, u32), EngineError> {
    let Some(label) = Label::read(file)? else {
        if path.join(DATA).try_exists().map_err(opening)? {
            return Err(EngineError::corrupt(
                "the label of the data directory is empty",
            ));
        }
        let label = Label {
            engine: engine.to_owned(),
            format,
            state: State::New,
        };
        label.write(file)?;
        modes::sync_dir(path).map_err(opening)?;
        return Ok((State::New, format));
    };
    if label.engine != engine {
        return Err(foreign(
            path,
            &format!("it is the directory of a {} engine", label.engine),
        ));
    }
    if label.format > format {
        return Err(EngineError::NewerFormat {
            found: label.format,
            supported: format,
        });
    }
    // An interrupted creation begins again, in the present format.
    let is_fresh = label.state == State::New && !path.join(DATA).try_exists().map_err(opening)?;
    Ok((label.state, if is_fresh { format } else { label.format }))
}

fn remove(path: &Path) -> io::Result<()> {
    match fs::symlink_metadata(path) {
        Ok(meta) if meta.is_dir() => fs::remove_dir_all(path),
        Ok(_) => fs::remove_file(path),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        Err(error) => Err(error),
    }
}

fn opening(error: io::Error) -> EngineError {
    EngineError::io("opening", error)
}

fn location(path: &Path) -> Arc<str> {
    path.display().to_string().into()
}

fn foreign(path: &Path, detail: &str) -> EngineError {
    EngineError::Foreign {
        location: location(path),
        detail: detail.into(),
    }
}
