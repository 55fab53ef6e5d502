//! Larger databases by chance.

use eidetica_auth::{Permission, Right};
use rand::{RngExt, SeedableRng, rngs::StdRng, seq::IndexedRandom};

use crate::{
    case::{Case, Counts, Say, Spec, members, set},
    resolver::Set,
    worlds,
};

const CONTROL: u32 = 60;
const DATA: usize = 40;
const KEYS: usize = 10;
const PERMISSIONS: [Permission; 9] = [
    Permission::Admin(0),
    Permission::Admin(0),
    Permission::Admin(1),
    Permission::Admin(2),
    Permission::Admin(u32::MAX),
    Permission::Write(0),
    Permission::Write(7),
    Permission::Write(u32::MAX),
    Permission::Read,
];

/// The case of this seed, compared in several orders.
pub fn one(seed: u64) -> Counts {
    let mut rng = StdRng::seed_from_u64(seed);
    let mut case = Case::new(seed, &worlds::standard());
    let mut counts = Counts::default();
    assert!(case.push(root(&mut rng)));
    // Small ones are quick and find most; of sixty control entries there are still many.
    let size = match rng.random_range(0..100) {
        0..90 => rng.random_range(2..10u32),
        90..99 => rng.random_range(10..25),
        _ => rng.random_range(25..CONTROL),
    };
    let mut proposals = 0;
    while case.control().count_ones() < size + 1 && proposals < 6 * size {
        proposals += 1;
        let spec = match rng.random_bool(0.2) && case.len() < DATA {
            true => data(&mut rng, &case),
            false => control(&mut rng, &case),
        };
        counts.rejected += u64::from(!case.push(spec));
    }
    for _ in 0..12 {
        let spec = data(&mut rng, &case);
        counts.rejected += u64::from(!case.push(spec));
    }
    let orders: Vec<_> = (0..4).map(|_| order(&mut rng, &case)).collect();
    counts += case.check(&orders);
    counts
}

fn root(rng: &mut StdRng) -> Spec {
    let mut says = vec![
        Say::Grant(0, Right::Recovery),
        Say::Grant(1, Permission::Admin(0).into()),
    ];
    for key in 2..7 {
        if rng.random_bool(0.7) {
            says.push(Say::Grant(key, permission(rng).into()));
        }
    }
    if rng.random_bool(0.3) {
        says.push(wildcard(rng));
    }
    if rng.random_bool(0.3) {
        says.push(delegate(rng));
    }
    Spec::says(usize::from(rng.random_bool(0.9)), 0, says)
}

fn permission(rng: &mut StdRng) -> Permission {
    *PERMISSIONS.choose(rng).unwrap()
}

fn key(rng: &mut StdRng) -> usize {
    rng.random_range(0..KEYS)
}

/// Some entries below none of which another lies: mostly one of the newest, now and then several or
/// an old one.
fn parents(rng: &mut StdRng, case: &Case) -> Set {
    let all = set(0..case.len());
    let tips: Vec<usize> = members(case.maximal(all)).collect();
    let chosen = match rng.random_range(0..10) {
        0..6 => 1 << tips.choose(rng).unwrap(),
        6..8 => {
            let count = rng.random_range(2..=4);
            set(tips.sample(rng, count).copied())
        }
        8 => 1 << rng.random_range(0..case.len()),
        _ => set((0..2).map(|_| rng.random_range(0..case.len()))),
    };
    // Parents may say more than they need to.
    match rng.random_bool(0.9) {
        true => case.maximal(chosen),
        false => chosen,
    }
}

/// Entries of a past, few.
fn some(rng: &mut StdRng, of: Set) -> Set {
    let all: Vec<usize> = members(of).collect();
    let count = rng.random_range(0..=2);
    set(all.sample(rng, count).copied())
}

fn via(rng: &mut StdRng, spec: Spec) -> Spec {
    let mut pin = |world| {
        let tips = match rng.random_range(0..6) {
            5 => 0b11000,
            version => 1 << version,
        };
        (world, tips)
    };
    let chain = match pin(0).1 % 3 {
        0 => vec![pin(worlds::TEAM)],
        1 => vec![pin(worlds::GUILD)],
        _ => vec![pin(worlds::TEAM), pin(worlds::GUILD)],
    };
    spec.via(chain)
}

