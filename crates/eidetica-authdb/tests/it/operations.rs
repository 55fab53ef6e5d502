//! The bytes of operations.

use eidetica_authdb::{Error, Kind, Operation, OperationError, Operations, limits};
use eidetica_mmr::Location;
use proptest::prelude::*;

fn bytes_of(operation: &Operation<'_>) -> Vec<u8> {
    let mut bytes = Vec::new();
    operation.encode(&mut bytes);
    bytes
}

#[test]
fn two_hashes_take_66_bytes() {
    let update = Operation::Update {
        key: &[1; 32],
        value: &[2; 32],
    };
    assert_eq!(bytes_of(&update).len(), 66);
    assert_eq!(bytes_of(&Operation::Delete { key: &[1; 32] }).len(), 33);
}

#[test]
fn operations_survive_their_bytes_and_nothing_shorter_or_longer_does() {
    let long = vec![7; limits::KEY_BYTES];
    for key in [&[1][..], &[2; 62], &[3; 63], &[4; 64], &long] {
        for value in [&[][..], &[9], &[9; 127], &[9; 128]] {
            let operations = [
                Operation::Update { key, value },
                Operation::Set { key, value },
                Operation::Delete { key },
                Operation::Commit {
                    floor: Location(value.len() as u64),
                    active: 3,
                    metadata: None,
                },
                Operation::Commit {
                    floor: Location(0),
                    active: 300,
                    metadata: Some(value),
                },
            ];
            for operation in operations {
                let mut bytes = bytes_of(&operation);
                assert_eq!(Operation::decode(&bytes), Ok(operation));
                for end in 0..bytes.len() {
                    assert_eq!(
                        Operation::decode(&bytes[..end]),
                        Err(OperationError::Truncated)
                    );
                }
                bytes.push(0);
                assert_eq!(Operation::decode(&bytes), Err(OperationError::Trailing));
                assert_eq!(
                    operation.belongs_to(Kind::Any),
                    !matches!(operation, Operation::Set { .. })
                );
            }
        }
    }
}

#[test]
fn what_is_not_canonical_is_refused() {
    let refused =
        |bytes: &[u8], error| assert_eq!(Operation::decode(bytes), Err(error), "{bytes:?}");
    // Empty keys, keys beyond the limit.
    refused(&[1 << 6], OperationError::Key);
    let mut long = vec![2 << 6 | 63];
    eidetica_mmr::write_varint(&mut long, limits::KEY_BYTES as u64 - 62);
    refused(&long, OperationError::Key);
    refused(&[2 << 6 | 63, 0x80, 0], OperationError::Number);
    // Values and metadata beyond the limits.
    let mut value = vec![1 << 6 | 1, 0];
    eidetica_mmr::write_varint(&mut value, limits::VALUE_BYTES as u64 + 1);
    refused(&value, OperationError::Value);
    let mut metadata = vec![1, 0, 0];
    eidetica_mmr::write_varint(&mut metadata, limits::METADATA_BYTES as u64 + 1);
    refused(&metadata, OperationError::Value);
    refused(&[2, 0, 0], OperationError::Number);
}

#[test]
fn as_many_as_were_asked_for() {
    let mut bytes = bytes_of(&Operation::Delete { key: b"a" });
    bytes.extend(bytes_of(&Operation::Delete { key: b"b" }));
    assert_eq!(
        Operations::parse(bytes.clone(), Location(0), 2)
            .unwrap()
            .len(),
        2
    );
    assert!(matches!(
        Operations::parse(bytes.clone(), Location(0), 1),
        Err(Error::Request)
    ));
    bytes.pop();
    let parsed = Operations::parse(bytes, Location(5), 2);
    let detail = OperationError::Truncated;
    assert!(
        matches!(parsed, Err(Error::Operation { location: Location(6), detail: found }) if found == detail)
    );
}

proptest! {
    #[test]
    fn only_canonical_bytes_decode(bytes in proptest::collection::vec(any::<u8>(), 0..90)) {
        if let Ok(operation) = Operation::decode(&bytes) {
            prop_assert_eq!(bytes_of(&operation), bytes.clone());
        }
        if let Ok(operations) = Operations::parse(bytes.clone(), Location(0), 100) {
            let mut again = Vec::new();
            for operation in operations.iter() {
                Operation::decode(operation).unwrap().encode(&mut again);
            }
            prop_assert_eq!(again, bytes);
        }
    }
}
