//! `examples/fastly-compute` compiles as Fastly builds it, with its own lock file. It is not run here: its server takes
//! twelve minutes to compile.

#![allow(clippy::unwrap_used)]

use std::fs;
use std::process::Command;

use tidegate_engine::catalogue::Catalogue;
use tidegate_engine::policy::Policy;
use xtask::tools::{self, IfMissing};
use xtask::workspace;

#[test]
fn it_compiles_for_the_target_that_fastly_runs() {
    tools::ensure_wasm_target(IfMissing::Install).unwrap();
    let example = workspace::root().join("examples/fastly-compute");
    let target = workspace::target_dir().join("fastly-compute");
    let mut cargo = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    cargo.current_dir(&example).env("CARGO_TARGET_DIR", &target).env_remove("CARGO_ENCODED_RUSTFLAGS");
    workspace::run(cargo.args(["build", "--quiet", "--locked", "--release", "--target", tools::WASM_TARGET])).unwrap();
    let file = target.join(tools::WASM_TARGET).join("release/tidegate-fastly-compute.wasm");
    // Fastly takes packages of up to 100 MB; what matters is that it starts fast.
    assert!(fs::metadata(file).unwrap().len() < 1_500_000);
}

#[test]
fn its_policy_holds_no_request_which_it_could_not_do() {
    let text = fs::read(workspace::root().join("examples/fastly-compute/policy.json")).unwrap();
    let policy = Policy::parse(&text, &Catalogue::builtin()).unwrap();
    assert!(policy.rules.iter().all(|rule| rule.strategy.room().is_none() && rule.strategy.queue().is_none()));
}
