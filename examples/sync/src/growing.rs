//! The server's database: opened or begun, grown by the workload, pruned behind its clients.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::Context as _;
use eidetica_authdb::{Any, Disk, Error, Immutable, Kind, Options};
use eidetica_mmr::Location;
use eidetica_statesync_net::Authdb;

use crate::limits;
use crate::workload::{Change, Workload};

/// A database that the workload can change.
pub trait Growing: Authdb + Sized {
    /// Its type.
    const KIND: Kind;

    /// Opens it.
    ///
    /// # Errors
    /// The database's.
    fn open(disk: Arc<dyn Disk>, options: Options) -> Result<Self, Error>;

    /// Stages a change.
    ///
    /// # Errors
    /// The database's.
    fn change(&mut self, change: &Change) -> Result<(), Error>;

    /// Makes what is staged durable.
    ///
    /// # Errors
    /// The database's.
    fn commit(&mut self, metadata: &[u8]) -> Result<(), Error>;

    /// The metadata of the last commit.
    ///
    /// # Errors
    /// The database's.
    fn noted(&self) -> Result<Option<Vec<u8>>, Error>;

    /// Forgets what is before a location and counts no more.
    ///
    /// # Errors
    /// The database's.
    fn prune(&mut self, boundary: Location) -> Result<(), Error>;
}

macro_rules! growing {
    ($database:ident) => {
        fn open(disk: Arc<dyn Disk>, options: Options) -> Result<Self, Error> {
            $database::open(disk, options)
        }

        fn commit(&mut self, metadata: &[u8]) -> Result<(), Error> {
            $database::commit(self, Some(metadata))
        }

        fn noted(&self) -> Result<Option<Vec<u8>>, Error> {
            Ok(self.last_commit()?.and_then(|(_, metadata)| metadata))
        }

        fn prune(&mut self, boundary: Location) -> Result<(), Error> {
            $database::prune(self, boundary)
        }
    };
}

impl Growing for Any {
    const KIND: Kind = Kind::Any;
    growing!(Any);

    fn change(&mut self, change: &Change) -> Result<(), Error> {
        match change {
            Change::Put(key, value) => self.update(key, value),
            Change::Delete(key) => self.delete(key),
        }
    }
}

impl Growing for Immutable {
    const KIND: Kind = Kind::Immutable;
    growing!(Immutable);

    fn change(&mut self, change: &Change) -> Result<(), Error> {
        match change {
            Change::Put(key, value) => self.set(key, value),
            // The workload of this type has none.
            Change::Delete(_) => Ok(()),
        }
    }
}

/// How many operations are committed at a time when there are so many to begin with.
fn per_commit(initial: u64) -> u64 {
    (initial / 100).clamp(
        *limits::INITIAL_COMMIT.start(),
        *limits::INITIAL_COMMIT.end(),
    )
}

/// How many operations a new database is asked to make, commits included.
#[must_use]
pub fn initial_operations(initial: u64) -> u64 {
    initial + initial.div_ceil(per_commit(initial)).max(1)
}

/// Fills a new database, unless it is stopped before the end: then what was committed is there.
///
/// # Errors
/// The database's.
pub fn fill<D: Growing>(
    database: &mut D,
    workload: &mut Workload,
    initial: u64,
    is_stopped: impl Fn() -> bool,
) -> Result<(), Error> {
    let mut left = initial;
    loop {
        if is_stopped() {
            return Ok(());
        }
        let now = left.min(per_commit(initial));
        grow(database, workload, now)?;
        left -= now;
        if left == 0 {
            return Ok(());
        }
    }
}

/// Adds so many changes and commits them. Says by how much the log has grown: by the changes that changed
/// something, by what the floor moved, and by the commit.
///
/// # Errors
/// The database's.
pub fn grow<D: Growing>(
    database: &mut D,
    workload: &mut Workload,
    changes: u64,
) -> Result<u64, Error> {
    let before = database.leaves().0;
    for _ in 0..changes {
        let change = workload.next(D::KIND);
        database.change(&change)?;
    }
    database.commit(&workload.metadata())?;
    Ok(database.leaves().0 - before)
}

