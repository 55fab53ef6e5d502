//! Handshake messages from a stranger, at every step: no panic, and nobody is proven by anything but the right bytes.
//!
//! The first byte says which step gets the rest; the honest messages of the corpus are of the keys below.
#![no_main]

use bytes::Bytes;
use eidetica_auth::SecretKey;
use eidetica_protocol::handshake::{Acceptor, Initiator, Side, VERSIONS};
use libfuzzer_sys::fuzz_target;

fn side(device: &SecretKey, nonce: u8) -> Side<'_> {
    Side { device, binding: [7; 32], nonce: [nonce; 32], versions: VERSIONS }
}

fuzz_target!(|bytes: &[u8]| {
    let Some((step, frame)) = bytes.split_first() else { return };
    let frame = Bytes::copy_from_slice(frame);
    let (initiator, acceptor) = (SecretKey::from_bytes(&[1; 32]), SecretKey::from_bytes(&[2; 32]));
    let (waiting, hello) = Initiator::start(&side(&initiator, 1), Some(acceptor.public())).expect("a hello");
    match step % 4 {
        0 => {
            if let Ok((server, _)) = Acceptor::hello(&side(&acceptor, 2), &frame) {
                let _ = server.proof(&frame);
            }
        }
        1 => {
            if let Ok((proving, _)) = waiting.answered(&frame, &initiator, &[]) {
                let _ = proving.welcomed(&frame);
            }
        }
        2 => {
            let (server, _) = Acceptor::hello(&side(&acceptor, 2), &hello).expect("an answer");
            if let Ok((identity, _)) = server.proof(&frame) {
                assert_eq!(identity.device, initiator.public());
            }
        }
        _ => {
            let (_, answer) = Acceptor::hello(&side(&acceptor, 2), &hello).expect("an answer");
            let (proving, _) = waiting.answered(&answer, &initiator, &[]).expect("a proof");
            if let Ok(identity) = proving.welcomed(&frame) {
                assert_eq!(identity.device, acceptor.public());
            }
        }
    }
});
