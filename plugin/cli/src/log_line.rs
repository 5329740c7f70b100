//! One line of an access log as a request of a replay. Lines that are none are told apart by what is wrong with them.

mod combined;
mod envoy_text;
mod json;

use tidegate_engine::replay::Entry;

use crate::cli::LogFormat;

/// Reads a line, without its newline.
///
/// # Errors
/// Says in a few words what is wrong with it.
pub(crate) fn parse(line: &[u8], format: Option<LogFormat>) -> Result<Entry, &'static str> {
    match (format, line.trim_ascii_start().first()) {
        (Some(LogFormat::Json), _) => json::parse(line, &json::OWN),
        (Some(LogFormat::Envoy), Some(b'{')) => json::parse(line, &json::ENVOY),
        (None, Some(b'{')) => {
            json::parse(line, &json::OWN).or_else(|wrong| json::parse(line, &json::ENVOY).map_err(|_| wrong))
        }
        (Some(LogFormat::Envoy), _) | (None, Some(b'[')) => envoy_text::parse(line),
        (Some(LogFormat::Combined) | None, _) => combined::parse(line),
    }
}

/// The address in `1.2.3.4`, `1.2.3.4:80`, `[::1]:80`, as text; none where it is no address: a name says nothing of who
/// it was then.
fn address(text: &str) -> Result<String, &'static str> {
    tidegate_engine::address::parse_address(text.as_bytes())
        .map(|address| address.to_string())
        .ok_or("no client address")
}
