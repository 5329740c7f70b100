//! The same sources built in two folders give the same `tidegate.wasm`, byte for byte.
//! Not here: two toolchains, or two machines.

// Clippy takes only functions marked #[test] for tests, not what they call.
#![allow(clippy::unwrap_used, clippy::panic)]

use std::fs;
use std::path::Path;

use xtask::build;
use xtask::envoy::fetch::hex_sha256;
use xtask::tidy::Tree;
use xtask::tools::IfMissing;
use xtask::workspace;

/// Copies what git knows of the checkout, and nothing that a build has made.
fn copy_sources(to: &Path) {
    let root = workspace::root();
    for file in Tree::of_checkout(&root).unwrap().files() {
        let copy = to.join(file);
        fs::create_dir_all(copy.parent().unwrap()).unwrap();
        fs::copy(root.join(file), copy).unwrap();
    }
}

#[test]
fn the_plugin_has_the_same_bytes_from_another_folder() {
    let here = build::wasm(&workspace::root(), &workspace::target_dir(), IfMissing::Install).unwrap();

    // Deeper, and with a name of another length: an offset or a hash that knew the folder would differ.
    let folder = workspace::target_dir().join("another/checkout of the same sources");
    // What an earlier run compiled would show nothing.
    let _ = fs::remove_dir_all(&folder);
    let (checkout, target) = (folder.join("tidegate"), folder.join("target"));
    copy_sources(&checkout);
    let there = build::wasm(&checkout, &target, IfMissing::Install).unwrap();

    assert_eq!(hex_sha256(&here), hex_sha256(&there), "{} and {} bytes", here.len(), there.len());
    let text = String::from_utf8_lossy(&there);
    assert!(text.contains("/cargo/registry/"), "panics name their files; without any the next lines show nothing");
    for own in [workspace::root(), folder.clone(), build::cargo_home().unwrap()] {
        let own = own.to_str().unwrap();
        assert!(!text.contains(own), "the .wasm holds the path {own}");
    }
    fs::remove_dir_all(&folder).unwrap();
}
