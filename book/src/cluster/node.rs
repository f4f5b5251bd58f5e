//! One node: its process, its wire to Redis, and its door in the load balancer.

use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use ::tests::program::{Program, Running, Stop};
use ::tests::proxy::{Fault, FaultProxy};
use ::tests::raw;
use anyhow::{Context, Result, bail};
use tokio::sync::Mutex as SlowMutex;
use tokio::time::{Instant, sleep, timeout};

use super::balancer::Door;

/// How often a node is asked how it is.
const BEAT: Duration = Duration::from_millis(250);

/// How long it may take to answer; then the balancer passes it by.
const ANSWER: Duration = Duration::from_millis(750);

/// Over how many seconds a node that stops sends its clients away.
const DRAIN_SECONDS: u32 = 2;

/// How long it may take to end, all in all.
const END: Duration = Duration::from_secs(12);

/// What a process is doing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Life {
    /// It was started, and is not there yet.
    Starting,
    /// It runs.
    Up,
    /// It stands still.
    Frozen,
    /// It sends its clients away.
    Stopping,
    /// It was asked to end, and did.
    Stopped,
    /// It was killed.
    Killed,
    /// It has ended and nobody has asked for that.
    Ended,
}

impl Life {
    /// In words.
    pub fn words(self) -> &'static str {
        match self {
            Self::Starting => "starting",
            Self::Up => "up",
            Self::Frozen => "frozen",
            Self::Stopping => "stopping",
            Self::Stopped => "stopped",
            Self::Killed => "killed",
            Self::Ended => "ended",
        }
    }

    /// Whether there is a process.
    pub fn is_process(self) -> bool {
        matches!(self, Self::Starting | Self::Up | Self::Frozen | Self::Stopping)
    }
}

/// What is known about a node.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Condition {
    /// What its process is doing.
    pub life: Life,
    /// Whether its wire to Redis is whole.
    pub is_wired: bool,
    /// Its own count of chat connections, if it answers.
    pub connections: Option<u64>,
    /// Whether it says that messages can't be stored.
    pub is_degraded: bool,
}

/// The program of a node that finds Redis there. It takes any free port.
pub fn program(redis: SocketAddr) -> Program {
    Program::cargo_package("step05-production")
        .env("REDIS_URL", format!("redis://{redis}/0"))
        .env("DRAIN_SECONDS", DRAIN_SECONDS)
        // Behind the balancer everyone comes from one address.
        .env("MAX_CONNECTIONS_PER_ADDRESS", 1000)
        .env("RUST_LOG", "warn")
}

/// One node.
#[derive(Debug)]
pub struct Node {
    number: usize,
    program: Program,
    wire: FaultProxy,
    door: Arc<Door>,
    process: SlowMutex<Option<Running>>,
    condition: Mutex<Condition>,
    /// Where it answers who operates it. Another one after each start.
    admin: Mutex<Option<String>>,
}

impl Node {
    /// A node that does not run yet.
    ///
    /// # Errors
    /// There is no port for its wire.
    pub async fn new(number: usize, address: SocketAddr, redis: SocketAddr) -> io::Result<Self> {
        let wire = FaultProxy::start(SocketAddr::from((Ipv4Addr::LOCALHOST, 0)), redis).await?;
        let program = program(wire.addr()).env("PORT", address.port());
        let condition =
            Condition { life: Life::Killed, is_wired: true, connections: None, is_degraded: false };
        Ok(Self {
            number,
            program,
            wire,
            door: Arc::new(Door::to(address)),
            process: SlowMutex::new(None),
            condition: Mutex::new(condition),
            admin: Mutex::new(None),
        })
    }

    /// Its door in the balancer.
    pub fn door(&self) -> &Arc<Door> {
        &self.door
    }

    /// Where people can reach it without the balancer.
    pub fn url(&self) -> String {
        format!("http://{}", self.door.address())
    }

