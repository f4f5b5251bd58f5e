//! Attacks, and what healthy clients notice of them.
//!
//! Each attack is many attackers who do the same: over the [`handshake`], over the [`wire`] once they are
//! in, or over plain HTTP to sign in ([`accounts`]). The server has its usual limits. It has to end every
//! one of them in time, and the healthy ones have to get each message, as soon as in peace.

pub mod accounts;
pub mod handshake;
pub mod wire;

use std::collections::BTreeMap;
use std::fmt;
use std::pin::Pin;
use std::time::Duration;

use anyhow::{Context, Result};
use serde_json::json;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep, timeout};
use uuid::Uuid;

use crate::load::door::{Account, Door, address, say, until};
use crate::load::group::{Group, Noticed};
use crate::load::process::{Process, millis, thousands};
use crate::program::{Program, Running};

/// The room of the healthy ones.
pub const HALL: &str = "hall";

/// A room with the longest history there is: fifty messages of 2,000 characters.
pub const ARCHIVE: &str = "archive";

/// How many healthy ones there are, and how often one of them says something.
const HEALTHY: (usize, Duration) = (20, Duration::from_millis(50));

/// How often to look at the server's memory.
const LOOK: Duration = Duration::from_millis(100);

/// The street of the healthy ones, and that of the first attack.
const STREETS: (u8, u8) = (2, 10);

/// All of them.
pub const ALL: [Attack; 13] = [
    handshake::HALF_OPEN,
    handshake::CONNECTIONS,
    wire::TRICKLE,
    wire::FRAGMENTS,
    wire::NESTED,
    wire::BRACKETS,
    wire::PROMISES,
    wire::MESSAGES,
    wire::PINGS,
    wire::JOINS,
    wire::SLOW_READERS,
    accounts::SIGN_INS,
    accounts::REGISTRATIONS,
];

/// Those that are over in a few seconds: all but the slow readers, and 200 new accounts.
pub const QUICK: [Attack; 11] = [
    handshake::HALF_OPEN,
    handshake::CONNECTIONS,
    wire::TRICKLE,
    wire::FRAGMENTS,
    wire::NESTED,
    wire::BRACKETS,
    wire::PROMISES,
    wire::MESSAGES,
    wire::PINGS,
    wire::JOINS,
    accounts::SIGN_INS,
];

/// One kind of attack.
#[derive(Debug, Clone, Copy)]
pub struct Attack {
    /// What to call it.
    pub name: &'static str,
    /// What one attacker does.
    pub what: &'static str,
    /// How many there are.
    pub attackers: usize,
    /// How the server may end them.
    pub ends: &'static [End],
    /// How many it may let in.
    pub welcome: usize,
    /// Within what time all of them have to be ended.
    pub limit: Duration,
    run: fn(Attacker) -> Deed,
}

/// What one attacker does.
type Deed = Pin<Box<dyn Future<Output = Result<End>> + Send>>;

/// One attacker.
#[derive(Debug, Clone)]
pub struct Attacker {
    /// Where to.
    pub door: Door,
    /// Who it is.
    pub account: Account,
    /// Which street it comes from: each attack has one of its own.
    pub street: u8,
    /// Which of all attackers it is.
    pub number: usize,
}

/// How the server has ended an attacker.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum End {
    /// By an HTTP status.
    Status(u16),
    /// By a close frame.
    Close(u16),
    /// By the end of the connection without another word.
    Cut,
    /// Not at all: it is in, and does no harm.
    LetIn,
    /// Not at all, in the time there was.
    Never,
}

impl fmt::Display for End {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Status(status) => write!(f, "status {status}"),
            Self::Close(code) => write!(f, "close {code}"),
            Self::Cut => write!(f, "cut"),
            Self::LetIn => write!(f, "let in"),
            Self::Never => write!(f, "NOT ENDED"),
        }
    }
}

