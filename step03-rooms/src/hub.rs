// ANCHOR: all
//! One namespace: who is here, and which rooms are open.

use std::collections::HashMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::mpsc::{Sender, WeakSender};
use uuid::Uuid;

use crate::names;
use crate::outbox::Outbox;
use crate::protocol::{ErrorCode, RoomInfo, ServerEvent, encode, now};
use crate::room::{self, Command};

// ANCHOR: state
/// A namespace: its users and its rooms, which no other namespace sees.
#[derive(Default)]
pub struct Hub {
    /// By [`names::key`], so that no two have the same name.
    users: Mutex<HashMap<String, User>>,
    /// By name.
    rooms: Mutex<HashMap<String, OpenRoom>>,
}

/// One who is here.
struct User {
    name: String,
    outbox: Outbox,
}

/// A room whose task runs.
struct OpenRoom {
    /// Reaches the task, and does not keep it alive: that is what its members do.
    commands: WeakSender<Command>,
    /// How many members it has.
    size: Arc<AtomicUsize>,
}

/// Locks a map. No lock is ever held across an `.await`, so nobody waits long for one.
fn lock<T>(map: &Mutex<HashMap<String, T>>) -> MutexGuard<'_, HashMap<String, T>> {
    // A lock is poisoned when its holder panicked. Nothing below panics, and a map that lost one
    // update is better than a chat that has ended for everyone.
    map.lock().unwrap_or_else(PoisonError::into_inner)
}
// ANCHOR_END: state

// ANCHOR: users
impl Hub {
    /// Adds a user and welcomes them.
    ///
    /// # Errors
    /// `name_taken`.
    pub fn enter(&self, id: Uuid, name: String, outbox: Outbox) -> Result<(), ErrorCode> {
        let mut users = lock(&self.users);
        let key = names::key(&name);
        if users.contains_key(&key) {
            return Err(ErrorCode::NameTaken);
        }
        outbox.tell(ServerEvent::Welcome { id, name: name.clone() });
        users.insert(key, User { name, outbox });
        Ok(())
    }

    /// Removes a user.
    pub fn leave(&self, name: &str) {
        lock(&self.users).remove(&names::key(name));
    }
}
// ANCHOR_END: users

// ANCHOR: direct
impl Hub {
    /// Sends a direct message to the one it is for and to the one who sent it.
    ///
    /// # Errors
    /// `no_such_user`.
    pub fn direct(&self, from: &str, to: &str, text: String) -> Result<(), ErrorCode> {
        let to = names::normalize(to).map_err(|_| ErrorCode::NoSuchUser)?;
        let (from, to) = (names::key(from), names::key(&to));
        let users = lock(&self.users);
        let (Some(sender), Some(recipient)) = (users.get(&from), users.get(&to)) else {
            return Err(ErrorCode::NoSuchUser);
        };
        let message = encode(&ServerEvent::Direct {
            id: Uuid::new_v4(),
            from: sender.name.clone(),
            to: recipient.name.clone(),
            text,
            at: now(),
        });
        if from != to {
            sender.outbox.push(message.clone());
        }
        recipient.outbox.push(message);
        Ok(())
    }
}
// ANCHOR_END: direct

// ANCHOR: rooms
impl Hub {
    /// Gives a sender that reaches a room, and opens the room if it is not open. The room stays
    /// open for as long as somebody holds such a sender.
    pub fn room(self: &Arc<Self>, name: &str) -> Sender<Command> {
        let mut rooms = lock(&self.rooms);
        if let Some(commands) = rooms.get(name).and_then(|room| room.commands.upgrade()) {
            return commands;
        }
        let size = Arc::new(AtomicUsize::new(0));
        let (hub, closed) = (Arc::clone(self), name.to_owned());
        let commands = room::open(name.to_owned(), Arc::clone(&size), move || hub.forget(&closed));
        rooms.insert(name.to_owned(), OpenRoom { commands: commands.downgrade(), size });
        commands
    }

    /// Takes a room off the list when its task has ended, unless it was opened again meanwhile.
    fn forget(&self, name: &str) {
        let mut rooms = lock(&self.rooms);
        if rooms.get(name).is_some_and(|room| room.commands.strong_count() == 0) {
            rooms.remove(name);
        }
    }

    /// The rooms that have members, by name.
    pub fn list(&self) -> Vec<RoomInfo> {
        let rooms = lock(&self.rooms);
        let all = rooms.iter().map(|(name, room)| RoomInfo {
            name: name.clone(),
            members: room.size.load(Ordering::Acquire),
        });
        let mut list: Vec<RoomInfo> = all.filter(|room| room.members > 0).collect();
        list.sort_by(|a, b| a.name.cmp(&b.name));
        list
    }
}
// ANCHOR_END: rooms
// ANCHOR_END: all
