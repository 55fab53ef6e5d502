//! Each rule by itself.

use eidetica_auth::{
    AuthRecord, Delegation, KeyName, Missing, Permission, Reject, Revocation, Right, Standing,
    VoidReason,
};
use eidetica_entry::{Author, Id, Ids, Via};

use crate::world::{ADMIN0, World, grant, key, revoke};

const ADMINS: [Permission; 4] = [
    Permission::Admin(0),
    Permission::Admin(1),
    Permission::Admin(2),
    Permission::Write(5),
];

fn taking(n: u8) -> AuthRecord {
    AuthRecord::Revoke(revoke(n))
}

fn cutting(n: u8, cut: &[Id]) -> AuthRecord {
    AuthRecord::Revoke(Revocation {
        cut: Some(cut.into()),
        ..revoke(n)
    })
}

fn rotation(to: u8) -> AuthRecord {
    AuthRecord::Rotate {
        to: key(to),
        name: KeyName::default(),
    }
}

fn delegation(other: &World, bound: Option<Permission>) -> AuthRecord {
    AuthRecord::Delegate(Delegation {
        database: other.id(),
        bound,
        floor: other.tips(),
        name: KeyName::default(),
    })
}

#[test]
fn r1_recovery_comes_from_the_root_alone_and_nothing_takes_it() {
    let mut world = World::new(&ADMINS);
    let root = world.id();
    let taken = world.says(1, &[root], vec![taking(0)]).unwrap();
    assert_eq!(world.state().right_of(&key(0)), Some(Right::Recovery));
    let given = world.says(0, &[taken], vec![crate::gives(9, Right::Recovery)]);
    assert!(matches!(given, Err(Reject::GrantTooStrong { .. })));
    let moved = world.says(0, &[taken], vec![rotation(9)]).unwrap();
    let state = world.state_at(&[moved]);
    assert_eq!(state.right_of(&key(9)), Some(Right::Recovery));
    assert_eq!(state.right_of(&key(0)), None);
}

#[test]
fn r1_a_root_takes_nothing_and_adopts_nothing() {
    let author = crate::gives(1, ADMIN0);
    for record in [
        taking(2),
        AuthRecord::Renounce,
        rotation(2),
        AuthRecord::Adopt {
            entries: crate::id(1).into(),
        },
    ] {
        let root = World::default().root(1, vec![author.clone(), record]);
        assert_eq!(root, Err(Reject::RecordInRoot));
    }
}

#[test]
fn r2_a_right_reaches_only_what_is_above_its_source() {
    let mut world = World::new(&ADMINS);
    let root = world.id();
    let given = world
        .says(1, &[root], vec![grant(9, Permission::Write(1))])
        .unwrap();
    assert_eq!(world.writes(key(9), &[root]), Err(Reject::NoRight(key(9))));
    assert!(world.writes(key(9), &[given]).is_ok());
}

#[test]
fn r2_what_a_void_entry_gave_is_void_too() {
    let mut world = World::new(&ADMINS);
    let root = world.id();
    let given = world
        .says(2, &[root], vec![grant(9, Permission::Write(1))])
        .unwrap();
    let written = world.writes(key(9), &[given]).unwrap();
    let taken = world.says(1, &[root], vec![taking(2)]).unwrap();
    assert_eq!(world.void(&given), VoidReason::Revoked { by: taken });
    assert_eq!(
        world.void(&written),
        VoidReason::SourceVoid { source: given }
    );
}

#[test]
fn r2_adopted_entries_count_and_no_others_of_their_authors() {
    let mut world = World::new(&ADMINS);
    let root = world.id();
    let one = world.writes(key(4), &[root]).unwrap();
    let two = world.writes(key(4), &[root]).unwrap();
    let taken = world.says(1, &[root], vec![taking(4)]).unwrap();
    assert!(!world.counts(&one) && !world.counts(&two));
    let adopted = AuthRecord::Adopt {
        entries: one.into(),
    };
    let weak = world.says(2, &[taken, one], vec![adopted.clone()]).unwrap();
    assert!(!world.counts(&one), "weaker than the revoker: {weak}");
    let before = world.state();
    world.says(1, &[taken, one], vec![adopted]).unwrap();
    assert_eq!(
        world.standing(&one),
        Standing::Effective(Permission::Write(0).into())
    );
    assert!(!world.counts(&two));
    assert_eq!(world.state().changes_since(&before).adopted, [one]);
}

