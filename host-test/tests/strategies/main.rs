//! The strategies that do better than refuse, in a real Envoy with two workers: `throttle`, `queue`, `graceful`, several
//! of them on one request, and all of them under more than they can take. Each test starts and ends its own Envoy and
//! upstream, and prints what it measured; `docs/strategies.md` quotes these figures.
//! Not here: every option and limit with a virtual clock, which the scenarios replay.

// clippy.toml allows these in `#[test]` functions only; a failure here is a failed test all the same. Numbers are
// measured ones of a few digits; JSON that a test makes is given away as it is written.
#![allow(
    clippy::expect_used,
    clippy::panic,
    clippy::unwrap_used,
    clippy::cast_possible_truncation,
    clippy::cast_precision_loss,
    clippy::needless_pass_by_value
)]

mod accuracy;
mod bench;
mod bodies;
mod graceful;
mod jobs;
mod leaving;
mod limits;
mod memory;
mod overload;
mod raw_http2;
mod several;
mod throttle;
mod tickets;
mod trap;
mod trickle;
mod updates;
