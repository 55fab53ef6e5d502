//! A pack to entries.

use bytes::Bytes;
use smallvec::SmallVec;

use super::wire::{Column, Part, Prefix, merge};
use super::{Limits, PREFIX_BYTES, PackError, PackInfo};
use crate::codec::{Reader, Writer};
use crate::entry::{Inner, Payloads};
use crate::{
    Author, Entry, Header, Height, Id, Ids, PayloadHash, Signature, StoreName, StoreRef, limits,
};

/// The least header there is: empty lists and no timestamp. Bounds allocations before any decoding.
const MIN_HEADER_BYTES: usize = 1 + 32 + 8 + 8 + 8 + 8 + 32 + 8 + 1;

/// Rebuilds the entries of a pack, in its order. Headers are made anew and hashed to ids, payloads are
/// hashed; signatures are not verified and nothing is judged.
///
/// The entries share two buffers, one of headers and one of payloads; see [`Entry::compact`].
///
/// Cost: linear in the decompressed bytes, which `limits` bounds. A pure function of `pack`.
///
/// # Errors
/// Bytes that are no pack or exceed `limits`, an entry twice, a child before its parent, or an entry that
/// is none. One bad entry fails the whole pack: an honest encoder makes no such pack.
pub fn decode(pack: &[u8], limits: &Limits) -> Result<Vec<Entry>, PackError> {
    PackError::check_limit("bytes", pack.len(), limits.bytes)?;
    let prefix = Prefix::read(pack)?;
    let count = prefix.info.entries as usize;
    PackError::check_limit("entries", count, limits.entries)?;
    let raw_bytes = prefix.meta.raw as usize + prefix.payloads.raw as usize;
    PackError::check_limit("raw bytes", raw_bytes, limits.raw_bytes)?;

    let mut body = Column::new("body", pack.get(PREFIX_BYTES..).unwrap_or_default());
    let signatures = body.take(count * 64)?.as_chunks::<64>().0;
    let meta = decompress("metadata", &prefix.meta, &mut body)?;
    let payloads = Bytes::from(decompress("payloads", &prefix.payloads, &mut body)?);
    body.end()?;

    let mut decoder = Decoder::new(
        prefix.info,
        Meta::read(&meta, count, limits)?,
        payloads,
        limits,
    );
    for index in 0..count {
        decoder.next(index)?;
    }
    decoder.finish(signatures)
}

/// Decompresses the next part of the body. The output buffer is as large as the prefix says, which has
/// been checked, and zstd never writes beyond it.
fn decompress(
    what: &'static str,
    part: &Part,
    body: &mut Column<'_>,
) -> Result<Vec<u8>, PackError> {
    let compressed = body.take(part.compressed as usize)?;
    let raw = part.raw as usize;
    if raw == 0 && compressed.is_empty() {
        return Ok(Vec::new());
    }
    let out = zstd::bulk::decompress(compressed, raw).map_err(|_| PackError::Compression(what))?;
    match out.len() == raw {
        true => Ok(out),
        false => Err(PackError::Compression(what)),
    }
}

/// A parent outside the pack, as the pack claims it to be.
struct External {
    id: Id,
    height: Height,
    /// The number of the list that it passes on.
    list: usize,
}

/// What an entry passes on to its children.
struct Parent {
    id: Id,
    height: Height,
    settings: Ids,
}

/// Dictionaries and columns of the metadata.
struct Meta<'a> {
    authors: Vec<Author>,
    stores: Vec<StoreName>,
    lists: Vec<Ids>,
    externals: Vec<External>,
    parent_counts: Column<'a>,
    parents: Column<'a>,
    heights: Column<'a>,
    settings: Column<'a>,
    author: Column<'a>,
    store_counts: Column<'a>,
    store: Column<'a>,
    lengths: Column<'a>,
    timed: Column<'a>,
    times: Column<'a>,
    raw: Column<'a>,
}

