//! `cargo run -p tests --release --bin fanout`: what a delivery and a handshake cost milestone 5, beside
//! milestone 4.

use std::env;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use tests::faults;
use tests::load::fanout::{Fanout, Handshakes, Shape, fanout, handshakes, pin};
use tests::{load, rates};

const HELP: &str = "\
Measures what deliveries and handshakes cost the server. Every message is on the disk before it is
acked and delivered, so how many there are a second is up to the disk; what one costs is not.
The server and this program share one processor.

Usage: fanout [--seconds N] [--rounds N] [--processor N] [--server NAME]

  --seconds N       how long each measurement takes (5)
  --rounds N        how often each is repeated; all rounds are printed (3)
  --processor N     which one, or `any` (1)
  --server NAME     a milestone's package (step04-resilience and step05-production, one after the other)
  --help            shows this";

/// What was asked for.
struct Wanted {
    time: Duration,
    rounds: usize,
    processor: Option<usize>,
    servers: Vec<String>,
}

#[tokio::main(flavor = "current_thread")]
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

fn wanted() -> Result<Option<Wanted>> {
    let servers = vec!["step04-resilience".to_owned(), "step05-production".to_owned()];
    let time = Duration::from_secs(5);
    let mut wanted = Wanted { time, rounds: 3, processor: Some(1), servers };
    let mut arguments = env::args().skip(1);
    while let Some(name) = arguments.next() {
        if ["--help", "-h"].contains(&name.as_str()) {
            return Ok(None);
        }
        let value = arguments.next().with_context(|| format!("{name} needs a value\n\n{HELP}"))?;
        match name.as_str() {
            "--seconds" => wanted.time = Duration::from_secs(value.parse()?),
            "--rounds" => wanted.rounds = value.parse()?,
            "--processor" if value == "any" => wanted.processor = None,
            "--processor" => wanted.processor = Some(value.parse()?),
            "--server" => wanted.servers = vec![value],
            _ => bail!("unknown: {name}\n\n{HELP}"),
        }
    }
    Ok(Some(wanted))
}

async fn run() -> Result<()> {
    let Some(wanted) = wanted()? else {
        println!("{HELP}");
        return Ok(());
    };
    for server in &wanted.servers {
        load::server(server)?.0.build().await?;
    }
    if let Some(processor) = wanted.processor {
        pin(processor).await?;
        println!("Server and generator are on processor {processor}.");
    }
    println!("The raw disk: {:.0} writes of 4 KiB with fsync a second.\n", disk()?);
    measure(&wanted).await
}

fn disk() -> Result<f64> {
    rates::fsyncs(Duration::from_secs(2))
}

async fn measure(wanted: &Wanted) -> Result<()> {
    println!("{}", Fanout::HEAD);
    for shape in Shape::ALL {
        for server in &wanted.servers {
            let (program, milestone) = load::server(server)?;
            for _ in 0..wanted.rounds {
                println!("{}", fanout(&program, milestone, shape, wanted.time).await?);
            }
        }
    }
    println!("\n{}", Handshakes::HEAD);
    for server in &wanted.servers {
        let (program, milestone) = load::server(server)?;
        for _ in 0..wanted.rounds {
            println!("{}", handshakes(&program, milestone).await?);
        }
    }
    Ok(())
}
