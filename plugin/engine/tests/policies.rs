//! Policies as people write them: the shipped ones, the documented ones, and one bad one for each mistake.
//! `UPDATE_GOLDEN=1 cargo test -p tidegate-engine --test policies` rewrites the expected messages and the schema.

#![expect(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test fails where it finds what is wrong"
)]
#![expect(
    clippy::disallowed_methods,
    clippy::disallowed_types,
    reason = "a test reads files, its environment and a clock"
)]

#[path = "policies/bad.rs"]
mod bad;
#[path = "policies/hostile.rs"]
mod hostile;
#[path = "policies/meaning.rs"]
mod meaning;
#[path = "policies/schema.rs"]
mod schema;
#[path = "policies/shipped.rs"]
mod shipped;

use std::path::{Path, PathBuf};

use tidegate_engine::catalogue::Catalogue;
use tidegate_engine::policy::{Mistakes, Policy};

/// The repository's root.
fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")
}

fn parse(text: &str) -> Result<Policy, Mistakes> {
    Policy::parse(text.as_bytes(), &Catalogue::builtin())
}

/// The messages of a policy that must be refused.
fn refusal(text: &str) -> String {
    parse(text).expect_err(text).to_string()
}

/// The names and contents of a folder's `.json` files, sorted.
fn json_files(folder: &Path) -> Vec<(String, String)> {
    let entries = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    let mut files: Vec<(String, String)> = entries
        .filter(|path| path.extension().is_some_and(|extension| extension == "json"))
        .map(|path| {
            let name = path.file_stem().unwrap().to_str().unwrap().to_owned();
            (name, std::fs::read_to_string(&path).unwrap())
        })
        .collect();
    files.sort();
    files
}

/// Compares with a file, or rewrites it where `UPDATE_GOLDEN` is set.
#[track_caller]
fn golden(path: &Path, found: &str) {
    if std::env::var("UPDATE_GOLDEN").is_ok() {
        std::fs::write(path, found).unwrap();
    }
    let expected = std::fs::read_to_string(path).unwrap_or_default();
    let name = path.display();
    assert_eq!(found, expected, "{name} differs; UPDATE_GOLDEN=1 rewrites it, then look at what changed");
}
