//! The store that a fleet shares, as the shipped .wasm asks it: the test is Redis and its gateway, on a virtual clock.
//! What real Envoys make of a real Redis is `plugin/gateway/tests/fleet`; what the numbers mean is the engine's.

// Only `#[test]` functions may by themselves.
#![allow(clippy::expect_used, clippy::panic, clippy::unwrap_used)]

#[path = "store/answers.rs"]
mod answers;
#[path = "store/breaker.rs"]
mod breaker;
#[path = "store/calls.rs"]
mod calls;
#[path = "store/carried.rs"]
mod carried;
#[path = "store/cluster.rs"]
mod cluster;
#[path = "store/held.rs"]
mod held;
#[path = "store/jobs.rs"]
mod jobs;
#[path = "store/leases.rs"]
mod leases;
#[path = "store/leaving.rs"]
mod leaving;
#[path = "store/lies.rs"]
mod lies;
#[path = "store/local.rs"]
mod local;
#[path = "store/played.rs"]
mod played;
#[path = "store/put.rs"]
mod put;
#[path = "store/state.rs"]
mod state;
#[path = "with_wasm/tidegate.rs"]
#[allow(unused_macros, unused_imports)]
mod tidegate;