#[test]
fn r2_only_data_below_is_adopted() {
    let mut world = World::new(&ADMINS);
    let root = world.id();
    let data = world.writes(key(4), &[root]).unwrap();
    let settings = world.says(1, &[root], vec![]).unwrap();
    let adopt = |id: Id| vec![AuthRecord::Adopt { entries: id.into() }];
    let beside = world.says(1, &[root], adopt(data));
    assert_eq!(beside, Err(Reject::NotBelow { id: data }));
    let above = world.says(1, &[settings], adopt(settings));
    assert_eq!(above, Err(Reject::AdoptsSettings { id: settings }));
}

#[test]
fn r3_a_revocation_holds_for_all_that_is_not_below_its_cut() {
    let mut world = World::new(&ADMINS);
    let root = world.id();
    let before = world.writes(key(4), &[root]).unwrap();
    let other = world.says(1, &[before], vec![]).unwrap();
    let beside = world.writes(key(4), &[before]).unwrap();
    let taken = world.says(1, &[other], vec![taking(4)]).unwrap();
    assert!(world.counts(&before));
    assert_eq!(world.void(&beside), VoidReason::Revoked { by: taken });
    assert_eq!(world.writes(key(4), &[taken]), Err(Reject::NoRight(key(4))));
    // Dated back: sound by its own past, void by what is known.
    let backdated = world.writes(key(4), &[before]).unwrap();
    assert!(!world.counts(&backdated));
}

#[test]
fn r3_an_explicit_cut_reaches_below_the_revocation_itself() {
    let mut world = World::new(&ADMINS);
    let root = world.id();
    let kept = world.writes(key(3), &[root]).unwrap();
    let stolen = world
        .says(3, &[kept], vec![grant(9, Permission::Write(1))])
        .unwrap();
    let by_accomplice = world.writes(key(9), &[stolen]).unwrap();
    let taken = world
        .says(1, &[by_accomplice], vec![cutting(3, &[kept])])
        .unwrap();
    assert!(world.counts(&kept));
    assert_eq!(world.void(&stolen), VoidReason::Revoked { by: taken });
    assert_eq!(
        world.void(&by_accomplice),
        VoidReason::SourceVoid { source: stolen }
    );
    assert_eq!(world.state().right_of(&key(9)), None);
    let foreign = world.says(1, &[taken], vec![cutting(3, &[crate::id(7)])]);
    assert_eq!(foreign, Err(Reject::NotBelow { id: crate::id(7) }));
}

#[test]
fn r3_lowering_leaves_what_it_says_and_lowered_rights_are_touched_by_weaker_revokers() {
    let mut world = World::new(&ADMINS);
    let root = world.id();
    let to = Permission::Write(5);
    let lowered = AuthRecord::Revoke(Revocation {
        to: Some(to),
        ..revoke(2)
    });
    let first = world.says(0, &[root], vec![lowered]).unwrap();
    assert_eq!(world.state().right_of(&key(2)), Some(to.into()));
    world.says(3, &[first], vec![taking(2)]).unwrap();
    assert_eq!(world.state().right_of(&key(2)), None, "by Admin(2), now");
}

#[test]
fn r3_a_weaker_revocation_takes_nothing() {
    let mut world = World::new(&ADMINS);
    let root = world.id();
    for (author, target) in [(2, 1), (3, 2), (2, 2), (1, 1)] {
        let taken = world.says(author, &[root], vec![taking(target)]).unwrap();
        let state = world.state_at(&[taken]);
        let before = world.state_at(&[root]);
        assert_eq!(state.right_of(&key(target)), before.right_of(&key(target)));
    }
}

