//! The same sources built in two folders give the same .wasm, byte for byte.
//! Not here: the plugin itself, whose build takes minutes; a crate of ten lines with a panic shows the same.

// Clippy takes only functions marked #[test] for tests, not what they call.
#![allow(clippy::unwrap_used, clippy::panic)]

use std::fs;
use std::path::Path;
use std::process::Command;

use xtask::build::reproducible_flags;
use xtask::tools::{IfMissing, WASM_TARGET, ensure_wasm_target};

const MANIFEST: &str = r#"
[package]
name = "tiny"
version = "0.1.0"
edition = "2024"
[lib]
crate-type = ["cdylib"]
[profile.release]
debug = true
[workspace]
"#;

/// Panics and debug information put paths of this crate and of the standard library into the file.
const SOURCE: &str = r#"
#[unsafe(no_mangle)]
pub extern "C" fn pick(index: usize) -> usize {
    let words: Vec<String> = std::env::args().collect();
    assert!(index < 100, "{index} is too large at {}", file!());
    words[index].parse().expect("a number")
}
"#;

fn build(folder: &Path, flags: &str) -> Vec<u8> {
    fs::create_dir_all(folder.join("src")).unwrap();
    fs::write(folder.join("Cargo.toml"), MANIFEST).unwrap();
    fs::write(folder.join("src/lib.rs"), SOURCE).unwrap();
    let status = Command::new(env!("CARGO"))
        .args(["build", "--quiet", "--release", "--offline", "--target", WASM_TARGET])
        .current_dir(folder)
        .env("CARGO_TARGET_DIR", folder.join("target"))
        .env("CARGO_ENCODED_RUSTFLAGS", flags)
        .status()
        .unwrap();
    assert!(status.success());
    fs::read(folder.join("target").join(WASM_TARGET).join("release/tiny.wasm")).unwrap()
}

#[test]
fn the_folder_of_the_checkout_leaves_no_trace() {
    ensure_wasm_target(IfMissing::Install).unwrap();
    let folder = tempfile::tempdir().unwrap();
    let (here, there) = (folder.path().join("here"), folder.path().join("a/longer/way"));
    let build_with_flags = |at: &Path| {
        fs::create_dir_all(at).unwrap();
        build(at, &reproducible_flags(at).unwrap())
    };
    let (one, other) = (build_with_flags(&here), build_with_flags(&there));
    assert!(one == other, "two folders gave two files of {} and {} bytes", one.len(), other.len());

    let text = String::from_utf8_lossy(&one);
    assert!(text.contains("/tidegate"), "the folder's path should have become the fixed one");
    assert!(!text.contains(folder.path().to_str().unwrap()), "the folder's own path is in the .wasm");
}
