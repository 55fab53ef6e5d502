//! Entries to a pack.

use std::collections::HashMap;

use bytes::Bytes;

use super::wire::{Part, Prefix, merge, put_column, put_signed, put_varint};
use super::{PREFIX_BYTES, PackError, PackInfo};
use crate::codec::Writer;
use crate::{Author, Entry, Header, Height, Id, Ids, StoreName, limits};

/// zstd level of both compressed parts: beyond it packs shrink by 2-3 bytes per entry at half the speed.
const LEVEL: i32 = 3;

/// Packs entries of one database, parents before children.
///
/// Cost: linear in their bytes. The same entries in the same order give the same bytes.
///
/// # Errors
/// No entries, entries of several databases, an entry twice or after its child, or more than a pack may
/// hold (see [`chunks`]).
pub fn encode(entries: &[Entry]) -> Result<Bytes, PackError> {
    let first = entries.first().ok_or(PackError::Empty)?;
    PackError::check_limit("entries", entries.len(), limits::PACK_ENTRIES)?;
    let mut encoder = Encoder::new(first.database(), entries)?;
    for (index, entry) in entries.iter().enumerate() {
        encoder.add(index, entry);
    }
    encoder.finish()
}

/// Cuts entries into runs that one pack can hold: at most `max_entries` and about
/// [`limits::PACK_TARGET_BYTES`] each, at least one entry.
pub fn chunks(entries: &[Entry], max_entries: usize) -> impl Iterator<Item = &[Entry]> {
    let mut rest = entries;
    std::iter::from_fn(move || {
        let mut bytes = 0;
        let fits = |entry: &&Entry| {
            bytes += entry.encoded_len();
            bytes <= limits::PACK_TARGET_BYTES
        };
        let most = max_entries.clamp(1, limits::PACK_ENTRIES);
        let fitting = rest.iter().take(most).take_while(fits).count();
        let (chunk, tail) = rest.split_at_checked(fitting.max(1))?;
        rest = tail;
        Some(chunk)
    })
}

/// A parent that is not in the pack: what its children let us guess of it.
struct External<'a> {
    id: Id,
    height: Height,
    settings: &'a Ids,
    /// How many parents the child has whose settings were taken.
    siblings: usize,
}

/// Numbers distinct values in the order of their first use.
struct Dictionary<'a, T: ?Sized> {
    numbers: HashMap<&'a T, u64>,
    out: Vec<u8>,
}

impl<'a, T: Eq + std::hash::Hash + ?Sized> Dictionary<'a, T> {
    fn new() -> Self {
        Self {
            numbers: HashMap::new(),
            out: Vec::new(),
        }
    }

    fn number(&mut self, value: &'a T, write: impl FnOnce(&mut Vec<u8>, &'a T)) -> u64 {
        let next = self.numbers.len() as u64;
        *self.numbers.entry(value).or_insert_with(|| {
            write(&mut self.out, value);
            next
        })
    }

    /// The column: the count, then the values.
    fn put(&self, meta: &mut Vec<u8>) {
        let mut column = Vec::with_capacity(self.out.len() + 4);
        put_varint(&mut column, self.numbers.len() as u64);
        column.extend_from_slice(&self.out);
        put_column(meta, &column);
    }
}

/// The columns with one value or more per entry.
#[derive(Default)]
struct Columns {
    parent_counts: Vec<u8>,
    parents: Vec<u8>,
    heights: Vec<u8>,
    settings: Vec<u8>,
    author: Vec<u8>,
    store_counts: Vec<u8>,
    store: Vec<u8>,
    lengths: Vec<u8>,
    timed: Vec<u8>,
    times: Vec<u8>,
    raw: Vec<u8>,
}

struct Encoder<'a> {
    info: PackInfo,
    entries: &'a [Entry],
    positions: HashMap<Id, usize>,
    externals: Vec<External<'a>>,
    external_numbers: HashMap<Id, usize>,
    authors: Dictionary<'a, Author>,
    stores: Dictionary<'a, StoreName>,
    pins: Dictionary<'a, Id>,
    lists: Dictionary<'a, Ids>,
    columns: Columns,
    last_time: u64,
    payloads: Vec<u8>,
}

