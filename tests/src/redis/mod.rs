//! A Redis of one's own: started on loopback with its own data, killed, frozen, rolled back, and asked.

pub mod resp;

use std::net::{SocketAddr, TcpListener};
use std::path::PathBuf;
use std::process::{Command as Blocking, Stdio};
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use tokio::process::{Child, Command};
use tokio::time::{Instant, sleep};

use crate::chance::Chance;
use crate::program::Scratch;
pub use resp::Reply;

/// How long a Redis may take until it answers, its log read.
const START: Duration = Duration::from_secs(20);

/// How often to look whether it does.
const LOOK: Duration = Duration::from_millis(20);

/// The folder in which Redis keeps its log, in that of its data.
const LOG: &str = "appendonlydir";

/// When Redis brings what it has written to the disk.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fsync {
    /// Before it answers.
    Always,
    /// Once a second: a power cut takes what came since.
    EverySecond,
}

impl Fsync {
    fn name(self) -> &'static str {
        match self {
            Self::Always => "always",
            Self::EverySecond => "everysec",
        }
    }
}

/// A running redis-server. Dropping it kills it and removes its data.
#[derive(Debug)]
pub struct Redis {
    port: u16,
    fsync: Fsync,
    child: Child,
    data: Scratch,
}

impl Drop for Redis {
    /// Waits until it is gone: what it still writes would outlive its folder.
    fn drop(&mut self) {
        let _gone = self.child.start_kill();
        let began = std::time::Instant::now();
        while began.elapsed() < START && matches!(self.child.try_wait(), Ok(None)) {
            std::thread::sleep(LOOK);
        }
    }
}

/// A copy of what a Redis had on its disk.
#[derive(Debug)]
pub struct Copy(Scratch);

/// What is missing to run a Redis, if something is.
pub fn missing() -> Option<String> {
    missing_program("redis-server", "redis-server")
}

/// What to install where a program is missing.
pub fn missing_program(program: &str, package: &str) -> Option<String> {
    let mut version = Blocking::new(program);
    version.arg(if program == "nginx" { "-v" } else { "--version" });
    let found = version.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).status();
    found.err().map(|_| format!("needs {program}: apt-get install {package}"))
}

/// A port that is free now and stays so: one of those that the system gives to nobody by itself, so
/// that a server can be started on it again.
///
/// # Errors
/// None of many is free.
pub fn lasting_port() -> Result<u16> {
    let mut chance = Chance::seeded(Chance::seed() ^ u64::from(std::process::id()) << 32);
    for _ in 0..200 {
        let port = u16::try_from(12_000 + chance.below(20_000))?;
        if TcpListener::bind(("127.0.0.1", port)).is_ok() {
            return Ok(port);
        }
    }
    bail!("no port between 12000 and 32000 is free")
}

impl Redis {
    /// Starts one without any data.
    ///
    /// # Errors
    /// redis-server is missing, or does not start.
    pub async fn start(fsync: Fsync) -> Result<Self> {
        let data = Scratch::new();
        std::fs::create_dir_all(data.path())?;
        let port = lasting_port()?;
        let child = spawn(port, fsync, &data)?;
        let mut redis = Self { port, fsync, child, data };
        redis.answers().await?;
        Ok(redis)
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        SocketAddr::from(([127, 0, 0, 1], self.port))
    }

    /// The `REDIS_URL` of it.
    pub fn url(&self) -> String {
        format!("redis://{}/0", self.address())
    }

    /// The process id, while it runs.
    pub fn pid(&self) -> Option<u32> {
        self.child.id()
    }

    /// Kills it (kill -9) and waits until it is gone.
    ///
    /// # Errors
    /// The system refuses.
    pub async fn kill(&mut self) -> Result<()> {
        Ok(self.child.kill().await?)
    }

    /// Starts it again, on the same port and with what it had on its disk.
    ///
    /// # Errors
    /// It does not start.
    pub async fn start_again(&mut self) -> Result<()> {
        self.child = spawn(self.port, self.fsync, &self.data)?;
        self.answers().await
    }

