//! `cargo run -p tests --release --bin cluster`: several nodes over one Redis behind nginx, and everything
//! that may happen to them, under load. Prints whether anything was lost, came twice or out of order.

use std::process::ExitCode;
use std::time::{Duration, Instant};

use anyhow::{Result, bail};
use clap::Parser;
use tests::chance::Chance;
use tests::command;
use tests::fleet::peer::{self, Account};
use tests::fleet::runs::{self, Outcome};
use tests::fleet::{self, Shape};
use tests::program::Program;
use tests::redis::Fsync;

/// Proves by faults that several nodes of milestone 5 over one Redis lose nothing.
#[derive(Parser)]
#[command(
    args_override_self = true,
    verbatim_doc_comment,
    after_help = "It needs redis-server and nginx."
)]
struct Wanted {
    /// How long the random run takes; may be a fraction
    #[arg(long, value_name = "N", default_value_t = 10.0)]
    minutes: f64,
    /// Nodes
    #[arg(long, value_name = "N", default_value_t = 3)]
    nodes: usize,
    /// Clients
    #[arg(long, value_name = "N", default_value_t = 60)]
    clients: usize,
    /// How many of them have to do without a WebSocket
    #[arg(long, value_name = "N", default_value_t = 20)]
    streams: usize,
    /// Rooms that each client is in
    #[arg(long, value_name = "N", default_value_t = 8)]
    rooms: usize,
    /// Messages a second, all together
    #[arg(long, value_name = "N", default_value_t = 60.0)]
    rate: f64,
    /// DRAIN_SECONDS of the nodes in the rolling restart
    #[arg(long, value_name = "N", default_value_t = 5)]
    drain: u64,
    /// Repeats a run (by default another one each time)
    #[arg(long, value_name = "N", default_value_t = Chance::seed(), hide_default_value = true)]
    seed: u64,
    /// random, rolling or rollback
    #[arg(long, value_name = "NAME")]
    only: Option<String>,
    /// Then the random run once more with Socket.IO, with the same faults
    #[arg(long, value_name = "NAME", value_parser = ["socketio"])]
    peer: Option<String>,
    /// A package or the path of a program
    #[arg(long, value_name = "NAME", default_value = "step05-production")]
    server: String,
}

impl Wanted {
    fn shape(&self) -> Shape {
        Shape {
            nodes: self.nodes,
            clients: self.clients,
            without_websocket: self.streams,
            rooms: self.rooms,
            fsync: Fsync::Always,
            drain: self.drain,
        }
    }
}

#[tokio::main]
async fn main() -> ExitCode {
    command::run_with_enough_files(run).await
}

/// Runs what was asked for; whether all of it was right.
async fn run(wanted: Wanted) -> Result<bool> {
    if let Some(missing) = fleet::missing() {
        bail!(missing);
    }
    let program = if wanted.server.contains('/') {
        Program::command(&wanted.server, Vec::<String>::new())
    } else {
        Program::cargo_package(&wanted.server)
    };
    let began = Instant::now();
    let mut is_right = true;
    let chosen = |name: &&str| wanted.only.as_ref().is_none_or(|only| only == name);
    for name in ["random", "rolling", "rollback"].into_iter().filter(chosen) {
        for outcome in one(name, &program, &wanted).await {
            match outcome {
                Ok(outcome) => {
                    is_right &= outcome.is_right();
                    println!("{outcome}");
                }
                Err(error) => {
                    is_right = false;
                    println!("WRONG  {name} (seed {}): {error:#}", wanted.seed);
                }
            }
        }
    }
    if wanted.peer.is_some() {
        println!("{}", beside(&wanted).await?);
    }
    println!("It took {:.0} s.", began.elapsed().as_secs_f64());
    Ok(is_right)
}

/// What the same faults cost Socket.IO. Nothing of it is wrong here: it promises less.
async fn beside(wanted: &Wanted) -> Result<Account> {
    if let Some(missing) = peer::missing() {
        bail!(missing);
    }
    let time = Duration::from_secs_f64(wanted.minutes * 60.0);
    peer::random(Shape { drain: 1, ..wanted.shape() }, time, wanted.rate, wanted.seed).await
}

async fn one(name: &str, program: &Program, wanted: &Wanted) -> Vec<Result<Outcome>> {
    let Wanted { rate, seed, .. } = *wanted;
    let shape = wanted.shape();
    match name {
        "rolling" => vec![runs::rolling(program, shape, rate, seed).await],
        "rollback" => {
            let with = |fsync| runs::rollback(program, Shape { fsync, ..shape }, rate, seed);
            vec![with(Fsync::EverySecond).await, with(Fsync::Always).await]
        }
        _ => {
            let time = Duration::from_secs_f64(wanted.minutes * 60.0);
            let shape = Shape { drain: 1, ..shape };
            vec![runs::random(program, shape, time, rate, seed).await]
        }
    }
}
