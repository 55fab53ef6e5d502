//! Values as applications see them: [`Value`], [`Doc`], [`List`].

use std::collections::BTreeMap;
use std::collections::btree_map;

use crate::limits;
use crate::path::split_dotted;
use crate::{PathError, Scalar};

mod json;

pub use json::JsonError;

/// A JSON-like value that also knows bytes and counters.
#[derive(Clone, Debug, Default, PartialEq)]
#[non_exhaustive]
pub enum Value {
    /// JSON's null.
    #[default]
    Null,
    /// A truth value.
    Bool(bool),
    /// A whole number.
    Int(i64),
    /// A floating point number.
    Float(f64),
    /// Text.
    Text(String),
    /// Bytes.
    Bytes(Vec<u8>),
    /// The value of a number that increments were applied to. Written, it is an `Int`.
    Counter(i64),
    /// A map.
    Map(Doc),
    /// A list.
    List(List),
}

impl Value {
    /// Containers inside each other: 0 for a scalar, 1 for an empty map. Never too low. O(1).
    pub fn depth(&self) -> usize {
        match self {
            Self::Map(doc) => doc.depth,
            Self::List(list) => list.depth,
            _ => 0,
        }
    }

    /// The map this is.
    pub fn as_doc(&self) -> Option<&Doc> {
        match self {
            Self::Map(doc) => Some(doc),
            _ => None,
        }
    }

    /// The list this is.
    pub fn as_list(&self) -> Option<&List> {
        match self {
            Self::List(list) => Some(list),
            _ => None,
        }
    }

    /// The text this is.
    pub fn as_text(&self) -> Option<&str> {
        match self {
            Self::Text(text) => Some(text),
            _ => None,
        }
    }

    /// The whole number or counter this is.
    pub fn as_int(&self) -> Option<i64> {
        match self {
            Self::Int(n) | Self::Counter(n) => Some(*n),
            _ => None,
        }
    }

    /// The truth value this is.
    pub fn as_bool(&self) -> Option<bool> {
        match self {
            Self::Bool(b) => Some(*b),
            _ => None,
        }
    }

    /// The number this is, whole numbers converted.
    pub fn as_float(&self) -> Option<f64> {
        match self {
            Self::Float(f) => Some(*f),
            #[expect(clippy::cast_precision_loss, reason = "what a conversion to f64 means")]
            Self::Int(n) | Self::Counter(n) => Some(*n as f64),
            _ => None,
        }
    }

    /// The bytes this is.
    pub fn as_bytes(&self) -> Option<&[u8]> {
        match self {
            Self::Bytes(bytes) => Some(bytes),
            _ => None,
        }
    }

    /// The value as it is when written: every counter its number. Recursion is bounded by the depth,
    /// which callers have checked.
    pub(crate) fn without_counters(&self) -> Self {
        match self {
            Self::Counter(n) => Self::Int(*n),
            Self::Map(doc) => {
                Self::Map(doc.iter().map(|(k, v)| (k, v.without_counters())).collect())
            }
            Self::List(list) => Self::List(list.iter().map(Self::without_counters).collect()),
            scalar => scalar.clone(),
        }
    }

    /// The scalar this is; `None` for a map or list.
    pub(crate) fn to_scalar(&self) -> Option<Scalar> {
        Some(match self {
            Self::Null => Scalar::Null,
            Self::Bool(b) => Scalar::Bool(*b),
            Self::Int(n) | Self::Counter(n) => Scalar::Int(*n),
            Self::Float(f) => Scalar::Float(*f),
            Self::Text(t) => Scalar::Text(t.clone()),
            Self::Bytes(b) => Scalar::Bytes(b.clone()),
            Self::Map(_) | Self::List(_) => return None,
        })
    }
}

impl From<Scalar> for Value {
    fn from(scalar: Scalar) -> Self {
        match scalar {
            Scalar::Null => Self::Null,
            Scalar::Bool(b) => Self::Bool(b),
            Scalar::Int(n) => Self::Int(n),
            Scalar::Float(f) => Self::Float(f),
            Scalar::Text(t) => Self::Text(t),
            Scalar::Bytes(b) => Self::Bytes(b),
            Scalar::Packed(value) => *value,
        }
    }
}

