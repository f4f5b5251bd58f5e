//! The whole cluster, and what can be done to it.

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use ::tests::program::Running;
use ::tests::redis::{Fsync, Redis};
use anyhow::{Context, Result, anyhow, bail};
use tokio::net::TcpListener;
use tokio::sync::Mutex as SlowMutex;
use tokio::sync::mpsc;
use tokio::task::JoinSet;

use super::balancer::Balancer;
use super::command::{Action, Whom};
use super::node::{self, Life, Node};
use crate::serve::ports;

/// Something that has happened, in a sentence.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Note {
    /// When.
    pub at: Instant,
    /// Whether it is good, bad, or neither.
    pub tone: Tone,
    /// The sentence.
    pub text: String,
}

/// Whether something is good, bad, or neither.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Tone {
    /// As it should be again.
    Good,
    /// Something breaks.
    Bad,
    /// Something else is done to the cluster.
    Plain,
    /// Nothing is done to it.
    Aside,
}

/// Where the balancer and the nodes listen.
#[derive(Debug)]
pub struct Places {
    balancer: TcpListener,
    nodes: Vec<SocketAddr>,
}

impl Places {
    /// The balancer at this port, and the nodes at the next ones; with port 0 at any free ones.
    ///
    /// # Errors
    /// One of them is taken: a sentence with a way out.
    pub async fn find(port: u16, nodes: usize) -> Result<Self> {
        const INSTEAD: &str = "give the cluster other ports: cargo learn cluster --port 4010";
        let balancer = TcpListener::bind((Ipv4Addr::LOCALHOST, port)).await;
        let balancer = balancer.map_err(|error| ports::cannot_listen(port, &error, INSTEAD))?;
        // Held until all are found, so that no two are the same.
        let mut held = Vec::new();
        for number in (1..=u16::try_from(nodes)?).map(|number| port.saturating_add(number)) {
            // A node must get its port again after its death, so the system must not give it away.
            let number = if port == 0 { ::tests::redis::lasting_port()? } else { number };
            let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, number)).await;
            held.push(listener.map_err(|error| ports::cannot_listen(number, &error, INSTEAD))?);
        }
        let nodes = held.iter().map(TcpListener::local_addr).collect::<Result<_, _>>()?;
        Ok(Self { balancer, nodes })
    }
}

/// A running cluster. Dropping it kills everything in it.
#[derive(Debug)]
pub struct Stage {
    nodes: Vec<Arc<Node>>,
    redis: SlowMutex<Redis>,
    redis_life: Mutex<Life>,
    redis_address: SocketAddr,
    balancer: Balancer,
    notes: mpsc::UnboundedSender<Note>,
    /// Who asks the nodes how they are.
    _watching: JoinSet<()>,
}

impl Stage {
    /// Starts Redis, the nodes and the balancer. What happens from then on is told to `notes`.
    ///
    /// # Errors
    /// Something does not start.
    pub async fn set(places: Places, notes: mpsc::UnboundedSender<Note>) -> Result<Self> {
        let redis = Redis::start(Fsync::Always).await.context("can't start Redis")?;
        let redis_address = redis.address();
        let mut nodes = Vec::new();
        for (number, address) in (1..).zip(places.nodes) {
            nodes.push(Arc::new(Node::new(number, address, redis_address).await?));
        }
        for node in &nodes {
            node.start().await?;
        }
        let doors = nodes.iter().map(|node| Arc::clone(node.door())).collect();
        let balancer = Balancer::start(places.balancer, doors)?;
        let watching = nodes.iter().map(|node| Arc::clone(node).watch()).collect();
        Ok(Self {
            nodes,
            redis: SlowMutex::new(redis),
            redis_life: Mutex::new(Life::Up),
            redis_address,
            balancer,
            notes,
            _watching: watching,
        })
    }

    /// The nodes, the first of which is number 1.
    pub fn nodes(&self) -> &[Arc<Node>] {
        &self.nodes
    }

    /// Where everyone goes in.
    pub fn door(&self) -> SocketAddr {
        self.balancer.address()
    }

    /// Where Redis is.
    pub fn redis_address(&self) -> SocketAddr {
        self.redis_address
    }

