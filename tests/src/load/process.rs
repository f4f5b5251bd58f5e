//! What a server's process costs, as the system counts it, and what it says of itself.

use std::collections::HashMap;
use std::fs;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use tokio::time::{Instant, sleep};

use crate::program::Running;
use crate::raw;

/// How often to look whether something has come about.
const LOOK: Duration = Duration::from_millis(50);

/// A process to look at.
#[derive(Debug, Clone, Copy)]
pub struct Process(u32);

/// What a process occupies.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Size {
    /// The memory, in KiB.
    pub rss_kib: u64,
    /// The open files, sockets among them.
    pub files: usize,
    /// The threads.
    pub threads: usize,
}

impl Process {
    /// The process of a server.
    ///
    /// # Errors
    /// It has ended.
    pub fn of(server: &Running) -> Result<Self> {
        let ended = || format!("the server has ended:\n{}", server.stderr());
        server.pid().map(Self).with_context(ended)
    }

    /// What it occupies now.
    ///
    /// # Errors
    /// It has ended, or this is not Linux.
    pub fn size(self) -> Result<Size> {
        let status = fs::read_to_string(self.path("status")).context("the server has ended")?;
        let field = |name: &str| {
            let line = status.lines().find_map(|line| line.strip_prefix(name));
            line.and_then(|line| line.split_whitespace().next()?.parse::<u64>().ok())
        };
        let files = fs::read_dir(self.path("fd"))?.count();
        let threads = field("Threads:").context("no Threads: in /proc")?;
        let rss_kib = field("VmRSS:").context("no VmRSS: in /proc")?;
        Ok(Size { rss_kib, files, threads: usize::try_from(threads)? })
    }

    /// The CPU time of each of its threads so far. The scheduler counts nanoseconds; `/proc/PID/stat`
    /// has hundredths of a second.
    ///
    /// # Errors
    /// It has ended, or this is not Linux.
    pub fn cpu(self) -> Result<Cpu> {
        let mut threads = HashMap::new();
        for task in fs::read_dir(self.path("task")).context("the server has ended")? {
            let task = task?;
            // A thread may end while we look.
            let Ok(stat) = fs::read_to_string(task.path().join("schedstat")) else { continue };
            let nanos = stat.split_whitespace().next().and_then(|nanos| nanos.parse().ok());
            threads.insert(task.file_name(), Duration::from_nanos(nanos.context("no schedstat")?));
        }
        Ok(Cpu(threads))
    }

    /// Which processors it may use, as in `1` or `0-1`.
    pub fn processors(self) -> String {
        let status = fs::read_to_string(self.path("status")).unwrap_or_default();
        let line = status.lines().find_map(|line| line.strip_prefix("Cpus_allowed_list:"));
        line.unwrap_or("?").trim().to_owned()
    }

    fn path(self, file: &str) -> String {
        format!("/proc/{}/{file}", self.0)
    }
}

/// CPU time by thread.
#[derive(Debug, Clone, Default)]
pub struct Cpu(HashMap<std::ffi::OsString, Duration>);

impl Cpu {
    /// How much was used since then.
    #[must_use]
    pub fn since(&self, before: &Self) -> Duration {
        let used = |(thread, time): (&std::ffi::OsString, &Duration)| {
            time.saturating_sub(before.0.get(thread).copied().unwrap_or_default())
        };
        self.0.iter().map(used).sum()
    }
}

/// What a server says of itself at `/metrics`: the sum of each metric over its labels.
///
/// # Errors
/// It has no admin port, or does not answer there with numbers.
pub async fn metrics(server: &Running) -> Result<HashMap<String, f64>> {
    let admin =
        server.admin_address().context("the server has not printed \"admin on http://…\"")?;
    let answer = raw::request(admin, "GET", "/metrics", &[]).await?;
    ensure!(answer.status == 200, "/metrics: status {}", answer.status);
    let mut all = HashMap::new();
    for line in answer.body.lines().filter(|line| !line.starts_with('#') && !line.is_empty()) {
        let (name, value) = line.rsplit_once(' ').with_context(|| format!("/metrics: {line}"))?;
        let name = name.split('{').next().unwrap_or(name);
        *all.entry(name.to_owned()).or_default() += value.parse::<f64>()?;
    }
    Ok(all)
}

/// One metric, or nothing if the server has none of that name.
///
/// # Errors
/// As for [`metrics`].
pub async fn metric(server: &Running, name: &str) -> Result<Option<f64>> {
    Ok(metrics(server).await?.get(name).copied())
}

/// Waits until something is so. Whether it came about in time.
pub async fn wait_until(limit: Duration, mut is_so: impl AsyncFnMut() -> bool) -> bool {
    let end = Instant::now() + limit;
    while !is_so().await {
        if Instant::now() > end {
            return false;
        }
        sleep(LOOK).await;
    }
    true
}

/// The value below which this part of all lies, such as 0.5 or 0.99; they are sorted for that.
pub fn percentile(times: &mut [Duration], part: f64) -> Duration {
    times.sort_unstable();
    let place = (times.len().saturating_sub(1)) as f64 * part;
    times.get(place.round() as usize).copied().unwrap_or_default()
}

/// Milliseconds, for a table.
pub fn millis(time: Duration) -> String {
    let millis = time.as_secs_f64() * 1000.0;
    if millis < 10.0 { format!("{millis:.2}") } else { format!("{millis:.0}") }
}

/// A number with a comma between thousands, for a table.
pub fn thousands(number: impl TryInto<u64>) -> String {
    let digits = number.try_into().unwrap_or_default().to_string();
    let first = digits.len() % 3;
    let mut text = String::new();
    for (place, digit) in digits.chars().enumerate() {
        if place > 0 && place % 3 == first {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_percentile_is_one_of_the_times() {
        let mut times: Vec<_> = (1..=100).rev().map(Duration::from_millis).collect();
        assert_eq!(percentile(&mut times, 0.5), Duration::from_millis(51));
        assert_eq!(percentile(&mut times, 0.99), Duration::from_millis(99));
        assert_eq!(percentile(&mut [], 0.5), Duration::ZERO);
    }

    #[test]
    fn thousands_are_set_apart() {
        let all = [0_u64, 999, 1000, 20_000, 1_234_567].map(thousands);
        assert_eq!(all, ["0", "999", "1,000", "20,000", "1,234,567"]);
    }
}
