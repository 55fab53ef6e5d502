//! Tickets through the public surface.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing
)]

use eidetica_auth::{Permission, SecretKey};
use eidetica_entry::Id;
use eidetica_ticket::{Invite, Ticket, TicketError, limits};
use eidetica_transport::{Address, EndpointAddress};
use proptest::prelude::*;

fn device() -> SecretKey {
    SecretKey::from_bytes(&[1; 32])
}

fn endpoint() -> EndpointAddress {
    EndpointAddress::new(device().public())
}

fn http(text: &str) -> Address {
    Address::http(text).unwrap()
}

fn invite() -> Invite {
    Invite {
        secret: SecretKey::from_bytes(&[2; 32]),
        permission: Permission::Write(10),
        expires_ms: 1_800_000_000_000,
    }
}

fn ticket(addresses: Vec<Address>) -> Ticket {
    Ticket::new(Id::new([3; 32]), device().public(), addresses).unwrap()
}

/// One of every kind of address, and an invite.
fn full() -> Ticket {
    let direct = ["192.0.2.7:4950", "[2001:db8::7]:4950"].map(|socket| socket.parse().unwrap());
    let place = endpoint()
        .with_relay("https://relay.example.com".parse().unwrap())
        .with_direct(direct)
        .unwrap();
    ticket(vec![
        place.into(),
        http("198.51.100.1:8080"),
        http("[::1]:81"),
        http("peer.example.com"),
    ])
    .with_invite(invite())
}

#[track_caller]
fn check(ticket: &Ticket) {
    let text = ticket.to_string();
    assert!(text.len() <= limits::TEXT, "{}", text.len());
    let plain = |c: char| c.is_ascii_alphanumeric();
    assert!(text.strip_prefix("eidetica:").unwrap().chars().all(plain));
    assert_eq!(&text.parse::<Ticket>().unwrap(), ticket);
    assert_eq!(&ticket.to_qr_text().parse::<Ticket>().unwrap(), ticket);
    assert_eq!(&format!("  {text}\n").parse::<Ticket>().unwrap(), ticket);
}

#[test]
fn a_ticket_without_its_invite_is_the_same_ticket_and_no_secret() {
    let plain = full().without_invite();
    assert!(plain.invite().is_none());
    assert_eq!(plain.with_invite(invite()), full());
}

#[test]
fn tickets_are_read_as_they_were_written() {
    check(&ticket(vec![]));
    check(&ticket(vec![endpoint().into()]));
    check(&full());
    for permission in [
        Permission::Read,
        Permission::Write(0),
        Permission::Admin(u32::MAX),
    ] {
        let invite = Invite {
            permission,
            ..invite()
        };
        let invited = ticket(vec![]).with_invite(invite.clone());
        check(&invited);
        let again: Ticket = invited.to_string().parse().unwrap();
        assert_eq!(again.invite(), Some(&invite));
        let secret = again.invite().unwrap().secret.expose();
        assert_eq!(*secret, *invite.secret.expose());
    }
}

/// Frozen: tickets stand on paper and in chats.
#[test]
fn the_text_is_frozen() {
    let golden = include_str!("golden.txt");
    let mut lines = golden.lines();
    assert_eq!(lines.next(), Some(ticket(vec![]).to_string().as_str()));
    assert_eq!(lines.next(), Some(full().to_string().as_str()));
    assert_eq!(lines.next(), None);
}

#[test]
fn a_tickets_addresses_pin_its_device() {
    let full = full();
    let addresses: Vec<Address> = full.addresses().collect();
    assert_eq!(addresses.len(), 4);
    for address in &addresses {
        assert_eq!(address.key(), Some(&device().public()));
    }
    let other = SecretKey::from_bytes(&[9; 32]).public();
    for foreign in [
        EndpointAddress::new(other).into(),
        http("host").with_key(other),
    ] {
        let error = Ticket::new(full.database(), device().public(), [foreign.clone()]);
        assert_eq!(error.err(), Some(TicketError::OtherDevice(foreign)));
    }
    let same = ticket(vec![http("a"), http("a").with_key(device().public())]);
    assert_eq!(same.addresses().count(), 1);
}

