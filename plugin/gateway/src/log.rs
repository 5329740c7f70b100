//! Structured logs on standard error, as text or as one JSON object a line.
//! Not here: request bodies, tokens, URLs with credentials; they never reach a log call.

use tracing::level_filters::LevelFilter;

use crate::flags::{LogFormat, LogLevel};

/// Starts logging; lines less important than `level` are dropped. Called once.
pub fn start(level: LogLevel, format: LogFormat) {
    let level = match level {
        LogLevel::Error => LevelFilter::ERROR,
        LogLevel::Warn => LevelFilter::WARN,
        LogLevel::Info => LevelFilter::INFO,
        LogLevel::Debug => LevelFilter::DEBUG,
    };
    let lines = tracing_subscriber::fmt().with_max_level(level).with_writer(std::io::stderr).with_target(false);
    match format {
        LogFormat::Text => lines.with_ansi(false).init(),
        LogFormat::Json => lines.json().flatten_event(true).init(),
    }
}
