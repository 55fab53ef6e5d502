//! A replica small enough to be obviously right: entries in a map, whole difference computed at once.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    io::Read,
    sync::Arc,
};

use bytes::Bytes;
use eidetica_entry::{
    Draft, Entry, Id, ParentInfo, PublicKey, Signature, Stamp, StoreName,
    dag::{self, Budget, Node},
    pack,
    reconcile::{self, Contrast, Detail, Found, Span},
};
use eidetica_protocol::{
    Answer, Cursor, Frontier, IdPrefix, IngestBatch, IngestError, IngestReport, Lacking, PackPage,
    Parts, Query, Sketch, Stores, limits,
};

pub(crate) const PACK_ENTRIES: usize = 128;

pub(crate) fn author() -> PublicKey {
    PublicKey::new([7; 32])
}

/// Entries of one database. Signatures are not looked at: that is the database's affair.
#[derive(Clone, Debug)]
pub(crate) struct Replica {
    pub(crate) database: Id,
    entries: HashMap<Id, Entry>,
    dag: HashMap<Id, Node>,
    arrivals: Vec<Id>,
    stamps: BTreeSet<Stamp>,
    tips: BTreeSet<Stamp>,
    waiting: Vec<Entry>,
}

fn payload(store: &str, bytes: Vec<u8>) -> BTreeMap<StoreName, Bytes> {
    let name = if store == "_settings" {
        StoreName::settings()
    } else {
        StoreName::new(store).unwrap()
    };
    BTreeMap::from([(name, Bytes::from(bytes))])
}

/// What stands under an entry that nobody signed.
pub(crate) fn forged() -> Signature {
    Signature::new([9; 64])
}

pub(crate) fn root(seed: u8) -> Entry {
    let draft = Draft::root([seed; 32], payload("_settings", vec![seed]), author(), None).unwrap();
    draft.sign(Signature::new([0; 64]))
}

impl Replica {
    pub(crate) fn empty(database: Id) -> Self {
        let (entries, dag) = (HashMap::new(), HashMap::new());
        Self {
            database,
            entries,
            dag,
            arrivals: Vec::new(),
            stamps: BTreeSet::new(),
            tips: BTreeSet::new(),
            waiting: Vec::new(),
        }
    }

    pub(crate) fn new(seed: u8) -> Self {
        let root = root(seed);
        let mut replica = Self::empty(root.id());
        replica.insert(&root);
        replica
    }

    pub(crate) fn len(&self) -> usize {
        self.entries.len()
    }

    pub(crate) fn tips(&self) -> Vec<Stamp> {
        self.tips.iter().copied().collect()
    }

    pub(crate) fn ids(&self) -> BTreeSet<Id> {
        self.entries.keys().copied().collect()
    }

    pub(crate) fn has(&self, id: &Id) -> bool {
        self.entries.contains_key(id)
    }

    pub(crate) fn entry(&self, id: &Id) -> &Entry {
        &self.entries[id]
    }

    /// A new entry on these parents.
    pub(crate) fn commit_on(&mut self, parents: &[Id], note: &[u8]) -> Id {
        let infos: Vec<ParentInfo> = parents
            .iter()
            .map(|id| ParentInfo::from(&self.entries[id]))
            .collect();
        let draft = Draft::child(
            self.database,
            &infos,
            self.database,
            payload("notes", note.to_vec()),
            author(),
            None,
        )
        .unwrap();
        let entry = draft.sign(Signature::new([0; 64]));
        assert!(self.insert(&entry));
        entry.id()
    }

    /// `count` new entries in a chain, on top of everything.
    pub(crate) fn commit(&mut self, count: usize, note: &str) {
        for i in 0..count {
            let parents: Vec<Id> = self.tips.iter().rev().take(64).map(|tip| tip.id).collect();
            self.commit_on(&parents, format!("{note} {i}").as_bytes());
        }
    }

    /// Takes an entry whose parents are here; returns whether it was new.
    pub(crate) fn insert(&mut self, entry: &Entry) -> bool {
        let parents = &entry.header().parents;
        assert!(parents.iter().all(|parent| self.has(parent)));
        if self.has(&entry.id()) {
            return false;
        }
        for parent in parents {
            self.tips.retain(|tip| tip.id != *parent);
        }
        self.tips.insert(entry.stamp());
        self.dag.insert(
            entry.id(),
            Node {
                height: entry.header().height,
                parents: parents.clone(),
            },
        );
        self.arrivals.push(entry.id());
        self.stamps.insert(entry.stamp());
        self.entries.insert(entry.id(), entry.clone());
        true
    }

