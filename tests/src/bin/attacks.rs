//! `cargo run -p tests --release --bin attacks`: attacks milestone 5 in every way it should stand, and
//! prints how it ends the attackers and what healthy clients notice.

use std::env;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use tests::load::attacks::{ALL, Arena, Assault, Attack};
use tests::load::group::Noticed;
use tests::load::process::millis;
use tests::{faults, load};

const HELP: &str = "\
Attacks a server while 20 healthy clients talk, 20 messages a second. It is wrong if an attacker is not
sent away as it should be, if a healthy client misses a message or is sent away, or if 99 of 100
deliveries to the healthy take longer than five times as long as in peace, and than 150 ms.

Usage: attacks [--seconds N] [--only NAME] [--server NAME]

  --seconds N       how long peace and each attack take at least (5)
  --only NAME       one attack, by the beginning of its name
  --server NAME     a milestone's package (step05-production)
  --help            shows this";

/// What no healthy client complains about, however good peace was.
const GOOD: Duration = Duration::from_millis(150);

/// What was asked for.
struct Wanted {
    time: Duration,
    only: String,
    server: String,
}

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

fn wanted() -> Result<Option<Wanted>> {
    let (time, server) = (Duration::from_secs(5), "step05-production".to_owned());
    let mut wanted = Wanted { time, only: String::new(), server };
    let mut arguments = env::args().skip(1);
    while let Some(name) = arguments.next() {
        if ["--help", "-h"].contains(&name.as_str()) {
            return Ok(None);
        }
        let value = arguments.next().with_context(|| format!("{name} needs a value\n\n{HELP}"))?;
        match name.as_str() {
            "--seconds" => wanted.time = Duration::from_secs(value.parse()?),
            "--only" => wanted.only = value,
            "--server" => wanted.server = value,
            _ => bail!("unknown: {name}\n\n{HELP}"),
        }
    }
    Ok(Some(wanted))
}

/// Plays what was asked for; whether all of it was right.
async fn run() -> Result<bool> {
    let Some(wanted) = wanted()? else {
        println!("{HELP}");
        return Ok(true);
    };
    let (program, milestone) = load::server(&wanted.server)?;
    program.build().await?;
    let mut arena = Arena::open(&program, milestone).await?;
    let peace = arena.peace(wanted.time).await;
    let bound = peace.p99.saturating_mul(5).max(GOOD);
    tell(&peace, bound);
    let mut faults = Vec::new();
    for attack in ALL.iter().filter(|attack| attack.name.starts_with(&wanted.only)) {
        faults.extend(one(&mut arena, attack, wanted.time, bound).await?);
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
