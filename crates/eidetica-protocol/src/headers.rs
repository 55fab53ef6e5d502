//! Headers as a reconciliation sees them: stamp and parents.

use std::collections::{HashMap, HashSet, VecDeque};

use eidetica_entry::{Height, Id, Stamp, dag::Dag};
use serde::{Deserialize, Serialize};

use crate::{
    limits,
    message::{MessageError, check_count},
};

/// An entry's place in the history.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HeaderSummary {
    /// Height and id.
    pub stamp: Stamp,
    /// Its parents, in the header's order.
    pub parents: Vec<Id>,
}

/// The headers of `of` and of their ancestors, breadth first: those of `of` that are held come first, then their
/// parents, and so on for at most `generations` generations and `limit` headers, each once. Ids that are not held are
/// left out, and the walk does not go through entries in `stop` (nor does it show them).
///
/// This is the answer to [`Query::Ancestors`](crate::Query::Ancestors). Costs one lookup per header.
///
/// # Errors
/// What `dag` fails with.
pub fn ancestors_page<D: Dag + ?Sized>(
    dag: &D,
    of: &[Id],
    stop: &[Id],
    generations: u32,
    limit: usize,
) -> Result<Vec<HeaderSummary>, D::Error> {
    let mut seen: HashSet<Id> = stop.iter().copied().collect();
    let mut queue: VecDeque<(Id, u32)> = of
        .iter()
        .filter(|id| seen.insert(**id))
        .map(|id| (*id, 1))
        .collect();
    let mut headers = Vec::new();
    while headers.len() < limit
        && let Some((id, generation)) = queue.pop_front()
    {
        let Some(node) = dag.node(&id)? else { continue };
        let parents = node.parents.as_slice();
        if generation < generations {
            queue.extend(
                parents
                    .iter()
                    .filter(|parent| seen.insert(**parent))
                    .map(|parent| (*parent, generation + 1)),
            );
        }
        headers.push(HeaderSummary {
            stamp: Stamp::new(node.height, id),
            parents: parents.to_vec(),
        });
    }
    Ok(headers)
}

/// Headers in descending stamp order; an id that stands in the page is written once.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct WirePage {
    /// The greatest height.
    top: Height,
    headers: Vec<WireHeader>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct WireHeader {
    id: Id,
    /// How much lower than the header before, or than `top`.
    drop: u64,
    parents: Vec<WireParent>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
enum WireParent {
    /// The header so many places further on, from 1.
    Ahead(u32),
    /// An entry that is not in the page.
    Elsewhere(Id),
}

impl WirePage {
    /// The page of the first of these headers that fit.
    pub(crate) fn new(mut headers: Vec<HeaderSummary>) -> Self {
        headers.truncate(fitting(&headers));
        headers.sort_unstable_by_key(|header| std::cmp::Reverse(header.stamp));
        headers.dedup_by_key(|header| header.stamp.id);
        let places: HashMap<Id, usize> = headers
            .iter()
            .enumerate()
            .map(|(i, h)| (h.stamp.id, i))
            .collect();
        let top = headers
            .first()
            .map_or(Height::ROOT, |header| header.stamp.height);
        let mut above = top;
        let mut wire = Vec::with_capacity(headers.len());
        for (place, header) in headers.into_iter().enumerate() {
            let parents = header
                .parents
                .iter()
                .map(|id| wire_parent(*id, place, &places))
                .collect();
            let drop = above.0.saturating_sub(header.stamp.height.0);
            above = header.stamp.height;
            wire.push(WireHeader {
                id: header.stamp.id,
                drop,
                parents,
            });
        }
        Self { top, headers: wire }
    }

    /// The headers again, checked: counts, falling stamps, parents lower than children.
    pub(crate) fn unpack(&self) -> Result<Vec<HeaderSummary>, MessageError> {
        check_count("headers", self.headers.len(), limits::HEADERS)?;
        let mut height = self.top.0;
        let mut stamps = Vec::with_capacity(self.headers.len());
        for header in &self.headers {
            check_count("parents", header.parents.len(), limits::PARENTS)?;
            height = height
                .checked_sub(header.drop)
                .ok_or(MessageError::NotCanonical)?;
            stamps.push(Stamp::new(Height(height), header.id));
        }
        if !stamps.is_sorted_by(|a, b| a > b)
            || self.headers.first().is_some_and(|first| first.drop != 0)
        {
            return Err(MessageError::NotCanonical);
        }
        let parent_of = |place: usize, parent: &WireParent| match parent {
            WireParent::Elsewhere(id) => Ok(*id),
            WireParent::Ahead(0) => Err(MessageError::NotCanonical),
            WireParent::Ahead(by) => {
                let at = usize::try_from(*by)
                    .ok()
                    .and_then(|by| place.checked_add(by));
                let stamp = at
                    .and_then(|at| stamps.get(at))
                    .ok_or(MessageError::NotCanonical)?;
                Ok(stamp.id)
            }
        };
        let unpacked =
            self.headers
                .iter()
                .zip(&stamps)
                .enumerate()
                .map(|(place, (header, stamp))| {
                    let parents = header
                        .parents
                        .iter()
                        .map(|parent| parent_of(place, parent))
                        .collect::<Result<_, _>>()?;
                    Ok(HeaderSummary {
                        stamp: *stamp,
                        parents,
                    })
                });
        unpacked.collect()
    }
}

fn wire_parent(id: Id, place: usize, places: &HashMap<Id, usize>) -> WireParent {
    let ahead = places
        .get(&id)
        .and_then(|at| at.checked_sub(place))
        .filter(|by| *by > 0);
    match ahead.and_then(|by| u32::try_from(by).ok()) {
        Some(by) => WireParent::Ahead(by),
        None => WireParent::Elsewhere(id),
    }
}

/// How many of the headers fit into one reply.
fn fitting(headers: &[HeaderSummary]) -> usize {
    let mut bytes = 0;
    let fits = |header: &&HeaderSummary| {
        bytes += 48 + 36 * header.parents.len();
        bytes <= limits::HEADER_BYTES
    };
    headers
        .iter()
        .take(limits::HEADERS)
        .take_while(fits)
        .count()
}
