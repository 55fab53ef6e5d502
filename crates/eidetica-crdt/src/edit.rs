//! Edits: what an application wants changed, in terms of what it sees.

use crate::path::split_dotted;
use crate::value::parse_index;
use crate::{Doc, ElemId, Path, PathError, PayloadError, Segment, StateError, Value, limits};

/// One step of a [`Locator`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Step {
    /// An index where a list is seen, else a key.
    Name(String),
    /// A key, whatever is seen.
    Key(String),
    /// An element.
    Elem(ElemId),
}

/// Says where an edit applies, in terms of what is seen there.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Locator(pub Vec<Step>);

impl Locator {
    /// The store's root.
    pub const fn root() -> Self {
        Self(Vec::new())
    }

    /// Dotted text: the form of [`Path`]'s, with indexes where lists are seen.
    ///
    /// # Errors
    /// No dotted path.
    pub fn parse(text: &str) -> Result<Self, PathError> {
        Ok(Self(
            split_dotted(text)?.into_iter().map(Step::Name).collect(),
        ))
    }

    /// This locator and one more step.
    #[must_use]
    pub fn then(&self, step: Step) -> Self {
        Self(self.0.iter().cloned().chain([step]).collect())
    }
}

impl From<&Path> for Locator {
    fn from(path: &Path) -> Self {
        let step = |segment| match segment {
            Segment::Key(key) => Step::Key(key.into_owned()),
            Segment::Elem(elem) => Step::Elem(elem),
        };
        Self(path.segments().map(step).collect())
    }
}

impl std::str::FromStr for Locator {
    type Err = PathError;

    fn from_str(text: &str) -> Result<Self, PathError> {
        Self::parse(text)
    }
}

/// What an application wants changed.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub enum Edit {
    /// Documents: replaces what is there, or puts it where nothing is. One past the end of a list appends.
    Set {
        /// Where.
        at: Locator,
        /// By what.
        value: Value,
    },
    /// Documents: takes away what is there; nothing where nothing is.
    Delete {
        /// Where.
        at: Locator,
    },
    /// Documents: adds to the number that is there, or to 0.
    Increment {
        /// Where.
        at: Locator,
        /// How much.
        by: i64,
    },
    /// Documents: puts a new element before the one at `index`; at the end if `index` is `None`.
    ListInsert {
        /// The list; begins where nothing is.
        list: Locator,
        /// Before which element.
        index: Option<usize>,
        /// What the element holds.
        value: Value,
    },
    /// Documents: moves an element so that it ends up at index `to`.
    ListMove {
        /// The element: a locator whose last step is an index or element.
        at: Locator,
        /// Where it ends up.
        to: usize,
    },
    /// Tables: puts a row, replacing the one with that key.
    RowInsert {
        /// Its key.
        key: String,
        /// Its fields.
        fields: Doc,
    },
    /// Tables: changes fields of an existing row; those that have the value already are left alone.
    RowSet {
        /// Its key.
        key: String,
        /// The fields to change.
        fields: Doc,
    },
    /// Tables: takes one field away; nothing where there is none.
    FieldDelete {
        /// The row's key.
        key: String,
        /// The field.
        field: String,
    },
    /// Tables: adds to a number of an existing row, or to 0.
    FieldIncrement {
        /// The row's key.
        key: String,
        /// The field.
        field: String,
        /// How much.
        by: i64,
    },
    /// Tables: takes a row away; nothing where there is none.
    RowDelete {
        /// Its key.
        key: String,
    },
}

impl Edit {
    /// Whether what it amounts to depends on the state. If not, lowering it reads nothing.
    pub fn reads(&self) -> bool {
        match self {
            Self::RowInsert { .. } => false,
            // The root is a map, and a scalar is put the same way wherever it is put.
            Self::Set { at, value } => match at.0.as_slice() {
                [Step::Key(_)] => value.depth() > 0,
                [Step::Name(name)] => value.depth() > 0 || parse_index(name).is_some(),
                _ => true,
            },
            _ => true,
        }
    }

    /// The first key of where it applies: what lies elsewhere it neither reads nor changes. `None` if
    /// that is the root.
    pub(crate) fn first_key(&self) -> Option<&str> {
        match self {
            Self::Set { at, .. }
            | Self::Delete { at }
            | Self::Increment { at, .. }
            | Self::ListInsert { list: at, .. }
            | Self::ListMove { at, .. } => match at.0.first()? {
                Step::Name(key) | Step::Key(key) => Some(key),
                Step::Elem(_) => None,
            },
            Self::RowInsert { key, .. }
            | Self::RowSet { key, .. }
            | Self::FieldDelete { key, .. }
            | Self::FieldIncrement { key, .. }
            | Self::RowDelete { key } => Some(key),
        }
    }
}

/// Why an edit cannot be made. Except for `State` the blame is with the caller.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum EditError<E> {
    /// The state cannot be read.
    #[error(transparent)]
    State(#[from] StateError<E>),
    /// No path.
    #[error(transparent)]
    Path(#[from] PathError),
    /// The edits do not fit one payload.
    #[error(transparent)]
    Payload(#[from] PayloadError),
    /// A key below a list.
    #[error("{step:?} is a key below the list at `{list}`")]
    KeyBelowList {
        /// The list.
        list: Path,
        /// The step.
        step: String,
    },
    /// An index beyond the end of a list.
    #[error("index {index} is beyond the end of the list at `{list}`")]
    NoIndex {
        /// The list.
        list: Path,
        /// The index.
        index: usize,
    },
    /// An element that does not exist (any more), or a step that is none where one must be.
    #[error("there is no element at `{at}`")]
    NoElement {
        /// Where.
        at: Path,
    },
    /// An insertion into a map or scalar.
    #[error("there is no list at `{at}` but something else")]
    NotAList {
        /// Where.
        at: Path,
    },
    /// An increment of something that is no number.
    #[error("there is no number at `{at}` but something else")]
    NotANumber {
        /// Where.
        at: Path,
    },
    /// The root of a document that is to become something else than a map, or to go.
    #[error("the root of a document can only be a map")]
    Root,
    /// A value that makes a path of more than [`limits::DEPTH`].
    #[error("the value is nested deeper than {}", limits::DEPTH)]
    TooDeep,
    /// A change to a table row that is not there.
    #[error("there is no row {key:?}")]
    NoRow {
        /// Its key.
        key: String,
    },
    /// An edit for a store of another kind.
    #[error("the edit is not for a store of this kind")]
    WrongKind,
    /// More than [`limits::MOVED_NEIGHBOURS`] elements stand in the way of a new one.
    #[error("the list at `{list}` has no room there")]
    NoRoom {
        /// The list.
        list: Path,
    },
}
