// ANCHOR: all
//! How many connections there may be: in all, from one address, of one user.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::Notify;

use crate::address::group;

/// When somebody who was turned away may try again.
const RETRY_AFTER: Duration = Duration::from_secs(5);

/// How many connections may be open that are no chat (yet), in all and from one address: pages,
/// requests, and handshakes that somebody has begun.
const SPARE: Caps = Caps { all: 1024, per_address: 256, per_user: 0 };

/// The most connections of each kind.
#[derive(Debug, Clone, Copy)]
pub struct Caps {
    /// In all.
    pub all: usize,
    /// From one address.
    pub per_address: usize,
    /// Of one user.
    pub per_user: usize,
}

/// What a connection can be one too many of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Full {
    /// The server has as many as it can bear.
    Server,
    /// The address has as many as one may have.
    Address,
    /// The user has as many as one may have.
    User,
}

impl Full {
    /// When trying again makes sense.
    pub fn retry_after(self) -> Duration {
        RETRY_AFTER
    }

    /// The reason in a word, for the metrics.
    pub fn word(self) -> &'static str {
        match self {
            Self::Server => "server_full",
            Self::Address => "address_full",
            Self::User => "user_full",
        }
    }
}

// ANCHOR: seats
/// The seats of a server.
pub struct Seats {
    caps: Caps,
    taken: Mutex<Taken>,
    /// Tells when a seat was left.
    left: Notify,
}

/// How many are taken, and by whom.
#[derive(Default)]
struct Taken {
    all: usize,
    addresses: HashMap<IpAddr, usize>,
    users: HashMap<String, usize>,
}

/// A seat that is taken. Dropping it makes it free again.
pub struct Seat {
    seats: Arc<Seats>,
    address: Option<IpAddr>,
    user: Option<String>,
    /// The same seat as all servers count it.
    pub elsewhere: Option<Box<dyn Send>>,
}

impl Seats {
    /// So many free seats for the chat.
    pub fn new(caps: Caps) -> Arc<Self> {
        Arc::new(Self { caps, taken: Mutex::default(), left: Notify::new() })
    }

    /// Free seats for all sockets of a server with these seats for the chat.
    pub fn for_sockets(caps: Caps) -> Arc<Self> {
        let all = caps.all.saturating_add(SPARE.all);
        let per_address = caps.per_address.saturating_add(SPARE.per_address);
        Self::new(Caps { all, per_address, per_user: SPARE.per_user })
    }

    /// Takes a seat. The address and the user (by the key of the name) count as far as they are
    /// known: behind a proxy, the address is the proxy's until a request has said more.
    ///
    /// # Errors
    /// There is none for this client.
    pub fn take(
        self: &Arc<Self>,
        address: Option<IpAddr>,
        user: Option<&str>,
    ) -> Result<Seat, Full> {
        let address = address.map(group);
        let mut taken = self.lock();
        let of_address = address.map(|it| taken.addresses.get(&it).copied().unwrap_or_default());
        let of_user = user.map(|it| taken.users.get(it).copied().unwrap_or_default());
        if of_address.is_some_and(|count| count >= self.caps.per_address) {
            return Err(Full::Address);
        } else if of_user.is_some_and(|count| count >= self.caps.per_user) {
            return Err(Full::User);
        } else if taken.all >= self.caps.all {
            return Err(Full::Server);
        }
        taken.all += 1;
        if let Some(address) = address {
            *taken.addresses.entry(address).or_default() += 1;
        }
        if let Some(user) = user {
            *taken.users.entry(user.to_owned()).or_default() += 1;
        }
        let (seats, user) = (Arc::clone(self), user.map(str::to_owned));
        Ok(Seat { seats, address, user, elsewhere: None })
    }

    /// The most there may be.
    pub fn caps(&self) -> Caps {
        self.caps
    }

    /// Whether there is no seat for anybody.
    pub fn is_full(&self) -> bool {
        self.lock().all >= self.caps.all
    }

