//! [`Header`]: the signed, hashed part of an entry.

use std::sync::LazyLock;

use blake3::hazmat::{ContextKey, HasherExt, hash_derive_key_context};

use crate::bytes32::byte_type;
use crate::codec::{Reader, Writer};
use crate::{EntryError, Height, Id, Ids, PublicKey, StoreName, limits};

/// The hash by which a header commits to one payload.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PayloadHash([u8; 32]);
byte_type!(PayloadHash, 32, prefix: "");

impl PayloadHash {
    /// Hashes a payload.
    pub fn of(payload: &[u8]) -> Self {
        static KEY: LazyLock<ContextKey> =
            LazyLock::new(|| hash_derive_key_context("eidetica payload v1"));
        Self(derive_hash(&KEY, payload))
    }
}

/// BLAKE3 in derive-key mode; the context is hashed once per process instead of once per entry.
fn derive_hash(key: &ContextKey, bytes: &[u8]) -> [u8; 32] {
    *blake3::Hasher::new_from_context_key(key)
        .update(bytes)
        .finalize()
        .as_bytes()
}

/// One store that an entry writes, and the commitment to what it writes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StoreRef {
    /// The store.
    pub name: StoreName,
    /// The hash of the payload.
    pub payload_hash: PayloadHash,
    /// The length of the payload in bytes.
    pub payload_len: u32,
}

impl StoreRef {
    /// Commits to `payload`.
    ///
    /// # Errors
    /// A payload beyond [`limits::ENTRY_BYTES`].
    pub fn of(name: StoreName, payload: &[u8]) -> Result<Self, EntryError> {
        EntryError::check_limit("payload bytes", payload.len(), limits::ENTRY_BYTES)?;
        let payload_len = payload.len() as u32;
        Ok(Self {
            name,
            payload_hash: PayloadHash::of(payload),
            payload_len,
        })
    }
}

/// One hop of delegation: the tips at which a delegated database is pinned.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Via {
    /// The delegated database.
    pub database: Id,
    /// Its pinned tips, at least one.
    pub tips: Ids,
}

/// Who signed an entry, and through which delegations the right comes.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Author {
    /// The signing key.
    pub key: PublicKey,
    /// The delegation path in order; empty for a right in the database itself.
    pub via: Vec<Via>,
}

impl From<PublicKey> for Author {
    fn from(key: PublicKey) -> Self {
        Self {
            key,
            via: Vec::new(),
        }
    }
}

/// What an entry says and signs. Plain data: [`Header::validate`] checks it, and everything that makes
/// or decodes an [`crate::Entry`] calls that.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Header {
    /// The format version: [`Header::VERSION`].
    pub version: u8,
    /// The database's id; in a root entry 32 random bytes.
    pub database: Id,
    /// The parents; empty only in a root.
    pub parents: Ids,
    /// 1 + the greatest parent height; 0 in a root.
    pub height: Height,
    /// The maximal entries below this one that write `_settings`; empty only in a root.
    pub settings: Ids,
    /// The stores written, ascending by name.
    pub stores: Vec<StoreRef>,
    /// The signer.
    pub author: Author,
    /// The author's claim of when, in milliseconds since 1970; shown, never judged.
    pub timestamp_ms: Option<u64>,
}

impl Header {
    /// The version this build reads and writes.
    pub const VERSION: u8 = 1;

    /// Whether this is the first entry of a database.
    pub fn is_root(&self) -> bool {
        self.parents.is_empty()
    }

    /// Whether the entry writes `_settings`.
    pub fn writes_settings(&self) -> bool {
        self.stores.iter().any(|store| store.name.is_settings())
    }

    /// The id of an entry with these header bytes.
    pub fn id_of(header_bytes: &[u8]) -> Id {
        static KEY: LazyLock<ContextKey> =
            LazyLock::new(|| hash_derive_key_context("eidetica entry header v1"));
        Id::new(derive_hash(&KEY, header_bytes))
    }

    /// The position of a store in [`Header::stores`].
    pub fn store_index(&self, name: &StoreName) -> Option<usize> {
        self.stores
            .binary_search_by(|store| store.name.cmp(name))
            .ok()
    }

    /// Checks everything that a header alone can get wrong: version, limits, order and shape.
    ///
    /// # Errors
    /// The first rule broken.
    pub fn validate(&self) -> Result<(), EntryError> {
        if self.version != Self::VERSION {
            return Err(EntryError::Version(self.version));
        }
        self.validate_limits()?;
        if !self.stores.is_sorted_by(|a, b| a.name < b.name) {
            return Err(EntryError::Unordered("stores"));
        }
        self.validate_shape()
    }

