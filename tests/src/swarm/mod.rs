//! Many clients that lose nothing: each has a session, an outbox and cursors, comes back after every
//! cut, and writes down what it has seen.
//!
//! They are made for tests and independent of the clients that are built for people, so that both
//! do not share a mistake.

pub mod line;

use std::collections::HashSet;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use anyhow::{Result, bail};
use serde_json::{Value, json};
use tokio::select;
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep, sleep_until, timeout, timeout_at};
use uuid::Uuid;

use crate::chance::Chance;
use crate::event::text;
use crate::model::{Draft, Figures, Log, Record};
use line::{Caller, Incoming, Line};

/// How often to look whether something has come about.
const LOOK: Duration = Duration::from_millis(10);

/// Nobody waits for longer than this before the next try, and nobody tries at once.
const SHORTEST: Duration = Duration::from_millis(10);

/// After what time to send again what came too early.
const SOON: Duration = Duration::from_millis(300);

/// The goodbye to a connection of which there is a newer one. Where requests may be held up for seconds
/// on their way, it may also be one that its client had given up.
const REPLACED: u16 = 4500;

/// How the events begin that say who comes and who goes. In a storm there are millions of them, and
/// nobody here reads them.
const PRESENCE: &str = "{\"type\":\"member_";

/// How the clients of a swarm behave.
#[derive(Debug, Clone)]
pub struct Habits {
    /// The rooms that each is in.
    pub rooms: Vec<String>,
    /// How long a connection may take to come about, and a frame to go out.
    pub patience: Duration,
    /// How often to send a ping.
    pub ping: Duration,
    /// How long the server may be silent.
    pub silence: Duration,
    /// The first wait before the next try is between nothing and this; then it doubles.
    pub backoff: Duration,
    /// The longest it gets.
    pub longest_backoff: Duration,
    /// How long a message is, in characters.
    pub length: usize,
    /// Whether a room may begin anew: where the log may lose its end, that is right.
    pub forgives: bool,
}

impl Habits {
    /// Habits of people in a hurry: faults in a test last for less than a second.
    pub fn hasty(rooms: &[&str]) -> Self {
        Self {
            rooms: rooms.iter().map(|&room| room.to_owned()).collect(),
            patience: Duration::from_secs(3),
            ping: Duration::from_millis(500),
            silence: Duration::from_millis(1500),
            backoff: Duration::from_millis(50),
            longest_backoff: Duration::from_millis(500),
            length: 20,
            forgives: false,
        }
    }

    /// Habits as a browser should have them.
    pub fn patient(rooms: &[&str]) -> Self {
        Self {
            patience: Duration::from_secs(10),
            ping: Duration::from_secs(10),
            silence: Duration::from_secs(25),
            backoff: Duration::from_secs(1),
            longest_backoff: Duration::from_secs(10),
            ..Self::hasty(rooms)
        }
    }
}

/// One client of a swarm.
#[derive(Debug, Clone)]
pub struct Person {
    /// The name.
    pub name: String,
    /// Where it connects to.
    pub address: SocketAddr,
    /// What says who it is, from milestone 5 on.
    pub token: Option<String>,
    /// Whether it has to do without a WebSocket. That takes a token.
    pub without_websocket: bool,
}

/// What all clients of a swarm are told.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Order {
    /// To say something, this often on average.
    Talk(Duration),
    /// To listen.
    Listen,
}

/// Many clients. Dropping it ends them.
#[derive(Debug)]
pub struct Swarm {
    members: Vec<Member>,
    orders: watch::Sender<Order>,
    /// Counts how often everyone was asked to begin anew with what is stored.
    reloads: watch::Sender<u64>,
    arrivals: Arrivals,
}

/// When somebody has knocked.
type Arrivals = Arc<Mutex<Vec<Instant>>>;

/// One of them.
#[derive(Debug)]
struct Member {
    record: Arc<Mutex<Record>>,
    is_here: Arc<AtomicBool>,
    task: JoinHandle<()>,
}

impl Drop for Member {
    fn drop(&mut self) {
        self.task.abort();
    }
}

