//! Every way to damage a small backup.

use eidetica_backup::BackupError;
use eidetica_storage::{Blame, MemoryEngine, Space};

use crate::world::{backup, engine_with, is_empty, restore};

/// Three frames: one that compresses, one that does not, the end.
fn small() -> Vec<u8> {
    let noise = eidetica_testkit::Rng::new(7).bytes(300);
    let engine = engine_with([
        (Space::Meta, b"S1".to_vec(), vec![1; 400]),
        (Space::Log, b"noise".to_vec(), noise),
        (Space::Versions, b"zeros".to_vec(), vec![0; 300]),
    ]);
    backup(&engine)
}

#[test]
fn no_flipped_bit_is_restored() {
    let sound = small();
    for at in 0..sound.len() {
        for bit in [0, 3, 7] {
            let mut stream = sound.clone();
            stream[at] ^= 1 << bit;
            let place = MemoryEngine::new();
            let error = restore(&stream, &place).expect_err("damage is noticed");
            assert!(
                matches!(
                    error,
                    BackupError::NotABackup
                        | BackupError::NewerFormat { .. }
                        | BackupError::Damaged { .. }
                        | BackupError::Truncated { .. }
                ),
                "byte {at}: {error}"
            );
            assert!(is_empty(&place), "byte {at}");
        }
    }
}

#[test]
fn no_beginning_of_a_backup_is_restored() {
    let sound = small();
    for len in 0..sound.len() {
        let place = MemoryEngine::new();
        let error = restore(&sound[..len], &place).expect_err("a cut is noticed");
        match len {
            0..24 => assert!(matches!(error, BackupError::NotABackup), "{len}: {error}"),
            _ => assert!(
                matches!(error, BackupError::Truncated { .. }),
                "{len}: {error}"
            ),
        }
        assert!(matches!(error.blame(), Blame::Corrupt | Blame::Caller));
        assert!(is_empty(&place), "{len}");
    }
}

#[test]
fn frames_cannot_change_places_nor_come_of_another_backup() {
    let one = small();
    let other = backup(&engine_with([(Space::Meta, b"S1".to_vec(), vec![2; 400])]));
    // The label of one and the frames of the other: labels are of one length.
    let label = 16 + 8 + 16 + 8 + 4 + "memory".len() + 32;
    let mut other_label = one[..label].to_vec();
    other_label[24] ^= 1;
    let mixed = [&other_label, &other[label..]].concat();
    assert!(matches!(
        restore(&mixed, &MemoryEngine::new()),
        Err(BackupError::Damaged { .. })
    ));
    let mixed = [&one[..label], &other[label..]].concat();
    // Equal labels begin equal chains, so that this one is the other backup.
    assert_eq!(one[..label], other[..label]);
    restore(&mixed, &MemoryEngine::new()).unwrap();
}
