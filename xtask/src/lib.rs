//! What `cargo xtask` does, and the test bench that it shares with the end-to-end tests: a real Envoy (`envoy`), an
//! upstream for it (`upstream`) and a client that loads it (`load`).
//! Not here: the plugin's own host for tests without Envoy, which is `host-test`.

pub mod bench;
pub mod browser;
pub mod build;
pub mod cli;
pub mod demo;
pub mod edge;
pub mod envoy;
pub mod load;
pub mod npm;
pub mod open_files;
pub mod skip;
pub mod test;
pub mod tidy;
pub mod tools;
pub mod upstream;
pub mod wasm_opt;
pub mod workspace;
