//! `cargo xtask` takes the lock as it is: one that does not fit is told, and not a byte of it is rewritten.
//! Not here: where what it names comes from, which `cargo xtask tidy` looks at.

// Clippy takes only functions marked #[test] for tests, not what they call.
#![allow(clippy::unwrap_used, clippy::panic)]

use std::fs;
use std::path::Path;
use std::process::{Command, Output};

use xtask::workspace;

const MANIFEST: &str = "[package]\nname = \"xtask\"\nversion = \"0.1.0\"\nedition = \"2024\"\n[workspace]\n";
const LOCK: &str = "version = 4\n\n[[package]]\nname = \"xtask\"\nversion = \"0.1.0\"\n";

/// A checkout with this lock, our own `.cargo/config.toml` and an xtask of one line.
fn checkout(lock: &str) -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    let write = |file: &str, text: &str| {
        let file = folder.path().join(file);
        fs::create_dir_all(file.parent().unwrap()).unwrap();
        fs::write(file, text).unwrap();
    };
    write(".cargo/config.toml", &fs::read_to_string(workspace::root().join(".cargo/config.toml")).unwrap());
    write("Cargo.toml", MANIFEST);
    write("src/main.rs", "fn main() {\n    println!(\"it runs\");\n}\n");
    write("Cargo.lock", lock);
    folder
}

fn cargo_xtask(folder: &Path) -> Output {
    let mut cargo = Command::new(env!("CARGO"));
    cargo.current_dir(folder).env("CARGO_TARGET_DIR", folder.join("target")).args(["xtask", "--help"]);
    cargo.output().unwrap()
}

#[test]
fn an_edited_lock_is_told_and_not_rewritten() {
    let good = checkout(LOCK);
    let ran = cargo_xtask(good.path());
    assert_eq!(String::from_utf8_lossy(&ran.stdout), "it runs\n", "{}", String::from_utf8_lossy(&ran.stderr));

    let edited = LOCK.replace("0.1.0", "0.2.0");
    let folder = checkout(&edited);
    let ran = cargo_xtask(folder.path());
    let told = String::from_utf8_lossy(&ran.stderr);
    assert!(!ran.status.success() && told.contains("--locked"), "{told}");
    assert_eq!(fs::read_to_string(folder.path().join("Cargo.lock")).unwrap(), edited);
}
