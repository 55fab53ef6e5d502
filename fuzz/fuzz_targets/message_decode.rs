//! Frames from a stranger: no panic, bounded memory, and only canonical bytes decode.
#![no_main]

use bytes::Bytes;
use eidetica_protocol::{Frame, Reply};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    let bytes = Bytes::copy_from_slice(bytes);
    let Ok(frame) = Frame::decode(&bytes) else { return };
    assert_eq!(frame.encode().as_ref(), Ok(&bytes));
    if let Frame::Reply(Reply::Headers(page) | Reply::Diverged { headers: page, .. }) = frame {
        let headers = page.headers().expect("checked while decoding");
        assert!(headers.is_sorted_by(|a, b| a.stamp > b.stamp));
    }
});
