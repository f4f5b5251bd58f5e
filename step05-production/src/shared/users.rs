// ANCHOR: all
//! What servers tell each other about users, by way of Redis.
//!
//! Each user has a channel, which a server hears while they have a connection there. What is told on
//! it may get lost on the way, so it stays in their inbox for a while: a server reads it for each
//! connection that arrives, and for all of them when its own connection to Redis was cut.

use std::collections::{HashMap, VecDeque};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError, Weak};
use std::time::Duration;

use futures_util::FutureExt;
use futures_util::future::{BoxFuture, try_join_all};
use redis::{Cmd, Pipeline};
use tokio::sync::Notify;
use tokio::time::{interval, sleep};

use crate::log::Answer;
use crate::protocol::{millis, now};
use crate::seats::shrink;
use crate::shared::Shared;
use crate::shared::link::Link;
use crate::shared::pubsub::PubSub;
use crate::shared::scripts::{SCRIPTS, call};
use crate::telemetry;
use crate::tries::FAILURES;
use crate::users::{Arrival, Call, Callee, Users};

/// For how long a connection counts after its server has said that it is there.
const ALIVE: Duration = Duration::from_secs(45);

/// How often it says so.
const REFRESH: Duration = Duration::from_secs(20);

/// For how long a call stays in the inbox: longer than a server is ever deaf while Redis is there.
const KEPT: Duration = Duration::from_secs(60 * 60);

/// How many calls an inbox has at most.
const INBOX: usize = 1000;

/// How many commands may wait for Redis. Calls that find no place are left out.
const WAITING: usize = 4096;

/// How many users one round trip is about.
const AT_ONCE: usize = 256;

/// How long to wait before the next try while Redis is away.
const RETRY: Duration = Duration::from_millis(500);

/// How the name of a channel on which somebody is called ends.
const NEWS: &str = "news";

/// How the tags of users begin.
const USER: &str = "u:";

// ANCHOR: attendance
/// Who has connections on this server.
pub struct Attendance {
    link: Arc<Link>,
    state: Mutex<State>,
    callee: OnceLock<Weak<dyn Callee>>,
    /// All that was told before this time has been heard here, in µs since 1970 by the clock of Redis.
    heard: AtomicU64,
    /// Told when there is something to tell Redis.
    errand: Notify,
    /// Told when somebody's inbox is to be read.
    unread: Notify,
    /// Held by whoever tells Redis, so that all of it gets there in order.
    turn: tokio::sync::Mutex<()>,
}

#[derive(Default)]
struct State {
    users: HashMap<String, Attending>,
    /// Whose inbox is to be read, and from which time on.
    unread: HashMap<String, u64>,
    /// What Redis is to do: nobody waits for the answer.
    errands: VecDeque<Cmd>,
    /// How many connections there have been.
    seats: u64,
    /// When the last of them arrived.
    latest: u64,
}

/// A user who is here.
struct Attending {
    /// Their connections.
    seats: Vec<u64>,
    /// When the first of them arrived.
    since: u64,
}

/// A connection that counts.
struct Seat {
    attendance: Arc<Attendance>,
    user: String,
    number: u64,
}

impl Attendance {
    /// Nobody is here yet.
    pub fn new(link: Arc<Link>) -> Arc<Self> {
        let (errand, unread, turn) = (Notify::new(), Notify::new(), Default::default());
        let (state, callee, heard) = (Mutex::default(), OnceLock::new(), AtomicU64::new(0));
        Arc::new(Self { link, state, callee, heard, errand, unread, turn })
    }

    /// Begins to speak with Redis, for as long as the program runs.
    pub fn start(self: &Arc<Self>, pubsub: PubSub) {
        tokio::spawn(Arc::clone(self).keep());
        tokio::spawn(Arc::clone(self).read(pubsub));
        tokio::spawn(Arc::clone(self).refresh());
    }

    /// The key of something that belongs to a user.
    fn key(&self, user: &str, rest: &str) -> String {
        self.link.key(&format!("{USER}{user}"), rest)
    }

    /// The channel of this server, on which it hears how far it has come.
    fn own_channel(&self) -> String {
        self.link.key(&format!("n:{}", self.link.node()), NEWS)
    }

