// ANCHOR: all
//! How long to wait before the next attempt to connect.

use std::time::Duration;

use uuid::Uuid;

/// The shortest wait: a client that comes back at once, again and again, is an attack.
const SHORTEST: Duration = Duration::from_millis(50);

/// The longest wait before the first attempt.
const FIRST: Duration = Duration::from_secs(1);

/// The longest wait before any: nobody wants to sit before "reconnecting in an hour".
const LONGEST: Duration = Duration::from_secs(20);

// ANCHOR: next_delay
/// How long to wait after `attempt` failed attempts, given a random number from 0 to 1.
///
/// The limit doubles with each attempt, so that a server in trouble is left in peace. Within it the
/// wait is random ("full jitter"): the thousands of clients that were cut in the same moment don't
/// come back in the same moment.
pub fn next_delay(attempt: u32, random: f64) -> Duration {
    let limit = FIRST.saturating_mul(2_u32.saturating_pow(attempt)).min(LONGEST);
    // The last `max` makes a 0 of what is not a number.
    limit.mul_f64(random.clamp(0.0, 1.0).max(0.0)).max(SHORTEST)
}
// ANCHOR_END: next_delay

/// A random number from 0 up to 1.
pub fn random() -> f64 {
    // The lower bits of an id of version 4 are random, and 53 of them fill an `f64`.
    const BITS: u64 = 1 << 53;
    let (_, low) = Uuid::new_v4().as_u64_pair();
    (low % BITS) as f64 / BITS as f64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_limit_doubles_up_to_the_longest_wait() {
        let limits: Vec<u64> = (0..7).map(|attempt| next_delay(attempt, 1.0).as_secs()).collect();
        assert_eq!(limits, [1, 2, 4, 8, 16, 20, 20]);
        assert_eq!(next_delay(u32::MAX, 1.0), LONGEST);
    }

    #[test]
    fn the_wait_is_spread_over_the_whole_limit() {
        assert_eq!(next_delay(3, 0.5), Duration::from_secs(4));
        assert_eq!(next_delay(3, 0.25), Duration::from_secs(2));
    }

    #[test]
    fn it_is_never_zero() {
        for attempt in [0, 1, 100] {
            assert_eq!(next_delay(attempt, 0.0), SHORTEST);
            assert_eq!(next_delay(attempt, -1.0), SHORTEST);
            assert_eq!(next_delay(attempt, f64::NAN), SHORTEST);
        }
    }

    #[test]
    fn random_numbers_are_spread_between_0_and_1() {
        let numbers: Vec<f64> = (0..1000).map(|_| random()).collect();
        assert!(numbers.iter().all(|number| (0.0..1.0).contains(number)));
        for tenth in 0..10 {
            let range = f64::from(tenth) / 10.0..f64::from(tenth + 1) / 10.0;
            assert!(numbers.iter().any(|number| range.contains(number)), "{range:?}");
        }
    }
}
// ANCHOR_END: all
