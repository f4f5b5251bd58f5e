//! `cargo run -p tests --release --bin churn`: lets 20,000 connections and 50,000 rooms come and go, and
//! prints whether milestone 5 is then as it was before.

use std::process::ExitCode;

use anyhow::Result;
use clap::Parser;
use tests::load::churn::{Churn, Shape, churn};
use tests::{command, load};

/// Lets connections and rooms come and go in waves. It is wrong if memory, open files or tasks are then
/// more than a tenth above what they were after one wave.
#[derive(Parser)]
#[command(args_override_self = true, verbatim_doc_comment)]
struct Wanted {
    /// How many in all
    #[arg(long, value_name = "N", default_value_t = 20_000)]
    connections: usize,
    /// How many in all, each new
    #[arg(long, value_name = "N", default_value_t = 50_000)]
    rooms: usize,
    /// In how many waves, after the one that warms up
    #[arg(long, value_name = "N", default_value_t = 10)]
    waves: usize,
    /// A milestone's package
    #[arg(long, value_name = "NAME", default_value = "step05-production")]
    server: String,
}

#[tokio::main]
async fn main() -> ExitCode {
    command::run_with_enough_files(run).await
}

/// Runs what was asked for; whether all of it was right.
async fn run(Wanted { connections, rooms, waves, server }: Wanted) -> Result<bool> {
    let shape = Shape { connections, rooms, waves: waves.max(1), slack_kib: 0 };
    let (program, milestone) = load::server(&server)?;
    let report = churn(&program, milestone, shape).await?;
    println!("{}\n{report}", Churn::HEAD);
    let faults = report.faults();
    faults.iter().for_each(|fault| println!("WRONG  {fault}"));
    Ok(faults.is_empty())
}
