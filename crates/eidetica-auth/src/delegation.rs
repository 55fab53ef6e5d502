//! Rights by way of other databases.

use eidetica_entry::{Author, Id, Ids, PublicKey};
use imbl::OrdSet;

use crate::{
    judge::Reject,
    lookup::{Lookup, Missing},
    permission::Right,
    state::{AuthState, Floor},
};

/// What the delegation chain of one entry pins: a pure function of its author. Flat: it holds ids,
/// never states.
#[derive(Debug, Clone)]
pub struct Pinned {
    database: Id,
    /// The settings entries of that database that the pins cover.
    covered: OrdSet<Id>,
    /// What the key has there.
    right: Option<Right>,
    /// The second hop, where there is one.
    next: Option<Hop>,
    /// How many floors and pins it follows from, one through the other.
    pub(crate) nesting: usize,
}

/// A hop, and what the key has by it and those after it.
#[derive(Debug, Clone)]
struct Hop {
    database: Id,
    covered: OrdSet<Id>,
    right: Option<Right>,
}

/// What comes of reading pins.
#[derive(Debug, Clone)]
pub enum Pins {
    /// The author claims no delegated right.
    None,
    /// What it pins.
    At(Pinned),
    /// Something is not at hand.
    Missing(Missing),
    /// A hop to a database that is not delegated to, or from behind a floor.
    Wrong(Reject),
}

impl Pinned {
    /// Reads what `author` pins, for an entry in whose own database the state is `parent`. Asks for
    /// no database that is not delegated to.
    ///
    /// # Errors
    /// The lookup's.
    pub fn read<L: Lookup>(
        author: &Author,
        parent: &AuthState,
        lookup: &L,
    ) -> Result<Pins, L::Error> {
        // The parent's first: each hop's own database with its state at the pins.
        let mut states = vec![parent.clone()];
        for via in &author.via {
            let from = states.last().unwrap_or(parent);
            let database = via.database;
            if !from.rights().delegates_to(&database) {
                return Ok(Pins::Wrong(Reject::NotDelegated { database }));
            }
            let Some(state) = lookup.delegated(&database, &via.tips)? else {
                return Ok(Pins::Missing(Missing::Delegated {
                    database,
                    tips: Ids::clone(&via.tips),
                }));
            };
            if !from.rights().floors_lie_in(&database, state.ids()) {
                return Ok(Pins::Wrong(Reject::BehindFloor { database }));
            }
            states.push(state);
        }
        Ok(Self::fold(author, &states).map_or(Pins::None, Pins::At))
    }

    /// From the last hop, where the key is a member, down to the first.
    fn fold(author: &Author, states: &[AuthState]) -> Option<Self> {
        let key = &author.key;
        let mut next: Option<Hop> = None;
        let hops = author.via.iter().zip(states.get(1..)?).enumerate().rev();
        for (place, (via, state)) in hops {
            let right = match &next {
                None => state.right_of(key),
                Some(hop) => state.rights().right_via(key, &hop.database, hop.right),
            };
            let (database, covered) = (via.database, state.ids().clone());
            if place == 0 {
                let hops = states.iter().skip(1);
                return Some(Self {
                    nesting: hops.map(AuthState::nesting_above).max().unwrap_or(0),
                    database,
                    covered,
                    right,
                    next,
                });
            }
            next = Some(Hop {
                database,
                covered,
                right,
            });
        }
        None
    }

    /// The database whose delegation the entry claims.
    pub fn database(&self) -> Id {
        self.database
    }

    /// What the key has there, at the pins.
    pub fn right(&self) -> Option<Right> {
        self.right
    }

    /// What the key has there as far as a setting with this floor goes: where the pins do not cover
    /// the floor, no more than at the floor.
    pub(crate) fn right_by(&self, key: &PublicKey, floor: Option<&Floor>) -> Option<Right> {
        let floor = match floor {
            Some(floor) if !floor.heads.iter().all(|id| self.covered.contains(id)) => floor,
            _ => return self.right,
        };
        let there = match &self.next {
            None => floor.rights.right_of(key),
            Some(hop) => {
                let covers = floor.rights.floors_lie_in(&hop.database, &hop.covered);
                let right = hop.right.filter(|_| covers);
                floor.rights.right_via(key, &hop.database, right)
            }
        };
        self.right.min(there)
    }
}