#[test]
fn r3_only_what_is_as_strong_and_above_lifts() {
    let mut world = World::new(&ADMINS);
    let root = world.id();
    let beside = world
        .says(1, &[root], vec![grant(4, Permission::Write(1))])
        .unwrap();
    let taken = world.says(2, &[root], vec![taking(4)]).unwrap();
    let both = world.state_at(&[beside, taken]);
    assert_eq!(
        both.right_of(&key(4)),
        None,
        "a revocation beats concurrent grants"
    );
    let right = Permission::Write(7);
    let by = |world: &mut World, author: u8| {
        let given = world.says(author, &[taken], vec![grant(4, right)]).unwrap();
        world.state_at(&[given]).right_of(&key(4))
    };
    assert_eq!(by(&mut world, 3), None, "weaker");
    assert_eq!(by(&mut world, 2), Some(right.into()), "as strong");
    assert_eq!(by(&mut world, 1), Some(right.into()), "stronger");
}

#[test]
fn r3_a_grant_beside_a_revocation_in_one_entry_is_taken_by_it() {
    let mut world = World::new(&ADMINS);
    let root = world.id();
    let records = vec![grant(9, Permission::Write(1)), taking(9)];
    world.says(1, &[root], records).unwrap();
    assert_eq!(world.state().right_of(&key(9)), None);
    assert_eq!(world.state().resolved_anew().right_of(&key(9)), None);
}

#[test]
fn r3_the_weakest_admin_turns_off_what_a_stronger_one_lets_in_beside_it() {
    let mut world = World::new(&ADMINS);
    let root = world.id();
    let wildcard = |rank: Option<u32>| vec![AuthRecord::Wildcard(rank.map(Permission::Write))];
    let on = world.says(1, &[root], wildcard(Some(2))).unwrap();
    let guest = world.writes(Author::from(key(9)), &[on]).unwrap();
    let off = world.says(3, &[root], wildcard(None)).unwrap();
    let both = world.state_at(&[on, off]);
    // Whatever the wildcard gives is weaker than any admin, and less is let in until somebody knows of both.
    assert_eq!((both.wildcard(), both.right_of(&key(9))), (None, None));
    let standing = world.standing_under(&both, &guest);
    assert_eq!(
        standing,
        Standing::Void(VoidReason::WildcardTaken { by: off })
    );
    // Whoever is as strong as the one that turned it off lets them in again, for what comes then.
    let again = world.says(1, &[on, off], wildcard(Some(2))).unwrap();
    let state = world.state_at(&[again]);
    assert_eq!(state.wildcard(), Some(Permission::Write(2)));
    assert!(!world.standing_under(&state, &guest).is_effective());
    world.writes(Author::from(key(9)), &[again]).unwrap();
    // And adopts what was done meanwhile.
    let entries = Ids::from(guest);
    let adopted = world
        .says(1, &[again, guest], vec![AuthRecord::Adopt { entries }])
        .unwrap();
    let state = world.state_at(&[adopted]);
    assert!(world.standing_under(&state, &guest).is_effective());
}

#[test]
fn r3_a_revoked_key_does_not_come_back_by_the_wildcard() {
    let mut world = World::new(&ADMINS);
    let root = world.id();
    let everybody = vec![AuthRecord::Wildcard(Some(Permission::Write(9)))];
    let on = world.says(1, &[root], everybody.clone()).unwrap();
    let taken = world.says(2, &[on], vec![taking(4)]).unwrap();
    let again = world.says(0, &[taken], everybody).unwrap();
    let state = world.state_at(&[again]);
    assert_eq!(state.right_of(&key(4)), None);
    assert_eq!(state.right_of(&key(9)), Some(Permission::Write(9).into()));
}

#[test]
fn r3_what_replaces_stands_for_what_it_replaces() {
    let mut world = World::new(&ADMINS);
    let root = world.id();
    let offline = world.writes(key(4), &[root]).unwrap();
    let taken = world.says(1, &[root], vec![taking(4)]).unwrap();
    assert!(!world.counts(&offline));
    let corrected = AuthRecord::Revoke(Revocation {
        cut: Some(offline.into()),
        replaces: taken.into(),
        ..revoke(4)
    });
    let before = world.state();
    let weaker = world.says(2, &[taken, offline], vec![corrected.clone()]);
    assert_eq!(weaker, Err(Reject::CannotReplace { id: taken }));
    world.says(1, &[taken, offline], vec![corrected]).unwrap();
    assert!(world.counts(&offline));
    assert_eq!(world.state().right_of(&key(4)), None);
    assert_eq!(world.state().revocations(&key(4)).count(), 1);
    assert_eq!(
        world.state().changes_since(&before).keys,
        Some(vec![key(4)])
    );
}

