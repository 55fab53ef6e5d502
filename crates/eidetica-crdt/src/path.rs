//! Paths: where in a store a write stands.
//!
//! A path is kept as its encoding, which is what row keys and payloads contain. The encoding orders as
//! the path does (a path before its children, keys before elements) and is prefix-free per segment: a
//! path is a byte prefix of another exactly if it is an ancestor. Bytes are in `docs/formats/state.md`.

use std::borrow::Cow;
use std::fmt;
use std::str::FromStr;

use eidetica_entry::{Height, Id, Stamp};

use crate::limits;

/// Ends a key.
const KEY_END: u8 = 0x00;
/// Begins an escaped byte inside a key.
const ESCAPE: u8 = 0x01;
/// Tag of a key segment.
pub(crate) const KEY: u8 = 0x01;
/// Tag of an element segment.
pub(crate) const ELEM: u8 = 0x02;
/// Greater than every tag: the end of the range of a path's descendants.
pub(crate) const AFTER: u8 = 0x03;
/// Bytes of an encoded stamp.
pub(crate) const STAMP_BYTES: usize = 40;
/// Bytes of an encoded element id.
pub(crate) const ELEM_BYTES: usize = STAMP_BYTES + 4;

/// The stamp of writes that are not committed yet: greater than every real one.
///
/// No entry has it, since heights end at [`eidetica_entry::limits::HEIGHT`].
pub const OWN: Stamp = Stamp::new(Height(u64::MAX), Id::new([0xff; 32]));

/// Identifies a list element: the entry that inserted it and its number among that entry's elements.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ElemId {
    /// Stamp of the entry that inserted the element; [`OWN`] until it is committed.
    pub stamp: Stamp,
    /// Number among the elements that the entry inserts, from 0.
    pub ordinal: u32,
}

/// One step of a [`Path`].
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Segment<'a> {
    /// A key of a map.
    Key(Cow<'a, str>),
    /// An element of a list.
    Elem(ElemId),
}

/// A sequence of at most [`limits::DEPTH`] segments; the empty one is the store's root.
///
/// Its `Ord` is the order of the rows. Text form (see [`FromStr`]) is for keys only.
#[derive(Clone, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Path(Vec<u8>);

/// Why bytes or text are no path. The blame is with whoever supplied them.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum PathError {
    /// More than [`limits::DEPTH`] segments.
    #[error("a path has more than {} segments", limits::DEPTH)]
    TooDeep,
    /// A key of more than [`limits::KEY_BYTES`].
    #[error("a key has {len} bytes, at most {} are allowed", limits::KEY_BYTES)]
    KeyTooLong {
        /// Bytes of the key.
        len: usize,
    },
    /// More than [`limits::PATH_BYTES`] encoded.
    #[error("a path has {len} bytes, at most {} are allowed", limits::PATH_BYTES)]
    TooLong {
        /// Bytes of the encoded path.
        len: usize,
    },
    /// Two dots in a row, a dot at the end, or a backslash that begins nothing.
    #[error("{text:?} is not a dotted path")]
    Text {
        /// The text.
        text: String,
    },
    /// Bytes that no path encodes to.
    #[error("malformed path bytes")]
    Malformed,
}

impl Path {
    /// The root of a store.
    pub const fn root() -> Self {
        Self(Vec::new())
    }

    /// A path of keys.
    ///
    /// # Errors
    /// Beyond a limit.
    pub fn of_keys<K: AsRef<str>>(keys: impl IntoIterator<Item = K>) -> Result<Self, PathError> {
        let mut path = Self::root();
        for key in keys {
            path.push_key(key.as_ref())?;
        }
        Ok(path)
    }

    /// This path and one more key.
    ///
    /// # Errors
    /// Beyond a limit.
    pub fn key(&self, key: &str) -> Result<Self, PathError> {
        let mut path = Self(Vec::with_capacity(self.0.len() + key.len() + 2));
        path.0.extend(&self.0);
        path.push_key(key)?;
        Ok(path)
    }

    /// This path and one more element.
    ///
    /// # Errors
    /// Beyond a limit.
    pub fn elem(&self, elem: ElemId) -> Result<Self, PathError> {
        let mut path = self.clone();
        path.push_elem(elem)?;
        Ok(path)
    }