impl<'a> Meta<'a> {
    fn read(meta: &'a [u8], entries: usize, limits: &Limits) -> Result<Self, PackError> {
        let mut meta = Column::new("metadata", meta);
        let authors = read_authors(meta.column("authors")?, entries)?;
        let stores = read_stores(meta.column("stores")?, entries)?;
        let pins = read_pins(meta.column("settings pins")?, entries)?;
        let lists = read_lists(meta.column("settings lists")?, &pins, entries, limits)?;
        let externals = read_externals(meta.column("external parents")?, lists.len(), entries)?;
        let read = Self {
            authors,
            stores,
            lists,
            externals,
            parent_counts: meta.column("parent counts")?,
            parents: meta.column("parents")?,
            heights: meta.column("heights")?,
            settings: meta.column("settings")?,
            author: meta.column("author references")?,
            store_counts: meta.column("store counts")?,
            store: meta.column("store references")?,
            lengths: meta.column("payload lengths")?,
            timed: meta.column("timestamp marks")?,
            times: meta.column("timestamps")?,
            raw: meta.column("hashes")?,
        };
        meta.end()?;
        Ok(read)
    }

    fn end(&self) -> Result<(), PackError> {
        let columns = [
            &self.parent_counts,
            &self.parents,
            &self.heights,
            &self.settings,
            &self.author,
            &self.store_counts,
            &self.store,
            &self.lengths,
            &self.timed,
            &self.times,
            &self.raw,
        ];
        columns.into_iter().try_for_each(Column::end)
    }
}

fn read_authors(mut column: Column<'_>, entries: usize) -> Result<Vec<Author>, PackError> {
    let count = column.count(entries, 40)?;
    let mut reader = Reader::new(column.take_rest());
    let authors = (0..count)
        .map(|_| Author::read(&mut reader))
        .collect::<Result<_, _>>();
    let authors = authors.map_err(|_| PackError::Invalid("author"))?;
    reader.end().map_err(|_| PackError::Trailing("authors"))?;
    Ok(authors)
}

fn read_stores(mut column: Column<'_>, entries: usize) -> Result<Vec<StoreName>, PackError> {
    let count = column.count(entries.saturating_mul(limits::STORES), 2)?;
    let mut read = || {
        let len = column.count(limits::NAME_BYTES, 1)?;
        StoreName::from_utf8(column.take(len)?).map_err(|_| PackError::Invalid("store name"))
    };
    let stores = (0..count).map(|_| read()).collect::<Result<_, _>>()?;
    column.end()?;
    Ok(stores)
}

fn read_pins(mut column: Column<'_>, entries: usize) -> Result<Vec<Id>, PackError> {
    let most = entries.saturating_mul(limits::SETTINGS * (1 + limits::PARENTS));
    let count = column.count(most, 32)?;
    let pins = (0..count)
        .map(|_| Ok(Id::new(column.take_32()?)))
        .collect::<Result<_, PackError>>()?;
    column.end()?;
    Ok(pins)
}

fn read_lists(
    mut column: Column<'_>,
    pins: &[Id],
    entries: usize,
    limits: &Limits,
) -> Result<Vec<Ids>, PackError> {
    let count = column.count(entries.saturating_mul(1 + limits::PARENTS), 1)?;
    let mut total = 0;
    let mut read = || {
        let len = column.count(limits::SETTINGS, 1)?;
        // A list takes a byte per pin here, but 32 in memory.
        total += len * 32;
        PackError::check_limit("raw bytes", total, limits.raw_bytes)?;
        let mut pin = || {
            let index = column.index(pins.len())?;
            pins.get(index)
                .copied()
                .ok_or(PackError::Invalid("settings pin"))
        };
        let list = (0..len)
            .map(|_| pin())
            .collect::<Result<SmallVec<[Id; 2]>, _>>()?;
        Ids::from_sorted(list).ok_or(PackError::Invalid("settings list"))
    };
    let lists = (0..count).map(|_| read()).collect::<Result<_, _>>()?;
    column.end()?;
    Ok(lists)
}

fn read_externals(
    mut column: Column<'_>,
    lists: usize,
    entries: usize,
) -> Result<Vec<External>, PackError> {
    let count = column.count(entries.saturating_mul(limits::PARENTS), 34)?;
    let mut read = || {
        Ok(External {
            id: Id::new(column.take_32()?),
            height: Height(column.varint()?),
            list: column.index(lists)?,
        })
    };
    let externals = (0..count)
        .map(|_| read())
        .collect::<Result<_, PackError>>()?;
    column.end()?;
    Ok(externals)
}

