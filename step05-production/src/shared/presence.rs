// ANCHOR: all
//! Who is in which room, on all servers.
//!
//! Each server keeps a list for each room in Redis, and says now and then that it is alive. The list of
//! one that is silent for too long is taken off by whichever server is next. What changes for the room
//! as a whole is told on its channel, with a number: whoever misses one reads everything anew.

use std::collections::{HashMap, HashSet};
use std::mem::take;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use redis::Cmd;
use tokio::sync::Notify;
use tokio::time::{interval, sleep};

use crate::conversation;
use crate::feed::{Feeds, News};
use crate::log::{Answer, RoomId};
use crate::names;
use crate::protocol::{millis, now};
use crate::shared::link::Link;
use crate::shared::scripts::{SCRIPTS, call};
use crate::shared::{feed_of, room_key};

/// For how long a server counts as alive after it has said so.
const ALIVE: Duration = Duration::from_secs(30);

/// How often it says so.
const REFRESH: Duration = Duration::from_secs(10);

/// For how long changes gather, so that a storm of them takes few round trips.
const GATHER: Duration = Duration::from_millis(2);

/// How long to wait before the next try while Redis is away.
const RETRY: Duration = Duration::from_millis(500);

/// How many rooms one round trip brings up to date.
const AT_ONCE: usize = 256;

/// For how long the list of rooms outlives the last server.
const LISTS: Duration = Duration::from_secs(120);

// ANCHOR: presence
/// Who is in the rooms of this server, here and elsewhere.
pub struct Presence {
    link: Arc<Link>,
    /// The rooms that are open here, by channel.
    feeds: Arc<Feeds<String>>,
    crowds: Mutex<Crowds>,
    /// Told when somebody has come or gone.
    changed: Notify,
    /// Held by whoever brings Redis up to date, so that all changes get there in order.
    turn: tokio::sync::Mutex<()>,
}

#[derive(Default)]
struct Crowds {
    /// By channel.
    rooms: HashMap<String, Crowd>,
    /// The ones that Redis has to hear of.
    stale: HashSet<String>,
}

/// Who is in one room.
struct Crowd {
    room: RoomId,
    /// The users on this server: the names by key.
    here: HashMap<String, String>,
    /// Whose coming or going Redis does not know yet: the names by key.
    changes: HashMap<String, String>,
    /// The version of this server's list that Redis has; 0 if it has none.
    version: u64,
    /// Redis may have another list.
    is_unsure: bool,
    /// The users on any server, as far as it is known here.
    everybody: HashMap<String, String>,
    /// How many changes of those are known.
    number: u64,
}

/// What can happen to a user in a room.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Change {
    /// They have come in.
    Entered,
    /// They have left.
    Left,
}

impl Presence {
    /// Begins, and keeps Redis up to date for as long as the program runs.
    pub fn new(link: Arc<Link>, feeds: Arc<Feeds<String>>) -> Arc<Self> {
        let (crowds, changed, turn) = (Mutex::default(), Notify::new(), Default::default());
        let presence = Arc::new(Self { link, feeds, crowds, changed, turn });
        tokio::spawn(Arc::clone(&presence).keep());
        tokio::spawn(Arc::clone(&presence).refresh());
        presence
    }

    /// A user is in a room from now on.
    pub fn enter(&self, room: &RoomId, name: &str) {
        self.change(room, name, |crowd, key| drop(crowd.here.insert(key, name.to_owned())));
    }

    /// A user is in a room no longer.
    pub fn leave(&self, room: &RoomId, name: &str) {
        self.change(room, name, |crowd, key| drop(crowd.here.remove(&key)));
    }

    fn change(&self, room: &RoomId, name: &str, change: impl FnOnce(&mut Crowd, String)) {
        let (channel, key) = (feed_of(&self.link, room), names::key(name));
        let mut crowds = self.lock();
        let crowd = crowds.rooms.entry(channel.clone()).or_insert_with(|| Crowd::of(room));
        crowd.changes.insert(key.clone(), name.to_owned());
        change(crowd, key);
        crowds.stale.insert(channel);
        drop(crowds);
        self.changed.notify_one();
    }

    /// Who is in a room on any server.
    pub fn everybody(&self, room: &RoomId) -> Vec<String> {
        let (channel, crowds) = (feed_of(&self.link, room), self.lock());
        let crowd = crowds.rooms.get(&channel);
        crowd.map(|crowd| crowd.everybody.values().cloned().collect()).unwrap_or_default()
    }

