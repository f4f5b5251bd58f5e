// ANCHOR: all
// ANCHOR: head
//! Who is here, and how everyone hears everyone.

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use uuid::Uuid;

use crate::names;
use crate::outbox::Outbox;
use crate::protocol::{ErrorCode, ServerEvent, encode, now};
// ANCHOR_END: head

// ANCHOR: state
/// The one place that knows everyone. Each connection's task holds an `Arc` to it.
#[derive(Default)]
pub struct Hub {
    /// By [`names::key`], so that no two have the same name.
    users: Mutex<HashMap<String, User>>,
}

/// One who is here.
struct User {
    name: String,
    outbox: Outbox,
}

impl Hub {
    /// Locks the users. The lock is never held across an `.await`, so nobody waits long for it.
    fn users(&self) -> MutexGuard<'_, HashMap<String, User>> {
        // A lock is poisoned when its holder panicked. Nothing below panics, and a map that lost
        // one update is better than a chat that has ended for everyone.
        self.users.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
// ANCHOR_END: state

// ANCHOR: presence
impl Hub {
    /// Adds a user, welcomes them, and tells the others.
    ///
    /// # Errors
    /// `name_taken`.
    pub fn enter(&self, id: Uuid, name: String, outbox: Outbox) -> Result<(), ErrorCode> {
        let mut users = self.users();
        let key = names::key(&name);
        if users.contains_key(&key) {
            return Err(ErrorCode::NameTaken);
        }
        broadcast(&users, &ServerEvent::UserJoined { name: name.clone() });
        users.insert(key, User { name: name.clone(), outbox: outbox.clone() });
        outbox.tell(ServerEvent::Welcome { id, name, users: sorted_names(&users) });
        Ok(())
    }

    /// Removes a user and tells the others.
    pub fn leave(&self, name: &str) {
        let mut users = self.users();
        if let Some(User { name, .. }) = users.remove(&names::key(name)) {
            broadcast(&users, &ServerEvent::UserLeft { name });
        }
    }
}

/// The names of everyone, in alphabetical order.
fn sorted_names(users: &HashMap<String, User>) -> Vec<String> {
    let mut sorted: Vec<String> = users.values().map(|user| user.name.clone()).collect();
    sorted.sort_by_cached_key(|name| names::key(name));
    sorted
}
// ANCHOR_END: presence

// ANCHOR: fan-out
impl Hub {
    /// Sends what somebody said to everyone, the sender included.
    pub fn say(&self, from: &str, text: String) {
        let message =
            ServerEvent::Message { id: Uuid::new_v4(), from: from.to_owned(), text, at: now() };
        // Two messages can't overtake each other: the lock makes one order, the same for everyone.
        broadcast(&self.users(), &message);
    }
}

/// Puts an event into everyone's outbox.
fn broadcast(users: &HashMap<String, User>, event: &ServerEvent) {
    // Encoded once: a clone of a message shares its bytes.
    let message = encode(event);
    for user in users.values() {
        user.outbox.push(message.clone());
    }
}
// ANCHOR_END: fan-out
// ANCHOR_END: all
