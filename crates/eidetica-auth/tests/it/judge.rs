use std::collections::BTreeMap;

use eidetica_auth::{
    AuthRecord, AuthState, Below, Delegation, KeyError, Lookup, Missing, NothingBelow, Permission,
    Reject, Revocation, Right, SettingsError, SettingsPayload, Verdict, judge,
};
use eidetica_entry::{Author, Draft, Height, Id, ParentInfo, PublicKey, StoreName, Via};

use crate::{RIGHTS, gives, id, name, secret};

const ADMIN0: Right = Right::Permission(Permission::Admin(0));

fn settings(records: Vec<AuthRecord>) -> Vec<u8> {
    SettingsPayload::new(records, Default::default())
        .unwrap()
        .encode()
        .to_vec()
}

fn stores(payloads: &[(&str, &[u8])]) -> BTreeMap<StoreName, bytes::Bytes> {
    payloads
        .iter()
        .map(|(name, bytes)| (StoreName::new(name).unwrap(), bytes.to_vec().into()))
        .collect()
}

fn root(author: PublicKey, records: Vec<AuthRecord>) -> Verdict {
    let payload = settings(records);
    let draft = Draft::root([0; 32], stores(&[("_settings", &payload)]), author, None).unwrap();
    let Ok(verdict) = judge(
        draft.header(),
        draft.id(),
        Some(&payload),
        &AuthState::default(),
        &NothingBelow,
    );
    verdict
}

/// An entry above some root, with these payloads.
fn child(author: impl Into<Author>, payloads: &[(&str, &[u8])], state: &AuthState) -> Verdict {
    let parent = ParentInfo {
        id: id(1),
        height: Height(0),
        writes_settings: true,
        settings: Default::default(),
    };
    let draft = Draft::child(
        id(1),
        &[parent],
        vec![id(1)],
        stores(payloads),
        author,
        None,
    )
    .unwrap();
    let settings = payloads
        .iter()
        .find(|(name, _)| *name == "_settings")
        .map(|(_, bytes)| *bytes);
    let Ok(verdict) = judge(draft.header(), draft.id(), settings, state, &NothingBelow);
    verdict
}

fn child_settings(author: PublicKey, records: Vec<AuthRecord>, state: &AuthState) -> Verdict {
    child(author, &[("_settings", &settings(records))], state)
}

fn reason(verdict: Verdict) -> Option<Reject> {
    match verdict {
        Verdict::Sound(_) => None,
        Verdict::Reject(reason) => Some(reason),
        other => panic!("{other:?}"),
    }
}

fn strength(verdict: Verdict) -> Right {
    match verdict {
        Verdict::Sound(sound) => sound.strength,
        other => panic!("{other:?}"),
    }
}

