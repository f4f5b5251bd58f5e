//! Milestone 5, the program: reads its settings, opens the log, listens, and serves until a signal
//! says stop.

use std::process::ExitCode;

use step05_production::settings::{Order, Settings};
use step05_production::{Listeners, admin, backup, log::Log, process, serve};
use tokio::select;
use tokio_util::sync::CancellationToken;

#[tokio::main]
async fn main() -> ExitCode {
    match run().await {
        Ok(()) => ExitCode::SUCCESS,
        Err(sentence) => {
            eprintln!("{sentence}");
            ExitCode::FAILURE
        }
    }
}

async fn run() -> Result<(), String> {
    match Order::read(std::env::args_os())? {
        Order::Serve(settings) => start(settings).await,
        Order::Say(text) => {
            print!("{text}");
            Ok(())
        }
        Order::Backup { dir, file } => backup::backup(&dir, &file),
        Order::Restore { dir, file } => backup::restore(&dir, &file),
    }
}

async fn start(settings: Settings) -> Result<(), String> {
    process::log_to_stderr(settings.log_format);
    process::raise_open_files(settings.max_connections);
    let stop = process::stop_on_signal()?;
    let mut log = Log::open(&settings.data_dir).map_err(|error| error.to_string())?;
    if !settings.retention.is_zero() {
        log = log.keep_for(settings.retention);
    }
    let metrics = admin::install()?;
    let Settings { host, port, admin_host, admin_port, .. } = &settings;
    let (admin, admin_address) = process::listen(admin_host, *admin_port, "ADMIN_PORT").await?;
    let (public, address) = process::listen(host, *port, "PORT").await?;
    println!("admin on http://{admin_address}");
    println!("listening on http://{address}");
    select! {
        () = serve(Listeners { public, admin }, settings, log, metrics, stop.clone()) => Ok(()),
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
