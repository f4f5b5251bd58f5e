// ANCHOR: all
//! How often somebody may try to sign in, register or search.
//!
//! Each is a bucket of tokens: so many at once, and one more after each period. The buckets are
//! [`governor`]'s; a bucket that is full again is forgotten.

use std::collections::HashMap;
use std::hash::Hash;
use std::net::IpAddr;
use std::num::NonZeroU32;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::{Duration, Instant};

use governor::clock::{Clock, DefaultClock};
use governor::middleware::StateInformationMiddleware;
use governor::{DefaultKeyedRateLimiter, Quota};
use tokio::time::sleep;

use crate::address::group;
use crate::log::Answer;
use crate::names;
use crate::users::Users;

/// How often buckets that are full again are forgotten.
const TIDY_EVERY: Duration = Duration::from_secs(60);

// ANCHOR: tries
/// How many failed tries an account takes at once, and how long one counts.
pub const FAILURES: (u32, Duration) = (10, Duration::from_secs(6));

/// All of these limits.
pub struct Tries {
    /// Failed tries to sign in, by account: whoever guesses one password from everywhere. If there
    /// are several servers, `users` counts them instead.
    accounts: Failures<String>,
    users: Arc<dyn Users>,
    /// Failed tries to sign in, by address: whoever guesses everyone's password from one place.
    addresses: Failures<IpAddr>,
    /// Registrations, by address.
    registrations: Bucket<IpAddr>,
    /// Searches, by account.
    searches: Bucket<String>,
}

impl Tries {
    /// Makes full buckets, and the task that tidies them up for as long as somebody has them.
    pub fn new(users: Arc<dyn Users>) -> Arc<Self> {
        let (burst, period) = FAILURES;
        let tries = Arc::new(Self {
            accounts: Failures::new(burst, period),
            users,
            addresses: Failures::new(30, Duration::from_secs(6)),
            registrations: Bucket::new(200, Duration::from_secs(1)),
            searches: Bucket::new(30, Duration::from_millis(500)),
        });
        tokio::spawn(tidy(Arc::downgrade(&tries)));
        tries
    }

    /// How long somebody has to wait until they may try to sign in, if they have to.
    ///
    /// # Errors
    /// [`Unavailable`](crate::log::Unavailable): nobody knows.
    pub async fn sign_in_wait(&self, name: &str, address: IpAddr) -> Answer<Option<Duration>> {
        // What is known here first: whoever has to wait does not get so far as to ask others.
        if let Err(wait) = self.addresses.check(&group(address)) {
            return Ok(Some(wait));
        }
        let account = account(name);
        let elsewhere = self.users.blocked(&account, false).await?;
        let wait = elsewhere.or_else(|| self.accounts.check(&account).err());
        Ok(wait.filter(|wait| !wait.is_zero()))
    }

    /// Counts that somebody has tried in vain to sign in.
    pub async fn sign_in_failed(&self, name: &str, address: IpAddr) {
        self.addresses.count(group(address));
        let account = account(name);
        if let Ok(None) = self.users.blocked(&account, true).await {
            self.accounts.count(account);
        }
    }

    /// Takes one registration.
    ///
    /// # Errors
    /// How long they have to wait.
    pub fn register(&self, address: IpAddr) -> Result<(), Duration> {
        self.registrations.take(&group(address))
    }

    /// Takes one search.
    ///
    /// # Errors
    /// How long they have to wait.
    pub fn search(&self, name: &str) -> Result<(), Duration> {
        self.searches.take(&account(name))
    }
}
// ANCHOR_END: tries

/// Which account somebody means, whether there is one or not.
fn account(name: &str) -> String {
    names::normalize(name).map(|name| names::key(&name)).unwrap_or_default()
}

/// Forgets what is no longer needed, for as long as somebody has the limits.
async fn tidy(tries: Weak<Tries>) {
    loop {
        sleep(TIDY_EVERY).await;
        let Some(tries) = tries.upgrade() else { return };
        tries.accounts.tidy();
        tries.addresses.tidy();
        tries.registrations.tidy();
        tries.searches.tidy();
    }
}

/// A bucket for each key.
struct Bucket<K: Hash + Eq + Clone>(DefaultKeyedRateLimiter<K>);

impl<K: Hash + Eq + Clone> Bucket<K> {
    fn new(burst: u32, period: Duration) -> Self {
        Self(DefaultKeyedRateLimiter::keyed(quota(burst, period)))
    }

    /// Takes a token.
    fn take(&self, key: &K) -> Result<(), Duration> {
        let taken = self.0.check_key(key);
        taken.map_err(|until| until.wait_time_from(DefaultClock::default().now()))
    }

    fn tidy(&self) {
        self.0.retain_recent();
        self.0.shrink_to_fit();
    }
}