    /// What is known about it.
    pub fn condition(&self) -> Condition {
        *self.condition.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn note(&self, change: impl FnOnce(&mut Condition)) {
        change(&mut self.condition.lock().unwrap_or_else(PoisonError::into_inner));
    }

    fn is_now(&self, life: Life) {
        self.note(|condition| condition.life = life);
    }

    /// Starts it.
    ///
    /// # Errors
    /// It runs already, or does not start.
    pub async fn start(&self) -> Result<()> {
        let mut process = self.process.lock().await;
        let life = self.condition().life;
        if life.is_process() {
            bail!("node {} is {} already", self.number, life.words());
        }
        self.is_now(Life::Starting);
        match self.program.start().await {
            Ok(running) => {
                *self.admin.lock().unwrap_or_else(PoisonError::into_inner) =
                    running.admin_address().map(str::to_owned);
                *process = Some(running);
                self.is_now(Life::Up);
                self.door.open(true);
                Ok(())
            }
            Err(error) => {
                self.is_now(Life::Ended);
                Err(error.context(format!("node {} does not start", self.number)))
            }
        }
    }

    /// Kills it, whatever it is doing.
    ///
    /// # Errors
    /// There is nothing to kill.
    pub async fn kill(&self) -> Result<()> {
        let mut process = self.process.lock().await;
        let mut running = process.take().with_context(|| self.is_not("running"))?;
        self.is_now(Life::Killed);
        Ok(running.kill().await?)
    }

    /// Asks it to end, and waits until it has. Gives the time it took.
    ///
    /// # Errors
    /// It does not run, is frozen, or does not end with exit code 0.
    pub async fn stop(&self) -> Result<Duration> {
        let mut process = self.process.lock().await;
        let life = self.condition().life;
        if life == Life::Frozen {
            bail!("node {} is frozen and can't hear that: thaw it first, or kill it", self.number);
        }
        let mut running = process.take().with_context(|| self.is_not("running"))?;
        self.is_now(Life::Stopping);
        // As whoever stops a node should: who is sent away must not be led back.
        self.door.open(false);
        let since = Instant::now();
        running.signal(Stop::Term).await?;
        let status = running.wait_exit(END).await;
        self.is_now(if status.is_ok() { Life::Stopped } else { Life::Killed });
        let status = status?;
        if !status.success() {
            bail!("node {} has ended with {status}", self.number);
        }
        Ok(since.elapsed())
    }

    /// Lets it stand still, with all its connections.
    ///
    /// # Errors
    /// It does not run.
    pub async fn freeze(&self) -> Result<()> {
        self.signal(Life::Up, Stop::Freeze, Life::Frozen).await
    }

    /// Lets it go on.
    ///
    /// # Errors
    /// It is not frozen.
    pub async fn thaw(&self) -> Result<()> {
        self.signal(Life::Frozen, Stop::Thaw, Life::Up).await
    }

    async fn signal(&self, from: Life, signal: Stop, to: Life) -> Result<()> {
        let process = self.process.lock().await;
        let running = process.as_ref().filter(|_| self.condition().life == from);
        running.with_context(|| self.is_not(from.words()))?.signal(signal).await?;
        self.is_now(to);
        Ok(())
    }

    /// Cuts its wire to Redis.
    pub fn cut(&self) {
        // In this order, or it would be back before the wire is dead.
        self.wire.set(Fault::Refuse);
        self.wire.cut();
        self.note(|condition| condition.is_wired = false);
    }

    /// Lays the wire again.
    pub fn mend(&self) {
        self.wire.set(Fault::None);
        self.note(|condition| condition.is_wired = true);
    }

    fn is_not(&self, what: &str) -> String {
        format!("node {} is not {what}", self.number)
    }

    /// Sees whether it has ended by itself, and gives its last words then.
    pub async fn last_words(&self) -> Option<String> {
        // Who holds this is about to change it.
        let mut process = self.process.try_lock().ok()?;
        if process.as_mut()?.is_alive() {
            return None;
        }
        let log = process.take().map(|running| running.stderr()).unwrap_or_default();
        self.is_now(Life::Ended);
        let last = log.lines().last().unwrap_or_default();
        Some(format!("node {} has ended by itself: {last}", self.number))
    }

    /// Asks it again and again how it is: for the balancer, as one asks `/readyz`, and for the screen.
    pub async fn watch(self: Arc<Self>) {
        loop {
            let (is_ready, metrics) = tokio::join!(self.ask("/readyz"), self.ask("/metrics"));
            self.door.open(is_ready.is_some() && self.condition().life == Life::Up);
            let connections = metrics.as_deref().map(|text| total(text, "connections"));
            let is_degraded = metrics.is_some_and(|text| total(&text, "degraded") > 0);
            self.note(|condition| {
                condition.connections = connections;
                condition.is_degraded = is_degraded;
            });
            sleep(BEAT).await;
        }
    }

    /// How many connections it has at this moment or, if it does not answer, had when it last did.
    pub async fn connections_now(&self) -> Option<u64> {
        let metrics = self.ask("/metrics").await;
        metrics.map(|text| total(&text, "connections")).or(self.condition().connections)
    }

    /// The body of an answer that says yes.
    async fn ask(&self, path: &str) -> Option<String> {
        if !self.condition().life.is_process() {
            return None;
        }
        let admin = self.admin.lock().unwrap_or_else(PoisonError::into_inner).clone()?;
        let answer = timeout(ANSWER, raw::request(&admin, "GET", path, &[])).await.ok()?.ok()?;
        (answer.status == 200).then_some(answer.body)
    }
}

/// The sum of a metric over all its labels.
fn total(metrics: &str, name: &str) -> u64 {
    let value = |line: &str| {
        let (key, value) = line.rsplit_once(' ')?;
        let is_it = key.split('{').next() == Some(name);
        if is_it { value.parse::<f64>().ok() } else { None }
    };
    // Rust's `as` makes 0 of what is below it.
    metrics.lines().filter_map(value).sum::<f64>() as u64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_metric_is_summed_over_its_labels() {
        let metrics = "# HELP connections Chat connections.\n# TYPE connections gauge\n\
            connections{transport=\"websocket\"} 4\nconnections{transport=\"sse\"} 1\n\
            connections_total 9\ndegraded 1\n";
        assert_eq!(total(metrics, "connections"), 5);
        assert_eq!(total(metrics, "degraded"), 1);
        assert_eq!(total(metrics, "rooms"), 0);
    }

    #[tokio::test]
    async fn what_can_not_be_done_is_one_sentence() {
        let nowhere = SocketAddr::from((Ipv4Addr::LOCALHOST, 9));
        let node = Node::new(2, nowhere, nowhere).await.unwrap();
        for outcome in [node.kill().await, node.freeze().await, node.stop().await.map(drop)] {
            let sentence = outcome.unwrap_err().to_string();
            assert!(sentence.starts_with("node 2 is not "), "{sentence}");
        }
        assert_eq!(node.thaw().await.unwrap_err().to_string(), "node 2 is not frozen");
        assert_eq!(node.last_words().await, None);
    }
}
