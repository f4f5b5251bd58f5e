//! `cargo learn`: the book with live reload, and the milestones live beside it.
//!
//! - [`ports`] says who has a port that is taken;
//! - [`pages`] builds the book, again whenever something changed ([`watch`]), and tells the browsers;
//! - [`runner`] builds, starts, restarts and stops one milestone;
//! - [`wires`] are the fault proxies, one for each client in a panel;
//! - [`people`] are the two in a panel, and how they sign in from milestone 5 on;
//! - [`panels`] is what the panels ask for and send, and [`guard`] who may;
//! - [`site`] serves all of it.

pub mod guard;
pub mod pages;
pub mod panels;
pub mod people;
pub mod ports;
pub mod runner;
pub mod site;
pub mod watch;
pub mod wires;

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use ::tests::program::workspace;
use anyhow::Result;
use futures_util::future::join_all;
use tokio::net::TcpListener;
use tokio::signal;
use tokio::task::JoinHandle;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

use crate::cli::Serve;
use crate::milestone;
use pages::Pages;
use panels::{Panel, Panels};
use runner::{Place, Runner};

/// How long the milestones may take to say goodbye to their clients.
const GOODBYE: Duration = Duration::from_secs(8);

/// Serves the book until Ctrl-C or SIGTERM.
///
/// # Errors
/// A port is taken, or the book can't be built at all.
pub async fn run(options: Serve) -> Result<()> {
    let listener = bind(&options).await?;
    let url = format!("http://{}", listener.local_addr()?);
    let stop = CancellationToken::new();
    tokio::spawn(cancel_on_signal(stop.clone()));

    let pages = Pages::build(workspace()).await?;
    println!("The book is at {url} (Ctrl-C stops everything)");
    let (panels, mut running) = start_milestones(&options, listener.local_addr()?, &stop).await?;
    running.push(tokio::spawn(register(Arc::clone(&panels), stop.clone())));
    let rebuilding = tokio::spawn(pages::rebuild(Arc::clone(&pages), stop.clone()));
    let site = site::routes(pages, panels, listener.local_addr()?.port());
    warp::serve(site).incoming(listener).graceful(stop.clone().cancelled_owned()).run().await;

    stop.cancelled().await;
    let _ = timeout(GOODBYE, join_all(running)).await;
    let _ = rebuilding.await;
    println!("Stopped.");
    Ok(())
}

/// Takes the book's port, and sees that those of the milestones are free.
async fn bind(options: &Serve) -> Result<TcpListener> {
    let address = SocketAddr::from((Ipv4Addr::LOCALHOST, options.port));
    let listener = TcpListener::bind(address).await.map_err(|error| {
        const INSTEAD: &str = "give the book another one: cargo learn --port 3100";
        ports::cannot_listen(options.port, &error, INSTEAD)
    })?;
    if !options.no_milestones {
        for milestone in milestone::existing(workspace()) {
            ports::expect_free(milestone.port(options.first_port)).await?;
        }
    }
    Ok(listener)
}

/// Starts each milestone in the background, one build after the other.
async fn start_milestones(
    options: &Serve,
    book: SocketAddr,
    stop: &CancellationToken,
) -> Result<(Arc<Panels>, Vec<JoinHandle<()>>)> {
    let origins = format!("http://127.0.0.1:{0},http://localhost:{0}", book.port());
    let wanted = if options.no_milestones { Vec::new() } else { milestone::existing(workspace()) };
    let mut panels: Vec<Panel> = Vec::new();
    let mut running = Vec::new();
    for milestone in wanted {
        let address = SocketAddr::from((Ipv4Addr::LOCALHOST, milestone.port(options.first_port)));
        let place = Place { milestone, address, origins: origins.clone() };
        let (runner, handle) = Runner::new(place, panels.last().map(Panel::runner), stop.clone());
        panels.push(Panel::new(milestone, address, book, handle).await?);
        running.push(tokio::spawn(runner.run()));
    }
    Ok((Arc::new(Panels::new(panels)), running))
}

/// Registers the people of the panels as soon as the milestones run, before anyone else has their names.
async fn register(panels: Arc<Panels>, stop: CancellationToken) {
    let _it_has_ended = stop.run_until_cancelled(panels.register()).await;
}

/// Waits for Ctrl-C, or for the SIGTERM that asks a program to end.
pub(crate) async fn cancel_on_signal(stop: CancellationToken) {
    #[cfg(unix)]
    {
        use signal::unix::SignalKind;
        let Ok(mut terminate) = signal::unix::signal(SignalKind::terminate()) else {
            eprintln!("can't wait for SIGTERM; Ctrl-C works");
            let _ = signal::ctrl_c().await;
            return stop.cancel();
        };
        tokio::select! {
            _ = signal::ctrl_c() => {}
            _ = terminate.recv() => {}
        }
    }
    #[cfg(not(unix))]
    let _ = signal::ctrl_c().await;
    stop.cancel();
}
