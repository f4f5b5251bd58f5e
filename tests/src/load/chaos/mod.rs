//! Chaos: frames, JSON and HTTP requests that are wrong in any way that chance comes upon, while healthy
//! clients talk. Nothing of it may make the server panic, or keep a file open.
//!
//! The limits are off, so that all of it gets as far as it can; [`attacks`](super::attacks) has them on.

mod frames;
mod json;
mod requests;

use std::collections::BTreeMap;
use std::fmt;
use std::net::Ipv4Addr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use anyhow::{Context, Result};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::task::JoinSet;
use tokio::time::{Instant, timeout};

use crate::chance::Chance;
use crate::load::door::{Account, Door, address, without_limits};
use crate::load::group::{Group, Noticed};
use crate::load::process::{Process, metric, wait_until};
use crate::program::{Program, Running};
use crate::raw::{Opened, Socket, connect_from};

/// How many make chaos at once.
const WORKERS: usize = 16;

/// How many healthy ones there are, and how often one of them says something.
const HEALTHY: (usize, Duration) = (8, Duration::from_millis(50));

/// How long to read what the server answers. Much of the chaos gets no answer.
const GLANCE: Duration = Duration::from_millis(30);

/// How long one connection may last.
const VISIT: Duration = Duration::from_secs(10);

/// How long the server may take to close what was left to it: some of it is only found by a heartbeat.
const TIDY: Duration = Duration::from_secs(60);

/// How many more files may be open at the end: those of its log, and of its own threads.
const FILES: usize = 4;

/// What came of a run.
#[derive(Debug, Default)]
pub struct Chaos {
    /// The server.
    pub server: String,
    /// What repeats it.
    pub seed: u64,
    /// What was done, and what the server answered, each with how often.
    pub counts: BTreeMap<String, u64>,
    /// What the healthy ones noticed.
    pub noticed: Noticed,
    /// How many files the server had open before, and after.
    pub files: (usize, usize),
    /// What is wrong.
    pub faults: Vec<String>,
}

impl fmt::Display for Chaos {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let verdict = if self.faults.is_empty() { "ok    " } else { "WRONG " };
        let (Noticed { deliveries, p99, .. }, (before, after)) = (self.noticed, self.files);
        writeln!(f, "{verdict} chaos at {} (seed {})", self.server, self.seed)?;
        for (what, count) in &self.counts {
            writeln!(f, "       {count:>9} {what}")?;
        }
        write!(
            f,
            "       healthy clients: {deliveries} deliveries, p99 {p99:.1?}; open files: {before} before, {after} after"
        )?;
        self.faults.iter().try_for_each(|fault| write!(f, "\n       {fault}"))
    }
}

/// Makes chaos for so long.
///
/// # Errors
/// The server does not start, or its healthy clients can't come in.
pub async fn chaos(program: &Program, milestone: u8, time: Duration, seed: u64) -> Result<Chaos> {
    let mut server = without_limits(program).env("RUST_LOG", "info").start().await?;
    let door = Door::of(&server, milestone);
    let group = Group::gather(&door, 2, HEALTHY.0, "hall", HEALTHY.1).await?;
    let before = Process::of(&server)?.size()?.files;

    let counts = Arc::default();
    let until = Instant::now() + time;
    let mut chance = Chance::seeded(seed);
    let mut workers = JoinSet::new();
    for number in 0..WORKERS {
        let (from, door) = (address(3, number * 100), door.clone());
        let account = door.register(from, &format!("chaos{number}")).await?;
        let (counts, chance) = (Arc::clone(&counts), chance.fork());
        let worker = Worker { door, from, account, chance, counts };
        workers.spawn(worker.work(until));
    }
    while workers.join_next().await.is_some() {}
    let noticed = group.take();
    let mut chaos = Chaos { server: program.name().to_owned(), seed, noticed, ..Chaos::default() };
    chaos.counts = counts.lock().unwrap_or_else(PoisonError::into_inner).clone();
    chaos.faults.extend(group.finish().await);
    chaos.faults.extend(health(&mut server).await);
    // The healthy ones have left by now; they can only make it less.
    let files = || Process::of(&server).and_then(|process| Ok(process.size()?.files));
    wait_until(TIDY, async || files().is_ok_and(|files| files <= before + FILES)).await;
    chaos.files = (before, files().unwrap_or_default());
    if chaos.files.1 > before + FILES {
        chaos.faults.push("files were left open".to_owned());
    }
    Ok(chaos)
}

/// What is wrong with a server that has been through it.
async fn health(server: &mut Running) -> Vec<String> {
    let mut faults = server.panics();
    if !server.is_alive() {
        faults.push(format!("the server has ended: {}", server.stderr()));
    } else if server.admin_address().is_some() {
        match metric(server, "panics_total").await {
            Ok(Some(0.0)) => {}
            Ok(count) => faults.push(format!("panics_total: {count:?}")),
            Err(error) => faults.push(format!("{error:#}")),
        }
    }
    faults
}

