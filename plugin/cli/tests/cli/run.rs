//! Runs the binary in a folder of its own.

use std::path::{Path, PathBuf};
use std::process::Command;

/// A folder that is removed afterwards.
pub(crate) struct Folder {
    folder: tempfile::TempDir,
}

/// What a run left.
#[derive(Debug)]
pub(crate) struct Ran {
    pub(crate) status: i32,
    pub(crate) out: String,
    pub(crate) err: String,
}

impl Folder {
    pub(crate) fn new() -> Self {
        Self { folder: tempfile::tempdir().unwrap() }
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    pub(crate) fn write(&self, name: &str, text: &str) {
        std::fs::create_dir_all(self.path(name).parent().unwrap()).unwrap();
        std::fs::write(self.path(name), text).unwrap();
    }

    pub(crate) fn read(&self, name: &str) -> String {
        std::fs::read_to_string(self.path(name)).unwrap()
    }

    /// Runs `tidegate` with these words.
    pub(crate) fn run(&self, words: &[&str]) -> Ran {
        Self::ran(self.bare(env!("CARGO_BIN_EXE_tidegate")).args(words))
    }

    /// Runs a line by the shell, with `tidegate` on its path.
    pub(crate) fn shell(&self, line: &str) -> Ran {
        let own = Path::new(env!("CARGO_BIN_EXE_tidegate")).parent().unwrap().display().to_string();
        let path = std::env::var("PATH").unwrap_or_default();
        Self::ran(self.bare("sh").env("PATH", format!("{own}:{path}")).args(["-c", line]))
    }

    fn bare(&self, program: &str) -> Command {
        let mut command = Command::new(program);
        command.current_dir(self.folder.path()).env_remove("NO_COLOR");
        command.env_remove("TIDEGATE_TOKEN").env_remove("TIDEGATE_URL").env_remove("TIDEGATE_HOST");
        command
    }

    fn ran(command: &mut Command) -> Ran {
        let output = command.output().unwrap();
        Ran {
            status: output.status.code().unwrap(),
            out: String::from_utf8(output.stdout).unwrap(),
            err: String::from_utf8(output.stderr).unwrap(),
        }
    }
}

impl Ran {
    /// Standard output, where the status and an empty standard error are as expected.
    pub(crate) fn clean(self, status: i32) -> String {
        assert_eq!((self.status, self.err.as_str()), (status, ""), "{}", self.out);
        self.out
    }

    /// Standard error, where the status is as expected.
    pub(crate) fn complaint(self, status: i32) -> String {
        assert_eq!(self.status, status, "{self:?}");
        self.err
    }

    pub(crate) fn json(self) -> serde_json::Value {
        serde_json::from_str(&self.out).unwrap_or_else(|error| panic!("{error}: {self:?}"))
    }
}

pub(crate) const DEFAULT: &str = include_str!("../../../../policies/default.json");
