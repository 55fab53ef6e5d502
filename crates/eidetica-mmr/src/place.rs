//! Where things are: leaves are counted by locations, nodes by positions. No hashes here.

use std::fmt;

use crate::limits;

/// The number of a leaf, from 0.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Location(pub u64);

/// How many leaves there are: a size, at most [`limits::LEAVES`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Leaves(pub u64);

/// The number of a node, from 0, in the order in which nodes come to be: a leaf, then every parent that it
/// completes from the lowest to the highest.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Position(pub u64);

/// A node by its height and its index among the nodes of that height. It stands over the leaves
/// `index << height .. (index + 1) << height`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Node {
    /// 0 for a leaf, at most [`limits::HEIGHT`].
    pub height: u32,
    /// From 0, counted at its height.
    pub index: u64,
}

impl Location {
    /// The size of a list that ends just before this leaf.
    #[must_use]
    pub fn before(self) -> Leaves {
        Leaves(self.0)
    }

    /// The leaf as a node.
    #[must_use]
    pub fn node(self) -> Node {
        Node {
            height: 0,
            index: self.0,
        }
    }

    /// The position of the leaf.
    #[must_use]
    pub fn position(self) -> Position {
        self.before().positions()
    }

    /// The leaf at a position, `None` if the node there is a parent.
    #[must_use]
    pub fn at(position: Position) -> Option<Self> {
        let node = Node::at(position)?;
        (node.height == 0).then_some(Self(node.index))
    }
}

impl Leaves {
    /// The location of the next leaf.
    #[must_use]
    pub fn next(self) -> Location {
        Location(self.0)
    }

    /// How many nodes a range of this size has, which is the position of its next leaf. Saturates above
    /// [`limits::LEAVES`].
    #[must_use]
    pub fn positions(self) -> Position {
        let ones = u64::from(self.0.count_ones());
        Position(self.0.saturating_mul(2).saturating_sub(ones))
    }

    /// Whether the size is within [`limits::LEAVES`].
    #[must_use]
    pub fn is_possible(self) -> bool {
        self.0 <= limits::LEAVES
    }
}

impl Node {
    /// The position of the node: it comes to be after the last leaf under it and its lower ancestors.
    #[must_use]
    pub fn position(self) -> Position {
        let last = self.end().0.saturating_sub(1);
        let leaf = Location(last).position();
        Position(leaf.0.saturating_add(u64::from(self.height)))
    }

    /// The node at a position, `None` if no range has so many nodes. Costs a binary search over 63 bits.
    #[must_use]
    pub fn at(position: Position) -> Option<Self> {
        if position >= Leaves(limits::LEAVES).positions() {
            return None;
        }
        // The greatest leaf whose position is not after the wanted one completes it.
        let (mut low, mut high) = (0, limits::LEAVES);
        while high - low > 1 {
            let middle = low + (high - low) / 2;
            if Location(middle).position() <= position {
                low = middle;
            } else {
                high = middle;
            }
        }
        let above = position.0 - Location(low).position().0;
        let height = u32::try_from(above).ok()?;
        Some(Self {
            height,
            index: low.checked_shr(height)?,
        })
    }

    /// The first leaf under the node.
    #[must_use]
    pub fn start(self) -> Location {
        Location(self.index.checked_shl(self.height).unwrap_or(u64::MAX))
    }

    /// The leaf after the last one under the node, which is the least size at which the node exists.
    #[must_use]
    pub fn end(self) -> Location {
        let next = Self {
            height: self.height,
            index: self.index.saturating_add(1),
        };
        next.start()
    }

    /// Whether the node exists in a range of this size.
    #[must_use]
    pub fn is_in(self, leaves: Leaves) -> bool {
        self.end().0 <= leaves.0
    }

    /// The two nodes under this one, `None` for a leaf.
    #[must_use]
    pub fn children(self) -> Option<(Self, Self)> {
        let height = self.height.checked_sub(1)?;
        let index = self.index.checked_mul(2)?;
        let left = Self { height, index };
        let right = Self {
            height,
            index: index | 1,
        };
        Some((left, right))
    }
}

macro_rules! shown_as_number {
    ($($name:ident),*) => {$(
        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.fmt(f)
            }
        }
    )*};
}

shown_as_number!(Location, Leaves, Position);
