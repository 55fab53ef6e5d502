use eidetica_auth::{AuthRecord, AuthState, Permission, Right, SettingsPayload};
use proptest::prelude::*;

use crate::{gives, id, name, secret};

const ADMIN0: Right = Right::Permission(Permission::Admin(0));
const ADMIN1: Right = Right::Permission(Permission::Admin(1));

fn apply(state: &AuthState, entry: u8, strength: Right, records: Vec<AuthRecord>) -> AuthState {
    state.apply(
        id(entry),
        strength,
        &SettingsPayload::new(records, Default::default()).unwrap(),
    )
}

fn wildcard(state: &AuthState, entry: u8, strength: Right, rank: Option<u32>) -> AuthState {
    apply(
        state,
        entry,
        strength,
        vec![AuthRecord::Wildcard(rank.map(Permission::Write))],
    )
}

#[test]
fn nobody_has_a_right_before_the_root() {
    let state = AuthState::default();
    assert_eq!(state.right_of(&secret(1).public()), None);
    assert_eq!(state.wildcard(), None);
    assert_eq!(state.keys().count(), 0);
}

#[test]
fn of_several_grants_the_strongest_counts_with_its_name() {
    let grant = |permission, text| {
        vec![AuthRecord::grant(
            secret(1).public(),
            permission,
            name(text),
        )]
    };
    let a = apply(
        &AuthState::default(),
        1,
        ADMIN0,
        grant(Permission::Write(5), "strong"),
    );
    let b = apply(&a, 2, ADMIN0, grant(Permission::Read, "weak"));
    assert_eq!(
        b.right_of(&secret(1).public()),
        Some(Permission::Write(5).into())
    );
    assert_eq!(b.keys().next().unwrap().1.name, name("strong"));
    let other = apply(
        &AuthState::default(),
        3,
        ADMIN0,
        grant(Permission::Write(4), "stronger"),
    );
    for joined in [b.join(&other), other.join(&b)] {
        assert_eq!(
            joined.right_of(&secret(1).public()),
            Some(Permission::Write(4).into())
        );
    }
}

#[test]
fn the_wildcard_adds_to_explicit_rights() {
    let state = apply(
        &AuthState::default(),
        1,
        ADMIN0,
        vec![gives(1, Permission::Read), gives(2, Permission::Write(1))],
    );
    let state = wildcard(&state, 2, ADMIN0, Some(3));
    assert_eq!(
        state.right_of(&secret(1).public()),
        Some(Permission::Write(3).into())
    );
    assert_eq!(
        state.explicit_right_of(&secret(1).public()),
        Some(Permission::Read.into())
    );
    assert_eq!(
        state.right_of(&secret(2).public()),
        Some(Permission::Write(1).into())
    );
    assert_eq!(
        state.right_of(&secret(9).public()),
        Some(Permission::Write(3).into())
    );
}

#[test]
fn a_wildcard_setting_takes_what_is_more_than_it_gives() {
    let start = AuthState::default();
    let on = wildcard(&start, 1, ADMIN0, Some(10));
    let off = wildcard(&on, 2, ADMIN0, None);
    assert_eq!(off.wildcard(), None);
    let again = wildcard(&off, 3, ADMIN0, Some(5));
    assert_eq!(again.wildcard(), Some(Permission::Write(5)));
    let lower = wildcard(&again, 4, ADMIN0, Some(20));
    assert_eq!(lower.wildcard(), Some(Permission::Write(20)));

    // Concurrent: the less of the two, whoever is first.
    let raised = wildcard(&on, 5, ADMIN0, Some(1));
    for state in [raised.join(&off), off.join(&raised)] {
        assert_eq!(state.wildcard(), None);
        assert_eq!(
            wildcard(&state, 6, ADMIN0, Some(7)).wildcard(),
            Some(Permission::Write(7))
        );
    }
    // Read is less than Write, and clamps it.
    let read = apply(
        &on,
        7,
        ADMIN0,
        vec![AuthRecord::Wildcard(Some(Permission::Read))],
    );
    assert_eq!(read.join(&raised).wildcard(), Some(Permission::Read));
}

