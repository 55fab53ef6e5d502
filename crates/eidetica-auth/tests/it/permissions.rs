use eidetica_auth::{IntoPermission, KeyName, NameError, Permission, Right, limits};

use crate::RIGHTS;

#[test]
fn rights_form_one_order() {
    assert!(RIGHTS.is_sorted_by(|stronger, weaker| stronger > weaker));
}

#[test]
fn text_and_json_forms_go_there_and_back() {
    for (permission, text, json) in [
        (Permission::Read, "Read", r#""Read""#),
        (Permission::Write(0), "Write(0)", r#"{"Write":0}"#),
        (Permission::Write(10), "Write(10)", r#"{"Write":10}"#),
        (
            Permission::Admin(u32::MAX),
            "Admin(4294967295)",
            r#"{"Admin":4294967295}"#,
        ),
    ] {
        assert_eq!(permission.to_string(), text);
        assert_eq!(text.parse(), Ok(permission));
        assert_eq!(serde_json::to_string(&permission).unwrap(), json);
        assert_eq!(
            serde_json::from_str::<Permission>(json).unwrap(),
            permission
        );
    }
    for text in [
        "",
        "read",
        "Write",
        "Write()",
        "Write(+1)",
        "Write(01)",
        "Write(4294967296)",
        "Admin(0) ",
        "Recovery",
    ] {
        assert!(text.parse::<Permission>().is_err(), "{text}");
    }
}

#[test]
fn a_bare_constructor_asks_for_the_weakest_rank() {
    fn asked(permission: impl IntoPermission) -> Permission {
        permission.into_permission()
    }
    assert_eq!(asked(Permission::Write), Permission::Write(u32::MAX));
    assert_eq!(asked(Permission::Admin), Permission::Admin(u32::MAX));
    assert_eq!(asked(Permission::Write(15)), Permission::Write(15));
    assert_eq!(asked(Permission::Read), Permission::Read);
}

/// The whole table of author right x granted permission.
#[test]
fn a_grant_gives_strictly_less_than_its_author_has() {
    for (author_place, author) in RIGHTS.into_iter().enumerate() {
        for (granted_place, granted) in RIGHTS.into_iter().enumerate() {
            let Right::Permission(granted) = granted else {
                continue;
            };
            let expected = match author {
                Right::Recovery => true,
                Right::Permission(Permission::Admin(0)) => true,
                Right::Permission(Permission::Admin(_)) => granted_place > author_place,
                Right::Permission(_) => false,
            };
            assert_eq!(
                author.may_grant(granted),
                expected,
                "{author} grants {granted}"
            );
        }
    }
}

#[test]
fn names_are_bounded_and_show_what_they_are() {
    assert!(KeyName::new(&"é".repeat(limits::NAME_BYTES / 2)).is_ok());
    assert_eq!(
        KeyName::new(&"x".repeat(limits::NAME_BYTES))
            .unwrap()
            .as_str()
            .len(),
        limits::NAME_BYTES
    );
    assert_eq!(
        KeyName::new(&"x".repeat(limits::NAME_BYTES + 1)),
        Err(NameError::TooLong(limits::NAME_BYTES + 1))
    );
    for c in [
        '\0', '\n', '\u{1b}', '\u{7f}', '\u{85}', '\u{202e}', '\u{2066}', '\u{200f}', '\u{061c}',
        '\u{2028}',
    ] {
        assert_eq!(
            KeyName::new(&format!("a{c}b")),
            Err(NameError::Character(c))
        );
    }
    assert!(serde_json::from_str::<KeyName>("\"a\\u001b\"").is_err());
}