    /// Whether so many changes of a room are known here.
    pub fn is_current(&self, room: &RoomId, number: u64) -> bool {
        let channel = feed_of(&self.link, room);
        self.lock().rooms.get(&channel).is_some_and(|crowd| crowd.number == number)
    }

    /// Reads who is in a room.
    ///
    /// # Errors
    /// [`Unavailable`](crate::log::Unavailable).
    pub async fn meet(&self, room: &RoomId) -> Answer<()> {
        let channel = feed_of(&self.link, room);
        let before = self.lock().rooms.get(&channel).map_or(0, |crowd| crowd.number);
        let keys = ["names", "number"].map(|rest| room_key(&self.link, room, rest));
        let (number, names): (u64, Vec<String>) =
            self.link.ask(&call(&SCRIPTS.crowd, &keys)).await?;
        let mut crowds = self.lock();
        let crowd = crowds.rooms.entry(channel).or_insert_with(|| Crowd::of(room));
        // What was told while the answer was on its way is newer. The number may also be smaller than
        // before: Redis has lost the room.
        if crowd.number == before || crowd.number < number {
            crowd.number = number;
            crowd.everybody = names.into_iter().map(|name| (names::key(&name), name)).collect();
        }
        Ok(())
    }

    // ANCHOR: note
    /// Takes in a change that was told on a channel, `number name`, and gives the news of it for the
    /// room, if it is any.
    pub fn note(&self, channel: &str, change: Change, text: &str) -> Option<News> {
        let (number, name) = text.split_once(' ')?;
        let number: u64 = number.parse().ok()?;
        let mut crowds = self.lock();
        let crowd = crowds.rooms.get_mut(channel)?;
        if number <= crowd.number {
            return None;
        } else if number > crowd.number + 1 {
            // The room has the log compare, which finds that the numbers differ.
            return Some(News::Lost);
        }
        crowd.number = number;
        let (key, name) = (names::key(name), name.to_owned());
        Some(match change {
            Change::Entered => {
                crowd.everybody.insert(key, name.clone());
                News::Entered(name)
            }
            Change::Left => {
                crowd.everybody.remove(&key);
                News::Left(name)
            }
        })
    }
    // ANCHOR_END: note

    /// Nobody is in any room of this server any more.
    pub async fn leave_all(&self) {
        self.empty();
        self.flush().await;
    }

    fn empty(&self) {
        let mut crowds = self.lock();
        let Crowds { rooms, stale } = &mut *crowds;
        for (channel, crowd) in rooms.iter_mut().filter(|(_, crowd)| !crowd.here.is_empty()) {
            crowd.changes.extend(crowd.here.drain());
            stale.insert(channel.clone());
        }
    }

    /// Redis may have lost what it knew of this server.
    pub fn doubt(&self) {
        let mut crowds = self.lock();
        let Crowds { rooms, stale } = &mut *crowds;
        let full = rooms.iter().filter(|(_, crowd)| !crowd.here.is_empty());
        stale.extend(full.map(|(channel, _)| channel.clone()));
        drop(crowds);
        self.changed.notify_one();
    }

    /// Forgets rooms that are not open here any more.
    fn tidy(&self) {
        self.lock().rooms.retain(|channel, crowd| {
            let is_empty = crowd.here.is_empty() && crowd.changes.is_empty();
            !is_empty || self.feeds.has(channel)
        });
    }

    fn lock(&self) -> MutexGuard<'_, Crowds> {
        // As in the hub: a map that lost one update is better than a chat that has ended.
        self.crowds.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Crowd {
    fn of(room: &RoomId) -> Self {
        Self {
            room: room.clone(),
            here: HashMap::new(),
            changes: HashMap::new(),
            version: 0,
            is_unsure: false,
            everybody: HashMap::new(),
            number: 0,
        }
    }
}
// ANCHOR_END: presence

// ANCHOR: keep
impl Presence {
    /// Tells Redis what changes.
    async fn keep(self: Arc<Self>) {
        loop {
            self.changed.notified().await;
            sleep(GATHER).await;
            self.flush().await;
            if !self.lock().stale.is_empty() {
                sleep(RETRY).await;
                self.changed.notify_one();
            }
        }
    }

    /// Tells Redis now and then that this server is alive.
    async fn refresh(self: Arc<Self>) {
        let mut ticks = interval(REFRESH);
        loop {
            ticks.tick().await;
            self.tidy();
            self.doubt();
        }
    }

