//! Backups of an instance, restoring them, and moving an instance from one backend to another.

use std::io::{Read, Write};

use eidetica_database::Databases;
use eidetica_storage::log::format;
use eidetica_storage::{Batch, Durability};
use rand::Rng as _;

use crate::accounts::Accounts;
use crate::backend::{self, Backend};
use crate::clock::now_ms;
use crate::{Error, Instance, Result};

pub use eidetica_backup::{
    BackupError, Copied, CopyOptions, Digest, Label, Options as RestoreOptions, Report, Restored,
    Totals,
};

impl Instance {
    /// Writes a backup of everything in this instance as it is now, whatever is written meanwhile; see
    /// [`backup_with`](Self::backup_with).
    ///
    /// # Errors
    /// The backend's, and what writing gives.
    pub fn backup(&self, out: impl Write) -> Result<Report> {
        self.backup_with(out, |_| {})
    }

    /// The same, telling `progress` after each frame how much there is so far.
    ///
    /// The stream holds all that the backend holds, *the device key and the keys of users without a password in the clear*:
    /// keep it as safe as the backend. It is not known to be whole before this has returned, nor durable before the
    /// caller has made it so; whoever reads it notices if it is cut off.
    ///
    /// Reads every row once, in some 10 MiB of memory and a few times the longest row. Commits go on; what they overwrite
    /// meanwhile is kept by the backend until the end.
    ///
    /// # Errors
    /// The backend's, and what writing gives.
    pub fn backup_with(
        &self,
        mut out: impl Write,
        mut progress: impl FnMut(&Totals),
    ) -> Result<Report> {
        let engine = self.databases().engine();
        let made = eidetica_backup::write(&**engine, id(), now_ms(), &mut out, &mut progress);
        Ok(made?)
    }

    /// Restores a backup at `location`, where nothing may be yet; see [`connect`](Self::connect) for locations.
    ///
    /// Nobody opens what is there before all of it is there and was read again. A backup that is damaged leaves an empty
    /// place; what a crash or a full disk leaves is refused by [`connect`](Self::connect), and restoring the same backup goes
    /// on with it.
    ///
    /// What is restored is the *same* instance: its device key, its users, their keys and peers. It takes the place
    /// of the original, which must not be opened again. With
    /// `new_device` it goes on beside the original: it gets a device key of its own and knows no peers,
    /// requests or invites; databases and users are the same.
    ///
    /// # Errors
    /// [`Error::Backup`], and what [`connect`](Self::connect) gives.
    pub fn restore(
        location: &str,
        input: impl Read,
        options: RestoreOptions,
        progress: impl FnMut(&Totals),
    ) -> Result<Restored> {
        let backend = backend::open(location)?;
        let restored = Self::restore_into(&*backend, input, options, progress);
        let closed = backend.close();
        let restored = restored?;
        closed?;
        if options.new_device {
            // Becomes the other device now; a crash before leaves that to the first opening.
            Self::connect(location)?.close()?;
        }
        Ok(restored)
    }

    /// The same for a backend of the caller's. With `new_device` the first
    /// [`open`](Self::open) makes the new device.
    ///
    /// # Errors
    /// [`Error::Backup`].
    pub fn restore_into(
        backend: &dyn Backend,
        mut input: impl Read,
        options: RestoreOptions,
        mut progress: impl FnMut(&Totals),
    ) -> Result<Restored> {
        let restored = eidetica_backup::restore(&mut input, backend, options, &mut progress);
        Ok(restored?)
    }

    /// Reads a backup and restores nothing: whether it is whole, and what is in it.
    ///
    /// # Errors
    /// [`Error::Backup`].
    pub fn check_backup(
        mut input: impl Read,
        mut progress: impl FnMut(&Totals),
    ) -> Result<(Label, Report)> {
        Ok(eidetica_backup::check(&mut input, &mut progress)?)
    }

    /// Copies the instance at one location to another, where nothing may be yet, and reads it again there. Nothing is written
    /// to the first one; it must not be opened again once the second one is in use, since both are the same instance.
    ///
    /// Leaving out what is damaged is for a backend that [`repair`](Self::repair) cannot write to, as one that keeps rows
    /// in blocks with one check sum: what can be read is rescued, and is then to be repaired.
    ///
    /// # Errors
    /// [`Error::Backup`], and what [`connect`](Self::connect) gives.
    pub fn migrate(
        from: &str,
        to: &str,
        options: CopyOptions,
        mut progress: impl FnMut(&Totals),
    ) -> Result<Copied> {
        let from = backend::open_existing(from)?;
        let to = backend::open(to)?;
        let copied = eidetica_backup::copy(&*from, &*to, id(), options, &mut progress);
        let closed = to.close().and(from.close());
        let copied = copied?;
        closed?;
        Ok(copied)
    }
}

/// Makes what was restored beside its original ready to become a device of its own, if that is still to be done.
/// Interrupted, it is done again.
pub(crate) fn settle_copy(databases: &Databases, accounts: &Accounts) -> Result<()> {
    let engine = databases.engine();
    if !wants_new_device(&**engine)? {
        return Ok(());
    }
    // First what needs the names of the nodes; all of it may be done again.
    let nodes: Vec<String> = accounts
        .nodes()?
        .into_iter()
        .map(|(name, _)| name)
        .collect();
    eidetica_node::forget_records(databases, &nodes)?;
    accounts.forget_device()?;
    let mut batch = Batch::new();
    format::stage_is_device(&mut batch);
    Ok(engine.write(&batch, Durability::Durable)?)
}

fn wants_new_device(engine: &dyn Backend) -> Result<bool> {
    let wants = format::wants_new_device(&*engine.snapshot()?);
    wants.map_err(|error| Error::Database(error.into()))
}

fn id() -> [u8; 16] {
    let mut id = [0; 16];
    rand::rng().fill_bytes(&mut id);
    id
}
