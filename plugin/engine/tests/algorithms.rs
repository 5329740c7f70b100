//! What every algorithm promises, checked against brute force over random histories of one cell: random costs, waits,
//! reservations, refunds, and clocks that step back. One table, four algorithms; the arithmetic of single formulas is
//! tested beside the formulas.
//!
//! `PROPTEST_CASES=100000 cargo test --release -p tidegate-engine --test algorithms` searches deeper.

use proptest::prelude::ProptestConfig;
use proptest::test_runner::FileFailurePersistence;
use tidegate_engine::algorithm::{Algorithm, FIXED_WINDOW, LEAKY_BUCKET, SLIDING_WINDOW, TOKEN_BUCKET};

#[path = "algorithms/any_input.rs"]
mod any_input;
#[path = "algorithms/client.rs"]
mod client;
#[path = "algorithms/exact_waits.rs"]
mod exact_waits;
#[path = "algorithms/never_over.rs"]
mod never_over;
#[path = "algorithms/promise.rs"]
mod promise;
#[path = "algorithms/sliding.rs"]
mod sliding;
#[path = "algorithms/throughput.rs"]
mod throughput;

/// Every built-in algorithm.
const ALGORITHMS: [&dyn Algorithm; 4] = [&TOKEN_BUCKET, &LEAKY_BUCKET, &FIXED_WINDOW, &SLIDING_WINDOW];

/// Seeds that once failed are kept beside the tests, and are tried first.
fn config() -> ProptestConfig {
    ProptestConfig {
        failure_persistence: Some(Box::new(FileFailurePersistence::Direct("tests/algorithms/regressions.txt"))),
        ..ProptestConfig::default()
    }
}
