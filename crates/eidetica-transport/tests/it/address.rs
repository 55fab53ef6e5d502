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
}

/// An endpoint's name.
fn endpoint() -> String {
    "0a".repeat(32)
}

#[test]
fn an_iroh_address_has_one_text() {
    let id = endpoint();
    let plain = format!("iroh://{id}");
    check(&plain, &plain);
    check(&plain.to_uppercase(), &plain);
    let home = format!("{plain}?relay=https://relay.example.com");
    for text in [
        format!("{plain}@relay.example.com"),
        format!("{plain}@https://Relay.Example.com:443/"),
        format!("{plain}?relay=relay.example.com"),
        home.clone(),
    ] {
        check(&text, &home);
    }
    let local = format!("{plain}?relay=http://127.0.0.1:3340&addr=127.0.0.1:4&addr=[::1]:5");
    check(&local, &local);
    check(&format!("{local}&addr=127.0.0.1:4"), &local);
    check(
        &format!("{plain}?addr=127.0.0.1:4"),
        &format!("{plain}?addr=127.0.0.1:4"),
    );
}

#[test]
fn an_iroh_address_is_read_as_iroh_writes_it() {
    let id = endpoint();
    let json = format!(
        r#"{{"id":"{id}","addrs":[{{"Relay":"https://relay.example.com./"}},{{"Ip":"192.0.2.1:4950"}},{{"Ip":"[::1]:5"}}]}}"#
    );
    let address: Address = json.parse().unwrap();
    let text =
        format!("iroh://{id}?relay=https://relay.example.com.&addr=192.0.2.1:4950&addr=[::1]:5");
    assert_eq!(address.to_string(), text);
    let again = address.to_json().unwrap();
    assert_eq!(again.parse::<Address>().unwrap(), address);
    assert_eq!(Address::iroh(&again).unwrap(), address);
    assert_eq!(Address::http("127.0.0.1").unwrap().to_json(), None);
    let bare = format!(r#"{{"id":"{id}","addrs":[]}}"#);
    check(&bare, &format!("iroh://{id}"));
    for bad in [
        "{".to_owned(),
        "{}".to_owned(),
        format!(r#"{{"id":"{id}"}}"#),
        format!(r#"{{"id":"{id}","addrs":[],"more":1}}"#),
        format!(r#"{{"id":"{id}","addrs":[{{"Tor":"x"}}]}}"#),
        format!(r#"{{"id":"{id}","addrs":[]}} trailing"#),
        "{\"a\":".repeat(150),
    ] {
        let error = bad.parse::<Address>().unwrap_err();
        assert!(matches!(error, AddressError::Json(_)), "{bad}: {error}");
    }
    assert!(Address::http(&json).is_err());
}

#[test]
fn an_iroh_address_names_the_key_that_must_be_proven() {
    let address: Address = format!("iroh://{}", endpoint()).parse().unwrap();
    let key = PublicKey::from([10; 32]);
    assert_eq!(address.key(), Some(&key));
    let other = PublicKey::from([7; 32]);
    assert_eq!(address.clone().with_key(other).key(), Some(&key));
    assert_eq!(address.clone().without_key().key(), Some(&key));
    let home: Address = format!("{address}@relay").parse().unwrap();
    assert!(address.is_same_endpoint(&home) && home != address);
    assert!(!address.is_same_endpoint(&Address::http("host").unwrap()));
    assert!(
        !Address::http("host")
            .unwrap()
            .is_same_endpoint(&Address::http("host").unwrap())
    );
}

#[test]
fn iroh_errors_say_what_is_wrong() {
    let id = endpoint();
    let error = |rest: &str| format!("iroh://{rest}").parse::<Address>().unwrap_err();
    for bad in [
        "",
        "abc",
        &id[1..],
        &format!("{id}0"),
        &id.replace('0', "g"),
    ] {
        assert_eq!(error(bad), AddressError::Endpoint(bad.into()));
    }
    for bad in [
        "",
        "ftp://relay",
        "a b",
        "relay:0",
        "relay/path",
        "https://",
        "::1",
    ] {
        assert_eq!(
            error(&format!("{id}@{bad}")),
            AddressError::Relay(bad.into())
        );
    }
    for bad in ["", "relay", "host=1", "=", "addr"] {
        assert_eq!(
            error(&format!("{id}?{bad}")),
            AddressError::Query(bad.into())
        );
    }
    for bad in [
        "",
        "host:1",
        "1.2.3.4",
        "1.2.3.4:0",
        "0.0.0.0:1",
        "224.0.0.1:1",
        "255.255.255.255:1",
        "[::]:1",
        "[ff02::1]:1",
        "[fe80::1%2]:1",
    ] {
        assert_eq!(
            error(&format!("{id}?addr={bad}")),
            AddressError::Direct(bad.into())
        );
    }
    let twice = error(&format!("{id}@a?relay=b"));
    assert_eq!(twice, AddressError::Query("two relays".into()));
}

#[test]
fn sockets_are_bounded() {
    let sockets = |count: usize| {
        let sockets: String = (1..=count)
            .map(|port| format!("&addr=1.2.3.4:{port}"))
            .collect();
        format!("iroh://{}?{}", endpoint(), sockets.trim_start_matches('&')).parse::<Address>()
    };
    let most = sockets(limits::DIRECT).unwrap();
    assert_eq!(most.endpoint().unwrap().direct().len(), limits::DIRECT);
    assert_eq!(
        sockets(limits::DIRECT + 1),
        Err(AddressError::TooManyDirect)
    );
    let longest = most.endpoint().unwrap().clone();
    let relay = format!("{}.com", ["a".repeat(63).as_str(); 3].join("."));
    let long = (0..limits::DIRECT).map(|n| {
        format!("[2001:1111:2222:3333:4444:5555:6666:777{n}]:65535")
            .parse()
            .unwrap()
    });
    let longest = Address::from(
        longest
            .with_relay(relay.parse().unwrap())
            .with_direct(long)
            .unwrap(),
    );
    assert_eq!(longest.to_string().parse::<Address>().unwrap(), longest);
    assert_eq!(
        longest.to_json().unwrap().parse::<Address>().unwrap(),
        longest
    );
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
    let address = Address::iroh(&format!("{}@relay", endpoint())).unwrap();
    assert_eq!(
        (address.scheme(), address.host()),
        (Scheme::Iroh, endpoint().as_str())
    );
    assert_eq!(address.relay().unwrap().to_string(), "https://relay");
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
