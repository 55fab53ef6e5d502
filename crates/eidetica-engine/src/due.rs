//! When things are due, found by what they are and by the time.

use std::collections::{BTreeMap, BTreeSet};

/// A time for each of some keys. The earliest is found without a look at the others.
#[derive(Debug)]
pub(crate) struct Due<K> {
    by_key: BTreeMap<K, u64>,
    by_time: BTreeSet<(u64, K)>,
}

impl<K> Default for Due<K> {
    fn default() -> Self {
        Self {
            by_key: BTreeMap::new(),
            by_time: BTreeSet::new(),
        }
    }
}

impl<K: Ord + Copy> Due<K> {
    pub(crate) fn get(&self, key: &K) -> Option<u64> {
        self.by_key.get(key).copied()
    }

    /// Due then, whatever was said before.
    pub(crate) fn set(&mut self, key: K, at_ms: u64) {
        self.remove(&key);
        self.by_key.insert(key, at_ms);
        self.by_time.insert((at_ms, key));
    }

    /// Not due any more; says when it was to be.
    pub(crate) fn remove(&mut self, key: &K) -> Option<u64> {
        let at_ms = self.by_key.remove(key)?;
        self.by_time.remove(&(at_ms, *key));
        Some(at_ms)
    }

    /// The earliest time.
    pub(crate) fn next_ms(&self) -> Option<u64> {
        self.by_time.first().map(|(at_ms, _)| *at_ms)
    }

    /// What is due, the longest first. It stays so until it is set or removed.
    pub(crate) fn at(&self, now_ms: u64) -> Vec<K> {
        let due = self.by_time.iter().take_while(|(at, _)| *at <= now_ms);
        due.map(|(_, key)| *key).collect()
    }

    /// What is due, which is not any more.
    pub(crate) fn take(&mut self, now_ms: u64) -> Vec<K> {
        let due = self.at(now_ms);
        for key in &due {
            self.remove(key);
        }
        due
    }

    /// Nothing is due later than now.
    pub(crate) fn hurry(&mut self, now_ms: u64) {
        let after = |(_, at): &(&K, &u64)| **at > now_ms;
        let later: Vec<K> = self
            .by_key
            .iter()
            .filter(after)
            .map(|(key, _)| *key)
            .collect();
        for key in later {
            self.set(key, now_ms);
        }
    }

    pub(crate) fn clear(&mut self) {
        *self = Self::default();
    }
}

#[cfg(test)]
mod tests {
    use eidetica_testkit::Rng;

    use super::*;

    #[test]
    fn says_what_a_walk_over_all_finds() {
        for seed in 0..50 {
            let mut rng = Rng::new(seed);
            let mut random = |end| rng.below(end) as u64;
            let (mut due, mut all) = (Due::default(), BTreeMap::new());
            for _ in 0..200 {
                let (key, at) = (random(20), random(100));
                match random(8) {
                    0 => assert_eq!(due.remove(&key), all.remove(&key)),
                    1 => {
                        let mut taken = due.take(at);
                        taken.sort_unstable();
                        let (gone, stay) = all.into_iter().partition(|(_, of)| *of <= at);
                        let gone: BTreeMap<u64, u64> = gone;
                        assert!(gone.into_keys().eq(taken));
                        all = stay;
                    }
                    2 => {
                        due.hurry(at);
                        all.values_mut().for_each(|of| *of = at.min(*of));
                    }
                    _ => {
                        due.set(key, at);
                        all.insert(key, at);
                    }
                }
                assert_eq!(due.next_ms(), all.values().min().copied());
                assert_eq!(due.get(&key), all.get(&key).copied());
                assert_eq!(due.by_time.len(), all.len());
            }
        }
    }
}
