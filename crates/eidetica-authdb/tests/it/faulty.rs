//! A disk that fails at the i-th change and keeps, of what was not synced, what a crash may keep.

use std::collections::BTreeMap;
use std::io;
use std::sync::{Arc, Mutex};

use eidetica_authdb::{Disk, DiskFile};

/// What a crash does to writes that were not synced.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Crash {
    /// All of them stay.
    Keeps,
    /// None of them stays.
    Loses,
    /// Each stays half.
    Tears,
    /// Their places stay, filled with zeros.
    Zeroes,
    /// The later ones stay, the first is lost.
    Reorders,
}

pub(crate) const CRASHES: [Crash; 5] = [
    Crash::Keeps,
    Crash::Loses,
    Crash::Tears,
    Crash::Zeroes,
    Crash::Reorders,
];

#[derive(Debug, Default, Clone)]
struct Content {
    durable: Vec<u8>,
    pending: Vec<Change>,
}

#[derive(Debug, Clone)]
enum Change {
    Write(u64, Vec<u8>),
    Truncate(u64),
}

#[derive(Default)]
struct Inner {
    files: BTreeMap<u64, Content>,
    names: BTreeMap<String, u64>,
    durable_names: BTreeMap<String, u64>,
    next: u64,
    /// Changes that still succeed.
    left: Option<u64>,
    /// Whether nothing more fits.
    is_full: bool,
    changes: u64,
}

/// Clones are the same disk.
#[derive(Clone, Default)]
pub(crate) struct FaultyDisk(Arc<Mutex<Inner>>);

struct FaultyFile {
    disk: FaultyDisk,
    id: u64,
}

impl FaultyDisk {
    pub(crate) fn new() -> Self {
        Self::default()
    }

    /// From now on so many changes succeed, and all after them fail.
    pub(crate) fn fail_after(&self, changes: u64) {
        self.0.lock().unwrap().left = Some(changes);
    }

    /// From now on no file begins or grows.
    pub(crate) fn fill_up(&self) {
        self.0.lock().unwrap().is_full = true;
    }

    fn check_room(&self) -> io::Result<()> {
        match self.0.lock().unwrap().is_full {
            true => Err(io::ErrorKind::StorageFull.into()),
            false => Ok(()),
        }
    }

    pub(crate) fn changes(&self) -> u64 {
        self.0.lock().unwrap().changes
    }

    /// What is found after the process was killed: nothing is lost, and nothing more is durable.
    pub(crate) fn killed(&self) -> Self {
        let inner = self.0.lock().unwrap();
        let after = Inner {
            files: inner.files.clone(),
            names: inner.names.clone(),
            durable_names: inner.durable_names.clone(),
            next: inner.next,
            ..Inner::default()
        };
        Self(Arc::new(Mutex::new(after)))
    }

    /// What is found after a crash now.
    pub(crate) fn crash(&self, crash: Crash) -> Self {
        let inner = self.0.lock().unwrap();
        let keeps = crash == Crash::Keeps;
        let names = if keeps {
            &inner.names
        } else {
            &inner.durable_names
        };
        let files = inner.files.iter().map(|(id, content)| {
            let durable = crashed(content, crash);
            (
                *id,
                Content {
                    durable,
                    pending: Vec::new(),
                },
            )
        });
        let after = Inner {
            files: files.collect(),
            names: names.clone(),
            durable_names: names.clone(),
            next: inner.next,
            ..Inner::default()
        };
        Self(Arc::new(Mutex::new(after)))
    }

    /// The durable bytes of a file, to look at or to damage.
    pub(crate) fn contents(&self) -> BTreeMap<String, Vec<u8>> {
        let inner = self.0.lock().unwrap();
        let all = inner.names.iter();
        all.map(|(name, id)| (name.clone(), crashed(&inner.files[id], Crash::Keeps)))
            .collect()
    }

    pub(crate) fn of(contents: &BTreeMap<String, Vec<u8>>) -> Self {
        let mut inner = Inner::default();
        for (name, bytes) in contents {
            inner.names.insert(name.clone(), inner.next);
            let content = Content {
                durable: bytes.clone(),
                pending: Vec::new(),
            };
            inner.files.insert(inner.next, content);
            inner.next += 1;
        }
        inner.durable_names = inner.names.clone();
        Self(Arc::new(Mutex::new(inner)))
    }

    fn change<T>(&self, change: impl FnOnce(&mut Inner) -> io::Result<T>) -> io::Result<T> {
        let mut inner = self.0.lock().unwrap();
        if let Some(left) = &mut inner.left {
            match left.checked_sub(1) {
                Some(less) => *left = less,
                None => return Err(io::Error::other("injected")),
            }
        }
        inner.changes += 1;
        change(&mut inner)
    }
}