#[test]
fn every_slip_is_noticed() {
    let text = full().to_string();
    for at in 9..text.len() {
        let mut letters: Vec<char> = text.chars().collect();
        letters[at] = if letters[at] == 'a' { 'b' } else { 'a' };
        let changed: String = letters.iter().collect();
        let error = changed.parse::<Ticket>().unwrap_err();
        assert!(
            matches!(error, TicketError::Checksum | TicketError::Characters),
            "{at}: {error}"
        );
        letters.remove(at);
        let shorter: String = letters.iter().collect();
        assert!(shorter.parse::<Ticket>().is_err());
        assert!(text[..at].parse::<Ticket>().is_err());
    }
}

#[test]
fn errors_say_what_is_wrong() {
    let error = |text: &str| text.parse::<Ticket>().unwrap_err();
    for text in [
        "",
        "eidetica",
        "http://host",
        "iroh:abc",
        "eidetic\u{fc}:aa",
    ] {
        assert_eq!(error(text), TicketError::NotATicket, "{text}");
    }
    assert_eq!(error("eidetica:"), TicketError::Checksum);
    assert_eq!(error("eidetica:aaaaaaaa"), TicketError::Checksum);
    for text in [
        "eidetica:a1",
        "eidetica:a b",
        "eidetica:aaaaaaaa======",
        "eidetica:\u{131}",
    ] {
        assert_eq!(error(text), TicketError::Characters, "{text}");
    }
    let long = "a".repeat(limits::TEXT + 1);
    assert_eq!(error(&long), TicketError::TooLong(limits::TEXT + 1));
    assert_eq!(
        sealed(&[2]).parse::<Ticket>().unwrap_err(),
        TicketError::Version(2)
    );
    let bytes = bytes_of(&full());
    for cut in 1..bytes.len() {
        let error = sealed(&bytes[..cut]).parse::<Ticket>().unwrap_err();
        assert!(matches!(error, TicketError::Malformed(_)), "{cut}: {error}");
    }
    let mut more = bytes.clone();
    more.push(0);
    assert!(matches!(error(&sealed(&more)), TicketError::Malformed(_)));
    let mut flags = bytes.clone();
    flags[1] = 2;
    assert!(matches!(error(&sealed(&flags)), TicketError::Malformed(_)));
    let mut no_key = bytes;
    no_key[34..66].fill(0);
    assert!(matches!(error(&sealed(&no_key)), TicketError::Malformed(_)));
}

/// The same place in another form is no second ticket.
#[test]
fn a_ticket_has_one_form() {
    let mut bytes = bytes_of(&ticket(vec![]));
    bytes[66] = 1;
    bytes.push(0);
    let text = b"http://198.51.100.1:8080";
    bytes.push(text.len() as u8);
    bytes.extend_from_slice(text);
    let error = sealed(&bytes).parse::<Ticket>().unwrap_err();
    assert_eq!(error, TicketError::Malformed("another form of the same"));
}

#[test]
fn sizes_are_bounded() {
    let many = |count: u16| (0..count).map(|n| http(&format!("10.0.0.1:{}", n + 1)));
    let most = limits::ADDRESSES as u16;
    assert!(Ticket::new(Id::new([3; 32]), device().public(), many(most)).is_ok());
    assert_eq!(
        Ticket::new(Id::new([3; 32]), device().public(), many(most + 1)).err(),
        Some(TicketError::TooManyAddresses)
    );
    let mut bytes = bytes_of(&ticket(vec![]));
    bytes[66] = most as u8 + 1;
    assert_eq!(
        sealed(&bytes).parse::<Ticket>().unwrap_err(),
        TicketError::TooManyAddresses
    );

    // https:// and a relay's name of 247 bytes; one more is too long.
    let name = [
        "a".repeat(63),
        "b".repeat(63),
        "c".repeat(63),
        "d".repeat(55),
    ]
    .join(".");
    let relayed = |name: &str| Address::from(endpoint().with_relay(name.parse().unwrap()));
    check(&ticket(vec![relayed(&name)]));
    let long = relayed(&format!("{name}d"));
    let refused = Ticket::new(Id::new([3; 32]), device().public(), [long.clone()]);
    assert_eq!(refused.err(), Some(TicketError::LongAddress(long)));

    let direct =
        |n: u16| (1..=8).map(move |m| format!("[2001:db8::{n}:{m}]:65535").parse().unwrap());
    let largest = (0..4).map(|n| {
        let place = endpoint().with_relay(name.parse().unwrap());
        place.with_direct(direct(n)).unwrap().into()
    });
    let largest = ticket(largest.collect()).with_invite(invite());
    assert!(bytes_of(&largest).len() <= limits::BYTES);
    check(&largest);
}

