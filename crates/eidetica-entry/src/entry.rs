//! [`Entry`]: a header, its signature, and the payloads that are here.

use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::Bytes;
use smallvec::SmallVec;

use crate::codec::{Reader, Writer};
use crate::{EntryError, Header, Id, PayloadHash, Signature, Stamp, StoreName, limits};

/// Present payloads, in the order of the header's stores.
pub(crate) type Payloads = SmallVec<[Option<Bytes>; 1]>;

/// An immutable, content-addressed entry. Cloning shares it.
///
/// Whoever holds an `Entry` knows: the header is valid, the id is its hash, and every present payload
/// matches its commitment. Nothing is known about the signature, the parents or any right.
///
/// An entry out of a pack shares the pack's buffers; see [`Entry::compact`].
#[derive(Clone)]
pub struct Entry(Arc<Inner>);

pub(crate) struct Inner {
    pub(crate) id: Id,
    pub(crate) header: Header,
    pub(crate) header_bytes: Bytes,
    pub(crate) signature: Signature,
    pub(crate) payloads: Payloads,
}

impl Entry {
    /// Puts an entry together. Stores of the header may be missing from `payloads`.
    ///
    /// # Errors
    /// An invalid header, a payload that does not match its commitment or has none, an entry beyond
    /// [`limits::ENTRY_BYTES`].
    pub fn new(
        header: Header,
        signature: Signature,
        payloads: BTreeMap<StoreName, Bytes>,
    ) -> Result<Self, EntryError> {
        header.validate()?;
        let payloads = match_payloads(&header, payloads)?;
        let header_bytes = Bytes::from(header.encode());
        let entry = Self::assemble(header, header_bytes, signature, payloads);
        EntryError::check_limit("entry bytes", entry.encoded_len(), limits::ENTRY_BYTES)?;
        Ok(entry)
    }

    /// Hashes the header; everything else has been checked.
    fn assemble(
        header: Header,
        header_bytes: Bytes,
        signature: Signature,
        payloads: Payloads,
    ) -> Self {
        let id = Header::id_of(&header_bytes);
        Self::from_inner(Inner {
            id,
            header,
            header_bytes,
            signature,
            payloads,
        })
    }

    /// All invariants are the caller's.
    pub(crate) fn from_inner(inner: Inner) -> Self {
        Self(Arc::new(inner))
    }

    /// The id.
    pub fn id(&self) -> Id {
        self.0.id
    }

    /// The header.
    pub fn header(&self) -> &Header {
        &self.0.header
    }

    /// The canonical header bytes, which the id is the hash of.
    pub fn header_bytes(&self) -> &Bytes {
        &self.0.header_bytes
    }

    /// The signature, as received.
    pub fn signature(&self) -> &Signature {
        &self.0.signature
    }

    /// Height and id.
    pub fn stamp(&self) -> Stamp {
        Stamp::new(self.0.header.height, self.0.id)
    }

    /// The id of the database: a root's own id, else what the header says.
    pub fn database(&self) -> Id {
        match self.0.header.is_root() {
            true => self.0.id,
            false => self.0.header.database,
        }
    }

    /// The payload for one store, if the header names the store and the payload is here.
    pub fn payload(&self, store: &StoreName) -> Option<&Bytes> {
        let index = self.0.header.store_index(store)?;
        self.0.payloads.get(index)?.as_ref()
    }

    /// Every store of the header with its payload, if that is here.
    pub fn payloads(&self) -> impl Iterator<Item = (&StoreName, Option<&Bytes>)> {
        let names = self.0.header.stores.iter().map(|store| &store.name);
        names.zip(self.0.payloads.iter().map(Option::as_ref))
    }

    /// Whether every payload is here.
    pub fn is_complete(&self) -> bool {
        self.0.payloads.iter().all(Option::is_some)
    }

    /// The same entry in buffers of its own. Entries decoded from one pack share the pack's buffers, so
    /// one of them keeps all of those alive; whoever keeps few of many for long keeps compact ones.
    pub fn compact(&self) -> Self {
        let payloads = self.0.payloads.iter();
        Self::from_inner(Inner {
            id: self.0.id,
            header: self.0.header.clone(),
            header_bytes: Bytes::copy_from_slice(&self.0.header_bytes),
            signature: self.0.signature,
            payloads: payloads
                .map(|p| p.as_ref().map(|p| Bytes::copy_from_slice(p)))
                .collect(),
        })
    }

    /// The same entry without the payload for `store`; a no-op where there is none.
    pub fn without_payload(&self, store: &StoreName) -> Self {
        self.with_payloads_of(|name| name != store)
    }

    /// The same entry with no payload but that for `_settings`: what authority is judged by.
    pub fn without_data(&self) -> Self {
        self.with_payloads_of(StoreName::is_settings)
    }

