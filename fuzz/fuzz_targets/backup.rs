//! Bytes that somebody calls a backup: no panic, nothing restored that is not whole, and what is restored is backed up as it
//! was.
//!
//! The first byte says how: the rest as it is, or as the rows of a frame with the right hashes around them.
#![no_main]

use eidetica_backup::{Options, restore};
use eidetica_storage::{Engine, MemoryEngine};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    let Some((how, rest)) = bytes.split_first() else {
        return;
    };
    let stream = if how % 2 == 0 { rest.to_vec() } else { framed(*how, rest) };
    let engine = MemoryEngine::new();
    match restore(&mut stream.as_slice(), &engine, Options::new(), &mut |_| {}) {
        Ok(restored) => {
            let found = eidetica_backup::digest(&*engine.snapshot().unwrap()).unwrap();
            assert_eq!(found.digest, restored.report.digest);
        }
        Err(_) => {
            let found = eidetica_backup::digest(&*engine.snapshot().unwrap()).unwrap();
            assert_eq!(found.totals.row_count(), 0);
        }
    }
});

/// One frame of rows, or of what does not decompress, and an end.
fn framed(how: u8, rest: &[u8]) -> Vec<u8> {
    let mut stream = b"eidetica backup\n".to_vec();
    stream.extend(1_u32.to_le_bytes());
    stream.extend(28_u32.to_le_bytes());
    stream.extend([0; 24]);
    stream.extend(1_u32.to_le_bytes());
    let mut chain = blake3::derive_key("eidetica backup label v1", &stream);
    stream.extend(chain);
    let kind = how >> 1 & 1;
    let length = rest.len() as u32 * (1 + u32::from(kind));
    for (kind, length, stored) in [(kind, length, rest), (255, rest.len() as u32, rest)] {
        let mut frame = vec![kind];
        frame.extend(length.to_le_bytes());
        frame.extend((stored.len() as u32).to_le_bytes());
        frame.extend(stored);
        chain = blake3::derive_key("eidetica backup frame v1", &[&chain[..], &frame].concat());
        stream.extend(frame);
        stream.extend(chain);
    }
    stream
}