/// What came of an attack.
#[derive(Debug)]
pub struct Outcome {
    /// Which one.
    pub attack: Attack,
    /// How many attackers there were.
    pub attackers: usize,
    /// How many were ended in which way.
    pub ends: BTreeMap<End, usize>,
    /// When the last one was ended.
    pub last: Duration,
}

/// What came of some attacks at once.
#[derive(Debug)]
pub struct Assault {
    /// What came of each.
    pub outcomes: Vec<Outcome>,
    /// What the healthy ones noticed.
    pub noticed: Noticed,
    /// The server's memory before, and the most it was, in KiB.
    pub memory: (u64, u64),
}

impl Outcome {
    /// What is not as it should be.
    pub fn faults(&self) -> Vec<String> {
        let Attack { name, ends, .. } = self.attack;
        let is_right = |end: &End| ends.contains(end);
        let wrong = self.ends.iter().filter(|(end, _)| **end != End::LetIn && !is_right(end));
        let mut faults: Vec<_> =
            wrong.map(|(end, count)| format!("{name}: {count} times {end}")).collect();
        let let_in = self.ends.get(&End::LetIn).copied().unwrap_or_default();
        if let_in > self.attack.welcome {
            faults.push(format!("{name}: {let_in} were let in, not {}", self.attack.welcome));
        }
        faults
    }
}

impl Assault {
    /// What the columns of a row are.
    pub const HEAD: &str = "\
| attack | attackers | how they were ended | the last after, s | healthy: p50, ms | p99, ms | longest, ms | RSS before, MiB | at most, MiB |
|---|---|---|---|---|---|---|---|---|";

    /// What is not as it should be, with a bound for what the healthy ones notice.
    pub fn faults(&self, bound: Duration) -> Vec<String> {
        let mut faults: Vec<_> = self.outcomes.iter().flat_map(Outcome::faults).collect();
        if self.noticed.p99 > bound {
            let names: Vec<_> = self.outcomes.iter().map(|outcome| outcome.attack.name).collect();
            let p99 = self.noticed.p99;
            faults.push(format!("{}: the p99 of the healthy is {p99:.0?}", names.join(", ")));
        }
        faults
    }
}

impl fmt::Display for Assault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Noticed { median, p99, longest, .. } = self.noticed;
        for (line, outcome) in self.outcomes.iter().enumerate() {
            let ends: Vec<_> =
                outcome.ends.iter().map(|(end, count)| format!("{end} ({count})")).collect();
            let attack = format!("{}: {}", outcome.attack.name, outcome.attack.what);
            write!(
                f,
                "{}| {attack} | {} | {} | {:.1} | {} | {} | {} | {:.1} | {:.1} |",
                if line == 0 { "" } else { "\n" },
                thousands(outcome.attackers),
                ends.join(", "),
                outcome.last.as_secs_f64(),
                millis(median),
                millis(p99),
                millis(longest),
                self.memory.0 as f64 / 1024.0,
                self.memory.1 as f64 / 1024.0,
            )?;
        }
        Ok(())
    }
}

/// A server, the healthy ones, and room for attackers.
#[derive(Debug)]
pub struct Arena {
    server: Running,
    door: Door,
    group: Group,
    street: u8,
    slowness: u32,
}

impl Arena {
    /// Starts the server with its usual limits, and lets the healthy ones in.
    ///
    /// # Errors
    /// It does not start, or refuses somebody.
    pub async fn open(program: &Program, milestone: u8) -> Result<Self> {
        let server = program.clone().env("RUST_LOG", "error").start().await?;
        let door = Door::of(&server, milestone);
        fill_archive(&door).await?;
        let group = Group::gather(&door, STREETS.0, HEALTHY.0, HALL, HEALTHY.1).await?;
        Ok(Self { server, door, group, street: STREETS.1, slowness: 1 })
    }

    /// Gives the server so many times as long to end an attack, where everything is that much slower.
    pub fn slow(&mut self, times: u32) {
        self.slowness = times;
    }

