//! Finds in which entries two histories differ, from the asking side, by what the other says of its own.
//!
//! The first answer to a comparison describes the whole history of the server, or what it has beyond the frontier
//! that both had last. What differs there is asked on for in smaller and smaller spans, until it is lists of ids.
//! What is in a list and not here is wanted, what is here and not in the list is to be sent: that is the exact
//! difference in both directions, and it costs in proportion to it, however long the history is.
//!
//! Descriptions are claims. They steer what is fetched and pushed, and nothing else: a server that lies hides its own
//! entries or is sent what it has. It is noticed when its tips do not arrive.

use std::collections::BTreeMap;

use eidetica_entry::{
    Id, Stamp,
    reconcile::{Contrast, Detail, Found, Part, Span},
};

use crate::{IdPrefix, PeerFault, limits};

/// The difference as far as it is known.
#[derive(Debug, Default)]
pub(crate) struct Differences {
    /// By where their spans begin.
    found: BTreeMap<Stamp, Found>,
    /// Where there is more to find, with how many entries the peer has there. Ascending.
    open: Vec<(Span, u64)>,
    /// What was asked for last.
    asked: Vec<Span>,
    rounds: u32,
    /// Entries found.
    ids: usize,
    /// Spans and ids compared.
    pub(crate) compared: u64,
}

/// What to do next.
pub(crate) enum Step {
    /// Ask for descriptions of these.
    Ask(Vec<(Span, Detail)>),
    /// Exchange this.
    Exchange(Exchange),
}

/// Entries to go each way. With each, what it builds on is among them or is on both sides.
#[derive(Debug, Default)]
pub(crate) struct Exchange {
    /// What the peer has and we have not.
    pub(crate) wants: Vec<IdPrefix>,
    /// What we have and the peer has not.
    pub(crate) ours: Vec<Id>,
    /// Whether it is the whole difference.
    pub(crate) is_whole: bool,
}

impl Differences {
    /// Asks for everything: for when there is nothing to begin with.
    pub(crate) fn ask_all(&mut self) -> Vec<(Span, Detail)> {
        self.rounds += 1;
        self.asked = vec![Span::ALL];
        vec![(Span::ALL, Detail::Levels)]
    }

    /// Checks that a reply describes what was asked for, and all of it.
    pub(crate) fn check_reply(&self, parts: &[Part]) -> Result<(), PeerFault> {
        let mut parts = parts.iter().map(|part| part.span).peekable();
        for asked in &self.asked {
            let mut next = Some(asked.from);
            while let Some(part) = parts.next_if(|part| Some(part.from) == next) {
                next = part.to;
                if next == asked.to {
                    break;
                }
            }
            if next != asked.to {
                return Err(PeerFault::Unexpected("a description of something else"));
            }
        }
        match parts.next() {
            None => Ok(()),
            Some(_) => Err(PeerFault::Unexpected("a description of something else")),
        }
    }

    /// Takes how a description differs from what is here.
    pub(crate) fn take(&mut self, contrast: Contrast) {
        let asked = std::mem::take(&mut self.asked);
        self.open
            .retain(|(span, _)| asked.binary_search_by_key(&span.from, |a| a.from).is_err());
        self.compared += contrast.open.len() as u64;
        self.open.extend(contrast.open);
        self.open.sort_unstable_by_key(|(span, _)| span.from);
        for found in contrast.found {
            self.ids += found.theirs.len() + found.ours.len();
            self.compared += (found.theirs.len() + found.ours.len()) as u64;
            self.found.insert(found.span.from, found);
        }
    }

    /// What to do with what is known now.
    ///
    /// # Errors
    /// The peer splits and splits, and there is nothing to exchange.
    pub(crate) fn next(&mut self) -> Result<Step, PeerFault> {
        let is_full = self.ids >= limits::FOUND_IDS || self.rounds >= limits::SKETCH_ROUNDS;
        if !self.open.is_empty() && !is_full {
            self.rounds += 1;
            let plan = self.plan();
            self.asked = plan.iter().map(|(span, _)| *span).collect();
            return Ok(Step::Ask(plan));
        }
        let exchange = self.exchange();
        let is_empty = exchange.wants.is_empty() && exchange.ours.is_empty();
        if is_empty && !exchange.is_whole {
            return Err(PeerFault::Endless(self.rounds));
        }
        Ok(Step::Exchange(exchange))
    }

    /// Lists of what is small, or no larger than what differs above it: there it is dense, and no more than half of
    /// the list is for nothing. Else another step down.
    fn plan(&self) -> Vec<(Span, Detail)> {
        let mut different = self.ids as u64;
        let mut plan = Vec::new();
        let lowest = self.open.iter().take(limits::SKETCH_SPANS);
        for (span, count) in lowest.rev() {
            let is_listed = *count <= different.saturating_add(limits::LISTED);
            if is_listed {
                different = different.saturating_add(*count);
            }
            let detail = match is_listed {
                true => Detail::Stamps,
                false => Detail::Nodes,
            };
            plan.push((*span, detail));
        }
        plan.reverse();
        plan
    }

    /// What was found below anything that is not known.
    fn exchange(&mut self) -> Exchange {
        let mut exchange = Exchange {
            is_whole: self.open.is_empty(),
            ..Exchange::default()
        };
        let end = self.open.first().map(|(span, _)| span.from);
        let below = |from: &Stamp| end.is_none_or(|end| *from < end);
        for found in std::mem::take(&mut self.found).into_values() {
            if !exchange.is_whole && !below(&found.span.from) {
                break;
            }
            let prefixes = found.theirs.iter().map(IdPrefix::of);
            exchange.wants.extend(prefixes);
            exchange.ours.extend(found.ours);
            if found.more {
                exchange.is_whole = false;
                break;
            }
        }
        exchange
    }
}
