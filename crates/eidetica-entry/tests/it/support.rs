//! Generators and histories that several tests share.

use std::collections::{BTreeMap, HashMap};
use std::io::Read;

use bytes::Bytes;
use eidetica_entry::{
    Author, Draft, Entry, Header, Height, Id, Ids, ParentInfo, PayloadHash, PublicKey, Signature,
    StoreName, StoreRef, Via, dag,
};
use proptest::collection::{btree_map, btree_set, vec};
use proptest::prelude::*;

pub(crate) fn name(text: &str) -> StoreName {
    StoreName::new(text).unwrap()
}

pub(crate) fn id(n: u64) -> Id {
    let mut bytes = [0; 32];
    bytes[..8].copy_from_slice(&n.to_be_bytes());
    Id::new(bytes)
}

pub(crate) fn key(n: u64) -> PublicKey {
    PublicKey::new(id(n).to_bytes())
}

pub(crate) fn signature(n: u64) -> Signature {
    let mut bytes = [0; 64];
    blake3::Hasher::new()
        .update(&n.to_le_bytes())
        .finalize_xof()
        .fill(&mut bytes);
    Signature::new(bytes)
}

pub(crate) fn payloads<const N: usize>(stores: [(&str, &[u8]); N]) -> BTreeMap<StoreName, Bytes> {
    stores
        .into_iter()
        .map(|(store, payload)| (name(store), Bytes::copy_from_slice(payload)))
        .collect()
}

/// A root with a settings payload, by author 0.
pub(crate) fn root(nonce: u64) -> Entry {
    let payloads = payloads([("_settings", b"settings")]);
    Draft::root(id(nonce).to_bytes(), payloads, key(0), Some(1_000))
        .unwrap()
        .sign(signature(nonce))
}

/// A history that grows by honest entries.
pub(crate) struct History {
    pub(crate) entries: Vec<Entry>,
    pub(crate) infos: HashMap<Id, ParentInfo>,
    /// The graph of settings entries alone, with settings pins as edges.
    pub(crate) settings: HashMap<Id, dag::Node>,
    pub(crate) database: Id,
}

impl History {
    pub(crate) fn new() -> Self {
        let root = root(7);
        let mut history = Self {
            entries: Vec::new(),
            infos: HashMap::new(),
            settings: HashMap::new(),
            database: root.id(),
        };
        history.note(root);
        history
    }

    fn note(&mut self, entry: Entry) -> Id {
        let info = ParentInfo::from(&entry);
        if info.writes_settings {
            let node = dag::Node {
                height: info.height,
                parents: info.settings.clone(),
            };
            self.settings.insert(info.id, node);
        }
        self.infos.insert(entry.id(), info);
        self.entries.push(entry);
        self.entries.last().unwrap().id()
    }

    pub(crate) fn add(
        &mut self,
        parents: &[Id],
        stores: BTreeMap<StoreName, Bytes>,
        author: u64,
        time_ms: u64,
    ) -> Id {
        let infos: Vec<ParentInfo> = parents.iter().map(|id| self.infos[id].clone()).collect();
        let settings =
            eidetica_entry::derive_settings(&infos, &self.settings, &mut dag::Budget::unlimited())
                .unwrap();
        let draft = Draft::child(
            self.database,
            &infos,
            settings,
            stores,
            key(author),
            Some(time_ms),
        )
        .unwrap();
        let sig = signature(self.entries.len() as u64);
        self.note(draft.sign(sig))
    }

    pub(crate) fn dag(&self) -> HashMap<Id, dag::Node> {
        let nodes = self.entries.iter().map(|entry| {
            let header = entry.header();
            (
                entry.id(),
                dag::Node {
                    height: header.height,
                    parents: header.parents.clone(),
                },
            )
        });
        nodes.collect()
    }
}

