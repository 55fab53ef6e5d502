//! Opening: the manifest, what the index keeps in memory, and a replay of the tail. Costs no more when
//! there is more history.

use std::collections::HashSet;
use std::sync::Arc;

use eidetica_mmr::{Frontier, Mmr};

use crate::block::{Block, Header, later_epoch};
use crate::files::{self, Files, Name};
use crate::index::Index;
use crate::log::{Durable, Log};
use crate::manifest::{Head, Manifest};
use crate::{Disk, Error, Kind, Operations, Options};

/// What a log holds that is whole.
struct Scan {
    operations: Operations,
    blocks: Vec<(u64, u64)>,
    end: u64,
    /// The epoch of the next block.
    epoch: u64,
}

impl Log {
    /// Opens what is on a disk, or begins an empty database. One that is being filled from others is opened
    /// for a replica only.
    pub(crate) fn open(
        disk: Arc<dyn Disk>,
        kind: Kind,
        options: Options,
        replica: bool,
    ) -> Result<Self, Error> {
        let files = Files::new(disk, options.cache_bytes);
        let Some(manifest) = Manifest::load(&files)? else {
            check_empty(&files)?;
            let manifest = Manifest::new(kind, options.seed, Frontier::new(), 0);
            return Self::begin(files, options, manifest);
        };
        if manifest.kind != kind {
            return Err(Error::OtherKind);
        }
        if manifest.syncing && !replica {
            return Err(Error::Unfinished);
        }
        if manifest.fresh {
            return Self::begin(files, options, manifest);
        }
        Self::resume(files, options, manifest)
    }

    /// Begins a database that is fresh by its manifest, in place of whatever there is.
    pub(crate) fn begin(
        files: Files,
        options: Options,
        mut manifest: Manifest,
    ) -> Result<Self, Error> {
        manifest.store(&files)?;
        let before = manifest.generation.checked_sub(1);
        let aside = before.map(|before| Manifest::is_aside(&files, before));
        let aside = aside.transpose()?.unwrap_or(false);
        // What was set aside before a crash stays: what has the same name now is of after it.
        let kept = files.kept_aside()?;
        for name in files.list()? {
            match name {
                Name::Manifest => {}
                _ if aside && !kept.contains(&name) => files.set_aside(name)?,
                _ => files.remove(name)?,
            }
        }
        Head::create(&files)?;
        files.put(Name::Log(manifest.sealed.leaves().0), &[])?;
        files.sync_names()?;
        manifest.fresh = false;
        manifest.store(&files)?;
        Self::resume(files, options, manifest)
    }

    fn resume(files: Files, options: Options, manifest: Manifest) -> Result<Self, Error> {
        let options = Options {
            seed: manifest.seed,
            ..options
        };
        let first = manifest.sealed.leaves().0;
        let name = Name::Log(first);
        let file = files.open(name)?;
        let head = files.open(Name::Head)?;
        let bytes = files.read(name)?.unwrap_or_default();
        let scan = scan(first, manifest.epoch, &bytes)?;
        let leaves = first + scan.operations.len() as u64;
        check_head(&files, &manifest, leaves)?;
        if bytes.len() as u64 > scan.end {
            // A write that nobody was told of.
            let cut = file.truncate(scan.end);
            cut.map_err(|error| files::failed("truncate", name, error))?;
        }
        // A process that was killed may have written it without waiting for the disk.
        files::sync(&*file, name)?;
        files.sync_names()?;
        remove_others(&files, &manifest)?;
        let mut log = Self {
            kind: manifest.kind,
            generation: manifest.generation,
            syncing: manifest.syncing,
            boundary: manifest.boundary,
            segments: manifest.segments,
            index: Index::open(&files, &manifest.runs)?,
            tail: Operations::new(),
            mmr: Mmr::from_frontier(manifest.sealed),
            state: manifest.state,
            sealed_state: manifest.state,
            durable: Durable {
                leaves: first,
                state: manifest.state,
            },
            file,
            head,
            blocks: scan.blocks,
            file_end: scan.end,
            epoch: scan.epoch,
            synced: leaves,
            unsynced: false,
            next_run: manifest.next_run,
            failed: None,
            options,
            files,
        };
        log.append(scan.operations)?;
        log.index.keep();
        log.durable = Durable {
            leaves,
            state: log.state,
        };
        // Without room for that, what is there can be read.
        if let Err(error) = log.seal_if_full() {
            log.failed = Some(Arc::from(error.to_string()));
        }
        Ok(log)
    }
}