    /// Stops it where it stands (SIGSTOP): its connections stay open and say nothing.
    ///
    /// # Errors
    /// The system refuses.
    pub async fn freeze(&self) -> Result<()> {
        self.signal("-STOP").await
    }

    /// Lets it go on.
    ///
    /// # Errors
    /// The system refuses.
    pub async fn thaw(&self) -> Result<()> {
        self.signal("-CONT").await
    }

    async fn signal(&self, signal: &str) -> Result<()> {
        let pid = self.pid().context("redis-server has ended")?.to_string();
        let status = Command::new("kill").args([signal, &pid]).status().await?;
        ensure!(status.success(), "kill {signal} {pid}: {status}");
        Ok(())
    }

    /// Copies what it has on its disk now.
    ///
    /// # Errors
    /// It can't be read.
    pub fn copy(&self) -> Result<Copy> {
        let copy = Scratch::new();
        std::fs::create_dir_all(copy.path())?;
        copy_files(&self.data.path().join(LOG), copy.path())?;
        Ok(Copy(copy))
    }

    /// Puts what it had on its disk at that time in the place of what it has. It must not run.
    ///
    /// # Errors
    /// It can't be written.
    pub fn put_back(&self, copy: &Copy) -> Result<()> {
        let log = self.data.path().join(LOG);
        std::fs::remove_dir_all(&log)?;
        std::fs::create_dir_all(&log)?;
        copy_files(copy.0.path(), &log)
    }

    /// Kills it and starts it again with what it had at that time: as after a power cut that took the
    /// end of the log, or with a backup.
    ///
    /// # Errors
    /// It does not start.
    pub async fn roll_back(&mut self, copy: &Copy) -> Result<()> {
        self.kill().await?;
        self.put_back(copy)?;
        self.start_again().await
    }

    /// All that it has written into its log: the commands as they came.
    ///
    /// # Errors
    /// It can't be read.
    pub fn written(&self) -> Result<Vec<u8>> {
        let mut written = Vec::new();
        for file in std::fs::read_dir(self.data.path().join(LOG))? {
            written.extend(std::fs::read(file?.path())?);
        }
        Ok(written)
    }

    /// Sends a command and gives the answer.
    ///
    /// # Errors
    /// No connection, or an error came.
    pub async fn ask(&self, command: &[&str]) -> Result<Reply> {
        resp::ask(self.address(), command).await
    }

    /// Ends the connections on which messages are heard, and no others.
    ///
    /// # Errors
    /// No answer.
    pub async fn kill_subscribers(&self) -> Result<u64> {
        self.ask(&["CLIENT", "KILL", "TYPE", "pubsub"]).await?.number()
    }

    /// All its keys.
    ///
    /// # Errors
    /// No answer.
    pub async fn keys(&self) -> Result<Vec<String>> {
        let mut keys = self.ask(&["KEYS", "*"]).await?.texts();
        keys.sort();
        Ok(keys)
    }

    /// How many keys it has.
    ///
    /// # Errors
    /// No answer.
    pub async fn size(&self) -> Result<u64> {
        self.ask(&["DBSIZE"]).await?.number()
    }

    /// The entries of a stream: the id of each, and its fields.
    ///
    /// # Errors
    /// No answer, or it is no stream.
    pub async fn entries(&self, stream: &str) -> Result<Vec<(String, Vec<String>)>> {
        let reply = self.ask(&["XRANGE", stream, "-", "+"]).await?;
        let Reply::List(entries) = reply else { bail!("XRANGE {stream}: {reply:?}") };
        let entry = |entry: Reply| {
            let Reply::List(parts) = entry else { return None };
            let mut parts = parts.into_iter();
            let id = parts.next()?.text()?;
            Some((id, parts.next()?.texts()))
        };
        Ok(entries.into_iter().filter_map(entry).collect())
    }

