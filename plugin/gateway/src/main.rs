//! The binary: reads the flags, reaches Redis, serves until it is told to stop.
//! Not here: anything that a test would want to call; that is in the library.

use std::process::ExitCode;
use std::sync::Arc;

use tidegate_gateway::flags::{Flags, Settings};
use tidegate_gateway::listen::Listener;
use tidegate_gateway::threads::Threads;
use tidegate_gateway::{listen, log, threads, tls};
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::oneshot;

/// Exit status for flags that make no sense, as clap's own; a Redis that rejects us is 1.
const USAGE: u8 = 2;

fn main() -> ExitCode {
    let flags = Flags::read(std::env::args_os()).unwrap_or_else(|mistake| mistake.exit());
    log::start(flags.log_level, flags.log_format);
    tls::install_provider();
    let settings = match flags.settled() {
        Ok(settings) => settings,
        Err(mistake) => {
            eprintln!("tidegate-gateway: {mistake}");
            return ExitCode::from(USAGE);
        }
    };
    let served = threads::event_loop().and_then(|main| main.block_on(serve(Arc::new(settings))));
    match served {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            tracing::error!(error = %error, "stopped");
            ExitCode::FAILURE
        }
    }
}

async fn serve(settings: Arc<Settings>) -> Result<(), String> {
    for warning in &settings.warnings {
        tracing::warn!("{warning}");
    }
    listen::raise_file_limit();
    let threads = Threads::start(&settings).await?;
    let listener = Listener::bind(&settings).await?;
    let mut terminate = signal(SignalKind::terminate()).map_err(|error| format!("cannot watch SIGTERM: {error}"))?;
    let mut interrupt = signal(SignalKind::interrupt()).map_err(|error| format!("cannot watch SIGINT: {error}"))?;
    let mut signalled = async || {
        tokio::select! {
            _ = terminate.recv() => "SIGTERM",
            _ = interrupt.recv() => "SIGINT",
        }
    };
    let stop = async {
        // Not inside the macro, which waits for nothing where its line is not logged.
        let signal = signalled().await;
        tracing::info!("{signal}: finishing what is in flight");
    };
    listener.accept_for(threads.doors(), stop).await;
    let (tell, finished) = oneshot::channel();
    std::thread::spawn(move || {
        threads.finish();
        // Nobody listens after a second signal.
        let _ = tell.send(());
    });
    tokio::select! {
        _ = finished => tracing::info!("stopped"),
        signal = signalled() => tracing::warn!("{signal} again: stopped at once"),
    }
    Ok(())
}
