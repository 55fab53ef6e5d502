//! Payloads: what one entry writes to one store.
//!
//! A payload is a flat list of operations in the order of their paths. [`Payload::new`] and
//! [`Payload::decode`] check the same rules, so whatever exists as a `Payload` is well-formed and has
//! exactly one encoding. Bytes are in `docs/formats/state.md`.

use crate::codec::{Reader, read_op, write_op, write_value};
use crate::path::{ELEM, ELEM_BYTES, KEY, OWN, ends, read_segment, segment_end, write_elem};
use crate::{Container, ElemId, Op, Path, PathError, Scalar, Segment, Slot, Value, limits};

/// Version of the payload format.
const VERSION: u8 = 1;
/// Tag of an element that the payload itself inserts: its ordinal follows.
const OWN_ELEM: u8 = 0x03;
/// Bytes that the shortest write takes: path length, operation.
const WRITE_MIN_BYTES: usize = 3;
/// Bytes before the first write, at most.
const HEAD_MAX_BYTES: usize = 3 + 16 + 4;

/// What a store holds; stands in its payloads and in its row keys.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[non_exhaustive]
#[repr(u8)]
pub enum StoreKind {
    /// One document: a map of anything.
    Doc = 1,
    /// Rows by key, each with fields that merge on their own.
    Table = 2,
}

impl StoreKind {
    /// The kind with this number; `None` for one that this version does not know.
    pub fn from_byte(byte: u8) -> Option<Self> {
        [Self::Doc, Self::Table]
            .into_iter()
            .find(|kind| *kind as u8 == byte)
    }
}

/// An operation and where it applies.
#[derive(Clone, Debug, PartialEq)]
pub struct Write {
    /// Where. Elements that the payload inserts have the stamp [`OWN`].
    pub path: Path,
    /// What.
    pub op: Op,
}

/// What one entry writes to one store. Well-formed by construction.
#[derive(Clone, Debug, PartialEq)]
pub struct Payload {
    kind: StoreKind,
    salt: Option<[u8; 16]>,
    writes: Vec<Write>,
}

/// Why a payload is not well-formed. Decoding blames whoever wrote the bytes.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum PayloadError {
    /// More than [`limits::PAYLOAD_BYTES`].
    #[error(
        "a payload has {len} bytes, at most {} are allowed",
        limits::PAYLOAD_BYTES
    )]
    TooLarge {
        /// Bytes of the payload.
        len: usize,
    },
    /// A format version that this program does not know.
    #[error("payload format version {0} is unknown")]
    UnknownVersion(u8),
    /// A store kind that this program does not know: to be stored and relayed, not to be read.
    #[error("store kind {0} is unknown")]
    UnknownKind(u8),
    /// Bytes that no payload encodes to.
    #[error("malformed payload bytes, {at} from the end")]
    Malformed {
        /// Bytes that were left.
        at: usize,
    },
    /// A path is none.
    #[error(transparent)]
    Path(#[from] PathError),
    /// A write breaks a rule of the format.
    #[error("write {index}: {rule}")]
    Rule {
        /// Number of the write, from 0.
        index: usize,
        /// The rule it breaks.
        rule: Rule,
    },
}

/// The rules that make a list of writes a payload.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Rule {
    /// Ascending by path, then slot.
    #[error("the writes are not in order")]
    Order,
    /// At most one of `Set`, `Clear`, `Delete`, `Ins`, `Make` per path, and no `Inc` beside one.
    #[error("two values for one path")]
    TwoValues,
    /// Nothing below an own scalar, `Delete` or `Kill`.
    #[error("a write below a scalar, deletion or kill of the same payload")]
    BelowLeaf,
    /// `Kill` stands alone; no `Move` beside an `Ins`.
    #[error("a move or value beside a kill or insertion")]
    Beside,
    /// Elements are killed; keys are deleted.
    #[error("an element is deleted or a key killed or moved")]
    Sort,
    /// `Ins` only at own elements, `Kill` and `Move` only at others, own elements only where inserted.
    #[error("an own element is used other than by its insertion and below it")]
    OwnElement,
    /// The n-th `Ins` has ordinal n.
    #[error("own elements are not numbered in order")]
    Ordinal,
    /// A document's root is a map and begins with a key.
    #[error("the root of a document is something else than a map")]
    Root,
    /// A table has rows (`Clear(map)`, `Delete`) and fields (`Set`, `Delete`, `Inc`), nothing else.
    #[error("a table write is neither of a row nor of a field")]
    TableShape,
    /// Packed values are maps and lists in fields of tables, within the limits, without counters.
    #[error("a packed value outside a table, or that is no map or list within the limits")]
    Packed,
}

