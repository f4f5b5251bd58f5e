//! Healthy clients: they talk in a room at an even pace, read at once, and write down what they notice
//! of what others do to the server.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use serde_json::{Value, json};
use tokio::select;
use tokio::task::JoinHandle;
use tokio::time::{MissedTickBehavior, interval_at};
use uuid::Uuid;

use crate::event::text;
use crate::load::door::{Door, PATIENCE, address, say};
use crate::load::process::{percentile, wait_until};
use crate::raw::{CLOSE, Frame, PING, PONG, Socket, TEXT};

/// The clients. Dropping it ends them.
#[derive(Debug)]
pub struct Group {
    state: Arc<State>,
    members: Vec<JoinHandle<()>>,
}

impl Drop for Group {
    fn drop(&mut self) {
        self.members.iter().for_each(JoinHandle::abort);
    }
}

/// What they have noticed over some time.
#[derive(Debug, Clone, Copy, Default)]
pub struct Noticed {
    /// How many deliveries there were.
    pub deliveries: usize,
    /// The median time from sending to hearing.
    pub median: Duration,
    /// The time that 99 of 100 deliveries took at most.
    pub p99: Duration,
    /// The longest time.
    pub longest: Duration,
}

/// What they share.
#[derive(Debug)]
struct State {
    since: Instant,
    times: Mutex<Vec<Duration>>,
    troubles: Mutex<Vec<String>>,
    talks: AtomicBool,
    sent: AtomicU64,
    acked: AtomicU64,
    /// How many of the messages of the group each has heard.
    heard: Vec<AtomicU64>,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Group {
    /// Lets so many clients into a room. Together they say something once in this time.
    ///
    /// # Errors
    /// The server refuses somebody.
    pub async fn gather(
        door: &Door,
        street: u8,
        size: usize,
        room: &str,
        pace: Duration,
    ) -> Result<Self> {
        let state = Arc::new(State {
            since: Instant::now(),
            times: Mutex::default(),
            troubles: Mutex::default(),
            talks: AtomicBool::new(true),
            sent: AtomicU64::new(0),
            acked: AtomicU64::new(0),
            heard: (0..size).map(|_| AtomicU64::new(0)).collect(),
        });
        let mut sockets = Vec::new();
        for (number, account) in
            door.register_all(street, "healthy", size).await?.iter().enumerate()
        {
            sockets.push(door.enter(address(street, number), account, room).await?);
        }
        let every = pace.saturating_mul(u32::try_from(size)?);
        let members = sockets.into_iter().enumerate().map(|(number, socket)| {
            let first = pace.saturating_mul(u32::try_from(number).unwrap_or(0));
            let (room, state) = (room.to_owned(), Arc::clone(&state));
            let member = Member { number, room, socket, said: 0, seq: None, state };
            tokio::spawn(member.run(first, every))
        });
        let members = members.collect();
        Ok(Self { state, members })
    }

    /// What they have noticed since the last time.
    pub fn take(&self) -> Noticed {
        let mut times = std::mem::take(&mut *lock(&self.state.times));
        Noticed {
            deliveries: times.len(),
            median: percentile(&mut times, 0.5),
            p99: percentile(&mut times, 0.99),
            longest: times.last().copied().unwrap_or_default(),
        }
    }

    /// What has gone wrong for them.
    pub fn troubles(&self) -> Vec<String> {
        lock(&self.state.troubles).clone()
    }

    /// Lets them end what they are saying, and waits until each has heard everything and has every ack.
    /// Gives what has gone wrong.
    pub async fn finish(self) -> Vec<String> {
        let state = &self.state;
        state.talks.store(false, Ordering::SeqCst);
        let sent = || state.sent.load(Ordering::SeqCst);
        let has_all = |heard: &AtomicU64| heard.load(Ordering::SeqCst) == sent();
        let complete =
            || state.acked.load(Ordering::SeqCst) == sent() && state.heard.iter().all(has_all);
        let mut troubles = Vec::new();
        if !wait_until(PATIENCE, async || complete() || !lock(&state.troubles).is_empty()).await {
            let least = state.heard.iter().map(|heard| heard.load(Ordering::SeqCst)).min();
            troubles.push(format!(
                "{} messages sent, {} acked, {} heard by whoever heard least",
                sent(),
                state.acked.load(Ordering::SeqCst),
                least.unwrap_or_default()
            ));
        }
        troubles.extend(self.troubles());
        troubles
    }
}

/// One of them.
struct Member {
    number: usize,
    room: String,
    socket: Socket,
    said: u64,
    /// The number in the room of the last message heard.
    seq: Option<u64>,
    state: Arc<State>,
}

impl Member {
    async fn run(mut self, first: Duration, every: Duration) {
        if let Err(error) = self.live(first, every).await {
            let trouble = format!("healthy client {}: {error:#}", self.number);
            lock(&self.state.troubles).push(trouble);
        }
    }

    /// Talks and listens, until it is dropped.
    async fn live(&mut self, first: Duration, every: Duration) -> Result<()> {
        let mut turns = interval_at(tokio::time::Instant::now() + first, every);
        turns.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            select! {
                frame = self.socket.next() => {
                    let frame = frame?.context("the connection ended")?;
                    self.take(frame).await?;
                }
                _ = turns.tick(), if self.state.talks.load(Ordering::SeqCst) => self.say().await?,
            }
        }
    }

    async fn say(&mut self) -> Result<()> {
        self.said += 1;
        let now = self.state.since.elapsed().as_nanos();
        let text = format!("healthy {} {} {now}", self.number, self.said);
        let event =
            json!({"type": "message", "id": Uuid::new_v4(), "room": self.room, "text": text});
        self.state.sent.fetch_add(1, Ordering::SeqCst);
        say(&mut self.socket, &event).await
    }

    async fn take(&mut self, frame: Frame) -> Result<()> {
        match frame.opcode {
            PING => Ok(self.socket.send(&Frame::new(PONG, frame.payload)).await?),
            PONG => Ok(()),
            CLOSE => bail!("{}", frame.describe()),
            TEXT => self.hear(&serde_json::from_slice(&frame.payload)?),
            _ => bail!("{}", frame.describe()),
        }
    }

    fn hear(&mut self, event: &Value) -> Result<()> {
        match text(event, "type") {
            "ack" => drop(self.state.acked.fetch_add(1, Ordering::SeqCst)),
            "message" if text(event, "room") == self.room => return self.message(event),
            "error" => bail!("{event}"),
            _ => {}
        }
        Ok(())
    }

    /// Takes in a message, of the group or of anybody else: none may be missing.
    fn message(&mut self, event: &Value) -> Result<()> {
        let seq = event.get("seq").and_then(Value::as_u64).context("a message without a number")?;
        if let Some(before) = self.seq.replace(seq)
            && seq != before + 1
        {
            bail!("message {seq} came after {before}");
        }
        let Some(words) = text(event, "text").strip_prefix("healthy ") else { return Ok(()) };
        let sent = words.rsplit(' ').next().and_then(|nanos| nanos.parse().ok());
        let sent = Duration::from_nanos(sent.context("a message without its time")?);
        lock(&self.state.times).push(self.state.since.elapsed().saturating_sub(sent));
        if let Some(heard) = self.state.heard.get(self.number) {
            heard.fetch_add(1, Ordering::SeqCst);
        }
        Ok(())
    }
}
