//! Single cases: what decided the wording of a rule.

use eidetica_auth::{Permission, Right};

use crate::{
    case::{Case, Say, Spec, orders},
    payload::{self, admin, write},
    resolver::Verdict,
    unique::solutions,
    worlds,
};

const VOID: Verdict = Verdict::Void;

fn revoke(key: usize) -> Say {
    Say::Revoke {
        key,
        to: None,
        cut: None,
        replaces: 0,
    }
}

fn lower(key: usize, to: Permission) -> Say {
    Say::Revoke {
        key,
        to: Some(to),
        cut: None,
        replaces: 0,
    }
}

fn replace(key: usize, replaces: u128, cut: u128) -> Say {
    Say::Revoke {
        key,
        to: None,
        cut: Some(cut),
        replaces,
    }
}

fn grant(key: usize, permission: Permission) -> Say {
    Say::Grant(key, Right::Permission(permission))
}

/// Recovery, `Admin(0)`, `Admin(1)`, `Admin(1)`, `Write(0)`, by number of the key; more as given.
fn database(more: Vec<Say>) -> Case {
    let mut case = Case::new(1, &worlds::standard());
    let mut says = vec![
        Say::Grant(0, Right::Recovery),
        grant(1, Permission::Admin(0)),
        grant(2, Permission::Admin(1)),
        grant(3, Permission::Admin(1)),
        grant(4, Permission::Write(0)),
    ];
    says.extend(more);
    assert!(case.push(Spec::says(1, 0, says)));
    case
}

fn says(case: &mut Case, author: usize, parents: u128, says: Vec<Say>) {
    assert!(case.push(Spec::says(author, parents, says)), "{case:?}");
}

fn data(case: &mut Case, author: usize, parents: u128) {
    assert!(case.push(Spec::data(author, parents)), "{case:?}");
}

/// Both agree on these standings in every order, and the rules have no other solution.
fn check(case: &Case, expected: &[Verdict]) {
    case.check(&orders(case));
    let resolved = case.reference.resolve(case.reference.all());
    let ids = case.reference.entries.iter().map(|entry| entry.id);
    let found: Vec<Verdict> = ids
        .map(|id| case.reference.verdict(id, &resolved))
        .collect();
    assert_eq!(found[1..], *expected, "{case:?}");
    assert_eq!(
        solutions(&case.reference, 2),
        [resolved.to_vec()],
        "{case:?}"
    );
}

fn effective(strength: payload::Right) -> Verdict {
    Verdict::Effective(strength)
}

/// If an entry that renounces counted delegated rights too, this would have two solutions: its
/// author would need the explicit right that `Admin(3)` takes, and take from `Admin(3)` by a
/// delegated one.
#[test]
fn an_entry_that_renounces_counts_explicit_rights_alone() {
    let (world, floor) = worlds::pin(worlds::TEAM, 0);
    let team = Say::Delegate {
        world,
        bound: Some(Permission::Admin(1)),
        floor,
    };
    let mut case = database(vec![
        grant(7, Permission::Admin(5)),
        grant(5, Permission::Admin(3)),
        team,
    ]);
    let via = vec![worlds::pin(worlds::TEAM, 1)];
    let takes = Spec::says(7, 1, vec![revoke(5)]).via(via.clone());
    assert!(case.push(takes), "delegated, it is stronger");
    case.pop();
    let both = Spec::says(7, 1, vec![Say::Renounce, revoke(5)]);
    assert!(!case.push(both.clone().via(via)), "no delegation beside it");
    assert!(case.push(both), "{case:?}");
    says(&mut case, 5, 1, vec![revoke(7)]);
    check(&case, &[VOID, effective(admin(3))]);
}

/// A right that was lowered is what others may take, not the right that was granted.
#[test]
fn a_lowered_admin_can_be_revoked_by_another() {
    let mut case = database(vec![]);
    says(&mut case, 0, 1, vec![lower(3, Permission::Write(1))]);
    data(&mut case, 3, 0b10);
    says(&mut case, 2, 0b10, vec![revoke(3)]);
    check(
        &case,
        &[effective(payload::RECOVERY), VOID, effective(admin(1))],
    );
}

/// Two admins of one rank that revoke each other do nothing.
#[test]
fn equals_cannot_revoke_each_other() {
    let mut case = database(vec![]);
    says(&mut case, 2, 1, vec![revoke(3)]);
    says(&mut case, 3, 1, vec![revoke(2)]);
    check(&case, &[effective(admin(1)), effective(admin(1))]);
}

