//! The commands and their options.

use clap::{Args, Parser, Subcommand};

use crate::cluster::command::Script;

/// Serves the book at http://127.0.0.1:3000, and runs the milestones beside the text.
///
/// Without a command, `cargo learn` builds the book, serves it with live reload, builds the milestones
/// in the background and shows each in its chapter: two clients side by side, with buttons that cut,
/// stall and slow their wire. Where a name takes an account, the book signs both in. When you change a milestone's source, it is built and started again.
/// Ctrl-C stops everything.
#[derive(Debug, Parser)]
#[command(name = "cargo learn", bin_name = "cargo learn", args_conflicts_with_subcommands = true)]
pub struct Cli {
    /// What to do; without it, the book is served.
    #[command(subcommand)]
    pub command: Option<Command>,
    /// How to serve the book.
    #[command(flatten)]
    pub serve: Serve,
}

/// How to serve the book.
#[derive(Debug, Clone, Args)]
pub struct Serve {
    /// The port of the book
    #[arg(long, default_value_t = 3000)]
    pub port: u16,
    /// The port of milestone 1; the others get the next ones
    #[arg(long, default_value_t = 3001, value_name = "PORT", value_parser = clap::value_parser!(u16).range(1..=65_000))]
    pub first_port: u16,
    /// Serve the book alone, without the milestones
    #[arg(long)]
    pub no_milestones: bool,
}

/// What else `cargo learn` can do.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Make `my-chat/`, a crate for you to type in
    ///
    /// It listens, and does nothing else yet: chapter 4 takes it from there. If there is a `my-chat/`
    /// already, it is put aside first, into `put-aside/`; nothing is ever overwritten.
    New {
        /// Begin with the code of this milestone instead (for who joins late)
        #[arg(long, value_name = "N", value_parser = clap::value_parser!(u8).range(1..=5))]
        from: Option<u8>,
    },
    /// Build and start `my-chat/`, and play a milestone's checks against it
    ///
    /// Prints ✓ or ✗ for each check; for ✗ what was expected, what came, and the section of the book
    /// to read. The exit code is 0 only if all hold. What has passed is remembered in
    /// `.learn/progress.txt`.
    Check {
        /// Which milestone; without it, the first that has not passed yet
        #[arg(value_name = "N", value_parser = clap::value_parser!(u8).range(1..=5))]
        milestone: Option<u8>,
        /// Check the server that runs there already, such as ws://127.0.0.1:3001
        ///
        /// Checks that have to start the server themselves are left out then, and for milestone 5 those
        /// that send more at once than its rate limits may let pass.
        #[arg(long)]
        url: Option<String>,
    },
    /// Start several nodes of milestone 5 with one Redis, and see that nothing gets lost
    ///
    /// A load balancer stands before the nodes, and simulated people talk through it all the time. Kill
    /// a node or Redis, freeze them, cut a wire, and watch: the keys are at the foot of the screen. The
    /// exit code is 0 only if nothing was lost and nothing came twice. It needs redis-server.
    Cluster(Cluster),
    /// Write anew what in the book is generated from the milestones (for who works on the book)
    #[command(hide = true)]
    Mend,
}

/// How to play with a cluster.
#[derive(Debug, Clone, Args)]
pub struct Cluster {
    /// The port of the load balancer; the nodes get the next ones. 0 takes any free ones
    #[arg(long, default_value_t = 3010, value_parser = clap::value_parser!(u16).range(0..=65_000))]
    pub port: u16,
    /// How many nodes
    #[arg(long, default_value_t = 3, value_name = "N", value_parser = clap::value_parser!(u8).range(1..=9))]
    pub nodes: u8,
    /// How many simulated people
    #[arg(long, default_value_t = 12, value_name = "N", value_parser = clap::value_parser!(u8).range(1..=100))]
    pub robots: u8,
    /// Do this instead of waiting for keys, such as "kill 2, wait 3, start 2, wait 3"
    ///
    /// Steps with commas between them: kill, stop, start, freeze, thaw, cut and mend with the number of
    /// a node; kill, start, freeze and thaw with redis; wait with seconds; quit. It works without a
    /// terminal, too.
    #[arg(long)]
    pub script: Option<Script>,
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    #[test]
    fn the_options_do_not_contradict_each_other() {
        Cli::command().debug_assert();
    }
}
