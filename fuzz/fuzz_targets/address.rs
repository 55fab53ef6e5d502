//! Texts that a stranger calls an address: no panic, and an address that is read is read again from its own text.
#![no_main]

use eidetica_transport::Address;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    let text = String::from_utf8_lossy(bytes);
    for read in [text.parse::<Address>(), Address::iroh(&text), Address::http(&text)] {
        let Ok(address) = read else { continue };
        assert_eq!(address.to_string().parse::<Address>().as_ref(), Ok(&address));
        if let Some(json) = address.to_json() {
            assert_eq!(json.parse::<Address>().as_ref(), Ok(&address));
        }
    }
});