fn lock<T>(record: &Mutex<T>) -> MutexGuard<'_, T> {
    record.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Swarm {
    /// Starts so many clients, which take turns with the addresses.
    pub fn start(
        count: usize,
        addresses: &[SocketAddr],
        habits: &Habits,
        chance: &mut Chance,
    ) -> Self {
        let people = addresses.iter().cycle().take(count).enumerate().map(|(number, address)| {
            let (name, address) = (format!("user{number}"), *address);
            Person { name, address, token: None, without_websocket: false }
        });
        Self::of(people, habits, chance)
    }

    /// Starts these clients.
    pub fn of(
        people: impl IntoIterator<Item = Person>,
        habits: &Habits,
        chance: &mut Chance,
    ) -> Self {
        let (orders, order) = watch::channel(Order::Listen);
        let (reloads, reload) = watch::channel(0);
        let arrivals: Arrivals = Arc::default();
        let members = people.into_iter().map(|person| {
            let forgives = habits.forgives;
            let record = Record { name: person.name.clone(), forgives, ..Record::default() };
            let record = Arc::new(Mutex::new(record));
            let is_here = Arc::new(AtomicBool::new(false));
            let life = Life {
                person,
                habits: habits.clone(),
                record: Arc::clone(&record),
                is_here: Arc::clone(&is_here),
                turns: Turns { order: order.clone(), chance: chance.fork(), next: None },
                reload: reload.clone(),
                arrivals: Arc::clone(&arrivals),
                chance: chance.fork(),
                said: 0,
            };
            Member { record, is_here, task: tokio::spawn(life.live()) }
        });
        let members = members.collect();
        Self { members, orders, reloads, arrivals }
    }

    /// Lets everyone talk, each this often on average.
    pub fn talk(&self, every: Duration) {
        self.orders.send_replace(Order::Talk(every));
    }

    /// Lets everyone listen.
    pub fn listen(&self) {
        self.orders.send_replace(Order::Listen);
    }

    /// Breaks every connection off from within, as a reload of the page does: what is left is what
    /// is stored.
    pub fn reload(&self) {
        self.reloads.send_modify(|count| *count += 1);
    }

    /// How many have a connection and have joined their rooms.
    pub fn here(&self) -> usize {
        self.members.iter().filter(|member| member.is_here.load(Ordering::SeqCst)).count()
    }

    /// How many messages were acked.
    pub fn acked(&self) -> usize {
        self.members.iter().map(|member| lock(&member.record).acked.len()).sum()
    }

    /// How many messages wait for their ack.
    pub fn waiting(&self) -> usize {
        self.members.iter().map(|member| lock(&member.record).outbox.len()).sum()
    }

    /// Waits until everyone is here.
    ///
    /// # Errors
    /// It takes too long.
    pub async fn all_here(&self, limit: Duration) -> Result<Duration> {
        let what = || format!("{} of {} are here", self.here(), self.members.len());
        wait(limit, || self.here() == self.members.len(), what).await
    }

    /// Waits until every message is acked.
    ///
    /// # Errors
    /// It takes too long.
    pub async fn all_acked(&self, limit: Duration) -> Result<Duration> {
        let what = || format!("{} messages are not acked", self.waiting());
        wait(limit, || self.waiting() == 0, what).await
    }

    /// Waits until everyone has everything in the log.
    ///
    /// # Errors
    /// It takes too long.
    pub async fn all_complete(&self, log: &Log, limit: Duration) -> Result<Duration> {
        let is_complete = |member: &Member| {
            let record = lock(&member.record);
            let mut rooms = log.iter();
            rooms.all(|(room, all)| {
                record.views.get(room).is_some_and(|view| view.at >= all.len() as u64)
            })
        };
        let complete = || self.members.iter().filter(|member| is_complete(member)).count();
        let what = || format!("{} of {} have everything", complete(), self.members.len());
        wait(limit, || complete() == self.members.len(), what).await
    }

    /// How often clients have knocked since then: all together, and at most within a time as long as
    /// this.
    pub fn arrivals(&self, since: Instant, within: Duration) -> (usize, usize) {
        let mut times = lock(&self.arrivals).clone();
        times.retain(|time| *time >= since);
        times.sort_unstable();
        let until = |end: Instant| times.partition_point(|time| *time < end);
        let most =
            times.iter().enumerate().map(|(first, time)| until(*time + within) - first).max();
        (times.len(), most.unwrap_or_default())
    }

    /// How many streams have ended for a newer one, over all clients.
    pub fn replaced(&self) -> usize {
        self.members.iter().map(|member| lock(&member.record).replaced).sum()
    }

    /// How many rooms have begun anew, over all clients.
    pub fn begun_anew(&self) -> usize {
        self.members.iter().map(|member| lock(&member.record).begun_anew).sum()
    }

    /// What was acked until now.
    pub fn acked_ids(&self) -> HashSet<Uuid> {
        let ids = |member: &Member| lock(&member.record).acked.keys().copied().collect::<Vec<_>>();
        self.members.iter().flat_map(ids).collect()
    }

    /// Forgets what else was acked than these: the log has lost it. Gives how much.
    pub fn forget_acked(&self, kept: &HashSet<Uuid>) -> usize {
        let forget = |member: &Member| {
            let mut record = lock(&member.record);
            let acked = record.acked.len();
            record.acked.retain(|id, _| kept.contains(id));
            acked - record.acked.len()
        };
        self.members.iter().map(forget).sum()
    }

    /// What everyone has sent and seen, compared with the log.
    pub fn compare(&self, log: &Log) -> Figures {
        let records: Vec<Record> =
            self.members.iter().map(|member| lock(&member.record).clone()).collect();
        Figures::compare(&records, log)
    }
}

