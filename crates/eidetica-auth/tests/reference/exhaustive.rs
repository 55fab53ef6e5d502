//! All small databases: every control entry in every place, data at every frontier, all orders of
//! arrival.

use eidetica_auth::{Permission, Right};
use rand::{RngExt, SeedableRng, rngs::StdRng};

use crate::{
    case::{Case, Counts, Say, Spec, members, orders, set},
    resolver::Set,
    unique::solutions,
    worlds,
};

const RECOVERY: Right = Right::Recovery;
const ADMIN0: Permission = Permission::Admin(0);
const ADMIN1: Permission = Permission::Admin(1);
const ADMIN2: Permission = Permission::Admin(2);
const WRITE0: Permission = Permission::Write(0);
const WRITE1: Permission = Permission::Write(1);
const READ: Permission = Permission::Read;

/// Which part of all cases to take: every `of`th from `nth` on, and of these a share.
#[derive(Clone, Copy)]
pub struct Share {
    pub nth: u64,
    pub of: u64,
    /// Of the choices of one entry.
    pub keep: f64,
    pub salt: u64,
}

/// What may stand in the next entry above these parents.
type Menu = fn(&Case, Set) -> Vec<Spec>;

struct Walk {
    case: Case,
    menu: Menu,
    /// Where entries may be put: on which entries beside the control entries.
    bases: Set,
    readers: &'static [usize],
    share: Share,
    rng: StdRng,
    seen: u64,
    counts: Counts,
}

/// Two control entries above the root, with every operation.
pub fn two(share: Share) -> Counts {
    let mut case = Case::new(share.salt, &worlds::standard());
    assert!(case.push(root(None)));
    assert!(case.push(Spec::data(4, 1)));
    walk(case, full_menu, 0b11, &[1, 2, 4, 6, 7], share, 2)
}

/// Three of them, with fewer operations.
pub fn three(share: Share) -> Counts {
    let mut case = Case::new(share.salt, &worlds::standard());
    assert!(case.push(root(Some(READ))));
    walk(case, short_menu, 0b1, &[2, 4, 6], share, 3)
}

fn walk(
    case: Case,
    menu: Menu,
    bases: Set,
    readers: &'static [usize],
    share: Share,
    depth: usize,
) -> Counts {
    let mut walk = Walk {
        case,
        menu,
        bases,
        readers,
        share,
        rng: StdRng::seed_from_u64(share.salt),
        seen: 0,
        counts: Counts::default(),
    };
    walk.hang(1);
    walk.descend(depth);
    walk.counts
}

impl Walk {
    fn descend(&mut self, depth: usize) {
        if depth == 0 {
            self.counts += self.case.check(&orders(&self.case));
            let found = solutions(&self.case.reference, 2);
            assert_eq!(found.len(), 1, "solutions {found:?} of\n{:?}", self.case);
            self.counts.solved += 1;
            return;
        }
        for parents in antichains(&self.case, self.bases | self.case.control()) {
            for spec in (self.menu)(&self.case, parents) {
                if !self.takes(depth) {
                    continue;
                }
                let here = self.case.len();
                if !self.case.push(spec) {
                    self.counts.rejected += 1;
                    continue;
                }
                self.hang(1 << here);
                self.descend(depth - 1);
                while self.case.len() > here {
                    self.case.pop();
                }
            }
        }
    }

    /// The cases are shared out where the last entry is chosen, and thinned at every depth.
    fn takes(&mut self, depth: usize) -> bool {
        self.seen += u64::from(depth == 1);
        let mine = depth > 1 || self.seen % self.share.of == self.share.nth;
        mine && self.rng.random_bool(self.share.keep)
    }

    /// Data by everybody at every frontier of control entries with this one.
    fn hang(&mut self, with: Set) {
        for frontier in antichains(&self.case, self.case.control()) {
            if frontier & with == 0 {
                continue;
            }
            for reader in self.readers {
                self.case.push(Spec::data(*reader, frontier));
            }
            self.case
                .push(Spec::data(7, frontier).via(vec![worlds::pin(worlds::TEAM, 1)]));
        }
    }
}

