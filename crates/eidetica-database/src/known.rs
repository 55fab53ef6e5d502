//! The history of one database as it will be: what is stored, and over it what is about to be.
//!
//! What judging asks is answered here. Stored means in the engine: whoever walks the history has waited
//! for staged commits before.

use std::collections::HashMap;
use std::sync::Arc;

use eidetica_auth::{AuthState, Below, Lookup};
use eidetica_entry::dag::{self, Budget, Dag, Node};
use eidetica_entry::{Draft, Entry, Header, Id, Ids, ParentInfo, Stamp};
use eidetica_storage::log::{LogError, LogReader};

use crate::authority::SettingsSource;
use crate::error::{Error, Result};
use crate::shared::Shared;
use crate::{Databases, limits};

/// An entry that is about to be stored.
pub(crate) enum New {
    Entry(Entry),
    /// Still to be signed.
    Draft(Box<Draft>),
}

impl New {
    pub(crate) fn header(&self) -> &Header {
        match self {
            Self::Entry(entry) => entry.header(),
            Self::Draft(draft) => draft.header(),
        }
    }

    pub(crate) fn info(&self) -> ParentInfo {
        match self {
            Self::Entry(entry) => ParentInfo::from(entry),
            Self::Draft(draft) => draft.info(),
        }
    }
}

/// Stored and new entries of one database.
pub(crate) struct Known<'a> {
    pub(crate) reader: &'a LogReader<'a>,
    shared: &'a Arc<Shared>,
    database: Id,
    /// How many databases ask each other for authority to get here.
    nesting: usize,
    new: HashMap<Id, New>,
}

impl<'a> Known<'a> {
    pub(crate) fn new(shared: &'a Arc<Shared>, database: Id, reader: &'a LogReader<'a>) -> Self {
        Self::nested(shared, database, reader, 0)
    }

    pub(crate) fn nested(
        shared: &'a Arc<Shared>,
        database: Id,
        reader: &'a LogReader<'a>,
        nesting: usize,
    ) -> Self {
        Self {
            reader,
            shared,
            database,
            nesting,
            new: HashMap::new(),
        }
    }

    /// Adds an entry whose parents are known.
    pub(crate) fn add(&mut self, id: Id, new: New) {
        self.new.insert(id, new);
    }

    pub(crate) fn remove(&mut self, id: &Id) {
        self.new.remove(id);
    }

    pub(crate) fn new_entry(&self, id: &Id) -> Option<&New> {
        self.new.get(id)
    }

    pub(crate) fn is_new(&self, id: &Id) -> bool {
        self.new.contains_key(id)
    }

    /// What a header says, of a stored or a new entry.
    pub(crate) fn header<T>(&self, id: &Id, read: impl FnOnce(&Header) -> T) -> Result<T> {
        match self.new.get(id) {
            Some(new) => Ok(read(new.header())),
            None => {
                let entry = self.reader.get(id)?.ok_or(Error::NoEntry(*id))?;
                Ok(read(entry.header()))
            }
        }
    }

    /// What children need to know of an entry.
    pub(crate) fn info(&self, id: &Id) -> Result<ParentInfo> {
        match self.new.get(id) {
            Some(new) => Ok(new.info()),
            None => self
                .reader
                .parent_infos(&[*id])?
                .pop()
                .flatten()
                .ok_or(Error::NoEntry(*id)),
        }
    }

    /// What children need to know of entries: one lookup for all that are stored.
    pub(crate) fn infos(&self, ids: &[Id]) -> Result<Vec<ParentInfo>> {
        let stored: Vec<Id> = ids.iter().filter(|id| !self.is_new(id)).copied().collect();
        let infos = self.reader.parent_infos(&stored)?;
        let stored: HashMap<Id, Option<ParentInfo>> = stored.into_iter().zip(infos).collect();
        let info = |id: &Id| match self.new.get(id) {
            Some(new) => Ok(new.info()),
            None => stored.get(id).cloned().flatten().ok_or(Error::NoEntry(*id)),
        };
        ids.iter().map(info).collect()
    }