#[test]
fn debug_output_holds_no_secret() {
    let shown = format!("{:?}", full());
    let secret: String = [2_u8; 32]
        .iter()
        .map(|byte| format!("{byte:02x}"))
        .collect();
    assert!(!shown.contains(&secret) && !shown.contains("[2, 2, 2"));
    assert!(shown.contains("Write(10)"));
}

const LETTERS: &[u8; 32] = b"abcdefghijklmnopqrstuvwxyz234567";

/// The bytes of a ticket without the checksum.
fn bytes_of(ticket: &Ticket) -> Vec<u8> {
    let text = ticket.to_string();
    let (mut bits, mut count, mut bytes) = (0_u32, 0, Vec::new());
    for letter in text["eidetica:".len()..].bytes() {
        let value = LETTERS.iter().position(|known| *known == letter).unwrap();
        bits = (bits << 5) | value as u32;
        count += 5;
        if count >= 8 {
            count -= 8;
            bytes.push((bits >> count) as u8);
        }
    }
    bytes.truncate(bytes.len() - 4);
    bytes
}

/// The text of bytes that get the right checksum.
fn sealed(bytes: &[u8]) -> String {
    let checksum = blake3::derive_key("eidetica ticket checksum v1", bytes);
    let bytes = [bytes, &checksum[..4]].concat();
    let mut text = "eidetica:".to_owned();
    for five in bytes.chunks(5) {
        let mut padded = [0; 8];
        padded[3..3 + five.len()].copy_from_slice(five);
        let bits = u64::from_be_bytes(padded);
        let letters = (five.len() * 8).div_ceil(5);
        for letter in 0..letters {
            text.push(LETTERS[(bits >> (35 - 5 * letter)) as usize & 31] as char);
        }
    }
    text
}

proptest! {
    #[test]
    fn any_text_is_a_ticket_or_an_error(text in "\\PC{0,200}", letters in "[a-zA-Z2-7]{0,400}") {
        let _ = text.parse::<Ticket>();
        let _ = format!("eidetica:{letters}").parse::<Ticket>();
    }

    #[test]
    fn any_bytes_with_a_checksum_are_a_ticket_or_an_error(bytes in proptest::collection::vec(any::<u8>(), 0..300), head in any::<bool>()) {
        let mut bytes = bytes;
        if head {
            let mut whole = bytes_of(&ticket(vec![]));
            whole.truncate(66);
            whole.extend_from_slice(&bytes);
            bytes = whole;
        }
        if let Ok(ticket) = sealed(&bytes).parse::<Ticket>() {
            check(&ticket);
            prop_assert_eq!(bytes_of(&ticket), bytes);
        }
    }

    #[test]
    fn tickets_of_any_parts_are_read_again(
        database in any::<[u8; 32]>(), ports in proptest::collection::vec(1..u16::MAX, 0..4), secret in any::<[u8; 32]>(),
        rank in any::<u32>(), expires_ms in any::<u64>(),
    ) {
        let addresses = ports.iter().map(|port| http(&format!("10.1.2.3:{port}")));
        let plain = Ticket::new(Id::new(database), device().public(), addresses).unwrap();
        check(&plain);
        let invite = Invite { secret: SecretKey::from_bytes(&secret), permission: Permission::Write(rank), expires_ms };
        check(&plain.with_invite(invite));
    }
}
