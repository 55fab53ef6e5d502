//! What is known of pairs of a peer and a database, found by either.

use std::collections::{BTreeMap, BTreeSet};

use eidetica_entry::{Id, PublicKey};

/// A value for each of some pairs.
#[derive(Debug)]
pub(crate) struct Pairs<V> {
    all: BTreeMap<(PublicKey, Id), V>,
    by_database: BTreeSet<(Id, PublicKey)>,
}

impl<V> Default for Pairs<V> {
    fn default() -> Self {
        Self {
            all: BTreeMap::new(),
            by_database: BTreeSet::new(),
        }
    }
}

impl<V> Pairs<V> {
    pub(crate) fn len(&self) -> usize {
        self.all.len()
    }

    pub(crate) fn get(&self, pair: &(PublicKey, Id)) -> Option<&V> {
        self.all.get(pair)
    }

    pub(crate) fn get_mut(&mut self, pair: &(PublicKey, Id)) -> Option<&mut V> {
        self.all.get_mut(pair)
    }

    pub(crate) fn remove(&mut self, pair: &(PublicKey, Id)) -> Option<V> {
        self.by_database.remove(&(pair.1, pair.0));
        self.all.remove(pair)
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = (&(PublicKey, Id), &V)> {
        self.all.iter()
    }

    pub(crate) fn values_mut(&mut self) -> impl Iterator<Item = &mut V> {
        self.all.values_mut()
    }

    /// Those of a peer, by database.
    pub(crate) fn of_peer(&self, peer: &PublicKey) -> impl Iterator<Item = (&Id, &V)> {
        let range = (*peer, FIRST_ID)..=(*peer, LAST_ID);
        let all = self.all.range(range);
        all.map(|((_, database), value)| (database, value))
    }

    /// The peers that there is something of with a database.
    pub(crate) fn peers_of(&self, database: &Id) -> impl Iterator<Item = &PublicKey> {
        let range = (*database, FIRST_KEY)..=(*database, LAST_KEY);
        self.by_database.range(range).map(|(_, peer)| peer)
    }

    /// Takes out those of a peer.
    pub(crate) fn take_peer(&mut self, peer: &PublicKey) -> Vec<(PublicKey, Id)> {
        let gone = self.of_peer(peer).map(|(database, _)| (*peer, *database));
        self.take(gone.collect())
    }

    /// Takes out those of a database.
    pub(crate) fn take_database(&mut self, database: &Id) -> Vec<(PublicKey, Id)> {
        let gone = self.peers_of(database).map(|peer| (*peer, *database));
        self.take(gone.collect())
    }

    fn take(&mut self, gone: Vec<(PublicKey, Id)>) -> Vec<(PublicKey, Id)> {
        for pair in &gone {
            self.remove(pair);
        }
        gone
    }

    pub(crate) fn clear(&mut self) {
        *self = Self::default();
    }
}

impl<V: Default> Pairs<V> {
    /// That of a pair, which is there from now on.
    pub(crate) fn or_default(&mut self, pair: (PublicKey, Id)) -> &mut V {
        self.by_database.insert((pair.1, pair.0));
        self.all.entry(pair).or_default()
    }
}

const FIRST_ID: Id = Id::new([0; 32]);
const LAST_ID: Id = Id::new([0xff; 32]);
const FIRST_KEY: PublicKey = PublicKey::new([0; 32]);
const LAST_KEY: PublicKey = PublicKey::new([0xff; 32]);
