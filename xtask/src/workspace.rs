//! Where things are in the checkout, and how cargo is called in it.
//! Not here: what is built (`build`) and what is fetched (`tools`).

use std::env;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus};

use anyhow::{Context as _, Result, bail};

/// The checkout's root: the folder that holds the workspace's `Cargo.toml`.
pub fn root() -> PathBuf {
    let here = Path::new(env!("CARGO_MANIFEST_DIR"));
    here.parent().unwrap_or(here).to_path_buf()
}

/// Cargo's target folder: `CARGO_TARGET_DIR` when set, else `target` in the checkout.
pub fn target_dir() -> PathBuf {
    match env::var_os("CARGO_TARGET_DIR") {
        Some(dir) if !dir.is_empty() => root().join(dir),
        _ => root().join("target"),
    }
}

/// The folder for fetched programs; ignored by git and kept between runs.
pub fn tools_dir() -> PathBuf {
    target_dir().join("tools")
}

/// The folder of finished artefacts; ignored by git.
pub fn dist_dir() -> PathBuf {
    root().join("dist")
}

/// The plugin that Envoy loads: the file named by `TIDEGATE_WASM` (another build, or a custom plugin), else
/// `dist/tidegate.wasm`. The file need not exist yet.
pub fn wasm_file() -> PathBuf {
    match env::var_os("TIDEGATE_WASM") {
        Some(file) if !file.is_empty() => root().join(file),
        _ => dist_dir().join("tidegate.wasm"),
    }
}

/// The policy that `cargo xtask demo` serves when none is named.
pub fn default_policy() -> PathBuf {
    root().join("policies/default.json")
}

/// Whether this is CI, where a test that is skipped is a failure.
pub fn is_ci() -> bool {
    env::var_os("CI").is_some_and(|value| value == "true" || value == "1")
}

/// The same cargo that runs this program, started in the checkout and writing to [`target_dir`].
pub fn cargo() -> Command {
    let program = env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let mut command = Command::new(program);
    command.current_dir(root());
    command.env("CARGO_TARGET_DIR", target_dir());
    command
}

/// Runs a command to its end with this program's own input and output.
///
/// # Errors
/// When it cannot be started, or ends with another status than 0; the message holds the command line.
pub fn run(command: &mut Command) -> Result<()> {
    let status = command.status().with_context(|| format!("starting {}", line(command)))?;
    ended_well(command, status)
}

/// Runs a command to its end and returns what it wrote to its standard output.
///
/// # Errors
/// As [`run`]; the message then holds the end of its standard error.
pub fn output(command: &mut Command) -> Result<String> {
    let output = command.output().with_context(|| format!("starting {}", line(command)))?;
    if !output.status.success() {
        let errors = String::from_utf8_lossy(&output.stderr);
        let tail: Vec<&str> = errors.lines().rev().take(12).collect();
        let tail: Vec<&str> = tail.into_iter().rev().collect();
        bail!("{} ended with {}:\n{}", line(command), output.status, tail.join("\n"));
    }
    String::from_utf8(output.stdout).with_context(|| format!("reading what {} wrote", line(command)))
}

/// A command as one would type it, for messages.
pub fn line(command: &Command) -> String {
    let mut words = vec![command.get_program().to_string_lossy().into_owned()];
    words.extend(command.get_args().map(|word| word.to_string_lossy().into_owned()));
    words.join(" ")
}

fn ended_well(command: &Command, status: ExitStatus) -> Result<()> {
    if status.success() {
        return Ok(());
    }
    bail!("{} ended with {status}; what it wrote is above", line(command))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_root_holds_the_workspace() {
        let manifest = std::fs::read_to_string(root().join("Cargo.toml")).unwrap();
        assert!(manifest.contains("[workspace]"));
    }

    #[test]
    fn a_failure_names_the_command_and_quotes_its_errors() {
        let mut command = Command::new("sh");
        command.args(["-c", "echo the reason >&2; exit 3"]);
        let message = output(&mut command).unwrap_err().to_string();
        assert!(message.contains("exit status: 3") && message.contains("the reason"), "{message}");
    }

    #[test]
    fn a_missing_program_is_named() {
        let message = format!("{:#}", run(&mut Command::new("no-such-program-here")).unwrap_err());
        assert!(message.contains("no-such-program-here"), "{message}");
    }
}
