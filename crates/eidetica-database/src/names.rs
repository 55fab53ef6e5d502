//! Which databases settings name.
//!
//! What is named stays, so whoever takes a database or a closure away looks at all settings first, and whoever names one
//! looks whether it is here; neither holds the other up. What they write refuses the one who was second: see
//! [`Named`] and [`Taken`].

use std::collections::BTreeSet;
use std::sync::Arc;

use eidetica_auth::{AuthRecord, SettingsPayload};
use eidetica_entry::{Entry, Id, StoreName};
use eidetica_storage::log::{Named, Taken};

use crate::Databases;
use crate::error::{Error, Result};
use crate::shared::Shared;

/// What settings were found to name. It holds as long as nothing was named since; what is not named any more may be in it.
#[derive(Clone)]
pub(crate) struct Names {
    pub(crate) as_of: Named,
    ids: Arc<BTreeSet<Id>>,
}

impl Names {
    pub(crate) fn has(&self, id: &Id) -> bool {
        self.ids.contains(id)
    }
}

/// Whether records name another database.
pub(crate) fn name_others(records: &[AuthRecord]) -> bool {
    let mut records = records.iter();
    records.any(|record| matches!(record, AuthRecord::Delegate(_)))
}

/// Whether the settings of an entry name another database. Nothing that does not decode is stored.
pub(crate) fn names_others(entry: &Entry) -> bool {
    if !entry.header().writes_settings() {
        return false;
    }
    let settings = entry.payload(&StoreName::settings());
    let settings = settings.and_then(|settings| SettingsPayload::decode(settings).ok());
    settings.is_some_and(|settings| name_others(settings.records()))
}

impl Shared {
    /// To be read before what an entry names is looked for; `None` if it names nothing.
    pub(crate) fn taken_before(&self, entry: &Entry) -> Result<Option<Taken>> {
        match names_others(entry) {
            true => Ok(Some(self.log.taken(&*self.rows.snapshot()?)?)),
            false => Ok(None),
        }
    }
}

impl Databases {
    /// What settings name, as it was found last or is now.
    pub(crate) fn names(&self) -> Result<Names> {
        let as_of = self.log().named(&*self.shared().rows.snapshot()?)?;
        let known = self.shared().names.lock().clone();
        match known.filter(|known| known.as_of == as_of) {
            Some(known) => Ok(known),
            None => self.look_for_names(),
        }
    }

    /// What databases name, and what is named by that, one through the other. O(databases).
    pub(crate) fn look_for_names(&self) -> Result<Names> {
        let as_of = self.log().named(&*self.shared().rows.snapshot()?)?;
        let (mut ids, mut open) = (BTreeSet::new(), Vec::new());
        for id in self.list()? {
            open.extend(self.find(&id)?);
            while let Some(database) = open.pop() {
                let authority = match database.authority() {
                    // It was taken away just now.
                    Err(Error::NoDatabase(gone)) if gone == database.id() => continue,
                    authority => authority?,
                };
                for named in authority.delegated_databases() {
                    if ids.insert(*named) {
                        open.extend(self.closure(named)?);
                    }
                }
            }
        }
        let names = Names {
            as_of,
            ids: Arc::new(ids),
        };
        *self.shared().names.lock() = Some(names.clone());
        Ok(names)
    }
}
