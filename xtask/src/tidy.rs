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
mod locks;
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

    /// The files, relative to the checkout.
    pub fn files(&self) -> &[PathBuf] {
        &self.files
    }

    fn has(&self, file: &str) -> bool {
        self.files.iter().any(|known| known == Path::new(file))
    }

    /// All files of that name, in whatever folder.
    fn named<'a>(&'a self, name: &'a str) -> impl Iterator<Item = &'a Path> {
        self.files.iter().map(PathBuf::as_path).filter(move |file| file.ends_with(name))
    }

    /// All files with that extension, with their text; what is not UTF-8 is a binary and found as such.
    fn texts<'a>(&'a self, extension: &'a str) -> impl Iterator<Item = (&'a Path, String)> {
        let files = self.files.iter().filter(move |file| file.extension().is_some_and(|it| it == extension));
        files.filter_map(|file| Some((file.as_path(), std::fs::read_to_string(self.root.join(file)).ok()?)))
    }
}

/// What the checks found, and what they looked at.
#[derive(Debug, Default)]
pub struct Report {
    /// What is not as it should be, sorted by file and line.
    pub findings: Vec<Finding>,
    /// What of others' work was looked at, one line each: with nothing found this is all that one knows.
    pub looked_at: Vec<String>,
    /// What was not, and why.
    pub not_looked_at: Vec<String>,
}

/// Runs all checks on the checkout and prints what they found and looked at. False when anything was found.
///
/// # Errors
/// When git or cargo cannot be asked.
pub fn run() -> Result<bool> {
    let report = report(&workspace::root())?;
    for finding in &report.findings {
        println!("{finding}");
    }
    for line in &report.looked_at {
        println!("looked at {line}");
    }
    for line in &report.not_looked_at {
        println!("not looked at: {line}");
    }
    match report.findings.len() {
        0 => println!("tidy: nothing found"),
        count => println!("tidy: {count} found"),
    }
    Ok(report.findings.is_empty())
}

/// All that is found in the checkout at `root`.
///
/// # Errors
/// When git or cargo cannot be asked.
pub fn report(root: &Path) -> Result<Report> {
    let tree = Tree::of_checkout(root)?;
    let mut report = Report::default();
    report.findings.extend(sources::check(&tree));
    report.findings.extend(documents::check(&tree));
    check_locks(&tree, &mut report)?;
    imports::check(root, &mut report)?;
    report.findings.sort();
    report.findings.dedup();
    Ok(report)
}

/// Everything that others wrote and a lock file in git names.
fn check_locks(tree: &Tree, report: &mut Report) -> Result<()> {
    let mut looked_at = |name: &str, check: fn(&Path, &str) -> (Vec<Finding>, usize), what: &str| -> Result<()> {
        for file in tree.named(name) {
            let text = std::fs::read_to_string(tree.root.join(file));
            let (findings, count) = check(file, &text.with_context(|| format!("reading {}", file.display()))?);
            report.findings.extend(findings);
            report.looked_at.push(format!("{} ({count}): {what}", file.display()));
        }
        Ok(())
    };
    let of_cargo = "from crates.io with a checksum, licences on deny.toml's list, no version \"*\"";
    looked_at("Cargo.lock", locks::check_cargo, of_cargo)?;
    looked_at("package-lock.json", locks::check_npm, "from npm's registry with a SHA-512")?;
    let cargo_locks: Vec<&Path> = tree.named("Cargo.lock").collect();
    report.findings.extend(crates::check(tree, &cargo_locks)?);
    cargo_deny(&tree.root, &cargo_locks, report)
}

/// Advisories are in a database on GitHub that cargo-deny fetches. It takes minutes to build: it is used where it is
/// installed, and where it is not, nobody may think that it was.
fn cargo_deny(root: &Path, locks: &[&Path], report: &mut Report) -> Result<()> {
    let is_installed = Command::new("cargo-deny").arg("--version").output().is_ok_and(|output| output.status.success());
    if !is_installed {
        report.not_looked_at.push("advisories and yanked versions: they need cargo-deny, and network".to_owned());
        return Ok(());
    }
    for lock in locks {
        let manifest = lock.with_file_name("Cargo.toml");
        let mut deny = Command::new("cargo-deny");
        deny.current_dir(root).arg("--manifest-path").arg(&manifest);
        deny.args(["check", "--hide-inclusion-graph", "--config"]).arg(root.join("deny.toml"));
        if deny.status().context("starting cargo-deny")?.success() {
            report.looked_at.push(format!("{}: `cargo deny check`, advisories and yanked versions", lock.display()));
        } else {
            report.findings.push(Finding::new(*lock, 0, "`cargo deny check` failed; what it found is above"));
        }
    }
    Ok(())
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