/// Waits until something is so, and gives the time it took.
async fn wait(
    limit: Duration,
    is_so: impl Fn() -> bool,
    what: impl Fn() -> String,
) -> Result<Duration> {
    let since = Instant::now();
    while !is_so() {
        if since.elapsed() > limit {
            bail!("after {limit:?} only {}", what());
        }
        sleep(LOOK).await;
    }
    Ok(since.elapsed())
}

/// What a client's task owns.
struct Life {
    person: Person,
    habits: Habits,
    /// What a browser keeps in IndexedDB, and what the test looks at.
    record: Arc<Mutex<Record>>,
    is_here: Arc<AtomicBool>,
    turns: Turns,
    reload: watch::Receiver<u64>,
    arrivals: Arrivals,
    chance: Chance,
    said: usize,
}

/// Why a connection ended.
struct Lost;

impl Life {
    /// Connects, again and again.
    async fn live(mut self) {
        let mut attempt = 0;
        loop {
            if let Some(mut line) = self.connect().await {
                attempt = 0;
                let Lost = self.chat(&mut line).await;
                self.is_here.store(false, Ordering::SeqCst);
            }
            let longest = self.habits.backoff.saturating_mul(1 << attempt.min(10));
            let longest = longest.min(self.habits.longest_backoff);
            attempt += 1;
            let until = Instant::now() + self.chance.between(SHORTEST, longest);
            self.talk_alone(until).await;
        }
    }

    /// Who has no connection can still type.
    async fn talk_alone(&mut self, until: Instant) {
        loop {
            select! {
                () = sleep_until(until) => return,
                () = self.turns.next() => { self.write(); }
            }
        }
    }

    /// Connects, with the session of the last time.
    async fn connect(&mut self) -> Option<Line> {
        lock(&self.arrivals).push(Instant::now());
        let (session, last_id) = {
            let record = lock(&self.record);
            (record.session.clone(), record.last_id.clone())
        };
        let Person { name, address, token, without_websocket } = &self.person;
        let (session, token) = (session.as_deref(), token.as_deref());
        let caller = Caller { address: *address, name, token, session };
        let opening = async {
            if *without_websocket {
                Line::by_requests(caller, &self.habits.rooms, &last_id).await
            } else {
                Line::by_websocket(caller).await
            }
        };
        // A hello that is given up may still be heard, after the next one: it takes more patience.
        let patience = self.habits.patience * if *without_websocket { 4 } else { 1 };
        let (line, welcome) = timeout(patience, opening).await.ok().flatten()?;
        let mut record = lock(&self.record);
        record.session = Some(text(&welcome, "session").to_owned());
        record.connections += 1;
        Some(line)
    }

    /// Joins with the cursors, sends what waits, then talks and listens to the end of the connection.
    async fn chat(&mut self, line: &mut Line) -> Lost {
        self.reload.mark_unchanged();
        let mut missing = self.habits.rooms.len();
        if self.resume(line).await.is_err() {
            return Lost;
        }
        let mut heard = Instant::now();
        let mut ping = heard + self.habits.ping;
        let mut again: Option<Instant> = None;
        loop {
            select! {
                incoming = line.next() => {
                    heard = Instant::now();
                    let Some(incoming) = incoming else { return Lost };
                    match self.read(incoming) {
                        Read::Joined => {
                            missing = missing.saturating_sub(1);
                            if missing == 0 {
                                self.is_here.store(true, Ordering::SeqCst);
                            }
                        }
                        Read::Later(after) => again = Some(Instant::now() + after),
                        Read::End => return Lost,
                        Read::Other => {}
                    }
                }
                () = self.turns.next() => {
                    let event = self.write();
                    if self.send(line, &event).await.is_err() {
                        return Lost;
                    }
                }
                () = sleep_until(ping) => {
                    ping = Instant::now() + self.habits.ping;
                    let sent = timeout(self.habits.patience, line.ping()).await;
                    let is_silent = line.answers_pings() && heard.elapsed() > self.habits.silence;
                    if is_silent || !matches!(sent, Ok(Ok(()))) {
                        return Lost;
                    }
                }
                () = sleep_until(again.unwrap_or_else(Instant::now)), if again.is_some() => {
                    again = None;
                    if self.send_waiting(line).await.is_err() {
                        return Lost;
                    }
                }
                _ = self.reload.changed() => return Lost,
            }
        }
    }

