//! The same faults for Socket.IO with its Redis Streams adapter: see `tests/peers/socketio-redis`.

use std::collections::BTreeMap;
use std::process::Stdio;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use serde_json::Value;
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader, Lines};
use tokio::process::{Child, ChildStdin, ChildStdout, Command};
use tokio::time::{Instant, sleep, timeout};

use super::runs::{Trouble, suffer};
use super::{Fleet, Shape};
use crate::chance::Chance;
use crate::program::{Program, workspace};

/// Where its programs are.
const FOLDER: &str = "tests/peers/socketio-redis";

/// How long its clients may take to come, and to have everything answered. Each tries a message eleven
/// times, two seconds each.
const PATIENCE: Duration = Duration::from_secs(60);

/// How long the last messages may take to everyone.
const LAST: Duration = Duration::from_secs(3);

/// What is missing to run it, if something is.
pub fn missing() -> Option<String> {
    let peers = workspace().join("tests/peers");
    if std::process::Command::new("node").arg("--version").stdout(Stdio::null()).status().is_err() {
        return Some("Node is not installed".to_owned());
    }
    let installed = peers.join("node_modules/@socket.io").exists();
    (!installed).then(|| "run `npm ci` in tests/peers first".to_owned())
}

/// What came of a run.
#[derive(Debug)]
pub struct Account {
    /// What was done.
    pub what: String,
    /// How long it took.
    pub took: Duration,
    /// How often each thing happened.
    pub troubles: BTreeMap<Trouble, usize>,
    /// What its own program has counted.
    pub figures: Value,
}

impl std::fmt::Display for Account {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        for (trouble, count) in &self.troubles {
            writeln!(f, "       {count:>4} × {trouble}")?;
        }
        writeln!(f, "beside  {} ({:.1} s)", self.what, self.took.as_secs_f64())?;
        let figure = |name: &str| self.figures.get(name).map_or(0, |it| it.as_u64().unwrap_or(0));
        writeln!(
            f,
            "       {} messages acked, {} failed; {} deliveries",
            figure("acked"),
            figure("failed"),
            figure("deliveries")
        )?;
        write!(
            f,
            "       {} acked and lost for a member, {} seen twice, {} pairs seen in opposite orders; {} reconnections recovered, {} not",
            figure("lost"),
            figure("twice"),
            figure("disorder"),
            figure("recovered"),
            figure("unrecovered")
        )
    }
}

/// The same nodes, Redis, nginx and faults as in [`runs::random`](super::runs::random), with the same seed.
///
/// # Errors
/// Something does not start, or start again.
pub async fn random(shape: Shape, time: Duration, rate: f64, seed: u64) -> Result<Account> {
    let program = Program::node(&format!("{FOLDER}/server.js"));
    let mut fleet = Fleet::start(&program, shape).await?;
    let mut clients = Clients::start(&fleet, shape, rate)?;
    clients.until("connected", shape.clients).await?;
    let began = Instant::now();
    let mut chance = Chance::seeded(seed);
    let troubles =
        clients.while_they_talk(suffer(&mut fleet, None, shape, time, &mut chance)).await?;
    let took = began.elapsed();
    let figures = clients.finish().await?;
    let count: usize = troubles.values().sum();
    let what = format!(
        "Socket.IO: {count} faults by chance of {} nodes, Redis and nginx, with {} clients in {} rooms (seed {seed})",
        shape.nodes, shape.clients, shape.rooms
    );
    Ok(Account { what, took, troubles, figures })
}

/// Its clients, and the program that counts what they print.
struct Clients {
    child: Child,
    stdin: ChildStdin,
    printed: Lines<BufReader<ChildStdout>>,
    summary: Child,
    counting: ChildStdin,
}

impl Clients {
    fn start(fleet: &Fleet, shape: Shape, rate: f64) -> Result<Self> {
        let mut clients = node("clients.js");
        clients.env("URL", format!("http://{}", fleet.nginx.address()));
        clients.env("CLIENTS", shape.clients.to_string()).env("ROOMS", shape.rooms.to_string());
        clients.env("RATE", format!("{}", rate.round().max(1.0)));
        let (mut child, mut summary) = (clients.spawn()?, node("summary.js").spawn()?);
        let stdin = child.stdin.take().context("no stdin")?;
        let printed = BufReader::new(child.stdout.take().context("no stdout")?).lines();
        let counting = summary.stdin.take().context("no stdin")?;
        Ok(Self { child, stdin, printed, summary, counting })
    }

    /// Reads a line, and passes it on to be counted.
    async fn line(&mut self) -> Result<String> {
        let line = self.printed.next_line().await?.context("the clients have ended")?;
        self.counting.write_all(format!("{line}\n").as_bytes()).await?;
        Ok(line)
    }

    /// Reads until so many lines have come with this in them.
    async fn until(&mut self, text: &str, count: usize) -> Result<()> {
        let text = format!("\"{text}\":true");
        let reading = async {
            let mut came = 0;
            while came < count {
                came += usize::from(self.line().await?.contains(&text));
            }
            Ok(())
        };
        match timeout(PATIENCE, reading).await {
            Ok(read) => read,
            Err(_elapsed) => bail!("the clients of Socket.IO did not say {text} in {PATIENCE:?}"),
        }
    }

    /// Reads what they print for as long as something else takes.
    async fn while_they_talk<T>(&mut self, other: impl Future<Output = Result<T>>) -> Result<T> {
        tokio::pin!(other);
        loop {
            tokio::select! {
                done = &mut other => return done,
                line = self.line() => drop(line?),
            }
        }
    }

    /// Lets them end, and gives what was counted.
    async fn finish(mut self) -> Result<Value> {
        self.stdin.write_all(b"quiet\n").await?;
        // Where some never come to an end, what there is counts.
        if let Err(error) = self.until("quiet", 1).await {
            println!("       {error:#}");
        }
        self.while_they_talk(async {
            sleep(LAST).await;
            Ok(())
        })
        .await?;
        self.stdin.write_all(b"stop\n").await?;
        self.until("stopped", 1).await?;
        let Self { mut child, summary, counting, .. } = self;
        drop(counting);
        timeout(PATIENCE, child.wait()).await??;
        let counted = timeout(PATIENCE, summary.wait_with_output()).await??;
        Ok(serde_json::from_slice(&counted.stdout)?)
    }
}

fn node(script: &str) -> Command {
    let mut node = Command::new("node");
    node.arg(workspace().join(FOLDER).join(script)).kill_on_drop(true);
    node.stdin(Stdio::piped()).stdout(Stdio::piped());
    node
}
