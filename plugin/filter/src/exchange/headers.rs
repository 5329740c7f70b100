//! What the filter does to header maps: takes out what only Tidegate may say, adds rate-limit headers to responses.

use tidegate_engine::{Engine, Header};

use crate::host::{self, Map};

/// Removes what only Tidegate may say, in any spelling that an upstream could take for it.
pub(super) fn remove_reserved(engine: &Engine, map: Map, lines: &[Header<'_>]) {
    for (name, _) in lines {
        if engine.reserves_header(name) {
            host::remove_header(map, name);
        }
    }
}

/// Adds headers without making the upstream's own looser: list fields grow by our members; of the `X-RateLimit-*`
/// triple, which holds one limit, the one with less remaining stays.
pub(super) fn add_to_response(added: &[(&'static str, String)]) {
    let ours = added.iter().find(|(name, _)| *name == "x-ratelimit-remaining").map(|(_, value)| value.as_str());
    let keep_upstream = ours.is_some_and(|ours| {
        let theirs = host::header(Map::ResponseHeaders, "x-ratelimit-remaining").ok();
        let number = |text: &str| text.trim().parse::<u64>().ok();
        let theirs = theirs.and_then(|value| core::str::from_utf8(&value).ok().and_then(number));
        theirs.zip(number(ours)).is_some_and(|(theirs, ours)| theirs < ours)
    });
    for (name, value) in added {
        if !name.starts_with("x-ratelimit-") {
            host::add_header(Map::ResponseHeaders, name, value);
        } else if !keep_upstream {
            host::replace_header(Map::ResponseHeaders, name, value);
        }
    }
}

/// Makes a response that the host has put into gRPC's form an HTTP response again.
pub(super) fn undo_grpc(status: u16) {
    host::replace_header(Map::ResponseHeaders, ":status", &status.to_string());
    for name in ["grpc-status", "grpc-message", "content-type"] {
        host::remove_header(Map::ResponseHeaders, name.as_bytes());
    }
}
