//! Milestone 5 under attack: short versions of what `cargo run -p tests --release --bin attacks`, `churn`
//! and `chaos` do.

use std::future::Future;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Result, ensure};
use libtest_mimic::{Arguments, Completion, Trial};
use tests::chance::Chance;
use tests::load::attacks::{Arena, Attack, QUICK};
use tests::load::chaos::chaos;
use tests::load::churn::{Shape, churn};
use tests::{faults, load};
use tokio::runtime::Runtime;

const SERVER: &str = "step05-production";

/// All attacks at once leave less for the healthy ones than one after the other, and so do a debug build
/// and a machine that builds something else at the same time.
const BOUND: Duration = Duration::from_secs(3);

/// How much longer it may take to end them, for the same reason.
const SLOWNESS: u32 = 3;

fn main() -> ExitCode {
    if let Some(code) = faults::again_with_enough_files() {
        return code;
    }
    let mut arguments = Arguments::from_args();
    // One at a time: they load the machine, and look at memory.
    arguments.test_threads = Some(1);
    let trials = vec![
        trial("healthy_clients_miss_nothing_while_all_attack_at_once", attacked),
        trial("memory_comes_back_when_everyone_has_left", churned),
        trial("nothing_that_comes_makes_it_panic", confused),
    ];
    libtest_mimic::run(&arguments, trials).exit_code()
}

fn trial<F>(name: &str, run: fn() -> F) -> Trial
where
    F: Future<Output = Result<()>> + 'static,
{
    Trial::ignorable_test(format!("{SERVER}::{name}"), move || {
        if !cfg!(target_os = "linux") {
            return Ok(Completion::ignored_with("needs /proc and all of 127.0.0.0/8: Linux"));
        }
        Runtime::new()?.block_on(run()).map_err(|error| format!("{error:#}"))?;
        Ok(Completion::Completed)
    })
}

async fn attacked() -> Result<()> {
    let (program, milestone) = load::server(SERVER)?;
    let mut arena = Arena::open(&program, milestone).await?;
    arena.slow(SLOWNESS);
    let attacks: Vec<Attack> = QUICK.to_vec();
    let assault = arena.suffer(&attacks, 4, Duration::from_secs(1)).await?;
    println!("{assault}");
    let mut faults = assault.faults(BOUND);
    faults.extend(arena.close().await);
    ensure!(faults.is_empty(), "{}", faults.join("\n"));
    Ok(())
}

async fn churned() -> Result<()> {
    let (program, milestone) = load::server(SERVER)?;
    // Where there is little, a tenth of it is less than what an allocator keeps by chance.
    let shape = Shape { connections: 600, rooms: 1500, waves: 3, slack_kib: 4 * 1024 };
    let report = churn(&program, milestone, shape).await?;
    println!("{report}");
    ensure!(report.faults().is_empty(), "{}", report.faults().join("\n"));
    Ok(())
}

async fn confused() -> Result<()> {
    let (program, milestone) = load::server(SERVER)?;
    let report = chaos(&program, milestone, Duration::from_secs(4), Chance::seed()).await?;
    println!("{report}");
    ensure!(report.faults.is_empty(), "{report}");
    Ok(())
}
