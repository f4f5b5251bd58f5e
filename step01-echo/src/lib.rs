//! Milestone 1: a WebSocket server that sends every message back.
//!
//! Read the files in the order a connection travels: [`settings`] and [`process`] start the program,
//! [`serve`] accepts, and [`connection`] speaks with one client.

pub mod connection;
pub mod process;
pub mod settings;

use std::sync::Arc;
use std::time::Duration;

use settings::Settings;
use tokio::net::TcpListener;
use tokio::sync::Semaphore;
use tokio::time::sleep;
use tokio_util::sync::CancellationToken;

/// How long to wait before accepting again after the system could not hand over a connection:
/// usually it has run out of file descriptors, and trying at once would only burn the CPU.
const PAUSE: Duration = Duration::from_millis(100);

/// Serves clients until `stop` is cancelled, then returns once each of them has heard goodbye.
pub async fn serve(listener: TcpListener, settings: Settings, stop: CancellationToken) {
    let limits = connection::limits(settings.max_message_bytes);
    let slots = Arc::new(Semaphore::new(settings.max_connections.into()));

    while let Some(accepted) = stop.run_until_cancelled(listener.accept()).await {
        let (stream, peer) = match accepted {
            Ok(connection) => connection,
            Err(error) => {
                tracing::warn!(%error, "could not accept a connection");
                sleep(PAUSE).await;
                continue;
            }
        };
        // Each client is a task of its own, and holds a slot for as long as that task runs.
        match Arc::clone(&slots).try_acquire_owned() {
            Ok(slot) => {
                let stop = stop.clone();
                tokio::spawn(async move {
                    tracing::info!(%peer, "connected");
                    connection::run(stream, limits, stop).await;
                    tracing::info!(%peer, "disconnected");
                    drop(slot);
                });
            }
            Err(_all_taken) => {
                tracing::warn!(%peer, "refused: all slots are taken");
                tokio::spawn(connection::refuse(stream, connection::FULL));
            }
        }
    }

    // No new clients from here on; once all slots are back, the last one has left.
    drop(listener);
    let _all = slots.acquire_many(settings.max_connections.into()).await;
}
