//! What a call to the store can come to, other than an answer. What is done about it is the caller's business.

use core::fmt;

/// Why a call has no answer. All texts are ours: nothing that a store says reaches a log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Failure {
    /// The store has forgotten the script, or never knew it: send its text. Nothing has run.
    NoScript,
    /// The store is a Cluster, and the call's keys live on several of its nodes. Nothing has run.
    CrossSlot,
    /// An error of Redis or of the gateway, by the code that it begins with, or `ERR` where we know none.
    Refused(&'static str),
    /// Another HTTP status than 200, without an error that can be read.
    Status(u32),
    /// No answer of the script: half of one, HTML, wrong types, numbers out of their range, too long.
    Garbage,
    /// The proxy had no room for the call: the store was not asked, and may be well.
    NoRoom,
    /// The proxy has no such cluster.
    NoCluster,
}

/// Where Redis 7 says this, the `ERR` is a user's lack of rights.
const FORBIDDEN: &[u8] = b"user executing the script";

/// The codes that are told apart. All of them mean that nothing is charged but `TIMEOUT`, `UNREACHABLE` and `BUSY`, after
/// which it may be.
const CODES: [&str; 20] = [
    "LOADING",
    "READONLY",
    "MOVED",
    "ASK",
    "TRYAGAIN",
    "CLUSTERDOWN",
    "MASTERDOWN",
    "OOM",
    "MISCONF",
    "NOREPLICAS",
    "WRONGTYPE",
    "NOPERM",
    "NOAUTH",
    "WRONGPASS",
    "BUSY",
    "UNREACHABLE",
    "TIMEOUT",
    "OVERLOADED",
    "TIDEGATE",
    "ERR",
];

impl Failure {
    /// The failure that an error's text stands for. What a user may not call in a script is an `ERR` of Redis 7.
    pub(super) fn of_error(text: &str) -> Self {
        let code = text.split_ascii_whitespace().next().unwrap_or_default();
        match code {
            "NOSCRIPT" => Self::NoScript,
            "CROSSSLOT" => Self::CrossSlot,
            "Unauthorized" | "Unauthorized:" | "Forbidden:" => Self::Refused("NOAUTH"),
            "ERR" if text.as_bytes().windows(FORBIDDEN.len()).any(|window| window == FORBIDDEN) => {
                Self::Refused("NOPERM")
            }
            _ => Self::Refused(CODES.into_iter().find(|known| *known == code).unwrap_or("ERR")),
        }
    }

    /// A word or a few for a log.
    pub fn as_str(&self) -> &'static str {
        match self {
            Self::NoScript => "NOSCRIPT",
            Self::CrossSlot => "CROSSSLOT",
            Self::Refused(code) => code,
            Self::Status(_) => "STATUS",
            Self::Garbage => "GARBAGE",
            Self::NoRoom => "NOROOM",
            Self::NoCluster => "no such cluster in the proxy",
        }
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(self.as_str())?;
        if let Self::Status(status) = self {
            out.write_str(" ")?;
            out.write_str(&status.to_string())?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn errors_are_known_by_their_first_word() {
        for (text, failure) in [
            ("NOSCRIPT No matching script. Please use EVAL.", Failure::NoScript),
            ("CROSSSLOT Keys in request don't hash to the same slot", Failure::CrossSlot),
            ("LOADING Redis is loading the dataset in memory", Failure::Refused("LOADING")),
            ("READONLY You can't write against a read only replica.", Failure::Refused("READONLY")),
            ("MOVED 6094 127.0.0.1:13124", Failure::Refused("MOVED")),
            ("OOM command not allowed when used memory > 'maxmemory'.", Failure::Refused("OOM")),
            ("WRONGTYPE Operation against a key", Failure::Refused("WRONGTYPE")),
            ("NOPERM this user has no permissions", Failure::Refused("NOPERM")),
            ("ERR The user executing the script can't run this command", Failure::Refused("NOPERM")),
            ("NOAUTH Authentication required.", Failure::Refused("NOAUTH")),
            ("Unauthorized", Failure::Refused("NOAUTH")),
            ("TIDEGATE a key holds what is not of this script", Failure::Refused("TIDEGATE")),
            ("ERR unknown command", Failure::Refused("ERR")),
            ("s3cret-token-in-an-error", Failure::Refused("ERR")),
            ("", Failure::Refused("ERR")),
        ] {
            assert_eq!(Failure::of_error(text), failure, "{text}");
        }
        assert_eq!(Failure::Status(502).to_string(), "STATUS 502");
    }
}
