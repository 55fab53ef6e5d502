//! Which request numbers were used: a sliding window, so that none is used twice.

use crate::limits::REPLAY_WINDOW;

const WORDS: usize = (REPLAY_WINDOW / 64) as usize;

/// The numbers seen, of the last [`REPLAY_WINDOW`]; older ones count as seen.
#[derive(Default)]
pub(crate) struct ReplayWindow {
    /// One above the greatest number seen; 0 before the first.
    next: u64,
    /// Bit `n % REPLAY_WINDOW` says whether n, of the window, was seen.
    seen: [u64; WORDS],
}

impl ReplayWindow {
    /// Whether a number may still be used.
    pub(crate) fn is_fresh(&self, number: u32) -> bool {
        let number = u64::from(number);
        number >= self.next || (number + u64::from(REPLAY_WINDOW) >= self.next && !self.get(number))
    }

    /// Uses a number; false if it was used before or is too old to know.
    pub(crate) fn take(&mut self, number: u32) -> bool {
        if !self.is_fresh(number) {
            return false;
        }
        let number = u64::from(number);
        if number >= self.next {
            if number - self.next >= u64::from(REPLAY_WINDOW) {
                self.seen = [0; WORDS];
            } else {
                (self.next..=number).for_each(|skipped| self.set(skipped, false));
            }
            self.next = number + 1;
        }
        self.set(number, true);
        true
    }

    fn slot(number: u64) -> (usize, u64) {
        let bit = number % u64::from(REPLAY_WINDOW);
        ((bit / 64) as usize, 1 << (bit % 64))
    }

    fn get(&self, number: u64) -> bool {
        let (word, mask) = Self::slot(number);
        self.seen.get(word).is_some_and(|word| word & mask != 0)
    }

    fn set(&mut self, number: u64, seen: bool) {
        let (word, mask) = Self::slot(number);
        if let Some(word) = self.seen.get_mut(word) {
            *word = if seen { *word | mask } else { *word & !mask };
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use rand::{RngExt, SeedableRng, rngs::StdRng};

    use super::*;

    #[test]
    fn agrees_with_a_set_of_all_numbers() {
        let mut rng = StdRng::seed_from_u64(7);
        let (mut window, mut all, mut greatest) = (ReplayWindow::default(), HashSet::new(), None);
        for step in 0..20_000_u32 {
            let near = step / 3 * if step < 10_000 { 1 } else { 7 };
            let number = near + rng.random_range(0..1_500);
            let old = greatest.is_some_and(|greatest: u32| number + REPLAY_WINDOW <= greatest);
            let fresh = !old && !all.contains(&number);
            assert_eq!(window.is_fresh(number), fresh, "{number} at {step}");
            assert_eq!(window.take(number), fresh, "{number} at {step}");
            all.insert(number);
            greatest = greatest.max(Some(number));
        }
    }

    #[test]
    fn the_ends_of_the_range_work() {
        let mut window = ReplayWindow::default();
        assert!(window.take(0) && !window.take(0));
        assert!(window.take(u32::MAX) && !window.take(u32::MAX));
        assert!(window.take(u32::MAX - REPLAY_WINDOW + 1));
        assert!(!window.take(u32::MAX - REPLAY_WINDOW));
    }
}
