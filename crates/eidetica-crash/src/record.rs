//! Every change that a process made to its files, in order, and what a disk may hold of them when the power goes.
//!
//! A disk keeps what was synced. Of what was written since, it may have any part, in any order, in sectors. Names are kept as they
//! are made, as journaling file systems do in practice; one that a raw system call made shows when its directory is
//! synced.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, File};
use std::io::Write as _;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, bail};
use eidetica_testkit::Rng;

/// What a disk writes as a whole.
const SECTOR: usize = 512;

/// One change.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Change {
    /// A file has this name; perhaps a new one.
    Name(u64, PathBuf),
    /// Bytes at an offset.
    Write(u64, u64, Vec<u8>),
    /// A new length.
    Length(u64, u64),
    /// All of a file is kept.
    Sync(u64),
    /// The names in a directory follow.
    Names(PathBuf),
    /// One of them.
    Listed(u64, PathBuf),
    /// A name becomes another.
    Rename(PathBuf, PathBuf),
    /// A name is gone.
    Remove(PathBuf),
    /// A directory.
    Dir(PathBuf),
    /// The process promised something.
    Told(String),
}

/// Reads what the preloaded library recorded.
///
/// # Errors
/// The file's; a record that is not what it should be.
pub fn read(path: &Path) -> anyhow::Result<Vec<Change>> {
    let bytes = fs::read(path)?;
    let mut rest = bytes.as_slice();
    let mut changes = Vec::new();
    while !rest.is_empty() {
        let mut number = || {
            let (head, tail) = rest.split_first_chunk().context("a record is cut off")?;
            rest = tail;
            anyhow::Ok(u64::from_ne_bytes(*head))
        };
        let (kind, ino, at) = (number()?, number()?, number()?);
        let (path_len, len) = (number()? as usize, number()? as usize);
        let path = take(&mut rest, path_len)?;
        let data = take(&mut rest, len)?;
        let path = PathBuf::from(std::str::from_utf8(path)?);
        changes.push(match char::from(u8::try_from(kind)?) {
            'c' => Change::Name(ino, path),
            'w' => Change::Write(ino, at, data.to_vec()),
            't' => Change::Length(ino, at),
            's' => Change::Sync(ino),
            'd' => Change::Names(path),
            'n' => Change::Listed(ino, path.join(std::str::from_utf8(data)?)),
            'r' => Change::Rename(path, PathBuf::from(std::str::from_utf8(data)?)),
            'u' => Change::Remove(path),
            'm' => Change::Dir(path),
            'a' => Change::Told(String::from_utf8(data.to_vec())?),
            other => bail!("a record of kind {other:?}"),
        });
    }
    Ok(changes)
}

/// Where changes go on after one: the names in a directory are one change with what they are said to be.
#[must_use]
pub fn after(changes: &[Change], at: usize) -> usize {
    let rest = changes.iter().skip(at + 1);
    let listed = rest.take_while(|change| matches!(change, Change::Listed(..)));
    at + 1 + listed.count()
}

fn take<'a>(rest: &mut &'a [u8], len: usize) -> anyhow::Result<&'a [u8]> {
    let (head, tail) = rest.split_at_checked(len).context("a record is cut off")?;
    *rest = tail;
    Ok(head)
}

/// How much of what was not synced a disk keeps.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Keeps {
    /// Everything: only the process died.
    All,
    /// Nothing.
    None,
    /// Each write or not.
    Some,
    /// Each sector of each write or not.
    Torn,
}

impl Keeps {
    /// All of them.
    pub const ALL: [Self; 4] = [Self::All, Self::None, Self::Some, Self::Torn];
}

#[derive(Clone, Debug, Default)]
struct Inode {
    kept: Content,
    /// Since the last sync.
    since: Vec<Unsynced>,
}

/// What is in a file: some bytes, and zeros behind them, of which engines set much aside.
#[derive(Clone, Debug, Default)]
struct Content {
    bytes: Vec<u8>,
    len: usize,
}

impl Content {
    fn put(&mut self, at: usize, data: &[u8]) {
        let end = at + data.len();
        if self.bytes.len() < end {
            self.bytes.resize(end, 0);
        }
        self.bytes[at..end].copy_from_slice(data);
        self.len = self.len.max(end);
    }

    fn set_len(&mut self, len: usize) {
        self.bytes.truncate(len);
        self.len = len;
    }

    fn write(&self, path: &Path) -> anyhow::Result<()> {
        let mut file = File::create(path)?;
        file.write_all(&self.bytes)?;
        Ok(file.set_len(self.len as u64)?)
    }

