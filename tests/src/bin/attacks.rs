//! `cargo run -p tests --release --bin attacks`: attacks milestone 5 in every way it should stand, and
//! prints how it ends the attackers and what healthy clients notice.

use std::process::ExitCode;
use std::time::Duration;

use anyhow::Result;
use clap::Parser;
use tests::load::attacks::{ALL, Arena, Assault, Attack};
use tests::load::group::Noticed;
use tests::load::process::millis;
use tests::{command, load};

/// What no healthy client complains about, however good peace was.
const GOOD: Duration = Duration::from_millis(150);

/// Attacks a server while 20 healthy clients talk, 20 messages a second. It is wrong if an attacker is not
/// sent away as it should be, if a healthy client misses a message or is sent away, or if 99 of 100
/// deliveries to the healthy take longer than five times as long as in peace, and than 150 ms.
#[derive(Parser)]
#[command(args_override_self = true, verbatim_doc_comment)]
struct Wanted {
    /// How long peace and each attack take at least
    #[arg(long, value_name = "N", default_value_t = 5)]
    seconds: u64,
    /// One attack, by the beginning of its name
    #[arg(long, value_name = "NAME")]
    only: Option<String>,
    /// A milestone's package
    #[arg(long, value_name = "NAME", default_value = "step05-production")]
    server: String,
}

#[tokio::main]
async fn main() -> ExitCode {
    command::run_with_enough_files(run).await
}

/// Plays what was asked for; whether all of it was right.
async fn run(wanted: Wanted) -> Result<bool> {
    let time = Duration::from_secs(wanted.seconds);
    let only = wanted.only.unwrap_or_default();
    let (program, milestone) = load::server(&wanted.server)?;
    program.build().await?;
    let mut arena = Arena::open(&program, milestone).await?;
    let peace = arena.peace(time).await;
    let bound = peace.p99.saturating_mul(5).max(GOOD);
    tell(&peace, bound);
    let mut faults = Vec::new();
    for attack in ALL.iter().filter(|attack| attack.name.starts_with(&only)) {
        faults.extend(one(&mut arena, attack, time, bound).await?);
    }
    faults.extend(arena.close().await);
    println!();
    faults.iter().for_each(|fault| println!("WRONG  {fault}"));
    println!("{} faults", faults.len());
    Ok(faults.is_empty())
}

fn tell(peace: &Noticed, bound: Duration) {
    println!(
        "In peace: {} deliveries, p50 {} ms, p99 {} ms, the longest {} ms. The bound for p99: {} ms.\n",
        peace.deliveries,
        millis(peace.median),
        millis(peace.p99),
        millis(peace.longest),
        millis(bound)
    );
    println!("{}", Assault::HEAD);
}

async fn one(
    arena: &mut Arena,
    attack: &Attack,
    time: Duration,
    bound: Duration,
) -> Result<Vec<String>> {
    let assault = arena.suffer(&[*attack], 1, time).await?;
    println!("{assault}");
    Ok(assault.faults(bound))
}