impl<'a> Encoder<'a> {
    fn new(database: Id, entries: &'a [Entry]) -> Result<Self, PackError> {
        let mut encoder = Self {
            info: PackInfo {
                database,
                entries: entries.len() as u32,
                min_height: Height(u64::MAX),
                max_height: Height::ROOT,
                // Known at the end; what is written are the parts.
                raw_bytes: 0,
                meta_bytes: 0,
            },
            entries,
            positions: HashMap::with_capacity(entries.len()),
            externals: Vec::new(),
            external_numbers: HashMap::new(),
            authors: Dictionary::new(),
            stores: Dictionary::new(),
            pins: Dictionary::new(),
            lists: Dictionary::new(),
            columns: Columns::default(),
            last_time: 0,
            payloads: Vec::new(),
        };
        let (mut header_bytes, mut payload_bytes) = (0, 0);
        for (index, entry) in entries.iter().enumerate() {
            if entry.database() != database {
                return Err(PackError::Database(entry.id()));
            }
            if encoder.positions.insert(entry.id(), index).is_some() {
                return Err(PackError::Duplicate(entry.id()));
            }
            header_bytes += entry.header_bytes().len();
            payload_bytes += entry
                .payloads()
                .filter_map(|(_, payload)| payload)
                .map(Bytes::len)
                .sum::<usize>();
            encoder.info.min_height = encoder.info.min_height.min(entry.header().height);
            encoder.info.max_height = encoder.info.max_height.max(entry.header().height);
        }
        PackError::check_limit("header bytes", header_bytes, limits::PACK_RAW_BYTES)?;
        PackError::check_limit("payload bytes", payload_bytes, limits::PACK_RAW_BYTES)?;
        encoder.payloads.reserve_exact(payload_bytes);
        encoder.find_externals()?;
        Ok(encoder)
    }

    /// Collects the parents outside the pack. For honest entries every guess about them that matters is
    /// exact: the height, since some child stands exactly one above the parent that decides its height;
    /// the settings that it passes on, where it has a child of its own.
    fn find_externals(&mut self) -> Result<(), PackError> {
        for (index, entry) in self.entries.iter().enumerate() {
            let header = entry.header();
            for parent in &header.parents {
                match self.positions.get(parent) {
                    Some(position) if *position < index => {}
                    Some(_) => return Err(PackError::Order(*parent)),
                    None => self.note_external(*parent, header),
                }
            }
        }
        Ok(())
    }

    fn note_external(&mut self, id: Id, child: &'a Header) {
        let height = Height(child.height.0.saturating_sub(1));
        let number = *self
            .external_numbers
            .entry(id)
            .or_insert(self.externals.len());
        let siblings = child.parents.len();
        match self.externals.get_mut(number) {
            Some(known) => {
                known.height = known.height.min(height);
                if siblings < known.siblings {
                    known.siblings = siblings;
                    known.settings = &child.settings;
                }
            }
            None => self.externals.push(External {
                id,
                height,
                settings: &child.settings,
                siblings,
            }),
        }
    }

    fn add(&mut self, index: usize, entry: &'a Entry) {
        let header = entry.header();
        if header.is_root() {
            self.columns
                .raw
                .extend_from_slice(header.database.as_bytes());
        }
        self.add_lineage(index, header);
        let author = self.authors.number(&header.author, |out, author| {
            let mut writer = Writer(std::mem::take(out));
            author.write(&mut writer);
            *out = writer.0;
        });
        put_varint(&mut self.columns.author, author);
        self.add_stores(entry);
        self.columns
            .timed
            .push(u8::from(header.timestamp_ms.is_some()));
        if let Some(time) = header.timestamp_ms {
            put_signed(
                &mut self.columns.times,
                time.wrapping_sub(self.last_time) as i64,
            );
            self.last_time = time;
        }
    }

    fn add_lineage(&mut self, index: usize, header: &'a Header) {
        let mut references = Vec::with_capacity(header.parents.len());
        let mut height = Height::ROOT;
        let mut settings: Option<Ids> = None;
        for parent in &header.parents {
            let (reference, parent_height, passed_on) = self.look_up(index, parent);
            references.push(reference);
            height = height.max(parent_height.next());
            settings = Some(match settings {
                Some(others) => merge(others, &passed_on),
                None => passed_on,
            });
        }
        references.sort_unstable();
        put_varint(&mut self.columns.parent_counts, references.len() as u64);
        references
            .iter()
            .for_each(|reference| put_varint(&mut self.columns.parents, *reference));
        put_signed(
            &mut self.columns.heights,
            header.height.0.wrapping_sub(height.0) as i64,
        );
        let code = match settings.unwrap_or_default() == header.settings {
            true => 0,
            false => 1 + self.list(&header.settings),
        };
        put_varint(&mut self.columns.settings, code);
    }

