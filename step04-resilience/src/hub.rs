// ANCHOR: all
//! One namespace: who is here, and which rooms are open.

use std::collections::HashMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::mpsc::{self, Receiver, Sender, WeakSender};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use crate::conversation;
use crate::log::Log;
use crate::names;
use crate::protocol::{ErrorCode, RoomInfo};
use crate::room::{self, Command, Room, Who};

/// How many invitations may wait for a client.
const INVITATIONS: usize = 64;

// ANCHOR: state
/// A namespace: its users and its rooms, which no other namespace sees.
pub struct Hub {
    namespace: &'static str,
    log: Log,
    /// By [`names::key`], so that no two have the same name.
    users: Mutex<HashMap<String, User>>,
    /// By name.
    rooms: Mutex<HashMap<String, OpenRoom>>,
}

/// One who is here.
struct User {
    who: Who,
    /// The secret that lets them take their name back.
    session: Uuid,
    /// Ends the connection they have.
    replaced: CancellationToken,
    /// Conversations that somebody has begun with them.
    invitations: Sender<String>,
}

/// What a connection gets when it enters.
pub struct Place {
    /// Its name and id.
    pub who: Who,
    /// The secret for next time.
    pub session: Uuid,
    /// Cancelled when the same user comes back on another connection.
    pub replaced: CancellationToken,
    /// Conversations that somebody begins with this user.
    pub invitations: Receiver<String>,
    /// Whether the log is away.
    pub degraded: watch::Receiver<bool>,
}

/// A room whose task runs.
struct OpenRoom {
    /// Reaches the task, and does not keep it alive: that is what its members do.
    commands: WeakSender<Command>,
    /// How many members it has.
    size: Arc<AtomicUsize>,
    /// Cancelled when the task has ended.
    ended: CancellationToken,
}

/// Locks a map. No lock is ever held across an `.await`, so nobody waits long for one.
fn lock<T>(map: &Mutex<HashMap<String, T>>) -> MutexGuard<'_, HashMap<String, T>> {
    // A lock is poisoned when its holder panicked. Nothing below panics, and a map that lost one
    // update is better than a chat that has ended for everyone.
    map.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Hub {
    /// Makes a namespace without users. Its rooms are as the log has them.
    pub fn new(namespace: &'static str, log: Log) -> Self {
        Self { namespace, log, users: Mutex::default(), rooms: Mutex::default() }
    }
}
// ANCHOR_END: state

// ANCHOR: users
impl Hub {
    // ANCHOR: enter
    /// Adds a user, or gives a user who was cut off their place back.
    ///
    /// # Errors
    /// `bad_name`, or `name_taken` if somebody has the name in another session.
    pub fn enter(&self, name: &str, session: Option<Uuid>) -> Result<Place, ErrorCode> {
        let name = names::normalize(name)?;
        let key = names::key(&name);
        let mut users = lock(&self.users);
        if let Some(user) = users.get(&key) {
            if session != Some(user.session) {
                return Err(ErrorCode::NameTaken);
            }
            // From here on nothing counts that the old connection still sends.
            user.replaced.cancel();
        }
        let who = Who { name, connection: Uuid::new_v4() };
        // A session of before the last restart is as good as a new one.
        let session = session.unwrap_or_else(Uuid::new_v4);
        let (sender, invitations) = mpsc::channel(INVITATIONS);
        let replaced = CancellationToken::new();
        let (user_who, user_replaced) = (who.clone(), replaced.clone());
        let user = User { who: user_who, session, replaced: user_replaced, invitations: sender };
        users.insert(key, user);
        Ok(Place { who, session, replaced, invitations, degraded: self.log.degraded() })
    }
    // ANCHOR_END: enter

    /// Removes a user, unless they have come back on another connection.
    pub fn leave(&self, who: &Who) {
        let mut users = lock(&self.users);
        let key = names::key(&who.name);
        if users.get(&key).is_some_and(|user| user.who == *who) {
            users.remove(&key);
        }
    }

    /// The name of a user who is here, as everyone sees it.
    ///
    /// # Errors
    /// `no_such_user`.
    pub fn find(&self, name: &str) -> Result<String, ErrorCode> {
        let name = names::normalize(name).map_err(|_| ErrorCode::NoSuchUser)?;
        let users = lock(&self.users);
        let user = users.get(&names::key(&name)).ok_or(ErrorCode::NoSuchUser)?;
        Ok(user.who.name.clone())
    }

    /// Asks a user into a conversation. Whoever is not here finds it in the log later.
    pub fn invite(&self, key: &str, room: &str) {
        if let Some(user) = lock(&self.users).get(key) {
            // If 64 wait already, the client is stuck, and about to be told to come back.
            let _ = user.invitations.try_send(room.to_owned());
        }
    }
}
// ANCHOR_END: users

// ANCHOR: rooms
impl Hub {
    /// Gives a sender that reaches a room, and opens the room if it is not open. The room stays
    /// open for as long as somebody holds such a sender.
    pub fn room(self: &Arc<Self>, name: &str) -> Sender<Command> {
        let mut rooms = lock(&self.rooms);
        let before = rooms.get(name);
        if let Some(commands) = before.and_then(|room| room.commands.upgrade()) {
            return commands;
        }
        let before = before.map(|room| room.ended.clone());
        let room = Room::new(self.namespace, name.to_owned(), self.log.clone());
        let (size, ended) = (room.size(), CancellationToken::new());
        let (commands, inbox) = mpsc::channel(room::INBOX);
        rooms.insert(
            name.to_owned(),
            OpenRoom { commands: commands.downgrade(), size, ended: ended.clone() },
        );
        let (hub, name) = (Arc::clone(self), name.to_owned());
        tokio::spawn(async move {
            // Nobody reaches the room's last task any more, but it may still have messages to store.
            if let Some(before) = before {
                before.cancelled().await;
            }
            room.run(inbox).await;
            ended.cancel();
            hub.forget(&name);
        });
        commands
    }

    /// Takes a room off the list when its task has ended, unless it was opened again meanwhile.
    fn forget(&self, name: &str) {
        let mut rooms = lock(&self.rooms);
        if rooms.get(name).is_some_and(|room| room.ended.is_cancelled()) {
            rooms.remove(name);
        }
    }

    /// The rooms that have members, by name. Conversations are nobody else's business.
    pub fn list(&self) -> Vec<RoomInfo> {
        let rooms = lock(&self.rooms);
        let public = rooms.iter().filter(|(name, _)| !conversation::is_one(name));
        let all = public.map(|(name, room)| RoomInfo {
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
