//! Faults of a fleet under load. Afterwards what each client has sent and seen is compared with what
//! is in Redis.

use std::collections::BTreeMap;
use std::fmt;
use std::time::Duration;

use anyhow::{Result, ensure};
use tokio::time::{Instant, sleep};

use super::{Fleet, PREFIX, Shape, log};
use crate::chance::Chance;
use crate::faults::Report;
use crate::model::Figures;
use crate::program::Program;
use crate::proxy::Fault;
use crate::swarm::{Habits, Swarm};

/// How long clients may take to come, to have everything acked, and to catch up.
const PATIENCE: Duration = Duration::from_secs(60);

/// How many messages a room may get in a run: it keeps 10,000, and nobody may have a gap.
const PER_ROOM: f64 = 9000.0;

/// What may happen to a fleet.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Trouble {
    /// kill -9 of a node.
    KillNode,
    /// SIGTERM of a node.
    StopNode,
    /// kill -9 of Redis.
    KillRedis,
    /// SIGSTOP of Redis.
    FreezeRedis,
    /// CLIENT KILL TYPE pubsub.
    KillSubscribers,
    /// A node's connections to Redis are reset.
    CutWire,
    /// Nothing passes between a node and Redis.
    StallWire,
    /// Little passes between a node and Redis.
    SlowWire,
    /// nginx reads its configuration again.
    ReloadNginx,
    /// Every client begins anew with what it has stored.
    ReloadClients,
}

/// All of them. Nodes are killed and stopped most often.
const TROUBLES: [Trouble; 12] = [
    Trouble::KillNode,
    Trouble::KillNode,
    Trouble::StopNode,
    Trouble::StopNode,
    Trouble::KillRedis,
    Trouble::FreezeRedis,
    Trouble::KillSubscribers,
    Trouble::CutWire,
    Trouble::StallWire,
    Trouble::SlowWire,
    Trouble::ReloadNginx,
    Trouble::ReloadClients,
];

impl fmt::Display for Trouble {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::KillNode => "kill -9 of a node",
            Self::StopNode => "SIGTERM of a node under load",
            Self::KillRedis => "kill -9 of Redis",
            Self::FreezeRedis => "SIGSTOP of Redis for 1 to 5 s",
            Self::KillSubscribers => "CLIENT KILL TYPE pubsub",
            Self::CutWire => "cut between a node and Redis",
            Self::StallWire => "nothing passes between a node and Redis, for up to 6 s",
            Self::SlowWire => "a slow wire between a node and Redis, for up to 6 s",
            Self::ReloadNginx => "reload of nginx",
            Self::ReloadClients => "all clients begin anew",
        })
    }
}

/// What happened in a run, and what came of it.
#[derive(Debug)]
pub struct Outcome {
    /// The comparison.
    pub report: Report,
    /// How often each thing happened.
    pub troubles: BTreeMap<Trouble, usize>,
    /// What else is worth knowing.
    pub notes: Vec<String>,
}

impl Outcome {
    /// Whether everything was as it should be.
    pub fn is_right(&self) -> bool {
        self.report.figures.is_right()
    }
}

impl fmt::Display for Outcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (trouble, count) in &self.troubles {
            writeln!(f, "       {count:>4} × {trouble}")?;
        }
        write!(f, "{}", self.report)?;
        self.notes.iter().try_for_each(|note| write!(f, "\n       {note}"))
    }
}

/// Rooms with these numbers.
fn rooms(count: usize) -> Vec<String> {
    (1..=count).map(|number| format!("room{number}")).collect()
}

/// Clients in a hurry in so many rooms.
fn habits(shape: Shape) -> Habits {
    Habits { rooms: rooms(shape.rooms), ..Habits::hasty(&[]) }
}

/// Lets the clients talk: so many messages a second all together.
fn talk(swarm: &Swarm, shape: Shape, rate: f64) {
    swarm.talk(Duration::from_secs_f64(shape.clients as f64 / rate));
}

