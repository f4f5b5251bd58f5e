//! `cargo run -p tests --release --bin fanout`: what a delivery and a handshake cost milestone 5, beside
//! milestone 4.

use std::num::ParseIntError;
use std::process::ExitCode;
use std::str::FromStr;
use std::time::Duration;

use anyhow::Result;
use clap::Parser;
use tests::load::fanout::{Fanout, Handshakes, Shape, fanout, handshakes, pin};
use tests::{command, load, rates};

/// Measures what deliveries and handshakes cost the server. Every message is on the disk before it is
/// acked and delivered, so how many there are a second is up to the disk; what one costs is not.
/// The server and this program share one processor.
#[derive(Parser)]
#[command(args_override_self = true, verbatim_doc_comment)]
struct Wanted {
    /// How long each measurement takes
    #[arg(long, value_name = "N", default_value_t = 5)]
    seconds: u64,
    /// How often each is repeated; all rounds are printed
    #[arg(long, value_name = "N", default_value_t = 3)]
    rounds: usize,
    /// Which one, or `any`
    #[arg(long, value_name = "N", default_value = "1")]
    processor: Processor,
    /// A milestone's package (step04-resilience and step05-production, one after the other)
    #[arg(long, value_name = "NAME")]
    server: Option<String>,
}

/// Where both run.
#[derive(Clone)]
enum Processor {
    Any,
    One(usize),
}

impl FromStr for Processor {
    type Err = ParseIntError;

    fn from_str(text: &str) -> Result<Self, ParseIntError> {
        if text == "any" { Ok(Self::Any) } else { text.parse().map(Self::One) }
    }
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> ExitCode {
    command::run_with_enough_files(run).await
}

async fn run(wanted: Wanted) -> Result<bool> {
    let servers = load::servers(wanted.server);
    for server in &servers {
        load::server(server)?.0.build().await?;
    }
    if let Processor::One(processor) = wanted.processor {
        pin(processor).await?;
        println!("Server and generator are on processor {processor}.");
    }
    println!("The raw disk: {:.0} writes of 4 KiB with fsync a second.\n", disk()?);
    measure(&servers, wanted.rounds, Duration::from_secs(wanted.seconds)).await?;
    Ok(true)
}

fn disk() -> Result<f64> {
    rates::fsyncs(Duration::from_secs(2))
}

async fn measure(servers: &[String], rounds: usize, time: Duration) -> Result<()> {
    println!("{}", Fanout::HEAD);
    for shape in Shape::ALL {
        for server in servers {
            let (program, milestone) = load::server(server)?;
            for _ in 0..rounds {
                println!("{}", fanout(&program, milestone, shape, time).await?);
            }
        }
    }
    println!("\n{}", Handshakes::HEAD);
    for server in servers {
        let (program, milestone) = load::server(server)?;
        for _ in 0..rounds {
            println!("{}", handshakes(&program, milestone).await?);
        }
    }
    Ok(())
}
