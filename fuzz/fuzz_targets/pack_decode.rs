//! Packs from a stranger: no panic, bounded memory, and what decodes is made of real entries.
//!
//! Compressed parts hide the metadata from mutation. So the input is also taken as the metadata itself, one byte for the number of
//! entries before it, and wrapped into a pack.
#![no_main]

use eidetica_entry::Entry;
use eidetica_entry::pack::{self, Limits};
use libfuzzer_sys::fuzz_target;

fn check(bytes: &[u8]) {
    let limits = Limits { raw_bytes: 1 << 20, ..Limits::default() };
    let Ok(entries) = pack::decode(bytes, &limits) else { return };
    for entry in &entries {
        assert_eq!(Entry::decode(&entry.encode()).as_ref(), Ok(entry));
    }
    let again = pack::encode(&entries).expect("decoded entries pack again");
    assert_eq!(pack::decode(&again, &Limits::default()), Ok(entries));
}

/// A pack with `meta` as one stored (uncompressed) zstd block, no payloads and zero signatures.
fn wrap(entries: u8, heights: [u8; 2], meta: &[u8]) -> Vec<u8> {
    let frame = stored_frame(meta);
    let mut pack = b"EDP1".to_vec();
    pack.extend(u32::from(entries).to_le_bytes());
    heights.iter().for_each(|height| pack.extend(u64::from(*height).to_le_bytes()));
    pack.extend([0; 32]);
    for size in [meta.len(), frame.len(), 0, 0] {
        pack.extend((size as u32).to_le_bytes());
    }
    pack.extend(vec![0; usize::from(entries) * 64]);
    pack.extend(frame);
    pack
}

/// RFC 8878: magic, a single-segment header with a four-byte size, one last raw block.
fn stored_frame(raw: &[u8]) -> Vec<u8> {
    let mut frame = vec![0x28, 0xb5, 0x2f, 0xfd, 0b1010_0000];
    frame.extend((raw.len() as u32).to_le_bytes());
    let block = (raw.len() as u32) << 3 | 1;
    frame.extend(&block.to_le_bytes()[..3]);
    frame.extend(raw);
    frame
}

fuzz_target!(|bytes: &[u8]| {
    check(bytes);
    if let Some((&[entries, low, high], meta)) = bytes.split_first_chunk::<3>()
        && meta.len() < 100_000
    {
        check(&wrap(entries, [low, high], meta));
    }
});