/// Replacing takes away what a revocation does, not what it replaced.
#[test]
fn a_replaced_revocation_still_replaces() {
    let mut case = database(vec![]);
    data(&mut case, 4, 1);
    says(&mut case, 1, 1, vec![revoke(4)]);
    says(&mut case, 1, 0b110, vec![replace(4, 0b100, 0b110)]);
    says(&mut case, 1, 0b1000, vec![replace(4, 0b1000, 0b10)]);
    let strong = effective(admin(0));
    check(&case, &[effective(write(0)), strong, strong, strong]);
}

/// The revocation comes back with the standing of what replaced it.
#[test]
fn nothing_is_replaced_by_a_void_entry() {
    let mut case = database(vec![]);
    data(&mut case, 4, 1);
    says(&mut case, 2, 1, vec![revoke(4)]);
    says(&mut case, 3, 0b110, vec![replace(4, 0b100, 0b10)]);
    let before = [
        effective(write(0)),
        effective(admin(1)),
        effective(admin(1)),
    ];
    check(&case, &before);
    says(&mut case, 1, 0b100, vec![revoke(3)]);
    check(
        &case,
        &[VOID, effective(admin(1)), VOID, effective(admin(0))],
    );
}

/// An admin that was lowered meanwhile replaces nothing that is stronger than it is left.
#[test]
fn replacing_needs_the_strength_that_is_left() {
    let mut case = database(vec![]);
    says(&mut case, 2, 1, vec![revoke(4)]);
    says(&mut case, 3, 0b10, vec![replace(4, 0b10, 1)]);
    says(&mut case, 1, 0b10, vec![lower(3, Permission::Admin(2))]);
    check(&case, &[effective(admin(1)), VOID, effective(admin(0))]);
}

/// A key that renounced counts again where it was granted a right afterwards.
#[test]
fn a_grant_after_a_renounce_counts() {
    let mut case = database(vec![]);
    says(&mut case, 4, 1, vec![Say::Renounce]);
    assert!(!case.push(Spec::data(4, 0b10)));
    data(&mut case, 4, 1);
    says(&mut case, 2, 0b10, vec![grant(4, Permission::Write(3))]);
    data(&mut case, 4, 0b1000);
    let writer = effective(write(0));
    check(
        &case,
        &[writer, writer, effective(admin(1)), effective(write(3))],
    );
}

/// A wildcard does not let a revoked key in again, whenever it is set.
#[test]
fn a_later_wildcard_does_not_lift() {
    let mut case = database(vec![]);
    says(&mut case, 1, 1, vec![revoke(4)]);
    says(
        &mut case,
        1,
        0b10,
        vec![Say::Wildcard(Some(Permission::Write(0)))],
    );
    assert!(!case.push(Spec::data(4, 0b100)));
    data(&mut case, 5, 0b100);
    check(
        &case,
        &[
            effective(admin(0)),
            effective(admin(0)),
            effective(write(0)),
        ],
    );
}

/// A stolen daily key can revoke the other daily keys and rotate; recovery ends all of it.
#[test]
fn recovery_ends_what_a_stolen_key_did() {
    let mut case = database(vec![]);
    says(
        &mut case,
        1,
        1,
        vec![revoke(2), grant(8, Permission::Admin(0))],
    );
    says(&mut case, 1, 0b10, vec![Say::Rotate(9)]);
    says(&mut case, 9, 0b100, vec![revoke(3)]);
    data(&mut case, 8, 0b1000);
    says(&mut case, 0, 1, vec![revoke(1)]);
    data(&mut case, 2, 1);
    let expected = [
        VOID,
        VOID,
        VOID,
        VOID,
        effective(payload::RECOVERY),
        effective(admin(1)),
    ];
    check(&case, &expected);
}

/// The pins say what a member has; a floor that rose says what it has at most.
#[test]
fn a_floor_that_rises_takes_what_was_done_below_it_meanwhile() {
    let team = |version| {
        let (world, floor) = worlds::pin(worlds::TEAM, version);
        Say::Delegate {
            world,
            bound: Some(Permission::Admin(1)),
            floor,
        }
    };
    let via = |spec: Spec, version| spec.via(vec![worlds::pin(worlds::TEAM, version)]);
    let mut case = database(vec![team(0)]);
    assert!(case.push(via(Spec::data(4, 1), 1)));
    says(&mut case, 1, 1, vec![revoke(4)]);
    check(&case, &[VOID, effective(admin(0))]);
    let mut case = database(vec![team(0)]);
    assert!(case.push(via(Spec::data(7, 1), 0)));
    says(&mut case, 1, 1, vec![team(3)]);
    check(&case, &[VOID, effective(admin(0))]);
    assert!(
        !case.push(via(Spec::data(7, 0b100), 0)),
        "pins below the floor"
    );
    assert!(
        !case.push(Spec::says(1, 0b100, vec![team(1)])),
        "floors go forward"
    );
}

