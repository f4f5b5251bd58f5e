// ANCHOR: all
//! The command line: how many clients, how fast, for how long.

use std::net::IpAddr;

use anyhow::{bail, ensure};
use clap::Parser;
use tokio_tungstenite::tungstenite::http::Uri;

/// Thousands of chat clients at once.
///
/// Opens that many sessions with a server of milestone 4 or later, spreads them over rooms, lets
/// them talk, and compares what each has seen: every message that the server has acknowledged has to
/// be seen by everyone in its room, once, and in one order. Prints how long messages took, and how
/// many a second were stored.
#[derive(Debug, Clone, Parser)]
#[command(name = "swarm", version, after_help = EXAMPLES, after_long_help = EXAMPLES)]
pub struct Arguments {
    /// The server's WebSocket.
    #[arg(long, value_name = "URL", default_value = "ws://127.0.0.1:3004/ws")]
    pub url: String,

    /// How many clients, at most 10000.
    #[arg(long, value_name = "N", default_value_t = 100, value_parser = number(10_000))]
    pub clients: usize,

    /// How many of them are in a room. Each message goes to that many.
    #[arg(long, value_name = "N", default_value_t = 20, value_parser = number(10_000))]
    pub room_size: usize,

    /// How many messages all of them together say a second, at most 100000.
    #[arg(long, value_name = "N", default_value_t = 100, value_parser = number(100_000))]
    pub rate: usize,

    /// Instead of a rate: so many clients speak, each as soon as its last message is stored.
    #[arg(long, value_name = "N", conflicts_with = "rate", value_parser = number(10_000))]
    pub senders: Option<usize>,

    /// For how long they talk, in seconds, at most 600.
    #[arg(long, value_name = "N", default_value_t = 10, value_parser = clap::value_parser!(u64).range(1..=600))]
    pub seconds: u64,

    /// Cut all of them off at half-time, in the same moment, and measure how long it takes until all
    /// are back and have what they missed.
    #[arg(long)]
    pub cut: bool,

    /// Sign in first, which milestone 5 wants: as swarm-1, swarm-2 and so on. Those that are new are
    /// registered, all with one password that is no secret.
    #[arg(long)]
    pub accounts: bool,

    /// How many clients share an account. A server takes 20 connections of one, unless its
    /// MAX_CONNECTIONS_PER_USER says otherwise.
    #[arg(long, value_name = "K", default_value_t = 1, requires = "accounts", value_parser = number(10_000))]
    pub per_account: usize,

    /// Go on although the server is on another machine. Do that to your own servers only.
    #[arg(long)]
    pub yes_remote: bool,
}

const EXAMPLES: &str = "\
Examples:
  A hundred clients for ten seconds:
    cargo run --release -p client --bin swarm

  A storm: 2,000 clients lose their connection at once. The server has to have room for them, and
  both programs need that many open files:
    ulimit -n 8192; MAX_CONNECTIONS=2500 cargo run --release -p step04-resilience
    ulimit -n 8192; cargo run --release -p client --bin swarm -- --clients 2000 --cut

  How many messages a second the log can store, with 32 that wait for each ack:
    cargo run --release -p client --bin swarm -- --clients 32 --room-size 1 --senders 32

  A thousand clients of milestone 5, which share a hundred accounts. The server limits what one
  address may do, and all of these come from one:
    RATE_LIMIT=off MAX_CONNECTIONS_PER_ADDRESS=2000 cargo run --release -p step05-production
    cargo run --release -p client --bin swarm -- --url ws://127.0.0.1:3005/ws --clients 1000 \\
      --accounts --per-account 10

Exit code: 0 if every message that was acknowledged has been seen by everyone once and in order,
1 if not, or if something went wrong, 2 for a wrong command line.";

/// A number from 1 to `most`.
fn number(most: usize) -> impl Fn(&str) -> Result<usize, String> + Clone + Send + Sync + 'static {
    move |text| match text.parse() {
        Ok(number) if (1..=most).contains(&number) => Ok(number),
        _ => Err(format!("it has to be a number from 1 to {most}")),
    }
}

impl Arguments {
    /// How many accounts the clients need.
    pub fn accounts_needed(&self) -> usize {
        if self.accounts { self.clients.div_ceil(self.per_account) } else { 0 }
    }

    /// Checks what the parser can't.
    ///
    /// # Errors
    /// The URL is not one, or leads to another machine.
    pub fn check(&self) -> anyhow::Result<()> {
        let Some(host) = self.url.parse::<Uri>().ok().and_then(|uri| uri.host().map(str::to_owned))
        else {
            bail!("{:?} is not a URL: write it like ws://127.0.0.1:3004/ws", self.url);
        };
        ensure!(
            self.yes_remote || is_this_machine(&host),
            "{host} may be another machine: a swarm looks like an attack there; if it is yours, add --yes-remote"
        );
        Ok(())
    }
}

fn is_this_machine(host: &str) -> bool {
    let address = host.trim_start_matches('[').trim_end_matches(']').parse::<IpAddr>();
    host == "localhost" || address.is_ok_and(|address| address.is_loopback())
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory;

    fn parse(arguments: &[&str]) -> Result<Arguments, clap::Error> {
        Arguments::try_parse_from([&["swarm"], arguments].concat())
    }

    #[test]
    fn the_command_line_holds_together() {
        Arguments::command().debug_assert();
        assert!(parse(&[]).unwrap().check().is_ok());
    }

    #[test]
    fn numbers_have_bounds() {
        for wrong in [
            ["--clients", "0"],
            ["--clients", "10001"],
            ["--rate", "100001"],
            ["--seconds", "601"],
            ["--room-size", "many"],
        ] {
            assert!(parse(&wrong).is_err(), "{wrong:?}");
        }
    }

    #[test]
    fn accounts_are_shared_only_if_there_are_some() {
        assert_eq!(parse(&["--clients", "21"]).unwrap().accounts_needed(), 0);
        let shared = ["--clients", "21", "--accounts", "--per-account", "10"];
        assert_eq!(parse(&shared).unwrap().accounts_needed(), 3);
        assert!(parse(&["--per-account", "10"]).is_err());
    }

    #[test]
    fn only_this_machine_goes_without_saying() {
        for url in ["ws://localhost:1/ws", "ws://127.0.0.2:1/ws", "ws://[::1]:1/ws"] {
            assert!(parse(&["--url", url]).unwrap().check().is_ok(), "{url}");
        }
        let remote = ["--url", "ws://chat.example/ws"];
        assert!(parse(&remote).unwrap().check().is_err());
        assert!(parse(&["--url", "nonsense:"]).unwrap().check().is_err());
        assert!(parse(&[&remote[..], &["--yes-remote"]].concat()).unwrap().check().is_ok());
    }
}
// ANCHOR_END: all
