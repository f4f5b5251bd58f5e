// ANCHOR: all
//! One namespace: who is here, and which rooms are open.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::mpsc::{self, Receiver, Sender, WeakSender};
use tokio::sync::{Notify, OwnedSemaphorePermit, Semaphore, watch};
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use crate::accounts::Accounts;
use crate::conversation;
use crate::log::{Log, RoomId};
use crate::names;
use crate::protocol::{ErrorCode, RoomInfo};
use crate::room::{self, Command, Room, Who};
use crate::seats::shrink;
use crate::telemetry;
use crate::users::{Call, Users};

/// How many invitations may wait for a client.
const INVITATIONS: usize = 64;

/// How many rooms a list of rooms has: the largest ones.
pub const LISTED: usize = 1000;

/// In how many rooms a user may be, over all connections.
const MEMBERSHIPS: usize = 256;

// ANCHOR: state
/// A namespace: its users and its rooms, which no other namespace sees.
pub struct Hub {
    namespace: &'static str,
    log: Arc<dyn Log>,
    /// Reaches connections on other servers.
    elsewhere: Arc<dyn Users>,
    accounts: Accounts,
    /// By [`names::key`]: the connections of each user who is here.
    users: Mutex<HashMap<String, User>>,
    /// By name.
    rooms: Mutex<HashMap<String, OpenRoom>>,
    /// How many more rooms may be open, in all namespaces.
    space: Arc<Semaphore>,
}

/// One who is here.
struct User {
    connections: Vec<Connection>,
    /// How many rooms they are in, each connection counted by itself.
    memberships: Arc<Semaphore>,
}

/// One of their connections.
struct Connection {
    id: Uuid,
    /// Names the client, so that it can end a connection of its own that is dead.
    session: Uuid,
    /// When it arrived, as in [`Users::arrive`].
    arrived: u64,
    /// Ends the connection.
    replaced: CancellationToken,
    /// Conversations that somebody has begun with them.
    invitations: Arc<Invitations>,
}

/// The invitations of one connection. A channel would do the same, and keep a kilobyte ready for
/// messages that hardly ever come.
#[derive(Default)]
pub struct Invitations {
    rooms: Mutex<Vec<String>>,
    news: Notify,
}

/// What a connection gets when it enters.
pub struct Place {
    /// Its name and id.
    pub who: Who,
    /// What names the client when it comes back.
    pub session: Uuid,
    /// Cancelled when the same client comes back on another connection.
    pub replaced: CancellationToken,
    /// Conversations that somebody begins with this user.
    pub invitations: Arc<Invitations>,
    /// How many more rooms the user may be in.
    pub memberships: Arc<Semaphore>,
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
    // update is better than a chat that has ended.
    map.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Hub {
    /// Makes a namespace without users. Its rooms are as the log has them; `space` says how many of
    /// them may be open, here and in the other namespaces.
    pub fn new(
        namespace: &'static str,
        log: Arc<dyn Log>,
        elsewhere: Arc<dyn Users>,
        accounts: Accounts,
        space: Arc<Semaphore>,
    ) -> Self {
        let (users, rooms) = (Mutex::default(), Mutex::default());
        Self { namespace, log, elsewhere, accounts, users, rooms, space }
    }

    /// What the namespace is called.
    pub fn namespace(&self) -> &'static str {
        self.namespace
    }
}
// ANCHOR_END: state

impl Invitations {
    /// Adds one, unless so many wait that the client is stuck, and about to be told to come back.
    fn add(&self, room: &str) {
        let mut rooms = self.rooms.lock().unwrap_or_else(PoisonError::into_inner);
        if rooms.len() < INVITATIONS {
            rooms.push(room.to_owned());
        }
        self.news.notify_one();
    }

    /// Waits for the next one. `select!` may drop this while it waits; then nothing is lost.
    pub async fn next(&self) -> String {
        loop {
            let room = self.rooms.lock().unwrap_or_else(PoisonError::into_inner).pop();
            match room {
                Some(room) => return room,
                None => self.news.notified().await,
            }
        }
    }
}

// ANCHOR: users
impl Hub {
    // ANCHOR: enter
    /// Adds a connection of a user who is signed in as `name`. If it is the client with this session
    /// that comes back, its old connection has to go, on whichever server it is. `arrived` is from
    /// [`Users::arrive`].
    pub fn enter(&self, name: &str, session: Option<Uuid>, arrived: u64) -> Place {
        let place = self.enter_as(name, session.unwrap_or_else(Uuid::new_v4), arrived);
        if let Some(session) = session {
            let namespace = self.namespace.to_owned();
            let replaced = Call::Replaced { namespace, session, arrived };
            self.elsewhere.call(&names::key(name), replaced);
        }
        place
    }

