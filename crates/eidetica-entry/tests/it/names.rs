//! Store names.

use eidetica_entry::{NameError, StoreName, limits};

#[test]
fn ordinary_names_pass() {
    for name in [
        "notes",
        "a.b.c",
        "Ünïcödé",
        "with space",
        "s_",
        "日本語",
        "x".repeat(limits::NAME_BYTES).as_str(),
    ] {
        assert_eq!(StoreName::new(name).unwrap().as_str(), name);
        assert!(!StoreName::new(name).unwrap().is_settings());
    }
}

#[test]
fn bad_names_are_refused() {
    assert_eq!(StoreName::new(""), Err(NameError::Length(0)));
    assert_eq!(
        StoreName::new(&"x".repeat(limits::NAME_BYTES + 1)),
        Err(NameError::Length(256))
    );
    for bad in [
        '\0', '\n', '\u{1b}', '\u{7f}', '\u{85}', '\u{200e}', '\u{202e}', '\u{2066}', '\u{2069}',
        '\u{61c}', '\u{2028}',
    ] {
        assert_eq!(
            StoreName::new(&format!("a{bad}b")),
            Err(NameError::Character(bad)),
            "{bad:?}"
        );
    }
    assert_eq!(StoreName::from_utf8(&[0xff]), Err(NameError::Utf8));
}

#[test]
fn nothing_but_its_own_bytes_names_the_settings_store() {
    let settings = StoreName::settings();
    assert!(settings.is_settings());
    assert_eq!(StoreName::new("_settings").unwrap(), settings);
    assert_eq!(StoreName::from_utf8(b"_settings").unwrap(), settings);
    for reserved in [
        "_",
        "_Settings",
        "_SETTINGS",
        "_settings.",
        "_settings ",
        "_settings.name",
        "__settings",
        "_sync",
    ] {
        assert_eq!(
            StoreName::new(reserved),
            Err(NameError::Reserved),
            "{reserved}"
        );
    }
    for other in [
        "settings",
        " _settings",
        "\u{ff3f}settings",
        "\u{200b}_settings",
        "._settings",
        "ſettings",
    ] {
        let name = StoreName::new(other).unwrap();
        assert!(!name.is_settings() && name != settings, "{other}");
    }
}
