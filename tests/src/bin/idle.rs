//! `cargo run -p tests --release --bin idle`: what 10,000 idle connections cost milestone 5, beside
//! milestone 4.

use std::env;
use std::process::ExitCode;

use anyhow::{Context, Result, bail};
use tests::faults;
use tests::load::{self, idle::Idle};

const HELP: &str = "\
Measures what idle connections cost, each signed in and in a room of 100.

Usage: idle [--connections N] [--server NAME]

  --connections N   how many (10000)
  --server NAME     a milestone's package (step04-resilience and step05-production, one after the other)
  --help            shows this";

#[tokio::main]
async fn main() -> ExitCode {
    if let Some(code) = faults::again_with_enough_files() {
        return code;
    }
    match run().await {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{error:#}");
            ExitCode::FAILURE
        }
    }
}

async fn run() -> Result<()> {
    let mut connections = 10_000;
    let mut servers = vec!["step04-resilience".to_owned(), "step05-production".to_owned()];
    let mut arguments = env::args().skip(1);
    while let Some(name) = arguments.next() {
        if ["--help", "-h"].contains(&name.as_str()) {
            println!("{HELP}");
            return Ok(());
        }
        let value = arguments.next().with_context(|| format!("{name} needs a value\n\n{HELP}"))?;
        match name.as_str() {
            "--connections" => connections = value.parse()?,
            "--server" => servers = vec![value],
            _ => bail!("unknown: {name}\n\n{HELP}"),
        }
    }
    println!("{}", Idle::HEAD);
    for server in servers {
        let (program, milestone) = load::server(&server)?;
        println!("{}", load::idle::idle(&program, milestone, connections).await?);
    }
    Ok(())
}
