//! Walks against an oracle that knows every past as a set.

use std::cell::Cell;
use std::collections::{BTreeSet, HashMap};
use std::convert::Infallible;

use eidetica_entry::dag::{self, Budget, Dag, DagError, Node};
use eidetica_entry::{Height, Id, Ids, Stamp, derive_settings};
use proptest::prelude::*;

use crate::support::*;

/// Pasts as sets of positions, by definition.
struct Oracle {
    ids: Vec<Id>,
    stamps: Vec<Stamp>,
    pasts: Vec<Vec<u64>>,
}

impl Oracle {
    /// `nodes` in an order with parents first.
    fn new(nodes: &[(Id, Node)]) -> Self {
        let positions: HashMap<Id, usize> = nodes
            .iter()
            .enumerate()
            .map(|(n, (id, _))| (*id, n))
            .collect();
        let words = nodes.len().div_ceil(64);
        let mut pasts: Vec<Vec<u64>> = Vec::new();
        for (n, (_, node)) in nodes.iter().enumerate() {
            let mut past = vec![0; words];
            past[n / 64] |= 1 << (n % 64);
            for parent in &node.parents {
                let parent = &pasts[positions[parent]];
                past.iter_mut()
                    .zip(parent)
                    .for_each(|(bits, more)| *bits |= more);
            }
            pasts.push(past);
        }
        let stamps = nodes
            .iter()
            .map(|(id, node)| Stamp::new(node.height, *id))
            .collect();
        Self {
            ids: nodes.iter().map(|(id, _)| *id).collect(),
            stamps,
            pasts,
        }
    }

    fn is_in_past(&self, a: usize, of: usize) -> bool {
        self.pasts[of][a / 64] >> (a % 64) & 1 == 1
    }

    fn difference(&self, from: &[usize], not: &[usize]) -> Vec<Stamp> {
        let inside = |n, of: &[usize]| of.iter().any(|of| self.is_in_past(n, *of));
        let mut found: Vec<Stamp> = (0..self.ids.len())
            .filter(|n| inside(*n, from) && !inside(*n, not))
            .map(|n| self.stamps[n])
            .collect();
        found.sort_unstable();
        found
    }

    fn maximal(&self, of: &[usize]) -> Ids {
        let of: BTreeSet<usize> = of.iter().copied().collect();
        let below = |n: usize| {
            of.iter()
                .any(|other| *other != n && self.is_in_past(n, *other))
        };
        of.iter()
            .filter(|n| !below(**n))
            .map(|n| self.ids[*n])
            .collect()
    }

    fn pick(&self, of: &[usize]) -> Vec<Id> {
        of.iter().map(|n| self.ids[*n]).collect()
    }
}

/// Compares every algorithm with the oracle on the given positions.
fn compare(oracle: &Oracle, dag: &HashMap<Id, Node>, from: &[usize], not: &[usize]) {
    let (from_ids, not_ids) = (oracle.pick(from), oracle.pick(not));
    let mut budget = Budget::unlimited();
    assert_eq!(
        dag::difference(dag, &from_ids, &not_ids, &mut budget).unwrap(),
        oracle.difference(from, not)
    );
    assert_eq!(
        dag::maximal(dag, &from_ids, &mut budget).unwrap(),
        oracle.maximal(from)
    );
    for (a, b) in from.iter().zip(not) {
        let found = dag::is_ancestor(dag, &oracle.ids[*a], &oracle.ids[*b], &mut budget).unwrap();
        assert_eq!(found, oracle.is_in_past(*a, *b));
    }
    let mut past: Vec<Stamp> = dag::ancestors(dag, &from_ids, Budget::unlimited())
        .unwrap()
        .collect::<Result<_, _>>()
        .unwrap();
    past.reverse();
    assert_eq!(past, oracle.difference(from, &[]));
}