    /// Appends a key.
    ///
    /// # Errors
    /// Beyond a limit; the path is unchanged then.
    pub fn push_key(&mut self, key: &str) -> Result<(), PathError> {
        if key.len() > limits::KEY_BYTES {
            return Err(PathError::KeyTooLong { len: key.len() });
        }
        let before = self.0.len();
        self.0.push(KEY);
        write_escaped(key.as_bytes(), &mut self.0);
        self.check_from(before)
    }

    /// Appends an element.
    ///
    /// # Errors
    /// Beyond a limit; the path is unchanged then.
    pub fn push_elem(&mut self, elem: ElemId) -> Result<(), PathError> {
        let before = self.0.len();
        self.0.push(ELEM);
        write_elem(&elem, &mut self.0);
        self.check_from(before)
    }

    /// Undoes the push that began at `before` if it went beyond a limit.
    fn check_from(&mut self, before: usize) -> Result<(), PathError> {
        let len = self.0.len();
        let result = if len > limits::PATH_BYTES {
            Err(PathError::TooLong { len })
        } else if len > limits::DEPTH && self.depth() > limits::DEPTH {
            Err(PathError::TooDeep)
        } else {
            Ok(())
        };
        if result.is_err() {
            self.0.truncate(before);
        }
        result
    }

    /// Checks and takes encoded bytes.
    ///
    /// # Errors
    /// Anything that encoding a path does not give.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, PathError> {
        if bytes.len() > limits::PATH_BYTES {
            return Err(PathError::TooLong { len: bytes.len() });
        }
        let (mut at, mut depth) = (0, 0);
        while at < bytes.len() {
            let (segment, end) = read_segment(bytes, at).ok_or(PathError::Malformed)?;
            if let Segment::Key(key) = segment
                && key.len() > limits::KEY_BYTES
            {
                return Err(PathError::KeyTooLong { len: key.len() });
            }
            (at, depth) = (end, depth + 1);
        }
        if depth > limits::DEPTH {
            return Err(PathError::TooDeep);
        }
        Ok(Self(bytes.to_vec()))
    }

    /// Takes bytes that were cut from a valid path or a row key at a segment boundary.
    pub(crate) fn from_trusted(bytes: &[u8]) -> Self {
        Self(bytes.to_vec())
    }

    /// The encoding.
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }

    /// Whether this is the root.
    pub fn is_root(&self) -> bool {
        self.0.is_empty()
    }

    /// Number of segments. O(length).
    pub fn depth(&self) -> usize {
        ends(&self.0).count()
    }

    /// The segments from the root down.
    pub fn segments(&self) -> impl Iterator<Item = Segment<'_>> {
        let mut at = 0;
        std::iter::from_fn(move || {
            let (segment, end) = read_segment(&self.0, at)?;
            at = end;
            Some(segment)
        })
    }

    /// The last segment; `None` for the root.
    pub fn last(&self) -> Option<Segment<'_>> {
        let at = last_start(&self.0)?;
        read_segment(&self.0, at).map(|(segment, _)| segment)
    }

    /// The last segment if it is an element.
    pub fn last_elem(&self) -> Option<ElemId> {
        let segment = self.0.get(last_start(&self.0)?..)?;
        read_elem(segment.strip_prefix(&[ELEM])?)
    }

    /// The path without its last segment; `None` for the root.
    pub fn parent(&self) -> Option<Self> {
        let at = last_start(&self.0)?;
        Some(Self(self.0.get(..at)?.to_vec()))
    }

    /// Whether `self` is `ancestor` or below it.
    pub fn starts_with(&self, ancestor: &Self) -> bool {
        self.0.starts_with(&ancestor.0)
    }

    /// The path with every [`OWN`] element given the stamp `stamp`; borrowed where there
    /// is plainly no element.
    pub(crate) fn bind(&self, stamp: Stamp) -> Cow<'_, Self> {
        if !self.0.contains(&ELEM) {
            return Cow::Borrowed(self);
        }
        Cow::Owned(self.map_elems(|elem| match elem.stamp {
            OWN => ElemId { stamp, ..elem },
            _ => elem,
        }))
    }

    /// The path with every element replaced; lengths do not change, so no limit is touched.
    pub(crate) fn map_elems(&self, mut map: impl FnMut(ElemId) -> ElemId) -> Self {
        let mut bytes = Vec::with_capacity(self.0.len());
        for segment in self.segments() {
            match segment {
                Segment::Key(key) => {
                    bytes.push(KEY);
                    write_escaped(key.as_bytes(), &mut bytes);
                }
                Segment::Elem(elem) => {
                    bytes.push(ELEM);
                    write_elem(&map(elem), &mut bytes);
                }
            }
        }
        Self(bytes)
    }
}

