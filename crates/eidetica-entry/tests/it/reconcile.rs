//! Set reconciliation against the plain difference of two sets.

use std::collections::BTreeSet;

use eidetica_entry::reconcile::{
    Content, Detail, ENDING, LEAF, Node, Part, Room, Source, Span, Summary, contrast, describe,
    from_children, summarize, within,
};
use eidetica_entry::{Height, Id, Stamp};
use proptest::{collection::vec, prelude::*};

fn stamp(height: u64, id: u64) -> Stamp {
    let mut bytes = [0; 32];
    bytes[..8].copy_from_slice(&id.to_be_bytes());
    Stamp::new(Height(height), Id::new(bytes))
}

/// An id that looks like a hash.
fn mixed(n: u64) -> u64 {
    let z = (n ^ (n >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb)
}

/// Heights near each other, equal, and anywhere; ids that are alike, and any.
fn stamps() -> impl Strategy<Value = BTreeSet<Stamp>> {
    let height = prop_oneof![
        0..40_u64,
        250..260_u64,
        Just(7),
        any::<u64>(),
        Just(u64::MAX)
    ];
    let id = prop_oneof![any::<u64>(), 0..50_u64];
    vec(
        (height, id).prop_map(|(height, id)| stamp(height, id)),
        0..200,
    )
    .prop_map(|stamps| stamps.into_iter().collect())
}

fn span() -> impl Strategy<Value = Span> {
    let end = (0..300_u64, 0..3_u64).prop_map(|(height, id)| stamp(height, id));
    (end.clone(), proptest::option::of(end)).prop_map(|(from, to)| Span { from, to })
}

fn room() -> Room {
    let (parts, ids) = (1 << 20, 1 << 20);
    Room { parts, ids }
}

fn describe_all(set: &[Stamp], span: Span, detail: Detail, mut room: Room) -> Vec<Part> {
    let (mut source, mut parts) = (set, Vec::new());
    let Ok(()) = describe(&mut source, span, detail, &mut room, &mut parts);
    parts
}

/// Both directions of the difference, asked for until nothing is open; and in how many steps.
fn reconcile(
    ours: &[Stamp],
    theirs: &[Stamp],
    mut detail: impl FnMut(u64) -> Detail,
) -> (BTreeSet<Id>, BTreeSet<Id>, usize) {
    let (mut lacking, mut extra) = (BTreeSet::new(), BTreeSet::new());
    let mut open = vec![(Span::ALL, Detail::Levels)];
    let mut steps = 0;
    while !open.is_empty() {
        steps += 1;
        let mut parts = Vec::new();
        for (span, detail) in open {
            parts.extend(describe_all(theirs, span, detail, room()));
        }
        let mut source = ours;
        let Ok(contrast) = contrast(&mut source, &parts, usize::MAX);
        for found in contrast.found {
            lacking.extend(found.theirs);
            extra.extend(found.ours);
        }
        open = contrast
            .open
            .into_iter()
            .map(|(span, count)| (span, detail(count)))
            .collect();
    }
    (lacking, extra, steps)
}

fn ids<'a>(stamps: impl Iterator<Item = &'a Stamp>) -> BTreeSet<Id> {
    stamps.map(|stamp| stamp.id).collect()
}

