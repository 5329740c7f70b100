//! The binary: reads the flags, reaches Redis, serves until it is told to stop.
//! Not here: anything that a test would want to call; that is in the library.

use std::process::ExitCode;
use std::sync::Arc;

use clap::Parser as _;
use tidegate_gateway::flags::{Flags, Settings};
use tidegate_gateway::listen::Listener;
use tidegate_gateway::routes::{Gateway, router};
use tidegate_gateway::store::Store;
use tidegate_gateway::{listen, log, tls};
use tokio::signal::unix::{SignalKind, signal};

/// Exit status for flags that make no sense, as clap's own; a Redis that rejects us is 1.
const USAGE: u8 = 2;

fn main() -> ExitCode {
    let flags = Flags::parse();
    log::start(flags.log_level, flags.log_format);
    tls::install_provider();
    let settings = match flags.settled() {
        Ok(settings) => settings,
        Err(mistake) => {
            eprintln!("tidegate-gateway: {mistake}");
            return ExitCode::from(USAGE);
        }
    };
    let runtime = match tokio::runtime::Builder::new_multi_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => {
            eprintln!("tidegate-gateway: cannot start threads: {error}");
            return ExitCode::FAILURE;
        }
    };
    match runtime.block_on(serve(settings)) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            tracing::error!(error = %error, "stopped");
            eprintln!("tidegate-gateway: {error}");
            ExitCode::FAILURE
        }
    }
}

async fn serve(settings: Settings) -> Result<(), String> {
    for warning in &settings.warnings {
        tracing::warn!("{warning}");
    }
    listen::raise_file_limit();
    let store = Store::connect(&settings).await?;
    let listener = Listener::bind(&settings).await?;
    let gateway = Arc::new(Gateway::new(settings, store));
    let mut terminate = signal(SignalKind::terminate()).map_err(|error| format!("cannot watch SIGTERM: {error}"))?;
    let mut interrupt = signal(SignalKind::interrupt()).map_err(|error| format!("cannot watch SIGINT: {error}"))?;
    let stop = async move {
        tokio::select! {
            _ = terminate.recv() => tracing::info!("SIGTERM: finishing what is in flight"),
            _ = interrupt.recv() => tracing::info!("SIGINT: finishing what is in flight"),
        }
    };
    listener.serve(router(gateway), stop).await;
    tracing::info!("stopped");
    Ok(())
}
