// ANCHOR: all
//! How much one may send: so much at once, and so much in the long run.
//!
//! Each limit is a *token bucket*: it holds a burst of tokens, each event takes one out, and they
//! come back at a steady rate. The crate `governor` keeps the buckets.

use std::net::IpAddr;
use std::num::NonZeroU32;
use std::sync::Arc;
use std::time::Duration;

use governor::clock::{Clock, DefaultClock};
use governor::middleware::NoOpMiddleware;
use governor::{DefaultDirectRateLimiter, DefaultKeyedRateLimiter, NotUntil, Quota, RateLimiter};
use tokio::time::{interval, sleep};
use tokio_util::sync::CancellationToken;

use crate::address::group;
use crate::telemetry;

// ANCHOR: quotas
/// What one connection may send: 20 events a second, and 100 at once.
const CONNECTION: Quota = quota(20, 100);

/// What one user may send over all connections.
const USER: Quota = quota(40, 150);

/// What all clients of one address may send. Whole offices and villages share one.
const ADDRESS: Quota = quota(400, 2000);

/// The bucket of a user as other programs need it: the time for one event in milliseconds, and how many
/// at once.
pub fn user_bucket() -> (f64, u32) {
    (USER.replenish_interval().as_secs_f64() * 1000.0, USER.burst_size().get())
}
// ANCHOR_END: quotas

/// How many refusals a client may ignore before it is closed: 200, and 10 a second.
const PATIENCE: Quota = quota(10, 200);

/// What one connection may send in bytes, frames and all: 64 KiB a second, and 512 at once.
const BYTES: Quota = quota(64 * 1024, 512 * 1024);

/// How often buckets that are full again are thrown away.
const TIDY: Duration = Duration::from_secs(60);

const fn quota(per_second: u32, burst: u32) -> Quota {
    Quota::per_second(at_least_one(per_second)).allow_burst(at_least_one(burst))
}

const fn at_least_one(number: u32) -> NonZeroU32 {
    match NonZeroU32::new(number) {
        Some(number) => number,
        None => NonZeroU32::MIN,
    }
}

// ANCHOR: limits
/// The buckets that several connections share.
pub struct Limits {
    users: DefaultKeyedRateLimiter<String>,
    addresses: DefaultKeyedRateLimiter<IpAddr>,
    /// Whether anything is limited at all.
    on: bool,
}

/// Why something was refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TooMuch {
    /// After this time the same would be accepted.
    pub wait: Duration,
    /// The client has ignored many refusals: it is time to close the connection.
    pub is_flood: bool,
}

impl Limits {
    /// Full buckets. `on` is `false` for load tests.
    pub fn new(on: bool) -> Self {
        Self { users: RateLimiter::keyed(USER), addresses: RateLimiter::keyed(ADDRESS), on }
    }

    /// Counts a request, be it answered well or not.
    ///
    /// # Errors
    /// There are too many from its address.
    pub fn request(&self, address: IpAddr) -> Result<(), TooMuch> {
        let counted = self.addresses.check_key(&group(address));
        self.judge("address", counted).map_err(|wait| TooMuch { wait, is_flood: false })
    }

    fn judge(
        &self,
        scope: &'static str,
        counted: Result<(), NotUntil<<DefaultClock as Clock>::Instant>>,
    ) -> Result<(), Duration> {
        match counted {
            Err(until) if self.on => {
                telemetry::rate_limited(scope);
                Err(until.wait_time_from(DefaultClock::default().now()))
            }
            _ => Ok(()),
        }
    }

    /// Forgets who has sent nothing for a while, so that the memory does not grow with everyone who
    /// has ever been here. Ends when `stop` is cancelled.
    pub async fn tidy(&self, stop: CancellationToken) {
        let mut ticks = interval(TIDY);
        while stop.run_until_cancelled(ticks.tick()).await.is_some() {
            self.users.retain_recent();
            self.users.shrink_to_fit();
            self.addresses.retain_recent();
            self.addresses.shrink_to_fit();
        }
    }
}
// ANCHOR_END: limits