    fn callee(&self) -> Option<Arc<dyn Callee>> {
        self.callee.get().and_then(Weak::upgrade)
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // As in the hub: a map that lost one update is better than a chat that has ended.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
// ANCHOR_END: attendance

// ANCHOR: users
impl Users for Shared {
    fn arrive<'a>(&'a self, user: &'a str, most: usize) -> BoxFuture<'a, Option<Arrival>> {
        self.attendance.arrive(user, most).boxed()
    }

    fn attend(&self, user: &str, arrived: u64) {
        self.attendance.attend(user, arrived);
    }

    fn call(&self, user: &str, call: Call) {
        let command = self.attendance.call(user, &call);
        self.attendance.send(command);
    }

    fn connect(&self, callee: Weak<dyn Callee>) {
        // There is one for the whole run of a server.
        let _ = self.attendance.callee.set(callee);
    }

    fn blocked<'a>(
        &'a self,
        account: &'a str,
        failed: bool,
    ) -> BoxFuture<'a, Answer<Option<Duration>>> {
        async move {
            let (burst, period) = FAILURES;
            let mut tries = call(&SCRIPTS.failures, &[self.attendance.key(account, "failures")]);
            tries.arg(burst).arg(millis(period)).arg(u8::from(failed));
            let wait = self.link.ask::<u64>(&tries).await?;
            Ok(Some(Duration::from_millis(wait)))
        }
        .boxed()
    }
}
// ANCHOR_END: users

// ANCHOR: seats
impl Attendance {
    /// Takes a seat. While Redis is away, nobody else's count.
    async fn arrive(self: &Arc<Self>, user: &str, most: usize) -> Option<Arrival> {
        let number = self.next_seat();
        // Before anything else: whoever gives up while Redis is asked leaves no seat behind.
        let seat = Seat { attendance: Arc::clone(self), user: user.to_owned(), number };
        let mut take = self.seat(user, most);
        take.arg(self.seat_name(number));
        let (is_free, at) = match self.link.ask::<(bool, u64)>(&take).await {
            Ok(answer) => answer,
            // Later than any that is known here, and by the clock of this machine: what others were
            // told before is not to end this connection once Redis is back.
            Err(_unavailable) => (true, self.lock().latest.saturating_add(1).max(now() * 1000)),
        };
        if !is_free {
            return None;
        }
        self.hold(user, number, at);
        Some(Arrival { at, seat: Some(Box::new(seat)) })
    }

    fn hold(&self, user: &str, number: u64, at: u64) {
        let new = || Attending { seats: Vec::with_capacity(1), since: at };
        let mut state = self.lock();
        state.latest = state.latest.max(at);
        state.users.entry(user.to_owned()).or_insert_with(new).seats.push(number);
    }

    fn next_seat(&self) -> u64 {
        let mut state = self.lock();
        state.seats += 1;
        state.seats
    }

    /// The beginning of the command that takes or keeps seats.
    fn seat(&self, user: &str, most: usize) -> Cmd {
        let mut seat = call(&SCRIPTS.seat, &["seats", "clock"].map(|rest| self.key(user, rest)));
        seat.arg(most).arg(millis(ALIVE));
        seat
    }

    fn seat_name(&self, number: u64) -> String {
        format!("{}:{number}", self.link.node())
    }

    fn leave(&self, user: &str, number: u64) {
        let mut release = redis::cmd("ZREM");
        release.arg(self.key(user, "seats")).arg(self.seat_name(number));
        let mut state = self.lock();
        if let Some(attending) = state.users.get_mut(user) {
            attending.seats.retain(|other| *other != number);
            if attending.seats.is_empty() {
                state.users.remove(user);
                state.unread.remove(user);
                shrink(&mut state.users);
            }
        }
        state.errands.push_back(release);
        drop(state);
        self.errand.notify_one();
    }

    /// Tells Redis now and then which connections are still there, and asks it for the time.
    async fn refresh(self: Arc<Self>) {
        let mut ticks = interval(REFRESH);
        loop {
            ticks.tick().await;
            let users: Vec<String> = self.lock().users.keys().cloned().collect();
            for some in users.chunks(AT_ONCE) {
                // Redis is away, or slow: there is a next time.
                let _ = self.keep_seats(some).await;
            }
            let mut mark = call(&SCRIPTS.mark, &[]);
            let _ = self.link.ask::<()>(mark.arg(self.own_channel())).await;
        }
    }

