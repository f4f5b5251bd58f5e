//! Whether memory comes back: many connections and rooms come and go, in waves.
//!
//! An allocator keeps what it had once, and so do tables that have grown. So there are two baselines: the
//! server as it has started, and the server after one wave. The second is the one to come back to.

use std::fmt;
use std::time::Duration;

use anyhow::{Context, Result};
use futures_util::{StreamExt, TryStreamExt, stream};
use serde_json::json;
use tokio::time::{Instant, sleep, timeout};
use uuid::Uuid;

use crate::load::door::{Home, address, join, say, until, without_limits};
use crate::load::process::{Process, Size, metric, thousands};
use crate::program::{Program, Running};
use crate::raw::{Frame, Socket};

/// How the server's runtime calls the number of its tasks, where it tells.
const TASKS: &str = "tokio_alive_tasks";

/// How many come in at once.
const AT_ONCE: usize = 64;

/// How long the server may take to be as it was before a wave.
const PATIENCE: Duration = Duration::from_secs(30);

/// How long it is watched for that before the warm baseline is taken.
const SETTLE: Duration = Duration::from_secs(3);

/// How often to look.
const LOOK: Duration = Duration::from_millis(200);

/// By how much it may differ: a tenth.
const TENTH: f64 = 0.1;

/// What comes and goes.
#[derive(Debug, Clone, Copy)]
pub struct Shape {
    /// How many connections in all.
    pub connections: usize,
    /// How many rooms in all, each new.
    pub rooms: usize,
    /// In how many waves.
    pub waves: usize,
    /// By how much memory may differ beside the tenth.
    pub slack_kib: u64,
}

/// What a server holds on to.
#[derive(Debug, Clone, Copy, Default)]
pub struct Held {
    /// What the system sees.
    pub size: Size,
    /// How many tasks it has, if it says so.
    pub tasks: Option<f64>,
}

impl Held {
    async fn by(server: &Running) -> Result<Self> {
        let size = Process::of(server)?.size()?;
        let tasks = match server.admin_address() {
            Some(_) => Some(metric(server, TASKS).await?.context("no tokio_alive_tasks")?),
            None => None,
        };
        Ok(Self { size, tasks })
    }

    /// What has not come back to a baseline, in words.
    pub fn beyond(&self, base: &Self, slack_kib: u64) -> Vec<String> {
        let base_kib = base.size.rss_kib + slack_kib;
        let all = [
            ("RSS in KiB", self.size.rss_kib as f64, base_kib as f64),
            ("open files", self.size.files as f64, base.size.files as f64),
            ("tasks", self.tasks.unwrap_or_default(), base.tasks.unwrap_or_default()),
        ];
        all.into_iter()
            .filter(|(_, now, before)| *now > before * (1.0 + TENTH))
            .map(|(what, now, before)| format!("{what}: {now} at the end, {before} before"))
            .collect()
    }
}

/// What came of a run.
#[derive(Debug)]
pub struct Churn {
    /// The server.
    pub server: String,
    /// What came and went.
    pub shape: Shape,
    /// The server as it has started, with its accounts.
    pub cold: Held,
    /// The server after one wave.
    pub warm: Held,
    /// The most it held while everyone of a wave was there.
    pub most: Held,
    /// The server after all waves.
    pub end: Held,
    /// How long all of it took.
    pub took: Duration,
}

impl Churn {
    /// What the columns of a row are.
    pub const HEAD: &str = "\
| server after … | RSS, MiB | open files | threads | tasks |
|---|---|---|---|---|";

    /// What has not come back.
    pub fn faults(&self) -> Vec<String> {
        self.end.beyond(&self.warm, self.shape.slack_kib)
    }
}

impl fmt::Display for Churn {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Shape { connections, rooms, waves, .. } = self.shape;
        let wave = format!("in a wave of {}", thousands(connections / waves.max(1)));
        let all = format!("{} connections and {} rooms", thousands(connections), thousands(rooms));
        let rows = [
            ("its start", &self.cold),
            ("one wave (the baseline)", &self.warm),
            (wave.as_str(), &self.most),
            (all.as_str(), &self.end),
        ];
        for (what, held) in rows {
            let tasks = held.tasks.map_or("–".to_owned(), |tasks| thousands(tasks as u64));
            let mib = held.size.rss_kib as f64 / 1024.0;
            let (files, threads) = (thousands(held.size.files), held.size.threads);
            writeln!(f, "| {}: {what} | {mib:.1} | {files} | {threads} | {tasks} |", self.server)?;
        }
        write!(f, "It took {:.0} s.", self.took.as_secs_f64())
    }
}