#[test]
fn r3_what_a_void_entry_would_replace_stands() {
    let mut world = World::new(&ADMINS);
    let root = world.id();
    let taken = world.says(3, &[root], vec![taking(4)]).unwrap();
    let replaced = AuthRecord::Revoke(Revocation {
        to: Some(Permission::Write(6)),
        replaces: taken.into(),
        ..revoke(4)
    });
    let second = world.says(2, &[taken], vec![replaced]).unwrap();
    let lowered = Some(Permission::Write(6).into());
    assert_eq!(world.state().right_of(&key(4)), lowered);
    world.says(1, &[root], vec![taking(2)]).unwrap();
    assert!(!world.counts(&second));
    assert_eq!(world.state().right_of(&key(4)), None);
}

#[test]
fn r4_renouncing_binds_what_is_above_and_a_later_grant_counts_again() {
    let mut world = World::new(&ADMINS);
    let root = world.id();
    let beside = world.writes(key(4), &[root]).unwrap();
    let gone = world.says(4, &[root], vec![AuthRecord::Renounce]).unwrap();
    assert!(world.counts(&beside), "no cut");
    assert_eq!(world.writes(key(4), &[gone]), Err(Reject::NoRight(key(4))));
    let again = world
        .says(1, &[gone], vec![grant(4, Permission::Write(8))])
        .unwrap();
    assert!(world.writes(key(4), &[again]).is_ok());
    let twice = world.says(4, &[gone], vec![AuthRecord::Renounce]);
    assert_eq!(twice, Err(Reject::NoRightOfItsOwn(key(4))));
    let state = world.state_at(&[again, gone]);
    let stronger = world
        .says(1, &[root], vec![grant(4, Permission::Write(1))])
        .unwrap();
    let joined = state.join(&world.state_at(&[stronger]));
    assert_eq!(
        joined.right_of(&key(4)),
        Some(Permission::Write(1).into()),
        "more than was given up"
    );
}

#[test]
fn r4_a_rotation_hands_the_right_on_and_inherits_no_history() {
    let mut world = World::new(&ADMINS);
    let root = world.id();
    let old = world.writes(key(2), &[root]).unwrap();
    let moved = world.says(2, &[old], vec![rotation(9)]).unwrap();
    let state = world.state_at(&[moved]);
    assert_eq!(state.right_of(&key(9)), Some(Permission::Admin(1).into()));
    assert_eq!(state.right_of(&key(2)), None);
    // The old key stolen: its rotation outside the cut goes with it.
    world.says(1, &[old], vec![taking(2)]).unwrap();
    assert!(!world.counts(&moved));
    assert_eq!(world.state().right_of(&key(9)), None);
    assert!(world.counts(&old));
    let to_itself = world.says(2, &[root], vec![rotation(2)]);
    assert_eq!(to_itself, Err(Reject::RotatesToItself));
}

#[test]
fn r4_a_reader_may_renounce_and_rotate_and_nothing_beside() {
    let mut world = World::new(&[Permission::Admin(0), Permission::Read]);
    let root = world.id();
    let beside = vec![rotation(9), AuthRecord::Wildcard(None)];
    assert!(matches!(
        world.says(2, &[root], beside),
        Err(Reject::NeedsAdmin { .. })
    ));
    let moved = world.says(2, &[root], vec![rotation(9)]).unwrap();
    let state = world.state_at(&[moved]);
    assert_eq!(state.right_of(&key(9)), Some(Permission::Read.into()));
}

/// Had the entry its right by way of a delegation, one would be taken by the other whichever is
/// void: two results.
#[test]
fn r4_a_delegated_right_is_neither_renounced_nor_rotated() {
    let other = World::new(&[Permission::Admin(0)]);
    let mut world = World::new(&[Permission::Admin(0), Permission::Read]);
    world.knows(&other);
    let root = world.id();
    let bound = Some(Permission::Admin(0));
    let at = world
        .says(1, &[root], vec![delegation(&other, bound)])
        .unwrap();
    let author = world.via(1, &[&other]);
    for record in [AuthRecord::Renounce, rotation(9)] {
        let said = world.says_by(author.clone(), &[at], vec![taking(2), record]);
        assert_eq!(said, Err(Reject::DelegatedRenounce));
    }
}