macro_rules! value_from {
    ($($from:ty => $variant:ident $(via $into:ty)?),* $(,)?) => {$(
        impl From<$from> for Value {
            fn from(value: $from) -> Self {
                Self::$variant($(<$into>::from)?(value))
            }
        }
    )*};
}

value_from! {
    bool => Bool, i64 => Int, f64 => Float, String => Text, Vec<u8> => Bytes, Doc => Map, List => List,
    i32 => Int via i64, u32 => Int via i64, i16 => Int via i64, u16 => Int via i64, i8 => Int via i64,
    u8 => Int via i64, f32 => Float via f64, &str => Text via String, &String => Text via String,
    &[u8] => Bytes via Vec<u8>, Vec<Value> => List via List,
}

impl<T: Into<Self>> From<Option<T>> for Value {
    fn from(value: Option<T>) -> Self {
        value.map_or(Self::Null, Into::into)
    }
}

/// A typed getter found a value of another type.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the value is not a {wanted}")]
pub struct WrongType {
    /// What was asked for.
    pub wanted: &'static str,
}

macro_rules! from_value {
    ($($to:ty, $wanted:literal, $get:expr;)*) => {$(
        impl<'a> TryFrom<&'a Value> for $to {
            type Error = WrongType;

            fn try_from(value: &'a Value) -> Result<Self, WrongType> {
                let get: fn(&'a Value) -> Option<Self> = $get;
                get(value).ok_or(WrongType { wanted: $wanted })
            }
        }
    )*};
}

from_value! {
    bool, "truth value", Value::as_bool;
    i64, "whole number", Value::as_int;
    f64, "number", Value::as_float;
    &'a str, "text", Value::as_text;
    String, "text", |v| v.as_text().map(Self::from);
    &'a [u8], "byte string", Value::as_bytes;
    Vec<u8>, "byte string", |v| v.as_bytes().map(<[u8]>::to_vec);
    &'a Doc, "map", Value::as_doc;
    Doc, "map", |v| v.as_doc().cloned();
    &'a List, "list", Value::as_list;
    List, "list", |v| v.as_list().cloned();
}

/// A map from keys to values, in the order of the keys: a JSON object.
///
/// Nesting is counted as it grows. What is nested deeper than [`limits::DEPTH`] cannot be encoded or
/// written to a store (a typed error there), nor does anything this crate decodes give it.
///
/// ```
/// # use eidetica_crdt::Doc;
/// let mut doc = Doc::new();
/// doc.set_string("name", "tasks");
/// doc.set("owner.age", 41)?;
/// assert_eq!(doc.get_as::<i64>("owner.age"), Some(41));
/// # Ok::<(), eidetica_crdt::DocError>(())
/// ```
#[derive(Clone, PartialEq)]
pub struct Doc {
    map: BTreeMap<String, Value>,
    /// [`Value::depth`] of this map; grows only.
    depth: usize,
}

/// A list of values.
#[derive(Clone, PartialEq)]
pub struct List {
    items: Vec<Value>,
    /// [`Value::depth`] of this list; grows only.
    depth: usize,
}

/// Why a [`Doc`] cannot be changed like that.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum DocError {
    /// No dotted path.
    #[error(transparent)]
    Path(#[from] PathError),
    /// A step of the path is neither an index of the list that it meets nor one past its end.
    #[error("{step:?} is no index of a list of {len}")]
    NoIndex {
        /// The step.
        step: String,
        /// Items in the list.
        len: usize,
    },
    /// The root of a document cannot be set.
    #[error("the path is empty")]
    EmptyPath,
}

impl Default for Doc {
    fn default() -> Self {
        Self {
            map: BTreeMap::new(),
            depth: 1,
        }
    }
}

impl Default for List {
    fn default() -> Self {
        Self {
            items: Vec::new(),
            depth: 1,
        }
    }
}

impl Doc {
    /// An empty map.
    pub fn new() -> Self {
        Self::default()
    }

    /// Puts a value under one key, which is taken as it is, dots included. Returns what stood there.
    pub fn insert(&mut self, key: impl Into<String>, value: impl Into<Value>) -> Option<Value> {
        let value = value.into();
        self.depth = self.depth.max(value.depth().saturating_add(1));
        self.map.insert(key.into(), value)
    }

    /// [`Self::insert`] of a text.
    pub fn set_string(&mut self, key: impl Into<String>, text: impl Into<String>) -> &mut Self {
        self.insert(key, Value::Text(text.into()));
        self
    }

    /// [`Self::insert`] of a map.
    pub fn set_doc(&mut self, key: impl Into<String>, doc: Self) -> &mut Self {
        self.insert(key, Value::Map(doc));
        self
    }

    /// [`Self::insert`] of what a JSON value says.
    ///
    /// # Errors
    /// JSON that [`Value::from_json`] refuses.
    pub fn set_json(
        &mut self,
        key: impl Into<String>,
        json: serde_json::Value,
    ) -> Result<&mut Self, JsonError> {
        self.insert(key, Value::from_json(&json)?);
        Ok(self)
    }

    /// Puts a value at a dotted path: maps come into being on the way, also where scalars stand; in a
    /// list a step is an index, or one past the end to append.
    ///
    /// # Errors
    /// No dotted path, or a step below a list that is no index of it; nothing is changed then.
    pub fn set(&mut self, path: &str, value: impl Into<Value>) -> Result<&mut Self, DocError> {
        let steps = split_dotted(path)?;
        let (last, above) = steps.split_last().ok_or(DocError::EmptyPath)?;
        self.check_steps(&steps)?;
        let value = value.into();
        let mut below = steps.len().saturating_add(value.depth());
        self.depth = self.depth.max(below);
        let mut slot = self
            .map
            .entry(above.first().unwrap_or(last).clone())
            .or_default();
        for step in steps.iter().skip(1) {
            below -= 1;
            slot = step_into(slot, step, below);
        }
        *slot = value;
        Ok(self)
    }

    /// Whether every step below a list is an index of it.
    fn check_steps(&self, steps: &[String]) -> Result<(), DocError> {
        let mut at = steps.first().and_then(|key| self.map.get(key));
        for step in steps.iter().skip(1) {
            at = match at {
                Some(Value::List(list)) => {
                    let no_index = || DocError::NoIndex {
                        step: step.clone(),
                        len: list.len(),
                    };
                    let index = parse_index(step)
                        .filter(|i| *i <= list.len())
                        .ok_or_else(no_index)?;
                    list.items.get(index)
                }
                Some(Value::Map(doc)) => doc.map.get(step),
                _ => None,
            };
        }
        Ok(())
    }

    /// The value at a dotted path; numbers are indexes where a list is.
    pub fn get(&self, path: &str) -> Option<&Value> {
        let steps = split_dotted(path).ok()?;
        let (first, rest) = steps.split_first()?;
        rest.iter()
            .try_fold(self.map.get(first)?, |at, step| match at {
                Value::Map(doc) => doc.map.get(step),
                Value::List(list) => list.items.get(parse_index(step)?),
                _ => None,
            })
    }

    /// The value at a dotted path as a `T`; `None` where there is none or one of another type.
    pub fn get_as<'a, T: TryFrom<&'a Value>>(&'a self, path: &str) -> Option<T> {
        self.get(path).and_then(|value| T::try_from(value).ok())
    }

    /// The value under one key, which is taken as it is.
    pub fn get_key(&self, key: &str) -> Option<&Value> {
        self.map.get(key)
    }

    /// Takes out the value at a dotted path. Later items of a list move up.
    pub fn remove(&mut self, path: &str) -> Option<Value> {
        let steps = split_dotted(path).ok()?;
        let (last, above) = steps.split_last()?;
        let Some((first, above)) = above.split_first() else {
            return self.map.remove(last);
        };
        let parent = above
            .iter()
            .try_fold(self.map.get_mut(first)?, |at, step| match at {
                Value::Map(doc) => doc.map.get_mut(step),
                Value::List(list) => list.items.get_mut(parse_index(step)?),
                _ => None,
            })?;
        match parent {
            Value::Map(doc) => doc.map.remove(last),
            Value::List(list) => {
                let index = parse_index(last).filter(|i| *i < list.len())?;
                Some(list.items.remove(index))
            }
            _ => None,
        }
    }

    /// Keys and values in the order of the keys.
    pub fn iter(&self) -> impl DoubleEndedIterator<Item = (&str, &Value)> + ExactSizeIterator {
        self.map.iter().map(|(key, value)| (key.as_str(), value))
    }

    /// The keys in order.
    pub fn keys(&self) -> impl DoubleEndedIterator<Item = &str> + ExactSizeIterator {
        self.map.keys().map(String::as_str)
    }

    /// Number of keys.
    pub fn len(&self) -> usize {
        self.map.len()
    }

    /// Whether there are no keys.
    pub fn is_empty(&self) -> bool {
        self.map.is_empty()
    }
}

/// The place one step below `slot`, which becomes a container if it is none. `depth` is what the place
/// is going to need.
fn step_into<'a>(slot: &'a mut Value, step: &str, depth: usize) -> &'a mut Value {
    if !matches!(slot, Value::Map(_) | Value::List(_)) {
        *slot = Value::Map(Doc::new());
    }
    match slot {
        Value::List(list) => {
            list.depth = list.depth.max(depth);
            let index = parse_index(step)
                .unwrap_or(list.items.len())
                .min(list.items.len());
            if index == list.items.len() {
                list.items.push(Value::Null);
            }
            #[expect(
                clippy::indexing_slicing,
                reason = "one was pushed if the index was the length"
            )]
            &mut list.items[index]
        }
        Value::Map(doc) => {
            doc.depth = doc.depth.max(depth);
            doc.map.entry(step.to_owned()).or_default()
        }
        scalar => scalar,
    }
}

