//! The storage directory, and what lies in it beside the files of the database.
//!
//! ```text
//! <storage-dir>/              private and locked, see eidetica-storage-dir
//!   data/                     the database
//!   pin                       of a copy: the newest target that was proven; nothing older is taken, nor another history
//!   alarm-<two targets>.txt   of a copy: what cannot be true together, with the signatures
//!   gap-<two targets>.txt     of a copy: what it was before it began anew, and what it became
//! ```

use std::ffi::OsString;
use std::fs::{self, File};
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::Context as _;
use eidetica_authdb::Disk;
use eidetica_authdb_dir::DirDisk;
use eidetica_statesync::{Claim, Conflict, Evidence, Gap, Pin};

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

    /// Keeps what an alarm is about, in words and with the bytes that were signed. Says where; `None` if there is
    /// enough already.
    ///
    /// # Errors
    /// The disk's.
    pub fn keep_alarm(&self, evidence: &Evidence, source: &str) -> io::Result<Option<PathBuf>> {
        let why = match evidence.kind {
            Conflict::Unshown => "no server showed that the second target continues the first",
            _ => "these two targets cannot both be true",
        };
        let text = format!("{:?}: {why}", evidence.kind);
        self.keep("alarm", &text, (&evidence.held, &evidence.shown), source)
    }

    /// Keeps what a copy was before it began anew. Says where; `None` if there is enough already.
    ///
    /// # Errors
    /// The disk's.
    pub fn keep_gap(&self, gap: &Gap, source: &str) -> io::Result<Option<PathBuf>> {
        let why = "the copy began anew: no server had what would show that the second target continues the first";
        self.keep("gap", why, (&gap.held, &gap.shown), source)
    }

    fn keep(
        &self,
        what: &str,
        why: &str,
        (held, shown): (&Claim, &Claim),
        source: &str,
    ) -> io::Result<Option<PathBuf>> {
        let name = format!("{what}-{}-{}.txt", short(held), short(shown));
        let path = self.0.join(&name);
        if path.try_exists()? {
            return Ok(Some(path));
        }
        if self.kept()? >= limits::EVIDENCE_FILES {
            return Ok(None);
        }
        let (of_held, of_shown) = (described(held), described(shown));
        let text = format!("{why}\n\nheld\n{of_held}\nshown by {source}\n{of_shown}");
        self.replace(&name, text.as_bytes())?;
        Ok(Some(path))
    }

    /// How many files of evidence there are.
    fn kept(&self) -> io::Result<usize> {
        let names = fs::read_dir(&self.0)?.map(|entry| Ok(entry?.file_name()));
        let is_evidence = |name: &io::Result<OsString>| {
            let name = name.as_ref().map(|name| name.to_string_lossy());
            name.is_ok_and(|name| name.starts_with("alarm-") || name.starts_with("gap-"))
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

/// The size and the beginning of the root, which tells targets apart.
fn short(claim: &Claim) -> String {
    let root = claim.target.root().to_string();
    format!("{}.{:.16}", claim.target.leaves(), root)
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

    fn claim(root: u8, leaves: u64) -> Claim {
        let target = Target::new(Digest::new([root; 32]), Location(1), Leaves(leaves)).unwrap();
        let signature = Some([4; 64]);
        Claim { target, signature }
    }

    #[test]
    fn a_pin_is_kept() {
        let dir = tempfile::tempdir().unwrap();
        let trust = Memory::of(dir.path());
        assert!(trust.pin().unwrap().is_none());
        for leaves in [7, 9] {
            let pin = claim(3, leaves);
            trust.keep_pin(&pin).unwrap();
            assert_eq!(trust.pin().unwrap(), Some(pin));
        }
        fs::write(dir.path().join("pin"), "damaged").unwrap();
        assert!(trust.pin().is_err());
    }

    #[test]
    fn evidence_is_kept_once_each_and_not_without_end() {
        let dir = tempfile::tempdir().unwrap();
        let memory = Memory::of(dir.path());
        let evidence = |leaves| Evidence {
            kind: Conflict::SameRoot,
            held: claim(3, 7),
            shown: claim(3, leaves),
            source: None,
        };
        let first = memory
            .keep_alarm(&evidence(8), "somebody")
            .unwrap()
            .unwrap();
        let text = fs::read_to_string(&first).unwrap();
        for claim in [claim(3, 7), claim(3, 8)] {
            assert!(text.contains(&described(&claim)), "{text}");
        }
        for leaves in 8..8 + limits::EVIDENCE_FILES as u64 {
            let kept = memory.keep_alarm(&evidence(leaves), "somebody").unwrap();
            assert!(kept.is_some(), "{leaves}");
        }
        assert_eq!(
            memory.keep_alarm(&evidence(5_000), "somebody").unwrap(),
            None
        );
        let again = memory.keep_alarm(&evidence(8), "another").unwrap();
        assert_eq!(again, Some(first.clone()), "the same is not kept twice");
        assert_eq!(fs::read_to_string(first).unwrap(), text);
        let gap = Gap {
            held: claim(3, 7),
            shown: claim(5, 9),
            source: None,
            crossed: true,
        };
        assert_eq!(memory.keep_gap(&gap, "somebody").unwrap(), None);
        assert_eq!(
            fs::read_dir(dir.path()).unwrap().count(),
            limits::EVIDENCE_FILES
        );
    }
}
