//! The files of one database by what they are, a few of them open, and what has been read of them and
//! found whole.

use std::fmt;
use std::io;
use std::sync::Arc;

use parking_lot::Mutex;
use quick_cache::Weighter;
use quick_cache::sync::Cache;

use crate::block::{Block, Table};
use crate::{Disk, DiskFile, Error, limits};

/// Bytes of a page of a side file or run.
pub(crate) const PAGE: usize = 4096;
/// Bytes of a checksum.
pub(crate) const SUM: usize = 16;
/// Bytes that are copied to be hashed as one string; what is longer hashes well in pieces.
const GATHERED: usize = 32 << 10;
/// Bytes that are read without asking first whether there are as many.
const SHORT: u64 = 16 << 10;

/// What the names of files begin with that are kept for people. They are left alone.
const ASIDE: &str = "aside.";

/// A file of a database. Numbers are the location it begins with or, for runs, a count.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum Name {
    Manifest,
    ManifestNew,
    /// That of a database that is no more, whose files are kept for people. Not listed.
    AsideManifest,
    Head,
    Log(u64),
    Side(u64),
    Run(u64),
    Ahead(u64),
}

impl fmt::Display for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Manifest => write!(f, "manifest"),
            Self::ManifestNew => write!(f, "manifest.new"),
            Self::AsideManifest => write!(f, "{ASIDE}{}", Self::Manifest),
            Self::Head => write!(f, "head"),
            Self::Log(number) => write!(f, "{number:016x}.log"),
            Self::Side(number) => write!(f, "{number:016x}.side"),
            Self::Run(number) => write!(f, "{number:016x}.run"),
            Self::Ahead(number) => write!(f, "{number:016x}.ahead"),
        }
    }
}

impl Name {
    /// The file of a name, `None` if it is not one of a database.
    pub(crate) fn parse(name: &str) -> Option<Self> {
        let parsed = match name {
            "manifest" => Self::Manifest,
            "manifest.new" => Self::ManifestNew,
            "head" => Self::Head,
            _ => {
                let (number, what) = name.split_once('.')?;
                let number = u64::from_str_radix(number, 16).ok()?;
                match what {
                    "log" => Self::Log(number),
                    "side" => Self::Side(number),
                    "run" => Self::Run(number),
                    "ahead" => Self::Ahead(number),
                    _ => return None,
                }
            }
        };
        (parsed.to_string() == name).then_some(parsed)
    }

    /// Distinguishes files in checksums, so that no page passes for one of another file.
    fn salt(self) -> [u8; 9] {
        let (kind, number) = match self {
            Self::Manifest | Self::ManifestNew | Self::AsideManifest => (0, 0),
            Self::Head => (1, 0),
            Self::Log(number) => (2, number),
            Self::Side(number) => (3, number),
            Self::Run(number) => (4, number),
            Self::Ahead(number) => (5, number),
        };
        let [a, b, c, d, e, f, g, h] = u64::to_le_bytes(number);
        [kind, a, b, c, d, e, f, g, h]
    }
}

/// The checksum of a part of a file: it finds damage and misplaced parts.
pub(crate) fn checksum(name: Name, part: u64, bytes: &[u8]) -> [u8; SUM] {
    let (salt, part) = (name.salt(), part.to_le_bytes());
    let hash = if bytes.len() <= GATHERED {
        // The chunks of one string are hashed side by side, those of one that comes in pieces mostly are not.
        let mut all = Vec::with_capacity(salt.len() + part.len() + bytes.len());
        all.extend_from_slice(&salt);
        all.extend_from_slice(&part);
        all.extend_from_slice(bytes);
        blake3::hash(&all)
    } else {
        let mut hasher = blake3::Hasher::new();
        hasher.update(&salt).update(&part).update(bytes);
        hasher.finalize()
    };
    let first = hash.as_bytes().first_chunk();
    first.copied().unwrap_or_default()
}

#[derive(Clone)]
enum Cached {
    Page(Arc<Vec<u8>>),
    Block(Arc<Block>),
    Table(Arc<Table>),
}

#[derive(Clone)]
struct Weigh;

impl Weighter<(Name, u64), Cached> for Weigh {
    fn weight(&self, _: &(Name, u64), cached: &Cached) -> u64 {
        let bytes = match cached {
            Cached::Page(page) => page.len(),
            Cached::Block(block) => block.weight(),
            Cached::Table(table) => table.weight(),
        };
        bytes as u64 + 64
    }
}

/// Where a table stands in the cache; no page or block has this number.
const TABLE: u64 = u64::MAX;

pub(crate) struct Files {
    disk: Arc<dyn Disk>,
    open: Mutex<Vec<(Name, Arc<dyn DiskFile>)>>,
    cache: Cache<(Name, u64), Cached, Weigh>,
}

