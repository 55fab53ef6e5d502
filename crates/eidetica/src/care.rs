//! Keeping an instance in order: checking what is stored, computing it again, taking databases away.

use eidetica_database::{Compacted, Forgotten, Mended, Remedy, Repaired, VerifyReport};
use eidetica_entry::{Entry, Id};

use crate::user::{User, keyring::KeyRecord};
use crate::{AsDatabaseId, Error, Instance, Result};

/// What a repair found and did.
#[derive(Debug, Clone, Default)]
#[non_exhaustive]
pub struct RepairReport {
    /// What was wrong before.
    pub before: VerifyReport,
    /// Rows that lead to databases and were wrong.
    pub directory_rows: u64,
    /// Databases in which entries were damaged, and what became of them.
    pub mended: Vec<(Id, Mended)>,
    /// Databases of which all that follows from their entries was computed again.
    pub repaired: Vec<(Id, Repaired)>,
    /// Databases that could not be repaired, and why.
    pub failed: Vec<(Id, String)>,
    /// What is wrong still.
    pub after: VerifyReport,
}

impl Instance {
    /// Verifies everything and repairs what follows from entries: indexes, registers, state. Entries that are damaged
    /// are taken from `sources` where these have the same database, whoever may read it there; else they are named in
    /// the report, their database stays as it is, and the next syncs ask peers for them.
    ///
    /// Costs verifying twice, and reading each database that is repaired some times; see
    /// [`Databases::repair`](eidetica_database::Databases::repair).
    ///
    /// # Errors
    /// The backend's. Damage is no error but in the report.
    pub fn repair(&self, sources: &[&Self]) -> Result<RepairReport> {
        let databases = self.databases();
        let mut report = RepairReport {
            directory_rows: databases.repair_directory()?,
            ..RepairReport::default()
        };
        report.before = databases.verify()?;
        for id in report.before.databases(Remedy::Fetch) {
            match self.mend(&id, sources) {
                Ok(mended) => report.mended.push((id, mended)),
                Err(error) => report.failed.push((id, error.to_string())),
            }
        }
        let mut wanted = report.before.databases(Remedy::Rebuild);
        wanted.extend(report.before.databases(Remedy::Fetch));
        wanted.sort_unstable();
        wanted.dedup();
        for (id, repaired) in databases.repair_all(wanted) {
            match repaired {
                Ok(repaired) => report.repaired.push((id, repaired)),
                Err(error) => report.failed.push((id, error.to_string())),
            }
        }
        report.after = match report.before.is_sound() && report.directory_rows == 0 {
            true => report.before.clone(),
            false => databases.verify()?,
        };
        Ok(report)
    }

    /// Puts damaged entries of a database back from other instances that have it.
    fn mend(&self, id: &Id, sources: &[&Self]) -> Result<Mended> {
        let find = |lost: &Id| {
            let mut found: Option<Entry> = None;
            for source in sources {
                // One that is damaged there too is looked for in the next.
                let Some(entry) = source.databases().entry(id, lost).ok().flatten() else {
                    continue;
                };
                let joined = found.map_or(entry.clone(), |found| found.joined(&entry));
                if joined.is_complete() {
                    return Ok(Some(joined));
                }
                found = Some(joined);
            }
            Ok(found)
        };
        Ok(self.databases().mend(id, find)?)
    }

    /// Takes away what nobody can ask for any more, and lets the backend give the space back; see
    /// [`Databases::compact`](eidetica_database::Databases::compact).
    ///
    /// # Errors
    /// The backend's.
    pub fn compact(&self) -> Result<Compacted> {
        Ok(self.databases().compact()?)
    }

    /// Takes a database away: its entries, its state, what users noted of it, with whom it was synced, requests and
    /// invites. It is forgotten here alone: peers that have it keep it, and find it absent here.
    ///
    /// # Errors
    /// [`Error::NoDatabase`]; [`Error::InUse`] while users track it or its settings name their keys, unless `force`; the backend's.
    pub fn forget_database(&self, database: impl AsDatabaseId, force: bool) -> Result<Forgotten> {
        self.forget(&database.as_database_id()?, None, force)
    }

    fn forget(&self, id: &Id, by: Option<&str>, force: bool) -> Result<Forgotten> {
        let mut others = self.users_of(id)?;
        others.retain(|(uid, _)| Some(uid.as_str()) != by);
        if !others.is_empty() && !force {
            return Err(Error::InUse {
                database: *id,
                users: others.into_iter().map(|(_, name)| name).collect(),
            });
        }
        // First what would fetch it again.
        for (uid, _) in &self.accounts().trackers(id)? {
            self.accounts().delete_tracked(uid, id)?;
        }
        let is_on = self.sync().is_ok();
        let sync = self.enable_sync()?.sync()?;
        if !is_on {
            // Started for this alone.
            sync.set_background(false)?;
        }
        sync.node().forget_database(*id).wait()?;
        self.tell_wishes(id)?;
        let forgotten = self.databases().forget(id);
        forgotten.map_err(|error| match error {
            eidetica_database::Error::NoDatabase(id) => Error::NoDatabase(id),
            error => error.into(),
        })
    }

    /// The users that track a database, or that its settings name: their uids and names. One that is too damaged to be
    /// opened names nobody.
    fn users_of(&self, id: &Id) -> Result<Vec<(String, String)>> {
        let accounts = self.accounts();
        let opened = self.open_inner(id);
        let authority = opened.and_then(|database| Ok(database.authority()?)).ok();
        let is_named = |key: &KeyRecord| {
            let right = authority
                .as_ref()
                .map(|authority| authority.explicit_right_of(&key.id.public_key()));
            right.flatten().is_some()
        };
        let mut found = accounts.trackers(id)?;
        for (name, user) in accounts.users()? {
            let is_known = found.iter().any(|(uid, _)| *uid == user.uid);
            if !is_known && accounts.keys(&user.uid)?.iter().any(is_named) {
                found.push((user.uid, name));
            }
        }
        Ok(found)
    }
}

impl User {
    /// Takes a database away from this instance, as [`Instance::forget_database`] does, though this user tracks it.
    ///
    /// # Errors
    /// [`Error::NoDatabase`]; [`Error::InUse`] while other users track it or its settings name their keys, unless `force`; the backend's.
    pub fn forget_database(&self, database: impl AsDatabaseId, force: bool) -> Result<Forgotten> {
        let id = database.as_database_id()?;
        self.instance().forget(&id, Some(self.uid()), force)
    }
}
