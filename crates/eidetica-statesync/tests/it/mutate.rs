//! Every byte of every reply turned, one at a time: nothing wrong is ever accepted, and all is reached nevertheless.

use eidetica_statesync::Trust;

use crate::support::{Log, check_signature, config};
use crate::world::{Server, Store, World};

/// A short session from somewhere, in which one byte of one reply is turned. Says how many replies there were.
fn session(nth: u64, byte: usize, mask: u8) -> World {
    let honest = Log::of(40, 1);
    let mut store = Store::of(&honest, 9);
    store.pin = Some(honest.claim_at(eidetica_mmr::Leaves(9), crate::support::SIGNER));
    let trust = Trust::Signer(check_signature());
    let servers = vec![Server::Mutating { nth, byte, mask }];
    let mut world = World::new(3, config(trust), honest, servers, store);
    assert!(
        world.run(200_000),
        "reply {nth}, byte {byte}, mask {mask:#x}"
    );
    world
}

#[test]
fn no_turned_bit_is_ever_accepted() {
    let lengths = session(0, 0, 0).reply_lengths;
    let kinds: std::collections::BTreeSet<u8> = lengths.iter().map(|(kind, _)| *kind).collect();
    assert_eq!(kinds.len(), 3, "all kinds of replies");
    let mut turned = 0;
    for (nth, (_, length)) in lengths.iter().enumerate() {
        for byte in 0..*length {
            for mask in [1u8 << (byte % 8), 0xff, 0x80] {
                // Every accept is compared with the honest log as it happens.
                session(nth as u64 + 1, byte, mask);
                turned += 1;
            }
        }
    }
    assert!(turned > 1_500, "{turned}");
}