impl Files {
    pub(crate) fn new(disk: Arc<dyn Disk>, cache_bytes: u64) -> Self {
        let items = usize::try_from(cache_bytes / PAGE as u64).unwrap_or(usize::MAX);
        Self {
            disk,
            open: Mutex::default(),
            cache: Cache::with_weighter(items.clamp(64, 1 << 20), cache_bytes, Weigh),
        }
    }

    pub(crate) fn disk(&self) -> Arc<dyn Disk> {
        self.disk.clone()
    }

    pub(crate) fn list(&self) -> Result<Vec<Name>, Error> {
        let names = self.disk.list().map_err(|error| Error::Io {
            doing: "list",
            file: "the directory".to_owned(),
            source: Arc::new(error),
        })?;
        Ok(names.iter().filter_map(|name| Name::parse(name)).collect())
    }

    /// A file, opened if it is not; of more than a few the longest unused is closed.
    pub(crate) fn open(&self, name: Name) -> Result<Arc<dyn DiskFile>, Error> {
        let mut open = self.open.lock();
        if let Some(at) = open.iter().rposition(|(found, _)| *found == name) {
            let entry = open.remove(at);
            let file = entry.1.clone();
            open.push(entry);
            return Ok(file);
        }
        let file = self.disk.open(&name.to_string());
        let file = file.map_err(|error| match error.kind() {
            io::ErrorKind::NotFound => Error::corrupt(name, "it is missing"),
            _ => failed("open", name, error),
        })?;
        if open.len() >= limits::OPEN_FILES {
            open.remove(0);
        }
        open.push((name, file.clone()));
        Ok(file)
    }

    pub(crate) fn create(&self, name: Name) -> Result<Arc<dyn DiskFile>, Error> {
        self.forget(name);
        let created = self.disk.create(&name.to_string());
        created.map_err(|error| failed("create", name, error))
    }

    /// Writes and syncs a file as a whole.
    pub(crate) fn put(&self, name: Name, bytes: &[u8]) -> Result<(), Error> {
        let file = self.create(name)?;
        write(&*file, name, 0, bytes)?;
        sync(&*file, name)
    }

    /// Reads a file as a whole, `None` if there is none.
    pub(crate) fn read(&self, name: Name) -> Result<Option<Vec<u8>>, Error> {
        let file = match self.disk.open(&name.to_string()) {
            Ok(file) => file,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(failed("open", name, error)),
        };
        let length = file.length().map_err(|error| failed("read", name, error))?;
        read(&*file, name, 0, length).map(Some)
    }

    pub(crate) fn rename(&self, from: Name, to: Name) -> Result<(), Error> {
        let renamed = self.disk.rename(&from.to_string(), &to.to_string());
        renamed.map_err(|error| failed("rename", from, error))
    }

    /// Removes a file if it is there.
    pub(crate) fn remove(&self, name: Name) -> Result<(), Error> {
        self.forget(name);
        match self.disk.remove(&name.to_string()) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                Err(failed("remove", name, error))
            }
            _ => Ok(()),
        }
    }

    /// The files that have been kept for people, but for the manifest.
    pub(crate) fn kept_aside(&self) -> Result<Vec<Name>, Error> {
        let names = self.disk.list().map_err(|error| Error::Io {
            doing: "list",
            file: "the directory".to_owned(),
            source: Arc::new(error),
        })?;
        let kept = names.iter().filter_map(|name| name.strip_prefix(ASIDE));
        Ok(kept.filter_map(Name::parse).collect())
    }

    /// Keeps a file for people.
    pub(crate) fn set_aside(&self, name: Name) -> Result<(), Error> {
        self.forget(name);
        let renamed = self
            .disk
            .rename(&name.to_string(), &format!("{ASIDE}{name}"));
        renamed.map_err(|error| failed("rename", name, error))
    }

    pub(crate) fn sync_names(&self) -> Result<(), Error> {
        self.disk.sync().map_err(|error| Error::Io {
            doing: "sync",
            file: "the directory".to_owned(),
            source: Arc::new(error),
        })
    }

    fn forget(&self, name: Name) {
        self.open.lock().retain(|(found, _)| *found != name);
    }

    /// A page of a file of checked pages, without its checksum.
    pub(crate) fn page(&self, name: Name, number: u64) -> Result<Arc<Vec<u8>>, Error> {
        if let Some(Cached::Page(page)) = self.cache.get(&(name, number)) {
            return Ok(page);
        }
        let file = self.open(name)?;
        let mut page = read(
            &*file,
            name,
            number.saturating_mul(PAGE as u64),
            PAGE as u64,
        )?;
        check_page(name, number, &page)?;
        page.truncate(PAGE - SUM);
        let page = Arc::new(page);
        self.cache
            .insert((name, number), Cached::Page(page.clone()));
        Ok(page)
    }

    /// A block of a log by its offset.
    pub(crate) fn block(&self, first: u64, offset: u64, length: u64) -> Result<Arc<Block>, Error> {
        let name = Name::Log(first);
        if let Some(Cached::Block(block)) = self.cache.get(&(name, offset)) {
            return Ok(block);
        }
        let file = self.open(name)?;
        let bytes = read(&*file, name, offset, length)?;
        let block = Arc::new(Block::load(first, offset, &bytes)?);
        self.cache
            .insert((name, offset), Cached::Block(block.clone()));
        Ok(block)
    }

    /// Keeps a page that was just written, without its checksum, as if it had been read.
    pub(crate) fn keep_page(&self, name: Name, number: u64, page: &[u8]) {
        let page = Cached::Page(Arc::new(page.to_vec()));
        self.cache.insert((name, number), page);
    }

    /// Keeps a block that was just written.
    pub(crate) fn keep_block(&self, first: u64, offset: u64, block: Block) {
        let block = Cached::Block(Arc::new(block));
        self.cache.insert((Name::Log(first), offset), block);
    }

    /// The table of blocks of a sealed segment.
    pub(crate) fn table(
        &self,
        first: u64,
        load: impl FnOnce() -> Result<Table, Error>,
    ) -> Result<Arc<Table>, Error> {
        let name = Name::Side(first);
        if let Some(Cached::Table(table)) = self.cache.get(&(name, TABLE)) {
            return Ok(table);
        }
        let table = Arc::new(load()?);
        self.cache
            .insert((name, TABLE), Cached::Table(table.clone()));
        Ok(table)
    }
}

