//! The robots: simulated people who talk all the time, come back after every cut, and forget nothing.
//!
//! Each is a [`client::Session`], the one that the program `chat` has, so they show what a user sees.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use ::tests::chance::Chance;
use anyhow::{Context, Result, bail, ensure};
use client::{ClientEvent, Connection, Options, ServerEvent, Session, Settings, Token, account};
use tokio::select;
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep, sleep_until, timeout};
use uuid::Uuid;

use super::ledger::{Entry, Ledger, numbered};

/// The rooms in which they are. The page opens `lobby`, so a learner can talk there undisturbed.
pub const ROOMS: [&str; 3] = ["red", "green", "blue"];

/// How often each says something, on average.
const TALK: Duration = Duration::from_millis(1500);

/// How long a node may take to answer before a robot tries another connection. A person would be given
/// more; a learner wants to see what happens.
const ANSWER: Duration = Duration::from_secs(4);

/// How long they may take to come, and at the end to get everything.
const PATIENCE: Duration = Duration::from_secs(30);

/// How often to look whether they have.
const LOOK: Duration = Duration::from_millis(20);

/// The robots of a cluster. Dropping this ends them.
#[derive(Debug)]
pub struct Robots {
    token: Token,
    ledger: Arc<Mutex<Ledger>>,
    mood: watch::Sender<Mood>,
    lives: JoinSet<()>,
}

/// What they are to do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Mood {
    Talk,
    Listen,
    Leave,
}

impl Robots {
    /// Registers so many, signs them in, and lets them talk.
    ///
    /// # Errors
    /// They are not let in.
    pub async fn gather(url: &str, count: usize) -> Result<Self> {
        let mut tokens = Vec::new();
        for number in 1..=count {
            tokens.push(sign_in(url, &name(number)).await.context("a robot is not let in")?);
        }
        let token = tokens.first().cloned().context("no robots")?;
        let ledger = Arc::new(Mutex::new(Ledger::new(count, &ROOMS)));
        let (mood, moods) = watch::channel(Mood::Talk);
        let mut chance = Chance::seeded(Chance::seed());
        let mut lives = JoinSet::new();
        for (number, token) in tokens.into_iter().enumerate() {
            let life = Life {
                number,
                session: Session::open(settings(url, token), name(number + 1)),
                ledger: Arc::clone(&ledger),
                mood: moods.clone(),
                chance: chance.fork(),
                said: 0,
            };
            lives.spawn(life.live());
        }
        let robots = Self { token, ledger, mood, lives };
        robots.until(|ledger| ledger.complete_since().is_some()).await?;
        Ok(robots)
    }

    /// What they have said and seen.
    pub fn ledger(&self) -> MutexGuard<'_, Ledger> {
        lock(&self.ledger)
    }

    /// They say nothing more, and get what they have not got yet.
    ///
    /// # Errors
    /// That takes too long.
    pub async fn settle(&self) -> Result<()> {
        self.mood.send_replace(Mood::Listen);
        self.until(Ledger::is_settled).await
    }

    /// Compares what they have said and seen with the log that a node tells at this URL.
    ///
    /// # Errors
    /// The log can't be read.
    pub async fn judge(&self, url: &str) -> Result<()> {
        for room in ROOMS {
            let log = timeout(PATIENCE, self.read(url, room)).await;
            let log = log.context("no answer").flatten();
            let log = log.with_context(|| format!("can't read the room {room}"))?;
            self.ledger().compare(room, &log);
        }
        Ok(())
    }

    /// They say goodbye.
    pub async fn leave(mut self) {
        self.mood.send_replace(Mood::Leave);
        while self.lives.join_next().await.is_some() {}
    }

    async fn until(&self, is_so: impl Fn(&Ledger) -> bool) -> Result<()> {
        let since = Instant::now();
        while !is_so(&self.ledger()) {
            ensure!(since.elapsed() < PATIENCE, "not everyone is back after {PATIENCE:?}");
            sleep(LOOK).await;
        }
        Ok(())
    }

    /// Reads a room from its beginning, as somebody who was never there.
    async fn read(&self, url: &str, room: &str) -> Result<Vec<Entry>> {
        let options = Options { token: Some(self.token.clone()), ..Options::default() };
        let mut reader = Connection::open_with(url, &options).await?;
        reader.send(&ClientEvent::join(room)).await?;
        let newest = next_joined(&mut reader).await?;
        let (epoch, end) = (newest.epoch, newest.seq);
        let after = Some(0);
        reader.send(&ClientEvent::Join { room: room.to_owned(), epoch, after }).await?;
        let mut log: Vec<Entry> = Vec::new();
        while log.last().map_or(0, |entry| entry.seq) < end {
            log.extend(next_joined(&mut reader).await?.entries);
        }
        let _it_may_be_gone = reader.close().await;
        Ok(log)
    }
}

