//! Milestone 5, the program: reads its settings, opens the log, listens, and serves until a signal
//! says stop.

use std::process::ExitCode;
use std::sync::Arc;

use step05_production::accounts::Lifetime;
use step05_production::embedded::Embedded;
use step05_production::passed::Passed;
use step05_production::settings::{Order, RateLimit, Settings};
use step05_production::shared::{Setup, Shared};
use step05_production::{Engine, Listeners, admin, backup, health, process, serve};
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
        Order::Serve(settings) => start(*settings).await,
        Order::Say(text) => {
            print!("{text}");
            Ok(())
        }
        Order::Health { host, port } => {
            println!("{}", health::check(&host, port).await?);
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
    let metrics = admin::install()?;
    let engine = engine(&settings).await?;
    let Settings { host, port, admin_host, admin_port, .. } = &settings;
    let mut passed = Passed::find();
    let (admin, admin_address) = passed.admin(admin_host, *admin_port).await?;
    let (public, address) = passed.public(host, *port).await?;
    println!("admin on http://{admin_address}");
    println!("listening on http://{address}");
    select! {
        () = serve(Listeners { public, admin }, settings, engine, metrics, stop.clone()) => Ok(()),
        ended = second_signal(stop) => ended,
    }
}

/// Opens what keeps everything: a file of this server's own, or the Redis that it shares with others.
async fn engine(settings: &Settings) -> Result<Arc<dyn Engine>, String> {
    let retention = (!settings.retention.is_zero()).then_some(settings.retention);
    if let Some(url) = settings.redis_url.clone() {
        let (prefix, limited) =
            (settings.redis_prefix.clone(), settings.rate_limit == RateLimit::On);
        let lifetime = Lifetime { max: settings.session_max, idle: settings.session_idle };
        let setup = Setup { url, prefix, retention, lifetime, limited };
        let shared = Shared::open(setup).await?;
        return Ok(Arc::new(shared));
    }
    let log = Embedded::open(&settings.data_dir).map_err(|error| error.to_string())?;
    Ok(match retention {
        Some(retention) => Arc::new(log.keep_for(retention)),
        None => Arc::new(log),
    })
}

/// Ends the program at once when a second signal comes while it is stopping: 130 is what a shell
/// reports of a program that Ctrl-C has ended.
async fn second_signal(stop: CancellationToken) -> Result<(), String> {
    stop.cancelled().await;
    process::stop_on_signal()?.cancelled().await;
    std::process::exit(130)
}
