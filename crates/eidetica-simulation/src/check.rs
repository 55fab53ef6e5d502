//! What must hold at the end, and after every start of a node.

use eidetica_database::{Error, limits};

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
        let (tips, state) = (theirs.tips().unwrap(), theirs.state_hash().unwrap());
        for at in &shared.members {
            let keys = self.home(*at).keys();
            let node = self.running(*at)?;
            if !owner.databases.can_read(&shared.id, &keys).unwrap() {
                continue;
            }
            let Some(here) = node.databases.find(&shared.id).unwrap() else {
                return Some((*at, format!("never got {}", shared.id)));
            };
            let (here_tips, here_state) = (here.tips().unwrap(), here.state_hash().unwrap());
            if here_tips != tips {
                let what = format!(
                    "{} ends at {here_tips:?}, at its owner at {tips:?}",
                    shared.id
                );
                return Some((*at, what));
            }
            if here_state != state {
                return Some((*at, format!("{} shows another state", shared.id)));
            }
        }
        None
    }

    fn running(&self, at: NodeId) -> Option<&Node> {
        match &self.seats[at] {
            Seat::Honest(_, node) => node.as_deref(),
            Seat::Rogue(_) => None,
        }
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
