//! Our side.

use std::hint::black_box;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use eidetica_authdb::{Any, Options, ProvenRange};
use eidetica_authdb_dir::DirDisk;
use eidetica_mmr::{Digest, Location, verify_range};

use crate::side::{COMMIT, Pair, Side};

/// A database in a directory.
pub(crate) struct Ours {
    dir: PathBuf,
    pairs: Arc<Vec<Pair>>,
    database: Option<Any>,
    root: Option<Digest>,
    shown: Vec<ProvenRange>,
}

impl Ours {
    fn open_it(&self) -> Any {
        Any::open(
            Arc::new(DirDisk::open(&self.dir).unwrap()),
            Options::new([3; 32]),
        )
        .unwrap()
    }

    fn database(&mut self) -> &mut Any {
        self.database.as_mut().unwrap()
    }
}

impl Side for Ours {
    const NAME: &'static str = "eidetica";

    fn at(dir: &Path, pairs: Arc<Vec<Pair>>) -> Self {
        Self {
            dir: dir.to_path_buf(),
            pairs,
            database: None,
            root: None,
            shown: Vec::new(),
        }
    }

    fn open(&mut self) {
        self.database = Some(self.open_it());
        let root = self.database().root();
        assert!(
            self.root.is_none_or(|before| before == root),
            "another root"
        );
    }

    fn close(&mut self) {
        self.database = None;
    }

    fn insert(&mut self) {
        for commit in Arc::clone(&self.pairs).chunks(COMMIT) {
            let database = self.database();
            for (key, value) in commit {
                database.update(key, value).unwrap();
            }
            database.commit(None).unwrap();
            self.root = Some(black_box(self.database().root()));
        }
    }

    fn operations(&mut self) -> u64 {
        self.database().leaves().0
    }

    fn prove(&mut self, ranges: Vec<Range<u64>>) {
        let database = self.database.as_ref().unwrap();
        let leaves = database.leaves();
        let prove = |range: Range<u64>| {
            let range = Location(range.start)..Location(range.end);
            database
                .historical_proof(leaves, range, usize::MAX)
                .unwrap()
        };
        self.shown = ranges.into_iter().map(prove).collect();
    }

    fn verify(&mut self) {
        let root = self.root.unwrap();
        for range in &self.shown {
            let operations: Vec<&[u8]> = range.operations.iter().collect();
            verify_range(&root, &range.proof, range.start, &operations).unwrap();
        }
    }
}