/// A list index: digits without a leading zero.
pub(crate) fn parse_index(text: &str) -> Option<usize> {
    let plain = text == "0" || (!text.starts_with('0') && text.bytes().all(|b| b.is_ascii_digit()));
    plain.then(|| text.parse().ok()).flatten()
}

impl List {
    /// An empty list.
    pub fn new() -> Self {
        Self::default()
    }

    /// Appends an item.
    pub fn push(&mut self, value: impl Into<Value>) {
        let value = value.into();
        self.depth = self.depth.max(value.depth().saturating_add(1));
        self.items.push(value);
    }
}

impl std::ops::Deref for List {
    type Target = [Value];

    fn deref(&self) -> &[Value] {
        &self.items
    }
}

impl From<Vec<Value>> for List {
    fn from(items: Vec<Value>) -> Self {
        let below = items.iter().map(Value::depth).max().unwrap_or(0);
        Self {
            items,
            depth: below.saturating_add(1),
        }
    }
}

impl<V: Into<Value>> FromIterator<V> for List {
    fn from_iter<I: IntoIterator<Item = V>>(items: I) -> Self {
        Self::from(items.into_iter().map(Into::into).collect::<Vec<_>>())
    }
}

impl<K: Into<String>, V: Into<Value>> FromIterator<(K, V)> for Doc {
    fn from_iter<I: IntoIterator<Item = (K, V)>>(entries: I) -> Self {
        let mut doc = Self::new();
        for (key, value) in entries {
            doc.insert(key, value);
        }
        doc
    }
}

