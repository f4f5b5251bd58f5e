//! What a Redis on this machine takes for the scripts of milestone 5.

use std::fmt;
use std::fs;

use anyhow::{Context, Result, ensure};
use tokio::task::JoinSet;
use tokio::time::{Duration, Instant};
use uuid::Uuid;

use crate::program::workspace;
use crate::redis::resp::Connection;
use crate::redis::{Fsync, Redis};

/// How long each figure is measured.
const TIME: Duration = Duration::from_secs(2);

/// In how many rooms messages are written.
const ROOMS: usize = 64;

/// How many nodes listen where telling is measured.
const LISTENERS: usize = 16;

/// The text of a message.
const TEXT: &str = "The quick brown fox jumps over the lazy dog, and back again.";

/// What was measured.
#[derive(Debug)]
pub struct Measured {
    /// For each way to bring it to the disk and each number at once: messages a second.
    messages: Vec<(Fsync, usize, f64)>,
    /// Microseconds for a message, without waiting for the disk.
    message: f64,
    /// Microseconds for each node that hears it.
    tell: f64,
    /// Microseconds for a check.
    check: f64,
    /// Microseconds for a room's presence.
    refresh: f64,
    /// Microseconds for a sign of life of a user.
    user: f64,
}

/// Starts Redis servers and measures.
///
/// # Errors
/// redis-server is missing, or does not answer as it should.
pub async fn measure() -> Result<Measured> {
    let mut messages = Vec::new();
    for fsync in [Fsync::Always, Fsync::EverySecond] {
        let redis = Redis::start(fsync).await?;
        let mut bench = Bench::open(&redis).await?;
        for at_once in [1, 32, 256] {
            messages.push((fsync, at_once, bench.rate(at_once, Bench::store).await?));
        }
    }
    let redis = Redis::start(Fsync::EverySecond).await?;
    let mut bench = Bench::open(&redis).await?;
    let message = 1e6 / bench.rate(256, Bench::store).await?;
    let check = 1e6 / bench.rate(256, Bench::check).await?;
    let refresh = 1e6 / bench.rate(256, Bench::refresh).await?;
    let user = 1e6 / bench.rate(256, Bench::stay).await?;
    let mut listeners = listen(&redis).await?;
    let with_listeners = 1e6 / bench.rate(256, Bench::store).await?;
    listeners.shutdown().await;
    let tell = ((with_listeners - message) / LISTENERS as f64).max(0.0);
    Ok(Measured { messages, message, tell, check, refresh, user })
}

/// Connections that hear all messages, as nodes do.
async fn listen(redis: &Redis) -> Result<JoinSet<()>> {
    let mut listeners = JoinSet::new();
    for _ in 0..LISTENERS {
        let mut connection = Connection::open(redis.address()).await?;
        let command = ["PSUBSCRIBE", "chat:*"].map(ToOwned::to_owned).to_vec();
        connection.ask_all(&[command]).await?;
        listeners.spawn(async move { while connection.next().await.is_ok() {} });
    }
    Ok(listeners)
}

/// A connection, and the scripts' hashes.
struct Bench {
    connection: Connection,
    claim: String,
    publish: String,
    check: String,
    presence: String,
    seat: String,
    /// How many messages there have been.
    count: usize,
}

impl Bench {
    async fn open(redis: &Redis) -> Result<Self> {
        let mut connection = Connection::open(redis.address()).await?;
        let position = script("position")?;
        let with_position = |name| Ok::<_, anyhow::Error>(format!("{position}\n{}", script(name)?));
        let sources = [
            script("claim")?,
            with_position("publish")?,
            with_position("check")?,
            script("presence")?,
            script("seat")?,
        ];
        let load = |source: String| vec!["SCRIPT".to_owned(), "LOAD".to_owned(), source];
        let replies = connection.ask_all(&sources.map(load)).await?;
        let mut hashes = replies.into_iter().filter_map(crate::redis::Reply::text);
        let mut next = || hashes.next().context("Redis gives no hash for a script");
        let (claim, publish, check) = (next()?, next()?, next()?);
        let (presence, seat) = (next()?, next()?);
        Ok(Self { connection, claim, publish, check, presence, seat, count: 0 })
    }

    /// How many a second, with so many on the way at once. One task of a node stores its messages like
    /// this: all claims, and then all that follows.
    async fn rate(
        &mut self,
        at_once: usize,
        step: fn(&mut Self, usize) -> Vec<Vec<Vec<String>>>,
    ) -> Result<f64> {
        let began = Instant::now();
        let mut done = 0;
        while began.elapsed() < TIME {
            for round in step(self, at_once) {
                let replies = self.connection.ask_all(&round).await?;
                ensure!(replies.len() == round.len(), "answers are missing");
            }
            done += at_once;
        }
        Ok(done as f64 / began.elapsed().as_secs_f64())
    }