    fn validate_limits(&self) -> Result<(), EntryError> {
        let check = EntryError::check_limit;
        check("parents", self.parents.len(), limits::PARENTS)?;
        check("settings", self.settings.len(), limits::SETTINGS)?;
        check("stores", self.stores.len(), limits::STORES)?;
        check("delegation hops", self.author.via.len(), limits::VIA_HOPS)?;
        for via in &self.author.via {
            check("delegation tips", via.tips.len(), limits::VIA_TIPS)?;
        }
        if self.height.0 > limits::HEIGHT {
            return Err(EntryError::Limit {
                what: "height",
                limit: limits::HEIGHT,
                found: self.height.0,
            });
        }
        let payloads = self
            .stores
            .iter()
            .map(|store| u64::from(store.payload_len))
            .sum::<u64>();
        check(
            "payload bytes",
            usize::try_from(payloads).unwrap_or(usize::MAX),
            limits::ENTRY_BYTES,
        )
    }

    fn validate_shape(&self) -> Result<(), EntryError> {
        let shape = |rule| Err(EntryError::Shape(rule));
        match self.is_root() {
            true if self.height != Height::ROOT => shape("a root above height 0"),
            true if !self.settings.is_empty() => shape("a root with settings pins"),
            true if !self.writes_settings() => shape("a root that does not write settings"),
            false if self.height == Height::ROOT => shape("parents at height 0"),
            false if self.settings.is_empty() => shape("no settings pin"),
            _ if self.stores.is_empty() => shape("no store"),
            _ if self.author.via.iter().any(|via| via.tips.is_empty()) => {
                shape("a delegation without tips")
            }
            _ => Ok(()),
        }
    }

    /// The canonical bytes. They mean something only for a header that [`Header::validate`] accepts.
    pub fn encode(&self) -> Vec<u8> {
        let mut writer = Writer(Vec::with_capacity(320));
        self.write(&mut writer);
        writer.0
    }

    pub(crate) fn write(&self, writer: &mut Writer) {
        writer.put(self.version);
        writer.raw(self.database.as_bytes());
        writer.ids(&self.parents);
        writer.put(self.height.0);
        writer.ids(&self.settings);
        writer.len(self.stores.len());
        for store in &self.stores {
            writer.bytes(store.name.as_str().as_bytes());
            writer.raw(store.payload_hash.as_bytes());
            writer.put(store.payload_len);
        }
        self.author.write(writer);
        writer.put(self.timestamp_ms);
    }

    /// Reads canonical bytes.
    ///
    /// # Errors
    /// Anything that is not the one encoding of a valid header.
    pub fn decode(bytes: &[u8]) -> Result<Self, EntryError> {
        EntryError::check_limit("entry bytes", bytes.len(), limits::ENTRY_BYTES)?;
        let mut reader = Reader::new(bytes);
        let header = Self::read(&mut reader)?;
        reader.end()?;
        if header.encode() != bytes {
            return Err(EntryError::NotCanonical);
        }
        Ok(header)
    }

    /// Reads and validates a header; the caller compares the re-encoding.
    pub(crate) fn read(reader: &mut Reader<'_>) -> Result<Self, EntryError> {
        let version = reader.get("version")?;
        if version != Self::VERSION {
            return Err(EntryError::Version(version));
        }
        let header = Self {
            version,
            database: reader.id("database")?,
            parents: reader.ids("parents", limits::PARENTS)?,
            height: reader.height()?,
            settings: reader.ids("settings", limits::SETTINGS)?,
            stores: read_stores(reader)?,
            author: Author::read(reader)?,
            timestamp_ms: match reader.tag("timestamp")? {
                true => Some(reader.get("timestamp")?),
                false => None,
            },
        };
        header.validate()?;
        Ok(header)
    }
}

/// A name of one byte, its length, hash and payload length.
const MIN_STORE_BYTES: usize = 8 + 1 + 32 + 4;
/// A database and a list of one tip.
const MIN_VIA_BYTES: usize = 32 + 8 + 32;

fn read_stores(reader: &mut Reader<'_>) -> Result<Vec<StoreRef>, EntryError> {
    let len = reader.len("stores", limits::STORES, MIN_STORE_BYTES)?;
    let read = |_| {
        Ok(StoreRef {
            name: StoreName::from_utf8(reader.bytes("store name bytes", limits::NAME_BYTES)?)?,
            payload_hash: PayloadHash::new(reader.get("payload hash")?),
            payload_len: reader.get("payload length")?,
        })
    };
    (0..len).map(read).collect()
}

impl Author {
    pub(crate) fn write(&self, writer: &mut Writer) {
        writer.raw(self.key.as_bytes());
        writer.len(self.via.len());
        for via in &self.via {
            writer.raw(via.database.as_bytes());
            writer.ids(&via.tips);
        }
    }

    pub(crate) fn read(reader: &mut Reader<'_>) -> Result<Self, EntryError> {
        let key = PublicKey::new(reader.get("author")?);
        let len = reader.len("delegation hops", limits::VIA_HOPS, MIN_VIA_BYTES)?;
        let read = |_| {
            Ok(Via {
                database: reader.id("delegated database")?,
                tips: reader.ids("delegation tips", limits::VIA_TIPS)?,
            })
        };
        let via = (0..len).map(read).collect::<Result<_, EntryError>>()?;
        Ok(Self { key, via })
    }
}
