//! The definitions of `docs/formats/state.md`, section "What is shown", word for word over the set of
//! writes. Deliberately without any idea in common with the crate's incremental rows.

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};

use eidetica_crdt::{
    Container, Doc, ElemId, Init, List, OWN, Op, Path, Payload, Position, Scalar, Segment,
    StoreKind, Value,
};
use eidetica_entry::Stamp;

pub(crate) type Write = (Path, Stamp, Op);

/// The set of all writes, `W`.
#[derive(Clone, Debug, Default)]
pub(crate) struct Oracle {
    pub(crate) writes: Vec<Write>,
}

/// The writes of a payload once its entry has a stamp.
pub(crate) fn bound(stamp: Stamp, payload: &Payload) -> Vec<Write> {
    let bind = |path: &Path| {
        let mut bound = Path::root();
        for segment in path.segments() {
            match segment {
                Segment::Key(key) => bound.push_key(&key).unwrap(),
                Segment::Elem(e) if e.stamp == OWN => {
                    bound.push_elem(ElemId { stamp, ..e }).unwrap()
                }
                Segment::Elem(e) => bound.push_elem(e).unwrap(),
            }
        }
        bound
    };
    payload
        .writes()
        .iter()
        .map(|w| (bind(&w.path), stamp, w.op.clone()))
        .collect()
}

impl Oracle {
    pub(crate) fn insert(&mut self, stamp: Stamp, payload: &Payload) {
        self.writes.extend(bound(stamp, payload));
    }

    pub(crate) fn remove(&mut self, stamp: Stamp) {
        self.writes.retain(|(_, s, _)| *s != stamp);
    }

    /// Every path that has a write, and its prefixes.
    pub(crate) fn paths(&self) -> BTreeSet<Path> {
        self.writes
            .iter()
            .flat_map(|(p, _, _)| prefixes(p))
            .collect()
    }

    /// The definitions, over `W` as it is now.
    pub(crate) fn state(&self) -> State<'_> {
        let mut at: BTreeMap<Path, Vec<(Stamp, &Op)>> = BTreeMap::new();
        for (path, stamp, op) in &self.writes {
            at.entry(path.clone()).or_default().push((*stamp, op));
        }
        let mut children: BTreeMap<Path, Vec<Path>> = BTreeMap::new();
        for path in self.paths() {
            if let Some(parent) = path.parent() {
                children.entry(parent).or_default().push(path);
            }
        }
        State {
            at,
            children,
            known: RefCell::default(),
        }
    }
}

/// `W` by path, and what has been found out about it.
pub(crate) struct State<'w> {
    at: BTreeMap<Path, Vec<(Stamp, &'w Op)>>,
    children: BTreeMap<Path, Vec<Path>>,
    known: RefCell<BTreeMap<Path, Option<Value>>>,
}

impl<'w> State<'w> {
    fn at(&self, path: &Path) -> impl Iterator<Item = (Stamp, &'w Op)> {
        self.at.get(path).into_iter().flatten().copied()
    }

    fn children(&self, path: &Path) -> &[Path] {
        self.children.get(path).map_or(&[], Vec::as_slice)
    }

    fn cover(&self, path: &Path) -> Option<Stamp> {
        self.at(path)
            .filter(|(_, op)| op.covers())
            .map(|(s, _)| s)
            .max()
    }

    fn exists(&self, elem: &Path) -> bool {
        let inserted = self.at(elem).find(|(_, op)| matches!(op, Op::Ins { .. }));
        let Some((inserted, _)) = inserted else {
            return false;
        };
        let killed = self.at(elem).any(|(s, op)| *op == Op::Kill && s > inserted);
        !killed
            && prefixes(elem)
                .filter(|q| q != elem)
                .all(|q| self.cover(&q) <= Some(inserted))
    }

    fn live(&self, path: &Path, stamp: Stamp) -> bool {
        prefixes(path)
            .all(|q| self.cover(&q) <= Some(stamp) && (q.last_elem().is_none() || self.exists(&q)))
    }

    pub(crate) fn value(&self, path: &Path) -> Option<(Stamp, &'w Op)> {
        let ops = self
            .at(path)
            .filter(|(_, op)| op.covers() || matches!(op, Op::Make(_)));
        let (stamp, op) = ops.max_by_key(|(s, _)| *s)?;
        (self.live(path, stamp) && *op != Op::Delete).then_some((stamp, op))
    }

    fn incs(&self, path: &Path) -> Vec<i64> {
        let incs = self.at(path).filter_map(|(s, op)| {
            if let Op::Inc(by) = op {
                Some((s, *by))
            } else {
                None
            }
        });
        incs.filter(|(s, _)| self.live(path, *s))
            .map(|(_, by)| by)
            .collect()
    }