    /// Adds a connection with a session that is new, or moves here, and ends no other connection
    /// elsewhere.
    pub fn enter_as(&self, name: &str, session: Uuid, arrived: u64) -> Place {
        let place = self.enter_here(name, session, arrived);
        // In this order: once it is in the list, it can be told.
        self.elsewhere.attend(&names::key(name), arrived);
        place
    }

    fn enter_here(&self, name: &str, session: Uuid, arrived: u64) -> Place {
        let mut users = lock(&self.users);
        let user = users.entry(names::key(name)).or_insert_with(|| User {
            connections: Vec::with_capacity(1),
            memberships: Arc::new(Semaphore::new(MEMBERSHIPS)),
        });
        let replaced = CancellationToken::new();
        for other in user.connections.iter().filter(|other| other.session == session) {
            // Two that come in the same moment may enter in another order than they arrived in.
            let old = if other.arrived <= arrived { &other.replaced } else { &replaced };
            // From here on nothing counts that the old connection still sends.
            old.cancel();
        }
        let who = Who { name: name.to_owned(), connection: Uuid::new_v4() };
        let invitations = Arc::<Invitations>::default();
        user.connections.push(Connection {
            id: who.connection,
            session,
            arrived,
            replaced: replaced.clone(),
            invitations: Arc::clone(&invitations),
        });
        let (memberships, degraded) = (Arc::clone(&user.memberships), self.log.degraded());
        Place { who, session, replaced, invitations, memberships, degraded }
    }
    // ANCHOR_END: enter

    /// Ends the connections of a client that has come back elsewhere, unless they came after that.
    pub fn replace(&self, key: &str, session: Uuid, arrived: u64) {
        let users = lock(&self.users);
        let connections = users.get(key).into_iter().flat_map(|user| &user.connections);
        for old in connections.filter(|old| old.session == session && old.arrived < arrived) {
            old.replaced.cancel();
        }
    }

    /// Removes a connection, and its user with the last one.
    pub fn leave(&self, who: &Who) {
        let mut users = lock(&self.users);
        if let Entry::Occupied(mut user) = users.entry(names::key(&who.name)) {
            user.get_mut().connections.retain(|connection| connection.id != who.connection);
            if user.get().connections.is_empty() {
                user.remove();
            }
        }
        shrink(&mut users);
    }

    /// The name of a registered user, as everyone sees it.
    ///
    /// # Errors
    /// `no_such_user`, or `unavailable` if nobody knows at the moment.
    pub async fn find(&self, name: &str) -> Result<String, ErrorCode> {
        let found = self.accounts.name_of(name).await.map_err(|_| ErrorCode::Unavailable)?;
        found.ok_or(ErrorCode::NoSuchUser)
    }

    /// Asks all connections of a user into a conversation, except for one that is in it already.
    /// Whoever is on no server finds it in the log later.
    pub fn invite(&self, key: &str, room: &str, except: Uuid) {
        self.invite_here(key, room, Some(except));
        let (namespace, room) = (self.namespace.to_owned(), room.to_owned());
        self.elsewhere.call(key, Call::Invited { namespace, room });
    }

    /// The same for those on this server.
    pub fn invite_here(&self, key: &str, room: &str, except: Option<Uuid>) {
        let users = lock(&self.users);
        let connections = users.get(key).into_iter().flat_map(|user| &user.connections);
        for connection in connections.filter(|connection| Some(connection.id) != except) {
            connection.invitations.add(room);
        }
    }
}
// ANCHOR_END: users

// ANCHOR: rooms
impl Hub {
    // ANCHOR: room
    /// Gives a sender that reaches a room, and opens the room if it is not open. The room stays
    /// open for as long as somebody holds such a sender.
    ///
    /// # Errors
    /// `unavailable`: as many rooms are open as there may be.
    pub fn room(self: &Arc<Self>, name: &str) -> Result<Sender<Command>, ErrorCode> {
        let mut rooms = lock(&self.rooms);
        let before = rooms.get(name);
        if let Some(commands) = before.and_then(|room| room.commands.upgrade()) {
            return Ok(commands);
        }
        let space = Arc::clone(&self.space).try_acquire_owned();
        let space = space.map_err(|_full| ErrorCode::Unavailable)?;
        let before = before.map(|room| room.ended.clone());
        let id = RoomId { namespace: self.namespace, room: name.to_owned() };
        let room = Room::new(id, Arc::clone(&self.log));
        let (commands, inbox) = mpsc::channel(room::INBOX);
        let (size, ended) = (room.size(), CancellationToken::new());
        let open = OpenRoom { commands: commands.downgrade(), size, ended: ended.clone() };
        rooms.insert(name.to_owned(), open);
        tokio::spawn(Arc::clone(self).keep(room, inbox, space, before, ended));
        Ok(commands)
    }
    // ANCHOR_END: room

