//! Operations from a stranger: no panic, one encoding only; a replica takes them or refuses them whole, and what it takes is there.
#![no_main]

use std::sync::Arc;

use eidetica_authdb::{Kind, MemoryDisk, Operation, Operations, Options, Replica};
use eidetica_mmr::Location;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    let Ok(operations) = Operations::parse(bytes.to_vec(), Location(0), 1 << 10) else {
        return;
    };
    let mut again = Vec::new();
    for operation in operations.iter() {
        Operation::decode(operation).unwrap().encode(&mut again);
    }
    assert_eq!(again, bytes);
    let options = Options {
        tail_operations: 8,
        ..Options::new([1; 32])
    };
    for kind in [Kind::Any, Kind::Immutable] {
        let disk = Arc::new(MemoryDisk::new());
        let mut replica = Replica::open(disk.clone(), kind, options.clone()).unwrap();
        let count = operations.len() as u64;
        match replica.apply(Location(0), operations.clone()) {
            Ok(()) => {
                assert_eq!(replica.leaves().0, count);
                replica.sync().unwrap();
                let root = replica.root();
                drop(replica);
                let replica = Replica::open(disk, kind, options.clone()).unwrap();
                assert_eq!((replica.leaves().0, replica.root()), (count, root));
            }
            Err(_) => assert_eq!(replica.leaves().0, 0),
        }
    }
});