    /// How many are taken.
    pub fn taken(&self) -> usize {
        self.lock().all
    }

    /// Waits until all seats are free.
    pub async fn all_left(&self) {
        while self.taken() > 0 {
            self.left.notified().await;
        }
    }

    fn lock(&self) -> MutexGuard<'_, Taken> {
        self.taken.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

// ANCHOR: drop
impl Drop for Seat {
    fn drop(&mut self) {
        // Before anybody who waits for all seats hears of it.
        drop(self.elsewhere.take());
        let mut taken = self.seats.lock();
        taken.all -= 1;
        if let Some(address) = &self.address {
            leave(&mut taken.addresses, address);
        }
        if let Some(user) = &self.user {
            leave(&mut taken.users, user);
        }
        drop(taken);
        self.seats.left.notify_one();
    }
}
// ANCHOR_END: drop

/// Counts one less. Who has none is forgotten, so that the map does not grow with all who ever came.
fn leave<K: Eq + std::hash::Hash>(counts: &mut HashMap<K, usize>, key: &K) {
    if let Some(count) = counts.get_mut(key) {
        *count -= 1;
        if *count == 0 {
            counts.remove(key);
            shrink(counts);
        }
    }
}

/// Gives memory back once a map is nearly empty.
pub fn shrink<K: Eq + std::hash::Hash, V>(map: &mut HashMap<K, V>) {
    if map.capacity() > 1024 && map.len() < map.capacity() / 8 {
        map.shrink_to(map.len() * 2);
    }
}
// ANCHOR_END: seats

#[cfg(test)]
mod tests {
    use super::*;

    fn address(text: &str) -> Option<IpAddr> {
        Some(text.parse().unwrap())
    }

    #[test]
    fn each_cap_counts_by_itself_and_a_left_seat_is_free() {
        let seats = Seats::new(Caps { all: 3, per_address: 2, per_user: 1 });
        let (here, there) = (address("192.0.2.1"), address("192.0.2.2"));
        let ada = seats.take(here, Some("ada")).ok().unwrap();
        assert_eq!(seats.take(there, Some("ada")).err(), Some(Full::User));
        let _bob = seats.take(here, Some("bob")).ok().unwrap();
        assert_eq!(seats.take(here, Some("eve")).err(), Some(Full::Address));
        let _eve = seats.take(there, Some("eve")).ok().unwrap();
        assert_eq!(seats.take(there, Some("joe")).err(), Some(Full::Server));
        assert!(seats.is_full());
        drop(ada);
        assert!(seats.take(here, Some("ada")).is_ok());
    }

    #[test]
    fn a_cap_of_zero_lets_nobody_in() {
        let none = Seats::new(Caps { all: 9, per_address: 0, per_user: 9 });
        assert_eq!(none.take(address("192.0.2.1"), None).err(), Some(Full::Address));
        let none = Seats::new(Caps { all: 9, per_address: 9, per_user: 0 });
        assert_eq!(none.take(None, Some("ada")).err(), Some(Full::User));
        assert!(none.take(None, None).is_ok());
    }

    #[test]
    fn nobody_is_remembered_who_has_left() {
        let seats = Seats::new(Caps { all: 9, per_address: 9, per_user: 9 });
        drop(seats.take(address("2001:db8::1"), Some("ada")));
        let taken = seats.lock();
        assert!(taken.addresses.is_empty() && taken.users.is_empty() && taken.all == 0);
    }

    #[test]
    fn one_network_of_version_6_is_one_address() {
        let seats = Seats::new(Caps { all: 9, per_address: 1, per_user: 9 });
        let _seat = seats.take(address("2001:db8:1:2::1"), None).ok().unwrap();
        assert_eq!(seats.take(address("2001:db8:1:2::2"), None).err(), Some(Full::Address));
        assert!(seats.take(address("2001:db8:1:3::1"), None).is_ok());
    }
}
// ANCHOR_END: all
