//! Making entries: [`Draft`], and what a child derives from its parents.

use std::collections::BTreeMap;

use bytes::Bytes;

use crate::dag::{self, Budget, Dag, DagError};
use crate::entry::{Inner, Payloads};
use crate::{
    Author, Entry, EntryError, Header, Height, Id, Ids, Signature, StoreName, StoreRef, limits,
};

/// What an author signs: the tag of entry signatures and the id.
pub type SigningMessage = [u8; SIGNING_TAG.len() + 32];

const SIGNING_TAG: &[u8; 18] = b"eidetica/entry/v1\0";

/// What deriving a child needs to know of a parent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ParentInfo {
    /// The parent's id.
    pub id: Id,
    /// Its height.
    pub height: Height,
    /// Whether it writes `_settings`.
    pub writes_settings: bool,
    /// Its settings pins.
    pub settings: Ids,
}

impl ParentInfo {
    /// What children need to know of an entry with this id and header.
    pub fn of(id: Id, header: &Header) -> Self {
        Self {
            id,
            height: header.height,
            writes_settings: header.writes_settings(),
            settings: header.settings.clone(),
        }
    }
}

impl From<&Entry> for ParentInfo {
    fn from(entry: &Entry) -> Self {
        Self::of(entry.id(), entry.header())
    }
}

/// 1 + the greatest parent height; [`Height::ROOT`] without parents.
pub fn derive_height(parents: &[ParentInfo]) -> Height {
    parents
        .iter()
        .map(|parent| parent.height.next())
        .max()
        .unwrap_or(Height::ROOT)
}

/// The settings pins of a child: the maximal elements of the union, over the parents, of the parent
/// itself if it writes `_settings`, else its own pins.
///
/// `dag` needs to know only the entries that write `_settings`; a graph whose edges are their settings
/// pins ([`Header::settings`]) gives the same answer as the whole history, faster. It is not asked
/// where all parents agree.
///
/// # Errors
/// What `dag` fails with, a settings entry it does not have, or an exhausted budget.
pub fn derive_settings<D: Dag>(
    parents: &[ParentInfo],
    dag: &D,
    budget: &mut Budget,
) -> Result<Ids, DagError<D::Error>> {
    let pins = parents
        .iter()
        .flat_map(|parent| match parent.writes_settings {
            true => std::slice::from_ref(&parent.id),
            false => parent.settings.as_slice(),
        });
    let pins: Ids = pins.copied().collect();
    let agreed = parents.iter().all(|parent| match parent.writes_settings {
        true => *pins == [parent.id],
        false => parent.settings == pins,
    });
    if agreed {
        return Ok(pins);
    }
    dag::maximal(dag, &pins, budget)
}

/// An entry that lacks only its signature.
#[derive(Clone)]
pub struct Draft {
    id: Id,
    header: Header,
    header_bytes: Bytes,
    payloads: Payloads,
}

impl Draft {
    /// The first entry of a new database. `nonce` is 32 random bytes, so that equal settings make
    /// different databases; `payloads` must contain `_settings`.
    ///
    /// # Errors
    /// Limits, or no `_settings`.
    pub fn root(
        nonce: [u8; 32],
        payloads: BTreeMap<StoreName, Bytes>,
        author: impl Into<Author>,
        timestamp_ms: Option<u64>,
    ) -> Result<Self, EntryError> {
        Self::build(
            Id::new(nonce),
            &[],
            Ids::new(),
            payloads,
            author.into(),
            timestamp_ms,
        )
    }

    /// A further entry. `settings` is what [`derive_settings`] says about `parents`.
    ///
    /// # Errors
    /// Limits, or no parents.
    pub fn child(
        database: Id,
        parents: &[ParentInfo],
        settings: impl Into<Ids>,
        payloads: BTreeMap<StoreName, Bytes>,
        author: impl Into<Author>,
        timestamp_ms: Option<u64>,
    ) -> Result<Self, EntryError> {
        if parents.is_empty() {
            return Err(EntryError::Shape("a child without parents"));
        }
        if let Some(high) = parents
            .iter()
            .find(|parent| parent.height.0 >= limits::HEIGHT)
        {
            return Err(EntryError::ParentHeight(high.id));
        }
        Self::build(
            database,
            parents,
            settings.into(),
            payloads,
            author.into(),
            timestamp_ms,
        )
    }

    fn build(
        database: Id,
        parents: &[ParentInfo],
        settings: Ids,
        payloads: BTreeMap<StoreName, Bytes>,
        author: Author,
        timestamp_ms: Option<u64>,
    ) -> Result<Self, EntryError> {
        EntryError::check_limit("stores", payloads.len(), limits::STORES)?;
        let stores = payloads
            .iter()
            .map(|(name, payload)| StoreRef::of(name.clone(), payload));
        let header = Header {
            version: Header::VERSION,
            database,
            parents: parents.iter().map(|parent| parent.id).collect(),
            height: derive_height(parents),
            settings,
            stores: stores.collect::<Result<_, _>>()?,
            author,
            timestamp_ms,
        };
        header.validate()?;
        let header_bytes = Bytes::from(header.encode());
        let payloads: Payloads = payloads.into_values().map(Some).collect();
        let draft = Self {
            id: Header::id_of(&header_bytes),
            header,
            header_bytes,
            payloads,
        };
        EntryError::check_limit("entry bytes", draft.encoded_len(), limits::ENTRY_BYTES)?;
        Ok(draft)
    }

    /// The id that the entry will have; a signature does not change it.
    pub fn id(&self) -> Id {
        self.id
    }

    /// The header.
    pub fn header(&self) -> &Header {
        &self.header
    }

    /// What a child needs to know of the entry.
    pub fn info(&self) -> ParentInfo {
        ParentInfo::of(self.id, &self.header)
    }

    /// Bytes of the entry that [`Draft::sign`] makes, encoded.
    pub fn encoded_len(&self) -> usize {
        let payloads = self.payloads.iter().flatten();
        let payload_bytes: usize = payloads.map(|payload| 9 + payload.len()).sum();
        self.header_bytes.len() + 64 + payload_bytes
    }

    /// The bytes to sign.
    pub fn signing_message(&self) -> SigningMessage {
        signing_message(&self.id)
    }

    /// Attaches a signature over [`Draft::signing_message`]. It is not verified here.
    pub fn sign(self, signature: Signature) -> Entry {
        let Self {
            id,
            header,
            header_bytes,
            payloads,
        } = self;
        Entry::from_inner(Inner {
            id,
            header,
            header_bytes,
            signature,
            payloads,
        })
    }
}

impl Entry {
    /// The bytes that the signature must cover.
    pub fn signing_message(&self) -> SigningMessage {
        signing_message(&self.id())
    }
}

fn signing_message(id: &Id) -> SigningMessage {
    let mut message = [0; SIGNING_TAG.len() + 32];
    let (tag, rest) = message.split_at_mut(SIGNING_TAG.len());
    tag.copy_from_slice(SIGNING_TAG);
    rest.copy_from_slice(id.as_bytes());
    message
}
