//! Entries that wait for parents nobody sends, more than may wait.

use std::sync::Arc;

use bytes::Bytes;
use eidetica_auth::SecretKey;
use eidetica_database::{Database, Databases, IngestReport, IngestRequest, limits};
use eidetica_entry::{Entry, pack};

use crate::hostile::{craft, doc_payload, replicas, root};
use crate::world::{ingest_entries, key};

/// Makes orphans of one parent that nobody sends.
struct Orphans {
    db: Database,
    author: Arc<SecretKey>,
    parent: Entry,
    made: u64,
}

impl Orphans {
    fn of(db: &Database) -> Self {
        let author = key(1);
        let payload = doc_payload(db);
        Self {
            parent: craft(db, &author, &[root(db)], &[("d", payload)]),
            db: db.clone(),
            author,
            made: 0,
        }
    }

    /// One with a payload of this length, at least 8.
    fn one(&mut self, len: usize) -> Entry {
        self.made += 1;
        let mut payload = self.made.to_le_bytes().to_vec();
        payload.resize(len, 0);
        let parent = std::slice::from_ref(&self.parent);
        let payloads = [("d", Bytes::from(payload))];
        craft(&self.db, &self.author, parent, &payloads)
    }

    fn many(&mut self, count: usize) -> Vec<Entry> {
        (0..count).map(|_| self.one(8)).collect()
    }
}

fn send(to: &Databases, db: &Database, entries: &[Entry], peer: u8) -> IngestReport {
    let packs = [pack::encode(entries).unwrap()];
    let request = IngestRequest::new(db.id(), &packs).from(key(peer).public());
    to.ingest(request).unwrap()
}

#[test]
fn as_many_wait_as_may_and_then_the_oldest_of_the_greatest_source_gives_way() {
    let (_, b, db, honest) = replicas();
    let copy = b.get(&db.id()).unwrap();
    let mut orphans = Orphans::of(&db);
    let others = 10;
    let each = (limits::PENDING_ENTRIES - limits::PENDING_PER_SOURCE) / others as usize;
    assert!(each < limits::PENDING_PER_SOURCE);
    // The oldest is told from the rest by its length.
    let oldest = orphans.one(1_000);
    send(&b, &db, std::slice::from_ref(&oldest), 100);
    let rest = orphans.many(limits::PENDING_PER_SOURCE - 1);
    send(&b, &db, &rest, 100);
    for peer in 0..others {
        send(&b, &db, &orphans.many(each), 101 + peer);
    }
    let (entries, bytes) = copy.pending();
    assert_eq!(entries, limits::PENDING_ENTRIES, "all of them wait");

    let last = orphans.one(8);
    send(&b, &db, std::slice::from_ref(&last), 99);
    let expected = bytes - oldest.encoded_len() + last.encoded_len();
    assert_eq!(copy.pending(), (limits::PENDING_ENTRIES, expected));
    assert_eq!(ingest_entries(&b, db.id(), &[honest]).new, 1);
    assert_eq!(copy.tips().unwrap().len(), 1);
}

#[test]
fn as_many_bytes_wait_as_may_and_then_the_oldest_gives_way() {
    let (_, b, db, _) = replicas();
    let copy = b.get(&db.id()).unwrap();
    let mut orphans = Orphans::of(&db);
    let size = 2 << 20;
    let overhead = orphans.one(size - 10_000).encoded_len() - (size - 10_000);
    let count = limits::PENDING_BYTES / size;
    for _ in 0..count {
        let orphan = orphans.one(size - overhead);
        assert_eq!(orphan.encoded_len(), size);
        assert_eq!(send(&b, &db, &[orphan], 100).pending, 1);
    }
    assert_eq!(
        copy.pending(),
        (count, limits::PENDING_BYTES),
        "to the byte"
    );

    let last = orphans.one(8);
    send(&b, &db, std::slice::from_ref(&last), 100);
    let expected = limits::PENDING_BYTES - size + last.encoded_len();
    assert_eq!(copy.pending(), (count, expected));
    assert_eq!(copy.tips().unwrap().len(), 1);
}

/// `EIDETICA_TEST_ORPHANS` says how many, so that a longer run needs no other test.
#[test]
fn a_flood_of_orphans_fills_its_share_and_nothing_else() {
    let flood = std::env::var("EIDETICA_TEST_ORPHANS")
        .map_or(11_000, |count| count.parse().expect("a number of orphans"));
    let (a, b, db, honest) = replicas();
    let copy = b.get(&db.id()).unwrap();
    let (tips, state) = (copy.tips().unwrap(), copy.state_hash().unwrap());
    let mut orphans = Orphans::of(&db);
    let (mut sent, mut peer) = (0, 100);
    while sent < flood {
        let many = orphans.many(1_000.min(flood - sent));
        let report = send(&b, &db, &many, peer);
        assert_eq!((report.new, report.pending), (0, many.len() as u64));
        assert_eq!(report.tips, tips);
        sent += many.len();
        peer = 100 + (peer + 1) % 30;
        let (entries, bytes) = copy.pending();
        assert_eq!(entries, sent.min(limits::PENDING_ENTRIES));
        assert!(bytes <= limits::PENDING_BYTES);
    }
    assert_eq!(copy.entry_count().unwrap(), 1);
    assert_eq!(copy.state_hash().unwrap(), state);
    // The honest one goes on, here and for those who ask here.
    assert_eq!(ingest_entries(&b, db.id(), &[honest]).new, 1);
    let n = copy.doc("d").unwrap().get_as::<i64>("n").unwrap();
    assert_eq!(n, Some(1));
    let theirs = copy.with_key(key(1));
    theirs.transact(|tx| tx.doc("d")?.set("n", 2)).unwrap();
    crate::world::sync(&a, &b, &db.id());
    assert_eq!(copy.state_hash().unwrap(), db.state_hash().unwrap());
}