    async fn resume(&mut self, line: &mut Line) -> Result<(), Lost> {
        let joins: Vec<String> = {
            let record = lock(&self.record);
            let cursor = |room: &String| match record.views.get(room) {
                Some(view) => {
                    json!({"type": "join", "room": room, "epoch": view.epoch, "after": view.at})
                }
                None => json!({"type": "join", "room": room}),
            };
            self.habits.rooms.iter().map(|room| cursor(room).to_string()).collect()
        };
        if !line.joins_by_itself() {
            for join in &joins {
                self.send(line, join).await?;
            }
        }
        self.send_waiting(line).await
    }

    /// Sends everything in the outbox. What had arrived already is only acked once more.
    async fn send_waiting(&mut self, line: &mut Line) -> Result<(), Lost> {
        let waiting: Vec<String> = lock(&self.record).outbox.iter().map(Draft::event).collect();
        lock(&self.record).sent_again += waiting.len() as u64;
        for event in waiting {
            self.send(line, &event).await?;
        }
        Ok(())
    }

    async fn send(&self, line: &mut Line, event: &str) -> Result<(), Lost> {
        match timeout(self.habits.patience, line.send(event)).await {
            Ok(Ok(())) => Ok(()),
            _ => Err(Lost),
        }
    }

    /// Puts a new message into the outbox, and gives the event that sends it.
    fn write(&mut self) -> String {
        self.said += 1;
        let room = self.chance.pick(&self.habits.rooms).cloned().unwrap_or_default();
        let words = format!("number {}", self.said);
        let filling = "🦀".repeat(self.habits.length.saturating_sub(words.len()));
        let text = format!("{words}{filling}");
        let draft = Draft { id: Uuid::new_v4(), room, text };
        let event = draft.event();
        lock(&self.record).outbox.push_back(draft);
        event
    }

    fn read(&mut self, incoming: Incoming) -> Read {
        let (json, last_id) = match incoming {
            Incoming::Event(json, last_id) => (json, last_id),
            Incoming::Later(after) => return Read::Later(after),
            Incoming::Other => return Read::Other,
            Incoming::Close(code) => {
                let mut record = lock(&self.record);
                if code == REPLACED && self.person.without_websocket {
                    record.replaced += 1;
                } else if code >= 4500 {
                    record.wrong.push(format!("closed with {code}"));
                }
                return Read::End;
            }
        };
        if json.starts_with(PRESENCE) {
            return Read::Other;
        }
        let event: Value = serde_json::from_str(&json).unwrap_or_default();
        let mut record = lock(&self.record);
        if !last_id.is_empty() {
            record.last_id = last_id;
        }
        match text(&event, "type") {
            "joined" => {
                record.take(&event);
                Read::Joined
            }
            "message" | "ack" => {
                record.take(&event);
                Read::Other
            }
            "error" if text(&event, "code") == "unavailable" => match event.get("id") {
                Some(_message) => {
                    let after = event.get("retry_after").and_then(Value::as_u64);
                    Read::Later(Duration::from_millis(after.unwrap_or(1000)))
                }
                // A join: the next connection tries it again.
                None => Read::End,
            },
            // A request may be faster than the stream whose rooms it needs.
            "error" if text(&event, "code") == "not_in_room" && self.person.without_websocket => {
                Read::Later(SOON)
            }
            "error" => {
                record.wrong.push(event.to_string());
                Read::Other
            }
            _ => Read::Other,
        }
    }
}

/// What an event means for the connection.
enum Read {
    /// One more room is there.
    Joined,
    /// Something was refused for now.
    Later(Duration),
    /// The connection is over.
    End,
    /// Nothing.
    Other,
}

/// When it is a client's turn to say something.
#[derive(Debug)]
struct Turns {
    order: watch::Receiver<Order>,
    chance: Chance,
    next: Option<Instant>,
}

impl Turns {
    /// Waits until it is time to say something; for ever, while there is nothing to say. `select!` may
    /// drop this while it waits, and call it again: the time stays the same.
    async fn next(&mut self) {
        loop {
            let now = *self.order.borrow_and_update();
            let Order::Talk(every) = now else {
                self.next = None;
                if self.order.changed().await.is_err() {
                    std::future::pending::<()>().await;
                }
                continue;
            };
            let pause = self.chance.between(Duration::ZERO, every * 2);
            let next = *self.next.get_or_insert_with(|| Instant::now() + pause);
            match timeout_at(next, self.order.changed()).await {
                Err(_it_is_time) => {
                    self.next = None;
                    return;
                }
                Ok(Ok(())) => self.next = None,
                Ok(Err(_nobody)) => std::future::pending::<()>().await,
            }
        }
    }
}