    fn ingest(&mut self, batch: &IngestBatch) -> Result<IngestReport, IngestError> {
        let mut report = IngestReport::default();
        for pack in &batch.packs {
            let entries = pack::decode(pack, &pack::Limits::default())
                .map_err(|error| IngestError::Malformed(error.to_string()))?;
            for entry in entries {
                if entry.database() != self.database {
                    return Err(IngestError::Malformed("another database".into()));
                }
                if *entry.signature() == forged() {
                    report.rejected.push(entry.id());
                } else if self.has(&entry.id()) {
                    report.known += 1;
                    report.filled += self.fill(&entry);
                } else if entry.header().parents.iter().all(|parent| self.has(parent)) {
                    self.insert(&entry);
                    report.new += 1;
                } else {
                    self.waiting.push(entry);
                }
            }
        }
        report.new += self.settle();
        report.pending = self.waiting.len() as u64;
        Ok(report)
    }

    fn fill(&mut self, entry: &Entry) -> u64 {
        let here = self.entries.get_mut(&entry.id()).unwrap();
        let fills = !here.is_complete() && entry.is_complete();
        if fills {
            *here = entry.clone();
        }
        u64::from(fills)
    }

    /// Forgets the payloads of some entries, by their place in the order of arrival.
    pub(crate) fn strip(&mut self, is_stripped: impl Fn(usize) -> bool) {
        for (_, id) in (0..).zip(&self.arrivals).filter(|(at, _)| is_stripped(*at)) {
            let entry = self.entries.get_mut(id).unwrap();
            *entry = entry.without_data();
        }
    }

    /// As those see it who hold these stores.
    fn only(&self, stores: &Stores) -> Self {
        let mut replica = self.clone();
        let Some(some) = stores.some() else {
            return replica;
        };
        let is_kept = |name: &StoreName| name.is_settings() || some.contains(name);
        for entry in replica.entries.values_mut() {
            *entry = entry.with_payloads_of(is_kept);
        }
        replica
    }

    /// Whether it has any payload.
    fn has_data(&self) -> bool {
        let payloads = self.entries.values().flat_map(Entry::payloads);
        let mut data = payloads.filter(|(store, _)| !store.is_settings());
        data.any(|(_, payload)| payload.is_some())
    }

    /// How many entries lack their payload.
    pub(crate) fn lacking(&self) -> usize {
        let entries = self.entries.values();
        entries.filter(|entry| !entry.is_complete()).count()
    }

    fn lacks_from(&self, from: usize, limit: usize) -> Lacking {
        let arrivals = (0..).zip(&self.arrivals).skip(from);
        let lacking = arrivals.filter(|(_, id)| !self.entries[id].is_complete());
        let lacking: Vec<(u64, &Id)> = lacking.collect();
        let ids = lacking.iter().take(limit).map(|(_, id)| IdPrefix::of(id));
        Lacking {
            ids: ids.collect(),
            stores: Stores::these([StoreName::new("notes").unwrap()]),
            next: lacking.get(limit).map(|(at, _)| *at),
        }
    }

    fn settle(&mut self) -> u64 {
        let mut settled = 0;
        loop {
            let waiting = std::mem::take(&mut self.waiting);
            let before = waiting.len();
            for entry in waiting {
                if entry.header().parents.iter().all(|parent| self.has(parent)) {
                    settled += u64::from(self.insert(&entry));
                } else {
                    self.waiting.push(entry);
                }
            }
            if self.waiting.len() == before {
                return settled;
            }
        }
    }

    /// All stamps, ascending.
    pub(crate) fn stamps(&self) -> Vec<Stamp> {
        self.stamps.iter().copied().collect()
    }

    fn describe(&self, since: &[Id], spans: &[(Span, Detail)]) -> Sketch {
        if let Some(since) = self.since(since) {
            return Sketch::Since(since);
        }
        let stamps = self.stamps();
        let (mut parts, mut room) = (Vec::new(), Sketch::ROOM);
        for (span, detail) in spans {
            let mut source = stamps.as_slice();
            let Ok(()) = reconcile::describe(&mut source, *span, *detail, &mut room, &mut parts);
        }
        Sketch::Parts(Parts::new(&parts))
    }

    /// What is beyond these, if they are here and it is not much.
    fn since(&self, common: &[Id]) -> Option<Vec<Id>> {
        if common.is_empty() || !common.iter().all(|id| self.has(id)) {
            return None;
        }
        let tips: Vec<Id> = self.tips.iter().map(|tip| tip.id).collect();
        let mut budget = Budget::new(limits::SINCE_STEPS);
        let since = dag::difference(&self.dag, &tips, common, &mut budget).ok()?;
        let since = Some(since).filter(|since| since.len() <= limits::SKETCH_IDS)?;
        Some(since.into_iter().map(|stamp| stamp.id).collect())
    }