/// Lets them come and go, and looks at the server before and after.
///
/// # Errors
/// It refuses somebody, or ends.
pub async fn churn(program: &Program, milestone: u8, shape: Shape) -> Result<Churn> {
    let began = Instant::now();
    let program = without_limits(program).env("MAX_ROOMS", "100000");
    let home = Home::of(&program, milestone, shape.connections / shape.waves).await?;
    let (server, waves) = (&home.server, Waves { home: &home, shape });
    let cold = Held::by(server).await?;

    let mut most = waves.wave(server, 0).await?;
    settle(server, &cold, 0, SETTLE).await?;
    let warm = Held::by(server).await?;
    for wave in 1..=shape.waves {
        let held = waves.wave(server, wave).await?;
        if held.size.rss_kib > most.size.rss_kib {
            most = held;
        }
    }
    let end = settle(server, &warm, shape.slack_kib, PATIENCE).await?;
    let (server, took) = (program.name().to_owned(), began.elapsed());
    Ok(Churn { server, shape, cold, warm, most, end, took })
}

/// Waits until the server has come back to a baseline, if it does.
async fn settle(server: &Running, base: &Held, slack_kib: u64, limit: Duration) -> Result<Held> {
    let end = Instant::now() + limit;
    loop {
        let held = Held::by(server).await?;
        if held.beyond(base, slack_kib).is_empty() || Instant::now() > end {
            return Ok(held);
        }
        sleep(LOOK).await;
    }
}

/// Those who come and go.
struct Waves<'a> {
    home: &'a Home,
    shape: Shape,
}

impl Waves<'_> {
    /// Everyone of one wave comes, and then everyone goes. Gives what the server held meanwhile.
    async fn wave(&self, server: &Running, wave: usize) -> Result<Held> {
        let size = self.shape.connections / self.shape.waves;
        let come = |number: usize| self.come(wave, number);
        let all: Vec<Socket> =
            stream::iter(0..size).map(come).buffer_unordered(AT_ONCE).try_collect().await?;
        let held = Held::by(server).await?;
        let go = |(number, socket)| async move { go(number, socket).await };
        stream::iter(all.into_iter().enumerate()).for_each_concurrent(AT_ONCE, go).await;
        Ok(held)
    }

    /// Comes in, joins its share of new rooms, says something in the first, and leaves the last again.
    async fn come(&self, wave: usize, number: usize) -> Result<Socket> {
        // Before milestone 5 a name is one connection's, so each wave has its own.
        let (door, mut account) = (&self.home.door, self.home.account(number));
        if door.milestone() < 5 {
            account.name = format!("{}-{wave}", account.name);
        }
        let mut socket = door.connect(address(1, number), &account).await?;
        let place = wave * (self.shape.connections / self.shape.waves) + number;
        let share = |place: usize| place * self.shape.rooms / self.shape.connections;
        let rooms: Vec<_> = (share(place)..share(place + 1)).map(|n| format!("room{n}")).collect();
        for room in &rooms {
            join(&mut socket, room).await?;
        }
        if let Some(room) = rooms.first() {
            let event =
                json!({"type": "message", "id": Uuid::new_v4(), "room": room, "text": "hi"});
            say(&mut socket, &event).await?;
            until(&mut socket, "ack").await?;
        }
        if let Some(room) = rooms.last() {
            say(&mut socket, &json!({"type": "leave", "room": room})).await?;
            until(&mut socket, "left").await?;
        }
        Ok(socket)
    }
}

/// Goes in order, or not.
async fn go(number: usize, mut socket: Socket) {
    if number.is_multiple_of(2) && socket.send(&Frame::close(1000)).await.is_ok() {
        let _in_time =
            timeout(PATIENCE, async { while let Ok(Some(_)) = socket.next().await {} }).await;
    }
}
