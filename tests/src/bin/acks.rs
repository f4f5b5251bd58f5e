//! `cargo run -p tests --release --bin acks`: how many messages a second milestone 4 acks, beside what
//! the raw disk can do in the same run.

use std::process::ExitCode;
use std::time::Duration;

use anyhow::Result;
use clap::Parser;
use tests::program::Program;
use tests::{command, rates};

/// How long each measurement takes.
const TIME: Duration = Duration::from_secs(5);

/// How many senders at once.
const SENDERS: [usize; 3] = [1, 32, 256];

/// Measures how many messages a second the server acks, beside what the raw disk can do. It takes no
/// options.
#[derive(Parser)]
#[command(verbatim_doc_comment)]
struct Wanted;

#[tokio::main]
async fn main() -> ExitCode {
    command::run(run).await
}

async fn run(_: Wanted) -> Result<bool> {
    let program = Program::cargo_package("step04-resilience");
    program.build().await?;
    println!("the raw disk: {:.0} writes of 4 KiB with fsync a second", rates::fsyncs(TIME)?);
    for senders in SENDERS {
        let (per_second, median) = rates::acks(&program, senders, TIME).await?;
        println!(
            "{senders:>3} senders: {per_second:>6.0} acked messages a second, median {:.1} ms",
            median.as_secs_f64() * 1000.0
        );
    }
    println!("the raw disk: {:.0} writes of 4 KiB with fsync a second", rates::fsyncs(TIME)?);
    Ok(true)
}