// ANCHOR: meter
/// What one connection has sent. It counts for the connection, its user and its address.
pub struct Meter {
    limits: Arc<Limits>,
    user: String,
    address: IpAddr,
    events: DefaultDirectRateLimiter<NoOpMiddleware>,
    bytes: DefaultDirectRateLimiter<NoOpMiddleware>,
    refusals: DefaultDirectRateLimiter<NoOpMiddleware>,
}

impl Meter {
    /// Counts what a user sends from an address. `user` is the key of the name.
    pub fn new(limits: Arc<Limits>, user: String, address: IpAddr) -> Self {
        let (events, bytes) = (RateLimiter::direct(CONNECTION), RateLimiter::direct(BYTES));
        let refusals = RateLimiter::direct(PATIENCE);
        Self { limits, user, address: group(address), events, bytes, refusals }
    }

    // ANCHOR: event
    /// Counts an event, be it any good or not.
    ///
    /// # Errors
    /// It is one too many, and is not to be obeyed.
    pub fn event(&self) -> Result<(), TooMuch> {
        let Limits { users, addresses, .. } = &*self.limits;
        let judge = |scope, counted| self.limits.judge(scope, counted);
        judge("connection", self.events.check())
            .and_then(|()| judge("user", users.check_key(&self.user)))
            .and_then(|()| judge("address", addresses.check_key(&self.address)))
            .map_err(|wait| TooMuch { wait, is_flood: self.refusals.check().is_err() })
    }
    // ANCHOR_END: event

    /// Counts bytes, before anybody looks at them.
    ///
    /// # Errors
    /// There are far too many.
    pub fn bytes(&self, count: usize) -> Result<(), TooMuch> {
        let count = NonZeroU32::new(count.try_into().unwrap_or(u32::MAX));
        let spent = count.is_some_and(|count| !matches!(self.bytes.check_n(count), Ok(Ok(()))));
        if spent && self.limits.on {
            telemetry::rate_limited("bytes");
            return Err(TooMuch { wait: Duration::ZERO, is_flood: true });
        }
        Ok(())
    }
}
// ANCHOR_END: meter

/// Waits a moment after a refusal, so that a client which never stops sending is not read as fast as
/// it sends.
pub async fn slow_down() {
    sleep(Duration::from_millis(1)).await;
}

#[cfg(test)]
mod tests {
    use super::*;

    const HERE: IpAddr = IpAddr::V4(std::net::Ipv4Addr::LOCALHOST);

    fn meter(limits: &Arc<Limits>, user: &str) -> Meter {
        Meter::new(Arc::clone(limits), user.to_owned(), HERE)
    }

    fn accepted(meter: &Meter, count: usize) -> usize {
        (0..count).filter(|_| meter.event().is_ok()).count()
    }

    #[test]
    fn a_burst_is_accepted_and_the_rest_is_told_when_to_come_back() {
        let meter = meter(&Arc::new(Limits::new(true)), "ada");
        let accepted = accepted(&meter, 200);
        assert!((100..=105).contains(&accepted), "{accepted}");
        let TooMuch { wait, is_flood } = meter.event().unwrap_err();
        assert!(!wait.is_zero() && wait <= Duration::from_millis(50), "{wait:?}");
        assert!(!is_flood);
    }

    #[test]
    fn two_connections_share_what_their_user_may_send() {
        let limits = Arc::new(Limits::new(true));
        let (one, other) = (meter(&limits, "ada"), meter(&limits, "ada"));
        let both = accepted(&one, 100) + accepted(&other, 100);
        assert!((150..=160).contains(&both), "{both}");
        assert!(accepted(&meter(&limits, "grace"), 100) == 100, "others have their own");
    }

    #[test]
    fn who_ignores_refusals_is_a_flood() {
        let meter = meter(&Arc::new(Limits::new(true)), "ada");
        assert!(accepted(&meter, 400) < 120);
        assert!(meter.event().is_err_and(|too_much| too_much.is_flood));
        assert!(meter.bytes(513 * 1024).is_err(), "and so is who sends too many bytes");
    }

    #[test]
    fn without_limits_everything_passes() {
        let meter = meter(&Arc::new(Limits::new(false)), "ada");
        assert_eq!(accepted(&meter, 5000), 5000);
        assert_eq!(meter.bytes(10_000_000), Ok(()));
    }
}
// ANCHOR_END: all
