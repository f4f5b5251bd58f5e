//! `cargo run -p tests --release --bin chaos`: sends milestone 5 anything, for a minute, and prints
//! whether it has panicked, left files open, or disturbed its healthy clients.

use std::env;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use tests::chance::Chance;
use tests::load::chaos::chaos;
use tests::{faults, load};

const HELP: &str = "\
Sends a server frames, JSON and HTTP requests that are wrong by chance, while healthy clients talk.

Usage: chaos [--seconds N] [--seed N] [--server NAME]

  --seconds N       for how long (60)
  --seed N          repeats what is sent (by default another one each time)
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

/// Makes the chaos that was asked for; whether all stayed well.
async fn run() -> Result<bool> {
    let (mut time, mut seed) = (Duration::from_secs(60), Chance::seed());
    let mut server = "step05-production".to_owned();
    let mut arguments = env::args().skip(1);
    while let Some(name) = arguments.next() {
        if ["--help", "-h"].contains(&name.as_str()) {
            println!("{HELP}");
            return Ok(true);
        }
        let value = arguments.next().with_context(|| format!("{name} needs a value\n\n{HELP}"))?;
        match name.as_str() {
            "--seconds" => time = Duration::from_secs(value.parse()?),
            "--seed" => seed = value.parse()?,
            "--server" => server = value,
            _ => bail!("unknown: {name}\n\n{HELP}"),
        }
    }
    println!("seed {seed}");
    let (program, milestone) = load::server(&server)?;
    let report = chaos(&program, milestone, time, seed).await?;
    println!("{report}");
    Ok(report.faults.is_empty())
}
