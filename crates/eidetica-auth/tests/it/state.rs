//! What a state shows, and what it costs to keep.

use eidetica_auth::{AuthRecord, AuthState, Permission, Revocation, SecretKey, Standing};

use crate::{
    name,
    world::{World, grant, key, revoke},
};

fn wildcard(rank: Option<u32>) -> Vec<AuthRecord> {
    vec![AuthRecord::Wildcard(rank.map(Permission::Write))]
}

#[test]
fn nobody_has_a_right_before_the_root() {
    let state = AuthState::default();
    assert_eq!(state.right_of(&key(1)), None);
    assert_eq!(state.wildcard(), None);
    assert_eq!(state.keys().count(), 0);
    assert_eq!(state.controls(), 0);
}

#[test]
fn of_several_grants_the_strongest_counts_with_its_name() {
    let mut world = World::new(&[Permission::Admin(0)]);
    let root = world.id();
    let given = |permission, text| vec![AuthRecord::grant(key(9), permission, name(text))];
    let strong = world
        .says(1, &[root], given(Permission::Write(5), "strong"))
        .unwrap();
    let weak = world
        .says(1, &[strong], given(Permission::Read, "weak"))
        .unwrap();
    let entry = |state: &AuthState| {
        let mut keys = state.keys();
        keys.find(|(found, _)| **found == key(9)).unwrap().1.clone()
    };
    let state = world.state_at(&[weak]);
    assert_eq!(entry(&state).right, Permission::Write(5).into());
    assert_eq!(entry(&state).name, name("strong"));
    let stronger = world
        .says(1, &[root], given(Permission::Write(4), "stronger"))
        .unwrap();
    for tips in [[weak, stronger], [stronger, weak]] {
        assert_eq!(entry(&world.state_at(&tips)).name, name("stronger"));
    }
}

#[test]
fn a_wildcard_setting_takes_what_is_more_than_it_gives() {
    let mut world = World::new(&[Permission::Admin(0), Permission::Admin(1)]);
    let root = world.id();
    let on = world.says(1, &[root], wildcard(Some(10))).unwrap();
    let off = world.says(1, &[on], wildcard(None)).unwrap();
    assert_eq!(world.state_at(&[off]).wildcard(), None);
    let raised = world.says(1, &[on], wildcard(Some(1))).unwrap();
    assert_eq!(
        world.state_at(&[raised, off]).wildcard(),
        None,
        "the less of two"
    );
    let weaker = world.says(2, &[off], wildcard(Some(3))).unwrap();
    assert_eq!(world.state_at(&[weaker]).wildcard(), None, "lifts nothing");
    let again = world.says(1, &[raised, off], wildcard(Some(7))).unwrap();
    assert_eq!(
        world.state_at(&[again]).wildcard(),
        Some(Permission::Write(7))
    );
    let by_weaker = world.says(2, &[again], wildcard(Some(8))).unwrap();
    assert_eq!(
        world.state_at(&[by_weaker]).wildcard(),
        Some(Permission::Write(8))
    );
    let clamped = world.says(2, &[by_weaker], wildcard(Some(2))).unwrap();
    assert_eq!(
        world.state_at(&[clamped]).wildcard(),
        Some(Permission::Write(8)),
        "what the stronger turned off, it does not give again"
    );
}

#[test]
fn what_stands_is_listed_for_people() {
    let mut world = World::new(&[Permission::Admin(0), Permission::Write(1)]);
    let root = world.id();
    let reason = Revocation {
        reason: name("left"),
        ..revoke(2)
    };
    let taken = world
        .says(1, &[root], vec![AuthRecord::Revoke(reason)])
        .unwrap();
    let state = world.state_at(&[taken]);
    let listed: Vec<_> = state.revocations(&key(2)).collect();
    assert_eq!(listed.len(), 1);
    assert_eq!((listed[0].0, listed[0].1.reason.as_str()), (taken, "left"));
    let revoked: Vec<_> = state.revoked_keys().collect();
    assert_eq!(revoked.len(), 1);
    assert_eq!(revoked[0].1.right, Permission::Write(1).into());
    assert_eq!(state.heads().as_slice(), [taken]);
    assert_eq!(state.controls(), 2);
}

/// A chain of 10,000 settings entries about one key, each of which is judged: it must not take
/// a time that grows with the square, or a stack that grows with the chain.
#[test]
fn ten_thousand_grants_and_revocations_of_one_key_are_taken_in_one_by_one() {
    let mut world = World::new(&[Permission::Admin(0), Permission::Admin(1)]);
    let mut tip = world.id();
    for n in 0..10_000u32 {
        let record = match n % 2 {
            0 => grant(9, Permission::Write(n)),
            _ => AuthRecord::Revoke(revoke(9)),
        };
        let next = world.says(1, &[tip], vec![record]).unwrap();
        // Only the end of the chain is asked for again.
        if tip != world.id() {
            world.nodes.remove(&tip);
        }
        tip = next;
    }
    let state = world.state_at(&[tip]);
    assert_eq!(state.right_of(&key(9)), None);
    assert_eq!(state.controls(), 10_001);
    assert_eq!(
        state.settings_standing(&tip),
        Some(Standing::Effective(Permission::Admin(0).into()))
    );
    let anew = state.resolved_anew();
    assert_eq!(anew.right_of(&key(9)), None);
    drop(anew);
}

#[test]
fn a_payload_full_of_records_is_taken_in_and_joined() {
    let public = |n: u32| {
        let mut seed = [7; 32];
        seed[..4].copy_from_slice(&n.to_le_bytes());
        SecretKey::from_bytes(&seed).public()
    };
    let mut world = World::new(&[Permission::Admin(0)]);
    let root = world.id();
    let count = eidetica_auth::limits::RECORDS as u32;
    let grants = (0..count).map(|n| AuthRecord::grant(public(n), Permission::Read, name("")));
    let takings = (0..count).map(|n| AuthRecord::Revoke(Revocation::of(public(n))));
    let given = world.says(1, &[root], grants.collect()).unwrap();
    let taken = world.says(1, &[root], takings.collect()).unwrap();
    let state = world.state_at(&[given, taken]);
    assert_eq!(state.right_of(&public(count - 1)), None);
    assert_eq!(state.revoked_keys().count(), count as usize);
}
