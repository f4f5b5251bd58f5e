//! `cargo run -p tests --release --bin faults`: kills, cuts and starves milestone 4 under load, and
//! prints whether anything was lost, came twice or out of order.

use std::env;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use tests::chance::Chance;
use tests::faults::{self, Report};
use tests::program::Program;

const HELP: &str = "\
Proves by faults that milestone 4 loses nothing.

Usage: faults [--rounds N] [--clients N] [--seed N] [--only NAME] [--server NAME]

  --rounds N        rounds of kill -9, and of faults of the wire (100)
  --clients N       clients in the storm (2000)
  --seconds N       how long the random run takes (60)
  --seed N          repeats a run (by default another one each time)
  --only NAME       kills, wires, frozen, restart, storm, slow, disk, clock or random
  --server NAME     a package or the path of a program (step04-resilience)
  --help            shows this";

/// What was asked for.
struct Wanted {
    rounds: usize,
    clients: usize,
    seconds: u64,
    seed: u64,
    only: Option<String>,
    server: String,
}

#[tokio::main]
async fn main() -> ExitCode {
    if let Some(code) = faults::again_with_enough_files() {
        return code;
    }
    match run().await {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("{error:#}");
            ExitCode::FAILURE
        }
    }
}

fn wanted() -> Result<Option<Wanted>> {
    let mut wanted = Wanted {
        rounds: 100,
        clients: 2000,
        seconds: 60,
        seed: Chance::seed(),
        only: None,
        server: "step04-resilience".to_owned(),
    };
    let mut arguments = env::args().skip(1);
    while let Some(name) = arguments.next() {
        if ["--help", "-h"].contains(&name.as_str()) {
            return Ok(None);
        }
        let value = arguments.next().with_context(|| format!("{name} needs a value\n\n{HELP}"))?;
        match name.as_str() {
            "--rounds" => wanted.rounds = value.parse()?,
            "--clients" => wanted.clients = value.parse()?,
            "--seconds" => wanted.seconds = value.parse()?,
            "--seed" => wanted.seed = value.parse()?,
            "--only" => wanted.only = Some(value),
            "--server" => wanted.server = value,
            _ => bail!("unknown: {name}\n\n{HELP}"),
        }
    }
    Ok(Some(wanted))
}

/// Runs what was asked for; whether all of it was right.
async fn run() -> Result<bool> {
    let Some(wanted) = wanted()? else {
        println!("{HELP}");
        return Ok(true);
    };
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
