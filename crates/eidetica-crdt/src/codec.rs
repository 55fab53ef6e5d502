//! Canonical bytes of scalars, values and operations, in payloads, rows and the state hash.
//!
//! Every decoder is a loop over its input with a depth limit: no recursion, no allocation that the
//! bytes at hand do not pay for, one encoding per value. Bytes are in `docs/formats/state.md`.

use crate::{Container, Doc, Init, List, Op, Position, Scalar, Value, limits};

pub(crate) const NULL: u8 = 0x01;
pub(crate) const FALSE: u8 = 0x02;
pub(crate) const TRUE: u8 = 0x03;
pub(crate) const INT: u8 = 0x04;
pub(crate) const FLOAT: u8 = 0x05;
pub(crate) const TEXT: u8 = 0x06;
pub(crate) const BYTES: u8 = 0x07;
pub(crate) const MAP: u8 = 0x08;
pub(crate) const LIST: u8 = 0x09;
/// Ends the innermost map or list.
pub(crate) const END: u8 = 0x0a;
/// Begins an entry of a map: a key, then a value.
pub(crate) const ENTRY: u8 = 0x0b;

const SET: u8 = 0x11;
const CLEAR_MAP: u8 = 0x12;
const CLEAR_LIST: u8 = 0x13;
const DELETE: u8 = 0x14;
const INS: u8 = 0x15;
const MAKE_MAP: u8 = 0x16;
const MAKE_LIST: u8 = 0x17;
const INC: u8 = 0x18;
const MOVE: u8 = 0x19;
const KILL: u8 = 0x1a;
// 0x1b is kept for `Join`.

/// Reads from the front of a slice; `None` when it is too short or not canonical.
#[derive(Clone, Copy)]
pub(crate) struct Reader<'a>(pub(crate) &'a [u8]);

impl<'a> Reader<'a> {
    pub(crate) fn take(&mut self, len: usize) -> Option<&'a [u8]> {
        let (head, rest) = self.0.split_at_checked(len)?;
        self.0 = rest;
        Some(head)
    }

    pub(crate) fn array<const N: usize>(&mut self) -> Option<[u8; N]> {
        let (head, rest) = self.0.split_first_chunk::<N>()?;
        self.0 = rest;
        Some(*head)
    }

    pub(crate) fn u8(&mut self) -> Option<u8> {
        self.array::<1>().map(|[byte]| byte)
    }

    pub(crate) fn u16(&mut self) -> Option<u16> {
        self.array().map(u16::from_le_bytes)
    }

    pub(crate) fn u32(&mut self) -> Option<u32> {
        self.array().map(u32::from_le_bytes)
    }

    pub(crate) fn i64(&mut self) -> Option<i64> {
        self.array().map(i64::from_le_bytes)
    }

    /// A length and that many bytes.
    pub(crate) fn bytes(&mut self) -> Option<&'a [u8]> {
        let len = self.u32()?;
        self.take(usize::try_from(len).ok()?)
    }

    pub(crate) fn text(&mut self) -> Option<&'a str> {
        std::str::from_utf8(self.bytes()?).ok()
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    fn peek(&self) -> Option<u8> {
        self.0.first().copied()
    }
}

/// Appends a length and the bytes. Longer ones than a payload can hold are refused before.
pub(crate) fn write_bytes(bytes: &[u8], out: &mut Vec<u8>) {
    out.extend(u32::try_from(bytes.len()).unwrap_or(u32::MAX).to_le_bytes());
    out.extend(bytes);
}

/// The bits of a float, with one NaN.
fn float_bits(float: f64) -> u64 {
    if float.is_nan() {
        0x7ff8_0000_0000_0000
    } else {
        float.to_bits()
    }
}

pub(crate) fn write_float(float: f64, out: &mut Vec<u8>) {
    out.push(FLOAT);
    out.extend(float_bits(float).to_le_bytes());
}

pub(crate) fn write_int(int: i64, out: &mut Vec<u8>) {
    out.push(INT);
    out.extend(int.to_le_bytes());
}

pub(crate) fn write_scalar(scalar: &Scalar, out: &mut Vec<u8>) {
    match scalar {
        Scalar::Null => out.push(NULL),
        Scalar::Bool(b) => out.push(if *b { TRUE } else { FALSE }),
        Scalar::Int(n) => write_int(*n, out),
        Scalar::Float(f) => write_float(*f, out),
        Scalar::Text(t) => {
            out.push(TEXT);
            write_bytes(t.as_bytes(), out);
        }
        Scalar::Bytes(b) => {
            out.push(BYTES);
            write_bytes(b, out);
        }
        Scalar::Packed(value) => write_value(value, out),
    }
}

/// Appends a key of a map.
pub(crate) fn write_entry_key(key: &str, out: &mut Vec<u8>) {
    out.push(ENTRY);
    write_bytes(key.as_bytes(), out);
}

/// Appends a value. Recursion is bounded by the value's depth, which callers have checked.
pub(crate) fn write_value(value: &Value, out: &mut Vec<u8>) {
    match value {
        Value::Map(doc) => {
            out.push(MAP);
            for (key, value) in doc.iter() {
                write_entry_key(key, out);
                write_value(value, out);
            }
            out.push(END);
        }
        Value::List(list) => {
            out.push(LIST);
            for value in list.iter() {
                write_value(value, out);
            }
            out.push(END);
        }
        Value::Int(n) | Value::Counter(n) => write_int(*n, out),
        Value::Null => out.push(NULL),
        Value::Bool(b) => out.push(if *b { TRUE } else { FALSE }),
        Value::Float(f) => write_float(*f, out),
        Value::Text(t) => {
            out.push(TEXT);
            write_bytes(t.as_bytes(), out);
        }
        Value::Bytes(b) => {
            out.push(BYTES);
            write_bytes(b, out);
        }
    }
}

