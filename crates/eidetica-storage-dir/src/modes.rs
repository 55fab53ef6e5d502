//! Creating files and directories that only their owner can reach.

use std::fs::{DirBuilder, File, OpenOptions};
use std::io;
use std::path::Path;

/// Creates the directory, which must not exist, and whatever is missing above it. The missing parents
/// get the usual modes.
pub(crate) fn create_private_dir(dir: &Path) -> io::Result<()> {
    let parent = dir.parent().filter(|parent| !parent.as_os_str().is_empty());
    if let Some(parent) = parent {
        std::fs::create_dir_all(parent)?;
    }
    let mut builder = DirBuilder::new();
    #[cfg(unix)]
    std::os::unix::fs::DirBuilderExt::mode(&mut builder, 0o700);
    builder.create(dir)?;
    sync_dir(parent.unwrap_or(Path::new(".")))
}

/// Opens a file for reading and writing, creating it for its owner alone.
pub(crate) fn open_private(path: &Path) -> io::Result<File> {
    let mut options = OpenOptions::new();
    options.read(true).write(true).create(true).truncate(false);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    options.open(path)
}

/// Makes the names in a directory durable.
pub(crate) fn sync_dir(dir: &Path) -> io::Result<()> {
    #[cfg(unix)]
    File::open(dir)?.sync_all()?;
    #[cfg(not(unix))]
    let _ = dir;
    Ok(())
}

/// Narrows the modes of a directory and all below it, now and for what is created there later. What
/// vanishes meanwhile is left out.
pub(crate) fn narrow(dir: &Path) -> io::Result<()> {
    let mut open = vec![dir.to_path_buf()];
    while let Some(dir) = open.pop() {
        narrow_one(&dir, 0o700)?;
        keep_private(&dir);
        for entry in std::fs::read_dir(&dir).into_iter().flatten().flatten() {
            let kind = entry.file_type()?;
            if kind.is_dir() {
                open.push(entry.path());
            } else if kind.is_file() {
                narrow_one(&entry.path(), 0o600)?;
            }
        }
    }
    Ok(())
}

#[cfg(unix)]
fn narrow_one(path: &Path, mode: u32) -> io::Result<()> {
    use std::fs::Permissions;
    use std::os::unix::fs::PermissionsExt as _;
    let narrowed = match std::fs::metadata(path) {
        Ok(meta) if meta.permissions().mode() & 0o777 == mode => Ok(()),
        Ok(_) => std::fs::set_permissions(path, Permissions::from_mode(mode)),
        Err(error) => Err(error),
    };
    narrowed.or_else(|error| {
        if error.kind() == io::ErrorKind::NotFound {
            Ok(())
        } else {
            Err(error)
        }
    })
}

#[cfg(not(unix))]
fn narrow_one(_: &Path, _: u32) -> io::Result<()> {
    Ok(())
}

/// Makes what is created in a directory private from the first moment, whatever mode its creator asks
/// for: a default access control list stands in for the umask and is inherited by directories. Where the
/// file system has none, the mode of the directory is what protects new files.
#[cfg(target_os = "linux")]
fn keep_private(dir: &Path) {
    const NAME: &str = "system.posix_acl_default";
    // Version 2, then tag, permissions and (no) id of: the owner, the group, all others.
    const OWNER_ONLY: &[u8] = b"\x02\0\0\0\
        \x01\0\x07\0\xff\xff\xff\xff\
        \x04\0\0\0\xff\xff\xff\xff\
        \x20\0\0\0\xff\xff\xff\xff";
    rustix::fs::setxattr(dir, NAME, OWNER_ONLY, rustix::fs::XattrFlags::empty()).ok();
}

#[cfg(not(target_os = "linux"))]
fn keep_private(_: &Path) {}

/// Bytes of all files below a directory, or of a file.
pub(crate) fn disk_bytes(path: &Path) -> u64 {
    let mut total = 0;
    let mut open = vec![path.to_path_buf()];
    while let Some(path) = open.pop() {
        match std::fs::symlink_metadata(&path) {
            Ok(meta) if meta.is_dir() => {
                open.extend(
                    std::fs::read_dir(&path)
                        .into_iter()
                        .flatten()
                        .flatten()
                        .map(|e| e.path()),
                );
            }
            Ok(meta) => total += meta.len(),
            Err(_) => {}
        }
    }
    total
}