/// The sets of these entries in which none lies below another.
fn antichains(case: &Case, of: Set) -> Vec<Set> {
    let mut sets = vec![0];
    for at in members(of) {
        let with: Vec<Set> = sets.iter().map(|set| set | 1 << at).collect();
        sets.extend(with.into_iter().filter(|set| case.maximal(*set) == *set));
    }
    sets.retain(|set| *set != 0);
    sets
}

/// Recovery, `Admin(0)`, two `Admin(1)`, `Write(0)`, `Read`; key 6 has nothing.
fn root(wildcard: Option<Permission>) -> Spec {
    let rights = [
        RECOVERY,
        ADMIN0.into(),
        ADMIN1.into(),
        ADMIN1.into(),
        WRITE0.into(),
        READ.into(),
    ];
    let mut says: Vec<Say> = (0..)
        .zip(rights)
        .map(|(key, right)| Say::Grant(key, right))
        .collect();
    says.extend(wildcard.map(|permission| Say::Wildcard(Some(permission))));
    Spec::says(1, 0, says)
}

fn revoke(key: usize, to: Option<Permission>, cut: Option<Set>) -> Say {
    Say::Revoke {
        key,
        to,
        cut,
        replaces: 0,
    }
}

/// Every revocation of that key below, in one set.
fn revocations(case: &Case, parents: Set, key: usize) -> Set {
    let revokes = |say: &Say| matches!(say, Say::Revoke { key: k, .. } if *k == key);
    let of_key = |at: &usize| case.spec(*at).says.iter().flatten().any(revokes);
    set(members(case.closure(parents)).filter(of_key))
}

fn full_menu(case: &Case, parents: Set) -> Vec<Spec> {
    let below = case.closure(parents);
    let mut says = Vec::new();
    for key in [1, 2, 4, 6] {
        for right in [ADMIN0, ADMIN1, WRITE0, READ] {
            says.push(vec![Say::Grant(key, right.into())]);
        }
    }
    for permission in [None, Some(READ), Some(WRITE1), Some(WRITE0)] {
        says.push(vec![Say::Wildcard(permission)]);
    }
    let cuts = antichains(case, below & (self::below_control(case) | 0b11));
    let cuts: Vec<_> = [None, Some(0)]
        .into_iter()
        .chain(cuts.into_iter().map(Some))
        .collect();
    for key in [0, 1, 2, 4, 6] {
        for to in [None, Some(READ), Some(WRITE1), Some(ADMIN2)] {
            says.extend(cuts.iter().map(|cut| vec![revoke(key, to, *cut)]));
        }
        let replaces = revocations(case, parents, key);
        if replaces != 0 {
            let again = |cut: &Option<Set>| {
                vec![Say::Revoke {
                    key,
                    to: Some(WRITE1),
                    cut: *cut,
                    replaces,
                }]
            };
            says.extend(cuts.iter().map(again));
        }
    }
    says.push(vec![Say::Renounce]);
    says.extend([2, 4, 6].map(|key| vec![Say::Rotate(key)]));
    if below & 0b10 != 0 {
        says.push(vec![Say::Adopt(0b10)]);
    }
    for (_, floor) in [worlds::pin(worlds::TEAM, 0), worlds::pin(worlds::TEAM, 2)] {
        let delegate = |bound| {
            vec![Say::Delegate {
                world: worlds::TEAM,
                bound,
                floor,
            }]
        };
        says.extend([None, Some(WRITE1), Some(ADMIN1)].map(delegate));
    }
    says.push(vec![Say::Renounce, revoke(2, None, None)]);
    says.push(vec![Say::Grant(6, WRITE0.into()), revoke(4, None, Some(0))]);
    says.push(vec![
        Say::Wildcard(Some(WRITE0)),
        revoke(6, None, None),
        Say::Rotate(6),
    ]);
    let mut specs = Vec::new();
    for author in 0..=6 {
        specs.extend(
            says.iter()
                .map(|says| Spec::says(author, parents, says.clone())),
        );
    }
    let delegated = says.iter().filter(|says| {
        matches!(
            says[0],
            Say::Revoke { cut: None, .. } | Say::Grant(..) | Say::Renounce
        )
    });
    for says in delegated {
        for version in [0, 1, 2] {
            let via = vec![worlds::pin(worlds::TEAM, version)];
            specs.push(Spec::says(7, parents, says.clone()).via(via));
        }
    }
    specs
}