/// The real history as entries, with one root before its three. Every 97th entry writes settings.
pub(crate) fn real_history() -> History {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../../data/dag-redis.tsv.gz");
    let mut text = String::new();
    flate2::read::GzDecoder::new(std::fs::File::open(path).unwrap())
        .read_to_string(&mut text)
        .unwrap();
    let mut history = History::new();
    let mut ids: Vec<Id> = Vec::new();
    for (line_no, line) in text
        .lines()
        .filter(|line| !line.starts_with('#'))
        .enumerate()
    {
        let fields: Vec<&str> = line.split('\t').collect();
        let (author, seconds) = (
            fields[1].parse::<u64>().unwrap(),
            fields[2].parse::<u64>().unwrap(),
        );
        let payload = vec![b'x'; fields[3].parse().unwrap()];
        let parents: Vec<Id> = fields[4]
            .split(',')
            .filter(|p| !p.is_empty())
            .map(|p| ids[p.parse::<usize>().unwrap()])
            .collect();
        let parents = if parents.is_empty() {
            vec![history.database]
        } else {
            parents
        };
        let stores = match line_no % 97 {
            0 => payloads([("_settings", &payload)]),
            1 => payloads([("notes", &payload), ("tasks", b"done")]),
            _ => payloads([("notes", &payload)]),
        };
        ids.push(history.add(&parents, stores, author, seconds * 1000));
    }
    history
}

pub(crate) fn any_id() -> impl Strategy<Value = Id> {
    any::<[u8; 32]>().prop_map(Id::new)
}

fn any_ids(min: usize, max: usize) -> impl Strategy<Value = Ids> {
    btree_set(any_id(), min..=max).prop_map(Ids::from_iter)
}

fn any_author() -> impl Strategy<Value = Author> {
    let via = (any_id(), any_ids(1, 3)).prop_map(|(database, tips)| Via { database, tips });
    (any::<[u8; 32]>(), vec(via, 0..3)).prop_map(|(key, via)| Author {
        key: PublicKey::new(key),
        via,
    })
}

fn any_stores() -> impl Strategy<Value = BTreeMap<StoreName, (Vec<u8>, bool)>> {
    let name = "[a-z]{1,8}|_settings|[α-ω]{1,3}".prop_map(|name| StoreName::new(&name).unwrap());
    btree_map(name, (vec(any::<u8>(), 0..40), any::<bool>()), 1..4)
}

/// Any valid entry, honest or not, with some payloads left out.
pub(crate) fn any_entry() -> impl Strategy<Value = Entry> {
    let lineage = (any_id(), any_ids(0, 3), 1..u64::MAX / 2, any_ids(1, 3));
    (
        lineage,
        any_stores(),
        any_author(),
        any::<Option<u64>>(),
        any::<u64>(),
    )
        .prop_map(
            |((database, parents, height, settings), mut stores, author, timestamp_ms, seed)| {
                let is_root = parents.is_empty();
                if is_root {
                    stores.entry(StoreName::settings()).or_default();
                }
                let header = Header {
                    version: Header::VERSION,
                    database,
                    parents,
                    height: Height(if is_root { 0 } else { height }),
                    settings: if is_root { Ids::new() } else { settings },
                    stores: stores
                        .iter()
                        .map(|(name, (p, _))| StoreRef::of(name.clone(), p).unwrap())
                        .collect(),
                    author,
                    timestamp_ms,
                };
                let present = stores.into_iter().filter(|(_, (_, here))| *here);
                let present = present
                    .map(|(name, (payload, _))| (name, Bytes::from(payload)))
                    .collect();
                Entry::new(header, signature(seed), present).unwrap()
            },
        )
}

pub(crate) fn header_of(parents: usize, settings: usize, stores: usize) -> Header {
    Header {
        version: Header::VERSION,
        database: id(1),
        parents: (0..parents as u64).map(id).collect(),
        height: Height(5),
        settings: (0..settings as u64).map(id).collect(),
        stores: (0..stores)
            .map(|n| StoreRef {
                name: name(&format!("s{n:04}")),
                payload_hash: PayloadHash::of(b""),
                payload_len: 0,
            })
            .collect(),
        author: key(3).into(),
        timestamp_ms: None,
    }
}