/// Appends a page: the body, zeros, the checksum.
pub(crate) fn push_page(out: &mut Vec<u8>, name: Name, number: u64, body: &[u8]) {
    let start = out.len();
    out.extend_from_slice(body);
    out.resize(start + PAGE - SUM, 0);
    let sum = checksum(name, number, out.get(start..).unwrap_or_default());
    out.extend_from_slice(&sum);
}

pub(crate) fn check_page(name: Name, number: u64, page: &[u8]) -> Result<(), Error> {
    let parts = page.split_last_chunk::<SUM>();
    let whole = parts.is_some_and(|(body, sum)| checksum(name, number, body) == *sum);
    if whole {
        Ok(())
    } else {
        Err(Error::corrupt(
            name,
            format_args!("page {number} has another checksum"),
        ))
    }
}

pub(crate) fn failed(doing: &'static str, name: Name, error: io::Error) -> Error {
    Error::Io {
        doing,
        file: name.to_string(),
        source: Arc::new(error),
    }
}

pub(crate) fn read(
    file: &dyn DiskFile,
    name: Name,
    offset: u64,
    length: u64,
) -> Result<Vec<u8>, Error> {
    if length > SHORT {
        // A damaged length must not allocate more than there is.
        let present = file.length().map_err(|error| failed("read", name, error))?;
        if offset.checked_add(length).is_none_or(|end| end > present) {
            return Err(Error::corrupt(name, "it is too short"));
        }
    }
    let length = usize::try_from(length).map_err(|_| Error::corrupt(name, "it is too long"))?;
    let mut bytes = vec![0; length];
    match file.read_at(offset, &mut bytes) {
        Ok(()) => Ok(bytes),
        Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => {
            Err(Error::corrupt(name, "it is too short"))
        }
        Err(error) => Err(failed("read", name, error)),
    }
}

pub(crate) fn write(
    file: &dyn DiskFile,
    name: Name,
    offset: u64,
    bytes: &[u8],
) -> Result<(), Error> {
    file.write_at(offset, bytes)
        .map_err(|error| failed("write", name, error))
}

pub(crate) fn sync(file: &dyn DiskFile, name: Name) -> Result<(), Error> {
    file.sync().map_err(|error| failed("sync", name, error))
}

/// Reads fixed fields from the front of bytes that may be damaged.
pub(crate) struct Fields<'a>(pub(crate) &'a [u8]);

impl<'a> Fields<'a> {
    pub(crate) fn take<const N: usize>(&mut self) -> Option<[u8; N]> {
        let (taken, rest) = self.0.split_first_chunk()?;
        self.0 = rest;
        Some(*taken)
    }

    pub(crate) fn u32(&mut self) -> Option<u32> {
        self.take().map(u32::from_le_bytes)
    }

    pub(crate) fn u64(&mut self) -> Option<u64> {
        self.take().map(u64::from_le_bytes)
    }
}
