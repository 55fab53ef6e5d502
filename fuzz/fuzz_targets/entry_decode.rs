//! Entries and headers from a stranger: no panic, and only canonical bytes decode.
#![no_main]

use eidetica_entry::{Entry, Header};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    if let Ok(entry) = Entry::decode(bytes) {
        assert_eq!(entry.encode(), bytes);
        assert_eq!(Header::id_of(entry.header_bytes()), entry.id());
    }
    if let Ok(header) = Header::decode(bytes) {
        assert_eq!(header.encode(), bytes);
    }
});