    /// How a parent is referred to, and what the decoder will take for its height and settings.
    fn look_up(&self, index: usize, parent: &Id) -> (u64, Height, Ids) {
        let inside = self
            .positions
            .get(parent)
            .and_then(|at| Some((*at, self.entries.get(*at)?)));
        if let Some((position, entry)) = inside {
            let header = entry.header();
            let settings = match header.writes_settings() {
                true => Ids::from(*parent),
                false => header.settings.clone(),
            };
            return ((index - position) as u64, header.height, settings);
        }
        let number = self
            .external_numbers
            .get(parent)
            .copied()
            .unwrap_or_default();
        let external = self.externals.get(number);
        let (height, settings) = external
            .map(|e| (e.height, e.settings.clone()))
            .unwrap_or_default();
        ((index + 1 + number) as u64, height, settings)
    }

    fn list(&mut self, list: &'a Ids) -> u64 {
        let pins = &mut self.pins;
        self.lists.number(list, |out, list: &'a Ids| {
            put_varint(out, list.len() as u64);
            for pin in list {
                let number = pins.number(pin, |out, pin| out.extend_from_slice(pin.as_bytes()));
                put_varint(out, number);
            }
        })
    }

    fn add_stores(&mut self, entry: &'a Entry) {
        put_varint(
            &mut self.columns.store_counts,
            entry.header().stores.len() as u64,
        );
        for (store, (_, payload)) in entry.header().stores.iter().zip(entry.payloads()) {
            let number = self.stores.number(&store.name, |out, name| {
                put_column(out, name.as_str().as_bytes())
            });
            put_varint(&mut self.columns.store, number);
            put_varint(
                &mut self.columns.lengths,
                u64::from(store.payload_len) << 1 | u64::from(payload.is_none()),
            );
            match payload {
                Some(payload) => self.payloads.extend_from_slice(payload),
                None => self
                    .columns
                    .raw
                    .extend_from_slice(store.payload_hash.as_bytes()),
            }
        }
    }

    fn finish(mut self) -> Result<Bytes, PackError> {
        let externals = self.put_externals();
        let mut meta = Vec::new();
        self.authors.put(&mut meta);
        self.stores.put(&mut meta);
        self.pins.put(&mut meta);
        self.lists.put(&mut meta);
        put_column(&mut meta, &externals);
        self.columns
            .each()
            .into_iter()
            .for_each(|column| put_column(&mut meta, column));
        PackError::check_limit(
            "raw bytes",
            meta.len() + self.payloads.len(),
            limits::PACK_RAW_BYTES,
        )?;

        let compressed_meta = compress("metadata", &meta)?;
        let compressed_payloads = compress("payloads", &self.payloads)?;
        let part = |raw: &[u8], compressed: &[u8]| Part {
            raw: raw.len() as u32,
            compressed: compressed.len() as u32,
        };
        let prefix = Prefix {
            info: self.info,
            meta: part(&meta, &compressed_meta),
            payloads: part(&self.payloads, &compressed_payloads),
        };
        let signatures = self.entries.len() * 64;
        let len = PREFIX_BYTES + signatures + compressed_meta.len() + compressed_payloads.len();
        PackError::check_limit("bytes", len, limits::PACK_BYTES)?;
        let mut writer = Writer(Vec::with_capacity(len));
        prefix.write(&mut writer);
        self.entries
            .iter()
            .for_each(|entry| writer.raw(entry.signature().as_bytes()));
        writer.raw(&compressed_meta);
        writer.raw(&compressed_payloads);
        Ok(Bytes::from(writer.0))
    }

    fn put_externals(&mut self) -> Vec<u8> {
        let mut column = Vec::with_capacity(4 + 40 * self.externals.len());
        put_varint(&mut column, self.externals.len() as u64);
        for external in std::mem::take(&mut self.externals) {
            column.extend_from_slice(external.id.as_bytes());
            put_varint(&mut column, external.height.0);
            put_varint(&mut column, self.list(external.settings));
        }
        column
    }
}

impl Columns {
    /// In the order in which they stand in the metadata.
    fn each(&self) -> [&[u8]; 11] {
        [
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
        ]
    }
}

fn compress(what: &'static str, raw: &[u8]) -> Result<Vec<u8>, PackError> {
    if raw.is_empty() {
        return Ok(Vec::new());
    }
    zstd::bulk::compress(raw, LEVEL).map_err(|_| PackError::Compression(what))
}
