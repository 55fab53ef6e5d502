//! Packs: exact, small, and safe against whoever made them.

use std::collections::BTreeMap;

use bytes::Bytes;
use eidetica_entry::pack::{self, Limits, PREFIX_BYTES, PackError, PackInfo};
use eidetica_entry::{Draft, Entry, Header, Height, Id, StoreName, limits};
use proptest::prelude::*;

use crate::support::*;

fn round_trip(entries: &[Entry]) -> Bytes {
    let packed = pack::encode(entries).unwrap();
    let decoded = pack::decode(&packed, &Limits::default()).unwrap();
    assert_eq!(decoded, entries);
    for (a, b) in decoded.iter().zip(entries) {
        assert_eq!(a.header(), b.header());
        assert_eq!(a.header_bytes(), b.header_bytes());
    }
    packed
}

proptest! {
    /// Entries that obey no rule of derivation come back exactly as well.
    #[test]
    fn any_entries_come_back_exactly(entries in proptest::collection::vec(any_entry(), 1..12)) {
        let database = id(77);
        let entries: Vec<Entry> = entries.into_iter().filter(|e| !e.header().is_root()).map(|entry| {
            let header = Header { database, ..entry.header().clone() };
            let present = entry.payloads().filter_map(|(n, p)| Some((n.clone(), p?.clone()))).collect();
            Entry::new(header, *entry.signature(), present).unwrap()
        }).collect();
        if !entries.is_empty() {
            round_trip(&entries);
        }
    }

    #[test]
    fn damaged_packs_never_panic_and_never_lie(
        cut in 1..60_usize,
        edits in proptest::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..5),
    ) {
        let mut history = History::new();
        let mut tips = vec![history.database];
        for n in 0..cut as u64 {
            let parents = if n % 7 == 6 { tips.clone() } else { vec![tips[0]] };
            let store = if n % 11 == 3 { "_settings" } else { "notes" };
            let new = history.add(&parents, payloads([(store, &n.to_le_bytes())]), n % 3, n);
            tips.insert(0, new);
            tips.truncate(3);
        }
        let packed = pack::encode(&history.entries).unwrap();
        let mut damaged = packed.to_vec();
        for (at, byte) in edits {
            let at = at.index(damaged.len());
            damaged[at] = byte;
        }
        if let Ok(entries) = pack::decode(&damaged, &Limits::default()) {
            // What decodes is made of real entries; only signatures are taken as they stand.
            for entry in &entries {
                prop_assert_eq!(&Entry::decode(&entry.encode()).unwrap(), entry);
            }
            prop_assert_eq!(pack::decode(&pack::encode(&entries).unwrap(), &Limits::default()).unwrap(), entries);
        }
    }
}

#[test]
fn a_real_history_comes_back_exactly_and_small() {
    let history = real_history();
    let mut meta = 0;
    for chunk in pack::chunks(&history.entries, 512) {
        let packed = round_trip(chunk);
        let info = PackInfo::read(&packed).unwrap();
        assert_eq!(
            (info.entries as usize, info.database),
            (chunk.len(), history.database)
        );
        let heights = || chunk.iter().map(|entry| entry.header().height);
        assert_eq!(
            (Some(info.min_height), Some(info.max_height)),
            (heights().min(), heights().max())
        );
        meta += PREFIX_BYTES + info.meta_bytes as usize;
    }
    let per_entry = meta as f64 / history.entries.len() as f64;
    println!("{per_entry:.2} bytes per entry beyond signatures and payloads");
    assert!(per_entry < 10.0, "{per_entry} bytes of metadata per entry");
}

/// The pack of a part refers to parents outside of it and is decoded without them.
#[test]
fn a_pack_is_self_contained() {
    let history = real_history();
    for start in [1, 500, 5_000, 12_000] {
        round_trip(&history.entries[start..start + 200]);
        round_trip(&history.entries[start..=start]);
    }
}

#[test]
fn every_truncation_is_refused() {
    let history = real_history();
    let packed = pack::encode(&history.entries[3..23]).unwrap();
    for len in 0..packed.len() {
        assert!(
            pack::decode(&packed[..len], &Limits::default()).is_err(),
            "{len} bytes"
        );
    }
    let mut longer = packed.to_vec();
    longer.push(0);
    assert_eq!(
        pack::decode(&longer, &Limits::default()),
        Err(PackError::Trailing("body"))
    );
}

#[test]
fn encoding_checks_what_it_is_given() {
    let history = real_history();
    let mut entries = history.entries[..5].to_vec();
    assert_eq!(pack::encode(&[]), Err(PackError::Empty));
    entries.swap(1, 4);
    assert!(matches!(pack::encode(&entries), Err(PackError::Order(_))));
    entries.swap(1, 4);
    entries.push(entries[2].clone());
    assert_eq!(
        pack::encode(&entries),
        Err(PackError::Duplicate(entries[2].id()))
    );
    entries[5] = root(99);
    assert_eq!(
        pack::encode(&entries),
        Err(PackError::Database(entries[5].id()))
    );
}

