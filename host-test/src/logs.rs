//! Log lines of plugins and of the host itself, kept in order. Nothing is printed.

use crate::thread::Thread;

/// Severity of a log line, as the ABI numbers it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[repr(u32)]
pub enum LogLevel {
    /// 0
    Trace = 0,
    /// 1
    Debug = 1,
    /// 2; also what a plugin prints to standard output.
    Info = 2,
    /// 3
    Warn = 3,
    /// 4; also what a plugin prints to standard error.
    Error = 4,
    /// 5; also the host's own report of a dead VM.
    Critical = 5,
}

impl LogLevel {
    pub(crate) fn from_number(number: u32) -> Option<Self> {
        Some(match number {
            0 => Self::Trace,
            1 => Self::Debug,
            2 => Self::Info,
            3 => Self::Warn,
            4 => Self::Error,
            5 => Self::Critical,
            _ => return None,
        })
    }
}

/// One line.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LogLine {
    /// Severity.
    pub level: LogLevel,
    /// The thread whose VM wrote it.
    pub thread: Thread,
    /// The plugin's name, empty for the VM itself.
    pub plugin: String,
    /// The text; bytes that are not UTF-8 are shown as U+FFFD.
    pub message: String,
}