    /// What Redis is doing.
    pub fn redis_life(&self) -> Life {
        *self.redis_life.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn redis_is_now(&self, life: Life) {
        *self.redis_life.lock().unwrap_or_else(PoisonError::into_inner) = life;
    }

    /// Tells something.
    pub fn tell(&self, tone: Tone, text: impl Into<String>) {
        let _nobody_listens = self.notes.send(Note { at: Instant::now(), tone, text: text.into() });
    }

    /// Does something, and tells what came of it, or why it can't be done.
    pub async fn perform(&self, action: Action, whom: Whom) {
        let outcome = match (action.expect_for(whom), whom) {
            (Err(sentence), _) => Err(anyhow!(sentence)),
            (Ok(()), Whom::Node(number)) => self.to_node(action, number).await,
            (Ok(()), Whom::Redis) => self.to_redis(action).await,
        };
        if let Err(error) = outcome {
            self.tell(Tone::Aside, format!("{error:#}"));
        }
    }

    async fn to_node(&self, action: Action, number: usize) -> Result<()> {
        let node = number.checked_sub(1).and_then(|place| self.nodes.get(place));
        let node = node.with_context(|| format!("there is no node {number}"))?;
        let clients = connections(node.connections_now().await);
        match action {
            Action::Kill => {
                node.kill().await?;
                let text = format!("node {number} was killed (kill -9); it had {clients}");
                self.tell(Tone::Bad, text);
            }
            Action::Stop => self.stop(node, number, &clients).await?,
            Action::Start => {
                node.start().await?;
                self.tell(
                    Tone::Good,
                    format!("node {number} is up again; new connections go there"),
                );
            }
            Action::Freeze => {
                node.freeze().await?;
                let text = format!("node {number} is frozen (SIGSTOP), with {clients}");
                self.tell(Tone::Bad, text);
            }
            Action::Thaw => {
                node.thaw().await?;
                self.tell(Tone::Good, format!("node {number} goes on"));
            }
            Action::Cut => {
                node.cut();
                let is_there = node.condition().life.is_process();
                let text = if is_there { format!("; it keeps {clients}") } else { String::new() };
                let text = format!("node {number} is cut off from Redis{text}");
                self.tell(Tone::Bad, text);
            }
            Action::Mend => {
                node.mend();
                self.tell(Tone::Good, format!("node {number} can reach Redis again"));
            }
        }
        Ok(())
    }

    async fn stop(&self, node: &Node, number: usize, clients: &str) -> Result<()> {
        if node.condition().life == Life::Up {
            let text = format!("node {number} is asked to stop (SIGTERM); it sends {clients} away");
            self.tell(Tone::Plain, text);
        }
        let took = node.stop().await?;
        self.tell(Tone::Plain, format!("node {number} has stopped after {}", seconds(took)));
        Ok(())
    }

    async fn to_redis(&self, action: Action) -> Result<()> {
        let mut redis = self.redis.lock().await;
        let life = self.redis_life();
        match (action, life) {
            (Action::Kill, Life::Up | Life::Frozen) => {
                redis.kill().await?;
                self.redis_is_now(Life::Killed);
                self.tell(
                    Tone::Bad,
                    "Redis was killed (kill -9); all stay connected, messages wait",
                );
            }
            (Action::Start, Life::Killed) => {
                self.redis_is_now(Life::Starting);
                let started = redis.start_again().await;
                self.redis_is_now(if started.is_ok() { Life::Up } else { Life::Killed });
                started?;
                self.tell(Tone::Good, "Redis is up again, with all that is on its disk");
            }
            (Action::Freeze, Life::Up) => {
                redis.freeze().await?;
                self.redis_is_now(Life::Frozen);
                self.tell(
                    Tone::Bad,
                    "Redis is frozen (SIGSTOP); it is connected, and says nothing",
                );
            }
            (Action::Thaw, Life::Frozen) => {
                redis.thaw().await?;
                self.redis_is_now(Life::Up);
                self.tell(Tone::Good, "Redis goes on");
            }
            _ => bail!("can't {action} Redis: it is {}", life.words()),
        }
        Ok(())
    }

    /// Mends whatever is broken, as far as it takes for everything to arrive.
    pub async fn mend(&self) {
        for (number, node) in (1..).zip(&self.nodes) {
            if !node.condition().is_wired {
                self.perform(Action::Mend, Whom::Node(number)).await;
            }
            if node.condition().life == Life::Frozen {
                self.perform(Action::Thaw, Whom::Node(number)).await;
            }
        }
        match self.redis_life() {
            Life::Frozen => self.perform(Action::Thaw, Whom::Redis).await,
            Life::Killed => self.perform(Action::Start, Whom::Redis).await,
            _ => {}
        }
        if !self.nodes.iter().any(|node| node.condition().life == Life::Up) {
            self.perform(Action::Start, Whom::Node(1)).await;
        }
    }

    /// Starts one more node, which has heard nothing: what it tells, it has read in Redis.
    ///
    /// # Errors
    /// It does not start.
    pub async fn witness(&self) -> Result<Running> {
        node::program(self.redis_address).start().await.context("no new node can be started")
    }

    /// Sees whether a node has ended by itself.
    pub async fn look(&self) {
        for node in &self.nodes {
            if let Some(words) = node.last_words().await {
                self.tell(Tone::Bad, words);
            }
        }
    }

    /// Stops every node in good order.
    pub async fn end(&self) {
        let mut ending = JoinSet::new();
        for node in self.nodes.iter().filter(|node| node.condition().life == Life::Up) {
            let node = Arc::clone(node);
            ending.spawn(async move { node.stop().await });
        }
        while ending.join_next().await.is_some() {}
    }
}

fn connections(count: Option<u64>) -> String {
    match count {
        None => "its connections".to_owned(),
        Some(0) => "no connection".to_owned(),
        Some(1) => "1 connection".to_owned(),
        Some(count) => format!("{count} connections"),
    }
}

/// A time for people.
pub fn seconds(time: Duration) -> String {
    format!("{:.1} s", time.as_secs_f64())
}
