//! Operations: what a write does at its path.

use crate::{Position, Value};

/// The two sorts of containers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Container {
    /// Children are keys.
    Map,
    /// Children are elements.
    List,
}

/// A value without children.
#[derive(Clone, Debug, PartialEq)]
pub enum Scalar {
    /// JSON's null, a value like others.
    Null,
    /// A truth value.
    Bool(bool),
    /// A whole number.
    Int(i64),
    /// A floating point number; every NaN is the same one.
    Float(f64),
    /// Text.
    Text(String),
    /// Bytes.
    Bytes(Vec<u8>),
    /// A map or list that is written and merged as one value: a field of a table row.
    Packed(Box<Value>),
}

/// What a new element holds.
#[derive(Clone, Debug, PartialEq)]
pub enum Init {
    /// A scalar.
    Scalar(Scalar),
    /// An empty container.
    Empty(Container),
}

/// What a write does at its path. The first four cover: they hide what is older, at and below.
#[derive(Clone, Debug, PartialEq)]
pub enum Op {
    /// Becomes a scalar.
    Set(Scalar),
    /// Becomes an empty container.
    Clear(Container),
    /// Becomes absent.
    Delete,
    /// Begins an element.
    Ins {
        /// Where in the list.
        position: Position,
        /// What it holds.
        init: Init,
    },
    /// Shows as a container, with the children it has.
    Make(Container),
    /// Adds to a counter.
    Inc(i64),
    /// Puts an element elsewhere.
    Move(Position),
    /// Ends an element for good.
    Kill,
}

/// Groups of operations that are kept apart; of each a payload has at most one per path.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(u8)]
pub enum Slot {
    /// `Set`, `Clear`, `Delete`, `Ins`.
    Cover = 1,
    /// `Make`.
    Make = 2,
    /// `Inc`.
    Inc = 3,
    /// `Move`.
    Move = 4,
    /// `Kill`.
    Kill = 5,
}

impl Slot {
    /// The slot with this number.
    pub(crate) fn from_byte(byte: u8) -> Option<Self> {
        [Self::Cover, Self::Make, Self::Inc, Self::Move, Self::Kill]
            .into_iter()
            .find(|s| *s as u8 == byte)
    }
}

impl Op {
    /// Its slot.
    pub fn slot(&self) -> Slot {
        match self {
            Self::Set(_) | Self::Clear(_) | Self::Delete | Self::Ins { .. } => Slot::Cover,
            Self::Make(_) => Slot::Make,
            Self::Inc(_) => Slot::Inc,
            Self::Move(_) => Slot::Move,
            Self::Kill => Slot::Kill,
        }
    }

    /// Whether it hides what is older, at its path and below.
    pub fn covers(&self) -> bool {
        self.slot() == Slot::Cover
    }

    /// The container that it leaves at its path, if it leaves one.
    pub fn container(&self) -> Option<Container> {
        match self {
            Self::Clear(c)
            | Self::Make(c)
            | Self::Ins {
                init: Init::Empty(c),
                ..
            } => Some(*c),
            _ => None,
        }
    }

    /// The scalar that it leaves at its path, if it leaves one.
    pub fn scalar(&self) -> Option<&Scalar> {
        match self {
            Self::Set(s)
            | Self::Ins {
                init: Init::Scalar(s),
                ..
            } => Some(s),
            _ => None,
        }
    }
}
