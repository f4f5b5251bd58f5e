//! Many clients that lose nothing: each has a session, an outbox and cursors, comes back after every
//! cut, and writes down what it has seen.
//!
//! They are made for tests and independent of the clients that are built for people, so that both
//! do not share a mistake.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use anyhow::{Result, bail};
use futures_util::{SinkExt, StreamExt};
use serde_json::{Value, json};
use tokio::net::TcpStream;
use tokio::select;
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep, sleep_until, timeout, timeout_at};
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::{WebSocketStream, client_async};
use uuid::Uuid;

use crate::chance::Chance;
use crate::event::text;
use crate::model::{Draft, Figures, Log, Record};

/// How often to look whether something has come about.
const LOOK: Duration = Duration::from_millis(10);

/// Nobody waits for longer than this before the next try, and nobody tries at once.
const SHORTEST: Duration = Duration::from_millis(10);

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
}

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

fn lock(record: &Mutex<Record>) -> MutexGuard<'_, Record> {
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
        let (orders, order) = watch::channel(Order::Listen);
        let (reloads, reload) = watch::channel(0);
        let addresses = addresses.iter().cycle().copied();
        let members = addresses.take(count).enumerate().map(|(number, address)| {
            let name = format!("user{number}");
            let record = Arc::new(Mutex::new(Record { name, ..Record::default() }));
            let is_here = Arc::new(AtomicBool::new(false));
            let life = Life {
                address,
                habits: habits.clone(),
                record: Arc::clone(&record),
                is_here: Arc::clone(&is_here),
                turns: Turns { order: order.clone(), chance: chance.fork(), next: None },
                reload: reload.clone(),
                chance: chance.fork(),
                said: 0,
            };
            Member { record, is_here, task: tokio::spawn(life.live()) }
        });
        Self { members: members.collect(), orders, reloads }
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
    address: SocketAddr,
    habits: Habits,
    /// What a browser keeps in IndexedDB, and what the test looks at.
    record: Arc<Mutex<Record>>,
    is_here: Arc<AtomicBool>,
    turns: Turns,
    reload: watch::Receiver<u64>,
    chance: Chance,
    said: usize,
}

/// Why a connection ended.
struct Lost;

type WebSocket = WebSocketStream<TcpStream>;

impl Life {
    /// Connects, again and again.
    async fn live(mut self) {
        let mut attempt = 0;
        loop {
            if let Some(mut socket) = self.connect().await {
                attempt = 0;
                let Lost = self.chat(&mut socket).await;
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

    /// Opens a WebSocket, says hello, and asks for the rooms.
    async fn connect(&mut self) -> Option<WebSocket> {
        let patience = self.habits.patience;
        let opening = async {
            let stream = TcpStream::connect(self.address).await.ok()?;
            stream.set_nodelay(true).ok()?;
            let url = format!("ws://{}/ws", self.address);
            let (mut socket, _) = client_async(url, stream).await.ok()?;
            let (name, session) = {
                let record = lock(&self.record);
                (record.name.clone(), record.session.clone())
            };
            send(&mut socket, &hello(&name, session.as_deref())).await.ok()?;
            let welcome = until_welcome(&mut socket).await?;
            let mut record = lock(&self.record);
            record.session = Some(text(&welcome, "session").to_owned());
            record.connections += 1;
            Some(socket)
        };
        timeout(patience, opening).await.ok().flatten()
    }

    /// Joins with the cursors, sends what waits, then talks and listens to the end of the connection.
    async fn chat(&mut self, socket: &mut WebSocket) -> Lost {
        self.reload.mark_unchanged();
        let mut missing = self.habits.rooms.len();
        if self.resume(socket).await.is_err() {
            return Lost;
        }
        let mut heard = Instant::now();
        let mut ping = heard + self.habits.ping;
        let mut again: Option<Instant> = None;
        loop {
            select! {
                frame = socket.next() => {
                    heard = Instant::now();
                    let Some(Ok(frame)) = frame else { return Lost };
                    match self.read(&frame) {
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
                    if self.send(socket, &event).await.is_err() {
                        return Lost;
                    }
                }
                () = sleep_until(ping) => {
                    ping = Instant::now() + self.habits.ping;
                    let sent = timeout(self.habits.patience, socket.send(Message::Ping("".into()))).await;
                    if heard.elapsed() > self.habits.silence || !matches!(sent, Ok(Ok(()))) {
                        return Lost;
                    }
                }
                () = sleep_until(again.unwrap_or_else(Instant::now)), if again.is_some() => {
                    again = None;
                    if self.send_waiting(socket).await.is_err() {
                        return Lost;
                    }
                }
                _ = self.reload.changed() => return Lost,
            }
        }
    }

    async fn resume(&mut self, socket: &mut WebSocket) -> Result<(), Lost> {
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
        for join in joins {
            self.send(socket, &join).await?;
        }
        self.send_waiting(socket).await
    }

    /// Sends everything in the outbox. What had arrived already is only acked once more.
    async fn send_waiting(&mut self, socket: &mut WebSocket) -> Result<(), Lost> {
        let waiting: Vec<String> = lock(&self.record).outbox.iter().map(Draft::event).collect();
        lock(&self.record).sent_again += waiting.len() as u64;
        for event in waiting {
            self.send(socket, &event).await?;
        }
        Ok(())
    }

    async fn send(&self, socket: &mut WebSocket, event: &str) -> Result<(), Lost> {
        match timeout(self.habits.patience, send(socket, event)).await {
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

    fn read(&mut self, frame: &Message) -> Read {
        let Message::Text(json) = frame else {
            if let Message::Close(Some(close)) = frame
                && u16::from(close.code) >= 4500
            {
                lock(&self.record).wrong.push(format!("closed with {}", close.code));
            }
            return if frame.is_close() { Read::End } else { Read::Other };
        };
        if json.starts_with(PRESENCE) {
            return Read::Other;
        }
        let event: Value = serde_json::from_str(json).unwrap_or_default();
        let mut record = lock(&self.record);
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

fn hello(name: &str, session: Option<&str>) -> String {
    match session {
        Some(session) => json!({"type": "hello", "name": name, "session": session}).to_string(),
        None => json!({"type": "hello", "name": name}).to_string(),
    }
}

async fn send(socket: &mut WebSocket, event: &str) -> Result<()> {
    Ok(socket.send(Message::text(event)).await?)
}

/// Reads up to the welcome; none, if the name is taken or the connection ends.
async fn until_welcome(socket: &mut WebSocket) -> Option<Value> {
    loop {
        let Message::Text(json) = socket.next().await?.ok()? else { continue };
        let event: Value = serde_json::from_str(&json).ok()?;
        match text(&event, "type") {
            "welcome" => return Some(event),
            "error" => return None,
            _ => {}
        }
    }
}
