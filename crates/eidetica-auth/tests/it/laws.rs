//! Laws over random databases: order does not matter, the incremental paths give what resolving anew
//! gives, and changes are told where they are.

use eidetica_auth::{AuthRecord, AuthState, Delegation, Permission, Revocation};
use eidetica_entry::{Author, Id, Ids};
use proptest::prelude::*;

use crate::world::{World, grant, key};

/// One attempt to add an entry: by whom, above what, saying what of whom.
#[derive(Debug, Clone)]
struct Step {
    author: u8,
    parents: (usize, usize),
    action: u8,
    target: u8,
    rank: u32,
    pick: (usize, usize),
}

fn steps(count: usize) -> impl Strategy<Value = Vec<Step>> {
    let step = (
        0..6u8,
        (0..6usize, 0..6usize),
        0..18u8,
        0..6u8,
        0..4u32,
        (0..99usize, 0..99usize),
    );
    let step = step.prop_map(|(author, parents, action, target, rank, pick)| Step {
        author,
        parents,
        action,
        target,
        rank,
        pick,
    });
    prop::collection::vec(step, 1..count)
}

/// A database with a member of each sort, and one whose members it may let in.
fn build(steps: &[Step]) -> (World, Vec<Id>) {
    let mut other = World::new(&[Permission::Admin(0), Permission::Write(1)]);
    let mut world = World::new(&[
        Permission::Admin(0),
        Permission::Admin(1),
        Permission::Admin(2),
        Permission::Write(1),
    ]);
    world.knows(&other);
    let mut ids = vec![world.id()];
    for step in steps {
        let at = |back: usize| ids[ids.len() - 1 - back.min(ids.len() - 1)];
        let mut parents = vec![at(step.parents.0), at(step.parents.1)];
        parents.dedup();
        let added = attempt(&mut world, &mut other, step, &parents, &ids);
        ids.extend(added);
    }
    (world, ids)
}

fn attempt(
    world: &mut World,
    other: &mut World,
    step: &Step,
    parents: &[Id],
    ids: &[Id],
) -> Option<Id> {
    let target = step.target;
    let right = match step.rank {
        0 => Permission::Admin(1),
        1 => Permission::Admin(2),
        2 => Permission::Write(1),
        _ => Permission::Read,
    };
    let named = |pick: usize| -> Option<Id> {
        let below: Vec<Id> = ids
            .iter()
            .filter(|id| world.is_below(parents, id))
            .copied()
            .collect();
        below.get(pick % below.len().max(1)).copied()
    };
    let revoke = |to, cut: Option<Ids>, replaces: Ids| {
        AuthRecord::Revoke(Revocation {
            to,
            cut,
            replaces,
            ..Revocation::of(key(target))
        })
    };
    let author = match step.action % 5 {
        4 if step.author == 5 => world.via(2, &[other]),
        _ => Author::from(key(step.author)),
    };
    let records = match step.action {
        0..4 => return world.writes(author, parents).ok(),
        4..7 => vec![grant(target, right)],
        7 | 8 => vec![revoke(None, None, Ids::new())],
        9 => vec![revoke(Some(right), None, Ids::new())],
        10 => vec![revoke(None, named(step.pick.0).map(Ids::from), Ids::new())],
        11 | 12 => {
            let revocations: Vec<Id> = ids
                .iter()
                .filter(|id| world.is_below(parents, id))
                .filter(|id| {
                    let state = world.state_at(parents);
                    state.revocations(&key(target)).any(|(by, _)| by == **id)
                })
                .copied()
                .collect();
            let cut = named(step.pick.0).map(Ids::from);
            vec![revoke(None, cut, revocations.into())]
        }
        13 => vec![AuthRecord::Renounce],
        14 => vec![AuthRecord::Rotate {
            to: key(target),
            name: Default::default(),
        }],
        15 => {
            let entries = named(step.pick.1).map(Ids::from)?;
            vec![AuthRecord::Adopt { entries }]
        }
        16 => vec![AuthRecord::Wildcard(
            (step.rank > 0).then_some(Permission::Write(step.rank)),
        )],
        _ => {
            if step.rank == 1 {
                let tips = other.tips();
                let down = AuthRecord::Revoke(Revocation::of(key(2)));
                other.says(1, &tips, vec![down]).ok();
                world.knows(other);
            }
            vec![AuthRecord::Delegate(Delegation {
                database: other.id(),
                bound: (!step.pick.0.is_multiple_of(5)).then_some(right),
                floor: other.tips(),
                name: Default::default(),
            })]
        }
    };
    world.says_by(author, parents, records).ok()
}