    fn is(&self, found: &[u8]) -> bool {
        const ZEROS: [u8; 4096] = [0; 4096];
        found.len() == self.len
            && found
                .split_at_checked(self.bytes.len())
                .is_some_and(|(head, tail)| {
                    let zeros = |part: &[u8]| part == &ZEROS[..part.len()];
                    head == self.bytes && tail.chunks(ZEROS.len()).all(zeros)
                })
    }
}

#[derive(Clone, Debug)]
enum Unsynced {
    Write(usize, Vec<u8>),
    Length(usize),
}

/// A disk to which recorded changes are applied.
#[derive(Clone, Debug, Default)]
pub struct Disk {
    dirs: BTreeSet<PathBuf>,
    names: BTreeMap<PathBuf, u64>,
    inodes: BTreeMap<u64, Inode>,
    /// What was promised so far.
    pub told: String,
}

impl Disk {
    /// Applies one change.
    pub fn apply(&mut self, change: &Change) {
        match change {
            Change::Name(ino, path) => self.name(*ino, path),
            Change::Write(ino, at, data) => {
                let write = Unsynced::Write(*at as usize, data.clone());
                self.inodes.entry(*ino).or_default().since.push(write);
            }
            Change::Length(ino, len) => {
                let length = Unsynced::Length(*len as usize);
                self.inodes.entry(*ino).or_default().since.push(length);
            }
            Change::Sync(ino) => {
                let inode = self.inodes.entry(*ino).or_default();
                for change in std::mem::take(&mut inode.since) {
                    change.apply(&mut inode.kept);
                }
            }
            Change::Names(dir) => self.names.retain(|path, _| path.parent() != Some(dir)),
            Change::Listed(ino, path) => drop(self.names.insert(path.clone(), *ino)),
            Change::Rename(from, to) => self.rename(from, to),
            Change::Remove(path) => {
                self.names.remove(path);
                self.dirs.remove(path);
            }
            Change::Dir(path) => drop(self.dirs.insert(path.clone())),
            Change::Told(line) => self.told += line,
        }
    }

    /// A number is given again when its file is gone: then it is another file.
    fn name(&mut self, ino: u64, path: &Path) {
        if !self.names.values().any(|named| *named == ino) {
            self.inodes.insert(ino, Inode::default());
        }
        self.names
            .retain(|name, named| *named != ino || name == path);
        self.names.insert(path.to_path_buf(), ino);
    }

    fn rename(&mut self, from: &Path, to: &Path) {
        let moved = |path: &Path| match path.strip_prefix(from) {
            Ok(rest) if rest.as_os_str().is_empty() => to.to_path_buf(),
            Ok(rest) => to.join(rest),
            Err(_) => path.to_path_buf(),
        };
        self.names.remove(to);
        self.dirs = self.dirs.iter().map(|dir| moved(dir)).collect();
        let names = std::mem::take(&mut self.names);
        self.names = names
            .into_iter()
            .map(|(path, ino)| (moved(&path), ino))
            .collect();
    }

    /// The files as they may be found after the power went, below `to` instead of `from`.
    ///
    /// # Errors
    /// The real disk's.
    pub fn write_after(
        &self,
        keeps: Keeps,
        rng: &mut Rng,
        from: &Path,
        to: &Path,
    ) -> anyhow::Result<()> {
        for dir in &self.dirs {
            fs::create_dir_all(to.join(dir.strip_prefix(from)?))?;
        }
        for (path, ino) in &self.names {
            let path = to.join(path.strip_prefix(from)?);
            let inode = self.inodes.get(ino).cloned().unwrap_or_default();
            let mut content = inode.kept;
            for change in inode.since {
                match keeps {
                    Keeps::All => change.apply(&mut content),
                    Keeps::None => {}
                    Keeps::Some if rng.one_in(2) => change.apply(&mut content),
                    Keeps::Some => {}
                    Keeps::Torn => change.tear(&mut content, rng),
                }
            }
            fs::create_dir_all(path.parent().context("a path has a parent")?)?;
            content.write(&path)?;
        }
        Ok(())
    }

