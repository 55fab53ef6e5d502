//! Two databases that others delegate to.

use std::sync::{Arc, LazyLock};

use eidetica_auth::{Permission, Right};

use crate::{
    case::{Case, Say, Spec, Worlds},
    resolver::Set,
};

/// Has no delegation of its own.
pub const GUILD: usize = 0;
/// Delegates to [`GUILD`].
pub const TEAM: usize = 1;

/// The versions of each are its control entries: all but the last two in a chain, these two above
/// the same.
pub fn pin(world: usize, version: usize) -> (usize, Set) {
    (world, 1 << version)
}

/// How many versions there are of each.
pub const VERSIONS: usize = 5;

pub fn standard() -> Arc<Worlds> {
    static WORLDS: LazyLock<Arc<Worlds>> = LazyLock::new(|| {
        let guild = Arc::new(guild());
        let team = team(&Worlds::new(vec![Arc::clone(&guild)]));
        Worlds::new(vec![guild, Arc::new(team)])
    });
    Arc::clone(&WORLDS)
}

fn grant(key: usize, permission: Permission) -> Say {
    Say::Grant(key, Right::Permission(permission))
}

fn revoke(key: usize, to: Option<Permission>) -> Say {
    Say::Revoke {
        key,
        to,
        cut: None,
        replaces: 0,
    }
}

fn guild() -> Case {
    let mut case = Case::new(u64::MAX, &Arc::default());
    let root = vec![
        Say::Grant(8, Right::Recovery),
        grant(7, Permission::Admin(1)),
        grant(9, Permission::Write(0)),
        grant(4, Permission::Write(2)),
    ];
    let chain = [
        (0, root),
        (0b1, vec![revoke(7, Some(Permission::Write(1)))]),
        (
            0b10,
            vec![
                grant(7, Permission::Admin(2)),
                Say::Wildcard(Some(Permission::Write(3))),
            ],
        ),
        (0b100, vec![revoke(9, None)]),
        (0b100, vec![revoke(7, None), grant(9, Permission::Admin(0))]),
    ];
    for (parents, says) in chain {
        assert!(case.push(Spec::says(8, parents, says)));
    }
    case
}

fn team(worlds: &Arc<Worlds>) -> Case {
    let mut case = Case::new(u64::MAX - 1, worlds);
    let guild = |bound, version| Say::Delegate {
        world: GUILD,
        bound,
        floor: pin(GUILD, version).1,
    };
    let root = vec![
        Say::Grant(8, Right::Recovery),
        grant(7, Permission::Admin(0)),
        grant(4, Permission::Write(0)),
        guild(Some(Permission::Admin(1)), 0),
    ];
    let chain = [
        (0, root),
        (
            0b1,
            vec![
                revoke(7, Some(Permission::Admin(1))),
                grant(2, Permission::Write(1)),
            ],
        ),
        (
            0b10,
            vec![revoke(4, None), guild(Some(Permission::Admin(3)), 2)],
        ),
        (
            0b100,
            vec![revoke(7, None), Say::Wildcard(Some(Permission::Write(5)))],
        ),
        (
            0b100,
            vec![
                grant(9, Permission::Admin(2)),
                revoke(7, Some(Permission::Write(0))),
            ],
        ),
    ];
    for (parents, says) in chain {
        assert!(case.push(Spec::says(8, parents, says)));
    }
    case
}
