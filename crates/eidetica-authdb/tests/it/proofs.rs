//! Proofs from databases with sealed segments, boundaries anywhere, and earlier sizes.

use eidetica_authdb::{Error, Operations};
use eidetica_mmr::{Leaves, Location, verify_consistency, verify_multi, verify_range};
use proptest::prelude::*;

use crate::replica::source;

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    #[test]
    fn ranges_verify_at_every_size_after_the_boundary(seed: u64, cut: u64, size: u64, start: u64, length in 1u64..60) {
        let mut database = source(seed, 50);
        let all: Vec<Vec<u8>> = (0..database.leaves().0).map(|at| database.operation(Location(at)).unwrap()).collect();
        let roots: Vec<_> = (0..=database.leaves().0).map(|size| database.root_at(Leaves(size)).unwrap()).collect();
        let cut = cut % (database.floor().0 + 1);
        database.prune(Location(cut)).unwrap();
        let size = cut + 1 + size % (database.leaves().0 - cut);
        let start = cut + start % (size - cut);
        let end = (start + length).min(size);
        let root = roots[size as usize];
        prop_assert_eq!(database.root_at(Leaves(size)).unwrap(), root);
        let shown = database.historical_proof(Leaves(size), Location(start)..Location(end), usize::MAX).unwrap();
        let operations: Vec<&[u8]> = shown.operations.iter().collect();
        prop_assert_eq!(&operations, &all[start as usize..end as usize]);
        verify_range(&root, &shown.proof, Location(start), &operations).unwrap();
        let several: Vec<Location> = (start..end).step_by(3).map(Location).collect();
        let shown = database.multi_proof(Leaves(size), &several).unwrap();
        let pairs: Vec<_> = shown.locations.iter().copied().zip(shown.operations.iter()).collect();
        verify_multi(&root, &shown.proof, &pairs).unwrap();
        for (location, operation) in pairs {
            prop_assert_eq!(operation, &all[location.0 as usize]);
        }
        let consistent = database.consistency(Leaves(start), Leaves(size)).unwrap();
        verify_consistency(&roots[start as usize], &root, &consistent).unwrap();
        if cut > 0 {
            let before = Location(cut - 1);
            assert!(matches!(database.operation(before), Err(Error::Pruned { .. })));
            assert!(matches!(database.proof(before..Location(cut), 1), Err(Error::Pruned { .. })));
            assert!(matches!(database.root_at(Leaves(cut - 1)), Err(Error::Pruned { .. })));
        }
    }

    #[test]
    fn ranges_end_where_the_bytes_do(seed: u64, most in 0usize..600) {
        let database = source(seed, 30);
        let mut next = Location(0);
        let end = database.leaves().next();
        while next < end {
            let shown = database.proof(next..end, most).unwrap();
            prop_assert!(shown.operations.len() == 1 || shown.operations.as_bytes().len() <= most);
            let after = Location(next.0 + shown.operations.len() as u64);
            if after < end {
                let more = database.operation(after).unwrap().len();
                prop_assert!(shown.operations.as_bytes().len() + more > most);
            }
            let operations: Vec<&[u8]> = shown.operations.iter().collect();
            verify_range(&database.root(), &shown.proof, next, &operations).unwrap();
            let sent = shown.operations.as_bytes().to_vec();
            prop_assert_eq!(Operations::parse(sent, next, operations.len()).unwrap(), shown.operations);
            next = after;
        }
    }
}

#[test]
fn requests_beyond_the_log_are_refused() {
    let database = source(1, 10);
    let leaves = database.leaves();
    let end = leaves.next();
    let beyond = Location(end.0 + 1);
    assert!(matches!(
        database.proof(end..beyond, 1),
        Err(Error::OutOfBounds { .. })
    ));
    assert!(matches!(
        database.proof(Location(0)..beyond, 1),
        Err(Error::Request)
    ));
    assert!(matches!(
        database.proof(Location(3)..Location(3), 1),
        Err(Error::Request)
    ));
    assert!(matches!(
        database.proof(Location(3)..Location(2), 1),
        Err(Error::Request)
    ));
    let more = Leaves(leaves.0 + 1);
    assert!(matches!(
        database.historical_proof(more, Location(0)..end, 1),
        Err(Error::OutOfBounds { .. })
    ));
    assert!(matches!(
        database.multi_proof(leaves, &[]),
        Err(Error::Request)
    ));
    assert!(matches!(
        database.multi_proof(leaves, &[Location(2), Location(1)]),
        Err(Error::Request)
    ));
    assert!(matches!(
        database.consistency(leaves, Leaves(1)),
        Err(Error::Request)
    ));
    let most = eidetica_authdb::limits::RANGE_OPERATIONS as u64;
    assert!(matches!(
        database.proof(Location(0)..Location(most + 1), 1),
        Err(Error::Request)
    ));
}
