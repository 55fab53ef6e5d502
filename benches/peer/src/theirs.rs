//! The other side. It is asynchronous and has a runtime of its own, so it lives on a thread that is told what to do.

use std::hint::black_box;
use std::num::{NonZeroU16, NonZeroU64, NonZeroUsize};
use std::ops::Range;
use std::path::Path;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread::JoinHandle;

use commonware_cryptography::Sha256;
use commonware_cryptography::sha256::Digest;
use commonware_parallel::Sequential;
use commonware_runtime::buffer::paged::CacheRef;
use commonware_runtime::tokio::{Config as RuntimeConfig, Context, Runner};
use commonware_runtime::{Runner as _, Supervisor as _};
use commonware_storage::journal::contiguous::fixed::Config as JournalConfig;
use commonware_storage::merkle::full::Config as MerkleConfig;
use commonware_storage::merkle::mmr::{Family, Location, Proof};
use commonware_storage::qmdb::any::FixedConfig;
use commonware_storage::qmdb::any::unordered::fixed::{Db, Operation};
use commonware_storage::qmdb::floor::Proportional;
use commonware_storage::qmdb::verify::verify_proof;
use commonware_storage::translator::EightCap;

use crate::side::{COMMIT, Pair, Side};

type Database = Db<Family, Context, Digest, Digest, Sha256, EightCap, Sequential>;
type Shown = (
    Location,
    Proof<Digest>,
    Vec<Operation<Family, Digest, Digest>>,
);

enum Order {
    Open,
    Close,
    Insert,
    Operations,
    Prove(Vec<Range<u64>>),
    Verify,
}

/// A database in a directory.
pub(crate) struct Theirs {
    orders: Option<Sender<Order>>,
    done: Receiver<u64>,
    thread: Option<JoinHandle<()>>,
}

impl Theirs {
    fn tell(&self, order: Order) -> u64 {
        self.orders.as_ref().unwrap().send(order).unwrap();
        self.done.recv().unwrap()
    }
}

impl Side for Theirs {
    const NAME: &'static str = "commonware-storage 2026.10.0";

    fn at(dir: &Path, pairs: Arc<Vec<Pair>>) -> Self {
        let (orders, told) = channel();
        let (answers, done) = channel();
        let config = RuntimeConfig::new().with_storage_directory(dir);
        let thread = std::thread::spawn(move || {
            Runner::new(config).start(|context| carry_out(context, pairs, told, answers));
        });
        Self {
            orders: Some(orders),
            done,
            thread: Some(thread),
        }
    }

    fn open(&mut self) {
        self.tell(Order::Open);
    }

    fn close(&mut self) {
        self.tell(Order::Close);
    }

    fn insert(&mut self) {
        self.tell(Order::Insert);
    }

    fn operations(&mut self) -> u64 {
        self.tell(Order::Operations)
    }

    fn prove(&mut self, ranges: Vec<Range<u64>>) {
        self.tell(Order::Prove(ranges));
    }

    fn verify(&mut self) {
        self.tell(Order::Verify);
    }
}

impl Drop for Theirs {
    fn drop(&mut self) {
        self.orders = None;
        self.thread.take().unwrap().join().unwrap();
    }
}

/// Bytes that are kept of what was read and of what is not written yet: as much as our side keeps, and more.
const CACHE_BYTES: usize = 64 << 20;
const PAGE_BYTES: u16 = 4096;
const BUFFER_BYTES: usize = 1 << 20;
const ITEMS_PER_BLOB: u64 = 1 << 20;

fn config() -> FixedConfig<EightCap, Sequential> {
    let buffer = NonZeroUsize::new(BUFFER_BYTES).unwrap();
    let items_per_blob = NonZeroU64::new(ITEMS_PER_BLOB).unwrap();
    let pages = NonZeroUsize::new(CACHE_BYTES / usize::from(PAGE_BYTES)).unwrap();
    let page_cache = CacheRef::new(NonZeroU16::new(PAGE_BYTES).unwrap(), pages);
    FixedConfig {
        merkle_config: MerkleConfig {
            journal_partition: "nodes".to_owned(),
            metadata_partition: "metadata".to_owned(),
            items_per_blob,
            write_buffer: buffer,
            replay_buffer: buffer,
            strategy: Sequential,
            page_cache: page_cache.clone(),
        },
        journal_config: JournalConfig {
            partition: "log".to_owned(),
            items_per_blob,
            page_cache,
            write_buffer: buffer,
            replay_buffer: buffer,
        },
        translator: EightCap,
        init_cache: NonZeroUsize::new(1 << 20),
        init_buffer: buffer,
        init_concurrency: (),
    }
}

async fn carry_out(
    context: Context,
    pairs: Arc<Vec<Pair>>,
    orders: Receiver<Order>,
    answers: Sender<u64>,
) {
    let mut database: Option<Database> = None;
    let mut root: Option<Digest> = None;
    let mut shown: Vec<Shown> = Vec::new();
    while let Ok(order) = orders.recv() {
        match order {
            Order::Open => {
                let opened = Database::init(context.child("database"), config(), None)
                    .await
                    .unwrap();
                assert!(
                    root.is_none_or(|before| before == opened.root()),
                    "another root"
                );
                database = Some(opened);
            }
            Order::Close => database = None,
            Order::Insert => {
                let mut open = database.take().unwrap();
                for commit in pairs.chunks(COMMIT) {
                    open = insert(open, commit).await;
                    root = Some(black_box(open.root()));
                }
                database = Some(open);
            }
            Order::Operations => {}
            Order::Prove(ranges) => {
                shown.clear();
                let database = database.as_ref().unwrap();
                let size = database.bounds().end;
                for range in ranges {
                    let start = Location::new(range.start);
                    let most = NonZeroU64::new(range.end - range.start).unwrap();
                    let (proof, operations) =
                        database.historical_proof(size, start, most).await.unwrap();
                    shown.push((start, proof, operations));
                }
            }
            Order::Verify => {
                let root = root.unwrap();
                for (start, proof, operations) in &shown {
                    assert!(verify_proof::<Sha256, Family, _>(
                        proof, *start, operations, &root
                    ));
                }
            }
        }
        let operations = database
            .as_ref()
            .map_or(0, |database| database.bounds().end.as_u64());
        if answers.send(operations).is_err() {
            return;
        }
    }
}

async fn insert(database: Database, commit: &[Pair]) -> Database {
    let mut batch = database.new_batch();
    for (key, value) in commit {
        batch = batch.write(Digest::from(*key), Some(Digest::from(*value)));
    }
    let merkleized = batch
        .merkleize(&database, None, &mut Proportional)
        .await
        .unwrap();
    let database = database.apply_batch(merkleized).await.unwrap();
    database.commit().await.unwrap()
}