fn maybe_via(rng: &mut StdRng, spec: Spec) -> Spec {
    let member = [2, 4, 7, 9].contains(&spec.author);
    match rng.random_bool(if member { 0.3 } else { 0.02 }) {
        true => via(rng, spec),
        false => spec,
    }
}

fn data(rng: &mut StdRng, case: &Case) -> Spec {
    let spec = Spec::data(key(rng), parents(rng, case));
    maybe_via(rng, spec)
}

fn control(rng: &mut StdRng, case: &Case) -> Spec {
    let parents = parents(rng, case);
    let below = case.closure(parents);
    let mut says: Vec<Say> = Vec::new();
    let count = *[1, 1, 1, 1, 1, 2, 2, 3].choose(rng).unwrap();
    for _ in 0..count {
        let say = say(rng, case, below);
        if !says.iter().any(|other| same_subject(other, &say)) {
            says.push(say);
        }
    }
    let author = match rng.random_bool(0.6) {
        true => rng.random_range(0..4),
        false => key(rng),
    };
    let mut spec = Spec::says(author, parents, says);
    spec.data = rng.random_bool(0.1);
    maybe_via(rng, spec)
}

fn same_subject(a: &Say, b: &Say) -> bool {
    match (a, b) {
        (Say::Grant(a, _), Say::Grant(b, _)) => a == b,
        (Say::Revoke { key: a, .. }, Say::Revoke { key: b, .. }) => a == b,
        (Say::Delegate { world: a, .. }, Say::Delegate { world: b, .. }) => a == b,
        _ => std::mem::discriminant(a) == std::mem::discriminant(b),
    }
}

fn say(rng: &mut StdRng, case: &Case, below: Set) -> Say {
    match rng.random_range(0..20) {
        0..6 => Say::Grant(key(rng), permission(rng).into()),
        6..13 => revoke(rng, case, below),
        13..15 => wildcard(rng),
        15 => Say::Renounce,
        16 => Say::Rotate(key(rng)),
        17 => {
            let data = some(rng, below & !case.control());
            match data {
                0 => Say::Renounce,
                data => Say::Adopt(data),
            }
        }
        _ => delegate(rng),
    }
}

fn wildcard(rng: &mut StdRng) -> Say {
    let permission = permission(rng);
    Say::Wildcard((!permission.can_admin()).then_some(permission))
}

fn delegate(rng: &mut StdRng) -> Say {
    Say::Delegate {
        world: rng.random_range(0..2),
        bound: rng.random_bool(0.85).then(|| permission(rng)),
        floor: 1 << rng.random_range(0..worlds::VERSIONS),
    }
}

fn revoke(rng: &mut StdRng, case: &Case, below: Set) -> Say {
    let key = key(rng);
    let of_key = |at: &usize| {
        let revokes = |say: &Say| matches!(say, Say::Revoke { key: k, .. } if *k == key);
        case.spec(*at).says.iter().flatten().any(revokes)
    };
    let earlier = set(members(below & case.control()).filter(of_key));
    let to = rng.random_bool(0.4).then(|| permission(rng));
    let cut = rng.random_bool(0.4).then(|| some(rng, below));
    let replaces = match rng.random_range(0..10) {
        0..4 => 0,
        4..6 => some(rng, earlier),
        6..9 => earlier,
        // No revocation of that key: to be refused.
        _ => some(rng, below),
    };
    Say::Revoke {
        key,
        to,
        cut,
        replaces,
    }
}

/// Some order in which the control entries may arrive.
fn order(rng: &mut StdRng, case: &Case) -> Vec<usize> {
    let mut order = Vec::new();
    let mut left = case.control();
    while left != 0 {
        let ready: Vec<usize> = members(left)
            .filter(|at| case.closure(1 << at) & left == 1 << at)
            .collect();
        let next = *ready.choose(rng).unwrap();
        order.push(next);
        left &= !(1 << next);
    }
    order
}