#[test]
fn r5_an_entry_is_judged_as_a_whole() {
    let mut world = World::new(&ADMINS);
    let root = world.id();
    let records = vec![
        grant(8, Permission::Write(1)),
        grant(9, Permission::Admin(3)),
    ];
    let said = world.says(2, &[root], records).unwrap();
    let to = Permission::Admin(5);
    let lowered = AuthRecord::Revoke(Revocation {
        to: Some(to),
        ..revoke(2)
    });
    let by = world.says(1, &[root], vec![lowered]).unwrap();
    assert_eq!(world.void(&said), VoidReason::Lowered { by, to });
    assert_eq!(world.state().right_of(&key(8)), None);
}

#[test]
fn r6_a_void_entry_changes_nothing_and_may_count_again() {
    let mut world = World::new(&ADMINS);
    let root = world.id();
    let taken = world.says(2, &[root], vec![taking(3)]).unwrap();
    assert_eq!(world.state().right_of(&key(3)), None);
    let over = world.says(1, &[root], vec![taking(2)]).unwrap();
    assert!(!world.counts(&taken));
    assert_eq!(
        world.state().right_of(&key(3)),
        Some(Permission::Admin(2).into())
    );
    world.says(0, &[root], vec![cutting(1, &[])]).unwrap();
    assert!(!world.counts(&over));
    assert!(world.counts(&taken));
    assert_eq!(world.state().right_of(&key(3)), None);
}

#[test]
fn r7_the_right_by_a_delegation_is_the_least_of_all_hops() {
    let guild = World::new(&[Permission::Admin(0), Permission::Write(2)]);
    let mut team = World::new(&[Permission::Admin(0)]);
    team.knows(&guild);
    let root = team.id();
    let by_guild = delegation(&guild, Some(Permission::Write(4)));
    team.says(1, &[root], vec![by_guild]).unwrap();
    let mut world = World::new(&[Permission::Admin(0), Permission::Read]);
    world.knows(&team);
    world.knows(&guild);
    let root = world.id();
    let bound = Some(Permission::Write(1));
    let at = world
        .says(1, &[root], vec![delegation(&team, bound)])
        .unwrap();
    let author = world.via(2, &[&team, &guild]);
    let written = world
        .writes(
            Author {
                key: key(2),
                ..author.clone()
            },
            &[at],
        )
        .unwrap();
    let least = Permission::Write(4).into();
    assert_eq!(world.standing(&written), Standing::Effective(least));
    let member = Author {
        key: crate::secret(77).public(),
        ..author
    };
    assert!(matches!(
        world.writes(member, &[at]),
        Err(Reject::NoRight(_))
    ));
    let direct = world.via(2, &[&guild]);
    let refused = world.writes(direct, &[at]);
    assert_eq!(
        refused,
        Err(Reject::NotDelegated {
            database: guild.id()
        })
    );
}

#[test]
fn r7_a_new_floor_takes_from_those_that_have_less_there_and_from_nobody_else() {
    let mut guild = World::new(&[
        Permission::Admin(0),
        Permission::Write(2),
        Permission::Write(3),
    ]);
    let mut world = World::new(&[Permission::Admin(0)]);
    world.knows(&guild);
    let root = world.id();
    let bound = Some(Permission::Write(1));
    let at = world
        .says(1, &[root], vec![delegation(&guild, bound)])
        .unwrap();
    let old = guild.clone();
    let leaving = world.writes(world.via(2, &[&old]), &[at]).unwrap();
    let staying = world.writes(world.via(3, &[&old]), &[at]).unwrap();
    let tips = guild.tips();
    guild.says(1, &tips, vec![taking(2)]).unwrap();
    world.knows(&guild);
    let advanced = world
        .says(1, &[at], vec![delegation(&guild, bound)])
        .unwrap();
    assert_eq!(
        world.void(&leaving),
        VoidReason::DelegationTaken { by: advanced }
    );
    assert!(world.counts(&staying));
    let behind = world.writes(world.via(3, &[&old]), &[advanced]);
    assert_eq!(
        behind,
        Err(Reject::BehindFloor {
            database: guild.id()
        })
    );
    let back = AuthRecord::Delegate(Delegation {
        database: guild.id(),
        bound,
        floor: old.tips(),
        name: KeyName::default(),
    });
    let back = world.says(1, &[advanced], vec![back]);
    assert_eq!(
        back,
        Err(Reject::FloorNotForward {
            database: guild.id()
        })
    );
}

