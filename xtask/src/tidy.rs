//! `cargo xtask tidy`: what neither compiler nor clippy checks, one finding a line.
//! Not here: formatting and lints, which `.ci/run` gives to rustfmt and clippy.

use std::fmt;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, Result};

use crate::workspace;

mod crates;
mod documents;
mod imports;
mod licence;
mod sources;

/// One thing that is not as it should be.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Finding {
    /// The file, relative to the checkout.
    pub file: PathBuf,
    /// The line from 1, or 0 where the whole file is meant.
    pub line: usize,
    /// What was found, and what is wanted.
    pub message: String,
}

impl Finding {
    fn new(file: impl Into<PathBuf>, line: usize, message: impl Into<String>) -> Self {
        Self { file: file.into(), line, message: message.into() }
    }
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.file.display())?;
        if self.line > 0 {
            write!(f, ":{}", self.line)?;
        }
        write!(f, ": {}", self.message)
    }
}

/// The files of a checkout that git knows or would add.
#[derive(Clone, Debug)]
pub struct Tree {
    root: PathBuf,
    files: Vec<PathBuf>,
}

impl Tree {
    /// Asks git for the files of the checkout at `root`.
    ///
    /// # Errors
    /// When git is missing or `root` is not a checkout.
    pub fn of_checkout(root: &Path) -> Result<Self> {
        let mut git = Command::new("git");
        git.current_dir(root).args(["ls-files", "-z", "--cached", "--others", "--exclude-standard"]);
        let list = workspace::output(&mut git).context("listing the checkout's files")?;
        let files = list.split('\0').filter(|name| !name.is_empty()).map(PathBuf::from);
        // A file that was deleted but not yet committed is still listed.
        let files = files.filter(|file| root.join(file).is_file()).collect();
        Ok(Self { root: root.to_path_buf(), files })
    }

    fn has(&self, file: &str) -> bool {
        self.files.iter().any(|known| known == Path::new(file))
    }

    /// All files with that extension, with their text; what is not UTF-8 is a binary and found as such.
    fn texts<'a>(&'a self, extension: &'a str) -> impl Iterator<Item = (&'a Path, String)> {
        let files = self.files.iter().filter(move |file| file.extension().is_some_and(|it| it == extension));
        files.filter_map(|file| Some((file.as_path(), std::fs::read_to_string(self.root.join(file)).ok()?)))
    }
}

/// Runs all checks on the checkout and prints the findings. False when there are any.
///
/// # Errors
/// When git or cargo cannot be asked.
pub fn run() -> Result<bool> {
    let findings = findings(&workspace::root())?;
    for finding in &findings {
        println!("{finding}");
    }
    match findings.len() {
        0 => println!("tidy: nothing found"),
        count => println!("tidy: {count} found"),
    }
    Ok(findings.is_empty())
}

/// All findings in the checkout at `root`, sorted by file and line.
///
/// # Errors
/// When git or cargo cannot be asked.
pub fn findings(root: &Path) -> Result<Vec<Finding>> {
    let tree = Tree::of_checkout(root)?;
    let mut findings = sources::check(&tree);
    findings.extend(documents::check(&tree));
    findings.extend(crates::check(root)?);
    findings.extend(imports::check(root)?);
    findings.extend(cargo_deny(root)?);
    findings.sort();
    findings.dedup();
    Ok(findings)
}

/// cargo-deny checks advisories too, but takes minutes to build: it is used where it is installed.
fn cargo_deny(root: &Path) -> Result<Option<Finding>> {
    let is_installed = Command::new("cargo-deny").arg("--version").output().is_ok_and(|output| output.status.success());
    if !is_installed {
        println!(
            "note: cargo-deny is not installed, so deny.toml's advisories were not checked; sources and licences were"
        );
        return Ok(None);
    }
    let status = Command::new("cargo-deny").current_dir(root).args(["check", "--hide-inclusion-graph"]).status();
    let passed = status.context("starting cargo-deny")?.success();
    Ok((!passed).then(|| Finding::new("deny.toml", 0, "`cargo deny check` failed; what it found is above")))
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    /// A tree of these files in a temporary folder, which must be kept alive.
    pub(crate) fn tree(files: &[(&str, &[u8])]) -> (tempfile::TempDir, Tree) {
        let folder = tempfile::tempdir().unwrap();
        for (name, content) in files {
            let file = folder.path().join(name);
            std::fs::create_dir_all(file.parent().unwrap()).unwrap();
            std::fs::write(file, content).unwrap();
        }
        let files = files.iter().map(|(name, _)| PathBuf::from(name)).collect();
        let tree = Tree { root: folder.path().to_path_buf(), files };
        (folder, tree)
    }

    #[test]
    fn a_finding_reads_like_a_compiler_message() {
        assert_eq!(Finding::new("a/b.rs", 3, "a tab").to_string(), "a/b.rs:3: a tab");
        assert_eq!(Finding::new("LICENSE", 0, "is missing").to_string(), "LICENSE: is missing");
    }

    #[test]
    fn ignored_files_are_not_of_the_checkout() {
        let (folder, _) = tree(&[("a.rs", b""), ("target/b.rs", b""), (".gitignore", b"/target\n")]);
        workspace::run(Command::new("git").args(["init", "--quiet"]).current_dir(folder.path())).unwrap();
        let tree = Tree::of_checkout(folder.path()).unwrap();
        assert!(tree.has("a.rs") && !tree.has("target/b.rs"), "{tree:?}");
    }
}