impl fmt::Display for Path {
    /// The dotted text, with control and direction characters escaped; elements, which have none, as `#height:id:ordinal` for people to read.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (i, segment) in self.segments().enumerate() {
            if i > 0 {
                f.write_str(".")?;
            }
            match segment {
                Segment::Key(key) if key.is_empty() => f.write_str("\\e")?,
                Segment::Key(key) => key.chars().try_for_each(|c| write_char(c, f))?,
                Segment::Elem(ElemId { stamp, ordinal }) if stamp == OWN => {
                    write!(f, "#new:{ordinal}")?
                }
                Segment::Elem(ElemId { stamp, ordinal }) => write!(f, "#{stamp}:{ordinal}")?,
            }
        }
        Ok(())
    }
}

/// Writes one character of a key so that it is seen as what it is.
fn write_char(c: char, f: &mut fmt::Formatter<'_>) -> fmt::Result {
    match c {
        '.' | '\\' => write!(f, "\\{c}"),
        '\u{61c}'
        | '\u{200e}'
        | '\u{200f}'
        | '\u{2028}'..='\u{202e}'
        | '\u{2066}'..='\u{2069}'
        | '\u{feff}' => {
            write!(f, "{}", c.escape_unicode())
        }
        c if c.is_control() => write!(f, "{}", c.escape_unicode()),
        c => write!(f, "{c}"),
    }
}

impl fmt::Debug for Path {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Path({self})")
    }
}

impl FromStr for Path {
    type Err = PathError;

    /// Dotted text as keys: `a.b`; in a key `\.` and `\\` for a dot and a backslash, `\u{hex}` for any
    /// character; `\e` for the empty key, the empty text for the root. Nothing is an element here.
    fn from_str(text: &str) -> Result<Self, PathError> {
        Self::of_keys(split_dotted(text)?)
    }
}

/// The steps of a dotted text.
pub(crate) fn split_dotted(text: &str) -> Result<Vec<String>, PathError> {
    let malformed = || PathError::Text {
        text: text.chars().take(64).collect(),
    };
    let mut steps = Vec::new();
    if text.is_empty() {
        return Ok(steps);
    }
    let (mut step, mut explicit) = (String::new(), false);
    let mut chars = text.chars();
    loop {
        match chars.next() {
            Some('\\') => match chars.next() {
                Some(c @ ('.' | '\\')) => step.push(c),
                Some('e') => explicit = true,
                Some('u') => step.push(read_unicode(&mut chars).ok_or_else(malformed)?),
                _ => return Err(malformed()),
            },
            end @ (Some('.') | None) => {
                // `\e` stands alone, and only it makes an empty step.
                if step.is_empty() != explicit {
                    return Err(malformed());
                }
                if steps.len() == limits::DEPTH {
                    return Err(PathError::TooDeep);
                }
                steps.push(std::mem::take(&mut step));
                explicit = false;
                if end.is_none() {
                    return Ok(steps);
                }
            }
            Some(c) => step.push(c),
        }
    }
}

/// The character that `{hex}` names, after `\u`.
fn read_unicode(chars: &mut std::str::Chars<'_>) -> Option<char> {
    let (hex, rest) = chars.as_str().strip_prefix('{')?.split_once('}')?;
    let plain = (1..=6).contains(&hex.len()) && hex.bytes().all(|b| b.is_ascii_hexdigit());
    *chars = rest.chars();
    char::from_u32(u32::from_str_radix(hex, 16).ok().filter(|_| plain)?)
}