proptest! {
    #[test]
    fn the_difference_is_found_exactly(common in stamps(), ours in stamps(), theirs in stamps(), listed in 0..100_u64) {
        // One id stands at one height.
        let mut seen = BTreeSet::new();
        let all: Vec<Stamp> = common.iter().chain(&ours).chain(&theirs).copied().collect();
        let unique: BTreeSet<Stamp> = all.into_iter().filter(|stamp| seen.insert(stamp.id)).collect();
        let side = |own: &BTreeSet<Stamp>| -> Vec<Stamp> {
            unique.iter().filter(|stamp| common.contains(stamp) || own.contains(stamp)).copied().collect()
        };
        let (a, b) = (side(&ours), side(&theirs));
        let detail = |count| if count <= listed { Detail::Stamps } else { Detail::Nodes };
        let (lacking, extra, _) = reconcile(&a, &b, detail);
        let (set_a, set_b): (BTreeSet<Stamp>, BTreeSet<Stamp>) = (a.into_iter().collect(), b.into_iter().collect());
        prop_assert_eq!(lacking, ids(set_b.difference(&set_a)));
        prop_assert_eq!(extra, ids(set_a.difference(&set_b)));
    }

    #[test]
    fn a_description_makes_up_its_span(set in stamps(), span in span(), detail in 0..3, parts in 0..20_usize, ids in 0..20_usize) {
        prop_assume!(!span.is_empty());
        let set: Vec<Stamp> = set.into_iter().collect();
        let detail = [Detail::Levels, Detail::Nodes, Detail::Stamps][detail as usize];
        let described = describe_all(&set, span, detail, Room { parts, ids });
        prop_assert!(described.len() <= parts.max(1));
        let (mut next, mut count, mut listed) = (Some(span.from), 0, 0);
        for part in &described {
            prop_assert_eq!(Some(part.span.from), next);
            prop_assert!(!part.span.is_empty());
            next = part.span.to;
            let held = within(&set, &part.span);
            count += held.len();
            match &part.content {
                Content::Summary(summary) => prop_assert_eq!(summary.count, held.len() as u64),
                Content::Ids(all) => {
                    listed += all.len();
                    prop_assert_eq!(all.clone(), held.iter().map(|stamp| stamp.id).collect::<Vec<_>>());
                }
            }
        }
        prop_assert_eq!(next, span.to);
        prop_assert_eq!(count, within(&set, &span).len());
        prop_assert!(listed <= ids);
    }

    #[test]
    fn summaries_are_those_of_the_set(set in stamps(), other in stamps(), span in span()) {
        let (set, other): (Vec<Stamp>, Vec<Stamp>) = (set.into_iter().collect(), other.into_iter().collect());
        let (mut a, mut b) = (set.as_slice(), other.as_slice());
        let (Ok(of_a), Ok(of_b)) = (summarize(&mut a, &span), summarize(&mut b, &span));
        prop_assert_eq!(of_a == of_b, within(&set, &span) == within(&other, &span));
        // However they are put together.
        for level in [1, 2, 16] {
            let node = Node::of_heights(Height(255), level);
            let Ok(whole) = a.summary(&node);
            let Ok(parts) = from_children(&mut a, &node);
            prop_assert_eq!(whole, parts);
        }
    }
}

/// Whoever may write may choose ids until these agree.
#[test]
fn sets_with_equal_sums_and_exclusive_ors_are_told_apart() {
    let pairs = [
        ([(5, 1), (5, 2)], [(5, 0), (5, 3)]),
        ([(5, 1), (6, 2)], [(5, 2), (6, 1)]),
        ([(5, 1), (5, 2)], [(6, 1), (6, 2)]),
    ];
    let summary = |set: [(u64, u64); 2]| {
        let set = set.map(|(height, id)| stamp(height, id));
        summarize(&mut set.as_slice(), &Span::ALL)
    };
    for (one, other) in pairs {
        let folded = |set: [(u64, u64); 2]| (set[0].1 + set[1].1, set[0].1 ^ set[1].1);
        assert_eq!(folded(one), folded(other));
        assert_ne!(summary(one), summary(other));
    }
}

#[test]
fn nodes_are_aligned_blocks() {
    let all = Node::of_heights(Height(u64::MAX), 16);
    assert_eq!((all.span(), all.level()), (Span::ALL, Some(16)));
    let block = Node::of_heights(Height(0x1234), 2);
    let (from, to) = (stamp(0x1200, 0), Some(stamp(0x1300, 0)));
    assert_eq!((block.span(), block.level()), (Span { from, to }, Some(2)));
    assert_eq!(Node::of_heights(Height(u64::MAX), 2).span().to, None);
    // Below one height the ids divide, to the last half byte.
    let mut node = Node::of_heights(Height(9), 0);
    assert_eq!(node.span().to, Some(stamp(10, 0)));
    for depth in 1..=64_u32 {
        node = node.child(15).unwrap();
        assert_eq!(node.level(), None, "{depth}");
        assert_eq!(node.span().to, Some(stamp(10, 0)));
    }
    assert!(node.child(0).is_none());
    assert_eq!(node.span().from, Stamp::new(Height(9), Id::new([0xff; 32])));
}

#[test]
fn the_steps_are_few_however_long_the_history() {
    for (len, most) in [(1_000, 4), (100_000, 5), (300_000, 6)] {
        let theirs: Vec<Stamp> = (0..len).map(|n| stamp(n, mixed(n))).collect();
        for missing in [len - 1, len / 2 + 7, 3] {
            let ours: Vec<Stamp> = theirs
                .iter()
                .filter(|s| s.height.0 != missing)
                .copied()
                .collect();
            let listed = |count| {
                if count <= 64 {
                    Detail::Stamps
                } else {
                    Detail::Nodes
                }
            };
            let (lacking, extra, steps) = reconcile(&ours, &theirs, listed);
            assert_eq!((lacking.len(), extra.len()), (1, 0));
            assert!(steps <= most, "{len}, {missing}: {steps}");
        }
    }
}

