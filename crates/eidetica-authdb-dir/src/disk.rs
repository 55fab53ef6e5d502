//! The disk trait on a directory of the operating system.

use std::fs::{self, File, OpenOptions};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use eidetica_authdb::{Disk, DiskFile};
use eidetica_storage::EngineError;
use eidetica_storage_dir::DataDir;

/// Names the owner of the directory in its label.
const NAME: &str = "authdb";
const FORMAT: u32 = 1;

/// A directory that this process holds. It is let go when the last database on it is dropped.
#[derive(Debug)]
pub struct DirDisk {
    data: PathBuf,
    dir: DataDir,
}

struct DirFile(File);

impl DirDisk {
    /// Takes a directory, creating it if there is none.
    ///
    /// # Errors
    /// [`EngineError::Locked`] if somebody has it; [`EngineError::Foreign`] if there is something else,
    /// which is not touched; [`EngineError::NewerFormat`], [`EngineError::Corrupt`], [`EngineError::Io`].
    pub fn open(dir: impl AsRef<Path>) -> Result<Self, EngineError> {
        let mut dir = DataDir::claim(dir.as_ref(), NAME, FORMAT)?;
        let data = dir.open(|path| {
            fs::create_dir_all(path).map_err(|error| EngineError::io("creating", error))?;
            Ok(path.to_path_buf())
        })?;
        Ok(Self { data, dir })
    }

    /// Bytes of all files. Costs a walk through the directory.
    #[must_use]
    pub fn disk_bytes(&self) -> u64 {
        self.dir.disk_bytes()
    }

    fn path(&self, name: &str) -> PathBuf {
        self.data.join(name)
    }
}

impl Disk for DirDisk {
    fn list(&self) -> io::Result<Vec<String>> {
        let names =
            fs::read_dir(&self.data)?.map(|entry| Ok(entry?.file_name().into_string().ok()));
        names.filter_map(io::Result::transpose).collect()
    }

    fn open(&self, name: &str) -> io::Result<Arc<dyn DiskFile>> {
        let file = OpenOptions::new()
            .read(true)
            .write(true)
            .open(self.path(name))?;
        Ok(Arc::new(DirFile(file)))
    }

    fn create(&self, name: &str) -> io::Result<Arc<dyn DiskFile>> {
        let mut options = OpenOptions::new();
        options.read(true).write(true).create(true).truncate(true);
        #[cfg(unix)]
        std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
        Ok(Arc::new(DirFile(options.open(self.path(name))?)))
    }

    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        fs::rename(self.path(from), self.path(to))
    }

    fn remove(&self, name: &str) -> io::Result<()> {
        fs::remove_file(self.path(name))
    }

    fn sync(&self) -> io::Result<()> {
        #[cfg(unix)]
        File::open(&self.data)?.sync_all()?;
        Ok(())
    }
}

impl DiskFile for DirFile {
    fn length(&self) -> io::Result<u64> {
        Ok(self.0.metadata()?.len())
    }

    #[cfg(unix)]
    fn read_at(&self, offset: u64, buffer: &mut [u8]) -> io::Result<()> {
        std::os::unix::fs::FileExt::read_exact_at(&self.0, buffer, offset)
    }

    #[cfg(unix)]
    fn write_at(&self, offset: u64, bytes: &[u8]) -> io::Result<()> {
        std::os::unix::fs::FileExt::write_all_at(&self.0, bytes, offset)
    }

    #[cfg(windows)]
    fn read_at(&self, mut offset: u64, mut buffer: &mut [u8]) -> io::Result<()> {
        while !buffer.is_empty() {
            match std::os::windows::fs::FileExt::seek_read(&self.0, buffer, offset)? {
                0 => return Err(io::ErrorKind::UnexpectedEof.into()),
                read => {
                    buffer = buffer.split_at_mut(read).1;
                    offset += read as u64;
                }
            }
        }
        Ok(())
    }

    #[cfg(windows)]
    fn write_at(&self, mut offset: u64, mut bytes: &[u8]) -> io::Result<()> {
        while !bytes.is_empty() {
            let written = std::os::windows::fs::FileExt::seek_write(&self.0, bytes, offset)?;
            bytes = bytes.split_at(written).1;
            offset += written as u64;
        }
        Ok(())
    }

    fn truncate(&self, length: u64) -> io::Result<()> {
        self.0.set_len(length)
    }

    fn sync(&self) -> io::Result<()> {
        self.0.sync_data()
    }
}