    /// The elements of `ids` that are in no other's past.
    pub(crate) fn maximal(&self, ids: &[Id]) -> Result<Ids> {
        let maximal = dag::maximal(self, ids, &mut Budget::unlimited());
        Ok(maximal.map_err(LogError::from)?)
    }

    /// `past(from)` without `past(not)`.
    pub(crate) fn difference(&self, from: &[Id], not: &[Id]) -> Result<Vec<Stamp>> {
        let found = dag::difference(self, from, not, &mut Budget::unlimited());
        Ok(found.map_err(LogError::from)?)
    }

    /// The entries that write settings, with their pins as edges.
    pub(crate) fn settings(&self) -> KnownSettings<'_, 'a> {
        KnownSettings(self)
    }

    /// Which of `ids` are in the past of `parents` or one of them. Costs the entries below the parents that are
    /// higher than the lowest of `ids`, where they are no parents.
    fn are_below(&self, parents: &[Id], ids: &[Id]) -> Result<Vec<bool>> {
        let mut found: Vec<bool> = ids.iter().map(|id| parents.contains(id)).collect();
        let mut wanted: HashMap<Stamp, usize> = HashMap::new();
        for (at, id) in ids.iter().enumerate() {
            let node = self.node(id)?.filter(|_| !parents.contains(id));
            wanted.extend(node.map(|node| (Stamp::new(node.height, *id), at)));
        }
        let Some(lowest) = wanted.keys().min().copied() else {
            return Ok(found);
        };
        let past = dag::ancestors(self, parents, Budget::unlimited()).map_err(LogError::from)?;
        for stamp in past {
            let stamp = stamp.map_err(LogError::from)?;
            if stamp < lowest || wanted.is_empty() {
                break;
            }
            if let Some(found) = wanted.remove(&stamp).and_then(|at| found.get_mut(at)) {
                *found = true;
            }
        }
        Ok(found)
    }
}

impl Dag for Known<'_> {
    type Error = LogError;

    fn node(&self, id: &Id) -> Result<Option<Node>, LogError> {
        match self.new.get(id) {
            Some(new) => Ok(Some(Node {
                height: new.header().height,
                parents: new.header().parents.clone(),
            })),
            None => self.reader.node(id),
        }
    }
}

/// A view by settings pins; see [`Known::settings`].
pub(crate) struct KnownSettings<'k, 'a>(&'k Known<'a>);

impl Dag for KnownSettings<'_, '_> {
    type Error = LogError;

    fn node(&self, id: &Id) -> Result<Option<Node>, LogError> {
        match self.0.new.get(id) {
            Some(new) => Ok(Some(Node {
                height: new.header().height,
                parents: new.header().settings.clone(),
            })),
            None => self.0.reader.settings_dag().node(id),
        }
    }
}

impl SettingsSource for Known<'_> {
    fn settings_entry(&self, id: &Id) -> Result<Option<Entry>> {
        match self.new.get(id) {
            Some(New::Entry(entry)) => Ok(Some(entry.clone())),
            _ => Ok(self.reader.get(id)?),
        }
    }
}

impl Lookup for Known<'_> {
    type Error = Error;

    fn below(&self, parents: &[Id], ids: &[Id]) -> Result<Vec<Option<Below>>> {
        let facts = |id: &Id| {
            self.header(id, |header| Below {
                settings: header.settings.clone(),
                writes_settings: header.writes_settings(),
                author: header.author.key,
            })
        };
        let below = self.are_below(parents, ids)?.into_iter().zip(ids);
        below
            .map(|(is_below, id)| is_below.then(|| facts(id)).transpose())
            .collect()
    }

    fn delegated(&self, database: &Id, tips: &[Id]) -> Result<Option<AuthState>> {
        if *database == self.database || self.nesting >= limits::DELEGATION_NESTING {
            return Ok(None);
        }
        Databases::of(self.shared).authority_at(database, tips, self.nesting + 1)
    }
}
