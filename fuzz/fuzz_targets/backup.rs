//! Bytes that somebody calls a backup: no panic, nothing restored that is not whole, and what is restored is backed up as it
//! was.
//!
//! The first byte says how: the rest as it is, or as rows of a frame with the right hashes around them.
#![no_main]

use eidetica_backup::{Options, check, digest, restore, write};
use eidetica_storage::{Engine, MemoryEngine};
use libfuzzer_sys::fuzz_target;

const FRAMED: u8 = 1;
/// Rows that do not decompress.
const PACKED: u8 = 2;
/// With the row of the format, without which nothing is backed up.
const WITH_FORMAT: u8 = 4;

fuzz_target!(|bytes: &[u8]| {
    let Some((how, rest)) = bytes.split_first() else {
        return;
    };
    let is = |flag| how & flag != 0;
    let format = if is(WITH_FORMAT) { format_row() } else { Vec::new() };
    let stream = match is(FRAMED) {
        true => framed(is(PACKED), &[&format, rest].concat()),
        false => rest.to_vec(),
    };
    let engine = MemoryEngine::new();
    let restored = restore(&mut stream.as_slice(), &engine, Options::new(), &mut |_| {});
    let found = digest(&*engine.snapshot().unwrap()).unwrap();
    let Ok(restored) = restored else {
        assert_eq!(found.totals.row_count(), 0);
        return;
    };
    assert_eq!(found.digest, restored.report.digest);
    let mut again = Vec::new();
    match write(&engine, [0; 16], 0, &mut again, &mut |_| {}) {
        Ok(written) => {
            let (_, read) = check(&mut again.as_slice(), &mut |_| {}).unwrap();
            assert_eq!([written.digest, read.digest], [found.digest; 2]);
        }
        Err(error) => assert!(!(is(FRAMED) && is(WITH_FORMAT)), "{error}"),
    }
});

/// The rows in one frame, and an end.
fn framed(packed: bool, rows: &[u8]) -> Vec<u8> {
    let mut stream = b"eidetica backup\n".to_vec();
    stream.extend(1_u32.to_le_bytes());
    stream.extend(28_u32.to_le_bytes());
    stream.extend([0; 24]);
    stream.extend(1_u32.to_le_bytes());
    let mut chain = blake3::derive_key("eidetica backup label v1", &stream);
    stream.extend(chain);
    let (packed, end) = (u8::from(packed), end(rows));
    let length = rows.len() as u32 * (1 + u32::from(packed));
    for (kind, length, stored) in [(packed, length, rows), (255, end.len() as u32, &end)] {
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

/// What the last frame says of these rows, as far as they decode.
fn end(rows: &[u8]) -> Vec<u8> {
    let mut totals = [[0_u64; 2]; 6];
    let mut left = rows;
    while let Some((space, len, rest)) = row(left) {
        let Some([rows, bytes]) = totals.get_mut(space) else {
            break;
        };
        (*rows, *bytes, left) = (*rows + 1, *bytes + len as u64, rest);
    }
    let mut end = 1_u64.to_le_bytes().to_vec();
    end.extend(totals.iter().flatten().flat_map(|total| total.to_le_bytes()));
    end.extend(blake3::derive_key("eidetica rows v1", rows));
    end
}

/// The space of the first row, how long its key and value are together, and what follows.
fn row(rows: &[u8]) -> Option<(usize, usize, &[u8])> {
    let (space, rest) = rows.split_first()?;
    let (key_len, rest) = rest.split_first_chunk()?;
    let (value_len, rest) = rest.split_first_chunk()?;
    let len = usize::from(u16::from_le_bytes(*key_len)) + u32::from_le_bytes(*value_len) as usize;
    Some((usize::from(*space), len, rest.get(len..)?))
}

/// The format row of the log, as a frame has it.
fn format_row() -> Vec<u8> {
    let (key, format) = (b"Lf", 1_u32.to_le_bytes());
    let sum = blake3::hash(&[&key[..], &format].concat());
    let mut row = vec![0];
    row.extend((key.len() as u16).to_le_bytes());
    row.extend(12_u32.to_le_bytes());
    row.extend(key);
    row.extend(&sum.as_bytes()[..8]);
    row.extend(format);
    row
}
