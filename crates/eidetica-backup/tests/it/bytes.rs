//! The format byte by byte, written by hand from `docs/formats/backup.md`.

use eidetica_backup::{BackupError, check};
use eidetica_storage::{MemoryEngine, Space};

use crate::world::{CREATED_MS, ID, backup, engine_with, is_empty, restore, same};

/// A backup of the first format, byte by byte as it was written. It is never written anew: another format gets a file of its
/// own beside it, which `EIDETICA_TEST_GOLDEN=FILE` lets the test below write.
const GOLDEN: &[u8] = include_bytes!("../golden/rows-1.backup");

fn golden_rows() -> MemoryEngine {
    engine_with([
        (Space::Meta, b"S1".to_vec(), b"a store".to_vec()),
        (Space::Log, vec![0, 0, 0, 1], b"an entry".to_vec()),
        (Space::State, vec![0xFF], Vec::new()),
        (Space::Local, b"local".to_vec(), vec![0, 1, 2]),
    ])
}

#[test]
fn the_first_format_is_still_read_and_written() {
    if let Ok(file) = std::env::var("EIDETICA_TEST_GOLDEN") {
        std::fs::write(file, by_hand(&golden_frames())).unwrap();
    }
    let restored = MemoryEngine::new();
    restore(GOLDEN, &restored).unwrap();
    assert!(same(&restored, &golden_rows()));
    assert_eq!(backup(&golden_rows()), GOLDEN);
    assert_eq!(by_hand(&golden_frames()), GOLDEN);
}

/// The rows above and that of the format, in one frame that does not compress.
fn golden_frames() -> Vec<(u8, usize, Vec<u8>)> {
    let mut rows = Vec::new();
    let format = [
        &checksum(b"Lf", &1_u32.to_le_bytes())[..],
        &1_u32.to_le_bytes(),
    ]
    .concat();
    put(&mut rows, 0, b"Lf", &format);
    put(&mut rows, 0, b"S1", b"a store");
    put(&mut rows, 1, &[0, 0, 0, 1], b"an entry");
    put(&mut rows, 3, &[0xFF], b"");
    put(&mut rows, 5, b"local", &[0, 1, 2]);
    let sizes = [2 + 12 + 2 + 7, 4 + 8, 0, 1, 0, 5 + 3];
    let end = end(&[&rows], &[2, 1, 0, 1, 0, 1], &sizes);
    vec![(0, rows.len(), rows), (255, end.len(), end)]
}

/// As the log has its small rows.
fn checksum(key: &[u8], value: &[u8]) -> [u8; 8] {
    let hash = blake3::Hasher::new().update(key).update(value).finalize();
    hash.as_bytes()[..8].try_into().unwrap()
}

fn put(frame: &mut Vec<u8>, space: u8, key: &[u8], value: &[u8]) {
    frame.push(space);
    frame.extend((key.len() as u16).to_le_bytes());
    frame.extend((value.len() as u32).to_le_bytes());
    frame.extend(key);
    frame.extend(value);
}

/// The last frame's bytes.
fn end(frames: &[&[u8]], rows: &[u64; 6], bytes: &[u64; 6]) -> Vec<u8> {
    let mut end = (frames.len() as u64).to_le_bytes().to_vec();
    for (rows, bytes) in rows.iter().zip(bytes) {
        end.extend(rows.to_le_bytes());
        end.extend(bytes.to_le_bytes());
    }
    let digest = blake3::derive_key("eidetica rows v1", &frames.concat());
    end.extend(digest);
    end
}

/// A stream of these frames: kind, length of the rows, stored bytes.
fn by_hand(frames: &[(u8, usize, Vec<u8>)]) -> Vec<u8> {
    labelled(1, 1, frames)
}

fn labelled(format: u32, rows_format: u32, frames: &[(u8, usize, Vec<u8>)]) -> Vec<u8> {
    let mut stream = b"eidetica backup\n".to_vec();
    stream.extend(format.to_le_bytes());
    stream.extend((16 + 8 + 4 + 6_u32).to_le_bytes());
    stream.extend(ID);
    stream.extend(CREATED_MS.to_le_bytes());
    stream.extend(rows_format.to_le_bytes());
    stream.extend(b"memory");
    let mut chain = blake3::derive_key("eidetica backup label v1", &stream);
    stream.extend(chain);
    for (kind, len, stored) in frames {
        let mut frame = vec![*kind];
        frame.extend((*len as u32).to_le_bytes());
        frame.extend((stored.len() as u32).to_le_bytes());
        frame.extend(stored);
        chain = blake3::derive_key("eidetica backup frame v1", &[&chain[..], &frame].concat());
        stream.extend(frame);
        stream.extend(chain);
    }
    stream
}

