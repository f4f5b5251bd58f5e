//! Milestone 3, the program: reads its settings, listens, and serves until a signal says stop.

use std::process::ExitCode;

use step03_rooms::{process, serve, settings::Settings};

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
    let settings = Settings::from_env(3003)?;
    let stop = process::stop_on_signal()?;
    let (listener, address) = process::listen(&settings.host, settings.port).await?;
    println!("listening on http://{address}");
    serve(listener, settings, stop).await;
    Ok(())
}
