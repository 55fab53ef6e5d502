//! Sessions over HTTP that are cut after so many bytes.

use std::{thread, time::Instant};

use eidetica_auth::Permission;

use crate::{
    proxy::Proxy,
    world::{Net, Peer},
};

/// Every so many bytes, from the first to the last, unless `EIDETICA_CUT_STEP` says something else: 1 is after every byte.
const STEP: usize = 127;
/// Pairs of nodes whose sessions are cut at the same time.
const PAIRS: usize = 4;

/// Cuts sessions after `first` bytes, `first + stride`, and so on, until one ends before it is cut. Says how many were cut, and
/// after how many bytes the last one would have been.
fn cut_sessions(first: usize, stride: usize) -> (usize, usize) {
    let (alice, bob) = (Peer::new(&Net::Http, "alice"), Peer::new(&Net::Http, "bob"));
    let id = alice
        .create(&[(bob.key.public(), Permission::Write(5))], None)
        .id();
    let proxy = Proxy::before(&alice.serve());
    bob.try_sync(&proxy.address, id).unwrap();
    for (cut, bytes) in (first..).step_by(stride).enumerate() {
        let value = bytes.to_string();
        alice.write(id, "alice", &value);
        bob.write(id, "bob", &value);
        bob.hang_up(&alice);
        proxy.let_through(bytes);
        let is_whole = bob.try_sync(&proxy.address, id).is_ok();
        proxy.let_through(usize::MAX);
        if is_whole {
            return (cut, bytes);
        }
        bob.try_sync(&proxy.address, id).unwrap();
        for peer in [&alice, &bob] {
            assert_eq!(peer.read(id, "alice").as_deref(), Some(&*value), "{bytes}");
            assert_eq!(peer.read(id, "bob").as_deref(), Some(&*value), "{bytes}");
        }
        assert_eq!(alice.tips(id), bob.tips(id));
    }
    unreachable!("a session has an end")
}

/// Handshakes, comparison, transfer both ways: wherever it is cut, the next session does the rest.
#[test]
fn a_session_cut_every_few_bytes_resumes() {
    let step = std::env::var("EIDETICA_CUT_STEP").map_or(STEP, |step| step.parse().unwrap());
    let began = Instant::now();
    let (cut, length) = thread::scope(|scope| {
        let pairs =
            (0..PAIRS).map(|pair| scope.spawn(move || cut_sessions(pair * step, PAIRS * step)));
        let pairs: Vec<_> = pairs.collect();
        let ends = pairs.into_iter().map(|pair| pair.join().unwrap());
        ends.fold((0, 0), |(cut, longest), (more, end)| {
            (cut + more, longest.max(end))
        })
    });
    println!(
        "{cut} sessions of up to {length} bytes were cut, {step} bytes apart, in {:.1} s",
        began.elapsed().as_secs_f64()
    );
    assert!(cut >= length / step - PAIRS, "{cut} sessions were cut");
    assert!(
        length > 1_000,
        "a whole session has more than {length} bytes"
    );
}
