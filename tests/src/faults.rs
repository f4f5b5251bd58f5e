//! Faults under load: the server is killed, frozen, restarted and starved of its disk, the wire is
//! cut, stalled, slowed and swallows, while many clients talk. Afterwards what each has sent and seen
//! is compared with the log.

use std::fmt;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use tokio::process::Command;
use tokio::time::{Instant, sleep};

use crate::chance::Chance;
use crate::model::{self, Figures};
use crate::program::{Program, Running, Scratch, Stop};
use crate::proxy::{Fault, FaultProxy};
use crate::swarm::{Habits, Swarm};

/// How long clients may take to come, to have everything acked, and to catch up.
const PATIENCE: Duration = Duration::from_secs(60);

/// How long a program may take to end after SIGTERM.
const END: Duration = Duration::from_secs(12);

/// In a storm everyone has to be back within this time.
pub const STORM: Duration = Duration::from_secs(10);

/// The rooms of most runs. Each keeps 10,000 messages, and no run needs more.
const ROOMS: [&str; 3] = ["lobby", "rust", "tea"];

/// Runs this program once more with as many open files as the system allows: each client takes three
/// here, and many systems begin with 1,024. Gives its exit code, or nothing in the second run.
pub fn again_with_enough_files() -> Option<ExitCode> {
    const AGAIN: &str = "TESTS_ENOUGH_FILES";
    if cfg!(not(unix)) || std::env::var_os(AGAIN).is_some() {
        return None;
    }
    let line = "ulimit -S -n \"$(ulimit -H -n)\" 2>/dev/null; exec \"$0\" \"$@\"";
    let mut shell = std::process::Command::new("sh");
    shell.args(["-c", line]).arg(std::env::current_exe().ok()?).args(std::env::args_os().skip(1));
    let status = shell.env(AGAIN, "1").status().ok()?;
    Some(if status.success() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// What came of a run.
#[derive(Debug)]
pub struct Report {
    /// What was done.
    pub what: String,
    /// How long it took.
    pub took: Duration,
    /// What was counted.
    pub figures: Figures,
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { what, took, figures } = self;
        let verdict = if figures.is_right() { "ok    " } else { "WRONG " };
        writeln!(f, "{verdict} {what} ({:.1} s)", took.as_secs_f64())?;
        writeln!(
            f,
            "       {} clients, {} connections; {} messages stored, {} acked, {} sent again, {} seen",
            figures.clients,
            figures.connections,
            figures.stored,
            figures.acked,
            figures.sent_again,
            figures.seen
        )?;
        write!(
            f,
            "       {} acked and lost, {} seen twice, {} out of order, {} clients without everything",
            figures.lost, figures.duplicates, figures.order_breaks, figures.unfinished
        )?;
        figures.wrong.iter().try_for_each(|wrong| write!(f, "\n       {wrong}"))
    }
}

/// A server with its data, and the wires to it.
#[derive(Debug)]
pub struct Stage {
    program: Program,
    running: Running,
    wires: Vec<FaultProxy>,
    _data: Scratch,
}

impl Stage {
    /// Starts a server behind so many wires.
    ///
    /// # Errors
    /// It does not start.
    pub async fn set(program: &Program, wires: usize) -> Result<Self> {
        let data = Scratch::new();
        let program = program
            .clone()
            .env("DATA_DIR", data.path().display())
            .env("RUST_LOG", "error")
            .env("MAX_CONNECTIONS", "10000");
        let running = program.start().await?;
        let upstream: SocketAddr = running.address().parse()?;
        let mut all = Vec::new();
        for _ in 0..wires {
            all.push(FaultProxy::start(SocketAddr::from(([127, 0, 0, 1], 0)), upstream).await?);
        }
        Ok(Self { program, running, wires: all, _data: data })
    }

    /// Where clients connect to.
    pub fn addresses(&self) -> Vec<SocketAddr> {
        self.wires.iter().map(FaultProxy::addr).collect()
    }

    /// The server itself.
    pub fn server(&self) -> &Running {
        &self.running
    }

    fn lead_to(&self, upstream: Option<SocketAddr>) {
        self.wires.iter().for_each(|wire| wire.lead_to(upstream));
    }

    /// Ends all connections at once.
    pub fn cut(&self) {
        self.wires.iter().for_each(FaultProxy::cut);
    }

    /// Kills the server (kill -9), and starts it again after a while.
    ///
    /// # Errors
    /// It does not start.
    pub async fn kill(&mut self, pause: Duration) -> Result<()> {
        self.running.kill().await?;
        self.start_again(pause).await
    }

    /// Asks the server to stop (SIGTERM), waits for its end, and starts it again.
    ///
    /// # Errors
    /// It does not end in time with exit code 0, or does not start.
    pub async fn restart(&mut self) -> Result<()> {
        self.running.signal(Stop::Term).await?;
        let status = self.running.wait_exit(END).await?;
        anyhow::ensure!(status.success(), "{status}\n{}", self.running.stderr());
        self.start_again(Duration::ZERO).await
    }

    async fn start_again(&mut self, pause: Duration) -> Result<()> {
        self.lead_to(None);
        sleep(pause).await;
        self.running = self.program.start().await?;
        self.lead_to(Some(self.running.address().parse()?));
        Ok(())
    }

    /// Freezes the server for a while (SIGSTOP, SIGCONT): its connections stay open and say nothing.
    ///
    /// # Errors
    /// The system refuses.
    pub async fn freeze(&self, pause: Duration) -> Result<()> {
        self.running.signal(Stop::Freeze).await?;
        sleep(pause).await;
        self.running.signal(Stop::Thaw).await
    }

    /// Everyone stops talking, has everything acked, and catches up; then all are compared with the log.
    ///
    /// # Errors
    /// The log can't be read. Whatever else is wrong is in the figures.
    pub async fn judge(&self, swarm: &Swarm, rooms: &[String]) -> Result<Figures> {
        swarm.listen();
        let mut late = Vec::new();
        late.extend(swarm.all_acked(PATIENCE).await.err());
        let log = model::read_log(self.running.address(), rooms).await;
        let log = log.with_context(|| self.running.stderr())?;
        late.extend(swarm.all_complete(&log, PATIENCE).await.err());
        let mut figures = swarm.compare(&log);
        figures.wrong.extend(late.iter().map(ToString::to_string));
        Ok(figures)
    }
}

/// Kills the server at random moments under load, so many times.
///
/// # Errors
/// The server does not start again.
pub async fn kills(program: &Program, rounds: usize, seed: u64) -> Result<Report> {
    let (mut chance, habits) = (Chance::seeded(seed), Habits::hasty(&ROOMS));
    let mut stage = Stage::set(program, 1).await?;
    let swarm = Swarm::start(24, &stage.addresses(), &habits, &mut chance);
    swarm.all_here(PATIENCE).await?;
    let began = Instant::now();
    swarm.talk(Duration::from_millis(150));
    for _ in 0..rounds {
        // Most clients are back by then; some are in the middle of it.
        let _some_may_be_late = swarm.all_here(chance.millis(100, 1500)).await;
        sleep(chance.millis(0, 150)).await;
        stage.kill(chance.millis(0, 100)).await?;
    }
    let figures = stage.judge(&swarm, &habits.rooms).await?;
    let what = format!("{rounds} times kill -9 under load (seed {seed})");
    Ok(Report { what, took: began.elapsed(), figures })
}

/// Where the library is that gives a program another clock, if it is installed.
pub fn faketime() -> Option<PathBuf> {
    let places =
        ["/usr/lib/x86_64-linux-gnu", "/usr/lib/aarch64-linux-gnu", "/usr/lib", "/usr/local/lib"];
    places
        .iter()
        .map(|place| Path::new(place).join("faketime/libfaketime.so.1"))
        .find(|file| file.exists())
}

/// Sets the server's clock back and ahead under load, and right again, and kills it at last.
///
/// # Errors
/// The library is missing, or the server does not start.
pub async fn clock(program: &Program, seed: u64) -> Result<Report> {
    let library = faketime().context("needs libfaketime: apt-get install faketime")?;
    let scratch = Scratch::new();
    std::fs::create_dir_all(scratch.path())?;
    let clock = scratch.path().join("clock");
    std::fs::write(&clock, "+0")?;
    // Deadlines go by the monotonic clock, which no jump of the time of day changes.
    let program = program
        .clone()
        .env("LD_PRELOAD", library.display())
        .env("FAKETIME_TIMESTAMP_FILE", clock.display())
        .env("FAKETIME_NO_CACHE", "1")
        .env("FAKETIME_DONT_FAKE_MONOTONIC", "1");

    let (mut chance, habits) = (Chance::seeded(seed), Habits::hasty(&ROOMS));
    let mut stage = Stage::set(&program, 1).await?;
    let swarm = Swarm::start(12, &stage.addresses(), &habits, &mut chance);
    swarm.all_here(PATIENCE).await?;
    let began = Instant::now();
    swarm.talk(Duration::from_millis(150));
    for jump in ["-3600", "+172800", "+0", "-86400", "+0"] {
        std::fs::write(&clock, jump)?;
        sleep(chance.millis(500, 1000)).await;
        stage.cut();
    }
    stage.kill(Duration::ZERO).await?;
    let figures = stage.judge(&swarm, &habits.rooms).await?;
    let what = format!("5 jumps of the clock, of up to two days, under load (seed {seed})");
    Ok(Report { what, took: began.elapsed(), figures })
}

/// One fault of the wire.
#[derive(Debug, Clone, Copy)]
enum Trouble {
    Cut,
    Stall,
    Slow,
    Swallow,
    Refuse,
}

const TROUBLES: [Trouble; 5] =
    [Trouble::Cut, Trouble::Stall, Trouble::Slow, Trouble::Swallow, Trouble::Refuse];

/// Makes one wire bad for a while.
async fn trouble(wire: &FaultProxy, trouble: Trouble, pause: Duration) {
    match trouble {
        Trouble::Cut => wire.cut(),
        Trouble::Stall => wire.set(Fault::Stall),
        Trouble::Slow => wire.set(Fault::Slow { bytes_per_second: 3000 }),
        Trouble::Swallow => wire.swallow(true),
        Trouble::Refuse => {
            wire.set(Fault::Refuse);
            wire.cut();
        }
    }
    sleep(pause).await;
    wire.swallow(false);
    wire.set(Fault::None);
}

/// Cuts, stalls, slows, swallows and refuses, in turn, so many times.
///
/// # Errors
/// The server does not start, or ends.
pub async fn wires(program: &Program, rounds: usize, seed: u64) -> Result<Report> {
    let (mut chance, habits) = (Chance::seeded(seed), Habits::hasty(&ROOMS));
    let stage = Stage::set(program, 2).await?;
    let swarm = Swarm::start(24, &stage.addresses(), &habits, &mut chance);
    swarm.all_here(PATIENCE).await?;
    let began = Instant::now();
    swarm.talk(Duration::from_millis(150));
    for round in 0..rounds {
        let kind = TROUBLES.get(round % TROUBLES.len()).copied().unwrap_or(Trouble::Cut);
        let pauses = (chance.millis(100, 700), chance.millis(100, 700));
        let mut both = stage.wires.iter();
        let (Some(one), Some(other)) = (both.next(), both.next()) else { bail!("two wires") };
        let second = chance.pick(&TROUBLES).copied().unwrap_or(kind);
        tokio::join!(trouble(one, kind, pauses.0), trouble(other, second, pauses.1));
        let _some_may_be_late = swarm.all_here(chance.millis(50, 1000)).await;
    }
    let figures = stage.judge(&swarm, &habits.rooms).await?;
    let what = format!(
        "{rounds} faults of the wire under load: cut, stall, slow, swallow, refuse (seed {seed})"
    );
    Ok(Report { what, took: began.elapsed(), figures })
}

/// Freezes the server until its clients give up, and lets it go on.
///
/// # Errors
/// The server does not start.
pub async fn frozen(program: &Program, rounds: usize, seed: u64) -> Result<Report> {
    let (mut chance, habits) = (Chance::seeded(seed), Habits::hasty(&ROOMS));
    let stage = Stage::set(program, 1).await?;
    let swarm = Swarm::start(24, &stage.addresses(), &habits, &mut chance);
    swarm.all_here(PATIENCE).await?;
    let began = Instant::now();
    swarm.talk(Duration::from_millis(150));
    for _ in 0..rounds {
        stage.freeze(chance.millis(200, 4000)).await?;
        let _some_may_be_late = swarm.all_here(Duration::from_secs(2)).await;
    }
    let figures = stage.judge(&swarm, &habits.rooms).await?;
    let what = format!("{rounds} times SIGSTOP for up to 4 s under load (seed {seed})");
    Ok(Report { what, took: began.elapsed(), figures })
}

/// Restarts the server in order while many clients are there.
///
/// # Errors
/// It does not end well, does not start, or not everyone comes back.
pub async fn restart(program: &Program, clients: usize, seed: u64) -> Result<Report> {
    let (mut chance, habits) = (Chance::seeded(seed), Habits::patient(&["lobby"]));
    let mut stage = Stage::set(program, 1).await?;
    let swarm = Swarm::start(clients, &stage.addresses(), &habits, &mut chance);
    swarm.all_here(PATIENCE).await?;
    let began = Instant::now();
    // About fifty messages a second for everyone, whatever the number of clients.
    swarm.talk(Duration::from_millis(20 * clients as u64));
    sleep(Duration::from_secs(1)).await;
    stage.restart().await?;
    let back = swarm.all_here(PATIENCE).await?;
    let figures = stage.judge(&swarm, &habits.rooms).await?;
    let what = format!(
        "a restart with {clients} clients, all back {:.1} s after it (seed {seed})",
        back.as_secs_f64()
    );
    Ok(Report { what, took: began.elapsed(), figures })
}

/// Cuts many clients at once, while some of them go on talking.
///
/// # Errors
/// Not all of them are back and complete within [`STORM`].
pub async fn storm(program: &Program, clients: usize, seed: u64) -> Result<Report> {
    let mut chance = Chance::seeded(seed);
    let habits = Habits::patient(&["lobby"]);
    let stage = Stage::set(program, 1).await?;
    let swarm = Swarm::start(clients, &stage.addresses(), &habits, &mut chance);
    swarm.all_here(PATIENCE).await?;
    // Ten messages a second for everyone: 20,000 deliveries where there are 2,000 clients.
    swarm.talk(Duration::from_millis(100 * clients as u64));
    sleep(Duration::from_secs(2)).await;
    let began = Instant::now();
    stage.cut();
    sleep(Duration::from_millis(50)).await;
    let back = swarm.all_here(PATIENCE).await?;
    let back = back + Duration::from_millis(50);
    swarm.listen();
    swarm.all_acked(PATIENCE).await?;
    let log = model::read_log(stage.server().address(), &habits.rooms).await?;
    swarm.all_complete(&log, PATIENCE).await?;
    let complete = began.elapsed();
    let mut figures = swarm.compare(&log);
    if complete > STORM {
        figures.wrong.push(format!("complete only after {:.1} s", complete.as_secs_f64()));
    }
    let what = format!(
        "a storm: {clients} clients cut at once, all back after {:.1} s, all complete after {:.1} s (seed {seed})",
        back.as_secs_f64(),
        complete.as_secs_f64()
    );
    Ok(Report { what, took: complete, figures })
}

/// A client that does not read for a while is sent away, comes back, and has everything.
///
/// # Errors
/// The server does not start, or the client is never sent away.
pub async fn slow_reader(program: &Program, seed: u64) -> Result<Report> {
    let mut chance = Chance::seeded(seed);
    // The slow ones shall not notice by themselves that nothing comes.
    let habits = Habits { length: 1900, ..Habits::patient(&["lobby"]) };
    let stage = Stage::set(program, 4).await?;
    let clients = 8;
    let swarm = Swarm::start(clients, &stage.addresses(), &habits, &mut chance);
    swarm.all_here(PATIENCE).await?;
    let began = Instant::now();
    let wire = stage.wires.first().context("a wire")?;
    wire.set(Fault::Stall);
    // 14 MB: more than the system's buffers and the server's queue hold. What the slow ones say
    // waits as well.
    swarm.talk(Duration::from_millis(25));
    let wanted = 1800;
    while swarm.acked() < wanted && began.elapsed() < PATIENCE {
        sleep(Duration::from_millis(50)).await;
    }
    swarm.listen();
    wire.set(Fault::None);
    let figures = stage.judge(&swarm, &habits.rooms).await?;
    let again = figures.connections - clients as u64;
    if again == 0 {
        bail!("nobody was sent away, although {wanted} messages waited");
    }
    let what = format!(
        "2 of {clients} clients read nothing for a while; sent away {again} times, and resumed (seed {seed})"
    );
    Ok(Report { what, took: began.elapsed(), figures })
}

/// The disk is full for a while: no file may grow any more.
///
/// # Errors
/// The server does not notice, or does not recover.
pub async fn full_disk(program: &Program, seed: u64) -> Result<Report> {
    let (mut chance, habits) = (Chance::seeded(seed), Habits::hasty(&ROOMS));
    // The program goes on when a file can't grow (SIGXFSZ would end it), and sees an error instead.
    let program = program.by_shell("trap '' XFSZ; exec \"$0\"").await?;
    let stage = Stage::set(&program, 1).await?;
    let swarm = Swarm::start(12, &stage.addresses(), &habits, &mut chance);
    swarm.all_here(PATIENCE).await?;
    let began = Instant::now();
    swarm.talk(Duration::from_millis(50));
    sleep(Duration::from_millis(500)).await;
    limit_files(stage.server(), "1").await?;
    sleep(Duration::from_secs(1)).await;
    let before = swarm.acked();
    sleep(Duration::from_secs(2)).await;
    let stored = swarm.acked() - before;
    limit_files(stage.server(), "unlimited").await?;
    let mut figures = stage.judge(&swarm, &habits.rooms).await?;
    if stored > 0 {
        figures.wrong.push(format!("{stored} messages were acked although the disk was full"));
    }
    let what = format!("a full disk for 3 s under load (seed {seed})");
    Ok(Report { what, took: began.elapsed(), figures })
}

/// Sets how large a file of the server may get.
async fn limit_files(server: &Running, bytes: &str) -> Result<()> {
    let pid = server.pid().context("the server has ended")?.to_string();
    let limit = format!("--fsize={bytes}:unlimited");
    let status = Command::new("prlimit").args(["--pid", &pid, &limit]).status().await;
    let status = status.context("it takes prlimit, which Linux has")?;
    anyhow::ensure!(status.success(), "prlimit: {status}");
    Ok(())
}

/// Many clients, many faults, all by chance, for so long.
///
/// # Errors
/// The server does not start again.
pub async fn random(
    program: &Program,
    clients: usize,
    time: Duration,
    seed: u64,
) -> Result<Report> {
    let (mut chance, habits) = (Chance::seeded(seed), Habits::hasty(&ROOMS));
    let mut stage = Stage::set(program, 4).await?;
    let swarm = Swarm::start(clients, &stage.addresses(), &habits, &mut chance);
    swarm.all_here(PATIENCE).await?;
    let began = Instant::now();
    // No room may get more messages than it keeps.
    let per_second = 20_000.0 / time.as_secs_f64().max(100.0);
    swarm.talk(Duration::from_secs_f64(clients as f64 / per_second));
    let mut faults = 0;
    while began.elapsed() < time {
        faults += 1;
        match chance.below(12) {
            0 | 1 => stage.kill(chance.millis(0, 300)).await?,
            2 => stage.restart().await?,
            3 => stage.freeze(chance.millis(100, 2500)).await?,
            4 => swarm.reload(),
            _ => several(&stage, &mut chance).await,
        }
        sleep(chance.millis(0, 500)).await;
    }
    let figures = stage.judge(&swarm, &habits.rooms).await?;
    let what = format!("{faults} faults of all kinds by chance (seed {seed})");
    Ok(Report { what, took: began.elapsed(), figures })
}

/// Makes each wire bad in its own way, or leaves it.
async fn several(stage: &Stage, chance: &mut Chance) {
    let mut all = Vec::new();
    for wire in &stage.wires {
        let kind = chance.pick(&TROUBLES).copied();
        let pause = chance.millis(50, 2000);
        if let Some(kind) = kind.filter(|_| chance.below(3) > 0) {
            all.push(trouble(wire, kind, pause));
        }
    }
    futures_util::future::join_all(all).await;
}