    fn contrast(&self, common: &[Id], theirs: &Sketch, limit: usize) -> Option<Contrast> {
        match theirs {
            Sketch::Parts(parts) => {
                let stamps = self.stamps();
                let parts = parts.parts().unwrap();
                let Ok(mut contrast) = reconcile::contrast(&mut stamps.as_slice(), &parts, limit);
                for found in &mut contrast.found {
                    found.theirs.retain(|id| !self.has(id));
                }
                Some(contrast)
            }
            Sketch::Since(theirs) => {
                let ours = self.since(common)?;
                let found = Found {
                    span: Span::ALL,
                    theirs: theirs.iter().filter(|id| !self.has(id)).copied().collect(),
                    ours: ours.into_iter().filter(|id| !theirs.contains(id)).collect(),
                    more: false,
                };
                let open = Vec::new();
                Some(Contrast {
                    open,
                    found: vec![found],
                })
            }
        }
    }

    /// Those whose ids begin like this, parents first.
    fn selected(&self, prefixes: &[IdPrefix]) -> Vec<Id> {
        let wanted: BTreeSet<IdPrefix> = prefixes.iter().copied().collect();
        let arrivals = self.arrivals.iter();
        arrivals
            .filter(|id| wanted.contains(&IdPrefix::of(id)))
            .copied()
            .collect()
    }

    /// What is to be sent, then page by page.
    fn packs(
        &self,
        all: impl FnOnce(&Self) -> Vec<Id>,
        cursor: Option<&Cursor>,
        budget: usize,
    ) -> PackPage {
        let (ids, tips, mut at) = match cursor {
            Some(cursor) => cursor
                .get::<(Arc<Vec<Id>>, Vec<Stamp>, usize)>()
                .unwrap()
                .clone(),
            None => (Arc::new(all(self)), self.tips(), 0),
        };
        let (mut packs, mut bytes) = (Vec::new(), 0);
        while at < ids.len() && bytes < budget {
            let end = ids.len().min(at + PACK_ENTRIES);
            let entries: Vec<Entry> = ids[at..end]
                .iter()
                .map(|id| self.entries[id].clone())
                .collect();
            let pack = pack::encode(&entries).unwrap();
            bytes += pack.len();
            packs.push(pack);
            at = end;
        }
        let next = (at < ids.len()).then(|| Cursor::new((ids, tips.clone(), at)));
        PackPage { packs, next, tips }
    }

    pub(crate) fn missing(&self, not: &[Id]) -> Vec<Id> {
        if not.is_empty() {
            return self.arrivals.clone();
        }
        let tips: Vec<Id> = self.tips.iter().map(|tip| tip.id).collect();
        self.between(&tips, not)
    }

    /// What is in the past of the ones and not in that of the others.
    pub(crate) fn between(&self, from: &[Id], not: &[Id]) -> Vec<Id> {
        let found = dag::difference(&self.dag, from, not, &mut Budget::new(u64::MAX)).unwrap();
        found.into_iter().map(|stamp| stamp.id).collect()
    }
}

/// One side of a sync: a database or none, and who may read it.
#[derive(Clone, Debug)]
pub(crate) struct Store {
    pub(crate) replica: Option<Replica>,
    /// None: everybody may read.
    pub(crate) readers: Option<BTreeSet<PublicKey>>,
    /// How many more times access is given.
    pub(crate) accesses: usize,
    /// The stores whose payloads it holds.
    pub(crate) holds: Stores,
    /// Whether some of what it lacks was here before.
    pub(crate) damaged: bool,
    /// Whether there is no room for anything more.
    pub(crate) full: bool,
    /// The place that is chosen by chance.
    pub(crate) somewhere: u64,
    pub(crate) queries: Vec<&'static str>,
}

impl Store {
    pub(crate) fn new(replica: Replica) -> Self {
        Self {
            replica: Some(replica),
            ..Self::without()
        }
    }

    pub(crate) fn without() -> Self {
        Self {
            replica: None,
            readers: None,
            accesses: usize::MAX,
            holds: Stores::All,
            damaged: false,
            full: false,
            somewhere: 0,
            queries: Vec::new(),
        }
    }

    pub(crate) fn get(&self) -> &Replica {
        self.replica.as_ref().unwrap()
    }

    pub(crate) fn get_mut(&mut self) -> &mut Replica {
        self.replica.as_mut().unwrap()
    }

    fn of(&self, database: &Id) -> Option<&Replica> {
        self.replica
            .as_ref()
            .filter(|replica| replica.database == *database)
    }

