//! Several real Envoys with two workers each that share limits in a real Redis behind the gateway, and what becomes of
//! the limits while one of these fails. Each test starts what it needs and ends it by process id. Not here: the gateway
//! by itself (`gateway`), and the plugin against a store that a test plays (`host-test`).

// Every function here serves tests, where a panic is how one fails; the lints know only functions marked as tests.
#![allow(clippy::unwrap_used, clippy::panic)]

mod backends;
mod exact;
mod failing;
mod figures;
mod guarantees;
mod lease;
mod liar;
mod lies;
mod operate;
mod outage;
mod policies;
mod proxies;
mod queued;
mod room;
mod spread;
mod strategies;

#[path = "../gateway/authority.rs"]
#[allow(dead_code, reason = "the gateway's own tests use the rest")]
mod authority;
#[path = "../gateway/http.rs"]
#[allow(dead_code, reason = "the gateway's own tests use the rest")]
mod http;
#[path = "../gateway/process.rs"]
#[allow(dead_code, reason = "the gateway's own tests use the rest")]
mod process;
#[path = "../gateway/servers.rs"]
#[allow(dead_code, reason = "the gateway's own tests use the rest")]
mod servers;
#[path = "../gateway/skip.rs"]
#[allow(dead_code, reason = "the gateway's own tests use the rest")]
mod skip;
