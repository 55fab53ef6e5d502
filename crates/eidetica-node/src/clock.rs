//! The time that everything in a node is told: the wall clock, but it never goes back.
//!
//! Timers are set by it. Where the wall clock is put back, they would wait for as much longer; so from then on it goes on
//! from where it was, until the wall clock is ahead again. Where that is put forward, or the machine slept, it follows.

use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use parking_lot::Mutex;

/// Milliseconds since 1970, and when that was said.
#[derive(Clone, Copy)]
struct Said {
    ms: u64,
    at: Instant,
}

/// Milliseconds since 1970.
pub(crate) fn now_ms() -> u64 {
    static LAST: Mutex<Option<Said>> = Mutex::new(None);
    let mut last = LAST.lock();
    let said = next(*last, wall_ms(), Instant::now());
    *last = Some(said);
    said.ms
}

fn wall_ms() -> u64 {
    SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .map_or(0, millis)
}

fn next(last: Option<Said>, wall_ms: u64, at: Instant) -> Said {
    let Some(last) = last else {
        return Said { ms: wall_ms, at };
    };
    let passed = millis(at.saturating_duration_since(last.at));
    // What is left of a millisecond counts the next time.
    let goes_on = Said {
        ms: last.ms.saturating_add(passed),
        at: last.at + Duration::from_millis(passed),
    };
    match wall_ms > goes_on.ms {
        true => Said { ms: wall_ms, at },
        false => goes_on,
    }
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn time_goes_on_where_the_wall_clock_is_put_back_and_follows_it_forward() {
        let begin = Instant::now();
        let mut last = None;
        let mut at = |passed_us: u64, wall_ms: u64| {
            let said = next(last, wall_ms, begin + Duration::from_micros(passed_us));
            last = Some(said);
            said.ms
        };
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