/// Any small history: node `n` picks parents among those before it.
fn any_dag() -> impl Strategy<Value = Vec<(Id, Node)>> {
    proptest::collection::vec(
        (any::<u16>(), proptest::collection::vec(any::<u16>(), 0..4)),
        1..60,
    )
    .prop_map(|shape| {
        let mut nodes: Vec<(Id, Node)> = Vec::new();
        for (n, (salt, picks)) in shape.into_iter().enumerate() {
            let parents: Ids = match n {
                0 => Ids::new(),
                _ => picks
                    .iter()
                    .chain([&salt])
                    .map(|pick| nodes[n - 1 - usize::from(*pick) % n.min(9)].0)
                    .collect(),
            };
            let height = parents
                .iter()
                .map(|p| {
                    nodes
                        .iter()
                        .find(|(id, _)| id == p)
                        .unwrap()
                        .1
                        .height
                        .next()
                })
                .max();
            let id = Id::new(*blake3::hash(&[n as u8, salt as u8]).as_bytes());
            nodes.push((
                id,
                Node {
                    height: height.unwrap_or_default(),
                    parents,
                },
            ));
        }
        nodes
    })
}

proptest! {
    #[test]
    fn walks_agree_with_their_definitions(
        nodes in any_dag(),
        from in proptest::collection::vec(any::<prop::sample::Index>(), 0..5),
        not in proptest::collection::vec(any::<prop::sample::Index>(), 0..5),
    ) {
        let oracle = Oracle::new(&nodes);
        let dag: HashMap<Id, Node> = nodes.iter().cloned().collect();
        let pick = |indexes: &[prop::sample::Index]| indexes.iter().map(|i| i.index(nodes.len())).collect::<Vec<_>>();
        compare(&oracle, &dag, &pick(&from), &pick(&not));
    }
}

fn nodes_of(history: &History) -> Vec<(Id, Node)> {
    let node = |e: &eidetica_entry::Entry| Node {
        height: e.header().height,
        parents: e.header().parents.clone(),
    };
    history
        .entries
        .iter()
        .map(|entry| (entry.id(), node(entry)))
        .collect()
}

#[test]
fn walks_agree_with_their_definitions_on_a_real_history() {
    let history = real_history();
    let (oracle, dag) = (Oracle::new(&nodes_of(&history)), history.dag());
    let n = oracle.ids.len();
    assert_eq!(n, 12_273);
    let spread = |seed: usize, count: usize| {
        (0..count)
            .map(|k| (seed * 7919 + k * 4271) % n)
            .collect::<Vec<_>>()
    };
    for seed in 0..40 {
        compare(
            &oracle,
            &dag,
            &spread(seed, 1 + seed % 6),
            &spread(seed + 100, seed % 4),
        );
    }
    compare(&oracle, &dag, &[n - 1], &[n - 40]);
    compare(&oracle, &dag, &[], &[n - 1]);
}

/// Pins derived over the small settings graph are the maximal settings entries of the whole past.
#[test]
fn derived_settings_are_the_maximal_settings_entries_of_the_past() {
    let history = real_history();
    let oracle = Oracle::new(&nodes_of(&history));
    let writers: Vec<usize> = (0..oracle.ids.len())
        .filter(|n| history.entries[*n].header().writes_settings())
        .collect();
    for n in (1..oracle.ids.len()).step_by(61) {
        let below: Vec<usize> = writers
            .iter()
            .copied()
            .filter(|w| *w != n && oracle.is_in_past(*w, n))
            .collect();
        assert_eq!(
            history.entries[n].header().settings,
            oracle.maximal(&below),
            "entry {n}"
        );
    }
}

/// A chain by rule: entry `n` is `id(n)`, its parent `id(n - 1)`. Counts lookups.
struct Chain {
    len: u64,
    lookups: Cell<u64>,
}

impl Dag for Chain {
    type Error = Infallible;

    fn node(&self, wanted: &Id) -> Result<Option<Node>, Infallible> {
        self.lookups.set(self.lookups.get() + 1);
        let n = u64::from_be_bytes(wanted.as_bytes()[..8].try_into().unwrap());
        let parents = if n == 0 {
            Ids::new()
        } else {
            Ids::from(id(n - 1))
        };
        Ok((n < self.len).then_some(Node {
            height: Height(n),
            parents,
        }))
    }
}