    fn store(&mut self, at_once: usize) -> Vec<Vec<Vec<String>>> {
        let ids: Vec<(usize, Uuid)> = (0..at_once)
            .map(|_| {
                self.count += 1;
                (self.count % ROOMS, Uuid::new_v4())
            })
            .collect();
        let claims = ids.iter().map(|(room, id)| {
            let user = format!("chat:{{u:user{room}}}");
            let keys = [format!("{user}:id::{id}"), format!("{user}:budget")];
            // Any number of messages: the bench is one user in a hurry.
            call(&self.claim, &keys, &[&format!("room{room}"), "86400", "0", "0"])
        });
        let publishes = ids.iter().map(|(room, id)| {
            let room = format!("chat:{{/room{room}}}");
            let keys = ["meta", "log", &format!("said:user:{id}")].map(|it| format!("{room}:{it}"));
            let json = format!("{{\"id\":\"{id}\",\"from\":\"user\",\"text\":\"{TEXT}\"}}");
            let feed = format!("{room}:feed");
            let (id, hash) = (id.to_string(), id.simple().to_string());
            let rest = [feed.as_str(), &id, &json, &hash, "10000", "86400", "0"];
            call(&self.publish, &keys, &[&POSITION, rest.as_slice()].concat())
        });
        vec![claims.collect(), publishes.collect()]
    }

    fn check(&mut self, at_once: usize) -> Vec<Vec<Vec<String>>> {
        let calls = (0..at_once).map(|n| {
            let room = format!("chat:{{/room{}}}", n % ROOMS);
            let keys = ["meta", "log", "number"].map(|it| format!("{room}:{it}"));
            let held = ["epoch", "1", ""];
            call(&self.check, &keys, &[&POSITION, held.as_slice()].concat())
        });
        vec![calls.collect()]
    }

    /// What a node says about a user every ten seconds. To ask for a session every thirty is as much.
    fn stay(&mut self, at_once: usize) -> Vec<Vec<Vec<String>>> {
        let calls = (0..at_once).map(|n| {
            let user = format!("chat:{{u:user{}}}", n % ROOMS);
            let keys = ["seats", "clock"].map(|it| format!("{user}:{it}"));
            call(&self.seat, &keys, &["0", "30000", "node:1"])
        });
        vec![calls.collect()]
    }

    /// What a node says about a room every ten seconds: who is in it, and how many for the list of rooms.
    fn refresh(&mut self, at_once: usize) -> Vec<Vec<Vec<String>>> {
        let name = |n: usize| format!("quiet{}", n % ROOMS);
        let calls = (0..at_once).map(|n| {
            let room = format!("chat:{{/{}}}", name(n));
            let keys = ["nodes", "names", "counts", "number"].map(|it| format!("{room}:{it}"));
            let (feed, here) = (format!("{room}:feed"), format!("{room}:here:"));
            // The list is replaced by one with one user, as when nothing has changed.
            let rest = [&feed, &here, "node", "30000", "0", "0", "1", "+", "ada", "ada"];
            call(&self.presence, &keys, &rest)
        });
        let list = |n: usize| {
            let (sizes, seen) = ("chat:{rooms:}:sizes", "chat:{rooms:}:seen");
            let room = name(n);
            [
                vec!["ZADD", sizes, "1", &room],
                vec!["ZADD", seen, "1795744381157", &room],
                vec!["EXPIRE", sizes, "120"],
                vec!["EXPIRE", seen, "120"],
            ]
            .map(|command| command.into_iter().map(ToOwned::to_owned).collect())
        };
        vec![calls.collect(), (0..at_once).flat_map(list).collect()]
    }
}

/// What the scripts that begin with the position take first: run, durable, an unused id, how long to keep.
const POSITION: [&str; 4] = ["run", "1", "unused", "2592000"];

fn script(name: &str) -> Result<String> {
    let path = workspace().join(format!("step05-production/src/shared/scripts/{name}.lua"));
    fs::read_to_string(&path).with_context(|| path.display().to_string())
}

fn call(hash: &str, keys: &[String], rest: &[&str]) -> Vec<String> {
    let mut call = vec!["EVALSHA".to_owned(), hash.to_owned(), keys.len().to_string()];
    call.extend(keys.iter().cloned());
    call.extend(rest.iter().map(|&it| it.to_owned()));
    call
}

impl fmt::Display for Measured {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "| appendfsync | at once | messages stored a second (two scripts each) |")?;
        writeln!(f, "|---|---|---|")?;
        for (fsync, at_once, rate) in &self.messages {
            let name = if *fsync == Fsync::Always { "always" } else { "everysec" };
            writeln!(f, "| {name} | {at_once} | {rate:.0} |")?;
        }
        write!(
            f,
            "\nRedis's time, with everything in memory, 256 at once: {:.1} µs a message, {:.2} µs for \
             each node that is told,\n{:.1} µs a check, {:.1} µs for the presence of a room, {:.1} µs for a sign of life of a user.",
            self.message, self.tell, self.check, self.refresh, self.user
        )
    }
}