/// A bucket for each key that only a failure takes from. Whether it will be one is not known
/// before, so whoever has emptied a bucket is remembered.
struct Failures<K: Hash + Eq + Clone> {
    bucket: DefaultKeyedRateLimiter<K, StateInformationMiddleware>,
    period: Duration,
    blocked: Mutex<HashMap<K, Instant>>,
}

impl<K: Hash + Eq + Clone> Failures<K> {
    fn new(burst: u32, period: Duration) -> Self {
        let bucket = DefaultKeyedRateLimiter::keyed(quota(burst, period));
        Self { bucket: bucket.with_middleware(), period, blocked: Mutex::default() }
    }

    /// Whether there is a token.
    fn check(&self, key: &K) -> Result<(), Duration> {
        let until = self.blocked().get(key).copied();
        let wait = until.and_then(|until| until.checked_duration_since(Instant::now()));
        wait.map_or(Ok(()), Err)
    }

    /// Takes a token. After the last one the key is blocked until there is another one.
    fn count(&self, key: K) {
        let left = self.bucket.check_key(&key).map_or(0, |left| left.remaining_burst_capacity());
        if left == 0 {
            self.blocked().insert(key, Instant::now() + self.period);
        }
    }

    fn tidy(&self) {
        self.bucket.retain_recent();
        self.bucket.shrink_to_fit();
        let mut blocked = self.blocked();
        blocked.retain(|_, until| *until > Instant::now());
        blocked.shrink_to_fit();
    }

    fn blocked(&self) -> MutexGuard<'_, HashMap<K, Instant>> {
        self.blocked.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// So many at once, and one more after each period. Neither is zero, so no default is used.
fn quota(burst: u32, period: Duration) -> Quota {
    let burst = NonZeroU32::new(burst).unwrap_or(NonZeroU32::MIN);
    let quota = Quota::with_period(period).unwrap_or(Quota::per_second(NonZeroU32::MIN));
    quota.allow_burst(burst)
}

#[cfg(test)]
mod tests {
    use super::*;

    const HOME: IpAddr = IpAddr::V4(std::net::Ipv4Addr::LOCALHOST);

    /// One server.
    struct Alone;

    impl Users for Alone {}

    #[tokio::test]
    async fn ten_failures_block_an_account_from_everywhere_and_nobody_else() {
        let tries = Tries::new(Arc::new(Alone));
        for n in 0..10u8 {
            let address = IpAddr::from([10, 0, 0, n]);
            assert_eq!(tries.sign_in_wait("ada", address).await, Ok(None), "{n}");
            tries.sign_in_failed("Ada", address).await;
        }
        let wait = tries.sign_in_wait("ADA", HOME).await.unwrap().unwrap();
        assert!((5..=6).contains(&wait.as_secs()), "{wait:?}");
        assert_eq!(tries.sign_in_wait("grace", HOME).await, Ok(None));
    }

    #[tokio::test]
    async fn thirty_failures_block_an_address_for_every_account() {
        let tries = Tries::new(Arc::new(Alone));
        for n in 0..30 {
            let name = format!("user{n}");
            assert_eq!(tries.sign_in_wait(&name, HOME).await, Ok(None));
            tries.sign_in_failed(&name, HOME).await;
        }
        assert!(tries.sign_in_wait("ada", HOME).await.unwrap().is_some());
        assert_eq!(tries.sign_in_wait("ada", [10, 0, 0, 1].into()).await, Ok(None));
    }

    #[test]
    fn who_waits_may_try_once_more() {
        let failures = Failures::new(3, Duration::from_millis(100));
        for _ in 0..3 {
            assert_eq!(failures.check(&1), Ok(()));
            failures.count(1);
        }
        std::thread::sleep(failures.check(&1).unwrap_err() + Duration::from_millis(5));
        assert_eq!(failures.check(&1), Ok(()));
        failures.count(1);
        assert!(failures.check(&1).is_err());
    }

    #[test]
    fn what_is_full_again_is_forgotten() {
        let failures = Failures::new(1, Duration::from_millis(10));
        (0..100).for_each(|key| failures.count(key));
        std::thread::sleep(Duration::from_millis(30));
        failures.tidy();
        assert!(failures.bucket.is_empty() && failures.blocked().is_empty());
    }

    #[test]
    fn the_addresses_of_one_customer_count_as_one() {
        let network = |text: &str| group(text.parse().unwrap());
        assert_eq!(network("2001:db8:1:2:3:4:5:6"), network("2001:db8:1:2::1"));
        assert_ne!(network("2001:db8:1:2::1"), network("2001:db8:1:3::1"));
        assert_eq!(network("::ffff:10.0.0.1"), network("10.0.0.1"));
        assert_ne!(network("10.0.0.1"), network("10.0.0.2"));
    }
}
// ANCHOR_END: all