    /// Waits until it answers.
    async fn answers(&mut self) -> Result<()> {
        let began = Instant::now();
        loop {
            let pong = self.ask(&["PING"]).await;
            if pong.as_ref().is_ok_and(|pong| pong.is("PONG")) {
                return Ok(());
            }
            if let Some(status) = self.child.try_wait()? {
                bail!("redis-server ended ({status}): {}", self.said());
            }
            ensure!(began.elapsed() < START, "redis-server does not answer: {pong:?}");
            sleep(LOOK).await;
        }
    }

    /// What it has written into its log file.
    fn said(&self) -> String {
        std::fs::read_to_string(self.data.path().join("said")).unwrap_or_default()
    }
}

fn spawn(port: u16, fsync: Fsync, data: &Scratch) -> Result<Child> {
    let folder = data.path().display().to_string();
    let said: PathBuf = data.path().join("said");
    let mut redis = Command::new("redis-server");
    redis.args(["--bind", "127.0.0.1", "--port", &port.to_string(), "--dir", &folder]);
    redis.args(["--appendonly", "yes", "--appendfsync", fsync.name(), "--save", ""]);
    redis.args(["--maxmemory-policy", "noeviction", "--logfile"]).arg(said);
    redis.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).kill_on_drop(true);
    redis.spawn().context("needs redis-server: apt-get install redis-server")
}

fn copy_files(from: &std::path::Path, to: &std::path::Path) -> Result<()> {
    for file in std::fs::read_dir(from)? {
        let file = file?;
        // A file that Redis has rewritten meanwhile is gone, and not in its list any more.
        let _rewritten = std::fs::copy(file.path(), to.join(file.file_name()));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A Redis, unless there is none on this machine.
    async fn redis(fsync: Fsync) -> Option<Redis> {
        match missing() {
            None => Some(Redis::start(fsync).await.unwrap()),
            Some(reason) => {
                assert!(std::env::var("CI").as_deref() != Ok("true"), "{reason}");
                None
            }
        }
    }

    #[tokio::test]
    async fn what_is_on_the_disk_outlives_a_kill_and_can_be_rolled_back() {
        let Some(mut redis) = redis(Fsync::Always).await else { return };
        redis.ask(&["XADD", "room", "1-0", "text", "one"]).await.unwrap();
        let copy = redis.copy().unwrap();
        redis.ask(&["XADD", "room", "2-0", "text", "two"]).await.unwrap();
        redis.kill().await.unwrap();
        redis.start_again().await.unwrap();
        let ids = |entries: Vec<(String, Vec<String>)>| {
            entries.into_iter().map(|(id, fields)| (id, fields.join("="))).collect::<Vec<_>>()
        };
        let entry = |id: &str, text: &str| (id.to_owned(), text.to_owned());
        let all = ids(redis.entries("room").await.unwrap());
        assert_eq!(all, [entry("1-0", "text=one"), entry("2-0", "text=two")]);

        redis.roll_back(&copy).await.unwrap();
        assert_eq!(ids(redis.entries("room").await.unwrap()), [entry("1-0", "text=one")]);
        assert_eq!(
            (redis.keys().await.unwrap(), redis.size().await.unwrap()),
            (vec!["room".to_owned()], 1)
        );
    }

    #[tokio::test]
    async fn a_frozen_redis_says_nothing_until_it_goes_on() {
        let Some(redis) = redis(Fsync::EverySecond).await else { return };
        redis.freeze().await.unwrap();
        let silent = tokio::time::timeout(Duration::from_millis(200), redis.ask(&["PING"])).await;
        assert!(silent.is_err());
        redis.thaw().await.unwrap();
        assert!(redis.ask(&["PING"]).await.unwrap().is("PONG"));
        assert!(redis.ask(&["NONSENSE"]).await.is_err());
        assert_eq!(redis.kill_subscribers().await.unwrap(), 0);
    }
}