impl Payload {
    /// Checks and takes writes in the order of their paths and slots.
    ///
    /// `salt` keeps a payload whose content could be guessed from being recognised by its hash.
    ///
    /// # Errors
    /// The first rule that is broken; too large once encoded.
    pub fn new(
        kind: StoreKind,
        salt: Option<[u8; 16]>,
        writes: Vec<Write>,
    ) -> Result<Self, PayloadError> {
        check_rules(kind, &writes)?;
        let payload = Self { kind, salt, writes };
        // Exact only where it matters.
        if payload.writes.iter().map(most_bytes).sum::<usize>()
            > limits::PAYLOAD_BYTES - HEAD_MAX_BYTES
        {
            let len = payload.encode().len();
            if len > limits::PAYLOAD_BYTES {
                return Err(PayloadError::TooLarge { len });
            }
        }
        Ok(payload)
    }

    /// What kind of store it is for.
    pub fn kind(&self) -> StoreKind {
        self.kind
    }

    /// The salt, if there is one.
    pub fn salt(&self) -> Option<&[u8; 16]> {
        self.salt.as_ref()
    }

    /// The writes, ascending by path and slot.
    pub fn writes(&self) -> &[Write] {
        &self.writes
    }

    /// The canonical bytes.
    pub fn encode(&self) -> Vec<u8> {
        let most = HEAD_MAX_BYTES + self.writes.iter().map(most_bytes).sum::<usize>();
        let mut out = Vec::with_capacity(most);
        out.extend([VERSION, self.kind as u8, u8::from(self.salt.is_some())]);
        out.extend(self.salt.iter().flatten());
        // Writes of a well-formed payload number fewer than its bytes.
        out.extend(
            u32::try_from(self.writes.len())
                .unwrap_or(u32::MAX)
                .to_le_bytes(),
        );
        for write in &self.writes {
            write_path(&write.path, &mut out);
            write_op(&write.op, &mut out);
        }
        out
    }

    /// The store kind that canonical bytes name, without decoding the rest.
    pub fn kind_byte(bytes: &[u8]) -> Option<u8> {
        bytes.get(1).copied()
    }

    /// Decodes canonical bytes: whatever this accepts encodes to the same bytes again.
    ///
    /// Linear in the bytes, in bounded stack; allocates no more than a small multiple of them.
    ///
    /// # Errors
    /// See [`PayloadError`].
    pub fn decode(bytes: &[u8]) -> Result<Self, PayloadError> {
        if bytes.len() > limits::PAYLOAD_BYTES {
            return Err(PayloadError::TooLarge { len: bytes.len() });
        }
        let mut reader = Reader(bytes);
        let (kind, salt, count) = read_head(&mut reader)?;
        let mut writes = Vec::with_capacity(count);
        for _ in 0..count {
            let path = read_path(&mut reader)?;
            let op = read_op(&mut reader).ok_or(PayloadError::Malformed { at: reader.0.len() })?;
            writes.push(Write { path, op });
        }
        if !reader.is_empty() {
            return Err(PayloadError::Malformed { at: reader.0.len() });
        }
        check_rules(kind, &writes)?;
        Ok(Self { kind, salt, writes })
    }
}

/// Kind, salt and number of writes; the latter no greater than the bytes that follow allow.
fn read_head(
    reader: &mut Reader<'_>,
) -> Result<(StoreKind, Option<[u8; 16]>, usize), PayloadError> {
    let malformed = |reader: &Reader<'_>| PayloadError::Malformed { at: reader.0.len() };
    let version = reader.u8().ok_or(malformed(reader))?;
    if version != VERSION {
        return Err(PayloadError::UnknownVersion(version));
    }
    let kind = reader.u8().ok_or(malformed(reader))?;
    let kind = StoreKind::from_byte(kind).ok_or(PayloadError::UnknownKind(kind))?;
    let salt = match reader.u8() {
        Some(0) => None,
        Some(1) => Some(reader.array().ok_or(malformed(reader))?),
        _ => return Err(malformed(reader)),
    };
    let count = reader
        .u32()
        .and_then(|n| usize::try_from(n).ok())
        .ok_or(malformed(reader))?;
    if count > reader.0.len() / WRITE_MIN_BYTES {
        return Err(malformed(reader));
    }
    Ok((kind, salt, count))
}