/// A rebuilt entry that waits for the buffer of all headers to be complete.
struct Rebuilt {
    header: Header,
    header_end: usize,
    payloads: Payloads,
}

struct Decoder<'a> {
    info: PackInfo,
    meta: Meta<'a>,
    limits: &'a Limits,
    last_time: u64,
    payloads: Bytes,
    payload_start: usize,
    headers: Writer,
    rebuilt: Vec<Rebuilt>,
    /// What each entry so far passes on, in the order of the pack.
    parents: Vec<Parent>,
}

impl<'a> Decoder<'a> {
    fn new(info: PackInfo, meta: Meta<'a>, payloads: Bytes, limits: &'a Limits) -> Self {
        let count = info.entries as usize;
        Self {
            info,
            meta,
            limits,
            last_time: 0,
            payloads,
            payload_start: 0,
            headers: Writer(Vec::with_capacity(count * 2 * MIN_HEADER_BYTES)),
            rebuilt: Vec::with_capacity(count),
            parents: Vec::with_capacity(count),
        }
    }

    fn next(&mut self, index: usize) -> Result<(), PackError> {
        let at = |error| PackError::Entry { index, error };
        let (header, payloads) = self.header(index)?;
        header.validate().map_err(at)?;
        let start = self.headers.0.len();
        header.write(&mut self.headers);
        let header_end = self.headers.0.len();
        PackError::check_limit("header bytes", header_end, self.limits.raw_bytes)?;
        let id = Header::id_of(self.headers.0.get(start..).unwrap_or_default());
        if header.is_root() && id != self.info.database {
            return Err(PackError::Database(id));
        }
        let present: usize = payloads
            .iter()
            .map(|p| p.as_ref().map_or(1, |p| 9 + p.len()))
            .sum();
        let entry_bytes = header_end - start + 64 + present;
        crate::EntryError::check_limit("entry bytes", entry_bytes, limits::ENTRY_BYTES)
            .map_err(at)?;
        let settings = match header.writes_settings() {
            true => Ids::from(id),
            false => header.settings.clone(),
        };
        self.parents.push(Parent {
            id,
            height: header.height,
            settings,
        });
        self.rebuilt.push(Rebuilt {
            header,
            header_end,
            payloads,
        });
        Ok(())
    }

    fn header(&mut self, index: usize) -> Result<(Header, Payloads), PackError> {
        let (parents, height, settings) = self.lineage(index)?;
        let author = self.meta.author.index(self.meta.authors.len())?;
        let author = self
            .meta
            .authors
            .get(author)
            .ok_or(PackError::Invalid("author"))?
            .clone();
        let database = match parents.is_empty() {
            true => Id::new(self.meta.raw.take_32()?),
            false => self.info.database,
        };
        let (stores, payloads) = self.stores()?;
        let timestamp_ms = self.timestamp()?;
        let header = Header {
            version: Header::VERSION,
            database,
            parents,
            height,
            settings,
            stores,
            author,
            timestamp_ms,
        };
        Ok((header, payloads))
    }

    /// Parents, height and settings pins.
    fn lineage(&mut self, index: usize) -> Result<(Ids, Height, Ids), PackError> {
        let count = self.meta.parent_counts.index(limits::PARENTS + 1)?;
        let mut ids: SmallVec<[Id; 2]> = SmallVec::with_capacity(count);
        let mut height = Height::ROOT;
        let mut settings: Option<Ids> = None;
        for _ in 0..count {
            let (id, parent_height, passed_on) = self.parent(index)?;
            ids.push(id);
            height = height.max(parent_height.next());
            settings = Some(match settings {
                Some(others) => merge(others, passed_on),
                None => passed_on.clone(),
            });
        }
        let parents: Ids = ids.into_iter().collect();
        if parents.len() != count {
            return Err(PackError::Invalid("parents"));
        }
        let height = Height(height.0.wrapping_add_signed(self.meta.heights.signed()?));
        let settings = match self
            .meta
            .settings
            .index(self.meta.lists.len() + 1)?
            .checked_sub(1)
        {
            Some(list) => self.meta.lists.get(list).cloned(),
            None => Some(settings.unwrap_or_default()),
        };
        Ok((
            parents,
            height,
            settings.ok_or(PackError::Invalid("settings list"))?,
        ))
    }

