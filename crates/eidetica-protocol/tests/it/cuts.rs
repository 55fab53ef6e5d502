//! Cut, duplicated, reordered: a sync that fails leaves a state from which the next one goes on.

use eidetica_protocol::{CloseReason, Failure, Frame, Outcome};

use crate::{
    model::{PACK_ENTRIES, Replica, Store},
    pair::{Wire, sync_over},
};

fn diverged(shared: usize, d: usize) -> (Store, Store) {
    let mut replica = Replica::new(1);
    replica.commit(shared, "shared");
    let (mut client, mut server) = (Store::new(replica.clone()), Store::new(replica));
    client.get_mut().commit(d, "ours");
    server.get_mut().commit(d, "theirs");
    (client, server)
}

fn cut_everywhere(make: impl Fn() -> (Store, Store)) {
    let (mut client, mut server) = make();
    let database = server.get().database;
    let mut whole = Wire::default();
    sync_over(&mut client, &mut server, database, &mut whole).unwrap();
    let final_ids = server.get().ids();
    for at in 0..whole.messages {
        let (mut client, mut server) = make();
        let mut wire = Wire {
            cut_at: Some(at),
            ..Wire::default()
        };
        let cut = sync_over(&mut client, &mut server, database, &mut wire);
        assert_eq!(
            cut,
            Err(Failure::Closed(CloseReason::Cut)),
            "cut before message {at}"
        );
        let outcome: Outcome =
            sync_over(&mut client, &mut server, database, &mut Wire::default()).unwrap();
        assert!(outcome.complete);
        assert!(
            outcome.received.known <= PACK_ENTRIES as u64,
            "at {at} {} came twice",
            outcome.received.known
        );
        assert_eq!(client.get().ids(), final_ids, "cut before message {at}");
        assert_eq!(server.get().ids(), final_ids, "cut before message {at}");
    }
}

#[test]
fn a_sync_cut_at_any_message_resumes() {
    cut_everywhere(|| diverged(50, 700));
}

#[test]
fn a_bootstrap_cut_at_any_message_resumes() {
    cut_everywhere(|| (Store::without(), diverged(50, 2000).1));
}

#[test]
fn packs_received_before_a_cut_are_not_sent_again() {
    let (_, mut server) = diverged(0, 4000);
    let mut client = Store::without();
    let database = server.get().database;
    let mut wire = Wire {
        cut_at: Some(20),
        ..Wire::default()
    };
    sync_over(&mut client, &mut server, database, &mut wire).unwrap_err();
    let before = client.get().len();
    assert!(before > 10 * PACK_ENTRIES, "{before}");
    let outcome = sync_over(&mut client, &mut server, database, &mut Wire::default()).unwrap();
    assert_eq!(
        (outcome.received.known, outcome.received.new),
        (0, (server.get().len() - before) as u64)
    );
}

/// Bends every response of a sync; whatever comes of it, an honest sync afterwards repairs it.
fn bent(bend: fn(&mut Vec<bytes::Bytes>)) -> Result<Outcome, Failure> {
    let (mut client, mut server) = diverged(50, 700);
    let database = server.get().database;
    let mut wire = Wire {
        bend: Some(Box::new(bend)),
        ..Wire::default()
    };
    let result = sync_over(&mut client, &mut server, database, &mut wire);
    let outcome = sync_over(&mut client, &mut server, database, &mut Wire::default()).unwrap();
    assert!(outcome.complete);
    assert_eq!(client.get().ids(), server.get().ids());
    assert_eq!(client.get().len(), 51 + 1400);
    result
}

fn is_pack(frame: &bytes::Bytes) -> bool {
    matches!(Frame::decode(frame), Ok(Frame::Pack(_)))
}

#[test]
fn duplicated_packs_are_harmless() {
    let outcome = bent(|frames| {
        *frames = frames
            .iter()
            .flat_map(|frame| vec![frame.clone(); if is_pack(frame) { 2 } else { 1 }])
            .collect();
    });
    let outcome = outcome.unwrap();
    assert_eq!((outcome.received.new, outcome.received.known), (700, 700));
}

#[test]
fn reordered_packs_are_harmless() {
    let outcome = bent(|frames| {
        if let Some(last) = frames.iter().rposition(is_pack) {
            frames[..=last].reverse();
        }
    });
    assert_eq!(outcome.unwrap().received.new, 700);
}

#[test]
fn duplicated_answers_are_refused() {
    let failure = bent(|frames| {
        let first = frames[0].clone();
        frames.insert(0, first);
    });
    assert!(matches!(failure, Err(Failure::Peer(_))), "{failure:?}");
}

#[test]
fn lost_packs_are_noticed() {
    let failure = bent(|frames| {
        if let Some(at) = frames.iter().rposition(is_pack) {
            frames.remove(at);
        }
    });
    assert!(matches!(failure, Err(Failure::Peer(_))), "{failure:?}");
}

#[test]
fn every_flipped_bit_of_a_control_frame_is_refused_or_harmless() {
    // Transports authenticate frames; this is about the machine's own robustness.
    for bit in 0..8 {
        for at in [0_usize, 1, 2, 10, 30, 40] {
            let (mut client, mut server) = diverged(20, 5);
            let database = server.get().database;
            let bend = move |frames: &mut Vec<bytes::Bytes>| {
                let mut first = frames[0].to_vec();
                let at = at % first.len();
                first[at] ^= 1 << bit;
                frames[0] = first.into();
            };
            let mut wire = Wire {
                bend: Some(Box::new(bend)),
                ..Wire::default()
            };
            let _result = sync_over(&mut client, &mut server, database, &mut wire);
            let outcome =
                sync_over(&mut client, &mut server, database, &mut Wire::default()).unwrap();
            assert!(outcome.complete);
            assert_eq!(client.get().ids(), server.get().ids());
        }
    }
}
