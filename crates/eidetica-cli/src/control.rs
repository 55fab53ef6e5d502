//! How a command reaches the process that has the data directory open: a socket in the directory, which nobody but its
//! owner can enter. It does one thing: write a backup to whoever asks.
//!
//! A question is one line. The answer is the backup itself, which says by its own end whether it is whole.

#[cfg(unix)]
pub(crate) use unix::{Control, ask};

#[cfg(not(unix))]
pub(crate) use nowhere::{Control, ask};

#[cfg(unix)]
mod unix {
    use std::io::{BufRead as _, BufReader, BufWriter, Read as _, Write as _};
    use std::os::unix::net::{UnixListener, UnixStream};
    use std::path::PathBuf;
    use std::sync::Arc;
    use std::sync::atomic::{AtomicBool, Ordering};
    use std::thread::JoinHandle;

    use eidetica::Instance;

    use crate::error::{Error, Result};
    use crate::limits;
    use crate::place::Place;

    const NAME: &str = "control";
    const BACKUP: &str = "backup 1\n";

    /// The socket of a running process. Gone when dropped.
    pub(crate) struct Control {
        path: PathBuf,
        over: Arc<AtomicBool>,
        thread: Option<JoinHandle<()>>,
    }

    impl Control {
        /// Answers at the data directory of an instance, which this process has open; `None` where there is no
        /// directory.
        pub(crate) fn listen(place: &Place, instance: &Instance) -> Result<Option<Self>> {
            let Some(dir) = place.path() else {
                return Ok(None);
            };
            let path = dir.join(NAME);
            // Left by a process that was killed: the directory is ours, so nobody listens there.
            let _ = std::fs::remove_file(&path);
            let attempted = |error: std::io::Error| {
                Error::from(error).context(format!("cannot listen at {}", path.display()))
            };
            let listener = UnixListener::bind(&path).map_err(attempted)?;
            let over = Arc::new(AtomicBool::new(false));
            let (instance, ended) = (instance.clone(), Arc::clone(&over));
            let thread = std::thread::Builder::new()
                .name("control".to_owned())
                .spawn(move || answer_all(&listener, &instance, &ended))?;
            Ok(Some(Self {
                path,
                over,
                thread: Some(thread),
            }))
        }
    }

    impl Drop for Control {
        fn drop(&mut self) {
            self.over.store(true, Ordering::SeqCst);
            // Wakes the thread.
            let woken = UnixStream::connect(&self.path).is_ok();
            let _ = std::fs::remove_file(&self.path);
            if let Some(thread) = self.thread.take().filter(|_| woken) {
                let _ = thread.join();
            }
        }
    }

    /// One after the other: a backup is a walk through everything.
    fn answer_all(listener: &UnixListener, instance: &Instance, over: &AtomicBool) {
        for stream in listener.incoming() {
            if over.load(Ordering::SeqCst) {
                return;
            }
            let answered = stream
                .map_err(Error::from)
                .and_then(|stream| answer(&stream, instance));
            if let Err(error) = answered {
                tracing::warn!(%error, "a backup was not finished");
            }
        }
    }

    fn answer(stream: &UnixStream, instance: &Instance) -> Result<()> {
        stream.set_read_timeout(Some(limits::CONTROL_PATIENCE))?;
        stream.set_write_timeout(Some(limits::CONTROL_PATIENCE))?;
        let mut question = String::new();
        let line = stream.take(limits::CONTROL_LINE);
        BufReader::new(line).read_line(&mut question)?;
        if question == BACKUP {
            instance.backup(BufWriter::new(stream))?;
        }
        Ok(())
    }

    /// Asks whoever has a place open for a backup; `None` where nobody listens.
    pub(crate) fn ask(place: &Place) -> Result<Option<UnixStream>> {
        let Some(path) = place.path().map(|dir| dir.join(NAME)) else {
            return Ok(None);
        };
        let Ok(mut stream) = UnixStream::connect(path) else {
            return Ok(None);
        };
        stream.set_read_timeout(Some(limits::CONTROL_PATIENCE))?;
        stream.write_all(BACKUP.as_bytes())?;
        Ok(Some(stream))
    }
}

#[cfg(not(unix))]
mod nowhere {
    use eidetica::Instance;

    use crate::error::Result;
    use crate::place::Place;

    /// Sockets of this kind are not to be had here.
    pub(crate) struct Control;

    impl Control {
        pub(crate) fn listen(_: &Place, _: &Instance) -> Result<Option<Self>> {
            Ok(None)
        }
    }

    pub(crate) fn ask(_: &Place) -> Result<Option<std::io::Empty>> {
        Ok(None)
    }
}
