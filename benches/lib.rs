//! Measurements, each as a ratio to a peer or a physical limit in the same run. This is what they
//! share: histories to measure on.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a measurement that fails stops"
)]

use std::io::Read;
use std::sync::Arc;
use std::time::{Duration, Instant};

use eidetica_auth::{AuthRecord, KeyName, Permission, SecretKey};
use eidetica_database::{Database, Databases, NewDatabase};
use eidetica_entry::Id;

/// The parts of a program that its command line names; none stand for all.
pub struct Chosen(Vec<String>);

impl Chosen {
    /// Reads the command line. What begins with `-` is for the harness.
    pub fn read() -> Self {
        let args = std::env::args().skip(1);
        Self(args.filter(|arg| !arg.starts_with('-')).collect())
    }

    /// Whether this part is to be run.
    pub fn wants(&self, part: &str) -> bool {
        self.0.is_empty() || self.names(part)
    }

    /// Whether the command line names it.
    pub fn names(&self, part: &str) -> bool {
        self.0.iter().any(|name| name == part)
    }
}

/// Runs those of a program's parts that were chosen.
pub fn run(parts: &[(&str, fn())]) {
    let chosen = Chosen::read();
    for (name, part) in parts.iter().filter(|(name, _)| chosen.wants(name)) {
        println!("\n# {name}");
        part();
    }
}

/// A number from the environment.
pub fn number(name: &str, default: u64) -> u64 {
    std::env::var(name).map_or(default, |text| {
        let number = text.parse();
        number.unwrap_or_else(|_| panic!("{name} is {text:?}, not a number"))
    })
}

/// How many a second.
pub fn rate(count: u64, elapsed: Duration) -> f64 {
    count as f64 / elapsed.as_secs_f64()
}

/// Processor time of this thread so far, where the system tells it: the figure that other load disturbs least.
pub fn processor_time() -> Option<Duration> {
    let text = std::fs::read_to_string("/proc/thread-self/schedstat").ok()?;
    Some(Duration::from_nanos(text.split(' ').next()?.parse().ok()?))
}

/// Processor time of this process so far, on all its cores.
pub fn process_time() -> Duration {
    /// What the system counts in, wherever it is Linux.
    const TICKS: u64 = 100;
    let stat = std::fs::read_to_string("/proc/self/stat").unwrap();
    // The name of the program comes before, in parentheses, and may hold anything.
    let (_, fields) = stat.rsplit_once(") ").unwrap();
    let times = fields.split(' ').skip(11).take(2);
    let ticks: u64 = times.map(|ticks| ticks.parse::<u64>().unwrap()).sum();
    Duration::from_millis(ticks * 1_000 / TICKS)
}

/// Most memory this process has had, in MiB.
pub fn peak_mib() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let peak = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
    let kib = peak.and_then(|peak| peak.split_whitespace().next());
    kib.unwrap().parse::<u64>().unwrap() / 1024
}

/// A database with an administrator, and with more records if need be.
pub fn create(databases: &Databases, more: Vec<AuthRecord>) -> Database {
    let key = Arc::new(SecretKey::from_bytes(&[1; 32]));
    let mut records = vec![AuthRecord::grant(
        key.public(),
        Permission::Admin(0),
        KeyName::default(),
    )];
    records.extend(more);
    let new = NewDatabase {
        records,
        ..NewDatabase::default()
    };
    databases.create(new, key).unwrap()
}

/// Spreads numbers over `0..range` in an order that repeats after `range`.
pub fn spread(number: u64, range: u64) -> u64 {
    number.wrapping_mul(2_654_435_761) % range
}

/// A chain: commits number `from` and on, of one leaf each, under keys that repeat after `keys`.
pub fn commit_leaves(database: &Database, from: u64, count: u64, keys: u64) {
    commit_leaves_of(&[], database, from, count, keys);
}

/// The same by authors drawn evenly, or by the database's own where there are none. Anybody must be allowed to write.
pub fn commit_leaves_of(
    authors: &[Arc<SecretKey>],
    database: &Database,
    from: u64,
    count: u64,
    keys: u64,
) {
    for number in from..from + count {
        let mut transaction = database
            .new_transaction()
            .with_timestamp_ms(1_700_000_000_000 + number);
        if !authors.is_empty() {
            let drawn = blake3::hash(&number.to_le_bytes());
            let drawn = u64::from_le_bytes(*drawn.as_bytes().first_chunk().unwrap());
            let author = &authors[(drawn % authors.len() as u64) as usize];
            transaction = transaction.with_key(Arc::clone(author));
        }
        let doc = transaction.doc("notes").unwrap();
        doc.set(&format!("key{:07}", spread(number, keys)), number as i64)
            .unwrap();
        transaction.commit().unwrap();
    }
}

/// The shape of a real project's history: for each entry its author and its parents.
pub struct Shape(Vec<(usize, Vec<usize>)>);

impl Shape {
    /// Reads `data/dag-redis.tsv.gz`.
    pub fn read() -> Self {
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../data/dag-redis.tsv.gz");
        let mut text = String::new();
        flate2::read::GzDecoder::new(std::fs::File::open(path).unwrap())
            .read_to_string(&mut text)
            .unwrap();
        let lines = text.lines().filter(|line| !line.starts_with('#'));
        Self(lines.map(Self::entry).collect())
    }

    fn entry(line: &str) -> (usize, Vec<usize>) {
        let fields: Vec<&str> = line.split('\t').collect();
        let parents = fields
            .get(4)
            .copied()
            .unwrap_or_default()
            .split(',')
            .filter(|parent| !parent.is_empty());
        (
            fields[1].parse().unwrap(),
            parents.map(|parent| parent.parse().unwrap()).collect(),
        )
    }

    /// How many entries.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

/// The keys of some authors, the same ones each time.
pub fn authors(count: u32) -> Vec<Arc<SecretKey>> {
    let secret =
        |author: u32| SecretKey::from_bytes(blake3::hash(&author.to_le_bytes()).as_bytes());
    (0..count).map(|author| Arc::new(secret(author))).collect()
}

/// Writes entries of two leaves each in the shape of a real history until there are `count`; each round
/// goes on from the end of the one before. Anybody must be allowed to write. Says how long it took.
pub fn write_history(database: &Database, shape: &Shape, count: usize) -> Duration {
    let keys = authors(1_000);
    let keys_of_leaves = (count as u64 / 4).max(1);
    let mut last = database.tips().unwrap()[0].id;
    let mut written = 0;
    let start = Instant::now();
    while written < count {
        let mut ids: Vec<Id> = Vec::with_capacity(shape.len());
        for (author, parents) in shape.0.iter().take(count - written) {
            let frontier: Vec<Id> = match parents.is_empty() {
                true => vec![last],
                false => parents.iter().map(|parent| ids[*parent]).collect(),
            };
            let transaction = database.new_transaction_at(&frontier).unwrap();
            let transaction = transaction
                .with_key(Arc::clone(&keys[*author]))
                .with_timestamp_ms(written as u64);
            let doc = transaction.doc("notes").unwrap();
            for leaf in 0..2 {
                let key = spread(written as u64 * 2 + leaf, keys_of_leaves);
                doc.set(
                    &format!("register{key:07}"),
                    format!("a sentence of some forty bytes, {written:07}"),
                )
                .unwrap();
            }
            ids.push(transaction.commit().unwrap().unwrap().id());
            written += 1;
        }
        last = *ids.last().unwrap();
    }
    start.elapsed()
}