#[test]
fn newer_formats_are_refused_with_both_numbers() {
    let newer = labelled(2, 1, &[]);
    let error = restore(&newer, &MemoryEngine::new()).unwrap_err();
    let said = error.to_string();
    assert!(matches!(
        error,
        BackupError::NewerFormat {
            found: 2,
            supported: 1
        }
    ));
    assert!(
        said.contains("format 2") && said.contains("up to 1") && said.contains("newer"),
        "{said}"
    );

    let newer = labelled(1, 7, &golden_frames());
    let place = MemoryEngine::new();
    let error = restore(&newer, &place).unwrap_err();
    let said = error.to_string();
    assert!(matches!(error, BackupError::NewerRows { found: 7, .. }));
    assert!(
        said.contains("format 7") && said.contains("newer"),
        "{said}"
    );
    assert!(is_empty(&place));
    // It can still be said what it is.
    assert_eq!(
        check(&mut newer.as_slice(), &mut |_| {})
            .unwrap()
            .0
            .rows_format,
        7
    );
}

#[test]
fn something_else_is_no_backup() {
    for stream in [
        &b""[..],
        b"eidetica",
        b"eidetica backup\r\n and more of it to read",
        &[0; 100],
    ] {
        let error = restore(stream, &MemoryEngine::new()).unwrap_err();
        assert!(matches!(error, BackupError::NotABackup), "{error}");
    }
}

/// Frames with the right hashes whose rows cannot have come of an engine.
#[test]
fn rows_that_no_engine_gave_are_refused() {
    let row = |space, key: &[u8], value: &[u8]| {
        let mut frame = Vec::new();
        put(&mut frame, space, key, value);
        frame
    };
    let good = row(1, b"b", b"value");
    let refused = |frames: &[Vec<u8>], why: &str| {
        let frames: Vec<_> = frames
            .iter()
            .map(|frame| (0, frame.len(), frame.clone()))
            .collect();
        refused_for(&frames, why);
    };
    refused(&[good.clone(), row(1, b"a", b"")], "out of order");
    refused(&[good.clone(), good.clone()], "out of order");
    refused(&[good.clone(), row(0, b"c", b"")], "out of order");
    refused(
        &[[good.clone(), row(1, b"a", b"")].concat()],
        "out of order",
    );
    refused(&[row(6, b"a", b"")], "does not decode");
    refused(&[row(1, b"", b"")], "wrong length");
    refused(&[row(1, &[1; 2049], b"")], "wrong length");
    refused(&[row(0, b"Lx", b"")], "never copied");
    refused(&[good[..good.len() - 1].to_vec()], "does not decode");
    refused(&[Vec::new()], "another length");
    refused_for(&[(2, good.len(), good.clone())], "head");
    refused_for(&[(0, good.len() + 1, good.clone())], "head");
    refused_for(&[(1, good.len(), good.clone())], "head");
    refused_for(&[(1, good.len() + 1, good.clone())], "decompress");
    let too_long = eidetica_backup::limits::FRAME_MOST_BYTES + 1;
    refused_for(&[(1, too_long, good.clone())], "head");
    // A bomb gets no further than what it claims.
    let bomb = zstd::bulk::compress(&vec![0; 64 << 20], 1).unwrap();
    refused_for(&[(1, 100_000, bomb)], "decompress");
    let shorter = zstd::bulk::compress(&[0; 1000], 1).unwrap();
    refused_for(&[(1, 100_000, shorter)], "another length");
    let wrong = end(&[&good], &[0, 2, 0, 0, 0, 0], &[0, 6, 0, 0, 0, 0]);
    refused_for(
        &[(0, good.len(), good.clone()), (255, wrong.len(), wrong)],
        "totals",
    );
    let right = end(&[&good], &[0, 1, 0, 0, 0, 0], &[0, 6, 0, 0, 0, 0]);
    let frames = [(0, good.len(), good), (255, right.len(), right)];
    let whole = by_hand(&frames);
    restore(&whole, &MemoryEngine::new()).unwrap();
    let more = [whole.as_slice(), b"\n"].concat();
    let error = restore(&more, &MemoryEngine::new()).unwrap_err();
    assert!(error.to_string().contains("after the end"), "{error}");
}

fn refused_for(frames: &[(u8, usize, Vec<u8>)], why: &str) {
    let place = MemoryEngine::new();
    let error = restore(&by_hand(frames), &place).unwrap_err();
    assert!(matches!(error, BackupError::Damaged { .. }), "{error}");
    assert!(error.to_string().contains(why), "{error} instead of {why}");
    assert!(is_empty(&place));
}