    fn position(&self, elem: &Path) -> Option<Position> {
        let placed = self.at(elem).filter_map(|(s, op)| match op {
            Op::Ins { position, .. } | Op::Move(position) => Some((s, position.clone())),
            _ => None,
        });
        placed.max_by_key(|(s, _)| *s).map(|(_, position)| position)
    }

    /// `shown(path)`, with its subtree.
    pub(crate) fn shown(&self, path: &Path) -> Option<Value> {
        if let Some(known) = self.known.borrow().get(path) {
            return known.clone();
        }
        let shown = self.find_shown(path);
        self.known.borrow_mut().insert(path.clone(), shown.clone());
        shown
    }

    fn find_shown(&self, path: &Path) -> Option<Value> {
        let value = self.value(path).map(|(_, op)| op);
        if let Some(container) = value.and_then(Op::container) {
            return Some(self.container(path, container));
        }
        for sort in [Container::Map, Container::List] {
            if self
                .children(path)
                .iter()
                .any(|c| sort_of(c) == sort && self.shown(c).is_some())
            {
                return Some(self.container(path, sort));
            }
        }
        let scalar = value.map(|op| match op {
            Op::Set(scalar)
            | Op::Ins {
                init: Init::Scalar(scalar),
                ..
            } => scalar.clone(),
            op => panic!("{op:?} is no value"),
        });
        let incs = self.incs(path);
        if incs.is_empty() {
            return scalar.map(Value::from);
        }
        let sum: i128 = incs.iter().map(|by| i128::from(*by)).sum();
        Some(match scalar {
            Some(Scalar::Float(base)) => Value::Float(base + sum as f64),
            Some(Scalar::Int(base)) => Value::Counter(clamp(i128::from(base) + sum)),
            _ => Value::Counter(clamp(sum)),
        })
    }

    fn container(&self, path: &Path, sort: Container) -> Value {
        let children = self.children(path).iter().filter(|c| sort_of(c) == sort);
        let mut shown: Vec<(Path, Value)> = children
            .filter_map(|c| self.shown(c).map(|value| (c.clone(), value)))
            .collect();
        if sort == Container::Map {
            return Value::Map(shown.into_iter().map(|(c, v)| (last_key(&c), v)).collect());
        }
        shown.sort_by_key(|(c, _)| (self.position(c), c.last_elem()));
        Value::List(shown.into_iter().map(|(_, v)| v).collect::<List>())
    }

    /// A table: rows by key, shown while their value is their insert's `Clear(map)`.
    pub(crate) fn table(&self) -> Vec<(String, Doc)> {
        let rows = self.children(&Path::root()).iter();
        let shown =
            rows.filter(|row| matches!(self.value(row), Some((_, Op::Clear(Container::Map)))));
        let fields = |row: &Path| match self.shown(row) {
            Some(Value::Map(fields)) => (last_key(row), fields),
            other => panic!("a row shows {other:?}"),
        };
        shown.map(fields).collect()
    }

    /// How many rows the state must have: (cur, ver, pos).
    pub(crate) fn row_counts(&self, kind: StoreKind) -> (usize, usize, usize) {
        // Of a table, what is shown is in `cur`, and that in one row.
        let open = |p: &Path| {
            let row = prefixes(p).find(|q| q.depth() == 1);
            kind == StoreKind::Doc || row.is_some_and(|row| self.value(&row).is_some())
        };
        let paths: Vec<&Path> = self.at.keys().filter(|p| open(p)).collect();
        let with_value: Vec<_> = paths.iter().filter(|p| self.value(p).is_some()).collect();
        let cur = paths
            .iter()
            .filter(|p| self.value(p).is_some() || !self.incs(p).is_empty());
        let cur = cur
            .filter(|p| kind == StoreKind::Doc || p.depth() == 1)
            .count();
        let elems = with_value
            .iter()
            .filter(|p| p.last_elem().is_some())
            .count();
        (
            cur,
            self.at.values().map(Vec::len).sum::<usize>() - with_value.len(),
            elems,
        )
    }
}

/// A path's prefixes from the root to itself.
fn prefixes(path: &Path) -> impl Iterator<Item = Path> {
    let mut up = vec![path.clone()];
    while let Some(parent) = up.last().and_then(Path::parent) {
        up.push(parent);
    }
    up.into_iter().rev()
}

fn sort_of(child: &Path) -> Container {
    if child.last_elem().is_some() {
        Container::List
    } else {
        Container::Map
    }
}

fn last_key(path: &Path) -> String {
    match path.last() {
        Some(Segment::Key(key)) => key.into_owned(),
        other => panic!("{other:?} is no key"),
    }
}

fn clamp(n: i128) -> i64 {
    i64::try_from(n).unwrap_or(if n < 0 { i64::MIN } else { i64::MAX })
}