    /// Runs a room until nobody reaches it any more, and takes it off the list.
    async fn keep(
        self: Arc<Self>,
        room: Room,
        inbox: Receiver<Command>,
        space: OwnedSemaphorePermit,
        before: Option<CancellationToken>,
        ended: CancellationToken,
    ) {
        telemetry::rooms(1.0);
        let name = room.name().to_owned();
        // Nobody reaches the room's last task any more, but it may still have messages to store.
        if let Some(before) = before {
            before.cancelled().await;
        }
        room.run(inbox).await;
        ended.cancel();
        self.forget(&name);
        drop(space);
        telemetry::rooms(-1.0);
    }

    /// Takes a room off the list when its task has ended, unless it was opened again meanwhile.
    fn forget(&self, name: &str) {
        let mut rooms = lock(&self.rooms);
        if rooms.get(name).is_some_and(|room| room.ended.is_cancelled()) {
            rooms.remove(name);
        }
        shrink(&mut rooms);
    }

    /// The rooms that have members, by name. Conversations are nobody else's business.
    ///
    /// # Errors
    /// `unavailable`, if only other servers know them and can't be asked.
    pub async fn list(&self) -> Result<Vec<RoomInfo>, ErrorCode> {
        let mut list = match self.log.rooms(self.namespace).await? {
            Some(list) => list,
            None => self.list_here(),
        };
        list.sort_by(|a, b| a.name.cmp(&b.name));
        Ok(list)
    }

    /// The largest rooms of this server, the largest one first.
    fn list_here(&self) -> Vec<RoomInfo> {
        let rooms = lock(&self.rooms);
        let public = rooms.iter().filter(|(name, _)| !conversation::is_one(name));
        let all = public.map(|(name, room)| RoomInfo {
            name: name.clone(),
            members: room.size.load(Ordering::Acquire),
        });
        let mut list: Vec<RoomInfo> = all.filter(|room| room.members > 0).collect();
        list.sort_by(|a, b| b.members.cmp(&a.members).then_with(|| a.name.cmp(&b.name)));
        list.truncate(LISTED);
        list
    }
}
// ANCHOR_END: rooms

#[cfg(test)]
mod tests {
    use std::path::PathBuf;
    use std::time::Duration;

    use futures_util::FutureExt;

    use super::*;
    use crate::accounts::Lifetime;
    use crate::embedded::Embedded;

    struct Scene {
        hub: Hub,
        dir: PathBuf,
    }

    impl Scene {
        fn new() -> Self {
            let dir = std::env::temp_dir().join(Uuid::new_v4().to_string());
            let log = Arc::new(Embedded::open(&dir).unwrap());
            let hour = Duration::from_secs(3600);
            let accounts = Accounts::new(log.clone(), Lifetime { max: hour, idle: hour });
            let hub = Hub::new("", log.clone(), log, accounts, Arc::new(Semaphore::new(1)));
            Self { hub, dir }
        }
    }

    impl Drop for Scene {
        fn drop(&mut self) {
            let _ = std::fs::remove_dir_all(&self.dir);
        }
    }

    #[tokio::test]
    async fn of_one_client_the_connection_stays_that_arrived_last() {
        let scene = Scene::new();
        let session = Some(Uuid::new_v4());
        let ended = |place: &Place| place.replaced.is_cancelled();
        let [two, three, one] = [2, 3, 1].map(|at| scene.hub.enter("Ada", session, at));
        assert!(ended(&two) && !ended(&three) && ended(&one));
        let (other, grace) =
            (scene.hub.enter("ada", None, 4), scene.hub.enter("grace", session, 5));
        assert!(!ended(&three) && !ended(&other) && !ended(&grace));
    }

    #[tokio::test]
    async fn a_client_that_is_back_elsewhere_leaves_what_came_before() {
        let scene = Scene::new();
        let (session, other) = (Uuid::new_v4(), Uuid::new_v4());
        let [old, new] = [(session, 1), (other, 2)]
            .map(|(session, at)| scene.hub.enter("ada", Some(session), at));
        for (session, arrived) in [(session, 1), (other, 2), (Uuid::new_v4(), 9)] {
            scene.hub.replace("ada", session, arrived);
        }
        scene.hub.replace("grace", session, 9);
        assert!(!old.replaced.is_cancelled() && !new.replaced.is_cancelled());
        scene.hub.replace("ada", session, 2);
        assert!(old.replaced.is_cancelled() && !new.replaced.is_cancelled());
    }

    #[tokio::test]
    async fn an_invitation_from_elsewhere_reaches_all_connections() {
        let scene = Scene::new();
        let places = [1, 2].map(|at| scene.hub.enter("ada", None, at));
        scene.hub.invite_here("ada", "dm:ada:grace", None);
        for place in &places {
            let invited = place.invitations.next().now_or_never();
            assert_eq!(invited.as_deref(), Some("dm:ada:grace"));
        }
        scene.hub.invite("ada", "dm:ada:bob", places[0].who.connection);
        assert!(places[0].invitations.next().now_or_never().is_none());
        assert!(places[1].invitations.next().now_or_never().is_some());
    }
}
// ANCHOR_END: all