fn below_control(case: &Case) -> Set {
    case.control()
}

fn short_menu(case: &Case, parents: Set) -> Vec<Spec> {
    let grant = |key, permission: Permission| Say::Grant(key, permission.into());
    let take = |key| revoke(key, None, None);
    let again = |key| Say::Revoke {
        key,
        to: None,
        cut: Some(0b1),
        replaces: revocations(case, parents, key),
    };
    let team = |bound, version| Say::Delegate {
        world: worlds::TEAM,
        bound,
        floor: worlds::pin(worlds::TEAM, version).1,
    };
    let menu: [(usize, Vec<Say>); 7] = [
        (
            0,
            vec![
                take(1),
                revoke(1, Some(WRITE1), None),
                revoke(3, Some(WRITE0), Some(0)),
                grant(1, ADMIN0),
                grant(6, ADMIN0),
                Say::Wildcard(Some(WRITE1)),
                revoke(2, None, Some(0)),
                again(2),
                Say::Rotate(6),
            ],
        ),
        (
            1,
            vec![
                grant(2, ADMIN1),
                grant(4, ADMIN1),
                grant(6, ADMIN0),
                grant(6, WRITE0),
                take(0),
                take(2),
                take(3),
                take(4),
                take(6),
                revoke(2, Some(WRITE1), None),
                revoke(2, None, Some(0)),
                revoke(3, Some(ADMIN2), None),
                revoke(4, Some(READ), Some(0)),
                revoke(6, None, Some(0)),
                again(2),
                again(4),
                Say::Wildcard(None),
                Say::Wildcard(Some(WRITE1)),
                Say::Rotate(6),
                Say::Renounce,
                team(Some(ADMIN1), 0),
                team(Some(WRITE1), 2),
            ],
        ),
        (
            2,
            vec![
                grant(4, WRITE0),
                grant(4, ADMIN2),
                grant(6, ADMIN2),
                take(1),
                take(2),
                take(3),
                take(4),
                take(6),
                revoke(4, None, Some(0)),
                revoke(6, Some(READ), Some(1)),
                again(4),
                again(6),
                Say::Wildcard(Some(WRITE0)),
                Say::Wildcard(None),
                Say::Rotate(6),
                Say::Rotate(4),
                Say::Renounce,
                revoke(3, Some(WRITE1), Some(0)),
                team(Some(WRITE0), 1),
                team(None, 0),
            ],
        ),
        (
            3,
            vec![
                grant(4, ADMIN2),
                grant(6, ADMIN2),
                take(2),
                take(4),
                take(6),
                again(4),
                again(2),
                Say::Rotate(6),
                Say::Rotate(4),
                Say::Wildcard(Some(WRITE1)),
            ],
        ),
        (
            4,
            vec![
                Say::Renounce,
                Say::Rotate(6),
                take(6),
                take(2),
                grant(6, WRITE1),
            ],
        ),
        (
            6,
            vec![
                take(1),
                take(2),
                take(4),
                again(4),
                grant(4, ADMIN2),
                Say::Wildcard(Some(WRITE0)),
                Say::Rotate(4),
                Say::Renounce,
            ],
        ),
        (5, vec![Say::Renounce, Say::Rotate(6)]),
    ];
    let mut specs: Vec<Spec> = Vec::new();
    for (author, says) in menu {
        specs.extend(
            says.into_iter()
                .map(|say| Spec::says(author, parents, vec![say])),
        );
    }
    for say in [
        take(2),
        take(3),
        grant(4, ADMIN2),
        Say::Wildcard(Some(WRITE0)),
    ] {
        specs.push(Spec::says(7, parents, vec![say]).via(vec![worlds::pin(worlds::TEAM, 1)]));
    }
    specs
}