/// Everyone stops talking, has everything acked, and catches up; then all are compared with Redis.
async fn judge(fleet: &Fleet, swarm: &Swarm, rooms: &[String]) -> Result<(Figures, String)> {
    let quiet = Instant::now();
    swarm.listen();
    let mut late = Vec::new();
    late.extend(swarm.all_acked(PATIENCE).await.err());
    let acked = quiet.elapsed();
    let log = log::read(&fleet.redis, PREFIX, rooms).await?;
    late.extend(swarm.all_complete(&log, PATIENCE).await.err());
    let note = format!(
        "after the last fault all was acked in {:.1} s, and everyone had everything in {:.1} s",
        acked.as_secs_f64(),
        quiet.elapsed().as_secs_f64()
    );
    let mut figures = swarm.compare(&log);
    figures.wrong.extend(late.iter().map(ToString::to_string));
    figures.wrong.extend(fleet.panics());
    Ok((figures, note))
}

/// Everything that may happen, by chance, for so long.
///
/// # Errors
/// Something does not start, or start again.
pub async fn random(
    program: &Program,
    shape: Shape,
    time: Duration,
    rate: f64,
    seed: u64,
) -> Result<Outcome> {
    let (mut chance, habits) = (Chance::seeded(seed), habits(shape));
    let mut fleet = Fleet::start(program, shape).await?;
    // The faults are the same for whoever suffers them.
    let swarm = fleet.gather(shape, &habits, &mut chance.clone().fork()).await?;
    swarm.all_here(PATIENCE).await?;
    let began = Instant::now();
    let most = PER_ROOM * shape.rooms as f64 / time.as_secs_f64();
    talk(&swarm, shape, rate.min(most));
    let troubles = suffer(&mut fleet, Some(&swarm), shape, time, &mut chance).await?;
    let took = began.elapsed();
    let (figures, note) = judge(&fleet, &swarm, &habits.rooms).await?;
    let count: usize = troubles.values().sum();
    let what = format!(
        "{count} faults by chance of {} nodes, Redis and nginx, with {} clients in {} rooms (seed {seed})",
        shape.nodes, shape.clients, shape.rooms
    );
    let healed = fleet.healed().await;
    let notes = vec![
        note,
        format!("{healed} gaps healed by nodes that could still say so"),
        format!("{} streams ended for a newer one of their client", swarm.replaced()),
    ];
    Ok(Outcome { report: Report { what, took, figures }, troubles, notes })
}

/// Lets things happen for so long. Gives how often each did.
///
/// # Errors
/// Something does not start again.
pub async fn suffer(
    fleet: &mut Fleet,
    swarm: Option<&Swarm>,
    shape: Shape,
    time: Duration,
    chance: &mut Chance,
) -> Result<BTreeMap<Trouble, usize>> {
    let (began, mut troubles) = (Instant::now(), BTreeMap::new());
    while began.elapsed() < time {
        let trouble = chance.pick(&TROUBLES).copied().unwrap_or(Trouble::KillNode);
        *troubles.entry(trouble).or_default() += 1;
        inflict(trouble, fleet, swarm, shape, chance).await?;
        sleep(chance.millis(200, 2500)).await;
        fleet.mend(false);
    }
    fleet.mend(true);
    Ok(troubles)
}

/// Lets one thing happen.
async fn inflict(
    trouble: Trouble,
    fleet: &mut Fleet,
    swarm: Option<&Swarm>,
    shape: Shape,
    chance: &mut Chance,
) -> Result<()> {
    let node = chance.below(fleet.size());
    match trouble {
        Trouble::KillNode => fleet.kill_node(node, chance.millis(0, 1500)).await?,
        Trouble::StopNode => fleet.stop_node(node, Duration::from_secs(shape.drain)).await?,
        Trouble::KillRedis => {
            fleet.redis.kill().await?;
            sleep(chance.millis(0, 1500)).await;
            fleet.redis.start_again().await?;
        }
        Trouble::FreezeRedis => {
            fleet.redis.freeze().await?;
            sleep(chance.millis(1000, 5000)).await;
            fleet.redis.thaw().await?;
        }
        Trouble::KillSubscribers => drop(fleet.redis.kill_subscribers().await?),
        Trouble::CutWire => fleet.cut(node)?,
        Trouble::StallWire => fleet.trouble(node, Fault::Stall, chance.millis(300, 6000))?,
        Trouble::SlowWire => {
            let fault = Fault::Slow { bytes_per_second: 20_000 };
            fleet.trouble(node, fault, chance.millis(300, 6000))?;
        }
        Trouble::ReloadNginx => fleet.nginx.reload().await?,
        // Clients that are a program of their own keep their connections.
        Trouble::ReloadClients => swarm.into_iter().for_each(Swarm::reload),
    }
    Ok(())
}

