//! What is to be said, one database after the other.

use std::collections::{BTreeMap, VecDeque};

use bytes::Bytes;
use eidetica_entry::Id;

use crate::{LiveMessage, PackPage, TipList, limits};

/// What is to be said about one database. Several reasons become one.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Errand {
    /// Our tips, unless the peer knows that we have them.
    pub(crate) tell: bool,
    /// The entries along with them: they were made here.
    pub(crate) push: bool,
    /// The entries above these, which the peer asked for.
    pub(crate) answer: Option<Vec<Id>>,
    /// That we want what the peer has.
    pub(crate) want: bool,
    /// That the peer is to compare.
    pub(crate) compare: bool,
}

/// Errands in the order in which they came, one per database.
#[derive(Debug, Default)]
pub(crate) struct Errands {
    order: VecDeque<Id>,
    by_database: BTreeMap<Id, Errand>,
}

impl Errands {
    pub(crate) fn add(&mut self, database: Id, change: impl FnOnce(&mut Errand)) {
        let errand = self.by_database.entry(database).or_insert_with(|| {
            self.order.push_back(database);
            Errand::default()
        });
        change(errand);
    }

    pub(crate) fn next(&mut self) -> Option<(Id, Errand)> {
        while let Some(database) = self.order.pop_front() {
            if let Some(errand) = self.by_database.remove(&database) {
                return Some((database, errand));
            }
        }
        None
    }

    pub(crate) fn forget(&mut self, database: &Id) {
        self.by_database.remove(database);
        self.order.retain(|other| other != database);
    }
}

/// The frames with the entries, if they fit on the stream.
pub(crate) fn entries(database: Id, page: &PackPage) -> Option<(LiveMessage, Vec<Bytes>)> {
    let bytes: usize = page.packs.iter().map(Bytes::len).sum();
    let fits = page.next.is_none()
        && bytes <= limits::LIVE_BYTES
        && (1..=limits::LIVE_PACKS).contains(&page.packs.len());
    let packs = u32::try_from(page.packs.len()).ok()?;
    let tips = TipList::new(page.tips.clone());
    let message = LiveMessage::Entries {
        database,
        tips,
        packs,
    };
    fits.then(|| (message, page.packs.clone()))
}
