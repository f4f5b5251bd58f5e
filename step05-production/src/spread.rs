//! Chance: what many clients would do at the same moment is spread over a time.

use std::time::Duration;

use uuid::Uuid;

/// A time between zero and `longest`, another one at each call.
pub fn spread(longest: Duration) -> Duration {
    // The first bits of a random UUID are random, and it saves a crate for random numbers.
    let (bits, _) = Uuid::new_v4().as_u64_pair();
    longest.mul_f64(bits as f64 / u64::MAX as f64)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_spread_over_the_whole_range() {
        let longest = Duration::from_secs(10);
        let times: Vec<Duration> = (0..1000).map(|_| spread(longest)).collect();
        for tenth in 0..10u32 {
            let (from, to) = (longest * tenth / 10, longest * (tenth + 1) / 10);
            let within = times.iter().filter(|time| (from..=to).contains(time)).count();
            assert!((50..200).contains(&within), "{within} of 1000 in {from:?} to {to:?}");
        }
    }
}