/// The state in which key number 10 + i has `RIGHTS[i]`, key 1 is the root's author, others have
/// nothing.
fn all_rights() -> AuthState {
    let mut records: Vec<_> = RIGHTS
        .into_iter()
        .zip(10..)
        .map(|(right, n)| gives(n, right))
        .collect();
    records.push(gives(1, ADMIN0));
    match root(secret(1).public(), records) {
        Verdict::Sound(sound) => sound.settings.unwrap().after,
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_root_names_keys_at_any_right_its_author_among_them_as_an_admin() {
    let state = all_rights();
    for (right, n) in RIGHTS.into_iter().zip(10..) {
        assert_eq!(state.right_of(&secret(n).public()), Some(right));
    }
    let author = secret(1).public();
    assert_eq!(reason(root(author, vec![])), Some(Reject::NoRight(author)));
    assert_eq!(
        reason(root(author, vec![gives(2, ADMIN0)])),
        Some(Reject::NoRight(author))
    );
    for right in RIGHTS {
        let verdict = reason(root(author, vec![gives(1, right)]));
        let expected =
            (!right.permission().can_admin()).then_some(Reject::NeedsAdmin { key: author, right });
        assert_eq!(verdict, expected);
    }
    // The wildcard does not make an author.
    let wildcard = AuthRecord::Wildcard(Some(Permission::Write(0)));
    assert_eq!(
        reason(root(author, vec![wildcard])),
        Some(Reject::NoRight(author))
    );
}

#[test]
fn a_root_is_its_own_source_whatever_state_is_given() {
    let payload = settings(vec![gives(2, ADMIN0)]);
    let author = secret(1).public();
    let draft = Draft::root([0; 32], stores(&[("_settings", &payload)]), author, None).unwrap();
    let Ok(verdict) = judge(
        draft.header(),
        draft.id(),
        Some(&payload),
        &all_rights(),
        &NothingBelow,
    );
    assert_eq!(reason(verdict), Some(Reject::NoRight(author)));
}

#[test]
fn data_need_write_and_settings_need_admin() {
    let state = all_rights();
    for (right, n) in RIGHTS.into_iter().zip(10..) {
        let key = secret(n).public();
        let data = reason(child(key, &[("data", b"x")], &state));
        let settings = reason(child_settings(key, vec![], &state));
        let can = |needed: Right| right >= needed;
        let write = can(Permission::Write(u32::MAX).into());
        assert_eq!(data, (!write).then_some(Reject::NeedsWrite { key, right }));
        let admin = can(Permission::Admin(u32::MAX).into());
        assert_eq!(
            settings,
            (!admin).then_some(Reject::NeedsAdmin { key, right })
        );
        // Judged as a whole: data beside settings do not help.
        let payload = self::settings(vec![]);
        let both = reason(child(
            key,
            &[("_settings", &payload), ("data", b"x")],
            &state,
        ));
        assert_eq!(both.is_none(), admin);
    }
    let stranger = secret(99).public();
    assert_eq!(
        reason(child(stranger, &[("data", b"x")], &state)),
        Some(Reject::NoRight(stranger))
    );
    assert_eq!(
        reason(child_settings(stranger, vec![], &state)),
        Some(Reject::NoRight(stranger))
    );
}

/// Author right x granted right, for a key without any right, for the author itself, and for one
/// that is stronger.
#[test]
fn grants_follow_the_table() {
    let state = all_rights();
    for (author_place, (author, n)) in RIGHTS.into_iter().zip(10..).enumerate() {
        for (granted_place, granted) in RIGHTS.into_iter().enumerate() {
            for target in [99, n, 10] {
                let key = secret(n).public();
                let verdict = reason(child_settings(key, vec![gives(target, granted)], &state));
                let expected = if !author.permission().can_admin() {
                    Some(Reject::NeedsAdmin { key, right: author })
                } else if granted != Right::Recovery
                    && (granted_place > author_place || author == granted && author == ADMIN0)
                {
                    None
                } else {
                    Some(Reject::GrantTooStrong { author, granted })
                };
                assert_eq!(verdict, expected, "{author} grants {granted} to {target}");
            }
        }
    }
}

#[test]
fn one_bad_record_spoils_the_entry() {
    let state = all_rights();
    let admin1 = secret(12).public();
    let records = vec![gives(98, Permission::Read), gives(99, ADMIN0)];
    assert!(matches!(
        reason(child_settings(admin1, records, &state)),
        Some(Reject::GrantTooStrong { .. })
    ));
}

#[test]
fn nobody_grants_itself_a_right_by_the_entry_that_needs_it() {
    let stranger = secret(99).public();
    let verdict = child_settings(stranger, vec![gives(99, ADMIN0)], &all_rights());
    assert_eq!(reason(verdict), Some(Reject::NoRight(stranger)));
}

#[test]
fn a_grant_counts_for_what_comes_after_it_and_the_wildcard_for_everybody() {
    let state = all_rights();
    let records = vec![
        gives(99, Permission::Write(7)),
        AuthRecord::Wildcard(Some(Permission::Write(20))),
    ];
    let Verdict::Sound(sound) = child_settings(secret(11).public(), records, &state) else {
        panic!()
    };
    let after = sound.settings.unwrap().after;
    assert_eq!(
        strength(child(secret(99).public(), &[("data", b"x")], &after)),
        Permission::Write(7).into()
    );
    assert_eq!(
        strength(child(secret(77).public(), &[("data", b"x")], &after)),
        Permission::Write(20).into()
    );
    assert_eq!(
        strength(child(secret(10).public(), &[("data", b"x")], &after)),
        Right::Recovery
    );
    let stranger = secret(77).public();
    assert!(matches!(
        reason(child_settings(stranger, vec![], &after)),
        Some(Reject::NeedsAdmin { .. })
    ));
    // A reader with a wildcard above its own right writes by the wildcard.
    assert_eq!(
        strength(child(secret(17).public(), &[("data", b"x")], &after)),
        Permission::Write(20).into()
    );
}

#[test]
fn authors_with_keys_of_small_order_are_rejected_even_where_everybody_may_write() {
    let everybody = vec![AuthRecord::Wildcard(Some(Permission::Write(0)))];
    let verdict = child_settings(secret(11).public(), everybody, &all_rights());
    let Verdict::Sound(sound) = verdict else {
        panic!()
    };
    let state = sound.settings.unwrap().after;
    let weak = PublicKey::new([0; 32]);
    assert_eq!(
        reason(child(weak, &[("data", b"x")], &state)),
        Some(Reject::AuthorKey(KeyError::SmallOrder))
    );
    assert_eq!(
        reason(root(weak, vec![gives(1, ADMIN0)])),
        Some(Reject::AuthorKey(KeyError::SmallOrder))
    );
}

#[test]
fn what_is_not_known_is_rejected() {
    let state = all_rights();
    let admin = secret(11).public();
    let via = Via {
        database: id(5),
        tips: vec![id(6)].into(),
    };
    let delegated = Author {
        key: admin,
        via: vec![via],
    };
    assert_eq!(
        reason(child(delegated, &[("data", b"x")], &state)),
        Some(Reject::NotDelegated { database: id(5) })
    );
    let garbage = reason(child(admin, &[("_settings", b"garbage")], &state));
    assert_eq!(
        garbage,
        Some(Reject::Settings(SettingsError::Version(b'g')))
    );
    let mut unknown = settings(vec![gives(1, Permission::Read)]);
    unknown[17..19].copy_from_slice(&[9, 0]);
    let unknown = reason(child(admin, &[("_settings", &unknown)], &state));
    assert_eq!(
        unknown,
        Some(Reject::Settings(SettingsError::UnknownKind(9)))
    );
    let empty = reason(child(admin, &[("_settings", b"")], &state));
    assert!(matches!(empty, Some(Reject::Settings(_))));
}

#[test]
fn settings_that_are_not_at_hand_make_no_verdict() {
    let payload = settings(vec![]);
    for key in [
        secret(11).public(),
        secret(99).public(),
        PublicKey::new([0; 32]),
    ] {
        let draft = Draft::root([0; 32], stores(&[("_settings", &payload)]), key, None).unwrap();
        assert!(matches!(
            judge(
                draft.header(),
                draft.id(),
                None,
                &AuthState::default(),
                &NothingBelow
            ),
            Ok(Verdict::Pending(Missing::Settings))
        ));
    }
}

/// Nothing can be read.
struct Unreadable;

impl Lookup for Unreadable {
    type Error = &'static str;

    fn below(&self, _: &[Id], _: &[Id]) -> Result<Vec<Option<Below>>, Self::Error> {
        Err("below")
    }

    fn delegated(&self, _: &Id, _: &[Id]) -> Result<Option<AuthState>, Self::Error> {
        Err("delegated")
    }
}

#[test]
fn what_cannot_be_read_makes_no_verdict() {
    let adopt = AuthRecord::Adopt {
        entries: id(2).into(),
    };
    let cut = AuthRecord::Revoke(Revocation {
        cut: Some(id(2).into()),
        ..Revocation::of(secret(9).public())
    });
    let delegate = AuthRecord::Delegate(Delegation {
        database: id(3),
        bound: None,
        floor: id(4).into(),
        name: name(""),
    });
    for (record, unread) in [(adopt, "below"), (cut, "below"), (delegate, "delegated")] {
        let payload = settings(vec![record]);
        let parent = ParentInfo {
            id: id(1),
            height: Height(0),
            writes_settings: true,
            settings: Default::default(),
        };
        let stores = stores(&[("_settings", &payload)]);
        let author = secret(1).public();
        let draft = Draft::child(id(1), &[parent], vec![id(1)], stores, author, None).unwrap();
        let (header, state) = (draft.header(), all_rights());
        let verdict = judge(header, draft.id(), Some(&payload), &state, &Unreadable);
        assert_eq!(verdict.unwrap_err(), unread);
    }
}

#[test]
fn settings_bytes_of_an_entry_that_does_not_write_there_are_ignored() {
    let parent = ParentInfo {
        id: id(1),
        height: Height(0),
        writes_settings: true,
        settings: Default::default(),
    };
    let writer = secret(14).public();
    let draft = Draft::child(
        id(1),
        &[parent],
        vec![id(1)],
        stores(&[("data", b"x")]),
        writer,
        None,
    )
    .unwrap();
    let smuggled = settings(vec![gives(14, ADMIN0)]);
    match judge(
        draft.header(),
        draft.id(),
        Some(&smuggled),
        &all_rights(),
        &NothingBelow,
    ) {
        Ok(Verdict::Sound(sound)) => assert!(sound.settings.is_none()),
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_root_header_without_settings_is_rejected() {
    let payload = settings(vec![gives(1, ADMIN0)]);
    let draft = Draft::root(
        [0; 32],
        stores(&[("_settings", &payload)]),
        secret(1).public(),
        None,
    )
    .unwrap();
    let mut header = draft.header().clone();
    header.stores.clear();
    let Ok(verdict) = judge(
        &header,
        Id::new([3; 32]),
        Some(&payload),
        &all_rights(),
        &NothingBelow,
    );
    assert_eq!(reason(verdict), Some(Reject::RootWithoutSettings));
}

#[test]
fn refusals_have_distinct_numbers() {
    let (key, right) = (secret(1).public(), ADMIN0);
    let reasons = [
        Reject::AuthorKey(KeyError::NotAPoint),
        Reject::NoRight(key),
        Reject::NeedsWrite { key, right },
        Reject::NeedsAdmin { key, right },
        Reject::GrantTooStrong {
            author: right,
            granted: right,
        },
        Reject::RootWithoutSettings,
        Reject::Settings(SettingsError::NotSorted),
        Reject::NotDelegated { database: id(1) },
        Reject::DelegationLoop { database: id(1) },
        Reject::BehindFloor { database: id(1) },
        Reject::FloorNotForward { database: id(1) },
        Reject::BoundTooStrong {
            author: right,
            bound: Permission::Admin(0),
        },
        Reject::NotBelow { id: id(1) },
        Reject::AdoptsSettings { id: id(1) },
        Reject::CannotReplace { id: id(1) },
        Reject::RecordInRoot,
        Reject::DelegatedRenounce,
        Reject::NoRightOfItsOwn(key),
        Reject::RotatesToItself,
    ];
    let codes: Vec<_> = reasons.iter().map(Reject::code).collect();
    let numbers: Vec<u16> = (1..8).chain(9..21).collect();
    assert_eq!(codes, numbers);
}

#[test]
fn a_name_is_recorded_with_its_key() {
    let record = AuthRecord::grant(secret(1).public(), Permission::Admin(0), name("laptop"));
    let Verdict::Sound(sound) = root(secret(1).public(), vec![record]) else {
        panic!()
    };
    let after = sound.settings.unwrap().after;
    assert_eq!(after.keys().next().unwrap().1.name.as_str(), "laptop");
}
