//! Milestone 5 with several nodes over one Redis: every scenario, and a short version of what
//! `cargo run -p tests --release --bin cluster` does.

use std::future::Future;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use libtest_mimic::{Arguments, Completion, Failed, Trial};
use tests::chance::Chance;
use tests::fleet::runs::{self, Outcome as Run};
use tests::fleet::{self, Shape};
use tests::program::Program;
use tests::redis::{self, Fsync};
use tests::scenario::{Outcome, Scenario, Target};
use tests::{cluster, faults};
use tokio::runtime::Runtime;
use tokio::sync::{Semaphore, SemaphorePermit};

const SERVER: &str = "step05-production";

/// Each scenario has a Redis and up to three nodes of its own, and many wait for a deadline.
const AT_ONCE: usize = 6;

/// How large the fleet is that suffers here.
const SHAPE: Shape =
    Shape { nodes: 3, clients: 24, without_websocket: 8, rooms: 4, fsync: Fsync::Always, drain: 1 };

/// How many messages a second there are, all together.
const RATE: f64 = 40.0;

fn main() -> ExitCode {
    if let Some(code) = faults::again_with_enough_files() {
        return code;
    }
    let mut arguments = Arguments::from_args();
    arguments.test_threads.get_or_insert(AT_ONCE);
    let runtime = match Runtime::new() {
        Ok(runtime) => Arc::new(runtime),
        Err(error) => {
            eprintln!("can't start the runtime: {error}");
            return ExitCode::FAILURE;
        }
    };
    let second = Duration::from_secs(1);
    // Those who wait longest begin first.
    let mut scenarios = cluster::scenarios();
    scenarios.sort_by_key(|scenario| std::cmp::Reverse(scenario.limit));
    let mut trials: Vec<Trial> =
        scenarios.into_iter().map(|scenario| played(scenario, &runtime)).collect();
    trials.extend([
        suffered(
            "nothing_acked_is_lost_by_all_faults_at_random",
            &runtime,
            move |program, seed| async move {
                runs::random(&program, SHAPE, 40 * second, RATE, seed).await
            },
        ),
        suffered("a_rolling_restart_loses_nothing", &runtime, |program, seed| async move {
            let shape = Shape { nodes: 2, drain: 3, ..SHAPE };
            runs::rolling(&program, shape, RATE, seed).await
        }),
        suffered("a_rolled_back_log_is_no_silent_hole", &runtime, |program, seed| async move {
            runs::rollback(&program, Shape { fsync: Fsync::EverySecond, ..SHAPE }, RATE, seed).await
        }),
    ]);
    libtest_mimic::run(&arguments, trials).exit_code()
}

/// The runs under load have the machine for themselves, as far as these tests go: scenarios are given
/// some of this, runs need all of it.
static MACHINE: Semaphore = Semaphore::const_new(AT_ONCE);

async fn machine(share: usize) -> Result<SemaphorePermit<'static>, Failed> {
    let share = u32::try_from(share).map_err(|error| error.to_string())?;
    MACHINE.acquire_many(share).await.map_err(|error| error.to_string().into())
}

/// A scenario as a test.
fn played(scenario: Scenario, runtime: &Arc<Runtime>) -> Trial {
    let runtime = Arc::clone(runtime);
    Trial::ignorable_test(format!("{SERVER}::{}", scenario.name), move || {
        if let Some(missing) = redis::missing() {
            return left_out(&missing);
        }
        runtime.block_on(async {
            let program = Program::cargo_package(SERVER);
            program.build().await.map_err(|error| format!("{error:#}"))?;
            let _share = machine(1).await?;
            match scenario.run(&Target::program(program)).await {
                Outcome::Passed => Ok(Completion::Completed),
                Outcome::Skipped(reason) => left_out(&reason),
                Outcome::Failed(mismatch) => Err(mismatch.into()),
            }
        })
    })
}

/// A run under load as a test.
fn suffered<F>(
    name: &str,
    runtime: &Arc<Runtime>,
    run: impl Fn(Program, u64) -> F + Send + 'static,
) -> Trial
where
    F: Future<Output = anyhow::Result<Run>>,
{
    let runtime = Arc::clone(runtime);
    Trial::ignorable_test(format!("{SERVER}::{name}"), move || {
        if let Some(missing) = fleet::missing() {
            return left_out(&missing);
        }
        let seed = Chance::seed();
        let outcome = runtime.block_on(async {
            let _all = machine(AT_ONCE).await?;
            let outcome = run(Program::cargo_package(SERVER), seed).await;
            outcome.map_err(|error| Failed::from(format!("seed {seed}: {error:#}")))
        })?;
        println!("{outcome}");
        if outcome.is_right() { Ok(Completion::Completed) } else { Err(outcome.to_string().into()) }
    })
}

/// What can't run here is left out, and said so; where everything has to be there, that is a failure.
fn left_out(reason: &str) -> Result<Completion, Failed> {
    if std::env::var_os("CI").is_some_and(|ci| ci == "true") {
        return Err(reason.into());
    }
    Ok(Completion::ignored_with(reason))
}
