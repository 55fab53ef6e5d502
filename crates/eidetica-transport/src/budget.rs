//! A bound on bytes that many streams hold together.

use std::sync::{
    Arc,
    atomic::{AtomicUsize, Ordering},
};

/// How many bytes may be held in all. What a stream holds of them is its [`Share`].
#[derive(Debug)]
pub struct Budget {
    used: AtomicUsize,
    limit: usize,
}

impl Budget {
    /// So many bytes.
    pub fn new(limit: usize) -> Arc<Self> {
        Arc::new(Self {
            used: AtomicUsize::new(0),
            limit,
        })
    }
}

/// What one stream holds of a [`Budget`]; given back when dropped.
#[derive(Debug)]
pub struct Share {
    budget: Arc<Budget>,
    amount: usize,
}

impl Share {
    /// Nothing yet.
    pub fn of(budget: &Arc<Budget>) -> Self {
        Self {
            budget: Arc::clone(budget),
            amount: 0,
        }
    }

    /// Takes so many bytes more; false, and nothing is taken, if there are not so many left.
    #[must_use]
    pub fn grow(&mut self, amount: usize) -> bool {
        let limit = self.budget.limit;
        let take = |used: usize| used.checked_add(amount).filter(|sum| *sum <= limit);
        let taken = self
            .budget
            .used
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, take)
            .is_ok();
        self.amount += if taken { amount } else { 0 };
        taken
    }

    /// Gives all back.
    pub fn release(&mut self) {
        let amount = std::mem::take(&mut self.amount);
        self.budget.used.fetch_sub(amount, Ordering::Relaxed);
    }
}

impl Drop for Share {
    fn drop(&mut self) {
        self.release();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_held_is_bounded_and_given_back() {
        let budget = Budget::new(10);
        let (mut one, mut two) = (Share::of(&budget), Share::of(&budget));
        assert!(one.grow(6) && two.grow(4) && !two.grow(1));
        one.release();
        assert!(two.grow(6) && !one.grow(usize::MAX));
        drop(two);
        assert!(one.grow(10) && !one.grow(1));
    }
}
