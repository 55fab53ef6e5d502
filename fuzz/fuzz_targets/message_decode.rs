//! Frames from a stranger: no panic, bounded memory, and only canonical bytes decode.
#![no_main]

use bytes::Bytes;
use eidetica_protocol::{Frame, Reply, Sketch};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    let bytes = Bytes::copy_from_slice(bytes);
    let Ok(frame) = Frame::decode(&bytes) else { return };
    assert_eq!(frame.encode().as_ref(), Ok(&bytes));
    if let Frame::Reply(
        Reply::Sketch(parts) | Reply::Diverged { sketch: Sketch::Parts(parts), .. },
    ) = frame
    {
        let parts = parts.parts().expect("checked while decoding");
        assert!(parts.is_sorted_by(|a, b| a.span.to.is_some_and(|end| end <= b.span.from)));
    }
});
