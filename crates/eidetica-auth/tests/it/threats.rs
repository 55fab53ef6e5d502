//! Rows 6 to 10 of what must never work, in pure form: the numbers are those of `SECURITY.md`.

use eidetica_auth::{
    AuthRecord, Delegation, KeyName, Permission, Reject, Revocation, Right, Standing,
};
use eidetica_entry::{Id, Via};

use crate::world::{World, grant, key, revoke};

const RIGHTS: [Permission; 5] = [
    Permission::Admin(0),
    Permission::Admin(1),
    Permission::Admin(2),
    Permission::Write(5),
    Permission::Read,
];

fn taking(n: u8) -> AuthRecord {
    AuthRecord::Revoke(revoke(n))
}

fn rotation(to: u8) -> AuthRecord {
    AuthRecord::Rotate {
        to: key(to),
        name: KeyName::default(),
    }
}

#[test]
fn row_6_nobody_makes_itself_a_member_and_a_writer_writes_no_settings() {
    let mut world = World::new(&RIGHTS);
    let root = world.id();
    let own = world.says(9, &[root], vec![grant(9, Permission::Admin(0))]);
    assert_eq!(own, Err(Reject::NoRight(key(9))));
    for n in [4, 5] {
        for records in [vec![], vec![taking(9)], vec![grant(9, Permission::Read)]] {
            let said = world.says(n, &[root], records);
            assert!(matches!(said, Err(Reject::NeedsAdmin { .. })), "{said:?}");
        }
    }
}

#[test]
fn row_7_no_admin_changes_one_as_strong_or_stronger() {
    for author in 1..4u8 {
        for target in 0..=author {
            for to in [None, Some(Permission::Read)] {
                let mut world = World::new(&RIGHTS);
                let root = world.id();
                let written = world.writes(key(target), &[root]).unwrap();
                let record = AuthRecord::Revoke(Revocation {
                    to,
                    cut: Some([].as_slice().into()),
                    ..revoke(target)
                });
                let before = world.state_at(&[root]).right_of(&key(target));
                world.says(author, &[root], vec![record]).unwrap();
                assert!(world.counts(&written), "{author} takes from {target}");
                assert_eq!(world.state().right_of(&key(target)), before);
            }
        }
    }
}

#[test]
fn row_7_the_recovery_key_ends_a_stolen_daily_key_and_all_that_came_of_it() {
    let mut world = World::new(&RIGHTS);
    let root = world.id();
    let honest = world.writes(key(1), &[root]).unwrap();
    let moved = world.says(1, &[honest], vec![rotation(9)]).unwrap();
    let accomplice = vec![grant(8, Permission::Admin(0)), taking(2)];
    let invited = world.says(9, &[moved], accomplice).unwrap();
    let written = world.writes(key(8), &[invited]).unwrap();
    assert!(world.counts(&written));
    let cut = AuthRecord::Revoke(Revocation {
        cut: Some(honest.into()),
        ..revoke(1)
    });
    world.says(0, &[written], vec![cut]).unwrap();
    for id in [moved, invited, written] {
        assert!(!world.counts(&id));
    }
    assert!(world.counts(&honest));
    let state = world.state();
    for n in [1, 8, 9] {
        assert_eq!(state.right_of(&key(n)), None);
    }
    assert_eq!(
        state.right_of(&key(2)),
        Some(Permission::Admin(1).into()),
        "the thief's revocation is gone"
    );
}

#[test]
fn row_8_a_revoked_key_does_nothing_new_nor_backdated() {
    let mut guild = World::new(&[Permission::Admin(0), Permission::Write(1)]);
    let guild_tips = guild.tips();
    let guild_says = guild.says(1, &guild_tips, vec![]).unwrap();
    let mut world = World::new(&RIGHTS);
    world.knows(&guild);
    let root = world.id();
    let open = vec![
        AuthRecord::Wildcard(Some(Permission::Write(3))),
        AuthRecord::Delegate(Delegation {
            database: guild.id(),
            bound: Some(Permission::Write(1)),
            floor: guild_tips,
            name: KeyName::default(),
        }),
    ];
    let old = world.says(1, &[root], open).unwrap();
    let taken = world.says(1, &[old], vec![taking(2)]).unwrap();
    let mut via = world.via(2, &[&guild]);
    via.via[0] = Via {
        database: guild.id(),
        tips: guild_says.into(),
    };
    assert_eq!(world.writes(key(2), &[taken]), Err(Reject::NoRight(key(2))));
    assert_eq!(
        world.writes(via.clone(), &[taken]),
        Err(Reject::NoRight(key(2)))
    );
    let backdated: Vec<Id> = [
        world.writes(key(2), &[old]),
        world.writes(via, &[old]),
        world.says(2, &[old], vec![grant(8, Permission::Write(0))]),
        world.says(2, &[old], vec![rotation(7)]),
        world.says(2, &[old], vec![AuthRecord::Renounce]),
        world.says(2, &[old], vec![taking(3)]),
    ]
    .into_iter()
    .map(Result::unwrap)
    .collect();
    let by_accomplice = world.writes(key(8), &[backdated[2]]).unwrap();
    let before = world.state_at(&[taken]);
    let state = world.state();
    for id in &backdated {
        assert!(!world.counts(id), "{:?}", world.standing(id));
    }
    assert_eq!(
        world.standing(&by_accomplice),
        Standing::Effective(Permission::Write(3).into()),
        "what anybody may"
    );
    for n in [0, 1, 3, 4, 5, 7] {
        assert_eq!(state.right_of(&key(n)), before.right_of(&key(n)));
    }
}