/// Counts of what was done.
type Counts = Arc<Mutex<BTreeMap<String, u64>>>;

/// One who makes chaos.
struct Worker {
    door: Door,
    from: Ipv4Addr,
    account: Account,
    chance: Chance,
    counts: Counts,
}

impl Worker {
    async fn work(mut self, until: Instant) {
        while Instant::now() < until {
            let visit = match self.chance.below(10) {
                0..5 => timeout(VISIT, self.socket()).await,
                5..9 => timeout(VISIT, self.http()).await,
                _ => timeout(VISIT, self.noise()).await,
            };
            match visit {
                Ok(Ok(())) => {}
                Ok(Err(_broken)) => self.count("connections that broke off"),
                Err(_elapsed) => self.count("visits that took too long"),
            }
        }
    }

    fn count(&self, what: &str) {
        let mut counts = self.counts.lock().unwrap_or_else(PoisonError::into_inner);
        *counts.entry(what.to_owned()).or_default() += 1;
    }

    /// Comes in properly, and then does what it likes.
    async fn socket(&mut self) -> Result<()> {
        let mut socket = match self.door.ask(self.from, &self.account).await? {
            Opened::Socket(socket) => socket,
            Opened::Refused(answer) => {
                self.count(&format!("WebSockets refused with {}", answer.status));
                return self.renew().await;
            }
        };
        self.count("WebSockets");
        if self.door.milestone() < 5 && self.chance.below(5) > 0 {
            let hello = serde_json::json!({"type": "hello", "name": self.account.name});
            crate::load::door::say(&mut socket, &hello).await?;
        }
        // A frame that breaks a rule ends the connection, so most visits do without.
        let is_wild = self.chance.below(4) == 0;
        for _ in 0..self.chance.below(60) {
            let bytes = match self.chance.below(3) {
                0 if is_wild => frames::odd(&mut self.chance),
                _ => {
                    let event = json::event(&mut self.chance, is_wild);
                    frames::carrying(&event, &mut self.chance)
                }
            };
            self.count("frames, or what looks like some");
            socket.send_bytes(&bytes).await?;
        }
        self.read(socket).await
    }

    /// Reads for a moment, then leaves in one way or another.
    async fn read(&mut self, mut socket: Socket) -> Result<()> {
        let end = Instant::now() + self.chance.between(Duration::ZERO, GLANCE * 2);
        while let Ok(came) = tokio::time::timeout_at(end, socket.next()).await {
            let Some(frame) = came? else {
                self.count("ends without a close frame");
                return Ok(());
            };
            if let Some(code) = frame.close_code() {
                self.count(&format!("closed with {code}"));
                return Ok(());
            }
        }
        if self.chance.below(2) == 0 {
            socket.send(&crate::raw::Frame::close(1000)).await?;
        }
        Ok(())
    }

    /// Sends a request that is wrong in some way, or right.
    async fn http(&mut self) -> Result<()> {
        let request = requests::odd(&mut self.chance, self.door.address(), &self.account);
        self.count("HTTP requests");
        let answer = self.send(&request).await?;
        let status = answer.strip_prefix(b"HTTP/1.1 ").and_then(|rest| rest.get(..3));
        let status = status.map_or("nothing".into(), String::from_utf8_lossy);
        self.count(&format!("answered with {status}"));
        if status == "401" { self.renew().await } else { Ok(()) }
    }

    /// Sends anything at all.
    async fn noise(&mut self) -> Result<()> {
        self.count("lines of noise");
        let length = self.chance.below(2000);
        let noise = frames::noise(&mut self.chance, length);
        self.send(&noise).await.map(drop)
    }

    /// Sends bytes and reads what comes within a moment.
    async fn send(&mut self, bytes: &[u8]) -> Result<Vec<u8>> {
        let mut stream = connect_from(self.from, self.door.address()).await?;
        stream.write_all(bytes).await?;
        let mut answer = Vec::new();
        let moment = GLANCE * 4;
        let _stream_of_events = timeout(moment, stream.read_to_end(&mut answer)).await;
        Ok(answer)
    }

    /// Signs in anew: chance may have signed it out.
    async fn renew(&mut self) -> Result<()> {
        if self.door.milestone() < 5 {
            return Ok(());
        }
        let name = &self.account.name;
        let body = serde_json::json!({"name": name, "password": crate::load::door::PASSWORD});
        let answer = self.door.post(self.from, "/api/token", &body).await?;
        let token = serde_json::from_str::<serde_json::Value>(&answer.body)?;
        let token = token.get("token").and_then(|token| token.as_str()).context("no token")?;
        self.account.token = Some(token.to_owned());
        Ok(())
    }
}
