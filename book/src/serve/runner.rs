//! Builds and runs one milestone: starts it, notices when it ends, and starts it again when its source
//! has changed or somebody asks.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use ::tests::program::{
    Program, Running, Stop, cargo_build, executable, own_target_dir, workspace,
};
use anyhow::Result;
use serde::Serialize;
use tokio::sync::{mpsc, watch};
use tokio::time::sleep;
use tokio_util::sync::CancellationToken;

use super::watch::Watch;
use crate::milestone::Milestone;

/// How long a milestone may take to say goodbye before it is killed.
const GOODBYE: Duration = Duration::from_secs(6);

/// Ctrl-C reaches the milestones as well, and perhaps a little before it reaches us: an end within
/// this time is not a crash.
const SAME_CTRL_C: Duration = Duration::from_millis(300);

/// How much of a milestone's log is told when it ends.
const LAST_LINES: usize = 12;

/// Longer than anybody lets the book run.
const FOR_EVER: Duration = Duration::from_secs(u32::MAX as u64);

/// What a milestone is doing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum State {
    /// Another one is being built first, or it is being built itself.
    Building,
    /// It accepts connections.
    Running,
    /// It can't be built, could not be started, or has ended.
    Failed,
}

/// The same in words, and which life it is.
#[derive(Debug, Clone, Serialize)]
pub struct Report {
    /// What it is doing.
    pub state: State,
    /// A sentence about it.
    pub words: String,
    /// What the compiler or the program said, where something failed.
    pub reason: Option<String>,
    /// How often it has been started: a browser must connect again in each life.
    pub life: u32,
}

/// How to speak with a runner from outside.
#[derive(Debug)]
pub struct Handle {
    report: watch::Receiver<Report>,
    restart: mpsc::Sender<()>,
}

impl Handle {
    /// What the milestone is doing now.
    pub fn report(&self) -> Report {
        self.report.borrow().clone()
    }

    /// Waits until the milestone runs.
    pub async fn running(&self) {
        let mut report = self.report.clone();
        let _or_never = report.wait_for(|report| report.state == State::Running).await;
    }

    /// Asks for a new start. One that is asked for already counts for two.
    pub fn restart(&self) {
        let _one_is_waiting = self.restart.try_send(());
    }
}

/// Which milestone runs where, and for whom.
#[derive(Debug, Clone)]
pub struct Place {
    /// The milestone.
    pub milestone: Milestone,
    /// Where it listens.
    pub address: SocketAddr,
    /// Whose pages may show its page in a frame.
    pub origins: String,
}

/// Runs one milestone.
pub struct Runner {
    place: Place,
    /// The milestone that is to be up before this one.
    first: Option<watch::Receiver<Report>>,
    stop: CancellationToken,
    report: watch::Sender<Report>,
    restarts: mpsc::Receiver<()>,
    running: Option<Running>,
    life: u32,
}

/// Why something has to be done.
enum Event {
    Stop,
    Restart,
    SourceChanged,
    Ended(String),
}

impl Runner {
    /// A runner that does nothing yet. It lets another one build before it does.
    pub fn new(place: Place, first: Option<&Handle>, stop: CancellationToken) -> (Self, Handle) {
        let words = "It is waiting for its turn to be built.".to_owned();
        let beginning = Report { state: State::Building, words, reason: None, life: 0 };
        let (report, reports) = watch::channel(beginning);
        let (restart, restarts) = mpsc::channel(1);
        let first = first.map(|other| other.report.clone());
        let runner = Self { place, first, stop, report, restarts, running: None, life: 0 };
        (runner, Handle { report: reports, restart })
    }

    /// Keeps the milestone running until the program stops, and then stops it.
    pub async fn run(mut self) {
        let folder = self.place.milestone.folder(workspace());
        let mut source = Watch::new(vec![folder.join("src"), folder.join("Cargo.toml")]);
        self.wait_for_turn().await;
        self.build_and_start().await;
        loop {
            match self.next_event(&mut source).await {
                Event::Stop => break,
                Event::Restart | Event::SourceChanged => self.build_and_start().await,
                Event::Ended(reason) => self.failed("It has ended.", reason),
            }
        }
        self.stop_running().await;
    }

