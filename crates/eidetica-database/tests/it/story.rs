//! Histories that somebody made without knowing what others did, and what replicas make of them.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use eidetica_auth::{AuthRecord, KeyName, Permission, Revocation, Right, SecretKey};
use eidetica_database::{Database, Databases, Error, NewDatabase, StateHash, Transaction};
use eidetica_entry::{Entry, Id, PublicKey, Stamp, pack};
use eidetica_testkit::Rng;

use crate::world::{ingest_entries, key};

/// Entries of one database, each after its parents. The first is the root.
pub(crate) struct Story {
    pub(crate) entries: Vec<Entry>,
}

/// What a replica shows.
#[derive(Debug, PartialEq)]
pub(crate) struct View {
    pub(crate) hash: StateHash,
    pub(crate) tips: Vec<Stamp>,
    pub(crate) void: BTreeSet<Id>,
    pub(crate) rights: BTreeMap<PublicKey, Option<Right>>,
}

pub(crate) fn memory(number: u8) -> Databases {
    crate::world::instance_on(Arc::new(eidetica_storage::MemoryEngine::new()), number)
}

pub(crate) fn revoke(who: u8) -> AuthRecord {
    AuthRecord::Revoke(Revocation::of(key(who).public()))
}

pub(crate) fn grant(who: u8, permission: Permission) -> AuthRecord {
    AuthRecord::grant(key(who).public(), permission, KeyName::default())
}

impl Story {
    /// Key 9 is the recovery key, 1 is `Admin(0)`, 2 and 3 are `Admin(1)`, 4 and 5 are `Write(1)`.
    pub(crate) fn new() -> Self {
        let recovery = AuthRecord::Grant {
            key: key(9).public(),
            right: Right::Recovery,
            name: KeyName::default(),
        };
        let records = vec![
            recovery,
            grant(1, Permission::Admin(0)),
            grant(2, Permission::Admin(1)),
            grant(3, Permission::Admin(1)),
            grant(4, Permission::Write(1)),
            grant(5, Permission::Write(1)),
        ];
        let new = NewDatabase {
            records,
            ..NewDatabase::default()
        };
        let databases = memory(1);
        let root = databases.create(new, key(1)).unwrap();
        let entries = root.history(None, 1).unwrap().entries;
        Self { entries }
    }

    pub(crate) fn id(&self) -> Id {
        self.entries[0].id()
    }

    /// The entries at or below some, in order.
    pub(crate) fn past(&self, at: &[usize]) -> Vec<Entry> {
        let mut ids: BTreeSet<Id> = at.iter().map(|n| self.entries[*n].id()).collect();
        for entry in self.entries.iter().rev() {
            if ids.contains(&entry.id()) {
                ids.extend(entry.header().parents.iter());
            }
        }
        let within = self
            .entries
            .iter()
            .filter(|entry| ids.contains(&entry.id()));
        within.cloned().collect()
    }

    /// Makes an entry on top of some others by somebody who knows nothing else.
    pub(crate) fn try_add(
        &mut self,
        at: &[usize],
        who: &Arc<SecretKey>,
        edit: impl FnOnce(&Transaction),
    ) -> Result<usize, Error> {
        let forge = memory(200 + (self.entries.len() % 50) as u8);
        ingest_entries(&forge, self.id(), &self.past(at));
        let db = forge.get(&self.id()).unwrap().with_key(Arc::clone(who));
        let ids: Vec<Id> = at.iter().map(|n| self.entries[*n].id()).collect();
        let transaction = db.new_transaction_at(&ids)?;
        edit(&transaction);
        let entry = transaction.commit()?.ok_or(Error::NoFrontier)?;
        self.entries.push(entry);
        Ok(self.entries.len() - 1)
    }

    pub(crate) fn write(&mut self, at: &[usize], who: u8, path: &str, value: i64) -> usize {
        let added = self.try_add(at, &key(who), |tx| {
            tx.doc("d").unwrap().set(path, value).unwrap();
        });
        added.unwrap()
    }

