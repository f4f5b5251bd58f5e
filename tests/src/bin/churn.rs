//! `cargo run -p tests --release --bin churn`: lets 20,000 connections and 50,000 rooms come and go, and
//! prints whether milestone 5 is then as it was before.

use std::env;
use std::process::ExitCode;

use anyhow::{Context, Result, bail};
use tests::load::churn::{Churn, Shape, churn};
use tests::{faults, load};

const HELP: &str = "\
Lets connections and rooms come and go in waves. It is wrong if memory, open files or tasks are then
more than a tenth above what they were after one wave.

Usage: churn [--connections N] [--rooms N] [--waves N] [--server NAME]

  --connections N   how many in all (20000)
  --rooms N         how many in all, each new (50000)
  --waves N         in how many waves, after the one that warms up (10)
  --server NAME     a milestone's package (step05-production)
  --help            shows this";

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

/// Runs what was asked for; whether all of it was right.
async fn run() -> Result<bool> {
    let mut shape = Shape { connections: 20_000, rooms: 50_000, waves: 10, slack_kib: 0 };
    let mut server = "step05-production".to_owned();
    let mut arguments = env::args().skip(1);
    while let Some(name) = arguments.next() {
        if ["--help", "-h"].contains(&name.as_str()) {
            println!("{HELP}");
            return Ok(true);
        }
        let value = arguments.next().with_context(|| format!("{name} needs a value\n\n{HELP}"))?;
        match name.as_str() {
            "--connections" => shape.connections = value.parse()?,
            "--rooms" => shape.rooms = value.parse()?,
            "--waves" => shape.waves = value.parse::<usize>()?.max(1),
            "--server" => server = value,
            _ => bail!("unknown: {name}\n\n{HELP}"),
        }
    }
    let (program, milestone) = load::server(&server)?;
    let report = churn(&program, milestone, shape).await?;
    println!("{}\n{report}", Churn::HEAD);
    let faults = report.faults();
    faults.iter().for_each(|fault| println!("WRONG  {fault}"));
    Ok(faults.is_empty())
}
