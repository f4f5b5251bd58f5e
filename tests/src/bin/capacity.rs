//! `cargo run -p tests --release --bin capacity`: how much work a chat of many nodes is, by a formula that
//! a simulation checks.

use std::process::ExitCode;

use anyhow::{Result, bail};
use clap::Parser;
use tests::capacity::measure::measure;
use tests::capacity::{Chat, Comparison, Costs, Line};
use tests::chance::Chance;
use tests::{command, redis};

/// From `idle` and `fanout` (milestone 5), and from `--measure`, as the book has them.
const COSTS: Costs = Costs {
    connection_kib: 8.7,
    delivery: 2.0,
    message: 47.0,
    tell: 1.6,
    check: 9.0,
    refresh: 31.0,
    user: 14.0,
};

/// How far the formula may be off.
const TOLERANCE: f64 = 0.05;

/// More would take minutes and gigabytes.
const MOST_USERS: usize = 1_000_000;

/// Foretells how much work a chat of many nodes is, and simulates it to check that.
#[derive(Parser)]
#[command(args_override_self = true, verbatim_doc_comment)]
struct Wanted {
    /// Nodes
    #[arg(long, value_name = "N", default_value_t = 3)]
    nodes: usize,
    /// Users, one connection each
    #[arg(long, value_name = "N", default_value_t = 6000)]
    users: usize,
    /// Rooms
    #[arg(long, value_name = "N", default_value_t = 1500)]
    rooms: usize,
    /// In how many each user is
    #[arg(long, value_name = "N", default_value_t = 4)]
    rooms_each: usize,
    /// How many messages a user writes in a minute
    #[arg(long, value_name = "N", default_value_t = 2.0)]
    per_minute: f64,
    /// How long the simulation is, in its own time; at most 3600
    #[arg(long, value_name = "N", default_value_t = 120.0)]
    seconds: f64,
    /// Repeats a simulation
    #[arg(long, value_name = "N", default_value_t = 1)]
    seed: u64,
    /// KiB a connection, then µs: a delivery, a message, telling a node, a check, presence, a sign of
    /// life of a user
    #[arg(long, value_name = "A,B,C,D,E,F,G", value_parser = costs)]
    costs: Option<Costs>,
    /// Only the worksheet: for many users, whom a simulation would take long for
    #[arg(long)]
    foretell: bool,
    /// Starts a redis-server, and prints what the scripts cost it
    #[arg(long)]
    measure: bool,
}

#[tokio::main]
async fn main() -> ExitCode {
    command::run(run).await
}

/// Does what was asked for; whether the formula was right.
async fn run(wanted: Wanted) -> Result<bool> {
    if wanted.measure {
        if let Some(missing) = redis::missing() {
            bail!(missing);
        }
        println!("{}", measure().await?);
        return Ok(true);
    }
    let Wanted { nodes, users, rooms, rooms_each, per_minute, .. } = wanted;
    if users > MOST_USERS && !wanted.foretell {
        bail!("a simulation has at most {MOST_USERS} users; --foretell does without one");
    }
    let chat = Chat { nodes, users, rooms, rooms_each, per_minute };
    println!("{}\n{}", Line::HEAD, Line::of(chat, wanted.costs.unwrap_or(COSTS)));
    if wanted.foretell {
        return Ok(true);
    }
    let seconds = wanted.seconds.clamp(1.0, 3600.0);
    let counted = chat.play(seconds, &mut Chance::seeded(wanted.seed));
    let comparison = Comparison { counted, foretold: chat.work() };
    println!("\n{comparison}");
    Ok(comparison.off() <= TOLERANCE)
}

fn costs(text: &str) -> Result<Costs, String> {
    let numbers: Result<Vec<f64>, _> =
        text.split(',').map(|number| number.trim().parse()).collect();
    match numbers.as_deref() {
        Ok(&[connection_kib, delivery, message, tell, check, refresh, user]) => {
            Ok(Costs { connection_kib, delivery, message, tell, check, refresh, user })
        }
        _ => Err("it takes seven numbers with commas between them".to_owned()),
    }
}