    pub(crate) fn say(&mut self, at: &[usize], who: u8, record: AuthRecord) -> usize {
        let added = self.try_add(at, &key(who), |tx| tx.settings().record(record));
        added.unwrap()
    }

    pub(crate) fn ids(&self, of: &[usize]) -> BTreeSet<Id> {
        of.iter().map(|n| self.entries[*n].id()).collect()
    }

    /// Takes the entries in, one after the other, in an order; the root first.
    pub(crate) fn deliver(&self, order: &[usize], to: &Databases) -> Database {
        ingest_entries(to, self.id(), &self.entries[..1]);
        for n in order {
            let packs = [pack::encode(&self.entries[*n..=*n]).unwrap()];
            let report = crate::world::ingest(to, self.id(), &packs);
            assert_eq!(report.rejected_count, 0, "{:?}", report.rejected);
        }
        to.get(&self.id()).unwrap()
    }

    /// All replicas, one for each order of delivery (of many entries, for some), show the same; what they
    /// show.
    pub(crate) fn told_in_all_orders(&self) -> View {
        let mut rng = Rng::new(self.entries.len() as u64);
        let mut orders = permutations((self.entries.len() - 1).min(4));
        if self.entries.len() > 5 {
            orders = std::iter::repeat_with(|| {
                let mut order: Vec<usize> = (0..self.entries.len() - 1).collect();
                shuffle(&mut order, &mut rng);
                order
            })
            .take(48)
            .collect();
        }
        let mut first: Option<View> = None;
        for order in orders {
            let order: Vec<usize> = order.iter().map(|n| n + 1).collect();
            let view = view(&self.deliver(&order, &memory(3)));
            match &first {
                Some(first) => assert_eq!(first, &view, "in the order {order:?}"),
                None => first = Some(view),
            }
        }
        first.unwrap()
    }

    /// The same in some random orders, and in packs of random sizes.
    pub(crate) fn told_in_some_orders(&self, rng: &mut Rng, count: usize) -> View {
        let mut first: Option<View> = None;
        for _ in 0..count {
            let mut order: Vec<usize> = (1..self.entries.len()).collect();
            shuffle(&mut order, rng);
            let to = memory(3);
            ingest_entries(&to, self.id(), &self.entries[..1]);
            let mut rest = order.as_slice();
            while !rest.is_empty() {
                let (now, later) = rest.split_at(1 + rng.below(rest.len()));
                let mut now = now.to_vec();
                // Parents come first within a pack.
                now.sort_unstable();
                let entries: Vec<Entry> = now.iter().map(|n| self.entries[*n].clone()).collect();
                let report = ingest_entries(&to, self.id(), &entries);
                assert_eq!(report.rejected_count, 0, "{:?}", report.rejected);
                rest = later;
            }
            let db = to.get(&self.id()).unwrap();
            let view = view(&db);
            match &first {
                Some(first) => assert_eq!(first, &view, "in the order {order:?}"),
                None => first = Some(view),
            }
        }
        first.unwrap()
    }
}

/// What a replica shows, which must hold against a computation from the entries alone.
pub(crate) fn view(db: &Database) -> View {
    let report = db.verify().unwrap();
    assert!(report.is_sound(), "{:?}", report.faults);
    let keys = (1..=9).map(|number| key(number).public());
    let authority = db.authority().unwrap();
    View {
        hash: db.state_hash().unwrap(),
        tips: db.tips().unwrap(),
        void: db.history(None, 1_000).unwrap().void.into_iter().collect(),
        rights: keys.map(|key| (key, authority.right_of(&key))).collect(),
    }
}

pub(crate) fn shuffle(order: &mut [usize], rng: &mut Rng) {
    for end in (1..order.len()).rev() {
        order.swap(end, rng.below(end + 1));
    }
}

fn permutations(len: usize) -> Vec<Vec<usize>> {
    let mut all = vec![Vec::new()];
    for next in 0..len {
        all = all
            .into_iter()
            .flat_map(|order: Vec<usize>| {
                (0..=order.len()).map(move |at| {
                    let mut order = order.clone();
                    order.insert(at, next);
                    order
                })
            })
            .collect();
    }
    all
}