#[test]
fn r7_a_revocation_covers_delegated_rights_and_no_delegation_lifts_it() {
    let guild = World::new(&[Permission::Admin(0), Permission::Write(2)]);
    let mut world = World::new(&[Permission::Admin(0)]);
    world.knows(&guild);
    let root = world.id();
    let bound = Some(Permission::Write(1));
    let at = world
        .says(1, &[root], vec![delegation(&guild, bound)])
        .unwrap();
    let author = world.via(2, &[&guild]);
    let written = world.writes(author.clone(), &[at]).unwrap();
    let taken = world.says(1, &[at], vec![taking(2)]).unwrap();
    assert_eq!(world.void(&written), VoidReason::Revoked { by: taken });
    let again = world
        .says(1, &[taken], vec![delegation(&guild, bound)])
        .unwrap();
    assert_eq!(world.writes(author, &[again]), Err(Reject::NoRight(key(2))));
}

#[test]
fn r7_a_closure_that_is_not_at_hand_is_asked_for() {
    let guild = World::new(&[Permission::Admin(0), Permission::Read]);
    let mut world = World::new(&[Permission::Admin(0)]);
    world.knows(&guild);
    let root = world.id();
    let at = world
        .says(1, &[root], vec![delegation(&guild, Some(Permission::Read))])
        .unwrap();
    let tips: Ids = crate::id(9).into();
    let mut author = world.via(1, &[&guild]);
    author.via = vec![Via {
        database: guild.id(),
        tips: tips.clone(),
    }];
    let database = guild.id();
    let missing = Some(Missing::Delegated { database, tips });
    assert_eq!(world.missing(author, at), missing);
}

#[test]
fn r7_a_database_stands_once_in_a_chain_and_never_its_own() {
    let guild = World::new(&[Permission::Admin(0), Permission::Read]);
    let mut world = World::new(&[Permission::Admin(0)]);
    world.knows(&guild);
    let root = world.id();
    let own = world.clone();
    world.knows(&own);
    let twice = world.writes(world.via(1, &[&guild, &guild]), &[root]);
    let database = guild.id();
    assert_eq!(twice, Err(Reject::DelegationLoop { database }));
    let database = world.id();
    let itself = world.writes(world.via(1, &[&own]), &[root]);
    assert_eq!(itself, Err(Reject::DelegationLoop { database }));
    let bound = Some(Permission::Read);
    let itself = world.says(1, &[root], vec![delegation(&own, bound)]);
    assert_eq!(itself, Err(Reject::DelegationLoop { database }));
    let strong = world.says(
        1,
        &[root],
        vec![delegation(&guild, Some(Permission::Admin(0)))],
    );
    assert!(strong.is_ok());
}

#[test]
fn r8_of_mutual_revocations_the_stronger_holds_and_equals_take_nothing() {
    let mut world = World::new(&[
        Permission::Admin(0),
        Permission::Admin(1),
        Permission::Admin(1),
        Permission::Admin(2),
    ]);
    let root = world.id();
    let down = world.says(2, &[root], vec![taking(4)]).unwrap();
    let up = world.says(4, &[root], vec![taking(2)]).unwrap();
    assert!(world.counts(&down) && !world.counts(&up));
    let one = world.says(2, &[root], vec![taking(3)]).unwrap();
    let two = world.says(3, &[root], vec![taking(2)]).unwrap();
    assert!(world.counts(&one) && world.counts(&two));
    let state = world.state();
    for n in [2, 3] {
        assert_eq!(state.right_of(&key(n)), Some(Permission::Admin(1).into()));
    }
}
