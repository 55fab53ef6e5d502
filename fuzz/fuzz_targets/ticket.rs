//! Texts that a stranger calls a ticket: no panic, and a ticket that is read is written again as it stood.
//!
//! The bytes get the right prefix, letters and checksum, or nothing would get past those.
#![no_main]

use eidetica_ticket::Ticket;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    let plain = String::from_utf8_lossy(bytes);
    let _ = plain.parse::<Ticket>();
    let checksum = blake3::derive_key("eidetica ticket checksum v1", bytes);
    let sealed = [bytes, &checksum[..4]].concat();
    let text = format!("eidetica:{}", data_encoding::BASE32_NOPAD.encode(&sealed).to_ascii_lowercase());
    if let Ok(ticket) = text.parse::<Ticket>() {
        assert_eq!(ticket.to_string(), text);
        assert!(ticket.addresses().all(|address| address.key() == Some(&ticket.device())));
    }
});