#[test]
fn a_crowded_height_takes_few_steps_and_small_descriptions() {
    let theirs: BTreeSet<Stamp> = (0..100_000).map(|n| stamp(5, mixed(n))).collect();
    let theirs: Vec<Stamp> = theirs.into_iter().collect();
    let mut ours = theirs.clone();
    let gone = ours.remove(31_337).id;
    let mut largest = 0;
    for detail in [Detail::Levels, Detail::Nodes] {
        let parts = describe_all(&theirs, Span::ALL, detail, room());
        largest = largest.max(parts.len());
    }
    assert!(largest <= 15 * 6, "{largest}");
    let listed = |count| {
        if count <= 64 {
            Detail::Stamps
        } else {
            Detail::Nodes
        }
    };
    let (lacking, _, steps) = reconcile(&ours, &theirs, listed);
    assert_eq!(lacking, BTreeSet::from([gone]));
    assert!(steps <= 6, "{steps}");
    // Ids that begin alike to the last byte.
    let alike = |n: u8| {
        Stamp::new(
            Height(5),
            Id::new(std::array::from_fn(|at| if at == 31 { n } else { 7 })),
        )
    };
    let theirs: Vec<Stamp> = (0..200).map(alike).collect();
    let (lacking, _, _) = reconcile(&theirs[1..], &theirs, |_| Detail::Nodes);
    assert_eq!(lacking, BTreeSet::from([theirs[0].id]));
}

#[test]
fn ours_are_named_up_to_a_limit() {
    let ours: Vec<Stamp> = (0..100).map(|n| stamp(n, n)).collect();
    let cut = stamp(50, 0);
    let empty = |from, to| Part {
        span: Span { from, to },
        content: Content::Ids(Vec::new()),
    };
    let parts = [empty(Span::ALL.from, Some(cut)), empty(cut, None)];
    let named = |limit| {
        let mut source = ours.as_slice();
        let Ok(contrast) = contrast(&mut source, &parts, limit);
        let found: Vec<(usize, bool)> = contrast
            .found
            .iter()
            .map(|f| (f.ours.len(), f.more))
            .collect();
        (found, contrast.open.len())
    };
    assert_eq!(named(100), (vec![(50, false), (50, false)], 0));
    assert_eq!(named(99), (vec![(50, false), (49, true)], 0));
    assert_eq!(named(50), (vec![(50, false)], 1));
    assert_eq!(named(49), (vec![(49, true)], 1));
}

#[test]
fn few_stamps_are_listed() {
    let set: Vec<Stamp> = (0..ENDING as u64)
        .map(|n| stamp(1 << 30, mixed(n)))
        .collect::<BTreeSet<_>>()
        .into_iter()
        .collect();
    for detail in [Detail::Levels, Detail::Nodes] {
        let parts = describe_all(&set, Span::ALL, detail, room());
        assert!(
            matches!(&parts[..], [Part { content: Content::Ids(ids), .. }] if ids.len() == ENDING)
        );
        let empty = describe_all(&[], Span::ALL, detail, room());
        assert!(matches!(&empty[..], [Part { content: Content::Ids(ids), .. }] if ids.is_empty()));
    }
}

/// What these hashes are is part of the protocol.
#[test]
fn summaries_do_not_change() {
    let hex = |summary: Summary| -> String {
        summary
            .hash
            .iter()
            .map(|byte| format!("{byte:02x}"))
            .collect()
    };
    let set = |count: u64| -> Vec<Stamp> { (0..count).map(|n| stamp(n, n)).collect() };
    let whole = |count| {
        let set = set(count);
        let Ok(summary) = summarize(&mut set.as_slice(), &Span::ALL);
        hex(summary)
    };
    assert_eq!(Summary::of_node(&Node::ROOT, &[]), Summary::default());
    let golden = [1, LEAF as u64, LEAF as u64 + 1, 1_000].map(whole);
    assert_eq!(golden, GOLDEN);
}

const GOLDEN: [&str; 4] = [
    "09c6ddb3e9d156a41226b96333b0af95a3d7a516a9b9f9f7",
    "5c785bcd1692ca42268bee81cf668634065e25f051d55340",
    "8f4195c46b4ad7ba80dd2e911a9234d52e3365734515c9c0",
    "ad0d08ebd7d925cc218a4ddb374dc93b0e52c30eadf3bef4",
];