/// Appends a length and the path, own elements by their ordinal alone.
fn write_path(path: &Path, out: &mut Vec<u8>) {
    let start = out.len();
    out.extend([0, 0]);
    let bytes = path.as_bytes();
    let mut at = 0;
    if !bytes.contains(&ELEM) {
        // Plainly no element.
        out.extend(bytes);
        at = bytes.len();
    }
    while let Some(end) = segment_end(bytes, at) {
        match read_segment(bytes, at) {
            Some((
                Segment::Elem(ElemId {
                    stamp: OWN,
                    ordinal,
                }),
                _,
            )) => {
                out.push(OWN_ELEM);
                out.extend(ordinal.to_be_bytes());
            }
            _ => out.extend(bytes.get(at..end).unwrap_or_default()),
        }
        at = end;
    }
    let len = u16::try_from(out.len() - start - 2)
        .unwrap_or(u16::MAX)
        .to_le_bytes();
    if let Some(slot) = out.get_mut(start..start + 2) {
        slot.copy_from_slice(&len);
    }
}

/// Reads what [`write_path`] wrote.
fn read_path(reader: &mut Reader<'_>) -> Result<Path, PayloadError> {
    let malformed = |reader: &Reader<'_>| PayloadError::Malformed { at: reader.0.len() };
    let len = reader.u16().ok_or(malformed(reader))?;
    let bytes = reader.take(usize::from(len)).ok_or(malformed(reader))?;
    if !bytes.iter().any(|byte| matches!(*byte, ELEM | OWN_ELEM)) {
        // Plainly keys alone, or nothing.
        return Ok(Path::from_bytes(bytes)?);
    }
    let mut plain = Vec::with_capacity(bytes.len());
    let mut at = 0;
    while let Some(&tag) = bytes.get(at) {
        let end = match tag {
            KEY | ELEM => segment_end(bytes, at),
            OWN_ELEM => Some(at + 5),
            _ => None,
        };
        let (end, segment) = end
            .and_then(|end| Some((end, bytes.get(at..end)?)))
            .ok_or(malformed(reader))?;
        if let (OWN_ELEM, Some(ordinal)) = (tag, segment.last_chunk::<4>()) {
            plain.push(ELEM);
            write_elem(
                &ElemId {
                    stamp: OWN,
                    ordinal: u32::from_be_bytes(*ordinal),
                },
                &mut plain,
            );
        } else if tag == ELEM && segment.len() == 1 + ELEM_BYTES && is_own(segment) {
            return Err(malformed(reader));
        } else {
            plain.extend(segment);
        }
        at = end;
    }
    Ok(Path::from_bytes(&plain)?)
}

/// Whether an encoded element has the stamp that only stands for own ones.
fn is_own(segment: &[u8]) -> bool {
    matches!(read_segment(segment, 0), Some((Segment::Elem(elem), _)) if elem.stamp == OWN)
}

/// No fewer bytes than a write encodes to.
fn most_bytes(Write { path, op }: &Write) -> usize {
    let scalar = match op.scalar() {
        Some(Scalar::Text(text)) => text.len(),
        Some(Scalar::Bytes(bytes)) => bytes.len(),
        Some(Scalar::Packed(value)) => {
            let mut bytes = Vec::new();
            write_value(value, &mut bytes);
            bytes.len()
        }
        _ => 0,
    };
    let position = match op {
        Op::Ins { position, .. } | Op::Move(position) => 1 + position.as_bytes().len(),
        _ => 0,
    };
    // Length of the path; tags of operation and scalar; a number or length.
    2 + path.as_bytes().len() + 2 + 8 + scalar + position
}

fn check_rules(kind: StoreKind, writes: &[Write]) -> Result<(), PayloadError> {
    let mut rules = Rules {
        kind,
        last: None,
        leaf: None,
        inside: Vec::new(),
        inserted: 0,
    };
    let mut all = writes.iter().enumerate();
    all.try_for_each(|(index, write)| {
        rules
            .check(write)
            .map_err(|rule| PayloadError::Rule { index, rule })
    })
}

/// Checks writes one after the other.
struct Rules<'a> {
    kind: StoreKind,
    last: Option<(&'a Path, Slot)>,
    /// The last path below which nothing may stand. Descendants follow a path at once.
    leaf: Option<&'a Path>,
    /// Own elements around the present path, outermost first.
    inside: Vec<&'a Path>,
    inserted: u32,
}

