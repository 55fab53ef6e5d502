//! Rights by way of other databases.

use eidetica_entry::{Author, Id, Ids};

use crate::{
    lookup::{Lookup, Missing},
    permission::Right,
};

/// What the delegation chain of one entry pins: a pure function of its author.
#[derive(Debug, Clone)]
pub struct Pinned {
    pub(crate) database: Id,
    pub(crate) right: Option<Right>,
}

impl Pinned {
    /// Reads what `author` pins, `None` if it claims no delegated right. Not all at hand: what is
    /// missing.
    ///
    /// # Errors
    /// The lookup's.
    pub fn read<L: Lookup>(
        author: &Author,
        lookup: &L,
    ) -> Result<Result<Option<Self>, Missing>, L::Error> {
        let Some(first) = author.via.first() else {
            return Ok(Ok(None));
        };
        let Some(state) = lookup.delegated(&first.database, &first.tips)? else {
            return Ok(Err(Missing::Delegated {
                database: first.database,
                tips: Ids::clone(&first.tips),
            }));
        };
        Ok(Ok(Some(Self {
            database: first.database,
            right: state.right_of(&author.key),
        })))
    }

    /// The database whose delegation the entry claims.
    pub fn database(&self) -> Id {
        self.database
    }

    /// What the key has there.
    pub fn right(&self) -> Option<Right> {
        self.right
    }
}
