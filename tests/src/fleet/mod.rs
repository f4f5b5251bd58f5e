//! Several nodes over one Redis behind nginx, as they are run in earnest, and what may happen to them.
//!
//! - [`nginx`]: the load balancer, with the configuration that is shipped;
//! - [`log`]: what is in Redis, for comparison with what clients have seen;
//! - [`runs`]: faults under load, and what must be true afterwards;
//! - [`peer`]: the same faults for Socket.IO, to compare.

pub mod log;
pub mod nginx;
pub mod peer;
pub mod runs;

use std::net::SocketAddr;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use tokio::time::{Instant, sleep};

use crate::chance::Chance;
use crate::load::door::Door;
use crate::load::process;
use crate::program::{Program, Running, Stop};
use crate::proxy::{Fault, FaultProxy};
use crate::redis::{self, Fsync, Redis, lasting_port};
use crate::swarm::{Habits, Person, Swarm};
use nginx::Nginx;

/// What begins every key.
pub const PREFIX: &str = "fleet";

/// How long a node may take to end after SIGTERM, beyond its drain.
const END: Duration = Duration::from_secs(12);

/// How a fleet is set up.
#[derive(Debug, Clone, Copy)]
pub struct Shape {
    /// How many nodes.
    pub nodes: usize,
    /// How many clients.
    pub clients: usize,
    /// How many of them have to do without a WebSocket.
    pub without_websocket: usize,
    /// In how many rooms each of them is.
    pub rooms: usize,
    /// When Redis brings things to the disk.
    pub fsync: Fsync,
    /// Over how many seconds a node that stops sends its clients away.
    pub drain: u64,
}

/// What is missing to run a fleet, if something is.
pub fn missing() -> Option<String> {
    redis::missing().or_else(|| redis::missing_program("nginx", "nginx"))
}

/// The nodes, and what they need. Dropping it stops everything.
#[derive(Debug)]
pub struct Fleet {
    nodes: Vec<Node>,
    /// Where clients connect to.
    pub nginx: Nginx,
    /// What the nodes share.
    pub redis: Redis,
    healed: f64,
}

/// One node.
#[derive(Debug)]
struct Node {
    program: Program,
    running: Running,
    /// Its way to Redis.
    wire: FaultProxy,
    /// When the wire is mended.
    mended: Option<Instant>,
}

impl Node {
    async fn start(program: &Program, redis: &Redis, drain: u64) -> Result<Self> {
        let wire = FaultProxy::start(any_port(), redis.address()).await?;
        let program = program
            .clone()
            .unlimited()
            .env("REDIS_URL", format!("redis://{}/0", wire.addr()))
            .env("REDIS_PREFIX", PREFIX)
            // The same after a restart: nginx knows it.
            .env("PORT", lasting_port()?)
            .env("TRUSTED_PROXIES", "127.0.0.1")
            .env("DRAIN_SECONDS", drain)
            .env("RUST_LOG", "warn");
        let running = program.start().await?;
        Ok(Self { program, running, wire, mended: None })
    }

    /// Starts it again. Without Redis it would not start, and somebody would have to try once more.
    async fn start_again(&mut self) -> Result<()> {
        self.mend();
        self.running = self.program.start().await?;
        Ok(())
    }

    fn mend(&mut self) {
        self.wire.set(Fault::None);
        self.mended = None;
    }
}

fn any_port() -> SocketAddr {
    SocketAddr::from(([127, 0, 0, 1], 0))
}

impl Fleet {
    /// Starts a Redis, nodes and nginx.
    ///
    /// # Errors
    /// Something does not start.
    pub async fn start(program: &Program, shape: Shape) -> Result<Self> {
        program.build().await?;
        let redis = Redis::start(shape.fsync).await?;
        let mut nodes = Vec::new();
        for _ in 0..shape.nodes {
            nodes.push(Node::start(program, &redis, shape.drain).await?);
        }
        let addresses: Vec<String> =
            nodes.iter().map(|node| node.running.address().to_owned()).collect();
        let nginx = Nginx::start(&addresses).await?;
        Ok(Self { nodes, nginx, redis, healed: 0.0 })
    }

    /// Registers clients, and lets them in.
    ///
    /// # Errors
    /// The server refuses somebody.
    pub async fn gather(
        &self,
        shape: Shape,
        habits: &Habits,
        chance: &mut Chance,
    ) -> Result<Swarm> {
        let node = self.nodes.first().context("a node")?;
        let accounts = Door::of(&node.running, 5).register_all(1, "user", shape.clients).await?;
        let people = accounts.into_iter().enumerate().map(|(number, account)| Person {
            name: account.name,
            address: self.nginx.address(),
            token: account.token,
            without_websocket: number < shape.without_websocket,
        });
        Ok(Swarm::of(people, habits, chance))
    }

    /// How many nodes there are.
    pub fn size(&self) -> usize {
        self.nodes.len()
    }

    fn node(&mut self, number: usize) -> Result<&mut Node> {
        self.nodes.get_mut(number).context("no such node")
    }

    /// Kills a node (kill -9), and starts it again after a while.
    ///
    /// # Errors
    /// It does not start.
    pub async fn kill_node(&mut self, number: usize, pause: Duration) -> Result<()> {
        self.note(number).await;
        let node = self.node(number)?;
        node.running.kill().await?;
        sleep(pause).await;
        node.start_again().await
    }

    /// Asks a node to stop (SIGTERM), waits for its end, and starts it again.
    ///
    /// # Errors
    /// It does not end in time with exit code 0, or does not start.
    pub async fn stop_node(&mut self, number: usize, drain: Duration) -> Result<()> {
        self.note(number).await;
        let node = self.node(number)?;
        node.running.signal(Stop::Term).await?;
        let status = node.running.wait_exit(drain + END).await?;
        ensure!(status.success(), "a node: {status}\n{}", node.running.stderr());
        node.start_again().await
    }

    /// Makes a node's way to Redis bad until then.
    ///
    /// # Errors
    /// There is no such node.
    pub fn trouble(&mut self, number: usize, fault: Fault, pause: Duration) -> Result<()> {
        let node = self.node(number)?;
        node.wire.set(fault);
        node.mended = Some(Instant::now() + pause);
        Ok(())
    }

    /// Ends a node's connections to Redis.
    ///
    /// # Errors
    /// There is no such node.
    pub fn cut(&mut self, number: usize) -> Result<()> {
        self.node(number)?.wire.cut();
        Ok(())
    }

    /// Mends what was bad for long enough; at the end, everything.
    pub fn mend(&mut self, everything: bool) {
        for node in &mut self.nodes {
            if node.mended.is_some_and(|time| everything || time <= Instant::now()) {
                node.mend();
            }
        }
    }

    /// Counts what a node has healed, before it is gone.
    async fn note(&mut self, number: usize) {
        if let Some(node) = self.nodes.get(number)
            && let Ok(Some(healed)) = process::metric(&node.running, "gaps_healed_total").await
        {
            self.healed += healed;
        }
    }

    /// How many gaps the nodes have healed, as far as they could still say so.
    pub async fn healed(&mut self) -> f64 {
        for number in 0..self.nodes.len() {
            self.note(number).await;
        }
        std::mem::take(&mut self.healed)
    }

    /// What a node has to complain about: panics, in any of those that run.
    pub fn panics(&self) -> Vec<String> {
        self.nodes.iter().flat_map(|node| node.running.panics()).collect()
    }
}
