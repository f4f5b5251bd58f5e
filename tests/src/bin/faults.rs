//! `cargo run -p tests --release --bin faults`: kills, cuts and starves milestone 4 under load, and
//! prints whether anything was lost, came twice or out of order.

use std::process::ExitCode;
use std::time::{Duration, Instant};

use anyhow::Result;
use clap::Parser;
use tests::chance::Chance;
use tests::command;
use tests::faults::{self, Report};
use tests::program::Program;

/// Proves by faults that milestone 4 loses nothing.
#[derive(Parser)]
#[command(args_override_self = true, verbatim_doc_comment)]
struct Wanted {
    /// Rounds of kill -9, and of faults of the wire
    #[arg(long, value_name = "N", default_value_t = 100)]
    rounds: usize,
    /// Clients in the storm
    #[arg(long, value_name = "N", default_value_t = 2000)]
    clients: usize,
    /// How long the random run takes
    #[arg(long, value_name = "N", default_value_t = 60)]
    seconds: u64,
    /// Repeats a run (by default another one each time)
    #[arg(long, value_name = "N", default_value_t = Chance::seed(), hide_default_value = true)]
    seed: u64,
    /// kills, wires, frozen, restart, storm, slow, disk, clock or random
    #[arg(long, value_name = "NAME")]
    only: Option<String>,
    /// A package or the path of a program
    #[arg(long, value_name = "NAME", default_value = "step04-resilience")]
    server: String,
}

#[tokio::main]
async fn main() -> ExitCode {
    command::run_with_enough_files(run).await
}

/// Runs what was asked for; whether all of it was right.
async fn run(wanted: Wanted) -> Result<bool> {
    let program = if wanted.server.contains('/') {
        Program::command(&wanted.server, Vec::<String>::new())
    } else {
        Program::cargo_package(&wanted.server)
    };
    program.build().await?;
    let began = Instant::now();
    let mut is_right = true;
    let all = ["kills", "wires", "frozen", "restart", "storm", "slow", "disk", "clock", "random"];
    let chosen = |name: &&str| wanted.only.as_ref().is_none_or(|only| only == name);
    for name in all.into_iter().filter(chosen) {
        match one(name, &program, &wanted).await {
            Ok(report) => {
                is_right &= report.figures.is_right();
                println!("{report}");
            }
            Err(error) => {
                is_right = false;
                println!("WRONG  {name}: {error:#}");
            }
        }
    }
    println!("It took {:.0} s.", began.elapsed().as_secs_f64());
    Ok(is_right)
}

async fn one(name: &str, program: &Program, wanted: &Wanted) -> Result<Report> {
    let (rounds, seed) = (wanted.rounds, wanted.seed);
    match name {
        "kills" => faults::kills(program, rounds, seed).await,
        "wires" => faults::wires(program, rounds, seed).await,
        "frozen" => faults::frozen(program, rounds.div_ceil(10), seed).await,
        "restart" => faults::restart(program, 500, seed).await,
        "storm" => faults::storm(program, wanted.clients, seed).await,
        "slow" => faults::slow_reader(program, seed).await,
        "disk" => faults::full_disk(program, seed).await,
        "clock" => faults::clock(program, seed).await,
        _ => faults::random(program, 40, Duration::from_secs(wanted.seconds), seed).await,
    }
}
