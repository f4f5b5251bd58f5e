// ANCHOR: all
//! How long things took: counts in buckets, so that a million times need no more room than one.

use std::time::Duration;

/// How many buckets there are for each doubling: a time is known to about 5 percent.
const PER_DOUBLING: f64 = 16.0;

/// Times from a microsecond to some hours.
#[derive(Debug, Default)]
pub struct Histogram {
    counts: Vec<u64>,
    total: u64,
    longest: Duration,
}

impl Histogram {
    /// Counts a time.
    pub fn add(&mut self, time: Duration) {
        let micros = time.as_secs_f64().mul_add(1e6, 1.0);
        let bucket = (micros.log2() * PER_DOUBLING) as usize;
        if self.counts.len() <= bucket {
            self.counts.resize(bucket + 1, 0);
        }
        if let Some(count) = self.counts.get_mut(bucket) {
            *count += 1;
        }
        self.total += 1;
        self.longest = self.longest.max(time);
    }

    /// The time within which this part of all was done, from 0 to 1.
    pub fn quantile(&self, part: f64) -> Duration {
        let wanted = (self.total as f64 * part).ceil().max(1.0);
        let mut seen = 0;
        for (bucket, count) in self.counts.iter().enumerate() {
            seen += count;
            if seen as f64 >= wanted {
                let micros = ((bucket + 1) as f64 / PER_DOUBLING).exp2();
                return Duration::from_secs_f64(micros / 1e6).min(self.longest);
            }
        }
        self.longest
    }

    /// In words.
    pub fn describe(&self) -> String {
        if self.total == 0 {
            return "none".to_owned();
        }
        let ms = |time: Duration| format!("{:.1} ms", time.as_secs_f64() * 1e3);
        let [p50, p95, p99] = [0.5, 0.95, 0.99].map(|part| ms(self.quantile(part)));
        format!("p50 {p50}, p95 {p95}, p99 {p99}, longest {}", ms(self.longest))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantiles_are_right_to_five_percent() {
        let mut histogram = Histogram::default();
        (1..=1000).for_each(|ms| histogram.add(Duration::from_millis(ms)));
        for (part, ms) in [(0.5, 500.0), (0.95, 950.0), (0.99, 990.0), (1.0, 1000.0)] {
            let found = histogram.quantile(part).as_secs_f64() * 1e3;
            assert!((found / ms - 1.0).abs() < 0.05, "{part}: {found}");
        }
    }

    #[test]
    fn nothing_and_zero_do_no_harm() {
        let mut histogram = Histogram::default();
        assert_eq!(histogram.describe(), "none");
        assert_eq!(histogram.quantile(0.5), Duration::ZERO);
        histogram.add(Duration::ZERO);
        assert_eq!(histogram.quantile(0.5), Duration::ZERO);
    }
}
// ANCHOR_END: all
