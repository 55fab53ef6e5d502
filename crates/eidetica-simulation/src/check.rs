//! What must hold at the end, and after every start of a node.

use eidetica_crdt::StoreKind;
use eidetica_database::{Database, Error, Holds, StateHash, limits};
use eidetica_entry::StoreName;

use crate::{
    net::NodeId,
    node::Node,
    world::{Seat, Shared, World},
};

impl World {
    /// What was acknowledged is there.
    pub(crate) fn check_owed(&mut self, at: NodeId) {
        let Seat::Honest(_, Some(node)) = &self.seats[at] else {
            return;
        };
        let lost = self.env.oracle.owed(at).iter().find(|(database, entry)| {
            match node.databases.known(database, &[*entry]) {
                Ok(known) => known != [true],
                // A disk that is about to fail may refuse to answer.
                Err(error) => matches!(error, Error::NoDatabase(_)),
            }
        });
        if let Some((database, entry)) = lost {
            let what = format!("the entry {entry} of {database} was acknowledged and is gone");
            self.env.broken(at, what);
        }
    }

    /// All that must hold after healing.
    pub(crate) fn check(&mut self) {
        for at in 0..self.seats.len() {
            self.check_owed(at);
            if self.env.oracle.violation().is_some() {
                return;
            }
            if let Some(what) = self.wrong_at(at) {
                self.env.broken(at, what);
            }
        }
        let wrong: Vec<_> = self
            .databases
            .iter()
            .filter_map(|shared| self.apart(shared))
            .collect();
        for (at, what) in wrong {
            self.env.broken(at, what);
        }
    }

    /// What is wrong with a node by itself.
    fn wrong_at(&self, at: NodeId) -> Option<String> {
        match &self.seats[at] {
            Seat::Rogue(rogue) => {
                let keys = rogue.keys();
                let stolen = rogue
                    .seen
                    .iter()
                    .find(|id| !self.env.oracle.may_know(id, &keys));
                stolen.map(|id| format!("got packs of {id}, which it never might read"))
            }
            Seat::Honest(_, None) => Some("does not start".to_owned()),
            Seat::Honest(home, Some(node)) => {
                let stolen = node
                    .databases
                    .list()
                    .unwrap()
                    .into_iter()
                    .find(|id| !self.env.oracle.may_know(id, &home.keys()));
                stolen
                    .map(|id| format!("has {id}, which it never might read"))
                    .or_else(|| unsound(node))
            }
        }
    }

    /// Who has something else of a database than its owner, although it may read it.
    fn apart(&self, shared: &Shared) -> Option<(NodeId, String)> {
        let owner = self.running(shared.owner)?;
        let theirs = owner.databases.get(&shared.id).unwrap();
        let tips = theirs.tips().unwrap();
        // Where all may be asked and none is a rogue, what somebody wrote is with its owner.
        let is_honest = self
            .seats
            .iter()
            .all(|seat| matches!(seat, Seat::Honest(..)));
        if is_honest
            && self.env.counts.revocations == 0
            && let Err(error) = theirs.state_hash()
        {
            return Some((shared.owner, format!("{} at its owner: {error}", shared.id)));
        }
        for at in &shared.members {
            let keys = self.home(*at).keys();
            let node = self.running(*at)?;
            if !owner.databases.can_read(&shared.id, &keys).unwrap() {
                continue;
            }
            let Some(here) = node.databases.find(&shared.id).unwrap() else {
                return Some((*at, format!("never got {}", shared.id)));
            };
            let here_tips = here.tips().unwrap();
            if here_tips != tips {
                let what = format!(
                    "{} ends at {here_tips:?}, at its owner at {tips:?}",
                    shared.id
                );
                return Some((*at, what));
            }
            let holds = self.home(*at).holds.get(&shared.id);
            let is_strict = self.env.counts.revocations == 0;
            if let Some(what) = shows_another(&here, &theirs, holds, is_strict) {
                return Some((*at, format!("{} {what}", shared.id)));
            }
        }
        None
    }

    pub(crate) fn running(&self, at: NodeId) -> Option<&Node> {
        match &self.seats[at] {
            Seat::Honest(_, node) => node.as_deref(),
            Seat::Rogue(_) => None,
        }
    }
}

/// What a node shows of a database that the owner does not, or holds that it should not. Of what both hold neither lacks what the
/// other has: what both lack, only rogues and revoked keys have. Where no entry is void, a store with a hole is never shown
/// (`is_strict`).
fn shows_another(
    here: &Database,
    owner: &Database,
    holds: Option<&Holds>,
    is_strict: bool,
) -> Option<String> {
    let held = here.holds().unwrap();
    if holds.is_some_and(|holds| *holds != held) {
        return Some(format!("holds {held:?} and not {holds:?}"));
    }
    let missing = here.missing().unwrap();
    for (store, kind) in owner.stores().unwrap() {
        let hole = missing.iter().find(|hole| hole.store == store);
        let has_hole = hole.is_some_and(|hole| hole.missing > 0);
        let (mine, theirs) = (shown(here, &store, kind), shown(owner, &store, kind));
        let is_other = match (&mine, &theirs) {
            (Shown::Whole(_), _) if is_strict && has_hole => true,
            (Shown::Whole(mine), Shown::Whole(theirs)) => mine != theirs,
            (Shown::Lacks(mine), Shown::Lacks(theirs)) => held.has(&store) && mine != theirs,
            (Shown::Lacks(_), Shown::Whole(_)) => held.has(&store) || !has_hole,
            (Shown::Whole(_), Shown::Lacks(_)) => held.has(&store),
        };
        if is_other {
            return Some(format!(
                "shows {mine:?} of {store}, at its owner {theirs:?}"
            ));
        }
    }
    None
}

/// What is shown of a store: the hash of all of it, or that so many payloads are missing.
#[derive(Debug)]
enum Shown {
    Whole(Option<StateHash>),
    Lacks(u64),
}

fn shown(database: &Database, store: &StoreName, kind: StoreKind) -> Shown {
    match database.store_hash(store.as_str(), kind) {
        Ok(hash) => Shown::Whole(hash),
        Err(Error::Incomplete { missing, .. }) => Shown::Lacks(missing),
        Err(error) => panic!("{store} is not shown: {error}"),
    }
}

/// What is stored and does not verify, or is more than may be.
fn unsound(node: &Node) -> Option<String> {
    let report = node.databases.verify().unwrap();
    if let Some(fault) = report.faults.first() {
        return Some(format!("stores something unsound: {fault}"));
    }
    for id in node.databases.list().unwrap() {
        let (entries, bytes) = node.databases.get(&id).unwrap().pending();
        if entries > limits::PENDING_ENTRIES || bytes > limits::PENDING_BYTES {
            return Some(format!("{entries} entries of {bytes} bytes wait in {id}"));
        }
    }
    let sessions = node.sessions.len();
    (sessions > 1_000).then(|| format!("{sessions} sessions run"))
}
