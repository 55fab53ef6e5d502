//! Links that take longer for one entry than a session waits for one frame.

use std::{thread, time::Duration};

use eidetica_auth::Permission;
use eidetica_protocol::limits;
use eidetica_testkit::Rng;

use crate::{
    proxy::{PIECE, Proxy},
    world::{Net, Peer},
};

/// Of each piece of the link.
const PACE: Duration = Duration::from_millis(220);

/// A text that does not become shorter than three quarters.
fn text() -> String {
    const LETTERS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
    let pieces = limits::IDLE_MS as usize / PACE.as_millis() as usize;
    let bytes = (pieces + pieces / 5) * PIECE;
    let mut rng = Rng::new(1);
    let letter = |_| char::from(LETTERS[rng.below(LETTERS.len())]);
    (0..bytes * 4 / 3).map(letter).collect()
}

/// Whoever sends is not cut as long as what it sends arrives, in either direction.
#[test]
fn an_entry_that_takes_longer_than_a_frame_may_is_synced() {
    let over = |first: &str| {
        let (alice, bob) = (Peer::new(&Net::Http, "alice"), Peer::new(&Net::Http, "bob"));
        let id = alice
            .create(&[(bob.key.public(), Permission::Write(5))], None)
            .id();
        let direct = alice.serve();
        bob.try_sync(&direct, id).unwrap();
        bob.hang_up(&alice);
        let (sender, receiver) = match first {
            "alice" => (&alice, &bob),
            _ => (&bob, &alice),
        };
        let text = text();
        sender.write(id, "long", &text);
        let slow = Proxy::with_pace(&direct, PACE);
        bob.try_sync(&slow.address, id).unwrap();
        assert!(receiver.read(id, "long").is_some_and(|read| read == text));
    };
    thread::scope(|scope| {
        for first in ["alice", "bob"] {
            scope.spawn(move || over(first));
        }
    });
}