    async fn keep_seats(&self, users: &[String]) -> Answer<()> {
        let commands = self.seats_to_keep(users);
        if commands.is_empty() { Ok(()) } else { self.link.ask_all(&commands).await }
    }

    fn seats_to_keep(&self, users: &[String]) -> Pipeline {
        let (mut commands, state) = (redis::pipe(), self.lock());
        for (user, attending) in users.iter().filter_map(|user| state.users.get_key_value(user)) {
            let mut keep = self.seat(user, 0);
            for number in &attending.seats {
                keep.arg(self.seat_name(*number));
            }
            commands.add_command(keep).ignore();
        }
        commands
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        self.attendance.leave(&self.user, self.number);
    }
}
// ANCHOR_END: seats

// ANCHOR: calls
impl Attendance {
    /// The command that calls a user.
    pub fn call(&self, user: &str, what: &Call) -> Cmd {
        // Names and numbers always have a JSON form: the default is never used.
        let json = serde_json::to_string(what).unwrap_or_default();
        let mut tell = call(&SCRIPTS.call, &["inbox", "clock"].map(|rest| self.key(user, rest)));
        tell.arg(self.key(user, NEWS)).arg(self.link.node());
        tell.arg(json).arg(INBOX).arg(KEPT.as_secs());
        tell
    }

    /// Has a command sent to Redis, for which nobody waits.
    fn send(&self, command: Cmd) {
        let mut state = self.lock();
        if state.errands.len() >= WAITING {
            telemetry::feed_dropped();
            return;
        }
        state.errands.push_back(command);
        drop(state);
        self.errand.notify_one();
    }

    /// Tells Redis what there is to tell.
    async fn keep(self: Arc<Self>) {
        let mut degraded = self.link.degraded();
        loop {
            self.errand.notified().await;
            while self.flush().await.is_err() {
                sleep(RETRY).await;
                // The other half of this channel ends with the program.
                let _ = degraded.wait_for(|degraded| !degraded).await;
            }
        }
    }

    /// Returns when Redis has been told all of it. If it is not known whether, each of these commands
    /// may be done twice: the second time it changes nothing.
    ///
    /// # Errors
    /// [`Unavailable`](crate::log::Unavailable): what is left waits for the next time.
    pub async fn flush(&self) -> Answer<()> {
        let _turn = self.turn.lock().await;
        loop {
            let errands = self.take_errands();
            if errands.is_empty() {
                return Ok(());
            }
            let mut commands = redis::pipe();
            for command in &errands {
                commands.add_command(command.clone()).ignore();
            }
            if let Err(unavailable) = self.link.ask_all::<()>(&commands).await {
                let mut state = self.lock();
                errands.into_iter().rev().for_each(|command| state.errands.push_front(command));
                return Err(unavailable);
            }
        }
    }

    fn take_errands(&self) -> Vec<Cmd> {
        let mut state = self.lock();
        let most = state.errands.len().min(AT_ONCE);
        state.errands.drain(..most).collect()
    }
}
// ANCHOR_END: calls

// ANCHOR: hear
impl Attendance {
    /// Whether users or servers are called on a channel, and not rooms.
    pub fn is_news(channel: &str) -> bool {
        channel.ends_with(NEWS)
    }

    /// Takes what was said on such a channel.
    pub fn hear(&self, channel: &str, payload: &str) {
        if let Some(user) = user_of(channel) {
            // What this server has told itself its connections know.
            match payload.split_once(' ') {
                Some((node, json)) if node != self.link.node() => self.pass_on(user, json),
                _ => {}
            }
        } else if let Ok(time) = payload.parse() {
            // It may be an earlier one, if the clock was set back.
            self.heard.store(time, Ordering::Release);
        }
    }

    fn pass_on(&self, user: &str, json: &str) {
        // What can't be read, no server of this version has written.
        if let (Ok(call), Some(callee)) = (serde_json::from_str(json), self.callee()) {
            callee.hear(user, call);
        }
    }