impl<'a> Rules<'a> {
    fn check(&mut self, write: &'a Write) -> Result<(), Rule> {
        self.check_neighbours(write)?;
        match self.kind {
            StoreKind::Doc => {
                check_doc(write)?;
                self.check_elements(write)?;
            }
            // A table has no elements.
            StoreKind::Table => check_table(write)?,
        }
        if write.op.scalar().is_some() || matches!(write.op, Op::Delete | Op::Kill) {
            self.leaf = Some(&write.path);
        }
        self.last = Some((&write.path, write.op.slot()));
        Ok(())
    }

    /// Order, and what may stand at one path or below it.
    fn check_neighbours(&self, Write { path, op }: &Write) -> Result<(), Rule> {
        let slot = op.slot();
        if let Some((last_path, last_slot)) = self.last {
            if (last_path, last_slot) >= (path, slot) {
                return Err(Rule::Order);
            }
            if last_path == path {
                match (last_slot, slot) {
                    (Slot::Cover | Slot::Make, Slot::Make | Slot::Inc) => {
                        return Err(Rule::TwoValues);
                    }
                    (_, Slot::Kill) => return Err(Rule::Beside),
                    _ => {}
                }
            }
        }
        match self.leaf {
            Some(leaf) if path != leaf && path.starts_with(leaf) => Err(Rule::BelowLeaf),
            _ => Ok(()),
        }
    }

    /// Own elements: inserted once, numbered in order, used below their insertion only.
    fn check_elements(&mut self, Write { path, op }: &'a Write) -> Result<(), Rule> {
        if !path.as_bytes().contains(&ELEM) {
            // Plainly no element on the way.
            self.inside.clear();
            return match op {
                Op::Ins { .. } => Err(Rule::OwnElement),
                Op::Kill | Op::Move(_) => Err(Rule::Sort),
                _ => Ok(()),
            };
        }
        self.inside.retain(|own| path.starts_with(own));
        let last = path.last_elem();
        let at_own = last.is_some_and(|elem| elem.stamp == OWN);
        if let Op::Ins { .. } = op {
            let ordinal = last.filter(|_| at_own).ok_or(Rule::OwnElement)?.ordinal;
            if ordinal != self.inserted {
                return Err(Rule::Ordinal);
            }
            self.inserted += 1;
            self.inside.push(path);
        } else if at_own && op.slot() != Slot::Inc {
            return Err(Rule::OwnElement);
        }
        let own = path
            .segments()
            .filter(|s| matches!(s, Segment::Elem(e) if e.stamp == OWN))
            .count();
        if own != self.inside.len() {
            return Err(Rule::OwnElement);
        }
        match (op, last) {
            (Op::Delete, Some(_)) | (Op::Kill | Op::Move(_), None) => Err(Rule::Sort),
            (Op::Inc(_), Some(_)) if at_own => Err(Rule::TwoValues),
            _ => Ok(()),
        }
    }
}

fn check_doc(Write { path, op }: &Write) -> Result<(), Rule> {
    match path.segments().next() {
        None if !matches!(op, Op::Clear(Container::Map) | Op::Make(Container::Map)) => {
            Err(Rule::Root)
        }
        Some(Segment::Elem(_)) => Err(Rule::Root),
        _ if matches!(op.scalar(), Some(Scalar::Packed(_))) => Err(Rule::Packed),
        _ => Ok(()),
    }
}

fn check_table(Write { path, op }: &Write) -> Result<(), Rule> {
    let bytes = path.as_bytes();
    let (mut depth, mut start, mut keys_only) = (0, 0, true);
    for end in ends(bytes) {
        keys_only &= bytes.get(start) == Some(&KEY);
        (depth, start) = (depth + 1, end);
    }
    let fits = matches!(
        (depth, op),
        (1, Op::Clear(Container::Map) | Op::Delete) | (2, Op::Set(_) | Op::Delete | Op::Inc(_))
    );
    match op {
        _ if !(keys_only && fits) => Err(Rule::TableShape),
        Op::Set(Scalar::Packed(value)) if !is_packable(value) => Err(Rule::Packed),
        _ => Ok(()),
    }
}

/// Whether a value is a container that decodes again once encoded.
fn is_packable(value: &Value) -> bool {
    if !(1..=limits::DEPTH).contains(&value.depth()) {
        return false;
    }
    let mut rest = vec![value];
    while let Some(value) = rest.pop() {
        match value {
            Value::Map(doc) => {
                if doc.keys().any(|key| key.len() > limits::KEY_BYTES) {
                    return false;
                }
                rest.extend(doc.iter().map(|(_, value)| value));
            }
            Value::List(list) => rest.extend(list.iter()),
            Value::Counter(_) => return false,
            _ => {}
        }
    }
    true
}
