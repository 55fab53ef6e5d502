//! The time that everything in a node is told: the wall clock, but it never goes back.
//!
//! Timers are set by it. Where the wall clock is put back, they would wait for as much longer; so from then on it goes on
//! from where it was, until the wall clock is ahead again. Where that is put forward, or the machine slept, it follows.

use std::sync::LazyLock;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use parking_lot::Mutex;

/// A clock that follows the wall clock forward and never back.
#[derive(Clone, Copy, Debug, Default)]
pub struct Clock {
    last: Option<Said>,
}

/// Milliseconds since 1970, and when that was said.
#[derive(Clone, Copy, Debug)]
struct Said {
    ms: u64,
    at: Duration,
}

impl Clock {
    /// What time it is (ms), where the wall clock says `wall_ms`, and another that nobody sets has gone on for `steady`.
    pub fn read(&mut self, wall_ms: u64, steady: Duration) -> u64 {
        let wall = Said {
            ms: wall_ms,
            at: steady,
        };
        let goes_on = self.last.map(|last| {
            let passed = millis(steady.saturating_sub(last.at));
            // What is left of a millisecond counts the next time.
            Said {
                ms: last.ms.saturating_add(passed),
                at: last.at.saturating_add(Duration::from_millis(passed)),
            }
        });
        let said = goes_on.filter(|said| said.ms >= wall_ms).unwrap_or(wall);
        self.last = Some(said);
        said.ms
    }
}

/// Milliseconds since 1970.
pub(crate) fn now_ms() -> u64 {
    static CLOCK: LazyLock<(Instant, Mutex<Clock>)> =
        LazyLock::new(|| (Instant::now(), Mutex::default()));
    let (begin, clock) = &*CLOCK;
    let mut clock = clock.lock();
    clock.read(wall_ms(), begin.elapsed())
}

fn wall_ms() -> u64 {
    SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .map_or(0, millis)
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn time_goes_on_where_the_wall_clock_is_put_back_and_follows_it_forward() {
        let mut clock = Clock::default();
        let mut at =
            |passed_us: u64, wall_ms: u64| clock.read(wall_ms, Duration::from_micros(passed_us));
        assert_eq!(at(0, 10_000_000), 10_000_000);
        assert_eq!(at(5_000, 10_000_005), 10_000_005);
        // Put back by more than two hours, and asked more often than every millisecond.
        for n in 1..=4_000 {
            assert_eq!(at(5_000 + n * 500, 2_000_000), 10_000_005 + n / 2);
        }
        assert_eq!(at(3_000_000, 12_000_000), 12_000_000);
        assert_eq!(at(3_001_000, 12_000_001), 12_000_001);
    }
}
