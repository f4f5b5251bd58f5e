// ANCHOR: all
//! `swarm`: thousands of clients at once, to see how a server bears them and whether it keeps its
//! promises.
//!
//! - `arguments`: how many, how fast, for how long;
//! - `accounts`: who the clients are, where the server wants to know;
//! - `member`: one client;
//! - `tally`: what all of them have seen, compared;
//! - `histogram`: how long things took.

mod accounts;
mod arguments;
mod histogram;
mod member;
mod tally;

use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use anyhow::bail;
use clap::Parser;
use client::{Connection, Options, Session, Settings, Token};
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::{Instant, interval, sleep};
use uuid::Uuid;

use crate::arguments::Arguments;
use crate::member::{Member, Phase};
use crate::tally::Tally;

/// How long all clients may take to get in, to come back, or to end up with everything.
const PATIENCE: Duration = Duration::from_secs(60);

/// How often we look whether they have.
const LOOK: Duration = Duration::from_millis(20);

/// How many clients begin together. A listener's queue holds a few hundred.
const TOGETHER: usize = 100;

/// One thread, so that on a small machine the server has the others for itself.
#[tokio::main(flavor = "current_thread")]
async fn main() -> ExitCode {
    match run(&Arguments::parse()).await {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("swarm: {error}");
            ExitCode::FAILURE
        }
    }
}

// ANCHOR: run
/// Runs a swarm. Gives whether the server has kept its promises.
async fn run(arguments: &Arguments) -> anyhow::Result<bool> {
    arguments.check()?;
    let tokens = sign_in(arguments).await?;
    // Sessions try again and again; whether there is a server at all is better said at once.
    let options = Options { token: tokens.first().cloned(), ..Options::default() };
    Connection::open_with(&arguments.url, &options).await?.close().await?;
    let tally = Arc::new(Tally::new(arguments.clients, arguments.room_size));
    let (phase, watching) = watch::channel(Phase::Quiet);
    let mut members = JoinSet::new();
    let begun = Instant::now();
    spawn(arguments, &tokens, &tally, &watching, &mut members).await;
    all(&tally, "got in", || tally.here()).await?;
    let (clients, rooms) = (arguments.clients, tally.rooms());
    println!("clients: {clients}, rooms: {rooms}, all in after {}", seconds(begun.elapsed()));

    let stopped = tokio::signal::ctrl_c();
    let talking = Instant::now();
    phase.send_replace(Phase::Talking);
    tokio::select! {
        _ = stopped => println!("stopped after {}", seconds(talking.elapsed())),
        result = talk(arguments, &tally, &phase) => result?,
    }
    phase.send_replace(Phase::Quiet);
    let talked = talking.elapsed();
    tally.note_end();
    all(&tally, "ended up with every message", || tally.complete()).await?;
    println!(
        "all have every message {} after the last one was said",
        seconds(talking.elapsed() - talked)
    );
    phase.send_replace(Phase::Over);
    while members.join_next().await.is_some() {}
    Ok(tally.report(talked))
}

/// Signs in, if that is wanted.
async fn sign_in(arguments: &Arguments) -> anyhow::Result<Vec<Token>> {
    let begun = Instant::now();
    let tokens = accounts::sign_in(arguments).await?;
    if arguments.accounts {
        println!("accounts: {}, all signed in after {}", tokens.len(), seconds(begun.elapsed()));
    }
    Ok(tokens)
}

/// Starts the clients.
async fn spawn(
    arguments: &Arguments,
    tokens: &[Token],
    tally: &Arc<Tally>,
    watching: &watch::Receiver<Phase>,
    members: &mut JoinSet<()>,
) {
    let run = Uuid::new_v4().simple().to_string();
    let run = run.get(..8).unwrap_or_default();
    for index in 0..arguments.clients {
        let settings = match tokens.get(index / arguments.per_account) {
            Some(token) => Settings::with_token(&arguments.url, token.clone()),
            None => Settings::new(&arguments.url),
        };
        let session = Session::open(settings, format!("s{run}-{index}"));
        let member =
            Member::new(arguments, index, run, session, Arc::clone(tally), watching.clone());
        members.spawn(member.run());
        if index % TOGETHER == TOGETHER - 1 {
            sleep(LOOK).await;
        }
    }
}

/// Lets them talk and, if that is wanted, cuts them all off in the middle.
async fn talk(
    arguments: &Arguments,
    tally: &Tally,
    phase: &watch::Sender<Phase>,
) -> anyhow::Result<()> {
    let time = Duration::from_secs(arguments.seconds);
    if !arguments.cut {
        sleep(time).await;
        return Ok(());
    }
    sleep(time / 2).await;
    tally.note_cut();
    // Wakes them all; they see in the tally that this is a cut.
    phase.send_replace(Phase::Talking);
    all(tally, "came back", || tally.back()).await?;
    println!("{}", tally.storm());
    sleep(time / 2).await;
    Ok(())
}

/// Waits until a count is that of all clients.
async fn all(tally: &Tally, what: &str, count: impl Fn() -> usize) -> anyhow::Result<()> {
    let until = Instant::now() + PATIENCE;
    let mut looks = interval(LOOK);
    while count() < tally.clients() {
        if let Some(problem) = tally.end_of_one() {
            bail!("a client has ended: {problem}");
        }
        if Instant::now() > until {
            let problem = tally.last_problem();
            bail!(
                "only {} of {} clients {what} within {} seconds; {problem}",
                count(),
                tally.clients(),
                PATIENCE.as_secs()
            );
        }
        looks.tick().await;
    }
    Ok(())
}
// ANCHOR_END: run

/// A time for people.
fn seconds(time: Duration) -> String {
    format!("{:.2} s", time.as_secs_f64())
}
// ANCHOR_END: all
