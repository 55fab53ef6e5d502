//! What is to happen, in the order of virtual time. Equal times keep the order in which they were put in.

use std::{cmp::Ordering, collections::BinaryHeap};

#[derive(Debug)]
struct Due<E> {
    at_ms: u64,
    number: u64,
    event: E,
}

impl<E> Ord for Due<E> {
    /// The earliest is the greatest, as the heap wants it.
    fn cmp(&self, other: &Self) -> Ordering {
        (other.at_ms, other.number).cmp(&(self.at_ms, self.number))
    }
}

impl<E> PartialOrd for Due<E> {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl<E> PartialEq for Due<E> {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other) == Ordering::Equal
    }
}

impl<E> Eq for Due<E> {}

/// Events by time.
#[derive(Debug)]
pub(crate) struct Queue<E> {
    heap: BinaryHeap<Due<E>>,
    next: u64,
}

impl<E> Queue<E> {
    pub(crate) fn new() -> Self {
        Self {
            heap: BinaryHeap::new(),
            next: 0,
        }
    }

    pub(crate) fn push(&mut self, at_ms: u64, event: E) {
        let number = self.next;
        self.next += 1;
        self.heap.push(Due {
            at_ms,
            number,
            event,
        });
    }

    pub(crate) fn pop(&mut self) -> Option<(u64, E)> {
        self.heap.pop().map(|due| (due.at_ms, due.event))
    }
}
