//! `cargo run -p tests --release --bin chaos`: sends milestone 5 anything, for a minute, and prints
//! whether it has panicked, left files open, or disturbed its healthy clients.

use std::process::ExitCode;
use std::time::Duration;

use anyhow::Result;
use clap::Parser;
use tests::chance::Chance;
use tests::load::chaos::chaos;
use tests::{command, load};

/// Sends a server frames, JSON and HTTP requests that are wrong by chance, while healthy clients talk.
#[derive(Parser)]
#[command(args_override_self = true, verbatim_doc_comment)]
struct Wanted {
    /// For how long
    #[arg(long, value_name = "N", default_value_t = 60)]
    seconds: u64,
    /// Repeats what is sent (by default another one each time)
    #[arg(long, value_name = "N", default_value_t = Chance::seed(), hide_default_value = true)]
    seed: u64,
    /// A milestone's package
    #[arg(long, value_name = "NAME", default_value = "step05-production")]
    server: String,
}

#[tokio::main]
async fn main() -> ExitCode {
    command::run_with_enough_files(run).await
}

/// Makes the chaos that was asked for; whether all stayed well.
async fn run(Wanted { seconds, seed, server }: Wanted) -> Result<bool> {
    println!("seed {seed}");
    let (program, milestone) = load::server(&server)?;
    let report = chaos(&program, milestone, Duration::from_secs(seconds), seed).await?;
    println!("{report}");
    Ok(report.faults.is_empty())
}