impl IntoIterator for Doc {
    type Item = (String, Value);
    type IntoIter = btree_map::IntoIter<String, Value>;

    fn into_iter(mut self) -> Self::IntoIter {
        std::mem::take(&mut self.map).into_iter()
    }
}

impl IntoIterator for List {
    type Item = Value;
    type IntoIter = std::vec::IntoIter<Value>;

    fn into_iter(mut self) -> Self::IntoIter {
        std::mem::take(&mut self.items).into_iter()
    }
}

impl std::fmt::Debug for Doc {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_map().entries(&self.map).finish()
    }
}

impl std::fmt::Debug for List {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_list().entries(&self.items).finish()
    }
}

impl Drop for Doc {
    fn drop(&mut self) {
        if self.depth > limits::DEPTH {
            drop_flat(std::mem::take(&mut self.map).into_values().collect());
        }
    }
}

impl Drop for List {
    fn drop(&mut self) {
        if self.depth > limits::DEPTH {
            drop_flat(std::mem::take(&mut self.items));
        }
    }
}

/// Drops values without recursion, however deep a program has nested them.
fn drop_flat(mut rest: Vec<Value>) {
    while let Some(mut value) = rest.pop() {
        match &mut value {
            Value::Map(doc) => rest.extend(std::mem::take(&mut doc.map).into_values()),
            Value::List(list) => rest.append(&mut list.items),
            _ => {}
        }
    }
}