/// A database without a manifest has nothing yet.
fn check_empty(files: &Files) -> Result<(), Error> {
    for name in files.list()? {
        let empty = match name {
            Name::Log(_) => files.read(name)?.is_none_or(|bytes| bytes.is_empty()),
            Name::Side(_) | Name::Run(_) => false,
            _ => true,
        };
        if !empty {
            return Err(Error::corrupt(Name::Manifest, "it is missing"));
        }
    }
    Ok(())
}

/// Reads the blocks of a log up to the last one that ends a commit with all before it whole.
fn scan(log: u64, epoch: u64, bytes: &[u8]) -> Result<Scan, Error> {
    let mut kept = Scan {
        operations: Operations::new(),
        blocks: Vec::new(),
        end: 0,
        epoch,
    };
    let mut operations = Operations::new();
    let mut blocks = Vec::new();
    let mut offset = 0;
    while let Some((header, payload)) = whole(bytes, log, offset) {
        let next = log + operations.len() as u64;
        if header.first != next {
            break;
        }
        let block = Block::of(&header, payload).map_err(|_| {
            Error::corrupt(
                Name::Log(log),
                format_args!("block at {offset} does not hold its operations"),
            )
        })?;
        operations.extend_from(&block.operations, 0, block.operations.len());
        blocks.push((header.first, offset));
        offset += header.size();
        if header.last {
            kept.end = offset;
            kept.epoch = epoch.max(header.epoch.saturating_add(1));
            kept.blocks.append(&mut blocks);
        }
    }
    // Blocks without the end of their commit.
    if let Some((first, _)) = blocks.first() {
        operations.truncate(usize::try_from(first - log).unwrap_or(usize::MAX));
    }
    kept.operations = operations;
    let from = usize::try_from(kept.end).unwrap_or(usize::MAX);
    if later_epoch(log, bytes, from, kept.epoch) {
        let detail = format_args!(
            "what is at {} is damaged, and what follows it is not",
            kept.end
        );
        return Err(Error::corrupt(Name::Log(log), detail));
    }
    Ok(kept)
}

fn whole(bytes: &[u8], log: u64, offset: u64) -> Option<(Header, &[u8])> {
    let rest = bytes.get(usize::try_from(offset).ok()?..)?;
    Header::read(rest, log, offset)
}

/// What was durable must still be there.
fn check_head(files: &Files, manifest: &Manifest, leaves: u64) -> Result<(), Error> {
    let head = Head::load(files, manifest.generation)?;
    match head.filter(|head| head.leaves > leaves) {
        Some(head) => {
            let name = Name::Log(manifest.sealed.leaves().0);
            let detail = format_args!(
                "{} operations were durable and {leaves} are left",
                head.leaves
            );
            Err(Error::corrupt(name, detail))
        }
        None => Ok(()),
    }
}

/// Removes files that an interrupted change left behind.
fn remove_others(files: &Files, manifest: &Manifest) -> Result<(), Error> {
    let segments = manifest
        .segments
        .iter()
        .flat_map(|s| [Name::Log(s.first), Name::Side(s.first)]);
    let runs = manifest.runs.iter().map(|run| Name::Run(run.id));
    let log = Name::Log(manifest.sealed.leaves().0);
    let ours: HashSet<Name> = segments
        .chain(runs)
        .chain([Name::Manifest, Name::Head, log])
        .collect();
    for name in files.list()? {
        let ahead = matches!(name, Name::Ahead(_)) && manifest.syncing;
        if !ahead && !ours.contains(&name) {
            files.remove(name)?;
        }
    }
    Ok(())
}
