//! `tidegate replay`: an access log through a policy. The log is read line by line and never held; what is no request
//! is counted and shown.

mod shown;

use std::fs::File;
use std::io::{BufRead, BufReader, IsTerminal as _, Read};
use std::path::Path;

use indicatif::{ProgressBar, ProgressStyle};
use serde_json::json;
use tidegate_engine::replay::Replay;

use crate::cli::ReplayArgs;
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
    let engine = PolicyFile::read(&args.policy)?.engine()?;
    let candidate = match &args.candidate {
        Some(path) => Some(PolicyFile::read(path)?.engine()?),
        None => None,
    };
    let mut replay = Replay::new(engine, candidate, usize::from(args.top));
    let mut bad = BadLines::default();
    let failed = |error: std::io::Error| Failure::file("read", &args.log, error);
    let (source, length) = open(&args.log)?;
    let progress = progress(length);
    let mut reader = BufReader::with_capacity(1 << 16, progress.wrap_read(source));
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

/// Reads a line with its newline; `false` at the end. Of a line that is too long the rest is passed over.
fn next_line(reader: &mut impl BufRead, line: &mut Vec<u8>) -> std::io::Result<bool> {
    line.clear();
    reader.by_ref().take(LONGEST_LINE).read_until(b'\n', line)?;
    if line.len() as u64 == LONGEST_LINE && line.last() != Some(&b'\n') {
        reader.skip_until(b'\n')?;
    }
    Ok(!line.is_empty())
}

/// The log, and its length where it has one.
fn open(path: &Path) -> Result<(Box<dyn Read>, Option<u64>), Failure> {
    if path == Path::new("-") {
        return Ok((Box::new(std::io::stdin().lock()), None));
    }
    let failed = |error| Failure::file("read", path, error);
    let file = File::open(path).map_err(failed)?;
    let length = file.metadata().map_err(failed)?.len();
    Ok((Box::new(file), (length > 0).then_some(length)))
}

/// A bar on a terminal, nothing elsewhere.
fn progress(length: Option<u64>) -> ProgressBar {
    let Some(length) = length.filter(|_| std::io::stderr().is_terminal()) else { return ProgressBar::hidden() };
    let style = ProgressStyle::with_template("{bar:40} {percent}%  {binary_bytes_per_sec}  {eta} left");
    let bar = ProgressBar::new(length);
    match style {
        Ok(style) => bar.with_style(style),
        Err(_) => bar,
    }
}
