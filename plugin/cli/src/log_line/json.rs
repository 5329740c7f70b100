//! Logs of JSON lines: our own members, and those of Envoy's usual JSON format.

use serde_json::{Map, Value};
use tidegate_engine::Timestamp;
use tidegate_engine::described::Described;
use tidegate_engine::replay::Entry;

use crate::moment;

/// What a format calls the members; the first that is there counts.
#[derive(Debug)]
pub(super) struct Names {
    time: &'static [&'static str],
    ip: &'static [&'static str],
    method: &'static [&'static str],
    path: &'static [&'static str],
    user: &'static [&'static str],
    status: &'static [&'static str],
}

/// `{"ts": ..., "ip": ..., "method": ..., "path": ..., "user": ..., "status": ...}`.
pub(super) const OWN: Names =
    Names { time: &["ts"], ip: &["ip"], method: &["method"], path: &["path"], user: &["user"], status: &["status"] };

/// The members of Envoy's documentation and of Istio's default. The path is what the client sent, where it was
/// rewritten.
pub(super) const ENVOY: Names = Names {
    time: &["start_time", "timestamp"],
    ip: &["downstream_remote_address", "downstream_direct_remote_address", "downstream_remote_address_without_port"],
    method: &["method", "request_method"],
    path: &["x_envoy_original_path", "path", "request_path"],
    user: &["user"],
    status: &["response_code"],
};

pub(super) fn parse(line: &[u8], names: &Names) -> Result<Entry, &'static str> {
    let members: Map<String, Value> = serde_json::from_slice(line).map_err(|_| "not a JSON object")?;
    let at = value(&members, names.time).and_then(time).ok_or("no time")?;
    let ip = super::address(text(&members, names.ip).ok_or("no client address")?)?;
    let path = text(&members, names.path).ok_or("no path")?;
    Ok(Entry {
        at,
        request: Described {
            method: text(&members, names.method).ok_or("no method")?.to_owned(),
            path: path.to_owned(),
            ip,
            user: text(&members, names.user).map(str::to_owned),
            headers: Vec::new(),
        },
        status: value(&members, names.status).and_then(|status| match status {
            Value::String(text) => text.parse().ok(),
            number => u16::try_from(number.as_u64()?).ok(),
        }),
    })
}

fn value<'a>(members: &'a Map<String, Value>, names: &[&str]) -> Option<&'a Value> {
    let is_told = |value: &&Value| !value.is_null() && value.as_str() != Some("-") && value.as_str() != Some("");
    names.iter().filter_map(|name| members.get(*name)).find(is_told)
}

fn text<'a>(members: &'a Map<String, Value>, names: &[&str]) -> Option<&'a str> {
    value(members, names)?.as_str()
}

/// RFC 3339, or a count since 1970: of seconds, milliseconds, microseconds or nanoseconds.
fn time(value: &Value) -> Option<Timestamp> {
    match value {
        Value::String(text) => moment::from_rfc3339(text).or_else(|| moment::from_count(text)),
        // The shortest text that is this number: a float's moment is not cut off a microsecond early.
        Value::Number(number) => moment::from_count(&number.to_string()),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_formats_are_read() {
        let own = br#"{"ts": 1431857103.25, "ip": "2001:db8::1", "method": "GET", "path": "/x",
            "user": "bob", "status": 200}"#;
        let entry = parse(own, &OWN).unwrap();
        assert_eq!((entry.at.micros(), entry.request.user.as_deref()), (1_431_857_103_250_000, Some("bob")));
        for ts in ["1431857103250", "\"1431857103.25\"", "\"2015-05-17T10:05:03.25Z\"", "1431857103250000"] {
            let line = format!(r#"{{"ts": {ts}, "ip": "192.0.2.1", "method": "GET", "path": "/x"}}"#);
            assert_eq!(parse(line.as_bytes(), &OWN).unwrap().at, entry.at, "{ts}");
        }
        let envoy = br#"{"start_time": "2015-05-17T10:05:03.250Z", "downstream_remote_address": "203.0.113.7:4711",
            "method": "GET", "path": "/x", "x_envoy_original_path": "-", "response_code": 429, "other": {}}"#;
        let entry = parse(envoy, &ENVOY).unwrap();
        assert_eq!((entry.request.ip.as_str(), entry.status), ("203.0.113.7", Some(429)));
        assert_eq!((entry.request.path.as_str(), entry.request.user), ("/x", None));
    }

    #[test]
    fn bad_lines_say_what_is_wrong() {
        for (line, wrong) in [
            (r"{", "not a JSON object"),
            (r#"{"ts": "yesterday", "ip": "192.0.2.1", "method": "GET", "path": "/"}"#, "no time"),
            (r#"{"ts": -1, "ip": "192.0.2.1", "method": "GET", "path": "/"}"#, "no time"),
            (r#"{"ts": 1e300, "ip": "192.0.2.1", "method": "GET", "path": "/"}"#, "no time"),
            (r#"{"ts": 9007199254740992, "ip": "192.0.2.1", "method": "GET", "path": "/"}"#, "no time"),
            (r#"{"ts": 1, "ip": "home", "method": "GET", "path": "/"}"#, "no client address"),
            (r#"{"ts": 1, "ip": "192.0.2.1", "path": "/"}"#, "no method"),
            (r#"{"ts": 1, "ip": "192.0.2.1", "method": "GET"}"#, "no path"),
        ] {
            assert_eq!(parse(line.as_bytes(), &OWN).map(|_| ()), Err(wrong), "{line}");
        }
    }
}
