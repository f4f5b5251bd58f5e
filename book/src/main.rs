//! The program behind `cargo learn`.

use std::process::ExitCode;

use ::tests::program::workspace;
use clap::Parser;
use learn::cli::{Cli, Command};
use learn::{changes, check, cluster, new, serve};

#[tokio::main]
async fn main() -> ExitCode {
    match run(Cli::parse()).await {
        Ok(code) => code,
        Err(error) => {
            eprintln!("{error:#}");
            ExitCode::FAILURE
        }
    }
}

async fn run(cli: Cli) -> anyhow::Result<ExitCode> {
    match cli.command {
        None => serve::run(cli.serve).await?,
        Some(Command::New { from }) => println!("{}", new::run(workspace(), from)?),
        Some(Command::Check { milestone, url }) => return check::run(milestone, url).await,
        Some(Command::Cluster(options)) => return cluster::run(options).await,
        Some(Command::Mend) => println!("{}", changes::rewrite(workspace())?),
    }
    Ok(ExitCode::SUCCESS)
}
