//! The small pieces, each alone: `cargo bench -p eidetica-benches --bench pieces`.
//!
//! Entries and packs in and out of their bytes, signatures one by one and in batches, payloads, and what a
//! document costs over rows in memory. For what they add up to see the other programs.
#![allow(
    missing_docs,
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "a measurement that fails stops, and criterion makes functions without documentation"
)]

use std::collections::BTreeMap;
use std::hint::black_box;
use std::time::Duration;

use bytes::Bytes;
use criterion::{BatchSize, Criterion, Throughput, criterion_group, criterion_main};
use eidetica_auth::{SecretKey, Signed, verify, verify_batch};
use eidetica_crdt::{
    Doc, Edit, Locator, MemRows, Order, Path, Payload, StoreKind, get, insert, lower,
};
use eidetica_entry::{Draft, Entry, Height, Id, ParentInfo, Stamp, StoreName, pack};

const PACKED: usize = 256;
const BATCH: usize = 1_024;

criterion_group! {
    name = all;
    config = Criterion::default()
        .sample_size(20)
        .warm_up_time(Duration::from_millis(300))
        .measurement_time(Duration::from_secs(1));
    targets = entries, signatures, payloads, documents
}
criterion_main!(all);

/// A document of so many leaves, as one payload.
fn payload(leaves: u64) -> Payload {
    let edits: Vec<Edit> = (0..leaves)
        .map(|leaf| set(leaf, "some forty bytes of text, about this many"))
        .collect();
    lower(&MemRows::new(), StoreKind::Doc, &edits, 1)
        .unwrap()
        .unwrap()
}

fn set(leaf: u64, text: &str) -> Edit {
    Edit::Set {
        at: Locator::parse(&format!("register{leaf:07}")).unwrap(),
        value: text.into(),
    }
}

/// A root and a chain above it, of two leaves each, by one author.
fn chain(length: usize) -> Vec<Entry> {
    let key = SecretKey::from_bytes(&[1; 32]);
    let sign = |draft: Draft| {
        let signature = key.sign(&draft.signing_message());
        draft.sign(signature)
    };
    let one = |name: StoreName| BTreeMap::from([(name, Bytes::from(payload(2).encode()))]);
    let settings = one(StoreName::settings());
    let mut all = vec![sign(
        Draft::root([7; 32], settings, key.public(), None).unwrap(),
    )];
    let database = all[0].id();
    while all.len() < length {
        let last = all.last().unwrap();
        let parent = [ParentInfo::of(last.id(), last.header())];
        let notes = one(StoreName::new("notes").unwrap());
        let time = Some(1_700_000_000_000 + all.len() as u64);
        let draft = Draft::child(database, &parent, vec![database], notes, key.public(), time);
        all.push(sign(draft.unwrap()));
    }
    all
}

fn entries(criterion: &mut Criterion) {
    let chain = chain(PACKED + 1);
    let (entry, packed) = (&chain[1], &chain[1..]);
    let bytes = entry.encode();
    let mut group = criterion.benchmark_group("entry");
    group.throughput(Throughput::Bytes(bytes.len() as u64));
    group.bench_function("encode", |bench| bench.iter(|| black_box(entry).encode()));
    group.bench_function("decode", |bench| {
        bench.iter(|| Entry::decode(black_box(&bytes)).unwrap());
    });
    group.finish();

    let pack = pack::encode(packed).unwrap();
    let mut group = criterion.benchmark_group("pack of 256");
    group.throughput(Throughput::Elements(PACKED as u64));
    group.bench_function("encode", |bench| {
        bench.iter(|| pack::encode(black_box(packed)).unwrap());
    });
    group.bench_function("decode", |bench| {
        bench.iter(|| pack::decode(black_box(&pack), &Default::default()).unwrap());
    });
    group.finish();
}

