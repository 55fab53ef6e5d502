//! The storage directory, and what lies in it beside the files of the database.
//!
//! ```text
//! <storage-dir>/          private and locked, see eidetica-storage-dir
//!   data/                 the database
//!   pin                   of a copy: the newest target that was proven; nothing older is taken, nor another history
//!   alarm-<roots>.txt     of a copy: two targets that cannot be true together, with their signatures
//! ```

use std::ffi::OsString;
use std::fs::{self, File};
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::Context as _;
use eidetica_authdb::Disk;
use eidetica_authdb_dir::DirDisk;
use eidetica_statesync::{Claim, Evidence, Pin};

use crate::limits;

/// The directory that was asked for, or a new one with a random name under the temporary directory.
#[must_use]
pub fn directory(asked: Option<&PathBuf>, program: &str) -> PathBuf {
    let random = || {
        let suffix: u64 = rand::random();
        std::env::temp_dir().join(format!("eidetica-sync-{program}-{suffix:016x}"))
    };
    asked.cloned().unwrap_or_else(random)
}

/// Takes a directory for a database.
///
/// # Errors
/// Somebody has it, there is something else in it, or it cannot be made.
pub fn disk(dir: &Path) -> anyhow::Result<Arc<dyn Disk>> {
    let disk = DirDisk::open(dir);
    let disk = disk.with_context(|| format!("cannot use {}, see --storage-dir", dir.display()))?;
    Ok(Arc::new(disk))
}

/// What a client remembers besides the copy itself, in the same directory.
#[derive(Debug, Clone)]
pub struct Memory(PathBuf);

impl Memory {
    /// That of a copy in a directory that this process holds.
    #[must_use]
    pub fn of(storage: &Path) -> Self {
        Self(storage.to_path_buf())
    }

    /// The pin, if there is one.
    ///
    /// # Errors
    /// The disk's; the file is no pin.
    pub fn pin(&self) -> io::Result<Option<Pin>> {
        match fs::read(self.0.join("pin")) {
            Ok(bytes) => Claim::decode(&bytes).map(Some).map_err(io::Error::other),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Keeps a pin in place of the one before.
    ///
    /// # Errors
    /// The disk's.
    pub fn keep_pin(&self, pin: &Pin) -> io::Result<()> {
        self.replace("pin", &pin.encode())
    }

    /// Keeps evidence, in words and with the bytes that were signed. Says where; `None` if there is enough
    /// already.
    ///
    /// # Errors
    /// The disk's.
    pub fn keep_evidence(&self, evidence: &Evidence, source: &str) -> io::Result<Option<PathBuf>> {
        let (held, shown) = (&evidence.held, &evidence.shown);
        let (a, b) = (short(held), short(shown));
        let name = format!("alarm-{a}-{b}.txt");
        let text = format!(
            "{:?}: these two targets cannot both be true\n\nheld\n{}\nshown by {source}\n{}",
            evidence.kind,
            described(held),
            described(shown)
        );
        if self.evidence()? >= limits::EVIDENCE {
            return Ok(None);
        }
        self.replace(&name, text.as_bytes())?;
        Ok(Some(self.0.join(name)))
    }

    fn evidence(&self) -> io::Result<usize> {
        let names = fs::read_dir(&self.0)?.map(|entry| Ok(entry?.file_name()));
        let is_evidence = |name: &io::Result<OsString>| {
            let name = name.as_ref().map(|name| name.to_string_lossy());
            name.is_ok_and(|name| name.starts_with("alarm-"))
        };
        Ok(names.filter(is_evidence).count())
    }

    /// Writes a file as a whole: after a crash it is the old one or the new one.
    fn replace(&self, name: &str, bytes: &[u8]) -> io::Result<()> {
        let (path, new) = (self.0.join(name), self.0.join(format!("{name}.new")));
        let mut file = File::create(&new)?;
        file.write_all(bytes)?;
        file.sync_all()?;
        fs::rename(&new, path)?;
        #[cfg(unix)]
        File::open(&self.0)?.sync_all()?;
        Ok(())
    }
}

fn short(claim: &Claim) -> String {
    let mut root = claim.target.root().to_string();
    root.truncate(16);
    root
}

fn described(claim: &Claim) -> String {
    let target = &claim.target;
    let encoded: String = claim
        .encode()
        .iter()
        .map(|byte| format!("{byte:02x}"))
        .collect();
    let signed = if claim.signature.is_some() {
        "signed"
    } else {
        "not signed"
    };
    format!(
        "  root             {}\n  lower bound      {}\n  operations       {}\n  {signed}; as bytes {encoded}\n",
        target.root(),
        target.lower(),
        target.leaves(),
    )
}

#[cfg(test)]
mod tests {
    use eidetica_mmr::{Digest, Leaves, Location};
    use eidetica_statesync::Target;

    use super::*;

    #[test]
    fn a_pin_is_kept() {
        let dir = tempfile::tempdir().unwrap();
        let trust = Memory::of(dir.path());
        assert!(trust.pin().unwrap().is_none());
        for leaves in [7, 9] {
            let target = Target::new(Digest::new([3; 32]), Location(1), Leaves(leaves)).unwrap();
            let signature = Some([4; 64]);
            let pin = Claim { target, signature };
            trust.keep_pin(&pin).unwrap();
            assert_eq!(trust.pin().unwrap(), Some(pin));
        }
        fs::write(dir.path().join("pin"), "damaged").unwrap();
        assert!(trust.pin().is_err());
    }
}