#[test]
fn a_chain_of_a_million_needs_no_stack() {
    let walk = || {
        let chain = Chain {
            len: 1_000_001,
            lookups: Cell::new(0),
        };
        let mut budget = Budget::unlimited();
        let (root, tip) = (id(0), id(1_000_000));
        assert!(dag::is_ancestor(&chain, &root, &tip, &mut budget).unwrap());
        assert_eq!(
            dag::maximal(&chain, &[root, tip], &mut budget).unwrap(),
            Ids::from(tip)
        );
        assert_eq!(
            dag::difference(&chain, &[tip], &[root], &mut budget)
                .unwrap()
                .len(),
            1_000_000
        );
        // A 64 KiB stack would not hold a thousandth of it.
    };
    std::thread::Builder::new()
        .stack_size(64 << 10)
        .spawn(walk)
        .unwrap()
        .join()
        .unwrap();
}

#[test]
fn the_cost_follows_the_difference_and_not_the_history() {
    let chain = Chain {
        len: 1_000_000,
        lookups: Cell::new(0),
    };
    let found =
        dag::difference(&chain, &[id(999_999)], &[id(999_989)], &mut Budget::new(20)).unwrap();
    assert_eq!(found.len(), 10);
    assert!(chain.lookups.get() < 30, "{} lookups", chain.lookups.get());
}

#[test]
fn budgets_hold_exactly() {
    let chain = Chain {
        len: 100,
        lookups: Cell::new(0),
    };
    let mut enough = Budget::new(100);
    assert_eq!(
        dag::difference(&chain, &[id(99)], &[], &mut enough)
            .unwrap()
            .len(),
        100
    );
    assert_eq!(enough.left(), 0);
    assert_eq!(
        dag::difference(&chain, &[id(99)], &[], &mut Budget::new(99)),
        Err(DagError::Budget)
    );
    assert_eq!(
        dag::is_ancestor(&chain, &id(90), &id(99), &mut Budget::new(9)),
        Err(DagError::Budget)
    );
    assert_eq!(
        dag::is_ancestor(&chain, &id(90), &id(99), &mut Budget::new(10)),
        Ok(true)
    );
}

#[test]
fn missing_and_impossible_entries_are_errors() {
    let chain = Chain {
        len: 10,
        lookups: Cell::new(0),
    };
    let mut budget = Budget::unlimited();
    assert_eq!(
        dag::difference(&chain, &[id(10)], &[], &mut budget),
        Err(DagError::Missing(id(10)))
    );
    assert_eq!(
        dag::maximal(&chain, &[id(3), id(11)], &mut budget),
        Err(DagError::Missing(id(11)))
    );
    // What we do not hold takes nothing from what we do.
    assert_eq!(
        dag::difference(&chain, &[id(2)], &[id(50)], &mut budget)
            .unwrap()
            .len(),
        3
    );

    let knot: HashMap<Id, Node> = [(1, 2), (2, 1)]
        .map(|(n, parent)| {
            (
                id(n),
                Node {
                    height: Height(4),
                    parents: Ids::from(id(parent)),
                },
            )
        })
        .into();
    assert_eq!(
        dag::difference(&knot, &[id(1)], &[], &mut budget),
        Err(DagError::Height(id(2)))
    );
    let walked: Vec<_> = dag::ancestors(&knot, &[id(1)], budget).unwrap().collect();
    assert_eq!(walked, [Err(DagError::Height(id(2)))]);
}

#[test]
fn agreeing_parents_ask_nobody() {
    let info = |n| eidetica_entry::ParentInfo {
        id: id(n),
        height: Height(n),
        writes_settings: false,
        settings: Ids::from(id(0)),
    };
    let nothing: HashMap<Id, Node> = HashMap::new();
    let pins = derive_settings(&[info(3), info(4)], &nothing, &mut Budget::new(0)).unwrap();
    assert_eq!(pins, Ids::from(id(0)));
}