/// A scalar without containers whose tag has been read.
fn read_plain(tag: u8, reader: &mut Reader<'_>) -> Option<Scalar> {
    Some(match tag {
        NULL => Scalar::Null,
        FALSE => Scalar::Bool(false),
        TRUE => Scalar::Bool(true),
        INT => Scalar::Int(reader.i64()?),
        FLOAT => {
            let bits = reader.array().map(u64::from_le_bytes)?;
            let float = f64::from_bits(bits);
            (float_bits(float) == bits).then_some(Scalar::Float(float))?
        }
        TEXT => Scalar::Text(reader.text()?.to_owned()),
        BYTES => Scalar::Bytes(reader.bytes()?.to_vec()),
        _ => return None,
    })
}

pub(crate) fn read_scalar(reader: &mut Reader<'_>) -> Option<Scalar> {
    match reader.peek()? {
        MAP | LIST => Some(Scalar::Packed(Box::new(read_value(reader)?))),
        _ => {
            let tag = reader.u8()?;
            read_plain(tag, reader)
        }
    }
}

/// A container under construction.
enum Open {
    Map(Doc, Option<String>),
    List(List),
}

/// Reads a value of at most [`limits::DEPTH`] containers inside each other.
pub(crate) fn read_value(reader: &mut Reader<'_>) -> Option<Value> {
    let mut open: Vec<Open> = Vec::new();
    loop {
        let done = match (reader.u8()?, open.last_mut()) {
            (ENTRY, Some(Open::Map(doc, key @ None))) => {
                let next = reader.text()?;
                let sorted = doc.keys().next_back().is_none_or(|last| last < next);
                if !sorted || next.len() > limits::KEY_BYTES {
                    return None;
                }
                *key = Some(next.to_owned());
                continue;
            }
            (END, Some(Open::Map(_, None) | Open::List(_))) => match open.pop()? {
                Open::Map(doc, _) => Value::Map(doc),
                Open::List(list) => Value::List(list),
            },
            (_, Some(Open::Map(_, None))) => return None,
            (tag @ (MAP | LIST), _) => {
                if open.len() == limits::DEPTH {
                    return None;
                }
                open.push(match tag {
                    MAP => Open::Map(Doc::new(), None),
                    _ => Open::List(List::new()),
                });
                continue;
            }
            (tag, _) => Value::from(read_plain(tag, reader)?),
        };
        match open.last_mut() {
            None => return Some(done),
            Some(Open::List(list)) => list.push(done),
            Some(Open::Map(doc, key)) => {
                doc.insert(key.take()?, done);
            }
        }
    }
}

pub(crate) fn write_position(position: &Position, out: &mut Vec<u8>) {
    let bytes = position.as_bytes();
    // At most 64 bytes by construction.
    out.push(u8::try_from(bytes.len()).unwrap_or(u8::MAX));
    out.extend(bytes);
}

pub(crate) fn read_position(reader: &mut Reader<'_>) -> Option<Position> {
    let len = reader.u8()?;
    Position::from_bytes(reader.take(usize::from(len))?)
}

pub(crate) fn write_op(op: &Op, out: &mut Vec<u8>) {
    match op {
        Op::Set(scalar) => {
            out.push(SET);
            write_scalar(scalar, out);
        }
        Op::Clear(Container::Map) => out.push(CLEAR_MAP),
        Op::Clear(Container::List) => out.push(CLEAR_LIST),
        Op::Delete => out.push(DELETE),
        Op::Ins { position, init } => {
            out.push(INS);
            write_position(position, out);
            match init {
                Init::Scalar(scalar) => write_scalar(scalar, out),
                Init::Empty(Container::Map) => out.push(MAKE_MAP),
                Init::Empty(Container::List) => out.push(MAKE_LIST),
            }
        }
        Op::Make(Container::Map) => out.push(MAKE_MAP),
        Op::Make(Container::List) => out.push(MAKE_LIST),
        Op::Inc(by) => {
            out.push(INC);
            out.extend(by.to_le_bytes());
        }
        Op::Move(position) => {
            out.push(MOVE);
            write_position(position, out);
        }
        Op::Kill => out.push(KILL),
    }
}

pub(crate) fn read_op(reader: &mut Reader<'_>) -> Option<Op> {
    Some(match reader.u8()? {
        SET => Op::Set(read_scalar(reader)?),
        CLEAR_MAP => Op::Clear(Container::Map),
        CLEAR_LIST => Op::Clear(Container::List),
        DELETE => Op::Delete,
        INS => Op::Ins {
            position: read_position(reader)?,
            init: read_init(reader)?,
        },
        MAKE_MAP => Op::Make(Container::Map),
        MAKE_LIST => Op::Make(Container::List),
        INC => Op::Inc(reader.i64()?),
        MOVE => Op::Move(read_position(reader)?),
        KILL => Op::Kill,
        _ => return None,
    })
}

fn read_init(reader: &mut Reader<'_>) -> Option<Init> {
    let container = match reader.peek()? {
        MAKE_MAP => Container::Map,
        MAKE_LIST => Container::List,
        _ => return read_scalar(reader).map(Init::Scalar),
    };
    reader.take(1)?;
    Some(Init::Empty(container))
}
