//! The shipped .wasm in this host: what scenario files cannot say. Every test that needs the file says so aloud where it
//! is not built.

// Only `#[test]` functions may by themselves.
#![allow(clippy::expect_used, clippy::panic, clippy::unwrap_used)]

#[path = "filter/clock.rs"]
mod clock;
#[path = "filter/configuring.rs"]
mod configuring;
#[path = "filter/cost.rs"]
mod cost;
#[path = "filter/failing.rs"]
mod failing;
#[path = "filter/graceful.rs"]
mod graceful;
#[path = "filter/headers.rs"]
mod headers;
#[path = "filter/held.rs"]
mod held;
#[path = "filter/hostile.rs"]
mod hostile;
#[path = "filter/memory.rs"]
mod memory;
#[path = "filter/reporting.rs"]
mod reporting;
#[path = "filter/table.rs"]
mod table;
#[path = "filter/throttle.rs"]
mod throttle;
#[path = "with_wasm/tidegate.rs"]
mod tidegate;