    /// Whether the files below `dir` are what was recorded. Those that `but` says are left out.
    ///
    /// # Errors
    /// What differs.
    pub fn is_as_in(&self, dir: &Path, but: impl Fn(&Path) -> bool) -> anyhow::Result<()> {
        let mut open = vec![dir.to_path_buf()];
        let mut seen = 0;
        while let Some(dir) = open.pop() {
            for entry in fs::read_dir(&dir)? {
                let entry = entry?;
                let path = entry.path();
                if entry.file_type()?.is_dir() {
                    open.push(path);
                    continue;
                }
                if but(&path) {
                    continue;
                }
                seen += 1;
                let place = path.display();
                let ino = self.names.get(&path);
                let ino = ino.with_context(|| format!("{place} was not recorded"))?;
                if *ino != entry.metadata()?.ino() {
                    bail!("{place} is another file than was recorded");
                }
                let mut inode = self.inodes.get(ino).cloned().unwrap_or_default();
                for change in inode.since {
                    change.apply(&mut inode.kept);
                }
                if !inode.kept.is(&fs::read(&path)?) {
                    bail!("{place} holds what was not recorded");
                }
            }
        }
        let recorded = self.names.keys().filter(|path| !but(path)).count();
        if seen != recorded {
            bail!("{seen} files, {recorded} recorded");
        }
        Ok(())
    }
}

impl Unsynced {
    fn apply(&self, content: &mut Content) {
        match self {
            Self::Write(at, data) => content.put(*at, data),
            Self::Length(len) => content.set_len(*len),
        }
    }

    /// Applies some sectors of a write, in any order, or a length or not.
    fn tear(&self, content: &mut Content, rng: &mut Rng) {
        match self {
            Self::Length(len) if rng.one_in(2) => content.set_len(*len),
            Self::Length(_) => {}
            Self::Write(at, data) => {
                let mut done = 0;
                while done < data.len() {
                    let sector_end = (at + done) / SECTOR * SECTOR + SECTOR;
                    let end = (sector_end - at).min(data.len());
                    if rng.one_in(2) {
                        content.put(at + done, &data[done..end]);
                    }
                    done = end;
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn held(disk: &Disk, keeps: Keeps) -> Vec<u8> {
        let dir = tempfile::tempdir().unwrap();
        let mut rng = Rng::exact(1);
        disk.write_after(keeps, &mut rng, Path::new("/d"), dir.path())
            .unwrap();
        fs::read(dir.path().join("file")).unwrap()
    }

    #[test]
    fn a_disk_keeps_what_was_synced_and_any_part_of_the_rest() {
        let mut disk = Disk::default();
        let path = PathBuf::from("/d/file");
        for change in [
            Change::Name(1, path.clone()),
            Change::Write(1, 0, vec![1; 2_000]),
            Change::Sync(1),
            Change::Write(1, 1_000, vec![2; 4_000]),
        ] {
            disk.apply(&change);
        }
        assert_eq!(held(&disk, Keeps::None), vec![1; 2_000]);
        assert_eq!(held(&disk, Keeps::All).len(), 5_000);
        let torn = held(&disk, Keeps::Torn);
        assert_eq!(torn[..1_000], [1; 1_000]);
        let sectors: Vec<&[u8]> = torn[1_024..].chunks_exact(SECTOR).collect();
        let whole = |byte| {
            sectors
                .iter()
                .filter(|sector| sector[SECTOR - 1] == byte)
                .count()
        };
        assert!(whole(2) > 0 && whole(2) < sectors.len());
    }

    #[test]
    fn the_names_in_a_directory_change_at_once() {
        let name = PathBuf::from("/d/file");
        let changes = [
            Change::Name(1, name.clone()),
            Change::Names(PathBuf::from("/d")),
            Change::Listed(1, name.clone()),
            Change::Listed(2, PathBuf::from("/d/other")),
            Change::Sync(1),
        ];
        let next: Vec<usize> = (0..5).map(|at| after(&changes, at)).collect();
        assert_eq!(next, [1, 4, 4, 4, 5]);
        let mut disk = Disk::default();
        changes[..next[1]]
            .iter()
            .for_each(|change| disk.apply(change));
        assert!(disk.names.contains_key(&name));
    }

    #[test]
    fn a_name_is_that_of_one_file() {
        let mut disk = Disk::default();
        let (new, name) = (PathBuf::from("/d/new"), PathBuf::from("/d/file"));
        for change in [
            Change::Name(1, name.clone()),
            Change::Write(1, 0, b"old".to_vec()),
            Change::Name(2, new.clone()),
            Change::Write(2, 0, b"new".to_vec()),
            Change::Rename(new, name.clone()),
        ] {
            disk.apply(&change);
        }
        assert_eq!(held(&disk, Keeps::All), b"new");
        disk.apply(&Change::Remove(name.clone()));
        disk.apply(&Change::Name(2, name));
        assert_eq!(held(&disk, Keeps::All), b"");
    }
}
