//! How much is weighed: costs that no answer shows.

use std::{cell::Cell, sync::Arc};

use eidetica_entry::{Id, PublicKey};

use super::{AuthState, Control};
use crate::{
    name::KeyName,
    permission::{Permission, Right},
    record::{AuthRecord, Revocation},
};

thread_local! {
    /// Sources that were looked at.
    pub(super) static WEIGHED: Cell<u64> = const { Cell::new(0) };
}

const OWNER: PublicKey = PublicKey::new([1; 32]);
const MEMBER: PublicKey = PublicKey::new([2; 32]);

/// The owner's entry above all that the state follows from, told apart by `number`.
fn says(at: &AuthState, number: u32, record: AuthRecord) -> AuthState {
    let mut id = [0; 32];
    id[..4].copy_from_slice(
        blake3::hash(&number.to_le_bytes())
            .as_bytes()
            .first_chunk::<4>()
            .unwrap(),
    );
    id[28..].copy_from_slice(&number.to_be_bytes());
    at.extend(Control {
        id: Id::new(id),
        key: OWNER,
        parents: at.heads(),
        pins: at.heads(),
        past: at.ids().clone(),
        strength: Right::from(Permission::Admin(0)),
        records: Arc::from(vec![record]),
        cuts: Vec::new(),
        personal: false,
        pinned: None,
        floors: Vec::new(),
        nesting: 0,
    })
}

fn grant(key: PublicKey, permission: Permission) -> AuthRecord {
    AuthRecord::grant(key, permission, KeyName::default())
}

fn root() -> AuthState {
    let grant = grant(OWNER, Permission::Admin(0));
    says(&AuthState::default(), 0, grant)
}

/// Grants and revocations of one key, or settings of the wildcard, each above two of the last 16. Says what looking
/// for rights cost for each.
fn weighed(count: u32, record: impl Fn(u32) -> AuthRecord) -> u64 {
    let mut states = vec![root()];
    WEIGHED.set(0);
    for n in 1..=count {
        let back = |salt: u32| {
            let far = (n.wrapping_mul(2_654_435_761) >> (8 + salt)) as usize % 16;
            &states[states.len() - 1 - far.min(states.len() - 1)]
        };
        let at = back(0).join(back(7));
        states.push(says(&at, n, record(n)));
    }
    let weighed = WEIGHED.get();
    let all = states
        .iter()
        .fold(AuthState::default(), |all, state| all.join(state));
    let anew = all.resolved_anew();
    assert_eq!(all.right_of(&MEMBER), anew.right_of(&MEMBER));
    assert_eq!(all.wildcard(), anew.wildcard());
    assert!(all.keys().eq(anew.keys()), "and with the same name");
    weighed / u64::from(count)
}

#[test]
fn an_entry_about_a_key_costs_the_same_however_many_branches_have_named_it() {
    let about_one_key = |n: u32| match n % 10 {
        9 => AuthRecord::Revoke(Revocation::of(MEMBER)),
        _ => grant(MEMBER, Permission::Write(n)),
    };
    let (few, many) = (weighed(200, about_one_key), weighed(1_600, about_one_key));
    assert!(many <= few + few / 4, "{few} sources an entry, then {many}");
    assert!(many < 200, "{many} sources an entry");
}

#[test]
fn so_does_a_setting_of_the_wildcard() {
    let wildcard =
        |n: u32| AuthRecord::Wildcard((!n.is_multiple_of(7)).then_some(Permission::Write(n)));
    let (few, many) = (weighed(200, wildcard), weighed(1_600, wildcard));
    assert!(many <= few + few / 4, "{few} sources an entry, then {many}");
}