/// The workload of a database: that of its last commit, or a new one if there is none.
///
/// # Errors
/// The database's, or somebody else wrote it.
pub fn workload<D: Growing>(database: &D, seed: [u8; 16]) -> anyhow::Result<Workload> {
    if database.leaves().0 == 0 {
        return Ok(Workload::new(seed));
    }
    let noted = database.noted()?.unwrap_or_default();
    Workload::resume(&noted)
        .context("the database in the storage directory was not made by this program")
}

/// When to forget what: floors by when they were reached, at most [`limits::FLOORS`] and one more. Only what has not
/// counted for some time is pruned, since clients that are on their way to an older target still fetch it.
#[derive(Debug)]
pub struct Pruning {
    after: Duration,
    floors: VecDeque<(Instant, Location)>,
}

impl Pruning {
    /// Keeps what counted this long ago.
    #[must_use]
    pub fn new(after: Duration) -> Self {
        let floors = VecDeque::new();
        Self { after, floors }
    }

    /// Notes the present floor, unless one was noted just before, and says what can be forgotten now, if that is more
    /// than before.
    pub fn boundary(&mut self, now: Instant, floor: Location) -> Option<Location> {
        let apart = self.after / limits::FLOORS;
        let is_due = |(since, last): &(Instant, Location)| {
            *last < floor && now.duration_since(*since) >= apart
        };
        if self.floors.back().is_none_or(is_due) {
            self.floors.push_back((now, floor));
        }
        let mut boundary = None;
        while let Some((since, floor)) = self.floors.front().copied()
            && now.duration_since(since) >= self.after
        {
            self.floors.pop_front();
            boundary = Some(floor);
        }
        boundary
    }
}

#[cfg(test)]
mod tests {
    use eidetica_authdb::MemoryDisk;

    use super::*;

    #[test]
    fn a_database_grows_by_what_is_said() {
        let disk: Arc<dyn Disk> = Arc::new(MemoryDisk::new());
        let mut database = <Immutable as Growing>::open(disk, Options::new([1; 32])).unwrap();
        let mut workload = workload(&database, [2; 16]).unwrap();
        fill(&mut database, &mut workload, 50, || false).unwrap();
        assert_eq!(database.leaves().0, initial_operations(50));
        assert_eq!(grow(&mut database, &mut workload, 3).unwrap(), 4);
        assert_eq!(super::workload(&database, [9; 16]).unwrap(), workload);
    }

    #[test]
    fn nothing_is_an_operation_too() {
        let disk: Arc<dyn Disk> = Arc::new(MemoryDisk::new());
        let mut database = <Any as Growing>::open(disk, Options::new([1; 32])).unwrap();
        fill(&mut database, &mut Workload::new([2; 16]), 0, || false).unwrap();
        assert_eq!((database.leaves().0, initial_operations(0)), (1, 1));
    }

    #[test]
    fn pruning_lags_behind_the_floor() {
        let (start, ms) = (Instant::now(), Duration::from_millis);
        let mut pruning = Pruning::new(ms(100));
        assert_eq!(pruning.boundary(start, Location(5)), None);
        assert_eq!(pruning.boundary(start + ms(50), Location(9)), None);
        assert_eq!(
            pruning.boundary(start + ms(120), Location(9)),
            Some(Location(5))
        );
        assert_eq!(pruning.boundary(start + ms(130), Location(9)), None);
        assert_eq!(
            pruning.boundary(start + ms(200), Location(20)),
            Some(Location(9))
        );
        let mut at_once = Pruning::new(Duration::ZERO);
        assert_eq!(at_once.boundary(start, Location(5)), Some(Location(5)));
    }

    #[test]
    fn however_often_the_floor_rises_few_are_remembered() {
        let (start, after) = (Instant::now(), Duration::from_secs(3600));
        let mut pruning = Pruning::new(after);
        for ms in (0..7_200_000).step_by(10) {
            let now = start + Duration::from_millis(ms);
            if let Some(boundary) = pruning.boundary(now, Location(ms)) {
                let age = ms - boundary.0;
                assert!((3_600_000..3_610_000).contains(&age), "{boundary} at {ms}");
            }
            assert!(pruning.floors.len() <= limits::FLOORS as usize + 1);
        }
        assert!(pruning.floors.len() > 900);
    }
}