fn crashed(content: &Content, crash: Crash) -> Vec<u8> {
    let mut bytes = content.durable.clone();
    for (nth, change) in content.pending.iter().enumerate() {
        match (crash, change) {
            (Crash::Loses, _) | (Crash::Reorders, _) if crash == Crash::Loses || nth == 0 => {}
            (Crash::Tears, Change::Write(offset, new)) => {
                write(&mut bytes, *offset, &new[..new.len() / 2]);
            }
            (Crash::Zeroes, Change::Write(offset, new)) => {
                write(&mut bytes, *offset, &vec![0; new.len()]);
            }
            (_, Change::Write(offset, new)) => write(&mut bytes, *offset, new),
            (_, Change::Truncate(length)) => bytes.truncate(*length as usize),
        }
    }
    bytes
}

fn write(bytes: &mut Vec<u8>, offset: u64, new: &[u8]) {
    let end = offset as usize + new.len();
    if bytes.len() < end {
        bytes.resize(end, 0);
    }
    bytes[offset as usize..end].copy_from_slice(new);
}

impl Disk for FaultyDisk {
    fn list(&self) -> io::Result<Vec<String>> {
        Ok(self.0.lock().unwrap().names.keys().cloned().collect())
    }

    fn open(&self, name: &str) -> io::Result<Arc<dyn DiskFile>> {
        let id = self.0.lock().unwrap().names.get(name).copied();
        let id = id.ok_or(io::ErrorKind::NotFound)?;
        Ok(Arc::new(FaultyFile {
            disk: self.clone(),
            id,
        }))
    }

    fn create(&self, name: &str) -> io::Result<Arc<dyn DiskFile>> {
        self.check_room()?;
        let id = self.change(|inner| {
            let id = inner.next;
            inner.next += 1;
            inner.files.insert(id, Content::default());
            inner.names.insert(name.to_owned(), id);
            Ok(id)
        })?;
        Ok(Arc::new(FaultyFile {
            disk: self.clone(),
            id,
        }))
    }

    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        self.change(|inner| {
            let id = inner.names.remove(from).ok_or(io::ErrorKind::NotFound)?;
            inner.names.insert(to.to_owned(), id);
            Ok(())
        })
    }

    fn remove(&self, name: &str) -> io::Result<()> {
        self.change(|inner| match inner.names.remove(name) {
            Some(_) => Ok(()),
            None => Err(io::ErrorKind::NotFound.into()),
        })
    }

    fn sync(&self) -> io::Result<()> {
        self.change(|inner| {
            inner.durable_names = inner.names.clone();
            Ok(())
        })
    }
}

impl FaultyFile {
    fn now(&self) -> Vec<u8> {
        crashed(&self.disk.0.lock().unwrap().files[&self.id], Crash::Keeps)
    }

    fn change(&self, change: impl FnOnce(&mut Content)) -> io::Result<()> {
        self.disk.change(|inner| {
            change(inner.files.get_mut(&self.id).unwrap());
            Ok(())
        })
    }
}

impl DiskFile for FaultyFile {
    fn length(&self) -> io::Result<u64> {
        Ok(self.now().len() as u64)
    }

    fn read_at(&self, offset: u64, buffer: &mut [u8]) -> io::Result<()> {
        let bytes = self.now();
        let found = bytes.get(offset as usize..offset as usize + buffer.len());
        buffer.copy_from_slice(found.ok_or(io::ErrorKind::UnexpectedEof)?);
        Ok(())
    }

    fn write_at(&self, offset: u64, bytes: &[u8]) -> io::Result<()> {
        self.disk.check_room()?;
        // A write that fails may have reached the disk in part.
        let torn = Change::Write(offset, bytes[..bytes.len() / 3].to_vec());
        let result =
            self.change(|content| content.pending.push(Change::Write(offset, bytes.to_vec())));
        if result.is_err() {
            let mut inner = self.disk.0.lock().unwrap();
            if inner.left == Some(0) {
                // Only the first failure; nothing is written after it.
                inner.left = Some(0);
                let content = inner.files.get_mut(&self.id).unwrap();
                content.pending.push(torn);
            }
        }
        result
    }

    fn truncate(&self, length: u64) -> io::Result<()> {
        self.change(|content| content.pending.push(Change::Truncate(length)))
    }

    fn sync(&self) -> io::Result<()> {
        self.change(|content| {
            content.durable = crashed(content, Crash::Keeps);
            content.pending.clear();
        })
    }
}
