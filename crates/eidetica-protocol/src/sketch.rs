//! Descriptions of sets of entries on the wire: see [`eidetica_entry::reconcile`].
//!
//! Spans are written as steps from the end of the one before, heights as differences, ids without the zeros at
//! their end. So a summary of a block of heights takes about 30 bytes.

use eidetica_entry::{
    Height, Id, Stamp,
    reconcile::{Content, Detail, LEAST, Part, Room, Span, Summary},
};
use serde::{Deserialize, Serialize};

use crate::{
    limits,
    message::{MessageError, check_count},
};

/// What one side says of its entries.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Sketch {
    /// All that are not in the past of the frontier that the other side named, in any order.
    Since(Vec<Id>),
    /// What is in some spans.
    Parts(Parts),
}

impl Sketch {
    /// What a description may take: every span gets a part, however many there are.
    pub const ROOM: Room = Room {
        parts: limits::SKETCH_PARTS - limits::SKETCH_SPANS,
        ids: limits::SKETCH_IDS,
    };

    pub(crate) fn check(&self) -> Result<(), MessageError> {
        match self {
            Self::Since(ids) => check_count("ids", ids.len(), limits::SKETCH_IDS),
            Self::Parts(parts) => parts.parts().map(drop),
        }
    }
}

/// [`Part`]s in ascending order.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Parts(Vec<WirePart>);

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct WirePart {
    span: WireSpan,
    content: WireContent,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
enum WireContent {
    Summary { count: u64, hash: [u8; 24] },
    Ids(Vec<Id>),
}

impl Parts {
    /// The message of these parts, which ascend.
    pub fn new(parts: &[Part]) -> Self {
        let mut end = LEAST;
        let wire = |part: &Part| WirePart {
            span: WireSpan::new(&part.span, &mut end),
            content: match &part.content {
                Content::Summary(Summary { count, hash }) => WireContent::Summary {
                    count: *count,
                    hash: *hash,
                },
                Content::Ids(ids) => WireContent::Ids(ids.clone()),
            },
        };
        Self(parts.iter().map(wire).collect())
    }

    /// The parts.
    ///
    /// # Errors
    /// Counts above [`limits::SKETCH_PARTS`] and [`limits::SKETCH_IDS`], spans that do not ascend.
    pub fn parts(&self) -> Result<Vec<Part>, MessageError> {
        check_count("parts", self.0.len(), limits::SKETCH_PARTS)?;
        let mut end = Some(LEAST);
        let (mut parts, mut listed) = (Vec::with_capacity(self.0.len()), 0);
        for WirePart { span, content } in &self.0 {
            let span = span.read(&mut end)?;
            let content = match content {
                WireContent::Summary { count, hash } => Content::Summary(Summary {
                    count: *count,
                    hash: *hash,
                }),
                WireContent::Ids(ids) => {
                    listed += ids.len();
                    Content::Ids(ids.clone())
                }
            };
            parts.push(Part { span, content });
        }
        check_count("ids", listed, limits::SKETCH_IDS)?;
        Ok(parts)
    }
}

/// Spans that one side wants described, ascending.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Spans(Vec<(WireSpan, WireDetail)>);

impl Spans {
    /// The message of these spans, which ascend.
    pub fn new(spans: &[(Span, Detail)]) -> Self {
        let mut end = LEAST;
        let wire = |(span, detail): &(Span, Detail)| {
            let detail = match detail {
                Detail::Levels => WireDetail::Levels,
                Detail::Nodes => WireDetail::Nodes,
                Detail::Stamps => WireDetail::Stamps,
            };
            (WireSpan::new(span, &mut end), detail)
        };
        Self(spans.iter().map(wire).collect())
    }

    /// The spans.
    ///
    /// # Errors
    /// More than [`limits::SKETCH_SPANS`], spans that do not ascend.
    pub fn spans(&self) -> Result<Vec<(Span, Detail)>, MessageError> {
        check_count("spans", self.0.len(), limits::SKETCH_SPANS)?;
        let mut end = Some(LEAST);
        let read = |(span, detail): &(WireSpan, WireDetail)| {
            let detail = match detail {
                WireDetail::Levels => Detail::Levels,
                WireDetail::Nodes => Detail::Nodes,
                WireDetail::Stamps => Detail::Stamps,
            };
            Ok((span.read(&mut end)?, detail))
        };
        self.0.iter().map(read).collect()
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
enum WireDetail {
    Levels,
    Nodes,
    Stamps,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct WireSpan {
    /// From the end of the span before.
    from: WireStep,
    /// From there.
    to: WireStep,
}

/// How much further on a stamp is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
enum WireStep {
    /// At the same.
    None,
    /// So many heights higher, with the least id.
    Heights(u64),
    /// So many heights higher, at an id without the zeros at its end.
    Stamp(u64, Vec<u8>),
    /// Behind the last stamp.
    End,
}

impl WireSpan {
    /// A span that begins at `end` or later; `end` is its own end afterwards.
    fn new(span: &Span, end: &mut Stamp) -> Self {
        let from = WireStep::new(end, Some(&span.from));
        let to = WireStep::new(&span.from, span.to.as_ref());
        *end = span.to.unwrap_or(span.from);
        Self { from, to }
    }

    /// `end` is none behind the last stamp.
    fn read(&self, end: &mut Option<Stamp>) -> Result<Span, MessageError> {
        let before = end.ok_or(MessageError::NotCanonical)?;
        let from = self.from.read(before)?.ok_or(MessageError::NotCanonical)?;
        let to = self.to.read(from)?;
        *end = to;
        let span = Span { from, to };
        if span.is_empty() {
            return Err(MessageError::NotCanonical);
        }
        Ok(span)
    }
}

impl WireStep {
    fn new(from: &Stamp, to: Option<&Stamp>) -> Self {
        let Some(to) = to else { return Self::End };
        let heights = to.height.0.saturating_sub(from.height.0);
        let used = to.id.as_bytes().iter().rposition(|byte| *byte != 0);
        match used.and_then(|last| to.id.as_bytes().get(..=last)) {
            _ if from == to => Self::None,
            None => Self::Heights(heights),
            Some(id) => Self::Stamp(heights, id.to_vec()),
        }
    }

    /// None is behind the last stamp. What [`new`](Self::new) would not have written is refused.
    fn read(&self, from: Stamp) -> Result<Option<Stamp>, MessageError> {
        let (heights, bytes) = match self {
            Self::None => return Ok(Some(from)),
            Self::End => return Ok(None),
            Self::Heights(heights) => (*heights, [].as_slice()),
            Self::Stamp(heights, id) => (*heights, id.as_slice()),
        };
        let height = from.height.0.checked_add(heights);
        let mut id = [0; 32];
        let place = id.get_mut(..bytes.len());
        let (Some(height), Some(place)) = (height, place) else {
            return Err(MessageError::NotCanonical);
        };
        place.copy_from_slice(bytes);
        let to = Stamp::new(Height(height), Id::new(id));
        if to <= from || Self::new(&from, Some(&to)) != *self {
            return Err(MessageError::NotCanonical);
        }
        Ok(Some(to))
    }
}