    /// The next reference: `1..=index` back in the pack, or beyond it an external parent. Gives the id,
    /// the height and the settings that it passes on.
    fn parent(&mut self, index: usize) -> Result<(Id, Height, &Ids), PackError> {
        let meta = &mut self.meta;
        let reference = meta.parents.index(index + 1 + meta.externals.len())?;
        let parent = match index.checked_sub(reference) {
            Some(position) => self
                .parents
                .get(position)
                .map(|p| (p.id, p.height, &p.settings)),
            None => meta
                .externals
                .get(reference - index - 1)
                .and_then(|external| {
                    let list = meta.lists.get(external.list)?;
                    Some((external.id, external.height, list))
                }),
        };
        parent.ok_or(PackError::Invalid("parent"))
    }

    fn stores(&mut self) -> Result<(Vec<StoreRef>, Payloads), PackError> {
        let count = self.meta.store_counts.index(limits::STORES + 1)?;
        let mut stores = Vec::with_capacity(count);
        let mut payloads = Payloads::with_capacity(count);
        for _ in 0..count {
            let (store, payload) = self.store()?;
            stores.push(store);
            payloads.push(payload);
        }
        Ok((stores, payloads))
    }

    fn store(&mut self) -> Result<(StoreRef, Option<Bytes>), PackError> {
        let name = self.meta.store.index(self.meta.stores.len())?;
        let name = self
            .meta
            .stores
            .get(name)
            .ok_or(PackError::Invalid("store"))?
            .clone();
        let marked = self.meta.lengths.varint()?;
        let payload_len =
            u32::try_from(marked >> 1).map_err(|_| PackError::Invalid("payload length"))?;
        if marked & 1 == 1 {
            let payload_hash = PayloadHash::new(self.meta.raw.take_32()?);
            return Ok((
                StoreRef {
                    name,
                    payload_hash,
                    payload_len,
                },
                None,
            ));
        }
        let start = self.payload_start;
        let end = start + payload_len as usize;
        if end > self.payloads.len() {
            return Err(PackError::Truncated("payloads"));
        }
        self.payload_start = end;
        let payload = self.payloads.slice(start..end);
        let payload_hash = PayloadHash::of(&payload);
        Ok((
            StoreRef {
                name,
                payload_hash,
                payload_len,
            },
            Some(payload),
        ))
    }

    fn timestamp(&mut self) -> Result<Option<u64>, PackError> {
        if self.meta.timed.index(2)? == 0 {
            return Ok(None);
        }
        self.last_time = self
            .last_time
            .wrapping_add_signed(self.meta.times.signed()?);
        Ok(Some(self.last_time))
    }

    fn finish(self, signatures: &[[u8; 64]]) -> Result<Vec<Entry>, PackError> {
        self.meta.end()?;
        if self.payload_start != self.payloads.len() {
            return Err(PackError::Trailing("payloads"));
        }
        self.check_prefix()?;
        check_distinct(&self.parents)?;
        let headers = Bytes::from(self.headers.0);
        let mut start = 0;
        let parts = self.rebuilt.into_iter().zip(&self.parents).zip(signatures);
        let entries = parts.map(|((rebuilt, parent), signature)| {
            let header_bytes = headers.slice(start..rebuilt.header_end);
            start = rebuilt.header_end;
            Entry::from_inner(Inner {
                id: parent.id,
                header: rebuilt.header,
                header_bytes,
                signature: Signature::new(*signature),
                payloads: rebuilt.payloads,
            })
        });
        Ok(entries.collect())
    }

    fn check_prefix(&self) -> Result<(), PackError> {
        let heights = || self.parents.iter().map(|parent| parent.height);
        let claimed = (Some(self.info.min_height), Some(self.info.max_height));
        match (heights().min(), heights().max()) == claimed {
            true => Ok(()),
            false => Err(PackError::Invalid("range of heights")),
        }
    }
}

fn check_distinct(entries: &[Parent]) -> Result<(), PackError> {
    let mut ids: Vec<Id> = entries.iter().map(|entry| entry.id).collect();
    ids.sort_unstable();
    let twice = ids.array_windows().find(|[a, b]| a == b);
    twice.map_or(Ok(()), |[id, _]| Err(PackError::Duplicate(*id)))
}