/// Appends bytes so that they keep their order and none is a prefix of another: 0 and 1 escaped, then
/// the end mark.
pub(crate) fn write_escaped(bytes: &[u8], out: &mut Vec<u8>) {
    for &byte in bytes {
        match byte {
            0x00 => out.extend([ESCAPE, 0x01]),
            0x01 => out.extend([ESCAPE, 0x02]),
            _ => out.push(byte),
        }
    }
    out.push(KEY_END);
}

/// Appends a stamp, big-endian.
pub(crate) fn write_stamp(stamp: &Stamp, out: &mut Vec<u8>) {
    out.extend(stamp.height.0.to_be_bytes());
    out.extend(stamp.id.as_bytes());
}

/// Reads what [`write_stamp`] wrote; `None` unless it is exactly [`STAMP_BYTES`].
pub(crate) fn read_stamp(bytes: &[u8]) -> Option<Stamp> {
    let (height, id) = bytes.split_first_chunk::<8>()?;
    let id: [u8; 32] = id.try_into().ok()?;
    Some(Stamp::new(Height(u64::from_be_bytes(*height)), Id::new(id)))
}

/// Appends an element id without its tag.
pub(crate) fn write_elem(elem: &ElemId, out: &mut Vec<u8>) {
    write_stamp(&elem.stamp, out);
    out.extend(elem.ordinal.to_be_bytes());
}

/// Reads what [`write_elem`] wrote; `None` unless it is exactly [`ELEM_BYTES`].
pub(crate) fn read_elem(bytes: &[u8]) -> Option<ElemId> {
    let (stamp, ordinal) = bytes.split_at_checked(STAMP_BYTES)?;
    let ordinal = u32::from_be_bytes(ordinal.try_into().ok()?);
    Some(ElemId {
        stamp: read_stamp(stamp)?,
        ordinal,
    })
}

/// The segment that begins at `at` and where it ends; `None` at the end or where none begins.
pub(crate) fn read_segment(bytes: &[u8], at: usize) -> Option<(Segment<'_>, usize)> {
    let end = segment_end(bytes, at)?;
    match *bytes.get(at)? {
        KEY => Some((Segment::Key(unescape(bytes.get(at + 1..end - 1)?)?), end)),
        _ => Some((Segment::Elem(read_elem(bytes.get(at + 1..end)?)?), end)),
    }
}

/// Where the segment that begins at `at` ends, looking at its frame only.
pub(crate) fn segment_end(bytes: &[u8], at: usize) -> Option<usize> {
    match *bytes.get(at)? {
        KEY => {
            let len = bytes.get(at + 1..)?.iter().position(|&b| b == KEY_END)?;
            Some(at + 1 + len + 1)
        }
        ELEM => {
            let end = at + 1 + ELEM_BYTES;
            (end <= bytes.len()).then_some(end)
        }
        _ => None,
    }
}

/// Where each segment of an encoded path ends.
pub(crate) fn ends(bytes: &[u8]) -> impl Iterator<Item = usize> {
    let mut at = 0;
    std::iter::from_fn(move || {
        at = segment_end(bytes, at)?;
        Some(at)
    })
}

/// Where the last segment begins; `None` for the root.
pub(crate) fn last_start(bytes: &[u8]) -> Option<usize> {
    let mut start = None;
    let mut at = 0;
    for end in ends(bytes) {
        start = Some(at);
        at = end;
    }
    start
}

/// The key between tag and end mark; `None` if it is not what [`write_escaped`] writes.
fn unescape(bytes: &[u8]) -> Option<Cow<'_, str>> {
    if !bytes.contains(&ESCAPE) {
        return std::str::from_utf8(bytes).ok().map(Cow::Borrowed);
    }
    let mut plain = Vec::with_capacity(bytes.len());
    let mut bytes = bytes.iter();
    while let Some(&byte) = bytes.next() {
        plain.push(match byte {
            ESCAPE => match bytes.next()? {
                0x01 => 0x00,
                0x02 => 0x01,
                _ => return None,
            },
            _ => byte,
        });
    }
    String::from_utf8(plain).ok().map(Cow::Owned)
}
