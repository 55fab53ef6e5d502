//! Payloads from a stranger: no panic, only canonical bytes decode, and whatever decodes can be applied,
//! read and taken back again.
#![no_main]

use std::hash::{Hash, Hasher};

use eidetica_crdt::{
    MemRows, Order, Path, Payload, RowSpace, StoreKind, get, hash_visible, insert, remove,
};
use eidetica_entry::{Height, Id, Stamp};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    let Ok(payload) = Payload::decode(bytes) else {
        return;
    };
    assert_eq!(payload.encode(), bytes);
    let mut rows = MemRows::new();
    // An id that the bytes cannot name, as with real ones.
    let mut hasher = std::hash::DefaultHasher::new();
    bytes.hash(&mut hasher);
    let mut id = [0; 32];
    id[..8].copy_from_slice(&hasher.finish().to_be_bytes());
    let stamps = [2, 1].map(|height| Stamp::new(Height(height), Id::new(id)));
    for stamp in stamps {
        insert(&mut rows, stamp, &payload, Order::Any).unwrap();
    }
    if payload.kind() == StoreKind::Doc {
        get(&rows, &Path::root()).unwrap();
    }
    hash_visible(&rows, payload.kind(), &mut |_| {}).unwrap();
    for stamp in stamps {
        remove(&mut rows, stamp, &payload).unwrap();
    }
    assert!(
        [RowSpace::Cur, RowSpace::Ver, RowSpace::Pos]
            .iter()
            .all(|space| rows.len(*space) == 0)
    );
});