    /// Cargo builds one thing at a time anyway; in this order, the first milestone is up first.
    async fn wait_for_turn(&mut self) {
        if let Some(first) = &mut self.first {
            let built = first.wait_for(|report| report.state != State::Building);
            let _it_has_ended = self.stop.run_until_cancelled(built).await;
        }
    }

    async fn next_event(&mut self, source: &mut Watch) -> Event {
        let stop = self.stop.clone();
        tokio::select! {
            () = stop.cancelled() => Event::Stop,
            _ = self.restarts.recv() => Event::Restart,
            () = source.changed() => Event::SourceChanged,
            reason = ended(&mut self.running) => {
                self.running = None;
                match stop.run_until_cancelled(sleep(SAME_CTRL_C)).await {
                    Some(()) => Event::Ended(reason),
                    None => Event::Stop,
                }
            }
        }
    }

    async fn build_and_start(&mut self) {
        self.say(
            State::Building,
            "It is being built; the first time that takes a minute or so.",
            None,
        );
        match self.stop.run_until_cancelled(build(self.place.milestone.package)).await {
            None => {}
            Some(Err(error)) => self.failed("It does not build.", format!("{error:#}")),
            Some(Ok(program)) => self.start(&program).await,
        }
    }

    async fn start(&mut self, program: &Path) {
        self.stop_running().await;
        let nothing: [&str; 0] = [];
        // A folder of its own, so that nobody else's server finds its data taken.
        let data = workspace().join(".learn").join(self.place.milestone.package);
        let program = Program::command(program, nothing)
            .env("PORT", self.place.address.port())
            // Any free one: the usual one is for the server that the learner starts.
            .env("ADMIN_PORT", 0)
            .env("ALLOWED_ORIGINS", &self.place.origins)
            .env("DATA_DIR", data.display());
        match program.start().await {
            Ok(running) => self.started(running),
            Err(error) => self.failed("It could not be started.", format!("{error:#}")),
        }
    }

    fn started(&mut self, running: Running) {
        self.life += 1;
        let admin = running.admin_address();
        let admin = admin.map(|admin| format!(", its admin port is http://{admin}"));
        let place = format!("{}{}", running.url(), admin.unwrap_or_default());
        let words = format!("It runs on {place}.");
        println!("Milestone {} runs on {place}", self.place.milestone.number);
        self.say(State::Running, &words, None);
        self.running = Some(running);
    }

    fn failed(&mut self, words: &str, reason: String) {
        eprintln!("Milestone {}: {words}\n{reason}", self.place.milestone.number);
        self.say(State::Failed, words, Some(reason));
    }

    fn say(&self, state: State, words: &str, reason: Option<String>) {
        let words = format!("Milestone {}. {words}", self.place.milestone.number);
        self.report.send_replace(Report { state, words, reason, life: self.life });
    }

    async fn stop_running(&mut self) {
        let Some(mut running) = self.running.take() else { return };
        let _already_gone = running.signal(Stop::Term).await;
        if running.wait_exit(GOODBYE).await.is_err() {
            let _already_gone = running.kill().await;
        }
    }
}

/// Waits until the program ends, and gives its last words. Waits for ever if there is none.
async fn ended(running: &mut Option<Running>) -> String {
    let Some(running) = running else { return std::future::pending().await };
    let status = running.wait_exit(FOR_EVER).await;
    let status = status.map_or_else(|error| error.to_string(), |status| status.to_string());
    format!("{status}\n{}", last_lines(&running.stderr()))
}

/// The end of a log, where the reason usually is.
fn last_lines(log: &str) -> String {
    let lines: Vec<&str> = log.lines().collect();
    let from = lines.len().saturating_sub(LAST_LINES);
    lines.get(from..).unwrap_or_default().join("\n")
}

/// Builds a package and gives its program.
async fn build(package: &str) -> Result<PathBuf> {
    let mut cargo = cargo_build(workspace());
    cargo.args(["--package", package]);
    if let Some(target) = own_target_dir() {
        cargo.arg("--target-dir").arg(target);
    }
    executable(cargo).await
}
