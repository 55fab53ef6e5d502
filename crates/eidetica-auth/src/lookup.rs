//! What judging asks of whoever holds the entries.

use std::convert::Infallible;

use eidetica_entry::{Id, Ids, PublicKey};

use crate::state::AuthState;

/// What judging asks about the entries below the judged one, and about other databases. Answers are
/// facts about content-addressed bytes: what cannot be read is an error, never a fact.
pub trait Lookup {
    /// What reading can fail with.
    type Error;

    /// For each of `ids`, what stands in its header if it is one of `parents` or below one, else
    /// `None`.
    ///
    /// # Errors
    /// What cannot be read.
    fn below(&self, parents: &[Id], ids: &[Id]) -> Result<Vec<Option<Below>>, Self::Error>;

    /// The state of another database at these entries of it, joined over all of them: of one that
    /// writes settings the state after it, of another the state at its settings. `None` while not
    /// all that they follow from is at hand.
    ///
    /// # Errors
    /// What cannot be read.
    fn delegated(&self, database: &Id, tips: &[Id]) -> Result<Option<AuthState>, Self::Error>;
}

/// An entry in the past of another.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Below {
    /// Its header's settings.
    pub settings: Ids,
    /// Whether it writes settings itself.
    pub writes_settings: bool,
    /// Who signed it.
    pub author: PublicKey,
}

/// Nothing is below, nothing is delegated: for a root entry.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct NothingBelow;

impl Lookup for NothingBelow {
    type Error = Infallible;

    fn below(&self, _: &[Id], ids: &[Id]) -> Result<Vec<Option<Below>>, Infallible> {
        Ok(vec![None; ids.len()])
    }

    fn delegated(&self, _: &Id, _: &[Id]) -> Result<Option<AuthState>, Infallible> {
        Ok(None)
    }
}

/// What must be fetched before a verdict.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Missing {
    /// The payload that the entry writes to `_settings`.
    Settings,
    /// Another database up to these entries.
    Delegated {
        /// Which.
        database: Id,
        /// Its entries.
        tips: Ids,
    },
}