/// Restarts all nodes under load, one after the other, and counts who knocks when.
///
/// # Errors
/// A node does not end well, does not start, or not everyone comes back.
pub async fn rolling(program: &Program, shape: Shape, rate: f64, seed: u64) -> Result<Outcome> {
    let mut chance = Chance::seeded(seed);
    let habits = Habits { rooms: rooms(shape.rooms), ..Habits::patient(&[]) };
    let mut fleet = Fleet::start(program, shape).await?;
    let swarm = fleet.gather(shape, &habits, &mut chance).await?;
    swarm.all_here(PATIENCE).await?;
    let began = Instant::now();
    talk(&swarm, shape, rate);
    sleep(Duration::from_secs(1)).await;
    let mut notes = Vec::new();
    for number in 0..fleet.size() {
        let stopped = Instant::now();
        fleet.stop_node(number, Duration::from_secs(shape.drain)).await?;
        swarm.all_here(PATIENCE).await?;
        let (all, most) = swarm.arrivals(stopped, Duration::from_millis(100));
        let (_, second) = swarm.arrivals(stopped, Duration::from_secs(1));
        let mean = all as f64 / (shape.drain.max(1)) as f64;
        notes.push(format!(
            "node {}: {all} came back over {} s, {mean:.1} a second on average; at most {most} in 100 ms, {second} in a second",
            number + 1,
            shape.drain
        ));
    }
    let took = began.elapsed();
    let (figures, _) = judge(&fleet, &swarm, &habits.rooms).await?;
    let what = format!(
        "a rolling restart of {} nodes with {} clients, DRAIN_SECONDS={} (seed {seed})",
        shape.nodes, shape.clients, shape.drain
    );
    Ok(Outcome { report: Report { what, took, figures }, troubles: BTreeMap::new(), notes })
}

/// Redis loses the end of its log under load, as in a power cut. What was lost is lost; but everyone has
/// to be told, and nobody may take another message for one that they know.
///
/// # Errors
/// Something does not start again, or not everyone is told.
pub async fn rollback(program: &Program, shape: Shape, rate: f64, seed: u64) -> Result<Outcome> {
    let (mut chance, habits) = (Chance::seeded(seed), Habits { forgives: true, ..habits(shape) });
    let mut fleet = Fleet::start(program, shape).await?;
    let swarm = fleet.gather(shape, &habits, &mut chance).await?;
    swarm.all_here(PATIENCE).await?;
    let began = Instant::now();
    talk(&swarm, shape, rate);
    sleep(Duration::from_secs(2)).await;
    swarm.listen();
    swarm.all_acked(PATIENCE).await?;
    let (copy, kept) = (fleet.redis.copy()?, swarm.acked_ids());
    talk(&swarm, shape, rate);
    sleep(Duration::from_secs(2)).await;
    fleet.redis.kill().await?;
    // What Redis has answered is with the clients by then.
    sleep(Duration::from_millis(500)).await;
    let lost = swarm.forget_acked(&kept);
    fleet.redis.put_back(&copy)?;
    fleet.redis.start_again().await?;
    let back = Instant::now();
    let wanted = shape.clients * shape.rooms;
    while swarm.begun_anew() < wanted {
        let told = swarm.begun_anew();
        ensure!(back.elapsed() < PATIENCE, "only {told} of {wanted} views have begun anew");
        sleep(Duration::from_millis(20)).await;
    }
    let told = back.elapsed();
    sleep(Duration::from_secs(2)).await;
    let took = began.elapsed();
    let (figures, _) = judge(&fleet, &swarm, &habits.rooms).await?;
    let what = format!(
        "Redis ({:?}) rolled back under load, with {} clients in {} rooms at {} nodes (seed {seed})",
        shape.fsync, shape.clients, shape.rooms, shape.nodes
    );
    let notes = vec![format!(
        "{lost} acked messages were in what was lost; all {wanted} views have begun anew within {:.1} s",
        told.as_secs_f64()
    )];
    Ok(Outcome { report: Report { what, took, figures }, troubles: BTreeMap::new(), notes })
}