/// A setting that was void below an entry, and counts again, gives no more there than at its floor either. Gave it what the pins
/// say, the floor would take from all settings but the one that raised it.
#[test]
fn a_floor_that_counts_again_binds_what_its_own_setting_gives() {
    let team = |version| {
        let (world, floor) = worlds::pin(worlds::TEAM, version);
        Say::Delegate {
            world,
            bound: Some(Permission::Admin(2)),
            floor,
        }
    };
    let mut case = database(vec![team(0)]);
    says(&mut case, 2, 1, vec![team(3)]);
    let cut = Say::Revoke {
        key: 2,
        to: None,
        cut: Some(0),
        replaces: 0,
    };
    says(&mut case, 1, 0b10, vec![cut]);
    let member = Spec::data(7, 0b100).via(vec![worlds::pin(worlds::TEAM, 1)]);
    assert!(case.push(member), "{case:?}");
    let void_floor = [VOID, effective(admin(0)), effective(admin(2))];
    check(&case, &void_floor);
    says(&mut case, 1, 0b1000, vec![replace(2, 0b100, 0b10)]);
    let strong = effective(admin(0));
    check(&case, &[effective(admin(1)), strong, VOID, strong]);
}

/// A floor that is void where a later one is set need not be covered by that one, and binds all the same once it
/// counts again.
#[test]
fn a_floor_that_counts_again_binds_above_a_later_one() {
    let team = |version| {
        let (world, floor) = worlds::pin(worlds::TEAM, version);
        Say::Delegate {
            world,
            bound: Some(Permission::Admin(2)),
            floor,
        }
    };
    let mut case = database(vec![team(0)]);
    says(&mut case, 2, 1, vec![team(3)]);
    let cut = Say::Revoke {
        key: 2,
        to: None,
        cut: Some(0),
        replaces: 0,
    };
    says(&mut case, 1, 0b10, vec![cut]);
    says(&mut case, 1, 0b100, vec![team(1)]);
    let member = |parents| Spec::data(7, parents).via(vec![worlds::pin(worlds::TEAM, 1)]);
    assert!(case.push(member(0b1000)), "{case:?}");
    says(&mut case, 1, 0b1000, vec![replace(2, 0b100, 0b10)]);
    assert!(!case.push(member(0b10_0000)), "{case:?}");
}

/// A right may turn out stronger than on the own past, where what had lowered it is void.
#[test]
fn a_rotation_hands_on_what_its_author_has_after_all() {
    let mut case = database(vec![]);
    says(&mut case, 1, 1, vec![lower(2, Permission::Write(1))]);
    says(&mut case, 2, 0b10, vec![Say::Rotate(4)]);
    says(&mut case, 0, 1, vec![revoke(1)]);
    data(&mut case, 4, 0b1100);
    let risen = effective(admin(1));
    check(&case, &[VOID, risen, effective(payload::RECOVERY), risen]);
}

/// What a revocation leaves of a delegated right may be weak enough for an earlier taking.
#[test]
fn takings_of_one_right_are_applied_until_none_applies() {
    let team = |bound| {
        let (world, floor) = worlds::pin(worlds::TEAM, 0);
        Say::Delegate {
            world,
            bound,
            floor,
        }
    };
    let mut case = database(vec![
        grant(5, Permission::Admin(7)),
        team(Some(Permission::Admin(7))),
    ]);
    says(&mut case, 5, 1, vec![team(None)]);
    let member = |says: Vec<Say>, parents| {
        Spec::says(7, parents, says).via(vec![worlds::pin(worlds::TEAM, 1)])
    };
    assert!(
        case.push(member(vec![grant(8, Permission::Read)], 0b10)),
        "as strong as the taking"
    );
    says(&mut case, 1, 0b100, vec![lower(7, Permission::Write(0))]);
    let data = Spec::data(7, 0b1000).via(vec![worlds::pin(worlds::TEAM, 1)]);
    assert!(!case.push(data), "{case:?}");
    check(
        &case,
        &[
            effective(admin(7)),
            effective(admin(7)),
            effective(admin(0)),
        ],
    );
}
