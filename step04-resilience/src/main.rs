//! Milestone 4, the program: reads its settings, opens the log, listens, and serves until a signal
//! says stop.

use std::process::ExitCode;

use step04_resilience::{log::Log, process, serve, settings::Settings};
use tokio::select;
use tokio_util::sync::CancellationToken;

#[tokio::main]
async fn main() -> ExitCode {
    process::log_to_stderr();
    match run().await {
        Ok(()) => ExitCode::SUCCESS,
        Err(sentence) => {
            eprintln!("{sentence}");
            ExitCode::FAILURE
        }
    }
}

async fn run() -> Result<(), String> {
    let settings = Settings::from_env(3004)?;
    let stop = process::stop_on_signal()?;
    let log = Log::open(&settings.data_dir).map_err(|error| error.to_string())?;
    let (listener, address) = process::listen(&settings.host, settings.port).await?;
    println!("listening on http://{address}");
    select! {
        () = serve(listener, settings, log, stop.clone()) => Ok(()),
        ended = second_signal(stop) => ended,
    }
}

/// Ends the program at once when a second signal comes while it is stopping: 130 is what a shell
/// reports of a program that Ctrl-C has ended.
async fn second_signal(stop: CancellationToken) -> Result<(), String> {
    stop.cancelled().await;
    process::stop_on_signal()?.cancelled().await;
    std::process::exit(130)
}