    /// What the healthy ones notice when nobody attacks.
    pub async fn peace(&self, time: Duration) -> Noticed {
        sleep(time / 4).await;
        let _warming_up = self.group.take();
        sleep(time).await;
        self.group.take()
    }

    /// Plays some attacks at once, each with one attacker in so many, for this time at least.
    ///
    /// # Errors
    /// An attacker could not even begin, or the server has ended.
    pub async fn suffer(
        &mut self,
        attacks: &[Attack],
        one_in: usize,
        time: Duration,
    ) -> Result<Assault> {
        let mut ready = Vec::new();
        for attack in attacks {
            self.street += 1;
            // Where some are welcome, it takes all of them to reach the limit.
            let one_in = if attack.welcome == 0 { one_in } else { 1 };
            let count = attack.attackers.div_ceil(one_in);
            let limit = attack.limit.saturating_mul(self.slowness);
            ready.push((Attack { limit, ..*attack }, self.attackers(attack, count).await?));
        }
        let process = Process::of(&self.server)?;
        let (before, began) = (process.size()?.rss_kib, Instant::now());
        let _of_before = self.group.take();
        let mut all: JoinSet<_> =
            ready.into_iter().map(|(attack, attackers)| play(attack, attackers)).collect();
        let (mut outcomes, mut most) = (Vec::new(), before);
        while !all.is_empty() || began.elapsed() < time {
            if let Ok(Some(outcome)) = timeout(LOOK, all.join_next()).await {
                outcomes.push(outcome??);
            } else if all.is_empty() {
                sleep(LOOK).await;
            }
            most = most.max(process.size().context(self.server.stderr())?.rss_kib);
        }
        Ok(Assault { outcomes, noticed: self.group.take(), memory: (before, most) })
    }

    /// Makes accounts for the attackers of an attack.
    async fn attackers(&self, attack: &Attack, count: usize) -> Result<Vec<Attacker>> {
        let street = self.street;
        let letters: String = attack.name.chars().filter(char::is_ascii_alphanumeric).collect();
        let base = format!("{letters}-{street}-");
        let accounts = self.door.register_all(street, &base, count.min(20)).await?;
        let all = (0..count).zip(accounts.iter().cycle());
        let one = |(number, account): (usize, &Account)| Attacker {
            door: self.door.clone(),
            account: account.clone(),
            street,
            number,
        };
        Ok(all.map(one).collect())
    }

    /// Ends the talk. Gives what has gone wrong for the healthy ones.
    pub async fn close(self) -> Vec<String> {
        self.group.finish().await
    }
}

/// Plays one attack.
async fn play(attack: Attack, attackers: Vec<Attacker>) -> Result<Outcome> {
    let (began, count) = (Instant::now(), attackers.len());
    let mut all: JoinSet<_> = attackers
        .into_iter()
        .map(|attacker| async move {
            let run = timeout(attack.limit, (attack.run)(attacker)).await;
            (run.unwrap_or(Ok(End::Never)), began.elapsed())
        })
        .collect();
    let (mut ends, mut last) = (BTreeMap::new(), Duration::ZERO);
    while let Some(ended) = all.join_next().await {
        let (end, after) = ended?;
        *ends.entry(end.with_context(|| attack.name)?).or_default() += 1;
        last = last.max(after);
    }
    Ok(Outcome { attack, attackers: count, ends, last })
}

/// Says fifty long things in the archive.
async fn fill_archive(door: &Door) -> Result<()> {
    let home = address(STREETS.0, 1000);
    let account = door.register(home, "archivist").await?;
    let mut socket = door.enter(home, &account, ARCHIVE).await?;
    for _ in 0..50 {
        let text = "🦀".repeat(2000);
        let event = json!({"type": "message", "id": Uuid::new_v4(), "room": ARCHIVE, "text": text});
        say(&mut socket, &event).await?;
        until(&mut socket, "ack").await?;
    }
    Ok(())
}