/// All that can be seen of a state.
fn look(world: &World, state: &AuthState) -> Vec<String> {
    let mut seen: Vec<String> = (0..8u8)
        .map(|n| format!("{n} {:?}", state.right_of(&key(n))))
        .collect();
    seen.push(format!("{:?}", state.wildcard()));
    seen.extend(state.keys().map(|entry| format!("{entry:?}")));
    seen.extend(state.revoked_keys().map(|entry| format!("{entry:?}")));
    seen.extend(state.delegations().map(|entry| format!("{entry:?}")));
    for (id, node) in &world.nodes {
        if state.covers(&node.at) && (node.after.is_none() || state.contains(id)) {
            seen.push(format!("{id} {:?}", world.standing_under(state, id)));
        }
    }
    seen
}

proptest! {
    #[test]
    fn joining_is_commutative_associative_and_idempotent(steps in steps(24), picks in prop::array::uniform6(0..99usize)) {
        let (world, ids) = build(&steps);
        let state = |a: usize, b: usize| world.state_at(&[ids[a % ids.len()], ids[b % ids.len()]]);
        let (a, b, c) = (state(picks[0], picks[1]), state(picks[2], picks[3]), state(picks[4], picks[5]));
        let same = |left: &AuthState, right: &AuthState| {
            assert_eq!(left, right);
            assert_eq!(look(&world, left), look(&world, right));
        };
        same(&a.join(&b), &b.join(&a));
        same(&a.join(&b).join(&c), &a.join(&b.join(&c)));
        same(&a.join(&a), &a);
        same(&a.join(&AuthState::default()), &a);
        same(&a.join(&b).join(&a), &a.join(&b));
    }

    #[test]
    fn the_incremental_paths_give_what_resolving_anew_gives(steps in steps(32)) {
        let (world, ids) = build(&steps);
        for id in &ids {
            let state = world.state_at(&[*id]);
            prop_assert_eq!(look(&world, &state), look(&world, &state.resolved_anew()));
        }
        let state = world.state();
        prop_assert_eq!(look(&world, &state), look(&world, &state.resolved_anew()));
    }

    #[test]
    fn the_order_of_arrival_makes_no_difference(steps in steps(24), order in any::<u64>()) {
        let (world, ids) = build(&steps);
        let mut shuffled = ids.clone();
        shuffled.sort_by_key(|id| u64::from_le_bytes(*id.as_bytes().first_chunk().unwrap()) ^ order);
        let together = shuffled.iter().fold(AuthState::default(), |state, id| state.join(&world.state_at(&[*id])));
        prop_assert_eq!(&together, &world.state());
        prop_assert_eq!(look(&world, &together), look(&world, &world.state()));
    }

    #[test]
    fn what_an_author_had_in_its_own_past_is_what_it_was_judged_by(steps in steps(24)) {
        let (world, ids) = build(&steps);
        for id in &ids {
            let node = &world.nodes[id];
            let state = node.after.as_ref().unwrap_or(&node.at);
            prop_assert_eq!(world.standing_under(state, id), eidetica_auth::Standing::Effective(node.strength));
        }
    }

    #[test]
    fn changes_cover_all_that_stands_differently(steps in steps(32), split in 0..99usize) {
        let (world, ids) = build(&steps);
        let older = world.state_at(&ids[..1 + split % ids.len()]);
        let newer = world.state();
        let changes = newer.changes_since(&older);
        for (id, node) in &world.nodes {
            let known = older.covers(&node.at) && (node.after.is_none() || older.contains(id));
            if !known || world.standing_under(&older, id) == world.standing_under(&newer, id) {
                continue;
            }
            let effective = |state| world.standing_under(state, id).is_effective();
            if node.after.is_none() && effective(&older) == effective(&newer) {
                continue;
            }
            let by_cut = changes.cuts.iter().any(|cut| !world.is_below(&cut.below, id));
            let author = node.header.author.key;
            let by_key = changes.keys.as_ref().is_none_or(|keys| keys.contains(&author));
            let named = changes.adopted.contains(id);
            prop_assert!(named || (by_cut && by_key), "{} {:?} {:?}", id, changes, node.header);
            prop_assert!(node.after.is_none() || effective(&older) == effective(&newer) || changes.settings.contains(id));
        }
    }
}
