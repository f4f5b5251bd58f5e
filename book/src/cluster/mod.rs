//! `cargo learn cluster`: several nodes of milestone 5 over one Redis, with a load balancer before them
//! and robots that talk through it, to be broken and mended.
//!
//! - [`command`]: what can be done, and the words of a script for it;
//! - [`stage`]: the whole cluster: Redis, each [`node`], and the [`balancer`];
//! - [`robots`] talk all the time, and the [`ledger`] counts what they have said and seen;
//! - [`show`] plays: it takes keys or a script, and tells what happens;
//! - [`view`] says what the [`screen`] shows.

pub mod balancer;
pub mod command;
pub mod ledger;
pub mod node;
pub mod robots;
pub mod screen;
pub mod show;
pub mod stage;
pub mod view;

use std::io::{IsTerminal, stdin, stdout};
use std::process::ExitCode;

use ::tests::program::Program;
use ::tests::redis;
use anyhow::{Context, Result, bail};
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use crate::cli::Cluster;
use crate::paint::Paint;
use crate::serve::cancel_on_signal;
use robots::{ROOMS, Robots};
use show::Show;
use stage::{Places, Stage};

/// What to do where there is no Redis.
const NO_REDIS: &str = "There is no redis-server here, and the nodes of a cluster meet in one. Install it: \
     sudo apt-get install redis-server (Debian, Ubuntu), brew install redis (macOS), or on Windows \
     the first of these inside WSL, and run cargo learn cluster there.";

/// Plays with a cluster, until somebody quits or the script ends. The exit code is 0 only if nothing got
/// lost and nothing came twice.
///
/// # Errors
/// Something does not start, or the script does not fit.
pub async fn run(options: Cluster) -> Result<ExitCode> {
    check(&options)?;
    let stop = CancellationToken::new();
    tokio::spawn(cancel_on_signal(stop.clone()));
    #[cfg(unix)]
    tokio::spawn(cancel_on_hangup(stop.clone()));
    let ended = stop.run_until_cancelled(play(&options)).await;
    ended.unwrap_or_else(|| bail!("Stopped."))
}

/// A terminal that is closed must not leave a Redis behind, which ignores that.
#[cfg(unix)]
async fn cancel_on_hangup(stop: CancellationToken) {
    use tokio::signal::unix::{SignalKind, signal};
    let Ok(mut hangup) = signal(SignalKind::hangup()) else { return };
    hangup.recv().await;
    stop.cancel();
}

/// Sees that everything is there that it takes.
fn check(options: &Cluster) -> Result<()> {
    if redis::missing().is_some() {
        bail!("{NO_REDIS}");
    }
    let nodes = usize::from(options.nodes);
    match &options.script {
        None if !stdin().is_terminal() || !stdout().is_terminal() => {
            bail!("There is no terminal to take keys from: say what to do with --script")
        }
        Some(script) if script.last_node() > nodes => {
            bail!("The script wants node {}, and there are {nodes}", script.last_node())
        }
        _ => Ok(()),
    }
}

async fn play(options: &Cluster) -> Result<ExitCode> {
    let places = Places::find(options.port, options.nodes.into()).await?;
    println!("Building step05-production; the first time that takes a minute or two.");
    Program::cargo_package("step05-production").build().await?;
    let (notes, noted) = mpsc::unbounded_channel();
    let stage = Stage::set(places, notes).await?;
    introduce(&stage, options.robots, Paint::for_stdout());
    let url = format!("ws://{}/ws", stage.door());
    let robots = Robots::gather(&url, options.robots.into()).await;
    let robots = robots.context("the cluster does not work")?;
    let show = Show::new(stage, robots, noted, options.script.is_none())?;
    let is_right = show.play(options.script.as_ref()).await?;
    Ok(if is_right { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// Says what there is, and what to do with it.
fn introduce(stage: &Stage, robots: u8, paint: Paint) {
    let port = stage.door().port();
    let one = paint.strong(&format!("http://127.0.0.1:{port}"));
    let other = paint.strong(&format!("http://localhost:{port}"));
    let [red, green, blue] = ROOMS;
    let redis = stage.redis_address().port();
    println!(
        "\nThe load balancer is at {one}; each connection gets the node\n\
         that has the fewest. Open it in one window, and {other} in\n\
         another: a browser takes these for two sites, so you can be two people. Sign\n\
         up in both; the room lobby is yours. In the rooms {red}, {green} and {blue}\n\
         {robots} robots talk; each message has to reach all {robots}, and once.\n\n\
         redis-cli -p {redis} monitor   shows what the nodes say to Redis\n"
    );
}