#[test]
fn only_an_admin_as_strong_lifts_what_a_wildcard_setting_took() {
    let on = wildcard(&AuthState::default(), 1, ADMIN0, Some(10));
    let off = wildcard(&on, 2, ADMIN0, None);
    assert_eq!(wildcard(&off, 3, ADMIN1, Some(10)).wildcard(), None);
    let off = wildcard(&on, 4, ADMIN1, None);
    assert_eq!(
        off.wildcard(),
        None,
        "a weaker admin may take a write right"
    );
    assert_eq!(
        wildcard(&off, 5, ADMIN1, Some(30)).wildcard(),
        Some(Permission::Write(30))
    );
    assert_eq!(
        wildcard(&off, 5, ADMIN1, Some(3)).wildcard(),
        Some(Permission::Write(10)),
        "clamped"
    );
    assert_eq!(
        wildcard(&off, 6, ADMIN0, Some(3)).wildcard(),
        Some(Permission::Write(3))
    );
}

#[test]
fn a_copy_is_cheap_and_does_not_follow_the_original() {
    let before = apply(
        &AuthState::default(),
        1,
        ADMIN0,
        vec![gives(1, Permission::Read)],
    );
    let copy = before.clone();
    let after = apply(&before, 2, ADMIN0, vec![gives(1, Permission::Write(0))]);
    assert_eq!(copy, before);
    assert_ne!(copy, after);
}

fn any_records() -> impl Strategy<Value = Vec<AuthRecord>> {
    let permission = prop_oneof![
        Just(Permission::Read),
        (0..3u32).prop_map(Permission::Write),
        (0..3u32).prop_map(Permission::Admin),
    ];
    let grants = proptest::collection::btree_map(1..5u8, (permission, "[a-c]?"), 0..3);
    let wildcard = proptest::option::of(proptest::option::of(0..3u32));
    (grants, wildcard).prop_map(|(grants, wildcard)| {
        let grants = grants.into_iter().map(|(key, (permission, text))| {
            AuthRecord::grant(secret(key).public(), permission, name(&text))
        });
        let wildcard = wildcard.map(|rank| AuthRecord::Wildcard(rank.map(Permission::Write)));
        grants.chain(wildcard).collect()
    })
}

fn any_state(first_entry: u8) -> impl Strategy<Value = AuthState> {
    proptest::collection::vec((any_records(), 0..2u32), 0..4).prop_map(move |entries| {
        entries.into_iter().zip(first_entry..).fold(
            AuthState::default(),
            |state, ((records, rank), entry)| {
                apply(&state, entry, Permission::Admin(rank).into(), records)
            },
        )
    })
}

proptest! {
    #[test]
    fn joining_is_commutative_associative_and_idempotent(a in any_state(10), b in any_state(20), c in any_state(30)) {
        prop_assert_eq!(a.join(&b), b.join(&a));
        prop_assert_eq!(a.join(&b).wildcard(), b.join(&a).wildcard());
        prop_assert_eq!(a.join(&b).join(&c), a.join(&b.join(&c)));
        prop_assert_eq!(a.join(&b).join(&c).wildcard(), a.join(&b.join(&c)).wildcard());
        prop_assert_eq!(a.join(&a), a.clone());
        prop_assert_eq!(a.join(&AuthState::default()), a.clone());
        prop_assert_eq!(a.join(&b).join(&a), a.join(&b));
    }

    #[test]
    fn a_join_with_a_past_state_changes_nothing(a in any_state(10), records in any_records()) {
        let after = apply(&a, 99, ADMIN0, records);
        prop_assert_eq!(after.join(&a), after.clone());
        prop_assert_eq!(a.join(&after).wildcard(), after.wildcard());
    }
}