    /// The same entry with the payloads it has for some stores.
    pub fn with_payloads_of(&self, keep: impl Fn(&StoreName) -> bool) -> Self {
        let mut payloads = self.0.payloads.clone();
        for (store, payload) in self.0.header.stores.iter().zip(&mut payloads) {
            if !keep(&store.name) {
                *payload = None;
            }
        }
        Self::from_inner(Inner {
            id: self.0.id,
            header: self.0.header.clone(),
            header_bytes: self.0.header_bytes.clone(),
            signature: self.0.signature,
            payloads,
        })
    }

    /// The same entry with the payloads that either has; a no-op for another entry's.
    pub fn joined(&self, other: &Self) -> Self {
        if self.id() != other.id() {
            return self.clone();
        }
        // Both match the same commitments.
        let both = self.0.payloads.iter().zip(&other.0.payloads);
        let payloads = both.map(|(own, more)| own.as_ref().or(more.as_ref()).cloned());
        Self::from_inner(Inner {
            id: self.0.id,
            header: self.0.header.clone(),
            header_bytes: self.0.header_bytes.clone(),
            signature: self.0.signature,
            payloads: payloads.collect(),
        })
    }

    /// The length of [`Entry::encode`].
    pub fn encoded_len(&self) -> usize {
        let payloads = self.0.payloads.iter();
        let payload_bytes: usize = payloads
            .map(|p| p.as_ref().map_or(1, |p| 9 + p.len()))
            .sum();
        self.0.header_bytes.len() + 64 + payload_bytes
    }

    /// The canonical bytes of this entry alone: header, signature, and each payload or its absence.
    pub fn encode(&self) -> Vec<u8> {
        let mut writer = Writer(Vec::with_capacity(self.encoded_len()));
        writer.raw(&self.0.header_bytes);
        writer.raw(self.0.signature.as_bytes());
        for payload in &self.0.payloads {
            writer.put(u8::from(payload.is_some()));
            if let Some(payload) = payload {
                writer.bytes(payload);
            }
        }
        writer.0
    }

    /// Reads canonical bytes, into buffers of the entry's own.
    ///
    /// # Errors
    /// Anything that is not the one encoding of a valid entry.
    pub fn decode(bytes: &[u8]) -> Result<Self, EntryError> {
        EntryError::check_limit("entry bytes", bytes.len(), limits::ENTRY_BYTES)?;
        let mut reader = Reader::new(bytes);
        let header = Header::read(&mut reader)?;
        let signature = Signature::new(reader.get("signature")?);
        let payloads = read_payloads(&header, &mut reader)?;
        reader.end()?;
        let header_bytes = Bytes::from(header.encode());
        let entry = Self::assemble(header, header_bytes, signature, payloads);
        if entry.encode() != bytes {
            return Err(EntryError::NotCanonical);
        }
        Ok(entry)
    }
}

fn match_payloads(
    header: &Header,
    mut payloads: BTreeMap<StoreName, Bytes>,
) -> Result<Payloads, EntryError> {
    let stores = header.stores.iter();
    let matched = stores.map(|store| {
        let payload = payloads.remove(&store.name);
        let matches = payload.as_ref().is_none_or(|payload| {
            payload.len() == store.payload_len as usize
                && PayloadHash::of(payload) == store.payload_hash
        });
        matches
            .then_some(payload)
            .ok_or_else(|| EntryError::Payload {
                store: store.name.clone(),
            })
    });
    let matched = matched.collect::<Result<_, _>>()?;
    match payloads.pop_first() {
        Some((store, _)) => Err(EntryError::UnknownStore { store }),
        None => Ok(matched),
    }
}

fn read_payloads(header: &Header, reader: &mut Reader<'_>) -> Result<Payloads, EntryError> {
    let stores = header.stores.iter();
    let read = stores.map(|store| {
        if !reader.tag("payload")? {
            return Ok(None);
        }
        let payload = reader.bytes("payload bytes", store.payload_len as usize)?;
        if payload.len() != store.payload_len as usize
            || PayloadHash::of(payload) != store.payload_hash
        {
            return Err(EntryError::Payload {
                store: store.name.clone(),
            });
        }
        Ok(Some(Bytes::copy_from_slice(payload)))
    });
    read.collect()
}

impl PartialEq for Entry {
    /// Entries are equal if ids, signatures and present payloads are.
    fn eq(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.0, &other.0)
            || (self.0.id == other.0.id
                && self.0.signature == other.0.signature
                && self.0.payloads == other.0.payloads)
    }
}

impl Eq for Entry {}

impl core::fmt::Debug for Entry {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.debug_struct("Entry")
            .field("id", &self.0.id)
            .field("header", &self.0.header)
            .finish_non_exhaustive()
    }
}