    /// Whether anybody is here who is called on a channel.
    pub fn needs(&self, channel: &str) -> bool {
        match user_of(channel) {
            Some(user) => self.lock().users.contains_key(user),
            None => channel == self.own_channel(),
        }
    }

    /// Something may have been lost: reads the inboxes of all who are here.
    pub fn lose(&self) {
        let heard = self.heard.load(Ordering::Acquire);
        let mut state = self.lock();
        let State { users, unread, .. } = &mut *state;
        for (user, attending) in users {
            note(unread, user, attending.since.max(heard));
        }
        drop(state);
        self.unread.notify_one();
        if let Some(callee) = self.callee() {
            callee.lose();
        }
    }

    fn attend(&self, user: &str, arrived: u64) {
        note(&mut self.lock().unread, user, arrived);
        self.unread.notify_one();
    }

    /// Reads inboxes, of users whose channels are heard from then on.
    async fn read(self: Arc<Self>, pubsub: PubSub) {
        while pubsub.subscribe(self.own_channel()).await.is_err() {
            sleep(RETRY).await;
        }
        loop {
            self.unread.notified().await;
            loop {
                let unread = self.take_unread();
                if unread.is_empty() {
                    break;
                }
                if self.catch_up(&pubsub, &unread).await.is_err() {
                    self.put_back(unread);
                    sleep(RETRY).await;
                }
            }
        }
    }

    fn put_back(&self, unread: Vec<(String, u64)>) {
        let mut state = self.lock();
        unread.iter().for_each(|(user, since)| note(&mut state.unread, user, *since));
    }

    fn take_unread(&self) -> Vec<(String, u64)> {
        let mut state = self.lock();
        let State { users, unread, .. } = &mut *state;
        // Who has left meanwhile has nothing to read.
        unread.retain(|user, _| users.contains_key(user));
        let some: Vec<String> = unread.keys().take(AT_ONCE).cloned().collect();
        some.into_iter().filter_map(|user| unread.remove_entry(&user)).collect()
    }

    /// Subscribes to the channels of some users, and then passes on what is in their inboxes: in this
    /// order, so that nothing is missed between the two.
    async fn catch_up(&self, pubsub: &PubSub, unread: &[(String, u64)]) -> Answer<()> {
        let channels = unread.iter().map(|(user, _)| self.key(user, NEWS));
        try_join_all(channels.map(|channel| pubsub.subscribe(channel))).await?;
        let mut read = redis::pipe();
        for (user, since) in unread {
            read.cmd("ZRANGEBYSCORE").arg(self.key(user, "inbox")).arg(*since).arg("+inf");
        }
        let inboxes: Vec<Vec<String>> = self.link.ask_all(&read).await?;
        for ((user, _), inbox) in unread.iter().zip(inboxes) {
            inbox.iter().for_each(|json| self.pass_on(user, json));
        }
        Ok(())
    }
}

/// Notes from which time on somebody's inbox is to be read.
fn note(unread: &mut HashMap<String, u64>, user: &str, since: u64) {
    let noted = unread.entry(user.to_owned()).or_insert(since);
    *noted = since.min(*noted);
}

/// The user in the tag of a key or channel.
fn user_of(channel: &str) -> Option<&str> {
    let (_, rest) = channel.split_once('{')?;
    let (tag, _) = rest.split_once('}')?;
    tag.strip_prefix(USER)
}
// ANCHOR_END: hear

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_channel_says_whose_it_is() {
        assert_eq!(user_of("chat:{u:ada}:news"), Some("ada"));
        assert_eq!(user_of("chat:{n:0123}:news"), None);
        assert_eq!(user_of("chat:{/rust}:feed"), None);
        assert!(Attendance::is_news("chat:{u:ada}:news"));
        assert!(!Attendance::is_news("chat:{/news}:feed"));
    }

    #[test]
    fn an_inbox_is_read_from_the_earliest_time_on() {
        let mut unread = HashMap::new();
        for since in [7, 5, 9] {
            note(&mut unread, "ada", since);
        }
        assert_eq!(unread["ada"], 5);
    }
}
// ANCHOR_END: all