fn signatures(criterion: &mut Criterion) {
    let key = SecretKey::from_bytes(&[1; 32]);
    let chain = chain(BATCH);
    let messages: Vec<_> = chain.iter().map(Entry::signing_message).collect();
    let signed: Vec<Signed<'_>> = chain
        .iter()
        .zip(&messages)
        .map(|(entry, message)| Signed {
            key: &entry.header().author.key,
            message: message.as_ref(),
            signature: entry.signature(),
        })
        .collect();
    let mut group = criterion.benchmark_group("signature");
    group.throughput(Throughput::Elements(1));
    group.bench_function("make", |bench| {
        bench.iter(|| key.sign(black_box(messages[0].as_ref())));
    });
    group.bench_function("verify one", |bench| {
        bench.iter(|| {
            assert!(verify(
                signed[0].key,
                signed[0].message,
                signed[0].signature
            ))
        });
    });
    for batch in [64, BATCH] {
        group.throughput(Throughput::Elements(batch as u64));
        group.bench_function(format!("verify a batch of {batch}"), |bench| {
            bench.iter(|| assert!(verify_batch(black_box(&signed[..batch]), [9; 32]).is_empty()));
        });
    }
    group.finish();
}

fn payloads(criterion: &mut Criterion) {
    const LEAVES: u64 = 100;
    let payload = payload(LEAVES);
    let bytes = payload.encode();
    let mut group = criterion.benchmark_group("payload of 100 leaves");
    group.throughput(Throughput::Elements(LEAVES));
    group.bench_function("encode", |bench| {
        bench.iter(|| black_box(&payload).encode())
    });
    group.bench_function("decode", |bench| {
        bench.iter(|| Payload::decode(black_box(&bytes)).unwrap());
    });
    group.finish();
}

fn documents(criterion: &mut Criterion) {
    const LEAVES: u64 = 10_000;
    let mut group = criterion.benchmark_group("document");
    let mut doc = Doc::new();
    group.bench_function("set and get a value in memory", |bench| {
        bench.iter(|| {
            doc.set(black_box("owner.age"), 41).unwrap();
            doc.get_as::<i64>("owner.age")
        });
    });

    let mut rows = MemRows::new();
    let stamp = |height: u64| Stamp::new(Height(height), Id::new([height as u8; 32]));
    insert(&mut rows, stamp(1), &payload(LEAVES), Order::NewerThanAll).unwrap();
    let path: Path = "register0005000".parse().unwrap();
    group.bench_function("get a leaf of 10,000", |bench| {
        bench.iter(|| get(&rows, black_box(&path)).unwrap());
    });
    let edit = [set(5_000, "another text")];
    group.bench_function("overwrite a leaf of 10,000", |bench| {
        bench.iter_batched_ref(
            || rows.clone(),
            |rows| {
                let payload = lower(rows, StoreKind::Doc, &edit, 1).unwrap().unwrap();
                insert(rows, stamp(2), &payload, Order::NewerThanAll).unwrap();
            },
            BatchSize::LargeInput,
        );
    });
    for length in [100, 10_000] {
        let (rows, at) = list(length);
        for (place, index) in [
            ("the front", 0),
            ("the middle", length / 2),
            ("the end", length),
        ] {
            let edit = [Edit::ListInsert {
                list: at.clone(),
                index: Some(index),
                value: 1.into(),
            }];
            group.bench_function(
                format!("insert at {place} of a list of {length}"),
                |bench| {
                    bench.iter(|| lower(&rows, StoreKind::Doc, black_box(&edit), 1).unwrap());
                },
            );
        }
    }
    group.finish();
}

/// A list of so many numbers.
fn list(length: usize) -> (MemRows, Locator) {
    let at = Locator::parse("list").unwrap();
    let items: Vec<eidetica_crdt::Value> = (0..length).map(|item| (item as i64).into()).collect();
    let edit = Edit::Set {
        at: at.clone(),
        value: items.into(),
    };
    let mut rows = MemRows::new();
    let payload = lower(&rows, StoreKind::Doc, &[edit], 1).unwrap().unwrap();
    let stamp = Stamp::new(Height(1), Id::new([1; 32]));
    insert(&mut rows, stamp, &payload, Order::NewerThanAll).unwrap();
    (rows, at)
}
