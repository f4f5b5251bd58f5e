//! Every scenario against every server: the milestones, and their Node twins.

use std::path::PathBuf;
use std::process::{Command, ExitCode, Stdio};
use std::sync::Arc;

use libtest_mimic::{Arguments, Completion, Failed, Trial};
use tests::program::{Program, Running, workspace};
use tests::redis::{self, Fsync, Redis};
use tests::scenario::{Needs, Outcome, Scenario, Target, of_milestone};
use tokio::runtime::{Handle, Runtime};
use tokio::sync::OnceCell;

/// Scenarios wait more than they work, so many run at once.
const AT_ONCE: usize = 12;

/// The milestones: the number, the package, and its Node twin where it has one.
const MILESTONES: [(u8, &str, Option<&str>); 5] = [
    (1, "step01-echo", Some("tests/peers/step01.js")),
    (2, "step02-multiuser", Some("tests/peers/step02.js")),
    (3, "step03-rooms", Some("tests/peers/step03.js")),
    (4, "step04-resilience", None),
    (5, "step05-production", None),
];

fn main() -> ExitCode {
    let mut arguments = Arguments::from_args();
    arguments.test_threads.get_or_insert(AT_ONCE);
    let runtime = match Runtime::new() {
        Ok(runtime) => runtime,
        Err(error) => {
            eprintln!("can't start the runtime: {error}");
            return ExitCode::FAILURE;
        }
    };

    let mut trials = Vec::new();
    for (number, package, twin) in MILESTONES {
        let program = Program::cargo_package(package);
        // Those who share a server share its limits.
        let program = if number >= 5 { program.unlimited() } else { program };
        if number >= 5 {
            let server = Server::in_redis(&format!("{package}-redis"), program.clone());
            trials.extend(of_server(number, &server, runtime.handle()));
        }
        let server = Server::new(package, program, None);
        trials.extend(of_server(number, &server, runtime.handle()));
        if let Some(twin) = twin {
            let server = Server::new(twin, Program::node(twin), missing_for(twin));
            trials.extend(of_server(number, &server, runtime.handle()));
        }
    }
    libtest_mimic::run(&arguments, trials).exit_code()
}

/// What is missing to run a Node twin, if something is.
fn missing_for(twin: &str) -> Option<String> {
    let found = |path: PathBuf| path.exists();
    let node = Command::new("node").arg("--version").stdout(Stdio::null()).status();
    if node.is_err() {
        Some("Node is not installed".to_owned())
    } else if !found(workspace().join("tests/peers/node_modules")) {
        Some("run `npm ci` in tests/peers first".to_owned())
    } else if !found(workspace().join(twin)) {
        Some(format!("{twin} is not there"))
    } else {
        None
    }
}

/// A server that is started when the first scenario needs it, and shared by those that can share.
struct Server {
    name: String,
    program: Program,
    missing: Option<String>,
    running: OnceCell<Running>,
    /// Where the program keeps everything, if not in a file.
    redis: Option<OnceCell<Redis>>,
}

impl Server {
    fn new(name: &str, program: Program, missing: Option<String>) -> Arc<Self> {
        let (name, running) = (name.to_owned(), OnceCell::new());
        Arc::new(Self { name, program, missing, running, redis: None })
    }

    /// A program that keeps everything in one Redis: those who share no server have a prefix each.
    fn in_redis(name: &str, program: Program) -> Arc<Self> {
        let (name, running, missing) = (name.to_owned(), OnceCell::new(), redis::missing());
        Arc::new(Self { name, program, missing, running, redis: Some(OnceCell::new()) })
    }

    /// Whether a scenario can be played at it at all.
    fn suits(&self, scenario: &Scenario) -> bool {
        self.redis.is_none() || scenario.needs != Needs::File
    }

    /// The program, with the Redis it needs.
    async fn program(&self) -> anyhow::Result<Program> {
        let Some(redis) = &self.redis else { return Ok(self.program.clone()) };
        let redis = redis.get_or_try_init(|| Redis::start(Fsync::EverySecond)).await?;
        Ok(self.program.clone().env("REDIS_URL", redis.url()))
    }

    /// The server a scenario is played at.
    async fn target(&self, scenario: &Scenario) -> anyhow::Result<Target> {
        // How long that takes is not the scenario's to bear.
        self.program.build().await?;
        let program = self.program().await?;
        if scenario.alone || scenario.needs.own_server() {
            return Ok(Target::program(program));
        }
        let running = self.running.get_or_try_init(|| program.start()).await?;
        Ok(Target::running(running.url(), program))
    }

    async fn play(&self, scenario: &Scenario) -> Result<Completion, Failed> {
        let target = self.target(scenario).await.map_err(|error| format!("{error:#}"))?;
        match scenario.run(&target).await {
            Outcome::Passed => Ok(Completion::Completed),
            Outcome::Skipped(reason) => Ok(Completion::ignored_with(reason)),
            Outcome::Failed(mismatch) => Err(mismatch.into()),
        }
    }
}

/// One test for each scenario at one server.
fn of_server(milestone: u8, server: &Arc<Server>, runtime: &Handle) -> Vec<Trial> {
    let scenarios = of_milestone(milestone).into_iter().filter(|scenario| server.suits(scenario));
    let trials = scenarios.map(|scenario| {
        let (server, runtime) = (Arc::clone(server), runtime.clone());
        let name = format!("{}::{}", server.name, scenario.name);
        Trial::ignorable_test(name, move || match &server.missing {
            None => runtime.block_on(server.play(&scenario)),
            Some(reason) => left_out(reason),
        })
    });
    trials.collect()
}

/// What can't run here is left out, and said so; where everything has to be there, that is a failure.
fn left_out(reason: &str) -> Result<Completion, Failed> {
    if std::env::var_os("CI").is_some_and(|ci| ci == "true") {
        return Err(reason.into());
    }
    Ok(Completion::ignored_with(reason))
}
