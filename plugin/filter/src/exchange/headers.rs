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
/// triple, which holds one limit, the one with less remaining stays, and of two with the same, the one that lasts longer.
pub(super) fn add_to_response(added: &[(&'static str, String)]) {
    let ours = |wanted| added.iter().find(|(name, _)| *name == wanted).and_then(|(_, value)| number(value.as_bytes()));
    let theirs = |name| host::header(Map::ResponseHeaders, name).ok().and_then(|value| number(&value));
    let (left, reset) = ("x-ratelimit-remaining", "x-ratelimit-reset");
    let keep_upstream = ours(left).is_some_and(|own| match theirs(left) {
        Some(known) if known == own => theirs(reset) > ours(reset),
        known => known.is_some_and(|known| known < own),
    });
    for (name, value) in added {
        if !name.starts_with("x-ratelimit-") {
            host::add_header(Map::ResponseHeaders, name, value);
        } else if !keep_upstream {
            host::replace_header(Map::ResponseHeaders, name, value);
        }
    }
}

#[inline(never)]
fn number(value: &[u8]) -> Option<u64> {
    core::str::from_utf8(value).ok()?.trim().parse().ok()
}

/// Makes a response that the host has put into gRPC's form an HTTP response again. Any other stays as it is.
pub(super) fn undo_grpc(status: u16) {
    if host::header(Map::ResponseHeaders, "grpc-status").is_err() {
        return;
    }
    host::replace_header(Map::ResponseHeaders, ":status", &status.to_string());
    for name in ["grpc-status", "grpc-message", "content-type"] {
        host::remove_header(Map::ResponseHeaders, name.as_bytes());
    }
}