#[test]
fn claims_of_the_prefix_are_checked() {
    let history = real_history();
    let packed = pack::encode(&history.entries[..20]).unwrap();
    let with = |at: usize, bytes: &[u8]| {
        let mut changed = packed.to_vec();
        changed[at..at + bytes.len()].copy_from_slice(bytes);
        pack::decode(&changed, &Limits::default()).unwrap_err()
    };
    let huge = u32::MAX.to_le_bytes();
    assert_eq!(with(0, b"EDP2"), PackError::Format);
    assert!(matches!(
        with(4, &huge),
        PackError::Limit {
            what: "entries",
            ..
        }
    ));
    assert!(matches!(
        with(4, &4096_u32.to_le_bytes()),
        PackError::Truncated(_)
    ));
    assert_eq!(with(4, &0_u32.to_le_bytes()), PackError::Empty);
    assert_eq!(with(8, &[9]), PackError::Invalid("range of heights"));
    assert_eq!(with(16, &[9]), PackError::Invalid("range of heights"));
    // The root's id is not the database any more.
    assert_eq!(with(24, &[1, 2, 3]), PackError::Database(history.database));
    for at in [56, 64] {
        assert!(matches!(
            with(at, &huge),
            PackError::Limit {
                what: "raw bytes",
                ..
            }
        ));
        assert!(matches!(
            with(at, &((32_u32 << 20) - 9999).to_le_bytes()),
            PackError::Compression(_)
        ));
    }
    for at in [60, 68] {
        assert!(matches!(with(at, &huge), PackError::Truncated(_)));
    }
}

#[test]
fn a_decompression_bomb_is_cut_off() {
    let packed = pack::encode(&[root(1)]).unwrap();
    let bomb = zstd::bulk::compress(&vec![0; 64 << 20], 19).unwrap();
    let mut pack = packed[..PREFIX_BYTES + 64].to_vec();
    pack[60..64].copy_from_slice(&(bomb.len() as u32).to_le_bytes());
    pack[68..72].copy_from_slice(&0_u32.to_le_bytes());
    pack.extend_from_slice(&bomb);
    assert_eq!(
        pack::decode(&pack, &Limits::default()),
        Err(PackError::Compression("metadata"))
    );
}

fn with_payload(len: usize, nonce: u8) -> Entry {
    let payloads = BTreeMap::from([(StoreName::settings(), Bytes::from(vec![nonce; len]))]);
    Draft::root([nonce; 32], payloads, key(0), None)
        .unwrap()
        .sign(signature(1))
}

#[test]
fn limits_hold_exactly() {
    let mut history = History::new();
    let mut tip = history.database;
    while history.entries.len() <= limits::PACK_ENTRIES {
        tip = history.add(&[tip], payloads([("n", b"")]), 1, 5);
    }
    let full = &history.entries[..limits::PACK_ENTRIES];
    let packed = round_trip(full);
    assert!(matches!(
        pack::encode(&history.entries),
        Err(PackError::Limit {
            what: "entries",
            ..
        })
    ));
    let fewer = Limits {
        entries: limits::PACK_ENTRIES - 1,
        ..Limits::default()
    };
    assert!(matches!(
        pack::decode(&packed, &fewer),
        Err(PackError::Limit {
            what: "entries",
            ..
        })
    ));
    let exact = Limits {
        bytes: packed.len(),
        ..Limits::default()
    };
    assert!(pack::decode(&packed, &exact).is_ok());
    let smaller = Limits {
        bytes: packed.len() - 1,
        ..Limits::default()
    };
    assert!(matches!(
        pack::decode(&packed, &smaller),
        Err(PackError::Limit { what: "bytes", .. })
    ));
    // The headers of so many entries are far more than their metadata.
    let headers: usize = full.iter().map(|entry| entry.header_bytes().len()).sum();
    assert!(
        pack::decode(
            &packed,
            &Limits {
                raw_bytes: headers,
                ..Limits::default()
            }
        )
        .is_ok()
    );
    let smaller = Limits {
        raw_bytes: headers - 1,
        ..Limits::default()
    };
    assert!(matches!(
        pack::decode(&packed, &smaller),
        Err(PackError::Limit {
            what: "header bytes",
            ..
        })
    ));

    // The largest entry there is fits a pack of its own.
    let overhead = with_payload(0, 1).encode().len();
    round_trip(&[with_payload(limits::ENTRY_BYTES - overhead, 1)]);
}

#[test]
fn chunks_are_bounded_and_complete() {
    let mut history = History::new();
    let mut tip = history.database;
    for n in 0..30_u8 {
        let payload = vec![n; if n % 10 == 0 { 3 << 20 } else { 300 << 10 }];
        tip = history.add(&[tip], payloads([("n", &payload)]), 1, 5);
    }
    let mut seen: Vec<Id> = Vec::new();
    for chunk in pack::chunks(&history.entries, 8) {
        let bytes: usize = chunk.iter().map(Entry::encoded_len).sum();
        assert!(chunk.len() == 1 || bytes <= limits::PACK_TARGET_BYTES);
        assert!(!chunk.is_empty() && chunk.len() <= 8);
        round_trip(chunk);
        seen.extend(chunk.iter().map(Entry::id));
    }
    assert_eq!(
        seen,
        history.entries.iter().map(Entry::id).collect::<Vec<_>>()
    );
    assert_eq!(pack::chunks(&[], 8).count(), 0);
}

/// Forged heights and pins survive packing, so that it is the judge who meets them.
#[test]
fn dishonest_derivations_are_kept() {
    let history = real_history();
    let honest = &history.entries[300];
    for height in [1, 2, 1 << 40, limits::HEIGHT] {
        let header = Header {
            height: Height(height),
            settings: id(4).into(),
            ..honest.header().clone()
        };
        let present = honest
            .payloads()
            .map(|(n, p)| (n.clone(), p.unwrap().clone()))
            .collect();
        let forged = Entry::new(header, *honest.signature(), present).unwrap();
        let mut entries = history.entries[290..300].to_vec();
        entries.push(forged);
        round_trip(&entries);
    }
}