/// A page of a room's log.
struct Page {
    epoch: Option<Uuid>,
    seq: u64,
    entries: Vec<Entry>,
}

async fn next_joined(reader: &mut Connection) -> Result<Page> {
    loop {
        match reader.next().await?.context("the connection ended")? {
            ServerEvent::Joined { epoch, seq, history, .. } => {
                let entries = history.iter().filter_map(numbered).map(|(_, entry)| entry).collect();
                return Ok(Page { epoch, seq: seq.context("no number")?, entries });
            }
            ServerEvent::Error { message, .. } => bail!(message),
            _ => {}
        }
    }
}

fn lock(ledger: &Mutex<Ledger>) -> MutexGuard<'_, Ledger> {
    ledger.lock().unwrap_or_else(PoisonError::into_inner)
}

fn name(number: usize) -> String {
    format!("robot{number}")
}

async fn sign_in(url: &str, name: &str) -> Result<Token, client::Error> {
    // Nobody has to know it, and the account goes with the cluster.
    let password = Uuid::new_v4().to_string();
    account::register(url, name, &password).await?;
    account::token(url, name, &password).await
}

fn settings(url: &str, token: Token) -> Settings {
    let mut settings = Settings::with_token(url, token);
    settings.answer = ANSWER;
    settings.options.handshake_timeout = ANSWER;
    settings
}

/// What a robot's task owns.
struct Life {
    number: usize,
    session: Session,
    ledger: Arc<Mutex<Ledger>>,
    mood: watch::Receiver<Mood>,
    chance: Chance,
    said: u64,
}

impl Life {
    /// Talks and listens until it is told to leave.
    async fn live(mut self) {
        for room in ROOMS {
            // It has room for three orders.
            let _taken = self.session.send(ClientEvent::join(room));
        }
        let mut turn = self.next_turn();
        loop {
            let mood = *self.mood.borrow_and_update();
            if mood == Mood::Leave {
                return self.session.close().await;
            }
            select! {
                event = self.session.next() => match event {
                    Some(event) => lock(&self.ledger).take(self.number, &event),
                    None => return,
                },
                () = sleep_until(turn), if mood == Mood::Talk => {
                    self.say();
                    turn = self.next_turn();
                }
                changed = self.mood.changed() => if changed.is_err() { return },
            }
        }
    }

    fn next_turn(&mut self) -> Instant {
        Instant::now() + self.chance.between(Duration::ZERO, TALK * 2)
    }

    /// Says a number, so that people who read along see that none is missing.
    fn say(&mut self) {
        let room = self.chance.pick(&ROOMS).map(|&room| room.to_owned());
        let id = Uuid::new_v4();
        let text = format!("number {} of {}", self.said + 1, name(self.number + 1));
        let message = ClientEvent::Message { id: Some(id), room, text };
        // Too much may wait, where there is no cluster for a long time: then it has not said it.
        if self.session.send(message).is_ok() {
            self.said += 1;
            lock(&self.ledger).said(self.number, id);
        }
    }
}