    /// Returns when Redis knows all that is known here, or is away.
    pub async fn flush(&self) {
        let _turn = self.turn.lock().await;
        loop {
            let channels = self.take_stale();
            if channels.is_empty() || self.tell(&channels).await.is_err() {
                return;
            }
        }
    }

    fn take_stale(&self) -> Vec<String> {
        let mut crowds = self.lock();
        let some: Vec<String> = crowds.stale.iter().take(AT_ONCE).cloned().collect();
        for channel in &some {
            crowds.stale.remove(channel);
        }
        some
    }

    /// Brings Redis up to date about some rooms.
    async fn tell(&self, channels: &[String]) -> Answer<()> {
        let (mut told, mut commands) = (Vec::new(), redis::pipe());
        for channel in channels {
            if let Some(crowd) = self.lock().rooms.get_mut(channel) {
                commands.add_command(self.command(channel, crowd));
                told.push(channel);
            }
        }
        if told.is_empty() {
            return Ok(());
        }
        let answers: Answer<Vec<(i64, u64)>> = self.link.ask_all(&commands).await;
        let sizes = self.settle(&told, answers.as_deref().unwrap_or_default());
        answers?;
        self.list(sizes).await
    }

    /// Takes in what Redis has answered about rooms, and gives their sizes.
    fn settle(&self, told: &[&String], answers: &[(i64, u64)]) -> Vec<(RoomId, usize)> {
        let mut sizes = Vec::new();
        let mut crowds = self.lock();
        for (n, channel) in told.iter().copied().enumerate() {
            let Some(crowd) = crowds.rooms.get_mut(channel) else { continue };
            if let Some(Ok(members)) = answers.get(n).map(|(members, _)| usize::try_from(*members))
            {
                crowd.is_unsure = false;
                sizes.push((crowd.room.clone(), members));
            } else {
                // It is not known whether it was done, or Redis has another list: the next try
                // replaces it.
                crowd.is_unsure = true;
                crowds.stale.insert(channel.clone());
            }
        }
        sizes
    }

    /// The command that brings Redis up to date about a room.
    fn command(&self, channel: &str, crowd: &mut Crowd) -> Cmd {
        let keys = ["nodes", "names", "counts", "number"];
        let keys = keys.map(|rest| room_key(&self.link, &crowd.room, rest));
        let mut command = call(&SCRIPTS.presence, &keys);
        command.arg(channel).arg(room_key(&self.link, &crowd.room, "here:")).arg(self.link.node());
        command.arg(millis(ALIVE)).arg(crowd.version).arg(crowd.version + 1);
        command.arg(u8::from(crowd.is_unsure));
        crowd.version += 1;
        let changes = take(&mut crowd.changes);
        let mut add = |sign: &str, key: &str, name: &str| {
            command.arg(sign).arg(key).arg(name);
        };
        if crowd.is_unsure {
            crowd.here.iter().for_each(|(key, name)| add("+", key, name));
        }
        for (key, name) in &changes {
            let is_here = crowd.here.contains_key(key);
            add(if is_here { "+" } else { "-" }, key, name);
        }
        command
    }

    /// Where the list of the rooms of a namespace is: their sizes, and when a server has said so last.
    pub fn lists(&self, namespace: &str) -> [String; 2] {
        ["sizes", "seen"].map(|rest| self.link.key(&format!("rooms:{namespace}"), rest))
    }

    /// Brings the list of rooms up to date. Conversations are nobody else's business.
    async fn list(&self, sizes: Vec<(RoomId, usize)>) -> Answer<()> {
        let (mut commands, now) = (redis::pipe(), now());
        for (RoomId { namespace, room }, members) in sizes {
            if conversation::is_one(&room) {
                continue;
            }
            let [sizes, seen] = self.lists(namespace);
            if members == 0 {
                commands.zrem(sizes, &room).ignore().zrem(seen, &room).ignore();
            } else {
                commands.zadd(&sizes, &room, members).ignore().zadd(&seen, &room, now).ignore();
                for list in [sizes, seen] {
                    commands.expire(list, LISTS.as_secs().cast_signed()).ignore();
                }
            }
        }
        if commands.is_empty() { Ok(()) } else { self.link.ask_all(&commands).await }
    }
}
// ANCHOR_END: keep
// ANCHOR_END: all
