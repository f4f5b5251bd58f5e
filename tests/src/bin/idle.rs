//! `cargo run -p tests --release --bin idle`: what 10,000 idle connections cost milestone 5, beside
//! milestone 4.

use std::process::ExitCode;

use anyhow::Result;
use clap::Parser;
use tests::command;
use tests::load::{self, idle::Idle};

/// Measures what idle connections cost, each signed in and in a room of 100.
#[derive(Parser)]
#[command(args_override_self = true, verbatim_doc_comment)]
struct Wanted {
    /// How many
    #[arg(long, value_name = "N", default_value_t = 10_000)]
    connections: usize,
    /// A milestone's package (step04-resilience and step05-production, one after the other)
    #[arg(long, value_name = "NAME")]
    server: Option<String>,
}

#[tokio::main]
async fn main() -> ExitCode {
    command::run_with_enough_files(run).await
}

async fn run(Wanted { connections, server }: Wanted) -> Result<bool> {
    println!("{}", Idle::HEAD);
    for server in load::servers(server) {
        let (program, milestone) = load::server(&server)?;
        println!("{}", load::idle::idle(&program, milestone, connections).await?);
    }
    Ok(true)
}