    pub(crate) fn answer(&mut self, query: &Query) -> Answer {
        self.queries.push(name(query));
        match query {
            Query::CanRead { database, keys } => {
                let here = self.of(database).is_some();
                let may = self
                    .readers
                    .as_ref()
                    .is_none_or(|readers| keys.iter().any(|key| readers.contains(key)));
                let left = self.accesses > 0;
                self.accesses = self.accesses.saturating_sub(1);
                Answer::Access(here && may && left)
            }
            Query::Tips { database } => Answer::Tips(self.of(database).map(|replica| Frontier {
                holds: self.holds.clone(),
                damaged: self.damaged,
                lacks: self.holds.is_all() && replica.lacking() > 0,
                offers: match replica.has_data() {
                    true => Stores::All,
                    false => self.holds.clone(),
                },
                ..replica.tips().into()
            })),
            Query::Holds { .. } => Answer::Holds(self.holds.clone()),
            Query::Lacking { .. } if !self.holds.is_all() => Answer::Lacking(Lacking::default()),
            Query::Lacking {
                database,
                from,
                limit,
                ..
            } => {
                let from = from.unwrap_or(self.somewhere) as usize;
                Answer::Lacking(self.of(database).unwrap().lacks_from(from, *limit))
            }
            Query::Payloads {
                database,
                ids,
                cursor,
                budget_bytes,
                ..
            } => Answer::Packs(self.of(database).unwrap().packs(
                |replica| {
                    let mut ids = replica.selected(ids);
                    ids.retain(|id| replica.entries[id].is_complete());
                    ids
                },
                cursor.as_ref(),
                *budget_bytes,
            )),
            Query::Known { database, ids } => {
                let known = |id| self.of(database).is_some_and(|replica| replica.has(id));
                Answer::Known(ids.iter().map(known).collect())
            }
            Query::Describe {
                database,
                since,
                spans,
            } => Answer::Sketch(self.of(database).unwrap().describe(since, spans)),
            Query::Contrast {
                database,
                common,
                theirs,
                limit,
            } => Answer::Contrast(self.of(database).unwrap().contrast(common, theirs, *limit)),
            Query::Selected {
                database,
                ids,
                cursor,
                budget_bytes,
                ..
            } => Answer::Packs(self.of(database).unwrap().packs(
                |replica| replica.selected(ids),
                cursor.as_ref(),
                *budget_bytes,
            )),
            Query::Difference {
                database,
                not,
                stores,
                cursor,
                budget_bytes,
                ..
            } => Answer::Packs(self.of(database).unwrap().only(stores).packs(
                |replica| replica.missing(not),
                cursor.as_ref(),
                *budget_bytes,
            )),
            Query::Void { .. } => Answer::Void(Vec::new()),
            Query::VoidPacks { .. } => Answer::Packs(PackPage {
                packs: Vec::new(),
                next: None,
                tips: Vec::new(),
            }),
            query => panic!("no answer for {query:?}"),
        }
    }

    pub(crate) fn ingest(&mut self, batch: &IngestBatch) -> Result<IngestReport, IngestError> {
        if self.full {
            return Err(IngestError::Unavailable("no room".into()));
        }
        if self.replica.is_none() && batch.create {
            self.replica = Some(Replica::empty(batch.database));
            let first = &pack::decode(&batch.packs[0], &pack::Limits::default()).unwrap()[0];
            assert_eq!(
                first.id(),
                batch.database,
                "a database begins with its root"
            );
            self.get_mut().insert(first);
        }
        match &mut self.replica {
            Some(replica) if replica.database == batch.database => replica.ingest(batch),
            _ => Err(IngestError::Unavailable("not here".into())),
        }
    }
}

fn name(query: &Query) -> &'static str {
    match query {
        Query::CanRead { .. } => "can read",
        Query::Tips { .. } => "tips",
        Query::Known { .. } => "known",
        Query::Describe { .. } => "describe",
        Query::Contrast { .. } => "contrast",
        Query::Selected { .. } => "selected",
        Query::Difference { .. } => "difference",
        _ => "other",
    }
}

/// The shape of a real history: (author, parents) by node.
pub(crate) fn real_dag() -> Vec<Vec<usize>> {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../../data/dag-redis.tsv.gz");
    let mut text = String::new();
    flate2::read::GzDecoder::new(std::fs::File::open(path).unwrap())
        .read_to_string(&mut text)
        .unwrap();
    let rows = text.lines().filter(|line| !line.starts_with('#'));
    let parents = |row: &str| {
        let field = row.split('\t').nth(4).unwrap_or("");
        field
            .split(',')
            .filter(|text| !text.is_empty())
            .map(|text| text.parse().unwrap())
            .collect()
    };
    rows.map(parents).collect()
}

/// The entries of that history, all in one replica, by node.
pub(crate) fn real_history() -> (Replica, Vec<Id>) {
    let mut replica = Replica::new(1);
    let mut ids: Vec<Id> = Vec::new();
    for (node, parents) in real_dag().into_iter().enumerate() {
        let mut parents: Vec<Id> = parents.into_iter().map(|parent| ids[parent]).collect();
        if parents.is_empty() {
            parents.push(replica.database);
        }
        ids.push(replica.commit_on(&parents, &node.to_le_bytes()));
    }
    (replica, ids)
}
