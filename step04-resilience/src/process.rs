//! What every server program needs from its surroundings: a log, a signal to stop, and a port.

use std::io::{self, IsTerminal};
use std::net::SocketAddr;

use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;
use tracing_subscriber::{filter::Targets, prelude::*};

/// Sends the log to stderr, so that stdout holds nothing but the `listening on …` line.
///
/// `RUST_LOG` chooses how much: `warn`, `info` (the default), `debug`, or by crate, as in
/// `info,warp=debug`.
pub fn log_to_stderr() {
    let wanted = std::env::var("RUST_LOG").unwrap_or_default();
    let level: Targets = wanted.parse().unwrap_or_default();
    let level = if wanted.is_empty() { level.with_default(tracing::Level::INFO) } else { level };
    let lines = tracing_subscriber::fmt::layer()
        .with_writer(io::stderr)
        .with_ansi(io::stderr().is_terminal());
    tracing_subscriber::registry().with(lines.with_filter(level)).init();
}

/// Gives a token that is cancelled by Ctrl-C, and by the SIGTERM with which Docker, systemd and
/// Kubernetes ask a program to end.
///
/// # Errors
/// A sentence, if the system refuses to hand over its signals.
#[cfg(unix)]
pub fn stop_on_signal() -> Result<CancellationToken, String> {
    use tokio::signal::unix::{SignalKind, signal};

    let stop = CancellationToken::new();
    for kind in [SignalKind::interrupt(), SignalKind::terminate()] {
        let mut signals =
            signal(kind).map_err(|error| format!("can't wait for signals: {error}"))?;
        let stop = stop.clone();
        tokio::spawn(async move {
            signals.recv().await;
            stop.cancel();
        });
    }
    Ok(stop)
}

/// Gives a token that is cancelled by Ctrl-C.
///
/// # Errors
/// None on this system; the signature is the one that Unix needs.
#[cfg(not(unix))]
pub fn stop_on_signal() -> Result<CancellationToken, String> {
    let stop = CancellationToken::new();
    let stopping = stop.clone();
    tokio::spawn(async move {
        if tokio::signal::ctrl_c().await.is_ok() {
            stopping.cancel();
        }
    });
    Ok(stop)
}

/// Listens on `host` and `port`, and tells the address it got: port 0 asks for any free one.
///
/// # Errors
/// A sentence that says which address it was and what to do.
pub async fn listen(host: &str, port: u16) -> Result<(TcpListener, SocketAddr), String> {
    let listener = TcpListener::bind((host, port)).await.map_err(|error| match error.kind() {
        io::ErrorKind::AddrInUse => format!(
            "port {port} on {host} is taken: stop the program that has it, or choose another port with PORT=…"
        ),
        _ => format!("can't listen on {host}, port {port}: {error}"),
    })?;
    let address =
        listener.local_addr().map_err(|error| format!("can't read my own address: {error}"))?;
    Ok((listener, address))
}
