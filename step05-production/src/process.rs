//! What every server program needs from its surroundings: a log, a signal to stop, and a port.

use std::io::{self, IsTerminal};
use std::net::SocketAddr;
use std::panic::{self, PanicHookInfo};

use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;
use tracing_subscriber::{Layer, filter::Targets, prelude::*};

use crate::settings::LogFormat;

/// How many files a server has open beside one for each connection: the database, what it serves,
/// connections of the admin port and of clients that are about to be refused.
const OTHER_FILES: u64 = 256;

/// Sends the log to stderr, so that stdout holds nothing but the addresses.
///
/// `RUST_LOG` chooses how much: `warn`, `info` (the default), `debug`, or by crate, as in
/// `info,warp=debug`.
pub fn log_to_stderr(format: LogFormat) {
    let wanted = std::env::var("RUST_LOG").unwrap_or_default();
    let level: Targets = wanted.parse().unwrap_or_default();
    let level = if wanted.is_empty() { level.with_default(tracing::Level::INFO) } else { level };
    let lines = tracing_subscriber::fmt::layer().with_writer(io::stderr);
    let lines = match format {
        LogFormat::Human => lines.with_ansi(io::stderr().is_terminal()).boxed(),
        LogFormat::Json => lines.json().flatten_event(true).boxed(),
    };
    tracing_subscriber::registry().with(lines.with_filter(level)).init();
    panic::set_hook(Box::new(log_panic));
}

/// Logs a panic as one line like any other. Nothing that comes from outside should ever cause one.
fn log_panic(panic: &PanicHookInfo) {
    let place = panic.location().map(ToString::to_string).unwrap_or_default();
    let payload = panic.payload();
    let text = payload.downcast_ref::<&str>().copied();
    let text = text.or_else(|| payload.downcast_ref::<String>().map(String::as_str));
    // Debug, so that a line break in the text does not make two lines of it.
    tracing::error!(place, text = ?text.unwrap_or_default(), "a task has panicked");
}

/// Asks the system for as many open files as it allows, and warns if that is too few.
pub fn raise_open_files(max_connections: u32) {
    let needed = u64::from(max_connections) + OTHER_FILES;
    match rlimit::increase_nofile_limit(u64::MAX) {
        Ok(allowed) if allowed < needed => tracing::warn!(
            allowed,
            needed,
            "too few open files for MAX_CONNECTIONS: raise the limit (ulimit -n), or lower it"
        ),
        Ok(_) => {}
        Err(error) => tracing::warn!(%error, "can't find out how many files may be open"),
    }
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
/// `setting` is the name of the setting that chooses another one.
///
/// # Errors
/// A sentence that says which address it was and what to do.
pub async fn listen(
    host: &str,
    port: u16,
    setting: &str,
) -> Result<(TcpListener, SocketAddr), String> {
    let listener = TcpListener::bind((host, port)).await.map_err(|error| match error.kind() {
        io::ErrorKind::AddrInUse => format!(
            "port {port} on {host} is taken: stop the program that has it, or choose another port with {setting}=…"
        ),
        _ => format!("can't listen on {host}, port {port}: {error}"),
    })?;
    let address =
        listener.local_addr().map_err(|error| format!("can't read my own address: {error}"))?;
    Ok((listener, address))
}