#[test]
fn row_9_a_revocation_is_lifted_only_by_a_key_as_strong_as_the_revoker() {
    let mut world = World::new(&RIGHTS);
    let root = world.id();
    let taken = world.says(1, &[root], vec![taking(3)]).unwrap();
    // An accomplice admin grants again, before, beside and after.
    world
        .says(2, &[root], vec![grant(3, Permission::Admin(3))])
        .unwrap();
    world
        .says(2, &[taken], vec![grant(3, Permission::Admin(3))])
        .unwrap();
    assert_eq!(world.state().right_of(&key(3)), None);
    // And revokes the revoker.
    world.says(2, &[taken], vec![taking(1)]).unwrap();
    assert_eq!(world.state().right_of(&key(3)), None);
    world
        .says(0, &[taken], vec![grant(3, Permission::Admin(3))])
        .unwrap();
    assert_eq!(
        world.state().right_of(&key(3)),
        Some(Permission::Admin(3).into())
    );
}

#[test]
fn row_9_cycles_and_concurrent_rotations_have_one_result_in_every_order() {
    let mut world = World::new(&RIGHTS);
    let root = world.id();
    let tips = [
        world.says(1, &[root], vec![taking(2)]).unwrap(),
        world.says(2, &[root], vec![taking(3)]).unwrap(),
        world.says(3, &[root], vec![taking(4)]).unwrap(),
        world.says(3, &[root], vec![rotation(7)]).unwrap(),
        world.says(4, &[root], vec![rotation(7)]).unwrap(),
        world.says(4, &[root], vec![AuthRecord::Renounce]).unwrap(),
    ];
    let whole = world.state();
    for skip in 0..tips.len() {
        let mut order = tips.to_vec();
        order.rotate_left(skip);
        for order in [order.clone(), order.into_iter().rev().collect()] {
            let state = world.state_at(&order);
            for n in 0..9 {
                assert_eq!(state.right_of(&key(n)), whole.right_of(&key(n)));
            }
            for id in &tips {
                assert_eq!(state.settings_standing(id), whole.settings_standing(id));
            }
        }
    }
    // 1 > 2: what 2 took stands again, so 3 takes from 4.
    assert!(!world.counts(&tips[1]));
    assert!(world.counts(&tips[2]) && world.counts(&tips[3]));
    assert!(!world.counts(&tips[4]) && !world.counts(&tips[5]));
    assert_eq!(whole.right_of(&key(7)), Some(Permission::Admin(2).into()));
}

#[test]
fn row_10_a_bound_does_not_raise_and_a_late_closure_gives_the_same_verdict() {
    let guild = World::new(&[Permission::Admin(0), Permission::Read]);
    let mut world = World::new(&RIGHTS);
    let root = world.id();
    let record = |bound| {
        vec![AuthRecord::Delegate(Delegation {
            database: guild.id(),
            bound: Some(bound),
            floor: guild.tips(),
            name: KeyName::default(),
        })]
    };
    world.knows(&guild);
    let strong = world.says(2, &[root], record(Permission::Admin(1)));
    assert!(matches!(strong, Err(Reject::BoundTooStrong { .. })));
    let at = world
        .says(2, &[root], record(Permission::Write(1)))
        .unwrap();
    let reader = world.via(2, &[&guild]);
    let reader = eidetica_entry::Author {
        key: crate::secret(2).public(),
        ..reader
    };
    // Key 2 of the guild reads there; here it is an admin of its own right, which is what counts.
    let written = world.writes(reader, &[at]).unwrap();
    assert_eq!(
        world.standing(&written),
        Standing::Effective(Permission::Admin(1).into())
    );
    let admin = world.via(1, &[&guild]);
    world.says(0, &[at], vec![taking(1)]).unwrap();
    let mut late = world.clone();
    late.knows(&guild);
    assert_eq!(
        world.writes(admin.clone(), &[at]),
        late.writes(admin, &[at]),
    );
    assert_eq!(world.state().right_of(&key(0)), Some(Right::Recovery));
}
