use eidetica_entry::PublicKey;
use eidetica_transport::{Address, AddressError, DEFAULT_HTTP_PORT, Scheme, limits};

#[track_caller]
fn check(text: &str, expected: &str) {
    let address: Address = text
        .parse()
        .unwrap_or_else(|error| panic!("{text}: {error}"));
    assert_eq!(address.to_string(), expected);
    assert_eq!(
        expected.parse::<Address>().unwrap(),
        address,
        "{expected} is not its own text"
    );
}

#[test]
fn every_form_has_one_text() {
    check("127.0.0.1:8080", "http://127.0.0.1:8080");
    check("  127.0.0.1:8080\n", "http://127.0.0.1:8080");
    check(
        "peer.example.com",
        &format!("http://peer.example.com:{DEFAULT_HTTP_PORT}"),
    );
    check("HTTP://Peer.Example.com:80/", "http://peer.example.com:80");
    check("localhost", "http://localhost:4950");
    check("host_1-a:65535", "http://host_1-a:65535");
    check("[::1]", "http://[::1]:4950");
    check("http://[2001:DB8:0:0::1]:81", "http://[2001:db8::1]:81");
    check("memory://alice", "memory://alice");
    check("iroh://peer_id", "iroh://peer_id");
    check("iroh://peer_id@relay", "iroh://peer_id@relay");
}

#[test]
fn a_pinned_key_stands_before_the_host() {
    let key = PublicKey::from([7; 32]);
    for text in ["http://127.0.0.1:8080", "http://[::1]:9", "memory://alice"] {
        let plain: Address = text.parse().unwrap();
        let pinned = plain.clone().with_key(key);
        assert_eq!(pinned.key(), Some(&key));
        check(&pinned.to_string(), &pinned.to_string());
        assert_eq!(pinned.to_string().parse::<Address>().unwrap(), pinned);
        assert_ne!(pinned, plain);
        assert_eq!(pinned.without_key(), plain);
    }
}

#[test]
fn parts_are_readable() {
    let address = Address::http("[::1]:8080").unwrap();
    assert_eq!(
        (address.scheme(), address.host(), address.port()),
        (Scheme::Http, "::1", Some(8080))
    );
    let address = Address::iroh("iroh://abc@relay").unwrap();
    assert_eq!(
        (address.scheme(), address.host(), address.relay()),
        (Scheme::Iroh, "abc", Some("relay"))
    );
    let address = Address::memory("m").unwrap();
    assert_eq!(
        (address.scheme(), address.host(), address.port()),
        (Scheme::Memory, "m", None)
    );
}

#[test]
fn errors_say_what_is_wrong() {
    let error = |text: &str| text.parse::<Address>().unwrap_err();
    assert_eq!(error(""), AddressError::Empty);
    assert_eq!(error("http://"), AddressError::Empty);
    assert_eq!(error(":80"), AddressError::Empty);
    assert_eq!(error("ftp://host"), AddressError::Scheme("ftp".into()));
    assert_eq!(error("::1"), AddressError::NeedsBrackets("::1".into()));
    assert_eq!(
        error("fe80::1:8080"),
        AddressError::NeedsBrackets("fe80::1:8080".into())
    );
    assert_eq!(error("host:0"), AddressError::Port("0".into()));
    assert_eq!(error("host:65536"), AddressError::Port("65536".into()));
    assert_eq!(error("host:+80"), AddressError::Port("+80".into()));
    assert_eq!(error("host:"), AddressError::Port("".into()));
    assert_eq!(error("[::1]80"), AddressError::Port("80".into()));
    assert_eq!(error("[::1"), AddressError::Host("[::1".into()));
    assert_eq!(
        error("[fe80::1%eth0]"),
        AddressError::Host("fe80::1%eth0".into())
    );
    assert_eq!(error("host/path"), AddressError::Path("host/path".into()));
    assert_eq!(error("host?query"), AddressError::Path("host?query".into()));
    assert_eq!(error("user@host"), AddressError::Key("user".into()));
    assert_eq!(error("memory://a b"), AddressError::Name("a b".into()));
    assert_eq!(error("memory://"), AddressError::Name("".into()));
    for host in [
        "a b",
        "a..b",
        "-a",
        "a-",
        "1.2.3",
        "1.2.3.4.5",
        "0x7f.1",
        "256.1.1.1",
        "ho\u{301}st",
        "a\u{202e}b",
        "127.1",
    ] {
        if host == "0x7f.1" {
            assert!(host.parse::<Address>().is_err());
            continue;
        }
        assert_eq!(error(host), AddressError::Host(host.into()), "{host}");
    }
    assert!(matches!(
        Address::http("memory://a"),
        Err(AddressError::WrongScheme {
            wanted: Scheme::Http,
            ..
        })
    ));
}

#[test]
fn lengths_are_bounded() {
    let label = "a".repeat(63);
    let host = [label.as_str(); 4].join(".");
    assert_eq!(host.len(), limits::HOST + 2);
    assert!(Address::http(&host[..limits::HOST]).is_ok());
    assert!(Address::http(&host[..limits::HOST + 1]).is_err());
    assert!(Address::memory(&"a".repeat(limits::MEMORY_NAME)).is_ok());
    assert!(Address::memory(&"a".repeat(limits::MEMORY_NAME + 1)).is_err());
    let long = limits::ADDRESS + 1;
    assert_eq!(
        "a".repeat(long).parse::<Address>().unwrap_err(),
        AddressError::TooLong { len: long }
    );
}
