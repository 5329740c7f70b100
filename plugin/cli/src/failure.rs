//! Why a command could not do its work, and the exit statuses.

use std::fmt::Display;
use std::path::Path;

/// How a command that did its work ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Answer {
    /// Exit status 0.
    Yes,
    /// Exit status 1: the policy has mistakes, a scenario differs, there is no such rule.
    No,
}

impl Answer {
    /// `Yes` where `yes`.
    pub(crate) fn from(yes: bool) -> Self {
        if yes { Self::Yes } else { Self::No }
    }
}

/// Why a command could not do its work: exit status 2.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Failure(pub(crate) String);

impl Failure {
    /// A file that could not be read or written.
    pub(crate) fn file(verb: &str, path: &Path, error: impl Display) -> Self {
        Self(format!("cannot {verb} {}: {error}", path.display()))
    }
}

impl From<String> for Failure {
    fn from(message: String) -> Self {
        Self(message)
    }
}

impl From<&str> for Failure {
    fn from(message: &str) -> Self {
        Self(message.to_owned())
    }
}
