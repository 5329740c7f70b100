//! `tidegate replay`: an access log through a policy. The log is read line by line and never held; what is no request
//! is counted and shown.

mod shown;
mod source;

use std::io::{BufRead, Read as _};

use serde_json::json;
use tidegate_engine::Engine;
use tidegate_engine::replay::Replay;

use crate::cli::{LogFormat, ReplayArgs};
use crate::failure::{Answer, Failure};
use crate::log_line;
use crate::policy_file::PolicyFile;
use crate::screen::Screen;

/// A longer line is no request: proxies refuse headers long before.
const LONGEST_LINE: u64 = 64 * 1024;
/// So many bad lines are shown; all are counted.
const BAD_LINES_SHOWN: usize = 5;
/// So much of a bad line is shown.
const BAD_LINE_SHOWN: usize = 80;

/// Lines that are no requests.
#[derive(Debug, Default, serde::Serialize)]
struct BadLines {
    count: u64,
    shown: Vec<BadLine>,
}

#[derive(Debug, serde::Serialize)]
struct BadLine {
    line: u64,
    wrong: &'static str,
    text: String,
}

pub(super) fn run(args: &ReplayArgs, screen: Screen) -> Result<Answer, Failure> {
    let Some(policy) = PolicyFile::read(&args.policy)?.accepted() else { return Ok(Answer::No) };
    let candidate = match &args.candidate {
        Some(path) => match PolicyFile::read(path)?.accepted() {
            Some(policy) => Some(Engine::new(policy)),
            None => return Ok(Answer::No),
        },
        None => None,
    };
    let mut replay = Replay::new(Engine::new(policy), candidate, usize::from(args.top));
    let mut bad = BadLines::default();
    let failed = |error: std::io::Error| Failure::file("read", &args.log, error);
    let (mut reader, progress) = source::open(&args.log)?;
    let mut line = Vec::new();
    let mut number = 0_u64;
    while next_line(&mut reader, &mut line).map_err(failed)? {
        number += 1;
        let content = line.strip_suffix(b"\n").unwrap_or(&line);
        let content = content.strip_suffix(b"\r").unwrap_or(content);
        if content.trim_ascii().is_empty() {
            continue;
        }
        let parsed = match content.len() as u64 {
            LONGEST_LINE.. => Err("longer than 64 KiB"),
            _ => log_line::parse(content, args.format),
        };
        match parsed {
            Ok(entry) => replay.push(entry),
            Err(wrong) => bad.add(number, wrong, content),
        }
    }
    progress.finish_and_clear();
    let report = replay.finish();
    if report.requests == 0 && bad.count > 0 {
        return Err(no_log(args, &bad));
    }
    if screen.is_json {
        let value = shown::json(&report);
        Screen::print_json(&json!({"bad_lines": bad, "report": value}))?;
    } else {
        screen.print(&shown::text(args, &report, &bad, screen))?;
    }
    Ok(Answer::Yes)
}

impl BadLines {
    fn add(&mut self, line: u64, wrong: &'static str, content: &[u8]) {
        self.count += 1;
        if self.shown.len() < BAD_LINES_SHOWN {
            let text = String::from_utf8_lossy(content.get(..BAD_LINE_SHOWN * 4).unwrap_or(content))
                .chars()
                .take(BAD_LINE_SHOWN)
                .collect();
            self.shown.push(BadLine { line, wrong, text });
        }
    }
}

/// Nothing was read: what stands there, and what would have been.
fn no_log(args: &ReplayArgs, bad: &BadLines) -> Failure {
    let lines: String =
        bad.shown.iter().map(|line| format!("  line {}: {}: {}\n", line.line, line.wrong, line.text)).collect();
    let format = match args.format {
        Some(LogFormat::Combined) => "Apache's and nginx's combined, or Apache's vhost_combined",
        Some(LogFormat::Json) => "JSON lines with ts, ip, method and path",
        Some(LogFormat::Envoy) => "Envoy's or Istio's default access log, as text or JSON",
        None => {
            "Apache's and nginx's combined, Apache's vhost_combined, Envoy's and Istio's default access log as text or \
             JSON, JSON lines with ts, ip, method and path; plain or compressed with gzip"
        }
    };
    let count = bad.count;
    Failure(format!("{}: no line of {count} is a request\n{lines}allowed: {format}", args.log.display()))
}

/// Reads a line with its newline; `false` at the end. Of a line that is too long the rest is passed over.
fn next_line(reader: &mut impl BufRead, line: &mut Vec<u8>) -> std::io::Result<bool> {
    line.clear();
    reader.by_ref().take(LONGEST_LINE).read_until(b'\n', line)?;
    if line.len() as u64 == LONGEST_LINE && line.last() != Some(&b'\n') {
        reader.skip_until(b'\n')?;
    }
    Ok(!line.is_empty())
}
